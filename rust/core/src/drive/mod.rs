//! Passes over memory: every op in every regime, written once.
//!
//! | regime | rows | file |
//! | --- | --- | --- |
//! | rows | one after the other, lanes along the row; several at once while they fit the first-level cache | `rows` |
//! | saved | the same of which nothing is exponentiated: each by itself | `saved` |
//! | panels | short: `LANES` of them side by side, a lane each; or any, where neighbours in memory belong to different rows | `panels` |
//! | jacobian | n^2 results for each | `jacobian` |
//! | long | beyond the scratch: block by block, each block twice | `long` |
//!
//! Which regime a row falls into changes who reads which byte when, never the arithmetic: `row` adds up in the same
//! order along and across. (Long rows have an order of their own, and are long by their length alone.)
//!
//! A row whose memory is not plain consecutive float32 or float64 is packed into scratch, computed there, and unpacked:
//! layouts and storage types multiply no kernels.

mod details;
mod jacobian;
mod long;
mod pack;
mod panels;
mod plan;
mod rows;
mod saved;
mod stage;
mod transpose;

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;

use crate::element::Stored;
use crate::math::exp::Base;
use crate::ops::{self, From, OpVisitor, RowOp};
use crate::problem::{Control, Dtype, Error, Problem, Temperature};
use crate::simd::{Float, Isa, Kernel, Simd, Supported, Vector, with_default_mode};
use crate::{parallel, simd};
pub(crate) use details::{Blend, Details, LossRows, Square};
use plan::{Place, Plan};

/// An array of more than this comes from memory, or from the last cache.
const FAR_BYTES: usize = 8 << 20;

/// Up to this many bytes of input stay in the second-level cache together with the results. Fetching them ahead of use
/// would cost up to 4 %.
const NEAR_BYTES: usize = 128 << 10;

/// Arrays of more bytes than this in all do not stay in a cache until someone reads the result. (Measured: 64 MiB gain
/// a little, 32 MiB lose. What the system says of the last cache is of no use: on a virtual machine it is that of all
/// cores of a host.)
const STREAM_BYTES: usize = 56 << 20;

/// Rows of fewer bytes are not streamed: too many of their lines are shared with neighbours, or fetched back where an
/// element is written once more. (Of saved probabilities so little is computed that each line counts. Short rows that
/// come out of panels share none: they are streamed together.)
const fn stream_row_bytes<O: RowOp>() -> usize {
    match (O::SCORES, O::FIX.is_some()) {
        (false, false) => 256,
        (true, false) => 160,
        (true, true) => 1 << 10,
        (false, true) => 2 << 10,
    }
}

/// Rows of more bytes than this (in the type that arithmetic runs in) are long.
const LONG_BYTES: usize = 1 << 20;

/// See [`crate::run`]. The thread is in the default floating-point mode.
///
/// # Safety
/// See there. `details` fit the rows of the problem.
#[inline(never)]
pub(crate) unsafe fn run(
    level: Supported,
    kernel: ops::Kernel,
    problem: &Problem<'_>,
    details: &Details<'_>,
    control: &dyn Control,
) -> Result<(), Error> {
    let unit = matches!(problem.temperature, Temperature::One(t) if t == 1.0);
    match problem.out.dtype {
        Dtype::F64 => kernel.visit(
            unit,
            Run::<f64> {
                level,
                problem,
                details,
                control,
                float: PhantomData,
            },
        ),
        _ => kernel.visit(
            unit,
            Run::<f32> {
                level,
                problem,
                details,
                control,
                float: PhantomData,
            },
        ),
    }
}

/// A valid problem whose arithmetic runs in `T`.
struct Run<'a, T> {
    level: Supported,
    problem: &'a Problem<'a>,
    details: &'a Details<'a>,
    control: &'a dyn Control,
    float: PhantomData<T>,
}

