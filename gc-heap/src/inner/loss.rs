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
mod tests;
