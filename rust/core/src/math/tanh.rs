//! The soft cap `c tanh(x / c)` of scores, and its slope.

use super::exp::{Base, Depth, EXPM1_LEAST, Exp, expm1_pair};
use crate::simd::{Isa, Vector, two_sum};

/// Numbers as sums of two.
type Pair<S> = [Vector<S, f64>; 2];

/// What cap and slope are made of.
struct Decay<S: Isa> {
    /// -2 |x / c|.
    argument: Pair<S>,
    /// Its exponential, times some number.
    decayed: Pair<S>,
    /// That number.
    whole: Pair<S>,
}

impl<S: Isa> Decay<S> {
    #[inline(always)]
    fn new(x: Vector<S, f64>, c: Vector<S, f64>) -> Self {
        let s = x.1;
        let (zero, minus_two) = (Vector::zero(s), Vector::splat(s, -2.0));
        let size = x.max(zero - x);
        let u = size.div(c);
        // What the division left, which the exponential multiplies by its argument.
        let left = u.fused_neg_mul_add(c, size).div(c);
        let argument = [
            minus_two * u,
            (minus_two * left).select((left * zero).equal(zero), zero),
        ];
        let exp = Exp::new(s, &Base::new(1.0), zero, Depth::Full);
        let [e, rest] = exp.pair(exp.floor.max(argument[0]));
        let there = argument[0].not_less(exp.floor);
        let decayed = [e.select(there, zero), e.mul_add(argument[1], rest).select(there, zero)];
        Self {
            argument,
            decayed,
            whole: exp.peak,
        }
    }

    /// tanh |x / c|.
    ///
    /// Far from zero it is `(1 - q) / (1 + q)` with q = exp(-2 |x / c|); near it, where the difference would cancel,
    /// `-d / (2 + d)` with d = q - 1 of its own.
    #[inline(always)]
    fn tanh(&self) -> Pair<S> {
        let Self {
            argument: [y, y_lo],
            decayed: [q, q_lo],
            whole: [one, one_lo],
        } = *self;
        let s = y.1;
        let zero = Vector::zero(s);
        let least = Vector::splat(s, EXPM1_LEAST);
        let [d, d_lo] = expm1_pair(y.max(least));
        let d_lo = d.mul_add(y_lo, d_lo + y_lo);
        let is_near = y.not_less(least);
        let [far, far_lo] = two_sum(one, zero - q);
        let numerator = [
            (zero - d).select(is_near, far),
            (zero - d_lo).select(is_near, far_lo + (one_lo - q_lo)),
        ];
        let sum = two_sum(Vector::splat(s, 2.0).select(is_near, one), d.select(is_near, q));
        let denominator = [sum[0], sum[1] + d_lo.select(is_near, one_lo + q_lo)];
        let quotient = numerator[0].div(denominator[0]);
        let left = quotient.fused_neg_mul_add(denominator[0], numerator[0]);
        let left = left + quotient.fused_neg_mul_add(denominator[1], numerator[1]);
        [quotient, left.div(denominator[0])]
    }
}

/// `c tanh(x / c)`.
///
/// **Contract.** At most 1 ULP in float64: what is lost here, the exponentials that follow multiply by the size of their
/// arguments. c at infinite x. NaN gives NaN.
#[inline(always)]
pub(crate) fn softcap<S: Isa>(x: Vector<S, f64>, limit: f64) -> Vector<S, f64> {
    let c = Vector::splat(x.1, limit);
    let zero = Vector::zero(x.1);
    let [tanh, rest] = Decay::new(x, c).tanh();
    // (Not by `mul_add`, which rounds twice at the level that this runs at.)
    let size = tanh * c;
    let size = size + (rest * c - tanh.fused_neg_mul_add(c, size));
    // Nothing is lost here, where x / c might be too small to keep all digits.
    let is_tiny = Vector::splat(x.1, limit * 1e-9).not_less(x.max(zero - x));
    // (Of NaN the sign does not matter, but it must stay NaN.)
    let signed = size.select(x.not_less(zero), zero - size);
    x.select(x.not_equal(x), x.select(is_tiny, signed))
}

/// Its derivative, `4q / (1 + q)^2`: `1 - tanh^2` would cancel.
///
/// **Contract.** At most 4 ULP in float64; 0 at infinite x. NaN gives NaN.
#[inline(always)]
pub(crate) fn softcap_slope<S: Isa>(x: Vector<S, f64>, limit: f64) -> Vector<S, f64> {
    let Decay { decayed, whole, .. } = Decay::new(x, Vector::splat(x.1, limit));
    let (q, one) = (decayed[0] + decayed[1], whole[0]);
    let slope = (Vector::splat(x.1, 4.0) * q * one).div((one + q) * (one + q));
    x.select(x.not_equal(x), slope)
}
