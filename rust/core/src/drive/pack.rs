//! Between memory of any layout and rows of consecutive numbers of the type that arithmetic runs in.

use super::details::Blend;
use super::plan::{Place, Plan};
use crate::element::{Element, Stored, Visitor, read};
use crate::math::tanh;
use crate::problem::{Array, Dtype};
use crate::simd::{Float, Isa, Kernel, Lanes, Simd, Vector, plain};

/// Copies scores `start..start + len` of the row at `row` to `to`, converted and capped; -inf where the mask is false.
///
/// # Safety
/// The problem's arrays are valid; `to` is valid for writing `len` elements.
#[inline(always)]
pub(crate) unsafe fn pack<S: Isa + Simd<T>, T: Stored>(
    s: S,
    plan: &Plan<'_>,
    row: Place,
    start: usize,
    len: usize,
    to: *mut T,
) {
    let part = (row, start, len);
    s.apart(Pack {
        plan,
        part,
        to,
        second: false,
    });
}

/// The same for the second array, with what the targets of a loss need; zero where the mask is false.
///
/// # Safety
/// The problem's arrays are valid; `to` is valid for writing `len` elements.
#[inline(always)]
pub(crate) unsafe fn pack_second<S: Isa + Simd<T>, T: Stored>(
    s: S,
    plan: &Plan<'_>,
    row: Place,
    start: usize,
    len: usize,
    to: *mut T,
) {
    let part = (row, start, len);
    s.apart(Pack {
        plan,
        part,
        to,
        second: true,
    });
}

/// A part of a row, of a valid problem, with memory to copy it to.
struct Pack<'a, 'b, T> {
    plan: &'b Plan<'a>,
    part: (Place, usize, usize),
    to: *mut T,
    second: bool,
}

impl<T: Stored> Kernel<T> for Pack<'_, '_, T> {
    type Out = ();
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        let Self { plan, part, to, second } = self;
        let problem = plan.problem;
        // SAFETY: `pack` and `pack_second` were called with valid arrays.
        unsafe {
            if !second {
                copy::<S, T, false>(s, plan, &problem.x, problem.out.dtype, part, to);
                if let Some(limit) = plan.details.softcap {
                    softcap(to, part.2, limit);
                }
                blank_row(plan, part, to, T::from_f64(plan.blank));
                return;
            }
            if let Some(second) = &problem.second {
                copy::<S, T, true>(s, plan, second, T::DTYPE, part, to);
            }
            if let Some(how) = &plan.details.blend {
                blend(plan, how, part, to);
            }
            blank_second(plan, part, to);
        }
    }
}

/// Sets the elements of a second row whose truth is false. The share of a class stays, though no score is there: its loss
/// is infinite.
///
/// # Safety
/// The problem's arrays are valid; `to` is valid for writing `len` elements.
#[inline(always)]
unsafe fn blank_second<T: Stored>(plan: &Plan<'_>, (row, start, len): (Place, usize, usize), to: *mut T) {
    if plan.problem.mask.is_none() {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let mut blank = T::ZERO;
        if plan.extends_second
            && let (Some(second), Some(first)) = (&plan.problem.second, first(plan, row))
        {
            raw::<T, true>(plan, second, T::DTYPE, (row, first, 1), &raw mut blank);
        }
        blank_row(plan, (row, start, len), to, blank);
        if let Some(how) = &plan.details.blend
            && plan.problem.second.is_none()
            && let Some(class) = plan.details.class(row.row)
            && (start..start + len).contains(&class)
            && !takes_part(plan, row, class)
        {
            let weight = how.weights.get(class).copied().unwrap_or(1.0);
            *to.add(class - start) = T::from_f64(weight * how.keep);
        }
    }
}

/// Whether the mask lets an element take part.
///
/// # Safety
/// The problem's arrays are valid.
unsafe fn takes_part(plan: &Plan<'_>, row: Place, j: usize) -> bool {
    let run = Run::find(plan, row, j, 1);
    let mask = plan.problem.mask.as_ref();
    // SAFETY: the run is part of the row.
    mask.is_none_or(|mask| unsafe { *mask.ptr.offset(run.place.mask) } != 0)
}

/// The first element that takes part.
///
/// # Safety
/// The problem's arrays are valid.
#[inline(never)]
unsafe fn first(plan: &Plan<'_>, row: Place) -> Option<usize> {
    // SAFETY: the caller's promise.
    (0..plan.n).find(|&j| unsafe { takes_part(plan, row, j) })
}