impl<T: Stored> OpVisitor for Run<'_, T> {
    type Out = Result<(), Error>;
    #[inline(always)]
    fn visit<O: RowOp>(self, op: O) -> Self::Out {
        let mut plan = Plan::unsorted::<O>(self.problem, self.details);
        plan.sort();
        // SAFETY: `run` was called with a valid problem.
        unsafe { Call::<T, O>::new(self.level, &plan, op).run(self.control) }
    }
    #[inline(always)]
    fn jacobian(self, softmax: bool) -> Self::Out {
        let mut plan = Plan::unsorted::<ops::Probabilities>(self.problem, self.details);
        plan.sort();
        let mut call = Call::<T, _>::new(self.level, &plan, ops::Probabilities);
        // Probabilities stay in scratch.
        call.out_in_place = false;
        call.streams = false;
        // SAFETY: `run` was called with a valid problem.
        unsafe { jacobian::run(&call, softmax, self.control) }
    }
}

/// What all regimes know of a call.
struct Call<'a, T, O> {
    level: Supported,
    plan: &'a Plan<'a>,
    op: O,
    /// The constants of exponentials: of the one temperature of all scores; those of 1 where rows have temperatures of
    /// their own, and for saved results.
    base: Base<T>,
    /// Whether there is one temperature for all rows.
    one_temperature: bool,
    /// Whether rows come with numbers, and whether with the same for all.
    given: bool,
    given_alike: bool,
    x_in_place: bool,
    second_in_place: bool,
    out_in_place: bool,
    /// Whether the arrays come from memory, or from the last cache.
    far: bool,
    /// Whether all of it stays in the second-level cache.
    near: bool,
    /// Whether results go past the caches.
    streams: bool,
    second_columns: bool,
}

/// How the rows are gone over.
#[derive(Clone, Copy, Debug)]
enum Regime {
    /// Batches of this many rows.
    Rows(usize),
    /// One by one.
    Saved,
    /// `LANES` rows side by side.
    Panels,
    /// Tiles of this many panels, whose lanes are neighbours in memory; the length of the axis of the lanes.
    Columns(usize, usize),
    Long,
}

/// Up to so many bytes of a row, the streamed line that it shares with the next is put together from both. (On a Zen 3 rows
/// of 560 bytes take 4 % less time by it, those of 200 a tenth; of 800 as long, of a kilobyte 1 to 6 % more.)
const JOINED_BYTES: isize = 640;

impl<'a, T: Stored, O: RowOp> Call<'a, T, O> {
    #[inline]
    fn new(level: Supported, plan: &'a Plan<'a>, op: O) -> Self {
        let (problem, details) = (plan.problem, plan.details);
        let (base, one_temperature) = match problem.temperature {
            Temperature::One(t) if O::SCORES && t != 1.0 => (Base::new(t), true),
            Temperature::One(_) => (Base::new(1.0), true),
            Temperature::Rows(_) => (Base::new(1.0), false),
        };
        let out_in_place = plan.out_in_place::<T, O>();
        let elements = plan.rows.saturating_mul(plan.n);
        Self {
            level,
            op,
            base,
            one_temperature,
            given: details.are_given(),
            given_alike: details.are_alike() && (one_temperature || !details.hessian),
            x_in_place: plan.x_in_place::<T>(),
            second_in_place: plan.second_in_place::<T>(),
            out_in_place,
            near: elements <= NEAR_BYTES / size_of::<T>(),
            far: elements > FAR_BYTES / size_of::<T>(),
            streams: level.level().has_all_ways()
                && out_in_place
                && plan.streams::<T, O>()
                && plan.n >= stream_row_bytes::<O>() / size_of::<T>(),
            second_columns: plan.second_columns::<T>(),
            plan,
        }
    }

    #[inline]
    fn regime(&self) -> Regime {
        let n = self.plan.n;
        if n > LONG_BYTES / size_of::<T>() {
            return Regime::Long;
        }
        if let Some(inner) = self.plan.columns()
            && inner.len >= T::LANES / 2
            && (1..=LONG_BYTES / 64).contains(&n)
        {
            let panels = (LONG_BYTES / (n * 64))
                .min(panels::MAX_PANELS)
                .min(inner.len.div_ceil(T::LANES));
            return Regime::Columns(panels, inner.len);
        }
        if self.one_by_one() {
            let panels = n <= saved::panel_bytes::<T>(self.level.level(), self.far) / size_of::<T>();
            return if panels && self.plan.rows >= T::LANES {
                Regime::Panels
            } else {
                Regime::Saved
            };
        }
        // A panel takes as long for one row as for all that it has room for, and longer with each of its elements.
        if (1..=panels::short_bytes::<T, O>(self.level.level(), self.far, self.streams) / size_of::<T>()).contains(&n)
            && self.plan.rows >= T::LANES.min(T::LANES / 8 + n / 4)
        {
            return Regime::Panels;
        }
        // Fewer rows at once stay in the first-level cache from one pass to the next; more of them share what is done between
        // the passes, which counts for more where no results take room, or where it is much (a logarithm's derivative).
        let batches = match (O::SCORES, O::FROM) {
            (_, From::Nothing) => 2,
            (false, From::Exp) => 4,
            _ => 1,
        };
        let bytes = batches * rows::batch_bytes(self);
        Regime::Rows(match self.plan.rows {
            1 => 1,
            _ => (bytes / (n * size_of::<T>()).max(1)).clamp(1, T::LANES),
        })
    }

