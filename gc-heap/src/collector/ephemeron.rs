//! Ephemerons during marking: pairs whose key is not marked yet wait, listed by key, until it is
//! marked.
//!
//! Until the marker's queues are empty for the first time, pairs are only recorded: most keys are
//! marked sooner or later. Then one pass visits them, and from then on every mark looks up the
//! pairs that wait for it, so no further pass is needed, however long the chains are. A pair that
//! still waits at mark end has a dead key. See "Ephemerons" in `docs/protocol.md`.

use crate::lock::Mutex;
use crossbeam_utils::CachePadded;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of lists of waiting pairs; more than there are markers, to reduce contention.
const LISTS: usize = 64;

const END: u32 = u32::MAX;

/// Offsets are multiples of 8: a multiplication distributes them well enough.
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

#[derive(Default)]
struct List {
    /// By offset of the key, the first of its links.
    first: HashMap<usize, u32, BuildHasherDefault<OffsetHasher>>,
    /// Offset of the pair, and the next link of the same key.
    links: Vec<(usize, u32)>,
}

/// The pairs of one marking whose keys are not marked.
pub(crate) struct PendingEphemerons {
    lists: Box<[CachePadded<Mutex<List>>]>,
    pairs: AtomicUsize,
}

impl Default for PendingEphemerons {
    fn default() -> PendingEphemerons {
        PendingEphemerons { lists: (0..LISTS).map(|_| CachePadded::default()).collect(), pairs: AtomicUsize::new(0) }
    }
}

impl PendingEphemerons {
    fn list(&self, key: usize) -> &Mutex<List> {
        &self.lists[key / 8 % LISTS]
    }

    /// Lists the pair at an offset under its key. `false`: `is_live` returned `true`, so the pair
    /// need not wait.
    ///
    /// `is_live` is evaluated under the bucket lock; a marker that marks the key later takes the
    /// same lock and finds the entry.
    pub(crate) fn wait_for(&self, key: usize, pair: usize, is_live: impl FnOnce() -> bool) -> bool {
        let mut list = self.list(key).lock();
        if is_live() {
            return false;
        }
        let link = u32::try_from(list.links.len()).expect("fewer pairs than words of a heap");
        let next = list.first.insert(key, link).unwrap_or(END);
        list.links.push((pair, next));
        self.pairs.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Visits the pairs that wait for an object that has just been marked.
    #[inline]
    pub(crate) fn take(&self, key: usize, mut visit: impl FnMut(usize)) {
        let mut list = self.list(key).lock();
        let Some(mut link) = list.first.remove(&key) else { return };
        let mut taken = 0;
        while link != END {
            let (pair, next) = list.links[link as usize];
            visit(pair);
            link = next;
            taken += 1;
        }
        self.pairs.fetch_sub(taken, Ordering::Relaxed);
    }

    /// Number of waiting pairs. Exact if there is one marker.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.pairs.load(Ordering::Relaxed)
    }

    /// Bytes of the lists: of every pair that ever waited.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |list: &List| {
            let (first, link) = (size_of::<(usize, u32)>() + 1, size_of::<(usize, u32)>());
            list.first.capacity() * first + list.links.capacity() * link
        };
        self.lists.iter().map(|list| bytes(&list.lock())).sum()
    }

    /// The pairs that still wait: their keys are dead.
    pub(crate) fn into_dead(self) -> Vec<usize> {
        let mut dead = Vec::with_capacity(self.len());
        for list in self.lists {
            let List { first, links } = CachePadded::into_inner(list).into_inner();
            for mut link in first.into_values() {
                while link != END {
                    let (pair, next) = links[link as usize];
                    dead.push(pair);
                    link = next;
                }
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_wait_by_key_and_are_taken_once() {
        let waiting = PendingEphemerons::default();
        for pair in 0..1000 {
            assert!(waiting.wait_for(pair % 10 * 8, pair * 16, || false));
        }
        assert!(!waiting.wait_for(8, 16, || true));
        assert_eq!(waiting.len(), 1000);
        let mut taken = Vec::new();
        waiting.take(24, |pair| taken.push(pair / 16));
        taken.sort_unstable();
        assert_eq!(taken, (0..1000).filter(|pair| pair % 10 == 3).collect::<Vec<_>>());
        waiting.take(24, |_| panic!("taken before"));
        waiting.take(4096, |_| panic!("nothing waits for it"));
        assert!(waiting.wait_for(24, 16, || false));
        let mut dead = waiting.into_dead();
        dead.sort_unstable();
        assert_eq!(dead.len(), 901);
        assert!(dead.windows(2).all(|pair| pair[0] < pair[1] || pair[0] == 16));
    }
}
