//! What arithmetic runs in: float32 and float64, with the constants of the kernels for each.

use std::ops::Add;

use super::{Isa, Kernel, Simd, Vector};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// How products that may be subnormal are put together. Exponents are relative to the largest exponential.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subnormal<T> {
    /// Of exponentials above 2^-this even the low part of the product is a normal number.
    pub(crate) small: i32,
    /// Those up to 2^-this give zero, and so far down that no processor waits. (Intel's do until 33 octaves below the
    /// least normal number of float32, and until 65 of float64.)
    pub(crate) nothing: i32,
    /// The least normal number. No exponential is smaller, but zero.
    pub(crate) least: T,
    /// The ones between are multiplied with a power of two: the bits to add for it, and to add to divide by it.
    pub(crate) up: T,
    pub(crate) down: T,
    /// The least normal number times that power.
    pub(crate) normal: T,
    /// The reciprocal of the least number, over that power.
    pub(crate) units: T,
    /// 2^(mantissa bits), whose sum with a smaller number holds that, rounded, in its low bits; and the bits to add to
    /// take away its own.
    pub(crate) first: T,
    pub(crate) minus_first: T,
    /// Products times that power from here on are computed without it.
    pub(crate) large: T,
}

/// With 2^`$up` for that power, of a type of so many mantissa bits, whose 1 has this exponent field.
macro_rules! subnormal {
    ($bits:ty, mantissa: $mantissa:literal, one: $one:literal, up: $up:literal, small: $small:literal, nothing: $nothing:literal) => {{
        const fn with_exponent_field(field: $bits) -> $bits {
            field << $mantissa
        }
        Subnormal {
            small: $small,
            nothing: $nothing,
            least: Self::from_bits(with_exponent_field(1)),
            up: Self::from_bits(with_exponent_field($up)),
            down: Self::from_bits(with_exponent_field($up).wrapping_neg()),
            normal: Self::from_bits(with_exponent_field(1 + $up)),
            units: Self::from_bits(with_exponent_field($one + ($one - 1 + $mantissa) - $up)),
            first: Self::from_bits(with_exponent_field($one + $mantissa)),
            minus_first: Self::from_bits(with_exponent_field($one + $mantissa).wrapping_neg()),
            large: Self::from_bits(with_exponent_field(2 * $one - 16)),
        }
    }};
}

