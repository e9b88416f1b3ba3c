//! Cross entropy of rows of logits: the loss, and in the same pass its gradient; and products with its Hessian.

use std::alloc::{Layout, alloc_zeroed};
use std::cell::Cell;
use std::ops::Range;

use crate::drive::{self, Blend, Details, LossRows, Square};
use crate::element::{Classes, read};
use crate::ops::{Kernel, Op};
use crate::problem::{Array, Control, Dtype, Error, Problem, Temperature};
use crate::simd::{self, Float};

/// What a row of logits is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// One class per row: integers of any dtype, strides over all axes (those of the class axis are ignored).
    Classes(Array<'a>),
    /// A number for each logit: floats of any dtype.
    Probabilities(Array<'a>),
}

/// How the losses of the rows become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// They stay apart.
    None,
    /// Their sum.
    Sum,
    /// Their weighted mean.
    Mean,
}

/// What the gradient is multiplied with.
#[derive(Clone, Copy, Debug)]
pub enum Cotangent<'a> {
    /// One number.
    One(f64),
    /// One for each row, where the losses stay apart: in C order of the kept axes.
    Rows(&'a [f64]),
}

/// What is computed beside the loss.
#[derive(Clone, Copy, Debug)]
pub enum Derivative<'a> {
    /// Nothing: the loss only.
    None,
    /// The gradient, into this array: of the logits' shape, of the dtype that they are computed as.
    Gradient(Array<'a>),
    /// The Hessian times the first array, into the second.
    Hessian(Array<'a>, Array<'a>),
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    /// Shape of the logits.
    pub shape: &'a [usize],
    /// The axis of the classes.
    pub axis: usize,
    /// The logits.
    pub logits: Array<'a>,
    /// What the logits are converted to first, and the dtype of the gradient: a float.
    pub dtype: Dtype,
    /// What they are compared with.
    pub target: Target<'a>,
    /// One weight for each class; empty: all are 1.
    pub weight: &'a [f64],
    /// One weight for each row, in C order of the kept axes; empty: all are 1.
    pub sample_weight: &'a [f64],
    /// Rows with this class take no part.
    pub ignore_index: Option<i128>,
    /// From 0 to 1.
    pub label_smoothing: f64,
    /// How the losses become one.
    pub reduction: Reduction,
    /// What the logits are divided by.
    pub temperature: Temperature<'a>,
    /// The coefficient of the squared logsumexp.
    pub z_loss: f64,
    /// Logits go through `c tanh(x / c)` first.
    pub softcap: Option<f64>,
    /// Where false, a class takes no part.
    pub mask: Option<Array<'a>>,
    /// What the derivative is multiplied with.
    pub cotangent: Cotangent<'a>,
    /// What is computed beside the loss.
    pub derivative: Derivative<'a>,
}

/// The loss, rounded to float32 unless the logits are float64.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// Of all rows together.
    One(f64),
    /// Of each row, in C order of the kept axes.
    Rows(Vec<f64>),
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// As any call may.
    Core(Error),
    /// A target that is no class: its index in the array of targets, and what is there.
    Class(Vec<usize>, i128),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

/// Computes the loss and what else is asked for.
///
/// # Errors
/// [`Fault::Class`], before anything is written. Otherwise as [`crate::run`].
///
/// # Safety
/// As for [`crate::run`], with the array of the derivative as `out`. Lengths are as stated; `softcap` is positive and
/// finite.
pub unsafe fn cross_entropy(call: &CrossEntropy<'_>, control: &dyn Control) -> Result<Loss, Fault> {
    let level = simd::active()?;
    // SAFETY: passed on.
    simd::with_default_mode(|| unsafe { run(level, call, control) })
}

