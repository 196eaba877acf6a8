//! What the heap reports of itself: pauses, stalls, phases and cycles, each as it happened.
//!
//! What mutators lose in faults and slow paths comes in many small pieces, which each thread collects for itself (`loss`).
//!
//! All times are nanoseconds since the heap was built. Events go to the heap's listeners where it has any (`listener`), and
//! into a bounded record otherwise (`record`). The crate `gc-heap-tools` writes them as a log and as a trace; `probes` is
//! the way of tracers that look into the process from outside.

mod listener;
pub(crate) mod loss;
pub mod probes;
mod record;

pub(crate) use listener::Listeners;
pub(crate) use record::Events;

use gc_core::sys::{ThreadName, ThreadState};
use std::fmt;

/// Why mutators were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
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

impl fmt::Display for PauseKind {
    /// As the log has it: `mark start`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PauseKind::MarkStart => "mark start",
            PauseKind::MarkEnd => "mark end",
            PauseKind::RelocateStart => "relocate start",
            PauseKind::Flip => "flip",
            PauseKind::Collection => "collection",
            PauseKind::Compaction => "compaction",
            PauseKind::Verification => "verification",
        })
    }
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
    /// The mutator that arrived last, after [`reach_ns`](Self::reach_ns); `None` where all were outside the heap already.
    pub last: Option<MutatorThread>,
}

impl Pause {
    /// The pause without the way to the safepoint: time from the last mutator's arrival until mutators could go on. What the
    /// collector does in a stop, and what the last to arrive feels of it; who has come before waits longer, for the others.
    ///
    /// ```
    /// use gc_heap::{Event, Heap};
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.collect();
    /// for event in heap.take_events().0 {
    ///     if let Event::Pause(pause) = event {
    ///         assert_eq!(pause.reach_ns + pause.stopped_ns(), pause.total_ns);
    ///         assert!(pause.last.is_none(), "no thread is inside the heap");
    ///     }
    /// }
    /// # Ok::<(), gc_heap::BuildError>(())
    /// ```
    #[must_use]
    pub fn stopped_ns(&self) -> u64 {
        self.total_ns.saturating_sub(self.reach_ns)
    }
}

/// A mutator, and the thread that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MutatorThread {
    /// A number that tells the mutators of one heap apart, and is never given twice; that of [`Stall`]s and [`Loss`]es.
    pub mutator: u64,
    /// The kernel's number of the thread that entered the heap.
    pub thread: u32,
    /// Its name, as it was when the thread first entered a heap.
    pub name: ThreadName,
}

impl fmt::Display for MutatorThread {
    /// `mutator 3 (worker-1, thread 4711)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mutator {} ({}, thread {})", self.mutator, self.name, self.thread)
    }
}

/// A mutator comes to no safepoint: the collector waits for it, and all others that have arrived with the collector. Told of while
/// that lasts, after the time of [`HeapBuilder::late_after`](crate::HeapBuilder::late_after), and again each time that it has
/// lasted twice as long.
///
/// The mutator computes without a [`safepoint`](crate::Mutator::safepoint), waits for something outside of
/// [`blocking`](crate::Mutator::blocking), was preempted, or stopped; [`state`](Self::state) tells which of these.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Late {
    /// The stop that waits; `None`: a handshake between two phases, for which only the collector waits.
    pub kind: Option<PauseKind>,
    /// When the wait began.
    pub start_ns: u64,
    /// How long it has lasted by now.
    pub total_ns: u64,
    /// Who is waited for.
    pub who: MutatorThread,
    /// What its thread does just now.
    pub state: ThreadState,
    /// How long it was on a processor in the last [`watched_ns`](Self::watched_ns); `None` where the system does not say, or
    /// the collector came too late for the look before. One that
    /// runs, and was hardly on one, waits for a processor that others have.
    pub ran_ns: Option<u64>,
    /// Time since the heap looked before: half of what the wait has lasted.
    pub watched_ns: u64,
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

