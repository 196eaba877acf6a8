//! The cycle: what the collector does, phase by phase.
//!
//! There are four lists, and each is all there is to that kind of cycle: concurrent with the load
//! barrier, a young one with the load barrier, concurrent with the page barrier, and in one pause.
//! The phases are the same; a type,
//! [`Concurrent`] or [`Stopped`], says whether mutators run, and another, a [`Kind`], what the
//! cycle collects. `docs/cycle.md` explains each phase.

use super::aging::Survivors;
use super::by_flips::by_flips;
use super::evacuation_set::{self, EvacuationGoal};
use super::finalize::Watches;
#[cfg(feature = "census")]
use super::heap_walk;
use super::marking::{MarkResult, mark};
use super::pauses::{Concurrent, Pauses, Stopped};
use super::phase_report::PhaseReport;
use super::reclaim::{self, Left};
use super::relocation::{Relocated, by_load_barrier, in_pause, promote_in_place};
use crate::events::{PauseKind, Phase};
use crate::inner::HeapInner;
use crate::inner::effort::Collected;
use crate::inner::pending_pause::VmOperation;
use crate::space::pages::Pages;
use crate::space::{BLOCK_BYTES, Block};
use gc_core::sys::thread_cpu_time;
use std::cell::Cell;
use std::marker::PhantomData;
use std::time::Duration;

/// What a cycle has gained, and what it has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Yield {
    /// Blocks in which it has found nothing alive, and those that evacuation has gained.
    pub(super) freed: usize,
    /// Of those in which nothing is alive, the ones of young objects.
    pub(super) freed_young: usize,
    /// The collector's processor time.
    pub(super) spent: Duration,
    /// Bytes that it has marked, those of them in young blocks, and those that are young after it.
    pub(super) marked_bytes: u64,
    pub(super) young_bytes: u64,
    pub(super) stay_young_bytes: u64,
    /// Bytes that live in old objects after it.
    pub(super) old_bytes: u64,
    /// Blocks allocated for new objects before its mark start, ever, and in use at its end without
    /// those allocated since.
    pub(super) allocated_before: usize,
    pub(super) kept: usize,
}

/// What one cycle leaves to the next.
pub(crate) struct Cycles {
    /// Number of cycles so far.
    count: u64,
    /// Blocks with a forwarding table from the last relocation; of old objects, from the last whole
    /// one.
    forwarded: Vec<Block>,
    /// Bytes that live in old objects, as far as is known: those found by the last whole marking,
    /// and those promoted since.
    old_bytes: u64,
    /// What the last cycle has gained.
    pub(super) yielded: Yield,
    watches: Watches,
    /// For the stress mode.
    random: Cell<u64>,
}

impl Cycles {
    pub(super) fn new(seed: u64) -> Cycles {
        let watches = Watches::default();
        let (forwarded, yielded) = Default::default();
        Cycles { count: 0, forwarded, old_bytes: 0, yielded, watches, random: Cell::new(seed) }
    }

    /// The number of the cycle that begins next.
    pub(super) fn next(&self) -> u64 {
        self.count + 1
    }
}

/// What a cycle collects: a type, as each list of phases is of one kind.
pub(super) trait Kind {
    /// Whether it collects young objects alone.
    const IS_YOUNG: bool;

    /// Drops the forwarding that the marking of this kind has made needless: `blocks` are those of
    /// the last relocation.
    fn drop_forwarding(inner: &HeapInner, blocks: &mut Vec<Block>);
}

/// All that was allocated before mark start. Its marking visits every reachable slot, so none is
/// stale at its end.
pub(super) struct Whole;

impl Kind for Whole {
    const IS_YOUNG: bool = false;

    fn drop_forwarding(inner: &HeapInner, blocks: &mut Vec<Block>) {
        inner.drop_forwarding(blocks.drain(..));
    }
}

/// Of that, the young objects. Its marking visits the roots, the remembered slots, and the slots of
/// reachable young objects, so no reachable slot holds a stale word of a young object at its end.
pub(super) struct Young;

impl Kind for Young {
    const IS_YOUNG: bool = true;

    fn drop_forwarding(inner: &HeapInner, blocks: &mut Vec<Block>) {
        inner.drop_young_forwarding(blocks);
    }
}

/// A cycle that runs: whether mutators run meanwhile, and what it collects.
pub(super) struct Cycle<'a, P, K> {
    inner: &'a HeapInner,
    report: PhaseReport<'a, P>,
    goal: EvacuationGoal,
    forwarded: &'a mut Vec<Block>,
    old_bytes: &'a mut u64,
    yielded: &'a mut Yield,
    watches: &'a mut Watches,
    marked: MarkResult,
    survivors: Survivors,
    relocated: Relocated,
    left: Left,
    /// The collector's processor time before the cycle.
    used_before: Duration,
    #[cfg(feature = "census")]
    walks: Vec<std::sync::Arc<crate::inner::heap_walk::Request>>,
    _kind: PhantomData<K>,
}

