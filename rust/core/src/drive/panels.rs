//! Rows side by side: a lane is a row.
//!
//! A panel is `LANES` rows in scratch, element by element. Short rows come into it by transposes of 16 bytes times
//! `LANES`; where neighbours in memory belong to different rows (the axis is not the last), whole vectors are copied, for
//! several panels at once so that each row of memory is read and written in one piece. (32 KiB from one row to the next
//! would put all of them into the same few sets of the cache: the copy also avoids that.)

use super::pack::{self, load_some, store_some};
use super::plan::{Place, Plan};
use super::stage::{Access, Known, Stage};
use super::{Call, Move};
use crate::element::{Element, Stored, Visitor};
use crate::ops::{From, RowOp};
use crate::row::across;
use crate::simd::{Float, Isa, Lanes, Simd, Vector};

/// Rows up to this many bytes go into panels.
pub(super) const SHORT_BYTES: usize = 16 * 4;
/// Panels of a tile: 512 bytes of a row of memory.
pub(super) const MAX_PANELS: usize = 8;

/// The rows of a panel.
struct Panel<'a, T> {
    plan: &'a Plan<'a>,
    /// The row in the first lane, and how many there are.
    start: usize,
    count: usize,
    data: *mut T,
}

impl<T: Stored> Access<T> for Panel<'_, T> {
    fn place(&self, l: usize) -> Place {
        // Lanes without a row of their own hold the last one.
        self.plan.row(self.start + l.min(self.count - 1))
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
    }
    #[cold]
    unsafe fn has_nan(&self, l: usize) -> bool {
        // SAFETY: a lane of the panel.
        (0..self.plan.n).any(|j| unsafe { *self.data.add(j * T::LANES + l) }.is_nan())
    }
}

impl<T: Stored> Panel<'_, T> {
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
            let stage = Stage::new(s, call, max, count, self);
            let (exp, m) = (&stage.exp, stage.pivot);
            let (wide, ties) = match O::FROM {
                From::Exp => across::exp_sum::<S, T, true>(s, exp, m, self.data, n),
                _ => across::exp_sum::<S, T, false>(s, exp, m, self.data, n),
            };
            stage.conclude(s, call.op, T::wide_halves(s, wide), ties, T::LANES)
        }
    }

    /// Turns the panel into results.
    ///
    /// # Safety
    /// The panel is valid.
    #[inline(always)]
    unsafe fn finish<S: Isa + Simd<T>, O: RowOp>(&mut self, s: S, op: O, known: &Known<S, T>) {
        let n = self.plan.n;
        // SAFETY: the caller's promise.
        unsafe {
            for j in 0..n {
                let p = self.data.add(j * T::LANES);
                op.finish(&known.params, Vector::load(s, p)).store(p);
            }
            if known.special {
                for l in 0..self.count {
                    if known.is_nan(l) {
                        for j in 0..n {
                            *self.data.add(j * T::LANES + l) = T::NAN;
                        }
                    }
                }
            }
        }
    }
}

/// The `unit`-th `LANES` rows, which are short.
///
/// # Safety
/// The problem is valid; `scratch` holds a panel, `LANES` rows, and a block of float64.
#[inline(always)]
pub(super) unsafe fn rows<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    unit: usize,
    scratch: *mut T,
) {
    let plan = &call.plan;
    let n = plan.n;
    let start = unit * T::LANES;
    let count = T::LANES.min(plan.rows - start);
    let buffer = scratch.wrapping_add(n * T::LANES);
    let mut panel = Panel {
        plan,
        start,
        count,
        data: scratch,
    };
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        let mut from = [std::ptr::null::<T>(); 16];
        for l in 0..T::LANES {
            let place = panel.place(l);
            from[l] = if call.x_in_place {
                plan.problem.x.ptr.offset(place.x).cast()
            } else {
                let row = buffer.add(l * n);
                pack::pack(s, plan, place, 0, n, row);
                row
            };
        }
        let max = to_panel(s, &from, n, panel.data);
        let known = panel.sums(s, call, max);
        if O::FROM == From::Nothing {
            known.write_values(s, call, count, &panel, buffer.wrapping_add(n * T::LANES).cast());
            return;
        }
        panel.finish(s, call.op, &known);
        let direct = call.out_in_place && count == T::LANES;
        let mut to = [std::ptr::null_mut::<T>(); 16];
        for l in 0..T::LANES {
            to[l] = if direct {
                plan.problem.out.ptr.offset(panel.place(l).out).cast()
            } else {
                buffer.add(l * n)
            };
        }
        from_panel(s, panel.data, n, &to);
        if !direct {
            for l in 0..count {
                pack::unpack(s, plan, panel.place(l), 0, n, to[l], T::from_f64(O::MASKED));
            }
        }
    }
}

