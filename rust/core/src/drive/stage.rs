//! Between the passes: up to `LANES` rows, a lane each, from their maxima to the constants of their exponentials, and
//! from their sums to what the results need. Rows and panels share it.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::details::{Details, LossRows, of_row};
use super::long::Refine;
use super::plan::Place;
use super::{Call, Kind, Move, any_cancels, cancels, exponent, pack};
use crate::element::Stored;
use crate::math::exp::{Base, Exp, RowExp};
use crate::ops::{From, Given, Losses, Params, RowOp, RowPart, Stats};
use crate::row::SUMS;
use crate::simd::{Float, Isa, Lanes, Simd, Vector, pow2};

/// How to get at the rows, where that is rarely needed.
pub(super) trait Access<T> {
    /// The place of the row in a lane.
    fn place(&self, l: usize) -> Place;
    /// The number of the row in a lane, in C order of the kept axes.
    fn number(&self, l: usize) -> isize;
    /// Whether the row in a lane takes no part.
    #[inline(always)]
    fn skips(&self, details: &Details<'_>, l: usize) -> bool {
        details.skips(self.number(l))
    }
    /// Whether one of `count` does not.
    #[inline(always)]
    fn any_skips(&self, details: &Details<'_>, count: usize) -> bool {
        let mut any = false;
        for l in 0..count {
            any |= self.skips(details, l);
        }
        any
    }
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

/// Temperatures of rows that differ in them, or are not all within reach. (Apart from the rest, which is moved about.)
pub(super) struct Temperatures {
    /// Of the rows.
    true_ones: Lanes<f64>,
    /// Those that go with the pivots.
    moved: Lanes<f64>,
    /// Those without the power of two that results are multiplied with, and its exponent.
    scaled: Lanes<f64>,
    octaves: [i32; 16],
    /// Whether a maximum is infinite.
    special: bool,
}

/// Rows whose maxima are known.
pub(super) struct Stage<'c, S: Isa + Simd<T>, T: Float> {
    /// The maxima; NaN for a row that has a NaN, as far as that is known.
    max: Lanes<T>,
    /// The maxima as the passes meet them.
    pub(super) pivot: Vector<S, T>,
    pub(super) exp: Exp<S, T>,
    /// The one temperature of all rows, and that which goes with the pivots; unless there are `temperatures`.
    temperature: [f64; 2],
    temperatures: Option<&'c Temperatures>,
    /// Whether the constants of exp are those of one temperature, the call's.
    pub(super) uniform: bool,
}

