//! What mutators lose in faults and slow paths, as each moment of it is recorded.

use crate::common::{checked, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{AllocSize, Barrier, Event, Heap, Loss, LossKind, Mutator, PauseKind, Phase, Slot, Stress, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

/// Entries are at most so long, save where one fault was.
const MERGED_NS: u64 = 100_000;

/// A heap that moves what can be moved in every cycle, and records.
fn recording(barrier: Barrier) -> Heap {
    let moving = Stress { cycle_every: u32::MAX, ..Stress::default() };
    checked(barrier, 16 << 20).stress(moving).record_losses(true).build().unwrap()
}

/// Faults and slow paths so far.
fn lost(heap: &Heap) -> u64 {
    heap.faults().count + heap.slow_paths().count
}

/// Reads a list of its own until mutators of the heap have lost time so often.
fn lose(m: &mut Mutator<'_>, heap: &Heap, until: u64) {
    let m = &mut *m.frame();
    let list = m.build::<Option<Node>>(AllocSize::NONE, |_| None).unwrap();
    for id in 0..5_000 {
        let m = m.reserve(AllocSize::of::<Node>()).unwrap();
        list.set(m, Some(m.place(NodeInit { id, next: list.get(m) })));
    }
    while lost(heap) < until {
        let (mut node, mut ids) = (list.get(m), (0..5_000).rev());
        while let Some(n) = node {
            assert_eq!(Some(n.id), ids.next());
            node = n.next.get(m);
        }
        m.safepoint();
    }
}

fn losses(events: &[Event]) -> Vec<Loss> {
    let loss = |event: &Event| if let Event::Loss(loss) = event { Some(*loss) } else { None };
    events.iter().filter_map(loss).collect()
}

/// Each is of this barrier's kind, lies between two moments, and holds what it says; those of a mutator lie apart, in order.
fn assert_plausible(barrier: Barrier, losses: &[Loss], from_ns: u64, to_ns: u64) {
    let kind = if barrier == Barrier::Page { LossKind::Faults } else { LossKind::SlowPaths };
    let mut ends = BTreeMap::new();
    for loss in losses {
        assert_eq!(loss.kind, kind);
        assert!(from_ns <= loss.start_ns && loss.start_ns + loss.total_ns <= to_ns, "{loss:?}: {from_ns}..{to_ns}");
        assert!(loss.count > 0 && loss.lost_ns <= loss.total_ns, "{loss:?}");
        // Of slow paths the timed one and those before it come at a time.
        assert!(loss.total_ns <= MERGED_NS || loss.count <= 16, "{loss:?}");
        let end = ends.insert(loss.mutator, loss.start_ns + loss.total_ns);
        assert!(end <= Some(loss.start_ns), "{loss:?} begins before the one before it ends, at {end:?}");
    }
}

/// All that the heap has counted is there, and took as long.
fn assert_complete(heap: &Heap, losses: &[Loss], missed: u64) {
    let sum = |of: fn(&Loss) -> u64| losses.iter().map(of).sum::<u64>();
    let (faults, slow, lost_ns) = (heap.faults(), heap.slow_paths(), sum(|loss| loss.lost_ns));
    assert_eq!((sum(|loss| loss.count), missed), (faults.count + slow.count, 0));
    if faults.count > 0 {
        assert_eq!((lost_ns, slow.count), (faults.sum_ns, 0));
    } else {
        // One in 16 was timed. The others count as the mean of those, without their outliers; before there is one, 100 ns.
        let threads = losses.iter().map(|loss| loss.mutator).collect::<BTreeSet<u64>>().len() as u64;
        let most = slow.timed.sum_ns * 17 + threads * 24_000;
        assert!((slow.timed.sum_ns..=most).contains(&lost_ns), "{lost_ns}, {slow:?}");
    }
}

pub(crate) fn losses_are_recorded_when_they_were(barrier: Barrier) {
    let heap = recording(barrier);
    let from_ns = heap.now_ns();
    while_collecting(&heap, Duration::ZERO, || heap.enter(|m| lose(m, &heap, 2000)).unwrap());
    heap.collect();
    let to_ns = heap.now_ns();
    let (events, missed) = heap.take_events();
    let losses = losses(&events);
    assert_plausible(barrier, &losses, from_ns, to_ns);
    assert_complete(&heap, &losses, missed);
    if barrier == Barrier::Page {
        // From a flip to the end of its repair. A signal may come late to its handler, if the thread loses its processor.
        let flips = events.iter().filter_map(|event| match event {
            Event::Pause(pause) if pause.kind == PauseKind::Flip => Some((pause.start_ns, 0)),
            Event::Phase(span) if span.phase == Phase::Repair => Some((span.start_ns + span.total_ns, 1)),
            _ => None,
        });
        let mut turns: Vec<(u64, u32)> = flips.collect();
        turns.sort_unstable();
        let in_repair = |loss: &&Loss| {
            let after = turns.partition_point(|turn| turn.0 <= loss.start_ns);
            after > 0 && turns[after - 1].1 == 0
        };
        let inside = losses.iter().filter(in_repair).count();
        assert!(inside * 10 >= losses.len() * 9, "{inside} of {} while pages were gated", losses.len());
    }
    assert!(heap.take_events().0.iter().all(|event| !matches!(event, Event::Loss(_))), "taken once");
}

/// Threads come and go; what they lost stays.
pub(crate) fn a_thread_that_detaches_leaves_its_losses(barrier: Barrier) {
    let heap = recording(barrier);
    while_collecting(&heap, Duration::ZERO, || {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for turn in 1..=10 {
                        heap.enter(|m| lose(m, &heap, turn * 50)).unwrap();
                    }
                });
            }
        });
    });
    let (events, missed) = heap.take_events();
    let losses = losses(&events);
    assert_plausible(barrier, &losses, 0, heap.now_ns());
    assert_complete(&heap, &losses, missed);
}

/// A thread that is inside one heap and waits outside another loses to each its own.
pub(crate) fn losses_go_to_the_heap_that_they_are_of(barrier: Barrier) {
    let (outer, inner) = (recording(barrier), recording(barrier));
    // Not without a pause: where this thread hardly gets a processor, the record of events would overflow.
    let pause = Duration::from_micros(500);
    while_collecting(&outer, pause, || {
        while_collecting(&inner, pause, || {
            outer
                .enter(|m| {
                    lose(m, &outer, 100);
                    m.blocking(|| inner.enter(|m| lose(m, &inner, 100)).unwrap());
                    lose(m, &outer, lost(&outer) + 100);
                })
                .unwrap();
        });
    });
    for heap in [outer, inner] {
        let (events, missed) = heap.take_events();
        assert_complete(&heap, &losses(&events), missed);
    }
}

/// Who did not ask for them gets none.
pub(crate) fn losses_are_recorded_where_that_was_asked_for(barrier: Barrier) {
    let moving = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let heap = checked(barrier, 16 << 20).stress(moving).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || heap.enter(|m| lose(m, &heap, 100)).unwrap());
    let (events, missed) = heap.take_events();
    assert!(losses(&events).is_empty() && missed == 0 && !events.is_empty());
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        losses_are_recorded_when_they_were,
        a_thread_that_detaches_leaves_its_losses,
        losses_go_to_the_heap_that_they_are_of,
        losses_are_recorded_where_that_was_asked_for,
    ],
    ..Tests::NONE
};
