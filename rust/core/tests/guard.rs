//! Not one byte outside of an operand's own elements is read or written.
//!
//! Every operand lies in memory of its own between two pages that may not be touched, and ends right before the one or
//! begins right after the other: the first byte too far ends the process, and a handler says in which case. Bytes that
//! lie between an operand's elements, or between it and its page, cannot be guarded so. They are filled, each time with
//! something else: writing to them shows, and so does a result that depends on them.

#![cfg(target_os = "linux")]

mod common;

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr;

use common::{ALL_OPS, DTYPES, Random, encode, report};
use softmax_core::simd::Level;
use softmax_core::{
    Array, Cotangent, CrossEntropy, Derivative, Dtype, Loss, NoControl, Op, Problem, Reduction, Target, Temperature,
    cross_entropy_at, parallel, run_at,
};

/// More than the longest row that is tried has, whatever the distance of its elements.
const ROOM: usize = 1 << 20;
/// Filled bytes around an operand that are compared.
const MARGIN: usize = 192;
/// A cache line, and a vector of AVX-512.
const OFFSETS: usize = 64;
const LENGTHS: std::ops::RangeInclusive<usize> = 0..=300;

/// Memory between two pages that may not be touched.
struct Fence {
    start: *mut u8,
    bytes: usize,
}

fn page() -> usize {
    // SAFETY: asks for a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).expect("pages have a size")
}

impl Fence {
    fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(page());
        // SAFETY: new memory, of which the inner pages are opened.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let all = libc::mmap(ptr::null_mut(), bytes + 2 * page(), libc::PROT_NONE, flags, -1, 0);
            assert_ne!(all, libc::MAP_FAILED);
            let start = all.cast::<u8>().add(page());
            let opened = libc::mprotect(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE);
            assert_eq!(opened, 0);
            Self { start, bytes }
        }
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped.
        let unmapped = unsafe { libc::munmap(self.start.sub(page()).cast(), self.bytes + 2 * page()) };
        assert_eq!(unmapped, 0);
    }
}

/// Where in its fence an operand lies.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// It begins so many bytes after the closed page.
    First(usize),
    /// It ends so many bytes before the closed page.
    Last(usize),
}

/// The low bytes of this are a class that is ignored, in integers of any size: no other target has them.
const IGNORED: u64 = 0x7f7f_7f7f_7f7f_7f7f;

const TARGETS: [Dtype; 12] = [
    Dtype::I8,
    Dtype::I16,
    Dtype::I32,
    Dtype::I64,
    Dtype::U8,
    Dtype::U16,
    Dtype::U32,
    Dtype::U64,
    Dtype::F16,
    Dtype::Bf16,
    Dtype::F32,
    Dtype::F64,
];

const FLUSH: [Place; 2] = [Place::First(0), Place::Last(0)];
/// And so that no element is aligned: what is written by a typed pointer then fails with debug assertions.
const ASKEW: [Place; 3] = [Place::First(0), Place::Last(0), Place::First(1)];

/// How the elements of all operands are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spacing {
    Dense,
    /// The first axis is the innermost.
    Transposed,
    /// All strides are negative.
    Reversed,
    /// Two elements' room after each; every other axis reversed.
    Gaps,
    /// An odd number of bytes from one to the next; every other axis reversed.
    Odd,
    /// Room for five elements after each stretch of the last axis.
    Padded,
}

const SPACINGS: [Spacing; 6] = [
    Spacing::Dense,
    Spacing::Transposed,
    Spacing::Reversed,
    Spacing::Gaps,
    Spacing::Odd,
    Spacing::Padded,
];

/// An operand without its memory.
struct Form {
    size: usize,
    strides: Vec<isize>,
    /// Bytes from the element at (0, ..., 0) to each, in C order.
    places: Vec<isize>,
    /// Bytes from there to the operand's first byte (not positive), and to the one behind its last.
    low: isize,
    high: isize,
}

