//! How far results are from the truth: every op, dtype and level, over lengths around the vector widths, spreads, offsets
//! and temperatures. Prints the largest error of each and the row that has it; fails beyond the promises below.

mod common;

use common::layout::{Case, Heat, Layout};
use common::reference::{Exact, Truth, truth, ulps};
use common::{DTYPES, OPS, Random, decode, encode, report, table, thinned};
use softmax_core::simd::Level;
use softmax_core::{Dtype, Op};

// The limits of the README, in ULP of the result where nothing else is said.
const SOFTMAX_F32: f64 = 3.0;
const SOFTMAX_F64: f64 = 3.5;
const LOG_SOFTMAX_F32: f64 = 1.5;
const LOG_SOFTMAX_F32_SHORT: f64 = 2.75;
const LOG_SOFTMAX_F64: f64 = 2.0;
/// In ULP of the largest of |m|, |result| and log1p(s).
const LOGSUMEXP_F32: f64 = 1.0;
const LOGSUMEXP_F64: f64 = 1.5;
/// Where m and log1p(s) cancel to less than a quarter.
const LOGSUMEXP_F32_CANCELLED: f64 = 8.0;
/// All of float16 and bfloat16: float32 arithmetic and one rounding.
const HALVES: f64 = 0.51;
/// Rows below this length have the limit called short.
const SHORT: usize = 64;
/// As do rows whose maximum is larger than this times a temperature that is not 1: they are moved, by a difference that is
/// rounded, before they are divided.
const SHIFTED: f64 = 1.99e5;
/// As do rows whose log1p(s) is below this (a probability is above 0.6).
const CERTAIN: f64 = 0.5;

/// Elements of a row that is computed block by block, in both types.
const LONG: usize = (1 << 18) + 5;

/// The shape of the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spread {
    /// N(0, 3).
    Normal,
    /// Uniform over 80.
    Uniform,
    /// Uniform over all that exp does not take for zero: results are subnormal or nothing.
    Everything,
    /// N(0, 3), and one element beyond them all: p = 1 - a trifle.
    Saturated,
    /// One element beside the maximum, the rest is nothing: the tail has the whole error of one exponential.
    Lonely,
    /// Small integers: many maxima.
    Ties,
    /// One element beside the maximum, and the rest so far below it that each rounds the tail as it is added.
    Trailing,
    /// One to three elements beside the maximum, and the rest below them by what rounds most of all.
    Few,
}

const SPREADS: [Spread; 8] = [
    Spread::Normal,
    Spread::Uniform,
    Spread::Everything,
    Spread::Saturated,
    Spread::Lonely,
    Spread::Ties,
    Spread::Trailing,
    Spread::Few,
];

/// What is added to them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Offset {
    By(f64),
    /// So that logsumexp is nearly 0.
    Cancelling,
}

/// How a row comes about.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    dtype: Dtype,
    n: usize,
    spread: Spread,
    offset: Offset,
    temperature: f64,
    /// Whether the logits are multiplied by the temperature, so that x / T has the spread that is named.
    scaled: bool,
}

impl Recipe {
    /// The row, in numbers of the dtype; `None` where the dtype has no such numbers.
    fn row(&self) -> Option<Vec<f64>> {
        let seed = self.n as u64 ^ self.temperature.to_bits() ^ (self.spread as u64) << 32;
        let mut random = Random(seed);
        let everything = if self.dtype == Dtype::F64 { 760.0 } else { 108.0 };
        let top = random.below(self.n);
        let mut other = Random(!seed);
        let second = -1.0 - 29.0 * other.uniform();
        let digits = if self.dtype == Dtype::F64 { 53.0 } else { 24.0 };
        let rest = second - digits * std::f64::consts::LN_2 - 6.0 + 7.5 * other.uniform();
        let (few, below) = (2 + other.below(3), 12.0 + (digits * 0.7 - 12.0) * other.uniform());
        let mut x: Vec<f64> = (0..self.n)
            .map(|j| match self.spread {
                Spread::Normal => 3.0 * random.normal(),
                Spread::Uniform => 80.0 * random.uniform(),
                Spread::Everything => everything * random.uniform(),
                Spread::Saturated if j == top => 25.0 + 20.0 * random.uniform(),
                Spread::Saturated => 3.0 * random.normal(),
                Spread::Lonely if j == top => 0.0,
                Spread::Lonely if j == (top + 1) % self.n => -40.0 * random.uniform(),
                Spread::Lonely => -60.0 - random.uniform(),
                Spread::Ties => (random.below(5) as f64) - 2.0,
                Spread::Trailing if j == top => 0.0,
                Spread::Trailing if j == (top + 1) % self.n => second,
                Spread::Trailing => rest,
                Spread::Few if j == top => 0.0,
                Spread::Few if (self.n + top + few - j) % self.n < few => -0.7 * random.uniform(),
                Spread::Few => -below,
            })
            .collect();
        if self.scaled {
            x.iter_mut().for_each(|v| *v *= self.temperature);
        }
        match self.offset {
            Offset::By(offset) => x.iter_mut().for_each(|v| *v += offset),
            Offset::Cancelling => {
                let logsumexp = truth(Dtype::F32, &x, 1.0).logsumexp.to_f64();
                x.iter_mut().for_each(|v| *v -= logsumexp);
            }
        }
        x.iter_mut()
            .for_each(|v| *v = decode(self.dtype, encode(self.dtype, *v)));
        x.iter().all(|v| v.is_finite()).then_some(x)
    }
}

