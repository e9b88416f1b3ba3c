//! Golden bits: the results of every function on a fixed corpus, as hashes that are kept in `golden.txt`. Every level with
//! fused multiply-add (AVX2, AVX-512, NEON) must reproduce one of them, the portable level the other, on whatever machine.
//!
//! After a change that is meant to change bits, `make golden` writes the file anew (for this file alone:
//! `SOFTMAX_RS_GOLDEN=write cargo test --release -p softmax-core --test golden`), on a CPU with AVX2 or NEON.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use common::every::{Function, Place};
use common::{DTYPES, LEVELS, corpus, decode, encode, entered, report, table, thinned};
use softmax_core::simd::Level;
use softmax_core::{Dtype, parallel};

/// Around the widths of vectors, groups of four of them and tiles; beyond a batch; beyond the block of a long row.
const LENGTHS: [usize; 24] = [
    1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 128, 130, 257, 1000, 1025, 4099,
];
/// In elements of float32 and float64: rows that are computed block by block.
const LONG: [usize; 2] = [(1 << 18) + 3, (1 << 17) + 3];
/// As many rows as a panel has lanes, and some; each kind at least once.
const ROWS: usize = 18;
const TEMPERATURES: [f64; 3] = [1.0, 0.7, 1e-20];

/// FNV-1a (Fowler, Noll and Vo 1991) of the bytes, the lowest first.
struct Hash(u64);

impl Hash {
    fn add(&mut self, numbers: &[u64]) {
        for number in numbers {
            for byte in number.to_le_bytes() {
                self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
}

/// What a level gave for a function and a dtype.
struct Found {
    hash: u64,
    /// Some results, to read.
    some: Vec<u64>,
    /// Calls that ran code of the level.
    cases: usize,
}

fn compute(level: Level, function: Function, dtype: Dtype) -> Found {
    let mut hash = Hash(0xcbf2_9ce4_8422_2325);
    let (mut some, mut cases) = (Vec::new(), 0);
    let is_jacobian = matches!(function, Function::Jacobian(_));
    let mut case = |n: usize, rows: usize, temperature: f64| {
        let x = corpus::rows(dtype, rows, n);
        let mut results = Vec::new();
        let run = || results = function.run(level, dtype, n, &x, temperature, Place::PLAIN);
        cases += usize::from(entered(level, run));
        hash.add(&results);
        // (Losses are float64, and no concern of the dtype's.)
        let elements = results.len() - if function.has_losses() { rows } else { 0 };
        for (i, &bits) in results[..elements].iter().enumerate() {
            assert!(
                !decode(dtype, bits).is_nan() || bits == encode(dtype, f64::NAN),
                "{} {dtype:?} on {}, rows of {n}: result {i} is the NaN {bits:#x}, which is not the canonical one",
                function.name(),
                level.name()
            );
        }
        if n == 3 && temperature == 1.0 {
            some = results[..3].to_vec();
        }
    };
    for n in LENGTHS.into_iter().filter(|&n| !is_jacobian || n <= 130) {
        for temperature in TEMPERATURES {
            if temperature == 1.0 || (function.has_temperature() && n <= 130) {
                case(n, if n < 200 { ROWS } else { corpus::KINDS }, temperature);
            }
        }
    }
    if !is_jacobian && matches!(dtype, Dtype::F32 | Dtype::F64) {
        case(LONG[usize::from(dtype == Dtype::F64)], 1, 1.0);
    }
    Found {
        hash: hash.0,
        some,
        cases,
    }
}

/// The number in the notation of C's `%a`, which has all its bits.
fn hexadecimal(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let (bits, sign) = (value.to_bits(), if value.is_sign_negative() { "-" } else { "" });
    let (field, fraction) = (bits >> 52 & 0x7ff, bits & ((1 << 52) - 1));
    let (lead, exponent) = if field == 0 {
        (0, -1022)
    } else {
        (1, field as i64 - 1023)
    };
    let digits = format!("{fraction:013x}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!(
        "{sign}0x{lead}{point}{digits}p{}",
        if value == 0.0 { 0 } else { exponent }
    )
}

/// The lines of the file: the key, then the hash of the vector levels, that of the portable one, and some results of the
/// former.
type Lines = BTreeMap<String, [String; 2]>;

const HEAD: &str = "\
# The bits of every function on the corpus of golden.rs: a hash for the levels with fused multiply-add, one for the portable
# level, and the first results of the former for rows of three. Written by `make golden`; every level must reproduce it.
";

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.txt")
}

fn read() -> Lines {
    let text = std::fs::read_to_string(path()).expect("tests/golden.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let &[function, dtype, vector, portable, ..] = &words[..] else {
                panic!("golden.txt has a line that is none: {line}");
            };
            (format!("{function} {dtype}"), [vector, portable].map(str::to_owned))
        })
        .collect()
}

