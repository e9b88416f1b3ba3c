"""Hazard: a loss that is off, or a gradient that is not its gradient. Each rule of the losses, and more."""

import itertools
import math
import re
from decimal import Decimal

import mpmath
import numpy as np
import pytest

import recipes
import reference
import softmax_rs
import ulps
from children import run
from memory import LAYOUTS, fill_of
from softmax_rs import cross_entropy, cross_entropy_hvp, cross_entropy_with_grad
from ulps import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FLOATS, HALVES, LONG, assert_close, assert_same_bits

INTEGERS = tuple(np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"))
REDUCTIONS = ("mean", "sum", "none")
FUNCTIONS = (
    cross_entropy,
    cross_entropy_with_grad,
    lambda logits, *arguments, **keywords: cross_entropy_hvp(logits, *arguments, np.ones_like(logits), **keywords),
)
INF, NAN = np.inf, np.nan


def loss_dtype(dtype):
    """Return the dtype of the loss: losses of float16 and bfloat16 logits are float32."""
    return FLOAT32 if dtype in HALVES else dtype


def draw(rng, shape, dtype, *, probabilities=False, scale=3):
    """Draw (logits, target) with the classes along the last axis."""
    x = rng.normal(0, scale, shape).astype(dtype)
    if probabilities:
        t = rng.uniform(0, 1, shape) * (rng.random(shape) < 0.7)
        return x, t.astype(FLOAT64 if dtype == FLOAT64 else FLOAT32)
    return x, rng.integers(0, shape[-1], shape[:-1])


def described(call):
    """Return the keywords for a message, arrays by their shape."""
    return {k: v if np.ndim(v) == 0 else np.shape(v) for k, v in call.items()}


def check(logits, target, *, grad_output=None, softcap=None, label="", **call):
    """Compare loss, gradient and (where there is one) Hessian with the oracle; return what came. Classes come last."""
    dtype, n = logits.dtype, logits.shape[-1]
    single, label = loss_dtype(dtype), f"{label} {dtype} {logits.shape} {described(call)} softcap={softcap}"
    loss = cross_entropy(logits, target, softcap=softcap, **call)
    fused, gradient = cross_entropy_with_grad(logits, target, softcap=softcap, grad_output=grad_output, **call)
    assert np.asarray(loss).dtype == single and gradient.dtype == dtype and gradient.shape == logits.shape, label
    with np.errstate(all="ignore"):
        oracle = reference.Loss(logits, target, softcap=softcap, **call)
        # The cap rounds the logits: an ULP of z makes p wrong by |z| ULPs.
        z = 0 if softcap is None else 4 * np.max(np.abs(oracle.rows.m / oracle.rows.t), initial=0) + ulps.SOFTCAP_LIMIT
        given = 1.0 if grad_output is None else grad_output
        value, scale, least = oracle.gradient(given), oracle.gradient_scale(given), oracle.gradient_least(given)
        loss_value, loss_scale = oracle.loss(), oracle.loss(scale=True)
    weightless = not any(call.get(k) is not None for k in ("weight", "sample_weight"))
    indices = np.asarray(target).dtype.kind in "iu" and not call.get("label_smoothing") and not call.get("z_loss")
    if indices and weightless and softcap is None and call.get("reduction") == "none":
        limit = ulps.CLASS_LOSS_LIMIT[single][n >= LONG]
    else:
        limit = ulps.LOSS_LIMIT[single] + z
    assert_close(loss, loss_value, single, limit, scale=loss_scale, label=f"loss {label}")
    assert_close(fused, loss_value, single, limit, scale=loss_scale, label=f"fused loss {label}")
    if np.asarray(target).dtype.kind == "f" or call.get("label_smoothing"):
        assert_same_bits(loss, fused, label)
    if indices:
        limit, scale = ulps.GRADIENT_LIMIT[single], np.maximum(np.abs(value), least)
    else:
        limit = ulps.DENSE_GRADIENT_LIMIT[single]
    limit += z
    if dtype in HALVES:
        limit, scale = ulps.with_half_limit(limit, value, scale, dtype), None
    assert_close(gradient, value, dtype, limit, scale=scale, rows=(logits,), label=f"gradient {label}")
    return loss, gradient


def check_hvp(logits, target, v, label="", **call):
    """Compare the product with the Hessian with the oracle's."""
    dtype = logits.dtype
    with np.errstate(all="ignore"):
        oracle = reference.Loss(logits, target, **call)
        value, scale = oracle.hvp(v), oracle.hvp_scale(v)
    limit = ulps.DERIVATIVE_LIMIT[loss_dtype(dtype)]
    if dtype in HALVES:
        limit, scale = ulps.with_half_limit(limit, value, scale, dtype), None
    got = cross_entropy_hvp(logits, target, v, **call)
    assert got.dtype == dtype and got.shape == logits.shape
    assert_close(got, value, dtype, limit, scale=scale, rows=(logits, v), label=f"hvp {label} {described(call)}")
    return got


def options(rng, target, n):
    """Yield sets of keywords that together use each of them, alone and beside others. No target is masked."""
    rows = len(target)
    weight, sample_weight = rng.uniform(0.2, 3, n), rng.uniform(0.2, 3, rows)
    mask = rng.random((rows, n)) < 0.8
    mask[np.arange(rows), target % n if target.ndim == 1 else 0] = True
    temperature = rng.uniform(0.5, 3, rows)
    yield from (
        {},
        {"weight": weight},
        {"sample_weight": sample_weight},
        {"label_smoothing": 0.1},
        {"temperature": 0.7},
        {"temperature": temperature, "weight": weight},
        {"where": mask, "label_smoothing": 0.2},
        {"weight": weight, "sample_weight": sample_weight, "label_smoothing": 0.3, "temperature": temperature},
        {"weight": weight, "where": mask, "temperature": 3.0},
    )


# Accuracy


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("probabilities", [False, True], ids=["indices", "probabilities"])
def test_accuracy(dtype, probabilities, rng):
    """Loss and gradient with every keyword and reduction, for every tail length."""
    for n in [1, 2, 3, 5, 8, 15, 16, 17, 33, 64, 65, 130]:
        x, target = draw(rng, (9, n), dtype, probabilities=probabilities)
        for call, reduction in itertools.product(options(rng, target, n), REDUCTIONS):
            check(x, target, reduction=reduction, **call)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_hard_rows(dtype, rng):
    """Every recipe (saturated, huge, tied, far off), each with its first, its largest and another class as target."""
    for n in (2, 3, 7, 16, 40, 100):
        x, t = recipes.batch(rng, n, dtype, temperatures=(1.0, 0.7))
        for target in (np.zeros(len(x), int), np.argmax(x, axis=-1), rng.integers(0, n, len(x))):
            for reduction in ("none", "sum"):
                check(x, target, reduction=reduction, temperature=t)
        _, target = draw(rng, x.shape, FLOAT64, probabilities=True)
        check(x, target.astype(np.float32), reduction="none", temperature=t)
        v = rng.normal(0, 1, x.shape).astype(dtype)
        check_hvp(x, np.argmax(x, axis=-1), v, reduction="sum", temperature=t)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_long_rows(dtype, rng):
    """Rows of several blocks."""
    for n in (1000, 4097, 32_000):
        for probabilities in (False, True):
            x, target = draw(rng, (3, n), dtype, probabilities=probabilities)
            check(x, target)
            check(x, target, reduction="none", label_smoothing=0.1, z_loss=1e-4)
            check_hvp(x, target, rng.normal(0, 1, x.shape).astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_saturated(dtype):
    """Logits [40, 0]: the loss is the tail, and the gradient holds it to the last digit, in every order."""
    tail = np.exp(-np.longdouble(40))
    x = np.array([[40, 0], [0, 40]], dtype)
    loss, gradient = check(x, [0, 1], reduction="none")
    if dtype != FLOAT16:
        assert (gradient != 0).all()
        assert_close(loss, np.full(2, np.log1p(tail)), loss_dtype(dtype), 2)
    loss, gradient = check(x, [1, 0], reduction="none")
    assert loss.tolist() == [40, 40] and sorted(map(abs, gradient[0].tolist())) == [1, 1]
    if dtype == FLOAT64:
        loss, gradient = cross_entropy_with_grad(x[0], 0)
        assert loss == 4.248354255291589e-18
        assert gradient.tolist() == [-4.248354255291589e-18, 4.248354255291589e-18]
        assert cross_entropy_with_grad(x[0], np.array([1.0, 0.0]))[1].tolist() == gradient.tolist()
        assert cross_entropy_hvp(x[0], 0, np.array([1.0, 0.0])).tolist() == (-gradient).tolist()


@pytest.mark.parametrize("probabilities", [False, True], ids=["indices", "probabilities"])
def test_numeric_derivative(probabilities, rng):
    """The gradient against differences of the loss in mpmath, the Hessian against differences of that gradient.

    The loss is written down once more, from the table: the oracle of the other tests is not trusted here.
    """
    rows, n, step = 3, 4, mpmath.mpf(10) ** -30
    x, target = draw(rng, (rows, n), FLOAT64, probabilities=probabilities)
    x[1] = [60, 0, 2, 1]  # saturated
    weight, s, temperature = rng.uniform(0.5, 2, n), rng.uniform(0.5, 2, rows), rng.uniform(0.5, 2, rows)
    mask = np.ones((rows, n), bool)
    mask[2, (1 if probabilities else (target[2] + 1) % n)] = False
    target = np.where(mask, target, 0) if probabilities else target
    smoothing, z, cap = 0.1, 0.01, 50.0

    def loss(logits, reduction, z, cap):
        losses, penalties, weights = [], [], []
        for r, row in enumerate(logits):
            capped = [(cap * mpmath.tanh(v / cap) if cap else v) / mpmath.mpf(float(temperature[r])) for v in row]
            on = [j for j in range(n) if mask[r, j]]
            total = mpmath.log(mpmath.fsum(mpmath.exp(capped[j]) for j in on))
            wanted = target[r] if probabilities else [float(j == target[r]) for j in range(n)]
            c = {
                j: (1 - mpmath.mpf(smoothing)) * mpmath.mpf(float(wanted[j])) + mpmath.mpf(smoothing) / len(on)
                for j in on
            }
            losses += [mpmath.fsum(mpmath.mpf(float(weight[j])) * c[j] * (total - capped[j]) for j in on) * s[r]]
            penalties += [z * total**2 * mpmath.mpf(float(s[r]))]
            weights += [s[r] * (1 if probabilities else weight[target[r]])]
        if reduction == "sum":
            return mpmath.fsum(losses) + mpmath.fsum(penalties)
        return mpmath.fsum(losses) / mpmath.fsum(map(float, weights)) + mpmath.fsum(penalties) / mpmath.fsum(s.tolist())

    def moved(*changes):
        logits = [[mpmath.mpf(float(v)) for v in row] for row in x]
        for r, j, by in changes:
            logits[r][j] += by * step
        return logits

    with mpmath.workdps(150):
        for reduction, (z_loss, softcap) in itertools.product(("mean", "sum"), ((0, None), (z, None), (z, cap))):
            call = {"weight": weight, "sample_weight": s, "label_smoothing": smoothing, "temperature": temperature}
            call |= {"where": mask, "reduction": reduction}
            got_loss, got = cross_entropy_with_grad(x, target, z_loss=z_loss, softcap=softcap, **call)
            assert_close(got_loss, np.longdouble(float(loss(moved(), reduction, z_loss, softcap))), FLOAT64, 8)
            want = np.empty((rows, n))
            for r, j in itertools.product(range(rows), range(n)):
                ends = [loss(moved((r, j, by)), reduction, z_loss, softcap) for by in (1, -1)]
                want[r, j] = float((ends[0] - ends[1]) / (2 * step)) if mask[r, j] else 0
            assert_close(got, want, FLOAT64, 120 if softcap else 30, scale=np.abs(want) + 1e-3, label=f"{reduction}")
            if not z_loss:
                v = rng.normal(0, 1, (rows, n))
                along = [(r, j, mpmath.mpf(float(v[r, j]))) for r, j in itertools.product(range(rows), range(n))]
                for r, j in itertools.product(range(rows), range(n)):
                    corners = [
                        a * b * loss(moved(*[(i, k, a * d) for i, k, d in along], (r, j, b)), reduction, 0, None)
                        for a, b in itertools.product((1, -1), repeat=2)
                    ]
                    want[r, j] = float(mpmath.fsum(corners) / (4 * step**2)) if mask[r, j] else 0
                got = cross_entropy_hvp(x, target, v, **call)
                assert_close(got, want, FLOAT64, 30, scale=np.abs(want) + 1e-3, label=f"hvp {reduction}")


def test_hvp_is_the_dense_hessian(rng):
    """Row by row A (diag p - p p^T) / T^2 times the row's share, built here from the probabilities; symmetric."""
    x, target = draw(rng, (5, 6), FLOAT64)
    v, u = rng.normal(0, 1, (2, 5, 6))
    for call in options(rng, target, 6):
        for reduction in REDUCTIONS:
            got = check_hvp(x, target, v, reduction=reduction, **call)
            t, where = np.broadcast_to(call.get("temperature", 1.0), 5), call.get("where")
            p = softmax_rs.softmax(x, temperature=t, where=where)
            e, w = call.get("label_smoothing", 0.0), call.get("weight", np.ones(6))
            on = np.ones((5, 6), bool) if where is None else where
            picked = np.where(np.arange(6) == target[:, None], w, 0)
            a = ((1 - e) * picked + e * on * w / on.sum(axis=1, keepdims=True)).sum(axis=1)
            s = call.get("sample_weight", np.ones(5))
            share = s / ((s * w[target]).sum() if reduction == "mean" else 1)
            dense = (p[:, :, None] * (np.eye(6) - p[:, None, :])) * (a * share / t**2)[:, None, None]
            want = np.einsum("rij,rj->ri", dense, v)
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15 * np.abs(dense).max())
            other = cross_entropy_hvp(x, target, u, reduction=reduction, **call)
            np.testing.assert_allclose((u * got).sum(), (v * other).sum(), rtol=1e-12, atol=1e-14)
            assert (v * got).sum() >= 0


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradient_rows_add_to_zero(dtype, rng):
    """To the tail: what the target loses is what the others get, also where p rounds to 1."""
    for n in (2, 5, 33):
        x, t = recipes.batch(rng, n, dtype, temperatures=(1.0, 0.5))
        for target in (np.argmax(x, axis=-1), rng.integers(0, n, len(x)), rng.uniform(0, 1, x.shape)):
            _, gradient = cross_entropy_with_grad(x, target, reduction="none", temperature=t)
            wide = gradient.astype(np.longdouble)
            slack = (8 * np.maximum(ulps.ulp(wide, dtype), 0)).sum(axis=-1)
            if np.ndim(target) == 2:  # each component is right only to an ULP of its larger term
                slack = slack + n * 8 * ulps.ulp(4 * np.longdouble(n) / t, dtype)
            assert (np.abs(wide.sum(axis=-1)) <= slack).all(), f"{dtype} n={n}: {wide.sum(axis=-1)}, slack {slack}"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_two_classes_are_the_logistic_loss(dtype, rng):
    """log(1 + exp(-a)) and its derivative."""
    a = rng.uniform(-60, 60, 500).astype(dtype)
    x = np.stack([a, np.zeros_like(a)], axis=1)
    loss, gradient = cross_entropy_with_grad(x, np.zeros(500, int), reduction="none")
    wide = a.astype(np.longdouble)
    want = np.maximum(-wide, 0) + np.log1p(np.exp(-np.abs(wide)))
    assert_close(loss, want, loss_dtype(dtype), ulps.CLASS_LOSS_LIMIT[loss_dtype(dtype)][0])
    slope = 1 / (1 + np.exp(wide))
    limit = ulps.HALF_LIMIT if dtype in HALVES else ulps.GRADIENT_LIMIT[dtype]
    assert_close(gradient, np.stack([-slope, slope], axis=1), dtype, limit, rows=(x,))


@pytest.mark.parametrize("temperature", [1.0, 0.9, 0.17, 3.0])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_a_tail_that_is_nearly_one_exponential(dtype, temperature, rng):
    """What is added to that exponential rounds it each time, and all of it is in the loss and in the gradient."""
    digits = ulps.FORMATS[dtype].precision * math.log(2)
    for n in (3, 17, 50, 64, 100):
        second = -rng.uniform(1, 30, 4000)
        rest = second - digits + rng.uniform(-6, 1.5, len(second))
        x = np.repeat(rest[:, None], n, axis=1)
        x[:, 0], x[:, 1] = 0, second
        x = (temperature * x).astype(dtype)
        others = np.exp(x[:, 1:].astype(np.longdouble) / np.longdouble(temperature))
        s = others.sum(axis=1)
        target = np.zeros(len(x), int)
        loss, gradient = cross_entropy_with_grad(x, target, reduction="none", temperature=temperature)
        want = np.concatenate([-s[:, None], others], axis=1) / (temperature * (1 + s))[:, None]
        label = f"{dtype} n={n} T={temperature}"
        assert_close(loss, np.log1p(s), dtype, ulps.CLASS_LOSS_LIMIT[dtype][0], rows=(x,), label=label)
        assert_close(gradient, want, dtype, ulps.GRADIENT_LIMIT[dtype], rows=(x,), label=label)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_fused_is_its_parts(reduction, rng):
    """The loss of cross_entropy, -log_softmax at the target, the gradient by log_softmax_vjp; out comes back."""
    for dtype in FLOATS:
        x, target = draw(rng, (12, 19), dtype)
        loss, gradient = cross_entropy_with_grad(x, target, reduction=reduction)
        alone, single = cross_entropy(x, target, reduction=reduction), loss_dtype(dtype)
        assert_close(loss, np.asarray(alone, np.longdouble), single, 2, label=f"{dtype}, beside cross_entropy")
        one_hot = np.eye(19, dtype=np.float32)[target]
        picked = -softmax_rs.log_softmax(x.astype(loss_dtype(dtype)))[np.arange(12), target].astype(float)
        whole = {"mean": picked.mean(), "sum": picked.sum(), "none": picked}[reduction]
        np.testing.assert_allclose(loss, whole, rtol=1e-14 if dtype == FLOAT64 else 2e-6)
        share = 1 / 12 if reduction == "mean" else 1
        apart = softmax_rs.log_softmax_vjp(x, (-one_hot).astype(dtype)).astype(float) * share
        np.testing.assert_allclose(
            gradient.astype(float), apart, rtol=4 * float(ulps.ulp(1, dtype)), atol=float(ulps.ulp(1e-3, dtype))
        )
        soft, both = cross_entropy_with_grad(x, one_hot, reduction=reduction)
        np.testing.assert_allclose(np.asarray(soft, float), np.asarray(loss, float), rtol=2e-6)
        np.testing.assert_allclose(both.astype(float), gradient.astype(float), rtol=1e-2, atol=1e-6)
        out = np.empty_like(x)
        again, same = cross_entropy_with_grad(x, target, reduction=reduction, out=out)
        assert same is out
        assert_same_bits(out, gradient, f"{dtype} out")
        assert_same_bits(again, loss, f"{dtype} out")


# The table


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_every_integer_dtype(dtype, rng):
    """The same bits from every integer dtype, in every layout; lists of int too."""
    x, target = draw(rng, (4, 6, 20), FLOAT32)
    want, alone = cross_entropy_with_grad(x, target), cross_entropy(x, target)
    curved = cross_entropy_hvp(x, target, x)
    for layout in LAYOUTS:
        given = LAYOUTS[layout](target.astype(dtype))
        got = cross_entropy_with_grad(x, given)
        assert_same_bits(got[0], want[0], f"{dtype} {layout}")
        assert_same_bits(got[1], want[1], f"{dtype} {layout}")
        assert_same_bits(cross_entropy(x, given), alone, f"{dtype} {layout}")
        assert_same_bits(cross_entropy_hvp(x, given, x), curved, f"{dtype} {layout} hvp")
    assert_same_bits(cross_entropy(x, target.tolist()), alone, "list")


def test_the_dtype_of_the_target_decides(rng):
    """Bool is refused; a float target of the reduced shape is told that indices must be integers."""
    x, target = draw(rng, (3, 4), FLOAT32)
    for f in FUNCTIONS:
        for bad in (target > 1, np.ones((3, 4), bool), [True, False, True]):
            with pytest.raises(TypeError, match="target") as caught:
                f(x, bad)
            assert "bool" in str(caught.value)
        for dtype in FLOATS:
            with pytest.raises(TypeError, match="target") as caught:
                f(x, target.astype(dtype))
            assert re.search("(?i)ind(ex|ices).*integer|integer.*ind(ex|ices)", str(caught.value)), str(caught.value)
        for bad in (target.astype(complex), target.astype(object), target.astype("U3"), target.astype("M8[s]")):
            with pytest.raises(TypeError, match="target") as caught:
                f(x, bad)
            assert bad.dtype.name.rstrip("0123456789") in str(caught.value) or str(bad.dtype) in str(caught.value)
        # As many rows as classes: the shape says nothing, the dtype all.
        square = rng.normal(0, 1, (4, 4)).astype(FLOAT32)
        with pytest.raises(ValueError, match="target"):
            f(square, np.eye(4, dtype=int))
        f(square, np.eye(4))
        f(np.float32([1, 2]), 1)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_out_of_range_targets(dtype, axis, rng):
    """At every place, in loss, gradient and Hessian: an IndexError, and nothing is written."""
    n, shape = 5, (3, 4)
    info = np.iinfo(dtype)
    bad = {v for v in (-1, -n, -99, -101, n, n + 1, info.min, info.max, info.max - 99) if info.min <= v <= info.max}
    bad -= set(range(n)) | {-100}
    full = np.insert(shape, axis % 3, n)
    x = rng.normal(0, 1, full).astype(FLOAT32)
    for place, value in itertools.product(np.ndindex(*shape), sorted(bad)):
        target = rng.integers(0, n, shape).astype(dtype)
        target[place] = value
        target[-1, -1] = value  # the first is named
        for f in FUNCTIONS:
            for out in (np.full(x.shape, 7, FLOAT32), x.copy()):
                before = out.tobytes()
                given = out if f is not FUNCTIONS[0] and out[0, 0, 0] != 7 else x
                keywords = {} if f is FUNCTIONS[0] else {"out": out}
                with pytest.raises(IndexError) as caught:
                    f(given, target, axis=axis, **keywords)
                assert type(caught.value) is IndexError
                assert out.tobytes() == before, f"{dtype} {value} at {place}: out was written"
                named = [int(v) for v in re.findall(r"-?\d+", str(caught.value))]
                for number in (*place, value, n):
                    assert number in named, f"{dtype} {value} at {place}, n={n}: {caught.value}"
                assert "target" in str(caught.value)


def test_out_of_range_among_many(rng):
    """The first bad target is named whatever the threads and the layout do; nothing is written."""
    rows, n = 20_000, 10
    x, target = draw(rng, (rows, n), FLOAT32)
    target[[7_777, 12_345, 19_999]] = [n, -1, n + 5]
    for axis, layout in itertools.product((0, 1), ("contiguous", "fortran", "reversed")):
        given = LAYOUTS[layout](x if axis else x.T)
        out = np.full(given.shape, 7, np.float32)
        for threads in (1, 4):
            with softmax_rs.threads(threads), pytest.raises(IndexError, match=r"\b7777\b") as caught:
                cross_entropy_with_grad(given, LAYOUTS[layout](target), axis=axis, out=out)
            assert str(n) in str(caught.value)
            assert (out == 7).all()


def test_targets_that_change_during_the_call():
    """Another thread writes targets out of range while rows are computed: no crash, and other rows keep their bits."""
    code = """
import threading
import numpy as np, softmax_rs
rng = np.random.default_rng(0)
x, target = rng.normal(0, 3, (3000, 200)).astype(np.float32), rng.integers(0, 200, 3000)
want = softmax_rs.cross_entropy_with_grad(x, target, reduction="none")
wild, stop = np.arange(0, 3000, 7), threading.Event()

def write():
    while not stop.is_set():
        target[wild] = 2**62
        target[wild] = -(2**62)
        target[wild] = 5

writer = threading.Thread(target=write)
writer.start()
kept, finished = np.delete(np.arange(3000), wild), 0
for _ in range(300):
    try:
        got = softmax_rs.cross_entropy_with_grad(x, target, reduction="none")
    except IndexError:
        continue
    finished += 1
    assert all(g[kept].tobytes() == w[kept].tobytes() for g, w in zip(got, want))
stop.set()
writer.join()
print(finished)
"""
    assert int(run(code).stdout) >= 0


def test_no_wrap_around(rng):
    """Values that are congruent modulo 2**8, 2**32 or 2**64 are not equal: neither to a class nor to ignore_index."""
    x = rng.normal(0, 1, (1, 200)).astype(FLOAT64)
    for dtype, value in [("u1", 156), ("i2", 156), ("u2", 156)]:  # 156 = -100 modulo 256, but a class
        got = check(x, np.array([value], dtype), reduction="none")
        assert got[0][0] != 0
    for dtype, value in [("u2", 2**16 - 100), ("u4", 2**32 - 100), ("u8", 2**64 - 100), ("i8", 2**32 - 100)]:
        for f in FUNCTIONS:
            with pytest.raises(IndexError, match=str(value)):
                f(x, np.array([value], dtype))
    for dtype, value in [("i8", 2**32), ("u8", 2**63), ("i8", -(2**32)), ("u4", 2**31), ("u8", 2**64 - 1)]:
        for f in FUNCTIONS:
            with pytest.raises(IndexError, match=str(value)):
                f(x, np.array([value], dtype))
    for ignore_index in (256, 2**32, 2**63 - 1, -(2**63), -1, -256):
        check(x, np.array([0], "u1"), reduction="none", ignore_index=ignore_index)
        with pytest.raises(IndexError):
            cross_entropy(x, np.array([255], "u1"), ignore_index=ignore_index)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_ignored_rows(dtype, rng):
    """Loss 0, gradient 0, logits not read; inside and outside of [0, n); the rest is what it is without them."""
    for ignore_index, code in [(-100, "i8"), (2, "i4"), (0, "u1"), (255, "u1"), (-1, "i1"), (10**12, "i8")]:
        x, target = draw(rng, (9, 7), dtype)
        target = np.where(target == ignore_index, 1, target).astype(code)
        ignored = np.array([1, 0, 0, 1, 1, 0, 0, 0, 1], bool)
        target[ignored] = ignore_index
        x[1], x[ignored] = 3, np.array([np.nan, np.inf, -np.inf, 0, 0, np.nan, 1], dtype)
        for reduction, call in itertools.product(REDUCTIONS, options(rng, target % 7, 7)):
            loss, gradient = check(x, target, ignore_index=ignore_index, reduction=reduction, **call)
            assert not gradient[ignored].any() and not np.isnan(loss).any()
            if reduction == "none":
                assert not loss[ignored].any()
            few = {k: v[~ignored] if np.shape(v)[:1] == (9,) else v for k, v in call.items()}
            _, alone = cross_entropy_with_grad(
                x[~ignored], target[~ignored], ignore_index=ignore_index, reduction=reduction, **few
            )
            assert_same_bits(gradient[~ignored], alone, f"{dtype} {reduction} {call}")
            v = rng.normal(0, 1, x.shape).astype(dtype)
            v[ignored] = np.nan
            assert not check_hvp(x, target, v, ignore_index=ignore_index, reduction=reduction, **call)[ignored].any()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nothing_counts(dtype):
    """All rows ignored, or masked wholly, or none there: the mean is NaN, the sum 0, the gradient 0."""
    x = np.full((3, 4), np.nan, dtype)
    soft = np.full((3, 4), 0.25, np.float32)
    for target, call in [
        (np.full(3, -100), {}),
        (np.full(3, 2), {"ignore_index": 2}),
        (np.full(3, -100), {"label_smoothing": 0.1, "z_loss": 0.1, "weight": np.ones(4)}),
        (np.zeros(3, int), {"where": False}),
        (soft, {"where": False}),
        (soft, {"where": np.zeros((3, 4), bool), "label_smoothing": 0.1}),
    ]:
        for reduction, want in (("mean", np.nan), ("sum", 0), ("none", 0)):
            loss, gradient = cross_entropy_with_grad(x, target, reduction=reduction, **call)
            assert loss.dtype == loss_dtype(dtype) and np.shape(loss) == ((3,) if reduction == "none" else ())
            assert np.array_equal(loss, np.full(np.shape(loss), want), equal_nan=True), f"{reduction} {call}: {loss}"
            assert not gradient.any(), f"{reduction} {call}: {gradient}"
            if "z_loss" not in call:
                assert not cross_entropy_hvp(x, target, x, reduction=reduction, **call).any()
    for shape, axis in [((0, 4), -1), ((4, 0), 0), ((2, 0, 4), -1), ((2, 4, 0), 1)]:
        x = np.zeros(shape, dtype)
        reduced = tuple(n for a, n in enumerate(shape) if a != axis % len(shape))
        for target in (np.zeros(reduced, int), np.zeros(shape, np.float32)):
            for reduction, want in (("mean", np.nan), ("sum", 0)):
                loss, gradient = cross_entropy_with_grad(x, target, axis=axis, reduction=reduction)
                assert loss.dtype == loss_dtype(dtype) and gradient.shape == shape
                assert np.array_equal(loss, want, equal_nan=True), f"{shape} {reduction}: {loss}"
            loss, gradient = cross_entropy_with_grad(x, target, axis=axis, reduction="none")
            assert loss.shape == reduced and gradient.shape == shape


@pytest.mark.parametrize("probabilities", [False, True], ids=["indices", "probabilities"])
def test_zero_denominator(probabilities, rng):
    """Weights that add to 0: the mean is NaN, the gradient NaN in rows with a target, 0 in ignored and masked ones."""
    x, target = draw(rng, (4, 3), FLOAT32, probabilities=probabilities)
    mask = np.ones((4, 3), bool)
    mask[1], mask[2, 0] = False, False
    if not probabilities:
        target[0], target[2:] = -100, 1
    else:
        target[2, 0] = 0
    calls = [{"sample_weight": np.zeros(4)}]
    if not probabilities:
        calls += [{"weight": np.array([1.0, 0.0, 1.0])}, {"sample_weight": [1, 1, 0.5, -0.5]}]
    for call in calls:
        loss, gradient = cross_entropy_with_grad(x, target, where=mask, **call)
        assert np.isnan(loss), f"{call}: {loss}"
        rows = [0, 2, 3] if probabilities else [2, 3]
        assert np.isnan(gradient[rows][mask[rows]]).all() and not gradient[~mask].any(), f"{call}: {gradient}"
        assert not gradient[1].any() and (probabilities or not gradient[0].any()), f"{call}: {gradient}"


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1), (2, 1), (1, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sample_weights_broadcast_to_the_rows(shape, axis, rng):
    """As NumPy's arrays would, in any memory order: the bits of the weights written out."""
    x, v, scores = (np.moveaxis(rng.normal(0, 3, (2, 3, 5)), -1, axis) for _ in range(3))
    weights = rng.uniform(0.5, 2, shape)
    written = np.broadcast_to(weights, (2, 3)).copy()
    layouts = [weights, np.asfortranarray(weights)]
    if shape:
        layouts.append(weights[..., ::-1].copy()[..., ::-1])
    for target in (rng.integers(0, 5, (2, 3)), softmax_rs.softmax(scores, axis=axis)):
        for given, reduction in itertools.product(layouts, ("none", "sum", "mean")):
            call = {"axis": axis, "reduction": reduction}
            for function, arrays in [
                (cross_entropy, (x, target)),
                (cross_entropy_with_grad, (x, target)),
                (cross_entropy_hvp, (x, target, v)),
            ]:
                got = function(*arrays, sample_weight=given, **call)
                want = function(*arrays, sample_weight=written, **call)
                for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (got, want)), strict=True):
                    assert_same_bits(a, b, f"{function.__name__}, {reduction}, weights {given.shape}, {given.strides}")


