//! The operations. Each says what it needs of a row and what it writes for an element; the drive owns every pass over
//! memory.

mod backward;
mod cross_entropy;
mod gradual;
mod log_softmax;
mod logsumexp;
mod products;
mod softmax;

use std::marker::PhantomData;

use crate::math::exp::{Base, Depth, Exp};
use crate::row::{Adds, Map, SUMS, Terms};
use crate::simd::{Float, GROUP, Isa, Part, Simd, Vector, pow2, two_sum};

pub(crate) use cross_entropy::Losses;
pub(crate) use softmax::Probabilities;
use softmax::Softmax;

/// A function of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// exp(x_i / T) / sum_j exp(x_j / T).
    Softmax,
    /// x_i / T - log sum_j exp(x_j / T).
    LogSoftmax,
    /// log sum_j exp(x_j): one number per row.
    LogSumExp,
    /// J t = J^T t with J the Jacobian of softmax: p_i (t_i - sum_j p_j t_j) / T.
    SoftmaxProduct,
    /// (t_i - sum_j p_j t_j) / T.
    LogSoftmaxJvp,
    /// (g_i - p_i sum_j g_j) / T.
    LogSoftmaxVjp,
    /// sum_j p_j t_j: one number per row.
    LogSumExpJvp,
    /// g p_i, with one g for each row.
    LogSumExpVjp,
    /// y_i (g_i - sum_j y_j g_j) / T, of a saved y = softmax(x).
    SoftmaxBackward,
    /// (g_i - exp(y_i) sum_j g_j) / T, of a saved y = log_softmax(x).
    LogSoftmaxBackward,
    /// (p_i if i = j, else 0) - p_i p_j, over T: n^2 numbers per row.
    SoftmaxJacobian,
    /// (1 if i = j, else 0) - p_j, over T: n^2 numbers per row.
    LogSoftmaxJacobian,
}

impl Op {
    /// Whether the result has (at least) an element for each of the input's; else it has one number per row.
    pub const fn is_elementwise(self) -> bool {
        !matches!(self, Self::LogSumExp | Self::LogSumExpJvp)
    }

    /// Whether there is a second array.
    pub const fn is_binary(self) -> bool {
        matches!(
            self,
            Self::SoftmaxProduct
                | Self::LogSoftmaxJvp
                | Self::LogSoftmaxVjp
                | Self::LogSumExpJvp
                | Self::SoftmaxBackward
                | Self::LogSoftmaxBackward
        )
    }

    /// Whether a temperature other than 1 has a meaning.
    pub const fn has_temperature(self) -> bool {
        !matches!(self, Self::LogSumExp | Self::LogSumExpJvp | Self::LogSumExpVjp)
    }

    /// What computes it.
    pub(crate) const fn kernel(self) -> Kernel {
        match self {
            Self::Softmax => Kernel::Softmax,
            Self::LogSoftmax => Kernel::LogSoftmax,
            Self::LogSumExp => Kernel::LogSumExp,
            Self::SoftmaxProduct => Kernel::SoftmaxProduct,
            Self::LogSoftmaxJvp => Kernel::LogSoftmaxJvp,
            Self::LogSoftmaxVjp => Kernel::LogSoftmaxVjp,
            Self::LogSumExpJvp => Kernel::LogSumExpJvp,
            Self::LogSumExpVjp => Kernel::ScaledSoftmax,
            Self::SoftmaxBackward => Kernel::SoftmaxBackward,
            Self::LogSoftmaxBackward => Kernel::LogSoftmaxBackward,
            Self::SoftmaxJacobian => Kernel::SoftmaxJacobian,
            Self::LogSoftmaxJacobian => Kernel::LogSoftmaxJacobian,
        }
    }
}

/// What the drive can be asked for: more than one op may be served by one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    Softmax,
    LogSoftmax,
    /// Also the losses of rows with a class.
    LogSumExp,
    SoftmaxProduct,
    LogSoftmaxJvp,
    LogSoftmaxVjp,
    LogSumExpJvp,
    /// Softmax times a number for each row; with a class also the loss and its gradient.
    ScaledSoftmax,
    /// The losses of rows with probabilities.
    DenseLoss,
    /// The same with the gradient.
    DenseGradient,
    SoftmaxBackward,
    LogSoftmaxBackward,
    SoftmaxJacobian,
    LogSoftmaxJacobian,
}

