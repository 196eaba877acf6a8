//! What the collector does where the system is short of memory.

use std::time::{Duration, Instant};

/// How often it looks.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// How long the heap makes do with little at least: what it gives back is available then, and would
/// be the reason to take it again.
const AT_LEAST: Duration = Duration::from_secs(60);

/// Looks whether the system is short of memory.
pub(super) struct Pressure {
    /// It is if less is available.
    bytes: usize,
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
    pub(super) fn new(bytes: usize) -> Pressure {
        Pressure { bytes, looked: None, since: None }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK)
    }

    /// Looks: so much is available. It ends where twice as much is as would begin it.
    pub(super) fn look(&mut self, now: Instant, available: usize) -> Option<Change> {
        self.looked = Some(now);
        match self.since {
            None if available < self.bytes => {
                self.since = Some(now);
                Some(Change::Begins)
            }
            Some(since) if available / 2 >= self.bytes && now.duration_since(since) >= AT_LEAST => {
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

    #[test]
    fn pressure_ends_late_and_with_memory_to_spare() {
        let (mut pressure, begun) = (Pressure::new(1000), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(pressure.is_due(begun));
        assert_eq!(pressure.look(at(0), 1000), None);
        assert!(!pressure.is_due(begun) && pressure.is_due(at(1)));
        assert_eq!(pressure.look(at(1), 999), Some(Change::Begins));
        assert_eq!(pressure.look(at(2), 10), None, "it has begun");
        assert_eq!(pressure.look(at(60), 5000), None, "too early");
        assert_eq!(pressure.look(at(61), 1999), None, "too little");
        assert_eq!(pressure.look(at(62), 2000), Some(Change::Ends));
        assert_eq!(pressure.look(at(63), 2000), None);
    }
}