impl<'a> Cycle<'a, Concurrent<'a>, Whole> {
    /// Concurrent, with the load barrier.
    pub(super) fn with_load_barrier(mut self) {
        self.mark_start();
        self.mark();
        self.resolve_weak();
        self.finalize();
        self.drop_forwarding();
        self.free_dead();
        self.walk_heap();
        self.relocate_by_load_barrier();
        self.clear_marks();
        self.end();
    }

    /// Concurrent, with the page barrier.
    pub(super) fn with_page_barrier(mut self, pages: &Pages) {
        self.mark_start();
        self.mark();
        self.resolve_weak();
        self.finalize();
        self.drop_forwarding();
        self.free_dead();
        self.walk_heap();
        self.relocate_by_flips(pages);
        self.clear_marks();
        self.end();
    }
}

impl<'a> Cycle<'a, Concurrent<'a>, Young> {
    /// Concurrent, with the load barrier: what has aged is promoted where it stands, if that pays.
    pub(super) fn young(mut self) {
        self.mark_start();
        self.mark();
        self.resolve_weak();
        self.finalize();
        self.drop_forwarding();
        self.free_dead();
        self.promote();
        self.clear_marks();
        self.end();
    }

    fn promote(&mut self) {
        let promotion_pays = self.promotion_pays();
        self.relocated = promote_in_place(&mut self.report, promotion_pays);
    }
}

impl<'a> Cycle<'a, Stopped<'a>, Whole> {
    /// In one pause, whatever the barrier: a collection that stops the world, and a compaction.
    pub(super) fn in_a_pause(mut self) {
        self.mark_start();
        self.mark();
        self.resolve_weak();
        self.finalize();
        self.drop_forwarding();
        self.free_dead();
        self.walk_heap();
        self.relocate_in_pause();
        self.clear_marks();
        self.end();
    }
}

/// The phases that need to know whether mutators run.
impl<'a, K: Kind> Cycle<'a, Concurrent<'a>, K> {
    fn relocate_by_load_barrier(&mut self) {
        let lasting_bytes = self.lasting_bytes();
        let promotion_pays = self.promotion_pays();
        self.relocated = by_load_barrier(&mut self.report, self.goal, lasting_bytes, promotion_pays);
    }

    fn relocate_by_flips(&mut self, pages: &Pages) {
        let lasting_bytes = self.lasting_bytes();
        self.relocated = by_flips(&mut self.report, pages, self.goal, lasting_bytes);
    }
}

impl<'a, K: Kind> Cycle<'a, Stopped<'a>, K> {
    fn relocate_in_pause(&mut self) {
        let lasting_bytes = self.lasting_bytes();
        let promotion_pays = self.promotion_pays();
        self.relocated = in_pause(&mut self.report, self.goal, lasting_bytes, promotion_pays);
    }
}

