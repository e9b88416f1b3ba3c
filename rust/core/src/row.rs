//! Rows as vectors: the passes over one row ([`along`]: lanes are neighbours on the axis) and over a panel
//! ([`across`]: a lane is a row).
//!
//! Both add up in the same order, so a row has the same bits in either. Element `j` belongs to lane `j mod LANES`. Four
//! elements of a lane are added in order, in the type itself; these sums go to wide lanes (float64 for float32, pairs for
//! float64), which are added pairwise in the end (`l` with `l + LANES / 2`, and so on): the error does not grow with the
//! row.

use crate::math::exp::Exp;
use crate::simd::{Float, Isa, Mask, Simd, Vector};

/// Elements of a lane that are added in the type itself.
const GROUP: usize = 4;

/// What a pass over the exponentials of a row brings.
pub(crate) struct Sum<S: Isa> {
    /// Sums and what rounding took from them, eight lanes still to be added pairwise.
    pub(crate) folded: [Vector<S, f64>; 2],
    /// How many elements are the maximum.
    pub(crate) ties: f64,
}

/// Adds eight lanes pairwise: vector `l` of the eight is lane `l` of several rows.
#[inline(always)]
pub(crate) fn add_lanes<S: Isa, T: Float>(mut lanes: [[Vector<S, f64>; 2]; 8]) -> [Vector<S, f64>; 2] {
    for l in 0..4 {
        lanes[l] = T::fold_merge(lanes[l], lanes[l + 4]);
    }
    for l in 0..2 {
        lanes[l] = T::fold_merge(lanes[l], lanes[l + 2]);
    }
    T::fold_merge(lanes[0], lanes[1])
}

/// The exponentials of some vectors, and the sum with them added: the maximum adds nothing, it is counted. (Counted are
/// the others: one comparison serves both.)
#[inline(always)]
fn terms<S: Simd<T>, T: Float, const N: usize>(
    exp: &Exp<S, T>,
    m: Vector<S, T>,
    x: [Vector<S, T>; N],
    sum: &mut Vector<S, T>,
    others: &mut Vector<S, T>,
) -> [Vector<S, T>; N] {
    let mut clamped = x;
    for i in 0..N {
        // In this order the maximum keeps a NaN.
        clamped[i] = exp.floor.max(x[i]);
    }
    let e = exp.of_several(clamped);
    for i in 0..N {
        let other = x[i].not_equal(m);
        *others = others.count(other);
        *sum = sum.add_where(other, e[i]);
    }
    e
}

/// Four vectors, as many at once as suits the instruction set.
#[inline(always)]
fn four_terms<S: Isa + Simd<T>, T: Float>(
    exp: &Exp<S, T>,
    m: Vector<S, T>,
    x: [Vector<S, T>; GROUP],
    sum: &mut Vector<S, T>,
    others: &mut Vector<S, T>,
) -> [Vector<S, T>; GROUP] {
    let mut e = x;
    match S::INTERLEAVE {
        4 => e = terms(exp, m, x, sum, others),
        2 => {
            [e[0], e[1]] = terms(exp, m, [x[0], x[1]], sum, others);
            [e[2], e[3]] = terms(exp, m, [x[2], x[3]], sum, others);
        }
        _ => {
            for i in 0..GROUP {
                [e[i]] = terms(exp, m, [x[i]], sum, others);
            }
        }
    }
    e
}

/// What is done to each vector of a row. (A trait and not a closure: these have to be inlined, and closures are not told.)
pub(crate) trait Map<S: Simd<T>, T: Float>: Copy {
    fn apply(self, v: Vector<S, T>) -> Vector<S, T>;
}

/// Lanes on the axis.
pub(crate) mod along {
    use super::*;

