"""From the rows of tests/catalogue.py to benchmarks.

asv runs this working tree's benchmarks on packages built from other commits. So nothing here may come from the
package's own commit: the catalogue is that of the working tree, a function is taken from the installed package by its
name, and one that is not there is skipped.

A class has no `setup`: asv (0.6.6) would call it before each single call, and time these one by one. What a benchmark
needs is made by its first call, which is not timed, and kept.

Names and cells are only appended to: asv takes a change for a new benchmark, and drops the old one's history.
"""

import functools
import importlib
import itertools
import math
import re
import sys
import types
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import softmax_rs

Array = np.ndarray[Any, Any]
# A row of the catalogue; tests have no types.
Row = Any

TESTS = Path(__file__).parents[2] / "tests"
# How the functions are fed that have no row in the catalogue, but a signature: by the names of their arguments.
ARGUMENTS: dict[str, Callable[[np.random.Generator, tuple[int, ...], np.dtype[Any], int], Any]] = {
    "x": lambda rng, shape, dtype, _: rng.normal(0, 3, shape).astype(dtype),
    "logits": lambda rng, shape, dtype, _: rng.normal(0, 3, shape).astype(dtype),
    "v": lambda rng, shape, dtype, _: rng.normal(0, 1, shape).astype(dtype),
    "target": lambda rng, shape, _, axis: rng.integers(0, shape[axis], np.delete(shape, axis)),
    "index": lambda rng, shape, _, axis: rng.integers(0, shape[axis], np.delete(shape, axis)),
    "k": lambda _, shape, __, axis: min(8, shape[axis]),
}


@dataclass(frozen=True)
class Signature:
    """A row made from a name and a signature, with what benchmarks want of a row."""

    name: str
    signature: str

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any], axis: int
    ) -> tuple[Any, ...]:
        """The positional arguments without a default, `axis` aside."""
        names = re.match(r"\(([\w, ]*?)(?:, axis=|, \*)", self.signature)
        return tuple(ARGUMENTS[name](rng, shape, dtype, axis) for name in (names.group(1).split(", ") if names else ()))

    def accepts(self, *keywords: str) -> bool:
        """Whether the function has these keywords."""
        return all(f"{keyword}=" in self.signature for keyword in keywords)


def _absent(name: str) -> Callable[..., Any]:
    """Stands for a function that the installed package does not have."""

    def call(*_: Any, **__: Any) -> Any:  # noqa: ANN401 -- any function
        raise NotImplementedError(f"the installed softmax_rs has no {name}")

    call.__name__ = name
    return call


def _catalogue() -> tuple[Row, ...]:
    """All rows. The catalogue may name functions while it is imported that the installed package does not have."""
    sys.path.insert(0, str(TESTS))  # it imports its neighbours by name
    lenient = types.ModuleType("softmax_rs")
    vars(lenient).update(vars(softmax_rs), __getattr__=_absent)
    sys.modules["softmax_rs"] = lenient
    try:
        module = importlib.import_module("catalogue")
    finally:
        sys.modules["softmax_rs"] = softmax_rs
    others: dict[str, str] = getattr(module, "OTHERS", {})
    return (*module.FUNCTIONS, *(Signature(name, signature) for name, signature in others.items()))


FUNCTIONS = _catalogue()

# By the words of the functions' names; what is in neither is forward.
GROUPS = {
    "cross_entropy": re.compile("cross_entropy"),
    "gradient": re.compile("jacobian|jvp|vjp|hvp|backward"),
}
LARGEST_RESULT = 512 << 20  # bytes: no one asks for the Jacobian of ten million logits


def group(name: str) -> str:
    """The module that has the benchmarks of this function."""
    return next((module for module, words in GROUPS.items() if words.search(name)), "forward")


def parse(spec: str) -> tuple[tuple[int, ...], int]:
    """A cell's shape and axis: "axis0:1000x8192" -> (1000, 8192), 0."""
    shape = tuple(map(int, spec.removeprefix("axis0:").split("x")))
    return shape, 0 if spec.startswith("axis0:") else len(shape) - 1


