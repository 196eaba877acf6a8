//! What mutators lose in faults and slow paths, as each moment of it is recorded.

use crate::common::{checked, while_collecting};
use crate::harness::{Tests, tests};
use crate::realtime::on_one_processor;
use gc_heap::{AllocSize, Barrier, Bytes, Event, Heap, Loss, LossKind, LossTotal, Mutator, PauseKind, Phase};
use gc_heap::{Slot, SlotArray, Stress, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

/// Of faults and slow paths of loads each barrier has one.
fn is_of_loads(loss: &&Loss) -> bool {
    matches!(loss.kind, LossKind::Faults | LossKind::SlowPaths)
}

/// Each lies between two moments, and holds what it says; those of a mutator lie apart or in one
/// another, in the order of their ends. Those of loads are of this barrier's kind, and lie apart.
fn assert_plausible(barrier: Barrier, losses: &[Loss], from_ns: u64, to_ns: u64) {
    let kind = if barrier == Barrier::Page { LossKind::Faults } else { LossKind::SlowPaths };
    let mut of_mutators: BTreeMap<u64, Vec<Loss>> = BTreeMap::new();
    for loss in losses {
        let before = of_mutators.entry(loss.mutator).or_default();
        let (start, end) = (loss.start_ns, loss.start_ns + loss.total_ns);
        assert!(from_ns <= start && end <= to_ns, "{loss:?}: {from_ns}..{to_ns}");
        assert!(loss.count > 0 && loss.lost_ns <= loss.total_ns && loss.kernel_ns <= loss.lost_ns, "{loss:?}");
        while before.pop_if(|inner| inner.start_ns >= start).is_some() {}
        let last = before.last().map_or(0, |last| last.start_ns + last.total_ns);
        assert!(last <= start, "{loss:?} begins before the one before it ends, at {last}");
        before.push(*loss);
    }
    let mut ends = BTreeMap::new();
    for loss in losses.iter().filter(is_of_loads) {
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
    let losses: Vec<Loss> = losses.iter().filter(is_of_loads).copied().collect();
    let sum = |of: fn(&Loss) -> u64| losses.iter().map(of).sum::<u64>();
    let (faults, slow, lost_ns) = (heap.faults(), heap.slow_paths(), sum(|loss| loss.lost_ns - loss.kernel_ns));
    assert_eq!((sum(|loss| loss.count), missed), (faults.count + slow.count, 0));
    if faults.count > 0 {
        assert_eq!((lost_ns, slow.count), (faults.sum_ns, 0));
    } else {
        // One in 16 was timed. The others count as the mean of those, without their outliers;
        // before there is one, 100 ns.
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
        // From a flip to the end of its repair. A signal may come late to its handler, if the
        // thread loses its processor.
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
        let faults: Vec<Loss> = losses.iter().filter(is_of_loads).copied().collect();
        let inside = faults.iter().filter(in_repair).count();
        assert!(inside * 10 >= faults.len() * 9, "{inside} of {} while pages were gated", faults.len());
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
    // Not without a pause: where this thread hardly gets a processor, the record of events would
    // overflow.
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

/// How long this thread has waited for a processor; `None` where the kernel does not say.
fn waited_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

fn total(heap: &Heap, kind: LossKind) -> LossTotal {
    heap.stats().losses.kind(kind)
}

/// What lies within these spans, of a mutator's losses of a kind; all others of the kind are an
/// error.
fn within(losses: &[Loss], kind: LossKind, spans: &[(u64, u64)]) -> Vec<Loss> {
    let of_kind: Vec<Loss> = losses.iter().filter(|loss| loss.kind == kind).copied().collect();
    for loss in &of_kind {
        let end = loss.start_ns + loss.total_ns;
        let span = spans.iter().find(|(from, to)| *from <= loss.start_ns && end <= *to);
        assert!(span.is_some(), "{loss:?} lies in none of the calls that can cause it");
    }
    of_kind
}

/// They lie in the calls of `safepoint`, after a pause's end.
pub(crate) fn waking_up_and_handshakes_are_counted(barrier: Barrier) {
    let heap = recording(barrier);
    let mut calls = Vec::new();
    while_collecting(&heap, Duration::ZERO, || {
        let entering_ns = heap.now_ns();
        heap.enter(|m| {
            // A pause may hold it where it enters.
            calls.push((entering_ns, heap.now_ns()));
            let concurrent = barrier != Barrier::StopTheWorld;
            while total(&heap, LossKind::WakeUps).count < 50
                || (concurrent && total(&heap, LossKind::Handshakes).count < 50)
            {
                let from_ns = heap.now_ns();
                m.safepoint();
                calls.push((from_ns, heap.now_ns()));
                std::thread::yield_now();
            }
        })
        .unwrap();
    });
    let (events, missed) = heap.take_events();
    assert_eq!(missed, 0);
    let ends = events.iter().filter_map(|event| match event {
        Event::Pause(pause) => Some(pause.start_ns + pause.total_ns),
        _ => None,
    });
    let ends: BTreeSet<u64> = ends.collect();
    let losses = losses(&events);
    assert_plausible(barrier, &losses, 0, heap.now_ns());
    let wake_ups = within(&losses, LossKind::WakeUps, &calls);
    // One that enters late in a pause may find it over, and wakes from its own look at the clock.
    let entered_ns = calls[0].1;
    for loss in wake_ups.iter().filter(|loss| loss.count == 1 && loss.start_ns >= entered_ns) {
        assert!(ends.contains(&loss.start_ns), "{loss:?} begins where no pause ends");
    }
    for kind in [LossKind::WakeUps, LossKind::Handshakes] {
        let (of, told) = (total(&heap, kind), within(&losses, kind, &calls));
        let sum = |of: fn(&Loss) -> u64| told.iter().map(of).sum::<u64>();
        assert_eq!((sum(|loss| loss.count), sum(|loss| loss.lost_ns)), (of.count, of.total_ns), "{kind}");
        assert!(of.max_ns <= of.total_ns, "{of:?}");
    }
}

/// A large object is zeroed in slices, and the blocks of small ones are taken one by one.
pub(crate) fn zeroing_and_taking_blocks_are_counted(barrier: Barrier) {
    type Table = SlotArray<Option<Node>>;
    const SLICES: usize = 6;
    let heap = checked(barrier, 32 << 20).record_losses(true).build().unwrap();
    let mut calls = Vec::new();
    heap.enter(|m| {
        let from_ns = heap.now_ns();
        m.reserve(AllocSize::tail::<Table>((SLICES << 20) / 8 - 8)).unwrap();
        calls.push((from_ns, heap.now_ns()));
        let zeroing = total(&heap, LossKind::Zeroing);
        assert_eq!(zeroing.count, SLICES as u64, "{zeroing:?}");
        let blocks = total(&heap, LossKind::Refills).count;
        for id in 0..100_000 {
            let from_ns = heap.now_ns();
            let m = m.reserve(AllocSize::of::<Node>()).unwrap();
            calls.push((from_ns, heap.now_ns()));
            m.place(NodeInit { id, next: None });
        }
        // 24 bytes each, in blocks of 64 KiB.
        let blocks = total(&heap, LossKind::Refills).count - blocks;
        assert!((30..80).contains(&blocks), "{blocks} blocks");
    })
    .unwrap();
    let losses = losses(&heap.take_events().0);
    assert_plausible(barrier, &losses, 0, heap.now_ns());
    // Merged ones reach over calls; their own time does not.
    let long: u64 = calls.iter().map(|(from, to)| to - from).sum();
    for kind in [LossKind::Zeroing, LossKind::Refills] {
        let of = total(&heap, kind);
        let told = losses.iter().filter(|loss| loss.kind == kind);
        assert_eq!(told.map(|loss| loss.lost_ns).sum::<u64>(), of.total_ns);
        assert!(of.total_ns > 0 && of.total_ns <= long, "{kind}: {of:?} of {long} ns");
    }
    // Most of the call that reserves six zeroed MiB.
    let (from, to) = calls[0];
    let zeroing = total(&heap, LossKind::Zeroing).total_ns;
    assert!(zeroing <= to - from && zeroing >= (to - from) / 10, "{zeroing} of {} ns", to - from);
}

/// Each logged reference took the slow path of a store, and each 1024th passed a log on.
pub(crate) fn stores_over_references_are_counted(barrier: Barrier) {
    type Table = SlotArray<Option<Node>>;
    const NODES: usize = 20_000;
    let heap = recording(barrier);
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            let table = m.build::<Table>(AllocSize::tail::<Table>(NODES), |m| m.place_array((), NODES, None)).unwrap();
            while total(&heap, LossKind::LogFlushes).count < 3 {
                for index in 0..NODES {
                    let m = m.reserve(AllocSize::of::<Node>()).unwrap();
                    let node = m.place(NodeInit { id: index as u64, next: None });
                    table.get(m).tail()[index].set(m, Some(node));
                }
            }
        })
        .unwrap();
    });
    let (stats, stores) = (heap.stats(), total(&heap, LossKind::Stores));
    assert!(stores.count >= stats.logged && stats.logged >= 3 * 1024, "{stats:?}");
    assert!(stores.total_ns >= stores.max_ns && stores.max_ns > 0, "{stores:?}");
    let (events, missed) = heap.take_events();
    let losses = losses(&events);
    assert_plausible(barrier, &losses, 0, heap.now_ns());
    let told = losses.iter().filter(|loss| loss.kind == LossKind::Stores);
    assert_eq!((told.map(|loss| loss.count).sum::<u64>(), missed), (stores.count, 0));
}

