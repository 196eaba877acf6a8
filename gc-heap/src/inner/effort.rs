//! The limit on collecting: measures the share of processor time that goes into collections that
//! free hardly anything.
//!
//! Near the end of memory each collection frees a few blocks, which are allocated at once, and the
//! program makes no progress. If collecting exceeds its share, over several collections and some
//! time, the next thread that would wait for memory gets the error instead.

use crate::lock::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A collection is worthwhile if mutators allocate at least this fraction of the heap after it.
const WORTH: usize = 16;

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
}

impl Effort {
    pub(crate) fn new(limit: Option<f64>, blocks: usize) -> Effort {
        Effort { limit, blocks, window: Mutex::default(), exceeded: AtomicBool::new(false) }
    }

    /// Adds the processor time that a thread has used since its last call. `waits`: it now waits
    /// for the next collection.
    pub(crate) fn worked(&self, worked: Duration, waits: bool) {
        if self.limit.is_some() {
            let mut window = self.window.lock();
            window.mutating += worked;
            window.awaited |= waits;
        }
    }

    /// Records the end of a collection and the processor time of all
    /// collector threads. `taken`: blocks that mutators have ever allocated for new objects.
    pub(crate) fn collected(&self, collecting: Duration, taken: usize) {
        let Some(limit) = self.limit else { return };
        let mut window = self.window.lock();
        let given = taken - std::mem::replace(&mut window.taken, taken);
        if std::mem::take(&mut window.awaited) && given < self.blocks / WORTH {
            window.collections += 1;
            window.collecting += collecting;
        } else {
            *window = Window { taken, ..Window::default() };
        }
        self.exceeded.store(window.exceeds(limit), Ordering::Relaxed);
    }

    /// Checks the limit for a thread that needs memory. `Some`: it gets the error. Counting then
    /// starts anew, because the thread may drop objects and others may proceed.
    #[inline]
    pub(crate) fn is_futile(&self) -> Option<Futile> {
        if self.exceeded.load(Ordering::Relaxed) { self.exceeds() } else { None }
    }

    #[cold]
    fn exceeds(&self) -> Option<Futile> {
        let mut window = self.window.lock();
        // The threads may have done more work since than the collector; and one error is enough.
        let exceeds = self.limit.is_some_and(|limit| window.exceeds(limit));
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

    fn exceeds(&self, limit: f64) -> bool {
        self.collections >= COLLECTIONS && self.collecting >= TIME && self.share() >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Collections of 100 ms, between which a thread takes some blocks and works; the first time that it should not wait.
    fn run(limit: Option<f64>, given: usize, worked: Duration) -> Option<(u32, Futile)> {
        let effort = Effort::new(limit, 1600);
        (0..50_u32).find_map(|round| {
            effort.worked(worked, true);
            effort.collected(100 * MS, round as usize * given);
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
            effort.collected(MS, 0);
            assert_eq!(effort.is_futile(), None);
        }
        for _ in 0..100 {
            effort.worked(Duration::ZERO, false);
            effort.collected(100 * MS, 0);
            assert_eq!(effort.is_futile(), None);
        }
    }

    #[test]
    fn after_the_error_there_is_another_chance() {
        let effort = Effort::new(Some(0.95), 1600);
        let errors = (0..40).filter(|_| {
            effort.worked(Duration::ZERO, true);
            effort.collected(100 * MS, 0);
            effort.is_futile().is_some()
        });
        assert_eq!(errors.count(), 5, "each eighth time");
    }
}
