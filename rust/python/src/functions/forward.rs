//! The forward functions.

use pyo3::prelude::*;
use softmax_core::Op;

use crate::arguments::{self, Flag, Real};
use crate::array::Call;
use crate::grid::Axis;
use crate::numbers::Numbers;

/// Return the softmax along an axis: probabilities in proportion to the exponentials.
///
/// ``softmax(x)[i] = exp(x[i] / T) / sum(exp(x / T))``
///
#[doc = include_str!("../doc/parameters.txt")]
/// Returns
/// -------
/// numpy.ndarray
///     Probabilities, of the shape of `x`: new and in C order, or `out`. A scalar where `x` is 0-d.
///
#[doc = include_str!("../doc/raises.txt")]
/// See Also
/// --------
/// log_softmax : Its logarithm, right where the probability underflows.
///
/// Notes
/// -----
/// Errors are at most 3 ULP for float32, 3.5 for float64 and 0.51 for float16 and bfloat16, at every temperature.
///
/// A row that holds NaN or ``+inf``, or nothing but ``-inf``, gives NaN in all its places. Otherwise ``-inf`` gives 0.
/// A masked element gives 0, in such rows too. A row without elements gives none.
///
#[doc = include_str!("../doc/bits.txt")]
#[doc = include_str!("../doc/references.txt")]
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import softmax
/// >>> softmax(np.array([1.0, 2.0, 4.0]))
/// array([0.04201007, 0.1141952 , 0.84379473])
/// >>> softmax(np.array([[0, 0], [1000, 1000]]), axis=-1)
/// array([[0.5, 0.5],
///        [0.5, 0.5]])
/// >>> softmax(np.array([1.0, 2.0, np.nan]), where=np.array([True, True, False]))
/// array([0.26894142, 0.73105858, 0.        ])
#[pyfunction]
#[pyo3(
    signature = (x, axis = Axis::One(-1), *, temperature = Real::One(1.0), r#where = None, out = None, dtype = None),
    text_signature = "(x, axis=-1, *, temperature=1.0, where=None, out=None, dtype=None)"
)]
pub fn softmax<'py>(
    x: &Bound<'py, PyAny>,
    axis: Axis,
    temperature: Real<'py>,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    Call {
        op: Op::Softmax,
        x: arguments::operand(x, "x")?,
        second: None,
        cotangent: None,
        axis,
        temperature: temperature.temperature()?,
        mask: arguments::mask(r#where)?,
        out: arguments::out(out)?,
        dtype: arguments::dtype(dtype)?,
        keepdims: false,
    }
    .evaluate(x.py())
}

/// Return the logarithm of the softmax along an axis.
///
/// ``log_softmax(x)[i] = x[i] / T - log(sum(exp(x / T)))``
///
#[doc = include_str!("../doc/parameters.txt")]
/// Returns
/// -------
/// numpy.ndarray
///     Logarithms of probabilities, of the shape of `x`: new and in C order, or `out`. A scalar where `x` is 0-d.
///
#[doc = include_str!("../doc/raises.txt")]
/// See Also
/// --------
/// softmax : The probabilities.
/// logsumexp : What is subtracted.
///
/// Notes
/// -----
/// Errors are at most 1.5 ULP for float32 (2.75 for rows of fewer than 64 elements, with a probability above 0.6 or, where
/// T is not 1, with a maximum beyond 2e5 T), 2 for float64 and 0.51 for float16 and bfloat16.
///
/// A row that holds NaN or ``+inf``, or nothing but ``-inf``, gives NaN in all its places. Otherwise ``-inf`` stays. A
/// masked element gives ``-inf``, in such rows too. A row without elements gives none.
///
#[doc = include_str!("../doc/bits.txt")]
#[doc = include_str!("../doc/references.txt")]
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import log_softmax
/// >>> log_softmax(np.array([1.0, 2.0, 4.0]))
/// array([-3.16984602, -2.16984602, -0.16984602])
/// >>> log_softmax(np.array([0.0, -40.0]))
/// array([-4.24835426e-18, -4.00000000e+01])
#[pyfunction]
#[pyo3(
    signature = (x, axis = Axis::One(-1), *, temperature = Real::One(1.0), r#where = None, out = None, dtype = None),
    text_signature = "(x, axis=-1, *, temperature=1.0, where=None, out=None, dtype=None)"
)]
pub fn log_softmax<'py>(
    x: &Bound<'py, PyAny>,
    axis: Axis,
    temperature: Real<'py>,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    Call {
        op: Op::LogSoftmax,
        x: arguments::operand(x, "x")?,
        second: None,
        cotangent: None,
        axis,
        temperature: temperature.temperature()?,
        mask: arguments::mask(r#where)?,
        out: arguments::out(out)?,
        dtype: arguments::dtype(dtype)?,
        keepdims: false,
    }
    .evaluate(x.py())
}

