//! Logarithms.

use crate::simd::{Float, Simd, Vector};

/// log(1 + s) for s = `s[0] + s[1]` >= 0, the second far smaller, without loss for small s.
///
/// The algorithm is fdlibm's (Sun 1993, `s_log1p.c`), without branches: `1 + s = 2^k (1 + f)` with `1 + f` in
/// [sqrt(1/2), sqrt(2)), a correction `c` for the rounding of `1 + s`, and log(1 + f) by its series in `f / (2 + f)`.
///
/// **Contract.** 0 <= s < 2^60: at most 1 ULP. NaN gives NaN.
#[inline(always)]
pub(crate) fn log1p<S: Simd<T>, T: Float>([s, s_rest]: [Vector<S, T>; 2]) -> Vector<S, T> {
    let isa = s.1;
    let one = Vector::splat(isa, T::ONE);
    let u = one + s;
    // What the addition lost: exact, whichever operand was the larger.
    let lost = (one - (u - s)).select(s.not_less(one), s - (u - one));
    let c = (lost + s_rest).div(u);

    let turned = u.add_bits(Vector::splat(isa, T::SQRT_HALF_OFFSET));
    let k = turned.exponent() - Vector::splat(isa, T::EXPONENT_BIAS);
    let f = turned
        .and_bits(Vector::splat(isa, T::MANTISSA_MASK))
        .add_bits(Vector::splat(isa, T::SQRT_HALF))
        - one;

    let half_square = Vector::splat(isa, T::from_f64(0.5)) * f * f;
    let v = f.div(Vector::splat(isa, T::from_f64(2.0)) + f);
    let z = v * v;
    let mut r = Vector::splat(isa, T::from_f64(T::LOG_POLY[T::LOG_DEGREE - 1]));
    for i in (0..T::LOG_DEGREE - 1).rev() {
        r = r.mul_add(z, Vector::splat(isa, T::from_f64(T::LOG_POLY[i])));
    }
    let r = r * z;
    let small = k.mul_add(Vector::splat(isa, T::LN2[1]), c);
    let tail = v.mul_add(half_square + r, small) - half_square;
    (tail + f) + k * Vector::splat(isa, T::LN2[0])
}
