//! AVX-512 (F, BW, DQ, VL, and POPCNT): a virtual vector is one register.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::avx2::Avx2;
use super::{GROUP, HELD, Isa, Level, Simd, Tally, Vector, memory, methods};

/// Proof that the CPU has AVX-512 F, BW, DQ and VL, AVX2, FMA, F16C and POPCNT.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The CPU has the instructions.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// The first `n` of 16 bits.
#[inline(always)]
fn low_bits(n: usize) -> u16 {
    ((1u32 << n) - 1) as u16
}

// SAFETY: all methods use AVX-512 F/BW/DQ/VL only, which the token proves; 16 float32 are 64 bytes.
unsafe impl Simd<f32> for Avx512 {
    type Reg = __m512;
    type Mask = __mmask16;
    type Tally = Masks<u16, __m512>;

    const SQUARES: bool = true;

    memory! {
        fn load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        fn load_partial(p: *const f32, n: usize, fill: f32) -> __m512 =
            _mm512_mask_loadu_ps(_mm512_set1_ps(fill), low_bits(n), p);
        fn store(r: __m512, p: *mut f32) = _mm512_storeu_ps(p, r);
        fn stream(r: __m512, p: *mut f32) = _mm512_stream_ps(p, r);
        // (A load that would read what a mask has spared waits until the store is through: whole halves instead.)
        fn store_partial(r: __m512, p: *mut f32, n: usize) =
            Avx2::new().store_partial([_mm512_castps512_ps256(r), _mm512_extractf32x8_ps::<1>(r)], p, n);
        fn load_tile(rows: &[*const f32; 16], columns: &mut [__m512; 4]) = {
            // Block b of register i is row 4 b + i, so that a transpose within blocks puts the rows in order.
            let mut z = [_mm512_setzero_ps(); 4];
            for i in 0..4 {
                let low = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(rows[i])), _mm_loadu_ps(rows[i + 4]));
                let high = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(rows[i + 8])), _mm_loadu_ps(rows[i + 12]));
                z[i] = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high);
            }
            *columns = transpose(z);
        };
        fn store_tile(columns: &[__m512; 4], rows: &[*mut f32; 16]) = {
            let z = transpose(*columns);
            for i in 0..4 {
                _mm_storeu_ps(rows[i], _mm512_castps512_ps128(z[i]));
                _mm_storeu_ps(rows[i + 4], _mm512_extractf32x4_ps::<1>(z[i]));
                _mm_storeu_ps(rows[i + 8], _mm512_extractf32x4_ps::<2>(z[i]));
                _mm_storeu_ps(rows[i + 12], _mm512_extractf32x4_ps::<3>(z[i]));
            }
        };
        fn store_square(columns: &[__m512; 16], rows: &[*mut f32; 16]) = {
            let z = [
                transpose([columns[0], columns[1], columns[2], columns[3]]),
                transpose([columns[4], columns[5], columns[6], columns[7]]),
                transpose([columns[8], columns[9], columns[10], columns[11]]),
                transpose([columns[12], columns[13], columns[14], columns[15]]),
            ];
            for i in 0..4 {
                let of_rows = transpose_blocks([z[0][i], z[1][i], z[2][i], z[3][i]]);
                for b in 0..4 {
                    _mm512_storeu_ps(rows[4 * b + i], of_rows[b]);
                }
            }
        };
    }

    methods! {
        fn splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn fused_neg_mul_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        fn max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        fn min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        fn equal(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b);
        fn same(a: __m512, b: __m512) -> __mmask16 =
            _mm512_cmpeq_epi32_mask(_mm512_castps_si512(a), _mm512_castps_si512(b));
        fn not_equal(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(a, b);
        fn not_less(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a, b);
        fn add_where(m: __mmask16, a: __m512, b: __m512) -> __m512 = _mm512_mask_add_ps(a, m, a, b);
        fn add_unless(m: __mmask16, a: __m512, b: __m512) -> __m512 = _mm512_mask_add_ps(a, !m, a, b);
        fn select(m: __mmask16, a: __m512, b: __m512) -> __m512 = _mm512_mask_blend_ps(m, b, a);
        fn first(n: usize) -> __mmask16 = low_bits(n);
        fn add_bits(a: __m512, b: __m512) -> __m512 =
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
        fn and_bits(a: __m512, b: __m512) -> __m512 = _mm512_and_ps(a, b);
        fn exponent(a: __m512) -> __m512 = _mm512_cvtepi32_ps(_mm512_srli_epi32::<23>(_mm512_castps_si512(a)));
        fn shift_to_exponent(a: __m512) -> __m512 = _mm512_castsi512_ps(_mm512_slli_epi32::<20>(_mm512_castps_si512(a)));
        // As numbers: a masked addition is one instruction (of integers, the compiler makes two).
        fn count(counter: __m512, m: __mmask16) -> __m512 = _mm512_mask_add_ps(counter, m, counter, _mm512_set1_ps(1.0));
        fn counted(counter: __m512) -> __m512 = counter;
        fn lookup(table: __m512, index: __m512) -> __m512 = _mm512_permutexvar_ps(_mm512_castps_si512(index), table);
        fn any(m: __mmask16) -> bool = m != 0;
        fn bits(m: __mmask16) -> u32 = m.into();
        fn reduce_max(a: __m512) -> f32 = _mm512_reduce_max_ps(a);
        fn reduce_sum(a: __m512) -> f32 = {
            let a = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
        };
    }
}

