"""Hazard: two arrays that differ in dtype, shape or layout. They meet as in NumPy, or the message names both."""

import itertools

import numpy as np
import pytest

from catalogue import OF_TWO, one_row_at_a_time
from memory import LAYOUTS
from ulps import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FLOATS, assert_same_bits

EXACT = tuple(np.dtype(code) for code in ("i1", "u1", "i2", "i4", "u4", "i8", "u8", "?"))
PER_ROW = "logsumexp_vjp"  # its second array has one number for each row
ALIKE = tuple(f for f in OF_TWO if f.name != PER_ROW)  # both arrays have one shape


@pytest.mark.parametrize("f", OF_TWO, ids=str)
def test_mixed_dtypes(f, rng):
    """numpy.result_type decides, exact numbers count as float64; what it refuses is a TypeError that names both."""
    x, b = f.sample(rng, (4, 9), FLOAT64)
    for first, second in itertools.product(FLOATS + EXACT, repeat=2):
        arrays = [np.abs(x * 3).astype(first), np.abs(b * 3).astype(second)]
        try:
            together = np.result_type(first, second)
        except TypeError:
            with pytest.raises(TypeError) as caught:
                f(*arrays, axis=-1)
            assert first.name in str(caught.value) and second.name in str(caught.value), f"{f}: {caught.value}"
            continue
        together = together if together in FLOATS else FLOAT64
        want = f(*(a.astype(together) for a in arrays), axis=-1)
        for layout in ("contiguous", "byte-swapped", "strided 2", "fortran"):
            got = f(*map(LAYOUTS[layout], arrays), axis=-1)
            assert_same_bits(got, want, f"{f} {first} with {second}, {layout}")
        out = np.empty_like(want)
        assert f(*arrays, axis=-1, out=out) is out
        assert_same_bits(out, want, f"{f} {first} with {second} into out")
    with pytest.raises(TypeError) as caught:
        f(x.astype(FLOAT16), b.astype(BFLOAT16), axis=-1)
    assert "float16" in str(caught.value) and "bfloat16" in str(caught.value), f"{f}: {caught.value}"


@pytest.mark.parametrize("f", ALIKE, ids=str)
def test_broadcasting(f, rng):
    """Either array grows to the other's shape, along the class axis too; mask and temperature to the result's."""
    full = (3, 4, 5)
    shapes = [(), (5,), (1,), (4, 1), (1, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), full]
    for first, second in [*((s, full) for s in shapes), *((full, s) for s in shapes), ((3, 1, 5), (4, 1))]:
        x, b = rng.normal(0, 1, first).astype(FLOAT32), rng.normal(0, 1, second).astype(FLOAT32)
        for axis in (-1, 0, 1, (0, 2), None):
            arrays = [np.broadcast_to(a, full).copy() for a in (x, b)]
            mask = rng.random((4, 1)) < 0.6
            want = one_row_at_a_time(f, arrays, axis, where=mask)
            assert_same_bits(f(x, b, axis=axis, where=mask), want, f"{f} {first} with {second} axis={axis}")
            if f.accepts("temperature") and axis == -1:
                t = rng.uniform(0.5, 2, (3, 4))
                want = one_row_at_a_time(f, arrays, axis, temperature=t)
                assert_same_bits(f(x, b, axis=axis, temperature=t), want, f"{f} {first} with {second} T")
    assert f(np.ones((2, 0)), np.ones((2, 1)), axis=0).shape == f.result_shape((2, 0), 0)


@pytest.mark.parametrize("f", ALIKE, ids=str)
def test_shapes_that_do_not_fit(f):
    """A ValueError that names both arguments and both shapes; an axis is one of the result's."""
    for first, second in [((3, 4), (4, 3)), ((3, 4), (3,)), ((3, 4), (2, 3, 5)), ((0,), (2,)), ((2, 3), (0, 3))]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 the message is looked at below
            f(np.zeros(first), np.zeros(second), axis=-1)
        assert type(caught.value) is ValueError
        for word in (str(first), str(second), f.names[1]):
            assert word in str(caught.value), f"{f}: {word!r} is not in {caught.value}"
    with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds for array of dimension 2"):
        f(np.zeros(4), np.zeros((3, 4)), axis=2)
    assert f(np.zeros(4), np.zeros((3, 4)), axis=-2).shape == f.result_shape((3, 4), 0)


def test_one_number_per_row(rng):
    """The g of logsumexp_vjp: the reduced shape, reduced axes kept or not; else the message names both shapes."""
    (f,) = (f for f in OF_TWO if f.name == PER_ROW)
    for shape, axis in [
        ((3, 4, 5), -1),
        ((3, 4, 5), 1),
        ((3, 4, 5), (0, 2)),
        ((3, 4, 5), None),
        ((7,), 0),
        ((3, 3), 0),
    ]:
        x, g = f.sample(rng, shape, FLOAT32, axis)
        want = one_row_at_a_time(f, [x, g], axis)
        axes = range(len(shape)) if axis is None else np.atleast_1d(axis) % len(shape)
        kept = g.reshape([1 if a in axes else n for a, n in enumerate(shape)])
        for name, layout in LAYOUTS.items():
            assert_same_bits(f(x, layout(g), axis=axis), want, f"{shape} axis={axis} {name}")
            assert_same_bits(f(x, layout(kept), axis=axis), want, f"{shape} axis={axis} {name}, axes kept")
    x = np.zeros((3, 4))
    for bad in [(4,), (3, 4), (2,), (0,), (3, 1, 1)]:
        with pytest.raises(ValueError, match=r"\bg\b") as caught:
            f(x, np.zeros(bad), axis=-1)
        assert str(bad) in str(caught.value) and "(3,)" in str(caught.value), str(caught.value)


@pytest.mark.parametrize("f", OF_TWO, ids=str)
def test_each_layout_beside_another(f, rng):
    """No layout of the one disturbs any layout of the other."""
    for shape, axis in [((3, 7, 5), -1), ((3, 7, 5), 1), ((40, 9), 0), ((2, 300), -1)]:
        x, b = f.sample(rng, shape, FLOAT32, axis)
        want = one_row_at_a_time(f, [x, b], axis)
        for (first, lay), (second, other) in itertools.product(LAYOUTS.items(), repeat=2):
            assert_same_bits(f(lay(x), other(b), axis=axis), want, f"{f} {shape} axis={axis}, {first} with {second}")


@pytest.mark.parametrize("f", ALIKE, ids=str)
def test_the_same_array_twice(f, rng):
    """Both arguments may be one object, and out as well."""
    for dtype in FLOATS:
        x = rng.normal(0, 1, (6, 33)).astype(dtype)
        for axis in (-1, 0):
            want = f(x.copy(), x.copy(), axis=axis)
            assert_same_bits(f(x, x, axis=axis), want, f"{f} {dtype} axis={axis}")
            if f.result_shape(x.shape, axis) == x.shape:
                y = x.copy()
                assert f(y, y, axis=axis, out=y) is y
                assert_same_bits(y, want, f"{f} {dtype} axis={axis} in place")
