//! Rows one after the other, lanes along the row.
//!
//! Per batch: all maxima, then all sums (the exponentials go where the results will), then what has to be known per row
//! (logarithms, reciprocals) for the whole batch in one vector, then the results, which may wait until amid the sums of the
//! next batch ([`waits`]). While one row's lanes are reduced, the processor is already in the next row, and what the first
//! pass read is in the first-level cache for the others.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::details::Details;
use super::plan::{Place, Plan};
use super::stage::{Access, Found, Known, Stage, SumsOf};
use super::{Call, Move, pack};
use crate::element::Stored;
use crate::math::exp::Exp;
use crate::ops::{ExpFinish, Finish, From, Params, Pick, Probabilities, RowOp, Sums};
use crate::problem::Array;
use crate::row::{Ahead, SUMS, Source, Sum, To, add_lanes, along};
use crate::simd::{Float, Isa, Kernel, Lanes, Level, Mask, Part, Simd, Vector};

/// Input of a batch. (What the rows of a batch share is computed once, and the more there is to gain from that the faster
/// the vectors are; but what was read should still be in a first-level cache when the results are written: 8 KiB with a
/// second row and the results fit one of 32 KiB. With what is fetched for the next batch, log_softmax at AVX-512 takes
/// 48 KiB; the caches that this was measured on have as much. A Zen 3 has 32 KiB: there what computes exponentials gains up
/// to a twentieth by twice of what fits, and saved results, of which hardly anything is computed, lose as much.)
///
/// Results that wait and are streamed need room for the rows of three batches.
#[inline]
pub(super) fn batch_bytes<T: Stored, O: RowOp>(call: &Call<'_, T, O>) -> usize {
    let large = !O::SECOND && (call.near || !matches!(O::FROM, From::Exp));
    match call.level.level() {
        _ if call.streams && waits(call) => 8 << 10,
        Level::Avx512 if large => 12 << 10,
        Level::Avx2 if O::SCORES => 16 << 10,
        _ => 8 << 10,
    }
}

/// Whether there is a way for an op whose results wait. (Those of two arrays, or of which an element is written again, would
/// lose 2 to 8 % by it.)
const fn has_waiting<O: RowOp>() -> bool {
    O::SCORES && !O::SECOND && O::FIX.is_none() && !matches!(O::FROM, From::Nothing)
}

/// Whether the results of a batch wait, and are written row by row amid the exponentials of the next. Streamed ones, as
/// only so many stores can wait for memory to take them: at a whole batch of them the processor would wait as well, where
/// otherwise it computes meanwhile. Logarithms in the second-level cache, presumably as nothing then waits for what is
/// concluded from the sums of a batch. (At AVX-512 rows of 400 to 2000 bytes take a tenth less time, those of 4000 a
/// twentieth, longer ones as long. Probabilities in a cache, whose exponentials would have to stay there for as long, would
/// take a twentieth more.)
#[inline(always)]
pub(super) fn waits<T: Stored, O: RowOp>(call: &Call<'_, T, O>) -> bool {
    has_waiting::<O>()
        && call.level.level().has_all_ways()
        && call.plan.n <= WAITING_BYTES / size_of::<T>()
        && (call.streams || O::FROM == From::X && call.near && call.out_in_place)
}

/// Rows up to so many bytes may wait.
const WAITING_BYTES: usize = 4 << 10;

/// Up to so many bytes of a row, the places of the next batch's results are asked for. (Those of longer rows have left the
/// first-level cache again before their turn comes. Where exponentials are computed as the results are written there is
/// time to fetch them then, and asking costs a twentieth to a tenth. Where there are none, it gains as much at AVX2 and
/// costs as much at AVX-512.)
const fn ahead_bytes<O: RowOp>(level: Level) -> usize {
    match (O::FROM, level) {
        (From::Exp, _) | (_, Level::Avx512) => 8 << 10,
        _ => usize::MAX,
    }
}

/// A row: where it is read, where exponentials go, and results (the same place, unless they are streamed).
#[derive(Clone, Copy)]
struct Row<T> {
    x: *const T,
    /// The second row, where there is one.
    b: *const T,
    e: *mut T,
    y: *mut T,
    /// Where something was picked.
    position: usize,
}

/// The rows of a batch. (Only those that there are get written: to fill them all would cost a small call a tenth of its
/// time.)
struct Batch<'a, T> {
    plan: &'a Plan<'a>,
    start: usize,
    count: usize,
    rows: [MaybeUninit<Row<T>>; 16],
    /// A bit for each row, set if it takes no part.
    skipped: u32,
    maxima: Lanes<T>,
    /// What was picked of each row.
    picked: Lanes<T>,
    /// Whether what was picked is moved along with a row.
    picks_scores: bool,
    /// Whether each row of results that is streamed begins where the one before ends, and so does what they are computed
    /// from.
    joins: bool,
}

