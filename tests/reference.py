"""The oracle: the formulas as in a textbook, in arithmetic so precise that their faults do not matter.

Rows of float16, bfloat16 and float32 are computed in NumPy's longdouble (64-bit significand: 1e-19, that is 2e-12 ULP
of float32 before exp and at most 1e-9 after it). For float64 that is not enough (exp of an argument near -745 would be
off by 0.1 ULP), so those rows, and integers, which count as float64, are computed by mpmath with 120 bits. The
derivatives and losses have limits of several ULPs, so longdouble is enough for them in every dtype. Every function
returns longdouble, which holds a float64 result to 1/2048 ULP.

Each function takes the arguments of its namesake in softmax_rs, and `x` must already have the dtype to compute in. What
the error of a result with cancelling terms is measured against comes from `..._scale`: the formula with the absolute
value of each term.
"""

import mpmath
import numpy as np

from ulps import FLOAT64

BITS = 120
CUT = np.exp(np.longdouble(-106.9))  # a float32 probability below exp(-107) may be taken for 0 in a product

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
    """An array as a matrix, one row per group of the reduced axes, its elements in C order; and the way back."""

    def __init__(self, x, axis, where, math):
        x = np.asarray(x)
        axes = range(x.ndim) if axis is None else np.atleast_1d(np.asarray(axis, int)) % max(x.ndim, 1)
        self.reduced = sorted({int(a) for a in axes}) if x.ndim else []
        self.kept = [a for a in range(x.ndim) if a not in self.reduced]
        self.order = self.kept + self.reduced
        self.shape = x.shape
        self.kept_shape = tuple(x.shape[a] for a in self.kept)
        self.math = math
        self.values = self.matrix(x)
        self.on = self.matrix(np.broadcast_to(where, x.shape)).astype(bool)
        self.nothing = ~self.on.any(axis=1)
        self.nan = (self.on & np.isnan(self.values.astype(np.longdouble))).any(axis=1)
        self.undefined = self.nan
        # The least normal number: below it, an ULP is that of the subnormal numbers.
        self.tiny = np.ldexp(np.longdouble(1), -126 if x.dtype.itemsize < 8 else -1022)

    def matrix(self, array):
        """Bring an array of the logits' shape into rows."""
        count = int(np.prod(self.kept_shape, dtype=object)) if self.kept_shape else 1
        length = int(np.prod([self.shape[a] for a in self.reduced], dtype=object)) if self.reduced else 1
        return array.transpose(self.order).reshape(count, length)

    def beside(self, array):
        """Bring a second array of that shape into rows; what is masked counts as 0."""
        return np.where(self.on, self.math.read(self.matrix(np.broadcast_to(array, self.shape))), 0)

    def per_row(self, array):
        """Bring an array of the reduced shape (axes of length 1 kept or not) into a column."""
        array = np.asarray(array)
        if array.shape != self.kept_shape and array.size == np.prod(self.kept_shape, dtype=object):
            array = array.reshape(self.kept_shape)
        return self.math.read(np.broadcast_to(array, self.kept_shape).reshape(-1, 1))

    def elements(self, values, masked=0):
        """Give a matrix of results the shape of the array, with the special rows filled in."""
        out = self.math.write(values) if values.size else np.zeros(values.shape, np.longdouble)
        out = np.where(self.undefined[:, None], np.longdouble("nan"), out)
        out = np.where(self.on, out, np.longdouble(masked))
        return out.reshape([self.shape[a] for a in self.order]).transpose(np.argsort(self.order).astype(int))

    def numbers(self, values, keepdims, *special):
        """Give one number per row the reduced shape, with the special rows filled in."""
        out = self.math.write(values)[:, 0]
        for rows, value in special:
            out = np.where(rows, np.longdouble(value), out)
        return out.reshape(
            [1 if a in self.reduced else n for a, n in enumerate(self.shape)] if keepdims else self.kept_shape
        )


