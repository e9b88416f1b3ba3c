//! Rows to panels and back: transposes of 16 bytes times `LANES`.

use std::hint::black_box;
use std::ops::Range;

use super::plan::{Place, Plan};
use crate::element::Stored;
use crate::row::across;
use crate::simd::{Float, Isa, Kernel, Lanes, Simd, Vector};

/// The rows of the next panel, whose lines are asked for while this one is transposed: so many rows at once are beyond what
/// the processor would foresee. Some with each tile: all at once would be more than it keeps in mind. (Together that saves
/// two arrays from memory a third of their time.)
struct Ahead {
    n: usize,
    /// Bytes to the next panel; 0 where nothing is asked for.
    by: isize,
    /// Whether that is where this one ends, its rows one behind the other: then it has a line for each column. (To go from
    /// row to row would take a tenth of the time of short rows.)
    packed: bool,
    /// Else row by row, as they lie in memory: the first row whose turn has not come, and how many come with each tile.
    next: usize,
    rows: usize,
}

impl Ahead {
    #[inline(always)]
    fn new<T: Float>(n: usize, by: isize) -> Self {
        let tiles = (n / T::TILE).max(1);
        Self {
            n,
            by,
            packed: by == (T::LANES * n * size_of::<T>()).cast_signed(),
            next: 0,
            rows: if by == 0 { 0 } else { T::LANES.div_ceil(tiles) },
        }
    }

    /// Asks for what comes with the tile of `columns`, to be written if `WRITE`.
    #[inline(always)]
    fn fetch<S: Isa, T: Float, const WRITE: bool>(&mut self, s: S, rows: impl Begins<T>, columns: Range<usize>) {
        let ask = |p: *const T| {
            if WRITE {
                s.prefetch_write(p.cast());
            } else {
                s.prefetch(p.cast());
            }
        };
        let line = 64 / size_of::<T>();
        if self.packed {
            let next = rows
                .of(0)
                .wrapping_byte_offset(self.by)
                .wrapping_add(columns.start * line);
            for i in 0..columns.len() {
                ask(next.wrapping_add(i * line));
            }
            return;
        }
        let start = self.next;
        self.next = T::LANES.min(start + self.rows * columns.len().div_ceil(T::TILE));
        for l in start..self.next {
            let row = rows.of(l).wrapping_byte_offset(self.by);
            for j in (0..self.n).step_by(line) {
                ask(row.wrapping_add(j));
            }
        }
    }
}

/// Where the rows of a panel begin in memory.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a, T> {
    Even(Even<T>),
    Listed(Listed<'a, T>),
}

/// The same distance from each to the next: then no list of places is laid down, and read again for each tile. (Which takes
/// a tenth of the time of softmax in rows of ten, and a quarter of softmax_backward.)
#[derive(Clone, Copy)]
pub(super) struct Even<T> {
    first: *mut T,
    /// In bytes.
    step: isize,
}

/// A list of places, and the column that is asked for.
#[derive(Clone, Copy)]
pub(super) struct Listed<'a, T>(&'a [*mut T; 16], usize);

/// How the places of rows are found: known to the transposes when they are compiled.
trait Begins<T>: Copy {
    /// The same rows, `c` elements further on.
    fn columns(self, c: usize) -> Self;
    /// The place of the row in lane `l`.
    fn of(self, l: usize) -> *mut T;
}

impl<T: Copy> Begins<T> for Even<T> {
    #[inline(always)]
    fn columns(self, c: usize) -> Self {
        Self {
            // (Opaque to the compiler, which would reckon fifteen places before the first column, and run out of registers.)
            first: black_box(self.first.wrapping_add(c)),
            step: self.step,
        }
    }
    #[inline(always)]
    fn of(self, l: usize) -> *mut T {
        // (By fours: three distances, which are parts of addresses.)
        let four = self
            .first
            .wrapping_byte_offset(self.step.wrapping_mul((l / 4 * 4) as isize));
        four.wrapping_byte_offset(self.step.wrapping_mul((l % 4) as isize))
    }
}

impl<T: Copy> Begins<T> for Listed<'_, T> {
    #[inline(always)]
    fn columns(self, c: usize) -> Self {
        Self(self.0, self.1 + c)
    }
    #[inline(always)]
    fn of(self, l: usize) -> *mut T {
        self.0[l].wrapping_add(self.1)
    }
}

impl<'a, T: Stored> Rows<'a, T> {
    /// Rows of an array at `first`, `count` from `start` on; `number` is the array's place. Lanes without a row have `beyond`,
    /// or the last row. A list is laid down in `room`.
    ///
    /// # Safety
    /// The array is valid.
    #[inline(always)]
    pub(super) unsafe fn of(
        plan: &Plan<'_>,
        (start, count): (usize, usize),
        first: *mut u8,
        number: impl Fn(&Place) -> isize,
        beyond: Option<*mut T>,
        room: &'a mut [*mut T; 16],
    ) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            if plan.in_order() && count == T::LANES {
                let step = number(&plan.steps(1));
                return Self::Even(Even {
                    first: first.offset(step.wrapping_mul(start as isize)).cast(),
                    step,
                });
            }
            for l in 0..T::LANES {
                room[l] = match beyond {
                    Some(beyond) if l >= count => beyond,
                    _ => first.offset(number(&plan.row(start + l.min(count - 1)))).cast(),
                };
            }
            Self::Listed(Listed(room, 0))
        }
    }

    /// Rows of `n` elements, one behind the other.
    #[inline(always)]
    pub(super) fn packed(first: *mut T, n: usize) -> Self {
        Self::Even(Even {
            first,
            step: (n * size_of::<T>()).cast_signed(),
        })
    }
}

