//! Between the passes: up to `LANES` rows, a lane each, from their maxima to the constants of their exponentials, and
//! from their sums to what the results need. Rows and panels share it.

use super::plan::Place;
use super::{Call, Kind, Move, cancels, long, pack};
use crate::element::Stored;
use crate::math::exp::{Base, Exp, peak};
use crate::ops::{From, Params, RowOp, Stats};
use crate::simd::{Float, Isa, Lanes, Simd, Vector};

/// How to get at the rows, where that is rarely needed.
pub(super) trait Access<T> {
    /// The place of the row in a lane.
    fn place(&self, l: usize) -> Place;
    /// Moves a row.
    ///
    /// # Safety
    /// The rows are valid.
    unsafe fn move_row(&mut self, l: usize, by: Move<T>);
    /// Whether a row has a NaN.
    ///
    /// # Safety
    /// The rows are valid.
    unsafe fn has_nan(&self, l: usize) -> bool;
}

/// Rows whose maxima are known.
pub(super) struct Stage<S: Isa + Simd<T>, T: Float> {
    /// The maxima; NaN for a row that has a NaN, as far as that is known.
    max: Lanes<T>,
    /// The maxima as the passes meet them.
    pub(super) pivot: Vector<S, T>,
    /// The temperatures that go with `pivot`.
    temperature: Lanes<f64>,
    pub(super) exp: Exp<S, T>,
    /// Whether all rows have one temperature.
    pub(super) uniform: bool,
    /// Whether a maximum is infinite.
    special: bool,
}

impl<S: Isa + Simd<T>, T: Stored> Stage<S, T> {
    /// From the maxima of `count` rows. (Lanes beyond hold numbers that no one will look at.)
    ///
    /// # Safety
    /// The rows behind `access` are valid.
    #[inline(always)]
    pub(super) unsafe fn new<O: RowOp>(
        s: S,
        call: &Call<'_, T, O>,
        max: Vector<S, T>,
        count: usize,
        access: &mut impl Access<T>,
    ) -> Self {
        let largest = max.max(Vector::zero(s) - max).reduce_max();
        if let Some(base) = &call.base
            && base.reaches(largest)
        {
            return Self {
                max: max.to_lanes(),
                pivot: max,
                temperature: Lanes([call.plan.temperature(Place::default()); 16]),
                exp: Exp::new(s, base, max),
                uniform: true,
                special: false,
            };
        }
        // SAFETY: the caller's promise.
        let found = unsafe { classify(call, max.to_lanes(), access, count) };
        let pivot = Vector::from_lanes(s, &found.pivots);
        Self {
            max: found.maxima,
            pivot,
            temperature: found.temperatures,
            exp: Exp::per_lane(s, &found.bases, pivot),
            uniform: false,
            special: found.special,
        }
    }

    /// The constants of the row in lane `l`, in all lanes; `rows` is `self.exp.rows()`.
    #[inline(always)]
    pub(super) fn row(&self, s: S, rows: &[Lanes<T>; 2], pivots: &Lanes<T>, l: usize) -> Exp<S, T> {
        if self.uniform {
            self.exp.row(s, rows, l)
        } else {
            Exp::new(s, &Base::new(self.temperature.0[l]), Vector::splat(s, pivots.0[l]))
        }
    }

    /// What the results need, from [sums, rests] of each half and the numbers of maxima.
    #[inline(always)]
    pub(super) fn conclude<O: RowOp>(
        self,
        s: S,
        op: O,
        halves: [[Vector<S, f64>; 2]; 2],
        ties: Vector<S, T>,
        count: usize,
    ) -> Known<S, T> {
        let [own, own_rest] = self.exp.pair(self.pivot);
        let max = Vector::from_lanes(s, &self.max);
        let mut params = [[Vector::zero(s); 6]; 2];
        let mut special = self.special;
        // For float64 there is but one half.
        for i in 0..2 {
            if i * 8 < count && i * 8 < T::LANES {
                let [sum, rest] = halves[i];
                let own = [T::widen_half(s, own, i), T::widen_half(s, own_rest, i)];
                let pivot = T::widen_half(s, self.pivot, i);
                // SAFETY: eight of sixteen lanes.
                let temperature = unsafe { Vector::load(s, self.temperature.0.as_ptr().add(8 * i)) };
                special |= sum.any_nan();
                params[i] = op.row::<S, T>(&Stats {
                    max: T::widen_half(s, max, i),
                    pivot,
                    temperature,
                    sum,
                    rest,
                    peak: peak::<S, T>(s, pivot, temperature, T::widen_half(s, self.exp.octaves, i), own),
                    own: own[0],
                    ties: T::widen_half(s, ties, i),
                });
            }
        }
        let mut narrow = [Vector::zero(s); 6];
        for k in 0..O::PARAMS {
            narrow[k] = T::from_halves(s, [params[0][k], params[1][k]]);
        }
        let mut known = Known {
            params: narrow,
            max: self.max,
            special,
        };
        if special {
            let sums = halves.map(|half| half[0].to_lanes());
            for l in 0..T::LANES {
                if sums[l / 8].0[l % 8].is_nan() && known.max.0[l].is_finite() {
                    known.max.0[l] = T::NAN;
                }
            }
        }
        known
    }
}

