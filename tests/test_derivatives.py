"""Hazard: wrong derivatives. Definitions, identities and limits that a derivative must keep, down to the last digits.

(Accuracy, layouts, special values and errors: the rows of the catalogue run through the tests of those hazards.)
"""

import itertools

import mpmath
import numpy as np
import pytest

import recipes
import reference
import softmax_rs
import ulps
from catalogue import BY_NAME, FROM_OUTPUT, OF_TWO
from memory import LAYOUTS
from ulps import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FLOATS, HALVES, LONG, assert_close, assert_same_bits

JACOBIANS = ("softmax_jacobian", "log_softmax_jacobian")
DUAL = (("softmax_jvp", "softmax_vjp"), ("log_softmax_jvp", "log_softmax_vjp"), ("logsumexp_jvp", "logsumexp_vjp"))
TEMPERATURES = (1.0, 0.5, 0.7, 8.0)
# How far the second logit lies below the first so that p of the first rounds to 1 and the other's is a normal number.
GAP = {FLOAT16: 9.0, BFLOAT16: 40.0, FLOAT32: 40.0, FLOAT64: 40.0}


def limit(f, expected, dtype, *arrays, **call):
    """Return what f's result may be off, as a number."""
    ulp_limit, scale = f.limit(expected, dtype, arrays[0].shape[-1], *arrays, axis=-1, **call)
    return ulp_limit * ulps.ulp(expected if scale is None else scale, dtype)


def in_mpmath(name, x, t):
    """Compute a forward function of mpmath numbers as in a textbook."""
    e = [mpmath.exp(v / t) for v in x]
    total = mpmath.fsum(e)
    if name == "logsumexp":
        return [mpmath.log(total)]
    return [v / total if name == "softmax" else mpmath.log(v / total) for v in e]


@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_numeric_derivatives(dtype, t, rng):
    """Central differences in mpmath, 150 digits and a step of 1e-40: they err by 1e-80. Saturated rows included."""
    step = mpmath.mpf(10) ** -40
    names = (
        "normal 1",
        "normal 3",
        "uniform 80",
        "offset -300",
        "saturated 10",
        "saturated 40",
        "saturated 100",
        "ties",
    )
    with mpmath.workdps(150):
        for name in names:
            x, b = recipes.row(rng, name, 5, dtype, t), rng.normal(0, 1, 5).astype(dtype)
            wide, direction = ([mpmath.mpf(float(v)) for v in a] for a in (x, b))

            def change(forward, i=None, wide=wide, direction=direction):
                """Differentiate along the direction, or along axis i."""
                along = direction if i is None else [mpmath.mpf(i == j) for j in range(5)]
                ends = [in_mpmath(forward, [v + s * d * step for v, d in zip(wide, along, strict=True)], t)
                        for s in (1, -1)]  # fmt: skip
                return [(after - before) / (2 * step) for after, before in zip(*ends, strict=True)]

            for forward, (jvp, vjp) in zip(("softmax", "log_softmax", "logsumexp"), DUAL, strict=True):
                if forward == "logsumexp" and t != 1:
                    continue
                g = b if forward != "logsumexp" else b[0]
                along = [change(forward, i) for i in range(5)]
                pulled = [mpmath.fsum(v * d for v, d in zip(row, direction, strict=False)) for row in along]
                for f, second, numbers in ((BY_NAME[jvp], b, change(forward)), (BY_NAME[vjp], g, pulled)):
                    call = {"temperature": t} if f.accepts("temperature") else {}
                    want = reference.Mpmath.write(np.array(numbers, object))
                    got = np.atleast_1d(f(x, second, axis=-1, **call))
                    allowed = np.atleast_1d(limit(f, want, dtype, x, np.asarray(second), **call))
                    wrong = np.abs(got.astype(np.longdouble) - want)
                    assert (wrong <= allowed).all(), f"{f} {dtype} {name} T={t}: {got} not {want}, {x} with {second}"


