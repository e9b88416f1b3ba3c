"""Hazard: a dtype in a layout along an axis that no other test thought of. All of them times all functions: the result
of a plain copy, or a TypeError or ValueError that says what is wrong; never anything else.
"""

import itertools
import re

import ml_dtypes
import numpy as np
import pytest

from kinds import KINDS
from memory import LAYOUTS
from ulps import FLOATS

INTEGERS = tuple(np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"))
SUPPORTED = (*FLOATS, *INTEGERS, np.dtype("?"))
REFUSED = (
    *map(np.dtype, ("c8", "c16", "g", "G", "O", "U3", "S3", "M8[s]", "m8[s]", "V4")),
    np.dtype([("a", "f4"), ("b", "f4")]),
    np.dtype(ml_dtypes.float8_e4m3fn),
    np.dtype(ml_dtypes.int4),
)
MOST = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32


def _sliding(a):
    return np.lib.stride_tricks.sliding_window_view(a.reshape(-1), a.shape[-1])[: a.shape[0]]


def _huge(a):
    return np.ndarray((0, 2**57), a.dtype, buffer=bytearray(8))


# Beside those of memory.py, which keep the values and the shape.
SHAPES = {
    "0-d": lambda a: a.reshape(-1)[0:1].reshape(()),
    "scalar": lambda a: a.reshape(-1)[0],
    "one element": lambda a: a.reshape(-1)[:1],
    "many dimensions": lambda a: a.reshape(*a.shape, *(1,) * (MOST - a.ndim)),
    "no rows": lambda a: a[:0],
    "empty rows": lambda a: a[:, :0],
    "empty, huge": _huge,
    "broadcast rows": lambda a: np.broadcast_to(a[:1], a.shape),
    "broadcast elements": lambda a: np.broadcast_to(a[:, :1], a.shape),
    "broadcast": lambda a: np.broadcast_to(a[:1, :1], a.shape),
    "sliding windows": _sliding,
    "record array": lambda a: np.rec.fromarrays([a, a], names="a,b").a,
}
# Those of memory.py that lay numbers out in a buffer of bytes.
IN_BUFFERS = {name for name in LAYOUTS if re.search("strided|reversed|misaligned|bordered|swapped|memmap", name)}
IN_BUFFERS |= {"empty, huge", "scalar"}  # the element of an array of objects is a Python number
AXES = (-1, 0, 1, None, (0, 1), (), (1, 0), 2, -65)


def filled(rng, dtype):
    """Draw a 5 x 6 array of the dtype, as far as it can hold numbers."""
    numbers = rng.integers(0, 2 if dtype.kind == "b" else 7, (5, 6))
    if dtype.names:
        array = np.zeros((5, 6), dtype)
        array["a"] = numbers
        return array
    if dtype.kind == "V" and dtype not in FLOATS:
        return np.zeros((5, 6), dtype)
    return numbers.astype(dtype)


def layouts(array):
    """Yield (name, array) for all that there is of this dtype."""
    for name, layout in (LAYOUTS | SHAPES).items():
        if array.dtype.hasobject and name in IN_BUFFERS:
            continue  # bytes that are taken for objects end the process in NumPy
        try:
            yield name, layout(array)
        except (TypeError, ValueError):
            assert array.dtype not in SUPPORTED, f"{name} {array.dtype}"  # NaN in gaps, bytes of objects


def plain(array):
    """Return a native copy in C order."""
    array = np.asarray(array)
    return np.array(array, array.dtype.newbyteorder("="), order="C", subok=False)


def outcome(k, arrays, axis):
    """Return the results, or the exception's type and text."""
    try:
        return k.bits(*arrays, axis=axis)
    except (TypeError, ValueError) as error:
        assert type(error) in {TypeError, ValueError, np.exceptions.AxisError}, repr(error)
        return type(error), str(error)


def calls(k, rng, dtypes):
    """Yield (arrays, axis, place of the odd array, label) of the product."""
    for dtype, place in itertools.product(dtypes, range(len(k.names))):
        for name, array in layouts(filled(rng, dtype)):
            shape = np.shape(array)
            for axis in AXES:
                is_axis = isinstance(axis, int) and -len(shape) <= axis < len(shape)
                if name == "empty, huge" and axis != 1:
                    continue  # there would be 2**57 rows, with a number each
                if len(shape) > 2 and axis not in (-1, 1, None):
                    continue  # as the others
                x = np.zeros(shape, np.float32)
                if is_axis or (not k.one_axis and (axis is None or (isinstance(axis, tuple) and len(shape) >= 2))):
                    arrays = list(k.arrays(rng, x, axis))
                else:
                    arrays = [x] * len(k.names)  # the axis is refused
                if np.shape(arrays[place]) != shape:
                    # One number for each row; test_two_arrays.py and test_cross_entropy.py have their layouts.
                    continue
                arrays[place] = array
                yield arrays, axis, place, f"{k} {np.asarray(array).dtype} {name} as {k.names[place]}, axis={axis}"


@pytest.mark.parametrize("k", KINDS, ids=str)
def test_supported(k, rng):
    """13 dtypes, 30 layouts, 9 axes: the bits of a copy, and where that is refused the same words."""
    ran = computed = 0
    for arrays, axis, _, label in calls(k, rng, SUPPORTED):
        got, want = outcome(k, arrays, axis), outcome(k, [plain(a) for a in arrays], axis)
        assert got == want, f"{label}: {got}, not {want}"
        ran += 1
        computed += not isinstance(got, tuple)
    print(f"{k}: {ran} cases, {computed} of them computed")
    assert ran >= 1000 and computed > ran / 8


@pytest.mark.parametrize("k", KINDS, ids=str)
def test_refused(k, rng):
    """Each other dtype in each layout: a TypeError that names argument and dtype, or what is wrong with the axis."""
    ran = named = 0
    for arrays, axis, place, label in calls(k, rng, REFUSED):
        dtype = np.asarray(arrays[place]).dtype
        if k.names[place] == "target" and dtype.char == "g":
            continue  # probabilities, converted
        got = outcome(k, arrays, axis)
        assert isinstance(got, tuple), f"{label} was computed"
        kind, message = got
        if kind is TypeError and "axis" not in message:
            assert re.search(rf"\b{k.names[place]}\b", message), f"{label}: {message!r} does not name it"
            assert str(dtype) in message, f"{label}: {message!r} does not name the dtype"
            named += 1
        ran += 1
    print(f"{k}: {ran} cases, {named} with the name and the dtype")
    assert ran >= 500 and named > ran / 8


def test_there_are_enough():
    """The product that is promised: 20 dtypes and 25 layouts."""
    assert len(SUPPORTED) + len(REFUSED) >= 20 and len(LAYOUTS) + len(SHAPES) >= 25