/// A type that the kernels compute in.
pub(crate) trait Float:
    sealed::Sealed + Copy + PartialOrd + Add<Output = Self> + Send + Sync + std::fmt::Debug + 'static
{
    /// Virtual lanes: 64 bytes of them on every level.
    const LANES: usize;
    /// Elements in 16 bytes, the unit of the transposes.
    const TILE: usize = Self::LANES / 4;
    const ZERO: Self;
    const ONE: Self;
    const NEG_INFINITY: Self;
    /// The least finite number.
    const LOWEST: Self;
    /// The one NaN that results hold: quiet, positive, no payload.
    const NAN: Self;

    /// Entries of exp's table.
    const TABLE_SIZE: usize;
    /// The common factor of the table's entries.
    const KAPPA: f64;
    /// Coefficients of r^1, r^2, ... of exp(r) for |r| <= ln 2 / (2 TABLE_SIZE); `DEGREE` of them.
    const POLY: [f64; 8];
    const DEGREE: usize;
    /// 1.5 * 2^(mantissa bits): adding it rounds to an integer that the low bits then hold.
    const MAGIC: Self;
    /// exp's results are kept times 2^BIAS, so that the core meets no subnormal numbers.
    const BIAS: i32;
    /// Terms below exp(-CUT) are taken for exp(-CUT): neither as a result nor as a sum of 2^33 of them are they anything
    /// but zero, and times 2^BIAS they are still normal numbers.
    const CUT: f64;
    /// The same where anything that would round to zero in the type is zero.
    const SHALLOW_CUT: f64;
    /// Largest |x TABLE_SIZE log2(e) / T| at which the exponent shift is used.
    const SHIFT_LIMIT: f64;
    /// Temperatures from 1/this to this go through the exponent shift: their powers up to the degree stay normal, and the
    /// low part of the inverse stays below 1, so that its product with any finite number is finite.
    const TEMPERATURE_LIMIT: f64;

    /// Exponents of what a derivative may be divided by at once; what is beyond is divided by in the end.
    const DIVISORS: [i32; 2];

    /// The least number with all its digits.
    const LEAST_NORMAL: f64;
    /// A factor of exponentials below `FAINT` comes times `LIFT`, for as a subnormal number it would lose digits that 1 / T
    /// may bring back; one above 1 / `FAINT` comes over it, for it might not be finite, though its product is.
    const FAINT: f64;
    const LIFT: f64;
    /// What two probabilities come times that are multiplied, for the same reason. (Over its square even the low part of
    /// 1 / T is a normal number: arithmetic with others takes 16 times as long.)
    const PROBABILITY: f64;

    /// How products that may be subnormal are put together.
    const SUBNORMAL: Subnormal<Self>;

    /// The bits of the mantissa.
    const MANTISSA_MASK: Self;
    /// Binary digits of a number.
    const DIGITS: i32;
    /// Bits to add to those of x in [1/2, 1] so that the exponent field turns at sqrt(1/2): 1 - sqrt(1/2), as bits.
    const SQRT_HALF_OFFSET: Self;
    /// sqrt(1/2).
    const SQRT_HALF: Self;
    /// The exponent field of 1.
    const EXPONENT_BIAS: Self;
    /// ln 2 as a sum; n times the first is exact for any exponent n.
    const LN2: [Self; 2];
    /// (log(1 + f) - f + f^2/2) / s^2 ... as in fdlibm: coefficients of s^2, s^4, ... with s = f / (2 + f).
    const LOG_POLY: [f64; 7];
    const LOG_DEGREE: usize;

    /// Whether sums keep what rounding took from them.
    const KEEPS_REST: bool;
    /// Sums of many terms: float64 lanes for float32, pairs of float64 for float64.
    type Wide<S: Isa>: Copy;

    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;
    fn is_nan(self) -> bool;
    fn is_finite(self) -> bool;
    fn abs(self) -> Self;
    /// (x - m) 2^-exponent without intermediate overflow where the result has none.
    fn scaled_difference(x: Self, m: Self, exponent: i32) -> Self;
    /// The vector of exp's table: kappa 2^(j/TABLE_SIZE), repeated.
    fn table<S: Simd<Self>>(s: S) -> Vector<S, Self>;

    fn wide_zero<S: Isa>(s: S) -> Self::Wide<S>;
    /// A lane sum of a few terms: zero plus it.
    fn widen<S: Isa + Simd<Self>>(s: S, group: Vector<S, Self>) -> Self::Wide<S>;
    /// Adds two lane sums of a few terms.
    fn wide_pair<S: Isa + Simd<Self>>(s: S, pair: [Vector<S, Self>; 2]) -> Self::Wide<S>;
    /// Adds a lane sum of a few terms.
    fn wide_add<S: Isa + Simd<Self>>(s: S, sum: Self::Wide<S>, group: Vector<S, Self>) -> Self::Wide<S>;
    /// Adds lane by lane.
    fn wide_merge<S: Isa>(s: S, a: Self::Wide<S>, b: Self::Wide<S>) -> Self::Wide<S>;
    /// One float64 vector of [sums, rests]: 16 lanes are folded to 8 (l with l + 8), as a wide merge would.
    fn wide_fold<S: Isa>(s: S, sum: Self::Wide<S>) -> [Vector<S, f64>; 2];
    /// The lanes in halves of eight: [sums, rests] of each. (For float64 both halves are the one vector.)
    fn wide_halves<S: Isa>(s: S, sum: Self::Wide<S>) -> [[Vector<S, f64>; 2]; 2];
    /// Adds folded sums: (sum, rest) and (sum, rest).
    fn fold_merge<S: Isa>(a: [Vector<S, f64>; 2], b: [Vector<S, f64>; 2]) -> [Vector<S, f64>; 2];
    /// The same for one number.
    fn scalar_merge(a: [f64; 2], b: [f64; 2]) -> [f64; 2];

    /// Lanes `8 * half` to `8 * half + 8` of 16 as float64.
    fn widen_half<S: Isa + Simd<Self>>(s: S, v: Vector<S, Self>, half: usize) -> Vector<S, f64>;
    /// The inverse of `widen_half` for both halves (float64 has only the first).
    fn from_halves<S: Isa + Simd<Self>>(s: S, halves: [Vector<S, f64>; 2]) -> Vector<S, Self>;
    /// Runs a kernel: the one place where `S: Isa` is known to have lanes of this type.
    fn enter<S: Isa, K: Kernel<Self>>(s: S, kernel: K) -> K::Out;
    /// The sum of two numbers of this type, as a pair: where float64 holds it, the second is zero.
    fn pair<S: Isa>(parts: [Vector<S, f64>; 2]) -> [Vector<S, f64>; 2];
    /// `hi + lo` as (rounded to this type, the rest).
    fn split<S: Isa>(s: S, hi: Vector<S, f64>, lo: Vector<S, f64>) -> [Vector<S, f64>; 2];
}

