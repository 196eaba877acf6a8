//! Slots under every interleaving of loads that heal, stores and the marker:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! An object's fields are a `loom` cell: loom panics where somebody reads an object whose writing is not ordered before.
#![cfg(loom)]

mod support;

use gc_core::forwarding::Forwarding;
use gc_core::sync::atomic::{AtomicU64, Ordering};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;
use support::words::{good, granule, is_bad, stale};
use support::{check, store};

/// What a model can weaken, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    load: Ordering,
    store: Ordering,
    heal: Ordering,
    /// A stale slot is healed by compare-and-swap.
    heal_by_cas: bool,
}

const ALL: Rules =
    Rules { load: Ordering::Acquire, store: Ordering::Release, heal: Ordering::Release, heal_by_cas: true };

/// Granules: the object before it is moved, an object that is allocated meanwhile, and the places of the copiers: of two
/// threads and the main one.
const OLD: usize = 1;
const NEW: usize = 2;
const PLACES: [usize; 2] = [3, 4];
const MAIN: usize = 5;

/// What the fields hold.
const MOVED: u64 = 7;
const FRESH: u64 = 9;

/// One slot, stale, and the object it refers to.
struct Heap {
    rules: Rules,
    slot: AtomicU64,
    forwarding: Forwarding,
    fields: [UnsafeCell<u64>; 6],
}

// SAFETY: the fields are written before they are published; that this is enough is what loom checks.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl Heap {
    fn new(rules: Rules) -> Arc<Heap> {
        let mut bits = [0; gc_core::forwarding::BLOCK_MARK_WORDS];
        bits[0] = 1 << OLD;
        let heap = Heap {
            rules,
            slot: AtomicU64::new(stale(OLD)),
            forwarding: Forwarding::new(bits),
            fields: [0; 6].map(UnsafeCell::new),
        };
        heap.write(OLD, MOVED);
        Arc::new(heap)
    }

    fn write(&self, granule: usize, value: u64) {
        // SAFETY: the object is not published yet; loom checks it.
        self.fields[granule].with_mut(|fields| unsafe { *fields = value });
    }

    fn read(&self, granule: usize) -> u64 {
        // SAFETY: the object is published; loom checks it.
        self.fields[granule].with(|fields| unsafe { *fields })
    }

    /// `Mutator::resolve` and `relocate_object`, copying to `place`.
    fn resolve(&self, word: u64, place: usize) -> u64 {
        if !is_bad(word) {
            return word;
        }
        let entry = self.forwarding.entry(granule(word)).expect("only the old object is ever stale");
        let found = entry.destination().unwrap_or_else(|| {
            self.write(place, self.read(OLD));
            entry.publish(place).map_or_else(|winner| winner, |()| place)
        });
        good(found)
    }

    /// `Mutator::heal`.
    fn heal(&self, word: u64, place: usize) -> u64 {
        let good = self.resolve(word, place);
        if self.rules.heal_by_cas {
            let _ = self.slot.compare_exchange(word, good, self.rules.heal, Ordering::Relaxed);
        } else {
            store(&self.slot, good, self.rules.heal);
        }
        good
    }

    /// `Slot::get`, and then a read of the object: gives its fields, 0 for null.
    fn get(&self, place: usize) -> u64 {
        let mut word = self.slot.load(self.rules.load);
        if is_bad(word) {
            word = self.heal(word, place);
        }
        self.object(word)
    }

    fn object(&self, word: u64) -> u64 {
        assert!(!is_bad(word), "a stale word came out of a load");
        if word == 0 { 0 } else { self.read(granule(word)) }
    }

    /// An object is made, and `Slot::set` publishes it.
    fn set_new(&self) {
        self.write(NEW, FRESH);
        store(&self.slot, good(NEW), self.rules.store);
    }

    /// `Slot::swap`.
    fn swap(&self, new: u64, place: usize) -> u64 {
        self.resolve(self.slot.swap(new, Ordering::AcqRel), place)
    }

    /// `Slot::compare_exchange`.
    fn compare_exchange(&self, expected: u64, new: u64, place: usize) -> Result<u64, u64> {
        let mut word = self.slot.load(self.rules.load);
        loop {
            if is_bad(word) {
                self.heal(word, place);
                word = self.slot.load(self.rules.load);
                continue;
            }
            if word != expected {
                return Err(word);
            }
            match self.slot.compare_exchange(word, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(word),
                Err(now) => word = now,
            }
        }
    }

    /// `Marker::visit`: all entries are published.
    fn visit(&self) -> u64 {
        let word = self.slot.load(self.rules.load);
        if !is_bad(word) {
            return self.object(word);
        }
        let found = self.forwarding.entry(granule(word)).unwrap().destination().expect("the relocation is complete");
        let _ = self.slot.compare_exchange(word, good(found), self.rules.heal, Ordering::Relaxed);
        self.read(found)
    }
}

