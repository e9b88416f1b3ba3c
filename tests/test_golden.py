"""Hazard: bits that change from one machine, level or version to the next unseen. Hashes of all results are kept here.

Each level that this CPU has is forced in a process of its own; those with fused multiply-add (AVX2, AVX-512, NEON) have
one set of hashes, the portable one another. After a change that is meant to change bits `make golden` writes the file.
"""

import json
import os
from pathlib import Path

import pytest

from catalogue import ROWS
from children import run
from every import WAYS
from test_simd_levels import LEVELS
from ulps import FLOAT32, FLOAT64, FLOATS

FILE = Path(__file__).parent / "golden.json"
WRITING = os.environ.get("SOFTMAX_RS_GOLDEN") == "write"
KEYS = [f"{way} {dtype}" for way in WAYS for dtype in FLOATS]


@pytest.fixture(scope="module")
def found():
    """Compute the corpus on every level once."""
    code = "import level_core; level_core.golden()"
    return {level: json.loads(run(code, SOFTMAX_RS_SIMD=level).stdout) for level in LEVELS}


@pytest.fixture(scope="module")
def golden(found):
    """Read the file, or write it."""
    if WRITING:
        assert len(LEVELS) > 1, "no level here that has fused multiply-add"
        best, portable = found[LEVELS[-1]]["results"], found["portable"]["results"]
        lines = {
            key: {"vector": best[key][0], "portable": portable[key][0], "some": " ".join(best[key][1])} for key in KEYS
        }
        FILE.write_text(json.dumps(lines, indent=1) + "\n")
    return json.loads(FILE.read_text())


@pytest.mark.parametrize("level", LEVELS)
def test_golden(level, found, golden):
    """Every function, used in every way, gives the bits that it gave when the file was written."""
    assert found[level]["level"] == level
    results = found[level]["results"]
    assert list(results) == KEYS == list(golden), "golden.json has other functions than the catalogue: `make golden`"
    kind = "portable" if level == "portable" else "vector"
    wrong = [
        f"{key}: {results[key][0]}, not {line[kind]}; begins with {' '.join(results[key][1])}, not {line['some']}"
        for key, line in golden.items()
        if results[key][0] != line[kind]
    ]
    assert not wrong, f"{len(wrong)} of {len(KEYS)} on {level} (`make golden` if that was meant):\n" + "\n".join(wrong)


def test_matrix(found, say):
    """Print how many calls ran where. No level passes for another: the portable one has elements of its own."""
    lines = [f"{'golden bits: calls':40}" + "".join(f"{level:>10}" for level in found)]
    for way in WAYS:
        calls = [sum(r["results"][f"{way} {dtype}"][2] for dtype in FLOATS) for r in found.values()]
        lines.append(f"{way!s:40}" + "".join(f"{count:>10}" for count in calls))
    say("\n".join(lines))
    assert all(r["results"][key][2] > 0 for r in found.values() for key in KEYS)
    portable = found["portable"]["results"]
    # (Both may round the same number per row to the same float. So is log_softmax of float64 at a temperature of 1, an
    # element less such a number: float32 tells there.)
    distinct = [way for way in WAYS if way.gives != (ROWS,)]
    for level in LEVELS[1:]:
        results = found[level]["results"]
        keys = {way: [f"{way} {dtype}" for dtype in (FLOAT32, FLOAT64)] for way in distinct}
        same = [str(way) for way in distinct if all(results[key][0] == portable[key][0] for key in keys[way])]
        assert not same, f"{level} has the bits of the portable level: {same}"