#[test]
fn every_level_gives_the_golden_bits() {
    let levels: Vec<Level> = Level::all_supported().collect();
    let is_writing = std::env::var_os("SOFTMAX_RS_GOLDEN").is_some_and(|value| value == "write");
    let golden = if is_writing { Lines::new() } else { read() };
    let mut rows = vec![vec!["function".to_owned(), "dtype".to_owned()]];
    rows[0].extend(levels.iter().map(|level| level.name().to_owned()));
    let (mut text, mut problems) = (HEAD.to_owned(), Vec::new());
    for function in Function::all() {
        for dtype in DTYPES {
            let key = format!("{} {dtype:?}", function.name());
            let mut cells = vec![function.name(), format!("{dtype:?}")];
            let mut hashes = [None, None];
            let mut some = String::new();
            for &level in &levels {
                let found = compute(level, function, dtype);
                cells.push(found.cases.to_string());
                if found.cases == 0 {
                    problems.push(format!("{key}: no code of the level {} ran", level.name()));
                }
                let hash = format!("{:016x}", found.hash);
                let which = usize::from(level == Level::Portable);
                let expected = match (&hashes[which], golden.get(&key)) {
                    (Some(before), _) if is_writing => before,
                    (None, None) if is_writing => &hash,
                    (_, Some(line)) => &line[which],
                    _ => "no line in golden.txt",
                };
                let results: Vec<String> = found
                    .some
                    .iter()
                    .map(|&bits| hexadecimal(decode(dtype, bits)))
                    .collect();
                let results = results.join(" ");
                if hash != *expected {
                    problems.push(format!(
                        "{key} on {}: {hash}, not {expected}; rows of three begin with {results}",
                        level.name()
                    ));
                }
                hashes[which] = Some(hash);
                some = results;
            }
            rows.push(cells);
            let [vector, portable] = hashes.map(Option::unwrap_or_default);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} {vector} {portable} {some}");
        }
    }
    let absent: Vec<&str> = LEVELS
        .iter()
        .filter(|l| !levels.contains(l))
        .map(|l| l.name())
        .collect();
    report(&format!(
        "golden bits: calls that ran, by level (this machine does not have {})\n{}",
        absent.join(", "),
        table(&rows)
    ));
    assert!(
        problems.is_empty(),
        "{} differ from golden.txt. If their bits were meant to change, `make golden` writes the file anew.\n{}",
        problems.len(),
        problems.join("\n")
    );
    if is_writing {
        assert!(levels.len() > 1, "no level here that has fused multiply-add");
        std::fs::write(path(), text).expect("tests/golden.txt");
    } else {
        assert_eq!(
            rows.len() - 1,
            golden.len(),
            "golden.txt has lines of functions that are no more"
        );
    }
}

/// Columns or rows, bytes beyond an aligned address, threads.
const OTHERS: [(bool, usize, usize); 6] = [
    (false, 0, 2),
    (false, 1, 5),
    (false, 36, 1),
    (true, 0, 1),
    (true, 3, 5),
    (true, 20, 2),
];

/// (Of the other functions `agreement.rs` asks it, in more layouts.)
#[test]
fn derivatives_and_losses_have_the_same_bits_anywhere() {
    let before = parallel::set_local_threads(None);
    for level in Level::all_supported() {
        for (f, function) in Function::all().into_iter().enumerate() {
            if matches!(function, Function::Rows(_)) {
                continue;
            }
            let is_jacobian = matches!(function, Function::Jacobian(_));
            for dtype in DTYPES {
                // The last is shared among threads.
                for (rows, n) in [
                    (ROWS, 3),
                    (ROWS, 17),
                    (ROWS, 64),
                    (5, 130),
                    if is_jacobian { (20, 65) } else { (80, 1000) },
                ] {
                    let x = corpus::rows(dtype, rows, n);
                    parallel::set_local_threads(Some(1));
                    let expected = function.run(level, dtype, n, &x, 1.0, Place::PLAIN);
                    let same = |actual: &[u64], expected: &[u64], what: &str| {
                        let place = (0..expected.len()).find(|&i| actual.get(i) != expected.get(i));
                        assert!(
                            place.is_none(),
                            "{} {dtype:?} on {}, {rows} rows of {n}: result {place:?} differs {what}",
                            function.name(),
                            level.name()
                        );
                    };
                    for (columns, moved, threads) in thinned(&OTHERS, f) {
                        parallel::set_local_threads(Some(threads));
                        let place = Place { columns, moved };
                        let actual = function.run(level, dtype, n, &x, 1.0, place);
                        same(&actual, &expected, &format!("with {threads} threads, {place:?}"));
                    }
                    parallel::set_local_threads(Some(1));
                    // Of a row: its part of the derivative, and its loss.
                    let losses = if function.has_losses() { rows } else { 0 };
                    let per_row = (expected.len() - losses) / rows;
                    for r in [0, 1, rows / 2, rows - 1] {
                        let alone = function.run(level, dtype, n, &x[r * n..(r + 1) * n], 1.0, Place::PLAIN);
                        let mut own = expected[r * per_row..(r + 1) * per_row].to_vec();
                        if losses > 0 {
                            own.push(expected[rows * per_row + r]);
                        }
                        same(&alone, &own, &format!("where row {r} is alone"));
                    }
                }
            }
        }
    }
    parallel::set_local_threads(before);
}
