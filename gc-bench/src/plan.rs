//! What one run is to do, worked out from the command line before anything is started.

use std::sync::OnceLock;

use clap::ValueEnum;
use gc_core::probe::Capabilities;
use serde::{Deserialize, Serialize};

use crate::cli::{HeapArgs, JsonArgs, RunArgs, ScalingArgs};
use crate::failure::Failure;
use crate::machine::Memory;
use crate::size::{bytes, grouped};

const MIB: u64 = 1 << 20;

/// The seed the peer measurements use.
pub(crate) const PEER_SEED: u64 = 88_172_645_463_325_252;
/// Slots of a table of `table-churn`, as a power of two: fixed, as in the peers.
pub(crate) const TABLE_BITS: u32 = 20;
/// Bytes of a message of `message-ring`.
pub(crate) const MESSAGE_BYTES: usize = 1024;
/// Bytes of a live block of `pause-scaling`, its header and fields included.
pub(crate) const BLOCK_BYTES: u64 = 2048;

/// A workload, by the name it has on the command line and in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Workload {
    #[serde(rename = "gcbench")]
    GcBench,
    #[serde(rename = "binary-trees")]
    BinaryTrees,
    #[serde(rename = "message-ring")]
    MessageRing,
    #[serde(rename = "table-churn")]
    TableChurn,
    #[serde(rename = "json")]
    Json,
    #[serde(rename = "pause-scaling")]
    PauseScaling,
}

impl Workload {
    /// The four of a plain run, in its order.
    pub(crate) const STANDARD: [Self; 4] = [Self::GcBench, Self::BinaryTrees, Self::MessageRing, Self::TableChurn];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GcBench => "gcbench",
            Self::BinaryTrees => "binary-trees",
            Self::MessageRing => "message-ring",
            Self::TableChurn => "table-churn",
            Self::Json => "json",
            Self::PauseScaling => "pause-scaling",
        }
    }
}

/// The barrier of a run, by the name it has on the command line and in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Barrier {
    /// Test each loaded reference; compact beside the program
    Load,
    /// Stop the program for the whole collection: the baseline
    Stw,
    /// Take every page away and bring it back repaired when it is touched (Linux 5.14, userfaultfd)
    Page,
    /// The same on private anonymous memory, whose pages are moved (Linux 6.8) or copied instead of mapped again
    PageAnonymous,
}

impl Barrier {
    /// Whether pages are what is behind it.
    pub(crate) fn is_page(self) -> bool {
        matches!(self, Self::Page | Self::PageAnonymous)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Stw => "stw",
            Self::Page => "page",
            Self::PageAnonymous => "page-anonymous",
        }
    }
}

/// The heap's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HugePages {
    /// 4 KiB
    Never,
    /// 2 MiB where the system's setting is advise
    Advise,
    /// 2 MiB, made of touched memory before the run
    Collapse,
}

impl HugePages {
    /// What a workload gets that was not told: large pages where misses of the address cache are what it costs.
    fn standard(workload: Workload, pretouch: bool, quick: bool) -> Self {
        static CAN_COLLAPSE: OnceLock<bool> = OnceLock::new();
        let can = || *CAN_COLLAPSE.get_or_init(|| Capabilities::probe().collapse.support.is_yes());
        if workload == Workload::TableChurn && pretouch && !quick && can() { Self::Collapse } else { Self::Never }
    }
}

/// One run. What a workload has no use for is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    pub(crate) barrier: Barrier,
    /// The heap's maximum.
    pub(crate) heap_bytes: u64,
    pub(crate) threads: u64,
    /// Rounds, depth, pushes, records a thread.
    pub(crate) size: u64,
    /// Warm-up, in the unit of `size` (gcbench: rounds; binary-trees: depth; message-ring: pushes).
    pub(crate) warm_up: u64,
    /// Messages that stay (message-ring).
    pub(crate) held: u64,
    /// Length of the measured part, where the work is not fixed.
    pub(crate) seconds: f64,
    pub(crate) warm_up_seconds: f64,
    /// Operations a second and thread; 0: as fast as it goes.
    pub(crate) rate: u64,
    pub(crate) seed: u64,
    /// Collector threads; 0: the heap's own choice.
    pub(crate) workers: u64,
    pub(crate) pretouch: bool,
    pub(crate) huge_pages: HugePages,
    /// Live data beside the churn (pause-scaling).
    pub(crate) live_bytes: u64,
    /// Root slots (pause-scaling).
    pub(crate) roots: u64,
    /// Collections to measure (pause-scaling).
    pub(crate) cycles: u64,
    /// Which repeat of its workload this run is, from 1.
    pub(crate) repeat: u64,
    /// Length of the document that follows the plan (json).
    pub(crate) document_bytes: u64,
    pub(crate) quick: bool,
}

