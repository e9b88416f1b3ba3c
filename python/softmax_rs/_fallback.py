"""Arguments that are not plain arrays. Rust calls these functions, at most once for each argument of a call.

Nothing here is on the way of an ordinary ndarray, and nothing here calls back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# NumPy 1.26 takes these for a concrete type of the kind, with a warning; later ones refuse them.
_ABSTRACT = (np.floating, np.inexact, np.number, np.generic, np.integer, np.signedinteger, np.unsignedinteger)

# What to pass for a masked array that is not logits, nor of their shape.
_INSTEAD_OF_MASKED = {
    "target": "a.filled(ignore_index)",
    "where": "a.filled(False)",
    "out": "a.data",
    **dict.fromkeys(("temperature", "weight", "sample_weight", "grad_output"), "a.filled(number)"),
}


def operand(value: object, name: str) -> np.ndarray[Any, Any]:
    """Return `value` as a plain ndarray, sharing its memory where there is some."""
    _refuse_masked(value, name)
    library = type(value).__module__.partition(".")[0]
    if library == "dask" or (library == "xarray" and getattr(value, "chunks", None)):
        msg = f"{name} is a dask collection, which is not computed implicitly: compute it first, or map its blocks"
        raise TypeError(msg)
    try:
        array = np.asanyarray(value)
    except ValueError as error:
        if not isinstance(value, list | tuple):  # what an object's own __array__ raises is its own
            raise
        msg = f"{name} is a {type(value).__name__} that cannot be made an array: {error}"
        raise ValueError(msg) from error
    if array.dtype == object and not isinstance(value, np.ndarray):
        got = "None" if value is None else f"{type(value).__name__} (dtype object{_culprit(array)})"
        wanted = "a real number or an array of them" if name == "temperature" else "an array of real numbers"
        msg = f"{name} must be {wanted}, got {got}"
        raise TypeError(msg)
    _refuse_masked(array, name)  # an __array__ may return one
    return np.asarray(array)


def _culprit(array: np.ndarray[Any, Any]) -> str:
    """Say which element made NumPy give a list the dtype object."""
    for index, item in np.ndenumerate(array):
        if index and np.asarray(item).dtype == object:
            beyond = " beyond 64 bits" if isinstance(item, int) else ""
            return f": {type(item).__name__}{beyond} at index {index}"
    return ""


def float64(value: object, name: str) -> np.ndarray[Any, Any]:
    """Return `value` as a new float64 array in C order."""
    array = operand(value, name)
    # bfloat16 is a type of ml_dtypes', registered with NumPy; complex and the others are refused.
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        msg = f"{name} must be a real number or an array of them, got dtype {array.dtype}"
        raise TypeError(msg)
    with np.errstate(all="ignore"):  # a longdouble out of range becomes infinite, and is refused as such
        return np.array(array, dtype=np.float64, order="C")


def target(value: np.ndarray[Any, Any], name: str) -> None:
    """Refuse a subclass of ndarray whose data are not all that it is."""
    _refuse_masked(value, name)


def dtype(value: DTypeLike, name: str) -> np.dtype[Any]:
    """Return `value` as a dtype."""
    cause: Exception | None = None
    if not any(value is abstract for abstract in _ABSTRACT):
        try:
            return np.dtype(value)
        except Exception as error:  # noqa: BLE001 (whatever an object makes of being asked for its dtype)
            cause = error
    shown = value.__name__ if isinstance(value, type) else repr(value)
    msg = f"{name} must be float16, bfloat16, float32 or float64, got {shown}"
    raise TypeError(msg) from cause


def _refuse_masked(value: object, name: str) -> None:
    if isinstance(value, np.ma.MaskedArray):
        instead = _INSTEAD_OF_MASKED.get(name, "a.data with where=~a.mask")
        msg = f"{name} is a numpy.ma.MaskedArray, whose mask would be lost; pass {instead} instead"
        raise TypeError(msg)
