//! Arrays of lanes: what any CPU can do, and the reference for what a primitive means.
//!
//! Multiplication and addition round separately here (a fused one is a call into the C library on CPUs without it), so
//! this level has bits of its own, the same on every machine. Where cancellation needs the exact product it is emulated.

use super::{Isa, LaneTally, Level, Part, Simd};

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

/// The body for each lane. (No loop: inlined into kernels by the thousand, loops that are yet to be unrolled took a seventh
/// of the time of the whole build.)
macro_rules! each {
    (8, $i:ident => $body:expr) => { each!([0, 1, 2, 3, 4, 5, 6, 7], $i => $body) };
    (16, $i:ident => $body:expr) => { each!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], $i => $body) };
    ([$($lane:literal),+], $i:ident => $body:expr) => {
        $({ const $i: usize = $lane; $body; })+
    };
}

/// One function per lane; whether it is inlined.
macro_rules! lanes {
    (always, $float:ident, $lanes:tt; $($name:ident($($arg:ident),+) => $body:expr;)+) => {$(
        #[inline(always)]
        fn $name(self, $($arg: Self::Reg),+) -> Self::Reg {
            let mut r = [0.0; $lanes];
            each!($lanes, I => {
                $(let $arg: $float = $arg[I];)+
                r[I] = $body;
            });
            r
        }
    )+};
    (never, $float:ident, $lanes:tt; $($name:ident($($arg:ident),+) => $body:expr;)+) => {$(
        #[inline(never)]
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
    ($float:ident, $uint:ident, $lanes:tt, $shift:literal, $fused:ident, $inline:tt) => {
        // SAFETY: plain Rust; LANES elements are 64 bytes.
        unsafe impl Simd<$float> for Portable {
            type Reg = [$float; $lanes];
            /// All bits or none in each lane: what compilers turn into vector code.
            type Mask = [$uint; $lanes];
            type Tally = LaneTally<Self, $float>;

            #[inline(always)]
            fn splat(self, x: $float) -> Self::Reg {
                [x; $lanes]
            }
            #[inline(always)]
            unsafe fn load(self, p: *const $float) -> Self::Reg {
                // SAFETY: the caller says so.
                unsafe { p.cast::<Self::Reg>().read_unaligned() }
            }
            #[inline(never)]
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
            #[inline(never)]
            unsafe fn store_partial(self, r: Self::Reg, p: *mut $float, n: usize) {
                for i in 0..$lanes {
                    if i < n {
                        // SAFETY: the caller says that `n` elements may be written.
                        unsafe { p.add(i).write_unaligned(r[i]) };
                    }
                }
            }
            #[inline(never)]
            unsafe fn load_tile(self, rows: &[*const $float; 16], columns: &mut [Self::Reg; 4]) {
                for c in 0..$lanes / 4 {
                    for l in 0..$lanes {
                        // SAFETY: the caller says that 16 bytes may be read through each pointer.
                        columns[c][l] = unsafe { rows[l].add(c).read_unaligned() };
                    }
                }
            }
            #[inline(never)]
            unsafe fn store_tile(self, columns: &[Self::Reg; 4], rows: &[*mut $float; 16]) {
                for c in 0..$lanes / 4 {
                    for l in 0..$lanes {
                        // SAFETY: the caller says that 16 bytes may be written through each pointer.
                        unsafe { rows[l].add(c).write_unaligned(columns[c][l]) };
                    }
                }
            }

            lanes! { always, $float, $lanes;
                add(a, b) => a + b;
                sub(a, b) => a - b;
                mul(a, b) => a * b;
                mul_add(a, b, c) => a * b + c;
                max(a, b) => if a > b { a } else { b };
                min(a, b) => if a < b { a } else { b };
                add_bits(a, b) => $float::from_bits(a.to_bits().wrapping_add(b.to_bits()));
                and_bits(a, b) => $float::from_bits(a.to_bits() & b.to_bits());
                shift_to_exponent(a) => $float::from_bits(a.to_bits() << $shift);
            }
            // What takes many instructions and is not in float32's hot loops is not inlined everywhere: without that,
            // this level would be two thirds of all code.
            lanes! { $inline, $float, $lanes;
                fused_neg_mul_add(a, b, c) => $fused(a, b, c);
            }
            lanes! { never, $float, $lanes;
                div(a, b) => a / b;
                exponent(a) => (a.to_bits() >> ($float::MANTISSA_DIGITS - 1)) as $float;
            }
            #[inline(always)]
            fn equal(self, a: Self::Reg, b: Self::Reg) -> Self::Mask {
                let mut m = [0; $lanes];
                each!($lanes, I => {
                    m[I] = if a[I] == b[I] { $uint::MAX } else { 0 };
                });
                m
            }
            #[inline(always)]
            fn same(self, a: Self::Reg, b: Self::Reg) -> Self::Mask {
                let mut m = [0; $lanes];
                each!($lanes, I => {
                    m[I] = if a[I].to_bits() == b[I].to_bits() {
                        $uint::MAX
                    } else {
                        0
                    };
                });
                m
            }
            #[inline(always)]
            fn not_equal(self, a: Self::Reg, b: Self::Reg) -> Self::Mask {
                let mut m = [0; $lanes];
                each!($lanes, I => {
                    m[I] = if a[I] != b[I] { $uint::MAX } else { 0 };
                });
                m
            }
            #[inline(always)]
            fn not_less(self, a: Self::Reg, b: Self::Reg) -> Self::Mask {
                let mut m = [0; $lanes];
                each!($lanes, I => {
                    m[I] = if a[I] < b[I] { 0 } else { $uint::MAX };
                });
                m
            }
            #[inline(always)]
            fn add_where(self, m: Self::Mask, a: Self::Reg, b: Self::Reg) -> Self::Reg {
                let mut r = a;
                each!($lanes, I => {
                    let (sum, kept) = ((a[I] + b[I]).to_bits(), a[I].to_bits());
                    r[I] = $float::from_bits((sum & m[I]) | (kept & !m[I]));
                });
                r
            }
            #[inline(always)]
            fn add_unless(self, m: Self::Mask, a: Self::Reg, b: Self::Reg) -> Self::Reg {
                let mut r = a;
                each!($lanes, I => {
                    let (kept, sum) = (a[I].to_bits(), (a[I] + b[I]).to_bits());
                    r[I] = $float::from_bits((kept & m[I]) | (sum & !m[I]));
                });
                r
            }
            #[inline(always)]
            fn select(self, m: Self::Mask, a: Self::Reg, b: Self::Reg) -> Self::Reg {
                let mut r = a;
                each!($lanes, I => {
                    r[I] = $float::from_bits((a[I].to_bits() & m[I]) | (b[I].to_bits() & !m[I]));
                });
                r
            }
            #[inline(never)]
            fn first(self, n: usize) -> Self::Mask {
                let mut m = [0; $lanes];
                for i in 0..$lanes {
                    m[i] = if i < n { $uint::MAX } else { 0 };
                }
                m
            }
            #[inline(always)]
            fn count(self, counter: Self::Reg, m: Self::Mask) -> Self::Reg {
                let mut r = counter;
                each!($lanes, I => {
                    r[I] = counter[I] + $float::from_bits((1.0 as $float).to_bits() & m[I]);
                });
                r
            }
            #[inline(always)]
            fn counted(self, counter: Self::Reg) -> Self::Reg {
                counter
            }
            // (Inlined, each operation is as many as there are lanes: portable kernels took half of the time of the build.)
            #[inline(never)]
            fn part<P: Part<Self, $float>>(self, part: P) -> P::Out {
                part.compute(self)
            }
            #[inline(never)]
            fn lookup(self, table: Self::Reg, index: Self::Reg) -> Self::Reg {
                let mut r = table;
                for i in 0..$lanes {
                    r[i] = table[index[i].to_bits() as usize % $lanes];
                }
                r
            }
            #[inline(never)]
            fn any(self, m: Self::Mask) -> bool {
                let mut any = 0;
                for i in 0..$lanes {
                    any |= m[i];
                }
                any != 0
            }
            #[inline(never)]
            fn bits(self, m: Self::Mask) -> u32 {
                let mut bits = 0;
                for i in 0..$lanes {
                    bits |= u32::from(m[i] != 0) << i;
                }
                bits
            }
            #[inline(never)]
            fn reduce_sum(self, a: Self::Reg) -> $float {
                let (mut sums, mut half) = (a, $lanes / 2);
                while half > 0 {
                    for i in 0..half {
                        sums[i] += sums[i + half];
                    }
                    half /= 2;
                }
                sums[0]
            }
            #[inline(never)]
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

portable!(f32, u32, 16, 20, fused_neg_mul_add_f32, always);
portable!(f64, u64, 8, 50, fused_neg_mul_add_f64, never);

impl Isa for Portable {
    const INTERLEAVE: usize = 1;
    const LEVEL: Level = Level::Portable;

    #[inline(always)]
    fn widen(self, a: [f32; 16]) -> [[f64; 8]; 2] {
        let mut r = [[0.0; 8]; 2];
        each!(16, I => {
            r[I / 8][I % 8] = f64::from(a[I]);
        });
        r
    }
    #[inline(always)]
    fn narrow(self, a: [[f64; 8]; 2]) -> [f32; 16] {
        let mut r = [0.0; 16];
        each!(16, I => {
            r[I] = a[I / 8][I % 8] as f32;
        });
        r
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> [f32; 16] {
        // SAFETY: the caller says so.
        let bits = unsafe { p.cast::<[u16; 16]>().read_unaligned() };
        let mut r = [0.0; 16];
        each!(16, I => {
            r[I] = half::f16::from_bits(bits[I]).to_f32();
        });
        r
    }
    #[inline(always)]
    unsafe fn store_f16(self, r: [f32; 16], p: *mut u16) {
        let mut bits = [0; 16];
        each!(16, I => {
            bits[I] = half::f16::from_f32(r[I]).to_bits();
        });
        // SAFETY: the caller says so.
        unsafe { p.cast::<[u16; 16]>().write_unaligned(bits) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> [f32; 16] {
        // SAFETY: the caller says so.
        let bits = unsafe { p.cast::<[u16; 16]>().read_unaligned() };
        let mut r = [0.0; 16];
        each!(16, I => {
            r[I] = f32::from_bits(u32::from(bits[I]) << 16);
        });
        r
    }
    #[inline(always)]
    unsafe fn store_bf16(self, r: [f32; 16], p: *mut u16) {
        let mut bits = [0; 16];
        each!(16, I => {
            bits[I] = half::bf16::from_f32(r[I]).to_bits();
        });
        // SAFETY: the caller says so.
        unsafe { p.cast::<[u16; 16]>().write_unaligned(bits) }
    }
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}
    #[inline(always)]
    fn prefetch_write(self, _: *const u8) {}
}
