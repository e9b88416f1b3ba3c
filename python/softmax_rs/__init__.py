"""Softmax, its relatives, their derivatives and losses for NumPy arrays: fast, accurate, and the same bits every time.

The functions are compiled; this module only names them, since on a small array one Python frame costs as much as the
computation.
"""

from softmax_rs._softmax_rs import (
    __version__,
    cross_entropy,
    cross_entropy_hvp,
    cross_entropy_with_grad,
    get_num_threads,
    log_softmax,
    log_softmax_backward,
    log_softmax_jacobian,
    log_softmax_jvp,
    log_softmax_vjp,
    logsumexp,
    logsumexp_jvp,
    logsumexp_vjp,
    set_num_threads,
    simd_level,
    softmax,
    softmax_backward,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
    threads,
)

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
