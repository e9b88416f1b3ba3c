//! AVX2 with FMA and F16C: a virtual vector is two registers.

use std::arch::x86_64::*;

use super::{Isa, LaneTally, Level, Simd, memory, methods};

/// Proof that the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU has the instructions.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// The same for both registers: `both!(a, b => f(a, b))`.
macro_rules! both {
    ($($arg:ident),+ => $body:expr) => {
        [{ $(let $arg = $arg[0];)+ $body }, { $(let $arg = $arg[1];)+ $body }]
    };
}

type F32 = [__m256; 2];
type F64 = [__m256d; 2];

/// All bits in the first `n` lanes of 16: a window on ones followed by zeros.
static LANE_MASKS: [i32; 32] = {
    let mut masks = [0; 32];
    let mut i = 0;
    while i < 16 {
        masks[i] = -1;
        i += 1;
    }
    masks
};

#[inline(always)]
fn first_f32(n: usize) -> [__m256i; 2] {
    debug_assert!(n <= 16);
    // SAFETY: 16 - n to 32 - n lies in the table; called from the methods of the token only.
    unsafe {
        let p = LANE_MASKS.as_ptr().add(16 - n);
        [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())]
    }
}

#[inline(always)]
fn first_f64(n: usize) -> [__m256i; 2] {
    first_f32(2 * n)
}

// SAFETY: all methods use AVX2, FMA and F16C only, which the token proves; 16 float32 are 64 bytes.
unsafe impl Simd<f32> for Avx2 {
    type Reg = F32;
    type Mask = F32;
    type Tally = LaneTally<Self, f32>;

