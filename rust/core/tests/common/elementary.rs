//! exp and log1p against their contracts, as densely as the caller has time for: every float or a stride of them. Each
//! function checks all levels on the same arguments (the reference is what takes the time) and brings a table.

use std::sync::atomic::{AtomicUsize, Ordering};

use softmax_core::Dtype;
use softmax_core::probe::{self, EXP_SCALE_F32, EXP_SCALE_F64};
use softmax_core::simd::Level;

use super::Random;
use super::reference::{Exact, Wide, ulps};
use super::table;

/// The contracts' limits, in ULP.
const EXP: f64 = 1.05;
const LOG1P: f64 = 1.0;

/// Maxima of rows: x runs over all of [m - 104, m].
pub const MAXIMA_F32: [f32; 11] = [0.0, 1.0, -1.0, 17.3, -17.3, 300.0, -300.0, 1e4, -1e4, 1.9e5, -1.9e5];
/// The same; float64's exponent shift reaches further.
pub const MAXIMA_F64: [f64; 15] = [
    0.0, 1.0, -1.0, 17.3, -17.3, 300.0, -300.0, 1e4, -1e4, 1.9e5, -1.9e5, 1e9, -1e9, 1e13, -1e13,
];

/// What was found for one level.
#[derive(Clone, Copy, Debug)]
struct Found {
    ulps: f64,
    at: f64,
    count: usize,
    /// Pairs of arguments in order whose results are not, and the first argument of one.
    inversions: usize,
    inverted: f64,
}

impl Found {
    const NOTHING: Self = Self {
        ulps: -1.0,
        at: f64::NAN,
        count: 0,
        inversions: 0,
        inverted: f64::NAN,
    };

    fn merge(self, other: Self) -> Self {
        let worse = if other.ulps > self.ulps { other } else { self };
        let inverted = if self.inversions > 0 { self } else { other };
        Self {
            ulps: worse.ulps,
            at: worse.at,
            count: self.count + other.count,
            inversions: self.inversions + other.inversions,
            inverted: inverted.inverted,
        }
    }

    /// From results for arguments in ascending order.
    fn of(arguments: impl Fn(usize) -> f64, results: impl Fn(usize) -> f64, errors: impl Iterator<Item = f64>) -> Self {
        let mut found = Self::NOTHING;
        let mut before = f64::NEG_INFINITY;
        for (i, error) in errors.enumerate() {
            if error.is_nan() || error > found.ulps {
                found.ulps = if error.is_nan() { f64::INFINITY } else { error };
                found.at = arguments(i);
            }
            let result = results(i);
            if result.is_nan() || result < before {
                if found.inversions == 0 {
                    found.inverted = arguments(i);
                }
                found.inversions += 1;
            }
            before = result;
            found.count += 1;
        }
        found
    }
}

/// `f` of each of `0..count`, on all CPUs, merged level by level.
fn parallel(count: usize, f: impl Fn(usize) -> Vec<Found> + Sync) -> Vec<Found> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut all = vec![Found::NOTHING; Level::all_supported().count()];
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return all;
            }
            for (held, found) in all.iter_mut().zip(f(i)) {
                *held = held.merge(found);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("a thread of the test"))
            .reduce(|a, b| a.into_iter().zip(b).map(|(a, b)| a.merge(b)).collect())
            .expect("at least one thread")
    })
}

/// At temperatures other than 1 neighbouring floats may come out in the wrong order this often.
const RARE: f64 = 1e-5;

/// A table of results, and what broke the contract.
struct Report {
    title: String,
    limit: f64,
    /// Which part of the results may be less than that of the argument before; none where that is not counted.
    inverted: Option<f64>,
    rows: Vec<Vec<String>>,
    failures: Vec<String>,
}

impl Report {
    fn new(title: &str, limit: f64, inverted: Option<f64>) -> Self {
        let head = ["m", "T", "level", "arguments", "max ULP", "at", "inversions"];
        Self {
            title: title.to_owned(),
            limit,
            inverted,
            rows: vec![head.map(str::to_owned).to_vec()],
            failures: Vec::new(),
        }
    }

