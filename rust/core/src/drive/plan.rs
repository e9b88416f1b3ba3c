//! Where the rows of a problem are, and which regime goes over them.

use super::details::Details;
use crate::element::Stored;
use crate::ops::{From, RowOp};
use crate::problem::{Array, Problem, Temperature};

/// An axis as all operands see it: a length and bytes from one element to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Axis {
    pub(crate) len: usize,
    pub(crate) step: Place,
}

/// A place in every operand: bytes from its first element; and the number of the row, in C order of the kept axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) x: isize,
    pub(crate) second: isize,
    pub(crate) out: isize,
    pub(crate) mask: isize,
    pub(crate) temperature: isize,
    pub(crate) row: isize,
}

impl Place {
    pub(crate) const ORIGIN: Self = Self {
        x: 0,
        second: 0,
        out: 0,
        mask: 0,
        temperature: 0,
        row: 0,
    };

    /// From `other` to this.
    #[inline]
    pub(crate) fn minus(self, other: Self) -> Self {
        self.plus(other, usize::MAX)
    }

    #[inline(always)]
    pub(crate) fn plus(self, step: Self, times: usize) -> Self {
        let times = times as isize;
        Self {
            x: self.x.wrapping_add(step.x.wrapping_mul(times)),
            second: self.second.wrapping_add(step.second.wrapping_mul(times)),
            out: self.out.wrapping_add(step.out.wrapping_mul(times)),
            mask: self.mask.wrapping_add(step.mask.wrapping_mul(times)),
            temperature: self.temperature.wrapping_add(step.temperature.wrapping_mul(times)),
            row: self.row.wrapping_add(step.row.wrapping_mul(times)),
        }
    }
}

/// A problem with its axes sorted out.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) problem: &'a Problem<'a>,
    pub(crate) details: &'a Details<'a>,
    /// Whether results are numbers of rows.
    reduces: bool,
    /// What `x` is where the mask is false.
    pub(crate) blank: f64,
    /// Whether the second array, where the mask is false, is its first element that takes part.
    pub(crate) extends_second: bool,
    /// Kept axes, then reduced axes: no axis of length 1, none that could be joined with its neighbour.
    axes: Axes,
    kept: usize,
    /// The step from row to row, if it is always the same.
    only: Option<Place>,
    /// How many rows there are.
    pub(crate) rows: usize,
    /// Elements of a row.
    pub(crate) n: usize,
}

/// Whether neighbours along axis `d` are as far apart as C order has them: so many elements, of the inputs and (if it is not
/// 0) of the result. Not if there are none.
#[inline(always)]
fn is_in_order(problem: &Problem<'_>, d: usize, [inputs, out]: [usize; 2]) -> bool {
    let has = |a: &Array<'_>, count: usize| a.strides[d] == a.dtype.size().wrapping_mul(count) as isize;
    match problem.shape[d] {
        0 => false,
        1 => true,
        _ => {
            has(&problem.x, inputs)
                && (out == 0 || has(&problem.out, out))
                && problem.second.as_ref().is_none_or(|array| has(array, inputs))
        }
    }
}

/// Axes of a plan. Two are kept in place: nearly all calls have no more, and asking for memory takes a thirtieth of a
/// small one.
#[derive(Debug)]
enum Axes {
    Few([Axis; FEW], usize),
    Many(Vec<Axis>),
}

const FEW: usize = 2;

impl Axes {
    #[inline(always)]
    fn all(&self) -> &[Axis] {
        match self {
            Self::Few(axes, len) => &axes[..*len],
            Self::Many(axes) => axes,
        }
    }
}

impl<'a> Plan<'a> {
    /// Its axes are still to be sorted out.
    #[inline(always)]
    pub(crate) fn unsorted<O: RowOp>(problem: &'a Problem<'a>, details: &'a Details<'a>) -> Self {
        Self {
            problem,
            details,
            reduces: O::FROM == From::Nothing,
            blank: O::BLANK,
            extends_second: O::EXTENDS,
            axes: Axes::Few([Axis::default(); FEW], 0),
            kept: 0,
            only: None,
            rows: 1,
            n: 1,
        }
    }

    /// Sorts the axes out. (In place: a small call would wait for what it has just written to be copied.)
    #[inline(never)]
    pub(crate) fn sort(&mut self) {
        if !self.sort_plain() {
            self.sort_any();
        }
    }