/// What lies `by` bytes on, to be fetched meanwhile: nothing, if `by` is 0.
#[inline(always)]
fn ahead_of<T>(p: *const T, by: isize) -> *const T {
    if by == 0 {
        std::ptr::null()
    } else {
        p.wrapping_byte_offset(by)
    }
}

/// Nothing was picked.
const NOWHERE: usize = usize::MAX;

impl<T: Stored> Access<T> for Batch<'_, T> {
    // (Told from the row's number, and not kept with it: to write a place down, and wait until it can be read again, takes
    // softmax of rows of a hundred 4 % of its time.)
    #[inline(always)]
    fn place(&self, l: usize) -> Place {
        self.plan.row(self.start + l)
    }
    #[inline(always)]
    fn number(&self, l: usize) -> isize {
        self.plan.number(self.start + l)
    }
    // (Kept, and not told from the number: that may take a division for each axis.)
    #[inline(always)]
    fn skips(&self, _: &Details<'_>, l: usize) -> bool {
        self.skipped >> l & 1 == 1
    }
    #[inline(always)]
    fn any_skips(&self, _: &Details<'_>, _: usize) -> bool {
        self.skipped != 0
    }
    unsafe fn move_row(&mut self, l: usize, by: Move<T>) {
        let row = self.row_mut(l);
        let (x, e) = (row.x, row.e);
        row.x = e;
        self.joins = false;
        // SAFETY: rows of `n` elements.
        unsafe { move_row(x, e, self.plan.n, by) };
        if self.picks_scores {
            self.picked.0[l] = by.apply(self.picked.0[l]);
        }
    }
    unsafe fn has_nan(&self, l: usize) -> bool {
        // SAFETY: rows of `n` elements.
        unsafe { has_nan(self.row(l).x, self.plan.n) }
    }
}

/// All rows of `units`, which are batches of `size` rows (at most `LANES`). The problem is valid; `scratch` holds what
/// [`Call::rows_scratch`] says for this many rows (twice, if results wait), and a block of float64.
///
/// If `TINY`, there is but one row, of at most a vector: the compiler leaves out what is for more.
pub(super) struct Batches<'a, 'b, T, O, const TINY: bool> {
    pub(super) call: &'b Call<'a, T, O>,
    pub(super) size: usize,
    pub(super) units: Range<usize>,
    pub(super) scratch: *mut T,
}

impl<T: Stored, O: RowOp, const TINY: bool> Kernel<T> for Batches<'_, '_, T, O, TINY> {
    type Out = ();
    type Home = O;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        // SAFETY: see the struct.
        unsafe {
            if !TINY {
                batches::<S, T, O, false>(s, self.call, self.size, self.units, self.scratch);
            } else if is_tiny::<T, O>(S::LEVEL, self.call.plan) {
                // (Always so; but of what has no such way it tells the compiler.)
                batches::<S, T, O, true>(s, self.call, 1, 0..1, self.scratch);
            }
        }
        self.call.fence(s);
    }
}