@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_saturated_rows(dtype, t):
    """Where p rounds to 1, its complement s / (1 + s) is what derivatives are made of, in either order of classes."""
    x = (np.array([[GAP[dtype], 0], [0, GAP[dtype]]]) * t).astype(dtype)
    gap = np.longdouble(x[0, 0]) / np.longdouble(t)
    tail = np.exp(-gap)
    p = tail / (1 + tail)  # of the lesser class
    ordered = x / np.array(1, dtype)
    assert softmax_rs.softmax(ordered, temperature=t).max() == 1
    up, down = (np.array(v, dtype) for v in ([[1, 0], [0, 1]], [[0, 1], [1, 0]]))  # the greater class, the lesser
    square = p * (1 - p)
    log_y = softmax_rs.log_softmax(x, temperature=t)
    # A saved log-softmax holds the tail to half an ULP; so does a saved softmax in its lesser component.
    for name, first, second, greater, lesser in [
        ("softmax_jvp", x, up, square, -square),
        ("softmax_vjp", x, up, square, -square),
        ("softmax_vjp", x, down, -square, square),
        ("log_softmax_jvp", x, up, p, p - 1),
        ("log_softmax_jvp", x, down, -p, 1 - p),
        ("log_softmax_vjp", x, up, p, -p),
        ("log_softmax_vjp", x, down, p - 1, 1 - p),
        ("softmax_backward", softmax_rs.softmax(x, temperature=t), up, square, -square),
        ("log_softmax_backward", log_y, up, p, -p),
        ("log_softmax_backward", log_y, down, p - 1, 1 - p),
    ]:
        got = BY_NAME[name](first, second, temperature=t)
        want = np.where(up == 1, greater, lesser) / np.longdouble(t)
        precision = ulps.HALF_LIMIT if dtype in HALVES else ulps.DERIVATIVE_LIMIT[dtype]
        if first is not x:
            precision += 60 if name.startswith("log") else 5  # exp turns half an ULP of y = 40 into 40 ULPs
        assert_close(got, want, dtype, precision, rows=(x, second), label=f"{name} {dtype} T={t}")
        assert (np.asarray(got) != 0).all()
    for name, want in [
        ("softmax_jacobian", [[[square, -square], [-square, square]]] * 2),
        ("log_softmax_jacobian", [[[p, -p], [p - 1, 1 - p]], [[1 - p, p - 1], [-p, p]]]),
    ]:
        got = getattr(softmax_rs, name)(x, temperature=t)
        precision = ulps.HALF_LIMIT if dtype in HALVES else ulps.DERIVATIVE_LIMIT[dtype]
        assert_close(got, np.array(want) / np.longdouble(t), dtype, precision, label=f"{name} {dtype} T={t}")
    if t == 1:
        precision = ulps.HALF_LIMIT if dtype in HALVES else ulps.DERIVATIVE_LIMIT[dtype]
        got = softmax_rs.logsumexp_jvp(x, down, axis=-1)
        assert_close(got, np.array([p, p]), dtype, precision, label=f"logsumexp_jvp {dtype}")


def test_printed_values():
    """Logits [40, 0]: every digit of what others give as 0."""
    x, g = np.array([40.0, 0.0]), np.array([1.0, 0.0])
    p = 4.248354255291589e-18
    assert softmax_rs.softmax_vjp(x, g).tolist() == [p, -p]
    assert softmax_rs.softmax_jvp(x, g).tolist() == [p, -p]
    assert softmax_rs.log_softmax_vjp(x, g).tolist() == [p, -p]
    assert softmax_rs.log_softmax_jvp(x, g).tolist() == [p, -1]
    assert softmax_rs.softmax_jacobian(x).tolist() == [[p, -p], [-p, p]]
    assert softmax_rs.log_softmax_jacobian(x).tolist() == [[p, -p], [-1, 1]]
    assert softmax_rs.softmax_backward(softmax_rs.softmax(x), g).tolist() == [p, -p]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_constant_tangents(dtype, rng):
    """J 1 = 0 exactly, at every temperature; logsumexp moves as the logits do; log_softmax's vjp is not shifted."""
    for n in (1, 2, 7, 16, 33, 100):
        x, _ = recipes.batch(rng, n, dtype)
        for constant in (0, 1, -3, 0.1, 1e4):
            c = np.full(x.shape, constant, dtype)
            for t in (1.0, 0.3, 50.0):
                for name in ("softmax_jvp", "softmax_vjp", "log_softmax_jvp"):
                    assert not BY_NAME[name](x, c, temperature=t).any(), f"{name} {dtype} n={n} {constant} T={t}"
                y = softmax_rs.softmax(x, temperature=t)
                assert not softmax_rs.softmax_backward(y, c, temperature=t).any(), f"{dtype} n={n} {constant} T={t}"
            assert (softmax_rs.logsumexp_jvp(x, c, axis=-1) == c[:, 0]).all()
    ones = np.ones((1, 3), dtype)
    p = softmax_rs.softmax(np.array([[0, 1, 2]], dtype)).astype(float)
    sharp = softmax_rs.log_softmax_vjp(np.array([[0, 1, 2]], dtype), ones).astype(float)
    assert np.allclose(sharp, 1 - 3 * p, atol=float(ulps.ulp(1, dtype)) * 4)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_shifts(dtype, rng):
    """An exact shift of the tangent changes no bit; one of the logits no more than the errors of both."""
    x = rng.integers(-8, 9, (40, 20)).astype(dtype)
    g = rng.integers(-8, 9, (40, 20)).astype(dtype)
    for name in ("softmax_jvp", "softmax_vjp", "log_softmax_jvp"):
        f = BY_NAME[name]
        want = f(x, g)
        for shift in (1, -5, 16):
            assert_same_bits(f(x, g + np.array(shift, dtype)), want, f"{f} {dtype} tangent + {shift}")
    for f in OF_TWO:
        arrays = f.arguments(rng, x)
        for shift in (-16, 3, 100):
            if f not in FROM_OUTPUT:
                f.check(f(x + np.array(shift, dtype), *arrays[1:], axis=-1), dtype, *arrays, label=f"logits + {shift}")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("names", DUAL, ids=lambda names: names[0])