fn spawn<T: 'static>(heap: &Arc<Heap>, work: impl FnOnce(&Heap) -> T + 'static) -> thread::JoinHandle<T> {
    let heap = Arc::clone(heap);
    thread::spawn(move || work(&heap))
}

/// Two mutators load the slot while a third stores a new object.
fn loads_against_a_store(rules: Rules) {
    let heap = Heap::new(rules);
    let loads = PLACES.map(|place| spawn(&heap, move |heap| heap.get(place)));
    heap.set_new();
    for load in loads {
        assert!([MOVED, FRESH].contains(&load.join().unwrap()));
    }
    assert_eq!(heap.get(MAIN), FRESH, "a store was lost");
}

#[test]
fn no_store_is_lost_to_a_heal_and_nobody_reads_half_an_object() {
    check(4, || loads_against_a_store(ALL));
}

#[test]
#[should_panic(expected = "a store was lost")]
fn a_heal_without_compare_and_swap_loses_a_store() {
    check(3, || loads_against_a_store(Rules { heal_by_cas: false, ..ALL }));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_heal_publishes_half_a_copy() {
    check(3, || loads_against_a_store(Rules { heal: Ordering::Relaxed, ..ALL }));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_store_publishes_half_an_object() {
    check(3, || loads_against_a_store(Rules { store: Ordering::Relaxed, ..ALL }));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_load_reads_half_an_object() {
    check(3, || loads_against_a_store(Rules { load: Ordering::Relaxed, ..ALL }));
}

#[test]
fn a_null_stays_null() {
    check(4, || {
        let heap = Heap::new(ALL);
        let loads = PLACES.map(|place| spawn(&heap, move |heap| heap.get(place)));
        store(&heap.slot, 0, ALL.store);
        for load in loads {
            assert!([MOVED, 0].contains(&load.join().unwrap()));
        }
        assert_eq!(heap.get(MAIN), 0, "a store was lost");
    });
}

#[test]
fn a_swap_gives_what_the_one_before_it_stored() {
    check(3, || {
        let heap = Heap::new(ALL);
        let load = spawn(&heap, |heap| heap.get(PLACES[0]));
        let swap = spawn(&heap, |heap| {
            heap.write(NEW, FRESH);
            heap.swap(good(NEW), PLACES[1])
        });
        let mine = heap.swap(0, MAIN);
        let (mine, theirs) = (heap.object(mine), heap.object(swap.join().unwrap()));
        load.join().unwrap();
        match heap.get(MAIN) {
            0 => assert_eq!((theirs, mine), (MOVED, FRESH)),
            now => assert_eq!((mine, theirs, now), (MOVED, 0, FRESH)),
        }
    });
}

#[test]
fn of_two_compare_exchanges_of_a_stale_slot_one_succeeds() {
    check(3, || {
        let heap = Heap::new(ALL);
        let load = spawn(&heap, |heap| heap.get(PLACES[0]));
        let other = spawn(&heap, |heap| {
            heap.write(NEW, FRESH);
            let current = heap.resolve(stale(OLD), PLACES[1]);
            heap.compare_exchange(current, good(NEW), PLACES[1]).is_ok()
        });
        let current = heap.resolve(stale(OLD), MAIN);
        let mine = heap.compare_exchange(current, 0, MAIN).is_ok();
        assert_ne!(mine, other.join().unwrap(), "exactly one succeeds");
        assert_eq!(heap.get(MAIN), if mine { 0 } else { FRESH });
        load.join().unwrap();
    });
}

/// The marker comes to the slot when all entries are published, and heals it beside a mutator that does.
fn marker_against_a_store(rules: Rules) {
    let heap = Heap::new(rules);
    assert_eq!(granule(heap.resolve(stale(OLD), PLACES[0])), PLACES[0]);
    let marker = spawn(&heap, Heap::visit);
    let load = spawn(&heap, |heap| heap.get(PLACES[1]));
    heap.set_new();
    assert!([MOVED, FRESH].contains(&marker.join().unwrap()));
    assert!([MOVED, FRESH].contains(&load.join().unwrap()));
    assert_eq!(heap.get(MAIN), FRESH, "a store was lost");
}

#[test]
fn the_marker_heals_beside_mutators() {
    check(4, || marker_against_a_store(ALL));
}

#[test]
#[should_panic(expected = "a store was lost")]
fn a_heal_without_compare_and_swap_loses_a_store_while_marking_too() {
    check(3, || marker_against_a_store(Rules { heal_by_cas: false, ..ALL }));
}
