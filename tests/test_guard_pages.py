"""Hazard: a byte beside an array. Each array of a call ends right before a closed page, or begins right after one.

This is about the package as it is built for users, called through NumPy. More lengths, layouts and dtypes are in
rust/core/tests/guard.rs, and bytes between elements in test_out.py and test_layouts.py.
"""

import ctypes
import itertools
import json
import mmap
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from catalogue import real, reduced_shape
from children import run
from kinds import KINDS
from test_simd_levels import LEVELS
from ulps import FLOATS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="closes pages by Linux's mprotect")

PAGE = mmap.PAGESIZE
MARGIN = 192  # filled bytes around an array that are compared
LENGTHS = range(301)
# (shape of a length, axis, elements' distance in items; its sign is the direction)
LAYOUTS = {
    "one row": (lambda n: (n,), 0, 1),
    "rows": (lambda n: (3, n), 1, 1),
    "columns": (lambda n: (n, 5), 0, 1),
    "reversed row with gaps": (lambda n: (n,), 0, -2),
    "columns with gaps": (lambda n: (n, 17), 0, 2),
}


class Fence:
    """Memory between two pages that may not be touched."""

    def __init__(self, size):
        self.size = -(-size // PAGE) * PAGE
        whole = mmap.mmap(-1, self.size + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(whole))
        for address in (start, start + PAGE + self.size):
            closed = ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), PAGE, 0)
            assert closed == 0, ctypes.get_errno()
        self.room = np.frombuffer(whole, np.uint8, self.size, PAGE)
        self.window = self.room[:0]

    def array(self, shape, dtype, step, last, offset, filler):  # noqa: PLR0917 positions are shortest here
        """Return an array without values, `offset` bytes behind the one page or before the other.

        What is around and between its elements is filled; `window` is that part of the room.
        """
        strides, stride = [], dtype.itemsize * step
        for n in reversed(shape):
            strides.insert(0, stride)
            stride *= max(n, 1)
        reach = sum((n - 1) * abs(s) for n, s in zip(shape, strides, strict=True)) + dtype.itemsize
        if 0 in shape:
            reach = 0
        first = self.size - reach - offset if last else offset
        self.window = self.room[max(first - MARGIN, 0) : first + reach + MARGIN]
        self.window[:] = filler
        if step < 0 and reach:
            first += reach - dtype.itemsize
        return np.ndarray(shape, dtype, self.room, first, strides)


def main(note, dtype):  # noqa: C901 the axes of the product, one inside the other
    """Run all cases of a dtype; print what ran. The file `note` has the present one, for when the process ends here."""
    rng = np.random.default_rng(3)
    fences = [Fence(300 * 17 * 2 * 8 + 64) for _ in range(6)]
    with Path(note).open("r+b") as file:
        now = mmap.mmap(file.fileno(), 0)
    offsets = itertools.cycle(range(1, 64))
    ran = {}
    for k, (layout, (shape_of, axis, step)) in itertools.product(KINDS, LAYOUTS.items()):
        if "jacobian" in k.name and layout != "one row":
            continue
        for n in LENGTHS[:65] if "jacobian" in k.name else LENGTHS:
            if layout != "one row" and n > 40 and n % 15:
                continue
            shape = shape_of(n)
            arrays = k.arrays(rng, rng.normal(0, 3, shape).astype(dtype), axis)
            beside = {}
            if n % 2 and k.accepts("temperature"):
                beside["temperature"] = rng.uniform(0.5, 2, reduced_shape(shape, axis))
            if n % 2 and k.accepts("where"):
                beside["where"] = rng.random(shape) < 0.9
            out_shape = k.out_shape(shape, axis)
            want, offset = None, next(offsets)
            places = itertools.product((False, True), (0, offset) if layout == "one row" and n % 3 == 0 else (0,))
            for i, (last, distance) in enumerate(places):
                now[:] = f"{k}, {dtype}, {layout}, n={n}, last={last}, offset={distance}".ljust(len(now)).encode()
                filler = (0xFF, 0, 0x7F, 0x3C)[i]
                given, kept = [], []
                for a, fence in zip((*arrays, *beside.values()), fences, strict=False):
                    laid = fence.array(a.shape, a.dtype, step, last, distance, filler)
                    laid[...] = a
                    given.append(laid)
                    kept.append(fence.window.tobytes())
                keywords = dict(zip(beside, given[len(arrays) :], strict=True))
                if out_shape is not None:
                    keywords["out"] = fences[5].array(out_shape, real(dtype), step, last, distance, filler)
                results = k(*given[: len(arrays)], axis=axis, **keywords)
                got = [np.asarray(r).tobytes() for r in results]
                label = bytes(now).decode().strip()
                for fence, before in zip(fences, kept, strict=False):
                    assert fence.window.tobytes() == before, f"an input was written to: {label}"
                if out_shape is not None:
                    keywords["out"].view(f"u{dtype.itemsize}")[...] = int.from_bytes(bytes([filler]) * dtype.itemsize)
                    assert (fences[5].window == filler).all(), f"bytes beside out were written: {label}"
                want = want or got
                assert got == want, f"bytes beside the arrays changed the result: {label}"
                ran[k.name] = ran.get(k.name, 0) + 1
    json.dump(ran, sys.stdout)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_beside_the_arrays(level, dtype, tmp_path):
    """Every function, every length to 300; the process would end at a touch. Bytes that change change no result."""
    note = tmp_path / "case"
    note.write_bytes(b" " * 200)
    code = "import sys, ulps, test_guard_pages as t; t.main(sys.argv[1], ulps.FLOATS[int(sys.argv[2])])"
    done = run(code, str(note), str(FLOATS.index(dtype)), expect_success=False, SOFTMAX_RS_SIMD=level)
    assert done.returncode == 0, f"{level}: {note.read_text().strip()} ended with {done.returncode}\n{done.stderr}"
    ran = json.loads(done.stdout)
    missing = [k.name for k in KINDS if ran.get(k.name, 0) < (150 if "jacobian" in k.name else 250)]
    assert not missing, f"{level} ran too few cases of {missing}"
    print(f"{level} {dtype}: {sum(ran.values())} calls")


@pytest.mark.parametrize("touch", ["room[-1:]", "room[:1]"])
def test_the_pages_are_closed(touch):
    """A byte too far on either side ends a process: what the test above rests on."""
    code = f"""
import numpy as np, test_guard_pages
room = test_guard_pages.Fence(1).room
end = np.lib.stride_tricks.as_strided({touch}, (2,), (1 if {touch!r}[5] == "-" else -1,))
print(end[0], flush=True)
print(end[1], flush=True)
"""
    done = run(code, expect_success=False)
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "0\n"), done.stderr
