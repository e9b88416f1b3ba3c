"""Hypothesis profiles `ci` (default, the same cases each time), `long` and `fuzz` (as many, others each time)."""

import os

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, max_examples=150, database=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=10_000, database=None, print_blob=True)
hypothesis.settings.register_profile("fuzz", deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_make_parametrize_id(config, val, argname):
    """Name cases after their function or dtype."""
    return str(val) if isinstance(val, np.dtype) or type(val).__name__ == "Function" else None


@pytest.fixture
def rng():
    """Return a generator with a fixed seed, new for each test."""
    return np.random.default_rng(20261124)
