//! NumPy in and out: the one dtype `match`, strided memory, `out=` and who may overlap whom, new arrays, the GIL.
//!
//! All `unsafe` code of this crate is here. rust-numpy's safe borrows would not do: `softmax(x, out=x)` is an error to
//! them, each one costs 50 to 100 ns, shapes such as (2, 0) panic. So this file reads the array struct itself.
//!
//! # Why the pointers stay good
//!
//! Any Python code may resize an array, give it another shape or drop it, and so may another thread whenever Python code
//! runs. A call therefore has two halves. In the first (arguments.rs) the arguments become arrays, by whatever Python
//! code their types bring along; no pointer is read. In the second, [`Call::evaluate`], no Python code runs any more:
//! pointers, shapes and strides are read, copied to our own memory, checked and used. Only the kernels of a large call
//! run without the GIL, and then with the [`Shield`] up.
//!
//! Elements may change while they are read (another thread writes to them, with or without the GIL): nothing is read
//! through references, only through raw pointers, by code that accepts any value.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_long};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use numpy::npyffi::{
    _PyArray_GET_ITEM_DATA, _PyDataType_GET_ITEM_DATA, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_F_CONTIGUOUS,
    NPY_ARRAY_WRITEABLE, NPY_ORDER, NPY_TYPES, NpyTypes, PY_ARRAY_API, PyArrayObject_fields, get_type_object,
};
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use softmax_core::{Array as Operand, Control, Dtype, Error, NoControl, Op, Problem, Temperature};

use crate::error;
use crate::grid::{Axes, Axis, Grid, broadcast, count};
use crate::overlap::{self, Span};

/// Logits above which the GIL is released: 10 to 20 us of work. Below, letting it go and getting it back costs more
/// than others could gain (with four threads waiting for it, some 14 us), and the shield costs as well.
const RELEASE_ABOVE: usize = 1 << 15;

/// How long a call may run without looking whether a signal has come.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// The number NumPy gave to bfloat16, or 0 before it was met.
static BFLOAT16: AtomicI32 = AtomicI32::new(0);

/// The first number of a dtype that is registered at run time (`NPY_USERDEF`).
const FIRST_REGISTERED: c_int = 256;

/// An array of Python's: an exact `numpy.ndarray`, or for `out` a subclass too.
#[derive(Clone)]
pub struct Array<'py>(Bound<'py, PyUntypedArray>);

/// What an array's struct says at one moment.
struct Layout {
    ptr: *mut u8,
    dtype: Dtype,
    swapped: bool,
    flags: c_int,
    shape: Axes<usize>,
    strides: Axes<isize>,
}

impl<'py> Array<'py> {
    /// `object`, if it is an ndarray and not of a subclass.
    #[inline]
    pub fn exact(object: &Bound<'py, PyAny>) -> Option<Self> {
        object
            .cast_exact::<PyUntypedArray>()
            .ok()
            .map(|array| Self(array.clone()))
    }

    /// `object`, if it is an ndarray or of a subclass.
    pub fn any(object: &Bound<'py, PyAny>) -> Option<Self> {
        object.cast::<PyUntypedArray>().ok().map(|array| Self(array.clone()))
    }

