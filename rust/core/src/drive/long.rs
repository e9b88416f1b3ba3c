//! Rows beyond the scratch, one at a time, block by block.
//!
//! Every block is read twice: once for its maximum and its sum, once for its results. (In cache three passes are faster,
//! since they compute each exponential once; from memory, reading is what costs.) Sums of blocks relative to different
//! maxima differ by a power of two, which is exact, so a block needs no maximum but its own. Blocks are added in order
//! within a span, spans in order within the row: threads take whole spans and change nothing.

use std::cell::UnsafeCell;
use std::ops::Range;

use super::plan::Place;
use super::rows::{fill, has_nan, move_row, one_nan, scale_row, second_of};
use super::stage::{NEAR_OVERFLOW, degenerate, total};
use super::{Call, Kind, Move, cancels, pack};
use crate::element::Stored;
use crate::math::exp::{Base, Exp, RowExp};
use crate::ops::{ExpFinish, Finish, From, Given, Pick, RowOp, Stats, Sums};
use crate::problem::{Control, Error};
use crate::row::{Ahead, SUMS, Source, Sum, To, along};
use crate::simd::{Float, Isa, Kernel, Lanes, Simd, Vector, pow2};

/// Elements of a block.
pub(super) const BLOCK: usize = 4096;
/// Blocks of scratch: scores, results, and the second row.
const BLOCKS: usize = 3;
/// Blocks of a span.
const SPAN: usize = 64;
/// Spans whose states are held at once (32 Mi elements): a row of any length needs no more memory.
const SPANS: usize = 128;

/// Bytes of scratch. Where a row may be done again in float64 they suffice for that too: memory is had before the first
/// result is written, or not at all.
fn scratch<T, O: RowOp>() -> usize {
    BLOCKS * BLOCK * if O::REFINED { size_of::<f64>() } else { size_of::<T>() }
}

/// The sums of some elements.
#[derive(Clone, Copy, Debug)]
struct State {
    /// The maximum; NaN as soon as there is a NaN. Of saved results: what all are relative to.
    max: f64,
    /// Of saved results: the largest. NaN is passed over.
    largest: f64,
    /// The exponent that was shifted out of the sum.
    octaves: f64,
    /// Without the maximum's.
    sum: [f64; 2],
    peak: [f64; 2],
    ties: f64,
    /// Beside that of the exponentials; only where the row's maximum was known before, so that all are in one scale.
    sums: [[f64; 2]; SUMS],
    /// Whether a block was out of the exponent shift's reach, so that its sum is missing.
    far: bool,
}

impl State {
    /// Of no elements.
    const EMPTY: Self = Self {
        max: f64::NEG_INFINITY,
        largest: f64::NEG_INFINITY,
        octaves: 0.0,
        sum: [0.0; 2],
        peak: [1.0, 0.0],
        ties: 0.0,
        sums: [[0.0; 2]; SUMS],
        far: false,
    };

    /// Of these elements and others after them.
    fn merge<T: Float>(self, other: Self) -> Self {
        let far = self.far || other.far;
        let largest = self.largest.max(other.largest);
        let mut sums = self.sums;
        for k in 0..SUMS {
            sums[k] = T::scalar_merge(self.sums[k], other.sums[k]);
        }
        if self.max.is_nan() || other.max.is_nan() {
            return Self {
                max: f64::NAN,
                far,
                largest,
                ..self
            };
        }
        if other.max == f64::NEG_INFINITY {
            return Self {
                far,
                sums,
                largest,
                ..self
            };
        }
        if self.max == f64::NEG_INFINITY {
            return Self {
                far,
                sums,
                largest,
                ..other
            };
        }
        let (high, mut low) = if self.max >= other.max {
            (self, other)
        } else {
            (other, self)
        };
        let mut ties = high.ties;
        if low.max == high.max {
            ties += low.ties;
        } else {
            // What was the maximum is one of the others now.
            low.sum = T::scalar_merge(low.sum, [low.peak[0] * low.ties, low.peak[1] * low.ties]);
        }
        let scale = pow2((low.octaves - high.octaves).max(-2000.0) as i32);
        let low_sum = [low.sum[0] * scale, low.sum[1] * scale];
        // In the order of the elements, though addition does not mind.
        Self {
            sum: T::scalar_merge(high.sum, low_sum),
            ties,
            sums,
            far,
            largest,
            ..high
        }
    }

