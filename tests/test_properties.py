"""Hazard: what nobody thought of. Mathematics that holds for all inputs, on inputs that hypothesis invents."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import softmax_rs
import test_cross_entropy as cross_entropy
from catalogue import (
    BY_NAME,
    ELEMENTS,
    FROM_OUTPUT,
    FUNCTIONS,
    OF_TWO,
    WITH_TEMPERATURE,
    WITH_WHERE,
    one_row_at_a_time,
)
from ulps import BFLOAT16, FLOAT64, FLOATS, assert_close, assert_same_bits, largest, ulp

softmax, log_softmax, logsumexp = (BY_NAME[name] for name in ("softmax", "log_softmax", "logsumexp"))
generators = st.integers(0, 2**32).map(np.random.default_rng)  # what stands beside the logits
PARTS = {dtype: 2.0 ** (1 - p) for dtype, p in zip(FLOATS, (11, 8, 24, 53), strict=True)}  # 1 ULP of 1


@st.composite
def rows(draw, dtypes=FLOATS, size=80, bound=None, special=False):
    """Draw one row of logits."""
    dtype = draw(st.sampled_from(dtypes))
    limit = bound or largest(dtype)
    limit = float(np.array(min(limit, largest(dtype)), np.float32 if dtype == BFLOAT16 else dtype))
    values = st.floats(-limit, limit) | st.sampled_from([0.0, -0.0, 1.0, -1.0, limit, -limit])
    if special:
        values |= st.sampled_from([math.inf, -math.inf, math.nan])
    row = draw(st.lists(values, min_size=1, max_size=size))
    with np.errstate(over="ignore"):
        x = np.array(row, float).astype(dtype)
    return x if special else np.clip(x, -np.array(largest(dtype), dtype), np.array(largest(dtype), dtype))


@st.composite
def arrays_and_axes(draw):
    """Draw an array with special values, in some layout, and an axis argument."""
    dtype = draw(st.sampled_from(FLOATS))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=7))
    values = draw(hnp.arrays(np.float16, shape, elements=st.floats(width=16)))
    x = values.astype(dtype).transpose(draw(st.permutations(range(len(shape)))))
    x = x[tuple(draw(st.sampled_from([slice(None), slice(None, None, -1), slice(None, None, 2)])) for _ in shape)]
    axes = st.lists(st.integers(-x.ndim, x.ndim - 1), max_size=x.ndim, unique_by=lambda a: a % x.ndim).map(tuple)
    return x, draw(st.none() | st.integers(-x.ndim, x.ndim - 1) | axes)


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@given(case=arrays_and_axes(), data=st.data())
def test_any_array(f, case, data):
    """Any values, strides, axes, masks: each row's bits alone, and close to the oracle's."""
    x, axis = case
    mask = data.draw(st.none() | hnp.arrays(bool, x.shape)) if f in WITH_WHERE else None
    keywords = {} if mask is None else {"where": mask}
    arrays = f.arguments(data.draw(generators), x, axis)
    got = f(*arrays, axis=axis, **keywords)
    assert_same_bits(got, one_row_at_a_time(f, arrays, axis, **keywords), f"{f} axis={axis}")
    want = f.reference(*arrays, axis=axis, **keywords)
    assert (np.isnan(np.asarray(got).astype(float)) == np.isnan(want)).all()
    limit, scale = f.limit(want, x.dtype, 1, *arrays, axis=axis, **keywords)
    assert_close(got, want, x.dtype, limit, scale=scale, label=f"{f} axis={axis}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@given(x=rows(special=True, size=40), rng=generators)
def test_any_row(f, x, rng):
    """Any row at all, against the oracle."""
    arrays = f.arguments(rng, x)
    f.check(f(*arrays, axis=-1), x.dtype, *arrays)


@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
@given(x=rows(size=30), t=st.floats(5e-324, 1.7e308) | st.sampled_from([1e-30, 1e30, 0.7]), rng=generators)
def test_any_temperature(f, x, t, rng):
    """Any row at any positive finite temperature."""
    arrays = f.arguments(rng, x)
    f.check(f(*arrays, axis=-1, temperature=t), x.dtype, *arrays, temperature=t, label=f"T={t!r}")


@given(x=rows())
def test_probabilities(x):
    """They lie in [0, 1] and add to 1, as far as their own roundings allow; the largest logit has the largest."""
    p = softmax(x).astype(np.longdouble)
    assert (p >= 0).all() and (p <= 1).all()
    slack = (3.5 * ulp(p, x.dtype)).sum()
    note(f"sum {p.sum()}, slack {slack}")
    assert abs(p.sum() - 1) <= slack
    assert p[np.argmax(x)] == p.max() and p.max() >= 1 / (x.size + 1)


@given(x=rows())
def test_rank_order_is_kept(x):
    """x_i > x_j never gives p_i < p_j, nor log p_i < log p_j; equal logits give equal results."""
    order = np.argsort(x.astype(np.float64))
    for f in (softmax, log_softmax):
        y = f(x).astype(np.float64)[order]
        assert (y[1:] >= y[:-1]).all(), f
        same = x[order][1:] == x[order][:-1]
        assert (y[1:] == y[:-1])[same].all(), f


@given(x=rows(size=40), seed=st.integers(0, 2**32))
def test_permutation(x, seed):
    """A row permuted gives its result permuted, within the limits; logsumexp stays."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(x.size)
    for f in FUNCTIONS:
        arrays = [a[order] if a.ndim else a for a in f.arguments(rng, x)]
        got = f(*arrays, axis=-1)
        f.check(got, x.dtype, *arrays)
        if f.output == ELEMENTS and f not in OF_TWO:
            top = x == x.max()
            assert len(set(np.asarray(got)[top[order]].tolist())) == 1


