//! The ring of losses under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test loom_loss`.
//!
//! One thread writes, another reads. First the real ring; then a transcription of it whose slot is
//! a `loom` cell, which panics when it is written while the other reads it, or read before its
//! writing is ordered; with each rule removed.
#![cfg(loom)]

mod support;

use gc_core::loss::{Loss, LossRing};
use gc_core::sync::atomic::{AtomicU64, Ordering};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use support::check;

/// Too far apart to be merged. All its figures follow from its number, so that a mixture of two is
/// found out.
fn loss(number: u64) -> Loss {
    let (begin_ns, length_ns) = (number * 1_000_000, number * 10);
    Loss { kind: 1, count: number, begin_ns, length_ns, lost_ns: number * 7, kernel_ns: number * 3 }
}

#[test]
fn every_loss_is_taken_whole_and_once_or_counted() {
    check(3, || {
        let ring = Arc::new(LossRing::new(1).unwrap());
        let writer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                (1..=2).for_each(|number| ring.record(loss(number)));
                ring.flush();
            })
        };
        let mut taken = Vec::new();
        let mut missed = ring.take(|loss| taken.push(loss));
        writer.join().unwrap();
        missed += ring.take(|loss| taken.push(loss));
        assert!(taken.iter().all(|entry| *entry == loss(entry.count)), "{taken:?}");
        assert!(taken.is_sorted_by(|a, b| a.count < b.count), "{taken:?}");
        assert_eq!(taken.iter().map(|loss| loss.count).sum::<u64>() + missed, 3, "{taken:?}");
    });
}

/// What a reader's lock hands on: the next reader goes on where the last one stopped.
#[test]
fn readers_that_take_turns_take_nothing_twice() {
    check(2, || {
        let ring = Arc::new(LossRing::new(2).unwrap());
        let lock = Arc::new(loom::sync::Mutex::new(Vec::new()));
        let reader = {
            let (ring, lock) = (Arc::clone(&ring), Arc::clone(&lock));
            thread::spawn(move || {
                let mut taken = lock.lock().unwrap();
                ring.take(|loss| taken.push(loss));
            })
        };
        ring.record(loss(1));
        ring.flush();
        {
            let mut taken = lock.lock().unwrap();
            ring.take(|loss| taken.push(loss));
        }
        reader.join().unwrap();
        assert_eq!(*lock.lock().unwrap(), [loss(1)]);
    });
}

/// The orderings of a ring of one slot.
#[derive(Clone, Copy)]
struct Rules {
    /// `written`, when an entry is in its slot.
    publish: Ordering,
    /// `taken`, when the entry has been read.
    free: Ordering,
    /// An entry that finds the ring full is dropped.
    drop_when_full: bool,
    /// `taken` moves after the slots have been read.
    free_after_reading: bool,
}

const ALL: Rules =
    Rules { publish: Ordering::Release, free: Ordering::Release, drop_when_full: true, free_after_reading: true };

struct Ring {
    rules: Rules,
    slot: UnsafeCell<u64>,
    written: AtomicU64,
    taken: AtomicU64,
}

// SAFETY: whether the slot is ever written beside another access is what loom checks.
unsafe impl Sync for Ring {}
// SAFETY: as above.
unsafe impl Send for Ring {}

impl Ring {
    /// `LossRing::push`.
    fn push(&self, entry: u64) {
        let written = self.written.load(Ordering::Relaxed);
        if self.rules.drop_when_full && written - self.taken.load(Ordering::Acquire) >= 1 {
            return;
        }
        // SAFETY: as for `Sync`.
        self.slot.with_mut(|slot| unsafe { *slot = entry });
        self.written.store(written + 1, self.rules.publish);
    }

    /// `LossRing::take`.
    fn take(&self) -> Option<u64> {
        let written = self.written.load(Ordering::Acquire);
        if written == self.taken.load(Ordering::Relaxed) {
            return None;
        }
        if !self.rules.free_after_reading {
            self.taken.store(written, self.rules.free);
        }
        // SAFETY: as for `Sync`.
        let entry = self.slot.with(|slot| unsafe { *slot });
        if self.rules.free_after_reading {
            self.taken.store(written, self.rules.free);
        }
        Some(entry)
    }
}

fn one_slot(rules: Rules) {
    let ring = Arc::new(Ring { rules, slot: UnsafeCell::new(0), written: AtomicU64::new(0), taken: AtomicU64::new(0) });
    let reader = {
        let ring = Arc::clone(&ring);
        thread::spawn(move || [ring.take(), ring.take()])
    };
    ring.push(1);
    ring.push(2);
    let taken = reader.join().unwrap();
    assert!(matches!(taken, [None, None | Some(1)] | [Some(1), None | Some(2)]), "{taken:?}");
}

#[test]
fn the_slot_is_never_written_while_it_is_read() {
    check(3, || one_slot(ALL));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn an_entry_is_read_half_written_if_it_is_published_relaxed() {
    check(3, || one_slot(Rules { publish: Ordering::Relaxed, ..ALL }));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_slot_is_written_while_it_is_read_if_it_is_freed_relaxed() {
    check(3, || one_slot(Rules { free: Ordering::Relaxed, ..ALL }));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_slot_is_written_while_it_is_read_if_it_is_freed_first() {
    check(3, || one_slot(Rules { free_after_reading: false, ..ALL }));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_slot_is_written_while_it_is_read_if_a_full_ring_takes_more() {
    check(3, || one_slot(Rules { drop_when_full: false, ..ALL }));
}
