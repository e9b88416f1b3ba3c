"""Hazard: a SIMD level that never ran. Each level this CPU has is forced in a process of its own."""

import json
import platform
from pathlib import Path

import pytest

import softmax_rs
from catalogue import FUNCTIONS
from children import run
from ulps import FLOATS

# The features each level needs, as /proc/cpuinfo spells them: asked of the system, not of the library under test.
NEEDS = {
    "portable": set(),
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c", "popcnt"},
    "neon": {"asimd"},
}
ORDER = ("portable", "avx2", "avx512", "neon")  # each is better than those before it, where the CPU has it


def cpu_features():
    """Return the flags of the first CPU."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.split(":")[1].split())
    return set()


LEVELS = [level for level in ORDER if NEEDS[level] <= cpu_features()]
ABSENT = [level for level in ORDER if level not in LEVELS]


@pytest.fixture(scope="module")
def reports():
    """Run the core on every level once."""
    code = "import level_core; level_core.main()"
    return {level: json.loads(run(code, SOFTMAX_RS_SIMD=level).stdout) for level in LEVELS}


@pytest.mark.parametrize("level", LEVELS)
def test_level(level, reports):
    """It ran, on every function and dtype, and everything was right."""
    report = reports[level]
    assert report["level"] == level
    missing = [f"{f} {dtype}" for f in FUNCTIONS for dtype in FLOATS if report["ran"].get(f"{f} {dtype}", 0) < 400]
    assert not missing, f"{level} ran too few cases of {missing}"
    assert not report["failures"], f"{len(report['failures'])} failures on {level}, first:\n{report['failures'][0]}"


def test_matrix(reports, say):
    """Print what ran where: cases and worst ULPs, level by function."""
    names = [f"{f} {dtype}" for f in FUNCTIONS for dtype in FLOATS]
    lines = [f"{platform.machine()}, levels absent here: {', '.join(ABSENT) or 'none'}"]
    lines += [f"{'cases (worst ULP)':24}" + "".join(f"{level:>18}" for level in LEVELS)]
    for name in names:
        cells = [f"{r['ran'].get(name, 0)} ({r['worst'].get(name, 0):.3f})" for r in reports.values()]
        lines += [f"{name:24}" + "".join(f"{cell:>18}" for cell in cells)]
    say("\n".join(lines))
    assert all(report["ran"].get(name, 0) for report in reports.values() for name in names)


def test_same_bits_on_vector_levels(reports):
    """All levels but the portable one share one virtual vector width and one tree of sums: one digest."""
    digests = {level: report["digest"] for level, report in reports.items() if level != "portable"}
    assert len(set(digests.values())) <= 1, digests
    assert digests or LEVELS == ["portable"]
    assert reports["portable"]["digest"] not in digests.values(), "a level that was forced did not run"


def test_default_is_the_best_level():
    """Without the variable: the last of the levels this CPU has; the running process agrees."""
    assert run("import softmax_rs; print(softmax_rs.simd_level(), end='')").stdout == LEVELS[-1]
    assert softmax_rs.simd_level() in LEVELS


CAUGHT = """
import sys, softmax_rs
for call in (softmax_rs.simd_level, lambda: softmax_rs.softmax([1.0, 2.0]), lambda: softmax_rs.logsumexp([1.0])):
    try:
        call()
    except ValueError as error:
        assert type(error) is ValueError
        print(error)
    else:
        sys.exit("no error")
"""


@pytest.mark.parametrize("value", ["sse9", "avx1024", "0", "avx2,avx512", "best", *ABSENT])
def test_bad_values(value):
    """An unknown level, or one this CPU has not: a ValueError at first use that names variable, value and levels."""
    messages = run(CAUGHT, SOFTMAX_RS_SIMD=value).stdout.splitlines()
    assert len(messages) == 3
    for message in messages:
        for word in ("SOFTMAX_RS_SIMD", value, "portable"):
            assert word in message, message
        if value not in ABSENT:
            assert all(level in message for level in LEVELS), message


@pytest.mark.parametrize("level", LEVELS)
def test_one_element_is_exact(level):
    """A row's only finite element has probability 1 and gets the whole cotangent: products rounded once, or twice."""
    code = """
import numpy as np, softmax_rs
rng = np.random.default_rng(0)
for dtype in "f4", "f8":
    for n, at in (1, 0), (16, 7), (33, 32), (300_000, 123_456):
        a = rng.normal(0, 30, 5000 if n < 100 else 10).astype(dtype)
        x = np.full((len(a), n), -np.inf, dtype)
        x[:, at] = a
        p = softmax_rs.softmax(x)[:, at]
        assert (p == 1).all(), (dtype, n, a[p != 1][0], p[p != 1][0])
        g = rng.normal(0, 3, len(a)).astype(dtype)
        v = softmax_rs.logsumexp_vjp(x, g, axis=-1)[:, at]
        assert (v == g).all(), (dtype, n, a[v != g][0], g[v != g][0], v[v != g][0])
"""
    run(code, SOFTMAX_RS_SIMD=level)
