//! Ephemerons: pairs of words, a key and a value that the key keeps alive.
//!
//! The key's word alone says whether there is a pair; where it is 0, the value's word is undefined
//! and nobody follows it. A mutator that stores a pair makes it empty, writes the value, and then
//! the key. The collector clears the key of a dead pair by compare-and-swap, and leaves the value
//! as it is.
//!
//! While marking, a pair whose key has no mark yet waits, by its key, until it gets one. Until the
//! marker first runs dry, pairs are only noted: most keys get their mark sooner or later. Then one
//! pass goes over them, and from there on every mark looks for the pairs that wait for it, so no
//! further pass is needed, however long the chains are, as long as there is room for the pairs that
//! wait. (If there is none, the marker passes over the blocks of pairs again.) What still waits at
//! mark end has a dead key.
//!
//! See "Ephemerons" in `docs/protocol.md`; `loom_ephemeron` runs these functions.

use crate::rules::{Rule, kept};
use crate::slot::{self, Barriers, Remap, Visited};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, store_last};
use crate::units::Offset;
use crate::weak::{self, WeakBarriers};
use crate::word::{GoodWord, Word};
use crate::zeroed::{with_room, with_room_for_one};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::PoisonError;

/// The pair of two slots, if its key is there: both words good. `values` are the barriers for the
/// value's slot.
#[inline(always)]
pub fn get(
    key: &AtomicU64,
    value: &AtomicU64,
    m: &impl WeakBarriers,
    values: &impl Barriers,
) -> Option<(GoodWord, GoodWord)> {
    let word = weak::load(key, m);
    (!word.is_null()).then(|| (word, slot::load(value, values)))
}

/// The value of the pair, if it has this key, which the caller has. Keeps no other key alive.
#[inline(always)]
pub fn value_of(
    key: &AtomicU64,
    value: &AtomicU64,
    wanted: GoodWord,
    m: &impl Barriers,
    values: &impl Barriers,
) -> Option<GoodWord> {
    has_key(key, wanted, m).then(|| slot::load(value, values))
}

/// Whether the pair has this key.
#[inline(always)]
pub fn has_key(key: &AtomicU64, wanted: GoodWord, m: &impl Barriers) -> bool {
    // Acquire: a thread that sees the key sees the value that was written before it.
    slot::load(key, m) == wanted
}

/// Replaces the pair by one of a key and a value, or removes it.
#[inline(always)]
pub fn set(key: &AtomicU64, value: &AtomicU64, pair: Option<(GoodWord, GoodWord)>, m: &impl Barriers) {
    let old = key.swap(0, Ordering::AcqRel);
    if old != 0 && m.is_logging() && kept(Rule::LogStores) {
        // Somebody may have it by this pair alone. (A key is not kept alive from here.)
        m.log(Word::of(value, Ordering::Acquire));
    }
    let Some((new_key, new_value)) = pair else { return };
    if !kept(Rule::ValueThenKey) {
        slot::publish(key, new_key.word());
    }
    // The marker reads the value as soon as it sees the key.
    slot::publish(value, new_value.word());
    if kept(Rule::ValueThenKey) {
        slot::publish(key, new_key.word());
    }
}

/// Empties a pair whose key is dead, after mark end: as [`weak::resolve`] of its key. `true`: it
/// was emptied.
pub fn resolve(
    key: &AtomicU64,
    value: &AtomicU64,
    is_reference: impl Fn(Word) -> bool,
    resolved: impl Fn(Word) -> GoodWord,
) -> bool {
    let cleared = weak::resolve(key, is_reference, resolved);
    if cleared && !kept(Rule::ClearKeyAlone) {
        store_last(value, 0, Ordering::Release);
    }
    cleared
}

/// What the marker does with a pair that it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Nothing: there is no pair.
    Empty,
    /// Visits the value: the key is live.
    Value,
    /// Comes back to it in the pass over all pairs.
    Later,
    /// Nothing: the pair waits for its key.
    Waits,
    /// Comes back to it when nothing else is left to mark: the key has no mark, and there is no
    /// room for the pair among those that wait.
    Full,
}

/// The marker comes to the pair at an offset, of a live object. Heals its key, which marks nothing.
/// `waiting` is there from the pass over all pairs on.
#[inline]
pub fn scan(
    key: &AtomicU64,
    pair: Offset,
    marker: &impl Remap,
    is_live: impl Fn(Offset) -> bool,
    waiting: Option<&PendingEphemerons>,
) -> Scan {
    // The value was written before the key. Without a key there is no value.
    let key = match slot::look(key, marker) {
        Visited::Nothing => return Scan::Empty,
        Visited::Exempt => return Scan::Value,
        Visited::Object(key) => key,
    };
    if is_live(key) {
        return Scan::Value;
    }
    match waiting {
        None => Scan::Later,
        Some(waiting) => waiting.wait_for(key, pair, || is_live(key)),
    }
}

