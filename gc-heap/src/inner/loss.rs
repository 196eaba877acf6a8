//! What mutators suffer beside pauses and stalls: each delay with its cause, its time and its
//! mutator, in the mutator's [`Account`]. See "Losses" in `docs/protocol.md`.
//!
//! A mutator's account is in its `MutatorRecord`. Its thread is the only writer: in the fault
//! handler, which finds the account by a thread-local word, where it waits for a lock (likewise),
//! and in the slow paths. Every delay is added to the heap's totals. If the heap records losses the
//! account has a ring too, for the moment of each.
//!
//! The thread flushes the ring before it stops, parks or answers a handshake. The collector drains
//! the rings at the end of each phase, a thread that takes events before it does so, and a thread
//! drains its own when it fills up and when it detaches; one reader at a time holds a lock, and the
//! writer takes no lock.
//!
//! A delay can lie in another: a wait for a lock in the opening of a block. The outer one counts
//! without the inner ones, so that no moment counts under two causes.

mod account;
mod slow_paths;
mod totals;

use crate::events::{Event, Loss, LossKind};
use crate::inner::HeapInner;
use crate::inner::record::MutatorRecord;
use crate::lock::{self, TellWaits};
pub(crate) use account::Account;
use gc_core::handler_cell::HandlerCell;
use gc_core::loss::Loss as Entry;
use gc_core::sys::{Process, RunDelay, monotonic_ns, thread_cpu_time, thread_sleeps};
pub(crate) use slow_paths::SlowPathLosses;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
pub(crate) use totals::Totals;

/// What a mutator's thread needs to record its delays.
pub(crate) struct Recording {
    record: Arc<MutatorRecord>,
    heap: Weak<HeapInner>,
}

impl Recording {
    pub(crate) fn new(record: &Arc<MutatorRecord>, heap: &Arc<HeapInner>) -> Arc<Recording> {
        Arc::new(Recording { record: Arc::clone(record), heap: Arc::downgrade(heap) })
    }
}

thread_local! {
    /// Of the mutator that is active on this thread. Const-initialized and without a destructor, so
    /// that a signal handler may use it.
    static OWN: HandlerCell<Recording> = const { HandlerCell::new() };

    /// Opened outside of handlers, when a mutator that records first becomes active here.
    static RUN_DELAY: OwnDelay = const { OwnDelay(HandlerCell::new()) };
}

/// The kernel's record of this thread's waits for a processor.
struct OwnDelay(HandlerCell<Opened>);

struct Opened {
    /// A child made by `fork` has a copy of the descriptor, which is of its parent's thread.
    process: Process,
    file: Option<RunDelay>,
    /// No other thread has had it.
    number: u64,
}

impl OwnDelay {
    /// What tells this thread from all others, also from those that have ended.
    fn number(&self) -> u64 {
        self.0.get().map_or(0, |opened| opened.number)
    }

    /// Opens the record, unless it is open. Not for handlers.
    fn open(&self) {
        if self.0.get().is_none_or(|opened| !opened.process.is_current()) {
            static OPENED: AtomicU64 = AtomicU64::new(1);
            let (file, number) = (RunDelay::of_this_thread().ok(), OPENED.fetch_add(1, Ordering::Relaxed));
            drop(self.0.replace(Some(Arc::new(Opened { process: Process::current(), file, number }))));
        }
    }
}

impl Drop for OwnDelay {
    fn drop(&mut self) {
        drop(self.0.replace(None));
    }
}

/// Directs this thread's faults and waits for locks to the account of a mutator that becomes active
/// on it: when it enters, and when it returns from `blocking`.
pub(crate) fn record_to(own: Arc<Recording>, heap: &HeapInner) {
    OWN.with(|cell| cell.replace(Some(Arc::clone(&own))));
    lock::tell_waits(Some(TellWaits { begin: begin_wait, end: end_wait }));
    own.record.account.arrive(heap);
}

/// The mutator that is active leaves its heap, or goes into `blocking`: what it recorded to.
pub(crate) fn record_to_nobody() -> Option<Arc<Recording>> {
    lock::tell_waits(None);
    OWN.with(|cell| cell.replace(None))
}

/// Records a fault that this thread has served, in its signal handler.
pub(crate) fn faulted(heap: &HeapInner, begin_ns: u64, ns: u64) {
    match OWN.with(HandlerCell::get) {
        Some(own) if std::ptr::eq(own.heap.as_ptr(), heap) => own.record.account.fault(heap, begin_ns, ns),
        // A thread that is inside another heap, or in none.
        _ if heap.config.records_losses() => heap.report.events.losses.miss(1),
        _ => {}
    }
}

