//! Counters of a heap.

use crate::events::{LossKind, Pause, PauseKind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters and sizes of a heap. All counts are since the heap was built, so the work of a part of
/// a program is the difference of two copies. `docs/tuning.md` explains each figure.
///
/// The figures of one copy are consistent, whatever other threads do meanwhile: `live_bytes` <=
/// `used_bytes` <= `committed_bytes` <= `committed_peak_bytes` <= `max_bytes`; `huge_bytes` <=
/// `committed_bytes`; `used_bytes` <=
/// `allocated_bytes`; `relocations`, `young_cycles` and `compactions` <= `cycles`;
/// `pages_repaired_by_mutators` <= `pages_repaired`. And of two copies taken one after the other no
/// count is smaller in the later.
///
/// ```
/// use gc_heap::{Heap, AllocSize, Slot, Trace};
///
/// #[derive(Trace)]
/// struct Node { next: Slot<Option<Node>> }
///
/// let heap = Heap::builder().max_bytes(8 << 20).build()?;
/// let before = heap.stats();
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     for _ in 0..1_000_000 {
///         m.reserve(AllocSize::of::<Node>())?.place(NodeInit { next: None });
///     }
///     m.collect(); // what this thread has counted by itself arrives at its safepoints
///     Ok(())
/// })??;
/// let after = heap.stats();
/// let allocated = after.allocated_bytes - before.allocated_bytes; // by blocks of 64 KiB
/// assert!(allocated >= 16_000_000 && after.cycles > before.cycles);
/// // Used is not live: garbage that no cycle has found yet, and the unused ends of blocks, are in it.
/// assert!(after.live_bytes < 1000 && after.used_bytes as u64 >= after.live_bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Maximum size in bytes.
    pub max_bytes: usize,
    /// The memory that the heap tries to make do with, in bytes: see
    /// [`HeapBuilder::soft_max_bytes`](crate::HeapBuilder::soft_max_bytes).
    pub soft_max_bytes: usize,
    /// Bytes in blocks that are not free. Blocks that are being uncommitted count as free.
    pub used_bytes: usize,
    /// Committed bytes (counted once, however many views map them).
    pub committed_bytes: usize,
    /// Maximum of the committed bytes so far.
    pub committed_peak_bytes: usize,
    /// Bytes ever uncommitted: memory that was given back, and committed again, counts each time.
    pub uncommitted_bytes: u64,
    /// Of the committed bytes, those in 2 MiB pages, as the heap counts those that it has made and
    /// not uncommitted since: with [`HugePages::Background`](crate::HugePages::Background), and
    /// with [`HugePages::Collapse`](crate::HugePages::Collapse) if all pages were free. 0 with
    /// others. Every view has the same page; which views map it as one:
    /// [`Heap::huge_mapped_bytes`](crate::Heap::huge_mapped_bytes).
    pub huge_bytes: usize,
    /// 2 MiB pages made in the background.
    pub huge_pages_made: u64,
    /// Of the attempts to make one, those that the kernel refused: it has none free, or a page was
    /// in use elsewhere. It is tried again later.
    pub huge_pages_refused: u64,
    /// Bytes allocated in blocks so far.
    pub allocated_bytes: u64,
    /// Cycles that have ended.
    pub cycles: u64,
    /// Of these, young cycles, which collect young objects alone: see
    /// [`HeapBuilder::generations`](crate::HeapBuilder::generations).
    pub young_cycles: u64,
    /// Of the cycles, those that relocated, or promoted.
    pub relocations: u64,
    /// Stop-the-world compactions.
    pub compactions: u64,
    /// Objects marked.
    pub marked_objects: u64,
    /// Of these, by helper threads (see [`HeapBuilder::workers`](crate::HeapBuilder::workers)).
    pub marked_by_helpers: u64,
    /// Peak of the bytes in mark stacks, all threads of a marking together: at most about a
    /// hundredth of the memory in use.
    pub mark_stack_peak_bytes: u64,
    /// How often a mark stack was full, so that blocks had to be scanned again.
    pub mark_overflows: u64,
    /// The most bytes that the lists of a marking have taken: of weak slots, at most a 64th of the
    /// memory in use; and of ephemerons, at most some 8 % of it. The latter may take more only if
    /// marking passes over ephemerons more than four times, as for a long chain of them, in which
    /// the value of each leads to the key of the next.
    pub mark_lists_peak_bytes: u64,
    /// The most bytes that forwarding has taken: 2 KiB for each block that was evacuated at a time,
    /// and 8 for each live object in it. A compaction in a pause evacuates all blocks that are not
    /// full: half of what lives, if objects have 16 bytes.
    pub forwarding_peak_bytes: u64,
    /// Bytes found live by the last marking.
    pub live_bytes: u64,
    /// Objects copied by collector threads.
    pub collector_copies: u64,
    /// Objects copied by mutators that loaded a stale slot first.
    pub mutator_copies: u64,
    /// Large objects moved by compactions in a pause, to make a run of blocks that a thread waited
    /// for. Not among `collector_copies`.
    pub large_objects_moved: u64,
    /// Their bytes.
    pub large_bytes_moved: u64,
    /// Objects that stayed in place because there was nowhere to copy them to.
    pub kept_in_place: u64,
    /// Stale slots healed by mutators.
    pub healed: u64,
    /// Overwritten words logged by mutators.
    pub logged: u64,
    /// Attempts to end marking that found work left.
    pub mark_end_retries: u64,
    /// Passes of markings over ephemerons whose key was not marked yet when all but ephemerons was.
    /// A marking makes one if it finds such ephemerons, and more if they are too many for its
    /// lists.
    pub ephemeron_passes: u64,
    /// Ephemerons emptied because their key was dead.
    pub ephemerons_cleared: u64,
    /// Objects passed to finalizer queues.
    pub finalized: u64,
    /// Values released to resource queues.
    pub released: u64,
    /// Waits for memory.
    pub stalls: u64,
    /// Of these, those in which a thread was slowed down, so that memory lasts until the marking
    /// ends ([`StallCause::Throttled`](crate::StallCause::Throttled)).
    pub throttled: u64,
    /// Planned relocations that were aborted, because an object of the set was pinned or the kernel
    /// refused the flip.
    pub plans_abandoned: u64,
    /// Blocks excluded from the last plan because of pins.
    pub pinned_blocks: u64,
    /// Page barrier: pages repaired.
    pub pages_repaired: u64,
    /// Of these, by mutators that touched them first, or a neighbour.
    pub pages_repaired_by_mutators: u64,
    /// Page barrier: rounds of waiting for a page that another thread was repairing.
    pub page_waits: u64,
    /// Live objects and slots checked by verification.
    pub verified_slots: u64,
    /// Delays of mutators besides pauses and stalls, by cause.
    pub losses: LossTotals,
}

/// The delays of a heap's mutators besides pauses and stalls, by cause; part of [`HeapStats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LossTotals {
    by_kind: [LossTotal; LossKind::ALL.len()],
    /// The kernel's share of all faults, in nanoseconds; an estimate, see
    /// [`Loss::kernel_ns`](crate::Loss::kernel_ns). Not in the total of
    /// [`LossKind::Faults`], which is the time in the signal handler.
    pub fault_kernel_ns: u64,
}

