//! Memory: what a call asks the allocator for, when, and what happens if it gets nothing.
//!
//! A call asks for all of it before it writes the first result: a few bytes for the list of axes, for losses some numbers
//! per row, and last the scratch, which its thread keeps for the next call. From there to its end it asks for nothing, so
//! that it cannot run out half way. (On one thread: what rayon asks for to wake its workers is measured, not forbidden.)

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{ALL_OPS, DTYPES, Random, encode, report};
use softmax_core::simd::Level;
use softmax_core::{
    Array, Cotangent, CrossEntropy, Derivative, Dtype, Error, Fault, NoControl, Op, Problem, Reduction, Target,
    Temperature, cross_entropy_at, parallel, run_at,
};

/// Scratch of one thread at most: three times 1 MiB (a tile of columns, its second array, the panel at work), and a block
/// in float64.
const SCRATCH: usize = (3 << 20) + (48 << 10);
/// The list of axes, the shape of a row: what may be asked for without a way to fail.
const SMALL: usize = 1024;
/// Only scratch is aligned to cache lines.
const LINE: usize = 64;

/// What this thread asked for since it began to listen: sizes and alignments, and how often in all.
struct Log {
    listens: Cell<bool>,
    count: Cell<usize>,
    asked: Cell<[(usize, usize); 16]>,
    /// The one that is to fail, counted from 0 among those larger than small.
    fails: Cell<Option<usize>>,
    large: Cell<usize>,
}

thread_local! {
    static LOG: Log = const {
        Log {
            listens: Cell::new(false),
            count: Cell::new(0),
            asked: Cell::new([(0, 0); 16]),
            fails: Cell::new(None),
            large: Cell::new(0),
        }
    };
}

/// Bytes that all threads have asked for.
static BYTES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

/// Writes it down; whether it may be granted.
fn grant(size: usize, align: usize) -> bool {
    BYTES.fetch_add(size, Ordering::Relaxed);
    let noted = LOG.try_with(|log| {
        if !log.listens.get() {
            return true;
        }
        let (count, mut asked) = (log.count.get(), log.asked.get());
        if let Some(entry) = asked.get_mut(count) {
            *entry = (size, align);
        }
        log.asked.set(asked);
        log.count.set(count + 1);
        if size <= SMALL {
            return true;
        }
        let large = log.large.get();
        log.large.set(large + 1);
        log.fails.get() != Some(large)
    });
    noted.unwrap_or(true)
}

// SAFETY: the system's allocator, or null, which is allowed.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if grant(layout.size(), layout.align()) {
            // SAFETY: passed on.
            unsafe { System.alloc(layout) }
        } else {
            std::ptr::null_mut()
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if grant(size, layout.align()) {
            // SAFETY: passed on.
            unsafe { System.realloc(ptr, layout, size) }
        } else {
            std::ptr::null_mut()
        }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `call` asks for on this thread, in order; `fails` names the large one that is refused.
fn listen<T>(fails: Option<usize>, call: impl FnOnce() -> T) -> (T, Vec<(usize, usize)>) {
    LOG.with(|log| {
        log.count.set(0);
        log.large.set(0);
        log.fails.set(fails);
        log.listens.set(true);
    });
    let result = call();
    let (count, asked) = LOG.with(|log| {
        log.listens.set(false);
        (log.count.get(), log.asked.get())
    });
    assert!(count <= asked.len(), "{count} allocations in one call");
    (result, asked[..count].to_vec())
}

/// How a matrix of rows lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Memory {
    Rows,
    Columns,
    Swapped,
}

/// The operands of a call, all of them: each op takes what it wants.
struct Operands {
    dtype: Dtype,
    memory: Memory,
    rows: usize,
    n: usize,
    x: Vec<u8>,
    second: Vec<u8>,
    out: Vec<u8>,
    numbers: Vec<f64>,
    classes: Vec<i64>,
    strides: [isize; 2],
    out_strides: [isize; 2],
}

/// What `out` holds before a call.
const UNTOUCHED: u8 = 0xa5;

