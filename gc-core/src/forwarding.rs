//! The forwarding table of one evacuated block: the new address of each of its live objects.
//!
//! It lives outside the heap and owns a copy of the block's mark bits, so the block's memory and
//! mark bits can be used again at once, while stale pointers into it are still told apart by their
//! color. An object's entry is found by the rank of its mark bit. An entry changes once from "none"
//! to a destination, by compare-and-swap; the destination is the object's own address if there was
//! no memory to copy it to.

use crate::sync::atomic::{AtomicU64, Ordering, fence};
pub use crate::units::BLOCK_MARK_WORDS;
use crate::units::{BlockGranule, Granule};
use crate::zeroed::{NoMemory, zeroed};

/// 64 mark bits and the rank that a lookup needs with them, in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
struct MarkWord {
    bits: u64,
    /// Live objects of the block that begin before these.
    rank: u32,
}

/// Destinations of the live objects of one block.
#[derive(Debug)]
pub struct Forwarding {
    words: [MarkWord; BLOCK_MARK_WORDS],
    /// 0 if the object has not moved yet; otherwise the heap granule of its destination plus 1, so
    /// that granule 0 can be a destination.
    entries: Box<[AtomicU64]>,
}

impl Forwarding {
    /// The forwarding of a block with these frozen mark bits, no object moved yet.
    ///
    /// # Errors
    /// The program's allocator refuses the memory.
    pub fn new(bits: [u64; BLOCK_MARK_WORDS]) -> Result<Forwarding, NoMemory> {
        let mut live = 0;
        let words = bits.map(|bits| {
            let rank = live;
            live += bits.count_ones();
            MarkWord { bits, rank }
        });
        Ok(Forwarding { words, entries: zeroed(live as usize)? })
    }

    /// The mark bits it was made with.
    #[must_use]
    pub fn bits(&self) -> [u64; BLOCK_MARK_WORDS] {
        self.words.map(|word| word.bits)
    }

    /// The address that [`entry`](Forwarding::entry) reads first for a granule, to prefetch it.
    #[inline(always)]
    #[must_use]
    pub fn word_address(&self, granule: BlockGranule) -> *const u8 {
        self.words.as_ptr().wrapping_add(granule.number() / 64).cast()
    }

    /// Live objects of the block.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.entries.len()
    }

    /// The entry of the object at a granule of the block; `None` where no live object begins there.
    #[inline]
    #[must_use]
    pub fn entry(&self, granule: BlockGranule) -> Option<Entry<'_>> {
        let granule = granule.number();
        let MarkWord { bits, rank } = self.words[granule / 64];
        let bit = granule % 64;
        if bits >> bit & 1 == 0 {
            return None;
        }
        let below = (bits & ((1 << bit) - 1)).count_ones();
        Some(Entry(&self.entries[(rank + below) as usize]))
    }

    /// The granules at which live objects begin, in address order, with their entries.
    pub fn iter(&self) -> impl Iterator<Item = (BlockGranule, Entry<'_>)> {
        self.iter_from(BlockGranule::FIRST)
    }

    /// As [`iter`](Forwarding::iter), of the objects that begin at `granule` or after it. Allocates
    /// nothing.
    pub fn iter_from(&self, granule: BlockGranule) -> impl Iterator<Item = (BlockGranule, Entry<'_>)> {
        let first = granule.number() / 64;
        let above = u64::MAX << (granule.number() % 64);
        let MarkWord { bits, rank } = self.words[first];
        let skipped = (rank + (bits & !above).count_ones()) as usize;
        let starts = self.words[first..].iter().enumerate().flat_map(move |(index, word)| {
            let word = if index == 0 { word.bits & above } else { word.bits };
            std::iter::successors((word != 0).then_some(word), |w| {
                let rest = w & (w - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |w| BlockGranule::new((first + index) * 64 + w.trailing_zeros() as usize))
        });
        starts.zip(self.entries[skipped..].iter().map(Entry))
    }
}

/// A thread calls this after it has allocated memory that may have held evacuated objects, and
/// before it writes there in any way.
///
/// Release: what is written after is seen by [`Entry::read_unmoved`] only together with the
/// destinations that were published before the memory was released. (Allocating the memory orders
/// only the thread that allocates it after them.) No instruction on x86-64, where other processors
/// see stores in program order.
#[inline(always)]
pub fn before_reuse() {
    fence(Ordering::Release);
}

/// One object's entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a>(&'a AtomicU64);

impl Entry<'_> {
    /// The address of the entry, to prefetch it.
    #[inline(always)]
    #[must_use]
    pub fn address(&self) -> *const u8 {
        std::ptr::from_ref(self.0).cast()
    }

    /// Publishes a destination while no other thread can: the plan fixes it before any thread looks
    /// it up. (Release.)
    #[inline]
    pub fn set(&self, granule: Granule) {
        self.0.store(published(granule), Ordering::Release);
    }

    /// The heap granule at which the object is now, once published. Acquire: a thread that sees a
    /// destination sees the copy.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Option<Granule> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            found => Some(Granule::new(found as usize - 1)),
        }
    }

    /// Reads part of the object at its old address, whose memory may be released and written again
    /// meanwhile: `Err` then gives the object's new place. An `Ok` value was read before any reuse,
    /// because memory is released only when all its entries are published, and the thread that
    /// allocates it calls [`before_reuse`] first.
    ///
    /// # Errors
    /// The granule of the destination, if it was published before `read` returned: the value that
    /// `read` returned may then not belong to the object.
    #[inline(always)]
    pub fn read_unmoved<T>(&self, read: impl FnOnce() -> T) -> Result<T, Granule> {
        let found = read();
        // The load of the entry stays after the loads of `read`; and if one of these has seen a
        // store made after `before_reuse`, the two fences synchronise, and the load sees the
        // destination.
        fence(Ordering::Acquire);
        self.destination().map_or(Ok(found), Err)
    }

    /// Offers a heap granule as destination. `Ok` if this call published it; otherwise `Err` with
    /// the one that was published first.
    ///
    /// Release on success: the copy was written before. Acquire on failure: the winner's copy can
    /// be read.
    #[inline]
    pub fn publish(&self, granule: Granule) -> Result<(), Granule> {
        match self.0.compare_exchange(0, published(granule), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(first) => Err(Granule::new(first as usize - 1)),
        }
    }
}

