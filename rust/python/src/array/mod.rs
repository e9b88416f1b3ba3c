//! NumPy in and out: the one dtype `match`, strided memory, `out=` and who may overlap whom, new arrays; [`call`] and
//! [`loss`] put the arrays of a call together, [`run`] calls core, with the GIL or without it.
//!
//! All `unsafe` code of this crate is in this folder. rust-numpy's safe borrows would not do: `softmax(x, out=x)` is an
//! error to them, each one costs 50 to 100 ns, shapes such as (2, 0) panic. So this file reads the array struct itself.
//!
//! # Why the pointers stay good
//!
//! Any Python code may resize an array, give it another shape or drop it, and so may another thread whenever Python code
//! runs. A call therefore has two halves. In the first (arguments.rs) the arguments become arrays, by whatever Python
//! code their types bring along; no pointer is kept. In the second, [`Call::evaluate`] or `CrossEntropy::evaluate`, no
//! Python code runs any more: pointers, shapes and strides are read, copied to our own memory, checked and used. Only
//! the kernels of a large call run without the GIL, and then with the [`Shield`](run::Shield) up.
//!
//! Elements may change while they are read (another thread writes to them, with or without the GIL): nothing is read
//! through references, only through raw pointers, by code that accepts any value.

mod call;
mod loss;
#[cfg(unix)]
mod memory;
mod run;

pub use call::Call;
pub use loss::{CrossEntropy, IGNORED, Target, Terms};

use std::ffi::{c_int, c_long};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicI32, Ordering};

use numpy::npyffi::{
    _PyArray_GET_ITEM_DATA, _PyDataType_GET_ITEM_DATA, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_F_CONTIGUOUS,
    NPY_ARRAY_WRITEABLE, NPY_ORDER, NPY_TYPES, NpyTypes, PY_ARRAY_API, PyArrayObject_fields, get_type_object,
};
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use softmax_core::simd::with_default_mode;
use softmax_core::{Array as Operand, Dtype};

use crate::error;
use crate::grid::{Axes, broadcast, count, for_each, same};
use crate::numbers::{Block, Numbers};
use crate::overlap::{self, Span};

/// The number NumPy gave to bfloat16, or 0 before it was met.
static BFLOAT16: AtomicI32 = AtomicI32::new(0);

/// The first number of a dtype that is registered at run time (`NPY_USERDEF`).
const FIRST_REGISTERED: c_int = 256;

/// The mark of numbers that are not in this machine's byte order.
const OTHER_ORDER: u8 = if cfg!(target_endian = "little") { b'>' } else { b'<' };

/// An array of Python's: an exact `numpy.ndarray`, or for `out` a subclass too.
#[derive(Clone)]
pub struct Array<'py> {
    object: Bound<'py, PyUntypedArray>,
    /// The argument that it came as.
    name: &'static str,
}

/// What an array's struct says at one moment.
struct Layout {
    ptr: *mut u8,
    dtype: Dtype,
    swapped: bool,
    flags: c_int,
    shape: Axes<usize>,
    strides: Axes<isize>,
}

/// The struct of an array in C order and of native numbers, for as long as no Python code runs.
struct Plain<'a> {
    ptr: *mut u8,
    dtype: Dtype,
    writeable: bool,
    shape: &'a [usize],
    strides: &'a [isize],
}

impl<'py> Array<'py> {
    /// `object`, if it is an ndarray and not of a subclass.
    #[inline(always)]
    pub fn exact(object: &Bound<'py, PyAny>, name: &'static str) -> Option<Self> {
        let array = object.cast_exact::<PyUntypedArray>().ok()?;
        Some(Self {
            object: array.clone(),
            name,
        })
    }

    /// `object`, if it is an ndarray or of a subclass.
    pub fn any(object: &Bound<'py, PyAny>, name: &'static str) -> Option<Self> {
        let array = object.cast::<PyUntypedArray>().ok()?;
        Some(Self {
            object: array.clone(),
            name,
        })
    }

