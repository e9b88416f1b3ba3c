"""Hazard: fork. A child of a process whose worker threads exist must compute, with the same bits, and end."""

import os

import pytest

from children import LONG, run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORKS = 1000 if LONG else 30

PARENT = """
import faulthandler, multiprocessing, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python >= 3.12 warns of fork in a process with threads
import numpy as np, softmax_rs
from calls import bits, calls

faulthandler.enable()
softmax_rs.set_num_threads(4)
# Every public function, above the threshold from which a call is shared by threads; one long row; columns of float16.
made = calls((600, 200))
made["one row"] = lambda: softmax_rs.softmax(made_of, axis=None)
made_of = np.random.default_rng(0).normal(0, 3, (2, 300_000)).astype(np.float32)
made |= {f"{name}, columns": call for name, call in calls((100, 1000), np.float16, 0).items() if "soft" in name}

def start(seconds, work):
    \"\"\"Fork a child that works; return what waits for it and gives its exit code, or "hung" after so long.\"\"\"
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr, flush=True)
        os._exit(2)
    deadline = time.monotonic() + seconds

    def wait():
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.001)
        os.kill(pid, signal.SIGABRT)  # faulthandler prints where it hangs
        os.waitpid(pid, 0)
        return "hung"

    return wait

def forked(work, seconds=20):
    return start(seconds, work)()

def fork_often(times, work):
    for i in range(times):
        code = forked(work)
        assert code == 0, f"child {i}: {code}"
"""

START = f"""{PARENT}
want = {{name: bits(call()) for name, call in made.items()}}
if sys.platform == "linux":
    names = [open(f"/proc/self/task/{{task}}/comm").read() for task in os.listdir("/proc/self/task")]
    assert sum(name.startswith("softmax-rs") for name in names) == 3, names

def right():
    wrong = [name for name, call in made.items() if bits(call()) != want[name]]
    assert not wrong, wrong
    return True

assert right()
"""


def test_many_forks():
    """Children in turn, each computing on its own new threads; the parent goes on as before."""
    run(START + "fork_often(int(sys.argv[1]), right)\nassert right()\n", str(FORKS))
    print(f"\n{FORKS} forks after parallel calls, 0 hung")


def test_child_of_a_child():
    """A fork from a child that has used its threads, and from that one's child again."""
    code = """
def again(depth):
    return right() and (depth == 0 or forked(lambda: again(depth - 1), 5 * depth) == 0) and right()

fork_often(int(sys.argv[1]), lambda: again(3))
"""
    run(START + code, str(FORKS // 10))


def test_fork_during_a_call():
    """Fork while other Python threads are inside a call, so that locks of theirs may be held for ever in the child."""
    code = """
stop = threading.Event()
entered = []

def busy(call):
    while not stop.is_set():
        call()
        entered.append(1)

workers = [threading.Thread(target=busy, args=(made[n],), daemon=True) for n in ("softmax", "one row")]
for worker in workers:
    worker.start()
fork_often(int(sys.argv[1]), right)
calls_meanwhile = len(entered)
stop.set()
for worker in workers:
    worker.join()
assert calls_meanwhile > 2 * int(sys.argv[1]), "the threads were hardly inside of a call"
assert right()
"""
    run(START + code, str(FORKS))
    print(f"\n{FORKS} forks during parallel calls, 0 hung")


def test_prefork_server():
    """Workers forked from a process that has computed, alive at once, each serving requests from several threads."""
    code = """
from concurrent.futures import ThreadPoolExecutor

def serve():
    with ThreadPoolExecutor(3) as pool:
        return all(pool.map(lambda name: bits(made[name]()) == want[name], list(made) * 3))

workers = [start(60, serve) for _ in range(4)]
assert right()  # the parent computes meanwhile
codes = [wait() for wait in workers]
assert not any(codes), codes
"""
    run(START + code)


def test_multiprocessing():
    """multiprocessing's fork context, and a ProcessPoolExecutor."""
    code = """
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    x = made_of
    wanted = softmax_rs.softmax(x).tobytes()
    fork = multiprocessing.get_context("fork")
    with fork.Pool(3) as pool:
        got = pool.map(softmax_rs.softmax, [x] * 6)
    assert all(g.tobytes() == wanted for g in got)
    with ProcessPoolExecutor(2, mp_context=fork) as pool:
        got = list(pool.map(softmax_rs.softmax, [x] * 4))
    assert all(g.tobytes() == wanted for g in got)
    assert right()
"""
    run(START + code)


def test_before_the_first_call():
    """Parent and child both start their threads after the fork."""
    code = """
def fresh():
    return all(len(bits(call())) for call in made.values())

fork_often(5, fresh)
assert fresh()
"""
    run(PARENT + code)


def test_fork_while_others_start_the_pool():
    """The first parallel calls of a process, in several threads at once, and forks in the middle of them."""
    code = """
go = threading.Barrier(4)
name = "softmax"
want = bits(made[name]())

def more(n):
    go.wait()
    with softmax_rs.threads(n):  # more threads than there are: a new pool
        assert bits(made[name]()) == want

for round in range(int(sys.argv[1])):
    workers = [threading.Thread(target=more, args=(5 + 3 * round + i,)) for i in range(3)]
    for worker in workers:
        worker.start()
    go.wait()
    code = forked(lambda: bits(made[name]()) == want)
    assert code == 0, (round, code)
    for worker in workers:
        worker.join()
"""
    run(PARENT + code, str(FORKS // 5))
