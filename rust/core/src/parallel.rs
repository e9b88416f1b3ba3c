//! Threads: the only file that knows of them.
//!
//! A call splits its units of work (rows, tiles, blocks) into chunks; the calling thread and the workers of one
//! process-local pool take chunks until none are left. What a unit computes does not depend on who computes it.
//!
//! **Fork.** rayon's pools do not survive a fork: the child has none of the threads, and a call into the pool would wait
//! for ever. So the pool lives in a slot with a generation number; a handler that runs in a forked child raises the
//! number, and the child's first parallel call makes a new slot (the old one is leaked: dropping it would touch locks
//! that a lost thread may hold). Nothing here that a fork may interrupt is guarded by a lock of the parent.

use std::any::Any;
use std::cell::Cell;
use std::num::IntErrorKind;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(target_os = "linux")]
use std::sync::atomic::AtomicI32;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::{Control, Error};

/// Below this many elements a call runs on the calling thread: waking a worker costs as much as this.
const PARALLEL_ELEMENTS: usize = 1 << 16;
/// Elements for each thread after which the pool is free for the calls of other threads.
const PIECE_ELEMENTS: usize = 1 << 24;
/// Elements after which the calling thread asks whether to go on: 50 ms of the slowest rows there are (those with tanh),
/// a tenth of a millisecond of the fastest.
const CHUNK_ELEMENTS: usize = 1 << 19;
/// Elements that are not shared any more.
const LEAST_ELEMENTS: usize = 1 << 14;

/// More threads than this are taken for this many.
pub const MAX_THREADS: usize = 1024;

/// 0 where nobody has said.
static PROCESS_THREADS: AtomicUsize = AtomicUsize::new(0);
/// What the environment says, 0 before it was asked.
static DEFAULT_THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static LOCAL_THREADS: Cell<usize> = const { Cell::new(0) };
}

/// The number of threads a call on this thread may use: [`set_local_threads`], then [`set_num_threads`], then the
/// environment (`SOFTMAX_RS_NUM_THREADS`, `RAYON_NUM_THREADS`, `OMP_NUM_THREADS`; read at first use), then the CPUs that
/// this process may use.
///
/// # Errors
/// [`Error::Environment`] where the variable that decides holds no positive integer.
#[inline]
pub fn num_threads() -> Result<usize, Error> {
    for n in [
        LOCAL_THREADS.get(),
        PROCESS_THREADS.load(Ordering::Relaxed),
        DEFAULT_THREADS.load(Ordering::Relaxed),
    ] {
        if n > 0 {
            return Ok(n);
        }
    }
    let n = read_environment()?;
    DEFAULT_THREADS.store(n, Ordering::Relaxed);
    Ok(n)
}

/// Sets the number of threads of the process (from 1 to [`MAX_THREADS`]).
pub fn set_num_threads(n: usize) {
    PROCESS_THREADS.store(n.clamp(1, MAX_THREADS), Ordering::Relaxed);
}

/// Sets (or with `None` lifts) the number of threads for calls from this thread; returns what was set before.
pub fn set_local_threads(n: Option<usize>) -> Option<usize> {
    let before = LOCAL_THREADS.replace(n.map_or(0, |n| n.clamp(1, MAX_THREADS)));
    (before > 0).then_some(before)
}

