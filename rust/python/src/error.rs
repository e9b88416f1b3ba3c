//! Core errors and broken rules as Python exceptions. A message names the argument, what came and what would be right.

use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use softmax_core::Error;

use crate::grid::{AxisFault, Tuple};

/// What went wrong behind the door of the core. An interruption carries the exception that is pending.
pub fn core(error: Error, pending: Option<PyErr>) -> PyErr {
    match error {
        Error::OutOfMemory => PyMemoryError::new_err(error.to_string()),
        Error::Environment(message) => PyValueError::new_err(message),
        Error::Interrupted => pending.unwrap_or_else(|| PyRuntimeError::new_err("the interpreter is shutting down")),
    }
}

/// An argument of a type that does not do.
pub fn kind(name: &str, right: &str, value: &Bound<'_, PyAny>) -> PyErr {
    match value.get_type().fully_qualified_name() {
        Ok(came) => PyTypeError::new_err(format!("{name} must be {right}, got {came}")),
        Err(error) => error,
    }
}

/// `numpy.exceptions.AxisError`, with NumPy's text.
pub fn axis(py: Python<'_>, fault: &AxisFault, ndim: usize) -> PyErr {
    match fault {
        AxisFault::OutOfBounds(index) => axis_error(py, (*index, ndim)),
        AxisFault::Duplicate => PyValueError::new_err("duplicate value in 'axis'"),
    }
}

/// The same for an axis beyond all integers of this machine, hence of any array.
pub fn far_axis(axis: &Bound<'_, PyAny>) -> PyErr {
    axis_error(axis.py(), (format!("axis {axis} is out of bounds for any array"),))
}

fn axis_error<'py>(py: Python<'py>, arguments: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    let class = py
        .import("numpy.exceptions")
        .and_then(|module| module.getattr("AxisError"));
    match class.and_then(|class| class.call1(arguments)) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// An array whose dtype is none of ours.
///
/// `function` is set where scipy.special has the function of that name: it computes complex and extended precision.
pub fn dtype(name: &str, array: &Bound<'_, PyAny>, function: Option<&str>) -> PyErr {
    let described = || -> PyResult<(String, char)> {
        let dtype = array.getattr("dtype")?;
        Ok((dtype.str()?.to_string(), dtype.getattr("kind")?.extract()?))
    };
    let (dtype, kind) = match described() {
        Ok(described) => described,
        Err(error) => return error,
    };
    let advice = match (kind, function) {
        ('c' | 'f', Some(function)) => format!("; scipy.special.{function} computes {dtype}"),
        ('O', _) => "; convert it, as with .astype(float)".to_owned(),
        _ => String::new(),
    };
    PyTypeError::new_err(format!(
        "{name} has dtype {dtype}, but must be float32, float64, float16, bfloat16, integer or bool{advice}"
    ))
}

/// An argument that does not broadcast.
pub fn broadcast(name: &str, shape: &[usize], target: &str, to: &[usize]) -> PyErr {
    PyValueError::new_err(format!(
        "{name} has shape {}, which does not broadcast to {target}, {}",
        Tuple(shape),
        Tuple(to)
    ))
}

/// A temperature that no logits can be divided by.
pub fn temperature(value: f64) -> PyErr {
    PyValueError::new_err(format!("temperature must be positive and finite, got {value}"))
}

/// The rules for `out`.
pub mod out {
    use super::*;

    /// Another dtype than the result's, or its bytes in the other order.
    pub fn dtype(out: &Bound<'_, PyAny>, result: &str) -> PyErr {
        match out.getattr("dtype").and_then(|dtype| Ok(dtype.str()?.to_string())) {
            Ok(dtype) => PyTypeError::new_err(format!("out has dtype {dtype}, but the result has dtype {result}")),
            Err(error) => error,
        }
    }

    /// Another shape than the result's.
    pub fn shape(shape: &[usize], result: &[usize]) -> PyErr {
        PyValueError::new_err(format!(
            "out has shape {}, but the result has shape {}",
            Tuple(shape),
            Tuple(result)
        ))
    }

    /// Not writeable.
    pub fn read_only() -> PyErr {
        PyValueError::new_err("out is read-only, but must be writeable")
    }

    /// Two of its elements are one place in memory.
    pub fn overlaps_itself(shape: &[usize], strides: &[isize]) -> PyErr {
        PyValueError::new_err(format!(
            "out has elements that share memory (shape {}, strides {}), but each must have its own",
            Tuple(shape),
            Tuple(strides)
        ))
    }
}
