//! p_i = exp(x_i / T) / sum_j exp(x_j / T).
//!
//! The exponentials come with a common factor, which the quotient loses. The reciprocal of the sum is kept as a pair,
//! so that only one rounding follows exp's: `e hi + e lo` with one multiply-add. (A division per element is slower by
//! a fifth and less accurate, for the divisor would be rounded to the type.)

use super::{From, Params, RowOp, Stats};
use crate::row::Adds;
use crate::simd::{Float, Isa, Vector};

/// The probabilities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softmax;

impl RowOp for Softmax {
    const FROM: From = From::Exp;
    const PARAMS: usize = 2;
    const MASKED: f64 = 0.0;
    const ADDS: Adds = Adds::All;
    const SCALES: bool = true;

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let s = stats.sum.1;
        let zero = Vector::zero(s);
        let [hi, lo] = stats.split_inverse_total::<T>();
        [hi, lo, zero, zero, zero, zero]
    }
}

/// The same for a Jacobian, with 1 - p at the maximum and 1 / T: all probabilities times a power of two, where 1 / T may
/// bring back what they lose as subnormal numbers, and 1 / T over its square. The last parameter is that power.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probabilities;

impl RowOp for Probabilities {
    const FROM: From = From::Exp;
    const PARAMS: usize = 6;
    const MASKED: f64 = 0.0;
    const DERIVES: bool = true;
    const VANISHES: bool = true;
    const SCALES: bool = true;

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let [hi, lo, ..] = Softmax.row::<S, T>(stats);
        let [inverse, inverse_lo] = stats.split_inverse_temperature::<T>();
        let [tail, ..] = stats.shares();
        let one = Vector::splat(tail.1, 1.0);
        let warm = stats.temperature.not_less(one);
        let times = one.select(warm, Vector::splat(tail.1, T::PROBABILITY));
        let over = one.select(warm, Vector::splat(tail.1, 1.0 / (T::PROBABILITY * T::PROBABILITY)));
        [
            hi * times,
            lo * times,
            tail * times,
            inverse * over,
            inverse_lo * over,
            times,
        ]
    }
}
