//! exp of scores relative to their row's maximum, without subtracting the maximum.
//!
//! The plain way, `exp(x - m)`, rounds the difference, and the exponential turns an absolute error of half an ulp of
//! `|x - m|` into a relative one: up to 41 ULP in float32. Here the *exponent is shifted* instead. With `k` table entries,
//!
//! 1. `N = round(m log2(e) / T)`, once per row;
//! 2. `t = x (k log2(e) / T) + (MAGIC + k (BIAS - N))`: the addition of the magic constant rounds to an integer, which
//!    the low bits of `t` then hold, `k BIAS - k N` included; `j = t - (MAGIC + k (BIAS - N))` is that integer without them;
//! 3. `r = x - j (T ln2 / k)`, in two multiply-adds (Cody and Waite), so nothing cancels that was rounded before;
//! 4. `exp(r / T) - 1 = r q(r)`, a polynomial whose coefficients carry the powers of `1 / T`;
//! 5. the low bits of `t` choose `s = kappa 2^(j/k)` from a table in a register, the other bits go to the exponent;
//! 6. the result is `s + s r q(r) = kappa 2^BIAS exp(x / T) 2^-N`.
//!
//! The factor `kappa 2^BIAS` is common to all terms and falls out of every quotient. `kappa` is chosen so that all
//! table entries are (nearly) exact in the type; `2^BIAS` keeps the core away from subnormal numbers, so that the last
//! multiplication, by the reciprocal of the sum, rounds once into them. The idea of a pair (mantissa, exponent) is
//! Dukhan and Ablavatskii's ("Two-pass softmax algorithm", 2020); with the maximum known it costs less than `x - m`.
//!
//! **Contract.** For one row (m, T) with `|m k log2(e) / T| <= T::SHIFT_LIMIT` and `T` within `TEMPERATURE_LIMIT`, and x in
//! [m - CUT T, m]: at most 1.05 ULP (0.62 measured over all float32). At T = 1 non-decreasing in x, for all float32; at
//! other temperatures neighbouring floats may come out in the wrong order, by one ULP, once in a million.
//! NaN gives NaN. Below m - CUT T the argument must be clamped to `floor`.

use crate::simd::{Float, Isa, Lanes, Part, Simd, Vector, two_sum};

/// log2(e), and ln 2 as a sum of two.
const LOG2_E: f64 = std::f64::consts::LOG2_E;
const LN_2: [f64; 2] = [std::f64::consts::LN_2, 2.319_046_813_846_299_6e-17];

/// Places in [`Base::constants`].
const SCALE: usize = 0; // k log2(e) / T
const OCTAVE: usize = 1; // log2(e) / T
const CUT: [usize; 2] = [2, 3]; // CUT T, SHALLOW_CUT T
const STEP: [usize; 2] = [4, 5]; // T ln2 / k as a sum
const POLY: usize = 6; // coefficients over powers of T
const CONSTANTS: usize = POLY + 8;

/// How small an exponential may be that is told from zero, and in which scale exponentials come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Far below what the type can hold as a result.
    Full,
    /// Down to half of the least number of the type: as a result, all below is zero. In return there is room above: an
    /// exponential may be multiplied with numbers up to 2^95 (float64: 2^959).
    Shallow,
}

impl Depth {
    /// Exponentials come times 2^this.
    pub(crate) const fn bias<T: Float>(self) -> i32 {
        match self {
            Self::Full => T::BIAS,
            Self::Shallow => T::BIAS / 2,
        }
    }

    /// Below exp(-this) there are none.
    const fn cut<T: Float>(self) -> f64 {
        match self {
            Self::Full => T::CUT,
            Self::Shallow => T::SHALLOW_CUT,
        }
    }
}

/// The constants of one temperature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base<T> {
    constants: [T; CONSTANTS],
    /// Largest |m| of a row that the exponent shift can serve; negative where no row can be.
    limit: f64,
}