/// Copies elements of a row of `x` or of the second array, converted to `dtype` and from there to `T`.
///
/// # Safety
/// The problem's arrays are valid; `to` is valid for writing `len` elements.
#[inline(always)]
unsafe fn copy<S: Isa + Simd<T>, T: Stored, const SECOND: bool>(
    s: S,
    plan: &Plan<'_>,
    array: &Array<'_>,
    dtype: Dtype,
    (row, start, len): (Place, usize, usize),
    to: *mut T,
) {
    let converts = (array.dtype != dtype && !SECOND) || array.swapped;
    let mut done = 0;
    while done < len {
        let run = Run::find(plan, row, start + done, len - done);
        let (place, step) = if SECOND {
            (run.place.second, run.step.second)
        } else {
            (run.place.x, run.step.x)
        };
        // SAFETY: the run is part of the row.
        unsafe {
            let (from, to) = (array.ptr.offset(place), to.add(done));
            let load = Load {
                s,
                from,
                to,
                count: run.count,
            };
            // (What is computed in `T` becomes it without loss.)
            let neighbours = step == array.dtype.size() as isize;
            if converts || !neighbours || T::visit(array.dtype, load).is_none() {
                gather(array.dtype, array.swapped, dtype, from, step, to, run.count);
            }
        }
        done += run.count;
    }
}

/// Sets the elements of a row at `to` whose truth is false.
///
/// # Safety
/// The problem's arrays are valid; `to` is valid for writing `len` elements.
#[inline(always)]
unsafe fn blank_row<T: Stored>(plan: &Plan<'_>, (row, start, len): (Place, usize, usize), to: *mut T, value: T) {
    let Some(mask) = &plan.problem.mask else { return };
    let mut done = 0;
    while done < len {
        let run = Run::find(plan, row, start + done, len - done);
        // SAFETY: the run is part of the row.
        unsafe {
            blank(
                mask.ptr.offset(run.place.mask),
                run.step.mask,
                to.add(done),
                run.count,
                value,
            );
        }
        done += run.count;
    }
}

/// How many elements of a row the mask lets take part.
///
/// # Safety
/// The problem's arrays are valid.
pub(crate) unsafe fn count(plan: &Plan<'_>, row: Place) -> usize {
    let Some(mask) = &plan.problem.mask else { return plan.n };
    let (mut done, mut count) = (0, 0);
    while done < plan.n {
        let run = Run::find(plan, row, done, plan.n - done);
        for i in 0..run.count {
            // SAFETY: the run is part of the row.
            count += usize::from(
                unsafe {
                    *mask
                        .ptr
                        .offset(run.place.mask.wrapping_add(run.step.mask.wrapping_mul(i as isize)))
                } != 0,
            );
        }
        done += run.count;
    }
    count
}

/// Makes the numbers of a loss from targets at `to`; of a row with a class, whatever is there.
///
/// # Safety
/// `to` is valid for reading and writing `len` elements.
#[inline(never)]
unsafe fn blend<T: Stored>(plan: &Plan<'_>, how: &Blend<'_>, (row, start, len): (Place, usize, usize), to: *mut T) {
    let classes = how.counts.get(row.row as usize).copied().unwrap_or(plan.n as f64);
    let spread = how.spread / classes;
    let class = plan.details.class(row.row).map(|class| class.wrapping_sub(start));
    let has_targets = plan.problem.second.is_some();
    for i in 0..len {
        // SAFETY: the caller's promise.
        let p = unsafe { to.add(i) };
        let target = if has_targets {
            // SAFETY: see above.
            unsafe { *p }.to_f64()
        } else {
            f64::from(u8::from(class == Some(i)))
        };
        let weight = how.weights.get(start + i).copied().unwrap_or(1.0);
        // SAFETY: see above.
        unsafe { *p = T::from_f64(weight * (how.keep * target + spread)) };
    }
}

/// Caps scores.
///
/// # Safety
/// `to` is valid for reading and writing `len` elements.
#[inline(never)]
unsafe fn softcap<T: Stored>(to: *mut T, len: usize, limit: f64) {
    let s = plain();
    for start in (0..len).step_by(8) {
        let mut lanes = Lanes([0.0; 16]);
        let count = 8.min(len - start);
        // SAFETY: the caller's promise.
        unsafe {
            for i in 0..count {
                lanes.0[i] = (*to.add(start + i)).to_f64();
            }
            let capped = tanh::softcap(Vector::from_lanes(s, &lanes), limit).to_lanes();
            for i in 0..count {
                *to.add(start + i) = T::from_f64(capped.0[i]);
            }
        }
    }
}

