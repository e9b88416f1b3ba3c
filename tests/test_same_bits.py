"""Hazard: last digits that depend on threads, batch, place, alignment. A row's bits depend on the row alone."""

import numpy as np
import pytest

import softmax_rs
from catalogue import ELEMENTS, FUNCTIONS, WITH_OUT, WITH_TEMPERATURE, WITH_WHERE
from ulps import BFLOAT16, CANCELLED_LIMIT, FLOAT16, FLOAT32, FLOAT64, FLOATS, assert_close, assert_same_bits, bits

THREADS = (1, 2, 5)
# Every way to walk an array, each far above the size from which calls are split among threads.
REGIMES = {
    "rows in cache": ((1024, 1000), -1, FLOAT32),
    "rows in cache, float64": ((512, 1000), -1, FLOAT64),
    "short rows": ((100_000, 10), -1, FLOAT32),
    "rows of three": ((200_000, 3), -1, FLOAT64),
    "one long row": ((3_000_000,), -1, FLOAT32),
    "one long row, float64": ((1_500_000,), -1, FLOAT64),
    "few long rows": ((7, 200_000), -1, FLOAT32),
    "columns": ((1000, 1024), 0, FLOAT32),
    "short columns": ((3, 300_000), 0, FLOAT32),
    "tall column": ((300_000, 3), 0, FLOAT64),
    "middle axis": ((40, 128, 150), 1, FLOAT32),
    "two axes": ((60, 50, 200), (0, 2), FLOAT32),
    "all axes": ((30, 100, 300), None, FLOAT64),
    "float16": ((700, 1000), -1, FLOAT16),
    "bfloat16 columns": ((1000, 700), 0, BFLOAT16),
    "float16, one row": ((1_000_000,), -1, FLOAT16),
}


def same_for_all_threads(call, label):
    """Compare the bits of `call()` for every number of threads; return them."""
    results = []
    for n in THREADS:
        with softmax_rs.threads(n):
            assert softmax_rs.get_num_threads() == n
            results.append(call())
    for n, result in zip(THREADS[1:], results[1:], strict=True):
        assert_same_bits(result, results[0], f"{label}: {n} threads against 1")
    return results[0]


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
@pytest.mark.parametrize("regime", REGIMES)
def test_threads(f, regime, rng):
    """1, 2 and 5 threads; plain, in place, strided, masked, a temperature per row; a special value among the rest."""
    shape, axis, dtype = REGIMES[regime]
    arrays = f.sample(rng, shape, dtype, axis)
    x, beside = arrays[0], arrays[1:]
    at = tuple(np.array(shape) // 3)
    x[at] = np.nan if regime != "one long row" else -np.inf
    want = same_for_all_threads(lambda: f(*arrays, axis=axis), f"{f} {regime}")
    padded = [np.empty([n + 1 for n in a.shape], dtype)[(*(slice(1, None) for _ in a.shape), ...)] for a in arrays]
    for room, array in zip(padded, arrays, strict=True):
        room[...] = array
    assert_same_bits(f(*padded, axis=axis), want, f"{f} {regime} padded")
    if f in WITH_OUT and f.output == ELEMENTS:

        def in_place():
            y = x.copy()
            return f(y, *beside, axis=axis, out=y)

        assert_same_bits(same_for_all_threads(in_place, f"{f} {regime} in place"), want, f"{f} {regime} in place")
    if f in WITH_WHERE:
        mask = rng.random(shape) < 0.8
        same_for_all_threads(lambda: f(*arrays, axis=axis, where=mask), f"{f} {regime} where")
        all_true = np.broadcast_to(True, shape)
        assert_same_bits(f(*arrays, axis=axis, where=all_true), want, f"{f} {regime} where all True")
    if f in WITH_TEMPERATURE and axis is not None:
        axes = tuple(np.atleast_1d(axis) % len(shape))
        t = 10 ** rng.uniform(-1, 1, [n for a, n in enumerate(shape) if a not in axes])
        same_for_all_threads(lambda: f(*arrays, axis=axis, temperature=t), f"{f} {regime} temperature")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_set_num_threads_does_not_matter_either(f, rng):
    """The process-wide setting, and whatever the default is."""
    arrays = f.sample(rng, (600, 1000), FLOAT32)
    default, want = softmax_rs.get_num_threads(), f(*arrays, axis=-1)
    try:
        for n in THREADS:
            softmax_rs.set_num_threads(n)
            assert_same_bits(f(*arrays, axis=-1), want, f"{f} set_num_threads({n})")
    finally:
        softmax_rs.set_num_threads(default)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_a_row_alone_and_in_any_place_of_a_batch(f, dtype, rng):
    """The same row in every place of batches of 1 to 17 rows, among others, along the last axis and the first."""
    for n in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 65, 100, 513):
        row = f.sample(rng, (n,), dtype)
        alone = np.asarray(f(*row, axis=-1))
        for rows in (1, 2, 3, 4, 5, 7, 8, 9, 16, 17):
            for others in (0, 50):
                arrays = f.raw(rng, rng.normal(others, 3, (rows, n)).astype(dtype))
                places = slice(None, None, 2 if others else 1)
                for array, part in zip(arrays, row, strict=True):
                    array[places] = part
                want = np.broadcast_to(alone, f.result_shape(arrays[0][places].shape, -1))
                assert_same_bits(f(*arrays, axis=-1)[places], want, f"{f} {dtype} n={n} among {rows}")
                down = np.asarray(f(*(a.T.copy() for a in arrays), axis=0))
                down = down.T if down.ndim == 2 else down
                assert_same_bits(down[places], want, f"{f} {dtype} n={n} among {rows} columns")


