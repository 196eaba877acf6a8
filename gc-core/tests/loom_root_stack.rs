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

    /// `StackRegion::log_range`.
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

/// Two markers visit a slot each, as pieces of `collector/roots.rs`, while the owner does `pop_both` or `pop_and_push`. `last`: who visits
/// the last piece says that the stack is scanned; else each does.
fn scan_in_pieces(last: bool, order: Ordering, work: fn(&mut RootStack)) {
    let region = Region::new(ALL);
    let owner = {
        let region = Arc::clone(&region);
        thread::spawn(move || {
            let mut stack = RootStack { region, top: 2, log: Vec::new() };
            work(&mut stack);
            stack.region.marking.flush_log(&mut stack.log);
        })
    };
    let left = Arc::new(AtomicU32::new(2));
    let visit = move |region: &Region, left: &AtomicU32, index: usize| {
        let word = region.slots[index].load(Ordering::Acquire);
        if word != 0 {
            let object = granule(word);
            assert!(!region.marking.marks.set(object) || object == A || object == B, "no object of the snapshot");
        }
        if left.fetch_sub(1, order) == 1 || !last {
            region.scanned.store(EPOCH, Ordering::Release);
        }
    };
    let marker = {
        let (region, left) = (Arc::clone(&region), Arc::clone(&left));
        thread::spawn(move || visit(&region, &left, 1))
    };
    visit(&region, &left, 0);
    marker.join().unwrap();
    owner.join().unwrap();
    for word in region.marking.take_log() {
        region.marking.marks.set(granule(word));
    }
    for object in [A, B] {
        assert!(region.marking.marks.get(object), "an object that was reachable at mark start is not marked");
    }
}

#[test]
fn a_stack_is_scanned_when_the_last_of_its_pieces_is() {
    check(2, || scan_in_pieces(true, Ordering::AcqRel, pop_both));
    check(2, || scan_in_pieces(true, Ordering::AcqRel, pop_and_push));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_the_first_piece_is_taken_for_the_stack() {
    check(3, || scan_in_pieces(false, Ordering::AcqRel, pop_and_push));
}

/// What a stack's memory is given back by.
#[derive(Clone, Copy)]
struct MemoryRules {
    /// The collector discards under the lock under which the owner raises the limit.
    lock: bool,
    /// The limit is lowered where the owner is stopped.
    lower_in_a_stop: bool,
}

/// A stack's slots beyond the first step, as `StackRegion` limits them. Slots, not pages, are what has memory here.
struct Memory {
    rules: MemoryRules,
    limit: AtomicU64,
    touched: AtomicU64,
    lock: loom::sync::Mutex<()>,
    slots: [AtomicU64; 2],
}

impl Memory {
    /// After a recursion to both slots that has ended: only the limit of before the stop says so.
    fn new(rules: MemoryRules) -> Arc<Memory> {
        // Where no stop lowers it, the collector does it later, while the owner runs.
        let limit = if rules.lower_in_a_stop { 0 } else { 2 };
        Arc::new(Memory {
            rules,
            limit: AtomicU64::new(limit),
            touched: AtomicU64::new(2),
            lock: loom::sync::Mutex::new(()),
            slots: [7, 7].map(AtomicU64::new),
        })
    }

    /// `RootStack::push` with `StackRegion::admit`, and a look at what was pushed.
    fn push(&self, index: u64) {
        if index >= self.limit.load(Ordering::Relaxed) {
            let _guard = self.lock.lock().unwrap();
            self.touched.store(self.touched.load(Ordering::Relaxed).max(index + 1), Ordering::Relaxed);
            self.limit.store(index + 1, Ordering::Relaxed);
        }
        self.slots[index as usize].store(1 + index, Ordering::Release);
    }

    /// `StackRegion::give_back`. What the kernel takes reads as zero.
    fn give_back(&self) {
        if !self.rules.lower_in_a_stop {
            self.limit.store(0, Ordering::Relaxed);
        }
        let guard = self.rules.lock.then(|| self.lock.lock().unwrap());
        let (limit, touched) = (self.limit.load(Ordering::Relaxed), self.touched.load(Ordering::Relaxed));
        for slot in &self.slots[(limit as usize).min(touched as usize)..touched as usize] {
            slot.store(0, Ordering::Relaxed);
        }
        self.touched.store(limit, Ordering::Relaxed);
        drop(guard);
    }
}

/// The collector gives memory back while the owner goes deep again. What was pushed is there.
fn give_back_against(rules: MemoryRules) {
    let memory = Memory::new(rules);
    let owner = {
        let memory = Arc::clone(&memory);
        thread::spawn(move || (0..2).for_each(|index| memory.push(index)))
    };
    memory.give_back();
    owner.join().unwrap();
    let found = [0, 1].map(|index: usize| memory.slots[index].load(Ordering::Acquire));
    assert_eq!(found, [1, 2], "memory in use was given back");
    if rules.lock && rules.lower_in_a_stop {
        assert_eq!(memory.touched.load(Ordering::Relaxed), 2, "memory in use is not counted");
    }
}

#[test]
fn memory_is_given_back_above_the_limit_alone() {
    check(4, || give_back_against(MemoryRules { lock: true, lower_in_a_stop: true }));
}

#[test]
#[should_panic(expected = "memory in use was given back")]
fn a_pushed_word_is_lost_without_the_lock() {
    check(4, || give_back_against(MemoryRules { lock: false, lower_in_a_stop: true }));
}

#[test]
#[should_panic(expected = "memory in use was given back")]
fn a_pushed_word_is_lost_if_the_limit_is_lowered_under_its_owner() {
    check(4, || give_back_against(MemoryRules { lock: true, lower_in_a_stop: false }));
}
