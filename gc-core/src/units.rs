//! What a number means: places in a heap, as types, so that one cannot be taken for another.
//!
//! [`Offset`] counts bytes from the start of the heap; [`Granule`], [`Page`] and [`Block`] count in
//! larger units. Each is a `usize` in memory, and each conversion is the shift or mask that it
//! says.
//!
//! How many there are of something, blocks as well as bytes, is a `usize`: places are numbered,
//! things are counted. A place and a count add up to a place, and the difference of two places is a
//! count.
//!
//! [`views`](crate::views) and [`sys`](crate::sys) know files and mappings, and no heap: what they
//! take is a `usize` of bytes, which [`Offset::bytes`] gives.

use std::fmt;
use std::ops::{Add, AddAssign, Range, Sub, SubAssign};

/// Bytes of a granule: objects start at multiples of it.
pub const GRANULE_BYTES: usize = 8;
/// Bytes of a block: the unit of evacuation.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Granules of a block.
pub const BLOCK_GRANULES: usize = BLOCK_BYTES / GRANULE_BYTES;
/// 64-bit words of a block's mark bits.
pub const BLOCK_MARK_WORDS: usize = BLOCK_GRANULES / 64;
/// Bytes of a page: the unit of gating and repair, with the page barrier.
pub const PAGE_BYTES: usize = 4096;
/// Pages of a block.
pub const BLOCK_PAGES: usize = BLOCK_BYTES / PAGE_BYTES;

/// Sums and differences of places and counts.
macro_rules! counted {
    ($place:ident) => {
        impl Add<usize> for $place {
            type Output = $place;

            #[inline(always)]
            fn add(self, count: usize) -> $place {
                $place(self.0 + count)
            }
        }

        impl AddAssign<usize> for $place {
            #[inline(always)]
            fn add_assign(&mut self, count: usize) {
                self.0 += count;
            }
        }

        impl Sub<usize> for $place {
            type Output = $place;

            #[inline(always)]
            fn sub(self, count: usize) -> $place {
                $place(self.0 - count)
            }
        }

        impl SubAssign<usize> for $place {
            #[inline(always)]
            fn sub_assign(&mut self, count: usize) {
                self.0 -= count;
            }
        }

        impl Sub for $place {
            type Output = usize;

            #[inline(always)]
            fn sub(self, before: $place) -> usize {
                self.0 - before.0
            }
        }
    };
}

/// What places of one unit have in common.
macro_rules! numbered {
    ($place:ident, $one:literal) => {
        impl $place {
            #[doc = concat!("The ", $one, " with this number.")]
            #[inline(always)]
            #[must_use]
            pub const fn new(number: usize) -> $place {
                $place(number)
            }

            /// Its number.
            #[inline(always)]
            #[must_use]
            pub const fn number(self) -> usize {
                self.0
            }

            /// Those of a range, in ascending order.
            #[inline(always)]
            pub fn range(range: Range<$place>) -> impl DoubleEndedIterator<Item = $place> + ExactSizeIterator + Clone {
                (range.start.0..range.end.0).map($place)
            }

            /// So many in a row, of which this is the first.
            #[inline(always)]
            pub fn run(self, len: usize) -> impl DoubleEndedIterator<Item = $place> + ExactSizeIterator + Clone {
                $place::range(self..self + len)
            }
        }

        counted!($place);
    };
}

/// A byte of the heap, counted from its start; behind the heap proper, of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Offset(usize);

counted!(Offset);

impl Offset {
    /// So many bytes from the start of the heap.
    #[inline(always)]
    #[must_use]
    pub const fn new(bytes: usize) -> Offset {
        Offset(bytes)
    }

    /// Bytes from the start of the heap.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0
    }

    /// The address in a view that begins at `view`.
    #[inline(always)]
    #[must_use]
    pub const fn in_view(self, view: u64) -> u64 {
        view + self.0 as u64
    }

    /// The offset of a word that comes so many words behind the one here.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, index: usize) -> Offset {
        Offset(self.0 + index * GRANULE_BYTES)
    }

    /// The granule that begins here.
    #[inline(always)]
    #[must_use]
    pub const fn granule(self) -> Granule {
        debug_assert!(self.0.is_multiple_of(GRANULE_BYTES), "no granule begins at this offset");
        Granule(self.0 / GRANULE_BYTES)
    }

    /// The page that holds the byte.
    #[inline(always)]
    #[must_use]
    pub const fn page(self) -> Page {
        Page(self.0 / PAGE_BYTES)
    }

    /// The block that holds the byte.
    #[inline(always)]
    #[must_use]
    pub const fn block(self) -> Block {
        Block(self.0 / BLOCK_BYTES)
    }
}

