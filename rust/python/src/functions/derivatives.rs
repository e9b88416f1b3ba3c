//! Derivatives: products with the Jacobians from logits, from a saved result, and the Jacobians themselves.

use pyo3::prelude::*;
use softmax_core::{Dtype, Op};

use crate::arguments::{self, Flag, OneAxis, Real};
use crate::array::{Array, Call};
use crate::grid::Axis;
use crate::numbers::Numbers;

/// The call of a product that has as many elements as the logits.
#[inline(always)]
fn product<'py>(
    op: Op,
    (x, second, dtype): (Array<'py>, Array<'py>, Dtype),
    axis: Axis,
    temperature: Real<'py>,
    mask: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Call<'py>> {
    Ok(Call {
        op,
        x,
        second: Some(second),
        cotangent: None,
        axis,
        temperature: temperature.temperature()?,
        mask: arguments::mask(mask)?,
        out: arguments::out(out)?,
        dtype: Some(dtype),
        keepdims: false,
    })
}

/// Return the derivative of softmax along a tangent: the Jacobian times a vector.
///
/// ``softmax_jvp(x, t) = J t = p * (t - sum(p * t)) / T``, with ``p = softmax(x / T)``
///
#[doc = include_str!("../doc/product_logits.txt")]
#[doc = include_str!("../doc/tangent.txt")]
#[doc = include_str!("../doc/product_axis.txt")]
#[doc = include_str!("../doc/product_temperature.txt")]
#[doc = include_str!("../doc/product_where.txt")]
#[doc = include_str!("../doc/product_out.txt")]
///
#[doc = include_str!("../doc/product_returns.txt")]
///
#[doc = include_str!("../doc/product_raises.txt")]
///
/// See Also
/// --------
/// softmax_vjp : The same, as backpropagation calls it: J is symmetric.
/// softmax_backward : From a saved result.
/// softmax_jacobian : The matrix.
///
/// Notes
/// -----
///
/// With k the first maximum and h = t - t[k] (J takes constants to 0), errors are at most 6 ULP of
/// p (abs(h) + sum(p abs(h))) / T, at every temperature; float16 and bfloat16 are computed in float32 and rounded once.
///
#[doc = include_str!("../doc/product_special.txt")]
///
#[doc = include_str!("../doc/subnormal.txt")]
///
#[doc = include_str!("../doc/bits.txt")]
///
#[doc = include_str!("../doc/product_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import softmax_jvp
/// >>> x = np.array([1.0, 2.0, 4.0])
/// >>> softmax_jvp(x, np.array([1.0, 0.0, 0.0]))
/// array([ 0.04024522, -0.00479735, -0.03544787])
/// >>> softmax_jvp(np.array([0.0, -40.0]), np.array([0.0, 1.0]))
/// array([-4.24835426e-18,  4.24835426e-18])
#[pyfunction]
#[pyo3(
    signature = (x, t, axis = Axis::One(-1), *, temperature = Real::One(1.0), r#where = None, out = None),
    text_signature = "(x, t, axis=-1, *, temperature=1.0, where=None, out=None)"
)]
pub fn softmax_jvp<'py>(
    x: &Bound<'py, PyAny>,
    t: &Bound<'py, PyAny>,
    axis: Axis,
    temperature: Real<'py>,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arrays = arguments::pair(x, t, ["x", "t"])?;
    product(Op::SoftmaxProduct, arrays, axis, temperature, r#where, out)?.evaluate(x.py())
}