impl Kernel {
    /// Calls `visitor` with what implements this, for a temperature of 1 (`unit`) or any. (Inlined: a visitor that is passed
    /// in memory is read in pairs of words right after it was written word by word, and a small call would wait for that.)
    #[inline(always)]
    pub(crate) fn visit<V: OpVisitor>(self, unit: bool, visitor: V) -> V::Out {
        match self {
            Self::Softmax => visitor.visit(Softmax),
            Self::LogSoftmax if unit => visitor.visit(log_softmax::LogSoftmax::<false>),
            Self::LogSoftmax => visitor.visit(log_softmax::LogSoftmax::<true>),
            Self::LogSumExp => visitor.visit(logsumexp::LogSumExp),
            Self::SoftmaxProduct => visitor.visit(products::SoftmaxProduct),
            Self::LogSoftmaxJvp => visitor.visit(products::LogSoftmaxJvp),
            Self::LogSoftmaxVjp => visitor.visit(products::LogSoftmaxVjp),
            Self::LogSumExpJvp => visitor.visit(products::LogSumExpJvp),
            Self::ScaledSoftmax => visitor.visit(cross_entropy::ScaledSoftmax),
            Self::DenseLoss => visitor.visit(cross_entropy::Dense::<false>),
            Self::DenseGradient => visitor.visit(cross_entropy::Dense::<true>),
            Self::SoftmaxBackward if unit => visitor.visit(backward::SoftmaxBackward::<false>),
            Self::SoftmaxBackward => visitor.visit(backward::SoftmaxBackward::<true>),
            Self::LogSoftmaxBackward => visitor.visit(backward::LogSoftmaxBackward),
            Self::SoftmaxJacobian => visitor.jacobian(true),
            Self::LogSoftmaxJacobian => visitor.jacobian(false),
        }
    }
}

/// Work for any op.
pub(crate) trait OpVisitor {
    type Out;
    fn visit<O: RowOp>(self, op: O) -> Self::Out;
    /// The Jacobian of softmax, or of log_softmax: not one number per element.
    fn jacobian(self, softmax: bool) -> Self::Out;
}

/// What an op's `finish` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The exponential of the element.
    Exp,
    /// The element itself.
    X,
    /// The element of the second row, and nothing else.
    Second,
    /// Nothing: the result is one number per row, the first of `row`'s.
    Nothing,
}

/// Which number is picked out of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    None,
    /// That of the second row at the (first) maximum. Of a saved result: at its first element that takes part, unless
    /// the maximum is above [`RowOp::SATURATED`].
    Peak,
    /// The score of the row's class, if it has one.
    Class,
}

/// What is known of a row, in float64; a lane is a row.
pub(crate) struct Stats<S: Simd<f64>> {
    /// Whether exponentials will be multiplied by what adds a product with one rounding.
    pub(crate) fuses: bool,
    /// The maximum.
    pub(crate) max: Vector<S, f64>,
    /// The temperature.
    pub(crate) temperature: Vector<S, f64>,
    /// The same without a power of two that results are multiplied with in the end: where 1 / T and its product with
    /// what is as small or large would leave the type's range, though the result does not.
    pub(crate) scaled_temperature: Vector<S, f64>,
    /// The maximum as `finish` meets it: rows out of the exponent shift's reach are moved to a maximum of zero.
    pub(crate) pivot: Vector<S, f64>,
    /// The temperature that goes with `pivot`.
    pub(crate) moved_temperature: Vector<S, f64>,
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
    /// What [`RowOp::add`] added up, and what rounding took from it.
    pub(crate) sums: [Vector<S, f64>; SUMS],
    pub(crate) rests: [Vector<S, f64>; SUMS],
    /// What [`RowOp::PICK`] picked; moved as `pivot` is.
    pub(crate) picked: Vector<S, f64>,
    /// The numbers that came with the row.
    pub(crate) given: Given<Vector<S, f64>>,
}

