"""An axis that is not the last: neighbours in memory belong to different rows."""

from typing import Any

from . import common

SHAPES = ["axis0:1000x8192", "axis0:8192x1000", "axis0:16x65536"]


def call(self: Any, shape: str) -> None:  # noqa: ANN401 -- a generated class
    """One call."""
    common.prepared(self.row, shape, "float32", common.memories(self.row)[-1])()


globals().update(common.generate(__name__, common.FUNCTIONS, {"time_call": call}, shape=lambda _: SHAPES))
