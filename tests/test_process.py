"""Hazard: the process around a call: no more threads, small stacks, panics, leaks, exit, sub-interpreters."""

import os
import platform
import shutil
import subprocess
import sys

import numpy as np
import pytest

import softmax_rs
from calls import bits, calls
from children import LONG, run

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# What a child needs: all calls, above the threshold from which threads share them, in four regimes.
CALLS = """
import ctypes, gc, importlib, os, sys, threading, time
import numpy as np, softmax_rs
from calls import bits, calls

def everything(cases):
    return {f"{name}, {case}": call for case in cases for name, call in calls(*case).items()}

REGIMES = (
    ((600, 200), np.float32, -1),
    ((100, 1000), np.float64, 0),
    ((20, 7000), np.float16, -1),
    ((1, 300_000), np.float32, -1),
)
made = everything(REGIMES)

def threads_of_ours():
    count = 0
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as name:
                count += name.read().startswith("softmax-rs")
        except OSError:
            pass  # it has just ended
    return count
"""


@LINUX
def test_import_changes_no_mode_and_no_signal():
    """Control words of the FPU (glibc's fenv_t), signal handlers and mask, limits: import leaves all as found."""
    if platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        pytest.skip(f"knows glibc's fenv_t of x86-64 only, this is {platform.machine()} {platform.libc_ver()[0]}")
    code = """
import ctypes, resource, signal, struct, sys
import numpy as np

libm = ctypes.CDLL("libm.so.6")

def environment():
    block = ctypes.create_string_buffer(32)  # x87 control word first, MXCSR last
    assert libm.fegetenv(block) == 0
    return block

def modes():
    raw = environment().raw
    return struct.unpack("<H", raw[:2])[0], struct.unpack("<I", raw[28:])[0] & ~0x3F  # less the flags

def state():
    with open("/proc/self/status") as status:
        signals = [line for line in status if line.startswith(("Sig", "Shd", "Umask", "NoNewPrivs", "Seccomp"))]
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    return modes(), [line for line in signals if not line.startswith("SigQ")], limits

# Not what the parent, which has imported the package, may have handed down: all signals are blocked, or none, and
# limits are other ones.
blocked = sys.argv[2] == "blocked"
signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals() if blocked else [])
for name in ("RLIMIT_CORE", "RLIMIT_MEMLOCK", "RLIMIT_NOFILE", "RLIMIT_STACK"):
    soft, hard = resource.getrlimit(getattr(resource, name))
    other = (soft if soft > 0 else 2**40) // 2 + blocked
    resource.setrlimit(getattr(resource, name), (other if hard < 0 else min(other, hard), hard))
block = environment()
block[28:] = struct.pack("<I", 0x1F80 | int(sys.argv[1], 16))
assert libm.fesetenv(block) == 0
before = state()
assert before[0][1] == 0x1F80 | int(sys.argv[1], 16), [hex(mode) for mode in before[0]]
import softmax_rs
assert state() == before, (state(), before)
x = np.zeros((300, 1000))
softmax_rs.softmax(x), softmax_rs.cross_entropy_with_grad(x, np.zeros(300, int)), softmax_rs.logsumexp(x[:2, :3])
assert state() == before, (state(), before)
"""
    for mode in ("0", "8040", "4000", "6000"):  # as it starts; FTZ and DAZ; round up; towards zero
        run(code, mode, "open")
    run(code, "0", "blocked")


@pytest.fixture(scope="module")
def no_threads(tmp_path_factory):
    """Build a library whose pthread_create fails once `allowed` threads were made (at first none)."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("makes pthread_create fail by LD_PRELOAD: needs Linux and a C compiler, which is not on PATH")
    folder = tmp_path_factory.mktemp("no_threads")
    source, library = folder / "no_threads.c", folder / "no_threads.so"
    source.write_text("""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

int allowed = 1 << 30, refused = 0;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    if (__atomic_fetch_sub(&allowed, 1, __ATOMIC_SEQ_CST) > 0)
        return real(thread, attributes, start, argument);
    __atomic_fetch_add(&refused, 1, __ATOMIC_SEQ_CST);
    return EAGAIN;
}
""")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", source, "-o", library, "-ldl"], check=True)
    return str(library)


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_threads_cannot_be_had(no_threads, allowed):
    """EAGAIN at the first, second, fourth thread of eight: same bits, serially; later threads are used again."""
    code = """
shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
allowed, refused = (ctypes.c_int.in_dll(shim, name) for name in ("allowed", "refused"))
with softmax_rs.threads(1):
    want = {name: bits(call()) for name, call in made.items()}
