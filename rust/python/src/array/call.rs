//! Functions of rows: the forward ones, their products and their Jacobians.

use pyo3::prelude::*;
use softmax_core::{Dtype, NoControl, Op, Problem, Temperature};

use super::run::{RELEASE_ABOVE, Shield, compute};
use super::{Array, Layout, Plain, computed_in, place, scalar, target};
use crate::error;
use crate::grid::{Axis, Grid, count, same, together};
use crate::numbers::Numbers;

/// A call whose arguments have become arrays.
pub struct Call<'py> {
    /// Which function.
    pub op: Op,
    /// The logits, or a saved result.
    pub x: Array<'py>,
    /// The tangent or cotangent of a product.
    pub second: Option<Array<'py>>,
    /// One number for each row, the cotangent of logsumexp.
    pub cotangent: Option<Numbers>,
    /// Which axes form a row.
    pub axis: Axis,
    /// What the logits are divided by.
    pub temperature: Numbers,
    /// The `where` argument: bool.
    pub mask: Option<Array<'py>>,
    /// Where to write.
    pub out: Option<Array<'py>>,
    /// What the logits are converted to first.
    pub dtype: Option<Dtype>,
    /// Whether a reduction keeps the axes of the row, with length 1.
    pub keepdims: bool,
}

/// What a function gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// As many elements as there are logits.
    Elements,
    /// One number per row.
    Rows,
    /// One matrix per row.
    Squares,
}

impl<'py> Call<'py> {
    /// Checks what the arguments mean to each other, and computes.
    pub fn evaluate(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.evaluate_plain(py)? {
            Some(result) => Ok(result),
            None => self.evaluate_any(py),
        }
    }

    /// Computes what nearly all small calls are: arrays in C order and of one shape, rows along the last axis or over
    /// all, one temperature; nothing to convert, to broadcast or to copy, and nothing wrong. Arrays are used as their
    /// structs have them. (Looked at from all sides, a call on ten numbers would take a fifth more instructions.) None:
    /// it is not of that kind.
    #[inline(always)]
    fn evaluate_plain(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (_, gives) = describe(self.op);
        let (Numbers::One(temperature), None, None) = (&self.temperature, &self.mask, &self.cotangent) else {
            return Ok(None);
        };
        // No Python code runs in here.
        let Some(x) = self.x.plain() else { return Ok(None) };
        let Some(reduced) = reduced_by(&self.axis, x.shape.len()) else {
            return Ok(None);
        };
        let second = match &self.second {
            Some(array) => match array.plain() {
                Some(second) if same(second.shape, x.shape) => Some(second),
                _ => return Ok(None),
            },
            None => None,
        };
        let count = count(x.shape);
        let shape = match gives {
            Gives::Elements => x.shape,
            Gives::Rows if !self.keepdims && self.axis == Axis::All => &[],
            Gives::Rows if !self.keepdims => &x.shape[..reduced.len() - 1],
            _ => return Ok(None),
        };
        if count == 0 || count > RELEASE_ABOVE {
            return Ok(None);
        }
        let dtype = self.dtype.unwrap_or(computed_in(x.dtype));
        // (NumPy would make an array to hold a number, and then the number.)
        let mut number = 0_u64;
        let number = &raw mut number;
        let new = match &self.out {
            None if !shape.is_empty() => Some(Array::new(py, dtype, shape)?),
            _ => None,
        };
        let out = match new.as_ref().or(self.out.as_ref()) {
            Some(array) => array.plain(),
            None => Some(Plain {
                ptr: number.cast(),
                dtype,
                writeable: true,
                shape,
                strides: &[],
            }),
        };
        let Some(out) = out else { return Ok(None) };
        if self.out.is_some() {
            // In place, or apart.
            let fits = |array: &Plain<'_>| array.is_exactly(&out) || array.is_clear_of(&out, count);
            if !out.takes(dtype, shape) || !fits(&x) || !second.as_ref().is_none_or(fits) {
                return Ok(None);
            }
        }
        let mut of_rows = [0; 4];
        let out_strides = match gives {
            Gives::Rows => {
                for (d, &stride) in out.strides.iter().enumerate() {
                    of_rows[d] = stride;
                }
                &of_rows[..x.shape.len()]
            }
            _ => out.strides,
        };
        let problem = Problem {
            op: self.op,
            shape: x.shape,
            reduced,
            x: x.beside(&out),
            second: second.as_ref().map(|array| array.beside(&out)),
            mask: None,
            temperature: Temperature::One(*temperature),
            cotangent: &[],
            out: out.over(out_strides),
        };
        // SAFETY: the structs were read in this call, the arrays live in `self` and `new`, and no Python code has run
        // since; the GIL is held to the end. All inputs have the problem's shape. `out` is new, or a number of this function,
        // or it is writeable and in C order; it is exactly `x` or `second`, or apart from each input.
        unsafe { softmax_core::run(&problem, &NoControl) }.map_err(|fault| error::core(fault, None))?;
        match new.or(self.out.take()) {
            Some(array) => Ok(Some(array.object.into_any())),
            // SAFETY: core wrote a number of the dtype.
            None => unsafe { scalar(py, dtype, number.cast()) }.map(Some),
        }
    }

