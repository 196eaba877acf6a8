//! A root stack against the marker, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! Two objects are reachable at mark start from nowhere but a root stack. The marker comes to the
//! stack at some time; its owner loads both into registers and pops or overwrites their slots; they
//! must be marked, or logged.
#![cfg(loom)]

mod support;

use gc_core::root_stack::RootStackState;
use gc_core::rules::{Rule, without};
use gc_core::scan::Pieces;
use gc_core::slot::publish;
use gc_core::sync::atomic::{AtomicU64, Ordering};
use gc_core::units::Granule;
use gc_core::word::{GoodWord, Word};
use loom::thread;
use std::cell::RefCell;
use std::sync::Arc;
use support::check;
use support::marking::{A, B, DEAD, Marking};
use support::words::{good, granule, slot as slot_of};

/// The marking that runs.
const EPOCH: u32 = 2;

struct Region {
    slots: [AtomicU64; 3],
    state: RootStackState,
    marking: Marking,
}

impl Region {
    fn new() -> Arc<Region> {
        // Above the top is what was popped long ago.
        let slots = [good(A), good(B), good(DEAD)].map(slot_of);
        let state = RootStackState::new(3);
        state.set_top(2);
        Arc::new(Region { slots, state, marking: Marking::new() })
    }

    /// The only marker comes to the stack.
    fn scan(&self) {
        let top = self.state.top();
        let visit = || {
            for slot in &self.slots[..top] {
                let word = Word::of(slot, Ordering::Acquire);
                if !word.is_null() {
                    self.marking.mark(granule(word));
                }
            }
        };
        Pieces::new(1).visit(visit, || self.state.set_scanned(EPOCH));
    }
}

/// The owner of the stack, and its log.
struct RootStack {
    region: Arc<Region>,
    log: RefCell<Vec<Word>>,
}

impl RootStack {
    fn of(region: Arc<Region>) -> RootStack {
        RootStack { region, log: RefCell::default() }
    }

    fn push(&mut self, word: GoodWord) {
        let top = self.region.state.len();
        self.region.state.push(&self.region.slots[top], top, word);
    }

    fn pop(&mut self) {
        let index = self.region.state.len() - 1;
        self.region.state.cut(index, || self.log_slot(index));
    }

    fn set(&mut self, index: usize, word: GoodWord) {
        self.region.state.overwrite(&self.region.slots[index], word, || self.log_slot(index));
    }

    fn log_slot(&self, index: usize) {
        let log = |word| self.region.marking.log(&mut self.log.borrow_mut(), word);
        self.region.state.log(EPOCH, [&self.region.slots[index]].into_iter(), log);
    }

    /// At a safepoint.
    fn publish(&mut self) {
        self.region.marking.flush_log(self.log.get_mut());
    }
}