/// Return the gradient through softmax: a cotangent times the Jacobian.
///
/// ``softmax_vjp(x, g) = J^T g = p * (g - sum(p * g)) / T``, with ``p = softmax(x / T)``
///
#[doc = include_str!("../doc/product_logits.txt")]
#[doc = include_str!("../doc/cotangent.txt")]
#[doc = include_str!("../doc/product_axis.txt")]
#[doc = include_str!("../doc/product_temperature.txt")]
#[doc = include_str!("../doc/product_where.txt")]
#[doc = include_str!("../doc/product_out.txt")]
///
#[doc = include_str!("../doc/product_returns.txt")]
///
#[doc = include_str!("../doc/product_raises.txt")]
///
/// See Also
/// --------
/// softmax_backward : The same from a saved result: nothing is computed twice.
/// softmax_jvp : The same, as forward differentiation calls it: J is symmetric.
/// softmax_jacobian : The matrix.
///
/// Notes
/// -----
///
/// With k the first maximum and h = g - g[k] (J takes constants to 0), errors are at most 6 ULP of
/// p (abs(h) + sum(p abs(h))) / T, at every temperature; float16 and bfloat16 are computed in float32 and rounded once.
///
#[doc = include_str!("../doc/product_special.txt")]
///
#[doc = include_str!("../doc/subnormal.txt")]
///
#[doc = include_str!("../doc/bits.txt")]
///
#[doc = include_str!("../doc/product_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import softmax_vjp
/// >>> x = np.array([1.0, 2.0, 4.0])
/// >>> softmax_vjp(x, np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
/// array([[ 0.04024522, -0.00479735, -0.03544787],
///        [-0.03544787, -0.09635731,  0.13180518]])
#[pyfunction]
#[pyo3(
    signature = (x, g, axis = Axis::One(-1), *, temperature = Real::One(1.0), r#where = None, out = None),
    text_signature = "(x, g, axis=-1, *, temperature=1.0, where=None, out=None)"
)]
pub fn softmax_vjp<'py>(
    x: &Bound<'py, PyAny>,
    g: &Bound<'py, PyAny>,
    axis: Axis,
    temperature: Real<'py>,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arrays = arguments::pair(x, g, ["x", "g"])?;
    product(Op::SoftmaxProduct, arrays, axis, temperature, r#where, out)?.evaluate(x.py())
}

/// Return the derivative of log_softmax along a tangent: the Jacobian times a vector.
///
/// ``log_softmax_jvp(x, t) = J t = (t - sum(p * t)) / T``, with ``p = softmax(x / T)``
///
#[doc = include_str!("../doc/product_logits.txt")]
#[doc = include_str!("../doc/tangent.txt")]
#[doc = include_str!("../doc/product_axis.txt")]
#[doc = include_str!("../doc/product_temperature.txt")]
#[doc = include_str!("../doc/product_where.txt")]
#[doc = include_str!("../doc/product_out.txt")]
///
#[doc = include_str!("../doc/product_returns.txt")]
///
#[doc = include_str!("../doc/product_raises.txt")]
///
/// See Also
/// --------
/// log_softmax_vjp : The other side: this Jacobian is not symmetric.
/// log_softmax_jacobian : The matrix.
///
/// Notes
/// -----
///
/// With k the first maximum and h = t - t[k] (J takes constants to 0), errors are at most 6 ULP of
/// (abs(h) + sum(p abs(h))) / T, at every temperature; float16 and bfloat16 are computed in float32 and rounded once.
///
#[doc = include_str!("../doc/product_special.txt")]
///
#[doc = include_str!("../doc/subnormal.txt")]
///
#[doc = include_str!("../doc/bits.txt")]
///
#[doc = include_str!("../doc/product_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import log_softmax_jvp
/// >>> x = np.array([1.0, 2.0, 4.0])
/// >>> log_softmax_jvp(x, np.array([1.0, 0.0, 0.0]))
/// array([ 0.95798993, -0.04201007, -0.04201007])
#[pyfunction]
#[pyo3(
    signature = (x, t, axis = Axis::One(-1), *, temperature = Real::One(1.0), r#where = None, out = None),
    text_signature = "(x, t, axis=-1, *, temperature=1.0, where=None, out=None)"
)]
pub fn log_softmax_jvp<'py>(
    x: &Bound<'py, PyAny>,
    t: &Bound<'py, PyAny>,
    axis: Axis,
    temperature: Real<'py>,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arrays = arguments::pair(x, t, ["x", "t"])?;
    product(Op::LogSoftmaxJvp, arrays, axis, temperature, r#where, out)?.evaluate(x.py())
}

