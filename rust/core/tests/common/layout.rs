//! The same numbers in memory in many ways, through one runner that also watches the bytes which are none of the call's
//! business.

use softmax_core::simd::Level;
use softmax_core::{Array, Dtype, NoControl, Op, Problem, Temperature, run_at};

use super::{encode, mode};

/// Bytes around every buffer that no one may write to.
const MARGIN: usize = 192;

/// What is computed: `rows` rows of `n` numbers (bits as in memory), row by row.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub level: Level,
    pub op: Op,
    pub dtype: Dtype,
    pub rows: usize,
    pub n: usize,
    pub x: &'a [u64],
    pub mask: Option<&'a [bool]>,
    pub temperature: Heat<'a>,
}

/// Of the call, or of each row.
#[derive(Clone, Copy)]
pub enum Heat<'a> {
    One(f64),
    Rows(&'a [f64]),
}

/// Where an operand's elements are: bytes from the start of its memory, bytes per step of each axis, size of the memory.
#[derive(Clone)]
struct Operand {
    first: usize,
    steps: Vec<isize>,
    bytes: usize,
}

impl Operand {
    /// Elements `gap` times their size apart, `pad` elements between rows of the innermost axis.
    fn dense(shape: &[usize], size: usize, gap: usize, pad: usize) -> Self {
        let mut steps = vec![0; shape.len()];
        let mut step = size * gap;
        for d in (0..shape.len()).rev() {
            steps[d] = step as isize;
            step *= shape[d];
            if d == shape.len() - 1 {
                step += size * pad;
            }
        }
        Self {
            first: 0,
            steps,
            bytes: step,
        }
    }

    fn reversed(mut self, shape: &[usize], axis: usize) -> Self {
        self.first += self.steps[axis] as usize * (shape[axis].max(1) - 1);
        self.steps[axis] = -self.steps[axis];
        self
    }

    fn moved(mut self, bytes: usize) -> Self {
        self.first += bytes;
        self.bytes += bytes;
        self
    }

    /// Axes in another order: `order[d]` is where axis d of the memory stands in the shape.
    fn transposed(memory: &[usize], order: &[usize], size: usize) -> Self {
        let dense = Self::dense(memory, size, 1, 0);
        let mut steps = vec![0; order.len()];
        for (d, &to) in order.iter().enumerate() {
            steps[to] = dense.steps[d];
        }
        Self { steps, ..dense }
    }
}

/// A way to lay rows out.
pub struct Layout {
    pub name: &'static str,
    shape: Vec<usize>,
    reduced: Vec<bool>,
    x: Operand,
    /// For an elementwise op; a reduction's results are as far apart as these rows, its other strides are nonsense.
    out: Operand,
    swapped: bool,
    in_place: bool,
    /// A mask that is true everywhere.
    masked: bool,
}

impl Layout {
    /// One row after the other.
    pub fn packed(rows: usize, n: usize, size: usize) -> Self {
        let shape = vec![rows, n];
        let dense = Operand::dense(&shape, size, 1, 0);
        Self {
            name: "packed",
            shape,
            reduced: vec![false, true],
            x: dense.clone(),
            out: dense,
            swapped: false,
            in_place: false,
            masked: false,
        }
    }

    /// Neighbours in memory belong to different rows.
    pub fn columns(rows: usize, n: usize, size: usize) -> Self {
        let shape = vec![n, rows];
        let dense = Operand::dense(&shape, size, 1, 0);
        Self {
            name: "columns",
            shape,
            reduced: vec![true, false],
            x: dense.clone(),
            out: dense,
            ..Self::packed(rows, n, size)
        }
    }

    /// Odd addresses, an odd number of bytes apart in `x` and `out`.
    pub fn misaligned(rows: usize, n: usize, size: usize) -> Self {
        let dense = Operand::dense(&[rows, n], size, 1, 0);
        Self {
            name: "misaligned",
            x: dense.clone().moved(1),
            out: dense.moved(3),
            ..Self::packed(rows, n, size)
        }
    }

