//! The pause that the collector has prepared, as the threads that take part in it see it.

use crate::events::MutatorThread;
use crate::inner::record::MutatorRecord;
use gc_core::sys::ThreadName;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The operation of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum VmOperation {
    MarkStart,
    MarkEnd,
    RelocateStart,
    /// The page barrier unmaps every page.
    Flip,
    /// The collector thread does the work while all mutators are held.
    Hold,
}

/// Which thread runs a pause. A flip runs best on the thread that has just rehearsed it, as long as
/// that spins: handing over then costs less than a microsecond, and 70 if the thread must be woken.
///
/// | from | to | who | ordering, and why |
/// | --- | --- | --- | --- |
/// | `LAST` | `LOOKS` | the collector, before it arms | Relaxed: arming publishes it to the last thread to arrive |
/// | `LOOKS` | `HANDED` | the last to arrive, by CAS | Release: the collector sees what all have published |
/// | `LOOKS` | `LAST` | the collector that stops spinning, by CAS | only one of the two succeeds |
/// | `HANDED` | `LAST` | the collector, which runs the pause | Acquire on seeing it, see above |
pub(crate) mod duty {
    /// The last mutator to arrive.
    pub(crate) const LAST: u8 = 0;
    /// The collector, once all have arrived: it spins until then.
    pub(crate) const LOOKS: u8 = 1;
    /// The collector: all have arrived.
    pub(crate) const HANDED: u8 = 2;
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
    /// Which thread runs the pause, see [`duty`].
    pub(crate) duty: AtomicU8,
    /// Number of the last hold whose mutators have all arrived. The collector waits on this word.
    pub(crate) holds: AtomicU32,
    /// Number of threads that sleep until the pause is over.
    pub(crate) sleepers: AtomicU32,
}

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
            duty: AtomicU8::new(duty::LAST),
            holds: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
        }
    }
}

impl PendingPause {
    /// Runs `wait`, counted as a sleeper: the end of a pause makes a system call only if a thread
    /// sleeps.
    pub(crate) fn sleep(&self, wait: impl FnOnce()) {
        // SeqCst: either the finisher sees the sleeper, or the sleeper sees (in `wait`, in the
        // kernel) that the pause is over.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        wait();
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// All have arrived, this one last.
    pub(crate) fn reached(&self, now_ns: u64, last: Option<&MutatorRecord>) {
        self.reached_ns.store(now_ns, Ordering::Relaxed);
        let words = last.map_or([0; 4], |record| {
            let MutatorThread { mutator, thread, name } = record.who();
            let [low, high] = name.to_words();
            [mutator, u64::from(thread), low, high]
        });
        self.last.iter().zip(words).for_each(|(last, word)| last.store(word, Ordering::Relaxed));
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
            3 => VmOperation::Flip,
            _ => VmOperation::Hold,
        }
    }
}