/// Return the gradient through log_softmax: a cotangent times the Jacobian.
///
/// ``log_softmax_vjp(x, g) = J^T g = (g - p * sum(g)) / T``, with ``p = softmax(x / T)``
///
#[doc = include_str!("../doc/product_logits.txt")]
#[doc = include_str!("../doc/cotangent.txt")]
#[doc = include_str!("../doc/product_axis.txt")]
#[doc = include_str!("../doc/product_temperature.txt")]
#[doc = include_str!("../doc/product_where.txt")]
#[doc = include_str!("../doc/product_out.txt")]
///
#[doc = include_str!("../doc/product_returns.txt")]
///
#[doc = include_str!("../doc/product_raises.txt")]
///
/// See Also
/// --------
/// log_softmax_backward : The same from a saved result: nothing is computed twice.
/// log_softmax_jvp : The other side: this Jacobian is not symmetric.
/// log_softmax_jacobian : The matrix.
///
/// Notes
/// -----
///
/// At the first maximum k, whose probability may round to 1, it is (g[k] s - sum of the other g) / ((1 + s) T), with s
/// the sum of the other exponentials over that of x[k]. Errors are at most 6 ULP of the largest term, abs(g) or p
/// sum(abs(g)), over T, at every temperature; float16 and bfloat16 are computed in float32 and rounded once.
///
#[doc = include_str!("../doc/product_special.txt")]
///
#[doc = include_str!("../doc/subnormal.txt")]
///
#[doc = include_str!("../doc/bits.txt")]
///
#[doc = include_str!("../doc/product_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import log_softmax_vjp
/// >>> x = np.array([1.0, 2.0, 4.0])
/// >>> log_softmax_vjp(x, np.array([1.0, 0.0, 0.0]))
/// array([ 0.95798993, -0.1141952 , -0.84379473])
/// >>> log_softmax_vjp(np.array([0.0, -40.0]), np.array([1.0, 0.0]))
/// array([ 4.24835426e-18, -4.24835426e-18])
#[pyfunction]
#[pyo3(
    signature = (x, g, axis = Axis::One(-1), *, temperature = Real::One(1.0), r#where = None, out = None),
    text_signature = "(x, g, axis=-1, *, temperature=1.0, where=None, out=None)"
)]
pub fn log_softmax_vjp<'py>(
    x: &Bound<'py, PyAny>,
    g: &Bound<'py, PyAny>,
    axis: Axis,
    temperature: Real<'py>,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arrays = arguments::pair(x, g, ["x", "g"])?;
    product(Op::LogSoftmaxVjp, arrays, axis, temperature, r#where, out)?.evaluate(x.py())
}

/// Return the derivative of logsumexp along a tangent.
///
/// ``logsumexp_jvp(x, t) = sum(p * t)``, with ``p = softmax(x)``
///
#[doc = include_str!("../doc/product_logits.txt")]
#[doc = include_str!("../doc/tangent.txt")]
/// axis : int, tuple of int or None, optional
///     The axes to sum over. By default all of them. ``()`` makes each element a row of its own.
/// keepdims : bool, optional
///     Whether the axes that were summed over stay, with length 1.
/// where : array_like of bool, optional
///     The elements that take part; must broadcast to the common shape. What either array has in the others does not
///     matter, be it NaN.
/// out : numpy.ndarray, optional
///     Where to write the result: a writeable array of its shape and dtype, of any strides. It may overlap with an
///     argument.
///
/// Returns
/// -------
/// numpy.ndarray
///     One number per row, of the common shape without the axes that were summed over: new and in C order, or `out`. A
///     scalar where no axis is left.
///
#[doc = include_str!("../doc/product_raises.txt")]
///
/// See Also
/// --------
/// logsumexp_vjp : The gradient.
/// logsumexp : The function itself.
///
/// Notes
/// -----
/// With k the first maximum the result is t[k] + sum(p (t - t[k])). Errors are at most 6 ULP of
/// abs(t[k]) + sum(p abs(t - t[k])); float16 and bfloat16 are computed in float32 and rounded once.
///
#[doc = include_str!("../doc/subnormal.txt")]
///
/// A row whose softmax is NaN gives NaN. A row without elements, or with none that takes part, gives 0.
///
#[doc = include_str!("../doc/bits.txt")]
///
#[doc = include_str!("../doc/product_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import logsumexp_jvp
/// >>> x = np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
/// >>> logsumexp_jvp(x, np.array([1.0, 2.0, 3.0]), axis=1)
/// array([2.80178467, 2.        ])
#[pyfunction]
#[pyo3(
    signature = (x, t, axis = Axis::All, *, keepdims = Flag(false), r#where = None, out = None),
    text_signature = "(x, t, axis=None, *, keepdims=False, where=None, out=None)"
)]
pub fn logsumexp_jvp<'py>(
    x: &Bound<'py, PyAny>,
    t: &Bound<'py, PyAny>,
    axis: Axis,
    keepdims: Flag,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arrays = arguments::pair(x, t, ["x", "t"])?;
    let mut call = product(Op::LogSumExpJvp, arrays, axis, Real::One(1.0), r#where, out)?;
    call.keepdims = keepdims.0;
    call.evaluate(x.py())
}

