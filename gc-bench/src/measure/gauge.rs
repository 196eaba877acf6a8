//! Where a run is, and how full its heap: read by a thread that looks now and then.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use gc_heap::Heap;

use super::Closed;
use crate::recorder::nanos;
use crate::standstill::{Seen, Watches};
use crate::timeline::Occupancy;

/// The parts of a run.
pub(super) const STARTING: u8 = 0;
pub(super) const WARM_UP: u8 = 1;
pub(super) const MEASURED: u8 = 2;
pub(super) const FINISHING: u8 = 3;

/// The heap as the watcher saw it.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    used: u64,
    committed: u64,
    resident: Option<u64>,
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
    pub(super) watches: Watches,
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
            watches: Watches::default(),
        }
    }

    /// Says how much of the phase is done, from 0 to 1.
    pub(super) fn set_done(&self, done: f64) {
        self.done.store((done * 1000.0) as u64, Ordering::Relaxed);
    }

    pub(super) fn set_phase(&self, phase: u8) {
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

    pub(super) fn open(&self) {
        *self.start.lock().expect("no holder panics") = Some(Instant::now());
    }

    /// Memory in which the bench keeps what was seen of the mutators.
    pub(crate) fn watch_bytes(&self) -> u64 {
        self.watches.bytes()
    }

    /// What was seen of the mutators in the measured part; `None` where none was watched.
    pub(crate) fn seen(&self, closed: &Closed) -> Option<Seen> {
        self.watches.seen(closed.wall.as_nanos() as u64)
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
                resident_bytes: look.resident,
            })
            .collect();
        out.retain(|o| o.at_ns <= wall);
        with_teeth(out, closed.heap.fill.iter().copied().filter(|&(at_ns, _)| at_ns <= wall))
    }
}

/// The watcher's looks with what was in use where phases ended: between two looks a cycle may have
/// begun and ended, and its own reports draw the teeth of the saw. They do not say what was
/// committed and resident: that is as at the look before, and at the first one before that.
fn with_teeth(mut looks: Vec<Occupancy>, teeth: impl Iterator<Item = (u64, u64)>) -> Vec<Occupancy> {
    looks.sort_by_key(|look| look.at_ns);
    let first = looks.first().copied();
    let teeth = teeth.map(|(at_ns, used_bytes)| {
        let after = looks.partition_point(|look| look.at_ns <= at_ns);
        let look = after.checked_sub(1).map(|at| looks[at]).or(first);
        let (committed_bytes, resident_bytes) =
            look.map_or((0, None), |look| (look.committed_bytes, look.resident_bytes));
        Occupancy { at_ns, used_bytes, committed_bytes, resident_bytes }
    });
    let mut out: Vec<Occupancy> = teeth.collect();
    out.append(&mut looks);
    out.sort_by_key(|o| o.at_ns);
    out
}

/// How often the watcher looks. Each look takes some microseconds of a processor.
const LOOK: Duration = Duration::from_millis(25);
/// Looks kept of one run: of a longer one every second is dropped, and fewer are made.
const MAX_LOOKS: usize = 2000;

/// Samples the heap while a workload runs, and reports progress to the parent. The system is asked
/// how much of the heap is `resident` where that takes some microseconds.
pub(crate) fn watch(heap: &Heap, gauge: &Gauge, resident: bool, mut report: Option<impl FnMut(&str, f64)>) {
    let (mut looks, mut every) = (0u32, 1);
    while !gauge.stop.load(Ordering::Acquire) {
        let phase = gauge.phase.load(Ordering::Relaxed);
        if phase == MEASURED && looks.is_multiple_of(every) {
            let stats = heap.stats();
            let sample = Look {
                at: Instant::now(),
                used: stats.used_bytes as u64,
                committed: stats.committed_bytes as u64,
                resident: if resident { heap.resident_bytes().ok().map(|bytes| bytes as u64) } else { None },
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
        gauge.watches.drain();
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

    #[test]
    fn quarters_are_read_between_looks() {
        // Even, then twice as fast from half of the time on; a look in the middle of a quarter.
        let readings = [(0.0, 100.0), (30.0, 130.0), (50.0, 150.0), (60.0, 170.0), (100.0, 250.0)];
        assert_eq!(quarters(&readings, 100.0), [25.0, 25.0, 50.0, 50.0]);
        assert_eq!(quarters(&[(0.0, 0.0), (8.0, 4.0)], 8.0), [1.0; 4]);
    }

    #[test]
    fn a_tooth_has_the_memory_of_the_look_before() {
        let of = |at_ns, used_bytes, committed_bytes, resident_bytes| Occupancy {
            at_ns,
            used_bytes,
            committed_bytes,
            resident_bytes,
        };
        let looks = vec![of(10, 1, 100, Some(90)), of(20, 2, 200, Some(190))];
        let found = with_teeth(looks.clone(), [(5, 7), (15, 8), (30, 9)].into_iter());
        let expected =
            [of(5, 7, 100, Some(90)), looks[0], of(15, 8, 100, Some(90)), looks[1], of(30, 9, 200, Some(190))];
        assert_eq!(found, expected);
        assert_eq!(with_teeth(Vec::new(), [(5, 7)].into_iter()), [of(5, 7, 0, None)]);
    }
}