impl<'c, S: Isa + Simd<T>, T: Stored> Stage<'c, S, T> {
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
        room: &'c mut Option<Temperatures>,
    ) -> Self {
        let largest = max.max(Vector::zero(s) - max).reduce_max();
        if call.one_temperature && call.base.reaches(largest) {
            return Self {
                max: max.to_lanes(),
                pivot: max,
                exp: Exp::new(s, &call.base, max, O::DEPTH),
                temperature: [call.plan.temperature(Place::default()); 2],
                temperatures: None,
                uniform: true,
            };
        }
        // SAFETY: the caller's promise.
        let found = unsafe { classify(call, max.to_lanes(), access, count) };
        let pivot = Vector::from_lanes(s, &found.pivots);
        Self {
            max: found.maxima,
            pivot,
            exp: Exp::per_lane(s, &found.bases, pivot, O::DEPTH),
            temperature: [1.0; 2],
            temperatures: Some(room.insert(found.temperatures)),
            uniform: false,
        }
    }

    /// Rows of a saved result with these maxima. What is exponentiated of it is logarithms of probabilities: relative to
    /// 0, at a temperature of 1, whatever the temperature of the derivative.
    #[inline(always)]
    pub(super) fn saved<O: RowOp>(
        s: S,
        call: &Call<'_, T, O>,
        max: Vector<S, T>,
        count: usize,
        access: &impl Access<T>,
        room: &'c mut Option<Temperatures>,
    ) -> Self {
        let zero = Vector::zero(s);
        let mut stage = Self {
            max: max.to_lanes(),
            pivot: zero,
            exp: Exp::new(s, &call.base, zero, O::DEPTH),
            temperature: [call.plan.temperature(Place::default()), 1.0],
            temperatures: None,
            uniform: true,
        };
        if !call.one_temperature || call.octaves(Place::default()).1 != 0 {
            stage.temperatures = Some(room.insert(Temperatures::of_saved(call, count, access)));
        }
        stage
    }

    /// The constants of the row in lane `l`; `rows` is `self.exp.rows()`.
    #[inline(always)]
    pub(super) fn row<'a, O: RowOp>(
        &self,
        call: &'a Call<'_, T, O>,
        rows: &[Lanes<T>; 3],
        l: usize,
        room: &'a mut Option<Base<T>>,
    ) -> RowExp<'a, T> {
        let base = match self.temperatures {
            Some(temperatures) if !self.uniform => room.insert(Base::new(temperatures.moved.0[l])),
            _ => &call.base,
        };
        RowExp::new(base, rows, l)
    }

    /// Of eight rows, which are a half of float32's: what the results need.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "a part of one function")]
    fn conclude_half<O: RowOp>(
        &self,
        s: S,
        call: &Call<'_, T, O>,
        all_sums: &impl SumsOf<S>,
        found: &Found<S, T>,
        given: Option<&Given<Lanes<f64>>>,
        (i, count): (usize, usize),
    ) -> Half<S> {
        let [own, own_rest] = if O::SCORES { self.exp.peak } else { [Vector::zero(s); 2] };
        // Of a saved result: the exponential of 0, and no other.
        let of_zero = Vector::splat(s, T::KAPPA * pow2(O::DEPTH.bias::<T>()));
        let max = Vector::from_lanes(s, &self.max);
        let [sum, rest] = if O::SCORES {
            all_sums.half(s, 0, i, count)
        } else {
            [Vector::zero(s); 2]
        };
        let own = [T::widen_half(s, own, i), T::widen_half(s, own_rest, i)];
        let pivot = T::widen_half(s, self.pivot, i);
        let [temperature, moved_temperature, scaled_temperature] = match self.temperatures {
            // SAFETY: eight of sixteen lanes.
            Some(of) => unsafe {
                [
                    Vector::load(s, of.true_ones.0.as_ptr().add(8 * i)),
                    Vector::load(s, of.moved.0.as_ptr().add(8 * i)),
                    Vector::load(s, of.scaled.0.as_ptr().add(8 * i)),
                ]
            },
            None => {
                let [temperature, moved] = self.temperature;
                let temperature = Vector::splat(s, temperature);
                [temperature, Vector::splat(s, moved), temperature]
            }
        };
        let (mut sums, mut rests) = ([Vector::zero(s); SUMS], [Vector::zero(s); SUMS]);
        for k in 0..O::SUMS {
            let [hi, lo] = all_sums.half(s, 1 + k, i, count);
            [sums[k], rests[k]] = total(hi, lo);
        }
        let zero = Vector::zero(s);
        let stats = Stats {
            fuses: S::LEVEL.fuses(),
            max: T::widen_half(s, max, i),
            temperature,
            scaled_temperature,
            pivot,
            moved_temperature,
            sum,
            rest,
            peak: if O::SCORES {
                T::pair(own)
            } else {
                [of_zero, Vector::zero(s)]
            },
            own: if O::SCORES { own[0] } else { of_zero },
            ties: T::widen_half(s, found.ties, i),
            sums,
            rests,
            picked: T::widen_half(s, found.picked, i),
            given: match &given {
                // SAFETY: eight of sixteen lanes.
                Some(given) => unsafe {
                    Given {
                        weight: Vector::load(s, given.weight.0.as_ptr().add(8 * i)),
                        factor: Vector::load(s, given.factor.0.as_ptr().add(8 * i)),
                        square: Vector::load(s, given.square.0.as_ptr().add(8 * i)),
                        square_factor: Vector::load(s, given.square_factor.0.as_ptr().add(8 * i)),
                    }
                },
                None => Given::nothing(s),
            },
        }
        .without_maximum::<O>();
        let mut doubtful = doubt(stats.picked) + doubt(stats.given.factor);
        for k in 0..O::SUMS {
            doubtful = doubtful + doubt(sums[k]);
        }
        if !O::SCORES {
            doubtful = doubtful + doubt(stats.max);
        }
        let losses = if call.plan.details.losses.is_some() {
            call.op.losses(&stats)
        } else {
            Losses {
                entropy: zero,
                square: zero,
            }
        };
        let part = RowPart {
            op: call.op,
            stats: &stats,
            float: PhantomData::<T>,
        };
        Half {
            params: Simd::<f64>::part(s, part),
            lost: if O::SCORES { sum.not_equal(sum).bits() } else { 0 },
            doubtful,
            losses,
        }
    }

    /// What the results need, from the sums, and for each row the number of maxima and what was picked. Losses are written
    /// here.
    ///
    /// # Safety
    /// The rows behind `access` are valid, and no one else has them.
    #[inline(always)]
    pub(super) unsafe fn conclude<O: RowOp>(
        self,
        s: S,
        call: &Call<'_, T, O>,
        access: &impl Access<T>,
        all_sums: &impl SumsOf<S>,
        found: Found<S, T>,
        count: usize,
    ) -> Known<S, T> {
        let mut octaves = match self.temperatures {
            Some(temperatures) if O::DERIVES => Some(temperatures.octaves),
            _ => None,
        };
        let given = if call.given {
            Some(given(call, access, count, &mut octaves))
        } else {
            None
        };
        let low = self.conclude_half(s, call, all_sums, &found, given.as_ref(), (0, count));
        let (mut lost, mut doubtful) = (low.lost, low.doubtful);
        // (Zeros would be laid down and copied: a twentieth of a small call. Of float64 there is but one half.)
        let mut high = MaybeUninit::uninit();
        let has_high = T::LANES > 8 && count > 8;
        if has_high {
            let high = high.write(self.conclude_half(s, call, all_sums, &found, given.as_ref(), (1, count)));
            lost |= high.lost << 8;
            doubtful = doubtful + high.doubtful;
        }
        // A row whose sum is NaN has one.
        let special = lost != 0 || self.temperatures.is_some_and(|temperatures| temperatures.special);
        let mut narrow = [Vector::zero(s); 6];
        let mut large = Vector::zero(s);
        for k in 0..O::PARAMS {
            let halves = if has_high {
                // SAFETY: written above.
                [low.params[k], unsafe { high.assume_init_ref() }.params[k]]
            } else {
                [low.params[k], Vector::zero(s)]
            };
            narrow[k] = T::from_halves(s, halves);
            large = large + doubt(narrow[k] * Vector::splat(s, T::from_f64(NEAR_OVERFLOW)));
        }
        let mut known = Known {
            params: narrow,
            max: self.max,
            octaves: if O::DERIVES { octaves } else { None },
            doubtful: (O::SUMS > 0 || O::FIX.is_some() || call.given) && (doubtful.any_nan() || large.any_nan()),
            special,
        };
        if lost != 0 {
            for l in 0..count {
                if lost >> l & 1 == 1 && known.max.0[l].is_finite() {
                    known.max.0[l] = T::NAN;
                }
            }
        }
        if let Some(rows) = call.plan.details.losses {
            let mut losses = [Lanes([0.0; 16]); 2];
            // SAFETY: eight of sixteen lanes each; the second half was written above.
            unsafe {
                low.losses.entropy.store(losses[0].0.as_mut_ptr());
                low.losses.square.store(losses[1].0.as_mut_ptr());
                if has_high {
                    let high = high.assume_init_ref();
                    high.losses.entropy.store(losses[0].0.as_mut_ptr().add(8));
                    high.losses.square.store(losses[1].0.as_mut_ptr().add(8));
                }
            }
            if known.special || access.any_skips(call.plan.details, count) {
                for l in 0..count {
                    let loss = if access.skips(call.plan.details, l) {
                        0.0
                    } else if known.is_nan(l) {
                        f64::NAN
                    } else {
                        continue;
                    };
                    losses.iter_mut().for_each(|losses| losses.0[l] = loss);
                }
            }
            let first = access.number(0);
            // SAFETY: a number for each row.
            unsafe {
                if call.plan.in_order() {
                    rows.write(&losses, count, |l| first + l as isize);
                } else {
                    // (By a loop of its own: a closure that finds a place may become a function, called from the kernel.)
                    let mut numbers = [0; 16];
                    for l in 0..count {
                        numbers[l] = access.number(l);
                    }
                    rows.write(&losses, count, |l| numbers[l]);
                }
            }
        }
        known
    }
}

