# Types of the compiled functions. What they do is in their docstrings.
#
# Any: where the type depends on a shape or on another library. `threads`: a class that is used like a function.

from collections.abc import Sequence
from typing import Any, Final, Literal, Self, SupportsIndex, TypeAlias, TypeVar, final, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "__version__",
    "get_num_threads",
    "log_softmax",
    "logsumexp",
    "set_num_threads",
    "simd_level",
    "softmax",
    "threads",
]

_Axis: TypeAlias = SupportsIndex | tuple[SupportsIndex, ...] | None
_Floats: TypeAlias = Sequence[float] | Sequence[Sequence[float]]
_Exact: TypeAlias = NDArray[np.integer[Any]] | NDArray[np.bool_]  # computed in float64

_Float = TypeVar("_Float", np.float16, np.float32, np.float64)
_Out = TypeVar("_Out", bound=NDArray[Any])

__version__: Final[str]

# In this order: `out` is what comes back; `dtype` decides; an array of floats keeps its dtype; exact numbers, and those
# of Python, give float64. Anything else (bfloat16, unknown dtypes, arrays of other libraries) is Any.

@overload
def softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: _Out,
    dtype: DTypeLike | None = None,
) -> _Out: ...
@overload
def softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: type[_Float] | np.dtype[_Float],
) -> NDArray[_Float]: ...
@overload
def softmax(
    x: NDArray[_Float],
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: None = None,
) -> NDArray[_Float]: ...
@overload
def softmax(
    x: _Exact | _Floats,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: None = None,
) -> NDArray[np.float64]: ...
@overload
def softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
@overload
def log_softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: _Out,
    dtype: DTypeLike | None = None,
) -> _Out: ...
@overload
def log_softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: type[_Float] | np.dtype[_Float],
) -> NDArray[_Float]: ...
@overload
def log_softmax(
    x: NDArray[_Float],
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: None = None,
) -> NDArray[_Float]: ...
@overload
def log_softmax(
    x: _Exact | _Floats,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: None = None,
) -> NDArray[np.float64]: ...
@overload
def log_softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: DTypeLike | None = None,
) -> Any: ...

# Without `axis` and `keepdims` the result is a scalar; with them, whether one is left depends on the shape.

@overload
def logsumexp(
    x: ArrayLike,
    axis: _Axis = None,
    *,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out,
    dtype: DTypeLike | None = None,
) -> _Out: ...
@overload
def logsumexp(
    x: NDArray[_Float],
    axis: None = None,
    *,
    keepdims: Literal[False] = False,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: None = None,
) -> _Float: ...
@overload
def logsumexp(
    x: _Exact | _Floats,
    axis: None = None,
    *,
    keepdims: Literal[False] = False,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: None = None,
) -> np.float64: ...
@overload
def logsumexp(
    x: NDArray[_Float],
    axis: _Axis = None,
    *,
    keepdims: Literal[True],
    where: ArrayLike | None = None,
    out: None = None,
    dtype: None = None,
) -> NDArray[_Float]: ...
@overload
def logsumexp(
    x: ArrayLike,
    axis: _Axis = None,
    *,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: None = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def set_num_threads(n: SupportsIndex) -> None: ...
def get_num_threads() -> int: ...
def simd_level() -> Literal["avx512", "avx2", "portable"]: ...

@final
class threads:
    def __new__(cls, n: SupportsIndex) -> Self: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *args: object) -> None: ...
