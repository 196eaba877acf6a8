//! The plan of a run, derived from the command line before anything is started.

use clap::Args;
use gc_heap::ByteSize;
use serde::{Deserialize, Serialize};

use crate::collector::Collector;
use crate::failure::Failure;
use crate::heap::{Choice, HeapArgs, HeapPlan};
use crate::json_text::Census;
use crate::machine::Memory;
use crate::output::OutputArgs;
use crate::peer::kits::Kits;
use crate::rate::Rate;
use crate::schedule::{RepeatArgs, Schedule};
use crate::size::{bytes, grouped};
use crate::workload::json::{Json, JsonOptions};
use crate::workload::pause_scaling::{PauseScaling, ScalingOptions};
use crate::workload::{Work, WorkArgs};

/// `gc-bench [run]`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// `gc-bench json`.
#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    #[command(flatten)]
    pub(crate) json: JsonOptions,
    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// `gc-bench pause-scaling`: its heaps follow from its points, and a point is run once.
#[derive(Debug, Args)]
pub(crate) struct ScalingArgs {
    #[command(flatten)]
    heap: HeapArgs,

    #[command(flatten)]
    points: ScalingOptions,

    #[command(flatten)]
    rate: RateArgs,

    /// Only the smaller points, and fewer collections
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How fast mutators are to go.
#[derive(Debug, Args)]
struct RateArgs {
    /// Operations a second and thread, due every millisecond by a thousandth; `sweep`: as fast as
    /// it goes, then 50, 70 and 90 % of that [default: as fast as it goes]
    #[arg(long, value_name = "OPS|sweep")]
    rate: Option<Rate>,
}

impl RateArgs {
    /// Of each series of runs, in order: operations a second and thread, and the percentage of the
    /// saturated rate that it is to be. 0 is neither.
    fn series(&self) -> Vec<(u64, u64)> {
        match self.rate {
            None => vec![(0, 0)],
            Some(Rate::PerSecond(rate)) => vec![(rate, 0)],
            Some(Rate::Sweep) => [0, 50, 70, 90].map(|percent| (0, percent)).into(),
        }
    }
}

/// What a session of runs is told beside the workloads' own options.
#[derive(Debug, Args)]
pub(crate) struct SessionArgs {
    #[command(flatten)]
    heap: HeapArgs,

    /// The heap's maximum: a number with k, m or g (KiB, MiB, GiB) [default: the workload's own,
    /// see `gc-bench list`]
    #[arg(long = "heap", value_name = "SIZE")]
    heap_size: Option<ByteSize>,

    #[command(flatten)]
    repeats: RepeatArgs,

    #[command(flatten)]
    rate: RateArgs,

    /// Keep the order of all samples in the JSON, some MB a run: what metered latency is computed
    /// from
    #[arg(long)]
    stretches: bool,

    /// Everything small: a look at all of it in about ten seconds
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl SessionArgs {
    /// Some works, each with every barrier.
    fn runs(&self, works: Vec<Work>, usual_repeats: u64) -> Result<Runs, Failure> {
        self.heap.check_barriers()?;
        self.heap.check_against()?;
        if !self.heap.peer.is_empty()
            && let Some(work) = works.iter().find(|work| !work.has_peers())
        {
            return Err(Failure::input(format!("{} is of this heap alone: leave out --peer", work.name())));
        }
        let (schedule, kits) = (self.repeats.schedule(usual_repeats)?, self.heap.kits()?);
        let cpus = self.heap.cpus()?;
        let mut plans = Vec::new();
        for work in works {
            let heap_bytes = self.heap_size.map_or_else(|| work.heap_bytes(self.quick), ByteSize::bytes);
            let large_pages = work.large_pages_help() && !self.quick;
            let choice = Choice { large_pages, pretouch: work.wants_pretouch() };
            let heaps = self.heap.plans(heap_bytes, choice, &kits, &cpus);
            for (rate, rate_percent) in self.rate.series() {
                let plan = |heap: &HeapPlan| Plan {
                    work: work.clone(),
                    heap: heap.clone().for_mutators(work.threads()),
                    rate,
                    rate_percent,
                    repeat: 1,
                    quick: self.quick,
                    stretches: self.stretches,
                    point: None,
                };
                plans.extend(heaps.iter().map(plan));
            }
        }
        Ok(Runs { plans, schedule, left_out: kits.left_out() })
    }
}

/// What a session runs: each plan, as often as the schedule says.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) plans: Vec<Plan>,
    pub(crate) schedule: Schedule,
    /// What cannot be run here, a sentence each: peers that are not installed.
    pub(crate) left_out: Vec<String>,
}

impl Runs {
    /// How many, at first.
    pub(crate) fn all(&self) -> usize {
        self.plans.len() * self.schedule.repeats as usize
    }

