//! The table of process-wide roots under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! At mark start an object is reachable through one root only. A mutator takes the object into a
//! register and drops the root; another mutator wants roots and takes back dropped entries when it
//! may. The object must be marked.
#![cfg(loom)]

mod support;

use gc_core::bitmap::MarkBitmap;
use gc_core::root_table::{self, Dropped, Entries};
use gc_core::rules::{Rule, without};
use gc_core::slot::{self, Barriers};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use gc_core::units::Granule;
use gc_core::weak;
use gc_core::word::{GoodWord, Word};
use loom::cell::UnsafeCell;
use loom::sync::{Mutex, MutexGuard};
use loom::thread;
use std::sync::Arc;
use support::check;
use support::words::{good, granule, must_log, slot as slot_of};
use support::world::{Mutator, Rules as WorldRules, VmOperation, World};

/// Reachable at mark start; allocated while marking runs, and so live without a visit; dead.
const OLD: usize = 1;
const YOUNG: usize = 2;
const DEAD: usize = 3;

/// A table with one entry in use, and one free.
struct Table {
    world: Arc<World>,
    marks: MarkBitmap,
    slots: [AtomicU64; 2],
    free: Mutex<Vec<usize>>,
    dropped: DroppedEntries,
    /// Written by who has the entry: loom panics where two have it at a time.
    owners: [UnsafeCell<()>; 2],
}

// SAFETY: an entry's cell is its owner's; that there is one at a time is what loom checks.
unsafe impl Sync for Table {}
// SAFETY: as above.
unsafe impl Send for Table {}

/// Stands for the lock-free list.
struct DroppedEntries(Mutex<Vec<usize>>);

impl Dropped for DroppedEntries {
    fn push(&self, entry: usize) {
        self.0.lock().unwrap().push(entry);
    }

    fn pop(&self) -> Option<usize> {
        self.0.lock().unwrap().pop()
    }
}

/// The table while it is locked. It does not grow.
struct Locked<'a>(&'a [AtomicU64; 2], MutexGuard<'a, Vec<usize>>);

impl Entries for Locked<'_> {
    fn free(&mut self) -> &mut Vec<usize> {
        &mut self.1
    }

    fn slot(&self, entry: usize) -> &AtomicU64 {
        &self.0[entry]
    }

    fn grow(&mut self) {}
}

/// A mutator of the table. No word is stale.
struct Running<'a>(&'a Table, &'a Mutator);

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

impl Table {
    fn new(object: usize) -> Arc<Table> {
        Arc::new(Table {
            world: World::new(WorldRules::ALL),
            marks: MarkBitmap::new(64).unwrap(),
            slots: [good(object), GoodWord::NULL].map(slot_of),
            free: Mutex::new(vec![1]),
            dropped: DroppedEntries(Mutex::new(Vec::new())),
            owners: [(); 2].map(UnsafeCell::new),
        })
    }

    /// A root of the young object. `None`: the table would grow.
    fn make(&self, logging: bool) -> Option<usize> {
        let mut locked = Locked(&self.slots, self.free.lock().unwrap());
        let entry = root_table::take(&self.dropped, &mut locked, good(YOUNG).word(), !logging)?;
        drop(locked);
        self.own(entry);
        Some(entry)
    }

    fn own(&self, entry: usize) {
        self.owners[entry].with_mut(|_| ());
    }

    fn give_up(&self, entry: usize) {
        self.own(entry);
        root_table::give_up(&self.dropped, entry, &self.slots[entry]);
    }

    fn set(&self, mutator: &Mutator, entry: usize, object: usize) {
        slot::store(&self.slots[entry], good(object), &Running(self, mutator));
    }

    /// The collector marks.
    fn mark(&self) {
        for slot in &self.slots {
            let word = Word::of(slot, Ordering::Acquire);
            if !word.is_null() {
                self.marks.set_alone(Granule::new(granule(word)));
            }
        }
        loop {
            for word in std::mem::take(&mut *self.world.log.lock().unwrap()) {
                self.marks.set_alone(Granule::new(granule(word)));
            }
            if self.world.stop(VmOperation::MarkEnd) {
                break;
            }
        }
        assert!(self.marks.get(Granule::new(OLD)), "an object was lost with its root");
    }

    /// The collector resolves weak roots: all but `YOUNG` is dead.
    fn resolve(&self) {
        for slot in &self.slots {
            weak::resolve(
                slot,
                |word| !word.is_null(),
                |word| if word == good(DEAD).word() { GoodWord::NULL } else { GoodWord::new(word) },
            );
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
fn drop_and_reuse() {
    let table = Table::new(OLD);
    table.world.phase.logging.store(true, Ordering::SeqCst);
    let dropper = spawn(&table, |table, _| table.give_up(0));
    let maker = spawn(&table, |table, mutator| {
        let first = table.make(mutator.logging).unwrap();
        mutator.safepoint();
        if let Some(second) = table.make(mutator.logging) {
            assert_ne!(first, second, "two roots have one entry");
            assert_eq!(table.slots[second].load(Ordering::Acquire), good(YOUNG).bits());
        }
    });
    table.mark();
    dropper.join().unwrap();
    maker.join().unwrap();
}

#[test]
fn what_a_dropped_root_held_is_marked() {
    check(2, drop_and_reuse);
}

#[test]
#[should_panic(expected = "an object was lost with its root")]
fn an_object_is_lost_if_a_dropped_root_is_cleared_at_once() {
    without(Rule::KeepDropped, || check(2, drop_and_reuse));
}

#[test]
#[should_panic(expected = "an object was lost with its root")]
fn an_object_is_lost_if_an_entry_is_used_again_while_marking_runs() {
    without(Rule::ReclaimWhileIdle, || check(2, drop_and_reuse));
}

/// A mutator overwrites the only root while the collector marks.
fn overwrite() {
    let table = Table::new(OLD);
    table.world.phase.logging.store(true, Ordering::SeqCst);
    let mutator = spawn(&table, |table, mutator| table.set(mutator, 0, YOUNG));
    table.mark();
    mutator.join().unwrap();
}

#[test]
fn what_a_root_held_is_marked_when_it_is_overwritten() {
    check(3, overwrite);
}

#[test]
#[should_panic(expected = "an object was lost with its root")]
fn an_object_is_lost_if_overwriting_a_root_does_not_log() {
    without(Rule::LogStores, || check(3, overwrite));
}

/// Marking is over. A mutator gives up a weak root and makes others while the collector resolves
/// them.
fn resolve_and_reuse() {
    let table = Table::new(DEAD);
    let mutator = spawn(&table, |table, _| {
        table.give_up(0);
        [(); 2].map(|()| table.make(false).expect("the entry was given up"))
    });
    table.resolve();
    let made = mutator.join().unwrap();
    assert_ne!(made[0], made[1], "two roots have one entry");
    assert!(
        table.slots.iter().all(|slot| slot.load(Ordering::Acquire) == good(YOUNG).bits()),
        "a new weak root was cleared"
    );
}

#[test]
fn a_weak_root_in_an_entry_that_is_used_again_is_not_cleared() {
    check(4, resolve_and_reuse);
}

#[test]
#[should_panic(expected = "a new weak root was cleared")]
fn a_new_weak_root_is_cleared_without_compare_and_swap() {
    without(Rule::ClearByCas, || check(3, resolve_and_reuse));
}
