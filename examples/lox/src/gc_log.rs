//! What the heap reports of itself: as it happens, and summed up at the end.

use crate::report::say;
use gc_heap::{Event, GcLog, Heap, HeapBuilder};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::sync::Arc;

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

/// Follows a heap's events.
pub(crate) struct Follower(Arc<Mutex<Sums>>);

impl Follower {
    /// Follows the heap that the builder will build. `print`: a line for each event on standard error.
    pub(crate) fn follow(builder: HeapBuilder, print: bool) -> (HeapBuilder, Follower) {
        let sums = Arc::new(Mutex::new(Sums { pauses: Sum::new(), stalls: Sum::new() }));
        let log = GcLog::new();
        let listener_sums = Arc::clone(&sums);
        let builder = builder.on_event(move |event| {
            listener_sums.lock().add(event);
            if print && let Some(line) = log.line(event) {
                say(&line);
            }
        });
        (builder, Follower(sums))
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
