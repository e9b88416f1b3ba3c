"""Hazard: NaN, infinities, empty and masked rows. Each rule of special values, then every place of every vector."""

import numpy as np
import pytest

import ulps
from catalogue import BY_NAME, ELEMENTS, FROM_OUTPUT, FUNCTIONS, OF_TWO, ROWS, WITH_WHERE, one_row_at_a_time, whole
from kinds import KINDS
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
    """Yield (name, row, expected element-wise result or number) for the table's rows that are rows of numbers.

    Of two arrays, the other holds small whole numbers: then the formula's value in a one-hot row is exact. None stands
    for that value, which depends on them. (A row whose softmax is NaN has NaN derivatives, those of logsumexp too.)
    """
    big = largest(dtype)
    undefined = [NAN] * n
    plain = np.linspace(-2, 2, n)

    def special(name, row, elements, number):
        row = np.array(row, float).astype(dtype)
        if f in OF_TWO:
            return name, row, None if name in ("one finite", "max and -max") else NAN
        return name, row, elements if f.output == ELEMENTS else number

    yield special("all -inf", [-INF] * n, undefined, -INF)
    for at in {0, n // 2, n - 1}:
        yield special("+inf", np.where(np.arange(n) == at, INF, plain), undefined, INF)
        yield special("+inf, others -inf", np.where(np.arange(n) == at, INF, -INF), undefined, INF)
        yield special("nan", np.where(np.arange(n) == at, NAN, plain), undefined, NAN)
        yield special("nan, others -inf", np.where(np.arange(n) == at, NAN, -INF), undefined, NAN)
        yield special("nan, others +inf", np.where(np.arange(n) == at, NAN, INF), undefined, NAN)
        for a in (0.0, -0.0, 1.5, -big, big):
            alone = np.where(np.arange(n) == at, a, -INF)
            masked, one = -INF if f.name == "log_softmax" else 0.0, NAN if f in OF_TWO else f.one(a)
            yield special("one finite", alone, np.where(np.arange(n) == at, one, masked), one)
    yield special("all +inf", [INF] * n, undefined, INF)
    yield special("all nan", [NAN] * n, undefined, NAN)
    if n > 1:
        pair = [big, *[-big] * (n - 1)]
        lost, one = -INF if f.name == "log_softmax" else 0.0, NAN if f in OF_TWO else f.one(big)
        yield special("max and -max", pair, [one, *[lost] * (n - 1)], big)


def table(f, n, dtype, rng):
    """Return (names, arguments, wanted) of the cases, a row along the last axis."""
    names, rows, wanted = zip(*cases(f, n, dtype), strict=True)
    arrays = f.arguments(rng, np.array(rows, dtype), draw=whole)
    if f not in OF_TWO:
        return names, arrays, np.array(wanted, float)
    want = np.full(f.result_shape(arrays[0].shape, -1), NAN)
    exact = [w is None for w in wanted]
    want[exact] = f.reference(*(a[exact] for a in arrays), axis=-1)
    return names, arrays, np.where(np.abs(want) < 1e-300, 0, want)  # exp(-max) is none


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_table(f, dtype, place, rng):
    """The table's special rows, among ordinary ones, for every length, axis and layout."""
    for n in LENGTHS:
        names, arrays, want = table(f, n, dtype, rng)
        arrange, axis = PLACES[place]
        *arrays, want = (
            arrange(a) if a.ndim == 2 else np.repeat(a[:, None], 3, axis=1) if place == "axis 1 of 3" else a
            for a in (*arrays, want)
        )
        for layout in LAYOUTS:
            got = np.asarray(f(*map(LAYOUTS[layout], arrays), axis=axis)).astype(float)
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
        arrays = f.arguments(rng, x)
        got = f(*arrays, axis=-1)
        f.check(got, dtype, *arrays)
        if f.output == ELEMENTS and not f.name.startswith("log_softmax_"):
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
def test_empty(f, dtype, rng):
    """Empty axis, empty batch, and both, for every shape with zeros in it."""
    for shape in [(0,), (2, 0), (0, 2), (0, 0), (2, 0, 3), (0, 3, 2), (2, 3, 0)]:
        x = np.empty(shape, dtype)
        for axis in [*range(-len(shape), len(shape)), None, (), tuple(range(len(shape)))]:
            got = f(*f.arguments(rng, x, axis), axis=axis)
            assert got.dtype == dtype
            assert got.shape == f.result_shape(shape, axis), f"{f} {shape} axis={axis}: {got.shape}"
            if f.output == ROWS:
                assert (np.asarray(got).astype(float) == f.nothing).all(), f"{f} {shape} axis={axis}: {got}"
    two, none = (f.arguments(rng, np.empty(shape, dtype)) for shape in [(2, 0), (0, 2)])
    assert f(*two, axis=-1).shape == ((2,) if f.output == ROWS else (2, 0))
    assert f(*none, axis=-1).shape == ((0,) if f.output == ROWS else (0, 2))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_scalars_and_rows_of_one(f, dtype, rng):
    """0-d input with each axis that it has; axis=() makes a row of each element, special ones included."""
    big = largest(dtype)
    values = np.array([0, 1.5, -2, big, -big, INF, -INF, NAN]).astype(dtype)
    arrays, want = f.arguments(rng, values, (), whole), []
    for v, *beside in zip(values.astype(float), *(a.astype(float) for a in arrays[1:]), strict=True):
        undefined = v if f.name == "logsumexp" else NAN
        want.append(f.one(v, *beside) if np.isfinite(v) else undefined)
    for v, w, *row in zip(values, want, *arrays, strict=True):
        for axis in (None, -1, 0, ()):
            for x in (row, [np.array(a) for a in row]):
                got = f(*x, axis=axis)
                assert isinstance(got, np.generic) and got.dtype == dtype
                assert float(got) == w or (np.isnan(w) and np.isnan(float(got))), (
                    f"{f}{x!r} of {v}, axis={axis}: {got!r}"
                )
    for shape in [(8,), (2, 4), (2, 1, 4)]:
        got = f(*(a.reshape(shape) for a in arrays), axis=())
        assert got.shape == shape
        np.testing.assert_array_equal(got.astype(float).ravel(), want)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_one_element_is_exact(f, dtype, rng):
    """One finite element, alone, among -inf or among masked ones: exactly 1, 0 and a, for a of every magnitude."""
    big = largest(dtype)
    a = np.concatenate([rng.normal(0, 5, 1000), rng.normal(0, 1000, 500), 10 ** rng.uniform(-9, np.log10(big), 500)])
    a = np.clip(a, -big, big).astype(dtype)
    hot = [{"temperature": t} for t in (0.7, 1e-30, 3e30)] if f.accepts("temperature") else []
    for n, at in [(1, 0), (2, 1), (5, 0), (16, 7), (33, 32)]:
        x = np.full((len(a), n), -np.inf).astype(dtype)
        x[:, at] = a
        arrays, mask = f.arguments(rng, x, draw=whole), np.arange(n) == at
        beside = [b[:, at] if b.ndim == 2 else b for b in arrays[1:]]
        want = np.array([f.one(*row) for row in zip(a.astype(float), *(b.astype(float) for b in beside), strict=True)])
        masked = [np.where(mask, m, np.array(np.nan, dtype)) if m.ndim == 2 else m for m in arrays]
        results = [f(*masked, axis=-1, where=mask)]
        if n == 1 or not f.name.startswith("log_softmax_"):  # whose derivatives see the others' tangents
            results += [f(*arrays, axis=-1), f(*(m.T for m in arrays), axis=0).T]
            results += [f(*(m.T.copy() for m in arrays), axis=0).T]
            results += [f(*arrays, axis=-1, **keywords) for keywords in hot]
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
    x, *beside = (a if axis == -1 else a.T.copy() for a in f.sample(rng, (rows, n), dtype))
    clean = np.asarray(f(x, *beside, axis=axis))
    clean = clean.T if clean.ndim == 2 and axis == 0 else clean
    for poison in (NAN, INF, -INF):
        for i in range(rows):
            for j in range(n):
                bad = x.copy()
                bad[(i, j) if axis == -1 else (j, i)] = poison
                got = np.asarray(f(bad, *beside, axis=axis))
                got = got.T if got.ndim == 2 and axis == 0 else got
                others = np.arange(rows) != i
                same = (ulps.bits(got[others]) == ulps.bits(clean[others])).all()
                assert same, f"{f} {dtype} axis={axis}: {poison} at row {i}, element {j} changed another row"
                if poison != -INF and f not in FROM_OUTPUT:  # no forward call gives a row with one of these
                    assert (got[i] == INF if f.name == "logsumexp" and poison == INF else np.isnan(got[i])).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_one_canonical_nan(dtype, rng):
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
                arrays = f.raw(rng, x)
                given = [arrays]
                if f in OF_TWO:  # or in the other array
                    given += [(np.zeros_like(x), (x[:, n // 2] if f.name == "logsumexp_vjp" else x).copy())]
                for pair in given:
                    y = np.asarray(f(*(a if axis == -1 else a.T.copy() for a in pair), axis=axis))
                    found |= set(ulps.bits(y)[np.isnan(y.astype(float))].tolist())
    assert len(found) == 1, f"{dtype}: NaNs {[hex(b) for b in found]}"
    assert found.pop() & (exponent | quiet) == exponent | quiet


@pytest.mark.parametrize("k", KINDS, ids=str)
def test_one_canonical_nan_where_numbers_overflow(k, rng):
    """A NaN that only arises on the way (infinity less infinity, zero times infinity) is that one too."""
    nans = 0
    for dtype in FLOATS:
        big = float(largest(dtype))
        for shape in [*[(1, 4)] * 40, *[(40, 4), (40, 16), (3, 40), (20, 200)] * 3, (1, 270_000)]:
            if "jacobian" in k.name and shape[1] > 200:
                continue
            for axis in (-1, 0) if shape[1] <= 200 else (-1,):
                x, *beside = k.arrays(rng, np.zeros(shape, dtype), -1)
                for array in (x, *beside):
                    if array.dtype == dtype:
                        array[...] = rng.choice([0, 0, 0, 0.3, 1, big / 3, -big / 3, big, -big], array.shape).astype(
                            dtype
                        )
                if axis == 0:
                    x, *beside = (a.T.copy() for a in (x, *beside))
                keywords = {"temperature": float(rng.choice([1, 0.5]))} if k.accepts("temperature") else {}
                for result in map(np.asarray, k(x, *beside, axis=axis, **keywords)):
                    found = ulps.bits(result)[np.isnan(result.astype(float))]
                    nans += found.size
                    odd = found[found != ulps.bits(np.array([NAN], result.dtype))[0]]
                    assert odd.size == 0, (
                        f"{k} {dtype} {shape} axis={axis} {keywords}: {odd.size} NaNs, one of them {odd[0]:#x}"
                    )
    print(f"{k}: {nans} NaNs")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_WHERE, ids=str)
@pytest.mark.parametrize("axis", [-1, 0])
def test_masked_rows(f, dtype, axis, rng):
    """Masked wholly, and in part with NaN and infinities behind the mask or before it."""
    for n in LENGTHS:
        x, *beside = f.sample(rng, (40, n), dtype)
        mask = rng.random(x.shape) < 0.6
        mask[:8], mask[8:, 0] = False, True
        for array in (x, *beside):
            if array.ndim == 2:
                array[~mask] = rng.choice([NAN, INF, -INF, 0], (~mask).sum()).astype(dtype)
        if f in FROM_OUTPUT:
            x[8:24][mask[8:24]] = NAN  # what a forward call saves of an undefined row
        else:
            x[8:, 0] = rng.choice([NAN, INF, -INF, 1], 32).astype(dtype)
        *arrays, mask = (a if axis == -1 else a.T.copy() for a in (x, *beside, mask))
        got = f(*arrays, axis=axis, where=mask)
        want = f.reference(*arrays, axis=axis, where=mask)
        assert_nan = np.isnan(got.astype(float)) == np.isnan(want)
        assert assert_nan.all(), f"{f} {dtype} n={n} axis={axis}"
        if f.output == ELEMENTS:
            assert (got[~mask].astype(float) == f.masked).all(), f"{f} {dtype} n={n}: masked elements"
        else:
            assert (got[:8].astype(float) == f.nothing).all(), f"{f} {dtype} n={n}: rows masked wholly"
        assert_same_bits(got, one_row_at_a_time(f, arrays, axis, where=mask), f"{f} {dtype} n={n} axis={axis}")
