//! Real numbers that a call takes beside its arrays (temperature, weights, cotangents), in memory of our own: what was
//! checked cannot change any more, and no thread of Python's can reach it.

use pyo3::prelude::*;
use softmax_core::{Array as Operand, Dtype, Temperature};

use crate::error;
use crate::grid::{Axes, Grid, broadcast, count, for_each, same};

/// One number, or an array of them in C order.
pub enum Numbers {
    /// A scalar.
    One(f64),
    /// An array. (Boxed: most calls have a scalar, and move it about.)
    Many(Box<Block>),
}

/// Numbers of a shape: as many as it has elements.
pub struct Block {
    /// Lengths of the axes.
    pub shape: Axes<usize>,
    /// In C order.
    pub values: Vec<f64>,
}

impl Numbers {
    /// The shape that NumPy would see.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::One(_) => &[],
            Self::Many(block) => &block.shape,
        }
    }

    /// All of them.
    pub fn values(&self) -> &[f64] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(block) => &block.values,
        }
    }

    /// The index of the first that is not right, and what is there.
    pub fn first_wrong(&self, right: impl Fn(f64) -> bool) -> Option<(Vec<usize>, f64)> {
        let values = self.values();
        let at = values.iter().position(|&value| !right(value))?;
        let mut rest = at;
        let mut index = self.shape().to_vec();
        for place in index.iter_mut().rev() {
            let length = *place;
            *place = rest % length;
            rest /= length;
        }
        Some((index, values[at]))
    }

    /// One for each element of `shape`, in C order; `None` if they do not broadcast to it.
    pub fn each(&self, shape: &[usize]) -> PyResult<Option<Vec<f64>>> {
        let values = self.values();
        let Some(strides) = broadcast(self.shape(), &steps(self.shape(), 1), shape) else {
            return Ok(None);
        };
        let mut all = Vec::new();
        all.try_reserve_exact(count(shape)).map_err(|_| error::memory())?;
        if same(self.shape(), shape) {
            all.extend_from_slice(values);
        } else {
            for_each(shape, &strides, 0, &mut |i| all.push(values[i.cast_unsigned()]));
        }
        Ok(Some(all))
    }

    /// Strides over all axes of a call for one number per row; `None` for a scalar.
    #[inline(always)]
    pub fn strides(&self, grid: &Grid) -> PyResult<Option<Axes<isize>>> {
        match self {
            Self::One(_) => Ok(None),
            Self::Many(block) => block.strides(grid).map(Some),
        }
    }

    /// As core takes what logits are divided by; `strides` as [`strides`](Self::strides) gives them.
    #[inline(always)]
    pub fn temperature<'a>(&'a self, strides: Option<&'a [isize]>) -> Temperature<'a> {
        match self {
            Self::One(value) => Temperature::One(*value),
            Self::Many(block) => Temperature::Rows(Operand {
                ptr: block.values.as_ptr().cast_mut().cast(),
                dtype: Dtype::F64,
                swapped: false,
                strides: strides.unwrap_or(&[]),
            }),
        }
    }
}

impl Block {
    #[cold]
    fn strides(&self, grid: &Grid) -> PyResult<Axes<isize>> {
        let rows = grid.rows(false);
        let strides = broadcast(&self.shape, &steps(&self.shape, size_of::<f64>()), &rows)
            .ok_or_else(|| error::broadcast("temperature", &self.shape, "one number per row", &rows))?;
        Ok(grid.spread(&strides))
    }
}

/// The strides of an array in C order whose elements have this size.
fn steps(shape: &[usize], size: usize) -> Axes<isize> {
    let step = |d: usize| shape[d + 1..].iter().fold(size, |step, &n| step.saturating_mul(n));
    Axes::new(shape.len(), |d| step(d) as isize)
}
