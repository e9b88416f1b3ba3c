"""Hazard: another thread that changes an array, or its size, while a call computes with it.

Whoever writes here does it by memcpy without the GIL, so that bytes change at any moment of a call. What is asserted:
the process lives, the call ends, and rows that nobody touched have their exact bits.
"""

import json

import pytest

from children import run
from effort import cases
from kinds import KINDS

CALLS = cases(10_000, 100_000)  # of all functions together
DUE = cases(75, 1000)  # attempts to resize, for each argument
START = """
import ctypes, faulthandler, itertools, json, sys, threading, time
import numpy as np
import softmax_rs
from kinds import KINDS

faulthandler.enable()
sys.setswitchinterval(1e-4)
rng = np.random.default_rng(0)
libc = ctypes.CDLL(None)  # its calls release the GIL
"""

MUTATE = (
    START
    + """
name, calls = sys.argv[1], int(sys.argv[2])
k = next(k for k in KINDS if k.name == name)
WILD = 7  # every seventh row is written to

def address(array):
    return ctypes.c_void_p(array.ctypes.data)

def patch(array, row_of, values):
    # The whole array once more, with other numbers in the wild rows.
    other = array.copy()
    view = row_of(other)
    view[...] = values(view.shape)
    return other

report = {}
# Few elements: the GIL is kept. Many: it is released, and there are several threads. Columns; a few long rows.
shapes = [((35, 40), 1, 0.4), ((300, 160), 1, 0.3), ((160, 300), 0, 0.2), ((70, 3), 1, 0.09), ((4, 270_000), 1, 0.01)]
if "jacobian" in k.name:
    shapes = [((35, 40), 1, 0.5), ((40, 35), 0, 0.3), ((70, 3), 1, 0.2)]
for shape, axis, share in shapes:
    rows = tuple(n for a, n in enumerate(shape) if a != axis)
    x = rng.normal(0, 3, shape).astype(np.float32)
    arrays = [np.ascontiguousarray(a) for a in k.arrays(rng, x, axis)]
    keywords = {"reduction": "none"} if k.accepts("reduction") else {}
    if k.accepts("temperature"):
        keywords["temperature"] = rng.uniform(0.5, 2, rows)
    if k.accepts("where"):
        keywords["where"] = rng.random(shape) < 0.9
    if k.accepts("sample_weight"):
        keywords["sample_weight"] = rng.uniform(0.5, 2, rows)
    n = shape[axis]

    def wild(array, shape=shape, axis=axis):
        if array.shape == shape:
            return array[::WILD] if axis == 1 else array[:, ::WILD]
        return array[::WILD]

    given = [*arrays, *(a for a in keywords.values() if isinstance(a, np.ndarray))]
    versions = []
    for array in given:
        if array.dtype == bool:
            other = patch(array, wild, lambda s: rng.random(s) < 0.5)
        elif array.dtype.kind == "i":
            other = patch(array, wild, lambda s: rng.choice([2**62, -(2**62), -1, n, 0, 1], s))
        elif array.ndim == 1 and array is keywords.get("temperature"):
            other = patch(array, wild, lambda s: rng.uniform(0.1, 9, s))
        else:
            other = patch(array, wild, lambda s: rng.choice([np.nan, np.inf, -np.inf, 3e38, 0, 1], s))
        versions.append((array, array.copy(), other))

    def kept(result, shape=shape, axis=axis, rows=rows):
        # The rows that nobody writes to.
        result = np.asarray(result)
        over = 0 if result.shape[: len(rows)] == rows and result.shape != shape else 1 - axis
        return np.delete(result, np.arange(0, rows[0], WILD), axis=over)

    want = [kept(r).tobytes() for r in k(*arrays, axis=axis, **keywords)]
    alone = [np.asarray(r).tobytes() for r in k(*arrays, axis=axis, **keywords)]
    stop, laps = threading.Event(), 0

    def write():
        global laps
        while not stop.is_set():
            for array, one, other in versions:
                # Wild mostly, as it should be for a moment: a call that begins then may go on to the end.
                for version in (other, one):
                    libc.memcpy(address(array), address(version), ctypes.c_size_t(array.nbytes))
            laps += 1

    out = None
    shape_of_out = k.out_shape(shape, axis)
    if shape_of_out is not None:
        out = np.zeros(shape_of_out, np.float32)
    writer = threading.Thread(target=write)
    writer.start()
    done = refused = changed = 0
    due = max(int(calls * share), 5)
    try:
        end = time.monotonic() + 30
        while done + refused < due or changed == 0 and time.monotonic() < end:
            if done + refused >= due:
                time.sleep(1e-4)  # where others keep the CPUs busy the writer gets no turn by itself
            try:
                into = {"out": out} if out is not None and (done + refused) % 2 else {}
                got = k(*arrays, axis=axis, **keywords, **into)
            except IndexError:
                refused += 1
                continue
            except ValueError as error:
                assert "temperature" in str(error), error
                refused += 1
                continue
            done += 1
            changed += any(np.asarray(r).tobytes() != b for r, b in zip(got, alone))
            for r, w in zip(got, want):
                assert kept(r).tobytes() == w, f"{name} {shape}: a row that nobody touched has changed"
    finally:
        stop.set()
        writer.join()
    report[str(shape)] = {"calls": done + refused, "IndexError": refused, "changed": changed, "laps": laps}
json.dump(report, sys.stdout)
"""
)