impl<T: Float> Base<T> {
    #[inline]
    pub(crate) fn new(temperature: f64) -> Self {
        let k = T::TABLE_SIZE as f64;
        let inverse = 1.0 / temperature;
        let step = temperature * (LN_2[0] / k);
        let hi = T::from_f64(step);
        // What is left of T ln2 / k: the rounding of the product, of hi, and the rest of ln2. (Without a fused
        // multiply-add in the baseline this is a call, which a temperature of 1 need not pay.)
        let product = if temperature == 1.0 {
            step - hi.to_f64()
        } else {
            temperature.mul_add(LN_2[0] / k, -hi.to_f64())
        };
        let rest = product + temperature * (LN_2[1] / k);
        let mut constants = [T::ZERO; CONSTANTS];
        constants[SCALE] = T::from_f64(k * LOG2_E * inverse);
        constants[OCTAVE] = T::from_f64(LOG2_E * inverse);
        constants[CUT[0]] = T::from_f64(Depth::Full.cut::<T>() * temperature);
        constants[CUT[1]] = T::from_f64(Depth::Shallow.cut::<T>() * temperature);
        constants[STEP[0]] = hi;
        constants[STEP[1]] = T::from_f64(rest);
        let mut power = inverse;
        for i in 0..T::DEGREE {
            constants[POLY + i] = T::from_f64(T::POLY[i] * power);
            power *= inverse;
        }
        let possible = (1.0 / T::TEMPERATURE_LIMIT..=T::TEMPERATURE_LIMIT).contains(&temperature);
        let limit = if possible {
            T::SHIFT_LIMIT / (k * LOG2_E) * temperature
        } else {
            -1.0
        };
        Self { constants, limit }
    }

    /// Whether a row with maximum `m` can be reduced by the exponent shift.
    #[inline(always)]
    pub(crate) fn reaches(&self, m: T) -> bool {
        m.to_f64().abs() <= self.limit
    }
}

/// exp for one row (splats) or for one row per lane.
pub(crate) struct Exp<S: Simd<T>, T: Float> {
    scale: Vector<S, T>,
    shift: Vector<S, T>,
    step: [Vector<S, T>; 2],
    poly: [Vector<S, T>; 8],
    table: Vector<S, T>,
    /// N, the exponent that was shifted out.
    pub(crate) octaves: Vector<S, T>,
    /// The least argument.
    pub(crate) floor: Vector<S, T>,
    /// The exponential of the maximum, and what its last operation rounded off.
    pub(crate) peak: [Vector<S, T>; 2],
}

/// exp for one row, as numbers. Vectors are made of them in the function that computes with them: there the compiler
/// knows that all lanes are the same, and that both registers of an AVX2 vector are.
#[derive(Clone, Copy)]
pub(crate) struct RowExp<'a, T> {
    base: &'a Base<T>,
    shift: T,
    floor: T,
    peak: T,
}

impl<'a, T: Float> RowExp<'a, T> {
    /// For the row in lane `l`, from [`Exp::rows`].
    #[inline(always)]
    pub(crate) fn new(base: &'a Base<T>, [shift, floor, peak]: &[Lanes<T>; 3], l: usize) -> Self {
        Self {
            base,
            shift: shift.0[l],
            floor: floor.0[l],
            peak: peak.0[l],
        }
    }

    /// In all lanes.
    #[inline(always)]
    pub(crate) fn splat<S: Simd<T>>(&self, s: S) -> Exp<S, T> {
        let mut exp = Exp::unshifted(s, &constants(s, self.base));
        exp.shift = Vector::splat(s, self.shift);
        exp.floor = Vector::splat(s, self.floor);
        exp.peak[0] = Vector::splat(s, self.peak);
        exp
    }
}

/// The constants of one temperature, in all lanes.
#[inline(always)]
fn constants<S: Simd<T>, T: Float>(s: S, base: &Base<T>) -> [Vector<S, T>; CONSTANTS] {
    let mut constants = [Vector::zero(s); CONSTANTS];
    for i in 0..CONSTANTS {
        constants[i] = Vector::splat(s, base.constants[i]);
    }
    constants
}

impl<S: Simd<T>, T: Float> Exp<S, T> {
    /// For rows of one temperature, whose maxima are the lanes of `m`.
    #[inline(always)]
    pub(crate) fn new(s: S, base: &Base<T>, m: Vector<S, T>, depth: Depth) -> Self {
        Self::at_maxima(s, m, &constants(s, base), depth)
    }

    /// The same, of rows that have the one temperature of `base`: now the compiler knows so, and that both registers of an
    /// AVX2 vector of constants are the same.
    #[inline(always)]
    pub(crate) fn alike(&self, s: S, base: &Base<T>) -> Self {
        let mut exp = Self::unshifted(s, &constants(s, base));
        exp.shift = self.shift;
        exp.octaves = self.octaves;
        exp.floor = self.floor;
        exp.peak = self.peak;
        exp
    }

    /// What the rows differ in that have one temperature: what [`RowExp::new`] takes.
    #[inline(always)]
    pub(crate) fn rows(&self) -> [Lanes<T>; 3] {
        [self.shift.to_lanes(), self.floor.to_lanes(), self.peak[0].to_lanes()]
    }

