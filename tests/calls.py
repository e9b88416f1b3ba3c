"""Every public function as calls without arguments: for tests of what is around a call (forks, threads, memory)."""

import numpy as np

import softmax_rs
from catalogue import FUNCTIONS, real

LOSSES = ("cross_entropy", "cross_entropy_with_grad", "cross_entropy_hvp")
JACOBIANS = ("softmax_jacobian", "log_softmax_jacobian")


def calls(shape, dtype=np.float32, axis=-1, *, seed=0):
    """Return name -> call for logits of two axes; a Jacobian, whose result is larger, takes a corner of them.

    A call takes more keywords, as `out`.
    """
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    x = rng.normal(0, 3, shape).astype(dtype)
    made = {}

    def add(name, *arrays, label="", **keywords):
        function = getattr(softmax_rs, name)
        made[f"{name}{label}"] = lambda **more: function(*arrays, axis=axis, **keywords, **more)

    for f in FUNCTIONS:
        add(f.name, *f.arguments(rng, x, axis))
    n, rows = x.shape[axis], x.shape[1 + axis]
    corner = [slice(32), slice(32)]
    corner[1 + axis] = slice(128)  # 128 x 32 x 32 results: above the parallel threshold
    for name in JACOBIANS:
        add(name, np.array(x[tuple(corner)]))
    indices, v = rng.integers(0, n, rows), rng.normal(0, 1, x.shape).astype(real(dtype))
    indices[::7] = -100
    targets = {" of indices": indices, " of probabilities": softmax_rs.softmax(v, axis=axis)}
    for label, target in targets.items():
        for name in LOSSES:
            add(name, x, target, *([v] if name == "cross_entropy_hvp" else []), label=label)
    return made


def bits(result):
    """Return the bytes of a result, or of each of a pair."""
    return b"".join(np.asarray(part).tobytes() for part in (result if isinstance(result, tuple) else (result,)))
