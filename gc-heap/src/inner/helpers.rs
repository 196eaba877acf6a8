//! The collector's helper threads: they sleep until there is work for several threads, and are
//! started with the first such work, as many as the system allows. They end with the collector.

use crate::lock::Mutex;
use gc_core::desk::Desk;
use gc_core::sys::spawn_thread;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The helper threads of one heap.
pub(crate) struct Helpers {
    name: String,
    desk: Arc<Desk>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Helpers {
    /// No thread is started. `name`: of the heap.
    pub(crate) fn new(name: &str) -> Helpers {
        Helpers { name: name.to_owned(), desk: Arc::default(), threads: Mutex::default() }
    }

    /// Runs `work` on `workers` threads, this one included. If the system refuses a thread
    /// (`EAGAIN`: a limit on tasks or on address space), the existing threads do it all; so threads
    /// must claim work piece by piece instead of being assigned shares. The call does not wait for
    /// a late helper.
    pub(crate) fn run_parallel(&self, workers: usize, work: impl Fn() + Sync) {
        self.run_with_helpers(
            workers,
            || {
                self.open();
                work();
            },
            &work,
        );
    }

    /// Runs `own` on this thread; once that has [opened](Helpers::open) the call, `help` on
    /// `workers - 1` others at most, each that comes before `own` has ended. Called by the
    /// collector thread alone.
    ///
    /// # Panics
    /// If one of them panics, with the same payload, once all have ended.
    pub(crate) fn run_with_helpers(&self, workers: usize, own: impl FnOnce(), help: impl Fn() + Sync) {
        self.desk.call(workers.saturating_sub(1), own, help).unwrap_or_else(|why| resume_unwind(why));
    }

    /// Wakes the helpers for the current call, once: they take about 50 us to start.
    pub(crate) fn open(&self) {
        let Some(seats) = self.desk.unopened() else { return };
        self.start(seats);
        self.desk.open();
    }

    /// Starts the missing threads. If one is refused, the next call tries again.
    fn start(&self, wanted: usize) {
        let mut threads = self.threads.lock();
        while threads.len() < wanted {
            let desk = Arc::clone(&self.desk);
            match spawn_thread(format!("{}-gc{}", self.name, threads.len() + 1), move || desk.help()) {
                Ok(thread) => threads.push(thread),
                Err(_) => return,
            }
        }
    }

    /// Returns the processor time that helpers have used for the calls that ended since the last
    /// call of this.
    pub(crate) fn take_used(&self) -> Duration {
        self.desk.take_used()
    }

    /// Ends the threads. Called by the collector thread when it ends.
    pub(crate) fn end(&self) {
        self.desk.close();
        for thread in self.threads.lock().drain(..) {
            // A panic of the work is propagated to the caller.
            let _ = thread.join();
        }
    }

    /// Threads that were started.
    #[cfg(test)]
    pub(crate) fn started(&self) -> usize {
        self.threads.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::Helpers;
    use crate::lock::Mutex;
    use crate::roots::table::RootCell;
    use crate::space::Offset;
    use crate::{Heap, MIN_HEAP_BYTES, Mutator};
    use gc_core::sys::thread_cpu_time;
    use std::collections::HashSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::time::{Duration, Instant};

    /// The others would wait for ever for the one that is never idle.
    #[test]
    fn a_marker_that_panics_among_others_fails_the_heap() {
        use crate::Barrier::{Load, StopTheWorld};
        for (barrier, workers) in [(Load, 2), (Load, 4), (StopTheWorld, 3)] {
            let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES + 1).barrier(barrier).workers(workers).build().unwrap();
            let inner = heap.inner();
            // Of this heap, and past its end: a mark there is out of bounds.
            let nowhere = inner.good_words().of(false, Offset::new(inner.memory.views.span() - 4096));
            let _root = RootCell::new(&inner.roots.strong, nowhere.word(), true);
            catch_unwind(AssertUnwindSafe(|| heap.collect())).expect_err("it came back as if done");
            let why = inner.schedule.requests.failure().expect("the collector has given up");
            assert!(why.contains("out of bounds"), "{why}");
            let asks: [fn(&mut Mutator<'_>); 2] = [|m| m.safepoint(), |m| m.collect()];
            for ask in asks {
                let panic = catch_unwind(AssertUnwindSafe(|| heap.enter(ask))).unwrap_err();
                let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                assert!(said.contains("the collector has failed"), "{said}");
            }
        }
    }

    #[test]
    fn helpers_stand_by_between_calls_and_end_with_the_collector() {
        let helpers = Helpers::new("standing");
        assert_eq!(helpers.started(), 0);
        helpers.run_parallel(1, || ());
        helpers.run_with_helpers(4, || (), || ());
        assert_eq!(helpers.started(), 0, "nobody was called");
        let seen = Mutex::new(HashSet::new());
        for _ in 0..50 {
            let there = Barrier::new(4);
            helpers.run_parallel(4, || {
                there.wait(); // all four at once
                seen.lock().insert(std::thread::current().id());
            });
        }
        assert_eq!((helpers.started(), seen.lock().len()), (3, 4), "the same threads, call after call");
        helpers.end();
        assert_eq!(helpers.started(), 0);
    }

    /// Of a limit on collecting, a collector with helpers would else have a part of its time left
    /// out.
    #[test]
    fn the_processor_time_of_helpers_is_counted_and_that_of_the_caller_is_not() {
        const EACH: Duration = Duration::from_millis(20);
        let helpers = Helpers::new("counted");
        let works = || {
            let (before, until) = (thread_cpu_time(), Instant::now() + Duration::from_secs(20));
            while thread_cpu_time() < before + EACH {
                assert!(Instant::now() < until, "no processor");
            }
        };
        let there = Barrier::new(3);
        helpers.run_with_helpers(
            3,
            || {
                helpers.open();
                there.wait();
            },
            || {
                there.wait();
                works();
            },
        );
        let used = helpers.take_used();
        assert!(used >= 2 * EACH, "two helpers: {used:?}");
        assert_eq!(helpers.take_used(), Duration::ZERO, "asked for twice");
        helpers.run_with_helpers(1, works, || ());
        assert_eq!(helpers.take_used(), Duration::ZERO, "the caller's own");
        helpers.end();
    }

    #[test]
    fn a_helper_that_panics_is_heard_of_and_helps_again() {
        let helpers = Helpers::new("panics");
        for _ in 0..3 {
            let (own, there) = (std::thread::current().id(), Barrier::new(2));
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                helpers.run_parallel(2, || {
                    there.wait();
                    assert_eq!(std::thread::current().id(), own, "a helper's words");
                });
            }));
            let why = outcome.unwrap_err().downcast_ref::<String>().cloned().unwrap_or_default();
            assert!(why.contains("a helper's words"), "{why}");
        }
        assert_eq!(helpers.started(), 1);
        helpers.end();
    }
}
