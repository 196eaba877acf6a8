//! Private memory for roots, with the barriers that do not gate pages.
//!
//! The kernel limits the mappings of a process (`vm.max_map_count`, 65530), and a piece that is
//! unmapped between two others makes one more of them. So pieces are carved from large mappings,
//! *arenas*, and freed pieces are kept for reuse: uncommitted, and coalesced with free neighbours.
//! A piece that was never in use is inaccessible, because accessible addresses count as memory
//! where that is limited (`RLIMIT_DATA`, `vm.overcommit_memory=2`). A large arena, for a piece that
//! no ordinary one can hold, is unmapped only when it is free and a still larger one is needed.

use super::free_ranges::FreeRanges;
use crate::lock::Mutex;
use gc_core::sys::{Process, SysError};
use gc_core::views::RootRegion;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of an ordinary arena: addresses.
const ARENA: usize = 64 << 20;

/// What is left out between the arenas' offsets, so that the pieces of two never join.
const GAP: usize = 4096;

/// A heap's arenas.
pub(crate) struct Arenas {
    process: Process,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the offset of their first byte; no two have the same offsets, nor adjacent ones.
    arenas: BTreeMap<usize, Arc<RootRegion>>,
    next: usize,
    free: FreeRanges,
}

/// A piece of an arena: whole pages that are the holder's alone. The first of them are open:
/// readable and writable.
pub(crate) struct Piece {
    /// Keeps the piece mapped.
    arena: Arc<RootRegion>,
    /// Offsets of the piece, and of the arena's first byte.
    offset: usize,
    arena_at: usize,
    len: usize,
}

impl Piece {
    pub(crate) fn address(&self) -> usize {
        self.arena.as_ptr().expose_provenance() + (self.offset - self.arena_at)
    }

    /// Opens the first `bytes`, whole pages.
    pub(crate) fn open(&self, bytes: usize) -> Result<(), SysError> {
        self.arena.open(self.offset - self.arena_at, bytes.min(self.len))
    }

    /// Uncommits a part, whole pages.
    pub(crate) fn discard(&self, bytes: Range<usize>) -> Result<(), SysError> {
        self.arena.discard(self.offset - self.arena_at + bytes.start, bytes.len())
    }
}

impl Arenas {
    pub(crate) fn new() -> Arenas {
        Arenas { process: Process::current(), state: Mutex::default() }
    }

    /// A piece of `len` bytes, whole pages, of which the first `open` bytes are open. They are
    /// zero, where the kernel did not refuse to take the memory of a former one.
    pub(crate) fn take(&self, len: usize, open: usize) -> Result<Piece, SysError> {
        let piece = self.take_closed(len)?;
        match piece.open(open) {
            Ok(()) => Ok(piece),
            Err(refused) => {
                self.release(&piece);
                Err(refused)
            }
        }
    }

    fn take_closed(&self, len: usize) -> Result<Piece, SysError> {
        let state = &mut *self.state.lock();
        let offset = match state.free.take(len) {
            Some(offset) => offset,
            None => state.grow(len)?,
        };
        let (&arena_at, arena) = state.arenas.range(..=offset).next_back().expect("a free piece is in an arena");
        Ok(Piece { arena: Arc::clone(arena), offset, arena_at, len })
    }

    /// Frees a piece for reuse.
    pub(crate) fn release(&self, piece: &Piece) {
        // In a child made by `fork` the lock may be held for ever, and nobody will use the piece
        // again.
        if !self.process.is_current() {
            return;
        }
        // The piece is still nobody else's, and the lock not held: a thread that wants a root does
        // not wait for this. What keeps its memory is used again as it is: nobody reads a root slot
        // before writing it. Only one that has an arena to itself is closed: a closed one between
        // two would be three mappings.
        let whole = piece.len > ARENA;
        let give_back = if whole { RootRegion::close } else { RootRegion::discard };
        let _ = give_back(&piece.arena, piece.offset - piece.arena_at, piece.len);
        self.state.lock().free.give(piece.offset..piece.offset + piece.len);
    }
}

impl State {
    /// The offset of a piece of a new arena.
    fn grow(&mut self, len: usize) -> Result<usize, SysError> {
        if len > ARENA {
            self.unmap_outgrown(len);
        }
        let arena = RootRegion::reserve(len.max(ARENA))?;
        let (at, bytes) = (self.next, arena.len());
        self.next += bytes + GAP;
        self.arenas.insert(at, Arc::new(arena));
        if bytes > len {
            self.free.give(at + len..at + bytes);
        }
        Ok(at)
    }

    /// Unmaps large arenas that are free and yet too small, or programs whose stacks are ever
    /// larger leave many behind.
    fn unmap_outgrown(&mut self, wanted: usize) {
        let outgrown: Vec<usize> = self
            .arenas
            .iter()
            .filter(|(at, arena)| (ARENA + 1..wanted).contains(&arena.len()) && self.free.has(**at, arena.len()))
            .map(|(&at, _)| at)
            .collect();
        for at in outgrown {
            // Who gave the last piece up may still hold the arena: it stays.
            let Some(arena) = self.arenas.remove(&at) else { continue };
            match Arc::try_unwrap(arena).map(RootRegion::unmap) {
                Ok(Ok(len)) => self.free.take_at(at, len),
                Ok(Err(refused)) => drop(self.arenas.insert(at, Arc::new(refused))),
                Err(held) => drop(self.arenas.insert(at, held)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const PAGE: usize = 4096;

    fn word(piece: &Piece) -> &AtomicU64 {
        // SAFETY: the piece is mapped as long as it lives, and its words are accessed atomically.
        unsafe { &*std::ptr::with_exposed_provenance(piece.address()) }
    }

    #[test]
    fn pieces_that_are_given_up_are_zero_when_they_are_taken_again() {
        let arenas = Arenas::new();
        let pieces: Vec<Piece> = (1..=100).map(|pages| arenas.take(pages * PAGE, pages * PAGE).unwrap()).collect();
        pieces.iter().for_each(|piece| word(piece).store(1, Ordering::Relaxed));
        let first = pieces[0].address();
        pieces.iter().for_each(|piece| arenas.release(piece));
        // Joined: one of the length of all.
        let whole = arenas.take(ARENA, ARENA).unwrap();
        assert_eq!(whole.address(), first);
        for piece in &pieces {
            assert_eq!(word(piece).load(Ordering::Relaxed), 0);
        }
        assert_eq!(arenas.state.lock().arenas.len(), 1);
    }

    #[test]
    fn ever_larger_pieces_leave_no_arenas_behind() {
        let arenas = Arenas::new();
        let small = arenas.take(PAGE, PAGE).unwrap();
        for step in 1..20 {
            let large = arenas.take(ARENA + step * PAGE, PAGE).unwrap();
            word(&large).store(1, Ordering::Relaxed);
            arenas.release(&large);
        }
        assert_eq!(arenas.state.lock().arenas.len(), 2);
        // And a smaller one takes what is there.
        assert_eq!(word(&arenas.take(ARENA + PAGE, PAGE).unwrap()).load(Ordering::Relaxed), 0);
        assert_eq!(arenas.state.lock().arenas.len(), 2);
        arenas.release(&small);
    }

    #[test]
    fn pieces_of_two_arenas_do_not_join() {
        let arenas = Arenas::new();
        let two = [arenas.take(ARENA, ARENA).unwrap(), arenas.take(ARENA, ARENA).unwrap()];
        two.iter().for_each(|piece| arenas.release(piece));
        let both = arenas.take(2 * ARENA, PAGE).unwrap();
        assert!(two.iter().all(|piece| piece.arena_at != both.arena_at));
    }
}
