//! What a parked thread leaves where the collector can take it: the rest of a block that it was allocating in.
//!
//! A thread that waits for hours must not keep a block from being collected. It puts the block down when it parks and takes
//! it up again when it leaves; meanwhile the collector may take it, for good. One of the two gets it, by one swap of one
//! word, and nobody waits.

use crate::sync::atomic::{AtomicU64, Ordering};

/// A block and how many of its bytes are filled, or nothing.
#[derive(Debug)]
pub struct ParkedTlab(AtomicU64);

/// The block in the upper half, plus 1, so that 0 is nothing.
const SHIFT: u32 = 32;

fn unpack(word: u64) -> Option<(usize, usize)> {
    let block = (word >> SHIFT).checked_sub(1)?;
    Some((block as usize, word as u32 as usize))
}

impl Default for ParkedTlab {
    fn default() -> ParkedTlab {
        ParkedTlab(AtomicU64::new(0))
    }
}

impl ParkedTlab {
    /// Puts a block down. Only its owner does, and only where nothing lies.
    ///
    /// Release: who takes it sees what was written in it, and all that is said of it elsewhere.
    pub fn put(&self, block: usize, filled_bytes: usize) {
        debug_assert!(filled_bytes >> SHIFT == 0 && (block + 1) >> SHIFT == 0);
        self.0.store((block as u64 + 1) << SHIFT | filled_bytes as u64, Ordering::Release);
    }

    /// The owner's way: `None` if nothing was put down, or the collector has taken it. The Acquire half is for the latter:
    /// what the collector has made of the block comes before what this thread does next.
    pub fn take(&self) -> Option<(usize, usize)> {
        unpack(self.0.swap(0, Ordering::AcqRel))
    }

    /// The collector's way: takes the block if `wanted` says so of it and the owner has not been faster.
    pub fn take_if(&self, wanted: impl FnOnce(usize) -> bool) -> Option<(usize, usize)> {
        let word = self.0.load(Ordering::Acquire);
        let (block, _) = unpack(word)?;
        if !wanted(block) {
            return None;
        }
        // Where it has been taken up and put down again meanwhile, filled as before, it is the same block in the same state.
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
        for put in [(0, 0), (0, 65_536), (7, 24), (u32::MAX as usize - 1, 1)] {
            deposit.put(put.0, put.1);
            assert_eq!(deposit.take_if(|_| false), None);
            assert_eq!((deposit.take_if(|block| block == put.0), deposit.take()), (Some(put), None));
            deposit.put(put.0, put.1);
            assert_eq!((deposit.take(), deposit.take_if(|_| true)), (Some(put), None));
        }
    }
}
