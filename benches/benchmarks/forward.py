"""float32 along the last axis, one thread: the regimes of the drive, from a batch in cache to one row beyond it."""

from typing import Any

from . import common

SHAPES = [
    "32x1000",
    "1024x1000",
    "8192x1000",
    "64x32000",
    "1x10000000",
    "1000000x10",
    "100000x100",
]


def call(self: Any, shape: str, memory: str) -> None:  # noqa: ANN401 -- a generated class
    """One call."""
    common.prepared(self.row, shape, "float32", memory)()


def classes(group: str, module: str) -> dict[str, type]:
    """The benchmarks of the functions of a group."""
    rows = [row for row in common.FUNCTIONS if common.group(row.name) == group]
    return common.generate(module, rows, {"time_call": call}, shape=lambda _: SHAPES, memory=common.memories)


globals().update(classes("forward", __name__))
