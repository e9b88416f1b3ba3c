//! Products that may be subnormal.
//!
//! A multiplication whose result is subnormal takes Intel's processors some 150 cycles. A row of wide logits has many of
//! them, and the low part of a product is one long before the product is. So what is small is multiplied times a power of
//! two, and a subnormal result is put together from its bits: rounded once to the type's digits, once more to whole units
//! of the least number.

use crate::math::exp::Depth;
use crate::simd::{Float, Simd, Vector, pow2};

/// e (hi + lo), for exponentials that come in the scale of `depth`.
#[inline(always)]
pub(super) fn gradual<S: Simd<T>, T: Float>(
    e: Vector<S, T>,
    hi: Vector<S, T>,
    lo: Vector<S, T>,
    depth: Depth,
) -> Vector<S, T> {
    if is_any_small(e, depth) {
        some_small(e, hi, lo, depth)
    } else {
        product(e, hi, lo)
    }
}

/// From here down a product, or the low part of one, may be subnormal.
#[inline(always)]
fn small<S: Simd<T>, T: Float>(s: S, depth: Depth) -> Vector<S, T> {
    Vector::splat(s, T::from_f64(pow2(depth.bias::<T>() - T::SUBNORMAL.octaves)))
}

#[inline(always)]
pub(super) fn is_any_small<S: Simd<T>, T: Float>(e: Vector<S, T>, depth: Depth) -> bool {
    small(e.1, depth).not_less(e).any()
}

/// e (hi + lo), where nothing is small.
#[inline(always)]
pub(super) fn product<S: Simd<T>, T: Float>(e: Vector<S, T>, hi: Vector<S, T>, lo: Vector<S, T>) -> Vector<S, T> {
    e.mul_add(hi, e * lo)
}

/// The same where some are small.
#[inline(always)]
fn some_small<S: Simd<T>, T: Float>(e: Vector<S, T>, hi: Vector<S, T>, lo: Vector<S, T>, depth: Depth) -> Vector<S, T> {
    let s = e.1;
    let small = small(s, depth);
    let k = T::SUBNORMAL;
    let zero = Vector::zero(s);
    // What is masked is zero, or nearly: that is multiplied as fast as anything.
    let nothing = Vector::splat(s, T::from_f64(pow2(depth.bias::<T>() - k.depth)));
    let others = (small + small).select(nothing.not_less(e), e);
    let is_small = small.not_less(others);
    if !is_small.any() {
        return product(e, hi, lo);
    }
    let scaled = product((e * Vector::splat(s, k.up)).select(is_small, zero), hi, lo);
    let size = scaled.max(zero - scaled);
    let is_large = size.not_less(Vector::splat(s, k.large));
    let whole = product(e.select(is_large, zero.select(is_small, e)), hi, lo);
    let normal = scaled.add_bits(Vector::splat(s, k.down));
    let units =
        (size * Vector::splat(s, k.units) + Vector::splat(s, k.first)).add_bits(Vector::splat(s, k.minus_first));
    let sign = zero.select(scaled.not_less(zero), Vector::splat(s, T::from_f64(-0.0)));
    let below = units.add_bits(sign);
    let result = normal.select(size.not_less(Vector::splat(s, k.normal)), below);
    // (A zero keeps its sign.)
    let result = scaled.select(scaled.equal(zero), result);
    whole.select(is_large, result.select(is_small, whole))
}
