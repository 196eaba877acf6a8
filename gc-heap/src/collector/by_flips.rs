//! The last phases of a cycle with the page barrier: plan, flip, repair.

use super::evacuation_set::EvacuationGoal;
use super::flip;
use super::flip_plan::{self, FlipDecision, FlipPlan};
use super::pauses::{Concurrent, Pauses};
use super::phase_report::PhaseReport;
use super::relocation::{MAX_PLAN_ATTEMPTS, Relocated, in_pause};
use crate::events::{PauseKind, Phase};
use crate::inner::HeapInner;
use crate::inner::pending_pause::VmOperation;
use crate::space::BLOCK_BYTES;
use crate::space::pages::Pages;
use std::sync::atomic::Ordering;

/// Maximum number of flips in a cycle, if there is little memory to copy to. Each gains at least
/// one block, and most gain half as much again as the one before.
const FLIPS: usize = 16;

/// By flipping pages: once, or, if there is little memory to copy to, several times with the memory
/// that each flip gains.
pub(super) fn by_flips<'a>(
    report: &mut PhaseReport<'a, Concurrent<'a>>,
    pages: &Pages,
    goal: EvacuationGoal,
    lasting_bytes: u64,
) -> Relocated {
    let inner = report.pauses.inner();
    pages.lasting.store((lasting_bytes as usize / BLOCK_BYTES) as u32, Ordering::Relaxed);
    let mut result = Relocated::default();
    let (mut flips, mut plan_aborted) = (0, 0);
    while flips < FLIPS && plan_aborted < MAX_PLAN_ATTEMPTS {
        let planned = flip_plan::plan_flip(inner, pages, goal, lasting_bytes);
        report.ended(Phase::Plan);
        match planned {
            FlipDecision::Nothing => break,
            FlipDecision::NoRoom => {
                compact(report, lasting_bytes, &mut result);
                break;
            }
            FlipDecision::Flip(plan) if report.pauses.run(VmOperation::RelocateStart, PauseKind::Flip) => {
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
                flip_plan::abandon(inner, plan);
                // The plan is not the cause: another one would be refused as well.
                if pages.refused.swap(false, Ordering::Relaxed) {
                    if let FlipDecision::NoRoom = flip_plan::without_a_flip(inner) {
                        compact(report, lasting_bytes, &mut result);
                    }
                    break;
                }
                plan_aborted += 1;
            }
        }
    }
    flip_plan::keep_for_the_next(inner, pages, lasting_bytes);
    result
}

/// Relocation in a pause, when a flip is impossible.
fn compact<'a>(report: &PhaseReport<'a, Concurrent<'a>>, lasting_bytes: u64, result: &mut Relocated) {
    let moved = report
        .in_a_pause(PauseKind::Compaction, |report| in_pause(report, EvacuationGoal::Compact, lasting_bytes, false));
    result.relocated |= moved.relocated;
    result.gained += moved.gained;
    result.compacted = true;
    report.pauses.inner().memory.free.wake_all();
}

/// Work after a flip.
fn repair<'a>(report: &mut PhaseReport<'a, Concurrent<'a>>, pages: &Pages, mut plan: FlipPlan) {
    let inner: &HeapInner = report.pauses.inner();
    flip::repair_all(inner, pages, &mut plan, inner.config.workers);
    // No thread is in its fault handler any more, and none will enter it.
    report.pauses.handshake();
    report.ended(Phase::Repair);
    for (block, _) in plan.sources {
        inner.memory.forwarding.clear(block);
    }
}
