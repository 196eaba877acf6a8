use super::stretches::COARSEST_NS;
use super::*;
use gc_heap::Heap;

fn heap() -> Heap {
    Heap::builder().max_bytes(8 << 20).build().unwrap()
}

/// Ends a sample of `ns` that began where the last one ended, without a clock.
fn sample(track: &mut Track, ns: u64) {
    track.end_at(Series::Operation, track.last_ns + ns);
}

fn assert_tiles(track: &Track) {
    let mut at_ns = 0;
    for piece in track.pieces() {
        assert_eq!(piece.from_ns, at_ns);
        assert!(piece.to_ns >= piece.from_ns);
        at_ns = piece.to_ns;
    }
    assert_eq!(at_ns, track.last_ns);
    let samples: u64 = track.pieces().map(|p| p.samples).sum();
    assert_eq!(samples, track.operations.count() + track.other.count());
    let sum = track.operations.total_ns() + track.other.total_ns() + track.idle_ns;
    assert_eq!(sum, track.last_ns, "samples and idle time are all the time");
}

#[test]
fn a_track_loses_no_time() {
    let heap = heap();
    heap.enter(|m| {
        let mut track = Track::new(1, 0);
        track.end(Series::Operation);
        let base = Instant::now();
        thread::sleep(Duration::from_millis(2));
        track.start(m, base);
        let idle_ns = track.idle_ns;
        assert!(idle_ns >= 2_000_000);
        for i in 0..10_000 {
            track.admit(m);
            track.end(if i % 3 == 0 { Series::Other } else { Series::Operation });
            if i == 5_000 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        track.rest(m, || thread::sleep(Duration::from_millis(1)));
        for _ in 0..100 {
            track.begin(m, Series::Operation);
        }
        track.finish();
        assert_tiles(&track);
        assert!(track.idle_ns >= idle_ns + 1_000_000);
        let sampled = track.sampled(track.last_ns + 77);
        assert_eq!((sampled.operations, sampled.other), (6_666 + 100, 3_334));
        let sum = sampled.operations_ns + sampled.other_ns + sampled.idle_ns;
        assert_eq!((sum, sampled.mutator), (track.last_ns + 77, m.number()));
        assert!(sampled.long_samples.iter().any(|&(_, ns)| ns >= 2_000_000), "the sleep is a long sample");
    })
    .unwrap();
}

#[test]
fn every_long_sample_is_by_itself_however_coarse_the_track_has_become() {
    let mut track = Track::new(1, 0);
    track.stretches.room = 64;
    let (mut long, mut rng) = (Vec::new(), crate::rng::Rng::new(3, 0));
    for i in 0..200_000u64 {
        let ns = match rng.next() % 1000 {
            0 => 100_000 + rng.next() % 5_000_000,
            1 => rng.next() % 100_000,
            _ => 100 + rng.next() % 2_000,
        };
        if ns >= LONG_SAMPLE_NS {
            long.push((track.last_ns, ns));
        }
        sample(&mut track, ns);
        if i == 100_000 {
            long.push((track.last_ns, 3 << 32));
            sample(&mut track, 3 << 32);
            track.idle_until(track.last_ns + (1 << 33));
        }
    }
    assert_eq!(track.stretches.resolution_ns(), COARSEST_NS);
    assert_tiles(&track);
    assert_eq!(track.sampled(0).long_samples, long);
    let over_1ms_ns = long.iter().map(|&(_, ns)| ns).filter(|&ns| ns >= crate::recorder::LONG_NS).sum::<u64>();
    let longest_ns = long.iter().map(|&(_, ns)| ns).max();
    assert_eq!((track.operations.over_1ms_ns(), Some(track.operations.max_ns())), (over_1ms_ns, longest_ns));
    let shared = track.pieces().filter(|p| p.samples > 1);
    assert!(shared.map(|p| p.to_ns - p.from_ns).max().unwrap() < 2 * COARSEST_NS);
}

#[test]
fn a_rate_is_kept_and_latency_counts_from_the_due_time() {
    let heap = heap();
    heap.enter(|m| {
        // 2.5 a tick, for 40 ticks.
        let mut track = Track::new(1, 2_500);
        track.start(m, Instant::now());
        track.last_for(Duration::from_millis(40));
        let mut operations = 0u64;
        while track.admit(m) {
            if operations == 20 {
                // The eighth tick is late by its work, and so are those after it.
                thread::sleep(Duration::from_millis(10));
            }
            track.end(Series::Operation);
            operations += 1;
        }
        track.finish();
        assert_eq!(operations, 100);
        assert_eq!((track.latency().count(), track.operations().count()), (40, 100));
        let responses = track.responses().unwrap();
        assert_eq!(responses.count(), 100);
        assert!(responses.max_ns() >= 10_000_000 && track.latency().max_ns() >= 10_000_000);
        // The ticks that were due in those 10 ms waited for it as well.
        let late = track.latency().buckets().filter(|&(ns, _)| ns >= 1_000_000).map(|(_, n)| n).sum::<u64>();
        assert!(late >= 9, "{late} ticks");
        assert_tiles(&track);
        assert!(track.last_ns - track.pace.as_ref().unwrap().start_ns >= 40_000_000);
    })
    .unwrap();
}

#[test]
fn nothing_becomes_due_while_a_thread_rests() {
    let heap = heap();
    heap.enter(|m| {
        let mut track = Track::new(1, 3_000);
        track.start(m, Instant::now());
        for i in 0..30 {
            track.begin(m, Series::Operation);
            if i == 10 {
                track.rest(m, || thread::sleep(Duration::from_secs(2)));
            }
        }
        track.finish();
        let worst_ns = track.responses().unwrap().max_ns();
        assert!(worst_ns < 2_000_000_000, "{worst_ns} ns, as if it had been late by the rest");
        assert_tiles(&track);
    })
    .unwrap();
}

#[test]
fn less_than_an_operation_a_tick_is_some_ticks_without_one() {
    let heap = heap();
    heap.enter(|m| {
        let mut track = Track::new(1, 100);
        track.start(m, Instant::now());
        track.last_for(Duration::from_millis(50));
        while track.admit(m) {
            track.end(Series::Operation);
        }
        track.finish();
        assert_eq!((track.operations().count(), track.latency().count()), (5, 5));
    })
    .unwrap();
}
