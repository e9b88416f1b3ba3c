//! Rows of saved results of which nothing is exponentiated, one after the other.
//!
//! So little is computed of them that a batch, as of `rows`, would take as long as the arithmetic: here the numbers of a row
//! stay in registers, and while they are formed the processor is already in the next row. Calls with anything beside (rows
//! that are packed, or have temperatures of their own) go through batches all the same.

use std::hint::select_unpredictable;
use std::ops::Range;

use super::Call;
use super::plan::Place;
use super::rows::{one_nan, second_of};
use super::stage::{NEAR_OVERFLOW, total};
use crate::element::Stored;
use crate::ops::{Elements, Finish, From, Params, RowOp, Stats, Sums};
use crate::row::{SUMS, Source, Sum, To, add_across, along};
use crate::simd::{Float, GROUP, Isa, Kernel, Level, Mask, Simd, Vector};

/// Whether an op is one of these.
const fn is_saved<O: RowOp>() -> bool {
    !O::SCORES && matches!(O::FROM, From::X)
}

/// Whether rows of `n` elements are better taken one by one. (With a temperature, what a row's results need takes a division
/// and sixty instructions, which the rows of a batch share: on a Zen 3 rows of 32 would take a quarter longer, of 100 a tenth,
/// and those of 1000 take a tenth less.)
pub(super) const fn gains<O: RowOp>(n: usize) -> bool {
    is_saved::<O>() && (n >= 256 || !has_temperature::<O>())
}

/// Whether results are divided by a temperature other than 1.
const fn has_temperature<O: RowOp>() -> bool {
    O::PARAMS > 2
}

/// Rows up to so many bytes go into panels all the same, where there are enough. (On a Zen 3: rows of ten float32 take half
/// as long there, of sixteen two thirds. At AVX-512, where a transpose takes half as many instructions: of ten three tenths,
/// of 24 eight tenths, of 48 half as long again.)
pub(super) const fn panel_bytes<T: Float>(level: Level, far: bool) -> usize {
    match level {
        Level::Avx512 => match (T::LANES == 8, far) {
            (true, false) => 304,
            (true, true) => 240,
            (false, false) => 144,
            (false, true) => 112,
        },
        Level::Avx2 if far && T::LANES == 8 => 96,
        _ => 64,
    }
}

/// These rows of a call that is [`Call::one_by_one`].
pub(super) struct SavedRows<'a, 'b, T, O> {
    pub(super) call: &'b Call<'a, T, O>,
    pub(super) units: Range<usize>,
}

impl<T: Stored, O: RowOp> Kernel<T> for SavedRows<'_, '_, T, O> {
    type Out = ();
    type Home = O;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        if is_saved::<O>() {
            let (call, units, n) = (self.call, self.units, self.call.plan.n);
            // SAFETY: the problem is valid.
            unsafe {
                if call.streams_at(s) {
                    streamed_rows::<S, T, O>(s, call, units);
                } else if has_temperature::<O>() || n <= T::LANES || n > GROUP * T::LANES {
                    rows::<S, T, O>(s, call, units);
                } else {
                    match n / T::LANES {
                        1 => short_rows::<S, T, O, 1>(s, call, units),
                        2 => short_rows::<S, T, O, 2>(s, call, units),
                        3 => short_rows::<S, T, O, 3>(s, call, units),
                        _ => short_rows::<S, T, O, 4>(s, call, units),
                    }
                }
            }
            call.fence(s);
        }
    }
}

/// What the results of a row need.
struct Known<S: Simd<T>, T: Float> {
    params: Params<Vector<S, T>>,
    /// Whether there may be a NaN in the results: then all are made the one that results hold.
    doubtful: bool,
}

/// Rows one after the other: where they lie.
struct Walk<T> {
    x: *const T,
    b: *const T,
    y: *mut T,
    step: Place,
}

impl<T: Stored> Walk<T> {
    #[inline(always)]
    fn new<O: RowOp>(call: &Call<'_, T, O>, first: usize) -> Self {
        let (plan, problem) = (call.plan, call.plan.problem);
        let step = plan.steps(1);
        let place = plan.steps(first);
        Self {
            x: problem.x.ptr.wrapping_offset(place.x).cast_const().cast(),
            b: second_of(plan).ptr.wrapping_offset(place.second).cast_const().cast(),
            y: problem.out.ptr.wrapping_offset(place.out).cast(),
            step,
        }
    }

    #[inline(always)]
    fn source(&self) -> Source<T> {
        Source::of(self.x, self.b)
    }