    /// The statistics of a row of scores that this is the state of, in all lanes: at a temperature of 1, where nothing was
    /// picked or given.
    #[inline(always)]
    fn stats<S: Isa, T: Float, O: RowOp>(&self, s: S) -> Stats<S> {
        let (one, zero) = (Vector::splat(s, 1.0), Vector::zero(s));
        let max = Vector::splat(s, self.max);
        let own = [Vector::splat(s, self.peak[0]), Vector::splat(s, self.peak[1])];
        let (mut sums, mut rests) = ([zero; SUMS], [zero; SUMS]);
        for k in 0..SUMS {
            [sums[k], rests[k]] = total(Vector::splat(s, self.sums[k][0]), Vector::splat(s, self.sums[k][1]));
        }
        Stats {
            fuses: S::LEVEL.fuses(),
            max,
            temperature: one,
            scaled_temperature: one,
            pivot: max,
            moved_temperature: one,
            sum: Vector::splat(s, self.sum[0]),
            rest: Vector::splat(s, self.sum[1]),
            peak: T::pair(own),
            own: own[0],
            ties: Vector::splat(s, self.ties),
            sums,
            rests,
            picked: zero,
            given: Given {
                weight: one,
                factor: one,
                square: zero,
                square_factor: zero,
            },
        }
        .without_maximum::<O>()
    }
}

/// The maximum of some elements, and the first place where it is.
#[derive(Clone, Copy, Debug)]
struct Peak<T> {
    max: T,
    position: usize,
}

/// A long row while it is gone over.
pub(super) struct Long<T> {
    place: Place,
    /// The first span of those whose states are at hand.
    first: usize,
    states: [UnsafeCell<State>; SPANS],
    peaks: [UnsafeCell<Option<Peak<T>>>; SPANS],
    /// The constants of the row's temperature, and that after a move.
    base: Base<T>,
    moved_temperature: f64,
    /// What an earlier pass found.
    known: Option<Known<T>>,
    /// What was picked, and where.
    picked: T,
    position: usize,
    /// Whether the row takes no part.
    skips: bool,
    /// The whole row's state, when it is finished.
    state: State,
    /// What the results need.
    params: [T; 6],
    /// The power of two that results are multiplied with.
    octaves: i32,
    /// Whether there may be NaNs of other bits than the one among the results.
    doubtful: bool,
}

// SAFETY: each thread writes to the states of spans of its own.
unsafe impl<T: Sync> Sync for Long<T> {}

/// A row's maximum.
#[derive(Clone, Copy, Debug)]
struct Known<T> {
    /// The maximum, moved if the row is out of reach. (Of saved results only known if the row is saturated.)
    pivot: T,
    moved: Option<Move<T>>,
}

impl<T: Stored> Long<T> {
    /// The elements of a span.
    fn span(&self, span: usize, n: usize) -> Range<usize> {
        let start = (self.first + span) * SPAN * BLOCK;
        start..n.min(start + SPAN * BLOCK)
    }

    /// The maximum of the exponentials, as they meet it.
    fn pivot<O: RowOp>(&self) -> T {
        match self.known {
            Some(known) if O::SCORES => known.pivot,
            _ => T::ZERO,
        }
    }

    /// The statistics, in all lanes.
    #[inline(always)]
    fn stats<S: Isa, O: RowOp>(&self, s: S, call: &Call<'_, T, O>) -> Stats<S> {
        let (given, _) = call.given(self.place);
        Stats {
            fuses: call.level.level().fuses(),
            temperature: Vector::splat(s, call.plan.temperature(self.place)),
            scaled_temperature: Vector::splat(s, call.octaves(self.place).0),
            pivot: Vector::splat(s, self.pivot::<O>().to_f64()),
            moved_temperature: Vector::splat(s, self.moved_temperature),
            picked: Vector::splat(s, self.picked.to_f64()),
            given: Given {
                weight: Vector::splat(s, given.weight),
                factor: Vector::splat(s, given.factor),
                square: Vector::splat(s, given.square),
                square_factor: Vector::splat(s, given.square_factor),
            },
            ..self.state.stats::<S, T, O>(s)
        }
    }
}

