//! Events as a trace for Perfetto.

use crate::json::escaped;
use gc_heap::{CycleKind, Event};
use std::collections::HashSet;
use std::io::{self, Write};

/// Tracks. Those of mutators follow, two to each number. None is 1, the number of the process:
/// Perfetto calls that track the main thread.
const COLLECTOR: u64 = 2;
const STOPS: u64 = 3;
const MUTATORS: u64 = 100;

/// Writes events in the JSON format of Chrome's trace viewer, which <https://ui.perfetto.dev>
/// opens.
///
/// On one track are the collector thread's cycles with their phases; on another the stops, each
/// with the time that it took to reach all mutators; each mutator that waited for memory has a
/// track of its waits, and one that lost time otherwise a track of that, by cause, where close ones
/// are one slice that says how many they were and how much of it was lost. Counters are the bytes
/// in use and those found live. A mutator that comes to no safepoint is a mark on the stops' track.
/// Times are those of the events, to the nanosecond. Events may be added in any order.
///
/// A trace that was never [`finish`](Self::finish)ed lacks its last bracket; viewers open it all
/// the same.
///
/// ```
/// use gc_heap::Heap;
/// use gc_heap_tools::EventTrace;
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.collect();
/// let mut trace = EventTrace::new(Vec::new(), "a program")?; // any `io::Write`
/// let (events, _) = heap.take_events();
/// events.iter().try_for_each(|event| trace.add(event))?;
/// let json = String::from_utf8(trace.finish()?)?;
/// assert!(json.contains(r#""name":"mark start""#) && json.ends_with("]\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A program that runs for long writes as it goes: `examples/src/trace.rs`.
#[derive(Debug)]
pub struct EventTrace<W: Write> {
    to: W,
    any: bool,
    /// Tracks of mutators that have a name.
    named: HashSet<u64>,
}

impl<W: Write> EventTrace<W> {
    /// Begins a trace. `name` is shown for the heap.
    ///
    /// # Errors
    /// Of the writer.
    pub fn new(to: W, name: &str) -> io::Result<EventTrace<W>> {
        let mut trace = EventTrace { to, any: false, named: HashSet::new() };
        trace.metadata("process_name", COLLECTOR, &escaped(name))?;
        trace.track(COLLECTOR, "collector")?;
        trace.track(STOPS, "stops")?;
        Ok(trace)
    }

