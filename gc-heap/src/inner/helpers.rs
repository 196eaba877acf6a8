//! The collector's helper threads: they sleep until there is work for several threads, and are
//! started with the first such work, as many as the system allows. They end with the collector.

use crate::lock::{Condvar, Mutex};
use gc_core::sys::{spawn_thread, thread_cpu_time};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The work of a call. It lives until the call has ended.
type Work = &'static (dyn Fn() + Sync);

#[derive(Default)]
struct State {
    /// The work of the call, for so many helpers, until it is opened.
    unopened: Option<(Work, usize)>,
    /// The work of the call that is open.
    work: Option<Work>,
    /// Number of the call: a helper takes part in each call once.
    call: u64,
    /// Number of helpers that the open call still accepts.
    seats: usize,
    /// Helpers that run a call's work.
    running: usize,
    /// Processor time that helpers have taken for calls, since somebody asked last.
    used: Duration,
    panic: Option<Box<dyn Any + Send>>,
    ended: bool,
}

#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    work: Condvar,
    done: Condvar,
}

impl Desk {
    /// The loop of a helper thread.
    fn help(&self) {
        let mut last = 0;
        let mut state = self.state.lock();
        while !state.ended {
            let Some(work) = state.work.filter(|_| state.seats > 0 && state.call != last) else {
                state = self.work.wait(state);
                continue;
            };
            last = state.call;
            state.seats -= 1;
            state.running += 1;
            drop(state);
            let before = thread_cpu_time();
            let outcome = catch_unwind(AssertUnwindSafe(work));
            let used = thread_cpu_time().saturating_sub(before);
            state = self.state.lock();
            state.used += used;
            state.running -= 1;
            if let Err(why) = outcome {
                state.panic.get_or_insert(why);
            }
            if state.running == 0 {
                drop(state);
                self.done.notify_one();
                state = self.state.lock();
            }
        }
    }
}

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
        self.together(
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
    pub(crate) fn together(&self, workers: usize, own: impl FnOnce(), help: impl Fn() + Sync) {
        let work: &(dyn Fn() + Sync) = &help;
        // SAFETY: only the lifetime changes. Helpers take the work from the desk, where it lies until the call ends, and the
        // end waits for those that have taken it. It comes before `help` is dropped, also where `own` panics.
        let work = unsafe { std::mem::transmute::<&(dyn Fn() + Sync), Work>(work) };
        let call = Call(&self.desk);
        self.desk.state.lock().unopened = (workers > 1).then_some((work, workers - 1));
        own();
        drop(call);
        let panic = self.desk.state.lock().panic.take();
        if let Some(why) = panic {
            resume_unwind(why);
        }
    }

    /// Wakes the helpers for the current call, once: they take about 50 us to start.
    pub(crate) fn open(&self) {
        let unopened = self.desk.state.lock().unopened.take();
        let Some((work, seats)) = unopened else { return };
        self.start(seats);
        let mut state = self.desk.state.lock();
        state.work = Some(work);
        state.seats = seats;
        state.call += 1;
        drop(state);
        self.desk.work.notify_all();
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
        std::mem::take(&mut self.desk.state.lock().used)
    }

    /// Ends the threads. Called by the collector thread when it ends.
    pub(crate) fn end(&self) {
        self.desk.state.lock().ended = true;
        self.desk.work.notify_all();
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

/// Ends a call when dropped.
struct Call<'a>(&'a Desk);

impl Drop for Call<'_> {
    /// Accepts no more helpers, and waits for those that take part.
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        (state.unopened, state.work) = (None, None);
        while state.running > 0 {
            state = self.0.done.wait(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Helpers;
    use crate::lock::Mutex;
    use crate::roots::table::RootCell;
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
            let nowhere = inner.memory.space.view(inner.world.phase.good()) + inner.memory.views.span() as u64 - 4096;
            let _root = RootCell::new(&inner.roots.strong, nowhere, true);
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
        helpers.together(4, || (), || ());
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

    /// Of a limit on collecting, a collector with helpers would else have a part of its time left out.
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
        helpers.together(
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
        helpers.together(1, works, || ());
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
