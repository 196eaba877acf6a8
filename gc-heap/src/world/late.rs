//! Detects late mutators: a mutator that reaches no safepoint delays all others, which have arrived
//! already, and is reported while that lasts.

use crate::events::probes::probe;
use crate::events::{Event, Late, PauseKind};
use crate::inner::HeapInner;
use crate::inner::record::MutatorRecord;
use gc_core::stop::Held;
use gc_core::sys::{ThreadState, processor_time, thread_state};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What the collector waits for.
pub(crate) enum Awaited<'a> {
    /// The arrival of these mutators at a pause.
    Stop { kind: PauseKind, held: Held, mutators: &'a [Arc<MutatorRecord>] },
    /// The answer to a handshake.
    Handshake,
}

/// How long the collector has waited, and when it reports the late mutators next: after
/// `late_after`, and again each time the wait has doubled. It takes the first sample at half that
/// time, so that the report covers the second half.
pub(crate) struct Patience<'a> {
    inner: &'a HeapInner,
    awaited: Awaited<'a>,
    start_ns: u64,
    /// The times of the next report, and of the next sample.
    tell_ns: u64,
    look_ns: u64,
    /// The time of the last sample, and the processor time of each mutator's thread by then.
    looked_ns: u64,
    ran: Vec<(u64, u64)>,
}

impl Patience<'_> {
    /// Begins a wait now.
    pub(crate) fn new<'a>(inner: &'a HeapInner, awaited: Awaited<'a>) -> Patience<'a> {
        let start_ns = inner.report.events.now();
        let late_after = inner.config.late_after.as_nanos().min(u128::from(u64::MAX)) as u64;
        let (tell_ns, look_ns) = (start_ns.saturating_add(late_after), start_ns.saturating_add(late_after / 2));
        Patience { inner, awaited, start_ns, tell_ns, look_ns, looked_ns: start_ns, ran: Vec::new() }
    }

    /// How long to wait until the next sample.
    pub(crate) fn left(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.look_ns.saturating_sub(self.inner.report.events.now())))
    }

    /// Samples the late mutators if a sample is due, and reports them if a report is due.
    pub(crate) fn look(&mut self) {
        let now = self.inner.report.events.now();
        if now >= self.look_ns {
            self.look_now(now);
        }
    }

    #[cold]
    fn look_now(&mut self, now: u64) {
        let all = match &self.awaited {
            Awaited::Stop { mutators, .. } => mutators.to_vec(),
            Awaited::Handshake => self.inner.world.mutators.lock().clone(),
        };
        let missing = all.iter().filter(|record| self.is_missing(record));
        let late: Vec<Late> = missing.map(|record| self.late(record, now)).collect();
        let ran = late.iter().filter_map(|late| Some((late.who.mutator, processor_ns(late.who.thread)?)));
        self.ran = ran.collect();
        self.looked_ns = now;
        if now < self.tell_ns {
            self.look_ns = self.tell_ns;
            return;
        }
        self.tell_ns = now.saturating_add(now - self.start_ns);
        self.look_ns = self.tell_ns;
        for Late { who, total_ns, state, ran_ns, .. } in &late {
            let ran_ns = ran_ns.unwrap_or(u64::MAX);
            probe!(late, who.mutator, who.thread, *total_ns, *state as u8, who.name.as_ptr(), ran_ns);
        }
        self.inner.report.events.notify_meanwhile(late.into_iter().map(Event::Late).collect());
    }

    fn is_missing(&self, record: &MutatorRecord) -> bool {
        match &self.awaited {
            Awaited::Stop { held, .. } => record.is_awaited(*held),
            Awaited::Handshake => record.state.is_running() && record.state.handshake_waits(),
        }
    }

    fn late(&self, record: &MutatorRecord, now: u64) -> Late {
        let who = record.who();
        let before = self.ran.iter().find(|(mutator, _)| *mutator == who.mutator);
        Late {
            kind: if let Awaited::Stop { kind, .. } = self.awaited { Some(kind) } else { None },
            start_ns: self.start_ns,
            total_ns: now - self.start_ns,
            who,
            state: thread_state(who.thread).unwrap_or(ThreadState::Unknown),
            watched_ns: now - self.looked_ns,
            ran_ns: before.and_then(|(_, before)| Some(processor_ns(who.thread)?.saturating_sub(*before))),
        }
    }
}

/// The most mutators whose processor time the collector looks up while a pause waits for them: a
/// system call of some 300 ns for each.
const MOST_WATCHED: usize = 16;

/// The processor times of the mutators that a pause waits for, from when the collector has waited
/// in vain for a while: what the last one to arrive has had until it arrived is the difference.
pub(crate) struct Watched {
    since_ns: u64,
    ran: Vec<(u64, u64)>,
}

impl Watched {
    /// Empty if these are too many.
    pub(crate) fn new(inner: &HeapInner, mutators: &[Arc<MutatorRecord>], held: Held) -> Watched {
        let mut ran = Vec::new();
        let awaited = || mutators.iter().filter(|record| record.is_awaited(held));
        if awaited().take(MOST_WATCHED + 1).count() <= MOST_WATCHED {
            let times = awaited().filter_map(|record| Some((record.number, processor_ns(record.who().thread)?)));
            ran.extend(times);
        }
        Watched { since_ns: inner.report.events.now(), ran }
    }

    /// How long the mutator that arrived last was off the processor, if it was late and watched.
    /// After the pause.
    pub(crate) fn last_off_ns(&self, inner: &HeapInner) -> Option<u64> {
        let pause = &inner.world.pause;
        let last = pause.last()?.mutator;
        let after_ns = pause.last_ran_ns.load(Ordering::Relaxed);
        let (_, before_ns) = *self.ran.iter().find(|(mutator, _)| *mutator == last && after_ns != 0)?;
        let watched_ns = pause.reached_ns.load(Ordering::Relaxed).saturating_sub(self.since_ns);
        Some(watched_ns.saturating_sub(after_ns.saturating_sub(before_ns)))
    }
}

fn processor_ns(thread: u32) -> Option<u64> {
    processor_time(thread).ok().map(|time| time.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use crate::{Event, Heap, MIN_HEAP_BYTES};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// A handshake has a wait of its own, in which no mutator is stopped.
    #[test]
    fn who_answers_no_handshake_is_told_of() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).late_after(Duration::from_millis(1)).build().unwrap();
        let told = AtomicBool::new(false);
        std::thread::scope(|scope| {
            heap.enter(|m| {
                let shaking = scope.spawn(|| heap.inner().handshake());
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
