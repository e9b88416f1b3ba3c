"""Logits so far apart that probabilities are subnormal: another way of multiplying, in any lane, at any length."""

import numpy as np
import pytest

import softmax_rs


def truth(x):
    """In long double."""
    e = np.exp(x.astype(np.longdouble) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def units_off(found, expected):
    """The error in units of the last place; of subnormal numbers in the least number."""
    size = np.abs(expected).astype(found.dtype)
    return np.abs(found - expected) / np.maximum(np.spacing(size), np.finfo(found.dtype).smallest_subnormal)


# Where the smallest of two rounds to zero (far down too), to the least number, to a subnormal number, to a normal one
# of which the low part of the product is none, and where nothing is small.
REACHES = {
    "float32": (-112.5, -111.5, -110, -104, -103.6, -103, -95, -88, -87.4, -87, -80, -70, -66.6, -66.4, -60, -44, -20),
    "float64": (-760, -756, -755, -745.5, -745, -744, -720, -709, -708, -700, -680, -650, -624, -623, -500, -90),
}


@pytest.mark.parametrize("dtype", REACHES)
@pytest.mark.parametrize("n", [*range(2, 71), 100, 257, 1000])
def test_one_small_element_in_any_place(dtype, n):
    """Alone among others that are not small."""
    places = range(1, n) if n < 71 else (1, 15, 16, 63, 64, n - 2, n - 1)
    rows = [(k, reach) for k in places for reach in REACHES[dtype]]
    x = np.zeros((len(rows), n), dtype)
    x[:, 1:] = np.random.default_rng(n).normal(-3, 1, (1, n - 1))
    for row, (k, reach) in zip(x, rows, strict=True):
        row[k] = reach
    off = units_off(softmax_rs.softmax(x), truth(x))
    worst = np.unravel_index(off.argmax(), off.shape)
    assert off[worst] < 2.5, f"{off[worst]:.3f} units off at {worst}: row {x[worst[0]].tolist()}"


@pytest.mark.parametrize("dtype", REACHES)
@pytest.mark.parametrize("spread", [15, 25, 60])
def test_rows_of_small_elements(dtype, spread):
    """Probabilities and the gradient of cross entropy, whose factor may be negative."""
    scale = spread * (8 if dtype == "float64" else 1)
    x = np.random.default_rng(spread).normal(0, scale, (300, 214)).astype(dtype)
    p = truth(x)
    off = units_off(softmax_rs.softmax(x), p)
    assert off.max() < 2.5, f"{off.max():.3f} units off at {np.unravel_index(off.argmax(), off.shape)}"
    target = np.arange(300) % 214
    large = {"float32": 1e45, "float64": 1e300}[dtype]
    for weight in (1.0, -3.0, 1e-20, -1e-25, -large):
        _, gradient = softmax_rs.cross_entropy_with_grad(
            x, target, sample_weight=np.full(300, abs(weight)), grad_output=np.sign(weight), reduction="sum"
        )
        expected = p * np.longdouble(weight)
        # (Probabilities that are zero as such are zero times any weight; and the large ones overflow.)
        there = p >= 0 if abs(weight) < large else (p > np.finfo(dtype).tiny / 2) & (p < 1e-20)
        np.put_along_axis(there, target[:, None], values=False, axis=1)
        found, expected = gradient[there], expected[there]
        off = units_off(found, expected)
        assert off.max() < 3.5, f"weight {weight}: {off.max():.3f} units off"
        assert (np.signbit(found) == (weight < 0))[found != 0].all()


@pytest.mark.parametrize("dtype", REACHES)
@pytest.mark.parametrize("spread", [15, 60])
def test_products_of_small_elements(dtype, spread):
    """J t and the Hessian times v, for vectors of any size, in the bits that each row has by itself."""
    scale = spread * (8 if dtype == "float64" else 1)
    rng = np.random.default_rng(spread)
    x = rng.normal(0, scale, (60, 214)).astype(dtype)
    p = truth(x)
    tiny, digits = np.finfo(dtype).tiny, np.finfo(dtype).eps
    for size in (1.0, 1e-6, 1e10, {"float32": 1e27, "float64": 1e280}[dtype]):
        t = (rng.normal(0, 1, x.shape) * size).astype(dtype)
        t[:, 5], t[:, 6] = 0, -0.0
        h = t - np.take_along_axis(t, x.argmax(-1)[:, None], -1).astype(np.longdouble)
        expected = p * (h - (p * h).sum(-1, keepdims=True))
        terms = p * (abs(h) + (p * abs(h)).sum(-1, keepdims=True))
        found = softmax_rs.softmax_jvp(x, t)
        # (docs/accuracy.md: float32 probabilities below exp(-107) count as 0, those of float64 have the digits of the
        # type, and products of a float32 probability with a number below 3e-48 lose theirs.)
        least = np.finfo(dtype).smallest_subnormal
        lost = {"float32": np.exp(np.longdouble(-107)) * size * 8 + 1e-47, "float64": least * size * 8}[dtype]
        off = abs(found - expected) / (np.maximum(terms * digits, least) + lost)
        assert off.max() < 6, f"size {size}: {off.max():.3f} units off at {np.unravel_index(off.argmax(), off.shape)}"
        assert ((abs(expected) < tiny) & (found != 0)).any() or size > 1, "nothing is subnormal"
        hessian = softmax_rs.cross_entropy_hvp(x, np.zeros(60, int), t, reduction="sum")
        assert (hessian == found).all() and softmax_rs.softmax_vjp(x, t).tobytes() == found.tobytes()
        for r in range(60):
            assert softmax_rs.softmax_jvp(x[r], t[r]).tobytes() == found[r].tobytes(), f"size {size}, row {r}"
        short = [slice(a, a + 7) for a in range(0, 210, 7)]
        panel = softmax_rs.softmax_jvp(
            np.stack([x[r, s] for r in range(60) for s in short]), np.stack([t[r, s] for r in range(60) for s in short])
        )
        for i, (r, s) in enumerate((r, s) for r in range(60) for s in short):
            alone = softmax_rs.softmax_jvp(x[r, s], t[r, s])
            assert alone.tobytes() == panel[i].tobytes(), f"size {size}, row {r}, {s}"
