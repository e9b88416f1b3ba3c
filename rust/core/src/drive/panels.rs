//! Rows side by side: a lane is a row.
//!
//! A panel is `LANES` rows in scratch, element by element. Short rows come into it by transposes of 16 bytes times
//! `LANES`; where neighbours in memory belong to different rows (the axis is not the last), whole vectors are copied, for
//! several panels at once so that each row of memory is read and written in one piece. (32 KiB from one row to the next
//! would put all of them into the same few sets of the cache: the copy also avoids that.)

use std::ops::Range;

use super::details::Details;
use super::pack::{self, load_some, store_some};
use super::plan::{Place, Plan};
use super::rows::{one_nan, second_of};
use super::stage::{Access, Found, Known, Stage, SumsOf};
use super::transpose::{Rows, from_panel, to_panel};
use super::{Call, Move};
use crate::element::{Element, Stored, Visitor};
use crate::math::exp::Exp;
use crate::ops::{ExpFinish, Finish, From, Pick, RowOp, Sums};
use crate::problem::Dtype;
use crate::row::{Map, SUMS, Source, To, across, along};
use crate::simd::{Float, GROUP, Isa, Kernel, Lanes, Level, Simd, Vector};

/// Rows up to so many bytes go into panels; it may depend on whether they come from memory (`far`), and on whether results
/// are streamed. In a panel nothing is left over at a row's end, and no row's sums wait for themselves. But rows and results
/// have to be transposed (at the portable level, element by element).
pub(super) const fn short_bytes<T: Float, O: RowOp>(level: Level, far: bool, streams: bool) -> usize {
    let (portable, avx2) = (matches!(level, Level::Portable), matches!(level, Level::Avx2));
    let vectors = match O::FROM {
        // The arithmetic of a row takes half the time it takes at AVX2, and to transpose it takes as long: of float64,
        // which is half as many elements, less.
        _ if matches!(level, Level::Avx512) => match O::FROM {
            From::Nothing if O::SECOND => 28,
            From::Nothing => 31,
            // (Streamed results of a panel lie apart: rows of 52 to 92 float32 lose a tenth by it that would gain as much.)
            _ if O::SCORES && !O::SECOND && O::FIX.is_none() => match (streams, T::LANES) {
                (true, 16) => 12,
                (true, _) => 20,
                (false, 16) => 23,
                (false, _) => 25,
            },
            _ if O::SCORES || T::LANES == 8 => 19,
            _ => 14,
        },
        // (On a Zen 3. Its prefetchers follow rows in memory, but not panels, whose tiles are read across: asking for the next
        // panel's lines makes up for a part of that. Of a saved result hardly anything is computed.)
        From::X if avx2 && !O::SCORES => {
            if far {
                6
            } else {
                15
            }
        }
        From::Nothing if far && avx2 && !O::SECOND => 20,
        _ if far && avx2 => 12,
        // The rows of two panels, and what becomes of them, have to fit the first-level cache.
        _ if far && (O::SECOND || O::FIX.is_some() || portable) => 12,
        _ if portable => 24,
        From::Nothing => 36,
        From::X if far || !O::SCORES => 20,
        _ if far => 25,
        _ => 28,
    };
    16 * vectors
}
/// Panels of a tile: 512 bytes of a row of memory.
pub(super) const MAX_PANELS: usize = 8;

/// The rows of a panel.
struct Panel<'a, T> {
    plan: &'a Plan<'a>,
    /// The row in the first lane, and how many there are.
    start: usize,
    count: usize,
    data: *mut T,
    /// The panel of the second rows, where there are any.
    second: *mut T,
    /// The lines to be fetched meanwhile, as many as the panel has vectors: of the next rows, or its own.
    next: *const T,
    /// What was picked of each row, and where.
    picked: Lanes<T>,
    positions: [usize; 16],
    picks_scores: bool,
    /// The rows' classes, if they have any: negative where a row takes no part.
    classes: &'a [i64],
}

/// Nothing was picked.
const NOWHERE: usize = usize::MAX;

