"""Peak memory: what a call adds to a process that has its inputs, the result included.

(Not asv's `peakmem_`: the peak of the whole process is that of drawing the sample.)
"""

import ctypes
import re
from pathlib import Path
from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented  # type: ignore[import-untyped]  # it has no types

from . import common

SHAPES = ["8192x1000", "axis0:1000x8192", "1x8000000"]
DTYPES = ["float32", "float16"]
PROCESS = Path("/proc/self")


def status(name: str) -> int:
    """A number of bytes that Linux knows of this process."""
    found = re.search(rf"^{name}:\s*(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE)
    if found is None:
        raise SkipNotImplemented(f"no {name} in {PROCESS}/status")
    return int(found.group(1)) * 1024


def peak(self: Any, shape: str, dtype: str) -> int:  # noqa: ANN401 -- a generated class
    """The highest use of memory during a call over that before it."""
    if not (PROCESS / "clear_refs").exists():
        raise SkipNotImplemented("only Linux can set the peak back")
    call = common.prepared(self.row, shape, dtype, "new")
    # Memory that is kept of earlier results (eight pieces at most) would serve this one unseen.
    earlier = [call() for _ in range(8)]
    # What drawing the sample left to the allocator would hide as much of the call's need (glibc only).
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    (PROCESS / "clear_refs").write_text("5")  # sets the peak back to what is used now
    before = status("VmRSS")
    result = call()
    after = status("VmHWM")
    del result, earlier
    return after - before


peak.unit = "bytes"  # type: ignore[attr-defined]  # asv's way to be told

globals().update(
    common.generate(
        __name__,
        common.FUNCTIONS,
        {"track_peak_bytes": peak},
        shape=lambda _: SHAPES,
        dtype=lambda _: DTYPES,
    )
)
