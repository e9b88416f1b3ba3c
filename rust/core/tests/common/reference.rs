//! The formulas, as plain as they can be written, in numbers of about 100 bits, and the distance of a result from them.

use std::ops::{Add, Div, Mul, Neg, Sub};

use softmax_core::Dtype;

/// An unevaluated sum of two float64, the second at most half an ulp of the first (Dekker 1971). The operations are the
/// "sloppy" ones of Hida, Li and Bailey (2001): a relative error of some 2^-102, and nothing here cancels further than
/// 2^-20, so what is left is a thousand times finer than the limits that are tested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wide {
    pub hi: f64,
    pub lo: f64,
}

/// a + b and what rounding took from it.
fn two_sum(a: f64, b: f64) -> Wide {
    let hi = a + b;
    let b_part = hi - a;
    Wide {
        hi,
        lo: (a - (hi - b_part)) + (b - b_part),
    }
}

/// The same for |a| >= |b|.
fn quick_two_sum(a: f64, b: f64) -> Wide {
    let hi = a + b;
    Wide { hi, lo: b - (hi - a) }
}

impl Wide {
    pub const ZERO: Self = Self { hi: 0.0, lo: 0.0 };
    pub const ONE: Self = Self { hi: 1.0, lo: 0.0 };
    const LN_2: Self = Self {
        hi: std::f64::consts::LN_2,
        lo: 2.319_046_813_846_299_6e-17,
    };

    pub fn new(x: f64) -> Self {
        Self { hi: x, lo: 0.0 }
    }

    /// a - b, exact.
    pub fn difference(a: f64, b: f64) -> Self {
        two_sum(a, -b)
    }

    /// Times 2^n, n such that nothing is lost (or everything).
    pub fn scaled(self, n: i32) -> Self {
        Self {
            hi: scale(self.hi, n),
            lo: scale(self.lo, n),
        }
    }

    pub fn is_less(self, other: Self) -> bool {
        self.hi < other.hi || self.hi == other.hi && self.lo < other.lo
    }

    /// exp as (c, n): c 2^n with c in [0.7, 1.42], so that it neither over- nor underflows.
    ///
    /// exp(x) = 2^n exp(r)^64 with r = (x - n ln 2) / 64, and exp(r) by its Taylor series: 0.0055^12 / 12! < 2^-118.
    pub fn exp(self) -> (Self, i32) {
        if self.hi == f64::NEG_INFINITY || self.hi < -1e6 {
            return (Self::ZERO, 0);
        }
        let n = (self.hi / std::f64::consts::LN_2).round();
        // 64 r, then r: powers of two cost nothing.
        let r = (self - Self::LN_2 * Self::new(n)).scaled(-6);
        // exp(r) - 1 keeps the digits of r that 1 + r would not.
        let mut sum = Self::ZERO;
        for k in (1..=11).rev() {
            sum = (r + r * sum) / f64::from(k);
        }
        // (1 + t)^2 - 1 = t (2 + t), six times.
        for _ in 0..6 {
            sum = sum * (Self::new(2.0) + sum);
        }
        (Self::ONE + sum, n as i32)
    }

    /// exp for results within float64's range.
    pub fn exp_in_range(self) -> Self {
        let (c, n) = self.exp();
        c.scaled(n)
    }

    /// log(1 + s) for s >= 0.
    pub fn log1p(self) -> Self {
        if self.hi < 1e-290 {
            return self; // the next term is s^2 / 2; and halves of subnormal numbers are not exact
        }
        if self.hi < 1e-3 {
            // 2 artanh(z) with z = s / (2 + s): z + z^3/3 + z^5/5 + ...; z^16 < 2^-175.
            let z = self / (Self::new(2.0) + self);
            let square = z * z;
            let mut sum = Self::ZERO;
            for k in (0..8).rev() {
                sum = sum * square + Self::ONE / f64::from(2 * k + 1);
            }
            return (z * sum).scaled(1);
        }
        // One step of Newton's method from float64: y + w - w^2/2 with w = (1 + s) exp(-y) - 1.
        let u = Self::ONE + self;
        let y = Self::new(u.hi.ln());
        let w = u * (-y).exp_in_range() - Self::ONE;
        y + (w - (w * w).scaled(-1))
    }
}

impl Add for Wide {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        // The accurate variant: terms of either sign.
        let high = two_sum(self.hi, other.hi);
        if !high.hi.is_finite() {
            return Self::new(high.hi);
        }
        let low = two_sum(self.lo, other.lo);
        let sum = quick_two_sum(high.hi, high.lo + low.hi);
        quick_two_sum(sum.hi, sum.lo + low.lo)
    }
}

impl Neg for Wide {
    type Output = Self;
    fn neg(self) -> Self {
        Self {
            hi: -self.hi,
            lo: -self.lo,
        }
    }
}

impl Sub for Wide {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Wide {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let hi = self.hi * other.hi;
        let lo = self.hi.mul_add(other.hi, -hi) + (self.hi * other.lo + self.lo * other.hi);
        if hi.is_finite() {
            quick_two_sum(hi, lo)
        } else {
            Self::new(hi)
        }
    }
}

impl Div for Wide {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        // Two digits of schoolbook division, in base 2^53, and a correction.
        let first = self.hi / other.hi;
        if !first.is_finite() {
            return Self::new(first);
        }
        let left = self - other * Self::new(first);
        let second = left.hi / other.hi;
        let left = left - other * Self::new(second);
        quick_two_sum(first, second) + Self::new(left.hi / other.hi)
    }
}

