"""Hazard: a caller's floating-point mode. Flush to zero (other libraries set it) and rounding change no bit.

On no thread; and the mode is found again as it was, records of exceptions included, after an error as well.
"""

import ctypes
import hashlib
import mmap
import platform

import numpy as np
import pytest

import softmax_rs
from children import run
from every import KINDS, SQUARES, WAYS, Integers, corpus
from ulps import BFLOAT16, FLOAT32, FLOATS, assert_same_bits, bits

# Functions of a pointer to the register's 4 bytes, as machine code: no compiler is needed, nothing happens in between.
MACHINE_CODE = {
    "x86_64": (
        bytes.fromhex("0fae1f c3"),  # stmxcsr [rdi]; ret
        bytes.fromhex("0fae17 c3"),  # ldmxcsr [rdi]; ret
    ),
    "aarch64": (
        bytes.fromhex("01443bd5 010000b9 c0035fd6"),  # mrs x1, fpcr; str w1, [x0]; ret
        bytes.fromhex("010040b9 01441bd5 c0035fd6"),  # ldr w1, [x0]; msr fpcr, x1; ret
    ),
}
MODES = {
    "x86_64": {
        "flush to zero": 0x8000,
        "flush to zero, denormals are zero": 0x8040,
        "rounding down": 0x2000,
        "rounding up": 0x4000,
        "rounding towards zero": 0x6000,
        "all records of exceptions set": 0x003F,
    },
    "aarch64": {
        "flush to zero": 1 << 24,
        "rounding up": 1 << 22,
        "rounding down": 2 << 22,
        "rounding towards zero": 3 << 22,
    },
}.get(platform.machine(), {})

pytestmark = pytest.mark.skipif(not MODES, reason=f"no floating-point mode is known for {platform.machine()}")


class Register:
    """The register of this thread that holds the mode: MXCSR or FPCR."""

    def __init__(self):
        """Lay the machine code into a page of its own."""
        read, write = MACHINE_CODE[platform.machine()]
        self.page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.page.write(read.ljust(16, b"\0") + write)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        function = ctypes.PYFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint32))
        self._read, self._write = function(start), function(start + 16)

    def read(self):
        """Return what is in the register."""
        value = ctypes.c_uint32()
        self._read(value)
        return value.value

    def write(self, value):
        """Change it."""
        self._write(ctypes.c_uint32(value))


@pytest.fixture(scope="module")
def register():
    """Return the register of the main thread."""
    return Register()


def in_mode(register, mode, call):
    """Return `call()` (or its exception) as it comes out in this mode, which must be the same afterwards."""
    found = register.read()
    register.write(found | mode)
    before = register.read()
    try:
        result = call()
    except (ValueError, IndexError, TypeError) as error:
        result = error
    after = register.read()
    register.write(found)
    assert before == found | mode, f"this CPU does not have the mode: {before:#x}"
    assert after == before, f"the mode was {before:#x} before the call, and is {after:#x} after it"
    return result


def test_the_mode_matters(register):
    """These modes are no modes of another register: NumPy's own sums obey them."""
    found, results = register.read(), {}
    for name in ("flush to zero", "rounding up"):
        tiny, ones = np.full(4, 2e-38, np.float32), np.ones(4)
        register.write(found | MODES[name])
        results[name] = tiny * tiny.dtype.type(0.5), ones + 1e-30
        register.write(found)
    assert results["flush to zero"][0][0] == 0
    assert results["rounding up"][1][0] > 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_no_bit_changes(way, mode, register):
    """Every function: rows, columns, an array that is shared among threads, subnormal numbers in and out."""
    for dtype in FLOATS:
        shapes = [(KINDS, 33), (2 * KINDS, 3)]
        shapes += [(4, 130)] if SQUARES in way.gives else [(2 * KINDS, 3000)] if dtype == FLOAT32 else []
        for shape in shapes:
            x = corpus(dtype, *shape)
            for axis, logits in [(-1, x), (0, x.T.copy())]:
                arrays = way.arguments(Integers(7), logits, axis)
                want = way(*arrays, axis=axis)
                for n in (1, 5):
                    with softmax_rs.threads(n):
                        got = in_mode(register, MODES[mode], lambda: way(*arrays, axis=axis))  # noqa: B023 (called at once)
                    for result, right in zip(got, want, strict=True):
                        assert_same_bits(result, right, f"{way} {dtype} {shape} axis={axis}, {mode}, {n} threads")


FIRST_CALL = """
import sys, softmax_rs, test_floating_point_mode as test
register = test.Register()
found = register.read()
softmax_rs.set_num_threads(5)
register.write(found | int(sys.argv[1]))
digest = test.digest_of_shared_calls()
register.write(found)
print(digest)
"""


