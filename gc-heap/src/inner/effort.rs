//! The limit on collecting: measures the share of processor time that goes into collections that
//! free hardly anything.
//!
//! Near the end of memory each collection frees a few blocks, which are allocated at once, and the
//! program makes no progress. If dead memory is then scattered over blocks that no cycle evacuates,
//! the next thread that waits requests a compaction. If collecting exceeds its share nevertheless,
//! over several collections and some time, the next thread that would wait for memory gets the
//! error instead.

use crate::lock::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A collection is worthwhile if mutators allocate at least this fraction of the heap after it.
const WORTH: usize = 16;

/// A compaction is worth its pause if it can free more than this fraction of the heap.
const SCATTERED: usize = 256;

/// Number of collections in a row that were not worthwhile and that evacuated next to nothing (less
/// than `EVACUATED` of the heap), after which threads request a compaction without a cycle before
/// it.
const TRICKLE: u32 = 2;
const EVACUATED: usize = 64;

/// Minimum number of collections in a row that were not worthwhile, and minimum of their processor
/// time, before the limit applies.
const COLLECTIONS: u32 = 8;
const TIME: Duration = Duration::from_millis(500);

/// Collections that mutators waited for and that were not worthwhile.
#[derive(Default)]
struct Window {
    collections: u32,
    collecting: Duration,
    /// Processor time of the waiting threads between their waits.
    mutating: Duration,
    /// Whether a thread has waited since the last collection.
    awaited: bool,
    /// Blocks that mutators had allocated when it ended.
    taken: usize,
    /// Of the collections, the last ones that evacuated next to nothing, since the last compaction.
    idle: u32,
    /// Whether one of the collections was a compaction.
    compacted: bool,
    /// Whether a compaction could free memory that the last collection has left in blocks which are
    /// partly live.
    scattered: bool,
}

/// A collection that has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Collected {
    /// Processor time of all collector threads.
    pub(crate) collecting: Duration,
    /// Blocks that mutators have ever allocated for new objects.
    pub(crate) taken: usize,
    /// Whether every block that was not full of live objects was evacuated.
    pub(crate) compacted: bool,
    /// Blocks that evacuation has gained.
    pub(crate) gained: usize,
    /// Blocks' worth of memory that is not live in blocks that could be evacuated.
    pub(crate) scattered: usize,
}

/// The verdict on collecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Futile {
    pub(crate) collections: u32,
    pub(crate) percent: u8,
}

pub(crate) struct Effort {
    /// Share of processor time, 0 to 1.
    limit: Option<f64>,
    /// Blocks of the heap.
    blocks: usize,
    window: Mutex<Window>,
    /// A hint that the limit is exceeded, so that the window is checked.
    exceeded: AtomicBool,
    /// Whether the window trickles.
    trickling: AtomicBool,
}

impl Effort {
    pub(crate) fn new(limit: Option<f64>, blocks: usize) -> Effort {
        let [exceeded, trickling] = Default::default();
        Effort { limit, blocks, window: Mutex::default(), exceeded, trickling }
    }

    /// Adds the processor time that a thread has used since its last call. `waits`: it now waits
    /// for the next collection.
    pub(crate) fn worked(&self, worked: Duration, waits: bool) {
        let mut window = self.window.lock();
        window.mutating += worked;
        window.awaited |= waits;
    }

    /// Records the end of a collection.
    pub(crate) fn collected(&self, collected: Collected) {
        let Collected { collecting, taken, compacted, gained, scattered } = collected;
        let mut window = self.window.lock();
        let given = taken - std::mem::replace(&mut window.taken, taken);
        if std::mem::take(&mut window.awaited) && given < self.blocks / WORTH {
            window.collections += 1;
            window.collecting += collecting;
            window.idle = if gained < self.blocks.div_ceil(EVACUATED) { window.idle + 1 } else { 0 };
        } else {
            *window = Window { taken, ..Window::default() };
        }
        if compacted {
            window.idle = 0;
            window.compacted = true;
        }
        window.scattered = scattered > self.blocks / SCATTERED;
        self.exceeded.store(window.exceeds(self.limit), Ordering::Relaxed);
        self.trickling.store(window.trickles(), Ordering::Relaxed);
    }

    /// Checks the limit for a thread that needs memory. `Some`: it gets the error. Counting then
    /// starts anew, because the thread may drop objects and others may proceed.
    #[inline]
    pub(crate) fn is_futile(&self) -> Option<Futile> {
        if self.exceeded.load(Ordering::Relaxed) { self.exceeds() } else { None }
    }

    /// Whether a thread that needs memory requests a compaction without a cycle before it. Cycles
    /// free a few blocks each time, so that no thread would ever wait in vain, and a compaction
    /// could free more.
    pub(crate) fn wants_compaction(&self) -> bool {
        self.trickling.load(Ordering::Relaxed)
    }

    #[cold]
    fn exceeds(&self) -> Option<Futile> {
        let mut window = self.window.lock();
        // The threads may have done more work since than the collector; and one error is enough.
        let exceeds = window.exceeds(self.limit);
        self.exceeded.store(false, Ordering::Relaxed);
        if !exceeds {
            return None;
        }
        let futile = Futile { collections: window.collections, percent: (window.share() * 100.0) as u8 };
        *window = Window { taken: window.taken, ..Window::default() };
        Some(futile)
    }
}

impl Window {
    /// The collector's, of all processor time.
    fn share(&self) -> f64 {
        self.collecting.as_secs_f64() / (self.collecting + self.mutating).as_secs_f64()
    }