    /// To the next row.
    #[inline(always)]
    fn advance(&mut self) {
        self.x = self.x.wrapping_byte_offset(self.step.x);
        self.b = self.b.wrapping_byte_offset(self.step.second);
        self.y = self.y.wrapping_byte_offset(self.step.out);
    }
}

/// Rows whose results go to the caches.
///
/// # Safety
/// The problem is valid, and the rows are of it.
#[inline(always)]
unsafe fn rows<S: Isa + Simd<T>, T: Stored, O: RowOp>(s: S, call: &Call<'_, T, O>, units: Range<usize>) {
    let n = call.plan.n;
    let temperature = call.plan.temperature(Place::default());
    let mut at = Walk::new(call, units.start);
    for _ in units {
        // SAFETY: the caller's promise.
        unsafe {
            let known = know(s, call.op, at.source(), n, temperature);
            let params = &known.params;
            let finish = Finish { op: call.op, params };
            along::map(s, finish, at.source(), To::Cache(at.y), n);
            if known.doubtful {
                one_nan(at.y, n);
            }
        }
        at.advance();
    }
}

/// Rows of at most four vectors, `V` of them whole: what little there is takes no loop.
///
/// # Safety
/// The problem is valid, and the rows are of it.
#[inline(always)]
unsafe fn short_rows<S: Isa + Simd<T>, T: Stored, O: RowOp, const V: usize>(
    s: S,
    call: &Call<'_, T, O>,
    units: Range<usize>,
) {
    let lanes = T::LANES;
    let rest = call.plan.n - V * lanes;
    let temperature = call.plan.temperature(Place::default());
    let zero = Vector::zero(s);
    let mut at = Walk::new(call, units.start);
    for _ in units {
        // SAFETY: the caller's promise.
        unsafe {
            let mut rows = [[zero; 2]; GROUP];
            for i in 0..V {
                let j = i * lanes;
                rows[i] = [Vector::load(s, at.x.add(j)), Vector::load(s, at.b.add(j))];
            }
            if V < GROUP && rest > 0 {
                let j = V * lanes;
                rows[V] = [
                    Vector::load_partial(s, at.x.add(j), rest, <T as Float>::ZERO),
                    Vector::load_partial(s, at.b.add(j), rest, <T as Float>::ZERO),
                ];
            }
            let mut max = rows[0][0];
            for i in 1..GROUP.min(V + 1) {
                max = rows[i][0].max(max);
            }
            let max = max.max(Vector::splat(s, T::NEG_INFINITY)).reduce_max();
            let saturated = max.to_f64() > O::SATURATED;
            // (Of up to two vectors the place is found in any case: whether it is wanted would be guessed wrong for many rows, and
            // what that costs is more than what it takes to look.)
            let mut k = 0;
            if V < 2 || saturated {
                let mut i = GROUP.min(V + 1);
                while i > 0 {
                    i -= 1;
                    let here = rows[i][0].equal(Vector::splat(s, max)).first_true();
                    k = select_unpredictable(here < lanes, i * lanes + here, k);
                }
            }
            k = select_unpredictable(saturated, k, 0);
            let picked = Vector::splat(s, at.b.add(k).read_unaligned());
            let sum = short_sum::<S, T, O, V>(s, call.op, picked, &rows);
            let known = conclude(s, call.op, &sum, max, picked, temperature);
            for i in 0..V {
                let [x, b] = rows[i];
                call.op.finish(&known.params, x, b).store(at.y.add(i * lanes));
            }
            if V < GROUP && rest > 0 {
                let [x, b] = rows[V];
                call.op
                    .finish(&known.params, x, b)
                    .store_partial(at.y.add(V * lanes), rest);
            }
            if known.doubtful {
                one_nan(at.y, call.plan.n);
            }
        }
        at.advance();
    }
}

/// The sums of [`short_rows`], in the order of `along::sum`. (What is not there is 0.)
#[inline(always)]
fn short_sum<S: Isa + Simd<T>, T: Stored, O: RowOp, const V: usize>(
    s: S,
    op: O,
    picked: Vector<S, T>,
    rows: &[[Vector<S, T>; 2]; GROUP],
) -> Sum<S> {
    let zero = Vector::zero(s);
    let mut sums = [zero; SUMS];
    for i in 0..GROUP.min(V + 1) {
        // (None of these ops asks for the maximum.)
        let ([x, b], m, e) = (rows[i], zero, zero);
        op.add(&mut sums, &Elements { m, e, x, b, picked });
    }
    let mut folded = [[Vector::zero(s); 2]; 1 + SUMS];
    for k in 0..O::SUMS {
        folded[1 + k] = T::wide_fold(s, T::widen(s, sums[k]));
    }
    Sum { folded, ties: 1.0 }
}