// SAFETY: all methods use AVX-512 F/BW/DQ/VL only, which the token proves; 8 float64 are 64 bytes.
unsafe impl Simd<f64> for Avx512 {
    type Reg = __m512d;
    type Mask = __mmask8;
    type Tally = Masks<u8, __m512d>;

    const SQUARES: bool = true;

    memory! {
        fn load(p: *const f64) -> __m512d = _mm512_loadu_pd(p);
        fn load_partial(p: *const f64, n: usize, fill: f64) -> __m512d =
            _mm512_mask_loadu_pd(_mm512_set1_pd(fill), low_bits(n) as u8, p);
        fn store(r: __m512d, p: *mut f64) = _mm512_storeu_pd(p, r);
        fn stream(r: __m512d, p: *mut f64) = _mm512_stream_pd(p, r);
        fn store_partial(r: __m512d, p: *mut f64, n: usize) =
            Avx2::new().store_partial([_mm512_castpd512_pd256(r), _mm512_extractf64x4_pd::<1>(r)], p, n);
        fn load_tile(rows: &[*const f64; 16], columns: &mut [__m512d; 4]) = {
            let mut z = [_mm512_setzero_pd(); 2];
            for i in 0..2 {
                let low = _mm256_insertf128_pd::<1>(_mm256_castpd128_pd256(_mm_loadu_pd(rows[i])), _mm_loadu_pd(rows[i + 2]));
                let high = _mm256_insertf128_pd::<1>(_mm256_castpd128_pd256(_mm_loadu_pd(rows[i + 4])), _mm_loadu_pd(rows[i + 6]));
                z[i] = _mm512_insertf64x4::<1>(_mm512_castpd256_pd512(low), high);
            }
            columns[0] = _mm512_unpacklo_pd(z[0], z[1]);
            columns[1] = _mm512_unpackhi_pd(z[0], z[1]);
        };
        fn store_tile(columns: &[__m512d; 4], rows: &[*mut f64; 16]) = {
            let z = [_mm512_unpacklo_pd(columns[0], columns[1]), _mm512_unpackhi_pd(columns[0], columns[1])];
            for i in 0..2 {
                _mm_storeu_pd(rows[i], _mm512_castpd512_pd128(z[i]));
                _mm_storeu_pd(rows[i + 2], _mm512_extractf64x2_pd::<1>(z[i]));
                _mm_storeu_pd(rows[i + 4], _mm512_extractf64x2_pd::<2>(z[i]));
                _mm_storeu_pd(rows[i + 6], _mm512_extractf64x2_pd::<3>(z[i]));
            }
        };
        fn store_square(columns: &[__m512d; 16], rows: &[*mut f64; 16]) = {
            for i in 0..2 {
                let mut z = [_mm512_setzero_ps(); 4];
                for k in 0..4 {
                    let (a, b) = (columns[2 * k], columns[2 * k + 1]);
                    z[k] = _mm512_castpd_ps(if i == 0 { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) });
                }
                let of_rows = transpose_blocks(z);
                for b in 0..4 {
                    _mm512_storeu_pd(rows[2 * b + i], _mm512_castps_pd(of_rows[b]));
                }
            }
        };
    }

    methods! {
        fn splat(x: f64) -> __m512d = _mm512_set1_pd(x);
        fn add(a: __m512d, b: __m512d) -> __m512d = _mm512_add_pd(a, b);
        fn sub(a: __m512d, b: __m512d) -> __m512d = _mm512_sub_pd(a, b);
        fn mul(a: __m512d, b: __m512d) -> __m512d = _mm512_mul_pd(a, b);
        fn div(a: __m512d, b: __m512d) -> __m512d = _mm512_div_pd(a, b);
        fn mul_add(a: __m512d, b: __m512d, c: __m512d) -> __m512d = _mm512_fmadd_pd(a, b, c);
        fn fused_neg_mul_add(a: __m512d, b: __m512d, c: __m512d) -> __m512d = _mm512_fnmadd_pd(a, b, c);
        fn max(a: __m512d, b: __m512d) -> __m512d = _mm512_max_pd(a, b);
        fn min(a: __m512d, b: __m512d) -> __m512d = _mm512_min_pd(a, b);
        fn equal(a: __m512d, b: __m512d) -> __mmask8 = _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(a, b);
        fn same(a: __m512d, b: __m512d) -> __mmask8 =
            _mm512_cmpeq_epi64_mask(_mm512_castpd_si512(a), _mm512_castpd_si512(b));
        fn not_equal(a: __m512d, b: __m512d) -> __mmask8 = _mm512_cmp_pd_mask::<_CMP_NEQ_UQ>(a, b);
        fn not_less(a: __m512d, b: __m512d) -> __mmask8 = _mm512_cmp_pd_mask::<_CMP_NLT_UQ>(a, b);
        fn add_where(m: __mmask8, a: __m512d, b: __m512d) -> __m512d = _mm512_mask_add_pd(a, m, a, b);
        fn add_unless(m: __mmask8, a: __m512d, b: __m512d) -> __m512d = _mm512_mask_add_pd(a, !m, a, b);
        fn select(m: __mmask8, a: __m512d, b: __m512d) -> __m512d = _mm512_mask_blend_pd(m, b, a);
        fn first(n: usize) -> __mmask8 = low_bits(n) as u8;
        fn add_bits(a: __m512d, b: __m512d) -> __m512d =
            _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(a), _mm512_castpd_si512(b)));
        fn and_bits(a: __m512d, b: __m512d) -> __m512d = _mm512_and_pd(a, b);
        fn exponent(a: __m512d) -> __m512d = _mm512_cvtepi64_pd(_mm512_srli_epi64::<52>(_mm512_castpd_si512(a)));
        fn shift_to_exponent(a: __m512d) -> __m512d = _mm512_castsi512_pd(_mm512_slli_epi64::<50>(_mm512_castpd_si512(a)));
        fn count(counter: __m512d, m: __mmask8) -> __m512d = _mm512_mask_add_pd(counter, m, counter, _mm512_set1_pd(1.0));
        fn counted(counter: __m512d) -> __m512d = counter;
        fn lookup(table: __m512d, index: __m512d) -> __m512d = _mm512_permutexvar_pd(_mm512_castpd_si512(index), table);
        fn any(m: __mmask8) -> bool = m != 0;
        fn bits(m: __mmask8) -> u32 = m.into();
        fn reduce_max(a: __m512d) -> f64 = _mm512_reduce_max_pd(a);
        fn reduce_sum(a: __m512d) -> f64 = {
            let a = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd::<1>(a));
            let a = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd::<1>(a));
            _mm_cvtsd_f64(_mm_add_sd(a, _mm_unpackhi_pd(a, a)))
        };
    }
}

