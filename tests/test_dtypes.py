"""Hazard: dtypes. Which one comes out, how dtype= converts, and which are refused with which words."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from catalogue import FUNCTIONS, OF_TWO, WITH_DTYPE
from memory import LAYOUTS
from ulps import BFLOAT16, FLOAT32, FLOAT64, FLOATS, assert_same_bits, convert

INTEGERS = tuple(
    np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?", "p", "P", "q", "Q", "l", "L")
)


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_result_dtype(f, rng):
    """Floats keep theirs, also as 0-d and as empty arrays; integers and bool become float64."""
    for dtype in FLOATS + INTEGERS:
        for x in (np.ones((2, 3), dtype), np.ones((), dtype), np.ones((2, 0), dtype), np.ones((2, 3), dtype)[0, 0]):
            want = dtype if dtype in FLOATS else FLOAT64
            for axis in (-1, None):
                got = f(*f.arguments(rng, x, axis), axis=axis)
                assert np.asarray(got).dtype == want, f"{f} {dtype} {np.shape(x)}: {np.asarray(got).dtype}"


@pytest.mark.parametrize("f", WITH_DTYPE, ids=str)
def test_conversion(f, rng):
    """dtype= converts the input first: the bits of the converted array, in every layout."""
    values = rng.normal(0, 30, (5, 40))
    values[0, 3], values[1, 4], values[2, 5], values[3, :3] = np.nan, np.inf, -np.inf, (1e300, -1e300, 7e4)
    for source in FLOATS + INTEGERS:
        with np.errstate(over="ignore"):
            x = (values if source in FLOATS else rng.integers(0, 100, values.shape)).astype(source)
        for target in FLOATS:
            converted = convert(x, target)
            for axis in (-1, 0, None):
                want = f(converted, axis=axis)
                for name in ("contiguous", "fortran", "reversed", "misaligned 1", "byte-swapped", "strided 2"):
                    got = f(LAYOUTS[name](x), axis=axis, dtype=target)
                    assert_same_bits(got, want, f"{f} {source} to {target}, axis={axis}, {name}")


@pytest.mark.parametrize("f", WITH_DTYPE, ids=str)
def test_big_integers_are_rounded_once(f):
    """int64 to float32 through float64 would round twice: 2**53 + 2**29 + 1 shows it. So do the ends of the range."""
    tricky = 2**53 + 2**29 + 1
    for x in (
        np.array([tricky, tricky - 1, tricky - 2, -tricky, 0], np.int64),
        np.array([np.iinfo(np.int64).max, np.iinfo(np.int64).min, 2**53 + 1], np.int64),
        np.array([np.iinfo(np.uint64).max, 2**63 + 1025, 2**63, tricky], np.uint64),
    ):
        for target in (FLOAT32, FLOAT64):
            assert_same_bits(f(x, axis=(), dtype=target), f(x.astype(target), axis=()), f"{f} {x.dtype} to {target}")
            assert_same_bits(f(x, axis=-1, dtype=target), f(x.astype(target), axis=-1), f"{f} {x.dtype} to {target}")
        assert_same_bits(f(x, axis=()), f(x.astype(np.float64), axis=()), f"{f} {x.dtype}")


@pytest.mark.parametrize("f", WITH_DTYPE, ids=str)
def test_conversion_rounds_to_nearest_even(f):
    """Halfway and almost halfway, float32 and float64 to the 16-bit types; through float32 the latter become ties."""
    for target, significand in ((np.dtype(np.float16), 11), (BFLOAT16, 8)):
        unit = 2.0 ** (1 - significand)
        half = 1 + np.arange(8) * unit + unit / 2
        x = np.concatenate(
            [half + e for e in (0, 2.0**-20, -(2.0**-20), 2.0**-30, -(2.0**-30))] + [[3e-8, 5e-8, 65519.99]]
        )
        for source in (FLOAT32, FLOAT64):
            y = x.astype(source)
            assert_same_bits(f(y, axis=(), dtype=target), f(convert(y, target), axis=()), f"{f} {source} to {target}")


@pytest.mark.parametrize("f", WITH_DTYPE, ids=str)
def test_ways_to_name_a_dtype(f, rng):
    """Everything numpy.dtype takes; None is no conversion."""
    x = rng.normal(0, 3, (3, 7))
    for name, dtype in [("f4", "f4"), (np.float32, "f4"), (np.dtype("f2"), "f2"), (float, "f8"), ("float64", "f8")]:
        assert_same_bits(f(x, dtype=name), f(x.astype(dtype)), f"{f} dtype={name!r}")
    assert_same_bits(f(x, dtype=ml_dtypes.bfloat16), f(x.astype(BFLOAT16)), str(f))
    assert_same_bits(f(x.astype("f4"), dtype=None), f(x.astype("f4")), str(f))
    assert_same_bits(f([1, 2, 3], dtype="f4"), f(np.array([1, 2, 3], "f4")), str(f))
    out = np.empty(f(x).shape, "f4")
    assert f(x, dtype="f4", out=out) is out
    assert_same_bits(out, f(x.astype("f4")), str(f))


REFUSED = [
    (np.zeros((2, 3), np.complex64), "complex64"),
    (np.zeros((2, 3), np.complex128), "complex128"),
    (np.zeros((2, 3), np.longdouble), "longdouble|float128"),
    (np.zeros((2, 3), np.clongdouble), "clongdouble|complex256"),
    (np.zeros((2, 3), object), "object"),
    (np.zeros((2, 3), "U3"), "U3|str"),
    (np.zeros((2, 3), "S3"), "S3|bytes"),
    (np.zeros((2, 3), "M8[s]"), "datetime64"),
    (np.zeros((2, 3), "m8[s]"), "timedelta64"),
    (np.zeros((2, 3), [("a", "f4"), ("b", "f4")]), "'a'|structured|void"),
    (np.zeros((2, 3), "V4"), "V4|void"),
    (np.zeros((2, 3), ml_dtypes.float8_e4m3fn), "float8_e4m3fn"),
    (np.zeros((2, 3), ml_dtypes.int4), "int4"),
]


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_refused(f):
    """A TypeError that names the dtype, however the array looks; where scipy takes the dtype, it says so."""
    for array, names in REFUSED:
        for x, place in itertools.product(
            (array, array[0, 0:1], array[::-1, ::2], array[:0], array.T), range(len(f.names))
        ):
            arrays = [x if i == place else np.ones(x.shape) for i in range(len(f.names))]
            with pytest.raises(TypeError) as caught:
                f(*arrays, axis=())
            assert type(caught.value) is TypeError
            message = str(caught.value)
            assert any(name in message for name in names.split("|")), f"{f} {array.dtype}: {message}"
            assert "float32" in message and "float64" in message, f"{f} {array.dtype}: {message} names no right dtype"
            assert f.names[place] in message, f"{f} {array.dtype}: {message} does not name {f.names[place]}"
            if f not in OF_TWO and (
                array.dtype == np.longdouble or (array.dtype.kind == "c" and f.name == "logsumexp")
            ):
                assert "scipy" in message, f"{f} {array.dtype}: {message} does not name scipy"


@pytest.mark.parametrize("f", WITH_DTYPE, ids=str)
def test_refused_targets(f):
    """dtype= must be one of the four floats."""
    x = np.zeros((2, 3), np.float32)
    for target, name in [
        ("i4", "int32"),
        (int, "int64"),
        (bool, "bool"),
        ("c8", "complex64"),
        ("O", "object"),
        ("U3", "U3|str"),
    ]:
        with pytest.raises(TypeError, match="dtype") as caught:
            f(x, dtype=target)
        assert any(n in str(caught.value) for n in name.split("|")), f"{f} dtype={target!r}: {caught.value}"
    for target in (np.longdouble, "nonsense", 3, [("a", "f4")], ml_dtypes.float8_e4m3fn):
        with pytest.raises(TypeError):
            f(x, dtype=target)
    with pytest.raises(TypeError, match="complex128"):
        f(np.zeros(3, complex), dtype=np.float64)
