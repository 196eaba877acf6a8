//! Options of what the heap reports.

use super::{HeapBuilder, MIN_LATE_AFTER};
use crate::events::Event;
use std::time::Duration;

impl HeapBuilder {
    /// The name of the memfd in `/proc/self/maps`, and of the collector threads: at most 249 bytes,
    /// none of them NUL, or [`build`](Self::build) refuses it. Default: `parallax`.
    pub fn name(mut self, name: &str) -> Self {
        self.config.name = name.into();
        self
    }

    /// Records when each mutator loses time, by what, and how much: [`Event::Loss`], with the
    /// causes of [`LossKind`](crate::LossKind). A heap with listeners always does so. Default: off;
    /// [`HeapStats::losses`](crate::HeapStats::losses) has the totals either way, but for
    /// preemptions and steal.
    ///
    /// Costs about 90 instructions per delay that is timed (one in 16 slow paths of loads, one in
    /// 64 of stores, each of the others), an open file (`/proc/thread-self/schedstat`) per thread,
    /// three system calls of 1.5 us together at most each 200 us, and up to 160 KiB per attached
    /// thread, committed as it fills. A thread's records appear in the events after it answers a
    /// handshake, stops, parks, or detaches, and a phase ends or events are taken; a cycle has
    /// several such moments. If a thread loses time for 0.4 s without one of them and without
    /// allocating a new block, entries are dropped and counted with the events that did not fit.
    ///
    /// ```
    /// use gc_heap::{Event, Heap, AllocSize, LossKind, Slot, Stress, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Node { next: Slot<Option<Node>> }
    ///
    /// let stress = Stress { cycle_every: u32::MAX, ..Stress::default() }; // moves what can be moved in every cycle
    /// let heap = Heap::builder().max_bytes(16 << 20).stress(stress).record_losses(true).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let list = m.build::<Option<Node>>(AllocSize::NONE, |_| None)?;
    ///     for _ in 0..10_000 {
    ///         let m = m.reserve(AllocSize::of::<Node>())?;
    ///         list.set(m, Some(m.place(NodeInit { next: list.get(m) })));
    ///     }
    ///     m.collect();
    ///     let mut node = list.get(m);
    ///     while let Some(n) = node {
    ///         node = n.next.get(m);
    ///     }
    ///     Ok(())
    /// })??;
    /// let (events, lost) = heap.take_events();
    /// let slow_paths = events.iter().map(|event| match event {
    ///     Event::Loss(loss) if loss.kind == LossKind::SlowPaths => loss.count,
    ///     _ => 0,
    /// });
    /// assert_eq!(slow_paths.sum::<u64>() + lost, heap.slow_paths().count);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "losses")]
    pub fn record_losses(mut self, record: bool) -> Self {
        self.config.record_losses = record;
        self
    }

    /// How long the collector waits for a mutator that reaches no safepoint before it reports it:
    /// by an event ([`Event::Late`]) and a probe for each such mutator, and again each time the
    /// wait has doubled. Default: 100 ms; minimum: 1 ms; `Duration::MAX` for never. Costs nothing
    /// as long as no mutator is late.
    ///
    /// ```
    /// use gc_heap::{Event, Heap};
    /// use std::time::Duration;
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).late_after(Duration::from_millis(5)).build()?;
    /// std::thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
    ///     let collector = heap.enter(|m| {
    ///         let waiting = scope.spawn(|| heap.collect());
    ///         // Waits outside of `blocking`: nobody else can go on.
    ///         loop {
    ///             std::thread::sleep(Duration::from_millis(1));
    ///             let (events, _) = heap.take_events();
    ///             if let Some(late) = events.iter().find_map(|event| if let Event::Late(late) = event { Some(late) } else { None }) {
    ///                 println!("{:?} has waited {} ms for {}: {}", late.kind, late.total_ns / 1_000_000, late.who, late.state);
    ///                 assert!(late.total_ns >= 5_000_000);
    ///                 break;
    ///             }
    ///         }
    ///         m.safepoint();
    ///         waiting
    ///     })?;
    ///     collector.join().expect("the cycle goes on");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn late_after(mut self, waited: Duration) -> Self {
        self.config.late_after = waited.max(MIN_LATE_AFTER);
        self
    }

    /// Calls `listener` for every event. May be used several times; each listener receives all
    /// events. A heap with listeners keeps no record:
    /// [`Heap::take_events`](crate::Heap::take_events) returns nothing.
    ///
    /// - Pauses, phases and cycles are reported on the collector thread, at the end of each phase
    ///   and cycle, in the order in which they ended. No mutator is stopped then. All events of a
    ///   cycle have been reported when [`Heap::collect`](crate::Heap::collect) for it returns.
    /// - Losses are reported there, too, with a delay: after their threads have published them,
    ///   which each does at least once per cycle.
    /// - A stall is reported at its end on the thread that stalled, while that counts as parked: no
    ///   pause waits for it.
    /// - A late mutator is reported while a pause waits for it, on a separate thread that the pause
    ///   does not wait for; if a listener is slow, the next such event is reported after the pause.
    /// - So a listener may be called by several threads at once, but never inside a pause, in a
    ///   signal handler, or under a lock of the heap.
    ///
    /// A slow listener delays the collector, and with it mutators that wait for memory. It cannot
    /// enter a heap (that is refused with
    /// [`EnterError::AlreadyEntered`](crate::EnterError::AlreadyEntered), and
    /// [`Heap::collect`](crate::Heap::collect) panics), and it must not wait for a thread that is
    /// inside this one, nor for a lock that such a thread may hold while it allocates. It should
    /// keep no [`Heap`](crate::Heap): a heap ends with its last handle. If that is dropped in a
    /// listener, the heap ends on the collector thread, when the current cycle is over. If a
    /// listener panics, the panic is caught, and the listener is not called any more.
    ///
    /// ```
    /// use gc_heap::{Event, Heap};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    ///
    /// let longest = Arc::new(AtomicU64::new(0));
    /// let for_listener = Arc::clone(&longest);
    /// let heap = Heap::builder()
    ///     .max_bytes(16 << 20)
    ///     .on_event(move |event| {
    ///         if let Event::Pause(pause) = event {
    ///             for_listener.fetch_max(pause.total_ns, Relaxed);
    ///         }
    ///     })
    ///     .build()?;
    /// heap.collect();
    /// assert!(longest.load(Relaxed) > 0);
    /// # Ok::<(), gc_heap::BuildError>(())
    /// ```
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.config.listeners.add(listener);
        self
    }
}