/// Twice as many threads as processors: each has to wait for one, and not for longer than the
/// kernel says.
pub(crate) fn waiting_for_a_processor_is_counted(barrier: Barrier) {
    if waited_ns().is_none() {
        println!("not tested: this kernel does not say how long a thread has waited");
        return;
    }
    let heap = checked(barrier, 32 << 20).record_losses(true).build().unwrap();
    let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    let waited: u64 = std::thread::scope(|scope| {
        let work = || {
            heap.enter(|m| {
                let before = waited_ns().unwrap();
                while total(&heap, LossKind::Preemptions).count < 20 {
                    (0..100).for_each(|_| std::hint::spin_loop());
                    m.reserve(AllocSize::tail::<Bytes>(20_000)).unwrap().place_bytes::<Bytes>((), &[1; 20_000]);
                }
                waited_ns().unwrap() - before
            })
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).sum()
    });
    let of = total(&heap, LossKind::Preemptions);
    // Each thread's first look may reach back to when it entered.
    assert!(of.total_ns > 0 && of.total_ns <= waited + threads as u64 * 5_000_000, "{of:?}, in all {waited} ns");
    let losses = losses(&heap.take_events().0);
    assert_plausible(barrier, &losses, 0, heap.now_ns());
    let told = losses.iter().filter(|loss| loss.kind == LossKind::Preemptions);
    // In 200 us between two looks, or in a question, which takes some microseconds otherwise.
    assert!(told.clone().all(|loss| loss.lost_ns > 0 && loss.total_ns >= 20_000), "{losses:?}");
    assert_eq!(told.map(|loss| loss.lost_ns).sum::<u64>(), of.total_ns);
}

