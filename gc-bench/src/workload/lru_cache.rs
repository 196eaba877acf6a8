//! Caches that evict what was used least recently: what dies is the oldest there is, and it dies
//! long after it was allocated.
//!
//! Each thread has a cache of its own: a hash table with chains, and a list of the entries in the
//! order of their last use. An operation looks a key up. An entry that is there moves to the front
//! of the list, and its payload is read; for one that is not there the last of the list is evicted,
//! and a fresh one allocated. Keys have a Zipf distribution, by default one with which six in ten
//! operations replace an entry.

use clap::Args;
use gc_heap::{AllocSize, Bytes, Gc, Local, Mutator, OutOfMemory, Slot, SlotArray, Trace};
use serde::{Deserialize, Serialize};

use super::common::{MIB, Standard, Timed, Workload, check_size, pick};
use super::steady::{self, Operations, Steady};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::rng::Rng;
use crate::size::parse_count;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LruCache {
    /// MiB alive in all caches together.
    pub(super) size: u64,
    /// Exponent of the distribution.
    pub(super) skew: f64,
    #[serde(flatten)]
    pub(super) steady: steady::Settings,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// MiB alive [default: 1024]
    #[arg(long, value_name = "MIB", value_parser = parse_count)]
    size: Option<u64>,

    /// exponent of the keys' Zipf distribution, 0 (all alike) to 3 [default: 0.8]
    #[arg(long, value_name = "S", value_parser = parse_skew)]
    skew: Option<f64>,

    #[command(flatten)]
    steady: steady::Options,
}

fn parse_skew(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(skew) if (0.0..=3.0).contains(&skew) => Ok(skew),
        _ => Err("must be a number from 0 to 3".to_owned()),
    }
}

impl Standard for LruCache {
    const NAME: &'static str = "lru-cache";
    const ABOUT: &'static str = "Caches that evict what was used least recently, with a Zipf distribution of keys";
    const IN_A_PLAIN_RUN: bool = false;
    type Args = Options;

    fn works(args: Options, quick: bool) -> Result<Vec<Self>, Failure> {
        let size = args.size.unwrap_or(pick(quick, 1024, 64));
        Ok(vec![Self {
            size: check_size(Self::NAME, size, 1..=1 << 20)?,
            skew: args.skew.unwrap_or(0.8),
            steady: args.steady.settings(quick),
        }])
    }
}

impl LruCache {
    /// Of each cache, how many entries it has room for, and its chains as a power of two.
    pub(super) fn shape(&self) -> (u64, u32) {
        let room = (self.size * MIB / self.steady.threads / ENTRY_BYTES).max(1);
        (room, room.next_power_of_two().trailing_zeros().max(1))
    }
}

impl Workload for LruCache {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn heap_bytes(&self, _quick: bool) -> u64 {
        self.size * MIB / 2 * 3
    }

    fn min_live_bytes(&self) -> u64 {
        self.size * MIB
    }

    fn timed(&self) -> Option<Timed> {
        self.steady.timed()
    }

    fn large_pages_help(&self) -> bool {
        true
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure> {
        steady::run(self, bench)
    }
}

#[derive(Trace)]
struct Entry {
    newer: Slot<Option<Entry>>,
    older: Slot<Option<Entry>>,
    chain: Slot<Option<Entry>>,
    key: u64,
    payload: Slot<Bytes>,
}

/// The two ends of the list.
#[derive(Trace)]
struct Ends {
    newest: Slot<Option<Entry>>,
    oldest: Slot<Option<Entry>>,
}

type Table = SlotArray<Option<Entry>>;

pub(super) const PAYLOAD_MIN: usize = 24;
pub(super) const PAYLOAD_SPREAD: u64 = 489;

/// An entry, its payload of middle length, and its slot of the table.
const ENTRY_BYTES: u64 = 48 + 16 + PAYLOAD_MIN as u64 + PAYLOAD_SPREAD / 2 + 8;

/// There are so many keys for each entry of a cache.
pub(super) const KEYS: u64 = 10;

/// Keys with the density of `1 / rank ^ skew`, by the inverse of its integral.
pub(super) struct Zipf {
    scale: f64,
    power: f64,
    keys: f64,
}

impl Zipf {
    pub(super) fn new(keys: u64, skew: f64) -> Self {
        // At 1 the integral is a logarithm; so near it that no key differs.
        let rest = if (1.0 - skew).abs() < 1e-6 { 1e-6 } else { 1.0 - skew };
        let keys = keys as f64;
        Self { scale: (keys + 1.0).powf(rest) - 1.0, power: rest.recip(), keys }
    }

