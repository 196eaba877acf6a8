//! The measured part of a run: where it begins and ends, and what the heap did in it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use gc_heap::{Event, Heap, LossKind, Mutator, StallCause};

use crate::clock;
use crate::collector::Collector;
use crate::laggards::{self, Laggard};
use crate::lost::{Since, Snapshot};
use crate::mmu::{self, Interval, LostTime, Mmu, Stretch};
use crate::process::{Usage, Used};
use crate::recorder::nanos;
use crate::stats::Samples;
use crate::threads::{Attendance, Roster, Threads};
use crate::timeline::{Delay, Occupancy, Phase, Sampled, Stop};
use crate::track::Track;

/// The result of a workload.
pub(crate) struct Measured {
    pub(crate) ops: u64,
    pub(crate) checksum: i64,
    /// Each mutator's samples.
    pub(crate) tracks: Vec<Track>,
    /// Documents parsed (json).
    pub(crate) documents: u64,
}

impl Measured {
    pub(crate) fn new(ops: u64, checksum: i64, tracks: Vec<Track>) -> Self {
        Self { ops, checksum, tracks, documents: 0 }
    }
}

/// A run, as its workload sees it.
pub(crate) struct Bench<'a> {
    pub(crate) heap: &'a Heap,
    barrier: Collector,
    threads: u64,
    /// Operations a second and thread; 0: as fast as it goes.
    rate: u64,
    /// The text that `json` parses.
    pub(crate) document: &'a [u8],
    window: Mutex<Option<Window>>,
    gauge: &'a Gauge,
    roster: Roster,
    /// What a pair of clock reads costs the heap.
    clock_ns: f64,
}

struct Window {
    usage: Usage,
    /// The same moment on the clock of the heap's events.
    from_ns: u64,
    before: Snapshot,
    closed: Option<Closed>,
}

/// The measured part, when it is over.
pub(crate) struct Closed {
    pub(crate) wall: Duration,
    pub(crate) used: Used,
    pub(crate) cycles: u64,
    pub(crate) heap: HeapEvents,
    pub(crate) lost: Since,
    /// When the measured part began.
    since: Instant,
    /// Bytes allocated before it began, and when it ended.
    allocated: (u64, u64),
    pub(crate) used_by: Threads,
}

impl Closed {
    /// Of a process of its own, whose threads stood still at `stops`.
    pub(crate) fn of_peer(wall: Duration, used: Used, cycles: u64, stops: Vec<Stop>, used_by: Threads) -> Self {
        let (since, lost) = (Instant::now(), Since::default());
        let heap = HeapEvents::of_stops(stops, wall.as_nanos() as u64);
        Self { wall, used, cycles, heap, lost, since, allocated: (0, 0), used_by }
    }
}

impl<'a> Bench<'a> {
    /// Of a heap with that barrier, in which so many mutators are to work as fast as they can.
    pub(crate) fn new(heap: &'a Heap, barrier: Collector, threads: u64, document: &'a [u8], gauge: &'a Gauge) -> Self {
        let roster = Roster::new("parallax-gc");
        let clock_ns = clock::heap_pair_ns();
        Self { heap, barrier, threads, rate: 0, document, window: Mutex::new(None), gauge, roster, clock_ns }
    }

