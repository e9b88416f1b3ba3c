//! What memory holds, and how it becomes what arithmetic runs in.

use crate::problem::{Array, Dtype};
use crate::simd::{Float, Isa, Simd, Vector};

/// A float that arrays hold, native byte order.
pub(crate) trait Element: Copy + 'static {
    /// What arithmetic runs in.
    type Float: Float;
    /// Fills what a vector has and memory has not.
    const FILL: Self;

    /// # Safety
    /// `p` is valid for reading a vector's worth of elements.
    unsafe fn load<S: Isa + Simd<Self::Float>>(s: S, p: *const Self) -> Vector<S, Self::Float>;
    /// # Safety
    /// `p` is valid for writing a vector's worth of elements.
    unsafe fn store<S: Isa + Simd<Self::Float>>(v: Vector<S, Self::Float>, p: *mut Self);
    fn from_float(x: Self::Float) -> Self;
}

/// IEEE half precision, as bits.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct F16(u16);

/// The upper half of a float32, as bits.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Bf16(u16);

macro_rules! plain {
    ($float:ident) => {
        impl Element for $float {
            type Float = $float;
            const FILL: Self = 0.0;
            #[inline(always)]
            unsafe fn load<S: Isa + Simd<$float>>(s: S, p: *const Self) -> Vector<S, $float> {
                // SAFETY: the caller says so.
                unsafe { Vector::load(s, p) }
            }
            #[inline(always)]
            unsafe fn store<S: Isa + Simd<$float>>(v: Vector<S, $float>, p: *mut Self) {
                // SAFETY: the caller says so.
                unsafe { v.store(p) }
            }
            #[inline(always)]
            fn from_float(x: $float) -> Self {
                x
            }
        }
    };
}
plain!(f32);
plain!(f64);

macro_rules! half {
    ($element:ident, $half:path, $load:ident, $store:ident) => {
        impl Element for $element {
            type Float = f32;
            const FILL: Self = Self(0);
            #[inline(always)]
            unsafe fn load<S: Isa + Simd<f32>>(s: S, p: *const Self) -> Vector<S, f32> {
                // SAFETY: the caller says so.
                Vector(unsafe { s.$load(p.cast()) }, s)
            }
            #[inline(always)]
            unsafe fn store<S: Isa + Simd<f32>>(v: Vector<S, f32>, p: *mut Self) {
                // SAFETY: the caller says so.
                unsafe { v.1.$store(v.0, p.cast()) }
            }
            #[inline(always)]
            fn from_float(x: f32) -> Self {
                Self(<$half>::from_f32(x).to_bits())
            }
        }
    };
}
half!(F16, half::f16, load_f16, store_f16);
half!(Bf16, half::bf16, load_bf16, store_bf16);

/// Work for whatever element type a dtype is.
pub(crate) trait Visitor<T: Float> {
    type Out;
    fn visit<E: Element<Float = T>>(self) -> Self::Out;
}

/// The float types, as seen from memory.
pub(crate) trait Stored: Float + Element<Float = Self> {
    /// The dtype whose memory is this very type.
    const DTYPE: Dtype;
    /// Visits with the element type of `dtype`, if that is computed in this type.
    fn visit<V: Visitor<Self>>(dtype: Dtype, visitor: V) -> Option<V::Out>;
}

impl Stored for f32 {
    const DTYPE: Dtype = Dtype::F32;
    #[inline(always)]
    fn visit<V: Visitor<Self>>(dtype: Dtype, visitor: V) -> Option<V::Out> {
        match dtype {
            Dtype::F32 => Some(visitor.visit::<Self>()),
            Dtype::F16 => Some(visitor.visit::<F16>()),
            Dtype::Bf16 => Some(visitor.visit::<Bf16>()),
            _ => None,
        }
    }
}

impl Stored for f64 {
    const DTYPE: Dtype = Dtype::F64;
    #[inline(always)]
    fn visit<V: Visitor<Self>>(dtype: Dtype, visitor: V) -> Option<V::Out> {
        match dtype {
            Dtype::F64 => Some(visitor.visit::<Self>()),
            _ => None,
        }
    }
}

/// One number of any dtype, converted to `out` (the result's dtype, rounding once) and from there to `T`.
///
/// # Safety
/// `p` is valid for reading an element of `dtype`.
#[inline(always)]
pub(crate) unsafe fn read<T: Float>(p: *const u8, dtype: Dtype, swapped: bool, out: Dtype) -> T {
    // SAFETY: passed on.
    let x = unsafe { number(p, dtype, swapped) };
    match out {
        Dtype::F16 => T::from_f64(half::f16::from_f32(x.to_odd()).to_f64()),
        Dtype::Bf16 => T::from_f64(half::bf16::from_f32(x.to_odd()).to_f64()),
        // To float32 without a stop at float64, which would round twice.
        Dtype::F32 => T::from_f64(f64::from(match x {
            Number::Int(i) => i as f32,
            Number::Unsigned(u) => u as f32,
            Number::Float(f) => f as f32,
        })),
        _ => T::from_f64(match x {
            Number::Int(i) => i as f64,
            Number::Unsigned(u) => u as f64,
            Number::Float(f) => f,
        }),
    }
}