    fn add(&mut self, m: f64, temperature: f64, found: &[Found]) {
        for (level, found) in Level::all_supported().zip(found) {
            self.rows.push(vec![
                format!("{m:?}"),
                format!("{temperature:?}"),
                level.name().to_owned(),
                found.count.to_string(),
                format!("{:.4}", found.ulps),
                format!("{:e}", found.at),
                if self.inverted.is_some() {
                    found.inversions.to_string()
                } else {
                    "-".to_owned()
                },
            ]);
            let row = format!("{}, {}, m = {m:?}, T = {temperature:?}", self.title, level.name());
            if found.ulps > self.limit || found.count == 0 {
                self.failures.push(format!(
                    "{row}: {} ULP at {:e} of {} arguments, {} are allowed",
                    found.ulps, found.at, found.count, self.limit
                ));
            }
            if self
                .inverted
                .is_some_and(|part| found.inversions as f64 > part * found.count as f64)
            {
                self.failures.push(format!(
                    "{row}: {} results are less than that of the argument before, the first at {:e}",
                    found.inversions, found.inverted
                ));
            }
        }
    }

    #[track_caller]
    fn finish(self) -> String {
        let text = format!("{} (at most {} ULP)\n{}", self.title, self.limit, table(&self.rows));
        assert!(self.failures.is_empty(), "\n{text}\n{}\n", self.failures.join("\n"));
        text
    }
}

/// float32 in their order as integers.
fn key(x: f32) -> i64 {
    let bits = i64::from(x.to_bits() & 0x7fff_ffff);
    if x.is_sign_negative() { -bits } else { bits }
}

fn from_key(key: i64) -> f32 {
    f32::from_bits(key.unsigned_abs() as u32 | if key < 0 { 1 << 31 } else { 0 })
}

/// Calls `check` with ascending floats of [low, high], every `stride`-th, in chunks of which each begins with the last
/// float of the one before (a step down between two chunks would go unseen otherwise).
fn each_float(low: f32, high: f32, stride: usize, check: impl Fn(&[f32]) -> Vec<Found> + Sync) -> Vec<Found> {
    const CHUNK: usize = 1 << 15;
    let (first, last) = (key(low), key(high));
    let count = (last - first) as usize / stride + 1;
    parallel(count.div_ceil(CHUNK), |chunk| {
        let start = (chunk * CHUNK).saturating_sub(1);
        let end = count.min((chunk + 1) * CHUNK);
        let mut values: Vec<f32> = (start..end).map(|i| from_key(first + (i * stride) as i64)).collect();
        if end == count {
            values.push(high);
        }
        check(&values)
    })
}

/// |actual - expected| in ULP of a normal float32, without branches: this runs 10^10 times.
fn ulps_f32(actual: f32, expected: f64) -> f64 {
    const FRACTION_BITS: u64 = 23;
    let field = expected.to_bits() >> 52; // expected > 0
    let inverse = f64::from_bits((2046 + FRACTION_BITS - field) << 52);
    (f64::from(actual) - expected).abs() * inverse
}

/// n ln 2 leaves `x` by a first part whose product with any exponent is exact.
const LN_2_HI: f64 = f64::from_bits(std::f64::consts::LN_2.to_bits() & !((1 << 21) - 1));
const LN_2_LO: f64 = (std::f64::consts::LN_2 - LN_2_HI) + 2.319_046_813_846_299_6e-17;