/// What is known of eight rows, a lane each.
struct Half<S: Isa> {
    params: Params<Vector<S, f64>>,
    /// A bit for each row whose sum is NaN.
    lost: u32,
    /// NaN where a result may be.
    doubtful: Vector<S, f64>,
    /// If they are wanted.
    losses: Losses<Vector<S, f64>>,
}

/// A sum and what rounding took from it (of an infinite sum that is NaN, and means nothing), so that the first is the whole
/// rounded once.
#[inline(always)]
pub(super) fn total<S: Isa>(sum: Vector<S, f64>, rest: Vector<S, f64>) -> [Vector<S, f64>; 2] {
    let rest = rest.select(rest.equal(rest), Vector::zero(sum.1));
    let whole = sum + rest;
    [whole, rest - (whole - sum)]
}

/// A number of a row that overflows times this may take its elements beyond the type: to move the largest element by half
/// an ulp it must be so large. (And 0 times an infinite number is a NaN.)
pub(super) const NEAR_OVERFLOW: f64 = (1_u64 << 60) as f64;

/// Zero, or NaN where a number is infinite or NaN.
#[inline(always)]
fn doubt<S: Simd<T>, T: Float>(v: Vector<S, T>) -> Vector<S, T> {
    v * Vector::zero(v.1)
}

