//! Rows as vectors: the passes over one row ([`along`]: lanes are neighbours on the axis) and over a panel
//! ([`across`]: a lane is a row).
//!
//! Both add up in the same order, so a row has the same bits in either. Element `j` belongs to lane `j mod LANES`. A lane's
//! elements are added in groups of four: exponentials in wide lanes (float64 for float32, pairs for float64), for some ops
//! after two and two were added in the type itself ([`Adds`]); other terms in the type itself. Groups are added in wide
//! lanes, and these pairwise in the end (`l` with `l + LANES / 2`, and so on): the error does not grow with the row.
//! (Of rows of at most one element a lane, sums without exponentials and what unrounded exponentials have beyond are added
//! pairwise in the type itself: no lane has been rounded more than once before.)
//!
//! (An exponential that is nearly all of a lane is rounded each time that a small one is added to it in the type, and
//! where a few such are nearly all of the row, or the small ones are alike, this does not average out.)

use std::mem::MaybeUninit;

use crate::math::exp::{Exp, RowExp};
use crate::simd::{Float, GROUP, HELD, Isa, Mask, Simd, Tally, Vector};

/// The sums a pass can bring beside that of the exponentials.
pub(crate) const SUMS: usize = 3;

/// What a pass over a row brings.
pub(crate) struct Sum<S: Isa> {
    /// Sums and what rounding took from them, eight lanes still to be added pairwise: the exponentials first.
    pub(crate) folded: [[Vector<S, f64>; 2]; 1 + SUMS],
    /// How many elements are the maximum; 0 if [`Adds::All`].
    pub(crate) ties: f64,
}

/// Which exponentials are added up, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adds {
    /// All. (Where they are stored, they are added from there: to take the maximum's out, a vector takes four operations of
    /// thirty.)
    All,
    /// All but the maximum's, which are counted.
    Others,
    /// The same, in pairs: what takes a tenth less time, and may be off by half an ULP more.
    OthersInPairs,
    /// All but the maximum's, as [`Exp::unrounded`] has them: of each s + s p the first goes to wide lanes, and the second, a
    /// twentieth of it or less, is added to three others in the type. That takes a twentieth more time, and a logarithm of
    /// the sum does not depend on what the exponentials' last operation would have rounded.
    OthersUnrounded,
}

/// What a pass sums up beside the exponentials. (A trait and not a closure: these have to be inlined, and closures are
/// not told.)
pub(crate) trait Terms<S: Simd<T>, T: Float>: Copy {
    /// How many sums.
    const SUMS: usize;
    /// Whether there is a second row.
    const SECOND: bool;
    /// Whether an exponential below the floor is exactly zero. (Where nothing large is multiplied with it, it rounds to
    /// zero by itself.)
    const VANISHES: bool;
    const ADDS: Adds;
    /// Adds the terms of some elements: their exponentials, themselves, those of the second row; `m` the maximum.
    fn add(self, sums: &mut [Vector<S, T>; SUMS], m: Vector<S, T>, e: Vector<S, T>, x: Vector<S, T>, b: Vector<S, T>);
}

/// Lane sums of up to four elements each.
#[derive(Clone, Copy)]
struct Group<S: Simd<T>, T: Float> {
    /// The exponentials: two in each of the first two, or one in each. (Zero for a maximum that is counted.)
    parts: [Vector<S, T>; GROUP],
    /// What they have beyond, if they are not rounded.
    beyond: Vector<S, T>,
    sums: [Vector<S, T>; SUMS],
}

impl<S: Simd<T>, T: Float> Group<S, T> {
    #[inline(always)]
    fn zero(s: S) -> Self {
        let zero = Vector::zero(s);
        Self {
            parts: [zero; GROUP],
            beyond: zero,
            sums: [zero; SUMS],
        }
    }

    /// `self` in the lanes where the mask is true, else `before`.
    #[inline(always)]
    fn only(self, valid: Mask<S, T>, before: &Self) -> Self {
        let mut sums = self.sums;
        for k in 0..SUMS {
            sums[k] = sums[k].select(valid, before.sums[k]);
        }
        let mut parts = self.parts;
        for k in 0..GROUP {
            parts[k] = parts[k].select(valid, before.parts[k]);
        }
        Self {
            parts,
            beyond: self.beyond.select(valid, before.beyond),
            sums,
        }
    }
}

/// Whether exponentials are added that are not rounded, which [`Group::beyond`] is for.
#[inline(always)]
fn unrounded<S: Simd<T>, T: Float, F: Terms<S, T>>() -> bool {
    const { assert!(!matches!(F::ADDS, Adds::OthersUnrounded) || !F::VANISHES && F::SUMS == 0) };
    matches!(F::ADDS, Adds::OthersUnrounded)
}

/// How many exponentials are added in the type itself.
#[inline(always)]
fn added<S: Simd<T>, T: Float, F: Terms<S, T>>() -> usize {
    if matches!(F::ADDS, Adds::OthersInPairs) { 2 } else { 1 }
}

/// How many [`Group::parts`] `n` exponentials have.
#[inline(always)]
fn parts<S: Simd<T>, T: Float, F: Terms<S, T>>(n: usize) -> usize {
    n.div_ceil(added::<S, T, F>())
}

/// The sum of [`Group::parts`] with `n` exponentials.
#[inline(always)]
fn widen<S: Isa + Simd<T>, T: Float, F: Terms<S, T>>(
    s: S,
    exponentials: [Vector<S, T>; GROUP],
    n: usize,
) -> T::Wide<S> {
    let [a, b, c, d] = exponentials;
    match parts::<S, T, F>(n) {
        1 => T::widen(s, a),
        2 => T::wide_pair(s, [a, b]),
        3 => T::wide_merge(s, T::wide_pair(s, [a, b]), T::widen(s, c)),
        _ => T::wide_merge(s, T::wide_pair(s, [a, b]), T::wide_pair(s, [c, d])),
    }
}