def test_printed_formulas():
    """The weight of a class is inside the smoothing sum; the mean of index targets is over weights; worked by hand."""
    x = np.log(np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]))
    w, s = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0])
    l = -x
    rows = np.array([0.9 * w[0] * l[0, 0], 0.9 * w[2] * l[1, 2]]) + 0.1 / 3 * (w * l).sum(axis=1)
    call = {"weight": w, "label_smoothing": 0.1}
    np.testing.assert_allclose(cross_entropy(x, [0, 2], reduction="none", **call), rows, rtol=1e-14)
    np.testing.assert_allclose(cross_entropy(x, [0, 2], **call), rows.sum() / 5, rtol=1e-14)
    np.testing.assert_allclose(cross_entropy(x, [0, 2], sample_weight=s, **call), (s * rows).sum() / 13, rtol=1e-14)
    np.testing.assert_allclose(
        cross_entropy(x, [0, 2], sample_weight=s, reduction="none", **call), s * rows, rtol=1e-14
    )
    t = np.array([[0.5, 0.5, 1.0], [0.0, 0.0, 3.0]])
    smooth = 0.9 * t + 0.1 / 3
    rows = (w * smooth * l).sum(axis=1)
    np.testing.assert_allclose(cross_entropy(x, t, reduction="none", **call), rows, rtol=1e-14)
    np.testing.assert_allclose(cross_entropy(x, t, **call), rows.sum() / 2, rtol=1e-14)
    np.testing.assert_allclose(cross_entropy(x, t, sample_weight=s, **call), (s * rows).sum() / 4, rtol=1e-14)
    _, gradient = cross_entropy_with_grad(x, t, reduction="sum", **call)
    want = np.exp(x) * (w * smooth).sum(axis=1, keepdims=True) - w * smooth
    np.testing.assert_allclose(gradient, want, rtol=1e-13, atol=1e-15)
    on = np.array([[True, True, False], [True, True, True]])
    two = -np.log([2 / 3, 1 / 3])
    masked = cross_entropy(x, [0, 2], where=on, label_smoothing=0.1, reduction="none")
    np.testing.assert_allclose(masked[0], 0.9 * two[0] + 0.05 * two.sum(), rtol=1e-14)


