"""Hazard: out=. In place, overlapping, strided, refused; bytes that belong to nobody must stay as they were."""

import itertools
import re

import numpy as np
import pytest

from catalogue import ELEMENTS, WITH_OUT, WITH_TEMPERATURE, WITH_WHERE
from effort import cases
from memory import LAYOUTS, Subclass, axes_of, fill_of, overlaps_itself, swapped
from ulps import FLOAT16, FLOAT32, FLOAT64, FLOATS, assert_same_bits

IN_ELEMENTS = tuple(f for f in WITH_OUT if f.output == ELEMENTS)
WRITEABLE = {name: layout for name, layout in LAYOUTS.items() if name != "read-only" and "byte-swapped" not in name}


def owner(array):
    """Return the array that owns the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def assert_only_out_changed(before, whole, out, label):
    """Compare the owner's bytes with those from before the call, the elements of `out` left out."""
    now = np.frombuffer(whole.tobytes("A"), np.uint8)
    mine = np.zeros(len(now), bool)
    if out.size:
        start = out.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        at = start + sum(
            (np.arange(n) * s).reshape([-1 if a == d else 1 for a in range(out.ndim)])
            for d, (n, s) in enumerate(zip(out.shape, out.strides, strict=True))
        )
        for byte in range(out.itemsize):
            mine[np.asarray(at).ravel() + byte] = True
    assert np.array_equal(now[~mine], before[~mine]), f"{label}: bytes outside out were written"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_OUT, ids=str)
def test_every_layout_of_out(f, dtype, rng):
    """The very object comes back, with the bits of a fresh result, and the gaps (canaries) are untouched."""
    for shape in [(41,), (5, 18), (3, 4, 5)]:
        for axis in (*range(len(shape)), None, (), tuple(range(len(shape)))[::2]):
            arrays = f.sample(rng, shape, dtype, axis)
            want = np.asarray(f(*arrays, axis=axis))
            for name, layout in WRITEABLE.items():
                out = layout(np.full(want.shape, fill_of(dtype), dtype))
                whole = owner(out)
                before = np.frombuffer(whole.tobytes("A"), np.uint8)
                label = f"{f} {dtype} {shape} axis={axis} out {name}"
                assert f(*arrays, axis=axis, out=out) is out, label
                assert_same_bits(out, want, label)
                if whole.flags.forc:
                    assert_only_out_changed(before, whole, out, label)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", IN_ELEMENTS, ids=str)
def test_in_place(f, dtype, rng):
    """out is the input, either of them where there are two: same bits, in every layout, for every axis."""
    for shape, axes in [((37,), None), ((5, 18), None), ((3, 4, 5), None), ((3, 5000), (-1, 0)), ((300, 7), (-1, 0))]:
        for axis in axes or axes_of(len(shape)):
            arrays = f.sample(rng, shape, dtype, axis)
            want = f(*arrays, axis=axis)
            places = [i for i, a in enumerate(arrays) if a.shape == shape]
            for place, (name, layout) in itertools.product(places, WRITEABLE.items()):
                label = f"{f} {dtype} {shape} axis={axis} in {f.names[place]}, {name}"
                # The very object, or another view of its memory; the other array alike, or as no kernel can read it.
                for another, beside in ((False, layout), (True, layout), (False, LAYOUTS["byte-swapped"])):
                    given = [layout(a) if i == place else beside(a) for i, a in enumerate(arrays)]
                    out = given[place][...] if another else given[place]
                    assert f(*given, axis=axis, out=out) is out
                    assert_same_bits(given[place], want, f"{label}, another view: {another}, beside {beside}")
                    for other in {*range(len(arrays))} - {place}:
                        kept = given[other].astype(arrays[other].dtype)
                        assert_same_bits(kept, arrays[other], f"{label}: {f.names[other]} was written")


