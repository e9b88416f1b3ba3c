//! Rows one after the other, lanes along the row.
//!
//! Per batch: all maxima, then all sums (the exponentials go where the results will), then what has to be known per row
//! (logarithms, reciprocals) for the whole batch in one vector, then the results. While one row's lanes are reduced, the
//! processor is already in the next row, and what the first pass read is in the first-level cache for the others.

use std::ops::Range;

use super::{Call, Kind, Table, cancels, long, pack, significand};
use crate::element::Stored;
use crate::math::exp::{Base, Exp};
use crate::ops::{Finish, From, RowOp};
use crate::row::along;
use crate::simd::{Isa, Simd, Vector};

/// Input of a batch: with as much output it fits the first-level cache.
pub(super) const BATCH_BYTES: usize = 8 << 10;
/// Rows of a batch: the lanes of a float64 vector.
pub(super) const MAX_BATCH: usize = 8;

/// Rows `rows` (at most [`MAX_BATCH`]).
///
/// # Safety
/// The problem is valid; `scratch` holds what [`Call::rows_scratch`] says for this many rows, and a block of float64.
#[inline(always)]
pub(super) unsafe fn batch<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    rows: Range<usize>,
    scratch: *mut T,
) {
    let plan = &call.plan;
    let n = plan.n;
    let count = rows.len();
    let mut table = Table::new();
    let mut places = [Default::default(); MAX_BATCH];
    let mut x = [std::ptr::null::<T>(); MAX_BATCH];
    let mut y = [std::ptr::null_mut::<T>(); MAX_BATCH];
    let mut maxima = [T::ZERO; MAX_BATCH];
    // The next batch is fetched while this one is computed.
    let ahead = if call.x_in_place && rows.end < plan.rows {
        plan.row(rows.end).x.wrapping_sub(plan.row(rows.start).x)
    } else {
        0
    };
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        for i in 0..count {
            let place = plan.row(rows.start + i);
            places[i] = place;
            let space = scratch.wrapping_add(i * n);
            y[i] = if call.out_in_place && O::FROM != From::Nothing {
                plan.problem.out.ptr.offset(place.out).cast()
            } else {
                space
            };
            x[i] = if call.x_in_place {
                plan.problem.x.ptr.offset(place.x).cast()
            } else {
                // Packed to where the results will be, in place from then on.
                pack::pack(s, plan, place, 0, n, y[i]);
                y[i]
            };
            maxima[i] = along::max(s, x[i], n);
        }
        for i in 0..count {
            let mut m = maxima[i];
            let mut temperature = plan.temperature(places[i]);
            let mut base = call.base(temperature);
            table.max.0[i] = m.to_f64();
            match Kind::of(m, &base, temperature) {
                Kind::Near => {}
                Kind::Far(exponent) => {
                    far(x[i], y[i], n, m, exponent);
                    x[i] = y[i];
                    m = T::ZERO;
                    temperature = significand(temperature);
                    base = Base::new(temperature);
                }
                Kind::Special => {
                    special(&mut table, i, has_nan(x[i], n));
                    continue;
                }
            }
            table.pivot.0[i] = m.to_f64();
            table.temperature.0[i] = temperature;
            let m = Vector::splat(s, m);
            let exp = Exp::new(s, &base, m);
            let next = x[i].wrapping_byte_offset(ahead);
            let sum = match O::FROM {
                From::Exp => along::exp_sum::<S, T, true>(s, &exp, m, x[i], y[i], n, next),
                _ => along::exp_sum::<S, T, false>(s, &exp, m, x[i], y[i], n, next),
            };
            table.sum.0[i] = sum.sum;
            table.rest.0[i] = sum.rest;
            let [peak, peak_rest] = exp.pair(m);
            table.peak.0[i] = peak.to_lanes().0[0].to_f64();
            table.peak_rest.0[i] = peak_rest.to_lanes().0[0].to_f64();
            table.octaves.0[i] = exp.octaves.to_lanes().0[0].to_f64();
            table.ties.0[i] = sum.ties;
            if sum.sum.is_nan() {
                table.max.0[i] = f64::NAN;
            }
        }
        let params = table.params::<S, T, O>(s, call.op, count);
        for i in 0..count {
            let place = places[i];
            let max = table.max.0[i];
            if O::FROM == From::Nothing {
                let [value, log] = [params[0].0[i], params[1].0[i]];
                let value = if max.is_nan() {
                    T::NAN
                } else if max.is_finite() && cancels(max, value, log) {
                    long::refined(call, place, scratch.cast())
                } else {
                    value
                };
                pack::write_value(s, plan, place, value);
                continue;
            }
            if !max.is_finite() {
                fill(s, y[i], n, T::NAN);
            } else {
                let mut p = [Vector::zero(s); 6];
                for k in 0..6 {
                    p[k] = Vector::splat(s, params[k].0[i]);
                }
                let source = if O::FROM == From::Exp { y[i].cast_const() } else { x[i] };
                along::map(
                    s,
                    source,
                    y[i],
                    n,
                    Finish {
                        op: call.op,
                        params: &p,
                    },
                );
            }
            if !call.out_in_place {
                pack::unpack(s, plan, place, 0, n, y[i], T::from_f64(O::MASKED));
            }
        }
    }
}

/// A row whose maximum is infinite: what the reductions give. Rows that give elements are filled with NaN later.
pub(super) fn special(table: &mut Table, i: usize, has_nan: bool) {
    if has_nan {
        table.max.0[i] = f64::NAN;
    }
    // One element, the maximum: the logarithm of the sum is zero.
    table.sum.0[i] = 0.0;
}

/// Moves a row to a maximum of zero: (x - m) / 2^exponent.
///
/// # Safety
/// `x` is valid for reading and `y` for writing `n` elements.
#[cold]
#[inline(never)]
pub(super) unsafe fn far<T: Stored>(x: *const T, y: *mut T, n: usize, m: T, exponent: i32) {
    for j in 0..n {
        // SAFETY: the caller's promise; rows of the problem may be misaligned.
        unsafe {
            y.add(j)
                .write_unaligned(T::scaled_difference(x.add(j).read_unaligned(), m, exponent))
        };
    }
}

/// Whether there is a NaN.
///
/// # Safety
/// `x` is valid for reading `n` elements.
#[cold]
#[inline(never)]
pub(super) unsafe fn has_nan<T: Stored>(x: *const T, n: usize) -> bool {
    // SAFETY: the caller's promise.
    (0..n).any(|j| unsafe { x.add(j).read_unaligned() }.is_nan())
}

/// Sets `n` elements.
///
/// # Safety
/// `y` is valid for writing `n` elements.
#[cold]
#[inline(never)]
pub(super) unsafe fn fill<S: Isa + Simd<T>, T: Stored>(_: S, y: *mut T, n: usize, value: T) {
    for j in 0..n {
        // SAFETY: the caller's promise.
        unsafe { y.add(j).write_unaligned(value) };
    }
}
