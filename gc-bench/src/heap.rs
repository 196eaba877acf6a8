//! The heap of a run: its options, and whether it can be built.

mod own;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use gc_core::probe::Capabilities;
use gc_heap::{BuildError, Heap, HeapBuilder, HugePages};
use serde::{Deserialize, Serialize};

use self::own::Own;
use crate::by_name;
use crate::collector::Collector;
use crate::failure::Failure;
use crate::machine::Memory;
use crate::peer::Peer;
use crate::peer::go::Go;
use crate::peer::java::{Java, Machine};
use crate::peer::kits::{KitArgs, Kits};
use crate::peer::node::Node;
use crate::processors::{self, Cpus};
use crate::size::{bytes, parse_count};

/// How the heap is built; every workload takes these.
#[derive(Debug, Args)]
pub(crate) struct HeapArgs {
    /// How the program is kept from stale references: `load` tests each loaded reference and
    /// compacts concurrently; `page` has the page tables do it; `stw` is the baseline: the same
    /// collector with the program stopped for the whole collection, the load barrier's test
    /// compiled in. Several, with commas between them, are run in random order and compared
    #[arg(long, value_parser = Collector::parser(), value_delimiter = ',', default_value = "load")]
    pub(crate) barrier: Vec<Collector>,

    /// Another build of this program, to run the same with in turn: a column of its own beside each
    /// barrier's, for `gc-bench compare`
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,

    /// Others to run the same work in turn with these, with commas between them: collectors of
    /// other runtimes, which must be installed, and memory that the program frees itself
    #[arg(long, value_parser = Peer::parser(), value_delimiter = ',')]
    pub(crate) peer: Vec<Peer>,

    #[command(flatten)]
    kits: KitArgs,

    /// Collector threads [default: the heap's own choice; of stw as many as processors, and where
    /// barriers are compared a second row with 1]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    workers: Option<u64>,

    /// Processors that a run's process, with all its threads, may use: how many, or which (a list
    /// with a comma or a dash: `0,2-3`, `1-1`); the others are withheld from it, and the number of
    /// workers of stw follows [default: all that this process may use]
    #[arg(long, value_name = "N|LIST")]
    cpus: Option<Cpus>,

    /// Pages of the heap: 4 KiB, or 2 MiB ones made of touched memory before the run (about 3 s per
    /// GiB) or while it goes on, or where the system's shmem_enabled is advise [default: collapse
    /// for table-churn, whose accesses are random, where the kernel can; else never]
    #[arg(long, value_parser = huge_pages())]
    huge_pages: Option<HugePages>,

    /// Do not touch the heap's pages before the run: their first touch then falls into it
    /// (those of tides are never touched)
    #[arg(long)]
    no_pretouch: bool,

    #[command(flatten)]
    own: Own,
}

fn huge_pages() -> impl TypedValueParser<Value = HugePages> {
    let choices = [
        (HugePages::Never, "4 KiB"),
        (HugePages::Advise, "2 MiB where the system's setting is advise"),
        (HugePages::Collapse, "2 MiB, made of touched memory before the run"),
        (HugePages::Background, "2 MiB, made by the collector's thread during the run"),
    ];
    PossibleValuesParser::new(choices.map(|(choice, help)| PossibleValue::new(choice.name()).help(help)))
        .try_map(|name| name.parse::<HugePages>())
}

/// What a workload chooses of its heap where nobody says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Large pages, where the kernel can make them of memory that was touched.
    pub(crate) large_pages: bool,
    pub(crate) pretouch: bool,
}

/// The most that a heap takes.
const MAX_WORKERS: u64 = 64;

fn can_collapse() -> bool {
    static CAN_COLLAPSE: OnceLock<bool> = OnceLock::new();
    *CAN_COLLAPSE.get_or_init(|| Capabilities::probe().collapse.support.is_yes())
}

impl HeapArgs {
    /// Refuses a barrier that is named twice.
    pub(crate) fn check_barriers(&self) -> Result<(), Failure> {
        for (i, barrier) in self.barrier.iter().enumerate() {
            if self.barrier[..i].contains(barrier) {
                return Err(Failure::input(format!(
                    "{barrier} is named twice (--repeats N runs each barrier N times)"
                )));
            }
        }
        for (i, peer) in self.peer.iter().enumerate() {
            if self.peer[..i].contains(peer) {
                return Err(Failure::input(format!("{peer} is named twice (--repeats N runs each peer N times)")));
            }
        }
        Ok(())
    }

