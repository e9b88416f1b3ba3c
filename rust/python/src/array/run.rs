//! Calling core: with the GIL, or without it and then with a shield up and an ear for signals.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use softmax_core::{Control, NoControl};

use super::Array;

/// Elements above which the GIL is released: 10 to 20 us of work. Below, letting it go and getting it back costs more
/// than others could gain (with four threads waiting for it, some 14 us), and the shield costs as well.
pub const RELEASE_ABOVE: usize = 1 << 15;

/// How long a call may run without looking whether a signal has come.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// Keeps other threads from freeing our memory while the GIL is released: weak references to the arrays of a call and to
/// every array of their `.base` chains.
///
/// We hold a reference to each array, so none is collected. But `a.resize(..., refcheck=False)` reallocates the memory of
/// a live array whatever its reference count; the one thing that NumPy refuses to do it for is an array that has weak
/// references (or a base). Nothing else keeps it off, a live view of the array does not.
pub struct Shield<'py> {
    _references: Vec<Bound<'py, PyWeakrefReference>>,
}

impl<'py> Shield<'py> {
    /// Over all the arrays that a call reads or writes and that Python knows.
    pub fn over<const N: usize>(arrays: [Option<&Array<'py>>; N]) -> PyResult<Self> {
        let mut references = Vec::new();
        for array in arrays.into_iter().flatten() {
            let mut next = Some(array.clone());
            while let Some(array) = next {
                references.push(PyWeakrefReference::new(array.as_any())?);
                next = array.base();
            }
        }
        Ok(Self {
            _references: references,
        })
    }
}

/// Looks for signals now and then while the GIL is released, so that Ctrl-C ends a long call.
struct Signals {
    last: Cell<Instant>,
    pending: RefCell<Option<PyErr>>,
}

impl Control for Signals {
    fn proceed(&self) -> bool {
        if self.last.get().elapsed() < SIGNALS_EVERY {
            return true;
        }
        // On threads other than the main one this finds nothing, by Python's rules. At shutdown there is no attaching.
        let checked = Python::try_attach(|py| py.check_signals());
        self.last.set(Instant::now());
        match checked {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                self.pending.replace(Some(error));
                false
            }
            None => false,
        }
    }
}

/// What the closure that runs without the GIL takes along.
struct Detached<'a, F>(F, &'a Signals);

// SAFETY: `Python::detach` asks for `Send` to keep Python objects out of the closure; it calls it on this same thread.
// There are none in it: pointers to memory (as promised to `compute`), and a `Signals`, whose `PyErr` is made and taken
// with the GIL held.
unsafe impl<F> Send for Detached<'_, F> {}

impl<T, F: FnOnce(&dyn Control) -> T> Detached<'_, F> {
    fn run(self) -> T {
        (self.0)(self.1)
    }
}

/// Calls `work`, with the GIL or without it; its fault comes with the exception that interrupted it, if one did.
///
/// # Safety
/// With `release`, `work` holds no Python object, and whatever it does it may do while other Python threads run.
#[inline(always)]
pub unsafe fn compute<T: Send, E: Send>(
    py: Python<'_>,
    release: bool,
    work: impl FnOnce(&dyn Control) -> Result<T, E>,
) -> Result<T, (E, Option<PyErr>)> {
    if !release {
        return work(&NoControl).map_err(|fault| (fault, None));
    }
    let signals = Signals {
        last: Cell::new(Instant::now()),
        pending: RefCell::new(None),
    };
    let detached = Detached(work, &signals);
    let done = py.detach(move || detached.run());
    done.map_err(|fault| (fault, signals.pending.take()))
}
