//! Core errors and broken rules as Python exceptions. A message names the argument, what came and what would be right.

use pyo3::exceptions::{PyIndexError, PyMemoryError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use softmax_core::{Error, Reduction};

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
    // (As a reduction with keepdims=True leaves it.)
    let is_kept = |axis: usize| {
        let mut others = shape[..axis].iter().chain(&shape[axis + 1..]).zip(to);
        shape[axis] == 1 && others.all(|(given, wanted)| given == wanted)
    };
    let advice = if shape.len() == to.len() + 1 && (0..shape.len()).any(is_kept) {
        "; leave out the axis of length 1"
    } else {
        ""
    };
    PyValueError::new_err(format!(
        "{name} has shape {}, which does not broadcast to {target}, {}{advice}",
        Tuple(shape),
        Tuple(to)
    ))
}

/// What an error calls the shape of the arrays of these names.
pub fn shape_of(names: &[&str]) -> String {
    match names {
        [a, b] => format!("the common shape of {a} and {b}"),
        _ => format!("the shape of {}", names.concat()),
    }
}

/// Two arrays whose axes at this distance from the end differ in length.
pub fn shapes(names: [&str; 2], shapes: [&[usize]; 2], back: usize) -> PyErr {
    let axes = shapes.map(|shape| shape.len() - back);
    let lengths = [shapes[0][axes[0]], shapes[1][axes[1]]];
    let along = if axes[0] == axes[1] {
        format!(
            "along axis {} they have {} and {} elements",
            axes[0], lengths[0], lengths[1]
        )
    } else {
        format!(
            "along axis {} of {} there are {} elements, along axis {} of {} there are {}",
            axes[0], names[0], lengths[0], axes[1], names[1], lengths[1]
        )
    };
    PyValueError::new_err(format!(
        "{} has shape {} and {} has shape {}, which do not broadcast together: {along}",
        names[0],
        Tuple(shapes[0]),
        names[1],
        Tuple(shapes[1])
    ))
}

/// Two arrays without a dtype that could hold both, or none that is computed in.
pub fn dtypes(names: [&str; 2], dtypes: [&str; 2]) -> PyErr {
    PyTypeError::new_err(format!(
        "{} has dtype {} and {} has dtype {}, for which NumPy has no common dtype: convert one of them",
        names[0], dtypes[0], names[1], dtypes[1]
    ))
}

/// A number that is out of its range.
pub fn number(name: &str, right: &str, value: f64, index: &[usize]) -> PyErr {
    PyValueError::new_err(match index {
        [] => format!("{name} must be {right}, got {value}"),
        _ => format!("{name} must be {right}, got {value} at index {}", Tuple(index)),
    })
}

/// What is no number at all where one number was asked for.
pub fn no_number(name: &str, right: &str, value: &Bound<'_, PyAny>) -> PyErr {
    match value.repr() {
        Ok(came) => PyTypeError::new_err(format!("{name} must be one number, {right}, got {came}")),
        Err(error) => error,
    }
}

/// What cannot be read as numbers, by its `fault`, where one number was asked for.
pub fn not_one_number(name: &str, right: &str, value: &Bound<'_, PyAny>, fault: PyErr) -> PyErr {
    let py = value.py();
    if !fault.get_type(py).is(py.get_type::<PyTypeError>()) {
        return fault;
    }
    let error = kind(name, &format!("one number, {right}"), value);
    error.set_cause(py, Some(fault));
    error
}

/// An array where one number was asked for.
pub fn many(name: &str, shape: &[usize]) -> PyErr {
    PyTypeError::new_err(format!(
        "{name} must be one number, got an array of shape {}",
        Tuple(shape)
    ))
}

/// No memory for a copy of numbers.
pub fn memory() -> PyErr {
    core(Error::OutOfMemory, None)
}

/// A cotangent that is no number per row.
pub fn cotangent(shape: &[usize], rows: &[usize], kept: &[usize]) -> PyErr {
    PyValueError::new_err(format!(
        "g has shape {}, but must be a number or have the shape of logsumexp(x): {}, or {} with keepdims",
        Tuple(shape),
        Tuple(rows),
        Tuple(kept)
    ))
}

/// Weights that are not one for each class.
pub fn weight(shape: &[usize], classes: usize) -> PyErr {
    PyValueError::new_err(format!(
        "weight has shape {}, but must have one number for each of the {classes} classes: shape ({classes},)",
        Tuple(shape)
    ))
}

/// A cotangent that is not like the loss.
pub fn grad_output(shape: &[usize], reduction: Reduction, rows: &[usize]) -> PyErr {
    let came = Tuple(shape);
    PyValueError::new_err(match reduction {
        Reduction::None => format!(
            "grad_output has shape {came}, but with reduction='none' it must be a number or have the shape of the \
             loss, {}",
            Tuple(rows)
        ),
        Reduction::Sum | Reduction::Mean => format!(
            "grad_output has shape {came}, but must be a number, with shape (): so is the loss with \
             reduction='sum' or 'mean'"
        ),
    })
}

/// A class that there is not.
pub fn class(index: &[usize], value: i128, classes: usize, ignored: i128) -> PyErr {
    PyIndexError::new_err(format!(
        "target has {value} at index {}, but there are {classes} classes: it must be in [0, {classes}) or \
         ignore_index ({ignored})",
        Tuple(index)
    ))
}

/// The rules for `target`.
pub mod target {
    use super::*;

    /// A dtype that is none of ours.
    pub fn dtype(dtype: &str) -> PyErr {
        PyTypeError::new_err(format!(
            "target has dtype {dtype}, but must be integer (class indices) or float (probabilities)"
        ))
    }

    /// Neither an index nor a probability.
    pub fn boolean() -> PyErr {
        PyTypeError::new_err(
            "target has dtype bool, but must be integer (class indices) or float (probabilities); convert it, as with \
             .astype(int) or .astype(float)",
        )
    }

    /// Floats of the shape of indices.
    pub fn float(dtype: &str, rows: &[usize], logits: &[usize]) -> PyErr {
        PyTypeError::new_err(format!(
            "target has dtype {dtype} and shape {}: class indices must be integers (probabilities must have \
             the shape of the logits, {})",
            Tuple(rows),
            Tuple(logits)
        ))
    }

    /// An `ignore_index` without indices.
    pub fn ignored(dtype: &str) -> PyErr {
        PyTypeError::new_err(format!(
            "ignore_index is for class indices, but target has dtype {dtype} and holds probabilities; where=False over a \
             row leaves it out"
        ))
    }

    /// Another shape than that of its kind.
    pub fn shape(shape: &[usize], by_class: bool, rows: &[usize], logits: &[usize], axis: usize) -> PyErr {
        let came = Tuple(shape);
        let right = if by_class {
            format!(
                "class indices (integers) must have the shape of the logits without axis {axis}: {}",
                Tuple(rows)
            )
        } else {
            format!(
                "probabilities (floats) must have the shape of the logits: {}",
                Tuple(logits)
            )
        };
        let hint = if by_class && shape == logits {
            "; probabilities must be floats"
        } else {
            ""
        };
        PyValueError::new_err(format!(
            "target has shape {came} and logits have shape {}, with the classes along axis {axis}; {right}{hint}",
            Tuple(logits)
        ))
    }
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
