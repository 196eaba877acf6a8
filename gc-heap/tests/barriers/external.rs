//! Memory outside the heap begins cycles, however little the heap itself holds.

use crate::common::{checked, every_heap};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, ExternalBytes, Resource, ResourceQueue};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

struct Buffer {
    _bytes: ExternalBytes,
}

const MIB: usize = 1 << 20;

/// Objects of 24 bytes, each with a mebibyte outside: the heap itself would hold them all.
pub(crate) fn a_tiny_heap_with_much_outside_collects(barrier: Barrier) {
    const OBJECTS: usize = 2000;
    const STEP: usize = 16 * MIB;
    let heap = checked(barrier, 32 << 20).external_step(STEP).build().unwrap();
    let buffers = ResourceQueue::<Buffer>::new(&heap);
    let most = AtomicUsize::new(0);
    let drainer = std::thread::spawn({
        let buffers = buffers.clone();
        move || std::iter::from_fn(|| buffers.wait(Duration::MAX)).count()
    });
    heap.enter(|m| {
        for _ in 0..OBJECTS {
            let m2 = m.reserve(AllocSize::of::<Resource<Buffer>>()).unwrap();
            buffers.place(m2, Buffer { _bytes: m2.add_external(MIB) });
            most.fetch_max(heap.external_bytes(), Ordering::Relaxed);
            // As a program that takes its time to fill a mebibyte; a busy machine may take longer
            // to collect.
            while heap.external_bytes() > 4 * STEP {
                m.blocking(|| std::thread::sleep(Duration::from_micros(100)));
            }
        }
    })
    .unwrap();
    let stats = heap.stats();
    assert!(stats.allocated_bytes < 8 << 20, "the heap itself had no reason to collect: {stats:?}");
    assert!(stats.cycles as usize >= OBJECTS * MIB / (4 * STEP) / 2, "{stats:?}");
    assert!(most.load(Ordering::Relaxed) <= 4 * STEP + MIB);
    drop(heap);
    assert_eq!(drainer.join().unwrap(), OBJECTS);
}

/// What stays does not make one cycle follow the other: there must be as much again.
pub(crate) fn external_memory_that_stays_costs_few_cycles(barrier: Barrier) {
    let heap = checked(barrier, 8 << 20).external_step(MIB).build().unwrap();
    let kept: Vec<_> = (0..4096)
        .map(|_| {
            let token = heap.add_external(MIB / 4);
            std::thread::sleep(Duration::from_micros(20));
            token
        })
        .collect();
    assert_eq!(heap.external_bytes(), 1024 * MIB);
    // From one mebibyte it has doubled ten times.
    heap.collect();
    assert!((2..=14).contains(&heap.stats().cycles), "{:?}", heap.stats());
    drop(kept);
    assert_eq!(heap.external_bytes(), 0);
}

pub(crate) fn tokens_go_anywhere_and_outlive_their_heap(barrier: Barrier) {
    for heap in every_heap(barrier, 4 << 20, 1) {
        let token = heap.enter(|m| m.add_external(usize::MAX)).unwrap();
        assert!(heap.external_bytes() == token.bytes() && token.bytes() > 1 << 40);
        let other = heap.add_external(5);
        std::thread::spawn(move || drop(token)).join().unwrap();
        assert_eq!((heap.external_bytes(), other.bytes()), (5, 5));
        drop(heap);
        drop(other);
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        a_tiny_heap_with_much_outside_collects,
        external_memory_that_stays_costs_few_cycles,
        tokens_go_anywhere_and_outlive_their_heap
    ],
    ..Tests::NONE
};