    /// As the Python object that it is.
    pub fn as_any(&self) -> &Bound<'py, PyAny> {
        self.object.as_any()
    }

    /// The argument that it came as.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What its dtype is called.
    pub fn dtype_text(&self) -> PyResult<String> {
        Ok(self
            .as_any()
            .getattr(intern!(self.object.py(), "dtype"))?
            .str()?
            .to_string())
    }

    /// The dtype of its elements; a bfloat16 gets known.
    pub fn dtype(&self) -> Option<Dtype> {
        self.meet_dtype();
        dtype_of(self.type_number())
    }

    /// If its dtype could be bfloat16 and none has been met yet, this finds out.
    #[inline(always)]
    pub fn meet_dtype(&self) {
        if self.type_number() >= FIRST_REGISTERED {
            learn_bfloat16(self.object.py());
        }
    }

    #[inline(always)]
    fn fields(&self) -> *const PyArrayObject_fields {
        // SAFETY: a live ndarray, and the GIL is held.
        unsafe { _PyArray_GET_ITEM_DATA(self.object.as_array_ptr()) }
    }

    #[inline(always)]
    fn type_number(&self) -> c_int {
        // SAFETY: a live ndarray has a descriptor; the GIL is held, so nobody exchanges it meanwhile.
        unsafe { (*_PyDataType_GET_ITEM_DATA((*self.fields()).descr)).type_num }
    }

    /// Looks at the struct of an array in C order. `None`: it is of another kind.
    #[inline(always)]
    fn plain(&self) -> Option<Plain<'_>> {
        let fields = self.fields();
        // SAFETY: as in `layout`; and nothing changes the arrays of lengths and strides but Python code.
        unsafe {
            let descr = _PyDataType_GET_ITEM_DATA((*fields).descr);
            if (*fields).flags & NPY_ARRAY_C_CONTIGUOUS == 0 || (*descr).byteorder.cast_unsigned() == OTHER_ORDER {
                return None;
            }
            let ndim = usize::try_from((*fields).nd).unwrap_or(0);
            Some(Plain {
                ptr: (*fields).data.cast(),
                dtype: dtype_of((*descr).type_num)?,
                writeable: (*fields).flags & NPY_ARRAY_WRITEABLE != 0,
                shape: entries((*fields).dimensions.cast(), ndim),
                strides: entries((*fields).strides.cast(), ndim),
            })
        }
    }

    /// Reads the struct. `None`: a dtype that is not ours.
    #[inline(always)]
    fn layout(&self) -> Option<Layout> {
        let fields = self.fields();
        // SAFETY: a live ndarray, and the GIL is held while this block reads it. `dimensions` and `strides` hold `nd`
        // entries (they may be null where `nd` is 0, which `entries` looks after); both are copied.
        unsafe {
            let descr = _PyDataType_GET_ITEM_DATA((*fields).descr);
            let ndim = usize::try_from((*fields).nd).unwrap_or(0);
            let (shape, strides) = (entries((*fields).dimensions, ndim), entries((*fields).strides, ndim));
            Some(Layout {
                ptr: (*fields).data.cast(),
                dtype: dtype_of((*descr).type_num)?,
                swapped: (*descr).byteorder.cast_unsigned() == OTHER_ORDER,
                flags: (*fields).flags,
                shape: Axes::new(ndim, |d| shape[d].cast_unsigned()),
                strides: Axes::new(ndim, |d| strides[d]),
            })
        }
    }

    /// [`layout`](Self::layout), or the error that names the argument.
    #[inline(always)]
    fn layout_of(&self, function: Option<&str>) -> PyResult<Layout> {
        self.layout()
            .ok_or_else(|| error::dtype(self.name, self.as_any(), function))
    }

    /// What numpy.promote_types makes of the dtypes of two arrays, if that is one of ours.
    pub fn promoted_with(&self, other: &Self) -> Option<Dtype> {
        let py = self.object.py();
        // SAFETY: live ndarrays have descriptors, and the GIL is held; the result is a new reference or null with an
        // exception, which is dropped.
        unsafe {
            let (a, b) = ((*self.fields()).descr, (*other.fields()).descr);
            let descr = PY_ARRAY_API.PyArray_PromoteTypes(py, a, b);
            let descr = Bound::from_owned_ptr_or_err(py, descr.cast()).ok()?;
            dtype_of(descr.cast::<PyArrayDescr>().ok()?.num()).map(computed_in)
        }
    }

    /// The array whose memory this one is a view of, if there is one.
    fn base(&self) -> Option<Self> {
        // SAFETY: a live ndarray, and the GIL is held; `base` is null or an object that the array keeps alive.
        let base = unsafe { Bound::from_borrowed_ptr_or_opt(self.object.py(), (*self.fields()).base) };
        base.and_then(|base| Self::any(&base, self.name))
    }

    /// The lengths of its axes, for as long as no Python code runs.
    #[inline]
    fn shape(&self) -> &[usize] {
        let fields = self.fields();
        // SAFETY: as in `layout`. Only size estimates read it, at once.
        unsafe { entries((*fields).dimensions.cast(), usize::try_from((*fields).nd).unwrap_or(0)) }
    }

    /// Whether NumPy counts its dtype among the floats, whether it is one of ours or not.
    pub fn is_float(&self) -> PyResult<bool> {
        let dtype = self.as_any().getattr(intern!(self.object.py(), "dtype"))?;
        Ok(dtype.getattr(intern!(self.object.py(), "kind"))?.extract::<char>()? == 'f')
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.shape().contains(&0)
    }

    /// A new array with elements that are not set yet.
    #[inline]
    fn new(py: Python<'py>, dtype: Dtype, shape: &[usize]) -> PyResult<Self> {
        // SAFETY: the type number is a registered one, so DescrFromType gives a new reference, which NewFromDescr takes.
        // NumPy reads `shape.len()` lengths, and checks that number and the product for overflow. A null result is an
        // exception.
        let make = || unsafe {
            let descr = PY_ARRAY_API.PyArray_DescrFromType(py, type_number(dtype));
            let array = PY_ARRAY_API.PyArray_NewFromDescr(
                py,
                get_type_object(py, NpyTypes::PyArray_Type),
                descr,
                shape.len() as c_int,
                shape.as_ptr().cast_mut().cast(),
                ptr::null_mut(),
                ptr::null_mut(),
                0,
                ptr::null_mut(),
            );
            let object = Bound::from_owned_ptr_or_err(py, array)?.cast_into_unchecked();
            Ok(Self { object, name: "out" })
        };
        #[cfg(unix)]
        return memory::keeping(py, count(shape).saturating_mul(dtype.size()), make);
        #[cfg(not(unix))]
        make()
    }

    /// A copy with memory of its own.
    fn copy(&self) -> PyResult<Self> {
        let py = self.object.py();
        // SAFETY: a live ndarray; the result is a new reference or null with an exception. `self` is an exact ndarray, or
        // the copy would be of the subclass, made by its code.
        unsafe {
            let copy = PY_ARRAY_API.PyArray_NewCopy(py, self.object.as_array_ptr(), NPY_ORDER::NPY_KEEPORDER);
            let object = Bound::from_owned_ptr_or_err(py, copy)?.cast_into_unchecked();
            Ok(Self { object, ..*self })
        }
    }

    /// The array, or the scalar it holds if it is 0-d: what a ufunc returns.
    #[inline]
    fn into_result(self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.object.py();
        // SAFETY: a live ndarray. PyArray_Return takes our reference and gives a new one, or null with an exception.
        unsafe {
            if (*self.fields()).nd != 0 {
                return Ok(self.object.into_any());
            }
            let scalar = PY_ARRAY_API.PyArray_Return(py, self.object.into_ptr().cast());
            Bound::from_owned_ptr_or_err(py, scalar)
        }
    }

    /// Reads the struct of an `out` argument and refuses what a result of this dtype and shape cannot be written to.
    #[inline(always)]
    fn as_target(&self, dtype: Dtype, shape: &[usize]) -> PyResult<Layout> {
        let layout = self.layout().filter(|out| out.dtype == dtype && !out.swapped);
        let out = layout.ok_or_else(|| error::out::dtype(self.as_any(), dtype_name(dtype)))?;
        if out.flags & NPY_ARRAY_WRITEABLE == 0 {
            return Err(error::out::read_only());
        }
        if !same(&out.shape, shape) {
            return Err(error::out::shape(&out.shape, shape));
        }
        if out.extent().is_none() && overlap::overlaps_itself(&out.span()) {
            return Err(error::out::overlaps_itself(&out.shape, &out.strides));
        }
        Ok(out)
    }

    /// Sets the elements of a [`new`](Self::new) array, float32 or float64, and gives it away, or a scalar where its shape
    /// has no axes.
    fn set(self, dtype: Dtype, values: &[f64]) -> PyResult<Bound<'py, PyAny>> {
        assert_eq!(count(self.shape()), values.len());
        // SAFETY: new memory, in C order and aligned, for that many elements of the dtype; nobody else knows it.
        unsafe {
            let start = (*self.fields()).data;
            with_default_mode(|| {
                for (i, &value) in values.iter().enumerate() {
                    match dtype {
                        Dtype::F32 => start.cast::<f32>().add(i).write(value as f32),
                        _ => start.cast::<f64>().add(i).write(value),
                    }
                }
            });
        }
        self.into_result()
    }

    /// Its elements, in memory of our own; `None` if they are no native float32 or float64. (All else is rare enough to
    /// be converted by NumPy first.)
    pub fn numbers(&self) -> Option<PyResult<Numbers>> {
        let layout = self.layout()?;
        if layout.swapped || !matches!(layout.dtype, Dtype::F32 | Dtype::F64) {
            return None;
        }
        let mut values = Vec::new();
        if values.try_reserve_exact(count(&layout.shape)).is_err() {
            return Some(Err(error::memory()));
        }
        let mut copy = |offset| {
            let p = layout.ptr.wrapping_offset(offset);
            // SAFETY: an element of a live array; no Python code has run since its layout was read, in this function.
            values.push(unsafe {
                match layout.dtype {
                    Dtype::F32 => f64::from(p.cast::<f32>().read_unaligned()),
                    _ => p.cast::<f64>().read_unaligned(),
                }
            });
        };
        with_default_mode(|| for_each(&layout.shape, &layout.strides, 0, &mut copy));
        let shape = layout.shape;
        if shape.is_empty() {
            return Some(Ok(Numbers::One(values[0])));
        }
        Some(Ok(Numbers::Many(Box::new(Block { shape, values }))))
    }
}

