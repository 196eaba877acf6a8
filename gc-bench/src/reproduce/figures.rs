//! The tables of the book that are made again: what each runs, and what must come out.

use super::claim::{Claim, Measure, Side};
use super::cost::{Cost, Named};
use crate::primitives::row::Group;

/// A table of the book.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) sets: &'static [Set],
    pub(super) claims: &'static [Claim],
    /// Of primitives.
    pub(super) costs: &'static [Cost],
}

/// Runs of one command line.
pub(super) struct Set {
    /// Workloads and their options, or the command's name with its.
    pub(super) line: &'static [&'static str],
    /// None: it has no use for any.
    pub(super) barriers: &'static str,
    /// What tells the works from those of the same name with other options.
    pub(super) point: Option<&'static str>,
}

const fn set(line: &'static [&'static str], barriers: &'static str) -> Set {
    Set { line, barriers, point: None }
}

const fn claim(of: Measure, own: Side, over: Side, band: (f64, f64)) -> Claim {
    Claim { own, over, of, band }
}

const fn side(work: &'static str, collector: &'static str) -> Side {
    Side { work, collector }
}

/// Over that of `load`.
pub(super) const fn time(work: &'static str, collector: &'static str, band: (f64, f64)) -> Claim {
    claim(Measure::Time, side(work, collector), side(work, "load"), band)
}

/// Over that of `load`.
const fn cpu(work: &'static str, collector: &'static str, band: (f64, f64)) -> Claim {
    claim(Measure::Cpu, side(work, collector), side(work, "load"), band)
}

/// Over the longest of the baseline.
const fn pause(work: &'static str, collector: &'static str, most: f64) -> Claim {
    claim(Measure::LongestPause, side(work, collector), side(work, "stw"), (0.0, most))
}

/// At one point of `pause-scaling` over that at another.
const fn grows(collector: &'static str, point: &'static str, over: &'static str, band: (f64, f64)) -> Claim {
    claim(Measure::MedianPause, side(point, collector), side(over, collector), band)
}

const fn cost(group: Group, own: Named, over: Named, band: (f64, f64)) -> Cost {
    Cost { group, own, over, band }
}

/// As fast as it goes, on small pages, and at a set rate.
const CHURN: &str = "table-churn, 2 threads";
const SMALL_PAGES: &str = "4 KiB pages";
const CHURN_ON_SMALL_PAGES: &str = "table-churn, 2 threads, 4 KiB pages";
const PACED: &str = "table-churn, 2 threads, 300,000 op/s each";
const TREES: &str = "binary-trees, 2 threads";
const TREES_ALONE: &str = "binary-trees, 1 thread";

/// Points of `pause-scaling`.
const LEAST_LIVE: &str = "16 MiB live, 10 roots";
const MOST_LIVE: &str = "4 GiB live, 10 roots";
const FEW_ROOTS: &str = "64 MiB live, 10 roots";
const MANY_ROOTS: &str = "64 MiB live, 1,000,000 roots";