    /// The calling thread is a mutator of the run, until the result is dropped: what it used of the
    /// machine in the measured part counts as the mutators'.
    pub(crate) fn attend(&self) -> Attendance<'_> {
        self.roster.attend()
    }

    /// Each mutator is to do so many operations a second; 0: as many as it can.
    pub(crate) fn at_rate(self, rate: u64) -> Self {
        Self { rate, ..self }
    }

    /// The samples of one mutator. It touches memory: before the measured part.
    pub(crate) fn track(&self) -> Track {
        Track::new(self.threads, self.rate)
    }

    /// The samples of a mutator whose work has no rate and is no stream of operations.
    pub(crate) fn track_beside(&self) -> Track {
        Track::new(self.threads, 0).unmetered()
    }

    /// Begins a mutator's samples, in the measured part.
    pub(crate) fn start(&self, track: &mut Track, m: &Mutator<'_>) {
        let since = self.window.lock().expect("no holder panics").as_ref().map(|window| window.usage.since());
        track.start(m, since.expect("the measured part has begun"));
    }

    /// Begins the measured part: times, samples and events from now on count. Called once per run.
    pub(crate) fn begin(&self) {
        self.gauge.set_phase(MEASURED);
        let mut window = self.window.lock().expect("no holder panics");
        assert!(window.is_none(), "the measured part begins once");
        let before = Snapshot::of(self.heap);
        self.roster.begin();
        drop(self.heap.take_events());
        let usage = Usage::start();
        let since = usage.since();
        let from_ns = self.heap.now_ns().saturating_sub(nanos(since, Instant::now()));
        *window = Some(Window { usage, from_ns, before, closed: None });
        self.gauge.open();
    }

    /// Ends it. Once a run, after [`begin`](Self::begin).
    pub(crate) fn end(&self) {
        let now = Instant::now();
        let mut window = self.window.lock().expect("no holder panics");
        let window = window.as_mut().expect("the measured part has begun");
        let wall = now - window.usage.since();
        let used = window.usage.end();
        let used_by = self.roster.end();
        let (events, lost) = self.heap.take_events();
        let after = Snapshot::of(self.heap);
        self.gauge.set_phase(FINISHING);
        let to_ns = window.from_ns + wall.as_nanos() as u64;
        let heap = HeapEvents::of(&events, lost, window.from_ns, to_ns);
        let cycles = after.stats().cycles - window.before.stats().cycles;
        let mutators_ns = wall.as_nanos() as f64 * self.threads as f64;
        let lost = after.since(&window.before, self.barrier, mutators_ns, self.clock_ns);
        let allocated = (window.before.stats().allocated_bytes, after.stats().allocated_bytes);
        let since = window.usage.since();
        window.closed = Some(Closed { wall, used, cycles, heap, lost, since, allocated, used_by });
    }

    /// Says how much of the current part is done, from 0 to 1. Costs a store.
    pub(crate) fn progress(&self, done: f64) {
        self.gauge.done.store((done * 1000.0) as u64, Ordering::Relaxed);
    }

    pub(crate) fn warming_up(&self) {
        self.gauge.set_phase(WARM_UP);
    }

    /// What was measured; `None` if the measured part was not begun and ended.
    pub(crate) fn into_closed(self) -> Option<Closed> {
        self.window.into_inner().expect("no holder panics")?.closed
    }
}

/// What the heap reported of a stretch of time.
pub(crate) struct HeapEvents {
    pub(crate) pauses: Samples,
    pub(crate) safepoint: Samples,
    pub(crate) stalls: Samples,
    /// Of these, those in which a thread was slowed down.
    pub(crate) throttled: u64,
    pub(crate) stops: Vec<Stop>,
    /// The mutators that came last to them.
    pub(crate) laggards: Vec<Laggard>,
    pub(crate) phases: Vec<Phase>,
    /// How full the heap was where phases ended.
    pub(crate) fill: Vec<(u64, u64)>,
    /// Events that the heap had no room to keep.
    pub(crate) lost: u64,
    /// When all mutators were stopped.
    stopped: Vec<Interval>,
    /// What mutators lost besides, by kind.
    pub(crate) delays: BTreeMap<String, Vec<Delay>>,
    /// When they waited for a processor; not in `delays` yet.
    preempted: Vec<Delay>,
    /// When each mutator that did waited for memory, or lost time in faults and slow paths.
    own: BTreeMap<u64, Vec<Stretch>>,
    length_ns: u64,
}

impl HeapEvents {
    /// The minimum mutator utilisation.
    pub(crate) fn mmu(&self) -> Vec<Mmu> {
        mmu::of_run(&self.stopped, self.own.values().map(Vec::as_slice), self.length_ns)
    }

    /// Adds the waits for a processor to the delays. Of these the heap knows that they lie between
    /// two slow paths, and their length. A thread without a processor takes no sample: so they lie
    /// in its long samples there, as far as there is room, in the longest first.
    pub(crate) fn place_preemptions(&mut self, tracks: &[Sampled]) {
        for (mutator, from, ns, mut lost_ns) in std::mem::take(&mut self.preempted) {
            let track = tracks.iter().find(|track| track.mutator == mutator);
            let samples = track.into_iter().flat_map(|track| &track.long_samples);
            let inside = samples.map(|&(start, length)| (start.max(from), (start + length).min(from + ns)));
            let mut inside: Vec<Interval> = inside.filter(|(start, end)| start < end).collect();
            inside.sort_by_key(|(start, end)| std::cmp::Reverse(end - start));
            for (start, end) in inside {
                let part_ns = lost_ns.min(end - start);
                lost_ns -= part_ns;
                if part_ns > 0 {
                    self.add_delay(PREEMPTIONS, mutator, (start, end), part_ns as f64 / (end - start) as f64);
                }
            }
            if lost_ns > 0 {
                self.add_delay(PREEMPTIONS, mutator, (from, from + ns), lost_ns as f64 / ns as f64);
            }
        }
    }

