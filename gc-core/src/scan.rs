//! The pieces in which several markers visit the locals of a thread, or the slots of a root stack.
//!
//! Once a holder of roots is *scanned*, nothing of it is logged any more. It is scanned when the
//! last of its pieces has been visited, and the marker that has visited that one says so.

use crate::rules::{Rule, kept};
use crate::sync::atomic::{AtomicUsize, Ordering};

/// The pieces of one holder that are not visited yet.
#[derive(Debug)]
pub struct Pieces {
    left: AtomicUsize,
}

impl Pieces {
    /// So many, none of them visited.
    #[must_use]
    pub fn new(pieces: usize) -> Pieces {
        Pieces { left: AtomicUsize::new(pieces) }
    }

    /// Visits one of them. Calls `scanned` after the last.
    pub fn visit(&self, visit: impl FnOnce(), scanned: impl FnOnce()) {
        if !kept(Rule::ScanThenSay) {
            scanned();
            return visit();
        }
        visit();
        // AcqRel: the marker that takes the last one off has all visits behind it.
        let last = self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if last || !kept(Rule::LastPieceSays) {
            scanned();
        }
    }
}
