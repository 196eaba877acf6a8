//! Pauses and handshakes: how the collector synchronises with mutators.
//!
//! A mutator's state is one word. It says whether the mutator *runs* (it may touch the heap) or is
//! *parked* (it may not, and its caches are published as a pause needs them), and which pause
//! *holds* it. A hold carries the number of its pause; once that pause is over, the hold is void
//! without being cleared, so ending a pause costs nothing per parked thread.
//!
//! | from | to | who | ordering, and why |
//! | --- | --- | --- | --- |
//! | running | parked | the mutator | SeqCst: publishes its caches (Release), and is ordered with the handshake flag |
//! | parked | running | the mutator, by CAS | SeqCst: sees what a pause changed (Acquire); fails while held |
//! | any | held | the collector that arms a pause | SeqCst: sees what a parked mutator published, and is ordered with the poll word |
//! | held | not held | nobody: void when [`StopGate::finish`] moves the number | Release there, Acquire in [`StopGate::is_over`] |
//!
//! The collector prepares and arms a pause; *the last mutator to arrive runs it*, or the collector
//! if all are parked. With one mutator no work is handed over between threads.

use crate::pause::PauseWords;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

const RUNNING: u64 = 1;
const HELD: u64 = 2;
const NUMBER: u32 = 2;

/// The state word of one mutator.
#[derive(Debug)]
pub struct MutatorState {
    word: AtomicU64,
    handshake: AtomicBool,
}

/// A mutator cannot run now: the pause of this number holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held(pub u32);

impl Default for MutatorState {
    fn default() -> Self {
        Self::new()
    }
}

impl MutatorState {
    /// A parked mutator.
    #[must_use]
    pub fn new() -> MutatorState {
        MutatorState { word: AtomicU64::new(0), handshake: AtomicBool::new(false) }
    }

    /// Running to parked. `Some` names a pause that waits for this mutator: it must
    /// [arrive](StopGate::arrive) there.
    pub fn park(&self, gate: &StopGate) -> Option<Held> {
        let old = self.word.fetch_and(!RUNNING, Ordering::SeqCst);
        debug_assert!(old & RUNNING != 0);
        held(old, gate)
    }

    /// Parked to running, unless a pause holds the mutator.
    pub fn leave(&self, gate: &StopGate) -> Result<(), Held> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if let Some(held) = held(word, gate) {
                return Err(held);
            }
            match self.word.compare_exchange_weak(word, RUNNING, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// The pause that a running mutator must arrive at, if any.
    ///
    /// SeqCst: a mutator that re-arms its poll word (SeqCst) and then sees no hold is polled again
    /// by the collector, which holds first and polls after.
    #[inline]
    pub fn held(&self, gate: &StopGate) -> Option<Held> {
        held(self.word.load(Ordering::SeqCst), gate)
    }

    /// Whether a handshake waits for this mutator, without taking it.
    #[inline]
    pub fn handshake_waits(&self) -> bool {
        self.handshake.load(Ordering::SeqCst)
    }

    /// Whether the mutator may be touching the heap.
    #[inline]
    pub fn is_running(&self) -> bool {
        self.word.load(Ordering::SeqCst) & RUNNING != 0
    }

    fn hold(&self, number: u32) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let new = word & RUNNING | HELD | u64::from(number) << NUMBER;
            match self.word.compare_exchange_weak(word, new, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return word & RUNNING != 0,
                Err(now) => word = now,
            }
        }
    }

    /// Takes the request of a handshake that waits for this mutator; at most one caller gets
    /// `true`. The mutator calls it at safepoints and after parking; on `true` it does what was
    /// requested and calls [`Handshake::done`].
    #[inline]
    pub fn take_handshake(&self) -> bool {
        self.handshake.load(Ordering::Relaxed) && self.handshake.swap(false, Ordering::SeqCst)
    }

    /// As [`take_handshake`](Self::take_handshake), right after parking: ordered after the parking,
    /// so that either the mutator sees the flag or the collector sees it parked.
    pub fn take_handshake_parked(&self) -> bool {
        self.handshake.swap(false, Ordering::SeqCst)
    }
}

fn held(word: u64, gate: &StopGate) -> Option<Held> {
    let number = (word >> NUMBER) as u32;
    (word & HELD != 0 && !gate.is_over(Held(number))).then_some(Held(number))
}

/// The rendezvous of mutators for a pause. One pause at a time; the thread that arms it holds the
/// registry's lock, so that no mutator attaches meanwhile.
#[derive(Debug)]
pub struct StopGate {
    /// Running mutators that have not arrived, plus one while the collector arms the pause.
    pending: AtomicU32,
    /// Number of the last pause that is over. Mutators wait on this word.
    finished: AtomicU32,
    words: PauseWords,
}

