//! The floating-point mode of the thread: rounding direction, flush to zero.
//!
//! A caller may have set flush-to-zero (other libraries do) or another rounding direction; results must not depend on
//! it. The mode is switched around a whole kernel by inline assembly, because Rust assumes the default mode in all code
//! that it compiles: the switch puts that assumption right.

use std::hint::black_box;

use arch::{DEFAULT, FLAGS, Mode, read, write};

/// Runs `f` in the default mode (round to nearest even, subnormal numbers kept, no traps) and leaves the register as
/// found. On x86-64 that register holds the records of exceptions too; those of AArch64 are in another one, and what `f`
/// raised stays in them.
#[inline(always)]
pub fn with_default_mode<R>(f: impl FnOnce() -> R) -> R {
    let found = read();
    // The exception flags are records, not modes.
    if found & !FLAGS == DEFAULT {
        let _restore = Restore(found);
        return f();
    }
    switched(found, f)
}

/// The rare case. The compiler knows of no modes: of what it can see through it might compute a part before the first
/// switch or after the second. So `f` is a function of its own here, and what goes in and comes out is hidden.
#[cold]
#[inline(never)]
fn switched<R>(found: Mode, f: impl FnOnce() -> R) -> R {
    #[inline(never)]
    fn apart<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
    let _restore = Restore(found);
    write(DEFAULT);
    black_box(apart(black_box(f)))
}

/// Puts the register back, also when a panic unwinds.
struct Restore(Mode);

impl Drop for Restore {
    #[inline(always)]
    fn drop(&mut self) {
        if read() != self.0 {
            write(self.0);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    pub(super) type Mode = u32;
    pub(super) const FLAGS: Mode = 0x3f;
    pub(super) const DEFAULT: Mode = 0x1f80;

    #[inline(always)]
    pub(super) fn read() -> Mode {
        let mut mode: Mode = 0;
        // SAFETY: stores MXCSR (present on every x86-64) into a local.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        mode
    }

    #[inline(always)]
    pub(super) fn write(mode: Mode) {
        // SAFETY: `mode` is the default or what `read` returned: no reserved bit is set.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    pub(super) type Mode = u64;
    pub(super) const FLAGS: Mode = 0;
    pub(super) const DEFAULT: Mode = 0;

    #[inline(always)]
    pub(super) fn read() -> Mode {
        let mode: Mode;
        // SAFETY: reads a register that every AArch64 has.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) mode, options(nomem, nostack, preserves_flags)) };
        mode
    }

    #[inline(always)]
    pub(super) fn write(mode: Mode) {
        // SAFETY: `mode` is the default or what `read` returned.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) mode, options(nomem, nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    pub(super) type Mode = u32;
    pub(super) const FLAGS: Mode = 0;
    pub(super) const DEFAULT: Mode = 0;

    #[inline(always)]
    pub(super) fn read() -> Mode {
        DEFAULT
    }

    #[inline(always)]
    pub(super) fn write(_: Mode) {}
}
