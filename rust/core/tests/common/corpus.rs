//! Rows made of integers alone: the same bits on every machine, whatever its mathematical library and its float units.

use softmax_core::Dtype;

use super::Random;

/// Bits of the exponent and of the fraction.
fn fields(dtype: Dtype) -> (u32, u32) {
    match dtype {
        Dtype::F64 => (11, 52),
        Dtype::F32 => (8, 23),
        Dtype::F16 => (5, 10),
        Dtype::Bf16 => (8, 7),
        _ => unreachable!("the tests use floats"),
    }
}

/// The bits of one float.
fn float(dtype: Dtype, negative: bool, exponent: i64, fraction: u64) -> u64 {
    let (exponents, fractions) = fields(dtype);
    let bias = (1 << (exponents - 1)) - 1;
    (u64::from(negative) << (exponents + fractions)) | ((exponent + bias) as u64) << fractions | fraction
}

/// A float with any sign and fraction, and an exponent of the range (both ends are in it).
pub fn any(dtype: Dtype, random: &mut Random, exponents: [i64; 2]) -> u64 {
    let bits = random.bits();
    let [low, high] = exponents;
    let exponent = low + ((bits >> 1) % (high - low + 1) as u64) as i64;
    let fraction = random.bits() & ((1 << fields(dtype).1) - 1);
    float(dtype, bits & 1 == 1, exponent, fraction)
}

/// Kinds of rows; the last four have no probabilities, or some at the edge.
pub const KINDS: usize = 13;

/// Row `r` is of the kind `r % KINDS`.
pub fn rows(dtype: Dtype, rows: usize, n: usize) -> Vec<u64> {
    (0..rows).flat_map(|r| row(dtype, r, n)).collect()
}

fn row(dtype: Dtype, r: usize, n: usize) -> Vec<u64> {
    let mut random = Random(r as u64 * 1_000_003 + n as u64);
    let random = &mut random;
    let (exponents, fractions) = fields(dtype);
    let specials = (1 << exponents) / 2;
    let infinity = |negative| float(dtype, negative, specials, 0);
    // Beyond what the exponent shift reaches (float16 has no such numbers).
    let far = match dtype {
        Dtype::F16 => 14,
        Dtype::F64 => 50,
        _ => 22,
    };
    let mut place = |n: usize| (random.bits() % n as u64) as usize;
    let [here, there] = [place(n), place(n)];
    let mut each = |f: &mut dyn FnMut(&mut Random) -> u64| (0..n).map(|_| f(random)).collect::<Vec<u64>>();
    let usual = [-3, 2];
    let mut row = match r % KINDS {
        // Far away, and near each other: the fractions differ in a few of the last bits.
        1 => each(&mut |random| float(dtype, false, far, random.bits() & ((1 << fractions.min(6)) - 1))),
        // A saturated row, the tail around -40.
        2 => each(&mut |random| any(dtype, random, [5, 5]) | 1 << (exponents + fractions)),
        // Results over all magnitudes, subnormal numbers among them.
        3 => each(&mut |random| any(dtype, random, [3, 6])),
        // Ties.
        4 => each(&mut |random| float(dtype, random.bits() & 1 == 1, (random.bits() & 1) as i64, 0)),
        // Subnormal logits.
        5 => each(&mut |random| float(dtype, false, 1 - specials, random.bits() & ((1 << fractions) - 1))),
        // As far apart as the type has numbers.
        6 => each(&mut |random| any(dtype, random, [2 - specials, specials - 1])),
        12 => vec![float(dtype, true, specials - 1, (1 << fractions) - 1); n],
        _ => each(&mut |random| any(dtype, random, usual)),
    };
    match r % KINDS {
        2 => row[here] = 0,
        7 => row.iter_mut().step_by(3).for_each(|x| *x = infinity(true)),
        // With a payload, and either sign.
        8 => row[here] = infinity((r / KINDS).is_multiple_of(2)) | 1 << (fractions - 1) | 5,
        9 => row[here] = infinity(false),
        10 => row.fill(infinity(true)),
        11 => {
            row[there] = infinity(false);
            row[here] = infinity(true) | 1 << (fractions - 1);
        }
        12 => row[here] = float(dtype, false, specials - 1, (1 << fractions) - 1),
        _ => {}
    }
    row
}
