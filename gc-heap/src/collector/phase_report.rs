//! What is done after each phase of a cycle, whatever the phase: its event and its probe, the
//! stress mode's delay, delivery of events, verification.

use super::pauses::{Pauses, Stopped};
use super::verify::{Checkpoint, verify};
use crate::events::probes::probe;
use crate::events::{Event, PauseKind, Phase, PhaseSpan};
use std::cell::Cell;

/// The phases of one cycle, one after the other: each begins where the one before it ended.
pub(super) struct PhaseReport<'a, P> {
    pub(super) pauses: P,
    cycle: u64,
    start_ns: u64,
    /// For the stress mode.
    random: &'a Cell<u64>,
}

impl<'a, P: Pauses<'a>> PhaseReport<'a, P> {
    /// The first phase of a cycle begins.
    pub(super) fn begin(pauses: P, cycle: u64, random: &'a Cell<u64>) -> PhaseReport<'a, P> {
        let start_ns = pauses.inner().report.events.now();
        PhaseReport { pauses, cycle, start_ns, random }
    }

    /// A phase ends now, and the next one begins: the time of listeners belongs to neither.
    pub(super) fn ended(&mut self, phase: Phase) {
        let inner = self.pauses.inner();
        inner.config.stress.delay(self.random);
        let events = &inner.report.events;
        let now = events.now();
        let used_bytes = inner.memory.used_bytes();
        let (cycle, start_ns) = (self.cycle, self.start_ns);
        let span = PhaseSpan { phase, cycle, start_ns, total_ns: now - start_ns, used_bytes };
        probe!(phase, span.cycle, phase as u8, span.total_ns, used_bytes);
        events.push(Event::Phase(span));
        self.pauses.deliver_events();
        self.start_ns = if events.has_listeners() { events.now() } else { now };
        if inner.config.verify
            && let Some(checkpoint) = Checkpoint::after(phase)
        {
            self.pauses.with_world_stopped(PauseKind::Verification, |stopped| verify(stopped.inner(), checkpoint));
        }
    }

    /// Runs the phases that follow in one pause.
    pub(super) fn in_a_pause<R>(
        &self,
        kind: PauseKind,
        work: impl for<'s> FnOnce(&mut PhaseReport<'s, Stopped<'s>>) -> R,
    ) -> R {
        self.pauses.with_world_stopped(kind, |pauses| {
            let (cycle, start_ns, random) = (self.cycle, self.start_ns, self.random);
            work(&mut PhaseReport { pauses, cycle, start_ns, random })
        })
    }
}
