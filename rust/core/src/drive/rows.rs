//! Rows one after the other, lanes along the row.
//!
//! Per batch: all maxima, then all sums (the exponentials go where the results will), then what has to be known per row
//! (logarithms, reciprocals) for the whole batch in one vector, then the results. While one row's lanes are reduced, the
//! processor is already in the next row, and what the first pass read is in the first-level cache for the others.

use std::ops::Range;

use super::plan::Place;
use super::stage::{Access, Stage};
use super::{Call, pack};
use crate::element::Stored;
use crate::ops::{Finish, From, RowOp};
use crate::row::{add_lanes, along};
use crate::simd::{Float, Isa, Lanes, Simd, Vector};

/// Input of a batch: with as much output it fits the first-level cache.
pub(super) const BATCH_BYTES: usize = 8 << 10;

/// The rows of a batch: where they are read, and where results (and before them, exponentials) go.
struct Batch<T> {
    places: [Place; 16],
    x: [*const T; 16],
    y: [*mut T; 16],
    n: usize,
}

impl<T: Stored> Access<T> for Batch<T> {
    fn place(&self, l: usize) -> Place {
        self.places[l]
    }
    unsafe fn move_to_zero(&mut self, l: usize, m: T, exponent: i32) {
        // SAFETY: rows of `n` elements.
        unsafe { far(self.x[l], self.y[l], self.n, m, exponent) };
        self.x[l] = self.y[l];
    }
    unsafe fn has_nan(&self, l: usize) -> bool {
        // SAFETY: rows of `n` elements.
        unsafe { has_nan(self.x[l], self.n) }
    }
}

/// Rows `rows` (at most `LANES`).
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
    let mut batch = Batch {
        places: [Place::default(); 16],
        x: [std::ptr::null(); 16],
        y: [std::ptr::null_mut(); 16],
        n,
    };
    // The next batch is fetched while this one is computed.
    let ahead = if call.x_in_place && rows.end < plan.rows {
        plan.row(rows.end).x.wrapping_sub(plan.row(rows.start).x)
    } else {
        0
    };
    let mut maxima = Lanes([<T as Float>::ZERO; 16]);
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        for i in 0..count {
            let place = plan.row(rows.start + i);
            batch.places[i] = place;
            batch.y[i] = if call.out_in_place && O::FROM != From::Nothing {
                plan.problem.out.ptr.offset(place.out).cast()
            } else {
                scratch.wrapping_add(i * n)
            };
            batch.x[i] = if call.x_in_place {
                plan.problem.x.ptr.offset(place.x).cast()
            } else {
                // Packed to where the results will be, in place from then on.
                pack::pack(s, plan, place, 0, n, batch.y[i]);
                batch.y[i]
            };
            maxima.0[i] = along::max(s, batch.x[i], n);
        }
        let stage = Stage::new(s, call, Vector::from_lanes(s, &maxima), count, &mut batch);
        let exp_rows = stage.exp.rows();
        let pivots = stage.pivot.to_lanes();
        let mut folded = [Folded([[0.0; 8]; 16]); 2];
        let mut ties = Lanes([<T as Float>::ONE; 16]);
        for i in 0..count {
            let exp = stage.row(s, &exp_rows, &pivots, i);
            let m = Vector::splat(s, pivots.0[i]);
            let (x, y) = (batch.x[i], batch.y[i]);
            let next = x.wrapping_byte_offset(ahead);
            let sum = match O::FROM {
                From::Exp => along::exp_sum::<S, T, true>(s, &exp, m, x, y, n, next),
                _ => along::exp_sum::<S, T, false>(s, &exp, m, x, y, n, next),
            };
            for k in 0..2 {
                sum.folded[k].store(folded[k].0[i].as_mut_ptr());
            }
            ties.0[i] = T::from_f64(sum.ties);
        }
        let low = folded_sums::<S, T>(s, &folded, 0);
        let high = if count > 8 {
            folded_sums::<S, T>(s, &folded, 8)
        } else {
            low
        };
        let known = stage.conclude(s, call.op, [low, high], Vector::from_lanes(s, &ties), count);
        if O::FROM == From::Nothing {
            known.write_values(
                s,
                call,
                count,
                &batch,
                scratch.wrapping_add(call.rows_scratch(count) / size_of::<T>()).cast(),
            );
            return;
        }
        let mut params = [Lanes([<T as Float>::ZERO; 16]); 6];
        for k in 0..O::PARAMS {
            params[k] = known.params[k].to_lanes();
        }
        for i in 0..count {
            let y = batch.y[i];
            if known.is_nan(i) {
                fill(y, n, T::NAN);
            } else {
                let mut p = [Vector::zero(s); 6];
                for k in 0..O::PARAMS {
                    p[k] = Vector::splat(s, params[k].0[i]);
                }
                let source = if O::FROM == From::Exp {
                    y.cast_const()
                } else {
                    batch.x[i]
                };
                along::map(
                    s,
                    source,
                    y,
                    n,
                    Finish {
                        op: call.op,
                        params: &p,
                    },
                );
            }
            if !call.out_in_place {
                pack::unpack(s, plan, batch.places[i], 0, n, y, T::from_f64(O::MASKED));
            }
        }
    }
}

/// Eight lanes of each of sixteen rows.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Folded([[f64; 8]; 16]);

/// The sums of eight rows, a lane each, from their lanes.
#[inline(always)]
fn folded_sums<S: Isa, T: Float>(s: S, folded: &[Folded; 2], first: usize) -> [Vector<S, f64>; 2] {
    let mut lanes = [[Vector::zero(s); 2]; 8];
    for k in 0..2 {
        // What rounding took is not kept for float32.
        if k == 0 || T::KEEPS_REST {
            let mut rows = [std::ptr::null(); 16];
            for l in (0..8).step_by(2) {
                for i in 0..8 {
                    rows[i] = &raw const folded[k].0[first + i][l];
                }
                let mut columns = [Simd::<f64>::splat(s, 0.0); 4];
                // SAFETY: pairs of float64 in the array.
                unsafe { Simd::<f64>::load_tile(s, &rows, &mut columns) };
                lanes[l][k] = Vector(columns[0], s);
                lanes[l + 1][k] = Vector(columns[1], s);
            }
        }
    }
    add_lanes::<S, T>(lanes)
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
pub(super) unsafe fn fill<T: Stored>(y: *mut T, n: usize, value: T) {
    for j in 0..n {
        // SAFETY: the caller's promise.
        unsafe { y.add(j).write_unaligned(value) };
    }
}
