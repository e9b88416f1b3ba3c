"""Hazard: the temperature: its types, shapes and forbidden values. (Its accuracy: test_accuracy.py.)"""

import numpy as np
import pytest

from catalogue import WITH_TEMPERATURE, one_row_at_a_time
from memory import LAYOUTS
from ulps import BFLOAT16, FLOAT32, FLOAT64, FLOATS, assert_same_bits


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
def test_one_is_none(f, dtype, rng):
    """T = 1, in any type and shape, gives the bits of no temperature."""
    for n in (1, 5, 16, 33, 300):
        arrays = f.sample(rng, (6, n), dtype)
        want = f(*arrays)
        for t in (
            1,
            1.0,
            True,
            np.float32(1),
            np.array(1),
            [1.0] * 6,
            np.ones(6),
            np.ones(6, int),
            np.ones(1, np.float16),
        ):
            assert_same_bits(f(*arrays, temperature=t), want, f"{f} {dtype} n={n} T={t!r}")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
def test_one_per_row(f, dtype, rng):
    """Every axis, every shape that broadcasts to the reduced shape, against each row alone with its scalar."""
    shape = (3, 4, 5)
    for axis, reduced in [
        (-1, (3, 4)),
        (0, (4, 5)),
        (1, (3, 5)),
        ((0, 2), (4,)),
        ((1,), (3, 5)),
        (None, ()),
        ((), shape),
    ]:
        arrays = f.sample(rng, shape, dtype, axis)
        small = [reduced, tuple(1 for _ in reduced), reduced[1:], (*reduced[:-1], 1) if reduced else ()]
        for given in small:
            t = 10.0 ** rng.uniform(-2, 2, given)
            want = one_row_at_a_time(f, arrays, axis, temperature=np.broadcast_to(t, reduced))
            assert_same_bits(f(*arrays, axis=axis, temperature=t), want, f"{f} {dtype} axis={axis} T of {given}")


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
def test_one_per_row_of_any_length(f, dtype, rng):
    """Rows of every regime, each as it is alone: ordinary temperatures, and those that take a power of two."""
    extremes = [1e-30, 1e30] if dtype == FLOAT32 else [1e-200, 1e200]
    for n in (1, 10, 16, 17, 48, 64, 100, 256, 1003, 5000):
        arrays = f.sample(rng, (20, n), dtype)
        t = 10.0 ** rng.uniform(-3, 3, 20)
        t[[3, 4, 11, 17]] = [*extremes, 1, 2]
        want = one_row_at_a_time(f, arrays, -1, temperature=t)
        assert_same_bits(f(*arrays, temperature=t), want, f"{f} {dtype} n={n}")


@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
def test_layouts_and_dtypes_of_the_array(f, rng):
    """Any real dtype and any memory; it never changes the dtype of the result, and is never modified."""
    arrays = f.sample(rng, (6, 5, 20), FLOAT32)
    for dtype in ("f8", "f4", "f2", BFLOAT16, "i1", "u1", "i8", "u4", "?", np.longdouble):
        t = rng.integers(1, 2 if dtype == "?" else 9, (6, 5)).astype(dtype)
        want = one_row_at_a_time(f, arrays, -1, temperature=t.astype(np.float64))
        for name, layout in LAYOUTS.items():
            if dtype is np.longdouble and "byte-swapped" in name:
                continue  # x87 longdouble has padding bytes; NumPy swaps them wrongly too
            given = layout(t)
            before = given.tobytes()
            got = f(*arrays, temperature=given)
            assert_same_bits(got, want, f"{f} T of {dtype}, {name}")
            assert given.tobytes() == before
        assert_same_bits(f(*arrays, temperature=t.tolist()), want, f"{f} T a list")


@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
def test_refused(f, rng):
    """Not positive, not finite, anywhere in the array: ValueError naming the argument, what came and what is right."""
    arrays = f.sample(rng, (3, 4), FLOAT32)
    for bad in (0, 0.0, -0.0, -1, -1e-300, np.nan, np.inf, -np.inf, False, 10**400):
        for t in (bad, [1, 1, bad], np.array([bad, 1, 1], object if bad == 10**400 else float)):
            if bad == 10**400 and t is not bad:
                continue
            with pytest.raises(ValueError, match=r"temperature.*positive") as caught:
                f(*arrays, temperature=t)
            assert type(caught.value) is ValueError
            if bad in (-1, np.inf):
                assert str(bad) in str(caught.value), f"{f}: {caught.value} does not say what came"
    for shape in [(4,), (3, 4), (2,), (0,), (3, 1), (1, 3)]:
        with pytest.raises(ValueError, match="temperature") as caught:
            f(*arrays, temperature=np.ones(shape))
        for word in (str(shape), "(3,)"):
            assert word in str(caught.value), f"{f} T of {shape}: {caught.value}"
    for t in ("hot", None, 1j, np.array([1j] * 3), object(), ["a"] * 3, np.array(["2000"], "M8[Y]")):
        with pytest.raises((TypeError, ValueError), match="temperature"):
            f(*arrays, temperature=t)


@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
def test_scalars_of_any_type(f, rng):
    """Whatever converts to a float is one."""
    arrays = f.sample(rng, (3, 9), FLOAT32)
    want = f(*arrays, temperature=2.5)
    for t in (np.float16(2.5), np.float32(2.5), np.float64(2.5), np.array(2.5), [2.5], np.longdouble(2.5)):
        assert_same_bits(f(*arrays, temperature=t), want, f"{f} {t!r}")
    assert_same_bits(f(*arrays, temperature=3), f(*arrays, temperature=3.0), str(f))


@pytest.mark.parametrize("f", WITH_TEMPERATURE, ids=str)
def test_empty(f, rng):
    """An empty batch takes a temperature of its (empty) reduced shape, or a scalar."""
    for shape, axis, reduced in [((0, 4), -1, (0,)), ((4, 0), -1, (4,)), ((2, 0, 3), 0, (0, 3))]:
        arrays = f.sample(rng, shape, FLOAT32, axis)
        assert f(*arrays, axis=axis, temperature=np.full(reduced, 2.0)).shape == shape
        assert f(*arrays, axis=axis, temperature=2.0).shape == shape