/// Return the gradient through logsumexp.
///
/// ``logsumexp_vjp(x, g) = g * p``, with ``p = softmax(x)`` and one g for each row
///
#[doc = include_str!("../doc/product_logits.txt")]
/// g : array_like
///     The cotangent: the gradient of a scalar with respect to ``logsumexp(x, axis)``. A number, or an array of the
///     shape of that, with or without ``keepdims``. The dtype of the result is that of ``numpy.result_type(x, g)``.
/// axis : int, tuple of int or None, optional
///     The axes that are summed over. By default all of them. ``()`` makes each element a row of its own.
/// where : array_like of bool, optional
///     The elements that take part; must broadcast to the shape of `x`. What is in the others does not matter, be it
///     NaN; the result is 0 there.
/// out : numpy.ndarray, optional
///     Where to write the result: a writeable array of its shape and dtype, of any strides. `x` itself is computed in
///     place, and any other overlap with an argument is right too.
///
/// Returns
/// -------
/// numpy.ndarray
///     Of the shape of `x`: new and in C order, or `out`. A scalar where `x` is 0-d.
///
#[doc = include_str!("../doc/product_raises.txt")]
///
/// See Also
/// --------
/// logsumexp_jvp : The derivative along a tangent.
/// softmax : The gradient for g = 1.
///
/// Notes
/// -----
/// g is used in float64. Errors are at most 4 ULP for float32 and 4.5 for float64; float16 and bfloat16 are computed in
/// float32 and rounded once.
///
#[doc = include_str!("../doc/subnormal.txt")]
///
/// A row whose softmax is NaN gives NaN in all its places but masked ones, which are 0.
///
#[doc = include_str!("../doc/bits.txt")]
///
#[doc = include_str!("../doc/product_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import logsumexp_vjp
/// >>> x = np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
/// >>> logsumexp_vjp(x, np.array([1.0, 3.0]), axis=1)
/// array([[0.04201007, 0.1141952 , 0.84379473],
///        [1.        , 1.        , 1.        ]])
#[pyfunction]
#[pyo3(
    signature = (x, g, axis = Axis::All, *, r#where = None, out = None),
    text_signature = "(x, g, axis=None, *, where=None, out=None)"
)]
pub fn logsumexp_vjp<'py>(
    x: &Bound<'py, PyAny>,
    g: &Bound<'py, PyAny>,
    axis: Axis,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = x.py();
    let (x, g, dtype) = arguments::cotangent(x, g)?;
    Call {
        op: Op::LogSumExpVjp,
        x,
        second: None,
        cotangent: Some(g),
        axis,
        temperature: Numbers::One(1.0),
        mask: arguments::mask(r#where)?,
        out: arguments::out(out)?,
        dtype: Some(dtype),
        keepdims: false,
    }
    .evaluate(py)
}

