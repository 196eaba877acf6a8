//! A bounded cache in the heap: a hash table of entries in a list from the most to the least
//! recently used.
//!
//! `cargo run --release -p examples --bin lru-cache`

use gc_heap::{AllocSize, Bytes, Gc, Heap, Mutator, OutOfMemory, Root, Slot, SlotArray, Trace};

#[derive(Trace)]
struct Entry {
    key: u64,
    value: Slot<Bytes>,
    chain: Slot<Option<Entry>>,
    newer: Slot<Option<Entry>>,
    older: Slot<Option<Entry>>,
}

#[derive(Trace)]
struct Cache {
    buckets: Slot<SlotArray<Option<Entry>>>,
    newest: Slot<Option<Entry>>,
    oldest: Slot<Option<Entry>>,
    len: gc_heap::Num<usize>,
}

const BUCKETS: usize = 4096;
const CAPACITY: usize = 10_000;

/// Functions that take `&Mutator` take and return `Gc`s: nothing moves while they run.
fn find<'g>(m: &'g Mutator<'_>, cache: Gc<'g, Cache>, key: u64) -> Option<Gc<'g, Entry>> {
    let mut entry = cache.buckets.get(m).tail()[key as usize % BUCKETS].get(m);
    while let Some(e) = entry.filter(|e| e.key != key) {
        entry = e.chain.get(m);
    }
    entry
}

fn unlink(m: &Mutator<'_>, cache: Gc<'_, Cache>, entry: Gc<'_, Entry>) {
    let (newer, older) = (entry.newer.get(m), entry.older.get(m));
    newer.map_or(&cache.newest, |n| &n.as_ref().older).set(m, older);
    older.map_or(&cache.oldest, |o| &o.as_ref().newer).set(m, newer);
}

/// Functions that take `&mut Mutator` may move objects: they take and return roots.
fn insert(m: &mut Mutator<'_>, cache: &Root<Cache>, key: u64, value: &[u8]) -> Result<(), OutOfMemory> {
    let m = m.reserve(AllocSize::of::<Entry>() + AllocSize::tail::<Bytes>(value.len()))?; // the one safepoint
    let cache = cache.get(m);
    if cache.len.get() == CAPACITY {
        let last = cache.oldest.get(m).expect("a full cache has a last entry");
        unlink(m, cache, last);
        let mut slot = &cache.buckets.get(m).tail()[last.key as usize % BUCKETS];
        while let Some(e) = slot.get(m).filter(|e| e.key != last.key) {
            slot = &e.as_ref().chain;
        }
        slot.set(m, last.chain.get(m));
    } else {
        cache.len.set(cache.len.get() + 1);
    }
    let bucket = &cache.buckets.get(m).tail()[key as usize % BUCKETS];
    let (value, older) = (m.place_bytes::<Bytes>((), value), cache.newest.get(m));
    let entry = m.place(EntryInit { key, value, chain: bucket.get(m), newer: None, older });
    older.map_or(&cache.oldest, |o| &o.as_ref().newer).set(m, Some(entry));
    cache.newest.set(m, Some(entry));
    bucket.set(m, Some(entry));
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let heap = Heap::builder().max_bytes(32 << 20).build()?;
    let hits = heap.enter(|m| -> Result<usize, OutOfMemory> {
        let ready = m.reserve(AllocSize::of::<Cache>() + AllocSize::tail::<SlotArray<Option<Entry>>>(BUCKETS))?;
        let buckets = ready.place_array::<SlotArray<Option<Entry>>>((), BUCKETS, None);
        let cache = Root::<Cache>::new(ready, ready.place(CacheInit { buckets, newest: None, oldest: None, len: 0 }));
        (0..1_000_000).try_for_each(|key| insert(m, &cache, key, format!("value {key}").as_bytes()))?;
        Ok((0..1_000_000).filter(|&key| find(m, cache.get(m), key).is_some()).count())
    })??;
    println!("{hits} of a million keys are still cached; {} cycles collected the rest", heap.stats().cycles);
    Ok(())
}
