//! Shapes, axes and broadcasting: the arithmetic of indices, without memory and without Python.

use std::fmt;
use std::ops::Deref;

/// One entry per axis, without an allocation for up to four axes.
///
/// NumPy allows 64 axes. Room for all of them in every operand would take longer to move about than a call on ten
/// numbers may, and a `Vec` costs an allocation; so the usual few stay in place.
#[derive(Clone, Debug)]
pub enum Axes<T> {
    /// The first so many of these.
    Few(usize, [T; FEW]),
    /// All of these.
    Many(Vec<T>),
}

const FEW: usize = 4;

impl<T: Copy + Default> Axes<T> {
    /// Makes the entry of each axis.
    #[inline(always)]
    pub fn new(ndim: usize, entry: impl Fn(usize) -> T) -> Self {
        #[inline(always)]
        fn of<T: Default>(d: usize, ndim: usize, entry: impl Fn(usize) -> T) -> T {
            if d < ndim { entry(d) } else { T::default() }
        }
        if ndim > FEW {
            return Self::Many((0..ndim).map(entry).collect());
        }
        // (Not one after the other into an array: what is written in small pieces cannot soon be read as a whole.)
        Self::Few(
            ndim,
            [
                of(0, ndim, &entry),
                of(1, ndim, &entry),
                of(2, ndim, &entry),
                of(3, ndim, &entry),
            ],
        )
    }
}

impl<T> Deref for Axes<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        match self {
            Self::Few(ndim, few) => &few[..*ndim],
            Self::Many(many) => many,
        }
    }
}

/// The `axis` argument, before the number of dimensions is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// `None`: all axes.
    All,
    /// An integer.
    One(isize),
    /// A tuple.
    Many(Vec<isize>),
    /// An integer where none else will do: an axis that must be there, also in a 0-d array (which has none).
    Only(isize),
}

/// Why an `axis` does not fit an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AxisFault {
    /// This one is outside of the array's dimensions.
    OutOfBounds(isize),
    /// The same axis twice.
    Duplicate,
}

/// What a call runs over: the shape of the logits, and which of its axes form a row.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Lengths of the axes.
    pub shape: Axes<usize>,
    /// Whether an axis belongs to the row.
    pub reduced: Axes<bool>,
}

impl Grid {
    /// Gives `axis` its meaning for this shape, by NumPy's rules: negative counts from the end, 0 and -1 are allowed for
    /// a 0-d array (but not in a tuple), nothing may come twice.
    #[inline(always)]
    pub fn new(shape: &[usize], axis: &Axis) -> Result<Self, AxisFault> {
        let ndim = shape.len();
        let reduced = match axis {
            Axis::All => Axes::new(ndim, |_| true),
            Axis::One(0 | -1) if ndim == 0 => Axes::new(0, |_| true),
            &Axis::One(axis) | &Axis::Only(axis) => {
                let axis = normalize(axis, ndim)?;
                Axes::new(ndim, |d| d == axis)
            }
            Axis::Many(axes) => {
                let mut reduced = vec![false; ndim];
                for &axis in axes {
                    let axis = normalize(axis, ndim)?;
                    if std::mem::replace(&mut reduced[axis], true) {
                        return Err(AxisFault::Duplicate);
                    }
                }
                Axes::new(ndim, |d| reduced[d])
            }
        };
        let shape = Axes::new(ndim, |d| shape[d]);
        Ok(Self { shape, reduced })
    }

    /// The shape of one number per row; with `keepdims`, the axes of the row stay with length 1.
    #[inline]
    pub fn rows(&self, keepdims: bool) -> Axes<usize> {
        let ndim = self.shape.len();
        if keepdims {
            return Axes::new(ndim, |d| if self.reduced[d] { 1 } else { self.shape[d] });
        }
        let kept = || (0..ndim).filter(|&d| !self.reduced[d]);
        Axes::new(kept().count(), |i| kept().nth(i).map_or(1, |d| self.shape[d]))
    }