/// A group that waits to be added to wide lanes. (On AVX2, to convert each amid the exponentials costs softmax 3 % and
/// logsumexp 6 %: halves have to be shuffled out of registers. From memory they come by themselves.)
#[derive(Clone, Copy)]
struct Held<S: Simd<T>, T: Float> {
    parts: [MaybeUninit<Vector<S, T>>; GROUP],
    beyond: MaybeUninit<Vector<S, T>>,
    sums: [MaybeUninit<Vector<S, T>>; SUMS],
}

impl<S: Isa + Simd<T>, T: Float> Held<S, T> {
    #[inline(always)]
    fn nothing() -> Self {
        Self {
            parts: [MaybeUninit::uninit(); GROUP],
            beyond: MaybeUninit::uninit(),
            sums: [MaybeUninit::uninit(); SUMS],
        }
    }

    /// Keeps a whole group.
    #[inline(always)]
    fn hold<F: Terms<S, T>>(&mut self, group: &Group<S, T>) {
        for k in 0..parts::<S, T, F>(GROUP) {
            self.parts[k].write(group.parts[k]);
        }
        if unrounded::<S, T, F>() {
            self.beyond.write(group.beyond);
        }
        for k in 0..F::SUMS {
            self.sums[k].write(group.sums[k]);
        }
    }

    /// Adds a whole group to wide lanes.
    ///
    /// # Safety
    /// It was kept.
    #[inline(always)]
    unsafe fn release<F: Terms<S, T>>(&self, s: S, wide: &mut [T::Wide<S>; 1 + SUMS]) {
        let mut exponentials = [Vector::zero(s); GROUP];
        // SAFETY: the caller's promise.
        unsafe {
            for k in 0..parts::<S, T, F>(GROUP) {
                exponentials[k] = self.parts[k].assume_init();
            }
            let mut group = widen::<S, T, F>(s, exponentials, GROUP);
            if unrounded::<S, T, F>() {
                group = T::wide_add(s, group, self.beyond.assume_init());
            }
            wide[0] = T::wide_merge(s, wide[0], group);
            for k in 0..F::SUMS {
                wide[1 + k] = T::wide_add(s, wide[1 + k], self.sums[k].assume_init());
            }
        }
    }
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

/// The same of one row, whose lanes are those of a vector: in all lanes.
#[inline(always)]
pub(crate) fn add_across<S: Isa, T: Float>(folded: [Vector<S, f64>; 2]) -> [Vector<S, f64>; 2] {
    let s = folded[0].1;
    if !T::KEEPS_REST {
        return [Vector::splat(s, folded[0].reduce_sum()), Vector::zero(s)];
    }
    let rows = [folded[0].to_lanes(), folded[1].to_lanes()];
    let mut lanes = [[Vector::zero(s); 2]; 8];
    for l in 0..8 {
        lanes[l] = [Vector::splat(s, rows[0].0[l]), Vector::splat(s, rows[1].0[l])];
    }
    add_lanes::<S, T>(lanes)
}

/// The exponentials of some vectors (of no use if they are not rounded), and the sums with them added: to the first one the
/// maximum's adds nothing, it is counted. Where exponentials are rounded it is known by their bits: an element whose
/// exponential is rounded to the maximum's adds as much as another maximum, to the last digit, and the elements themselves
/// need not be kept until then. Else it is known by the element's value. Of the last vector only some lanes are `valid`, if
/// said. For the tally, these are the vectors of group `number` from `first` on.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a part of one function")]
fn terms<S: Simd<T>, T: Float, F: Terms<S, T>, C: Tally<S, T>, const N: usize>(
    exp: &Exp<S, T>,
    m: Vector<S, T>,
    f: F,
    [x, b]: [[Vector<S, T>; N]; 2],
    valid: Option<Mask<S, T>>,
    group: &mut Group<S, T>,
    ties: &mut C,
    (number, first): (usize, usize),
) -> [Vector<S, T>; N] {
    let mut clamped = x;
    for i in 0..N {
        // What vanishes afterwards may be anything until then. In this order the maximum keeps a NaN.
        if !F::VANISHES {
            clamped[i] = exp.floor.max(x[i]);
        }
    }
    let unrounded = unrounded::<S, T, F>();
    let (mut e, mut before_rounding) = (clamped, [clamped; 3]);
    if unrounded {
        before_rounding = exp.unrounded(clamped);
    } else {
        e = exp.of_several(clamped);
    }
    for i in 0..N {
        if F::VANISHES {
            e[i] = e[i].select(x[i].not_less(exp.floor), Vector::zero(m.1));
        }
        let before = *group;
        let place = first + i;
        let part = &mut group.parts[place / added::<S, T, F>()];
        *part = if F::ADDS == Adds::All {
            e[i]
        } else if unrounded {
            // (0 and -0 are both the maximum, whichever of them `m` is.)
            let summands = [before_rounding[0][i], before_rounding[1][i]];
            ties.add_bits_of_others(summands, [x[i], m], (number, place))
        } else {
            // (A pair begins with its first, not with zero: that saves an addition.)
            let begins = place.is_multiple_of(added::<S, T, F>());
            let sum = if begins { None } else { Some(*part) };
            ties.add_others(sum, e[i], exp.peak[0], (number, place))
        };
        if unrounded {
            group.beyond = part.mul_add(before_rounding[2][i], group.beyond);
        }
        f.add(&mut group.sums, m, e[i], x[i], b[i]);
        if let Some(valid) = valid
            && i == N - 1
        {
            *group = group.only(valid, &before);
        }
    }
    e
}

/// What is done to each vector of a row, and to that of a second row where there is one.
pub(crate) trait Map<S: Simd<T>, T: Float>: Copy {
    /// Whether there is a second row.
    const SECOND: bool;
    /// Whether there is something to [`ask`](Map::ask) of elements first.
    const ASKS: bool = false;
    fn apply(self, v: Vector<S, T>, b: Vector<S, T>) -> Vector<S, T>;
    /// Finds out something of a group, once for all its vectors.
    #[inline(always)]
    fn ask(self, group: [Vector<S, T>; GROUP]) -> bool {
        let _ = group;
        false
    }
    /// The same as [`apply`](Map::apply), of a vector of a group for which that was the answer.
    #[inline(always)]
    fn apply_knowing(self, answer: bool, v: Vector<S, T>, b: Vector<S, T>) -> Vector<S, T> {
        let _ = answer;
        self.apply(v, b)
    }
}

/// A row and, where the pass wants it, a second one.
#[derive(Clone, Copy)]
pub(crate) struct Source<T> {
    pub(crate) x: *const T,
    pub(crate) b: *const T,
    /// What is asked for meanwhile.
    pub(crate) ahead: Option<Ahead<T>>,
}

/// Where the cache lines lie that belong to a row and a second one, and where those lie that will be written. (None of it
/// need be valid; what is null is not asked for.)
#[derive(Clone, Copy)]
pub(crate) struct Ahead<T> {
    pub(crate) x: *const T,
    pub(crate) b: *const T,
    pub(crate) y: *const T,
}

impl<T: Float> Ahead<T> {
    /// Asks for some lines, from that at `j` on.
    #[inline(always)]
    fn prefetch<S: Isa>(&self, s: S, j: usize, lines: usize, second: bool) {
        // (Asked once, and not for each line: with rows from memory it is mostly the same.)
        if self.y.is_null() {
            for i in 0..lines {
                self.prefetch_read(s, j + i * T::LANES, second);
            }
        } else {
            for i in 0..lines {
                let j = j + i * T::LANES;
                self.prefetch_read(s, j, second);
                s.prefetch_write(self.y.wrapping_add(j).cast());
            }
        }
    }

