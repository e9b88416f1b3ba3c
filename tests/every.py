"""Every public function, losses and Jacobians too, as one call on rows of logits; and logits made of integers alone."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import softmax_rs
from catalogue import ELEMENTS, FUNCTIONS, ROWS, WITH_TEMPERATURE
from ulps import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, bits

SQUARES = "squares"  # the result has a matrix per row, behind the other axes
FIELDS = {FLOAT16: (5, 10), BFLOAT16: (8, 7), FLOAT32: (8, 23), FLOAT64: (11, 52)}  # bits of exponent and fraction


class Integers:
    """Random integers that are the same on every machine and with every NumPy, and floats made of their bits."""

    def __init__(self, seed):
        """Start a stream of its own for each seed."""
        self.generator = np.random.PCG64(seed)  # of which NumPy promises `random_raw`; of `normal` it does not

    def below(self, n, shape):
        """Draw integers of [0, n)."""
        count = int(np.prod(shape, dtype=int))
        return (self.generator.random_raw(count) >> np.uint64(11)).astype(np.int64).reshape(shape) % n

    def eighths(self, shape):
        """Draw from -2 to 2 in steps of 1/8: exact in every dtype."""
        return (self.below(33, shape) - 16) / 8

    def floats(self, dtype, exponents, shape, *, negative=None, fraction=None):
        """Draw floats of any fraction and sign (or of those given) whose exponents are in the range."""
        width, length = FIELDS[dtype]
        low, high = exponents
        sign = self.below(2, shape) if negative is None else np.full(shape, int(negative))
        exponent = self.below(high - low + 1, shape) + low + (1 << width - 1) - 1
        last = self.below(1 << length, shape) if fraction is None else np.full(shape, fraction)
        number = sign.astype(np.uint64) << np.uint64(width + length) | (exponent << length | last).astype(np.uint64)
        return number.astype(f"u{dtype.itemsize}").view(dtype)


KINDS = 12
WEIGHTS = np.resize([0.5, 0.75, 1.0, 1.25], 2**18 + 3)  # of classes


@functools.cache
def corpus(dtype, rows, n):
    """Return rows of logits that are hard to get right, special values among them; one of each kind in `KINDS` rows."""
    x = np.stack([_row(Integers(1_000_003 * r + n), r % KINDS, dtype, n) for r in range(rows)])
    x.flags.writeable = False
    return x


def _row(integers, kind, dtype, n):
    top = (1 << FIELDS[dtype][0] - 1) - 1  # the largest exponent
    at = int(integers.below(n, ()))
    infinity, nan = integers.floats(dtype, (top + 1, top + 1), (2,), negative=False, fraction=0)[:2]
    exponents = {1: (2, 2), 2: (5, 5), 3: (3, 6), 4: (0, 1), 5: (-top, -top), 6: (1 - top, top)}.get(kind, (-3, 2))
    row = integers.floats(dtype, exponents, (n,), fraction=0 if kind == 4 else None)
    if kind == 1:  # near each other, out of the reach of the exponent shift where the dtype has such numbers
        far = {FLOAT16: 14, FLOAT64: 50}.get(dtype, 22)
        row = integers.floats(dtype, (far, far), (n,), negative=False, fraction=0)
        row = (bits(row) + integers.below(64, (n,)).astype(f"u{dtype.itemsize}")).view(dtype)
    elif kind == 2:  # saturated
        row = -np.abs(row)
        row[at] = 0
    elif kind == 7:
        row[::3] = -infinity
    elif kind == 8:  # a NaN with a payload
        fraction = int(bits(infinity)) >> 1 | 5
        nan = (bits(infinity) | bits(infinity).dtype.type(fraction)).astype(f"u{dtype.itemsize}")
        row[at : at + 1] = nan.view(dtype)
    elif kind == 9:
        row[at] = infinity
    elif kind == 10:
        row[:] = -infinity
    elif kind == 11:  # as far apart as can be
        largest = (bits(infinity) - bits(infinity).dtype.type(1)).astype(f"u{dtype.itemsize}").view(dtype)
        row[:] = -largest
        row[at] = largest
    return row


@dataclass(frozen=True)
class Way:
    """A public function, used in one of the ways that run code of their own."""

    name: str
    arguments: Callable = field(
        repr=False
    )  # (integers, x, axis) -> arrays in the logits' shape, then one number per row
    call: Callable = field(repr=False)  # (*arrays, axis) -> one result or several
    gives: tuple  # the kind of each

    def __str__(self):
        """Name the test case."""
        return self.name

    def __call__(self, *arrays, axis):
        """Return the results as a tuple of arrays."""
        results = self.call(*arrays, axis=axis)
        return tuple(np.asarray(r) for r in (results if isinstance(results, tuple) else (results,)))

    def rows(self, results, axis):
        """Return the bits of each result as a matrix that has a row per row of logits, whatever the axis."""
        matrices = []
        for result, kind in zip(results, self.gives, strict=True):
            if kind == ELEMENTS:
                moved = np.moveaxis(bits(result), axis, -1)
                matrices.append(moved.reshape(-1, moved.shape[-1]))
            else:
                matrices.append(bits(result).reshape((-1, result.shape[-1] ** 2) if kind == SQUARES else (-1, 1)))
        return matrices


def _draw(integers, shape):
    return integers.eighths(shape)


def _of(f, suffix="", **keywords):
    def call(*arrays, axis):
        return f(*arrays, axis=axis, **keywords)

    def arguments(integers, x, axis):
        return f.arguments(integers, x, axis, _draw)

    return Way(f.name + suffix, arguments, call, (f.output,))


def _jacobian(name):
    return Way(name, lambda _, x, axis: (x,), lambda x, axis: getattr(softmax_rs, name)(x, axis=axis), (SQUARES,))


def _loss(name, gives, *, dense):
    """Use a loss with classes and weights, or with probabilities, smoothing, z_loss and softcap (not the Hessian)."""
    has_vector = name == "cross_entropy_hvp"
    terms = {"label_smoothing": 0.1, "temperature": 0.7} if dense else {}
    if dense and not has_vector:
        terms |= {"z_loss": 0.01, "softcap": 30.0}

    def arguments(integers, x, axis):
        kept = tuple(n for a, n in enumerate(x.shape) if a != axis % x.ndim)
        shape = x.shape if dense else kept
        target = np.abs(integers.eighths(shape)).astype(x.dtype) if dense else integers.below(x.shape[axis], shape)
        vector = (integers.eighths(x.shape).astype(x.dtype),) if has_vector else ()
        beside = ((target,), ()) if dense else ((), (target,))
        return x, *beside[0], *vector, *beside[1], np.abs(integers.eighths(kept)) + 0.125

    def call(x, *arrays, axis):
        *arrays, samples = arrays
        if not dense:
            arrays = [arrays[-1], *arrays[:-1]]
        weight = None if dense else WEIGHTS[: x.shape[axis]]
        keywords = {"axis": axis, "weight": weight, "sample_weight": samples, "reduction": "none", **terms}
        return getattr(softmax_rs, name)(x, *arrays, **keywords)

    return Way(f"{name} of {'probabilities' if dense else 'classes'}", arguments, call, gives)


WAYS = (
    *(_of(f) for f in FUNCTIONS),
    *(_of(f, " at 0.7", temperature=0.7) for f in WITH_TEMPERATURE),
    *(_jacobian(name) for name in ("softmax_jacobian", "log_softmax_jacobian")),
    *(
        _loss(name, gives, dense=dense)
        for name, gives in (
            ("cross_entropy", (ROWS,)),
            ("cross_entropy_with_grad", (ROWS, ELEMENTS)),
            ("cross_entropy_hvp", (ELEMENTS,)),
        )
        for dense in (False, True)
    ),
)
