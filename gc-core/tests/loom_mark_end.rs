//! The end of marking with store logs, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! At mark start three objects form a chain from a root. Mutators cut it, keep what was behind the
//! cut in registers, and log. When mark end succeeds, everything of the snapshot is marked and no
//! log holds anything.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::slot::{self, Barriers};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use gc_core::units::Granule;
use gc_core::word::{GoodWord, Word};
use loom::thread;
use std::sync::Arc;
use support::check;
use support::words::{good, granule, must_log, slot as slot_of};
use support::world::{Mutator, Rules, VmOperation, World};

/// The chain: object `n` refers to `n + 1`.
const FIRST: usize = 1;
const LAST: usize = 3;

/// The number of the object of a word; 0 for null.
fn number(word: GoodWord) -> u64 {
    if word.is_null() { 0 } else { granule(word) as u64 }
}

struct Heap {
    world: Arc<World>,
    marks: MarkBitmap,
    /// The slot of each object, by its number; an object is at the granule of its number.
    slots: [AtomicU64; 4],
}

impl Heap {
    /// A heap that is being marked: the stop for mark start is over.
    fn new(rules: Rules) -> Arc<Heap> {
        let world = World::new(rules);
        world.phase.logging.store(true, Ordering::SeqCst);
        Arc::new(Heap {
            world,
            marks: MarkBitmap::new(64).unwrap(),
            slots: [good(1), good(2), good(3), GoodWord::NULL].map(slot_of),
        })
    }

    /// `Marker::mark`, by the only marker, and `Marker::drain`.
    fn mark_from(&self, word: Word) {
        let mut word = word;
        while !word.is_null() && self.marks.set_alone(Granule::new(granule(word))) {
            word = Word::of(&self.slots[granule(word)], Ordering::Acquire);
        }
    }

    /// `Marking::drain_logs`.
    fn take_logs(&self) {
        let words = std::mem::take(&mut *self.world.log.lock().unwrap());
        words.into_iter().for_each(|word| self.mark_from(word));
    }

    /// `marking::mark_with`.
    fn mark(&self) {
        self.mark_from(good(FIRST).word());
        loop {
            self.take_logs();
            self.world.handshake();
            self.take_logs();
            if self.world.stop(VmOperation::MarkEnd) {
                break;
            }
        }
        assert!(
            (FIRST..=LAST).all(|object| self.marks.get(Granule::new(object))),
            "mark end succeeds before all is marked"
        );
    }

    /// Loads a slot, then stores null: gives the object that was there.
    fn cut(&self, mutator: &Mutator, object: u64) -> u64 {
        let slot = &self.slots[object as usize];
        let mutator = Running(self, mutator);
        let found = slot::load(slot, &mutator);
        slot::store(slot, GoodWord::NULL, &mutator);
        number(found)
    }
}

/// A mutator inside the heap. No word is stale.
struct Running<'a>(&'a Heap, &'a Mutator);

impl Barriers for Running<'_> {
    fn is_bad(&self, _word: Word) -> bool {
        false
    }

    fn heal(&self, _slot: &AtomicU64, word: Word) -> GoodWord {
        GoodWord::new(word)
    }

    fn resolve(&self, word: Word) -> GoodWord {
        GoodWord::new(word)
    }

    fn is_logging(&self) -> bool {
        self.1.logging
    }

    fn log(&self, word: Word) {
        if must_log(&self.0.marks, word) {
            self.1.log.borrow_mut().push(word);
        }
    }
}

/// A thread that enters, does `work` around a safepoint, and leaves the heap.
fn spawn(heap: &Arc<Heap>, work: impl FnOnce(&Heap, &mut Mutator) + 'static) -> thread::JoinHandle<Mutator> {
    let mut mutator = World::attach(&heap.world);
    let heap = Arc::clone(heap);
    thread::spawn(move || {
        mutator.unpark();
        work(&heap, &mut mutator);
        mutator.park();
        mutator
    })
}

fn end_marking(heap: &Heap, mutators: impl IntoIterator<Item = thread::JoinHandle<Mutator>>) {
    heap.mark();
    for mutator in mutators {
        assert!(mutator.join().unwrap().log.get_mut().is_empty(), "a word was logged after mark end");
    }
    assert!(heap.world.log.lock().unwrap().is_empty(), "a word was logged after mark end");
}

/// One mutator cuts the chain twice, with a safepoint between.
fn cut_twice(rules: Rules) {
    let heap = Heap::new(rules);
    let mutator = spawn(&heap, |heap, mutator| {
        let second = heap.cut(mutator, 1);
        mutator.safepoint();
        heap.cut(mutator, second);
    });
    end_marking(&heap, [mutator]);
}

#[test]
fn mark_end_succeeds_when_all_is_marked_and_no_log_is_left() {
    check(3, || cut_twice(Rules::ALL));
}

#[test]
#[should_panic(expected = "mark end")]
fn mark_end_must_look_at_the_logs_inside_the_stop() {
    check(3, || cut_twice(Rules { mark_end_looks: false, ..Rules::ALL }));
}

#[test]
#[should_panic(expected = "mark end")]
fn a_thread_must_hand_its_log_over_before_it_arrives() {
    check(3, || cut_twice(Rules { publish: false, ..Rules::ALL }));
}

/// One cuts the chain after the first object, one after the second.
#[test]
fn two_mutators_cut_the_chain_at_two_places() {
    check(2, || {
        let heap = Heap::new(Rules::ALL);
        let mutators = [1, 2].map(|object| {
            spawn(&heap, move |heap, mutator| {
                heap.cut(mutator, object);
            })
        });
        end_marking(&heap, mutators);
    });
}