/// The marker scans the stack while its owner does `work`. Both objects are marked in the end.
fn scan_against(work: fn(&mut RootStack)) {
    let region = Region::new();
    let owner = {
        let region = Arc::clone(&region);
        thread::spawn(move || {
            let mut stack = RootStack::of(region);
            work(&mut stack);
            stack.publish();
        })
    };
    region.scan();
    owner.join().unwrap();
    region.marking.take_logs(granule);
    for object in [A, B] {
        assert!(
            region.marking.marks.get(Granule::new(object)),
            "an object that was reachable at mark start is not marked"
        );
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
    check(5, || scan_against(pop_both));
}

#[test]
fn what_is_overwritten_is_scanned_or_logged() {
    check(4, || scan_against(pop_and_push));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_without_logging() {
    without(Rule::LogPops, || check(3, || scan_against(pop_and_push)));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_the_stack_is_said_to_be_scanned_too_early() {
    without(Rule::ScanThenSay, || check(3, || scan_against(pop_and_push)));
}

#[test]
#[should_panic(expected = "a slot that nobody has written")]
fn the_marker_visits_an_old_word_if_the_top_covers_a_slot_too_early() {
    without(Rule::WriteThenCover, || check(3, || scan_against(pop_and_push)));
}

#[test]
#[should_panic(expected = "a slot that nobody has written")]
fn the_marker_visits_an_old_word_if_the_top_is_not_released() {
    without(Rule::TopRelease, || check(3, || scan_against(pop_and_push)));
}

/// The top that covers a slot was read before the slot was popped and used again, so it orders
/// nothing then.
#[test]
#[should_panic(expected = "Causality violation")]
fn a_word_pushed_without_release_shows_the_marker_half_an_object() {
    without(Rule::StoreRelease, || check(3, || scan_against(pop_both)));
}

/// Two markers visit a piece each, of one slot, while the owner does `pop_both` or `pop_and_push`.
fn scan_in_pieces(work: fn(&mut RootStack)) {
    let region = Region::new();
    let owner = {
        let region = Arc::clone(&region);
        thread::spawn(move || {
            let mut stack = RootStack::of(region);
            work(&mut stack);
            stack.publish();
        })
    };
    let pieces = Arc::new(Pieces::new(2));
    let visit = move |region: &Region, pieces: &Pieces, index: usize| {
        let visit = || {
            let word = Word::of(&region.slots[index], Ordering::Acquire);
            if !word.is_null() {
                let object = granule(word);
                assert!(
                    !region.marking.marks.set(Granule::new(object)) || object == A || object == B,
                    "no object of the snapshot"
                );
            }
        };
        pieces.visit(visit, || region.state.set_scanned(EPOCH));
    };
    let marker = {
        let (region, pieces) = (Arc::clone(&region), Arc::clone(&pieces));
        thread::spawn(move || visit(&region, &pieces, 1))
    };
    visit(&region, &pieces, 0);
    marker.join().unwrap();
    owner.join().unwrap();
    for word in region.marking.take_log() {
        region.marking.marks.set(Granule::new(granule(word)));
    }
    for object in [A, B] {
        assert!(
            region.marking.marks.get(Granule::new(object)),
            "an object that was reachable at mark start is not marked"
        );
    }
}

#[test]
fn a_stack_is_scanned_when_the_last_of_its_pieces_is() {
    check(2, || scan_in_pieces(pop_both));
    check(2, || scan_in_pieces(pop_and_push));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_the_first_piece_is_taken_for_the_stack() {
    without(Rule::LastPieceSays, || check(3, || scan_in_pieces(pop_and_push)));
}

/// A stack's memory: slots, not pages, are what has memory here.
struct Memory {
    /// The limit is lowered where the owner is stopped. (The model can leave that out.)
    lower_in_a_stop: bool,
    state: RootStackState,
    slots: [AtomicU64; 2],
}

impl Memory {
    /// After a recursion to both slots that has ended: only the limit of before the stop says so.
    fn new(lower_in_a_stop: bool) -> Arc<Memory> {
        let state = RootStackState::new(2);
        // Where no stop lowers it, the collector does it later, while the owner runs.
        if lower_in_a_stop {
            state.lower(0);
        }
        Arc::new(Memory { lower_in_a_stop, state, slots: [7, 7].map(AtomicU64::new) })
    }

    /// Pushes, with one slot of memory at a time.
    fn push(&self, index: usize) {
        if index >= self.state.limit() {
            self.state.raise(index + 1);
        }
        publish(&self.slots[index], Word::new(1 + index as u64));
    }

    /// What the kernel takes reads as zero.
    fn give_back(&self) {
        if !self.lower_in_a_stop {
            self.state.lower(0);
        }
        self.state.give_back(|slots| {
            self.slots[slots].iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
            true
        });
    }
}

/// The collector gives memory back while the owner goes deep again. What was pushed is there. Gives
/// the slots with memory.
fn give_back_against(lower_in_a_stop: bool) -> usize {
    let memory = Memory::new(lower_in_a_stop);
    let owner = {
        let memory = Arc::clone(&memory);
        thread::spawn(move || (0..2).for_each(|index| memory.push(index)))
    };
    memory.give_back();
    owner.join().unwrap();
    let found = [0, 1].map(|index: usize| memory.slots[index].load(Ordering::Acquire));
    assert_eq!(found, [1, 2], "memory in use was given back");
    memory.state.touched()
}

#[test]
fn memory_is_given_back_above_the_limit_alone() {
    check(4, || assert_eq!(give_back_against(true), 2, "memory in use is not counted"));
}

#[test]
#[should_panic(expected = "memory in use was given back")]
fn a_pushed_word_is_lost_without_the_lock() {
    without(Rule::DiscardUnderLock, || check(4, || _ = give_back_against(true)));
}

#[test]
#[should_panic(expected = "memory in use was given back")]
fn a_pushed_word_is_lost_if_the_limit_is_lowered_under_its_owner() {
    check(4, || _ = give_back_against(false));
}
