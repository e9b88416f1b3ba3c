//! Vectors: one trait that says what an instruction set must do, one wrapper that makes it readable.
//!
//! Every level has the same *virtual width*, 16 float32 or 8 float64: one AVX-512 register, two of AVX2, four of NEON, an
//! array in portable code. Algorithms are written once on `Vector`; since lanes mean the same everywhere, so do the bits of
//! the results (the portable level apart, which has no fused multiply-add).
//!
//! A value of a level's type is the proof that the CPU has its instructions: it is made in `level` only, after
//! detection. Everything here is `#[inline(always)]`, for it has to end up inside the one function per level that
//! carries `#[target_feature]`; an outlined copy would be compiled without the instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod level;
mod mode;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::ops::{Add, Mul, Range, Sub};

pub(crate) use float::{Float, pow2, two_sum};
pub use level::Level;
pub(crate) use level::{Kernel, Supported, active, entered, plain, supported};
pub use mode::with_default_mode;

/// The methods of a level: every body is an intrinsic whose instructions the token proves to be there ...
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! methods {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $body:expr;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        #[allow(unused_unsafe, reason = "masks are plain integers: no instruction to prove")]
        fn $name(self, $($arg: $type),*) $(-> $out)? {
            // SAFETY: `self` proves that the CPU has the instructions.
            unsafe { $body }
        }
    )*};
}
/// ... or a memory access that the caller vouches for.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! memory {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $body:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, $($arg: $type),*) $(-> $out)? {
            // SAFETY: `self` proves the instructions, the caller vouches for the memory.
            unsafe { $body }
        }
    )*};
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use {memory, methods};

