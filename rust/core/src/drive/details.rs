//! What a loss adds to a problem: numbers of its rows, and how its operands are made from what memory holds.

/// All of it; [`Details::NONE`] for the other ops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Details<'a> {
    /// The class of each row, in C order of the kept axes; negative where the row takes no part. Empty: no classes.
    pub(crate) classes: &'a [i64],
    /// What the loss of each row is multiplied with. Empty: 1.
    pub(crate) weights: &'a [f64],
    /// What the derivative of each row is multiplied with beside. Empty: 1.
    pub(crate) cotangents: &'a [f64],
    /// What all derivatives are multiplied with, and what they are divided by.
    pub(crate) scale: f64,
    pub(crate) divisor: f64,
    /// Whether derivatives are second ones: over the temperature once more.
    pub(crate) hessian: bool,
    /// The squared logsumexp.
    pub(crate) square: Option<Square<'a>>,
    /// How the second array is made.
    pub(crate) blend: Option<Blend<'a>>,
    /// Logits go through `c tanh(x / c)` first.
    pub(crate) softcap: Option<f64>,
    /// Where the losses of the rows go.
    pub(crate) losses: Option<LossRows>,
}

/// The squared logsumexp as a part of the loss.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Square<'a> {
    pub(crate) coefficient: f64,
    /// For each row. Empty: 1.
    pub(crate) weights: &'a [f64],
    /// What its derivatives are divided by.
    pub(crate) divisor: f64,
}

/// `weight_i (keep target_i + spread / n)`, with n the number of classes that take part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blend<'a> {
    pub(crate) keep: f64,
    pub(crate) spread: f64,
    /// For each class. Empty: 1.
    pub(crate) weights: &'a [f64],
    /// n of each row. Empty: all classes.
    pub(crate) counts: &'a [f64],
}

/// Two numbers for each row, in C order of the kept axes: the cross entropy and the squared logsumexp, with their weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LossRows {
    pub(crate) entropy: *mut f64,
    /// Where there is one.
    pub(crate) square: Option<*mut f64>,
}

// SAFETY: each row is written by one thread.
unsafe impl Send for LossRows {}
// SAFETY: see above.
unsafe impl Sync for LossRows {}

impl Details<'_> {
    pub(crate) const NONE: Self = Self {
        classes: &[],
        weights: &[],
        cotangents: &[],
        scale: 1.0,
        divisor: 1.0,
        hessian: false,
        square: None,
        blend: None,
        softcap: None,
        losses: None,
    };

    /// Whether rows come with numbers of their own, or their derivatives with a factor.
    pub(crate) fn are_given(&self) -> bool {
        !self.weights.is_empty()
            || !self.cotangents.is_empty()
            || self.scale.to_bits() != 1.0_f64.to_bits()
            || self.divisor.to_bits() != 1.0_f64.to_bits()
            || self.hessian
            || self.square.is_some()
    }

    /// Whether these numbers and factors are the same for all rows, at one temperature.
    pub(crate) fn are_alike(&self) -> bool {
        self.weights.is_empty()
            && self.cotangents.is_empty()
            && self.square.is_none_or(|square| square.weights.is_empty())
    }

    /// The class of a row, if it has one.
    #[inline(always)]
    pub(crate) fn class(&self, row: isize) -> Option<usize> {
        self.classes
            .get(row as usize)
            .and_then(|&class| usize::try_from(class).ok())
    }

    /// Whether a row takes no part.
    #[inline(always)]
    pub(crate) fn skips(&self, row: isize) -> bool {
        self.classes.get(row as usize).is_some_and(|&class| class < 0)
    }
}

/// The number of a row where there is one for each, else 1.
#[inline(always)]
pub(crate) fn of_row(numbers: &[f64], row: isize) -> f64 {
    numbers.get(row as usize).copied().unwrap_or(1.0)
}