/// As [`cross_entropy`], at a level of choice.
///
/// # Errors
/// As [`cross_entropy`]; [`Error::Environment`] if this CPU does not have the level.
///
/// # Safety
/// As for [`cross_entropy`].
pub unsafe fn cross_entropy_at(
    level: simd::Level,
    call: &CrossEntropy<'_>,
    control: &dyn Control,
) -> Result<Loss, Fault> {
    let level = simd::supported(level)?;
    // SAFETY: passed on.
    simd::with_default_mode(|| unsafe { run(level, call, control) })
}

/// (A function of its own: the switch of modes has its body twice.)
#[inline(never)]
unsafe fn run(level: simd::Supported, call: &CrossEntropy<'_>, control: &dyn Control) -> Result<Loss, Fault> {
    let ndim = call.shape.len();
    let n = call.shape[call.axis];
    let pace = &Pace::new(control);
    let (mut classes, mut elements, mut weights) = (Room::EMPTY, Room::EMPTY, Room::EMPTY);
    let (mut entropies, mut squares, mut reduced) = (Room::EMPTY, Room::EMPTY, Room::EMPTY);
    // SAFETY: the caller's promise.
    let rows = unsafe { Rows::read(call, pace, &mut classes, &mut elements)? };
    let (count, square_count) = rows.denominators(call, pace)?;
    let (cotangent, cotangents): (f64, &[f64]) = match call.cotangent {
        Cotangent::One(g) => (g, &[]),
        Cotangent::Rows(g) => (1.0, g),
    };
    // 0 / 0, and what is divided by it, is NaN.
    let divisor = |count: f64| if count == 0.0 { f64::NAN } else { count };
    let is_dense = matches!(call.target, Target::Probabilities(_)) || call.label_smoothing > 0.0;
    let is_hessian = matches!(call.derivative, Derivative::Hessian(..));
    // Where an element of a vector is blended of targets and weights, the row's weight is the sample's alone.
    let weights = match call.derivative {
        // SAFETY: the caller's promise.
        Derivative::Hessian(..) if is_dense => unsafe { rows.curvatures(call, pace, &mut weights)? },
        _ if is_dense || call.weight.is_empty() => call.sample_weight,
        _ => rows.class_weights(call, pace, &mut weights)?,
    };
    let has_square = call.z_loss != 0.0 && !is_hessian;
    let entropy = entropies.zeros(rows.count)?;
    let square = squares.zeros(if has_square { rows.count } else { 0 })?;
    let is_blended = call.label_smoothing > 0.0 || !call.weight.is_empty();
    let details = Details {
        classes: rows.classes,
        weights,
        cotangents,
        scale: cotangent,
        divisor: divisor(count),
        hessian: is_hessian,
        square: has_square.then(|| Square {
            coefficient: call.z_loss,
            weights: call.sample_weight,
            divisor: divisor(square_count),
        }),
        blend: (is_dense && !is_hessian && is_blended).then_some(Blend {
            keep: 1.0 - call.label_smoothing,
            spread: call.label_smoothing,
            weights: call.weight,
            counts: rows.elements,
        }),
        softcap: call.softcap,
        losses: (!is_hessian).then_some(LossRows {
            entropy: entropy.as_mut_ptr(),
            square: has_square.then_some(square.as_mut_ptr()),
        }),
    };
    let second = match (&call.derivative, &call.target) {
        (Derivative::Hessian(v, _), _) => Some(*v),
        (_, Target::Probabilities(array)) => Some(*array),
        _ => None,
    };
    let kernel = match (&call.derivative, is_dense) {
        (Derivative::Hessian(..), _) => Kernel::SoftmaxProduct,
        (Derivative::None, false) => Kernel::LogSumExp,
        (Derivative::None, true) => Kernel::DenseLoss,
        (Derivative::Gradient(_), false) => Kernel::ScaledSoftmax,
        (Derivative::Gradient(_), true) => Kernel::DenseGradient,
    };
    let out = match call.derivative {
        Derivative::Gradient(out) | Derivative::Hessian(_, out) => out,
        // Nothing is written to it.
        Derivative::None => Array {
            ptr: std::ptr::null_mut(),
            dtype: call.dtype,
            swapped: false,
            strides: call.logits.strides,
        },
    };
    let reduced = reduced.zeros(ndim)?;
    reduced[call.axis] = true;
    let problem = Problem {
        op: Op::Softmax,
        shape: call.shape,
        reduced,
        x: call.logits,
        second,
        mask: call.mask,
        temperature: call.temperature,
        cotangent: &[],
        out,
    };
    if n > 0 {
        // SAFETY: the caller's promise; the details have a number for each row.
        unsafe { drive::run(level, kernel, &problem, &details, control)? };
    }
    if is_hessian {
        return Ok(Loss::One(0.0));
    }
    Ok(match call.reduction {
        Reduction::None => {
            for part in pace.parts(rows.count) {
                for r in part? {
                    if has_square {
                        entropy[r] += square[r];
                    }
                    entropy[r] = rounded(call, entropy[r]);
                }
            }
            Loss::Rows(entropies.into_vec(rows.count))
        }
        Reduction::Sum => Loss::One(rounded(
            call,
            sum(entropy.iter().copied(), pace)? + sum(square.iter().copied(), pace)?,
        )),
        Reduction::Mean if count == 0.0 => Loss::One(f64::NAN),
        Reduction::Mean => {
            let mut loss = sum(entropy.iter().copied(), pace)? / count;
            if has_square {
                loss += sum(square.iter().copied(), pace)? / square_count;
            }
            Loss::One(rounded(call, loss))
        }
    })
}

