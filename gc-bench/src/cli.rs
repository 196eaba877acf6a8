//! The command line: what can be asked for, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failure::Failure;
use crate::plan::{Barrier, HugePages, Workload};
use crate::primitives::row::Group;
use crate::size::{parse_count, parse_seconds, parse_size};

const ABOUT: &str = "Measures the Parallax heap: a garbage collector that compacts while the program runs.";

const LONG_ABOUT: &str = "\
Measures the Parallax heap: a garbage collector that compacts while the program runs.

Without arguments it runs four workloads at their standard sizes (about two minutes), prints one table, and writes \
gc-bench-report.json and gc-bench-report.html (one page with plots, nothing loaded from elsewhere). Every run has a process \
of its own, is warmed up first, and is measured only then.";

const AFTER: &str = "\
Reading the table:
  pauses      how long the program's threads were stopped, the way to the safepoint included; one
              sample a stop
  safepoint   of that, the time from the request until the last thread stood still
  stalls      how long an allocation had to wait for memory
  MMU         minimum mutator utilisation: of every window of that length, the least share that
              stops, stalls, faults and slow paths left to a thread
  faults      touches of absent pages that threads served themselves (page barrier), and what part
              of their time it took
  slow paths  loads of stale references, which threads resolve themselves (the other barriers), and
              what part of their time it took; one in 16 is timed, and stands for the others
  latency     what the program itself saw: the time of each operation (gcbench and binary-trees: of
              each subtree of depth 4; table-churn with --rate: from when a tick's work was due
              until it was done)

Examples:
  gc-bench                                         everything, standard sizes
  gc-bench --quick                                 everything, small: about ten seconds
  gc-bench message-ring --heap 512m --repeats 5    a tighter heap, medians of five
  gc-bench table-churn --rate 300000               at a set rate: latency without a queue
  gc-bench binary-trees --threads 2 --barrier stw  the same work, everything in one pause
  gc-bench gcbench --barrier load,page,stw         the barriers side by side, by turns
  gc-bench --json -                                one JSON document on standard output, no more

Exit codes: 0 done; 1 a run failed; 2 what was asked for cannot be (nothing is written then).";

const PRIMITIVES_AFTER: &str = "\
Reading the table:
  of        what a figure is the time of: a whole call over the range, or one page of 4 KiB of it
  p99, max  of the repeats; where there are few, p99 is the longest
  spread    how far off a repeat usually is: half of what lies between the quartiles, in percent
            of the median
  compared  this median against another row's at the same size in this run; which, stands above
            each group
  refused   what the kernel or the sandbox answered, and the first kernel that has the feature: a
            row, never an error

Examples:
  gc-bench primitives                           everything, about a minute; 8 GiB if there is room
  gc-bench primitives --quick                   everything, small: a few seconds
  gc-bench primitives take-away --sizes 2g,16g  one group, other sizes
  gc-bench primitives fault batch --json -      two groups, JSON on standard output and no files

Nothing of the system is changed, and no privilege is needed that the system does not ask for.
Each group has a process of its own; its memory is gone when the next begins.";

