//! Locks that a child made by `fork` can use: those of the standard library, without poisoning.
//!
//! `parking_lot` keeps waiting threads in a process-wide table. A forked child inherits entries for
//! threads that do not exist there and whose stacks glibc reuses, so its queues are corrupt and a
//! heap built in the child can hang. The standard library's locks are one word each; the kernel
//! keeps the queue of waiters (`futex(2)`), which a child does not inherit.
//!
//! Unlock before notifying; otherwise the woken thread blocks on the lock at once. (Measured: 3 %
//! of the wall time of `binary-trees`.)
//!
//! A panic while a lock is held leaves no half-changed state (`catch_unwind` around listeners and
//! visitors relies on that as well), so poisoning is ignored.

use gc_core::sys::Process;
use std::cell::Cell;
use std::sync::{self, PoisonError, TryLockError};
use std::time::{Duration, Instant};

thread_local! {
    /// Who hears of this thread's waits for locks.
    static TELL_WAITS: Cell<Option<TellWaits>> = const { Cell::new(None) };
}

/// Called before a wait, and after it with what the first has returned and the lock held.
#[derive(Clone, Copy)]
pub(crate) struct TellWaits {
    pub(crate) begin: fn() -> u64,
    pub(crate) end: fn(u64),
}

/// Has this thread's waits for locks told.
#[cfg(feature = "losses")]
pub(crate) fn tell_waits(tell: Option<TellWaits>) {
    TELL_WAITS.set(tell);
}

/// The guard of a lock.
pub(crate) use std::sync::MutexGuard;

