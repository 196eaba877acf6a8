//! The cycle: mark, reclaim, plan, relocate, on a thread of the collector's own.

pub(crate) mod ephemeron;
pub(crate) mod evacuation_set;
pub(crate) mod finalize;
pub(crate) mod flip;
#[cfg(feature = "census")]
pub(crate) mod heap_walk;
mod idle;
pub(crate) mod mark;
mod overflow;
pub(crate) mod pool;
pub(crate) mod reclaim;
pub(crate) mod relocate;
pub(crate) mod roots;
mod telemetry;
pub(crate) mod verify;

use crate::collector::flip::{FlipDecision, FlipPlan};
use crate::config::Barrier;
use crate::events::{PauseKind, Phase};
use crate::inner::HeapInner;
use crate::inner::control::Work;
use crate::inner::pending_pause::VmOperation;
use crate::roots::region::RootMemory;
use crate::space::BLOCK_BYTES;
use crate::space::pages::Pages;
use evacuation_set::EvacuationGoal;
use finalize::Watches;
use gc_core::sys::thread_cpu_time;
use idle::Idle;
use mark::Marker;
use pool::Pool;
use roots::Roots;
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use telemetry::CounterSnapshot;

/// Minimum time between two scans for memory to uncommit.
const CHORES: Duration = Duration::from_millis(500);

/// Blocks uncommitted at a time.
const UNCOMMIT_BATCH: usize = 256;

/// Maximum number of stacks whose memory above the top is uncommitted in a cycle, so that the pause
/// does not depend on the number of stacks.
const WIDE_STACKS: usize = 64;

/// Maximum number of plans in a cycle, if objects of the evacuation set are pinned again and again.
const MAX_PLAN_ATTEMPTS: usize = 3;

/// Maximum number of flips in a cycle, if there is little memory to copy to. Each gains at least
/// one block, and most gain half as much again as the one before.
const FLIPS: usize = 16;

/// Result of marking.
struct MarkResult {
    /// Weak slots, by offset.
    weak: Vec<usize>,
    /// Ephemerons whose key has no mark, by offset.
    dead_ephemerons: Vec<usize>,
    live_bytes: u64,
}

/// Results of the helper markers.
#[derive(Default)]
struct HelperResults {
    weak: Vec<usize>,
    pairs: Vec<usize>,
    objects: u64,
    bytes: u64,
}

/// The collector thread.
pub(crate) struct Collector {
    inner: Arc<HeapInner>,
    /// Blocks with a forwarding table from the last relocation.
    forwarded: Vec<usize>,
    watches: Watches,
    cycle: u64,
    reported: CounterSnapshot,
    /// Counters of the running cycle, added to the heap's when it ends.
    relocated: bool,
    compacted: bool,
    idle: Idle,
    /// Whether the next cycle is that of an idle heap.
    is_idle: bool,
    /// When the free space was last scanned for memory to uncommit.
    looked_for_idle: Instant,
    /// For the stress mode.
    random: Cell<u64>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.inner.schedule.helpers.end();
    }
}

impl Collector {
    pub(crate) fn new(inner: Arc<HeapInner>) -> Collector {
        let random = Cell::new(inner.config.stress.seed);
        let idle = Idle::new(inner.config.idle_after, inner.memory.blocks.len());
        Collector {
            inner,
            forwarded: Vec::new(),
            watches: Watches::default(),
            cycle: 0,
            reported: CounterSnapshot::default(),
            relocated: false,
            compacted: false,
            idle,
            is_idle: false,
            looked_for_idle: Instant::now(),
            random,
        }
    }