impl LossTotals {
    pub(crate) fn of(total: impl Fn(LossKind) -> LossTotal, fault_kernel_ns: u64) -> LossTotals {
        LossTotals { by_kind: LossKind::ALL.map(total), fault_kernel_ns }
    }

    /// The delays of one cause.
    #[must_use]
    pub fn kind(&self, kind: LossKind) -> LossTotal {
        self.by_kind[kind as usize]
    }
}

/// The delays of one cause since the heap was built, of all mutators together. The figures of one
/// copy fit together: `total_ns <= count * max_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LossTotal {
    /// How many. Those of slow paths of loads and stores are counted at their thread's safepoints.
    pub count: u64,
    /// Their time in nanoseconds. Of slow paths and refills one in some is timed; the others count
    /// as long as those usually are, so that one in which the thread lost its processor does not
    /// count many times.
    pub total_ns: u64,
    /// The longest (of those that were timed).
    pub max_ns: u64,
}

impl LossTotal {
    /// `count` of them, some of which were timed; `all_ns` is the estimate of all that were counted
    /// when one was timed last.
    pub(crate) fn of_sampled(timed: LossTotal, count: u64, all_ns: u64) -> LossTotal {
        // Those timed since a thread's last safepoint are among those that it has not published.
        let count = count.max(timed.count);
        let total_ns = all_ns.max(timed.total_ns).min(count.saturating_mul(timed.max_ns));
        LossTotal { count, total_ns, ..timed }
    }
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// The counting side of [`HeapStats`].
        #[derive(Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter),* }
    };
}

counters!(
    cycles,
    young_cycles,
    relocations,
    compactions,
    marked_objects,
    marked_by_helpers,
    mark_stack_peak,
    mark_overflows,
    mark_lists_peak,
    collector_copies,
    mutator_copies,
    large_objects_moved,
    large_bytes_moved,
    kept_in_place,
    healed,
    logged,
    mark_end_retries,
    ephemeron_passes,
    ephemerons_cleared,
    finalized,
    released,
    stalls,
    throttled,
    plans_abandoned,
    huge_pages_made,
    huge_pages_refused,
    pinned_blocks,
    pages_repaired,
    verified_slots,
    slow_paths,
    stores,
    refills
);