impl Operands {
    fn new(dtype: Dtype, memory: Memory, rows: usize, n: usize, value: impl Fn(usize) -> f64) -> Self {
        let size = dtype.size();
        let bytes = |scale: f64| -> Vec<u8> {
            (0..rows * n)
                .flat_map(|i| {
                    let mut bytes = encode(dtype, scale * value(i)).to_le_bytes()[..size].to_vec();
                    if memory == Memory::Swapped {
                        bytes.reverse();
                    }
                    bytes
                })
                .collect()
        };
        let (size, steps) = (size as isize, |inner: usize| inner as isize);
        let strides = |memory| match memory {
            Memory::Columns => [size, steps(rows) * size],
            Memory::Rows | Memory::Swapped => [steps(n) * size, size],
        };
        Self {
            dtype,
            memory,
            rows,
            n,
            x: bytes(1.0),
            second: bytes(0.5),
            out: vec![UNTOUCHED; rows * n * dtype.size()],
            numbers: vec![1.5; rows],
            classes: vec![0; rows],
            strides: strides(memory),
            out_strides: strides(memory),
        }
    }

    fn array<'a>(&'a self, bytes: &[u8]) -> Array<'a> {
        Array {
            ptr: bytes.as_ptr().cast_mut(),
            dtype: self.dtype,
            swapped: self.memory == Memory::Swapped,
            strides: &self.strides,
        }
    }

    fn out_array(&mut self) -> Array<'_> {
        Array {
            ptr: self.out.as_mut_ptr(),
            dtype: self.dtype,
            swapped: false,
            strides: &self.out_strides,
        }
    }

    fn run(&mut self, level: Level, op: Op) -> Result<(), Error> {
        let out = self.out_array().ptr;
        let shape = [self.rows, self.n];
        let problem = Problem {
            op,
            shape: &shape,
            reduced: &[false, true],
            x: self.array(&self.x),
            second: op.is_binary().then(|| self.array(&self.second)),
            mask: None,
            temperature: Temperature::One(if op == Op::LogSumExp { 1.0 } else { 0.7 }),
            cotangent: &self.numbers,
            out: Array {
                ptr: out,
                dtype: self.dtype,
                swapped: false,
                strides: &self.out_strides,
            },
        };
        // SAFETY: strides and lengths are those of the buffers; `out` is one of its own.
        unsafe { run_at(level, &problem, &NoControl) }
    }

    fn loss(&mut self, level: Level, with: Loss) -> Result<(), Fault> {
        let out = self.out_array().ptr;
        let out = Array {
            ptr: out,
            dtype: self.dtype,
            swapped: false,
            strides: &self.out_strides,
        };
        let class_strides = [8, 0];
        let call = CrossEntropy {
            shape: &[self.rows, self.n],
            axis: 1,
            logits: self.array(&self.x),
            dtype: self.dtype,
            target: match with.probabilities {
                true => Target::Probabilities(self.array(&self.second)),
                false => Target::Classes(Array {
                    ptr: self.classes.as_ptr().cast_mut().cast(),
                    dtype: Dtype::I64,
                    swapped: false,
                    strides: &class_strides,
                }),
            },
            weight: &self.numbers[..if with.weights { self.n } else { 0 }],
            sample_weight: &self.numbers[..if with.weights { self.rows } else { 0 }],
            ignore_index: None,
            label_smoothing: 0.1,
            reduction: with.reduction,
            temperature: Temperature::One(1.0),
            z_loss: if with.weights { 0.1 } else { 0.0 },
            softcap: None,
            mask: None,
            cotangent: Cotangent::One(1.0),
            derivative: match with.derivative {
                0 => Derivative::None,
                1 => Derivative::Gradient(out),
                _ => Derivative::Hessian(self.array(&self.second), out),
            },
        };
        // SAFETY: as above.
        unsafe { cross_entropy_at(level, &call, &NoControl) }.map(drop)
    }
}

