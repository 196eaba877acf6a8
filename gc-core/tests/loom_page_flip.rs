//! The page barrier between its flip and the end of it, around the states of single pages
//! (`loom_page_state`):
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test loom_page_flip`.
//!
//! Transcribed are `Pages::serve` and `Pages::make_resident` (`gc-heap/src/space/pages.rs`),
//! `flip::repair_all`, `HeapInner::open_block` and `PageBarrier::publish`, on the real page states
//! and the real `CurrentFlip`. Bytes are `loom` cells, which panic when a write meets any other
//! access that is not ordered with it.
#![cfg(loom)]

mod support;

use gc_core::page_state::{CurrentFlip, PageState, PageStates};
use gc_core::sync::atomic::{AtomicU32, Ordering};
use gc_core::sync::futex;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use support::check;

const FREE: u32 = 0;
const OPEN: u32 = 1;

/// Bytes that one thread writes at a time.
#[derive(Default)]
struct Bytes(UnsafeCell<u32>);

// SAFETY: that accesses are ordered is what loom checks.
unsafe impl Sync for Bytes {}

impl Bytes {
    fn add(&self) {
        // SAFETY: loom checks it.
        self.0.with_mut(|bytes| unsafe { *bytes += 1 });
    }

    fn get(&self) -> u32 {
        // SAFETY: loom checks it.
        self.0.with(|bytes| unsafe { *bytes })
    }
}

/// A flip of pages, one of which is a block.
struct Heap {
    flip: CurrentFlip,
    states: PageStates,
    usage: AtomicU32,
    fill: AtomicU32,
    pages: [Bytes; 3],
    forwarding: Bytes,
}

impl Heap {
    fn flipped() -> Arc<Heap> {
        let heap = Heap {
            flip: CurrentFlip::default(),
            states: PageStates::new(3).unwrap(),
            usage: AtomicU32::new(FREE),
            fill: AtomicU32::new(0),
            pages: Default::default(),
            forwarding: Bytes::default(),
        };
        // In the stop: every thread is started after it.
        heap.flip.begin();
        Arc::new(heap)
    }

    /// Repairs a page with `work`, or waits until who is at it has.
    fn repair(&self, page: usize, work: impl FnOnce()) {
        let flip = self.flip.get();
        match self.states.claim(page, flip) {
            Ok(claim) => {
                work();
                claim.repaired();
            }
            Err(PageState::Claimed) => {
                self.states.wait_until_repaired(page, flip).unwrap();
            }
            Err(_) => {}
        }
    }
}

fn spawn<T: 'static>(heap: &Arc<Heap>, work: impl FnOnce(&Heap) -> T + 'static) -> thread::JoinHandle<T> {
    let heap = Arc::clone(heap);
    thread::spawn(move || work(&heap))
}

/// A thread serves a fault late; the collector has nothing left to repair and ends the flip; then a
/// page that nobody has claimed, of roots that are new, is written without a fault.
fn a_late_fault(enters: bool, closes: bool) {
    check(3, move || {
        let heap = Heap::flipped();
        let late = spawn(&heap, move |heap| {
            let serving = enters.then(|| heap.flip.enter());
            if heap.flip.is_active() {
                heap.repair(0, || {
                    heap.forwarding.get();
                    heap.pages[0].add();
                });
            }
            drop(serving);
        });
        let owner = spawn(&heap, |heap| {
            if !heap.flip.is_active() {
                heap.pages[0].add();
            }
        });
        if closes {
            heap.flip.close();
        }
        heap.flip.end();
        // Nobody looks a moved object up any more.
        heap.forwarding.add();
        late.join().unwrap();
        owner.join().unwrap();
    });
}

#[test]
fn a_flip_ends_when_nobody_serves_a_fault() {
    a_late_fault(true, true);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_fault_that_is_not_counted_is_served_after_the_end() {
    a_late_fault(false, true);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn an_end_that_does_not_wait_meets_late_faults() {
    a_late_fault(true, false);
}

/// A fault comes while a flip ends: it is served before or not at all, and does not wait for ever.
#[test]
fn a_fault_comes_while_a_flip_ends() {
    check(3, || {
        let heap = Heap::flipped();
        let other = spawn(&heap, |heap| {
            let _serving = heap.flip.enter();
            if heap.flip.is_active() {
                heap.repair(0, || heap.pages[0].add());
            }
        });
        heap.flip.close();
        let seen = heap.pages[0].get();
        heap.flip.end();
        other.join().unwrap();
        assert_eq!(seen, heap.pages[0].get(), "a page was repaired after the flip had closed");
    });
}

/// Two faults come while a flip ends, one of them is being served as it closes: the threads that
/// sleep meanwhile wake: the collector, and one that has to wait until the flip has ended.
#[test]
fn nobody_sleeps_on_after_a_flip_has_ended() {
    check(2, || {
        let heap = Heap::flipped();
        let others = [0, 1].map(|page| {
            spawn(&heap, move |heap| {
                let _serving = heap.flip.enter();
                if heap.flip.is_active() {
                    heap.repair(page, || heap.pages[page].add());
                }
            })
        });
        heap.flip.close();
        let seen = [0, 1].map(|page| heap.pages[page].get());
        heap.flip.end();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(seen, [0, 1].map(|page| heap.pages[page].get()), "a page was repaired after the flip had closed");
    });
}

/// `CurrentFlip::close` and the drop of `Serving`, with a rule left out: the word is of one thread
/// that serves, 4, with 1 for closing and 2 for awaited.
fn the_last_to_leave(wakes: bool) {
    check(3, move || {
        let word = Arc::new(AtomicU32::new(4));
        let other = Arc::clone(&word);
        let leaver = thread::spawn(move || {
            let before = other.fetch_sub(4, Ordering::Release);
            if wakes && before & 2 != 0 && before / 4 == 1 {
                futex::wake_all(&other);
            }
        });
        word.fetch_or(1, Ordering::Relaxed);
        loop {
            let seen = word.load(Ordering::Acquire);
            if seen / 4 == 0 {
                break;
            }
            if seen & 2 != 0 || word.compare_exchange(seen, seen | 2, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                futex::wait(&word, seen | 2);
            }
        }
        leaver.join().unwrap();
    });
}

#[test]
fn the_last_to_leave_a_flip_wakes_who_closes_it() {
    the_last_to_leave(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_flip_that_the_last_leaves_without_waking_never_closes() {
    the_last_to_leave(false);
}

/// A mutator opens a free block for new objects while a repairer looks at its page.
fn a_block_is_opened(makes_resident: bool, opens_first: bool) {
    check(3, move || {
        let heap = Heap::flipped();
        let repairer = spawn(&heap, |heap| {
            heap.repair(0, || {
                if heap.usage.load(Ordering::Acquire) == OPEN && heap.fill.load(Ordering::Acquire) != 0 {
                    // An object of after the flip, taken for one of before it.
                    heap.pages[0].add();
                }
            });
        });
        let open = || heap.usage.store(OPEN, Ordering::Release);
        if opens_first {
            open();
            heap.pages[0].add();
            heap.fill.store(8, Ordering::Release);
        }
        if makes_resident {
            heap.repair(0, || assert_eq!(heap.usage.load(Ordering::Acquire), if opens_first { OPEN } else { FREE }));
        }
        if !opens_first {
            open();
            heap.pages[0].add();
            // At its next safepoint.
            heap.fill.store(8, Ordering::Release);
        }
        repairer.join().unwrap();
        assert_eq!(heap.pages[0].get(), 1, "the new object was rewritten");
    });
}

#[test]
fn a_block_is_made_resident_before_its_use_changes() {
    a_block_is_opened(true, false);
}

#[test]
#[should_panic(expected = "the new object was rewritten")]
fn a_block_that_is_not_made_resident_is_repaired_under_its_owner() {
    a_block_is_opened(false, false);
}

#[test]
#[should_panic(expected = "the new object was rewritten")]
fn a_block_whose_use_changes_first_is_repaired_under_its_owner() {
    a_block_is_opened(true, true);
}

/// Pages 0 and 1 are destinations that copy from the source, page 2. A mutator repairs one of them,
/// the collector both; then the source is free, and a mutator takes it at once.
fn a_source_is_released(waits_for: usize) {
    check(2, move || {
        let heap = Heap::flipped();
        let produce = |heap: &Heap, page: usize| {
            heap.repair(page, || {
                heap.pages[2].get();
                heap.pages[page].add();
            });
        };
        let fault = spawn(&heap, move |heap| produce(heap, 1));
        let taker = spawn(&heap, |heap| {
            // The free space: Acquire with the Release of who gave the block.
            if heap.fill.load(Ordering::Acquire) == 1 {
                heap.pages[2].add();
            }
        });
        (0..waits_for).for_each(|page| produce(&heap, page));
        heap.fill.store(1, Ordering::Release);
        fault.join().unwrap();
        taker.join().unwrap();
    });
}

#[test]
fn a_source_is_free_when_its_last_destination_is_repaired() {
    a_source_is_released(2);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_source_released_earlier_is_overwritten_while_it_is_copied() {
    a_source_is_released(1);
}

/// A mutator says how far its block is filled and parks; the collector stops the world and repairs
/// the block.
fn a_fill_is_published(before_parking: bool) {
    check(3, move || {
        let heap = Heap::flipped();
        let mutator = spawn(&heap, move |heap| {
            heap.pages[0].add();
            if before_parking {
                heap.fill.store(8, Ordering::Release);
            }
            // Parked: Release, read by the stop (Acquire).
            heap.usage.store(OPEN, Ordering::Release);
            if !before_parking {
                heap.fill.store(8, Ordering::Release);
            }
        });
        if heap.usage.load(Ordering::Acquire) == OPEN {
            heap.repair(0, || {
                assert_eq!(heap.fill.load(Ordering::Acquire), 8, "the repair missed an object");
                heap.pages[0].add();
            });
        }
        mutator.join().unwrap();
    });
}

#[test]
fn a_fill_is_published_before_the_stop() {
    a_fill_is_published(true);
}

#[test]
#[should_panic(expected = "the repair missed an object")]
fn a_fill_published_late_hides_objects_from_the_repair() {
    a_fill_is_published(false);
}

/// What the stop has planned is seen by each thread that finds the flip active; a thread that finds the last
/// flip finds it over.
#[test]
fn who_finds_a_flip_active_finds_its_plan() {
    check(3, || {
        let heap = Heap::flipped();
        let first = heap.flip.get();
        heap.flip.close();
        heap.flip.end();
        let late = spawn(&heap, move |heap| {
            let _serving = heap.flip.enter();
            // In the handler the number is read first, as in `Pages::serve`; no stop comes in
            // between in the heap. Here one may, and then the number is one too old at most for the
            // page to be claimed in vain: never one too new.
            let flip = heap.flip.get();
            let active = heap.flip.is_active();
            if flip != first && active {
                assert_eq!(heap.forwarding.get(), 1, "the plan of this flip");
            }
        });
        // The plan, then the stop.
        heap.forwarding.add();
        heap.flip.begin();
        late.join().unwrap();
    });
}
