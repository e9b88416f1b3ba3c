"""The storage types, in cache and beyond."""

from typing import Any

from . import common

SHAPES = ["1024x1000", "64x32000", "100000x32"]
DTYPES = ["float16", "bfloat16", "float32", "float64"]


def call(self: Any, shape: str, dtype: str) -> None:  # noqa: ANN401 -- a generated class
    """One call."""
    common.prepared(self.row, shape, dtype, common.memories(self.row)[-1])()


globals().update(
    common.generate(__name__, common.FUNCTIONS, {"time_call": call}, shape=lambda _: SHAPES, dtype=lambda _: DTYPES)
)
