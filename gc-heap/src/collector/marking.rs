//! The marking of a cycle, from mark start to mark end: drains the markers' stacks and the
//! mutators' logs until there is nothing left, with the help of the other collector threads.

use super::mark::Marker;
use super::mark_queue::SharedMarkQueue;
use super::pair_blocks::Passes;
use super::pauses::Pauses;
use super::roots::Roots;
use crate::events::PauseKind;
use crate::inner::HeapInner;
use crate::inner::pending_pause::VmOperation;
use crate::space::Offset;
use gc_core::ephemeron::PendingEphemerons;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

/// Maximum number of stacks whose memory above the top is uncommitted in a cycle, so that the pause
/// does not depend on the number of stacks.
const WIDE_STACKS: usize = 64;

/// Result of marking.
#[derive(Default)]
pub(super) struct MarkResult {
    /// Weak slots, by offset: a list of each marker. The others are found by `Memory::weak_blocks`.
    pub(super) weak: Vec<Vec<Offset>>,
    /// Ephemerons whose key has no mark. The others are found by `Memory::pair_blocks`.
    pub(super) waiting: PendingEphemerons,
    pub(super) live_bytes: u64,
    pub(super) objects: u64,
    /// Slots outside of objects, as of mark start.
    pub(super) roots: usize,
}

/// Results of the helper markers.
#[derive(Default)]
struct HelperResults {
    weak: Vec<Vec<Offset>>,
    pairs: Vec<Vec<Offset>>,
    objects: u64,
    bytes: u64,
}

/// Marks until mark end succeeds.
pub(super) fn mark<'a>(pauses: impl Pauses<'a>) -> MarkResult {
    let inner = pauses.inner();
    let stacks = inner.roots.stacks.lock().clone();
    *inner.roots.wide_stacks.lock() = stacks.into_iter().filter(|stack| stack.is_wide()).take(WIDE_STACKS).collect();
    match inner.config.workers {
        0 | 1 => mark_with::<false>(pauses, 1),
        workers => mark_with::<true>(pauses, workers),
    }
}

fn mark_with<'a, const MANY: bool>(pauses: impl Pauses<'a>, workers: usize) -> MarkResult {
    let inner = pauses.inner();
    let shared = SharedMarkQueue::new(inner, workers, Roots::of(inner));
    let mut marking = Marking::<MANY> {
        inner,
        shared: &shared,
        workers,
        marker: Marker::new(inner, &shared),
        helpers: Mutex::new(HelperResults::default()),
        passes: Passes::default(),
    };
    marking.marker.visit_remembered();
    marking.drain();
    loop {
        marking.drain_logs();
        pauses.handshake();
        marking.drain_logs();
        if pauses.run(VmOperation::MarkEnd, PauseKind::MarkEnd) {
            break;
        }
        inner.report.counters.mark_end_retries.add(1);
    }
    let (weak, objects, live_bytes) = marking.finish();
    let roots = shared.roots.slots();
    MarkResult { weak, waiting: shared.waiting, live_bytes, objects, roots }
}

/// A marking that goes on. `MANY`: helpers mark too.
struct Marking<'p, const MANY: bool> {
    inner: &'p HeapInner,
    shared: &'p SharedMarkQueue<'p>,
    workers: usize,
    marker: Marker<'p, MANY>,
    helpers: Mutex<HelperResults>,
    passes: Passes,
}

impl<const MANY: bool> Marking<'_, MANY> {
    /// Takes the mutators' logs and marks what they lead to, until the logs are empty.
    fn drain_logs(&mut self) {
        while self.marker.take_logs() {
            self.drain();
        }
    }

    /// Marks everything reachable, ephemerons included: on return the keys of waiting pairs are not
    /// marked.
    fn drain(&mut self) {
        self.drain_slots();
        let helpers = self.helpers.get_mut().unwrap_or_else(PoisonError::into_inner);
        let found = || helpers.pairs.iter().chain([&self.marker.pairs]).map(Vec::capacity).sum::<usize>();
        if !self.marker.ephemeron_phase && (found() != 0 || self.shared.has_pair_blocks()) {
            self.inner.report.counters.ephemeron_passes.add(1);
            self.shared.pair_bytes.store(found() * size_of::<usize>(), Ordering::Relaxed);
            self.marker.start_ephemeron_phase(std::mem::take(&mut helpers.pairs));
            self.drain_slots();
        }
        let by_helpers = self.helpers.get_mut().unwrap_or_else(PoisonError::into_inner).objects;
        self.passes.run(&mut self.marker, by_helpers);
    }

    /// Drains with the help of the other collector threads, if there are any.
    fn drain_slots(&mut self) {
        let (inner, shared) = (self.inner, self.shared);
        let (marker, helpers) = (&mut self.marker, &self.helpers);
        if !MANY {
            return marker.drain_parallel(false);
        }
        shared.crew.begin(true);
        let ephemeron_phase = marker.ephemeron_phase;
        let help = || {
            if !shared.crew.join() {
                return;
            }
            let mut helper = Marker::<MANY>::new(inner, shared);
            helper.ephemeron_phase = ephemeron_phase;
            helper.drain_parallel(false);
            let mut results = helpers.lock().unwrap_or_else(PoisonError::into_inner);
            results.weak.push(std::mem::take(&mut helper.weak));
            results.pairs.push(std::mem::take(&mut helper.pairs));
            let (objects, bytes) = helper.count();
            results.objects += objects;
            results.bytes += bytes;
            helper.leave();
        };
        inner.schedule.helpers.run_with_helpers(self.workers, || marker.drain_parallel(true), help);
    }

    /// Counts what was marked. Returns the weak slots, and the live objects and their bytes.
    fn finish(mut self) -> (Vec<Vec<Offset>>, u64, u64) {
        let (mut objects, mut live_bytes) = self.marker.count();
        let helpers = self.helpers.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut weak = helpers.weak;
        weak.push(std::mem::take(&mut self.marker.weak));
        objects += helpers.objects;
        live_bytes += helpers.bytes;
        drop(self.marker);
        let (counters, shared) = (&self.inner.report.counters, self.shared);
        counters.marked_by_helpers.add(helpers.objects);
        counters.mark_stack_peak.set(counters.mark_stack_peak.get().max(shared.peak_bytes() as u64));
        counters.mark_overflows.add(shared.overflows.load(Ordering::Relaxed) as u64);
        let pairs = shared.pair_bytes.load(Ordering::Relaxed) + shared.waiting.bytes();
        let weak_bytes = weak.iter().map(|list| list.capacity() * size_of::<usize>()).sum::<usize>();
        let lists = (weak_bytes + pairs) as u64;
        counters.mark_lists_peak.set(counters.mark_lists_peak.get().max(lists));
        (weak, objects, live_bytes)
    }
}
