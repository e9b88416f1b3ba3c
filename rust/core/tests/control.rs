//! The caller is asked whether a call goes on, in everything that goes over rows: not only while they are computed.

use std::cell::Cell;

use softmax_core::simd::Level;
use softmax_core::{
    Array, Control, Cotangent, CrossEntropy, Derivative, Dtype, Error, Fault, Loss, NoControl, Reduction, Target,
    Temperature, cross_entropy_at, parallel,
};

const ROWS: usize = 1 << 20;
/// Elements gone over between two questions, before and after rows are computed.
const PACE: usize = 1 << 18;

/// Counts the questions, and says no to one of them.
struct Counter {
    asked: Cell<usize>,
    stops_at: usize,
}

impl Control for Counter {
    fn proceed(&self) -> bool {
        let asked = self.asked.get();
        self.asked.set(asked + 1);
        asked != self.stops_at
    }
}

/// Losses of many rows of one class, with weights: they are read, weighed, counted, computed and added one after the
/// other.
fn losses(reduction: Reduction, control: &dyn Control) -> Result<Loss, Fault> {
    let (logit, class, weights) = (0.5f32, 0i8, vec![1.0; ROWS]);
    let (logit, class) = (
        std::ptr::from_ref(&logit).cast_mut().cast(),
        std::ptr::from_ref(&class).cast_mut().cast(),
    );
    let array = |ptr, dtype| Array {
        ptr,
        dtype,
        swapped: false,
        strides: &[0, 0],
    };
    let call = CrossEntropy {
        shape: &[ROWS, 1],
        axis: 1,
        logits: array(logit, Dtype::F32),
        dtype: Dtype::F32,
        target: Target::Classes(array(class, Dtype::I8)),
        weight: &[2.0],
        sample_weight: &weights,
        ignore_index: None,
        label_smoothing: 0.0,
        reduction,
        temperature: Temperature::One(1.0),
        z_loss: 0.5,
        softcap: None,
        mask: None,
        cotangent: Cotangent::One(1.0),
        derivative: Derivative::None,
    };
    // SAFETY: all strides are 0, and there is one element of each array; a sample weight for each row.
    unsafe { cross_entropy_at(Level::Portable, &call, control) }
}

#[test]
fn every_pass_over_rows_asks() {
    parallel::set_local_threads(Some(1));
    // Reading; both denominators and the weights of the classes; computing; both sums, or the losses one by one.
    for (reduction, passes) in [(Reduction::Mean, 7), (Reduction::Sum, 5), (Reduction::None, 4)] {
        let counter = Counter {
            asked: Cell::new(0),
            stops_at: usize::MAX,
        };
        let whole = losses(reduction, &counter);
        assert_eq!(whole, losses(reduction, &NoControl));
        let asked = counter.asked.get();
        // (The pass that computes asks by itself, and less often.)
        let least = (passes - 1) * ROWS / PACE - 1;
        println!("{reduction:?}: asked {asked} times, at least {least} expected");
        assert!(
            asked >= least,
            "{reduction:?}: asked {asked} times instead of {least} or more"
        );
        for stops_at in 0..asked {
            let counter = Counter {
                asked: Cell::new(0),
                stops_at,
            };
            let stopped = losses(reduction, &counter);
            assert_eq!(
                stopped,
                Err(Fault::Core(Error::Interrupted)),
                "{reduction:?}, question {stops_at}"
            );
            assert_eq!(
                counter.asked.get(),
                stops_at + 1,
                "{reduction:?}: asked again after a no"
            );
        }
    }
}