/// Checks ascending arguments of one row. float64 is reference enough: its error is below 1e-3 ULP of float32.
fn check_exp_f32(m: f32, temperature: f64, arguments: &[f32]) -> Vec<Found> {
    let mut reference = Vec::new();
    let mut reference_octaves = f64::NAN;
    Level::all_supported()
        .map(|level| {
            let mut results = arguments.to_vec();
            let octaves = probe::exp_f32(level, m, temperature, &mut results).expect("a supported level");
            // The exponent that was shifted out is the same at all levels, or nearly.
            if octaves != reference_octaves {
                reference_octaves = octaves;
                reference.clear();
                reference.extend(arguments.iter().map(|&x| {
                    let x = f64::from(x) / temperature;
                    EXP_SCALE_F32 * ((x - octaves * LN_2_HI) - octaves * LN_2_LO).exp()
                }));
            }
            Found::of(
                |i| f64::from(arguments[i]),
                |i| f64::from(results[i]),
                results
                    .iter()
                    .zip(&reference)
                    .map(|(&actual, &expected)| ulps_f32(actual, expected)),
            )
        })
        .collect()
}

/// exp of float32 over every `stride`-th float of [m - 104, m] for each m.
pub fn exp_f32(maxima: &[f32], stride: usize) -> String {
    let mut report = Report::new("exp, float32", EXP, Some(0.0));
    for &m in maxima {
        let low = (f64::from(m) - 104.0) as f32;
        let found = each_float(low, m, stride, |arguments| check_exp_f32(m, 1.0, arguments));
        report.add(f64::from(m), 1.0, &found);
    }
    report.finish()
}

fn check_exp_f64(m: f64, temperature: f64, arguments: &[f64]) -> Vec<Found> {
    const LN_2: Wide = Wide {
        hi: std::f64::consts::LN_2,
        lo: 2.319_046_813_846_299_6e-17,
    };
    // The power of two in EXP_SCALE_F64 waits until exp's own is known, or small results would lose their low parts.
    const SCALE_OCTAVES: i32 = 128;
    let kappa = Wide::new(EXP_SCALE_F64).scaled(-SCALE_OCTAVES);
    let mut reference: Vec<Exact> = Vec::new();
    let mut reference_octaves = f64::NAN;
    Level::all_supported()
        .map(|level| {
            let mut results = arguments.to_vec();
            let octaves = probe::exp_f64(level, m, temperature, &mut results).expect("a supported level");
            if octaves != reference_octaves {
                reference_octaves = octaves;
                reference.clear();
                reference.extend(arguments.iter().map(|&x| {
                    let (e, n) = (Wide::new(x) / temperature - LN_2 * Wide::new(octaves)).exp();
                    Exact::new((e * kappa).scaled(n + SCALE_OCTAVES))
                }));
            }
            Found::of(
                |i| arguments[i],
                |i| results[i],
                results
                    .iter()
                    .zip(&reference)
                    .map(|(&actual, &expected)| ulps(Dtype::F64, actual, expected, None)),
            )
        })
        .collect()
}

/// Ascending numbers of [m - width, m], each with its successor.
fn sample_f64(m: f64, width: f64, count: usize, random: &mut Random) -> Vec<f64> {
    let mut x: Vec<f64> = (0..count / 2)
        .map(|i| {
            // Half of them near the maximum, on all scales.
            let below = if i % 2 == 0 {
                width * random.uniform()
            } else {
                width * 2_f64.powf(-60.0 * random.uniform())
            };
            m - below
        })
        .flat_map(|x| [x, x.next_up().min(m)])
        .collect();
    x.push(m);
    x.sort_by(f64::total_cmp);
    x
}

/// exp of float64 over some `count` numbers of [m - 745, m] for each m.
pub fn exp_f64(maxima: &[f64], count: usize) -> String {
    let mut report = Report::new("exp, float64", EXP, Some(0.0));
    for &m in maxima {
        report.add(
            m,
            1.0,
            &each_sample(count, |random, count| {
                check_exp_f64(m, 1.0, &sample_f64(m, 745.0, count, random))
            }),
        );
    }
    report.finish()
}

/// `check` with generators and counts that make `count` in all.
fn each_sample(count: usize, check: impl Fn(&mut Random, usize) -> Vec<Found> + Sync) -> Vec<Found> {
    const CHUNK: usize = 10_000;
    parallel(count.div_ceil(CHUNK), |chunk| {
        check(&mut Random(chunk as u64), CHUNK.min(count))
    })
}

