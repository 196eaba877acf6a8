//! Pauses and handshakes from both sides: what the collector does, and what a mutator does at a
//! safepoint, when it parks and when it leaves the parked state. The words that they meet at are in
//! [`stop`](crate::stop).
//!
//! A pause is run by the mutator that arrives last; or by the collector, where all are parked,
//! where it works while all are held ([`StopGate::hold_all`]), or where it still spins when the
//! last one arrives ([`StopGate::stop_all`]).
//!
//! A thread that waits may wake before its time: a signal wakes it, and so does, late, the thread
//! that ended the pause before. So it looks again, and sleeps again. A thread that sleeps until a
//! pause is over is counted before, so that a pause without sleepers ends without a system call.
//!
//! See "Running, parked, held" and "Handshakes" in `docs/protocol.md`; all models with a stop or a
//! handshake run these functions.

use crate::rules::{Rule, kept};
use crate::stop::{Handshake, Held, MutatorState, StopGate};
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// Which thread runs a pause. A flip runs best on the thread that has just rehearsed it, as long as
/// that spins: handing over costs less than a microsecond then, and 70 where it had to be woken.
///
/// | from | to | which thread | ordering, and why |
/// | --- | --- | --- | --- |
/// | `LAST` | `SPINS` | the collector, before it arms | Relaxed: arming publishes it to the mutator that arrives last |
/// | `SPINS` | `HANDED` | the last to arrive, by CAS | Release: the collector sees what all have published |
/// | `SPINS` | `LAST` | the collector that will not spin any longer, by CAS | only one of the two succeeds |
/// | `HANDED` | `LAST` | the collector, which runs the pause | Acquire on seeing it, see above |
mod runner {
    /// The last mutator to arrive.
    pub(super) const LAST: u8 = 0;
    /// The collector, once all have arrived: it spins until then.
    pub(super) const SPINS: u8 = 1;
    /// The collector: all have arrived.
    pub(super) const HANDED: u8 = 2;
}

/// The words of pauses beside those of the gate.
#[derive(Debug)]
pub(crate) struct PauseWords {
    runner: AtomicU8,
    /// Number of the last hold whose mutators have all arrived. The collector waits on this word.
    holds: AtomicU32,
    /// Threads that sleep until the pause is over.
    sleepers: AtomicU32,
}

impl PauseWords {
    pub(crate) fn new() -> PauseWords {
        PauseWords { runner: AtomicU8::new(runner::LAST), holds: AtomicU32::new(0), sleepers: AtomicU32::new(0) }
    }
}

/// What the thread is to do that calls [`StopGate::all_arrived`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// It runs the operation and ends the pause.
    This,
    /// Nothing: the collector does.
    Collector,
}

/// How a pause was reached, for the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// All mutators were parked.
    AllParked,
    /// The last mutator handed the pause over to the collector, which was spinning.
    HandedOver,
}

impl StopGate {
    /// All mutators have arrived. Called by the last one, or by the collector where all were
    /// parked. `hold`: the collector works while they are held; `wake` wakes it.
    pub fn all_arrived(&self, hold: bool, wake: impl FnOnce(&AtomicU32)) -> Runs {
        let words = self.words();
        if hold {
            words.holds.fetch_add(1, Ordering::SeqCst);
            wake(&words.holds);
            return Runs::Collector;
        }
        match words.runner.compare_exchange(runner::SPINS, runner::HANDED, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Runs::Collector,
            Err(_) => Runs::This,
        }
    }

    /// Ends the pause. `ended` is called then, and `wake` if threads sleep until it is over.
    pub fn end(&self, ended: impl FnOnce(), wake: impl FnOnce(&AtomicU32)) {
        self.finish();
        ended();
        if kept(Rule::FenceThenLook) {
            // Either this thread sees the sleeper, or the sleeper sees the pause over.
            fence(Ordering::SeqCst);
        }
        if self.words().sleepers.load(Ordering::SeqCst) != 0 {
            wake(self.finished());
        }
    }

