//! Every function of the crate on rows of bits, through one call that gives bits.

use softmax_core::simd::Level;
use softmax_core::{
    Array, Cotangent, CrossEntropy, Derivative, Dtype, Loss, NoControl, Op, Problem, Reduction, Target, Temperature,
    cross_entropy_at, run_at,
};

use super::layout::{Case, Heat, Layout, get, put};
use super::{ALL_OPS, Random, corpus, mode};

/// A function, or one of the ways to use it that run code of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Rows(Op),
    Jacobian(Op),
    /// What is derived; whether the target is probabilities (with smoothing, z_loss and softcap) or classes (with weights).
    CrossEntropy(Derived, bool),
}

/// What a call of cross entropy brings beside the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derived {
    Nothing,
    Gradient,
    Hessian,
}

/// How the rows lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Neighbours in memory belong to different rows.
    pub columns: bool,
    /// Bytes beyond an aligned address.
    pub moved: usize,
}

impl Place {
    pub const PLAIN: Self = Self {
        columns: false,
        moved: 0,
    };
}

impl Function {
    pub fn all() -> Vec<Self> {
        let mut all: Vec<Self> = ALL_OPS.map(Self::Rows).to_vec();
        all.extend([Op::SoftmaxJacobian, Op::LogSoftmaxJacobian].map(Self::Jacobian));
        for derived in [Derived::Nothing, Derived::Gradient, Derived::Hessian] {
            all.extend([false, true].map(|dense| Self::CrossEntropy(derived, dense)));
        }
        all
    }

    pub fn name(self) -> String {
        match self {
            Self::Rows(op) | Self::Jacobian(op) => format!("{op:?}"),
            Self::CrossEntropy(derived, dense) => {
                let target = if dense { "probabilities" } else { "classes" };
                match derived {
                    Derived::Nothing => format!("CrossEntropy/{target}"),
                    _ => format!("CrossEntropy{derived:?}/{target}"),
                }
            }
        }
    }

    pub fn has_temperature(self) -> bool {
        match self {
            Self::Rows(op) => op.has_temperature(),
            _ => true,
        }
    }

    /// Whether losses, as float64, stand behind the derivatives.
    pub fn has_losses(self) -> bool {
        matches!(self, Self::CrossEntropy(Derived::Nothing | Derived::Gradient, _))
    }

    /// The bits of the results, a row's after the other's: the derivative, then the loss.
    pub fn run(self, level: Level, dtype: Dtype, n: usize, x: &[u64], temperature: f64, place: Place) -> Vec<u64> {
        let rows = x.len() / n;
        match self {
            Self::Rows(op) => {
                let case = Case {
                    level,
                    op,
                    dtype,
                    rows,
                    n,
                    x,
                    mask: None,
                    temperature: Heat::One(temperature),
                };
                let layout = match place {
                    Place { columns: true, .. } => Layout::columns(rows, n, dtype.size()),
                    Place { moved: 0, .. } => Layout::packed(rows, n, dtype.size()),
                    _ => Layout::misaligned(rows, n, dtype.size()),
                };
                layout.run(&case)
            }
            Self::Jacobian(op) => jacobian(op, level, dtype, n, x, temperature, place),
            Self::CrossEntropy(derived, dense) => cross_entropy(derived, dense, level, dtype, n, x, temperature, place),
        }
    }
}

/// A matrix in memory.
struct Matrix {
    memory: Vec<u8>,
    /// In bytes, from row to row and from element to element.
    steps: [isize; 2],
    first: usize,
    size: usize,
}

impl Matrix {
    fn new(rows: usize, n: usize, size: usize, place: Place) -> Self {
        let steps = if place.columns { [1, rows] } else { [n, 1] };
        // From an address that is a multiple of 64.
        let memory = vec![0_u8; rows * n * size + place.moved + 64];
        let first = memory.as_ptr().align_offset(64) + place.moved;
        Self {
            memory,
            steps: steps.map(|step| (step * size) as isize),
            first,
            size,
        }
    }

    fn of(bits: &[u64], n: usize, size: usize, place: Place) -> Self {
        let mut matrix = Self::new(bits.len() / n, n, size, place);
        for (i, bits) in bits.iter().enumerate() {
            let at = matrix.at(i / n, i % n);
            put(&mut matrix.memory, at, *bits, size, false);
        }
        matrix
    }

    fn at(&self, row: usize, j: usize) -> usize {
        self.first + row * self.steps[0] as usize + j * self.steps[1] as usize
    }

    fn bits(&self, row: usize, j: usize) -> u64 {
        get(&self.memory, self.at(row, j), self.size)
    }

