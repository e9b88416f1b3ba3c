//! NEON, as every AArch64 has it: a virtual vector is four registers.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ptr;

use super::{Isa, LaneTally, Level, Simd, memory, methods};

/// Proof that the CPU has NEON.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// The CPU has the instructions.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// The same for all registers: `each!(a, b => f(a, b))`.
macro_rules! each {
    ($($arg:ident),+ => $body:expr) => {
        [
            { $(let $arg = $arg[0];)+ $body },
            { $(let $arg = $arg[1];)+ $body },
            { $(let $arg = $arg[2];)+ $body },
            { $(let $arg = $arg[3];)+ $body },
        ]
    };
}

/// Four registers' worth of memory, `step` elements each: `four!(vld1q_f32, p, 4)`.
macro_rules! four {
    ($load:ident, $p:expr, $step:literal) => {{
        let p = $p;
        [
            $load(p),
            $load(p.add($step)),
            $load(p.add(2 * $step)),
            $load(p.add(3 * $step)),
        ]
    }};
}

/// A bit for each lane of 16.
static LANE_BITS: [u32; 16] = {
    let mut bits = [0; 16];
    let mut i = 0;
    while i < 16 {
        bits[i] = 1 << i;
        i += 1;
    }
    bits
};

type F32 = [float32x4_t; 4];
type F64 = [float64x2_t; 4];
type M32 = [uint32x4_t; 4];
type M64 = [uint64x2_t; 4];

/// All bits in the first `n` lanes of 16: a window on ones followed by zeros.
static LANE_MASKS: [u32; 32] = {
    let mut masks = [0; 32];
    let mut i = 0;
    while i < 16 {
        masks[i] = u32::MAX;
        i += 1;
    }
    masks
};

#[inline(always)]
fn first(n: usize) -> M32 {
    debug_assert!(n <= 16);
    // SAFETY: 16 - n to 32 - n lies in the table; called from the methods of the token only.
    unsafe { four!(vld1q_u32, LANE_MASKS.as_ptr().add(16 - n), 4) }
}

/// The larger; `b` where either is NaN, or both are zeros (`vmaxq_f32` has other rules).
#[inline(always)]
fn larger_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: called from the methods of the token only.
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

#[inline(always)]
fn larger_f64(a: float64x2_t, b: float64x2_t) -> float64x2_t {
    // SAFETY: called from the methods of the token only.
    unsafe { vbslq_f64(vcgtq_f64(a, b), a, b) }
}

// SAFETY: all methods use NEON only, which the token proves; 16 float32 are 64 bytes.
unsafe impl Simd<f32> for Neon {
    type Reg = F32;
    type Mask = M32;
    type Tally = LaneTally<Self, f32>;