/// Numbers of a row as they are in memory, converted.
///
/// # Safety
/// The problem's arrays are valid; `to` is valid for writing `len` elements.
unsafe fn raw<T: Stored, const SECOND: bool>(
    plan: &Plan<'_>,
    array: &Array<'_>,
    dtype: Dtype,
    (row, start, len): (Place, usize, usize),
    to: *mut T,
) {
    let mut done = 0;
    while done < len {
        let run = Run::find(plan, row, start + done, len - done);
        let (place, step) = if SECOND {
            (run.place.second, run.step.second)
        } else {
            (run.place.x, run.step.x)
        };
        // SAFETY: the run is part of the row.
        unsafe {
            let from = array.ptr.offset(place);
            gather(array.dtype, array.swapped, dtype, from, step, to.add(done), run.count);
        }
        done += run.count;
    }
}

/// One number of a row as [`pack`] has it.
///
/// # Safety
/// The problem's arrays are valid.
pub(crate) unsafe fn score_at<T: Stored>(plan: &Plan<'_>, row: Place, j: usize) -> T {
    let mut number = [T::ZERO; 1];
    let to = number.as_mut_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        raw::<T, false>(plan, &plan.problem.x, plan.problem.out.dtype, (row, j, 1), to);
        if let Some(limit) = plan.details.softcap {
            softcap(to, 1, limit);
        }
        blank_row(plan, (row, j, 1), to, T::from_f64(plan.blank));
    }
    number[0]
}

/// One number of a row as [`pack_second`] has it.
///
/// # Safety
/// The problem's arrays are valid.
pub(crate) unsafe fn second_at<T: Stored>(plan: &Plan<'_>, row: Place, j: usize) -> T {
    let mut number = [T::ZERO; 1];
    let to = number.as_mut_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(second) = &plan.problem.second {
            raw::<T, true>(plan, second, T::DTYPE, (row, j, 1), to);
        }
        if let Some(how) = &plan.details.blend {
            blend(plan, how, (row, j, 1), to);
        }
        blank_second(plan, (row, j, 1), to);
    }
    number[0]
}

/// Multiplies derivatives with respect to capped scores by the cap's own.
///
/// # Safety
/// The problem's arrays are valid; `to` is valid for reading and writing `len` elements.
#[inline(never)]
unsafe fn uncap<T: Stored>(plan: &Plan<'_>, (row, start, len): (Place, usize, usize), to: *mut T, limit: f64) {
    let s = plain();
    for done in (0..len).step_by(8) {
        let mut scores = [T::ZERO; 8];
        let mut lanes = Lanes([0.0; 16]);
        let count = 8.min(len - done);
        // SAFETY: the caller's promise.
        unsafe {
            let (x, dtype) = (&plan.problem.x, plan.problem.out.dtype);
            raw::<T, false>(plan, x, dtype, (row, start + done, count), scores.as_mut_ptr());
            for i in 0..count {
                lanes.0[i] = scores[i].to_f64();
            }
            let slopes = tanh::softcap_slope(Vector::from_lanes(s, &lanes), limit).to_lanes();
            for i in 0..count {
                let p = to.add(done + i);
                let derivative = (*p).to_f64() * slopes.0[i];
                // The slope of a NaN has that one's payload, and infinity times 0 a sign that differs between processors.
                *p = if derivative.is_nan() {
                    T::NAN
                } else {
                    T::from_f64(derivative)
                };
            }
        }
    }
}

/// Copies `len` results at `from` to elements `start..` of the row at `row`, converted; `masked` where the mask is false.
///
/// # Safety
/// The problem's arrays are valid; `from` is valid for reading and writing `len` elements.
#[inline(always)]
pub(crate) unsafe fn unpack<S: Isa + Simd<T>, T: Stored>(
    s: S,
    plan: &Plan<'_>,
    row: Place,
    start: usize,
    len: usize,
    from: *mut T,
    masked: T,
) {
    let part = (row, start, len);
    s.apart(Unpack {
        plan,
        part,
        from,
        masked,
    });
}

