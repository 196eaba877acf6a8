//! A mutator's account of its delays, and how a delay that encloses others is measured.

use super::{RUN_DELAY, run_delay};
use crate::config::Config;
use crate::events::LossKind;
use crate::events::probes::probe;
use crate::inner::HeapInner;
use gc_core::loss::{Loss as Entry, LossRing};
use gc_core::zeroed::NoMemory;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Entries of a thread's ring: 0.4 s of uninterrupted losses, 160 KiB when all are used.
pub(super) const RING_ENTRIES: usize = 4096;

/// A thread that records asks the kernel how long it has waited for a processor where so much time
/// has passed since it last looked at the clock. The question takes about a microsecond, so it
/// costs half a percent at most; and a shorter wait is not seen by itself.
const LOOK_NS: u64 = 200_000;

/// From one fault to the next the kernel alone takes no longer than this: two that lie further
/// apart say nothing of it.
const MOST_KERNEL_NS: u64 = 10_000;

/// A mutator's account of its delays. Written by the thread that the mutator is active on alone,
/// also in signal handlers; so Relaxed is enough for all its words, and no change of one is an
/// exchange.
pub(crate) struct Account {
    mutator: u64,
    /// If the heap records losses.
    pub(super) ring: Option<LossRing>,
    /// All time that was lost so far, or is accounted elsewhere (pauses, stalls): what a delay that
    /// encloses others does not count.
    lost_ns: AtomicU64,
    /// The end of the last fault, and the shortest time from one's end to the next's begin: the
    /// kernel's share of a fault, 0 while that is not known.
    fault_end_ns: AtomicU64,
    kernel_ns: AtomicU64,
    /// Whether a delay has begun and encloses nothing yet.
    fresh: AtomicBool,
    /// Until when the thread's time is accounted for, and how long it had waited for a processor at
    /// the last question.
    pub(super) looked_ns: AtomicU64,
    asked_ns: AtomicU64,
    waited_ns: AtomicU64,
    /// The thread that was asked for: the address of its record.
    thread: AtomicU64,
}

/// The begin of a delay that may enclose others.
#[derive(Clone, Copy)]
pub(crate) struct Begun {
    pub(super) begin_ns: u64,
    lost_ns: u64,
    /// Whether it lies in another that encloses nothing before it.
    fresh: bool,
}

impl Account {
    pub(crate) fn new(config: &Config, mutator: u64) -> Result<Account, NoMemory> {
        Ok(Account {
            mutator,
            ring: if config.records_losses() { Some(LossRing::new(RING_ENTRIES)?) } else { None },
            lost_ns: AtomicU64::new(0),
            fault_end_ns: AtomicU64::new(0),
            kernel_ns: AtomicU64::new(0),
            fresh: AtomicBool::new(false),
            looked_ns: AtomicU64::new(0),
            asked_ns: AtomicU64::new(0),
            waited_ns: AtomicU64::new(0),
            thread: AtomicU64::new(0),
        })
    }

    /// Whether the ring is half full, so that the thread should drain it.
    pub(crate) fn is_half_full(&self) -> bool {
        self.ring.as_ref().is_some_and(LossRing::is_half_full)
    }

    /// Takes the entries that the thread has flushed. Returns how many were dropped.
    pub(super) fn take(&self, each: impl FnMut(Entry)) -> u64 {
        self.ring.as_ref().map_or(0, |ring| ring.take(each))
    }

    /// Lets readers see all that was recorded.
    pub(crate) fn flush(&self) {
        if let Some(ring) = &self.ring {
            ring.flush();
        }
    }

    /// The mutator becomes active on this thread: what it did before is not the heap's concern.
    pub(super) fn arrive(&self, heap: &HeapInner) {
        if self.ring.is_none() {
            return;
        }
        let now_ns = heap.report.events.now();
        // Not in the destructors of a thread that ends.
        let thread = RUN_DELAY.try_with(|delay| {
            delay.open();
            std::ptr::from_ref(delay).addr() as u64
        });
        let thread = thread.unwrap_or(0);
        if get(&self.thread) != thread || now_ns.saturating_sub(get(&self.asked_ns)) >= LOOK_NS {
            set(&self.thread, thread);
            self.ask(now_ns);
        }
        set(&self.looked_ns, now_ns);
    }

    /// The mutator is about to park, or to leave: what it waited for a processor inside the heap is
    /// recorded, because a question after its return counts what it waits outside too.
    pub(crate) fn depart(&self, heap: &HeapInner) {
        if self.ring.is_some() {
            self.look(heap, heap.report.events.now());
        }
    }

    /// Asks the kernel how long the thread has waited for a processor: since the last question, 0
    /// if it does not say.
    fn ask(&self, now_ns: u64) -> u64 {
        let Some(waited_ns) = run_delay() else { return 0 };
        set(&self.asked_ns, now_ns);
        let before = get(&self.waited_ns);
        set(&self.waited_ns, waited_ns);
        // Another thread's total, or one that a new thread has at the same address, may be larger.
        waited_ns.saturating_sub(before)
    }