    /// Waits until a pause is over. `wait` sleeps while a word holds a value, and may return
    /// earlier; `woken` is called each time after.
    pub fn wait_until_over(&self, held: Held, mut wait: impl FnMut(&AtomicU32, u32), mut woken: impl FnMut()) {
        let sleepers = &self.words().sleepers;
        let counted = u32::from(kept(Rule::CountSleepers));
        while !self.is_over(held) {
            let (word, unfinished) = self.word(held);
            // SeqCst: either the thread that ends the pause sees the sleeper, or the sleeper sees
            // (here, or in the kernel) that it is over.
            sleepers.fetch_add(counted, Ordering::SeqCst);
            if !self.is_over(held) {
                wait(word, unfinished);
            }
            sleepers.fetch_sub(counted, Ordering::SeqCst);
            woken();
            if !kept(Rule::LookWhenWoken) {
                return;
            }
        }
    }

    /// Stops all mutators for one operation. By the collector, under the lock under which threads
    /// attach. On return the pause is over.
    ///
    /// `poll` has a running mutator come to a safepoint. `spin`, if the collector is to run the
    /// operation where that costs little, spins until its argument gives true, or for as long as it
    /// likes. `run` runs the operation on this thread and ends the pause; `wait` waits until it is
    /// over.
    pub fn stop_all<'a>(
        &self,
        mutators: impl Iterator<Item = &'a MutatorState>,
        poll: impl FnMut(usize),
        spin: Option<impl FnOnce(&dyn Fn() -> bool)>,
        run: impl FnOnce(Reached),
        wait: impl FnOnce(Held),
    ) {
        let runner = &self.words().runner;
        let held = self.next();
        runner.store(if spin.is_some() { runner::SPINS } else { runner::LAST }, Ordering::Relaxed);
        if self.arm(mutators, poll) {
            runner.store(runner::LAST, Ordering::Relaxed);
            run(Reached::AllParked);
        } else if spin.is_some_and(|spin| self.is_handed_over(spin)) {
            runner.store(runner::LAST, Ordering::Relaxed);
            run(Reached::HandedOver);
        } else {
            wait(held);
        }
    }

    /// Spins until all have arrived. `false`: that took too long, and the last to arrive runs the
    /// pause.
    fn is_handed_over(&self, spin: impl FnOnce(&dyn Fn() -> bool)) -> bool {
        let runner = &self.words().runner;
        spin(&|| runner.load(Ordering::Acquire) == runner::HANDED);
        if !kept(Rule::WithdrawByCas) {
            let handed = runner.load(Ordering::Acquire) == runner::HANDED;
            runner.swap(runner::LAST, Ordering::AcqRel);
            return handed;
        }
        runner.compare_exchange(runner::SPINS, runner::LAST, Ordering::AcqRel, Ordering::Acquire).is_err()
    }

    /// Holds all mutators. By the collector, under the lock under which threads attach, which then
    /// works and ends the pause. `wait` sleeps while a word holds a value, and may return earlier.
    /// `true`: all were parked.
    pub fn hold_all<'a>(
        &self,
        mutators: impl Iterator<Item = &'a MutatorState>,
        poll: impl FnMut(usize),
        mut wait: impl FnMut(&AtomicU32, u32),
    ) -> bool {
        let holds = &self.words().holds;
        let before = holds.load(Ordering::SeqCst);
        let all_parked = self.arm(mutators, poll);
        while !all_parked && holds.load(Ordering::SeqCst) == before {
            wait(holds, before);
        }
        all_parked
    }
}

impl Handshake {
    /// A mutator has done what was asked. The last one wakes the collector.
    pub fn answer(&self, wake: impl FnOnce(&AtomicU32)) {
        if self.done() && kept(Rule::WakeAfterAnswer) {
            wake(self.pending());
        }
    }

    /// Waits until all mutators have answered. `wait` sleeps while a word holds a value, and may
    /// return earlier.
    pub fn wait(&self, mut wait: impl FnMut(&AtomicU32, u32)) {
        loop {
            // Acquire: what they published is seen.
            match self.pending().load(Ordering::Acquire) {
                0 => return,
                left => wait(self.pending(), left),
            }
        }
    }
}

