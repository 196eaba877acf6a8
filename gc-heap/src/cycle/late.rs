//! Who keeps the collector waiting: a mutator that comes to no safepoint stops all the others, which have arrived, and is told of
//! while it lasts.

use crate::events::probes::probe;
use crate::events::{Event, Late, PauseKind};
use crate::mutator::record::MutatorRecord;
use crate::shared::Shared;
use gc_core::stop::Held;
use gc_core::sys::{ThreadState, thread_state};
use std::sync::Arc;
use std::time::Duration;

/// What the collector waits for mutators to do.
pub(super) enum Awaited<'a> {
    /// To arrive at a stop, which holds all of these.
    Stop { kind: PauseKind, held: Held, mutators: &'a [Arc<MutatorRecord>] },
    /// To answer a handshake.
    Handshake,
}

/// How long the collector has waited, and when it next says for whom: after the time that the heap was built with, and each time
/// that it has waited twice as long.
pub(super) struct Patience<'a> {
    shared: &'a Shared,
    awaited: Awaited<'a>,
    start_ns: u64,
    until_ns: u64,
}

impl Patience<'_> {
    /// The wait begins now.
    pub(super) fn new<'a>(shared: &'a Shared, awaited: Awaited<'a>) -> Patience<'a> {
        let start_ns = shared.events.now();
        let late_after = shared.config.late_after.as_nanos().min(u128::from(u64::MAX)) as u64;
        Patience { shared, awaited, start_ns, until_ns: start_ns.saturating_add(late_after) }
    }

    /// How long to wait until the next look.
    pub(super) fn left(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.until_ns.saturating_sub(self.shared.events.now())))
    }

    /// Tells of those who are late, if it is time to.
    pub(super) fn look(&mut self) {
        let now = self.shared.events.now();
        if now >= self.until_ns {
            self.until_ns = now.saturating_add(now - self.start_ns);
            self.tell(now - self.start_ns);
        }
    }

    #[cold]
    fn tell(&self, total_ns: u64) {
        let shared = self.shared;
        let late = |record: &MutatorRecord, kind| {
            let who = record.who();
            let state = thread_state(who.thread).unwrap_or(ThreadState::Unknown);
            probe!(late, who.mutator, who.thread, total_ns, state as u8, who.name.as_ptr());
            Event::Late(Late { kind, start_ns: self.start_ns, total_ns, who, state })
        };
        let events = match &self.awaited {
            Awaited::Stop { kind, held, mutators } => {
                let missing = mutators.iter().filter(|record| record.is_awaited(*held));
                missing.map(|record| late(record, Some(*kind))).collect()
            }
            Awaited::Handshake => {
                let mutators = shared.mutators.lock().clone();
                let missing =
                    mutators.iter().filter(|record| record.state.is_running() && record.state.handshake_waits());
                missing.map(|record| late(record, None)).collect()
            }
        };
        shared.events.tell_meanwhile(events);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Event, Heap, LEAST_HEAP_BYTES};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// Handshakes have a wait of their own, for which no other mutator waits.
    #[test]
    fn who_answers_no_handshake_is_told_of() {
        let heap = Heap::builder().max_bytes(LEAST_HEAP_BYTES).late_after(Duration::from_millis(1)).build().unwrap();
        let told = AtomicBool::new(false);
        std::thread::scope(|scope| {
            heap.enter(|m| {
                let shaking = scope.spawn(|| heap.shared().handshake());
                let mut late = Vec::new();
                while late.len() < 2 {
                    std::thread::yield_now();
                    late.extend(heap.take_events().0.into_iter().filter_map(|event| match event {
                        Event::Late(late) => Some(late),
                        _ => None,
                    }));
                }
                assert!(!shaking.is_finished());
                assert!(late.iter().all(|late| late.kind.is_none() && late.who == m.record().who()), "{late:?}");
                assert!(late[1].total_ns >= 2 * late[0].total_ns);
                told.store(true, Ordering::Relaxed);
                m.safepoint();
            })
            .unwrap();
        });
        assert!(told.into_inner());
    }
}