/// The word of an entry whose object is at a granule.
#[inline(always)]
const fn published(granule: Granule) -> u64 {
    granule.number() as u64 + 1
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn bits(granules: &[usize]) -> [u64; BLOCK_MARK_WORDS] {
        let mut bits = [0; BLOCK_MARK_WORDS];
        for g in granules {
            bits[g / 64] |= 1 << (g % 64);
        }
        bits
    }

    #[test]
    fn entries_are_found_by_rank() {
        let starts = [0, 1, 63, 64, 700, 8191];
        let forwarding = Forwarding::new(bits(&starts)).unwrap();
        assert_eq!(forwarding.objects(), starts.len());
        let entry = |number| forwarding.entry(BlockGranule::new(number));
        for (i, &g) in starts.iter().enumerate() {
            entry(g).unwrap().publish(Granule::new(1000 + i)).unwrap();
        }
        for (i, &g) in starts.iter().enumerate() {
            assert_eq!(entry(g).unwrap().destination(), Some(Granule::new(1000 + i)));
        }
        assert!(entry(2).is_none() && entry(8190).is_none());
        let numbers = |(at, entry): (BlockGranule, Entry<'_>)| (at.number(), entry.destination().unwrap().number());
        for from in [0, 1, 2, 63, 64, 65, 700, 701, 8191] {
            let after: Vec<_> = forwarding.iter_from(BlockGranule::new(from)).map(numbers).collect();
            let expected = starts.iter().enumerate().filter(|(_, g)| **g >= from).map(|(i, &g)| (g, 1000 + i));
            assert_eq!(after, expected.collect::<Vec<_>>(), "from {from}");
        }
        let walked: Vec<_> = forwarding.iter().map(numbers).collect();
        let expected: Vec<_> = starts.iter().enumerate().map(|(i, &g)| (g, 1000 + i)).collect();
        assert_eq!(walked, expected);
    }

    #[test]
    fn the_first_publication_stands() {
        let forwarding = Forwarding::new(bits(&[5])).unwrap();
        let entry = forwarding.entry(BlockGranule::new(5)).unwrap();
        let [first, second] = [0, 9].map(Granule::new);
        assert_eq!(entry.destination(), None);
        assert_eq!(entry.publish(first), Ok(()));
        assert_eq!(entry.publish(second), Err(first));
        assert_eq!(entry.destination(), Some(first));
    }
}
