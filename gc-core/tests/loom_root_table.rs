//! The table of process-wide roots under every interleaving: `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release
//! --test 'loom_*'`.
//!
//! At mark start an object is reachable through one root only. A mutator takes the object into a register and drops the
//! root; another mutator wants roots and takes back dropped entries when it may. The object must be marked.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::sync::atomic::{AtomicU64, Ordering};
use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;
use support::world::{Mutator, Rules as WorldRules, StopOp, World};
use support::{check, store};

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    /// A dropped root's entry keeps its word.
    keep: bool,
    /// Entries are taken back only while no marking runs.
    idle: bool,
    /// Overwriting a root logs what it held, while marking runs.
    log: bool,
    /// A weak root is cleared by compare-and-swap.
    clear_by_cas: bool,
}

const ALL: Rules = Rules { keep: true, idle: true, log: true, clear_by_cas: true };

/// Reachable at mark start; allocated while marking runs, and so live without a visit; dead.
const OLD: u64 = 1;
const YOUNG: u64 = 2;
const DEAD: u64 = 3;

/// `RootTable`: one entry in use, and one free.
struct Table {
    rules: Rules,
    world: Arc<World>,
    marks: MarkBitmap,
    slots: [AtomicU64; 2],
    free: Mutex<Vec<usize>>,
    dropped: Mutex<Vec<usize>>,
    /// Written by who has the entry: loom panics where two have it at a time.
    owners: [UnsafeCell<()>; 2],
}

// SAFETY: an entry's cell is its owner's; that there is one at a time is what loom checks.
unsafe impl Sync for Table {}
// SAFETY: as above.
unsafe impl Send for Table {}

impl Table {
    fn new(rules: Rules, word: u64) -> Arc<Table> {
        Arc::new(Table {
            rules,
            world: World::new(WorldRules::ALL),
            marks: MarkBitmap::new(64),
            slots: [word, 0].map(AtomicU64::new),
            free: Mutex::new(vec![1]),
            dropped: Mutex::new(Vec::new()),
            owners: [(); 2].map(UnsafeCell::new),
        })
    }

    /// `RootCell::new`. `None`: the table would grow.
    fn make(&self, word: u64, logging: bool) -> Option<usize> {
        let idle = !logging || !self.rules.idle;
        let mut free = self.free.lock().unwrap();
        if free.is_empty() && idle {
            // `RootTable::reclaim_some`.
            while let Some(index) = { self.dropped.lock().unwrap().pop() } {
                store(&self.slots[index], 0, Ordering::Relaxed);
                free.push(index);
            }
        }
        let index = free.pop()?;
        store(&self.slots[index], word, Ordering::Release);
        drop(free);
        self.own(index);
        Some(index)
    }

    fn own(&self, index: usize) {
        self.owners[index].with_mut(|_| ());
    }

    /// `RootCell::drop`.
    fn give_up(&self, index: usize) {
        self.own(index);
        if !self.rules.keep {
            store(&self.slots[index], 0, Ordering::Relaxed);
        }
        self.dropped.lock().unwrap().push(index);
    }

    /// `Root::set`.
    fn set(&self, mutator: &mut Mutator, index: usize, word: u64) {
        let old = self.slots[index].load(Ordering::Acquire);
        if mutator.logging && self.rules.log && !self.marks.get(old as usize) {
            mutator.log.push(old);
        }
        store(&self.slots[index], word, Ordering::Release);
    }

    /// `Collector::mark`.
    fn mark(&self) {
        for slot in &self.slots {
            let word = slot.load(Ordering::Acquire);
            if word != 0 {
                self.marks.set_alone(word as usize);
            }
        }
        loop {
            for word in std::mem::take(&mut *self.world.log.lock().unwrap()) {
                self.marks.set_alone(word as usize);
            }
            if self.world.stop(StopOp::MarkEnd) {
                break;
            }
        }
        assert!(self.marks.get(OLD as usize), "an object was lost with its root");
    }

