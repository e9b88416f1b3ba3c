//! Losses of rows of logits.

#![allow(
    clippy::too_many_arguments,
    reason = "the keywords of the public functions, which the field expects; Python calls them by name"
)]

use pyo3::prelude::*;
use softmax_core::Reduction;

use crate::arguments::{self, Index, OneAxis, Real, Reduce};
use crate::array::{CrossEntropy, IGNORED, Terms};
use crate::grid::Axis;
use crate::numbers::Numbers;

/// An argument that may be left out.
#[inline]
fn numbers(value: Option<Real<'_>>, name: &'static str) -> PyResult<Option<Numbers>> {
    value.map(|value| value.read(name)).transpose()
}

/// The `label_smoothing` argument.
#[inline]
fn smoothing(value: Real<'_>) -> PyResult<f64> {
    value.number("label_smoothing", "in [0, 1]", |e| (0.0..=1.0).contains(&e))
}

/// The `z_loss` argument.
#[inline]
fn coefficient(value: Real<'_>) -> PyResult<f64> {
    value.number("z_loss", "finite and not negative", |a| a >= 0.0 && a.is_finite())
}

/// The `softcap` argument.
#[inline]
fn cap(value: Option<Real<'_>>) -> PyResult<Option<f64>> {
    let right = |c: f64| c > 0.0 && c.is_finite();
    value
        .map(|value| value.number("softcap", "positive and finite, or None", right))
        .transpose()
}

/// Return the cross entropy of logits and targets: the loss of classification.
///
/// ``cross_entropy(logits, target) = -mean(log(softmax(logits))[target])``
///
#[doc = include_str!("../doc/loss_arrays.txt")]
#[doc = include_str!("../doc/loss_terms.txt")]
#[doc = include_str!("../doc/loss_extra.txt")]
#[doc = include_str!("../doc/loss_where.txt")]
///
/// Returns
/// -------
/// loss : float or numpy.ndarray
///     A scalar for ``'mean'`` and ``'sum'``; for ``'none'`` a new array of the shape of `logits` without `axis`.
///     float64 for float64 and integer logits, else float32.
///
#[doc = include_str!("../doc/loss_raises.txt")]
///
/// See Also
/// --------
/// cross_entropy_with_grad : The loss and its gradient, in one pass.
/// cross_entropy_hvp : The Hessian times a vector.
///
/// Notes
/// -----
#[doc = include_str!("../doc/loss_notes.txt")]
///
/// With class indices, and without `label_smoothing` and `z_loss`, errors of the loss of a row are at most 2 ULP for
/// float32 and 3 for float64, in ULP of the largest of abs(m - logits[y]) / T, the loss and log1p(s), with m the maximum
/// and s the sum of the other exponentials over its own; otherwise at most 4 and 5, in ULP of the sum of the absolute
/// values of its terms.
///
#[doc = include_str!("../doc/loss_bits.txt")]
///
#[doc = include_str!("../doc/loss_references.txt")]
#[doc = include_str!("../doc/loss_extra_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import cross_entropy
/// >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
/// >>> print(f"{cross_entropy(logits, np.array([0, 1])):.6f}")
/// 0.288726
/// >>> cross_entropy(logits, np.array([0, 1]), reduction="none")
/// array([0.40760596, 0.16984602])
/// >>> cross_entropy(np.array([[40.0, 0.0]]), np.array([0]), reduction="none")
/// array([4.24835426e-18])
#[pyfunction]
#[pyo3(
    signature = (
        logits, target, *, axis = OneAxis(-1), weight = None, sample_weight = None, ignore_index = Index(IGNORED),
        label_smoothing = Real::One(0.0), reduction = Reduce(Reduction::Mean), temperature = Real::One(1.0),
        z_loss = Real::One(0.0), softcap = None, r#where = None
    ),
    text_signature = "(logits, target, *, axis=-1, weight=None, sample_weight=None, ignore_index=-100, \
        label_smoothing=0.0, reduction='mean', temperature=1.0, z_loss=0.0, softcap=None, where=None)"
)]
pub fn cross_entropy<'py>(
    logits: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    axis: OneAxis,
    weight: Option<Real<'py>>,
    sample_weight: Option<Real<'py>>,
    ignore_index: Index,
    label_smoothing: Real<'py>,
    reduction: Reduce,
    temperature: Real<'py>,
    z_loss: Real<'py>,
    softcap: Option<Real<'py>>,
    r#where: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    CrossEntropy {
        logits: arguments::operand(logits, "logits")?,
        target: arguments::target(target)?,
        v: None,
        mask: arguments::mask(r#where)?,
        out: None,
        dtype: None,
        terms: Terms {
            axis: Axis::Only(axis.0),
            weight: numbers(weight, "weight")?,
            sample_weight: numbers(sample_weight, "sample_weight")?,
            ignore_index: ignore_index.0,
            label_smoothing: smoothing(label_smoothing)?,
            reduction: reduction.0,
            temperature: temperature.temperature()?,
            z_loss: coefficient(z_loss)?,
            softcap: cap(softcap)?,
            grad_output: None,
        },
    }
    .loss(logits.py())
}

