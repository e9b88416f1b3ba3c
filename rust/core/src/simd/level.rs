//! Which instruction sets there are, which one this CPU gets, and the one place where code is compiled for them.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Float, Isa, Simd, portable::Portable};
use crate::Error;

/// Work on lanes of `T` that is compiled for every level.
pub(crate) trait Kernel<T: Float> {
    type Out;
    /// A type of the module whose unit of compilation the code goes to: rustc counts a method to its type's module, and
    /// optimises units side by side. As plain functions of this module all kernels would be one unit, which takes minutes.
    type Home;
    /// Implementations are `#[inline(always)]`, so that they are compiled with the instructions of the level.
    fn run<S: Isa + Simd<T>>(self, s: S) -> Self::Out;
}

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// What every CPU of the architecture has.
    Portable,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL, with AVX2, FMA, F16C and POPCNT.
    Avx512,
    /// NEON with fused multiply-add: every AArch64 has it.
    Neon,
}

impl Level {
    /// Whether `mul_add` rounds once.
    #[inline(always)]
    pub(crate) const fn fuses(self) -> bool {
        !matches!(self, Self::Portable)
    }

    /// Whether the level has every way over memory. The portable one, where arithmetic takes six to eight times as long,
    /// does without streaming, results that wait, and code for a single vector. (Streaming would save 5 to 8 % of softmax and
    /// cross entropy with gradient of 8192x1000, and cost softmax_backward as much.)
    pub(crate) const fn has_all_ways(self) -> bool {
        !matches!(self, Self::Portable)
    }
}

/// The levels beyond the portable one. From each row's list of features both the detection and the
/// `#[target_feature]` are made. (The names are those of `rustc --print target-features`.)
macro_rules! targets {
    ($($level:ident, $name:literal, $arch:literal, $detected:ident, $token:path => [$($feature:tt),+];)*) => {
        impl Level {
            /// The name that `SOFTMAX_RS_SIMD` takes.
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Portable => "portable",
                    $(Self::$level => $name,)*
                }
            }

            /// All levels, the fastest last.
            const ALL: &'static [Self] = &[Self::Portable, $(Self::$level),*];

            /// Whether this CPU has the level's instructions.
            pub fn supported(self) -> bool {
                match self {
                    Self::Portable => true,
                    $(
                        #[cfg(target_arch = $arch)]
                        Self::$level => $(std::arch::$detected!($feature))&&+,
                        #[cfg(not(target_arch = $arch))]
                        Self::$level => false,
                    )*
                }
            }

            /// Runs `kernel` as compiled for this level.
            ///
            /// # Safety
            /// The level is supported.
            #[inline(always)]
            unsafe fn dispatch_unchecked<T: Float, K: Kernel<T>>(self, kernel: K) -> K::Out {
                match self {
                    Self::Portable => {
                        trait Compiled {
                            fn portable<T: Float, K: Kernel<T>>(kernel: K) -> K::Out;
                        }
                        impl<Home> Compiled for Home {
                            // One function, as for the others: not a copy in everything that dispatches.
                            #[inline(never)]
                            fn portable<T: Float, K: Kernel<T>>(kernel: K) -> K::Out {
                                note(Level::Portable);
                                T::enter(Portable::new(), kernel)
                            }
                        }
                        K::Home::portable::<T, K>(kernel)
                    }
                    $(
                        #[cfg(target_arch = $arch)]
                        Self::$level => {
                            trait Compiled {
                                unsafe fn compiled<T: Float, K: Kernel<T>>(kernel: K) -> K::Out;
                            }
                            impl<Home> Compiled for Home {
                                $(#[target_feature(enable = $feature)])+
                                unsafe fn compiled<T: Float, K: Kernel<T>>(kernel: K) -> K::Out {
                                    note(Level::$level);
                                    // SAFETY: this function runs only where the features are.
                                    T::enter(unsafe { <$token>::new() }, kernel)
                                }
                            }
                            // SAFETY: the caller says that the level is supported.
                            unsafe { K::Home::compiled::<T, K>(kernel) }
                        }
                        #[cfg(not(target_arch = $arch))]
                        Self::$level => unreachable!("a level of another architecture"),
                    )*
                }
            }

            /// The same as a function of its own, called from code of the same level: what many kernels share is
            /// compiled once.
            ///
            /// # Safety
            /// The level is supported.
            #[inline(always)]
            unsafe fn dispatch_apart<T: Float, K: Kernel<T>>(self, kernel: K) -> K::Out {
                match self {
                    Self::Portable => {
                        trait Compiled {
                            fn apart<T: Float, K: Kernel<T>>(kernel: K) -> K::Out;
                        }
                        impl<Home> Compiled for Home {
                            #[inline(never)]
                            fn apart<T: Float, K: Kernel<T>>(kernel: K) -> K::Out {
                                T::enter(Portable::new(), kernel)
                            }
                        }
                        K::Home::apart::<T, K>(kernel)
                    }
                    $(
                        #[cfg(target_arch = $arch)]
                        Self::$level => {
                            trait Compiled {
                                unsafe fn apart<T: Float, K: Kernel<T>>(kernel: K) -> K::Out;
                            }
                            impl<Home> Compiled for Home {
                                #[inline(never)]
                                $(#[target_feature(enable = $feature)])+
                                unsafe fn apart<T: Float, K: Kernel<T>>(kernel: K) -> K::Out {
                                    // SAFETY: this function runs only where the features are.
                                    T::enter(unsafe { <$token>::new() }, kernel)
                                }
                            }
                            // SAFETY: the caller says that the level is supported.
                            unsafe { K::Home::apart::<T, K>(kernel) }
                        }
                        #[cfg(not(target_arch = $arch))]
                        Self::$level => unreachable!("a level of another architecture"),
                    )*
                }
            }
        }
    };
}

