//! What a number means: places in a heap, as types, so that one cannot be taken for another.
//!
//! An offset counts bytes from the start of the heap, and is a plain `usize`, as lengths are. The
//! types here count in larger units. Each is a `usize` in memory, and each conversion is the shift
//! or mask that it says.

/// Bytes of a granule: objects start at multiples of it.
pub const GRANULE_BYTES: usize = 8;
/// Bytes of a block: the unit of evacuation.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Granules of a block.
pub const BLOCK_GRANULES: usize = BLOCK_BYTES / GRANULE_BYTES;

/// A granule of the heap: where an object begins, or a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Granule(usize);

impl Granule {
    /// The granule with this number.
    #[inline(always)]
    #[must_use]
    pub const fn new(number: usize) -> Granule {
        Granule(number)
    }

    /// The granule at an offset, which is a multiple of its size.
    #[inline(always)]
    #[must_use]
    pub const fn at(offset: usize) -> Granule {
        debug_assert!(offset.is_multiple_of(GRANULE_BYTES), "no granule begins at this offset");
        Granule(offset / GRANULE_BYTES)
    }

    /// The granule of a block, by the block's number.
    #[inline(always)]
    #[must_use]
    pub const fn of_block(block: usize, granule: BlockGranule) -> Granule {
        Granule(block * BLOCK_GRANULES + granule.0)
    }

    /// Its number.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> usize {
        self.0
    }

    /// The offset at which it begins.
    #[inline(always)]
    #[must_use]
    pub const fn offset(self) -> usize {
        self.0 * GRANULE_BYTES
    }

    /// The number of its block.
    #[inline(always)]
    #[must_use]
    pub const fn block(self) -> usize {
        self.0 / BLOCK_GRANULES
    }

    /// Which granule of its block it is.
    #[inline(always)]
    #[must_use]
    pub const fn in_block(self) -> BlockGranule {
        BlockGranule(self.0 % BLOCK_GRANULES)
    }
}

/// A granule of a block, counted from the block's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct BlockGranule(usize);

impl BlockGranule {
    /// The first of a block.
    pub const FIRST: BlockGranule = BlockGranule(0);

    /// The granule with this number, below [`BLOCK_GRANULES`].
    #[inline(always)]
    #[must_use]
    pub const fn new(number: usize) -> BlockGranule {
        debug_assert!(number < BLOCK_GRANULES, "a block has no such granule");
        BlockGranule(number)
    }

    /// Its number.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> usize {
        self.0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_granule_is_its_block_and_its_place_there() {
        for number in [0, 1, BLOCK_GRANULES - 1, BLOCK_GRANULES, 5 * BLOCK_GRANULES + 17] {
            let granule = Granule::new(number);
            assert_eq!(Granule::at(granule.offset()), granule);
            assert_eq!(Granule::of_block(granule.block(), granule.in_block()), granule);
            assert_eq!(granule.offset() / BLOCK_BYTES, granule.block());
        }
    }
}
