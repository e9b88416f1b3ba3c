"""One thread and two: scaling, and what sharing costs where there is little to share."""

import functools
import os
from collections.abc import Callable
from typing import Any

import softmax_rs

from . import common

SHAPES = ["64x1000", "1024x1000", "8192x1000", "64x32000", "1x10000000", "100000x100", "axis0:1000x8192"]
THREADS = [1, 2]


@functools.lru_cache(maxsize=1)
def on(row: common.Row, shape: str, threads: int) -> Callable[[], Any]:
    """The call, on that many threads."""
    if hasattr(os, "sched_setaffinity"):
        # asv may have pinned this process to one CPU. (The system leaves out those that it does not have.)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    softmax_rs.set_num_threads(threads)
    return common.prepared(row, shape, "float32", common.memories(row)[-1])


def call(self: Any, shape: str, threads: int) -> None:  # noqa: ANN401 -- a generated class
    """One call."""
    on(self.row, shape, threads)()


globals().update(
    common.generate(__name__, common.FUNCTIONS, {"time_call": call}, shape=lambda _: SHAPES, threads=lambda _: THREADS)
)
