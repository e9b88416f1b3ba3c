"""Softmax, log-softmax and log-sum-exp for NumPy arrays: fast, accurate, and the same bits every time.

The functions are compiled; this module only names them, since on a small array one Python frame costs as much as the
computation.
"""

from softmax_rs._softmax_rs import (
    __version__,
    get_num_threads,
    log_softmax,
    logsumexp,
    set_num_threads,
    simd_level,
    softmax,
    threads,
)

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
