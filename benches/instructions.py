"""The gate without noise: instructions per call, counted by valgrind and compared with benches/instructions.toml.

    make instructions          # compares; exit code 1 where a count is off by more than 2 %
    make instructions-update   # writes the file anew: look at what changes, and commit it with its reason

A process makes N and then 2 N calls of each cell; what is counted is the difference, so neither start nor measuring is
in it. `os.getppid()` is the mark between them: callgrind writes down its count whenever that function of libc is
entered, and nothing else calls it. Valgrind shows every program the same AVX2 processor, so libc, NumPy and this
package choose the same code on any machine that has AVX2. It knows no AVX-512: that level is not gated.
"""

import argparse
import functools
import gc
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common

FIGURES = Path(__file__).with_name("instructions.toml")
LEVELS = ("avx2", "portable")
TOLERANCE = 0.02
CALL = "1x10 float32"  # one call of ten elements: what a call costs beside its arithmetic
# Every function on rows and on a panel of short rows, and its call; the first function in every regime of the drive.
EVERY = (CALL, "64x10 float32", "8x1000 float32")
FIRST = ("16x100 float32", "axis0:100x64 float32", "1x300000 float32", "8x1000 float64", "8x1000 float16")
REPEATS = {CALL: 100}  # N; it is as many calls until all is warm: Python specialises a loop while it runs
FEW = 3  # of the others: nothing about them is random


def cells() -> dict[str, tuple[Callable[[], Any], int]]:
    """Name -> (call, N)."""
    found = {}
    for i, row in enumerate(common.FUNCTIONS):
        for spec in EVERY + (FIRST if i == 0 else ()):
            shape, dtype = spec.split()
            memory = "new" if spec == CALL else common.memories(row)[-1]
            if not common.skips(row, [shape], largest=1 << 22):
                call = functools.partial(common.prepared.__wrapped__, row, shape, dtype, memory)()
                found[f"{row.name} {spec}"] = call, REPEATS.get(spec, FEW)
    return found


def run_cells() -> None:
    """What valgrind runs."""
    measured = list(cells().values())
    gc.collect()
    gc.disable()
    for call, n in measured:
        for count in (n, n, 2 * n):
            for _ in range(count):
                call()
            os.getppid()
    os._exit(0)  # what comes after costs time under valgrind


def count(level: str) -> dict[str, int]:
    """Instructions per call of each cell."""
    names = {name: n for name, (_, n) in cells().items()}
    # NumPy's OpenBLAS starts threads that spin, and every thread is counted.
    settings = {"OPENBLAS_NUM_THREADS": "1", "SOFTMAX_RS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    settings["SOFTMAX_RS_SIMD"] = level
    # Large memset and memcpy are one `rep` instruction, of which valgrind counts every byte: have them done by vectors.
    limits = (f"glibc.cpu.x86_rep_{name}_threshold={1 << 40}" for name in ("movsb", "stosb"))
    settings["GLIBC_TUNABLES"] = ":".join(limits)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = ["valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}"]
        command += [sys.executable, __file__, "--cells"]
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"valgrind failed ({done.returncode}):\n{done.stdout}{done.stderr}")

        def total(dump: int) -> int:
            found = re.search(r"^totals: (\d+)", Path(f"{out}.{dump}").read_text(), re.MULTILINE)
            if found is None:
                raise SystemExit(f"no total in dump {dump} of valgrind")
            return int(found.group(1))

        # Dumps are numbered from 1; each holds what came since the one before it.
        return {name: round((total(3 * i + 3) - total(3 * i + 2)) / n) for i, (name, n) in enumerate(names.items())}


def versions() -> dict[str, str]:
    """What the counts hang on, beside the sources."""
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.split()
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "numpy": np.__version__,
        "rustc": rustc[1] if len(rustc) > 1 else "unknown",
    }


def unavailable(level: str) -> str:
    """Why this level cannot be counted here; empty if it can."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed (Debian and Ubuntu: apt-get install valgrind)"
    # Valgrind's processor has AVX2 where the real one does.
    probe = [sys.executable, "-c", "import softmax_rs; softmax_rs.simd_level()"]
    environment = os.environ | {"SOFTMAX_RS_SIMD": level}
    done = subprocess.run(probe, env=environment, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it does not start"])[-1]


def write(counts: dict[str, dict[str, int]]) -> None:
    """The file of figures."""
    lines = ["# Instructions per call, one thread; `make instructions-update` writes this file.", "", "[made_with]"]
    lines += [f'{name} = "{version}"' for name, version in versions().items()]
    for level, figures in counts.items():
        lines += ["", f"[{level}]", *(f'"{name}" = {figure}' for name, figure in figures.items())]
    FIGURES.write_text("\n".join(lines) + "\n")


def compare(level: str, counts: dict[str, int], stored: dict[str, Any]) -> int:
    """Prints the table of a level; how many counts are off."""
    wrong = 0
    same_python = all(stored["made_with"][name] == versions()[name] for name in ("python", "numpy"))
    expected = stored.get(level, {})
    for name in dict.fromkeys([*counts, *expected]):
        now, then = counts.get(name), expected.get(name)
        verdict = ""
        if now is None or then is None:
            verdict = "NO FIGURE in the file" if then is None else "NOT MEASURED: the cell is gone"
        elif name.endswith(CALL) and not same_python:
            print(f"{level:9s} {name:36s} {then:>10d} {now:>10d}  NOT COMPARED: another Python or NumPy")
            continue
        elif abs(now / then - 1) > TOLERANCE:
            verdict = "MORE" if now > then else "FEWER: update the figure, so that the gain is kept"
        wrong += bool(verdict)
        change = f"{100 * (now / then - 1):+7.2f} %" if now and then else "        -"
        print(f"{level:9s} {name:36s} {then or 0:>10d} {now or 0:>10d} {change}  {verdict}".rstrip())
    return wrong


def main() -> int:
    """Counts, and compares or writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help=f"write {FIGURES.name} anew")
    parser.add_argument("--cells", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cells:
        run_cells()
    reasons = {level: unavailable(level) for level in LEVELS}
    counts = {}
    for level, reason in reasons.items():
        if reason:
            print(f"***** NOT RUN: instruction counts at level {level}: {reason} *****")
        else:
            counts[level] = count(level)
    stored = tomllib.loads(FIGURES.read_text()) if FIGURES.exists() else {"made_with": versions()}
    print(f"{'level':9s} {'instructions per call':36s} {'figure':>10s} {'now':>10s} {'change':>9s}")
    wrong = sum(compare(level, found, stored) for level, found in counts.items())
    if options.update:
        if len(counts) < len(LEVELS):
            print("not written: a level is missing")
            return 1
        write(counts)
        print(f"\n{FIGURES.name} is written. Commit it with the reason for what changed.")
        return 0
    if wrong:
        made = ", ".join(f"{name} {version}" for name, version in stored["made_with"].items())
        here = ", ".join(f"{name} {version}" for name, version in versions().items())
        print(f"\n{wrong} counts off by more than {TOLERANCE:.0%}. If that is meant: make instructions-update.")
        print(f"The figures were made with {made}; this is {here}.")
        return 1
    if counts:
        print(f"\ninstruction counts: all within {TOLERANCE:.0%} of {FIGURES.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
