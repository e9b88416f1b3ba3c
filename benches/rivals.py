"""The same calls by softmax_rs and by what else a NumPy user could pick: medians of interleaved rounds, as ratios.

    make bench
    make bench ARGS="--ops softmax --shapes 1024x1000,axis0:1000x8192 --dtypes f32,f64 --json run.json"
    taskset -c 1 python benches/rivals.py --ops logsumexp

NumPy array in, NumPy array out, one thread, warm pages, logits N(0, 3). "new" calls return a new array, "out" calls
write to one that is there (a rival that cannot returns a new one there too). Rivals that are not installed are left
out, by name, and so are functions that this version of softmax_rs does not have. Each result is compared with a wide
reference before anything is timed: the error is the largest one, in ULP of the true value (of the row's largest true
value for derivatives, whose small elements are differences of large ones).
"""

import argparse
import datetime as dt
import importlib
import importlib.metadata
import json
import math
import os
import platform
import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import softmax_rs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # how wrong a number is, is measured as in the tests

Array = np.ndarray[Any, Any]
# One call: no arguments -> result, or (loss, gradient). (Arguments handed on by `*` and `**` take as long as a call of
# ten elements, keywords longest.)
Call = Callable[[], Any]
# One implementation: (arrays, axis, out or None) -> the call that its user would write.
Bind = Callable[[tuple[Array, ...], int, Array | None], Call]

SHAPES = (
    "1x10,1x1000,32x1000,1024x1000,8192x1000,64x32000,2000x32000,1x10000000,"
    "1000000x10,100000x32,100000x100,axis0:1000x8192,8x16x256x256"
)
CHART_SHAPES = "1x10,32x1000,1024x1000,8192x1000,64x32000,1x10000000,1000000x10,100000x100,axis0:1000x8192"
DTYPES = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
OURS = "softmax_rs"


@dataclass(frozen=True)
class Op:
    """What is asked for, and the truth about it (in the arithmetic of the arrays it is given)."""

    arrays: Callable[[np.random.Generator, Array, int], tuple[Array, ...]]
    truth: Callable[..., Array]  # (*arrays, axis)
    derivative: bool = False
    reduces: bool = False


def _logits(_: np.random.Generator, x: Array, __: int) -> tuple[Array, ...]:
    return (x,)


def _cotangents(rng: np.random.Generator, x: Array, _: int) -> tuple[Array, ...]:
    return x, np.asarray(rng.normal(0, 1, x.shape), x.dtype)


def _output(rng: np.random.Generator, x: Array, axis: int) -> tuple[Array, ...]:
    y = true_softmax(x.astype(float), axis).astype(x.dtype)
    return y, np.asarray(rng.normal(0, 1, x.shape), x.dtype)


def _targets(rng: np.random.Generator, x: Array, axis: int) -> tuple[Array, ...]:
    return x, rng.integers(0, x.shape[axis], np.delete(x.shape, axis))


def true_softmax(x: Array, axis: int) -> Array:
    """By the textbook."""
    e = np.exp(x - x.max(axis, keepdims=True))
    result: Array = e / e.sum(axis, keepdims=True)
    return result


def true_logsumexp(x: Array, axis: int) -> Array:
    """By the textbook."""
    m = x.max(axis, keepdims=True)
    result: Array = m + np.log(np.exp(x - m).sum(axis, keepdims=True))
    return result


def true_backward(y: Array, g: Array, axis: int) -> Array:
    """By the textbook."""
    result: Array = y * (g - (y * g).sum(axis, keepdims=True))
    return result


def true_gradient(x: Array, target: Array, axis: int) -> Array:
    """Of the mean loss, times the number of rows."""
    one_hot: Array = np.expand_dims(target, axis) == np.arange(x.shape[axis]).reshape(
        [-1 if a == axis else 1 for a in range(x.ndim)]
    )
    return true_softmax(x, axis) - one_hot


OPS = {
    "softmax": Op(_logits, true_softmax),
    "log_softmax": Op(_logits, lambda x, axis: x - true_logsumexp(x, axis)),
    "logsumexp": Op(_logits, lambda x, axis: true_logsumexp(x, axis).squeeze(axis), reduces=True),
    "softmax_backward": Op(_output, true_backward, derivative=True),
    "softmax_vjp": Op(_cotangents, lambda x, g, axis: true_backward(true_softmax(x, axis), g, axis), derivative=True),
    "cross_entropy_with_grad": Op(_targets, true_gradient, derivative=True),
}