impl Div<f64> for Wide {
    type Output = Self;
    fn div(self, other: f64) -> Self {
        // Enough for a Taylor series and for temperatures alike: two digits and a correction, as above.
        let first = self.hi / other;
        if !first.is_finite() {
            return Self::new(first);
        }
        let second = ((-first).mul_add(other, self.hi) + self.lo) / other;
        quick_two_sum(first, second)
    }
}

/// x 2^n in two steps, each a normal power of two.
pub fn scale(x: f64, n: i32) -> f64 {
    let n = n.clamp(-2100, 2100);
    let power = |n: i32| f64::from_bits(((n + 1023) as u64) << 52);
    let (third, rest) = (n / 3, n - 2 * (n / 3));
    x * power(third) * power(third) * power(rest)
}

/// A true value: `value` 2^`power`.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    pub value: Wide,
    pub power: i32,
}

impl Exact {
    pub fn new(value: Wide) -> Self {
        Self { value, power: 0 }
    }

    pub fn to_f64(self) -> f64 {
        scale(self.value.hi, self.power)
    }
}

/// The true results of a row: softmax and log_softmax of each element, and logsumexp.
pub struct Truth {
    pub softmax: Vec<Exact>,
    pub log_softmax: Vec<Exact>,
    pub logsumexp: Exact,
    pub max: f64,
    /// log(1 + s): logsumexp's other part.
    pub log: f64,
}

/// By the book (Blanchard, Higham and Higham 2021): m the maximum, s the sum of exp((x_j - m) / T) over the others,
/// p_i = exp((x_i - m) / T) / (1 + s), log p_i = (x_i - m) / T - log(1 + s), logsumexp = m / T + log(1 + s).
///
/// float64 rows need the wide numbers. For the other types float64 is wide: its errors are some 2^-26 of their ulps.
pub fn truth(dtype: Dtype, x: &[f64], temperature: f64) -> Truth {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let place = x.iter().position(|&v| v == max).unwrap_or(0);
    if dtype == Dtype::F64 {
        let arguments: Vec<Wide> = x.iter().map(|&v| Wide::difference(v, max) / temperature).collect();
        let exponentials: Vec<(Wide, i32)> = arguments.iter().map(|&d| d.exp()).collect();
        let mut tail = Wide::ZERO;
        for (j, &(e, n)) in exponentials.iter().enumerate() {
            if j != place {
                tail = tail + e.scaled(n);
            }
        }
        let log = tail.log1p();
        let total = Wide::ONE + tail;
        let quotient = |&(e, n): &(Wide, i32)| Exact {
            value: e / total,
            power: n,
        };
        return Truth {
            softmax: exponentials.iter().map(quotient).collect(),
            log_softmax: arguments.iter().map(|&d| Exact::new(d - log)).collect(),
            logsumexp: Exact::new(Wide::new(max) / temperature + log),
            max,
            log: log.hi,
        };
    }
    let arguments: Vec<f64> = x.iter().map(|&v| (v - max) / temperature).collect();
    let exponentials: Vec<f64> = arguments.iter().map(|d| d.exp()).collect();
    let mut tail = 0.0;
    // In pairs: a chain of 2^18 additions would be off by more than is tested for.
    let mut rest = 0.0;
    for (j, &e) in exponentials.iter().enumerate() {
        if j != place {
            let sum = two_sum(tail, e);
            tail = sum.hi;
            rest += sum.lo;
        }
    }
    let tail = tail + rest;
    let log = tail.ln_1p();
    let exact = |v: f64| Exact::new(Wide::new(v));
    Truth {
        softmax: exponentials.iter().map(|e| exact(e / (1.0 + tail))).collect(),
        log_softmax: arguments.iter().map(|d| exact(d - log)).collect(),
        // The one place where two halves cancel.
        logsumexp: Exact::new(Wide::new(max) / temperature + Wide::new(log)),
        max,
        log,
    }
}

/// What ULPs need to know of a type: bits of the significand and the exponents of its least and largest normal numbers.
pub fn format(dtype: Dtype) -> (i32, i32, i32) {
    match dtype {
        Dtype::F64 => (53, -1022, 1023),
        Dtype::F32 => (24, -126, 127),
        Dtype::F16 => (11, -14, 15),
        Dtype::Bf16 => (8, -126, 127),
        _ => unreachable!("the tests use floats"),
    }
}

/// floor(log2 |x|) of a normal number.
fn exponent(x: f64) -> i32 {
    ((x.to_bits() >> 52 & 0x7ff) as i32) - 1023
}

/// How far `actual` is from the truth, in units of the last place of `scale` (the truth itself where that is `None`).
/// Subnormal results have the ulp of the least normal number, infinity is the power of two that it stands for.
pub fn ulps(dtype: Dtype, actual: f64, exact: Exact, of: Option<f64>) -> f64 {
    if actual.is_nan() {
        return f64::INFINITY;
    }
    let (digits, least, largest) = format(dtype);
    let beyond = exact.value.hi.abs() > 0.0 && exponent(exact.value.hi) + exact.power > largest;
    if beyond || actual.is_infinite() && dtype == Dtype::F64 {
        let agrees = actual.is_infinite() && actual.is_sign_negative() == exact.value.hi.is_sign_negative();
        return if agrees && beyond { 0.0 } else { f64::INFINITY };
    }
    let actual = if actual.is_infinite() {
        scale(1.0, largest + 1).copysign(actual)
    } else {
        actual
    };
    // Everything times 2^-power, where the truth has no exponent to lose.
    let error = Wide::new(scale(actual, -exact.power)) - exact.value;
    let unit = match of {
        Some(of) => exponent(of.abs()),
        None if exact.value.hi == 0.0 => least,
        None => exponent(exact.value.hi) + exact.power,
    };
    let unit = unit.max(least) - (digits - 1) - exact.power;
    scale(error.hi.abs(), -unit)
}