impl Plan {
    /// With the first of the barriers that were named.
    fn new(workload: Workload, heap: &HeapArgs) -> Self {
        Self {
            workload,
            barrier: heap.barrier[0],
            heap_bytes: 0,
            threads: 1,
            size: 0,
            warm_up: 0,
            held: 0,
            seconds: 0.0,
            warm_up_seconds: 0.0,
            rate: 0,
            seed: 0,
            workers: heap.workers.unwrap_or(0),
            pretouch: !heap.no_pretouch,
            huge_pages: heap.huge_pages.unwrap_or(HugePages::Never),
            live_bytes: 0,
            roots: 0,
            cycles: 0,
            repeat: 1,
            document_bytes: 0,
            quick: false,
        }
    }

    /// The standard sizes, or the small ones.
    fn standard(workload: Workload, heap: &HeapArgs, quick: bool) -> Self {
        let mut p = Self { quick, ..Self::new(workload, heap) };
        p.huge_pages = heap.huge_pages.unwrap_or_else(|| HugePages::standard(workload, p.pretouch, quick));
        let pick = |standard: u64, small: u64| if quick { small } else { standard };
        match workload {
            Workload::GcBench => {
                (p.heap_bytes, p.size, p.warm_up) = (pick(256, 128) * MIB, pick(30, 8), pick(3, 1));
            }
            Workload::BinaryTrees => {
                (p.heap_bytes, p.size) = (pick(512, 128) * MIB, pick(20, 18));
            }
            Workload::MessageRing => {
                (p.heap_bytes, p.size) = (pick(1024, 128) * MIB, pick(5_000_000, 2_000_000));
                (p.held, p.warm_up) = (pick(200_000, 20_000), pick(2_000_000, 200_000));
            }
            Workload::TableChurn => {
                (p.heap_bytes, p.size, p.threads) = (pick(2048, 256) * MIB, pick(750_000, 50_000), 2);
                (p.seconds, p.warm_up_seconds) = if quick { (2.0, 0.5) } else { (10.0, 4.0) };
                p.seed = PEER_SEED;
            }
            Workload::Json => {
                (p.heap_bytes, p.threads, p.seed) = (512 * MIB, 2, PEER_SEED);
                (p.seconds, p.warm_up_seconds) = if quick { (1.0, 0.3) } else { (10.0, 2.0) };
            }
            Workload::PauseScaling => {}
        }
        p
    }

    /// The table's and the progress bar's name for the run, without its repeat.
    pub(crate) fn label(&self) -> String {
        match self.barrier {
            Barrier::Load => self.work(),
            other => format!("{}, {}", self.work(), other.name()),
        }
    }

    /// The label without the barrier: runs that share it did the same work.
    pub(crate) fn work(&self) -> String {
        let mut label = self.workload.name().to_owned();
        match self.workload {
            Workload::PauseScaling => {
                label = format!("{} live, {} roots", bytes(self.live_bytes), grouped(self.roots));
            }
            Workload::BinaryTrees | Workload::TableChurn | Workload::Json => {
                label += &format!(", {} thread{}", self.threads, if self.threads == 1 { "" } else { "s" });
            }
            Workload::GcBench | Workload::MessageRing => {}
        }
        if self.rate > 0 {
            label += &format!(", {} op/s each", grouped(self.rate));
        }
        label
    }

    /// A lower bound of what is alive at once: a heap below it cannot work.
    pub(crate) fn min_live_bytes(&self) -> u64 {
        let tree = |depth: u64, node: u64| (2u64 << depth.min(40)).saturating_mul(node);
        match self.workload {
            // The stretch tree alone, then the long-lived one with the doubles.
            Workload::GcBench => tree(18, 32).max(tree(16, 32) + 4_000_000),
            // The stretch tree; or the kept one beside the threads' deepest.
            Workload::BinaryTrees => tree(self.size + 1, 24).max(tree(self.size, 24).saturating_mul(1 + self.threads)),
            Workload::MessageRing => self.held * (8 + 16 + MESSAGE_BYTES as u64),
            Workload::TableChurn => {
                let record = 40 + 16 + 24 + 244;
                self.threads.saturating_mul((8 << TABLE_BITS) + self.size.saturating_mul(record))
            }
            Workload::Json => 0,
            Workload::PauseScaling => self.live_bytes,
        }
    }