def written(text: str, **names: Any) -> Call:  # noqa: ANN401 -- whatever is in the text
    """The call with this text."""
    call: Call = eval(f"lambda: {text}", names)  # noqa: S307 -- the text is ours
    return call


def ours(op: str) -> Bind:
    """softmax_rs itself."""
    if not hasattr(softmax_rs, op):
        raise NotImplementedError

    def bind(arrays: tuple[Array, ...], axis: int, out: Array | None) -> Call:
        names = dict(zip("ab", arrays, strict=False))
        words = list(names)
        if axis != arrays[0].ndim - 1 or op == "logsumexp":  # else the default
            words.append(f"axis={axis}")
        if out is not None:
            words.append("out=out")
        return written(f"function({', '.join(words)})", function=getattr(softmax_rs, op), out=out, **names)

    return bind


def by_hand(op: str) -> Bind:
    """The lines that NumPy users write."""

    def softmax(arrays: tuple[Array, ...], axis: int, out: Array | None) -> Array:
        (x,) = arrays
        e = np.exp(x - x.max(axis, keepdims=True))
        result: Array = np.divide(e, e.sum(axis, keepdims=True), out=out)
        return result

    def log_softmax(arrays: tuple[Array, ...], axis: int, out: Array | None) -> Array:
        (x,) = arrays
        shifted = x - x.max(axis, keepdims=True)
        result: Array = np.subtract(shifted, np.log(np.exp(shifted).sum(axis, keepdims=True)), out=out)
        return result

    def logsumexp(arrays: tuple[Array, ...], axis: int, _: Array | None) -> Array:
        return true_logsumexp(arrays[0], axis).squeeze(axis)

    def backward(arrays: tuple[Array, ...], axis: int, out: Array | None) -> Array:
        y, g = arrays
        result: Array = np.multiply(y, g - (y * g).sum(axis, keepdims=True), out=out)
        return result

    def vjp(arrays: tuple[Array, ...], axis: int, out: Array | None) -> Array:
        return backward((softmax(arrays[:1], axis, None), arrays[1]), axis, out)

    def cross_entropy(arrays: tuple[Array, ...], axis: int, out: Array | None) -> tuple[Any, Array]:
        x, target = arrays
        shifted = x - x.max(axis, keepdims=True)
        e = np.exp(shifted)
        total = e.sum(axis, keepdims=True)
        at = np.expand_dims(target, axis)
        loss = (np.log(total) - np.take_along_axis(shifted, at, axis)).mean()
        gradient: Array = np.divide(e, total * x.dtype.type(target.size), out=out)
        there = np.take_along_axis(gradient, at, axis) - x.dtype.type(1 / target.size)
        np.put_along_axis(gradient, at, there, axis)
        return loss, gradient

    lines: dict[str, Callable[[tuple[Array, ...], int, Array | None], Any]] = {
        "softmax": softmax,
        "log_softmax": log_softmax,
        "logsumexp": logsumexp,
        "softmax_backward": backward,
        "softmax_vjp": vjp,
        "cross_entropy_with_grad": cross_entropy,
    }
    function = lines[op]
    return lambda arrays, axis, out: lambda: function(arrays, axis, out)


def scipy(op: str) -> Bind:
    """scipy.special."""
    from scipy import special  # type: ignore[import-untyped]  # it has no types

    if not hasattr(special, op):
        raise NotImplementedError
    function = getattr(special, op)
    return lambda arrays, axis, _: written(f"function(x, axis={axis})", function=function, x=arrays[0])


def onnxruntime(op: str) -> Bind:
    """One node, its input and its output bound to the arrays."""
    import onnx
    import onnxruntime as ort  # type: ignore[import-untyped]  # it has no types

    nodes = {"softmax": "Softmax", "log_softmax": "LogSoftmax", "logsumexp": "ReduceLogSumExp"}
    if op not in nodes:
        raise NotImplementedError

    def session(x: Array, axis: int) -> Any:  # noqa: ANN401 -- onnxruntime has no types
        kind = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
        where: dict[str, Any] = {"axes": [axis], "keepdims": 0} if op == "logsumexp" else {"axis": axis}
        node = onnx.helper.make_node(nodes[op], ["x"], ["y"], **where)
        shape = [None] * x.ndim
        info = [onnx.helper.make_tensor_value_info(name, kind, shape) for name in "xy"]
        graph = onnx.helper.make_graph([node], "g", info[:1], info[1:])
        if op == "logsumexp":
            del graph.output[0].type.tensor_type.shape.dim[0]
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return ort.InferenceSession(model.SerializeToString(), options)

    def bind(arrays: tuple[Array, ...], axis: int, out: Array | None) -> Call:
        (x,) = arrays
        s = session(x, axis)
        if out is None:
            return lambda: s.run(None, {"x": x})[0]
        binding = s.io_binding()
        binding.bind_input("x", "cpu", 0, x.dtype, x.shape, x.ctypes.data)
        binding.bind_output("y", "cpu", 0, out.dtype, out.shape, out.ctypes.data)

        def call() -> Array:
            s.run_with_iobinding(binding)
            return out

        return call

    return bind