/// A NumPy scalar of a result's dtype.
///
/// # Safety
/// `value` points to one.
unsafe fn scalar<'py>(py: Python<'py>, dtype: Dtype, value: *const u8) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the type number is a registered one, so there is a new reference to its descriptor, which is dropped here;
    // the value is copied. A null result is an exception.
    unsafe {
        let descr = PY_ARRAY_API.PyArray_DescrFromType(py, type_number(dtype));
        let descr = Bound::from_owned_ptr(py, descr.cast());
        let scalar = PY_ARRAY_API.PyArray_Scalar(py, value.cast_mut().cast(), descr.as_ptr().cast(), ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, scalar)
    }
}

/// Whether `value` is a `numpy.bool`. (NumPy 1.26 lets it pass for an integer, with a warning.)
pub fn is_numpy_bool(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: NumPy's type object lives as long as NumPy, and the GIL is held.
    unsafe { value.get_type_ptr() == get_type_object(value.py(), NpyTypes::PyBoolArrType_Type) }
}

/// `n` entries at `start`, which may be null if there are none.
///
/// # Safety
/// `start` points to `n` entries that nobody changes while the slice lives.
#[inline]
unsafe fn entries<'a, T>(start: *const T, n: usize) -> &'a [T] {
    if n == 0 {
        return &[];
    }
    // SAFETY: as promised by the caller.
    unsafe { slice::from_raw_parts(start, n) }
}