def test_as_torch_does():
    """PyTorch's formula, with weights, smoothing and ignore_index together."""
    x = np.array([[0.1, -0.4, 1.2], [2.0, 0.3, -0.7], [-1.0, 0.5, 0.25]])
    w = np.array([0.5, 1.0, 2.0])
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    l = -np.log(p)
    # Its source sums nll = w_y l_y and smooth = sum_c w_c l_c over the rows kept, and divides both by the sum of w_y.
    target, e = np.array([2, -100, 1]), 0.2
    keep = target >= 0
    nll = (w[target[keep]] * l[keep, target[keep]]).sum()
    smooth = (w * l[keep]).sum()
    want = ((1 - e) * nll + e / 3 * smooth) / w[target[keep]].sum()
    got = cross_entropy(x, target, weight=w, label_smoothing=e)
    np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("axis", [-1, 0])
def test_undefined_rows(dtype, axis, rng):
    """NaN, +inf or only -inf in a row that counts: loss and gradient NaN (0 where masked); other rows as without."""
    for n, bad in itertools.product((2, 5, 17, 40), (NAN, INF, "only -inf")):
        x, target = draw(rng, (6, n), dtype)
        dirty = x.copy()
        dirty[3, slice(None) if bad == "only -inf" else rng.integers(n)] = -INF if bad == "only -inf" else bad
        given = [np.ascontiguousarray(a if axis == -1 else a.T) for a in (x, dirty)]
        for wanted in (target, rng.uniform(0.1, 1, x.shape)):
            soft = wanted if wanted.ndim == 1 or axis == -1 else wanted.T
            clean, want = cross_entropy_with_grad(given[0], soft, axis=axis, reduction="none")
            loss, gradient = cross_entropy_with_grad(given[1], soft, axis=axis, reduction="none")
            want, gradient = (a if axis == -1 else a.T for a in (want, gradient))
            assert np.isnan(loss[3]) and np.isnan(gradient[3].astype(float)).all(), f"{dtype} n={n} {bad}"
            others = np.arange(6) != 3
            assert_same_bits(loss[others], clean[others], f"{dtype} n={n} {bad}")
            assert_same_bits(gradient[others], want[others], f"{dtype} n={n} {bad}")
            for reduction in ("mean", "sum"):
                assert np.isnan(cross_entropy(given[1], soft, axis=axis, reduction=reduction))
            v = np.ones_like(given[1])
            curved = cross_entropy_hvp(given[1], soft, v, axis=axis)
            curved = curved if axis == -1 else curved.T
            assert np.isnan(curved[3].astype(float)).all() and not np.isnan(curved[others].astype(float)).any()
        if bad != "only -inf":
            mask = np.ones((6, n), bool)
            mask[3, 0] = False
            dirty[3, -1] = bad
            _, gradient = cross_entropy_with_grad(dirty, np.full(6, n - 1), where=mask)
            assert gradient[3, 0] == 0 and np.isnan(gradient[3, 1:].astype(float)).all(), f"{dtype} n={n} {bad}"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_minus_infinity(dtype, rng):
    """No target: gradient 0 there. The target: loss +inf, gradient -1 there and the softmax elsewhere."""
    for n in (2, 5, 16, 33):
        x, _ = draw(rng, (n, n), dtype)
        x[np.arange(n), np.arange(n)] = -INF
        away = (np.arange(n) + 1) % n
        for reduction in REDUCTIONS:
            loss, gradient = check(x, away, reduction=reduction)
            assert np.isfinite(loss).all() and not gradient[np.arange(n), np.arange(n)].any()
            check_hvp(x, away, np.ones_like(x), reduction=reduction)
        loss, gradient = check(x, np.arange(n), reduction="none")
        assert (loss == INF).all() and (gradient[np.arange(n), np.arange(n)].astype(float) == -1).all()
        assert cross_entropy(x, np.arange(n)) == INF
        # As a probability: 0 adds nothing, more makes it +inf; smoothing does so unless the class is masked.
        t = rng.uniform(0.1, 1, (n, n)).astype(np.float32)
        t[np.arange(n), np.arange(n)] = 0
        loss, gradient = check(x, t, reduction="none")
        assert np.isfinite(loss).all() and not gradient[np.arange(n), np.arange(n)].any()
        t[0, 0] = 0.5
        loss, gradient = check(x, t, reduction="none")
        assert loss[0] == INF and np.isfinite(loss[1:]).all() and gradient[0, 0] == np.array(-0.5, dtype)
        loss, gradient = check(x, away, label_smoothing=0.25, reduction="none")
        assert (loss == INF).all() and np.isfinite(gradient.astype(float)).all()
        mask = ~np.eye(n, dtype=bool)
        loss, gradient = check(x, away, label_smoothing=0.25, reduction="none", where=mask)
        assert np.isfinite(loss).all() and not gradient[~mask].any()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_masks(dtype, rng):
    """A masked target: +inf, gradient 0 at masked classes. A row masked wholly counts as ignored. NaN stays behind."""
    for n in (2, 7, 18):
        x, target = draw(rng, (8, n), dtype)
        mask = rng.random((8, n)) < 0.6
        mask[np.arange(8), target] = True
        mask[2] = False
        x[~mask] = rng.choice([NAN, INF, -INF, 5], (~mask).sum()).astype(dtype)
        for reduction in REDUCTIONS:
            loss, gradient = check(x, target, where=mask, reduction=reduction)
            assert np.isfinite(loss).all() and not gradient[~mask].any()
            t = np.where(mask, rng.uniform(0, 1, (8, n)), 0).astype(np.float32)
            loss, gradient = check(x, t, where=mask, reduction=reduction, label_smoothing=0.1)
            assert np.isfinite(loss).all() and not gradient[~mask].any()
            v = np.where(mask, 1, NAN).astype(dtype)
            assert not check_hvp(x, target, v, where=mask, reduction=reduction)[~mask].any()
        hidden = mask.copy()
        hidden[5], hidden[5, (target[5] + 1) % n] = False, True
        x[5] = 1
        loss, gradient = cross_entropy_with_grad(x, target, where=hidden, reduction="none")
        assert loss[5] == INF and not gradient[~hidden].any() and loss[2] == 0 and np.isfinite(np.delete(loss, 5)).all()
        assert cross_entropy(x, target, where=hidden) == INF
        smooth, gradient = cross_entropy_with_grad(x, target, where=hidden, label_smoothing=0.2, reduction="none")
        assert smooth[5] == INF and not gradient[~hidden].any() and np.isfinite(np.delete(smooth, 5)).all()