@pytest.mark.parametrize("n", [120, 257, 513, 1000, 1024, 1025, 1500])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_more_rows_than_a_batch_has(f, dtype, n, rng):
    """Results of a batch may wait for the next one; special rows, the last batch shorter: each row as it is alone."""
    near = (128 << 10) // (n * dtype.itemsize)  # what stays in the second-level cache
    for rows in (near, near - 1, near + 40):
        arrays = f.sample(rng, (rows, n), dtype)
        x = arrays[0]
        for row, value in ((0, np.nan), (4, np.inf), (5, -np.inf), (6, 1e30), (7, 1e30), (rows - 1, np.nan)):
            x[row, row % n] = value
        if f.name.endswith("softmax"):
            x[3] = -np.inf
        t = 10 ** rng.uniform(-1, 1, rows)
        for keywords in ({}, {"temperature": t}) if f in WITH_TEMPERATURE else ({},):
            each = []
            for r in range(rows):
                own = {name: value[r : r + 1] for name, value in keywords.items()}
                each.append(f(*(a[r : r + 1] for a in arrays), axis=1, **own))
            want, label = np.concatenate(each), f"{f} {dtype} {rows}x{n} {list(keywords)}"
            assert_same_bits(f(*arrays, axis=1, **keywords), want, label)
            if f in WITH_OUT and f.output == ELEMENTS:
                y = x.copy()
                f(y, *arrays[1:], axis=1, out=y, **keywords)
                assert_same_bits(y, want, f"{label} in place")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_alignment(f, dtype, rng):
    """The array and out at each of 64 starting bytes."""
    for shape in [(77,), (5, 33), (40, 3)]:
        arrays = f.sample(rng, shape, dtype)
        want = f(*arrays, axis=-1)
        rooms = [np.zeros(a.nbytes + 64, np.uint8) for a in arrays]
        for offset in range(64):
            moved = []
            for array, room, start in zip(arrays, rooms, (offset, offset * 7 % 64), strict=False):
                moved.append(np.ndarray(array.shape, dtype, buffer=room, offset=start))
                moved[-1][...] = array
            assert_same_bits(f(*moved, axis=-1), want, f"{f} {dtype} {shape} offset {offset}")
            if f in WITH_OUT and f.output == ELEMENTS:
                f(*moved, axis=-1, out=moved[0])
                assert_same_bits(moved[0], want, f"{f} {dtype} {shape} offset {offset} in place")


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_repeated_calls(f, rng):
    """The same call from eight Python threads at once, again and again."""
    from concurrent.futures import ThreadPoolExecutor

    given = [f.sample(rng, shape, FLOAT32) for shape in [(300, 1000), (10,), (50_000, 3), (400_000,)]]
    want = [np.asarray(f(*arrays, axis=-1)) for arrays in given]

    def work(i):
        return i % 4, np.asarray(f(*given[i % 4], axis=-1))

    with ThreadPoolExecutor(8) as pool:
        for i, got in pool.map(work, range(200 if len(f.names) == 1 else 80)):
            assert (bits(got) == bits(want[i])).all(), f"{f} {given[i][0].shape}"


