//! Memory of large results: when such a result is dropped, its memory is kept for the next one.
//!
//! Memory fresh from the system costs a page fault and the zeroing of each page: more than the results of these functions
//! cost (docs/performance.md has the figures). NumPy lets an array say who allocates it (NEP 49): results of at least
//! [`LARGE`] bytes are made under a handler of ours, all else is NumPy's as ever. What is kept is bounded, and all but the
//! newest piece is marked as free to the system (`MADV_FREE`), which takes it when it runs short, without asking.

use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyCapsule;

/// Results of fewer bytes come from NumPy's allocator. (Of those up to 32 MiB, its largest threshold, glibc's malloc keeps
/// some when they are freed, but gives them back where other arrays come and go: in `make demo` results of 9 MB took 1.5
/// times as long by it, and by two threads at once up to eight times.)
const LARGE: usize = 4 << 20;
/// The newest piece is not marked as free, up to this size: that would interrupt the CPUs of our other threads, and take
/// two threads a third longer for results of 12 MB.
const NEWEST_BYTES: usize = 32 << 20;
/// Large memory is asked for in huge pages, as NumPy does.
const HUGE_PAGE: usize = 2 << 20;
/// What lies before an array's bytes: the header, and room that keeps them aligned to a cache line.
const HEAD: usize = 64;

/// How many bytes may be kept, unless the environment says something else: enough for 2000 rows of 32000 float32.
const KEEP_BYTES: usize = 256 << 20;
const VARIABLE: &str = "SOFTMAX_RS_KEEP_MIB";
/// How many pieces may be kept.
const PIECES: usize = 8;

/// What the environment says, once it was asked.
static KEEP: AtomicUsize = AtomicUsize::new(UNKNOWN);
const UNKNOWN: usize = usize::MAX;

/// Memory from the system: where it begins and how many bytes. The same stands at its beginning, for an array's memory
/// is known by its address alone.
#[derive(Clone, Copy)]
struct Piece {
    start: NonNull<u8>,
    len: usize,
}

/// Pieces that no array has.
struct Kept {
    /// The newest first.
    pieces: [Option<Piece>; PIECES],
    /// Whether the newest, if it is there, is marked as free.
    newest_is_free: bool,
}

// SAFETY: what a piece points to is reached by whoever holds the piece, and by no one else.
unsafe impl Send for Kept {}

/// (Only ever tried: whoever finds it locked does without. So a lock that was held while the process forked does no harm,
/// nor does one that a signal handler meets.)
static KEPT: Mutex<Kept> = Mutex::new(Kept {
    pieces: [None; PIECES],
    newest_is_free: true,
});

impl Kept {
    /// The smallest piece for `len` bytes that is not far too large for them.
    fn take(&mut self, len: usize) -> Option<Piece> {
        let fits = |piece: &Piece| (len..=len.saturating_mul(2)).contains(&piece.len);
        let slots = self.pieces.iter_mut().filter(|slot| slot.as_ref().is_some_and(fits));
        slots.min_by_key(|slot| slot.map_or(0, |piece| piece.len))?.take()
    }

    /// Takes a piece in; returns those that have to go for it.
    fn put(&mut self, piece: Piece, limit: usize) -> [Option<Piece>; PIECES] {
        let mut gone = [None; PIECES];
        let mut bytes = piece.len;
        if bytes > limit {
            gone[0] = Some(piece);
            return gone;
        }
        if let (Some(newest), false) = (self.pieces[0], self.newest_is_free) {
            newest.mark_as_free();
        }
        self.newest_is_free = piece.len > NEWEST_BYTES;
        if self.newest_is_free {
            piece.mark_as_free();
        }
        // The last slot is emptied for the new one.
        for i in 0..PIECES {
            bytes += self.pieces[i].map_or(0, |piece| piece.len);
            if bytes > limit || i + 1 == PIECES {
                gone[i] = self.pieces[i].take();
            }
        }
        self.pieces.rotate_right(1);
        self.pieces[0] = Some(piece);
        gone
    }
}

impl Piece {
    /// A piece with room for `size` bytes of an array.
    fn new(size: usize) -> Option<Self> {
        let len = size.checked_add(HEAD)?.checked_next_multiple_of(HUGE_PAGE)?;
        let kept = KEPT.try_lock().ok().and_then(|mut kept| kept.take(len));
        kept.or_else(|| Self::map(len)).or_else(|| {
            // What is kept may be what is missing.
            for piece in KEPT.try_lock().ok()?.pieces.iter_mut().filter_map(Option::take) {
                piece.unmap();
            }
            Self::map(len)
        })
    }