/// A counter. Who sees what a thread has added to one sees what that thread added to others before:
/// so of two, one of which is a part of the other, the whole is counted first and read last.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Release);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Buckets of a histogram: eight to each doubling, up to 2^40 ns.
const BUCKETS: usize = 40 * 8;

/// Counts of durations, added to by any thread, in a signal handler too.
pub(crate) struct Histogram {
    counts: Box<[AtomicU64]>,
    /// Of all buckets: for readers that want no distribution.
    count: AtomicU64,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
        }
    }
}

fn bucket(ns: u64) -> usize {
    let ns = ns.max(1);
    let log = ns.ilog2() as usize;
    let eighth = if log >= 3 { (ns >> (log - 3)) & 7 } else { (ns << (3 - log)) & 7 } as usize;
    (log * 8 + eighth).min(BUCKETS - 1)
}

/// The longest duration of a bucket.
fn longest(bucket: usize) -> u64 {
    let (log, eighth) = (bucket / 8, (bucket % 8) as u64);
    ((8 + eighth + 1) << log).div_ceil(8) - 1
}

/// The shortest.
fn shortest(bucket: usize) -> u64 {
    if bucket == 0 { 0 } else { longest(bucket - 1) + 1 }
}

impl Histogram {
    pub(crate) fn record(&self, ns: u64) {
        // Read the other way round: a duration in the sum is counted, and one that is counted is no
        // longer than the longest.
        if ns > self.max_ns.load(Ordering::Relaxed) {
            self.max_ns.fetch_max(ns, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Release);
        self.counts[bucket(ns)].fetch_add(1, Ordering::Release);
        self.sum_ns.fetch_add(ns, Ordering::Release);
    }

    /// The figures without the distribution, by three loads.
    pub(crate) fn total(&self) -> LossTotal {
        let total_ns = self.sum_ns.load(Ordering::Acquire);
        let count = self.count.load(Ordering::Acquire);
        LossTotal { count, total_ns, max_ns: self.max_ns.load(Ordering::Relaxed) }
    }

    pub(crate) fn durations(&self) -> Durations {
        #[cfg(test)]
        tests::DISTRIBUTIONS.set(tests::DISTRIBUTIONS.get() + 1);
        let sum_ns = self.sum_ns.load(Ordering::Acquire);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Acquire)).enumerate();
        let counts: Vec<_> = counts.filter(|(_, n)| *n != 0).collect();
        // One that is counted and not in the sum yet took at least as long as its bucket says.
        let least: u64 = counts.iter().map(|&(bucket, n)| n * shortest(bucket)).sum();
        Durations {
            count: counts.iter().map(|(_, n)| n).sum(),
            sum_ns: sum_ns.max(least),
            max_ns: self.max_ns.load(Ordering::Relaxed),
            buckets: counts.into_iter().map(|(bucket, n)| (longest(bucket), n)).collect(),
        }
    }
}

/// Histograms of pauses.
#[derive(Default)]
pub(crate) struct PauseHistograms {
    total: Histogram,
    reach: Histogram,
    stopped: Histogram,
}

impl PauseHistograms {
    pub(crate) fn add(&self, pause: &Pause) {
        if pause.kind != PauseKind::Verification {
            self.total.record(pause.total_ns);
            self.reach.record(pause.reach_ns);
            self.stopped.record(pause.stopped_ns());
        }
    }

    pub(crate) fn pauses(&self) -> Pauses {
        Pauses { total: self.total.durations(), reach: self.reach.durations(), stopped: self.stopped.durations() }
    }
}

/// The result of [`Heap::pauses`](crate::Heap::pauses): all pauses since the heap was built, except
/// those for verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pauses {
    /// From the request until mutators could continue: [`Pause::total_ns`].
    pub total: Durations,
    /// From the request until the last mutator arrived: [`Pause::reach_ns`].
    pub reach: Durations,
    /// The rest, the pause itself: [`Pause::stopped_ns`].
    pub stopped: Durations,
}

/// What [`Heap::slow_paths`](crate::Heap::slow_paths) has counted, and what it has timed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowPaths {
    /// Number of slow paths.
    pub count: u64,
    /// Durations of the timed ones: one in 16.
    pub timed: Durations,
}

/// Durations of one sort of event, counted in buckets an eighth of a doubling wide. The figures of
/// one copy fit together: all that is summed up is counted, and no duration that is counted is
/// longer than the longest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// All of them together, in nanoseconds.
    pub sum_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// The longest duration of each bucket that has any, in nanoseconds, with its count; ascending.
    pub buckets: Vec<(u64, u64)>,
}

impl Durations {
    /// The duration that a share `q` (0 to 1) of all do not exceed, in nanoseconds; 0 where there
    /// are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u64 {
        let wanted = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for &(ns, n) in &self.buckets {
            seen += n;
            if seen >= wanted {
                return ns.min(self.max_ns);
            }
        }
        self.max_ns
    }
}

#[cfg(test)]
mod tests;