/// Return the gradient through softmax from its saved result: nothing is computed twice.
///
/// ``softmax_backward(y, g) = y * (g - sum(y * g)) / T``, with ``y = softmax(x / T)``
///
#[doc = include_str!("../doc/product_saved.txt")]
#[doc = include_str!("../doc/saved_cotangent.txt")]
#[doc = include_str!("../doc/product_axis.txt")]
#[doc = include_str!("../doc/product_temperature.txt")]
#[doc = include_str!("../doc/product_where.txt")]
#[doc = include_str!("../doc/product_out.txt")]
///
#[doc = include_str!("../doc/product_returns.txt")]
///
#[doc = include_str!("../doc/product_raises.txt")]
///
/// See Also
/// --------
/// softmax_vjp : The same from the logits.
///
/// Notes
/// -----
///
/// With h = g - g[k], k the place of the first maximum of y if that is above 1/2 and else the first (k = 0: a constant g
/// gives exactly 0), errors are at most 6 ULP of y (abs(h) + sum(y abs(h))) / T. (So a g[0] that is far larger than all
/// others sets their scale, be y[0] ever so small.) float16 and bfloat16 are computed in float32 and rounded once. What
/// `y` has lost by rounding to its dtype is lost: `softmax_vjp` of the logits has it.
///
#[doc = include_str!("../doc/product_special.txt")]
///
#[doc = include_str!("../doc/subnormal.txt")]
///
#[doc = include_str!("../doc/bits.txt")]
///
#[doc = include_str!("../doc/product_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import softmax, softmax_backward
/// >>> y = softmax(np.array([1.0, 2.0, 4.0]))
/// >>> softmax_backward(y, np.array([1.0, 0.0, 0.0]))
/// array([ 0.04024522, -0.00479735, -0.03544787])
#[pyfunction]
#[pyo3(
    signature = (y, g, axis = Axis::One(-1), *, temperature = Real::One(1.0), r#where = None, out = None),
    text_signature = "(y, g, axis=-1, *, temperature=1.0, where=None, out=None)"
)]
pub fn softmax_backward<'py>(
    y: &Bound<'py, PyAny>,
    g: &Bound<'py, PyAny>,
    axis: Axis,
    temperature: Real<'py>,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arrays = arguments::pair(y, g, ["y", "g"])?;
    product(Op::SoftmaxBackward, arrays, axis, temperature, r#where, out)?.evaluate(y.py())
}

/// Return the gradient through log_softmax from its saved result: nothing is computed twice.
///
/// ``log_softmax_backward(y, g) = (g - exp(y) * sum(g)) / T``, with ``y = log_softmax(x / T)``
///
#[doc = include_str!("../doc/product_saved.txt")]
#[doc = include_str!("../doc/saved_cotangent.txt")]
#[doc = include_str!("../doc/product_axis.txt")]
#[doc = include_str!("../doc/product_temperature.txt")]
#[doc = include_str!("../doc/product_where.txt")]
#[doc = include_str!("../doc/product_out.txt")]
///
#[doc = include_str!("../doc/product_returns.txt")]
///
#[doc = include_str!("../doc/product_raises.txt")]
///
/// See Also
/// --------
/// log_softmax_vjp : The same from the logits.
///
/// Notes
/// -----
///
/// Where y is largest, 1 - exp(y) is computed as -expm1(y). Errors are at most 6 ULP of the largest term, abs(g) or
/// exp(y) sum(abs(g)), over T; float16 and bfloat16 are computed in float32 and rounded once. Without `where`, y = -inf
/// is a probability of 0.
///
#[doc = include_str!("../doc/product_special.txt")]
///
#[doc = include_str!("../doc/subnormal.txt")]
///
#[doc = include_str!("../doc/bits.txt")]
///
#[doc = include_str!("../doc/product_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import log_softmax, log_softmax_backward
/// >>> y = log_softmax(np.array([1.0, 2.0, 4.0]))
/// >>> log_softmax_backward(y, np.array([1.0, 0.0, 0.0]))
/// array([ 0.95798993, -0.1141952 , -0.84379473])
#[pyfunction]
#[pyo3(
    signature = (y, g, axis = Axis::One(-1), *, temperature = Real::One(1.0), r#where = None, out = None),
    text_signature = "(y, g, axis=-1, *, temperature=1.0, where=None, out=None)"
)]
pub fn log_softmax_backward<'py>(
    y: &Bound<'py, PyAny>,
    g: &Bound<'py, PyAny>,
    axis: Axis,
    temperature: Real<'py>,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arrays = arguments::pair(y, g, ["y", "g"])?;
    product(Op::LogSoftmaxBackward, arrays, axis, temperature, r#where, out)?.evaluate(y.py())
}

/// The call of a Jacobian.
#[inline(always)]
fn jacobian<'py>(
    op: Op,
    x: &Bound<'py, PyAny>,
    axis: OneAxis,
    temperature: Real<'py>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Call<'py>> {
    Ok(Call {
        op,
        x: arguments::operand(x, "x")?,
        second: None,
        cotangent: None,
        axis: Axis::Only(axis.0),
        temperature: temperature.temperature()?,
        mask: None,
        out: arguments::out(out)?,
        dtype: None,
        keepdims: false,
    })
}