    /// Refuses another build that is none.
    pub(crate) fn check_against(&self) -> Result<(), Failure> {
        let Some(program) = &self.against else { return Ok(()) };
        let said = Command::new(program).arg("--version").output();
        let is_bench = said.as_ref().is_ok_and(|out| out.stdout.starts_with(b"gc-bench "));
        if is_bench {
            return Ok(());
        }
        let why = said.err().map_or("it does not answer --version as gc-bench does".into(), |e| e.to_string());
        Err(Failure::input(format!("--against {}: {why}; name a built gc-bench", program.display())))
    }

    /// What the peers need.
    pub(crate) fn kits(&self) -> Result<Kits, Failure> {
        if let Some(option) = self.own.given().filter(|_| !self.peer.is_empty()) {
            return Err(Failure::input(format!("{option} is of this heap alone: leave out that or --peer")));
        }
        self.kits.find(&self.peer)
    }

    /// The processors that were asked for; none where all may be used.
    pub(crate) fn cpus(&self) -> Result<Vec<usize>, Failure> {
        self.cpus.as_ref().map_or(Ok(Vec::new()), Cpus::choose)
    }

    /// Of that size, one for each barrier that was named, on these processors. Pages that nobody
    /// chose are large ones where that helps the workload.
    ///
    /// The baseline, which stops the program, has as many workers as there are processors: while
    /// the program is stopped they are all free. Where it is compared with others, it is run with
    /// one worker as well, which tells what the others cost a processor from what stopping costs.
    pub(crate) fn plans(&self, heap_bytes: u64, choice: Choice, kits: &Kits, cpus: &[usize]) -> Vec<HeapPlan> {
        let compared = self.barrier.len() > 1;
        let all = || std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let processors = if cpus.is_empty() { all() } else { cpus.len() as u64 }.min(MAX_WORKERS);
        let workers = |barrier: Collector| match self.workers {
            Some(workers) => vec![workers],
            None if barrier != Collector::STW => vec![0],
            None if compared && processors > 1 => vec![processors, 1],
            None => vec![processors],
        };
        let one = HeapPlan { cpus: cpus.to_vec(), ..self.plan(heap_bytes, choice) };
        let of = |barrier| workers(barrier).into_iter().map(move |workers| (barrier, workers));
        let each = self.barrier.iter().copied().flat_map(of);
        let builds: Vec<Option<PathBuf>> = std::iter::once(None).chain(self.against.clone().map(Some)).collect();
        let ours = each.flat_map(|(barrier, workers)| {
            builds.iter().map(move |against| (barrier, workers, against.clone())).collect::<Vec<_>>()
        });
        let ours = ours.map(|(barrier, workers, against)| HeapPlan { barrier, workers, against, ..one.clone() });
        let peers = self.peer.iter().filter(|&&peer| kits.have(peer)).map(|&peer| HeapPlan {
            barrier: Collector::of_peer(peer),
            workers: 0,
            java: kits.java.clone().filter(|_| peer.is_of_jvm()),
            node: kits.node.clone().filter(|_| peer == Peer::V8),
            go: kits.go.clone().filter(|_| peer == Peer::Go),
            // The others cannot be told.
            pretouch: one.pretouch && peer.is_of_jvm(),
            huge_pages: if peer.is_of_jvm() { one.huge_pages } else { HugePages::Never },
            ..one.clone()
        });
        ours.chain(peers).collect()
    }

    fn plan(&self, heap_bytes: u64, choice: Choice) -> HeapPlan {
        let pretouch = choice.pretouch && !self.no_pretouch;
        let own_choice = || {
            if choice.large_pages && pretouch && can_collapse() { HugePages::Collapse } else { HugePages::Never }
        };
        HeapPlan {
            barrier: self.barrier[0],
            heap_bytes,
            workers: self.workers.unwrap_or(0),
            pretouch,
            huge_pages: self.huge_pages.unwrap_or_else(own_choice),
            cpus: Vec::new(),
            own: self.own.clone(),
            java: None,
            node: None,
            go: None,
            against: None,
        }
    }
}

