//! The heap's events: pauses, stalls, phases and cycles.
//!
//! The other delays of mutators are many and small; each thread collects its own (`loss`).
//!
//! All times are nanoseconds since the heap was built. Events go to the heap's listeners if it has
//! any (`listener`), and otherwise into a bounded record (`record`). The crate `gc-heap-tools`
//! writes them as a log and as a trace; `probes` serves tracers outside the process.

mod listener;
mod losses;
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
    /// Mark start: logging is switched on, root watermarks are set.
    MarkStart,
    /// Mark end: logging is switched off, the marks are final. An attempt that found unmarked
    /// objects counts as well.
    MarkEnd,
    /// Relocate start: the other color becomes good.
    RelocateStart,
    /// Flip: the page barrier unmaps all pages.
    Flip,
    /// A whole cycle in one pause (`StopTheWorld`).
    Collection,
    /// Stop-the-world compaction, the last resort before out of memory.
    Compaction,
    /// Verification (only if it was requested).
    Verification,
}

impl fmt::Display for PauseKind {
    /// As in the log: `mark start`.
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

/// A pause, as seen by the mutators.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// Why.
    pub kind: PauseKind,
    /// When the pause was requested.
    pub start_ns: u64,
    /// Time until the last mutator arrived.
    pub reach_ns: u64,
    /// Time from the request until mutators could continue.
    pub total_ns: u64,
    /// The mutator that arrived last, after [`reach_ns`](Self::reach_ns); `None` if all were
    /// outside the heap already.
    pub last: Option<MutatorThread>,
    /// Of [`reach_ns`](Self::reach_ns), how long the thread of [`last`](Self::last) was not on a
    /// processor: another thread had it, or this one slept. Watched from when the collector has
    /// waited in vain, about 10 us after the request, until the thread arrives. `None` where it
    /// arrived within 50 us, where more than 16 mutators were waited for, and where the system does
    /// not report a thread's processor time.
    pub last_off_ns: Option<u64>,
}

impl Pause {
    /// The pause without the time to the safepoint: from the last mutator's arrival until mutators
    /// could continue. This is the collector's work in the pause, and the delay of the last mutator
    /// to arrive; mutators that arrived earlier wait longer, for the others.
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

    /// Whether the last mutator to arrive was late because it was off the processor: for more than
    /// half of the time. `None` where that is [not known](Self::last_off_ns).
    #[must_use]
    pub fn last_was_off(&self) -> Option<bool> {
        self.last_off_ns.map(|off_ns| off_ns > self.reach_ns / 2)
    }
}

/// A mutator, and the thread that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MutatorThread {
    /// A number unique among the mutators of a heap and never reused; the same as in [`Stall`]s and
    /// [`Loss`]es.
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

/// A mutator reaches no safepoint: the collector waits for it, and so do all mutators that have
/// arrived. Reported while that lasts, after the time of
/// [`HeapBuilder::late_after`](crate::HeapBuilder::late_after), and again each time the wait has
/// doubled.
///
/// The mutator computes without a [`safepoint`](crate::Mutator::safepoint), waits for something
/// outside of [`blocking`](crate::Mutator::blocking), was preempted, or stopped;
/// [`state`](Self::state) says which of these.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Late {
    /// The pause that waits; `None`: a handshake between two phases, for which only the collector
    /// waits.
    pub kind: Option<PauseKind>,
    /// When the wait began.
    pub start_ns: u64,
    /// Duration of the wait so far.
    pub total_ns: u64,
    /// The late mutator.
    pub who: MutatorThread,
    /// State of its thread now.
    pub state: ThreadState,
    /// Its processor time in the last [`watched_ns`](Self::watched_ns); `None` if the system does
    /// not report it, or the collector missed the sample before. A running thread with little
    /// processor time waits for a processor that other threads use.
    pub ran_ns: Option<u64>,
    /// Time since the previous sample: half of the wait.
    pub watched_ns: u64,
}

/// Why a mutator waited for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StallCause {
    /// It found no free block, or too few, and waited until the collector had freed some.
    NoBlock,
    /// What was free might not have lasted until the marking ends, so it waited for a moment, half
    /// a millisecond at most, before it took a block.
    Throttled,
    /// Memory was short while a cycle relocated objects, and it gave up its processor to the
    /// collector.
    Yielded,
    /// A weak table was full, and it waited for the cycle that clears dead entries.
    FullTable,
}