/// [`across::sum`] of scores, whose exponentials are kept if results are made of them.
///
/// # Safety
/// As for that.
#[inline(always)]
unsafe fn exp_sums<S: Isa + Simd<T>, T: Float, O: RowOp>(
    s: S,
    exp: &Exp<S, T>,
    m: Vector<S, T>,
    f: Sums<S, T, O>,
    panels: (*mut T, *const T),
    n: usize,
    next: *const T,
) -> ([T::Wide<S>; 1 + SUMS], Vector<S, T>) {
    // SAFETY: the caller's promise.
    unsafe {
        match O::FROM {
            From::Exp => across::sum::<S, T, _, true, true>(s, exp, m, f, panels, n, next),
            _ => across::sum::<S, T, _, true, false>(s, exp, m, f, panels, n, next),
        }
    }
}

impl<T: Stored> Access<T> for Panel<'_, T> {
    #[inline]
    fn place(&self, l: usize) -> Place {
        self.plan.row(self.row(l))
    }
    #[inline(always)]
    fn number(&self, l: usize) -> isize {
        self.plan.number(self.row(l))
    }
    #[inline(always)]
    fn skips(&self, _: &Details<'_>, l: usize) -> bool {
        self.classes.get(l).is_some_and(|&class| class < 0)
    }
    #[inline(always)]
    fn any_skips(&self, _: &Details<'_>, _: usize) -> bool {
        let mut all = 0;
        for l in 0..self.classes.len() {
            all |= self.classes[l];
        }
        all < 0
    }
    #[cold]
    unsafe fn move_row(&mut self, l: usize, by: Move<T>) {
        for j in 0..self.plan.n {
            // SAFETY: a lane of the panel.
            unsafe {
                let p = self.data.add(j * T::LANES + l);
                *p = by.apply(*p);
            }
        }
        if self.picks_scores {
            self.picked.0[l] = by.apply(self.picked.0[l]);
        }
    }
    #[cold]
    unsafe fn has_nan(&self, l: usize) -> bool {
        // SAFETY: a lane of the panel.
        (0..self.plan.n).any(|j| unsafe { *self.data.add(j * T::LANES + l) }.is_nan())
    }
}

impl<'a, T: Stored> Panel<'a, T> {
    fn new<O: RowOp>(
        plan: &'a Plan<'a>,
        (start, count): (usize, usize),
        (data, second): (*mut T, *mut T),
        room: &'a mut [i64; 16],
    ) -> Self {
        Self {
            plan,
            start,
            count,
            data,
            second,
            next: data,
            picked: Lanes([<T as Float>::ZERO; 16]),
            positions: [NOWHERE; 16],
            picks_scores: O::PICK == Pick::Class,
            classes: plan.classes(start, count, room),
        }
    }

    /// The row in lane `l`: lanes without one of their own hold the last.
    #[inline(always)]
    fn row(&self, l: usize) -> usize {
        self.start + l.min(self.count - 1)
    }

    /// Keeps where something was picked; -1 is nowhere.
    #[inline(always)]
    fn set_positions<S: Isa + Simd<T>>(&mut self, places: Vector<S, T>) {
        let places = places.to_lanes();
        for l in 0..T::LANES {
            self.positions[l] = (places.0[l].to_f64() as isize).cast_unsigned();
        }
    }

    /// Picks a number out of each row of scores, whose maxima are known.
    ///
    /// # Safety
    /// The panel is valid.
    #[inline(always)]
    unsafe fn pick<S: Isa + Simd<T>, O: RowOp>(&mut self, s: S, max: Vector<S, T>) {
        // SAFETY: the caller's promise; classes are below `n`.
        unsafe {
            match O::PICK {
                Pick::None => {}
                Pick::Peak => {
                    let [picked, places] = across::find(s, self.data, self.second, self.plan.n, max);
                    self.picked = picked.to_lanes();
                    if O::FIX.is_some() {
                        self.set_positions(places);
                    }
                }
                Pick::Class => {
                    self.picked = max.to_lanes();
                    for l in 0..self.classes.len() {
                        if let Ok(class) = usize::try_from(self.classes[l]) {
                            self.positions[l] = class;
                            self.picked.0[l] = *self.data.add(class * T::LANES + l);
                        }
                    }
                }
            }
        }
    }