impl Form {
    fn new(shape: &[usize], size: usize, spacing: Spacing) -> Self {
        let mut strides = vec![0_isize; shape.len()];
        let mut step = match spacing {
            Spacing::Gaps => 3 * size,
            Spacing::Odd => 2 * size + 1,
            _ => size,
        };
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        if spacing != Spacing::Transposed {
            axes.reverse();
        }
        for (i, &d) in axes.iter().enumerate() {
            let is_reversed = match spacing {
                Spacing::Reversed => true,
                Spacing::Gaps => d % 2 == 1,
                Spacing::Odd => d % 2 == 0,
                _ => false,
            };
            strides[d] = if is_reversed { -(step as isize) } else { step as isize };
            step *= shape[d].max(1);
            if spacing == Spacing::Padded && i == 0 {
                step += 5 * size;
            }
        }
        let mut places = vec![0];
        for (&n, &stride) in shape.iter().zip(&strides) {
            places = places
                .iter()
                .flat_map(|&place| (0..n as isize).map(move |i| place + stride * i))
                .collect();
        }
        let (low, high) = (places.iter().min(), places.iter().max());
        Self {
            size,
            strides,
            low: low.copied().unwrap_or(0),
            high: high.map_or(0, |&high| high + size as isize),
            places,
        }
    }

    /// Its strides where the axis of the row is left out: `reduced` says which, their strides are nonsense then.
    fn spread(&self, reduced: &[bool]) -> Vec<isize> {
        let strides = self.strides.iter().zip(reduced);
        strides
            .map(|(&stride, &reduced)| if reduced { 123_456_789 } else { stride })
            .collect()
    }
}

/// An operand in its memory.
struct Laid<'a> {
    form: &'a Form,
    ptr: *mut u8,
    window: &'a mut [u8],
    /// What the window held before the call.
    before: Vec<u8>,
    filler: u8,
}

impl<'a> Laid<'a> {
    /// Lays the elements out, in C order, and something else around them.
    fn new(
        fence: &'a Fence,
        form: &'a Form,
        place: Place,
        filler: u8,
        swapped: bool,
        elements: impl Iterator<Item = u64>,
    ) -> Self {
        let reach = usize::try_from(form.high - form.low).expect("high is above low");
        assert!(reach + OFFSETS <= fence.bytes);
        let first = match place {
            Place::First(offset) => offset,
            Place::Last(offset) => fence.bytes - reach - offset,
        };
        let from = first.saturating_sub(MARGIN);
        let to = (first + reach + MARGIN).min(fence.bytes);
        // SAFETY: within the open pages, which nobody else looks at while this lives.
        let window = unsafe { std::slice::from_raw_parts_mut(fence.start.add(from), to - from) };
        window.fill(filler);
        let ptr = fence.start.wrapping_add(first).wrapping_offset(-form.low);
        let mut laid = Self {
            form,
            ptr,
            window,
            before: Vec::new(),
            filler,
        };
        for (i, bits) in elements.take(form.places.len()).enumerate() {
            let bytes = bits.to_le_bytes();
            let element = laid.element(i);
            element.copy_from_slice(&bytes[..element.len()]);
            if swapped {
                element.reverse();
            }
        }
        laid.before.extend_from_slice(laid.window);
        laid
    }

    fn element(&mut self, i: usize) -> &mut [u8] {
        let address = self.ptr.wrapping_offset(self.form.places[i]).addr();
        let at = address - self.window.as_ptr().addr();
        &mut self.window[at..at + self.form.size]
    }

    /// Takes the elements out, in C order; whether nothing else was written.
    fn take(mut self) -> (Vec<u64>, bool) {
        let filler = self.filler;
        let mut elements = Vec::with_capacity(self.form.places.len());
        for i in 0..self.form.places.len() {
            let mut bytes = [0; 8];
            let element = self.element(i);
            bytes[..element.len()].copy_from_slice(element);
            element.fill(filler);
            elements.push(u64::from_le_bytes(bytes));
        }
        let clean = self.window.iter().all(|&byte| byte == filler);
        (elements, clean)
    }

    fn array<'b>(&self, dtype: Dtype, swapped: bool, strides: &'b [isize]) -> Array<'b> {
        Array {
            ptr: self.ptr,
            dtype,
            swapped,
            strides,
        }
    }

    /// Its elements, if they are dense float64.
    fn numbers(&self) -> &'a [f64] {
        // SAFETY: laid out so; the form has as many elements, and `take` is not called before the call is over.
        unsafe { std::slice::from_raw_parts(self.ptr.cast(), self.form.places.len()) }
    }
}

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Of(Op),
    Loss {
        /// Of the targets: integers are classes, floats probabilities.
        target: Dtype,
        /// 0: only the loss, 1: the gradient, 2: a product with the Hessian.
        order: usize,
        /// Weights, smoothing, and for loss and gradient a cap and a square beside.
        rich: bool,
    },
}