    #[inline(always)]
    pub(super) fn key(&self, random: u64) -> u64 {
        let part = (random >> 11) as f64 / (1u64 << 53) as f64;
        let rank = (part * self.scale + 1.0).powf(self.power);
        (rank - 1.0).min(self.keys - 1.0) as u64
    }
}

/// The chain of a key.
#[inline(always)]
pub(super) fn bucket(key: u64, table_bits: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - table_bits)) as usize
}

/// One thread's cache and its sequence of operations.
pub(super) struct Cache<'s> {
    table: Local<'s, Table>,
    ends: Local<'s, Ends>,
    table_bits: u32,
    room: u64,
    held: u64,
    zipf: Zipf,
    rng: Rng,
    sum: u64,
    /// A payload to copy from: zeros, save the first byte.
    payload: [u8; PAYLOAD_MIN + PAYLOAD_SPREAD as usize],
}

impl<'s> Cache<'s> {
    fn new(m: &mut Mutator<'s>, of: &LruCache, thread: u64) -> Result<Self, OutOfMemory> {
        let (room, table_bits) = of.shape();
        let slots = 1 << table_bits;
        let m = m.reserve(AllocSize::tail::<Table>(slots) + AllocSize::of::<Ends>())?;
        let table = m.local(m.place_array::<Table>((), slots, None));
        let ends = m.local(m.place(EndsInit { newest: None, oldest: None }));
        Ok(Self {
            table,
            ends,
            table_bits,
            room,
            held: 0,
            zipf: Zipf::new(room * KEYS, of.skew),
            rng: Rng::new(of.steady.seed, thread),
            sum: 0,
            payload: [0; PAYLOAD_MIN + PAYLOAD_SPREAD as usize],
        })
    }

    #[inline(always)]
    fn bucket(&self, key: u64) -> usize {
        bucket(key, self.table_bits)
    }

    #[inline(always)]
    fn find<'g>(&self, m: &'g Mutator<'_>, key: u64) -> Option<Gc<'g, Entry>> {
        let mut found = self.table.get(m).tail()[self.bucket(key)].get(m);
        while let Some(entry) = found {
            if entry.key == key {
                return found;
            }
            found = entry.chain.get(m);
        }
        None
    }

    /// Takes an entry out of the order of use.
    fn unlink(&self, m: &Mutator<'_>, entry: Gc<'_, Entry>) {
        let (newer, older, ends) = (entry.newer.get(m), entry.older.get(m), self.ends.get(m));
        match newer {
            Some(newer) => newer.as_ref().older.set(m, older),
            None => ends.as_ref().newest.set(m, older),
        }
        match older {
            Some(older) => older.as_ref().newer.set(m, newer),
            None => ends.as_ref().oldest.set(m, newer),
        }
    }

    /// Makes an entry that is in no order the newest.
    fn push(&self, m: &Mutator<'_>, entry: Gc<'_, Entry>) {
        let ends = self.ends.get(m);
        let newest = ends.newest.get(m);
        entry.as_ref().newer.set(m, None);
        entry.as_ref().older.set(m, newest);
        match newest {
            Some(newest) => newest.as_ref().newer.set(m, Some(entry)),
            None => ends.as_ref().oldest.set(m, Some(entry)),
        }
        ends.as_ref().newest.set(m, Some(entry));
    }

    /// Evicts the oldest entry, and cuts its links, as Java's `LinkedHashMap` does.
    fn evict(&mut self, m: &Mutator<'_>) {
        let Some(oldest) = self.ends.get(m).oldest.get(m) else { return };
        self.unlink(m, oldest);
        let table = self.table.get(m).tail();
        let mut slot = &table[self.bucket(oldest.key)];
        while let Some(entry) = slot.get(m) {
            if entry.key == oldest.key {
                slot.set(m, oldest.chain.get(m));
                break;
            }
            slot = &entry.as_ref().chain;
        }
        let oldest = oldest.as_ref();
        oldest.newer.set(m, None);
        oldest.chain.set(m, None);
        self.held -= 1;
    }

    fn put(&mut self, m: &mut Mutator<'_>, key: u64) -> Result<(), OutOfMemory> {
        let len = PAYLOAD_MIN + (self.rng.next() % PAYLOAD_SPREAD) as usize;
        let m = m.reserve(AllocSize::of::<Entry>() + AllocSize::tail::<Bytes>(len))?;
        if self.held == self.room {
            self.evict(m);
        }
        self.payload[0] = key as u8;
        let payload = m.place_bytes::<Bytes>((), &self.payload[..len]);
        let head = &self.table.get(m).tail()[self.bucket(key)];
        let entry = m.place(EntryInit { newer: None, older: None, chain: head.get(m), key, payload });
        head.set(m, Some(entry));
        self.push(m, entry);
        self.held += 1;
        Ok(())
    }
}

