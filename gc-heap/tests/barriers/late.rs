//! A thread that comes to no safepoint stops all the others: the heap says who it is, and what it
//! does, while that lasts.

use crate::common::{checked, deadline_after};
use crate::harness::{Tests, tests};
use gc_heap::{Barrier, Event, Heap, Late, Mutator, Pause, PauseKind, ThreadState};
use gc_heap_tools::EventTrace;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const AFTER: Duration = Duration::from_millis(2);

/// Runs inside the heap, on a thread of this name.
fn inside<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    heap: &'scope Heap,
    name: &str,
    work: impl FnOnce(&mut Mutator<'_>) + Send + 'scope,
) {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn_scoped(scope, move || heap.enter(work).unwrap()).unwrap();
}

fn is_dawdler(late: &Late) -> bool {
    late.who.name.to_string() == "dawdler"
}

/// The events of a cycle in which a thread named `dawdler` comes to no safepoint until it has been
/// told of three times, and has once been found in a state. It does `work` all that time, and
/// meanwhile `diligent` waits for it in a pause.
fn dawdle(heap: &Heap, wanted: ThreadState, work: impl Fn() + Sync) -> (Vec<Late>, Vec<Pause>) {
    let (over, ready) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut late, mut pauses) = (Vec::new(), Vec::new());
    let mut take = || {
        let (events, lost) = heap.take_events();
        assert_eq!(lost, 0);
        for event in events {
            match event {
                Event::Late(event) => late.push(event),
                Event::Pause(pause) => pauses.push(pause),
                _ => {}
            }
        }
        // The last look may be noted in part. By the one before, the other has arrived.
        let mut looks: Vec<u64> = late.iter().map(|late: &Late| late.total_ns).collect();
        looks.dedup();
        let before = looks.iter().rev().nth(1).copied();
        let alone = late.iter().filter(|late| Some(late.total_ns) == before).all(is_dawdler);
        let is_found = |late: &Late| is_dawdler(late) && late.state == wanted;
        let has_run = |late: &Late| is_dawdler(late) && (late.ran_ns > Some(0) || wanted != ThreadState::Runs);
        looks.len() >= 3 && alone && late.iter().any(is_found) && late.iter().any(has_run)
    };
    std::thread::scope(|scope| {
        inside(scope, heap, "dawdler", |_| {
            ready.fetch_add(1, Ordering::SeqCst);
            while !over.load(Ordering::SeqCst) {
                work();
            }
        });
        inside(scope, heap, "diligent", |m| {
            ready.fetch_add(1, Ordering::SeqCst);
            while !over.load(Ordering::SeqCst) {
                m.safepoint();
                std::thread::yield_now();
            }
        });
        while ready.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        let collecting = scope.spawn(|| heap.collect());
        while !take() {
            std::thread::sleep(Duration::from_micros(100));
        }
        assert!(!collecting.is_finished(), "it is told of while it lasts");
        over.store(true, Ordering::SeqCst);
        collecting.join().unwrap();
    });
    take();
    (late, pauses)
}

fn checked_and_impatient(barrier: Barrier) -> Heap {
    checked(barrier, 16 << 20).late_after(AFTER).build().unwrap()
}

pub(crate) fn who_comes_to_no_safepoint_is_named_while_it_lasts(barrier: Barrier) {
    let heap = checked_and_impatient(barrier);
    let spin = || (0..10_000).for_each(|_| std::hint::spin_loop());
    let sleep = || std::thread::sleep(Duration::from_millis(30));
    for (work, wanted) in [(&spin as &(dyn Fn() + Sync), ThreadState::Runs), (&sleep, ThreadState::Sleeps)] {
        let (all, pauses) = dawdle(&heap, wanted, work);
        // On a busy machine the other may be late as well, now and then, or this one in a later
        // stop.
        let mut late: Vec<_> = all.iter().filter(|late| is_dawdler(late)).collect();
        late.retain(|other| other.start_ns == all[0].start_ns);
        assert!(late.len() >= 2, "{all:?}");
        for pair in late.windows(2) {
            assert!(pair[1].total_ns >= 2 * pair[0].total_ns, "at growing intervals: {all:?}");
            assert_eq!(pair[0].who, pair[1].who);
        }
        assert!(late[0].total_ns >= AFTER.as_nanos() as u64, "{all:?}");
        for late in &late {
            // None where the collector got a processor too late for the look before.
            let ran_ns = late.ran_ns.unwrap_or(0);
            // At half of the time, and the clocks are read one after the other.
            assert!(late.watched_ns <= late.total_ns && ran_ns <= late.watched_ns + 10_000_000, "{late:?}");
        }
        let (ran_ns, watched_ns) =
            late.iter().fold((0, 0), |sum, late| (sum.0 + late.ran_ns.unwrap_or(0), sum.1 + late.watched_ns));
        match wanted {
            ThreadState::Runs => assert!(ran_ns > 0, "{all:?}"),
            _ => assert!(ran_ns < watched_ns / 2, "{all:?}"),
        }
        let kind = late[0].kind.expect("a stop comes first");
        let wanted = if barrier == Barrier::StopTheWorld { PauseKind::Collection } else { PauseKind::MarkStart };
        assert_eq!(kind, wanted);
        // The stop that waited says for whom, once it is over.
        let waited = late.last().unwrap().total_ns;
        let pause = pauses.iter().find(|pause| pause.reach_ns >= waited && pause.kind == kind);
        let pause = pause.unwrap_or_else(|| panic!("no pause took as long as {waited} ns to reach: {pauses:?}"));
        assert_eq!(pause.last, Some(late[0].who), "{pause:?}");
        // How long its thread was off the processor: nearly always if it slept; if it ran, no
        // longer than the rest.
        let off_ns = pause.last_off_ns.expect("it was late, and watched");
        match late[0].state {
            ThreadState::Runs if ran_ns > 0 => {
                assert!(off_ns <= pause.reach_ns - ran_ns / 10 * 9, "{pause:?}: {all:?}")
            }
            ThreadState::Sleeps => assert_eq!(pause.last_was_off(), Some(true), "{pause:?}"),
            _ => {}
        }
        assert_eq!(pause.stopped_ns(), pause.total_ns - pause.reach_ns);
        // In a trace the late one is a mark on the track of the stops, before the end of the one
        // that waited.
        let mut trace = EventTrace::new(Vec::new(), "late").unwrap();
        all.iter().for_each(|late| trace.add(&Event::Late(*late)).unwrap());
        trace.add(&Event::Pause(*pause)).unwrap();
        let trace: Vec<serde_json::Value> = serde_json::from_slice(&trace.finish().unwrap()).unwrap();
        let marks: Vec<_> = trace.iter().filter(|entry| entry["ph"] == "i" && entry["name"] == "late").collect();
        assert_eq!(marks.len(), all.len());
        assert!(marks.iter().any(|mark| mark["args"]["who"].as_str().unwrap().contains("dawdler")), "{marks:?}");
        let whole = trace.iter().find(|entry| entry["name"] == kind.to_string().as_str()).unwrap();
        assert_eq!((&whole["tid"], whole["args"]["last"].is_string()), (&marks[0]["tid"], true));
        assert!(marks[0]["ts"].as_f64() < whole["ts"].as_f64().zip(whole["dur"].as_f64()).map(|(ts, dur)| ts + dur));
    }
}

