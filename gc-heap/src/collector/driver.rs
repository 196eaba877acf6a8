//! The collector thread: waits for work, and does it.

use super::choice::{Choice, Ended};
use super::cycle::{Cycles, Yield};
use super::evacuation_set::EvacuationGoal;
use super::huge::HugeChunks;
use super::idle::Idle;
use super::pressure::{self, Pressure};
use super::telemetry::CycleReport;
use super::ways::{Way, collect_in_a_pause};
use crate::config::HugePages;
use crate::events::{CycleKind, PauseKind};
use crate::inner::HeapInner;
use crate::inner::control::Work;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Minimum time between two scans for memory to uncommit.
const CHORES: Duration = Duration::from_millis(500);

/// The most blocks beyond the soft maximum that are uncommitted at a time: 64 MiB.
const SLICE_BLOCKS: usize = 1024;

/// The collector thread.
pub(crate) struct Collector {
    inner: Arc<HeapInner>,
    way: Box<dyn Way>,
    cycles: Cycles,
    choice: Choice,
    /// Blocks allocated before the last mark start.
    allocated: usize,
    report: CycleReport,
    idle: Idle,
    /// Looks whether the system is short of memory, if the heap is to.
    pressure: Option<Pressure>,
    /// What makes huge pages, if something does.
    huge: Option<HugeChunks>,
    /// Whether the next cycle is that of an idle heap.
    is_idle: bool,
    /// When the free space was last scanned for memory to uncommit, and when memory beyond the
    /// soft maximum was last uncommitted.
    looked_for_idle: Instant,
    uncommitted_beyond: Instant,
}

impl Drop for Collector {
    fn drop(&mut self) {
        // If it has failed while it marked.
        self.inner.schedule.throttle.end();
        self.inner.schedule.helpers.end();
    }
}

impl Collector {
    pub(crate) fn new(inner: Arc<HeapInner>, way: Box<dyn Way>) -> Collector {
        let idle = Idle::new(inner.config.idle_after, inner.config.uncommit_delay, inner.memory.max_blocks());
        if let Some(generations) = inner.memory.generations.as_ref().filter(|_| inner.config.stress.is_on()) {
            generations.promote_at_once();
        }
        let makes_huge = inner.config.huge_pages == HugePages::Background;
        Collector {
            pressure: Pressure::new(inner.config.spare_bytes, inner.config.memory_stall_limit),
            huge: makes_huge.then(|| HugeChunks::new(&inner)),
            cycles: Cycles::new(inner.config.stress.seed),
            choice: Choice::new(inner.memory.generations.is_some(), inner.config.stress.is_on()),
            allocated: 0,
            inner,
            way,
            report: CycleReport::default(),
            idle,
            is_idle: false,
            looked_for_idle: Instant::now(),
            uncommitted_beyond: Instant::now(),
        }
    }