    /// Asks for the lines at `j` that will be read.
    #[inline(always)]
    fn prefetch_read<S: Isa>(&self, s: S, j: usize, second: bool) {
        if !self.x.is_null() {
            s.prefetch(self.x.wrapping_add(j).cast());
        }
        if second && !self.b.is_null() {
            s.prefetch(self.b.wrapping_add(j).cast());
        }
    }
}

impl<T: Float> Source<T> {
    /// Nothing is asked for meanwhile.
    #[inline(always)]
    pub(crate) fn of(x: *const T, b: *const T) -> Self {
        Self { x, b, ahead: None }
    }

    /// Asks for the lines of the group at `j` (in one place, for a branch amid the arithmetic would keep the compiler from
    /// mixing vectors).
    #[inline(always)]
    fn prefetch<S: Isa>(&self, s: S, j: usize, second: bool) {
        if let Some(ahead) = self.ahead {
            ahead.prefetch(s, j, GROUP, second);
        }
    }

    /// Asks for the lines of what is beyond the last group of `n` elements. (After those of the groups, and for no line
    /// beyond the row's last: asked for first, or four lines whatever is left, rows of 512 bytes to 4 KiB that come from
    /// memory would take a tenth to a third longer on a Zen 3, whose own prefetcher follows what is asked for in order.)
    #[inline(always)]
    fn prefetch_rest<S: Isa>(&self, s: S, n: usize, second: bool) {
        if let Some(ahead) = self.ahead {
            let rest = n % (GROUP * T::LANES);
            ahead.prefetch(s, n - rest, rest.div_ceil(T::LANES), second);
        }
    }

    /// The vectors at `j`.
    ///
    /// # Safety
    /// The rows are valid for reading them; the second only `if second`.
    #[inline(always)]
    unsafe fn load<S: Simd<T>>(&self, s: S, j: usize, second: bool) -> [Vector<S, T>; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let b = if second {
                Vector::load(s, self.b.add(j))
            } else {
                Vector::zero(s)
            };
            [Vector::load(s, self.x.add(j)), b]
        }
    }

    /// The vectors of a group of the first row, from `j` on.
    ///
    /// # Safety
    /// The row is valid for reading them.
    #[inline(always)]
    unsafe fn group<S: Simd<T>>(&self, s: S, j: usize) -> [Vector<S, T>; GROUP] {
        let mut group = [Vector::zero(s); GROUP];
        for i in 0..GROUP {
            // SAFETY: the caller's promise.
            group[i] = unsafe { Vector::load(s, self.x.add(j + i * T::LANES)) };
        }
        group
    }

    /// `N` vectors from `j` on; of the last only some lanes, if said, and minus infinity and zero beyond.
    ///
    /// # Safety
    /// The rows are valid for reading them; the second only `if second`.
    #[inline(always)]
    unsafe fn several<S: Simd<T>, const N: usize>(
        &self,
        s: S,
        j: usize,
        last: Option<usize>,
        second: bool,
    ) -> [[Vector<S, T>; N]; 2] {
        let mut rows = [[Vector::zero(s); N]; 2];
        for i in 0..N {
            let j = j + i * T::LANES;
            // SAFETY: the caller's promise.
            let [x, b] = unsafe {
                match last {
                    Some(lanes) if i == N - 1 => self.load_partial(s, j, lanes, T::NEG_INFINITY, second),
                    _ => self.load(s, j, second),
                }
            };
            rows[0][i] = x;
            rows[1][i] = b;
        }
        rows
    }

