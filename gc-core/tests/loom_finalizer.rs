//! Finalization against weak loads and what is handed to the embedder, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! An object is registered for finalization and otherwise reachable through a weak slot only; it
//! refers to a child, and weakly to something dead. A mutator loads the weak slot at any time and
//! takes what the queue gives. Either the object is given by the weak slot or it is finalized,
//! never both; what is finalized is whole.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::slot::Barriers;
use gc_core::sync::atomic::{AtomicU64, Ordering};
use gc_core::units::Granule;
use gc_core::weak::{self, WeakBarriers};
use gc_core::word::{GoodWord, Word};
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;
use support::words::{good, granule, must_log, slot};
use support::world::{Mutator, Rules as WorldRules, VmOperation, World};
use support::{check, store};

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    /// Weak slots are resolved before finalizable objects are marked.
    weak_first: bool,
    /// A handshake stands between the two.
    handshake: bool,
    /// What the finalizable objects lead to is marked before they are published.
    mark_first: bool,
    /// The weak slots that are found there are resolved before they are published.
    resolve_first: bool,
    /// An object is published once.
    once: bool,
}

const ALL: Rules = Rules { weak_first: true, handshake: true, mark_first: true, resolve_first: true, once: true };

/// Objects, by granule.
const OBJECT: usize = 1;
const CHILD: usize = 2;
const DEAD: usize = 3;

/// The number of the object of a word; 0 for null.
fn number(word: Word) -> usize {
    if word.is_null() { 0 } else { granule(word) }
}

struct Heap {
    rules: Rules,
    world: Arc<World>,
    marks: MarkBitmap,
    /// A weak slot of a live object.
    weak: AtomicU64,
    /// The object's slots: to its child, and weakly to what is dead.
    child: AtomicU64,
    inner: AtomicU64,
    /// The registration; 0 once the object was published.
    watched: AtomicU64,
    queue: Mutex<Vec<usize>>,
    freed: AtomicU64,
}

impl Heap {
    /// A heap that is being marked; nothing leads to the object.
    fn new(rules: Rules) -> Arc<Heap> {
        let world = World::new(WorldRules::ALL);
        world.phase.logging.store(true, Ordering::SeqCst);
        Arc::new(Heap {
            rules,
            world,
            marks: MarkBitmap::new(64).unwrap(),
            weak: slot(good(OBJECT)),
            child: slot(good(CHILD)),
            inner: slot(good(DEAD)),
            watched: slot(good(OBJECT)),
            queue: Mutex::new(Vec::new()),
            freed: AtomicU64::new(0),
        })
    }

    /// The number of the object that a weak load gives; 0 for none.
    fn load_weak(&self, mutator: &Mutator, slot: &AtomicU64) -> usize {
        number(weak::load(slot, &Running(self, mutator)).word())
    }

    fn alive(&self, object: usize) {
        assert!(self.freed.load(Ordering::Acquire) >> object & 1 == 0, "object {object} is in use, and was freed");
    }

    /// A thread that loads the weak slot, and takes from the queue. Tells whether it got the object
    /// by the one, and how often by the other.
    fn mutate(&self, mutator: &mut Mutator) -> (bool, usize) {
        mutator.unpark();
        let mut upgraded = false;
        let mut taken = Vec::new();
        for _ in 0..2 {
            upgraded |= self.load_weak(mutator, &self.weak) != 0;
            taken.append(&mut self.queue.lock().unwrap());
            for &object in &taken {
                self.alive(object);
                self.alive(granule(Word::of(&self.child, Ordering::Acquire)));
                let inner = self.load_weak(mutator, &self.inner);
                if inner != 0 {
                    self.alive(inner);
                    assert!(self.marks.get(Granule::new(inner)), "a weak slot gives what is about to be freed");
                }
            }
            mutator.safepoint();
        }
        if upgraded {
            self.alive(OBJECT);
        }
        mutator.park();
        (upgraded, taken.len())
    }

    /// `Marker::mark`, of an object and what it leads to.
    fn mark(&self, object: usize) {
        if self.marks.set_alone(Granule::new(object)) && object == OBJECT {
            self.mark(granule(Word::of(&self.child, Ordering::Acquire)));
        }
    }