fn read_environment() -> Result<usize, Error> {
    // dask workers and joblib set OMP_NUM_THREADS: to read only rayon's would use n^2 threads there.
    for variable in ["SOFTMAX_RS_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS"] {
        let Some(value) = std::env::var_os(variable) else {
            continue;
        };
        let value = value.to_string_lossy();
        let value = value.trim();
        // OpenMP allows a list, one entry per level of nesting; empty and (rayon's) zero mean the default.
        let first = if variable == "OMP_NUM_THREADS" {
            value.split(',').next().unwrap_or("")
        } else {
            value
        }
        .trim();
        if first.is_empty() || first == "0" && variable == "RAYON_NUM_THREADS" {
            continue;
        }
        match first.parse::<usize>() {
            Ok(n) if n > 0 => return Ok(MAX_THREADS.min(n)),
            Err(fault) if *fault.kind() == IntErrorKind::PosOverflow => return Ok(MAX_THREADS),
            _ => {
                return Err(Error::Environment(format!(
                    "{variable} must be a positive integer, the number of threads; it is {value:?}"
                )));
            }
        }
    }
    Ok(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

/// Raised in a forked child.
static GENERATION: AtomicU64 = AtomicU64::new(0);
static SLOT: AtomicPtr<Slot> = AtomicPtr::new(std::ptr::null_mut());

/// The pool of one process.
struct Slot {
    generation: u64,
    pool: Mutex<Option<Arc<Pool>>>,
}

/// Workers.
struct Pool {
    threads: rayon::ThreadPool,
    aside: Arc<Aside>,
    /// How many calls there were.
    calls: Arc<AtomicUsize>,
}

/// This process's slot, made where there is none.
fn slot() -> &'static Slot {
    watch_forks();
    let generation = GENERATION.load(Ordering::Acquire);
    loop {
        let found = SLOT.load(Ordering::Acquire);
        // SAFETY: the slot is null or was leaked below.
        if let Some(slot) = unsafe { found.as_ref() }
            && slot.generation == generation
        {
            return slot;
        }
        let new = Box::into_raw(Box::new(Slot {
            generation,
            pool: Mutex::new(None),
        }));
        if SLOT
            .compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            // Another thread was first.
            // SAFETY: `new` was not shared.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

#[cfg(unix)]
fn watch_forks() {
    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::AcqRel);
    }
    static WATCHING: AtomicBool = AtomicBool::new(false);
    if !WATCHING.swap(true, Ordering::AcqRel) {
        // SAFETY: the handler only touches an atomic. Failure (no memory) leaves a child without parallel calls' pool
        // in the state of the parent, as with any library that does not look after forks.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
}

#[cfg(not(unix))]
fn watch_forks() {}

/// A pool with at least this many workers; none where threads cannot be had.
fn pool(workers: usize) -> Option<Arc<Pool>> {
    let mut held = slot().pool.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = held.as_ref()
        && pool.threads.current_num_threads() >= workers
    {
        return Some(pool.clone());
    }
    let aside = Arc::new(Aside::new(workers));
    let starting = aside.clone();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|i| format!("softmax-rs-{i}"))
        .start_handler(move |worker| starting.is_here(worker))
        .build()
        .ok()
        .map(|threads| {
            let calls = Arc::default();
            Arc::new(Pool { threads, aside, calls })
        });
    if pool.is_some() {
        held.clone_from(&pool);
    }
    pool
}

/// How many threads will share work on this many elements.
///
/// # Errors
/// As [`num_threads`].
#[inline]
pub(crate) fn threads_for(elements: usize) -> Result<usize, Error> {
    if elements < PARALLEL_ELEMENTS {
        Ok(1)
    } else {
        num_threads()
    }
}

/// Whether the calling thread runs all units without a break.
#[inline]
pub(crate) fn is_one_piece(units: usize, elements_per_unit: usize, threads: usize) -> bool {
    threads == 1 && units.saturating_mul(elements_per_unit) <= CHUNK_ELEMENTS
}

/// Runs `f(units, worker)` over all of `0..units` in pieces, on `threads` threads; `worker < threads` names a thread for
/// the time of a piece.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn split(
    units: usize,
    elements_per_unit: usize,
    threads: usize,
    control: &dyn Control,
    f: &(dyn Fn(Range<usize>, usize) + Sync),
) -> Result<(), Error> {
    let most = (CHUNK_ELEMENTS / elements_per_unit.max(1)).max(1);
    let pool = if threads > 1 && units > 1 {
        pool(threads - 1)
    } else {
        None
    };
    let piece = match &pool {
        None => most,
        Some(_) => (PIECE_ELEMENTS / elements_per_unit.max(1))
            .max(1)
            .saturating_mul(threads),
    };
    let mut start = 0;
    while start < units {
        if start > 0 && !control.proceed() {
            return Err(Error::Interrupted);
        }
        let end = units.min(start.saturating_add(piece));
        match &pool {
            None => f(start..end, 0),
            Some(pool) => {
                let least = (LEAST_ELEMENTS / elements_per_unit.max(1)).clamp(1, most);
                share(pool, start..end, (least, most), threads, control, f)?;
            }
        }
        start = end;
    }
    Ok(())
}

/// One piece: the calling thread and `threads - 1` workers take chunks of at most so many units until none are left, or
/// until the caller wants no more.
fn share(
    pool: &Pool,
    units: Range<usize>,
    (least, most): (usize, usize),
    threads: usize,
    control: &dyn Control,
    f: &(dyn Fn(Range<usize>, usize) + Sync),
) -> Result<(), Error> {
    let next = AtomicUsize::new(units.start);
    let stopped = AtomicBool::new(false);
    // (What is left is halved among the threads, so that all end at about the same time, whenever they began.)
    let chunk = |start: usize| {
        ((units.end - start) / (2 * threads))
            .clamp(least, most)
            .min(units.end - start)
    };
    let take = || {
        let taken = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |start| {
            (start < units.end && !stopped.load(Ordering::Relaxed)).then(|| start + chunk(start))
        });
        taken.ok().map(|start| start..start + chunk(start))
    };
    let work = |worker: usize| {
        while let Some(units) = take() {
            f(units, worker);
        }
    };
    let helpers = threads.min(units.len().div_ceil(least)) - 1;
    pool.with_helpers(helpers, &work, || {
        let mut next = take();
        while let Some(units) = next {
            f(units, 0);
            next = take();
            if next.is_some() && !control.proceed() {
                stopped.store(true, Ordering::Relaxed);
                next = None;
            }
        }
    });
    if stopped.into_inner() {
        Err(Error::Interrupted)
    } else {
        Ok(())
    }
}

/// How long a worker waits awake for the next call, and how long a caller for the last worker. (To wake a thread takes some
/// 40 us, of a call that may take 200. Waiting, both let others run.)
const AWAKE: Duration = Duration::from_micros(200);

/// Waits awake for some time; whether what it waits for has come.
fn awake(has_come: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            if has_come() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > AWAKE {
            return false;
        }
        std::thread::yield_now();
    }
}

