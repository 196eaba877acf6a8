//! A table of process-wide roots: entries are allocated under the table's lock and dropped without
//! one.
//!
//! A dropped root only puts its entry on a list, so it can be dropped anywhere, also after the heap
//! has ended. The entry keeps its word until no marking runs, which is what logging the word would
//! do.
//!
//! See "The snapshot" in `docs/protocol.md`; `loom_root_table` runs these functions.

use crate::rules::{Rule, kept};
use crate::slot::publish;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::store_last;
use crate::word::Word;

/// Maximum number of entries of dropped roots reclaimed while the lock is held once: a thread that
/// needs a root waits for the lock, and a pause may wait for that thread.
const RECLAIMED_AT_ONCE: usize = 64;

/// The entries of dropped roots, by index: a list that any thread may push to at any time.
pub trait Dropped {
    /// Pushes an entry.
    fn push(&self, entry: usize);

    /// Pops an entry.
    fn pop(&self) -> Option<usize>;
}

/// The entries of a table, for the thread that holds the table's lock.
pub trait Entries {
    /// The free entries.
    fn free(&mut self) -> &mut Vec<usize>;

    /// The slot of an entry.
    fn slot(&self, entry: usize) -> &AtomicU64;

    /// Adds free entries, whose slots hold 0.
    fn grow(&mut self);
}

/// Drops a root.
pub fn give_up(dropped: &impl Dropped, entry: usize, slot: &AtomicU64) {
    if !kept(Rule::KeepDropped) {
        store_last(slot, 0, Ordering::Relaxed);
    }
    dropped.push(entry);
}

/// Reclaims some entries of dropped roots. Called while no marking runs. `false`: there are no
/// more.
pub fn reclaim_some(dropped: &impl Dropped, entries: &mut impl Entries) -> bool {
    for _ in 0..RECLAIMED_AT_ONCE {
        let Some(entry) = dropped.pop() else { return false };
        store_last(entries.slot(entry), 0, Ordering::Relaxed);
        entries.free().push(entry);
    }
    true
}

/// Allocates an entry for a new root and stores its word. `idle`: no marking runs, and none can
/// begin, because the caller is a running mutator. `None`: the table did not grow.
pub fn take(dropped: &impl Dropped, entries: &mut impl Entries, word: Word, idle: bool) -> Option<usize> {
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