/// All rows.
///
/// # Safety
/// The problem is valid.
#[inline(never)] // its states would grow the stack of every small call
pub(super) unsafe fn run<T: Stored, O: RowOp>(call: &Call<'_, T, O>, control: &dyn Control) -> Result<(), Error> {
    for r in 0..call.plan.rows {
        if r > 0 && !control.proceed() {
            return Err(Error::Interrupted);
        }
        // SAFETY: the caller's promise.
        unsafe { row(call, call.plan.row(r), control)? };
    }
    Ok(())
}

unsafe fn row<T: Stored, O: RowOp>(call: &Call<'_, T, O>, place: Place, control: &dyn Control) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe {
        let mut long = if call.plan.details.skips(place.row) {
            let mut long = open(call, place);
            long.skips = true;
            long
        } else {
            measure_row(call, place, control)?
        };
        let wants_losses = call.plan.details.losses.is_some();
        // (By the level that needs no proof: one row's scalars take no time, and code for every level would.)
        let stats = long.stats::<_, O>(crate::simd::plain(), call);
        if let Some(rows) = call.plan.details.losses {
            let losses = call.op.losses(&stats);
            let losses = if long.skips {
                [Lanes([0.0; 16]); 2]
            } else if !long.state.max.is_finite() {
                [Lanes([f64::NAN; 16]); 2]
            } else {
                [losses.entropy.to_lanes(), losses.square.to_lanes()]
            };
            rows.write(&losses, 1, |_| place.row);
        }
        let mut params = call.op.row::<_, T>(&stats).map(|v| T::from_f64(v.lane(0)));
        // As in `Stage::conclude`: without one of these no result is a NaN that an argument brought.
        let [first, second, third] = stats.sums;
        let finite = [stats.picked, stats.given.factor, first, second, third]
            .iter()
            .all(|v| v.lane(0).is_finite())
            && (O::SCORES || stats.max.lane(0).is_finite())
            && params[..O::PARAMS]
                .iter()
                .all(|p| T::from_f64(p.to_f64() * NEAR_OVERFLOW).is_finite());
        long.doubtful = (O::SUMS > 0 || O::FIX.is_some() || call.given) && !finite;
        if O::REFINED && !wants_losses && long.state.max.is_finite() && cancels(long.state.max, params[0], params[1]) {
            // The same passes in float64, on as many threads and as easily interrupted.
            let wide = Call::<f64, O>::new(call.level, call.plan, call.op);
            let wide_long = measure_row(&wide, place, control)?;
            let stats = wide_long.stats::<_, O>(crate::simd::plain(), &wide);
            params[0] = T::from_f64(call.op.row::<_, f64>(&stats)[0].lane(0));
        }
        long.params = params;
        long.octaves = call.octaves(place).1 + call.given(place).1;
        if O::FROM == From::Nothing && wants_losses {
            return Ok(());
        }
        long.first = 0;
        let spans = if O::FROM == From::Nothing {
            1
        } else {
            call.plan.n.div_ceil(SPAN * BLOCK)
        };
        let long = &long;
        call.share(
            spans,
            SPAN * BLOCK,
            scratch::<T, O>(),
            control,
            |call, units, scratch| Spans {
                call,
                long,
                units,
                scratch,
                pass: Results,
            },
        )
    }
}