    fn resolve_slot(&self, slot: &AtomicU64) {
        weak::resolve(
            slot,
            |word| !word.is_null(),
            |word| if self.marks.get(Granule::new(granule(word))) { GoodWord::new(word) } else { GoodWord::NULL },
        );
    }

    /// `finalize::revive`.
    fn revive(&self) {
        let object = number(Word::of(&self.watched, Ordering::Acquire));
        if object == 0 || self.marks.get(Granule::new(object)) {
            return;
        }
        if self.rules.once {
            store(&self.watched, 0, Ordering::Relaxed);
        }
        let publish = || self.queue.lock().unwrap().push(object);
        if !self.rules.mark_first {
            publish();
        }
        self.mark(object);
        if self.rules.mark_first && !self.rules.resolve_first {
            publish();
        }
        self.resolve_slot(&self.inner);
        if self.rules.mark_first && self.rules.resolve_first {
            publish();
        }
    }

    /// `Cycle::with_load_barrier`, from the end of marking to the clearing of marks.
    fn collect(&self) {
        loop {
            for word in std::mem::take(&mut *self.world.log.lock().unwrap()) {
                self.mark(granule(word));
            }
            if self.world.stop(VmOperation::MarkEnd) {
                break;
            }
        }
        if !self.rules.weak_first {
            self.revive();
        }
        self.resolve_slot(&self.weak);
        if self.marks.get(Granule::new(OBJECT)) {
            self.resolve_slot(&self.inner);
        }
        self.world.phase.resolving.store(false, Ordering::SeqCst);
        if self.rules.handshake {
            self.world.handshake();
        }
        self.revive();
        store(&self.freed, !self.marks.load(0), Ordering::Release);
    }

    /// The next cycle, while nobody runs and nothing leads to the object: it is not finalized
    /// again.
    fn collect_again(&self) {
        self.marks.store_words(0..1, 0);
        self.revive();
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

impl WeakBarriers for Running<'_> {
    fn is_resolving(&self) -> bool {
        self.1.resolving
    }

    fn is_live(&self, good: GoodWord) -> bool {
        self.0.marks.get(Granule::new(granule(good)))
    }

    fn load_slow(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        weak::load_slow(slot, word, self)
    }
}

fn run(rules: Rules) {
    let heap = Heap::new(rules);
    let mut mutator = World::attach(&heap.world);
    let mutator = {
        let heap = Arc::clone(&heap);
        thread::spawn(move || heap.mutate(&mut mutator))
    };
    heap.collect();
    let (upgraded, taken) = mutator.join().unwrap();
    let finalized = taken + heap.queue.lock().unwrap().len();
    assert!(!(upgraded && finalized != 0), "an object was finalized that a weak load has given");
    if finalized != 0 {
        assert_eq!(heap.weak.load(Ordering::Acquire), 0, "a weak slot refers to what was finalized");
        heap.collect_again();
        let again = taken + heap.queue.lock().unwrap().len();
        assert_eq!(again, 1, "an object was finalized twice");
    } else {
        assert!(upgraded, "an object died without being finalized");
    }
}

#[test]
fn an_object_is_upgraded_or_finalized_and_whole() {
    check(3, || run(ALL));
}

#[test]
#[should_panic(expected = "an object was finalized that a weak load has given")]
fn without_a_handshake_a_weak_load_in_flight_finds_it_marked() {
    check(3, || run(Rules { handshake: false, ..ALL }));
}

#[test]
#[should_panic(expected = "finalized")]
fn weak_slots_must_be_resolved_before_finalizable_objects_are_marked() {
    check(3, || run(Rules { weak_first: false, ..ALL }));
}

/// What it leads to has no mark yet, and its weak slots are as they were.
#[test]
#[should_panic(expected = "about to be freed")]
fn an_object_must_be_marked_before_it_is_published() {
    check(3, || run(Rules { mark_first: false, ..ALL }));
}

#[test]
#[should_panic(expected = "about to be freed")]
fn weak_slots_of_an_object_must_be_resolved_before_it_is_published() {
    check(3, || run(Rules { resolve_first: false, ..ALL }));
}

#[test]
#[should_panic(expected = "finalized twice")]
fn a_registration_ends_when_its_object_is_published() {
    check(3, || run(Rules { once: false, ..ALL }));
}