#[derive(Debug, Parser)]
#[command(name = "gc-bench", version, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER)]
#[command(args_conflicts_with_subcommands = true, allow_negative_numbers = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run workloads; the same as no subcommand at all
    #[command(after_help = AFTER)]
    Run(RunArgs),
    /// Show that a pause does not grow: the same churn beside 16 MiB to 4 GiB of live data, and 10 to 1,000,000 roots
    PauseScaling(ScalingArgs),
    /// Parse a JSON document into heap objects over and over, beside queries on the last few
    Json(JsonArgs),
    /// Measure what each mechanism of the kernel costs here: taking memory away, letting pages in, mirrors, touches
    #[command(after_help = PRIMITIVES_AFTER)]
    Primitives(PrimitivesArgs),
    /// Say what there is: each workload, what it does, its standard size and its options
    List,
    /// One run in a process of its own: the plan on standard input, messages on standard output
    #[command(hide = true)]
    RunOne,
    /// One group of primitives in a process of its own: the order on standard input, messages on standard output
    #[command(hide = true)]
    MeasurePrimitives,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Which workloads to run [default: all four]
    #[arg(value_name = "WORKLOAD")]
    pub(crate) workloads: Vec<Standard>,

    #[command(flatten)]
    pub(crate) heap: HeapArgs,

    /// The heap's maximum: a number with k, m or g (KiB, MiB, GiB) [default: the workload's own, see `gc-bench list`]
    #[arg(long = "heap", value_name = "SIZE", value_parser = parse_size)]
    pub(crate) heap_size: Option<u64>,

    /// Mutator threads (binary-trees, table-churn) [default: binary-trees once with 1 and once with 2, table-churn 2]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) threads: Option<u64>,

    /// How long the measured part lasts (table-churn) [default: 10]
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    pub(crate) seconds: Option<f64>,

    /// How much work: rounds (gcbench), tree depth (binary-trees), pushes (message-ring), records a thread (table-churn)
    #[arg(long, value_name = "X", value_parser = parse_count)]
    pub(crate) size: Option<u64>,

    /// Operations a second and thread, done every millisecond by a thousandth (table-churn) [default: as fast as it goes]
    #[arg(long, value_name = "OPS", value_parser = parse_count)]
    pub(crate) rate: Option<u64>,

    /// Runs of each workload; the table shows medians, the JSON every run [default: 3, with --quick 1]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) repeats: Option<u64>,

    /// Seed of the random keys (table-churn) [default: that of the peer measurements]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Everything small: a look at all of it in about ten seconds
    #[arg(long)]
    pub(crate) quick: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ScalingArgs {
    #[command(flatten)]
    pub(crate) heap: HeapArgs,

    /// Collections measured at each point
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) cycles: Option<u64>,

    /// Only the smaller points, and fewer collections
    #[arg(long)]
    pub(crate) quick: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// The document [default: what `cargo metadata --format-version 1` says of the workspace, asked for now]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) heap: HeapArgs,

    /// The heap's maximum: a number with k, m or g (KiB, MiB, GiB) [default: 512m]
    #[arg(long = "heap", value_name = "SIZE", value_parser = parse_size)]
    pub(crate) heap_size: Option<u64>,

    /// Mutator threads: one parses, the others query [default: 2]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) threads: Option<u64>,

    /// How long the measured part lasts [default: 10, with --quick 1]
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    pub(crate) seconds: Option<f64>,

    /// Runs; the table shows medians, the JSON every run [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) repeats: Option<u64>,

    /// Seed of the random queries
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// One second instead of ten
    #[arg(long)]
    pub(crate) quick: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PrimitivesArgs {
    /// Which groups to measure [default: all]
    #[arg(value_name = "GROUP", value_enum)]
    pub(crate) groups: Vec<Group>,

    /// Sizes of the view that is taken away and mirrored, with commas between them: numbers with k, m or g (KiB, MiB, GiB),
    /// each a multiple of 2 MiB [default: 64m,256m,1g,4g,8g, with --quick 64m,256m]. One that the memory does not suffice
    /// for is a row that says so
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = parse_size)]
    pub(crate) sizes: Vec<u64>,

    /// Small sizes and few repeats: a look at all of it in a few seconds
    #[arg(long)]
    pub(crate) quick: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How the heap is built; every workload takes these.
#[derive(Debug, Args)]
pub(crate) struct HeapArgs {
    /// How the program is kept from stale references: `load` tests each loaded reference and compacts beside the program;
    /// `page` has the page tables do it; `stw` stops the program for the whole collection, the baseline. Several, with
    /// commas between them, take turns and are compared
    #[arg(long, value_enum, value_delimiter = ',', default_value = "load")]
    pub(crate) barrier: Vec<Barrier>,

    /// Collector threads [default: the heap's own choice]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) workers: Option<u64>,

    /// Pages of the heap: 4 KiB, or 2 MiB ones made of touched memory before the run (about 3 s per GiB), or 2 MiB ones
    /// where the system's shmem_enabled is advise [default: collapse for table-churn, whose accesses are random, where
    /// the kernel can; else never]
    #[arg(long, value_enum)]
    pub(crate) huge_pages: Option<HugePages>,

    /// Do not touch the heap's pages before the run: their first touch then falls into it
    #[arg(long)]
    pub(crate) no_pretouch: bool,
}