class Logits(Rows):
    """Rows of logits, and what their softmax is made of."""

    def __init__(self, x, axis, temperature=1.0, where=True, math=None):
        super().__init__(x, axis, where, math or arithmetic(np.asarray(x).dtype))
        rows, math = self.values, self.math
        values = rows.astype(np.longdouble)
        self.infinite = (self.on & (values == np.inf)).any(axis=1) & ~self.nan
        finite = self.on & np.isfinite(values)
        self.dead = ~finite.any(axis=1) & ~self.nan & ~self.infinite  # nothing that counts: all -inf, masked or none
        bad = self.nan | self.infinite
        self.undefined = bad | self.dead

        with mpmath.workprec(BITS), np.errstate(all="ignore"):
            used = np.where(finite & ~bad[:, None], rows, np.array(-np.inf, rows.dtype)) if rows.size else rows
            used = np.where(self.undefined[:, None], np.zeros((), rows.dtype), used)
            x, self.t = math.read(used), self.per_row(temperature)
            self.top = np.zeros(x.shape, bool)  # the (first) maximum of each row
            if rows.shape[1] == 0:
                self.m = self.tail = self.log_z = math.read(np.zeros((rows.shape[0], 1)))
                self.z = self.e = x
                return
            first = np.argmax(used, axis=1)[:, None]
            np.put_along_axis(self.top, first, values=True, axis=1)
            self.m = np.take_along_axis(x, first, axis=1)
            self.z = (x - self.m) / self.t
            self.e = math.exp(self.z)
            self.tail = np.where(self.top, 0, self.e).sum(axis=1, keepdims=True)  # all exponentials but the largest
            self.log_z = math.log1p(self.tail)

    @property
    def p(self):
        """The softmax."""
        return self.e / (1 + self.tail)

    @property
    def excused(self):
        """Return what a probability counts for at least: of float64 any, of float32 one that is taken for 0."""
        if self.tiny < CUT:
            return np.broadcast_to(self.tiny, self.e.shape)
        return np.where(self.e < CUT, CUT * 2**23, 0)

    @property
    def p_scale(self):
        """The softmax, as what errors are measured against."""
        return np.maximum(self.p, self.excused)

    def mean(self, values):
        """Weigh with the probabilities and add."""
        return (self.p * values).sum(axis=1, keepdims=True)

    def mean_scale(self, values):
        """Return the like of absolute values, for `..._scale`."""
        return (self.p_scale * values).sum(axis=1, keepdims=True)

    def from_top(self, array):
        """Bring a second array into rows and subtract its value at the maximum."""
        values = self.beside(array)
        return np.where(self.on, values - pick(values, self.top), 0)


def pick(values, at):
    """Return the element of each row where `at` is True, as a column."""
    return np.where(at, values, 0).sum(axis=1, keepdims=True)


def others(values, at):
    """Return the sum of each row without that element, as a column."""
    return np.where(at, 0, values).sum(axis=1, keepdims=True)


def softmax(x, axis=-1, *, temperature=1.0, where=True):
    """exp(z_i) / sum_j exp(z_j), z = (x - max x) / T."""
    rows = Logits(x, axis, temperature, where)
    with mpmath.workprec(BITS):
        return rows.elements(rows.p)


def log_softmax(x, axis=-1, *, temperature=1.0, where=True):
    """z_i - log(sum_j exp(z_j)), z = (x - max x) / T; the sum is 1 + tail, so that a small tail is not lost."""
    rows = Logits(x, axis, temperature, where)
    with mpmath.workprec(BITS):
        return rows.elements(rows.z - rows.log_z, masked="-inf")


def _total(rows, values, keepdims):
    return rows.numbers(values, keepdims, (rows.nan, "nan"), (rows.infinite, "inf"), (rows.dead, "-inf"))


def logsumexp(x, axis=None, *, where=True, keepdims=False):
    """Return max x + log(1 + tail)."""
    rows = Logits(x, axis, 1.0, where)
    with mpmath.workprec(BITS):
        return _total(rows, rows.m + rows.log_z, keepdims)


def logsumexp_scale(x, axis=None, *, where=True, keepdims=False):
    """Return max(abs(max x), abs(logsumexp), log1p(tail)): what logsumexp's error is measured against."""
    rows = Logits(x, axis, 1.0, where)
    with mpmath.workprec(BITS):
        parts = [_total(rows, v, keepdims) for v in (abs(rows.m), abs(rows.m + rows.log_z), rows.log_z)]
    return np.max(np.abs(parts), axis=0)


def _rows(x, axis, temperature=1.0, where=True):
    return Logits(x, axis, temperature, where, Longdouble)


def softmax_jvp(x, t, axis=-1, *, temperature=1.0, where=True):
    """p_i (h_i - <p, h>) / T with h = t - t_k, k the first maximum: J 1 = 0, so the shift is allowed."""
    rows = _rows(x, axis, temperature, where)
    h = rows.from_top(t)
    return rows.elements(rows.p * (h - rows.mean(h)) / rows.t)


