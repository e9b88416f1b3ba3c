//! From Python objects to the arrays and numbers of a [`Call`](crate::array::Call).
//!
//! This is the half of a call in which Python code may run: `__index__`, `__array__`, the conversions of
//! `_fallback.py`. The common cases (an exact ndarray, an int, a float, None) are settled by comparing type pointers.

use numpy::PyArrayDescr;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyTuple};
use softmax_core::Dtype;

use crate::array::{Array, Heat, is_numpy_bool, result_dtype};
use crate::grid::Axis;
use crate::{error, fallback};

/// Anything as an array; a subclass or an object that is none becomes a plain ndarray first.
#[inline]
pub fn operand<'py>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Array<'py>> {
    if let Some(array) = Array::exact(value) {
        array.dtype(); // a bfloat16 gets known here, where Python code may run
        return Ok(array);
    }
    let array = fallback::OPERAND.call(value, name)?;
    let array = Array::exact(&array).ok_or_else(|| error::kind(name, "an array", value))?;
    array.dtype();
    Ok(array)
}

/// The `where` argument: an array of bool.
#[inline]
pub fn mask<'py>(value: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Array<'py>>> {
    let Some(value) = value else { return Ok(None) };
    let mask = operand(value, "where")?;
    if mask.dtype() != Some(Dtype::Bool) {
        let dtype = mask.as_any().getattr("dtype")?;
        return Err(PyTypeError::new_err(format!(
            "where must be boolean, but has dtype {dtype}"
        )));
    }
    Ok(Some(mask))
}

/// The `out` argument: an ndarray, of a subclass too (not a masked one). What it must be beside that depends on the
/// result and is checked later.
#[inline]
pub fn out<'py>(value: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Array<'py>>> {
    let Some(value) = value else { return Ok(None) };
    if let Some(array) = Array::exact(value) {
        return Ok(Some(array));
    }
    let array = Array::any(value).ok_or_else(|| error::kind("out", "a numpy.ndarray", value))?;
    fallback::TARGET.call(value, "out")?;
    Ok(Some(array))
}

/// The `dtype` argument.
#[inline]
pub fn dtype(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Dtype>> {
    let Some(value) = value else { return Ok(None) };
    let converted = match value.cast::<PyArrayDescr>() {
        Ok(_) => value.clone(),
        Err(_) => fallback::DTYPE.call(value, "dtype")?,
    };
    match converted.cast::<PyArrayDescr>().ok().and_then(result_dtype) {
        Some(dtype) => Ok(Some(dtype)),
        None => Err(PyTypeError::new_err(format!(
            "dtype must be float16, bfloat16, float32 or float64, got {}",
            converted.str()?
        ))),
    }
}

/// Whether a number is a bool, Python's or NumPy's: no axis and no number of threads, though it converts to an integer.
#[inline]
pub fn is_bool(value: &Bound<'_, PyAny>) -> bool {
    !value.is_exact_instance_of::<PyInt>() && (value.is_instance_of::<PyBool>() || is_numpy_bool(value))
}

/// An integer as NumPy takes it for an axis: anything with `__index__`, but no bool.
#[inline]
fn index(value: &Bound<'_, PyAny>) -> PyResult<isize> {
    let py = value.py();
    let wrong = || error::kind("axis", "an integer, a tuple of integers or None", value);
    if is_bool(value) {
        return Err(wrong());
    }
    value.extract::<isize>().map_err(|fault| {
        if fault.is_instance_of::<PyTypeError>(py) {
            wrong()
        } else if fault.is_instance_of::<PyOverflowError>(py) {
            error::far_axis(value)
        } else {
            fault
        }
    })
}

impl<'py> FromPyObject<'_, 'py> for Axis {
    type Error = PyErr;

    #[inline]
    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Self::All);
        }
        if let Ok(axes) = value.cast::<PyTuple>() {
            return axes
                .iter()
                .map(|axis| index(&axis))
                .collect::<PyResult<_>>()
                .map(Self::Many);
        }
        index(&value).map(Self::One)
    }
}

/// The `temperature` argument.
pub enum Temperature<'py> {
    /// A Python number.
    One(f64),
    /// An array, or what becomes one.
    Other(Bound<'py, PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for Temperature<'py> {
    type Error = PyErr;

    #[inline]
    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(number) = value.cast::<PyFloat>() {
            return Ok(Self::One(number.value())); // numpy.float64 too: it is a float
        }
        if value.is_exact_instance_of::<PyInt>() {
            return match value.extract::<f64>() {
                // An integer beyond the range of float64 is as good as infinite: the check that follows says so.
                Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => Ok(Self::One(f64::INFINITY)),
                number => number.map(Self::One),
            };
        }
        Ok(Self::Other(value.to_owned()))
    }
}

impl<'py> Temperature<'py> {
    /// As numbers in memory of our own, all positive and finite.
    ///
    /// An array is copied: there is one number per row, and what was checked cannot change any more.
    #[inline]
    pub fn read(self) -> PyResult<Heat<'py>> {
        match self {
            Self::One(value) => Heat::One(value),
            Self::Other(value) => {
                let array = fallback::FLOAT64.call(&value, "temperature")?;
                Heat::Rows(Array::exact(&array).ok_or_else(|| error::kind("temperature", "a number", &value))?)
            }
        }
        .check()
    }
}

/// A yes-or-no argument: a bool, or an integer as NumPy allows for `keepdims`.
#[derive(Clone, Copy)]
pub struct Flag(pub bool);

impl<'py> FromPyObject<'_, 'py> for Flag {
    type Error = PyErr;

    #[inline]
    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match value.extract::<bool>() {
            Ok(flag) => Ok(Self(flag)),
            Err(_) => match value.extract::<i64>() {
                Ok(number) => Ok(Self(number != 0)),
                Err(_) => Err(error::kind("keepdims", "a bool", &value)),
            },
        }
    }
}
