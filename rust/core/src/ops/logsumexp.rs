//! log sum_j exp(x_j) = m + log1p(s), with m the maximum, k its place and s = sum over j != k of exp(x_j - m).
//!
//! The sum is in float64 and rounded once, so [0, -40] gives 4.2e-18. Where m and log1p(s) cancel, the error of float32
//! arithmetic shows; the drive computes such rows again in float64 (it compares the result with the second parameter).
//!
//! A row with a class has a loss as well, and then that is what is wanted of it.

use super::{From, Losses, Params, Pick, RowOp, Stats};
use crate::math::log::log1p;
use crate::row::Adds;
use crate::simd::{Float, Isa, Vector};

/// The logarithm of the sum of exponentials. (No temperature: scipy's and torch's have none either.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSumExp;

impl RowOp for LogSumExp {
    const FROM: From = From::Nothing;
    const PARAMS: usize = 2;
    const MASKED: f64 = f64::NEG_INFINITY;
    const ADDS: Adds = Adds::OthersUnrounded;
    const PICK: Pick = Pick::Class;
    const REFINED: bool = true;

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let zero = Vector::zero(stats.sum.1);
        let log = log1p(stats.tail());
        // Of one element, that element: also -0.
        let value = stats.max.select(log.equal(zero), stats.max + log);
        [value, log, zero, zero, zero, zero]
    }

    #[inline(always)]
    fn losses<S: Isa>(self, stats: &Stats<S>) -> Losses<Vector<S, f64>> {
        Losses::of_class(stats)
    }

    #[inline(always)]
    fn degenerate<T: Float>(self, max: T) -> T {
        max
    }
}