/// See [`Batches`].
#[inline(always)]
unsafe fn batches<S: Isa + Simd<T>, T: Stored, O: RowOp, const TINY: bool>(
    s: S,
    call: &Call<'_, T, O>,
    size: usize,
    units: Range<usize>,
    scratch: *mut T,
) {
    let plan = call.plan;
    let end = if TINY { 1 } else { plan.rows.min(units.end * size) };
    // The next batch is fetched into the cache, and the places of its results, amid the first sums: with exponentials they
    // take longest, and of more at once than the processor keeps in mind it would wait for some. (A saved result is hardly
    // computed with: what lies in a cache comes as fast without, and the fetching costs a fifth.)
    let fetches = O::SCORES || call.far;
    let mut ahead = None;
    if !TINY && fetches && !call.near {
        let step = plan.row(size).minus(plan.row(0));
        let short = plan.n <= ahead_bytes::<O>(call.level.level()) / size_of::<T>();
        ahead = Some(Place {
            x: if call.x_in_place { step.x } else { 0 },
            second: if call.second_in_place { step.second } else { 0 },
            out: if short && call.out_in_place && !call.streams {
                step.out
            } else {
                0
            },
            ..Place::ORIGIN
        });
    }
    let joins = !TINY && call.rows_join();
    let waits = !TINY && S::ALL_WAYS && waits(call);
    // Two, for the one whose results wait, and what is known of that. (Not made as a pair: that would be copied.)
    let mut even = Batch::new::<O>(plan);
    let mut odd = Batch::new::<O>(plan);
    let mut before = None;
    let mut is_odd = false;
    // (What an earlier batch left in the lanes beyond a smaller last one, no one looks at.)
    let mut folded = Folded::new();
    folded.clear(if TINY { 1 } else { size.min(plan.rows) }, which_sums::<O>());
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        let mut start = units.start * size;
        while start < end {
            let rows = if TINY { 0..1 } else { start..end.min(start + size) };
            let (batch, other, part) = if waits && is_odd {
                (&mut odd, &even, scratch.wrapping_byte_add(call.rows_scratch(size)))
            } else {
                (&mut even, &odd, scratch)
            };
            open::<S, T, O, TINY>(s, call, rows, part, batch);
            batch.joins = joins && batch.skipped == 0;
            start += size;
            let known = if O::SCORES {
                let mut params = [Lanes([<T as Float>::ZERO; 16]); 6];
                let waiting = match &before {
                    Some(known) if waits => Some(Results::new(call, other, known, &mut params, None)),
                    _ => None,
                };
                sums::<S, T, O, TINY>(s, call, batch, &mut folded, ahead, waiting)
            } else {
                saved_sums(s, call, batch, &mut folded, ahead)
            };
            if waits && start < end {
                before = Some(known);
                is_odd = !is_odd;
                continue;
            }
            finish::<S, T, O, TINY>(s, call, batch, &known, scratch);
        }
    }
}

impl<'a, T: Stored> Batch<'a, T> {
    #[inline(always)]
    fn new<O: RowOp>(plan: &'a Plan<'a>) -> Self {
        Self {
            plan,
            start: 0,
            count: 0,
            rows: [MaybeUninit::uninit(); 16],
            skipped: 0,
            maxima: Lanes([<T as Float>::ZERO; 16]),
            picked: Lanes([<T as Float>::ZERO; 16]),
            picks_scores: O::PICK == Pick::Class,
            joins: false,
        }
    }

    #[inline(always)]
    fn row(&self, i: usize) -> &Row<T> {
        debug_assert!(i < self.count);
        // SAFETY: `open` wrote the first `count`, and no other is asked for.
        unsafe { self.rows[i].assume_init_ref() }
    }

    #[inline(always)]
    fn row_mut(&mut self, i: usize) -> &mut Row<T> {
        debug_assert!(i < self.count);
        // SAFETY: as in `row`.
        unsafe { self.rows[i].assume_init_mut() }
    }

    /// Row `i`, and where the one lies that is fetched meanwhile.
    #[inline(always)]
    fn source(&self, i: usize, ahead: Option<Place>) -> Source<T> {
        Source {
            x: self.row(i).x,
            b: self.row(i).b,
            ahead: match ahead {
                Some(by) => Some(Ahead {
                    x: ahead_of(self.row(i).x, by.x),
                    b: ahead_of(self.row(i).b, by.second),
                    y: ahead_of(self.row(i).y, by.out),
                }),
                None => None,
            },
        }
    }

    /// Whether streamed row `i` shares a cache line of results with the next one, if it does not end with a line.
    #[inline(always)]
    fn continues(&self, i: usize) -> bool {
        self.joins && i + 1 < self.count
    }

    /// Which element of streamed row `i` will be written once more, reckoned from `first`: far beyond the row, if none.
    #[inline(always)]
    fn again<O: RowOp>(&self, i: usize, first: usize) -> Option<usize> {
        if O::FIX.is_some() {
            Some(self.row(i).position.wrapping_sub(first))
        } else {
            None
        }
    }

    /// Which element will be written once more of the line that begins at `end` in row `i`, and ends in the next, if one
    /// will.
    #[inline(always)]
    fn again_in_line<O: RowOp>(&self, i: usize, end: usize) -> Option<usize> {
        let (n, next) = (self.plan.n, self.row(i + 1).position);
        match self.again::<O>(i, end) {
            Some(own) if own >= n - end && next != NOWHERE => Some(next + (n - end)),
            own => own,
        }
    }