def digest_of_shared_calls():
    """Hash what every function gives for arrays that are shared among threads."""
    digest = hashlib.sha256()
    for way in WAYS:
        x = corpus(FLOAT32, KINDS, 130 if SQUARES in way.gives else 7000)
        for result in way(*way.arguments(Integers(7), x, -1), axis=-1):
            digest.update(np.ascontiguousarray(bits(result)).tobytes())
    return digest.hexdigest()


def test_threads_started_in_a_mode():
    """Workers inherit the mode of the thread that starts them, for good: they must not compute in it."""
    want = run(FIRST_CALL, "0").stdout
    for mode, value in MODES.items():
        assert run(FIRST_CALL, str(value)).stdout == want, f"the first call was made in the mode: {mode}"


X = np.array([[1.0, 2.0, -3.0], [0.5, 0.0, 1.0]])
LOSS = {"reduction": "none"}
SUBNORMAL, SCALAR, ODD = np.full(2, 1e-44, np.float32), np.float32(1e-44), np.full(2, 2**60 + 1)
BFLOAT = np.full(2, 1e-40).astype(BFLOAT16)
SWAPPED, WEIGHTS = SUBNORMAL.astype(">f4"), np.full(3, 1e-42, np.float32)
SURE = np.array([[0, -90, -95], [0, -88, -90]], np.float32)
COTANGENTS, LARGE, THIRDS = np.full(2, 1e-310), np.array([2**62 + 1, 2**62 - 1]), X / 3
# Beside the arrays: numbers that the call converts before anything is computed, and losses that it converts afterwards.
NUMBERS = {
    "a subnormal temperature": lambda: softmax_rs.softmax(X, temperature=5e-324),
    "subnormal float32 temperatures": lambda: softmax_rs.softmax(X, temperature=SUBNORMAL),
    "a float32 scalar": lambda: softmax_rs.softmax(X, temperature=SCALAR),
    "bfloat16's subnormals": lambda: softmax_rs.softmax(X, temperature=BFLOAT),
    "byte-swapped temperatures": lambda: softmax_rs.softmax(X, temperature=SWAPPED),
    "an integer that is rounded": lambda: softmax_rs.cross_entropy(X, [0, 1], sample_weight=ODD, **LOSS),
    "subnormal weights": lambda: softmax_rs.cross_entropy(X, [0, 1], weight=WEIGHTS, **LOSS),
    "a subnormal loss": lambda: softmax_rs.cross_entropy(SURE, [0, 0], **LOSS),
    "its mean": lambda: softmax_rs.cross_entropy(SURE, [0, 0]),
    "a subnormal softcap": lambda: softmax_rs.cross_entropy(X, [0, 1], softcap=1e-310, **LOSS),
    "a subnormal cotangent": lambda: softmax_rs.logsumexp_vjp(X, COTANGENTS, axis=-1),
    "logits of integers": lambda: softmax_rs.logsumexp(LARGE, dtype=np.float32),
    "logits of a narrower dtype": lambda: softmax_rs.log_softmax(THIRDS, dtype=np.float16),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("what", NUMBERS)
def test_numbers_beside_the_arrays(what, mode, register):
    """What is checked, converted and rounded on the way into a call and out of it obeys no mode either."""
    call = NUMBERS[what]
    want = call()
    assert_same_bits(in_mode(register, MODES[mode], call), want, f"{what}, {mode}")
    if what in ("a subnormal loss", "its mean"):
        assert np.all(want > 0) and np.all(want < np.finfo(np.float32).tiny), "the case is no case"


COMPLEX, SHORT = X.astype(complex), np.empty(3)
ERRORS = {
    "a class": lambda: softmax_rs.cross_entropy_with_grad(X, [0, 3]),
    "an axis": lambda: softmax_rs.softmax(X, axis=2),
    "out": lambda: softmax_rs.softmax(X, out=SHORT),
    "a temperature": lambda: softmax_rs.softmax(X, temperature=[1.0, -1e-310]),
    "a number": lambda: softmax_rs.cross_entropy(X, [0, 1], label_smoothing=-1e-310),
    "a dtype": lambda: softmax_rs.softmax(COMPLEX),
    "no array": lambda: softmax_rs.softmax([[1.0], [1.0, 2.0]]),
}


@pytest.mark.parametrize("what", ERRORS)
def test_errors(what, register):
    """An error is the same error, and leaves the mode as it was."""
    for mode in MODES.values():
        want, got = in_mode(register, 0, ERRORS[what]), in_mode(register, mode, ERRORS[what])
        assert isinstance(want, Exception), f"{what}: no error"
        assert (type(got), str(got)) == (type(want), str(want))


def test_interruption(register):
    """A signal handler that raises in the midst of a long call leaves the mode as it was."""
    import signal

    x = np.broadcast_to(np.float32(1), (2**31,))

    class AlarmError(ValueError):
        pass

    def ring(*_):
        raise AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for mode in MODES.values():
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            assert isinstance(in_mode(register, mode, lambda: softmax_rs.logsumexp(x)), AlarmError)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
