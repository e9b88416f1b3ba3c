//! Products of the Jacobians with vectors, from the scores.
//!
//! With p the probabilities, J = (diag(p) - p p^T) / T is softmax's Jacobian, and rows add up to zero. So t_k, the
//! number at the maximum k, may be taken off the vector first: h = t - t_k, and
//!
//! * softmax: `p_i (h_i - sum_j p_j h_j) / T`, the same for J^T, J being symmetric;
//! * log_softmax, tangents: `(h_i - sum_j p_j h_j) / T`;
//! * logsumexp, tangents: `t_k + sum_j p_j h_j`.
//!
//! h_k is 0, so the probability that may round to 1 never enters the sum, and nothing cancels: where p_k is all but 1
//! the others are right to the last digits. (The usual `p (t - <p, t>)` gives 0 there, or noise.) Then the sum may be
//! subnormal, though its quotient by a small T is not: see [`Stats::lift`].
//!
//! Cotangents of log_softmax are another matter, J^T 1 is not 0: `(g_i - p_i sum_j g_j) / T`. At k, with s the sum of
//! the other exponentials over the maximum's, that is `(g_k s - sum over j != k of g_j) / ((1 + s) T)`.

use super::{Elements, From, Params, Pick, RowOp, Stats};
use crate::row::SUMS;
use crate::simd::{Float, Isa, Simd, Vector};

/// The sum of e (t_k - t). (Not of its negative: x86 reads what is subtracted from memory as it subtracts.)
#[inline(always)]
fn add_products<S: Simd<T>, T: Float>(sums: &mut [Vector<S, T>; SUMS], of: &Elements<S, T>) {
    sums[0] = of.e.mul_add(of.picked - of.b, sums[0]);
}

/// sum_j p_j (t_j - t_k), times a number. (Not to be multiplied afterwards: float64's may be subnormal without it.)
#[inline(always)]
fn mean<S: Isa>(stats: &Stats<S>, times: Vector<S, f64>) -> Vector<S, f64> {
    let [inverse, rest] = stats.inverse_total();
    let sum = (Vector::zero(times.1) - stats.sums[0]) * times;
    sum.mul_add(inverse, sum * rest)
}

/// J t, or J^T g.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoftmaxProduct;

impl RowOp for SoftmaxProduct {
    const FROM: From = From::Exp;
    const PARAMS: usize = 5;
    const MASKED: f64 = 0.0;
    const DERIVES: bool = true;
    const SECOND: bool = true;
    const SUMS: usize = 1;
    const VANISHES: bool = true;
    const PICK: Pick = Pick::Peak;
    const SCALES: bool = true;
    const FACTOR: i32 = 16;

    #[inline(always)]
    fn add<S: Simd<T>, T: Float>(self, sums: &mut [Vector<S, T>; SUMS], of: &Elements<S, T>) {
        add_products(sums, of);
    }

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let one = Vector::splat(stats.sum.1, 1.0);
        let [hi, lo] = stats.scale::<T>([stats.given.factor, Vector::zero(stats.sum.1)]);
        let [lift, lower] = Stats::lift::<T>(mean(stats, one));
        [hi, lo, stats.picked, mean(stats, lift), lower, Vector::zero(one.1)]
    }

    #[inline(always)]
    fn finish<S: Simd<T>, T: Float>(self, p: &Params<Vector<S, T>>, e: Vector<S, T>, b: Vector<S, T>) -> Vector<S, T> {
        let v = (e * p[4]).fused_neg_mul_add(p[3], e * (b - p[2]));
        v.mul_add(p[0], v * p[1])
    }
}

/// Tangents through log_softmax.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSoftmaxJvp;

impl RowOp for LogSoftmaxJvp {
    const FROM: From = From::Second;
    const PARAMS: usize = 5;
    const MASKED: f64 = 0.0;
    const DERIVES: bool = true;
    const SECOND: bool = true;
    const SUMS: usize = 1;
    const VANISHES: bool = true;
    const PICK: Pick = Pick::Peak;

