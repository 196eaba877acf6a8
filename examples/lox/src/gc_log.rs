//! What the heap reports of itself: as it happens, and summed up at the end.

use gc_heap::{Event, Heap};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the heap's record is emptied.
const TICK: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Sums {
    pauses: u64,
    paused_ns: u64,
    longest_pause_ns: u64,
    stalls: u64,
    stalled_ns: u64,
    longest_stall_ns: u64,
    lost: u64,
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

fn log(event: &Event) {
    match event {
        Event::Pause(pause) => eprintln!(
            "[gc {:10.3} ms] pause {:?}: {:.1} µs, reached in {:.1} µs",
            pause.start_ns as f64 / 1e6,
            pause.kind,
            micros(pause.total_ns),
            micros(pause.reach_ns)
        ),
        Event::Stall(stall) => eprintln!(
            "[gc {:10.3} ms] stall: {:.1} µs for {} bytes",
            stall.start_ns as f64 / 1e6,
            micros(stall.total_ns),
            stall.bytes
        ),
        Event::Phase(span) => eprintln!(
            "[gc {:10.3} ms] cycle {}: {:?} {:.1} µs, {} KiB in use",
            span.start_ns as f64 / 1e6,
            span.cycle,
            span.phase,
            micros(span.total_ns),
            span.used_bytes >> 10
        ),
        _ => {}
    }
}

/// Follows a heap's events on a thread of its own.
pub(crate) struct GcLog {
    ended: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<Sums>,
    heap: Heap,
}

impl GcLog {
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn start(heap: &Heap, print: bool) -> std::io::Result<GcLog> {
        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let (for_thread, heap_of_thread) = (Arc::clone(&ended), heap.clone());
        let thread = std::thread::Builder::new()
            .name("gc-log".into())
            .spawn(move || follow(&heap_of_thread, &for_thread, print))?;
        Ok(GcLog { ended, thread, heap: heap.clone() })
    }

    /// Ends the following; with `summary`, reports the sums.
    pub(crate) fn finish(self, summary: bool) {
        *self.ended.0.lock() = true;
        self.ended.1.notify_all();
        let Ok(sums) = self.thread.join() else { return };
        if !summary {
            return;
        }
        let stats = self.heap.stats();
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
        if sums.lost > 0 {
            eprintln!("{} events did not fit the record", sums.lost);
        }
    }
}

fn follow(heap: &Heap, ended: &(Mutex<bool>, Condvar), print: bool) -> Sums {
    let mut sums = Sums::default();
    let mut end = ended.0.lock();
    loop {
        // Read first: the last round comes after the end.
        let last = *end;
        let (events, lost) = heap.take_events();
        sums.lost += lost;
        for event in &events {
            sums.add(event);
            if print {
                log(event);
            }
        }
        if last {
            return sums;
        }
        ended.1.wait_for(&mut end, TICK);
    }
}