/// As a number of the loss's dtype: float32, or float64 for logits of that type.
fn rounded(call: &CrossEntropy<'_>, loss: f64) -> f64 {
    if loss.is_nan() {
        return f64::NAN;
    }
    if call.dtype == Dtype::F64 {
        loss
    } else {
        f64::from(loss as f32)
    }
}

/// Rows whose losses are added before the sums are.
const SUM_BLOCK: usize = 256;

/// The sum of a number of each row, in C order, in blocks: the same whoever computed the numbers, and in which order.
/// What the additions lose is added in the end, so the error does not grow with the number of rows.
fn sum(numbers: impl Iterator<Item = f64>, pace: &Pace<'_>) -> Result<f64, Error> {
    let (mut total, mut block, mut count) = ([0.0; 2], [0.0; 2], 0);
    for number in numbers {
        block = f64::scalar_merge(block, [number, 0.0]);
        count += 1;
        if count == SUM_BLOCK {
            total = f64::scalar_merge(total, block);
            (block, count) = ([0.0; 2], 0);
            pace.step(SUM_BLOCK)?;
        }
    }
    let [sum, lost] = f64::scalar_merge(total, block);
    // (An infinite sum loses nothing.)
    Ok(if lost.is_finite() { sum + lost } else { sum })
}

/// Up to so many rows (or axes) need no memory of their own: to get it would take a small call a tenth of its time.
const FEW: usize = 8;

/// Where the numbers of rows are.
struct Room<T> {
    few: [T; FEW],
    many: Vec<T>,
}

impl<T: Zero> Room<T> {
    const EMPTY: Self = Self {
        few: [T::ZERO; FEW],
        many: Vec::new(),
    };

    /// So many zeros, once. The system gives large ones page by page, to whoever writes there first: nothing is gone over
    /// here.
    #[inline]
    fn zeros(&mut self, count: usize) -> Result<&mut [T], Error> {
        if count <= FEW {
            return Ok(&mut self.few[..count]);
        }
        let layout = Layout::array::<T>(count).map_err(|_| Error::OutOfMemory)?;
        // SAFETY: the size is not 0.
        let ptr = unsafe { alloc_zeroed(layout) };
        if ptr.is_null() {
            return Err(Error::OutOfMemory);
        }
        // SAFETY: from the global allocator, with the layout of so many elements, whose bits are all 0.
        self.many = unsafe { Vec::from_raw_parts(ptr.cast(), count, count) };
        Ok(&mut self.many)
    }