def views(rng, room, dtype, itemsize):
    """Draw a shape, and a function that draws views of that shape into `room`, on whole elements or on any byte."""
    ndim = int(rng.integers(1, 4))
    shape = rng.integers(1, [0, 40, 9, 5][ndim], ndim)
    grid = itemsize if rng.random() < 0.6 else 1

    def view(dtype, *, distinct, shape=shape, near=None):
        for _ in range(1000):
            order = rng.permutation(len(shape))
            strides = np.zeros(len(shape), int)
            step = dtype.itemsize * int(rng.integers(1, 3))
            for a in order:
                strides[a] = step * rng.choice([-1, 1])
                step *= int(shape[a])
            if rng.random() < 0.3:
                strides = rng.integers(-12, 13, len(shape)) * dtype.itemsize
            low = int(np.minimum(strides * (np.asarray(shape) - 1), 0).sum())
            high = int(np.maximum(strides * (np.asarray(shape) - 1), 0).sum()) + dtype.itemsize
            if high - low > room.size:
                continue
            start = rng.integers(-low, room.size - high + 1)
            if near is not None and rng.random() < 0.8:
                start = np.clip(near + rng.integers(-3, 4) * grid, -low, room.size - high)
            start -= start % grid if start - start % grid >= -low else 0
            v = np.ndarray(tuple(shape), dtype, buffer=room, offset=int(start), strides=tuple(strides))
            if not (distinct and overlaps_itself(v)):
                return v, int(start)
        raise AssertionError("no view found")

    return tuple(int(n) for n in shape), view


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_OUT, ids=str)
def test_partial_overlap(f, dtype, rng):
    """Random views of one buffer, many times: as if out were elsewhere, and nothing but out changes."""
    overlapping = 0
    for case in range(cases(1500, 5000) if len(f.names) == 1 else cases(500, 1700)):
        pool = rng.normal(0, 3, 400 // dtype.itemsize + 150).astype(dtype)
        room = pool.view(np.uint8)
        shape, view = views(rng, room, dtype, dtype.itemsize)
        x, start = view(dtype, distinct=False)
        axis = int(rng.integers(-len(shape), len(shape))) if rng.random() < 0.8 else None
        out, _ = view(dtype, distinct=True, shape=f.result_shape(shape, axis), near=start)
        x, *beside = f.raw(rng, x, axis)
        beside = [view(dtype, distinct=False, shape=b.shape, near=start)[0] for b in beside]
        keywords = {}
        if f.accepts("where") and rng.random() < 0.3:
            keywords["where"], _ = view(np.dtype(np.bool_), distinct=False, near=start)
            room[:] = np.where(rng.random(room.size) < 0.2, room & 1, room)
        overlapping += np.may_share_memory(x, out)
        label = f"{f} {dtype} case {case} axis={axis}: x {x.shape} {x.strides}, out {out.strides}, {list(keywords)}"
        before = room.copy()
        copies = [a.copy() for a in (x, *beside)]
        want = np.asarray(f(*copies, axis=axis, **{k: v.view(np.uint8).copy() != 0 for k, v in keywords.items()}))
        assert np.array_equal(room, before), f"{label}: the input was modified"
        got = f(x, *beside, axis=axis, out=out, **keywords)
        assert got is out
        assert_same_bits(got, want, label)
        assert_only_out_changed(before, room, out, label)
    assert overlapping > case / 3


@pytest.mark.parametrize("f", IN_ELEMENTS, ids=str)
def test_same_memory_but_another_dtype(f, rng):
    """The input's bytes seen as another dtype or byte order: overlap, not in place."""
    for dtype in (np.int64, np.uint64, ">f8", "<i8"):
        x = rng.integers(-5, 5, (6, 40)).astype(dtype)
        wide, *beside = f.raw(rng, x.astype(np.float64))
        want = f(wide, *beside, axis=-1)
        out = x.view(np.float64)
        assert f(x, *beside, axis=-1, out=out) is out
        assert_same_bits(out, want, f"{f} {dtype}")
    if not f.accepts("dtype"):
        return
    x = rng.normal(0, 3, (6, 40)).astype(np.float32)
    want = f(x.astype(np.float16), axis=-1)
    out = x.view(np.float16)[:, :40]
    assert_same_bits(f(x, axis=-1, out=out, dtype=np.float16), want, f"{f} float32 to float16")
    wide = rng.normal(0, 3, (6, 80)).astype(np.float32)
    want = f(wide[:, :40].astype(np.float64), axis=-1)
    out = wide.view(np.float64)
    assert_same_bits(f(wide[:, :40], axis=-1, out=out, dtype=np.float64), want, f"{f} float32 to float64")


@pytest.mark.parametrize("f", [f for f in IN_ELEMENTS if f in WITH_WHERE and f in WITH_TEMPERATURE], ids=str)
def test_out_over_where_and_temperature(f, rng):
    """The mask's or the temperatures' own memory as out."""
    for axis in (0, 1):
        x = rng.normal(0, 3, (8, 8))
        room = rng.random((8, 8)) + 0.5
        mask = room.view(np.bool_)[:, ::8]
        mask[...] = rng.random((8, 8)) < 0.7
        t = room[3]
        plain = {"where": mask.copy(), "temperature": t.copy()}
        arrays = f.arguments(rng, x, axis)
        want = f(*arrays, axis=axis, **plain)
        got = f(*arrays, axis=axis, where=mask, temperature=t, out=room)
        assert got is room
        assert_same_bits(got, want, f"{f} axis={axis}")


@pytest.mark.parametrize("f", WITH_OUT, ids=str)
def test_masks_and_specials_fill_out(f, rng):
    """Every element of out is written, also in masked, undefined and empty rows."""
    for dtype in FLOATS:
        x = np.zeros((5, 9), dtype)
        x[1], x[2, 3], x[3, 4] = -np.inf, np.nan, np.inf
        mask = np.ones((5, 9), bool)
        mask[0] = False
        mask[4, ::2] = False
        arrays = f.arguments(rng, x)
        want = f(*arrays, axis=-1, where=mask)
        out = np.full(want.shape, 7, dtype)
        assert_same_bits(f(*arrays, axis=-1, where=mask, out=out), want, f"{f} {dtype}")
        empty = f.arguments(rng, np.empty((2, 0), dtype))
        result = f(*empty, axis=-1)
        out = np.full(result.shape, 7, dtype)
        assert_same_bits(f(*empty, axis=-1, out=out), result, f"{f} {dtype} empty")


@pytest.mark.parametrize("f", WITH_OUT, ids=str)
def test_a_number_goes_into_a_0d_out(f, rng):
    """A 0-d result: out is a 0-d array and is returned as it is."""
    for x in (np.float32(2), np.array(2, np.float32), 2.0):
        dtype = np.asarray(x).dtype
        out = np.full((), 9, dtype)
        arrays = f.arguments(rng, np.asarray(x), None)
        assert f(*arrays, axis=None, out=out) is out
        assert out == f.one(2.0, *arrays[1:])


@pytest.mark.parametrize("f", WITH_OUT, ids=str)
def test_subclass_as_out(f, rng):
    """A subclass is an ndarray: the very object is filled and returned."""
    arrays = f.sample(rng, (4, 6), FLOAT64)
    want = f(*arrays, axis=-1)
    out = np.zeros(want.shape).view(Subclass)
    assert f(*arrays, axis=-1, out=out) is out
    assert_same_bits(out, want, str(f))


def refused(shape):
    """Yield (out, exception, words of the message) for a float32 result of this shape."""
    good = np.full(shape, 5, FLOAT32)
    locked = good.copy()
    locked.flags.writeable = False
    yield locked, ValueError, ("out", "read-only|writeable")
    yield np.broadcast_to(np.float32(5), shape), ValueError, ("out",)
    stuck = np.lib.stride_tricks.as_strided(good.copy(), shape, (0, *good.strides[1:]))
    yield stuck, ValueError, ("out", "overlap|stride")
    double = np.lib.stride_tricks.as_strided(np.full(good.size + 9, 5, FLOAT32), shape, (4,) * len(shape))
    if len(shape) > 1:
        yield double, ValueError, ("out", "overlap|stride")
    for other in [(*shape, 1), (1, *shape), shape[1:], (*shape[:-1], shape[-1] + 1), (*shape[:-1], 1), (0,)]:
        yield np.full(other, 5, FLOAT32), ValueError, ("out", "shape", *map(str, shape))
    for dtype in (FLOAT64, FLOAT16, np.dtype("i4"), np.dtype("u4"), np.dtype("c8"), np.dtype("O"), np.dtype("?")):
        yield np.full(shape, 1, dtype), TypeError, ("out", dtype.name, "float32")
    yield swapped(good), TypeError, ("out", "byte|native|>f4|<f4")
    for thing in ([0.0] * 6, (good,), 1.0, np.float32(1), "out", bytearray(24), memoryview(good.copy())):
        yield thing, TypeError, ("out", "ndarray|array")


@pytest.mark.parametrize("f", WITH_OUT, ids=str)
def test_refused(f, rng):
    """Each unusable out, its exception and message; no byte of it is written, nor of the input."""
    arrays = f.sample(rng, (4, 6, 5), FLOAT32)
    kept = [a.copy() for a in arrays]
    shape = f(*arrays, axis=-1).shape
    for out, exception, words in refused(shape):
        before = out.tobytes() if hasattr(out, "tobytes") else repr(out)
        described = f"{f} out={type(out).__name__} {getattr(out, 'dtype', '')} {getattr(out, 'shape', '')}"
        with pytest.raises((TypeError, ValueError)) as caught:
            f(*arrays, axis=-1, out=out)
        assert type(caught.value) is exception, f"{described}: {caught.value!r}"
        for word in words:
            assert re.search(word, str(caught.value)), f"{described}: {word!r} is not in {caught.value}"
        assert (out.tobytes() if hasattr(out, "tobytes") else repr(out)) == before, f"{described} was written to"
    for array, before in zip(arrays, kept, strict=True):
        assert_same_bits(array, before, str(f))


@pytest.mark.parametrize("f", WITH_OUT, ids=str)
def test_untouched_when_another_argument_is_wrong(f, rng):
    """The good out of a failed call keeps its bytes; so does the input when it is out."""
    arrays = f.sample(rng, (4, 6), FLOAT32)
    x = arrays[0]
    wrong = [{"axis": 2}, {"axis": (0, 0)}, {"where": np.ones((9, 9), bool)}, {"where": 3}, {"dtype": np.complex64}]
    if f.accepts("temperature"):
        wrong += [{"temperature": t} for t in (0, -1.0, np.nan, np.array([1, 1, 1, np.inf]), np.ones(5), "hot")]
    for bad in wrong:
        for out in [np.full(f.result_shape(x.shape, -1), 7, np.float32)] + [x] * (f.output == ELEMENTS):
            before, kept = out.tobytes(), x.tobytes()
            with pytest.raises((TypeError, ValueError)):
                f(*arrays, **{"axis": -1, "out": out} | bad)
            assert (out.tobytes(), x.tobytes()) == (before, kept), f"{f} {bad}"