/// [`sync::Mutex`], never poisoned.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T: ?Sized>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex(sync::Mutex::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Mutex<T> {
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        match self.try_lock() {
            Some(guard) => guard,
            None => self.wait_for_lock(),
        }
    }

    /// Waits, and tells the thread's account of it.
    #[cold]
    fn wait_for_lock(&self) -> MutexGuard<'_, T> {
        let told = TELL_WAITS.get().map(|tell| (tell, (tell.begin)()));
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((tell, begun)) = told {
            (tell.end)(begun);
        }
        guard
    }

    /// As [`lock`](Self::lock), for functions that a child made by `fork` may call with what it has
    /// of its parent's. There it does not wait, because a thread that the child does not have may
    /// hold the lock for ever: `None` where the lock is held. `process` is that of what the lock
    /// guards.
    #[inline]
    pub(crate) fn lock_in(&self, process: Process) -> Option<MutexGuard<'_, T>> {
        if process.is_current() { Some(self.lock()) } else { self.try_lock() }
    }

    /// `None` where another thread holds it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// [`sync::Condvar`], for a [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Condvar {
        Condvar(sync::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Waits for a notification; may also wake up spuriously.
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`wait`](Condvar::wait), for so long at most.
    pub(crate) fn wait_for<'a, T>(&self, guard: MutexGuard<'a, T>, timeout: Duration) -> MutexGuard<'a, T> {
        self.0.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
    }

    /// As [`wait`](Condvar::wait), at most until the deadline. Returns whether the deadline has
    /// passed.
    pub(crate) fn wait_until<'a, T>(&self, guard: MutexGuard<'a, T>, until: Instant) -> (MutexGuard<'a, T>, bool) {
        let guard = self.wait_for(guard, until.saturating_duration_since(Instant::now()));
        (guard, Instant::now() >= until)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        AllocSize, Bytes, FinalizerQueue, GcLog, Heap, HeapStats, MIN_HEAP_BYTES, ResourceQueue, RootStack, Tagged,
    };
    use std::io::Write;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Whether `child` comes to its end, in a child made by `fork`, within 20 s.
    fn in_a_child(child: impl FnOnce()) -> bool {
        // SAFETY: the child takes no lock that it does not know, and leaves without running
        // anything of the parent's. The C library's allocator is usable there.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            // SAFETY: no memory is involved.
            unsafe { libc::alarm(20) };
            let result = catch_unwind(AssertUnwindSafe(child)).map_err(|panic| {
                let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                // Not `eprintln!`, which the test's parent keeps.
                let _ = writeln!(std::io::stderr(), "in the child: {why}");
            });
            // SAFETY: as above.
            unsafe { libc::_exit(i32::from(result.is_err())) };
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }

    /// What a child may ask of its parent's heap.
    struct Asked {
        heap: Heap,
        resources: ResourceQueue<u64>,
        objects: FinalizerQueue<Bytes>,
        log: GcLog,
        /// Before the `fork`.
        stats: HeapStats,
    }

    impl Asked {
        /// A heap with something to tell.
        fn new() -> Asked {
            let builder = Heap::builder().max_bytes(MIN_HEAP_BYTES).external_step(1 << 20);
            #[cfg(feature = "losses")]
            let builder = builder.record_losses(true);
            let heap = builder.build().unwrap();
            let resources = ResourceQueue::new(&heap);
            heap.enter(|m| {
                let m = m.reserve(AllocSize::tail::<Bytes>(8)).unwrap();
                resources.attach(m, m.place_bytes::<Bytes>((), b"anything"), 7);
            })
            .unwrap();
            heap.collect();
            let objects = FinalizerQueue::new(&heap);
            Asked { resources, objects, log: GcLog::new(), stats: heap.stats(), heap }
        }

        /// Calls every function that a child is not refused. `held`: the locks are.
        fn ask(&self, held: bool) {
            let Asked { heap, resources, objects, log, stats } = self;
            let of = heap.stats();
            assert_eq!((of.cycles, of.allocated_bytes), (stats.cycles, stats.allocated_bytes));
            assert!(of.live_bytes <= of.used_bytes as u64 && of.used_bytes <= of.committed_bytes, "{of:?}");
            assert!(of.committed_bytes <= of.committed_peak_bytes && of.committed_bytes > 0, "{of:?}");
            let some = |of: usize| assert_eq!(of == 0, held, "{of}");
            some(heap.pauses().total.count as usize);
            assert_eq!(heap.refusals().count, 0);
            let (events, _) = heap.take_events();
            some(events.len());
            events.iter().for_each(|event| drop(log.line(event)));
            some(resources.kept());
            some(resources.ready());
            some(resources.take().map_or(0, |value| value as usize));
            assert!(objects.take().is_none() && objects.ready() == 0);
            // What is counted begins a cycle in the parent.
            drop(heap.add_external(64 << 20));
            assert_eq!(heap.external_bytes(), 0);
            assert!(ResourceQueue::<u64>::new(heap).take().is_none());
            assert_eq!(FinalizerQueue::<Bytes>::new(heap).ready(), 0);
            assert!(RootStack::<Tagged>::new(heap).is_err());
            let _ = (heap.faults(), heap.slow_paths(), heap.now_ns(), heap.warnings(), heap.max_bytes());
            crate::LossKind::ALL.into_iter().for_each(|kind| drop(heap.loss_durations(kind)));
        }
    }

    #[test]
    fn a_child_made_by_fork_has_the_figures_of_the_fork() {
        let asked = Asked::new();
        assert!(in_a_child(|| asked.ask(false)));
        assert_eq!(asked.resources.take(), Some(7), "the child's copy is its own");
    }

    /// A thread of the parent may hold any lock when the child is made, and never gives it back
    /// there. Fails where a function waits for one.
    #[test]
    fn a_child_made_by_fork_waits_for_no_lock_of_its_parents_threads() {
        let asked = Asked::new();
        let inner = asked.heap.inner();
        let (has, done) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| {
                let report = &inner.report;
                let of_report = (report.pauses.lock(), report.refusals.0.lock(), report.events.locked());
                #[cfg(feature = "losses")]
                let of_losses = report.events.losses.taken.lock();
                let of_roots = (inner.roots.targets.lock(), inner.roots.stacks.lock());
                let of_queues = (asked.resources.locked(), asked.objects.locked());
                let others =
                    (inner.memory.free.locked(), inner.world.mutators.lock(), inner.schedule.requests.locked());
                has.wait();
                done.wait();
                drop((of_report, of_roots, of_queues, others));
                #[cfg(feature = "losses")]
                drop(of_losses);
            });
            has.wait();
            let ended = in_a_child(|| asked.ask(true));
            done.wait();
            ended
        });
        assert!(ended, "the child hangs, or was told something else");
    }

    /// One lock at a time: what another guards is told.
    #[test]
    fn a_child_made_by_fork_is_told_what_no_held_lock_guards() {
        let asked = Asked::new();
        let (heap, mutators) = (&asked.heap, asked.heap.inner().world.mutators.lock());
        assert!(in_a_child(|| assert_ne!(heap.take_events().0.len(), 0)));
        drop(mutators);
        let pauses = heap.inner().report.pauses.lock();
        assert!(in_a_child(|| assert!(heap.pauses().total.count == 0 && asked.resources.take() == Some(7))));
        drop(pauses);
        assert_eq!(asked.resources.take(), Some(7));
    }
}
