"""The same calls by softmax_rs and by what else a NumPy user could pick: medians of interleaved rounds, as ratios.

    make bench
    taskset -c 1 python benches/rivals.py --ops softmax --shapes 1024x1000,axis0:1000x8192 --dtypes f32,f64

NumPy array in, NumPy array out, one thread, warm pages, logits N(0, 3). "new" calls return a new array, "out" calls
write to one that is there (for rivals that can). Rivals that are not installed are left out, by name. Each result is
compared with a wide reference before anything is timed: "error" is the largest error over the largest value.
"""

import argparse
import functools
import importlib.metadata
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import softmax_rs

Array = np.ndarray[Any, Any]
# One implementation: (x, axis, out or None) -> result.
Call = Callable[[Array, int, Array | None], Any]

SHAPES = (
    "1x10,1x1000,32x1000,1024x1000,8192x1000,64x32000,2000x32000,1x10000000,"
    "1000000x10,100000x32,100000x100,axis0:1000x8192,8x16x256x256"
)
OPS = "softmax,log_softmax,logsumexp"
DTYPES = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
SECONDS_PER_CELL = 2.0


def ours(op: str) -> Call:
    """softmax_rs itself."""
    function = getattr(softmax_rs, op)
    return lambda x, axis, out: function(x, axis=axis, out=out)


def by_hand(op: str) -> Call:
    """The lines that NumPy users write."""

    def call(x: Array, axis: int, out: Array | None) -> Array:
        m = x.max(axis, keepdims=True)
        e = np.exp(x - m)
        total = e.sum(axis, keepdims=True)
        if op == "softmax":
            result: Array = np.divide(e, total, out=out)
        elif op == "log_softmax":
            result = np.subtract(x - m, np.log(total), out=out)
        else:
            result = (m + np.log(total)).squeeze(axis)
        return result

    return call


def scipy(op: str) -> Call:
    """scipy.special."""
    from scipy import special  # type: ignore[import-untyped]  # it has no types

    function = getattr(special, op)
    return lambda x, axis, _: function(x, axis=axis)


def onnxruntime(op: str) -> Call:
    """One node, its input and its output bound to the arrays."""
    import onnx
    import onnxruntime as ort  # type: ignore[import-untyped]  # it has no types

    sessions: dict[tuple[int, int, str], Any] = {}

    def session(x: Array, axis: int) -> Any:  # noqa: ANN401 -- onnxruntime has no types
        key = (x.ndim, axis, x.dtype.char)
        if key not in sessions:
            kind = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
            if op == "logsumexp":
                node = onnx.helper.make_node("ReduceLogSumExp", ["x"], ["y"], axes=[axis], keepdims=0)
            else:
                node = onnx.helper.make_node({"softmax": "Softmax"}.get(op, "LogSoftmax"), ["x"], ["y"], axis=axis)
            shape = [None] * x.ndim
            info = [onnx.helper.make_tensor_value_info(name, kind, shape) for name in "xy"]
            graph = onnx.helper.make_graph([node], "g", info[:1], info[1:])
            if op == "logsumexp":
                del graph.output[0].type.tensor_type.shape.dim[0]
            model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
            options = ort.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            sessions[key] = ort.InferenceSession(model.SerializeToString(), options)
        return sessions[key]

    bound: dict[tuple[int, int, int], Any] = {}

    def call(x: Array, axis: int, out: Array | None) -> Any:  # noqa: ANN401
        s = session(x, axis)
        if out is None:
            return s.run(None, {"x": x})[0]
        key = (x.ctypes.data, out.ctypes.data, x.size)
        if key not in bound:
            bound.clear()
            binding = s.io_binding()
            binding.bind_input("x", "cpu", 0, x.dtype, x.shape, x.ctypes.data)
            binding.bind_output("y", "cpu", 0, out.dtype, out.shape, out.ctypes.data)
            bound[key] = binding
        s.run_with_iobinding(bound[key])
        return out

    return call


def jax(op: str) -> Call:
    """jit-compiled."""
    import jax as library

    function = library.nn.softmax if op == "softmax" else library.nn.log_softmax
    if op == "logsumexp":
        function = library.scipy.special.logsumexp
    compiled = library.jit(function, static_argnames="axis")
    return lambda x, axis, _: np.asarray(compiled(x, axis=axis))


def numba(op: str) -> Call:
    """A loop for rows of a matrix, compiled."""
    import numba as library

    def rows(x: Array, y: Array, kind: int) -> None:
        for i in range(x.shape[0]):
            m = x[i, 0]
            for j in range(x.shape[1]):
                m = max(m, x[i, j])
            total = x.dtype.type(0)
            for j in range(x.shape[1]):
                e = np.exp(x[i, j] - m)
                y[i, j] = e
                total += e
            if kind == 0:
                scale = 1 / total
                for j in range(x.shape[1]):
                    y[i, j] *= scale
            else:
                log = np.log(total)
                for j in range(x.shape[1]):
                    y[i, j] = x[i, j] - m - log

    compiled = library.njit(rows)

    def call(x: Array, axis: int, out: Array | None) -> Array:
        if x.ndim != 2 or axis != 1 or op == "logsumexp" or x.dtype == np.float16:  # noqa: PLR2004
            raise NotImplementedError
        y = np.empty_like(x) if out is None else out
        compiled(x, y, 0 if op == "softmax" else 1)
        return y

    return call