/// The sums of a pass over rows, a lane each.
pub(super) trait SumsOf<S: Isa> {
    /// One of the sums (the exponentials' first), and what rounding took from it: of eight rows of `count` in all.
    fn half(&self, s: S, of: usize, half: usize, count: usize) -> [Vector<S, f64>; 2];
}

/// What else the passes over rows found.
pub(super) struct Found<S: Isa + Simd<T>, T: Float> {
    /// How many elements are the maximum.
    pub(super) ties: Vector<S, T>,
    /// What was picked.
    pub(super) picked: Vector<S, T>,
}

impl LossRows {
    /// Writes what rows add to the loss, each to its number.
    ///
    /// # Safety
    /// There are numbers for all rows of the call.
    #[inline(always)]
    pub(super) unsafe fn write(self, losses: &[Lanes<f64>; 2], count: usize, number: impl Fn(usize) -> isize) {
        for l in 0..count {
            // SAFETY: the caller's promise.
            unsafe { *self.entropy.offset(number(l)) = losses[0].0[l] };
        }
        if let Some(square) = self.square {
            for l in 0..count {
                // SAFETY: the caller's promise.
                unsafe { *square.offset(number(l)) = losses[1].0[l] };
            }
        }
    }
}

/// The numbers that come with rows.
#[inline(never)]
fn given<T: Stored, O: RowOp>(
    call: &Call<'_, T, O>,
    access: &impl Access<T>,
    count: usize,
    octaves: &mut Option<[i32; 16]>,
) -> Given<Lanes<f64>> {
    if call.given_alike {
        let (of, more) = call.given(access.place(0));
        if more != 0 {
            octaves
                .get_or_insert([0; 16])
                .iter_mut()
                .for_each(|octaves| *octaves += more);
        }
        return Given {
            weight: Lanes([of.weight; 16]),
            factor: Lanes([of.factor; 16]),
            square: Lanes([of.square; 16]),
            square_factor: Lanes([of.square_factor; 16]),
        };
    }
    let mut given = Given {
        weight: Lanes([1.0; 16]),
        factor: Lanes([1.0; 16]),
        square: Lanes([0.0; 16]),
        square_factor: Lanes([0.0; 16]),
    };
    for l in 0..count {
        let (of, more) = call.given(access.place(l));
        if more != 0 {
            octaves.get_or_insert([0; 16])[l] += more;
        }
        given.weight.0[l] = of.weight;
        given.factor.0[l] = of.factor;
        given.square.0[l] = of.square;
        given.square_factor.0[l] = of.square_factor;
    }
    given
}