def softmax_jvp_scale(x, t, axis=-1, *, temperature=1.0, where=True):
    """p_i (|h_i| + <p, |h|>) / T."""
    rows = _rows(x, axis, temperature, where)
    h = abs(rows.from_top(t))
    return rows.elements(rows.p_scale * (h + rows.mean_scale(h)) / rows.t)


softmax_vjp, softmax_vjp_scale = softmax_jvp, softmax_jvp_scale  # J is symmetric


def log_softmax_jvp(x, t, axis=-1, *, temperature=1.0, where=True):
    """(h_i - <p, h>) / T with h = t - t_k."""
    rows = _rows(x, axis, temperature, where)
    h = rows.from_top(t)
    return rows.elements((h - rows.mean(h)) / rows.t)


def log_softmax_jvp_scale(x, t, axis=-1, *, temperature=1.0, where=True):
    """(|h_i| + <p, |h|>) / T."""
    rows = _rows(x, axis, temperature, where)
    h = abs(rows.from_top(t))
    return rows.elements((h + rows.mean_scale(h)) / rows.t)


def log_softmax_vjp(x, g, axis=-1, *, temperature=1.0, where=True):
    """(g_i - p_i sum g) / T; at the first maximum k, 1 - p_k = tail / (1 + tail) does not cancel."""
    rows = _rows(x, axis, temperature, where)
    g = rows.beside(g)
    at_top = (g * rows.tail - others(g, rows.top)) / (1 + rows.tail)
    return rows.elements(np.where(rows.top, at_top, g - rows.p * g.sum(axis=1, keepdims=True)) / rows.t)


def log_softmax_vjp_scale(x, g, axis=-1, *, temperature=1.0, where=True):
    """(|g_i| + p_i sum |g|) / T, and the like at k."""
    rows = _rows(x, axis, temperature, where)
    g = abs(rows.beside(g))
    at_top = g * others(rows.p_scale, rows.top) + others(g, rows.top) / (1 + rows.tail)
    return rows.elements(np.where(rows.top, at_top, g + rows.p_scale * g.sum(axis=1, keepdims=True)) / rows.t)


def logsumexp_jvp(x, t, axis=None, *, keepdims=False, where=True):
    """t_k + <p, h> with h = t - t_k; over nothing it is 0."""
    rows = _rows(x, axis, 1.0, where)
    value = pick(rows.beside(t), rows.top) + rows.mean(rows.from_top(t))
    return rows.numbers(value, keepdims, (rows.undefined, "nan"), (rows.nothing, 0))


def logsumexp_jvp_scale(x, t, axis=None, *, keepdims=False, where=True):
    """|t_k| + <p, |h|>."""
    rows = _rows(x, axis, 1.0, where)
    value = abs(pick(rows.beside(t), rows.top)) + rows.mean_scale(abs(rows.from_top(t)))
    return rows.numbers(value, keepdims, (rows.undefined, "nan"), (rows.nothing, 0))


def logsumexp_vjp(x, g, axis=None, *, where=True):
    """G p_i, g one number per row."""
    rows = _rows(x, axis, 1.0, where)
    return rows.elements(rows.per_row(g) * rows.p)


def logsumexp_vjp_scale(x, g, axis=None, *, where=True):
    """|g| p_i."""
    rows = _rows(x, axis, 1.0, where)
    return rows.elements(abs(rows.per_row(g)) * rows.p_scale)


def _saved(y, g, axis, where):
    """Return (rows, the saved output, g): what is masked is 0 in all of them."""
    rows = Rows(y, axis, where, Longdouble)
    return rows, rows.beside(y), rows.beside(g)


def _first(values, on):
    """Return where the first maximum of each row is, among those that are on."""
    top = np.zeros(values.shape, bool)
    if values.shape[1]:
        first = np.argmax(np.where(on & ~np.isnan(values), values, -np.inf), axis=1)
        top[np.arange(len(values)), first] = True
    return top


def softmax_backward(y, g, axis=-1, *, temperature=1.0, where=True):
    """y_i (h_i - <y, h>) / T with h = g - g_k where y_k > 1/2, else g less its first element."""
    rows, y, h = _softmax_backward(y, g, axis, where)
    return rows.elements(y * (h - (y * h).sum(axis=1, keepdims=True)) / rows.per_row(temperature))


def softmax_backward_scale(y, g, axis=-1, *, temperature=1.0, where=True):
    """y_i (|h_i| + <y, |h|>) / T."""
    rows, y, h = _softmax_backward(y, g, axis, where)
    y, h = np.maximum(abs(y), rows.tiny), abs(h)
    products = np.maximum(y * h, rows.tiny)  # the terms of the sum are numbers of the type
    return rows.elements(y * (h + products.sum(axis=1, keepdims=True)) / rows.per_row(temperature))