/// Return the cross entropy and its gradient with respect to the logits, in one pass.
///
/// ``grad = (softmax(logits) - one_hot(target)) / rows`` in the plain case
///
#[doc = include_str!("../doc/loss_arrays.txt")]
#[doc = include_str!("../doc/loss_terms.txt")]
#[doc = include_str!("../doc/loss_extra.txt")]
#[doc = include_str!("../doc/loss_where.txt")]
#[doc = include_str!("../doc/loss_grad_output.txt")]
#[doc = include_str!("../doc/loss_out.txt")]
///
/// Returns
/// -------
/// loss : float or numpy.ndarray
///     A scalar for ``'mean'`` and ``'sum'``; for ``'none'`` a new array of the shape of `logits` without `axis`.
///     float64 for float64 and integer logits, else float32.
/// grad : numpy.ndarray
///     The gradient of the loss, times `grad_output`, of the shape of `logits` and the dtype that they are computed in:
///     new and in C order, or `out`.
///
#[doc = include_str!("../doc/loss_raises.txt")]
#[doc = include_str!("../doc/loss_raises_out.txt")]
///
/// See Also
/// --------
/// cross_entropy : The loss alone.
/// cross_entropy_hvp : The Hessian times a vector.
///
/// Notes
/// -----
#[doc = include_str!("../doc/loss_notes.txt")]
///
/// The gradient of a row with coefficients c = w * t is (p sum(c) - c) / T. Every component has an error of at most 3.5
/// ULP for float32 and 4 for float64 if the targets are class indices, without `label_smoothing` and `z_loss`; also
/// where p rounds to 1. Otherwise it is at most 4 and 5 ULP of the largest of the component and its terms, for coefficients
/// whose sum is at least 1e-28 (float64: 1e-288). Losses have the limits of `cross_entropy`. With class indices the
/// last digit may differ from its: it adds exponentials that are not rounded, while here they are those of the gradient.
///
#[doc = include_str!("../doc/subnormal.txt")]
///
/// Ignored rows have a gradient of 0, and so have masked classes and, under a `softcap`, infinite logits.
///
#[doc = include_str!("../doc/loss_bits.txt")]
///
#[doc = include_str!("../doc/loss_references.txt")]
#[doc = include_str!("../doc/loss_extra_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import cross_entropy_with_grad
/// >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
/// >>> loss, grad = cross_entropy_with_grad(logits, np.array([0, 1]))
/// >>> print(f"{loss:.6f}")
/// 0.288726
/// >>> grad
/// array([[-0.16737952,  0.12236424,  0.04501529],
///        [ 0.02100503, -0.07810263,  0.0570976 ]])
/// >>> cross_entropy_with_grad(np.array([40.0, 0.0]), np.array(0))[1]
/// array([-4.24835426e-18,  4.24835426e-18])
#[pyfunction]
#[pyo3(
    signature = (
        logits, target, *, axis = OneAxis(-1), weight = None, sample_weight = None, ignore_index = Index(IGNORED),
        label_smoothing = Real::One(0.0), reduction = Reduce(Reduction::Mean), temperature = Real::One(1.0),
        z_loss = Real::One(0.0), softcap = None, r#where = None, grad_output = None, out = None
    ),
    text_signature = "(logits, target, *, axis=-1, weight=None, sample_weight=None, ignore_index=-100, \
        label_smoothing=0.0, reduction='mean', temperature=1.0, z_loss=0.0, softcap=None, \
        where=None, grad_output=None, out=None)"
)]
pub fn cross_entropy_with_grad<'py>(
    logits: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    axis: OneAxis,
    weight: Option<Real<'py>>,
    sample_weight: Option<Real<'py>>,
    ignore_index: Index,
    label_smoothing: Real<'py>,
    reduction: Reduce,
    temperature: Real<'py>,
    z_loss: Real<'py>,
    softcap: Option<Real<'py>>,
    r#where: Option<&Bound<'py, PyAny>>,
    grad_output: Option<Real<'py>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    CrossEntropy {
        logits: arguments::operand(logits, "logits")?,
        target: arguments::target(target)?,
        v: None,
        mask: arguments::mask(r#where)?,
        out: arguments::out(out)?,
        dtype: None,
        terms: Terms {
            axis: Axis::Only(axis.0),
            weight: numbers(weight, "weight")?,
            sample_weight: numbers(sample_weight, "sample_weight")?,
            ignore_index: ignore_index.0,
            label_smoothing: smoothing(label_smoothing)?,
            reduction: reduction.0,
            temperature: temperature.temperature()?,
            z_loss: coefficient(z_loss)?,
            softcap: cap(softcap)?,
            grad_output: numbers(grad_output, "grad_output")?,
        },
    }
    .loss_and_gradient(logits.py())
}

