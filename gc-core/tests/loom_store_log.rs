//! The store log against the marker, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! At mark start an object is reachable through one slot only, which is still stale. The marker
//! comes to the slot at some time; a mutator loads the object into a register (and heals the slot),
//! another overwrites the slot. The object must be marked: as what the slot held, or as a logged
//! word.
#![cfg(loom)]

mod support;

use gc_core::forwarding::{BLOCK_MARK_WORDS, Forwarding};
use gc_core::rules::{Rule, without};
use gc_core::slot::{self, Barriers, Remap};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use gc_core::units::{BlockGranule, Granule, Offset};
use gc_core::word::{GoodWord, Word};
use loom::thread;
use std::cell::RefCell;
use std::sync::Arc;
use support::check;
use support::marking::{A, B, Marking};
use support::words::{good, granule, is_bad, stale};

struct Heap {
    /// A logged word is remapped when it is marked, where it is stale. (The model can leave that
    /// out.)
    remap_logged: bool,
    /// The object has moved from `A` to `B`.
    forwarding: Forwarding,
    slot: AtomicU64,
    marking: Marking,
}

impl Heap {
    fn new(remap_logged: bool) -> Arc<Heap> {
        let mut bits = [0; BLOCK_MARK_WORDS];
        bits[0] = 1 << A;
        let heap = Heap {
            remap_logged,
            forwarding: Forwarding::new(bits).unwrap(),
            slot: AtomicU64::new(stale(A).bits()),
            marking: Marking::new(),
        };
        heap.forwarding.entry(BlockGranule::new(A)).unwrap().publish(Granule::new(B)).unwrap();
        Arc::new(heap)
    }

    /// The marker comes to the slot.
    fn visit(&self) {
        if let Some(found) = slot::visit(&self.slot, self) {
            self.marking.mark(found.granule().number());
        }
    }

    /// The object goes into a register.
    fn get(&self) {
        slot::load(&self.slot, &Mutator::of(self));
    }

    /// A store, and the safepoint after it.
    fn set(&self, word: GoodWord) {
        let mutator = Mutator::of(self);
        slot::store(&self.slot, word, &mutator);
        mutator.safepoint();
    }

    /// A swap, and the safepoint after it.
    fn swap(&self, word: GoodWord) {
        let mutator = Mutator::of(self);
        slot::swap(&self.slot, word, &mutator);
        mutator.safepoint();
    }

    /// Mark end, when all have come to it.
    fn mark_end(&self) {
        let remaps = |word| self.remap_logged && is_bad(word);
        self.marking.take_logs(|word| if remaps(word) { self.remap(word).granule().number() } else { granule(word) });
        assert!(self.marking.marks.get(Granule::new(B)), "an object that was reachable at mark start is not marked");
        assert!(!is_bad(Word::of(&self.slot, Ordering::Acquire)), "a slot is stale after marking");
    }
}

impl Remap for Heap {
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
        self.forwarding.entry(BlockGranule::new(granule(word))).unwrap().destination().unwrap().offset()
    }

    fn good(&self, place: Offset) -> GoodWord {
        good(place.granule().number())
    }
}

/// A mutator while marking runs, and its log.
struct Mutator<'a> {
    heap: &'a Heap,
    own: RefCell<Vec<Word>>,
}

impl Mutator<'_> {
    fn of(heap: &Heap) -> Mutator<'_> {
        Mutator { heap, own: RefCell::default() }
    }

    fn safepoint(self) {
        self.heap.marking.flush_log(&mut self.own.into_inner());
    }
}

impl Barriers for Mutator<'_> {
    fn is_bad(&self, word: Word) -> bool {
        is_bad(word)
    }

    fn heal(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        let good = self.resolve(word);
        slot::heal(slot, word, good);
        good
    }

    fn resolve(&self, word: Word) -> GoodWord {
        good(self.heap.remap(word).granule().number())
    }

    fn is_logging(&self) -> bool {
        true
    }

    fn log(&self, word: Word) {
        self.heap.marking.log(&mut self.own.borrow_mut(), word);
    }
}

fn spawn(heap: &Arc<Heap>, work: impl FnOnce(&Heap) + 'static) -> thread::JoinHandle<()> {
    let heap = Arc::clone(heap);
    thread::spawn(move || work(&heap))
}

/// One mutator loads and one stores while the marker visits.
fn visit_against_a_store(remap_logged: bool) {
    let heap = Heap::new(remap_logged);
    let mutators = [spawn(&heap, Heap::get), spawn(&heap, |heap| heap.set(heap.marking.allocate(0)))];
    heap.visit();
    for mutator in mutators {
        mutator.join().unwrap();
    }
    heap.mark_end();
}

#[test]
fn what_a_store_overwrites_is_visited_or_logged() {
    check(4, || visit_against_a_store(true));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_without_the_log() {
    without(Rule::LogStores, || check(3, || visit_against_a_store(true)));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_the_log_comes_after_the_store() {
    without(Rule::LogThenStore, || check(3, || visit_against_a_store(true)));
}

/// A plain load may log a word that is stale although another thread has just healed the slot.
#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_logged_words_are_not_remapped() {
    check(3, || visit_against_a_store(false));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_store_shows_the_marker_half_an_object() {
    without(Rule::StoreRelease, || check(3, || visit_against_a_store(true)));
}

/// Two mutators overwrite: only the one that overwrites what was there at mark start needs to log
/// it, and does.
#[test]
fn of_two_stores_the_first_logs_what_was_there_at_mark_start() {
    check(3, || {
        let heap = Heap::new(true);
        let mutators = [
            spawn(&heap, |heap| heap.set(GoodWord::NULL)),
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