/// Error-free transformation: a + b = sum + error (Knuth 1969; six operations, no condition on a and b).
#[inline(always)]
pub(crate) fn two_sum<S: Isa>(a: Vector<S, f64>, b: Vector<S, f64>) -> [Vector<S, f64>; 2] {
    let sum = a + b;
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    [sum, error]
}

/// kappa 2^(j/8): kappa is chosen so that every entry lies within 2^-28.2 (relative) of a float32. The `j << 20` that
/// [`Simd::shift_to_exponent`] will bring along with the exponent is taken off beforehand.
static TABLE_F32: [f32; 16] = {
    const ENTRIES: [u32; 8] = [
        0x3fc4_e5be,
        0x3fd6_b7da,
        0x3fea_26de,
        0x3fff_5829,
        0x400b_3a3e,
        0x4017_d424,
        0x4025_9202,
        0x4034_8e45,
    ];
    let mut table = [0.0; 16];
    let mut i = 0;
    while i < 16 {
        let j = i % 8;
        table[i] = f32::from_bits(ENTRIES[j] - ((j as u32) << 20));
        i += 1;
    }
    table
};

/// kappa 2^(j/4), within 2^-63.6 (relative) of a float64; the `j << 50` taken off.
static TABLE_F64: [f64; 8] = {
    const ENTRIES: [u64; 4] = [
        0x3ff4_09eb_e7cb_3803,
        0x3ff7_d48a_05fd_b592,
        0x3ffc_56cd_f81d_87b6,
        0x4000_d9bb_8bfa_16f4,
    ];
    let mut table = [0.0; 8];
    let mut i = 0;
    while i < 8 {
        let j = i % 4;
        table[i] = f64::from_bits(ENTRIES[j] - ((j as u64) << 50));
        i += 1;
    }
    table
};

impl Float for f32 {
    const LANES: usize = 16;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = Self::NEG_INFINITY;
    const LOWEST: Self = Self::MIN;
    const NAN: Self = Self::from_bits(0x7fc0_0000);

    const TABLE_SIZE: usize = 8;
    const KAPPA: f64 = 1.538_261_175_155_639_6; // 0x1.89cb7cp0
    // Minimax on |r| <= ln2/16 with the first two coefficients 1: 2^-32.5, from a Remez exchange in 200 bits (degree 3
    // would be 2^-25.2, which costs 0.4 ULP to save one of ten multiply-adds). The third coefficient is then moved by
    // 1e-4 of itself, which leaves 2^-29.5: with it exp is monotone over all float32, fused and unfused, while the best
    // one has an inversion or two among 2^30 numbers.
    const POLY: [f64; 8] = [
        1.0,
        0.500_000_012_755_849_5,
        0.166_664_034_128_189_09,
        0.041_660_431_046_239_62,
        0.0,
        0.0,
        0.0,
        0.0,
    ];
    const DEGREE: usize = 4;
    const MAGIC: Self = 12_582_912.0;
    const BIAS: i32 = 64;
    const CUT: f64 = 130.0;
    const SHALLOW_CUT: f64 = 107.0;
    const SHIFT_LIMIT: f64 = 2.3e6;
    const TEMPERATURE_LIMIT: f64 = 65536.0;
    const DIVISORS: [i32; 2] = [-100, 34];
    const LEAST_NORMAL: f64 = Self::MIN_POSITIVE as f64;
    const FAINT: f64 = 1.0 / (1_u128 << 120) as f64;
    const LIFT: f64 = (1_u128 << 64) as f64;
    const PROBABILITY: f64 = (1_u64 << 36) as f64;

