"""What a call costs beside its arithmetic. A thousand calls on ten numbers: microseconds read as nanoseconds a call."""

import itertools
from typing import Any

from . import common

CALLS = 1000


def thousand(self: Any, shape: str, memory: str) -> None:  # noqa: ANN401 -- a generated class
    """A thousand calls."""
    call = common.prepared(self.row, shape, "float32", memory)
    for _ in itertools.repeat(None, CALLS):
        call()


globals().update(
    common.generate(
        __name__, common.FUNCTIONS, {"time_1000_calls": thousand}, shape=lambda _: ["1x10"], memory=common.memories
    )
)
