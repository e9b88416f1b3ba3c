//! From Python objects to the arrays and numbers of a [`Call`](crate::array::Call).
//!
//! This is the half of a call in which Python code may run: `__index__`, `__array__`, the conversions of
//! `_fallback.py`. The common cases (an exact ndarray, an int, a float, None) are settled by comparing type pointers.

use numpy::PyArrayDescr;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple};
use softmax_core::simd::with_default_mode;
use softmax_core::{Dtype, Reduction};

use crate::array::{Array, Target, computed_in, is_numpy_bool, result_dtype};
use crate::grid::Axis;
use crate::numbers::Numbers;
use crate::{error, fallback};

/// Anything as an array; a subclass or an object that is none becomes a plain ndarray first.
#[inline(always)]
pub fn operand<'py>(value: &Bound<'py, PyAny>, name: &'static str) -> PyResult<Array<'py>> {
    let array = match Array::exact(value, name) {
        Some(array) => array,
        None => converted(value, name)?,
    };
    array.meet_dtype(); // here, where Python code may run
    Ok(array)
}

#[cold]
fn converted<'py>(value: &Bound<'py, PyAny>, name: &'static str) -> PyResult<Array<'py>> {
    let array = fallback::OPERAND.call(value, name)?;
    Array::exact(&array, name).ok_or_else(|| error::kind(name, "an array", value))
}

/// Two arrays, and the dtype in which both are computed: what numpy.result_type says of them. So a number of Python's
/// takes the dtype of the other.
#[inline(always)]
pub fn pair<'py>(
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
    names: [&'static str; 2],
) -> PyResult<(Array<'py>, Array<'py>, Dtype)> {
    let (x, y) = (operand(a, names[0])?, operand(b, names[1])?);
    let dtype = match (x.dtype(), y.dtype()) {
        (Some(p), Some(q)) if p == q => computed_in(p),
        _ => common_dtype([a, b], [&x, &y])?,
    };
    Ok((x, y, dtype))
}

/// The dtype in which two arrays are computed that have different ones, made of these values.
#[cold]
fn common_dtype(values: [&Bound<'_, PyAny>; 2], arrays: [&Array<'_>; 2]) -> PyResult<Dtype> {
    let own = |array: &Array<'_>| {
        array
            .dtype()
            .ok_or_else(|| error::dtype(array.name(), array.as_any(), None))
    };
    let (p, q) = (own(arrays[0])?, own(arrays[1])?);
    let dtype = match (is_number(values[0]), is_number(values[1])) {
        (false, true) => Some(computed_in(p)),
        (true, false) => Some(computed_in(q)),
        _ => arrays[0].promoted_with(arrays[1]),
    };
    match dtype {
        Some(dtype) => Ok(dtype),
        None => Err(error::dtypes(
            arrays.map(Array::name),
            [&arrays[0].dtype_text()?, &arrays[1].dtype_text()?],
        )),
    }
}

/// Logits, one number for each of their rows, and the dtype of the result as [`pair`] has it.
#[inline]
pub fn cotangent<'py>(x: &Bound<'py, PyAny>, g: &Bound<'py, PyAny>) -> PyResult<(Array<'py>, Numbers, Dtype)> {
    let (x, g, dtype) = if is_number(g) {
        let x = operand(x, "x")?;
        let dtype = x.dtype().ok_or_else(|| error::dtype("x", x.as_any(), None))?;
        (x, g.clone(), computed_in(dtype))
    } else {
        let (x, g, dtype) = pair(x, g, ["x", "g"])?;
        (x, g.as_any().clone(), dtype)
    };
    Ok((x, g.extract::<Real<'py>>()?.read("g")?, dtype))
}

/// Whether a value is a number of Python's, to which numpy.result_type gives the dtype of what it meets.
#[inline]
fn is_number(value: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyBool>()
}

/// The `target` argument of the losses.
#[inline]
pub fn target<'py>(value: &Bound<'py, PyAny>) -> PyResult<Target<'py>> {
    let mut array = operand(value, "target")?;
    if array.dtype().is_none() && array.is_float()? {
        // Of a type that core does not read (longdouble): probabilities all the same.
        let converted = fallback::FLOAT64.call(value, "target")?;
        array = Array::exact(&converted, "target").ok_or_else(|| error::kind("target", "an array", value))?;
    }
    let is_sequence = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
    let empty = is_sequence && array.is_empty();
    Ok(Target { array, empty })
}

