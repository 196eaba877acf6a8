//! The soft maximum: the memory that the heap tries to make do with, below its maximum.

use crate::space::BLOCK_BYTES;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What the collector leaves a program between two cycles, whatever the soft maximum: this fraction
/// of the memory that lasts, so that a soft maximum below the live set does not make cycles follow
/// one another.
const LEFT: usize = 4;

/// And at least so many blocks.
const LEAST_LEFT: usize = 16;

/// The soft maximum of a heap. Any thread sets it; the collector, and mutators as they allocate,
/// read it.
pub(crate) struct SoftMax {
    /// Of the heap.
    blocks: usize,
    /// Relaxed: it guards nothing, and a thread that reads an older value acts as before the
    /// change.
    soft: AtomicUsize,
    /// The system is short of memory: as if the soft maximum were 0.
    pressed: AtomicBool,
}

impl SoftMax {
    /// Of a heap with so many blocks; `None`: its maximum.
    pub(crate) fn new(blocks: usize, bytes: Option<usize>) -> SoftMax {
        let soft_max = SoftMax { blocks, soft: AtomicUsize::new(blocks), pressed: AtomicBool::new(false) };
        bytes.into_iter().for_each(|bytes| soft_max.set(bytes));
        soft_max
    }

    pub(crate) fn bytes(&self) -> usize {
        self.soft.load(Ordering::Relaxed) * BLOCK_BYTES
    }

    /// More than the maximum is the maximum.
    pub(crate) fn set(&self, bytes: usize) {
        self.soft.store(bytes.div_ceil(BLOCK_BYTES).min(self.blocks), Ordering::Relaxed);
    }

    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// The collector says whether the system is short of memory.
    pub(crate) fn press(&self, pressed: bool) {
        self.pressed.store(pressed, Ordering::Relaxed);
    }

    /// The blocks that the heap tries to make do with while so many last: the soft maximum, or what
    /// leaves the program some to allocate.
    pub(crate) fn goal(&self, lasting: usize) -> usize {
        let soft = if self.is_pressed() { 0 } else { self.soft.load(Ordering::Relaxed) };
        soft.max(lasting + (lasting / LEFT).max(LEAST_LEFT)).min(self.blocks)
    }

    /// The blocks beyond the goal: free ones of which as many count as used.
    pub(crate) fn beyond(&self, lasting: usize) -> usize {
        self.blocks - self.goal(lasting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goal_leaves_the_program_some_memory() {
        let soft_max = SoftMax::new(1024, None);
        assert_eq!([0, 100, 1000, 1024].map(|lasting| soft_max.goal(lasting)), [1024; 4], "none is set");
        soft_max.set(200 * BLOCK_BYTES - 1);
        assert_eq!(soft_max.bytes(), 200 * BLOCK_BYTES);
        assert_eq!(
            [0, 100, 160, 180, 400, 1000].map(|lasting| soft_max.goal(lasting)),
            [200, 200, 200, 225, 500, 1024]
        );
        assert_eq!([0, 400, 1000].map(|lasting| soft_max.beyond(lasting)), [824, 524, 0]);
        soft_max.set(0);
        assert_eq!(soft_max.goal(0), LEAST_LEFT);
        soft_max.set(usize::MAX);
        assert_eq!(soft_max.bytes(), 1024 * BLOCK_BYTES);
        soft_max.press(true);
        assert_eq!((soft_max.goal(100), soft_max.bytes()), (125, 1024 * BLOCK_BYTES), "what was set stays set");
        soft_max.press(false);
        assert_eq!(soft_max.goal(100), 1024);
        assert_eq!(SoftMax::new(8, Some(0)).goal(0), 8, "a small heap");
    }
}