    /// As the Python object that it is.
    pub fn as_any(&self) -> &Bound<'py, PyAny> {
        self.0.as_any()
    }

    /// The dtype of its elements. If it is one that could be bfloat16 and none has been met yet, this finds out.
    pub fn dtype(&self) -> Option<Dtype> {
        let number = self.type_number();
        if number >= FIRST_REGISTERED {
            learn_bfloat16(self.0.py());
        }
        dtype_of(number)
    }

    #[inline]
    fn fields(&self) -> *const PyArrayObject_fields {
        // SAFETY: a live ndarray, and the GIL is held.
        unsafe { _PyArray_GET_ITEM_DATA(self.0.as_array_ptr()) }
    }

    #[inline]
    fn type_number(&self) -> c_int {
        // SAFETY: a live ndarray has a descriptor; the GIL is held, so nobody exchanges it meanwhile.
        unsafe { (*_PyDataType_GET_ITEM_DATA((*self.fields()).descr)).type_num }
    }

    /// Reads the struct. `None`: a dtype that is not ours.
    #[inline(always)]
    fn layout(&self) -> Option<Layout> {
        let fields = self.fields();
        // SAFETY: a live ndarray, and the GIL is held while this block reads it. `dimensions` and `strides` hold `nd`
        // entries (they may be null where `nd` is 0, which `entries` looks after); both are copied.
        unsafe {
            let descr = _PyDataType_GET_ITEM_DATA((*fields).descr);
            let other_order = if cfg!(target_endian = "little") { b'>' } else { b'<' };
            let ndim = usize::try_from((*fields).nd).unwrap_or(0);
            let (shape, strides) = (entries((*fields).dimensions, ndim), entries((*fields).strides, ndim));
            Some(Layout {
                ptr: (*fields).data.cast(),
                dtype: dtype_of((*descr).type_num)?,
                swapped: (*descr).byteorder.cast_unsigned() == other_order,
                flags: (*fields).flags,
                shape: Axes::new(ndim, |d| shape[d].cast_unsigned()),
                strides: Axes::new(ndim, |d| strides[d]),
            })
        }
    }

    /// [`layout`](Self::layout), or the error that names the argument.
    #[inline(always)]
    fn layout_of(&self, name: &str, function: Option<&str>) -> PyResult<Layout> {
        self.layout().ok_or_else(|| error::dtype(name, self.as_any(), function))
    }

    /// The array whose memory this one is a view of, if there is one.
    fn base(&self) -> Option<Self> {
        // SAFETY: a live ndarray, and the GIL is held; `base` is null or an object that the array keeps alive.
        let base = unsafe { Bound::from_borrowed_ptr_or_opt(self.0.py(), (*self.fields()).base) };
        base.and_then(|base| Self::any(&base))
    }

    /// The number of elements.
    fn size(&self) -> usize {
        let fields = self.fields();
        // SAFETY: as in `layout`.
        unsafe {
            count(entries(
                (*fields).dimensions.cast(),
                usize::try_from((*fields).nd).unwrap_or(0),
            ))
        }
    }

    /// A new array with elements that are not set yet.
    #[inline]
    fn new(py: Python<'py>, dtype: Dtype, shape: &[usize]) -> PyResult<Self> {
        // SAFETY: the type number is a registered one, so DescrFromType gives a new reference, which NewFromDescr takes.
        // NumPy reads `shape.len()` lengths (it has allowed that many axes to an array already) and checks the product
        // for overflow. A null result is an exception.
        unsafe {
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
            Ok(Self(Bound::from_owned_ptr_or_err(py, array)?.cast_into_unchecked()))
        }
    }

    /// A copy with memory of its own.
    fn copy(&self) -> PyResult<Self> {
        let py = self.0.py();
        // SAFETY: a live ndarray; the result is a new reference or null with an exception. `self` is an exact ndarray, or
        // the copy would be of the subclass, made by its code.
        unsafe {
            let copy = PY_ARRAY_API.PyArray_NewCopy(py, self.0.as_array_ptr(), NPY_ORDER::NPY_KEEPORDER);
            Ok(Self(Bound::from_owned_ptr_or_err(py, copy)?.cast_into_unchecked()))
        }
    }

    /// The array, or the scalar it holds if it is 0-d: what a ufunc returns.
    #[inline]
    fn into_result(self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.0.py();
        // SAFETY: a live ndarray. PyArray_Return takes our reference and gives a new one, or null with an exception.
        unsafe {
            if (*self.fields()).nd != 0 {
                return Ok(self.0.into_any());
            }
            let scalar = PY_ARRAY_API.PyArray_Return(py, self.0.into_ptr().cast());
            Bound::from_owned_ptr_or_err(py, scalar)
        }
    }

    /// Reads the struct of an `out` argument and refuses what a result of this dtype and shape cannot be written to.
    fn as_target(&self, dtype: Dtype, shape: &[usize]) -> PyResult<Layout> {
        let layout = self.layout().filter(|out| out.dtype == dtype && !out.swapped);
        let out = layout.ok_or_else(|| error::out::dtype(self.as_any(), dtype_name(dtype)))?;
        if out.flags & NPY_ARRAY_WRITEABLE == 0 {
            return Err(error::out::read_only());
        }
        if *out.shape != *shape {
            return Err(error::out::shape(&out.shape, shape));
        }
        let contiguous = out.flags & (NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS) != 0;
        if !contiguous && overlap::overlaps_itself(&out.span()) {
            return Err(error::out::overlaps_itself(&out.shape, &out.strides));
        }
        Ok(out)
    }

    /// The first element for which `wrong` is true, of a C-ordered native float64 array (any other is refused).
    fn find(&self, wrong: impl Fn(f64) -> bool) -> PyResult<Option<f64>> {
        let layout = self.layout().filter(|layout| {
            layout.dtype == Dtype::F64 && !layout.swapped && layout.flags & NPY_ARRAY_C_CONTIGUOUS != 0
        });
        let layout = layout.ok_or_else(|| error::dtype("temperature", self.as_any(), None))?;
        let mut elements = (0..count(&layout.shape)).map(|i| {
            // SAFETY: `count` contiguous float64 elements. They are copied out one by one: there are no references to
            // Python's memory.
            unsafe { layout.ptr.cast::<f64>().add(i).read_unaligned() }
        });
        Ok(elements.find(|&value| wrong(value)))
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
fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        _ => "float64",
    }
}

