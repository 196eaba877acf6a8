//! What the heap tells of itself: to listeners, in the log, as a trace, in histograms.

use crate::common::{checked, stress, while_collecting};
use crate::harness::{Tests, tests};
use gc_heap::{
    AllocSize, Barrier, CycleSpan, EnterError, Event, Heap, HeapBuilder, LossKind, Mutator, PauseKind, Slot, SlotArray,
    Stress, Trace,
};
use gc_heap_tools::{EventTrace, GcLog};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

#[derive(Trace)]
struct Node {
    id: u64,
    next: Slot<Option<Node>>,
}

type Table = SlotArray<Option<Node>>;

type Heard = Arc<Mutex<Vec<(Event, ThreadId)>>>;

/// A heap whose events are collected, with the threads that told them.
fn heard(builder: HeapBuilder) -> (Heap, Heard) {
    let heard = Heard::default();
    let sink = Arc::clone(&heard);
    let listener = move |event: &Event| sink.lock().unwrap().push((*event, std::thread::current().id()));
    (builder.on_event(listener).build().unwrap(), heard)
}

/// Makes lists of nodes, and lets all but the last go.
fn churn(m: &mut Mutator<'_>, lists: usize) {
    let m = &mut *m.frame();
    let last = m.build::<Option<Node>>(AllocSize::NONE, |_| None).unwrap();
    for _ in 0..lists {
        last.set(m, None);
        for id in 0..1000 {
            let m = m.reserve(AllocSize::of::<Node>()).unwrap();
            last.set(m, Some(m.place(NodeInit { id, next: last.get(m) })));
        }
        assert_eq!(last.get(m).map(|node| node.id), Some(999));
    }
}

fn cycles(heard: &[(Event, ThreadId)]) -> Vec<CycleSpan> {
    let cycle = |(event, _): &(Event, _)| match event {
        Event::Cycle(cycle) => Some(*cycle),
        _ => None,
    };
    heard.iter().filter_map(cycle).collect()
}

/// Everything of a cycle has been told when the wait for it ends: in the order of the ends, by one
/// thread.
pub(crate) fn a_cycle_is_told_before_its_end_is(barrier: Barrier) {
    let (heap, heard) = heard(checked(barrier, 16 << 20));
    for number in 1..=5 {
        heap.enter(|m| churn(m, 3)).unwrap();
        heap.collect();
        let heard = heard.lock().unwrap();
        let cycles = cycles(&heard);
        let numbers: Vec<u64> = cycles.iter().map(|cycle| cycle.cycle).collect();
        assert_eq!(numbers, (1..=number).collect::<Vec<u64>>());
        // A late thread (this machine may be busy) is told of elsewhere.
        let others = |event: &Event| matches!(event, Event::Loss(_) | Event::Late(_));
        let own: Vec<&Event> = heard.iter().map(|(event, _)| event).filter(|event| !others(event)).collect();
        assert!(own.is_sorted_by_key(|event| event.end_ns()), "{own:?}");
        let collector = heard.iter().filter(|(event, _)| !matches!(event, Event::Late(_))).map(|(_, thread)| *thread);
        assert!(collector.clone().all(|thread| Some(thread) == collector.clone().next()));
        assert!(!collector.into_iter().any(|thread| thread == std::thread::current().id()));
        let (last, stats) = (cycles.last().unwrap(), heap.stats());
        assert!(last.used_before_bytes > 0 && last.total_ns > 0 && last.max_bytes == 16 << 20, "{last:?}");
        assert_eq!((last.live_bytes, last.used_bytes), (stats.live_bytes, stats.used_bytes));
        let inside =
            |event: &Event| last.start_ns <= event.start_ns() && event.end_ns() <= last.start_ns + last.total_ns;
        let phases = own.iter().filter(|event| matches!(event, Event::Phase(span) if span.cycle == number));
        assert!(phases.clone().count() >= 3 && phases.into_iter().all(|event| inside(event)), "{own:?}");
        let wanted = if barrier == Barrier::StopTheWorld { PauseKind::Collection } else { PauseKind::MarkEnd };
        assert!(own.iter().any(|event| matches!(event, Event::Pause(p) if p.kind == wanted) && inside(event)));
    }
    assert!(heap.take_events().0.is_empty(), "a heap with listeners keeps no record");
}

