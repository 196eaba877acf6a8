//! A table of process-wide roots: its entries are taken under the table's lock and given up without one.
//!
//! A dropped root only puts its entry on a list, so it can be dropped anywhere, also after the heap is gone. The entry keeps its
//! word until no marking runs, which is what logging the word would do.
//!
//! See "The snapshot" in `docs/protocol.md`; `loom_root_table` runs these functions.

use crate::rules::{Rule, kept};
use crate::slot::publish;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::store_last;

/// Entries of dropped roots taken back under one hold of the lock: a thread that wants a root waits for it, and a stop may
/// wait for that thread.
const RECLAIMED_AT_ONCE: usize = 64;

/// The entries of dropped roots, by index: a list that any thread may push to at any time.
pub trait Dropped {
    /// Adds one.
    fn push(&self, entry: usize);

    /// Takes one.
    fn pop(&self) -> Option<usize>;
}

/// The entries of a table, as the thread that holds the table's lock sees them.
pub trait Entries {
    /// Those that are in no use.
    fn free(&mut self) -> &mut Vec<usize>;

    /// The slot of an entry.
    fn slot(&self, entry: usize) -> &AtomicU64;

    /// Adds free ones, with slots that hold 0.
    fn grow(&mut self);
}

/// A root is dropped.
pub fn give_up(dropped: &impl Dropped, entry: usize, slot: &AtomicU64) {
    if !kept(Rule::KeepDropped) {
        store_last(slot, 0, Ordering::Relaxed);
    }
    dropped.push(entry);
}

/// Takes back some entries of dropped roots. While no marking runs. `false`: there are no more.
pub fn reclaim_some(dropped: &impl Dropped, entries: &mut impl Entries) -> bool {
    for _ in 0..RECLAIMED_AT_ONCE {
        let Some(entry) = dropped.pop() else { return false };
        store_last(entries.slot(entry), 0, Ordering::Relaxed);
        entries.free().push(entry);
    }
    true
}

/// Takes an entry for a new root and stores its word. `idle`: no marking runs, and none can begin, since the caller runs.
/// `None`: the table did not grow.
pub fn take(dropped: &impl Dropped, entries: &mut impl Entries, word: u64, idle: bool) -> Option<usize> {
    if entries.free().is_empty() && (idle || !kept(Rule::ReclaimWhileIdle)) {
        reclaim_some(dropped, entries);
    }
    if entries.free().is_empty() {
        entries.grow();
    }
    let entry = entries.free().pop()?;
    publish(entries.slot(entry), word);
    Some(entry)
}
