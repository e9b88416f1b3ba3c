"""Every public function of arrays as one kind of thing: the rows of the catalogue, the Jacobians, and the losses with
either kind of target. Tests of memory and of misuse, to which formulas do not matter, iterate this list.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import softmax_rs
from catalogue import ELEMENTS, FROM_OUTPUT, FUNCTIONS, logits_and_tangent, real, reduced_shape

LOSS_KEYWORDS = frozenset(
    {
        "weight",
        "sample_weight",
        "ignore_index",
        "label_smoothing",
        "reduction",
        "temperature",
        "z_loss",
        "softcap",
        "where",
    }
)


@dataclass(frozen=True)
class Kind:
    """A public function, and for a loss the kind of its targets."""

    name: str
    function: str
    names: tuple  # of the array arguments, the logits (or a saved result) first
    keywords: frozenset  # beside `axis`
    beside: Callable  # (rng, x, axis) -> the arrays beside the first
    out_shape: Callable  # (shape, axis) -> shape of what `out` takes, or None
    one_axis: bool = False  # takes one integer as `axis`, and no 0-d array

    def __str__(self):
        """Name the test case."""
        return self.name

    def __call__(self, *arrays, **call):
        """Call the public function; a tuple of what it gives."""
        results = getattr(softmax_rs, self.function)(*arrays, **call)
        return results if isinstance(results, tuple) else (results,)

    def arrays(self, rng, x, axis=-1):
        """Return `x` itself and arrays to go with it."""
        return (x, *self.beside(rng, x, axis))

    def accepts(self, *keywords):
        """Say whether the function has these keywords."""
        return self.keywords.issuperset(keywords)

    def bits(self, *arrays, **call):
        """Return the bytes of the results."""
        return [np.asarray(r).tobytes() for r in self(*arrays, **call)]


def _classes(rng, x, axis):
    n = x.shape[axis]
    return (rng.integers(0, n, reduced_shape(x.shape, axis)) if n else np.full(reduced_shape(x.shape, axis), -100),)


def _probabilities(rng, x, axis):
    return (rng.uniform(0, 1, x.shape).astype(real(x.dtype)),)


def _with_v(target):
    return lambda rng, x, axis: (*target(rng, x, axis), rng.normal(0, 1, x.shape).astype(real(x.dtype)))


def _same(shape, axis):
    return tuple(shape)


def _square(shape, axis):
    n = shape[axis]
    return (*reduced_shape(shape, axis), n, n)


def _kinds():
    for f in FUNCTIONS:
        shape = _same if f.output == ELEMENTS else reduced_shape
        arguments = logits_and_tangent if f in FROM_OUTPUT else f.arguments  # nothing is called to draw arrays
        beside = lambda rng, x, axis, arguments=arguments: arguments(rng, x, axis)[1:]  # noqa: E731 a parameter below
        yield Kind(f.name, f.name, f.names, f.keywords, beside, shape)
    for name in ("softmax_jacobian", "log_softmax_jacobian"):
        yield Kind(name, name, ("x",), frozenset({"temperature", "out"}), lambda *_: (), _square, one_axis=True)
    for label, target in (("classes", _classes), ("probabilities", _probabilities)):
        keywords = LOSS_KEYWORDS - ({"ignore_index"} if label == "probabilities" else set())
        with_grad, curved = keywords | {"grad_output", "out"}, keywords - {"z_loss", "softcap"} | {"out"}
        of = ("logits", "target")
        yield Kind(f"cross_entropy {label}", "cross_entropy", of, keywords, target, lambda *_: None, one_axis=True)
        name = "cross_entropy_with_grad"
        yield Kind(f"{name} {label}", name, of, with_grad, target, _same, one_axis=True)
        name = "cross_entropy_hvp"
        yield Kind(f"{name} {label}", name, (*of, "v"), curved, _with_v(target), _same, one_axis=True)


KINDS = tuple(_kinds())
WITH_OUT = tuple(k for k in KINDS if k.accepts("out"))
LOSSES = tuple(k for k in KINDS if k.accepts("reduction"))