    /// Adds the time in which a mutator's operations were due and its thread still slept outside
    /// the heap: [`Track::late`].
    pub(crate) fn add_late_wake_ups(&mut self, tracks: &[Track]) {
        for (track, &(due_ns, late_ns)) in tracks.iter().flat_map(|track| track.late().iter().map(move |l| (track, l)))
        {
            self.add_delay(LATE_WAKE_UPS, track.mutator(), (due_ns, due_ns + late_ns), 1.0);
        }
    }

    /// When that mutator was stopped, or lost time of its own.
    pub(crate) fn lost_by(&self, mutator: u64) -> LostTime {
        let stopped = self.stopped.iter().map(|&interval| Stretch::from(interval));
        let own = self.own.get(&mutator).into_iter().flatten().copied();
        LostTime::new(stopped.chain(own), self.length_ns)
    }

    /// Adds time that one mutator lost: `lost_ns` of an interval from the start of the stretch.
    fn add_delay(&mut self, kind: &str, mutator: u64, (from, to): Interval, part: f64) {
        self.own.entry(mutator).or_default().push(Stretch { from, to, share: part });
        let lost_ns = ((to - from) as f64 * part).round() as u64;
        let delay = (mutator, from, to - from, lost_ns);
        match self.delays.get_mut(kind) {
            Some(delays) => delays.push(delay),
            None => drop(self.delays.insert(kind.to_owned(), vec![delay])),
        }
    }

    fn none(length_ns: u64) -> Self {
        Self {
            pauses: Samples::new(),
            safepoint: Samples::new(),
            stalls: Samples::new(),
            throttled: 0,
            stops: Vec::new(),
            laggards: Vec::new(),
            phases: Vec::new(),
            fill: Vec::new(),
            lost: 0,
            stopped: Vec::new(),
            own: BTreeMap::new(),
            delays: BTreeMap::new(),
            preempted: Vec::new(),
            length_ns,
        }
    }

    /// Stops alone, in order.
    fn of_stops(stops: Vec<Stop>, length_ns: u64) -> Self {
        let mut out = Self::none(length_ns);
        for stop in &stops {
            out.pauses.record(stop.duration_ns);
            out.safepoint.record(stop.safepoint_ns);
            out.stopped.push((stop.start_ns, stop.start_ns + stop.duration_ns - stop.before_ns));
        }
        Self { stops, ..out }
    }

    /// Events of a stretch; times from its start. What began before it counts whole (it was taken
    /// out of this stretch); what ends after it does not.
    fn of(events: &[Event], lost: u64, from_ns: u64, to_ns: u64) -> Self {
        let mut out = Self { lost, ..Self::none(to_ns - from_ns) };
        // What began before the stretch is cut there; what ends after it is cut where it is used.
        let interval =
            |start_ns: u64, ns: u64| (start_ns.saturating_sub(from_ns), (start_ns + ns).saturating_sub(from_ns));
        for event in events {
            match event {
                Event::Pause(p) if p.start_ns < to_ns => {
                    out.pauses.record(p.total_ns);
                    out.safepoint.record(p.reach_ns);
                    out.stopped.push(interval(p.start_ns, p.total_ns));
                    laggards::add(&mut out.laggards, p);
                    out.stops.push(Stop {
                        kind: p.kind.to_string(),
                        start_ns: p.start_ns.saturating_sub(from_ns),
                        duration_ns: p.total_ns,
                        safepoint_ns: p.reach_ns,
                        before_ns: from_ns.saturating_sub(p.start_ns),
                    });
                }
                Event::Stall(s) if s.start_ns < to_ns => {
                    out.stalls.record(s.total_ns);
                    out.throttled += u64::from(s.cause == StallCause::Throttled);
                    out.add_delay("stall", s.mutator, interval(s.start_ns, s.total_ns), 1.0);
                }
                Event::Loss(l) if l.start_ns < to_ns && l.total_ns > 0 => {
                    let part = l.lost_ns as f64 / l.total_ns as f64;
                    if l.kind == LossKind::Preemptions {
                        let (from, to) = interval(l.start_ns, l.total_ns);
                        out.preempted.push((l.mutator, from, to - from, l.lost_ns.min(to - from)));
                        continue;
                    }
                    let kind = l.kind.to_string().replace([' ', '-'], "_");
                    out.add_delay(&kind, l.mutator, interval(l.start_ns, l.total_ns), part);
                }
                Event::Phase(p) if p.start_ns < to_ns => {
                    let start_ns = p.start_ns.saturating_sub(from_ns);
                    let end_ns = (p.start_ns + p.total_ns).saturating_sub(from_ns);
                    out.phases.push(Phase {
                        name: format!("{:?}", p.phase).to_lowercase(),
                        start_ns,
                        duration_ns: end_ns - start_ns,
                    });
                    out.fill.push((end_ns, p.used_bytes as u64));
                }
                _ => {}
            }
        }
        out.stops.sort_by_key(|s| s.start_ns);
        out.phases.sort_by_key(|p| p.start_ns);
        out
    }
}

