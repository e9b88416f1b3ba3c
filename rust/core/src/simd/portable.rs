//! Arrays of lanes: what any CPU can do, and the reference for what a primitive means.
//!
//! Multiplication and addition round separately here (a fused one is a call into the C library on CPUs without it), so
//! this level has bits of its own, the same on every machine. Where cancellation needs the exact product it is emulated.

use super::{Isa, Level, Simd};

/// The level that needs no proof.
#[derive(Clone, Copy)]
pub(crate) struct Portable(());

impl Portable {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self(())
    }
}

/// c - a b with the product exact and one rounding that matters: in float64 for float32 ...
#[inline(always)]
fn fused_neg_mul_add_f32(a: f32, b: f32, c: f32) -> f32 {
    (f64::from(c) - f64::from(a) * f64::from(b)) as f32
}

/// ... and by Dekker's product (1971) for float64, where splitting the operands does not overflow.
#[inline(always)]
fn fused_neg_mul_add_f64(a: f64, b: f64, c: f64) -> f64 {
    const LARGE: f64 = 1e290;
    if !(a.abs() < LARGE && b.abs() < LARGE) {
        return c - a * b;
    }
    const SPLITTER: f64 = 134_217_729.0; // 2^27 + 1
    let split = |v: f64| {
        let t = v * SPLITTER;
        let hi = t - (t - v);
        (hi, v - hi)
    };
    let ((ah, al), (bh, bl)) = (split(a), split(b));
    let p = a * b;
    let e = ((ah * bh - p) + ah * bl + al * bh) + al * bl;
    // c - p may round: keep its error as well.
    let d = c - p;
    let t = d - c;
    let d_error = (c - (d - t)) + (-p - t);
    d + (d_error - e)
}

/// One function per lane.
macro_rules! lanes {
    ($float:ident, $lanes:literal; $($name:ident($($arg:ident),+) => $body:expr;)+) => {$(
        #[inline(always)]
        fn $name(self, $($arg: Self::Reg),+) -> Self::Reg {
            let mut r = [0.0; $lanes];
            for i in 0..$lanes {
                $(let $arg: $float = $arg[i];)+
                r[i] = $body;
            }
            r
        }
    )+};
}