    /// Picks a number out of row `i` (of scores), whose maximum is known.
    ///
    /// # Safety
    /// The rows are valid.
    #[inline(always)]
    unsafe fn pick<S: Isa + Simd<T>, O: RowOp>(&mut self, s: S, call: &Call<'_, T, O>, i: usize) {
        // SAFETY: the caller's promise; classes are below `n`, and a row without elements has no picks.
        unsafe {
            match O::PICK {
                Pick::None => {}
                Pick::Peak if self.plan.n == 0 => {}
                Pick::Peak => {
                    let (n, max) = (self.plan.n, self.maxima.0[i]);
                    let row = self.row_mut(i);
                    row.position = along::find(s, row.x, n, max);
                    self.picked.0[i] = row.b.add(row.position).read_unaligned();
                }
                Pick::Class => {
                    let number = self.number(i);
                    let row = self.row_mut(i);
                    match call.plan.details.class(number) {
                        Some(class) => {
                            row.position = class;
                            self.picked.0[i] = row.x.add(class).read_unaligned();
                        }
                        None => self.picked.0[i] = self.maxima.0[i],
                    }
                }
            }
        }
    }
}

/// Whether there is but one row, of a vector at most, of an op that has a way of its own for it. (Only the functions of
/// scores alone, where vectors are registers: they are what is called on ten numbers, and each way is code.)
#[inline(always)]
pub(super) fn is_tiny<T: Float, O: RowOp>(level: Level, plan: &Plan<'_>) -> bool {
    O::SCORES && !O::SECOND && level.has_all_ways() && plan.rows == 1 && (1..=T::LANES).contains(&plan.n)
}

/// `n`, of which the compiler is told that it fits a vector if `TINY`.
///
/// # Safety
/// It does.
#[inline(always)]
unsafe fn length<T: Float, const TINY: bool>(n: usize) -> usize {
    if TINY {
        // SAFETY: the caller's promise.
        unsafe { std::hint::assert_unchecked(0 < n && n <= T::LANES) };
    }
    n
}

/// Finds rows, and their maxima.
#[inline(always)]
unsafe fn open<S: Isa + Simd<T>, T: Stored, O: RowOp, const TINY: bool>(
    s: S,
    call: &Call<'_, T, O>,
    rows: Range<usize>,
    scratch: *mut T,
    batch: &mut Batch<'_, T>,
) {
    let plan = call.plan;
    // SAFETY: the caller's promise.
    let n = unsafe { length::<T, TINY>(plan.n) };
    batch.start = rows.start;
    batch.count = rows.len();
    batch.skipped = 0;
    let first_second = scratch.wrapping_add(call.rows_scratch_second(rows.len()));
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        for (i, r) in rows.enumerate() {
            let [to_x, to_second, to_out, number] = plan.distances(r);
            let row = scratch.wrapping_add(i * n);
            let y = if call.out_in_place && O::FROM != From::Nothing {
                plan.problem.out.ptr.offset(to_out).cast()
            } else {
                row
            };
            let e = if call.streams { row } else { y };
            let skips = plan.details.skips(number);
            let x = if call.x_in_place {
                plan.problem.x.ptr.offset(to_x).cast()
            } else {
                // Packed to where the exponentials will be, in place from then on.
                if !skips {
                    pack::pack(s, plan, plan.row(r), 0, n, e);
                }
                e.cast_const()
            };
            let mut b = std::ptr::null();
            if O::SECOND {
                b = if call.second_in_place {
                    second_of(plan).ptr.offset(to_second).cast::<T>().cast_const()
                } else {
                    let b = first_second.wrapping_add(i * n);
                    if !skips {
                        pack::pack_second(s, plan, plan.row(r), 0, n, b);
                    }
                    b
                };
            }
            batch.rows[i].write(Row {
                x,
                b,
                e,
                y,
                position: NOWHERE,
            });
            if skips {
                batch.skipped |= 1 << i;
                batch.maxima.0[i] = T::ZERO;
                batch.picked.0[i] = T::ZERO;
            } else if O::SCORES {
                batch.maxima.0[i] = along::max(s, x, n);
                batch.pick(s, call, i);
            }
        }
    }
}

/// Asks for the lines of streamed row `i` that are not streamed: a store that waits for its line holds up those behind it.
#[inline(always)]
fn expect<S: Isa + Simd<T>, T: Stored, O: RowOp>(s: S, batch: &Batch<'_, T>, i: usize) {
    let (row, n) = (batch.row(i), batch.plan.n);
    if i == 0 || !batch.continues(i - 1) {
        s.prefetch_write(row.y.cast());
    }
    if !batch.continues(i) {
        s.prefetch_write(row.y.wrapping_add(n).cast());
    }
    if O::FIX.is_some() && row.position != NOWHERE {
        s.prefetch_write(row.y.wrapping_add(row.position).cast());
    }
}

