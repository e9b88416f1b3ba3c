//! Losses of rows, and softmax times a number, which their gradients are made of.
//!
//! A row's loss is `-sum_i c_i log p_i`, with c the class (1 there, else 0) or probabilities, weights and smoothing in it.
//! With m the maximum, k its place, s the sum of the other exponentials over its own, and A = sum_i c_i,
//!
//! * the loss is `sum_i c_i (m - x_i) / T + A log1p(s)`: nothing but positive terms;
//! * the gradient is `(A p_i - c_i) / T`. At k, where p_k is above 1/2 and may round to 1, it is computed as
//!   `(sum over j != k of c_j - A s / (1 + s)) / T`, the first sum formed without c_k. Elsewhere p_i <= 1/2, and nothing is
//!   lost. (Where maxima tie, any may play k.)
//!
//! To this comes, where it is asked for, `a L^2` with L the logsumexp, and its gradient `2 a L p_i / T`.

use super::{Elements, From, Given, Params, Pick, RowOp, Stats};
use crate::math::log::log1p;
use crate::row::{Adds, SUMS};
use crate::simd::{Float, Isa, Simd, Vector, two_sum};

/// What a row adds to the loss.
pub(crate) struct Losses<V> {
    /// The cross entropy, times the row's weight.
    pub(crate) entropy: V,
    /// The squared logsumexp, times its coefficient.
    pub(crate) square: V,
}

impl<S: Isa> Losses<Vector<S, f64>> {
    /// For a row with a class, whose score was picked.
    #[inline(always)]
    pub(super) fn of_class(stats: &Stats<S>) -> Self {
        let distance = (stats.pivot - stats.picked).div(stats.moved_temperature);
        Self::new(stats, distance + log1p(stats.tail()))
    }

    /// With the row's loss before weighting.
    #[inline(always)]
    fn new(stats: &Stats<S>, loss: Vector<S, f64>) -> Self {
        let zero = Vector::zero(stats.sum.1);
        let Given { weight, square, .. } = stats.given;
        let mut losses = Self {
            // A class of weight 0 adds nothing, be it as improbable as can be.
            entropy: zero.select(weight.equal(zero), weight * loss),
            square: zero,
        };
        if square.not_equal(zero).any() {
            let [log, _] = logsumexp(stats);
            losses.square = zero.select(square.equal(zero), square * log * log);
        }
        losses
    }
}

/// A low part; what is infinite has none.
#[inline(always)]
fn low<S: Isa>(rest: Vector<S, f64>) -> Vector<S, f64> {
    let zero = Vector::zero(rest.1);
    rest.select((rest * zero).equal(zero), zero)
}

/// a * b as a pair; `b` is one.
#[inline(always)]
fn product<S: Isa>(a: Vector<S, f64>, [b, b_lo]: [Vector<S, f64>; 2]) -> [Vector<S, f64>; 2] {
    let hi = a * b;
    [hi, low(a * b_lo - a.fused_neg_mul_add(b, hi))]
}

/// The logarithm of the sum of exp(x / T), as a pair.
#[inline(always)]
fn logsumexp<S: Isa>(stats: &Stats<S>) -> [Vector<S, f64>; 2] {
    let quotient = stats.max.div(stats.temperature);
    let left = quotient
        .fused_neg_mul_add(stats.temperature, stats.max)
        .div(stats.temperature);
    let [sum, lost] = two_sum(quotient, log1p(stats.tail()));
    [sum, low(lost + left)]
}

/// The factor of p_i that comes of the squared logsumexp, but for 1 / T, as a pair. (Nearly always there is none, and the
/// divisions would be a tenth of a loss of short rows.)
#[inline(always)]
fn square_factor<S: Isa>(stats: &Stats<S>) -> [Vector<S, f64>; 2] {
    let zero = Vector::zero(stats.sum.1);
    let factor = stats.given.square_factor;
    if !factor.not_equal(zero).any() {
        return [zero, zero];
    }
    let [hi, lo] = product(factor, logsumexp(stats));
    let none = factor.equal(zero);
    [zero.select(none, hi), zero.select(none, lo)]
}

/// (factor + square) / (T sum of all exponentials) as [`Stats::scale`] has it, of pairs. Where x / T overflows, the squared
/// logsumexp is infinite, but not what is beside the maximum: a probability of 0 times the largest number is still 0.
#[inline(always)]
fn scale<S: Isa, T: Float>(
    stats: &Stats<S>,
    [factor, factor_lo]: [Vector<S, f64>; 2],
    [square, square_lo]: [Vector<S, f64>; 2],
) -> [Vector<S, f64>; 2] {
    let zero = Vector::zero(square.1);
    let [sum, lost] = two_sum(factor, square);
    let [hi, lo] = stats.scale::<T>([sum, lost + (factor_lo + square_lo)]);
    let most = Vector::splat(square.1, -T::LOWEST.to_f64());
    let given = factor + stats.given.square_factor;
    let finite = (given * zero).equal(zero);
    [hi.min(most).max(zero - most).select(finite, hi), lo]
}

/// Softmax times a number for each row, less that number at the row's class (if it has one).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScaledSoftmax;