/// The delays that are waits for a processor.
const PREEMPTIONS: &str = "preemptions";
/// And those that are sleeps until a due time that ended after it.
const LATE_WAKE_UPS: &str = "late_wake_ups";

const STARTING: u8 = 0;
const WARM_UP: u8 = 1;
const MEASURED: u8 = 2;
const FINISHING: u8 = 3;

/// The heap as the watcher saw it.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    used: u64,
    committed: u64,
    allocated: u64,
}

/// The shortest measured part whose quarters are compared: a quarter has ten looks then.
const QUARTERED: Duration = Duration::from_secs(1);

/// What was added in each quarter of `length`, by a counter that was read at times (from the start,
/// ascending): between two readings it is taken to have risen evenly.
fn quarters(readings: &[(f64, f64)], length: f64) -> Vec<f64> {
    let at = |time: f64| {
        let after = readings.partition_point(|&(t, _)| t < time).clamp(1, readings.len() - 1);
        let ((t0, v0), (t1, v1)) = (readings[after - 1], readings[after]);
        if t1 > t0 { v0 + (v1 - v0) * (time - t0) / (t1 - t0) } else { v1 }
    };
    (0..4).map(|q| at(length * f64::from(q + 1) / 4.0) - at(length * f64::from(q) / 4.0)).collect()
}

/// Where the run is, read by [`watch`].
pub(crate) struct Gauge {
    seconds: f64,
    phase: AtomicU8,
    /// Of the phase, in thousandths.
    done: AtomicU64,
    /// Start of the measured part.
    start: Mutex<Option<Instant>>,
    stop: AtomicBool,
    samples: Mutex<Vec<Look>>,
}

impl Gauge {
    /// For a run whose measured part lasts so long; 0 where its work is fixed.
    pub(crate) fn new(seconds: f64) -> Self {
        Self {
            seconds,
            phase: AtomicU8::new(STARTING),
            done: AtomicU64::new(0),
            start: Mutex::new(None),
            stop: AtomicBool::new(false),
            samples: Mutex::new(Vec::new()),
        }
    }

