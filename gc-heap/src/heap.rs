//! The public handle of a heap.

mod choice;
mod memory;

use crate::active::is_inside;
use crate::collector::driver::Collector;
use crate::collector::ways::Way;
use crate::config::{Config, HeapBuilder, HugePages};
use crate::error::{BuildError, EnterError};
use crate::events::{Event, LossKind};
use crate::inner::HeapInner;
use crate::inner::handle::ENDING;
pub use crate::inner::handle::Heap;
use crate::mutator::Mutator;
use crate::mutator::enter::HeapThread;
use crate::refused::Refusals;
use crate::space::BLOCK_BYTES;
use crate::stats::{Durations, HeapStats, LossTotal, LossTotals, Pauses, SlowPaths};
use crate::warning::BuildWarning;
use choice::{Choice, choose};
use gc_core::views::HUGE_PAGE;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

impl Heap {
    /// A builder with default options.
    pub fn builder() -> HeapBuilder {
        HeapBuilder::default()
    }

    pub(crate) fn start(config: Config, mut warnings: Vec<BuildWarning>) -> Result<Heap, BuildError> {
        let Choice { views, roots, relocation, way, warning } = choose(&config)?;
        warnings.extend(warning);
        warnings.extend(crate::config::warnings::huge_pages(&config));
        match config.huge_pages {
            HugePages::Advise => views.advise_huge().map_err(|error| BuildError::HugePages(Box::new(error)))?,
            // Refused by a kernel that has small pages only.
            HugePages::Never => drop(views.prevent_huge()),
            HugePages::Collapse | HugePages::Background => {}
        }
        let inner = Arc::new(HeapInner::new(config, views, roots, relocation)?);
        let faults = inner.relocation.serve_faults(&inner)?;
        warnings.extend(inner.prepare()?);
        let for_collector = Arc::clone(&inner);
        let thread = gc_core::sys::spawn_thread(format!("{}-gc", inner.config.name), move || {
            collect_until_shutdown(&for_collector, way);
            drop(for_collector);
            drop(ENDING.take());
        });
        let collector = thread.map_err(BuildError::Thread)?;
        Ok(Heap::new(inner, collector, faults, warnings))
    }

    /// Attaches this thread, runs `f` inside the heap, and detaches. Waits while a pause is in
    /// progress.
    ///
    /// # Errors
    /// [`EnterError::AlreadyEntered`] if this thread is inside a heap and not in
    /// [`Mutator::blocking`]; [`EnterError::NoAddressSpace`], [`EnterError::System`];
    /// [`EnterError::Forked`] in a child made by `fork`.
    pub fn enter<R>(&self, f: impl for<'m, 's> FnOnce(&'m mut Mutator<'s>) -> R) -> Result<R, EnterError> {
        self.thread()?.enter(f)
    }

    /// Attaches this thread, for many [`HeapThread::enter`]s. Waits while a pause is in progress.
    ///
    /// # Errors
    /// [`EnterError::AlreadyEntered`] if this thread is inside a heap and not in
    /// [`Mutator::blocking`]; [`EnterError::System`]; [`EnterError::NoAddressSpace`], with
    /// [`Barrier::Page`](crate::Barrier::Page) if 131,072 are attached; [`EnterError::Forked`] in a
    /// child made by `fork`.
    pub fn thread(&self) -> Result<HeapThread, EnterError> {
        HeapThread::attach(self)
    }

    /// Runs a whole cycle that begins after the call, and waits for it. For threads that are not
    /// inside a heap; threads inside call [`Mutator::collect`].
    ///
    /// # Panics
    /// If this thread is inside a heap: the cycle would wait for it for ever. If the collector has
    /// failed, by then or in this cycle. If this process is a child made by `fork`: it has no
    /// collector.
    pub fn collect(&self) {
        assert!(!is_inside(), "Heap::collect from inside a heap: call Mutator::collect");
        self.inner().check_process();
        self.inner().collect();
        self.inner().check_collector();
    }