    /// Sums the exponentials (and leaves them in the panel, if `finish` wants them).
    ///
    /// # Safety
    /// The panel is valid, and its maxima are `max`.
    #[inline(always)]
    unsafe fn sums<S: Isa + Simd<T>, O: RowOp>(
        &mut self,
        s: S,
        call: &Call<'_, T, O>,
        max: Vector<S, T>,
    ) -> Known<S, T> {
        let (n, count) = (self.plan.n, self.count);
        // SAFETY: the caller's promise.
        unsafe {
            if !O::SCORES {
                return self.saved_sums(s, call, max);
            }
            self.pick::<S, O>(s, max);
            let mut room = None;
            let stage = Stage::new(s, call, max, count, self, &mut room);
            let (exp, m) = (&stage.exp, stage.pivot);
            let picked = Vector::from_lanes(s, &self.picked);
            let f = Sums { op: call.op, picked };
            let panels = (self.data, self.second.cast_const());
            // (Two ways where a vector is two registers, which then hold the same constants: all of them stay there. With what
            // `across::group` does, softmax of rows of ten takes a tenth less time.)
            let (wide, ties) = if S::INTERLEAVE == 2 && stage.uniform {
                exp_sums::<S, T, O>(s, &exp.alike(s, &call.base), m, f, panels, n, self.next)
            } else {
                exp_sums::<S, T, O>(s, exp, m, f, panels, n, self.next)
            };
            let found = Found { ties, picked };
            stage.conclude(s, call, self, &Wide::<S, T>(wide), found, count)
        }
    }

    /// The same for saved results.
    ///
    /// # Safety
    /// The panel is valid, and its maxima are `max`.
    #[inline(always)]
    unsafe fn saved_sums<S: Isa + Simd<T>, O: RowOp>(
        &mut self,
        s: S,
        call: &Call<'_, T, O>,
        max: Vector<S, T>,
    ) -> Known<S, T> {
        let (n, count) = (self.plan.n, self.count);
        // SAFETY: the caller's promise.
        unsafe {
            let [at_max, places] = across::find(s, self.data, self.second, n, max);
            let apart = Vector::splat(s, T::from_f64(O::SATURATED)).not_less(max);
            let picked = Vector::load(s, self.second).select(apart, at_max);
            self.picked = picked.to_lanes();
            // No element of the others is this one.
            let m = Vector::splat(s, T::from_f64(f64::INFINITY)).select(apart, max);
            if O::FIX.is_some() {
                self.set_positions(Vector::splat(s, T::from_f64(-1.0)).select(apart, places));
            }
            let f = Sums { op: call.op, picked };
            let mut room = None;
            let stage = Stage::saved(s, call, max, T::LANES, self, &mut room);
            let panels = (self.data, self.second.cast_const());
            let (wide, _) = across::sum::<S, T, _, false, false>(s, &stage.exp, m, f, panels, n, self.next);
            let found = Found {
                ties: Vector::splat(s, T::ONE),
                picked,
            };
            stage.conclude(s, call, self, &Wide::<S, T>(wide), found, count)
        }
    }

    /// Multiplies the row in lane `l` by a power of two.
    ///
    /// # Safety
    /// The panel is valid.
    #[cold]
    #[inline(never)]
    unsafe fn scale(&mut self, l: usize, octaves: i32) {
        for j in 0..self.plan.n {
            // SAFETY: a lane of the panel.
            unsafe {
                let p = self.data.add(j * T::LANES + l);
                *p = T::scaled_difference(*p, T::ZERO, -octaves);
            }
        }
    }