    /// The shape of one matrix per row, for one axis: it goes, and comes twice at the end.
    pub fn squares(&self) -> Axes<usize> {
        let (rows, n) = (self.rows(false), self.length());
        Axes::new(rows.len() + 2, |d| rows.get(d).copied().unwrap_or(n))
    }

    /// How many elements a row has.
    pub fn length(&self) -> usize {
        let lengths = self.shape.iter().zip(&*self.reduced);
        lengths.fold(
            1,
            |n, (&length, &reduced)| if reduced { n.saturating_mul(length) } else { n },
        )
    }

    /// Strides over all axes, and one more, for an array of that shape.
    pub fn square(&self, strides: &[isize]) -> Axes<isize> {
        let (along, across) = (strides[strides.len() - 2], strides[strides.len() - 1]);
        let kept = self.spread(strides);
        Axes::new(kept.len() + 1, |d| match self.reduced.get(d) {
            Some(false) => kept[d],
            Some(true) => along,
            None => across,
        })
    }

    /// Strides over all axes for an array that has no entry for the axes of the row: 0 there.
    #[inline]
    pub fn spread(&self, strides: &[isize]) -> Axes<isize> {
        let kept_before = |d: usize| self.reduced[..d].iter().filter(|&&reduced| !reduced).count();
        let stride = |d: usize| if self.reduced[d] { 0 } else { strides[kept_before(d)] };
        Axes::new(self.shape.len(), stride)
    }
}

fn normalize(axis: isize, ndim: usize) -> Result<usize, AxisFault> {
    let index = if axis < 0 {
        axis.checked_add_unsigned(ndim)
    } else {
        Some(axis)
    };
    match index.and_then(|index| usize::try_from(index).ok()) {
        Some(index) if index < ndim => Ok(index),
        _ => Err(AxisFault::OutOfBounds(axis)),
    }
}

/// The strides with which an array of shape `from` runs over shape `to`, if NumPy would broadcast it so.
pub fn broadcast(from: &[usize], strides: &[isize], to: &[usize]) -> Option<Axes<isize>> {
    let missing = to.len().checked_sub(from.len())?;
    let fits = from
        .iter()
        .zip(&to[missing..])
        .all(|(&from, &to)| from == to || from == 1);
    let stride = |d: usize| match d.checked_sub(missing) {
        Some(d) if from[d] != 1 => strides[d],
        _ => 0,
    };
    fits.then(|| Axes::new(to.len(), stride))
}

/// The shape that two arrays have after broadcasting, or the first axis (from its end: NumPy aligns shapes there) along
/// which they do not fit.
pub fn together(a: &[usize], b: &[usize]) -> Result<Axes<usize>, usize> {
    let ndim = a.len().max(b.len());
    let length = |shape: &[usize], back: usize| shape.len().checked_sub(back).map_or(1, |d| shape[d]);
    let clash = |&back: &usize| {
        let (a, b) = (length(a, back), length(b, back));
        a != b && a != 1 && b != 1
    };
    match (1..=ndim).find(clash) {
        Some(back) => Err(back),
        None => Ok(Axes::new(ndim, |d| match length(a, ndim - d) {
            1 => length(b, ndim - d),
            n => n,
        })),
    }
}

/// Visits every element of a strided array in C order, by its distance from the first.
pub fn for_each(shape: &[usize], strides: &[isize], from: isize, visit: &mut impl FnMut(isize)) {
    match (shape, strides) {
        ([n, shape @ ..], [step, strides @ ..]) => {
            for i in 0..*n as isize {
                for_each(shape, strides, from + i * step, visit);
            }
        }
        _ => visit(from),
    }
}

/// How many elements a shape has. It cannot overflow for memory that exists; for the shape of a result that does not
/// exist yet it may, and then it is simply very large.
#[inline(always)]
pub fn count(shape: &[usize]) -> usize {
    shape.iter().fold(1, |product, &n| product.saturating_mul(n))
}

