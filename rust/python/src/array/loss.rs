//! Cross entropy: loss, gradient, products with the Hessian.

use std::borrow::Cow;
use std::ptr;

use pyo3::prelude::*;
use softmax_core::simd::with_default_mode;
use softmax_core::{
    Array as Operand, Cotangent, CrossEntropy as Problem, Derivative, Dtype, Fault, Loss as Losses, NoControl,
    Reduction, Target as CoreTarget, Temperature,
};

use super::call::reduced_by;
use super::run::{RELEASE_ABOVE, Shield, compute};
use super::{Array, Layout, computed_in, part, place, scalar, target};
use crate::error;
use crate::grid::{Axis, Grid, count, same, together};
use crate::numbers::Numbers;

/// What torch ignores unless told otherwise: no class has a negative index.
pub const IGNORED: i128 = -100;

/// What the logits are compared with.
pub struct Target<'py> {
    /// Class indices or probabilities: its dtype says which.
    pub array: Array<'py>,
    /// Whether it came as a sequence without elements, to which NumPy gives a dtype that nobody chose.
    pub empty: bool,
}

/// The numbers of a loss.
pub struct Terms {
    /// The axis of the classes.
    pub axis: Axis,
    /// One for each class.
    pub weight: Option<Numbers>,
    /// One for each row.
    pub sample_weight: Option<Numbers>,
    /// The class of the rows that take no part.
    pub ignore_index: i128,
    /// From 0 to 1.
    pub label_smoothing: f64,
    /// How the losses of the rows become one.
    pub reduction: Reduction,
    /// What the logits are divided by.
    pub temperature: Numbers,
    /// The coefficient of the squared logsumexp.
    pub z_loss: f64,
    /// Where tanh bends the logits.
    pub softcap: Option<f64>,
    /// What the derivative is multiplied with.
    pub grad_output: Option<Numbers>,
}

/// A loss whose arguments have become arrays and numbers.
pub struct CrossEntropy<'py> {
    /// The logits.
    pub logits: Array<'py>,
    /// What they are compared with.
    pub target: Target<'py>,
    /// What the Hessian is multiplied with.
    pub v: Option<Array<'py>>,
    /// The `where` argument: bool.
    pub mask: Option<Array<'py>>,
    /// Where to write the derivative.
    pub out: Option<Array<'py>>,
    /// What the logits are converted to first.
    pub dtype: Option<Dtype>,
    /// The rest.
    pub terms: Terms,
}

/// What core gave.
struct Loss<'py> {
    losses: Losses,
    /// For the losses of rows: made before anything is written, when it is not too late to find no memory for it.
    array: Option<Array<'py>>,
    dtype: Dtype,
}

impl<'py> Loss<'py> {
    fn into_object(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match (&self.losses, self.array) {
            (Losses::Rows(losses), Some(array)) => array.set(self.dtype, losses),
            (Losses::One(loss), _) => {
                let narrow = with_default_mode(|| *loss as f32);
                let value = match self.dtype {
                    Dtype::F32 => (&raw const narrow).cast(),
                    _ => ptr::from_ref(loss).cast(),
                };
                // SAFETY: a number of the dtype, which is one of the two.
                unsafe { scalar(py, self.dtype, value) }
            }
            (Losses::Rows(_), None) => unreachable!("`evaluate` made an array for them"),
        }
    }
}

impl<'py> CrossEntropy<'py> {
    /// The loss.
    pub fn loss(mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.evaluate(py, false)?.0.into_object(py)
    }

    /// The loss and its gradient.
    pub fn loss_and_gradient(mut self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (loss, gradient) = self.evaluate(py, true)?;
        Ok((loss.into_object(py)?, gradient))
    }