    /// Element `j` of each row, and of the second rows where there are any.
    ///
    /// # Safety
    /// The panel is valid, and `j` below `n`.
    #[inline(always)]
    unsafe fn pair<S: Isa + Simd<T>, O: RowOp>(&self, s: S, j: usize) -> [Vector<S, T>; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let v = Vector::load(s, self.data.add(j * T::LANES));
            let b = if O::SECOND {
                Vector::load(s, self.second.add(j * T::LANES))
            } else {
                Vector::zero(s)
            };
            [v, b]
        }
    }

    /// Turns the panel into results.
    ///
    /// # Safety
    /// The panel is valid.
    #[inline(always)]
    unsafe fn finish<S: Isa + Simd<T>, O: RowOp>(&mut self, s: S, call: &Call<'_, T, O>, known: &Known<S, T>) {
        let n = self.plan.n;
        let exp = Exp::new(s, &call.base, Vector::zero(s), O::DEPTH);
        let finish = Finish {
            op: call.op,
            params: &known.params,
        };
        // SAFETY: the caller's promise.
        unsafe {
            let mut j = 0;
            // (Four at once, of which something is asked but once.)
            while O::SCALES && j + GROUP <= n {
                let mut group = [Vector::zero(s); GROUP];
                for i in 0..GROUP {
                    group[i] = Vector::load(s, self.data.add((j + i) * T::LANES));
                }
                let small = finish.ask(group);
                for i in 0..GROUP {
                    let [v, b] = if O::SECOND {
                        self.pair::<S, O>(s, j + i)
                    } else {
                        [group[i], Vector::zero(s)]
                    };
                    finish
                        .apply_knowing(small, v, b)
                        .store(self.data.add((j + i) * T::LANES));
                }
                j += GROUP;
            }
            while j < n {
                let [v, b] = self.pair::<S, O>(s, j);
                match O::FROM {
                    From::Exp if !O::SCORES => ExpFinish { exp: &exp, finish }.apply(v, b),
                    From::Second => finish.apply(b, b),
                    _ => finish.apply(v, b),
                }
                .store(self.data.add(j * T::LANES));
                j += 1;
            }
            if let Some(k) = O::FIX {
                let fixes = known.params[k].to_lanes();
                for l in 0..self.count {
                    if self.positions[l] != NOWHERE {
                        *self.data.add(self.positions[l] * T::LANES + l) = fixes.0[l];
                    }
                }
            }
            if O::DERIVES && known.octaves.is_some() {
                for l in 0..self.count {
                    if known.octaves(l) != 0 {
                        self.scale(l, known.octaves(l));
                    }
                }
            }
            if known.doubtful {
                one_nan(self.data, n * T::LANES);
            }
            let details = self.plan.details;
            if known.special || self.any_skips(details, self.count) {
                for l in 0..self.count {
                    let value = if self.skips(details, l) {
                        T::ZERO
                    } else if known.is_nan(l) {
                        T::NAN
                    } else {
                        continue;
                    };
                    for j in 0..n {
                        *self.data.add(j * T::LANES + l) = value;
                    }
                }
            }
        }
    }
}

/// A valid panel, to be turned into results.
struct Compute<'a, 'b, 'c, T, O> {
    call: &'b Call<'a, T, O>,
    panel: &'b mut Panel<'c, T>,
    max: &'b Lanes<T>,
    /// The panel to be filled meanwhile.
    next: Option<Fill<'b, T>>,
    /// For a block of float64.
    scratch: *mut f64,
}

impl<T: Stored, O: RowOp> Kernel<T> for Compute<'_, '_, '_, T, O> {
    type Out = ();
    type Home = O;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        let Self {
            call,
            panel,
            max,
            next,
            scratch,
        } = self;
        // SAFETY: whoever made this says that the panel is valid.
        unsafe {
            let known = panel.sums(s, call, Vector::from_lanes(s, max));
            // (Here, for the results wait for what has just been concluded: sums, a division, roundings. While they do, the
            // processor is in the next rows, but not in those after a hundred stores of results.)
            if let Some(next) = next {
                *next.max = fill(s, call, next.unit, next.room);
            }
            if O::FROM == From::Nothing {
                known.write_values(s, call, panel.count, panel, scratch);
            } else {
                panel.finish(s, call, &known);
            }
        }
    }
}

/// A panel of short rows that is to be filled.
struct Fill<'a, T> {
    unit: usize,
    room: Room<T>,
    max: &'a mut Lanes<T>,
}