def jax(op: str) -> Bind:
    """jit-compiled."""
    os.environ["JAX_ENABLE_X64"] = "1"  # else float64 would be float32
    import jax as library

    def loss(x: Any, target: Any, axis: int) -> Any:  # noqa: ANN401 -- jax's arrays
        at = library.numpy.expand_dims(target, axis)
        return -library.numpy.take_along_axis(library.nn.log_softmax(x, axis=axis), at, axis).mean()

    functions: dict[str, Callable[..., Any]] = {
        "softmax": library.nn.softmax,
        "log_softmax": library.nn.log_softmax,
        "logsumexp": library.scipy.special.logsumexp,
        "softmax_backward": lambda y, g, axis: y * (g - (y * g).sum(axis, keepdims=True)),
        "softmax_vjp": lambda x, g, axis: library.vjp(lambda x: library.nn.softmax(x, axis=axis), x)[1](g)[0],
        "cross_entropy_with_grad": library.value_and_grad(loss),
    }
    compiled = library.jit(functions[op], static_argnames="axis")

    def bind(arrays: tuple[Array, ...], axis: int, _: Array | None) -> Call:
        def call() -> Any:  # noqa: ANN401
            result = compiled(*arrays, axis=axis)
            return tuple(map(np.asarray, result)) if isinstance(result, tuple) else np.asarray(result)

        return call

    return bind


def _softmax_rows(x: Array, y: Array) -> None:
    for i in range(x.shape[0]):
        m = x[i, 0]
        for j in range(x.shape[1]):
            m = max(m, x[i, j])
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            e = np.exp(x[i, j] - m)
            y[i, j] = e
            total += e
        scale = 1 / total
        for j in range(x.shape[1]):
            y[i, j] *= scale


def _log_softmax_rows(x: Array, y: Array) -> None:
    for i in range(x.shape[0]):
        m = x[i, 0]
        for j in range(x.shape[1]):
            m = max(m, x[i, j])
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += np.exp(x[i, j] - m)
        log = np.log(total)
        for j in range(x.shape[1]):
            y[i, j] = x[i, j] - m - log


def _logsumexp_rows(x: Array, y: Array) -> None:
    for i in range(x.shape[0]):
        m = x[i, 0]
        for j in range(x.shape[1]):
            m = max(m, x[i, j])
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += np.exp(x[i, j] - m)
        y[i] = m + np.log(total)


def _backward_rows(p: Array, g: Array, y: Array) -> None:
    for i in range(p.shape[0]):
        dot = p.dtype.type(0)
        for j in range(p.shape[1]):
            dot += p[i, j] * g[i, j]
        for j in range(p.shape[1]):
            y[i, j] = p[i, j] * (g[i, j] - dot)


def _loss_rows(x: Array, target: Array, y: Array) -> Any:  # noqa: ANN401 -- a number
    loss = 0.0
    for i in range(x.shape[0]):
        m = x[i, 0]
        for j in range(x.shape[1]):
            m = max(m, x[i, j])
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            e = np.exp(x[i, j] - m)
            y[i, j] = e
            total += e
        scale = 1 / (total * x.shape[0])
        for j in range(x.shape[1]):
            y[i, j] *= scale
        loss += np.log(total) + m - x[i, target[i]]
        y[i, target[i]] -= 1 / x.shape[0]
    return loss / x.shape[0]