def _softmax_backward(y, g, axis, where):
    rows, y, g = _saved(y, g, axis, where)
    top = _first(y, rows.on)
    top = np.where(pick(y, top) > 0.5, top, _first(np.zeros(y.shape), rows.on))
    return rows, y, np.where(rows.on, g - pick(g, top), 0)


def log_softmax_backward(y, g, axis=-1, *, temperature=1.0, where=True):
    """(g_i - p_i sum g) / T with p = exp(y); at the first maximum k, 1 - p_k = -expm1(y_k) does not cancel."""
    rows, y, g = _saved(y, g, axis, where)
    top, p = _first(y, rows.on), np.where(rows.on, np.exp(y), 0)
    at_top = g * -np.expm1(y) - p * others(g, top)
    value = np.where(top, at_top, g - p * g.sum(axis=1, keepdims=True))
    return rows.elements(value / rows.per_row(temperature))


def log_softmax_backward_scale(y, g, axis=-1, *, temperature=1.0, where=True):
    """(|g_i| + p_i sum |g|) / T, and the like at k."""
    rows, y, g = _saved(y, abs(np.asarray(g).astype(np.longdouble)), axis, where)
    top, p = _first(y, rows.on), np.where(rows.on, np.maximum(np.exp(y), rows.tiny), 0)
    at_top = g * np.maximum(-np.expm1(y), rows.tiny) + p * others(g, top)
    value = np.where(top, at_top, g + p * g.sum(axis=1, keepdims=True))
    return rows.elements(value / rows.per_row(temperature))


def softmax_jacobian(x, axis=-1, *, temperature=1.0):
    """(diag(p) - p p^T) / T, the two axes last; the diagonal at the maximum is p_k tail / (1 + tail)."""
    return _jacobian(x, axis, temperature, lambda rows: rows.p[:, :, None])


def log_softmax_jacobian(x, axis=-1, *, temperature=1.0):
    """(I - 1 p^T) / T."""
    return _jacobian(x, axis, temperature, lambda rows: np.ones_like(rows.p)[:, :, None])


def _jacobian(x, axis, temperature, factor):
    """Row i: factor_i (1 if i == j else 0 - p_j) / T."""
    x = np.moveaxis(np.asarray(x), axis, -1)
    rows = _rows(x, -1, temperature)
    p, n = rows.p, x.shape[-1]
    less = np.where(rows.top, rows.tail / (1 + rows.tail), 1 - p)  # 1 - p_i
    with np.errstate(invalid="ignore"):
        value = factor(rows) * (np.eye(n) * less[:, None, :] - (1 - np.eye(n)) * p[:, None, :]) / rows.t[:, :, None]
    return np.where(rows.undefined[:, None, None], np.nan, value).reshape(*x.shape, n)