    /// Adds an event.
    ///
    /// # Errors
    /// Of the writer. The trace is then spoiled.
    pub fn add(&mut self, event: &Event) -> io::Result<()> {
        let (start, ns) = (event.start_ns(), event.end_ns() - event.start_ns());
        match event {
            Event::Pause(pause) => {
                let last =
                    pause.last.map_or(String::new(), |last| format!(r#","last":"{}""#, escaped(&last.to_string())));
                let off = pause.last_off_ns.map_or(String::new(), |off| format!(r#","last_off_ns":{off}"#));
                let args = format!(r#"{{"reach_ns":{}{last}{off}}}"#, pause.reach_ns);
                self.slice(STOPS, &pause.kind.to_string(), start, ns, &args)?;
                self.slice(STOPS, "reach", start, pause.reach_ns.min(ns), "{}")
            }
            Event::Late(late) => {
                // The stop itself comes later, and is longer than this. So it is a mark on the
                // track.
                let (at, who) = (Micros(start + ns), escaped(&late.who.to_string()));
                let ran = late.ran_ns.map_or(String::new(), |ran| format!(r#","ran_ns":{ran}"#));
                let (state, watched) = (late.state, late.watched_ns);
                let args =
                    format!(r#"{{"waited_ns":{ns},"who":"{who}","state":"{state}","watched_ns":{watched}{ran}}}"#);
                self.entry(&format!(r#""ph":"i","s":"t","pid":1,"tid":{STOPS},"name":"late","ts":{at},"args":{args}"#))
            }
            Event::Loss(loss) => {
                // A track of its own: what is merged may reach over an end of a stall.
                let track = self.mutator(loss.mutator, true)?;
                let kernel = match loss.kernel_ns {
                    0 => String::new(),
                    ns => format!(r#","kernel_ns":{ns}"#),
                };
                let args = format!(r#"{{"count":{},"lost_ns":{}{kernel}}}"#, loss.count, loss.lost_ns);
                self.slice(track, &loss.kind.to_string(), start, ns, &args)
            }
            Event::Stall(stall) => {
                let track = self.mutator(stall.mutator, false)?;
                self.slice(
                    track,
                    "stall",
                    start,
                    ns,
                    &format!(r#"{{"bytes":{},"cause":"{}"}}"#, stall.bytes, stall.cause),
                )
            }
            Event::Phase(span) => {
                let args = format!(r#"{{"cycle":{},"used_bytes":{}}}"#, span.cycle, span.used_bytes);
                self.slice(COLLECTOR, &span.phase.to_string(), start, ns, &args)?;
                self.counter("used", start + ns, span.used_bytes as u64)
            }
            Event::Cycle(cycle) => {
                let args = format!(
                    r#"{{"pages_repaired":{},"pages_repaired_by_mutators":{},"faults":{},"slow_paths":{}}}"#,
                    cycle.pages_repaired, cycle.pages_repaired_by_mutators, cycle.faults, cycle.slow_paths
                );
                let kind = if cycle.kind == CycleKind::Young { "young " } else { "" };
                self.slice(COLLECTOR, &format!("{kind}cycle {}", cycle.cycle), start, ns, &args)?;
                self.counter("used", start, cycle.used_before_bytes as u64)?;
                self.counter("used", start + ns, cycle.used_bytes as u64)?;
                self.counter("live", start + ns, cycle.live_bytes)
            }
            // One that a later gc-heap has.
            _ => Ok(()),
        }
    }

    /// Ends the trace, and flushes the writer.
    ///
    /// # Errors
    /// Of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.write_all(b"\n]\n")?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn slice(&mut self, track: u64, name: &str, start_ns: u64, ns: u64, args: &str) -> io::Result<()> {
        let (start, duration) = (Micros(start_ns), Micros(ns));
        self.entry(&format!(
            r#""ph":"X","pid":1,"tid":{track},"name":"{name}","ts":{start},"dur":{duration},"args":{args}"#
        ))
    }

    /// Perfetto calls the track by the counter's name and the value's, "used bytes".
    fn counter(&mut self, name: &str, ns: u64, bytes: u64) -> io::Result<()> {
        let at = Micros(ns);
        self.entry(&format!(r#""ph":"C","pid":1,"name":"{name}","ts":{at},"args":{{"bytes":{bytes}}}"#))
    }

    /// A mutator's track, of its waits or of its losses.
    fn mutator(&mut self, number: u64, losses: bool) -> io::Result<u64> {
        let track = MUTATORS + 2 * number + u64::from(losses);
        if self.named.insert(track) {
            let of = if losses { ": losses" } else { "" };
            self.track(track, &format!("mutator {number}{of}"))?;
        }
        Ok(track)
    }

    /// Names a track; they are shown in the order of their numbers.
    fn track(&mut self, track: u64, name: &str) -> io::Result<()> {
        self.metadata("thread_name", track, name)?;
        self.entry(&format!(
            r#""ph":"M","pid":1,"tid":{track},"name":"thread_sort_index","args":{{"sort_index":{track}}}"#
        ))
    }

    fn metadata(&mut self, what: &str, track: u64, name: &str) -> io::Result<()> {
        self.entry(&format!(r#""ph":"M","pid":1,"tid":{track},"name":"{what}","args":{{"name":"{name}"}}"#))
    }

    fn entry(&mut self, fields: &str) -> io::Result<()> {
        let before = if std::mem::replace(&mut self.any, true) { ",\n" } else { "[\n" };
        write!(self.to, "{before}{{{fields}}}")
    }
}

/// Nanoseconds, written as microseconds without rounding: slices that nest keep nesting.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
