# Types of the compiled functions. What they do is in their docstrings.
#
# Any: where the type depends on a shape or on another library. `threads`: a class that is used like a function.

from collections.abc import Sequence
from typing import Any, Final, Literal, Self, SupportsIndex, TypeAlias, TypeVar, final, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "__version__",
    "cross_entropy",
    "cross_entropy_hvp",
    "cross_entropy_with_grad",
    "get_num_threads",
    "log_softmax",
    "log_softmax_backward",
    "log_softmax_jacobian",
    "log_softmax_jvp",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_jvp",
    "logsumexp_vjp",
    "set_num_threads",
    "simd_level",
    "softmax",
    "softmax_backward",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "threads",
]

_Axis: TypeAlias = SupportsIndex | tuple[SupportsIndex, ...] | None
_Floats: TypeAlias = Sequence[float] | Sequence[Sequence[float]]
_Exact: TypeAlias = NDArray[np.integer[Any]] | NDArray[np.bool_]  # computed in float64

_Float = TypeVar("_Float", np.float16, np.float32, np.float64)
_Out = TypeVar("_Out", bound=NDArray[Any])

_Single: TypeAlias = NDArray[np.float16] | NDArray[np.float32]  # the loss is float32
_Double: TypeAlias = NDArray[np.float64] | _Exact | _Floats  # the loss is float64
_One: TypeAlias = Literal["mean", "sum"]
_Reduction: TypeAlias = Literal["none", "sum", "mean"]

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

# Products: two arrays of one dtype keep it, and so does an array with a number of Python's. Mixed dtypes are Any.