# (name, module, maker, whether it can write to `out`)
RIVALS: list[tuple[str, str, Callable[[str], Call], bool]] = [
    ("numpy", "numpy", by_hand, True),
    ("scipy", "scipy", scipy, False),
    ("onnxruntime", "onnxruntime", onnxruntime, True),
    ("numba", "numba", numba, True),
    ("jax", "jax", jax, False),
]


def reference(op: str, x: Array, axis: int) -> Array:
    """In long double."""
    wide = x.astype(np.longdouble)
    m = wide.max(axis, keepdims=True)
    e = np.exp(wide - m)
    total = e.sum(axis, keepdims=True)
    result: Array = {
        "softmax": lambda: e / total,
        "log_softmax": lambda: wide - m - np.log(total),
        "logsumexp": lambda: (m + np.log(total)).squeeze(axis),
    }[op]()
    return result


def rounds(calls: dict[str, Callable[[], Any]], size: int) -> dict[str, float]:
    """Median seconds of each call, the calls taking turns."""
    repeat = max(1, 20_000 // size)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    start = time.perf_counter()
    n = 0
    while n < 5 or (time.perf_counter() - start < SECONDS_PER_CELL and n < 200):  # noqa: PLR2004
        n += 1
        for name, call in calls.items():
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


def cell(op: str, spec: str, dtype: str, rivals: dict[str, tuple[Call, bool]]) -> None:
    """Measures and prints one row of the table."""
    axis0 = spec.startswith("axis0:")
    shape = tuple(map(int, spec.removeprefix("axis0:").split("x")))
    axis = 0 if axis0 else len(shape) - 1
    x = np.random.default_rng(0).normal(0, 3, shape).astype(DTYPES[dtype])
    truth = reference(op, x[:64] if not axis0 else x[:, :64], axis)
    out, copy = np.empty_like(x), np.empty_like(x)
    if op == "logsumexp":
        out = np.empty(truth.shape if x.size == 0 else np.delete(shape, axis), x.dtype)
    new: dict[str, Callable[[], Any]] = {}
    into: dict[str, Callable[[], Any]] = {}
    errors = {}
    for name, (call, can_out) in rivals.items():
        try:
            got = np.asarray(call(x, axis, None))
        except NotImplementedError:
            continue
        got = got[tuple(slice(n) for n in truth.shape)].astype(np.longdouble)
        errors[name] = float(np.max(np.abs(got - truth)) / np.max(np.abs(truth)))
        new[name] = functools.partial(call, x, axis, None)
        if can_out and not (op == "logsumexp" and name == "numpy"):
            into[name] = functools.partial(call, x, axis, out)
    into["copy"] = functools.partial(np.copyto, copy, x)
    columns = [f"{op:11s} {spec:17s} {dtype:4s}"]
    for calls in (new, into):
        times = rounds(calls, x.size)
        mine = times["softmax_rs"]
        others = {name: t for name, t in times.items() if name not in ("softmax_rs", "copy")}
        best = min(others, key=lambda name: others[name]) if others else "-"
        ratio = f"{others[best] / mine:7.2f}" if others else "      -"
        columns.append(f"{mine * 1e6:11.2f} {best:>11s} {ratio}")
        if "copy" in times:
            columns.append(f"{mine / times['copy']:7.2f}")
            rival = f"{errors[best]:9.1e}" if others else ""
            columns.append(f"{errors['softmax_rs']:9.1e} {rival}")
    print("  ".join(columns), flush=True)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", default=OPS, help="comma-separated (default: all)")
    parser.add_argument("--shapes", default=SHAPES, help="comma-separated, 'axis0:' in front for axis 0")
    parser.add_argument("--dtypes", default="f32", help=f"of {', '.join(DTYPES)}")
    options = parser.parse_args()
    unknown = set(options.ops.split(",")) - set(OPS.split(","))
    unknown |= set(options.dtypes.split(",")) - set(DTYPES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; ops are {OPS}, dtypes {','.join(DTYPES)}")
    softmax_rs.set_num_threads(1)
    versions, absent = [f"softmax_rs {softmax_rs.__version__}"], []
    for name, module, _, _ in RIVALS:
        try:
            versions.append(f"{name} {importlib.metadata.version(module)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    print(f"{cpu()}; SIMD level {softmax_rs.simd_level()}; 1 thread; Python {platform.python_version()}")
    print(", ".join(versions) + (f"; not installed: {', '.join(absent)}" if absent else ""))
    print("microseconds of softmax_rs; the best rival and its time over ours; with out: our time over numpy.copyto's\n")
    print(f"{'':34s}  {'new array':>11s} {'best rival':>11s} {'ratio':>7s}", end="")
    print(f"  {'out':>11s} {'best rival':>11s} {'ratio':>7s}  {'/copy':>7s}  {'error':>9s} {'its error':>9s}")
    for op in options.ops.split(","):
        rivals = {"softmax_rs": (ours(op), True)}
        rivals |= {name: (make(op), can_out) for name, _, make, can_out in RIVALS if name not in absent}
        for dtype in options.dtypes.split(","):
            for spec in options.shapes.split(","):
                cell(op, spec, dtype, rivals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
