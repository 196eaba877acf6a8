//! A mutator's account of its delays, and how a delay that encloses others is measured.

#[cfg(test)]
pub(super) mod tests;

use super::{ASKING_NS, RUN_DELAY, ThreadTimes};
use crate::config::Config;
use crate::events::LossKind;
use crate::events::probes::probe;
use crate::inner::HeapInner;
use gc_core::loss::{Loss as Entry, LossRing};
use gc_core::sys::monotonic_ns;
use gc_core::zeroed::NoMemory;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Entries of a thread's ring: 0.4 s of uninterrupted losses, 160 KiB when all are used.
pub(super) const RING_ENTRIES: usize = 4096;

/// A thread that records asks the kernel how long it has waited for a processor where so much time
/// has passed since it last looked at the clock. The questions take 1.5 us, so they cost 0.8 % at
/// most; and a shorter wait is not seen by itself.
const LOOK_NS: u64 = 200_000;

/// Between two questions less than this, and than a thousandth of the time, is no steal: they take
/// some time themselves, and the clocks that they read drift by half of that (NTP slews
/// `CLOCK_MONOTONIC` by at most 500 ppm).
const LEAST_STEAL_NS: u64 = 20_000;

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
    /// Until when the thread's time is accounted for.
    pub(super) looked_ns: AtomicU64,
    /// At the last question: the monotonic clock, how long the thread had waited for a processor
    /// and had had one, and how often it had slept, `UNKNOWN` if that is not known.
    asked_ns: AtomicU64,
    waited_ns: AtomicU64,
    ran_ns: AtomicU64,
    sleeps: AtomicU64,
    /// The thread that was asked for, by the number of its record.
    thread: AtomicU64,
}

const UNKNOWN: u64 = u64::MAX;

/// What a thread was without since a moment: a processor, because another thread had it, and the
/// time in which the processor did not run.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
struct Without {
    waited_ns: u64,
    stolen_ns: u64,
}

impl Without {
    fn less(self, part: Without) -> Without {
        Without { waited_ns: self.waited_ns - part.waited_ns, stolen_ns: self.stolen_ns - part.stolen_ns }
    }

    /// Of this, as much as fits into a window of that length.
    fn within(self, window_ns: u64) -> Without {
        let waited_ns = self.waited_ns.min(window_ns);
        Without { waited_ns, stolen_ns: self.stolen_ns.min(window_ns - waited_ns) }
    }