    /// Refuses a heap that cannot work here, before anything is run.
    pub(crate) fn check(&self, memory: Memory) -> Result<(), Failure> {
        let name = self.workload.name();
        if self.barrier.is_page()
            && let Some(missing) = missing_for_page_barrier()
        {
            return Err(Failure::input(format!("the page barrier cannot work here: {missing}; `load` and `stw` can")));
        }
        if self.huge_pages == HugePages::Collapse && !self.pretouch {
            return Err(Failure::input(
                "--huge-pages collapse makes large pages of touched ones: leave --no-pretouch out",
            ));
        }
        if self.heap_bytes == 0 {
            return Err(Failure::input("a heap of 0 bytes holds nothing: give --heap a size such as 256m"));
        }
        if self.heap_bytes > memory.total_bytes {
            let (heap, total) = (bytes(self.heap_bytes), bytes(memory.total_bytes));
            return Err(Failure::input(format!(
                "a heap of {heap} does not fit this machine: it has {total} of memory"
            )));
        }
        if self.pretouch && self.heap_bytes > memory.available_bytes {
            let (heap, free) = (bytes(self.heap_bytes), bytes(memory.available_bytes));
            return Err(Failure::input(format!(
                "a heap of {heap} cannot be touched beforehand: {free} of memory are available (--no-pretouch commits as it goes)"
            )));
        }
        let least = self.min_live_bytes();
        if self.heap_bytes < least {
            let (heap, least) = (bytes(self.heap_bytes), bytes(least));
            return Err(Failure::input(format!(
                "a heap of {heap} cannot hold {name} at this size: more than {least} are alive at once"
            )));
        }
        if self.threads > 1024 {
            return Err(Failure::input("more than 1024 mutator threads measure nothing but the scheduler"));
        }
        if self.workers > 1024 {
            return Err(Failure::input("more than 1024 collector threads measure nothing but the scheduler"));
        }
        Ok(())
    }
}

/// What the page barrier needs and the kernel or a sandbox refuses.
fn missing_for_page_barrier() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let look = || {
        let can = Capabilities::probe();
        let needed = [&can.take_away, &can.userfaultfd, &can.uffd_minor_shmem, &can.uffd_sigbus];
        needed.into_iter().find(|item| !item.support.is_yes()).map(|item| format!("{}: {}", item.name, item.support))
    };
    MISSING.get_or_init(look).clone()
}

/// The runs of `gc-bench [run]`, in order.
pub(crate) fn standard_runs(args: &RunArgs) -> Result<Vec<Plan>, Failure> {
    args.heap.check_barriers()?;
    let mut workloads: Vec<Workload> = Vec::new();
    for w in args.workloads.iter().map(|&w| Workload::from(w)) {
        if workloads.contains(&w) {
            return Err(Failure::input(format!("{} is named twice (--repeats N runs it N times)", w.name())));
        }
        workloads.push(w);
    }
    if workloads.is_empty() {
        workloads.extend(Workload::STANDARD);
    }
    let mut plans = Vec::new();
    for &workload in &workloads {
        refuse_useless(workload, args)?;
        let base = with_options(Plan::standard(workload, &args.heap, args.quick), args)?;
        let threads = match (workload, args.threads) {
            (Workload::BinaryTrees, None) => vec![1, 2],
            _ => vec![base.threads],
        };
        for threads in threads {
            // Barriers by turns, so that what changes on the machine meanwhile changes for all.
            for repeat in 1..=args.repeats.unwrap_or(if args.quick { 1 } else { 3 }) {
                for &barrier in &args.heap.barrier {
                    plans.push(Plan { threads, repeat, barrier, ..base.clone() });
                }
            }
        }
    }
    Ok(plans)
}

/// An option that changes nothing would make a reader believe that it did.
fn refuse_useless(workload: Workload, args: &RunArgs) -> Result<(), Failure> {
    use Workload::{BinaryTrees, TableChurn};
    let given = [
        ("--threads", args.threads.is_some(), &[BinaryTrees, TableChurn][..]),
        ("--seconds", args.seconds.is_some(), &[TableChurn]),
        ("--rate", args.rate.is_some(), &[TableChurn]),
        ("--seed", args.seed.is_some(), &[TableChurn]),
    ];
    for (option, given, users) in given {
        if given && !users.contains(&workload) {
            let users: Vec<_> = users.iter().map(|w| w.name()).collect();
            return Err(Failure::input(format!(
                "{} has no use for {option}: name the workloads that have ({})",
                workload.name(),
                users.join(", ")
            )));
        }
    }
    if args.size.is_some() && args.workloads.len() != 1 {
        return Err(Failure::input("--size means something else to each workload: name the one it is for"));
    }
    Ok(())
}

