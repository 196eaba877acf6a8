//! The remembered set: slots of old objects that were given references to young ones.
//!
//! A bit a word of the heap and sort of slot. So a slot is remembered once, however often it is
//! stored to; a block's slots are forgotten by clearing a range; and adding allocates nothing and
//! takes no lock.
//!
//! There are two parts. Mutators add to the one that is *now*; the collector works on the other,
//! *then*. A pause exchanges them. Whether a slot is remembered already is tested in the part that
//! is now, where no bit is cleared while a thread may store to its slot: so a store that finds its
//! slot remembered has nothing to add, and needs no fence between the store and the test.
//!
//! See "The remembered set" in `docs/protocol.md`; `loom_remembered` runs these functions.

use crate::rules::{Rule, kept};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::zeroed::{NoMemory, zeroed};
use std::ops::Range;

/// What a remembered slot is, which says what a collection does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sort {
    /// It keeps its object alive.
    Strong = 0,
    /// It does not.
    Weak = 1,
    /// The key of an ephemeron, for the whole pair: its value is in the next word.
    Pair = 2,
}

impl Sort {
    /// All of them.
    pub const ALL: [Sort; 3] = [Sort::Strong, Sort::Weak, Sort::Pair];
}

/// One part: a bitmap a sort.
type Part = [Box<[AtomicU64]>; 3];

/// The remembered slots of a heap, by granule (a word of the heap).
#[derive(Debug)]
pub struct RememberedSet {
    parts: [Part; 2],
    /// The part that is now. Changed in pauses alone.
    now: AtomicUsize,
}

impl RememberedSet {
    /// An empty set for a heap of so many granules. A page of the bitmaps takes memory once a bit
    /// in it is set.
    ///
    /// # Errors
    /// The program's allocator refuses the memory.
    pub fn new(granules: usize) -> Result<RememberedSet, NoMemory> {
        let map = || zeroed(granules.div_ceil(64));
        let part = || Ok([map()?, map()?, map()?]);
        Ok(RememberedSet { parts: [part()?, part()?], now: AtomicUsize::new(0) })
    }

    fn now(&self) -> &Part {
        // Relaxed: the pause orders it with all threads.
        &self.parts[self.now.load(Ordering::Relaxed)]
    }

    fn then(&self) -> &Part {
        &self.parts[1 - self.now.load(Ordering::Relaxed)]
    }

    /// Adds a slot. Any thread may, between two safepoints.
    ///
    /// Relaxed: the collector reads the bit after a pause that the thread has arrived at since, and
    /// the word of the slot too.
    #[inline]
    pub fn add(&self, slot: usize, sort: Sort) {
        let bit = 1 << (slot % 64);
        let word = |part: &'_ Part| part[sort as usize][slot / 64].load(Ordering::Relaxed);
        if word(self.now()) & bit != 0 || !kept(Rule::LookInNow) && word(self.then()) & bit != 0 {
            return;
        }
        let map = &self.now()[sort as usize][slot / 64];
        if kept(Rule::RememberByRmw) {
            map.fetch_or(bit, Ordering::Relaxed);
        } else {
            map.store(map.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
        }
    }

    /// Whether a slot is in the part that is now.
    #[must_use]
    pub fn contains(&self, slot: usize, sort: Sort) -> bool {
        self.now()[sort as usize][slot / 64].load(Ordering::Relaxed) >> (slot % 64) & 1 != 0
    }

    /// Exchanges the parts. Called in a pause, when the part that is then is empty: see
    /// [`take_then`](Self::take_then).
    pub fn exchange(&self) {
        // No other thread writes it.
        self.now.store(1 - self.now.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Takes the slots that were remembered before the last exchange. Called by the collector,
    /// before the next one.
    pub fn take_then(&self, mut visit: impl FnMut(usize, Sort)) {
        for sort in Sort::ALL {
            for (index, word) in self.then()[sort as usize].iter().enumerate() {
                // Read first: a page where no bit was ever set stays without memory.
                let mut bits = word.load(Ordering::Relaxed);
                if bits != 0 {
                    word.store(0, Ordering::Relaxed);
                }
                while bits != 0 {
                    visit(index * 64 + bits.trailing_zeros() as usize, sort);
                    bits &= bits - 1;
                }
            }
        }
    }

    /// Forgets the slots in a range of granules, whole words of the bitmap, in both parts: no
    /// thread may store to one of them, because nothing that lives is there.
    pub fn forget(&self, slots: Range<usize>) {
        debug_assert!(slots.start.is_multiple_of(64) && slots.end.is_multiple_of(64));
        let words = self.parts.iter().flatten().flat_map(|map| &map[slots.start / 64..slots.end / 64]);
        words.filter(|word| word.load(Ordering::Relaxed) != 0).for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// How many slots are in the part that is now.
    #[must_use]
    pub fn len(&self) -> usize {
        let words = self.now().iter().flatten();
        words.map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// Whether no slot is in the part that is now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.now().iter().flatten().all(|word| word.load(Ordering::Relaxed) == 0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn taken(set: &RememberedSet) -> Vec<(usize, Sort)> {
        let mut taken = Vec::new();
        set.take_then(|slot, sort| taken.push((slot, sort)));
        taken
    }

    #[test]
    fn what_is_added_is_taken_once_after_an_exchange() {
        let set = RememberedSet::new(1000).unwrap();
        for slot in [3, 64, 999, 3] {
            set.add(slot, Sort::Strong);
        }
        set.add(3, Sort::Weak);
        set.add(8, Sort::Pair);
        assert_eq!((set.len(), taken(&set)), (5, vec![]));
        set.exchange();
        assert!(set.is_empty());
        set.add(64, Sort::Strong);
        let strong = [3, 64, 999].map(|slot| (slot, Sort::Strong));
        assert_eq!(taken(&set), [&strong[..], &[(3, Sort::Weak), (8, Sort::Pair)]].concat());
        assert_eq!(taken(&set), []);
        set.exchange();
        assert_eq!(taken(&set), [(64, Sort::Strong)]);
    }

    #[test]
    fn a_range_is_forgotten_in_both_parts() {
        let set = RememberedSet::new(256).unwrap();
        for _ in 0..2 {
            for slot in 0..256 {
                Sort::ALL.into_iter().for_each(|sort| set.add(slot, sort));
            }
            set.exchange();
        }
        set.forget(64..192);
        assert_eq!(set.len(), 3 * 128);
        assert!(taken(&set).iter().all(|(slot, _)| !(64..192).contains(slot)));
        assert!(set.contains(63, Sort::Pair) && !set.contains(64, Sort::Strong));
    }
}