    /// Whether each row of results that is streamed begins where the one before ends, and so does what they are computed
    /// from. (Exponentials, and what is packed, are in scratch, row after row.)
    #[inline]
    fn rows_join(&self) -> bool {
        let step = self.plan.steps(1);
        let row = (self.plan.n * size_of::<T>()).cast_signed();
        let reads_x = self.x_in_place && !(O::SCORES && O::FROM == From::Exp);
        self.streams
            && row <= JOINED_BYTES
            && step.out == row
            && (!reads_x || step.x == row)
            && (!(O::SECOND && self.second_in_place) || step.second == row)
    }

    /// Whether [`saved`] has a way of its own for the call.
    #[inline]
    fn one_by_one(&self) -> bool {
        saved::gains::<O>(self.plan.n)
            && self.x_in_place
            && self.second_in_place
            && self.out_in_place
            && self.plan.in_order()
            && self.one_temperature
            && self.octaves(Place::default()).1 == 0
    }

    /// What refining a row in float64 takes of the scratch.
    const REFINE_BYTES: usize = if O::REFINED { REFINE_BYTES } else { 0 };

    #[inline]
    unsafe fn run(&self, control: &dyn Control) -> Result<(), Error> {
        let Plan { rows, n, .. } = *self.plan;
        if rows == 0 || n == 0 && O::FROM != From::Nothing {
            return Ok(());
        }
        if rows::is_tiny::<T, O>(self.level.level(), self.plan) {
            let scratch = Scratch::take(self.rows_scratch(1) + Self::REFINE_BYTES)?;
            self.level.dispatch(rows::Batches::<T, O, true> {
                call: self,
                size: 1,
                units: 0..1,
                scratch: scratch.ptr.cast(),
            });
            return Ok(());
        }
        let regime = self.regime();
        if let Regime::Long = regime {
            // SAFETY: passed on.
            return unsafe { long::run(self, control) };
        }
        let operands = if O::SECOND { 2 } else { 1 };
        let (units, rows_per_unit, scratch) = match regime {
            Regime::Rows(batch) => {
                let units = if rows <= batch { 1 } else { rows.div_ceil(batch) };
                let sets = if rows::waits(self) { 2 } else { 1 };
                (units, batch, sets * self.rows_scratch(batch))
            }
            Regime::Saved => (rows, 1, 0),
            Regime::Panels => (rows.div_ceil(T::LANES), T::LANES, (1 + 2 * operands) * n * 64),
            Regime::Columns(panels, inner) => {
                let tiles = inner.div_ceil(panels * T::LANES);
                (
                    rows / inner * tiles,
                    panels * T::LANES,
                    operands * panels * n * 64 + n * 64,
                )
            }
            Regime::Long => unreachable!("handled above"),
        };
        // SAFETY: each unit is a set of rows of its own.
        unsafe {
            self.share(
                units,
                rows_per_unit * n,
                scratch,
                control,
                |call, units, scratch| match regime {
                    Regime::Rows(size) => Task::Rows(rows::Batches {
                        call,
                        size,
                        units,
                        scratch,
                    }),
                    Regime::Saved => Task::Saved(saved::SavedRows { call, units }),
                    Regime::Panels => Task::Panels(panels::ShortRows { call, units, scratch }),
                    Regime::Columns(panels, inner) => Task::Columns(panels::Tiles {
                        call,
                        panels,
                        inner,
                        units,
                        scratch,
                    }),
                    Regime::Long => unreachable!("handled above"),
                },
            )
        }
    }