/// A row of which nothing is known.
fn open<T: Stored, O: RowOp>(call: &Call<'_, T, O>, place: Place) -> Long<T> {
    let temperature = call.plan.temperature(place);
    Long {
        place,
        first: 0,
        states: [const { UnsafeCell::new(State::EMPTY) }; SPANS],
        peaks: [const { UnsafeCell::new(None) }; SPANS],
        base: if O::SCORES { call.base(temperature) } else { call.base },
        moved_temperature: if O::SCORES { temperature } else { 1.0 },
        known: None,
        picked: T::ZERO,
        position: usize::MAX,
        skips: false,
        state: State::EMPTY,
        params: [T::ZERO; 6],
        octaves: 0,
        doubtful: false,
    }
}

/// A row with its state, and all else that has to be known before it is finished.
unsafe fn measure_row<T: Stored, O: RowOp>(
    call: &Call<'_, T, O>,
    place: Place,
    control: &dyn Control,
) -> Result<Long<T>, Error> {
    let mut long = open(call, place);
    // SAFETY: the caller's promise.
    unsafe {
        if !O::SCORES {
            measure_saved(call, &mut long, control)?;
            return Ok(long);
        }
        if O::PICK == Pick::Peak {
            let peak = peak_all(call, &mut long, control)?;
            long.position = peak.position;
            long.picked = pack::second_at(call.plan, place, peak.position);
            if !peak.max.is_finite() {
                long.state.max = peak.max.to_f64();
                return Ok(long);
            }
            know(&mut long, peak.max, call.plan.temperature(place));
        } else if O::PICK == Pick::Class
            && let Some(class) = call.plan.details.class(place.row)
        {
            long.position = class;
            long.picked = pack::score_at(call.plan, place, class);
        }
        let mut state = measure_all(call, &mut long, control)?;
        if long.known.is_none() && state.max.is_finite() {
            know(&mut long, T::from_f64(state.max), call.plan.temperature(place));
            if state.far {
                let again = measure_all(call, &mut long, control)?;
                state = State {
                    max: state.max,
                    ..again
                };
            }
        } else if long.known.is_some() && !state.max.is_nan() {
            // The row's own, wherever it was moved.
            state.max = long.state.max;
        }
        if let Some(Known { moved: Some(by), .. }) = long.known
            && O::PICK == Pick::Class
        {
            long.picked = by.apply(long.picked);
        }
        if O::PICK == Pick::Class && long.position == usize::MAX {
            long.picked = long.pivot::<O>();
        }
        long.state = state;
    }
    Ok(long)
}

/// From now on the row's maximum is known.
fn know<T: Stored>(long: &mut Long<T>, max: T, temperature: f64) {
    long.state.max = max.to_f64();
    let mut known = Known {
        pivot: max,
        moved: None,
    };
    if let Kind::Far(by) = Kind::of(max, &long.base, temperature) {
        known = Known {
            pivot: by.pivot,
            moved: Some(by),
        };
        long.moved_temperature = by.temperature;
        long.base = Base::new(by.temperature);
    }
    long.known = Some(known);
}

/// The state of a saved result: at first as if the row were not saturated.
unsafe fn measure_saved<T: Stored, O: RowOp>(
    call: &Call<'_, T, O>,
    long: &mut Long<T>,
    control: &dyn Control,
) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe {
        long.picked = pack::second_at(call.plan, long.place, 0);
        let mut state = measure_all(call, long, control)?;
        let max = state.largest;
        if max > O::SATURATED {
            let peak = peak_all(call, long, control)?;
            long.position = peak.position;
            long.picked = pack::second_at(call.plan, long.place, peak.position);
            long.known = Some(Known {
                pivot: peak.max,
                moved: None,
            });
            state = measure_all(call, long, control)?;
        }
        long.state = State {
            max,
            ties: 1.0,
            ..state
        };
    }
    Ok(())
}

