//! The store log against the marker, under every interleaving: `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release
//! --test 'loom_*'`.
//!
//! At mark start an object is reachable through one slot only, which is still stale. The marker comes to the slot at some
//! time; a mutator loads the object into a register (and heals the slot), another overwrites the slot. The object must be
//! marked: as what the slot held, or as a logged word.
#![cfg(loom)]

mod support;

use gc_core::forwarding::{BLOCK_MARK_WORDS, Forwarding};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;
use support::marking::{A, B, Marking};
use support::words::{good, granule, is_bad, stale};
use support::{check, store};

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    log: bool,
    /// The word is logged that the store is about to overwrite, and not the one that is there after it.
    log_then_store: bool,
    /// A logged word is remapped when it is marked, where it is stale.
    remap_logged: bool,
    store: Ordering,
}

const ALL: Rules = Rules { log: true, log_then_store: true, remap_logged: true, store: Ordering::Release };

struct Heap {
    rules: Rules,
    /// The object has moved from `A` to `B`.
    forwarding: Forwarding,
    slot: AtomicU64,
    marking: Marking,
}

impl Heap {
    fn new(rules: Rules) -> Arc<Heap> {
        let mut bits = [0; BLOCK_MARK_WORDS];
        bits[0] = 1 << A;
        let heap =
            Heap { rules, forwarding: Forwarding::new(bits), slot: AtomicU64::new(stale(A)), marking: Marking::new() };
        heap.forwarding.entry(A).unwrap().publish(B).unwrap();
        Arc::new(heap)
    }

    /// `remap`.
    fn remap(&self, word: u64) -> usize {
        if is_bad(word) { self.forwarding.entry(granule(word)).unwrap().destination().unwrap() } else { granule(word) }
    }

    /// `Marker::visit`.
    fn visit(&self) {
        let word = self.slot.load(Ordering::Acquire);
        if word == 0 {
            return;
        }
        let found = self.remap(word);
        if is_bad(word) {
            let _ = self.slot.compare_exchange(word, good(found), Ordering::Release, Ordering::Relaxed);
        }
        self.marking.mark(found);
    }

    /// `Slot::get`: the object goes into a register.
    fn get(&self) {
        let word = self.slot.load(Ordering::Acquire);
        if is_bad(word) {
            let good = good(self.remap(word));
            let _ = self.slot.compare_exchange(word, good, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// `Slot::set`, and the safepoint after it.
    fn set(&self, word: u64) {
        let mut own = Vec::new();
        let log = |own: &mut Vec<u64>| {
            if self.rules.log {
                self.marking.log(own, self.slot.load(Ordering::Acquire));
            }
        };
        if self.rules.log_then_store {
            log(&mut own);
        }
        store(&self.slot, word, self.rules.store);
        if !self.rules.log_then_store {
            log(&mut own);
        }
        self.marking.flush_log(&mut own);
    }

    /// `Slot::swap`, and the safepoint after it.
    fn swap(&self, word: u64) {
        let mut own = Vec::new();
        let old = self.slot.swap(word, Ordering::AcqRel);
        self.marking.log(&mut own, old);
        self.marking.flush_log(&mut own);
    }

    /// Mark end, when all have come to it.
    fn mark_end(&self) {
        self.marking.take_logs(|word| if self.rules.remap_logged { self.remap(word) } else { granule(word) });
        assert!(self.marking.marks.get(B), "an object that was reachable at mark start is not marked");
        assert!(!is_bad(self.slot.load(Ordering::Acquire)), "a slot is stale after marking");
    }
}

fn spawn(heap: &Arc<Heap>, work: impl FnOnce(&Heap) + 'static) -> thread::JoinHandle<()> {
    let heap = Arc::clone(heap);
    thread::spawn(move || work(&heap))
}

/// One mutator loads and one stores while the marker visits.
fn visit_against_a_store(rules: Rules) {
    let heap = Heap::new(rules);
    let mutators = [spawn(&heap, Heap::get), spawn(&heap, |heap| heap.set(heap.marking.allocate(0)))];
    heap.visit();
    for mutator in mutators {
        mutator.join().unwrap();
    }
    heap.mark_end();
}

#[test]
fn what_a_store_overwrites_is_visited_or_logged() {
    check(4, || visit_against_a_store(ALL));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_without_the_log() {
    check(3, || visit_against_a_store(Rules { log: false, ..ALL }));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_the_log_comes_after_the_store() {
    check(3, || visit_against_a_store(Rules { log_then_store: false, ..ALL }));
}

/// A plain load may log a word that is stale although another thread has just healed the slot.
#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_logged_words_are_not_remapped() {
    check(3, || visit_against_a_store(Rules { remap_logged: false, ..ALL }));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_store_shows_the_marker_half_an_object() {
    check(3, || visit_against_a_store(Rules { store: Ordering::Relaxed, ..ALL }));
}

/// Two mutators overwrite: only the one that overwrites what was there at mark start needs to log it, and does.
#[test]
fn of_two_stores_the_first_logs_what_was_there_at_mark_start() {
    check(3, || {
        let heap = Heap::new(ALL);
        let mutators = [
            spawn(&heap, |heap| heap.set(0)),
            spawn(&heap, |heap| {
                heap.get();
                heap.swap(heap.marking.allocate(0));
            }),
        ];
        heap.visit();
        for mutator in mutators {
            mutator.join().unwrap();
        }
        heap.mark_end();
    });
}