impl Default for StopGate {
    fn default() -> Self {
        Self::new()
    }
}

impl StopGate {
    /// A gate without a pause.
    #[must_use]
    pub fn new() -> StopGate {
        StopGate { pending: AtomicU32::new(0), finished: AtomicU32::new(0), words: PauseWords::new() }
    }

    /// Arms a pause: holds every mutator, calling `poll` for each that runs so that it reaches a
    /// safepoint soon. `true`: all were parked, and the caller runs the pause itself, then calls
    /// [`finish`](Self::finish).
    pub fn arm<'a>(&self, mutators: impl Iterator<Item = &'a MutatorState>, mut poll: impl FnMut(usize)) -> bool {
        let number = self.finished.load(Ordering::Relaxed).wrapping_add(1);
        // The guard keeps the count above zero until all are held. Each is counted before it is
        // held: in the other order it could arrive, and decrement the count to zero, before it was
        // counted.
        self.pending.store(1, Ordering::Relaxed);
        for (index, mutator) in mutators.enumerate() {
            self.pending.fetch_add(1, Ordering::Relaxed);
            if mutator.hold(number) {
                poll(index);
            } else {
                self.pending.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The pause that the next [`arm`](Self::arm) will start; for the thread that arms.
    pub fn next(&self) -> Held {
        Held(self.finished.load(Ordering::Relaxed).wrapping_add(1))
    }

    pub(crate) fn words(&self) -> &PauseWords {
        &self.words
    }

    pub(crate) fn finished(&self) -> &AtomicU32 {
        &self.finished
    }

    /// Called by a held mutator at its safepoint (or right after it parked), once for each pause.
    /// `true`: it is the last, and runs the pause or hands it to the collector; either way it
    /// continues only when [`is_over`](Self::is_over) returns `true`.
    ///
    /// AcqRel: the last to arrive sees what all the others published.
    #[must_use]
    pub fn arrive(&self) -> bool {
        let before = self.pending.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before != 0, "a mutator arrived twice at one pause");
        before == 1
    }

    /// Ends the pause; the caller wakes the waiters on [`word`](Self::word) afterwards.
    pub fn finish(&self) {
        let number = self.finished.load(Ordering::Relaxed).wrapping_add(1);
        self.finished.store(number, Ordering::Release);
    }

    /// Whether the pause that held a mutator is over. Acquire: the mutator sees what it changed.
    #[inline]
    pub fn is_over(&self, held: Held) -> bool {
        self.finished.load(Ordering::Acquire).wrapping_sub(held.0) as i32 >= 0
    }

    /// The word to wait on while a pause lasts, and its value until then.
    pub fn word(&self, held: Held) -> (&AtomicU32, u32) {
        (&self.finished, held.0.wrapping_sub(1))
    }
}

/// A handshake: each mutator does something short at its next safepoint and continues; no mutator
/// waits for the others.
#[derive(Debug)]
pub struct Handshake {
    pending: AtomicU32,
}

impl Default for Handshake {
    fn default() -> Self {
        Self::new()
    }
}

impl Handshake {
    /// No handshake under way.
    #[must_use]
    pub fn new() -> Handshake {
        Handshake { pending: AtomicU32::new(0) }
    }

    /// Requests every mutator, calling `poll` for each that has to reach a safepoint. A parked
    /// mutator counts as done at once: parking has published its caches, and it reads the phase
    /// again when it unparks. `true`: all are done already.
    pub fn ask<'a>(&self, mutators: impl Iterator<Item = &'a MutatorState>, mut poll: impl FnMut(usize)) -> bool {
        self.pending.store(1, Ordering::Relaxed);
        for (index, mutator) in mutators.enumerate() {
            self.pending.fetch_add(1, Ordering::Relaxed);
            // The collector stores the flag, then loads the state; the mutator stores its state,
            // then loads the flag. All are SeqCst, so at least one of the two sees the other's
            // store.
            mutator.handshake.store(true, Ordering::SeqCst);
            if mutator.is_running() {
                poll(index);
            } else if mutator.handshake.swap(false, Ordering::SeqCst) {
                self.pending.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Records that a mutator has done what was requested. `true`: it was the last, and wakes the
    /// collector.
    #[must_use]
    pub fn done(&self) -> bool {
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Number of mutators that are not done. Acquire: at zero, the collector sees what they
    /// published. The collector waits on this word.
    pub fn pending(&self) -> &AtomicU32 {
        &self.pending
    }
}