/// Rows that differ in kind or temperature.
struct Classified<T> {
    maxima: Lanes<T>,
    pivots: Lanes<T>,
    temperatures: Lanes<f64>,
    bases: [Base<T>; 16],
    special: bool,
}

/// The kind of each row, where they differ or are not all within reach; rows are moved that have to be.
///
/// # Safety
/// The rows behind `access` are valid.
#[cold]
#[inline(never)]
unsafe fn classify<T: Stored, O: RowOp>(
    call: &Call<'_, T, O>,
    maxima: Lanes<T>,
    access: &mut impl Access<T>,
    count: usize,
) -> Classified<T> {
    let mut rows = Classified {
        maxima,
        pivots: Lanes([<T as Float>::ZERO; 16]),
        temperatures: Lanes([1.0; 16]),
        bases: [Base::new(1.0); 16],
        special: false,
    };
    for l in 0..count {
        let m = maxima.0[l];
        rows.pivots.0[l] = m;
        rows.temperatures.0[l] = call.plan.temperature(access.place(l));
        rows.bases[l] = call.base(rows.temperatures.0[l]);
        match Kind::of(m, &rows.bases[l], rows.temperatures.0[l]) {
            Kind::Near => {}
            Kind::Far(by) => {
                // SAFETY: the caller's promise.
                unsafe { access.move_row(l, by) };
                rows.pivots.0[l] = by.pivot;
                rows.temperatures.0[l] = by.temperature;
                rows.bases[l] = Base::new(by.temperature);
            }
            Kind::Special => {
                rows.special = true;
                // SAFETY: the caller's promise.
                if unsafe { access.has_nan(l) } {
                    rows.maxima.0[l] = T::NAN;
                }
                // Any finite pivot keeps the lane harmless.
                rows.pivots.0[l] = <T as Float>::ZERO;
            }
        }
    }
    rows
}

/// What the results of up to `LANES` rows need.
pub(super) struct Known<S: Isa + Simd<T>, T: Float> {
    pub(super) params: Params<Vector<S, T>>,
    /// The maxima; NaN for a row that has a NaN.
    pub(super) max: Lanes<T>,
    /// Whether a maximum is infinite or NaN.
    pub(super) special: bool,
}

impl<S: Isa + Simd<T>, T: Stored> Known<S, T> {
    /// Whether row `l` has no probabilities: it is filled with NaN.
    #[inline(always)]
    pub(super) fn is_nan(&self, l: usize) -> bool {
        self.special && !self.max.0[l].is_finite()
    }

    /// Writes the values of a reduction.
    ///
    /// # Safety
    /// The problem is valid; `scratch` holds a block of float64.
    #[inline(always)]
    pub(super) unsafe fn write_values<O: RowOp>(
        &self,
        s: S,
        call: &Call<'_, T, O>,
        count: usize,
        access: &impl Access<T>,
        scratch: *mut f64,
    ) {
        debug_assert!(O::FROM == From::Nothing);
        let values = self.params[0].to_lanes();
        let logs = self.params[1].to_lanes();
        for l in 0..count {
            let max = self.max.0[l];
            let mut value = values.0[l];
            // SAFETY: the caller's promise.
            unsafe {
                if self.is_nan(l) {
                    value = max;
                } else if cancels(max.to_f64(), value, logs.0[l]) {
                    value = long::refined(call, access.place(l), scratch);
                }
                pack::write_value(s, &call.plan, access.place(l), value);
            }
        }
    }
}