    /// Sorts out the axes of what nearly all calls are: the last axes hold the rows, and all arrays are in C order. (Of a
    /// call on ten numbers the search for what could be joined would take a tenth.)
    #[inline(always)]
    fn sort_plain(&mut self) -> bool {
        let (problem, reduces) = (self.problem, self.reduces);
        if !matches!(problem.temperature, Temperature::One(_)) || problem.mask.is_some() {
            return false;
        }
        let mut d = problem.shape.len();
        let mut n = 1_usize;
        while d > 0 && problem.reduced[d - 1] {
            d -= 1;
            if !is_in_order(problem, d, [n, if reduces { 0 } else { n }]) {
                return false;
            }
            n = n.saturating_mul(problem.shape[d]);
        }
        if d == problem.shape.len() {
            return false;
        }
        let of_out = if reduces { 1 } else { n };
        let mut rows = 1_usize;
        while d > 0 {
            d -= 1;
            let before = [n.wrapping_mul(rows), of_out.wrapping_mul(rows)];
            if problem.reduced[d] || !is_in_order(problem, d, before) {
                return false;
            }
            rows = rows.saturating_mul(problem.shape[d]);
        }
        let Axes::Few(axes, len) = &mut self.axes else {
            return false;
        };
        let size = |a: &Array<'_>, n: usize| a.dtype.size().wrapping_mul(n) as isize;
        if rows != 1 {
            let step = Place {
                x: size(&problem.x, n),
                second: problem.second.as_ref().map_or(0, |array| size(array, n)),
                out: size(&problem.out, of_out),
                row: 1,
                ..Place::ORIGIN
            };
            axes[0] = Axis { len: rows, step };
            self.only = Some(step);
            self.kept = 1;
            *len = 1;
        } else {
            self.only = Some(Place::ORIGIN);
        }
        if n != 1 {
            let of = &mut axes[*len];
            of.len = n;
            of.step.x = size(&problem.x, 1);
            of.step.second = problem.second.as_ref().map_or(0, |array| size(array, 1));
            of.step.out = if reduces { 0 } else { size(&problem.out, 1) };
            *len += 1;
        }
        self.rows = rows;
        self.n = n;
        true
    }

    /// Sorts out axes of any layout.
    #[inline(never)]
    fn sort_any(&mut self) {
        let (problem, reduces) = (self.problem, self.reduces);
        let axis = |d: usize| {
            let reduced = problem.reduced[d];
            let stride = |a: &Array<'_>| a.strides[d];
            Axis {
                len: problem.shape[d],
                step: Place {
                    x: stride(&problem.x),
                    second: problem.second.as_ref().map_or(0, stride),
                    out: if reduced && reduces { 0 } else { stride(&problem.out) },
                    mask: problem.mask.as_ref().map_or(0, stride),
                    temperature: match &problem.temperature {
                        Temperature::Rows(a) if !reduced => stride(a),
                        _ => 0,
                    },
                    row: 0,
                },
            }
        };
        let most = problem.shape.iter().filter(|&&len| len != 1).count();
        if most > FEW {
            self.axes = Axes::Many(vec![Axis::default(); most]);
        }
        let axes = match &mut self.axes {
            Axes::Few(axes, _) => &mut axes[..],
            Axes::Many(axes) => &mut axes[..],
        };
        let mut len = 0;
        let mut kept = 0;
        let mut rows = 1_usize;
        let mut n = 1_usize;
        for reduced in [false, true] {
            let first = len;
            for d in 0..problem.shape.len() {
                if problem.reduced[d] == reduced {
                    let mut axis = axis(d);
                    if !reduced {
                        for outer in &mut axes[..len] {
                            outer.step.row = outer.step.row.wrapping_mul(axis.len as isize);
                        }
                        axis.step.row = 1;
                    }
                    // An empty axis elsewhere makes all of this vacuous, however long the others are.
                    let count = if reduced { &mut n } else { &mut rows };
                    *count = count.saturating_mul(axis.len);
                    if axis.len != 1 {
                        axes[len] = axis;
                        len += 1;
                    }
                }
            }
            if !reduced {
                // The order of the rows is free: outer to inner by how far apart they lie.
                if len > 1 {
                    axes[..len].sort_by_key(|axis| std::cmp::Reverse(axis.step.x.unsigned_abs()));
                }
            }
            len = first + join(&mut axes[first..len]);
            if !reduced {
                kept = len;
            }
        }
        if problem.shape.contains(&0) {
            for (d, &len) in problem.shape.iter().enumerate() {
                if len == 0 {
                    if problem.reduced[d] { n = 0 } else { rows = 0 }
                }
            }
        }
        self.only = match &axes[..kept] {
            [] => Some(Place::default()),
            [axis] => Some(axis.step),
            _ => None,
        };
        match &mut self.axes {
            Axes::Few(_, used) => *used = len,
            Axes::Many(axes) => axes.truncate(len),
        }
        self.kept = kept;
        self.rows = rows;
        self.n = n;
    }

