"""examples/classify_files.py as its user meets it: what it finds, and what it says where it cannot."""

import bz2
import csv
import gzip
import importlib.util
import json
import lzma
import os
import pickle
import py_compile
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import textwrap
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

for _package in ("magika", "onnx", "onnxruntime", "scipy", "rich", "matplotlib"):
    pytest.importorskip(_package, reason=f"{_package} is not installed: pip install --group demo")

PROGRAM = Path(__file__).parents[1] / "examples" / "classify_files.py"
SHORT = {"empty": "empty", "short.txt": "txt", "blank.txt": "txt", "short.bin": "unknown"}  # never seen by the network


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):  # rich would colour the text that tests read
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("classify_files", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def write_short(folder):
    (folder / "empty").touch()
    (folder / "short.txt").write_bytes(b"hello")
    (folder / "blank.txt").write_bytes(b" \n" * 3000)  # long, but nothing is left once stripped
    (folder / "short.bin").write_bytes(b"\xff\xfe\xfd")


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Return a folder of files of known type, and the label of each."""
    from matplotlib import image

    folder = tmp_path_factory.mktemp("known")
    source = Path(textwrap.__file__)
    code = source.read_bytes()

    shutil.copy(source, folder / "code.py")
    py_compile.compile(str(source), cfile=str(folder / "code.pyc"), doraise=True)
    shutil.copy(Path(sys.executable).resolve(), folder / "program")
    (folder / "code.py.gz").write_bytes(gzip.compress(code, mtime=0))
    (folder / "code.py.bz2").write_bytes(bz2.compress(code))
    (folder / "code.py.xz").write_bytes(lzma.compress(code))
    with tarfile.open(folder / "code.tar", "w") as tar:
        tar.add(source, "code.py")
    with zipfile.ZipFile(folder / "code.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(5):
            archive.writestr(f"folder/file{i}.txt", code)
    rows = [(i, f"name {i}", f"City {i % 7}", i * 1.25) for i in range(60)]
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "name", "city", "price"), *rows])
    (folder / "table.json").write_text(
        json.dumps([{"id": i, "name": n, "tags": ["a", c]} for i, n, c, _ in rows], indent=2)
    )
    base = sqlite3.connect(folder / "table.sqlite")
    base.execute("create table t(id int, name text, city text, price real)")
    base.executemany("insert into t values(?, ?, ?, ?)", rows)
    base.commit()
    base.close()
    np.save(folder / "array.npy", np.arange(500.0))
    (folder / "object.pkl").write_bytes(pickle.dumps({"rows": rows, "text": "text"}))
    image.imsave(folder / "picture.png", np.add.outer(np.arange(64), np.arange(64)))
    with wave.open(str(folder / "tone.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        sound.writeframes((8000 * np.sin(np.arange(4000) / 9)).astype("<i2").tobytes())
    (folder / "page.html").write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Softmax</title>\n</head>\n<body>\n'
        + '<p>A <b>paragraph</b> with a <a href="https://example.org/">link</a>.</p>\n' * 20
        + "</body>\n</html>\n"
    )
    (folder / "main.c").write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n\nstatic int add(int a, int b)\n{\n    return a + b;\n}\n\n"
        "int main(int argc, char **argv)\n{\n    for (int i = 0; i < argc; i++) {\n"
        '        printf("%d %s\\n", add(i, 1), argv[i]);\n    }\n    return EXIT_SUCCESS;\n}\n'
    )
    write_short(folder)
    labels = {
        "code.py": "python",
        "code.pyc": "pythonbytecode",
        "code.py.gz": "gzip",
        "code.py.bz2": "bzip",
        "code.py.xz": "xz",
        "code.tar": "tar",
        "code.zip": "zip",
        "table.csv": "csv",
        "table.json": "json",
        "table.sqlite": "sqlite",
        "array.npy": "npy",
        "object.pkl": "pickle",
        "picture.png": "png",
        "tone.wav": "wav",
        "page.html": "html",
        "main.c": "c",
    }
    if sys.platform == "linux":
        labels["program"] = "elf"
    else:
        (folder / "program").unlink()
    return folder, labels


@pytest.fixture(scope="module")
def few(known, tmp_path_factory):
    """Return a folder of two files, for tests about something else."""
    folder = tmp_path_factory.mktemp("few")
    for name in ("code.py", "picture.png"):
        shutil.copy(known[0] / name, folder)
    return folder


def start(*command, wide=True):
    # 1000 columns: no table folds the paths of temporary folders.
    env = os.environ | {"COLUMNS": "1000" if wide else "80", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=120, env=env, check=False
    )


def run(*arguments, **options):
    """Run the example and return its output; any warning is an error."""
    done = start("-W", "error", PROGRAM, *arguments, **options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def doubts(output):
    """Return {path: (entropy, {label: probability})} from the table of the least certain files, in its order."""
    table = output.split("least certain", 1)[1].split("Softmax over", 1)[0]
    found = {}
    for entropy, labels, path in re.findall(
        r"^  (\d+\.\d+) +(\w+ [01]\.\d+(?:, \w+ [01]\.\d+)*)  +(.+?) *$", table, re.MULTILINE
    ):
        pairs = (pair.split() for pair in labels.split(", "))
        found[path] = float(entropy), {label: float(p) for label, p in pairs}
    return found


def race(output):
    """Return {entrant: [milliseconds, ratio, ULP, difference]} from the comparison."""
    table = output.split("Softmax over", 1)[1]
    number = r"([-+.e\d]+)"
    rows = re.findall(
        rf"^  (softmax_rs.*?|NumPy.*?|scipy.*?)  +{number} +{number} +{number} +{number} *$", table, re.MULTILINE
    )
    return {name: [float(value) for value in values] for name, *values in rows}


# What it finds


def test_labels_of_known_files(known):
    folder, labels = known
    output = run(folder, "--show", 100)
    found = doubts(output)
    assert {Path(path).name: max(top, key=top.get) for path, (_, top) in found.items()} == labels
    assert all(len(top) == 3 for _, top in found.values())
    entropies = [entropy for entropy, _ in found.values()]
    assert entropies == sorted(entropies, reverse=True)
    for label in SHORT.values():
        assert re.search(
            rf"^  {label} +(no|too few) bytes.* {list(SHORT.values()).count(label)} +- +- *$", output, re.MULTILINE
        )
    assert f"{len(labels) + len(SHORT)} files in {folder}" in output
    assert "100.00% of the" in output  # labels and extensions


def test_comparison_on_the_same_logits(known):
    folder, labels = known
    output = run(folder)
    result = race(output)
    assert {"softmax_rs, 1 thread", "NumPy by hand", "scipy.special.softmax"} <= result.keys()
    assert f"the logits of {len(labels)} files, " in output  # and how often they are repeated
    for name, (milliseconds, ratio, ulp, difference) in result.items():
        assert milliseconds > 0, name
        assert ratio > 0, name
        assert difference < 1e-6, name  # the network's own last step is float32, with about 4e-7
        if "softmax_rs" in name:
            assert ulp <= 3, name
    for name in ("SIMD level", "threads", "numpy", "scipy", "onnxruntime"):
        assert name in output


def test_agrees_with_magika_itself(program, known):
    from magika import Magika

    folder, labels = known
    model = program.load_model()
    seen = program.run_network(program.find_files([folder]).files, model, program.console(sys.stderr))
    verdict = program.judge(seen.logits, 1.0, 1)
    ours = {
        path.name: (model.labels[top], p)
        for path, (top,), p in zip(seen.paths, verdict.top, verdict.top_p, strict=True)
    }
    assert {path.name: label for path, label in seen.by_rule} == SHORT
    for result in Magika().identify_paths([folder / name for name in (*labels, *SHORT)]):
        said = result.prediction
        if result.path.name in SHORT:
            assert (said.dl.label, said.output.label) == ("undefined", SHORT[result.path.name])
        else:
            label, p = ours[result.path.name]
            assert label == said.dl.label
            assert p == pytest.approx(said.score, abs=1e-6), label


def test_plot_is_a_picture(known, tmp_path):
    from matplotlib import image

    out = tmp_path / "out.png"
    out.write_text("the last picture")
    assert f"Drawn: {out}" in run(known[0], "--plot", out)
    assert out.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = image.imread(out)[:, :, :3]
    height, width = pixels.shape[:2]
    assert height > 500
    assert width > 500
    for part in (pixels[: height // 2], pixels[height // 2 :]):
        for panel in (part[:, : width // 2], part[:, width // 2 :]):
            assert 0.01 < np.mean(np.any(panel < 0.9, axis=-1)) < 0.9  # neither blank nor black
            assert np.any(panel[..., 2] - panel[..., 0] > 0.3)  # something of ours, in blue


def test_temperature_flattens_and_sharpens(known):
    found = {t: doubts(run(known[0], "--show", 100, "--temperature", t)) for t in ("1e-30", "1", "5")}
    for path, (entropy, top) in found["1"].items():
        sharp, flat = found["1e-30"][path], found["5"][path]
        assert sharp[0] == 0.0
        assert max(sharp[1].values()) == 1.0
        assert entropy < flat[0]
        assert max(top, key=top.get) == max(sharp[1], key=sharp[1].get) == max(flat[1], key=flat[1].get)


def test_entropy_where_the_probability_is_zero(program):
    logits = np.array([[3e38, -3e38, 0.0], [0.0, 0.0, -np.inf], [1.0, 1.0, 1.0]], dtype=np.float32)
    verdict = program.judge(logits, 1.0, 2)
    np.testing.assert_allclose(verdict.entropy, [0.0, 1.0, np.log2(3)], rtol=1e-6)
    assert not np.signbit(verdict.entropy).any()
    assert verdict.top.tolist() == [[0, 1]] * 3  # the lower label first where two are equal


def test_limit_is_spread_and_said(known):
    output = run(known[0], "--limit", 5, "--show", 100)
    assert "Looking at 5 of them, evenly spread (--limit)." in output
    assert len(doubts(output)) <= 5
    assert "--limit" not in run(known[0], "--limit", 1000)


def test_default_folders_are_this_pythons(program):
    folders, skip = program.default_folders()
    assert Path(os.__file__).resolve().parent in folders
    assert Path(np.__file__).resolve().parents[1] in folders
    assert not skip.intersection(folders)


# Files that are not as they should be


def test_each_file_once_sorted_without_loops(program, tmp_path):
    below = tmp_path / "b" / "c"
    below.mkdir(parents=True)
    for name in ("b/2", "b/1", "b/c/3", "a"):
        (tmp_path / name).touch()
    (below / "up").symlink_to(tmp_path)
    (below / "other name").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    found = program.find_files([tmp_path, below, tmp_path / "b"])
    assert [str(path.relative_to(tmp_path)) for path in found.files] == ["a", "b/1", "b/2", "b/c/3", "b/c/other name"]
    assert (found.links, found.special, found.unreadable) == (1, 1, [])
    assert [p.name for p in program.find_files([tmp_path], skip=[below]).files] == ["a", "1", "2"]


def test_pipe_is_left_out_not_waited_for(few, tmp_path):
    shutil.copy(few / "code.py", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "Left out: 0 links to folders, 1 pipes, sockets and devices." in run(tmp_path)


def test_dangling_links_are_counted_and_the_first_named(few, tmp_path):
    shutil.copy(few / "code.py", tmp_path)
    for i in range(7):
        (tmp_path / f"dangling{i}").symlink_to(tmp_path / "nowhere")
    output = run(tmp_path)
    assert "7 unreadable (the first 5):" in output
    assert re.findall(r"^  (.+): No such file or directory$", output, re.MULTILINE) == [
        str(tmp_path / f"dangling{i}") for i in range(5)
    ]


def test_unreadable_file_is_named_not_fatal(program, few, monkeypatch, capsys):
    # Permissions do not stop root, so the failure is played.
    look_at = program.look_at

    def guarded(path, model):
        if path.name == "code.py":
            raise PermissionError(13, "Permission denied", str(path))
        return look_at(path, model)

    monkeypatch.setattr(program, "look_at", guarded)
    assert program.main([str(few)]) == 0
    output = capsys.readouterr().out
    assert f"1 unreadable:\n  {few / 'code.py'}: Permission denied\n" in output
    assert "Network (standard_v3_3): 1 files" in output

    monkeypatch.setattr(program, "look_at", lambda path, _: guarded(path.with_name("code.py"), None))
    assert program.main([str(few)]) == 2
    captured = capsys.readouterr()
    assert "2 unreadable:" in captured.out
    assert captured.err.splitlines()[-1] == "classify_files.py: none of the files could be read"


@pytest.mark.skipif(sys.platform == "darwin", reason="APFS refuses names that are not UTF-8")
def test_strange_names_are_printed_as_they_are(few, tmp_path):
    for name in (b"[red]a[bold].py", b":smile:.py", b"line\nbreak.py", b"\xff.py", "\u00e4.py".encode()):
        shutil.copy(few / "code.py", os.fsencode(tmp_path) + b"/" + name)
    names = {Path(path).name for path in doubts(run(tmp_path))}
    assert names == {"[red]a[bold].py", ":smile:.py", r"line\nbreak.py", r"\udcff.py", "\u00e4.py"}


def test_only_files_too_short_for_the_network(tmp_path):
    write_short(tmp_path)
    output = run(tmp_path)
    assert "No file was long enough for the network" in output
    out = tmp_path / "out.png"
    done = start(PROGRAM, tmp_path, "--plot", out)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"classify_files.py: --plot {out}: there is nothing to draw"
    assert not out.exists()


def test_narrow_screen(few):
    assert max(map(len, run(few, wide=False).split("Types found")[1].split("Softmax over")[0].splitlines())) <= 80


# Bad input: one line that says what is wrong, exit code 2

BAD = {
    "no such folder": (["{tmp}/nowhere"], "{tmp}/nowhere: no such folder"),
    "a file": (["{tmp}/file"], "{tmp}/file: not a folder"),
    "no files": (["{tmp}/hollow"], "no regular file in {tmp}/hollow"),
    "top 0": (["--top", "0"], "argument --top: must be a whole number of at least 1, got '0' (see --help)"),
    "top two": (["--top", "two"], "argument --top: must be a whole number of at least 1, got 'two' (see --help)"),
    "top 215": (["--top", "215", "{tmp}"], "argument --top: the network has 214 labels, got 215"),
    "limit 0": (["--limit", "0"], "argument --limit: must be a whole number of at least 1, got '0' (see --help)"),
    "show -1": (["--show=-1"], "argument --show: must be a whole number of at least 1, got '-1' (see --help)"),
    **{
        f"temperature {t}": (
            [f"--temperature={t}"],
            f"argument --temperature: must be a positive finite number, got '{t}' (see --help)",
        )
        for t in ("0", "-1", "nan", "inf", "warm")
    },
    "plot nowhere": (["--plot", "{tmp}/no/out.png"], "--plot {tmp}/no/out.png: the folder {tmp}/no does not exist"),
    "plot in a file": (["--plot", "{tmp}/file/o.png"], "--plot {tmp}/file/o.png: the folder {tmp}/file does not exist"),
    "plot onto a folder": (["--plot", "{tmp}/folder.png"], "--plot {tmp}/folder.png: is a folder"),
    "plot of no kind": (["--plot", "{tmp}/out"], "--plot {tmp}/out: the name must end in one of ."),
    "plot of unknown kind": (["--plot", "{tmp}/o.txt"], "--plot {tmp}/o.txt: the name must end in one of ."),
    "unknown option": (["--tops", "3"], "unrecognized arguments: --tops (see --help)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, program, tmp_path, capsys):
    (tmp_path / "hollow" / "hollow").mkdir(parents=True)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("nothing of interest")
    arguments, message = BAD[case]
    assert program.main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("classify_files.py: " + message.format(tmp=tmp_path))


def test_bad_input_is_exit_code_2_of_the_process(tmp_path):
    done = start(PROGRAM, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"classify_files.py: no regular file in {tmp_path}\n"


@pytest.mark.parametrize("package", ["magika", "onnx", "onnxruntime", "scipy", "rich", "matplotlib", "softmax_rs"])
def test_missing_package(package, few, tmp_path):
    code = (
        "import runpy, sys; sys.modules[sys.argv[1]] = None;"
        "sys.argv[:] = sys.argv[2:]; runpy.run_path(sys.argv[0], None, '__main__')"
    )
    done = start("-c", code, package, PROGRAM, few, "--plot", tmp_path / "out.png")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("classify_files.py: ")
    assert package in line
    assert (
        line.endswith("make demo") if package == "softmax_rs" else re.search(rf" -m pip install .*\b{package}\b", line)
    )


def test_help():
    output = start(PROGRAM, "--help").stdout
    for word in ("FOLDER", "--top", "--temperature", "--plot", "--limit", "--show", "exit codes"):
        assert word in output


def test_interrupt():
    # Whoever runs the tests in the background has SIGINT ignored, which children inherit: restore it first.
    code = (
        "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], None, '__main__')"
    )
    command = [sys.executable, "-u", "-c", code, str(PROGRAM)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert " files in " in process.stdout.readline()  # from here on it loads and runs the network, for seconds
        process.send_signal(signal.SIGINT)
        _, problems = process.communicate(timeout=60)
    assert process.returncode == 130
    assert problems.splitlines()[-1] == "classify_files.py: interrupted"
    assert "Traceback" not in problems