/// All rows of a dtype.
fn recipes(dtype: Dtype) -> Vec<Recipe> {
    let short: Vec<usize> = (1..=70).chain([100, 127, 128, 129, 130, 255, 256, 257, 1000]).collect();
    let mut all = Vec::new();
    let temperatures = [
        (1.0, false),
        (0.7, false),
        (3.0, false),
        (1e-3, false),
        (1e-20, false),
        (1e20, false),
        (0.7, true),
        (3.0, true),
        (1e-3, true),
        (1e-20, true),
        (1e20, true),
        // Beyond what float32 (float64) can take powers of.
        (1e-35, true),
        (1e35, true),
        (1e-200, true),
        (1e200, true),
    ];
    let offsets = [0.0, 1e3, 1e5, -1.9e5, 4e6]
        .map(Offset::By)
        .into_iter()
        .chain([Offset::Cancelling]);
    for (o, offset) in offsets.enumerate() {
        for (t, &(temperature, scaled)) in temperatures.iter().enumerate() {
            for (s, &spread) in SPREADS.iter().enumerate() {
                let usual = temperature == 1.0;
                if offset == Offset::Cancelling && !usual {
                    continue; // is for logsumexp, which has no temperature
                }
                let recipe = |n| Recipe {
                    dtype,
                    n,
                    spread,
                    offset,
                    temperature,
                    scaled,
                };
                all.extend(short.iter().map(|&n| recipe(n)));
                // The long ones: all at T = 1, and some of each of the others.
                if usual || (o + t + s) % 5 == 0 {
                    all.extend([4095, 4096, 4097].map(recipe));
                }
                if usual && (o + s) % 3 == 0 || (o + t + s) % 25 == 0 {
                    all.push(recipe(20_000));
                }
            }
        }
    }
    for (spread, offset, temperature) in [
        (Spread::Normal, Offset::By(0.0), 1.0),
        (Spread::Everything, Offset::By(4e6), 1.0),
        (Spread::Uniform, Offset::By(1e3), 0.7),
        (Spread::Saturated, Offset::Cancelling, 1.0),
    ] {
        all.push(Recipe {
            dtype,
            n: LONG,
            spread,
            offset,
            temperature,
            scaled: false,
        });
    }
    all
}

/// What a limit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Softmax,
    LogSoftmax,
    LogSoftmaxShort,
    LogSumExp,
    LogSumExpCancelled,
}

const KINDS: [Kind; 5] = [
    Kind::Softmax,
    Kind::LogSoftmax,
    Kind::LogSoftmaxShort,
    Kind::LogSumExp,
    Kind::LogSumExpCancelled,
];

impl Kind {
    fn of(recipe: &Recipe, op: Op, truth: &Truth) -> Self {
        let moved = recipe.temperature != 1.0 && truth.max.abs() > SHIFTED * recipe.temperature;
        let short = recipe.n < SHORT || truth.log < CERTAIN || moved;
        match op {
            Op::Softmax => Self::Softmax,
            Op::LogSoftmax if short => Self::LogSoftmaxShort,
            Op::LogSoftmax => Self::LogSoftmax,
            // Where the promise is one for the result itself, in any dtype but float64.
            Op::LogSumExp
                if recipe.dtype != Dtype::F64
                    && truth.logsumexp.to_f64().abs() < truth.max.abs().max(truth.log) / 4.0 =>
            {
                Self::LogSumExpCancelled
            }
            Op::LogSumExp => Self::LogSumExp,
            _ => unreachable!("not a forward function"),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Softmax => "softmax".to_owned(),
            Self::LogSoftmaxShort => format!("log_softmax, n < {SHORT}, p > 0.6 or moved"),
            Self::LogSoftmax => format!("log_softmax, n >= {SHORT}, p < 0.6"),
            Self::LogSumExp => "logsumexp".to_owned(),
            Self::LogSumExpCancelled => "logsumexp, cancelling".to_owned(),
        }
    }