def test_label_smoothing_range():
    """Outside [0, 1]: a ValueError that names it; the ends are allowed."""
    x = np.zeros((2, 3))
    for f in FUNCTIONS:
        for bad in (-0.1, 1.0000001, NAN, INF, -INF):
            with pytest.raises(ValueError, match="label_smoothing") as caught:
                f(x, [0, 1], label_smoothing=bad)
            assert re.search(r"\b0\b.*\b1\b", str(caught.value)), str(caught.value)
        f(x, [0, 1], label_smoothing=0), f(x, [0, 1], label_smoothing=1)
    assert np.isclose(cross_entropy(np.log([[0.5, 0.25, 0.25]]), [0], label_smoothing=1), np.log(32) / 3)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_z_loss(dtype, rng):
    """a L^2 and 2 a L p / T: beside weights, smoothing, temperature, masks, ignored rows and each reduction."""
    for n in (2, 9, 40):
        for probabilities in (False, True):
            x, target = draw(rng, (7, n), dtype, probabilities=probabilities)
            if not probabilities:
                target[3] = -100
            for call, reduction in itertools.product(options(rng, target, n), REDUCTIONS):
                check(x, target, z_loss=0.01, reduction=reduction, **call)
                check(x, target, z_loss=5.0, reduction=reduction, **call)
    # By hand: the mean of the squares is over rows (or their sample weights), not over class weights.
    x, w, s = np.log(np.array([[1.0, 3.0], [2.0, 6.0]])), np.array([1.0, 5.0]), np.array([1.0, 3.0])
    squares = np.log([4.0, 8.0]) ** 2
    plain = cross_entropy(x, [0, 1], weight=w)
    np.testing.assert_allclose(cross_entropy(x, [0, 1], weight=w, z_loss=2.0) - plain, squares.sum(), rtol=1e-14)
    plain = cross_entropy(x, [0, 1], weight=w, sample_weight=s)
    both = cross_entropy(x, [0, 1], weight=w, sample_weight=s, z_loss=2.0)
    np.testing.assert_allclose(both - plain, 2 * (s * squares).sum() / 4, rtol=1e-13)
    assert_same_bits(cross_entropy(x, [0, 1], z_loss=0.0), cross_entropy(x, [0, 1]), "z_loss=0")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_softcap(dtype, rng):
    """Capped first, then divided by the temperature; the gradient is for the raw logits."""
    for n, cap in itertools.product((2, 9, 40), (1.0, 5.0, 30.0)):
        x, target = draw(rng, (7, n), dtype, scale=cap)
        for call in options(rng, target, n):
            check(x, target, softcap=cap, **call)
            check(x, target, softcap=cap, reduction="none", z_loss=0.01, **call)
    x, target = draw(rng, (4, 5), dtype)
    x[0, 0], x[1, 1], x[2, 2] = INF, -INF, NAN
    loss, gradient = check(x, target, softcap=10.0, reduction="none")
    assert gradient[0, 0] == 0 and gradient[1, 1] == 0 and np.isfinite(loss[[0, 1, 3]]).all() and np.isnan(loss[2])
    wide = np.full((2, 3), 1e4, dtype)
    assert np.isfinite(cross_entropy(wide, [0, 1], softcap=1e30))


