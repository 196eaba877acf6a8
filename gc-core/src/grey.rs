//! The set of blocks that hold grey objects (marked but not scanned): the overflow area of a full
//! mark stack.
//!
//! A marker that marks an object without scanning it adds the object's block afterwards; the marker
//! that takes the block scans every marked object in it. An object may thus be scanned more than
//! once, and none is missed. See "A full mark stack" in `docs/protocol.md`.

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::units::Block;
use crate::zeroed::{NoMemory, zeroed};

/// A set of blocks that any number of threads may add to and take from.
#[derive(Debug)]
pub struct GreyBlocks {
    /// A bit a block.
    words: Box<[AtomicU64]>,
    /// Blocks in the set; while one is added or taken, one more.
    count: AtomicUsize,
}

impl GreyBlocks {
    /// An empty set, of the first `blocks` blocks.
    ///
    /// # Errors
    /// The program's allocator refuses the memory.
    pub fn new(blocks: usize) -> Result<GreyBlocks, NoMemory> {
        Ok(GreyBlocks { words: zeroed(blocks.div_ceil(64))?, count: AtomicUsize::new(0) })
    }

    /// A block's word, and its bit there.
    fn word(&self, block: Block) -> (&AtomicU64, u64) {
        (&self.words[block.number() / 64], 1 << (block.number() % 64))
    }

    /// Adds a block. Release: the thread that takes it sees the marks set before.
    pub fn add(&self, block: Block) {
        // Count first, so that `is_empty` never misses a block that the calling thread has added
        // itself.
        self.count.fetch_add(1, Ordering::Relaxed);
        let (word, bit) = self.word(block);
        if word.fetch_or(bit, Ordering::Release) & bit != 0 {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes a block, if it is in the set. Acquire, as [`take`](GreyBlocks::take).
    pub fn remove(&self, block: Block) -> bool {
        let (word, bit) = self.word(block);
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
    pub fn take(&self, near: Block) -> Option<Block> {
        let first = near.number() / 64 % self.words.len().max(1);
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
                    return Some(Block::new(index * 64 + bit.trailing_zeros() as usize));
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
        let take = |near| greys.take(Block::new(near)).map(Block::number);
        assert!(greys.is_empty() && take(7).is_none());
        [3, 130, 3, 199].into_iter().for_each(|block| greys.add(Block::new(block)));
        assert_eq!([take(130), take(131), take(131)], [Some(130), Some(199), Some(3)]);
        assert_eq!(take(0), None);
        greys.add(Block::new(3));
        assert!(!greys.is_empty());
        assert_eq!((take(0), take(0)), (Some(3), None));
        greys.add(Block::new(70));
        assert_eq!([71, 70, 70].map(|block| greys.remove(Block::new(block))), [false, true, false]);
        assert!(greys.is_empty());
    }
}
