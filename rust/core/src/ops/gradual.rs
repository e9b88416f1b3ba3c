//! Results that are proportional to an exponential, where they may be subnormal.
//!
//! A multiplication whose result is subnormal takes Intel's processors some 130 cycles. A row of wide logits has many of
//! them, and the low part of a product is one long before the product is. So what is small is multiplied times a power of
//! two, and a subnormal result is put together from its bits: rounded once to the type's digits, once more to whole units
//! of the least number. (To find out row by row, by the least element, what is small takes as long as to ask here.)

use super::{Finish, RowOp};
use crate::simd::{Float, GROUP, Part, Simd, Vector, pow2};

/// From here down a result, or the low part of a product, may be subnormal.
#[inline(always)]
fn small<S: Simd<T>, T: Float, O: RowOp>(s: S) -> Vector<S, T> {
    let small = O::DEPTH.bias::<T>() - T::SUBNORMAL.small + O::FACTOR;
    Vector::splat(s, T::from_f64(pow2(small)))
}

/// Whether anything in a vector of exponentials is that small.
#[inline(always)]
pub(super) fn any_small<S: Simd<T>, T: Float, O: RowOp>(e: Vector<S, T>) -> bool {
    small::<S, T, O>(e.1).not_less(e).any()
}

/// Whether anything in a group is.
#[inline(always)]
pub(super) fn any_small_in_group<S: Simd<T>, T: Float, O: RowOp>(e: [Vector<S, T>; GROUP]) -> bool {
    any_small::<S, T, O>(e[0].min(e[1]).min(e[2].min(e[3])))
}

/// The results of exponentials in which something may be small, and of elements of the second row.
#[inline(always)]
pub(super) fn finish<S: Simd<T>, T: Float, O: RowOp>(
    of: Finish<'_, S, T, O>,
    e: Vector<S, T>,
    b: Vector<S, T>,
) -> Vector<S, T> {
    if any_small::<S, T, O>(e) {
        e.1.part(Small { of, e, b })
    } else {
        of.op.finish(of.params, e, b)
    }
}

/// Vectors in which something is small.
struct Small<'a, S: Simd<T>, T: Float, O> {
    of: Finish<'a, S, T, O>,
    e: Vector<S, T>,
    b: Vector<S, T>,
}

impl<S: Simd<T>, T: Float, O: RowOp> Part<S, T> for Small<'_, S, T, O> {
    type Out = Vector<S, T>;
    #[inline(always)]
    fn compute(self, s: S) -> Vector<S, T> {
        let Self {
            of: Finish { op, params },
            e,
            b,
        } = self;
        let k = T::SUBNORMAL;
        let (zero, small) = (Vector::zero(s), small::<S, T, O>(s));
        // What is masked is zero, or nearly: that is multiplied as fast as anything.
        let nothing = T::from_f64(pow2(O::DEPTH.bias::<T>() - k.nothing));
        let nothing = Vector::splat(s, if nothing > k.least { nothing } else { k.least });
        let others = (small + small).select(nothing.not_less(e), e);
        let is_small = small.not_less(others);
        if !is_small.any() {
            return op.finish(params, e, b);
        }
        // (Bits are added: a multiplication would overflow in the other lanes, and its flag would have to be put back.)
        let up = e.add_bits(Vector::splat(s, k.up)).select(is_small, zero);
        let scaled = op.finish(params, up, b);
        let size = scaled.max(zero - scaled);
        // (What it is multiplied with may be so large that what is small becomes large, and times the power of two infinite.)
        let is_large = size.not_less(Vector::splat(s, k.large));
        let whole = op.finish(params, e.select(is_large, zero.select(is_small, e)), b);
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