/// Numbers that come with a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<V> {
    /// What its loss is multiplied with.
    pub(crate) weight: V,
    /// What its derivative is multiplied with.
    pub(crate) factor: V,
    /// What the squared logsumexp is multiplied with, in the loss and in the derivative.
    pub(crate) square: V,
    pub(crate) square_factor: V,
}

/// `hi + lo` as the sum of two of `T`, both of which are multiplied with exponentials.
///
/// Where products are rounded before they are added, the first of the two is the smaller: a product that should be a power
/// of two is approached from below, where numbers lie twice as close. (From above, what rounds to it and is then corrected
/// comes out as its neighbour: the softmax of a single number would not be 1.)
#[inline(always)]
fn split_factor<S: Isa, T: Float>(hi: Vector<S, f64>, lo: Vector<S, f64>, fuses: bool) -> [Vector<S, f64>; 2] {
    let s = hi.1;
    let [hi, lo] = T::split(s, hi, lo);
    if fuses {
        return [hi, lo];
    }
    let shrunk = hi * Vector::splat(s, 1.0 - pow2(2 - T::DIGITS));
    let [smaller, _] = T::split(s, shrunk, Vector::zero(s));
    [smaller, (hi - smaller) + lo]
}

impl<S: Isa> Stats<S> {
    /// Of a saved result, of which nothing is exponentiated.
    #[inline(always)]
    pub(crate) fn saved(
        max: Vector<S, f64>,
        temperature: f64,
        [sums, rests]: [[Vector<S, f64>; SUMS]; 2],
        picked: Vector<S, f64>,
    ) -> Self {
        let s = max.1;
        let (zero, one) = (Vector::zero(s), Vector::splat(s, 1.0));
        let temperature = Vector::splat(s, temperature);
        Self {
            fuses: S::LEVEL.fuses(),
            max,
            temperature,
            scaled_temperature: temperature,
            pivot: zero,
            moved_temperature: one,
            sum: zero,
            rest: zero,
            peak: [one, zero],
            own: one,
            ties: one,
            sums,
            rests,
            picked,
            given: Given::nothing(s),
        }
    }

    /// The same with one maximum taken out of `sum`, if all exponentials are in it.
    #[inline(always)]
    pub(crate) fn without_maximum<O: RowOp>(self) -> Self {
        if O::ADDS != Adds::All {
            return self;
        }
        let s = self.sum.1;
        let zero = Vector::zero(s);
        let [sum, lost] = two_sum(self.sum, zero - self.own);
        // As much as one maximum may be others, and k equal probabilities are 1 / k.
        let others = sum.not_less(self.own);
        Self {
            sum,
            rest: self.rest + lost,
            ties: Vector::splat(s, 1.0),
            peak: [self.own.select(others, self.peak[0]), zero.select(others, self.peak[1])],
            ..self
        }
    }

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

    /// 1 / sum of all exponentials, as a pair.
    #[inline(always)]
    pub(crate) fn inverse_total(&self) -> [Vector<S, f64>; 2] {
        let one = Vector::splat(self.sum.1, 1.0);
        let [total, rest] = self.total();
        let hi = one.div(total);
        let left = total.fused_neg_mul_add(hi, one);
        let left = rest.fused_neg_mul_add(hi, left);
        [hi, hi * left]
    }

    /// The same as the sum of two of `T`, each of which keeps all its digits.
    #[inline(always)]
    pub(crate) fn split_inverse_total<T: Float>(&self) -> [Vector<S, f64>; 2] {
        let [hi, lo] = self.inverse_total();
        split_factor::<S, T>(hi, lo, self.fuses)
    }

