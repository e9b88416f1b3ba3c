"""ONE row per public function. Every hazard test iterates this list, so a new function is tested by adding its row.

The array arguments of a function (the logits first) come from its `sample`; the tests give them any layout, call the
function through `f(*arrays, axis=..., **keywords)` and compare with `f.reference`, which takes the same arguments.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import reference
import softmax_rs
import ulps
from ulps import FLOAT32, HALF_LIMIT, HALVES, LONG

ELEMENTS = "elements"  # the result has the shape of the logits
ROWS = "rows"  # the result has one number per row

ALL = frozenset({"temperature", "where", "out", "dtype"})


def logits(rng, shape, dtype, axis=-1):
    """Draw normal logits of scale 3."""
    return (np.asarray(rng.normal(0, 3, shape)).astype(dtype),)


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
        limit, itself = ulps.LOGSUMEXP_LIMIT[dtype][n >= LONG], np.abs(expected)
        if dtype != FLOAT32:
            return limit, scale
        cancelled = itself < scale / 4
        return np.where(cancelled, ulps.CANCELLED_LIMIT, limit), np.where(cancelled, itself, scale)


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
    one: Callable  # the result for a row of the one finite element a
    sample: Callable = logits

    def __call__(self, *arrays, **call):
        """Call the public function."""
        return getattr(softmax_rs, self.name)(*arrays, **call)

    def __str__(self):
        """Name the test case."""
        return self.name

    def accepts(self, *keywords):
        """Say whether the function has these keywords."""
        return self.keywords.issuperset(keywords)

    def result_shape(self, shape, axis):
        """Return the shape of the result for logits of this shape."""
        if self.output == ELEMENTS:
            return tuple(shape)
        axes = range(len(shape)) if axis is None else [a % len(shape) for a in np.atleast_1d(axis).astype(int)]
        return tuple(n for a, n in enumerate(shape) if a not in axes)

    def check(self, actual, dtype, *arrays, label="", **call):
        """Fail if `actual` is further from the reference than the README allows. Rows lie along the last axis."""
        expected = self.reference(*arrays, axis=-1, **call)
        n = arrays[0].shape[-1]
        limit, scale = self.limit(expected, dtype, n, *arrays, axis=-1, **call)
        label = f"{self.name} {label} {dtype} n={n}"
        assert np.asarray(actual).dtype == dtype, f"{label}: dtype {np.asarray(actual).dtype}"
        return ulps.assert_close(actual, expected, dtype, limit, scale=scale, rows=arrays[0], label=label)


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
)

WITH_TEMPERATURE = tuple(f for f in FUNCTIONS if f.accepts("temperature"))
WITH_WHERE = tuple(f for f in FUNCTIONS if f.accepts("where"))
WITH_DTYPE = tuple(f for f in FUNCTIONS if f.accepts("dtype"))
WITH_OUT = tuple(f for f in FUNCTIONS if f.accepts("out"))

BY_NAME = {f.name: f for f in FUNCTIONS}
RUNTIME = ("set_num_threads", "get_num_threads", "threads", "simd_level", "__version__")


def one_row_at_a_time(f, arrays, axis, *, temperature=None, where=None, **call):
    """Call `f` on each row alone, copied to fresh contiguous memory: the oracle of every test about layout and axes.

    All `arrays` have the logits' shape, `temperature` the reduced shape.
    """
    x = arrays[0]
    axes = list(range(x.ndim)) if axis is None else [int(a) % x.ndim for a in np.atleast_1d(np.asarray(axis, int))]
    axes = sorted(set(axes))
    kept = [a for a in range(x.ndim) if a not in axes]
    shape = [x.shape[a] for a in kept + axes]
    length = int(np.prod(shape[len(kept) :], dtype=int))

    def rows(array):
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