impl HeapArgs {
    /// Refuses a barrier that is named twice.
    pub(crate) fn check_barriers(&self) -> Result<(), Failure> {
        for (i, barrier) in self.barrier.iter().enumerate() {
            if self.barrier[..i].contains(barrier) {
                let name = barrier.name();
                return Err(Failure::input(format!("{name} is named twice (--repeats N runs each barrier N times)")));
            }
        }
        Ok(())
    }
}

/// Where the results go.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write the JSON there and, unless asked for too, no page; `-`: to standard output, and nothing else there
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,

    /// Write the page there and, unless asked for too, no JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Folder of gc-bench-report.json and gc-bench-report.html, made if it is not there [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// The workloads that a plain run knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Standard {
    /// Short-lived trees beside long-lived ones, built top-down and bottom-up
    #[value(name = "gcbench")]
    GcBench,
    /// Trees of all depths, built and counted, in one and two threads
    BinaryTrees,
    /// A window of messages that slides over a stream of fresh ones
    MessageRing,
    /// Hash tables whose records die at random
    TableChurn,
}

impl From<Standard> for Workload {
    fn from(s: Standard) -> Self {
        match s {
            Standard::GcBench => Self::GcBench,
            Standard::BinaryTrees => Self::BinaryTrees,
            Standard::MessageRing => Self::MessageRing,
            Standard::TableChurn => Self::TableChurn,
        }
    }
}

/// Reads the command line. `Ok(Err(text))` is help or a version that was asked for.
pub(crate) fn parse<I, T>(args: I) -> Result<Result<Cli, String>, Failure>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    match Cli::try_parse_from(args) {
        Ok(cli) => Ok(Ok(cli)),
        Err(e) if matches!(e.kind(), DisplayHelp | DisplayVersion) => Ok(Err(e.render().to_string())),
        Err(e) => Err(Failure::input(one_line(&e.to_string()))),
    }
}

/// clap explains over several paragraphs; keep what is wrong and the hint, leave the usage to `--help`.
fn one_line(error: &str) -> String {
    let mut parts = Vec::new();
    for line in error.lines().map(str::trim) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        if !line.is_empty() {
            parts.push(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    format!("{} (gc-bench --help explains)", parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse_ok(args: &[&str]) -> Cli {
        parse([&["gc-bench"], args].concat()).expect("valid").expect("not help")
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_with_and_without_run() {
        for args in [
            &["run", "table-churn", "--heap", "1g", "--rate", "300000"][..],
            &["table-churn", "--heap=1g", "--rate=300000"],
        ] {
            let cli = parse_ok(args);
            let run = match cli.command {
                Some(Command::Run(run)) => run,
                None => cli.run,
                other => panic!("{other:?}"),
            };
            assert_eq!(run.workloads, [Standard::TableChurn]);
            assert_eq!((run.heap_size, run.rate), (Some(1 << 30), Some(300_000)));
            assert_eq!(run.heap.barrier, [Barrier::Load]);
        }
        assert!(parse_ok(&[]).run.workloads.is_empty());
    }

    #[test]
    fn the_help_fits_a_terminal_as_it_is_written() {
        let mut cli = Cli::command().term_width(100);
        for (mut of, text) in
            [(cli.clone(), AFTER), (cli.find_subcommand_mut("primitives").unwrap().clone(), PRIMITIVES_AFTER)]
        {
            let help = of.render_long_help().to_string();
            assert!(help.contains(text), "wrapped once more:\n{help}");
        }
    }

    #[test]
    fn an_error_is_one_line_with_its_hint() {
        for args in [
            &["runn"][..],
            &["--barrier", "pge"],
            &["--heap", "lots"],
            &["--repeats", "0"],
            &["--nope"],
            &["json", "a", "b"],
        ] {
            let e = parse([&["gc-bench"], args].concat()).expect_err("refused");
            let line = e.line();
            assert_eq!(e.code(), 2);
            assert!(!line.contains('\n') && !line.contains("Usage") && !line.contains("error:"), "{line}");
            assert!(line.contains(args.last().unwrap().trim_start_matches('-')), "{line}");
        }
    }
}