/// Gives the account of the mutator that is active on this thread.
fn with_own<T: Default>(with: impl FnOnce(&Account, &HeapInner) -> T) -> T {
    // The mutator that is inside keeps its heap.
    let own = OWN.with(HandlerCell::get).and_then(|own| Some((own.heap.upgrade()?, own)));
    own.map_or_else(T::default, |(heap, own)| with(&own.record.account, &heap))
}

/// This thread is about to wait for a lock: what it was without before is no part of the wait.
/// Returns the time.
fn begin_wait() -> u64 {
    with_own(|account, heap| {
        let begin_ns = heap.report.events.now();
        account.look(heap, begin_ns);
        begin_ns
    })
}

/// Records the wait.
fn end_wait(begin_ns: u64) {
    with_own(|account, heap| account.note_wait(heap, LossKind::Locks, begin_ns));
}

/// How long this thread has waited for a processor since it began, if the kernel says so.
fn run_delay() -> Option<u64> {
    // In a handler the cell is filled, so that nothing is allocated; where the thread ends it is
    // gone.
    let total = RUN_DELAY.try_with(|delay| delay.0.get()?.file.as_ref()?.total().ok()).ok()??;
    Some(total.as_nanos() as u64)
}

/// What the kernel says of this thread at a moment: since it began, and by the monotonic clock.
#[derive(Clone, Copy)]
struct ThreadTimes {
    now_ns: u64,
    waited_ns: u64,
    ran_ns: u64,
    /// [`thread_sleeps`]; `None` where the four do not belong to one moment.
    sleeps: Option<u64>,
}

/// The questions take some 1.5 us. One that takes longer was interrupted.
const ASKING_NS: u64 = 20_000;

impl ThreadTimes {
    /// `None` if the kernel does not say how long the thread has waited.
    fn now() -> Option<ThreadTimes> {
        let mut times = ThreadTimes { now_ns: monotonic_ns(), waited_ns: run_delay()?, ran_ns: 0, sleeps: None };
        for _ in 0..3 {
            times.ran_ns = thread_cpu_time().as_nanos() as u64;
            let (begun_ns, sleeps) = (times.now_ns, thread_sleeps().ok());
            times.now_ns = monotonic_ns();
            if times.ran_ns == 0 {
                // A sandbox refuses the clock.
                break;
            }
            if times.now_ns - begun_ns < ASKING_NS {
                times.sleeps = sleeps;
                break;
            }
            times.waited_ns = run_delay()?;
        }
        Some(times)
    }
}

fn event(entry: Entry, mutator: u64) -> Event {
    let Entry { kind, count, begin_ns, length_ns, lost_ns, kernel_ns } = entry;
    let kind = LossKind::ALL[usize::from(kind)];
    Event::Loss(Loss { kind, start_ns: begin_ns, total_ns: length_ns, lost_ns, kernel_ns, count, mutator })
}

/// Drains a mutator's ring. `events` is the guard of the reader lock.
fn take(events: &mut Vec<Event>, record: &MutatorRecord) -> u64 {
    record.account.take(|entry| events.push(event(entry, record.number)))
}

impl HeapInner {
    /// Drains the rings of all mutators into the events. Any thread may call it; it may wait for
    /// another reader, which itself never waits. In a child made by `fork` it drains none where a
    /// lock is held that it needs.
    pub(crate) fn gather_losses(&self) {
        if self.config.records_losses() {
            let mutators = self.world.mutators.lock_in(self.process).map(|mutators| mutators.clone());
            self.take_losses(&mutators.unwrap_or_default());
        }
    }

    /// Drains the rings of the given mutators.
    pub(crate) fn take_losses(&self, mutators: &[Arc<MutatorRecord>]) {
        let Some(mut events) = self.report.events.losses.taken.lock_in(self.process) else { return };
        let missed = mutators.iter().map(|record| take(&mut events, record)).sum();
        self.report.events.push_losses(&mut events, missed);
    }