@given(x=rows(bound=1000), steps=st.integers(-512, 512))
def test_shift(x, steps):
    """A shift that is exact changes softmax and log_softmax by no more than both errors, and moves logsumexp."""
    x = np.round(x.astype(float) * 2) / 2
    x = np.clip(x, -512, 512).astype(FLOAT64)
    shift = float(steps)
    scale = np.maximum(np.abs(x).max() + abs(shift), np.log(x.size) + 1)
    assert_close(softmax(x + shift), softmax(x).astype(np.longdouble), FLOAT64, 7, rows=x, label=f"shift {shift}")
    assert_close(
        log_softmax(x + shift), log_softmax(x).astype(np.longdouble), FLOAT64, 6, rows=x, label=f"shift {shift}"
    )
    moved = np.longdouble(logsumexp(x)) + shift
    assert_close(logsumexp(x + shift), moved, FLOAT64, 6, scale=scale, label=f"shift {shift}")


@given(x=rows())
def test_the_three_agree(x):
    """softmax = exp(log_softmax) = exp(x - logsumexp), as far as the rounding of the exponents allows."""
    one = PARTS[x.dtype]
    p, log_p = softmax(x).astype(np.longdouble), log_softmax(x).astype(np.longdouble)
    wide = x.astype(np.longdouble)
    again = np.exp(log_p)
    slack = again * np.expm1(np.minimum(4 * ulp(log_p, x.dtype), 10)) + 4 * ulp(p, x.dtype)
    assert (np.abs(p - again) <= slack).all()
    total = np.longdouble(logsumexp(x))
    if np.isfinite(total):
        scale = np.maximum(np.abs(wide).max(), abs(total)) + np.log(np.longdouble(x.size))
        assert (
            np.abs((wide - total) - log_p)[np.isfinite(log_p)]
            <= (8 * one * (scale + np.abs(log_p)))[np.isfinite(log_p)]
        ).all()
        assert total >= wide.max()
        assert total <= (wide.max() + np.log(np.longdouble(x.size))) + 2 * ulp(scale, x.dtype)


@given(x=rows(dtypes=(FLOAT64,), bound=1e6, size=60), data=st.data())
def test_merging(x, data):
    """logsumexp of the parts' logsumexps is that of the whole; -inf, that of no part, changes nothing."""
    cut = data.draw(st.integers(0, x.size))
    parts = np.array([logsumexp(x[:cut]), logsumexp(x[cut:]), logsumexp(x[:0])])
    scale = np.max(np.abs(x)) + np.log(x.size) + 1
    assert_close(logsumexp(parts), np.longdouble(logsumexp(x)), FLOAT64, 10, scale=scale, label=f"cut at {cut}")