/// Whether two shapes are the same. (`==` would call memcmp, which takes longer than comparing the few lengths.)
#[inline(always)]
pub fn same(a: &[usize], b: &[usize]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

/// Writes a shape (or strides) as Python does: `()`, `(3,)`, `(2, 3)`.
pub struct Tuple<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for Tuple<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(if self.0.len() == 1 { ",)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced(shape: &[usize], axis: Axis) -> Result<Vec<bool>, AxisFault> {
        Grid::new(shape, &axis).map(|grid| grid.reduced.to_vec())
    }

    #[test]
    fn axes_count_from_either_end() {
        let shape = [2, 3, 4, 5, 6];
        for d in 0..5 {
            let expected: Vec<bool> = (0..5).map(|other| other == d).collect();
            assert_eq!(reduced(&shape, Axis::One(d as isize)).as_ref(), Ok(&expected));
            assert_eq!(reduced(&shape, Axis::One(d as isize - 5)), Ok(expected));
        }
        for wrong in [5, -6, isize::MAX, isize::MIN] {
            assert_eq!(reduced(&shape, Axis::One(wrong)), Err(AxisFault::OutOfBounds(wrong)));
        }
        assert_eq!(reduced(&shape, Axis::Many(vec![1, -4])), Err(AxisFault::Duplicate));
        assert_eq!(reduced(&[], Axis::One(-1)), Ok(vec![]));
        assert_eq!(reduced(&[], Axis::Many(vec![0])), Err(AxisFault::OutOfBounds(0)));
    }

    #[test]
    fn shapes_of_rows_and_strides_back() {
        let grid = Grid::new(&[2, 3, 4, 5, 6], &Axis::Many(vec![1, 3])).unwrap();
        assert_eq!(*grid.rows(false), [2, 4, 6]);
        assert_eq!(*grid.rows(true), [2, 1, 4, 1, 6]);
        assert_eq!(*grid.spread(&[192, 48, 8]), [192, 0, 48, 0, 8]);
    }

    #[test]
    fn squares_of_rows_and_strides_back() {
        let grid = Grid::new(&[2, 3, 4], &Axis::Only(1)).unwrap();
        assert_eq!(*grid.squares(), [2, 4, 3, 3]);
        assert_eq!(*grid.square(&[288, 72, 24, 8]), [288, 24, 72, 8]);
        assert_eq!(Grid::new(&[], &Axis::Only(-1)).unwrap_err(), AxisFault::OutOfBounds(-1));
    }

    #[test]
    fn two_shapes_together() {
        let of = |a: &[usize], b: &[usize]| together(a, b).map(|shape| shape.to_vec());
        assert_eq!(of(&[2, 1], &[3]), Ok(vec![2, 3]));
        assert_eq!(of(&[], &[3, 0]), Ok(vec![3, 0]));
        assert_eq!(of(&[1], &[0]), Ok(vec![0]));
        assert_eq!(of(&[2, 3], &[4, 2, 1]), Ok(vec![4, 2, 3]));
        assert_eq!(of(&[2, 3], &[3, 3]), Err(2));
        assert_eq!(of(&[2, 3], &[0]), Err(1));
    }

    #[test]
    fn elements_are_visited_in_c_order() {
        let mut seen = Vec::new();
        for_each(&[2, 3], &[-8, 24], 0, &mut |offset| seen.push(offset));
        assert_eq!(seen, [0, 24, 48, -8, 16, 40]);
        for_each(&[2, 0], &[8, 8], 0, &mut |_| panic!("there are none"));
    }

    #[test]
    fn broadcasting_is_numpys() {
        let strides = |from: &[usize], to: &[usize]| broadcast(from, &[8, 4][2 - from.len()..], to).map(|s| s.to_vec());
        assert_eq!(strides(&[2, 3], &[2, 3]), Some(vec![8, 4]));
        assert_eq!(strides(&[1, 3], &[2, 3]), Some(vec![0, 4]));
        assert_eq!(strides(&[3], &[2, 3]), Some(vec![0, 4]));
        assert_eq!(strides(&[], &[2, 3]), Some(vec![0, 0]));
        assert_eq!(strides(&[2, 1], &[3]), None);
        assert_eq!(strides(&[2], &[2, 3]), None);
        assert_eq!(strides(&[1], &[0]), Some(vec![0]));
    }
}
