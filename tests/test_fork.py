"""Hazard: fork. A child of a process whose worker threads exist must compute, with the same bits, and end."""

import os

import pytest

from children import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

START = """
import faulthandler, multiprocessing, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python >= 3.12 warns of fork in a process with threads
import numpy as np, softmax_rs

faulthandler.enable()
softmax_rs.set_num_threads(4)
x = np.random.default_rng(0).normal(0, 3, (600, 1000)).astype(np.float32)
calls = {
    "softmax": lambda: softmax_rs.softmax(x),
    "log_softmax": lambda: softmax_rs.log_softmax(x, axis=0),
    "logsumexp": lambda: softmax_rs.logsumexp(x, axis=-1),
    "one row": lambda: softmax_rs.softmax(x, axis=None),
    "product": lambda: softmax_rs.softmax_vjp(x, x),
    "loss": lambda: softmax_rs.cross_entropy_with_grad(x, np.arange(600))[1],
}
want = {name: call().tobytes() for name, call in calls.items()}

def right():
    return all(call().tobytes() == want[name] for name, call in calls.items())

def forked(work, seconds=20):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr, flush=True)
        os._exit(2)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGABRT)  # faulthandler prints where it hangs
    os.waitpid(pid, 0)
    return "hung"

assert right()
"""


def test_many_forks():
    """Thirty children in turn, each computing on its own new threads; the parent goes on as before."""
    run(START + "codes = [forked(right) for _ in range(30)]\nassert codes == [0] * 30, codes\nassert right()\n")


def test_child_of_a_child():
    """A fork from a child that has used its threads."""
    code = """
def again():
    return right() and forked(right, 15) == 0 and right()

codes = [forked(again) for _ in range(5)]
assert codes == [0] * 5, codes
"""
    run(START + code)


def test_fork_during_a_call():
    """Fork while other Python threads are inside a call."""
    code = """
stop = threading.Event()

def busy():
    while not stop.is_set():
        softmax_rs.softmax(x)

workers = [threading.Thread(target=busy) for _ in range(2)]
for worker in workers:
    worker.start()
codes = [forked(right) for _ in range(20)]
stop.set()
for worker in workers:
    worker.join()
assert codes == [0] * 20, codes
assert right()
"""
    run(START + code)


def test_multiprocessing():
    """multiprocessing's fork and spawn contexts, and a ProcessPoolExecutor."""
    code = """
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    with fork.Pool(3) as pool:
        got = pool.map(softmax_rs.softmax, [x] * 6)
    assert all(g.tobytes() == want["softmax"] for g in got)
    with ProcessPoolExecutor(2, mp_context=fork) as pool:
        got = list(pool.map(softmax_rs.softmax, [x] * 4))
    assert all(g.tobytes() == want["softmax"] for g in got)
    assert right()
"""
    run(START + code)


def test_before_the_first_call():
    """Parent and child both start their threads after the fork."""
    code = START.replace("want = {", "if False: want = {").replace("assert right()", "")
    code += """
def fresh():
    return np.isfinite(softmax_rs.softmax(x)).all()

assert [forked(fresh) for _ in range(5)] == [0] * 5
assert fresh()
"""
    run(code)