    memory! {
        fn load(p: *const f32) -> F32 = [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))];
        fn load_partial(p: *const f32, n: usize, fill: f32) -> F32 = {
            let masks = first_f32(n);
            // The second address may lie beyond the array: nothing is read through it then.
            let r = [_mm256_maskload_ps(p, masks[0]), _mm256_maskload_ps(p.wrapping_add(8), masks[1])];
            let fill = _mm256_set1_ps(fill);
            both!(masks, r => _mm256_blendv_ps(fill, r, _mm256_castsi256_ps(masks)))
        };
        fn store(r: F32, p: *mut f32) = {
            _mm256_storeu_ps(p, r[0]);
            _mm256_storeu_ps(p.add(8), r[1]);
        };
        fn stream(r: F32, p: *mut f32) = {
            _mm256_stream_ps(p, r[0]);
            _mm256_stream_ps(p.add(8), r[1]);
        };
        // Masked stores are slow on AMD's CPUs: whole halves instead.
        fn store_partial(r: F32, p: *mut f32, n: usize) = {
            let (mut p, mut r) = (p, r);
            if n & 16 != 0 {
                _mm256_storeu_ps(p, r[0]);
                _mm256_storeu_ps(p.add(8), r[1]);
                return;
            }
            if n & 8 != 0 {
                _mm256_storeu_ps(p, r[0]);
                r[0] = r[1];
                p = p.add(8);
            }
            let mut x = _mm256_castps256_ps128(r[0]);
            if n & 4 != 0 {
                _mm_storeu_ps(p, x);
                x = _mm256_extractf128_ps::<1>(r[0]);
                p = p.add(4);
            }
            if n & 2 != 0 {
                _mm_storel_epi64(p.cast(), _mm_castps_si128(x));
                x = _mm_movehl_ps(x, x);
                p = p.add(2);
            }
            if n & 1 != 0 {
                _mm_store_ss(p, x);
            }
        };
        fn load_tile(rows: &[*const f32; 16], columns: &mut [F32; 4]) = {
            for half in 0..2 {
                // Block b of register i is row 8 half + 4 b + i.
                let mut y = [_mm256_setzero_ps(); 4];
                for i in 0..4 {
                    let low = _mm256_castps128_ps256(_mm_loadu_ps(rows[8 * half + i]));
                    y[i] = _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(rows[8 * half + i + 4]));
                }
                let y = transpose(y);
                for i in 0..4 {
                    columns[i][half] = y[i];
                }
            }
        };
        fn store_tile(columns: &[F32; 4], rows: &[*mut f32; 16]) = {
            for half in 0..2 {
                let y = transpose([columns[0][half], columns[1][half], columns[2][half], columns[3][half]]);
                for i in 0..4 {
                    _mm_storeu_ps(rows[8 * half + i], _mm256_castps256_ps128(y[i]));
                    _mm_storeu_ps(rows[8 * half + i + 4], _mm256_extractf128_ps::<1>(y[i]));
                }
            }
        };
    }

    methods! {
        fn splat(x: f32) -> F32 = [_mm256_set1_ps(x); 2];
        fn add(a: F32, b: F32) -> F32 = both!(a, b => _mm256_add_ps(a, b));
        fn sub(a: F32, b: F32) -> F32 = both!(a, b => _mm256_sub_ps(a, b));
        fn mul(a: F32, b: F32) -> F32 = both!(a, b => _mm256_mul_ps(a, b));
        fn div(a: F32, b: F32) -> F32 = both!(a, b => _mm256_div_ps(a, b));
        fn mul_add(a: F32, b: F32, c: F32) -> F32 = both!(a, b, c => _mm256_fmadd_ps(a, b, c));
        fn fused_neg_mul_add(a: F32, b: F32, c: F32) -> F32 = both!(a, b, c => _mm256_fnmadd_ps(a, b, c));
        fn max(a: F32, b: F32) -> F32 = both!(a, b => _mm256_max_ps(a, b));
        fn min(a: F32, b: F32) -> F32 = both!(a, b => _mm256_min_ps(a, b));
        fn equal(a: F32, b: F32) -> F32 = both!(a, b => _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b));
        fn same(a: F32, b: F32) -> F32 =
            both!(a, b => _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b))));
        fn not_equal(a: F32, b: F32) -> F32 = both!(a, b => _mm256_cmp_ps::<_CMP_NEQ_UQ>(a, b));
        fn not_less(a: F32, b: F32) -> F32 = both!(a, b => _mm256_cmp_ps::<_CMP_NLT_UQ>(a, b));
        fn add_where(m: F32, a: F32, b: F32) -> F32 = both!(m, a, b => _mm256_add_ps(a, _mm256_and_ps(m, b)));
        fn add_unless(m: F32, a: F32, b: F32) -> F32 = both!(m, a, b => _mm256_add_ps(a, _mm256_andnot_ps(m, b)));
        fn select(m: F32, a: F32, b: F32) -> F32 = both!(m, a, b => _mm256_blendv_ps(b, a, m));
        fn first(n: usize) -> F32 = { let m = first_f32(n); both!(m => _mm256_castsi256_ps(m)) };
        fn add_bits(a: F32, b: F32) -> F32 =
            both!(a, b => _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b))));
        fn and_bits(a: F32, b: F32) -> F32 = both!(a, b => _mm256_and_ps(a, b));
        fn exponent(a: F32) -> F32 = both!(a => _mm256_cvtepi32_ps(_mm256_srli_epi32::<23>(_mm256_castps_si256(a))));
        fn shift_to_exponent(a: F32) -> F32 =
            both!(a => _mm256_castsi256_ps(_mm256_slli_epi32::<20>(_mm256_castps_si256(a))));
        // A true mask is the integer -1.
        fn count(counter: F32, m: F32) -> F32 =
            both!(counter, m => _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_castps_si256(counter), _mm256_castps_si256(m))));
        fn counted(counter: F32) -> F32 = both!(counter => _mm256_cvtepi32_ps(_mm256_castps_si256(counter)));
        // (The table is in each register: of one of them, or the compiler keeps both.)
        fn lookup(table: F32, index: F32) -> F32 =
            both!(index => _mm256_permutevar8x32_ps(table[0], _mm256_castps_si256(index)));
        fn any(m: F32) -> bool = _mm256_movemask_ps(_mm256_or_ps(m[0], m[1])) != 0;
        // (Of `bits` LLVM makes seven instructions in a chain.)
        fn first_true(m: F32) -> u32 = {
            let [low, high] = both!(m => _mm256_movemask_ps(m));
            std::hint::select_unpredictable(low != 0, low.trailing_zeros(), 8 + high.trailing_zeros())
        };
        fn bits(m: F32) -> u32 = (_mm256_movemask_ps(m[0]) | _mm256_movemask_ps(m[1]) << 8).cast_unsigned();
        fn reduce_sum(a: F32) -> f32 = {
            let a = _mm256_add_ps(a[0], a[1]);
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
        };
        fn reduce_max(a: F32) -> f32 = {
            let a = _mm256_max_ps(a[0], a[1]);
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
        };
    }
}

