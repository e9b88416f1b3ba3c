//! What is asked for: operands in memory and the operation, in words that have never heard of Python.

use std::fmt;

use crate::ops::Op;

/// What an array's memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dtype {
    /// One byte, zero or not.
    Bool,
    /// Signed integers of 1, 2, 4 and 8 bytes.
    I8,
    /// 2 bytes.
    I16,
    /// 4 bytes.
    I32,
    /// 8 bytes.
    I64,
    /// Unsigned integers of 1, 2, 4 and 8 bytes.
    U8,
    /// 2 bytes.
    U16,
    /// 4 bytes.
    U32,
    /// 8 bytes.
    U64,
    /// IEEE half precision.
    F16,
    /// The upper half of a float32.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }
}

/// A strided operand. Its shape is the problem's; a broadcast axis has stride 0.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a> {
    /// The element at index (0, ..., 0). May be misaligned. Written through only where it is `out`.
    pub ptr: *mut u8,
    /// What it holds.
    pub dtype: Dtype,
    /// Whether its bytes are in the other order than this machine's.
    pub swapped: bool,
    /// Bytes from one element to the next, one entry per axis of the problem's shape.
    pub strides: &'a [isize],
}

/// What the logits are divided by.
#[derive(Clone, Copy, Debug)]
pub enum Temperature<'a> {
    /// One positive finite number.
    One(f64),
    /// One for each row: float64, native, strides over all axes of the problem (those of reduced axes are ignored).
    /// All positive and finite.
    Rows(Array<'a>),
}

/// One call: an operation on rows. A row is the elements along the reduced axes, in C order of their index.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Which function.
    pub op: Op,
    /// Shape of the logits.
    pub shape: &'a [usize],
    /// Which axes of `shape` form a row.
    pub reduced: &'a [bool],
    /// The logits, or the saved output of the forward function.
    pub x: Array<'a>,
    /// The other array of a product: the tangent or the cotangent. What there is in it where the mask is false does not
    /// matter.
    pub second: Option<Array<'a>>,
    /// Where false, an element takes no part (dtype [`Dtype::Bool`]).
    pub mask: Option<Array<'a>>,
    /// What the logits are divided by.
    pub temperature: Temperature<'a>,
    /// One number for each row, in C order of the kept axes: the cotangent of [`Op::LogSumExpVjp`]. Others ignore it.
    pub cotangent: &'a [f64],
    /// The result, native byte order. Its dtype (a float) is also what `x` is converted to first. For a reduction the
    /// strides of reduced axes are ignored; a Jacobian's strides have one more entry, for the axis of the derivative's
    /// second index, and the entry of the reduced axis belongs to its first.
    pub out: Array<'a>,
}

/// Asked now and then, on the calling thread, while a long call runs.
pub trait Control {
    /// Whether to go on.
    fn proceed(&self) -> bool;
}

/// Never stops a call.
#[derive(Clone, Copy, Debug)]
pub struct NoControl;

impl Control for NoControl {
    fn proceed(&self) -> bool {
        true
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Scratch memory could not be had; `out` is untouched.
    OutOfMemory,
    /// [`Control::proceed`] said no; `out` is partly written.
    Interrupted,
    /// An environment variable holds something that is not understood. The message names it.
    Environment(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("no memory for the scratch buffers of softmax"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Environment(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}