    /// Works until shutdown.
    pub(crate) fn run(&mut self) {
        let inner = Arc::clone(&self.inner);
        inner.pace_begins();
        loop {
            match inner.schedule.requests.wait_for_work(self.next_look()) {
                Work::Cycle => {
                    inner.pace_cycle_begins();
                    let begun = self.cycle_begins();
                    match inner.config.barrier {
                        Barrier::Load | Barrier::Page => self.cycle(false, EvacuationGoal::Reclaim),
                        Barrier::StopTheWorld => {
                            inner.hold(PauseKind::Collection, |_| self.cycle(true, EvacuationGoal::Reclaim));
                        }
                    }
                    inner.pace_cycle_ended();
                    let is_idle = std::mem::take(&mut self.is_idle);
                    self.idle.cycle_ended(inner.memory.free.allocated(), is_idle);
                    self.cycle_ended(begun);
                    inner.schedule.requests.cycle_finished();
                    if inner.schedule.external.is_due() {
                        // External memory added during the cycle did not request one; check again.
                        inner.schedule.requests.request_soon();
                    }
                    inner.memory.free.wake_all();
                    if is_idle && inner.config.uncommit_delay.is_some() {
                        inner.uncommit(Duration::ZERO);
                    }
                }
                Work::Compaction(run) => {
                    let begun = self.cycle_begins();
                    inner.hold(PauseKind::Compaction, |_| self.cycle(true, EvacuationGoal::Compact { runs: run > 1 }));
                    inner.report.counters.compactions.add(1);
                    // Nothing more can be freed: waiters may use all of it.
                    inner.memory.free.keep(0);
                    self.cycle_ended(begun);
                    inner.schedule.requests.compaction_finished();
                    inner.memory.free.wake_all();
                }
                Work::Idle => {
                    self.idle_work();
                    inner.gather_losses();
                }
                Work::Shutdown => return inner.report.events.deliver(),
            }
            inner.report.events.deliver();
            if inner.schedule.requests.is_shut() {
                return;
            }
        }
    }

    /// How long to wait for work: at most until memory may have to be uncommitted.
    fn next_look(&self) -> Duration {
        let uncommits = self.inner.config.uncommit_delay.filter(|_| self.inner.memory.free.free_committed() > 0);
        self.idle.wait(uncommits.map_or(Duration::MAX, |delay| (delay / 4).max(CHORES)))
    }

    fn idle_work(&mut self) {
        if self.idle.look(self.inner.memory.free.allocated()) {
            self.is_idle = true;
            self.inner.request_cycle();
        }
        // Scan at a quarter of the delay: each scan takes the free-space lock repeatedly.
        if let Some(delay) = self.inner.config.uncommit_delay
            && self.looked_for_idle.elapsed() >= delay / 4
        {
            self.looked_for_idle = Instant::now();
            self.inner.uncommit(delay);
        }
        self.inner.roots.strong.reclaim();
        self.inner.roots.weak.reclaim();
    }

    fn stop(&self, held: bool, op: VmOperation, kind: PauseKind) -> bool {
        if held { self.inner.apply(op) } else { self.inner.stop(op, kind) }
    }

    fn verify(&self, held: bool, when: verify::Checkpoint) {
        if self.inner.config.verify {
            if held {
                verify::verify(&self.inner, when);
            } else {
                self.inner.hold(PauseKind::Verification, |inner| verify::verify(inner, when));
            }
        }
    }