    /// Works until shutdown.
    pub(crate) fn run(&mut self) {
        let inner = Arc::clone(&self.inner);
        // Otherwise whole, as it is until somebody says so.
        if self.choice.first() == CycleKind::Young {
            inner.schedule.requests.set_next(CycleKind::Young);
        }
        inner.pace_begins();
        loop {
            match self.next_work() {
                Work::Cycle { kind: asked, packs } => {
                    let kind = self.possible(asked);
                    inner.pace_cycle_begins(kind);
                    let begun = self.report.begins(&inner, self.cycles.next());
                    let is_slow = self.idle.is_slow();
                    let goal = if packs || is_slow { EvacuationGoal::Pack } else { EvacuationGoal::Reclaim };
                    match kind {
                        CycleKind::Whole => self.way.collect(&inner, &mut self.cycles, goal),
                        CycleKind::Young => self.way.collect_young(&inner, &mut self.cycles),
                    }
                    self.choose_next(kind);
                    let Yield { marked_bytes, stay_young_bytes, .. } = self.cycles.yielded;
                    inner.pace_cycle_ended(kind, marked_bytes, stay_young_bytes);
                    let is_idle = std::mem::take(&mut self.is_idle);
                    let allocated = inner.memory.free.allocated();
                    let meanwhile = self.idle.allocated_since(allocated);
                    self.idle.cycle_ended(allocated, is_idle);
                    self.report.ended(&inner, begun);
                    inner.schedule.requests.cycle_finished(asked);
                    if inner.schedule.external.is_due() {
                        // External memory added during the cycle did not request one; check again.
                        inner.schedule.requests.request_whole_soon();
                    }
                    inner.memory.free.wake_all();
                    self.huge.iter_mut().for_each(|huge| huge.cycle_ended(&inner));
                    if is_idle && inner.config.uncommit_delay.is_some() {
                        inner.uncommit(Duration::ZERO);
                    } else if is_slow && kind == CycleKind::Whole {
                        // Until the next cycle the program needs about as much as since the last.
                        let surplus = inner.memory.free.free_committed().saturating_sub(meanwhile);
                        inner.uncommit_some(Duration::ZERO, surplus);
                    }
                    self.look_for_pressure();
                    self.uncommit_beyond();
                }
                Work::Compaction(run) => {
                    let begun = self.report.begins(&inner, self.cycles.next());
                    self.possible(CycleKind::Whole);
                    let goal = if run > 1 { EvacuationGoal::MakeRun } else { EvacuationGoal::Compact };
                    collect_in_a_pause(&inner, &mut self.cycles, goal, PauseKind::Compaction);
                    inner.report.counters.compactions.add(1);
                    self.choose_next(CycleKind::Whole);
                    // Nothing more can be freed: waiters may use all of it.
                    inner.memory.free.keep(0);
                    self.report.ended(&inner, begun);
                    inner.schedule.requests.compaction_finished();
                    inner.memory.free.wake_all();
                    self.huge.iter_mut().for_each(|huge| huge.cycle_ended(&inner));
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

    /// The kind of the cycle that begins: a young one needs a complete remembered set.
    fn possible(&self, kind: CycleKind) -> CycleKind {
        let Some(generations) = &self.inner.memory.generations else { return CycleKind::Whole };
        generations.expect_young(self.choice.expects_young() || generations.promotes_at_once());
        if self.inner.may_collect_young() { kind } else { CycleKind::Whole }
    }

    /// Chooses the kind of the next cycle, after one or a compaction.
    fn choose_next(&mut self, kind: CycleKind) {
        let (inner, yielded) = (&self.inner, self.cycles.yielded);
        let allocated = yielded.allocated_before - std::mem::replace(&mut self.allocated, yielded.allocated_before);
        let ended = Ended {
            kind,
            freed: yielded.freed,
            freed_young: yielded.freed_young,
            spent: yielded.spent,
            live_bytes: inner.memory.free.live_bytes(),
            young_bytes: yielded.young_bytes,
            old_bytes: yielded.old_bytes,
            allocated,
            kept: yielded.kept,
            blocks: inner.memory.max_blocks(),
            is_remembered: inner.may_collect_young(),
        };
        inner.schedule.requests.set_next(self.choice.next(ended));
    }

    /// Waits for work, and makes huge pages meanwhile.
    fn next_work(&mut self) -> Work {
        let requests = &self.inner.schedule.requests;
        let (begun, look) = (Instant::now(), self.next_look());
        let mut rest = self.huge.as_mut().map_or(Duration::ZERO, |huge| {
            if huge.is_due(&self.inner) { huge.step(&self.inner) } else { huge.rests_for() }
        });
        loop {
            let left = look.saturating_sub(begun.elapsed());
            let Some(huge) = &mut self.huge else { return requests.wait_for_work(left) };
            let work = requests.wait_for_work(rest.min(left));
            if work != Work::Idle || left <= rest {
                return work;
            }
            rest = huge.step(&self.inner);
        }
    }

    /// How long to wait for work: at most until memory may have to be uncommitted.
    fn next_look(&self) -> Duration {
        let uncommits = self.inner.config.uncommit_delay.filter(|_| self.inner.memory.free.free_committed() > 0);
        let looks = uncommits.map_or(Duration::MAX, |delay| (delay / 4).max(CHORES));
        let looks = if self.pressure.is_some() { looks.min(pressure::LOOK) } else { looks };
        let is_beyond = self.inner.committed_beyond() > 0 || self.inner.uses_more_than_its_goal();
        self.idle.wait(if is_beyond { CHORES.min(looks) } else { looks })
    }

    /// Where the system is short of memory, the heap makes do with little more than what lives, and
    /// packs that once.
    fn look_for_pressure(&mut self) {
        let inner = &self.inner;
        let now = Instant::now();
        let Some(pressure) = self.pressure.as_mut().filter(|pressure| pressure.is_due(now)) else { return };
        let reading = pressure.read(|error| inner.report.refusals.note(error));
        let Some(change) = pressure.look(now, reading) else { return };
        inner.schedule.soft_max.press(change == pressure::Change::Begins);
        inner.pace_anew();
        if change == pressure::Change::Begins {
            inner.schedule.requests.request_packing();
        }
    }

    /// Uncommits free memory beyond the soft maximum: a slice at a time, so that the next cycle
    /// does not wait, and a program that needs it again soon has lost little.
    fn uncommit_beyond(&mut self) {
        let blocks = self.inner.committed_beyond();
        if blocks > 0 && self.uncommitted_beyond.elapsed() >= CHORES {
            self.uncommitted_beyond = Instant::now();
            self.inner.uncommit_some(Duration::ZERO, blocks.min(SLICE_BLOCKS));
        }
    }

    fn idle_work(&mut self) {
        if self.idle.look(self.inner.memory.free.allocated()) {
            self.is_idle = true;
            self.inner.schedule.requests.request_packing();
        } else if self.idle.is_overdue(self.inner.memory.free.allocated()) {
            self.inner.schedule.requests.request_packing();
        } else if self.inner.uses_more_than_its_goal() {
            self.inner.request_cycle();
        }
        // Scan at a quarter of the delay: each scan takes the free-space lock repeatedly.
        if let Some(delay) = self.inner.config.uncommit_delay
            && self.looked_for_idle.elapsed() >= delay / 4
        {
            self.looked_for_idle = Instant::now();
            self.inner.uncommit(delay);
        }
        self.look_for_pressure();
        self.uncommit_beyond();
        self.inner.roots.strong.reclaim();
        self.inner.roots.weak.reclaim();
    }
}