    /// Of this, what must have been in a window of that length before a delay of that length.
    fn outside(self, delay_ns: u64, window_ns: u64) -> Without {
        let all_ns = (self.waited_ns + self.stolen_ns).saturating_sub(delay_ns).min(window_ns);
        let waited_ns = self.waited_ns.min(all_ns);
        Without { waited_ns, stolen_ns: all_ns - waited_ns }
    }
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
            ran_ns: AtomicU64::new(0),
            sleeps: AtomicU64::new(UNKNOWN),
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
            delay.number()
        });
        let thread = thread.unwrap_or(0);
        set(&self.looked_ns, now_ns);
        if get(&self.thread) != thread {
            // What the kernel said before was of another thread.
            set(&self.thread, thread);
            self.ask();
        } else if monotonic_ns().saturating_sub(get(&self.asked_ns)) >= LOOK_NS {
            self.ask_after(heap, now_ns);
        }
    }

    /// The mutator is about to park, or to leave: what it waited for a processor inside the heap is
    /// recorded, because a question after its return counts what it waits outside too.
    pub(crate) fn depart(&self, heap: &HeapInner) {
        if self.ring.is_some() {
            self.look(heap, heap.report.events.now());
        }
    }

    /// Asks the kernel what the thread was without since the last question.
    fn ask(&self) -> Without {
        ThreadTimes::now().map_or_else(Without::default, |times| self.answer(times))
    }

    fn answer(&self, times: ThreadTimes) -> Without {
        let since = |word: &AtomicU64, now: u64| {
            let before = get(word);
            set(word, now);
            // Another thread's total, or one that a new thread has at the same address, may be
            // larger.
            now.saturating_sub(before)
        };
        let passed_ns = since(&self.asked_ns, times.now_ns);
        let (waited_ns, ran_ns) = (since(&self.waited_ns, times.waited_ns), since(&self.ran_ns, times.ran_ns));
        let before = get(&self.sleeps);
        let sleeps = times.sleeps.unwrap_or(UNKNOWN);
        set(&self.sleeps, sleeps);
        let mut without = Without { waited_ns, stolen_ns: 0 };
        // The time of a thread that has slept says nothing: the kernel does not tell for how long.
        if sleeps == before && sleeps != UNKNOWN {
            let missing_ns = passed_ns.saturating_sub(waited_ns + ran_ns);
            if missing_ns >= LEAST_STEAL_NS.max(passed_ns / 1000) {
                without.stolen_ns = missing_ns;
            }
        }
        without
    }

    /// The thread looks at the clock, in a slow path or a safepoint. If it had not for long by
    /// `until_ns`, where a delay may have begun that lasts on, it may have lost its processor:
    /// `Preemptions` and `Steal`.
    pub(crate) fn look(&self, heap: &HeapInner, until_ns: u64) {
        let since_ns = get(&self.looked_ns);
        let window_ns = until_ns.saturating_sub(since_ns);
        if window_ns >= LOOK_NS && self.ring.is_some() {
            let without = self.ask();
            // As much as may have been in that delay counts there.
            let delay_ns = heap.report.events.now().saturating_sub(until_ns);
            self.was_without(heap, (since_ns, window_ns), without.outside(delay_ns, window_ns));
        }
        set(&self.looked_ns, until_ns);
    }

    /// Asks after a delay that ended at `end_ns`, so that what the thread was without in it counts
    /// no more. Since that end the thread has only asked: if that took long, it lost its processor
    /// meanwhile, which no delay has counted. That is common: the question for its processor time
    /// makes the kernel notice that a thread's time slice is over.
    fn ask_after(&self, heap: &HeapInner, end_ns: u64) {
        let without = self.ask();
        let window_ns = heap.report.events.now().saturating_sub(end_ns);
        if window_ns >= ASKING_NS {
            self.was_without(heap, (end_ns, window_ns), without.within(window_ns));
        }
    }

    /// Records a delay that is over, and what the thread was without before it; and while it asked
    /// for that, see [`ask_after`](Self::ask_after).
    pub(super) fn add_with_look(&self, heap: &HeapInner, entry: Entry) {
        let (since_ns, end_ns) = (get(&self.looked_ns), entry.end_ns());
        let window_ns = entry.begin_ns.saturating_sub(since_ns);
        let (mut asked_ns, mut while_asking) = (0, Without::default());
        if window_ns >= LOOK_NS && self.ring.is_some() {
            let without = self.ask();
            asked_ns = heap.report.events.now().saturating_sub(end_ns);
            if asked_ns >= ASKING_NS {
                while_asking = without.within(asked_ns);
            }
            // As much as may have been in the delay counts there.
            let before = without.less(while_asking).outside(entry.length_ns, window_ns);
            self.was_without(heap, (since_ns, window_ns), before);
        }
        self.add(heap, entry);
        self.was_without(heap, (end_ns, asked_ns), while_asking);
    }

    fn was_without(&self, heap: &HeapInner, (begin_ns, length_ns): (u64, u64), without: Without) {
        for (kind, ns) in [(LossKind::Preemptions, without.waited_ns), (LossKind::Steal, without.stolen_ns)] {
            if ns != 0 {
                heap.report.losses.record(kind, ns);
                self.add(heap, Entry { lost_ns: ns, ..delay(kind, begin_ns, length_ns) });
            }
        }
    }

    /// Begins a delay that may enclose others.
    pub(crate) fn begin(&self, heap: &HeapInner) -> Begun {
        let begin_ns = heap.report.events.now();
        self.look(heap, begin_ns);
        Begun { begin_ns, lost_ns: get(&self.lost_ns), fresh: self.set_fresh(true) }
    }

    /// Ends a delay, without those that it enclosed. Returns how long it was.
    pub(crate) fn end(&self, heap: &HeapInner, kind: LossKind, begun: Begun) -> u64 {
        let (length_ns, own_ns) = self.ends(heap, begun);
        heap.report.losses.record(kind, own_ns);
        self.add(heap, Entry { lost_ns: own_ns, ..delay(kind, begun.begin_ns, length_ns) });
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
        self.add(heap, delay(kind, begin_ns, ns));
    }

    /// As [`note`](Self::note), with what the thread was without before.
    pub(crate) fn note_with_look(&self, heap: &HeapInner, kind: LossKind, begin_ns: u64, ns: u64) {
        heap.report.losses.record(kind, ns);
        self.add_with_look(heap, delay(kind, begin_ns, ns));
    }

    /// As [`note`](Self::note), for a sleep that ends now, before which the thread has
    /// [looked](Self::look).
    pub(super) fn note_wait(&self, heap: &HeapInner, kind: LossKind, begin_ns: u64) {
        let ns = heap.report.events.now() - begin_ns;
        self.note(heap, kind, begin_ns, ns);
        // How long a thread slept, the kernel does not tell. `add` has asked after a long sleep.
        if self.ring.is_some() && ns < LOOK_NS {
            self.ask_after(heap, begin_ns + ns);
        }
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
        self.add_with_look(heap, Entry { kernel_ns, ..delay(LossKind::Faults, begin_ns, length_ns) });
    }

    /// Writes a delay into the ring, and says that its time is accounted for.
    pub(super) fn add(&self, heap: &HeapInner, entry: Entry) {
        self.exclude(entry.lost_ns);
        probe!(loss, entry.kind, self.mutator, entry.lost_ns);
        let Some(ring) = &self.ring else { return };
        if self.set_fresh(false) {
            // It must not be merged with what came before the delay that encloses it: entries lie
            // apart, or in one another.
            ring.flush();
        }
        let end_ns = entry.end_ns();
        set(&self.looked_ns, end_ns);
        let without = [LossKind::Preemptions, LossKind::Steal].map(|kind| kind as u8);
        let asks = entry.length_ns >= LOOK_NS && !without.contains(&entry.kind);
        ring.record(entry);
        if asks {
            // Waits for a processor in it are this delay's.
            self.ask_after(heap, end_ns);
        }
    }
}

/// A delay of that length that encloses no other.
pub(super) fn delay(kind: LossKind, begin_ns: u64, length_ns: u64) -> Entry {
    Entry { kind: kind as u8, count: 1, begin_ns, length_ns, lost_ns: length_ns, kernel_ns: 0 }
}

/// No thread but the owner writes, so these are ordinary loads and stores. Its handler runs where
/// the thread touches a page of the heap or of roots, which is not between the two.
pub(super) fn get(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn set(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Relaxed);
}