    fn limit(self, dtype: Dtype) -> f64 {
        let double = dtype == Dtype::F64;
        let pick = |f32: f64, f64: f64| if double { f64 } else { f32 };
        if matches!(dtype, Dtype::F16 | Dtype::Bf16) {
            return HALVES;
        }
        match self {
            Self::Softmax => pick(SOFTMAX_F32, SOFTMAX_F64),
            Self::LogSoftmaxShort => pick(LOG_SOFTMAX_F32_SHORT, LOG_SOFTMAX_F64),
            Self::LogSoftmax => pick(LOG_SOFTMAX_F32, LOG_SOFTMAX_F64),
            Self::LogSumExp => pick(LOGSUMEXP_F32, LOGSUMEXP_F64),
            Self::LogSumExpCancelled => LOGSUMEXP_F32_CANCELLED,
        }
    }
}

/// The largest error of one kind at one level.
#[derive(Clone, Debug)]
struct Worst {
    ulps: f64,
    recipe: Recipe,
    index: usize,
    actual: f64,
    expected: f64,
    rows: usize,
    /// Rows beyond the limit.
    failures: usize,
}

/// By level and kind.
type Found = Vec<((Level, Kind), Worst)>;

fn measure(dtype: Dtype, levels: &[Level]) -> Found {
    let mut found = Found::new();
    for recipe in thinned(&recipes(dtype), 0) {
        let Some(row) = recipe.row() else {
            continue;
        };
        let truth = truth(dtype, &row, recipe.temperature);
        let bits: Vec<u64> = row.iter().map(|&v| encode(dtype, v)).collect();
        for op in OPS {
            if op == Op::LogSumExp && recipe.temperature != 1.0 {
                continue;
            }
            let kind = Kind::of(&recipe, op, &truth);
            let one;
            let exact: &[Exact] = match op {
                Op::Softmax => &truth.softmax,
                Op::LogSoftmax => &truth.log_softmax,
                Op::LogSumExp => {
                    one = [truth.logsumexp];
                    &one
                }
                _ => unreachable!("not a forward function"),
            };
            let scale = match kind {
                Kind::LogSumExp if matches!(dtype, Dtype::F32 | Dtype::F64) => {
                    Some(truth.max.abs().max(truth.logsumexp.to_f64().abs()).max(truth.log))
                }
                _ => None,
            };
            for &level in levels {
                let case = Case {
                    level,
                    op,
                    dtype,
                    rows: 1,
                    n: recipe.n,
                    x: &bits,
                    mask: None,
                    temperature: Heat::One(recipe.temperature),
                };
                let results = Layout::packed(1, recipe.n, dtype.size()).run(&case);
                let mut worst = Worst {
                    ulps: -1.0,
                    recipe,
                    index: 0,
                    actual: 0.0,
                    expected: 0.0,
                    rows: 1,
                    failures: 0,
                };
                for (index, (&bits, &exact)) in results.iter().zip(exact).enumerate() {
                    let actual = decode(dtype, bits);
                    let error = ulps(dtype, actual, exact, scale);
                    if error > worst.ulps {
                        worst = Worst {
                            ulps: error,
                            index,
                            actual,
                            expected: exact.to_f64(),
                            ..worst
                        };
                    }
                }
                worst.failures = usize::from(worst.ulps > kind.limit(dtype));
                match found.iter_mut().find(|(key, _)| *key == (level, kind)) {
                    None => found.push(((level, kind), worst)),
                    Some((_, held)) => {
                        let (rows, failures) = (held.rows + 1, held.failures + worst.failures);
                        if worst.ulps > held.ulps {
                            *held = worst;
                        }
                        (held.rows, held.failures) = (rows, failures);
                    }
                }
            }
        }
    }
    found
}