/// Transposes rows into a panel; the maximum of each.
///
/// # Safety
/// The rows are valid for reading `n` elements, `panel` for writing a panel of `n`.
#[inline(always)]
unsafe fn to_panel<S: Isa + Simd<T>, T: Float>(s: S, rows: &[*const T; 16], n: usize, panel: *mut T) -> Vector<S, T> {
    // SAFETY: columns c..c + TILE of each row.
    unsafe {
        if n < T::TILE {
            for j in 0..n {
                for l in 0..T::LANES {
                    *panel.add(j * T::LANES + l) = rows[l].add(j).read_unaligned();
                }
            }
            return across::max(s, panel, n);
        }
        let mut m = [Vector::splat(s, T::NEG_INFINITY); 4];
        let mut columns = [s.splat(T::ZERO); 4];
        let mut c = 0;
        loop {
            let mut at = *rows;
            for l in 0..T::LANES {
                at[l] = at[l].add(c);
            }
            s.load_tile(&at, &mut columns);
            for i in 0..T::TILE {
                let v = Vector(columns[i], s);
                m[i] = v.max(m[i]);
                v.store(panel.add((c + i) * T::LANES));
            }
            if c + T::TILE == n {
                break;
            }
            // The last tile overlaps its neighbour where n is no multiple.
            c = (c + T::TILE).min(n - T::TILE);
        }
        m[0].max(m[1]).max(m[2].max(m[3]))
    }
}

/// Transposes a panel into rows.
///
/// # Safety
/// `panel` is valid for reading a panel of `n`, the rows for writing `n` elements.
#[inline(always)]
unsafe fn from_panel<S: Isa + Simd<T>, T: Float>(s: S, panel: *const T, n: usize, rows: &[*mut T; 16]) {
    // SAFETY: columns c..c + TILE of each row.
    unsafe {
        if n < T::TILE {
            for l in 0..T::LANES {
                for j in 0..n {
                    rows[l].add(j).write_unaligned(*panel.add(j * T::LANES + l));
                }
            }
            return;
        }
        let mut columns = [s.splat(T::ZERO); 4];
        let mut c = 0;
        loop {
            let mut at = *rows;
            for l in 0..T::LANES {
                at[l] = at[l].add(c);
            }
            for i in 0..T::TILE {
                columns[i] = s.load(panel.add((c + i) * T::LANES));
            }
            s.store_tile(&columns, &at);
            if c + T::TILE == n {
                break;
            }
            c = (c + T::TILE).min(n - T::TILE);
        }
    }
}

/// The `unit`-th tile of up to `panels` panels, lanes along an axis of `inner` rows that are neighbours in memory.
///
/// # Safety
/// The problem is valid; `scratch` holds the panels, `LANES` rows, and a block of float64.
#[inline(always)]
pub(super) unsafe fn tile<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    panels: usize,
    inner: usize,
    unit: usize,
    scratch: *mut T,
) {
    let plan = &call.plan;
    let n = plan.n;
    let width = panels * T::LANES;
    let tiles = inner.div_ceil(width);
    let column = unit % tiles * width;
    let start = unit / tiles * inner + column;
    let count = width.min(inner - column);
    let used = count.div_ceil(T::LANES);
    let buffer = scratch.wrapping_add(panels * n * T::LANES);
    let origin = plan.row(start);
    // `columns` found one reduced axis (or one element, when any step will do).
    let step = plan.reduced().first().map_or(Place::default(), |axis| axis.step);
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        let x = &plan.problem.x;
        let mut max = [Lanes([T::NEG_INFINITY; 16]); MAX_PANELS];
        let load = LoadColumns {
            s,
            from: x.ptr.offset(origin.x),
            step: step.x,
            n,
            count,
            panels: scratch,
            max: &mut max,
        };
        let visited = T::visit(x.dtype, load);
        debug_assert!(visited.is_some(), "x has the result's dtype, a float");
        let out = &plan.problem.out;
        let neighbours = plan
            .kept()
            .last()
            .is_some_and(|axis| axis.step.out == out.dtype.size() as isize)
            && plan.problem.op.is_elementwise();
        for k in 0..used {
            let first = k * T::LANES;
            let rows = T::LANES.min(count - first);
            let mut panel = Panel {
                plan,
                start: start + first,
                count: rows,
                data: scratch.add(first * n),
            };
            let known = panel.sums(s, call, Vector::from_lanes(s, &max[k]));
            if O::FROM == From::Nothing {
                known.write_values(s, call, rows, &panel, buffer.cast());
                continue;
            }
            panel.finish(s, call.op, &known);
            if neighbours {
                continue;
            }
            let mut to = [std::ptr::null_mut::<T>(); 16];
            for l in 0..T::LANES {
                to[l] = buffer.add(l * n);
            }
            from_panel(s, panel.data, n, &to);
            for l in 0..rows {
                pack::unpack(s, plan, panel.place(l), 0, n, to[l], T::from_f64(O::MASKED));
            }
        }
        if neighbours && O::FROM != From::Nothing {
            let save = SaveColumns {
                s,
                to: out.ptr.offset(origin.out),
                step: step.out,
                n,
                count,
                panels: scratch,
            };
            let visited = T::visit(out.dtype, save);
            debug_assert!(visited.is_some(), "the result's dtype is a float");
        }
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