    memory! {
        fn load(p: *const f32) -> F32 = four!(vld1q_f32, p, 4);
        // No masked loads here: through memory of our own, as bytes, whose addresses need no alignment.
        fn load_partial(p: *const f32, n: usize, fill: f32) -> F32 = {
            let mut lanes = [fill; 16];
            ptr::copy_nonoverlapping(p.cast::<u8>(), lanes.as_mut_ptr().cast(), 4 * n);
            four!(vld1q_f32, lanes.as_ptr(), 4)
        };
        fn store(r: F32, p: *mut f32) = {
            for i in 0..4 {
                vst1q_f32(p.add(4 * i), r[i]);
            }
        };
        fn store_partial(r: F32, p: *mut f32, n: usize) = {
            let mut lanes = [0.0_f32; 16];
            for i in 0..4 {
                vst1q_f32(lanes.as_mut_ptr().add(4 * i), r[i]);
            }
            ptr::copy_nonoverlapping(lanes.as_ptr().cast::<u8>(), p.cast(), 4 * n);
        };
        fn load_tile(rows: &[*const f32; 16], columns: &mut [F32; 4]) = {
            for i in 0..4 {
                let mut y = [vdupq_n_f32(0.0); 4];
                for l in 0..4 {
                    y[l] = vld1q_f32(rows[4 * i + l]);
                }
                let y = transpose(y);
                for c in 0..4 {
                    columns[c][i] = y[c];
                }
            }
        };
        fn store_tile(columns: &[F32; 4], rows: &[*mut f32; 16]) = {
            for i in 0..4 {
                let y = transpose([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                for l in 0..4 {
                    vst1q_f32(rows[4 * i + l], y[l]);
                }
            }
        };
    }

    methods! {
        fn splat(x: f32) -> F32 = [vdupq_n_f32(x); 4];
        fn add(a: F32, b: F32) -> F32 = each!(a, b => vaddq_f32(a, b));
        fn sub(a: F32, b: F32) -> F32 = each!(a, b => vsubq_f32(a, b));
        fn mul(a: F32, b: F32) -> F32 = each!(a, b => vmulq_f32(a, b));
        fn div(a: F32, b: F32) -> F32 = each!(a, b => vdivq_f32(a, b));
        fn mul_add(a: F32, b: F32, c: F32) -> F32 = each!(a, b, c => vfmaq_f32(c, a, b));
        fn fused_neg_mul_add(a: F32, b: F32, c: F32) -> F32 = each!(a, b, c => vfmsq_f32(c, a, b));
        fn max(a: F32, b: F32) -> F32 = each!(a, b => larger_f32(a, b));
        fn min(a: F32, b: F32) -> F32 = each!(a, b => vminq_f32(a, b));
        fn equal(a: F32, b: F32) -> M32 = each!(a, b => vceqq_f32(a, b));
        fn same(a: F32, b: F32) -> M32 =
            each!(a, b => vceqq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
        fn not_equal(a: F32, b: F32) -> M32 = each!(a, b => vmvnq_u32(vceqq_f32(a, b)));
        fn not_less(a: F32, b: F32) -> M32 = each!(a, b => vmvnq_u32(vcltq_f32(a, b)));
        fn add_where(m: M32, a: F32, b: F32) -> F32 = each!(m, a, b => vbslq_f32(m, vaddq_f32(a, b), a));
        fn add_unless(m: M32, a: F32, b: F32) -> F32 = each!(m, a, b => vbslq_f32(m, a, vaddq_f32(a, b)));
        fn select(m: M32, a: F32, b: F32) -> F32 = each!(m, a, b => vbslq_f32(m, a, b));
        fn first(n: usize) -> M32 = first(n);
        fn add_bits(a: F32, b: F32) -> F32 =
            each!(a, b => vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b))));
        fn and_bits(a: F32, b: F32) -> F32 =
            each!(a, b => vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b))));
        fn exponent(a: F32) -> F32 = each!(a => vcvtq_f32_u32(vshrq_n_u32::<23>(vreinterpretq_u32_f32(a))));
        fn shift_to_exponent(a: F32) -> F32 =
            each!(a => vreinterpretq_f32_u32(vshlq_n_u32::<20>(vreinterpretq_u32_f32(a))));
        // A true mask is the integer -1.
        fn count(counter: F32, m: M32) -> F32 =
            each!(counter, m => vreinterpretq_f32_u32(vsubq_u32(vreinterpretq_u32_f32(counter), m)));
        fn counted(counter: F32) -> F32 = each!(counter => vcvtq_f32_u32(vreinterpretq_u32_f32(counter)));
        fn lookup(table: F32, index: F32) -> F32 = {
            let (low, four) = (vdupq_n_u32(7), vdupq_n_u32(0x0404_0404));
            let bytes = uint8x16x2_t(vreinterpretq_u8_f32(table[0]), vreinterpretq_u8_f32(table[1]));
            each!(index => {
                // Entry 5 is bytes 20, 21, 22, 23.
                let entry = vandq_u32(vreinterpretq_u32_f32(index), low);
                let places = vmlaq_u32(vdupq_n_u32(0x0302_0100), entry, four);
                vreinterpretq_f32_u8(vqtbl2q_u8(bytes, vreinterpretq_u8_u32(places)))
            })
        };
        fn any(m: M32) -> bool = vmaxvq_u32(vorrq_u32(vorrq_u32(m[0], m[1]), vorrq_u32(m[2], m[3]))) != 0;
        fn bits(m: M32) -> u32 = {
            let of = |i: usize| vandq_u32(m[i], vld1q_u32(LANE_BITS.as_ptr().add(4 * i)));
            vaddvq_u32(vorrq_u32(vorrq_u32(of(0), of(1)), vorrq_u32(of(2), of(3))))
        };
        fn reduce_max(a: F32) -> f32 = {
            let a = larger_f32(larger_f32(a[0], a[2]), larger_f32(a[1], a[3]));
            let a = larger_f32(a, vextq_f32::<2>(a, a));
            vgetq_lane_f32::<0>(larger_f32(a, vextq_f32::<1>(a, a)))
        };
        fn reduce_sum(a: F32) -> f32 = {
            let a = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            let a = vaddq_f32(a, vextq_f32::<2>(a, a));
            vgetq_lane_f32::<0>(vaddq_f32(a, vextq_f32::<1>(a, a)))
        };
    }
}