#[derive(Clone, Copy, Debug)]
struct Loss {
    probabilities: bool,
    weights: bool,
    reduction: Reduction,
    derivative: usize,
}

/// Runs on a thread that has no scratch yet, and shares no work.
fn on_a_fresh_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let work = || {
            parallel::set_local_threads(Some(1));
            f()
        };
        match scope.spawn(work).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Scratch last, and once, if at all; before it only what is small, or for losses what rows need.
#[track_caller]
fn check(what: &str, asked: &[(usize, usize)], per_row: usize) -> usize {
    let is_scratch = |&(_, alignment): &(usize, usize)| alignment == LINE;
    let before = asked.iter().position(is_scratch).unwrap_or(asked.len());
    assert!(
        before + 1 >= asked.len(),
        "{what}: scratch must be asked for once, and last: (size, alignment) {asked:?}"
    );
    for &(size, _) in &asked[..before] {
        assert!(size <= SMALL.max(per_row), "{what}: {size} bytes: {asked:?}");
    }
    let size = asked.get(before).map_or(0, |&(size, _)| size);
    assert!(size <= SCRATCH, "{what}: {size} bytes of scratch, more than {SCRATCH}");
    size
}

/// Shapes of every regime: panels, batches, one row of all scratch, long rows; columns in tiles.
fn cases() -> Vec<(Memory, usize, usize)> {
    let mut cases = Vec::new();
    for memory in [Memory::Rows, Memory::Columns, Memory::Swapped] {
        for (rows, n) in [(40, 7), (20, 300), (2, 131_072), (1, 300_000), (17, 16_384)] {
            cases.push((memory, rows, n));
        }
    }
    cases
}

#[test]
fn scratch_is_asked_for_last_and_kept() {
    let (mut calls, mut largest, mut without) = (0, 0, 0);
    for level in Level::all_supported() {
        for dtype in DTYPES {
            for (memory, rows, n) in cases() {
                let mut random = Random(n as u64);
                let values: Vec<f64> = (0..1024).map(|_| random.normal()).collect();
                let mut operands = Operands::new(dtype, memory, rows, n, |i| values[i % 1024]);
                for op in ALL_OPS {
                    let what = format!("{} {op:?} {dtype:?} {memory:?} {rows} x {n}", level.name());
                    let (first, again) = on_a_fresh_thread(|| {
                        let (done, first) = listen(None, || operands.run(level, op));
                        assert_eq!(done, Ok(()), "{what}");
                        let (done, again) = listen(None, || operands.run(level, op));
                        assert_eq!(done, Ok(()), "{what}");
                        (first, again)
                    });
                    let size = check(&what, &first, 0);
                    let expected = first.len() - usize::from(size > 0);
                    assert!(
                        again.len() == expected && again.iter().all(|&(size, _)| size <= SMALL),
                        "{what}: a second call asked for {again:?}, the first for {first:?}"
                    );
                    largest = largest.max(size);
                    without += usize::from(size == 0);
                    calls += 1;
                }
            }
        }
    }
    report(&format!(
        "{calls} calls on one thread asked for nothing after their scratch; the largest had {largest} bytes, {without} none"
    ));
    assert!(
        0 < without && without < calls / 4,
        "{without} of {calls}: those whose rows are computed in place"
    );
}

#[test]
fn rows_that_are_done_again_in_float64_ask_for_nothing() {
    for level in Level::all_supported() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            for (memory, rows, n) in cases() {
                // max + ln n is nearly 0, in every row but the first: results are there when it comes to it.
                let value = |i: usize| {
                    let row = if memory == Memory::Columns { i % rows } else { i / n };
                    if row == 0 && rows > 1 { 3.0 } else { -(n as f64).ln() }
                };
                let mut operands = Operands::new(dtype, memory, rows, n, value);
                let what = format!("{} {dtype:?} {memory:?} {rows} x {n}", level.name());
                let (done, asked) = on_a_fresh_thread(|| listen(None, || operands.run(level, Op::LogSumExp)));
                assert_eq!(done, Ok(()), "{what}");
                check(&what, &asked, 0);
            }
        }
    }
}

