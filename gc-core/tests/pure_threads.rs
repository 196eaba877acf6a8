//! Threads over the half without system calls, as it is built, for Miri: it runs them in an order
//! of each seed, lets a load see what is older where the orderings allow that, and reports two
//! accesses of plain memory that nothing orders. The models (`loom_*`) see every interleaving, but
//! with atomics and vectors of their own. The command is in `docs/trust.md`.
#![cfg(not(loom))]

use gc_core::bitmap::MarkBitmap;
use gc_core::flip::CurrentFlip;
use gc_core::forwarding::{BLOCK_MARK_WORDS, Forwarding};
use gc_core::loss::{Loss, LossRing};
use gc_core::page_state::PageStates;
use gc_core::parked_tlab::ParkedTlab;
use gc_core::stop::{MutatorState, StopGate};
use gc_core::units::{Block, BlockGranule, Granule, Page};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, yield_now};

/// A word that is not atomic, which the protocol under test keeps to one thread at a time.
#[derive(Default)]
struct Guarded(UnsafeCell<u64>);

// SAFETY: the protocol under test orders all accesses; that it does is what Miri checks.
unsafe impl Sync for Guarded {}

impl Guarded {
    fn add(&self) -> u64 {
        // SAFETY: as above, nobody else accesses it now.
        unsafe {
            *self.0.get() += 1;
            *self.0.get()
        }
    }

    fn get(&self) -> u64 {
        // SAFETY: as above, nobody writes it now.
        unsafe { *self.0.get() }
    }
}

#[test]
fn losses_come_whole_and_in_order() {
    let ring = LossRing::new(2).unwrap();
    let (done, mut seen, mut missed) = (AtomicBool::new(false), 0, 0);
    scope(|s| {
        s.spawn(|| {
            for n in 1..=12 {
                let (kind, begin_ns) = (n as u8, n * 1000);
                ring.record(Loss { kind, count: n, begin_ns, length_ns: n, lost_ns: n, kernel_ns: n });
                if n % 3 == 0 {
                    ring.flush();
                }
                yield_now();
            }
            ring.flush();
            done.store(true, Ordering::Release);
        });
        let mut last = 0;
        loop {
            let end = done.load(Ordering::Acquire);
            missed += ring.take(|loss| {
                let n = loss.count;
                assert_eq!((u64::from(loss.kind), loss.begin_ns, loss.length_ns), (n, n * 1000, n));
                assert_eq!((loss.lost_ns, loss.kernel_ns), (n, n));
                assert!(n > last);
                last = n;
                seen += n;
            });
            if end {
                break;
            }
            yield_now();
        }
    });
    assert_eq!(seen + missed, (1..=12).sum());
}

#[test]
fn a_deposit_is_one_threads_at_a_time() {
    const FIRST: Block = Block::new(0);
    let (deposit, block) = (ParkedTlab::default(), Guarded::default());
    scope(|s| {
        s.spawn(|| {
            for _ in 0..6 {
                if let Some((_, filled)) = deposit.take_if(|block| block == FIRST) {
                    assert_eq!(block.add(), filled as u64 + 1);
                    deposit.put(FIRST, filled + 1);
                }
                yield_now();
            }
        });
        block.add();
        deposit.put(FIRST, 1);
        for _ in 0..6 {
            if let Some((_, filled)) = deposit.take() {
                assert_eq!(block.add(), filled as u64 + 1);
                deposit.put(FIRST, filled + 1);
            }
            yield_now();
        }
    });
    let (_, filled) = deposit.take().unwrap();
    assert_eq!(block.get(), filled as u64);
}

#[test]
fn a_copy_is_written_before_it_is_found() {
    let mut bits = [0; BLOCK_MARK_WORDS];
    bits[0] = 0b1011;
    let forwarding = Forwarding::new(bits).unwrap();
    let copies: [[Guarded; 3]; 3] = Default::default();
    scope(|s| {
        for me in 0..3 {
            let (forwarding, copies) = (&forwarding, &copies);
            s.spawn(move || {
                for (object, granule) in [0, 1, 3].into_iter().enumerate() {
                    let entry = forwarding.entry(BlockGranule::new(granule)).unwrap();
                    let at = entry.destination().map(Granule::number).unwrap_or_else(|| {
                        copies[me][object].add();
                        entry.publish(Granule::new(me)).map_or_else(Granule::number, |()| me)
                    });
                    assert_eq!(copies[at][object].get(), 1);
                }
            });
        }
    });
}

#[test]
fn a_bit_is_one_threads() {
    let bitmap = MarkBitmap::new(128).unwrap();
    let counts: [Guarded; 2] = Default::default();
    scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                for (i, granule) in [3, 70].into_iter().enumerate() {
                    if bitmap.set(Granule::new(granule)) {
                        counts[i].add();
                    }
                }
            });
        }
    });
    assert_eq!(counts.map(|c| c.get()), [1, 1]);
}

#[test]
fn a_stop_has_the_heap_to_itself() {
    let gate = StopGate::new();
    let states: [MutatorState; 2] = Default::default();
    let heap: [Guarded; 2] = Default::default();
    let ran = Guarded::default();
    let stop_work = || {
        heap.iter().for_each(|h| {
            h.add();
        });
        ran.add();
        gate.finish();
    };
    scope(|s| {
        for me in 0..2 {
            let (states, heap, gate, stop_work) = (&states, &heap, &gate, &stop_work);
            s.spawn(move || {
                let state = &states[me];
                let wait = |held| {
                    while !gate.is_over(held) {
                        yield_now();
                    }
                };
                for _ in 0..4 {
                    while let Err(held) = state.leave(gate) {
                        wait(held);
                    }
                    heap[me].add();
                    if let Some(held) = state.held(gate) {
                        if gate.arrive() {
                            stop_work();
                        }
                        wait(held);
                    }
                    heap[me].add();
                    if let Some(held) = state.park(gate) {
                        if gate.arrive() {
                            stop_work();
                        }
                        wait(held);
                    }
                }
            });
        }
        for stops in 1..=3 {
            let held = gate.next();
            if gate.arm(states.iter(), |_| ()) {
                stop_work();
            }
            while !gate.is_over(held) {
                yield_now();
            }
            assert_eq!(ran.get(), stops);
        }
    });
    assert_eq!(heap.map(|h| h.get()), [11, 11]);
}

#[test]
fn a_page_is_repaired_by_one_before_it_is_installed() {
    let (number, pages) = (CurrentFlip::default(), PageStates::new(3).unwrap());
    let contents: [Guarded; 3] = Default::default();
    let flip = number.begin();
    scope(|s| {
        for me in 0..2 {
            let (pages, contents) = (&pages, &contents);
            s.spawn(move || {
                for i in 0..3 {
                    let number = if me == 0 { i } else { 2 - i };
                    let page = Page::new(number);
                    match pages.claim(page, flip) {
                        Ok(claim) => {
                            contents[number].add();
                            claim.repaired();
                        }
                        Err(_) => {
                            pages.wait_until_repaired(page, flip).unwrap();
                        }
                    }
                    assert_eq!(contents[number].get(), 1);
                }
            });
        }
    });
}