def test_duality(names, dtype, rng):
    """<u, J v> = <J^T u, v>, as far as both results' limits allow."""
    jvp, vjp = (BY_NAME[name] for name in names)
    for n in (1, 2, 5, 17, 64):
        x, _ = recipes.batch(rng, n, dtype)
        v = rng.normal(0, 1, x.shape).astype(dtype)
        u = vjp.arguments(rng, x)[1]
        for t in TEMPERATURES if jvp.accepts("temperature") else (1.0,):
            call = {"temperature": t} if jvp.accepts("temperature") else {}
            pushed, pulled = (
                np.asarray(f(x, b, axis=-1, **call)).astype(np.longdouble) for f, b in ((jvp, v), (vjp, u))
            )
            slack = [limit(f, r, dtype, x, b, **call) for f, r, b in ((jvp, pushed, v), (vjp, pulled, u))]
            wide = [a.astype(np.longdouble) for a in (u, v)]

            def inner(a, b):
                return (a * b).sum(axis=-1) if b.ndim == 2 else a * b

            difference = np.abs(inner(wide[0], pushed) - inner(wide[1], pulled))
            allowed = inner(np.abs(wide[0]), slack[0]) + inner(np.abs(wide[1]), slack[1])
            assert (difference <= allowed).all(), f"{names} {dtype} n={n} T={t}: {np.max(difference / allowed)} allowed"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", JACOBIANS)
def test_jacobian(name, dtype, rng):
    """Against the oracle, each element to its own digits; any axis, temperatures, any layout, out."""
    f = getattr(softmax_rs, name)
    for n in (1, 2, 3, 7, 17, 40):
        x, t = recipes.batch(rng, n, dtype, temperatures=(1.0, 0.7, 3.0, 1e-3, 1e-6)[: 3 if dtype == FLOAT16 else 5])
        want = getattr(reference, name)(x, temperature=t)
        cut = np.where(np.abs(want) * t[:, None, None] < reference.CUT, reference.CUT * 2**23, 0)
        least = cut if dtype.itemsize < 8 else np.ldexp(np.longdouble(1), -1022)
        scale, precision = (
            np.maximum(np.abs(want), least / t[:, None, None]),
            ulps.DERIVATIVE_LIMIT[FLOAT32 if dtype in HALVES else dtype],
        )
        if dtype in HALVES:
            precision, scale = ulps.with_half_limit(precision, want, scale, dtype), None
        got = f(x, temperature=t)
        assert_close(got, want, dtype, precision, scale=scale, label=f"{name} {dtype} n={n}")
        assert (np.sign(np.diagonal(got, 0, -2, -1).astype(float)) >= 0).all()
    x = rng.normal(0, 3, (3, 4, 5)).astype(dtype)
    for axis in range(-3, 3):
        t = rng.uniform(0.5, 2, [n for a, n in enumerate(x.shape) if a != axis % 3])
        want = f(np.ascontiguousarray(np.moveaxis(x, axis, -1)), temperature=t)
        assert want.shape == (*(n for a, n in enumerate(x.shape) if a != axis % 3), x.shape[axis], x.shape[axis])
        out = np.empty(want.shape, dtype)
        assert f(x, axis, temperature=t, out=out) is out
        assert_same_bits(out, want, f"{name} {dtype} axis={axis} out")
        for layout in LAYOUTS:
            assert_same_bits(f(LAYOUTS[layout](x), axis=axis, temperature=t), want, f"{name} {dtype} {axis} {layout}")
        strided = LAYOUTS["strided 3 fortran"](np.zeros(want.shape, dtype))
        assert_same_bits(f(x, axis=axis, temperature=t, out=strided), want, f"{name} {dtype} axis={axis} strided out")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", JACOBIANS)
