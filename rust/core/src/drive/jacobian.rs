//! Jacobians: the probabilities of a row, then n rows of n numbers, one after the other.
//!
//! For looking, and for small n: what n^2 numbers are used for, the products do without them.

use std::ops::Range;

use super::rows::{self, fill, scale_row};
use super::{Call, pack};
use crate::element::Stored;
use crate::ops::Probabilities;
use crate::problem::{Control, Error};
use crate::row::{Map, Source, To, along};
use crate::simd::{Float, Isa, Kernel, Simd, Vector};

/// All rows.
///
/// # Safety
/// The problem is valid, its `out` as a Jacobian's.
pub(super) unsafe fn run<T: Stored>(
    call: &Call<'_, T, Probabilities>,
    softmax: bool,
    control: &dyn Control,
) -> Result<(), Error> {
    let (rows, n) = (call.plan.rows, call.plan.n);
    if rows == 0 || n == 0 {
        return Ok(());
    }
    let bytes = 2 * n * size_of::<T>();
    // SAFETY: each row has results of its own.
    unsafe {
        call.share(rows, n.saturating_mul(n), bytes, control, |call, units, scratch| Task {
            call,
            softmax,
            units,
            scratch,
        })
    }
}

/// Some rows.
struct Task<'a, 'b, T> {
    call: &'b Call<'a, T, Probabilities>,
    softmax: bool,
    units: Range<usize>,
    scratch: *mut T,
}

impl<T: Stored> Kernel<T> for Task<'_, '_, T> {
    type Out = ();
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        for unit in self.units {
            // SAFETY: `run` was called with a valid problem, and made the task for it.
            unsafe { row(s, self.call, self.softmax, unit, self.scratch) };
        }
    }
}

/// The Jacobian of row `r`.
///
/// # Safety
/// The problem is valid, its `out` as a Jacobian's; `scratch` holds two rows.
#[inline(always)]
unsafe fn row<S: Isa + Simd<T>, T: Stored>(
    s: S,
    call: &Call<'_, T, Probabilities>,
    softmax: bool,
    r: usize,
    scratch: *mut T,
) {
    let n = call.plan.n;
    let out = &call.plan.problem.out;
    let place = call.plan.row(r);
    let rows = call.plan.reduced().first().map_or(0, |axis| axis.step.out);
    let columns = out.strides.last().copied().unwrap_or(0);
    let line = scratch.wrapping_add(n);
    // SAFETY: the caller's promise.
    unsafe {
        let found = rows::probabilities(s, call, r, scratch);
        for i in 0..n {
            match &found {
                None => fill(line, n, T::NAN),
                Some(row) => {
                    let p = scratch.add(i).read();
                    let scale = Line {
                        p: if softmax { Vector::splat(s, p) } else { row.one },
                        inverse: row.inverse,
                    };
                    along::map(s, scale, Source::of(scratch, scratch), To::Cache(line), n);
                    // 1 - p_i, at the maximum without the difference.
                    let rest = if i == row.peak {
                        row.tail
                    } else {
                        row.one - Vector::splat(s, p)
                    };
                    let diagonal = scale.p * rest;
                    let diagonal = diagonal.mul_add(row.inverse[0], diagonal * row.inverse[1]);
                    line.add(i).write(diagonal.lane(0));
                    if row.octaves != 0 {
                        scale_row(line, n, row.octaves);
                    }
                }
            }
            let to = out.ptr.offset(place.out.wrapping_add(rows.wrapping_mul(i as isize)));
            pack::save(s, out.dtype, line, to, columns, n);
        }
    }
}

/// -p_i p_j / T.
struct Line<S: Simd<T>, T: Float> {
    p: Vector<S, T>,
    inverse: [Vector<S, T>; 2],
}

impl<S: Simd<T>, T: Float> Clone for Line<S, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<S: Simd<T>, T: Float> Copy for Line<S, T> {}

impl<S: Simd<T>, T: Float> Map<S, T> for Line<S, T> {
    const SECOND: bool = false;
    #[inline(always)]
    fn apply(self, v: Vector<S, T>, _: Vector<S, T>) -> Vector<S, T> {
        // The product of the two first: the matrix is symmetric to the last bit.
        let product = Vector::zero(v.1) - self.p * v;
        product.mul_add(self.inverse[0], product * self.inverse[1])
    }
}