    const SUBNORMAL: Subnormal<Self> = subnormal!(u32, mantissa: 23, one: 127, up: 96, small: 96, nothing: 161);

    const MANTISSA_MASK: Self = Self::from_bits(0x007f_ffff);
    const DIGITS: i32 = 24;
    const SQRT_HALF_OFFSET: Self = Self::from_bits(0x3f80_0000 - 0x3f35_04f3);
    const SQRT_HALF: Self = Self::from_bits(0x3f35_04f3);
    const EXPONENT_BIAS: Self = 127.0;
    const LN2: [Self; 2] = [6.931_381_225_6e-1, 9.058_000_614_5e-6];
    const LOG_POLY: [f64; 7] = [
        0.666_666_626_93,
        0.400_009_721_52,
        0.284_987_866_88,
        0.242_790_788_41,
        0.0,
        0.0,
        0.0,
    ];
    const LOG_DEGREE: usize = 4;

    const KEEPS_REST: bool = false;
    type Wide<S: Isa> = [Vector<S, f64>; 2];

    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as Self
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.is_finite()
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    fn scaled_difference(x: Self, m: Self, exponent: i32) -> Self {
        // In float64 the difference is exact for operands within 2^29 of one another; beyond, the smaller is nothing.
        let d = f64::from(x) - f64::from(m);
        (d * pow2(-exponent / 2) * pow2(-exponent - -exponent / 2)) as Self
    }
    #[inline(always)]
    fn table<S: Simd<Self>>(s: S) -> Vector<S, Self> {
        // SAFETY: the table fills a vector.
        unsafe { Vector::load(s, TABLE_F32.as_ptr()) }
    }

    #[inline(always)]
    fn wide_zero<S: Isa>(s: S) -> Self::Wide<S> {
        [Vector::zero(s); 2]
    }
    #[inline(always)]
    fn widen<S: Isa + Simd<Self>>(s: S, group: Vector<S, Self>) -> Self::Wide<S> {
        let [low, high] = s.widen(group.0);
        [Vector(low, s), Vector(high, s)]
    }
    #[inline(always)]
    fn wide_pair<S: Isa + Simd<Self>>(s: S, pair: [Vector<S, Self>; 2]) -> Self::Wide<S> {
        Self::wide_merge(s, Self::widen(s, pair[0]), Self::widen(s, pair[1]))
    }
    #[inline(always)]
    fn wide_add<S: Isa + Simd<Self>>(s: S, sum: Self::Wide<S>, group: Vector<S, Self>) -> Self::Wide<S> {
        let [low, high] = s.widen(group.0);
        [sum[0] + Vector(low, s), sum[1] + Vector(high, s)]
    }
    #[inline(always)]
    fn wide_merge<S: Isa>(_: S, a: Self::Wide<S>, b: Self::Wide<S>) -> Self::Wide<S> {
        [a[0] + b[0], a[1] + b[1]]
    }
    #[inline(always)]
    fn scalar_merge(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
        [a[0] + b[0], 0.0]
    }
    #[inline(always)]
    fn wide_fold<S: Isa>(s: S, sum: Self::Wide<S>) -> [Vector<S, f64>; 2] {
        [sum[0] + sum[1], Vector::zero(s)]
    }
    #[inline(always)]
    fn wide_halves<S: Isa>(s: S, sum: Self::Wide<S>) -> [[Vector<S, f64>; 2]; 2] {
        [[sum[0], Vector::zero(s)], [sum[1], Vector::zero(s)]]
    }
    #[inline(always)]
    fn fold_merge<S: Isa>(a: [Vector<S, f64>; 2], b: [Vector<S, f64>; 2]) -> [Vector<S, f64>; 2] {
        [a[0] + b[0], a[1]]
    }