fn with_options(mut p: Plan, args: &RunArgs) -> Result<Plan, Failure> {
    p.heap_bytes = args.heap_size.unwrap_or(p.heap_bytes);
    p.threads = args.threads.unwrap_or(p.threads);
    p.seconds = args.seconds.unwrap_or(p.seconds);
    p.rate = args.rate.unwrap_or(p.rate);
    p.seed = args.seed.unwrap_or(p.seed);
    p.size = args.size.unwrap_or(p.size);
    let limit = match p.workload {
        Workload::GcBench => 1..=1_000_000,
        Workload::BinaryTrees => 5..=32,
        Workload::MessageRing => 1..=u64::from(u32::MAX) * 16,
        _ => 1..=u64::from(u32::MAX),
    };
    if !limit.contains(&p.size) {
        let (name, from, to) = (p.workload.name(), limit.start(), limit.end());
        return Err(Failure::input(format!("--size of {name} must be {from} to {}", grouped(*to))));
    }
    if p.workload == Workload::BinaryTrees {
        // The peers warm up three levels lower; below depth 4 there is nothing to build.
        p.warm_up = (p.size - 3).max(4);
    }
    if p.rate > 1_000_000_000 {
        return Err(Failure::input("--rate above 1,000,000,000 operations a second and thread cannot be kept"));
    }
    Ok(p)
}

/// The runs of `gc-bench json`, for a document of that many bytes that keeps `live` bytes a copy in the heap.
pub(crate) fn json_runs(args: &JsonArgs, document_bytes: u64) -> Result<Vec<Plan>, Failure> {
    args.heap.check_barriers()?;
    let mut p = Plan::standard(Workload::Json, &args.heap, args.quick);
    p.heap_bytes = args.heap_size.unwrap_or(p.heap_bytes);
    p.threads = args.threads.unwrap_or(p.threads);
    p.seconds = args.seconds.unwrap_or(p.seconds);
    p.seed = args.seed.unwrap_or(p.seed);
    p.document_bytes = document_bytes;
    if p.threads < 2 {
        return Err(Failure::input("json needs at least 2 threads: one parses, the others query"));
    }
    let of_repeat = |repeat| args.heap.barrier.iter().map(move |&barrier| (repeat, barrier));
    let turns = (1..=args.repeats.unwrap_or(1)).flat_map(of_repeat);
    Ok(turns.map(|(repeat, barrier)| Plan { repeat, barrier, ..p.clone() }).collect())
}

