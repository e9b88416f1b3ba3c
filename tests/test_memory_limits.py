"""Hazard: memory runs out. A call gives MemoryError or the right result, at any limit; it never aborts the process.

The limit is one of address space. What grows with the arrays (results, copies, scratch, numbers per row) must fail in
order. What does not (a list of axes, an exception object; rayon's queues and the start of threads in a shared call) is
some hundred bytes and outside of the promise: the calls here run on one thread.
"""

import json
import sys
from collections import Counter

import pytest

from calls import calls
from children import LONG, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux counts it")

STEPS = 96 if LONG else 12

SWEEP = """
import _thread, json, os, resource, sys
import numpy as np, softmax_rs
from calls import bits, calls

softmax_rs.set_num_threads(1)
steps = int(sys.argv[1])
PAGE = os.sysconf("SC_PAGE_SIZE")

def in_use():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * PAGE

def attempt(call, room):
    \"\"\"Call in a thread that has no scratch yet, with so much memory to be had; give its result or MemoryError.\"\"\"
    start, ready, done, got = [_thread.allocate_lock() for _ in range(3)] + [[]]
    for lock in (start, ready, done):
        lock.acquire()

    def work():
        ready.release()
        start.acquire()
        try:
            got.append(call())
        except BaseException as error:
            got.append(error)
        done.release()

    _thread.start_new_thread(work, ())
    ready.acquire()
    resource.setrlimit(resource.RLIMIT_AS, (in_use() + room, resource.RLIM_INFINITY))
    try:
        start.release()
        done.acquire()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return got[0]

seen = {"ours": 0, "NumPy's": 0, "right": 0}

def sweep(name, call, most, out=None):
    \"\"\"From enough memory down to none; `out`, if given, must be untouched after an error.\"\"\"
    print(name, file=sys.stderr, flush=True)  # the last line says where it aborted
    want = bits(call())
    refused = 0
    for k in range(steps, -1, -1):
        if out is not None:
            out.view(np.uint8)[...] = 0xA5
        room = most * k // steps
        got = attempt(call, room)
        if isinstance(got, BaseException):
            assert isinstance(got, MemoryError), (name, room, got)
            assert out is None or (out.view(np.uint8) == 0xA5).all(), f"{name}: out was written, room {room}"
            seen["ours" if "scratch buffers" in str(got) else "NumPy's"] += 1
            refused += 1
        else:
            assert bits(got) == want, (name, room)
            seen["right"] += 1
    return refused
"""

MALLOC = {
    "MALLOC_ARENA_MAX": "1",  # or each thread would reserve 64 MiB
    "MALLOC_MMAP_THRESHOLD_": "65536",  # fixed: what is freed goes back, and the next call has to ask again
    "MALLOC_TOP_PAD_": "0",
}


def each_alone(names, code):
    """Sweep the call of each name in a process of its own; return the counts of all.

    In one process, what malloc keeps of the refusals before would at last be enough for what has to be refused.
    """
    total = Counter()
    for name in names:
        total.update(json.loads(run(SWEEP + code, str(STEPS), name, **MALLOC).stdout))
    print(f"\n{dict(total)}")
    return total


@pytest.mark.parametrize(
    ("shape", "dtype", "axis"),
    [
        ((96, 3000), "float32", 0),  # columns: the largest scratch
        ((2, 100_000), "float16", -1),  # packed rows
        ((2, 300_000), "float32", -1),  # long rows
        ((60_000, 2), "float64", -1),  # numbers per row count
        ((500, 600), "int8", -1),  # converted
    ],
)
def test_every_function_at_every_limit(shape, dtype, axis):
    """New results: each function meets a limit at which it fails in order."""
    code = f"""
name = sys.argv[2]
call = calls({shape}, {dtype!r}, {axis})[name]
size = len(bits(call()))
refused = sweep(name, call, 2 * size + (5 << 20))
assert refused or size < 1 << 17, "no limit was too small"
print(json.dumps(seen))
"""
    seen = each_alone(calls(shape, dtype, axis), code)
    assert seen["right"] and seen["NumPy's"], seen


def test_out_is_untouched():
    """With `out` there is nothing to make but scratch, copies, and numbers per row: in vain, and `out` is as it was."""
    code = """
for case in ((96, 3000), np.float32, 0), ((2, 100_000), np.float16, -1), ((60_000, 2), np.float64, -1):
    for name, call in calls(*case).items():
        if name.startswith("cross_entropy of"):
            continue  # has no out
        result = call()
        out = np.empty_like(result[1] if isinstance(result, tuple) else result)
        if not isinstance(out, np.ndarray) or out.ndim == 0:
            continue
        sweep(f"{name}, out", lambda: call(out=out), 8 << 20, out)
        if "with_grad" in name:
            sweep(f"{name}, out, each", lambda: call(out=out, reduction="none"), 8 << 20, out)
print(seen)
assert all(seen.values()), seen
"""
    print("\n" + run(SWEEP + code, str(STEPS), **MALLOC).stdout.strip())


def test_out_is_untouched_where_rows_have_numbers():
    """The same with numbers per row; each call meets a limit too small for them."""
    code = """
n = 100_000
x = np.arange(4.0 * n).reshape(n, 4) % 7
memory = np.zeros(4 * n + 4)
memory[: 4 * n] = x.ravel()
shifted, out = memory[: 4 * n].reshape(n, 4), memory[4:].reshape(n, 4)
rows = np.linspace(1, 2, n)
target = np.zeros(n, int)
result = np.empty((n, 4))

def overlapping():
    memory[: 4 * n] = x.ravel()
    return softmax_rs.softmax(shifted, out=out).copy()

extra = {
    "overlap": overlapping,
    "temperatures": lambda: softmax_rs.softmax(x, temperature=rows, out=result),
    "cotangents": lambda: softmax_rs.logsumexp_vjp(x, rows, axis=1, out=result),
    "weights": lambda: softmax_rs.cross_entropy_with_grad(
        x, target, sample_weight=rows, weight=[1, 2, 3, 4], label_smoothing=0.1, z_loss=0.1, where=x < 6, out=result),
    "each": lambda: softmax_rs.cross_entropy_with_grad(x, target, reduction="none", grad_output=rows, out=result),
    "Hessian": lambda: softmax_rs.cross_entropy_hvp(x, softmax_rs.softmax(x), x, sample_weight=rows, out=result),
}
name = sys.argv[2]
refused = sweep(name, extra[name], 24 << 20, None if name == "overlap" else result)
assert refused, "no limit was too small"
print(json.dumps(seen))
"""
    seen = each_alone(("overlap", "temperatures", "cotangents", "weights", "each", "Hessian"), code)
    assert all(seen.values()) and len(seen) == 3, seen
