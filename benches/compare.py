"""Is this commit slower than another? Both are built and measured in turns by asv; exit code 1 if it is.

    make bench-compare                   # with main, or where main is HEAD itself, with the commit before it
    make bench-compare BASE=HEAD~5 ARGS="--bench '^overhead' --rounds 8"

Only what is committed is compared. On a machine that others use too, one run flags what was only unlucky: what it flags
is measured again, with twice the rounds, and a regression is what both runs find. Exit code 1 also where nothing was
measured, or where a benchmark failed: "no regression" would be a lie then.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "benches" / "asv.conf.json"
FOLDER = ROOT / ".asv" / "compare"
# What users feel, and within a quarter of an hour for some functions; "." measures all.
DEFAULT = "^(forward|gradient|cross_entropy|overhead)"
# A row of asv's table: "+" slower, "!" failed.
FLAGGED = re.compile(r"^\| ([+!]) +\|.*\| (.*?) *\|$", re.MULTILINE)


def git(*arguments: str) -> str:
    """What git says."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(name: str) -> str:
    """The hash of a commit."""
    return git("rev-parse", "--verify", f"{name}^{{commit}}")


def configure(folder: Path, **settings: Any) -> Path:  # noqa: ANN401 -- as JSON has them
    """asv's configuration with absolute paths, and with these settings."""
    config = json.loads(CONFIG.read_text())
    for key in ("repo", "benchmark_dir", "env_dir", "results_dir", "html_dir"):
        config[key] = str((CONFIG.parent / config[key]).resolve())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "asv.conf.json"
    path.write_text(json.dumps(config | settings))
    return path


def asv(*arguments: str) -> tuple[int, str]:
    """Runs asv; its exit code and its output, which is shown as it comes."""
    command = [sys.executable, "-m", "asv", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout or ():
        print(line, end="", flush=True)
        lines.append(line)
    return process.wait(), "".join(lines)


def measured(results: Path, commit: str) -> tuple[int, list[str]]:
    """How many numbers there are for a commit, and the benchmarks that failed."""
    count, failed = 0, []
    for path in results.glob(f"*/{commit[:8]}*.json"):
        stored = json.loads(path.read_text())
        column = stored["result_columns"].index("result")
        for name, row in stored["results"].items():
            # NaN is a cell that was skipped, as a function that an old commit does not have; null one that failed.
            values = row[column] if row and row[column] else [None]
            count += sum(1 for value in values if value is not None and not math.isnan(value))
            if None in values:
                failed.append(name)
    return count, failed


def run(base: str, head: str, folder: Path, *, bench: str, factor: float, rounds: int) -> list[str] | None:
    """The benchmarks that are slower or failed; none if nothing could be told."""
    shutil.rmtree(folder, ignore_errors=True)  # an older run's results must not count
    config = configure(folder, results_dir=str(folder / "results"))
    options = ["--factor", str(factor), "--interleave-rounds", "--attribute", f"rounds={rounds}", "--bench", bench]
    if hasattr(os, "sched_getaffinity"):
        options += ["--cpu-affinity", str(max(os.sched_getaffinity(0)))]
    _, said = asv("continuous", "--config", str(config), "--show-stderr", *options, base, head)
    good = True
    for revision in (base, head):
        count, failed = measured(folder / "results", revision)
        print(f"{revision[:8]}: {count} measured" + (f", FAILED: {', '.join(failed)}" if failed else ""))
        # (An old commit may know a function by other arguments.)
        good &= count > 0 and not (failed and revision == head)
    return [name for _, name in FLAGGED.findall(said)] if good else None


def main() -> int:
    """Compares, and says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", help="the commit to compare with (default: main, or HEAD~1 if that is HEAD)")
    parser.add_argument("head", nargs="?", default="HEAD", help="the commit in question (default: HEAD)")
    parser.add_argument("--bench", default=DEFAULT, help=f"regular expression of benchmarks (default: {DEFAULT})")
    parser.add_argument("--factor", type=float, default=1.15, help="times as slow that count (default: 1.15)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of each commit (default: 4)")
    options = parser.parse_args()
    head = commit(options.head)
    named = options.base or ("main" if commit("main") != head else f"{options.head}~1")
    base = commit(named)
    if base == head:
        parser.error(f"{named} and {options.head} are the same commit, {head[:8]}: nothing to compare")
    if git("status", "--porcelain", "--untracked-files=no"):
        print("NOTE: there are uncommitted changes. They are not measured: only commits are.")
    asv("machine", "--yes", "--config", str(configure(FOLDER)))
    factor, rounds = options.factor, options.rounds
    flagged = run(base, head, FOLDER / "first", bench=options.bench, factor=factor, rounds=rounds)
    if flagged:
        print(f"\n{len(flagged)} flagged; once more, with {2 * rounds} rounds:\n")
        chosen = f"^({'|'.join(map(re.escape, flagged))})$"
        flagged = run(base, head, FOLDER / "second", bench=chosen, factor=factor, rounds=2 * rounds)
    if flagged is None:
        print("\nNOTHING MEASURED, or benchmarks failed: no verdict.")
        return 1
    if flagged:
        print(f"\nREGRESSION in both runs, {named} -> {options.head}:", *flagged, sep="\n  ")
        return 1
    print(f"\nno regression by a factor of {factor}, {named} -> {options.head}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