    /// Drains one ring, unless another reader holds the lock.
    pub(crate) fn try_take_losses(&self, record: &MutatorRecord) {
        if let Some(mut events) = self.report.events.losses.taken.try_lock() {
            let missed = take(&mut events, record);
            self.report.events.push_losses(&mut events, missed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::account::{RING_ENTRIES, delay};
    use super::*;
    use crate::{Heap, MIN_HEAP_BYTES};
    use std::time::{Duration, Instant};

    pub(super) fn recording() -> Heap {
        Heap::builder().max_bytes(MIN_HEAP_BYTES).record_losses(true).build().unwrap()
    }

    fn all(account: &Account) -> Vec<Entry> {
        let mut entries = Vec::new();
        account.flush();
        account.ring.as_ref().unwrap().take(|entry| entries.push(entry));
        entries
    }

    pub(super) fn entries(account: &Account) -> Vec<(u64, u64, u64, u64)> {
        all(account).iter().map(|e| (e.begin_ns, e.length_ns, e.lost_ns, e.count)).collect()
    }

    /// An account of a mutator that is nowhere, so that its times are the test's.
    pub(super) fn account(heap: &Heap) -> Account {
        Account::new(&heap.inner().config, 1).unwrap()
    }

    /// A ring that nobody reads in time drops what comes last, and says so where events are taken.
    #[test]
    fn what_does_not_fit_a_ring_is_counted() {
        let heap = Heap::builder().max_bytes(4 << 20).record_losses(true).build().unwrap();
        heap.enter(|m| {
            let account = &m.record().account;
            for n in 1..=3 * RING_ENTRIES as u64 {
                account.add(heap.inner(), Entry { count: 2, ..delay(LossKind::Faults, n * 1_000_000, 10) });
            }
        })
        .unwrap();
        let (events, missed) = heap.take_events();
        let kept: Vec<u64> = events
            .iter()
            .filter_map(|event| match event {
                Event::Loss(loss) if loss.kind == LossKind::Faults => Some(loss.count),
                _ => None,
            })
            .collect();
        assert!(kept.len() >= RING_ENTRIES - 1 && missed >= 2, "{} kept, {missed} missed", kept.len());
        // Beside the faults there is what the thread suffered as it entered and left, if anything.
        let all = kept.iter().sum::<u64>() + missed;
        assert!((6 * RING_ENTRIES as u64..6 * RING_ENTRIES as u64 + 4).contains(&all), "{all}");
        assert_eq!(heap.take_events().1, 0, "told once");
    }

    /// What a delay encloses is its own cause's, and an entry lies apart from others or within one.
    #[test]
    fn no_moment_counts_under_two_causes() {
        let heap = recording();
        let (account, inner) = (account(&heap), heap.inner());
        let now = || heap.now_ns();
        account.note(inner, LossKind::Locks, now(), 0);
        let outer = account.begin(inner);
        let spin = Instant::now();
        while spin.elapsed() < Duration::from_micros(30) {}
        let inner_begun = account.begin(inner);
        let begin_ns = now();
        while spin.elapsed() < Duration::from_micros(80) {}
        account.note(inner, LossKind::Locks, begin_ns, now() - begin_ns);
        account.end(inner, LossKind::Zeroing, inner_begun);
        account.exclude(5_000);
        account.end(inner, LossKind::Refills, outer);
        let found = all(&account);
        let kinds: Vec<LossKind> = found.iter().map(|entry| LossKind::ALL[usize::from(entry.kind)]).collect();
        assert_eq!(kinds, [LossKind::Locks, LossKind::Locks, LossKind::Zeroing, LossKind::Refills]);
        let [_, lock, zeroing, refill] = found[..] else { unreachable!() };
        assert!(lock.begin_ns >= zeroing.begin_ns && zeroing.begin_ns >= refill.begin_ns);
        assert!(lock.end_ns() <= zeroing.end_ns() && zeroing.end_ns() <= refill.end_ns());
        assert_eq!(lock.lost_ns + zeroing.lost_ns, zeroing.length_ns);
        assert_eq!(zeroing.length_ns + refill.lost_ns + 5_000, refill.length_ns);
        assert!(refill.lost_ns >= 25_000 && lock.lost_ns >= 30_000, "{found:?}");
    }

    /// A thread that has a lock for 100 ms, and one inside the heap that waits for it; and one that
    /// waits outside, which the heap does not suffer from.
    #[test]
    fn a_wait_for_a_lock_is_told_of() {
        let heap = recording();
        let lock = &heap.inner().roots.stacks;
        let locked = || {
            let has = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let guard = lock.lock();
                    has.wait();
                    std::thread::sleep(Duration::from_millis(100));
                    drop(guard);
                });
                has.wait();
                drop(lock.lock());
            });
        };
        locked();
        assert_eq!(heap.loss_durations(LossKind::Locks).count, 0);
        let (from_ns, mutator) = (heap.now_ns(), |m: &crate::Mutator<'_>| m.record().number);
        let mutator = heap.enter(|m| (locked(), mutator(m)).1).unwrap();
        let to_ns = heap.now_ns();
        let of = heap.stats().losses.kind(LossKind::Locks);
        assert!(of.count == 1 && of.total_ns == of.max_ns && of.max_ns >= 3_000_000, "{of:?}");
        assert!(of.max_ns <= to_ns - from_ns);
        let losses = heap.take_events().0.into_iter().filter_map(|event| match event {
            Event::Loss(loss) if loss.kind == LossKind::Locks => Some(loss),
            _ => None,
        });
        let losses: Vec<Loss> = losses.collect();
        let [loss] = losses[..] else { panic!("{losses:?}") };
        assert_eq!((loss.mutator, loss.lost_ns, loss.count), (mutator, of.total_ns, 1));
        assert!(loss.start_ns >= from_ns && loss.start_ns + loss.total_ns <= to_ns, "{loss:?}");
    }

