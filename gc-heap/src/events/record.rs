//! Where events go: to listeners, or into a bounded record.

use super::{Event, Listeners};
use parking_lot::Mutex;
use std::time::Instant;

/// Events kept until somebody takes them.
const MOST_EVENTS: usize = 1 << 20;

#[derive(Default)]
struct Record {
    events: Vec<Event>,
    lost: u64,
}

pub(crate) struct Events {
    record: Mutex<Record>,
    /// Events of the collector that listeners have not heard of, because a stop was under way.
    pending: Mutex<Vec<Event>>,
    listeners: Listeners,
    origin: Instant,
}

impl Events {
    pub(crate) fn new(listeners: Listeners) -> Events {
        Events { record: Mutex::default(), pending: Mutex::default(), listeners, origin: Instant::now() }
    }

    /// Nanoseconds since the heap was built.
    pub(crate) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// Whether there are listeners.
    pub(crate) fn is_heard(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// An event, in a stop or not. Listeners hear of it in [`deliver`](Self::deliver).
    pub(crate) fn push(&self, event: Event) {
        if self.is_heard() { self.pending.lock().push(event) } else { self.keep(event) }
    }

    /// An event of a thread that nobody waits for and that holds no lock: listeners hear of it at once.
    pub(crate) fn tell(&self, event: Event) {
        self.listeners.tell(&event);
    }

    /// Tells listeners what was pushed. On the collector thread, outside stops.
    pub(crate) fn deliver(&self) {
        if self.is_heard() {
            let pending = std::mem::take(&mut *self.pending.lock());
            pending.iter().for_each(|event| self.listeners.tell(event));
        }
    }

    fn keep(&self, event: Event) {
        let mut record = self.record.lock();
        if record.events.len() < MOST_EVENTS {
            record.events.push(event);
        } else {
            record.lost += 1;
        }
    }

    /// Takes the events since the last call, and the number of those that did not fit.
    pub(crate) fn take(&self) -> (Vec<Event>, u64) {
        let mut record = self.record.lock();
        let lost = std::mem::take(&mut record.lost);
        (std::mem::take(&mut record.events), lost)
    }
}
