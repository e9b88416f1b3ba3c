"""Hazard: NaN, infinities, empty and masked rows. Section 3 of api.md, row by row, then every place of every vector."""

import numpy as np
import pytest

import ulps
from catalogue import BY_NAME, ELEMENTS, FUNCTIONS, ROWS, WITH_WHERE, one_row_at_a_time
from memory import LAYOUTS
from ulps import FLOATS, assert_same_bits, largest

INF, NAN = np.inf, np.nan
LENGTHS = (1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 100)
# A batch (rows, n), the row on the axis given; every special row must come out right wherever the row runs.
PLACES = {
    "1-d rows": (lambda rows: rows, -1),
    "axis 0": (lambda rows: rows.T.copy(), 0),
    "axis 0 of F": (lambda rows: rows.T, 0),
    "axis 1 of 3": (lambda rows: np.repeat(rows[:, :, None], 3, axis=2), 1),
    "two axes": (lambda rows: np.moveaxis(rows[:, None, :, None], 0, 1), (0, 2, 3)),
}


def cases(f, n, dtype):
    """Yield (name, row, expected element-wise result or number) for the table's rows that are rows of numbers."""
    big = largest(dtype)
    undefined = [NAN] * n
    plain = np.linspace(-2, 2, n)

    def special(name, row, elements, number):
        return name, np.array(row, float).astype(dtype), elements if f.output == ELEMENTS else number

    yield special("all -inf", [-INF] * n, undefined, -INF)
    for at in {0, n // 2, n - 1}:
        yield special("+inf", np.where(np.arange(n) == at, INF, plain), undefined, INF)
        yield special("+inf, others -inf", np.where(np.arange(n) == at, INF, -INF), undefined, INF)
        yield special("nan", np.where(np.arange(n) == at, NAN, plain), undefined, NAN)
        yield special("nan, others -inf", np.where(np.arange(n) == at, NAN, -INF), undefined, NAN)
        yield special("nan, others +inf", np.where(np.arange(n) == at, NAN, INF), undefined, NAN)
        for a in (0.0, -0.0, 1.5, -big, big):
            alone = np.where(np.arange(n) == at, a, -INF)
            masked = -INF if f.name == "log_softmax" else 0.0
            yield special("one finite", alone, np.where(np.arange(n) == at, f.one(a), masked), f.one(a))
    yield special("all +inf", [INF] * n, undefined, INF)
    yield special("all nan", [NAN] * n, undefined, NAN)
    if n > 1:
        pair = [big, *[-big] * (n - 1)]
        lost = -INF if f.name == "log_softmax" else 0.0
        yield special("max and -max", pair, [f.one(big), *[lost] * (n - 1)], big)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_table(f, dtype, place):
    """The table's special rows, among ordinary ones, for every length, axis and layout."""
    for n in LENGTHS:
        names, rows, wanted = zip(*cases(f, n, dtype), strict=True)
        arrange, axis = PLACES[place]
        x = arrange(np.array(rows, dtype))
        want = np.array(wanted, float)
        if f.output == ELEMENTS:
            want = arrange(want)
        elif place == "axis 1 of 3":
            want = np.repeat(want[:, None], 3, axis=1)
        for layout in LAYOUTS:
            got = np.asarray(f(LAYOUTS[layout](x), axis=axis)).astype(float)
            wrong = ~((got == want) | (np.isnan(got) & np.isnan(want)))
            assert not wrong.any(), f"{f} {dtype} {place} {layout} n={n}: {got[wrong]} not {want[wrong]}, rows {names}"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_some_minus_infinities(f, dtype, rng):
    """They get 0 (or -inf) and add nothing: the rest is that of the row without them, within the limits."""
    for n in LENGTHS[1:]:
        x = rng.normal(0, 3, (30, n)).astype(dtype)
        x[rng.random((30, n)) < 0.3] = -INF
        x[:, 0] = rng.normal(0, 3, 30).astype(dtype)
        got = f(x, axis=-1)
        f.check(got, dtype, x)
        if f.output == ELEMENTS:
            assert (got[np.isneginf(x.astype(float))].astype(float) == (-INF if f.name == "log_softmax" else 0)).all()


def test_printed_values():
    """The numbers of the table: [0, -40], and 100 000 zeros of float16 (a float16 sum would overflow)."""
    zeros = np.zeros(100_000, np.float16)
    softmax, log_softmax, logsumexp = (BY_NAME[name] for name in ("softmax", "log_softmax", "logsumexp"))
    assert set(softmax(zeros).tolist()) == {float(np.float16(1e-5))} == {1.0013580322265625e-05}
    assert set(log_softmax(zeros).tolist()) == {float(np.float16(-11.516))}
    assert logsumexp(zeros) == np.float16(11.516)
    assert log_softmax(np.array([0.0, -40.0])).tolist() == [-4.248354255291589e-18, -40.0]
    assert logsumexp(np.array([0.0, -40.0])) == 4.248354255291589e-18


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_empty(f, dtype):
    """Empty axis, empty batch, and both, for every shape with zeros in it."""
    for shape in [(0,), (2, 0), (0, 2), (0, 0), (2, 0, 3), (0, 3, 2), (2, 3, 0)]:
        x = np.empty(shape, dtype)
        for axis in [*range(-len(shape), len(shape)), None, (), tuple(range(len(shape)))]:
            got = f(x, axis=axis)
            assert got.dtype == dtype
            assert got.shape == f.result_shape(shape, axis), f"{f} {shape} axis={axis}: {got.shape}"
            if f.output == ROWS:
                assert np.isneginf(np.asarray(got).astype(float)).all(), f"{f} {shape} axis={axis}: {got}"
    assert f(np.empty((2, 0), dtype), axis=-1).shape == ((2,) if f.output == ROWS else (2, 0))
    assert f(np.empty((0, 2), dtype), axis=-1).shape == ((0,) if f.output == ROWS else (0, 2))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_scalars_and_rows_of_one(f, dtype):
    """0-d input with each axis that it has; axis=() makes a row of each element, special ones included."""
    big = largest(dtype)
    values = np.array([0, 1.5, -2, big, -big, INF, -INF, NAN]).astype(dtype)
    want = []
    for v in values.astype(float):
        row = NAN if np.isnan(v) else f.one(v) if np.isfinite(v) else NAN if f.output == ELEMENTS else v
        want.append(row)
    for v, w in zip(values, want, strict=True):
        for axis in (None, -1, 0, ()):
            for x in (v, np.array(v)):
                got = f(x, axis=axis)
                assert isinstance(got, np.generic) and got.dtype == dtype
                assert float(got) == w or (np.isnan(w) and np.isnan(float(got))), f"{f}({x!r}, axis={axis}) = {got!r}"
    for shape in [(8,), (2, 4), (2, 1, 4)]:
        got = f(values.reshape(shape), axis=())
        assert got.shape == shape
        np.testing.assert_array_equal(got.astype(float).ravel(), want)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_one_element_is_exact(f, dtype, rng):
    """One finite element, alone, among -inf or among masked ones: exactly 1, 0 and a, for a of every magnitude."""
    big = largest(dtype)
    a = np.concatenate([rng.normal(0, 5, 1000), rng.normal(0, 1000, 500), 10 ** rng.uniform(-9, np.log10(big), 500)])
    a = np.clip(a, -big, big).astype(dtype)
    want = np.array([f.one(v) for v in a.astype(float)])
    hot = [{"temperature": t} for t in (0.7, 1e-30, 3e30)] if f.accepts("temperature") else []
    for n, at in [(1, 0), (2, 1), (5, 0), (16, 7), (33, 32)]:
        x = np.full((len(a), n), -np.inf).astype(dtype)
        x[:, at] = a
        mask = np.arange(n) == at
        masked = np.where(mask, x, np.array(np.nan, dtype))
        results = [f(x, axis=-1), f(x.T, axis=0).T, f(x.T.copy(), axis=0).T, f(masked, axis=-1, where=mask)]
        results += [f(x, axis=-1, **keywords) for keywords in hot]
        for result in results:
            got = (result[:, at] if f.output == ELEMENTS else result).astype(float)
            wrong = np.flatnonzero(got != want)
            assert not wrong.size, (
                f"{f} {dtype} n={n} at {at}: {wrong.size} wrong, {got[wrong[0]]!r} of {a[wrong[0]]!r}"
            )


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@pytest.mark.parametrize("axis", [-1, 0])
def test_poison_stays_in_its_row(f, dtype, axis, rng):
    """Every (row, lane) poisoned in turn; all other rows must keep their bits."""
    rows, n = 19, 21
    (x,) = f.sample(rng, (rows, n), dtype)
    x = x if axis == -1 else x.T.copy()
    clean = np.asarray(f(x, axis=axis))
    clean = clean.T if clean.ndim == 2 and axis == 0 else clean
    for poison in (NAN, INF, -INF):
        for i in range(rows):
            for j in range(n):
                bad = x.copy()
                bad[(i, j) if axis == -1 else (j, i)] = poison
                got = np.asarray(f(bad, axis=axis))
                got = got.T if got.ndim == 2 and axis == 0 else got
                others = np.arange(rows) != i
                same = (ulps.bits(got[others]) == ulps.bits(clean[others])).all()
                assert same, f"{f} {dtype} axis={axis}: {poison} at row {i}, element {j} changed another row"
                if poison != -INF:
                    assert (np.isnan(got[i]) if f.output == ELEMENTS or np.isnan(poison) else got[i] == INF).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_one_canonical_nan(dtype):
    """Whatever NaN went in (signalling, negative, with a payload), the same quiet NaN comes out, everywhere."""
    form = ulps.FORMATS[dtype]
    quiet, width = 1 << (form.precision - 2), dtype.itemsize * 8
    exponent = ((1 << (width - form.precision)) - 1) << (form.precision - 1)
    patterns = np.array([exponent | 1, exponent | quiet, exponent | quiet | 5], f"u{dtype.itemsize}")
    patterns = np.concatenate([patterns, patterns | np.array(1 << (width - 1), patterns.dtype)])
    found = set()
    for f in FUNCTIONS:
        for n in (1, 2, 16, 40):
            for axis in (-1, 0):
                x = np.zeros((len(patterns) + 2, n), dtype)
                x[: len(patterns), n // 2] = patterns.view(dtype)
                x[-2, n - 1] = INF
                x[-1] = -INF
                y = np.asarray(f(x if axis == -1 else x.T.copy(), axis=axis))
                found |= set(ulps.bits(y)[np.isnan(y.astype(float))].tolist())
    assert len(found) == 1, f"{dtype}: NaNs {[hex(b) for b in found]}"
    assert found.pop() & (exponent | quiet) == exponent | quiet


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_WHERE, ids=str)
@pytest.mark.parametrize("axis", [-1, 0])
def test_masked_rows(f, dtype, axis, rng):
    """Masked wholly, and in part with NaN and infinities behind the mask or before it."""
    for n in LENGTHS:
        (x,) = f.sample(rng, (40, n), dtype)
        mask = rng.random(x.shape) < 0.6
        mask[:8] = False
        x[~mask] = rng.choice([NAN, INF, -INF, 0], (~mask).sum()).astype(dtype)
        mask[8:, 0] = True
        x[8:, 0] = rng.choice([NAN, INF, -INF, 1], 32).astype(dtype)
        x, mask = (x, mask) if axis == -1 else (x.T.copy(), mask.T.copy())
        got = f(x, axis=axis, where=mask)
        want = f.reference(x, axis=axis, where=mask)
        assert_nan = np.isnan(got.astype(float)) == np.isnan(want)
        assert assert_nan.all(), f"{f} {dtype} n={n} axis={axis}"
        if f.output == ELEMENTS:
            assert (got[~mask].astype(float) == f.masked).all(), f"{f} {dtype} n={n}: masked elements"
        else:
            assert np.isneginf(got[:8].astype(float)).all(), f"{f} {dtype} n={n}: rows masked wholly"
        assert_same_bits(got, one_row_at_a_time(f, [x], axis, where=mask), f"{f} {dtype} n={n} axis={axis}")