#[test]
fn without_scratch_nothing_is_written() {
    let (mut failures, mut without) = (0, 0);
    for level in Level::all_supported() {
        for dtype in DTYPES {
            for (memory, rows, n) in cases() {
                let mut operands = Operands::new(dtype, memory, rows, n, |_| 1.0);
                for op in ALL_OPS {
                    let what = format!("{} {op:?} {dtype:?} {memory:?} {rows} x {n}", level.name());
                    operands.out.fill(UNTOUCHED);
                    let (done, asked) = on_a_fresh_thread(|| listen(Some(0), || operands.run(level, op)));
                    if asked.iter().all(|&(size, _)| size <= SMALL) {
                        assert_eq!(done, Ok(()), "{what}: a call that asks for nothing");
                        without += 1;
                        continue;
                    }
                    assert_eq!(done, Err(Error::OutOfMemory), "{what}");
                    assert!(
                        operands.out.iter().all(|&byte| byte == UNTOUCHED),
                        "{what}: out was written"
                    );
                    failures += 1;
                }
            }
        }
    }
    report(&format!(
        "{failures} calls failed without scratch, with `out` untouched; {without} need none"
    ));
    assert!(failures > without, "{failures} of {without}");
}

#[test]
fn losses_ask_first_and_write_nothing_without_memory() {
    let mut failures = 0;
    for level in Level::all_supported() {
        for dtype in [Dtype::F32, Dtype::F64, Dtype::F16] {
            for memory in [Memory::Rows, Memory::Columns, Memory::Swapped] {
                let (rows, n) = (3000, 5);
                let mut operands = Operands::new(dtype, memory, rows, n, |i| (i % 7) as f64 / 7.0);
                for k in 0..24 {
                    let with = Loss {
                        probabilities: k % 2 == 1,
                        weights: k / 2 % 2 == 1,
                        reduction: [Reduction::Mean, Reduction::None][k / 4 % 2],
                        derivative: k / 8,
                    };
                    let what = format!("{} {dtype:?} {memory:?} {with:?}", level.name());
                    let (done, asked) = on_a_fresh_thread(|| listen(None, || operands.loss(level, with)));
                    assert_eq!(done, Ok(()), "{what}");
                    check(&what, &asked, 8 * rows);
                    operands.out.fill(UNTOUCHED);
                    for fails in 0..asked.iter().filter(|&&(size, _)| size > SMALL).count() {
                        let (done, _) = on_a_fresh_thread(|| listen(Some(fails), || operands.loss(level, with)));
                        assert_eq!(
                            done,
                            Err(Fault::Core(Error::OutOfMemory)),
                            "{what}, large allocation {fails}"
                        );
                        assert!(
                            operands.out.iter().all(|&byte| byte == UNTOUCHED),
                            "{what}: out was written"
                        );
                        failures += 1;
                    }
                }
            }
        }
    }
    report(&format!(
        "{failures} failing allocations in losses: each an error, with `out` untouched"
    ));
}

#[test]
fn a_shared_call_asks_for_little_more() {
    let mut operands = Operands::new(Dtype::F32, Memory::Rows, 400, 1000, |i| (i % 9) as f64);
    parallel::set_local_threads(Some(4));
    let level = Level::all_supported().last().unwrap_or(Level::Portable);
    let mut worst = 0;
    for i in 0..50 {
        let before = BYTES.load(Ordering::Relaxed);
        assert_eq!(operands.run(level, Op::Softmax), Ok(()));
        // The first ones start the pool, and blocks of its queues come every 63 jobs. (Other tests run meanwhile: the least
        // of several calls is what a call needs.)
        let asked = BYTES.load(Ordering::Relaxed) - before;
        worst = if i < 5 { asked } else { worst.min(asked) };
    }
    report(&format!(
        "a call shared by four threads asks for {worst} bytes besides its scratch"
    ));
    assert!(worst < 4096, "{worst}");
}
