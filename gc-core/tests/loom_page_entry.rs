//! A page that others see by its page-table entry alone, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test 'loom_*'`.
//!
//! One thread claims and repairs a page; it or another lets it in; a third reads the page without a
//! fault. The page table is a word here: the kernel stores the entry with no ordering that anybody
//! promises, and the processor's read through it comes after its look at it (a relaxed load and a
//! fence). The page's bytes are a `loom` cell: loom panics where somebody reads them whose writing
//! is not ordered before. `PageStates` is the code that ships.
#![cfg(loom)]

mod support;

use gc_core::flip::CurrentFlip;
use gc_core::page_state::{PageState, PageStates};
use gc_core::sync::atomic::{AtomicU64, Ordering, fence};
use gc_core::units::Page;
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;
use support::check;

/// What a model can leave out, to show that it finds what follows.
#[derive(Clone, Copy)]
struct Rules {
    /// `before_entry` of `views/gate.rs`.
    fence: bool,
    /// Who lets a page in has seen (Acquire) that it is repaired.
    look: bool,
}

const ALL: Rules = Rules { fence: true, look: true };
const REPAIRED: u64 = 7;

struct Heap {
    rules: Rules,
    states: PageStates,
    flip: CurrentFlip,
    bytes: UnsafeCell<u64>,
    /// The page-table entry: 0 is absent.
    entry: AtomicU64,
}

// SAFETY: the bytes are written by the claimant before the page is installed; that this is enough
// is what loom checks.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl Heap {
    fn new(rules: Rules) -> Arc<Heap> {
        let heap = Heap {
            rules,
            states: PageStates::new(1).unwrap(),
            flip: CurrentFlip::default(),
            bytes: UnsafeCell::new(0),
            entry: AtomicU64::new(0),
        };
        heap.flip.begin();
        Arc::new(heap)
    }

    /// `repair`, by who claims the page.
    fn repair(&self) {
        if let Ok(claim) = self.states.claim(Page::new(0), self.flip.get()) {
            // SAFETY: the claimant's alone; loom checks it.
            self.bytes.with_mut(|bytes| unsafe { *bytes = REPAIRED });
            claim.repaired();
        }
    }

    /// `Gate::install`, or `restore_page_tables`, of a page that somebody has repaired.
    fn install(&self) {
        if self.rules.look && self.states.state(Page::new(0), self.flip.get()) != PageState::Repaired {
            return;
        }
        if self.rules.fence {
            fence(Ordering::Release);
        }
        self.entry.store(1, Ordering::Relaxed);
    }

    /// A program's access: no fault where the entry is there.
    fn access(&self) {
        let present = self.entry.load(Ordering::Relaxed) != 0;
        // The walk of the page table comes before the read that it is for.
        fence(Ordering::Acquire);
        if present {
            // SAFETY: nobody writes the page any more; loom checks it.
            let found = self.bytes.with(|bytes| unsafe { *bytes });
            assert_eq!(found, REPAIRED, "a page is seen before it is repaired");
        }
    }
}

/// One repairs, one lets in what is repaired, the main thread reads.
fn repair_install_access(rules: Rules) {
    let heap = Heap::new(rules);
    let [repairer, other] = [Heap::repair as fn(&Heap), Heap::install].map(|work| {
        let heap = Arc::clone(&heap);
        thread::spawn(move || work(&heap))
    });
    heap.access();
    repairer.join().unwrap();
    other.join().unwrap();
    heap.install();
    heap.access();
}

/// The claimant lets its page in itself, as a fault does.
fn serve_and_access(rules: Rules) {
    let heap = Heap::new(rules);
    let server = {
        let heap = Arc::clone(&heap);
        thread::spawn(move || {
            heap.repair();
            heap.install();
        })
    };
    heap.access();
    server.join().unwrap();
}

#[test]
fn a_page_is_seen_as_it_was_repaired() {
    check(4, || serve_and_access(ALL));
    check(4, || repair_install_access(ALL));
}

#[test]
#[should_panic]
fn an_entry_orders_nothing_by_itself() {
    check(3, || serve_and_access(Rules { fence: false, ..ALL }));
}

#[test]
#[should_panic]
fn nor_what_another_thread_has_repaired() {
    check(3, || repair_install_access(Rules { fence: false, ..ALL }));
}

#[test]
#[should_panic]
fn a_page_must_be_seen_to_be_repaired_before_it_is_installed() {
    check(3, || repair_install_access(Rules { look: false, ..ALL }));
}
