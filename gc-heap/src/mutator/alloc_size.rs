//! The size of a reservation: memory for the objects that code is about to place.

use crate::object::Trace;
use crate::space::{BLOCK_BYTES, LARGE_BYTES};
use std::ops::Add;

/// The maximum size; it makes every check fail, so a size that is too large gives `OutOfMemory` and
/// never an overflow.
const MOST: usize = 1 << 60;

/// Memory for objects, to request with [`Mutator::reserve`](crate::Mutator::reserve). Sums
/// saturate: a size that is too large gives `OutOfMemory`.
///
/// ```
/// use gc_heap::{Bytes, Heap, OutOfMemory, AllocSize, Slot, SlotArray, Trace};
///
/// #[derive(Trace)]
/// struct Word { text: Slot<Bytes> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), OutOfMemory> {
///     let words = ["every", "object", "counts"];
///     // Each object and each tail: an object that is missing here is placed past the reserved size, and panics some day.
///     let texts = words.iter().fold(AllocSize::NONE, |room, word| room + AllocSize::tail::<Bytes>(word.len()));
///     let room = AllocSize::tail::<SlotArray<Word>>(words.len()) + AllocSize::of::<Word>().times(words.len()) + texts;
///     let m = m.reserve(room)?;
///     let word = |text: &&str| m.place(WordInit { text: m.place_bytes((), text.as_bytes()) });
///     let words = m.place_tail::<SlotArray<Word>, _>((), words.iter().map(word));
///     assert_eq!(words.tail()[1].get(m).text.get(m).tail(), b"object");
///     Ok(())
/// })??;
/// // A length from untrusted input needs no check of its own.
/// let refused = heap.enter(|m| m.reserve(AllocSize::tail::<Bytes>(usize::MAX).times(3)).is_err())?;
/// assert!(refused);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocSize {
    /// What the fast check compares with the rest of the TLAB: all bytes, or `MOST` when there is a
    /// large object.
    pub(crate) fast: usize,
    /// Bytes of objects that are not large, and of the largest of them.
    pub(crate) small: usize,
    pub(crate) largest: usize,
    /// Large objects, and the blocks that the largest of them takes.
    pub(crate) runs: usize,
    pub(crate) run_blocks: usize,
    /// Whether the memory for a large object is zeroed: its tail may have slots, or grows.
    pub(crate) slots: bool,
    /// Whether a large object grows: there are better free blocks behind it.
    pub(crate) grows: bool,
}

const fn sum(a: usize, b: usize) -> usize {
    let sum = a.saturating_add(b);
    if sum > MOST { MOST } else { sum }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

impl AllocSize {
    /// No room.
    pub const NONE: AllocSize =
        AllocSize { fast: 0, small: 0, largest: 0, runs: 0, run_blocks: 0, slots: false, grows: false };

    const fn bytes(bytes: Option<usize>, slots: bool, grows: bool) -> AllocSize {
        match bytes {
            Some(bytes) if bytes <= LARGE_BYTES => {
                AllocSize { fast: bytes, small: bytes, largest: bytes, ..AllocSize::NONE }
            }
            Some(bytes) if bytes < MOST => AllocSize { slots, grows, ..AllocSize::blocks(bytes.div_ceil(BLOCK_BYTES)) },
            _ => AllocSize { fast: MOST, small: MOST, ..AllocSize::NONE },
        }
    }

    /// Blocks in a row.
    pub(super) const fn blocks(count: usize) -> AllocSize {
        AllocSize { fast: MOST, runs: 1, run_blocks: count, ..AllocSize::NONE }
    }

    /// Room for one object of a type without a tail.
    #[inline(always)]
    #[must_use]
    pub const fn of<T: Trace>() -> AllocSize {
        AllocSize::bytes(T::KIND.checked_size_of(0), false, false)
    }

    /// Room for one object with a tail of `len` elements.
    #[inline(always)]
    #[must_use]
    pub const fn tail<T: Trace>(len: usize) -> AllocSize {
        AllocSize::bytes(T::KIND.checked_size_of(len), T::KIND.tail_may_have_slots() || T::GROWS, T::GROWS)
    }

    /// Room for both.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: AllocSize) -> AllocSize {
        AllocSize {
            fast: sum(self.fast, other.fast),
            small: sum(self.small, other.small),
            largest: max(self.largest, other.largest),
            runs: sum(self.runs, other.runs),
            run_blocks: max(self.run_blocks, other.run_blocks),
            slots: self.slots | other.slots,
            grows: self.grows | other.grows,
        }
    }

    /// Room for this `n` times.
    #[inline(always)]
    #[must_use]
    pub const fn times(self, n: usize) -> AllocSize {
        if n == 0 {
            return AllocSize::NONE;
        }
        let AllocSize { fast, small, largest, runs, run_blocks, slots, grows } = self;
        let fast = fast.saturating_mul(n);
        AllocSize {
            fast: if fast > MOST { MOST } else { fast },
            small: sum(small.saturating_mul(n), 0),
            largest,
            runs: sum(runs.saturating_mul(n), 0),
            run_blocks,
            slots,
            grows,
        }
    }

    /// Bytes in all (saturated).
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        sum(self.small, self.runs.saturating_mul(self.run_blocks).saturating_mul(BLOCK_BYTES))
    }
}

impl Add for AllocSize {
    type Output = AllocSize;

    #[inline(always)]
    fn add(self, other: AllocSize) -> AllocSize {
        self.and(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Bytes;

    #[test]
    fn rooms_add_up_and_saturate() {
        let message = AllocSize::tail::<Bytes>(1024);
        assert_eq!((message.fast, message.small, message.largest), (1040, 1040, 1040));
        let more = message.times(3) + AllocSize::tail::<Bytes>(1);
        assert_eq!((more.fast, more.largest, more.total_bytes()), (3 * 1040 + 24, 1040, 3 * 1040 + 24));
        for too_much in [
            AllocSize::tail::<Bytes>(usize::MAX),
            message.times(usize::MAX),
            AllocSize::tail::<Bytes>(isize::MAX as usize),
        ] {
            assert_eq!(too_much.fast, MOST);
            assert!((too_much + too_much).total_bytes() >= MOST.min(too_much.total_bytes()));
        }
    }

    #[test]
    fn large_objects_count_as_runs_of_blocks() {
        let large = AllocSize::tail::<Bytes>(LARGE_BYTES);
        assert_eq!((large.fast, large.small, large.runs, large.run_blocks), (MOST, 0, 1, 1));
        let two = large + AllocSize::tail::<Bytes>(5 * BLOCK_BYTES);
        assert_eq!((two.runs, two.run_blocks), (2, 6));
        assert_eq!(two.times(0), AllocSize::NONE);
    }
}
