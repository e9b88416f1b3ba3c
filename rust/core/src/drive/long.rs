//! Rows beyond the scratch, one at a time, block by block.
//!
//! Every block is read twice: once for its maximum and its sum, once for its results. (In cache three passes are faster,
//! since they compute each exponential once; from memory, reading is what costs.) Sums of blocks relative to different
//! maxima differ by a power of two, which is exact, so a block needs no maximum but its own. Blocks are added in order
//! within a span, spans in order within the row: threads take whole spans and change nothing.

use std::cell::UnsafeCell;
use std::ops::Range;

use super::plan::Place;
use super::rows::{fill, has_nan, move_row};
use super::{Call, Kind, Move, Step, cancels, pack};
use crate::element::Stored;
use crate::math::exp::{Base, Exp, peak};
use crate::ops::{ExpFinish, Finish, From, Params, RowOp, Stats};
use crate::problem::{Control, Error};
use crate::row::along;
use crate::simd::{Float, Isa, Simd, Vector, pow2};

/// Elements of a block.
pub(super) const BLOCK: usize = 4096;
/// Blocks of a span.
const SPAN: usize = 64;
/// Spans whose states are held at once (32 Mi elements): a row of any length needs no more memory.
const SPANS: usize = 128;

/// The sum of exponentials of some elements.
#[derive(Clone, Copy, Debug)]
struct State {
    /// The maximum; NaN as soon as there is a NaN.
    max: f64,
    /// The exponent that was shifted out of the sum.
    octaves: f64,
    /// Without the maximum's.
    sum: [f64; 2],
    peak: [f64; 2],
    ties: f64,
    /// Whether a block was out of the exponent shift's reach, so that its sum is missing.
    far: bool,
}

impl State {
    /// Of no elements.
    const EMPTY: Self = Self {
        max: f64::NEG_INFINITY,
        octaves: 0.0,
        sum: [0.0; 2],
        peak: [1.0, 0.0],
        ties: 0.0,
        far: false,
    };

    /// Of these elements and others after them.
    fn merge<T: Float>(self, other: Self) -> Self {
        let far = self.far || other.far;
        if self.max.is_nan() || other.max.is_nan() {
            return Self {
                max: f64::NAN,
                far,
                ..self
            };
        }
        if other.max == f64::NEG_INFINITY {
            return Self { far, ..self };
        }
        if self.max == f64::NEG_INFINITY {
            return Self { far, ..other };
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
        let low_sum = low.sum.map(|v| v * scale);
        // In the order of the elements, though addition does not mind.
        Self {
            sum: T::scalar_merge(high.sum, low_sum),
            ties,
            far,
            ..high
        }
    }
}

impl State {
    /// The statistics, in all lanes.
    #[inline(always)]
    fn stats<S: Isa, T: Float>(&self, s: S, pivot: f64, temperature: f64) -> Stats<S> {
        let pivot = Vector::splat(s, pivot);
        let temperature = Vector::splat(s, temperature);
        let own = [Vector::splat(s, self.peak[0]), Vector::splat(s, self.peak[1])];
        Stats {
            max: Vector::splat(s, self.max),
            pivot,
            temperature,
            sum: Vector::splat(s, self.sum[0]),
            rest: Vector::splat(s, self.sum[1]),
            peak: peak::<S, T>(s, pivot, temperature, Vector::splat(s, self.octaves), own),
            own: own[0],
            ties: Vector::splat(s, self.ties),
        }
    }
}

/// A long row while it is gone over.
pub(super) struct Long<T> {
    place: Place,
    /// The first span of those whose states are at hand.
    first: usize,
    states: [UnsafeCell<State>; SPANS],
    /// The constants of the row's temperature.
    base: Base<T>,
    temperature: f64,
    /// What an earlier pass found.
    known: Option<Known<T>>,
    /// The whole row's state, when it is finished.
    state: State,
    /// The result of a reduction that was done again in float64.
    refined: Option<T>,
}

// SAFETY: each thread writes to the states of spans of its own.
unsafe impl<T: Sync> Sync for Long<T> {}

/// A row's maximum.
#[derive(Clone, Copy, Debug)]
struct Known<T> {
    /// The maximum, moved if the row is out of reach.
    pivot: T,
    moved: Option<Move<T>>,
}

impl<T> Long<T> {
    /// The elements of a span.
    fn span(&self, span: usize, n: usize) -> Range<usize> {
        let start = (self.first + span) * SPAN * BLOCK;
        start..n.min(start + SPAN * BLOCK)
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
        let (mut long, state) = measure_row(call, place, control)?;
        if O::FROM == From::Nothing && !T::KEEPS_REST && state.max.is_finite() {
            let pivot = long.known.map_or(0.0, |known| known.pivot.to_f64());
            let stats = state.stats::<_, T>(crate::simd::plain(), pivot, long.temperature);
            let [value, log] = {
                let row = call.op.row::<_, T>(&stats);
                [row[0].lane(0), row[1].lane(0)]
            };
            if cancels(state.max, T::from_f64(value), T::from_f64(log)) {
                // The same passes in float64, on as many threads and as easily interrupted.
                let wide = Call::<f64, O>::new(call.level, call.plan.problem, call.op);
                let (wide_long, wide_state) = measure_row(&wide, place, control)?;
                let pivot = wide_long.known.map_or(0.0, |known| known.pivot);
                let stats = wide_state.stats::<_, f64>(crate::simd::plain(), pivot, wide_long.temperature);
                long.refined = Some(T::from_f64(call.op.row::<_, f64>(&stats)[0].lane(0)));
            }
        }
        long.state = state;
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
            2 * BLOCK * size_of::<T>(),
            control,
            |units, scratch| Step::Finish { long, units, scratch },
        )
    }
}

