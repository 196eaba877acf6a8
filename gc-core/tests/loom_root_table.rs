//! Dropped process-wide roots against the marker, under every interleaving: `RUSTFLAGS="--cfg loom" cargo test -p gc-core
//! --release --test 'loom_*'`.
//!
//! At mark start an object is reachable through one root only. A mutator takes the object out, puts it where the marker has
//! been already, and drops the root; another wants a root and may get the same entry. The object must be marked.
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
    /// A dropped root's entry keeps its word.
    keep: bool,
    /// Entries are taken back only while no marking runs.
    idle: bool,
}

const ALL: Rules = Rules { keep: true, idle: true };

const OLD: u64 = 1;
/// Allocated while marking runs: live without a visit.
const YOUNG: u64 = 2;

struct Table {
    rules: Rules,
    marks: MarkBitmap,
    /// The entry, and the list of dropped ones.
    entry: AtomicU64,
    dropped: Mutex<Vec<()>>,
    logging: AtomicBool,
    /// One a mutator: held between two safepoints.
    running: [Mutex<()>; 2],
    moved: AtomicBool,
}

impl Table {
    /// `Root::get`, a store to where the marker has been, and `RootCell::drop`.
    fn take_out_and_drop(&self) {
        let _running = self.running[0].lock().unwrap();
        assert_eq!(self.entry.load(Ordering::Acquire), OLD);
        self.moved.store(true, Ordering::Release);
        if !self.rules.keep {
            self.entry.store(0, Ordering::Relaxed);
        }
        self.dropped.lock().unwrap().push(());
    }

    /// `RootCell::new`: another entry if none is free (not modelled), or this one.
    fn make_root(&self) {
        let _running = self.running[1].lock().unwrap();
        let idle = !self.logging.load(Ordering::Acquire);
        if (idle || !self.rules.idle) && self.dropped.lock().unwrap().pop().is_some() {
            self.entry.store(YOUNG, Ordering::Release);
        }
    }

    /// `Collector::mark_roots`, and the stop for mark end.
    fn mark(&self) {
        let word = self.entry.load(Ordering::Acquire);
        self.marks.set_alone(word as usize);
        let _stop = (self.running[0].lock().unwrap(), self.running[1].lock().unwrap());
        self.logging.store(false, Ordering::Release);
    }
}

fn run(rules: Rules) {
    let table = Arc::new(Table {
        rules,
        marks: MarkBitmap::new(64),
        entry: AtomicU64::new(OLD),
        dropped: Mutex::new(Vec::new()),
        logging: AtomicBool::new(true),
        running: [Mutex::new(()), Mutex::new(())],
        moved: AtomicBool::new(false),
    });
    let tasks: [fn(&Table); 3] = [Table::take_out_and_drop, Table::make_root, Table::mark];
    let threads = tasks.map(|task| {
        let table = Arc::clone(&table);
        thread::spawn(move || task(&table))
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(table.moved.load(Ordering::Acquire));
    assert!(table.marks.get(OLD as usize), "an object was lost with its root");
}

#[test]
fn what_a_dropped_root_held_is_marked() {
    check(3, || run(ALL));
}

#[test]
#[should_panic(expected = "an object was lost with its root")]
fn an_object_is_lost_if_a_dropped_root_is_cleared_at_once() {
    check(3, || run(Rules { keep: false, ..ALL }));
}

#[test]
#[should_panic(expected = "an object was lost with its root")]
fn an_object_is_lost_if_an_entry_is_used_again_while_marking_runs() {
    check(3, || run(Rules { idle: false, ..ALL }));
}