/// Integers and bool are computed in float64; the floats keep their dtype.
#[inline]
fn computed_in(dtype: Dtype) -> Dtype {
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

impl Layout {
    fn span(&self) -> Span<'_> {
        Span {
            start: self.ptr.addr(),
            size: self.dtype.size(),
            shape: &self.shape,
            strides: &self.strides,
        }
    }

    fn operand<'a>(&self, strides: &'a [isize]) -> Operand<'a> {
        Operand {
            ptr: self.ptr,
            dtype: self.dtype,
            swapped: self.swapped,
            strides,
        }
    }

    /// Whether both are the same elements in the same places, so that writing one after reading it is in place.
    fn is_exactly(&self, other: &Self) -> bool {
        let mut steps = self.shape.iter().zip(self.strides.iter().zip(&*other.strides));
        self.ptr == other.ptr
            && self.dtype == other.dtype
            && self.swapped == other.swapped
            && *self.shape == *other.shape
            && steps.all(|(&n, (a, b))| n <= 1 || a == b)
    }
}

/// An operand with its strides over all axes of the call.
struct Placed {
    layout: Layout,
    strides: Axes<isize>,
}

impl Placed {
    /// Reads `array` (copying it first if it shares memory with `out`) and broadcasts it to `shape`.
    fn new(array: &mut Array<'_>, name: &str, out: Option<&Layout>, target: &str, shape: &[usize]) -> PyResult<Self> {
        let mut layout = array.layout_of(name, None)?;
        if let Some(out) = out {
            part(array, &mut layout, out)?;
        }
        let strides = broadcast(&layout.shape, &layout.strides, shape)
            .ok_or_else(|| error::broadcast(name, &layout.shape, target, shape))?;
        Ok(Self { layout, strides })
    }

    fn operand(&self) -> Operand<'_> {
        self.layout.operand(&self.strides)
    }
}

/// Puts a copy of `array` in its place, and of its layout, where it shares memory with `out`.
#[inline]
fn part(array: &mut Array<'_>, layout: &mut Layout, out: &Layout) -> PyResult<()> {
    if overlap::shares(&layout.span(), &out.span()) {
        *array = array.copy()?;
        *layout = array.layout_of("the copy", None)?;
    }
    Ok(())
}

