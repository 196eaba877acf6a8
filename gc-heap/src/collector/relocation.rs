//! The last phases of a cycle: plan, and move what the plan says; with the load barrier, or in a
//! pause. By flips: see `by_flips`.

use super::evacuation_set::{self, EvacuationGoal};
use super::large;
use super::pauses::{Concurrent, Pauses, Stopped};
use super::phase_report::PhaseReport;
use super::promote;
use super::relocate;
use crate::events::{PauseKind, Phase};
use crate::inner::pending_pause::VmOperation;
use crate::space::{BLOCK_BYTES, Block};

/// Maximum number of plans in a cycle, if objects of the evacuation set are pinned again and again.
pub(super) const MAX_PLAN_ATTEMPTS: usize = 3;

/// Result of a relocation.
#[derive(Default)]
pub(super) struct Relocated {
    /// Objects were relocated.
    pub(super) relocated: bool,
    /// The heap was compacted in a pause because no flip was possible.
    pub(super) compacted: bool,
    /// Blocks that evacuation has gained: sources less destinations.
    pub(super) gained: usize,
    /// Bytes that were copied, by whatever thread.
    pub(super) copied_bytes: u64,
    /// Blocks whose forwarding tables the next marking needs.
    pub(super) forwarded: Vec<Block>,
}

/// How references to evacuated objects are updated.
trait References {
    /// Before the first object of the set is copied. `false`: the plan is aborted.
    fn begin(&self) -> bool;

    /// All objects of the set have their places.
    fn update(&self);

    /// The blocks of the set whose forwarding tables are needed after the relocation.
    fn still_stale(&self, set: Vec<Block>) -> Vec<Block>;
}

/// Mutators heal slots as they load them, and the next marking heals the rest.
struct HealedByLoads<P>(P);

impl<'a, P: Pauses<'a>> References for HealedByLoads<P> {
    fn begin(&self) -> bool {
        self.0.run(VmOperation::RelocateStart, PauseKind::RelocateStart)
    }

    fn update(&self) {}

    fn still_stale(&self, set: Vec<Block>) -> Vec<Block> {
        set
    }
}

/// All references are updated before the pause ends: the page barrier has one color and cannot heal
/// slots.
struct UpdatedInPause<'a> {
    stopped: Stopped<'a>,
}

impl References for UpdatedInPause<'_> {
    /// No thread that could pin an object runs.
    fn begin(&self) -> bool {
        true
    }

    fn update(&self) {
        let inner = self.stopped.inner();
        inner.relocation.update_references(inner);
    }

    fn still_stale(&self, set: Vec<Block>) -> Vec<Block> {
        set.into_iter().for_each(|block| self.stopped.inner().memory.forwarding.clear(block));
        Vec::new()
    }
}

/// With the load barrier: objects are evacuated concurrently.
pub(super) fn by_load_barrier<'a>(
    report: &mut PhaseReport<'a, Concurrent<'a>>,
    goal: EvacuationGoal,
    lasting_bytes: u64,
    promotion_pays: bool,
) -> Relocated {
    let references = HealedByLoads(report.pauses);
    evacuate(report, &references, goal, lasting_bytes, promotion_pays, None)
}

/// In a pause, whatever the barrier.
pub(super) fn in_pause<'a>(
    report: &mut PhaseReport<'a, Stopped<'a>>,
    goal: EvacuationGoal,
    lasting_bytes: u64,
    promotion_pays: bool,
) -> Relocated {
    let stopped = report.pauses;
    if stopped.inner().relocation.heals_slots() {
        return evacuate(report, &HealedByLoads(stopped), goal, lasting_bytes, promotion_pays, Some(stopped));
    }
    evacuate(report, &UpdatedInPause { stopped }, goal, lasting_bytes, false, Some(stopped))
}

/// With the load barrier, in a young cycle: nothing moves, and if it pays, blocks that have aged
/// are promoted where they stand. The plan has no evacuation set, so no pin aborts it.
pub(super) fn promote_in_place<'a>(report: &mut PhaseReport<'a, Concurrent<'a>>, promotion_pays: bool) -> Relocated {
    let inner = report.pauses.inner();
    let set = evacuation_set::plan_nothing(inner);
    let promotes = promotion_pays && promote::plan(inner);
    report.ended(Phase::Plan);
    let relocated = promotes && report.pauses.run(VmOperation::RelocateStart, PauseKind::RelocateStart);
    if !relocated {
        inner.cancel_promotions();
    }
    promote::carry_out(inner, &set, relocated);
    report.ended(Phase::Relocate);
    Relocated { relocated, ..Relocated::default() }
}

/// Plans, and evacuates the set. A flip promotes what has aged; where nothing is to be evacuated,
/// it has to pay for a flip. `stopped`: large objects may move too.
fn evacuate<'a, P: Pauses<'a>>(
    report: &mut PhaseReport<'a, P>,
    references: &impl References,
    goal: EvacuationGoal,
    lasting_bytes: u64,
    promotion_pays: bool,
    stopped: Option<Stopped<'_>>,
) -> Relocated {
    let inner = report.pauses.inner();
    promote::forget_then(inner);
    for _ in 0..MAX_PLAN_ATTEMPTS {
        // If moving large objects makes the run that a thread waits for, no small ones need move.
        let runs = stopped.is_some_and(large::can_make_runs);
        let mut set = match runs && goal == EvacuationGoal::MakeRun && inner.memory.free.awaited_run().is_some() {
            true => evacuation_set::plan_nothing(inner),
            false => evacuation_set::plan(inner, goal, lasting_bytes),
        };
        report.ended(Phase::Plan);
        let evacuates = !set.is_empty() || runs;
        let promotes = (evacuates || promotion_pays) && promote::plan(inner);
        if !evacuates && !promotes {
            break;
        }
        if !references.begin() {
            inner.report.counters.plans_abandoned.add(1);
            set.into_iter().for_each(|block| evacuation_set::cancel_forwarding(inner, block));
            inner.cancel_promotions();
            continue;
        }
        let live: usize = set.iter().map(|&block| inner.memory.blocks.live_bytes(block) as usize).sum();
        let gained = set.len().saturating_sub(live.div_ceil(BLOCK_BYTES));
        relocate::relocate(inner, &set, goal, inner.config.workers);
        if let Some(stopped) = stopped {
            large::make_runs(stopped, &mut set);
        }
        references.update();
        promote::carry_out(inner, &set, true);
        report.ended(Phase::Relocate);
        let (copied_bytes, forwarded) = (live as u64, references.still_stale(set));
        return Relocated { relocated: true, gained, copied_bytes, forwarded, ..Relocated::default() };
    }
    promote::carry_out(inner, &[], false);
    Relocated::default()
}