softmax_rs.set_num_threads(9)
for name, call in made.items():
    allowed.value, refused.value = int(sys.argv[1]), 0
    assert bits(call()) == want[name], name
    assert refused.value > 0 or "jacobian" in name or "1, 300" in name, f"{name}: no thread was asked for"
allowed.value = 1 << 30
assert all(bits(call()) == want[name] for name, call in made.items())
assert threads_of_ours() == 8, threads_of_ours()
# A pool that is too small, and cannot be made larger, still serves.
allowed.value, refused.value = 0, 0
softmax_rs.set_num_threads(20)
assert all(bits(call()) == want[name] for name, call in made.items())
assert refused.value > 0 and threads_of_ours() == 8
"""
    run(CALLS + code, str(allowed), LD_PRELOAD=no_threads)


@pytest.mark.parametrize("worker", [0, 1, 2, 3])
def test_panic_in_a_thread(worker):
    """A bug of ours in any thread of a call is an exception; FPU mode and pool are well, the next calls right."""
    code = """
worker = int(sys.argv[1])
softmax_rs.set_num_threads(4)
want = {name: bits(call()) for name, call in made.items()}
libm = ctypes.CDLL("libm.so.6") if sys.platform == "linux" else None

def mode():
    block = ctypes.create_string_buffer(64)
    return libm and (libm.fegetenv(block), block.raw[28:31])

threads, found = threads_of_ours() if libm else None, mode()
for _ in range(20):
    try:
        softmax_rs._softmax_rs._panic_in_worker(worker)
    except BaseException as error:
        assert type(error).__name__ == "PanicException", error
        assert f"worker {worker}, as ordered" in str(error), error
    else:
        raise AssertionError("no panic")
    assert bits(made[next(iter(made))]()) == want[next(iter(made))]
assert mode() == found
assert all(bits(call()) == want[name] for name, call in made.items())
assert libm is None or threads_of_ours() == threads, "the pool lost threads"
assert "_panic_in_worker" not in dir(softmax_rs)
"""
    run(CALLS + code, str(worker))


def test_small_stack():
    """Every function, in every regime and level, in a Python thread whose stack has 128 KiB."""
    code = """
levels = sys.argv[1:]
small = everything([((2, 5), dtype, axis) for dtype in (np.float16, np.float64) for axis in (0, -1)])
x = np.full((40, 3), -np.log(3), np.float32)  # cancels: refined in float64
made |= small | {
    "refined": lambda: softmax_rs.logsumexp(x, axis=1),
    "refined, long": lambda: softmax_rs.logsumexp(np.full(400_000, -np.log(400_000), np.float32)),
    "mask": lambda: softmax_rs.softmax(x, where=x < 0, temperature=np.arange(1.0, 41)),
    "lists": lambda: softmax_rs.softmax([[1, 2], [3, 4]], where=[True, False]),
    "swapped": lambda: softmax_rs.log_softmax(x.astype(">f8")[::-1, ::2]),
}
with softmax_rs.threads(1):
    want = {name: bits(call()) for name, call in made.items()}
got = {}

def work():
    for name, call in made.items():
        print(name, file=sys.stderr, flush=True)  # the last one is what overflowed
        got[name] = bits(call())
        try:
            softmax_rs.softmax([1.0], axis=3)
        except ValueError:
            pass

threading.stack_size(128 * 1024)
for threads in (1, 4):
    softmax_rs.set_num_threads(threads)
    got.clear()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert got == want, [name for name in want if got.get(name) != want[name]]
