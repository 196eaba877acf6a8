//! The collector's helpers: threads made for one piece of work, as many as the system has to give.

use std::panic::resume_unwind;
use std::thread::{Builder, scope};

/// Runs `work` on `workers` threads, this one included. Where the system refuses a thread (`EAGAIN`: a limit on tasks or on
/// addresses), those that there are do it all; so work is to be taken piece by piece, not dealt out.
pub(crate) fn on_workers(workers: usize, work: impl Fn() + Sync) {
    together(workers, &work, &work, || ());
}

/// Runs `own` on this thread and `help` on others, `workers` in all. `one_less` is told of each that the system refused,
/// before `own` begins.
///
/// # Panics
/// If one of them does, with its words, once all have ended.
pub(crate) fn together(workers: usize, own: impl FnOnce(), help: impl Fn() + Sync, one_less: impl Fn()) {
    if workers <= 1 {
        return own();
    }
    let help = &help;
    scope(|scope| {
        let mut helpers = Vec::new();
        for _ in 1..workers {
            match Builder::new().spawn_scoped(scope, help) {
                Ok(helper) => helpers.push(helper),
                Err(_) => one_less(),
            }
        }
        own();
        for helper in helpers {
            // Of a thread that nobody joins the scope would say that it panicked, and not why.
            helper.join().unwrap_or_else(|why| resume_unwind(why));
        }
    });
}

#[cfg(test)]
mod tests {
    use crate::root::table::RootCell;
    use crate::{Barrier, Heap, LEAST_HEAP_BYTES, Mutator};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// The others would wait for ever for the one that is never idle.
    #[test]
    fn a_marker_that_panics_among_others_fails_the_heap() {
        for (barrier, workers) in [(Barrier::Load, 2), (Barrier::Load, 4), (Barrier::StopTheWorld, 3)] {
            let heap =
                Heap::builder().max_bytes(LEAST_HEAP_BYTES + 1).barrier(barrier).workers(workers).build().unwrap();
            let shared = heap.shared();
            // Of this heap, and past its end: a mark there is out of bounds.
            let nowhere = shared.space.view(shared.phase.good()) + shared.views.span() as u64 - 4096;
            let _root = RootCell::new(&shared.roots, nowhere, true);
            catch_unwind(AssertUnwindSafe(|| heap.collect())).expect_err("it came back as if done");
            let why = shared.control.failure().expect("the collector has given up");
            assert!(why.contains("out of bounds"), "{why}");
            let asks: [fn(&mut Mutator<'_>); 2] = [|m| m.safepoint(), |m| m.collect()];
            for ask in asks {
                let panic = catch_unwind(AssertUnwindSafe(|| heap.enter(ask))).unwrap_err();
                let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                assert!(said.contains("the collector has failed"), "{said}");
            }
        }
    }
}