/// The `where` argument: an array of bool.
#[inline]
pub fn mask<'py>(value: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Array<'py>>> {
    let Some(value) = value else { return Ok(None) };
    let mask = operand(value, "where")?;
    if mask.dtype() != Some(Dtype::Bool) {
        let dtype = mask.as_any().getattr("dtype")?;
        return Err(PyTypeError::new_err(format!(
            "where must be boolean, but has dtype {dtype}; convert it, as with .astype(bool)"
        )));
    }
    Ok(Some(mask))
}

/// The `out` argument: an ndarray, of a subclass too (not a masked one). What it must be beside that depends on the
/// result and is checked later.
#[inline(always)]
pub fn out<'py>(value: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Array<'py>>> {
    let Some(value) = value else { return Ok(None) };
    match Array::exact(value, "out") {
        Some(array) => Ok(Some(array)),
        None => subclass(value).map(Some),
    }
}

#[cold]
fn subclass<'py>(value: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    let array = Array::any(value, "out").ok_or_else(|| error::kind("out", "a numpy.ndarray", value))?;
    fallback::TARGET.call(value, "out")?;
    Ok(array)
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

/// An integer as NumPy takes it for an axis: anything with `__index__`, but no bool. `right` says what else would do.
#[inline]
fn index(value: &Bound<'_, PyAny>, right: &str) -> PyResult<isize> {
    let py = value.py();
    if is_bool(value) {
        return Err(error::kind("axis", right, value));
    }
    value.extract::<isize>().map_err(|fault| {
        if fault.is_instance_of::<PyTypeError>(py) {
            error::kind("axis", right, value)
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
        const RIGHT: &str = "an integer, a tuple of integers or None";
        if value.is_none() {
            return Ok(Self::All);
        }
        if let Ok(axes) = value.cast::<PyTuple>() {
            return axes
                .iter()
                .map(|axis| index(&axis, RIGHT))
                .collect::<PyResult<_>>()
                .map(Self::Many);
        }
        index(&value, RIGHT).map(Self::One)
    }
}

/// The `axis` argument of a function that takes one integer.
pub struct OneAxis(pub isize);

impl<'py> FromPyObject<'_, 'py> for OneAxis {
    type Error = PyErr;

    #[inline]
    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        index(&value, "one integer").map(Self)
    }
}

/// The `ignore_index` argument: an integer. It may lie outside of those that targets hold.
pub struct Index(pub i128);

impl<'py> FromPyObject<'_, 'py> for Index {
    type Error = PyErr;

    #[inline]
    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let py = value.py();
        if is_bool(&value) {
            return Err(error::kind("ignore_index", "an integer", &value));
        }
        // (Only for 64 bits does `extract` call `__index__`; and like Python, this asks the type for it.)
        let name = intern!(py, "__index__");
        let integer = if value.is_instance_of::<PyInt>() || !value.get_type().hasattr(name)? {
            value.to_owned()
        } else {
            value.call_method0(name)?
        };
        integer.extract::<i128>().map(Self).map_err(|fault| {
            if fault.is_instance_of::<PyTypeError>(py) {
                error::kind("ignore_index", "an integer", &value)
            } else if fault.is_instance_of::<PyOverflowError>(py) {
                PyValueError::new_err(format!(
                    "ignore_index must be an integer of at most 128 bits, got {}",
                    &*value
                ))
            } else {
                fault
            }
        })
    }
}

/// The `reduction` argument.
pub struct Reduce(pub Reduction);