/// The one match from NumPy's type numbers to what core computes.
#[inline]
fn dtype_of(number: c_int) -> Option<Dtype> {
    const LONG_IS_8_BYTES: bool = size_of::<c_long>() == 8;
    const { assert!(NPY_TYPES::NPY_FLOAT as c_int == 11 && NPY_TYPES::NPY_HALF as c_int == 23) }
    Some(match number {
        11 => Dtype::F32,
        12 => Dtype::F64,
        23 => Dtype::F16,
        0 => Dtype::Bool,
        1 => Dtype::I8,
        2 => Dtype::U8,
        3 => Dtype::I16,
        4 => Dtype::U16,
        5 => Dtype::I32,
        6 => Dtype::U32,
        7 if LONG_IS_8_BYTES => Dtype::I64,
        8 if LONG_IS_8_BYTES => Dtype::U64,
        7 => Dtype::I32,
        8 => Dtype::U32,
        9 => Dtype::I64,
        10 => Dtype::U64,
        _ if number >= FIRST_REGISTERED && number == BFLOAT16.load(Ordering::Relaxed) => Dtype::Bf16,
        _ => return None,
    })
}

/// NumPy's number for a dtype that a result can have.
#[inline]
fn type_number(dtype: Dtype) -> c_int {
    match dtype {
        Dtype::F32 => NPY_TYPES::NPY_FLOAT as c_int,
        Dtype::F16 => NPY_TYPES::NPY_HALF as c_int,
        // Set, or no array would have been found to be one.
        Dtype::Bf16 => BFLOAT16.load(Ordering::Relaxed),
        _ => NPY_TYPES::NPY_DOUBLE as c_int,
    }
}