/// Masks of what is not the peak, one for each vector of the groups that wait: to store one takes neither of the units
/// that the arithmetic keeps busy, while to count in lanes would take one a second time.
pub(crate) struct Masks<M, R> {
    waiting: [[M; GROUP]; HELD + 1],
    total: u64,
    lanes: R,
}

macro_rules! tally {
    ($float:ident, $mask:ident, $word:ident, $reg:ident, $compare_bits:ident, $compare:ident, $bits:ident, $add:ident, $add_bits:ident, $keep:ident, $splat:ident) => {
        impl Masks<$mask, $reg> {
            /// The masks of a group as one number, the first one's bits lowest.
            #[inline(always)]
            fn others(&self, group: usize) -> $word {
                let mut others: $word = 0;
                for i in 0..GROUP {
                    others |= $word::from(self.waiting[group][i]) << (i * $mask::BITS as usize);
                }
                others
            }
        }

        impl Tally<Avx512, $float> for Masks<$mask, $reg> {
            #[inline(always)]
            fn new(_: Avx512) -> Self {
                // (All ones: vectors that there are not hold no peak.)
                Self {
                    waiting: [[$mask::MAX; GROUP]; HELD + 1],
                    total: 0,
                    // SAFETY: the token was there.
                    lanes: unsafe { $splat(0.0) },
                }
            }
            #[inline(always)]
            fn add_others(
                &mut self,
                sum: Option<Vector<Avx512, $float>>,
                e: Vector<Avx512, $float>,
                peak: Vector<Avx512, $float>,
                (group, vector): (usize, usize),
            ) -> Vector<Avx512, $float> {
                // SAFETY: the vectors carry the token.
                let (others, sum) = unsafe {
                    let others = $compare_bits($bits(e.0), $bits(peak.0));
                    match sum {
                        Some(sum) => (others, $add(sum.0, others, sum.0, e.0)),
                        None => (others, $keep(others, e.0)),
                    }
                };
                self.waiting[group][vector] = others;
                Vector(sum, e.1)
            }
            #[inline(always)]
            fn add_bits_of_others(
                &mut self,
                [a, b]: [Vector<Avx512, $float>; 2],
                [element, peak]: [Vector<Avx512, $float>; 2],
                (group, vector): (usize, usize),
            ) -> Vector<Avx512, $float> {
                // SAFETY: the vectors carry the token.
                let (others, sum) = unsafe {
                    let others = $compare::<_CMP_NEQ_UQ>(element.0, peak.0);
                    (others, $add_bits(others, a.0, b.0))
                };
                self.waiting[group][vector] = others;
                Vector(sum, a.1)
            }
            #[inline(always)]
            fn settle(&mut self, groups: Range<usize>) {
                for group in groups {
                    self.total += u64::from(self.others(group).count_zeros());
                }
            }
            #[inline(always)]
            fn total(&self) -> f64 {
                self.total as f64
            }
            #[inline(always)]
            fn settle_lanes(&mut self, groups: Range<usize>) {
                // Lanes with a peak, and with more than one: nearly always there are none.
                let (mut once, mut twice): ($word, $word) = (0, 0);
                for group in groups.clone() {
                    let peaks = !self.others(group);
                    twice |= once & peaks;
                    once |= peaks;
                }
                for half in [2, 1] {
                    let by = half * $mask::BITS;
                    twice |= twice >> by | once & once >> by;
                    once |= once >> by;
                }
                // SAFETY: the token was there when this was made.
                unsafe {
                    let one = $splat(1.0);
                    if twice as $mask == 0 {
                        self.lanes = $add(self.lanes, once as $mask, self.lanes, one);
                    } else {
                        for group in groups.clone() {
                            for i in 0..GROUP {
                                self.lanes = $add(self.lanes, !self.waiting[group][i], self.lanes, one);
                            }
                        }
                    }
                }
                for group in groups {
                    self.waiting[group] = [$mask::MAX; GROUP];
                }
            }
            #[inline(always)]
            fn lanes(&self, s: Avx512) -> Vector<Avx512, $float> {
                Vector(self.lanes, s)
            }
        }
    };
}
tally!(
    f32,
    u16,
    u64,
    __m512,
    _mm512_cmpneq_epi32_mask,
    _mm512_cmp_ps_mask,
    _mm512_castps_si512,
    _mm512_mask_add_ps,
    add_bits_where_f32,
    _mm512_maskz_mov_ps,
    _mm512_set1_ps
);
tally!(
    f64,
    u8,
    u32,
    __m512d,
    _mm512_cmpneq_epi64_mask,
    _mm512_cmp_pd_mask,
    _mm512_castpd_si512,
    _mm512_mask_add_pd,
    add_bits_where_f64,
    _mm512_maskz_mov_pd,
    _mm512_set1_pd
);

