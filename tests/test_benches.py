"""Hazard: benchmarks that measure nothing, leave a function out, or draw an empty page."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import catalogue
from catalogue import BY_NAME, FUNCTIONS
from children import run

ROOT = Path(__file__).parent.parent
BENCHES = ROOT / "benches"
sys.path.insert(0, str(BENCHES))
pytest.importorskip("asv", reason="asv is not installed: NOT RUN", exc_type=ImportError)

PREAMBLE = f"""
import itertools, json, os, sys
sys.path.insert(0, {str(BENCHES)!r})
"""


def test_every_function_is_measured():
    """Each benchmark of each row of the catalogue runs (on its first cell that is not skipped), and none is missing."""
    code = """
from asv_runner.discovery import disc_benchmarks
ran = {}
for benchmark in disc_benchmarks("benchmarks"):
    cells = [cell for cell in itertools.product(*benchmark._params) if cell not in benchmark._skip_tuples]
    for cell in cells[:1]:
        value = benchmark.func(*cell)
        assert benchmark.type != "track" or value > 0, (benchmark.name, cell, value)
    ran[benchmark.name] = [len(cells), benchmark.unit]
print(json.dumps(ran))
"""
    ran = json.loads(run(PREAMBLE + code).stdout)
    assert {"imports.timeraw_softmax_rs", "throughput.Copy.track_ns_per_element"} <= set(ran)
    assert {unit for _, unit in ran.values()} == {"seconds", "bytes", "ns per element"}
    for f in (*BY_NAME, *getattr(catalogue, "OTHERS", ())):
        name = "".join(word.capitalize() for word in f.split("_"))
        modules = {key.split(".")[0]: count for key, (count, _) in ran.items() if key.split(".")[1] == name}
        missing = {"axis", "dtype", "layout", "memory", "overhead", "threads", "throughput"} - set(modules)
        assert not missing, f"{f}: no benchmarks in {missing}"
        assert len({"forward", "gradient", "cross_entropy"} & set(modules)) == 1, f"{f} is in {sorted(modules)}"
        assert modules["overhead"] > 0, f"{f}: all skipped"


def test_old_commit():
    """A package without one of the functions, as an old commit's: its cells are skipped, the others are not."""
    code = """
import softmax_rs
gone = sys.argv[1]
delattr(softmax_rs, gone)
from benchmarks import common, forward, overhead
for row in common.FUNCTIONS:
    params = [["1x10"], common.memories(row)]
    print(row.name, len(common.skips(row, *params)) == len(list(itertools.product(*params))))
"""
    for gone in (FUNCTIONS[0].name, FUNCTIONS[-1].name):
        said = run(PREAMBLE + code, gone).stdout.split()
        skipped = {name for name, all_of_it in zip(said[::2], said[1::2], strict=True) if all_of_it == "True"}
        # (Samples of saved results come from the forward function.)
        assert gone in skipped and skipped <= {gone, f"{gone}_backward"}, f"without {gone}: skipped {skipped}"


def test_requirements():
    """asv's environments have all that the catalogue imports."""
    code = """
before = set(sys.modules)
import benchmarks.common
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    imported = set(run(PREAMBLE + code).stdout.split()) - set(sys.stdlib_module_names)
    config = json.loads((BENCHES / "asv.conf.json").read_text())
    given = {name.lower().replace("-", "_") for name in config["matrix"]["req"]} | {"softmax_rs", "asv_runner"}
    distributions = importlib.metadata.packages_distributions()
    needed = {d.lower().replace("-", "_") for name in imported for d in distributions.get(name, ())}
    assert needed <= given, f"benches/asv.conf.json does not require {needed - given}"


def test_rivals(tmp_path):
    """The comparison runs with what is installed, tells what is not, and its run can be drawn."""
    out, svg = tmp_path / "run.json", tmp_path / "run.svg"
    arguments = ["--shapes", "40x50,axis0:50x40", "--seconds", "0.01", "--json", str(out)]
    said = subprocess.run(
        [sys.executable, BENCHES / "rivals.py", *arguments], check=True, capture_output=True, text=True
    ).stdout
    report = json.loads(out.read_text())
    for name in ("scipy", "onnxruntime", "numba", "jax"):
        assert name in report["versions"] or f"left out, not installed: {name}" in said
    assert {"cpu", "simd_level", "threads", "python", "date"} <= set(report)
    assert {cell["op"] for cell in report["cells"]} >= {"softmax", "log_softmax", "logsumexp"}
    for cell in report["cells"]:
        assert cell["ulps"]["softmax_rs"] < 50 and cell["new"]["softmax_rs"] > 0 and cell["out"]["copy"] > 0
    subprocess.run([sys.executable, BENCHES / "chart.py", out, svg], check=True, capture_output=True)
    assert report["cpu"] in svg.read_text()


def texts(svg):
    """Return what a chart says in words: ticks are the look, and matplotlib's affair."""
    return [text for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text()) if re.search("[a-z]", text)]


