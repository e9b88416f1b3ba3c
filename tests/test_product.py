"""Hazard: a dtype in a layout along an axis that no other test thought of. All of them times all functions: the result
of a plain copy, or a TypeError or ValueError that says what is wrong; never anything else.
"""

import itertools

import ml_dtypes
import numpy as np
import pytest

from catalogue import reduced_shape
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
    return np.ndarray((0, 2**62 // max(a.dtype.itemsize, 1)), a.dtype, buffer=bytearray(8))


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
AXES = (-1, 0, 1, None, (0, 1), (), (1, 0), 2, -65)


def filled(rng, dtype):
    """Draw a 5 x 6 array of the dtype, as far as it can hold numbers."""
    numbers = rng.integers(0, 2 if dtype.kind == "b" else 7, (5, 6))
    if dtype.names:
        array = np.zeros((5, 6), dtype)
        array["a"] = numbers
        return array
    if dtype.kind in "V" and dtype not in FLOATS:
        return np.zeros((5, 6), dtype)
    return numbers.astype(dtype)


def layouts(array):
    """Yield (name, array) for all that there is of this dtype."""
    for name, layout in (LAYOUTS | SHAPES).items():
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


@pytest.mark.parametrize("k", KINDS, ids=str)
def test_supported(k, rng):
    """13 dtypes, 30 layouts, 9 axes: the bits of a copy, and where that is refused the same words."""
    ran = right = 0
    for dtype, place in itertools.product(SUPPORTED, range(len(k.names))):
        for name, array in layouts(filled(rng, dtype)):
            for axis in AXES:
                one = np.ndim(array) and axis in range(-np.ndim(array), np.ndim(array))
                if (np.ndim(array) > 2 or name == "empty, huge") and axis not in (-1, 1, None):
                    continue  # rows or matrices of which there would be too many
                x = np.zeros(np.shape(array), np.float32)
                if name == "empty, huge" and (not one or k.name.startswith("logsumexp_vjp") or "jacobian" in k.name):
                    continue
                beside = k.beside(rng, x, axis if one or not k.one_axis else -1) if np.ndim(x) or not k.one_axis else ()
                arrays = list((x, *beside))
                if np.ndim(x) == 0 and k.one_axis:
                    arrays = [x] * len(k.names)
                if np.shape(arrays[place]) != np.shape(array):
                    continue  # one number per row: its layouts are test_two_arrays.py's and test_cross_entropy.py's
                arrays[place] = array
                copies = [plain(a) for a in arrays]
                got, want = outcome(k, arrays, axis), outcome(k, copies, axis)
                assert got == want, f"{k} {dtype} {name} as {k.names[place]}, axis={axis}: {got} {want}"
                ran += 1
                right += not isinstance(got, tuple)
    print(f"{k}: {ran} cases, {right} of them computed")
    assert ran >= 1000 and right > ran / 4


@pytest.mark.parametrize("k", KINDS, ids=str)
def test_refused(k, rng):
    """Each other dtype in each layout: a TypeError that names argument and dtype, or an error of the axis."""
    ran = 0
    for dtype, place in itertools.product(REFUSED, range(len(k.names))):
        for name, array in layouts(filled(rng, dtype)):
            for axis in AXES:
                shape = np.shape(array)
                if name == "empty, huge" or k.one_axis and (axis not in range(-len(shape), len(shape)) or axis is None):
                    continue
                x = np.zeros(shape, np.float32)
                arrays = list((x, *(k.beside(rng, x, axis) if axis in range(-len(shape), len(shape)) else (x, x)[: len(k.names) - 1])))
                arrays[place] = array
                with pytest.raises((TypeError, ValueError)) as caught:
                    k(*arrays, axis=axis)
                message = str(caught.value)
                label = f"{k} {dtype} {name} as {k.names[place]}, axis={axis}: {caught.value!r}"
                probabilities = k.names[place] == "target" and dtype.char == "g"
                if type(caught.value) is TypeError and not probabilities:
                    assert k.names[place] in message and (str(dtype) in message or dtype.name in message), label
                ran += 1
    print(f"{k}: {ran} cases")
    assert ran >= 500


def test_there_are_enough():
    """The product that is promised: 20 dtypes and 25 layouts."""
    assert len(SUPPORTED) + len(REFUSED) >= 20 and len(LAYOUTS) + len(SHAPES) >= 25
