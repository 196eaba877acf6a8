//! The page barrier between its flip and the end of it, around the states of single pages
//! (`loom_page_state`):
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test loom_page_flip`.
//!
//! The code that ships: `CurrentFlip`, and the functions of `page_flip`. A page's bytes are `loom`
//! cells, which panic when a write meets any other access that is not ordered with it.
#![cfg(loom)]

mod support;

use gc_core::flip::CurrentFlip;
use gc_core::page_flip::{Releaser, admit_then_open};
use gc_core::page_state::PageStates;
use gc_core::rules::{Rule, without};
use gc_core::sync::atomic::{AtomicU32, Ordering};
use gc_core::units::{Block, Page};
use gc_core::word::Word;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use support::check;
use support::world::{Rules, VmOperation, World};

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

    /// Repairs a page with `work`, or waits for the thread that does.
    fn repair(&self, page: usize, work: impl FnOnce()) {
        self.states.repair_or_wait(Page::new(page), self.flip.get(), work).unwrap();
    }

    /// Serves a fault at a page, whose repair is `work`.
    fn serve(&self, page: usize, work: impl FnOnce()) {
        self.flip.serve(|_| self.repair(page, work), |_| ());
    }
}

fn spawn<T: 'static>(heap: &Arc<Heap>, work: impl FnOnce(&Heap) -> T + 'static) -> thread::JoinHandle<T> {
    let heap = Arc::clone(heap);
    thread::spawn(move || work(&heap))
}

/// A thread serves a fault late; the collector has nothing left to repair and ends the flip; then a
/// page that no thread has claimed, of roots that are new, is written without a fault.
fn a_late_fault() {
    check(3, || {
        let heap = Heap::flipped();
        let late = spawn(&heap, |heap| {
            heap.serve(0, || {
                heap.forwarding.get();
                heap.pages[0].add();
            });
        });
        let owner = spawn(&heap, |heap| {
            if !heap.flip.is_active() {
                heap.pages[0].add();
            }
        });
        heap.flip.end(|| ());
        // No thread looks a moved object up any more.
        heap.forwarding.add();
        late.join().unwrap();
        owner.join().unwrap();
    });
}

#[test]
fn a_flip_ends_when_nobody_serves_a_fault() {
    a_late_fault();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_fault_that_is_not_counted_is_served_after_the_end() {
    without(Rule::CountServers, a_late_fault);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn an_end_that_does_not_wait_meets_late_faults() {
    without(Rule::CloseFlip, a_late_fault);
}

/// A fault comes while a flip ends: it is served before or not at all, and does not wait for ever.
#[test]
fn a_fault_comes_while_a_flip_ends() {
    check(3, || {
        let heap = Heap::flipped();
        let other = spawn(&heap, |heap| heap.serve(0, || heap.pages[0].add()));
        let mut seen = 0;
        heap.flip.end(|| seen = heap.pages[0].get());
        other.join().unwrap();
        assert_eq!(seen, heap.pages[0].get(), "a page was repaired after the flip had closed");
    });
}

/// Two faults come while a flip ends, one of them is being served as it closes: the threads that
/// sleep meanwhile wake: the collector, and one that has to wait until the flip has ended.
fn two_faults_at_the_end() {
    check(2, || {
        let heap = Heap::flipped();
        let others = [0, 1].map(|page| spawn(&heap, move |heap| heap.serve(page, || heap.pages[page].add())));
        let mut seen = [0; 2];
        heap.flip.end(|| seen = [0, 1].map(|page| heap.pages[page].get()));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(seen, [0, 1].map(|page| heap.pages[page].get()), "a page was repaired after the flip had closed");
    });
}

#[test]
fn nobody_sleeps_on_after_a_flip_has_ended() {
    two_faults_at_the_end();
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_flip_that_the_last_leaves_without_waking_never_closes() {
    without(Rule::LastServerWakes, two_faults_at_the_end);
}

/// Two threads need a page, and read it when they have it.
fn a_page_that_two_threads_need() {
    check(3, || {
        let heap = Heap::flipped();
        let need = |heap: &Heap| {
            heap.repair(0, || heap.pages[0].add());
            assert_eq!(heap.pages[0].get(), 1);
        };
        let other = spawn(&heap, need);
        need(&heap);
        other.join().unwrap();
    });
}

#[test]
fn a_page_is_read_when_it_is_repaired() {
    a_page_that_two_threads_need();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_thread_that_does_not_wait_for_the_claimant_reads_a_page_half_repaired() {
    without(Rule::WaitForClaimant, a_page_that_two_threads_need);
}

/// A mutator opens a free block for new objects while a repairer looks at its page.
fn a_block_is_opened(makes_resident: bool) {
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
        let admit = || {
            if makes_resident {
                heap.repair(0, || ());
            }
        };
        admit_then_open(admit, || {
            heap.usage.store(OPEN, Ordering::Release);
            heap.pages[0].add();
            // At its next safepoint.
            heap.fill.store(8, Ordering::Release);
        });
        repairer.join().unwrap();
        assert_eq!(heap.pages[0].get(), 1, "the new object was rewritten");
    });
}

#[test]
fn a_block_is_made_resident_before_its_use_changes() {
    a_block_is_opened(true);
}

#[test]
#[should_panic(expected = "the new object was rewritten")]
fn a_block_that_is_not_made_resident_is_repaired_under_its_owner() {
    a_block_is_opened(false);
}

#[test]
#[should_panic(expected = "the new object was rewritten")]
fn a_block_whose_use_changes_first_is_repaired_under_its_owner() {
    without(Rule::AdmitThenOpen, || a_block_is_opened(true));
}

/// Pages 0 and 1 are destinations that copy from the source, page 2. A mutator repairs one of them,
/// the collector both; then the source is free, and a mutator takes it at once.
fn a_source_is_released() {
    check(2, || {
        let heap = Heap::flipped();
        let produce = |heap: &Heap, page: usize| {
            heap.repair(page, || {
                heap.pages[2].get();
                heap.pages[page].add();
            });
        };
        let fault = spawn(&heap, move |heap| {
            heap.serve(1, || {
                heap.pages[2].get();
                heap.pages[1].add();
            })
        });
        let taker = spawn(&heap, |heap| {
            // The free space: Acquire with the Release of the thread that freed the block.
            if heap.fill.load(Ordering::Acquire) == 1 {
                heap.pages[2].add();
            }
        });
        let (sources, mut done) = ([(Block::new(2), 1)], [false; 2]);
        let mut releaser = Releaser::new(&sources, &mut done);
        for page in [0, 1] {
            produce(&heap, page);
            releaser.repaired(page, |_| heap.fill.store(1, Ordering::Release));
        }
        fault.join().unwrap();
        taker.join().unwrap();
    });
}

#[test]
fn a_source_is_free_when_its_last_destination_is_repaired() {
    a_source_is_released();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_source_released_earlier_is_overwritten_while_it_is_copied() {
    without(Rule::ReleaseAfterLast, a_source_is_released);
}

/// A mutator says how far its block is filled and parks; the collector stops the world and repairs
/// the block. Here the mutator hands the fill over as it does its log.
fn a_fill_is_published() {
    check(3, || {
        let (heap, world) = (Heap::flipped(), World::new(Rules::ALL));
        let mut m = World::attach(&world);
        let mutator = spawn(&heap, move |heap| {
            m.unpark();
            // Past the flip it would get another block.
            if m.touch() == 0 {
                heap.pages[0].add();
                m.log.get_mut().push(Word::new(8));
            }
            m.park();
        });
        assert!(world.stop(VmOperation::MarkStart));
        let filled = world.log.lock().unwrap().pop().is_some();
        if filled {
            heap.repair(0, || heap.pages[0].add());
        }
        mutator.join().unwrap();
        assert_ne!(heap.pages[0].get(), 1, "the repair missed an object");
    });
}

#[test]
fn a_fill_is_published_before_the_stop() {
    a_fill_is_published();
}

#[test]
#[should_panic(expected = "the repair missed an object")]
fn a_fill_published_late_hides_objects_from_the_repair() {
    without(Rule::PublishThenPark, a_fill_is_published);
}

/// What the stop has planned is seen by each thread that finds the flip active; a thread that finds
/// the last flip finds it over.
#[test]
fn who_finds_a_flip_active_finds_its_plan() {
    check(3, || {
        let heap = Heap::flipped();
        let first = heap.flip.get();
        heap.flip.end(|| ());
        let late = spawn(&heap, move |heap| {
            // In the handler no stop comes in between the two looks of `serve`. Here one may, and
            // then the number is one too old at most for the page to be claimed in vain: never one
            // too new.
            let found = |flip| {
                if flip != first {
                    assert_eq!(heap.forwarding.get(), 1, "the plan of this flip");
                }
            };
            heap.flip.serve(found, |_| ());
        });
        // The plan, then the stop.
        heap.forwarding.add();
        heap.flip.begin();
        late.join().unwrap();
    });
}