/// A row's state, with all that a `Long` knows before it is finished.
unsafe fn measure_row<T: Stored, O: RowOp>(
    call: &Call<'_, T, O>,
    place: Place,
    control: &dyn Control,
) -> Result<(Long<T>, State), Error> {
    let temperature = call.plan.temperature(place);
    let mut long = Long {
        place,
        first: 0,
        states: [const { UnsafeCell::new(State::EMPTY) }; SPANS],
        base: call.base(temperature),
        temperature,
        known: None,
        state: State::EMPTY,
        refined: None,
    };
    // SAFETY: the caller's promise.
    let mut state = unsafe { measure_all(call, &mut long, control)? };
    if state.max.is_finite() {
        let m = T::from_f64(state.max);
        let mut known = Known { pivot: m, moved: None };
        if let Kind::Far(by) = Kind::of(m, &long.base, temperature) {
            known = Known {
                pivot: by.pivot,
                moved: Some(by),
            };
            long.temperature = by.temperature;
            long.base = Base::new(by.temperature);
        }
        long.known = Some(known);
        if state.far {
            // SAFETY: the caller's promise.
            let again = unsafe { measure_all(call, &mut long, control)? };
            state = State {
                max: state.max,
                ..again
            };
        }
    }
    Ok((long, state))
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
                2 * BLOCK * size_of::<T>(),
                control,
                |units, scratch| Step::Measure {
                    long: shared,
                    units,
                    scratch,
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
            pack::pack(s, &call.plan, long.place, start, len, scratch);
            scratch.cast_const()
        };
        if let Some(Known { moved: Some(by), .. }) = long.known {
            move_row(x, scratch, len, by);
            return scratch;
        }
        x
    }
}

/// The state of one span.
///
/// # Safety
/// The problem is valid; `scratch` holds two blocks; no one else has this span.
#[inline(always)]
pub(super) unsafe fn measure<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    long: &Long<T>,
    span: usize,
    scratch: *mut T,
) {
    let mut state = State::EMPTY;
    let elements = long.span(span, call.plan.n);
    for start in elements.clone().step_by(BLOCK) {
        let len = BLOCK.min(elements.end - start);
        // SAFETY: the caller's promise.
        unsafe {
            let x = block(s, call, long, start, len, scratch);
            let m = match long.known {
                Some(known) => known.pivot,
                None => along::max(s, x, len),
            };
            let found = match Kind::of(m, &long.base, long.temperature) {
                Kind::Near => sum_block(s, &long.base, m, x, len),
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
            };
            state = state.merge::<T>(found);
        }
    }
    // SAFETY: no one else has this span.
    unsafe { *long.states[span].get() = state };
}

/// The state of one block with its maximum, or a larger one.
///
/// # Safety
/// `x` is valid for reading `len` elements.
#[inline(always)]
unsafe fn sum_block<S: Isa + Simd<T>, T: Stored>(s: S, base: &Base<T>, m: T, x: *const T, len: usize) -> State {
    let pivot = Vector::splat(s, m);
    let exp = Exp::new(s, base, pivot);
    // SAFETY: the caller's promise.
    let sum =
        unsafe { along::exp_sum::<S, T, false>(s, &exp, pivot, x, std::ptr::null_mut(), len, x.wrapping_add(len)) };
    let total = fold::<S, T>(sum.folded);
    State {
        max: if total[0].is_nan() { f64::NAN } else { m.to_f64() },
        octaves: exp.octaves.lane(0).to_f64(),
        sum: total,
        peak: exp.pair(pivot).map(|v| v.lane(0).to_f64()),
        ties: sum.ties,
        far: false,
    }
}