    /// All ways but the packed one.
    pub fn others(rows: usize, n: usize, size: usize) -> Vec<Self> {
        let shape = [rows, n];
        let packed = || Self::packed(rows, n, size);
        let dense = |gap, pad| Operand::dense(&shape, size, gap, pad);
        let mut all = vec![
            Self::columns(rows, n, size),
            Self::misaligned(rows, n, size),
            Self {
                name: "columns to rows",
                out: Operand::transposed(&shape, &[1, 0], size),
                ..Self::columns(rows, n, size)
            },
            Self {
                name: "rows to columns",
                out: Operand::transposed(&[n, rows], &[1, 0], size),
                ..packed()
            },
            Self {
                name: "columns in place",
                in_place: true,
                ..Self::columns(rows, n, size)
            },
            Self {
                name: "strided",
                x: dense(3, 1),
                out: dense(2, 0),
                ..packed()
            },
            Self {
                name: "strided out",
                out: dense(3, 2),
                ..packed()
            },
            Self {
                name: "reversed",
                x: dense(1, 0).reversed(&shape, 0).reversed(&shape, 1),
                out: dense(1, 0).reversed(&shape, 1),
                ..packed()
            },
            Self {
                name: "reversed columns",
                x: Operand::dense(&[n, rows], size, 1, 0).reversed(&[n, rows], 0),
                ..Self::columns(rows, n, size)
            },
            Self {
                name: "padded rows",
                x: dense(1, 5),
                out: dense(1, 3),
                ..packed()
            },
            Self {
                name: "in place",
                in_place: true,
                ..packed()
            },
            Self {
                name: "swapped bytes",
                swapped: true,
                ..packed()
            },
            Self {
                name: "masked",
                masked: true,
                ..packed()
            },
        ];
        let smallest = |n: usize| (2..8).find(|d| n.is_multiple_of(*d) && n > *d);
        if let Some(d) = smallest(n) {
            // A row is what two axes hold that cannot be joined.
            let shape = vec![d, rows, n / d];
            let dense = Operand::dense(&shape, size, 1, 0);
            all.push(Self {
                name: "two axes",
                shape,
                reduced: vec![true, false, true],
                x: dense.clone(),
                out: dense,
                ..packed()
            });
        }
        if let Some(d) = smallest(rows) {
            let shape = vec![d, n, rows / d];
            let dense = Operand::dense(&shape, size, 1, 0);
            all.push(Self {
                name: "middle axis",
                shape,
                reduced: vec![false, true, false],
                x: dense.clone(),
                out: dense,
                ..packed()
            });
        }
        all
    }

    /// Where the rows' elements are (for `REDUCTION` the rows), in the order of the case.
    fn offsets(&self, operand: &Operand, reduction: bool) -> Vec<usize> {
        let walk = |reduced: bool| {
            let mut places = vec![0_isize];
            for d in (0..self.shape.len()).filter(|&d| self.reduced[d] == reduced) {
                places = places
                    .iter()
                    .flat_map(|&place| (0..self.shape[d]).map(move |i| place + operand.steps[d] * i as isize))
                    .collect();
            }
            places
        };
        let elements = if reduction { vec![0] } else { walk(true) };
        walk(false)
            .iter()
            .flat_map(|&row| {
                elements
                    .iter()
                    .map(move |&element| (operand.first as isize + row + element) as usize + MARGIN)
            })
            .collect()
    }

