"""Hazard: memory that is not C-contiguous. The result must have the bits that each row has alone in fresh memory."""

import itertools

import numpy as np
import pytest

from catalogue import FUNCTIONS, one_row_at_a_time, reduced_shape
from memory import LAYOUTS, axes_of, swapped
from ulps import FLOAT32, FLOATS, assert_same_bits

OTHERS = tuple(np.dtype(code) for code in ("i1", "u2", "i4", "u8", "?"))


def draw(f, rng, shape, dtype, axis):
    """Draw arguments; integers and bool for those dtypes."""
    arrays = f.sample(rng, shape, dtype if dtype in FLOATS else FLOAT32, axis)
    if dtype in OTHERS:
        return tuple(rng.integers(0, 2 if dtype.kind == "b" else 90, a.shape).astype(dtype) for a in arrays)
    return arrays


@pytest.mark.parametrize("dtype", FLOATS + OTHERS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_layouts_and_axes(f, dtype, rng):
    """Every layout times every way to name the axes of 1, 2, 3 and 4 dimensions."""
    for shape in [(37,), (5, 18), (3, 4, 5), (2, 3, 2, 3)]:
        for axis in axes_of(len(shape)):
            arrays = draw(f, rng, shape, dtype, axis)
            want = one_row_at_a_time(f, arrays, axis)
            for name, layout in LAYOUTS.items():
                got = f(*map(layout, arrays), axis=axis)
                label = f"{f} {dtype} {shape} axis={axis} {name}"
                assert type(got) is np.ndarray or np.ndim(want) == 0, f"{label}: {type(got)}"
                assert_same_bits(got, want, label)
                if np.ndim(got):
                    assert got.flags.c_contiguous and got.flags.owndata and got.flags.writeable, label


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_bigger_arrays(f, dtype, rng):
    """Arrays that reach other regimes: long rows, many short ones, wide columns, each in every layout."""
    for shape, axis in [((3, 5000), -1), ((700, 6), -1), ((130, 70), 0), ((9, 40, 33), 1), ((20, 7, 11), (0, 2))]:
        arrays = f.sample(rng, shape, dtype, axis)
        want = f(*arrays, axis=axis)
        for name, layout in LAYOUTS.items():
            assert_same_bits(f(*map(layout, arrays), axis=axis), want, f"{f} {dtype} {shape} axis={axis} {name}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_zero_strides(f, dtype, rng):
    """Broadcast arrays: stride 0 on any set of axes, the row's own included."""
    for kept in itertools.product([True, False], repeat=3):
        shape = (3, 17, 4)
        small = rng.normal(0, 3, [n if k else 1 for n, k in zip(shape, kept, strict=True)]).astype(dtype)
        whole = np.broadcast_to(small, shape)
        for x, axis in itertools.product((whole, whole[:, ::-2, :]), (0, 1, 2, (0, 2), None, ())):
            x, *beside = f.raw(rng, x, axis)  # noqa: PLW2901 it is x itself
            want = one_row_at_a_time(f, [x, *beside], axis)
            assert_same_bits(f(x, *beside, axis=axis), want, f"{f} {dtype} kept={kept} {x.shape} axis={axis}")
            assert_same_bits(f(x.copy(), *beside, axis=axis), want, f"{f} {dtype} kept={kept} {x.shape} axis={axis}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_overlapping_windows(f, rng):
    """An input that overlaps itself with strides of less than a row (sliding windows)."""
    base = rng.normal(0, 3, 200).astype(np.float32)
    for window in (1, 3, 16, 50):
        x = np.lib.stride_tricks.sliding_window_view(base, window)
        for axis in (-1, 0):
            x, *beside = f.raw(rng, x, axis)
            want = f(x.copy(), *beside, axis=axis)
            assert_same_bits(f(x, *beside, axis=axis), want, f"{f} window {window}, axis {axis}")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_random_strides(f, dtype, rng):
    """Random shapes, strides, signs and starting bytes within one buffer: 400 cases."""
    room = rng.integers(0, 256, 30_000, np.uint8)
    pool = np.ndarray((room.size // dtype.itemsize,), dtype, buffer=room)
    pool[:] = rng.normal(0, 3, pool.size).astype(dtype)
    for case in range(400):
        ndim = int(rng.integers(1, 5))
        shape = rng.integers(1, [0, 60, 18, 8, 5][ndim], ndim)
        strides = rng.integers(-2 * dtype.itemsize, 2 * dtype.itemsize + 1, ndim) * rng.integers(1, 9, ndim)
        if rng.random() < 0.5:
            strides -= strides % dtype.itemsize
        low = int(np.minimum(strides * (shape - 1), 0).sum())
        high = int(np.maximum(strides * (shape - 1), 0).sum())
        offset = int(rng.integers(-low, room.size - high - dtype.itemsize))
        x = np.ndarray(tuple(shape), dtype, buffer=room, offset=offset, strides=tuple(strides))
        axis = int(rng.integers(-ndim, ndim)) if rng.random() < 0.7 else tuple(range(int(rng.integers(0, ndim + 1))))
        label = f"{f} {dtype} case {case}: shape {shape}, strides {strides}, axis {axis}"
        x, *beside = f.raw(rng, x, axis)
        assert_same_bits(f(x, *beside, axis=axis), f(x.copy(), *beside, axis=axis), label)


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_many_dimensions(f, rng):
    """As many dimensions as NumPy has: 64 (32 before NumPy 2)."""
    most = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
    shape = [1] * most
    shape[0], shape[20], shape[-1] = 2, 3, 5
    for axis in (0, 20, -1, most - 1, 7, (0, -1), (20,), None, (), tuple(range(most)), tuple(range(0, most, 2))):
        arrays = f.sample(rng, shape, FLOAT32, axis)
        assert_same_bits(f(*arrays, axis=axis), one_row_at_a_time(f, arrays, axis), f"{f} axis={axis}")
        arrays = [a.transpose() for a in f.sample(rng, shape, FLOAT32, axis)]
        x, *beside = f.raw(rng, arrays[0], axis)
        assert_same_bits(f(x, *beside, axis=axis), f(x.copy(), *beside, axis=axis), f"{f} transposed, {axis}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_no_elements_but_huge_dimensions(f):
    """Shapes whose product without the zero is beyond any memory."""
    huge = 2**59
    for shape in [(0, huge), (huge, 0), (0, 2**30, 2**29)]:
        x = np.empty(shape, np.float32)
        for axis in (*range(len(shape)), None):
            if f.name == "logsumexp_vjp" and np.prod(reduced_shape(shape, axis), dtype=object) > 0:
                continue  # a cotangent of that many numbers, of which it makes a copy
            want = f.result_shape(shape, axis)
            per_row = np.broadcast_to(np.float32(0), reduced_shape(shape, axis))
            arrays = (x, per_row if f.name == "logsumexp_vjp" else x)[: len(f.names)]
            if np.prod(want, dtype=object) == 0:
                assert f(*arrays, axis=axis).shape == want, f"{f} {shape} axis={axis}"
            elif axis is None:
                assert f(*arrays, axis=axis) == f.nothing


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_byte_order(f, dtype, rng):
    """A byte-swapped array gives a native result, NaN and infinities included."""
    x = rng.normal(0, 3, (6, 30)).astype(dtype)
    x[1, 3], x[2, 4], x[3, 5] = np.nan, np.inf, -np.inf
    arrays = f.arguments(rng, x)
    others = [swapped(a) for a in arrays]
    assert not others[0].dtype.isnative
    got = f(*others, axis=-1)
    assert got.dtype == dtype and got.dtype.isnative
    assert_same_bits(got, f(*arrays, axis=-1), f"{f} {dtype}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS + OTHERS, ids=str)
def test_inputs_are_not_modified(f, dtype, rng):
    """Byte for byte, the gaps between strided elements included."""
    for (name, layout), axis in itertools.product(LAYOUTS.items(), (-1, 0)):
        arrays = [layout(a) for a in draw(f, rng, (4, 21), dtype, axis)]
        owners = [a if a.base is None or not isinstance(a.base, np.ndarray) else a.base for a in arrays]
        before = [o.tobytes() for o in owners], [a.tobytes() for a in arrays]
        f(*arrays, axis=axis)
        after = [o.tobytes() for o in owners], [a.tobytes() for a in arrays]
        assert after == before, f"{f} {dtype} {name}"


@pytest.mark.slow
def test_two_to_the_33_elements():
    """More elements than 32 bits count: a row of 2**33 zeros in 4 bytes of memory."""
    logsumexp = next(f for f in FUNCTIONS if f.name == "logsumexp")
    x = np.broadcast_to(np.float32(0), (2**33,))
    assert logsumexp(x) == np.float32(33 * np.log(2))