/// The second array of a problem whose op wants one.
#[inline(always)]
pub(super) fn second_of<'a>(plan: &Plan<'a>) -> &'a Array<'a> {
    // (None only where targets are made of classes, and then it is not read in place.)
    plan.problem.second.as_ref().unwrap_or(&plan.problem.x)
}

/// Sums exponentials (and stores them, if `finish` wants them), and finds what the results need.
#[inline(always)]
unsafe fn sums<S: Isa + Simd<T>, T: Stored, O: RowOp, const TINY: bool>(
    s: S,
    call: &Call<'_, T, O>,
    batch: &mut Batch<'_, T>,
    folded: &mut Folded<T>,
    ahead: Option<Place>,
    mut waiting: Option<Results<'_, S, T, O>>,
) -> Known<S, T> {
    // SAFETY: the caller's promise.
    let n = unsafe { length::<T, TINY>(batch.plan.n) };
    let count = if TINY { 1 } else { batch.count };
    let mut ties = Lanes([<T as Float>::ONE; 16]);
    // SAFETY: rows of the batch.
    unsafe {
        let mut room = None;
        let stage = Stage::new(s, call, of_rows(s, &batch.maxima, count), count, batch, &mut room);
        let exp_rows = stage.exp.rows();
        let pivots = stage.pivot.to_lanes();
        let left = match &waiting {
            Some(waiting) => waiting.batch.count,
            None => 0,
        };
        for i in 0..count.max(left) {
            if let Some(waiting) = &mut waiting
                && i < left
            {
                // (Known beforehand where that is possible: the other way takes no code then.)
                waiting.write::<false>(i, O::FROM == From::Exp || call.streams_at(s));
            }
            if i >= count || batch.skips(call.plan.details, i) {
                continue;
            }
            let mut base = None;
            let exp = stage.row(call, &exp_rows, i, &mut base);
            let m = Vector::splat(s, pivots.0[i]);
            let f = Sums {
                op: call.op,
                picked: Vector::splat(s, batch.picked.0[i]),
            };
            if call.streams_at(s) {
                expect::<S, T, O>(s, batch, i);
            }
            let (from, e) = (batch.source(i, ahead), batch.row(i).e);
            let sum = match O::FROM {
                From::Exp => along::exp_sum::<S, T, _, true>(s, &exp, m, f, from, e, n),
                _ => along::exp_sum::<S, T, _, false>(s, &exp, m, f, from, e, n),
            };
            folded.set(i, &sum, which_sums::<O>());
            ties.0[i] = T::from_f64(sum.ties);
        }
        let found = Found {
            ties: of_rows(s, &ties, count),
            picked: of_rows(s, &batch.picked, count),
        };
        stage.conclude(s, call, batch, folded, found, count)
    }
}

/// Numbers of `count` rows. (What lies in lanes beyond, no one looks at. A lane that has just been written cannot be read
/// as a part of a vector before it is through to the cache; of a single row nothing else is read. Volatile, or the
/// compiler would load the vector first and take the lane out of it.)
#[inline(always)]
fn of_rows<S: Isa + Simd<T>, T: Float>(s: S, lanes: &Lanes<T>, count: usize) -> Vector<S, T> {
    if count == 1 {
        // SAFETY: a reference.
        Vector::splat(s, unsafe { std::ptr::from_ref(&lanes.0[0]).read_volatile() })
    } else {
        Vector::from_lanes(s, lanes)
    }
}