/// Results for a part of a row of a valid problem.
struct Unpack<'a, 'b, T> {
    plan: &'b Plan<'a>,
    part: (Place, usize, usize),
    from: *mut T,
    masked: T,
}

impl<T: Stored> Kernel<T> for Unpack<'_, '_, T> {
    type Out = ();
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        let Self {
            plan,
            part,
            from,
            masked,
        } = self;
        let (row, start, len) = part;
        let out = &plan.problem.out;
        let mut done = 0;
        // SAFETY: `unpack` was called with valid arrays.
        unsafe {
            if let Some(limit) = plan.details.softcap
                && !plan.details.skips(row.row)
            {
                // (In place the scores are still there.)
                uncap(plan, part, from, limit);
            }
            blank_row(plan, part, from, masked);
            while done < len {
                let run = Run::find(plan, row, start + done, len - done);
                let to = out.ptr.offset(run.place.out);
                save_here(s, out.dtype, from.add(done), to, run.step.out, run.count);
                done += run.count;
            }
        }
    }
}

/// Sets the numbers whose truth is false.
///
/// # Safety
/// `truth` and `step` name `count` bytes; `to` is valid for reading and writing `count` numbers.
#[inline(always)]
unsafe fn blank<T: Float>(truth: *const u8, step: isize, to: *mut T, count: usize, value: T) {
    // SAFETY: the caller's promise.
    unsafe {
        if step == 1 {
            // Without a branch, so that it becomes vector code.
            for i in 0..count {
                let (p, kept) = (to.add(i), *truth.add(i) != 0);
                *p = if kept { *p } else { value };
            }
        } else {
            for i in 0..count {
                if *truth.offset(step.wrapping_mul(i as isize)) == 0 {
                    *to.add(i) = value;
                }
            }
        }
    }
}

/// Writes the one number of each of some reduced rows, from that at `first` on, whose results are `step` bytes apart.
///
/// # Safety
/// The problem's arrays are valid, and have these rows.
#[inline(always)]
pub(crate) unsafe fn write_values<S: Isa + Simd<T>, T: Stored>(
    s: S,
    plan: &Plan<'_>,
    first: Place,
    step: isize,
    values: &mut [T],
) {
    let out = &plan.problem.out;
    // SAFETY: the caller's promise.
    unsafe {
        let to = out.ptr.offset(first.out);
        save(s, out.dtype, values.as_mut_ptr(), to, step, values.len());
    }
}

/// Writes `count` numbers as elements of a float dtype, `step` bytes apart.
///
/// # Safety
/// `from` is valid for reading them, `to` and `step` name as many elements.
#[inline(always)]
unsafe fn save_here<S: Isa + Simd<T>, T: Stored>(
    s: S,
    dtype: Dtype,
    from: *mut T,
    to: *mut u8,
    step: isize,
    count: usize,
) {
    let save = Save {
        s,
        from,
        to,
        step,
        count,
    };
    // The result's dtype is always one that is computed in T.
    let _ = T::visit(dtype, save);
}

/// The same, as a function of its own.
///
/// # Safety
/// See there.
#[inline(always)]
pub(crate) unsafe fn save<S: Isa + Simd<T>, T: Stored>(
    s: S,
    dtype: Dtype,
    from: *mut T,
    to: *mut u8,
    step: isize,
    count: usize,
) {
    s.apart(SaveApart {
        dtype,
        from,
        to,
        step,
        count,
    });
}

/// Valid numbers and memory for them.
struct SaveApart<T> {
    dtype: Dtype,
    from: *mut T,
    to: *mut u8,
    step: isize,
    count: usize,
}

impl<T: Stored> Kernel<T> for SaveApart<T> {
    type Out = ();
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        // SAFETY: `save` was called with valid memory.
        unsafe { save_here(s, self.dtype, self.from, self.to, self.step, self.count) };
    }
}

/// Elements of a row along its innermost axis.
struct Run {
    place: Place,
    step: Place,
    count: usize,
}

impl Run {
    /// From element `start` of the row at `row` on, at most `limit` of them.
    #[inline(always)]
    fn find(plan: &Plan<'_>, row: Place, start: usize, limit: usize) -> Self {
        match plan.reduced() {
            [] => Self {
                place: row,
                step: Place::ORIGIN,
                count: 1,
            },
            [axis] => Self {
                place: row.plus(axis.step, start),
                step: axis.step,
                count: limit,
            },
            [.., inner] => Self {
                place: row.plus(plan.element(start), 1),
                step: inner.step,
                count: limit.min(inner.len - start % inner.len),
            },
        }
    }
}