def test_jacobian_is_the_products(name, dtype, rng):
    """Its columns are the pushed basis vectors, its rows the pulled ones; softmax's is symmetric, and J 1 = 0."""
    jacobian = getattr(softmax_rs, name)
    jvp, vjp = (BY_NAME[name.replace("jacobian", kind)] for kind in ("jvp", "vjp"))
    for n, recipe in itertools.product((1, 2, 5, 18), ("normal 3", "saturated 10", "ties", "uniform 80")):
        x = recipes.row(rng, recipe, n, dtype)
        rows, basis = np.tile(x, (n, 1)), np.eye(n).astype(dtype)
        j = jacobian(x).astype(np.longdouble)
        for f, matrix in ((jvp, j.T), (vjp, j)):
            products = f(rows, basis).astype(np.longdouble)
            slack = 2 * limit(f, matrix, dtype, rows, basis)
            assert (np.abs(products - matrix) <= slack).all(), f"{f} {dtype} {recipe} n={n}"
        if name == "softmax_jacobian":
            unit = ulps.HALF_LIMIT if dtype in HALVES else ulps.DERIVATIVE_LIMIT[dtype]
            assert (np.abs(j - j.T) <= 2 * unit * ulps.ulp(j, dtype)).all(), f"{dtype} {recipe} n={n} is not symmetric"
        slack = (8 * ulps.ulp(j, dtype)).sum(axis=-1)
        assert (np.abs(j.sum(axis=-1)) <= slack).all(), f"{name} {dtype} {recipe} n={n}: {j.sum(axis=-1)}"


@pytest.mark.parametrize("name", JACOBIANS)
def test_jacobian_of_odd_input(name):
    """Shapes, dtypes, undefined rows, empty ones; what is refused, with the argument's name."""
    f = getattr(softmax_rs, name)
    for dtype in FLOATS:
        assert f(np.zeros((3, 3), dtype)).shape == (3, 3, 3)
        assert f(np.zeros((3, 3), dtype)).dtype == dtype
        for shape in [(0,), (2, 0), (0, 3), (0, 0, 2)]:
            assert f(np.zeros(shape, dtype)).shape == (*shape, shape[-1])
        x = np.zeros((5, 3), dtype)
        x[0, 1], x[1, 1], x[2], x[3, 0] = np.nan, np.inf, -np.inf, -np.inf
        j = f(x).astype(float)
        assert np.isnan(j[:3]).all() and not np.isnan(j[3:]).any()
        assert not j[3, 1:, 0].any() and f(x[:1])[0].tobytes() == f(x[2:3])[0].tobytes()
    assert f([[1, 2], [3, 4]]).dtype == np.float64
    assert f(np.zeros((2, 3), np.int8)).dtype == np.float64
    x = np.zeros((2, 3), np.float32)
    for arguments, exception, words in [
        ({"axis": 2}, np.exceptions.AxisError, ["axis 2 is out of bounds for array of dimension 2"]),
        ({"axis": None}, TypeError, ["axis"]),
        ({"axis": (0, 1)}, TypeError, ["axis"]),
        ({"axis": 1.0}, TypeError, ["axis"]),
        ({"temperature": 0}, ValueError, ["temperature", "positive"]),
        ({"temperature": np.ones(3)}, ValueError, ["temperature", "(3,)", "(2,)"]),
        ({"out": np.zeros((2, 3), np.float32)}, ValueError, ["out", "(2, 3)", "(2, 3, 3)"]),
        ({"out": np.zeros((2, 3, 3))}, TypeError, ["out", "float64", "float32"]),
        ({"where": True}, TypeError, ["where"]),
        ({"x": np.zeros(3, complex)}, TypeError, ["complex128"]),
    ]:
        given = dict(arguments)
        with pytest.raises((TypeError, ValueError)) as caught:
            f(given.pop("x", x), **given)
        assert type(caught.value) is exception, f"{name} {arguments}: {caught.value!r}"
        assert all(word in str(caught.value) for word in words), f"{name} {arguments}: {caught.value}"
    with pytest.raises(np.exceptions.AxisError):
        f(1.0)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_from_a_saved_output(dtype, rng):
    """The backward functions give what the products give from logits, to the rounding of the saved output."""
    for n in (2, 5, 16, 50):
        x = rng.normal(0, 3, (60, n)).astype(dtype)
        g = rng.normal(0, 1, x.shape).astype(dtype)
        mask = rng.random(x.shape) < 0.7
        mask[:, 0] = True
        for forward, t, where in itertools.product(("softmax", "log_softmax"), (1.0, 0.4), (np.ones_like(mask), mask)):
            call = {"temperature": t, "where": where}
            y = getattr(softmax_rs, forward)(x, **call)
            backward = BY_NAME[f"{forward}_backward"]
            saved = backward(y, g, **call).astype(np.longdouble)
            direct = BY_NAME[f"{forward}_vjp"](x, g, **call).astype(np.longdouble)
            scale = ulps.ulp(getattr(reference, f"{forward}_vjp_scale")(x, g, **call), dtype)
            # An ULP of y is an ULP of p, or, of a logarithm, |y| ULPs.
            size = 1 if forward == "softmax" else 1 + np.abs(np.where(np.isfinite(y), y.astype(float), 0))
            wrong = np.abs(saved - direct) / scale
            assert (wrong <= 16 + 4 * size).all(), f"{forward} {dtype} n={n} T={t}: {wrong.max()} ULP"
            assert not saved[~where].any()
            if forward == "softmax":  # what was masked is 0 in the saved output, so the mask may be left out
                again = backward(y, g, temperature=t).astype(np.longdouble)
                excess = np.abs(1 - y.astype(np.longdouble).sum(axis=-1, keepdims=True))  # times the shift, if another
                shift = 2 * np.abs(g.astype(np.longdouble)).max(axis=-1, keepdims=True) / t
                assert (np.abs(again - saved) <= 12 * scale + y.astype(np.longdouble) * excess * shift).all()


