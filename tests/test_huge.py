"""Hazard: more elements than 32 bits count. Their memory is small, or never written: strides of 0, and zero pages.

The shortest of them, logsumexp of 2**33 zeros, is in test_layouts.py.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from effort import LONG
from softmax_rs import cross_entropy, log_softmax, logsumexp, logsumexp_jvp, softmax

pytestmark = pytest.mark.skipif(sys.maxsize < 2**40, reason="an array has not as many elements here")

only_long = pytest.mark.skipif(not LONG, reason="takes many seconds: HYPOTHESIS_PROFILE=long (make long)")


def far(n, at, value):
    """Return n zeros of int8 in pages that nobody has written to, but for one."""
    x = np.zeros(n, np.int8)
    x[at] = value
    return x


def test_rows_that_are_2_to_the_32_bytes_apart():
    """Few elements with huge strides: addresses are computed in 64 bits."""
    room = np.zeros(2**32 + 64, np.int8)
    x = np.lib.stride_tricks.as_strided(room[8:], (2, 3), (2**32, 1))
    x[1] = [1, 5, 3]
    for view in (x, x[::-1], x[:, ::-1]):
        assert softmax(view).tobytes() == softmax(view.copy()).tobytes()
        assert log_softmax(view, axis=0).tobytes() == log_softmax(view.copy(), axis=0).tobytes()


@only_long
def test_rows_of_2_to_the_32_and_more():
    """A batch of rows, of a product too."""
    rows = np.broadcast_to(np.float32([[0], [1]]), (2, 2**32 + 7))
    want = np.float32(np.log(2**32 + 7) + np.array([0, 1]))
    assert np.array_equal(logsumexp(rows, axis=1), want)
    assert np.array_equal(logsumexp_jvp(rows, rows, axis=1), np.float32([0, 1]))


@only_long
@pytest.mark.parametrize("n", [2**31 + 70, 2**32 + 70])
def test_elements_and_classes_beyond_32_bits(n):
    """One element out of billions that differs is found at its place: as a maximum, as a class, from the far end."""
    at = n - 30
    x = far(n, at, 50)
    total = np.log(n - 1 + np.exp(np.longdouble(50)))
    for view in (x, x[::-1]):
        assert abs(logsumexp(view) - total) <= 2 * np.spacing(50.0)
    for target, distance in ((at, 50), (at - 2**31, 0), (at - 1, 0), (n - 1, 0)):
        assert abs(cross_entropy(x, target) - (total - distance)) <= 2 * np.spacing(50.0), target
    with pytest.raises(IndexError, match=str(n)):
        cross_entropy(x, n)


@only_long
def test_a_result_of_2_to_the_32_and_more():
    """Every probability of a row of 2**32 + 7 is written: the last ones too."""
    n = 2**32 + 7
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    if free * 1024 < 2.5 * n * 2:
        pytest.skip(f"needs {2.5 * n * 2 / 1e9:.0f} GB, {free / 1e6:.0f} are free")
    out = np.full(n, 7, np.float16)
    x = np.zeros((), np.float16)
    softmax(np.broadcast_to(x, (2, n // 2)), out=out[: n // 2 * 2].reshape(2, -1))
    log_softmax(np.broadcast_to(x, (n,)), out=out)
    assert (out == np.float16(-np.log(n))).all()