    /// The first `n` lanes of the vectors at `j`; `fill` and zero beyond.
    ///
    /// # Safety
    /// The rows are valid for reading them; the second only `if second`.
    #[inline(always)]
    unsafe fn load_partial<S: Simd<T>>(&self, s: S, j: usize, n: usize, fill: T, second: bool) -> [Vector<S, T>; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let b = if second {
                Vector::load_partial(s, self.b.add(j), n, T::ZERO)
            } else {
                Vector::zero(s)
            };
            [Vector::load_partial(s, self.x.add(j), n, fill), b]
        }
    }
}

/// Where results go.
#[derive(Clone, Copy)]
pub(crate) enum To<T> {
    /// Into the caches.
    Cache(*mut T),
    /// Past them, but for the vector of the element that will be written once more, if one will, which would have to be
    /// fetched back. [`Isa::fence`] has to follow.
    Memory(*mut T, Option<usize>),
    /// The same of a single vector that is a cache line.
    Line(*mut T, Option<usize>),
}

/// Lanes on the axis.
pub(crate) mod along {
    use super::*;

    /// How many elements there are before the next cache line.
    #[inline(always)]
    fn to_line<T>(p: *const T) -> usize {
        p.addr().wrapping_neg() % 64 / size_of::<T>()
    }

    /// How many elements of its cache line are before this one.
    #[inline(always)]
    pub(crate) fn since_line<T>(p: *const T) -> usize {
        p.addr() % 64 / size_of::<T>()
    }

    /// Where the last whole group ends that begins at `j` or a whole number of groups after it. (Told beforehand: to ask
    /// before each group whether one more fits takes two instructions more.)
    #[inline(always)]
    fn whole_groups<T: Float>(j: usize, n: usize) -> usize {
        n - (n - j) % (GROUP * T::LANES)
    }

    /// The largest element; NaN is passed over. (So each load is an instruction of its own. But a maximum of NaN would make
    /// all exponentials NaN, those bits would count as maxima, and no sum would tell.)
    ///
    /// # Safety
    /// `x` is valid for reading `n` elements.
    #[inline(always)]
    pub(crate) unsafe fn max<S: Isa + Simd<T>, T: Float>(s: S, x: *const T, n: usize) -> T {
        let (lanes, group) = (T::LANES, GROUP * T::LANES);
        let lowest = Vector::splat(s, T::NEG_INFINITY);
        // (What is left over is looked at together with what was looked at before it: that takes no mask.)
        // SAFETY: every access ends at or before n.
        unsafe {
            if n < lanes {
                return Vector::load_partial(s, x, n, T::NEG_INFINITY).max(lowest).reduce_max();
            }
            if n < group {
                let mut m = Vector::load(s, x).max(lowest);
                let mut j = lanes;
                while j + lanes <= n {
                    m = Vector::load(s, x.add(j)).max(m);
                    j += lanes;
                }
                return Vector::load(s, x.add(n - lanes)).max(m).reduce_max();
            }
            let (mut m, mut j) = ([lowest; GROUP], 0);
            if S::ALIGNS && n >= 2 * group {
                m[0] = Vector::load(s, x).max(lowest);
                j = to_line(x);
            }
            let groups = whole_groups::<T>(j, n);
            while j < groups {
                m = group_max(s, x.add(j), m);
                j += group;
            }
            if j < n {
                m = group_max(s, x.add(n - group), m);
            }
            m[0].max(m[1]).max(m[2].max(m[3])).reduce_max()
        }
    }

    /// The larger of `m` and a group of elements, lane by lane.
    ///
    /// # Safety
    /// `x` is valid for reading a group.
    #[inline(always)]
    unsafe fn group_max<S: Simd<T>, T: Float>(
        s: S,
        x: *const T,
        mut m: [Vector<S, T>; GROUP],
    ) -> [Vector<S, T>; GROUP] {
        for i in 0..GROUP {
            // (In this order a NaN is passed over.) SAFETY: the caller's promise.
            m[i] = unsafe { Vector::load(s, x.add(i * T::LANES)) }.max(m[i]);
        }
        m
    }

    /// The place of the first element that equals `m`; 0 if none does.
    ///
    /// # Safety
    /// `x` is valid for reading `n` elements.
    #[inline(always)]
    pub(crate) unsafe fn find<S: Isa + Simd<T>, T: Float>(s: S, x: *const T, n: usize, m: T) -> usize {
        let lanes = T::LANES;
        let wanted = Vector::splat(s, m);
        let mut j = 0;
        // SAFETY: every access ends at or before n.
        unsafe {
            while j < n {
                let v = if j + lanes <= n {
                    Vector::load(s, x.add(j))
                } else {
                    Vector::load_partial(s, x.add(j), n - j, T::NAN)
                };
                let here = v.equal(wanted);
                if here.any() {
                    return j + here.first_true();
                }
                j += lanes;
            }
        }
        0
    }

    /// The [`terms`] of `N` vectors from a place on (of the last only some lanes, if said). The exponentials are stored at
    /// `e` where `STORE`, before those of the next vectors are loaded: the compiler mixes these few, and no more than there
    /// are registers for.
    ///
    /// # Safety
    /// The rows are valid for reading and `e`, if `STORE`, for writing them.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "a part of one function")]
    unsafe fn some_terms<S: Isa + Simd<T>, T: Float, F: Terms<S, T>, const STORE: bool, const N: usize>(
        exp: &Exp<S, T>,
        m: Vector<S, T>,
        f: F,
        from: Source<T>,
        e: *mut T,
        (j, last): (usize, Option<usize>),
        group: &mut Group<S, T>,
        ties: &mut <S as Simd<T>>::Tally,
        place: (usize, usize),
    ) {
        let s = m.1;
        #[allow(clippy::manual_map, reason = "a closure is not told to be inlined")]
        let valid = match last {
            Some(lanes) => Some(Mask::first(s, lanes)),
            None => None,
        };
        // SAFETY: the caller's promise.
        unsafe {
            let rows = from.several::<S, N>(s, j, last, F::SECOND);
            let kept = terms(exp, m, f, rows, valid, group, ties, place);
            if STORE {
                for i in 0..N {
                    let e = e.add(j + i * T::LANES);
                    match last {
                        Some(lanes) if i == N - 1 => kept[i].store_partial(e, lanes),
                        _ => kept[i].store(e),
                    }
                }
            }
        }
    }