    /// These, as a vector.
    fn into_vec(self, count: usize) -> Vec<T> {
        if count <= FEW {
            self.few[..count].to_vec()
        } else {
            self.many
        }
    }
}

/// A number that is 0 where all its bits are.
///
/// # Safety
/// All bits 0 are `ZERO`.
unsafe trait Zero: Copy {
    const ZERO: Self;
}

// SAFETY: they are.
unsafe impl Zero for i64 {
    const ZERO: Self = 0;
}
// SAFETY: they are.
unsafe impl Zero for bool {
    const ZERO: Self = false;
}
// SAFETY: they are.
unsafe impl Zero for f64 {
    const ZERO: Self = 0.0;
}

/// Elements gone over one by one, before and after rows are computed, after which the caller is asked whether to go on:
/// a millisecond.
const PACE_ELEMENTS: usize = 1 << 18;

/// Asks the caller now and then whether to go on.
struct Pace<'a> {
    control: &'a dyn Control,
    left: Cell<usize>,
}

impl<'a> Pace<'a> {
    fn new(control: &'a dyn Control) -> Self {
        let left = Cell::new(PACE_ELEMENTS);
        Self { control, left }
    }

    /// Before so many elements.
    fn step(&self, elements: usize) -> Result<(), Error> {
        if elements > self.left.get() {
            if !self.control.proceed() {
                return Err(Error::Interrupted);
            }
            self.left.set(PACE_ELEMENTS);
        }
        self.left.set(self.left.get().saturating_sub(elements));
        Ok(())
    }

    /// `n` elements in parts, before each of which this asks.
    fn parts(&self, n: usize) -> impl Iterator<Item = Result<Range<usize>, Error>> {
        (0..n).step_by(PACE_ELEMENTS).map(move |start| {
            let end = n.min(start + PACE_ELEMENTS);
            self.step(end - start).map(|()| start..end)
        })
    }
}

/// What has to be known of the rows before any is computed, in C order.
struct Rows<'a> {
    count: usize,
    /// Their classes, negative for those that take no part. Empty: they have no classes, and all take part.
    classes: &'a mut [i64],
    /// How many elements take part. Empty: all.
    elements: &'a mut [f64],
}

impl<'a> Rows<'a> {
    /// Reads classes and counts elements.
    ///
    /// # Safety
    /// The arrays are valid.
    unsafe fn read(
        call: &CrossEntropy<'_>,
        pace: &Pace<'_>,
        classes: &'a mut Room<i64>,
        elements: &'a mut Room<f64>,
    ) -> Result<Self, Fault> {
        let (n, count) = (call.shape[call.axis], count(call));
        let may_skip = matches!(call.target, Target::Classes(_)) || call.mask.is_some() || n == 0;
        let rows = Self {
            count,
            classes: classes.zeros(if may_skip { count } else { 0 })?,
            elements: elements.zeros(if call.mask.is_some() { count } else { 0 })?,
        };
        match &call.target {
            Target::Classes(array) => {
                let classes = Classes {
                    n,
                    ignored: call.ignore_index,
                };
                let (runs, len, step) = Places::runs(call, array.strides);
                for (run, place) in runs {
                    let run = run * len..(run + 1) * len;
                    let parts = rows.classes[run.clone()].chunks_mut(PACE_ELEMENTS);
                    for (start, to) in run.step_by(PACE_ELEMENTS).zip(parts) {
                        pace.step(to.len())?;
                        let place = place.wrapping_add(step.wrapping_mul((start % len) as isize));
                        // SAFETY: the caller's promise.
                        unsafe { classes.read(array, place, step, to) }
                            .map_err(|(i, value)| Fault::Class(unravel(call, start + i), value))?;
                    }
                }
            }
            Target::Probabilities(_) => {}
        }
        if n == 0 {
            rows.classes.fill(-1);
        }
        if let Some(mask) = &call.mask {
            for (r, place) in Places::of(call, mask.strides) {
                for part in pace.parts(n) {
                    for j in part? {
                        let step = mask.strides[call.axis].wrapping_mul(j as isize);
                        // SAFETY: the caller's promise.
                        let takes_part = unsafe { *mask.ptr.offset(place.wrapping_add(step)) } != 0;
                        rows.elements[r] += f64::from(u8::from(takes_part));
                    }
                }
                if rows.elements[r] == 0.0 {
                    rows.classes[r] = -1;
                }
            }
        }
        Ok(rows)
    }

