//! Bytes become a call: an op or a loss, dtypes, a shape, axes, strides of every operand on its own, overlaps among the
//! inputs, targets, masks, temperatures, weights, and the numbers in memory.
//!
//! Each operand ends where its allocation ends, or begins where it begins, so that AddressSanitizer sees a byte too far.
//! Beside that the results are compared, bit for bit, with those of the same rows laid out plainly, one call for each:
//! another regime and no packing. And nothing but results may be written.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use softmax_core::simd::Level;
use softmax_core::{
    Array, Cotangent, CrossEntropy, Derivative, Dtype, Fault, Loss, NoControl, Op, Problem, Reduction, Target,
    Temperature, cross_entropy_at, parallel, run_at,
};

const OPS: [Op; 12] = [
    Op::Softmax,
    Op::LogSoftmax,
    Op::LogSumExp,
    Op::SoftmaxProduct,
    Op::LogSoftmaxJvp,
    Op::LogSoftmaxVjp,
    Op::LogSumExpJvp,
    Op::LogSumExpVjp,
    Op::SoftmaxBackward,
    Op::LogSoftmaxBackward,
    Op::SoftmaxJacobian,
    Op::LogSoftmaxJacobian,
];
const FLOATS: [Dtype; 4] = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16];
const DTYPES: [Dtype; 13] = [
    Dtype::F32,
    Dtype::F64,
    Dtype::F16,
    Dtype::Bf16,
    Dtype::Bool,
    Dtype::I8,
    Dtype::I16,
    Dtype::I32,
    Dtype::I64,
    Dtype::U8,
    Dtype::U16,
    Dtype::U32,
    Dtype::U64,
];
/// More elements than this tell nothing new, and take long.
const MOST: usize = 3000;

/// The bytes, read in turn; zeros when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn below(&mut self, n: usize) -> usize {
        (usize::from(self.byte()) | usize::from(self.byte()) << 8) % n
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn pick<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of[self.below(N)]
    }

    /// Numbers of every size, and special ones.
    fn number(&mut self) -> f64 {
        let byte = self.byte();
        match byte % 16 {
            0 => f64::from(self.byte()) - 128.0,
            1 => f64::from_bits(u64::from_le_bytes(std::array::from_fn(|_| self.byte()))),
            2 => f64::NEG_INFINITY,
            3 => [
                f64::INFINITY,
                f64::NAN,
                f64::MAX,
                f64::MIN,
                f64::MIN_POSITIVE,
                -0.0,
                1e30,
                -65504.0,
            ][usize::from(byte >> 4) % 8],
            _ => f64::from(byte.cast_signed()) / 9.0,
        }
    }
}

/// An operand: its elements' places in memory of its own.
struct Operand {
    memory: Vec<u8>,
    first: usize,
    strides: Vec<isize>,
    dtype: Dtype,
    swapped: bool,
    /// In C order of the shape it was made for.
    places: Vec<usize>,
}

impl Operand {
    /// Strides of any sign; for an input also 0, or such that elements overlap.
    fn draw(bytes: &mut Bytes<'_>, shape: &[usize], dtype: Dtype, is_out: bool) -> Option<Self> {
        let size = dtype.size();
        let mut strides = vec![0_isize; shape.len()];
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        for i in (1..axes.len()).rev() {
            axes.swap(i, bytes.below(i + 1));
        }
        let mut step = size;
        for &d in &axes {
            let how = bytes.byte();
            let gap = usize::from(how >> 4) % 8; // in bytes: also what leaves elements misaligned
            step += [0, 0, 0, size, 2 * size, 1, 3, gap][usize::from(how) % 8];
            strides[d] = if how & 8 == 8 { -(step as isize) } else { step as isize };
            if !is_out && how % 11 == 10 {
                strides[d] = [0, size as isize, 1, -(size as isize)][usize::from(how >> 6)];
            }
            step *= shape[d].max(1);
        }
        let mut places = vec![0_isize];
        for (&n, &stride) in shape.iter().zip(&strides) {
            places = places
                .iter()
                .flat_map(|&place| (0..n as isize).map(move |i| place + i * stride))
                .collect();
        }
        let low = places.iter().copied().min().unwrap_or(0);
        let high = places.iter().copied().max().map_or(0, |high| high + size as isize);
        let (before, after) = [(0, 0), (0, 0), (1, 0), (0, 1)][bytes.below(4)];
        let first = usize::try_from(before - low).ok()?;
        let length = usize::try_from(high - low + before + after).ok()?;
        // A boxed slice has no room to spare, which would be bytes that may be touched.
        let memory = (0..length).map(|i| (i % 251) as u8 ^ 0xa5).collect::<Vec<u8>>();
        let mut memory = memory.into_boxed_slice().into_vec();
        memory.shrink_to_fit();
        Some(Self {
            memory,
            first,
            strides,
            dtype,
            swapped: !is_out && size > 1 && bytes.byte() % 5 == 4,
            places: places.iter().map(|&place| first.wrapping_add_signed(place)).collect(),
        })
    }