/// The same for saved results: no exponentials. The maximum is found along with the sums; where it says that the row is
/// saturated, they are formed again (in the first-level cache) around the number at the maximum.
#[inline(always)]
unsafe fn saved_sums<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    batch: &mut Batch<'_, T>,
    folded: &mut Folded<T>,
    ahead: Option<Place>,
) -> Known<S, T> {
    let (n, count) = (batch.plan.n, batch.count);
    let infinity = Vector::zero(s) - Vector::splat(s, T::NEG_INFINITY);
    // The saturated rows of several are summed again together: row by row the processor would have to guess which, and is
    // wrong about many. (So rows of a hundred take from an eighth to a third less time. But while none is read for the
    // first time, nothing more comes from memory.)
    let together = if call.near { 16 } else { 2 };
    // SAFETY: rows of the batch.
    unsafe {
        for first in (0..count).step_by(together) {
            let mut saturated = 0_u32;
            for i in first..count.min(first + together) {
                batch.row_mut(i).position = NOWHERE;
                batch.picked.0[i] = batch.row(i).b.read_unaligned();
                let f = Sums {
                    op: call.op,
                    picked: Vector::splat(s, batch.picked.0[i]),
                };
                let (sum, max) = along::sum(s, infinity, f, batch.source(i, ahead), n);
                batch.maxima.0[i] = max;
                saturated |= u32::from(max.to_f64() > O::SATURATED) << i;
                folded.set(i, &sum, which_sums::<O>());
            }
            while saturated != 0 {
                let i = saturated.trailing_zeros() as usize;
                saturated &= saturated - 1;
                let (x, b, max) = (batch.row(i).x, batch.row(i).b, batch.maxima.0[i]);
                let k = along::find(s, x, n, max);
                batch.row_mut(i).position = k;
                batch.picked.0[i] = b.add(k).read_unaligned();
                let f = Sums {
                    op: call.op,
                    picked: Vector::splat(s, batch.picked.0[i]),
                };
                let (sum, _) = along::sum(s, Vector::splat(s, max), f, batch.source(i, None), n);
                folded.set(i, &sum, which_sums::<O>());
            }
        }
        if call.streams_at(s) {
            for i in 0..count {
                expect::<S, T, O>(s, batch, i);
            }
        }
        let mut room = None;
        let stage = Stage::saved(s, call, of_rows(s, &batch.maxima, count), count, batch, &mut room);
        let found = Found {
            ties: Vector::splat(s, T::ONE),
            picked: of_rows(s, &batch.picked, count),
        };
        stage.conclude(s, call, batch, folded, found, count)
    }
}

/// Writes the results.
#[inline(always)]
unsafe fn finish<S: Isa + Simd<T>, T: Stored, O: RowOp, const TINY: bool>(
    s: S,
    call: &Call<'_, T, O>,
    batch: &Batch<'_, T>,
    known: &Known<S, T>,
    scratch: *mut T,
) {
    let count = if TINY { 1 } else { batch.count };
    // SAFETY: rows of the batch.
    unsafe {
        if O::FROM == From::Nothing {
            let block = scratch.wrapping_add(call.rows_scratch(count) / size_of::<T>()).cast();
            known.write_values(s, call, count, batch, block);
            return;
        }
        let mut params = [Lanes([<T as Float>::ZERO; 16]); 6];
        let exp = Exp::new(s, &call.base, Vector::zero(s), O::DEPTH);
        let mut results = Results::new(call, batch, known, &mut params, Some(&exp));
        for i in 0..count {
            results.write::<TINY>(i, call.streams_at(s));
        }
    }
}

/// The results of a batch, to be written row by row.
struct Results<'a, S: Isa + Simd<T>, T: Stored, O> {
    call: &'a Call<'a, T, O>,
    batch: &'a Batch<'a, T>,
    known: &'a Known<S, T>,
    params: &'a [Lanes<T>; 6],
    /// Where exponentials are computed as the results are written.
    exp: Option<&'a Exp<S, T>>,
    /// Elements of the next row that were written along with the one before: if results are streamed.
    begun: usize,
}

impl<'a, S: Isa + Simd<T>, T: Stored, O: RowOp> Results<'a, S, T, O> {
    #[inline(always)]
    fn new(
        call: &'a Call<'a, T, O>,
        batch: &'a Batch<'a, T>,
        known: &'a Known<S, T>,
        params: &'a mut [Lanes<T>; 6],
        exp: Option<&'a Exp<S, T>>,
    ) -> Self {
        for k in 0..O::PARAMS {
            params[k] = known.params[k].to_lanes();
        }
        Self {
            call,
            batch,
            known,
            params,
            exp,
            begun: 0,
        }
    }