    /// s / (1 + s) and 1 / (1 + s), with s the tail: what is left of the probability at the maximum, and that itself with
    /// what rounding took from it.
    #[inline(always)]
    pub(crate) fn shares(&self) -> [Vector<S, f64>; 3] {
        let one = Vector::splat(self.sum.1, 1.0);
        let [s, rest] = self.tail();
        let [total, error] = two_sum(one, s);
        let inverse = one.div(total);
        let share = s * inverse;
        // What is left of the tail, which may be all that a gradient is.
        let left = share.fused_neg_mul_add(total, s) + (rest - share * (error + rest));
        let of_inverse = total.fused_neg_mul_add(inverse, one) - inverse * (error + rest);
        [left.mul_add(inverse, share), inverse, of_inverse * inverse]
    }

    /// 1 / T.
    #[inline(always)]
    pub(crate) fn inverse_temperature(&self) -> Vector<S, f64> {
        Vector::splat(self.sum.1, 1.0).div(self.scaled_temperature)
    }

    /// 1 / T, as a pair.
    #[inline(always)]
    pub(crate) fn inverse_temperature_pair(&self) -> [Vector<S, f64>; 2] {
        let inverse = self.inverse_temperature();
        let left = self
            .scaled_temperature
            .fused_neg_mul_add(inverse, Vector::splat(self.sum.1, 1.0));
        [inverse, left * inverse]
    }

    /// `factor` (a pair) / (T sum of all exponentials) as the sum of two of `T`, each of which keeps all its digits.
    #[inline(always)]
    pub(crate) fn scale<T: Float>(&self, [factor, factor_lo]: [Vector<S, f64>; 2]) -> [Vector<S, f64>; 2] {
        let s = self.sum.1;
        let [hi, lo] = self.inverse_total();
        // factor / T, with what rounding took from it.
        let [inverse, inverse_lo] = self.inverse_temperature_pair();
        let quotient = factor * inverse;
        let left = (factor * inverse_lo + factor_lo * inverse) - factor.fused_neg_mul_add(inverse, quotient);
        let product = hi * quotient;
        let zero = Vector::zero(s);
        let lost = hi.fused_neg_mul_add(quotient, product);
        // Infinite factors have no low part, nor have those that are infinite in `T`.
        let rest = (lo * quotient + hi * left) - lost;
        let [hi, lo] = split_factor::<S, T>(product, rest.select(rest.equal(rest), zero), self.fuses);
        [hi, lo.select((lo * zero).equal(zero), zero)]
    }

    /// 1 / T as the sum of two of `T`.
    #[inline(always)]
    pub(crate) fn split_inverse_temperature<T: Float>(&self) -> [Vector<S, f64>; 2] {
        let [inverse, rest] = self.inverse_temperature_pair();
        T::split(self.sum.1, inverse, rest)
    }

    /// A number that is divided by T, as one of `T` and, over T, what a subnormal number rounds off: it is much, and 1 / T
    /// may bring it back.
    #[inline(always)]
    pub(crate) fn split_over_temperature<T: Float>(&self, number: Vector<S, f64>) -> [Vector<S, f64>; 2] {
        let zero = Vector::zero(number.1);
        let [rounded, rest] = T::split(number.1, number, zero);
        let size = number.max(zero - number);
        let normal = size.not_less(Vector::splat(number.1, T::LEAST_NORMAL));
        [rounded, zero.select(normal, rest * self.inverse_temperature())]
    }

    /// Two powers of two whose product is 1: what a factor of exponentials comes times, and what they come times instead.
    /// Both are 1, but for factors that are very small or large: see [`Float::FAINT`].
    #[inline(always)]
    pub(crate) fn lift<T: Float>(factor: Vector<S, f64>) -> [Vector<S, f64>; 2] {
        let s = factor.1;
        let (zero, one) = (Vector::zero(s), Vector::splat(s, 1.0));
        let (up, down) = (Vector::splat(s, T::LIFT), Vector::splat(s, 1.0 / T::LIFT));
        // (0 is as good as any: tiny exponentials made smaller still would only take time.)
        let size = one.select(factor.equal(zero), factor.max(zero - factor));
        let faint = Vector::splat(s, T::FAINT).not_less(size);
        let large = size.not_less(Vector::splat(s, 1.0 / T::FAINT));
        [
            up.select(faint, down.select(large, one)),
            down.select(faint, up.select(large, one)),
        ]
    }

