//! The pause that the collector has prepared, as the threads that take part in it see it.

use crate::events::MutatorThread;
use crate::inner::record::MutatorRecord;
use gc_core::sys::{ThreadName, thread_cpu_time};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// The operation of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum VmOperation {
    MarkStart,
    MarkEnd,
    /// What [`Relocation::start`](super::relocation::Relocation::start) says.
    RelocateStart,
    /// The mark start of a young cycle.
    YoungMarkStart,
    /// The collector thread does the work while all mutators are held.
    Work,
}

/// The prepared pause. The fields are written by the collector before it arms (the gate's Release
/// covers them) and by the runner before it finishes.
pub(crate) struct PendingPause {
    pub(crate) op: AtomicU8,
    /// A `PauseKind`, for the probes.
    pub(crate) kind: AtomicU8,
    pub(crate) start_ns: AtomicU64,
    pub(crate) reached_ns: AtomicU64,
    pub(crate) end_ns: AtomicU64,
    pub(crate) done: AtomicBool,
    /// The last mutator to arrive: its number (0: all were parked), its thread, and the thread's
    /// name.
    pub(crate) last: [AtomicU64; 4],
    /// The processor time of its thread as it arrived, if it was late; otherwise 0.
    pub(crate) last_ran_ns: AtomicU64,
}

/// A mutator that arrives this long after the request is late: what it did is looked into.
pub(crate) const LATE_NS: u64 = 50_000;

impl Default for PendingPause {
    fn default() -> Self {
        PendingPause {
            op: AtomicU8::new(0),
            kind: AtomicU8::new(0),
            start_ns: AtomicU64::new(0),
            reached_ns: AtomicU64::new(0),
            end_ns: AtomicU64::new(0),
            done: AtomicBool::new(false),
            last: Default::default(),
            last_ran_ns: AtomicU64::new(0),
        }
    }
}

impl PendingPause {
    /// All have arrived, this one last: the caller. Where it is late it asks for its processor
    /// time, with one system call of some 200 ns.
    pub(crate) fn reached(&self, now_ns: u64, last: Option<&MutatorRecord>) {
        self.reached_ns.store(now_ns, Ordering::Relaxed);
        let words = last.map_or([0; 4], |record| {
            let MutatorThread { mutator, thread, name } = record.who();
            let [low, high] = name.to_words();
            [mutator, u64::from(thread), low, high]
        });
        self.last.iter().zip(words).for_each(|(last, word)| last.store(word, Ordering::Relaxed));
        let is_late = last.is_some() && now_ns.saturating_sub(self.start_ns.load(Ordering::Relaxed)) >= LATE_NS;
        let ran_ns = if is_late { thread_cpu_time().as_nanos() as u64 } else { 0 };
        self.last_ran_ns.store(ran_ns, Ordering::Relaxed);
    }

    pub(crate) fn last(&self) -> Option<MutatorThread> {
        let [mutator, thread, low, high] = [0, 1, 2, 3].map(|word| self.last[word].load(Ordering::Relaxed));
        let name = ThreadName::from_words([low, high]);
        (mutator != 0).then_some(MutatorThread { mutator, thread: thread as u32, name })
    }

    pub(crate) fn op(&self) -> VmOperation {
        match self.op.load(Ordering::Relaxed) {
            0 => VmOperation::MarkStart,
            1 => VmOperation::MarkEnd,
            2 => VmOperation::RelocateStart,
            3 => VmOperation::YoungMarkStart,
            _ => VmOperation::Work,
        }
    }
}