    /// Runs tasks over all units, on as many threads as the work is worth.
    ///
    /// # Safety
    /// The tasks of different units write to different memory.
    unsafe fn share<'b, K: Kernel<T, Out = ()>>(
        &'b self,
        units: usize,
        elements_per_unit: usize,
        scratch_bytes: usize,
        control: &dyn Control,
        task: impl Fn(&'b Self, Range<usize>, *mut T) -> K + Sync,
    ) -> Result<(), Error>
    where
        'a: 'b,
    {
        let level = self.level;
        let threads = parallel::threads_for(units.saturating_mul(elements_per_unit))?.min(units.max(1));
        // (To keep threads off one another's lines.)
        let scratch_bytes = (scratch_bytes + Self::REFINE_BYTES).next_multiple_of(128);
        let scratch = Scratch::take(scratch_bytes * threads)?;
        if parallel::is_one_piece(units, elements_per_unit, threads) {
            // (As `split` would, some eighty instructions later.)
            level.dispatch(task(self, 0..units, scratch.ptr.cast()));
            return Ok(());
        }
        let shared = Shared(self, scratch.ptr);
        parallel::split(units, elements_per_unit, threads, control, &|units, worker| {
            let shared = &shared;
            // SAFETY: each worker has a part of the scratch of its own.
            let part = unsafe { shared.1.add(worker * scratch_bytes) }.cast::<T>();
            let task = task(shared.0, units, part);
            // (Of the calling thread the mode is known. To ask for it waits for all that is being computed.)
            if worker == 0 {
                level.dispatch(task);
            } else {
                with_default_mode(|| level.dispatch(task));
            }
        })
    }

    /// Rows in scratch, where they are needed: to pack, to compute, or for rows out of the exponent shift's reach; and the
    /// second rows.
    fn rows_scratch(&self, batch: usize) -> usize {
        let second = if O::SECOND && !self.second_in_place {
            batch * self.plan.n
        } else {
            0
        };
        (self.rows_scratch_second(batch) + second) * size_of::<T>()
    }

    /// Where the second rows begin.
    fn rows_scratch_second(&self, batch: usize) -> usize {
        if self.x_in_place && self.out_in_place && O::FROM != From::Nothing && !self.streams {
            0
        } else {
            batch * self.plan.n
        }
    }

    /// Whether results go past the caches. (So that the compiler leaves out what is for that at a level that never does it.)
    #[inline(always)]
    fn streams_at<S: Isa>(&self, _: S) -> bool {
        S::ALL_WAYS && self.streams
    }

    /// At the end of a kernel: what it streamed comes before what will be written.
    #[inline(always)]
    fn fence<S: Isa>(&self, s: S) {
        if self.streams_at(s) {
            s.fence();
        }
    }

    /// The constants for the row's temperature.
    #[inline(always)]
    fn base(&self, temperature: f64) -> Base<T> {
        if self.one_temperature {
            self.base
        } else {
            Base::new(temperature)
        }
    }
}

/// Memory that the workers of one call may share: the problem's arrays are valid for all of them, and each writes to
/// rows of its own.
struct Shared<'a, 'b, T, O>(&'b Call<'a, T, O>, *mut u8);
// SAFETY: see above.
unsafe impl<T: Sync, O: Sync> Sync for Shared<'_, '_, T, O> {}

/// Some units of a call, by the regime of its rows.
enum Task<'a, 'b, T, O> {
    Rows(rows::Batches<'a, 'b, T, O, false>),
    Saved(saved::SavedRows<'a, 'b, T, O>),
    Panels(panels::ShortRows<'a, 'b, T, O>),
    Columns(panels::Tiles<'a, 'b, T, O>),
}

impl<T: Stored, O: RowOp> Kernel<T> for Task<'_, '_, T, O> {
    type Out = ();
    type Home = O;
    // Each in a function of its own: to optimise all as one, with the passes over long rows, took the compiler a fifth longer.
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        match self {
            Self::Rows(task) => s.apart(task),
            Self::Saved(task) => s.apart(task),
            Self::Panels(task) => s.apart(task),
            Self::Columns(task) => s.apart(task),
        }
    }
}

/// How a row with some maximum is to be treated.
#[derive(Clone, Copy, Debug)]
enum Kind<T> {
    /// By the exponent shift.
    Near,
    /// By the same, after a move that brings it within reach.
    Far(Move<T>),
    /// The maximum is infinite, or there is none: no exponentials.
    Special,
}