@pytest.mark.parametrize("f", FROM_OUTPUT, ids=str)
def test_a_saved_output_is_taken_as_given(f, rng):
    """Also one that does not add to 1, on both sides of 1/2, where the shift changes."""
    for dtype in (FLOAT32, FLOAT64):
        for n in (1, 2, 3, 16, 40):
            y = rng.uniform(0, 1, (200, n)) / n
            top = np.array([0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1), 0.4999, 0.5001, 0.9, 1.0, 1.5] * 25)
            y[np.arange(200), rng.integers(0, n, 200)] = top
            y = y.astype(dtype)
            if f.name == "log_softmax_backward":
                y = np.minimum(np.log(y), 0)
                y[0, 0] = -np.inf
            g = (rng.normal(0, 1, y.shape) + rng.choice([0, 10, -1000], (200, 1))).astype(dtype)
            f.check(f(y, g), dtype, y, g)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_positive_semidefinite_and_co_coercive(dtype, rng):
    """Gao & Pavel: 0 <= <t, J t>, and T |J t|^2 <= <t, J t> <= |t|^2 / T."""
    for n in (2, 3, 17):
        x, ts = recipes.batch(rng, n, dtype, temperatures=(1.0, 0.3, 20.0))
        t = rng.normal(0, 1, x.shape).astype(dtype)
        pushed = softmax_rs.softmax_jvp(x, t, temperature=ts).astype(np.longdouble)
        slack = (np.abs(t) * limit(BY_NAME["softmax_jvp"], pushed, dtype, x, t, temperature=ts)).sum(axis=-1)
        form = (t.astype(np.longdouble) * pushed).sum(axis=-1)
        assert (form >= -slack).all()
        assert (form <= (t.astype(np.longdouble) ** 2).sum(axis=-1) / ts + slack).all()
        assert (form >= ts * (pushed**2).sum(axis=-1) - 4 * slack).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_rank_order_is_kept(dtype, rng):
    """The gradient of logsumexp: x_i > x_j never gives less, for neighbouring floats around many maxima."""
    for top in (0.0, 17.25, -300.0):
        start = np.array(top - rng.uniform(0, 60, 200)).astype(dtype).astype(np.longdouble)
        steps = np.arange(20) * np.maximum(ulps.ulp(start, dtype)[:, None], ulps.ulp(np.float64(1e-6), dtype))
        x = np.sort(np.minimum((start[:, None] + steps).astype(dtype).ravel(), np.array(top, dtype)))
        for g in (1.0, 3.0, 0.1):
            pulled = softmax_rs.logsumexp_vjp(x, np.array(g, dtype)).astype(float)
            assert (np.diff(pulled) >= 0).all(), f"{dtype} maximum {top} g={g}"