/// Adds eight lanes pairwise.
#[inline(always)]
fn fold<S: Isa, T: Float>(folded: [Vector<S, f64>; 2]) -> [f64; 2] {
    let [sums, rests] = folded.map(|v| v.to_lanes().0);
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

/// Writes the results of one span; for a reduction, the result.
///
/// # Safety
/// The problem is valid; `scratch` holds two blocks and a block of float64; no one else has this span.
#[inline(always)]
pub(super) unsafe fn finish<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    long: &Long<T>,
    span: usize,
    scratch: *mut T,
) {
    let state = &long.state;
    let params = long.params::<S, O>(s, call.op);
    let max = state.max;
    // SAFETY: the caller's promise.
    unsafe {
        if O::FROM == From::Nothing {
            let value = if max.is_nan() {
                T::NAN
            } else if let Some(refined) = long.refined {
                refined
            } else if max.is_finite() {
                params[0].lane(0)
            } else {
                T::from_f64(max)
            };
            pack::write_value(s, &call.plan, long.place, value);
            return;
        }
        let pivot = long.known.map_or(T::ZERO, |known| known.pivot);
        let exp = Exp::new(s, &long.base, Vector::splat(s, pivot));
        let elements = long.span(span, call.plan.n);
        for start in elements.clone().step_by(BLOCK) {
            let len = BLOCK.min(elements.end - start);
            let y = if call.out_in_place {
                call.plan.problem.out.ptr.offset(long.place.out).cast::<T>().add(start)
            } else {
                scratch.add(BLOCK)
            };
            if max.is_finite() {
                let x = block(s, call, long, start, len, scratch);
                let finish = Finish {
                    op: call.op,
                    params: &params,
                };
                if O::FROM == From::Exp {
                    along::map(s, x, y, len, ExpFinish { exp: &exp, finish }, y.wrapping_add(len));
                } else {
                    along::map(s, x, y, len, finish, y.wrapping_add(len));
                }
            } else {
                fill(y, len, T::NAN);
            }
            if !call.out_in_place {
                pack::unpack(s, &call.plan, long.place, start, len, y, T::from_f64(O::MASKED));
            }
        }
    }
}

impl<T: Float> Long<T> {
    /// What the results need, in all lanes.
    #[inline(always)]
    fn params<S: Isa + Simd<T>, O: RowOp>(&self, s: S, op: O) -> Params<Vector<S, T>> {
        let pivot = self.known.as_ref().map_or(0.0, |known| known.pivot.to_f64());
        let params = op.row::<S, T>(&self.state.stats::<S, T>(s, pivot, self.temperature));
        let mut narrow = [Vector::zero(s); 6];
        for k in 0..O::PARAMS {
            narrow[k] = T::from_halves(s, [params[k], params[k]]);
        }
        narrow
    }
}

/// logsumexp of one row in float64, for rows where float32 loses the result's digits.
///
/// # Safety
/// The problem is valid; `scratch` holds a block of float64.
#[cold]
#[inline(never)]
pub(super) unsafe fn refined<T: Stored, O: RowOp>(call: &Call<'_, T, O>, place: Place, scratch: *mut f64) -> T {
    let n = call.plan.n;
    let level = crate::simd::plain();
    // The block follows rows of float32; its size leaves room for this.
    let scratch = scratch.map_addr(|address| address.next_multiple_of(align_of::<f64>()));
    let mut m = f64::NEG_INFINITY;
    for start in (0..n).step_by(BLOCK) {
        let len = BLOCK.min(n - start);
        // SAFETY: the caller's promise.
        unsafe {
            pack::pack(level, &call.plan, place, start, len, scratch);
            m = m.max(along::max(level, scratch, len));
        }
    }
    // A row that cancels has a maximum of at most some 30: the exponent shift reaches it.
    let base = Base::new(1.0);
    let mut state = State::EMPTY;
    for start in (0..n).step_by(BLOCK) {
        let len = BLOCK.min(n - start);
        // SAFETY: the caller's promise.
        unsafe {
            pack::pack(level, &call.plan, place, start, len, scratch);
            state = state.merge::<f64>(sum_block(level, &base, m, scratch, len));
        }
    }
    T::from_f64(call.op.row::<_, f64>(&state.stats::<_, f64>(level, m, 1.0))[0].lane(0))
}