/// Scratch for a panel, for that of the second rows (where there are any), and for rows that are packed beforehand.
#[derive(Clone, Copy)]
struct Room<T> {
    data: *mut T,
    second: *mut T,
    rows: *mut T,
}

/// Transposes the `unit`-th `LANES` rows into a panel; the maximum of each.
///
/// # Safety
/// As for [`rows`].
#[inline(always)]
unsafe fn fill<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    unit: usize,
    to: Room<T>,
) -> Lanes<T> {
    let plan = call.plan;
    let n = plan.n;
    let start = unit * T::LANES;
    let lanes = (start, T::LANES.min(plan.rows - start));
    let row = |l: usize| plan.row(start + l.min(lanes.1 - 1));
    let step = plan.steps(T::LANES);
    let mut list = [to.rows; 16];
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        if O::SECOND {
            let (rows, ahead) = if call.second_in_place {
                let first = second_of(plan).ptr;
                (
                    Rows::of(plan, lanes, first, |place| place.second, None, &mut list),
                    step.second,
                )
            } else {
                for l in 0..T::LANES {
                    pack::pack_second(s, plan, row(l), 0, n, to.rows.add(l * n));
                }
                (Rows::packed(to.rows, n), 0)
            };
            to_panel(s, rows, n, to.second, ahead);
        }
        let (rows, ahead) = if call.x_in_place {
            let first = plan.problem.x.ptr;
            let ahead = if comes_with_sums::<T, O>(call) { 0 } else { step.x };
            (Rows::of(plan, lanes, first, |place| place.x, None, &mut list), ahead)
        } else {
            for l in 0..T::LANES {
                pack::pack(s, plan, row(l), 0, n, to.rows.add(l * n));
            }
            (Rows::packed(to.rows, n), 0)
        };
        to_panel(s, rows, n, to.data, ahead)
    }
}

/// Bytes of a panel.
#[inline(always)]
fn panel_bytes<T: Stored>(plan: &Plan<'_>) -> isize {
    (T::LANES * plan.n * size_of::<T>()).cast_signed()
}

/// Whether the lines of further rows are asked for amid the sums.
#[inline(always)]
fn comes_with_sums<T: Stored, O: RowOp>(call: &Call<'_, T, O>) -> bool {
    O::SCORES && call.x_in_place && call.plan.steps(T::LANES).x == panel_bytes::<T>(call.plan)
}

/// Sums of a panel.
struct Wide<S: Isa, T: Stored>([T::Wide<S>; 1 + SUMS]);

impl<S: Isa, T: Stored> SumsOf<S> for Wide<S, T> {
    #[inline(always)]
    fn half(&self, s: S, of: usize, half: usize, _: usize) -> [Vector<S, f64>; 2] {
        T::wide_halves(s, self.0[of])[half]
    }
}

/// Short rows: of each of `units`, `LANES`. The problem is valid; `scratch` holds two panels (four for ops with a second
/// row), `LANES` rows, and a block of float64.
pub(super) struct ShortRows<'a, 'b, T, O> {
    pub(super) call: &'b Call<'a, T, O>,
    pub(super) units: Range<usize>,
    pub(super) scratch: *mut T,
}

impl<T: Stored, O: RowOp> Kernel<T> for ShortRows<'_, '_, T, O> {
    type Out = ();
    type Home = O;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        // SAFETY: see the struct.
        unsafe { rows(s, self.call, self.units, self.scratch) };
        self.call.fence(s);
    }
}