    /// From the system, from the beginning of a huge page on.
    fn map(len: usize) -> Option<Self> {
        // SAFETY: a new mapping; what is given back of it is in front of and behind the part that is used.
        unsafe {
            let start = libc::mmap(
                ptr::null_mut(),
                len.checked_add(HUGE_PAGE)?,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                return None;
            }
            let start = start.cast::<u8>();
            let before = start.align_offset(HUGE_PAGE);
            if before > 0 {
                libc::munmap(start.cast(), before);
            }
            if before < HUGE_PAGE {
                libc::munmap(start.add(before + len).cast(), HUGE_PAGE - before);
            }
            let start = NonNull::new(start.add(before))?;
            #[cfg(target_os = "linux")]
            libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
            Some(Self { start, len })
        }
    }

    /// Writes the header; where the array's bytes go.
    fn open(self) -> *mut c_void {
        // SAFETY: the piece is ours, longer than the header and aligned to a page.
        unsafe {
            self.start.cast::<usize>().write(self.len);
            self.start.as_ptr().add(HEAD).cast()
        }
    }

    /// The piece of an array.
    ///
    /// # Safety
    /// `bytes` came from `open`.
    unsafe fn of(bytes: *mut c_void) -> Option<Self> {
        // SAFETY: the caller's promise.
        unsafe {
            let start = NonNull::new(bytes.cast::<u8>().sub(HEAD))?;
            let len = start.cast::<usize>().read();
            Some(Self { start, len })
        }
    }

    /// Keeps it, or gives it back to the system.
    fn close(self) {
        let limit = match KEEP.load(Ordering::Relaxed) {
            UNKNOWN => 0,
            limit => limit,
        };
        let gone = match KEPT.try_lock() {
            Ok(mut kept) => kept.put(self, limit),
            Err(_) => {
                let mut gone = [None; PIECES];
                gone[0] = Some(self);
                gone
            }
        };
        for piece in gone.into_iter().flatten() {
            piece.unmap();
        }
    }

    /// Lets the system take its memory, until it is written to once more.
    fn mark_as_free(self) {
        // SAFETY: the piece is kept, and its bytes mean nothing. (If the system knows no such advice, the memory simply stays
        // as it is.)
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, libc::MADV_FREE) };
    }

    /// Gives it back to the system.
    fn unmap(self) {
        // SAFETY: a whole mapping, which is ours.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// `PyDataMem_Handler` of NumPy's ndarraytypes.h, version 1.
#[repr(C)]
struct Handler {
    name: [c_char; 127],
    version: u8,
    context: *mut c_void,
    malloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    calloc: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    realloc: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, *mut c_void, usize),
}

// SAFETY: never written to, and without a context.
unsafe impl Sync for Handler {}

static HANDLER: Handler = Handler {
    name: {
        let text = *b"softmax_rs";
        let mut name = [0; 127];
        let mut i = 0;
        while i < text.len() {
            name[i] = text[i] as c_char;
            i += 1;
        }
        name
    },
    version: 1,
    context: ptr::null_mut(),
    malloc,
    calloc,
    realloc,
    free,
};

unsafe extern "C" fn malloc(_: *mut c_void, size: usize) -> *mut c_void {
    Piece::new(size).map_or(ptr::null_mut(), Piece::open)
}

/// (No one calls it while our arrays are made; NumPy may when one of them is copied by its own handler.)
unsafe extern "C" fn calloc(_: *mut c_void, count: usize, size: usize) -> *mut c_void {
    let Some(size) = count.checked_mul(size) else {
        return ptr::null_mut();
    };
    let bytes = Piece::new(size).map_or(ptr::null_mut(), Piece::open);
    if !bytes.is_null() {
        // SAFETY: room for `size` bytes.
        unsafe { bytes.cast::<u8>().write_bytes(0, size) };
    }
    bytes
}

unsafe extern "C" fn realloc(_: *mut c_void, bytes: *mut c_void, size: usize) -> *mut c_void {
    let new = Piece::new(size).map_or(ptr::null_mut(), Piece::open);
    if !new.is_null() && !bytes.is_null() {
        // SAFETY: NumPy hands in what `open` gave; both have room for as much.
        unsafe {
            if let Some(old) = Piece::of(bytes) {
                new.cast::<u8>()
                    .copy_from_nonoverlapping(bytes.cast(), size.min(old.len - HEAD));
                old.close();
            }
        }
    }
    new
}