/// One call, but for where its operands lie.
#[derive(Clone, Debug)]
struct Case {
    level: Level,
    work: Work,
    from: Dtype,
    swapped: bool,
    dtype: Dtype,
    shape: Vec<usize>,
    reduced: Vec<bool>,
    spacing: Spacing,
    /// With a mask, and a temperature for each row.
    beside: bool,
}

thread_local! {
    /// For the handler of faults.
    static NOW: Cell<(*const Case, Place)> = const { Cell::new((ptr::null(), Place::First(0))) };
}

/// Says which case went too far, and ends the process.
extern "C" fn fault(signal: c_int) {
    let (case, place) = NOW.get();
    // SAFETY: null, or set by `check`, which is on this thread's stack still.
    let case = unsafe { case.as_ref() };
    eprintln!("signal {signal}: memory outside of the operands was touched, {place:?}, {case:?}");
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

fn watch_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the handler does not return.
        unsafe { libc::signal(signal, fault as *const () as libc::sighandler_t) };
    }
}

/// Memory for all operands, and the numbers that go there.
struct Yard {
    fences: [Fence; 8],
    numbers: Vec<f64>,
    calls: usize,
}

impl Yard {
    fn new() -> Self {
        watch_faults();
        let mut random = Random(11);
        Self {
            fences: std::array::from_fn(|_| Fence::new(ROOM)),
            numbers: (0..1 << 14).map(|_| 3.0 * random.normal()).collect(),
            calls: 0,
        }
    }

    /// Runs the case in all these places, and compares the results.
    ///
    /// # Panics
    /// If a byte was written that is no result's, or if one was read that is no operand's.
    fn check(&mut self, case: &Case, places: &[Place]) {
        let rows = |size, spacing| {
            let lengths = case.shape.iter().zip(&case.reduced);
            let shape: Vec<usize> = lengths.map(|(&n, &reduced)| if reduced { 1 } else { n }).collect();
            Form::new(&shape, size, spacing)
        };
        let all = |size| Form::new(&case.shape, size, case.spacing);
        let lengths = case.shape.iter().zip(&case.reduced);
        let n: usize = lengths.map(|(&n, &reduced)| if reduced { n } else { 1 }).product();
        let (is_jacobian, is_elementwise, target) = match case.work {
            Work::Of(op) => (
                matches!(op, Op::SoftmaxJacobian | Op::LogSoftmaxJacobian),
                op.is_elementwise(),
                None,
            ),
            Work::Loss { target, .. } => (false, true, Some(target)),
        };
        let by_class = target.is_some_and(|target| !is_float(target));
        let size = case.dtype.size();
        let none = || Form::new(&[0], 1, Spacing::Dense);
        let (has_second, has_numbers, is_rich) = match case.work {
            Work::Of(op) => (op.is_binary(), op == Op::LogSumExpVjp, false),
            Work::Loss { order, rich, .. } => (order == 2, true, rich),
        };
        let forms = [
            all(case.from.size()),
            if has_second { all(case.from.size()) } else { none() },
            match target {
                Some(target) if by_class => rows(target.size(), case.spacing),
                Some(target) => all(target.size()),
                None => none(),
            },
            if case.beside { all(1) } else { none() },
            if case.beside { rows(8, case.spacing) } else { none() },
            if has_numbers { rows(8, Spacing::Dense) } else { none() },
            if is_rich {
                Form::new(&[n], 8, Spacing::Dense)
            } else {
                none()
            },
            if is_jacobian {
                let mut shape = case.shape.clone();
                shape.push(n);
                Form::new(&shape, size, case.spacing)
            } else if is_elementwise {
                all(size)
            } else {
                rows(size, case.spacing)
            },
        ];
        let mut expected: Option<(Vec<u64>, Vec<u64>)> = None;
        for (i, &place) in places.iter().enumerate() {
            let filler = [0xff, 0x00, 0x7f, 0x3c][i % 4];
            let result = self.run(case, &forms, n, by_class, place, filler);
            self.calls += 1;
            match &expected {
                None => expected = Some(result),
                Some(expected) => assert!(
                    *expected == result,
                    "at {place:?} and at {:?} the results differ, as the bytes around the operands do: {case:?}",
                    places[0]
                ),
            }
        }
    }