/// (x - origin) 2^-exponent for the elements of a row, and what its maximum and its temperature become. The temperature
/// comes into (1/2, 1], so that a result overflows only where its true value does.
#[derive(Clone, Copy, Debug)]
struct Move<T> {
    origin: T,
    exponent: i32,
    pivot: T,
    temperature: f64,
}

impl<T: Float> Move<T> {
    fn apply(&self, x: T) -> T {
        T::scaled_difference(x, self.origin, self.exponent)
    }
}

impl<T: Float> Kind<T> {
    #[inline(always)]
    fn of(m: T, base: &Base<T>, temperature: f64) -> Self {
        if base.reaches(m) {
            Self::Near
        } else if m.is_finite() {
            Self::Far(Self::far(m, temperature))
        } else {
            Self::Special
        }
    }

    #[cold]
    fn far(m: T, temperature: f64) -> Move<T> {
        let exponent = exponent(temperature);
        let e = -exponent;
        let temperature = temperature * simd::pow2(e / 2) * simd::pow2(e - e / 2);
        // An extreme temperature needs but a power of two, which is exact.
        let pivot = T::scaled_difference(m, T::ZERO, exponent);
        if Base::new(temperature).reaches(pivot) {
            return Move {
                origin: T::ZERO,
                exponent,
                pivot,
                temperature,
            };
        }
        // Where |m / T| is large, x - m is exact for all x that matter (they are within a factor of two of m).
        Move {
            origin: m,
            exponent,
            pivot: T::ZERO,
            temperature,
        }
    }
}

/// ceil(log2(t)) of a positive finite number.
fn exponent(t: f64) -> i32 {
    let (field, fraction) = ((t.to_bits() >> 52) as i32, t.to_bits() & ((1 << 52) - 1));
    let floor = if field > 0 {
        field - 1023
    } else {
        -1011 - (t.to_bits().leading_zeros() as i32)
    };
    let power_of_two = if field > 0 {
        fraction == 0
    } else {
        fraction.is_power_of_two()
    };
    if power_of_two { floor } else { floor + 1 }
}

/// logsumexp of float32 loses digits of the result where the maximum and the logarithm cancel. A row of which less than
/// a quarter is left is done again in float64.
#[inline(always)]
fn cancels<T: Stored>(max: f64, value: T, log: T) -> bool {
    T::DTYPE != Dtype::F64 && value.to_f64().abs() < max.abs().max(log.to_f64()) / 4.0
}

/// Whether a row of a vector may: true for all that do.
#[inline(always)]
fn any_cancels<S: Isa + Simd<T>, T: Stored>(max: Vector<S, T>, value: Vector<S, T>, log: Vector<S, T>) -> bool {
    let abs = |v: Vector<S, T>| v.max(Vector::zero(max.1) - v);
    let four = Vector::splat(max.1, T::from_f64(4.0));
    T::DTYPE != Dtype::F64 && abs(max).max(log).not_less(abs(value) * four).any()
}

/// Scratch for one block in float64, wherever it starts.
const REFINE_BYTES: usize = long::BLOCK * 8 + 8;

/// Scratch memory of a call, kept by the calling thread for its next call.
struct Scratch {
    ptr: *mut u8,
    buffer: Vec<Line>,
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "only its address and size are used")] [u8; 64]);

thread_local! {
    static KEPT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

impl Scratch {
    // (Inlined: a small call would wait for what this brings to be written before it could be read in other pieces.)
    #[inline(always)]
    fn take(bytes: usize) -> Result<Self, Error> {
        if bytes == 0 {
            let (ptr, buffer) = (std::ptr::dangling_mut::<Line>().cast(), Vec::new());
            return Ok(Self { ptr, buffer });
        }
        // Taken out, so that a call from within a call (a signal handler) finds none and gets its own.
        let mut buffer = KEPT.take();
        buffer
            .try_reserve_exact(bytes.div_ceil(64))
            .map_err(|_| Error::OutOfMemory)?;
        Ok(Self {
            ptr: buffer.as_mut_ptr().cast(),
            buffer,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.buffer.capacity() > 0 {
            KEPT.set(std::mem::take(&mut self.buffer));
        }
    }
}
