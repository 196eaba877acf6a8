//! Stops and handshakes: how mutators and the collector meet.
//!
//! A mutator's state is one word. It says whether the mutator *runs* (it may touch the heap) or is *parked* (it may
//! not, and all that a stop wants of it is published), and which stop *holds* it. A hold carries the number of its
//! stop; once that stop is over, the hold is void without anyone having to clear it, so ending a stop costs nothing per
//! parked thread.
//!
//! | from | to | who | ordering, and why |
//! | --- | --- | --- | --- |
//! | running | parked | the mutator | SeqCst: publishes its caches (Release), and is ordered with the handshake flag |
//! | parked | running | the mutator, by CAS | SeqCst: sees what a stop changed (Acquire); fails while held |
//! | any | held | the collector that arms a stop | SeqCst: sees what a parked mutator published, and is ordered with the poll word |
//! | held | not held | nobody: void when [`StopGate::finish`] moves the number | Release there, Acquire in [`StopGate::is_over`] |
//!
//! A stop is prepared and armed by the collector and *run by the last mutator to arrive*, or by the collector where all
//! are parked. With one mutator there is then no hand-over between threads at all.

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

/// A mutator cannot run now: the stop of this number holds it.
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

    /// Running to parked. `Some` names a stop that waits for this mutator: it must arrive there.
    pub fn park(&self, gate: &StopGate) -> Option<Held> {
        let old = self.word.fetch_and(!RUNNING, Ordering::SeqCst);
        debug_assert!(old & RUNNING != 0);
        held(old, gate)
    }

    /// Parked to running, unless a stop holds the mutator.
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

    /// The stop that a running mutator must arrive at, if any.
    ///
    /// SeqCst: a mutator that re-arms its poll word (SeqCst) and then sees no hold is polled again by the collector,
    /// which holds first and polls after.
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

    /// Whether a handshake waits for this mutator; answers at most one caller with yes. The mutator calls it at
    /// safepoints and after parking, and then does what was asked and calls [`Handshake::done`].
    #[inline]
    pub fn take_handshake(&self) -> bool {
        self.handshake.load(Ordering::Relaxed) && self.handshake.swap(false, Ordering::SeqCst)
    }

    /// As [`take_handshake`](Self::take_handshake), right after parking: ordered after the parking, so that either the
    /// mutator sees the flag or the collector sees it parked.
    pub fn take_handshake_parked(&self) -> bool {
        self.handshake.swap(false, Ordering::SeqCst)
    }
}

fn held(word: u64, gate: &StopGate) -> Option<Held> {
    let number = (word >> NUMBER) as u32;
    (word & HELD != 0 && !gate.is_over(Held(number))).then_some(Held(number))
}

/// Where mutators meet for a stop. One stop at a time; whoever arms it holds the registry's lock, so that no mutator
/// attaches meanwhile.
#[derive(Debug)]
pub struct StopGate {
    /// Running mutators that have not arrived, plus one while the collector arms.
    pending: AtomicU32,
    /// Number of the last stop that is over. Mutators wait on this word.
    finished: AtomicU32,
}

impl Default for StopGate {
    fn default() -> Self {
        Self::new()
    }
}

impl StopGate {
    /// A gate with no stop.
    #[must_use]
    pub fn new() -> StopGate {
        StopGate { pending: AtomicU32::new(0), finished: AtomicU32::new(0) }
    }

    /// Arms a stop: holds every mutator, calling `poll` for each that runs so that it comes to a safepoint soon.
    /// `true`: all were parked, and the caller runs the stop itself, then calls [`finish`](Self::finish).
    pub fn arm<'a>(&self, mutators: impl Iterator<Item = &'a MutatorState>, mut poll: impl FnMut(usize)) -> bool {
        let number = self.finished.load(Ordering::Relaxed).wrapping_add(1);
        // The guard keeps the count above zero until all are held. Each is counted before it is held: the other way
        // round it could arrive, and take the count to zero, before it was counted.
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

    /// The stop that the next [`arm`](Self::arm) will make; for the thread that arms.
    pub fn next(&self) -> Held {
        Held(self.finished.load(Ordering::Relaxed).wrapping_add(1))
    }

    /// Wakes those who sleep on [`word`](Self::word), by way of the caller's system call.
    pub fn wake(&self, wake: impl FnOnce(&AtomicU32, u32) -> usize) {
        wake(&self.finished, u32::MAX);
    }

    /// A held running mutator arrives (or has just parked), once for each stop. `true`: it is the last, and runs the stop
    /// or lets the collector work in it; either way it goes on only when [`is_over`](Self::is_over) says so.
    ///
    /// AcqRel: the last to arrive sees what all the others published.
    #[must_use]
    pub fn arrive(&self) -> bool {
        let before = self.pending.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before != 0, "a mutator arrived twice at one stop");
        before == 1
    }

    /// Ends the stop; whoever waits on [`word`](Self::word) is to be woken after.
    pub fn finish(&self) {
        let number = self.finished.load(Ordering::Relaxed).wrapping_add(1);
        self.finished.store(number, Ordering::Release);
    }

    /// Whether the stop that held a mutator is over. Acquire: what it changed is seen.
    #[inline]
    pub fn is_over(&self, held: Held) -> bool {
        self.finished.load(Ordering::Acquire).wrapping_sub(held.0) as i32 >= 0
    }

    /// The word to wait on while a stop lasts, and the value it has until then.
    pub fn word(&self, held: Held) -> (&AtomicU32, u32) {
        (&self.finished, held.0.wrapping_sub(1))
    }
}

/// A handshake: each mutator does something small at its next safepoint and goes on; nobody waits for the others.
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

    /// Asks every mutator, calling `poll` for each that has to come to a safepoint. Parked ones are answered for at
    /// once: parking has published what they had, and they read the phase anew when they leave. `true`: nobody is left
    /// to wait for.
    pub fn ask<'a>(&self, mutators: impl Iterator<Item = &'a MutatorState>, mut poll: impl FnMut(usize)) -> bool {
        self.pending.store(1, Ordering::Relaxed);
        for (index, mutator) in mutators.enumerate() {
            self.pending.fetch_add(1, Ordering::Relaxed);
            // SeqCst flag, then SeqCst state; the mutator parks (SeqCst), then looks at the flag: one of the two sees.
            mutator.handshake.store(true, Ordering::SeqCst);
            if mutator.is_running() {
                poll(index);
            } else if mutator.handshake.swap(false, Ordering::SeqCst) {
                self.pending.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// A mutator has done what was asked. `true`: it was the last, and wakes the collector.
    #[must_use]
    pub fn done(&self) -> bool {
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Mutators still to answer. Acquire: at zero, what they published is seen. The collector waits on this word.
    pub fn pending(&self) -> &AtomicU32 {
        &self.pending
    }
}
