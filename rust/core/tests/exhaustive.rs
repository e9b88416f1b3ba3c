//! The elementary functions over every float32 of their domains, and over many float64. Three minutes, so by request only:
//! `cargo test --release -p softmax-core --test exhaustive -- --ignored --nocapture`

mod common;

use common::elementary::{self, MAXIMA_F32, MAXIMA_F64};
use common::report;

#[test]
#[ignore = "two minutes: every float32 of 11 intervals"]
fn exp_f32_over_all_floats() {
    report(&elementary::exp_f32(&MAXIMA_F32, 1));
}

#[test]
#[ignore = "half a minute: a reference of 100 bits"]
fn exp_f64_sampled() {
    report(&elementary::exp_f64(&MAXIMA_F64, 1_000_000));
}

#[test]
#[ignore = "half a minute: a reference of 100 bits"]
fn exp_of_other_temperatures_sampled() {
    report(&elementary::exp_of_temperatures(1_000_000));
}

#[test]
#[ignore = "half a minute: every float32 of [0, 2^40]"]
fn log1p_f32_over_all_floats() {
    report(&elementary::log1p_f32(1));
}

#[test]
#[ignore = "half a minute: a reference of 100 bits"]
fn log1p_f64_sampled() {
    report(&elementary::log1p_f64(10_000_000));
}
