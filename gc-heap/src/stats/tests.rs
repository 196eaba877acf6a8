use super::*;
use crate::{Barrier, Heap, MIN_HEAP_BYTES};
use std::cell::Cell;

thread_local! {
    /// The distributions that this thread has read.
    pub(super) static DISTRIBUTIONS: Cell<u64> = const { Cell::new(0) };
}

/// A distribution has hundreds of words, and allocates. A program that asks for statistics
/// often would spend its time on them: the limit on collecting takes that for work.
#[test]
fn statistics_read_no_distribution() {
    for barrier in [Barrier::Load, Barrier::StopTheWorld, Barrier::Page] {
        // Where this machine refuses the page barrier there is nothing to test.
        let Ok(heap) = Heap::builder().max_bytes(MIN_HEAP_BYTES).barrier(barrier).build() else { continue };
        let before = DISTRIBUTIONS.get();
        let _ = heap.stats();
        assert_eq!(DISTRIBUTIONS.get(), before, "{barrier:?}");
        let _ = heap.faults();
        assert_eq!(DISTRIBUTIONS.get(), before + u64::from(barrier == Barrier::Page), "{barrier:?}");
    }
}

#[test]
fn a_bucket_holds_what_it_says() {
    for ns in (0..100_000).chain([1 << 30, (1 << 39) + 12345]) {
        let bucket = bucket(ns);
        assert!(ns <= longest(bucket), "{ns} is in the bucket up to {}", longest(bucket));
        assert!(bucket == 0 || longest(bucket - 1) < ns.max(1), "{ns} belongs in an earlier bucket");
    }
}

#[test]
fn quantiles_are_within_an_eighth() {
    let histogram = Histogram::default();
    (1..=1000).for_each(|ns| histogram.record(ns * 100));
    let durations = histogram.durations();
    assert_eq!((durations.count, durations.max_ns), (1000, 100_000));
    for (q, exact) in [(0.5, 50_000.0), (0.99, 99_000.0)] {
        let found = durations.quantile(q) as f64;
        assert!((exact..exact * 1.126).contains(&found), "{q}: {found}");
    }
    assert_eq!((durations.quantile(1.0), Durations::default().quantile(0.5)), (100_000, 0));
}
