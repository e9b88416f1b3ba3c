//! The operations. Each says what it needs of a row and what it writes for an element; the drive owns every pass over
//! memory.

mod log_softmax;
mod logsumexp;
mod softmax;

use log_softmax::LogSoftmax;
use logsumexp::LogSumExp;
use softmax::Softmax;

use crate::math::exp::Exp;
use crate::row::Map;
use crate::simd::{Float, Isa, Simd, Vector, two_sum};

/// A function of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// exp(x_i / T) / sum_j exp(x_j / T).
    Softmax,
    /// x_i / T - log sum_j exp(x_j / T).
    LogSoftmax,
    /// log sum_j exp(x_j): one number per row.
    LogSumExp,
}

impl Op {
    /// Whether the result has an element for each of the input's (else one number per row).
    pub const fn is_elementwise(self) -> bool {
        !matches!(self, Self::LogSumExp)
    }

    /// Calls `visitor` with what implements this op, for a temperature of 1 (`unit`) or any.
    pub(crate) fn visit<V: OpVisitor>(self, unit: bool, visitor: V) -> V::Out {
        match (self, unit) {
            (Self::Softmax, _) => visitor.visit(Softmax),
            (Self::LogSoftmax, true) => visitor.visit(LogSoftmax::<false>),
            (Self::LogSoftmax, false) => visitor.visit(LogSoftmax::<true>),
            (Self::LogSumExp, _) => visitor.visit(LogSumExp),
        }
    }
}

/// Work for any op.
pub(crate) trait OpVisitor {
    type Out;
    fn visit<O: RowOp>(self, op: O) -> Self::Out;
}

/// What an op's `finish` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The exponential of the element.
    Exp,
    /// The element itself.
    X,
    /// Nothing: the result is one number per row, the first of `row`'s.
    Nothing,
}

/// What is known of a row, in float64; a lane is a row.
pub(crate) struct Stats<S: Simd<f64>> {
    /// The maximum.
    pub(crate) max: Vector<S, f64>,
    /// The maximum as `finish` meets it: rows out of the exponent shift's reach are moved to a maximum of zero.
    pub(crate) pivot: Vector<S, f64>,
    /// The temperature that goes with `pivot`.
    pub(crate) temperature: Vector<S, f64>,
    /// Sum of the exponentials but the maximum's, so that log(1 + s) and 1 - p keep their digits.
    pub(crate) sum: Vector<S, f64>,
    /// What rounding took from `sum`.
    pub(crate) rest: Vector<S, f64>,
    /// The maximum's exponential, as a pair.
    pub(crate) peak: [Vector<S, f64>; 2],
    /// The maximum's exponential as the element itself has it.
    pub(crate) own: Vector<S, f64>,
    /// How many elements are the maximum.
    pub(crate) ties: Vector<S, f64>,
}

impl<S: Isa> Stats<S> {
    /// Sum over all but one maximum of exp((x - m) / T), as a pair: what log1p takes.
    #[inline(always)]
    pub(crate) fn tail(&self) -> [Vector<S, f64>; 2] {
        let [peak, peak_rest] = self.peak;
        let sum = self.sum + self.rest;
        let q = sum.div(peak);
        // What the division left, and what the peak has beyond its first part.
        let left = q.fused_neg_mul_add(peak, sum) + ((self.sum - sum) + self.rest);
        let q_rest = q.fused_neg_mul_add(peak_rest, left).div(peak);
        let [tail, error] = two_sum(self.ties - Vector::splat(sum.1, 1.0), q);
        [tail, error + q_rest]
    }

    /// The sum of all exponentials, as a pair.
    ///
    /// The maximum enters with more digits than its own element has: that takes the largest error off all the others.
    /// Where it is nearly everything it enters as it is, so that a probability of 1 is 1, and k equal ones are 1 / k.
    #[inline(always)]
    pub(crate) fn total(&self) -> [Vector<S, f64>; 2] {
        let s = self.sum.1;
        let nearly_all = (self.ties * self.own * Vector::splat(s, 1.0 / 4096.0)).not_less(self.sum);
        let peak = self.own.select(nearly_all, self.peak[0]);
        let peak_rest = Vector::zero(s).select(nearly_all, self.peak[1]);
        let peaks = self.ties * peak;
        let lost = self.ties.fused_neg_mul_add(peak, peaks);
        let [total, error] = two_sum(peaks, self.sum);
        [total, self.ties.mul_add(peak_rest, self.rest + error) - lost]
    }
}

/// Numbers of a row that `finish` needs.
pub(crate) type Params<V> = [V; 6];

/// An operation on rows.
pub(crate) trait RowOp: Copy + Send + Sync + 'static {
    /// What `finish` is given.
    const FROM: From;
    /// How many parameters it has.
    const PARAMS: usize;
    /// The result where `where` is false.
    const MASKED: f64;

    /// From statistics to parameters.
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>>;

    /// From an element (or its exponential) to the result. Parameters that `row` gave in float64 are rounded to `T`:
    /// split beforehand ([`Float::split`]) what must not lose by it.
    fn finish<S: Simd<T>, T: Float>(self, p: &Params<Vector<S, T>>, v: Vector<S, T>) -> Vector<S, T>;
}

/// `finish` with its parameters.
pub(crate) struct Finish<'a, S: Simd<T>, T: Float, O> {
    pub(crate) op: O,
    pub(crate) params: &'a Params<Vector<S, T>>,
}

impl<S: Simd<T>, T: Float, O: Copy> Clone for Finish<'_, S, T, O> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<S: Simd<T>, T: Float, O: Copy> Copy for Finish<'_, S, T, O> {}

impl<S: Simd<T>, T: Float, O: RowOp> Map<S, T> for Finish<'_, S, T, O> {
    #[inline(always)]
    fn apply(self, v: Vector<S, T>) -> Vector<S, T> {
        self.op.finish(self.params, v)
    }
}

/// The exponential, then `finish`: for elements whose exponential was not kept.
pub(crate) struct ExpFinish<'a, S: Simd<T>, T: Float, O> {
    pub(crate) exp: &'a Exp<S, T>,
    pub(crate) finish: Finish<'a, S, T, O>,
}

impl<S: Simd<T>, T: Float, O: Copy> Clone for ExpFinish<'_, S, T, O> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<S: Simd<T>, T: Float, O: Copy> Copy for ExpFinish<'_, S, T, O> {}

impl<S: Simd<T>, T: Float, O: RowOp> Map<S, T> for ExpFinish<'_, S, T, O> {
    #[inline(always)]
    fn apply(self, v: Vector<S, T>) -> Vector<S, T> {
        self.finish.apply(self.exp.of(self.exp.floor.max(v)))
    }
}