    /// Says on standard error which peers are not installed.
    pub(crate) fn say_what_is_left_out(&self) {
        for line in &self.left_out {
            eprintln!("gc-bench: {line}");
        }
    }

    /// What the JSON of each plan's runs says that it is.
    pub(crate) fn settings(&self) -> Vec<serde_json::Value> {
        self.plans.iter().map(|plan| serde_json::to_value(plan).expect("plain data")).collect()
    }
}

/// One run. Its JSON is flat: an option that its workload does not have is not there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    #[serde(flatten)]
    pub(crate) work: Work,
    #[serde(flatten)]
    pub(crate) heap: HeapPlan,
    /// Operations a second and thread; 0: as fast as it goes, or not known yet.
    pub(crate) rate: u64,
    /// The part of the saturated rate that `rate` is, in percent; 0 where it is no part of it.
    pub(crate) rate_percent: u64,
    /// Which repeat of its workload this run is, from 1.
    pub(crate) repeat: u64,
    pub(crate) quick: bool,
    /// Whether the report keeps the order of all samples.
    pub(crate) stretches: bool,
    /// What tells it from the other points of its sweep, if it is one: `heap 64 MiB`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) point: Option<String>,
}

impl Plan {
    /// The table's and the progress bar's name for the run, without its repeat.
    pub(crate) fn label(&self) -> String {
        match self.heap.barrier {
            Collector::LOAD if self.heap.against.is_none() => self.work_label(),
            _ => format!("{}, {}", self.work_label(), self.heap.collector()),
        }
    }

    /// The label without the barrier: runs that share it did the same work.
    pub(crate) fn work_label(&self) -> String {
        let work = self.work.label();
        let work = match (self.rate_percent, self.rate) {
            (0, 0) => work,
            (0, rate) => format!("{work}, {} op/s each", grouped(rate)),
            (percent, _) => format!("{work}, {percent} % of its rate"),
        };
        let place = self.heap.place();
        [place.as_ref(), self.point.as_ref()].into_iter().flatten().fold(work, |work, part| format!("{work}, {part}"))
    }

    /// Whether this run, as fast as it goes, shows the rate that `other` is to have a part of.
    pub(crate) fn is_saturated_run_of(&self, other: &Plan) -> bool {
        let other = Plan { rate: 0, rate_percent: 0, repeat: self.repeat, ..other.clone() };
        // As the JSON has them: a plan that came back from its process has no more than that.
        serde_json::to_value(self).expect("plain data") == serde_json::to_value(other).expect("plain data")
    }

    /// The point of a `pause-scaling` run.
    pub(crate) fn scaling(&self) -> Option<&PauseScaling> {
        if let Work::PauseScaling(point) = &self.work { Some(point) } else { None }
    }