    /// Writes those of row `i`: of each once, in order; past the caches, or not.
    ///
    /// # Safety
    /// The problem is valid, and the batch is of it.
    #[inline(always)]
    unsafe fn write<const TINY: bool>(&mut self, i: usize, streams: bool) {
        let Self {
            call,
            batch,
            known,
            params,
            exp,
            ..
        } = *self;
        let s = known.params[0].1;
        // SAFETY: rows of the batch.
        unsafe {
            let n = length::<T, TINY>(batch.plan.n);
            let y = batch.row(i).y;
            let first = std::mem::take(&mut self.begun);
            if batch.skips(call.plan.details, i) {
                fill(y, n, T::ZERO);
            } else if known.is_nan(i) {
                fill(y, n, T::NAN);
            } else {
                let mut p = [Vector::zero(s); 6];
                for k in 0..O::PARAMS {
                    p[k] = Vector::splat(s, params[k].0[i]);
                }
                let row = batch.row(i);
                if streams {
                    let rest = along::since_line(y.wrapping_add(n));
                    let shares = rest > 0 && batch.continues(i) && !known.is_nan(i + 1);
                    let end = if shares { n - rest } else { n };
                    let to = To::Memory(y.add(first), batch.again::<O>(i, first));
                    write(s, call, exp, &p, row, first..end, to);
                    if shares {
                        let mine = Mask::first(s, rest);
                        let mut both = [Vector::zero(s); 6];
                        for k in 0..O::PARAMS {
                            both[k] = p[k].select(mine, Vector::splat(s, params[k].0[i + 1]));
                        }
                        let to = To::Line(y.add(end), batch.again_in_line::<O>(i, end));
                        write(s, call, exp, &both, row, end..end + T::LANES, to);
                        self.begun = T::LANES - rest;
                    }
                } else {
                    write(s, call, exp, &p, row, 0..n, To::Cache(y));
                }
                if let Some(k) = O::FIX
                    && batch.row(i).position != NOWHERE
                {
                    y.add(batch.row(i).position).write_unaligned(params[k].0[i]);
                }
                if O::DERIVES && known.octaves(i) != 0 {
                    scale_row(y, n, known.octaves(i));
                }
                if known.doubtful {
                    one_nan(y, n);
                }
            }
            if !call.out_in_place {
                pack::unpack(s, call.plan, batch.place(i), 0, n, y, T::from_f64(O::MASKED));
            }
        }
    }
}

/// Writes the results `part` of a row (or a line of them that ends in the next).
///
/// # Safety
/// The problem is valid, and the row and `to` are of it.
#[inline(always)]
unsafe fn write<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    exp: Option<&Exp<S, T>>,
    params: &Params<Vector<S, T>>,
    row: &Row<T>,
    part: Range<usize>,
    to: To<T>,
) {
    let finish = Finish { op: call.op, params };
    let n = part.len();
    let x = row.x.wrapping_add(part.start);
    let e = row.e.wrapping_add(part.start).cast_const();
    let b = row.b.wrapping_add(part.start);
    // SAFETY: the caller's promise.
    unsafe {
        match (O::FROM, exp) {
            (From::Exp, Some(exp)) if !O::SCORES => along::map(s, ExpFinish { exp, finish }, Source::of(x, b), to, n),
            (From::Exp, _) => along::map(s, finish, Source::of(e, b), to, n),
            (From::Second, _) => along::map(s, finish, Source::of(b, b), to, n),
            _ => along::map(s, finish, Source::of(x, b), to, n),
        }
    }
}

/// What a Jacobian needs of a row beside its probabilities.
pub(super) struct JacobianRow<S: Simd<T>, T: Float> {
    /// Where the maximum is.
    pub(super) peak: usize,
    /// 1 - p there.
    pub(super) tail: Vector<S, T>,
    /// 1 / T, a sum of two, but for a power of two, and over the square of `one`.
    pub(super) inverse: [Vector<S, T>; 2],
    /// What probabilities come times.
    pub(super) one: Vector<S, T>,
    pub(super) octaves: i32,
}

/// The probabilities of row `r`, to `scratch`. None: all are NaN.
///
/// # Safety
/// The problem is valid; `scratch` holds a row, and results do not go to `out` directly.
#[inline(always)]
pub(super) unsafe fn probabilities<S: Isa + Simd<T>, T: Stored>(
    s: S,
    call: &Call<'_, T, Probabilities>,
    r: usize,
    scratch: *mut T,
) -> Option<JacobianRow<S, T>> {
    let n = call.plan.n;
    let mut batch = Batch::new::<Probabilities>(call.plan);
    // SAFETY: the caller's promise.
    unsafe {
        open::<S, T, _, false>(s, call, r..r + 1, scratch, &mut batch);
        let peak = along::find(s, batch.row(0).x, n, batch.maxima.0[0]);
        let mut folded = Folded::new();
        folded.clear(1, which_sums::<Probabilities>());
        let known = sums::<S, T, _, false>(s, call, &mut batch, &mut folded, None, None);
        if known.is_nan(0) {
            return None;
        }
        let mut p = [Vector::zero(s); 6];
        for k in 0..Probabilities::PARAMS {
            p[k] = Vector::splat(s, known.params[k].lane(0));
        }
        let finish = Finish {
            op: call.op,
            params: &p,
        };
        along::map(s, finish, Source::of(scratch, scratch), To::Cache(scratch), n);
        Some(JacobianRow {
            peak,
            tail: p[2],
            inverse: [p[3], p[4]],
            one: p[5],
            octaves: known.octaves(0),
        })
    }
}