    fn takes_part(&self, r: usize) -> bool {
        self.classes.get(r).is_none_or(|&class| class >= 0)
    }

    /// What a mean is divided by: for the cross entropy, and for the squared logsumexp.
    fn denominators(&self, call: &CrossEntropy<'_>, pace: &Pace<'_>) -> Result<(f64, f64), Error> {
        let sample = |r: usize| call.sample_weight.get(r).copied().unwrap_or(1.0);
        let rows = || (0..self.count).filter(|&r| self.takes_part(r));
        if call.reduction != Reduction::Mean {
            return Ok((1.0, 1.0));
        }
        let all = if call.sample_weight.is_empty() {
            let mut count = 0;
            for part in pace.parts(self.count) {
                count += part?.filter(|&r| self.takes_part(r)).count();
            }
            count as f64
        } else {
            sum(rows().map(sample), pace)?
        };
        Ok(match call.target {
            Target::Classes(_) if !call.weight.is_empty() => (
                sum(rows().map(|r| sample(r) * call.weight[self.classes[r] as usize]), pace)?,
                all,
            ),
            _ => (all, all),
        })
    }

    /// The weight of each row's class, times that of the sample.
    fn class_weights<'b>(
        &self,
        call: &CrossEntropy<'_>,
        pace: &Pace<'_>,
        room: &'b mut Room<f64>,
    ) -> Result<&'b [f64], Error> {
        let weights = room.zeros(self.count)?;
        for part in pace.parts(self.count) {
            for r in part?.filter(|&r| self.takes_part(r)) {
                weights[r] = call.weight[self.classes[r] as usize] * call.sample_weight.get(r).copied().unwrap_or(1.0);
            }
        }
        Ok(weights)
    }

    /// What the Hessian of each row's cross entropy is, in terms of softmax's Jacobian, where every element has a number
    /// that the logarithm of its probability is multiplied with: the sum of these.
    ///
    /// # Safety
    /// The arrays are valid.
    unsafe fn curvatures<'b>(
        &self,
        call: &CrossEntropy<'_>,
        pace: &Pace<'_>,
        room: &'b mut Room<f64>,
    ) -> Result<&'b [f64], Error> {
        let n = call.shape[call.axis];
        let weight = |j: usize| call.weight.get(j).copied().unwrap_or(1.0);
        let curvatures = room.zeros(self.count)?;
        let mask = call.mask.as_ref();
        let masks = mask.map_or(&[][..], |mask| mask.strides);
        let targets = match &call.target {
            Target::Probabilities(array) => Some(array),
            Target::Classes(_) => None,
        };
        let strides = targets.map_or(&[][..], |array| array.strides);
        let places = Places::of(call, masks).zip(Places::of(call, strides));
        for ((r, mask_place), (_, target_place)) in places {
            if !self.takes_part(r) {
                continue;
            }
            let elements = self.elements.get(r).copied().unwrap_or(n as f64);
            let mut total = [0.0; 2];
            for part in pace.parts(n) {
                for j in part? {
                    if let Some(mask) = mask {
                        let step = mask.strides[call.axis].wrapping_mul(j as isize);
                        // SAFETY: the caller's promise.
                        if unsafe { *mask.ptr.offset(mask_place.wrapping_add(step)) } == 0 {
                            // The share of the class stays, though there is no score for it.
                            if targets.is_none() && self.classes[r] == j as i64 {
                                total = f64::scalar_merge(total, [weight(j) * (1.0 - call.label_smoothing), 0.0]);
                            }
                            continue;
                        }
                    }
                    let target = match targets {
                        Some(array) => {
                            let step = array.strides[call.axis].wrapping_mul(j as isize);
                            // SAFETY: the caller's promise.
                            unsafe {
                                let p = array.ptr.offset(target_place.wrapping_add(step));
                                read::<f64>(p, array.dtype, array.swapped, Dtype::F64)
                            }
                        }
                        None => f64::from(u8::from(self.classes[r] == j as i64)),
                    };
                    let number = weight(j) * ((1.0 - call.label_smoothing) * target + call.label_smoothing / elements);
                    total = f64::scalar_merge(total, [number, 0.0]);
                }
            }
            curvatures[r] = (total[0] + total[1]) * call.sample_weight.get(r).copied().unwrap_or(1.0);
        }
        Ok(curvatures)
    }
}