impl Operations for Cache<'_> {
    #[inline(always)]
    fn op(&mut self, m: &mut Mutator<'_>) -> Result<(), OutOfMemory> {
        let key = self.zipf.key(self.rng.next());
        m.safepoint();
        {
            let m = &*m;
            if let Some(entry) = self.find(m, key) {
                self.sum = self.sum.wrapping_add(u64::from(entry.payload.get(m).tail()[0])).wrapping_add(key);
                self.unlink(m, entry);
                self.push(m, entry);
                return Ok(());
            }
        }
        self.put(m, key)
    }

    fn checksum(&mut self, _: &mut Mutator<'_>) -> Result<u64, OutOfMemory> {
        Ok(self.sum)
    }
}

impl Steady for LruCache {
    type Thread<'s> = Cache<'s>;

    fn settings(&self) -> &steady::Settings {
        &self.steady
    }

    fn fill<'s>(&self, m: &mut Mutator<'s>, id: u64, progress: &dyn Fn(f64)) -> Result<Cache<'s>, OutOfMemory> {
        let mut cache = Cache::new(m, self, id)?;
        for key in 0..cache.room {
            cache.put(m, key)?;
            if key & 0xffff == 0 {
                progress(key as f64 / cache.room as f64);
            }
        }
        Ok(cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::PEER_SEED;
    use gc_heap::Heap;

    fn of(size: u64, seed: u64) -> LruCache {
        let steady = steady::Settings { threads: 1, seconds: 0.0, warm_up_seconds: 0.0, seed };
        LruCache { size, skew: 0.8, steady }
    }

    #[test]
    fn keys_have_the_distribution() {
        const KEYS: u64 = 1000;
        for skew in [0.0, 0.6, 1.0, 1.5] {
            let (zipf, mut rng) = (Zipf::new(KEYS, skew), Rng::new(PEER_SEED, 0));
            let mut counts = vec![0u32; KEYS as usize];
            (0..1_000_000).for_each(|_| counts[zipf.key(rng.next()) as usize] += 1);
            // The integral from rank to rank + 1, against the first ten ranks together.
            let share = |ranks: std::ops::Range<usize>| f64::from(counts[ranks].iter().sum::<u32>()) / 1e6;
            let integral = |to: f64| if skew == 1.0 { to.ln() } else { (to.powf(1.0 - skew) - 1.0) / (1.0 - skew) };
            let expected = integral(11.0) / integral(1001.0);
            let found = share(0..10);
            assert!((found - expected).abs() < 0.002, "{skew}: {found} for {expected}");
        }
    }

    /// Whatever was looked up: as many entries as there is room for, each found by its key, in the
    /// order of their last use.
    #[test]
    fn a_cache_holds_what_was_used_last() {
        let of = of(1, 7);
        let heap = Heap::builder().max_bytes(8 << 20).build().unwrap();
        let checked = heap.enter(|m| -> Result<(), OutOfMemory> {
            let mut cache = of.fill(m, 0, &|_| ())?;
            assert!(cache.room > 2000, "{}", cache.room);
            let mut model: Vec<u64> = (0..cache.room).collect();
            let (zipf, mut keys) = (Zipf::new(cache.room * KEYS, of.skew), Vec::new());
            for _ in 0..20_000 {
                // Of an operation the key is the first number.
                let key = zipf.key(cache.rng.clone().next());
                cache.op(m)?;
                match model.iter().position(|&held| held == key) {
                    Some(at) => model.remove(at),
                    None => model.remove(0),
                };
                model.push(key);
            }
            let m = &*m;
            let mut entry = cache.ends.get(m).oldest.get(m);
            while let Some(found) = entry {
                assert_eq!(cache.find(m, found.key).map(|entry| entry.key), Some(found.key));
                assert_eq!(found.payload.get(m).tail()[0], found.key as u8);
                keys.push(found.key);
                entry = found.newer.get(m);
            }
            assert_eq!((keys.len() as u64, cache.held), (cache.room, cache.room));
            assert!(keys == model, "another order");
            Ok(())
        });
        checked.unwrap().unwrap();
    }

    #[test]
    fn six_in_ten_operations_replace_an_entry() {
        let of = of(4, PEER_SEED);
        let heap = Heap::builder().max_bytes(16 << 20).build().unwrap();
        let found = heap.enter(|m| -> Result<f64, OutOfMemory> {
            let mut cache = of.fill(m, 0, &|_| ())?;
            // Until what was filled in has been replaced.
            (0..100_000).try_for_each(|_| cache.op(m))?;
            let before = heap.stats().allocated_bytes;
            (0..100_000).try_for_each(|_| cache.op(m))?;
            let bytes = heap.stats().allocated_bytes - before;
            Ok(bytes as f64 / (ENTRY_BYTES - 8) as f64 / 1e5)
        });
        let share = found.unwrap().unwrap();
        assert!((0.55..0.68).contains(&share), "{share}");
    }
}
