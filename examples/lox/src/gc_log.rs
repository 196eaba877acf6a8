//! What the heap reports of itself: as it happens, and summed up at the end.

use gc_heap::{Event, GcLog, Heap, HeapBuilder};
use parking_lot::Mutex;
use std::sync::Arc;

#[derive(Default)]
struct Sums {
    pauses: u64,
    paused_ns: u64,
    longest_pause_ns: u64,
    stalls: u64,
    stalled_ns: u64,
    longest_stall_ns: u64,
}

impl Sums {
    fn add(&mut self, event: &Event) {
        match event {
            Event::Pause(pause) => {
                self.pauses += 1;
                self.paused_ns += pause.total_ns;
                self.longest_pause_ns = self.longest_pause_ns.max(pause.total_ns);
            }
            Event::Stall(stall) => {
                self.stalls += 1;
                self.stalled_ns += stall.total_ns;
                self.longest_stall_ns = self.longest_stall_ns.max(stall.total_ns);
            }
            _ => {}
        }
    }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// Follows a heap's events.
pub(crate) struct Follower(Arc<Mutex<Sums>>);

impl Follower {
    /// Follows the heap that the builder will build. `print`: a line for each event on standard error.
    pub(crate) fn follow(builder: HeapBuilder, print: bool) -> (HeapBuilder, Follower) {
        let (sums, log) = (Arc::<Mutex<Sums>>::default(), GcLog::new());
        let listener_sums = Arc::clone(&sums);
        let builder = builder.on_event(move |event| {
            listener_sums.lock().add(event);
            if print && let Some(line) = log.line(event) {
                eprintln!("{line}");
            }
        });
        (builder, Follower(sums))
    }

    /// Reports the sums. Outside the heap.
    pub(crate) fn report(&self, heap: &Heap) {
        let sums = self.0.lock();
        let stats = heap.stats();
        eprintln!(
            "pauses: {}, together {:.1} µs, longest {:.1} µs",
            sums.pauses,
            micros(sums.paused_ns),
            micros(sums.longest_pause_ns)
        );
        eprintln!(
            "stalls: {}, together {:.1} µs, longest {:.1} µs",
            sums.stalls,
            micros(sums.stalled_ns),
            micros(sums.longest_stall_ns)
        );
        eprintln!(
            "cycles: {}, of which relocated: {}; compactions in a stop: {}",
            stats.cycles, stats.relocations, stats.compactions
        );
        eprintln!(
            "memory: {} KiB allocated, {} KiB live at the last marking, at most {} KiB of {} KiB held",
            stats.allocated_bytes >> 10,
            stats.live_bytes >> 10,
            stats.committed_peak_bytes >> 10,
            stats.max_bytes >> 10
        );
    }
}
