//! The cycle: mark, reclaim, plan, relocate, on a thread of the collector's own.

pub(crate) mod control;
pub(crate) mod effort;
pub(crate) mod ephemeron;
pub(crate) mod finalize;
pub(crate) mod flip;
mod idle;
mod late;
pub(crate) mod mark;
mod overflow;
pub(crate) mod pacing;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod reclaim;
pub(crate) mod relocate;
pub(crate) mod repair;
mod report;
pub(crate) mod roots;
pub(crate) mod survey;
pub(crate) mod verify;
pub(crate) mod workers;

use crate::config::Barrier;
use crate::events::{PauseKind, Phase};
use crate::root::memory::RootMemory;
use crate::shared::Shared;
use crate::space::BLOCK_BYTES;
use crate::space::pages::Pages;
use control::Work;
use finalize::Watches;
use flip::{FlipPlan, Planned};
use gc_core::sys::thread_cpu_time;
use idle::Idle;
use mark::Marker;
use pause::StopOp;
use plan::Goal;
use pool::Pool;
use report::Reported;
use roots::Roots;
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The least time between two looks for memory to give back.
const CHORES: Duration = Duration::from_millis(500);

/// Blocks given back to the system at a time.
const UNCOMMIT_BATCH: usize = 256;

/// Stacks whose memory above the top is looked after in a cycle: the stop in which that begins does not depend on how many there are.
const WIDE_STACKS: usize = 64;

/// How often a relocation is planned in a cycle, where objects of the set are pinned all the time.
const PLANS: usize = 3;

/// How many flips a cycle has at most, where there is little room to copy to. Each gains a block at least, and most gain half as much again
/// as the one before.
const FLIPS: usize = 16;

/// What marking found.
struct Marked {
    /// Weak slots, by offset.
    weak: Vec<usize>,
    /// Ephemerons whose key has no mark, by offset.
    dead_pairs: Vec<usize>,
    live_bytes: u64,
}

/// What the other markers found.
#[derive(Default)]
struct Others {
    weak: Vec<usize>,
    pairs: Vec<usize>,
    objects: u64,
    bytes: u64,
}

/// The collector thread.
pub(crate) struct Collector {
    shared: Arc<Shared>,
    /// Blocks whose forwarding exists since the last relocation.
    forwarded: Vec<usize>,
    watches: Watches,
    cycle: u64,
    reported: Reported,
    /// What the cycle that runs has done, counted at its end.
    relocated: bool,
    compacted: bool,
    idle: Idle,
    /// The next cycle is that of an idle heap.
    is_idle: bool,
    /// When the free space was last searched for memory to give back.
    looked_for_idle: Instant,
    /// For the stress mode.
    random: Cell<u64>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.helpers.end();
    }
}

