"""Hazard: wrong digits. Every function, dtype, tail length, spread, offset and temperature against the oracle."""

import numpy as np
import pytest

import recipes
import reference
import softmax_rs
import ulps
from catalogue import BY_NAME, FUNCTIONS, OF_TWO, WITH_TEMPERATURE, whole
from ulps import FLOAT16, FLOAT32, FLOAT64, FLOATS

SHORT = range(1, 71)
LONGER = (100, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1000)
LONGEST = (4095, 4096, 4097, 32000)
FEW = ("normal 3", "uniform 80", "offset -300", "saturated 40", "cancelling")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@pytest.mark.parametrize("lengths", [SHORT, LONGER], ids=["1 to 70", "100 to 1000"])
def test_lengths(f, dtype, lengths, rng):
    """Every tail length of every vector width, with every recipe."""
    names = tuple(recipes.RECIPES) if lengths is SHORT or dtype != FLOAT64 else FEW
    for n in lengths:
        x, _ = recipes.batch(rng, n, dtype, names)
        arrays = f.arguments(rng, x)
        f.check(f(*arrays, axis=-1), dtype, *arrays)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@pytest.mark.parametrize("n", LONGEST)
def test_long_rows(f, dtype, n, rng):
    """Rows of several blocks: the error must not grow with the row."""
    x, _ = recipes.batch(rng, n, dtype, FEW if n < 5000 else FEW[:2])
    arrays = f.arguments(rng, x)
    f.check(f(*arrays, axis=-1), dtype, *arrays)


