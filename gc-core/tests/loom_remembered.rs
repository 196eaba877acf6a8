//! The remembered set between threads that store and a collector that exchanges its parts:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test loom_remembered`.
#![cfg(loom)]

mod support;

use gc_core::remembered::{RememberedSet, Sort};
use gc_core::rules::{Rule, without};
use gc_core::slot::{self, Barriers};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use gc_core::units::Granule;
use gc_core::word::{GoodWord, Word};
use loom::sync::Arc;
use loom::thread;
use support::check;

const SLOTS: [Granule; 2] = [Granule::new(5), Granule::new(6)];
const YOUNG: GoodWord = GoodWord::of_bits(1);
const OLD: GoodWord = GoodWord::of_bits(2);

/// Two mutators store young references into old slots, before a pause and after it, and remember
/// them. Joining stands for the pause, `loom_stop` is its model. In each pause every slot that
/// holds a young reference must be in the part that is now. Between the pauses the collector works
/// on the part that is then: it resolves what it finds there, and keeps what stays young.
fn every_young_word_is_remembered_at_a_pause(slots: [Granule; 2]) {
    let set = Arc::new(RememberedSet::new(64).unwrap());
    let words: Arc<[AtomicU64; 64]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
    let store = |slot: Granule| {
        let (set, words) = (Arc::clone(&set), Arc::clone(&words));
        thread::spawn(move || {
            words[slot.number()].store(YOUNG.bits(), Ordering::Release);
            set.add(slot, Sort::Strong);
        })
    };
    let pause = |threads: [thread::JoinHandle<()>; 2]| {
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for slot in slots {
            let is_young = words[slot.number()].load(Ordering::Relaxed) == YOUNG.bits();
            assert!(!is_young || set.contains(slot, Sort::Strong), "{slot:?} is not remembered");
        }
        set.exchange();
    };
    pause(slots.map(store));
    // After the flip the first collection promotes all: the collector gives the slots old words.
    let threads = slots.map(store);
    set.take_then(|slot, sort| {
        assert_eq!(sort, Sort::Strong);
        let word = words[slot.number()].load(Ordering::Acquire);
        // A store that comes first stays; what is found young is remembered, whoever wins.
        if words[slot.number()].compare_exchange(word, OLD.bits(), Ordering::AcqRel, Ordering::Relaxed).is_err() {
            set.add(slot, Sort::Strong);
        }
    });
    pause(threads);
}

/// A stale young word, and the good one of the same object, which has stayed young.
const STALE: Word = Word::new(8);

struct Healing {
    slot: AtomicU64,
    set: RememberedSet,
}

impl Barriers for Healing {
    fn is_bad(&self, word: Word) -> bool {
        word == STALE
    }

    fn heal(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        slot::heal(slot, word, YOUNG);
        YOUNG
    }

    fn resolve(&self, _: Word) -> GoodWord {
        YOUNG
    }

    fn is_logging(&self) -> bool {
        false
    }

    fn log(&self, _: Word) {}
}

/// After a flip the slot of an object that has been promoted holds a stale word of one that stays
/// young. A mutator loads the slot and heals it, or stores an old word, while the collector
/// revisits it. At the next pause a slot that holds a young word must be remembered.
fn a_slot_is_revisited_beside(mutator: fn(&Healing)) {
    let heap = Arc::new(Healing { slot: AtomicU64::new(STALE.bits()), set: RememberedSet::new(64).unwrap() });
    let thread = {
        let heap = Arc::clone(&heap);
        thread::spawn(move || mutator(&heap))
    };
    heap.set.revisit(&heap.slot, SLOTS[0], Sort::Strong, |word| {
        (word == STALE || word == YOUNG.word()).then_some((false, YOUNG))
    });
    thread.join().unwrap();
    let word = Word::of(&heap.slot, Ordering::Relaxed);
    assert_ne!(word, STALE, "the slot is not healed");
    assert!(word != YOUNG.word() || heap.set.contains(SLOTS[0], Sort::Strong), "the slot is not remembered");
}

fn loads(heap: &Healing) {
    assert_eq!(slot::load(&heap.slot, heap), YOUNG);
}

#[test]
fn a_slot_is_remembered_whoever_heals_it() {
    check(2, || a_slot_is_revisited_beside(loads));
    check(2, || a_slot_is_revisited_beside(|heap| slot::store(&heap.slot, OLD, heap)));
}

#[test]
#[should_panic(expected = "the slot is not remembered")]
fn a_slot_that_a_mutator_heals_is_lost_if_only_own_heals_count() {
    without(Rule::RememberFound, || check(2, || a_slot_is_revisited_beside(loads)));
}

#[test]
fn slots_of_one_word_of_the_bitmap() {
    check(2, || every_young_word_is_remembered_at_a_pause(SLOTS));
}

#[test]
fn one_slot_that_two_threads_store_to() {
    check(2, || every_young_word_is_remembered_at_a_pause([SLOTS[0]; 2]));
}

#[test]
#[should_panic(expected = "is not remembered")]
fn a_bit_that_is_set_by_a_load_and_a_store_is_lost() {
    without(Rule::RememberByRmw, || check(2, || every_young_word_is_remembered_at_a_pause(SLOTS)));
}

/// The collector clears the part that is then: a store that finds its slot there adds nothing.
#[test]
#[should_panic(expected = "is not remembered")]
fn a_slot_that_is_looked_for_in_both_parts_is_lost() {
    without(Rule::LookInNow, || check(2, || every_young_word_is_remembered_at_a_pause(SLOTS)));
}