impl<T: Stored, O: RowOp> Call<'_, T, O> {
    /// The temperature of a row as derivatives are divided by it, and the exponent of the power of two that they are
    /// multiplied with in the end. Ordinary temperatures have none; the forward functions have no 1 / T.
    #[inline(always)]
    pub(super) fn octaves(&self, place: Place) -> (f64, i32) {
        let temperature = self.plan.temperature(place);
        // 1 / T comes together with the inverse of a sum of exponentials, which may have a hundred octaves itself.
        let [low, high] = T::DIVISORS;
        let power = if self.plan.details.hessian { 2 } else { 1 };
        let octaves = exponent(temperature);
        if (low..=high).contains(&(power * octaves)) || !O::DERIVES {
            return (temperature, 0);
        }
        let scaled = temperature * pow2(-octaves / 2) * pow2(-octaves - -octaves / 2);
        (
            scaled,
            if self.plan.details.hessian {
                -2 * octaves
            } else {
                -octaves
            },
        )
    }

    /// The numbers that come with a row, factors but for a power of two, whose exponent comes with them.
    #[inline]
    pub(super) fn given(&self, place: Place) -> (Given<f64>, i32) {
        let details = self.plan.details;
        let weight = of_row(details.weights, place.row);
        let cotangent = of_row(details.cotangents, place.row);
        let mut factor = weight * cotangent * details.scale / details.divisor;
        if details.hessian {
            factor /= self.octaves(place).0;
        }
        let mut given = Given {
            weight,
            factor,
            square: 0.0,
            square_factor: 0.0,
        };
        if let Some(of) = details.square {
            given.square = of.coefficient * of_row(of.weights, place.row);
            given.square_factor = 2.0 * given.square * cotangent * details.scale / of.divisor;
        }
        let size = given.factor.abs();
        let is_tiny = 0.0 < size && size <= pow2(-T::DIVISORS[1]);
        if !is_tiny {
            return (given, 0);
        }
        let octaves = exponent(size);
        for factor in [&mut given.factor, &mut given.square_factor] {
            *factor = *factor * pow2(-octaves / 2) * pow2(-octaves - -octaves / 2);
        }
        (given, octaves)
    }
}

/// Rows that differ in kind or temperature.
struct Classified<T> {
    maxima: Lanes<T>,
    pivots: Lanes<T>,
    temperatures: Temperatures,
    bases: [Base<T>; 16],
}

impl Temperatures {
    const ONES: Self = Self {
        true_ones: Lanes([1.0; 16]),
        moved: Lanes([1.0; 16]),
        scaled: Lanes([1.0; 16]),
        octaves: [0; 16],
        special: false,
    };

