"""Run Python code in a fresh process, with a watchdog."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
VARIABLES = (
    "SOFTMAX_RS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "OMP_NUM_THREADS",
    "SOFTMAX_RS_SIMD",
    "SOFTMAX_RS_KEEP_MIB",
)
# The settings of a long run (minutes), the one that Hypothesis has too: `make endurance`.
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
TIMEOUT = 3600 if LONG else 120  # seconds until a child counts as hung: many times what it needs


def run(code, *arguments, expect_success=True, inherit=True, **environment):
    """Run `code` under `-W error` with only these of our variables set; return the finished process.

    Without `inherit` it has hardly a variable: what the import of our package set here is not set there beforehand.
    """
    kept = set(os.environ) - set(VARIABLES) if inherit else {"PATH", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH"}
    env = {k: v for k, v in os.environ.items() if k in kept}
    env |= {"PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(
        command,
        env=env | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if expect_success:
        assert done.returncode == 0, f"child exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