targets! {
    Avx2, "avx2", "x86_64", is_x86_feature_detected, super::avx2::Avx2 => ["avx2", "fma", "f16c"];
    Avx512, "avx512", "x86_64", is_x86_feature_detected, super::avx512::Avx512
        => ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c", "popcnt"];
    Neon, "neon", "aarch64", is_aarch64_feature_detected, super::neon::Neon => ["neon"];
}

thread_local! {
    static ENTERED: [Cell<u64>; Level::ALL.len()] = const { [const { Cell::new(0) }; Level::ALL.len()] };
}

/// Counts an entry into code of this level: from that code itself, so that the tests can tell what ran from what was
/// asked for. Once for a thread's share of a call, and in every build: what is tested is what is used.
#[inline(always)]
fn note(level: Level) {
    ENTERED.with(|counts| counts[level as usize].set(counts[level as usize].get() + 1));
}

/// How often this thread has entered code of the level.
pub(crate) fn entered(level: Level) -> u64 {
    ENTERED.with(|counts| counts[level as usize].get())
}

/// A level that this CPU was found to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Supported(Level);

impl Supported {
    pub(crate) fn new(level: Level) -> Option<Self> {
        level.supported().then_some(Self(level))
    }

    #[inline(always)]
    pub(crate) fn dispatch<T: Float, K: Kernel<T>>(self, kernel: K) -> K::Out {
        // SAFETY: `new` is the only way to a value, and it asked the CPU.
        unsafe { self.0.dispatch_unchecked::<T, K>(kernel) }
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }

    /// The level of a token, which is the proof.
    #[inline(always)]
    pub(super) fn of<S: Isa>(_: S) -> Self {
        Self(S::LEVEL)
    }

    /// See [`Isa::apart`].
    #[inline(always)]
    pub(super) fn apart<T: Float, K: Kernel<T>>(self, kernel: K) -> K::Out {
        // SAFETY: as above.
        unsafe { self.0.dispatch_apart::<T, K>(kernel) }
    }
}

impl Level {
    /// The levels that this CPU has, the fastest last.
    pub fn all_supported() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|level| level.supported())
    }

    /// The level in use: the fastest that the CPU has, or what `SOFTMAX_RS_SIMD` lowers it to. Read at first use.
    ///
    /// # Errors
    /// [`Error::Environment`] where the variable names no level, or one that this CPU has not.
    pub fn active() -> Result<Self, Error> {
        active().map(Supported::level)
    }
}

/// A level with its proof.
///
/// # Errors
/// [`Error::Environment`] if this CPU does not have it.
pub(crate) fn supported(level: Level) -> Result<Supported, Error> {
    Supported::new(level)
        .ok_or_else(|| Error::Environment(format!("this CPU does not have the level {}", level.name())))
}

/// The level that needs no proof: for rare rows, where code for every level would not pay.
pub(crate) fn plain() -> Portable {
    Portable::new()
}

/// The level in use, with its proof.
#[inline(always)]
pub(crate) fn active() -> Result<Supported, Error> {
    // Not a OnceLock: one that another thread is filling while this process forks stays locked in the child.
    static ACTIVE: AtomicU8 = AtomicU8::new(UNKNOWN);
    const UNKNOWN: u8 = u8::MAX;
    match Level::ALL.get(usize::from(ACTIVE.load(Ordering::Relaxed))) {
        // Stored below, after the CPU was asked.
        Some(&level) => Ok(Supported(level)),
        None => {
            let supported = read_environment()?;
            ACTIVE.store(supported.0 as u8, Ordering::Relaxed);
            Ok(supported)
        }
    }
}

const VARIABLE: &str = "SOFTMAX_RS_SIMD";

fn read_environment() -> Result<Supported, Error> {
    let names = || Level::all_supported().map(Level::name).collect::<Vec<_>>().join(", ");
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        let best = Level::all_supported().last().unwrap_or(Level::Portable);
        return Ok(Supported(best));
    };
    let value = value.to_string_lossy();
    match Level::ALL.iter().find(|level| level.name() == value) {
        Some(&level) => Supported::new(level).ok_or_else(|| {
            Error::Environment(format!(
                "{VARIABLE}={value} names instructions that this CPU does not have; it has: {}",
                names()
            ))
        }),
        None => Err(Error::Environment(format!(
            "{VARIABLE}={value:?} is not a SIMD level; this CPU has: {}",
            names()
        ))),
    }
}