@given(x=rows(dtypes=(FLOAT64,), bound=300), t=st.floats(0.01, 100), rng=generators)
def test_temperature_divides(x, t, rng):
    """Temperature t on t x, with t a power of two, is temperature 1 on x; a derivative is divided by t."""
    power = 2.0 ** round(math.log2(t))
    x = np.where(np.abs(x) < 1e-250, 0.0, x)
    for f in WITH_TEMPERATURE:
        label = f"T={power}"
        arrays = f.arguments(rng, x)
        hot = arrays if f in FROM_OUTPUT else (x * power, *arrays[1:])
        got = f(*hot, temperature=power)
        f.check(got, FLOAT64, *hot, temperature=power, label=label)
        f.check(got * power if f in OF_TWO else got, FLOAT64, *arrays, label=label)


@given(x=rows(size=20, bound=80), y=st.data())
def test_softmax_is_lipschitz(x, y):
    """Gao & Pavel: |softmax(x) - softmax(y)| <= |x - y| / T, and <softmax(x) - softmax(y), x - y> >= 0."""
    x = x.astype(np.float64)
    other = y.draw(hnp.arrays(np.float64, x.shape, elements=st.floats(-80, 80)))
    for t in (1.0, 0.25, 8.0):
        change = softmax(x, temperature=t) - softmax(other, temperature=t)
        distance = np.linalg.norm(x - other)
        assert np.linalg.norm(change) <= distance / t + 1e-14
        assert change @ (x - other) >= -1e-14 * (1 + distance)


@given(x=rows(size=2, bound=700, dtypes=(FLOAT64,)))
def test_two_classes_are_the_sigmoid(x):
    """softmax([a, 0]) is the logistic function of a."""
    a = np.longdouble(x[0])
    want = np.array([1 / (1 + np.exp(-a)), 1 / (1 + np.exp(a))])
    assert_close(softmax(np.array([x[0], 0.0])), want, FLOAT64, 3.7, label=f"a = {x[0]!r}")


@given(x=rows(size=20, bound=80), data=st.data())
def test_softmax_is_co_coercive(x, data):
    """Gao & Pavel: <softmax(x) - softmax(y), x - y> >= T |softmax(x) - softmax(y)|^2."""
    x = x.astype(np.float64)
    other = data.draw(hnp.arrays(np.float64, x.shape, elements=st.floats(-80, 80)))
    for t in (1.0, 0.25, 8.0):
        change = softmax(x, temperature=t) - softmax(other, temperature=t)
        assert change @ (x - other) >= t * change @ change - 1e-14 * (1 + np.linalg.norm(x - other))


@pytest.mark.parametrize("f", OF_TWO, ids=str)
@given(x=rows(size=25, bound=100), data=st.data())
def test_products_are_linear_in_the_second_array(f, x, data):
    """A power of two times the tangent gives that times the result, bit for bit where nothing underflows."""
    first, second = f.arguments(data.draw(generators), x)
    power = 2.0 ** data.draw(st.integers(-3, 3))
    got = np.asarray(f(first, second * np.array(power, x.dtype), axis=-1)).astype(np.longdouble) / power
    want = np.asarray(f(first, second, axis=-1)).astype(np.longdouble)
    slack = ulp(0.0, x.dtype) * 8 * (1 + np.abs(second.astype(float)).max()) + (x.dtype.itemsize == 2) * ulp(
        want, x.dtype
    )
    assert (np.abs(got - want) <= slack).all(), f"{f} times {power}"


@pytest.mark.parametrize("f", OF_TWO, ids=str)
@given(x=rows(size=25), data=st.data())
def test_tangents_of_any_size(f, x, data):
    """Tangents of any magnitude and both signs, whose squares stay finite, many of them 0."""
    form = math.sqrt(largest(x.dtype)) / 100
    values = st.floats(-form, form) | st.sampled_from([0.0, -0.0, 1.0, -1.0, form, form])
    first, second = f.arguments(np.random.default_rng(0), x)
    drawn = data.draw(hnp.arrays(np.float64, second.shape, elements=values))
    arrays = (first, np.asarray(drawn).astype(x.dtype))
    f.check(f(*arrays, axis=-1), x.dtype, *arrays)


