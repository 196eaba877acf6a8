//! The forwarding tables of the current relocation: the blocks of its set, and the new places of
//! their objects.
//!
//! One relocation's forwarding exists at a time: it is dropped after the next marking has remapped every stale slot,
//! and before that marking's plan makes a new one (docs/ARCHITECTURE.md: "Two colors are enough").

use super::{BLOCK_BYTES, BLOCK_GRANULES};
use gc_core::forwarding::{Entry, Forwarding};
use gc_core::zeroed::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

pub(crate) struct ForwardingTable {
    /// Null where the block is not in the relocation set.
    table: Box<[AtomicPtr<Forwarding>]>,
    /// Bytes of all, and the most that there were.
    bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
}

/// Bytes that a block's forwarding takes.
fn bytes_of(forwarding: &Forwarding) -> usize {
    size_of::<Forwarding>() + forwarding.objects() * size_of::<u64>()
}

impl ForwardingTable {
    pub(crate) fn new(blocks: usize) -> ForwardingTable {
        ForwardingTable { table: zeroed(blocks), bytes: AtomicUsize::new(0), peak_bytes: AtomicUsize::new(0) }
    }

    /// The most bytes that there ever were.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    /// The block's forwarding, if it is in the relocation set.
    #[inline]
    pub(crate) fn of_block(&self, block: usize) -> Option<&Forwarding> {
        // SAFETY: a non-null pointer came from `Box::into_raw` in `insert`, and `clear` runs only
        // when no thread can be resolving a stale word: after the handshake that follows weak
        // resolution.
        unsafe { self.table[block].load(Ordering::Acquire).as_ref() }
    }

    /// Whether the block is in a relocation set, of this plan or of the last one.
    pub(crate) fn contains(&self, block: usize) -> bool {
        !self.table[block].load(Ordering::SeqCst).is_null()
    }

    /// The entry of the object at a stale offset. `Some(None)`: its block is not in the set and it stays where it is.
    /// `None`: the block is in the set and no live object begins there, so the reference is to an object that was dead
    /// when its block was planned, which only a broken invariant can produce.
    #[inline]
    pub(crate) fn lookup(&self, offset: usize) -> Option<Option<Entry<'_>>> {
        match self.of_block(offset / BLOCK_BYTES) {
            None => Some(None),
            Some(forwarding) => forwarding.entry(offset / 8 % BLOCK_GRANULES).map(Some),
        }
    }

    /// As `lookup`, for the collector.
    ///
    /// # Panics
    /// Where `lookup` gives `None`.
    #[inline]
    pub(crate) fn entry(&self, offset: usize) -> Option<Entry<'_>> {
        self.lookup(offset).unwrap_or_else(|| lost(offset))
    }

    pub(crate) fn insert(&self, block: usize, forwarding: Box<Forwarding>) {
        let bytes = bytes_of(&forwarding);
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak_bytes.fetch_max(bytes, Ordering::Relaxed);
        // SeqCst: before the check for pins (see `handles::pinned`).
        let old = self.table[block].swap(Box::into_raw(forwarding), Ordering::SeqCst);
        debug_assert!(old.is_null());
    }

    /// Drops a block's forwarding. No thread may hold a stale word any more.
    pub(crate) fn clear(&self, block: usize) {
        let old = self.table[block].swap(null_mut(), Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: from `Box::into_raw` in `insert`, and taken out of the table by this swap alone.
            let forwarding = unsafe { Box::from_raw(old) };
            self.bytes.fetch_sub(bytes_of(&forwarding), Ordering::Relaxed);
        }
    }
}

impl Drop for ForwardingTable {
    fn drop(&mut self) {
        for block in 0..self.table.len() {
            self.clear(block);
        }
    }
}

#[cold]
#[inline(never)]
fn lost(offset: usize) -> ! {
    panic!("heap corrupted: a stale reference to offset {offset:#x}, where no object was live (a missed barrier)")
}