"""
    for level in levels():
        run(CALLS + code, SOFTMAX_RS_SIMD=level)


def levels():
    """Return the levels that this CPU has, best first."""
    order = ["avx512", "avx2", "portable"]
    return order[order.index(softmax_rs.simd_level()) :]


@LINUX
def test_no_leak_over_many_calls():
    """A million small calls, errors included: the resident memory stays, and so does Python's count of blocks."""
    code = """
import ml_dtypes
made = everything([((2, 5), dtype, axis) for dtype in (np.float32, np.float16, ml_dtypes.bfloat16) for axis in (0, -1)])
x = np.zeros((4, 5), np.float32)

def refused(function, *arguments, **keywords):
    def call():
        try:
            function(*arguments, **keywords)
        except (TypeError, ValueError, IndexError):
            return
        raise AssertionError(f"{function} took {keywords}")
    return call


for name in ("softmax", "log_softmax", "logsumexp", "softmax_jacobian"):
    f = getattr(softmax_rs, name)
    for case, keywords in {"axis": {"axis": 9}, "out": {"out": x[:1]}, "kind": {"axis": "a"}}.items():
        made[f"{name}, bad {case}"] = refused(f, x, **keywords)
    made[f"{name}, complex"] = refused(f, x + 1j)
    made[f"{name}, masked array"] = refused(f, np.ma.array(x))
for name in ("softmax_vjp", "log_softmax_backward", "logsumexp_jvp"):
    made[f"{name}, shapes"] = refused(getattr(softmax_rs, name), x, x[:, :3])
    made[f"{name}, overlap"] = lambda f=getattr(softmax_rs, name): f(x, x[::-1])
made |= {
    "class": refused(softmax_rs.cross_entropy_with_grad, x, np.full(4, 7)),
    "weight": refused(softmax_rs.cross_entropy, x, np.zeros(4, int), weight=[1.0]),
    "each": lambda: softmax_rs.cross_entropy_with_grad(x, [0, 1, 2, 3], reduction="none", grad_output=np.ones(4)),
    "lists": lambda: softmax_rs.softmax(x.tolist(), where=[True] * 5, temperature=[1.0] * 4),
    "out": lambda: softmax_rs.softmax(x[:, ::-1], out=x),
    "threads": lambda: softmax_rs.threads(2).__enter__().__exit__(),
    "bad threads": refused(softmax_rs.set_num_threads, 0),
    "empty": lambda: softmax_rs.softmax(x[:0]),
    "scalar": lambda: softmax_rs.logsumexp(1.0),
}

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

each = int(sys.argv[1]) // len(made)
for call in made.values():
    for _ in range(max(300, each // 20)):
        call()
gc.collect()
blocks, start, worst = sys.getallocatedblocks(), resident(), {}
for name, call in made.items():
    before = resident()
    for _ in range(each):
        call()
    worst[name] = (resident() - before) / each
gc.collect()
growth, blocks = resident() - start, sys.getallocatedblocks() - blocks
print(f"{len(made)} calls {each} times each: memory grew by {growth / 1024:.0f} KiB, Python's blocks by {blocks}")
leaks = {name: f"{size:.1f} bytes a call" for name, size in worst.items() if size > 16}  # malloc's smallest block
assert not leaks and blocks < each / 2, (leaks, blocks)
assert growth < 8 * each, growth
"""
    count = 10_000_000 if LONG else 1_000_000
    print("\n" + run(CALLS + code, str(count), MALLOC_ARENA_MAX="1").stdout.strip())


@LINUX
def test_no_leak_of_threads_and_scratch():
    """Scratch belongs to its thread and goes with it; pools that are outgrown go too."""
    code = """
wide = list(everything((((64, 9000), np.float32, 0), ((4, 100_000), np.float16, -1))).values())

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def round(i):
    def work():
        with softmax_rs.threads(1 + i % 7):
            wide[i % len(wide)]()
            wide[(i + 1) % len(wide)]()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

for i in range(60):
    round(i)
before, threads = resident(), threads_of_ours()
for i in range(int(sys.argv[1])):
    round(i)
grown = resident() - before
print(f"{sys.argv[1]} times four threads: resident memory grew by {grown / 1024:.0f} KiB")
assert threads_of_ours() == threads == 6, (threads, threads_of_ours())
assert grown < 24 << 20, grown  # one leaked scratch a round would be hundreds of MiB
"""
    print("\n" + run(CALLS + code, "10000" if LONG else "600", MALLOC_ARENA_MAX="2").stdout.strip())


@pytest.mark.parametrize("how", ["return", "exit", "exception", "atexit", "os._exit"])
def test_exit_with_calls_in_daemon_threads(how):
    """The interpreter ends while daemon threads are inside of large and small calls: no abort, no hang."""
    code = """
import atexit
softmax_rs.set_num_threads(4)
how = sys.argv[1]
entered = threading.Semaphore(0)

def busy(call):
    call()
    entered.release()
    while True:
        call()

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.3)  # the interpreter is half gone: now the threads come back from their calls

endless = np.broadcast_to(np.float32(0), (64, 2**31))
threading.Thread(target=softmax_rs.logsumexp, args=(endless, 1), daemon=True).start()
sys.modules["slow"] = Slow()

large = list(made.values())[::9]
small = list(calls((2, 5)).values())[::5]
for call in (*large, *small):
    threading.Thread(target=busy, args=(call,), daemon=True).start()
for _ in (*large, *small):
    entered.acquire()
if how == "atexit":
    want = bits(made[next(iter(made))]())
    atexit.register(lambda: print(bits(made[next(iter(made))]()) == want, flush=True))
if how == "exit":
    sys.exit(0)
if how == "os._exit":
    os._exit(0)
if how == "exception":
    raise RuntimeError("the end")
"""
    for _ in range(40 if LONG else 4):
        done = run(CALLS + code, how, expect_success=how != "exception")
        assert done.returncode == (how == "exception"), (done.returncode, done.stderr)
        assert "panicked" not in done.stderr and "Fatal" not in done.stderr, done.stderr
        assert how != "atexit" or done.stdout == "True\n", done.stdout