/// Return the logarithm of the sum of the exponentials over one or more axes.
///
/// ``logsumexp(x) = log(sum(exp(x)))``
///
/// Parameters
/// ----------
/// x : array_like
///     Logits, of any shape and strides: float16, bfloat16, float32 or float64; integers and bool are computed as
///     float64.
/// axis : int, tuple of int or None, optional
///     The axes to sum over. By default all of them. ``()`` makes each element a row of its own.
/// keepdims : bool, optional
///     Whether the axes that were summed over stay, with length 1.
/// where : array_like of bool, optional
///     The elements that take part; must broadcast to the shape of `x`. What is in the others does not matter, be it
///     NaN.
/// out : numpy.ndarray, optional
///     Where to write the result: a writeable array of its shape and dtype, of any strides. It may overlap with `x` and
///     `where`.
/// dtype : dtype_like, optional
///     float16, bfloat16, float32 or float64: what `x` is converted to first, and the dtype of the result.
///
/// Returns
/// -------
/// numpy.ndarray
///     One number per row, of the shape of `x` without the axes that were summed over: new and in C order, or `out`. A
///     scalar where no axis is left.
///
#[doc = include_str!("../doc/raises.txt")]
/// See Also
/// --------
/// log_softmax : `x` less this.
///
/// Notes
/// -----
/// With m the maximum and s the sum of the other exponentials over its own, the result is m + log1p(s). Errors are at
/// most 1 ULP for float32, 1.5 for float64 and 0.51 for float16 and bfloat16, in ULP of the largest of abs(m),
/// abs(result) and log1p(s).
///
/// A row that holds NaN gives NaN; otherwise ``+inf`` gives ``+inf``. ``-inf`` and masked elements add nothing: a row
/// of nothing else gives ``-inf``, and so does a row without elements.
///
#[doc = include_str!("../doc/bits.txt")]
#[doc = include_str!("../doc/references.txt")]
/// Examples
/// --------
/// >>> import numpy as np
/// >>> from softmax_rs import logsumexp
/// >>> x = np.array([[1000.0, 1000.0], [0.0, -40.0]])
/// >>> logsumexp(x, axis=1)
/// array([1.00069315e+03, 4.24835426e-18])
/// >>> logsumexp(x, axis=1, keepdims=True).shape
/// (2, 1)
/// >>> logsumexp(np.zeros((0, 2)), axis=0)
/// array([-inf, -inf])
#[pyfunction]
#[pyo3(
    signature = (x, axis = Axis::All, *, keepdims = Flag(false), r#where = None, out = None, dtype = None),
    text_signature = "(x, axis=None, *, keepdims=False, where=None, out=None, dtype=None)"
)]
pub fn logsumexp<'py>(
    x: &Bound<'py, PyAny>,
    axis: Axis,
    keepdims: Flag,
    r#where: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    Call {
        op: Op::LogSumExp,
        x: arguments::operand(x, "x")?,
        second: None,
        cotangent: None,
        axis,
        temperature: Numbers::One(1.0),
        mask: arguments::mask(r#where)?,
        out: arguments::out(out)?,
        dtype: arguments::dtype(dtype)?,
        keepdims: keepdims.0,
    }
    .evaluate(x.py())
}