    /// exp((v - m) / T) for v <= m, where the maximum's is 1.
    #[inline(always)]
    pub(crate) fn exp(&self, v: Vector<S, f64>) -> Vector<S, f64> {
        let s = self.sum.1;
        let zero = Vector::zero(s);
        // What the difference and the division lost is made good to first order.
        let [difference, lost] = two_sum(v, zero - self.pivot);
        let d = difference.div(self.moved_temperature);
        let left = (d.fused_neg_mul_add(self.moved_temperature, difference) + lost).div(self.moved_temperature);
        let left = left.select((left * zero).equal(zero), zero);
        let exp = Exp::new(s, &Base::new(1.0), zero, Depth::Full);
        let e = exp.of(exp.floor.max(d)) * Vector::splat(s, pow2(-f64::BIAS) / f64::KAPPA);
        e.mul_add(left, e).select(d.not_less(exp.floor), zero)
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

/// What [`RowOp::row`] computes, for arithmetic in `T`.
pub(crate) struct RowPart<'a, S: Simd<f64>, T, O> {
    pub(crate) op: O,
    pub(crate) stats: &'a Stats<S>,
    pub(crate) float: PhantomData<T>,
}

impl<S: Isa, T: Float, O: RowOp> Part<S, f64> for RowPart<'_, S, T, O> {
    type Out = Params<Vector<S, f64>>;
    #[inline(always)]
    fn compute(self, _: S) -> Self::Out {
        self.op.row::<S, T>(self.stats)
    }
}

/// Some elements of a row: what an op adds up of them.
pub(crate) struct Elements<S: Simd<T>, T: Float> {
    /// The row's maximum.
    pub(crate) m: Vector<S, T>,
    /// Exponentials.
    pub(crate) e: Vector<S, T>,
    pub(crate) x: Vector<S, T>,
    /// Those of the second row.
    pub(crate) b: Vector<S, T>,
    /// What [`RowOp::PICK`] picked.
    pub(crate) picked: Vector<S, T>,
}

/// An operation on rows.
pub(crate) trait RowOp: Copy + Send + Sync + 'static {
    /// What `finish` is given.
    const FROM: From;
    /// How many parameters it has.
    const PARAMS: usize;
    /// The result where `where` is false.
    const MASKED: f64;
    /// What `x` is taken for where `where` is false.
    const BLANK: f64 = f64::NEG_INFINITY;
    /// Whether the second row's first element counts: then, where `where` is false, it is the first that does.
    const EXTENDS: bool = false;
    /// Whether `x` holds scores, to be exponentiated; else a saved result, whose exponential (if any) is `finish`'s.
    const SCORES: bool = true;
    /// Whether there is a second row.
    const SECOND: bool = false;
    /// How many sums there are beside that of the exponentials.
    const SUMS: usize = 0;
    /// Whether exponentials are multiplied with what may be large, so that tiny ones have to be zero.
    const VANISHES: bool = false;
    /// Which exponentials are added up, and how: all but the maximum's where what is left of 1 beside a probability is
    /// wanted, and with all their digits where a logarithm is.
    const ADDS: Adds = Adds::OthersInPairs;
    /// How far down exponentials are told from zero.
    const DEPTH: Depth = if Self::VANISHES { Depth::Shallow } else { Depth::Full };
    /// Which number is picked out of the row.
    const PICK: Pick = Pick::None;
    /// Of a saved result: the maximum above which a row is treated as saturated.
    const SATURATED: f64 = 0.0;
    /// The parameter that is the result at the place of what was picked.
    const FIX: Option<usize> = None;
    /// Whether a result is proportional to the exponential: unless `finish` says otherwise, times the first two parameters.
    const SCALES: bool = false;
    /// What multiplies the probabilities is often as small as 2 to minus this: one over the number of rows.
    const FACTOR: i32 = 0;
    /// Whether results are divided by the temperature.
    const DERIVES: bool = false;
    /// Whether a reduction's result may lose digits that float64 keeps: compared are the first two parameters.
    const REFINED: bool = false;

    /// Adds to the sums.
    #[inline(always)]
    fn add<S: Simd<T>, T: Float>(self, sums: &mut [Vector<S, T>; SUMS], elements: &Elements<S, T>) {
        let _ = (sums, elements);
    }

    /// From statistics to parameters.
    fn row<S: Isa, T: Float>(self, stats: &Stats<S>) -> Params<Vector<S, f64>>;

    /// From an element (or its exponential) and that of the second row to the result. Parameters that `row` gave in
    /// float64 are rounded to `T`: split beforehand ([`Float::split`]) what must not lose by it.
    #[inline(always)]
    fn finish<S: Simd<T>, T: Float>(self, p: &Params<Vector<S, T>>, v: Vector<S, T>, b: Vector<S, T>) -> Vector<S, T> {
        let _ = b;
        if Self::SCALES { v.mul_add(p[0], v * p[1]) } else { v }
    }

    /// The row's loss and the square of its logsumexp, both times their weights.
    #[inline(always)]
    fn losses<S: Isa>(self, stats: &Stats<S>) -> Losses<Vector<S, f64>> {
        Losses {
            entropy: Vector::zero(stats.sum.1),
            square: Vector::zero(stats.sum.1),
        }
    }

    /// The number that a reduction gives for a row without probabilities, whose maximum is infinite or NaN.
    #[inline(always)]
    fn degenerate<T: Float>(self, max: T) -> T {
        let _ = max;
        T::NAN
    }
}