impl fmt::LowerHex for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// A block of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Block(usize);

numbered!(Block, "block");

impl Block {
    /// The offset at which it begins.
    #[inline(always)]
    #[must_use]
    pub const fn start(self) -> Offset {
        Offset(self.0 * BLOCK_BYTES)
    }

    /// One of its granules.
    #[inline(always)]
    #[must_use]
    pub const fn granule(self, granule: BlockGranule) -> Granule {
        Granule(self.0 * BLOCK_GRANULES + granule.0)
    }

    /// Its granules.
    #[inline(always)]
    #[must_use]
    pub const fn granules(self) -> Range<Granule> {
        Granule(self.0 * BLOCK_GRANULES)..Granule((self.0 + 1) * BLOCK_GRANULES)
    }

    /// The words of the mark bitmap that hold its bits.
    #[inline(always)]
    #[must_use]
    pub const fn mark_words(self) -> Range<usize> {
        self.0 * BLOCK_MARK_WORDS..(self.0 + 1) * BLOCK_MARK_WORDS
    }

    /// Its pages.
    #[inline(always)]
    #[must_use]
    pub const fn pages(self) -> Range<Page> {
        Page(self.0 * BLOCK_PAGES)..Page((self.0 + 1) * BLOCK_PAGES)
    }
}

/// A page of the heap's file, which holds roots too, behind the heap proper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Page(usize);

numbered!(Page, "page");

impl Page {
    /// The pages that hold the `bytes` from an offset on.
    #[inline(always)]
    #[must_use]
    pub const fn holding(start: Offset, bytes: usize) -> Range<Page> {
        start.page()..Page((start.0 + bytes).div_ceil(PAGE_BYTES))
    }

    /// The offset at which it begins.
    #[inline(always)]
    #[must_use]
    pub const fn start(self) -> Offset {
        Offset(self.0 * PAGE_BYTES)
    }

    /// The bytes of the pages of a range.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(pages: &Range<Page>) -> Range<usize> {
        pages.start.start().0..pages.end.start().0
    }

    /// The block that it is part of; behind the heap proper, one that there is not.
    #[inline(always)]
    #[must_use]
    pub const fn block(self) -> Block {
        Block(self.0 / BLOCK_PAGES)
    }

    /// The words of the mark bitmap that hold the bits of its granules.
    #[inline(always)]
    #[must_use]
    pub const fn mark_words(self) -> Range<usize> {
        const WORDS: usize = PAGE_BYTES / GRANULE_BYTES / 64;
        self.0 * WORDS..(self.0 + 1) * WORDS
    }
}

/// A granule of the heap: where an object begins, or a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Granule(usize);

numbered!(Granule, "granule");

impl Granule {
    /// The offset at which it begins.
    #[inline(always)]
    #[must_use]
    pub const fn offset(self) -> Offset {
        Offset(self.0 * GRANULE_BYTES)
    }

    /// Its block.
    #[inline(always)]
    #[must_use]
    pub const fn block(self) -> Block {
        Block(self.0 / BLOCK_GRANULES)
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
            assert_eq!(granule.offset().granule(), granule);
            assert_eq!(granule.block().granule(granule.in_block()), granule);
            assert_eq!(granule.offset().block(), granule.block());
            assert!(granule.block().granules().contains(&granule));
        }
    }

    #[test]
    fn places_are_counted_on_from() {
        let block = Block::new(3);
        assert!(block.run(2).eq([block, block + 1]) && block.run(2).rev().eq([block + 1, block]));
        assert_eq!((block.run(2).len(), (block + 5) - block, (block + 1) - 1), (2, 5, block));
        assert_eq!((block.start(), (block + 1).start()), (Offset::new(3 * BLOCK_BYTES), Offset::new(4 * BLOCK_BYTES)));
        assert_eq!(block.mark_words().start * 64, block.granules().start.number());
    }

    #[test]
    fn the_pages_of_a_block_are_those_of_its_bytes() {
        let block = Block::new(3);
        let pages = block.pages();
        assert_eq!(Page::holding(block.start(), BLOCK_BYTES), pages);
        assert_eq!(Page::bytes(&pages), block.start().bytes()..(block + 1).start().bytes());
        assert!(Page::range(pages.clone()).all(|page| page.block() == block && page == page.start().page()));
        let words = (pages.start.mark_words().start, (pages.end - 1).mark_words().end);
        assert_eq!(words, (block.mark_words().start, block.mark_words().end));
        assert_eq!(Page::holding(block.start() + 1, PAGE_BYTES), pages.start..pages.start + 2);
    }
}