    /// Runs one cycle. `held`: inside a pause already.
    fn cycle(&mut self, held: bool, goal: EvacuationGoal) {
        let inner = Arc::clone(&self.inner);
        self.cycle += 1;
        let before = thread_cpu_time();
        let workers = inner.config.workers;

        inner.schedule.external.cycle_begins();
        // No censuses during stop-the-world compaction.
        #[cfg(feature = "census")]
        let surveys = if goal == EvacuationGoal::Reclaim { heap_walk::requests(&inner) } else { Vec::new() };
        // Roots dropped before mark start are not traced.
        self.reclaim_dropped_roots();
        // Uncommit stack memory that was not needed since the last marking. No page is gated.
        let stacks = inner.roots.stacks.lock().clone();
        stacks.iter().for_each(|stack| stack.give_back(&inner.memory.views));
        drop(stacks);
        let started = inner.report.events.now();
        self.stop(held, VmOperation::MarkStart, PauseKind::MarkStart);
        let MarkResult { weak, dead_ephemerons, mut live_bytes } =
            if workers > 1 { self.mark::<true>(held, workers) } else { self.mark::<false>(held, 1) };
        let started = self.phase(held, Phase::Mark, started);
        self.verify(held, verify::Checkpoint::Marked);

        reclaim::resolve_weak(&inner, &weak);
        reclaim::resolve_pairs(&inner, &dead_ephemerons);
        inner.world.phase.set_resolving(false);
        if !held {
            inner.handshake(); // each mutator stops resolving; no weak load is in flight
        }
        let finalized = self.watches.finalize(&inner);
        inner.report.counters.finalized.add(finalized.revived);
        inner.report.counters.released.add(finalized.released);
        live_bytes += finalized.live_bytes;
        inner.memory.free.set_live_bytes(live_bytes);
        for block in self.forwarded.drain(..) {
            inner.memory.forwarding.clear(block);
        }
        reclaim::retire_parked_tlabs(&inner);
        reclaim::free_dead(&inner);
        self.reclaim_dropped_roots();
        let started = self.phase(held, Phase::Reclaim, started);
        self.verify(held, verify::Checkpoint::Freed);
        #[cfg(feature = "census")]
        heap_walk::survey(&inner, &surveys);

        match &inner.memory.pages {
            Some(pages) if !held => self.flip(&inner, pages, goal, live_bytes, started),
            pages => self.relocate(&inner, pages.as_ref(), held, goal, live_bytes, started),
        }
        reclaim::clear_marks(&inner);
        let used = thread_cpu_time().saturating_sub(before) + inner.schedule.helpers.take_used();
        inner.schedule.effort.collected(used, inner.memory.free.allocated());
        // Counted together, the cycle first: no reader sees more relocations than cycles.
        inner.report.counters.cycles.add(1);
        inner.report.counters.relocations.add(u64::from(std::mem::take(&mut self.relocated)));
        inner.report.counters.compactions.add(u64::from(std::mem::take(&mut self.compacted)));
    }

    /// Relocation by flipping pages: once, or, if there is little memory to copy to, several times
    /// with the memory that each flip gains.
    fn flip(&mut self, inner: &HeapInner, pages: &Pages, goal: EvacuationGoal, live_bytes: u64, mut started: u64) {
        let (mut flips, mut plan_aborted) = (0, 0);
        while flips < FLIPS && plan_aborted < MAX_PLAN_ATTEMPTS {
            let planned = crate::collector::flip::plan_flip(inner, pages, goal, live_bytes);
            started = self.phase(false, Phase::Plan, started);
            match planned {
                FlipDecision::Nothing => break,
                FlipDecision::NoRoom => {
                    self.compact(inner, pages, live_bytes, started);
                    break;
                }
                FlipDecision::Flip(plan) if self.stop(false, VmOperation::Flip, PauseKind::Flip) => {
                    let again = plan.again;
                    started = self.repair(inner, pages, plan, started);
                    if !again {
                        break;
                    }
                    flips += 1;
                }
                FlipDecision::Flip(plan) => {
                    inner.report.counters.plans_abandoned.add(1);
                    crate::collector::flip::abandon(inner, plan);
                    // The plan is not the cause: another one would be refused as well.
                    if pages.refused.swap(false, Ordering::Relaxed) {
                        if let FlipDecision::NoRoom = crate::collector::flip::without_a_flip(inner) {
                            self.compact(inner, pages, live_bytes, started);
                        }
                        break;
                    }
                    plan_aborted += 1;
                }
            }
        }
        crate::collector::flip::keep_for_the_next(inner, live_bytes);
    }

    /// Relocation in a pause, when a flip is impossible.
    fn compact(&mut self, inner: &HeapInner, pages: &Pages, live_bytes: u64, started: u64) {
        inner.hold(PauseKind::Compaction, |inner| {
            self.relocate(inner, Some(pages), true, EvacuationGoal::Compact { runs: false }, live_bytes, started);
        });
        self.compacted = true;
        inner.memory.free.wake_all();
    }