/// What the logits are divided by.
pub enum Heat<'py> {
    /// One number.
    One(f64),
    /// One number per row after broadcasting: C-ordered native float64, in memory that nobody else knows.
    Rows(Array<'py>),
}

impl Heat<'_> {
    /// Refuses a temperature that is not positive and finite.
    #[inline]
    pub fn check(self) -> PyResult<Self> {
        let wrong = |value: f64| !(value > 0.0 && value.is_finite());
        let first = match &self {
            Self::One(value) => Some(*value).filter(|&value| wrong(value)),
            Self::Rows(array) => array.find(wrong)?,
        };
        first.map_or(Ok(self), |value| Err(error::temperature(value)))
    }
}

/// A call whose arguments have become arrays.
pub struct Call<'py> {
    /// Which function.
    pub op: Op,
    /// The logits.
    pub x: Array<'py>,
    /// Which axes form a row.
    pub axis: Axis,
    /// What the logits are divided by.
    pub temperature: Heat<'py>,
    /// The `where` argument: bool.
    pub mask: Option<Array<'py>>,
    /// Where to write.
    pub out: Option<Array<'py>>,
    /// What the logits are converted to first.
    pub dtype: Option<Dtype>,
    /// Whether a reduction keeps the axes of the row, with length 1.
    pub keepdims: bool,
}

impl<'py> Call<'py> {
    /// Checks what the arguments mean to each other, and computes.
    pub fn evaluate(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // The shield comes before any pointer is read: making a weak reference may start the garbage collector.
        let release = self.x.size() > RELEASE_ABOVE;
        let shield = if release { Some(Shield::over(self)?) } else { None };

        // From here on no Python code runs, but to raise an error.
        let (function, one_per_row) = describe(self.op);
        let mut x = self.x.layout_of("x", Some(function))?;
        let grid = Grid::new(&x.shape, &self.axis).map_err(|fault| error::axis(py, &fault, x.shape.len()))?;
        let shape = if one_per_row {
            &grid.rows(self.keepdims)
        } else {
            &grid.shape
        };
        let dtype = self.dtype.unwrap_or(computed_in(x.dtype));
        let is_given = self.out.is_some();
        let (result, out) = match self.out.take() {
            Some(array) => {
                let layout = array.as_target(dtype, shape)?;
                (array, layout)
            }
            None => {
                let array = Array::new(py, dtype, shape)?;
                let layout = array.layout_of("out", None)?;
                (array, layout)
            }
        };
        let given = is_given.then_some(&out);

        let in_place = given.is_some_and(|out| x.is_exactly(out));
        if let Some(out) = given
            && !in_place
        {
            part(&mut self.x, &mut x, out)?;
        }
        let mask = match &mut self.mask {
            Some(mask) => Some(Placed::new(mask, "where", given, "the shape of x", &grid.shape)?),
            None => None,
        };
        let (temperature, temperatures) = match &mut self.temperature {
            Heat::One(value) => (*value, None),
            Heat::Rows(array) => {
                let rows = Placed::new(array, "temperature", None, "one number per row", &grid.rows(false))?;
                let strides = grid.spread(&rows.strides);
                (1.0, Some(Placed { strides, ..rows }))
            }
        };
        if count(shape) != 0 {
            let spread = one_per_row && !self.keepdims;
            let out_strides = if spread {
                &grid.spread(&out.strides)
            } else {
                &out.strides
            };
            let problem = Problem {
                op: self.op,
                shape: &grid.shape,
                reduced: &grid.reduced,
                // Strides of axes of length 1 may differ in place; core wants to see the same.
                x: x.operand(if in_place { out_strides } else { &x.strides }),
                mask: mask.as_ref().map(Placed::operand),
                temperature: match &temperatures {
                    Some(rows) => Temperature::Rows(rows.operand()),
                    None => Temperature::One(temperature),
                },
                out: out.operand(out_strides),
            };
            // SAFETY: the layouts were read in this call, the arrays live in `self` and `result`, and no Python code has
            // run since. `x` has the problem's shape and the others were broadcast to it. `out` is new, or it is
            // writeable and its elements have memory of their own, and it is exactly `x` or apart from each input.
            unsafe { compute(py, &problem, release) }?;
        }
        drop(shield);
        if is_given {
            Ok(result.0.into_any())
        } else {
            result.into_result()
        }
    }
}