@pytest.mark.parametrize("name", ["speed", "speed-avx2"])
def test_chart_is_of_its_run(name, tmp_path):
    """Each committed chart shows the committed run: no number in it was made up or left from another."""
    svg = tmp_path / "speed.svg"
    drawn = ROOT / "docs" / f"{name}.svg"
    subprocess.run(
        [sys.executable, BENCHES / "chart.py", drawn.with_suffix(".json"), svg], check=True, capture_output=True
    )
    assert texts(drawn) == texts(svg), f"{drawn.name} is old: make chart, or python benches/chart.py"


def asv(home, command, config, *arguments):
    """Run asv with this folder for a home, where it remembers the machine; return what it said."""
    line = [sys.executable, "-m", "asv", command, "--config", str(config), *arguments]
    environment = os.environ | {"HOME": str(home)}
    return subprocess.run(line, check=False, capture_output=True, text=True, env=environment).stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Measure a few benchmarks of the installed package by asv, and let up to three commits have the results.

    The last commit gets them as they are, the one before it half of the times.
    """
    import compare

    try:
        commits = compare.git("log", "-3", "--format=%H %ct").splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: asv has no commits to publish")
    folder = tmp_path_factory.mktemp("asv")
    config = compare.configure(folder, results_dir=str(folder / "results"), html_dir=str(folder / "html"))
    quick = [option for name in ("repeat", "rounds", "number") for option in ("-a", f"{name}=1")]
    head = commits[0].split()[0]
    asv(folder, "machine", config, "--yes", "--machine", "here")
    environment = ["-E", f"existing:{sys.executable}", "--set-commit-hash", head, "--machine", "here"]
    what = ["-a", "warmup_time=0", "--bench", "^overhead|throughput.Copy"]
    said = asv(folder, "run", config, *environment, *quick, *what)
    count, failed = compare.measured(folder / "results", head)
    assert count > 2 * len(FUNCTIONS) and not failed, said
    (path,) = (folder / "results" / "here").glob(f"{head[:8]}*.json")
    for i, commit in enumerate(commits[1:], start=1):
        hash_, date = commit.split()
        result = json.loads(path.read_text())
        column = result["result_columns"].index("result")
        for row in result["results"].values():
            row[column] = [value / 2**i for value in row[column]]
        result |= {"commit_hash": hash_, "date": 1000 * int(date)}
        path.with_name(path.name.replace(head[:8], hash_[:8])).write_text(json.dumps(result))
    return folder, config, [commit.split()[0] for commit in commits]


def test_slower_is_flagged(measured):
    """A row of asv's table is read right: twice the time is flagged, no change is not; an empty run counts nothing."""
    import compare

    folder, config, commits = measured
    if len(commits) < 2:
        pytest.skip("a checkout of one commit")
    said = asv(folder, "compare", config, "--factor", "1.5", commits[1], commits[0])
    flagged = [name for _, name in compare.FLAGGED.findall(said)]
    assert any(name.startswith("overhead.Softmax") for name in flagged), said
    assert not compare.FLAGGED.findall(asv(folder, "compare", config, commits[0], commits[0]))
    assert compare.measured(folder / "results", "0" * 40) == (0, [])


def test_page(measured, say):
    """The published page needs nothing from elsewhere, and Chromium draws a graph on it."""
    import dashboard

    def not_run(reason):
        say(f"***** NOT RUN: the page of benchmarks in a browser: {reason} *****")
        pytest.skip(reason)

    folder, config, _ = measured
    if not dashboard.PACKAGES.is_dir():
        not_run(f"{dashboard.PACKAGES} is missing (make test-python fetches it)")
    asv(folder, "publish", config)
    dashboard.vendor(folder / "html")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        not_run("there is no Chromium (Debian: apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        not_run("playwright is not installed")
    requests, complaints = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((folder / "html" / "index.html").as_uri() + "#overhead.Softmax.time_1000_calls")
        # Coloured pixels on the canvas where flot draws lines: axes and grid are grey. (Lines are a pixel wide, and
        # paler where they fall between two; each series comes on its own.)
        drawn = """() => {
            const canvas = document.querySelector("#main-graph canvas.flot-base");
            const data = canvas ? canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data : [];
            let count = 0;
            for (let i = 0; i < data.length; i += 4) {
                const [r, g, b, alpha] = data.slice(i, i + 4);
                count += alpha > 40 && Math.max(r, g, b) - Math.min(r, g, b) > 60;
            }
            return count > 300;
        }"""
        page.wait_for_function(drawn, timeout=30_000)
        legend = page.inner_text("#main-graph .legend")
        browser.close()
    assert "new" in legend and "out" in legend
    elsewhere = [url for url in requests if not url.startswith("file://")]
    assert len(requests) > 10 and not elsewhere, f"the page asks for {elsewhere}"
    assert not complaints, complaints
