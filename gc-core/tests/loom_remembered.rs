//! The remembered set between threads that store and a collector that exchanges its parts:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test loom_remembered`.
#![cfg(loom)]

mod support;

use gc_core::remembered::{RememberedSet, Sort};
use gc_core::rules::{Rule, without};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use support::check;

const SLOTS: [usize; 2] = [5, 6];
const YOUNG: u64 = 1;
const OLD: u64 = 2;

/// Two mutators store young references into old slots, before a pause and after it, and remember
/// them. Joining stands for the pause, `loom_stop` is its model. In each pause every slot that
/// holds a young reference must be in the part that is now. Between the pauses the collector works
/// on the part that is then: it resolves what it finds there, and keeps what stays young.
fn every_young_word_is_remembered_at_a_pause(slots: [usize; 2]) {
    let set = Arc::new(RememberedSet::new(64).unwrap());
    let words: Arc<[AtomicU64; 64]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
    let store = |slot: usize| {
        let (set, words) = (Arc::clone(&set), Arc::clone(&words));
        thread::spawn(move || {
            words[slot].store(YOUNG, Ordering::Release);
            set.add(slot, Sort::Strong);
        })
    };
    let pause = |threads: [thread::JoinHandle<()>; 2]| {
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for slot in slots {
            let is_young = words[slot].load(Ordering::Relaxed) == YOUNG;
            assert!(!is_young || set.contains(slot, Sort::Strong), "slot {slot} is not remembered");
        }
        set.exchange();
    };
    pause(slots.map(store));
    // After the flip the first collection promotes all: the collector gives the slots old words.
    let threads = slots.map(store);
    set.take_then(|slot, sort| {
        assert_eq!(sort, Sort::Strong);
        let word = words[slot].load(Ordering::Acquire);
        // A store that comes first stays; what is found young is remembered, whoever wins.
        if words[slot].compare_exchange(word, OLD, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            set.add(slot, Sort::Strong);
        }
    });
    pause(threads);
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