/// While the collector tells, mutators make progress: it is never inside a pause.
pub(crate) fn mutators_run_while_a_listener_does(barrier: Barrier) {
    let (turns, told) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let working = Arc::new(AtomicBool::new(false));
    let (turns_seen, told_to, seen_working) = (Arc::clone(&turns), Arc::clone(&told), Arc::clone(&working));
    let listener = move |_: &Event| {
        let from = turns_seen.load(Ordering::SeqCst);
        // Hangs, and so fails, if the one who counts is stopped.
        while seen_working.load(Ordering::SeqCst) && turns_seen.load(Ordering::SeqCst) < from + 3 {
            std::thread::yield_now();
        }
        told_to.fetch_add(1, Ordering::SeqCst);
    };
    let heap = checked(barrier, 16 << 20).on_event(listener).build().unwrap();
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            working.store(true, Ordering::SeqCst);
            while told.load(Ordering::SeqCst) < 100 {
                m.safepoint();
                turns.fetch_add(1, Ordering::SeqCst);
                std::thread::yield_now();
            }
            working.store(false, Ordering::SeqCst);
        })
        .unwrap();
    });
}

/// A stall is told on the thread that stalled, which nobody waits for meanwhile: whole cycles fit
/// in.
pub(crate) fn a_stall_is_told_where_it_was_and_holds_up_nobody(barrier: Barrier) {
    let (stalls, slot) = (Heard::default(), Arc::new(Mutex::new(None::<u64>)));
    let (sink, cycles_ended) = (Arc::clone(&stalls), Arc::new(AtomicU64::new(0)));
    let (ended, first) = (Arc::clone(&cycles_ended), Arc::clone(&slot));
    let listener = move |event: &Event| match event {
        Event::Stall(_) => {
            sink.lock().unwrap().push((*event, std::thread::current().id()));
            if first.lock().unwrap().replace(0).is_none() {
                let from = ended.load(Ordering::SeqCst);
                while ended.load(Ordering::SeqCst) < from + 3 {
                    std::thread::yield_now();
                }
            }
        }
        Event::Cycle(_) => {
            ended.fetch_add(1, Ordering::SeqCst);
        }
        _ => {}
    };
    let heap = checked(barrier, 4 << 20).on_event(listener).build().unwrap();
    while_collecting(&heap, Duration::from_millis(1), || {
        heap.enter(|m| {
            // All that fits lives, so that the end is a stall.
            let table =
                m.build::<Table>(AllocSize::tail::<Table>(400_000), |m| m.place_array((), 400_000, None)).unwrap();
            let full = (0..400_000).any(|index| match m.reserve(AllocSize::of::<Node>()) {
                Ok(m) => {
                    table.get(m).tail()[index].set(m, Some(m.place(NodeInit { id: 1, next: None })));
                    false
                }
                Err(_) => true,
            });
            assert!(full);
        })
        .unwrap();
    });
    let stalls = stalls.lock().unwrap();
    assert!(!stalls.is_empty() && stalls.len() as u64 == heap.stats().stalls, "{stalls:?}");
    assert!(stalls.iter().all(|(_, thread)| *thread == std::thread::current().id()), "{stalls:?}");
    assert!(cycles_ended.load(Ordering::SeqCst) >= 3);
}