#[test]
fn results_are_as_near_the_truth_as_promised() {
    let levels: Vec<Level> = Level::all_supported().collect();
    // A thread for each dtype.
    let found: Vec<(Dtype, Found)> = std::thread::scope(|scope| {
        let levels = &levels;
        let handles = DTYPES.map(|dtype| (dtype, scope.spawn(move || measure(dtype, levels))));
        handles
            .into_iter()
            .map(|(dtype, handle)| (dtype, handle.join().expect("the thread of a dtype")))
            .collect()
    });
    let mut rows = vec![
        [
            "max ULP", "dtype", "level", "found", "limit", "rows", "at n", "spread", "offset", "T",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let mut failures = Vec::new();
    for kind in KINDS {
        for (dtype, found) in &found {
            for &level in &levels {
                let Some((_, worst)) = found.iter().find(|(key, _)| *key == (level, kind)) else {
                    // float64 has no promise for results that cancel.
                    assert!(
                        kind == Kind::LogSumExpCancelled && *dtype == Dtype::F64,
                        "nothing measured"
                    );
                    continue;
                };
                let recipe = worst.recipe;
                let limit = kind.limit(*dtype);
                rows.push(vec![
                    kind.name(),
                    format!("{dtype:?}"),
                    level.name().to_owned(),
                    format!("{:.3}", worst.ulps),
                    limit.to_string(),
                    worst.rows.to_string(),
                    recipe.n.to_string(),
                    format!("{:?}", recipe.spread),
                    format!("{:?}", recipe.offset),
                    format!("{:?}{}", recipe.temperature, if recipe.scaled { " (x T)" } else { "" }),
                ]);
                if worst.failures > 0 {
                    failures.push(format!(
                        "{} {dtype:?} {}: {} of {} rows beyond {limit} ULP; the worst is {recipe:?}, element {}: \
                         expected {:e}, got {:e}: {} ULP",
                        kind.name(),
                        level.name(),
                        worst.failures,
                        worst.rows,
                        worst.index,
                        worst.expected,
                        worst.actual,
                        worst.ulps
                    ));
                }
            }
        }
    }
    report(&table(&rows));
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// The reference against numbers that are known otherwise.
#[test]
fn the_reference_is_right() {
    use common::reference::Wide;
    // e = 2.71828182845904523536028747135266249775724709369995..., as a sum of two float64.
    let e = Wide::ONE.exp_in_range();
    assert_eq!(e.hi, std::f64::consts::E);
    assert!((e.lo - 1.445_646_891_729_250_2e-16).abs() < 1e-30, "{:e}", e.lo);
    // log 2 and log 3 = 1.09861228866810969139524523692252570464749055782275...
    let ln_2 = Wide::ONE.log1p();
    assert_eq!(ln_2.hi, std::f64::consts::LN_2);
    assert!((ln_2.lo - 2.319_046_813_846_299_6e-17).abs() < 1e-31, "{:e}", ln_2.lo);
    let mut random = Random(1);
    for _ in 0..2000 {
        // Inverses of one another, over all magnitudes, either branch of log1p.
        let y = Wide::new(10_f64.powf(-18.0 * random.uniform()) * 40.0);
        let s = y.exp_in_range() - Wide::ONE;
        let error = (s.log1p() - y).hi / y.hi;
        // exp(y) - 1 has lost what 1 + y cannot hold.
        assert!(error.abs() < 1e-30 + 1e-31 / y.hi, "y = {:e}: {error:e}", y.hi);
        // exp(a) exp(-a) = 1, but for the hundredth bit of a.
        let a = Wide::new(600.0 * random.uniform());
        let one = a.exp_in_range() * (-a).exp_in_range();
        assert!((one - Wide::ONE).hi.abs() < 1e-27, "a = {:e}", a.hi);
    }
    // Half an ulp is half an ulp, also where numbers are subnormal, and infinity has its place.
    let tiny = f64::from(f32::from_bits(5));
    assert_eq!(ulps(Dtype::F32, tiny, Exact::new(Wide::new(tiny * 0.9)), None), 0.5);
    assert_eq!(
        ulps(Dtype::F64, 1.0, Exact::new(Wide::new(1.0 + 3.0 * f64::EPSILON)), None),
        3.0
    );
    assert_eq!(
        ulps(Dtype::F16, f64::INFINITY, Exact::new(Wide::new(65_520.0)), None),
        0.5
    );
    assert_eq!(ulps(Dtype::F16, f64::INFINITY, Exact::new(Wide::new(1e6)), None), 0.0);
    assert_eq!(
        ulps(Dtype::F16, 65_504.0, Exact::new(Wide::new(1e6)), None),
        f64::INFINITY
    );
    assert_eq!(ulps(Dtype::F32, f64::NAN, Exact::new(Wide::ONE), None), f64::INFINITY);
}
