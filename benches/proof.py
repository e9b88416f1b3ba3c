"""Does `make bench-compare` see a slowdown? Plants one in a scratch clone: minutes, most of them one build.

    make bench-proof

1. `softmax` computes everything twice: exit code 1, and only benchmarks of `softmax` are named.
2. A comment is added: exit code 0.
3. No benchmark has the name asked for: exit code 1.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FACE = Path("python") / "softmax_rs" / "__init__.py"
TWICE = """
_once = softmax


def softmax(*arguments, **keywords):
    _once(*arguments, **keywords)
    return _once(*arguments, **keywords)
"""
BENCH = "^(overhead|forward).*'(1x10|32x1000)'"


def commit(clone: Path, added: str) -> None:
    """Commits the face as it is at the start, and this after it."""
    subprocess.run(["git", "-C", str(clone), "checkout", "-q", "start", "--", str(FACE)], check=True)
    face = clone / FACE
    face.write_text(face.read_text() + added)
    identity = ["-c", "user.name=proof", "-c", "user.email=proof@localhost"]
    subprocess.run(["git", "-C", str(clone), *identity, "commit", "-qam", "planted"], check=True)


def compare(clone: Path, bench: str) -> tuple[int, str]:
    """The exit code of a comparison with the start, and its verdict."""
    command = [sys.executable, str(clone / "benches" / "compare.py"), "start", "HEAD", "--bench", bench]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    print(done.stdout, done.stderr, flush=True)
    return done.returncode, "\n".join(done.stdout.rstrip().splitlines()[-12:])


def main() -> int:
    """Plants, compares, tells."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        subprocess.run(["git", "-C", str(clone), "tag", "start"], check=True)
        commit(clone, TWICE)
        code, verdict = compare(clone, BENCH)
        verdict = verdict.partition("REGRESSION")[2]
        if code != 1 or "overhead.Softmax" not in verdict or "forward.Softmax" not in verdict or "Log" in verdict:
            wrong.append("a softmax that computes twice was not flagged, or more than it was")
        commit(clone, "# The same, but for this.\n")
        code, verdict = compare(clone, BENCH)
        if code != 0 or "no regression" not in verdict:
            wrong.append("a comment was flagged")
        code, verdict = compare(clone, "no_such_benchmark")
        if code != 1 or "NOTHING MEASURED" not in verdict:
            wrong.append("a run that measured nothing passed")
    print(
        "\nWRONG: " + "; ".join(wrong)
        if wrong
        else "\nproved: a slowdown is flagged, a comment is not, nothing is not good"
    )
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