/// A listener can neither enter a heap nor wait for a cycle.
pub(crate) fn a_listener_enters_no_heap(barrier: Barrier) {
    let other = checked(barrier, 4 << 20).build().unwrap();
    let (in_listener, refused) = (other.clone(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&refused);
    let listener = move |_: &Event| {
        assert!(matches!(in_listener.enter(|_| ()), Err(EnterError::AlreadyEntered)));
        count.fetch_add(1, Ordering::SeqCst);
    };
    let heap = checked(barrier, 4 << 20).on_event(listener).build().unwrap();
    (0..3).for_each(|_| heap.collect());
    // As many as there were events: none of the calls panicked.
    assert!(refused.load(Ordering::SeqCst) >= 3 * 5, "{refused:?}");
    other.enter(|m| m.collect()).unwrap();
}

/// A listener that panics is not called again; the collector, the others and the mutators go on.
pub(crate) fn a_panic_stays_in_its_listener(barrier: Barrier) {
    let (calls, log) = (Arc::new(AtomicU64::new(0)), GcLog::cycles_only());
    let (count, lines) = (Arc::clone(&calls), Arc::new(Mutex::new(Vec::new())));
    let sink = Arc::clone(&lines);
    let heap = checked(barrier, 4 << 20)
        .stress(stress(7))
        .on_event(move |_| {
            // Not a panic: a hook would print it.
            count.fetch_add(1, Ordering::SeqCst);
            std::panic::resume_unwind(Box::new("a listener's panic"));
        })
        .on_event(move |event| sink.lock().unwrap().extend(log.line(event)))
        .build()
        .unwrap();
    heap.enter(|m| churn(m, 20)).unwrap();
    (0..5).for_each(|_| heap.collect());
    // Two threads may have called it at once.
    assert!((1..=2).contains(&calls.load(Ordering::SeqCst)), "{calls:?}");
    assert!(lines.lock().unwrap().len() >= 5, "{lines:?}");
}

/// Faults and pages, slow paths: each cycle's add up to the heap's, and so does what was told of
/// each loss.
pub(crate) fn cycles_say_what_the_barrier_did(barrier: Barrier) {
    let moving = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let (heap, heard) = heard(checked(barrier, 16 << 20).stress(moving));
    let enough = |heap: &Heap| match barrier {
        Barrier::Load => heap.slow_paths().count > 1000,
        Barrier::Page => heap.faults().count > 20,
        _ => heap.stats().cycles > 10,
    };
    while_collecting(&heap, Duration::ZERO, || {
        heap.enter(|m| {
            let list = m.build::<Option<Node>>(AllocSize::NONE, |_| None).unwrap();
            for id in 0..20_000 {
                let m = m.reserve(AllocSize::of::<Node>()).unwrap();
                list.set(m, Some(m.place(NodeInit { id, next: list.get(m) })));
            }
            while !enough(&heap) {
                let mut node = list.get(m);
                while let Some(n) = node {
                    node = n.next.get(m);
                }
                m.safepoint();
            }
        })
        .unwrap();
    });
    heap.collect();
    let losses = heard
        .lock()
        .unwrap()
        .iter()
        .map(|(event, _)| if let Event::Loss(loss) = event { loss.count } else { 0 })
        .sum::<u64>();
    let all = LossKind::ALL.map(|kind| heap.stats().losses.kind(kind).count);
    assert_eq!(losses + heap.take_events().1, all.iter().sum::<u64>(), "{all:?}");
    let (stats, cycles) = (heap.stats(), cycles(&heard.lock().unwrap()));
    let sum = |of: fn(&CycleSpan) -> u64| cycles.iter().map(of).sum::<u64>();
    assert_eq!(sum(|cycle| cycle.pages_repaired), stats.pages_repaired);
    assert_eq!(sum(|cycle| cycle.pages_repaired_by_mutators), stats.pages_repaired_by_mutators);
    assert_eq!(sum(|cycle| cycle.faults), heap.faults().count);
    let slow = heap.slow_paths();
    assert_eq!(sum(|cycle| cycle.slow_paths), slow.count);
    // One mutator, whose first slow path is timed.
    assert_eq!(slow.timed.count, slow.count.div_ceil(16));
    match barrier {
        Barrier::Load => assert!(slow.count > 1000),
        Barrier::Page => assert_eq!(slow.count, 0),
        _ => {}
    }
    assert!(slow.count >= stats.healed && slow.count >= stats.mutator_copies, "{slow:?}, {stats:?}");
    if barrier == Barrier::Load {
        assert!(slow.timed.max_ns >= slow.timed.quantile(0.5) && slow.timed.sum_ns > 0, "{slow:?}");
    }
}

/// Every line has its time and its tag; each cycle has one line that sums it up.
pub(crate) fn the_log_has_a_line_for_every_event(barrier: Barrier) {
    let (heap, heard) = heard(checked(barrier, 8 << 20));
    heap.enter(|m| churn(m, 500)).unwrap();
    heap.collect();
    let (log, heard) = (GcLog::new(), heard.lock().unwrap());
    for (event, _) in heard.iter() {
        let Some(line) = log.line(event) else {
            assert!(matches!(event, Event::Loss(_)), "{event:?}");
            continue;
        };
        let (time, said) = line.strip_prefix('[').and_then(|line| line.split_once("s][gc] ")).unwrap();
        assert!((time.parse::<f64>().unwrap() * 1e9 - event.end_ns() as f64).abs() <= 5.1e5, "{line}");
        match event {
            Event::Cycle(cycle) => {
                let start = format!("cycle {}: ", cycle.cycle);
                assert!(said.starts_with(&start) && said.contains(" -> ") && said.contains("(8.0 MiB)"), "{line}");
                assert!(said.contains("mark ") && said.contains("pauses ") && said.contains("stalls "), "{line}");
            }
            Event::Pause(pause) => assert!(said.contains(&format!(": pause {} ", pause.kind)), "{line}"),
            Event::Phase(span) => assert!(said.contains(&format!(": {} ", span.phase)), "{line}"),
            // Where the machine is busy with other things.
            Event::Late(_) => assert!(said.contains(" has waited "), "{line}"),
            _ => assert!(said.starts_with("stall of mutator "), "{line}"),
        }
    }
}

/// A time in a trace, in nanoseconds.
fn ns(entry: &Json, field: &str) -> u64 {
    (entry[field].as_f64().unwrap() * 1000.0).round() as u64
}

/// The trace is JSON; all events are in it; slices of a track lie in one another or apart; all
/// tracks have names.
pub(crate) fn the_trace_is_well_formed(barrier: Barrier) {
    let moving = Stress { cycle_every: u32::MAX, ..Stress::default() };
    let heap = checked(barrier, 8 << 20).stress(moving).record_losses(true).build().unwrap();
    while_collecting(&heap, Duration::from_millis(1), || {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| heap.enter(|m| churn(m, 400)).unwrap());
            }
        });
    });
    heap.collect();
    let (events, lost) = heap.take_events();
    assert_eq!(lost, 0);
    let mut trace = EventTrace::new(Vec::new(), "a \"heap\"\n\\").unwrap();
    events.iter().for_each(|event| trace.add(event).unwrap());
    let json: Json = serde_json::from_slice(&trace.finish().unwrap()).unwrap();
    let entries = json.as_array().unwrap();
    let (mut names, mut slices, mut counters, mut late) = (HashMap::new(), HashMap::<u64, Vec<_>>::new(), 0, 0);
    for entry in entries {
        assert_eq!(entry["pid"], 1);
        let name = entry["name"].as_str().unwrap();
        match entry["ph"].as_str().unwrap() {
            "M" if name == "thread_name" => {
                assert_ne!(entry["tid"], entry["pid"], "viewers call such a track the main thread");
                let track = names.insert(entry["tid"].as_u64().unwrap(), entry["args"]["name"].clone());
                assert_eq!(track, None, "a track is named once");
            }
            "M" if name == "process_name" => assert_eq!(entry["args"]["name"], "a \"heap\"\n\\"),
            "M" => assert!(entry["args"]["sort_index"].is_u64()),
            "C" => {
                counters += 1;
                assert!(matches!(name, "used" | "live"), "{entry}");
                let value = entry["args"]["bytes"].as_u64().unwrap();
                assert!(value <= 8 << 20 && ns(entry, "ts") <= heap.now_ns(), "{entry}");
            }
            "X" => {
                let span = (ns(entry, "ts"), ns(entry, "ts") + ns(entry, "dur"), name.to_owned());
                slices.entry(entry["tid"].as_u64().unwrap()).or_default().push(span);
            }
            // Where the machine is busy with other things.
            "i" if name == "late" => late += 1,
            _ => panic!("{entry}"),
        }
    }
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|&event| wanted(event)).count();
    let (cycles, phases) = (count(|e| matches!(e, Event::Cycle(_))), count(|e| matches!(e, Event::Phase(_))));
    assert_eq!((slices[&2].len(), counters), (cycles + phases, 3 * cycles + phases));
    assert_eq!(late, count(|event| matches!(event, Event::Late(_))));
    assert_eq!(slices[&3].len(), 2 * count(|event| matches!(event, Event::Pause(_))));
    let of_mutators = |odd: u64| -> usize {
        let own = slices.iter().filter(|&(&track, _)| track >= 100 && track % 2 == odd);
        own.map(|(_, spans)| spans.len()).sum()
    };
    assert_eq!(of_mutators(0), count(|event| matches!(event, Event::Stall(_))));
    let losses = count(|event| matches!(event, Event::Loss(_)));
    assert_eq!(of_mutators(1), losses);
    assert!(losses > 0 || barrier == Barrier::StopTheWorld, "cycles that moved while mutators ran");
    for (track, mut spans) in slices {
        assert!(names.contains_key(&track), "track {track} has no name");
        // Of those that begin together the longest is around the others.
        spans.sort_by_key(|&(start, end, _)| (start, std::cmp::Reverse(end)));
        let mut around: Vec<(u64, String)> = Vec::new();
        for (start, end, name) in spans {
            while around.last().is_some_and(|(until, _)| *until <= start) {
                around.pop();
            }
            if let Some((until, outer)) = around.last() {
                assert!(end <= *until, "{name} begins in {outer} and ends after it, on track {track}");
            }
            around.push((end, name));
        }
    }
}

pub(crate) const TESTS: Tests = Tests {
    every: tests![
        a_cycle_is_told_before_its_end_is,
        mutators_run_while_a_listener_does,
        a_stall_is_told_where_it_was_and_holds_up_nobody,
        a_listener_enters_no_heap,
        a_panic_stays_in_its_listener,
        cycles_say_what_the_barrier_did,
        the_log_has_a_line_for_every_event,
        the_trace_is_well_formed,
    ],
    ..Tests::NONE
};
