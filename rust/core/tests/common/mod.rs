//! What the integration tests share: a readable reference in twice float64's precision, ULPs, random rows, and a runner
//! that lays the same numbers out in memory in any way and watches the bytes in between.

#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

pub mod corpus;
pub mod elementary;
pub mod every;
pub mod layout;
pub mod mode;
pub mod reference;

use std::fmt::Write as _;
use std::io::Write as _;

use softmax_core::simd::Level;
use softmax_core::{Dtype, Op, probe};

/// The forward functions; the errors of the others are the Python tests' business, which run at every level.
pub const OPS: [Op; 3] = [Op::Softmax, Op::LogSoftmax, Op::LogSumExp];
/// All but the Jacobians, whose results have a shape of their own.
pub const ALL_OPS: [Op; 10] = [
    Op::Softmax,
    Op::LogSoftmax,
    Op::LogSumExp,
    Op::SoftmaxProduct,
    Op::LogSoftmaxJvp,
    Op::LogSoftmaxVjp,
    Op::LogSumExpJvp,
    Op::LogSumExpVjp,
    Op::SoftmaxBackward,
    Op::LogSoftmaxBackward,
];
pub const DTYPES: [Dtype; 4] = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16];

/// Prints past libtest's capture: these tables are results, wanted from passing tests too.
pub fn report(text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe must not fail a test.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// A table with aligned columns.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|row| row.get(c))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, &width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Every level there is, on whatever architecture.
pub const LEVELS: [Level; 4] = [Level::Portable, Level::Avx2, Level::Avx512, Level::Neon];

/// Whether `run` entered code of the level: what was asked for and what ran may be two things.
///
/// # Panics
/// If code of another level ran, the portable one aside: every level does rare rows with it.
pub fn entered(level: Level, run: impl FnOnce()) -> bool {
    let counts = || LEVELS.map(probe::entered);
    let before = counts();
    run();
    let after = counts();
    for (other, (before, after)) in LEVELS.into_iter().zip(before.into_iter().zip(after)) {
        let may_run = other == level || other == Level::Portable;
        assert!(may_run || before == after, "{} ran, not {}", other.name(), level.name());
    }
    let index = LEVELS.into_iter().position(|l| l == level).expect("one of them");
    after[index] > before[index]
}

/// Emulators are some fifty times slower than CPUs: with `SOFTMAX_RS_TEST_SHARE=10` a test takes every tenth of its cases.
pub fn share() -> usize {
    let value = std::env::var("SOFTMAX_RS_TEST_SHARE").unwrap_or_else(|_| "1".to_owned());
    value.parse().expect("SOFTMAX_RS_TEST_SHARE is a positive integer")
}

/// The share of these cases, one at least; other ones for another `which`.
pub fn thinned<T: Copy>(cases: &[T], which: usize) -> Vec<T> {
    let share = share().min(cases.len().max(1));
    let taken = cases
        .iter()
        .enumerate()
        .filter(|(i, _)| (i + which).is_multiple_of(share));
    taken.map(|(_, &case)| case).collect()
}

/// splitmix64 (Steele, Lea and Flood 2014): five lines, the same numbers for ever, no dependency.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// A number as memory holds it.
pub fn encode(dtype: Dtype, value: f64) -> u64 {
    match dtype {
        Dtype::F64 => value.to_bits(),
        Dtype::F32 => u64::from((value as f32).to_bits()),
        // By way of float32, as half's `from_f64` does on CPUs with F16C, but not on others.
        Dtype::F16 => u64::from(half::f16::from_f32(value as f32).to_bits()),
        Dtype::Bf16 => u64::from(half::bf16::from_f64(value).to_bits()),
        _ => unreachable!("the tests use floats"),
    }
}

/// The inverse of [`encode`].
pub fn decode(dtype: Dtype, bits: u64) -> f64 {
    match dtype {
        Dtype::F64 => f64::from_bits(bits),
        Dtype::F32 => f64::from(f32::from_bits(bits as u32)),
        Dtype::F16 => half::f16::from_bits(bits as u16).to_f64(),
        Dtype::Bf16 => half::bf16::from_bits(bits as u16).to_f64(),
        _ => unreachable!("the tests use floats"),
    }
}