    #[inline(always)]
    fn widen_half<S: Isa + Simd<Self>>(s: S, v: Vector<S, Self>, half: usize) -> Vector<S, f64> {
        Vector(s.widen(v.0)[half], s)
    }
    #[inline(always)]
    fn from_halves<S: Isa + Simd<Self>>(s: S, halves: [Vector<S, f64>; 2]) -> Vector<S, Self> {
        Vector(s.narrow([halves[0].0, halves[1].0]), s)
    }
    #[inline(always)]
    fn enter<S: Isa, K: Kernel<Self>>(s: S, kernel: K) -> K::Out {
        kernel.run(s)
    }
    #[inline(always)]
    fn pair<S: Isa>([hi, lo]: [Vector<S, f64>; 2]) -> [Vector<S, f64>; 2] {
        [hi + lo, Vector::zero(hi.1)]
    }
    #[inline(always)]
    fn split<S: Isa>(s: S, hi: Vector<S, f64>, lo: Vector<S, f64>) -> [Vector<S, f64>; 2] {
        let sum = hi + lo;
        let [rounded, _] = s.widen(s.narrow([sum.0, sum.0]));
        let rounded = Vector(rounded, s);
        [rounded, (hi - rounded) + lo]
    }
}

impl Float for f64 {
    const LANES: usize = 8;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = Self::NEG_INFINITY;
    const LOWEST: Self = Self::MIN;
    const NAN: Self = Self::from_bits(0x7ff8_0000_0000_0000);

    const TABLE_SIZE: usize = 4;
    const KAPPA: f64 = 1.252_422_242_588_637; // 0x1.409ebe7cb3803p0
    // Minimax on |r| <= ln2/8, the first two coefficients 1: 2^-57.6.
    const POLY: [f64; 8] = [
        1.0,
        0.500_000_000_000_000_66,
        0.166_666_666_666_958_6,
        0.041_666_666_666_109_56,
        0.008_333_333_130_480_082,
        0.001_388_889_010_301_865_5,
        0.000_198_455_109_297_190_37,
        0.000_024_795_694_086_943_057,
    ];
    const DEGREE: usize = 8;
    const MAGIC: Self = 6_755_399_441_055_744.0;
    const BIAS: i32 = 128;
    const CUT: f64 = 790.0;
    const SHALLOW_CUT: f64 = 748.0;
    const SHIFT_LIMIT: f64 = 7.0e13; // 2^46
    const TEMPERATURE_LIMIT: f64 = 1.0e15;
    const DIVISORS: [i32; 2] = [-900, 700];
    const LEAST_NORMAL: f64 = Self::MIN_POSITIVE;
    const FAINT: f64 = f64::from_bits((1023 - 1000) << 52);
    const LIFT: f64 = f64::from_bits((1023 + 512) << 52);
    const PROBABILITY: f64 = f64::from_bits((1023 + 440) << 52);

    const SUBNORMAL: Subnormal<Self> = subnormal!(u64, mantissa: 52, one: 1023, up: 256, small: 900, nothing: 1090);

    const MANTISSA_MASK: Self = Self::from_bits(0x000f_ffff_ffff_ffff);
    const DIGITS: i32 = 53;
    const SQRT_HALF_OFFSET: Self = Self::from_bits(0x3ff0_0000_0000_0000 - 0x3fe6_a09e_667f_3bcd);
    const SQRT_HALF: Self = Self::from_bits(0x3fe6_a09e_667f_3bcd);
    const EXPONENT_BIAS: Self = 1023.0;
    const LN2: [Self; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
    const LOG_POLY: [f64; 7] = [
        6.666_666_666_666_735_13e-1,
        3.999_999_999_940_941_908e-1,
        2.857_142_874_366_239_149e-1,
        2.222_219_843_214_978_396e-1,
        1.818_357_216_161_805_012e-1,
        1.531_383_769_920_937_332e-1,
        1.479_819_860_511_658_591e-1,
    ];
    const LOG_DEGREE: usize = 7;

    const KEEPS_REST: bool = true;
    type Wide<S: Isa> = [Vector<S, f64>; 2];

    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        self.is_finite()
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }
    fn scaled_difference(x: Self, m: Self, exponent: i32) -> Self {
        // Scale first what would overflow, last what would underflow: either is exact then.
        let scale = |v: f64| v * pow2(-exponent / 2) * pow2(-exponent - -exponent / 2);
        if exponent > 0 {
            scale(x) - scale(m)
        } else {
            scale(x - m)
        }
    }
    #[inline(always)]
    fn table<S: Simd<Self>>(s: S) -> Vector<S, Self> {
        // SAFETY: the table fills a vector.
        unsafe { Vector::load(s, TABLE_F64.as_ptr()) }
    }

