"""The same elements in other memory: what a layout costs over plain rows."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from . import common

SHAPE = (1024, 1000)
Array = common.Array


def strided(x: Array) -> Array:
    """Every second element."""
    room = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    room[..., ::2] = x
    return room[..., ::2]


def misaligned(x: Array) -> Array:
    """A byte off."""
    room = np.zeros(x.nbytes + 1, np.uint8)
    view: Array = np.ndarray(x.shape, x.dtype, room, 1)
    view[...] = x
    return view


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "rows": lambda x: x,
    "fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "strided": strided,
    "reversed": lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
    "misaligned": misaligned,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
}


@functools.lru_cache(maxsize=1)
def laid_out(row: common.Row, layout: str) -> Callable[[], Any]:
    """The call on arrays in this layout (those of the logits' shape; targets stay as they are)."""
    arrays = [
        LAYOUTS[layout](a) if isinstance(a, np.ndarray) and a.shape == SHAPE else a
        for a in common.arguments(row, SHAPE, 1)
    ]
    return common.bound(row, arrays, 1)


def of_layout(self: Any, shape: str, layout: str) -> None:  # noqa: ANN401 -- a generated class
    """One call."""
    del shape
    laid_out(self.row, layout)()


globals().update(
    common.generate(
        __name__,
        common.FUNCTIONS,
        {"time_layout": of_layout},
        shape=lambda _: ["x".join(map(str, SHAPE))],
        layout=lambda _: list(LAYOUTS),
    )
)
