//! Rows side by side: a lane is a row.
//!
//! A panel is `LANES` rows in scratch, element by element. Short rows come into it by transposes of 16 bytes times
//! `LANES`; where neighbours in memory belong to different rows (the axis is not the last), whole vectors are copied, for
//! several panels at once so that each row of memory is read and written in one piece. (32 KiB from one row to the next
//! would put all of them into the same few sets of the cache: the copy also avoids that.)

use super::pack::{self, load_some, store_some};
use super::plan::Place;
use super::{Call, Kind, Table, cancels, long, significand};
use crate::element::{Element, Stored, Visitor};
use crate::math::exp::{Base, Exp};
use crate::ops::{From, Params, RowOp};
use crate::row::across;
use crate::simd::{Float, Isa, Lanes, Simd, Vector};

/// Rows up to this many bytes go into panels.
pub(super) const SHORT_BYTES: usize = 64 * 4;
/// Panels of a tile: 512 bytes of a row of memory.
pub(super) const MAX_PANELS: usize = 8;

/// What is known of a panel after its exponentials are summed.
struct Panel<T> {
    params: Params<Lanes<T>>,
    /// The maxima; NaN for a row that has a NaN.
    max: Lanes<f64>,
    /// Whether a maximum is infinite or NaN.
    special: bool,
}

/// Sums a panel's exponentials (and leaves them in it, if `finish` wants them).
///
/// # Safety
/// `panel` holds a panel whose maxima are `max`; `place(l)` is the row in lane `l`.
#[inline(always)]
unsafe fn sums<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    panel: *mut T,
    max: Vector<S, T>,
    place: impl Fn(usize) -> Place,
) -> Panel<T> {
    let n = call.plan.n;
    let mut table = Table::new();
    widen(s, max, &mut table.max);
    let largest = max.max(Vector::zero(s) - max).reduce_max();
    let mut special = false;
    let (m, exp) = match &call.base {
        Some(base) if base.reaches(largest) => {
            table.pivot = table.max;
            table.temperature = Lanes([call.plan.temperature(Place::default()); 16]);
            (max, Exp::new(s, base, max))
        }
        _ => {
            let mut pivots = max.to_lanes();
            let mut bases = [call.base(1.0); 16];
            for l in 0..T::LANES {
                let m = pivots.0[l];
                let mut temperature = call.plan.temperature(place(l));
                bases[l] = call.base(temperature);
                match Kind::of(m, &bases[l], temperature) {
                    Kind::Near => {}
                    Kind::Far(exponent) => {
                        // SAFETY: a lane of the panel.
                        unsafe { far(panel.add(l), n, m, exponent) };
                        pivots.0[l] = T::ZERO;
                        temperature = significand(temperature);
                        bases[l] = Base::new(temperature);
                    }
                    Kind::Special => {
                        special = true;
                        // SAFETY: a lane of the panel.
                        if unsafe { has_nan(panel.add(l), n) } {
                            table.max.0[l] = f64::NAN;
                        }
                        // Any finite pivot keeps the lane harmless.
                        pivots.0[l] = T::ZERO;
                    }
                }
                table.pivot.0[l] = pivots.0[l].to_f64();
                table.temperature.0[l] = temperature;
            }
            let m = Vector::from_lanes(s, &pivots);
            (m, Exp::per_lane(s, &bases, m))
        }
    };
    // SAFETY: the caller's promise.
    let sums = unsafe {
        match O::FROM {
            From::Exp => across::exp_sum::<S, T, true>(s, &exp, m, panel, n),
            _ => across::exp_sum::<S, T, false>(s, &exp, m, panel, n),
        }
    };
    table.sum = sums.sum;
    table.rest = sums.rest;
    let [peak, peak_rest] = exp.pair(m);
    widen(s, peak, &mut table.peak);
    widen(s, peak_rest, &mut table.peak_rest);
    widen(s, exp.octaves, &mut table.octaves);
    widen(s, Vector::from_lanes(s, &sums.ties), &mut table.ties);
    for l in 0..T::LANES {
        special |= table.sum.0[l].is_nan();
    }
    if special {
        for l in 0..T::LANES {
            if !table.max.0[l].is_finite() {
                // As in `rows`: one element, the maximum.
                [table.sum.0[l], table.rest.0[l], table.ties.0[l]] = [0.0, 0.0, 1.0];
                [table.peak.0[l], table.peak_rest.0[l]] = [1.0, 0.0];
            } else if table.sum.0[l].is_nan() {
                table.max.0[l] = f64::NAN;
            }
        }
    }
    Panel {
        params: table.params::<S, T, O>(s, call.op, T::LANES),
        max: table.max,
        special,
    }
}

#[inline(always)]
fn widen<S: Isa + Simd<T>, T: Float>(s: S, v: Vector<S, T>, to: &mut Lanes<f64>) {
    // SAFETY: two halves of eight fit the sixteen lanes.
    unsafe {
        T::widen_half(s, v, 0).store(to.0.as_mut_ptr());
        T::widen_half(s, v, 1).store(to.0.as_mut_ptr().add(8));
    }
}