    /// Rejects a plan that cannot work here, before anything is run.
    pub(crate) fn check(&self, memory: Memory) -> Result<(), Failure> {
        self.heap.check(memory)?;
        let (name, least) = (self.work.name(), self.work.min_live_bytes());
        if self.heap.has_size() && self.heap.heap_bytes < least {
            let (heap, least) = (bytes(self.heap.heap_bytes), bytes(least));
            return Err(Failure::input(format!(
                "a heap of {heap} cannot hold {name} at this size: more than {least} are alive at once"
            )));
        }
        let (lasts, soft_max) = (self.work.lasting_live_bytes(), self.heap.own.soft_max_bytes);
        if let Some(soft_max) = soft_max.filter(|&soft_max| soft_max < lasts) {
            let (soft_max, lasts) = (bytes(soft_max), bytes(lasts));
            return Err(Failure::input(format!(
                "a soft maximum of {soft_max} cannot hold {name} at this size: more than {lasts} are alive all the time"
            )));
        }
        if self.work.threads() > 1024 {
            return Err(Failure::input("more than 1024 mutator threads measure nothing but the scheduler"));
        }
        Ok(())
    }
}

/// The runs of `gc-bench [run]`.
pub(crate) fn standard_runs(args: &RunArgs) -> Result<Runs, Failure> {
    let session = &args.session;
    session.runs(args.work.works(session.quick)?, if session.quick { 1 } else { 3 })
}

/// The runs of `gc-bench json`, for a document of that many bytes.
pub(crate) fn json_runs(args: &JsonArgs, document_bytes: u64, census: Census) -> Result<Runs, Failure> {
    let session = &args.session;
    let json = Json::new(&args.json, session.quick, document_bytes, census)?;
    session.runs(vec![json.into()], 1)
}

/// The points of `gc-bench pause-scaling` that fit into `memory`, and of those that do not, why.
pub(crate) fn scaling_runs(args: &ScalingArgs, memory: Memory) -> Result<(Runs, Vec<String>), Failure> {
    args.heap.check_barriers()?;
    args.heap.check_against()?;
    if args.heap.barrier.len() > 1 {
        return Err(Failure::input("pause-scaling compares sizes: name one barrier"));
    }
    if !args.heap.peer.is_empty() {
        return Err(Failure::input("pause-scaling is of this heap alone: leave out --peer"));
    }
    let (mut plans, mut left_out, cpus) = (Vec::new(), Vec::new(), args.heap.cpus()?);
    for point in PauseScaling::points(&args.points, args.quick) {
        let live = bytes(point.live_bytes);
        let work = Work::from(point);
        let choice = Choice { large_pages: false, pretouch: work.wants_pretouch() };
        let heap = args.heap.plans(work.heap_bytes(args.quick), choice, &Kits::default(), &cpus).remove(0);
        // Side metadata comes on top of the heap.
        let need = heap.heap_bytes + heap.heap_bytes / 16;
        if need > memory.available_bytes {
            let (need, free) = (bytes(need), bytes(memory.available_bytes));
            left_out.push(format!("{live} of live data left out: it needs {need}, and {free} of memory are available"));
        } else {
            plans.extend(args.rate.series().into_iter().map(|(rate, rate_percent)| Plan {
                work: work.clone(),
                heap: heap.clone(),
                rate,
                rate_percent,
                repeat: 1,
                quick: args.quick,
                stretches: false,
                point: None,
            }));
        }
    }
    Ok((Runs { plans, schedule: Schedule::once(), left_out: Vec::new() }, left_out))
}

/// Plans as the command line makes them, for tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line<T: Args> {
        #[command(flatten)]
        args: T,
    }

    /// Reads the options of a command.
    pub(super) fn read<T: Args>(args: &[&str]) -> Result<T, Failure> {
        let line = Line::<T>::try_parse_from([&["gc-bench"], args].concat());
        line.map(|line| line.args).map_err(|e| Failure::input(e.to_string()))
    }

    /// The runs of `gc-bench run` with these options.
    pub(crate) fn runs(args: &[&str]) -> Result<Vec<Plan>, Failure> {
        Ok(standard_runs(&read(args)?)?.plans)
    }
}

#[cfg(test)]
mod tests;