    /// The current counters and sizes. Takes a lock briefly; for any thread, inside a heap or not.
    ///
    /// In a child made by `fork` they are of the `fork`, and no lock is waited for. If a thread of
    /// the parent was just changing the sizes in blocks, they may lack a part of that one change,
    /// and still keep the order that [`HeapStats`] promises.
    ///
    /// ```
    /// let heap = gc_heap::Heap::builder().max_bytes(16 << 20).build()?;
    /// let before = heap.stats();
    /// heap.collect();
    /// let after = heap.stats();
    /// assert_eq!(after.cycles, before.cycles + 1);
    /// assert!(after.used_bytes <= after.max_bytes && after.committed_bytes <= after.committed_peak_bytes);
    /// # Ok::<(), gc_heap::BuildError>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> HeapStats {
        let inner = self.inner();
        let counters = &inner.report.counters;
        let blocks = inner.memory.free.figures_in(inner.process);
        // Before the cycles that they are counted after; and once, for the sum that they are a part
        // of.
        let (relocations, compactions) = (counters.relocations.get(), counters.compactions.get());
        let young_cycles = counters.young_cycles.get();
        let pages = inner.relocation.figures();
        let marked_by_helpers = counters.marked_by_helpers.get();
        HeapStats {
            max_bytes: inner.config.max_bytes,
            soft_max_bytes: inner.schedule.soft_max.bytes(),
            used_bytes: blocks.used * BLOCK_BYTES,
            committed_bytes: blocks.committed * BLOCK_BYTES,
            committed_peak_bytes: blocks.committed_peak * BLOCK_BYTES,
            uncommitted_bytes: blocks.given_back as u64 * BLOCK_BYTES as u64,
            huge_bytes: blocks.huge * HUGE_PAGE,
            huge_pages_made: counters.huge_pages_made.get(),
            huge_pages_refused: counters.huge_pages_refused.get(),
            allocated_bytes: blocks.taken as u64 * BLOCK_BYTES as u64,
            cycles: counters.cycles.get(),
            young_cycles,
            relocations,
            compactions,
            marked_objects: counters.marked_objects.get(),
            marked_by_helpers,
            mark_stack_peak_bytes: counters.mark_stack_peak.get(),
            mark_overflows: counters.mark_overflows.get(),
            mark_lists_peak_bytes: counters.mark_lists_peak.get(),
            forwarding_peak_bytes: inner.memory.forwarding_peak_bytes() as u64,
            live_bytes: blocks.live_bytes,
            collector_copies: counters.collector_copies.get(),
            mutator_copies: counters.mutator_copies.get(),
            large_objects_moved: counters.large_objects_moved.get(),
            large_bytes_moved: counters.large_bytes_moved.get(),
            kept_in_place: counters.kept_in_place.get(),
            healed: counters.healed.get(),
            logged: counters.logged.get(),
            mark_end_retries: counters.mark_end_retries.get(),
            ephemeron_passes: counters.ephemeron_passes.get(),
            ephemerons_cleared: counters.ephemerons_cleared.get(),
            finalized: counters.finalized.get(),
            released: counters.released.get(),
            throttled: counters.throttled.get(),
            stalls: counters.stalls.get(),
            plans_abandoned: counters.plans_abandoned.get(),
            pinned_blocks: counters.pinned_blocks.get(),
            pages_repaired: counters.pages_repaired.get() + pages.by_mutators,
            pages_repaired_by_mutators: pages.by_mutators,
            page_waits: pages.waits,
            verified_slots: counters.verified_slots.get(),
            losses: LossTotals::of(|kind| self.loss_total(kind, pages.faults), inner.report.losses.fault_kernel_ns()),
        }
    }

    fn loss_total(&self, kind: LossKind, faults: LossTotal) -> LossTotal {
        let report = &self.inner().report;
        let sampled = |timed, count| LossTotal::of_sampled(timed, count, report.losses.sampled_ns(kind));
        match kind {
            LossKind::Faults => faults,
            LossKind::SlowPaths => sampled(report.slow_paths.total(), report.counters.slow_paths.get()),
            LossKind::Stores => sampled(report.stores.total(), report.counters.stores.get()),
            LossKind::Refills => sampled(report.losses.total(kind), report.counters.refills.get()),
            _ => report.losses.total(kind),
        }
    }

    /// The delays of mutators by one cause, since the heap was built, whether it records losses or
    /// not: [`LossKind`] says what is in them. Of slow paths of loads and stores and of refills
    /// those that were timed; of faults the time in the signal handler. Nothing but faults and slow
    /// paths without the feature `losses`.
    ///
    /// ```
    /// use gc_heap::{AllocSize, Heap, LossKind, SlotArray, Value};
    ///
    /// type Vector = SlotArray<gc_heap::Tagged>;
    /// let heap = Heap::builder().max_bytes(64 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     m.reserve(AllocSize::tail::<Vector>(1 << 20))?.place_array::<Vector>((), 1 << 20, Value::NIL);
    ///     Ok(())
    /// })??;
    /// for kind in LossKind::ALL {
    ///     let of = heap.loss_durations(kind);
    ///     println!("{kind}: {} times, {} ns, longest {} ns", of.count, of.sum_ns, of.max_ns);
    /// }
    /// # if cfg!(feature = "losses") {
    /// assert!(heap.loss_durations(LossKind::Zeroing).count >= 8, "8 MiB in slices of one");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn loss_durations(&self, kind: LossKind) -> Durations {
        let report = &self.inner().report;
        match kind {
            LossKind::Faults => self.faults(),
            LossKind::SlowPaths => report.slow_paths.durations(),
            LossKind::Stores => report.stores.durations(),
            _ => report.losses.durations(kind),
        }
    }

    /// The faults that mutators have served, with [`Barrier::Page`](crate::Barrier::Page):
    /// durations in the signal handler, without the 1 to 2 us that the kernel takes before and
    /// after it.
    #[must_use]
    pub fn faults(&self) -> Durations {
        self.inner().relocation.fault_durations()
    }

    /// The slow paths of loads that mutators took, with every barrier but
    /// [`Barrier::Page`](crate::Barrier::Page): loads of a stale slot, which look up the object's
    /// place, copy it if no thread has, and heal the slot. All are counted, as of each thread's
    /// last safepoint; one in 16 of each thread's is timed.
    ///
    /// ```
    /// use gc_heap::{Heap, AllocSize, Slot, Stress, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Node { next: Slot<Option<Node>> }
    ///
    /// // Moves what can be moved in every cycle.
    /// let stress = Stress { cycle_every: u32::MAX, ..Stress::default() };
    /// let heap = Heap::builder().max_bytes(16 << 20).stress(stress).build()?;
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
    /// let slow = heap.slow_paths();
    /// assert!(slow.count > 0 && slow.timed.count <= slow.count);
    /// println!("{} slow paths, half of them within {} ns", slow.count, slow.timed.quantile(0.5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn slow_paths(&self) -> SlowPaths {
        let inner = self.inner();
        let timed = inner.report.slow_paths.durations();
        // Slow paths timed since a thread's last safepoint are among those that it has not
        // published yet.
        SlowPaths { count: inner.report.counters.slow_paths.get().max(timed.count), timed }
    }

    /// Histograms of the pauses since the heap was built: the whole pause, the time to the
    /// safepoint, and the pause without it. A pause concerns all threads inside the heap. The three
    /// histograms contain the same pauses. Takes a lock for some microseconds, for which the
    /// collector may wait between two phases.
    ///
    /// In a child made by `fork` they are of the `fork`; empty if the lock is held there: by a
    /// thread of the parent when the child was made, or by another thread of the child now.
    ///
    /// ```
    /// let heap = gc_heap::Heap::builder().max_bytes(16 << 20).build()?;
    /// for _ in 0..10 {
    ///     heap.collect();
    /// }
    /// let pauses = heap.pauses();
    /// assert!(pauses.total.count >= 10 && pauses.stopped.count == pauses.total.count);
    /// for (name, times) in [("whole", &pauses.total), ("to the safepoint", &pauses.reach), ("stopped", &pauses.stopped)] {
    ///     let [half, most] = [0.5, 0.99].map(|share| times.quantile(share));
    ///     println!("{name}: half within {half} ns, 99 % within {most}, the longest {}", times.max_ns);
    /// }
    /// # Ok::<(), gc_heap::BuildError>(())
    /// ```
    #[must_use]
    pub fn pauses(&self) -> Pauses {
        let inner = self.inner();
        inner.report.pauses.lock_in(inner.process).map(|pauses| pauses.pauses()).unwrap_or_default()
    }

    /// Takes the events since the last call, and the number of those that did not fit the record;
    /// losses that did not fit count one by one. Where memory is too short to give all at once, it
    /// gives some, and the next calls the others, in their order. No events if the heap has
    /// listeners ([`HeapBuilder::on_event`]). Takes locks briefly; for any thread.
    ///
    /// A child made by `fork` has a copy of the record, which it may take once, as the parent may;
    /// of locks that are held there as for [`pauses`](Self::pauses), what they guard is not in the
    /// result: all events, or losses that no earlier call and no cycle had gathered.
    ///
    /// ```
    /// use gc_heap::{Event, Heap};
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.collect();
    /// // A bounded buffer: drain it often or events are dropped. Each event is returned once.
    /// let (events, lost) = heap.take_events();
    /// let pauses = events.iter().filter_map(|event| match event {
    ///     Event::Pause(pause) => Some(pause),
    ///     _ => None,
    /// });
    /// let longest = pauses.max_by_key(|pause| pause.total_ns).expect("a cycle stops the mutators, if there are none, too");
    /// println!("{}: {} us, reached in {} us", longest.kind, longest.total_ns / 1000, longest.reach_ns / 1000);
    /// assert_eq!((lost, heap.take_events().0.len()), (0, 0));
    /// # Ok::<(), gc_heap::BuildError>(())
    /// ```
    #[must_use]
    pub fn take_events(&self) -> (Vec<Event>, u64) {
        self.inner().gather_losses();
        self.inner().report.events.take()
    }

    /// Nanoseconds since the heap was built: the clock of its events.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.inner().report.events.now()
    }

    /// The refused system calls of the collector. That for its time slice is made when its thread
    /// begins, which may be after [`build`](crate::HeapBuilder::build). Takes a lock briefly; for
    /// any thread, inside a heap or not. In a child made by `fork` as for
    /// [`pauses`](Self::pauses): those until the `fork`, or none.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        let inner = self.inner();
        inner.report.refusals.0.lock_in(inner.process).map(|refusals| *refusals).unwrap_or_default()
    }

    /// What [`build`](crate::HeapBuilder::build) had to say of this heap. It is for the program to
    /// print it, or not.
    ///
    /// ```
    /// let heap = gc_heap::Heap::builder().max_bytes(16 << 20).build()?;
    /// for warning in heap.warnings() {
    ///     eprintln!("warning: {warning}");
    /// }
    /// # Ok::<(), gc_heap::BuildError>(())
    /// ```
    #[must_use]
    pub fn warnings(&self) -> &[BuildWarning] {
        self.build_warnings()
    }
}

