//! Rows one after the other, lanes along the row.
//!
//! Per batch: all maxima, then all sums (the exponentials go where the results will), then what has to be known per row
//! (logarithms, reciprocals) for the whole batch in one vector, then the results. While one row's lanes are reduced, the
//! processor is already in the next row, and what the first pass read is in the first-level cache for the others.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::plan::Place;
use super::stage::{Access, Known, Stage};
use super::{Call, Move, pack};
use crate::element::Stored;
use crate::ops::{Finish, From, RowOp};
use crate::row::{add_lanes, along};
use crate::simd::{Float, Isa, Lanes, Simd, Vector};

/// Input of a batch: with as much output it fits the first-level cache.
pub(super) const BATCH_BYTES: usize = 8 << 10;

/// The rows of a batch: where they are read, and where results (and before them, exponentials) go.
struct Batch<T> {
    count: usize,
    places: [Place; 16],
    x: [*const T; 16],
    y: [*mut T; 16],
    maxima: Lanes<T>,
    n: usize,
}

impl<T: Stored> Access<T> for Batch<T> {
    fn place(&self, l: usize) -> Place {
        self.places[l]
    }
    unsafe fn move_row(&mut self, l: usize, by: Move<T>) {
        // SAFETY: rows of `n` elements.
        unsafe { move_row(self.x[l], self.y[l], self.n, by) };
        self.x[l] = self.y[l];
    }
    unsafe fn has_nan(&self, l: usize) -> bool {
        // SAFETY: rows of `n` elements.
        unsafe { has_nan(self.x[l], self.n) }
    }
}

/// All rows of `units`, which are batches of `size` rows (at most `LANES`).
///
/// # Safety
/// The problem is valid; `scratch` holds what [`Call::rows_scratch`] says for this many rows, and a block of float64.
#[inline(always)]
pub(super) unsafe fn batches<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    size: usize,
    units: Range<usize>,
    scratch: *mut T,
) {
    let plan = &call.plan;
    let end = plan.rows.min(units.end * size);
    // The next batch is fetched into the cache while this one is computed.
    let step = plan.row(size).minus(plan.row(0));
    let ahead = if call.x_in_place { step.x } else { 0 };
    let ahead_out = if call.out_in_place { step.out } else { 0 };
    let mut batch = Batch::EMPTY;
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        for start in (units.start * size..end).step_by(size) {
            open(s, call, start..end.min(start + size), scratch, &mut batch);
            let known = sums(s, call, &mut batch, ahead);
            finish(s, call, &batch, &known, scratch, ahead_out);
        }
    }
}

impl<T: Stored> Batch<T> {
    const EMPTY: Self = Self {
        count: 0,
        places: [Place::ORIGIN; 16],
        x: [std::ptr::null(); 16],
        y: [std::ptr::null_mut(); 16],
        maxima: Lanes([<T as Float>::ZERO; 16]),
        n: 0,
    };
}

/// Finds rows, and their maxima.
#[inline(always)]
unsafe fn open<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    rows: Range<usize>,
    scratch: *mut T,
    batch: &mut Batch<T>,
) {
    let plan = &call.plan;
    let n = plan.n;
    batch.n = n;
    batch.count = rows.len();
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        for (i, r) in rows.enumerate() {
            let place = plan.row(r);
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
            batch.maxima.0[i] = along::max(s, batch.x[i], n);
        }
    }
}

/// Sums exponentials (and stores them, if `finish` wants them), and finds what the results need.
#[inline(always)]
unsafe fn sums<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    batch: &mut Batch<T>,
    ahead: isize,
) -> Known<S, T> {
    let (n, count) = (batch.n, batch.count);
    let mut folded = Folded::<T>::new(count);
    let mut ties = Lanes([<T as Float>::ONE; 16]);
    // SAFETY: rows of the batch.
    unsafe {
        let stage = Stage::new(s, call, Vector::from_lanes(s, &batch.maxima), count, batch);
        let exp_rows = stage.exp.rows();
        let pivots = stage.pivot.to_lanes();
        for i in 0..count {
            let exp = stage.row(s, &exp_rows, &pivots, i);
            let m = Vector::splat(s, pivots.0[i]);
            let (x, y) = (batch.x[i], batch.y[i]);
            let next = x.wrapping_byte_offset(ahead);
            let sum = match O::FROM {
                From::Exp => along::exp_sum::<S, T, true>(s, &exp, m, x, y, n, next),
                _ => along::exp_sum::<S, T, false>(s, &exp, m, x, y, n, next),
            };
            folded.set(i, sum.folded);
            ties.0[i] = T::from_f64(sum.ties);
        }
        let low = folded.add_lanes(s, 0);
        let high = if count > 8 { folded.add_lanes(s, 8) } else { low };
        stage.conclude(s, call.op, [low, high], Vector::from_lanes(s, &ties), count)
    }
}

