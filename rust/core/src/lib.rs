//! Softmax, its relatives, their derivatives and the losses made of them, over strided memory, on SIMD kernels and
//! threads. Nothing here has heard of Python.
//!
//! # The house
//!
//! Floors import downwards only:
//!
//! | floor | module | what it is |
//! | --- | --- | --- |
//! | 5 | this file | the door: [`run`] |
//! | 5 | [`cross_entropy()`] | losses: targets, weights, reductions; the rows are `drive`'s |
//! | 4 | `drive` | passes over memory: regimes, layouts, packing |
//! | 3 | `ops` | what each operation needs of a row and writes for an element |
//! | 2 | `row`, `math` | one row or one panel of rows as vectors; exp and log |
//! | 1 | `element`, [`parallel`] | what memory holds, and what arithmetic runs in; threads, which know nothing of their work |
//! | 0 | [`simd`] | vectors; one file for each instruction set; the floating-point mode |
//!
//! The words of the interface ([`Problem`] and its parts) may be named from every floor.
//!
//! `ops` and `math` are safe code: no pointers, no instruction sets, no threads.
//!
//! # Same bits
//!
//! A row's result depends on its values, its length and the type, and on nothing else: not on threads, batch, place,
//! axis, strides or alignment; nor, between AVX2, AVX-512 and NEON, on the instruction set.

mod cross_entropy;
mod drive;
mod element;
#[deny(unsafe_code)]
mod math;
#[deny(unsafe_code)]
mod ops;
pub mod parallel;
#[doc(hidden)]
pub mod probe;
mod problem;
mod row;
pub mod simd;

pub use cross_entropy::{
    Cotangent, CrossEntropy, Derivative, Fault, Loss, Reduction, Target, cross_entropy, cross_entropy_at,
};
pub use ops::Op;
pub use problem::{Array, Control, Dtype, Error, NoControl, Problem, Temperature};

/// Computes `problem` into its `out`.
///
/// # Errors
/// [`Error::OutOfMemory`] and [`Error::Environment`] before `out` is touched; [`Error::Interrupted`] when `control` asked
/// to stop, and then `out` is partly written.
///
/// # Safety
/// Every array of `problem` is valid for the shape, strides and dtype it states, and stays so during the call (its values
/// may change meanwhile: results of rows that changed are unspecified). `out` is writeable, each element of it a
/// different memory location, and it either is exactly `x` (same pointer, strides and dtype) or shares no byte with any
/// input. Temperatures are positive and finite.
pub unsafe fn run(problem: &Problem<'_>, control: &dyn Control) -> Result<(), Error> {
    // SAFETY: passed on.
    unsafe { run_on(simd::active()?, problem, control) }
}

/// As [`run`], at a level of choice.
///
/// # Errors
/// As [`run`]; [`Error::Environment`] if this CPU does not have the level.
///
/// # Safety
/// As for [`run`].
pub unsafe fn run_at(level: simd::Level, problem: &Problem<'_>, control: &dyn Control) -> Result<(), Error> {
    // SAFETY: passed on.
    unsafe { run_on(simd::supported(level)?, problem, control) }
}

/// # Safety
/// As for [`run`].
#[inline]
unsafe fn run_on(level: simd::Supported, problem: &Problem<'_>, control: &dyn Control) -> Result<(), Error> {
    let details = details(problem);
    // The constants of a temperature are computed in this mode too, outside of any kernel.
    // SAFETY: passed on.
    simd::with_default_mode(|| unsafe { drive::run(level, problem.op.kernel(), problem, &details, control) })
}

/// What the op's rows come with.
fn details<'a>(problem: &Problem<'a>) -> drive::Details<'a> {
    let weights = if problem.op == Op::LogSumExpVjp {
        problem.cotangent
    } else {
        &[]
    };
    drive::Details {
        weights,
        ..drive::Details::NONE
    }
}
