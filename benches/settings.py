"""What a caller can choose: an `out` that is there, and threads. With the page faults of a call, which tell why.

    python benches/settings.py
    NUMPY_MADVISE_HUGEPAGE=0 python benches/settings.py               # small pages
    MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 python benches/settings.py  # glibc keeps all

Medians [and minima] of interleaved rounds, float32 logits N(0, 3).
"""

import argparse
import functools
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import rivals
import softmax_rs

SHAPES = "32x1000,64x1000,1024x1000,8192x1000,1x10000000,2000x32000"


def faults() -> int:
    """Page faults of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, tuple[float, float, float]]:
    """Median and least milliseconds, and page faults, of each call, the calls taking turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    pages: dict[str, list[int]] = {name: [] for name in calls}
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(times["copy"]) < 5:  # noqa: PLR2004
        for name, call in calls.items():
            before, begin = faults(), time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
            pages[name].append(faults() - before)
    middle = statistics.median
    return {name: (middle(times[name]) * 1e3, min(times[name]) * 1e3, middle(pages[name])) for name in calls}


def on(threads: int, call: Callable[[], Any]) -> Callable[[], Any]:
    """The call on so many threads."""

    def wrapped() -> None:
        with softmax_rs.threads(threads):
            call()

    return wrapped


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=SHAPES, help="comma-separated")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each shape (default: 3)")
    options = parser.parse_args()
    print(
        f"{rivals.cpu()}, {os.cpu_count()} CPUs; SIMD level {softmax_rs.simd_level()}; NumPy {np.__version__};", end=" "
    )
    print(f"{platform.system()} {platform.release()}")
    print("milliseconds: median [least] (page faults)\n")
    names = ("new, 1 thread", "out, 1 thread", "new, 2 threads", "out, 2 threads", "x.copy()", "copy")
    print(f"{'softmax':12s}" + "".join(f"{name:>27s}" for name in names))
    for spec in options.shapes.split(","):
        x = np.random.default_rng(0).normal(0, 3, tuple(map(int, spec.split("x")))).astype(np.float32)
        out = np.empty_like(x)
        new = functools.partial(softmax_rs.softmax, x)
        into = functools.partial(softmax_rs.softmax, x, out=out)
        calls = (on(1, new), on(1, into), on(2, new), on(2, into), x.copy, functools.partial(np.copyto, out, x))
        found = measure(dict(zip(names, calls, strict=True)), options.seconds)
        cells = [f"{ms:.3f} [{least:.3f}] ({pages:.0f})" for ms, least, pages in found.values()]
        print(f"{spec:12s}" + "".join(f"{cell:>27s}" for cell in cells), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
