"""Hazard: masks. What is masked is not read, what is not masked is right, and any boolean that broadcasts will do."""

import numpy as np
import pytest

from catalogue import ELEMENTS, WITH_WHERE, one_row_at_a_time
from memory import LAYOUTS
from ulps import FLOAT32, FLOATS, assert_same_bits

MASK_LAYOUTS = {k: v for k, v in LAYOUTS.items() if k != "subclass"}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_WHERE, ids=str)
def test_accuracy(f, dtype, rng):
    """Every length, masks of every density, against the oracle."""
    for n in [*range(1, 40), 64, 65, 100, 257]:
        arrays = f.sample(rng, (12, n), dtype)
        mask = rng.random((12, n)) < np.linspace(0, 1, 12)[:, None]
        f.check(f(*arrays, axis=-1, where=mask), dtype, *arrays, where=mask, label="where")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_WHERE, ids=str)
def test_masked_elements_are_not_read(f, dtype, rng):
    """Whatever stands behind the mask, the bits are the same."""
    for n in (1, 3, 16, 50):
        for axis in (-1, 0, None):
            arrays = f.sample(rng, (9, n), dtype, axis)
            mask = rng.random((9, n)) < 0.5
            want = f(*arrays, axis=axis, where=mask)
            for garbage in (np.nan, np.inf, -np.inf, 1e4, -1e4):
                dirty = [np.where(mask, a, np.array(garbage, dtype)) if a.shape == mask.shape else a for a in arrays]
                assert_same_bits(f(*dirty, axis=axis, where=mask), want, f"{f} {dtype} n={n} axis={axis} {garbage}")


@pytest.mark.parametrize("f", WITH_WHERE, ids=str)
def test_layouts_of_mask_and_logits(f, rng):
    """Each layout of the mask beside each of a few of the logits, along every axis."""
    shape = (3, 7, 5)
    mask = rng.random(shape) < 0.6
    for axis in (0, 1, 2, (0, 2), (2, 1), None, ()):
        arrays = f.sample(rng, shape, FLOAT32, axis)
        want = one_row_at_a_time(f, arrays, axis, where=mask)
        for name, layout in MASK_LAYOUTS.items():
            for other in ("contiguous", "fortran", "reversed", "misaligned 1", "byte-swapped", name):
                got = f(*map(LAYOUTS[other], arrays), axis=axis, where=layout(mask))
                assert_same_bits(got, want, f"{f} axis={axis}, mask {name}, logits {other}")


@pytest.mark.parametrize("f", WITH_WHERE, ids=str)
def test_broadcasting(f, rng):
    """Every shape that broadcasts to the logits, scalars, nested lists, and bytes that are neither 0 nor 1."""
    shape = (3, 4, 5)
    for small in [(), (1,), (5,), (4, 1), (4, 5), (1, 4, 1), (3, 1, 1), (3, 1, 5), (3, 4, 5)]:
        mask = rng.random(small) < 0.5
        for axis in (-1, 0, (0, 1), None):
            arrays = f.sample(rng, shape, FLOAT32, axis)
            want = one_row_at_a_time(f, arrays, axis, where=mask)
            for given in (mask, mask.tolist(), np.broadcast_to(mask, shape)):
                assert_same_bits(f(*arrays, axis=axis, where=given), want, f"{f} mask {small} axis={axis}")
    arrays = f.sample(rng, shape, FLOAT32)
    for given in (True, np.True_, np.array(True)):
        assert_same_bits(f(*arrays, axis=-1, where=given), f(*arrays, axis=-1), f"{f} where={given!r}")
    odd = rng.integers(0, 3, shape).astype(np.uint8) * 100
    want = f(*arrays, axis=-1, where=odd != 0)
    assert_same_bits(f(*arrays, axis=-1, where=odd.view(bool)), want, f"{f} bytes beyond 1")


@pytest.mark.parametrize("f", WITH_WHERE, ids=str)
def test_refused_masks(f, rng):
    """Not boolean: TypeError. Not broadcastable to the logits: ValueError. Both name the argument and what came."""
    arrays = f.sample(rng, (3, 4), FLOAT32)
    for mask, came in [
        (np.ones((3, 4), int), "int"),
        (1, "int"),
        ([0, 1, 1, 0], "int"),
        (1.0, "float"),
        ("yes", "str|U3"),
    ]:
        with pytest.raises(TypeError, match=r"where.*bool|bool.*where") as caught:
            f(*arrays, axis=-1, where=mask)
        assert any(word in str(caught.value) for word in came.split("|")), f"{f} where={mask!r}: {caught.value}"
    for shape in [(3,), (4, 3), (2, 4), (1, 3, 4), (0,), (3, 4, 1)]:
        with pytest.raises(ValueError, match="where") as caught:
            f(*arrays, axis=-1, where=np.ones(shape, bool))
        for word in (str(shape), "(3, 4)"):
            assert word in str(caught.value), f"{f} where of {shape}: {caught.value}"


@pytest.mark.parametrize("f", [f for f in WITH_WHERE if f.output == ELEMENTS], ids=str)
def test_undefined_rows_keep_their_mask(f, rng):
    """A masked element is 0 (or -inf) also in a row that is otherwise NaN."""
    for dtype in FLOATS:
        for bad in (np.nan, np.inf):
            for n in (2, 16, 33):
                x = np.zeros((n, n), dtype)
                x[np.arange(n), np.arange(n)] = bad
                mask = np.ones((n, n), bool)
                mask[np.arange(n), (np.arange(n) + 1) % n] = False
                got = f(*f.arguments(rng, x), axis=-1, where=mask).astype(float)
                assert (got[~mask] == f.masked).all(), f"{f} {dtype} {bad}"
                assert np.isnan(got[mask]).all(), f"{f} {dtype} {bad}"
