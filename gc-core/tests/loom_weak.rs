//! Weak loads against the end of marking, weak resolution, and freeing, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! An object is reachable through a weak slot only, which is still stale; another one is alive. A
//! mutator loads the weak slots at any time and keeps what it gets. What it keeps is not freed, and
//! what is alive is not said to be dead.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::forwarding::{BLOCK_MARK_WORDS, Forwarding};
use gc_core::rules::{Rule, without};
use gc_core::slot::{self, Barriers};
use gc_core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use gc_core::units::{BlockGranule, Granule};
use gc_core::weak::{self, WeakBarriers};
use gc_core::word::{GoodWord, Word};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;
use support::check;
use support::words::{good, granule, is_bad, must_log, slot as slot_of, stale};
use support::world::{Mutator, Rules as WorldRules, VmOperation, World};

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    /// A mutator turns its `resolving` off itself, at a safepoint.
    own_phase: bool,
    /// Handshakes between resolution and what comes after it: the old forwarding goes, blocks are
    /// freed, marks cleared.
    handshakes: usize,
}

const ALL: Rules = Rules { own_phase: true, handshakes: 1 };

/// Where the weakly reachable object was before the last relocation, where it is, and where the
/// live one is.
const BEFORE: usize = 1;
const WEAK: usize = 2;
const ALIVE: usize = 3;

struct Heap {
    rules: Rules,
    world: Arc<World>,
    marks: MarkBitmap,
    forwarding: Forwarding,
    /// A thread that looks into the forwarding reads it, the thread that drops the forwarding
    /// writes it: loom panics where the two are not ordered.
    forwarding_memory: UnsafeCell<()>,
    slots: [AtomicU64; 2],
    freed: AtomicBool,
}

// SAFETY: the cell is written when no thread can hold a stale word; that this is so is what loom
// checks.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl Heap {
    /// A heap that is being marked. `word`: what the weak slot of the weakly reachable object
    /// holds.
    fn new(rules: Rules, word: Word) -> Arc<Heap> {
        let world = World::new(WorldRules::ALL);
        world.phase.logging.store(true, Ordering::SeqCst);
        let mut bits = [0; BLOCK_MARK_WORDS];
        bits[0] = 1 << BEFORE;
        let forwarding = Forwarding::new(bits).unwrap();
        forwarding.entry(BlockGranule::new(BEFORE)).unwrap().publish(Granule::new(WEAK)).unwrap();
        Arc::new(Heap {
            rules,
            world,
            marks: MarkBitmap::new(64).unwrap(),
            forwarding,
            forwarding_memory: UnsafeCell::new(()),
            slots: [word, good(ALIVE).word()].map(slot_of),
            freed: AtomicBool::new(false),
        })
    }

    /// The good word. All entries are published.
    fn resolve(&self, word: Word) -> GoodWord {
        if !is_bad(word) {
            return GoodWord::new(word);
        }
        self.forwarding_memory.with(|_| ());
        good(self.forwarding.entry(BlockGranule::new(granule(word))).unwrap().destination().unwrap().number())
    }

    fn load_weak(&self, mutator: &Mutator, slot: &AtomicU64) -> GoodWord {
        weak::load(slot, &Running(self, mutator))
    }

    /// A thread that enters, loads the weak slots before and after a safepoint, and leaves the
    /// heap. Tells whether it has got the weakly reachable object, and so keeps it.
    fn mutate(&self, mutator: &mut Mutator) -> bool {
        mutator.unpark();
        let mut kept = !self.load_weak(mutator, &self.slots[0]).is_null();
        mutator.safepoint();
        kept |= !self.load_weak(mutator, &self.slots[0]).is_null();
        if kept {
            assert!(!self.freed.load(Ordering::Acquire), "an object that a weak load gave was freed");
        }
        assert!(!self.load_weak(mutator, &self.slots[1]).is_null(), "a live object was said to be dead");
        mutator.park();
        kept
    }

    /// The collector marks what was logged.
    fn take_logs(&self) {
        for word in std::mem::take(&mut *self.world.log.lock().unwrap()) {
            self.marks.set_alone(Granule::new(granule(self.resolve(word))));
        }
    }

    fn resolve_slot(&self, slot: &AtomicU64) {
        weak::resolve(
            slot,
            |word| !word.is_null(),
            |word| {
                let found = self.resolve(word);
                if self.marks.get(Granule::new(granule(found))) { found } else { GoodWord::NULL }
            },
        );
    }

    /// The collector, from the end of marking to the clearing of marks.
    fn collect(&self) {
        self.marks.set_alone(Granule::new(ALIVE));
        loop {
            self.take_logs();
            if self.world.stop(VmOperation::MarkEnd) {
                break;
            }
        }
        self.slots.iter().for_each(|slot| self.resolve_slot(slot));
        self.world.phase.resolving.store(false, Ordering::SeqCst);
        (0..self.rules.handshakes).for_each(|_| self.world.handshake());
        self.forwarding_memory.with_mut(|_| ());
        if !self.marks.get(Granule::new(WEAK)) {
            self.freed.store(true, Ordering::Release);
        }
        self.marks.store_words(0..1, 0);
    }
}

