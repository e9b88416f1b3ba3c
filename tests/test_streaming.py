"""Hazard: results that no cache could hold go past the caches, line by line. The bits are those of small calls, which
keep theirs in the caches; bytes beside the rows stay, wherever in a line the rows begin.
"""

import numpy as np
import pytest

import softmax_rs
from kinds import WITH_OUT
from ulps import FLOAT32, FLOAT64, assert_same_bits

STREAMED = 56 << 20  # bytes of all arrays of a call, as drive/mod.rs says
# Every way to walk an array from which results are streamed: shape and axis; so small a call that none is; the dtype.
WALKS = {
    "rows": ((7400, 1003), 1, 37, FLOAT32),
    "rows, float64": ((3700, 1003), 1, 37, FLOAT64),
    "rows of 8 KiB": ((3600, 2051), 1, 37, FLOAT32),
    "rows of 1 KiB": ((28_000, 267), 1, 140, FLOAT32),
    "rows of 7 lines": ((73_003, 103), 1, 420, FLOAT32),
    "rows of 6 lines": ((84_007, 89), 1, 420, FLOAT32),
    "rows of 4 lines": ((140_003, 53), 1, 700, FLOAT32),
    "rows of 6 lines, float64": ((82_005, 45), 1, 410, FLOAT64),
    "columns": ((1003, 7400), 0, 200, FLOAT32),
    "long rows": ((28, 270_001), 1, 1, FLOAT32),
}
# Bytes from an aligned address to the result, and elements from the end of a row to the next: in the result, and in
# what is read. (At an odd address nothing is streamed.)
PLACES = ((0, 0, 0), (4, 0, 0), (1, 0, 0), (36, 5, 0), (24, 16, 0), (24, 0, 3), (4, 2, 2))


def derivative_or_result(k, arrays, axis, **keywords):
    """Return the array that `out` is for."""
    if k.accepts("reduction"):
        keywords["reduction"] = "sum"  # a row's derivative is its own then
    return k(*arrays, axis=axis, **keywords)[-1]


def spread(a, gap):
    """Return the array with `gap` elements between its rows."""
    if gap == 0 or a.ndim == 1:
        return a
    wide = np.empty((a.shape[0], a.shape[1] + gap), a.dtype)
    wide[:, : a.shape[1]] = a
    return wide[:, : a.shape[1]]


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("k", [k for k in WITH_OUT if k.out_shape((2, 3), 1) == (2, 3)], ids=str)
def test_streamed(k, walk, rng):
    """The bits of small calls; in any place, on 1, 2 and 5 threads; special rows among the others."""
    shape, axis, part, dtype = WALKS[walk]
    x = rng.normal(0, 3, shape).astype(dtype)
    for row, value in ((3, np.nan), (5, np.inf), (6, -np.inf), (7, 100.0), (9, 1e30), (12, -1e30)):
        x[(row, 2) if axis else (2, row)] = value
    arrays = k.arrays(rng, x, axis)
    for a in arrays[1:]:
        if a.dtype.kind == "i":
            a[[8, 14, 15]] = -100  # to be ignored
    assert 2 * x.nbytes > STREAMED, "the case is no case"
    rows = shape[1 - axis]
    pieces = []
    for start in range(0, rows, part):
        of = slice(start, start + part)
        each = [a[of] if axis or a.ndim == 1 else a[:, of] for a in arrays]
        pieces.append(derivative_or_result(k, each, axis))
    want = np.concatenate(pieces, axis=1 - axis)
    for i, (offset, gap, apart) in enumerate(PLACES):
        wide = (shape[0], shape[1] + gap)
        room = np.full(np.prod(wide) * dtype.itemsize + 192, 0xA5, np.uint8)
        start = -room.ctypes.data % 64 + offset
        whole = np.ndarray(wide, dtype, room, start)
        out = whole[:, : shape[1]]
        with softmax_rs.threads((1, 2, 5)[i % 3]):
            derivative_or_result(k, [spread(a, apart) for a in arrays], axis, out=out)
        label = f"{k} {walk}, {offset} bytes off, {gap} between rows, {apart} between those of the arrays"
        assert_same_bits(out, want, label)
        out.view(f"u{dtype.itemsize}")[...] = int.from_bytes(b"\xa5" * dtype.itemsize)
        assert (room == 0xA5).all(), f"{label}: bytes beside the rows were written"
    for i, a in enumerate(arrays):
        if a.shape == shape:
            given = [b.copy() for b in arrays]
            derivative_or_result(k, given, axis, out=given[i])
            assert_same_bits(given[i], want, f"{k} {walk}, in place of array {i}")