    #[inline]
    pub(crate) fn kept(&self) -> &[Axis] {
        &self.axes.all()[..self.kept]
    }

    #[inline]
    pub(crate) fn reduced(&self) -> &[Axis] {
        &self.axes.all()[self.kept..]
    }

    /// The first element of row `r`.
    #[inline(always)]
    pub(crate) fn row(&self, r: usize) -> Place {
        match self.only {
            Some(step) => Place::default().plus(step, r),
            None => at(self.kept(), r),
        }
    }

    /// Of the first element of row `r`: where it is in `x`, in the second array and in `out`, and its number. (A whole
    /// [`row`](Self::row) would be put together in memory, and read from there again.)
    #[inline(always)]
    pub(crate) fn distances(&self, r: usize) -> [isize; 4] {
        match self.only {
            Some(step) => {
                let r = r as isize;
                [
                    step.x.wrapping_mul(r),
                    step.second.wrapping_mul(r),
                    step.out.wrapping_mul(r),
                    step.row.wrapping_mul(r),
                ]
            }
            None => {
                let Place {
                    x, second, out, row, ..
                } = at(self.kept(), r);
                [x, second, out, row]
            }
        }
    }

    /// The number of row `r` in C order of the kept axes.
    #[inline(always)]
    pub(crate) fn number(&self, r: usize) -> isize {
        if self.in_order() {
            r as isize
        } else {
            at(self.kept(), r).row
        }
    }

    /// Whether rows are gone over in C order of the kept axes. (All kept axes could be joined to one: that is their order.)
    #[inline(always)]
    pub(crate) fn in_order(&self) -> bool {
        self.only.is_some()
    }