/// exp(x / T) over some `count` numbers for each T and m, both types.
pub fn exp_of_temperatures(count: usize) -> String {
    let mut report = Report::new("exp(x / T), float32", EXP, Some(RARE));
    for temperature in [0.7, 3.0, 1e-3, 2e-5, 5e4] {
        for m in [0.0, 17.3, -300.0, 1.9e5] {
            let m = (m * temperature) as f32;
            let found = each_sample(count, |random, count| {
                let mut x: Vec<f32> = sample_f64(f64::from(m), 104.0 * temperature, count, random)
                    .iter()
                    .map(|&x| (x as f32).min(m))
                    .collect();
                x.sort_by(f32::total_cmp);
                check_exp_f32(m, temperature, &x)
            });
            report.add(f64::from(m), temperature, &found);
        }
    }
    let first = report.finish();
    let mut report = Report::new("exp(x / T), float64", EXP, Some(RARE));
    for temperature in [0.7, 3.0, 1e-3, 1e-25, 1e25] {
        for m in [0.0, 17.3, -300.0, 1e13] {
            let m = m * temperature;
            let found = each_sample(count, |random, count| {
                check_exp_f64(m, temperature, &sample_f64(m, 745.0 * temperature, count, random))
            });
            report.add(m, temperature, &found);
        }
    }
    format!("{first}\n{}", report.finish())
}

/// The upper end of log1p's domain here.
const LOG1P_END: f64 = (1_u64 << 40) as f64;

/// log1p of float32 over every `stride`-th float of [0, 2^40].
pub fn log1p_f32(stride: usize) -> String {
    let mut report = Report::new("log1p, float32, [0, 2^40]", LOG1P, None);
    let least = f64::from(f32::MIN_POSITIVE);
    let found = each_float(0.0, LOG1P_END as f32, stride, |arguments| {
        let reference: Vec<f64> = arguments.iter().map(|&s| f64::from(s).ln_1p()).collect();
        Level::all_supported()
            .map(|level| {
                let mut results = arguments.to_vec();
                probe::log1p_f32(level, &mut results).expect("a supported level");
                let errors = results.iter().zip(&reference).map(|(&actual, &expected)| {
                    // Subnormal results have the least normal number's ulp.
                    ulps_f32(actual, expected)
                        .min((f64::from(actual) - expected).abs() / (least * f64::from(f32::EPSILON)))
                });
                Found::of(|i| f64::from(arguments[i]), |i| f64::from(results[i]), errors)
            })
            .collect()
    });
    report.add(0.0, 1.0, &found);
    report.finish()
}

/// log1p of float64 over some `count` numbers of [0, 2^40].
pub fn log1p_f64(count: usize) -> String {
    let mut report = Report::new("log1p, float64, [0, 2^40]", LOG1P, None);
    let found = each_sample(count, |random, count| {
        let mut arguments: Vec<f64> = (0..count)
            .map(|i| match i % 3 {
                // All scales; around 1; where 1 + s turns at sqrt(2).
                0 => 2_f64.powf(-60.0 + 100.0 * random.uniform()),
                1 => 4.0 * random.uniform(),
                _ => (0.414 + 0.001 * random.uniform()) * 2_f64.powi(random.below(30) as i32),
            })
            .collect();
        arguments.extend([0.0, f64::from_bits(1), f64::MIN_POSITIVE, 1e-300, LOG1P_END]);
        let reference: Vec<Exact> = arguments.iter().map(|&s| Exact::new(Wide::new(s).log1p())).collect();
        Level::all_supported()
            .map(|level| {
                let mut results = arguments.clone();
                probe::log1p_f64(level, &mut results).expect("a supported level");
                let errors = results
                    .iter()
                    .zip(&reference)
                    .map(|(&actual, &expected)| ulps(Dtype::F64, actual, expected, None));
                Found::of(|i| arguments[i], |i| results[i], errors)
            })
            .collect()
    });
    report.add(0.0, 1.0, &found);
    report.finish()
}
