//! The rest of the block that a parked thread was allocating in, published so that the collector
//! can take it.
//!
//! A thread that waits for hours must not keep a block from being collected. It publishes the block
//! when it parks and reclaims it when it unparks; meanwhile the collector may take it for good. One
//! swap of one word decides which of the two gets it, and neither waits.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::units::Block;

/// A block and how many of its bytes are filled, or nothing.
#[derive(Debug)]
pub struct ParkedTlab(AtomicU64);

/// The block in the upper half, plus 1, so that 0 is nothing.
const SHIFT: u32 = 32;

fn unpack(word: u64) -> Option<(Block, usize)> {
    let block = (word >> SHIFT).checked_sub(1)?;
    Some((Block::new(block as usize), word as u32 as usize))
}

impl Default for ParkedTlab {
    fn default() -> ParkedTlab {
        ParkedTlab(AtomicU64::new(0))
    }
}

impl ParkedTlab {
    /// Publishes a block. Only the owner calls this, and only while nothing is published.
    ///
    /// Release: the thread that takes the block sees what was written in it, and what the owner
    /// recorded about it elsewhere.
    pub fn put(&self, block: Block, filled_bytes: usize) {
        let block = block.number();
        debug_assert!(filled_bytes >> SHIFT == 0 && (block + 1) >> SHIFT == 0);
        self.0.store((block as u64 + 1) << SHIFT | filled_bytes as u64, Ordering::Release);
    }

    /// Reclaims the block for its owner: `None` if none was published, or the collector has taken
    /// it. The Acquire half is for the latter case: what the collector did with the block happens
    /// before what this thread does next.
    pub fn take(&self) -> Option<(Block, usize)> {
        unpack(self.0.swap(0, Ordering::AcqRel))
    }

    /// Takes the block for the collector, if `wanted` accepts it and the owner has not reclaimed it
    /// first.
    pub fn take_if(&self, wanted: impl FnOnce(Block) -> bool) -> Option<(Block, usize)> {
        let word = self.0.load(Ordering::Acquire);
        let (block, _) = unpack(word)?;
        if !wanted(block) {
            return None;
        }
        // If the owner has reclaimed and published it again meanwhile with the same fill, it is the
        // same block in the same state.
        self.0.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).ok().and_then(unpack)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_down_is_taken_once() {
        let deposit = ParkedTlab::default();
        assert_eq!((deposit.take(), deposit.take_if(|_| true)), (None, None));
        for (block, filled) in [(0, 0), (0, 65_536), (7, 24), (u32::MAX as usize - 1, 1)] {
            let put = (Block::new(block), filled);
            deposit.put(put.0, put.1);
            assert_eq!(deposit.take_if(|_| false), None);
            assert_eq!((deposit.take_if(|block| block == put.0), deposit.take()), (Some(put), None));
            deposit.put(put.0, put.1);
            assert_eq!((deposit.take(), deposit.take_if(|_| true)), (Some(put), None));
        }
    }
}