impl HeapBuilder {
    /// Builds the heap and starts its collector threads. May take long with
    /// [`pretouch`](Self::pretouch): some microseconds a page. [`check`](Self::check) refuses the
    /// same options without building anything. [`Heap::warnings`] has what a heap that was built
    /// has less of, or is too large for.
    pub fn build(self) -> Result<Heap, BuildError> {
        let (config, warnings) = self.checked()?;
        Heap::start(config, warnings)
    }
}

/// The time slice that the collector requests: a mutator that wakes up gets the processor after
/// this, not after about 3 ms.
const COLLECTOR_SLICE: Duration = Duration::from_micros(100);

fn collect_until_shutdown(inner: &Arc<HeapInner>, way: Box<dyn Way>) {
    // If the kernel refuses, mutators wait longer for a processor while a cycle runs; nothing else
    // changes.
    let _ = gc_core::sys::set_thread_slice(COLLECTOR_SLICE).map_err(|error| inner.report.refusals.note(error));
    let outcome = catch_unwind(AssertUnwindSafe(|| Collector::new(Arc::clone(inner), way).run()));
    if let Err(panic) = outcome {
        let why = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panicked".to_owned());
        inner.schedule.requests.fail(why.clone());
        inner.memory.free.wake_all();
        // Told without the lock: each has its own.
        let sinks = inner.roots.targets.lock().clone();
        sinks.iter().for_each(|sink| sink.fail(&why));
        drop(sinks);
        inner.report.events.deliver();
    }
    if inner.schedule.requests.is_shut() {
        // These mutators get no further safepoint request; later ones find the failure when they
        // enter.
        inner.world.mutators.lock().iter().for_each(|record| record.request_safepoint());
    }
}