    /// `resolve_slot`: all but `YOUNG` is dead.
    fn resolve(&self) {
        for slot in &self.slots {
            let mut word = slot.load(Ordering::Acquire);
            while word == DEAD {
                if !self.rules.clear_by_cas {
                    store(slot, 0, Ordering::Release);
                    break;
                }
                match slot.compare_exchange(word, 0, Ordering::Release, Ordering::Acquire) {
                    Ok(_) => break,
                    Err(now) => word = now,
                }
            }
        }
    }
}

fn spawn<T: 'static>(
    table: &Arc<Table>,
    work: impl FnOnce(&Table, &mut Mutator) -> T + 'static,
) -> thread::JoinHandle<T> {
    let mut mutator = World::attach(&table.world);
    let table = Arc::clone(table);
    thread::spawn(move || {
        mutator.unpark();
        let result = work(&table, &mut mutator);
        mutator.park();
        result
    })
}

/// One mutator gives up the only root, another makes two, while the collector marks.
fn drop_and_reuse(rules: Rules) {
    let table = Table::new(rules, OLD);
    table.world.phase.logging.store(true, Ordering::SeqCst);
    let dropper = spawn(&table, |table, _| table.give_up(0));
    let maker = spawn(&table, |table, mutator| {
        let first = table.make(YOUNG, mutator.logging).unwrap();
        mutator.safepoint();
        if let Some(second) = table.make(YOUNG, mutator.logging) {
            assert_ne!(first, second, "two roots have one entry");
            assert_eq!(table.slots[second].load(Ordering::Acquire), YOUNG);
        }
    });
    table.mark();
    dropper.join().unwrap();
    maker.join().unwrap();
}

#[test]
fn what_a_dropped_root_held_is_marked() {
    check(2, || drop_and_reuse(ALL));
}

#[test]
#[should_panic(expected = "an object was lost with its root")]
fn an_object_is_lost_if_a_dropped_root_is_cleared_at_once() {
    check(2, || drop_and_reuse(Rules { keep: false, ..ALL }));
}

#[test]
#[should_panic(expected = "an object was lost with its root")]
fn an_object_is_lost_if_an_entry_is_used_again_while_marking_runs() {
    check(2, || drop_and_reuse(Rules { idle: false, ..ALL }));
}

/// A mutator overwrites the only root while the collector marks.
fn overwrite(rules: Rules) {
    let table = Table::new(rules, OLD);
    table.world.phase.logging.store(true, Ordering::SeqCst);
    let mutator = spawn(&table, |table, mutator| table.set(mutator, 0, YOUNG));
    table.mark();
    mutator.join().unwrap();
}

#[test]
fn what_a_root_held_is_marked_when_it_is_overwritten() {
    check(3, || overwrite(ALL));
}

#[test]
#[should_panic(expected = "an object was lost with its root")]
fn an_object_is_lost_if_overwriting_a_root_does_not_log() {
    check(3, || overwrite(Rules { log: false, ..ALL }));
}

/// Marking is over. A mutator gives up a weak root and makes others while the collector resolves them.
fn resolve_and_reuse(rules: Rules) {
    let table = Table::new(rules, DEAD);
    let mutator = spawn(&table, |table, _| {
        table.give_up(0);
        [(); 2].map(|()| table.make(YOUNG, false).expect("the entry was given up"))
    });
    table.resolve();
    let made = mutator.join().unwrap();
    assert_ne!(made[0], made[1], "two roots have one entry");
    assert!(table.slots.iter().all(|slot| slot.load(Ordering::Acquire) == YOUNG), "a new weak root was cleared");
}

#[test]
fn a_weak_root_in_an_entry_that_is_used_again_is_not_cleared() {
    check(4, || resolve_and_reuse(ALL));
}

#[test]
#[should_panic(expected = "a new weak root was cleared")]
fn a_new_weak_root_is_cleared_without_compare_and_swap() {
    check(3, || resolve_and_reuse(Rules { clear_by_cas: false, ..ALL }));
}