    fn set_phase(&self, phase: u8) {
        self.done.store(0, Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// How much of the phase is done, from 0 to 1: of a timed one by the clock, else as far as the
    /// workload said.
    fn done(&self) -> f64 {
        let start = *self.start.lock().expect("no holder panics");
        match start {
            Some(start) if self.seconds > 0.0 => start.elapsed().as_secs_f64() / self.seconds,
            _ => self.done.load(Ordering::Relaxed) as f64 / 1000.0,
        }
    }

    fn open(&self) {
        *self.start.lock().expect("no holder panics") = Some(Instant::now());
    }

    /// Bytes allocated in each quarter of the measured part; empty where it was short.
    pub(crate) fn quarters(&self, closed: &Closed) -> Vec<f64> {
        if closed.wall < QUARTERED {
            return Vec::new();
        }
        let (before, after) = closed.allocated;
        let samples = self.samples.lock().expect("no holder panics");
        let inside = samples.iter().filter(|look| look.at >= closed.since && look.at < closed.since + closed.wall);
        let mut readings = vec![(0.0, before as f64)];
        readings.extend(inside.map(|look| (nanos(closed.since, look.at) as f64, look.allocated as f64)));
        let length = closed.wall.as_nanos() as f64;
        readings.push((length, after as f64));
        quarters(&readings, length)
    }

    /// How full the heap was over the measured part of length `wall`: the watcher's samples and
    /// where phases ended.
    pub(crate) fn occupancy(&self, closed: &Closed) -> Vec<Occupancy> {
        let Some(start) = *self.start.lock().expect("no holder panics") else { return Vec::new() };
        let wall = closed.wall.as_nanos() as u64;
        let samples = self.samples.lock().expect("no holder panics");
        let mut out: Vec<Occupancy> = samples
            .iter()
            .filter(|look| look.at >= start)
            .map(|look| Occupancy {
                at_ns: nanos(start, look.at),
                used_bytes: look.used,
                committed_bytes: look.committed,
            })
            .collect();
        // Between two samples a cycle may have begun and ended: its own reports draw the teeth of
        // the saw.
        let committed = out.last().map_or(0, |o| o.committed_bytes);
        out.extend(closed.heap.fill.iter().map(|&(at_ns, used_bytes)| Occupancy {
            at_ns,
            used_bytes,
            committed_bytes: 0,
        }));
        out.retain(|o| o.at_ns <= wall);
        out.sort_by_key(|o| o.at_ns);
        let mut last = out.iter().map(|o| o.committed_bytes).find(|&c| c > 0).unwrap_or(committed);
        for o in &mut out {
            if o.committed_bytes == 0 {
                o.committed_bytes = last;
            }
            last = o.committed_bytes;
        }
        out
    }
}

/// How often the watcher looks. Each look takes some microseconds of a processor.
const LOOK: Duration = Duration::from_millis(25);
/// Looks kept of one run: of a longer one every second is dropped, and fewer are made.
const MAX_LOOKS: usize = 2000;

/// Samples the heap while a workload runs, and reports progress to the parent.
pub(crate) fn watch(heap: &Heap, gauge: &Gauge, mut report: Option<impl FnMut(&str, f64)>) {
    let (mut looks, mut every) = (0u32, 1);
    while !gauge.stop.load(Ordering::Acquire) {
        let phase = gauge.phase.load(Ordering::Relaxed);
        if phase == MEASURED && looks.is_multiple_of(every) {
            let stats = heap.stats();
            let sample = Look {
                at: Instant::now(),
                used: stats.used_bytes as u64,
                committed: stats.committed_bytes as u64,
                allocated: stats.allocated_bytes,
            };
            let mut samples = gauge.samples.lock().expect("no holder panics");
            samples.push(sample);
            if samples.len() == MAX_LOOKS {
                let mut at = 0;
                samples.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                every *= 2;
            }
        }
        if looks.is_multiple_of(8)
            && let Some(report) = &mut report
        {
            let done = gauge.done();
            // Of a whole run, by the usual share of its parts.
            let (name, of_run) = match phase {
                STARTING => ("filling", 0.1 * done),
                WARM_UP => ("warm-up", 0.1 + 0.2 * done),
                MEASURED => ("measuring", 0.3 + 0.7 * done),
                _ => ("summing up", 1.0),
            };
            report(name, of_run);
        }
        looks += 1;
        thread::park_timeout(LOOK);
    }
}

/// Ends [`watch`] when it goes.
pub(crate) struct StopWatching<'a> {
    pub(crate) gauge: &'a Gauge,
    pub(crate) watcher: Thread,
}

impl Drop for StopWatching<'_> {
    fn drop(&mut self) {
        self.gauge.stop.store(true, Ordering::Release);
        self.watcher.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gc_heap::PauseKind;
    use gc_heap::{Loss, Pause, Stall};

    const MS: u64 = 1_000_000;

    #[test]
    fn quarters_are_read_between_looks() {
        // Even, then twice as fast from half of the time on; a look in the middle of a quarter.
        let readings = [(0.0, 100.0), (30.0, 130.0), (50.0, 150.0), (60.0, 170.0), (100.0, 250.0)];
        assert_eq!(quarters(&readings, 100.0), [25.0, 25.0, 50.0, 50.0]);
        assert_eq!(quarters(&[(0.0, 0.0), (8.0, 4.0)], 8.0), [1.0; 4]);
    }

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
        let events =
            [pause(97, 5), pause(159, 10), pause(170, 1), stall(120, 3, 7), stall(120, 4, 9), stall(126, 1, 7)];
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
        let preempted = |start_ms: u64, ms: u64, lost_ms: u64, mutator: u64| {
            let (start_ns, total_ns, lost_ns) = (start_ms * MS, ms * MS, lost_ms * MS);
            let kind = LossKind::Preemptions;
            Event::Loss(Loss { kind, start_ns, total_ns, lost_ns, kernel_ns: 0, count: 1, mutator })
        };
        let events = [preempted(10, 10, 5, 1), preempted(30, 10, 6, 1), preempted(10, 10, 4, 2)];
        let mut found = HeapEvents::of(&events, 0, 0, 60 * MS);
        let long = |mutator: u64, samples: &[(u64, u64)]| {
            let long_samples = samples.iter().map(|&(start, ms)| (start * MS, ms * MS)).collect();
            Sampled { mutator, long_samples, ..Sampled::default() }
        };
        // Of the first all in the longer sample; of the second as much as fits two, of which one
        // reaches out, and the rest anywhere; of the third, whose mutator has no long sample there,
        // all.
        found.place_preemptions(&[long(1, &[(11, 1), (13, 5), (28, 4), (35, 2)]), long(2, &[(25, 9)])]);
        let expected = [
            (1, 13 * MS, 5 * MS, 5 * MS),
            (1, 30 * MS, 2 * MS, 2 * MS),
            (1, 35 * MS, 2 * MS, 2 * MS),
            (1, 30 * MS, 10 * MS, 2 * MS),
            (2, 10 * MS, 10 * MS, 4 * MS),
        ];
        assert_eq!(found.delays["preemptions"], expected);
        let lost = found.lost_by(1);
        assert_eq!((lost.between(13 * MS, 18 * MS), lost.between(11 * MS, 12 * MS)), (5e6, 0.0));
    }