    /// Computes what may be of any kind, or wrong.
    #[inline(never)]
    fn evaluate_any(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (function, gives) = describe(self.op);
        // The shield comes before any pointer is read: making a weak reference may start the garbage collector.
        let release = self.size(gives) > RELEASE_ABOVE;
        let shield = if release {
            let arrays = [
                Some(&self.x),
                self.second.as_ref(),
                self.mask.as_ref(),
                self.out.as_ref(),
            ];
            Some(Shield::over(arrays)?)
        } else {
            None
        };

        // From here on no Python code runs, but to raise an error.
        let mut x = self.x.layout_of(function)?;
        let mut second = match &self.second {
            Some(second) => Some(second.layout_of(None)?),
            None => None,
        };
        let names = [self.x.name(), self.second.as_ref().map_or("", Array::name)];
        let both;
        let (shape, names): (&[usize], &[&str]) = match &second {
            Some(layout) if same(&x.shape, &layout.shape) => (&x.shape, &names),
            Some(layout) => {
                both = together(&x.shape, &layout.shape)
                    .map_err(|back| error::shapes(names, [&x.shape, &layout.shape], back))?;
                (&both, &names)
            }
            None => (&x.shape, &names[..1]),
        };
        let grid = Grid::new(shape, &self.axis).map_err(|fault| error::axis(py, &fault, shape.len()))?;
        let shape = match gives {
            Gives::Elements => &grid.shape,
            Gives::Rows => &grid.rows(self.keepdims),
            Gives::Squares => &grid.squares(),
        };
        let dtype = self.dtype.unwrap_or(computed_in(x.dtype));
        let is_given = self.out.is_some();
        let (array, out) = target(py, self.out.take(), dtype, shape)?;
        let given = is_given.then_some(&out);

        place(&mut self.x, &mut x, given, true, names, &grid.shape)?;
        if let (Some(array), Some(layout)) = (&mut self.second, &mut second) {
            place(array, layout, given, true, names, &grid.shape)?;
        }
        let mask = match &mut self.mask {
            Some(mask) => {
                let mut layout = mask.layout_of(None)?;
                place(mask, &mut layout, given, false, names, &grid.shape)?;
                Some(layout)
            }
            None => None,
        };
        let temperatures = self.temperature.strides(&grid)?;
        let cotangent = match &self.cotangent {
            Some(numbers) => cotangent(numbers, &grid)?,
            None => Vec::new(),
        };
        if count(shape) != 0 {
            let out_strides = match gives {
                Gives::Rows if !self.keepdims => &grid.spread(&out.strides),
                Gives::Squares => &grid.square(&out.strides),
                _ => &out.strides,
            };
            let problem = Problem {
                op: self.op,
                shape: &grid.shape,
                reduced: &grid.reduced,
                x: x.operand(),
                second: second.as_ref().map(Layout::operand),
                mask: mask.as_ref().map(Layout::operand),
                temperature: self.temperature.temperature(temperatures.as_deref()),
                cotangent: &cotangent,
                out: out.over(out_strides),
            };
            // SAFETY: the layouts were read in this call, the arrays live in `self` and `array`, and no Python code has
            // run since. All inputs were broadcast to the problem's shape. `out` is new, or it is writeable and its
            // elements have memory of their own; it is exactly `x` or `second`, or apart from each input. Without the
            // GIL the shield is up.
            let done = unsafe { compute(py, release, |control| softmax_core::run(&problem, control)) };
            done.map_err(|(fault, pending)| error::core(fault, pending))?;
        }
        drop(shield);
        if is_given {
            Ok(array.object.into_any())
        } else {
            array.into_result()
        }
    }

    /// How many elements there are to compute; an estimate, since the arrays may still change.
    #[inline]
    fn size(&self, gives: Gives) -> usize {
        let x = self.x.shape();
        match &self.second {
            Some(second) if !same(x, second.shape()) => together(x, second.shape()).map_or(0, |shape| count(&shape)),
            None if gives == Gives::Squares => Grid::new(x, &self.axis).map_or(0, |grid| count(&grid.squares())),
            _ => count(x),
        }
    }
}

/// Which axes form a row, if that is the last or all of them, of one to four.
#[inline(always)]
pub(super) fn reduced_by(axis: &Axis, ndim: usize) -> Option<&'static [bool]> {
    const LAST: [[bool; 4]; 2] = [[false, false, false, true], [true; 4]];
    let of = match *axis {
        Axis::One(axis) | Axis::Only(axis) if axis == -1 || axis + 1 == ndim as isize => &LAST[0],
        Axis::All => &LAST[1],
        _ => return None,
    };
    of.get(of.len().checked_sub(ndim)?..).filter(|of| !of.is_empty())
}

/// What scipy.special has instead of a function for dtypes that are not ours, and what the function gives.
const fn describe(op: Op) -> (Option<&'static str>, Gives) {
    match op {
        Op::Softmax => (Some("softmax"), Gives::Elements),
        Op::LogSoftmax => (Some("log_softmax"), Gives::Elements),
        Op::LogSumExp => (Some("logsumexp"), Gives::Rows),
        Op::LogSumExpJvp => (None, Gives::Rows),
        Op::SoftmaxJacobian | Op::LogSoftmaxJacobian => (None, Gives::Squares),
        Op::SoftmaxProduct
        | Op::LogSoftmaxJvp
        | Op::LogSoftmaxVjp
        | Op::LogSumExpVjp
        | Op::SoftmaxBackward
        | Op::LogSoftmaxBackward => (None, Gives::Elements),
    }
}

/// One number for each row, of a scalar or of an array with or without the axes of the row.
fn cotangent(numbers: &Numbers, grid: &Grid) -> PyResult<Vec<f64>> {
    let (rows, kept) = (grid.rows(false), grid.rows(true));
    let shape = numbers.shape();
    let fits = shape.is_empty() || *shape == *rows || *shape == *kept;
    let each = if fits {
        numbers.each(if *shape == *kept { &kept } else { &rows })?
    } else {
        None
    };
    each.ok_or_else(|| error::cotangent(shape, &rows, &kept))
}