/// Return the Hessian of the cross entropy of logits and targets, times a vector.
///
/// ``cross_entropy_hvp(logits, target, v) = p * (v - sum(p * v)) / rows`` in the plain case, ``p = softmax(logits)``
///
#[doc = include_str!("../doc/loss_arrays.txt")]
/// v : array_like
///     What the Hessian is multiplied with: a direction in the space of the logits. `logits` and `v` broadcast to each
///     other, and the dtype of the result is that of ``numpy.result_type(logits, v)``.
#[doc = include_str!("../doc/loss_terms.txt")]
#[doc = include_str!("../doc/loss_where.txt")]
#[doc = include_str!("../doc/loss_out.txt")]
///
/// Returns
/// -------
/// numpy.ndarray
///     Of the common shape of `logits` and `v`: new and in C order, or `out`. Rows do not depend on each other, so
///     ``'none'`` and ``'sum'`` give the same.
///
#[doc = include_str!("../doc/loss_raises.txt")]
#[doc = include_str!("../doc/loss_raises_out.txt")]
///
/// See Also
/// --------
/// cross_entropy_with_grad : The loss and its gradient.
/// softmax_jvp : What this is for each row, but for the weights.
///
/// Notes
/// -----
#[doc = include_str!("../doc/loss_notes.txt")]
///
/// With A = sum(w * t) the Hessian of a row is A / T times the Jacobian of softmax. With k the first maximum and
/// h = v - v[k], errors are at most 6 ULP of A p (abs(h) + sum(p abs(h))) / T^2.
///
#[doc = include_str!("../doc/subnormal.txt")]
///
#[doc = include_str!("../doc/loss_bits.txt")]
///
#[doc = include_str!("../doc/loss_references.txt")]
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import cross_entropy_hvp
/// >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
/// >>> cross_entropy_hvp(logits, np.array([0, 1]), np.array([1.0, 0.0, 0.0]))
/// array([[ 0.11134771, -0.0814017 , -0.02994601],
///        [ 0.02012261, -0.01772394, -0.00239867]])
#[pyfunction]
#[pyo3(
    signature = (
        logits, target, v, *, axis = OneAxis(-1), weight = None, sample_weight = None, ignore_index = Index(IGNORED),
        label_smoothing = Real::One(0.0), reduction = Reduce(Reduction::Mean), temperature = Real::One(1.0),
        r#where = None, out = None
    ),
    text_signature = "(logits, target, v, *, axis=-1, weight=None, sample_weight=None, ignore_index=-100, \
        label_smoothing=0.0, reduction='mean', temperature=1.0, where=None, out=None)"
)]
pub fn cross_entropy_hvp<'py>(
    logits: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    v: &Bound<'py, PyAny>,
    axis: OneAxis,
    weight: Option<Real<'py>>,
    sample_weight: Option<Real<'py>>,
    ignore_index: Index,
    label_smoothing: Real<'py>,
    reduction: Reduce,
    temperature: Real<'py>,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (first, second, dtype) = arguments::pair(logits, v, ["logits", "v"])?;
    CrossEntropy {
        logits: first,
        target: arguments::target(target)?,
        v: Some(second),
        mask: arguments::mask(r#where)?,
        out: arguments::out(out)?,
        dtype: Some(dtype),
        terms: Terms {
            axis: Axis::Only(axis.0),
            weight: numbers(weight, "weight")?,
            sample_weight: numbers(sample_weight, "sample_weight")?,
            ignore_index: ignore_index.0,
            label_smoothing: smoothing(label_smoothing)?,
            reduction: reduction.0,
            temperature: temperature.temperature()?,
            z_loss: 0.0,
            softcap: None,
            grad_output: None,
        },
    }
    .hessian_product(logits.py())
}