// SAFETY: all methods use AVX2, FMA and F16C only, which the token proves; 8 float64 are 64 bytes.
unsafe impl Simd<f64> for Avx2 {
    type Reg = F64;
    type Mask = F64;
    type Tally = LaneTally<Self, f64>;

    memory! {
        fn load(p: *const f64) -> F64 = [_mm256_loadu_pd(p), _mm256_loadu_pd(p.add(4))];
        fn load_partial(p: *const f64, n: usize, fill: f64) -> F64 = {
            let masks = first_f64(n);
            let r = [_mm256_maskload_pd(p, masks[0]), _mm256_maskload_pd(p.wrapping_add(4), masks[1])];
            let fill = _mm256_set1_pd(fill);
            both!(masks, r => _mm256_blendv_pd(fill, r, _mm256_castsi256_pd(masks)))
        };
        fn store(r: F64, p: *mut f64) = {
            _mm256_storeu_pd(p, r[0]);
            _mm256_storeu_pd(p.add(4), r[1]);
        };
        fn stream(r: F64, p: *mut f64) = {
            _mm256_stream_pd(p, r[0]);
            _mm256_stream_pd(p.add(4), r[1]);
        };
        fn store_partial(r: F64, p: *mut f64, n: usize) = {
            let (mut p, mut r) = (p, r);
            if n & 8 != 0 {
                _mm256_storeu_pd(p, r[0]);
                _mm256_storeu_pd(p.add(4), r[1]);
                return;
            }
            if n & 4 != 0 {
                _mm256_storeu_pd(p, r[0]);
                r[0] = r[1];
                p = p.add(4);
            }
            let mut x = _mm256_castpd256_pd128(r[0]);
            if n & 2 != 0 {
                _mm_storeu_pd(p, x);
                x = _mm256_extractf128_pd::<1>(r[0]);
                p = p.add(2);
            }
            if n & 1 != 0 {
                _mm_store_sd(p, x);
            }
        };
        fn load_tile(rows: &[*const f64; 16], columns: &mut [F64; 4]) = {
            for half in 0..2 {
                // Block b of register i is row 4 half + 2 b + i.
                let mut y = [_mm256_setzero_pd(); 2];
                for i in 0..2 {
                    let low = _mm256_castpd128_pd256(_mm_loadu_pd(rows[4 * half + i]));
                    y[i] = _mm256_insertf128_pd::<1>(low, _mm_loadu_pd(rows[4 * half + i + 2]));
                }
                columns[0][half] = _mm256_unpacklo_pd(y[0], y[1]);
                columns[1][half] = _mm256_unpackhi_pd(y[0], y[1]);
            }
        };
        fn store_tile(columns: &[F64; 4], rows: &[*mut f64; 16]) = {
            for half in 0..2 {
                let [a, b] = [columns[0][half], columns[1][half]];
                let y = [_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b)];
                for i in 0..2 {
                    _mm_storeu_pd(rows[4 * half + i], _mm256_castpd256_pd128(y[i]));
                    _mm_storeu_pd(rows[4 * half + i + 2], _mm256_extractf128_pd::<1>(y[i]));
                }
            }
        };
    }

    methods! {
        fn splat(x: f64) -> F64 = [_mm256_set1_pd(x); 2];
        fn add(a: F64, b: F64) -> F64 = both!(a, b => _mm256_add_pd(a, b));
        fn sub(a: F64, b: F64) -> F64 = both!(a, b => _mm256_sub_pd(a, b));
        fn mul(a: F64, b: F64) -> F64 = both!(a, b => _mm256_mul_pd(a, b));
        fn div(a: F64, b: F64) -> F64 = both!(a, b => _mm256_div_pd(a, b));
        fn mul_add(a: F64, b: F64, c: F64) -> F64 = both!(a, b, c => _mm256_fmadd_pd(a, b, c));
        fn fused_neg_mul_add(a: F64, b: F64, c: F64) -> F64 = both!(a, b, c => _mm256_fnmadd_pd(a, b, c));
        fn max(a: F64, b: F64) -> F64 = both!(a, b => _mm256_max_pd(a, b));
        fn min(a: F64, b: F64) -> F64 = both!(a, b => _mm256_min_pd(a, b));
        fn equal(a: F64, b: F64) -> F64 = both!(a, b => _mm256_cmp_pd::<_CMP_EQ_OQ>(a, b));
        fn same(a: F64, b: F64) -> F64 =
            both!(a, b => _mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_castpd_si256(a), _mm256_castpd_si256(b))));
        fn not_equal(a: F64, b: F64) -> F64 = both!(a, b => _mm256_cmp_pd::<_CMP_NEQ_UQ>(a, b));
        fn not_less(a: F64, b: F64) -> F64 = both!(a, b => _mm256_cmp_pd::<_CMP_NLT_UQ>(a, b));
        fn add_where(m: F64, a: F64, b: F64) -> F64 = both!(m, a, b => _mm256_add_pd(a, _mm256_and_pd(m, b)));
        fn add_unless(m: F64, a: F64, b: F64) -> F64 = both!(m, a, b => _mm256_add_pd(a, _mm256_andnot_pd(m, b)));
        fn select(m: F64, a: F64, b: F64) -> F64 = both!(m, a, b => _mm256_blendv_pd(b, a, m));
        fn first(n: usize) -> F64 = { let m = first_f64(n); both!(m => _mm256_castsi256_pd(m)) };
        fn add_bits(a: F64, b: F64) -> F64 =
            both!(a, b => _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(a), _mm256_castpd_si256(b))));
        fn and_bits(a: F64, b: F64) -> F64 = both!(a, b => _mm256_and_pd(a, b));
        // No conversion of 8-byte integers: put the bits below 2^52 and subtract it.
        fn exponent(a: F64) -> F64 = {
            let base = _mm256_set1_pd(4_503_599_627_370_496.0);
            both!(a => {
                let field = _mm256_castsi256_pd(_mm256_srli_epi64::<52>(_mm256_castpd_si256(a)));
                _mm256_sub_pd(_mm256_or_pd(field, base), base)
            })
        };
        fn shift_to_exponent(a: F64) -> F64 =
            both!(a => _mm256_castsi256_pd(_mm256_slli_epi64::<50>(_mm256_castpd_si256(a))));
        fn count(counter: F64, m: F64) -> F64 =
            both!(counter, m => _mm256_castsi256_pd(_mm256_sub_epi64(_mm256_castpd_si256(counter), _mm256_castpd_si256(m))));
        // Below 2^52, as in `exponent`.
        fn counted(counter: F64) -> F64 = {
            let base = _mm256_set1_pd(4_503_599_627_370_496.0);
            both!(counter => _mm256_sub_pd(_mm256_or_pd(counter, base), base))
        };
        fn lookup(table: F64, index: F64) -> F64 = {
            // No variable permute of 8-byte lanes: permute their halves, 2 i and 2 i + 1.
            let odd = _mm256_set1_epi64x(1 << 32);
            both!(index => {
                let twice = _mm256_slli_epi64::<1>(_mm256_castpd_si256(index));
                let halves = _mm256_or_si256(_mm256_shuffle_epi32::<0b10_10_00_00>(twice), odd);
                _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(table[0]), halves))
            })
        };
        fn any(m: F64) -> bool = _mm256_movemask_pd(_mm256_or_pd(m[0], m[1])) != 0;
        fn first_true(m: F64) -> u32 = {
            let [low, high] = both!(m => _mm256_movemask_pd(m));
            std::hint::select_unpredictable(low != 0, low.trailing_zeros(), 4 + high.trailing_zeros())
        };
        fn bits(m: F64) -> u32 = (_mm256_movemask_pd(m[0]) | _mm256_movemask_pd(m[1]) << 4).cast_unsigned();
        fn reduce_sum(a: F64) -> f64 = {
            let a = _mm256_add_pd(a[0], a[1]);
            let a = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd::<1>(a));
            _mm_cvtsd_f64(_mm_add_sd(a, _mm_unpackhi_pd(a, a)))
        };
        fn reduce_max(a: F64) -> f64 = {
            let a = _mm256_max_pd(a[0], a[1]);
            let a = _mm_max_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd::<1>(a));
            _mm_cvtsd_f64(_mm_max_sd(a, _mm_unpackhi_pd(a, a)))
        };
    }
}