/// See [`ShortRows`].
#[inline(always)]
unsafe fn rows<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    units: Range<usize>,
    scratch: *mut T,
) {
    let plan = call.plan;
    let n = plan.n;
    let size = n * T::LANES;
    let operands = if O::SECOND { 2 } else { 1 };
    let buffer = scratch.wrapping_add(2 * operands * size);
    let room = |unit: usize| {
        let data = scratch.wrapping_add(unit % 2 * operands * size);
        Room {
            data,
            second: data.wrapping_add(size),
            rows: buffer,
        }
    };
    let ahead = comes_with_sums::<T, O>(call);
    let step = plan.steps(T::LANES).out;
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        let mut max = fill(s, call, units.start, room(units.start));
        let mut next_max = max;
        for unit in units.clone() {
            let start = unit * T::LANES;
            let count = T::LANES.min(plan.rows - start);
            let mut classes = [0; 16];
            let Room { data, second, .. } = room(unit);
            let mut panel = Panel::new::<O>(plan, (start, count), (data, second), &mut classes);
            if ahead {
                let own = plan.problem.x.ptr.wrapping_offset(panel.place(0).x);
                panel.next = own.wrapping_offset(panel_bytes::<T>(plan)).cast();
            }
            let next = (unit + 1 < units.end).then_some(Fill {
                unit: unit + 1,
                room: room(unit + 1),
                max: &mut next_max,
            });
            s.apart(Compute {
                call,
                panel: &mut panel,
                max: &max,
                next,
                scratch: buffer.wrapping_add(size).cast(),
            });
            max = next_max;
            if O::FROM != From::Nothing {
                write(s, call, &panel, buffer, step);
            }
        }
    }
}

/// Writes the results of a panel of short rows. The places of those that lie `ahead` bytes further are asked for (if that
/// is not 0).
///
/// # Safety
/// The panel is valid; `buffer` holds `LANES` rows.
#[inline(always)]
unsafe fn write<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    panel: &Panel<'_, T>,
    buffer: *mut T,
    ahead: isize,
) {
    let plan = call.plan;
    let n = plan.n;
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        if call.out_in_place && !(call.streams_at(s) && ahead == panel_bytes::<T>(plan) && panel.count == T::LANES) {
            let first = plan.problem.out.ptr;
            let mut list = [buffer; 16];
            // (Lanes without a row leave their results in the scratch.)
            let lanes = (panel.start, panel.count);
            let rows = Rows::of(plan, lanes, first, |place| place.out, Some(buffer), &mut list);
            from_panel(s, panel.data, n, rows, ahead);
            return;
        }
        from_panel(s, panel.data, n, Rows::packed(buffer, n), 0);
        if call.out_in_place {
            // All at once, so that they share no line but their first and last. (Rows with gaps are too short to be streamed.)
            s.apart(Stream {
                from: buffer,
                to: plan.problem.out.ptr.offset(panel.place(0).out).cast(),
                n: T::LANES * n,
            });
            return;
        }
        for l in 0..panel.count {
            pack::unpack(s, plan, panel.place(l), 0, n, buffer.add(l * n), T::from_f64(O::MASKED));
        }
    }
}

/// `n` valid elements, and where they belong: valid memory elsewhere, aligned, past the caches.
struct Stream<T> {
    from: *const T,
    to: *mut T,
    n: usize,
}

impl<T: Float> Kernel<T> for Stream<T> {
    type Out = ();
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        // SAFETY: see the struct.
        unsafe {
            along::map(
                s,
                Same,
                Source::of(self.from, self.from),
                To::Memory(self.to, None),
                self.n,
            )
        };
    }
}

/// Tiles of up to `panels` panels, lanes along an axis of `inner` rows that are neighbours in memory. The problem is
/// valid; `scratch` holds the panels (twice for ops with a second row), `LANES` rows, and a block of float64.
pub(super) struct Tiles<'a, 'b, T, O> {
    pub(super) call: &'b Call<'a, T, O>,
    pub(super) panels: usize,
    pub(super) inner: usize,
    pub(super) units: Range<usize>,
    pub(super) scratch: *mut T,
}

impl<T: Stored, O: RowOp> Kernel<T> for Tiles<'_, '_, T, O> {
    type Out = ();
    type Home = O;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        for unit in self.units {
            // SAFETY: see the struct.
            unsafe { tile(s, self.call, self.panels, self.inner, unit, self.scratch) };
        }
        self.call.fence(s);
    }
}

