"""The core of the suite for one SIMD level, run in a process of its own; prints JSON.

`main` (test_simd_levels.py): accuracy for every tail length, special values, layouts: each function on each dtype; what
ran is counted, the bits of all results are hashed. `golden` (test_golden.py): the hashes of a fixed corpus.
"""

import hashlib
import json
import sys

import numpy as np

import recipes
import softmax_rs
import ulps
from catalogue import FUNCTIONS, OF_TWO, one_row_at_a_time
from every import KINDS, SQUARES, WAYS, Integers, corpus
from memory import LAYOUTS
from test_special_values import table

NAMES = (
    "normal 3",
    "uniform 80",
    "uniform 1e30",
    "offset -1.9e5",
    "offset 2.1e5",
    "saturated 40",
    "ties",
    "cancelling",
)


def main():  # noqa: C901 the list of what a level must show, in order
    """Run all cases, print what failed and what ran."""
    rng = np.random.default_rng(5)
    digest, failures, ran, worst = hashlib.sha256(), [], {}, {}

    def note(f, dtype, result, count=1):
        digest.update(np.ascontiguousarray(ulps.bits(result)).tobytes())
        key = f"{f.name} {dtype}"
        ran[key] = ran.get(key, 0) + count

    def attempt(check, *arguments, **keywords):
        try:
            return check(*arguments, **keywords)
        except AssertionError as error:
            failures.append(str(error))

    for f in FUNCTIONS:
        for dtype in ulps.FLOATS:
            key = f"{f.name} {dtype}"
            for n in [*range(1, 71), 127, 128, 129, 513, 1000]:
                all_names = n < (20 if dtype == ulps.FLOAT64 or f in OF_TWO else 71)
                x, _ = recipes.batch(rng, n, dtype, NAMES if all_names else NAMES[:2])
                arrays = f.arguments(rng, x)
                got = f(*arrays, axis=-1)
                note(f, dtype, got, len(x))
                worst[key] = max(worst.get(key, 0.0), attempt(f.check, got, dtype, *arrays) or 0.0)
                down = np.asarray(f(*(a.T.copy() for a in arrays), axis=0))
                attempt(ulps.assert_same_bits, down.T if down.ndim == 2 else down, got, f"{key} n={n} columns")
            arrays = f.sample(rng, (2, 33_000), dtype)
            note(f, dtype, f(*arrays, axis=-1), 2)
            if dtype != ulps.FLOAT64:
                attempt(f.check, f(*arrays, axis=-1), dtype, *arrays)
            if f.accepts("temperature"):
                x, t = recipes.batch(rng, 35, dtype, NAMES, recipes.TEMPERATURES[dtype])
                arrays = f.arguments(rng, x)
                got = f(*arrays, axis=-1, temperature=t)
                note(f, dtype, got, len(x))
                attempt(f.check, got, dtype, *arrays, temperature=t)
            for n in (1, 2, 7, 16, 33):
                names, arrays, want = table(f, n, dtype, rng)
                got = np.asarray(f(*arrays, axis=-1))
                note(f, dtype, got, len(got))
                value = got.astype(float)
                wrong = ~((value == want) | (np.isnan(value) & np.isnan(want)))
                attempt(assert_none, wrong, f"{key} n={n} special values {names}: {value[wrong]} not {want[wrong]}")
            for axis in (-1, 0, (0, 2)):
                arrays = f.sample(rng, (3, 4, 5), dtype, axis)
                want = one_row_at_a_time(f, arrays, axis)
                for name, layout in LAYOUTS.items():
                    got = f(*map(layout, arrays), axis=axis)
                    note(f, dtype, got, 1)
                    attempt(ulps.assert_same_bits, got, want, f"{key} axis={axis} {name}")
    report = {"level": softmax_rs.simd_level(), "digest": digest.hexdigest(), "ran": ran, "worst": worst}
    json.dump(report | {"failures": failures}, sys.stdout)


# Around the widths of vectors and groups of them; beyond a panel's rows, a batch, a row that is computed in one piece.
GOLDEN_LENGTHS = (1, 2, 3, 5, 8, 9, 16, 17, 31, 33, 64, 65, 100, 129, 257, 1000, 4099, 2**18 + 3)


def golden():
    """Hash the results of every function on the corpus, along both axes; print some of them, too."""
    results = {}
    for way in WAYS:
        for dtype in ulps.FLOATS:
            digest, some, calls = hashlib.sha256(), [], 0
            for n in GOLDEN_LENGTHS:
                if n > (130 if SQUARES in way.gives else 5000 if dtype in ulps.HALVES else n):
                    continue
                x = corpus(dtype, 2 * KINDS if n < 100 else KINDS if n < 5000 else 1, n)
                for axis in (-1, 0) if n < 100 else (-1,):
                    logits = x if axis == -1 else np.asfortranarray(x).T
                    got = way(*way.arguments(Integers(n), logits, axis), axis=axis)
                    for result in got:
                        nans = ulps.bits(result)[np.isnan(result.astype(float))]
                        odd = nans[nans != ulps.bits(np.array(np.nan, result.dtype))]
                        assert odd.size == 0, f"{way} {dtype} n={n}: a NaN that is not the canonical one: {odd[0]:#x}"
                        digest.update(np.ascontiguousarray(ulps.bits(result)).tobytes())
                    calls += 1
                    if n == 3 and axis == -1:
                        some = [float(value).hex() for value in got[-1].ravel()[:3]]
            results[f"{way} {dtype}"] = digest.hexdigest()[:16], some, calls
    json.dump({"level": softmax_rs.simd_level(), "results": results}, sys.stdout)


def assert_none(wrong, message):
    """Fail with the message if any is wrong."""
    assert not wrong.any(), message


if __name__ == "__main__":
    main()
