//! The last phases of a cycle: plan, and move what the plan says. In three ways: with the load
//! barrier, by flips, and in a pause with the page barrier.

use super::evacuation_set::{self, EvacuationGoal};
use super::flip::{self, FlipDecision, FlipPlan};
use super::pauses::{Concurrent, Pauses, Stopped};
use super::phase_report::PhaseReport;
use super::relocate;
use crate::events::{PauseKind, Phase};
use crate::inner::HeapInner;
use crate::inner::pending_pause::VmOperation;
use crate::space::BLOCK_BYTES;
use crate::space::pages::Pages;
use std::sync::atomic::Ordering;

/// Maximum number of plans in a cycle, if objects of the evacuation set are pinned again and again.
const MAX_PLAN_ATTEMPTS: usize = 3;

/// Maximum number of flips in a cycle, if there is little memory to copy to. Each gains at least
/// one block, and most gain half as much again as the one before.
const FLIPS: usize = 16;

/// Result of a relocation.
#[derive(Default)]
pub(super) struct Relocated {
    /// Objects were relocated.
    pub(super) relocated: bool,
    /// The heap was compacted in a pause because no flip was possible.
    pub(super) compacted: bool,
    /// Blocks that evacuation has gained: sources less destinations.
    pub(super) gained: usize,
    /// Blocks whose forwarding tables the next marking needs.
    pub(super) forwarded: Vec<usize>,
}

/// How references to evacuated objects are updated.
trait References {
    /// Before the first object of the set is copied. `false`: the plan is aborted.
    fn begin(&self) -> bool;

    /// All objects of the set have their places.
    fn update(&self);

    /// The blocks of the set whose forwarding tables are needed after the relocation.
    fn still_stale(&self, set: Vec<usize>) -> Vec<usize>;
}

/// Mutators heal slots as they load them, and the next marking heals the rest.
struct HealedByLoads<P>(P);

impl<'a, P: Pauses<'a>> References for HealedByLoads<P> {
    fn begin(&self) -> bool {
        self.0.run(VmOperation::RelocateStart, PauseKind::RelocateStart)
    }

    fn update(&self) {}

    fn still_stale(&self, set: Vec<usize>) -> Vec<usize> {
        set
    }
}

/// All references are updated before the pause ends: the page barrier has one color and cannot heal
/// slots.
struct UpdatedInPause<'a> {
    stopped: Stopped<'a>,
    pages: &'a Pages,
}

impl References for UpdatedInPause<'_> {
    /// No thread that could pin an object runs.
    fn begin(&self) -> bool {
        true
    }

    fn update(&self) {
        crate::page::repair::repair_everything(self.stopped.inner(), self.pages);
    }

    fn still_stale(&self, set: Vec<usize>) -> Vec<usize> {
        set.into_iter().for_each(|block| self.stopped.inner().memory.forwarding.clear(block));
        Vec::new()
    }
}

/// With the load barrier: objects are evacuated concurrently, or in the pause that the cycle runs
/// in.
pub(super) fn by_load_barrier<'a, P: Pauses<'a>>(
    report: &mut PhaseReport<'a, P>,
    goal: EvacuationGoal,
    live_bytes: u64,
) -> Relocated {
    let references = HealedByLoads(report.pauses);
    evacuate(report, &references, goal, live_bytes)
}

/// In a pause, whatever the barrier.
pub(super) fn in_pause<'a>(
    report: &mut PhaseReport<'a, Stopped<'a>>,
    goal: EvacuationGoal,
    live_bytes: u64,
) -> Relocated {
    let stopped = report.pauses;
    match &stopped.inner().memory.pages {
        None => by_load_barrier(report, goal, live_bytes),
        Some(pages) => evacuate(report, &UpdatedInPause { stopped, pages }, goal, live_bytes),
    }
}

/// Plans, and evacuates the set.
fn evacuate<'a, P: Pauses<'a>>(
    report: &mut PhaseReport<'a, P>,
    references: &impl References,
    goal: EvacuationGoal,
    live_bytes: u64,
) -> Relocated {
    let inner = report.pauses.inner();
    for _ in 0..MAX_PLAN_ATTEMPTS {
        let set = evacuation_set::plan(inner, goal, live_bytes);
        report.ended(Phase::Plan);
        if set.is_empty() {
            break;
        }
        if !references.begin() {
            inner.report.counters.plans_abandoned.add(1);
            set.into_iter().for_each(|block| evacuation_set::cancel_forwarding(inner, block));
            continue;
        }
        let live: usize = set.iter().map(|&block| inner.memory.blocks.live_bytes(block) as usize).sum();
        let gained = set.len().saturating_sub(live.div_ceil(BLOCK_BYTES));
        relocate::relocate(inner, &set, inner.config.workers);
        references.update();
        report.ended(Phase::Relocate);
        return Relocated { relocated: true, gained, forwarded: references.still_stale(set), ..Relocated::default() };
    }
    Relocated::default()
}

/// By flipping pages: once, or, if there is little memory to copy to, several times with the memory
/// that each flip gains.
pub(super) fn by_flips<'a>(
    report: &mut PhaseReport<'a, Concurrent<'a>>,
    pages: &Pages,
    goal: EvacuationGoal,
    live_bytes: u64,
) -> Relocated {
    let inner = report.pauses.inner();
    let mut result = Relocated::default();
    let (mut flips, mut plan_aborted) = (0, 0);
    while flips < FLIPS && plan_aborted < MAX_PLAN_ATTEMPTS {
        let planned = flip::plan_flip(inner, pages, goal, live_bytes);
        report.ended(Phase::Plan);
        match planned {
            FlipDecision::Nothing => break,
            FlipDecision::NoRoom => {
                compact(report, live_bytes, &mut result);
                break;
            }
            FlipDecision::Flip(plan) if report.pauses.run(VmOperation::Flip, PauseKind::Flip) => {
                let again = plan.again;
                result.gained += plan.sources.len().saturating_sub(plan.destinations.len());
                repair(report, pages, plan);
                result.relocated = true;
                if !again {
                    break;
                }
                flips += 1;
            }
            FlipDecision::Flip(plan) => {
                inner.report.counters.plans_abandoned.add(1);
                flip::abandon(inner, plan);
                // The plan is not the cause: another one would be refused as well.
                if pages.refused.swap(false, Ordering::Relaxed) {
                    if let FlipDecision::NoRoom = flip::without_a_flip(inner) {
                        compact(report, live_bytes, &mut result);
                    }
                    break;
                }
                plan_aborted += 1;
            }
        }
    }
    flip::keep_for_the_next(inner, live_bytes);
    result
}

/// Relocation in a pause, when a flip is impossible.
fn compact<'a>(report: &PhaseReport<'a, Concurrent<'a>>, live_bytes: u64, result: &mut Relocated) {
    let moved =
        report.in_a_pause(PauseKind::Compaction, |report| in_pause(report, EvacuationGoal::Compact, live_bytes));
    result.relocated |= moved.relocated;
    result.gained += moved.gained;
    result.compacted = true;
    report.pauses.inner().memory.free.wake_all();
}

/// Work after a flip.
fn repair<'a>(report: &mut PhaseReport<'a, Concurrent<'a>>, pages: &Pages, plan: FlipPlan) {
    let inner: &HeapInner = report.pauses.inner();
    flip::repair_all(inner, pages, &plan, inner.config.workers);
    // No thread is in its fault handler any more, and none will enter it.
    report.pauses.handshake();
    report.ended(Phase::Repair);
    for (block, _) in plan.sources {
        inner.memory.forwarding.clear(block);
    }
}
