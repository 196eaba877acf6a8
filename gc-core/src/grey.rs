//! The set of blocks that hold grey objects (marked but not scanned): the overflow area of a full
//! mark stack.
//!
//! A marker that marks an object without scanning it adds the object's block afterwards; the marker
//! that takes the block scans every marked object in it. An object may thus be scanned more than
//! once, and none is missed. See "A full mark stack" in `docs/protocol.md`.

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::zeroed::{NoMemory, zeroed};

/// A set of block numbers that any number of threads may add to and take from.
#[derive(Debug)]
pub struct GreyBlocks {
    words: Box<[AtomicU64]>,
    /// Blocks in the set; while one is added or taken, one more.
    count: AtomicUsize,
}

impl GreyBlocks {
    /// An empty set, of numbers below `blocks`.
    ///
    /// # Errors
    /// The program's allocator refuses the memory.
    pub fn new(blocks: usize) -> Result<GreyBlocks, NoMemory> {
        Ok(GreyBlocks { words: zeroed(blocks.div_ceil(64))?, count: AtomicUsize::new(0) })
    }

    /// Adds a block. Release: the thread that takes it sees the marks set before.
    pub fn add(&self, block: usize) {
        // Count first, so that `is_empty` never misses a block that the calling thread has added
        // itself.
        self.count.fetch_add(1, Ordering::Relaxed);
        let bit = 1 << (block % 64);
        if self.words[block / 64].fetch_or(bit, Ordering::Release) & bit != 0 {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes a block, if it is in the set. Acquire, as [`take`](GreyBlocks::take).
    pub fn remove(&self, block: usize) -> bool {
        let (word, bit) = (&self.words[block / 64], 1 << (block % 64));
        let removed = word.load(Ordering::Relaxed) & bit != 0 && word.fetch_and(!bit, Ordering::Acquire) & bit != 0;
        if removed {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// Whether the set is empty. Never true while a block that the caller has added is in it.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Takes a block, searching from `near` upwards, so that neighbours are scanned one after the
    /// other. Acquire: the caller sees the marks for which the block was added; a mark that it does
    /// not see is followed by another addition of the block.
    #[must_use]
    pub fn take(&self, near: usize) -> Option<usize> {
        let first = near / 64 % self.words.len().max(1);
        while !self.is_empty() {
            for index in (first..self.words.len()).chain(0..first) {
                let word = &self.words[index];
                let bits = word.load(Ordering::Relaxed);
                if bits == 0 {
                    continue;
                }
                let bit = bits & bits.wrapping_neg();
                if word.fetch_and(!bit, Ordering::Acquire) & bit != 0 {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                    return Some(index * 64 + bit.trailing_zeros() as usize);
                }
            }
            crate::sync::thread::yield_now();
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_block_is_taken_once_for_each_time_it_was_added_anew() {
        let greys = GreyBlocks::new(200).unwrap();
        assert!(greys.is_empty() && greys.take(7).is_none());
        [3, 130, 3, 199].into_iter().for_each(|block| greys.add(block));
        assert_eq!([greys.take(130), greys.take(131), greys.take(131)], [Some(130), Some(199), Some(3)]);
        assert_eq!(greys.take(0), None);
        greys.add(3);
        assert!(!greys.is_empty());
        assert_eq!((greys.take(0), greys.take(0)), (Some(3), None));
        greys.add(70);
        assert_eq!([greys.remove(71), greys.remove(70), greys.remove(70)], [false, true, false]);
        assert!(greys.is_empty());
    }
}