    /// Of rows of a saved result.
    #[cold]
    #[inline(never)]
    fn of_saved<T: Stored, O: RowOp>(call: &Call<'_, T, O>, count: usize, access: &impl Access<T>) -> Self {
        let mut rows = Self::ONES;
        for l in 0..count {
            rows.true_ones.0[l] = call.plan.temperature(access.place(l));
            (rows.scaled.0[l], rows.octaves[l]) = call.octaves(access.place(l));
        }
        rows
    }
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
        temperatures: Temperatures::ONES,
        bases: [Base::new(1.0); 16],
    };
    let of = &mut rows.temperatures;
    for l in 0..count {
        if access.skips(call.plan.details, l) {
            // What there is of it need not have been brought.
            continue;
        }
        let m = maxima.0[l];
        rows.pivots.0[l] = m;
        of.true_ones.0[l] = call.plan.temperature(access.place(l));
        of.moved.0[l] = of.true_ones.0[l];
        (of.scaled.0[l], of.octaves[l]) = call.octaves(access.place(l));
        rows.bases[l] = call.base(of.true_ones.0[l]);
        match Kind::of(m, &rows.bases[l], of.true_ones.0[l]) {
            Kind::Near => {}
            Kind::Far(by) => {
                // SAFETY: the caller's promise.
                unsafe { access.move_row(l, by) };
                rows.pivots.0[l] = by.pivot;
                of.moved.0[l] = by.temperature;
                rows.bases[l] = Base::new(by.temperature);
            }
            Kind::Special => {
                of.special = true;
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
    /// Exponents of the powers of two that results are multiplied with.
    pub(super) octaves: Option<[i32; 16]>,
    /// Whether there may be a NaN in the results of rows that have probabilities: then all are made the one that results
    /// hold.
    pub(super) doubtful: bool,
    /// Whether a maximum is infinite or NaN.
    pub(super) special: bool,
}

impl<S: Isa + Simd<T>, T: Stored> Known<S, T> {
    /// The exponent of the power of two that the results of row `l` are multiplied with.
    #[inline(always)]
    pub(super) fn octaves(&self, l: usize) -> i32 {
        self.octaves.map_or(0, |octaves| octaves[l])
    }

    /// Whether row `l` has no probabilities: it is filled with NaN.
    #[inline(always)]
    pub(super) fn is_nan(&self, l: usize) -> bool {
        self.special && !self.max.0[l].is_finite()
    }

    /// Writes the values of a reduction, if they are what is wanted.
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
        if call.plan.details.losses.is_some() {
            return;
        }
        let [values, logs, ..] = self.params;
        let max = Vector::from_lanes(s, &self.max);
        let mut numbers = values.to_lanes();
        // SAFETY: the caller's promise.
        unsafe {
            if self.special || values.any_nan() {
                self.mend(call, &mut numbers, count, access);
            }
            if O::REFINED && any_cancels(max, values, logs) {
                let logs = logs.to_lanes();
                for l in 0..count {
                    if !self.is_nan(l) && cancels(self.max.0[l].to_f64(), numbers.0[l], logs.0[l]) {
                        let place = access.place(l);
                        numbers.0[l] = s.apart(Refine { call, place, scratch });
                    }
                }
            }
            match call.plan.out_step() {
                Some(step) => pack::write_values(s, call.plan, access.place(0), step, &mut numbers.0[..count]),
                None => {
                    for l in 0..count {
                        pack::write_values(s, call.plan, access.place(l), 0, &mut numbers.0[l..=l]);
                    }
                }
            }
        }
    }

    /// The values of rows without probabilities, and the bits of NaN.
    ///
    /// # Safety
    /// As for [`write_values`](Self::write_values).
    #[cold]
    #[inline(never)]
    unsafe fn mend<O: RowOp>(
        &self,
        call: &Call<'_, T, O>,
        values: &mut Lanes<T>,
        count: usize,
        access: &impl Access<T>,
    ) {
        for l in 0..count {
            let value = &mut values.0[l];
            if self.is_nan(l) {
                // SAFETY: the caller's promise.
                *value = unsafe { degenerate(call, access.place(l), self.max.0[l]) };
            } else if value.is_nan() {
                *value = T::NAN;
            }
        }
    }
}

/// What a reduction gives for a row whose maximum is infinite or NaN. A product over no elements is 0.
///
/// # Safety
/// The problem is valid.
#[cold]
#[inline(never)]
pub(super) unsafe fn degenerate<T: Stored, O: RowOp>(call: &Call<'_, T, O>, place: Place, max: T) -> T {
    // SAFETY: the caller's promise.
    if O::SECOND && unsafe { pack::count(call.plan, place) } == 0 {
        return T::ZERO;
    }
    call.op.degenerate(max)
}