impl fmt::Display for StallCause {
    /// As in logs: `throttled`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            StallCause::NoBlock => "no block",
            StallCause::Throttled => "throttled",
            StallCause::Yielded => "yielded",
            StallCause::FullTable => "full table",
        })
    }
}

/// A mutator waited for memory.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// Why.
    pub cause: StallCause,
    /// When the wait began.
    pub start_ns: u64,
    /// Duration of the wait.
    pub total_ns: u64,
    /// Requested bytes.
    pub bytes: usize,
    /// The mutator that waited: a number unique among those of a heap and never reused.
    pub mutator: u64,
}

/// Causes of delays of a mutator. Only what the heap did to it, or the system while it was inside
/// the heap: not what the program asks for and waits for
/// ([`Mutator::collect`](crate::Mutator::collect),
/// [`Mutator::blocking`](crate::Mutator::blocking)), and not what has an event of its own, pauses
/// and stalls. No moment counts under two causes: a wait for a lock while a block is opened counts
/// under `Locks` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum LossKind {
    /// Page barrier: faults on absent pages, which the mutator repaired itself, or waited for.
    Faults,
    /// Other barriers: loads of stale references. One in 16 of a thread's is timed; the others
    /// count with the average duration.
    SlowPaths,
    /// Stores, while marking runs, over references: the old one is logged unless its object is
    /// marked. One in 64 of a thread's is timed; the others count with the average duration.
    Stores,
    /// A full store log was passed to the marker: once in 1024 logged references.
    LogFlushes,
    /// From the end of a pause until the mutator runs on, with what it reads anew; for the thread
    /// that ran the pause, with the waking of the others.
    WakeUps,
    /// Answers to handshakes: publishing what the mutator keeps to itself, and reading the phase
    /// anew.
    Handshakes,
    /// Waits for a lock of the heap that another thread had.
    Locks,
    /// Yields to the collector before a block is taken, when memory is short, shorter than 20 us;
    /// longer ones are [`Stall`]s.
    Yields,
    /// Large objects: committing their memory and, if it is for slots, zeroing it, in slices of
    /// 1 MiB. The kernel's time for pages that are touched first is in it. Small objects are zeroed
    /// as they are written, which is not counted.
    Zeroing,
    /// Waits of a thread that attaches until a pause is over.
    Attaching,
    /// Taking blocks to allocate in and opening them; with the page barrier after a flip, repairing
    /// and mapping their pages. All are timed while a flip's pages are repaired, where memory is
    /// short, and for large objects; of the others, which all take alike, one in 8 of a thread's,
    /// and the others count with the average duration.
    Refills,
    /// The thread could run, and waited for a processor that other threads had; of the heap (its
    /// collector threads) or not. Only what lies between other delays, in which such waits are
    /// included. The thread asks the system in its slow paths, once it has not looked at the clock
    /// for 200 us: so shorter waits are not seen, but for those of 20 us and more in the question
    /// itself, and of a wait it is known that it lies between two slow paths. Only if the heap
    /// [records](crate::HeapBuilder::record_losses) losses, and the kernel has `CONFIG_SCHED_INFO`.
    Preemptions,
    /// The processor itself did not run: a hypervisor had given it to another machine ([steal
    /// time], which a Linux guest knows of from its hypervisor), or it served interrupts, where the
    /// kernel accounts these apart. What has passed by the clock while the thread was neither on a
    /// processor, nor waited for one, nor slept; seen as [`Preemptions`](Self::Preemptions) are.
    ///
    /// [steal time]: https://docs.kernel.org/virt/kvm/x86/msr.html
    Steal,
}

impl LossKind {
    /// All, in the order of their numbers.
    pub const ALL: [LossKind; 13] = [
        LossKind::Faults,
        LossKind::SlowPaths,
        LossKind::Stores,
        LossKind::LogFlushes,
        LossKind::WakeUps,
        LossKind::Handshakes,
        LossKind::Locks,
        LossKind::Yields,
        LossKind::Zeroing,
        LossKind::Attaching,
        LossKind::Refills,
        LossKind::Preemptions,
        LossKind::Steal,
    ];
}

