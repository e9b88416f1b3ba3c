//! Same bits: a row's result depends on its values, its length and the type, and on nothing else: not on the layout, the
//! rows beside it, the threads, nor (AVX2, AVX-512) the instruction set. And no byte is written that is not a result's.

mod common;

use std::collections::HashMap;

use common::layout::{Case, Heat, Layout};
use common::{ALL_OPS, DTYPES, OPS, Random, decode, encode, entered, report, table, thinned};
use softmax_core::simd::Level;
use softmax_core::{Dtype, Op, parallel};

/// One panel (16 float32, 8 float64 lanes) and four rows more.
const ROWS: usize = 20;

/// Rows of all kinds side by side, so that a panel holds some within and some out of the exponent shift's reach.
fn mixed_rows(dtype: Dtype, rows: usize, n: usize) -> Vec<u64> {
    let mut random = Random(n as u64 * 1000 + rows as u64);
    let far = match dtype {
        Dtype::F16 => 2e4,
        Dtype::F64 => 1e15,
        _ => 4e6,
    };
    let mut x = Vec::with_capacity(rows * n);
    for r in 0..rows {
        let peak = random.below(n);
        for j in 0..n {
            let z = random.normal();
            let value = match r % 6 {
                0 => 3.0 * z,
                1 => 80.0 * random.uniform() - 1e3,
                2 => far + 8.0 * z,
                // Not the last element: an all -inf row is another test's.
                3 if random.below(3) == 0 && j + 1 < n => f64::NEG_INFINITY,
                4 if j == peak => 40.0,
                // Ties.
                5 => f64::from((2.0 * z) as i32),
                _ => z,
            };
            x.push(encode(dtype, value));
        }
    }
    x
}