impl<S: Isa> Given<Vector<S, f64>> {
    /// Of a row that comes without numbers.
    #[inline(always)]
    pub(crate) fn nothing(s: S) -> Self {
        Self {
            weight: Vector::splat(s, 1.0),
            factor: Vector::splat(s, 1.0),
            square: Vector::zero(s),
            square_factor: Vector::zero(s),
        }
    }
}

/// `add` with what it needs of the row.
pub(crate) struct Sums<S: Simd<T>, T: Float, O> {
    pub(crate) op: O,
    pub(crate) picked: Vector<S, T>,
}

impl<S: Simd<T>, T: Float, O: Copy> Clone for Sums<S, T, O> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<S: Simd<T>, T: Float, O: Copy> Copy for Sums<S, T, O> {}

impl<S: Simd<T>, T: Float, O: RowOp> Terms<S, T> for Sums<S, T, O> {
    const SUMS: usize = O::SUMS;
    const SECOND: bool = O::SECOND;
    const VANISHES: bool = O::VANISHES;
    const ADDS: Adds = O::ADDS;
    #[inline(always)]
    fn add(self, sums: &mut [Vector<S, T>; SUMS], m: Vector<S, T>, e: Vector<S, T>, x: Vector<S, T>, b: Vector<S, T>) {
        let picked = self.picked;
        self.op.add(sums, &Elements { m, e, x, b, picked });
    }
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
    const SECOND: bool = O::SECOND && !matches!(O::FROM, From::Second);
    const ASKS: bool = O::SCALES;
    #[inline(always)]
    fn apply(self, v: Vector<S, T>, b: Vector<S, T>) -> Vector<S, T> {
        self.apply_knowing(O::SCALES && gradual::any_small::<S, T, O>(v), v, b)
    }
    #[inline(always)]
    fn ask(self, group: [Vector<S, T>; GROUP]) -> bool {
        O::SCALES && gradual::any_small_in_group::<S, T, O>(group)
    }
    #[inline(always)]
    fn apply_knowing(self, small: bool, v: Vector<S, T>, b: Vector<S, T>) -> Vector<S, T> {
        if small {
            gradual::finish(self, v, b)
        } else {
            self.op.finish(self.params, v, b)
        }
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
    const SECOND: bool = O::SECOND;
    #[inline(always)]
    fn apply(self, v: Vector<S, T>, b: Vector<S, T>) -> Vector<S, T> {
        let e = if O::VANISHES {
            self.exp.of(v).select(v.not_less(self.exp.floor), Vector::zero(v.1))
        } else {
            self.exp.of(self.exp.floor.max(v))
        };
        self.finish.apply(e, b)
    }
}