/// Which sums an op has: the first is that of the exponentials, if there are any.
const fn which_sums<O: RowOp>() -> Range<usize> {
    if O::SCORES { 0..1 + O::SUMS } else { 1..1 + O::SUMS }
}

/// Sums and rests: eight lanes of each of sixteen rows, for each of the sums.
#[repr(align(64))]
struct Folded<T>([[[MaybeUninit<[f64; 8]>; 16]; 2]; 1 + SUMS], PhantomData<T>);

impl<T: Float> Folded<T> {
    /// What rounding took is not kept for float32.
    const PARTS: usize = if T::KEEPS_REST { 2 } else { 1 };

    #[inline(always)]
    fn new() -> Self {
        Self([[[MaybeUninit::uninit(); 16]; 2]; 1 + SUMS], PhantomData)
    }

    /// For up to `count` rows: zeros in as many eights of rows as they need, or in a single one. (A row that takes no part
    /// sets none.)
    /// (In place and not in `new`, which would move all of it; and not all of it, which would cost a small call a tenth
    /// of its time.)
    #[inline(always)]
    fn clear(&mut self, count: usize, sums: Range<usize>) {
        let rows = match count {
            0 | 1 => count,
            2..=8 => 8,
            _ => 16,
        };
        for parts in &mut self.0[sums] {
            for part in &mut parts[..Self::PARTS] {
                for row in &mut part[..rows] {
                    row.write([0.0; 8]);
                }
            }
        }
    }

    #[inline(always)]
    fn set<S: Isa>(&mut self, row: usize, sum: &Sum<S>, sums: Range<usize>) {
        for a in sums {
            for k in 0..Self::PARTS {
                // SAFETY: a row of eight.
                unsafe { sum.folded[a][k].store(self.0[a][k][row].as_mut_ptr().cast()) };
            }
        }
    }

    /// The sums of eight rows of `count` in all, a lane each, from their lanes.
    #[inline(always)]
    fn add_lanes<S: Isa>(&self, s: S, of: usize, first: usize, count: usize) -> [Vector<S, f64>; 2] {
        let mut lanes = [[Vector::zero(s); 2]; 8];
        if count == 1 {
            for k in 0..Self::PARTS {
                // SAFETY: `clear` wrote the only row.
                let row = unsafe { self.0[of][k][0].assume_init_ref() };
                for l in 0..8 {
                    lanes[l][k] = Vector::splat(s, row[l]);
                }
            }
            return add_lanes::<S, T>(lanes);
        }
        for k in 0..Self::PARTS {
            for l in (0..8).step_by(2) {
                let mut rows = [std::ptr::null(); 16];
                let mut columns = [Simd::<f64>::splat(s, 0.0); 4];
                // SAFETY: pairs of float64 in eight rows that `new` wrote.
                unsafe {
                    for i in 0..8 {
                        rows[i] = self.0[of][k][first + i].as_ptr().cast::<f64>().add(l);
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

impl<S: Isa, T: Float> SumsOf<S> for Folded<T> {
    #[inline(always)]
    fn half(&self, s: S, of: usize, half: usize, count: usize) -> [Vector<S, f64>; 2] {
        s.part(EightRows {
            sums: self,
            of,
            first: 8 * half,
            count,
        })
    }
}

/// What [`Folded`] has of eight rows.
struct EightRows<'a, T> {
    sums: &'a Folded<T>,
    of: usize,
    first: usize,
    count: usize,
}

impl<S: Isa, T: Float> Part<S, f64> for EightRows<'_, T> {
    type Out = [Vector<S, f64>; 2];
    #[inline(always)]
    fn compute(self, s: S) -> Self::Out {
        self.sums.add_lanes(s, self.of, self.first, self.count)
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

/// Multiplies a row by a power of two.
///
/// # Safety
/// `y` is valid for reading and writing `n` elements.
#[cold]
#[inline(never)]
pub(super) unsafe fn scale_row<T: Stored>(y: *mut T, n: usize, octaves: i32) {
    for j in 0..n {
        // SAFETY: the caller's promise.
        unsafe {
            y.add(j)
                .write_unaligned(T::scaled_difference(y.add(j).read_unaligned(), T::ZERO, -octaves))
        };
    }
}

/// Makes each NaN the one that results hold.
///
/// # Safety
/// `y` is valid for reading and writing `n` elements.
#[cold]
#[inline(never)]
pub(super) unsafe fn one_nan<T: Stored>(y: *mut T, n: usize) {
    for j in 0..n {
        // SAFETY: the caller's promise.
        unsafe {
            if y.add(j).read_unaligned().is_nan() {
                y.add(j).write_unaligned(T::NAN);
            }
        }
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