/// The phases that do not.
impl<'a, P: Pauses<'a>, K: Kind> Cycle<'a, P, K> {
    fn lasting_bytes(&self) -> u64 {
        evacuation_set::lasting_bytes(self.inner, self.marked.live_bytes)
    }

    /// Whether what has aged is worth a flip.
    fn promotion_pays(&mut self) -> bool {
        let Some(generations) = &self.inner.memory.generations else { return false };
        self.survivors = Survivors::of(self.inner);
        let object_bytes = self.marked.live_bytes as f64 / self.marked.objects.max(1) as f64;
        generations.promotes_at_once() || self.survivors.pay_for_a_flip(object_bytes, self.marked.roots)
    }

    /// What has to be done before the snapshot.
    pub(super) fn begin(pauses: P, cycles: &'a mut Cycles, goal: EvacuationGoal) -> Cycle<'a, P, K> {
        let inner = pauses.inner();
        let Cycles { count, forwarded, old_bytes, yielded, watches, random } = cycles;
        *count += 1;
        let used_before = thread_cpu_time();
        // What old objects keep outside the heap is not looked at by a young cycle.
        if !K::IS_YOUNG {
            inner.schedule.external.cycle_begins();
        }
        // No censuses during stop-the-world compaction, nor by a part of the heap.
        #[cfg(feature = "census")]
        let walks = if !goal.is_compaction() && !K::IS_YOUNG { heap_walk::requests(inner) } else { Vec::new() };
        // Roots dropped before mark start are not traced.
        reclaim::reclaim_dropped_roots(inner);
        // Uncommit stack memory that was not needed since the last marking. No page is gated.
        let stacks = inner.roots.stacks.lock().clone();
        stacks.iter().for_each(|stack| stack.give_back(&inner.memory.views));
        drop(stacks);
        Cycle {
            inner,
            report: PhaseReport::begin(pauses, *count, random),
            goal,
            forwarded,
            old_bytes,
            yielded,
            watches,
            marked: MarkResult::default(),
            survivors: Survivors::default(),
            relocated: Relocated::default(),
            left: Left::default(),
            used_before,
            #[cfg(feature = "census")]
            walks,
            _kind: PhantomData,
        }
    }

    fn mark_start(&mut self) {
        self.yielded.allocated_before = self.inner.memory.free.allocated();
        let op = if K::IS_YOUNG { VmOperation::YoungMarkStart } else { VmOperation::MarkStart };
        self.report.pauses.run(op, PauseKind::MarkStart);
    }

    /// Ends with mark end.
    fn mark(&mut self) {
        self.marked = mark(self.report.pauses);
        self.report.ended(Phase::Mark);
    }

    fn resolve_weak(&mut self) {
        reclaim::resolve_weak(self.inner, &std::mem::take(&mut self.marked.weak));
        reclaim::resolve_pairs(self.inner, &self.marked.waiting);
        reclaim::resolve_remembered(self.inner);
        self.inner.world.phase.set_resolving(false);
        self.report.pauses.handshake(); // each mutator stops resolving; no weak load is in flight
    }

    fn finalize(&mut self) {
        let finalized = self.watches.finalize(self.inner);
        self.inner.report.counters.finalized.add(finalized.revived);
        self.inner.report.counters.released.add(finalized.released);
        self.marked.live_bytes += finalized.live_bytes;
        let old_bytes = if K::IS_YOUNG { *self.old_bytes } else { 0 };
        // Of the old objects it is known only what was live, and no object is in a block that is
        // free.
        let live_bytes = (old_bytes + self.marked.live_bytes).min(self.inner.memory.used_bytes() as u64);
        self.inner.memory.free.set_live_bytes(live_bytes);
    }

    /// No reachable slot is stale any more, and no thread resolves a weak one.
    fn drop_forwarding(&mut self) {
        K::drop_forwarding(self.inner, self.forwarded);
    }

    fn free_dead(&mut self) {
        self.inner.schedule.throttle.end();
        reclaim::retire_parked_tlabs(self.inner);
        let (freed, old) = reclaim::free_dead(self.inner);
        (self.yielded.freed, self.yielded.freed_young) = (freed, freed - old);
        reclaim::reclaim_dropped_roots(self.inner);
        self.report.ended(Phase::Reclaim);
    }

    /// Answers requests for a census.
    fn walk_heap(&mut self) {
        #[cfg(feature = "census")]
        heap_walk::answer(self.inner, &self.walks);
    }

    /// For the next cycle.
    fn clear_marks(&mut self) {
        self.left = reclaim::clear_marks(self.inner);
    }

    fn end(self) {
        let inner = self.inner;
        // Of before there are those alone that this cycle has left: of old objects, in a young one.
        self.forwarded.extend(self.relocated.forwarded);
        // What is copied is old; what is promoted where it stands is in old blocks by now.
        let old_bytes = self.left.old_bytes + self.relocated.copied_bytes;
        *self.old_bytes = if K::IS_YOUNG { *self.old_bytes } else { 0 } + old_bytes;
        if let Some(generations) = &inner.memory.generations {
            generations.set_has_old(self.left.has_old);
        }
        let used = thread_cpu_time().saturating_sub(self.used_before) + inner.schedule.helpers.take_used();
        let allocated = inner.memory.free.allocated() - self.yielded.allocated_before;
        *self.yielded = Yield {
            freed: self.yielded.freed + self.relocated.gained,
            spent: used,
            marked_bytes: self.marked.live_bytes,
            young_bytes: self.survivors.bytes,
            stay_young_bytes: self.marked.live_bytes.saturating_sub(old_bytes),
            old_bytes: *self.old_bytes,
            kept: (inner.memory.used_bytes() / BLOCK_BYTES).saturating_sub(allocated),
            ..*self.yielded
        };
        // Threads that wait for memory ask for whole cycles, so a young one says nothing of whether
        // collecting is in vain.
        if !K::IS_YOUNG {
            inner.schedule.effort.collected(Collected {
                collecting: used,
                taken: inner.memory.free.allocated(),
                compacted: self.goal.is_compaction() || self.relocated.compacted,
                gained: self.relocated.gained,
                scattered: self.left.scattered / BLOCK_BYTES,
            });
        }
        // Counted together, the cycle first: no reader sees more relocations than cycles.
        inner.report.counters.cycles.add(1);
        inner.report.counters.young_cycles.add(u64::from(K::IS_YOUNG));
        inner.report.counters.relocations.add(u64::from(self.relocated.relocated));
        inner.report.counters.compactions.add(u64::from(self.relocated.compacted));
    }
}