    /// The thread looks at the clock, in a slow path or a safepoint. If it has not for long, it may
    /// have lost its processor: `Preemptions`.
    pub(crate) fn look(&self, heap: &HeapInner, now_ns: u64) {
        let since_ns = get(&self.looked_ns);
        let window_ns = now_ns.saturating_sub(since_ns);
        if window_ns >= LOOK_NS && self.ring.is_some() {
            let waited_ns = self.ask(now_ns).min(window_ns);
            if waited_ns != 0 {
                heap.report.losses.record(LossKind::Preemptions, waited_ns);
                self.add(LossKind::Preemptions, 1, since_ns, window_ns, waited_ns, 0);
            }
        }
        set(&self.looked_ns, now_ns);
    }

    /// Begins a delay that may enclose others.
    pub(crate) fn begin(&self, heap: &HeapInner) -> Begun {
        self.begin_at(heap, heap.report.events.now())
    }

    /// As [`begin`](Self::begin), where the thread has just looked at the clock.
    pub(super) fn begin_at(&self, heap: &HeapInner, begin_ns: u64) -> Begun {
        self.look(heap, begin_ns);
        Begun { begin_ns, lost_ns: get(&self.lost_ns), fresh: self.set_fresh(true) }
    }

    /// Ends a delay, without those that it enclosed. Returns how long it was.
    pub(crate) fn end(&self, heap: &HeapInner, kind: LossKind, begun: Begun) -> u64 {
        let (length_ns, own_ns) = self.ends(heap, begun);
        heap.report.losses.record(kind, own_ns);
        self.add(kind, 1, begun.begin_ns, length_ns, own_ns, 0);
        own_ns
    }

    /// As [`end`](Self::end), for a wait that has an event of its own: a stall.
    pub(crate) fn end_elsewhere(&self, heap: &HeapInner, begun: Begun) {
        let (_, own_ns) = self.ends(heap, begun);
        self.exclude(own_ns);
        self.arrive(heap);
    }

    /// How long a delay was, and how long without what it encloses.
    fn ends(&self, heap: &HeapInner, begun: Begun) -> (u64, u64) {
        let length_ns = heap.report.events.now() - begun.begin_ns;
        let own_ns = length_ns.saturating_sub(get(&self.lost_ns) - begun.lost_ns);
        let is_empty = self.set_fresh(false);
        self.set_fresh(is_empty && begun.fresh);
        (length_ns, own_ns)
    }

    /// Records a delay that encloses no other.
    pub(crate) fn note(&self, heap: &HeapInner, kind: LossKind, begin_ns: u64, ns: u64) {
        heap.report.losses.record(kind, ns);
        self.add(kind, 1, begin_ns, ns, ns, 0);
    }

    /// Returns what was set before.
    fn set_fresh(&self, fresh: bool) -> bool {
        let before = self.fresh.load(Ordering::Relaxed);
        self.fresh.store(fresh, Ordering::Relaxed);
        before
    }

    /// Time that is accounted elsewhere: in a pause, or a stall.
    pub(crate) fn exclude(&self, ns: u64) {
        set(&self.lost_ns, get(&self.lost_ns) + ns);
    }

    /// What was lost so far.
    pub(crate) fn lost_ns(&self) -> u64 {
        get(&self.lost_ns)
    }

    /// In the signal handler.
    pub(super) fn fault(&self, heap: &HeapInner, begin_ns: u64, ns: u64) {
        // From the end of one handler to the begin of the next the thread runs for itself, and the
        // kernel for it: back from the handler, and into the next. The shortest such time is taken
        // for the kernel's, and comes before each fault.
        let between_ns = begin_ns.saturating_sub(get(&self.fault_end_ns));
        set(&self.fault_end_ns, begin_ns + ns);
        if between_ns <= MOST_KERNEL_NS {
            let known_ns = get(&self.kernel_ns);
            set(&self.kernel_ns, if known_ns == 0 { between_ns } else { known_ns.min(between_ns) });
        }
        let mut kernel_ns = get(&self.kernel_ns).min(between_ns);
        if self.ring.is_some() {
            // Something else may have been recorded since the last fault.
            kernel_ns = kernel_ns.min(begin_ns.saturating_sub(get(&self.looked_ns)));
        }
        heap.report.losses.fault_kernel_ns.fetch_add(kernel_ns, Ordering::Relaxed);
        let (begin_ns, length_ns) = (begin_ns - kernel_ns, ns + kernel_ns);
        self.look(heap, begin_ns);
        self.add(LossKind::Faults, 1, begin_ns, length_ns, length_ns, kernel_ns);
    }

    /// Writes a delay into the ring, and says that its time is accounted for.
    pub(super) fn add(&self, kind: LossKind, count: u64, begin_ns: u64, length_ns: u64, lost_ns: u64, kernel_ns: u64) {
        self.exclude(lost_ns);
        probe!(loss, kind as u8, self.mutator, lost_ns);
        let Some(ring) = &self.ring else { return };
        if self.set_fresh(false) {
            // It must not be merged with what came before the delay that encloses it: entries lie
            // apart, or in one another.
            ring.flush();
        }
        ring.record(Entry { kind: kind as u8, count, begin_ns, length_ns, lost_ns, kernel_ns });
        let end_ns = begin_ns + length_ns;
        set(&self.looked_ns, end_ns);
        if length_ns >= LOOK_NS && kind != LossKind::Preemptions {
            // Waits for a processor in it are this delay's.
            self.ask(end_ns);
        }
    }
}

/// No thread but the owner writes, so these are ordinary loads and stores. A handler may come
/// between a load and a store of the code that it interrupts: what it has added is lost then from
/// `lost_ns`, so that a fault counts in the delay that encloses it too.
pub(super) fn get(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn set(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Relaxed);
}