/// What has run: level, op and dtype to a number of cases. Those that ran no code of the level do not count.
type Ran = HashMap<(&'static str, String, String), usize>;

fn for_each(lengths: &[usize], mut run: impl FnMut(Level, Op, Dtype, usize)) -> Ran {
    let mut ran = Ran::new();
    for level in Level::all_supported() {
        for (o, op) in ALL_OPS.into_iter().enumerate() {
            for (d, dtype) in DTYPES.into_iter().enumerate() {
                for n in thinned(lengths, o * DTYPES.len() + d) {
                    let has_run = entered(level, || run(level, op, dtype, n));
                    *ran.entry((level.name(), format!("{op:?}"), format!("{dtype:?}")))
                        .or_default() += usize::from(has_run);
                }
            }
        }
    }
    ran
}

/// Prints the matrix and fails where it has a hole.
fn show(title: &str, ran: &Ran) {
    show_of(&ALL_OPS, title, ran);
}

fn show_of(ops: &[Op], title: &str, ran: &Ran) {
    let mut rows = vec![vec![String::new(), String::new()]];
    rows[0].extend(DTYPES.map(|dtype| format!("{dtype:?}")));
    let mut holes = Vec::new();
    for level in Level::all_supported() {
        for op in ops {
            let mut row = vec![level.name().to_owned(), format!("{op:?}")];
            for dtype in DTYPES {
                let count = ran
                    .get(&(level.name(), format!("{op:?}"), format!("{dtype:?}")))
                    .copied()
                    .unwrap_or(0);
                if count == 0 {
                    holes.push(format!("{} {op:?} {dtype:?}", level.name()));
                }
                row.push(count.to_string());
            }
            rows.push(row);
        }
    }
    report(&format!("{title}\n{}", table(&rows)));
    assert!(holes.is_empty(), "nothing ran for {holes:?}");
}

/// Fails with the first element that differs.
#[track_caller]
fn assert_same(case: &Case<'_>, what: &str, expected: &[u64], actual: &[u64]) {
    assert_eq!(expected.len(), actual.len());
    let Some(i) = (0..expected.len()).find(|&i| expected[i] != actual[i]) else {
        return;
    };
    let per_row = if case.op.is_elementwise() { case.n } else { 1 };
    let row = i / per_row;
    let head: Vec<f64> = case.x[row * case.n..]
        .iter()
        .take(case.n.min(6))
        .map(|&bits| decode(case.dtype, bits))
        .collect();
    panic!(
        "{what}: {} {:?} {:?}, {} rows of {}: row {row} element {}: expected {:e} ({:#x}), got {:e} ({:#x}); the row begins {head:?}",
        case.level.name(),
        case.op,
        case.dtype,
        case.rows,
        case.n,
        i % per_row,
        decode(case.dtype, expected[i]),
        expected[i],
        decode(case.dtype, actual[i]),
        actual[i],
    );
}

#[test]
fn a_row_has_the_same_bits_in_every_layout() {
    // Around the widths of vectors, transposes, groups of four vectors and 512-byte tiles; then beyond a batch.
    let mut lengths: Vec<usize> = (1..=20).collect();
    lengths.extend([24, 31, 32, 33, 63, 64, 65, 100, 128, 129, 255, 300, 1000, 1025]);
    let ran = for_each(&lengths, |level, op, dtype, n| {
        let x = mixed_rows(dtype, ROWS, n);
        let size = dtype.size();
        for t in [1.0, 0.7] {
            if t != 1.0 && !op.has_temperature() {
                continue; // which has no temperature
            }
            let case = Case {
                level,
                op,
                dtype,
                rows: ROWS,
                n,
                x: &x,
                mask: None,
                temperature: Heat::One(t),
            };
            let expected = Layout::packed(ROWS, n, size).run(&case);
            for layout in Layout::others(ROWS, n, size) {
                assert_same(&case, layout.name, &expected, &layout.run(&case));
            }
            let temperatures = [t; ROWS];
            let by_row = Case {
                temperature: Heat::Rows(&temperatures),
                ..case
            };
            let same = Layout::packed(ROWS, n, size).run(&by_row);
            // (At 1, which takes a path of its own, that is the next test.)
            if t != 1.0 {
                assert_same(&case, "a temperature for each row", &expected, &same);
            }
            assert_same(
                &by_row,
                "columns with temperatures",
                &same,
                &Layout::columns(ROWS, n, size).run(&by_row),
            );
            // Rows on their own: no batch, no panel.
            let per_row = if op.is_elementwise() { n } else { 1 };
            for r in 0..ROWS {
                let alone = Case {
                    rows: 1,
                    x: &x[r * n..(r + 1) * n],
                    ..case
                };
                let actual = Layout::packed(1, n, size).run(&alone);
                assert_same(
                    &alone,
                    "a row alone",
                    &expected[r * per_row..(r + 1) * per_row],
                    &actual,
                );
            }
        }
    });
    show("same bits in every layout: lengths tried", &ran);
}

#[test]
fn a_temperature_of_one_for_each_row_changes_no_bit() {
    let ran = for_each(&[1, 2, 3, 8, 11, 16, 17, 33, 64, 100, 1000], |level, op, dtype, n| {
        let x = mixed_rows(dtype, ROWS, n);
        let case = Case {
            level,
            op,
            dtype,
            rows: ROWS,
            n,
            x: &x,
            mask: None,
            temperature: Heat::One(1.0),
        };
        let layout = Layout::packed(ROWS, n, dtype.size());
        let expected = layout.run(&case);
        // Of all rows, and of every other one: a row does not see its neighbours' temperatures.
        for others in [1.0, 0.7] {
            let temperatures: [f64; ROWS] = std::array::from_fn(|r| if r % 2 == 0 { 1.0 } else { others });
            if others != 1.0 && !op.has_temperature() {
                continue; // which has no temperature
            }
            let by_row = Case {
                temperature: Heat::Rows(&temperatures),
                ..case
            };
            let mut actual = layout.run(&by_row);
            let per_row = if op.is_elementwise() { n } else { 1 };
            for r in (0..ROWS).filter(|&r| temperatures[r] != 1.0) {
                actual[r * per_row..(r + 1) * per_row].copy_from_slice(&expected[r * per_row..(r + 1) * per_row]);
            }
            assert_same(&by_row, "no temperature against 1 for each row", &expected, &actual);
        }
    });
    show("temperatures of 1: lengths tried", &ran);
}

#[test]
fn long_rows_have_the_same_bits_in_every_layout() {
    // Just beyond 1 MiB of what arithmetic runs in, and one element before.
    let ran = for_each(&[0], |level, op, dtype, _| {
        let n = if dtype == Dtype::F64 {
            (1 << 17) + 3
        } else {
            (1 << 18) + 6
        };
        let rows = 3;
        let x = mixed_rows(dtype, rows, n);
        let case = Case {
            level,
            op,
            dtype,
            rows,
            n,
            x: &x,
            mask: None,
            temperature: Heat::One(1.0),
        };
        let expected = Layout::packed(rows, n, dtype.size()).run(&case);
        for layout in Layout::others(rows, n, dtype.size()) {
            if ["columns", "misaligned", "strided", "in place", "masked"].contains(&layout.name) {
                assert_same(&case, layout.name, &expected, &layout.run(&case));
            }
        }
    });
    show("long rows: lengths tried", &ran);
}

#[test]
fn avx2_and_avx512_have_the_same_bits() {
    let levels: Vec<Level> = Level::all_supported().collect();
    for level in [Level::Avx2, Level::Avx512] {
        if !levels.contains(&level) {
            report(&format!(
                "NOT RUN: avx2 against avx512, since this CPU does not have {}",
                level.name()
            ));
            return;
        }
    }
    let mut lengths: Vec<usize> = (1..=70).collect();
    lengths.extend([100, 127, 128, 129, 1000, 4097, (1 << 18) + 3]);
    for op in ALL_OPS {
        for dtype in DTYPES {
            for &n in &lengths {
                for t in [1.0, 0.7, 1e-20] {
                    if t != 1.0 && (!op.has_temperature() || n > 5000) {
                        continue;
                    }
                    let rows = if n > 5000 { 2 } else { ROWS };
                    let x = mixed_rows(dtype, rows, n);
                    let case = Case {
                        level: Level::Avx2,
                        op,
                        dtype,
                        rows,
                        n,
                        x: &x,
                        mask: None,
                        temperature: Heat::One(t),
                    };
                    let layout = Layout::packed(rows, n, dtype.size());
                    let expected = layout.run(&case);
                    let case = Case {
                        level: Level::Avx512,
                        ..case
                    };
                    assert_same(&case, "avx2 against avx512", &expected, &layout.run(&case));
                }
            }
        }
    }
}

/// A NaN anywhere hides no other element, wherever the row begins: the maximum says how a row is computed.
#[test]
fn the_maximum_passes_over_nan() {
    let mut memory = vec![0.0_f32; 400];
    for level in Level::all_supported() {
        for start in 0..16 {
            for n in [1, 15, 16, 17, 64, 127, 128, 129, 200, 300] {
                for nan in 0..n.min(40) {
                    for peak in (0..n).filter(|&peak| peak != nan) {
                        memory.fill(0.0);
                        memory[start + nan] = f32::NAN;
                        memory[start + peak] = 7.0;
                        let found = softmax_core::probe::max_f32(level, &memory[start..start + n]);
                        let found = found.expect("the CPU has the level");
                        assert_eq!(
                            found,
                            7.0,
                            "{}: NaN at {nan}, the maximum at {peak} of {n}, {start} from the start",
                            level.name()
                        );
                    }
                }
            }
        }
    }
}

/// Each of k equal maxima has the probability 1 / k to the last bit, wherever in a row they are, though the maximum's
/// exponential may enter with more digits than its own element has. (At the portable level, which has no fused
/// multiply-add, to one epsilon.) For the logarithm, which is -log k, they are counted.
#[test]
fn maxima_count_wherever_they_are() {
    let mut random = Random(1);
    // Around every number of vectors up to a group, and around as many groups as are counted at once.
    let lengths = (1..=150).chain([1023, 1024, 1025, 1080, 1087, 1088, 1089, 2049, 2112, 4097]);
    for n in lengths {
        for k in [1, 2, 3, n / 2, n - 1, n] {
            if k == 0 || k > n {
                continue;
            }
            for dtype in [Dtype::F32, Dtype::F64] {
                for level in Level::all_supported() {
                    // As a panel where they are short; one by one.
                    for rows in [17, 3] {
                        let mut values = vec![-2000.0; rows * n];
                        for row in values.chunks_mut(n) {
                            let mut left = k;
                            for j in 0..n {
                                if random.below(n - j) < left {
                                    row[j] = 3.0;
                                    left -= 1;
                                }
                            }
                        }
                        let x: Vec<u64> = values.iter().map(|&value| encode(dtype, value)).collect();
                        for op in [Op::Softmax, Op::LogSoftmax] {
                            let case = Case {
                                level,
                                op,
                                dtype,
                                rows,
                                n,
                                x: &x,
                                mask: None,
                                temperature: Heat::One(1.0),
                            };
                            let found = Layout::packed(rows, n, dtype.size()).run(&case);
                            for (j, (&value, &y)) in values.iter().zip(&found).enumerate() {
                                let exact = match op {
                                    Op::Softmax if value == 3.0 => 1.0 / k as f64,
                                    Op::Softmax => 0.0,
                                    _ => value - 3.0 - (k as f64).ln(),
                                };
                                let (found, right) = (decode(dtype, y), decode(dtype, encode(dtype, exact)));
                                let epsilon = if dtype == Dtype::F32 {
                                    f64::from(f32::EPSILON)
                                } else {
                                    f64::EPSILON
                                };
                                let epsilons = match op {
                                    Op::Softmax if level != Level::Portable => 0.0,
                                    Op::Softmax => 1.0,
                                    // (3 ULP, the limit of short rows.)
                                    _ => 3.0,
                                };
                                assert!(
                                    (found - right).abs() <= epsilons * epsilon * exact.abs(),
                                    "{op:?} {dtype:?} at {}: element {} of row {} of {rows}x{n}, {k} maxima: {found:e}, not {right:e}",
                                    level.name(),
                                    j % n,
                                    j / n
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    static SHAPES: [(usize, usize); 6] = [
        (5000, 16), // panels
        (700, 100),
        (100, 701),
        (6, 20_000),
        (1, 600_001), // spans of a long row
        (2, (1 << 18) + 3),
    ];
    let before = parallel::set_local_threads(None);
    let ran = for_each(&(0..SHAPES.len()).collect::<Vec<_>>(), |level, op, dtype, which| {
        let (rows, n) = SHAPES[which];
        let x = mixed_rows(dtype, rows, n);
        let case = Case {
            level,
            op,
            dtype,
            rows,
            n,
            x: &x,
            mask: None,
            temperature: Heat::One(1.0),
        };
        for layout in [
            Layout::packed(rows, n, dtype.size()),
            Layout::columns(rows, n, dtype.size()),
        ] {
            let [one, two, five] = [1, 2, 5].map(|threads| {
                parallel::set_local_threads(Some(threads));
                layout.run(&case)
            });
            assert_same(&case, "2 threads against 1", &one, &two);
            assert_same(&case, "5 threads against 1", &one, &five);
        }
    });
    parallel::set_local_threads(before);
    show("threads 1, 2, 5: shapes tried", &ran);
}

/// Rows that are gone over by themselves, a part of a panel, and one or two whole ones and what is left over: each has the
/// bits that it has among all of them; and nothing is written where there is no row.
#[test]
fn any_number_of_rows_gives_the_same_bits() {
    const ALL: usize = 36;
    let ran = for_each(&[2, 3, 4, 7, 10, 16, 24, 45], |level, op, dtype, n| {
        let x = mixed_rows(dtype, ALL, n);
        let case = |rows| Case {
            level,
            op,
            dtype,
            rows,
            n,
            x: &x[..rows * n],
            mask: None,
            temperature: Heat::One(1.0),
        };
        let all = Layout::packed(ALL, n, dtype.size()).run(&case(ALL));
        for rows in 1..ALL {
            let expected = &all[..all.len() / ALL * rows];
            for layout in [
                Layout::packed(rows, n, dtype.size()),
                Layout::misaligned(rows, n, dtype.size()),
            ] {
                assert_same(&case(rows), layout.name, expected, &layout.run(&case(rows)));
            }
        }
    });
    show("numbers of rows: lengths tried", &ran);
}

#[test]
fn no_byte_beside_the_results_is_written() {
    // (The runner looks at the bytes around and between the results in every other test, too.)
    let ran = for_each(&(1..=300).collect::<Vec<_>>(), |level, op, dtype, n| {
        if n > 70 && n % 16 > 1 && !OPS.contains(&op) {
            return; // what differs between ops has met all its ends by then
        }
        for rows in if n <= 48 { [1, 3, ROWS] } else { [1, 2, 3] } {
            let x = mixed_rows(dtype, rows, n);
            let case = Case {
                level,
                op,
                dtype,
                rows,
                n,
                x: &x,
                mask: None,
                temperature: Heat::One(1.0),
            };
            let expected = Layout::packed(rows, n, dtype.size()).run(&case);
            for layout in [
                Layout::misaligned(rows, n, dtype.size()),
                Layout::columns(rows, n, dtype.size()),
            ] {
                assert_same(&case, layout.name, &expected, &layout.run(&case));
            }
        }
    });
    show("guard bytes: lengths tried", &ran);
}

/// A row that has no probabilities, or some at the edge, and where it holds what.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Special {
    Nan,
    Infinity,
    TwoInfinities,
    NanAndInfinity,
    AllNegativeInfinity,
    /// The largest and the least number of the type.
    Extremes,
}

impl Special {
    const ALL: [Self; 6] = [
        Self::Nan,
        Self::Infinity,
        Self::TwoInfinities,
        Self::NanAndInfinity,
        Self::AllNegativeInfinity,
        Self::Extremes,
    ];

    fn write(self, dtype: Dtype, row: &mut [u64], place: usize) {
        let n = row.len();
        let largest = match dtype {
            Dtype::F64 => f64::MAX,
            Dtype::F32 => f64::from(f32::MAX),
            Dtype::F16 => half::f16::MAX.to_f64(),
            _ => half::bf16::MAX.to_f64(),
        };
        let mut set = |j: usize, v: f64| row[j % n] = encode(dtype, v);
        match self {
            Self::Nan => set(place, f64::NAN),
            Self::Infinity => set(place, f64::INFINITY),
            Self::TwoInfinities => {
                set(place, f64::INFINITY);
                set(place + n / 2, f64::INFINITY);
            }
            Self::NanAndInfinity => {
                set(place + n / 2, f64::INFINITY);
                set(place, f64::NAN);
            }
            Self::AllNegativeInfinity => (0..n).for_each(|j| set(j, f64::NEG_INFINITY)),
            Self::Extremes => {
                (0..n).for_each(|j| set(j, -largest));
                set(place, largest);
            }
        }
    }

    /// The special-value table of the interface.
    fn check(self, case: &Case<'_>, place: usize, result: &[u64], context: &str) {
        let values: Vec<f64> = result.iter().map(|&bits| decode(case.dtype, bits)).collect();
        // One canonical quiet NaN: positive, no payload.
        let nan = encode(case.dtype, f64::NAN);
        let all_nan = result.iter().all(|&bits| bits == nan);
        // Of a saved result these are no rows that a forward function gives; of a product, extremes make none of its own.
        let is_saved = matches!(case.op, Op::SoftmaxBackward | Op::LogSoftmaxBackward);
        let is_product = case.op.is_binary() || case.op == Op::LogSumExpVjp;
        if is_saved || (is_product && self == Self::Extremes) {
            return;
        }
        let as_expected = match (self, case.op) {
            (Self::Nan | Self::NanAndInfinity, Op::LogSumExp) => all_nan,
            (Self::Infinity | Self::TwoInfinities, Op::LogSumExp) => values[0] == f64::INFINITY,
            (Self::AllNegativeInfinity, Op::LogSumExp) => values[0] == f64::NEG_INFINITY,
            (Self::Extremes, Op::LogSumExp) => values[0] == decode(case.dtype, case.x[place]),
            (Self::Extremes, op) => {
                let (at_max, elsewhere) = if op == Op::Softmax {
                    (1.0, 0.0)
                } else {
                    (0.0, f64::NEG_INFINITY)
                };
                // max - (-max) overflows.
                values
                    .iter()
                    .enumerate()
                    .all(|(j, &v)| v == if j == place { at_max } else { elsewhere })
            }
            _ => all_nan,
        };
        assert!(
            as_expected,
            "{context}: a row with {self:?} at {place} gives {:?} ({:#x} ...)",
            &values[..values.len().min(8)],
            result[0]
        );
    }
}

#[test]
fn special_rows_do_not_change_their_neighbours() {
    let lengths = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100, 257, 1000];
    let ran = for_each(&lengths, |level, op, dtype, n| {
        let ordinary = mixed_rows(dtype, ROWS, n);
        let size = dtype.size();
        let per_row = if op.is_elementwise() { n } else { 1 };
        let row = 7;
        for special in Special::ALL {
            for place in [0, n / 2, n - 1] {
                let mut x = ordinary.clone();
                special.write(dtype, &mut x[row * n..(row + 1) * n], place);
                let base = Case {
                    level,
                    op,
                    dtype,
                    rows: ROWS,
                    n,
                    x: &ordinary,
                    mask: None,
                    temperature: Heat::One(1.0),
                };
                let case = Case { x: &x, ..base };
                let expected = Layout::packed(ROWS, n, size).run(&base);
                for layout in [Layout::packed(ROWS, n, size)]
                    .into_iter()
                    .chain(Layout::others(ROWS, n, size))
                    .filter(|l| ["packed", "columns", "strided", "in place"].contains(&l.name))
                {
                    let mut actual = layout.run(&case);
                    let own = row * per_row..(row + 1) * per_row;
                    let alone = Case {
                        x: &x[row * n..(row + 1) * n],
                        ..case
                    };
                    special.check(&alone, place, &actual[own.clone()], &layout.describe(&case));
                    actual[own.clone()].copy_from_slice(&expected[own]);
                    assert_same(
                        &case,
                        &format!("{special:?} in row {row}, {}", layout.name),
                        &expected,
                        &actual,
                    );
                }
            }
        }
    });
    show("special rows: lengths tried", &ran);
}

#[test]
fn long_special_rows() {
    for level in Level::all_supported() {
        for (o, op) in ALL_OPS.into_iter().enumerate() {
            for dtype in [Dtype::F32, Dtype::F64] {
                let n = if dtype == Dtype::F64 {
                    (1 << 17) + 3
                } else {
                    (1 << 18) + 3
                };
                let ordinary = mixed_rows(dtype, 1, n);
                for special in thinned(&Special::ALL, o) {
                    // In the first block, in the last.
                    for place in [5, n - 1] {
                        let mut x = ordinary.clone();
                        special.write(dtype, &mut x, place);
                        let case = Case {
                            level,
                            op,
                            dtype,
                            rows: 1,
                            n,
                            x: &x,
                            mask: None,
                            temperature: Heat::One(1.0),
                        };
                        let layout = Layout::packed(1, n, dtype.size());
                        special.check(&case, place, &layout.run(&case), &layout.describe(&case));
                    }
                }
            }
        }
    }
}

/// (A saved result is 0 or -inf there, and what the second array has there is made of x: other tests' business.)
fn is_masked_as_minus_infinity(op: Op) -> bool {
    !op.is_binary() && op != Op::LogSumExpVjp
}

#[test]
fn masked_elements_take_no_part() {
    let lengths = [1, 2, 3, 5, 8, 15, 16, 17, 33, 64, 100, 257, 1000];
    let ran = for_each(&lengths, |level, op, dtype, n| {
        let ordinary = mixed_rows(dtype, ROWS, n);
        let mut random = Random(n as u64);
        let mut mask: Vec<bool> = (0..ROWS * n).map(|_| random.below(4) > 0).collect();
        // Row 7: all masked. Row 8: all but one, and that one a NaN.
        mask[7 * n..9 * n].fill(false);
        mask[8 * n + n / 2] = true;
        let mut without = ordinary.clone();
        let mut with = ordinary;
        let junk = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30];
        for i in 0..ROWS * n {
            if !mask[i] {
                without[i] = encode(dtype, f64::NEG_INFINITY);
                with[i] = encode(dtype, junk[random.below(junk.len())]);
            }
        }
        with[8 * n + n / 2] = encode(dtype, f64::NAN);
        without[8 * n + n / 2] = encode(dtype, f64::NAN);
        if !is_masked_as_minus_infinity(op) {
            return;
        }
        let case = |x, mask| Case {
            level,
            op,
            dtype,
            rows: ROWS,
            n,
            x,
            mask,
            temperature: Heat::One(1.0),
        };
        // As if they were -inf ...
        let mut expected = Layout::packed(ROWS, n, dtype.size()).run(&case(&without, None));
        if op.is_elementwise() {
            // ... but 0 (-inf) also where the row is NaN.
            let masked = encode(dtype, if op == Op::LogSoftmax { f64::NEG_INFINITY } else { 0.0 });
            for i in 0..ROWS * n {
                if !mask[i] {
                    expected[i] = masked;
                }
            }
        }
        let masked = case(&with, Some(&mask));
        for layout in [Layout::packed(ROWS, n, dtype.size())]
            .into_iter()
            .chain(Layout::others(ROWS, n, dtype.size()))
        {
            assert_same(&masked, layout.name, &expected, &layout.run(&masked));
        }
    });
    let mut ops = ALL_OPS.to_vec();
    ops.retain(|&op| is_masked_as_minus_infinity(op));
    show_of(&ops, "masks: lengths tried", &ran);
}
