use super::*;
use crate::track::{Late, Moment};
use gc_heap::PauseKind;
use gc_heap::{Loss, Pause, Stall};
use std::time::Instant;

const MS: u64 = 1_000_000;

#[test]
fn what_reaches_over_an_end_is_lost_as_far_as_it_lies_inside() {
    let pause = |start_ms: u64, ms: u64| {
        let (start_ns, total_ns) = (start_ms * MS, ms * MS);
        Event::Pause(Pause {
            kind: PauseKind::MarkStart,
            start_ns,
            reach_ns: 1000,
            total_ns,
            last: None,
            last_off_ns: None,
        })
    };
    let stall = |start_ms: u64, ms: u64, mutator: u64| {
        let (start_ns, total_ns) = (start_ms * MS, ms * MS);
        Event::Stall(Stall { cause: StallCause::NoBlock, start_ns, total_ns, bytes: 64, mutator })
    };
    // From 100 to 160 ms. One pause reaches in, one out; one lies behind. Two mutators wait,
    // one of them for longer.
    let events = [pause(97, 5), pause(159, 10), pause(170, 1), stall(120, 3, 7), stall(120, 4, 9), stall(126, 1, 7)];
    let found = HeapEvents::of(&events, 0, 100 * MS, 160 * MS);
    let counts = (found.pauses.summary().count, found.stalls.summary().count, found.stops.len());
    assert_eq!(counts, (2, 3, 2), "whole ones, as they were");
    assert_eq!(found.pauses.summary().max_ns, 10 * MS);
    let at = |ms: u64| found.mmu().iter().find(|mmu| mmu.window_ms == ms).map(|mmu| mmu.share);
    // Two of the first pause; four of mutator 9, which in ten are as many as those of mutator
    // 7; in fifty the first pause and either's four.
    assert_eq!(
        [at(1), at(2), at(5), at(10), at(50), at(100)],
        [Some(0.0), Some(0.0), Some(0.2), Some(0.6), Some(0.88), None]
    );
}

/// Where a mutator waited for a processor is known from its samples.
#[test]
fn a_wait_for_a_processor_lies_in_the_long_samples() {
    let without = |kind, start_ms: u64, ms: u64, lost_ms: u64, mutator: u64| {
        let (start_ns, total_ns, lost_ns) = (start_ms * MS, ms * MS, lost_ms * MS);
        Event::Loss(Loss { kind, start_ns, total_ns, lost_ns, kernel_ns: 0, count: 1, mutator })
    };
    let preempted = |start_ms, ms, lost_ms, mutator| without(LossKind::Preemptions, start_ms, ms, lost_ms, mutator);
    let events = [
        preempted(10, 10, 4, 1),
        without(LossKind::Steal, 10, 10, 2, 1),
        preempted(30, 10, 6, 1),
        preempted(10, 10, 4, 2),
    ];
    let mut found = HeapEvents::of(&events, 0, 0, 60 * MS);
    let long = |mutator: u64, samples: &[(u64, u64)]| {
        let long_samples = samples.iter().map(|&(start, ms)| (start * MS, ms * MS)).collect();
        Sampled { mutator, long_samples, ..Sampled::default() }
    };
    // Of the first all in the longer sample; of the steal in the same time what is left of that
    // sample, and then in the shorter one; of the third as much as fits two, of which one
    // reaches out, and the rest anywhere; of the fourth, whose mutator has no long sample
    // there, all.
    found.place_preemptions(&[long(1, &[(11, 1), (13, 5), (28, 4), (35, 2)]), long(2, &[(25, 9)])]);
    let expected = [
        (1, 13 * MS, 5 * MS, 4 * MS),
        (1, 30 * MS, 2 * MS, 2 * MS),
        (1, 35 * MS, 2 * MS, 2 * MS),
        (1, 30 * MS, 10 * MS, 2 * MS),
        (2, 10 * MS, 10 * MS, 4 * MS),
    ];
    assert_eq!(found.delays["preemptions"], expected);
    assert_eq!(found.delays["steal"], [(1, 13 * MS, 5 * MS, MS), (1, 11 * MS, MS, MS)]);
    let lost = found.lost_by(1);
    assert_eq!((lost.between(13 * MS, 18 * MS), lost.between(11 * MS, 12 * MS)), (5e6, 1e6));
}