/// What a mutator lost time in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum LossKind {
    /// Page barrier: touches of absent pages, which the mutator repaired itself, or waited for.
    Faults,
    /// Other barriers: loads of stale references. One in 16 of a thread's is timed; the others before it count as long as
    /// those usually are.
    SlowPaths,
}

impl fmt::Display for LossKind {
    /// As traces have it: `faults`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LossKind::Faults => "faults",
            LossKind::SlowPaths => "slow paths",
        })
    }
}

/// Time that a mutator lost besides stops and stalls, where the heap [records](crate::HeapBuilder::record_losses) that. What
/// lies close together is one loss: a stretch of 100 us at most, or one fault that was longer.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// In what.
    pub kind: LossKind,
    /// When the first began.
    pub start_ns: u64,
    /// From there to the end of the last.
    pub total_ns: u64,
    /// How much of that was lost. Of a fault, the time in the signal handler: the kernel's way there and back comes on top.
    pub lost_ns: u64,
    /// How many faults or slow paths there were.
    pub count: u64,
    /// Of which mutator; numbers as those of [`Stall`]s.
    pub mutator: u64,
}

/// Phases of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
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

impl fmt::Display for Phase {
    /// As the log has it: `mark`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Mark => "mark",
            Phase::Reclaim => "reclaim",
            Phase::Plan => "plan",
            Phase::Relocate => "relocate",
            Phase::Repair => "repair",
        })
    }
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

/// A whole cycle, reported after its last phase and pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CycleSpan {
    /// Number of the cycle, from 1.
    pub cycle: u64,
    /// When it began.
    pub start_ns: u64,
    /// How long it took.
    pub total_ns: u64,
    /// Bytes in blocks that are not free, when it began.
    pub used_before_bytes: usize,
    /// The same at its end.
    pub used_bytes: usize,
    /// The most that the heap may hold.
    pub max_bytes: usize,
    /// Bytes that the marking found live.
    pub live_bytes: u64,
    /// Page barrier: pages repaired since the cycle before, by whomever.
    pub pages_repaired: u64,
    /// Of these, by mutators that touched them or a neighbour.
    pub pages_repaired_by_mutators: u64,
    /// Page barrier: faults that mutators served since the cycle before.
    pub faults: u64,
    /// Other barriers: slow paths of loads that mutators took since the cycle before, as far as they have come to a safepoint.
    pub slow_paths: u64,
}

/// One event.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A stop.
    Pause(Pause),
    /// A wait for memory.
    Stall(Stall),
    /// Faults or slow paths of a mutator.
    Loss(Loss),
    /// A mutator that comes to no safepoint.
    Late(Late),
    /// A phase.
    Phase(PhaseSpan),
    /// A cycle.
    Cycle(CycleSpan),
}

impl Event {
    /// When what it tells of began, in nanoseconds since the heap was built.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        match self {
            Event::Pause(pause) => pause.start_ns,
            Event::Stall(stall) => stall.start_ns,
            Event::Loss(loss) => loss.start_ns,
            Event::Late(late) => late.start_ns,
            Event::Phase(span) => span.start_ns,
            Event::Cycle(cycle) => cycle.start_ns,
        }
    }

    /// When it ended, on the same clock. The collector's events come in the order of their ends, and so do the stalls and
    /// the losses of each mutator; losses come later than what ended with them.
    ///
    /// ```
    /// use gc_heap::Heap;
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.collect();
    /// let (events, _) = heap.take_events();
    /// assert!(events.iter().all(|event| event.start_ns() <= event.end_ns() && event.end_ns() <= heap.now_ns()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        self.start_ns()
            + match self {
                Event::Pause(pause) => pause.total_ns,
                Event::Stall(stall) => stall.total_ns,
                Event::Loss(loss) => loss.total_ns,
                Event::Late(late) => late.total_ns,
                Event::Phase(span) => span.total_ns,
                Event::Cycle(cycle) => cycle.total_ns,
            }
    }
}