/// A mutator's side of pauses and handshakes.
pub trait Safepoints {
    /// Its state.
    fn state(&self) -> &MutatorState;

    /// The gate of its heap.
    fn gate(&self) -> &StopGate;

    /// The word that the mutator polls: it comes to a safepoint where that is 0.
    fn poll_word(&self) -> &AtomicU64;

    /// Publishes what the collector may need while the mutator is stopped. `parks`: it parks after.
    fn publish(&mut self, parks: bool);

    /// Reads the phase anew.
    fn reload_phase(&mut self);

    /// Is about to arrive at a pause while it runs.
    fn arrives(&self, held: Held);

    /// Calls [`StopGate::all_arrived`], and does what that says.
    fn execute_pause(&self);

    /// Calls [`StopGate::wait_until_over`].
    fn wait_for_stop(&self, held: Held);

    /// Calls [`Handshake::answer`].
    fn answer_handshake(&self);

    /// Whether the collector waits for the mutator for another reason than a pause or a handshake.
    fn is_wanted(&self) -> bool {
        false
    }

    /// Called where an unlucky mutator would lose its processor. For tests.
    fn delay(&self) {}
}

/// Does what the collector asks for, until it asks for nothing.
pub fn run_safepoint(m: &mut impl Safepoints) {
    loop {
        m.delay(); // between two looks, also where the phase was just renewed
        if m.state().take_handshake() {
            m.publish(false);
            m.reload_phase();
            m.answer_handshake();
        } else if let Some(held) = m.state().held(m.gate()) {
            m.publish(false);
            m.arrives(held);
            let last = m.gate().arrive();
            if last {
                m.execute_pause();
            }
            if !last || kept(Rule::LastWaits) {
                // The last to arrive, too: in a hold the collector is only now at work.
                m.wait_for_stop(held);
            }
            m.delay(); // released, but with the phase of before
            m.reload_phase();
        } else {
            return;
        }
    }
}

/// Whether the collector waits for the mutator.
#[inline]
pub fn is_waited_for(m: &impl Safepoints) -> bool {
    m.state().held(m.gate()).is_some() || m.state().handshake_waits() || m.is_wanted()
}

/// Sets the poll word to `limit`, so that the mutator runs on, unless the collector has asked
/// meanwhile.
pub fn arm_poll_word(m: &impl Safepoints, limit: u64) {
    if !kept(Rule::ArmThenLook) {
        let limit = if is_waited_for(m) { 0 } else { limit };
        return m.poll_word().store(limit, Ordering::SeqCst);
    }
    // SeqCst store, then SeqCst loads; the collector holds first and zeroes the word after: one of
    // the two sees.
    m.poll_word().store(limit, Ordering::SeqCst);
    if is_waited_for(m) {
        m.poll_word().store(0, Ordering::SeqCst);
    }
}

/// Parks: the mutator counts as stopped, and nothing needs to be asked of it.
pub fn park(m: &mut impl Safepoints) {
    if kept(Rule::PublishThenPark) {
        m.publish(true);
    }
    let held = m.state().park(m.gate()).is_some();
    if !kept(Rule::PublishThenPark) {
        m.publish(true);
    }
    if held && kept(Rule::ArriveWhenParking) && m.gate().arrive() {
        m.execute_pause();
    }
    if kept(Rule::AnswerWhenParking) && m.state().take_handshake_parked() {
        m.answer_handshake();
    }
}

/// Leaves the parked state, and waits while a pause holds the mutator. `left` is called before the
/// phase is read.
pub fn unpark<M: Safepoints>(m: &mut M, left: impl FnOnce(&mut M)) {
    if !kept(Rule::RefreshAfterLeaving) {
        m.reload_phase();
    }
    while let Err(held) = m.state().leave(m.gate()) {
        m.wait_for_stop(held);
    }
    left(m);
    m.delay(); // running, but with the phase of before
    if kept(Rule::RefreshAfterLeaving) {
        m.reload_phase();
    }
}
