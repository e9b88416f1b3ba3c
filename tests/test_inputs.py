"""Hazard: things that are not arrays. Lists, scalars, look-alikes, masked and lazy arrays."""

import array

import numpy as np
import pytest

from catalogue import FUNCTIONS
from memory import Subclass
from ulps import BFLOAT16, assert_same_bits

VALUES = np.array([[1.0, 2.5, -3.0], [0.0, 0.5, 4.0]])


class Table:
    """A pandas-like object: holds a frame, hands out an array."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


class Interface:
    """An object that only describes its memory."""

    def __init__(self, values):
        self.values = values
        self.__array_interface__ = values.__array_interface__


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_converted_by_asarray(f):
    """Whatever numpy.asarray takes gives what that array gives, as a plain ndarray."""
    flat = array.array("f", [1, 2, 3])
    things = [
        VALUES.tolist(),
        tuple(map(tuple, VALUES.tolist())),
        list(VALUES),
        [1, 2, 3],
        [True, False],
        range(5),
        [[1, 2.5], [3, 4]],
        [],
        [[], []],
        flat,
        memoryview(flat),
        Table(VALUES),
        Table(VALUES.astype(np.float32)),
        Table(VALUES.astype(BFLOAT16)),
        Table([1, 2, 3]),
        Interface(VALUES),
        VALUES.view(Subclass),
        VALUES.astype(np.float16).view(Subclass),
        np.rec.array(VALUES).view(np.recarray),
    ]
    for thing in things:
        want = f(np.array(thing), axis=-1)
        got = f(thing, axis=-1)
        assert type(got) is type(want), f"{f} of {type(thing).__name__}: {type(got)}"
        assert_same_bits(got, want, f"{f} of {type(thing).__name__} {thing!r}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_scalars(f):
    """Numbers give NumPy scalars."""
    for number in (
        2,
        2.0,
        True,
        np.float32(2),
        np.float16(2),
        np.int8(2),
        BFLOAT16.type(2),
        np.array(2.0),
        -(2**63),
        2**64 - 1,
    ):
        for axis in (None, -1, 0, ()):
            want = np.asarray(number).dtype if np.asarray(number).dtype.kind in "fV" else np.dtype(np.float64)
            got = f(number, axis=axis)
            assert isinstance(got, want.type) and not isinstance(got, np.ndarray), f"{f}({number!r}) is a {type(got)}"
            assert float(got) == f.one(float(number))


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_look_alikes_as_keywords(f, rng):
    """Masks and temperatures are converted in the same way."""
    mask = rng.random(VALUES.shape) < 0.7
    want = f(VALUES, axis=-1, where=mask)
    for given in (mask.tolist(), Table(mask), mask.view(Subclass)):
        assert_same_bits(f(VALUES, axis=-1, where=given), want, f"{f} where={type(given).__name__}")
    if f.accepts("temperature"):
        want = f(VALUES, temperature=np.array([2.0, 3.0]))
        for given in ([2, 3], (2.0, 3.0), Table([2.0, 3.0]), np.array([2.0, 3.0]).view(Subclass), range(2, 4)):
            assert_same_bits(f(VALUES, temperature=given), want, f"{f} temperature={type(given).__name__}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_masked_arrays_are_refused(f):
    """The message shows the way: where=~a.mask. It is the type that counts, not whether something is masked."""
    for a in (
        np.ma.masked_array(VALUES, VALUES > 2),
        np.ma.masked_array(VALUES),
        np.ma.masked_invalid(VALUES.astype(np.float32)),
        np.ma.masked,
        np.ma.masked_array(VALUES, VALUES > 2)[0],
    ):
        with pytest.raises(TypeError, match=r"where=~a\.mask") as caught:
            f(a, axis=-1)
        assert type(caught.value) is TypeError
    a = np.ma.masked_array(VALUES, VALUES > 2)
    assert_same_bits(f(a.data, axis=-1, where=~a.mask), f(VALUES, axis=-1, where=VALUES <= 2), str(f))


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_dask_arrays_are_refused(f):
    """Never a silent compute: the type's module decides, __array__ is not called."""

    def compute(self, dtype=None, copy=None):
        raise AssertionError("computed")

    for module in ("dask.array.core", "dask.array", "dask"):
        lazy = type("Array", (), {"__array__": compute, "__module__": module})
        with pytest.raises(TypeError, match=r"softmax_rs\.dask"):
            f(lazy())
    unrelated = type("Array", (Table,), {"__module__": "daskerville"})(VALUES)
    assert_same_bits(f(unrelated, axis=-1), f(VALUES, axis=-1), str(f))


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_arrays_that_are_views_of_other_objects(f):
    """bytes, bytearray and memoryview as owners of the memory; the input stays alive during the call."""
    raw = VALUES.astype(np.float32).tobytes()
    for owner in (raw, bytearray(raw), memoryview(raw)):
        x = np.frombuffer(owner, np.float32).reshape(2, 3)
        assert_same_bits(f(x, axis=-1), f(VALUES.astype(np.float32), axis=-1), f"{f} {type(owner).__name__}")
