//! Locals against the marker, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! Two objects are reachable at mark start from nowhere but a thread's locals. While the marker
//! scans these, the thread loads both into registers and ends or overwrites their locals; they must
//! be marked, or logged.
#![cfg(loom)]

mod support;

use gc_core::locals::{Locals, Watermark};
use gc_core::rules::{Rule, without};
use gc_core::scan::Pieces;
use gc_core::slot::{self, Barriers};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use gc_core::units::Granule;
use gc_core::word::{GoodWord, Word};
use loom::thread;
use std::cell::RefCell;
use std::sync::Arc;
use support::check;
use support::marking::{A, B, Marking};
use support::words::{good, granule, slot as slot_of};

/// The marking that runs.
const EPOCH: u32 = 2;

/// Addresses: the first local is at 0.
const SECOND: u64 = 8;
const TOP: u64 = 16;

struct Thread {
    slots: [AtomicU64; 3],
    locals: Locals,
    marking: Marking,
}

impl Thread {
    /// With two locals, as of the last safepoint.
    fn new() -> Arc<Thread> {
        let locals = Locals::default();
        locals.publish_top(TOP);
        Arc::new(Thread { slots: [good(A), good(B), GoodWord::NULL].map(slot_of), locals, marking: Marking::new() })
    }

    fn slot(&self, address: u64) -> &AtomicU64 {
        &self.slots[address as usize / 8]
    }

    /// The marker comes to the thread.
    fn scan(&self) {
        let slots = self.locals.top_to_scan(EPOCH) as usize / 8;
        let visit = || {
            for slot in &self.slots[..slots] {
                let word = Word::of(slot, Ordering::Acquire);
                if !word.is_null() {
                    self.marking.mark(granule(word));
                }
            }
        };
        Pieces::new(1).visit(visit, || self.locals.set_scanned(EPOCH));
    }
}

/// The thread's side, as it leaves the stop of mark start or the parked state.
struct Mutator {
    thread: Arc<Thread>,
    top: u64,
    watermark: Watermark,
    log: RefCell<Vec<Word>>,
}

impl Mutator {
    fn begin(thread: Arc<Thread>) -> Mutator {
        let watermark = Watermark::default();
        watermark.begin(&thread.locals, EPOCH, TOP);
        Mutator { thread, top: TOP, watermark, log: RefCell::default() }
    }

    fn push(&mut self, word: GoodWord) {
        slot::publish(self.thread.slot(self.top), word.word());
        self.top += 8;
    }

    fn pop_to(&mut self, address: u64) {
        if self.watermark.is_above(address) {
            let slot = |address| self.thread.slot(address);
            let is_scanned = self.thread.locals.is_scanned(EPOCH);
            self.watermark.pop_to(address, self.top, is_scanned, slot, |word| self.log(word));
        }
        self.top = address;
    }

    fn set(&mut self, address: u64, word: GoodWord) {
        slot::store_own(self.thread.slot(address), word, self);
    }

    /// At a safepoint.
    fn publish(&mut self) {
        self.thread.locals.publish_top(self.top);
        self.thread.marking.flush_log(self.log.get_mut());
    }
}

/// No word is stale.
impl Barriers for Mutator {
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
        true
    }

    fn log(&self, word: Word) {
        self.thread.marking.log(&mut self.log.borrow_mut(), word);
    }
}

/// The marker scans the locals while their thread does `work`. Both objects are marked in the end.
fn scan_against(work: fn(&mut Mutator)) {
    let thread = Thread::new();
    let owner = {
        let thread = Arc::clone(&thread);
        thread::spawn(move || {
            let mut mutator = Mutator::begin(thread);
            work(&mut mutator);
            mutator.publish();
        })
    };
    thread.scan();
    owner.join().unwrap();
    thread.marking.take_logs(granule);
    for object in [A, B] {
        assert!(
            thread.marking.marks.get(Granule::new(object)),
            "an object that was reachable at mark start is not marked"
        );
    }
}

fn pop_both(m: &mut Mutator) {
    m.pop_to(SECOND);
    m.publish();
    m.pop_to(0);
}

fn pop_and_push(m: &mut Mutator) {
    m.pop_to(SECOND);
    let young = m.thread.marking.allocate(0);
    m.push(young);
    m.publish();
    m.push(young);
    m.pop_to(0);
    let young = m.thread.marking.allocate(1);
    m.push(young);
}

fn overwrite_both(m: &mut Mutator) {
    let young = m.thread.marking.allocate(0);
    m.set(SECOND, young);
    m.publish();
    m.set(0, GoodWord::NULL);
}

#[test]
fn locals_that_end_are_scanned_or_logged() {
    check(5, || scan_against(pop_both));
}

#[test]
fn locals_that_end_and_are_used_again_are_scanned_or_logged() {
    check(4, || scan_against(pop_and_push));
}

#[test]
fn locals_that_are_overwritten_are_scanned_or_logged() {
    check(5, || scan_against(overwrite_both));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_ending_a_local_does_not_log() {
    without(Rule::LogPops, || check(3, || scan_against(pop_and_push)));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_overwriting_a_local_does_not_log() {
    without(Rule::LogStores, || check(3, || scan_against(overwrite_both)));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_a_thread_leaves_without_a_watermark() {
    without(Rule::WatermarkAtTop, || check(3, || scan_against(pop_and_push)));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_locals_are_said_to_be_scanned_too_early() {
    without(Rule::ScanThenSay, || check(3, || scan_against(pop_and_push)));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_the_limit_of_the_scan_comes_late() {
    without(Rule::LimitThenEpoch, || check(3, || scan_against(pop_both)));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_the_limit_of_the_scan_is_not_released() {
    without(Rule::EpochRelease, || check(3, || scan_against(pop_both)));
}

/// The scan may come to a slot below the watermark after it was used again.
#[test]
#[should_panic(expected = "Causality violation")]
fn a_local_pushed_without_release_shows_the_marker_half_an_object() {
    without(Rule::StoreRelease, || check(3, || scan_against(pop_and_push)));
}
