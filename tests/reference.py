"""The oracle: the formulas as in a textbook, in arithmetic so precise that their faults do not matter.

Rows of float16, bfloat16 and float32 are computed in NumPy's longdouble (64-bit significand: 1e-19, that is 2e-12 ULP
of float32 before exp and at most 1e-9 after it). For float64 that is not enough (exp of an argument near -745 would be
off by 0.1 ULP), so those rows, and integers, which count as float64, are computed by mpmath with 120 bits. Every
function returns longdouble, which holds a float64 result to 1/2048 ULP.

Each function takes the arguments of its namesake in softmax_rs, and `x` must already have the dtype to compute in.
"""

import mpmath
import numpy as np

from ulps import FLOAT64

BITS = 120

if np.finfo(np.longdouble).nmant < 63:
    raise RuntimeError("the oracle needs a longdouble of at least 64 bits; this platform's is too short")


class Longdouble:
    """NumPy's longdouble."""

    exp, log1p = np.exp, np.log1p

    @staticmethod
    def read(array):
        """Convert to longdouble, exactly."""
        return np.asarray(array).astype(np.longdouble)

    @staticmethod
    def write(array):
        """Nothing to do."""
        return array


class Mpmath:
    """Object arrays of mpmath numbers."""

    exp = staticmethod(np.frompyfunc(mpmath.exp, 1, 1))
    log1p = staticmethod(np.frompyfunc(mpmath.log1p, 1, 1))
    read = staticmethod(lambda array: np.frompyfunc(lambda v: mpmath.mpf(float(v)), 1, 1)(np.asarray(array)))

    @staticmethod
    def _longdouble(value):
        if not mpmath.isfinite(value):
            return np.longdouble(float(value))
        fraction, exponent = mpmath.frexp(value)
        if exponent < -1200:  # rounds to 0 in every dtype
            return np.longdouble(0)
        high = float(fraction)
        return np.ldexp(np.longdouble(high) + np.longdouble(float(fraction - high)), int(exponent))

    @classmethod
    def write(cls, array):
        """Round to longdouble."""
        array = np.asarray(array)
        out = np.empty(array.shape, np.longdouble)
        out.flat = [cls._longdouble(value) for value in array.flat]
        return out


def arithmetic(dtype):
    """Return the arithmetic that is precise enough for rows of `dtype`."""
    return Longdouble if dtype.kind not in "iu" and dtype.itemsize < 8 else Mpmath


class Rows:
    """The logits as a matrix, one row per group of the reduced axes, its elements in C order; and the way back."""

    def __init__(self, x, axis, temperature=1.0, where=True):
        x = np.asarray(x)
        axes = range(x.ndim) if axis is None else np.atleast_1d(np.asarray(axis, int)) % max(x.ndim, 1)
        self.reduced = sorted({int(a) for a in axes}) if x.ndim else []
        self.kept = [a for a in range(x.ndim) if a not in self.reduced]
        self.order = self.kept + self.reduced
        self.shape = x.shape
        self.kept_shape = tuple(x.shape[a] for a in self.kept)
        self.arithmetic = arithmetic(x.dtype)

        rows = self.matrix(x)
        self.on = self.matrix(np.broadcast_to(where, x.shape)).astype(bool)
        values = rows.astype(np.longdouble)
        self.nan = (self.on & np.isnan(values)).any(axis=1)
        self.infinite = (self.on & (values == np.inf)).any(axis=1) & ~self.nan
        finite = self.on & np.isfinite(values)
        self.dead = ~finite.any(axis=1) & ~self.nan & ~self.infinite  # nothing that counts: all -inf, masked or none
        undefined = self.nan | self.infinite

        with mpmath.workprec(BITS), np.errstate(all="ignore"):
            math, t = self.arithmetic, np.broadcast_to(temperature, self.kept_shape).reshape(-1, 1)
            used = np.where(finite & ~undefined[:, None], rows, np.array(-np.inf, rows.dtype)) if rows.size else rows
            used = np.where(self.dead[:, None] | undefined[:, None], np.zeros((), rows.dtype), used)
            x, t = math.read(used), math.read(t)
            if rows.shape[1] == 0:
                self.m = self.tail = self.log_z = math.read(np.zeros((rows.shape[0], 1)))
                self.z = self.e = x
                return
            first = np.argmax(used, axis=1)[:, None]
            self.m = np.take_along_axis(x, first, axis=1)
            self.z = (x - self.m) / t
            self.e = math.exp(self.z)
            others = self.e.copy()
            np.put_along_axis(others, first, math.read(0), axis=1)
            self.tail = others.sum(axis=1, keepdims=True)  # the sum of the exponentials but the largest
            self.log_z = math.log1p(self.tail)

    def matrix(self, array):
        """Bring an array of the logits' shape into rows."""
        count = int(np.prod(self.kept_shape, dtype=object)) if self.kept_shape else 1
        length = int(np.prod([self.shape[a] for a in self.reduced], dtype=object)) if self.reduced else 1
        return array.transpose(self.order).reshape(count, length)

    def elements(self, values, masked):
        """Give a matrix of results the shape of the logits, with the special rows filled in."""
        out = self.arithmetic.write(values) if values.size else np.zeros(values.shape, np.longdouble)
        out = np.where((self.nan | self.infinite | self.dead)[:, None], np.longdouble("nan"), out)
        out = np.where(self.on, out, np.longdouble(masked))
        return out.reshape([self.shape[a] for a in self.order]).transpose(np.argsort(self.order).astype(int))

    def numbers(self, values, keepdims):
        """Give one number per row the reduced shape, with the special rows filled in."""
        out = self.arithmetic.write(values)[:, 0]
        for rows, value in ((self.nan, "nan"), (self.infinite, "inf"), (self.dead, "-inf")):
            out = np.where(rows, np.longdouble(value), out)
        return out.reshape(
            [1 if a in self.reduced else n for a, n in enumerate(self.shape)] if keepdims else self.kept_shape
        )


def softmax(x, axis=-1, *, temperature=1.0, where=True):
    """exp(z_i) / sum_j exp(z_j), z = (x - max x) / T."""
    rows = Rows(x, axis, temperature, where)
    with mpmath.workprec(BITS):
        return rows.elements(rows.e / (1 + rows.tail), masked=0)


def log_softmax(x, axis=-1, *, temperature=1.0, where=True):
    """z_i - log(sum_j exp(z_j)), z = (x - max x) / T; the sum is 1 + tail, so that a small tail is not lost."""
    rows = Rows(x, axis, temperature, where)
    with mpmath.workprec(BITS):
        return rows.elements(rows.z - rows.log_z, masked="-inf")


def logsumexp(x, axis=None, *, where=True, keepdims=False):
    """Return max x + log(1 + tail)."""
    rows = Rows(x, axis, 1.0, where)
    with mpmath.workprec(BITS):
        return rows.numbers(rows.m + rows.log_z, keepdims)


def logsumexp_scale(x, axis=None, *, where=True, keepdims=False):
    """Return max(abs(max x), abs(logsumexp), log1p(tail)): what logsumexp's error is measured against."""
    rows = Rows(x, axis, 1.0, where)
    with mpmath.workprec(BITS):
        parts = [rows.numbers(v, keepdims) for v in (abs(rows.m), abs(rows.m + rows.log_z), rows.log_z)]
    return np.max(np.abs(parts), axis=0)


assert arithmetic(FLOAT64) is Mpmath