    /// The largest element; NaN is passed over.
    ///
    /// # Safety
    /// `x` is valid for reading `n` elements.
    #[inline(always)]
    pub(crate) unsafe fn max<S: Isa + Simd<T>, T: Float>(s: S, x: *const T, n: usize) -> T {
        let lanes = T::LANES;
        let lowest = Vector::splat(s, T::NEG_INFINITY);
        let mut m = [lowest; GROUP];
        let mut j = 0;
        // SAFETY: every access ends at or before n.
        unsafe {
            while j + GROUP * lanes <= n {
                for i in 0..GROUP {
                    m[i] = Vector::load(s, x.add(j + i * lanes)).max(m[i]);
                }
                j += GROUP * lanes;
            }
            while j + lanes <= n {
                m[0] = Vector::load(s, x.add(j)).max(m[0]);
                j += lanes;
            }
            if j < n {
                m[1] = Vector::load_partial(s, x.add(j), n - j, T::NEG_INFINITY).max(m[1]);
            }
        }
        m[0].max(m[1]).max(m[2].max(m[3])).reduce_max()
    }

    /// Sums exponentials, and stores them at `e` where `STORE`. `e` may be `x`. Meanwhile asks for the cache lines of the
    /// `n` elements at `next`, which need not be valid.
    ///
    /// # Safety
    /// `x` is valid for reading and `e`, unless null, for writing `n` elements.
    #[inline(always)]
    pub(crate) unsafe fn exp_sum<S: Isa + Simd<T>, T: Float, const STORE: bool>(
        s: S,
        exp: &Exp<S, T>,
        m: Vector<S, T>,
        x: *const T,
        e: *mut T,
        n: usize,
        next: *const T,
    ) -> Sum<S> {
        let lanes = T::LANES;
        let zero = Vector::zero(s);
        let mut others = zero;
        let mut wide = T::wide_zero(s);
        let mut j = 0;
        // SAFETY: every access ends at or before n.
        unsafe {
            while j + GROUP * lanes <= n {
                let mut y = [zero; GROUP];
                for i in 0..GROUP {
                    s.prefetch(next.wrapping_add(j + i * lanes).cast());
                    y[i] = Vector::load(s, x.add(j + i * lanes));
                }
                let mut group = zero;
                let kept = four_terms(exp, m, y, &mut group, &mut others);
                if STORE {
                    for i in 0..GROUP {
                        kept[i].store(e.add(j + i * lanes));
                    }
                }
                wide = T::wide_add(s, wide, group);
                j += GROUP * lanes;
            }
            let mut group = zero;
            while j + lanes <= n {
                s.prefetch(next.wrapping_add(j).cast());
                let [kept] = terms(exp, m, [Vector::load(s, x.add(j))], &mut group, &mut others);
                if STORE {
                    kept.store(e.add(j));
                }
                j += lanes;
            }
            if j < n {
                s.prefetch(next.wrapping_add(j).cast());
                let valid = Mask::first(s, n - j);
                let y = Vector::load_partial(s, x.add(j), n - j, T::NEG_INFINITY);
                let mut last = zero;
                let [kept] = terms(exp, m, [y], &mut last, &mut others);
                if STORE {
                    kept.store_partial(e.add(j), n - j);
                }
                group = group.add_where(valid, last);
            }
            wide = T::wide_add(s, wide, group);
        }
        // Lanes beyond the row's end were counted as others.
        let ties = n.next_multiple_of(lanes) as f64 - others.counted().reduce_sum().to_f64();
        Sum {
            folded: T::wide_fold(s, wide),
            ties,
        }
    }

    /// Maps `n` elements. `y` may be `x`.
    ///
    /// # Safety
    /// `x` is valid for reading and `y` for writing `n` elements.
    #[inline(always)]
    pub(crate) unsafe fn map<S: Isa + Simd<T>, T: Float>(
        s: S,
        x: *const T,
        y: *mut T,
        n: usize,
        f: impl Map<S, T>,
        next: *const T,
    ) {
        let lanes = T::LANES;
        let mut j = 0;
        // SAFETY: every access ends at or before n.
        unsafe {
            while j + GROUP * lanes <= n {
                let mut v = [Vector::zero(s); GROUP];
                for i in 0..GROUP {
                    s.prefetch_write(next.wrapping_add(j + i * lanes).cast());
                    v[i] = Vector::load(s, x.add(j + i * lanes));
                }
                for i in 0..GROUP {
                    f.apply(v[i]).store(y.add(j + i * lanes));
                }
                j += GROUP * lanes;
            }
            while j + lanes <= n {
                s.prefetch_write(next.wrapping_add(j).cast());
                f.apply(Vector::load(s, x.add(j))).store(y.add(j));
                j += lanes;
            }
            if j < n {
                s.prefetch_write(next.wrapping_add(j).cast());
                f.apply(Vector::load_partial(s, x.add(j), n - j, T::ZERO))
                    .store_partial(y.add(j), n - j);
            }
        }
    }
}

