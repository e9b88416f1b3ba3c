"""Hazard: side effects of `import softmax_rs`, and of small calls."""

import importlib.metadata
import pickle

import numpy as np

import softmax_rs
from catalogue import FUNCTIONS, OTHERS, RUNTIME
from children import run

SNAPSHOT = """
import ctypes, os, sys
import numpy as np

def environment():
    block = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    out = []
    while block[len(out)] is not None:
        out.append(block[len(out)])
    return sorted(out), dict(os.environ)

def state():
    return sorted(os.listdir("/proc/self/task")), environment(), sorted(os.listdir("/proc/self/fd")), np.geterr()

before, modules = state(), set(sys.modules)
"""


def test_import_changes_nothing():
    """No thread, no environment variable (in C either), no open file, no floating-point state; no foreign module."""
    code = """
import softmax_rs
assert state() == before
new = {m.partition(".")[0] for m in set(sys.modules) - modules}
heavy = {"ml_dtypes", "scipy", "dask", "pandas", "torch", "concurrent", "multiprocessing"}
assert "softmax_rs" in new and not new & heavy, new
"""
    run(SNAPSHOT + code, inherit=False)


def test_import_does_not_change_the_floating_point_mode():
    """Subnormals are still computed after import and after calls."""
    code = """
import softmax_rs
tiny = np.array([5e-324, 1e-310])
def subnormal():
    return (tiny * 2).tolist() == [1e-323, 2e-310] and float(tiny[0]) / 2 == 0.0 and 1e-308 / 4 > 0
assert subnormal()
softmax_rs.softmax(np.random.default_rng(0).normal(0, 300, (1000, 1000)))
assert subnormal()
"""
    run(SNAPSHOT + code)


def test_small_calls_start_no_threads():
    """Nor do they import anything."""
    code = """
import softmax_rs
loaded = set(sys.modules)
for dtype in (np.float16, np.float32, np.float64, np.int32):
    x = np.zeros((2, 5), dtype)
    for f in (softmax_rs.softmax, softmax_rs.log_softmax, softmax_rs.logsumexp):
        f(x, axis=-1)
    for f in (softmax_rs.softmax_vjp, softmax_rs.log_softmax_backward, softmax_rs.logsumexp_jvp):
        f(x, x, axis=-1)
    softmax_rs.cross_entropy_with_grad(x, [0, 1])
    softmax_rs.softmax_jacobian(x)
assert state()[0] == before[0]
assert not {m.partition(".")[0] for m in set(sys.modules) - loaded} & {"ml_dtypes", "scipy", "dask"}
"""
    run(SNAPSHOT + code)


def test_bfloat16_imported_later():
    """ml_dtypes imported after us, and after first use, is understood."""
    code = """
import softmax_rs
softmax_rs.softmax(np.zeros(3, np.float16))
import ml_dtypes
x = np.zeros(4, ml_dtypes.bfloat16)
assert softmax_rs.softmax(x).dtype == x.dtype and softmax_rs.softmax(x).tolist() == [0.25] * 4
"""
    run(SNAPSHOT + code)


def test_version():
    """The package's own version, as the installer knows it."""
    assert softmax_rs.__version__ == importlib.metadata.version("softmax-rs")
    assert softmax_rs.__version__[0].isdigit()


def test_public_names():
    """Everything of the contract is there, listed in __all__, and documented."""
    names = {f.name for f in FUNCTIONS} | set(OTHERS) | set(RUNTIME)
    assert names <= set(dir(softmax_rs))
    assert names <= set(softmax_rs.__all__)
    assert all(hasattr(softmax_rs, name) for name in softmax_rs.__all__)


def test_functions_pickle_by_reference():
    """As multiprocessing and dask need it."""
    for name in (*(f.name for f in FUNCTIONS), *OTHERS):
        function = getattr(softmax_rs, name)
        data = pickle.dumps(function)
        assert pickle.loads(data) is function  # noqa: S301 our own bytes
        assert b"softmax_rs" in data and len(data) < 100


def test_no_leak_of_references(rng):
    """Reference counts of arguments and of shared objects are what they were, after success and after errors."""
    import gc
    import sys

    x = rng.normal(0, 3, (4, 5)).astype(np.float32)
    mask, t, dtype = np.ones((4, 5), bool), np.ones(4), np.dtype(np.float32)
    target, soft, weight = np.zeros(4, np.int64), np.ones((4, 5)), np.ones(5)
    arguments = {f: f.arguments(rng, x) for f in FUNCTIONS}
    watched = [x, mask, t, dtype, target, soft, weight, None, np.ndarray, *(a for v in arguments.values() for a in v)]

    def refused(f, *arrays, **keywords):
        try:
            f(*arrays, **keywords)
        except (TypeError, ValueError, IndexError):
            return
        raise AssertionError(f"{f} took {keywords}")

    def calls():
        for f in FUNCTIONS:
            arrays = arguments[f]
            out = np.empty(f.result_shape(x.shape, -1), np.float32)
            keywords = {k: v for k, v in {"temperature": t, "dtype": dtype}.items() if f.accepts(k)}
            f(*arrays, axis=-1)
            f(*[a.tolist() for a in arrays], axis=-1)
            f(*arrays, axis=-1, out=out, where=mask, **keywords)
            for bad in ({"axis": 5}, {"where": x}, {"out": x.tolist()}, {"dtype": object}):
                refused(f, *arrays, **{"axis": -1} | bad)
        for wanted in (target, soft):
            softmax_rs.cross_entropy(x, wanted, weight=weight, sample_weight=t, where=mask, temperature=t)
            softmax_rs.cross_entropy_with_grad(x, wanted, out=np.empty_like(x), grad_output=2.0)
            softmax_rs.cross_entropy_hvp(x, wanted, x)
            refused(softmax_rs.cross_entropy_with_grad, x, wanted, axis=7)
            refused(softmax_rs.cross_entropy_with_grad, x, wanted, weight=t)
        refused(softmax_rs.cross_entropy_with_grad, x, target + 5)

    calls()
    gc.collect()  # garbage of earlier tests holds None too
    gc.disable()
    try:
        before = [sys.getrefcount(o) for o in watched]
        for _ in range(500):
            calls()
        change = [sys.getrefcount(o) - b for o, b in zip(watched, before, strict=True)]
    finally:
        gc.enable()
    assert max(map(abs, change)) < 250, f"reference counts changed by {change} in 500 rounds"
