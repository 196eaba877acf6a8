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
use crate::slot::heal;
use crate::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use crate::units::Granule;
use crate::word::{GoodWord, Word};
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

/// Granules of which one byte says whether a bit may be set: a search reads no others.
const CHUNK: usize = 8192;

/// One part.
#[derive(Debug)]
struct Part {
    /// A bitmap a sort.
    maps: [Box<[AtomicU64]>; 3],
    /// By chunk, whether it has bits. Set after the bit; both are read after a pause.
    chunks: Box<[AtomicU8]>,
}

impl Part {
    fn new(granules: usize) -> Result<Part, NoMemory> {
        let map = || zeroed(granules.div_ceil(64));
        Ok(Part { maps: [map()?, map()?, map()?], chunks: zeroed(granules.div_ceil(CHUNK))? })
    }

    fn word(&self, slot: Granule, sort: Sort) -> &AtomicU64 {
        &self.maps[sort as usize][slot.number() / 64]
    }

    /// Visits the words that are not 0, each with the number of its first granule.
    fn each_word(&self, mut visit: impl FnMut(&AtomicU64, u64, Granule, Sort)) {
        for (chunk, _) in self.chunks.iter().enumerate().filter(|(_, has_bits)| has_bits.load(Ordering::Relaxed) != 0) {
            for sort in Sort::ALL {
                let map = &self.maps[sort as usize];
                for index in (chunk * CHUNK / 64)..((chunk + 1) * CHUNK / 64).min(map.len()) {
                    let bits = map[index].load(Ordering::Relaxed);
                    if bits != 0 {
                        visit(&map[index], bits, Granule::new(index * 64), sort);
                    }
                }
            }
        }
    }
}