/// The `unit`-th of [`Tiles`].
#[inline(always)]
unsafe fn tile<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    panels: usize,
    inner: usize,
    unit: usize,
    scratch: *mut T,
) {
    let plan = call.plan;
    let n = plan.n;
    let width = panels * T::LANES;
    let tiles = inner.div_ceil(width);
    let column = unit % tiles * width;
    let start = unit / tiles * inner + column;
    let count = width.min(inner - column);
    let used = count.div_ceil(T::LANES);
    let second = scratch.wrapping_add(panels * n * T::LANES);
    let buffer = if O::SECOND {
        second.wrapping_add(panels * n * T::LANES)
    } else {
        second
    };
    let origin = plan.row(start);
    // `columns` found one reduced axis (or one element, when any step will do).
    let step = plan.reduced().first().map_or(Place::default(), |axis| axis.step);
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        let x = &plan.problem.x;
        let mut max = [Lanes([T::NEG_INFINITY; 16]); MAX_PANELS];
        s.apart(ToPanels {
            dtype: x.dtype,
            from: x.ptr.offset(origin.x),
            step: step.x,
            n,
            count,
            panels: scratch,
            max: &mut max,
        });
        if O::SECOND && call.second_columns {
            let array = second_of(plan);
            s.apart(ToPanels {
                dtype: array.dtype,
                from: array.ptr.offset(origin.second),
                step: step.second,
                n,
                count,
                panels: second,
                max: &mut [Lanes([T::ZERO; 16]); MAX_PANELS],
            });
        }
        let out = &plan.problem.out;
        let neighbours = plan
            .kept()
            .last()
            .is_some_and(|axis| axis.step.out == out.dtype.size() as isize)
            && O::FROM != From::Nothing;
        for k in 0..used {
            let first = k * T::LANES;
            let rows = T::LANES.min(count - first);
            let mut room = [0; 16];
            let mut panel = Panel::new::<O>(
                plan,
                (start + first, rows),
                (scratch.add(first * n), second.wrapping_add(first * n)),
                &mut room,
            );
            if O::SECOND && !call.second_columns {
                for l in 0..T::LANES {
                    pack::pack_second(s, plan, panel.place(l), 0, n, buffer.add(l * n));
                }
                to_panel(s, Rows::packed(buffer, n), n, panel.second, 0);
            }
            s.apart(Compute {
                call,
                panel: &mut panel,
                max: &max[k],
                next: None,
                scratch: buffer.cast(),
            });
            if neighbours || O::FROM == From::Nothing {
                continue;
            }
            from_panel(s, panel.data, n, Rows::packed(buffer, n), 0);
            for l in 0..rows {
                pack::unpack(s, plan, panel.place(l), 0, n, buffer.add(l * n), T::from_f64(O::MASKED));
            }
        }
        if neighbours && O::FROM != From::Nothing {
            s.apart(FromPanels {
                dtype: out.dtype,
                to: out.ptr.offset(origin.out),
                step: step.out,
                n,
                count,
                panels: scratch,
                streams: S::ALL_WAYS && out.dtype == T::DTYPE && plan.streams::<T, O>(),
            });
        }
    }
}

/// Columns of valid memory, of a float dtype that is computed in `T`, and panels for them.
struct ToPanels<'a, T> {
    dtype: Dtype,
    from: *const u8,
    step: isize,
    n: usize,
    count: usize,
    panels: *mut T,
    max: &'a mut [Lanes<T>; MAX_PANELS],
}

impl<T: Stored> Kernel<T> for ToPanels<'_, T> {
    type Out = ();
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        let load = LoadColumns {
            s,
            from: self.from,
            step: self.step,
            n: self.n,
            count: self.count,
            panels: self.panels,
            max: self.max,
        };
        let visited = T::visit(self.dtype, load);
        debug_assert!(visited.is_some(), "a float");
    }
}

/// The inverse.
struct FromPanels<T> {
    dtype: Dtype,
    to: *mut u8,
    step: isize,
    n: usize,
    count: usize,
    panels: *const T,
    /// Whether results go past the caches (then the memory holds `T`, aligned).
    streams: bool,
}

impl<T: Stored> Kernel<T> for FromPanels<T> {
    type Out = ();
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        if S::ALL_WAYS && self.streams {
            // SAFETY: valid memory and panels.
            unsafe { self.stream(s) };
            return;
        }
        let save = SaveColumns {
            s,
            to: self.to,
            step: self.step,
            n: self.n,
            count: self.count,
            panels: self.panels,
        };
        let visited = T::visit(self.dtype, save);
        debug_assert!(visited.is_some(), "a float");
    }
}