@pytest.mark.parametrize("n", [*range(2, 36), 48, 97, 200, 1000, 4095, 4096, 4097, 8200, 300_000])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16])
def test_rows_that_cancel(n, dtype, rng):
    """logsumexp of log-probabilities is done again in float64, row by row: right, and in every layout the same bits."""
    rows = 35 if n < 10_000 else 3
    x = softmax_rs.log_softmax(rng.normal(0, 3, (rows, n))).astype(dtype)
    x[::3] += 2  # these do not cancel
    want = softmax_rs.logsumexp(x, axis=1)
    exact = softmax_rs.logsumexp(x.astype(FLOAT64), axis=1)
    assert_close(want, exact, dtype, CANCELLED_LIMIT, rows=x, label=f"{dtype} {n}")
    padded = np.full((rows, n + 1), np.nan, dtype)
    padded[:, 1:] = x
    ways = {
        "columns": softmax_rs.logsumexp(np.asfortranarray(x), axis=1),
        "padded": softmax_rs.logsumexp(padded[:, 1:], axis=1),
        "backwards": softmax_rs.logsumexp(x[::-1].copy()[::-1], axis=1),
        "swapped": softmax_rs.logsumexp(x.astype(x.dtype.newbyteorder()), axis=1),
        "masked": softmax_rs.logsumexp(x, axis=1, where=np.broadcast_to(True, x.shape)),
        "one by one": np.array([softmax_rs.logsumexp(row) for row in x]),
        "two axes": softmax_rs.logsumexp(np.stack([x, x], 1), axis=2)[:, 1],
    }
    for way, got in ways.items():
        assert_same_bits(got, want, f"{dtype} {n} {way}")


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("f", [f for f in FUNCTIONS if len(f.names) == 2 and f.name != "logsumexp_vjp"], ids=str)
def test_the_maximum_at_every_place(f, dtype, rng):
    """Functions of a vector look for its number at the maximum: along a row, of a few at once, and across rows.

    Row i has its maximum at i; every other one has a second maximum further on, where the vector has another number.
    """
    for n in (*range(1, 140), 300, 1000):
        x, v = rng.normal(0, 1, (2, n, n)).astype(dtype)
        i = np.arange(n)
        x[i, i] = 9
        x[i[::2], (n + i[::2]) // 2] = 9
        if f.name in {"softmax_backward", "log_softmax_backward"}:
            x = getattr(softmax_rs, f.name.removesuffix("_backward"))(x)
        few = 5 if n < 200 else 40
        along = np.concatenate([f(x[r : r + few], v[r : r + few], axis=1) for r in range(0, n, few)])
        across = f(np.asfortranarray(x), np.asfortranarray(v), axis=1)
        assert_same_bits(along, across, f"{f} {dtype} {n}")


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_zeros_of_both_signs_are_one_maximum(f, dtype, rng):
    """Which of 0 and -0 a search for the maximum brings depends on the layout: it must not show."""
    for n in (4, 17, 64, 100, 300):
        rows = 3000 if n < 300 and dtype == FLOAT64 else 100  # one in some hundred showed it
        x = (-rng.exponential(2, (rows, n))).astype(dtype)
        at = rng.permuted(np.broadcast_to(np.arange(n), x.shape), axis=1)[:, :3]
        np.put_along_axis(x, at, rng.choice([0.0, -0.0], (rows, 3)).astype(dtype), axis=1)
        arrays = f.arguments(rng, x)
        want = f(*arrays, axis=-1)
        columns = [np.ascontiguousarray(a.T) for a in arrays]
        across = f(*columns, axis=0)
        assert_same_bits(across.T if f.output == ELEMENTS else across, want, f"{f} {dtype} n={n} columns")
        for i in range(100):
            alone = f(*(a[i] for a in arrays), axis=-1)
            assert_same_bits(alone, want[i], f"{f} {dtype} n={n} row {i} alone")