/// What a result of this dtype is called.
pub fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        _ => "float64",
    }
}

/// Integers and bool are computed in float64; the floats keep their dtype.
#[inline]
pub fn computed_in(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::F16 | Dtype::Bf16 | Dtype::F32 => dtype,
        _ => Dtype::F64,
    }
}

/// Finds the number of ml_dtypes' bfloat16, if that package has been imported: without it no such array exists. (Asking
/// NumPy for the dtype "bfloat16" by name panics in rust-numpy when it is not there.)
fn learn_bfloat16(py: Python<'_>) {
    if BFLOAT16.load(Ordering::Relaxed) != 0 {
        return;
    }
    let descr = || -> PyResult<Bound<'_, PyArrayDescr>> {
        let modules = py.import("sys")?.getattr("modules")?;
        let scalar = modules.get_item("ml_dtypes")?.getattr(intern!(py, "bfloat16"))?;
        PyArrayDescr::new(py, scalar)
    };
    if let Ok(descr) = descr()
        && descr.num() >= FIRST_REGISTERED
        && descr.itemsize() == 2
    {
        BFLOAT16.store(descr.num(), Ordering::Relaxed);
    }
}

/// The dtype that a descriptor stands for, if a result can have it.
pub fn result_dtype(descr: &Bound<'_, PyArrayDescr>) -> Option<Dtype> {
    if descr.num() >= FIRST_REGISTERED {
        learn_bfloat16(descr.py());
    }
    dtype_of(descr.num()).filter(|&dtype| computed_in(dtype) == dtype)
}

/// Whether so many bytes from one place and so many from another have none in common.
#[inline(always)]
fn apart(a: *const u8, of_a: usize, b: *const u8, of_b: usize) -> bool {
    a.addr().saturating_add(of_a) <= b.addr() || b.addr().saturating_add(of_b) <= a.addr()
}

impl<'a> Plain<'a> {
    /// Whether so many elements of both have places of their own.
    #[inline(always)]
    fn is_clear_of(&self, other: &Self, count: usize) -> bool {
        apart(
            self.ptr,
            count * self.dtype.size(),
            other.ptr,
            count * other.dtype.size(),
        )
    }

    /// Whether a result of this dtype and shape can be written to it.
    #[inline(always)]
    fn takes(&self, dtype: Dtype, shape: &[usize]) -> bool {
        self.dtype == dtype && self.writeable && same(self.shape, shape)
    }

    /// Whether it is these elements, so that writing them after reading them is in place.
    #[inline(always)]
    fn is_exactly(&self, out: &Self) -> bool {
        self.ptr == out.ptr && self.dtype == out.dtype && same(self.shape, out.shape)
    }

    /// As core takes an input. (Where it is `out`, strides of axes of length 1 may differ; core wants to see the same.)
    #[inline(always)]
    fn beside(&self, out: &Self) -> Operand<'a> {
        self.over(if self.ptr == out.ptr { out.strides } else { self.strides })
    }

    /// As core takes it, with these strides over the axes of the call.
    #[inline(always)]
    fn over<'b>(&self, strides: &'b [isize]) -> Operand<'b> {
        Operand {
            ptr: self.ptr,
            dtype: self.dtype,
            swapped: false,
            strides,
        }
    }
}

