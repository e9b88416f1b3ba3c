//! The floating-point mode of the calling thread, as another library may have left it. What the tests themselves compute
//! must not meet it: it holds for the call alone.

use std::cell::Cell;

/// What a caller may have set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub name: &'static str,
    /// What is set in the register, beside what is there.
    bits: u64,
}

/// None of them changes a bit of a result.
#[cfg(target_arch = "x86_64")]
pub const MODES: [Mode; 5] = [
    mode("flush to zero, denormals are zero", 0x8040),
    mode("rounding down", 0x2000),
    mode("rounding up", 0x4000),
    mode("rounding towards zero", 0x6000),
    // The records of all exceptions, which are no mode but must be found again as well.
    mode("rounding up, flush to zero, all records set", 0xc07f),
];
#[cfg(target_arch = "aarch64")]
pub const MODES: [Mode; 5] = [
    mode("flush to zero", 1 << 24 | 1 << 19),
    mode("rounding up", 1 << 22),
    mode("rounding down", 2 << 22),
    mode("rounding towards zero", 3 << 22),
    mode("default NaN, alternative half precision", 1 << 25 | 1 << 26),
];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const MODES: [Mode; 0] = [];

const fn mode(name: &'static str, bits: u64) -> Mode {
    Mode { name, bits }
}

thread_local! {
    static SET: Cell<Option<Mode>> = const { Cell::new(None) };
}

/// Sets the mode in which [`call`] will run what it is given.
pub fn set(mode: Option<Mode>) {
    SET.set(mode);
}

/// Runs `f` in the mode that was set, and looks whether it is still there afterwards.
pub fn call<R>(f: impl FnOnce() -> R) -> R {
    let Some(mode) = SET.get() else {
        return f();
    };
    let found = read();
    write(found | mode.bits);
    let before = read();
    let result = apart(f);
    let after = read();
    write(found);
    assert_eq!(
        before,
        found | mode.bits,
        "this CPU does not have the mode: {}",
        mode.name
    );
    assert_eq!(after, before, "the mode was not left as found: {}", mode.name);
    result
}

/// Nothing of `f` may be computed outside of the mode.
#[inline(never)]
fn apart<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
fn read() -> u64 {
    let mut mode = 0_u32;
    // SAFETY: stores MXCSR into a local.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
    u64::from(mode)
}

#[cfg(target_arch = "x86_64")]
fn write(mode: u64) {
    let mode = mode as u32;
    // SAFETY: what was read, and bits that every x86-64 has.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags)) };
}

#[cfg(target_arch = "aarch64")]
fn read() -> u64 {
    let mode;
    // SAFETY: reads a register that every AArch64 has.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) mode, options(nostack, preserves_flags)) };
    mode
}

#[cfg(target_arch = "aarch64")]
fn write(mode: u64) {
    // SAFETY: what was read, and bits that an AArch64 either has or ignores.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) mode, options(nostack, preserves_flags)) };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> u64 {
    0
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn write(_: u64) {}
