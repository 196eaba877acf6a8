//! The destination of events: listeners, or a bounded record.

use super::losses::Readers;
use super::{Event, Listeners};
use crate::lock::Mutex;
use gc_core::sys::{Process, monotonic_ns};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Maximum number of events kept until they are taken.
const MAX_EVENTS: usize = 1 << 20;

/// Events that are kept in one piece: 384 KiB.
const CHUNK_EVENTS: usize = 1 << 12;

/// Events until they are taken or delivered. In chunks, because a mutator may be the thread that
/// adds one, and one piece of memory that grows is moved, for milliseconds.
#[derive(Default)]
struct Record {
    chunks: Vec<Vec<Event>>,
    lost: u64,
}

impl Record {
    /// Drops the event if there are too many, or no memory for more: the program may be at a limit.
    fn keep(&mut self, event: Event) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_EVENTS => chunk.push(event),
            _ => match self.new_chunk() {
                Some(chunk) => chunk.push(event),
                None => self.lost += 1,
            },
        }
    }

    /// Takes all chunks, and room for their events where there are several; the first chunk alone
    /// where there is no memory for that.
    fn take(&mut self) -> (Vec<Vec<Event>>, Vec<Event>) {
        let mut all = Vec::new();
        let count = self.chunks.iter().map(Vec::len).sum();
        if self.chunks.len() < 2 || all.try_reserve_exact(count).is_ok() {
            return (std::mem::take(&mut self.chunks), all);
        }
        (Vec::new(), self.chunks.remove(0))
    }

    fn new_chunk(&mut self) -> Option<&mut Vec<Event>> {
        let mut chunk = Vec::new();
        let fits = self.chunks.len() < MAX_EVENTS / CHUNK_EVENTS;
        let got = fits && chunk.try_reserve_exact(CHUNK_EVENTS).is_ok() && self.chunks.try_reserve(1).is_ok();
        got.then(|| self.chunks.push(chunk))?;
        self.chunks.last_mut()
    }
}

pub(crate) struct Events {
    /// The heap's: a child made by `fork` may take its copy of the events.
    process: Process,
    record: Mutex<Record>,
    /// Events of the collector not delivered to listeners yet, because a pause was in progress.
    pending: Mutex<Record>,
    listeners: Listeners,
    /// When the heap was built, by the monotonic clock.
    origin_ns: u64,
    pub(crate) losses: Readers,
    /// Whether a separate thread is delivering events that do not wait for the end of a pause.
    telling: Arc<AtomicBool>,
}

impl Events {
    pub(crate) fn new(listeners: Listeners, process: Process) -> Events {
        Events {
            process,
            record: Mutex::default(),
            pending: Mutex::default(),
            listeners,
            origin_ns: monotonic_ns(),
            losses: Default::default(),
            telling: Arc::default(),
        }
    }

    /// Holds all locks of the events.
    #[cfg(test)]
    pub(crate) fn locked(&self) -> impl Sized {
        (self.record.lock(), self.pending.lock())
    }

    /// Nanoseconds since the heap was built.
    pub(crate) fn now(&self) -> u64 {
        monotonic_ns() - self.origin_ns
    }

    /// Whether there are listeners.
    pub(crate) fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Adds an event, also inside a pause. Listeners receive it in [`deliver`](Self::deliver).
    pub(crate) fn push(&self, event: Event) {
        if self.has_listeners() { self.pending.lock().keep(event) } else { self.keep(event) }
    }

    /// Reports an event of a thread that no other waits for and that holds no lock: listeners
    /// receive it at once.
    pub(crate) fn tell(&self, event: Event) {
        self.listeners.tell(&event);
    }

    /// Reports events during a pause that is not ending. A listener may wait for a lock that a
    /// stopped thread holds, so it is called on a separate thread, which no other waits for; if
    /// that thread is still busy, or cannot be started, the collector reports the events when the
    /// pause is over.
    pub(crate) fn notify_meanwhile(&self, events: Vec<Event>) {
        if events.is_empty() || !self.has_listeners() {
            return events.into_iter().for_each(|event| self.keep(event));
        }
        if !self.telling.swap(true, Ordering::Relaxed) {
            let (listeners, telling, told) = (self.listeners.clone(), Arc::clone(&self.telling), events.clone());
            let spawned = gc_core::sys::spawn_thread("parallax-late".into(), move || {
                told.iter().for_each(|event| listeners.tell(event));
                telling.store(false, Ordering::Relaxed);
            });
            if spawned.is_ok() {
                return;
            }
            self.telling.store(false, Ordering::Relaxed);
        }
        let mut pending = self.pending.lock();
        events.into_iter().for_each(|event| pending.keep(event));
    }