/// Return the Jacobian of softmax: a matrix for each row.
///
/// ``J[i, j] = p[i] * ((i == j) - p[j]) / T``, with ``p = softmax(x / T)``
///
#[doc = include_str!("../doc/jacobian_parameters.txt")]
///
/// See Also
/// --------
/// softmax_jvp : The Jacobian times a vector.
/// softmax_vjp : A vector times the Jacobian.
///
/// Notes
/// -----
/// This is for looking, and for small n: it has n numbers for each logit. Whatever multiplies it has a function that
/// does not build it: `softmax_jvp`, `softmax_vjp`.
///
/// J is symmetric and J 1 = 0; at a temperature of 1 it is the Hessian of logsumexp, and the covariance of a one-hot
/// draw. Errors are at most 6 ULP of each entry, that of a probability that rounds to 1 too; float16 and bfloat16 are
/// computed in float32 and rounded once.
///
#[doc = include_str!("../doc/subnormal.txt")]
///
/// A row whose softmax is NaN gives NaN in all its matrix.
///
#[doc = include_str!("../doc/bits.txt")]
///
#[doc = include_str!("../doc/product_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import softmax_jacobian
/// >>> x = np.array([1.0, 2.0, 4.0])
/// >>> softmax_jacobian(x)
/// array([[ 0.04024522, -0.00479735, -0.03544787],
///        [-0.00479735,  0.10115466, -0.09635731],
///        [-0.03544787, -0.09635731,  0.13180518]])
/// >>> softmax_jacobian(np.zeros((5, 3, 2)), axis=1).shape
/// (5, 2, 3, 3)
#[pyfunction]
#[pyo3(
    signature = (x, axis = OneAxis(-1), *, temperature = Real::One(1.0), out = None),
    text_signature = "(x, axis=-1, *, temperature=1.0, out=None)"
)]
pub fn softmax_jacobian<'py>(
    x: &Bound<'py, PyAny>,
    axis: OneAxis,
    temperature: Real<'py>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    jacobian(Op::SoftmaxJacobian, x, axis, temperature, out)?.evaluate(x.py())
}

/// Return the Jacobian of log_softmax: a matrix for each row.
///
/// ``J[i, j] = ((i == j) - p[j]) / T``, with ``p = softmax(x / T)``
///
#[doc = include_str!("../doc/jacobian_parameters.txt")]
///
/// See Also
/// --------
/// log_softmax_jvp : The Jacobian times a vector.
/// log_softmax_vjp : A vector times the Jacobian.
///
/// Notes
/// -----
/// This is for looking, and for small n: it has n numbers for each logit. Whatever multiplies it has a function that
/// does not build it: `log_softmax_jvp`, `log_softmax_vjp`.
///
/// J is not symmetric; J 1 = 0. Errors are at most 6 ULP of each entry, 1 - p of a probability that rounds to 1 too;
/// float16 and bfloat16 are computed in float32 and rounded once.
///
#[doc = include_str!("../doc/subnormal.txt")]
///
/// A row whose softmax is NaN gives NaN in all its matrix.
///
#[doc = include_str!("../doc/bits.txt")]
///
#[doc = include_str!("../doc/product_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import log_softmax_jacobian
/// >>> x = np.array([1.0, 2.0, 4.0])
/// >>> log_softmax_jacobian(x)
/// array([[ 0.95798993, -0.1141952 , -0.84379473],
///        [-0.04201007,  0.8858048 , -0.84379473],
///        [-0.04201007, -0.1141952 ,  0.15620527]])
#[pyfunction]
#[pyo3(
    signature = (x, axis = OneAxis(-1), *, temperature = Real::One(1.0), out = None),
    text_signature = "(x, axis=-1, *, temperature=1.0, out=None)"
)]
pub fn log_softmax_jacobian<'py>(
    x: &Bound<'py, PyAny>,
    axis: OneAxis,
    temperature: Real<'py>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    jacobian(Op::LogSoftmaxJacobian, x, axis, temperature, out)?.evaluate(x.py())
}