/// Numbers of any dtype, any distance apart.
///
/// # Safety
/// `from` and `step` name `count` elements; `to` is valid for writing them.
#[inline(never)]
unsafe fn gather<T: Float>(
    dtype: Dtype,
    swapped: bool,
    out: Dtype,
    from: *const u8,
    step: isize,
    to: *mut T,
    count: usize,
) {
    // A loop for each dtype, so that none decides anew for each element.
    macro_rules! each {
        ($($dtype:ident),+) => {
            match dtype {
                $(Dtype::$dtype => {
                    for i in 0..count {
                        // SAFETY: the caller's promise.
                        unsafe {
                            let p = from.offset(step.wrapping_mul(i as isize));
                            // (Straight into a result that is misaligned, perhaps.)
                            to.add(i).write_unaligned(read::<T>(p, Dtype::$dtype, swapped, out));
                        }
                    }
                })+
            }
        };
    }
    each!(Bool, I8, I16, I32, I64, U8, U16, U32, U64, F16, Bf16, F32, F64);
}

/// Consecutive elements to consecutive numbers.
struct Load<S, T> {
    s: S,
    from: *const u8,
    to: *mut T,
    count: usize,
}

impl<S: Isa + Simd<T>, T: Float> Visitor<T> for Load<S, T> {
    type Out = ();
    #[inline(always)]
    fn visit<E: Element<Float = T>>(self) {
        let from = self.from.cast::<E>();
        let mut i = 0;
        // SAFETY: `count` elements are there.
        unsafe {
            while i + T::LANES <= self.count {
                E::load(self.s, from.add(i)).store(self.to.add(i));
                i += T::LANES;
            }
            if i < self.count {
                load_some(self.s, from.add(i), self.count - i).store_partial(self.to.add(i), self.count - i);
            }
        }
    }
}

/// Consecutive numbers to elements, consecutive or not.
struct Save<S, T> {
    s: S,
    from: *mut T,
    to: *mut u8,
    step: isize,
    count: usize,
}

impl<S: Isa + Simd<T>, T: Float> Visitor<T> for Save<S, T> {
    type Out = ();
    #[inline(always)]
    fn visit<E: Element<Float = T>>(self) {
        // SAFETY: `count` elements are there.
        unsafe {
            if self.step != size_of::<E>() as isize {
                for i in 0..self.count {
                    let p = self.to.offset(self.step.wrapping_mul(i as isize));
                    p.cast::<E>().write_unaligned(E::from_float(*self.from.add(i)));
                }
                return;
            }
            let to = self.to.cast::<E>();
            let mut i = 0;
            while i + T::LANES <= self.count {
                E::store(Vector::load(self.s, self.from.add(i)), to.add(i));
                i += T::LANES;
            }
            if i < self.count {
                let v = Vector::load_partial(self.s, self.from.add(i), self.count - i, T::ZERO);
                store_some(v, to.add(i), self.count - i);
            }
        }
    }
}

/// The first `n` lanes of a vector; the rest are zero.
///
/// # Safety
/// `p` is valid for reading `n` elements.
#[inline(always)]
pub(super) unsafe fn load_some<S: Isa + Simd<E::Float>, E: Element>(
    s: S,
    p: *const E,
    n: usize,
) -> Vector<S, E::Float> {
    let mut buffer = [E::FILL; 16];
    // SAFETY: the buffer holds a vector; the caller vouches for `p`.
    unsafe {
        for i in 0..n {
            buffer[i] = p.add(i).read_unaligned();
        }
        E::load(s, buffer.as_ptr())
    }
}

/// Stores the first `n` lanes.
///
/// # Safety
/// `p` is valid for writing `n` elements.
#[inline(always)]
pub(super) unsafe fn store_some<S: Isa + Simd<E::Float>, E: Element>(v: Vector<S, E::Float>, p: *mut E, n: usize) {
    let mut buffer = [E::FILL; 16];
    // SAFETY: the buffer holds a vector; the caller vouches for `p`.
    unsafe {
        E::store(v, buffer.as_mut_ptr());
        for i in 0..n {
            p.add(i).write_unaligned(buffer[i]);
        }
    }
}