/// A number of any dtype, exact.
#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Unsigned(u64),
    Float(f64),
}

impl Number {
    /// As float32 rounded to odd (truncated, the last bit set where anything was lost): from there a rounding to half
    /// the bits gives what one rounding of the number itself would (Boldo and Melquiond 2008).
    fn to_odd(self) -> f32 {
        // 53 bits of an integer, the last of them sticky, are a float64.
        let sticky = |u: u64| ((u >> 11 | u64::from(u & 0x7ff != 0)) << 11) as f64;
        let wide = match self {
            Self::Float(f) => f,
            Self::Int(i) if i.unsigned_abs() < 1 << 53 => i as f64,
            Self::Int(i) => sticky(i.unsigned_abs()) * if i < 0 { -1.0 } else { 1.0 },
            Self::Unsigned(u) if u < 1 << 53 => u as f64,
            Self::Unsigned(u) => sticky(u),
        };
        let near = wide as f32;
        if f64::from(near) == wide || near.is_nan() {
            return near;
        }
        let truncated = if f64::from(near).abs() > wide.abs() {
            near.to_bits() - 1
        } else {
            near.to_bits()
        };
        f32::from_bits(truncated | 1)
    }
}

/// One number of any dtype.
///
/// # Safety
/// `p` is valid for reading an element of `dtype`.
#[inline(always)]
unsafe fn number(p: *const u8, dtype: Dtype, swapped: bool) -> Number {
    macro_rules! bits {
        ($uint:ident) => {{
            // SAFETY: the caller says so.
            let bits = unsafe { p.cast::<$uint>().read_unaligned() };
            if swapped { bits.swap_bytes() } else { bits }
        }};
    }
    match dtype {
        // SAFETY: the caller says so.
        Dtype::Bool => Number::Int(i64::from(unsafe { p.read() } != 0)),
        // SAFETY: the caller says so.
        Dtype::I8 => Number::Int(i64::from(unsafe { p.cast::<i8>().read() })),
        // SAFETY: the caller says so.
        Dtype::U8 => Number::Int(i64::from(unsafe { p.read() })),
        Dtype::I16 => Number::Int(i64::from(bits!(u16).cast_signed())),
        Dtype::U16 => Number::Int(i64::from(bits!(u16))),
        Dtype::I32 => Number::Int(i64::from(bits!(u32).cast_signed())),
        Dtype::U32 => Number::Int(i64::from(bits!(u32))),
        Dtype::I64 => Number::Int(bits!(u64).cast_signed()),
        Dtype::U64 => Number::Unsigned(bits!(u64)),
        Dtype::F16 => Number::Float(half::f16::from_bits(bits!(u16)).to_f64()),
        Dtype::Bf16 => Number::Float(half::bf16::from_bits(bits!(u16)).to_f64()),
        Dtype::F32 => Number::Float(f64::from(f32::from_bits(bits!(u32)))),
        Dtype::F64 => Number::Float(f64::from_bits(bits!(u64))),
    }
}

/// What a class may be: an integer below `n`, or the one that says that its row takes no part.
#[derive(Clone, Copy)]
pub(crate) struct Classes {
    pub(crate) n: usize,
    pub(crate) ignored: Option<i128>,
}

impl Classes {
    /// Fills `to` with classes, -1 for the ignored one, from the integer at `first` on, `step` bytes apart; or says which
    /// is the first that is none.
    ///
    /// # Safety
    /// These are elements of the array, whose dtype is an integer's.
    pub(crate) unsafe fn read(
        self,
        array: &Array<'_>,
        first: isize,
        step: isize,
        to: &mut [i64],
    ) -> Result<(), (usize, i128)> {
        let n = self.n as u64;
        let ignored: Option<i64> = self.ignored.and_then(|index| index.try_into().ok());
        let ignored_unsigned: Option<u64> = self.ignored.and_then(|index| index.try_into().ok());
        // A loop for each dtype, so that none decides anew for each element.
        macro_rules! each {
            ($($dtype:ident),+) => {
                match array.dtype {
                    $(Dtype::$dtype => {
                        for (i, to) in to.iter_mut().enumerate() {
                            let place = first.wrapping_add(step.wrapping_mul(i as isize));
                            // SAFETY: the caller's promise.
                            *to = match unsafe { number(array.ptr.offset(place), Dtype::$dtype, array.swapped) } {
                                Number::Int(value) if Some(value) == ignored => -1,
                                Number::Int(value) if value.cast_unsigned() < n => value,
                                Number::Int(value) => return Err((i, value.into())),
                                Number::Unsigned(value) if Some(value) == ignored_unsigned => -1,
                                Number::Unsigned(value) if value < n => value.cast_signed(),
                                Number::Unsigned(value) => return Err((i, value.into())),
                                Number::Float(_) => unreachable!("no integer"),
                            };
                        }
                    })+
                    _ => unreachable!("no integer"),
                }
            };
        }
        each!(Bool, I8, I16, I32, I64, U8, U16, U32, U64);
        Ok(())
    }
}