/// A mutator that takes no slow path between two waits outside the heap, on a processor that it
/// shares: a program that sleeps until it has something to do.
pub(crate) fn waiting_for_a_processor_before_leaving_is_counted(barrier: Barrier) {
    if waited_ns().is_none() {
        println!("not tested: this kernel does not say how long a thread has waited");
        return;
    }
    let heap = checked(barrier, 16 << 20).record_losses(true).build().unwrap();
    let done = AtomicBool::new(false);
    on_one_processor(|| {
        std::thread::scope(|scope| {
            let rival = || {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            scope.spawn(rival);
            let waits = |m: &mut Mutator<'_>| {
                let mut inside_ns = 0;
                while inside_ns < 40_000_000 {
                    let (before_ns, since) = (waited_ns().unwrap(), Instant::now());
                    while since.elapsed() < Duration::from_millis(6) {}
                    inside_ns += waited_ns().unwrap() - before_ns;
                    m.blocking(|| std::thread::sleep(Duration::from_millis(1)));
                }
                inside_ns
            };
            let inside_ns = heap.enter(waits).unwrap();
            done.store(true, Ordering::Relaxed);
            let of = total(&heap, LossKind::Preemptions);
            // The questions of the test itself reach less far than the mutator's time inside.
            assert!(of.total_ns >= inside_ns / 10 * 9, "{of:?} where the thread waited for {inside_ns} ns");
        });
    });
}