// SAFETY: all methods use NEON only, which the token proves; 8 float64 are 64 bytes.
unsafe impl Simd<f64> for Neon {
    type Reg = F64;
    type Mask = M64;
    type Tally = LaneTally<Self, f64>;

    memory! {
        fn load(p: *const f64) -> F64 = four!(vld1q_f64, p, 2);
        fn load_partial(p: *const f64, n: usize, fill: f64) -> F64 = {
            let mut lanes = [fill; 8];
            ptr::copy_nonoverlapping(p.cast::<u8>(), lanes.as_mut_ptr().cast(), 8 * n);
            four!(vld1q_f64, lanes.as_ptr(), 2)
        };
        fn store(r: F64, p: *mut f64) = {
            for i in 0..4 {
                vst1q_f64(p.add(2 * i), r[i]);
            }
        };
        fn store_partial(r: F64, p: *mut f64, n: usize) = {
            let mut lanes = [0.0_f64; 8];
            for i in 0..4 {
                vst1q_f64(lanes.as_mut_ptr().add(2 * i), r[i]);
            }
            ptr::copy_nonoverlapping(lanes.as_ptr().cast::<u8>(), p.cast(), 8 * n);
        };
        fn load_tile(rows: &[*const f64; 16], columns: &mut [F64; 4]) = {
            for i in 0..4 {
                let y = [vld1q_f64(rows[2 * i]), vld1q_f64(rows[2 * i + 1])];
                columns[0][i] = vzip1q_f64(y[0], y[1]);
                columns[1][i] = vzip2q_f64(y[0], y[1]);
            }
        };
        fn store_tile(columns: &[F64; 4], rows: &[*mut f64; 16]) = {
            for i in 0..4 {
                vst1q_f64(rows[2 * i], vzip1q_f64(columns[0][i], columns[1][i]));
                vst1q_f64(rows[2 * i + 1], vzip2q_f64(columns[0][i], columns[1][i]));
            }
        };
    }