/// 5 ms without a sample, in 4 of which the processor stood still. The thread also waited for a
/// processor for 3.5 ms: 3 in the other long sample, and the rest where it did not stand still.
#[test]
fn a_standstill_is_no_wait_for_a_processor() {
    let of = |steal_ms: u64| {
        let without = |kind, lost_ns: u64| {
            let (start_ns, total_ns) = (10 * MS, 20 * MS);
            Event::Loss(Loss { kind, start_ns, total_ns, lost_ns, kernel_ns: 0, count: 1, mutator: 1 })
        };
        let preempted = without(LossKind::Preemptions, 3 * MS + MS / 2);
        let mut found = HeapEvents::of(&[preempted, without(LossKind::Steal, steal_ms * MS)], 0, 0, 60 * MS);
        found.add_standstills(&[(1, 13 * MS, 4 * MS), (2, 13 * MS, 40 * MS)]);
        let long_samples = vec![(12 * MS, 5 * MS), (20 * MS, 3 * MS)];
        found.place_preemptions(&[Sampled { mutator: 1, long_samples, ..Sampled::default() }]);
        found
    };
    let found = of(2);
    assert_eq!(found.delays["standstills"], [(1, 13 * MS, 4 * MS, 4 * MS), (2, 13 * MS, 40 * MS, 40 * MS)]);
    assert_eq!(found.delays["preemptions"], [(1, 20 * MS, 3 * MS, 3 * MS), (1, 12 * MS, MS, MS / 2)]);
    assert_eq!(found.delays.get("steal"), None, "the hypervisor tells of a part of what was seen");
    assert_eq!(found.lost_by(1).between(12 * MS, 17 * MS), 4.5e6);
    // What the hypervisor tells beyond that was not seen: it lies where there is room, and the
    // rest anywhere.
    assert_eq!(of(5).delays["steal"], [(1, 12 * MS, MS, MS / 2), (1, 10 * MS, 20 * MS, MS / 2)]);
}

/// What a mutator waited for a processor beyond its due time is its loss, where it slept longer
/// than otherwise.
#[test]
fn a_sleep_beyond_a_due_time_is_in_the_account() {
    let heap = gc_heap::Heap::builder().max_bytes(8 << 20).build().unwrap();
    heap.enter(|m| {
        let mut track = Track::new(1, 1_000);
        track.start(m, Instant::now());
        let unmetered = Track::new(1, 0);
        let late = |due_ns: u64, at: [(u64, u64); 4]| {
            let [left, asleep, woke, back] = at.map(|(at_ns, waited_ns)| Moment { at_ns, waited_ns: Some(waited_ns) });
            Late { due_ns, left, asleep, woke, back }
        };
        for (due_ms, woke_ns) in [(3, 3 * MS - 40_000), (4, 4 * MS + 99_999), (5, 7 * MS)] {
            track.is_back(late(due_ms * MS, [(0, 0), (0, 0), (woke_ns, 3 * MS), (woke_ns, 3 * MS)]));
        }
        // Of the last 2 ms it was off its processor for 1.6, in 0.1 of which it was not asleep
        // yet but waited for one, as in 0.5 of its sleep and in 0.7 of 1 ms on its way back.
        let asleep_ns = 8 * MS + 400_000;
        let waits = [(8 * MS - 50_000, 7), (asleep_ns, 100_007), (10 * MS, 600_007), (11 * MS, 1_300_007)];
        track.is_back(late(8 * MS, waits));
        let off = [(m.number(), 8 * MS + 300_000, 1_600_000), (m.number() + 1, 8 * MS, MS)];
        let mut found = HeapEvents::of(&[], 0, 0, 60 * MS);
        found.add_late_wake_ups(&[track, unmetered], &off);
        assert_eq!(found.delays["late_timers"], [(m.number(), asleep_ns, 1_600_000, MS)]);
        let expected = [
            (m.number(), 5 * MS, 2 * MS, 2 * MS),
            (m.number(), 8 * MS, 400_000, 100_000),
            (m.number(), 10 * MS, MS, 700_000),
            (m.number(), asleep_ns, 1_600_000, MS / 2),
        ];
        assert_eq!(found.delays["late_wake_ups"], expected);
        let lost = found.lost_by(m.number());
        assert_eq!((lost.between(4 * MS, 6 * MS), lost.between(8 * MS, 11 * MS)), (1e6, 2.3e6));
    })
    .unwrap();
}