impl HeapInner {
    /// # Panics
    /// In a child made by `fork`: it shares the heap's file with the parent, and has no collector
    /// to wait for.
    pub(crate) fn check_process(&self) {
        assert!(self.process.is_current(), "a child made by `fork` used the heap of its parent");
    }

    /// # Panics
    /// If the collector has failed: the request is not done.
    #[inline]
    pub(crate) fn check_collector(&self) {
        if self.schedule.requests.is_shut() {
            self.check_failure();
        }
    }

    #[cold]
    fn check_failure(&self) {
        if let Some(why) = self.schedule.requests.failure() {
            panic!("the collector has failed: {why}");
        }
    }

    /// What building a heap does to its memory.
    fn prepare(&self) -> Result<Option<BuildWarning>, BuildError> {
        // Of the offsets, where there are more, the lowest have memory.
        let bytes = self.config.max_bytes;
        if self.config.single_view && self.relocation.heals_slots() {
            let hide = |view| self.memory.views.protect_view(view, false);
            self.views_of(self.next_good())
                .try_for_each(hide)
                .map_err(|error| BuildError::SingleView(Box::new(error)))?;
        }
        if self.config.huge_pages == HugePages::Background {
            self.memory.free.track_chunks()?;
        }
        if self.config.pretouch {
            self.memory.views.populate(0, bytes).map_err(|error| BuildError::Populate(Box::new(error)))?;
            self.memory.free.all_committed();
            if self.config.huge_pages == HugePages::Collapse {
                let in_use =
                    self.memory.views.collapse(0, bytes).map_err(|error| BuildError::HugePages(Box::new(error)))?;
                if in_use.is_none() {
                    self.memory.free.track_chunks()?;
                    self.memory.free.all_huge();
                }
                return Ok(in_use.map(BuildWarning::SmallPages));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
