//! What the collector does where the system is short of memory.

use gc_core::sys::{self, SysError};
use std::time::{Duration, Instant};

/// How often it looks.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// How long the heap makes do with little at least: what it gives back is available then, and would
/// be the reason to take it again.
const AT_LEAST: Duration = Duration::from_secs(60);

/// What the system says of its memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Bytes that can be allocated; `usize::MAX`: nobody has looked.
    pub(super) available: usize,
    /// The share of the time in which threads wait for memory, in hundredths of a percent.
    pub(super) stalls: u32,
}

/// Looks whether the system is short of memory.
pub(super) struct Pressure {
    /// It is if less is available; 0: that is not looked at.
    bytes: usize,
    /// And if threads wait for a larger share of the time; `u32::MAX`: that is not looked at.
    stalls: u32,
    looked: Option<Instant>,
    /// Since when it is.
    since: Option<Instant>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The heap makes do with what lives, from now on.
    Begins,
    Ends,
}

impl Pressure {
    /// `stalls`: a share, at most 1. `None`: there is nothing to look at.
    pub(super) fn new(bytes: Option<usize>, stalls: Option<f64>) -> Option<Pressure> {
        let looks = bytes.is_some() || stalls.is_some();
        let stalls = stalls.map_or(u32::MAX, |share| (share * 10_000.0) as u32);
        looks.then_some(Pressure { bytes: bytes.unwrap_or(0), stalls, looked: None, since: None })
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK)
    }

    /// What the system says now. Where a file cannot be read, nobody says that memory is short.
    pub(super) fn read(&self, note: impl Fn(SysError)) -> Reading {
        let available = if self.bytes == 0 { None } else { sys::available_memory().map_err(&note).ok() };
        let stalls = if self.stalls == u32::MAX { None } else { sys::memory_stalls().map_err(&note).ok() };
        Reading { available: available.unwrap_or(usize::MAX), stalls: stalls.unwrap_or(0) }
    }

    /// Looks at what the system says. It ends where twice as much is available as would begin it,
    /// and threads wait for half of the share that would.
    pub(super) fn look(&mut self, now: Instant, reading: Reading) -> Option<Change> {
        self.looked = Some(now);
        let Reading { available, stalls } = reading;
        let is_short = available < self.bytes || stalls > self.stalls;
        let is_enough = available / 2 >= self.bytes && stalls <= self.stalls / 2;
        match self.since {
            None if is_short => {
                self.since = Some(now);
                Some(Change::Begins)
            }
            Some(since) if is_enough && now.duration_since(since) >= AT_LEAST => {
                self.since = None;
                Some(Change::Ends)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    #[test]
    fn pressure_ends_late_and_with_memory_to_spare() {
        let (mut pressure, begun) = (Pressure::new(Some(1000), None).unwrap(), Instant::now());
        assert!(pressure.is_due(begun));
        // Stalls are not looked at.
        let mut look = |seconds, available| pressure.look(at(begun, seconds), Reading { available, stalls: 10_000 });
        assert_eq!(look(0, 1000), None);
        assert_eq!(look(1, 999), Some(Change::Begins));
        assert_eq!(look(2, 10), None, "it has begun");
        assert_eq!(look(60, 5000), None, "too early");
        assert_eq!(look(61, 1999), None, "too little");
        assert_eq!(look(62, 2000), Some(Change::Ends));
        assert_eq!(look(63, 2000), None);
        assert!(!pressure.is_due(at(begun, 63)) && pressure.is_due(at(begun, 64)));
    }

    #[test]
    fn waits_for_memory_are_pressure_too() {
        let (mut pressure, begun) = (Pressure::new(None, Some(0.1)).unwrap(), Instant::now());
        let mut look = |seconds, stalls| pressure.look(at(begun, seconds), Reading { available: 0, stalls });
        assert_eq!(look(0, 1000), None, "a tenth of the time");
        assert_eq!(look(1, 1001), Some(Change::Begins));
        assert_eq!(look(60, 0), None, "too early");
        assert_eq!(look(61, 501), None, "too much");
        assert_eq!(look(62, 500), Some(Change::Ends));
        // Of both, one begins it, and both have to end.
        let mut pressure = Pressure::new(Some(1000), Some(0.1)).unwrap();
        let mut look = |seconds, available, stalls| pressure.look(at(begun, seconds), Reading { available, stalls });
        assert_eq!(look(0, 999, 0), Some(Change::Begins));
        assert_eq!(look(60, 2000, 501), None);
        assert_eq!(look(61, 1999, 0), None);
        assert_eq!(look(62, 2000, 500), Some(Change::Ends));
        assert_eq!(look(63, 2000, 1001), Some(Change::Begins));
    }

    #[test]
    fn who_is_to_look_at_nothing_does_not() {
        assert!(Pressure::new(None, None).is_none());
    }
}