    /// The Hessian times `v`.
    pub fn hessian_product(mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.evaluate(py, true)?.1)
    }

    /// Checks what the arguments mean to each other, and computes the loss and, if asked to, the derivative (or None).
    fn evaluate(&mut self, py: Python<'py>, derive: bool) -> PyResult<(Loss<'py>, Bound<'py, PyAny>)> {
        match self.evaluate_plain(py, derive)? {
            Some(result) => Ok(result),
            None => self.evaluate_any(py, derive),
        }
    }

    /// Computes what nearly all small calls are, as `Call` has it: one loss of rows along the last axis and of their
    /// classes, without numbers of rows or classes. None: it is not of that kind.
    #[inline(always)]
    fn evaluate_plain(&mut self, py: Python<'py>, derive: bool) -> PyResult<Option<(Loss<'py>, Bound<'py, PyAny>)>> {
        let terms = &self.terms;
        let cotangent = match terms.grad_output {
            None => 1.0,
            Some(Numbers::One(g)) => g,
            Some(Numbers::Many(_)) => return Ok(None),
        };
        let Numbers::One(temperature) = terms.temperature else {
            return Ok(None);
        };
        let numbers = terms.weight.is_some() || terms.sample_weight.is_some();
        if numbers || self.mask.is_some() || self.v.is_some() || terms.reduction == Reduction::None {
            return Ok(None);
        }
        // No Python code runs in here.
        let (Some(logits), Some(labels)) = (self.logits.plain(), self.target.array.plain()) else {
            return Ok(None);
        };
        let (Some((&classes, rows)), Some(reduced)) =
            (logits.shape.split_last(), reduced_by(&terms.axis, logits.shape.len()))
        else {
            return Ok(None);
        };
        let count = count(logits.shape);
        if !is_index(labels.dtype) || !same(labels.shape, rows) || count == 0 || count > RELEASE_ABOVE {
            return Ok(None);
        }
        let dtype = self.dtype.unwrap_or(computed_in(logits.dtype));
        let new = if derive && self.out.is_none() {
            Some(Array::new(py, dtype, logits.shape)?)
        } else {
            None
        };
        let out = new.as_ref().or(self.out.as_ref()).map(Array::plain);
        let out = match out {
            Some(None) => return Ok(None),
            Some(out) => out,
            None => None,
        };
        if let (Some(_), Some(out)) = (&self.out, &out) {
            let fits = logits.is_exactly(out) || logits.is_clear_of(out, count);
            if !out.takes(dtype, logits.shape) || !fits || !labels.is_clear_of(out, count) {
                return Ok(None);
            }
        }
        let mut spread = [0; 4];
        spread[..rows.len()].copy_from_slice(labels.strides);
        let problem = Problem {
            derivative: match &out {
                Some(out) => Derivative::Gradient(out.over(out.strides)),
                None => Derivative::None,
            },
            temperature: Temperature::One(temperature),
            cotangent: Cotangent::One(cotangent),
            ..terms.problem(
                logits.shape,
                reduced.len() - 1,
                out.as_ref()
                    .map_or(logits.over(logits.strides), |out| logits.beside(out)),
                dtype,
                CoreTarget::Classes(labels.over(&spread[..reduced.len()])),
            )
        };
        // SAFETY: as in `Call::evaluate_plain`; the targets have a number for each row, and there are no other numbers.
        let losses = unsafe { softmax_core::cross_entropy(&problem, &NoControl) }
            .map_err(|fault| self.fault(fault, None, classes))?;
        let loss = Loss {
            losses,
            array: None,
            dtype: loss_dtype(dtype),
        };
        let derivative = match new.or(self.out.take()) {
            Some(array) => array.object.into_any(),
            None => py.None().into_bound(py),
        };
        Ok(Some((loss, derivative)))
    }

    /// What Python gets to see of a fault.
    #[cold]
    fn fault(&self, fault: Fault, pending: Option<PyErr>, classes: usize) -> PyErr {
        match fault {
            Fault::Core(fault) => error::core(fault, pending),
            Fault::Class(index, value) => error::class(&index, value, classes, self.terms.ignore_index),
        }
    }

    /// Computes what may be of any kind, or wrong.
    #[inline(never)]
    fn evaluate_any(&mut self, py: Python<'py>, derive: bool) -> PyResult<(Loss<'py>, Bound<'py, PyAny>)> {
        let terms = &self.terms;
        // The shield comes before any pointer is read: making a weak reference may start the garbage collector.
        let release = self.size() > RELEASE_ABOVE;
        let shield = if release {
            let (out, mask) = (self.out.as_ref(), self.mask.as_ref());
            Some(Shield::over([
                Some(&self.logits),
                Some(&self.target.array),
                self.v.as_ref(),
                mask,
                out,
            ])?)
        } else {
            None
        };

        // From here on no Python code runs, but to raise an error.
        let mut logits = self.logits.layout_of(None)?;
        let mut v = match &self.v {
            Some(v) => Some(v.layout_of(None)?),
            None => None,
        };
        let names = [self.logits.name(), self.v.as_ref().map_or("", Array::name)];
        let both;
        let (shape, names): (&[usize], &[&str]) = match &v {
            Some(layout) => {
                both = together(&logits.shape, &layout.shape)
                    .map_err(|back| error::shapes(names, [&logits.shape, &layout.shape], back))?;
                (&both, &names)
            }
            None => (&logits.shape, &names[..1]),
        };
        let grid = Grid::new(shape, &terms.axis).map_err(|fault| error::axis(py, &fault, shape.len()))?;
        let axis = grid.reduced.iter().position(|&reduced| reduced).unwrap_or(0);
        let (rows, classes) = (grid.rows(false), grid.length());
        let dtype = self.dtype.unwrap_or(computed_in(logits.dtype));

        let mut labels = match self.target.array.layout() {
            Some(labels) => labels,
            None => return Err(error::target::dtype(&self.target.array.dtype_text()?)),
        };
        let by_class = self.target.by_class(&labels, &grid, axis)?;
        if !by_class && terms.ignore_index != IGNORED {
            return Err(error::target::ignored(&self.target.array.dtype_text()?));
        }
        let weight = match &terms.weight {
            Some(weight) if *weight.shape() == [classes] => weight.values(),
            Some(weight) => return Err(error::weight(weight.shape(), classes)),
            None => &[],
        };
        // The mean over probabilities is over the rows alone.
        let weight = if by_class {
            shrunk(weight, terms.reduction)
        } else {
            Cow::Borrowed(weight)
        };
        let sample_weight = match &terms.sample_weight {
            Some(weights) => weights
                .each(&rows)?
                .ok_or_else(|| error::broadcast("sample_weight", weights.shape(), "one number per row", &rows))?,
            None => Vec::new(),
        };
        let sample_weight = shrunk(&sample_weight, terms.reduction);
        let temperatures = terms.temperature.strides(&grid)?;
        let cotangent = match &terms.grad_output {
            None => Cotangent::One(1.0),
            Some(numbers) if numbers.shape().is_empty() => Cotangent::One(numbers.values()[0]),
            Some(numbers) if terms.reduction == Reduction::None && *numbers.shape() == *rows => {
                Cotangent::Rows(numbers.values())
            }
            Some(numbers) => return Err(error::grad_output(numbers.shape(), terms.reduction, &rows)),
        };

        let is_given = self.out.is_some();
        let result = if derive {
            Some(target(py, self.out.take(), dtype, &grid.shape)?)
        } else {
            None
        };
        let given = result.as_ref().filter(|_| is_given).map(|(_, out)| out);
        let loss_dtype = loss_dtype(dtype);
        // (A product with the Hessian has no loss.)
        let loss_array = match terms.reduction {
            Reduction::None if v.is_none() => Some(Array::new(py, loss_dtype, &rows)?),
            _ => None,
        };
        place(&mut self.logits, &mut logits, given, true, names, &grid.shape)?;
        if let (Some(array), Some(layout)) = (&mut self.v, &mut v) {
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
        if let Some(out) = given {
            part(&mut self.target.array, &mut labels, out)?;
        }
        let spread;
        let target = if by_class {
            if self.target.empty {
                labels.dtype = Dtype::I64; // it has no element that could tell
            }
            spread = grid.spread(&labels.strides);
            CoreTarget::Classes(labels.over(&spread))
        } else {
            CoreTarget::Probabilities(labels.operand())
        };
        let problem = Problem {
            weight: &weight,
            sample_weight: &sample_weight,
            temperature: terms.temperature.temperature(temperatures.as_deref()),
            mask: mask.as_ref().map(Layout::operand),
            cotangent,
            derivative: match (&result, &v) {
                (Some((_, out)), Some(v)) => Derivative::Hessian(v.operand(), out.operand()),
                (Some((_, out)), None) => Derivative::Gradient(out.operand()),
                (None, _) => Derivative::None,
            },
            ..terms.problem(&grid.shape, axis, logits.operand(), dtype, target)
        };
        // SAFETY: the layouts were read in this call, the arrays live in `self` and `result`, and no Python code has run
        // since. The inputs have the problem's shape or were broadcast to it, the targets the shape that their kind has,
        // the numbers are as many as core asks for. The array of the derivative is new, or it is writeable and its
        // elements have memory of their own; it is exactly `logits` or `v`, or apart from each input. Without the GIL
        // the shield is up.
        let done = unsafe { compute(py, release, |control| softmax_core::cross_entropy(&problem, control)) };
        let losses = done.map_err(|(fault, pending)| self.fault(fault, pending, classes))?;
        drop(shield);
        let loss = Loss {
            losses,
            array: loss_array,
            dtype: loss_dtype,
        };
        let derivative = match result {
            Some((array, _)) if is_given => array.object.into_any(),
            Some((array, _)) => array.into_result()?,
            None => py.None().into_bound(py),
        };
        Ok((loss, derivative))
    }

    /// How many logits there are; an estimate, since the arrays may still change.
    fn size(&self) -> usize {
        let logits = self.logits.shape();
        match &self.v {
            Some(v) => together(logits, v.shape()).map_or(0, |shape| count(&shape)),
            None => count(logits),
        }
    }
}

