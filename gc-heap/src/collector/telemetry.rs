//! The report of each cycle: its event and its probes.

use crate::events::probes::probe;
use crate::events::{CycleKind, CycleSpan, Event};
use crate::inner::HeapInner;
use crate::space::BLOCK_BYTES;
use gc_core::views::HUGE_PAGE;

/// Counters as of the last cycle's end.
#[derive(Clone, Copy, Default)]
struct CounterSnapshot {
    pages_repaired_by_collector: u64,
    pages_repaired_by_mutators: u64,
    faults: u64,
    slow_paths: u64,
}

impl CounterSnapshot {
    fn now(inner: &HeapInner) -> CounterSnapshot {
        let pages = inner.relocation.figures();
        CounterSnapshot {
            pages_repaired_by_collector: inner.report.counters.pages_repaired.get(),
            pages_repaired_by_mutators: pages.by_mutators,
            faults: pages.faults.count,
            slow_paths: inner.report.counters.slow_paths.get(),
        }
    }
}

/// State at the begin of a cycle.
pub(super) struct CycleStart {
    cycle: u64,
    start_ns: u64,
    used_bytes: usize,
}

/// Reports cycles.
#[derive(Default)]
pub(super) struct CycleReport {
    reported: CounterSnapshot,
}

impl CycleReport {
    /// Called before a cycle, and before the pause that it may run in. `cycle`: its number.
    pub(super) fn begins(&self, inner: &HeapInner, cycle: u64) -> CycleStart {
        let begun = CycleStart { cycle, start_ns: inner.report.events.now(), used_bytes: inner.memory.used_bytes() };
        probe!(cycle_begin, cycle, begun.used_bytes);
        begun
    }

    /// Reports a cycle. Its pauses are over, and the threads that wait for its end are not notified
    /// yet.
    pub(super) fn ended(&mut self, inner: &HeapInner, begun: CycleStart) {
        inner.gather_losses();
        let now = CounterSnapshot::now(inner);
        let before = std::mem::replace(&mut self.reported, now);
        let by_mutators = now.pages_repaired_by_mutators - before.pages_repaired_by_mutators;
        let by_collector = now.pages_repaired_by_collector - before.pages_repaired_by_collector;
        let blocks = inner.memory.free.figures();
        let span = CycleSpan {
            cycle: begun.cycle,
            kind: if inner.world.phase.is_young() { CycleKind::Young } else { CycleKind::Whole },
            start_ns: begun.start_ns,
            total_ns: inner.report.events.now() - begun.start_ns,
            used_before_bytes: begun.used_bytes,
            used_bytes: blocks.used * BLOCK_BYTES,
            max_bytes: inner.config.max_bytes,
            huge_bytes: blocks.huge * HUGE_PAGE,
            live_bytes: blocks.live_bytes,
            pages_repaired: by_mutators + by_collector,
            pages_repaired_by_mutators: by_mutators,
            faults: now.faults - before.faults,
            slow_paths: now.slow_paths - before.slow_paths,
        };
        probe!(cycle_end, span.cycle, span.used_bytes, span.live_bytes, span.total_ns);
        inner.report.events.push(Event::Cycle(span));
        inner.report.events.deliver();
    }
}
