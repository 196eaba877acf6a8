//! What the heap reports of itself: as it happens, and summed up at the end.

use crate::report::say;
use gc_heap::{Event, Heap, HeapBuilder};
use gc_heap_tools::GcLog;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};

/// Longer ones count as that long, but for the sum and the longest.
const HOUR_NS: u64 = 3_600_000_000_000;

/// Durations of one sort of event, summed up.
struct Sum {
    total_ns: u64,
    longest_ns: u64,
    all_ns: Histogram<u64>,
}

impl Sum {
    fn new() -> Sum {
        let all_ns = Histogram::new_with_bounds(1, HOUR_NS, 2).expect("these bounds are allowed");
        Sum { total_ns: 0, longest_ns: 0, all_ns }
    }

    fn add(&mut self, ns: u64) {
        self.total_ns += ns;
        self.longest_ns = self.longest_ns.max(ns);
        self.all_ns.saturating_record(ns);
    }

    fn line(&self, what: &str) -> String {
        let micros = |ns: u64| ns as f64 / 1e3;
        format!(
            "{what}: {}, together {:.1} us, p99 {:.1} us, longest {:.1} us",
            self.all_ns.len(),
            micros(self.total_ns),
            micros(self.all_ns.value_at_quantile(0.99).min(self.longest_ns)),
            micros(self.longest_ns)
        )
    }
}

struct Sums {
    pauses: Sum,
    stalls: Sum,
}

impl Sums {
    fn add(&mut self, event: &Event) {
        match event {
            Event::Pause(pause) => self.pauses.add(pause.total_ns),
            Event::Stall(stall) => self.stalls.add(stall.total_ns),
            _ => {}
        }
    }
}

/// Lines that wait for standard error to take them. More are left out.
const WAITING: usize = 4096;

/// What the writer of the log is given.
enum Entry {
    /// With the number of those that were left out before it.
    Line(u64, String),
    /// To be dropped when all before it is written.
    End(#[expect(dead_code, reason = "its drop is the signal")] Sender<()>),
}

/// Writes lines on a thread of its own: a listener runs where events happen, so the collector, and
/// with it every mutator, would wait until the reader of standard error reads.
struct LogWriter {
    entries: SyncSender<Entry>,
    left_out: AtomicU64,
}

/// The writer, where there is a log.
static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// Waits until the log is written: before the process ends. Outside the heap.
pub(crate) fn end_log() {
    if let Some(writer) = WRITER.get() {
        writer.end();
    }
}

impl LogWriter {
    fn start() -> std::io::Result<LogWriter> {
        let (entries, waiting) = sync_channel(WAITING);
        std::thread::Builder::new().name("lox-gc-log".to_owned()).spawn(move || Self::write(&waiting))?;
        Ok(LogWriter { entries, left_out: AtomicU64::new(0) })
    }

    fn write(waiting: &Receiver<Entry>) {
        for entry in waiting {
            if let Entry::Line(left_out, line) = entry {
                if left_out != 0 {
                    say(&format!("[gc] {left_out} lines are left out here: standard error took them too slowly"));
                }
                say(&line);
            }
        }
    }

    fn line(&self, line: String) {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if self.entries.try_send(Entry::Line(left_out, line)).is_err() {
            self.left_out.fetch_add(left_out + 1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines are written.
    fn end(&self) {
        let (end, ended) = channel();
        // Fails, both, where the writer has ended: then there is nothing to wait for.
        let _ = self.entries.send(Entry::End(end));
        let _ = ended.recv();
    }
}

/// Follows a heap's events.
pub(crate) struct Follower(Arc<Mutex<Sums>>);

impl Follower {
    /// Follows the heap that the builder will build. `print`: a line for each event on standard
    /// error.
    pub(crate) fn follow(builder: HeapBuilder, print: bool) -> std::io::Result<(HeapBuilder, Follower)> {
        let sums = Arc::new(Mutex::new(Sums { pauses: Sum::new(), stalls: Sum::new() }));
        let log = print.then(LogWriter::start).transpose()?.map(|writer| WRITER.get_or_init(|| writer));
        let follower = Follower(Arc::clone(&sums));
        let lines = GcLog::new();
        let builder = builder.on_event(move |event| {
            sums.lock().add(event);
            if let Some(log) = log
                && let Some(line) = lines.line(event)
            {
                log.line(line);
            }
        });
        Ok((builder, follower))
    }

    /// Reports the sums. Outside the heap.
    pub(crate) fn report(&self, heap: &Heap) {
        let sums = self.0.lock();
        let stats = heap.stats();
        say(&sums.pauses.line("pauses"));
        say(&sums.stalls.line("stalls"));
        say(&format!(
            "cycles: {}, of which relocated: {}; compactions in a stop: {}",
            stats.cycles, stats.relocations, stats.compactions
        ));
        say(&format!(
            "memory: {} KiB allocated, {} KiB live at the last marking, at most {} KiB of {} KiB held",
            stats.allocated_bytes >> 10,
            stats.live_bytes >> 10,
            stats.committed_peak_bytes >> 10,
            stats.max_bytes >> 10
        ));
    }
}