/// Transposes rows into a panel; the maximum of each. Meanwhile asks for the lines of the rows that are `ahead` bytes
/// further (if that is not 0).
///
/// # Safety
/// The rows are valid for reading `n` elements, `panel` for writing a panel of `n`.
#[inline(always)]
pub(super) unsafe fn to_panel<S: Isa + Simd<T>, T: Float>(
    s: S,
    rows: Rows<'_, T>,
    n: usize,
    panel: *mut T,
    ahead: isize,
) -> Lanes<T> {
    match rows {
        Rows::Even(rows) => s.apart(ToPanel { rows, n, panel, ahead }),
        Rows::Listed(rows) => s.apart(ToPanel { rows, n, panel, ahead }),
    }
}

/// Valid rows, and a panel for them.
struct ToPanel<R, T> {
    rows: R,
    n: usize,
    panel: *mut T,
    ahead: isize,
}

impl<R: Begins<T>, T: Float> Kernel<T> for ToPanel<R, T> {
    type Out = Lanes<T>;
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) -> Lanes<T> {
        let Self { rows, n, panel, ahead } = self;
        let mut ahead = Ahead::new::<T>(n, ahead);
        // SAFETY: `to_panel` was called with valid rows: columns c..c + TILE of each.
        unsafe {
            if n < T::TILE {
                for j in 0..n {
                    for l in 0..T::LANES {
                        *panel.add(j * T::LANES + l) = rows.of(l).add(j).read_unaligned();
                    }
                }
                ahead.fetch::<S, T, false>(s, rows, 0..n);
                return across::max(s, panel, n).to_lanes();
            }
            let mut m = [Vector::splat(s, T::NEG_INFINITY); 4];
            let mut columns = [s.splat(T::ZERO); 4];
            let mut c = 0;
            loop {
                let mut at = [std::ptr::null::<T>(); 16];
                let here = rows.columns(c);
                for l in 0..T::LANES {
                    at[l] = here.of(l);
                }
                s.load_tile(&at, &mut columns);
                ahead.fetch::<S, T, false>(s, rows, c..c + T::TILE);
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
            m[0].max(m[1]).max(m[2].max(m[3])).to_lanes()
        }
    }
}

/// Transposes a panel into rows. Meanwhile asks for lines as [`to_panel`] does.
///
/// # Safety
/// `panel` is valid for reading a panel of `n`, the rows for writing `n` elements.
#[inline(always)]
pub(super) unsafe fn from_panel<S: Isa + Simd<T>, T: Float>(
    s: S,
    panel: *const T,
    n: usize,
    rows: Rows<'_, T>,
    ahead: isize,
) {
    match rows {
        Rows::Even(rows) => s.apart(FromPanel { rows, n, panel, ahead }),
        Rows::Listed(rows) => s.apart(FromPanel { rows, n, panel, ahead }),
    }
}

/// A valid panel, and rows for it.
struct FromPanel<R, T> {
    rows: R,
    n: usize,
    panel: *const T,
    ahead: isize,
}

impl<R: Begins<T>, T: Float> Kernel<T> for FromPanel<R, T> {
    type Out = ();
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        let Self { rows, n, panel, ahead } = self;
        let mut ahead = Ahead::new::<T>(n, ahead);
        // SAFETY: `from_panel` was called with valid rows: columns c..c + TILE of each.
        unsafe {
            if n < T::TILE {
                for l in 0..T::LANES {
                    for j in 0..n {
                        rows.of(l).add(j).write_unaligned(*panel.add(j * T::LANES + l));
                    }
                }
                ahead.fetch::<S, T, true>(s, rows, 0..n);
                return;
            }
            let mut c = 0;
            while <S as Simd<T>>::SQUARES && c + T::LANES <= n {
                let mut at = [std::ptr::null_mut::<T>(); 16];
                let here = rows.columns(c);
                let mut columns = [s.splat(T::ZERO); 16];
                for l in 0..T::LANES {
                    at[l] = here.of(l);
                    columns[l] = s.load(panel.add((c + l) * T::LANES));
                }
                s.store_square(&columns, &at);
                ahead.fetch::<S, T, true>(s, rows, c..c + T::LANES);
                c += T::LANES;
            }
            if c == n {
                return;
            }
            c = c.min(n - T::TILE);
            let mut columns = [s.splat(T::ZERO); 4];
            loop {
                let mut at = [std::ptr::null_mut::<T>(); 16];
                let here = rows.columns(c);
                for l in 0..T::LANES {
                    at[l] = here.of(l);
                }
                for i in 0..T::TILE {
                    columns[i] = s.load(panel.add((c + i) * T::LANES));
                }
                s.store_tile(&columns, &at);
                ahead.fetch::<S, T, true>(s, rows, c..c + T::TILE);
                if c + T::TILE == n {
                    break;
                }
                c = (c + T::TILE).min(n - T::TILE);
            }
        }
    }
}
