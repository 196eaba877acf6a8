//! Detects an idle heap: what the collector checks while there is no request, and how often.

use std::time::{Duration, Instant};

/// How often the collector checks while the program allocates.
const BUSY: Duration = Duration::from_millis(500);

/// How often it checks, at the longest, while the program does not allocate.
const QUIET: Duration = Duration::from_secs(30);

/// A program that has allocated less than this fraction of the heap since the last check counts as
/// hardly allocating.
const LITTLE: usize = 64;

/// After an idle cycle, a program that has allocated this fraction of the heap may become idle
/// again.
const AGAIN: usize = 16;

pub(super) struct Idle {
    /// Time with hardly any allocation after which the heap is idle.
    after: Option<Duration>,
    /// Time without a cycle after which the next one packs what lives; after one and a half times
    /// that, it begins.
    slow_after: Option<Duration>,
    blocks: usize,
    /// Blocks allocated by the last check, and by the end of the last idle cycle.
    seen: usize,
    collected: usize,
    /// When the program was last seen busy.
    busy: Instant,
    /// A cycle has run since.
    done: bool,
    /// When the last cycle ended, and the blocks allocated by then.
    ended: (Instant, usize),
    wait: Duration,
}

impl Idle {
    pub(super) fn new(after: Option<Duration>, slow_after: Option<Duration>, blocks: usize) -> Idle {
        let (now, wait) = (Instant::now(), BUSY);
        Idle { after, slow_after, blocks, seen: 0, collected: 0, busy: now, done: false, ended: (now, 0), wait }
    }

    /// How long to wait for work before the next check. `most`: the caller's maximum.
    pub(super) fn wait(&self, most: Duration) -> Duration {
        let until_idle = match self.after {
            Some(after) if self.is_wanted() => after.saturating_sub(self.busy.elapsed()),
            _ => QUIET,
        };
        let until_overdue = self.overdue_after().and_then(|after| after.checked_sub(self.ended.0.elapsed()));
        let until = until_idle.min(until_overdue.unwrap_or(QUIET));
        self.wait.min(most).min(until.max(Duration::from_millis(10)))
    }

    /// Time without a cycle after which one begins in a program that allocates slowly.
    fn overdue_after(&self) -> Option<Duration> {
        self.slow_after.map(|after| after.saturating_add(after / 2))
    }

    fn is_wanted(&self) -> bool {
        !self.done && self.seen > self.collected
    }

    /// Whether a cycle that begins now is one of a program that allocates slowly: memory that it
    /// does not need for so long is given back, and packing what lives is rare.
    pub(super) fn is_slow(&self) -> bool {
        self.slow_after.is_some_and(|after| self.ended.0.elapsed() >= after)
    }

    /// Blocks allocated since the last cycle ended. `allocated` as for [`look`](Self::look).
    pub(super) fn allocated_since(&self, allocated: usize) -> usize {
        allocated - self.ended.1
    }

    /// Checks, when there was no request, whether a cycle should run now because none has for long,
    /// in a program that allocates too much to be idle. `allocated` as for [`look`](Self::look).
    pub(super) fn is_overdue(&self, allocated: usize) -> bool {
        let is_long = self.overdue_after().is_some_and(|after| self.ended.0.elapsed() >= after);
        is_long && self.allocated_since(allocated) > self.blocks / LITTLE
    }

    /// Checks, when there was no request, whether an idle cycle should run now. `allocated`: blocks
    /// ever allocated for new objects.
    pub(super) fn look(&mut self, allocated: usize) -> bool {
        let new = allocated - std::mem::replace(&mut self.seen, allocated);
        if new > self.blocks / LITTLE {
            (self.busy, self.done, self.wait) = (Instant::now(), false, BUSY);
        } else {
            self.wait = (2 * self.wait).min(QUIET);
        }
        self.done &= allocated - self.collected < self.blocks / AGAIN;
        self.is_wanted() && self.after.is_some_and(|after| self.busy.elapsed() >= after)
    }

    /// Records the end of a cycle: an idle cycle, or another.
    pub(super) fn cycle_ended(&mut self, allocated: usize, idle: bool) {
        self.seen = allocated;
        self.ended = (Instant::now(), allocated);
        if idle {
            (self.collected, self.done) = (allocated, true);
        } else {
            (self.busy, self.done, self.wait) = (Instant::now(), false, BUSY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_heap_is_collected_once() {
        let mut idle = Idle::new(Some(Duration::ZERO), None, 1024);
        assert!(!idle.look(0), "nothing was ever allocated");
        assert!(idle.look(1));
        idle.cycle_ended(1, true);
        assert!(!idle.look(1) && !idle.look(10) && !idle.look(20), "hardly anything came since");
        assert!(idle.look(100));
        idle.cycle_ended(100, true);
        idle.cycle_ended(100, false);
        assert!(!idle.look(100), "all that there was has been looked at");
        assert!(idle.look(101), "the program has asked for a cycle itself, so it did something");
        let mut never = Idle::new(None, None, 1024);
        assert!(!never.look(1000) && !never.look(1000));
    }

    #[test]
    fn the_collector_of_an_idle_heap_sleeps() {
        let mut idle = Idle::new(Some(Duration::from_secs(3600)), None, 1024);
        idle.look(1000);
        assert_eq!(idle.wait(QUIET), BUSY);
        let mut slept = Duration::ZERO;
        for _ in 0..20 {
            idle.look(1000);
            slept += idle.wait(QUIET);
        }
        assert!(slept > Duration::from_secs(300), "{slept:?} in twenty looks");
        idle.look(1100);
        assert_eq!(idle.wait(QUIET), BUSY);
    }

    #[test]
    fn a_slow_program_is_collected_now_and_then() {
        let mut slow = Idle::new(None, Some(Duration::ZERO), 1024);
        assert!(slow.is_slow() && !slow.is_overdue(16) && slow.is_overdue(17));
        slow.cycle_ended(17, false);
        assert!(!slow.is_overdue(33) && slow.is_overdue(34));
        for after in [None, Some(Duration::from_secs(3600))] {
            let fast = Idle::new(None, after, 1024);
            assert!(!fast.is_slow() && !fast.is_overdue(1000), "{after:?}");
        }
        // However rarely the collector looks by then.
        let mut rare = Idle::new(None, Some(Duration::from_secs(2)), 1024);
        (0..10).for_each(|_| assert!(!rare.look(0)));
        assert!(rare.wait(QUIET) <= Duration::from_secs(3));
    }
}
