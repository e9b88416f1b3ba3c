//! Threads and instruction sets, as Python sees them.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use softmax_core::simd::Level;
use softmax_core::{parallel, probe};

use crate::arguments::is_bool;
use crate::error;

/// A number of threads: an integer from 1 to [`parallel::MAX_THREADS`].
pub struct Count(usize);

impl<'py> FromPyObject<'_, 'py> for Count {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let py = value.py();
        let beyond = || {
            let most = parallel::MAX_THREADS;
            PyValueError::new_err(format!("n must be from 1 to {most}, got {}", &*value))
        };
        if is_bool(&value) {
            return Err(error::kind("n", "an integer", &value));
        }
        match value.extract::<isize>() {
            Ok(n) => usize::try_from(n)
                .ok()
                .filter(|n| (1..=parallel::MAX_THREADS).contains(n))
                .map(Self)
                .ok_or_else(beyond),
            Err(fault) if fault.is_instance_of::<PyTypeError>(py) => Err(error::kind("n", "an integer", &value)),
            Err(fault) if fault.is_instance_of::<PyOverflowError>(py) => Err(beyond()),
            Err(fault) => Err(fault),
        }
    }
}

/// Set how many threads a call of this process may use.
///
/// Parameters
/// ----------
/// n : int
///     From 1 to 1024. ``with threads(n)`` takes precedence in its thread.
///
/// Raises
/// ------
/// TypeError
///     `n` is not an integer.
/// ValueError
///     `n` is less than 1 or more than 1024.
///
/// Notes
/// -----
/// The number of threads never changes a result, not in a single bit. Small arrays are computed on the calling thread,
/// whatever is set.
///
/// Examples
/// --------
/// >>> import softmax_rs
/// >>> before = softmax_rs.get_num_threads()
/// >>> softmax_rs.set_num_threads(2)
/// >>> softmax_rs.get_num_threads()
/// 2
/// >>> softmax_rs.set_num_threads(before)
#[pyfunction]
pub fn set_num_threads(n: Count) {
    parallel::set_num_threads(n.0);
}

/// Return how many threads a call from this thread may use.
///
/// The first of these that is set: ``with threads(n)``, `set_num_threads`, the environment variables
/// ``SOFTMAX_RS_NUM_THREADS``, ``RAYON_NUM_THREADS`` and ``OMP_NUM_THREADS``, the number of CPUs this process may use.
///
/// Returns
/// -------
/// int
///     At least 1.
///
/// Raises
/// ------
/// ValueError
///     The environment variable that decides does not hold a positive integer.
///
/// Examples
/// --------
/// >>> import softmax_rs
/// >>> with softmax_rs.threads(3):
/// ...     softmax_rs.get_num_threads()
/// 3
#[pyfunction]
pub fn get_num_threads() -> PyResult<usize> {
    parallel::num_threads().map_err(|fault| error::core(fault, None))
}

/// Return the instruction set in use.
///
/// Returns
/// -------
/// str
///     ``"avx512"``, ``"avx2"``, ``"neon"`` or ``"portable"``: the best that this CPU has, or what the environment
///     variable ``SOFTMAX_RS_SIMD`` lowers it to.
///
/// Raises
/// ------
/// ValueError
///     ``SOFTMAX_RS_SIMD`` holds an unknown name, or one that this CPU does not have.
///
/// Examples
/// --------
/// >>> import softmax_rs
/// >>> softmax_rs.simd_level() in {"avx512", "avx2", "neon", "portable"}
/// True
#[pyfunction]
pub fn simd_level() -> PyResult<&'static str> {
    Level::active()
        .map(Level::name)
        .map_err(|fault| error::core(fault, None))
}

/// Use `n` threads for the calls made by this thread inside a ``with`` block.
///
/// Parameters
/// ----------
/// n : int
///     From 1 to 1024.
///
/// Raises
/// ------
/// TypeError
///     `n` is not an integer.
/// ValueError
///     `n` is less than 1 or more than 1024.
///
/// Notes
/// -----
/// Blocks may be nested and an object may be used again. Other threads are not affected, and `set_num_threads` is not
/// either: it shows again after the block.
///
/// Examples
/// --------
/// >>> import softmax_rs
/// >>> with softmax_rs.threads(1):
/// ...     softmax_rs.softmax([0.0, 0.0])
/// array([0.5, 0.5])
#[pyclass(name = "threads", module = "softmax_rs", frozen)]
pub struct Threads {
    n: usize,
    /// What was set before, for each block that is open: a stack for every thread, since one object may serve several.
    open: Mutex<Vec<(ThreadId, Option<usize>)>>,
}

#[pymethods]
impl Threads {
    #[new]
    fn new(n: Count) -> Self {
        Self {
            n: n.0,
            open: Mutex::new(Vec::new()),
        }
    }

    fn __repr__(&self) -> String {
        format!("threads({})", self.n)
    }

    /// Open a block.
    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        let before = parallel::set_local_threads(Some(slf.n));
        slf.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((thread::current().id(), before));
        slf
    }

    /// Close the block that this thread opened last.
    #[pyo3(signature = (*args))]
    fn __exit__(&self, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        let _ = args;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = thread::current().id();
        let Some(last) = open.iter().rposition(|&(thread, _)| thread == here) else {
            return Err(PyRuntimeError::new_err("threads: this thread has no block open"));
        };
        let (_, before) = open.remove(last);
        parallel::set_local_threads(before);
        Ok(())
    }
}

/// Panic in a thread of a call that four share (0 is the caller's), as a bug of ours would. For the tests.
#[pyfunction]
pub fn _panic_in_worker(py: Python<'_>, worker: usize) -> PyResult<()> {
    py.detach(|| probe::panic_in_worker(worker, 4))
        .map_err(|fault| error::core(fault, None))
}
