//! Slots under every interleaving of loads that heal, stores and the marker:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! An object's fields are a `loom` cell: loom panics where somebody reads an object whose writing
//! is not ordered before.
#![cfg(loom)]

mod support;

use gc_core::forwarding::Forwarding;
use gc_core::rules::{Rule, without};
use gc_core::slot::{self, Barriers, Remap};
use gc_core::sync::atomic::AtomicU64;
use gc_core::units::{BlockGranule, Granule, Offset};
use gc_core::word::{GoodWord, Word};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;
use support::check;
use support::words::{good, granule, is_bad, stale};

/// Granules: the object before it is moved, an object that is allocated meanwhile, and the places
/// of the copiers: of two threads and the main one.
const OLD: usize = 1;
const NEW: usize = 2;
const PLACES: [usize; 2] = [3, 4];
const MAIN: usize = 5;

/// What the fields hold.
const MOVED: u64 = 7;
const FRESH: u64 = 9;

/// One slot, stale, and the object it refers to.
struct Heap {
    slot: AtomicU64,
    forwarding: Forwarding,
    fields: [UnsafeCell<u64>; 6],
}

// SAFETY: the fields are written before they are published; that this is enough is what loom
// checks.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl Heap {
    fn new() -> Arc<Heap> {
        let mut bits = [0; gc_core::forwarding::BLOCK_MARK_WORDS];
        bits[0] = 1 << OLD;
        let heap = Heap {
            slot: AtomicU64::new(stale(OLD).bits()),
            forwarding: Forwarding::new(bits).unwrap(),
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

    /// The good word, after copying the object to `place` if nobody has.
    fn resolve(&self, word: Word, place: usize) -> GoodWord {
        if !is_bad(word) {
            return GoodWord::new(word);
        }
        let entry = self.forwarding.entry(BlockGranule::new(granule(word))).expect("only the old object is ever stale");
        let found = entry.destination().map(Granule::number).unwrap_or_else(|| {
            self.write(place, self.read(OLD));
            entry.publish(Granule::new(place)).map_or_else(Granule::number, |()| place)
        });
        good(found)
    }

    /// Loads the slot and reads the object: gives its fields, 0 for null.
    fn get(&self, place: usize) -> u64 {
        self.object(slot::load(&self.slot, &Copier(self, place)))
    }

    fn object(&self, word: GoodWord) -> u64 {
        assert!(!is_bad(word), "a stale word came out of a load");
        if word.is_null() { 0 } else { self.read(granule(word)) }
    }

    /// An object is made and stored.
    fn set_new(&self) {
        self.write(NEW, FRESH);
        slot::store(&self.slot, good(NEW), &Copier(self, MAIN));
    }

    fn swap(&self, new: GoodWord, place: usize) -> GoodWord {
        slot::swap(&self.slot, new, &Copier(self, place))
    }

    fn compare_exchange(&self, expected: GoodWord, new: GoodWord, place: usize) -> Result<GoodWord, GoodWord> {
        slot::compare_exchange(&self.slot, expected, new, &Copier(self, place))
    }

    /// The marker visits the slot when all entries are published, and reads the object.
    fn visit(&self) -> u64 {
        slot::visit(&self.slot, &Marker(self)).map_or(0, |found| self.read(found.granule().number()))
    }
}

/// A mutator that copies to a place. No marking runs.
struct Copier<'a>(&'a Heap, usize);

impl Barriers for Copier<'_> {
    fn is_bad(&self, word: Word) -> bool {
        is_bad(word)
    }

    fn heal(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        let good = self.resolve(word);
        slot::heal(slot, word, good);
        good
    }

    fn resolve(&self, word: Word) -> GoodWord {
        self.0.resolve(word, self.1)
    }

    fn is_logging(&self) -> bool {
        false
    }

    fn log(&self, _word: Word) {
        unreachable!("no marking runs");
    }
}

struct Marker<'a>(&'a Heap);

