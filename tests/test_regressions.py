"""Hazard: what was wrong once. Each test is a wrong answer that a search outside the other tests found."""

import ctypes
import ctypes.util
import platform
import re

import numpy as np
import pytest

from children import run
from softmax_rs import (
    cross_entropy_hvp,
    cross_entropy_with_grad,
    log_softmax,
    log_softmax_backward,
    log_softmax_jvp,
    log_softmax_vjp,
    logsumexp,
    logsumexp_vjp,
    softmax,
    softmax_backward,
    softmax_vjp,
)
from ulps import assert_same_bits


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
    assert done.stdout.strip() in ("avx512", "avx2", "neon", "portable")


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the rounding direction is set through glibc's fesetround"
)
@pytest.mark.parametrize(
    "f",
    [
        softmax,
        log_softmax,
        softmax_vjp,
        log_softmax_vjp,
        log_softmax_jvp,
        softmax_backward,
        log_softmax_backward,
        cross_entropy_with_grad,
        cross_entropy_hvp,
    ],
    ids=lambda f: f.__name__,
)
def test_the_callers_rounding_direction_changes_no_bit(f, rng):
    """Also not through the constants of a temperature, which are computed outside of the kernels."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    directions = {"x86_64": (0x400, 0x800, 0xC00)}.get(platform.machine(), (0x400000, 0x800000, 0xC00000))
    for dtype in (np.float16, np.float32, np.float64):
        x = rng.normal(0, 20, (20, 100)).astype(dtype)
        keywords, arrays = {}, [x]
        if f is cross_entropy_with_grad:
            keywords = {"z_loss": 0.3, "softcap": 30.0}
        if f in (cross_entropy_with_grad, cross_entropy_hvp):
            keywords |= {
                "weight": rng.uniform(1, 3, 100),
                "sample_weight": rng.uniform(1, 3, 20),
                "label_smoothing": 0.1,
            }
            arrays += [rng.integers(0, 100, 20)]
        if f not in (softmax, log_softmax, cross_entropy_with_grad):
            arrays += [rng.normal(0, 1, x.shape).astype(dtype)]
        if f in (softmax_backward, log_softmax_backward):
            arrays[0] = (softmax if f is softmax_backward else log_softmax)(x)

        def call(t, keywords=keywords, arrays=arrays):
            result = f(*arrays, temperature=t, **keywords)
            return b"".join(r.tobytes() for r in (result if isinstance(result, tuple) else (result,)))

        for t in (1, 0.7, 123.4, 1e-3):
            expected = call(t)
            for direction in directions:
                assert libm.fesetround(direction) == 0
                try:
                    got = call(t)
                    found = libm.fegetround()
                finally:
                    libm.fesetround(0)
                assert got == expected, (dtype, t, direction)
                assert found == direction, "the direction was not put back"


def test_softcap_leaves_ignored_rows_unread():
    """The cap's slope at a NaN is NaN, and 0 times NaN was the gradient of a row that takes no part."""
    logits = np.array([[1.0, 2.0], [np.nan, 0.0]])
    for out in (None, logits.copy()):
        _, grad = cross_entropy_with_grad(logits, [0, -100], softcap=30.0, out=out)
        assert grad[1].tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinite_cotangents(dtype):
    """The low part of an infinite factor was NaN, or the infinity of the other sign."""
    x = np.zeros(2, dtype)
    assert logsumexp_vjp(x, np.inf).tolist() == [np.inf, np.inf]
    for cotangent in (np.inf, 1e300) if dtype == np.float32 else (np.inf,):
        _, grad = cross_entropy_with_grad(x, 0, grad_output=cotangent)
        assert grad.tolist() == [-np.inf, np.inf]


def test_sums_over_many_rows_keep_their_digits():
    """A hundred ULP of a million equal losses, and as many in each gradient, which is over the sum of the weights."""
    rows = 200_000
    target = np.zeros(rows, np.uint8)
    loss, grad = cross_entropy_with_grad(np.zeros((rows, 2)), target, weight=[0.1, 0.1])
    assert abs(loss - np.log(2)) <= np.spacing(np.log(2))
    assert abs(grad[0, 1] * rows - 0.5) <= 2 * np.spacing(0.5)