def arguments(row: Row, shape: tuple[int, ...], axis: int, dtype: str = "float32") -> tuple[Any, ...]:
    """The row's sample of this shape, the same in every process and on every commit."""
    if dtype == "bfloat16":
        import ml_dtypes

        kind = np.dtype(ml_dtypes.bfloat16)
    else:
        kind = np.dtype(dtype)
    rng = np.random.default_rng(zlib.crc32(repr((row.name, shape, axis)).encode()))
    sample: tuple[Any, ...] = row.sample(rng, shape, kind, axis)
    return sample


def bound(row: Row, arrays: Iterable[Any], axis: int | None = None, **keywords: Any) -> Callable[[], Any]:  # noqa: ANN401 -- as the function takes them
    """The call, ready to be made; without the frames that the catalogue's own `__call__` would add to a tiny one."""
    if axis is not None and "axis" in row.signature:
        keywords["axis"] = axis
    return functools.partial(getattr(softmax_rs, row.name), *arrays, **keywords)


def arrays_of(result: Any) -> list[Array]:  # noqa: ANN401 -- an array, a number, or a tuple of them
    """The arrays of a result, `out`s of the next call."""
    return [part for part in (result if isinstance(result, tuple) else (result,)) if isinstance(part, np.ndarray)]


@functools.cache
def growth(row: Row) -> tuple[float, float]:
    """How large a result gets: (a, b) for a n**b numbers for each row of n."""
    sizes = []
    for n in (16, 32):
        try:
            result = bound(row, arguments(row, (2, n), 1), 1)()
        except Exception:  # noqa: BLE001 -- the benchmark will fail and tell; all the others must not fail with it
            return 1.0, 1.0
        sizes.append(sum(np.size(part) for part in (result if isinstance(result, tuple) else (result,))) / 2)
    b = math.log2(sizes[1] / sizes[0])
    return sizes[0] / 16**b, b


@functools.cache
def missing(row: Row) -> bool:
    """Whether the installed package (of an old commit, perhaps) is without this function, or one that feeds it."""
    if not hasattr(softmax_rs, row.name):
        return True
    try:
        arguments(row, (2, 16), 1)
    except NotImplementedError:
        return True
    return False


def skips(row: Row, *params: list[Any], largest: int = LARGEST_RESULT) -> list[tuple[Any, ...]]:
    """The cells (the shape first) that are left out: all of a function that is missing, and results beyond reason."""

    def skipped(spec: str) -> bool:
        if missing(row):
            return True
        shape, axis = parse(spec)
        n = shape[axis]
        a, b = growth(row)
        return bool(math.prod(shape) / n * a * n**b * 8 > largest)

    return [cell for cell in itertools.product(*params) if skipped(cell[0])]


@functools.lru_cache(maxsize=1)  # a process runs one cell
def prepared(row: Row, spec: str, dtype: str, memory: str) -> Callable[[], Any]:
    """The call of a cell: `memory` is "new" (a new array each time) or "out" (the same one again)."""
    shape, axis = parse(spec)
    arrays = arguments(row, shape, axis, dtype)
    call = bound(row, arrays, axis)
    if memory == "new":
        return call
    # Of a tuple, `out` is the last array: (loss, gradient).
    return bound(row, arrays, axis, out=arrays_of(call())[-1])


def memories(row: Row) -> list[str]:
    """Where the results of this function can go."""
    return ["new", "out"] if row.accepts("out") else ["new"]


def camel(name: str) -> str:
    """`log_softmax` -> `LogSoftmax`."""
    return "".join(word.capitalize() for word in name.split("_"))


def generate(
    module: str, rows: Iterable[Row], methods: dict[str, Callable[..., Any]], **params: Callable[[Row], list[Any]]
) -> dict[str, type]:
    """A class of benchmarks for each row: with these methods, and for each parameter its values for the row.

    (Not by inheritance: asv would take a base class with such methods for a benchmark of its own.)
    """
    classes = {}
    for row in rows:
        values = [choose(row) for choose in params.values()]
        attributes = {
            "__module__": module,
            "row": row,
            "params": values,
            "param_names": list(params),
            "skip_params": skips(row, *values),
            # A round is short: many rounds, taking turns with another commit's, tell more than a long one.
            "repeat": (3, 10, 0.5),
            "warmup_time": 0.05,
            "version": "1",  # else a hash of the method's lines, and a change of a comment would drop the history
            **methods,
        }
        name = camel(row.name)
        classes[name] = type(name, (), attributes)
    return classes