class Loss:
    """Cross entropy, row by row: -sum_j c_j log p_j, and z_loss L^2 beside it.

    `c` holds the class weights times the targets after smoothing, `share` and `z_share` what a row's loss is multiplied
    by in the reduced loss.
    """

    def __init__(
        self,
        logits,
        target,
        *,
        axis=-1,
        weight=None,
        sample_weight=None,
        ignore_index=-100,
        label_smoothing=0.0,
        reduction="mean",
        temperature=1.0,
        z_loss=0.0,
        softcap=None,
        where=True,
    ):
        x, target, e = np.asarray(logits), np.asarray(target), np.longdouble(label_smoothing)
        self.slope = np.longdouble(1)
        plain = Rows(x, axis, where, Longdouble)
        if softcap is not None:
            x = x.astype(np.longdouble) / softcap
            q = np.exp(-2 * abs(plain.matrix(x)))
            self.slope = 4 * q / (1 + q) ** 2
            x = softcap * np.tanh(x)
        indices = target.dtype.kind in "iu"
        classes = plain.values.shape[1]
        if indices:
            target = np.broadcast_to(target, plain.kept_shape).reshape(-1, 1)
            hit = np.arange(classes) == target
            ignored = (target == ignore_index)[:, 0] | plain.nothing
        else:
            target = np.where(plain.on, plain.matrix(target).astype(np.longdouble), 0)
            ignored = plain.nothing
        on = plain.on & ~ignored[:, None]
        back = np.broadcast_to(on.reshape([plain.shape[a] for a in plain.order]), [plain.shape[a] for a in plain.order])
        where = back.transpose(np.argsort(plain.order).astype(int))
        self.rows = rows = Logits(x, axis, temperature, where, Longdouble)
        rows.tiny = plain.tiny  # that of the logits' dtype
        self.ignored, self.reduction = ignored[:, None], reduction

        w = np.ones(classes, np.longdouble) if weight is None else np.asarray(weight).astype(np.longdouble)
        spread = on * e / np.maximum(on.sum(axis=1, keepdims=True), 1)
        self.c = w * ((1 - e) * (hit & ~self.ignored) + spread if indices else on * ((1 - e) * target + spread))
        self.a = self.c.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            self.log_p = np.where(on, rows.z - rows.log_z, -np.inf)
        self.total = rows.m / rows.t + rows.log_z
        self.total_scale = np.maximum(np.maximum(abs(rows.m / rows.t), abs(self.total)), rows.log_z)
        self.z = np.longdouble(z_loss)

        s = np.ones_like(self.a) if sample_weight is None else rows.per_row(sample_weight)
        s = np.where(self.ignored, 0, s)
        self.share = self.z_share = s
        if reduction == "mean":
            own = np.where(hit & ~self.ignored, w, 0).sum(axis=1, keepdims=True) if indices else np.longdouble(1)
            with np.errstate(invalid="ignore", divide="ignore"):
                self.share, self.z_share = s / (s * own).sum(), s / s.sum()
                if not (s * own).sum():
                    self.share = np.full_like(s, np.nan)

    def loss(self, scale=False):
        """Return the loss, or the sum of the absolute values of its terms."""
        with np.errstate(invalid="ignore"):
            terms = np.where(self.c == 0, 0, self.c * -self.log_p).sum(axis=1, keepdims=True)
            total = self.total_scale if scale else self.total
            row = self.share * terms + (self.z_share * self.z * total**2 if self.z else 0)
            row = np.where(self.rows.undefined[:, None], np.nan, row)
            row = np.where(self.ignored, 0, row)
            if self.reduction == "none":
                return row.reshape(self.rows.kept_shape)
            if self.reduction == "mean" and not self.z_share.any():
                return np.longdouble("nan")
            return row.sum() + (0 * self.share.sum() if self.reduction == "mean" else 0)

    def gradient(self, grad_output=1.0):
        """Return (A p_i - c_i) / T + 2 z L p_i / T, times the cap's derivative; at the maximum without cancellation."""
        rows = self.rows
        at_top = others(self.c, rows.top) - self.a * rows.tail / (1 + rows.tail)
        main = np.where(rows.top, at_top, self.a * rows.p - self.c)
        with np.errstate(invalid="ignore"):
            value = self.share * main + self.z_share * 2 * self.z * self.total * rows.p
            value = value * self.slope / rows.t * rows.per_row(grad_output)
        return self.finish(value)

    def gradient_scale(self, grad_output=1.0):
        """Return max(A p_i, c_i, 2 z p_i times the larger of what L is the sum of), multiplied as the gradient is."""
        rows = self.rows
        with np.errstate(invalid="ignore"):
            main = self.share * np.maximum(abs(self.a) * rows.p_scale, abs(self.c))
            value = np.maximum(main, abs(self.z_share * 2 * self.z) * self.total_scale * rows.p_scale)
            value = value * np.maximum(self.slope, rows.tiny) / rows.t * abs(rows.per_row(grad_output))
        return self.finish(value)

    def gradient_least(self, grad_output=1.0):
        """Return what probabilities count for at least, in the gradient."""
        rows = self.rows
        with np.errstate(invalid="ignore"):
            value = abs(self.share * self.a) * rows.excused / rows.t * abs(rows.per_row(grad_output))
        return self.finish(np.broadcast_to(value, rows.e.shape))

    def hvp(self, v):
        """A p_i (h_i - <p, h>) / T^2 with h = v - v_k."""
        rows, h = self.rows, self.rows.from_top(v)
        with np.errstate(invalid="ignore"):
            return self.finish(self.share * self.a * rows.p * (h - rows.mean(h)) / rows.t**2)

    def hvp_scale(self, v):
        """A p_i (|h_i| + <p, |h|>) / T^2."""
        rows, h = self.rows, abs(self.rows.from_top(v))
        with np.errstate(invalid="ignore"):
            return self.finish(abs(self.share * self.a) * rows.p_scale * (h + rows.mean_scale(h)) / rows.t**2)

    def finish(self, values):
        """Give the rows that do not count, and what is masked, 0."""
        return self.rows.elements(np.where(self.ignored, 0, values))


assert arithmetic(FLOAT64) is Mpmath
