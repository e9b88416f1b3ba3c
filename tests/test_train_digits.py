"""examples/train_digits.py as its user meets it: what it finds, and what it says where it cannot."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

for _package in ("scipy", "sklearn", "rich", "matplotlib"):
    pytest.importorskip(_package, reason=f"{_package} is not installed: pip install --group demo")

PROGRAM = Path(__file__).parents[1] / "examples" / "train_digits.py"
DATA = {"digits": (1797, 64, 10), "wine": (178, 13, 3), "breast_cancer": (569, 30, 2)}  # samples, features, classes
AGREE = 1e-4  # the promise: the losses differ by no more


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):  # rich would colour the text that tests read
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("train_digits", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def idle(program, monkeypatch):
    """Fail the test if the program begins to work."""
    monkeypatch.setattr(program, "load", lambda name: pytest.fail("the work has begun"))


def start(*command, wide=True):
    env = os.environ | {"COLUMNS": "200" if wide else "80", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=120, env=env, check=False
    )


def run(*arguments, **options):
    """Run the example and return its output; any warning is an error."""
    done = start("-W", "error", PROGRAM, *arguments, **options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"training by \S+: iteration \d+, loss \d\.\d+", done.stderr)  # progress
    return done.stdout


def sides(output):
    """Return {side: (milliseconds, iterations, loss, accuracy in training, accuracy in test)} from the table."""
    rows = re.findall(
        r"^ *(softmax_rs|scikit-learn).*?  +([.\d]+) +(\d+) +(-?\d\.\d{9}) +([.\d]+)% +([.\d]+)% *$",
        output,
        re.MULTILINE,
    )
    return {side: tuple(map(float, figures)) for side, *figures in rows}


# What it finds


@pytest.fixture(scope="module")
def truth():
    """Return by data set: the minimum of the objective at a penalty of 1e-3, and the test accuracy there.

    Found by a method that shares nothing with the example's: Newton's on the dense Hessian, until nothing moves.
    """
    from sklearn.datasets import load_breast_cancer, load_digits, load_wine
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    def solve(load):
        data, target = load(return_X_y=True)
        x, x_test, y, y_test = train_test_split(data, target, test_size=0.25, random_state=0, stratify=target)
        scaler = StandardScaler().fit(x)
        x, x_test = (np.column_stack([scaler.transform(part), np.ones(len(part))]) for part in (x, x_test))
        n, k, f = len(x), target.max() + 1, x.shape[1]
        ridge = np.tile(np.r_[np.full(f - 1, 1e-3), 0.0], k)
        point = np.zeros(k * f)

        def at(point):
            logits = x @ point.reshape(k, f).T
            e = np.exp(logits - logits.max(axis=1, keepdims=True))
            p = e / e.sum(axis=1, keepdims=True)
            return p, -np.mean(np.log(p[np.arange(n), y])) + ridge @ point**2 / 2

        p, loss = at(point)
        for _ in range(30):
            gradient = ((p - np.eye(k)[y]).T @ x / n).ravel() + ridge * point
            hessian = np.diag(ridge)
            for i in range(k):
                for j in range(k):
                    weight = p[:, i] * ((i == j) - p[:, j]) / n
                    hessian[i * f : (i + 1) * f, j * f : (j + 1) * f] += (x * weight[:, None]).T @ x
            hessian[f - 1 :: f, f - 1 :: f] += 1 / k  # the biases' mean is free: hold it where it is
            step = np.linalg.solve(hessian, gradient)
            t = 1.0
            while at(point - t * step)[1] > loss and t > 1e-9:
                t /= 2
            point = point - t * step
            p, loss = at(point)
            if np.abs(step).max() < 1e-10:
                break
        found = np.argmax(x_test @ point.reshape(k, f).T, axis=1)
        return loss, np.mean(found == y_test)

    with threadpool_limits(1):  # on a busy machine threads that wait for each other take a minute instead of a second
        return {"digits": solve(load_digits), "wine": solve(load_wine), "breast_cancer": solve(load_breast_cancer)}


@pytest.mark.parametrize("newton", [False, True], ids=["lbfgs", "newton"])
@pytest.mark.parametrize("data", DATA)
def test_finds_the_minimum_that_scikit_learn_finds(data, newton, truth):
    output = run("--data", data, *["--newton"] * newton)
    samples, features, classes = DATA[data]
    tested = -(-samples // 4)
    assert output.startswith(
        f"{data}: {samples - tested} samples to train on, {tested} to test; {features} features, {classes} classes, "
        f"{classes * (features + 1)} parameters."
    )
    found = sides(output)
    assert list(found) == ["softmax_rs", "scikit-learn"]
    loss, accuracy = truth[data]
    for milliseconds, iterations, its_loss, training, test in found.values():
        assert milliseconds > 0
        assert iterations > 1
        assert its_loss == pytest.approx(loss, abs=1e-8)
        assert training > 99
        assert test == pytest.approx(100 * accuracy, abs=0.005)
    said = re.search(
        r"The losses differ by (\S+), the coefficients by at most (\S+); (\d+) of (\d+) test samples", output
    )
    assert float(said[1]) == pytest.approx(abs(found["softmax_rs"][2] - found["scikit-learn"][2]), abs=1.1e-9)
    assert float(said[1]) <= 1e-8 < AGREE
    assert float(said[2]) < 2e-3
    assert said[3] == said[4] == str(tested)
    assert ("Hessian products" in output) == newton
    for name in ("trust-ncg", "newton-cg") if newton else ("L-BFGS-B", "lbfgs"):
        assert name in output
    for name in ("SIMD level", "softmax_rs", "numpy", "scipy", "scikit-learn", "Python"):
        assert name in output.splitlines()[-1]


@pytest.mark.parametrize("penalty", ["1e-6", "1", "1e6"])
@pytest.mark.parametrize("newton", [False, True], ids=["lbfgs", "newton"])
def test_any_penalty(penalty, newton, program, capsys):
    # breast_cancer: where scikit-learn's C is not 1/(n A), but twice that
    assert program.main(["--data", "breast_cancer", "--penalty", penalty, *["--newton"] * newton]) == 0
    found = sides(capsys.readouterr().out)
    assert abs(found["softmax_rs"][2] - found["scikit-learn"][2]) < 1e-6


@pytest.mark.parametrize("name", DATA)
def test_derivatives_of_the_objective(name, program, rng):
    data = program.load(name)
    objective = program.Objective(data, 0.1)
    h = 1e-6
    for point, direction in rng.normal(size=(5, 2, objective.size)) / 10:
        value, gradient = objective(point)
        ahead, behind = (objective(point + s * h * direction) for s in (1, -1))
        assert value == pytest.approx(program.objective_by_hand(*objective.split(point), data, 0.1), rel=1e-14)
        assert gradient @ direction == pytest.approx((ahead[0] - behind[0]) / (2 * h), rel=1e-6, abs=1e-8)
        product = objective.hessian_product(point, direction)  # not the point that was evaluated last
        np.testing.assert_allclose(product, (ahead[1] - behind[1]) / (2 * h), rtol=1e-6, atol=1e-8)
        assert objective(point)[0] == value  # the product has left the logits alone
        np.testing.assert_array_equal(objective(point)[1], gradient)


def test_arrays_are_made_once(program, monkeypatch):
    given = []
    fused = program.softmax_rs.cross_entropy_with_grad

    def watched(logits, target, *, out):
        given.append((logits, out))
        loss, grad = fused(logits, target, out=out)
        assert grad is out
        return loss, grad

    monkeypatch.setattr(program.softmax_rs, "cross_entropy_with_grad", watched)
    program.train(program.load("wine"), 1e-3, newton=False)
    assert len(given) > 10
    assert len({(id(logits), id(out)) for logits, out in given}) == 1


def test_narrow_screen():
    output = run("--data", "wine", "--newton", wide=False)
    assert list(sides(output)) == ["softmax_rs", "scikit-learn"]  # each on one line
    assert max(map(len, output.split("Training on")[1].splitlines()[:9])) <= 80


# Its verdict


def tilted(program, by):
    """Return a cross entropy that is wrong and consistently so: its minimum is another one."""
    fused = program.softmax_rs.cross_entropy_with_grad

    def cross_entropy_with_grad(logits, target, *, out):
        loss, grad = fused(logits, target, out=out)
        grad[:, :2] += np.array([by, -by]) / len(logits)
        return loss + by * (logits[:, 0] - logits[:, 1]).mean(), grad

    return cross_entropy_with_grad


def test_another_minimum_is_exit_code_1(program, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(program.softmax_rs, "cross_entropy_with_grad", tilted(program, 0.05))
    out = tmp_path / "out.png"
    assert program.main(["--data", "wine", "--plot", str(out)]) == 1
    captured = capsys.readouterr()
    line = captured.err.splitlines()[-1]
    assert re.fullmatch(
        r"train_digits\.py: the losses differ by \d\.\de[+-]\d\d, more than 1e-04: softmax_rs \S+, scikit-learn \S+",
        line,
    )
    assert set(sides(captured.out)) == {"softmax_rs", "scikit-learn"}  # the figures are there all the same
    assert out.exists()


@pytest.mark.parametrize("found", [np.nan, 1.1e-4])
def test_losses_apart(found, program):
    data = program.load("wine")
    fit = program.Fit(np.zeros((13, 3)), np.zeros(3), 1.0, 1, "")
    other = program.Fit(np.zeros((13, 3)), np.zeros(3), 1.0 + found, 1, "")
    with pytest.raises(program.Disagreement, match="the losses differ by"):
        program.judge(program.Comparison(fit, other, 1.0, 1.0, []), data)
    program.judge(program.Comparison(fit, fit, 1.0, 1.0, []), data)


def test_accuracies_apart(program):
    data = program.load("wine")
    fit = program.Fit(np.zeros((13, 3)), np.zeros(3), 1.0, 1, "")
    other = program.Fit(np.zeros((13, 3)), np.array([0.0, 1.0, 0.0]), 1.0, 1, "")
    with pytest.raises(program.Disagreement, match="accuracies on the test part differ"):
        program.judge(program.Comparison(fit, other, 1.0, 1.0, []), data)


@pytest.mark.parametrize(
    ("side", "arguments"), [("softmax_rs and SciPy", []), ("softmax_rs and SciPy", ["--newton"]), ("scikit-learn", [])]
)
def test_unfinished_is_exit_code_1(side, arguments, program, monkeypatch, capsys):
    train = program.train
    if side == "scikit-learn":
        monkeypatch.setattr(program, "train", lambda *a, **k: (monkeypatch.setattr(program, "ITERATIONS", 3), fit)[1])
        fit = train(program.load("wine"), 1e-3, newton=False)
    else:
        monkeypatch.setattr(program, "ITERATIONS", 3)
    assert program.main(["--data", "wine", *arguments]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"train_digits.py: {side} did not converge: ")


# The plot


def test_plot_is_a_picture(tmp_path):
    from matplotlib import image

    out = tmp_path / "out.png"
    out.write_text("the last picture")
    assert f"Drawn: {out}" in run("--data", "wine", "--plot", out)
    assert out.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = image.imread(out)[:, :, :3]
    height, width = pixels.shape[:2]
    assert height > 500
    assert width > 1000
    for panel in (pixels[:, : width // 2], pixels[:, width // 2 :]):
        assert 0.01 < np.mean(np.any(panel < 0.9, axis=-1)) < 0.9  # neither blank nor black
        assert np.any(panel[..., 2] - panel[..., 0] > 0.3)  # something of ours, in blue
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(("suffix", "begin"), [(".PDF", b"%PDF"), (".svg", b"<?xml")])
def test_plot_of_other_kinds(suffix, begin, program, tmp_path, capsys):
    out = tmp_path / f"out{suffix}"
    assert program.main(["--data", "wine", "--plot", str(out)]) == 0
    assert out.read_bytes().startswith(begin)


def test_plot_through_a_link(program, tmp_path, capsys):
    (tmp_path / "out.png").symlink_to(tmp_path / "target.png")
    assert program.main(["--data", "wine", "--plot", str(tmp_path / "out.png")]) == 0
    assert (tmp_path / "out.png").is_symlink()
    assert (tmp_path / "target.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("before", [None, b"the last picture"], ids=["new", "old"])
def test_plot_is_whole_or_as_before(before, program, monkeypatch, capsys, tmp_path):
    out = tmp_path / "out.png"
    if before:
        out.write_bytes(before)

    def full(source, target):
        assert source.read_bytes().startswith(b"\x89PNG")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert program.main(["--data", "wine", "--plot", str(out)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"train_digits.py: --plot {out}: No space left on device"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == ({out: before} if before else {})


def test_interrupted_while_writing(program, monkeypatch, tmp_path):
    out = tmp_path / "out.png"
    out.write_bytes(b"the last picture")

    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    assert program.main(["--data", "wine", "--plot", str(out)]) == 130
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_bytes() == b"the last picture"


def test_plot_that_cannot_be_written_is_found_before_the_work(idle, program, monkeypatch, capsys, tmp_path):
    # Permissions do not stop root, and a full disk is not at hand, so the failure is played.
    def full(path, mode="r"):
        assert path.parent == tmp_path
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "open", full)
    out = tmp_path / "out.png"
    assert program.main(["--plot", str(out)]) == 2
    assert capsys.readouterr().err == f"train_digits.py: --plot {out}: Read-only file system\n"


# Bad input: one line that says what is wrong, exit code 2, before the work

BAD = {
    "unknown data": (["--data", "iris"], "argument --data: invalid choice: 'iris' (choose from "),
    **{
        f"penalty {a}": ([f"--penalty={a}"], f"argument --penalty: must be a number from 1e-06 to 1e+06, got '{a}'")
        for a in ("0", "-1", "1e-7", "1e7", "nan", "inf", "much")
    },
    "plot nowhere": (["--plot", "{tmp}/no/out.png"], "--plot {tmp}/no/out.png: the folder {tmp}/no does not exist"),
    "plot in a file": (["--plot", "{tmp}/file/o.png"], "--plot {tmp}/file/o.png: the folder {tmp}/file does not exist"),
    "plot onto a folder": (["--plot", "{tmp}/folder.png"], "--plot {tmp}/folder.png: is a folder"),
    "plot of no kind": (["--plot", "{tmp}/out"], "--plot {tmp}/out: the name must end in one of .pdf, .png, .svg"),
    "plot of unknown kind": (["--plot", "{tmp}/o.txt"], "--plot {tmp}/o.txt: the name must end in one of .pdf, .png,"),
    "plot of a long name": (["--plot", "{tmp}/" + 300 * "o" + ".png"], "--plot {tmp}/" + 300 * "o" + ".png: File name"),
    "unknown option": (["--newtons"], "unrecognized arguments: --newtons (see --help)"),
    "no value": (["--plot"], "argument --plot: expected one argument (see --help)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, idle, program, tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("nothing of interest")
    arguments, message = BAD[case]
    assert program.main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("train_digits.py: " + message.format(tmp=tmp_path))


def test_bad_input_is_exit_code_2_of_the_process():
    done = start(PROGRAM, "--penalty", "0")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("train_digits.py: argument --penalty: ")


@pytest.mark.parametrize("package", ["sklearn", "scipy", "rich", "matplotlib", "softmax_rs"])
def test_missing_package(package, tmp_path):
    code = (
        "import runpy, sys; sys.modules[sys.argv[1]] = None;"
        "sys.argv[:] = sys.argv[2:]; runpy.run_path(sys.argv[0], None, '__main__')"
    )
    done = start("-c", code, package, PROGRAM, "--plot", tmp_path / "out.png")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("train_digits.py: ")
    assert package in line
    name = {"sklearn": "scikit-learn"}.get(package, package)
    assert line.endswith("make demo") if package == "softmax_rs" else re.search(rf" -m pip install .*\b{name}\b", line)
    assert not list(tmp_path.iterdir())


def test_help():
    output = start(PROGRAM, "--help").stdout
    for word in ("--data", *DATA, "--newton", "--penalty", "--plot", "exit codes"):
        assert word in output


def test_interrupt():
    # Whoever runs the tests in the background has SIGINT ignored, which children inherit: restore it first.
    # So many rounds take minutes: the signal finds it at work.
    code = (
        "import importlib.util, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "spec = importlib.util.spec_from_file_location('train_digits', sys.argv[1]);"
        "sys.modules[spec.name] = program = importlib.util.module_from_spec(spec); spec.loader.exec_module(program);"
        "program.ROUNDS = 10_000; sys.exit(program.main([]))"
    )
    command = [sys.executable, "-u", "-c", code, str(PROGRAM)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "samples to train on" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, problems = process.communicate(timeout=60)
    assert process.returncode == 130
    assert problems.splitlines()[-1] == "train_digits.py: interrupted"
    assert "Traceback" not in problems