    /// Work after a flip.
    fn repair(&mut self, inner: &HeapInner, pages: &Pages, plan: FlipPlan, started: u64) -> u64 {
        self.relocated = true;
        crate::collector::flip::repair_all(inner, pages, &plan, inner.config.workers);
        // No thread is in its fault handler any more, and none will enter it.
        inner.handshake();
        let started = self.phase(false, Phase::Repair, started);
        self.verify(false, verify::Checkpoint::Relocated);
        for (block, _) in plan.sources {
            inner.memory.forwarding.clear(block);
        }
        started
    }

    /// Relocation with the load barrier: objects are evacuated concurrently; in a pause, at once.
    fn relocate(
        &mut self,
        inner: &HeapInner,
        pages: Option<&Pages>,
        held: bool,
        goal: EvacuationGoal,
        live_bytes: u64,
        started: u64,
    ) {
        for _ in 0..MAX_PLAN_ATTEMPTS {
            let set = evacuation_set::plan(inner, goal, live_bytes);
            let started = self.phase(held, Phase::Plan, started);
            if set.is_empty() {
                return;
            }
            // The page barrier reaches this only in a pause, and has one color.
            if pages.is_none() && !self.stop(held, VmOperation::RelocateStart, PauseKind::RelocateStart) {
                inner.report.counters.plans_abandoned.add(1);
                set.into_iter().for_each(|block| evacuation_set::cancel_forwarding(inner, block));
                continue;
            }
            self.relocated = true;
            relocate::relocate(inner, &set, inner.config.workers);
            if let Some(pages) = pages {
                // The page barrier cannot heal slots: update all references before the pause ends.
                crate::page::repair::repair_everything(inner, pages);
            }
            self.phase(held, Phase::Relocate, started);
            self.verify(held, verify::Checkpoint::Relocated);
            self.forwarded = set;
            if pages.is_some() {
                self.forwarded.drain(..).for_each(|block| inner.memory.forwarding.clear(block));
            }
            return;
        }
    }

    /// Marks until mark end succeeds.
    fn mark<const MANY: bool>(&self, held: bool, workers: usize) -> MarkResult {
        let inner = &*self.inner;
        let stacks = inner.roots.stacks.lock().clone();
        *inner.roots.wide_stacks.lock() =
            stacks.into_iter().filter(|stack| stack.is_wide()).take(WIDE_STACKS).collect();
        let pool = Pool::new(inner, workers, Roots::of(inner));
        let mut marker = Marker::<MANY>::new(inner, &pool);
        let others = Mutex::new(HelperResults::default());
        self.drain(&mut marker, &pool, workers, &others);
        loop {
            self.take_logs(&mut marker, &pool, workers, &others);
            if !held {
                inner.handshake();
                self.take_logs(&mut marker, &pool, workers, &others);
            }
            if self.stop(held, VmOperation::MarkEnd, PauseKind::MarkEnd) {
                break;
            }
            inner.report.counters.mark_end_retries.add(1);
        }
        let (_, mut live_bytes) = marker.count();
        let mut weak = std::mem::take(&mut marker.weak);
        let mut others = others.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        weak.append(&mut others.weak);
        live_bytes += others.bytes;
        drop(marker);
        let counters = &inner.report.counters;
        counters.marked_by_helpers.add(others.objects);
        counters.mark_stack_peak.set(counters.mark_stack_peak.get().max(pool.peak_bytes() as u64));
        counters.mark_overflows.add(pool.overflows.load(Ordering::Relaxed) as u64);
        let pairs = pool.pair_bytes.load(Ordering::Relaxed) + pool.waiting.bytes();
        let lists = (weak.capacity() * size_of::<usize>() + pairs) as u64;
        counters.mark_lists_peak.set(counters.mark_lists_peak.get().max(lists));
        MarkResult { weak, dead_ephemerons: pool.waiting.into_dead(), live_bytes }
    }

