"""Hypothesis profiles `ci` (default, the same cases each time), `long` and `fuzz` (as many, others each time)."""

import os

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, max_examples=150, database=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=10_000, database=None, print_blob=True)
hypothesis.settings.register_profile("fuzz", deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SAID = "said"


def pytest_make_parametrize_id(config, val, argname):
    """Name cases after their function or dtype."""
    return str(val) if isinstance(val, np.dtype) or type(val).__name__ == "Function" else None


@pytest.fixture
def say(record_property):
    """Return a function whose texts are printed at the end of the run, whichever process ran the test."""
    return lambda text: record_property(SAID, text)


def pytest_terminal_summary(terminalreporter):
    """Print what tests had to say."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, text in getattr(report, "user_properties", []):
                if key == SAID and report.when == "call":
                    terminalreporter.section(report.nodeid)
                    terminalreporter.write_line(text)


@pytest.fixture
def rng():
    """Return a generator with a fixed seed, new for each test."""
    return np.random.default_rng(20261124)