const ALL: &str = "load,page,stw";
const ON_SMALL_PAGES: &[&str] = &["table-churn", "--seconds", "4", "--huge-pages", "never"];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub(super) static FIGURES: [Figure; 12] = [
    Figure {
        name: "binary-trees",
        about: "two threads that build, count and drop trees",
        sets: &[set(&["binary-trees", "--threads", "2"], ALL)],
        claims: &[
            time(TREES, "page", (0.75, 1.35)),
            cpu(TREES, "page", (0.85, 1.25)),
            time(TREES, "stw", (0.6, 1.15)),
            cpu(TREES, "stw", (0.75, 1.05)),
        ],
        costs: &[],
    },
    Figure {
        name: "gcbench",
        about: "trees beside a long-lived one",
        sets: &[set(&["gcbench"], ALL)],
        claims: &[
            time("gcbench", "page", (0.75, 1.35)),
            cpu("gcbench", "page", (0.85, 1.2)),
            time("gcbench", "stw", (0.75, 1.35)),
            cpu("gcbench", "stw", (0.75, 1.05)),
            pause("gcbench", "page", 0.25),
        ],
        costs: &[],
    },
    Figure {
        name: "message-ring",
        about: "a ring of messages, of which the oldest dies",
        sets: &[set(&["message-ring"], ALL)],
        claims: &[
            time("message-ring", "page", (0.75, 1.4)),
            cpu("message-ring", "page", (0.85, 1.35)),
            time("message-ring", "stw", (0.7, 1.35)),
            cpu("message-ring", "stw", (0.7, 1.1)),
            pause("message-ring", "load", 0.25),
        ],
        costs: &[],
    },
    Figure {
        name: "table-churn",
        about: "hash tables whose records die at random, as fast as it goes",
        sets: &[set(&["table-churn", "--seconds", "4"], ALL)],
        claims: &[
            time(CHURN, "page", (1.15, 2.2)),
            time(CHURN, "stw", (0.65, 1.15)),
            pause(CHURN, "load", 0.1),
            pause(CHURN, "page", 0.1),
        ],
        costs: &[],
    },
    Figure {
        name: "table-churn-rate",
        about: "the same at 300,000 operations a second and thread",
        sets: &[set(&["table-churn", "--seconds", "10", "--rate", "300000", "--heap", "1g"], ALL)],
        claims: &[
            cpu(PACED, "page", (1.3, 2.6)),
            cpu(PACED, "stw", (0.7, 1.2)),
            pause(PACED, "load", 0.1),
            pause(PACED, "page", 0.2),
        ],
        costs: &[],
    },
    Figure {
        name: "generations",
        about: "young objects collected alone most of the time",
        sets: &[set(&["binary-trees", "gcbench", "message-ring"], "load,load-generations")],
        claims: &[
            cpu(TREES_ALONE, "load-generations", (0.6, 0.95)),
            cpu(TREES, "load-generations", (0.65, 1.02)),
            cpu("gcbench", "load-generations", (0.65, 1.02)),
            cpu("message-ring", "load-generations", (0.75, 1.25)),
            time("message-ring", "load-generations", (0.7, 1.35)),
        ],
        costs: &[],
    },
    Figure {
        name: "generations-churn",
        about: "table-churn, whose objects die at random, with generations and without",
        sets: &[set(&["table-churn", "--seconds", "4"], "load,load-generations")],
        claims: &[time(CHURN, "load-generations", (0.85, 1.25))],
        costs: &[],
    },
    Figure {
        name: "page-anonymous",
        about: "table-churn on 4 KiB pages, and with private memory",
        sets: &[Set { line: ON_SMALL_PAGES, barriers: "load,page,page-anonymous", point: Some(SMALL_PAGES) }],
        claims: &[
            time(CHURN_ON_SMALL_PAGES, "page", (0.8, 2.0)),
            claim(
                Measure::Time,
                side(CHURN_ON_SMALL_PAGES, "page-anonymous"),
                side(CHURN_ON_SMALL_PAGES, "page"),
                (0.95, 2.0),
            ),
        ],
        costs: &[],
    },
    Figure {
        name: "huge-pages",
        about: "table-churn on 4 KiB pages and on pages of 2 MiB",
        sets: &[
            set(&["table-churn", "--seconds", "4", "--huge-pages", "collapse"], "load"),
            Set { line: ON_SMALL_PAGES, barriers: "load", point: Some(SMALL_PAGES) },
        ],
        claims: &[claim(Measure::Time, side(CHURN_ON_SMALL_PAGES, "load"), side(CHURN, "load"), (1.02, 1.6))],
        costs: &[],
    },
    Figure {
        name: "pause-scaling",
        about: "pauses beside 16 MiB to 4 GiB of live data, and 10 to 1,000,000 roots",
        sets: &[set(&["pause-scaling"], "load")],
        claims: &[grows("load", MOST_LIVE, LEAST_LIVE, (0.25, 12.0)), grows("load", MANY_ROOTS, FEW_ROOTS, (0.2, 5.0))],
        costs: &[],
    },
    Figure {
        name: "pause-scaling-page",
        about: "the same with the page barrier",
        sets: &[set(&["pause-scaling"], "page")],
        claims: &[grows("page", MOST_LIVE, LEAST_LIVE, (0.5, 64.0)), grows("page", MANY_ROOTS, FEW_ROOTS, (0.5, 40.0))],
        costs: &[],
    },
    Figure {
        name: "primitives",
        about: "what each mechanism of the kernel costs beside another",
        sets: &[set(&["primitives", "--sizes", "1g"], "")],
        claims: &[],
        costs: &[
            cost(
                Group::TakeAway,
                ("MREMAP_DONTUNMAP, view of whole GiB", GIB),
                ("mprotect(PROT_NONE)", GIB),
                (0.000_02, 0.002),
            ),
            cost(
                Group::TakeAway,
                ("MREMAP_DONTUNMAP, range registered", GIB),
                ("mprotect(PROT_NONE)", GIB),
                (0.02, 0.4),
            ),
            cost(Group::Fault, ("SIGBUS, UFFDIO_COPY", 4 * KIB), ("SIGBUS, UFFDIO_CONTINUE", 4 * KIB), (1.05, 2.5)),
            cost(Group::Batch, ("UFFDIO_CONTINUE", 256 * KIB), ("UFFDIO_CONTINUE", 4 * KIB), (0.08, 0.6)),
            cost(
                Group::Chunk,
                ("mremap(FIXED|DONTUNMAP) back", 2 * MIB),
                ("MADV_DONTNEED, UFFDIO_CONTINUE", 2 * MIB),
                (0.003, 0.1),
            ),
            cost(Group::View, ("piece: remap_file_pages", 2 * MIB), ("piece: mmap", 2 * MIB), (15.0, 300.0)),
            cost(
                Group::Touch,
                ("FALLOC_FL_PUNCH_HOLE, 2 MiB page", 2 * MIB),
                ("FALLOC_FL_PUNCH_HOLE, 4 KiB pages", 2 * MIB),
                (0.004, 0.15),
            ),
        ],
    },
];
