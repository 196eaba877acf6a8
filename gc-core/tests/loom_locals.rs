//! Locals against the marker, under every interleaving: `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test
//! 'loom_*'`.
//!
//! Two objects are reachable at mark start from nowhere but a thread's locals. While the marker scans these, the thread
//! loads both into registers and ends or overwrites their locals; they must be marked, or logged.
#![cfg(loom)]

mod support;

use gc_core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;
use support::check;
use support::marking::{A, B, Marking};
use support::store;
use support::words::{good, granule};

/// The marking that runs.
const EPOCH: u32 = 2;

/// What a model can leave out or weaken, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    log_pops: bool,
    log_overwrites: bool,
    /// A thread sets its watermark to its top before it touches a slot.
    watermark: bool,
    /// The locals are said to be scanned when they have been.
    scan_then_say: bool,
    /// The limit of the scan is set, and then the marking that it is for.
    limit_then_epoch: bool,
    epoch: Ordering,
    push: Ordering,
}

const ALL: Rules = Rules {
    log_pops: true,
    log_overwrites: true,
    watermark: true,
    scan_then_say: true,
    limit_then_epoch: true,
    epoch: Ordering::Release,
    push: Ordering::Release,
};

/// `MutatorRecord`. A local's address is its index.
struct Record {
    rules: Rules,
    slots: [AtomicU64; 3],
    published_top: AtomicU64,
    scan_epoch: AtomicU32,
    scan_limit: AtomicU64,
    scanned: AtomicU32,
    marking: Marking,
}

impl Record {
    fn new(rules: Rules) -> Arc<Record> {
        Arc::new(Record {
            rules,
            slots: [good(A), good(B), 0].map(AtomicU64::new),
            published_top: AtomicU64::new(2),
            scan_epoch: AtomicU32::new(EPOCH - 1),
            scan_limit: AtomicU64::new(0),
            scanned: AtomicU32::new(EPOCH - 1),
            marking: Marking::new(),
        })
    }

    /// `MutatorRecord::begin_marking`.
    fn begin_marking(&self, top: u64) {
        if self.rules.limit_then_epoch {
            self.scan_limit.store(top, Ordering::Relaxed);
            self.scan_epoch.store(EPOCH, self.rules.epoch);
        } else {
            self.scan_epoch.store(EPOCH, self.rules.epoch);
            self.scan_limit.store(top, Ordering::Relaxed);
        }
    }

    /// `MutatorRecord::locals_to_scan`, `scan_locals` and `set_scanned`, with `Marker::visit` of a good word.
    fn scan_locals(&self) {
        if !self.rules.scan_then_say {
            self.scanned.store(EPOCH, Ordering::Release);
        }
        let published = self.published_top.load(Ordering::Acquire);
        let limit = if self.scan_epoch.load(Ordering::Acquire) == EPOCH {
            self.scan_limit.load(Ordering::Relaxed)
        } else {
            published
        };
        for slot in &self.slots[..limit as usize] {
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

/// `Mutator`, as it leaves the stop of mark start or the parked state.
struct Mutator {
    record: Arc<Record>,
    top: u64,
    watermark: u64,
    log: Vec<u64>,
}

impl Mutator {
    /// `Mutator::refresh`, where the epoch has changed.
    fn refresh(record: Arc<Record>) -> Mutator {
        let top = 2;
        record.begin_marking(top);
        let watermark = if record.rules.watermark { top } else { 0 };
        Mutator { record, top, watermark, log: Vec::new() }
    }

    /// `Mutator::push_local`.
    fn push(&mut self, word: u64) {
        store(&self.record.slots[self.top as usize], word, self.record.rules.push);
        self.top += 1;
    }

    /// `Mutator::pop_to` and `pop_below_watermark`.
    fn pop_to(&mut self, address: u64) {
        if address < self.watermark {
            if self.record.scanned.load(Ordering::Acquire) == EPOCH {
                self.watermark = 0;
            } else {
                for slot in &self.record.slots[address as usize..self.watermark.min(self.top) as usize] {
                    if self.record.rules.log_pops {
                        self.record.marking.log(&mut self.log, slot.load(Ordering::Relaxed));
                    }
                }
                self.watermark = address;
            }
        }
        self.top = address;
    }

    /// `Local::set`.
    fn set(&mut self, address: u64, word: u64) {
        let slot = &self.record.slots[address as usize];
        if self.record.rules.log_overwrites {
            self.record.marking.log(&mut self.log, slot.load(Ordering::Relaxed));
        }
        store(slot, word, Ordering::Release);
    }

    /// `Mutator::publish`, at a safepoint.
    fn publish(&mut self) {
        self.record.published_top.store(self.top, Ordering::Release);
        self.record.marking.flush_log(&mut self.log);
    }
}

/// The marker scans the locals while their thread does `work`. Both objects are marked in the end.
fn scan_against(rules: Rules, work: fn(&mut Mutator)) {
    let record = Record::new(rules);
    let owner = {
        let record = Arc::clone(&record);
        thread::spawn(move || {
            let mut mutator = Mutator::refresh(record);
            work(&mut mutator);
            mutator.publish();
        })
    };
    record.scan_locals();
    owner.join().unwrap();
    record.marking.take_logs(granule);
    for object in [A, B] {
        assert!(record.marking.marks.get(object), "an object that was reachable at mark start is not marked");
    }
}

fn pop_both(m: &mut Mutator) {
    m.pop_to(1);
    m.publish();
    m.pop_to(0);
}

fn pop_and_push(m: &mut Mutator) {
    m.pop_to(1);
    let young = m.record.marking.allocate(0);
    m.push(young);
    m.publish();
    m.push(young);
    m.pop_to(0);
    let young = m.record.marking.allocate(1);
    m.push(young);
}

fn overwrite_both(m: &mut Mutator) {
    let young = m.record.marking.allocate(0);
    m.set(1, young);
    m.publish();
    m.set(0, 0);
}

#[test]
fn locals_that_end_are_scanned_or_logged() {
    check(5, || scan_against(ALL, pop_both));
}

#[test]
fn locals_that_end_and_are_used_again_are_scanned_or_logged() {
    check(4, || scan_against(ALL, pop_and_push));
}

#[test]
fn locals_that_are_overwritten_are_scanned_or_logged() {
    check(5, || scan_against(ALL, overwrite_both));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_ending_a_local_does_not_log() {
    check(3, || scan_against(Rules { log_pops: false, ..ALL }, pop_and_push));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_overwriting_a_local_does_not_log() {
    check(3, || scan_against(Rules { log_overwrites: false, ..ALL }, overwrite_both));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_a_thread_leaves_without_a_watermark() {
    check(3, || scan_against(Rules { watermark: false, ..ALL }, pop_and_push));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_locals_are_said_to_be_scanned_too_early() {
    check(3, || scan_against(Rules { scan_then_say: false, ..ALL }, pop_and_push));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_the_limit_of_the_scan_comes_late() {
    check(3, || scan_against(Rules { limit_then_epoch: false, ..ALL }, pop_both));
}

#[test]
#[should_panic(expected = "is not marked")]
fn an_object_is_lost_if_the_limit_of_the_scan_is_not_released() {
    check(3, || scan_against(Rules { epoch: Ordering::Relaxed, ..ALL }, pop_both));
}

/// The scan may come to a slot below the watermark after it was used again.
#[test]
#[should_panic(expected = "Causality violation")]
fn a_local_pushed_without_release_shows_the_marker_half_an_object() {
    check(3, || scan_against(Rules { push: Ordering::Relaxed, ..ALL }, pop_and_push));
}
