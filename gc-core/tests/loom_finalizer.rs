//! Finalization against weak loads and what is handed to the embedder, under every interleaving: `RUSTFLAGS="--cfg loom"
//! cargo test -p gc-core --release --test 'loom_*'`.
//!
//! An object is registered for finalization and otherwise reachable through a weak slot only; it refers to a child, and
//! weakly to something dead. A mutator loads the weak slot at any time and takes what the queue gives. Either the object is
//! given by the weak slot or it is finalized, never both; what is finalized is whole.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::sync::atomic::{AtomicU64, Ordering};
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;
use support::world::{Mutator, Rules as WorldRules, StopOp, World};
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

/// Objects; a word is the number of the object it refers to.
const OBJECT: usize = 1;
const CHILD: usize = 2;
const DEAD: usize = 3;

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
            marks: MarkBitmap::new(64),
            weak: AtomicU64::new(OBJECT as u64),
            child: AtomicU64::new(CHILD as u64),
            inner: AtomicU64::new(DEAD as u64),
            watched: AtomicU64::new(OBJECT as u64),
            queue: Mutex::new(Vec::new()),
            freed: AtomicU64::new(0),
        })
    }

    /// `weak::load` and `weak::load_slow`.
    fn load_weak(&self, mutator: &mut Mutator, slot: &AtomicU64) -> usize {
        let word = slot.load(Ordering::Acquire) as usize;
        if word == 0 || mutator.resolving && !self.marks.get(word) {
            return 0;
        }
        if mutator.logging && !self.marks.get(word) {
            mutator.log.get_mut().push(word as u64);
        }
        word
    }

    fn alive(&self, object: usize) {
        assert!(self.freed.load(Ordering::Acquire) >> object & 1 == 0, "object {object} is in use, and was freed");
    }

    /// A thread that loads the weak slot, and takes from the queue. Tells whether it got the object by the one, and how
    /// often by the other.
    fn mutate(&self, mutator: &mut Mutator) -> (bool, usize) {
        mutator.unpark();
        let mut upgraded = false;
        let mut taken = Vec::new();
        for _ in 0..2 {
            upgraded |= self.load_weak(mutator, &self.weak) != 0;
            taken.append(&mut self.queue.lock().unwrap());
            for &object in &taken {
                self.alive(object);
                self.alive(self.child.load(Ordering::Acquire) as usize);
                let inner = self.load_weak(mutator, &self.inner);
                if inner != 0 {
                    self.alive(inner);
                    assert!(self.marks.get(inner), "a weak slot gives what is about to be freed");
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
        if self.marks.set_alone(object) && object == OBJECT {
            self.mark(self.child.load(Ordering::Acquire) as usize);
        }
    }

    /// `resolve_slot`.
    fn resolve_slot(&self, slot: &AtomicU64) {
        let word = slot.load(Ordering::Acquire);
        if word != 0 && !self.marks.get(word as usize) {
            let _ = slot.compare_exchange(word, 0, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// `finalize::revive`.
    fn revive(&self) {
        let object = self.watched.load(Ordering::Acquire) as usize;
        if object == 0 || self.marks.get(object) {
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
                self.mark(word as usize);
            }
            if self.world.stop(StopOp::MarkEnd) {
                break;
            }
        }
        if !self.rules.weak_first {
            self.revive();
        }
        self.resolve_slot(&self.weak);
        if self.marks.get(OBJECT) {
            self.resolve_slot(&self.inner);
        }
        self.world.phase.resolving.store(false, Ordering::SeqCst);
        if self.rules.handshake {
            self.world.handshake();
        }
        self.revive();
        store(&self.freed, !self.marks.load(0), Ordering::Release);
    }

    /// The next cycle, while nobody runs and nothing leads to the object: it is not finalized again.
    fn collect_again(&self) {
        self.marks.store_words(0, 1, 0);
        self.revive();
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