/// What the library counts is what the events say.
pub(crate) fn the_pauses_of_the_events_are_those_that_are_counted(barrier: Barrier) {
    let heap = checked_and_impatient(barrier);
    let (_, mut pauses) = dawdle(&heap, ThreadState::Runs, std::thread::yield_now);
    heap.collect();
    let (events, _) = heap.take_events();
    pauses.extend(events.iter().filter_map(|event| if let Event::Pause(pause) = event { Some(*pause) } else { None }));
    pauses.retain(|pause| pause.kind != PauseKind::Verification);
    let counted = heap.pauses();
    let parts = [
        (&counted.total, &(|pause: &Pause| pause.total_ns) as &dyn Fn(&Pause) -> u64),
        (&counted.reach, &|pause| pause.reach_ns),
        (&counted.stopped, &|pause| pause.stopped_ns()),
    ];
    for (counted, part) in parts {
        let mut exact: Vec<u64> = pauses.iter().map(part).collect();
        exact.sort_unstable();
        let sum = exact.iter().sum::<u64>();
        assert_eq!((counted.count, counted.sum_ns), (exact.len() as u64, sum), "{pauses:?}");
        assert_eq!(counted.max_ns, *exact.last().unwrap());
        for share in [0.5, 0.99] {
            let at = exact[(exact.len() as f64 * share).ceil() as usize - 1];
            let found = counted.quantile(share);
            assert!((at..=at + at / 8 + 1).contains(&found), "{share}: {found}, {exact:?}");
        }
    }
    assert!(counted.reach.max_ns >= AFTER.as_nanos() as u64 && counted.stopped.sum_ns < counted.total.sum_ns);
}

/// A listener may wait for what a stopped thread has: the stop does not wait for the listener.
pub(crate) fn a_listener_that_is_told_may_wait_for_a_stopped_thread(barrier: Barrier) {
    let (lock, told) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
    let (tell, heard) = mpsc::channel();
    let (lock_of_listener, told_by_listener) = (Arc::clone(&lock), Arc::clone(&told));
    let listener = move |event: &Event| {
        if matches!(event, Event::Late(_)) {
            told_by_listener.store(true, Ordering::SeqCst);
            drop(lock_of_listener.lock().unwrap());
            let _ = tell.send(());
        }
    };
    let heap = checked(barrier, 16 << 20).late_after(AFTER).on_event(listener).build().unwrap();
    let ready = AtomicU64::new(0);
    let is_told = || told.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        inside(scope, &heap, "holds the lock", |m| {
            let guard = lock.lock().unwrap();
            ready.fetch_add(1, Ordering::SeqCst);
            while !is_told() {
                m.safepoint();
            }
            m.safepoint();
            drop(guard);
        });
        inside(scope, &heap, "dawdler", |_| {
            ready.fetch_add(1, Ordering::SeqCst);
            while !is_told() {
                std::thread::yield_now();
            }
        });
        while ready.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        heap.collect();
    });
    heard.recv_timeout(Duration::from_secs(20)).expect("the listener comes back");
}

/// Nobody is told of where nobody is late, or where that was not wanted.
pub(crate) fn nothing_is_said_where_that_is_not_wanted(barrier: Barrier) {
    let _deadline = deadline_after("late", Duration::from_secs(60));
    let heap = checked(barrier, 16 << 20).late_after(Duration::MAX).build().unwrap();
    let ready = AtomicBool::new(false);
    std::thread::scope(|scope| {
        inside(scope, &heap, "dawdler", |_| {
            ready.store(true, Ordering::SeqCst);
            let until = Instant::now() + Duration::from_millis(150);
            while Instant::now() < until {
                std::thread::yield_now();
            }
        });
        while !ready.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        heap.collect();
    });
    assert!(!heap.take_events().0.iter().any(|event| matches!(event, Event::Late(_))));
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        who_comes_to_no_safepoint_is_named_while_it_lasts,
        the_pauses_of_the_events_are_those_that_are_counted,
        a_listener_that_is_told_may_wait_for_a_stopped_thread,
        nothing_is_said_where_that_is_not_wanted
    ],
    ..Tests::NONE
};