def test_the_cap_itself(rng):
    """c tanh(x / c): beside a logit of 0, at a temperature so small that no exponential is left, it is the loss."""
    for cap in (1.0, 3.0, 30.0, 1e-3, 7e8):
        ratio = np.concatenate([rng.uniform(0, 3, 4000), rng.uniform(0.1, 0.15, 4000), 10 ** rng.uniform(-9, 2, 4000)])
        a = ratio * cap
        small = 2.0**-50 * 2.0 ** np.floor(np.log2(cap))
        x = np.stack([a, np.zeros_like(a)], axis=1)
        loss = cross_entropy(x, np.ones(len(a), int), reduction="none", softcap=cap, temperature=small)
        wanted = cap * np.tanh(a.astype(np.longdouble) / cap)
        assert_close(loss * small, wanted, FLOAT64, ulps.CAP_LIMIT, rows=(x,), label=f"cap {cap}")


def test_rows_of_two_capped_logits(rng):
    """Where each is as large as the cap, and both are wrong in opposite directions."""
    # Found by a search: with a cap of 4 ULP the gradient of the first and the loss of the second were beyond the limit.
    check(np.array([[15.134900360270116, 11.006429582454906]]), np.array([0]), softcap=30.0, reduction="none")
    check(np.array([[20.240473555635234, 17.85744159238383]]), np.array([0]), softcap=50.0, reduction="none")
    for cap, dtype in itertools.product((5.0, 30.0, 50.0), (FLOAT32, FLOAT64)):
        x = rng.uniform(0.1 * cap, 1.3 * cap, (20_000, 2)).astype(dtype)
        check(x, np.zeros(len(x), int), softcap=cap, reduction="none")


def test_derivative_of_the_cap(rng):
    """4 q / (1 + q)^2 keeps the digits that 1 - tanh^2 loses: at x = 20 c it is 1.7e-17, not 0."""
    for dtype in (FLOAT32, FLOAT64):
        cap = 2.0
        ratio = np.concatenate([rng.uniform(-40, 40, 400), rng.normal(0, 1e-3, 100), [0, 1e-30, 20, -20]])
        a = (ratio * cap).astype(dtype)
        x = np.stack([a, a], axis=1)  # p is 1/2 exactly
        q = np.exp(-2 * np.abs(a.astype(np.longdouble) / cap))
        slope = 4 * q / (1 + q) ** 2 / 2
        _, gradient = cross_entropy_with_grad(x, np.zeros(len(a), int), reduction="none", softcap=cap)
        limit = ulps.SOFTCAP_LIMIT + 1
        assert_close(gradient, np.stack([-slope, slope], axis=1), dtype, limit, rows=(x,), label=f"sech^2 {dtype}")


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_an_infinite_squared_logsumexp_makes_no_nan(dtype):
    """An overflow of x/T, or of what L^2 brings: infinite where there is a probability, 0 where there is none."""
    big = ulps.largest(dtype)
    for t in (0.5, 1e-3):
        x = np.array([[big * 0.9, 0, 1], [1, big * 0.9, -big]], dtype)
        for given in ([0, 1], [2, 0], [[1, 0, 0], [0.25, 0.25, 0.5]]):
            target = np.array(given, dtype if np.ndim(given) == 2 else int)
            for smoothing in (0.0, 0.1):
                call = {"z_loss": 1e6, "temperature": t, "reduction": "sum", "label_smoothing": smoothing}
                loss, gradient = cross_entropy_with_grad(x, target, **call)
                plain = cross_entropy_with_grad(x, target, **(call | {"z_loss": 0.0}))[1]
                assert loss == np.inf
                assert gradient[0, 0] == gradient[1, 1] == np.inf, f"{gradient}"
                others = np.array([[0, 1, 1], [1, 0, 1]], bool)
                assert_same_bits(gradient[others], plain[others], f"{dtype} T={t} {target} {smoothing}")