    methods! {
        fn splat(x: f64) -> F64 = [vdupq_n_f64(x); 4];
        fn add(a: F64, b: F64) -> F64 = each!(a, b => vaddq_f64(a, b));
        fn sub(a: F64, b: F64) -> F64 = each!(a, b => vsubq_f64(a, b));
        fn mul(a: F64, b: F64) -> F64 = each!(a, b => vmulq_f64(a, b));
        fn div(a: F64, b: F64) -> F64 = each!(a, b => vdivq_f64(a, b));
        fn mul_add(a: F64, b: F64, c: F64) -> F64 = each!(a, b, c => vfmaq_f64(c, a, b));
        fn fused_neg_mul_add(a: F64, b: F64, c: F64) -> F64 = each!(a, b, c => vfmsq_f64(c, a, b));
        fn max(a: F64, b: F64) -> F64 = each!(a, b => larger_f64(a, b));
        fn min(a: F64, b: F64) -> F64 = each!(a, b => vminq_f64(a, b));
        fn equal(a: F64, b: F64) -> M64 = each!(a, b => vceqq_f64(a, b));
        fn same(a: F64, b: F64) -> M64 =
            each!(a, b => vceqq_u64(vreinterpretq_u64_f64(a), vreinterpretq_u64_f64(b)));
        fn not_equal(a: F64, b: F64) -> M64 = each!(a, b => not(vceqq_f64(a, b)));
        fn not_less(a: F64, b: F64) -> M64 = each!(a, b => not(vcltq_f64(a, b)));
        fn add_where(m: M64, a: F64, b: F64) -> F64 = each!(m, a, b => vbslq_f64(m, vaddq_f64(a, b), a));
        fn add_unless(m: M64, a: F64, b: F64) -> F64 = each!(m, a, b => vbslq_f64(m, a, vaddq_f64(a, b)));
        fn select(m: M64, a: F64, b: F64) -> F64 = each!(m, a, b => vbslq_f64(m, a, b));
        fn first(n: usize) -> M64 = {
            let m = first(2 * n);
            each!(m => vreinterpretq_u64_u32(m))
        };
        fn add_bits(a: F64, b: F64) -> F64 =
            each!(a, b => vreinterpretq_f64_u64(vaddq_u64(vreinterpretq_u64_f64(a), vreinterpretq_u64_f64(b))));
        fn and_bits(a: F64, b: F64) -> F64 =
            each!(a, b => vreinterpretq_f64_u64(vandq_u64(vreinterpretq_u64_f64(a), vreinterpretq_u64_f64(b))));
        fn exponent(a: F64) -> F64 = each!(a => vcvtq_f64_u64(vshrq_n_u64::<52>(vreinterpretq_u64_f64(a))));
        fn shift_to_exponent(a: F64) -> F64 =
            each!(a => vreinterpretq_f64_u64(vshlq_n_u64::<50>(vreinterpretq_u64_f64(a))));
        fn count(counter: F64, m: M64) -> F64 =
            each!(counter, m => vreinterpretq_f64_u64(vsubq_u64(vreinterpretq_u64_f64(counter), m)));
        fn counted(counter: F64) -> F64 = each!(counter => vcvtq_f64_u64(vreinterpretq_u64_f64(counter)));
        fn lookup(table: F64, index: F64) -> F64 = {
            let (low, eight) = (vdupq_n_u32(3), vdupq_n_u32(0x0808_0808));
            let within = vreinterpretq_u32_u64(vdupq_n_u64(0x0706_0504_0302_0100));
            let bytes = uint8x16x2_t(vreinterpretq_u8_f64(table[0]), vreinterpretq_u8_f64(table[1]));
            each!(index => {
                // Entry 2 is bytes 16 to 23. The index in both halves of a lane: no multiplication of 8 bytes here.
                let index = vreinterpretq_u32_f64(index);
                let entry = vandq_u32(vtrn1q_u32(index, index), low);
                let places = vmlaq_u32(within, entry, eight);
                vreinterpretq_f64_u8(vqtbl2q_u8(bytes, vreinterpretq_u8_u32(places)))
            })
        };
        fn any(m: M64) -> bool =
            vmaxvq_u32(vreinterpretq_u32_u64(vorrq_u64(vorrq_u64(m[0], m[1]), vorrq_u64(m[2], m[3])))) != 0;
        fn bits(m: M64) -> u32 = {
            // Half of each lane: all of them are alike.
            let pair = |i: usize| vcombine_u32(vmovn_u64(m[i]), vmovn_u64(m[i + 1]));
            let of = |i: usize| vandq_u32(pair(2 * i), vld1q_u32(LANE_BITS.as_ptr().add(4 * i)));
            vaddvq_u32(vorrq_u32(of(0), of(1)))
        };
        fn reduce_max(a: F64) -> f64 = {
            let a = larger_f64(larger_f64(a[0], a[2]), larger_f64(a[1], a[3]));
            vgetq_lane_f64::<0>(larger_f64(a, vextq_f64::<1>(a, a)))
        };
        fn reduce_sum(a: F64) -> f64 = vaddvq_f64(vaddq_f64(vaddq_f64(a[0], a[2]), vaddq_f64(a[1], a[3])));
    }
}