/// Rows whose results go past the caches.
///
/// # Safety
/// The problem is valid, and the rows are of it.
#[inline(always)]
unsafe fn streamed_rows<S: Isa + Simd<T>, T: Stored, O: RowOp>(s: S, call: &Call<'_, T, O>, units: Range<usize>) {
    let n = call.plan.n;
    let joins = call.rows_join();
    let temperature = call.plan.temperature(Place::default());
    let mut at = Walk::new(call, units.start);
    // Elements of the row before in a line that ends in this one, and what they need.
    let (mut left, mut before) = (0, None::<Known<S, T>>);
    for r in units.clone() {
        // SAFETY: the caller's promise.
        unsafe {
            let known = know(s, call.op, at.source(), n, temperature);
            let params = &known.params;
            let finish = Finish { op: call.op, params };
            let mut first = 0;
            if let Some(other) = before.take() {
                let mine = Mask::first(s, left);
                let mut both = known.params;
                for k in 0..O::PARAMS {
                    both[k] = other.params[k].select(mine, both[k]);
                }
                let line = at.y.wrapping_sub(left);
                let params = &both;
                let both = Finish { op: call.op, params };
                let from = Source::of(at.x.wrapping_sub(left), at.b.wrapping_sub(left));
                along::map(s, both, from, To::Line(line, None), T::LANES);
                if known.doubtful || other.doubtful {
                    one_nan(line, T::LANES);
                }
                first = T::LANES - left;
            }
            let mut end = n;
            if joins && r + 1 < units.end {
                left = along::since_line(at.y.wrapping_add(n));
                end -= left;
            }
            let from = Source::of(at.x.wrapping_add(first), at.b.wrapping_add(first));
            let part = at.y.wrapping_add(first);
            along::map(s, finish, from, To::Memory(part, None), end - first);
            if known.doubtful {
                one_nan(part, end - first);
            }
            if end < n {
                before = Some(known);
            }
        }
        at.advance();
    }
}

/// What the results of a row need: as `rows::saved_sums` and `Stage::conclude` find it for several.
///
/// # Safety
/// The rows are valid for reading `n` elements.
#[inline(always)]
unsafe fn know<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    op: O,
    from: Source<T>,
    n: usize,
    temperature: f64,
) -> Known<S, T> {
    let infinity = Vector::zero(s) - Vector::splat(s, T::NEG_INFINITY);
    // SAFETY: the caller's promise.
    unsafe {
        let mut picked = Vector::splat(s, from.b.read_unaligned());
        let (mut sum, max) = along::sum(s, infinity, Sums { op, picked }, from, n);
        if max.to_f64() > O::SATURATED {
            let k = along::find(s, from.x, n, max);
            picked = Vector::splat(s, from.b.add(k).read_unaligned());
            (sum, _) = along::sum(s, Vector::splat(s, max), Sums { op, picked }, from, n);
        }
        conclude(s, op, &sum, max, picked, temperature)
    }
}

/// From the sums to what the results need.
#[inline(always)]
fn conclude<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    op: O,
    sum: &Sum<S>,
    max: T,
    picked: Vector<S, T>,
    temperature: f64,
) -> Known<S, T> {
    let (mut sums, mut rests) = ([Vector::zero(s); SUMS], [Vector::zero(s); SUMS]);
    for k in 0..O::SUMS {
        let [hi, lo] = add_across::<S, T>(sum.folded[1 + k]);
        [sums[k], rests[k]] = total(hi, lo);
    }
    let stats = Stats::saved(
        Vector::splat(s, max.to_f64()),
        temperature,
        [sums, rests],
        T::widen_half(s, picked, 0),
    );
    let wide = op.row::<S, T>(&stats);
    let mut size = max.abs();
    let mut params = [Vector::zero(s); 6];
    for k in 0..O::PARAMS {
        let param = T::from_halves(s, [wide[k]; 2]).lane(0);
        params[k] = Vector::splat(s, param);
        size = size + param.abs();
    }
    let largest = T::from_f64(-T::LOWEST.to_f64() / NEAR_OVERFLOW);
    let certain = size < largest;
    Known {
        params,
        doubtful: !certain,
    }
}