/// Lists of waiting pairs; more than there are markers, so that they seldom meet.
const LISTS: usize = if cfg!(loom) { 2 } else { 64 };

const END: u32 = u32::MAX;

/// Offsets are multiples of 8: a multiplication spreads them well enough.
#[derive(Default)]
struct OffsetHasher(u64);

impl Hasher for OffsetHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_usize(byte as usize));
    }

    fn write_usize(&mut self, offset: usize) {
        self.0 = (self.0.rotate_left(5) ^ offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

#[derive(Debug)]
struct Pairs {
    /// By offset of the key, the first of its links.
    first: HashMap<Offset, u32, BuildHasherDefault<OffsetHasher>>,
    /// Offset of the pair, and the next link of the same key.
    links: Vec<(Offset, u32)>,
    /// The first of the links that are not in use, which are linked in the same way.
    free: u32,
}

impl Default for Pairs {
    fn default() -> Pairs {
        Pairs { first: HashMap::default(), links: Vec::new(), free: END }
    }
}

impl Pairs {
    /// Adds a pair. `false`: the allocator has no memory for it.
    fn add(&mut self, key: Offset, pair: Offset) -> bool {
        if self.first.try_reserve(1).is_err() || (self.free == END && with_room_for_one(&mut self.links).is_err()) {
            return false;
        }
        let link = match self.free {
            END => {
                self.links.push((pair, END));
                u32::try_from(self.links.len() - 1).expect("fewer pairs than words of a heap")
            }
            link => {
                (self.links[link as usize].0, self.free) = (pair, self.links[link as usize].1);
                link
            }
        };
        self.links[link as usize].1 = self.first.insert(key, link).unwrap_or(END);
        true
    }

    /// Visits the pairs of a key from a link on, and frees their links. Returns how many.
    fn visit(&mut self, mut link: u32, mut visit: impl FnMut(Offset)) -> usize {
        let mut visited = 0;
        while link != END {
            let (pair, next) = self.links[link as usize];
            self.links[link as usize].1 = std::mem::replace(&mut self.free, link);
            visit(pair);
            (link, visited) = (next, visited + 1);
        }
        visited
    }
}

/// One list, in cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct List(Mutex<Pairs>);

impl List {
    fn lock(&self) -> MutexGuard<'_, Pairs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pairs of one marking whose keys have no mark, as many as there is room for.
#[derive(Debug, Default)]
pub struct PendingEphemerons {
    /// None where the allocator had no memory for them, and by default: then no pair waits.
    lists: Vec<List>,
    pairs: AtomicUsize,
    /// How many may wait; several threads that add to different lists may exceed it by one each.
    room: AtomicUsize,
}

impl PendingEphemerons {
    /// With room for so many pairs, of about 40 to 80 bytes each while they wait; with none if the
    /// allocator has no memory for the lists themselves (8 KiB).
    #[must_use]
    pub fn new(room: usize) -> PendingEphemerons {
        let mut lists = with_room(LISTS).unwrap_or_default();
        if lists.capacity() > 0 {
            lists.resize_with(LISTS, List::default);
        }
        PendingEphemerons { lists, pairs: AtomicUsize::new(0), room: AtomicUsize::new(room) }
    }

    /// Makes room for twice as many pairs, or `least`.
    pub fn widen(&self, least: usize) {
        let room = self.room.load(Ordering::Relaxed);
        self.room.store(room.saturating_mul(2).max(least), Ordering::Relaxed);
    }

    fn list(&self, key: Offset) -> Option<&List> {
        self.lists.get(key.granule().number() % LISTS)
    }

    /// Lets the pair at an offset wait for its key ([`Scan::Waits`]). [`Scan::Value`]: `is_live`
    /// says that the key is live, so there is nothing to wait for. [`Scan::Full`]: the key is not,
    /// and there is no room.
    ///
    /// `is_live` is asked under the lock of the key's list: a marker that marks the key later takes
    /// the same lock and finds the pair. (A full answer needs no lock: the pass that comes back to
    /// the pair runs after the last mark.)
    ///
    /// Where the allocator has no memory there is room for no more pairs than wait now, until
    /// [`widen`](Self::widen): it would refuse the next ones too, at the price of a system call.
    pub fn wait_for(&self, key: Offset, pair: Offset, is_live: impl Fn() -> bool) -> Scan {
        let before = !kept(Rule::LookUnderLock) && is_live();
        let Some(list) = self.list(key) else { return if is_live() { Scan::Value } else { Scan::Full } };
        let mut list = list.lock();
        if before || kept(Rule::LookUnderLock) && is_live() {
            return Scan::Value;
        }
        if self.len() >= self.room.load(Ordering::Relaxed) {
            return Scan::Full;
        }
        if !list.add(key, pair) {
            self.room.store(self.len(), Ordering::Relaxed);
            return Scan::Full;
        }
        self.pairs.fetch_add(1, Ordering::Relaxed);
        Scan::Waits
    }

    /// Visits the pairs that wait for an object that the caller has just marked. `alone`: there is
    /// no other marker.
    #[inline]
    pub fn take(&self, key: Offset, alone: bool, visit: impl FnMut(Offset)) {
        // The number is exact for the only marker; of several, one may just be putting a pair
        // there.
        if alone && self.is_empty() || !kept(Rule::LookAfterMark) {
            return;
        }
        let Some(list) = self.list(key) else { return };
        let mut list = list.lock();
        let Some(link) = list.first.remove(&key) else { return };
        let taken = list.visit(link, visit);
        self.pairs.fetch_sub(taken, Ordering::Relaxed);
    }

    /// How many pairs wait. Exact for the only marker.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.load(Ordering::Relaxed)
    }

    /// Whether no pair waits. Exact for the only marker.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the lists: for as many pairs as ever waited at once.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |list: &Pairs| {
            let (first, link) = (size_of::<(Offset, u32)>() + 1, size_of::<(Offset, u32)>());
            list.first.capacity() * first + list.links.capacity() * link
        };
        self.lists.iter().map(|list| bytes(&list.lock())).sum()
    }

    /// Takes the pairs that wait. After the marking, the keys of those are dead; before its end it
    /// is called while no other marker runs.
    pub fn take_all(&self, mut visit: impl FnMut(Offset)) {
        for list in &self.lists {
            let Pairs { first, links, free } = &mut *list.lock();
            for (_, mut link) in first.drain() {
                while link != END {
                    let (pair, next) = links[link as usize];
                    visit(pair);
                    link = next;
                }
            }
            links.clear();
            *free = END;
        }
        self.pairs.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::units::Granule;

    /// A pair and its key, by number.
    fn wait(waiting: &PendingEphemerons, key: usize, pair: usize, is_live: bool) -> Scan {
        waiting.wait_for(Granule::new(key).offset(), Granule::new(pair).offset(), || is_live)
    }

    fn take(waiting: &PendingEphemerons, key: usize, mut visit: impl FnMut(usize)) {
        waiting.take(Granule::new(key).offset(), true, |pair| visit(pair.granule().number()));
    }

    fn take_all(waiting: &PendingEphemerons, mut visit: impl FnMut(usize)) {
        waiting.take_all(|pair| visit(pair.granule().number()));
    }

    #[test]
    fn pairs_wait_by_key_and_are_taken_once() {
        let waiting = PendingEphemerons::new(usize::MAX);
        for pair in 0..1000 {
            assert_eq!(wait(&waiting, pair % 10, pair, false), Scan::Waits);
        }
        assert_eq!(wait(&waiting, 1, 1, true), Scan::Value);
        assert_eq!(waiting.len(), 1000);
        let mut taken = Vec::new();
        take(&waiting, 3, |pair| taken.push(pair));
        taken.sort_unstable();
        assert_eq!(taken, (0..1000).filter(|pair| pair % 10 == 3).collect::<Vec<_>>());
        take(&waiting, 3, |_| panic!("taken before"));
        take(&waiting, 512, |_| panic!("nothing waits for it"));
        assert_eq!(wait(&waiting, 3, 1, false), Scan::Waits);
        let mut dead = Vec::new();
        take_all(&waiting, |pair| dead.push(pair));
        dead.sort_unstable();
        assert_eq!(dead.len(), 901);
        assert!(dead.windows(2).all(|pair| pair[0] < pair[1] || pair[0] == 1));
    }

    #[test]
    fn no_more_pairs_wait_than_there_is_room_for_and_their_room_is_used_again() {
        let waiting = PendingEphemerons::new(100);
        for round in 0..50 {
            for pair in 0..100 {
                assert_eq!(wait(&waiting, pair % 7, pair, false), Scan::Waits);
            }
            assert_eq!(wait(&waiting, 1, 1, false), Scan::Full);
            assert_eq!(wait(&waiting, 1, 1, true), Scan::Value);
            let mut taken = Vec::new();
            (0..6).for_each(|key| take(&waiting, key, |pair| taken.push(pair)));
            take_all(&waiting, |pair| taken.push(pair));
            taken.sort_unstable();
            assert_eq!(taken, (0..100).collect::<Vec<_>>(), "round {round}");
        }
        assert!(waiting.bytes() < 100 * 100 + LISTS * 100, "{} bytes", waiting.bytes());
        waiting.widen(0);
        assert!((0..200).all(|pair| wait(&waiting, 0, pair, false) == Scan::Waits));
        assert_eq!(wait(&waiting, 0, 1, false), Scan::Full);
    }
}