    /// For rows of a temperature each.
    #[inline(always)]
    pub(crate) fn per_lane(s: S, bases: &[Base<T>; 16], m: Vector<S, T>, depth: Depth) -> Self {
        let mut constants = [Vector::zero(s); CONSTANTS];
        for i in 0..CONSTANTS {
            let mut lanes = Lanes([T::ZERO; 16]);
            for l in 0..16 {
                lanes.0[l] = bases[l].constants[i];
            }
            constants[i] = Vector::from_lanes(s, &lanes);
        }
        Self::at_maxima(s, m, &constants, depth)
    }

    #[inline(always)]
    fn at_maxima(s: S, m: Vector<S, T>, constants: &[Vector<S, T>; CONSTANTS], depth: Depth) -> Self {
        let mut exp = Self::unshifted(s, constants);
        let [shift, octaves, floor, peak, peak_rest] = s.part(AtMaxima { m, constants, depth });
        exp.shift = shift;
        exp.octaves = octaves;
        exp.floor = floor;
        exp.peak = [peak, peak_rest];
        exp
    }

    /// What does not depend on the maxima: the rest, which [`AtMaxima`] computes, is zero.
    #[inline(always)]
    fn unshifted(s: S, constants: &[Vector<S, T>; CONSTANTS]) -> Self {
        let zero = Vector::zero(s);
        let mut poly = [zero; 8];
        #[allow(
            clippy::manual_memcpy,
            reason = "`copy_from_slice` may stay a call out of the kernel"
        )]
        for i in 0..8 {
            poly[i] = constants[POLY + i];
        }
        Self {
            scale: constants[SCALE],
            shift: zero,
            step: [constants[STEP[0]], constants[STEP[1]]],
            poly,
            table: T::table(s),
            octaves: zero,
            floor: zero,
            peak: [zero; 2],
        }
    }

    /// kappa 2^BIAS exp(x / T) 2^-N for x at or above `floor`.
    #[inline(always)]
    pub(crate) fn of(&self, x: Vector<S, T>) -> Vector<S, T> {
        let [e] = self.of_several([x]);
        e
    }

    /// The same for several vectors, step by step: the processor's schedulers are too small to find the parallelism if one
    /// vector's chain of dependent operations follows another's.
    #[inline(always)]
    pub(crate) fn of_several<const N: usize>(&self, x: [Vector<S, T>; N]) -> [Vector<S, T>; N] {
        x[0].1.part(OfSeveral { exp: self, x })
    }

    /// (a, b, p): the exponential before its last operation rounds it is s + s p, with s the sum of a and b as integers.
    /// Within 0.15 ULP of the true value.
    #[inline(always)]
    pub(crate) fn unrounded<const N: usize>(&self, x: [Vector<S, T>; N]) -> [[Vector<S, T>; N]; 3] {
        x[0].1.part(Unrounded { exp: self, x })
    }

    /// (a, b, p) with the result s (1 + p), where s, the sum of a and b as integers, is a power of two times a table entry.
    #[inline(always)]
    fn parts<const N: usize>(&self, x: [Vector<S, T>; N]) -> [[Vector<S, T>; 3]; N] {
        let mut t = x;
        for i in 0..N {
            t[i] = x[i].mul_add(self.scale, self.shift);
        }
        let mut j = t;
        for i in 0..N {
            j[i] = t[i] - self.shift;
        }
        let mut r = x;
        for k in 0..2 {
            for i in 0..N {
                r[i] = j[i].fused_neg_mul_add(self.step[k], r[i]);
            }
        }
        let mut q = [self.poly[T::DEGREE - 1]; N];
        for k in (0..T::DEGREE - 1).rev() {
            for i in 0..N {
                q[i] = q[i].mul_add(r[i], self.poly[k]);
            }
        }
        let mut parts = [[t[0]; 3]; N];
        for i in 0..N {
            parts[i] = [self.table.lookup(t[i]), t[i].shift_to_exponent(), r[i] * q[i]];
        }
        parts
    }

    /// The exponential with what its last operation rounded off: four more digits (of two) than the type has, for what was
    /// rounded before was at most a twentieth of the result.
    #[inline(always)]
    pub(crate) fn pair(&self, x: Vector<S, T>) -> [Vector<S, T>; 2] {
        let [[a, b, p]] = self.parts([x]);
        let s = a.add_bits(b);
        let e = p.mul_add(s, s);
        let minus_p = Vector::zero(x.1) - p;
        [e, minus_p.fused_neg_mul_add(s, s - e)]
    }
}

