"""Hazard: what nobody thought of. Mathematics that holds for all inputs, on inputs that hypothesis invents."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from catalogue import BY_NAME, ELEMENTS, FUNCTIONS, WITH_TEMPERATURE, WITH_WHERE, one_row_at_a_time
from ulps import BFLOAT16, FLOAT64, FLOATS, assert_close, assert_same_bits, largest, ulp

softmax, log_softmax, logsumexp = (BY_NAME[name] for name in ("softmax", "log_softmax", "logsumexp"))
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
    got = f(x, axis=axis, **keywords)
    assert_same_bits(got, one_row_at_a_time(f, [x], axis, **keywords), f"{f} axis={axis}")
    want = f.reference(x, axis=axis, **keywords)
    assert (np.isnan(np.asarray(got).astype(float)) == np.isnan(want)).all()
    limit, scale = f.limit(want, x.dtype, 1, x, axis=axis, **keywords)
    assert_close(got, want, x.dtype, limit, scale=scale, label=f"{f} axis={axis}")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@given(x=rows(special=True, size=40))
def test_any_row(f, x):
    """Any row at all, against the oracle."""
    f.check(f(x, axis=-1), x.dtype, x)


@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
@given(x=rows(size=30), t=st.floats(5e-324, 1.7e308) | st.sampled_from([1e-30, 1e30, 0.7]))
def test_any_temperature(f, x, t):
    """Any row at any positive finite temperature."""
    f.check(f(x, axis=-1, temperature=t), x.dtype, x, temperature=t, label=f"T={t!r}")


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
    order = np.random.default_rng(seed).permutation(x.size)
    for f in FUNCTIONS:
        got = f(x[order], axis=-1)
        f.check(got, x.dtype, x[order])
        if f.output == ELEMENTS:
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


@given(x=rows(dtypes=(FLOAT64,), bound=300), t=st.floats(0.01, 100))
def test_temperature_divides(x, t):
    """Temperature t on t x, with t a power of two, is temperature 1 on x, bit for bit."""
    power = 2.0 ** round(math.log2(t))
    x = np.where(np.abs(x) < 1e-250, 0.0, x)
    for f in WITH_TEMPERATURE:
        label = f"T={power}"
        got = f(x * power, temperature=power)
        f.check(got, FLOAT64, x * power, temperature=power, label=label)
        f.check(got, FLOAT64, x, label=label)


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