@pytest.mark.parametrize("name", ["softcap", "z_loss"])
def test_refused_numbers(name, rng):
    """softcap must be positive and finite, z_loss finite; the Hessian knows neither."""
    x, target = draw(rng, (2, 3), FLOAT64)
    for bad in (NAN, INF, -INF, *((0, -1.0) if name == "softcap" else ())):
        for f in FUNCTIONS[:2]:
            with pytest.raises(ValueError, match=name):
                f(x, target, **{name: bad})
    for f in FUNCTIONS[:2]:
        for bad in ("much", 1j, [1.0, 2.0]):
            with pytest.raises(TypeError, match=name):
                f(x, target, **{name: bad})
    with pytest.raises(TypeError, match=name):
        cross_entropy_hvp(x, target, x, **{name: 1.0})
    with pytest.raises(TypeError, match="grad_output"):
        cross_entropy(x, target, grad_output=1.0)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_grad_output(dtype, rng):
    """A scalar for mean and sum, the loss's shape for none, of any real dtype; it multiplies the gradient."""
    x, target = draw(rng, (3, 4, 6), dtype)
    for reduction in ("mean", "sum"):
        for given in (2, 2.0, -0.3, np.float32(0.7), np.array(1.5), np.array(3, np.int8), BFLOAT16.type(0.5), 0):
            check(x, target, reduction=reduction, grad_output=given, z_loss=0.01)
        _, plain = cross_entropy_with_grad(x, target, reduction=reduction)
        for one in (1, 1.0, np.ones(())):
            _, same = cross_entropy_with_grad(x, target, reduction=reduction, grad_output=one)
            assert_same_bits(same, plain, f"{dtype} {reduction}")
    for code in ("f8", "f4", "f2", BFLOAT16, "i4", "u1"):
        g = rng.integers(1, 5, (3, 4)).astype(code)
        for layout in ("contiguous", "fortran", "strided 2", "byte-swapped"):
            _, got = check(x, target, reduction="none", grad_output=LAYOUTS[layout](g))
        assert not (np.asarray(got).astype(float) == 0).all()


def test_wrong_grad_output(rng):
    """The message says which shape is right."""
    x, target = draw(rng, (3, 4), FLOAT32)
    for reduction, right, wrong in [
        ("none", "(3,)", [(4,), (3, 4), (2,), (3, 1)]),
        ("mean", "()", [(3,), (1,), (3, 4)]),
        ("sum", "()", [(3,), (1, 1)]),
    ]:
        for shape in wrong:
            out = np.full(x.shape, 7, np.float32)
            with pytest.raises(ValueError, match="grad_output") as caught:
                cross_entropy_with_grad(x, target, reduction=reduction, grad_output=np.ones(shape), out=out)
            message = str(caught.value)
            assert str(shape) in message, message
            assert right in message or (right == "()" and "scalar" in message), message
            assert (out == 7).all()
    for bad in ("x", 1j, np.array([1j] * 3), object()):
        with pytest.raises(TypeError, match="grad_output"):
            cross_entropy_with_grad(x, target, reduction="none", grad_output=bad)


def test_integers_of_other_types_are_an_ignore_index(rng):
    """NumPy's integers, and whatever has __index__."""

    class Index:
        def __index__(self):
            return 2

    x, target = rng.normal(0, 3, (4, 5)), np.array([0, 2, 4, 2])
    want = cross_entropy(x, target, ignore_index=2)
    assert_same_bits(want, cross_entropy(x[::2], target[::2]), "rows 1 and 3 are left out")
    for index in (np.int64(2), np.uint8(2), Index(), np.array(2)):
        assert_same_bits(cross_entropy(x, target, ignore_index=index), want, repr(index))


def test_probabilities_with_ignore_index(rng):
    """Only an index can be ignored."""
    x, target = draw(rng, (3, 4), FLOAT32, probabilities=True)
    for f in FUNCTIONS:
        for ignore_index in (0, -1, 255):
            with pytest.raises(TypeError, match="ignore_index"):
                f(x, target, ignore_index=ignore_index)
        f(x, target, ignore_index=-100)


# Memory, threads, order of sums


def keywords_along(axis, x, rng):
    """Return keywords that vary by row and by element, for logits with the classes along `axis`."""
    reduced = tuple(n for a, n in enumerate(x.shape) if a != axis % x.ndim)
    mask = rng.random(x.shape) < 0.8
    return {
        "weight": rng.uniform(0.5, 2, x.shape[axis]),
        "sample_weight": rng.uniform(0.5, 2, reduced),
        "temperature": rng.uniform(0.5, 2, reduced),
        "where": mask,
        "label_smoothing": 0.1,
    }


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("probabilities", [False, True], ids=["indices", "probabilities"])
def test_axes_and_layouts(dtype, probabilities, rng):
    """The class axis anywhere, any memory of any argument: the bits of contiguous rows."""
    for shape in [(6,), (5, 18), (18, 5), (3, 4, 5), (2, 3, 2, 3)]:
        x = rng.normal(0, 3, shape).astype(dtype)
        v = rng.normal(0, 1, shape).astype(dtype)
        for axis in range(-len(shape), len(shape)):
            reduced = tuple(n for a, n in enumerate(shape) if a != axis % len(shape))
            target = rng.integers(0, shape[axis], reduced)
            if probabilities:
                target = rng.uniform(0, 1, shape).astype(np.float32)
            for call in ({}, keywords_along(axis, x, rng)):

                def last(a, axis=axis, shape=shape):
                    return np.ascontiguousarray(np.moveaxis(a, axis, -1)) if np.shape(a) == shape else a

                rows = {k: last(value) for k, value in call.items()}
                for reduction in REDUCTIONS if dtype == FLOAT32 else ("mean",):
                    loss, want = cross_entropy_with_grad(last(x), last(target), reduction=reduction, **rows)
                    want = np.moveaxis(want, -1, axis)
                    curved = cross_entropy_hvp(last(x), last(target), last(v), reduction=reduction, **rows)
                    for name, layout in LAYOUTS.items():
                        given = {k: layout(a) if isinstance(a, np.ndarray) else a for k, a in call.items()}
                        label = f"{dtype} {shape} axis={axis} {reduction} {list(call)} {name}"
                        got = cross_entropy_with_grad(
                            layout(x), layout(target), axis=axis, reduction=reduction, **given
                        )
                        assert_same_bits(got[0], loss, label)
                        assert_same_bits(got[1], want, label)
                        got = cross_entropy_hvp(
                            layout(x), layout(target), layout(v), axis=axis, reduction=reduction, **given
                        )
                        assert_same_bits(got, np.moveaxis(curved, -1, axis), f"hvp {label}")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_row_alone(dtype, rng):
    """Each row's loss and gradient alone, in any place of a batch, along either axis."""
    for n in (1, 2, 3, 8, 16, 17, 33, 65, 100, 513):
        x, target = draw(rng, (17, n), dtype)
        soft = rng.uniform(0, 1, x.shape).astype(np.float32)
        for wanted in (target, soft):
            alone = [cross_entropy_with_grad(x[i], wanted[i], reduction="sum", label_smoothing=0.1) for i in range(17)]
            for axis in (-1, 0):
                columns = [a if axis == -1 or a.ndim == 1 else np.ascontiguousarray(a.T) for a in (x, wanted)]
                loss, gradient = cross_entropy_with_grad(*columns, axis=axis, reduction="none", label_smoothing=0.1)
                assert_same_bits(loss, np.array([l for l, _ in alone]), f"{dtype} n={n} axis={axis}")
                gradient = gradient if axis == -1 else gradient.T
                assert_same_bits(gradient, np.array([g for _, g in alone]), f"{dtype} n={n} axis={axis}")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_out(dtype, rng):
    """Every layout of out, the gaps untouched; in place on the logits, on v, and on probability targets."""
    for shape, axis in [((37,), 0), ((5, 18), -1), ((5, 18), 0), ((3, 4, 5), 1), ((2, 5000), -1), ((300, 7), 0)]:
        x, v = rng.normal(0, 3, (2, *shape)).astype(dtype)
        target = rng.integers(0, shape[axis], tuple(n for a, n in enumerate(shape) if a != axis % len(shape)))
        for call in ({}, keywords_along(axis, x, rng)):
            loss, want = cross_entropy_with_grad(x, target, axis=axis, **call)
            curved = cross_entropy_hvp(x, target, v, axis=axis, **call)
            for name in LAYOUTS.keys() - {"read-only", "byte-swapped"}:
                if "byte-swapped" in name:
                    continue
                layout, label = LAYOUTS[name], f"{dtype} {shape} axis={axis} {list(call)} {name}"
                out = layout(np.full(shape, fill_of(dtype), dtype))
                got, same = cross_entropy_with_grad(x, target, axis=axis, out=out, **call)
                assert same is out
                assert_same_bits(got, loss, label)
                assert_same_bits(out, want, label)
                y = layout(x)
                got, same = cross_entropy_with_grad(y, target, axis=axis, out=y, **call)
                assert same is y
                assert_same_bits(got, loss, f"{label} in place")
                assert_same_bits(y, want, f"{label} in place")
                for place in (0, 1):
                    arrays = [layout(x), layout(v)]
                    same = cross_entropy_hvp(arrays[0], target, arrays[1], axis=axis, out=arrays[place], **call)
                    assert same is arrays[place]
                    assert_same_bits(same, curved, f"{label} hvp in place {place}")
        if dtype in (FLOAT32, FLOAT64):
            soft = rng.uniform(0, 1, shape).astype(dtype)
            loss, want = cross_entropy_with_grad(x, soft, axis=axis)
            kept = soft.copy()
            got, same = cross_entropy_with_grad(x, soft, axis=axis, out=soft)
            assert same is soft
            assert_same_bits(soft, want, f"{dtype} {shape} into the target")
            assert_same_bits(cross_entropy(x, kept, axis=axis), got, f"{dtype} {shape} into the target")