def numba(op: str) -> Bind:
    """A loop for rows of a matrix, compiled."""
    import numba as library

    loops: dict[str, Callable[..., Any]] = {
        "softmax": _softmax_rows,
        "log_softmax": _log_softmax_rows,
        "logsumexp": _logsumexp_rows,
        "softmax_backward": _backward_rows,
        "cross_entropy_with_grad": _loss_rows,
    }
    if op not in loops:
        raise NotImplementedError
    # Sums may be taken in another order: otherwise they would not be vectorised.
    loop = library.njit(fastmath={"reassoc", "contract", "nsz"})(loops[op])

    def bind(arrays: tuple[Array, ...], axis: int, out: Array | None) -> Call:
        x = arrays[0]
        if x.ndim != 2 or axis != 1 or x.dtype == np.float16:  # noqa: PLR2004
            raise NotImplementedError
        names = dict(zip("ab", arrays, strict=False))
        given = ", ".join(names)
        if out is not None:
            return written(f"loop({given}, y)", loop=loop, y=out, **names)
        new = "empty(len(a), a.dtype)" if op == "logsumexp" else "empty_like(a)"
        text = f"(loop({given}, y := {new}), y)"
        text += "" if op == "cross_entropy_with_grad" else "[1]"
        return written(text, loop=loop, empty=np.empty, empty_like=np.empty_like, **names)

    return bind


# Name, module, maker.
RIVALS: list[tuple[str, str, Callable[[str], Bind]]] = [
    ("numpy", "numpy", by_hand),
    ("scipy", "scipy", scipy),
    ("onnxruntime", "onnxruntime", onnxruntime),
    ("numba", "numba", numba),
    ("jax", "jax", jax),
]


def rounds(calls: dict[str, Call], size: int, seconds: float) -> dict[str, float]:
    """Median seconds of each call, the calls taking turns, in another order each time.

    What a library leaves to be done when its call returns would else be taken from the same one always. (On one CPU,
    jax's threads take 7 ms from the call after jax's own, of 100000x100.)
    """
    shuffle = random.Random(0).shuffle  # noqa: S311 -- no secret
    repeat = max(1, 20_000 // size)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    start = time.perf_counter()
    turns = list(calls.items())
    n = 0
    while n < 5 or (time.perf_counter() - start < seconds and n < 200):  # noqa: PLR2004
        n += 1
        shuffle(turns)
        for name, call in turns:
            begin = time.perf_counter()
            for _ in range(repeat):
                call()
            times[name].append((time.perf_counter() - begin) / repeat)
    return {name: statistics.median(values) for name, values in times.items()}


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.*)", info.read_text()) if info.exists() else None
    return found.group(1) if found else platform.processor() or platform.machine()


def in_ulps(op: Op, got: Any, arrays: tuple[Array, ...], axis: int) -> float:  # noqa: ANN401 -- any rival's result
    """The largest error of the first rows (columns, where the axis is not the last)."""
    ulps = importlib.import_module("ulps")
    last = axis == arrays[0].ndim - 1

    def some(array: Array) -> Array:
        return array[:64] if last or array.ndim < arrays[0].ndim else array[:, :64]

    wide = [some(a) if a.dtype.kind in "iu" else some(a).astype(np.longdouble) for a in arrays]
    truth = op.truth(*wide, axis=axis)
    if op.truth is true_gradient:
        truth /= arrays[1].size
    found = np.asarray(got[1] if isinstance(got, tuple) else got)
    found = found[tuple(slice(n) for n in truth.shape)]
    scale = np.abs(truth).max(axis, keepdims=True) if op.derivative else None
    return float(ulps.error(found, truth, np.dtype(arrays[0].dtype), scale).max())


def cell(name: str, spec: str, dtype: str, rivals: dict[str, Bind], seconds: float) -> dict[str, Any]:
    """Measures one row of the table: seconds of each with a new array and with `out`, and errors."""
    op = OPS[name]
    shape = tuple(map(int, spec.removeprefix("axis0:").split("x")))
    axis = 0 if spec.startswith("axis0:") else len(shape) - 1
    rng = np.random.default_rng(0)
    arrays = op.arrays(rng, rng.normal(0, 3, shape).astype(DTYPES[dtype]), axis)
    x = arrays[0]
    out = np.empty(np.delete(shape, axis), x.dtype) if op.reduces else np.empty_like(x)
    new: dict[str, Call] = {}
    into: dict[str, Call] = {}
    errors = {}
    for rival, bind in rivals.items():
        try:
            new[rival], into[rival] = bind(arrays, axis, None), bind(arrays, axis, out)
        except NotImplementedError:
            continue
        errors[rival] = in_ulps(op, new[rival](), arrays, axis)
    into["copy"] = written("copyto(y, x)", copyto=np.copyto, y=np.empty_like(x), x=x)
    times = {"new": rounds(new, x.size, seconds), "out": rounds(into, x.size, seconds)}
    return {"op": name, "shape": spec, "dtype": dtype, "elements": math.prod(shape), **times, "ulps": errors}