@st.composite
def losses(draw):
    """Draw (logits, target, keywords) of a loss, the classes along the last axis."""
    dtype = draw(st.sampled_from(FLOATS))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
    scale = draw(st.sampled_from([0.1, 3.0, 30.0]))
    rng = draw(generators)
    x, n, reduced = rng.normal(0, scale, shape).astype(dtype), shape[-1], shape[:-1]
    target = rng.integers(0, n, reduced)
    call = {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    ways = {
        "weight": lambda: rng.uniform(0.1, 3, n),
        "sample_weight": lambda: rng.uniform(0.1, 3, reduced),
        "label_smoothing": lambda: draw(st.sampled_from([0.1, 0.5, 1.0])),
        "temperature": lambda: rng.uniform(0.3, 3, reduced),
        "z_loss": lambda: draw(st.sampled_from([1e-4, 0.3])),
        "softcap": lambda: draw(st.sampled_from([2.0, 30.0])),
        "ignore_index": lambda: draw(st.integers(-1, n)),
    }
    for name in draw(st.lists(st.sampled_from(sorted(ways)), max_size=4, unique=True)):
        call[name] = ways[name]()
    if "ignore_index" not in call and draw(st.booleans()):
        target = rng.uniform(0, 1, shape) * (rng.random(shape) < 0.7)
    if draw(st.booleans()):
        call["where"] = rng.random(shape) < 0.8
        if target.dtype.kind == "f":
            target = np.where(call["where"], target, 0)
    return x, target, call


@given(case=losses())
def test_any_loss(case):
    """Any set of keywords: the loss and its gradient near the oracle's, the Hessian's product where there is one."""
    x, target, call = case
    cross_entropy.check(x, target, **call)
    if not {"z_loss", "softcap"} & set(call):
        cross_entropy.check_hvp(x, target, np.flip(x, axis=-1), **call)


@given(case=losses(), data=st.data())
def test_any_layout_of_a_loss(case, data):
    """The class axis anywhere, batches in any order, any part of the batch: each row keeps its bits."""
    x, target, call = case
    call["reduction"] = "none"
    loss, gradient = softmax_rs.cross_entropy_with_grad(x, target, **call)
    axis = data.draw(st.integers(0, x.ndim - 1))

    def moved(value):
        return np.moveaxis(value, -1, axis) if np.shape(value) == x.shape else value

    there = softmax_rs.cross_entropy_with_grad(
        moved(x), moved(target), axis=axis, **{k: moved(v) for k, v in call.items()}
    )
    assert_same_bits(there[0], loss, f"axis {axis}")
    assert_same_bits(there[1], moved(gradient), f"axis {axis}")
    if x.ndim > 1:

        def flipped(value):
            return value[::-1] if np.ndim(value) and np.shape(value)[: x.ndim - 1] == x.shape[:-1] else value

        kept = {k: v if k == "weight" else flipped(v) for k, v in call.items()}
        there = softmax_rs.cross_entropy_with_grad(x[::-1], flipped(target), **kept)
        assert_same_bits(there[0], loss[::-1], "batch reversed")
        assert_same_bits(there[1], gradient[::-1], "batch reversed")


@given(x=rows(size=30, bound=300), data=st.data())
def test_loss_and_gradient_of_index_targets(x, data):
    """No loss is negative, the gradient is so only at the target; the largest logit costs least."""
    target = data.draw(st.integers(0, x.size - 1))
    loss, gradient = softmax_rs.cross_entropy_with_grad(x, target)
    others = np.arange(x.size) != target
    assert loss >= 0 and gradient[target] <= 0 and (gradient[others] >= 0).all()
    assert loss >= softmax_rs.cross_entropy_with_grad(x, int(np.argmax(x)))[0]
    assert (gradient[others].astype(float) <= 1).all() and gradient[target] >= -1