/// The points of `gc-bench pause-scaling` that fit into `memory`, and of those that do not, why.
pub(crate) fn scaling_runs(args: &ScalingArgs, memory: Memory) -> Result<(Vec<Plan>, Vec<String>), Failure> {
    args.heap.check_barriers()?;
    if args.heap.barrier.len() > 1 {
        return Err(Failure::input("pause-scaling compares sizes: name one barrier"));
    }
    let live: &[u64] = if args.quick { &[16, 64, 256] } else { &[16, 64, 256, 1024, 4096] };
    let roots: &[u64] = if args.quick { &[1_000, 100_000] } else { &[1_000, 100_000, 1_000_000] };
    // The smallest number of roots belongs to the row of live sizes, so that each point is run once.
    let points = live.iter().map(|&mib| (mib * MIB, 10)).chain(roots.iter().map(|&n| (64 * MIB, n)));
    let (mut plans, mut left_out) = (Vec::new(), Vec::new());
    for (live_bytes, roots) in points {
        let plan = Plan {
            live_bytes,
            roots,
            // Room for what is allocated while a cycle runs: without it, stalls would be measured and not pauses.
            heap_bytes: live_bytes + live_bytes / 2 + 256 * MIB,
            cycles: args.cycles.unwrap_or(if args.quick { 10 } else { 60 }),
            seed: PEER_SEED,
            quick: args.quick,
            ..Plan::new(Workload::PauseScaling, &args.heap)
        };
        // Side metadata comes on top of the heap.
        let need = plan.heap_bytes + plan.heap_bytes / 16;
        if need > memory.available_bytes {
            let (live, need, free) = (bytes(live_bytes), bytes(need), bytes(memory.available_bytes));
            left_out.push(format!("{live} of live data left out: it needs {need}, and {free} of memory are available"));
        } else {
            plans.push(plan);
        }
    }
    Ok((plans, left_out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Command};

    const ROOMY: Memory = Memory { total_bytes: 24 << 30, available_bytes: 20 << 30 };

    fn runs(args: &[&str]) -> Result<Vec<Plan>, Failure> {
        standard_runs(&cli::parse([&["gc-bench"], args].concat())?.expect("not help").run)
    }

    #[test]
    fn a_plain_run_is_the_issue_s_list() {
        let plans = runs(&["--repeats", "1"]).unwrap();
        let shape: Vec<_> = plans.iter().map(|p| (p.workload, p.threads, p.heap_bytes / MIB, p.size, p.rate)).collect();
        assert_eq!(
            shape,
            [
                (Workload::GcBench, 1, 256, 30, 0),
                (Workload::BinaryTrees, 1, 512, 20, 0),
                (Workload::BinaryTrees, 2, 512, 20, 0),
                (Workload::MessageRing, 1, 1024, 5_000_000, 0),
                (Workload::TableChurn, 2, 2048, 750_000, 0),
            ]
        );
        assert_eq!(plans[1].warm_up, 17);
        assert!(plans.iter().all(|p| p.check(ROOMY).is_ok()));
        assert_eq!(runs(&[]).unwrap().len(), 15);
        assert!(runs(&["--quick"]).unwrap().iter().all(|p| p.check(ROOMY).is_ok()));
    }

    #[test]
    fn threads_given_make_one_run_a_repeat() {
        let plans = runs(&["binary-trees", "--threads", "2", "--repeats", "1"]).unwrap();
        assert_eq!(plans.len(), 1);
        assert_eq!(plans[0].threads, 2);
    }

    #[test]
    fn barriers_take_turns() {
        let plans = runs(&["gcbench", "--barrier", "load,stw", "--repeats", "2"]).unwrap();
        let turns: Vec<_> = plans.iter().map(|p| (p.repeat, p.barrier)).collect();
        let (load, stw) = (Barrier::Load, Barrier::Stw);
        assert_eq!(turns, [(1, load), (1, stw), (2, load), (2, stw)]);
        assert_eq!((plans[1].label().as_str(), plans[1].work().as_str()), ("gcbench, stw", "gcbench"));
        assert!(runs(&["gcbench", "--barrier", "stw,stw"]).unwrap_err().line().contains("twice"));
    }

    #[test]
    fn an_option_without_use_is_an_error() {
        for args in [
            &["message-ring", "--threads", "2"][..],
            &["gcbench", "--rate", "1000"],
            &["--rate", "1000"],
            &["binary-trees", "--seconds", "3"],
            &["gcbench", "--seed", "3"],
            &["--size", "3"],
            &["gcbench", "message-ring", "--size", "3"],
            &["gcbench", "gcbench"],
            &["binary-trees", "--size", "60"],
        ] {
            let e = runs(args).expect_err(&format!("{args:?}"));
            assert_eq!(e.code(), 2, "{e}");
        }
        assert!(runs(&["table-churn", "--rate", "300000", "--seed", "3", "--seconds", "2", "--size", "1000"]).is_ok());
    }

    #[test]
    fn heaps_that_cannot_work_are_refused() {
        let check = |args: &[&str]| runs(args).unwrap()[0].check(ROOMY).expect_err("refused").line();
        assert!(check(&["gcbench", "--heap", "0"]).contains("0 bytes"));
        assert!(check(&["gcbench", "--heap", "1t"]).contains("does not fit this machine: it has 24 GiB"));
        assert!(check(&["gcbench", "--heap", "21g"]).contains("--no-pretouch"));
        assert!(check(&["message-ring", "--heap", "64m"]).contains("alive at once"));
        assert!(runs(&["gcbench", "--heap", "21g", "--no-pretouch"]).unwrap()[0].check(ROOMY).is_ok());
        assert!(runs(&["table-churn", "--heap", "1g"]).unwrap()[0].check(ROOMY).is_ok());
    }

    #[test]
    fn scaling_leaves_out_what_does_not_fit_and_says_so() {
        let scaling = |memory| match cli::parse(["gc-bench", "pause-scaling"]).unwrap().unwrap().command {
            Some(Command::PauseScaling(args)) => scaling_runs(&args, memory).unwrap(),
            other => panic!("{other:?}"),
        };
        let (plans, left_out) = scaling(ROOMY);
        assert_eq!((plans.len(), left_out.len()), (8, 0));
        assert!(plans.iter().all(|p| p.check(ROOMY).is_ok()));
        let (plans, left_out) = scaling(Memory { total_bytes: 4 << 30, available_bytes: 3 << 30 });
        assert_eq!((plans.len(), left_out.len()), (7, 1));
        assert!(left_out[0].starts_with("4 GiB"));
    }
}