impl RowOp for ScaledSoftmax {
    const FROM: From = From::Exp;
    const PARAMS: usize = 3;
    const MASKED: f64 = 0.0;
    const DERIVES: bool = true;
    const VANISHES: bool = true;
    const ADDS: Adds = Adds::Others;
    const PICK: Pick = Pick::Class;
    const FIX: Option<usize> = Some(2);
    const SCALES: bool = true;
    // (A mean over 1000 rows of logits N(0, 15) took three times as long without.)
    const FACTOR: i32 = 16;

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let zero = Vector::zero(stats.sum.1);
        let one = Vector::splat(stats.sum.1, 1.0);
        let factor = stats.given.factor;
        let square = square_factor(stats);
        let [hi, lo] = scale::<S, T>(stats, [factor, zero], square);
        let [others, inverse, _] = stats.shares();
        let is_max = stats.picked.equal(stats.pivot);
        let p = inverse.select(is_max, stats.exp(stats.picked) * inverse);
        let p_less_one = (zero - others).select(is_max, p - one);
        let [square, square_lo] = square;
        let squared = zero.select(p.equal(zero), square.mul_add(p, square_lo * p));
        let [inverse, inverse_lo] = stats.inverse_temperature_pair();
        let at_class = factor * p_less_one + squared;
        let at_class = at_class.mul_add(inverse, low(at_class * inverse_lo));
        [hi, lo, at_class, zero, zero, zero]
    }

    #[inline(always)]
    fn losses<S: Isa>(self, stats: &Stats<S>) -> Losses<Vector<S, f64>> {
        Losses::of_class(stats)
    }
}

/// Rows with a number c_i for each element: the loss, and the gradient if `GRADIENT`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dense<const GRADIENT: bool>;

impl<const GRADIENT: bool> RowOp for Dense<GRADIENT> {
    const FROM: From = if GRADIENT { From::Exp } else { From::Nothing };
    const PARAMS: usize = if GRADIENT { 5 } else { 0 };
    const MASKED: f64 = 0.0;
    const DERIVES: bool = true;
    const SECOND: bool = true;
    const SUMS: usize = 3;
    const VANISHES: bool = true;
    const ADDS: Adds = Adds::Others;
    const PICK: Pick = Pick::Peak;
    const FIX: Option<usize> = if GRADIENT { Some(3) } else { None };

    #[inline(always)]
    fn add<S: Simd<T>, T: Float>(self, sums: &mut [Vector<S, T>; SUMS], of: &Elements<S, T>) {
        // A probability of 0 adds nothing, be the score -inf.
        let counts = of.b.not_equal(Vector::zero(of.m.1));
        sums[0] = sums[0].add_where(counts, of.b * (of.m - of.x));
        sums[1] = sums[1].add_where(of.x.not_equal(of.m), of.b);
        sums[2] = sums[2].add_where(of.x.equal(of.m), of.b);
    }

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let zero = Vector::zero(stats.sum.1);
        if !GRADIENT {
            return [zero; 6];
        }
        let factor = stats.given.factor;
        let square = square_factor(stats);
        let [_, others, at_max] = stats.sums;
        let [_, others_lo, at_max_lo] = stats.rests;
        let [all, lost] = two_sum(others, at_max);
        let all_lo = low(lost + (others_lo + at_max_lo));
        let [hi, lo] = scale::<S, T>(stats, product(factor, [all, all_lo]), square);
        let inverse = stats.inverse_temperature_pair();
        let each = product(factor, inverse);
        let [each, each_lo] = T::split(zero.1, each[0], each[1]);
        let [tail, peak, peak_lo] = stats.shares();
        // Where the probability is small it is the difference of the sums that would cancel.
        let half = Vector::splat(zero.1, 0.5);
        let small = (zero - all.fused_neg_mul_add(peak, stats.picked)) + low(all * peak_lo + all_lo * peak);
        let others = others + (at_max - stats.picked);
        let large = all.fused_neg_mul_add(tail, others) + low((others_lo + at_max_lo) - all_lo * tail);
        let apart = small.select(tail.not_less(half), large);
        let [first, first_lo] = product(factor, [apart, zero]);
        let [second, second_lo] = product(square[0], [peak, peak_lo]);
        let [sum, lost] = two_sum(first, second);
        let sum_lo = lost + (first_lo + second_lo + square[1] * peak);
        let at_peak = sum.mul_add(inverse[0], low(sum * inverse[1] + sum_lo * inverse[0]));
        [hi, lo, zero - each, at_peak, zero - each_lo, zero]
    }

    #[inline(always)]
    fn finish<S: Simd<T>, T: Float>(self, p: &Params<Vector<S, T>>, e: Vector<S, T>, c: Vector<S, T>) -> Vector<S, T> {
        e.mul_add(p[0], c.mul_add(p[2], c.mul_add(p[4], e * p[1])))
    }

    #[inline(always)]
    fn losses<S: Isa>(self, stats: &Stats<S>) -> Losses<Vector<S, f64>> {
        let [distance, others, at_max] = stats.sums;
        let loss = distance.div(stats.moved_temperature) + (others + at_max) * log1p(stats.tail());
        Losses::new(stats, loss)
    }
}