/// `a + b` as integers in the lanes where the mask is true, else zero, in one instruction: of the intrinsic for that, if
/// its result goes on as numbers, LLVM makes an addition and a masked move.
macro_rules! add_bits_where {
    ($name:ident, $instruction:literal, $mask:ident, $reg:ident) => {
        #[inline]
        #[target_feature(enable = "avx512f,avx512dq")]
        fn $name(mask: $mask, a: $reg, b: $reg) -> $reg {
            let sum;
            // SAFETY: nothing but registers.
            unsafe {
                asm!(
                    concat!($instruction, " {sum} {{{mask}}} {{z}}, {a}, {b}"),
                    sum = lateout(zmm_reg) sum,
                    mask = in(kreg) mask,
                    a = in(zmm_reg) a,
                    b = in(zmm_reg) b,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sum
        }
    };
}
add_bits_where!(add_bits_where_f32, "vpaddd", __mmask16, __m512);
add_bits_where!(add_bits_where_f64, "vpaddq", __mmask8, __m512d);

/// The 4 x 4 transpose in each block of 16 bytes.
#[inline(always)]
fn transpose(z: [__m512; 4]) -> [__m512; 4] {
    // SAFETY: called from the methods of the token only.
    unsafe {
        let t0 = _mm512_castps_pd(_mm512_unpacklo_ps(z[0], z[1]));
        let t1 = _mm512_castps_pd(_mm512_unpackhi_ps(z[0], z[1]));
        let t2 = _mm512_castps_pd(_mm512_unpacklo_ps(z[2], z[3]));
        let t3 = _mm512_castps_pd(_mm512_unpackhi_ps(z[2], z[3]));
        [
            _mm512_castpd_ps(_mm512_unpacklo_pd(t0, t2)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(t0, t2)),
            _mm512_castpd_ps(_mm512_unpacklo_pd(t1, t3)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(t1, t3)),
        ]
    }
}

/// The 4 x 4 transpose of blocks of 16 bytes.
#[inline(always)]
fn transpose_blocks(z: [__m512; 4]) -> [__m512; 4] {
    // SAFETY: called from the methods of the token only.
    unsafe {
        let low = [
            _mm512_shuffle_f32x4::<0x44>(z[0], z[1]),
            _mm512_shuffle_f32x4::<0x44>(z[2], z[3]),
        ];
        let high = [
            _mm512_shuffle_f32x4::<0xee>(z[0], z[1]),
            _mm512_shuffle_f32x4::<0xee>(z[2], z[3]),
        ];
        [
            _mm512_shuffle_f32x4::<0x88>(low[0], low[1]),
            _mm512_shuffle_f32x4::<0xdd>(low[0], low[1]),
            _mm512_shuffle_f32x4::<0x88>(high[0], high[1]),
            _mm512_shuffle_f32x4::<0xdd>(high[0], high[1]),
        ]
    }
}

impl Isa for Avx512 {
    const INTERLEAVE: usize = 4;
    const LEVEL: Level = Level::Avx512;
    const ALIGNS: bool = true;

    methods! {
        fn widen(a: __m512) -> [__m512d; 2] =
            [_mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(a))];
        fn narrow(a: [__m512d; 2]) -> __m512 =
            _mm512_insertf32x8::<1>(_mm512_castps256_ps512(_mm512_cvtpd_ps(a[0])), _mm512_cvtpd_ps(a[1]));
        fn fence() = _mm_sfence();
        fn prefetch(p: *const u8) = _mm_prefetch::<_MM_HINT_T0>(p.cast());
        fn prefetch_write(p: *const u8) = _mm_prefetch::<_MM_HINT_ET0>(p.cast());
    }
    memory! {
        fn load_f16(p: *const u16) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
        fn store_f16(r: __m512, p: *mut u16) =
            _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(r));
        fn load_bf16(p: *const u16) -> __m512 =
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()))));
        fn store_bf16(r: __m512, p: *mut u16) = {
            // Not vcvtneps2bf16: it takes subnormal numbers for zero.
            let bits = _mm512_castps_si512(r);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded)));
        };
    }
}
