//! The measured part of a run: where it begins and ends, and what the heap did in it.

mod by_hand;
mod gauge;
mod heap_events;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use gc_heap::{Heap, Mutator};

pub(crate) use self::by_hand::ByHand;
use self::gauge::{FINISHING, MEASURED, WARM_UP};
pub(crate) use self::gauge::{Gauge, StopWatching, watch};
pub(crate) use self::heap_events::HeapEvents;
use crate::clock;
use crate::collector::Collector;
use crate::lost::{Since, Snapshot};
use crate::process::{Usage, Used};
use crate::recorder::nanos;
use crate::threads::{Attendance, Roster, Threads};
use crate::timeline::Stop;
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
    /// What the heap uncommitted.
    pub(crate) uncommitted_bytes: u64,
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
        Self { wall, used, cycles, uncommitted_bytes: 0, heap, lost, since, allocated: (0, 0), used_by }
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
        let attendance = self.attend_beside();
        if self.rate > 0 {
            // Where the kernel does not allow it, the report says that nobody has watched.
            let _ = self.gauge.watches.add_this_thread();
        }
        attendance
    }

    /// As [`attend`](Self::attend), of a thread whose work has no rate.
    pub(crate) fn attend_beside(&self) -> Attendance<'_> {
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
        self.gauge.watches.measure_this_thread(track.mutator(), track.base_ns());
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
        let uncommitted_bytes = after.stats().uncommitted_bytes - window.before.stats().uncommitted_bytes;
        let mutators_ns = wall.as_nanos() as f64 * self.threads as f64;
        let lost = after.since(&window.before, self.barrier, mutators_ns, self.clock_ns);
        let allocated = (window.before.stats().allocated_bytes, after.stats().allocated_bytes);
        let since = window.usage.since();
        window.closed = Some(Closed { wall, used, cycles, uncommitted_bytes, heap, lost, since, allocated, used_by });
    }

    /// Says how much of the current part is done, from 0 to 1. Costs a store.
    pub(crate) fn progress(&self, done: f64) {
        self.gauge.set_done(done);
    }

    pub(crate) fn warming_up(&self) {
        self.gauge.set_phase(WARM_UP);
    }

    /// What was measured; `None` if the measured part was not begun and ended.
    pub(crate) fn into_closed(self) -> Option<Closed> {
        self.window.into_inner().expect("no holder panics")?.closed
    }
}