/// Where the whole row's maximum is.
unsafe fn peak_all<T: Stored, O: RowOp>(
    call: &Call<'_, T, O>,
    long: &mut Long<T>,
    control: &dyn Control,
) -> Result<Peak<T>, Error> {
    let spans = call.plan.n.div_ceil(SPAN * BLOCK);
    let mut all: Option<Peak<T>> = None;
    for first in (0..spans).step_by(SPANS) {
        if first > 0 && !control.proceed() {
            return Err(Error::Interrupted);
        }
        let count = SPANS.min(spans - first);
        long.first = first;
        let shared = &*long;
        // SAFETY: the caller's promise; a state for each unit.
        unsafe {
            call.share(
                count,
                SPAN * BLOCK,
                scratch::<T, O>(),
                control,
                |call, units, scratch| Spans {
                    call,
                    long: shared,
                    units,
                    scratch,
                    pass: Peaks,
                },
            )?;
        }
        for cell in &mut long.peaks[..count] {
            all = join(all, *cell.get_mut());
        }
    }
    Ok(all.unwrap_or(Peak {
        max: T::NEG_INFINITY,
        position: 0,
    }))
}

/// Of some elements, and others after them.
#[inline]
fn join<T: Float>(some: Option<Peak<T>>, others: Option<Peak<T>>) -> Option<Peak<T>> {
    let (Some(some), Some(others)) = (some, others) else {
        return some.or(others);
    };
    Some(if others.max > some.max { others } else { some })
}

/// Some spans of a long row, for one of the passes. The problem is valid; `scratch` holds what [`scratch`] says; no one
/// else has these spans.
struct Spans<'a, 'b, T, O, P> {
    call: &'b Call<'a, T, O>,
    long: &'b Long<T>,
    units: Range<usize>,
    scratch: *mut T,
    pass: P,
}

/// A pass over the spans of a long row.
trait Pass<T: Stored, O: RowOp> {
    /// One span.
    ///
    /// # Safety
    /// See [`Spans`].
    unsafe fn span<S: Isa + Simd<T>>(&self, s: S, call: &Call<'_, T, O>, long: &Long<T>, span: usize, scratch: *mut T);
}

impl<T: Stored, O: RowOp, P: Pass<T, O>> Kernel<T> for Spans<'_, '_, T, O, P> {
    type Out = ();
    type Home = O;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        for unit in self.units {
            // SAFETY: see the struct.
            unsafe { self.pass.span(s, self.call, self.long, unit, self.scratch) };
        }
        self.call.fence(s);
    }
}

/// Finds where the maximum of a span is.
struct Peaks;

impl<T: Stored, O: RowOp> Pass<T, O> for Peaks {
    #[inline(always)]
    unsafe fn span<S: Isa + Simd<T>>(&self, s: S, call: &Call<'_, T, O>, long: &Long<T>, span: usize, scratch: *mut T) {
        let mut all = None;
        let elements = long.span(span, call.plan.n);
        for start in elements.clone().step_by(BLOCK) {
            let len = BLOCK.min(elements.end - start);
            // SAFETY: the caller's promise.
            unsafe {
                let x = block(s, call, long, start, len, scratch);
                let max = along::max(s, x, len);
                let position = start + along::find(s, x, len, max);
                all = join(all, Some(Peak { max, position }));
            }
        }
        // SAFETY: no one else has this span.
        unsafe { *long.peaks[span].get() = all };
    }
}

/// The state of the whole row, span after span.
unsafe fn measure_all<T: Stored, O: RowOp>(
    call: &Call<'_, T, O>,
    long: &mut Long<T>,
    control: &dyn Control,
) -> Result<State, Error> {
    let spans = call.plan.n.div_ceil(SPAN * BLOCK);
    let mut state = State::EMPTY;
    let mut first = 0;
    while first < spans {
        if first > 0 && !control.proceed() {
            return Err(Error::Interrupted);
        }
        let count = SPANS.min(spans - first);
        long.first = first;
        let shared = &*long;
        // SAFETY: the caller's promise; a state for each unit.
        unsafe {
            call.share(
                count,
                SPAN * BLOCK,
                scratch::<T, O>(),
                control,
                |call, units, scratch| Spans {
                    call,
                    long: shared,
                    units,
                    scratch,
                    pass: Measures,
                },
            )?;
        }
        for cell in &mut long.states[..count] {
            state = state.merge::<T>(*cell.get_mut());
        }
        first += count;
    }
    Ok(state)
}