def test_module_globals_at_shutdown():
    """Objects whose __del__ computes while the interpreter takes itself down; the result is right or an exception."""
    code = """
class Last:
    def __init__(self):
        self.call, self.x, self.context = softmax_rs.softmax, np.zeros(4), softmax_rs.threads(2).__enter__()
    def __del__(self):
        assert self.call(self.x).tolist() == [0.25] * 4
        print("computed", flush=True)

keep = Last()
keep.itself = keep
sys.modules["kept"] = keep
"""
    done = run(CALLS + code)
    assert done.stdout == "computed\n" and not done.stderr, (done.stdout, done.stderr)


SUBINTERPRETER = """
import sys, warnings
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def elsewhere(code):
    \"\"\"Run in a new sub-interpreter that shares the GIL; return what went wrong.\"\"\"
    try:
        one = interpreters.create("legacy")  # Python >= 3.13
    except TypeError:
        one = interpreters.create(isolated=False)
    try:
        found = interpreters.run_string(one, code)
    except interpreters.RunFailedError as error:
        found = error
    interpreters.destroy(one)
    return found

ATTEMPT = '''
import warnings
warnings.simplefilter("ignore")  # NumPy warns of sub-interpreters itself
try:
    import numpy
    import softmax_rs
    print("imported", softmax_rs.softmax(numpy.zeros(2)).tolist(), flush=True)
except ImportError as error:
    print("ImportError:", error, flush=True)
'''
"""


def test_subinterpreter():
    """Import in a sub-interpreter is an ImportError where another had the module first; and never more than that."""
    code = """
import numpy as np, softmax_rs
for _ in range(3):
    assert elsewhere(ATTEMPT) is None
assert softmax_rs.softmax(np.zeros(4)).tolist() == [0.25] * 4
"""
    done = run(SUBINTERPRETER + code)
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all(line.startswith("ImportError:") for line in lines), done.stdout


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0",
    reason="NumPy 1 itself cannot be imported by the main interpreter once a sub-interpreter had it",
)
def test_subinterpreter_that_is_first():
    """It gets the module (or an ImportError), and so does the main interpreter after it."""
    code = """
assert elsewhere(ATTEMPT) is None
try:
    import numpy as np, softmax_rs
    assert softmax_rs.softmax(np.zeros(4)).tolist() == [0.25] * 4
except ImportError as error:
    print("here:", error)
"""
    done = run(SUBINTERPRETER + code)
    assert done.stdout.startswith(("imported [0.5, 0.5]", "ImportError:")), done.stdout


def test_reload_and_import_again():
    """importlib.reload, and an import after sys.modules has forgotten the package."""
    code = """
want = {name: bits(call()) for name, call in made.items()}
softmax_rs.set_num_threads(3)
for _ in range(3):
    softmax_rs = importlib.reload(softmax_rs)
    importlib.reload(sys.modules["softmax_rs._softmax_rs"])
    assert softmax_rs.get_num_threads() == 3
for name in [name for name in sys.modules if name.startswith("softmax_rs")]:
    del sys.modules[name]
import softmax_rs as again
assert again.softmax(np.zeros(4)).tolist() == [0.25] * 4
assert again.get_num_threads() == 3
assert all(bits(call()) == want[name] for name, call in made.items())
"""
    run(CALLS + code)


def test_calls_inside_of_a_call():
    """A signal handler that computes while the interrupted call holds the scratch of its thread."""
    if not hasattr(os, "kill") or sys.platform == "win32":
        pytest.skip("needs signals")
    code = """
import signal
inner = []
x = np.full(2**25, -np.log(2**25), np.float32)  # cancels: a pass in float32 and one in float64
with softmax_rs.threads(1):
    want = {name: bits(call()) for name, call in made.items()}
    alone = bits(softmax_rs.logsumexp(x))

    def handler(number, frame):
        inner.append([name for name, call in made.items() if bits(call()) != want[name]])

    signal.signal(signal.SIGALRM, handler)
    while not inner:
        signal.setitimer(signal.ITIMER_REAL, 0.003)
        assert bits(softmax_rs.logsumexp(x)) == alone
assert inner == [[]] * len(inner), inner
"""
    run(CALLS + code)


def test_every_function_is_in_these_tests():
    """A new public function must not be left out of `calls`."""
    functions = {n for n in softmax_rs.__all__ if not n.startswith("_") and callable(getattr(softmax_rs, n))}
    functions -= {"get_num_threads", "set_num_threads", "simd_level", "threads"}
    named = {name.split(" of ")[0] for name in calls((2, 3))}
    assert named == functions
    assert all(np.frombuffer(bits(call()), np.uint8).size for call in calls((2, 3)).values())