/// A mutator that takes no slow path between two requests of the collector, on a processor that it
/// shares: it reaches a handshake and stops after its waits, which are no part of either.
pub(crate) fn waiting_for_a_processor_before_a_safepoint_is_counted(barrier: Barrier) {
    if waited_ns().is_none() {
        println!("not tested: this kernel does not say how long a thread has waited");
        return;
    }
    let heap = checked(barrier, 16 << 20).record_losses(true).build().unwrap();
    let (done, wanted, made) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if wanted.load(Ordering::Acquire) > made.load(Ordering::Relaxed) {
                    heap.collect();
                    made.fetch_add(1, Ordering::Release);
                }
                std::thread::yield_now();
            }
        });
        on_one_processor(|| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let waits = |m: &mut Mutator<'_>| {
                let mut inside_ns = 0;
                while inside_ns < 40_000_000 {
                    let (before_ns, since) = (waited_ns().unwrap(), Instant::now());
                    while since.elapsed() < Duration::from_millis(12) {}
                    inside_ns += waited_ns().unwrap() - before_ns;
                    let cycle = wanted.fetch_add(1, Ordering::Release) + 1;
                    while made.load(Ordering::Acquire) < cycle {
                        m.safepoint();
                    }
                }
                inside_ns
            };
            let inside_ns = heap.enter(waits).unwrap();
            done.store(true, Ordering::Relaxed);
            let of = total(&heap, LossKind::Preemptions);
            assert!(of.total_ns >= inside_ns / 10 * 9, "{of:?} where the thread waited for {inside_ns} ns");
        });
    });
}

/// The kernel's share of a fault is known from two that follow one another.
pub(crate) fn faults_have_the_kernels_share() {
    let heap = recording(Barrier::Page);
    while_collecting(&heap, Duration::ZERO, || heap.enter(|m| lose(m, &heap, 2000)).unwrap());
    let faults = losses(&heap.take_events().0).into_iter().filter(|loss| loss.kind == LossKind::Faults);
    let (count, kernel_ns) = faults.fold((0, 0), |sum, loss| (sum.0 + loss.count, sum.1 + loss.kernel_ns));
    // A fault, a signal and the way back: not below 200 ns on any processor, and an estimate of
    // more than 10 us is not made.
    let mean_ns = kernel_ns as f64 / count as f64;
    assert!((100.0..10_000.0).contains(&mean_ns), "{mean_ns} ns");
    assert_eq!(heap.stats().losses.fault_kernel_ns, kernel_ns);
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
        waking_up_and_handshakes_are_counted,
        zeroing_and_taking_blocks_are_counted,
        waiting_for_a_processor_is_counted,
        waiting_for_a_processor_before_leaving_is_counted,
        waiting_for_a_processor_before_a_safepoint_is_counted,
    ],
    concurrent: tests![stores_over_references_are_counted],
    page: tests![faults_have_the_kernels_share],
    ..Tests::NONE
};
