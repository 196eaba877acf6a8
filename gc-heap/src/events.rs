//! What the heap reports of itself: pauses, stalls and phases, each as it happened.
//!
//! All times are nanoseconds since the heap was built. The record is bounded; what did not fit is counted.

use parking_lot::Mutex;
use std::time::Instant;

/// Why mutators were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PauseKind {
    /// Logging on, root watermarks set.
    MarkStart,
    /// Logging off, the marks are final. An attempt that found unmarked work left counts as well.
    MarkEnd,
    /// The other color becomes good.
    RelocateStart,
    /// The page barrier takes all pages away.
    Flip,
    /// A whole cycle in one stop (`StopTheWorld`).
    Collection,
    /// Compaction in a stop, the last resort before out of memory.
    Compaction,
    /// Verification (only where it was asked for).
    Verification,
}

/// A stop, as the mutators saw it.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// Why.
    pub kind: PauseKind,
    /// When the stop was asked for.
    pub start_ns: u64,
    /// Time until the last mutator arrived.
    pub reach_ns: u64,
    /// Time from asking until mutators could go on.
    pub total_ns: u64,
}

/// A mutator waited for memory.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// When the wait began.
    pub start_ns: u64,
    /// How long it was.
    pub total_ns: u64,
    /// What was asked for.
    pub bytes: usize,
    /// Which mutator waited: a number that tells those of one heap apart, and is never given twice.
    pub mutator: u64,
}

/// Phases of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Tracing what is reachable.
    Mark,
    /// Weak references, and freeing what is dead.
    Reclaim,
    /// Choosing what to evacuate.
    Plan,
    /// Copying it.
    Relocate,
    /// Page barrier: bringing every page back, copies included.
    Repair,
}

/// A phase, when it was, and what the heap held at its end.
#[derive(Clone, Copy, Debug)]
pub struct PhaseSpan {
    /// Which.
    pub phase: Phase,
    /// Number of the cycle, from 1.
    pub cycle: u64,
    /// When it began.
    pub start_ns: u64,
    /// How long it took.
    pub total_ns: u64,
    /// Bytes in blocks that are not free, at the end of the phase.
    pub used_bytes: usize,
}

/// One event.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A stop.
    Pause(Pause),
    /// A wait for memory.
    Stall(Stall),
    /// A phase.
    Phase(PhaseSpan),
}

/// Events kept until somebody takes them.
const MOST_EVENTS: usize = 1 << 20;

#[derive(Default)]
struct Record {
    events: Vec<Event>,
    lost: u64,
}

pub(crate) struct Events {
    record: Mutex<Record>,
    origin: Instant,
}

impl Events {
    pub(crate) fn new() -> Events {
        Events { record: Mutex::default(), origin: Instant::now() }
    }

    /// Nanoseconds since the heap was built.
    pub(crate) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    pub(crate) fn push(&self, event: Event) {
        let mut record = self.record.lock();
        if record.events.len() < MOST_EVENTS {
            record.events.push(event);
        } else {
            record.lost += 1;
        }
    }

    /// Takes the events since the last call, and the number of those that did not fit.
    pub(crate) fn take(&self) -> (Vec<Event>, u64) {
        let mut record = self.record.lock();
        let lost = std::mem::take(&mut record.lost);
        (std::mem::take(&mut record.events), lost)
    }
}
