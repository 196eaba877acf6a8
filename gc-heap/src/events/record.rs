//! Where events go: to listeners, or into a bounded record.

use super::{Event, Listeners};
use crate::lock::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Events kept until somebody takes them.
const MAX_EVENTS: usize = 1 << 20;

#[derive(Default)]
struct Record {
    events: Vec<Event>,
    lost: u64,
}

impl Record {
    fn keep(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        } else {
            self.lost += 1;
        }
    }
}

pub(crate) struct Events {
    record: Mutex<Record>,
    /// Events of the collector that listeners have not heard of, because a stop was under way.
    pending: Mutex<Vec<Event>>,
    listeners: Listeners,
    origin: Instant,
    /// Losses on their way from the rings; its lock is that of the rings' readers.
    losses: Mutex<Vec<Event>>,
    /// Losses that did not fit a ring or were nobody's.
    missed: AtomicU64,
    /// Whether a thread of its own tells listeners what does not wait for the end of a stop.
    telling: Arc<AtomicBool>,
}

impl Events {
    pub(crate) fn new(listeners: Listeners) -> Events {
        Events {
            record: Mutex::default(),
            pending: Mutex::default(),
            listeners,
            origin: Instant::now(),
            losses: Mutex::default(),
            missed: AtomicU64::new(0),
            telling: Arc::default(),
        }
    }

    /// Nanoseconds since the heap was built.
    pub(crate) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// Whether there are listeners.
    pub(crate) fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// An event, in a stop or not. Listeners hear of it in [`deliver`](Self::deliver).
    pub(crate) fn push(&self, event: Event) {
        if self.has_listeners() { self.pending.lock().push(event) } else { self.keep(event) }
    }

    /// An event of a thread that nobody waits for and that holds no lock: listeners hear of it at once.
    pub(crate) fn tell(&self, event: Event) {
        self.listeners.tell(&event);
    }

    /// Events that are told while a stop is under way that does not end. A listener may wait for a lock that a stopped thread
    /// has, so it is called on a thread of its own, which nobody waits for; where one is still at work, or cannot be had, the
    /// collector tells them when the stop is over.
    pub(crate) fn notify_meanwhile(&self, events: Vec<Event>) {
        if events.is_empty() || !self.has_listeners() {
            return events.into_iter().for_each(|event| self.keep(event));
        }
        if !self.telling.swap(true, Ordering::Relaxed) {
            let (listeners, telling, told) = (self.listeners.clone(), Arc::clone(&self.telling), events.clone());
            let thread = std::thread::Builder::new().name("parallax-late".into());
            let spawned = thread.spawn(move || {
                told.iter().for_each(|event| listeners.tell(event));
                telling.store(false, Ordering::Relaxed);
            });
            if spawned.is_ok() {
                return;
            }
            self.telling.store(false, Ordering::Relaxed);
        }
        self.pending.lock().extend(events);
    }

    /// Tells listeners what was pushed. On the collector thread, outside stops.
    pub(crate) fn deliver(&self) {
        if self.has_listeners() {
            let pending = std::mem::take(&mut *self.pending.lock());
            pending.iter().for_each(|event| self.listeners.tell(event));
        }
    }

    fn keep(&self, event: Event) {
        self.record.lock().keep(event);
    }

    /// The right to read the rings of losses, and where to put what is there.
    pub(crate) fn losses(&self) -> MutexGuard<'_, Vec<Event>> {
        self.losses.lock()
    }

    /// The same, unless another thread has it.
    pub(crate) fn try_losses(&self) -> Option<MutexGuard<'_, Vec<Event>>> {
        self.losses.try_lock()
    }

    /// Losses that were read, and the number of those that were missed.
    pub(crate) fn push_losses(&self, losses: &mut Vec<Event>, missed: u64) {
        self.missed(missed);
        if losses.is_empty() {
            return;
        }
        if self.has_listeners() {
            let mut pending = self.pending.lock();
            let fit = losses.len().min(MAX_EVENTS.saturating_sub(pending.len()));
            self.missed((losses.len() - fit) as u64);
            pending.extend(losses.drain(..fit));
        } else {
            let mut record = self.record.lock();
            losses.iter().for_each(|event| record.keep(*event));
        }
        losses.clear();
    }

    /// Losses that will not come. In a signal handler, too.
    pub(crate) fn missed(&self, losses: u64) {
        if losses != 0 {
            self.missed.fetch_add(losses, Ordering::Relaxed);
        }
    }

    /// Takes the events since the last call, and the number of those that did not fit.
    pub(crate) fn take(&self) -> (Vec<Event>, u64) {
        let mut record = self.record.lock();
        let lost = std::mem::take(&mut record.lost) + self.missed.swap(0, Ordering::Relaxed);
        (std::mem::take(&mut record.events), lost)
    }
}