    /// The classes of the `count` rows from `start` on, in `room` where they are not neighbours; none, if there are none.
    #[inline(always)]
    pub(crate) fn classes<'r>(&self, start: usize, count: usize, room: &'r mut [i64; 16]) -> &'r [i64]
    where
        'a: 'r,
    {
        let all = self.details.classes;
        if all.is_empty() {
            return &[];
        }
        if self.in_order() {
            return &all[start..start + count];
        }
        for l in 0..count {
            room[l] = all[self.number(start + l) as usize];
        }
        &room[..count]
    }

    /// Bytes from the result of a row to that of the next, if they are always the same.
    #[inline(always)]
    pub(crate) fn out_step(&self) -> Option<isize> {
        self.only.map(|step| step.out)
    }

    /// From any row to the one that comes `rows` later; nothing, if that is not always the same.
    #[inline(always)]
    pub(crate) fn steps(&self, rows: usize) -> Place {
        self.only.map_or(Place::ORIGIN, |step| Place::ORIGIN.plus(step, rows))
    }

    /// The temperature of the row at `place`.
    #[inline(always)]
    pub(crate) fn temperature(&self, place: Place) -> f64 {
        match &self.problem.temperature {
            Temperature::One(t) => *t,
            // SAFETY: the problem vouches for its arrays.
            Temperature::Rows(a) => unsafe { a.ptr.offset(place.temperature).cast::<f64>().read_unaligned() },
        }
    }

    /// Whether `x` holds rows that the kernels can read where they are.
    #[inline]
    pub(crate) fn x_in_place<T: Stored>(&self) -> bool {
        let problem = self.problem;
        problem.x.dtype == T::DTYPE
            && !problem.x.swapped
            && problem.out.dtype == T::DTYPE
            && problem.mask.is_none()
            && self.details.softcap.is_none()
            && self.unit(|step| step.x, size_of::<T>())
    }

    /// The same for the second array.
    #[inline]
    pub(crate) fn second_in_place<T: Stored>(&self) -> bool {
        match &self.problem.second {
            Some(second) => {
                second.dtype == T::DTYPE
                    && !second.swapped
                    && self.problem.mask.is_none()
                    && self.details.blend.is_none()
                    && self.unit(|step| step.second, size_of::<T>())
            }
            None => false,
        }
    }

    /// Whether the kernels can write rows where `out` wants them. (Not if that is where the second array is, and exponentials,
    /// or what is packed, are written before it has been read for the last time.)
    #[inline]
    pub(crate) fn out_in_place<T: Stored, O: RowOp>(&self) -> bool {
        let problem = self.problem;
        let written_last = !O::SCORES && self.x_in_place::<T>();
        problem.out.dtype == T::DTYPE
            && problem.mask.is_none()
            && self.details.softcap.is_none()
            && (written_last || problem.second.is_none_or(|second| second.ptr != problem.out.ptr))
            && self.unit(|step| step.out, size_of::<T>())
    }

    /// Whether results are worth sending past the caches: not where there are few, nor where the lines they go to have
    /// been read.
    #[inline]
    pub(crate) fn streams<T: Stored, O: RowOp>(&self) -> bool {
        let problem = self.problem;
        let arrays = if O::SECOND { 3 } else { 2 };
        O::FROM != From::Nothing
            && self.rows.saturating_mul(self.n) > super::STREAM_BYTES / (arrays * size_of::<T>())
            && problem.out.ptr != problem.x.ptr
            && problem.second.is_none_or(|second| second.ptr != problem.out.ptr)
            && problem.out.ptr.addr().is_multiple_of(size_of::<T>())
            && problem
                .out
                .strides
                .iter()
                .all(|stride| stride % size_of::<T>() as isize == 0)
    }

    /// Whether the elements of a row are neighbours.
    #[inline]
    fn unit(&self, stride: impl Fn(&Place) -> isize, size: usize) -> bool {
        match self.reduced() {
            [] => true,
            [axis] => stride(&axis.step) == size as isize,
            _ => false,
        }
    }

    /// The innermost kept axis, if rows that are neighbours on it are neighbours in `x`, element by element, and the
    /// element needs no conversion but that to what arithmetic runs in.
    #[inline]
    pub(crate) fn columns(&self) -> Option<Axis> {
        let problem = self.problem;
        let size = problem.x.dtype.size() as isize;
        match (self.kept().last(), self.reduced()) {
            (Some(inner), [axis])
                if inner.step.x == size
                    && axis.step.x != size
                    && problem.x.dtype == problem.out.dtype
                    && !problem.x.swapped
                    && problem.mask.is_none()
                    && self.details.softcap.is_none() =>
            {
                Some(*inner)
            }
            _ => None,
        }
    }

    /// Whether the second array has neighbours where `columns` found those of `x`.
    pub(crate) fn second_columns<T: Stored>(&self) -> bool {
        match (&self.problem.second, self.kept().last()) {
            (Some(second), Some(inner)) => {
                second.dtype == self.problem.x.dtype
                    && !second.swapped
                    && self.details.blend.is_none()
                    && inner.step.second == second.dtype.size() as isize
            }
            _ => false,
        }
    }

    /// Element `j` of a row, from the row's first element.
    pub(crate) fn element(&self, j: usize) -> Place {
        at(self.reduced(), j)
    }
}

/// The place of the `i`-th index over some axes, in C order.
#[inline(never)]
pub(crate) fn at(axes: &[Axis], mut i: usize) -> Place {
    let mut place = Place::default();
    let Some((outermost, inner)) = axes.split_first() else {
        return place;
    };
    for axis in inner.iter().rev() {
        place = place.plus(axis.step, i % axis.len.max(1));
        i /= axis.len.max(1);
    }
    place.plus(outermost.step, i)
}

/// Joins neighbouring axes that every operand walks in equal steps, and brings how many are left.
fn join(axes: &mut [Axis]) -> usize {
    let mut last = 0;
    for i in 1..axes.len() {
        let (outer, inner) = (axes[last], axes[i]);
        if Place::default().plus(inner.step, inner.len) == outer.step {
            axes[last] = Axis {
                len: outer.len.saturating_mul(inner.len),
                step: inner.step,
            };
        } else {
            last += 1;
            axes[last] = inner;
        }
    }
    axes.len().min(last + 1)
}