    fn run(
        &self,
        case: &Case,
        forms: &[Form; 8],
        n: usize,
        by_class: bool,
        place: Place,
        filler: u8,
    ) -> (Vec<u64>, Vec<u64>) {
        // Slices of numbers are aligned.
        let aligned = match place {
            Place::First(_) => Place::First(0),
            Place::Last(_) => Place::Last(0),
        };
        let pool = |start: usize| self.numbers.iter().cycle().skip(start).copied();
        let [x, second, target, mask, heat, per_row, per_class, out] = forms;
        let [f0, f1, f2, f3, f4, f5, f6, f7] = &self.fences;
        let is_dense = matches!(case.work, Work::Loss { target, .. } if is_float(target));
        let x = Laid::new(
            f0,
            x,
            place,
            filler,
            case.swapped,
            pool(0).map(|v| number(case.from, v)),
        );
        let second = Laid::new(
            f1,
            second,
            place,
            filler,
            case.swapped,
            pool(777).map(|v| number(case.from, v)),
        );
        let target_dtype = match case.work {
            Work::Loss { target, .. } => target,
            Work::Of(_) => Dtype::U8,
        };
        let labels = (0..).map(|i: usize| {
            if is_dense {
                number(target_dtype, (i % 3) as f64 / 2.0)
            } else if n == 0 || i % 6 == 5 {
                IGNORED
            } else {
                ((i * 7 + n - 1) % n.min(127)) as u64
            }
        });
        let target = Laid::new(f2, target, place, filler, case.swapped, labels);
        // Any byte but zero is true.
        let mask = Laid::new(f3, mask, place, filler, false, (0..).map(|i: u64| (i % 5) * 51));
        let heats = (0..).map(|i: u32| f64::from(1 + i % 7).to_bits());
        let heat = Laid::new(f4, heat, place, filler, false, heats);
        let halves = (0..).map(|i: u32| (0.5 + f64::from(i % 3)).to_bits());
        let per_row = Laid::new(f5, per_row, aligned, filler, false, halves.clone());
        let per_class = Laid::new(f6, per_class, aligned, filler, false, halves);
        let out = Laid::new(f7, out, place, filler, false, std::iter::empty());

        let is_reduction = matches!(case.work, Work::Of(op) if !op.is_elementwise());
        let mut out_strides = out.form.strides.clone();
        if is_reduction {
            out_strides = out.form.spread(&case.reduced);
        }
        let heat_strides = if case.beside {
            heat.form.spread(&case.reduced)
        } else {
            Vec::new()
        };
        let target_strides = if by_class {
            target.form.spread(&case.reduced)
        } else {
            target.form.strides.clone()
        };
        let mask_array = case.beside.then(|| mask.array(Dtype::Bool, false, &mask.form.strides));
        let temperature = if case.beside {
            Temperature::Rows(heat.array(Dtype::F64, false, &heat_strides))
        } else {
            Temperature::One(1.0)
        };
        let logits = x.array(case.from, case.swapped, &x.form.strides);
        let other = second.array(case.from, case.swapped, &second.form.strides);
        let result = out.array(case.dtype, false, &out_strides);
        NOW.set((case, place));
        let losses = match case.work {
            Work::Of(op) => {
                let problem = Problem {
                    op,
                    shape: &case.shape,
                    reduced: &case.reduced,
                    x: logits,
                    second: op.is_binary().then_some(other),
                    mask: mask_array,
                    temperature: if op.has_temperature() {
                        temperature
                    } else {
                        Temperature::One(1.0)
                    },
                    cotangent: if op == Op::LogSumExpVjp { per_row.numbers() } else { &[] },
                    out: result,
                };
                // SAFETY: operands as the forms say, each in memory of its own; temperatures are positive.
                let done = unsafe { run_at(case.level, &problem, &NoControl) };
                assert_eq!(done, Ok(()), "{case:?}");
                Vec::new()
            }
            Work::Loss { order, rich, .. } => {
                let array = target.array(target_dtype, case.swapped, &target_strides);
                let problem = CrossEntropy {
                    shape: &case.shape,
                    axis: case.reduced.iter().position(|&reduced| reduced).expect("one axis"),
                    logits,
                    dtype: case.dtype,
                    target: if by_class {
                        Target::Classes(array)
                    } else {
                        Target::Probabilities(array)
                    },
                    weight: if rich { per_class.numbers() } else { &[] },
                    sample_weight: if rich { per_row.numbers() } else { &[] },
                    ignore_index: by_class.then_some(ignored(target_dtype)),
                    label_smoothing: if rich { 0.1 } else { 0.0 },
                    reduction: Reduction::None,
                    temperature,
                    z_loss: if rich && order < 2 { 0.01 } else { 0.0 },
                    softcap: (rich && order < 2).then_some(20.0),
                    mask: mask_array,
                    cotangent: Cotangent::Rows(per_row.numbers()),
                    derivative: match order {
                        0 => Derivative::None,
                        1 => Derivative::Gradient(result),
                        _ => Derivative::Hessian(other, result),
                    },
                };
                // SAFETY: as above.
                match unsafe { cross_entropy_at(case.level, &problem, &NoControl) } {
                    Ok(Loss::Rows(losses)) => losses.iter().map(|loss| loss.to_bits()).collect(),
                    Ok(Loss::One(loss)) => vec![loss.to_bits()],
                    Err(fault) => panic!("{fault:?}: {case:?}"),
                }
            }
        };
        NOW.set((ptr::null(), place));

        for (i, input) in [x, second, target, mask, heat, per_row, per_class].iter().enumerate() {
            assert!(
                input.window == input.before,
                "input {i} was written to, {place:?}: {case:?}"
            );
        }
        let (elements, clean) = out.take();
        assert!(clean, "bytes beside the results were written, {place:?}: {case:?}");
        match case.work {
            Work::Loss { order: 0, .. } => (Vec::new(), losses),
            _ => (elements, losses),
        }
    }
}

const fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64)
}

/// Lengths for what is slow to lay out: all about the widths of vectors and tiles, and some of the others.
const fn is_wanted(n: &usize) -> bool {
    *n <= 36 || *n % 16 <= 1 || n.is_multiple_of(11)
}

/// A number as memory of any dtype holds it.
fn number(dtype: Dtype, value: f64) -> u64 {
    if is_float(dtype) {
        encode(dtype, value)
    } else {
        (value * 10.0) as i64 as u64
    }
}

/// The class that is ignored, as this dtype holds it.
fn ignored(dtype: Dtype) -> i128 {
    i128::from(IGNORED >> (64 - 8 * dtype.size()))
}

/// The number of a test's calls, level by level.
fn tell(what: &str, level: Level, calls: usize) {
    report(&format!("guard pages, {}: {calls} calls, {what}", level.name()));
    assert!(calls > 0);
}

fn case(level: Level, work: Work, dtype: Dtype, shape: &[usize], axis: usize) -> Case {
    Case {
        level,
        work,
        from: dtype,
        swapped: false,
        dtype,
        shape: shape.to_vec(),
        reduced: (0..shape.len()).map(|d| d == axis).collect(),
        spacing: Spacing::Dense,
        beside: false,
    }
}

/// A fault must not go unseen: a child that reads, and one that writes, a byte too far is ended by the signal.
#[test]
fn the_pages_are_closed() {
    let fence = Fence::new(1);
    for write in [false, true] {
        for byte in [fence.start.wrapping_sub(1), fence.start.wrapping_add(fence.bytes)] {
            // SAFETY: the child touches nothing but this byte, and ends.
            let status = unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                    if write {
                        byte.write_volatile(1);
                    } else {
                        byte.read_volatile();
                    }
                    libc::_exit(0);
                }
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                status
            };
            assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV);
        }
    }
}

#[test]
fn every_length_at_every_offset() {
    let mut places = FLUSH.to_vec();
    places.extend((1..OFFSETS).flat_map(|offset| [Place::First(offset), Place::Last(offset)]));
    for level in Level::all_supported() {
        let mut yard = Yard::new();
        for op in ALL_OPS {
            for dtype in DTYPES {
                for n in LENGTHS {
                    yard.check(&case(level, Work::Of(op), dtype, &[n], 0), &places);
                }
            }
        }
        tell(
            "one row of 0 to 300 elements at 64 offsets from either page",
            level,
            yard.calls,
        );
    }
}

#[test]
fn every_length_in_every_layout() {
    for level in Level::all_supported() {
        let mut yard = Yard::new();
        for op in ALL_OPS {
            for dtype in DTYPES {
                for n in LENGTHS.filter(is_wanted) {
                    // Rows, columns (fewer than a vector's lanes, and a few more), and rows of two axes.
                    let shapes: [(&[usize], &[usize]); 5] = [
                        (&[3, n], &[1]),
                        (&[n, 3], &[0]),
                        (&[n, 17], &[0]),
                        (&[2, n, 9], &[1]),
                        (&[2, 3, n.div_ceil(2)], &[0, 2]),
                    ];
                    for (i, (shape, axes)) in shapes.into_iter().enumerate() {
                        // Large shapes have each spacing at every sixth length only.
                        for (j, &spacing) in SPACINGS.iter().enumerate() {
                            if n > 40 && (n + i) % SPACINGS.len() != j {
                                continue;
                            }
                            let mut case = case(level, Work::Of(op), dtype, shape, 0);
                            case.reduced = (0..shape.len()).map(|d| axes.contains(&d)).collect();
                            case.spacing = spacing;
                            case.beside = (n + i + j) % 2 == 1;
                            yard.check(&case, &FLUSH);
                        }
                    }
                }
            }
        }
        tell("rows, columns and rows of two axes in six spacings", level, yard.calls);
    }
}

