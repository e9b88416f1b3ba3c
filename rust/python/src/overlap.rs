//! Do two strided arrays share a byte? Does one array visit a byte twice?
//!
//! In place is allowed and a partial overlap must act as if there were none, so `out` has to be compared with every
//! input; and two interleaved views of one buffer (`a[::2]`, `a[1::2]`) must not cost a copy, so bounds are not enough.
//!
//! Both questions are one: is there a whole-number solution of
//!
//! ```text
//! c[0] u[0] + c[1] u[1] + ... = t    with 0 <= u[k] <= n[k]
//! ```
//!
//! For two arrays write the address of a byte of either as its lowest byte plus |stride| times index plus the byte
//! within the element. Setting the two equal, and counting the second array's indices from its far end so that all
//! signs agree, gives that equation with the |strides| of both arrays as coefficients. (NumPy's `shares_memory` solves
//! the same one. It is a Python call, and while Python runs, another thread may change the arrays that were compared.)
//!
//! The search picks the largest coefficient first. What the smaller ones can still reach bounds its choice to one or
//! two candidates in any layout that comes from slicing and transposing; the greatest common divisor of the rest cuts
//! the interleaved cases. The problem is NP-hard in general (`as_strided` can write it down), hence the budget.

use std::cmp::{Ordering, Reverse};

use crate::grid::Axes;

/// Steps of the search before it gives up. Well under a millisecond; slices and transposes need a few dozen.
const BUDGET: usize = 10_000;

/// An array as far as addresses are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Address of the element at index (0, ..., 0).
    pub start: usize,
    /// Bytes of an element.
    pub size: usize,
    /// Lengths of the axes.
    pub shape: &'a [usize],
    /// Bytes from one element to the next.
    pub strides: &'a [isize],
}

/// One term of the equation: c * u with 0 <= u <= n.
#[derive(Clone, Copy, Debug, Default)]
struct Term {
    c: i128,
    n: i128,
}

impl Span<'_> {
    fn is_empty(&self) -> bool {
        self.size == 0 || self.shape.contains(&0)
    }

    fn terms(&self) -> impl Iterator<Item = Term> {
        let axes = self.shape.iter().zip(self.strides);
        axes.filter(|&(&n, &stride)| n > 1 && stride != 0)
            .map(|(&n, &stride)| Term {
                c: stride.unsigned_abs() as i128,
                n: n as i128 - 1,
            })
    }

    /// The first and the last address, where they are numbers of 64 bits: those of all arrays that a system can hold.
    #[inline]
    fn ends(&self) -> Option<(isize, isize)> {
        let mut low = isize::try_from(self.start).ok()?;
        let mut high = low.checked_add_unsigned(self.size - 1)?;
        for (&n, &stride) in self.shape.iter().zip(self.strides) {
            let reach = stride.checked_mul(isize::try_from(n - 1).ok()?)?;
            let end = if reach < 0 { &mut low } else { &mut high };
            *end = end.checked_add(reach)?;
        }
        Some((low, high))
    }

    /// The lowest address, and the number of bytes from there to the last one.
    fn bounds(&self) -> (i128, i128) {
        let axes = self.shape.iter().zip(self.strides);
        let down: i128 = axes.map(|(&n, &stride)| (n as i128 - 1) * stride.min(0) as i128).sum();
        let reach: i128 = self.terms().map(|term| term.c * term.n).sum();
        (self.start as i128 + down, reach + self.size as i128 - 1)
    }
}

/// Whether `a` and `b` have a byte in common. Where that is too hard to find out: yes.
pub fn shares(a: &Span<'_>, b: &Span<'_>) -> bool {
    if a.is_empty() || b.is_empty() {
        return false;
    }
    // The usual answer. What follows finds it too, in 300 instructions of 128-bit arithmetic, not 180.
    if let (Some((low_a, high_a)), Some((low_b, high_b))) = (a.ends(), b.ends())
        && (high_a < low_b || high_b < low_a)
    {
        return false;
    }
    let ((low_a, reach_a), (low_b, reach_b)) = (a.bounds(), b.bounds());
    if low_a > low_b + reach_b || low_b > low_a + reach_a {
        return false;
    }
    let mut terms: Vec<Term> = a.terms().chain(b.terms()).collect();
    terms.sort_unstable_by_key(|term| Reverse(term.c));
    terms.dedup_by(|next, first| {
        let same = next.c == first.c;
        if same {
            first.n += next.n; // u + v takes every value from 0 to the sum of the bounds
        }
        same
    });
    // The bytes within the two elements: any whole number from 0 to `slack`, so t may be any of a window. Only multiples
    // of the common divisor can be reached, which leaves one target where everything is aligned.
    let slack = a.size as i128 + b.size as i128 - 2;
    let target = low_b + reach_b - low_a;
    let step = terms.iter().fold(0, |g, term| gcd(g, term.c)).max(1);
    let mut budget = BUDGET;
    let mut t = target - target.rem_euclid(step);
    if terms.is_empty() {
        return target - slack <= 0 && 0 <= target;
    }
    while t >= 0 && t >= target - slack {
        if solvable(&terms, t, &mut budget) {
            return true;
        }
        t -= step;
    }
    false
}

