//! Weak loads against weak resolution and freeing, under every interleaving: `RUSTFLAGS="--cfg loom" cargo test -p gc-core
//! --release --test 'loom_*'`.
//!
//! At mark start one object is reachable weakly only, another one is marked. A mutator loads both weak slots at any time;
//! what it gets it keeps. What is kept is never freed, and what is alive is never said to be dead.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;
use support::check;

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    /// A weak load logs what it gives, while marking runs.
    log: bool,
    /// A weak load tests the mark, while weak slots are resolved.
    test: bool,
    /// Marks are cleared and memory is freed after a handshake.
    handshake: bool,
}

const ALL: Rules = Rules { log: true, test: true, handshake: true };

/// Reachable weakly only; alive.
const WEAK: usize = 1;
const ALIVE: usize = 2;

struct Heap {
    rules: Rules,
    marks: MarkBitmap,
    slots: [AtomicU64; 2],
    logging: AtomicBool,
    resolving: AtomicBool,
    /// Held by the mutator between two safepoints, and by a stop or handshake while it is at one.
    running: Mutex<()>,
    log: Mutex<Vec<usize>>,
    kept: AtomicBool,
    freed: AtomicBool,
}

impl Heap {
    fn new(rules: Rules) -> Arc<Heap> {
        Arc::new(Heap {
            rules,
            marks: MarkBitmap::new(64),
            slots: [WEAK, ALIVE].map(|object| AtomicU64::new(object as u64)),
            logging: AtomicBool::new(true),
            resolving: AtomicBool::new(false),
            running: Mutex::new(()),
            log: Mutex::new(Vec::new()),
            kept: AtomicBool::new(false),
            freed: AtomicBool::new(false),
        })
    }

    /// `Mutator::load_weak`, with the phase that `refresh` has copied at the last safepoint.
    fn load_weak(&self, slot: &AtomicU64, logging: bool, resolving: bool) -> Option<usize> {
        let object = slot.load(Ordering::Acquire) as usize;
        if object == 0 {
            return None;
        }
        if resolving && self.rules.test && !self.marks.get(object) {
            return None;
        }
        if logging && self.rules.log && !self.marks.get(object) {
            self.log.lock().unwrap().push(object);
        }
        Some(object)
    }

    fn mutate(&self) {
        for slot in &self.slots {
            let running = self.running.lock().unwrap();
            let phase = (self.logging.load(Ordering::Acquire), self.resolving.load(Ordering::Acquire));
            match self.load_weak(slot, phase.0, phase.1) {
                Some(WEAK) => {
                    assert!(!self.freed.load(Ordering::Acquire), "a weak load gave freed memory");
                    self.kept.store(true, Ordering::Release);
                }
                Some(_) => {}
                None => assert!(std::ptr::eq(slot, &self.slots[0]), "a live object was said to be dead"),
            }
            drop(running);
        }
    }

    /// `Collector::cycle`, from marking to the clearing of marks.
    fn collect(&self) {
        self.marks.set_alone(ALIVE);
        loop {
            // `take_logs`, then the stop for mark end.
            let logged = std::mem::take(&mut *self.log.lock().unwrap());
            logged.into_iter().for_each(|object| _ = self.marks.set_alone(object));
            let _stop = self.running.lock().unwrap();
            if self.log.lock().unwrap().is_empty() {
                self.logging.store(false, Ordering::Release);
                self.resolving.store(true, Ordering::Release);
                break;
            }
        }
        for slot in &self.slots {
            // `resolve_slot`.
            let object = slot.load(Ordering::Acquire);
            if object != 0 && !self.marks.get(object as usize) {
                let _ = slot.compare_exchange(object, 0, Ordering::Release, Ordering::Acquire);
            }
        }
        self.resolving.store(false, Ordering::Release);
        if self.rules.handshake {
            drop(self.running.lock().unwrap());
        }
        if !self.marks.get(WEAK) {
            self.freed.store(true, Ordering::Release);
        }
        self.marks.store_words(0, 1, 0);
    }
}

fn run(rules: Rules) {
    let heap = Heap::new(rules);
    let mutator = Arc::clone(&heap);
    let collector = Arc::clone(&heap);
    let threads = [thread::spawn(move || mutator.mutate()), thread::spawn(move || collector.collect())];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (kept, freed) = (heap.kept.load(Ordering::Acquire), heap.freed.load(Ordering::Acquire));
    assert!(!(kept && freed), "an object that a weak load gave was freed");
}

#[test]
fn what_a_weak_load_gives_is_kept() {
    check(4, || run(ALL));
}

#[test]
#[should_panic(expected = "was freed")]
fn a_weak_load_that_does_not_log_gives_what_is_freed() {
    check(3, || run(Rules { log: false, ..ALL }));
}

#[test]
#[should_panic(expected = "was freed")]
fn a_weak_load_that_does_not_test_the_mark_gives_what_is_freed() {
    check(3, || run(Rules { test: false, ..ALL }));
}

#[test]
#[should_panic(expected = "a live object was said to be dead")]
fn without_a_handshake_a_weak_load_in_flight_tests_a_cleared_mark() {
    check(3, || run(Rules { handshake: false, ..ALL }));
}