/// A mutator inside the heap.
struct Running<'a>(&'a Heap, &'a Mutator);

impl Barriers for Running<'_> {
    fn is_bad(&self, word: Word) -> bool {
        is_bad(word)
    }

    fn heal(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        let good = self.resolve(word);
        slot::heal(slot, word, good);
        good
    }

    fn resolve(&self, word: Word) -> GoodWord {
        self.0.resolve(word)
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

impl WeakBarriers for Running<'_> {
    fn is_resolving(&self) -> bool {
        match self.0.rules.own_phase {
            true => self.1.resolving,
            false => self.0.world.phase.resolving.load(Ordering::SeqCst),
        }
    }

    fn is_live(&self, good: GoodWord) -> bool {
        self.0.marks.get(Granule::new(granule(good)))
    }

    fn load_slow(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        weak::load_slow(slot, word, self)
    }
}

fn run(rules: Rules, word: Word) {
    let heap = Heap::new(rules, word);
    let mut mutator = World::attach(&heap.world);
    let mutator = {
        let heap = Arc::clone(&heap);
        thread::spawn(move || heap.mutate(&mut mutator))
    };
    heap.collect();
    let kept = mutator.join().unwrap();
    assert!(!(kept && heap.freed.load(Ordering::Acquire)), "an object that a weak load gave was freed");
}

#[test]
fn what_a_weak_load_gives_is_not_freed() {
    check(2, || run(ALL, stale(BEFORE)));
}

#[test]
fn what_a_weak_load_gives_is_not_freed_with_two_handshakes() {
    check(2, || run(Rules { handshakes: 2, ..ALL }, stale(BEFORE)));
}

#[test]
#[should_panic(expected = "was freed")]
fn a_weak_load_that_does_not_log_gives_what_is_freed() {
    without(Rule::WeakLogs, || check(3, || run(ALL, stale(BEFORE))));
}

#[test]
#[should_panic(expected = "was freed")]
fn a_weak_load_that_does_not_test_the_mark_gives_what_is_freed() {
    without(Rule::WeakTestsMark, || check(3, || run(ALL, stale(BEFORE))));
}

/// It has loaded the word before the collector cleared the slot, and sees the phase that came
/// after.
#[test]
#[should_panic(expected = "was freed")]
fn a_weak_load_whose_phase_changes_under_it_gives_what_is_freed() {
    check(3, || run(Rules { own_phase: false, ..ALL }, good(WEAK).word()));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_a_handshake_a_weak_load_in_flight_looks_into_dropped_forwarding() {
    check(3, || run(Rules { handshakes: 0, ..ALL }, stale(BEFORE)));
}

#[test]
#[should_panic(expected = "a live object was said to be dead")]
fn without_a_handshake_a_weak_load_in_flight_tests_a_cleared_mark() {
    check(3, || run(Rules { handshakes: 0, ..ALL }, good(WEAK).word()));
}
