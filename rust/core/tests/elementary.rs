//! The elementary functions by a walk through the floats in steps of a prime: the seconds' version of `exhaustive.rs`.

mod common;

use common::elementary::{self, MAXIMA_F32, MAXIMA_F64};
use common::{report, share};

/// A prime, so that all low bits are met: some 100,000 arguments for each maximum.
const STRIDE_F32: usize = 20_011;
const SAMPLES_F64: usize = 20_000;

/// The stride of a share of the arguments; odd, for the same reason.
fn stride() -> usize {
    (STRIDE_F32 * share()) | 1
}

#[test]
fn exp_f32_is_within_its_contract() {
    report(&elementary::exp_f32(&MAXIMA_F32, stride()));
}

#[test]
fn exp_f64_is_within_its_contract() {
    report(&elementary::exp_f64(&MAXIMA_F64, SAMPLES_F64 / share()));
}

#[test]
fn exp_of_other_temperatures_is_within_its_contract() {
    report(&elementary::exp_of_temperatures(20_000 / share()));
}

#[test]
fn log1p_f32_is_within_its_contract() {
    report(&elementary::log1p_f32(stride()));
}

#[test]
fn log1p_f64_is_within_its_contract() {
    report(&elementary::log1p_f64(100_000 / share()));
}