impl<T: Stored> FromPanels<T> {
    /// Row of memory by row of memory: each is put together first, for where it begins is no matter of vectors.
    ///
    /// # Safety
    /// `count` neighbours in each of `n` rows of memory; as many panels.
    #[inline(always)]
    unsafe fn stream<S: Isa + Simd<T>>(self, s: S) {
        let mut row = [Lanes([<T as Float>::ZERO; 16]); MAX_PANELS];
        let line = row.as_mut_ptr().cast::<T>();
        for j in 0..self.n {
            // SAFETY: the caller's promise; the room is for as many vectors as there are panels.
            unsafe {
                for k in 0..self.count.div_ceil(T::LANES) {
                    Vector::load(s, self.panels.add((k * self.n + j) * T::LANES)).store(line.add(k * T::LANES));
                }
                let to = self.to.offset(self.step.wrapping_mul(j as isize)).cast::<T>();
                along::map(s, Same, Source::of(line, line), To::Memory(to, None), self.count);
            }
        }
        s.fence();
    }
}

/// Each element as it is.
#[derive(Clone, Copy)]
struct Same;

impl<S: Simd<T>, T: Float> Map<S, T> for Same {
    const SECOND: bool = false;
    #[inline(always)]
    fn apply(self, v: Vector<S, T>, _: Vector<S, T>) -> Vector<S, T> {
        v
    }
}

/// Copies columns to panels, with the maximum of each.
struct LoadColumns<'a, S, T> {
    s: S,
    from: *const u8,
    step: isize,
    n: usize,
    count: usize,
    panels: *mut T,
    max: &'a mut [Lanes<T>; MAX_PANELS],
}

impl<S: Isa + Simd<T>, T: Float> Visitor<T> for LoadColumns<'_, S, T> {
    type Out = ();
    #[inline(always)]
    fn visit<E: Element<Float = T>>(self) {
        let s = self.s;
        let full = self.count / T::LANES;
        let left = self.count % T::LANES;
        let mut m = [Vector::splat(s, T::NEG_INFINITY); MAX_PANELS];
        for j in 0..self.n {
            // SAFETY: `count` neighbours in each of `n` rows of memory; as many panels.
            unsafe {
                let row = self.from.offset(self.step.wrapping_mul(j as isize)).cast::<E>();
                let to = self.panels.add(j * T::LANES);
                for k in 0..full {
                    let v = E::load(s, row.add(k * T::LANES));
                    m[k] = v.max(m[k]);
                    v.store(to.add(k * self.n * T::LANES));
                }
                if left > 0 {
                    let v = load_some(s, row.add(full * T::LANES), left);
                    m[full] = v.max(m[full]);
                    v.store(to.add(full * self.n * T::LANES));
                }
            }
        }
        for k in 0..MAX_PANELS {
            self.max[k] = m[k].to_lanes();
        }
    }
}

/// Copies panels to columns.
struct SaveColumns<S, T> {
    s: S,
    to: *mut u8,
    step: isize,
    n: usize,
    count: usize,
    panels: *const T,
}

impl<S: Isa + Simd<T>, T: Float> Visitor<T> for SaveColumns<S, T> {
    type Out = ();
    #[inline(always)]
    fn visit<E: Element<Float = T>>(self) {
        let full = self.count / T::LANES;
        let left = self.count % T::LANES;
        for j in 0..self.n {
            // SAFETY: `count` neighbours in each of `n` rows of memory; as many panels.
            unsafe {
                let row = self.to.offset(self.step.wrapping_mul(j as isize)).cast::<E>();
                let from = self.panels.add(j * T::LANES);
                for k in 0..full {
                    E::store(
                        Vector::load(self.s, from.add(k * self.n * T::LANES)),
                        row.add(k * T::LANES),
                    );
                }
                if left > 0 {
                    let v = Vector::load(self.s, from.add(full * self.n * T::LANES));
                    store_some(v, row.add(full * T::LANES), left);
                }
            }
        }
    }
}