/// The 4 x 4 transpose in each block of 16 bytes.
#[inline(always)]
fn transpose(y: [__m256; 4]) -> [__m256; 4] {
    // SAFETY: called from the methods of the token only.
    unsafe {
        let t0 = _mm256_castps_pd(_mm256_unpacklo_ps(y[0], y[1]));
        let t1 = _mm256_castps_pd(_mm256_unpackhi_ps(y[0], y[1]));
        let t2 = _mm256_castps_pd(_mm256_unpacklo_ps(y[2], y[3]));
        let t3 = _mm256_castps_pd(_mm256_unpackhi_ps(y[2], y[3]));
        [
            _mm256_castpd_ps(_mm256_unpacklo_pd(t0, t2)),
            _mm256_castpd_ps(_mm256_unpackhi_pd(t0, t2)),
            _mm256_castpd_ps(_mm256_unpacklo_pd(t1, t3)),
            _mm256_castpd_ps(_mm256_unpackhi_pd(t1, t3)),
        ]
    }
}

impl Isa for Avx2 {
    const INTERLEAVE: usize = 2;
    const ALIGNS: bool = true;
    const LEVEL: Level = Level::Avx2;

    methods! {
        fn widen(a: F32) -> [F64; 2] = both!(a => [
            _mm256_cvtps_pd(_mm256_castps256_ps128(a)),
            _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(a)),
        ]);
        fn narrow(a: [F64; 2]) -> F32 =
            both!(a => _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm256_cvtpd_ps(a[0])), _mm256_cvtpd_ps(a[1])));
        fn fence() = _mm_sfence();
        fn prefetch(p: *const u8) = _mm_prefetch::<_MM_HINT_T0>(p.cast());
        fn prefetch_write(p: *const u8) = _mm_prefetch::<_MM_HINT_ET0>(p.cast());
    }
    memory! {
        fn load_f16(p: *const u16) -> F32 =
            [_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))];
        fn store_f16(r: F32, p: *mut u16) = {
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(r[0]));
            _mm_storeu_si128(p.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(r[1]));
        };
        fn load_bf16(p: *const u16) -> F32 = {
            let bits = [_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(8).cast())];
            both!(bits => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits))))
        };
        fn store_bf16(r: F32, p: *mut u16) = {
            let halves = both!(r => {
                let bits = _mm256_castps_si256(r);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                _mm256_srli_epi32::<16>(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd))
            });
            // The pack works within 16 bytes; put its quarters in order.
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(halves[0], halves[1]));
            _mm256_storeu_si256(p.cast(), packed);
        };
    }
}