/// `!m`: there is no instruction for 8-byte lanes by name.
#[inline(always)]
fn not(m: uint64x2_t) -> uint64x2_t {
    // SAFETY: called from the methods of the token only.
    unsafe { vreinterpretq_u64_u32(vmvnq_u32(vreinterpretq_u32_u64(m))) }
}

/// The 4 x 4 transpose.
#[inline(always)]
fn transpose(y: F32) -> F32 {
    // SAFETY: called from the methods of the token only.
    unsafe {
        let t0 = vreinterpretq_f64_f32(vtrn1q_f32(y[0], y[1]));
        let t1 = vreinterpretq_f64_f32(vtrn2q_f32(y[0], y[1]));
        let t2 = vreinterpretq_f64_f32(vtrn1q_f32(y[2], y[3]));
        let t3 = vreinterpretq_f64_f32(vtrn2q_f32(y[2], y[3]));
        [
            vreinterpretq_f32_f64(vzip1q_f64(t0, t2)),
            vreinterpretq_f32_f64(vzip1q_f64(t1, t3)),
            vreinterpretq_f32_f64(vzip2q_f64(t0, t2)),
            vreinterpretq_f32_f64(vzip2q_f64(t1, t3)),
        ]
    }
}

impl Isa for Neon {
    // One vector is four chains of dependent operations already.
    const INTERLEAVE: usize = 1;
    const LEVEL: Level = Level::Neon;

    methods! {
        fn widen(a: F32) -> [F64; 2] = {
            let [low, high] = [each!(a => vcvt_f64_f32(vget_low_f32(a))), each!(a => vcvt_high_f64_f32(a))];
            [[low[0], high[0], low[1], high[1]], [low[2], high[2], low[3], high[3]]]
        };
        fn narrow(a: [F64; 2]) -> F32 = {
            let [[a, b, c, d], [e, f, g, h]] = a;
            let (low, high) = ([a, c, e, g], [b, d, f, h]);
            each!(low, high => vcvt_high_f32_f64(vcvt_f32_f64(low), high))
        };
        // (The intrinsic for it is not stable.)
        fn prefetch(p: *const u8) = asm!("prfm pldl1keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly));
        fn prefetch_write(p: *const u8) =
            asm!("prfm pstl1keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly));
    }
    memory! {
        fn load_f16(p: *const u16) -> F32 = {
            let bits = four!(vld1_u16, p, 4);
            each!(bits => half_to_single(bits))
        };
        fn store_f16(r: F32, p: *mut u16) = {
            let bits = each!(r => single_to_half(r));
            for i in 0..4 {
                vst1_u16(p.add(4 * i), bits[i]);
            }
        };
        fn load_bf16(p: *const u16) -> F32 = {
            let bits = four!(vld1_u16, p, 4);
            each!(bits => vreinterpretq_f32_u32(vshll_n_u16::<16>(bits)))
        };
        fn store_bf16(r: F32, p: *mut u16) = {
            let halves = each!(r => {
                let bits = vreinterpretq_u32_f32(r);
                let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
                vshrn_n_u32::<16>(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd))
            });
            for i in 0..4 {
                vst1_u16(p.add(4 * i), halves[i]);
            }
        };
    }
}

/// Every AArch64 has the instruction; the intrinsic for it is not stable in the oldest compiler that we build with.
#[inline(always)]
fn half_to_single(bits: uint16x4_t) -> float32x4_t {
    let r;
    // SAFETY: called from the methods of the token only.
    unsafe {
        asm!("fcvtl {:v}.4s, {:v}.4h", out(vreg) r, in(vreg) bits, options(pure, nomem, nostack, preserves_flags))
    };
    r
}

/// Rounds to nearest even.
#[inline(always)]
fn single_to_half(x: float32x4_t) -> uint16x4_t {
    let r;
    // SAFETY: called from the methods of the token only.
    unsafe { asm!("fcvtn {:v}.4h, {:v}.4s", out(vreg) r, in(vreg) x, options(pure, nomem, nostack, preserves_flags)) };
    r
}