/// A block of the row as plain numbers, moved if that is how the row is treated.
///
/// # Safety
/// The problem is valid; `scratch` holds a block.
#[inline(always)]
unsafe fn block<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    long: &Long<T>,
    start: usize,
    len: usize,
    scratch: *mut T,
) -> *const T {
    // SAFETY: the caller's promise.
    unsafe {
        let x = if call.x_in_place {
            call.plan
                .problem
                .x
                .ptr
                .offset(long.place.x)
                .cast::<T>()
                .cast_const()
                .add(start)
        } else {
            pack::pack(s, call.plan, long.place, start, len, scratch);
            scratch.cast_const()
        };
        if let Some(Known { moved: Some(by), .. }) = long.known {
            move_row(x, scratch, len, by);
            return scratch;
        }
        x
    }
}

/// A block of the second row, where there is one.
///
/// # Safety
/// The problem is valid; `scratch` holds a block.
#[inline(always)]
unsafe fn second_block<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    long: &Long<T>,
    start: usize,
    len: usize,
    scratch: *mut T,
) -> *const T {
    if !O::SECOND {
        return std::ptr::null();
    }
    // SAFETY: the caller's promise.
    unsafe {
        if call.second_in_place {
            let row = second_of(call.plan).ptr.offset(long.place.second).cast::<T>();
            return row.cast_const().add(start);
        }
        pack::pack_second(s, call.plan, long.place, start, len, scratch);
    }
    scratch
}

/// Finds the state of a span.
struct Measures;

impl<T: Stored, O: RowOp> Pass<T, O> for Measures {
    #[inline(always)]
    unsafe fn span<S: Isa + Simd<T>>(&self, s: S, call: &Call<'_, T, O>, long: &Long<T>, span: usize, scratch: *mut T) {
        let mut state = State::EMPTY;
        let elements = long.span(span, call.plan.n);
        let f = Sums {
            op: call.op,
            picked: Vector::splat(s, long.picked),
        };
        for start in elements.clone().step_by(BLOCK) {
            let len = BLOCK.min(elements.end - start);
            // SAFETY: the caller's promise.
            unsafe {
                let x = block(s, call, long, start, len, scratch);
                let b = second_block(s, call, long, start, len, scratch.add(BLOCK));
                // Where the maximum is looked for first, that has to find the block in the cache. Else there is no such hurry, and
                // what is fetched too early is gone again.
                let ahead = if O::SCORES { len } else { BLOCK / 4 };
                let from = Source {
                    x,
                    b,
                    ahead: Some(Ahead {
                        x: x.wrapping_add(ahead),
                        b: b.wrapping_add(ahead),
                        y: std::ptr::null(),
                    }),
                };
                let found = if O::SCORES {
                    let m = match long.known {
                        Some(known) => known.pivot,
                        None => along::max(s, x, len),
                    };
                    match Kind::of(m, &long.base, long.moved_temperature) {
                        Kind::Near => sum_block(s, &long.base, m, f, from, len),
                        Kind::Far(_) => State {
                            max: m.to_f64(),
                            ties: 1.0,
                            far: true,
                            ..State::EMPTY
                        },
                        Kind::Special => State {
                            max: if has_nan(x, len) { f64::NAN } else { m.to_f64() },
                            ties: 1.0,
                            ..State::EMPTY
                        },
                    }
                } else {
                    let m = long.known.map_or(T::from_f64(f64::INFINITY), |known| known.pivot);
                    let (sum, largest) = along::sum(s, Vector::splat(s, m), f, from, len);
                    State {
                        max: 0.0,
                        largest: largest.to_f64(),
                        peak: [T::KAPPA * pow2(O::DEPTH.bias::<T>()), 0.0],
                        sums: fold_sums::<S, T, O>(&sum),
                        ..State::EMPTY
                    }
                };
                state = state.merge::<T>(found);
            }
        }
        // SAFETY: no one else has this span.
        unsafe { *long.states[span].get() = state };
    }
}

