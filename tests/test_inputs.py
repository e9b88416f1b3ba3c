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
def test_converted_by_asarray(f, rng):
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
        arrays = f.raw(rng, np.array(thing))
        want = f(*arrays, axis=-1)
        got = f(thing, *arrays[1:], axis=-1)
        assert type(got) is type(want), f"{f} of {type(thing).__name__}: {type(got)}"
        assert_same_bits(got, want, f"{f} of {type(thing).__name__} {thing!r}")
        for second in arrays[1:]:
            lists = [second.tolist()] * (second.dtype == np.float64)  # numbers of Python are float64
            for given in (Table(second), second.view(Subclass), *lists):
                same = f(np.array(thing), given, axis=-1)
                assert_same_bits(same, want, f"{f}: {type(given).__name__} beside {type(thing).__name__} {thing!r}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_scalars(f, rng):
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
            arrays = f.arguments(rng, np.asarray(number), axis)
            got = f(*((number, *arrays[1:]) if f.names[0] == "x" else arrays), axis=axis)
            assert isinstance(got, want.type) and not isinstance(got, np.ndarray), f"{f}({number!r}) is a {type(got)}"
            assert float(got) == f.one(float(number), *map(float, arrays[1:]))


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_look_alikes_as_keywords(f, rng):
    """Masks and temperatures are converted in the same way."""
    mask = rng.random(VALUES.shape) < 0.7
    arrays = f.arguments(rng, VALUES)
    want = f(*arrays, axis=-1, where=mask)
    for given in (mask.tolist(), Table(mask), mask.view(Subclass)):
        assert_same_bits(f(*arrays, axis=-1, where=given), want, f"{f} where={type(given).__name__}")
    if f.accepts("temperature"):
        want = f(*arrays, temperature=np.array([2.0, 3.0]))
        for given in ([2, 3], (2.0, 3.0), Table([2.0, 3.0]), np.array([2.0, 3.0]).view(Subclass), range(2, 4)):
            assert_same_bits(f(*arrays, temperature=given), want, f"{f} temperature={type(given).__name__}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_masked_arrays_are_refused(f, rng):
    """The message shows the way: where=~a.mask. It is the type that counts, not whether something is masked."""
    for a in (
        np.ma.masked_array(VALUES, VALUES > 2),
        np.ma.masked_array(VALUES),
        np.ma.masked_invalid(VALUES.astype(np.float32)),
        np.ma.masked,
        np.ma.masked_array(VALUES, VALUES > 2)[0],
    ):
        for place in range(len(f.names)):
            with pytest.raises(TypeError, match=r"where=~a\.mask") as caught:
                f(*[a if i == place else VALUES for i in range(len(f.names))], axis=-1)
            assert type(caught.value) is TypeError
            assert f.names[place] in str(caught.value)
    holder = type(
        "Holder", (), {"__array__": lambda self, dtype=None, copy=None: np.ma.masked_array(VALUES, VALUES > 2)}
    )
    with pytest.raises(TypeError, match="mask would be lost"):
        f(holder(), *[VALUES] * (len(f.names) - 1), axis=-1)
    a, (_, *beside) = np.ma.masked_array(VALUES, VALUES > 2), f.arguments(rng, VALUES)
    want = f(VALUES, *beside, axis=-1, where=VALUES <= 2)
    assert_same_bits(f(a.data, *beside, axis=-1, where=~a.mask), want, str(f))


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_dask_arrays_are_refused(f, rng):
    """Never a silent compute: the type's module decides, __array__ is not called."""

    def compute(self, dtype=None, copy=None):
        raise AssertionError("computed")

    for module in ("dask.array.core", "dask.array", "dask"):
        lazy = type("Array", (), {"__array__": compute, "__module__": module})
        for place in range(len(f.names)):
            with pytest.raises(
                TypeError, match="is a dask collection, which is not computed implicitly: compute it first"
            ):
                f(*[lazy() if i == place else VALUES for i in range(len(f.names))])
    unrelated = type("Array", (Table,), {"__module__": "daskerville"})(VALUES)
    _, *beside = f.arguments(rng, VALUES)
    assert_same_bits(f(unrelated, *beside, axis=-1), f(VALUES, *beside, axis=-1), str(f))


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_arrays_that_are_views_of_other_objects(f, rng):
    """bytes, bytearray and memoryview as owners of the memory; the input stays alive during the call."""
    values, *beside = f.raw(rng, VALUES.astype(np.float32))
    raw = values.tobytes()
    for owner in (raw, bytearray(raw), memoryview(raw)):
        x = np.frombuffer(owner, np.float32).reshape(2, 3)
        assert_same_bits(f(x, *beside, axis=-1), f(values, *beside, axis=-1), f"{f} {type(owner).__name__}")
