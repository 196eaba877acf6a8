//! Evacuation: each object of the relocation set is copied once, by whichever thread needs it
//! first, and published by compare-and-swap (the forwarding of C4 and ZGC, with a copy that no
//! thread waits for).
//!
//! Each thread copies to a place of its own and the first to publish wins. Where there is no place,
//! the object's own place is published: it stays, and its block survives the cycle.

use crate::object::header::Header;
use crate::space::memory::Memory;
use crate::space::{GRANULE_BYTES, Offset};
use gc_core::forwarding::Entry;
use std::sync::atomic::Ordering;

/// The destination of a thread's copies: a private bump region.
pub(crate) trait CopyPlace {
    /// The offset of the next `bytes`; `None` if there is no block.
    fn bump(&mut self, bytes: usize) -> Option<Offset>;
    /// Undoes the last bump, of `bytes`.
    fn rewind(&mut self, bytes: usize);
    /// Stress mode: sleeps or yields now and then.
    fn stress_delay(&self);
}

/// Result of an attempt to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// By this thread.
    Here,
    /// Published in its own place by this thread.
    Kept,
    /// By another thread, before.
    Elsewhere,
}

/// Evacuates the object at `offset`, whose entry was empty, or finds where another thread has moved
/// it. Returns its offset.
#[inline(never)]
pub(crate) fn relocate_object(
    memory: &Memory,
    offset: Offset,
    entry: Entry<'_>,
    place: &mut impl CopyPlace,
) -> (Offset, Copied) {
    // The header is used only if the entry is still empty after it was read: a block is released,
    // and may be written again, only when all its entries are published.
    let header = match entry.read_unmoved(|| memory.word(offset).load(Ordering::Relaxed)) {
        Ok(header) => Header(header),
        Err(granule) => return (granule.offset(), Copied::Elsewhere),
    };
    let bytes = header.bytes().expect("an object that is evacuated is not large, so its header says the size");
    debug_assert!(offset.block() == (offset + bytes - 1).block(), "it lies in one block");
    let Some(to) = place.bump(bytes) else {
        return match entry.publish(offset.granule()) {
            Ok(()) => (offset, Copied::Kept),
            Err(granule) => (granule.offset(), Copied::Elsewhere),
        };
    };
    for at in (0..bytes).step_by(GRANULE_BYTES) {
        // Relaxed: if the block is released meanwhile this copies garbage, and then loses the race
        // below.
        let word = memory.word(offset + at).load(Ordering::Relaxed);
        memory.word(to + at).store(word, Ordering::Relaxed);
    }
    place.stress_delay(); // copied, and another may publish first
    match entry.publish(to.granule()) {
        Ok(()) => (to, Copied::Here),
        Err(granule) => {
            place.rewind(bytes);
            (granule.offset(), Copied::Elsewhere)
        }
    }
}