impl fmt::Display for LossKind {
    /// As in traces: `faults`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LossKind::Faults => "faults",
            LossKind::SlowPaths => "slow paths",
            LossKind::Stores => "stores",
            LossKind::LogFlushes => "log flushes",
            LossKind::WakeUps => "wake-ups",
            LossKind::Handshakes => "handshakes",
            LossKind::Locks => "locks",
            LossKind::Yields => "yields",
            LossKind::Zeroing => "zeroing",
            LossKind::Attaching => "attaching",
            LossKind::Refills => "refills",
            LossKind::Preemptions => "preemptions",
            LossKind::Steal => "steal",
        })
    }
}

/// Time that a mutator lost besides pauses and stalls, if the heap
/// [records](crate::HeapBuilder::record_losses) it. Losses of one kind close together are merged
/// into one of at most 100 us; a longer one is one by itself. Two of a mutator lie apart, or one
/// lies in the other, which does not count its time.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Kind of the loss.
    pub kind: LossKind,
    /// When the first began.
    pub start_ns: u64,
    /// Time from there to the end of the last.
    pub total_ns: u64,
    /// Time lost within that.
    pub lost_ns: u64,
    /// Of [`lost_ns`](Self::lost_ns), the kernel's share of faults: from the access to the signal
    /// handler and back. An estimate: for each fault the shortest time that the mutator was seen to
    /// take from one handler to the next, so a kernel that is slower for once (it waits for a lock
    /// of the address space) is not in it. 0 for other kinds, and until two faults have come within
    /// 10 us.
    pub kernel_ns: u64,
    /// Number of delays.
    pub count: u64,
    /// Number of the mutator, as in [`Stall`]s.
    pub mutator: u64,
}

/// Phases of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Phase {
    /// Marking: tracing reachable objects.
    Mark,
    /// Reclaiming: weak references, and freeing dead blocks.
    Reclaim,
    /// Planning: selecting blocks to evacuate.
    Plan,
    /// Evacuating them.
    Relocate,
    /// Page barrier: repairing and mapping every page, copies included.
    Repair,
}

impl fmt::Display for Phase {
    /// As in the log: `mark`.
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

/// A phase, its time, and the heap's size at its end.
#[derive(Clone, Copy, Debug)]
pub struct PhaseSpan {
    /// The phase.
    pub phase: Phase,
    /// Number of the cycle, from 1.
    pub cycle: u64,
    /// When it began.
    pub start_ns: u64,
    /// Its duration.
    pub total_ns: u64,
    /// Bytes in blocks that are not free, at the end of the phase.
    pub used_bytes: usize,
}

/// What a cycle collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum CycleKind {
    /// All that was allocated before it began.
    Whole,
    /// Of that, the young objects: those that no cycle has promoted. Only in heaps with
    /// [generations](crate::HeapBuilder::generations).
    Young,
}

impl fmt::Display for CycleKind {
    /// As in the log: `young`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CycleKind::Whole => "whole",
            CycleKind::Young => "young",
        })
    }
}

/// A cycle, reported after its last phase and pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CycleSpan {
    /// Number of the cycle, from 1.
    pub cycle: u64,
    /// What it collected.
    pub kind: CycleKind,
    /// When it began.
    pub start_ns: u64,
    /// Its duration.
    pub total_ns: u64,
    /// Bytes in blocks that are not free, when it began.
    pub used_before_bytes: usize,
    /// The same at its end.
    pub used_bytes: usize,
    /// Maximum size of the heap.
    pub max_bytes: usize,
    /// Bytes of its memory in 2 MiB pages at the end of the cycle, as
    /// [`HeapStats::huge_bytes`](crate::HeapStats::huge_bytes).
    pub huge_bytes: usize,
    /// Bytes that the marking found live; of a young cycle, with those of the old objects, as far
    /// as is known from the cycles before.
    pub live_bytes: u64,
    /// Page barrier: pages repaired since the cycle before, by all threads.
    pub pages_repaired: u64,
    /// Of these, by mutators that touched them or a neighbour.
    pub pages_repaired_by_mutators: u64,
    /// Page barrier: faults that mutators served since the cycle before.
    pub faults: u64,
    /// Other barriers: slow paths of loads that mutators took since the cycle before, as of each
    /// mutator's last safepoint.
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
    /// When it began, in nanoseconds since the heap was built.
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

    /// When it ended, on the same clock. The collector's events come in the order of their ends,
    /// and so do the stalls and the losses of each mutator; losses come later than other events
    /// that ended at the same time.
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