#[test]
fn every_length_of_a_loss() {
    for level in Level::all_supported() {
        let mut yard = Yard::new();
        for (t, target) in TARGETS.into_iter().enumerate() {
            for dtype in DTYPES {
                // Each length with a few of the dtypes.
                for n in LENGTHS.filter(|n| is_wanted(n) || (n + t).is_multiple_of(12)) {
                    for order in 0..3 {
                        let i = n + order;
                        let rich = i % 2 == 1;
                        let work = Work::Loss { target, order, rich };
                        for (shape, axis) in [(&[3, n][..], 1), (&[n, 17], 0)] {
                            if axis == 0 && !(is_wanted(&n) && (i + t).is_multiple_of(3)) {
                                continue;
                            }
                            let mut case = case(level, work, dtype, shape, axis);
                            case.spacing = SPACINGS[i % SPACINGS.len()];
                            case.beside = i % 3 == 1;
                            case.swapped = i % 5 == 1;
                            yard.check(&case, &FLUSH);
                        }
                    }
                }
            }
        }
        tell(
            "losses, gradients and Hessians with targets of every dtype",
            level,
            yard.calls,
        );
    }
}

#[test]
fn inputs_of_every_dtype() {
    let dtypes = TARGETS.into_iter().chain([Dtype::Bool]);
    for level in Level::all_supported() {
        let mut yard = Yard::new();
        for from in dtypes.clone() {
            for op in [Op::Softmax, Op::LogSumExp, Op::LogSoftmaxVjp] {
                for (i, n) in LENGTHS.filter(is_wanted).enumerate() {
                    for (shape, axis) in [(&[3, n][..], 1), (&[n, 11], 0)] {
                        let mut case = case(level, Work::Of(op), DTYPES[i % 4], shape, axis);
                        case.from = from;
                        case.swapped = i % 3 == 0 && from.size() > 1;
                        case.spacing = SPACINGS[i % SPACINGS.len()];
                        yard.check(&case, &ASKEW);
                    }
                }
            }
        }
        tell("rows and columns converted from every dtype", level, yard.calls);
    }
}

#[test]
fn jacobians() {
    for level in Level::all_supported() {
        let mut yard = Yard::new();
        for op in [Op::SoftmaxJacobian, Op::LogSoftmaxJacobian] {
            for dtype in DTYPES {
                for n in 0..=50 {
                    for spacing in SPACINGS {
                        for (shape, axis) in [(&[2, n][..], 1), (&[n, 3], 0)] {
                            let mut case = case(level, Work::Of(op), dtype, shape, axis);
                            case.spacing = spacing;
                            yard.check(&case, &ASKEW);
                        }
                    }
                }
            }
        }
        tell("Jacobians", level, yard.calls);
    }
}

/// Rows that are walked in blocks, on one thread and on three.
#[test]
fn long_rows() {
    const LONG_BYTES: usize = 1 << 20;
    for level in Level::all_supported() {
        let mut yard = Yard::new();
        yard.fences = std::array::from_fn(|_| Fence::new(3 << 20));
        for (threads, more) in [(1, 0), (3, 67)] {
            let before = parallel::set_local_threads(Some(threads));
            for op in ALL_OPS {
                for dtype in DTYPES {
                    let limit = LONG_BYTES / if dtype == Dtype::F64 { 8 } else { 4 };
                    yard.check(&case(level, Work::Of(op), dtype, &[limit + 1 + more], 0), &FLUSH);
                }
            }
            for target in [Dtype::I64, Dtype::F32] {
                for order in 0..3 {
                    let work = Work::Loss {
                        target,
                        order,
                        rich: true,
                    };
                    let mut case = case(level, work, Dtype::F32, &[LONG_BYTES / 4 + 13], 0);
                    case.beside = true;
                    yard.check(&case, &FLUSH);
                }
            }
            parallel::set_local_threads(before);
        }
        tell("long rows", level, yard.calls);
    }
}
