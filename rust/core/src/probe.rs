//! The elementary functions on slices, for the tests of their contracts, what has run, and a bug to order. Not part of the
//! crate's interface.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::math::exp::{Base, Depth, Exp};
use crate::math::log::log1p;
use crate::row::along;
use crate::simd::{Float, Isa, Kernel, Level, Simd, Supported, Vector, with_default_mode};
use crate::{Error, NoControl, parallel};

/// `kappa 2^BIAS` of float32: what [`exp_f32`] multiplies by.
pub const EXP_SCALE_F32: f64 = <f32 as Float>::KAPPA * (1_u128 << <f32 as Float>::BIAS) as f64;
/// `kappa 2^BIAS` of float64.
pub const EXP_SCALE_F64: f64 = <f64 as Float>::KAPPA * (1_u128 << 127) as f64 * 2.0;

macro_rules! probe {
    ($exp:ident, $log1p:ident, $float:ident) => {
        /// Replaces each x in `values` by EXP_SCALE exp(x / temperature) 2^-N, in the row whose maximum is `m`; returns N.
        ///
        /// # Errors
        /// [`Error::Environment`] if this CPU does not have the level.
        pub fn $exp(level: Level, m: $float, temperature: f64, values: &mut [$float]) -> Result<f64, Error> {
            supported(level).map(|level| {
                level.dispatch(ExpOf {
                    m,
                    temperature,
                    values,
                })
            })
        }

        /// Replaces each x in `values` by log(1 + x).
        ///
        /// # Errors
        /// [`Error::Environment`] if this CPU does not have the level.
        pub fn $log1p(level: Level, values: &mut [$float]) -> Result<(), Error> {
            supported(level).map(|level| level.dispatch(Log1pOf(values)))
        }
    };
}
probe!(exp_f32, log1p_f32, f32);
probe!(exp_f64, log1p_f64, f64);

/// The largest element of a row; NaN is passed over.
///
/// # Errors
/// [`Error::Environment`] if this CPU does not have the level.
pub fn max_f32(level: Level, row: &[f32]) -> Result<f32, Error> {
    supported(level).map(|level| level.dispatch(MaxOf(row)))
}

/// How often this thread has entered code that is compiled for the level.
pub fn entered(level: Level) -> u64 {
    crate::simd::entered(level)
}

fn supported(level: Level) -> Result<Supported, Error> {
    Supported::new(level).ok_or_else(|| Error::Environment(format!("no {} here", level.name())))
}

struct ExpOf<'a, T> {
    m: T,
    temperature: f64,
    values: &'a mut [T],
}

impl<T: Float> Kernel<T> for ExpOf<'_, T> {
    type Out = f64;
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) -> f64 {
        let exp = Exp::new(s, &Base::new(self.temperature), Vector::splat(s, self.m), Depth::Full);
        for chunk in self.values.chunks_mut(T::LANES) {
            // SAFETY: the elements of the chunk.
            unsafe {
                let x = Vector::load_partial(s, chunk.as_ptr(), chunk.len(), T::ZERO);
                exp.of(exp.floor.max(x)).store_partial(chunk.as_mut_ptr(), chunk.len());
            }
        }
        exp.octaves.lane(0).to_f64()
    }
}

struct MaxOf<'a, T>(&'a [T]);

impl<T: Float> Kernel<T> for MaxOf<'_, T> {
    type Out = T;
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) -> T {
        // SAFETY: the elements of the slice.
        unsafe { along::max(s, self.0.as_ptr(), self.0.len()) }
    }
}

struct Log1pOf<'a, T>(&'a mut [T]);

impl<T: Float> Kernel<T> for Log1pOf<'_, T> {
    type Out = ();
    type Home = Self;
    #[inline(always)]
    fn run<S: Isa + Simd<T>>(self, s: S) {
        for chunk in self.0.chunks_mut(T::LANES) {
            // SAFETY: the elements of the chunk.
            unsafe {
                let x = Vector::load_partial(s, chunk.as_ptr(), chunk.len(), T::ZERO);
                log1p([x, Vector::zero(s)]).store_partial(chunk.as_mut_ptr(), chunk.len());
            }
        }
    }
}

/// Shares work by `threads` threads and panics in one of them (0 is the calling thread), as a bug in a kernel would.
///
/// # Errors
/// None: returns without a panic where that thread could not be had.
pub fn panic_in_worker(worker: usize, threads: usize) -> Result<(), Error> {
    let done = AtomicBool::new(false);
    // The others wait, so that no thread can take all the work.
    let patience = Instant::now() + Duration::from_secs(5);
    parallel::split(threads * 8, 1 << 14, threads, &NoControl, &|_, at| {
        with_default_mode(|| {
            if at == worker && !done.swap(true, Ordering::Relaxed) {
                panic!("softmax_core::probe: a panic in worker {worker}, as ordered");
            }
            while !done.load(Ordering::Relaxed) && Instant::now() < patience {
                std::thread::yield_now();
            }
        });
    })
}
