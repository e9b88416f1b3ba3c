"""Hazard: arguments that are views of one buffer. The result is that of copies, and nothing but `out` changes.

test_out.py does it for the functions of the catalogue; here are the losses and the Jacobians, targets and weights in
the same buffer too.
"""

import numpy as np
import pytest

from catalogue import FUNCTIONS, reduced_shape
from effort import cases
from kinds import LOSSES, WITH_OUT
from test_out import assert_only_out_changed, views
from ulps import FLOATS

OTHERS = tuple(k for k in WITH_OUT if k.name not in {f.name for f in FUNCTIONS})
EACH = -(-cases(10_000, 100_000) // (len(OTHERS) * len(FLOATS)))
UINT8 = np.dtype("u1")


def targets(rng, view, shape, axis, start):
    """Draw a view for class indices, and write some there: whoever shares the memory sees them too."""
    target, _ = view(UINT8, distinct=True, shape=reduced_shape(shape, axis), near=start)
    target[...] = rng.integers(0, shape[axis], target.shape)
    return target


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("k", OTHERS, ids=str)
def test_random_views(k, dtype, rng):
    """Random views of one buffer, many times: the results of copies; bytes that are not out's stay."""
    overlapping = 0
    for case in range(EACH):
        room = rng.normal(0, 3, 400 // dtype.itemsize + 150).astype(dtype).view(np.uint8)
        shape, view = views(rng, room, dtype, dtype.itemsize)
        axis = int(rng.integers(-len(shape), len(shape)))
        x, start = view(dtype, distinct=False)
        if room.size < np.prod(k.out_shape(shape, axis)) * dtype.itemsize:
            continue
        out, _ = view(dtype, distinct=True, shape=k.out_shape(shape, axis), near=start)
        beside = {}
        for name, array in zip(k.names[1:], k.beside(rng, x, axis), strict=True):
            if array.dtype.kind == "i":
                beside[name] = targets(rng, view, shape, axis, start)
            else:
                beside[name], _ = view(dtype, distinct=False, near=start)
        keywords = {}
        if k in LOSSES and rng.random() < 0.3:
            keywords["weight"], _ = view(dtype, distinct=False, shape=(shape[axis],), near=start)
        if k.accepts("where") and rng.random() < 0.3:
            keywords["where"], _ = view(np.dtype(np.bool_), distinct=False, near=start)
        shared = [x, *beside.values(), *keywords.values()]
        overlapping += any(np.may_share_memory(a, out) for a in shared)
        label = (
            f"{k} {dtype} case {case} axis={axis}: x {x.shape} {x.strides} at {start}, out {out.strides}, "
            f"{ {n: a.strides for n, a in (beside | keywords).items()} }"
        )
        before = room.copy()
        copies = {n: a.copy() for n, a in keywords.items() if n != "where"}
        if "where" in keywords:
            copies["where"] = keywords["where"].view(np.uint8) != 0
        want = k.bits(x.copy(), *(a.copy() for a in beside.values()), axis=axis, **copies)
        assert np.array_equal(room, before), f"{label}: an input was modified"
        got = k(x, *beside.values(), axis=axis, out=out, **keywords)
        assert got[-1] is out, label
        assert [np.asarray(r).tobytes() for r in got] == want, label
        assert_only_out_changed(before, room, out, label)
    assert overlapping > EACH / 3, f"only {overlapping} of {EACH} shared memory"