/// The heap of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HeapPlan {
    #[serde(with = "by_name")]
    pub(crate) barrier: Collector,
    /// Its maximum.
    pub(crate) heap_bytes: u64,
    /// Collector threads; 0: the heap's own choice.
    pub(crate) workers: u64,
    pub(crate) pretouch: bool,
    #[serde(with = "by_name")]
    pub(crate) huge_pages: HugePages,
    /// The processors that its process may use; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) cpus: Vec<usize>,
    #[serde(flatten)]
    pub(crate) own: Own,
    /// Of a peer: the kit that it comes from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) java: Option<Java>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) node: Option<Node>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) go: Option<Go>,
    /// The program that runs it, if it is another build of this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) against: Option<PathBuf>,
}

impl HeapPlan {
    /// The barrier, and of the baseline how many threads collect while the program is stopped; of a
    /// peer where it comes from.
    pub(crate) fn collector(&self) -> String {
        if let Some(java) = &self.java {
            return format!("{}, JDK {}", self.barrier, java.jdk);
        }
        if let Some(node) = &self.node {
            let isolates = if node.isolates > 1 { format!(", {} isolates", node.isolates) } else { String::new() };
            return format!("{}, Node.js {}{isolates}", self.barrier, node.version);
        }
        if let Some(go) = &self.go {
            return format!("{}, Go {}", self.barrier, go.version);
        }
        let collector = match (self.barrier, self.workers) {
            (Collector::STW, 1) => format!("{}, 1 worker", self.barrier),
            (Collector::STW, workers @ 2..) => format!("{}, {workers} workers", self.barrier),
            (barrier, _) => barrier.to_string(),
        };
        if self.against.is_some() { format!("{collector}, other build") } else { collector }
    }

    /// Whether there is a heap of that size: not where the program frees its memory itself.
    pub(crate) fn has_size(&self) -> bool {
        self.barrier.peer().is_none_or(Peer::has_heap)
    }

    /// Where its process runs, in words; `None`: wherever this one may.
    pub(crate) fn place(&self) -> Option<String> {
        let kind = if self.cpus.len() == 1 { "processor" } else { "processors" };
        (!self.cpus.is_empty()).then(|| format!("on {kind} {}", processors::list(&self.cpus)))
    }

    /// The same for a run with so many mutators.
    pub(crate) fn for_mutators(mut self, mutators: u64) -> Self {
        if let Some(node) = &mut self.node {
            node.isolates = mutators;
        }
        self
    }

    /// The same heap, of a peer.
    pub(crate) fn machine(&self, peer: Peer) -> Machine {
        let large_pages = self.huge_pages != HugePages::Never;
        Machine { peer, heap_bytes: self.heap_bytes, pretouch: self.pretouch, large_pages }
    }

    pub(crate) fn builder(&self) -> HeapBuilder {
        let builder = self.barrier.apply(Heap::builder());
        let builder = builder.max_bytes(self.heap_bytes as usize).pretouch(self.pretouch).huge_pages(self.huge_pages);
        let builder = self.own.apply(builder);
        if self.workers > 0 { builder.workers(self.workers as usize) } else { builder }
    }

    /// Rejects a heap that cannot be built here, before anything is run.
    pub(crate) fn check(&self, memory: Memory) -> Result<(), Failure> {
        let ours = self.barrier.peer().is_none().then(|| self.builder().check_within(memory.total_bytes as usize));
        ours.unwrap_or(Ok(())).map_err(|error| match error {
            BuildError::PageBarrier(why) => {
                Failure::input(format!("the page barrier is unavailable: {why}; use `load` or `stw`"))
            }
            other => Failure::input(other.to_string()),
        })?;
        self.own.check_soft_max(self.heap_bytes)?;
        if self.pretouch && self.heap_bytes > memory.available_bytes {
            let (heap, free) = (bytes(self.heap_bytes), bytes(memory.available_bytes));
            return Err(Failure::input(format!(
                "a heap of {heap} cannot be committed in advance: {free} of memory are available (use --no-pretouch)"
            )));
        }
        Ok(())
    }
}
