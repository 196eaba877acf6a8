//! A root stack against the marker, under every interleaving: `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release
//! --test 'loom_*'`.
//!
//! Two objects are reachable at mark start from nowhere but a root stack. The marker comes to the stack at some time; its
//! owner loads both into registers and pops or overwrites their slots; they must be marked, or logged.
#![cfg(loom)]

mod support;

use gc_core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;
use support::check;
use support::marking::{A, B, DEAD, Marking};
use support::store;
use support::words::{good, granule};

/// The marking that runs.
const EPOCH: u32 = 2;

/// What a model can leave out or weaken, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    log: bool,
    /// The stack is said to be scanned when it has been.
    scan_then_say: bool,
    /// A slot is written before the top covers it.
    write_then_cover: bool,
    top: Ordering,
    push: Ordering,
}

const ALL: Rules =
    Rules { log: true, scan_then_say: true, write_then_cover: true, top: Ordering::Release, push: Ordering::Release };

/// `StackRegion`.
struct Region {
    rules: Rules,
    slots: [AtomicU64; 3],
    top: AtomicU64,
    scanned: AtomicU32,
    marking: Marking,
}

impl Region {
    fn new(rules: Rules) -> Arc<Region> {
        Arc::new(Region {
            rules,
            // Above the top is what was popped long ago.
            slots: [good(A), good(B), good(DEAD)].map(AtomicU64::new),
            top: AtomicU64::new(2),
            scanned: AtomicU32::new(EPOCH - 1),
            marking: Marking::new(),
        })
    }

    /// `StackRegion::scan` and `set_scanned`, with `Marker::visit` of a good word.
    fn scan(&self) {
        if !self.rules.scan_then_say {
            self.scanned.store(EPOCH, Ordering::Release);
        }
        let top = self.top.load(Ordering::Acquire);
        for slot in &self.slots[..top as usize] {
            let word = slot.load(Ordering::Acquire);
            if word != 0 {
                self.marking.mark(granule(word));
            }
        }
        if self.rules.scan_then_say {
            self.scanned.store(EPOCH, Ordering::Release);
        }
    }
}

/// `RootStack`, and its owner's log.
struct RootStack {
    region: Arc<Region>,
    top: usize,
    log: Vec<u64>,
}

impl RootStack {
    fn set_top(&mut self, top: usize) {
        self.top = top;
        self.region.top.store(top as u64, self.region.rules.top);
    }

    fn push(&mut self, word: u64) {
        let index = self.top;
        if !self.region.rules.write_then_cover {
            self.set_top(index + 1);
        }
        store(&self.region.slots[index], word, self.region.rules.push);
        if self.region.rules.write_then_cover {
            self.set_top(index + 1);
        }
    }

    fn pop(&mut self) {
        self.log_slot(self.top - 1);
        self.set_top(self.top - 1);
    }

    fn set(&mut self, index: usize, word: u64) {
        self.log_slot(index);
        store(&self.region.slots[index], word, Ordering::Release);
    }

    /// `RootStack::log_range`.
    fn log_slot(&mut self, index: usize) {
        if self.region.rules.log && self.region.scanned.load(Ordering::Acquire) != EPOCH {
            self.region.marking.log(&mut self.log, self.region.slots[index].load(Ordering::Acquire));
        }
    }
}

/// The marker scans the stack while its owner does `work`. Both objects are marked in the end.
fn scan_against(rules: Rules, work: fn(&mut RootStack)) {
    let region = Region::new(rules);
    let owner = {
        let region = Arc::clone(&region);
        thread::spawn(move || {
            let mut stack = RootStack { region, top: 2, log: Vec::new() };
            work(&mut stack);
            stack.region.marking.flush_log(&mut stack.log);
        })
    };
    region.scan();
    owner.join().unwrap();
    region.marking.take_logs(granule);
    for object in [A, B] {
        assert!(region.marking.marks.get(object), "an object that was reachable at mark start is not marked");
    }
}

fn pop_and_push(stack: &mut RootStack) {
    stack.pop();
    let young = stack.region.marking.allocate(0);
    stack.push(young);
    stack.push(young);
    stack.set(0, young);
}

fn pop_both(stack: &mut RootStack) {
    stack.pop();
    stack.pop();
    let young = stack.region.marking.allocate(0);
    stack.push(young);
}

#[test]
fn what_is_popped_is_scanned_or_logged() {
    check(5, || scan_against(ALL, pop_both));
}

#[test]
fn what_is_overwritten_is_scanned_or_logged() {
    check(4, || scan_against(ALL, pop_and_push));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_without_logging() {
    check(3, || scan_against(Rules { log: false, ..ALL }, pop_and_push));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_the_stack_is_said_to_be_scanned_too_early() {
    check(3, || scan_against(Rules { scan_then_say: false, ..ALL }, pop_and_push));
}

#[test]
#[should_panic(expected = "a slot that nobody has written")]
fn the_marker_visits_an_old_word_if_the_top_covers_a_slot_too_early() {
    check(3, || scan_against(Rules { write_then_cover: false, ..ALL }, pop_and_push));
}

#[test]
#[should_panic(expected = "a slot that nobody has written")]
fn the_marker_visits_an_old_word_if_the_top_is_not_released() {
    check(3, || scan_against(Rules { top: Ordering::Relaxed, ..ALL }, pop_and_push));
}

/// The top that covers a slot was read before the slot was popped and used again, so it orders nothing then.
#[test]
#[should_panic(expected = "Causality violation")]
fn a_word_pushed_without_release_shows_the_marker_half_an_object() {
    check(3, || scan_against(Rules { push: Ordering::Relaxed, ..ALL }, pop_both));
}
