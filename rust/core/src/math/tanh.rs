//! The soft cap `c tanh(x / c)` of scores, and its slope.

use super::exp::{Base, Depth, Exp, expm1};
use crate::simd::{Float, Isa, Vector, pow2};

/// exp(-2 |x / c|), and tanh |x / c|.
///
/// Near zero, where `1 - exp(-2u)` would cancel, tanh is `-d / (2 + d)` with d = expm1(-2u).
#[inline(always)]
fn decay_and_tanh<S: Isa>(x: Vector<S, f64>, c: Vector<S, f64>) -> [Vector<S, f64>; 2] {
    let s = x.1;
    let (zero, one, two) = (Vector::zero(s), Vector::splat(s, 1.0), Vector::splat(s, 2.0));
    let size = x.max(zero - x);
    let u = size.div(c);
    let minus_twice = zero - two * u;
    // What the division left, which the exponential would multiply by its argument.
    let left = u.fused_neg_mul_add(c, size).div(c);
    let left = (two * left).select((left * zero).equal(zero), zero);
    let exp = Exp::new(s, &Base::new(1.0), zero, Depth::Full);
    let q = exp.of(exp.floor.max(minus_twice)) * Vector::splat(s, pow2(-f64::BIAS) / f64::KAPPA);
    let q = left
        .fused_neg_mul_add(q, q)
        .select(minus_twice.not_less(exp.floor), zero);
    let d = expm1(minus_twice.max(Vector::splat(s, -0.7)));
    let near = (zero - d).div(two + d);
    let far = (one - q).div(one + q);
    [q, near.select(minus_twice.not_less(Vector::splat(s, -0.7)), far)]
}

/// `c tanh(x / c)`.
///
/// **Contract.** At most 4 ULP in float64; c at infinite x. NaN gives NaN.
#[inline(always)]
pub(crate) fn softcap<S: Isa>(x: Vector<S, f64>, limit: f64) -> Vector<S, f64> {
    let c = Vector::splat(x.1, limit);
    let zero = Vector::zero(x.1);
    let [_, tanh] = decay_and_tanh(x, c);
    let size = tanh * c;
    // Nothing is lost here, where x / c might be too small to keep all digits.
    let is_tiny = Vector::splat(x.1, limit * 1e-9).not_less(x.max(zero - x));
    // (Of NaN the sign does not matter, but it must stay NaN.)
    let signed = size.select(x.not_less(zero), zero - size);
    x.select(x.not_equal(x), x.select(is_tiny, signed))
}

/// Its derivative, `4q / (1 + q)^2` with q = exp(-2 |x / c|): `1 - tanh^2` would cancel.
///
/// **Contract.** At most 4 ULP in float64; 0 at infinite x. NaN gives NaN.
#[inline(always)]
pub(crate) fn softcap_slope<S: Isa>(x: Vector<S, f64>, limit: f64) -> Vector<S, f64> {
    let one = Vector::splat(x.1, 1.0);
    let [q, _] = decay_and_tanh(x, Vector::splat(x.1, limit));
    let slope = (Vector::splat(x.1, 4.0) * q).div((one + q) * (one + q));
    x.select(x.not_equal(x), slope)
}