def test_two_classes_are_the_sigmoid(rng):
    """The derivatives of softmax([a, 0]) are those of the logistic function, its tails included."""
    for dtype, bound in ((FLOAT32, 80), (FLOAT64, 700)):
        a = np.concatenate([rng.uniform(-bound, bound, 300), rng.normal(0, 3, 300)]).astype(dtype)
        x, t = np.stack([a, np.zeros_like(a)], axis=1), np.tile(np.array([1, 0], dtype), (600, 1))
        wide = np.abs(a.astype(np.longdouble))
        slope = np.exp(-wide) / (1 + np.exp(-wide)) ** 2
        want = np.stack([slope, -slope], axis=1)
        scale = np.maximum(slope, np.ldexp(np.longdouble(1), ulps.FORMATS[dtype].smallest))[:, None] * [1, 1]
        for f in (softmax_rs.softmax_jvp, softmax_rs.softmax_vjp):
            assert_close(f(x, t), want, dtype, ulps.DERIVATIVE_LIMIT[dtype], scale=scale, rows=(x, t), label="sigmoid")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_limits_of_the_temperature(dtype):
    """T to 0: nothing moves but ties, without a NaN; T to infinity: the mean is taken off, over n T."""
    x, t = np.array([[1, 3, 2], [1, 3, 0]], dtype), np.array([[2, -1, 5], [0, 1, 2]], dtype)
    for cold in (1e-30, 1e-300, 5e-324):
        for name in ("softmax_jvp", "softmax_vjp"):
            assert not BY_NAME[name](x, t, temperature=cold).astype(float).any(), f"{name} {dtype} T={cold}"
        y = softmax_rs.softmax(x, temperature=cold)
        assert not softmax_rs.softmax_backward(y, t, temperature=cold).astype(float).any(), f"{dtype} T={cold}"
        pushed = softmax_rs.log_softmax_jvp(x, t, temperature=cold).astype(float)
        assert (pushed[:, 1] == 0).all() and pushed[0, 0] > 1e3 and pushed[0, 2] > 1e3, f"{dtype} T={cold}: {pushed}"
        pulled = softmax_rs.log_softmax_vjp(x, t, temperature=cold).astype(float)
        assert (pulled[0] > 1e3).tolist() == [True, False, True] and pulled[0, 1] < -1e3, f"{dtype} T={cold}: {pulled}"
        ties = softmax_rs.softmax_jvp(np.array([3, 3, 1], dtype), np.array([1, 2, 7], dtype), temperature=cold)
        assert ties[0] < -1e3 and ties[1] > 1e3 and ties[2] == 0, f"{dtype} T={cold}: {ties}"
        assert not softmax_rs.softmax_jacobian(x, temperature=cold).astype(float).any(), f"{dtype} T={cold}"
    wide = t.astype(np.longdouble)
    for hot in (1e4, 1e30, 1e300):
        want = (wide - wide.mean(axis=-1, keepdims=True)) / 3 / np.longdouble(hot)
        got = softmax_rs.softmax_jvp(np.zeros_like(x), t, temperature=hot)
        precision = ulps.DERIVATIVE_LIMIT.get(dtype, 2.0)
        assert_close(got, want, dtype, precision, scale=np.abs(want).max(), rows=(x, t), label=f"T={hot}")


@pytest.mark.parametrize("dtype", [FLOAT16, FLOAT32], ids=str)
def test_many_equal_logits(dtype, rng):
    """100 000 classes: sums of cotangents beyond float16's range, and means of many terms, are no hazard."""
    n = 100_000
    x, g = np.zeros((1, n), dtype), (rng.normal(0, 1, (1, n)) + 3).astype(dtype)
    assert n > LONG and float(g.astype(float).sum()) > 65504
    for f in OF_TWO:
        arrays = (x, g) if f.names == ("x", "g") and f.output == "elements" and f.name != "logsumexp_vjp" else None
        arrays = arrays or (*f.arguments(rng, x)[:1], *(b + np.array(3, dtype) for b in f.arguments(rng, x)[1:]))
        f.check(f(*arrays, axis=-1), dtype, *arrays)