@pytest.mark.parametrize("k", KINDS, ids=str)
def test_a_thread_that_writes(k):
    """Inputs, targets (out of range too), masks, temperatures and weights change in every seventh row of each array."""
    report = json.loads(run(MUTATE, k.name, str(CALLS // len(KINDS) + 1), SOFTMAX_RS_NUM_THREADS="3").stdout)
    for shape, ran in report.items():
        print(f"{k} {shape}: {ran}")
        assert ran["changed"], f"{k} {shape}: no row changed under any call, so nothing was tried: {ran}"


RESIZE = (
    START
    + """
name, place, based, due = sys.argv[1], sys.argv[2], sys.argv[3] == "view", int(sys.argv[4])
k = next(k for k in KINDS if k.name == name)
shape = (6000, 40)
# Nobody takes the GIL from a thread that keeps it. So the other thread gets it when the call lets it go, not before,
# and keeps it for all its attempts; or it comes too late, and finds that the call has returned.
sys.setswitchinterval(60)
first = dict(zip(k.names, k.arrays(rng, rng.normal(0, 3, shape).astype(np.float32), 1)))
first |= {"out": np.zeros(shape, np.float32), "where": np.ones(shape, bool)}
want = k.bits(*(first[n] for n in k.names), axis=1)
calls = refused = resized = 0

def work():
    global refused, resized
    with begun:
        for size in range(25):
            if returned:
                return
            try:
                victim.resize(4 * first[place].size + size, refcheck=False)
                resized += 1
            except ValueError as error:
                assert "resize" in str(error), error
                refused += 1

while refused < due and resized == 0:
    given = {n: a.copy() for n, a in first.items()}
    victim = given[place]
    if based:  # the array whose memory the argument is a view of
        given[place] = victim[...]
    arrays, into = [given[n] for n in k.names], {n: given[n] for n in ("out", "where")}
    calls, returned, begun = calls + 1, False, threading.Lock()
    begun.acquire()
    thread = threading.Thread(target=work)
    thread.start()
    begun.release()
    got = k(*arrays, axis=1, **into)
    returned = True
    thread.join()
    assert resized == 0, f"{name}: the memory of {place} was freed during the call"
    assert [np.asarray(r).tobytes() for r in got] == want, f"{name} {place}: the result has changed"
    given.clear(), arrays.clear(), into.clear()
    victim.resize(4 * first[place].size, refcheck=False)  # once the call is over, nothing keeps it off
json.dump({"calls": calls, "refused": refused}, sys.stdout)
"""
)


@pytest.mark.parametrize("based", ["itself", "view"])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("softmax", "x"),
        ("softmax", "out"),
        ("softmax", "where"),
        ("log_softmax_vjp", "g"),
        ("cross_entropy_with_grad classes", "logits"),
        ("cross_entropy_with_grad classes", "target"),
        ("cross_entropy_with_grad probabilities", "target"),
        ("cross_entropy_hvp classes", "v"),
    ],
)
def test_a_thread_that_resizes(name, place, based):
    """`a.resize(refcheck=False)` of an argument, or of the array it is a view of, raises there while a call runs."""
    ran = json.loads(run(RESIZE, name, place, based, str(DUE), SOFTMAX_RS_NUM_THREADS="2").stdout)
    print(f"{name} {place} {based}: {ran}")
    assert ran["refused"] >= DUE
