"""Arrays in unusual memory: one list of layouts for every test that asks whether memory matters."""

import itertools
import tempfile

import numpy as np


class Subclass(np.ndarray):
    """An ndarray subclass that would show up in the result if it were kept."""


def _elsewhere(array, *, step, reverse=(), offset=0, order="C", pad=1):
    """Copy `array` into a NaN-filled buffer with gaps: NaN read by mistake shows in the result."""
    dtype = array.dtype
    shape = [n * step + 2 * pad for n in array.shape]
    room = np.empty(int(np.prod(shape)) * dtype.itemsize + offset, np.uint8)
    whole = np.ndarray(shape, dtype, buffer=room, offset=offset, order=order)
    whole[...] = fill_of(dtype)
    view = whole[(*(slice(pad, pad + n * step, step) for n in array.shape), ...)]
    view = view[(*(slice(None, None, -1 if a in reverse else 1) for a in range(array.ndim)), ...)]
    view[...] = array
    return view


def fill_of(dtype):
    """Return what stands in the gaps: NaN, or the largest integer."""
    return np.iinfo(dtype).max if dtype.kind in "iu" else True if dtype.kind == "b" else np.nan


def _memmap(array):
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, array.dtype, "w+", shape=array.shape)
    mapped[...] = array
    return mapped


def _field(array):
    """Build a field of a packed structure: strides that are no multiple of the item size, misaligned."""
    record = np.zeros(array.shape, np.dtype([("pad", "u1"), ("value", array.dtype), ("tail", "u2")]))
    record["value"] = array
    return record["value"]


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def swapped(array):
    """Return the same values in the other byte order."""
    if array.dtype.itemsize == 1:
        return array.copy()
    return array.byteswap().view(array.dtype.newbyteorder("S"))


def _permuted(array):
    """Lay the memory out with the axes rolled by one."""
    order = [(a - 1) % array.ndim for a in range(array.ndim)]
    return array.transpose(order).copy().transpose([order.index(a) for a in range(array.ndim)])


LAYOUTS = {
    "contiguous": lambda a: a.copy(),
    "fortran": lambda a: np.array(a, order="F"),
    "permuted": _permuted,
    "bordered": lambda a: _elsewhere(a, step=1),
    "strided 2": lambda a: _elsewhere(a, step=2),
    "strided 3 fortran": lambda a: _elsewhere(a, step=3, order="F"),
    "reversed": lambda a: _elsewhere(a, step=1, reverse=range(a.ndim), pad=0),
    "reversed first": lambda a: _elsewhere(a, step=1, reverse=(0,), pad=0),
    "reversed last, strided 2": lambda a: _elsewhere(a, step=2, reverse=(a.ndim - 1,)),
    "misaligned 1": lambda a: _elsewhere(a, step=1, offset=1, pad=0),
    "misaligned 3 strided reversed": lambda a: _elsewhere(a, step=2, offset=3, reverse=range(a.ndim)),
    "field": _field,
    "read-only": _read_only,
    "memmap": _memmap,
    "byte-swapped": swapped,
    "byte-swapped strided reversed": lambda a: _elsewhere(swapped(a), step=2, reverse=range(a.ndim)),
    "byte-swapped misaligned fortran": lambda a: _elsewhere(swapped(a), step=1, offset=1, order="F"),
    "subclass": lambda a: a.copy().view(Subclass),
}


def axes_of(ndim):
    """Return every way to name axes: each integer, every ordered subset as a tuple, and None."""
    for size in range(ndim + 1):
        yield from itertools.permutations(range(ndim), size)
    yield from range(-ndim, ndim)
    yield None


def addresses(view):
    """Return the address of every element, relative to the first."""
    total = np.zeros(view.shape, np.int64)
    for axis, (n, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        total += (np.arange(n) * stride).reshape([-1 if a == axis else 1 for a in range(view.ndim)])
    return total


def overlaps_itself(view):
    """Say whether two elements of `view` share a byte."""
    order = np.sort(addresses(view), axis=None)
    return bool((np.diff(order) < view.itemsize).any())