/// What [`Exp::of_several`] computes.
struct OfSeveral<'a, S: Simd<T>, T: Float, const N: usize> {
    exp: &'a Exp<S, T>,
    x: [Vector<S, T>; N],
}

impl<S: Simd<T>, T: Float, const N: usize> Part<S, T> for OfSeveral<'_, S, T, N> {
    type Out = [Vector<S, T>; N];
    #[inline(always)]
    fn compute(self, _: S) -> Self::Out {
        let parts = self.exp.parts(self.x);
        let mut e = self.x;
        for i in 0..N {
            let [a, b, p] = parts[i];
            let s = a.add_bits(b);
            e[i] = p.mul_add(s, s);
        }
        e
    }
}

/// What [`Exp::unrounded`] computes.
struct Unrounded<'a, S: Simd<T>, T: Float, const N: usize> {
    exp: &'a Exp<S, T>,
    x: [Vector<S, T>; N],
}

impl<S: Simd<T>, T: Float, const N: usize> Part<S, T> for Unrounded<'_, S, T, N> {
    type Out = [[Vector<S, T>; N]; 3];
    #[inline(always)]
    fn compute(self, _: S) -> Self::Out {
        let parts = self.exp.parts(self.x);
        let mut out = [self.x; 3];
        for i in 0..N {
            for k in 0..3 {
                out[k][i] = parts[i][k];
            }
        }
        out
    }
}

/// What of [`Exp`] depends on the maxima: `shift`, `octaves`, `floor` and `peak`. (And no more: what a part gives may be
/// copied.)
struct AtMaxima<'a, S: Simd<T>, T: Float> {
    m: Vector<S, T>,
    constants: &'a [Vector<S, T>; CONSTANTS],
    depth: Depth,
}

impl<S: Simd<T>, T: Float> Part<S, T> for AtMaxima<'_, S, T> {
    type Out = [Vector<S, T>; 5];
    #[inline(always)]
    fn compute(self, s: S) -> Self::Out {
        let Self { m, constants, depth } = self;
        let k = T::TABLE_SIZE as f64;
        let magic = Vector::splat(s, T::MAGIC);
        let octaves = m.mul_add(constants[OCTAVE], magic) - magic;
        // All of these are integers that the type holds exactly.
        let start = Vector::splat(s, T::from_f64(T::MAGIC.to_f64() + k * f64::from(depth.bias::<T>())));
        let mut exp = Exp::unshifted(s, constants);
        exp.shift = start - octaves * Vector::splat(s, T::from_f64(k));
        let [peak, peak_rest] = exp.pair(m);
        [exp.shift, octaves, m - constants[CUT[depth as usize]], peak, peak_rest]
    }
}

/// exp(y) - 1 for y in [-0.7, 0.7]: its Taylor series, whose remainder is below 2^-60 of the result there.
///
/// **Contract.** At most 2 ULP in float64.
#[inline(always)]
pub(crate) fn expm1<S: Isa>(y: Vector<S, f64>) -> Vector<S, f64> {
    taylor::<S, 18>(y, 1) * y
}

/// The least argument of [`expm1_pair`].
pub(crate) const EXPM1_LEAST: f64 = -0.6;

/// The same for y in [EXPM1_LEAST, 0], as a pair: the first two terms of the series are added without an error.
///
/// **Contract.** At most 0.2 ULP of the first.
#[inline(always)]
pub(crate) fn expm1_pair<S: Isa>(y: Vector<S, f64>) -> [Vector<S, f64>; 2] {
    let (zero, half) = (Vector::zero(y.1), Vector::splat(y.1, 0.5));
    let square = y * y;
    let left = zero - y.fused_neg_mul_add(y, square);
    let [sum, lost] = two_sum(y, half * square);
    let [sum, more] = two_sum(sum, taylor::<S, 15>(y, 3) * (square * y));
    [sum, more + half.mul_add(left, lost)]
}

/// 1 / first! + y / (first + 1)! + ..., so many terms.
#[inline(always)]
fn taylor<S: Isa, const TERMS: usize>(y: Vector<S, f64>, first: u32) -> Vector<S, f64> {
    let mut coefficients = [1.0; TERMS];
    for k in 2..=first {
        coefficients[0] /= f64::from(k);
    }
    for k in 1..TERMS {
        coefficients[k] = coefficients[k - 1] / (k as f64 + f64::from(first));
    }
    let mut q = Vector::splat(y.1, coefficients[TERMS - 1]);
    for k in (0..TERMS - 1).rev() {
        q = q.mul_add(y, Vector::splat(y.1, coefficients[k]));
    }
    q
}