    /// Sums exponentials and what `f` adds, and stores the exponentials at `e` where `STORE`. `e` may be the row.
    ///
    /// # Safety
    /// The rows are valid for reading and `e`, if `STORE`, for writing `n` elements.
    #[inline(always)]
    pub(crate) unsafe fn exp_sum<S: Isa + Simd<T>, T: Float, F: Terms<S, T>, const STORE: bool>(
        s: S,
        exp: &RowExp<'_, T>,
        m: Vector<S, T>,
        f: F,
        from: Source<T>,
        e: *mut T,
        n: usize,
    ) -> Sum<S> {
        let exp = &exp.splat(s);
        let lanes = T::LANES;
        let mut ties = <S as Simd<T>>::Tally::new(s);
        let mut wide = [T::wide_zero(s); 1 + SUMS];
        let mut held = [Held::nothing(); HELD];
        // (Nothing is taken out of what is stored.)
        let from_row = STORE && F::ADDS == Adds::All && F::SUMS == 0;
        let counts = F::ADDS != Adds::All;
        // SAFETY: every access ends at or before n.
        unsafe {
            // First what is beyond the last group, at most four vectors and the last of them in part: it waits for itself, and
            // meanwhile the processor is in the groups. Two at once, for the same reason.
            let mut j = n - n % (GROUP * lanes);
            let mut rest = Group::zero(s);
            if j + 2 * lanes < n {
                let (at, place) = ((j, None), (HELD, 2));
                some_terms::<S, T, F, STORE, 2>(exp, m, f, from, e, at, &mut rest, &mut ties, place);
                j += 2 * lanes;
            }
            if j + lanes < n {
                let (at, place) = ((j, Some(n - j - lanes)), (HELD, 0));
                some_terms::<S, T, F, STORE, 2>(exp, m, f, from, e, at, &mut rest, &mut ties, place);
            } else if j < n {
                let (at, place) = ((j, Some(n - j)), (HELD, 0));
                some_terms::<S, T, F, STORE, 1>(exp, m, f, from, e, at, &mut rest, &mut ties, place);
            }
            j = 0;
            while j + GROUP * lanes <= n {
                let groups = ((n - j) / (GROUP * lanes)).min(HELD);
                for i in 0..groups {
                    from.prefetch(s, j, F::SECOND);
                    let mut group = Group::zero(s);
                    match S::INTERLEAVE {
                        4 => {
                            let (at, place) = ((j, None), (i, 0));
                            some_terms::<S, T, F, STORE, 4>(exp, m, f, from, e, at, &mut group, &mut ties, place);
                        }
                        2 => {
                            let (at, place) = ((j, None), (i, 0));
                            some_terms::<S, T, F, STORE, 2>(exp, m, f, from, e, at, &mut group, &mut ties, place);
                            let (at, place) = ((j + 2 * lanes, None), (i, 2));
                            some_terms::<S, T, F, STORE, 2>(exp, m, f, from, e, at, &mut group, &mut ties, place);
                        }
                        _ => {
                            for k in 0..GROUP {
                                let (at, place) = ((j + k * lanes, None), (i, k));
                                some_terms::<S, T, F, STORE, 1>(exp, m, f, from, e, at, &mut group, &mut ties, place);
                            }
                        }
                    }
                    if !from_row {
                        held[i].hold::<F>(&group);
                    }
                    j += GROUP * lanes;
                }
                if from_row {
                    let start = e.add(j - groups * GROUP * lanes);
                    for i in 0..groups {
                        let mut group = Group::zero(s);
                        for k in 0..GROUP {
                            group.parts[k] = Vector::load(s, start.add((i * GROUP + k) * lanes));
                        }
                        wide[0] = T::wide_merge(s, wide[0], widen::<S, T, F>(s, group.parts, GROUP));
                    }
                } else {
                    for group in &held[..groups] {
                        group.release::<F>(s, &mut wide);
                    }
                }
                if counts {
                    ties.settle(0..groups);
                }
            }
            from.prefetch_rest(s, n, F::SECOND);
            if counts {
                ties.settle(HELD..HELD + 1);
            }
            if !n.is_multiple_of(GROUP * lanes) {
                let mut group = widen::<S, T, F>(s, rest.parts, GROUP);
                if unrounded::<S, T, F>() {
                    let narrow = n <= lanes;
                    group = T::wide_add(s, group, if narrow { narrow_total(rest.beyond) } else { rest.beyond });
                }
                wide[0] = T::wide_merge(s, wide[0], group);
                for k in 0..F::SUMS {
                    wide[1 + k] = T::wide_add(s, wide[1 + k], rest.sums[k]);
                }
            }
        }
        Sum {
            folded: fold::<S, T, F>(s, wide),
            ties: if counts { ties.total() } else { 0.0 },
        }
    }

