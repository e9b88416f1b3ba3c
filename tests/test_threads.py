"""Hazard: the number of threads: who decides, for how long, for whom."""

import os
import sys
import threading

import pytest

import softmax_rs
from children import run

PRINT = "import softmax_rs; print(softmax_rs.get_num_threads())"
ORDER = ("SOFTMAX_RS_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS")


@pytest.fixture(autouse=True)
def _restored():
    before = softmax_rs.get_num_threads()
    yield
    softmax_rs.set_num_threads(before)


def test_set_and_get():
    """What was set comes back, as a Python int."""
    for n in (1, 2, 3, 7, 64):
        assert softmax_rs.set_num_threads(n) is None
        assert softmax_rs.get_num_threads() == n
        assert type(softmax_rs.get_num_threads()) is int


def test_context():
    """The innermost `with` wins, set_num_threads included, and everything is restored, after an exception too."""
    softmax_rs.set_num_threads(3)
    with softmax_rs.threads(2):
        assert softmax_rs.get_num_threads() == 2
        with softmax_rs.threads(5):
            assert softmax_rs.get_num_threads() == 5
            softmax_rs.set_num_threads(4)
            assert softmax_rs.get_num_threads() == 5
        assert softmax_rs.get_num_threads() == 2
    assert softmax_rs.get_num_threads() == 4
    with pytest.raises(RuntimeError, match="inside"), softmax_rs.threads(2):
        raise RuntimeError("inside")
    assert softmax_rs.get_num_threads() == 4


def test_context_is_of_one_python_thread():
    """`with threads(n)` holds for the thread that wrote it; set_num_threads for all."""
    softmax_rs.set_num_threads(3)
    seen = []
    with softmax_rs.threads(2):
        other = threading.Thread(target=lambda: seen.append(softmax_rs.get_num_threads()))
        other.start()
        other.join()
        assert softmax_rs.get_num_threads() == 2
    assert seen == [3]


@pytest.mark.parametrize("call", [softmax_rs.set_num_threads, softmax_rs.threads], ids=["set_num_threads", "threads"])
def test_bad_numbers(call):
    """Not from 1 to 1024: ValueError. No integer: TypeError. Nothing changes."""
    before = softmax_rs.get_num_threads()
    for n in (0, -1, -(2**40), 1025, 2**40, 2**70, -(2**70)):
        with pytest.raises(ValueError, match=rf"^n must be from 1 to 1024, got {n}\b") as caught:
            call(n)
        assert type(caught.value) is ValueError
    for n in (1.5, "2", None, [2], 2.0):
        with pytest.raises(TypeError):
            call(n)
    assert softmax_rs.get_num_threads() == before


def test_default_is_the_cpus_of_this_process():
    """Affinity, as of the first use."""
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); " + PRINT
    assert int(run(code).stdout) == 1
    assert 1 <= int(run(PRINT).stdout) <= len(os.sched_getaffinity(0))


def test_order_of_the_variables():
    """The first that is set decides."""
    for i, name in enumerate(ORDER):
        environment = {later: str(40 + j) for j, later in enumerate(ORDER) if j >= i}
        assert int(run(PRINT, **environment).stdout) == 40 + i, environment
        assert int(run(PRINT, **{name: "3"}).stdout) == 3


def test_calls_win_over_variables():
    """with threads > set_num_threads > environment."""
    code = """
import softmax_rs
assert softmax_rs.get_num_threads() == 7
softmax_rs.set_num_threads(3)
assert softmax_rs.get_num_threads() == 3
with softmax_rs.threads(2):
    assert softmax_rs.get_num_threads() == 2
assert softmax_rs.get_num_threads() == 3
"""
    run(code, SOFTMAX_RS_NUM_THREADS="7")


@pytest.mark.parametrize("name", ORDER)
def test_bad_variables(name):
    """A ValueError at first use (not at import) that names the variable and what it holds; never at import."""
    code = """
import softmax_rs, numpy
for call in (softmax_rs.get_num_threads, lambda: softmax_rs.softmax(numpy.zeros((2000, 1000)))):
    try:
        call()
    except ValueError as error:
        print(error)
"""
    for value in ("many", "1.5", "-2", "0x4") + ("0",) * (name == ORDER[0]):
        lines = run(code, **{name: value}).stdout.splitlines()
        assert len(lines) == 2, f"{name}={value}: {lines}"
        assert all(name in line and value in line for line in lines), lines


@pytest.mark.parametrize("name", ORDER)
def test_a_variable_may_ask_for_more_than_there_can_be(name):
    """More than 1024 threads count as 1024, and so does a number that no machine word holds."""
    for value in ("1025", "99999999999999999999"):
        assert int(run(PRINT, **{name: value}).stdout) == 1024, value


def test_a_bad_variable_that_does_not_decide_is_ignored():
    """Only the variable that decides is judged."""
    assert int(run(PRINT, SOFTMAX_RS_NUM_THREADS="2", RAYON_NUM_THREADS="x", OMP_NUM_THREADS="y").stdout) == 2


# Workers are told on Linux only, and only where there is another CPU for them.
on_several_cpus = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2,
    reason="not Linux, or this process may use one CPU only: workers are not told where to run",
)

ASIDE = """
import os, numpy as np, softmax_rs

def workers():
    tasks = [task for task in os.listdir("/proc/self/task")
             if open(f"/proc/self/task/{task}/comm").read().startswith("softmax-rs")]
    return [os.sched_getaffinity(int(task)) for task in tasks]

all_cpus = os.sched_getaffinity(0)
x = np.random.default_rng(0).normal(0, 3, (1024, 1000)).astype("f4")
right = softmax_rs.softmax(x[:32])
softmax_rs.set_num_threads(3)
for _ in range(1000):  # at first they may still be starting
    y = softmax_rs.softmax(x)
    if len(workers()) == 2 and all(cpus != all_cpus for cpus in workers()):
        break
"""


@on_several_cpus
def test_workers_are_kept_off_the_callers_cpu():
    """Of the CPUs that the caller may use they have all but one; the caller keeps all of them."""
    code = """
assert len(workers()) == 2
for cpus in workers():
    assert cpus < all_cpus and len(cpus) == len(all_cpus) - 1, (cpus, all_cpus)
assert len({frozenset(cpus) for cpus in workers()}) == 1, "kept off the same CPU"
assert os.sched_getaffinity(0) == all_cpus
assert (y[:32] == right).all()
"""
    run(ASIDE + code)


@on_several_cpus
def test_workers_of_a_pinned_caller_stay_where_they_were():
    """A caller that may use one CPU has none to keep its workers off."""
    code = """
before = workers()
os.sched_setaffinity(0, {min(all_cpus)})
y = softmax_rs.softmax(x)
assert workers() == before
assert os.sched_getaffinity(0) == {min(all_cpus)}
assert (y[:32] == right).all()
"""
    run(ASIDE + code)