/// 1 ms of a way of 2 ms out of the heap: the heap has recorded the same wait when it asked on the
/// way, and 0.3 ms of a wake-up on the way back.
#[test]
fn a_wait_that_the_heap_has_recorded_too_counts_once() {
    let heap = gc_heap::Heap::builder().max_bytes(8 << 20).build().unwrap();
    heap.enter(|m| {
        let mut track = Track::new(1, 1_000);
        track.start(m, Instant::now());
        let at = |at_ns, waited_ns| Moment { at_ns, waited_ns: Some(waited_ns) };
        let (left, out) = (at(4 * MS - 10_000, 5), at(6 * MS, MS + 5));
        track.is_back(Late { due_ns: 4 * MS, left, asleep: out, woke: out, back: at(7 * MS, MS + 500_005) });
        let loss = |kind, start_ns, total_ns, lost_ns| {
            Event::Loss(Loss { kind, start_ns, total_ns, lost_ns, kernel_ns: 0, count: 1, mutator: m.number() })
        };
        let events =
            [loss(LossKind::Preemptions, 3 * MS, 3 * MS - 1000, MS), loss(LossKind::WakeUps, 6 * MS, 300_000, 300_000)];
        let mut found = HeapEvents::of(&events, 0, 0, 60 * MS);
        let long_samples = vec![(4 * MS, 2 * MS)];
        found.place_preemptions(&[Sampled { mutator: m.number(), long_samples, ..Sampled::default() }]);
        found.add_late_wake_ups(&[track], &[]);
        assert_eq!(found.delays["late_wake_ups"], [(m.number(), 6 * MS, MS, 200_000)]);
        let lost = found.lost_by(m.number());
        assert_eq!((lost.between(4 * MS, 6 * MS).round(), lost.between(6 * MS, 7 * MS).round()), (1e6, 440_000.0));
    })
    .unwrap();
}

#[test]
fn faults_are_lost_to_the_mutator_that_had_them() {
    let fault = |start_us: u64, us: u64, lost_us: u64, mutator: u64| {
        let [start_ns, total_ns, lost_ns] = [start_us, us, lost_us].map(|us| us * 1000);
        Event::Loss(Loss { kind: LossKind::Faults, start_ns, total_ns, lost_ns, kernel_ns: 0, count: 3, mutator })
    };
    let pause = Event::Pause(Pause {
        kind: PauseKind::Flip,
        start_ns: 50 * MS,
        reach_ns: 0,
        total_ns: 100_000,
        last: None,
        last_off_ns: None,
    });
    let stall =
        Event::Stall(Stall { cause: StallCause::NoBlock, start_ns: 52 * MS, total_ns: 200_000, bytes: 64, mutator: 2 });
    // Of mutator 1: half of 100 us, five times in a row behind a pause, and one that began
    // before the stretch.
    let mut events = vec![pause, stall, fault(39_950, 100, 50, 1), fault(80_000, 100, 100, 1), fault(61_000, 9, 9, 1)];
    events.extend((0..5).map(|n| fault(50_100 + 100 * n, 100, 50, 1)));
    events.push(fault(52_200, 50, 30, 2));
    let found = HeapEvents::of(&events, 0, 40 * MS, 60 * MS);
    assert_eq!((found.stalls.summary().count, found.pauses.summary().count), (1, 1), "losses are neither");
    let at = |ms: u64| found.mmu().iter().find(|mmu| mmu.window_ms == ms).map(|mmu| mmu.share);
    // In 1 ms the pause and 250 us of mutator 1; in 5 ms that is 350 us, and the other's 100 +
    // 200 + 30 us are less.
    let near = |found: Option<f64>, share: f64| assert!((found.unwrap() - share).abs() < 1e-9, "{found:?}, {share}");
    near(at(1), 0.65);
    near(at(5), 1.0 - 0.35 / 5.0);
    near(at(20), 1.0 - 0.375 / 20.0);
}