/// How many rows there are.
fn count(call: &CrossEntropy<'_>) -> usize {
    let kept = call.shape.iter().enumerate().filter(|&(d, _)| d != call.axis);
    kept.map(|(_, &len)| len).product()
}

/// The index of a row in the array of targets.
fn unravel(call: &CrossEntropy<'_>, mut row: usize) -> Vec<usize> {
    let mut index = Vec::new();
    for d in (0..call.shape.len()).rev().filter(|&d| d != call.axis) {
        index.push(row % call.shape[d]);
        row /= call.shape[d];
    }
    index.reverse();
    index
}

/// The rows in C order: their numbers, and the bytes from an array's first element to theirs.
struct Places<'a> {
    shape: &'a [usize],
    /// Axes that are not gone along: that of the classes, and another one perhaps.
    without: [usize; 2],
    strides: &'a [isize],
    index: Vec<usize>,
    next: usize,
    count: usize,
    place: isize,
}

impl<'a> Places<'a> {
    /// Of an array with these strides over all axes; without any, all are at 0.
    fn of(call: &CrossEntropy<'a>, strides: &'a [isize]) -> Self {
        Self::without(call, strides, call.axis, count(call))
    }

    /// Runs of rows along one axis: where they begin (numbered by themselves), how many rows each has, and the bytes from
    /// one of these to the next.
    fn runs(call: &CrossEntropy<'a>, strides: &'a [isize]) -> (Self, usize, isize) {
        match (0..call.shape.len()).rfind(|&d| d != call.axis && call.shape[d] > 1) {
            Some(inner) => {
                let len = call.shape[inner];
                let runs = Self::without(call, strides, inner, count(call) / len);
                (runs, len, strides[inner])
            }
            None => (Self::of(call, strides), 1, 0),
        }
    }

    fn without(call: &CrossEntropy<'a>, strides: &'a [isize], axis: usize, count: usize) -> Self {
        Self {
            shape: call.shape,
            without: [call.axis, axis],
            strides,
            // (A single place takes no memory: that would cost a small call a twentieth of its time.)
            index: vec![0; if count > 1 { call.shape.len() } else { 0 }],
            next: 0,
            count,
            place: 0,
        }
    }
}

impl Iterator for Places<'_> {
    type Item = (usize, isize);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            return None;
        }
        let item = (self.next, self.place);
        self.next += 1;
        if self.next == self.count {
            return Some(item);
        }
        for d in (0..self.shape.len()).rev() {
            if self.without.contains(&d) {
                continue;
            }
            let stride = self.strides.get(d).copied().unwrap_or(0);
            self.index[d] += 1;
            self.place = self.place.wrapping_add(stride);
            if self.index[d] < self.shape[d] {
                break;
            }
            self.place = self.place.wrapping_sub(stride.wrapping_mul(self.shape[d] as isize));
            self.index[d] = 0;
        }
        Some(item)
    }
}