def best(times: dict[str, float]) -> str:
    """The fastest rival, "" if there is none."""
    others = {name: t for name, t in times.items() if name not in (OURS, "copy")}
    return min(others, key=lambda name: others[name]) if others else ""


def show(row: dict[str, Any]) -> None:
    """Prints a row of the table."""
    columns = [f"{row['op']:23s} {row['shape']:15s} {row['dtype']:4s}"]
    for times in (row["new"], row["out"]):
        rival = best(times)
        ratio = f"{times[rival] / times[OURS]:7.2f}" if rival else "      -"
        columns.append(f"{times[OURS] * 1e6:11.2f} {rival or '-':>11s} {ratio}")
    rival, mine = best(row["out"]), row["out"][OURS]
    columns.append(f"{mine / row['elements'] * 1e9:8.3f} {mine / row['out']['copy']:7.2f}")
    columns.append(f"{row['ulps'][OURS]:7.2f} {row['ulps'].get(rival, math.nan):9.3g}")
    print("  ".join(columns), flush=True)


def environment() -> dict[str, Any]:
    """What a run hangs on."""
    versions = {OURS: softmax_rs.__version__}
    for name, module, _ in RIVALS:
        try:
            versions[name] = importlib.metadata.version(module)
        except importlib.metadata.PackageNotFoundError:
            print(f"left out, not installed: {name}")
    return {
        "cpu": cpu(),
        "simd_level": softmax_rs.simd_level(),
        "threads": 1,
        "pinned": hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "versions": versions,
    }


def as_json(run: dict[str, Any]) -> str:
    """A line for each cell, four digits of each number: for reading, and for differences between runs."""
    rounded = json.loads(json.dumps(run["cells"]), parse_float=lambda digits: float(f"{float(digits):.4g}"))
    cells = ",\n".join(f"  {json.dumps(cell)}" for cell in rounded)
    head = json.dumps({key: value for key, value in run.items() if key != "cells"}, indent=1)
    return f'{head[:-2]},\n "cells": [\n{cells}\n ]\n}}\n'


def makers(name: str, installed: dict[str, str]) -> dict[str, Bind]:
    """Who has this function."""
    found = {}
    for rival, make in ((OURS, ours), *((rival, make) for rival, _, make in RIVALS)):
        if rival in installed:
            try:
                found[rival] = make(name)
            except NotImplementedError:
                continue
    return found


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", default=",".join(OPS), help="comma-separated (default: all)")
    parser.add_argument("--shapes", default=SHAPES, help="comma-separated, 'axis0:' in front for axis 0")
    parser.add_argument("--dtypes", default="f32", help=f"of {', '.join(DTYPES)}")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each cell and each way to return (default: 2)")
    parser.add_argument("--json", type=Path, help="write the run to this file")
    parser.add_argument("--chart", action="store_true", help="the cells of docs/speed.svg")
    options = parser.parse_args()
    ops, dtypes = options.ops.split(","), options.dtypes.split(",")
    unknown = (set(ops) - set(OPS)) | (set(dtypes) - set(DTYPES))
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; ops are {', '.join(OPS)}, dtypes {', '.join(DTYPES)}")
    softmax_rs.set_num_threads(1)
    run = environment()
    print(f"{run['cpu']}; SIMD level {run['simd_level']}; 1 thread; Python {run['python']}; {run['date']}")
    print(", ".join(f"{name} {version}" for name, version in run["versions"].items()))
    if not run["pinned"]:
        print("NOTE: not pinned to one CPU (taskset -c 0 ...): rivals may use more threads than one")
    print("microseconds of softmax_rs; the best rival and its time over ours; with out: ns per element, our time over")
    print("numpy.copyto's; the largest errors, in ULP\n")
    print(f"{'':44s}  {'new array':>11s} {'best rival':>11s} {'ratio':>7s}", end="")
    print(f"  {'out':>11s} {'best rival':>11s} {'ratio':>7s}  {'ns/el':>8s} {'/copy':>7s}", end="")
    print(f"  {'error':>7s} {'its error':>9s}")
    run["cells"] = []
    for name in ops:
        rivals = makers(name, run["versions"])
        if OURS not in rivals:
            print(f"left out: softmax_rs {softmax_rs.__version__} has no {name}")
            continue
        for dtype in dtypes:
            for spec in (CHART_SHAPES if options.chart else options.shapes).split(","):
                run["cells"].append(cell(name, spec, dtype, rivals, options.seconds))
                show(run["cells"][-1])
    if options.json:
        options.json.write_text(as_json(run))
        print(f"\n{options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
