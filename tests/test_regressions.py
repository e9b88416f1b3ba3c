"""Hazard: what was wrong once. Each test is a wrong answer that a search outside the other tests found."""

import ctypes
import ctypes.util
import platform

import numpy as np
import pytest

from children import run
from softmax_rs import log_softmax, logsumexp, softmax


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_minus_infinity_at_any_temperature(dtype):
    """The low part of 1 / T must not turn -inf, or a finite number far below, into NaN."""
    for far in (-np.inf, np.finfo(dtype).min):
        x = np.array([[0, far]], dtype)
        for t in np.geomspace(1e-300, 1e-3, 2000):
            y = log_softmax(x, temperature=t)
            assert y.tolist() == [[0, -np.inf]], (far, t, y)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sign_of_zero_of_one_element(dtype):
    """One element a gives a, -0 included; the logarithm of its probability is +0."""
    for zero in (-0.0, 0.0):
        x = np.array([[zero]] * 40, dtype)  # one alone, and enough rows for a panel
        for rows in (x[:1], x):
            assert (np.signbit(logsumexp(rows, axis=1)) == np.signbit(zero)).all()
            assert not np.signbit(log_softmax(rows)).any()


def test_empty_simd_variable_is_none():
    """As for the variables of threads."""
    done = run("import softmax_rs; print(softmax_rs.simd_level())", SOFTMAX_RS_SIMD="")
    assert done.stdout.strip() in ("avx512", "avx2", "portable")


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the rounding direction is set through glibc's fesetround"
)
@pytest.mark.parametrize("f", [softmax, log_softmax], ids=lambda f: f.__name__)
def test_the_callers_rounding_direction_changes_no_bit(f, rng):
    """Also not through the constants of a temperature, which are computed outside of the kernels."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    directions = {"x86_64": (0x400, 0x800, 0xC00)}.get(platform.machine(), (0x400000, 0x800000, 0xC00000))
    for dtype in (np.float16, np.float32, np.float64):
        x = rng.normal(0, 20, (20, 100)).astype(dtype)
        for t in (1, 0.7, 123.4, 1e-3):
            expected = f(x, temperature=t).tobytes()
            for direction in directions:
                assert libm.fesetround(direction) == 0
                try:
                    got = f(x, temperature=t).tobytes()
                    found = libm.fegetround()
                finally:
                    libm.fesetround(0)
                assert got == expected, (dtype, t, direction)
                assert found == direction, "the direction was not put back"
