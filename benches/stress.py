"""Load: many Python threads, mixed functions, dtypes, layouts and sizes, every result compared bit for bit.

    make stress SECONDS=60

A list of calls is drawn first, and what each gives on one thread. Then threads make calls of the list at random, under
changing numbers of worker threads, some of them with `out`, and compare. Printed at the end: calls, latencies by size,
growth of the resident memory. Exit code 1: a result that differs, an exception, a thread that hangs, or growth beyond
the bound.
"""

import argparse
import functools
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import softmax_rs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the calls of the tests, and their layouts

# (Tests have no types.)
calls: Any = importlib.import_module("calls").calls
bits: Any = importlib.import_module("calls").bits
LAYOUTS: dict[str, Any] = importlib.import_module("memory").LAYOUTS

PAGE = os.sysconf("SC_PAGE_SIZE")
LATE = 60.0  # seconds after the end until a thread counts as hung
SIZES = ("small", "medium", "large")  # up to 2^12 elements, 2^16 (from there on several threads share a call), beyond
MASKED, WITH_OUT = 0.8, 0.3  # the share of elements that take part, and of calls with `out`
PERCENTILES = (50, 90, 99, 99.9, 100)
SHAPES = {
    "small": ((2, 5), (16, 100), (1, 1000), (64, 3)),
    "medium": ((30, 1000), (1000, 40), (1, 60_000)),
    "large": ((700, 300), (100, 3000), (1, 400_000), (30_000, 7)),
}


@dataclass
class Case:
    """A call and what it gives on one thread."""

    name: str
    size: str
    call: Callable[..., Any]
    right: bytes
    like: np.ndarray[Any, Any] | None  # what `out` must look like; None: the function has none


@dataclass
class Tally:
    """What one thread has seen."""

    latencies: dict[str, list[float]] = field(default_factory=lambda: {size: [] for size in SIZES})
    faults: list[str] = field(default_factory=list)