/// Writes the values of a reduction.
///
/// # Safety
/// The problem is valid; `place(l)` is the row in lane `l`; `scratch` holds a block of float64.
#[inline(always)]
unsafe fn write_values<S: Isa + Simd<T>, T: Stored, O: RowOp>(
    s: S,
    call: &Call<'_, T, O>,
    panel: &Panel<T>,
    count: usize,
    place: impl Fn(usize) -> Place,
    scratch: *mut T,
) {
    for l in 0..count {
        let [value, log] = [panel.params[0].0[l], panel.params[1].0[l]];
        let max = panel.max.0[l];
        // SAFETY: the caller's promise.
        unsafe {
            let value = if max.is_nan() {
                T::NAN
            } else if max.is_finite() && cancels(max, value, log) {
                long::refined(call, place(l), scratch.cast())
            } else {
                value
            };
            pack::write_value(s, &call.plan, place(l), value);
        }
    }
}

/// Finishes a panel where it is.
///
/// # Safety
/// `panel` holds a panel of `n`.
#[inline(always)]
unsafe fn finish<S: Isa + Simd<T>, T: Stored, O: RowOp>(s: S, op: O, known: &Panel<T>, panel: *mut T, n: usize) {
    let mut p = [Vector::zero(s); 6];
    for k in 0..6 {
        p[k] = Vector::from_lanes(s, &known.params[k]);
    }
    // SAFETY: the caller's promise.
    unsafe {
        for j in 0..n {
            let v = panel.add(j * T::LANES);
            op.finish(&p, Vector::load(s, v)).store(v);
        }
        if known.special {
            for l in 0..T::LANES {
                if !known.max.0[l].is_finite() {
                    for j in 0..n {
                        *panel.add(j * T::LANES + l) = T::NAN;
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
    // Lanes without a row of their own hold the last one.
    let place = |l: usize| plan.row(start + l.min(count - 1));
    let panel = scratch;
    let buffer = scratch.wrapping_add(n * T::LANES);
    // SAFETY: rows of the problem, or of the scratch.
    unsafe {
        let mut from = [std::ptr::null::<T>(); 16];
        for l in 0..T::LANES {
            from[l] = if call.x_in_place {
                plan.problem.x.ptr.offset(place(l).x).cast()
            } else {
                let row = buffer.add(l * n);
                pack::pack(s, plan, place(l), 0, n, row);
                row
            };
        }
        let max = to_panel(s, &from, n, panel);
        let known = sums(s, call, panel, max, place);
        let after = buffer.wrapping_add(n * T::LANES);
        if O::FROM == From::Nothing {
            write_values(s, call, &known, count, place, after);
            return;
        }
        finish(s, call.op, &known, panel, n);
        let direct = call.out_in_place && count == T::LANES;
        let mut to = [std::ptr::null_mut::<T>(); 16];
        for l in 0..T::LANES {
            to[l] = if direct {
                plan.problem.out.ptr.offset(place(l).out).cast()
            } else {
                buffer.add(l * n)
            };
        }
        from_panel(s, panel, n, &to);
        if !direct {
            for l in 0..count {
                pack::unpack(s, plan, place(l), 0, n, to[l], T::from_f64(O::MASKED));
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
    let place = |i: usize| plan.row(start + i.min(count - 1));
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
            let panel = scratch.add(k * n * T::LANES);
            let row = |l: usize| place(k * T::LANES + l);
            let known = sums(s, call, panel, Vector::from_lanes(s, &max[k]), row);
            let rows = T::LANES.min(count - k * T::LANES);
            if O::FROM == From::Nothing {
                write_values(s, call, &known, rows, row, buffer);
                continue;
            }
            finish(s, call.op, &known, panel, n);
            if neighbours {
                continue;
            }
            let mut to = [std::ptr::null_mut::<T>(); 16];
            for l in 0..T::LANES {
                to[l] = buffer.add(l * n);
            }
            from_panel(s, panel, n, &to);
            for l in 0..rows {
                pack::unpack(s, plan, row(l), 0, n, to[l], T::from_f64(O::MASKED));
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

/// As `rows::far`, in a lane of a panel.
///
/// # Safety
/// `lane` is a lane of a panel of `n`.
#[cold]
#[inline(never)]
unsafe fn far<T: Stored>(lane: *mut T, n: usize, m: T, exponent: i32) {
    for j in 0..n {
        // SAFETY: the caller's promise.
        unsafe {
            let p = lane.add(j * T::LANES);
            *p = T::scaled_difference(*p, m, exponent);
        }
    }
}

/// As `rows::has_nan`, in a lane of a panel.
///
/// # Safety
/// `lane` is a lane of a panel of `n`.
#[cold]
#[inline(never)]
unsafe fn has_nan<T: Stored>(lane: *const T, n: usize) -> bool {
    // SAFETY: the caller's promise.
    (0..n).any(|j| unsafe { *lane.add(j * T::LANES) }.is_nan())
}
