"""ONE row per public function. Every hazard test iterates this list, so a new function is tested by adding its row.

The array arguments of a function (the logits, or a saved output, first) come from its `sample`, or from `arguments` if
the test has logits of its own; the tests give them any layout, call the function through
`f(*arrays, axis=..., **keywords)` and compare with `f.reference`, which takes the same arguments. Functions of another
kind (dense Jacobians, losses) have files of their own; here are their signatures.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import reference
import softmax_rs
import ulps
from ulps import FLOAT32, FLOAT64, FLOATS, HALF_LIMIT, HALVES, LONG

ELEMENTS = "elements"  # the result has the shape of the logits
ROWS = "rows"  # the result has one number per row

ALL = frozenset({"temperature", "where", "out", "dtype"})


def reduced_shape(shape, axis):
    """Return the shape without these axes."""
    axes = range(len(shape)) if axis is None else [a % len(shape) for a in np.atleast_1d(axis).astype(int) if shape]
    return tuple(n for a, n in enumerate(shape) if a not in axes)


def real(dtype):
    """Return the dtype of the result."""
    return dtype if dtype in FLOATS else FLOAT64


def normal(rng, shape):
    """Draw the second array."""
    return np.asarray(rng.normal(0, 1, shape))


def whole(rng, shape):
    """Draw small whole numbers instead, whose sums and differences are exact."""
    return np.asarray(rng.integers(-4, 5, shape))


def logits(rng, x, axis=-1, draw=normal):
    """Take the logits alone."""
    return (x,)


def logits_and_tangent(rng, x, axis=-1, draw=normal):
    """Take the logits, and draw a tangent (or cotangent) for each."""
    return x, draw(rng, x.shape).astype(real(x.dtype))


def logits_and_number_per_row(rng, x, axis=-1, draw=normal):
    """Take the logits, and draw one cotangent for each row."""
    return x, draw(rng, reduced_shape(x.shape, axis)).astype(real(x.dtype))


def saved(forward):
    """Take what that function gave for the logits, and draw a cotangent for each."""

    def arguments(rng, x, axis=-1, draw=normal):
        return np.asarray(forward(x, axis=axis)), draw(rng, x.shape).astype(real(x.dtype))

    return arguments


def limit_of_elements(table):
    """Measure against the true value itself; `table` has one limit, or one for short and one for long rows."""

    def limit(expected, dtype, n, x, **call):
        if dtype in HALVES:
            return HALF_LIMIT, None
        value = table[dtype]
        return (value[n >= LONG] if isinstance(value, tuple) else value), None

    return limit


def limit_of_logsumexp(expected, dtype, n, x, **call):
    """Measure against the largest of max, result and log1p(tail); a cancelled float32 result against itself."""
    if dtype in HALVES:
        return HALF_LIMIT, None
    with np.errstate(all="ignore"):
        scale = np.where(np.isfinite(expected), reference.logsumexp_scale(x, **call), expected)
        limit, itself = ulps.LOGSUMEXP_LIMIT[dtype], np.abs(expected)
        if dtype != FLOAT32:
            return limit, scale
        cancelled = itself < scale / 4
        return np.where(cancelled, ulps.CANCELLED_LIMIT, limit), np.where(cancelled, itself, scale)


def limit_of_scale(scale_of):
    """Measure against the absolute values of the terms, which `scale_of` adds."""

    def limit(expected, dtype, n, *arrays, **call):
        with np.errstate(all="ignore"):
            scale = scale_of(*arrays, **call)
        if dtype in HALVES:
            return ulps.with_half_limit(ulps.DERIVATIVE_LIMIT[FLOAT32], expected, scale, dtype), None
        return ulps.DERIVATIVE_LIMIT[dtype], scale

    return limit


@dataclass(frozen=True)
class Function:
    """What the tests must know about a public function."""

    name: str
    reference: Callable
    output: str
    signature: str
    limit: Callable = field(repr=False)  # (expected, dtype, n, *arrays, **call) -> (ULPs, scale or None)
    default_axis: int | None
    keywords: frozenset
    masked: float | None  # the result at a masked element (ELEMENTS)
    nothing: float  # the result (ROWS) of a row without an element that counts
    one: Callable  # the result for a row of the one finite element a (and what is beside it)
    arguments: Callable = logits  # (rng, x, axis, draw) -> the array arguments made from the logits x

    def __call__(self, *arrays, **call):
        """Call the public function."""
        return getattr(softmax_rs, self.name)(*arrays, **call)

    def __str__(self):
        """Name the test case."""
        return self.name

    def sample(self, rng, shape, dtype, axis=-1):
        """Draw the arguments; the logits are normal of scale 3."""
        return self.arguments(rng, np.asarray(rng.normal(0, 3, shape)).astype(dtype), axis)

    def raw(self, rng, x, axis=-1):
        """Take `x` itself as the first argument, for a saved output too: its memory matters then, not its sense."""
        return x, *self.arguments(rng, x, axis)[1:]

    @property
    def names(self):
        """Return the names of the array arguments."""
        return tuple(self.signature[1:].split(", axis")[0].split(", "))

    def accepts(self, *keywords):
        """Say whether the function has these keywords."""
        return self.keywords.issuperset(keywords)

    def result_shape(self, shape, axis):
        """Return the shape of the result for logits of this shape."""
        return tuple(shape) if self.output == ELEMENTS else reduced_shape(shape, axis)

    def check(self, actual, dtype, *arrays, label="", **call):
        """Fail if `actual` is further from the reference than the README allows. Rows lie along the last axis."""
        expected = self.reference(*arrays, axis=-1, **call)
        n = arrays[0].shape[-1]
        limit, scale = self.limit(expected, dtype, n, *arrays, axis=-1, **call)
        label = f"{self.name} {label} {dtype} n={n}"
        assert np.asarray(actual).dtype == dtype, f"{label}: dtype {np.asarray(actual).dtype}"
        return ulps.assert_close(actual, expected, dtype, limit, scale=scale, rows=arrays, label=label)


PRODUCTS = (("softmax_jvp", "t"), ("softmax_vjp", "g"), ("log_softmax_jvp", "t"), ("log_softmax_vjp", "g"))

FUNCTIONS = (
    Function(
        "softmax",
        reference.softmax,
        ELEMENTS,
        "(x, axis=-1, *, temperature=1.0, where=None, out=None, dtype=None)",
        limit_of_elements(ulps.SOFTMAX_LIMIT),
        default_axis=-1,
        keywords=ALL,
        masked=0.0,
        nothing=np.nan,
        one=lambda _: 1.0,
    ),
    Function(
        "log_softmax",
        reference.log_softmax,
        ELEMENTS,
        "(x, axis=-1, *, temperature=1.0, where=None, out=None, dtype=None)",
        limit_of_elements(ulps.LOG_SOFTMAX_LIMIT),
        default_axis=-1,
        keywords=ALL,
        masked=-np.inf,
        nothing=np.nan,
        one=lambda _: 0.0,
    ),
    Function(
        "logsumexp",
        reference.logsumexp,
        ROWS,
        "(x, axis=None, *, keepdims=False, where=None, out=None, dtype=None)",
        limit_of_logsumexp,
        default_axis=None,
        keywords=ALL - {"temperature"} | {"keepdims"},
        masked=None,
        nothing=-np.inf,
        one=lambda a: a,
    ),
    *(
        Function(
            name,
            getattr(reference, name),
            ELEMENTS,
            f"(x, {second}, axis=-1, *, temperature=1.0, where=None, out=None)",
            limit_of_scale(getattr(reference, f"{name}_scale")),
            default_axis=-1,
            keywords=ALL - {"dtype"},
            masked=0.0,
            nothing=np.nan,
            one=lambda a, b: 0.0,
            arguments=logits_and_tangent,
        )
        for name, second in PRODUCTS
    ),
    *(
        Function(
            f"{forward.__name__}_backward",
            getattr(reference, f"{forward.__name__}_backward"),
            ELEMENTS,
            "(y, g, axis=-1, *, temperature=1.0, where=None, out=None)",
            limit_of_scale(getattr(reference, f"{forward.__name__}_backward_scale")),
            default_axis=-1,
            keywords=ALL - {"dtype"},
            masked=0.0,
            nothing=np.nan,
            one=lambda a, b: 0.0,
            arguments=saved(forward),
        )
        for forward in (softmax_rs.softmax, softmax_rs.log_softmax)
    ),
    Function(
        "logsumexp_jvp",
        reference.logsumexp_jvp,
        ROWS,
        "(x, t, axis=None, *, keepdims=False, where=None, out=None)",
        limit_of_scale(reference.logsumexp_jvp_scale),
        default_axis=None,
        keywords=frozenset({"keepdims", "where", "out"}),
        masked=None,
        nothing=0.0,
        one=lambda a, b: b,
        arguments=logits_and_tangent,
    ),
    Function(
        "logsumexp_vjp",
        reference.logsumexp_vjp,
        ELEMENTS,
        "(x, g, axis=None, *, where=None, out=None)",
        limit_of_scale(reference.logsumexp_vjp_scale),
        default_axis=None,
        keywords=frozenset({"where", "out"}),
        masked=0.0,
        nothing=np.nan,
        one=lambda a, b: b,
        arguments=logits_and_number_per_row,
    ),
)

WITH_TEMPERATURE = tuple(f for f in FUNCTIONS if f.accepts("temperature"))
WITH_WHERE = tuple(f for f in FUNCTIONS if f.accepts("where"))
WITH_DTYPE = tuple(f for f in FUNCTIONS if f.accepts("dtype"))
WITH_OUT = tuple(f for f in FUNCTIONS if f.accepts("out"))
# Functions of two arrays, and those of them that take a saved output instead of the logits.
OF_TWO = tuple(f for f in FUNCTIONS if len(f.names) == 2)
FROM_OUTPUT = tuple(f for f in OF_TWO if f.names[0] == "y")

# Functions that no row above describes, and their signatures.
_LOSS = (
    "axis=-1, weight=None, sample_weight=None, ignore_index=-100, label_smoothing=0.0, reduction='mean', "
    "temperature=1.0"
)
OTHERS = {
    "softmax_jacobian": "(x, axis=-1, *, temperature=1.0, out=None)",
    "log_softmax_jacobian": "(x, axis=-1, *, temperature=1.0, out=None)",
    "cross_entropy": f"(logits, target, *, {_LOSS}, z_loss=0.0, softcap=None, where=None)",
    "cross_entropy_with_grad": (
        f"(logits, target, *, {_LOSS}, z_loss=0.0, softcap=None, where=None, grad_output=None, out=None)"
    ),
    "cross_entropy_hvp": f"(logits, target, v, *, {_LOSS}, where=None, out=None)",
}

BY_NAME = {f.name: f for f in FUNCTIONS}
RUNTIME = ("set_num_threads", "get_num_threads", "threads", "simd_level", "__version__")


def one_row_at_a_time(f, arrays, axis, *, temperature=None, where=None, **call):
    """Call `f` on each row alone, copied to fresh contiguous memory: the oracle of every test about layout and axes.

    The `arrays` have the logits' shape or, as `temperature`, the reduced shape.
    """
    x = arrays[0]
    axes = list(range(x.ndim)) if axis is None else [int(a) % x.ndim for a in np.atleast_1d(np.asarray(axis, int))]
    axes = sorted(set(axes))
    kept = [a for a in range(x.ndim) if a not in axes]
    shape = [x.shape[a] for a in kept + axes]
    length = int(np.prod(shape[len(kept) :], dtype=int))

    def rows(array):
        if array.ndim != x.ndim:
            return array.reshape(-1)  # one number per row
        return np.array(np.transpose(array, kept + axes), order="C").reshape(-1, length)

    matrices = [rows(a).astype(a.dtype.newbyteorder("=")) for a in arrays]
    masks = None if where is None else rows(np.broadcast_to(where, x.shape))
    temperatures = None if temperature is None else np.broadcast_to(temperature, shape[: len(kept)]).reshape(-1)
    results = []
    for i in range(len(matrices[0])):
        keywords = dict(call)
        if masks is not None:
            keywords["where"] = masks[i]
        if temperatures is not None:
            keywords["temperature"] = float(temperatures[i])
        results.append(f(*[m[i].copy() for m in matrices], axis=-1, **keywords))
    results = np.array(results, dtype=np.asarray(results[0]).dtype)
    if f.output == ROWS:
        return results.reshape(shape[: len(kept)])
    return results.reshape(shape).transpose(np.argsort(kept + axes))