    /// Sums what `f` adds, without exponentials (`f` is given zeros). Brings the largest element as well.
    ///
    /// # Safety
    /// The rows are valid for reading `n` elements.
    #[inline(always)]
    pub(crate) unsafe fn sum<S: Isa + Simd<T>, T: Float, F: Terms<S, T>>(
        s: S,
        m: Vector<S, T>,
        f: F,
        from: Source<T>,
        n: usize,
    ) -> (Sum<S>, T) {
        let lanes = T::LANES;
        let zero = Vector::zero(s);
        // (Two suffice, and leave registers for the sums.)
        let mut max = [Vector::splat(s, T::NEG_INFINITY); 2];
        let mut wide = [T::wide_zero(s); 1 + SUMS];
        let mut j = 0;
        // SAFETY: every access ends at or before n.
        unsafe {
            let groups = whole_groups::<T>(j, n);
            while j < groups {
                from.prefetch(s, j, F::SECOND);
                let mut group = Group::zero(s);
                for i in 0..GROUP {
                    let [x, b] = from.load(s, j + i * lanes, F::SECOND);
                    max[i % 2] = x.max(max[i % 2]);
                    f.add(&mut group.sums, m, zero, x, b);
                }
                for k in 0..F::SUMS {
                    wide[1 + k] = T::wide_add(s, wide[1 + k], group.sums[k]);
                }
                j += GROUP * lanes;
            }
            from.prefetch_rest(s, n, F::SECOND);
            let mut group = Group::zero(s);
            while j + lanes <= n {
                let [x, b] = from.load(s, j, F::SECOND);
                max[0] = x.max(max[0]);
                f.add(&mut group.sums, m, zero, x, b);
                j += lanes;
            }
            if j < n {
                let valid = Mask::first(s, n - j);
                let [x, b] = from.load_partial(s, j, n - j, T::NEG_INFINITY, F::SECOND);
                max[1] = x.max(max[1]);
                let before = group;
                f.add(&mut group.sums, m, zero, x, b);
                group = group.only(valid, &before);
            }
            if n <= lanes {
                for k in 0..F::SUMS {
                    wide[1 + k] = T::widen(s, narrow_total(group.sums[k]));
                }
            } else {
                for k in 0..F::SUMS {
                    wide[1 + k] = T::wide_add(s, wide[1 + k], group.sums[k]);
                }
            }
        }
        let sum = Sum {
            folded: fold::<S, T, F>(s, wide),
            ties: 1.0,
        };
        (sum, max[0].max(max[1]).reduce_max())
    }

    /// All lanes added pairwise, in the first one.
    #[inline(always)]
    fn narrow_total<S: Simd<T>, T: Float>(lanes: Vector<S, T>) -> Vector<S, T> {
        let s = lanes.1;
        Vector::splat(s, lanes.reduce_sum()).select(Mask::first(s, 1), Vector::zero(s))
    }

    /// The sums with eight lanes each.
    #[inline(always)]
    fn fold<S: Isa + Simd<T>, T: Float, F: Terms<S, T>>(
        s: S,
        wide: [T::Wide<S>; 1 + SUMS],
    ) -> [[Vector<S, f64>; 2]; 1 + SUMS] {
        let mut folded = [[Vector::zero(s); 2]; 1 + SUMS];
        for k in 0..1 + F::SUMS {
            folded[k] = T::wide_fold(s, wide[k]);
        }
        folded
    }