/// A lane is a row. A panel holds `LANES` rows of `n` elements: element `j` of row `l` at `j LANES + l`.
pub(crate) mod across {
    use super::*;

    /// The largest element of each row; NaN is passed over.
    ///
    /// # Safety
    /// `x` is valid for reading a panel of `n`.
    #[inline(always)]
    pub(crate) unsafe fn max<S: Isa + Simd<T>, T: Float>(s: S, x: *const T, n: usize) -> Vector<S, T> {
        let mut m = [Vector::splat(s, T::NEG_INFINITY); 2];
        // SAFETY: every access is to the panel.
        unsafe {
            for j in 0..n / 2 {
                for i in 0..2 {
                    m[i] = Vector::load(s, x.add((2 * j + i) * T::LANES)).max(m[i]);
                }
            }
            if n % 2 == 1 {
                m[0] = Vector::load(s, x.add((n - 1) * T::LANES)).max(m[0]);
            }
        }
        m[0].max(m[1])
    }

    /// The sum of up to four elements of virtual lane l, `LANES` elements apart: those at `start`, ... before `end`.
    ///
    /// # Safety
    /// `x` is valid for reading and writing a panel of `end`.
    #[inline(always)]
    unsafe fn group<S: Isa + Simd<T>, T: Float, const STORE: bool>(
        exp: &Exp<S, T>,
        m: Vector<S, T>,
        x: *mut T,
        (start, end): (usize, usize),
        others: &mut Vector<S, T>,
    ) -> Vector<S, T> {
        let mut sum = Vector::zero(m.1);
        let mut j = start;
        while j < end {
            // SAFETY: j < end.
            unsafe {
                let p = x.add(j * T::LANES);
                let [kept] = terms(exp, m, [Vector::load(m.1, p)], &mut sum, others);
                if STORE {
                    kept.store(p);
                }
            }
            j += T::LANES;
        }
        sum
    }

    /// Sums exponentials, and leaves them in the panel where `STORE`. Brings a sum and the number of maxima for each row.
    ///
    /// # Safety
    /// `x` is valid for reading and writing a panel of `n`.
    #[inline(always)]
    pub(crate) unsafe fn exp_sum<S: Isa + Simd<T>, T: Float, const STORE: bool>(
        s: S,
        exp: &Exp<S, T>,
        m: Vector<S, T>,
        x: *mut T,
        n: usize,
    ) -> (T::Wide<S>, Vector<S, T>) {
        let lanes = T::LANES;
        let zero = Vector::zero(s);
        let mut others = zero;
        let mut wide = [T::wide_zero(s); 16];
        let mut j = 0;
        while j < n {
            let end = n.min(j + GROUP * lanes);
            for l in 0..lanes.min(end - j) {
                // SAFETY: the caller's promise.
                let sum = unsafe { group::<S, T, STORE>(exp, m, x, (j + l, end), &mut others) };
                // (Nothing to add to in the first group, and most panels have but one.)
                wide[l] = if j == 0 {
                    T::widen(s, sum)
                } else {
                    T::wide_add(s, wide[l], sum)
                };
            }
            j += GROUP * lanes;
        }
        // Adding the zero of a lane that no element fell into changes nothing, so it is left out.
        let mut step = lanes / 2;
        while step > 0 {
            for l in 0..step {
                if l + step < n {
                    wide[l] = T::wide_merge(s, wide[l], wide[l + step]);
                }
            }
            step /= 2;
        }
        (wide[0], Vector::splat(s, T::from_f64(n as f64)) - others.counted())
    }
}