def test_out_over_the_other_arguments(rng):
    """Memory of the logits (shifted), target, weights or mask as out: the result as if there were no overlap."""
    n = 8
    # (Short rows are all read before one is written; of longer ones some are written first.)
    for rows, length in [(8, n)] * 100 + [(5, 40), (3, 300), (30, 40)] * 30:
        size = rows * length
        room = rng.normal(0, 3, size + 3 * length)
        start, other = rng.integers(0, 3 * length, 2)
        x, out = (room[i : i + size].reshape(rows, length) for i in (start, other))
        target = rng.integers(0, length, rows)
        loss, want = cross_entropy_with_grad(x.copy(), target)
        got, same = cross_entropy_with_grad(x, target, out=out)
        assert same is out
        assert_same_bits(out, want, f"out {other - start} elements further")
        assert_same_bits(got, loss, f"out {other - start} elements further")
    x = rng.normal(0, 3, (8, n))
    for name in ("target", "weight", "sample_weight", "grad_output", "temperature", "where"):
        for axis, column in itertools.product((0, 1), (0, 5)):
            room = rng.uniform(0.5, 2, (8, n))
            call = {"target": rng.integers(0, n, 8), "axis": axis, "reduction": "none"}
            if name == "target":
                view = room.view(np.int64)[:, column]
                view[...] = call["target"]
            elif name == "where":
                view = room.view(np.bool_)[:, ::8]
                view[...] = rng.random((8, n)) < 0.8
            else:
                view = room[:, column]
            want = cross_entropy_with_grad(x, **call | {name: view.copy()})
            got = cross_entropy_with_grad(x, out=room, **call | {name: view})
            assert got[1] is room
            assert_same_bits(got[0], want[0], f"out over {name} axis={axis}")
            assert_same_bits(room, want[1], f"out over {name} axis={axis}")


@pytest.mark.parametrize("probabilities", [False, True], ids=["indices", "probabilities"])
def test_inputs_are_not_modified(probabilities, rng):
    """Byte for byte, all of them."""
    for dtype in FLOATS:
        x, target = draw(rng, (4, 6), dtype, probabilities=probabilities)
        call = keywords_along(-1, x, rng) | {"grad_output": np.float32(2), "v": x.copy()}
        arrays = [x, target, *(a for a in call.values() if isinstance(a, np.ndarray))]
        before = [a.tobytes() for a in arrays]
        v = call.pop("v")
        cross_entropy_with_grad(x, target, **call)
        call.pop("grad_output")
        cross_entropy(x, target, **call)
        cross_entropy_hvp(x, target, v, **call)
        assert [a.tobytes() for a in arrays] == before, f"{dtype}"


@pytest.mark.parametrize("case", ["rows", "columns", "short rows", "few long rows", "middle axis", "float64"])
def test_threads(case, rng):
    """1, 2 and 5 threads, each way to walk an array: the same bits of loss, gradient and Hessian."""
    shape, axis = {
        "rows": ((400, 500), -1),
        "columns": ((300, 700), 0),
        "short rows": ((30_000, 5), -1),
        "few long rows": ((3, 60_000), -1),
        "middle axis": ((20, 70, 90), 1),
        "float64": ((300, 600), -1),
    }[case]
    x = rng.normal(0, 3, shape).astype(FLOAT64 if case == "float64" else FLOAT32)
    reduced = tuple(n for a, n in enumerate(shape) if a != axis % len(shape))
    target = rng.integers(0, shape[axis], reduced)
    soft = rng.uniform(0, 1, shape).astype(np.float32)
    v = rng.normal(0, 1, shape).astype(x.dtype)
    plain = {"sample_weight": rng.uniform(0.5, 2, reduced), "label_smoothing": 0.1, "axis": axis}
    results = []
    for threads in (1, 2, 5):
        with softmax_rs.threads(threads):
            in_place = x.copy()
            results.append(
                [
                    *cross_entropy_with_grad(x, target, axis=axis),
                    *cross_entropy_with_grad(x, soft, reduction="sum", z_loss=1e-3, **plain),
                    *cross_entropy_with_grad(in_place, target, reduction="none", out=in_place, **plain),
                    cross_entropy_with_grad(x, target, softcap=20.0, axis=axis)[1],
                    cross_entropy(x, target, axis=axis),
                    cross_entropy(x, target, **plain),
                    cross_entropy_hvp(x, target, v, **plain),
                ]
            )
    for other in results[1:]:
        for i, (got, want) in enumerate(zip(other, results[0], strict=True)):
            assert_same_bits(got, want, f"{case}, result {i}")


def test_order_of_the_sum(rng):
    """Row losses are added in C order of the rows, whatever the layout, and what float64 loses is added in the end."""
    for rows in (1, 2, 255, 256, 257, 511, 513, 3000):
        x, target = draw(rng, (rows, 7), FLOAT64, scale=20)
        total = math.fsum(cross_entropy(x, target, reduction="none").tolist())
        got = cross_entropy(x, target, reduction="sum")
        assert abs(got - total) <= np.spacing(total), f"{rows} rows: {got!r}, not {total!r}"
        mean = cross_entropy(x, target)
        assert mean == got / rows, f"{rows} rows"
        assert cross_entropy(np.asfortranarray(x), target) == mean
        assert cross_entropy(np.ascontiguousarray(x.T), target, axis=0) == mean
    x, target = draw(rng, (30, 40, 7), FLOAT64, scale=20)
    want = cross_entropy(x.reshape(1200, 7), target.reshape(1200), reduction="sum")
    for layout in LAYOUTS:
        for axis in (0, 1, 2):
            given = LAYOUTS[layout](np.moveaxis(x, -1, axis))
            got = cross_entropy(given, LAYOUTS[layout](target), axis=axis, reduction="sum")
            assert_same_bits(got, want, f"{layout} axis={axis}")


def test_the_sum_is_kept_in_float64(rng):
    """A sum of a million float32 losses is right to its last digits."""
    x, target = draw(rng, (500_000, 2), FLOAT32)
    for reduction in ("sum", "mean"):
        loss = cross_entropy(x, target, reduction=reduction)
        with np.errstate(all="ignore"):
            want = reference.Loss(x, target, reduction=reduction).loss()
        assert_close(loss, want, FLOAT32, 1.5, label=reduction)


# Bad input