@pytest.mark.parametrize("dtype", [FLOAT16, FLOAT32], ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_very_long_row(f, dtype, rng):
    """A row of a million (of two arrays, fewer): one float32 chain of sums would be off by hundreds of ULPs."""
    arrays = f.sample(rng, (1, 1_000_003 if f not in OF_TWO else 300_003), dtype)
    f.check(f(*arrays, axis=-1), dtype, *arrays)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
def test_temperatures(f, dtype, rng):
    """Temperatures from 1e-30 to 1e30, one per row, as accurate as none; the scalar gives the bits of the array."""
    for n in (1, 2, 7, 16, 33, 64, 200) if dtype != FLOAT64 else (1, 2, 9, 33, 64):
        x, t = recipes.batch(rng, n, dtype, temperatures=recipes.TEMPERATURES[dtype])
        arrays = f.arguments(rng, x)
        actual = f(*arrays, axis=-1, temperature=t)
        f.check(actual, dtype, *arrays, temperature=t, label="temperature")
        for value in np.unique(t):
            alone = f(*(a[t == value] for a in arrays), axis=-1, temperature=value)
            ulps.assert_same_bits(alone, actual[t == value], f"{f} T={value}")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
def test_the_temperature_is_a_double(f, dtype, rng):
    """0.7 means the double 0.7: with logits of scale 60 its float32 neighbour would be many ULPs away."""
    arrays = f.arguments(rng, rng.uniform(-60, 0, (50, 20)).astype(dtype))
    f.check(f(*arrays, axis=-1, temperature=0.7), dtype, *arrays, temperature=0.7)
    f.check(f(*arrays, axis=-1, temperature=np.float32(0.7)), dtype, *arrays, temperature=float(np.float32(0.7)))


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_other_dtypes_count_as_float64(f, rng):
    """Integers and bool."""
    for dtype in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"):
        x = rng.integers(0, 2 if dtype == "?" else 100, (20, 13)).astype(dtype)
        arrays = f.arguments(rng, x)
        f.check(f(*arrays, axis=-1), FLOAT64, *(a.astype(np.float64) for a in arrays), label=dtype)


def test_the_tail_is_kept(rng):
    """Digits that a sum rounded to 1 loses."""
    x = np.array([0.0, -40.0])
    assert BY_NAME["log_softmax"](x)[0] == -4.248354255291589e-18
    assert BY_NAME["log_softmax"](x)[1] == -40
    assert BY_NAME["logsumexp"](x) == 4.248354255291589e-18
    for tail in (41, 90, 300, 700):
        pair = np.array([[0.0, -tail], [-tail, 0.0]])
        for f in FUNCTIONS:
            arrays = f.arguments(rng, pair)
            f.check(f(*arrays, axis=-1), FLOAT64, *arrays)


def number(text):
    """Return the float that stands there, in decimal or hexadecimal digits; a float is one already."""
    return text if isinstance(text, float) else float.fromhex(text) if "x" in text else float(text)


def few(n, rest, **large):
    """Return a row of `rest` but for some elements: x3=0.5 is the one at 3."""
    row = np.full(n, number(rest))
    for name, value in large.items():
        row[int(name[1:])] = number(value)
    return row


# What searches found to be worst: where few exponentials are nearly all of a sum, and the others round it.
WORST_ROWS = {
    FLOAT32: (
        few(64, -14.623113632202148, x0=0.0, x1=-0.33740100264549255),
        few(64, -14.235307693481445, x0=0.3217470049858093, x1=0.28053799271583557),
        few(48, -12.696695327758789, x25=0.11713500320911407, x0=-0.34883299469947815),
        few(48, -13.409191131591797, x38=-0.04153300076723099, x7=-1.746269941329956),
        np.array([0.21205130219459534] + 24 * [-2.4259016513824463] + 39 * [-np.inf]),
    ),
    FLOAT64: (
        few(64, -33.595734, x0=0.4996, x1=0.479255),
        few(64, -32.247364, x0=-0.168394, x1=-0.170278),
        few(56, -12.745409, x47=0.225452, x46=-0.222465),
    ),
}


def rows_of_few(dtype, rng):
    """Yield rows whose largest elements are few, or one in each lane of a vector, and all others far below them."""
    for row in WORST_ROWS[dtype]:
        yield row[None]
    lanes = 64 // dtype.itemsize
    for n in (24, 40, 56, 64, 72, 100, 200):
        depth = rng.uniform(12, 21 if dtype == FLOAT32 else 38, (200, 1))
        x = np.broadcast_to(-depth, (200, n)).copy()
        every = np.arange(200)
        for k in range(rng.integers(2, 9)):
            at = rng.integers(0, n, 200)
            x[every, at] = -rng.uniform(0, 0.7, 200) if k else 0
        yield x
        if n >= 2 * lanes:
            alike = np.broadcast_to(-depth, (200, n)).copy()
            alike[:, :lanes] = -rng.uniform(0, 2, (200, 1))
            alike[every, rng.integers(lanes, n, 200)] = 0
            yield alike


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_few_large_elements(dtype, rng):
    """The rest at a depth at which a large element is rounded as one of them is added to it."""
    for rows in rows_of_few(dtype, rng):
        all_rows = rows.astype(dtype)
        certain = BY_NAME["softmax"].reference(all_rows).max(axis=-1) > ulps.CERTAIN
        short = certain | (all_rows.shape[1] < ulps.LONG)
        for long, x in enumerate((all_rows[short], all_rows[~short])):
            limits = ulps.SOFTMAX_LIMIT[dtype], ulps.LOG_SOFTMAX_LIMIT[dtype][long]
            for name, limit in zip(("softmax", "log_softmax"), limits, strict=True):
                ulps.assert_close(BY_NAME[name](x), BY_NAME[name].reference(x), dtype, limit, rows=x, label=name)
            limit = ulps.LOGSUMEXP_LIMIT[dtype]
            actual, expected = BY_NAME["logsumexp"](x, axis=-1), BY_NAME["logsumexp"].reference(x, axis=-1)
            scale = reference.logsumexp_scale(x, axis=-1)
            ulps.assert_close(actual, expected, dtype, limit, scale=scale, rows=x, label="logsumexp")
            # The loss of the class at the maximum is nothing but log1p of the others' sum.
            top = np.argmax(x, axis=-1)
            expected = -np.take_along_axis(BY_NAME["log_softmax"].reference(x), top[:, None], axis=-1)[:, 0]
            loss = softmax_rs.cross_entropy(x, top, reduction="none")
            fused, _ = softmax_rs.cross_entropy_with_grad(x, top, reduction="none")
            limits = limit, ulps.CLASS_LOSS_LIMIT[dtype][0]
            for label, actual, limit in zip(
                ("cross_entropy", "cross_entropy_with_grad"), (loss, fused), limits, strict=True
            ):
                ulps.assert_close(actual, expected, dtype, limit, rows=x, label=label)


# Results just below a power of two, of a difference that is rounded just above it; and rows beyond the exponent shift's
# reach, which are moved. What searches found: the row, its temperature, the limit.
BELOW_A_POWER = {
    "1 at T = 0.95": (
        FLOAT32,
        few(64, "0x1.06e6fap+8", x0="0x1.09863ep+8", x1="0x1.095f58p+8"),
        "0x1.e62d923b390aap-2",
        1.5,
    ),
    "1 at an offset": (
        FLOAT32,
        few(64, "0x1.ce25eap+20", x0="0x1.2e33b8p+21", x1="0x1.2e338p+21", x2="0x1.2e32b6p+21"),
        "0x1.36c4fad7f663dp+4",
        1.5,
    ),
    "1 in float64": (
        FLOAT64,
        few(3, "-0x1.928aa2af12dbap+1", x0="-0x1.5fd13021e1668p+1", x1="-0x1.6099fefce7cb5p+1"),
        "0x1.2734e85a0ccdap+0",
        2.0,
    ),
    "1 in float64 at T = 1": (
        FLOAT64,
        few(
            4, "-0x1.79ee0564b352ap-2", x0="0x1.5fa96f139d959p-4", x1="0x1.69054101df0edp-5", x2="-0x1.0e2def0f92f3bp+2"
        ),
        "0x1p+0",
        2.0,
    ),
    "moved": (
        FLOAT32,
        few(64, "-94255728", x0="-2044372.5", x1="-2044372.5", x2="-10531393"),
        "2.028614324852504",
        2.75,
    ),
    "moved, three": (
        FLOAT32,
        few(3, "-1043951.1875", x0="521975.5625", x1="-530281.125"),
        "0x1.00e60b7f82554p+0",
        2.75,
    ),
}


@pytest.mark.parametrize("row", BELOW_A_POWER)
def test_log_softmax_below_a_power_of_two(row):
    """Nothing that the first of two roundings takes may be lost."""
    dtype, x, temperature, limit = BELOW_A_POWER[row]
    f, x, t = BY_NAME["log_softmax"], x.astype(dtype), number(temperature)
    ulps.assert_close(f(x, temperature=t), f.reference(x, temperature=t), dtype, limit, rows=x, label=row)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_a_masked_off_tail_adds_nothing(f, dtype, rng):
    """Elements so far below that exp gives 0 (and -inf): the result is exactly that of the maximum alone."""
    x = np.full((8, 9), -np.inf).astype(dtype)
    x[np.arange(8), np.arange(8)] = 0
    x[:4] = np.where(np.isinf(x[:4].astype(float)), -2000, 0).astype(dtype)
    arrays = f.arguments(rng, x, draw=whole)
    got = np.asarray(f(*arrays, axis=-1)).astype(float)
    want = f.reference(*arrays, axis=-1).astype(float)
    want[np.abs(want) < 1e-300] = 0
    assert np.array_equal(got, want), f"{f} {dtype}: {got}"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_subnormal_results_are_results(dtype):
    """No flush to zero: softmax of [0, -d] for every d in the subnormal range of the dtype."""
    form = ulps.FORMATS[dtype]
    low, high = -form.smallest * np.log(2), (-form.smallest + form.precision - 1) * np.log(2)
    x = np.zeros((400, 2), dtype)
    x[:, 1] = -np.linspace(low - 1, high + 1, 400)
    softmax = BY_NAME["softmax"]
    p = softmax(x)
    softmax.check(p, dtype, x)
    tiny = np.abs(p[:, 1].astype(float))
    assert ((tiny > 0) & (tiny < 2.0**form.smallest)).sum() > 300


@pytest.mark.parametrize("f", [f for f in WITH_TEMPERATURE if "backward" not in f.name], ids=str)
def test_a_small_temperature_brings_back_what_is_subnormal(f, rng):
    """Probabilities, and products with the vector, below the normal float32 numbers, over a temperature below 1."""
    below = np.linspace(-106, -55, 103)
    for t in (0.3, 1e-2, 1e-3, 1e-6, 1e-9):
        x = np.zeros((len(below), 3), np.float32)
        x[:, 1], x[:, 2] = below * t, below[::-1] * t
        for size in (1.0, 1e-4, 1e4):
            arrays = f.arguments(rng, x)
            for array in arrays[1:]:
                np.multiply(array, np.float32(size), out=array)
                array[::2, 0] = array[::2, 2]  # a difference of 0: what is left is the mean's
            f.check(f(*arrays, axis=-1, temperature=t), FLOAT32, *arrays, temperature=t, label=f"T={t} size={size}")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_rank_order_is_kept(dtype, rng):
    """x_i > x_j must never give p_i < p_j: neighbouring floats over 100 logits' worth of range, around many maxima."""
    for maximum in (0.0, 1.0, -1.0, 17.3, -300.0, 1e4, 1.9e5, -2.5e5):
        if abs(maximum) > ulps.largest(dtype):
            continue
        top = np.array(maximum, dtype)
        starts = (top.astype(float) - rng.uniform(0, 100, 300)).astype(dtype)
        steps = np.arange(40) * np.maximum(ulps.ulp(starts, dtype)[:, None], ulps.ulp(np.float64(1e-6), dtype))
        x = (starts[:, None].astype(np.longdouble) + steps).astype(dtype).ravel()
        x = np.append(np.sort(np.minimum(x, top)), top)
        for f in (BY_NAME["softmax"], BY_NAME["log_softmax"]):
            y = f(x).astype(float)
            down = np.flatnonzero(np.diff(y) < 0)
            assert down.size == 0, f"{f} {dtype}: {x[down[0] : down[0] + 2]} gave {y[down[0] : down[0] + 2]}, max {top}"


def test_limits_of_the_temperature():
    """T to 0: one-hot, ties share; T to infinity: uniform. An overflow of x/T alone makes no NaN."""
    softmax, log_softmax = BY_NAME["softmax"], BY_NAME["log_softmax"]
    for dtype in FLOATS:
        x = np.array([1, 3, 2, 3], dtype)
        for t in (1e-30, 1e-300, 5e-324):
            assert softmax(x, temperature=t).tolist() == [0, 0.5, 0, 0.5]
            assert softmax(x[:3], temperature=t).tolist() == [0, 1, 0]
            cold = log_softmax(x, temperature=t).astype(float)
            assert cold[1] == cold[3] == -float(np.array(np.log(2), dtype))
            assert cold[0] < -1e4 and cold[2] < -1e4
        for t in (1e30, 1e300, 1.7e308):
            assert softmax(x, temperature=t).tolist() == [0.25] * 4
        big = np.array([ulps.largest(dtype), -ulps.largest(dtype), ulps.largest(dtype)], dtype)
        for t in (1e-30, 5e-324, 0.5):
            assert softmax(big, temperature=t).tolist() == [0.5, 0, 0.5]
            assert log_softmax(big, temperature=t).tolist()[1] == -np.inf
        for t in (2.0**1000, 1.7e308):
            assert softmax(big, temperature=t).astype(float).sum() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
def test_overflow_only_where_the_true_value_overflows(f, dtype, rng):
    """Logits near the ends of the dtype at T from 1/4 to 8: (x - m)/T comes close to the last number, and beyond."""
    big = ulps.largest(dtype)
    for t in (0.25, 0.3, 0.5, 0.75, 1.0, 1.3, 2.0, 3.0, 8.0):
        low = -np.longdouble(big) * np.concatenate(
            [np.linspace(-0.9, 1, 60), t * (1 + np.array([-0.4, -0.1, -0.01, 0.01, 0.1]))]
        )
        low = np.clip(low, -big, big).astype(np.float64)
        for top in (0.0, big, big / 2, -big / 4):
            x = np.stack([np.minimum(low, top), np.full_like(low, top)], axis=1).astype(dtype)
            arrays = f.arguments(rng, x)
            f.check(f(*arrays, temperature=t), dtype, *arrays, temperature=t, label=f"T={t}")
