//! The caller's floating-point mode (flush to zero, rounding direction, records of exceptions) changes no bit of a result,
//! on no thread, and is left as it was found. One test, so that the pool's threads are started in such a mode: they
//! inherit it.

mod common;

use common::every::{Function, Place};
use common::mode::{self, MODES};
use common::{DTYPES, LEVELS, corpus, entered, report, share};
use softmax_core::parallel;
use softmax_core::simd::Level;

#[test]
fn the_mode_changes_no_bit_and_is_left_as_found() {
    assert!(!MODES.is_empty(), "no mode is known for this architecture");
    let before = parallel::set_local_threads(None);
    let mut cases = 0;
    for (f, function) in Function::all().into_iter().enumerate() {
        // Rows, in every mode; panels, shared among threads, which is what their inheritance is tested by, and a row in
        // blocks, in one of the modes.
        let shapes = match function {
            Function::Jacobian(_) => [(18, 3), (18, 65), (2, 260)],
            _ => [(18, 33), (4000, 18), (1, (1 << 18) + 3)],
        };
        for (d, dtype) in DTYPES.into_iter().enumerate() {
            for (s, (rows, n)) in shapes.into_iter().enumerate() {
                let x = corpus::rows(dtype, rows, n);
                let one = [MODES[(f + d + s) % MODES.len()]];
                let modes = match s {
                    0 => &MODES[..],
                    // Of a share, large arrays of one dtype.
                    _ if share() > 1 && (d + s) % DTYPES.len() != f % DTYPES.len() => &[],
                    _ => &one,
                };
                for level in Level::all_supported() {
                    for (m, &found) in modes.iter().enumerate() {
                        let temperature = if m % 2 == 1 && function.has_temperature() {
                            0.7
                        } else {
                            1.0
                        };
                        let mut run = |threads, set| {
                            parallel::set_local_threads(Some(threads));
                            mode::set(set);
                            let mut results = Vec::new();
                            let ran = entered(level, || {
                                results = function.run(level, dtype, n, &x, temperature, Place::PLAIN);
                            });
                            mode::set(None);
                            cases += usize::from(ran);
                            results
                        };
                        let here = run(1, Some(found));
                        let shared = run(5, Some(found));
                        let expected = run(1, None);
                        for (threads, actual) in [(1, here), (5, shared)] {
                            let place = (0..expected.len()).find(|&i| actual[i] != expected[i]);
                            assert!(
                                place.is_none(),
                                "{} {dtype:?} on {}, {rows} rows of {n}, {threads} threads, {}: result {place:?}: \
                                 {:#x}, not {:#x}",
                                function.name(),
                                level.name(),
                                found.name,
                                actual[place.unwrap_or(0)],
                                expected[place.unwrap_or(0)],
                            );
                        }
                    }
                }
            }
        }
    }
    parallel::set_local_threads(before);
    let here: Vec<&str> = LEVELS.iter().filter(|l| l.supported()).map(|l| l.name()).collect();
    report(&format!(
        "floating-point modes: {cases} calls ran on {}",
        here.join(", ")
    ));
    assert!(cases > 0, "nothing ran");
}