impl Remap for Marker<'_> {
    fn is_reference(&self, word: Word) -> bool {
        !word.is_null()
    }

    fn is_bad(&self, word: Word) -> bool {
        is_bad(word)
    }

    fn place(&self, word: GoodWord) -> Offset {
        Granule::new(granule(word)).offset()
    }

    fn remap(&self, word: Word) -> Offset {
        let entry = self.0.forwarding.entry(BlockGranule::new(granule(word))).unwrap();
        entry.destination().expect("the relocation is complete").offset()
    }

    fn good(&self, place: Offset) -> GoodWord {
        good(place.granule().number())
    }
}

fn spawn<T: 'static>(heap: &Arc<Heap>, work: impl FnOnce(&Heap) -> T + 'static) -> thread::JoinHandle<T> {
    let heap = Arc::clone(heap);
    thread::spawn(move || work(&heap))
}

/// Two mutators load the slot while a third stores a new object.
fn loads_against_a_store() {
    let heap = Heap::new();
    let loads = PLACES.map(|place| spawn(&heap, move |heap| heap.get(place)));
    heap.set_new();
    for load in loads {
        assert!([MOVED, FRESH].contains(&load.join().unwrap()));
    }
    assert_eq!(heap.get(MAIN), FRESH, "a store was lost");
}

#[test]
fn no_store_is_lost_to_a_heal_and_nobody_reads_half_an_object() {
    check(4, loads_against_a_store);
}

#[test]
#[should_panic(expected = "a store was lost")]
fn a_heal_without_compare_and_swap_loses_a_store() {
    without(Rule::HealByCas, || check(3, loads_against_a_store));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_heal_publishes_half_a_copy() {
    without(Rule::HealRelease, || check(3, loads_against_a_store));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_store_publishes_half_an_object() {
    without(Rule::StoreRelease, || check(3, loads_against_a_store));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_load_reads_half_an_object() {
    without(Rule::LoadAcquire, || check(3, loads_against_a_store));
}

#[test]
fn a_null_stays_null() {
    check(4, || {
        let heap = Heap::new();
        let loads = PLACES.map(|place| spawn(&heap, move |heap| heap.get(place)));
        slot::store(&heap.slot, GoodWord::NULL, &Copier(&heap, MAIN));
        for load in loads {
            assert!([MOVED, 0].contains(&load.join().unwrap()));
        }
        assert_eq!(heap.get(MAIN), 0, "a store was lost");
    });
}

#[test]
fn a_swap_gives_what_the_one_before_it_stored() {
    check(3, || {
        let heap = Heap::new();
        let load = spawn(&heap, |heap| heap.get(PLACES[0]));
        let swap = spawn(&heap, |heap| {
            heap.write(NEW, FRESH);
            heap.swap(good(NEW), PLACES[1])
        });
        let mine = heap.swap(GoodWord::NULL, MAIN);
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
        let heap = Heap::new();
        let load = spawn(&heap, |heap| heap.get(PLACES[0]));
        let other = spawn(&heap, |heap| {
            heap.write(NEW, FRESH);
            let current = heap.resolve(stale(OLD), PLACES[1]);
            heap.compare_exchange(current, good(NEW), PLACES[1]).is_ok()
        });
        let current = heap.resolve(stale(OLD), MAIN);
        let mine = heap.compare_exchange(current, GoodWord::NULL, MAIN).is_ok();
        assert_ne!(mine, other.join().unwrap(), "exactly one succeeds");
        assert_eq!(heap.get(MAIN), if mine { 0 } else { FRESH });
        load.join().unwrap();
    });
}

/// The marker comes to the slot when all entries are published, and heals it beside a mutator that
/// does.
fn marker_against_a_store() {
    let heap = Heap::new();
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
    check(4, marker_against_a_store);
}

#[test]
#[should_panic(expected = "a store was lost")]
fn a_heal_without_compare_and_swap_loses_a_store_while_marking_too() {
    without(Rule::HealByCas, || check(3, marker_against_a_store));
}