def resident() -> int:
    """Return the bytes of resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def dtypes() -> list[Any]:
    """Return all dtypes that there are here."""
    found: list[Any] = [np.float32, np.float64, np.float16, np.int32, np.bool_]
    try:
        import ml_dtypes
    except ImportError:
        print("NOT RUN: bfloat16, for ml_dtypes is not installed")
        return found
    return [*found, ml_dtypes.bfloat16]


def draw(seed: int) -> list[Case]:
    """Return the list of calls."""
    rng = np.random.default_rng(seed)
    cases = []
    for size in SIZES:
        for shape in SHAPES[size]:
            for dtype in dtypes():
                axis = int(rng.integers(-1, 1))
                made = calls(shape[::-1] if axis == 0 else shape, dtype, axis, seed=seed)
                for name, call in made.items():
                    label = f"{name} {shape} {np.dtype(dtype)} axis {axis}"
                    result = call()
                    like = result[1] if isinstance(result, tuple) else result
                    has_out = isinstance(like, np.ndarray) and not name.startswith("cross_entropy of")
                    cases.append(Case(label, size, call, bits(result), like if has_out else None))
        for i, (layout, lay) in enumerate(LAYOUTS.items()):
            x = rng.normal(0, 3, SHAPES[size][i % len(SHAPES[size])]).astype(np.float32)
            where = rng.random(x.shape) < MASKED
            call = functools.partial(softmax_rs.softmax, lay(x), where=where, temperature=0.7)
            cases.append(Case(f"softmax where {x.shape} {layout}", size, call, bits(call()), call()))
    return cases


def work(cases: list[Case], seed: int, workers: int, stop: threading.Event, tally: Tally) -> None:
    """Make calls until `stop`."""
    rng = np.random.default_rng(seed)
    by_size = {size: [case for case in cases if case.size == size] for size in SIZES}
    while not stop.is_set():
        # A large call takes as long as a hundred small ones.
        size = SIZES[int(rng.choice(3, p=(0.7, 0.2, 0.1)))]
        case = by_size[size][int(rng.integers(len(by_size[size])))]
        more = {"out": np.empty_like(case.like)} if case.like is not None and rng.random() < WITH_OUT else {}
        try:
            with softmax_rs.threads(int(rng.integers(1, workers + 1))):
                start = time.perf_counter()
                result = case.call(**more)
                tally.latencies[size].append(time.perf_counter() - start)
            if bits(result) != case.right:
                tally.faults.append(f"{case.name}, {'with' if more else 'without'} out: other bits than on one thread")
        except BaseException:  # noqa: BLE001 (any at all is what is looked for)
            tally.faults.append(f"{case.name}:\n{traceback.format_exc()}")


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=16, help="Python threads (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=8, help="largest number of threads of a call (default: %(default)s)"
    )
    parser.add_argument("--growth", type=float, default=64.0, help="MiB that memory may grow by (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the calls (default: %(default)s)")
    options = parser.parse_args()
    if options.seconds <= 0 or options.threads < 1 or options.workers < 1:
        parser.error("--seconds, --threads and --workers must be positive")
    return options


def report(tallies: list[Tally], seconds: float, peak: int, grown: int) -> None:
    """Print what was measured."""
    print(f"{'latency in ms':16}{'calls':>10}" + "".join(f"{f'{p:g} %':>10}" for p in PERCENTILES))
    total = 0
    for size in SIZES:
        all_of = np.concatenate([tally.latencies[size] for tally in tallies])
        total += len(all_of)
        values = np.percentile(all_of, PERCENTILES) * 1e3 if len(all_of) else [np.nan] * len(PERCENTILES)
        print(f"{size:16}{len(all_of):>10,}" + "".join(f"{value:>10.3f}" for value in values))
    print(
        f"{total:,} calls in {seconds:.0f} s, all compared; "
        f"memory grew by {grown / 2**20:.1f} MiB to {peak / 2**20:.0f} at most"
    )


def main() -> int:
    """Run, and return the exit code."""
    options = arguments()
    with softmax_rs.threads(1):
        cases = draw(options.seed)
    names = f"{options.threads} threads, {len(cases)} different calls, level {softmax_rs.simd_level()}"
    print(f"{names}, up to {options.workers} workers a call, {options.seconds:g} s")

    stop = threading.Event()
    tallies = [Tally() for _ in range(options.threads)]
    threads = [
        threading.Thread(target=work, args=(cases, options.seed + i, options.workers, stop, tally), daemon=True)
        for i, tally in enumerate(tallies)
    ]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    # From the first quarter on: until then threads get their scratch, and the allocator its arenas.
    time.sleep(options.seconds / 4)
    quarter = peak = resident()
    while (left := start + options.seconds - time.monotonic()) > 0:
        time.sleep(min(0.5, left))
        peak = max(peak, resident())
    stop.set()
    for thread in threads:
        thread.join(max(0.1, start + options.seconds + LATE - time.monotonic()))
    hung = sum(thread.is_alive() for thread in threads)

    counted = sum(len(times) for tally in tallies for times in tally.latencies.values())
    noted = counted * sys.getsizeof(1.0) * 2  # our own lists
    grown = max(0, resident() - quarter - noted)
    report(tallies, time.monotonic() - start, peak, grown)
    faults = [fault for tally in tallies for fault in tally.faults]
    for fault in faults[:10]:
        print(f"FAULT: {fault}")
    failed = [f"{len(faults)} of the calls went wrong"] if faults else []
    failed += [f"{hung} threads hang"] if hung else []
    failed += (
        [f"memory grew by {grown / 2**20:.1f} MiB, more than {options.growth:g}"]
        if grown > options.growth * 2**20
        else []
    )
    failed += ["no call was made"] if counted == 0 else []
    print(f"FAILED: {'; '.join(failed)}" if failed else "OK: all results have the bits of one thread")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