/// Writes the results. Meanwhile asks for the cache lines of the next ones.
#[inline(always)]
unsafe fn finish<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    batch: &Batch<T>,
    known: &Known<S, T>,
    scratch: *mut T,
    ahead: isize,
) {
    let (n, count) = (batch.n, batch.count);
    // SAFETY: rows of the batch.
    unsafe {
        if O::FROM == From::Nothing {
            let block = scratch.wrapping_add(call.rows_scratch(count) / size_of::<T>()).cast();
            known.write_values(s, call, count, batch, block);
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
                let next = y.wrapping_byte_offset(ahead);
                along::map(
                    s,
                    source,
                    y,
                    n,
                    Finish {
                        op: call.op,
                        params: &p,
                    },
                    next,
                );
            }
            if !call.out_in_place {
                pack::unpack(s, &call.plan, batch.places[i], 0, n, y, T::from_f64(O::MASKED));
            }
        }
    }
}

/// Sums and rests: eight lanes of each of sixteen rows.
#[repr(align(64))]
struct Folded<T>([[MaybeUninit<[f64; 8]>; 16]; 2], PhantomData<T>);

impl<T: Float> Folded<T> {
    /// What rounding took is not kept for float32.
    const PARTS: usize = if T::KEEPS_REST { 2 } else { 1 };

    /// For `count` rows: zeros in as many eights of rows as they need. (To fill all of it would cost a small call a
    /// tenth of its time.)
    #[inline(always)]
    fn new(count: usize) -> Self {
        let mut folded = Self([[MaybeUninit::uninit(); 16]; 2], PhantomData);
        for part in &mut folded.0[..Self::PARTS] {
            for row in &mut part[..if count > 8 { 16 } else { 8 }] {
                row.write([0.0; 8]);
            }
        }
        folded
    }

    #[inline(always)]
    fn set<S: Isa>(&mut self, row: usize, sum: [Vector<S, f64>; 2]) {
        for k in 0..Self::PARTS {
            // SAFETY: a row of eight.
            unsafe { sum[k].store(self.0[k][row].as_mut_ptr().cast()) };
        }
    }

    /// The sums of eight rows, a lane each, from their lanes.
    #[inline(always)]
    fn add_lanes<S: Isa>(&self, s: S, first: usize) -> [Vector<S, f64>; 2] {
        let mut lanes = [[Vector::zero(s); 2]; 8];
        for k in 0..Self::PARTS {
            for l in (0..8).step_by(2) {
                let mut rows = [std::ptr::null(); 16];
                let mut columns = [Simd::<f64>::splat(s, 0.0); 4];
                // SAFETY: pairs of float64 in eight rows that `new` wrote.
                unsafe {
                    for i in 0..8 {
                        rows[i] = self.0[k][first + i].as_ptr().cast::<f64>().add(l);
                    }
                    Simd::<f64>::load_tile(s, &rows, &mut columns);
                }
                lanes[l][k] = Vector(columns[0], s);
                lanes[l + 1][k] = Vector(columns[1], s);
            }
        }
        add_lanes::<S, T>(lanes)
    }
}

/// Moves a row.
///
/// # Safety
/// `x` is valid for reading and `y` for writing `n` elements.
#[cold]
#[inline(never)]
pub(super) unsafe fn move_row<T: Stored>(x: *const T, y: *mut T, n: usize, by: Move<T>) {
    for j in 0..n {
        // SAFETY: the caller's promise; rows of the problem may be misaligned.
        unsafe { y.add(j).write_unaligned(by.apply(x.add(j).read_unaligned())) };
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
