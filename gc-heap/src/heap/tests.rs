use crate::roots::table::RootCell;
use crate::{AllocSize, Bytes, FinalizerQueue, Heap, MIN_HEAP_BYTES, ResourceQueue};
use gc_core::word::Word;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Fails where a thread that waits for dead objects waits for ever after the collector has
/// failed.
#[test]
fn who_waits_for_a_queue_hears_that_the_collector_has_failed() {
    let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).verify(true).build().unwrap();
    let (objects, resources) = (FinalizerQueue::<Bytes>::new(&heap), ResourceQueue::<u32>::new(&heap));
    // No view is there.
    let _nowhere = RootCell::new(&heap.inner().roots.weak, Word::new(0x1000), true);
    let failed = |wait: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(wait)).expect_err("it came back as if there were a collector");
        let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(why.contains("the collector has failed: verification"), "{why}");
    };
    std::thread::scope(|scope| {
        for timeout in [Duration::MAX, Duration::from_secs(50)] {
            let (objects, resources) = (&objects, &resources);
            scope.spawn(move || failed(&|| assert!(objects.wait(timeout).is_none())));
            scope.spawn(move || failed(&|| assert!(resources.wait(timeout).is_none())));
        }
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50)); // so that they sleep by then, as a rule
            failed(&|| heap.collect());
        });
    });
    // Those that come later, too, and those that are made later.
    failed(&|| drop(objects.wait(Duration::MAX)));
    failed(&|| drop(FinalizerQueue::<Bytes>::new(&heap).wait(Duration::MAX)));
    failed(&|| drop(heap.census()));
    // What is owed is given all the same when the heap ends.
    assert!(resources.take().is_none());
    drop(heap);
    assert!(objects.wait(Duration::MAX).is_none() && resources.wait(Duration::MAX).is_none());
}

/// The stop of the verification ends before the collector has failed, so that a thread may go
/// on, with a TLAB that lasts for ever where it allocates nothing more.
#[test]
fn a_running_thread_hears_that_the_collector_has_failed() {
    let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).verify(true).build().unwrap();
    // No view is there.
    let _nowhere = RootCell::new(&heap.inner().roots.weak, Word::new(0x1000), true);
    std::thread::scope(|scope| {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            heap.enter(|m| {
                scope.spawn(|| catch_unwind(AssertUnwindSafe(|| heap.collect())).expect_err("it came back as if done"));
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_secs(10) {
                    m.safepoint();
                    // A TLAB, and nothing in it.
                    m.reserve(AllocSize::tail::<Bytes>(1)).unwrap();
                }
            })
        }));
        let panic = outcome.expect_err("it heard nothing of the failure");
        let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(why.contains("the collector has failed: verification"), "{why}");
    });
}