/// The dtype of the loss of logits that are computed as this one.
fn loss_dtype(dtype: Dtype) -> Dtype {
    if dtype == Dtype::F64 { Dtype::F64 } else { Dtype::F32 }
}

/// Whether numbers of the dtype name classes.
fn is_index(dtype: Dtype) -> bool {
    !matches!(dtype, Dtype::Bool | Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64)
}

impl Terms {
    /// The problem of these arrays, without numbers of rows and classes and without a derivative.
    fn problem<'a>(
        &self,
        shape: &'a [usize],
        axis: usize,
        logits: Operand<'a>,
        dtype: Dtype,
        target: CoreTarget<'a>,
    ) -> Problem<'a> {
        Problem {
            shape,
            axis,
            logits,
            dtype,
            target,
            weight: &[],
            sample_weight: &[],
            ignore_index: matches!(target, CoreTarget::Classes(_)).then_some(self.ignore_index),
            label_smoothing: self.label_smoothing,
            reduction: self.reduction,
            temperature: Temperature::One(1.0),
            z_loss: self.z_loss,
            softcap: self.softcap,
            mask: None,
            cotangent: Cotangent::One(1.0),
            derivative: Derivative::None,
        }
    }
}

/// Weights, of which a mean is the same whatever they all are multiplied with: times a power of two where their sum, or
/// that of their products with other weights, could be beyond the largest number.
fn shrunk(weights: &[f64], reduction: Reduction) -> Cow<'_, [f64]> {
    const LARGE: f64 = f64::from_bits((1023 + 400) << 52); // 2^400
    const FACTOR: f64 = f64::from_bits((1023 - 600) << 52); // 2^-600
    if reduction == Reduction::Mean && weights.iter().any(|weight| weight.abs() > LARGE) {
        return weights.iter().map(|weight| weight * FACTOR).collect();
    }
    Cow::Borrowed(weights)
}

impl Target<'_> {
    /// Whether it holds class indices (else probabilities). Its dtype decides; its shape must be the one of its kind.
    fn by_class(&self, layout: &Layout, grid: &Grid, axis: usize) -> PyResult<bool> {
        let rows = grid.rows(false);
        let is_rows = same(&layout.shape, &rows);
        if self.empty {
            // An empty batch: nobody can tell integers from floats, and the shape is all there is.
            return if is_rows || same(&layout.shape, &grid.shape) {
                Ok(is_rows)
            } else {
                Err(error::target::shape(&layout.shape, true, &rows, &grid.shape, axis))
            };
        }
        match layout.dtype {
            Dtype::Bool => Err(error::target::boolean()),
            Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 if same(&layout.shape, &grid.shape) => Ok(false),
            Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 if is_rows => {
                Err(error::target::float(&self.array.dtype_text()?, &rows, &grid.shape))
            }
            Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 => {
                Err(error::target::shape(&layout.shape, false, &rows, &grid.shape, axis))
            }
            _ if is_rows => Ok(true),
            _ => Err(error::target::shape(&layout.shape, true, &rows, &grid.shape, axis)),
        }
    }
}