    #[test]
    fn attaching_in_a_pause_is_told_of() {
        let heap = recording();
        std::thread::scope(|scope| {
            heap.inner().with_world_stopped(crate::PauseKind::Verification, |_| {
                let begun = std::sync::Barrier::new(2);
                let begun = std::sync::Arc::new(begun);
                let (thread_begun, heap) = (Arc::clone(&begun), heap.clone());
                scope.spawn(move || {
                    thread_begun.wait();
                    heap.enter(|_| ()).unwrap();
                });
                begun.wait();
                std::thread::sleep(Duration::from_millis(100));
            });
        });
        let of = heap.stats().losses.kind(LossKind::Attaching);
        assert!(of.count == 1 && of.total_ns >= 10_000_000, "{of:?}");
        heap.enter(|_| ()).unwrap();
        assert_eq!(heap.stats().losses.kind(LossKind::Attaching), of, "without a pause there is no wait");
    }

    /// The record of its parent's thread, which the parent's thread has opened before the `fork`,
    /// is not a child's.
    #[test]
    fn a_child_made_by_fork_asks_for_its_own_waits_for_a_processor() {
        let own = || RunDelay::of_this_thread().and_then(|delay| delay.total()).map(|total| total.as_nanos() as u64);
        if own().is_err() {
            return println!("IGNORED, the kernel does not say how long a thread has waited");
        }
        let heap = recording();
        heap.enter(|_| ()).unwrap();
        // The parent's thread waits for a processor, so that its record differs from a new one.
        let processors = std::thread::available_parallelism().map_or(4, |count| count.get());
        let spin = || (0..20_000_000).map(std::hint::black_box).fold(0, |sum: u64, n| sum ^ n);
        let begun = Instant::now();
        while own().unwrap() < 20_000_000 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::scope(|scope| {
                for _ in 0..=processors {
                    scope.spawn(spin);
                }
                spin();
            });
        }
        assert!(own().unwrap() >= 20_000_000, "it never waited");
        // SAFETY: the child runs what a child of many threads can, and leaves without running
        // anything of the parent's.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let is_own = || {
                let heap = recording();
                heap.enter(|m| {
                    let before = own().unwrap();
                    let told = run_delay().unwrap();
                    m.collect();
                    (before..=own().unwrap()).contains(&told)
                })
                .unwrap()
                    && heap.stats().losses.kind(LossKind::Preemptions).total_ns <= own().unwrap()
            };
            let fits = std::panic::catch_unwind(is_own).unwrap_or(false);
            // SAFETY: as above.
            unsafe { libc::_exit(i32::from(!fits)) };
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
    }

    /// The kernel's share: the shortest time between two faults, before each, and never before what
    /// was recorded last.
    #[test]
    fn a_fault_has_the_kernels_share() {
        let heap = recording();
        let (account, inner) = (account(&heap), heap.inner());
        let fault = |begin_ns, ns| {
            account.fault(inner, begin_ns, ns);
            let last = *all(&account).last().unwrap();
            assert_eq!(last.end_ns(), begin_ns + ns);
            assert_eq!((last.lost_ns, last.length_ns), (ns + last.kernel_ns, last.lost_ns));
            last.kernel_ns
        };
        assert_eq!(fault(1_000_000, 3_000), 0, "not known yet");
        assert_eq!(fault(2_000_000, 3_000), 0, "too far apart to know");
        assert_eq!(fault(2_004_500, 3_000), 1_500);
        assert_eq!(fault(2_009_000, 3_000), 1_500);
        assert_eq!(fault(2_013_200, 3_000), 1_200);
        assert_eq!(fault(9_000_000, 3_000), 1_200);
        account.note(inner, LossKind::Locks, 9_003_100, 6_000);
        assert_eq!(heap.loss_durations(LossKind::Locks).sum_ns, 6_000);
        account.fault(inner, 9_009_500, 100);
        assert_eq!(all(&account).last().unwrap().kernel_ns, 400, "the rest was the lock's");
        assert_eq!(heap.stats().losses.fault_kernel_ns, 1_500 + 1_500 + 1_200 + 1_200 + 400);
    }
}
