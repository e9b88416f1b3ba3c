//! `softmax_rs._softmax_rs`: softmax-core for NumPy. This file is the list of what the module offers; nothing else.

#![deny(unsafe_code)]

mod arguments;
#[allow(unsafe_code, reason = "the one place that reads NumPy's memory")]
mod array;
mod error;
mod fallback;
mod functions;
mod grid;
mod numbers;
mod overlap;
mod runtime;

/// Compiled part of softmax_rs. Import from `softmax_rs`.
// The GIL: a free-threaded interpreter turns it on for this module. `evaluate` (array/) relies on no other thread
// changing an array's shape between reading and using it.
#[pyo3::pymodule(gil_used = true)]
mod _softmax_rs {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::functions::{
        cross_entropy, cross_entropy_hvp, cross_entropy_with_grad, log_softmax, log_softmax_backward,
        log_softmax_jacobian, log_softmax_jvp, log_softmax_vjp, logsumexp, logsumexp_jvp, logsumexp_vjp, softmax,
        softmax_backward, softmax_jacobian, softmax_jvp, softmax_vjp,
    };
    #[pymodule_export]
    use crate::runtime::{Threads, get_num_threads, set_num_threads, simd_level};

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // NumPy's C API is looked up at first use, where a missing NumPy would be a panic. Here it is an ImportError.
        module.py().import("numpy")?;
        // Not among the module's names (`__all__`).
        let hidden = wrap_pyfunction!(crate::runtime::_panic_in_worker, module)?;
        module.setattr("_panic_in_worker", hidden)?;
        // Functions say that they live in the package, so that they pickle by reference and doctests are found.
        for function in module.dict().values() {
            if function.is_callable() {
                function.setattr("__module__", "softmax_rs")?;
            }
        }
        Ok(())
    }
}