impl Layout {
    /// How many bytes its elements take from the first on, if they have no gaps.
    #[inline(always)]
    fn extent(&self) -> Option<usize> {
        if self.flags & (NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS) == 0 {
            return None;
        }
        Some(count(&self.shape).saturating_mul(self.dtype.size()))
    }

    /// Whether both have elements in places of their own, as can be told without a search.
    #[inline(always)]
    fn is_clear_of(&self, other: &Self) -> bool {
        match (self.extent(), other.extent()) {
            (Some(own), Some(others)) => apart(self.ptr, own, other.ptr, others),
            _ => false,
        }
    }

    fn span(&self) -> Span<'_> {
        Span {
            start: self.ptr.addr(),
            size: self.dtype.size(),
            shape: &self.shape,
            strides: &self.strides,
        }
    }

    /// Whether both are the same elements in the same places, so that writing one after reading it is in place.
    #[inline(always)]
    fn is_exactly(&self, other: &Self) -> bool {
        let mut steps = self.shape.iter().zip(self.strides.iter().zip(&*other.strides));
        self.ptr == other.ptr
            && self.dtype == other.dtype
            && self.swapped == other.swapped
            && same(&self.shape, &other.shape)
            && steps.all(|(&n, (a, b))| n <= 1 || a == b)
    }

    /// As core takes it.
    #[inline(always)]
    fn operand(&self) -> Operand<'_> {
        self.over(&self.strides)
    }

    /// As core takes it, with these strides over the axes of the call.
    #[inline(always)]
    fn over<'a>(&self, strides: &'a [isize]) -> Operand<'a> {
        Operand {
            ptr: self.ptr,
            dtype: self.dtype,
            swapped: self.swapped,
            strides,
        }
    }
}

/// Broadcasts an input to `shape`, the one that the arrays of these names have together. If it shares memory with `out`,
/// a copy takes its place; but where it may be computed in place and `out` is exactly it, it stays.
#[inline(always)]
fn place(
    array: &mut Array<'_>,
    layout: &mut Layout,
    out: Option<&Layout>,
    may_be_out: bool,
    names: &[&str],
    shape: &[usize],
) -> PyResult<()> {
    let fits = same(&layout.shape, shape);
    if let Some(out) = out {
        if may_be_out && fits && layout.is_exactly(out) {
            // Strides of axes of length 1 may differ; core wants to see the same.
            layout.strides.clone_from(&out.strides);
            return Ok(());
        }
        part(array, layout, out)?;
    }
    if !fits {
        spread(array, layout, names, shape)?;
    }
    Ok(())
}

/// Broadcasts `layout` to `shape`.
#[cold]
fn spread(array: &Array<'_>, layout: &mut Layout, names: &[&str], shape: &[usize]) -> PyResult<()> {
    layout.strides = broadcast(&layout.shape, &layout.strides, shape)
        .ok_or_else(|| error::broadcast(array.name, &layout.shape, &error::shape_of(names), shape))?;
    layout.shape = Axes::new(shape.len(), |d| shape[d]);
    Ok(())
}

/// Puts a copy of `array` in its place, and of its layout, where it shares memory with `out`.
#[inline(always)]
fn part(array: &mut Array<'_>, layout: &mut Layout, out: &Layout) -> PyResult<()> {
    if !layout.is_clear_of(out) && overlap::shares(&layout.span(), &out.span()) {
        *array = array.copy()?;
        *layout = array.layout_of(None)?;
    }
    Ok(())
}

/// Where the result goes: `out`, or a new array.
#[inline(always)]
fn target<'py>(
    py: Python<'py>,
    out: Option<Array<'py>>,
    dtype: Dtype,
    shape: &[usize],
) -> PyResult<(Array<'py>, Layout)> {
    match out {
        Some(array) => {
            let layout = array.as_target(dtype, shape)?;
            Ok((array, layout))
        }
        None => {
            let array = Array::new(py, dtype, shape)?;
            let layout = array.layout_of(None)?;
            Ok((array, layout))
        }
    }
}