/// An instruction set acting on lanes of `T`.
///
/// The name of a method says what happens in each lane. `max` is the one whose NaN rule matters.
///
/// # Safety
/// A value may exist only where the CPU has the instructions that its methods use. `LANES * size_of::<T>() == 64`.
pub(crate) unsafe trait Simd<T: Float>: Copy + 'static {
    /// The lanes.
    type Reg: Copy;
    /// One truth value per lane.
    type Mask: Copy;
    /// What counts peaks at the least cost.
    type Tally: Tally<Self, T>;

    fn splat(self, x: T) -> Self::Reg;
    /// # Safety
    /// `p` is valid for reading a whole vector; no alignment is needed.
    unsafe fn load(self, p: *const T) -> Self::Reg;
    /// Lanes from `n` on are `fill`; memory there is not touched.
    ///
    /// # Safety
    /// `p` is valid for reading `n` elements.
    unsafe fn load_partial(self, p: *const T, n: usize, fill: T) -> Self::Reg;
    /// # Safety
    /// `p` is valid for writing a whole vector; no alignment is needed.
    unsafe fn store(self, r: Self::Reg, p: *mut T);
    /// Past the caches, where the instruction set can: [`Isa::fence`] has to follow before another thread may read it.
    ///
    /// # Safety
    /// `p` is valid for writing a whole vector, and aligned to one.
    #[inline(always)]
    unsafe fn stream(self, r: Self::Reg, p: *mut T) {
        // SAFETY: the caller's promise.
        unsafe { self.store(r, p) }
    }
    /// Memory from lane `n` on is not touched.
    ///
    /// # Safety
    /// `p` is valid for writing `n` elements.
    unsafe fn store_partial(self, r: Self::Reg, p: *mut T, n: usize);
    /// Columns of `T::TILE` elements of 16 bytes, one per row: element `c` of row `l` goes to lane `l` of vector `c`.
    ///
    /// # Safety
    /// Each pointer is valid for reading `T::TILE` elements.
    unsafe fn load_tile(self, rows: &[*const T; 16], columns: &mut [Self::Reg; 4]);
    /// The inverse of `load_tile`.
    ///
    /// # Safety
    /// Each pointer is valid for writing `T::TILE` elements.
    unsafe fn store_tile(self, columns: &[Self::Reg; 4], rows: &[*mut T; 16]);
    /// Whether `store_square` is worth more than a tile after the other.
    const SQUARES: bool = false;
    /// As `store_tile`, of `LANES` columns: whole vectors.
    ///
    /// # Safety
    /// Each pointer is valid for writing `T::LANES` elements.
    #[inline(always)]
    unsafe fn store_square(self, columns: &[Self::Reg; 16], rows: &[*mut T; 16]) {
        for c in (0..T::LANES).step_by(T::TILE) {
            let mut tile = [columns[c]; 4];
            let mut places = *rows;
            tile[..T::TILE].copy_from_slice(&columns[c..c + T::TILE]);
            for l in 0..T::LANES {
                places[l] = rows[l].wrapping_add(c);
            }
            // SAFETY: the caller's promise.
            unsafe { self.store_tile(&tile, &places) };
        }
    }

    fn add(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    fn sub(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    fn mul(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    fn div(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// a * b + c, rounded once where the instruction set can, else twice.
    fn mul_add(self, a: Self::Reg, b: Self::Reg, c: Self::Reg) -> Self::Reg;
    /// c - a * b, as if rounded once: what cancels here must not lose bits.
    fn fused_neg_mul_add(self, a: Self::Reg, b: Self::Reg, c: Self::Reg) -> Self::Reg;
    /// The larger; `b` where either is NaN.
    fn max(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// The smaller; either where either is NaN.
    fn min(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;

    fn equal(self, a: Self::Reg, b: Self::Reg) -> Self::Mask;
    /// Whether the lane bits are the same.
    fn same(self, a: Self::Reg, b: Self::Reg) -> Self::Mask;
    /// True where either is NaN.
    fn not_equal(self, a: Self::Reg, b: Self::Reg) -> Self::Mask;
    /// Not (a < b): true where either is NaN.
    fn not_less(self, a: Self::Reg, b: Self::Reg) -> Self::Mask;
    /// `a + b` where the mask is true, else `a`.
    fn add_where(self, m: Self::Mask, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// `a` where the mask is true, else `a + b`.
    fn add_unless(self, m: Self::Mask, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// `a` where the mask is true, else `b`.
    fn select(self, m: Self::Mask, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// The truth of the first `n` lanes.
    fn first(self, n: usize) -> Self::Mask;

    /// Lane bits as integers: `a + b`, wrapping.
    fn add_bits(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// Lane bits: `a & b`.
    fn and_bits(self, a: Self::Reg, b: Self::Reg) -> Self::Reg;
    /// The exponent field of the lane bits (sign zero), as a number.
    fn exponent(self, a: Self::Reg) -> Self::Reg;
    /// Lane bits as integers, shifted to the left until only the bits of exp's table index are below the exponent.
    fn shift_to_exponent(self, a: Self::Reg) -> Self::Reg;
    /// Adds one to the counter in each lane where the mask is true. Counters start as zero bits.
    fn count(self, counter: Self::Reg, m: Self::Mask) -> Self::Reg;
    /// Counters (up to 2^23) as numbers.
    fn counted(self, counter: Self::Reg) -> Self::Reg;
    /// `table[bits of index modulo T::TABLE_SIZE]`; the table is repeated to fill the vector.
    fn lookup(self, table: Self::Reg, index: Self::Reg) -> Self::Reg;

    /// Whether the mask is true anywhere.
    fn any(self, m: Self::Mask) -> bool;
    /// A bit for each lane, the first one's the lowest.
    fn bits(self, m: Self::Mask) -> u32;
    /// The first lane where the mask is true; if there is none, a number that is not a lane's.
    #[inline(always)]
    fn first_true(self, m: Self::Mask) -> u32 {
        self.bits(m).trailing_zeros()
    }
    /// Computes a part of a kernel: inlined, where a vector is a register or two.
    #[inline(always)]
    fn part<P: Part<Self, T>>(self, part: P) -> P::Out {
        part.compute(self)
    }

    /// Largest lane; no lane is NaN.
    fn reduce_max(self, a: Self::Reg) -> T;
    /// Sum of all lanes, pairwise: `l` with `l + LANES / 2`, and so on.
    fn reduce_sum(self, a: Self::Reg) -> T;
}

/// Arithmetic on vectors that kernels need in many places.
pub(crate) trait Part<S: Simd<T>, T: Float> {
    type Out;
    /// Implementations are `#[inline(always)]`, as kernels are.
    fn compute(self, s: S) -> Self::Out;
}

/// A level: both float types, and what leads from one to the other.
pub(crate) trait Isa: Simd<f32> + Simd<f64> {
    /// How many vectors a kernel works on at once: as many as keep the arithmetic units busy in the registers there are.
    const INTERLEAVE: usize;
    /// Which level this is.
    const LEVEL: Level;
    /// [`Level::has_all_ways`], as a constant that branches are compiled by.
    const ALL_WAYS: bool = Self::LEVEL.has_all_ways();
    /// Whether passes that may begin anywhere begin at a cache line: where a vector is one (at AVX-512), it takes two
    /// accesses if it is not aligned as a line is; at AVX2 the halves of one do, and AMD's CPUs store 32 bytes that are not
    /// aligned in two cycles.
    const ALIGNS: bool = false;

    /// Runs a kernel as a function of its own. (Everything else is inlined, into each kernel that uses it.)
    #[inline(always)]
    fn apart<T: Float, K: Kernel<T>>(self, kernel: K) -> K::Out {
        Supported::of(self).apart::<T, K>(kernel)
    }

    /// Lanes 0..8 and 8..16 as float64.
    fn widen(self, a: <Self as Simd<f32>>::Reg) -> [<Self as Simd<f64>>::Reg; 2];
    /// Rounds to nearest even; the inverse of `widen`.
    fn narrow(self, a: [<Self as Simd<f64>>::Reg; 2]) -> <Self as Simd<f32>>::Reg;
    /// 16 half-precision numbers.
    ///
    /// # Safety
    /// `p` is valid for reading 16 elements.
    unsafe fn load_f16(self, p: *const u16) -> <Self as Simd<f32>>::Reg;
    /// Rounds to nearest even.
    ///
    /// # Safety
    /// `p` is valid for writing 16 elements.
    unsafe fn store_f16(self, r: <Self as Simd<f32>>::Reg, p: *mut u16);
    /// 16 bfloat16 numbers.
    ///
    /// # Safety
    /// `p` is valid for reading 16 elements.
    unsafe fn load_bf16(self, p: *const u16) -> <Self as Simd<f32>>::Reg;
    /// Rounds to nearest even; a NaN becomes the canonical one.
    ///
    /// # Safety
    /// `p` is valid for writing 16 elements.
    unsafe fn store_bf16(self, r: <Self as Simd<f32>>::Reg, p: *mut u16);
    /// Puts what was streamed before what is written from now on.
    #[inline(always)]
    fn fence(self) {}
    /// Asks for the cache line at `p` (which need not be valid).
    fn prefetch(self, p: *const u8);
    /// The same for a line that will be written.
    fn prefetch_write(self, p: *const u8);
}

/// A vector that carries its proof, so that `a * b + c` is safe code.
pub(crate) struct Vector<S: Simd<T>, T: Float>(pub(crate) S::Reg, pub(crate) S);

impl<S: Simd<T>, T: Float> Clone for Vector<S, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<S: Simd<T>, T: Float> Copy for Vector<S, T> {}

macro_rules! operator {
    ($trait:ident, $method:ident) => {
        impl<S: Simd<T>, T: Float> $trait for Vector<S, T> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(self.1.$method(self.0, other.0), self.1)
            }
        }
    };
}
operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);

/// Elements of a lane that are added before their sum is added to the others'.
pub(crate) const GROUP: usize = 4;
/// How many groups wait until what they bring is added up.
pub(crate) const HELD: usize = 16;

/// Adds up what is not the peak, and counts what is.
pub(crate) trait Tally<S: Simd<T>, T: Float> {
    /// Nothing was counted.
    fn new(s: S) -> Self;
    /// `sum + e` in the lanes where `e` is not the peak, to the bit, else `sum` (of none: `e`, else zero). This is vector
    /// `vector` of [`GROUP`] of group `group`, one of those that wait ([`HELD`], and one more).
    fn add_others(
        &mut self,
        sum: Option<Vector<S, T>>,
        e: Vector<S, T>,
        peak: Vector<S, T>,
        place: (usize, usize),
    ) -> Vector<S, T>;
    /// The sum of two numbers as integers, in the lanes where the element is not the peak (`[element, peak]`), else zero.
    /// (At AVX-512 one instruction, where what masks a sum afterwards would be a second.)
    fn add_bits_of_others(
        &mut self,
        summands: [Vector<S, T>; 2],
        whose: [Vector<S, T>; 2],
        place: (usize, usize),
    ) -> Vector<S, T>;
    /// These groups wait no longer. (A vector that never came holds no peak; a group that comes again is complete.)
    fn settle(&mut self, groups: Range<usize>);
    /// The number of peaks, after all was settled.
    fn total(&self) -> f64;
    /// As [`Tally::settle`], to be counted in each lane.
    fn settle_lanes(&mut self, groups: Range<usize>);
    /// The number of peaks in each lane, after all was settled so.
    fn lanes(&self, s: S) -> Vector<S, T>;
}

/// Counts in each lane.
pub(crate) struct LaneTally<S: Simd<T>, T: Float>(Vector<S, T>);

impl<S: Simd<T>, T: Float> Tally<S, T> for LaneTally<S, T> {
    #[inline(always)]
    fn new(s: S) -> Self {
        Self(Vector::zero(s))
    }
    #[inline(always)]
    fn add_others(
        &mut self,
        sum: Option<Vector<S, T>>,
        e: Vector<S, T>,
        peak: Vector<S, T>,
        _: (usize, usize),
    ) -> Vector<S, T> {
        let s = e.1;
        let m = s.same(e.0, peak.0);
        self.0 = Vector(s.count(self.0.0, m), s);
        match sum {
            Some(sum) => Vector(s.add_unless(m, sum.0, e.0), s),
            None => Vector::zero(s).select(Mask(m, s), e),
        }
    }
    #[inline(always)]
    fn add_bits_of_others(
        &mut self,
        [a, b]: [Vector<S, T>; 2],
        [element, peak]: [Vector<S, T>; 2],
        _: (usize, usize),
    ) -> Vector<S, T> {
        let s = a.1;
        let m = s.equal(element.0, peak.0);
        self.0 = Vector(s.count(self.0.0, m), s);
        Vector::zero(s).select(Mask(m, s), a.add_bits(b))
    }
    #[inline(always)]
    fn settle(&mut self, _: Range<usize>) {}
    #[inline(always)]
    fn total(&self) -> f64 {
        self.lanes(self.0.1).reduce_sum().to_f64()
    }
    #[inline(always)]
    fn settle_lanes(&mut self, _: Range<usize>) {}
    #[inline(always)]
    fn lanes(&self, s: S) -> Vector<S, T> {
        Vector(s.counted(self.0.0), s)
    }
}

/// A mask that carries its proof.
pub(crate) struct Mask<S: Simd<T>, T: Float>(S::Mask, S);

impl<S: Simd<T>, T: Float> Clone for Mask<S, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<S: Simd<T>, T: Float> Copy for Mask<S, T> {}

impl<S: Simd<T>, T: Float> Mask<S, T> {
    /// True in the first `n` lanes.
    #[inline(always)]
    pub(crate) fn first(s: S, n: usize) -> Self {
        Self(s.first(n), s)
    }
    /// Whether it is true anywhere.
    #[inline(always)]
    pub(crate) fn any(self) -> bool {
        self.1.any(self.0)
    }
    /// A bit for each lane, the first one's the lowest.
    #[inline(always)]
    pub(crate) fn bits(self) -> u32 {
        self.1.bits(self.0)
    }
    /// The first lane where it is true; if there is none, a number that is not a lane's.
    #[inline(always)]
    pub(crate) fn first_true(self) -> usize {
        self.1.first_true(self.0) as usize
    }
}

impl<S: Simd<T>, T: Float> Vector<S, T> {
    #[inline(always)]
    pub(crate) fn splat(s: S, x: T) -> Self {
        Self(s.splat(x), s)
    }
    #[inline(always)]
    pub(crate) fn zero(s: S) -> Self {
        Self(s.splat(T::ZERO), s)
    }
    /// # Safety
    /// See [`Simd::load`].
    #[inline(always)]
    pub(crate) unsafe fn load(s: S, p: *const T) -> Self {
        // SAFETY: the caller's promise is the trait's.
        Self(unsafe { s.load(p) }, s)
    }
    /// # Safety
    /// See [`Simd::load_partial`].
    #[inline(always)]
    pub(crate) unsafe fn load_partial(s: S, p: *const T, n: usize, fill: T) -> Self {
        // SAFETY: the caller's promise is the trait's.
        Self(unsafe { s.load_partial(p, n, fill) }, s)
    }
    /// # Safety
    /// See [`Simd::store`].
    #[inline(always)]
    pub(crate) unsafe fn store(self, p: *mut T) {
        // SAFETY: the caller's promise is the trait's.
        unsafe { self.1.store(self.0, p) }
    }
    /// # Safety
    /// See [`Simd::stream`].
    #[inline(always)]
    pub(crate) unsafe fn stream(self, p: *mut T) {
        // SAFETY: the caller's promise is the trait's.
        unsafe { self.1.stream(self.0, p) }
    }
    /// # Safety
    /// See [`Simd::store_partial`].
    #[inline(always)]
    pub(crate) unsafe fn store_partial(self, p: *mut T, n: usize) {
        // SAFETY: the caller's promise is the trait's.
        unsafe { self.1.store_partial(self.0, p, n) }
    }
    /// One vector from an array of lanes.
    #[inline(always)]
    pub(crate) fn from_lanes(s: S, lanes: &Lanes<T>) -> Self {
        // SAFETY: the array has at least LANES elements.
        unsafe { Self::load(s, lanes.0.as_ptr()) }
    }
    /// The lanes as an array; elements beyond `LANES` are zero.
    #[inline(always)]
    pub(crate) fn to_lanes(self) -> Lanes<T> {
        let mut lanes = Lanes([T::ZERO; 16]);
        // SAFETY: the array has at least LANES elements.
        unsafe { self.store(lanes.0.as_mut_ptr()) };
        lanes
    }
    #[inline(always)]
    pub(crate) fn div(self, other: Self) -> Self {
        Self(self.1.div(self.0, other.0), self.1)
    }
    /// self * b + c.
    #[inline(always)]
    pub(crate) fn mul_add(self, b: Self, c: Self) -> Self {
        Self(self.1.mul_add(self.0, b.0, c.0), self.1)
    }
    /// c - self * b, rounded once.
    #[inline(always)]
    pub(crate) fn fused_neg_mul_add(self, b: Self, c: Self) -> Self {
        Self(self.1.fused_neg_mul_add(self.0, b.0, c.0), self.1)
    }
    /// The larger; `other` where either is NaN.
    #[inline(always)]
    pub(crate) fn max(self, other: Self) -> Self {
        Self(self.1.max(self.0, other.0), self.1)
    }
    /// The smaller; either where either is NaN.
    #[inline(always)]
    pub(crate) fn min(self, other: Self) -> Self {
        Self(self.1.min(self.0, other.0), self.1)
    }
    #[inline(always)]
    pub(crate) fn equal(self, other: Self) -> Mask<S, T> {
        Mask(self.1.equal(self.0, other.0), self.1)
    }
    #[inline(always)]
    pub(crate) fn not_equal(self, other: Self) -> Mask<S, T> {
        Mask(self.1.not_equal(self.0, other.0), self.1)
    }
    /// Not (self < other).
    #[inline(always)]
    pub(crate) fn not_less(self, other: Self) -> Mask<S, T> {
        Mask(self.1.not_less(self.0, other.0), self.1)
    }
    /// self + other where the mask is true, else self.
    #[inline(always)]
    pub(crate) fn add_where(self, m: Mask<S, T>, other: Self) -> Self {
        Self(self.1.add_where(m.0, self.0, other.0), self.1)
    }
    /// self where the mask is true, else `other`.
    #[inline(always)]
    pub(crate) fn select(self, m: Mask<S, T>, other: Self) -> Self {
        Self(self.1.select(m.0, self.0, other.0), self.1)
    }
    #[inline(always)]
    pub(crate) fn add_bits(self, other: Self) -> Self {
        Self(self.1.add_bits(self.0, other.0), self.1)
    }
    #[inline(always)]
    pub(crate) fn and_bits(self, other: Self) -> Self {
        Self(self.1.and_bits(self.0, other.0), self.1)
    }
    /// The exponent field as a number.
    #[inline(always)]
    pub(crate) fn exponent(self) -> Self {
        Self(self.1.exponent(self.0), self.1)
    }
    #[inline(always)]
    pub(crate) fn shift_to_exponent(self) -> Self {
        Self(self.1.shift_to_exponent(self.0), self.1)
    }
    /// `self` is the table.
    #[inline(always)]
    pub(crate) fn lookup(self, index: Self) -> Self {
        Self(self.1.lookup(self.0, index.0), self.1)
    }
    #[inline(always)]
    pub(crate) fn reduce_max(self) -> T {
        self.1.reduce_max(self.0)
    }
    /// Sum of all lanes, pairwise: `l` with `l + LANES / 2`, and so on.
    #[inline(always)]
    pub(crate) fn reduce_sum(self) -> T {
        self.1.reduce_sum(self.0)
    }
    /// Whether a lane is NaN.
    #[inline(always)]
    pub(crate) fn any_nan(self) -> bool {
        self.not_equal(self).any()
    }
    /// Lane `l` in all lanes.
    #[inline(always)]
    pub(crate) fn lane(self, l: usize) -> T {
        self.to_lanes().0[l]
    }
}

/// Lanes in memory: room for 16 whatever the type, aligned to a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Lanes<T>(pub(crate) [T; 16]);