    /// Maps `n` elements.
    ///
    /// # Safety
    /// The rows are valid for reading (`b` where `f` wants it) and what `to` says for writing `n` elements.
    #[inline(always)]
    pub(crate) unsafe fn map<S: Isa + Simd<T>, T: Float, F: Map<S, T>>(
        s: S,
        f: F,
        from: Source<T>,
        to: To<T>,
        n: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match to {
                To::Cache(y) => store(s, f, from, y, n),
                To::Memory(y, again) => stream(s, f, from, y, again, n),
                To::Line(y, again) => map_line(s, f, from, y, again, 0),
            }
        }
    }

    /// To the caches. `y` may be either row.
    ///
    /// # Safety
    /// As for [`map`].
    #[inline(always)]
    unsafe fn store<S: Isa + Simd<T>, T: Float, F: Map<S, T>>(s: S, f: F, from: Source<T>, y: *mut T, n: usize) {
        let lanes = T::LANES;
        let mut j = 0;
        // SAFETY: every access ends at or before n.
        unsafe {
            if S::ALIGNS && n >= 4 * GROUP * lanes {
                j = to_line(y);
                let [v, b] = from.load_partial(s, 0, j, T::ZERO, F::SECOND);
                f.apply(v, b).store_partial(y, j);
            }
            let groups = whole_groups::<T>(j, n);
            while j < groups {
                from.prefetch(s, j, F::SECOND);
                let group = from.group(s, j);
                let answer = f.ask(group);
                // (Of two rows so much is not held in registers: what was asked about is read once more.)
                let one_by_one = F::ASKS && F::SECOND;
                let mut results = group;
                for i in 0..GROUP {
                    let at = j + i * lanes;
                    let [v, b] = from.load(s, at, F::SECOND);
                    results[i] = f.apply_knowing(answer, v, b);
                    if one_by_one {
                        results[i].store(y.add(at));
                    }
                }
                if !one_by_one {
                    for i in 0..GROUP {
                        results[i].store(y.add(j + i * lanes));
                    }
                }
                j += GROUP * lanes;
            }
            while j + lanes <= n {
                let [v, b] = from.load(s, j, F::SECOND);
                f.apply(v, b).store(y.add(j));
                j += lanes;
            }
            if j < n {
                let [v, b] = from.load_partial(s, j, n - j, T::ZERO, F::SECOND);
                f.apply(v, b).store_partial(y.add(j), n - j);
            }
        }
    }

    /// Past the caches, for results that they could not hold. Whole cache lines are streamed; the two that
    /// the row shares with its neighbours are not, for a line that is streamed in parts is slower than one that is not
    /// streamed, and two threads may have them.
    ///
    /// # Safety
    /// As for [`map`]; `y` is aligned for `T`, and is neither row.
    #[inline(always)]
    unsafe fn stream<S: Isa + Simd<T>, T: Float, F: Map<S, T>>(
        s: S,
        f: F,
        from: Source<T>,
        y: *mut T,
        again: Option<usize>,
        n: usize,
    ) {
        let lanes = T::LANES;
        let mut j = n.min(to_line(y));
        // SAFETY: every access ends at or before n, and after the first part a vector is a line.
        unsafe {
            if j > 0 {
                let [v, b] = from.load_partial(s, 0, j, T::ZERO, F::SECOND);
                f.apply(v, b).store_partial(y, j);
            }
            let groups = whole_groups::<T>(j, n);
            while F::ASKS && j < groups {
                let group = from.group(s, j);
                let answer = f.ask(group);
                for i in 0..GROUP {
                    let at = j + i * lanes;
                    let [v, b] = if F::SECOND {
                        from.load(s, at, true)
                    } else {
                        [group[i], Vector::zero(s)]
                    };
                    stream_line(f.apply_knowing(answer, v, b), y, again, at);
                }
                j += GROUP * lanes;
            }
            while j + lanes <= n {
                map_line(s, f, from, y, again, j);
                j += lanes;
            }
            if j < n {
                let [v, b] = from.load_partial(s, j, n - j, T::ZERO, F::SECOND);
                f.apply(v, b).store_partial(y.add(j), n - j);
            }
        }
    }

    /// Maps the elements from `j` on that are a cache line of results, and streams it.
    ///
    /// # Safety
    /// As for [`map`]; `y + j` is aligned as lines are.
    #[inline(always)]
    unsafe fn map_line<S: Isa + Simd<T>, T: Float, F: Map<S, T>>(
        s: S,
        f: F,
        from: Source<T>,
        y: *mut T,
        again: Option<usize>,
        j: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let [v, b] = from.load(s, j, F::SECOND);
            stream_line(f.apply(v, b), y, again, j);
        }
    }

    /// Streams a cache line, unless an element of it will be written once more.
    ///
    /// # Safety
    /// As for [`map_line`].
    #[inline(always)]
    unsafe fn stream_line<S: Isa + Simd<T>, T: Float>(v: Vector<S, T>, y: *mut T, again: Option<usize>, j: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match again {
                Some(again) if again.wrapping_sub(j) < T::LANES => v.store(y.add(j)),
                _ => v.stream(y.add(j)),
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

    /// The number in the second panel where the first has `m`, at the first such place of each row; and the places. Zeros
    /// where there is none.
    ///
    /// # Safety
    /// Both are valid for reading a panel of `n`.
    #[inline(always)]
    pub(crate) unsafe fn find<S: Isa + Simd<T>, T: Float>(
        s: S,
        x: *const T,
        b: *const T,
        n: usize,
        m: Vector<S, T>,
    ) -> [Vector<S, T>; 2] {
        let mut found = [Vector::zero(s); 2];
        for j in (0..n).rev() {
            // SAFETY: every access is to the panels.
            unsafe {
                let here = Vector::load(s, x.add(j * T::LANES)).equal(m);
                found[0] = Vector::load(s, b.add(j * T::LANES)).select(here, found[0]);
                found[1] = Vector::splat(s, T::from_f64(j as f64)).select(here, found[1]);
            }
        }
        found
    }

    /// Adds `N` elements of virtual lane `l`, `LANES` elements apart, the first at `start`. (As many as there are, known to
    /// the compiler: asked for one after the other, registers change places at each way out.)
    ///
    /// # Safety
    /// `x` is valid for reading and writing a panel with them, `b` for reading one.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "a part of one function")]
    unsafe fn group<S: Isa + Simd<T>, T: Float, F: Terms<S, T>, const EXP: bool, const STORE: bool, const N: usize>(
        exp: &Exp<S, T>,
        m: Vector<S, T>,
        f: F,
        (x, b): (*mut T, *const T),
        start: usize,
        next: *const T,
        (ties, l): (&mut <S as Simd<T>>::Tally, usize),
    ) -> ([T::Wide<S>; 1 + SUMS], Vector<S, T>) {
        let s = m.1;
        let mut sum = Group::zero(s);
        for i in 0..N {
            let j = start + i * T::LANES;
            // SAFETY: the caller's promise.
            unsafe {
                let p = x.add(j * T::LANES);
                if EXP {
                    s.prefetch(next.wrapping_add(j * T::LANES).cast());
                }
                let second = if F::SECOND {
                    Vector::load(s, b.add(j * T::LANES))
                } else {
                    Vector::zero(s)
                };
                let x = Vector::load(s, p);
                if EXP {
                    let [kept] = terms(exp, m, f, [[x], [second]], None, &mut sum, ties, (l, i));
                    if STORE {
                        kept.store(p);
                    }
                } else {
                    f.add(&mut sum.sums, m, Vector::zero(s), x, second);
                }
            }
        }
        let mut wide = [T::wide_zero(s); 1 + SUMS];
        if EXP {
            wide[0] = widen::<S, T, F>(s, sum.parts, N);
        }
        for k in 0..F::SUMS {
            wide[1 + k] = T::widen(s, sum.sums[k]);
        }
        (wide, sum.beyond)
    }

    /// Sums what `f` adds, without exponentials, of rows of at most `LANES` elements.
    ///
    /// # Safety
    /// The first is valid for reading a panel of `n`, the second as well if `f` wants it.
    #[inline(always)]
    unsafe fn narrow_sum<S: Isa + Simd<T>, T: Float, F: Terms<S, T>>(
        m: Vector<S, T>,
        f: F,
        (x, b): (*mut T, *const T),
        n: usize,
    ) -> [T::Wide<S>; 1 + SUMS] {
        let (s, half) = (m.1, T::LANES / 2);
        let zero = Vector::zero(s);
        let mut lanes = [[zero; 8]; SUMS];
        for l in 0..half.min(n) {
            let mut sums = [[zero; SUMS]; 2];
            for i in 0..2 {
                let j = l + i * half;
                if j < n {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let x = Vector::load(s, x.add(j * T::LANES));
                        let second = if F::SECOND {
                            Vector::load(s, b.add(j * T::LANES))
                        } else {
                            zero
                        };
                        f.add(&mut sums[i], m, zero, x, second);
                    }
                }
            }
            for k in 0..F::SUMS {
                lanes[k][l] = if l + half < n {
                    sums[0][k] + sums[1][k]
                } else {
                    sums[0][k]
                };
            }
        }
        let mut step = half / 2;
        while step > 0 {
            for l in 0..step {
                for k in 0..F::SUMS {
                    lanes[k][l] = lanes[k][l] + lanes[k][l + step];
                }
            }
            step /= 2;
        }
        let mut wide = [T::wide_zero(s); 1 + SUMS];
        for k in 0..F::SUMS {
            wide[1 + k] = T::widen(s, lanes[k][0]);
        }
        wide
    }

    /// Sums exponentials (if `EXP`) and what `f` adds, and leaves the exponentials in the panel where `STORE`. Brings the
    /// sums and the number of maxima for each row. Meanwhile (if `EXP`) asks for `n` cache lines from `next` on, one with
    /// each element. (Always: a branch would cost more than to ask for what is there, the panel itself.)
    ///
    /// # Safety
    /// `x` is valid for reading and writing a panel of `n`, `b` for reading one if `f` wants it.
    #[inline(always)]
    pub(crate) unsafe fn sum<S: Isa + Simd<T>, T: Float, F: Terms<S, T>, const EXP: bool, const STORE: bool>(
        s: S,
        exp: &Exp<S, T>,
        m: Vector<S, T>,
        f: F,
        panels: (*mut T, *const T),
        n: usize,
        next: *const T,
    ) -> ([T::Wide<S>; 1 + SUMS], Vector<S, T>) {
        let lanes = T::LANES;
        if !EXP && n <= lanes {
            // SAFETY: the caller's promise.
            return (unsafe { narrow_sum(m, f, panels, n) }, Vector::zero(s));
        }
        let first = if EXP { 0 } else { 1 };
        let mut ties = <S as Simd<T>>::Tally::new(s);
        // (Lanes are written in the first group: to fill all of this beforehand would take as long as a short panel.)
        let mut wide = [[MaybeUninit::<T::Wide<S>>::uninit(); 16]; 1 + SUMS];
        let mut beyond = [MaybeUninit::<Vector<S, T>>::uninit(); 16];
        let apart = EXP && unrounded::<S, T, F>();
        let mut j = 0;
        while j < n {
            let end = n.min(j + GROUP * lanes);
            let used = lanes.min(end - j);
            for l in 0..used {
                let at = j + l;
                let count = (end - at).div_ceil(lanes);
                let tally = (&mut ties, l);
                // SAFETY: the caller's promise.
                let (mut sums, rest) = unsafe {
                    match count {
                        1 => group::<S, T, F, EXP, STORE, 1>(exp, m, f, panels, at, next, tally),
                        2 => group::<S, T, F, EXP, STORE, 2>(exp, m, f, panels, at, next, tally),
                        3 => group::<S, T, F, EXP, STORE, 3>(exp, m, f, panels, at, next, tally),
                        _ => group::<S, T, F, EXP, STORE, 4>(exp, m, f, panels, at, next, tally),
                    }
                };
                if apart && n <= lanes {
                    beyond[l].write(rest);
                } else if apart {
                    sums[0] = T::wide_add(s, sums[0], rest);
                }
                for k in first..1 + F::SUMS {
                    // (Nothing to add to in the first group, and most panels have but one.)
                    let sum = if j == 0 {
                        sums[k]
                    } else {
                        // SAFETY: the first group has as many lanes as any.
                        T::wide_merge(s, unsafe { wide[k][l].assume_init() }, sums[k])
                    };
                    wide[k][l].write(sum);
                }
            }
            if EXP && F::ADDS != Adds::All {
                ties.settle_lanes(0..used);
            }
            j += GROUP * lanes;
        }
        // Adding the zero of a lane that no element fell into changes nothing, so it is left out.
        let mut step = lanes / 2;
        while apart && n <= lanes && step > 0 {
            for l in 0..step {
                if l + step < n {
                    // SAFETY: as many were written.
                    unsafe { beyond[l].write(beyond[l].assume_init() + beyond[l + step].assume_init()) };
                }
            }
            step /= 2;
        }
        if apart && n > 0 && n <= lanes {
            // SAFETY: there is a first lane.
            unsafe { wide[0][0].write(T::wide_add(s, wide[0][0].assume_init(), beyond[0].assume_init())) };
        }
        let mut step = lanes / 2;
        while step > 0 {
            for l in 0..step {
                if l + step < n {
                    for k in first..1 + F::SUMS {
                        // SAFETY: the first `n` lanes were written.
                        let (low, high) = unsafe { (wide[k][l].assume_init(), wide[k][l + step].assume_init()) };
                        wide[k][l].write(T::wide_merge(s, low, high));
                    }
                }
            }
            step /= 2;
        }
        let mut sums = [T::wide_zero(s); 1 + SUMS];
        if n > 0 {
            for k in first..1 + F::SUMS {
                // SAFETY: there is a first lane.
                sums[k] = unsafe { wide[k][0].assume_init() };
            }
        }
        (sums, ties.lanes(s))
    }
}