    fn array<'a>(&mut self, dtype: Dtype, strides: &'a [isize]) -> Array<'a> {
        Array {
            ptr: self.memory.as_mut_ptr().wrapping_add(self.first),
            dtype,
            swapped: false,
            strides,
        }
    }
}

fn jacobian(op: Op, level: Level, dtype: Dtype, n: usize, x: &[u64], temperature: f64, place: Place) -> Vec<u64> {
    let (rows, size) = (x.len() / n, dtype.size());
    let mut x = Matrix::of(x, n, size, place);
    let mut out = Matrix::new(rows, n * n, size, place);
    let x_strides = x.steps;
    let [row, element] = out.steps;
    let out_strides = [row, n as isize * element, element];
    let problem = Problem {
        op,
        shape: &[rows, n],
        reduced: &[false, true],
        x: x.array(dtype, &x_strides),
        second: None,
        mask: None,
        temperature: Temperature::One(temperature),
        cotangent: &[],
        out: out.array(dtype, &out_strides),
    };
    // SAFETY: both arrays hold what the shapes and strides say, and live until after the call.
    let done = mode::call(|| unsafe { run_at(level, &problem, &NoControl) });
    assert_eq!(done, Ok(()));
    (0..rows * n * n).map(|i| out.bits(i / (n * n), i % (n * n))).collect()
}

#[allow(clippy::too_many_arguments, reason = "what a case is, and where it lies")]
fn cross_entropy(
    derived: Derived,
    dense: bool,
    level: Level,
    dtype: Dtype,
    n: usize,
    x: &[u64],
    temperature: f64,
    place: Place,
) -> Vec<u64> {
    let (rows, size) = (x.len() / n, dtype.size());
    // Beside the logits, of each row what its first bits make, so that it goes with the row wherever that goes.
    let (mut beside, mut classes, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    for row in x.chunks_exact(n) {
        let mut random = Random(row.iter().fold(n as u64, |hash, bits| hash.rotate_left(7) ^ bits));
        // A row without a class now and then.
        let class = random.bits() % (n as u64 + n as u64 / 8 + 1);
        classes.push(if class < n as u64 { class } else { IGNORED as u64 });
        samples.push(1.0 + (random.bits() % 8) as f64 / 8.0);
        let sign = if dense { 1 << (8 * size - 1) } else { 0 };
        beside.extend((0..n).map(|_| corpus::any(dtype, &mut random, [-4, -1]) & !sign));
    }
    let weight: Vec<f64> = (0..n).map(|j| 0.5 + (j % 4) as f64 / 4.0).collect();
    let mut logits = Matrix::of(x, n, size, place);
    let mut second = Matrix::of(&beside, n, size, place);
    let mut target = Matrix::of(&classes, 1, 8, Place::PLAIN);
    let mut out = Matrix::new(rows, n, size, place);
    let strides = logits.steps;
    let direction = second.array(dtype, &strides);
    let written = out.array(dtype, &strides);
    let call = CrossEntropy {
        shape: &[rows, n],
        axis: 1,
        logits: logits.array(dtype, &strides),
        dtype,
        target: if dense {
            Target::Probabilities(direction)
        } else {
            Target::Classes(target.array(Dtype::I64, &[8, 0]))
        },
        weight: &weight,
        sample_weight: &samples,
        ignore_index: (!dense).then_some(i128::from(IGNORED)),
        label_smoothing: if dense { 0.1 } else { 0.0 },
        reduction: Reduction::None,
        temperature: Temperature::One(temperature),
        z_loss: if derived == Derived::Hessian || !dense {
            0.0
        } else {
            0.01
        },
        softcap: (derived != Derived::Hessian && dense).then_some(30.0),
        mask: None,
        cotangent: Cotangent::One(1.0),
        derivative: match derived {
            Derived::Nothing => Derivative::None,
            Derived::Gradient => Derivative::Gradient(written),
            Derived::Hessian => Derivative::Hessian(direction, written),
        },
    };
    // SAFETY: all arrays hold what the shapes and strides say, and live until after the call.
    let loss = mode::call(|| unsafe { cross_entropy_at(level, &call, &NoControl) });
    let loss = match loss.expect("all classes are within range") {
        Loss::One(loss) => vec![loss],
        Loss::Rows(losses) => losses,
    };
    let derivative = (0..if derived == Derived::Nothing { 0 } else { rows * n }).map(|i| out.bits(i / n, i % n));
    let losses = loss
        .iter()
        .filter(|_| derived != Derived::Hessian)
        .map(|loss| loss.to_bits());
    derivative.chain(losses).collect()
}

/// The class of rows that take no part.
const IGNORED: i64 = -100;
