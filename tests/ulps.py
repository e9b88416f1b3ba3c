"""How wrong is a number: ULPs of each dtype, the limits of the README, and the message of a failed test."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT16, FLOAT32, FLOAT64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
FLOATS = (FLOAT16, BFLOAT16, FLOAT32, FLOAT64)
HALVES = (FLOAT16, BFLOAT16)

# The limits, in ULPs, as the README states them. LONG rows have at least 64 elements. (Those with a probability above
# CERTAIN have the limits of short ones. Rows drawn at random do not come near.)
LONG = 64
CERTAIN = 0.6
HALF_LIMIT = 0.51  # float16 and bfloat16: computed in float32, rounded once
SOFTMAX_LIMIT = {FLOAT32: 3.0, FLOAT64: 3.5}
LOG_SOFTMAX_LIMIT = {FLOAT32: (2.75, 1.5), FLOAT64: (2.0, 2.0)}  # (short rows, LONG rows)
LOGSUMEXP_LIMIT = {FLOAT32: 1.0, FLOAT64: 1.5}
# The loss of a class (short rows, LONG rows); beside it the gradient's exponentials are added, which are rounded.
CLASS_LOSS_LIMIT = {FLOAT32: (2.0, 1.5), FLOAT64: (3.0, 2.0)}
CANCELLED_LIMIT = 8.0  # float32 logsumexp, in ULPs of the result itself, where m and log1p(s) cancel
# Products, in ULPs of the sum of the absolute values of their terms: reference.py's `..._scale`.
DERIVATIVE_LIMIT = {FLOAT32: 6.0, FLOAT64: 6.0}
# Gradient of cross entropy: of index targets, of the component itself; with probabilities, smoothing or z_loss, of the
# largest of its terms.
GRADIENT_LIMIT = {FLOAT32: 3.5, FLOAT64: 4.0}
DENSE_GRADIENT_LIMIT = {FLOAT32: 4.0, FLOAT64: 5.0}
LOSS_LIMIT = {FLOAT32: 4.0, FLOAT64: 5.0}  # of any loss, in ULPs of the absolute values of its terms
SOFTCAP_LIMIT = 4.0  # the derivative of the cap
CAP_LIMIT = 1.0  # the cap itself


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: significand bits (the hidden one too) and exponents of its normal numbers."""

    precision: int
    smallest: int  # 2**smallest is the smallest normal number
    largest: int  # 2**largest is the largest power of two


FORMATS = {
    FLOAT16: Format(11, -14, 15),
    BFLOAT16: Format(8, -126, 127),
    FLOAT32: Format(24, -126, 127),
    FLOAT64: Format(53, -1022, 1023),
}


def largest(dtype):
    """Return the largest finite number of `dtype`, as a Python float."""
    return float(ml_dtypes.finfo(dtype).max)


def convert(array, dtype):
    """Convert to `dtype`, rounding once, to nearest even, without a warning (ml_dtypes rounds float64 twice)."""
    array = np.asarray(array)
    with np.errstate(over="ignore"):
        if array.dtype != FLOAT64 or dtype != BFLOAT16:
            return array.astype(dtype)
        near = array.astype(np.float32)
        low = np.where(np.abs(near) > np.abs(array), np.nextafter(near, np.float32(0)), near)  # towards 0
        odd = (low.view(np.uint32) | (low != array)).view(np.float32)  # inexact: an odd last bit, so no false tie
        return np.where(np.isfinite(array) & np.isfinite(near), odd, near).astype(dtype)


def ulp(value, dtype):
    """Return the distance between the numbers of `dtype` around abs(value); that of the subnormals is the least."""
    form = FORMATS[dtype]
    magnitude = np.abs(np.asarray(value, np.longdouble))
    exponent = np.frexp(np.where(np.isfinite(magnitude), magnitude, 0))[1] - 1
    exponent = np.where(magnitude == 0, form.smallest, np.clip(exponent, form.smallest, form.largest))
    return np.ldexp(np.longdouble(1), exponent - (form.precision - 1))