fn each_bit(mut bits: u64, mut visit: impl FnMut(usize)) {
    while bits != 0 {
        visit(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

/// The remembered slots of a heap.
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
        Ok(RememberedSet { parts: [Part::new(granules)?, Part::new(granules)?], now: AtomicUsize::new(0) })
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
    pub fn add(&self, slot: Granule, sort: Sort) {
        let bit = 1 << (slot.number() % 64);
        let word = |part: &'_ Part| part.word(slot, sort).load(Ordering::Relaxed);
        if word(self.now()) & bit != 0 || !kept(Rule::LookInNow) && word(self.then()) & bit != 0 {
            return;
        }
        let map = self.now().word(slot, sort);
        if kept(Rule::RememberByRmw) {
            map.fetch_or(bit, Ordering::Relaxed);
        } else {
            map.store(map.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
        }
        let chunk = &self.now().chunks[slot.number() / CHUNK];
        // Read first: most slots of a chunk find it set, and its cache line stays shared.
        if chunk.load(Ordering::Relaxed) == 0 {
            chunk.store(1, Ordering::Relaxed);
        }
    }

    /// Visits a slot of an old object after a relocation, when all objects have their places: heals
    /// it, and remembers `entry` if what it leads to is young. `resolve` gives of a young word,
    /// stale or good, whether its object is old now, and its good word; `None` of all others.
    ///
    /// It remembers by what it has found, whichever thread has healed or overwritten the slot
    /// meanwhile: a mutator that heals remembers nothing.
    pub fn revisit(
        &self,
        slot: &AtomicU64,
        entry: Granule,
        sort: Sort,
        resolve: impl Fn(Word) -> Option<(bool, GoodWord)>,
    ) {
        // Acquire: the object may be a mutator's.
        let word = Word::of(slot, Ordering::Acquire);
        let Some((is_old, good)) = resolve(word) else { return };
        let is_own = good.word() == word || heal(slot, word, good);
        if !is_old && (is_own || kept(Rule::RememberFound)) {
            self.add(entry, sort);
        }
    }

    /// Whether a slot is in the part that is now.
    #[must_use]
    pub fn contains(&self, slot: Granule, sort: Sort) -> bool {
        self.now().word(slot, sort).load(Ordering::Relaxed) >> (slot.number() % 64) & 1 != 0
    }

    /// Whether a slot is in one of the parts. For verification.
    #[must_use]
    pub fn contains_in_any(&self, slot: Granule, sort: Sort) -> bool {
        self.parts.iter().any(|part| part.word(slot, sort).load(Ordering::Relaxed) >> (slot.number() % 64) & 1 != 0)
    }

    /// Exchanges the parts. Called in a pause, when the part that is then is empty: see
    /// [`take_then`](Self::take_then).
    pub fn exchange(&self) {
        // No other thread writes it.
        self.now.store(1 - self.now.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Takes the slots that were remembered before the last exchange. Called by the collector,
    /// before the next one.
    pub fn take_then(&self, mut visit: impl FnMut(Granule, Sort)) {
        self.then().each_word(|word, bits, first, sort| {
            word.store(0, Ordering::Relaxed);
            each_bit(bits, |bit| visit(first + bit, sort));
        });
        let chunks = self.then().chunks.iter().filter(|chunk| chunk.load(Ordering::Relaxed) != 0);
        chunks.for_each(|chunk| chunk.store(0, Ordering::Relaxed));
    }

    /// Visits the slots that were remembered before the last exchange, and keeps them.
    pub fn each_then(&self, mut visit: impl FnMut(Granule, Sort)) {
        self.then().each_word(|_, bits, first, sort| each_bit(bits, |bit| visit(first + bit, sort)));
    }

    /// Forgets the slots in a range of granules, whole words of the bitmap, in both parts: no
    /// thread may store to one of them, because nothing that lives is there.
    pub fn forget(&self, slots: Range<Granule>) {
        let slots = slots.start.number()..slots.end.number();
        debug_assert!(slots.start.is_multiple_of(64) && slots.end.is_multiple_of(64));
        let chunks = slots.start / CHUNK..slots.end.div_ceil(CHUNK);
        let has_bits = |part: &&Part| part.chunks[chunks.clone()].iter().any(|bits| bits.load(Ordering::Relaxed) != 0);
        let maps = self.parts.iter().filter(has_bits).flat_map(|part| &part.maps);
        let words = maps.flat_map(|map| &map[slots.start / 64..slots.end / 64]);
        words.filter(|word| word.load(Ordering::Relaxed) != 0).for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// How many slots are in the part that is now.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut len = 0;
        self.now().each_word(|_, bits, _, _| len += bits.count_ones() as usize);
        len
    }

    /// Whether no slot is in the part that is now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn taken(set: &RememberedSet) -> Vec<(usize, Sort)> {
        let mut taken = Vec::new();
        set.take_then(|slot, sort| taken.push((slot.number(), sort)));
        taken
    }

    #[test]
    fn what_is_added_is_taken_once_after_an_exchange() {
        let set = RememberedSet::new(1000).unwrap();
        let add = |slot, sort| set.add(Granule::new(slot), sort);
        [3, 64, 999, 3].into_iter().for_each(|slot| add(slot, Sort::Strong));
        add(3, Sort::Weak);
        add(8, Sort::Pair);
        assert_eq!((set.len(), taken(&set)), (5, vec![]));
        set.exchange();
        assert!(set.is_empty());
        add(64, Sort::Strong);
        let strong = [3, 64, 999].map(|slot| (slot, Sort::Strong));
        let all = [&strong[..], &[(3, Sort::Weak), (8, Sort::Pair)]].concat();
        let mut seen = Vec::new();
        set.each_then(|slot, sort| seen.push((slot.number(), sort)));
        assert_eq!((seen, taken(&set)), (all.clone(), all));
        assert_eq!(taken(&set), []);
        set.exchange();
        assert_eq!(taken(&set), [(64, Sort::Strong)]);
    }

    #[test]
    fn a_range_is_forgotten_in_both_parts() {
        let set = RememberedSet::new(256).unwrap();
        for _ in 0..2 {
            for slot in Granule::new(0).run(256) {
                Sort::ALL.into_iter().for_each(|sort| set.add(slot, sort));
            }
            set.exchange();
        }
        set.forget(Granule::new(64)..Granule::new(192));
        assert_eq!(set.len(), 3 * 128);
        assert!(taken(&set).iter().all(|(slot, _)| !(64..192).contains(slot)));
        let contains = |slot, sort| set.contains(Granule::new(slot), sort);
        assert!(contains(63, Sort::Pair) && !contains(64, Sort::Strong));
    }
}
