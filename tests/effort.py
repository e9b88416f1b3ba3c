"""How much the tests that draw at random do: as usual, or all of it (HYPOTHESIS_PROFILE=long, the verb `make long`)."""

import os

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def cases(usual, in_long):
    """Return how many cases to draw."""
    return in_long if LONG else usual