def test_what_a_large_argument_amplifies():
    """exp multiplies what rounding left in (x_y - m) / T, and in x / c, by its argument: both are made good."""
    call = {"weight": [1, 1e-70], "z_loss": 0.1, "reduction": "sum"}
    _, grad = cross_entropy_with_grad(np.array([120.0, -10.3]), 1, **call)
    assert abs(grad[1] / 6.189281700338071588e-56 - 1) < 5 * 2.0**-52
    _, grad = cross_entropy_with_grad(np.array([-18.623853821943896, 0]), 1, softcap=0.057534321395743576)
    assert abs(grad[0] / 1.3372115144282365e-281 - 1) < 5 * 2.0**-52


@pytest.mark.parametrize("call", [{}, {"label_smoothing": 0.1}, {"z_loss": 0.1}, {"softcap": 3.0}], ids=str)
def test_weights_whose_sum_overflows(call, rng):
    """The mean was NaN, and its gradient 0: both are those of smaller weights in the same proportions."""
    x, target = rng.normal(0, 1, (40, 3)), np.arange(40) % 3
    weight, sample_weight = rng.uniform(0.5, 1, 3), rng.uniform(0.5, 1, 40)
    want = cross_entropy_with_grad(x, target, weight=weight, sample_weight=sample_weight, **call)
    for k, l in ((1023, 0), (0, 1023), (900, 900), (1023, 1023)):
        large = {"weight": weight * 2.0**k, "sample_weight": sample_weight * 2.0**l}
        got = cross_entropy_with_grad(x, target, **large, **call)
        assert got[0] == want[0] and np.array_equal(got[1], want[1]), (k, l)
        if not {"z_loss", "softcap"} & set(call):
            curved = cross_entropy_hvp(x, target, x, weight=weight, sample_weight=sample_weight, **call)
            assert np.array_equal(cross_entropy_hvp(x, target, x, **large, **call), curved), (k, l)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"target": ["a", "b"]}, ["target", "<U1", "integer", "float"]),
        ({"label_smoothing": "x"}, ["label_smoothing", "'x'", r"\[0, 1\]"]),
        ({"z_loss": None}, ["z_loss", "None", "finite and not negative"]),
        ({"softcap": b"1"}, ["softcap", "b'1'", "positive"]),
    ],
    ids=str,
)
def test_messages_that_led_astray(call, words):
    """Strings were told that a target may be bool; of a number nobody said what came, nor what would be right."""
    with pytest.raises(TypeError) as caught:
        cross_entropy_with_grad(np.zeros((2, 3)), **{"target": [0, 1]} | call)
    for word in words:
        assert re.search(word, str(caught.value)), str(caught.value)
    assert "bool" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "t", "size", "gap"),
    [(np.float32, t, t, 1) for t in (1e-31, 1e-33, 1e-36)]
    + [(np.float64, 1e-300, 1e-300, 1), (np.float32, 1e-22, 1e27, 60), (np.float64, 1e-200, 1e150, 300)],
    ids=str,
)
def test_cotangents_over_extreme_temperatures(dtype, t, size, gap):
    """Elements got 0, or infinity: the sum over T left the type's range before the probability came to it."""
    x = np.array([0, -gap, -gap / 2], dtype) * dtype(t)
    g = np.array([1.3, 0, 0], dtype) * dtype(size)
    p = np.exp(x.astype(np.longdouble) / np.longdouble(t))
    p /= p.sum()
    total = g.astype(np.longdouble).sum()
    want = (total * np.array([p[1] + p[2], -p[1], -p[2]]) / np.longdouble(t)).astype(dtype)
    np.testing.assert_allclose(log_softmax_vjp(x, g, temperature=t), want, rtol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
def test_signs_of_zeros_at_a_temperature_of_one(dtype):
    """A 1 in an array took -0 to 0, and log_softmax gave -0 where the maximum is -0 and all there is."""
    y, g = np.array([[0.25, 1]], dtype), np.array([[-0.0, 0.0]], dtype)
    x = np.array([[-0.0, -np.inf, -np.inf]], dtype)
    want = np.array([[0, -np.inf, -np.inf]], dtype)
    for one in (dtype(1), np.array(1.0), np.ones(1)):
        assert_same_bits(softmax_backward(y, g, temperature=one), softmax_backward(y, g), f"{one!r}")
        assert_same_bits(log_softmax(x, temperature=one), want, f"{one!r}")
    assert_same_bits(log_softmax(x), want, "no temperature")