@overload
def softmax_jvp(
    x: ArrayLike,
    t: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: _Out,
) -> _Out: ...
@overload
def softmax_jvp(
    x: NDArray[_Float],
    t: NDArray[_Float] | float,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def softmax_jvp(
    x: _Exact | _Floats,
    t: _Exact | _Floats,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[np.float64]: ...
@overload
def softmax_jvp(
    x: ArrayLike,
    t: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> Any: ...
@overload
def softmax_vjp(
    x: ArrayLike,
    g: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: _Out,
) -> _Out: ...
@overload
def softmax_vjp(
    x: NDArray[_Float],
    g: NDArray[_Float] | float,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def softmax_vjp(
    x: _Exact | _Floats,
    g: _Exact | _Floats,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[np.float64]: ...
@overload
def softmax_vjp(
    x: ArrayLike,
    g: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> Any: ...
@overload
def log_softmax_jvp(
    x: ArrayLike,
    t: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: _Out,
) -> _Out: ...
@overload
def log_softmax_jvp(
    x: NDArray[_Float],
    t: NDArray[_Float] | float,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def log_softmax_jvp(
    x: _Exact | _Floats,
    t: _Exact | _Floats,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[np.float64]: ...
@overload
def log_softmax_jvp(
    x: ArrayLike,
    t: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> Any: ...
@overload
def log_softmax_vjp(
    x: ArrayLike,
    g: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: _Out,
) -> _Out: ...
@overload
def log_softmax_vjp(
    x: NDArray[_Float],
    g: NDArray[_Float] | float,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def log_softmax_vjp(
    x: _Exact | _Floats,
    g: _Exact | _Floats,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[np.float64]: ...
@overload
def log_softmax_vjp(
    x: ArrayLike,
    g: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> Any: ...
@overload
def logsumexp_jvp(
    x: ArrayLike,
    t: ArrayLike,
    axis: _Axis = None,
    *,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out,
) -> _Out: ...
@overload
def logsumexp_jvp(
    x: NDArray[_Float],
    t: NDArray[_Float] | float,
    axis: None = None,
    *,
    keepdims: Literal[False] = False,
    where: ArrayLike | None = None,
    out: None = None,
) -> _Float: ...
@overload
def logsumexp_jvp(
    x: _Exact | _Floats,
    t: _Exact | _Floats,
    axis: None = None,
    *,
    keepdims: Literal[False] = False,
    where: ArrayLike | None = None,
    out: None = None,
) -> np.float64: ...
@overload
def logsumexp_jvp(
    x: NDArray[_Float],
    t: NDArray[_Float] | float,
    axis: _Axis = None,
    *,
    keepdims: Literal[True],
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def logsumexp_jvp(
    x: ArrayLike,
    t: ArrayLike,
    axis: _Axis = None,
    *,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: None = None,
) -> Any: ...
@overload
def logsumexp_vjp(
    x: ArrayLike,
    g: ArrayLike,
    axis: _Axis = None,
    *,
    where: ArrayLike | None = None,
    out: _Out,
) -> _Out: ...
@overload
def logsumexp_vjp(
    x: NDArray[_Float],
    g: NDArray[_Float] | _Float | float,
    axis: _Axis = None,
    *,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def logsumexp_vjp(
    x: _Exact | _Floats,
    g: _Exact | _Floats | float,
    axis: _Axis = None,
    *,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[np.float64]: ...
@overload
def logsumexp_vjp(
    x: ArrayLike,
    g: ArrayLike,
    axis: _Axis = None,
    *,
    where: ArrayLike | None = None,
    out: None = None,
) -> Any: ...
@overload
def softmax_backward(
    y: ArrayLike,
    g: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: _Out,
) -> _Out: ...
@overload
def softmax_backward(
    y: NDArray[_Float],
    g: NDArray[_Float] | float,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def softmax_backward(
    y: _Exact | _Floats,
    g: _Exact | _Floats,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[np.float64]: ...
@overload
def softmax_backward(
    y: ArrayLike,
    g: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> Any: ...
@overload
def log_softmax_backward(
    y: ArrayLike,
    g: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: _Out,
) -> _Out: ...
@overload
def log_softmax_backward(
    y: NDArray[_Float],
    g: NDArray[_Float] | float,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def log_softmax_backward(
    y: _Exact | _Floats,
    g: _Exact | _Floats,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[np.float64]: ...
@overload
def log_softmax_backward(
    y: ArrayLike,
    g: ArrayLike,
    axis: _Axis = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> Any: ...
@overload
def softmax_jacobian(
    x: ArrayLike,
    axis: SupportsIndex = -1,
    *,
    temperature: ArrayLike = 1.0,
    out: _Out,
) -> _Out: ...
@overload
def softmax_jacobian(
    x: NDArray[_Float],
    axis: SupportsIndex = -1,
    *,
    temperature: ArrayLike = 1.0,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def softmax_jacobian(
    x: _Exact | _Floats,
    axis: SupportsIndex = -1,
    *,
    temperature: ArrayLike = 1.0,
    out: None = None,
) -> NDArray[np.float64]: ...
@overload
def softmax_jacobian(
    x: ArrayLike,
    axis: SupportsIndex = -1,
    *,
    temperature: ArrayLike = 1.0,
    out: None = None,
) -> Any: ...
@overload
def log_softmax_jacobian(
    x: ArrayLike,
    axis: SupportsIndex = -1,
    *,
    temperature: ArrayLike = 1.0,
    out: _Out,
) -> _Out: ...
@overload
def log_softmax_jacobian(
    x: NDArray[_Float],
    axis: SupportsIndex = -1,
    *,
    temperature: ArrayLike = 1.0,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def log_softmax_jacobian(
    x: _Exact | _Floats,
    axis: SupportsIndex = -1,
    *,
    temperature: ArrayLike = 1.0,
    out: None = None,
) -> NDArray[np.float64]: ...
@overload
def log_softmax_jacobian(
    x: ArrayLike,
    axis: SupportsIndex = -1,
    *,
    temperature: ArrayLike = 1.0,
    out: None = None,
) -> Any: ...

# Losses: a scalar for the mean and the sum; without a reduction, whether it is one depends on the shape. (To mypy,
# arrays of float32 and float64 overlap, since NumPy derives the one precision from the other: no array is both.)

@overload
def cross_entropy(  # type: ignore[overload-overlap]
    logits: _Single,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _One = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
) -> np.float32: ...
@overload
def cross_entropy(
    logits: _Double,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _One = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
) -> np.float64: ...
@overload
def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _Reduction = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
) -> Any: ...
@overload
def cross_entropy_with_grad(  # type: ignore[overload-overlap]
    logits: _Single,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _One = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
    out: _Out,
) -> tuple[np.float32, _Out]: ...
@overload
def cross_entropy_with_grad(
    logits: _Double,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _One = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
    out: _Out,
) -> tuple[np.float64, _Out]: ...
@overload
def cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _Reduction = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
    out: _Out,
) -> tuple[Any, _Out]: ...
@overload
def cross_entropy_with_grad(  # type: ignore[overload-overlap]
    logits: NDArray[np.float16],
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _One = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
    out: None = None,
) -> tuple[np.float32, NDArray[np.float16]]: ...
@overload
def cross_entropy_with_grad(  # type: ignore[overload-overlap]
    logits: NDArray[np.float32],
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _One = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
    out: None = None,
) -> tuple[np.float32, NDArray[np.float32]]: ...
@overload
def cross_entropy_with_grad(  # type: ignore[overload-overlap]
    logits: _Double,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _One = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
    out: None = None,
) -> tuple[np.float64, NDArray[np.float64]]: ...
@overload
def cross_entropy_with_grad(
    logits: NDArray[_Float],
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _Reduction = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
    out: None = None,
) -> tuple[Any, NDArray[_Float]]: ...
@overload
def cross_entropy_with_grad(
    logits: _Exact | _Floats,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _Reduction = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
    out: None = None,
) -> tuple[Any, NDArray[np.float64]]: ...
@overload
def cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _Reduction = "mean",
    temperature: ArrayLike = 1.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    where: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
    out: None = None,
) -> tuple[Any, Any]: ...
@overload
def cross_entropy_hvp(
    logits: ArrayLike,
    target: ArrayLike,
    v: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _Reduction = "mean",
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: _Out,
) -> _Out: ...
@overload
def cross_entropy_hvp(
    logits: NDArray[_Float],
    target: ArrayLike,
    v: NDArray[_Float] | float,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _Reduction = "mean",
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[_Float]: ...
@overload
def cross_entropy_hvp(
    logits: _Exact | _Floats,
    target: ArrayLike,
    v: _Exact | _Floats,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _Reduction = "mean",
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> NDArray[np.float64]: ...
@overload
def cross_entropy_hvp(
    logits: ArrayLike,
    target: ArrayLike,
    v: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: float = 0.0,
    reduction: _Reduction = "mean",
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: None = None,
) -> Any: ...
def set_num_threads(n: SupportsIndex) -> None: ...
def get_num_threads() -> int: ...
def simd_level() -> Literal["avx512", "avx2", "neon", "portable"]: ...

@final
class threads:
    def __new__(cls, n: SupportsIndex) -> Self: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *args: object) -> None: ...
