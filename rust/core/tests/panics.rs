//! A bug in a kernel: the panic comes to the caller, and the pool serves the next call.

use std::panic::catch_unwind;

use softmax_core::probe::panic_in_worker;

#[test]
fn a_panic_in_any_thread_reaches_the_caller_and_the_pool_survives() {
    for round in 0..10 {
        for worker in 0..4 {
            let Err(payload) = catch_unwind(|| panic_in_worker(worker, 4)) else {
                panic!("round {round}: worker {worker} did not panic: the pool has lost it");
            };
            let message = payload.downcast_ref::<String>().map_or("", String::as_str);
            assert!(message.contains(&format!("worker {worker}, as ordered")), "{message}");
        }
    }
}