/// The state of one block with its maximum, or a larger one.
///
/// # Safety
/// `from` is valid for reading `len` elements.
#[inline(always)]
unsafe fn sum_block<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    base: &Base<T>,
    m: T,
    f: Sums<S, T, O>,
    from: Source<T>,
    len: usize,
) -> State {
    let pivot = Vector::splat(s, m);
    let exp = Exp::new(s, base, pivot, O::DEPTH);
    let of_row = RowExp::new(base, &exp.rows(), 0);
    // SAFETY: the caller's promise.
    let sum = unsafe { along::exp_sum::<S, T, _, false>(s, &of_row, pivot, f, from, std::ptr::null_mut(), len) };
    let total = fold::<S, T>(sum.folded[0]);
    let [peak, rest] = exp.peak;
    State {
        max: if total[0].is_nan() { f64::NAN } else { m.to_f64() },
        octaves: exp.octaves.lane(0).to_f64(),
        sum: total,
        peak: [peak.lane(0).to_f64(), rest.lane(0).to_f64()],
        ties: sum.ties,
        sums: fold_sums::<S, T, O>(&sum),
        ..State::EMPTY
    }
}

/// The sums beside that of the exponentials.
#[inline(always)]
fn fold_sums<S: Isa, T: Float, O: RowOp>(sum: &Sum<S>) -> [[f64; 2]; SUMS] {
    let mut sums = [[0.0; 2]; SUMS];
    for k in 0..O::SUMS {
        sums[k] = fold::<S, T>(sum.folded[1 + k]);
    }
    sums
}

/// Adds eight lanes pairwise.
#[inline(always)]
fn fold<S: Isa, T: Float>(folded: [Vector<S, f64>; 2]) -> [f64; 2] {
    let (sums, rests) = (folded[0].to_lanes().0, folded[1].to_lanes().0);
    let mut lanes = [[0.0; 2]; 8];
    for l in 0..8 {
        lanes[l] = [sums[l], rests[l]];
    }
    let mut step = 4;
    while step > 0 {
        for l in 0..step {
            lanes[l] = T::scalar_merge(lanes[l], lanes[l + step]);
        }
        step /= 2;
    }
    lanes[0]
}

/// Writes the results of a span; for a reduction, the result.
struct Results;

impl<T: Stored, O: RowOp> Pass<T, O> for Results {
    #[inline(always)]
    unsafe fn span<S: Isa + Simd<T>>(&self, s: S, call: &Call<'_, T, O>, long: &Long<T>, span: usize, scratch: *mut T) {
        let mut params = [Vector::zero(s); 6];
        for k in 0..O::PARAMS {
            params[k] = Vector::splat(s, long.params[k]);
        }
        let max = long.state.max;
        let has_results = max.is_finite() || !O::SCORES;
        // SAFETY: the caller's promise.
        unsafe {
            if O::FROM == From::Nothing {
                let value = if has_results && long.params[0].is_nan() {
                    T::NAN
                } else if has_results {
                    long.params[0]
                } else {
                    degenerate(call, long.place, T::from_f64(max))
                };
                pack::write_values(s, call.plan, long.place, 0, &mut [value]);
                return;
            }
            let exp = Exp::new(s, &long.base, Vector::splat(s, long.pivot::<O>()), O::DEPTH);
            let elements = long.span(span, call.plan.n);
            for start in elements.clone().step_by(BLOCK) {
                let len = BLOCK.min(elements.end - start);
                let y = if call.out_in_place {
                    call.plan.problem.out.ptr.offset(long.place.out).cast::<T>().add(start)
                } else {
                    scratch.add(BLOCK)
                };
                if long.skips {
                    fill(y, len, T::ZERO);
                } else if has_results {
                    let x = block(s, call, long, start, len, scratch);
                    let b = second_block(s, call, long, start, len, scratch.add(2 * BLOCK));
                    let finish = Finish {
                        op: call.op,
                        params: &params,
                    };
                    let to = if call.streams_at(s) {
                        let again = long.position.wrapping_sub(start);
                        To::Memory(y, if O::FIX.is_some() { Some(again) } else { None })
                    } else {
                        To::Cache(y)
                    };
                    // softmax_backward asks for the places of the next results. It takes 1.7 cycles an element or 2.1, from one
                    // process to the next: with this the lower figure in half of them at AVX-512 (without, in none) and in
                    // nearly all at AVX2 (without, in half). Others gain nothing or lose 2 %.
                    let mut from = Source::of(if O::FROM == From::Second { b } else { x }, b);
                    if !O::SCORES && O::FROM == From::X {
                        from.ahead = Some(Ahead {
                            x: std::ptr::null(),
                            b: std::ptr::null(),
                            y: y.wrapping_add(len),
                        });
                    }
                    match O::FROM {
                        From::Exp => along::map(s, ExpFinish { exp: &exp, finish }, from, to, len),
                        _ => along::map(s, finish, from, to, len),
                    }
                    if let Some(k) = O::FIX
                        && (start..start + len).contains(&long.position)
                    {
                        y.add(long.position - start).write_unaligned(long.params[k]);
                    }
                    if long.octaves != 0 {
                        scale_row(y, len, long.octaves);
                    }
                    if long.doubtful {
                        one_nan(y, len);
                    }
                } else {
                    fill(y, len, T::NAN);
                }
                if !call.out_in_place {
                    pack::unpack(s, call.plan, long.place, start, len, y, T::from_f64(O::MASKED));
                }
            }
        }
    }
}