    /// A compaction that could free memory is tried before the error.
    fn exceeds(&self, limit: Option<f64>) -> bool {
        self.is_long() && (self.compacted || !self.scattered) && limit.is_some_and(|limit| self.share() >= limit)
    }

    fn is_long(&self) -> bool {
        self.collections >= COLLECTIONS && self.collecting >= TIME
    }

    fn trickles(&self) -> bool {
        self.scattered && (self.idle >= TRICKLE || self.is_long() && !self.compacted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A collection after which nothing is left to compact.
    fn collected(collecting: Duration, taken: usize) -> Collected {
        Collected { collecting, taken, ..Collected::default() }
    }

    /// Collections of 100 ms, between which a thread takes some blocks and works; the first time
    /// that it should not wait.
    fn run(limit: Option<f64>, given: usize, worked: Duration) -> Option<(u32, Futile)> {
        let effort = Effort::new(limit, 1600);
        (0..50_u32).find_map(|round| {
            effort.worked(worked, true);
            effort.collected(collected(100 * MS, round as usize * given));
            effort.is_futile().map(|futile| (round, futile))
        })
    }

    #[test]
    fn collections_that_give_next_to_nothing_end() {
        assert_eq!(run(Some(0.95), 10, 3 * MS), Some((7, Futile { collections: 8, percent: 97 })));
        assert_eq!(run(None, 10, 3 * MS), None, "for those who want it");
        assert_eq!(run(Some(0.95), 100, 3 * MS), None, "a sixteenth of the heap each time");
        assert_eq!(run(Some(0.95), 10, 10 * MS), None, "a tenth of the time is the program's");
        assert!(run(Some(0.9), 10, 10 * MS).is_some(), "the limit is the caller's");
    }

    #[test]
    fn a_short_time_says_nothing_and_neither_does_a_cycle_that_nobody_waits_for() {
        let effort = Effort::new(Some(0.95), 1600);
        for _ in 0..100 {
            effort.worked(Duration::ZERO, true);
            effort.collected(collected(MS, 0));
            assert_eq!(effort.is_futile(), None);
        }
        for _ in 0..100 {
            effort.worked(Duration::ZERO, false);
            effort.collected(collected(100 * MS, 0));
            assert_eq!(effort.is_futile(), None);
        }
    }

    #[test]
    fn after_the_error_there_is_another_chance() {
        let effort = Effort::new(Some(0.95), 1600);
        let errors = (0..40).filter(|_| {
            effort.worked(Duration::ZERO, true);
            effort.collected(collected(100 * MS, 0));
            effort.is_futile().is_some()
        });
        assert_eq!(errors.count(), 5, "each eighth time");
    }

    /// The end of each collection: whether a compaction is wanted, and whether the error comes.
    fn series(scattered: usize, compacts: bool) -> Vec<(bool, bool)> {
        let effort = Effort::new(Some(0.95), 1600);
        let mut compacted = false;
        let ends = (0..10).map(|_| {
            effort.worked(MS, true);
            effort.collected(Collected { scattered, compacted, ..collected(100 * MS, 0) });
            compacted = compacts && effort.wants_compaction();
            (effort.wants_compaction(), effort.is_futile().is_some())
        });
        ends.collect()
    }

    #[test]
    fn a_compaction_that_could_help_comes_before_the_error() {
        let (wanted, errors): (Vec<_>, Vec<_>) = series(100, true).into_iter().unzip();
        // Each third collection compacts, for as long as they give next to nothing.
        assert_eq!(wanted[..8], [false, true, false, false, true, false, false, true]);
        assert_eq!(errors.iter().position(|&error| error), Some(7));
        let (wanted, errors): (Vec<_>, Vec<_>) = series(100, false).into_iter().unzip();
        assert!(wanted[1..].iter().all(|&wanted| wanted) && !errors.contains(&true), "{wanted:?} {errors:?}");
        let (wanted, errors): (Vec<_>, Vec<_>) = series(6, true).into_iter().unzip();
        assert!(!wanted.contains(&true) && errors[7], "a compaction is not worth its pause: {wanted:?} {errors:?}");
    }

    /// Sparse blocks are evacuated, so the next cycle gains as well; but the limit on collecting is
    /// not passed by.
    #[test]
    fn collections_that_evacuate_ask_for_a_compaction_only_before_the_error() {
        let effort = Effort::new(Some(0.95), 1600);
        let mut ends = (0..9).map(|round| {
            effort.worked(MS, true);
            let compacted = round == 8;
            effort.collected(Collected { scattered: 100, gained: 25, compacted, ..collected(100 * MS, 0) });
            (effort.wants_compaction(), effort.is_futile().is_some())
        });
        assert!(ends.by_ref().take(7).all(|end| end == (false, false)));
        assert_eq!(ends.collect::<Vec<_>>(), [(true, false), (false, true)]);
    }

    #[test]
    fn collections_that_give_something_ask_for_no_compaction() {
        let effort = Effort::new(None, 1600);
        for round in 0..10 {
            effort.worked(MS, true);
            effort.collected(Collected { scattered: 1000, ..collected(100 * MS, round * 100) });
            assert!(!effort.wants_compaction());
        }
        for round in 0..2 {
            effort.worked(MS, true);
            effort.collected(Collected { scattered: 1000, ..collected(100 * MS, 900) });
            assert_eq!(effort.wants_compaction(), round == 1, "without a limit as well");
        }
    }
}
