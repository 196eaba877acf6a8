//! A mutator's account of its delays, and how a delay that encloses others is measured.

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
    /// The thread that was asked for: the address of its record.
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
            std::ptr::from_ref(delay).addr() as u64
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
    /// `until_ns`, where a delay may have begun, it may have lost its processor: `Preemptions` and
    /// `Steal`.
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
        self.look(heap, begin_ns);
        self.add(heap, Entry { kernel_ns, ..delay(LossKind::Faults, begin_ns, length_ns) });
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

/// No thread but the owner writes, so these are ordinary loads and stores. A handler may come
/// between a load and a store of the code that it interrupts: what it has added is lost then from
/// `lost_ns`, so that a fault counts in the delay that encloses it too.
pub(super) fn get(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn set(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{account, entries, recording};
    use super::*;

    const MS: u64 = 1_000_000;

    fn times(now_ns: u64, waited_ns: u64, ran_ns: u64, sleeps: Option<u64>) -> ThreadTimes {
        ThreadTimes { now_ns, waited_ns, ran_ns, sleeps }
    }

    /// What a thread neither ran, nor waited, nor slept was taken from its processor.
    #[test]
    fn time_that_passes_without_the_processor_is_stolen() {
        let heap = recording();
        let account = account(&heap);
        let answer = |now_ns, waited_ns, ran_ns, sleeps| {
            let Without { waited_ns, stolen_ns } = account.answer(times(now_ns, waited_ns, ran_ns, sleeps));
            (waited_ns, stolen_ns)
        };
        let slept = Some(7);
        assert_eq!(answer(100 * MS, 3 * MS, 80 * MS, slept).1, 0, "there was no question before");
        assert_eq!(answer(110 * MS, 5 * MS, 85 * MS, slept), (2 * MS, 3 * MS));
        assert_eq!(answer(120 * MS, 5 * MS, 95 * MS - 10_000, slept), (0, 0), "the questions' own time");
        // As long a time, in which the clocks may have drifted by as much.
        assert_eq!(answer(1_120 * MS, 5 * MS, 1_095 * MS - 900_000, slept), (0, 0));
        assert_eq!(answer(1_220 * MS, 5 * MS, 1_100 * MS, Some(8)), (0, 0), "it slept");
        assert_eq!(answer(1_230 * MS, 6 * MS, 1_100 * MS, None), (MS, 0), "nobody knows");
        assert_eq!(answer(1_240 * MS, 6 * MS, 1_100 * MS, Some(8)), (0, 0), "nor what was before");
        assert_eq!(answer(1_250 * MS, 6 * MS, 1_101 * MS, Some(8)), (0, 9 * MS));
        // Another thread's totals.
        assert_eq!(answer(1_260 * MS, 0, 0, Some(8)).0, 0);
    }

    #[test]
    fn what_may_have_been_in_the_delay_after_it_is_not_the_windows() {
        let without = |waited_ns, stolen_ns| Without { waited_ns, stolen_ns };
        assert_eq!(without(30, 40).outside(0, 100), without(30, 40));
        assert_eq!(without(30, 40).outside(50, 100), without(20, 0));
        assert_eq!(without(30, 40).outside(80, 100), without(0, 0));
        assert_eq!(without(30, 40).outside(10, 50), without(30, 20));
        assert_eq!(without(0, 40).outside(10, 100), without(0, 30));
    }

    /// Both kinds have the window as theirs, and lose no more than it together.
    #[test]
    fn a_window_has_waits_and_steal() {
        let heap = recording();
        let (account, inner) = (account(&heap), heap.inner());
        account.was_without(inner, (MS, 5 * MS), Without { waited_ns: 2 * MS, stolen_ns: 3 * MS });
        account.was_without(inner, (9 * MS, MS), Without { waited_ns: 0, stolen_ns: MS / 2 });
        let (window, other) = ((MS, 5 * MS), (9 * MS, MS));
        let expected =
            [(window, 2 * MS), (window, 3 * MS), (other, MS / 2)].map(|((from, ns), lost)| (from, ns, lost, 1));
        assert_eq!(entries(&account), expected);
        let total = |kind| heap.stats().losses.kind(kind).total_ns;
        assert_eq!((total(LossKind::Preemptions), total(LossKind::Steal)), (2 * MS, 3 * MS + MS / 2));
    }

    /// A thread that sleeps inside the heap without `blocking`, and asks after each sleep.
    #[test]
    fn a_sleep_is_no_steal() {
        let heap = recording();
        heap.enter(|m| {
            for _ in 0..10 {
                std::thread::sleep(std::time::Duration::from_millis(2));
                m.record().account.look(heap.inner(), heap.now_ns());
            }
        })
        .unwrap();
        assert_eq!(heap.stats().losses.kind(LossKind::Steal).total_ns, 0);
    }

    #[test]
    fn what_fits_a_window_is_no_more_than_it() {
        let without = |waited_ns, stolen_ns| Without { waited_ns, stolen_ns };
        assert_eq!(without(30, 40).within(100), without(30, 40));
        assert_eq!(without(30, 40).within(50), without(30, 20));
        assert_eq!(without(60, 40).within(50), without(50, 0));
    }

    /// The question for the thread's processor time is where the kernel often takes its processor
    /// away: between the end of a delay and what the thread does next.
    #[test]
    fn what_a_thread_waits_while_it_asks_is_accounted_for() {
        let heap = recording();
        if heap.enter(|_| ThreadTimes::now().is_none()).unwrap() {
            return println!("IGNORED, the kernel does not say how long a thread has waited");
        }
        let ends = AtomicBool::new(false);
        let processors = std::thread::available_parallelism().unwrap().get();
        let (passed_ns, waited_ns) = std::thread::scope(|scope| {
            for _ in 0..processors {
                scope.spawn(|| {
                    while !ends.load(Ordering::Relaxed) {
                        std::hint::spin_loop()
                    }
                });
            }
            let found = heap.enter(|m| {
                let (account, inner) = (&m.record().account, heap.inner());
                let (from, from_ns) = (ThreadTimes::now().unwrap(), heap.now_ns());
                let waited_ns = || ThreadTimes::now().unwrap().waited_ns - from.waited_ns;
                // Delays, one after another, until the thread has waited for long.
                while waited_ns() < 200 * MS && heap.now_ns() - from_ns < 20_000 * MS {
                    let begin_ns = heap.now_ns();
                    account.look(inner, begin_ns);
                    while heap.now_ns() - begin_ns < LOOK_NS + LOOK_NS / 4 {}
                    account.note(inner, LossKind::Locks, begin_ns, heap.now_ns() - begin_ns);
                }
                (heap.now_ns() - from_ns, waited_ns())
            });
            ends.store(true, Ordering::Relaxed);
            found.unwrap()
        });
        let total = |kind| heap.stats().losses.kind(kind).total_ns;
        let accounted_ns: u64 = [LossKind::Locks, LossKind::Preemptions, LossKind::Steal].map(total).iter().sum();
        assert!(waited_ns >= 100 * MS, "the processors are too many, or idle: {waited_ns}");
        // Beside the delays and the waits there is what the loop itself takes.
        let missing_ns = passed_ns.saturating_sub(accounted_ns);
        assert!(missing_ns < waited_ns / 4, "{missing_ns} of {passed_ns} are missing, it waited {waited_ns}");
    }

    /// What the thread was without before it waited for a lock is no part of that wait, and not
    /// lost by it.
    #[test]
    fn a_wait_for_a_lock_begins_with_a_look() {
        let heap = recording();
        heap.enter(|m| {
            let account = &m.record().account;
            let lock = &heap.inner().roots.stacks;
            let has = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let guard = lock.lock();
                    has.wait();
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    drop(guard);
                });
                has.wait();
                std::thread::sleep(std::time::Duration::from_nanos(2 * LOOK_NS));
                // Long ago. Since then it has waited, or its processor did not run: a thread on a
                // quiet machine has hardly waited, and on a busy one it may not be known whether
                // it slept.
                set(&account.looked_ns, heap.now_ns() - 2 * LOOK_NS);
                let Some(times) = ThreadTimes::now() else { return };
                account.answer(times);
                set(&account.waited_ns, 0);
                set(&account.asked_ns, times.now_ns - times.waited_ns - 10 * LOOK_NS);
                drop(lock.lock());
            });
        })
        .unwrap();
        let total = |kind| heap.stats().losses.kind(kind).total_ns;
        assert!(total(LossKind::Locks) >= 3 * MS, "{}", total(LossKind::Locks));
        let without = total(LossKind::Preemptions) + total(LossKind::Steal);
        assert!(without >= LOOK_NS / 2, "{without}");
    }
}
