//! log p_i = x_i / T - log sum_j exp(x_j / T).
//!
//! With m the maximum, k its place and s = sum over j != k of exp((x_j - m) / T), the logarithm is m / T + log1p(s),
//! exact in the tail: [0, -40] gives -4.2e-18 for its first element, not 0. It is kept as a pair hi + lo, twice the
//! type's precision. At T = 1 then (x - hi) - lo: the first difference is exact wherever x and hi are within a factor of
//! two (Sterbenz), so nothing cancels that was rounded. Otherwise 1 / T and x / T are pairs as well, and -log1p(s) goes to
//! the maximum itself, where even pairs would not be enough.

use super::{From, Params, RowOp, Stats};
use crate::math::log::log1p;
use crate::row::Adds;
use crate::simd::{Float, Isa, Simd, Vector, two_sum};

/// The logarithms of the probabilities; `SCALED` where the temperature is not 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSoftmax<const SCALED: bool>;

impl<const SCALED: bool> RowOp for LogSoftmax<SCALED> {
    const FROM: From = From::X;
    const PARAMS: usize = if SCALED { 6 } else { 2 };
    const MASKED: f64 = f64::NEG_INFINITY;
    const ADDS: Adds = Adds::OthersUnrounded;

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let s = stats.sum.1;
        let zero = Vector::zero(s);
        let log = log1p(stats.tail());
        if !SCALED {
            let [hi, lo] = two_sum(stats.pivot, log);
            let [hi, lo] = T::split(s, hi, lo);
            // Where the maximum is all there is, hi - x is a zero, and less it +0 is +0 again.
            let [rounded, _] = T::split(s, lo, zero);
            let less = zero.select(rounded.equal(zero), zero - lo);
            return [hi, less, zero, zero, zero, zero];
        }
        // 1 / T and m / T as pairs.
        let one = Vector::splat(s, 1.0);
        let inverse = one.div(stats.moved_temperature);
        let inverse_lo = inverse * stats.moved_temperature.fused_neg_mul_add(inverse, one);
        let scaled = stats.pivot * inverse;
        let lost = stats.pivot.fused_neg_mul_add(inverse, scaled);
        let scaled_lo = stats.pivot * inverse_lo - lost;
        let [hi, lo] = two_sum(scaled, log);
        let [hi, lo] = T::split(s, hi, lo + scaled_lo);
        let [inverse, inverse_lo] = T::split(s, inverse, inverse_lo);
        // At a temperature of 1 among others the bits are those of no temperature: nothing is taken for the maximum then.
        let pivot = Vector::splat(s, f64::NAN).select(stats.moved_temperature.equal(one), stats.pivot);
        [
            zero - inverse,
            zero - inverse_lo,
            zero - hi,
            zero - lo,
            pivot,
            zero - log,
        ]
    }

    #[inline(always)]
    fn finish<S: Simd<T>, T: Float>(self, p: &Params<Vector<S, T>>, x: Vector<S, T>, _: Vector<S, T>) -> Vector<S, T> {
        if !SCALED {
            // (The other way round: x86 reads what is subtracted from memory as it subtracts.)
            let s = p[0] - x;
            // In float32 what this rounds off is three quarters of a unit of the result at most.
            let less = if T::KEEPS_REST {
                p[1] - finite(lost(p[0], x, s))
            } else {
                p[1]
            };
            return less - s;
        }
        let [inverse, inverse_lo, hi, lo, pivot, at_pivot] = *p;
        // -x / T as a pair, but for the low part of 1 / T.
        let quotient = x * inverse;
        let rest = x.fused_neg_mul_add(inverse, quotient);
        let s = hi - quotient;
        // At a temperature of 1 among others there is no pivot, and the bits are those of no temperature.
        let mut lost = lost(hi, quotient, s);
        if !T::KEEPS_REST {
            lost = Vector::zero(x.1).select(pivot.not_equal(pivot), lost);
        }
        let small = x.fused_neg_mul_add(inverse_lo, lo) + (lost + rest);
        at_pivot.select(x.equal(pivot), s + finite(small))
    }
}

/// What rounding took from a - b = s, if a is the larger (Dekker 1971), and otherwise not more than b's last digit.
///
/// Just below a power of two a result would be off by a unit for a difference that was rounded just above it.
#[inline(always)]
fn lost<S: Simd<T>, T: Float>(a: Vector<S, T>, b: Vector<S, T>, s: Vector<S, T>) -> Vector<S, T> {
    (a - s) - b
}

/// Of what is not finite, nothing.
#[inline(always)]
fn finite<S: Simd<T>, T: Float>(v: Vector<S, T>) -> Vector<S, T> {
    let zero = Vector::zero(v.1);
    v.select((v * zero).equal(zero), zero)
}
