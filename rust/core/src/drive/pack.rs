//! Between memory of any layout and rows of consecutive numbers of the type that arithmetic runs in.

use super::plan::{Place, Plan};
use crate::element::{Element, Stored, Visitor, read};
use crate::problem::Dtype;
use crate::simd::{Float, Isa, Simd, Vector};

/// Copies elements `start..start + len` of the row at `row` to `to`, converted; -inf where the mask is false.
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
    let problem = plan.problem;
    let x = &problem.x;
    let converts = x.dtype != problem.out.dtype || x.swapped;
    let mut done = 0;
    while done < len {
        let run = Run::find(plan, row, start + done, len - done);
        // SAFETY: the run is part of the row.
        unsafe {
            let (from, to) = (x.ptr.offset(run.place.x), to.add(done));
            let load = Load {
                s,
                from,
                to,
                count: run.count,
            };
            let neighbours = run.step.x == x.dtype.size() as isize;
            if converts || !neighbours || T::visit(x.dtype, load).is_none() {
                gather(x.dtype, x.swapped, problem.out.dtype, from, run.step.x, to, run.count);
            }
            if let Some(mask) = &problem.mask {
                blank(
                    mask.ptr.offset(run.place.mask),
                    run.step.mask,
                    to,
                    run.count,
                    T::NEG_INFINITY,
                );
            }
        }
        done += run.count;
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
    let problem = plan.problem;
    let out = &problem.out;
    let mut done = 0;
    while done < len {
        let run = Run::find(plan, row, start + done, len - done);
        // SAFETY: the run is part of the row.
        unsafe {
            let (from, to) = (from.add(done), out.ptr.offset(run.place.out));
            if let Some(mask) = &problem.mask {
                blank(mask.ptr.offset(run.place.mask), run.step.mask, from, run.count, masked);
            }
            // The result's dtype is always one that is computed in T.
            let _ = T::visit(
                out.dtype,
                Save {
                    s,
                    from,
                    to,
                    step: run.step.out,
                    count: run.count,
                },
            );
        }
        done += run.count;
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

/// Writes the one number of a reduced row.
///
/// # Safety
/// The problem's arrays are valid.
#[inline(always)]
pub(crate) unsafe fn write_value<S: Isa + Simd<T>, T: Stored>(s: S, plan: &Plan<'_>, row: Place, value: T) {
    let out = &plan.problem.out;
    let mut value = value;
    // SAFETY: `row` is a row of the problem.
    unsafe {
        let to = out.ptr.offset(row.out);
        let _ = T::visit(
            out.dtype,
            Save {
                s,
                from: &raw mut value,
                to,
                step: 0,
                count: 1,
            },
        );
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
                            *to.add(i) = read::<T>(p, Dtype::$dtype, swapped, out);
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
