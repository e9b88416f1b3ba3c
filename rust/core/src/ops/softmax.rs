//! p_i = exp(x_i / T) / sum_j exp(x_j / T).
//!
//! The exponentials come with a common factor, which the quotient loses. The reciprocal of the sum is kept as a pair,
//! so that only one rounding follows exp's: `e hi + e lo` with one multiply-add. (A division per element is slower by
//! a fifth and less accurate, for the divisor would be rounded to the type.)

use super::{From, Params, RowOp, Stats};
use crate::simd::{Float, Isa, Vector};

/// The probabilities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softmax;

impl RowOp for Softmax {
    const FROM: From = From::Exp;
    const PARAMS: usize = 2;
    const MASKED: f64 = 0.0;
    const SCALES: bool = true;

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let s = stats.sum.1;
        let zero = Vector::zero(s);
        let [hi, lo] = stats.split_inverse_total::<T>();
        [hi, lo, zero, zero, zero, zero]
    }
}

/// The same for a Jacobian, with 1 - p at the maximum and 1 / T.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probabilities;

impl RowOp for Probabilities {
    const FROM: From = From::Exp;
    const PARAMS: usize = 5;
    const MASKED: f64 = 0.0;
    const DERIVES: bool = true;
    const SCALES: bool = true;

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let [hi, lo, ..] = Softmax.row::<S, T>(stats);
        let [inverse, inverse_lo] = stats.split_inverse_temperature::<T>();
        let [tail, _] = stats.shares();
        [hi, lo, tail, inverse, inverse_lo, tail]
    }
}