impl Collector {
    pub(crate) fn new(shared: Arc<Shared>) -> Collector {
        let random = Cell::new(shared.config.stress.seed);
        let idle = Idle::new(shared.config.idle_after, shared.blocks.len());
        Collector {
            shared,
            forwarded: Vec::new(),
            watches: Watches::default(),
            cycle: 0,
            reported: Reported::default(),
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
        let shared = Arc::clone(&self.shared);
        shared.pace_begins();
        loop {
            match shared.control.wait_for_work(self.next_look()) {
                Work::Cycle => {
                    shared.pace_cycle_begins();
                    let begun = self.cycle_begins();
                    match shared.config.barrier {
                        Barrier::Load | Barrier::Page => self.cycle(false, Goal::Pace),
                        Barrier::StopTheWorld => {
                            shared.hold(PauseKind::Collection, |_| self.cycle(true, Goal::Pace));
                        }
                    }
                    shared.pace_cycle_ended();
                    let is_idle = std::mem::take(&mut self.is_idle);
                    self.idle.cycle_ended(shared.free.allocated(), is_idle);
                    self.cycle_ended(begun);
                    shared.control.cycle_finished();
                    if shared.external.is_due() {
                        // What was added meanwhile asked for nothing, and whoever added it may wait for its release.
                        shared.control.request_soon();
                    }
                    shared.free.wake_all();
                    if is_idle && shared.config.uncommit_delay.is_some() {
                        shared.uncommit(Duration::ZERO);
                    }
                }
                Work::Compaction(run) => {
                    let begun = self.cycle_begins();
                    shared.hold(PauseKind::Compaction, |_| self.cycle(true, Goal::Pack { runs: run > 1 }));
                    shared.counters.compactions.add(1);
                    // There is no more to be had: all of it is for whoever waits.
                    shared.free.keep(0);
                    self.cycle_ended(begun);
                    shared.control.compaction_finished();
                    shared.free.wake_all();
                }
                Work::Idle => {
                    self.chores();
                    shared.gather_losses();
                }
                Work::Shutdown => return shared.events.deliver(),
            }
            shared.events.deliver();
            if shared.control.is_shut() {
                return;
            }
        }
    }

    /// How long to wait for work: not longer than until memory may have to go back.
    fn next_look(&self) -> Duration {
        let uncommits = self.shared.config.uncommit_delay.filter(|_| self.shared.free.free_committed() > 0);
        self.idle.wait(uncommits.map_or(Duration::MAX, |delay| (delay / 4).max(CHORES)))
    }

    fn chores(&mut self) {
        if self.idle.look(self.shared.free.allocated()) {
            self.is_idle = true;
            self.shared.request_cycle();
        }
        // Four looks in a delay: a look takes the free space's lock, again and again.
        if let Some(delay) = self.shared.config.uncommit_delay
            && self.looked_for_idle.elapsed() >= delay / 4
        {
            self.looked_for_idle = Instant::now();
            self.shared.uncommit(delay);
        }
        self.shared.roots.reclaim();
        self.shared.weak_roots.reclaim();
    }

    fn stop(&self, held: bool, op: StopOp, kind: PauseKind) -> bool {
        if held { self.shared.apply(op) } else { self.shared.stop(op, kind) }
    }

    fn verify(&self, held: bool, when: verify::When) {
        if self.shared.config.verify {
            if held {
                verify::verify(&self.shared, when);
            } else {
                self.shared.hold(PauseKind::Verification, |shared| verify::verify(shared, when));
            }
        }
    }

    /// One cycle. `held`: inside a stop already.
    fn cycle(&mut self, held: bool, goal: Goal) {
        let shared = Arc::clone(&self.shared);
        self.cycle += 1;
        let before = thread_cpu_time();
        let workers = shared.config.workers;

        shared.external.cycle_begins();
        // A compaction in a stop has other things to do.
        let surveys = if goal == Goal::Pace { survey::requests(&shared) } else { Vec::new() };
        // What was dropped by now keeps nothing through this cycle.
        self.forget_roots();
        // The memory that none has needed since marking ended last. No page is gated.
        let stacks = shared.stacks.lock().clone();
        stacks.iter().for_each(|stack| stack.give_back(&shared.views));
        drop(stacks);
        let started = shared.events.now();
        self.stop(held, StopOp::MarkStart, PauseKind::MarkStart);
        let Marked { weak, dead_pairs, mut live_bytes } =
            if workers > 1 { self.mark::<true>(held, workers) } else { self.mark::<false>(held, 1) };
        let started = self.phase(held, Phase::Mark, started);
        self.verify(held, verify::When::Marked);

        reclaim::resolve_weak(&shared, &weak);
        reclaim::resolve_pairs(&shared, &dead_pairs);
        shared.phase.set_resolving(false);
        if !held {
            shared.handshake(); // each mutator stops resolving; no weak load is in flight
        }
        let finalized = self.watches.finalize(&shared);
        shared.counters.finalized.add(finalized.revived);
        shared.counters.released.add(finalized.released);
        live_bytes += finalized.live_bytes;
        shared.free.set_live_bytes(live_bytes);
        for block in self.forwarded.drain(..) {
            shared.forwarding.clear(block);
        }
        reclaim::close_parked(&shared);
        reclaim::free_dead(&shared);
        self.forget_roots();
        let started = self.phase(held, Phase::Reclaim, started);
        self.verify(held, verify::When::Freed);
        survey::survey(&shared, &surveys);

        match &shared.pages {
            Some(pages) if !held => self.flip(&shared, pages, goal, live_bytes, started),
            pages => self.relocate(&shared, pages.as_ref(), held, goal, live_bytes, started),
        }
        reclaim::clear_marks(&shared);
        shared.effort.collected(thread_cpu_time().saturating_sub(before), shared.free.allocated());
        // Together, and the cycle first: nobody sees more relocations than cycles.
        shared.counters.cycles.add(1);
        shared.counters.relocations.add(u64::from(std::mem::take(&mut self.relocated)));
        shared.counters.compactions.add(u64::from(std::mem::take(&mut self.compacted)));
    }

    /// Relocation by flipping pages: once, or, where there is little room to copy to, several times with what each flip has gained.
    fn flip(&mut self, shared: &Shared, pages: &Pages, goal: Goal, live_bytes: u64, mut started: u64) {
        let (mut flips, mut spoiled) = (0, 0);
        while flips < FLIPS && spoiled < PLANS {
            let planned = flip::plan_flip(shared, pages, goal, live_bytes);
            started = self.phase(false, Phase::Plan, started);
            match planned {
                Planned::Nothing => break,
                Planned::NoRoom => {
                    self.compact(shared, pages, live_bytes, started);
                    break;
                }
                Planned::Flip(plan) if self.stop(false, StopOp::Flip, PauseKind::Flip) => {
                    let again = plan.again;
                    started = self.repair(shared, pages, plan, started);
                    if !again {
                        break;
                    }
                    flips += 1;
                }
                Planned::Flip(plan) => {
                    shared.counters.plans_abandoned.add(1);
                    flip::abandon(shared, plan);
                    // Not the plan's fault: the next one would fare no better.
                    if pages.refused.swap(false, Ordering::Relaxed) {
                        if let Planned::NoRoom = flip::without_a_flip(shared) {
                            self.compact(shared, pages, live_bytes, started);
                        }
                        break;
                    }
                    spoiled += 1;
                }
            }
        }
        flip::keep_for_the_next(shared, live_bytes);
    }

    /// Relocation in a stop, where there is no flip to be had.
    fn compact(&mut self, shared: &Shared, pages: &Pages, live_bytes: u64, started: u64) {
        shared.hold(PauseKind::Compaction, |shared| {
            self.relocate(shared, Some(pages), true, Goal::Pack { runs: false }, live_bytes, started);
        });
        self.compacted = true;
        shared.free.wake_all();
    }

    /// What follows a flip.
    fn repair(&mut self, shared: &Shared, pages: &Pages, plan: FlipPlan, started: u64) -> u64 {
        self.relocated = true;
        flip::repair_all(shared, pages, &plan, shared.config.workers);
        // No thread is in its fault handler any more, and none will come there.
        shared.handshake();
        let started = self.phase(false, Phase::Repair, started);
        self.verify(false, verify::When::Relocated);
        for (block, _) in plan.sources {
            shared.forwarding.clear(block);
        }
        started
    }

    /// Relocation by copying objects as they are asked for; in a stop, at once.
    fn relocate(
        &mut self,
        shared: &Shared,
        pages: Option<&Pages>,
        held: bool,
        goal: Goal,
        live_bytes: u64,
        started: u64,
    ) {
        for _ in 0..PLANS {
            let set = plan::plan(shared, goal, live_bytes);
            let started = self.phase(held, Phase::Plan, started);
            if set.is_empty() {
                return;
            }
            // The page barrier comes here in a stop only, and has one color.
            if pages.is_none() && !self.stop(held, StopOp::RelocateStart, PauseKind::RelocateStart) {
                shared.counters.plans_abandoned.add(1);
                set.into_iter().for_each(|block| plan::unforward(shared, block));
                continue;
            }
            self.relocated = true;
            relocate::relocate(shared, &set, shared.config.workers, goal != Goal::Pace);
            if let Some(pages) = pages {
                // Nor does it know stale slots: all are rewritten before the stop ends.
                repair::repair_everything(shared, pages);
            }
            self.phase(held, Phase::Relocate, started);
            self.verify(held, verify::When::Relocated);
            self.forwarded = set;
            if pages.is_some() {
                self.forwarded.drain(..).for_each(|block| shared.forwarding.clear(block));
            }
            return;
        }
    }

    /// Marks until nothing is left.
    fn mark<const MANY: bool>(&self, held: bool, workers: usize) -> Marked {
        let shared = &*self.shared;
        let stacks = shared.stacks.lock().clone();
        *shared.wide_stacks.lock() = stacks.into_iter().filter(|stack| stack.is_wide()).take(WIDE_STACKS).collect();
        let pool = Pool::new(shared, workers, Roots::of(shared));
        let mut marker = Marker::<MANY>::new(shared, &pool);
        let others = Mutex::new(Others::default());
        self.drain(&mut marker, &pool, workers, &others);
        loop {
            self.take_logs(&mut marker, &pool, workers, &others);
            if !held {
                shared.handshake();
                self.take_logs(&mut marker, &pool, workers, &others);
            }
            if self.stop(held, StopOp::MarkEnd, PauseKind::MarkEnd) {
                break;
            }
            shared.counters.mark_end_retries.add(1);
        }
        let (_, mut live_bytes) = marker.count();
        let mut weak = std::mem::take(&mut marker.weak);
        let mut others = others.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        weak.append(&mut others.weak);
        live_bytes += others.bytes;
        drop(marker);
        let counters = &shared.counters;
        counters.marked_by_helpers.add(others.objects);
        counters.mark_stack_peak.set(counters.mark_stack_peak.get().max(pool.peak_bytes() as u64));
        counters.mark_overflows.add(pool.overflows.load(Ordering::Relaxed) as u64);
        Marked { weak, dead_pairs: pool.waiting.into_dead(), live_bytes }
    }

    fn take_logs<const MANY: bool>(
        &self,
        marker: &mut Marker<'_, MANY>,
        pool: &Pool,
        workers: usize,
        others: &Mutex<Others>,
    ) {
        while marker.take_logs() {
            self.drain(marker, pool, workers, others);
        }
    }

    /// Marks all that is found, ephemerons included: on return the keys of those that wait are not marked.
    fn drain<const MANY: bool>(
        &self,
        marker: &mut Marker<'_, MANY>,
        pool: &Pool,
        workers: usize,
        others: &Mutex<Others>,
    ) {
        self.drain_slots(marker, pool, workers, others);
        if !marker.looking && !marker.pairs.is_empty() {
            self.shared.counters.ephemeron_passes.add(1);
            marker.look();
            self.drain_slots(marker, pool, workers, others);
        }
    }

    /// Drains with the other collector threads' help, where there are any.
    fn drain_slots<const MANY: bool>(
        &self,
        marker: &mut Marker<'_, MANY>,
        pool: &Pool,
        workers: usize,
        others: &Mutex<Others>,
    ) {
        if !MANY {
            return marker.drain_together(false);
        }
        pool.crew.begin(true);
        let shared = &*self.shared;
        let looking = marker.looking;
        let help = || {
            if !pool.crew.join() {
                return;
            }
            let mut helper = Marker::<MANY>::new(shared, pool);
            helper.looking = looking;
            helper.drain_together(false);
            let mut others = others.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            others.weak.append(&mut helper.weak);
            others.pairs.append(&mut helper.pairs);
            let (objects, bytes) = helper.count();
            others.objects += objects;
            others.bytes += bytes;
            helper.leave();
        };
        shared.helpers.together(workers, || marker.drain_together(true), help);
        marker.pairs.append(&mut others.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pairs);
    }

    /// Forgets roots that were given up. No marking runs.
    fn forget_roots(&self) {
        self.shared.roots.reclaim();
        self.shared.weak_roots.reclaim();
        self.shared.watched.reclaim();
        self.shared.wide_stacks.lock().clear();
        // Dropped without the lock: their memory is given back.
        let given_up: Vec<_> = self.shared.stacks.lock().extract_if(.., |stack| stack.is_given_up()).collect();
        drop(given_up);
        if let RootMemory::Gated(area) = &self.shared.root_memory {
            area.tidy(&self.shared.views);
        }
    }
}

impl Shared {
    /// Gives memory that has been free for a while back to the system. Returns the bytes given back.
    pub(crate) fn uncommit(&self, delay: Duration) -> usize {
        let mut bytes = 0;
        // No more than there is now: what the kernel keeps would come round again and again. In slices, for whose time they are
        // nobody's.
        let mut left = self.free.free_committed();
        while left > 0 {
            let idle = self.free.idle(delay, left.min(UNCOMMIT_BATCH));
            if idle.is_empty() {
                break;
            }
            left -= idle.len();
            // Neighbours go back in one call.
            for run in idle.chunk_by(|a, b| a + 1 == *b) {
                // A failure keeps the memory: it is used again later, and asked for again when it has been idle for as long again.
                let given = self.views.uncommit(run[0] * BLOCK_BYTES, run.len() * BLOCK_BYTES);
                let gone = given.map_err(|error| self.refusals.note(error)).is_ok();
                bytes += if gone { run.len() * BLOCK_BYTES } else { 0 };
                self.free.uncommitted(run, gone);
            }
        }
        bytes
    }
}
