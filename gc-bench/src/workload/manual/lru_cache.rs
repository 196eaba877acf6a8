//! A cache whose entries are freed when they are evicted.

use std::ptr::null_mut;

use super::steady::Operations;
use crate::rng::Rng;
use crate::workload::lru_cache::{KEYS, LruCache, PAYLOAD_MIN, PAYLOAD_SPREAD, Zipf, bucket};

/// An entry that comes from a box.
struct Entry {
    newer: *mut Entry,
    older: *mut Entry,
    chain: *mut Entry,
    key: u64,
    payload: Box<[u8]>,
}

/// One thread's cache and its sequence of operations.
///
/// Each entry is in the chain of its key and in the list of use, from its allocation until it is
/// evicted, which frees it. So every pointer of the table, of the list's ends and of an entry is
/// null or that of an entry which is there.
pub(super) struct Cache {
    table: Vec<*mut Entry>,
    newest: *mut Entry,
    oldest: *mut Entry,
    table_bits: u32,
    room: u64,
    held: u64,
    zipf: Zipf,
    rng: Rng,
    sum: u64,
    /// A payload to copy from: zeros, save the first byte.
    payload: [u8; PAYLOAD_MIN + PAYLOAD_SPREAD as usize],
}

impl Cache {
    pub(super) fn new(of: &LruCache, thread: u64) -> Self {
        let (room, table_bits) = of.shape();
        let mut cache = Self {
            table: vec![null_mut(); 1 << table_bits],
            newest: null_mut(),
            oldest: null_mut(),
            table_bits,
            room,
            held: 0,
            zipf: Zipf::new(room * KEYS, of.skew),
            rng: Rng::new(of.steady.seed, thread),
            sum: 0,
            payload: [0; PAYLOAD_MIN + PAYLOAD_SPREAD as usize],
        };
        for key in 0..room {
            cache.put(key);
        }
        cache
    }

    #[inline(always)]
    fn find(&self, key: u64) -> *mut Entry {
        let mut found = self.table[bucket(key, self.table_bits)];
        // SAFETY: a pointer of the table or of an entry: the entry is there.
        while let Some(entry) = unsafe { found.as_ref() } {
            if entry.key == key {
                break;
            }
            found = entry.chain;
        }
        found
    }

    /// Takes an entry out of the order of use.
    ///
    /// # Safety
    ///
    /// It is in that order.
    unsafe fn unlink(&mut self, entry: *mut Entry) {
        // SAFETY: an entry of the cache is there, and so are its neighbours.
        unsafe {
            let (newer, older) = ((*entry).newer, (*entry).older);
            match newer.as_mut() {
                Some(newer) => newer.older = older,
                None => self.newest = older,
            }
            match older.as_mut() {
                Some(older) => older.newer = newer,
                None => self.oldest = newer,
            }
        }
    }

    /// Makes an entry that is in no order the newest.
    ///
    /// # Safety
    ///
    /// It is there, and in no order.
    unsafe fn push(&mut self, entry: *mut Entry) {
        // SAFETY: it is there, and so is the newest of the cache.
        unsafe {
            (*entry).newer = null_mut();
            (*entry).older = self.newest;
            match self.newest.as_mut() {
                Some(newest) => newest.newer = entry,
                None => self.oldest = entry,
            }
        }
        self.newest = entry;
    }

    /// Evicts the oldest entry.
    fn evict(&mut self) {
        let oldest = self.oldest;
        if oldest.is_null() {
            return;
        }
        // SAFETY: the oldest is in the order of use and in the chain of its key, where `slot` is a
        // place of the table or the `chain` of an entry that is there. When it is out of both
        // nothing points to it, and it comes from a box.
        unsafe {
            self.unlink(oldest);
            let mut slot: *mut *mut Entry = &mut self.table[bucket((*oldest).key, self.table_bits)];
            while *slot != oldest {
                slot = &raw mut (**slot).chain;
            }
            *slot = (*oldest).chain;
            drop(Box::from_raw(oldest));
        }
        self.held -= 1;
    }

    fn put(&mut self, key: u64) {
        let len = PAYLOAD_MIN + (self.rng.next() % PAYLOAD_SPREAD) as usize;
        if self.held == self.room {
            self.evict();
        }
        self.payload[0] = key as u8;
        let payload: Box<[u8]> = self.payload[..len].into();
        let head = &mut self.table[bucket(key, self.table_bits)];
        let entry = Entry { newer: null_mut(), older: null_mut(), chain: *head, key, payload };
        *head = Box::into_raw(Box::new(entry));
        let entry = *head;
        // SAFETY: it is fresh.
        unsafe { self.push(entry) };
        self.held += 1;
    }
}

impl Operations for Cache {
    #[inline(always)]
    fn op(&mut self) {
        let key = self.zipf.key(self.rng.next());
        let entry = self.find(key);
        if entry.is_null() {
            self.put(key);
            return;
        }
        // SAFETY: it was found in the cache, so it is there, and in the order of use until it is
        // taken out.
        unsafe {
            self.sum = self.sum.wrapping_add(u64::from((*entry).payload[0])).wrapping_add(key);
            self.unlink(entry);
            self.push(entry);
        }
    }

    fn checksum(&self) -> u64 {
        self.sum
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        while !self.oldest.is_null() {
            self.evict();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::PEER_SEED;

    /// Whatever was looked up: as many entries as there is room for, each found by its key, in the
    /// order of their last use.
    #[test]
    fn a_cache_holds_what_was_used_last() {
        let of = serde_json::json!({
            "size": 1, "skew": 0.8, "threads": 1, "seconds": 0.0, "warm_up_seconds": 0.0, "seed": PEER_SEED,
        });
        let of: LruCache = serde_json::from_value(of).unwrap();
        let mut cache = Cache::new(&of, 0);
        let mut model: Vec<u64> = (0..cache.room).collect();
        for _ in 0..10_000 {
            // Of an operation the key is the first number.
            let key = cache.zipf.key(cache.rng.clone().next());
            cache.op();
            match model.iter().position(|&held| held == key) {
                Some(at) => model.remove(at),
                None => model.remove(0),
            };
            model.push(key);
        }
        let (mut keys, mut at) = (Vec::new(), cache.oldest);
        // SAFETY: pointers of the list: the entries are there.
        while let Some(entry) = unsafe { at.as_ref() } {
            assert_eq!((cache.find(entry.key), entry.payload[0]), (at, entry.key as u8));
            keys.push(entry.key);
            at = entry.newer;
        }
        assert_eq!((keys.len() as u64, cache.held), (cache.room, cache.room));
        assert!(keys == model, "another order");
        while cache.held > 0 {
            cache.evict();
        }
        assert!(cache.table.iter().all(|head| head.is_null()) && cache.newest.is_null());
    }
}