    fn take_logs<const MANY: bool>(
        &self,
        marker: &mut Marker<'_, MANY>,
        pool: &Pool,
        workers: usize,
        others: &Mutex<HelperResults>,
    ) {
        while marker.take_logs() {
            self.drain(marker, pool, workers, others);
        }
    }

    /// Marks everything reachable, ephemerons included: on return the keys of waiting pairs are not
    /// marked.
    fn drain<const MANY: bool>(
        &self,
        marker: &mut Marker<'_, MANY>,
        pool: &Pool,
        workers: usize,
        others: &Mutex<HelperResults>,
    ) {
        self.drain_slots(marker, pool, workers, others);
        if !marker.looking && !marker.pairs.is_empty() {
            self.inner.report.counters.ephemeron_passes.add(1);
            pool.pair_bytes.store(marker.pairs.capacity() * size_of::<usize>(), Ordering::Relaxed);
            marker.look();
            self.drain_slots(marker, pool, workers, others);
        }
    }

    /// Drains with the help of the other collector threads, if there are any.
    fn drain_slots<const MANY: bool>(
        &self,
        marker: &mut Marker<'_, MANY>,
        pool: &Pool,
        workers: usize,
        others: &Mutex<HelperResults>,
    ) {
        if !MANY {
            return marker.drain_parallel(false);
        }
        pool.crew.begin(true);
        let inner = &*self.inner;
        let looking = marker.looking;
        let help = || {
            if !pool.crew.join() {
                return;
            }
            let mut helper = Marker::<MANY>::new(inner, pool);
            helper.looking = looking;
            helper.drain_parallel(false);
            let mut others = others.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            others.weak.append(&mut helper.weak);
            others.pairs.append(&mut helper.pairs);
            let (objects, bytes) = helper.count();
            others.objects += objects;
            others.bytes += bytes;
            helper.leave();
        };
        inner.schedule.helpers.together(workers, || marker.drain_parallel(true), help);
        marker.pairs.append(&mut others.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pairs);
    }

    /// Reclaims dropped roots. No marking runs.
    fn reclaim_dropped_roots(&self) {
        self.inner.roots.strong.reclaim();
        self.inner.roots.weak.reclaim();
        self.inner.roots.watched.reclaim();
        self.inner.roots.wide_stacks.lock().clear();
        // Dropped without the lock, because dropping unmaps their memory.
        let given_up: Vec<_> = self.inner.roots.stacks.lock().extract_if(.., |stack| stack.is_given_up()).collect();
        drop(given_up);
        if let RootMemory::Gated(area) = &self.inner.roots.memory {
            area.tidy(&self.inner.memory.views);
        }
    }
}

impl HeapInner {
    /// Uncommits memory that has been free for a while. Returns the number of bytes.
    pub(crate) fn uncommit(&self, delay: Duration) -> usize {
        let mut bytes = 0;
        // At most the amount that is idle now: blocks that the kernel refuses to uncommit would be
        // found again and again. In slices, so that few blocks at a time cannot be allocated.
        let mut left = self.memory.free.free_committed();
        while left > 0 {
            let idle = self.memory.free.idle(delay, left.min(UNCOMMIT_BATCH));
            if idle.is_empty() {
                break;
            }
            left -= idle.len();
            // Adjacent blocks are uncommitted in one call.
            for run in idle.chunk_by(|a, b| a + 1 == *b) {
                // After a failure the memory stays committed: it is used again, and the call is
                // repeated when it has been idle for as long again.
                let given = self.memory.views.uncommit(run[0] * BLOCK_BYTES, run.len() * BLOCK_BYTES);
                let gone = given.map_err(|error| self.report.refusals.note(error)).is_ok();
                bytes += if gone { run.len() * BLOCK_BYTES } else { 0 };
                self.memory.free.uncommitted(run, gone);
            }
        }
        bytes
    }
}