    /// What a mutator slept beyond its due time is its loss, where it was longer than other sleeps.
    #[test]
    fn a_sleep_beyond_a_due_time_is_in_the_account() {
        let heap = gc_heap::Heap::builder().max_bytes(8 << 20).build().unwrap();
        heap.enter(|m| {
            let mut track = Track::new(1, 1_000);
            track.start(m, Instant::now());
            let unmetered = Track::new(1, 0);
            for (due_ms, woke_ns) in [(3, 3 * MS - 40_000), (4, 4 * MS + 99_999), (5, 7 * MS)] {
                track.woke(due_ms * MS, woke_ns);
            }
            let mut found = HeapEvents::of(&[], 0, 0, 60 * MS);
            found.add_late_wake_ups(&[track, unmetered]);
            assert_eq!(found.delays["late_wake_ups"], [(m.number(), 5 * MS, 2 * MS, 2 * MS)]);
            assert_eq!(found.lost_by(m.number()).between(4 * MS, 6 * MS), 1e6);
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
        let stall = Event::Stall(Stall {
            cause: StallCause::NoBlock,
            start_ns: 52 * MS,
            total_ns: 200_000,
            bytes: 64,
            mutator: 2,
        });
        // Of mutator 1: half of 100 us, five times in a row behind a pause, and one that began
        // before the stretch.
        let mut events =
            vec![pause, stall, fault(39_950, 100, 50, 1), fault(80_000, 100, 100, 1), fault(61_000, 9, 9, 1)];
        events.extend((0..5).map(|n| fault(50_100 + 100 * n, 100, 50, 1)));
        events.push(fault(52_200, 50, 30, 2));
        let found = HeapEvents::of(&events, 0, 40 * MS, 60 * MS);
        assert_eq!((found.stalls.summary().count, found.pauses.summary().count), (1, 1), "losses are neither");
        let at = |ms: u64| found.mmu().iter().find(|mmu| mmu.window_ms == ms).map(|mmu| mmu.share);
        // In 1 ms the pause and 250 us of mutator 1; in 5 ms that is 350 us, and the other's 100 +
        // 200 + 30 us are less.
        let near =
            |found: Option<f64>, share: f64| assert!((found.unwrap() - share).abs() < 1e-9, "{found:?}, {share}");
        near(at(1), 0.65);
        near(at(5), 1.0 - 0.35 / 5.0);
        near(at(20), 1.0 - 0.375 / 20.0);
    }
}