/// What a function is called (here and in scipy.special), and whether it gives one number per row.
const fn describe(op: Op) -> (&'static str, bool) {
    match op {
        Op::Softmax => ("softmax", false),
        Op::LogSoftmax => ("log_softmax", false),
        Op::LogSumExp => ("logsumexp", true),
    }
}

/// Keeps other threads from freeing our memory while the GIL is released: weak references to the arrays of a call and to
/// every array of their `.base` chains.
///
/// We hold a reference to each array, so none is collected. But `a.resize(..., refcheck=False)` reallocates the memory of
/// a live array whatever its reference count; the one thing that NumPy refuses to do it for is an array that has weak
/// references (or a base). Nothing else keeps it off, a live view of the array does not.
struct Shield<'py> {
    _references: Vec<Bound<'py, PyWeakrefReference>>,
}

impl<'py> Shield<'py> {
    fn over(call: &Call<'py>) -> PyResult<Self> {
        let mut references = Vec::new();
        for array in [Some(&call.x), call.mask.as_ref(), call.out.as_ref()]
            .into_iter()
            .flatten()
        {
            let mut next = Some(array.clone());
            while let Some(array) = next {
                references.push(PyWeakrefReference::new(array.as_any())?);
                next = array.base();
            }
        }
        Ok(Self {
            _references: references,
        })
    }
}

/// Looks for signals now and then while the GIL is released, so that Ctrl-C ends a long call.
struct Signals {
    last: Cell<Instant>,
    pending: RefCell<Option<PyErr>>,
}

impl Control for Signals {
    fn proceed(&self) -> bool {
        if self.last.get().elapsed() < SIGNALS_EVERY {
            return true;
        }
        // On threads other than the main one this finds nothing, by Python's rules. At shutdown there is no attaching.
        let checked = Python::try_attach(|py| py.check_signals());
        self.last.set(Instant::now());
        match checked {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                self.pending.replace(Some(error));
                false
            }
            None => false,
        }
    }
}

/// What the closure that runs without the GIL takes along.
struct Detached<'a>(&'a Problem<'a>, &'a Signals);

// SAFETY: `Python::detach` asks for `Send` to keep Python objects out of the closure; it calls it on this same thread.
// There are none in it: pointers to memory, and a `Signals`, whose `PyErr` is made and taken with the GIL held.
unsafe impl Send for Detached<'_> {}

impl Detached<'_> {
    /// # Safety
    /// That of [`softmax_core::run`].
    unsafe fn run(self) -> Result<(), Error> {
        // SAFETY: as promised by the caller.
        unsafe { softmax_core::run(self.0, self.1) }
    }
}

/// Calls core, with the GIL or without it.
///
/// # Safety
/// That of [`softmax_core::run`]; with `release`, also while other Python threads run.
unsafe fn compute(py: Python<'_>, problem: &Problem<'_>, release: bool) -> PyResult<()> {
    if !release {
        // SAFETY: as promised by the caller.
        return unsafe { softmax_core::run(problem, &NoControl) }.map_err(|fault| error::core(fault, None));
    }
    let signals = Signals {
        last: Cell::new(Instant::now()),
        pending: RefCell::new(None),
    };
    let detached = Detached(problem, &signals);
    // SAFETY: as promised by the caller.
    let done = py.detach(move || unsafe { detached.run() });
    done.map_err(|fault| error::core(fault, signals.pending.take()))
}