X = np.zeros((3, 4), np.float32)
TARGET = np.zeros(3, int)
TABLE = [
    ({"target": np.zeros(4, int)}, ValueError, ["target", r"\(4,\)", r"\(3, 4\)", r"\(3,\)", "axis"]),
    ({"target": np.zeros((3, 4), int)}, ValueError, ["target", r"\(3, 4\)", r"\(3,\)", "axis"]),
    ({"target": np.zeros((3, 1), int)}, ValueError, ["target", r"\(3, 1\)", r"\(3, 4\)", "axis"]),
    ({"target": np.zeros((), int)}, ValueError, ["target", r"\(\)", r"\(3, 4\)", "axis"]),
    ({"target": np.zeros((4, 3))}, ValueError, ["target", r"\(4, 3\)", r"\(3, 4\)"]),
    ({"target": np.zeros((3, 5))}, ValueError, ["target", r"\(3, 5\)", r"\(3, 4\)"]),
    ({"target": np.zeros(3)}, TypeError, ["target", "integer"]),
    ({"target": np.zeros(3, bool)}, TypeError, ["target", "bool"]),
    ({"target": [0, 9, 0]}, IndexError, ["target", r"\b1\b", r"\b9\b", r"\b4\b"]),
    ({"target": ["a", "b", "c"]}, TypeError, ["target"]),
    ({"target": None}, TypeError, ["target"]),
    ({"target": np.ma.masked_array([0, 1, 2])}, TypeError, ["target", "MaskedArray", r"a\.filled\(ignore_index\)"]),
    (
        {"sample_weight": np.ma.masked_array([0, 1])},
        TypeError,
        ["sample_weight", "MaskedArray", r"a\.filled\(number\)"],
    ),
    ({"sample_weight": [[1.0, 2.0], [3.0]]}, ValueError, ["sample_weight", "a list", "inhomogeneous"]),
    ({"logits": np.ma.masked_array(X)}, TypeError, ["logits", "MaskedArray", r"where=~a\.mask"]),
    ({"logits": X.astype(complex)}, TypeError, ["logits", "complex128", "float64"]),
    ({"logits": X.astype(np.longdouble)}, TypeError, ["logits", "longdouble|float128", "float64"]),
    ({"logits": np.float32(1), "target": 0}, np.exceptions.AxisError, ["axis -1 is out of bounds .* dimension 0"]),
    ({"axis": 2}, np.exceptions.AxisError, ["^axis 2 is out of bounds for array of dimension 2$"]),
    ({"axis": 0}, ValueError, ["target", r"\(3,\)", r"\(3, 4\)", r"\(4,\)", "axis"]),
    ({"axis": 0.5}, TypeError, ["axis", "float"]),
    ({"axis": "1"}, TypeError, ["axis", "str"]),
    ({"weight": np.ones(3)}, ValueError, ["(?<!_)weight", r"\(3,\)", r"\(4,\)"]),
    ({"weight": np.ones((3, 4))}, ValueError, ["(?<!_)weight", r"\(3, 4\)", r"\(4,\)"]),
    ({"weight": "heavy"}, TypeError, ["(?<!_)weight"]),
    ({"weight": np.ones(4, complex)}, TypeError, ["(?<!_)weight", "complex128"]),
    ({"sample_weight": np.ones(4)}, ValueError, ["sample_weight", r"\(4,\)", r"\(3,\)"]),
    ({"sample_weight": np.ones((3, 4))}, ValueError, ["sample_weight", r"\(3, 4\)", r"\(3,\)"]),
    ({"sample_weight": ["a"] * 3}, TypeError, ["sample_weight"]),
    ({"label_smoothing": 1.5}, ValueError, ["label_smoothing", r"1\.5", r"\b0\b", r"\b1\b"]),
    ({"label_smoothing": "some"}, TypeError, ["label_smoothing"]),
    ({"reduction": "average"}, ValueError, ["reduction", "average", "mean", "sum", "none"]),
    ({"reduction": None}, (TypeError, ValueError), ["reduction", "mean", "sum", "none"]),
    ({"ignore_index": 1.5}, TypeError, ["ignore_index", "float"]),
    ({"ignore_index": "x"}, TypeError, ["ignore_index", "str"]),
    ({"ignore_index": int}, TypeError, ["ignore_index must be an integer, got type"]),
    ({"reduction": "\ud800"}, ValueError, ["reduction", "'none', 'sum' or 'mean'"]),
    ({"temperature": 0}, ValueError, ["temperature", "positive"]),
    ({"temperature": np.ones(4)}, ValueError, ["temperature", r"\(4,\)", r"\(3,\)"]),
    ({"where": np.ones((3, 4))}, TypeError, ["where", "bool"]),
    ({"where": np.ones((4, 3), bool)}, ValueError, ["where", r"\(4, 3\)", r"\(3, 4\)"]),
    ({"wheights": 1}, TypeError, ["wheights"]),
    ({"z_loss": NAN}, ValueError, ["z_loss", "(?i)nan"]),
    ({"z_loss": 1j}, TypeError, ["z_loss must be one number, finite and not negative, got complex"]),
    ({"z_loss": Decimal(1)}, TypeError, ["z_loss must be one number, finite and not negative, got decimal.Decimal"]),
    ({"softcap": [1.0]}, TypeError, [r"softcap must be one number, got an array of shape \(1,\)"]),
    ({"softcap": 0.0}, ValueError, ["softcap", "positive"]),
    ({"softcap": -30.0}, ValueError, ["softcap", "-30", "positive"]),
    ({"grad_output": np.ones(3)}, ValueError, ["grad_output", r"\(3,\)"]),
    ({"out": np.zeros((3, 4))}, TypeError, ["out", "float64", "float32"]),
    ({"out": np.zeros((4, 3), np.float32)}, ValueError, ["out", r"\(4, 3\)", r"\(3, 4\)"]),
    ({"out": [0.0]}, TypeError, ["out", "list"]),
    ({"out": np.broadcast_to(np.float32(0), (3, 4))}, ValueError, ["out"]),
]


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_with_grad", "cross_entropy_hvp"])
def test_table_of_errors(name):
    """Type and words of the message; nothing is written; the next call is right."""
    f = getattr(softmax_rs, name)
    foreign = {
        "cross_entropy": {"grad_output", "out"},
        "cross_entropy_with_grad": set(),
        "cross_entropy_hvp": {"grad_output", "z_loss", "softcap"},
    }[name]
    v = (X,) if name.endswith("hvp") else ()
    for arguments, exception, patterns in TABLE:
        if foreign & set(arguments):
            continue
        given = {"logits": X, "target": TARGET} | arguments
        out = np.full((3, 4), 7, np.float32)
        if "out" not in foreign and "out" not in given:
            given["out"] = out
        logits = given.pop("logits")
        arrays = (logits, given.pop("target"), *(np.zeros_like(logits) for _ in v))
        with pytest.raises((TypeError, ValueError, IndexError)) as caught:
            f(*arrays, **given)
        expected = exception if isinstance(exception, tuple) else (exception,)
        assert type(caught.value) in expected, f"{name} {arguments}: {caught.value!r}"
        for pattern in patterns:
            message = str(caught.value)
            assert re.search(pattern, message), f"{name} {arguments}: no {pattern!r} in {message!r}"
        assert (out == 7).all() and not X.any(), f"{name} {arguments}: written"
    f(X, TARGET, *v)


def test_the_vector_of_the_hessian(rng):
    """Same shape as the logits after broadcasting, dtypes meet as in NumPy, messages name both."""
    x, target = draw(rng, (3, 4), FLOAT32)
    v = rng.normal(0, 1, (3, 4))
    wide = cross_entropy_hvp(x, target, v)
    assert wide.dtype == np.float64
    assert_same_bits(wide, cross_entropy_hvp(x.astype(np.float64), target, v), "float32 with float64")
    got = cross_entropy_hvp(x, target, v[0].astype(np.float32))
    assert_same_bits(got, cross_entropy_hvp(x, target, np.tile(v[0].astype(np.float32), (3, 1))), "one v for all rows")
    with pytest.raises(ValueError, match=r"\bv\b") as caught:
        cross_entropy_hvp(x, target, np.zeros((4, 3)))
    assert "(4, 3)" in str(caught.value) and "(3, 4)" in str(caught.value)
    with pytest.raises(TypeError) as caught:
        cross_entropy_hvp(x.astype(FLOAT16), target, v.astype(BFLOAT16))
    assert "float16" in str(caught.value) and "bfloat16" in str(caught.value)
    with pytest.raises(TypeError, match=r"\bv\b.*complex128|complex128.*\bv\b"):
        cross_entropy_hvp(x, target, v.astype(complex))
    with pytest.raises(TypeError, match="v"):
        cross_entropy_hvp(x, target)


def test_other_inputs(rng):
    """Lists, scalars, integers (computed as float64), one row; converted keywords of any real dtype and memory."""
    assert cross_entropy([0.0, 0.0], 1) == np.log(2)
    loss, gradient = cross_entropy_with_grad([[1, 2], [3, 5]], [0, 1])
    assert loss.dtype == gradient.dtype == np.float64 and isinstance(loss, np.float64)
    assert type(gradient) is np.ndarray and gradient.flags.c_contiguous and gradient.flags.owndata
    for code in ("i1", "u2", "i8", "?"):
        x = rng.integers(0, 2, (5, 4)).astype(code)
        got = cross_entropy_with_grad(x, [0, 1, 2, 3, 0])
        want = cross_entropy_with_grad(x.astype(np.float64), [0, 1, 2, 3, 0])
        assert_same_bits(got[0], want[0], code)
        assert_same_bits(got[1], want[1], code)
    x, target = draw(rng, (6, 5), FLOAT32)
    names = {"weight": (5,), "sample_weight": (6,), "temperature": (6,)}
    for name, code in itertools.product(names, ("f8", "f4", "f2", BFLOAT16, "i1", "u8", np.longdouble)):
        value = rng.integers(1, 5, names[name]).astype(code)
        want = cross_entropy_with_grad(x, target, **{name: value.astype(np.float64)})
        for given in (value, value.tolist(), value.copy()[::-1][::-1]):
            got = cross_entropy_with_grad(x, target, **{name: given})
            assert_same_bits(got[0], want[0], f"{name} {code}")
            assert_same_bits(got[1], want[1], f"{name} {code}")
    soft = rng.uniform(0, 1, x.shape)
    for code in ("f4", "f2", BFLOAT16, np.longdouble):
        given = soft.astype(code)
        want = cross_entropy_with_grad(x, given.astype(np.float64))
        got = cross_entropy_with_grad(x, given)
        assert got[1].dtype == x.dtype
        assert_same_bits(got[0], want[0], f"probabilities {code}")
        assert_same_bits(got[1], want[1], f"probabilities {code}")


def test_special_values_of_the_targets(rng):
    """NaN probabilities make their row NaN, not a wrong number; rows of zeros have no loss and no gradient."""
    x, t = draw(rng, (4, 5), FLOAT32, probabilities=True)
    t[1], t[2, 3] = 0, np.nan
    loss, gradient = cross_entropy_with_grad(x, t, reduction="none")
    assert loss[1] == 0 and not gradient[1].any()
    assert np.isnan(loss[2]) and np.isnan(gradient[2, 3]) and np.isfinite(np.delete(loss, 2)).all()


@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 300_001), 1), ((300_001, 3), 1), ((270_000, 2, 3), 2)])
def test_more_rows_than_are_read_at_once(shape, axis, rng):
    """Targets are read in parts of 2^18 rows: each row's own, forwards and backwards, and the place of a wrong one."""
    x = rng.normal(0, 3, shape).astype(np.float32)
    target = rng.integers(0, 3, [n for d, n in enumerate(shape) if d != axis], dtype=np.int32)
    logits = np.moveaxis(x.astype(np.float64), axis, -1)
    picked = np.take_along_axis(logits, target[..., None], -1)[..., 0]
    want = np.logaddexp.reduce(logits, -1) - picked
    for way in (target, target[::-1].copy()[::-1], np.asfortranarray(target)):
        got = softmax_rs.cross_entropy(x, way, axis=axis, reduction="none")
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    last = tuple(n - 1 for n in target.shape)
    target[last] = 3
    with pytest.raises(IndexError, match=re.escape(f"target has 3 at index {last}")):
        softmax_rs.cross_entropy(x, target, axis=axis)