    /// Computes the case and brings the bits of the results: an element for each of `x`, or one for each row.
    ///
    /// # Panics
    /// If a byte was written that belongs to no result.
    pub fn run(&self, case: &Case<'_>) -> Vec<u64> {
        let size = case.dtype.size();
        let reduction = !case.op.is_elementwise();
        let in_place = self.in_place && !reduction;
        let x_at = self.offsets(&self.x, false);
        let mut x = canaries(self.x.bytes + 2 * MARGIN);
        for (&at, &bits) in x_at.iter().zip(case.x) {
            put(&mut x, at, bits, size, self.swapped);
        }
        let (x_before, out_operand) = (x.clone(), if in_place { &self.x } else { &self.out });
        let out_at = self.offsets(out_operand, reduction);
        let mut out = canaries(out_operand.bytes + 2 * MARGIN);

        // The other operands are made of the row's own bits, so that they go with it wherever it goes.
        let derived = |bits: u64, j: usize| {
            let hash = (bits ^ (j as u64).wrapping_mul(0x9e37_79b9)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            (hash >> 40) as f64 / f64::from(1 << 22) - 2.0
        };
        let mut second = canaries(self.x.bytes + 2 * MARGIN);
        for (i, (&at, &bits)) in x_at.iter().zip(case.x).enumerate() {
            let number = encode(case.dtype, derived(bits, i % case.n));
            put(&mut second, at, number, size, self.swapped);
        }
        let second_before = second.clone();
        let cotangent: Vec<f64> = case.x.chunks_exact(case.n).map(|row| derived(row[0], case.n)).collect();

        let mask: Vec<u8> = match case.mask {
            // Any byte but zero is true.
            Some(mask) => mask
                .iter()
                .enumerate()
                .map(|(i, &m)| if m { 1 + (i % 255) as u8 } else { 0 })
                .collect(),
            None => vec![1; if self.masked { case.x.len() } else { 0 }],
        };
        let (mask_strides, heat_strides) = self.side_strides(case.n);
        let mask = (!mask.is_empty()).then(|| Array {
            ptr: mask.as_ptr().cast_mut(),
            dtype: Dtype::Bool,
            swapped: false,
            strides: &mask_strides,
        });
        let temperature = match case.temperature {
            Heat::One(t) => Temperature::One(t),
            Heat::Rows(t) => Temperature::Rows(Array {
                ptr: t.as_ptr().cast_mut().cast(),
                dtype: Dtype::F64,
                swapped: false,
                strides: &heat_strides,
            }),
        };
        let mut out_strides = out_operand.steps.clone();
        if reduction {
            for (stride, _) in out_strides
                .iter_mut()
                .zip(&self.reduced)
                .filter(|(_, reduced)| **reduced)
            {
                *stride = 123_456_789;
            }
        }
        let x_ptr = x.as_mut_ptr().wrapping_add(MARGIN + self.x.first);
        let problem = Problem {
            op: case.op,
            shape: &self.shape,
            reduced: &self.reduced,
            x: Array {
                ptr: x_ptr,
                dtype: case.dtype,
                swapped: self.swapped,
                strides: &self.x.steps,
            },
            second: case.op.is_binary().then_some(Array {
                ptr: second.as_mut_ptr().wrapping_add(MARGIN + self.x.first),
                dtype: case.dtype,
                swapped: self.swapped,
                strides: &self.x.steps,
            }),
            mask,
            temperature,
            cotangent: &cotangent,
            out: Array {
                ptr: if in_place {
                    x_ptr
                } else {
                    out.as_mut_ptr().wrapping_add(MARGIN + self.out.first)
                },
                dtype: case.dtype,
                swapped: false,
                strides: &out_strides,
            },
        };
        // SAFETY: the strides stay within buffers that live until after the call; `out` is `x` or a buffer of its own, and
        // its elements are apart; temperatures come from the tests, positive and finite.
        let done = mode::call(|| unsafe { run_at(case.level, &problem, &NoControl) });
        assert_eq!(done, Ok(()), "{}", self.describe(case));

        assert!(
            second == second_before,
            "the second array was written: {}",
            self.describe(case)
        );
        let written = if in_place { &mut x } else { &mut out };
        let results: Vec<u64> = out_at.iter().map(|&at| get(written, at, size)).collect();
        // With the results taken out again, everything must be as it was.
        for &at in &out_at {
            written[at..at + size].copy_from_slice(&canary_bytes(at)[..size]);
        }
        let touched = written.iter().enumerate().position(|(i, &byte)| byte != canary(i));
        assert!(
            touched.is_none(),
            "byte {touched:?} (the first result is at {}) is not part of a result and was written to: {}",
            out_at.first().copied().unwrap_or(0),
            self.describe(case)
        );
        if !in_place {
            assert!(x == x_before, "the input was written to: {}", self.describe(case));
        }
        results
    }

    /// Strides of a packed mask and of packed temperatures, in terms of this shape.
    fn side_strides(&self, n: usize) -> (Vec<isize>, Vec<isize>) {
        let dims = self.shape.len();
        let (mut mask, mut heat) = (vec![0; dims], vec![-8; dims]);
        let (mut element, mut row) = (1, 1);
        for d in (0..dims).rev() {
            if self.reduced[d] {
                mask[d] = element as isize;
                element *= self.shape[d];
            } else {
                mask[d] = (row * n) as isize;
                heat[d] = (row * 8) as isize;
                row *= self.shape[d];
            }
        }
        (mask, heat)
    }

    pub fn describe(&self, case: &Case<'_>) -> String {
        format!(
            "{} {:?} {:?}, {} rows of {}, {}",
            case.level.name(),
            case.op,
            case.dtype,
            case.rows,
            case.n,
            self.name
        )
    }
}

/// A byte that depends on its place, so that a shifted copy does not go unseen either.
fn canary(i: usize) -> u8 {
    (i % 251) as u8 ^ 0xa5
}

fn canaries(bytes: usize) -> Vec<u8> {
    (0..bytes).map(canary).collect()
}

fn canary_bytes(at: usize) -> [u8; 8] {
    std::array::from_fn(|i| canary(at + i))
}

pub fn put(memory: &mut [u8], at: usize, bits: u64, size: usize, swapped: bool) {
    let to = &mut memory[at..at + size];
    match size {
        2 => to.copy_from_slice(&(bits as u16).to_ne_bytes()),
        4 => to.copy_from_slice(&(bits as u32).to_ne_bytes()),
        _ => to.copy_from_slice(&bits.to_ne_bytes()),
    }
    if swapped {
        to.reverse();
    }
}

pub fn get(memory: &[u8], at: usize, size: usize) -> u64 {
    let bytes = |i: usize| memory[at + i];
    match size {
        2 => u64::from(u16::from_ne_bytes(std::array::from_fn(bytes))),
        4 => u64::from(u32::from_ne_bytes(std::array::from_fn(bytes))),
        _ => u64::from_ne_bytes(std::array::from_fn(bytes)),
    }
}
