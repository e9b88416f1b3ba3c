//! The way from Rust to `softmax_rs/_fallback.py`, where arguments that are not plain ndarrays become such.
//!
//! That module is imported by the first argument that needs it, not by `import softmax_rs`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use softmax_core::simd::with_default_mode;

/// A function of `_fallback.py`, kept once it was found.
pub struct Function {
    name: &'static str,
    found: PyOnceLock<Py<PyAny>>,
}

impl Function {
    const fn named(name: &'static str) -> Self {
        Self {
            name,
            found: PyOnceLock::new(),
        }
    }

    /// Calls it.
    pub fn call<'py>(&self, value: &Bound<'py, PyAny>, argument: &str) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        let function = match self.found.get(py) {
            Some(function) => function,
            None => {
                // Importing runs Python code, and may find a broken installation; the lock is not held meanwhile.
                let function = py.import("softmax_rs._fallback")?.getattr(self.name)?.unbind();
                self.found.get_or_init(py, || function)
            }
        };
        // NumPy's conversions obey the caller's floating-point mode.
        with_default_mode(|| function.bind(py).call1((value, argument)))
    }
}

/// Anything as an exact ndarray.
pub static OPERAND: Function = Function::named("operand");

/// Anything real as a new float64 array in C order.
pub static FLOAT64: Function = Function::named("float64");

/// Checks that a subclass of ndarray may be written to as one.
pub static TARGET: Function = Function::named("target");

/// Anything as a `numpy.dtype`.
pub static DTYPE: Function = Function::named("dtype");