impl<'py> FromPyObject<'_, 'py> for Reduce {
    type Error = PyErr;

    #[inline]
    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        const RIGHT: &str = "'none', 'sum' or 'mean'";
        let Ok(text) = value.cast::<PyString>() else {
            return Err(error::kind("reduction", RIGHT, &value));
        };
        // (A lone surrogate is no text.)
        match text.to_cow().as_deref() {
            Ok("none") => Ok(Self(Reduction::None)),
            Ok("sum") => Ok(Self(Reduction::Sum)),
            Ok("mean") => Ok(Self(Reduction::Mean)),
            _ => Err(PyValueError::new_err(format!(
                "reduction must be {RIGHT}, got {}",
                value.repr()?
            ))),
        }
    }
}

/// An argument that is a real number, or an array of them.
pub enum Real<'py> {
    /// A Python number.
    One(f64),
    /// An array, or what becomes one.
    Other(Bound<'py, PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for Real<'py> {
    type Error = PyErr;

    #[inline]
    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(number) = value.cast::<PyFloat>() {
            return Ok(Self::One(number.value())); // numpy.float64 too: it is a float
        }
        if value.is_exact_instance_of::<PyInt>() {
            return match value.extract::<f64>() {
                // An integer beyond the range of float64 is as good as infinite: the checks that follow say so.
                Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => Ok(Self::One(f64::INFINITY)),
                number => number.map(Self::One),
            };
        }
        Ok(Self::Other(value.to_owned()))
    }
}

impl Real<'_> {
    /// As numbers in memory of our own.
    #[inline(always)]
    pub fn read(self, name: &'static str) -> PyResult<Numbers> {
        match self {
            Self::One(value) => Ok(Numbers::One(value)),
            Self::Other(value) => numbers(&value, name),
        }
    }

    /// The `temperature` argument: all positive and finite.
    #[inline(always)]
    pub fn temperature(self) -> PyResult<Numbers> {
        let right = |value: f64| value > 0.0 && value.is_finite();
        match self {
            Self::One(value) if !value.is_subnormal() && right(value) => Ok(Numbers::One(value)),
            other => other.all("temperature", "positive and finite", right),
        }
    }

    /// Numbers for all of which `right` must be true, as `range` says in words.
    #[cold]
    fn all(self, name: &'static str, range: &str, right: impl Fn(f64) -> bool) -> PyResult<Numbers> {
        let numbers = self.read(name)?;
        match with_default_mode(|| numbers.first_wrong(right)) {
            Some((index, value)) => Err(error::number(name, range, value, &index)),
            None => Ok(numbers),
        }
    }

    /// One number, for which `right` must be true, as `range` says in words.
    #[inline(always)]
    pub fn number(self, name: &'static str, range: &str, right: impl Fn(f64) -> bool) -> PyResult<f64> {
        match self {
            Self::One(value) if !value.is_subnormal() && right(value) => Ok(value),
            other => other.single(name, range, right),
        }
    }

    #[cold]
    fn single(self, name: &'static str, range: &str, right: impl Fn(f64) -> bool) -> PyResult<f64> {
        if let Self::Other(value) = &self
            && (value.is_none() || value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>())
        {
            return Err(error::no_number(name, range, value));
        }
        let numbers = match self {
            Self::One(value) => Numbers::One(value),
            Self::Other(value) => {
                numbers(&value, name).map_err(|fault| error::not_one_number(name, range, &value, fault))?
            }
        };
        match (numbers.shape(), numbers.values()) {
            ([], &[value]) if with_default_mode(|| right(value)) => Ok(value),
            ([], &[value]) => Err(error::number(name, range, value, &[])),
            (shape, _) => Err(error::many(name, shape)),
        }
    }
}

/// An array of real numbers, copied.
fn numbers(value: &Bound<'_, PyAny>, name: &'static str) -> PyResult<Numbers> {
    if let Some(numbers) = Array::exact(value, name).and_then(|array| array.numbers()) {
        return numbers;
    }
    let array = fallback::FLOAT64.call(value, name)?;
    let numbers = Array::exact(&array, name).and_then(|array| array.numbers());
    numbers.unwrap_or_else(|| Err(error::kind(name, "a number or an array of numbers", value)))
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
