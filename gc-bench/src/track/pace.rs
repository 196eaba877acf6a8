//! A set rate of operations: when they are due, and how late they were done.

use super::late::Late;
use crate::recorder::Recorder;

/// Operations of a set rate are due together once a tick, so that the thread sleeps in between.
const TICK_NS: u64 = 1_000_000;
/// Late ways back that a track has room for from the start.
const LATE_ROOM: usize = 1024;

/// What a track at a set rate records beside its samples.
pub(crate) struct Paced {
    /// From due to done: of a tick's work, and of each sample.
    pub(crate) ticks: Recorder,
    pub(crate) responses: Recorder,
    pub(crate) late: Vec<Late>,
}

/// A track's rate, and how far it has come.
pub(super) struct Pace {
    /// Operations a second.
    rate: u64,
    pub(super) start_ns: u64,
    /// Whole milliseconds since the start whose operations were admitted.
    tick: u64,
    admitted: u64,
    /// When the operations of this tick were due.
    pub(super) due_ns: u64,
    in_tick: bool,
    until_ns: u64,
    pub(super) found: Paced,
}

impl Pace {
    pub(super) fn new(rate: u64) -> Self {
        let found = Paced { ticks: Recorder::new(), responses: Recorder::new(), late: Vec::with_capacity(LATE_ROOM) };
        Self { rate, start_ns: 0, tick: 0, admitted: 0, due_ns: 0, in_tick: false, until_ns: u64::MAX, found }
    }

    /// Forgets what was found; the first operations are due in a millisecond.
    pub(super) fn start(&mut self, now_ns: u64) {
        self.found.ticks.clear();
        self.found.responses.clear();
        self.found.late.clear();
        (self.start_ns, self.tick, self.admitted, self.in_tick) = (now_ns, 0, 0, false);
    }

    /// Lets no tick begin that long after the start.
    pub(super) fn last_for(&mut self, time_ns: u64) {
        self.until_ns = self.start_ns.saturating_add(time_ns);
    }

    /// The next tick that has operations: how many. `None`: it would begin too late.
    pub(super) fn next_tick(&mut self) -> Option<u64> {
        loop {
            let begins_ns = self.start_ns + self.tick * TICK_NS;
            if begins_ns >= self.until_ns {
                return None;
            }
            self.tick += 1;
            // A rate that 1000 does not divide is kept over the second.
            let upto = (u128::from(self.tick) * u128::from(self.rate) / 1000) as u64;
            if upto > self.admitted {
                let left = upto - self.admitted;
                (self.admitted, self.due_ns, self.in_tick) = (upto, begins_ns + TICK_NS, true);
                return Some(left);
            }
        }
    }

    /// The work of a tick was done by then, if one has begun.
    pub(super) fn end_tick(&mut self, last_ns: u64) {
        if std::mem::take(&mut self.in_tick) {
            self.found.ticks.record(last_ns.saturating_sub(self.due_ns));
        }
    }

    /// The thread had nothing to do for that long, so all is due later. `in_tick`: operations of a
    /// tick are left.
    pub(super) fn rest(&mut self, ns: u64, in_tick: bool) {
        self.start_ns += ns;
        self.due_ns += ns;
        self.in_tick = in_tick;
    }

    /// The thread is back from a sleep. Kept if it is late.
    pub(super) fn is_back(&mut self, late: Late) {
        if late.is_late() {
            self.found.late.push(late);
        }
    }
}
