//! Backpropagation from a saved result: nothing is exponentiated anew but what has to be.
//!
//! * y = softmax(x): `y_i (h_i - sum_j y_j h_j) / T` with h = g - g_k where the maximum y_k is above 1/2 (so that nothing
//!   cancels), and h = g less the first g that counts otherwise (so that a constant g gives exactly 0);
//! * y = log_softmax(x): `(g_i - exp(y_i) sum_j g_j) / T`; at k, where exp(y_k) is above 1/2, with 1 - p_k as
//!   -expm1(y_k): `(-g_k expm1(y_k) - exp(y_k) sum over j != k of g_j) / T`.

use super::products::{add_apart, cotangent_params, finish_cotangent};
use super::{Elements, From, Params, Pick, RowOp, Stats};
use crate::math::exp::expm1;
use crate::row::SUMS;
use crate::simd::{Float, Isa, Simd, Vector};

/// From probabilities. (Whether the temperature may be other than 1 is known beforehand, as in `log_softmax`: here two
/// operations of five.)
///
/// All differences are taken the other way round, `g_k - g_i`, and the sum is that of their negatives: on x86 an operand
/// can be read from memory by the subtraction itself if it is what is subtracted, and so an instruction of six is saved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoftmaxBackward<const TEMPERATURE: bool>;

impl<const TEMPERATURE: bool> RowOp for SoftmaxBackward<TEMPERATURE> {
    const FROM: From = From::X;
    const PARAMS: usize = if TEMPERATURE { 5 } else { 2 };
    const MASKED: f64 = 0.0;
    const DERIVES: bool = true;
    const BLANK: f64 = 0.0;
    const EXTENDS: bool = true;
    const SCORES: bool = false;
    const SECOND: bool = true;
    const SUMS: usize = 1;
    const PICK: Pick = Pick::Peak;
    const SATURATED: f64 = 0.5;

    #[inline(always)]
    fn add<S: Simd<T>, T: Float>(self, sums: &mut [Vector<S, T>; SUMS], of: &Elements<S, T>) {
        sums[0] = of.x.mul_add(of.picked - of.b, sums[0]);
    }

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let s = stats.sum.1;
        let [inverse, inverse_lo] = stats.split_inverse_temperature::<T>();
        let [less, less_rest] = stats.split_over_temperature::<T>(stats.sums[0]);
        // (-0 and not 0, so that at a temperature of 1 among others -0 stays -0.)
        let less_rest = Vector::splat(s, -0.0) + less_rest;
        [stats.picked, less, inverse, inverse_lo, less_rest, Vector::zero(s)]
    }

    #[inline(always)]
    fn finish<S: Simd<T>, T: Float>(self, p: &Params<Vector<S, T>>, y: Vector<S, T>, b: Vector<S, T>) -> Vector<S, T> {
        // (Probabilities may be subnormal, where a product with them loses digits: 1 / T comes first.)
        let v = p[1] - (p[0] - b);
        if !TEMPERATURE {
            return y * v;
        }
        // (An infinite number has no low part: it comes out as at a temperature of 1.)
        let low = v.mul_add(p[3], p[4]);
        let result = y * v.mul_add(p[2], low.select(low.equal(low), Vector::zero(y.1)));
        // (0 times what 1 / T made infinite is a NaN that no sum shows.)
        result.select(result.equal(result), Vector::splat(y.1, T::NAN))
    }
}

/// From logarithms of probabilities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSoftmaxBackward;

impl RowOp for LogSoftmaxBackward {
    const FROM: From = From::Exp;
    const PARAMS: usize = 6;
    const MASKED: f64 = 0.0;
    const DERIVES: bool = true;
    const SCORES: bool = false;
    const SECOND: bool = true;
    const SUMS: usize = 2;
    const VANISHES: bool = true;
    const PICK: Pick = Pick::Peak;
    const SATURATED: f64 = -std::f64::consts::LN_2;
    const FIX: Option<usize> = Some(5);

    #[inline(always)]
    fn add<S: Simd<T>, T: Float>(self, sums: &mut [Vector<S, T>; SUMS], of: &Elements<S, T>) {
        add_apart(sums, of);
    }

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let one = Vector::splat(stats.sum.1, 1.0);
        let [others, at_max, _] = stats.sums;
        let minus_rest = expm1(stats.max);
        let others_sum = others + (at_max - stats.picked);
        let at_peak = Vector::zero(one.1) - (stats.picked * minus_rest + (one + minus_rest) * others_sum);
        // (The exponential of 0 is all there is in the sum of exponentials.)
        cotangent_params::<S, T>(stats, others + at_max, at_peak * stats.inverse_temperature())
    }

    #[inline(always)]
    fn finish<S: Simd<T>, T: Float>(self, p: &Params<Vector<S, T>>, e: Vector<S, T>, b: Vector<S, T>) -> Vector<S, T> {
        let result = finish_cotangent(p, e, b);
        // (A NaN among the logarithms shows in no sum.)
        result.select(result.equal(result), Vector::splat(e.1, T::NAN))
    }
}