    #[inline(always)]
    fn wide_zero<S: Isa>(s: S) -> Self::Wide<S> {
        [Vector::zero(s); 2]
    }
    #[inline(always)]
    fn widen<S: Isa + Simd<Self>>(s: S, group: Vector<S, Self>) -> Self::Wide<S> {
        [group, Vector::zero(s)]
    }
    #[inline(always)]
    fn wide_pair<S: Isa + Simd<Self>>(_: S, pair: [Vector<S, Self>; 2]) -> Self::Wide<S> {
        two_sum(pair[0], pair[1])
    }
    #[inline(always)]
    fn wide_add<S: Isa + Simd<Self>>(_: S, sum: Self::Wide<S>, group: Vector<S, Self>) -> Self::Wide<S> {
        // The same type twice: as lanes of `S: Simd<Self>` and of `S: Isa`.
        let [hi, error] = two_sum(sum[0], group);
        [hi, sum[1] + error]
    }
    #[inline(always)]
    fn wide_merge<S: Isa>(_: S, a: Self::Wide<S>, b: Self::Wide<S>) -> Self::Wide<S> {
        let [hi, error] = two_sum(a[0], b[0]);
        [hi, (a[1] + b[1]) + error]
    }
    #[inline(always)]
    fn scalar_merge(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
        let sum = a[0] + b[0];
        let b_part = sum - a[0];
        let error = (a[0] - (sum - b_part)) + (b[0] - b_part);
        [sum, (a[1] + b[1]) + error]
    }
    #[inline(always)]
    fn wide_fold<S: Isa>(_: S, sum: Self::Wide<S>) -> [Vector<S, f64>; 2] {
        sum
    }
    #[inline(always)]
    fn wide_halves<S: Isa>(_: S, sum: Self::Wide<S>) -> [[Vector<S, f64>; 2]; 2] {
        [sum, sum]
    }
    #[inline(always)]
    fn fold_merge<S: Isa>(a: [Vector<S, f64>; 2], b: [Vector<S, f64>; 2]) -> [Vector<S, f64>; 2] {
        let [sum, error] = two_sum(a[0], b[0]);
        [sum, (a[1] + b[1]) + error]
    }

    #[inline(always)]
    fn widen_half<S: Isa + Simd<Self>>(_: S, v: Vector<S, Self>, _: usize) -> Vector<S, f64> {
        v
    }
    #[inline(always)]
    fn from_halves<S: Isa + Simd<Self>>(_: S, halves: [Vector<S, f64>; 2]) -> Vector<S, Self> {
        halves[0]
    }
    #[inline(always)]
    fn enter<S: Isa, K: Kernel<Self>>(s: S, kernel: K) -> K::Out {
        kernel.run(s)
    }
    #[inline(always)]
    fn pair<S: Isa>(parts: [Vector<S, f64>; 2]) -> [Vector<S, f64>; 2] {
        parts
    }
    #[inline(always)]
    fn split<S: Isa>(_: S, hi: Vector<S, f64>, lo: Vector<S, f64>) -> [Vector<S, f64>; 2] {
        let sum = hi + lo;
        [sum, (hi - sum) + lo]
    }
}

/// 2^n, zero or infinity beyond the range.
pub(crate) fn pow2(n: i32) -> f64 {
    if n < -1022 {
        if n < -1074 {
            0.0
        } else {
            f64::from_bits(1 << (n + 1074))
        }
    } else if n > 1023 {
        f64::INFINITY
    } else {
        f64::from_bits(((n + 1023) as u64) << 52)
    }
}