    #[inline(always)]
    fn add<S: Simd<T>, T: Float>(self, sums: &mut [Vector<S, T>; SUMS], of: &Elements<S, T>) {
        add_products(sums, of);
    }

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let zero = Vector::zero(stats.sum.1);
        let one = Vector::splat(zero.1, 1.0);
        let [inverse, inverse_lo] = stats.split_inverse_temperature::<T>();
        let [mean, rest] = stats.split_over_temperature::<T>(mean(stats, one));
        [stats.picked, zero - mean, inverse, inverse_lo, zero - rest, zero]
    }

    #[inline(always)]
    fn finish<S: Simd<T>, T: Float>(self, p: &Params<Vector<S, T>>, b: Vector<S, T>, _: Vector<S, T>) -> Vector<S, T> {
        // (The other way round: x86 reads what is subtracted from memory as it subtracts.)
        let v = p[1] - (p[0] - b);
        v.mul_add(p[2], v.mul_add(p[3], p[4]))
    }
}

/// Tangents through logsumexp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSumExpJvp;

impl RowOp for LogSumExpJvp {
    const FROM: From = From::Nothing;
    const PARAMS: usize = 1;
    const MASKED: f64 = 0.0;
    const SECOND: bool = true;
    const SUMS: usize = 1;
    const VANISHES: bool = true;
    const PICK: Pick = Pick::Peak;

    #[inline(always)]
    fn add<S: Simd<T>, T: Float>(self, sums: &mut [Vector<S, T>; SUMS], of: &Elements<S, T>) {
        add_products(sums, of);
    }

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let zero = Vector::zero(stats.sum.1);
        let one = Vector::splat(zero.1, 1.0);
        [stats.picked + mean(stats, one), zero, zero, zero, zero, zero]
    }
}

/// Cotangents through log_softmax.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSoftmaxVjp;

/// The sums of what is not at the maximum, and of what is.
#[inline(always)]
pub(super) fn add_apart<S: Simd<T>, T: Float>(sums: &mut [Vector<S, T>; SUMS], of: &Elements<S, T>) {
    sums[0] = sums[0].add_where(of.x.not_equal(of.m), of.b);
    sums[1] = sums[1].add_where(of.x.equal(of.m), of.b);
}

/// The parameters of [`finish_cotangent`]; the last is the result at the maximum.
#[inline(always)]
pub(super) fn cotangent_params<S: Isa, T: Float>(
    stats: &Stats<S>,
    sum: Vector<S, f64>,
    at_peak: Vector<S, f64>,
) -> Params<Vector<S, f64>> {
    let [inverse, _] = stats.inverse_total();
    let [lift, lower] = Stats::lift::<T>(sum * inverse * stats.inverse_temperature());
    let [hi, lo] = stats.scale::<T>([(Vector::zero(sum.1) - sum) * lift, Vector::zero(sum.1)]);
    let [inverse, inverse_lo] = stats.split_inverse_temperature::<T>();
    [hi, lo, lower, inverse, inverse_lo, at_peak]
}

/// (g_i - p_i sum_j g_j) / T. (The sum is divided by T before it meets the exponential: p_i may be subnormal.)
#[inline(always)]
pub(super) fn finish_cotangent<S: Simd<T>, T: Float>(
    p: &Params<Vector<S, T>>,
    e: Vector<S, T>,
    g: Vector<S, T>,
) -> Vector<S, T> {
    let [hi, lo, lower, inverse, inverse_lo, _] = *p;
    let e = e * lower;
    let taken = e.mul_add(hi, e * lo);
    g.mul_add(inverse, g.mul_add(inverse_lo, taken))
}

impl RowOp for LogSoftmaxVjp {
    const FROM: From = From::Exp;
    const PARAMS: usize = 6;
    const MASKED: f64 = 0.0;
    const DERIVES: bool = true;
    const SECOND: bool = true;
    const SUMS: usize = 2;
    const VANISHES: bool = true;
    const PICK: Pick = Pick::Peak;
    const FIX: Option<usize> = Some(5);

    #[inline(always)]
    fn add<S: Simd<T>, T: Float>(self, sums: &mut [Vector<S, T>; SUMS], of: &Elements<S, T>) {
        add_apart(sums, of);
    }

    #[inline(always)]
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>> {
        let one = Vector::splat(stats.sum.1, 1.0);
        let [others, at_max, _] = stats.sums;
        let sum = others + at_max;
        let [s, s_rest] = stats.tail();
        let tail = s + s_rest;
        let others = others + (at_max - stats.picked);
        let at_peak = (stats.picked * tail - others).div(one + tail) * stats.inverse_temperature();
        cotangent_params::<S, T>(stats, sum, at_peak)
    }

    #[inline(always)]
    fn finish<S: Simd<T>, T: Float>(self, p: &Params<Vector<S, T>>, e: Vector<S, T>, b: Vector<S, T>) -> Vector<S, T> {
        finish_cotangent(p, e, b)
    }
}
