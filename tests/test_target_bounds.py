"""Hazard: a class index at the edge of its dtype or of the classes, in each way that rows are walked."""

import re

import numpy as np
import pytest

from catalogue import reduced_shape
from kinds import LOSSES
from memory import swapped

INTEGERS = tuple(np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"))
# shape, axis: one row, batches of rows, panels of short rows, columns, a long row, rows on several threads.
SHAPES = {
    "one row": ((7,), 0),
    "rows": ((9, 100), 1),
    "short rows": ((40, 3), 1),
    "columns": ((5, 6, 20), 1),
    "long rows": ((3, 140_000), 1),
    "threads": ((700, 120), -1),
}


def boundaries(dtype, n):
    """Return the classes at the edges, and numbers beyond them, that the dtype has."""
    info = np.iinfo(dtype)
    edges = {-1, 0, n - 1, n, n + 1, info.min, info.max}
    return sorted(v for v in edges if info.min <= v <= info.max)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_boundaries(dtype, shape, rng):
    """{-1, 0, n - 1, n, n + 1, min, max} in the first, a middle and the last place: the class, or an IndexError."""
    (shape, axis), ran = SHAPES[shape], 0
    n, rows = shape[axis], reduced_shape(shape, axis)
    x = rng.normal(0, 1, shape).astype(np.float32)
    fill = rng.integers(0, min(n, 100), rows)
    count = fill.size
    for value in boundaries(dtype, n):
        for place in {0, count // 2, count - 1}:
            plain = fill.copy()
            index = np.unravel_index(place, rows)
            plain[index] = value if 0 <= value < n else 0
            target = plain.astype(dtype)
            target[index] = value
            for k in (k for k in LOSSES if "classes" in k.name):
                beside = k.beside(rng, x, axis)[1:]
                for given in (target, swapped(target)):
                    label = f"{k} {given.dtype} {value} at {index} of {rows}, n={n}"
                    out = np.full(shape, 7, np.float32)
                    keywords = {"out": out} if k.accepts("out") else {}
                    ran += 1
                    if 0 <= value < n:
                        want = k.bits(x, plain, *beside, axis=axis)
                        got = [np.asarray(r).tobytes() for r in k(x, given, *beside, axis=axis, **keywords)]
                        assert got == want, label
                        continue
                    with pytest.raises(IndexError) as caught:
                        k(x, given, *beside, axis=axis, **keywords)
                    assert (out == 7).all(), f"{label}: out was written"
                    named = [int(number) for number in re.findall(r"-?\d+", str(caught.value))]
                    for number in (*index, value, n):
                        assert number in named, f"{label}: {caught.value}"
    assert ran >= 24