    /// Delivers pushed events to listeners. Called on the collector thread, outside pauses.
    pub(crate) fn deliver(&self) {
        if self.has_listeners() {
            let pending = std::mem::take(&mut self.pending.lock().chunks);
            pending.iter().flatten().for_each(|event| self.listeners.tell(event));
        }
    }

    fn keep(&self, event: Event) {
        self.record.lock().keep(event);
    }

    /// Adds many events at once. They stay in `events` in a child made by `fork` in which the lock
    /// is held.
    #[cfg(feature = "losses")]
    pub(super) fn push_all(&self, events: &mut Vec<Event>) {
        let place = if self.has_listeners() { &self.pending } else { &self.record };
        if !events.is_empty()
            && let Some(mut place) = place.lock_in(self.process)
        {
            events.drain(..).for_each(|event| place.keep(event));
        }
    }

    /// Takes the events since the last call, and the number of those that did not fit. Where there
    /// is no memory for all, the others are left for the next call. None in a child made by `fork`
    /// in which the lock is held.
    pub(crate) fn take(&self) -> (Vec<Event>, u64) {
        let Some(mut record) = self.record.lock_in(self.process) else { return Default::default() };
        // Those that wait for listeners are delivered, but for what did not fit.
        let waiting = self.pending.lock_in(self.process).map_or(0, |mut pending| std::mem::take(&mut pending.lost));
        let lost = std::mem::take(&mut record.lost) + waiting + self.losses.take_missed();
        let (mut chunks, mut events) = record.take();
        // A mutator that adds events would wait while they are copied.
        drop(record);
        match chunks.len() {
            1 => events = chunks.remove(0),
            _ => chunks.into_iter().for_each(|chunk| events.extend(chunk)),
        }
        (events, lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Stall, StallCause};

    fn event(start_ns: u64) -> Event {
        Event::Stall(Stall { cause: StallCause::NoBlock, start_ns, total_ns: 1, bytes: 8, mutator: 1 })
    }

    fn starts(events: &[Event]) -> Vec<u64> {
        let start = |event: &Event| match event {
            Event::Stall(stall) => stall.start_ns,
            other => panic!("{other:?}"),
        };
        events.iter().map(start).collect()
    }

    fn events() -> Events {
        Events::new(Listeners::default(), Process::current())
    }

    #[test]
    fn events_are_taken_in_their_order_whatever_chunks_they_are_in() {
        let events = events();
        let all = 2 * CHUNK_EVENTS as u64 + 7;
        (0..all).for_each(|n| events.push(event(n)));
        assert_eq!(starts(&events.take().0), (0..all).collect::<Vec<_>>());
        assert!(events.take().0.is_empty());
        events.push(event(9));
        assert_eq!(starts(&events.take().0), [9]);
    }

    /// The thread that adds an event may be a mutator: what is kept already is not moved for it.
    #[test]
    fn an_event_that_is_kept_stays_where_it_is() {
        let events = events();
        events.push(event(0));
        let place = || events.record.lock().chunks[0].as_ptr();
        let first = place();
        (1..20 * CHUNK_EVENTS as u64).for_each(|n| events.push(event(n)));
        assert_eq!(place(), first);
        let record = events.record.lock();
        assert!(record.chunks.iter().all(|chunk| chunk.capacity() == CHUNK_EVENTS));
    }

    /// Those that wait for listeners, too.
    #[test]
    fn an_event_that_waits_for_a_listener_stays_where_it_is() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut listeners = Listeners::default();
        let to = Arc::clone(&told);
        listeners.add(move |event| to.lock().push(*event));
        let events = Events::new(listeners, Process::current());
        events.push(event(0));
        let place = || events.pending.lock().chunks[0].as_ptr();
        let first = place();
        let all = 5 * CHUNK_EVENTS as u64;
        (1..all).for_each(|n| events.push(event(n)));
        assert_eq!(place(), first);
        events.deliver();
        assert_eq!(starts(&told.lock()), (0..all).collect::<Vec<_>>());
        (0..MAX_EVENTS as u64 + 3).for_each(|n| events.push(event(n)));
        assert_eq!((events.take().1, events.take().1), (3, 0), "what did not fit is told once");
    }

    #[test]
    fn too_many_events_are_counted() {
        let events = events();
        (0..MAX_EVENTS as u64 + 3).for_each(|n| events.push(event(n)));
        let (kept, lost) = events.take();
        assert_eq!((kept.len(), lost), (MAX_EVENTS, 3));
    }
}