/// One row of a valid problem whose logsumexp float32 loses the digits of: again, in float64.
pub(super) struct Refine<'a, 'b, T, O> {
    pub(super) call: &'b Call<'a, T, O>,
    pub(super) place: Place,
    /// For a block of float64.
    pub(super) scratch: *mut f64,
}

impl<T: Stored, O: RowOp> Kernel<T> for Refine<'_, '_, T, O> {
    type Out = T;
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) -> T {
        let Self { call, place, scratch } = self;
        let n = call.plan.n;
        // It follows rows of float32; its size leaves room for this.
        let scratch = scratch.map_addr(|address| address.next_multiple_of(align_of::<f64>()));
        let starts = || (0..n).step_by(BLOCK);
        // SAFETY: whoever made this says that problem and scratch are valid.
        unsafe {
            let mut m = f64::NEG_INFINITY;
            for start in starts() {
                let len = BLOCK.min(n - start);
                widened(s, call, place, start, len, scratch);
                m = m.max(along::max(s, scratch.cast_const(), len));
            }
            // A row that cancels has a maximum of at most some 30: the exponent shift reaches it.
            let unit = Base::new(1.0);
            let f = Sums {
                op: call.op,
                picked: Vector::zero(s),
            };
            let mut state = State::EMPTY;
            for start in starts() {
                let len = BLOCK.min(n - start);
                if n > BLOCK {
                    widened(s, call, place, start, len, scratch);
                }
                let from = Source::of(scratch.cast_const(), std::ptr::null());
                state = state.merge::<f64>(sum_block(s, &unit, m, f, from, len));
            }
            T::from_f64(call.op.row::<_, f64>(&state.stats::<_, f64, O>(s))[0].lane(0))
        }
    }
}

/// Some scores of a row in float64.
///
/// # Safety
/// The problem is valid; `to` is valid for writing a block.
#[inline(always)]
unsafe fn widened<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    place: Place,
    start: usize,
    len: usize,
    to: *mut f64,
) {
    // SAFETY: the caller's promise. What is packed lies in the second half, so that each vector is read before its own
    // memory is written.
    unsafe {
        let x = if call.x_in_place {
            call.plan
                .problem
                .x
                .ptr
                .offset(place.x)
                .cast::<T>()
                .cast_const()
                .add(start)
        } else {
            let half = to.add(BLOCK / 2).cast::<T>();
            pack::pack(s, call.plan, place, start, len, half);
            half.cast_const()
        };
        for j in (0..len).step_by(T::LANES) {
            let count = T::LANES.min(len - j);
            let v = Vector::load_partial(s, x.add(j), count, T::ZERO);
            for half in 0..count.div_ceil(8) {
                let to = to.add(j + 8 * half);
                T::widen_half(s, v, half).store_partial(to, 8.min(count - 8 * half));
            }
        }
    }
}
