"""Hazard: the axis. Integers, tuples in any order, None, (), duplicates, out of bounds."""

import itertools

import numpy as np
import pytest

from catalogue import FUNCTIONS, ROWS, one_row_at_a_time
from memory import axes_of
from ulps import FLOAT32, assert_same_bits


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_every_axis(f, rng):
    """Each name of each set of axes gives its rows, in C order of the index, whatever the tuple's order."""
    for shape in [(7,), (3, 5), (2, 3, 4), (3, 1, 2, 4)]:
        for axis in axes_of(len(shape)):
            arrays = f.sample(rng, shape, FLOAT32, axis)
            want = one_row_at_a_time(f, arrays, axis)
            assert_same_bits(f(*arrays, axis=axis), want, f"{f} {shape} axis={axis}")
            if isinstance(axis, tuple):
                for signs in itertools.product([0, len(shape)], repeat=len(axis)):
                    named = tuple(a - s for a, s in zip(axis, signs, strict=True))
                    assert_same_bits(f(*arrays, axis=named), want, f"{f} {shape} axis={named}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_defaults_and_positions(f, rng):
    """The documented default; axis by position and by keyword; NumPy integers and things with __index__."""

    class Index:
        def __index__(self):
            return 1

    shape = (4, 5, 6)
    arrays = f.sample(rng, shape, FLOAT32, f.default_axis)
    assert_same_bits(f(*arrays), f(*arrays, axis=f.default_axis), str(f))
    for axis in (1, (0, 2), None):
        arrays = f.sample(rng, shape, FLOAT32, axis)
        assert_same_bits(f(*arrays, axis), f(*arrays, axis=axis), f"{f} {axis}")
    arrays = f.sample(rng, shape, FLOAT32, 1)
    want = f(*arrays, axis=1)
    for axis in (np.int64(1), np.uint8(1), np.int8(-2), Index(), (1,), (np.int32(1),), (Index(),), np.array(1)):
        assert_same_bits(f(*arrays, axis=axis), want, f"{f} {axis!r}")
    arrays = f.sample(rng, shape, FLOAT32, None)
    assert_same_bits(f(*arrays, axis=None), f(*arrays, axis=(0, 1, 2)), str(f))


@pytest.mark.parametrize("f", [f for f in FUNCTIONS if f.output == ROWS and f.accepts("keepdims")], ids=str)
def test_keepdims(f, rng):
    """Reduced axes stay with length 1, in results and in out."""
    for shape in [(7,), (3, 5), (2, 3, 4), (2, 0, 3), ()]:
        arrays = f.sample(rng, shape, FLOAT32)
        for axis in axes_of(len(shape)):
            plain = f(*arrays, axis=axis)
            kept = f(*arrays, axis=axis, keepdims=True)
            axes = range(len(shape)) if axis is None else [a % len(shape) for a in np.atleast_1d(axis).astype(int)]
            want = tuple(1 if a in axes else n for a, n in enumerate(shape))
            assert np.shape(kept) == want, f"{f} {shape} axis={axis}: {np.shape(kept)}"
            assert_same_bits(np.reshape(kept, np.shape(plain)), plain, f"{f} {shape} axis={axis}")
            assert_same_bits(f(*arrays, axis=axis, keepdims=False), plain, f"{f} {shape} axis={axis}")
            out = np.empty(want, np.float32)
            assert f(*arrays, axis=axis, keepdims=True, out=out) is out
            assert_same_bits(out, kept, f"{f} {shape} axis={axis}")
            if want != np.shape(plain):
                with pytest.raises(ValueError, match="out"):
                    f(*arrays, axis=axis, out=out)


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_out_of_bounds(f, rng):
    """NumPy's AxisError, in NumPy's words, alone or in a tuple."""
    for ndim in (1, 2, 4):
        arrays = f.sample(rng, (2,) * ndim, FLOAT32)
        for axis in (ndim, ndim + 1, -ndim - 1, 2**31, -(2**40)):
            for given in (axis, (0, axis), (axis, axis)):
                with pytest.raises(ValueError) as caught:  # noqa: PT011 the message is compared below
                    f(*arrays, axis=given)
                assert type(caught.value) is np.exceptions.AxisError, f"{f} axis={given}: {caught.value!r}"
                assert str(caught.value) == f"axis {axis} is out of bounds for array of dimension {ndim}"
    for axis in (1, -2):
        with pytest.raises(np.exceptions.AxisError, match=f"axis {axis} is out of bounds for array of dimension 0"):
            f(*[1.0] * len(f.names), axis=axis)


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_duplicates(f, rng):
    """A ValueError that names the argument."""
    arrays = f.sample(rng, (2, 3, 4), FLOAT32)
    for axis in [(0, 0), (0, -3), (1, 2, 1), (-1, 2), (0, 1, 2, 0)]:
        with pytest.raises(ValueError, match=r"duplicate.*axis|axis.*duplicate") as caught:
            f(*arrays, axis=axis)
        assert type(caught.value) is ValueError


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_not_an_axis(f, rng):
    """Things that are no integer: TypeError naming the argument and what came."""
    arrays = f.sample(rng, (2, 3), FLOAT32)
    for axis, came in [(1.0, "float"), ("0", "str"), ((0, 1.0), "float"), ({0}, "set"), (1j, "complex")]:
        with pytest.raises(TypeError, match="axis") as caught:
            f(*arrays, axis=axis)
        assert came in str(caught.value), f"{f} axis={axis!r}: {caught.value}"
    with pytest.raises((TypeError, ValueError, OverflowError)):
        f(*arrays, axis=10**30)