impl Pool {
    /// Runs `own`, and meanwhile `work(1)`, ..., `work(helpers)` on workers: those that have begun before `own` is done.
    ///
    /// rayon's scope would wait for all of them, awake or not, and would sleep while it waits.
    fn with_helpers(&self, helpers: usize, work: &(dyn Fn(usize) + Sync), own: impl FnOnce()) {
        self.aside.step();
        let call = self.calls.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // SAFETY: no helper uses it after `Open` was dropped, and that is before this function returns or unwinds.
        let work: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(work) };
        let desk = Arc::new(Desk {
            helpers: AtomicUsize::new(0),
            panic: Mutex::new(None),
            caller: std::thread::current(),
        });
        let open = Open(&desk);
        for worker in 1..=helpers {
            let (desk, calls) = (desk.clone(), self.calls.clone());
            self.threads.spawn(move || {
                desk.help(|| work(worker));
                awake(|| calls.load(Ordering::Relaxed) != call);
            });
        }
        own();
        drop(open);
        if let Some(panic) = desk.panic.lock().unwrap_or_else(PoisonError::into_inner).take() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Where a call meets its helpers.
struct Desk {
    /// How many are at work, and whether it is [`CLOSED`].
    helpers: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Thread,
}

const CLOSED: usize = 1 << (usize::BITS - 1);

impl Desk {
    /// Runs `work`, unless the call is over.
    fn help(&self, work: impl FnOnce()) {
        let enter = |helpers: usize| (helpers & CLOSED == 0).then_some(helpers + 1);
        if self
            .helpers
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, enter)
            .is_err()
        {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        // (Once it is out of the count, the caller may be gone, but this desk is not.)
        if self.helpers.fetch_sub(1, Ordering::Release) == CLOSED | 1 {
            self.caller.unpark();
        }
    }
}

/// A desk at which helpers may begin. Dropped, it waits for those that have.
struct Open<'a>(&'a Desk);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let helpers = &self.0.helpers;
        helpers.fetch_or(CLOSED, Ordering::Relaxed);
        let is_alone = || helpers.load(Ordering::Acquire) == CLOSED;
        if !awake(is_alone) {
            while !is_alone() {
                std::thread::park();
            }
        }
    }
}

/// Keeps the workers off the CPU of the calling thread (where the system can be told).
///
/// Else a worker may be woken there, and the caller, who keeps it busy, does all the work before the worker's turn comes.
/// Linux was seen to do so on a virtual machine: of two threads, calls below a millisecond then gain nothing.
#[cfg(target_os = "linux")]
struct Aside {
    /// The workers' numbers for the system, 0 before they have started. None where there are so many that to tell all of
    /// them would take longer than it gains.
    workers: Vec<AtomicI32>,
    /// The CPU that they were last kept off, and those that the caller might use.
    told: Mutex<Option<(usize, libc::cpu_set_t)>>,
}

#[cfg(target_os = "linux")]
impl Aside {
    /// Workers that are told, at a microsecond each.
    const MOST: usize = 15;

    fn new(workers: usize) -> Self {
        let told = if workers <= Self::MOST { workers } else { 0 };
        Self {
            workers: (0..told).map(|_| AtomicI32::new(0)).collect(),
            told: Mutex::new(None),
        }
    }

    /// A worker has started.
    fn is_here(&self, worker: usize) {
        if let Some(id) = self.workers.get(worker) {
            // SAFETY: no arguments.
            id.store(unsafe { libc::gettid() }, Ordering::Relaxed);
        }
    }

    /// The caller is about to share work. (What fails changes nothing: workers then run where they may.)
    fn step(&self) {
        // (Of two callers at once, one is enough.)
        let Ok(mut told) = self.told.try_lock() else { return };
        const SIZE: usize = size_of::<libc::cpu_set_t>();
        // SAFETY: sets of that size, and CPUs that are in them.
        unsafe {
            let mut cpus: libc::cpu_set_t = std::mem::zeroed();
            let Ok(cpu) = usize::try_from(libc::sched_getcpu()) else {
                return;
            };
            if cpu >= 8 * SIZE || libc::sched_getaffinity(0, SIZE, &raw mut cpus) != 0 {
                return;
            }
            if told
                .as_ref()
                .is_some_and(|(last, all)| *last == cpu && libc::CPU_EQUAL(all, &cpus))
            {
                return;
            }
            let mut others = cpus;
            libc::CPU_CLR(cpu, &mut others);
            if libc::CPU_COUNT(&others) == 0 {
                return;
            }
            let mut all_told = true;
            for worker in &self.workers {
                let id = worker.load(Ordering::Relaxed);
                all_told &= id != 0 && libc::sched_setaffinity(id, SIZE, &raw const others) == 0;
            }
            *told = all_told.then_some((cpu, cpus));
        }
    }
}

#[cfg(not(target_os = "linux"))]
struct Aside;

#[cfg(not(target_os = "linux"))]
impl Aside {
    fn new(_: usize) -> Self {
        Self
    }
    fn is_here(&self, _: usize) {}
    fn step(&self) {}
}
