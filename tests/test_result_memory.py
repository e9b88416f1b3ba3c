"""Hazard: memory of large results is kept for the next one. Two live arrays must never share it, nor may it pile up."""

import copy
import gc
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import softmax_rs
from children import run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="results come from NumPy's allocator on this system")

LARGE = (9000, 1000)  # 36 MB of float32
START = """
import gc, numpy as np, softmax_rs
multiarray = (np._core if hasattr(np, "_core") else np.core).multiarray
x = np.random.default_rng(0).normal(0, 3, (9000, 1000)).astype(np.float32)

def virtual():
    return int(open("/proc/self/statm").read().split()[0]) * 4096 / 2**20
"""


def logits(rng, shape=LARGE):
    """Draw some."""
    return rng.normal(0, 3, shape).astype(np.float32)


def test_memory_is_used_again():
    """A large result that was dropped hands its memory to the next one; small ones are NumPy's."""
    code = """
first = softmax_rs.softmax(x)
assert multiarray.get_handler_name(first) == "softmax_rs", multiarray.get_handler_name(first)
assert first.flags.owndata and first.base is None and first.flags.writeable and first.ctypes.data % 64 == 0
place = first.ctypes.data
del first
again = softmax_rs.log_softmax(x)
assert again.ctypes.data == place
assert multiarray.get_handler_name(softmax_rs.softmax(x[:1100])) == "softmax_rs"  # 4.2 MiB
assert multiarray.get_handler_name(softmax_rs.softmax(x[:1000])) == "default_allocator"
assert multiarray.get_handler_name(again.copy()) == "default_allocator"
assert multiarray.get_handler_name(np.empty(10**7)) == "default_allocator"
"""
    run(START + code)


def test_live_results_have_memory_of_their_own(rng):
    """Results of many sizes, some dropped and some not: each keeps its values."""
    x = logits(rng, (20_000, 1000))
    want = softmax_rs.softmax(x, out=np.empty_like(x))
    live = {}
    for step in range(60):
        rows = int(rng.integers(5000, 20_000))
        live[step] = (rows, softmax_rs.softmax(x[:rows]))
        if len(live) > 4:
            del live[list(live)[int(rng.integers(len(live)))]]
        if step % 20 == 0:
            arrays = [result for _, result in live.values()]
            places = sorted((a.ctypes.data, a.ctypes.data + a.nbytes) for a in arrays)
            assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
            for rows, result in live.values():
                assert result.tobytes() == want[:rows].tobytes()


def test_from_many_threads(rng):
    """Eight threads make and drop results at once."""
    x = logits(rng)
    want = softmax_rs.softmax(x).tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: softmax_rs.softmax(x).tobytes() == want, range(48)))


def test_what_is_kept_is_bounded():
    """20 live results of 36 MB, dropped: at most 256 MiB stay; a result beyond that is given back at once."""
    code = """
softmax_rs.softmax(x)
before = virtual()
live = [softmax_rs.softmax(x) for _ in range(20)]
assert virtual() - before > 500, (before, virtual())
del live
gc.collect()
assert virtual() - before < 256 + 32, (before, virtual())
wide = np.broadcast_to(x[0], (80_000, 1000))
del x
softmax_rs.softmax(wide, dtype=np.float32)
assert virtual() - before < 256 + 32, (before, virtual())
"""
    run(START + code)


def test_all_but_the_newest_is_free():
    """The system may have what is kept, but for one piece of up to 32 MiB, which is as it was left."""
    code = """
def lazily_free():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("LazyFree"))

small, large = x[:6000], x  # 23 and 34 MiB
for attempt in range(5):  # the system may take what is free before it is looked at
    live = [softmax_rs.softmax(small) for _ in range(3)]
    while live:
        live.pop()
        kept = 3 - len(live)
        assert lazily_free() < 24 * (kept - 1) + 2, (kept, lazily_free())
    if lazily_free() > 44:
        break
else:
    raise AssertionError(lazily_free())
assert softmax_rs.softmax(small).tobytes() == softmax_rs.softmax(small).tobytes()
for attempt in range(5):
    before = lazily_free()
    result = softmax_rs.softmax(large)
    del result
    if lazily_free() > before + 33:
        break
else:
    raise AssertionError((before, lazily_free()))
"""
    run(START + code)


def test_off():
    """SOFTMAX_RS_KEEP_MIB=0: all results are NumPy's."""
    code = "assert multiarray.get_handler_name(softmax_rs.softmax(x)) == 'default_allocator'"
    run(START + code, SOFTMAX_RS_KEEP_MIB="0")


@pytest.mark.parametrize("value", ["much", "-1", "1.5", str(2**64)])
def test_bad_variable(value):
    """A ValueError at the first large result names variable and value."""
    code = """
import sys
try:
    softmax_rs.softmax(x)
except ValueError as error:
    assert "SOFTMAX_RS_KEEP_MIB" in str(error) and sys.argv[1] in str(error), error
else:
    sys.exit("no error")
"""
    run(START + code, value, SOFTMAX_RS_KEEP_MIB=value)


def test_results_are_arrays_like_any_other(rng):
    """Resized (smaller, larger), deep-copied: NumPy goes through our allocator, and the values are right."""
    x = logits(rng)
    result = softmax_rs.softmax(x)
    want = result.copy()
    assert copy.deepcopy(result).tobytes() == want.tobytes()
    result.resize((2, 10), refcheck=False)
    assert result.tobytes() == want.ravel()[:20].tobytes()
    result.resize((10_000, 1000), refcheck=False)
    assert result.ravel()[:20].tobytes() == want.ravel()[:20].tobytes()
    assert not result.ravel()[20:].any()
    gc.collect()
    assert softmax_rs.softmax(x).tobytes() == want.tobytes()


def test_a_forked_child_has_its_own():
    """Parent and child write to what was kept, each in its own copy."""
    code = """
import os
want = softmax_rs.softmax(x).tobytes()
child = os.fork()
good = all(softmax_rs.softmax(x).tobytes() == want for _ in range(5))
if child == 0:
    os._exit(0 if good else 1)
assert good and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    run("import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + START + code)