    /// The same elements, one after the other in the machine's order.
    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.places.len() * self.dtype.size());
        for i in 0..self.places.len() {
            plain.extend(self.element(i));
        }
        plain
    }

    fn element(&self, i: usize) -> Vec<u8> {
        let mut element = self.memory[self.places[i]..self.places[i] + self.dtype.size()].to_vec();
        if self.swapped {
            element.reverse();
        }
        element
    }

    fn set(&mut self, i: usize, mut bytes: Vec<u8>) {
        if self.swapped {
            bytes.reverse();
        }
        self.memory[self.places[i]..self.places[i] + bytes.len()].copy_from_slice(&bytes);
    }

    fn fill(&mut self, bytes: &mut Bytes<'_>) {
        for i in 0..self.places.len() {
            let value = bytes.number();
            self.set(i, encode(self.dtype, value));
        }
    }

    fn array<'a>(&mut self, strides: &'a [isize]) -> Array<'a> {
        Array {
            ptr: self.memory.as_mut_ptr().wrapping_add(self.first),
            dtype: self.dtype,
            swapped: self.swapped,
            strides,
        }
    }
}

fn encode(dtype: Dtype, value: f64) -> Vec<u8> {
    match dtype {
        Dtype::F64 => value.to_le_bytes().to_vec(),
        Dtype::F32 => (value as f32).to_le_bytes().to_vec(),
        Dtype::F16 => half::f16::from_f64(value).to_le_bytes().to_vec(),
        Dtype::Bf16 => half::bf16::from_f64(value).to_le_bytes().to_vec(),
        _ => (value as i64).to_le_bytes()[..dtype.size()].to_vec(),
    }
}

/// Strides over the axes of the problem, of an operand that has no element along those of the row.
fn spread(strides: &[isize], reduced: &[bool]) -> Vec<isize> {
    let mut kept = strides.iter();
    reduced
        .iter()
        .map(|&reduced| {
            if reduced {
                123_456_789
            } else {
                *kept.next().expect("one for each kept axis")
            }
        })
        .collect()
}

/// Which elements belong to each row, in C order of the kept axes and, within, of the reduced ones.
fn rows(shape: &[usize], reduced: &[bool]) -> Vec<Vec<usize>> {
    let mut steps = vec![1; shape.len()];
    for d in (1..shape.len()).rev() {
        steps[d - 1] = steps[d] * shape[d];
    }
    let walk = |which: bool| {
        let mut places = vec![0];
        for d in (0..shape.len()).filter(|&d| reduced[d] == which) {
            places = places
                .iter()
                .flat_map(|&place: &usize| (0..shape[d]).map(move |i| (place, i)))
                .map(|(place, i)| place + i * steps[d])
                .collect();
        }
        places
    };
    let elements = walk(true);
    walk(false)
        .iter()
        .map(|row| elements.iter().map(|element| row + element).collect())
        .collect()
}

fn picked(plain: &[u8], size: usize, row: &[usize]) -> Vec<u8> {
    row.iter()
        .flat_map(|&i| plain[i * size..(i + 1) * size].iter().copied())
        .collect()
}