/// Whether two different elements of `a` share a byte. Where that is too hard to find out: yes.
pub fn overlaps_itself(a: &Span<'_>) -> bool {
    if a.is_empty() {
        return false;
    }
    // Usual: sorted by stride, each axis steps over all that the smaller ones reach.
    let mut axes: Vec<(usize, usize)> = a
        .shape
        .iter()
        .zip(a.strides)
        .map(|(&n, &s)| (s.unsigned_abs(), n))
        .collect();
    axes.retain(|&(_, n)| n > 1);
    axes.sort_unstable();
    let mut reach = a.size;
    let nested = axes.iter().all(|&(stride, n)| {
        let steps_over = stride >= reach;
        reach = reach.saturating_add(stride.saturating_mul(n - 1));
        steps_over
    });
    if nested {
        return false;
    }
    // Otherwise: two indices that differ first in axis d may be moved so that they are 0 in the axes before d, and one
    // of them 0 in axis d. So compare the part at 0 of axis d with the part beyond, for each d.
    (0..a.shape.len()).any(|d| {
        let part = |first: usize, length: usize| -> (usize, Axes<usize>) {
            let start = a.start.wrapping_add_signed(a.strides[d].wrapping_mul(first as isize));
            let lengths = |axis: usize| match axis.cmp(&d) {
                Ordering::Less => 1,
                Ordering::Equal => length,
                Ordering::Greater => a.shape[axis],
            };
            (start, Axes::new(a.shape.len(), lengths))
        };
        let ((start, shape), (beyond, rest)) = (part(0, 1), part(1, a.shape[d] - 1));
        let head = Span {
            start,
            shape: &shape,
            ..*a
        };
        let tail = Span {
            start: beyond,
            shape: &rest,
            ..*a
        };
        shares(&head, &tail)
    })
}

/// Whether the terms, largest coefficient first, can add up to `t`. Says yes when the budget is spent.
fn solvable(terms: &[Term], t: i128, budget: &mut usize) -> bool {
    let Some((first, rest)) = terms.split_first() else {
        return t == 0;
    };
    if *budget == 0 {
        return true;
    }
    *budget -= 1;
    if t % terms.iter().fold(0, |g, term| gcd(g, term.c)) != 0 {
        return false;
    }
    let reach: i128 = rest.iter().map(|term| term.c * term.n).sum();
    let most = (t / first.c).min(first.n);
    let least = (t - reach + first.c - 1).max(0) / first.c;
    (least..=most).rev().any(|u| solvable(rest, t - first.c * u, budget))
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn span<'a>(start: usize, size: usize, shape: &'a [usize], strides: &'a [isize]) -> Span<'a> {
        Span {
            start,
            size,
            shape,
            strides,
        }
    }

    /// Every byte, as often as the array visits it.
    fn bytes(a: &Span<'_>) -> Vec<usize> {
        let mut starts = vec![a.start];
        for (&n, &stride) in a.shape.iter().zip(a.strides) {
            let along = |&start: &usize| (0..n as isize).map(move |i| start.wrapping_add_signed(i * stride));
            starts = starts.iter().flat_map(along).collect();
        }
        starts.iter().flat_map(|&start| start..start + a.size).collect()
    }

    #[test]
    fn agrees_with_counting_bytes() {
        let mut state = 1_u64;
        let mut below = |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let (mut shared, mut own) = (0, 0);
        for _ in 0..100_000 {
            let mut random = || {
                let size = [1, 2, 4, 8][below(4)];
                let unit = [1, size][below(2)] as isize;
                let ndim = below(4);
                let shape: Vec<usize> = (0..ndim).map(|_| below(5)).collect();
                let strides: Vec<isize> = (0..ndim).map(|_| unit * (below(25) as isize - 12)).collect();
                (1000 + below(150), size, shape, strides)
            };
            let ((p, s, shape, strides), (q, t, other, steps)) = (random(), random());
            let (a, b) = (span(p, s, &shape, &strides), span(q, t, &other, &steps));
            let all = bytes(&a);
            let set: HashSet<_> = all.iter().copied().collect();
            let meet = bytes(&b).iter().any(|byte| set.contains(byte));
            assert_eq!(shares(&a, &b), meet, "{a:?} {b:?}");
            assert_eq!(shares(&b, &a), meet, "{b:?} {a:?}");
            assert_eq!(overlaps_itself(&a), set.len() < all.len(), "{a:?}");
            shared += usize::from(meet);
            own += usize::from(set.len() < all.len());
        }
        assert!(shared > 1000 && own > 1000, "{shared} {own}: the cases test nothing");
    }

    #[test]
    fn slices_of_large_arrays_are_told_apart_within_the_budget() {
        let (rows, columns) = (1 << 20, 1 << 10);
        let shape = [rows, columns / 2];
        let strides = [4 * columns as isize, 8];
        assert!(!shares(&span(0, 4, &shape, &strides), &span(4, 4, &shape, &strides))); // a[:, ::2], a[:, 1::2]
        assert!(shares(&span(0, 4, &shape, &strides), &span(8, 4, &shape, &strides)));
        assert!(!shares(&span(0, 8, &[1 << 30], &[48]), &span(8, 8, &[1 << 30], &[32]))); // 6 i = 1 + 4 j has no solution
        // Beyond what a system has, where 64 bits do not suffice.
        let far = span(usize::MAX - 7, 8, &[], &[]);
        assert!(!shares(&far, &span(0, 8, &[1 << 40], &[1 << 30])) && shares(&far, &far));
        assert!(!overlaps_itself(&span(0, 4, &[3, 2], &[8, 12])));
        assert!(overlaps_itself(&span(0, 4, &[4, 2], &[8, 24])));
    }
}
