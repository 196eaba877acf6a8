//! Uncommitting memory that has been free for a while.

use crate::inner::HeapInner;
use crate::space::BLOCK_BYTES;
use std::time::Duration;

/// Blocks uncommitted at a time.
const UNCOMMIT_BATCH: usize = 256;

impl HeapInner {
    /// Uncommits memory that has been free for a while. Returns the number of bytes.
    pub(crate) fn uncommit(&self, delay: Duration) -> usize {
        // At most the amount that is idle now: blocks that the kernel refuses to uncommit would be
        // found again and again.
        self.uncommit_some(delay, self.memory.free.free_committed())
    }

    /// As [`uncommit`](Self::uncommit), of so many blocks at most: those that have been free for
    /// the longest.
    pub(crate) fn uncommit_some(&self, delay: Duration, blocks: usize) -> usize {
        let mut bytes = 0;
        // In slices, so that few blocks at a time cannot be allocated.
        let mut left = blocks;
        while left > 0 {
            let idle = self.memory.free.take_uncommittable(delay, left.min(UNCOMMIT_BATCH));
            if idle.looked == 0 {
                break;
            }
            left = left.saturating_sub(idle.looked);
            // Adjacent blocks are uncommitted in one call.
            for run in idle.blocks.chunk_by(|&a, &b| a + 1 == b) {
                // After a failure the memory stays committed: it is used again, and the call is
                // repeated when it has been idle for as long again.
                let gone = self.memory.free.uncommit(run);
                bytes += if gone { run.len() * BLOCK_BYTES } else { 0 };
            }
        }
        bytes
    }
}