unsafe extern "C" fn free(_: *mut c_void, bytes: *mut c_void, _: usize) {
    if !bytes.is_null() {
        // SAFETY: NumPy hands in what `open` gave.
        if let Some(piece) = unsafe { Piece::of(bytes) } {
            piece.close();
        }
    }
}

/// NumPy's functions that rust-numpy does not have, and our handler as they take it.
struct Numpy {
    /// `PyDataMem_SetHandler`: takes a borrowed handler, gives a new reference to the one before, or null.
    set_handler: unsafe extern "C" fn(*mut ffi::PyObject) -> *mut ffi::PyObject,
    /// `PyDataMem_GetHandler`: a new reference, or null.
    get_handler: unsafe extern "C" fn() -> *mut ffi::PyObject,
    /// `PyDataMem_DefaultHandler`.
    default: *mut ffi::PyObject,
    ours: Py<PyAny>,
}

// SAFETY: used with the GIL held.
unsafe impl Send for Numpy {}
// SAFETY: see above.
unsafe impl Sync for Numpy {}

static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();

impl Numpy {
    fn get(py: Python<'_>) -> PyResult<&Self> {
        NUMPY.get_or_try_init(py, || {
            let module = match py.import("numpy._core._multiarray_umath") {
                Ok(module) => module,
                Err(_) => py.import("numpy.core._multiarray_umath")?,
            };
            let table = module.getattr("_ARRAY_API")?.cast_into::<PyCapsule>()?;
            // SAFETY: NumPy's table of functions, as its headers say since 1.22 (slots 304 to 306); the capsule lives as
            // long as NumPy, which is for ever. The handler is static.
            unsafe {
                let table = table.pointer_checked(None)?.cast::<*const c_void>().as_ptr();
                let name = c"mem_handler";
                let ours = ffi::PyCapsule_New((&raw const HANDLER).cast_mut().cast(), name.as_ptr(), None);
                Ok(Self {
                    set_handler: table
                        .add(304)
                        .cast::<unsafe extern "C" fn(*mut ffi::PyObject) -> *mut ffi::PyObject>()
                        .read(),
                    get_handler: table
                        .add(305)
                        .cast::<unsafe extern "C" fn() -> *mut ffi::PyObject>()
                        .read(),
                    default: table.add(306).cast::<*mut *mut ffi::PyObject>().read().read(),
                    ours: Bound::from_owned_ptr_or_err(py, ours)?.unbind(),
                })
            }
        })
    }

    /// Makes a handler the one of this context.
    fn set<'py>(&self, py: Python<'py>, handler: *mut ffi::PyObject) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: a live handler.
        unsafe { Bound::from_owned_ptr_or_err(py, (self.set_handler)(handler)) }
    }
}

/// Runs `make`, which makes one array of this many bytes, so that a large one gets memory that is kept. Where another
/// handler than NumPy's own is in place, that one makes the array.
#[inline]
pub fn keeping<'py, R>(py: Python<'py>, bytes: usize, make: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    if bytes < LARGE { make() } else { large(py, make) }
}

#[inline(never)]
fn large<R>(py: Python<'_>, make: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    if limit()? == 0 {
        return make();
    }
    let numpy = Numpy::get(py)?;
    // SAFETY: a new reference, or null with an exception.
    let found = unsafe { Bound::from_owned_ptr_or_err(py, (numpy.get_handler)())? };
    if found.as_ptr() != numpy.default {
        return make();
    }
    numpy.set(py, numpy.ours.as_ptr())?;
    let made = make();
    numpy.set(py, found.as_ptr())?;
    made
}

/// How many bytes may be kept.
fn limit() -> PyResult<usize> {
    let known = KEEP.load(Ordering::Relaxed);
    if known != UNKNOWN {
        return Ok(known);
    }
    let limit = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        None => KEEP_BYTES,
        Some(value) => {
            let value = value.to_string_lossy();
            let mib = value
                .trim()
                .parse::<usize>()
                .ok()
                .and_then(|mib| mib.checked_mul(1 << 20));
            mib.filter(|&bytes| bytes != UNKNOWN).ok_or_else(|| {
                PyValueError::new_err(format!(
                    "{VARIABLE}={value:?} is not a number of MiB (0: keep no memory of results)"
                ))
            })?
        }
    };
    KEEP.store(limit, Ordering::Relaxed);
    Ok(limit)
}