macro_rules! portable {
    ($float:ident, $lanes:literal, $shift:literal, $fused:ident) => {
        // SAFETY: plain Rust; LANES elements are 64 bytes.
        unsafe impl Simd<$float> for Portable {
            type Reg = [$float; $lanes];
            type Mask = [bool; $lanes];

            #[inline(always)]
            fn splat(self, x: $float) -> Self::Reg {
                [x; $lanes]
            }
            #[inline(always)]
            unsafe fn load(self, p: *const $float) -> Self::Reg {
                // SAFETY: the caller says so.
                unsafe { p.cast::<Self::Reg>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn load_partial(self, p: *const $float, n: usize, fill: $float) -> Self::Reg {
                let mut r = [fill; $lanes];
                for i in 0..$lanes {
                    if i < n {
                        // SAFETY: the caller says that `n` elements may be read.
                        r[i] = unsafe { p.add(i).read_unaligned() };
                    }
                }
                r
            }
            #[inline(always)]
            unsafe fn store(self, r: Self::Reg, p: *mut $float) {
                // SAFETY: the caller says so.
                unsafe { p.cast::<Self::Reg>().write_unaligned(r) }
            }
            #[inline(always)]
            unsafe fn store_partial(self, r: Self::Reg, p: *mut $float, n: usize) {
                for i in 0..$lanes {
                    if i < n {
                        // SAFETY: the caller says that `n` elements may be written.
                        unsafe { p.add(i).write_unaligned(r[i]) };
                    }
                }
            }
            #[inline(always)]
            unsafe fn load_tile(self, rows: &[*const $float; 16], columns: &mut [Self::Reg; 4]) {
                for c in 0..$lanes / 4 {
                    for l in 0..$lanes {
                        // SAFETY: the caller says that 16 bytes may be read through each pointer.
                        columns[c][l] = unsafe { rows[l].add(c).read_unaligned() };
                    }
                }
            }
            #[inline(always)]
            unsafe fn store_tile(self, columns: &[Self::Reg; 4], rows: &[*mut $float; 16]) {
                for c in 0..$lanes / 4 {
                    for l in 0..$lanes {
                        // SAFETY: the caller says that 16 bytes may be written through each pointer.
                        unsafe { rows[l].add(c).write_unaligned(columns[c][l]) };
                    }
                }
            }

            lanes! { $float, $lanes;
                add(a, b) => a + b;
                sub(a, b) => a - b;
                mul(a, b) => a * b;
                div(a, b) => a / b;
                mul_add(a, b, c) => a * b + c;
                fused_neg_mul_add(a, b, c) => $fused(a, b, c);
                max(a, b) => if a > b { a } else { b };
                add_bits(a, b) => $float::from_bits(a.to_bits().wrapping_add(b.to_bits()));
                and_bits(a, b) => $float::from_bits(a.to_bits() & b.to_bits());
                exponent(a) => (a.to_bits() >> ($float::MANTISSA_DIGITS - 1)) as $float;
                shift_to_exponent(a) => $float::from_bits(a.to_bits() << $shift);
            }
            #[inline(always)]
            fn equal(self, a: Self::Reg, b: Self::Reg) -> Self::Mask {
                std::array::from_fn(
                    #[inline(always)]
                    |i| a[i] == b[i],
                )
            }
            #[inline(always)]
            fn not_equal(self, a: Self::Reg, b: Self::Reg) -> Self::Mask {
                std::array::from_fn(
                    #[inline(always)]
                    |i| a[i] != b[i],
                )
            }
            #[inline(always)]
            fn not_less(self, a: Self::Reg, b: Self::Reg) -> Self::Mask {
                std::array::from_fn(
                    #[inline(always)]
                    |i| a[i].is_nan() || b[i].is_nan() || a[i] >= b[i],
                )
            }
            #[inline(always)]
            fn add_where(self, m: Self::Mask, a: Self::Reg, b: Self::Reg) -> Self::Reg {
                std::array::from_fn(
                    #[inline(always)]
                    |i| if m[i] { a[i] + b[i] } else { a[i] },
                )
            }
            #[inline(always)]
            fn select(self, m: Self::Mask, a: Self::Reg, b: Self::Reg) -> Self::Reg {
                std::array::from_fn(
                    #[inline(always)]
                    |i| if m[i] { a[i] } else { b[i] },
                )
            }
            #[inline(always)]
            fn first(self, n: usize) -> Self::Mask {
                std::array::from_fn(
                    #[inline(always)]
                    |i| i < n,
                )
            }
            #[inline(always)]
            fn count(self, counter: Self::Reg, m: Self::Mask) -> Self::Reg {
                std::array::from_fn(
                    #[inline(always)]
                    |i| counter[i] + $float::from(u8::from(m[i])),
                )
            }
            #[inline(always)]
            fn counted(self, counter: Self::Reg) -> Self::Reg {
                counter
            }
            #[inline(always)]
            fn lookup(self, table: Self::Reg, index: Self::Reg) -> Self::Reg {
                std::array::from_fn(
                    #[inline(always)]
                    |i| table[index[i].to_bits() as usize % $lanes],
                )
            }
            #[inline(always)]
            fn any(self, m: Self::Mask) -> bool {
                let mut any = false;
                for i in 0..$lanes {
                    any |= m[i];
                }
                any
            }
            #[inline(always)]
            fn reduce_sum(self, a: Self::Reg) -> $float {
                let mut sum = 0.0;
                for i in 0..$lanes {
                    sum += a[i];
                }
                sum
            }
            #[inline(always)]
            fn reduce_max(self, a: Self::Reg) -> $float {
                let mut max = a[0];
                for i in 1..$lanes {
                    max = if a[i] > max { a[i] } else { max };
                }
                max
            }
        }
    };
}

portable!(f32, 16, 20, fused_neg_mul_add_f32);
portable!(f64, 8, 50, fused_neg_mul_add_f64);

impl Isa for Portable {
    const INTERLEAVE: usize = 1;
    const LEVEL: Level = Level::Portable;

    #[inline(always)]
    fn widen(self, a: [f32; 16]) -> [[f64; 8]; 2] {
        let mut r = [[0.0; 8]; 2];
        for i in 0..16 {
            r[i / 8][i % 8] = f64::from(a[i]);
        }
        r
    }
    #[inline(always)]
    fn narrow(self, a: [[f64; 8]; 2]) -> [f32; 16] {
        let mut r = [0.0; 16];
        for i in 0..16 {
            r[i] = a[i / 8][i % 8] as f32;
        }
        r
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> [f32; 16] {
        // SAFETY: the caller says so.
        let bits = unsafe { p.cast::<[u16; 16]>().read_unaligned() };
        bits.map(
            #[inline(always)]
            |b| half::f16::from_bits(b).to_f32(),
        )
    }
    #[inline(always)]
    unsafe fn store_f16(self, r: [f32; 16], p: *mut u16) {
        let bits = r.map(
            #[inline(always)]
            |x| half::f16::from_f32(x).to_bits(),
        );
        // SAFETY: the caller says so.
        unsafe { p.cast::<[u16; 16]>().write_unaligned(bits) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> [f32; 16] {
        // SAFETY: the caller says so.
        let bits = unsafe { p.cast::<[u16; 16]>().read_unaligned() };
        bits.map(
            #[inline(always)]
            |b| f32::from_bits(u32::from(b) << 16),
        )
    }
    #[inline(always)]
    unsafe fn store_bf16(self, r: [f32; 16], p: *mut u16) {
        let bits = r.map(
            #[inline(always)]
            |x| half::bf16::from_f32(x).to_bits(),
        );
        // SAFETY: the caller says so.
        unsafe { p.cast::<[u16; 16]>().write_unaligned(bits) }
    }
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}
    #[inline(always)]
    fn prefetch_write(self, _: *const u8) {}
}