fn call(data: &[u8]) -> Option<()> {
    let bytes = &mut Bytes(data);
    let levels: Vec<Level> = Level::all_supported().collect();
    let level = levels[bytes.below(levels.len())];
    parallel::set_local_threads(Some(1 + bytes.below(3)));
    let kind = bytes.below(OPS.len() + 6);
    let dtype = bytes.pick(FLOATS);
    let from = if bytes.byte() % 3 == 0 {
        bytes.pick(DTYPES)
    } else {
        dtype
    };
    let ndim = 1 + bytes.below(4);
    let mut shape: Vec<usize> = (0..ndim)
        .map(|_| {
            if bytes.byte() % 8 == 7 {
                bytes.below(300)
            } else {
                bytes.below(18)
            }
        })
        .collect();
    while shape.iter().product::<usize>() > MOST {
        *shape.iter_mut().max()? /= 2;
    }
    let is_jacobian = kind < OPS.len() && matches!(OPS[kind], Op::SoftmaxJacobian | Op::LogSoftmaxJacobian);
    let one_axis = kind >= OPS.len() || is_jacobian;
    let axis = bytes.below(ndim);
    let reduced: Vec<bool> = (0..ndim).map(|d| d == axis || !one_axis && bytes.flag()).collect();
    let rows = rows(&shape, &reduced);
    let n: usize = shape
        .iter()
        .zip(&reduced)
        .map(|(&n, &r)| if r { n } else { 1 })
        .product();
    let kept: Vec<usize> = shape
        .iter()
        .zip(&reduced)
        .filter(|(_, r)| !**r)
        .map(|(&n, _)| n)
        .collect();
    if is_jacobian && rows.len() * n * n > MOST {
        return None;
    }

    let mut x = Operand::draw(bytes, &shape, from, false)?;
    let mut second = Operand::draw(bytes, &shape, from, false)?;
    let mut mask = Operand::draw(bytes, &shape, Dtype::Bool, false)?;
    let mut heat = Operand::draw(bytes, &kept, Dtype::F64, false)?;
    heat.swapped = false;
    let (with_mask, with_heat) = (bytes.flag(), bytes.flag());
    let t = bytes.number().abs();
    let t = if t > 0.0 && t.is_finite() && bytes.flag() {
        t
    } else {
        1.0
    };
    let out_shape = match kind {
        _ if is_jacobian => [&shape[..], &[n]].concat(),
        _ if kind < OPS.len() && !OPS[kind].is_elementwise() => kept.clone(),
        _ => shape.clone(),
    };
    let mut out = Operand::draw(bytes, &out_shape, dtype, true)?;
    let before_out = out.memory.clone();
    let target_dtype = bytes.pick(DTYPES);
    let is_class = !FLOATS.contains(&target_dtype) && target_dtype != Dtype::Bool;
    let is_dense = FLOATS.contains(&target_dtype);
    if kind >= OPS.len() && !is_class && !is_dense {
        return None;
    }
    let mut target = Operand::draw(bytes, if is_class { &kept } else { &shape }, target_dtype, false)?;
    let (rich, order) = (bytes.flag(), bytes.below(3));
    let reduction = bytes.pick([Reduction::None, Reduction::Sum, Reduction::Mean]);
    let smoothing = if rich { f64::from(bytes.byte()) / 255.0 } else { 0.0 };
    let ignored = i128::from(bytes.byte()) - 100;
    let numbers = |bytes: &mut Bytes<'_>, count: usize| -> Vec<f64> { (0..count).map(|_| bytes.number()).collect() };
    let per_row = numbers(bytes, rows.len()).into_boxed_slice();
    let per_class = numbers(bytes, if rich { n } else { 0 }).into_boxed_slice();
    for i in 0..heat.places.len() {
        let t = bytes.number().abs();
        let t = if t > 0.0 && t.is_finite() { t } else { 1.0 };
        heat.set(i, t.to_le_bytes().to_vec());
    }
    // Elements of `heat` may share bytes: what stands there in the end may be no temperature.
    let heats: Vec<f64> = (0..heat.places.len())
        .map(|i| f64::from_le_bytes(heat.element(i).try_into().expect("eight bytes")))
        .collect();
    if with_heat && heats.iter().any(|&t| !(t > 0.0 && t.is_finite())) {
        return None;
    }
    for i in 0..mask.places.len() {
        mask.set(i, vec![bytes.byte() & 3]);
    }
    for i in 0..target.places.len() {
        let value = if is_class {
            let wild = bytes.byte() % 16 == 15;
            if wild {
                bytes.number()
            } else {
                bytes.below(n.max(1)) as f64
            }
        } else {
            bytes.number()
        };
        target.set(i, encode(target_dtype, value));
    }
    x.fill(bytes);
    second.fill(bytes);
    let memories = |operands: [&Operand; 5]| operands.map(|operand| operand.memory.clone());
    let before = memories([&x, &second, &mask, &heat, &target]);
    let (x_strides, second_strides, mask_strides) = (x.strides.clone(), second.strides.clone(), mask.strides.clone());
    let heat_strides = spread(&heat.strides, &reduced);
    let out_strides = if out_shape.len() < shape.len() {
        spread(&out.strides, &reduced)
    } else {
        out.strides.clone()
    };
    let temperature = if with_heat {
        Temperature::Rows(heat.array(&heat_strides))
    } else {
        Temperature::One(t)
    };
    let size = dtype.size();
    let plain = (x.plain(), second.plain(), mask.plain(), target.plain());
    // The rows alone, laid out plainly.
    let one = |strides: &'static [isize], memory: &mut Vec<u8>, dtype| Array {
        ptr: memory.as_mut_ptr(),
        dtype,
        swapped: false,
        strides,
    };
    let strides_of = |size: usize| -> &'static [isize] { &[[0], [1], [2], [0], [4], [0], [0], [0], [8]][size] };
    let matrix_of = |size: usize, n: usize| [(n * size) as isize, size as isize];
    let temperature_of = |r: usize| Temperature::One(if with_heat { heats[r] } else { t });

    if kind < OPS.len() {
        let op = OPS[kind];
        let temperature = if op.has_temperature() {
            temperature
        } else {
            Temperature::One(1.0)
        };
        let problem = Problem {
            op,
            shape: &shape,
            reduced: &reduced,
            x: x.array(&x_strides),
            second: op.is_binary().then(|| second.array(&second_strides)),
            mask: (with_mask && !is_jacobian).then(|| mask.array(&mask_strides)),
            temperature,
            cotangent: if op == Op::LogSumExpVjp { &per_row } else { &[] },
            out: out.array(&out_strides),
        };
        // SAFETY: operands whose elements are in memory of their own, as the places say, which were all looked at; those
        // of `out` do not overlap; temperatures are positive and finite.
        let done = unsafe { run_at(level, &problem, &NoControl) };
        assert_eq!(done, Ok(()));
        for (r, row) in rows.iter().enumerate() {
            let per = if is_jacobian {
                n * n
            } else if op.is_elementwise() {
                n
            } else {
                1
            };
            let mut alone = [
                picked(&plain.0, from.size(), row),
                picked(&plain.1, from.size(), row),
                picked(&plain.2, 1, row),
                vec![0; per * size],
            ];
            let [x, second, mask, result] = &mut alone;
            let matrix = matrix_of(size, n);
            let problem = Problem {
                op,
                shape: &[n],
                reduced: &[true],
                x: one(strides_of(from.size()), x, from),
                second: op.is_binary().then(|| one(strides_of(from.size()), second, from)),
                mask: (with_mask && !is_jacobian).then(|| one(strides_of(1), mask, Dtype::Bool)),
                temperature: if op.has_temperature() {
                    temperature_of(r)
                } else {
                    Temperature::One(1.0)
                },
                cotangent: if op == Op::LogSumExpVjp { &per_row[r..=r] } else { &[] },
                out: Array {
                    ptr: result.as_mut_ptr(),
                    dtype,
                    swapped: false,
                    strides: if is_jacobian { &matrix } else { strides_of(size) },
                },
            };
            // SAFETY: as above.
            assert_eq!(unsafe { run_at(level, &problem, &NoControl) }, Ok(()));
            for i in 0..per {
                let place = if is_jacobian {
                    row[i / n] * n + i % n
                } else if op.is_elementwise() {
                    row[i]
                } else {
                    r
                };
                let (got, want) = (out.element(place), &alone[3][i * size..(i + 1) * size]);
                assert_eq!(
                    got, want,
                    "{level:?} {op:?} {dtype:?} of {from:?} {shape:?} {reduced:?}, row {r}, {i}"
                );
            }
        }
    } else {
        let target_strides = if is_class {
            spread(&target.strides, &reduced)
        } else {
            target.strides.clone()
        };
        let array = target.array(&target_strides);
        let call = CrossEntropy {
            shape: &shape,
            axis,
            logits: x.array(&x_strides),
            dtype,
            target: if is_class {
                Target::Classes(array)
            } else {
                Target::Probabilities(array)
            },
            weight: &per_class,
            sample_weight: if rich { &per_row } else { &[] },
            ignore_index: is_class.then_some(ignored),
            label_smoothing: smoothing,
            reduction,
            temperature,
            z_loss: if rich && order < 2 { smoothing } else { 0.0 },
            softcap: (rich && order < 2 && smoothing > 0.5).then_some(30.0 * smoothing),
            mask: with_mask.then(|| mask.array(&mask_strides)),
            cotangent: if reduction == Reduction::None {
                Cotangent::Rows(&per_row)
            } else {
                Cotangent::One(t)
            },
            derivative: match order {
                0 => Derivative::None,
                1 => Derivative::Gradient(out.array(&out_strides)),
                _ => Derivative::Hessian(second.array(&second_strides), out.array(&out_strides)),
            },
        };
        // SAFETY: as above; the lengths of the numbers are those of the rows and of the classes.
        let done = unsafe { cross_entropy_at(level, &call, &NoControl) };
        match done {
            Err(Fault::Class(index, value)) => {
                assert!(is_class && value != ignored && !(0..n as i128).contains(&value));
                assert_eq!(index.len(), kept.len());
                assert_eq!(out.memory, before_out, "an error came after the first write");
                return Some(());
            }
            Err(fault) => panic!("{fault:?}"),
            Ok(Loss::Rows(losses)) => assert_eq!(losses.len(), if order < 2 { rows.len() } else { 0 }),
            Ok(Loss::One(_)) => {}
        }
        // Each row alone has the same derivative where the losses stay apart.
        for (r, row) in rows
            .iter()
            .enumerate()
            .filter(|_| reduction == Reduction::None && order > 0)
        {
            let target_row = if is_class { vec![r] } else { row.clone() };
            let mut alone = [
                picked(&plain.0, from.size(), row),
                picked(&plain.1, from.size(), row),
                picked(&plain.2, 1, row),
                picked(&plain.3, target_dtype.size(), &target_row),
                vec![0; n * size],
            ];
            let [x, second, mask, target, result] = &mut alone;
            let array = one(strides_of(target_dtype.size()), target, target_dtype);
            let result = one(strides_of(size), result, dtype);
            let alone_call = CrossEntropy {
                shape: &[n],
                axis: 0,
                logits: one(strides_of(from.size()), x, from),
                target: if is_class {
                    Target::Classes(array)
                } else {
                    Target::Probabilities(array)
                },
                sample_weight: if rich { &per_row[r..=r] } else { &[] },
                temperature: temperature_of(r),
                mask: with_mask.then(|| one(strides_of(1), mask, Dtype::Bool)),
                cotangent: Cotangent::Rows(&per_row[r..=r]),
                derivative: match order {
                    1 => Derivative::Gradient(result),
                    _ => Derivative::Hessian(one(strides_of(from.size()), second, from), result),
                },
                ..call
            };
            // SAFETY: as above.
            let done = unsafe { cross_entropy_at(level, &alone_call, &NoControl) };
            assert!(done.is_ok(), "{done:?}");
            for (i, &place) in row.iter().enumerate() {
                let (got, want) = (out.element(place), &alone[4][i * size..(i + 1) * size]);
                assert_eq!(
                    got, want,
                    "{level:?} loss {order} {dtype:?} of {from:?} {shape:?}, axis {axis}, row {r}, {i}"
                );
            }
        }
    }
    assert_eq!(
        memories([&x, &second, &mask, &heat, &target]),
        before,
        "an input was written to"
    );
    // With the results taken out again, `out` must be as it was.
    for &place in &out.places {
        out.memory[place..place + size].copy_from_slice(&before_out[place..place + size]);
    }
    assert_eq!(out.memory, before_out, "bytes beside the results were written");
    Some(())
}

fuzz_target!(|data: &[u8]| -> Corpus {
    match call(data) {
        Some(()) => Corpus::Keep,
        None => Corpus::Reject,
    }
});
