"""Nanoseconds per element, `out` given, beside a copy of the same array: comparable between shapes.

(Not GB/s: asv takes a larger number for a worse one.)
"""

import functools
import math
import statistics
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

from . import common

SHAPES = ["1024x1000", "8192x1000", "64x32000", "1x10000000", "1000000x10", "100000x100", "axis0:1000x8192"]
ROUNDS = 7


def per_element(call: Callable[[], Any], elements: int) -> float:
    """The median of some rounds, each of some 0.02 s."""
    timer = timeit.Timer(call)
    timer.timeit(1)
    number = max(1, round(0.02 / timer.timeit(1)))
    return round(statistics.median(timer.repeat(ROUNDS, number)) / number / elements * 1e9, 4)


def nanoseconds(self: Any, shape: str) -> float:  # noqa: ANN401 -- a generated class
    """One call's time, divided."""
    call = common.prepared(self.row, shape, "float32", common.memories(self.row)[-1])
    return per_element(call, math.prod(common.parse(shape)[0]))


def copy(_: Any, shape: str) -> float:  # noqa: ANN401 -- a class
    """The floor: as many bytes read and written."""
    x = np.ones(common.parse(shape)[0], np.float32)
    return per_element(functools.partial(np.copyto, np.empty_like(x), x), x.size)


nanoseconds.unit = copy.unit = "ns per element"  # type: ignore[attr-defined]  # asv's way to be told

globals().update(
    common.generate(__name__, common.FUNCTIONS, {"track_ns_per_element": nanoseconds}, shape=lambda _: SHAPES)
)


class Copy:
    """numpy.copyto."""

    params = (SHAPES,)
    param_names = ("shape",)
    version = "1"
    track_ns_per_element = copy
