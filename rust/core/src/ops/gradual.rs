//! Exponentials times a number of their row, where the product may be subnormal.
//!
//! A multiplication whose result is subnormal takes Intel's processors some 130 cycles. A row of wide logits has many of
//! them, and the low part of a product is one long before the product is. So what is small is multiplied times a power of
//! two, and a subnormal result is put together from its bits: rounded once to the type's digits, once more to whole units
//! of the least number. (To find out row by row, by the least element, what is small takes as long as to ask here.)

use crate::math::exp::Depth;
use crate::simd::{Float, GROUP, Part, Simd, Vector, pow2};

/// e (hi + lo), for exponentials that come in the scale of `depth`.
#[inline(always)]
pub(super) fn product<S: Simd<T>, T: Float>(
    e: Vector<S, T>,
    hi: Vector<S, T>,
    lo: Vector<S, T>,
    depth: Depth,
) -> Vector<S, T> {
    if any_small(e, depth) {
        e.1.part(Small { e, hi, lo, depth })
    } else {
        of_large(e, hi, lo)
    }
}

/// The same for the first vectors of a group, of which is asked but once whether there is anything small.
#[inline(always)]
pub(super) fn products<S: Simd<T>, T: Float>(
    v: [[Vector<S, T>; 2]; GROUP],
    hi: Vector<S, T>,
    lo: Vector<S, T>,
    depth: Depth,
) -> [Vector<S, T>; GROUP] {
    let least = v[0][0].min(v[1][0]).min(v[2][0].min(v[3][0]));
    let small = any_small(least, depth);
    let mut results = [least; GROUP];
    for i in 0..GROUP {
        results[i] = if small {
            product(v[i][0], hi, lo, depth)
        } else {
            of_large(v[i][0], hi, lo)
        };
    }
    results
}

/// From here down a product, or the low part of one, may be subnormal.
#[inline(always)]
fn small<S: Simd<T>, T: Float>(s: S, depth: Depth) -> Vector<S, T> {
    Vector::splat(s, T::from_f64(pow2(depth.bias::<T>() - T::SUBNORMAL.small)))
}

#[inline(always)]
fn any_small<S: Simd<T>, T: Float>(e: Vector<S, T>, depth: Depth) -> bool {
    small(e.1, depth).not_less(e).any()
}

#[inline(always)]
fn of_large<S: Simd<T>, T: Float>(e: Vector<S, T>, hi: Vector<S, T>, lo: Vector<S, T>) -> Vector<S, T> {
    e.mul_add(hi, e * lo)
}

/// A product of vectors in which something is small.
struct Small<S: Simd<T>, T: Float> {
    e: Vector<S, T>,
    hi: Vector<S, T>,
    lo: Vector<S, T>,
    depth: Depth,
}

impl<S: Simd<T>, T: Float> Part<S, T> for Small<S, T> {
    type Out = Vector<S, T>;
    #[inline(always)]
    fn compute(self, s: S) -> Vector<S, T> {
        let Self { e, hi, lo, depth } = self;
        let k = T::SUBNORMAL;
        let (zero, small) = (Vector::zero(s), small(s, depth));
        // What is masked is zero, or nearly: that is multiplied as fast as anything.
        let nothing = T::from_f64(pow2(depth.bias::<T>() - k.nothing));
        let nothing = Vector::splat(s, if nothing > k.least { nothing } else { k.least });
        let others = (small + small).select(nothing.not_less(e), e);
        let is_small = small.not_less(others);
        if !is_small.any() {
            return of_large(e, hi, lo);
        }
        // (Bits are added: a multiplication would overflow in the other lanes, and its flag would have to be put back.)
        let scaled = of_large(e.add_bits(Vector::splat(s, k.up)).select(is_small, zero), hi, lo);
        let size = scaled.max(zero - scaled);
        // (A factor of the row may be so large that what is small becomes large, and times the power of two infinite.)
        let is_large = size.not_less(Vector::splat(s, k.large));
        let whole = of_large(e.select(is_large, zero.select(is_small, e)), hi, lo);
        let normal = scaled.add_bits(Vector::splat(s, k.down));
        let units =
            (size * Vector::splat(s, k.units) + Vector::splat(s, k.first)).add_bits(Vector::splat(s, k.minus_first));
        let sign = zero.select(scaled.not_less(zero), Vector::splat(s, T::from_f64(-0.0)));
        let result = normal.select(size.not_less(Vector::splat(s, k.normal)), units.add_bits(sign));
        // (A zero keeps its sign.)
        let result = scaled.select(scaled.equal(zero), result);
        whole.select(is_large, result.select(is_small, whole))
    }
}