def error(actual, expected, dtype, scale=None):
    """Return the errors of `actual` in ULPs of `scale` (of `expected` if None); `expected` is a longdouble.

    Infinity counts as the next power of two after the largest number: it is right, and costs at most an ULP, exactly
    where the true value rounds to it. NaN is right where NaN is expected, and infinitely wrong elsewhere.
    """
    beyond = np.ldexp(np.longdouble(1), FORMATS[dtype].largest + 1)
    got = np.asarray(actual).astype(np.longdouble)
    want = np.asarray(expected, np.longdouble)
    with np.errstate(invalid="ignore"):
        distance = np.abs(np.clip(got, -beyond, beyond) - np.clip(want, -beyond, beyond))
    exact_infinity = np.isinf(want) & (got != want)
    wrong = (np.isnan(got) != np.isnan(want)) | exact_infinity
    distance = np.where(np.isnan(want) & np.isnan(got), 0, distance)
    return np.where(wrong, np.inf, distance / ulp(want if scale is None else scale, dtype))


def with_half_limit(limit, expected, scale, dtype):
    """Return the limit of float16 and bfloat16: one rounding, and what float32 leaves (`limit` ULPs of `scale`)."""
    return HALF_LIMIT + limit * ulp(scale, FLOAT32) / ulp(expected, dtype)


def assert_close(actual, expected, dtype, limit, *, scale=None, rows=None, label=""):
    """Fail with the worst element (input, actual, expected, ULPs) where the error exceeds `limit` ULPs.

    `limit` and `scale` may be arrays. `rows` holds the logits, a row along its last axis, the row's index first, or is
    a tuple of them and what stands beside them. Returns the largest error in ULPs.
    """
    assert np.shape(actual) == np.shape(expected), f"{label}: shape {np.shape(actual)}, not {np.shape(expected)}"
    if np.size(expected) == 0:
        return 0.0
    wrong = error(actual, expected, dtype, scale)
    excess = wrong / limit
    at = tuple(int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    if not excess[at] <= 1:
        lines = [f"{label}: {wrong[at]:.4g} ULP, allowed {np.broadcast_to(limit, excess.shape)[at]:.4g}, at {at}"]
        lines += [f"  actual   {np.asarray(actual)[at]!r}", f"  expected {np.asarray(expected)[at]!r}"]
        if rows is not None:
            rows = rows if isinstance(rows, tuple) else (rows,)
            for array in rows:
                row = np.atleast_1d(np.asarray(array)[at[: np.ndim(rows[0]) - 1]])
                lines += [f"  row of {row.size}: {row[:12].tolist()}{' ...' if row.size > 12 else ''}"]
                if len(at) == np.ndim(array):
                    lines += [f"  input    {float(row[at[-1]]).hex()} = {row[at[-1]]!r}, row's maximum {row.max()!r}"]
        raise AssertionError("\n".join(lines))
    return float(wrong.max())


def bits(array):
    """Return the bit patterns of `array` as unsigned integers (C order)."""
    array = np.asarray(array)
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)


def assert_same_bits(actual, expected, label=""):
    """Fail, showing the first difference, unless both arrays have one dtype, one shape and the same bits."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, f"{label}: dtype {actual.dtype}, not {expected.dtype}"
    assert actual.shape == expected.shape, f"{label}: shape {actual.shape}, not {expected.shape}"
    different = bits(actual) != bits(expected)
    if different.any():
        at = tuple(int(i) for i in np.unravel_index(np.argmax(different), different.shape))
        raise AssertionError(
            f"{label}: {np.count_nonzero(different)} of {different.size} elements differ, the first at {at}: "
            f"{actual[at]!r} (bits {bits(actual)[at]:#x}), not {expected[at]!r} (bits {bits(expected)[at]:#x})"
        )
