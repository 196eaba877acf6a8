//! The command line and its help.

use clap::{Parser, Subcommand};

use crate::compare::CompareArgs;
use crate::curve::CurveArgs;
use crate::failure::Failure;
use crate::min_heap::MinHeapArgs;
use crate::plan::{JsonArgs, RunArgs, ScalingArgs};
use crate::primitives::PrimitivesArgs;
use crate::publish::{PublishArgs, TablesArgs};
use crate::reproduce::ReproduceArgs;
use crate::sweep::SweepArgs;
use crate::sweep::merge::MergeArgs;

const ABOUT: &str = "Measures the Parallax heap: a garbage collector that compacts while the program runs.";

const LONG_ABOUT: &str = "\
Measures the Parallax heap: a garbage collector that compacts while the program runs.

Without arguments it runs four workloads at their standard sizes, three times each (two to three minutes), prints one table, and writes \
gc-bench-report.json and gc-bench-report.html (one page with plots, nothing loaded from elsewhere). Every run has a process \
of its own, is warmed up first, and is measured only then.";

const AFTER: &str = "\
Reading the table:
  N runs      each workload runs N times with each barrier, a process a run, every repeat in a new
              random order (the JSON keeps it; --order-seed makes it again). A percentile is of all
              runs' samples together, max the worst of all runs, everything else the mean
  95 % interval
              covers the true value in 95 of 100 sessions; from 3 runs on (means and their ratios:
              Student, Fieller), of percentiles from 5 on (bootstrap over the runs)
  to the first's
              where barriers are compared: this figure over that of the first column
  -           no sample, fewer than ten samples beyond the percentile, too few runs, not recorded
  pauses      how long the program's threads were stopped, the way to the safepoint included; one
              sample a stop
  safepoint   of that, the time from the request until the last thread stood still
  stalls      how long an allocation had to wait for memory
  MMU         minimum mutator utilisation: of every window of that length, the least share that
              stops, stalls and losses left to a thread. Losses are what it suffers besides: faults,
              slow paths of loads and stores, log flushes, wake-ups, handshakes, locks, yields,
              zeroing, attaching, refills, preemptions, steal; and, at a set rate, sleeps until an
              operation is due that end after it
  measured    the same by the program's own samples, which tile each thread's time: those of 100 us
  MMU         and more count as lost, whatever took them
  gaps        samples of 1 ms and more, in which a thread did not come on; their share of all
              threads' time
  not         of the gaps, what overlaps no stop of all threads and no stall or loss of the
  accounted   thread's own: what the heap does not know of; of all runs' gaps together
  faults      touches of absent pages that threads served themselves (page barrier), and what part
              of their time it took
  slow paths  loads of stale references, which threads resolve themselves (the other barriers), and
              what part of their time it took; one in 16 is timed, and stands for the others: so
              their total has an interval; the clock's own cost is taken off
  latency     what the program itself saw: the time of each operation (gcbench and binary-trees: of
              each subtree of depth 4; with --rate: from when a tick's work was due until it was
              done)
  metered     the same from the operation's due arrival: as if operations had come evenly, at the
              mean rate of 1, 10, 100 ms around it or of the whole run; a queue behind a stop
              counts. With --rate: each operation from its due time
  mutators, collector
              processor time, time that threads could run and waited for a processor, context
              switches (voluntary + involuntary) and page faults, as the kernel counts them
  without a heap
              the same loop before the run, without a heap: gaps of 0.1 ms and more in it are the
              machine's, and are in the run's figures as well
  note        other programs ran; or figures rise or fall over the repeats, or over the quarters of
              a run, more clearly than chance explains
  doubt       what of the build or the machine makes the figures doubtful

The baseline, --barrier stw, is the same collector with the program stopped for the whole
collection; the load barrier's test is compiled in. It has as many workers as there are processors;
where barriers are compared a second row has 1 worker.

Examples:
  gc-bench                                         everything, standard sizes
  gc-bench --quick                                 everything, small: about ten seconds
  gc-bench message-ring --heap 512m --repeats 5    a tighter heap, five runs
  gc-bench --published --barrier load,page,stw     ten runs of everything: figures with intervals
  gc-bench publish --budget 30                     what the book's tables name; resumable
  gc-bench gcbench --barrier load,stw --until-ci 2%
                                                   as many runs as 2 % to either side need
  gc-bench table-churn --rate 300000               at a set rate
  gc-bench gcbench --rate sweep                    as fast as it goes, then 50, 70, 90 % of that
  gc-bench binary-trees --threads 2 --barrier stw  the same work, everything in one pause
  gc-bench gcbench --barrier load,page,stw         the barriers side by side
  gc-bench gcbench --against old/gc-bench --repeats 20
                                                   two builds in turn; then gc-bench compare
  gc-bench curve binary-trees --barrier load,page,stw --peer g1
                                                   what they cost by the size of the heap
  gc-bench gcbench --barrier load --peer g1,zgc    beside collectors of the JVM
  gc-bench gcbench --peer go,v8,manual             beside Go, V8, and malloc and free
  gc-bench sweep heaps.toml                        what a file names; in shards, merged after
  gc-bench --json -                                one JSON document on standard output, no more
  gc-bench gcbench --html - > page.html            the page on standard output, no more

Exit codes: 0 done; 1 a run failed; 2 what was asked for cannot be, or would overwrite an earlier
report without --force (nothing is run or written then); 3 compare found more than --threshold
allows, or what reproduce looks at has left its band.";

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

const SWEEP_AFTER: &str = r#"A file:
  repeats = 5                      # runs of each point [3]
  timeout = 120                    # seconds after which a run is ended [600]
  barrier = ["load", "page"]       # columns of the report, as of --barrier; `peer` is the same
  factors = [1.5, 2, 3]            # heaps in multiples of each workload's least one; or
                                   # heap = ["64m", "128m"]; or neither: the workloads' own
  quick = true                     # every other key is an option of a plain run by its name

  [[workload]]
  name = "binary-trees"
  least = "37m"                    # for factors: what gc-bench minheap found
  threads = [1, 2]                 # a list is each of its values in turn

  [[workload]]
  name = "gcbench"
  least = "21m"
  size = 10
  label = "short"                  # tells it from another entry of the same workload

  A point is a choice of a value for each list. `order-seed` sets the random order, which
  otherwise follows from the file. What stands in a [[workload]] is of that one, what stands
  above of all. In JSON `workload` is a list of objects. gc-bench list names workloads.

Runs:
  Every repeat is each point once, in a random order of its own. Each run is kept as it ends, in
  gc-bench-sweep.runs; the report is written when all are over, and that file goes. With runs in
  it the sweep begins by --resume, behind them, or by --force, without them. `sweep` in the JSON
  has what became of each run: done, out_of_memory, timed_out, crashed, failed, or impossible (it
  could not begin), and why. None of these ends the sweep, or is an error.

Examples:
  gc-bench sweep heaps.toml                         all of it
  gc-bench sweep heaps.toml --resume                the rest, after an interrupt
  gc-bench sweep heaps.toml --shard 2/3             the second of three parts, on one machine
  gc-bench merge gc-bench-report-*-of-3.json        the parts as one report
  gc-bench sweep heaps.toml --job-array slurm --shards 8 > job.sh; sbatch job.sh

Exit codes: 0 the runs were made, whatever became of them; 1 the sweep could not go on (a file
that cannot be written, an interrupt; --resume goes on); 2 the file or an option is wrong, or
something would be overwritten (nothing is run then)."#;

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
    /// Run what the book's tables name, ten times each with every barrier: two threads of
    /// binary-trees, gcbench, message-ring, and table-churn as fast as it goes and at 300,000
    /// operations a second. Interrupted, the same command goes on where it ended
    Publish(PublishArgs),
    /// Write the tables of such a report into documents
    Tables(TablesArgs),
    /// Run what a file names: workloads with barriers, heaps and options, in a random order, here
    /// or in shards on several machines. A run that ends out of memory, by a crash or too late is a
    /// result. Interrupted, it goes on with --resume
    #[command(after_help = SWEEP_AFTER)]
    Sweep(SweepArgs),
    /// Put the reports of a sweep's shards together, as one session would have made them
    Merge(MergeArgs),
    /// Make the book's figures again, and see whether the ratios that they show come out within
    /// their bands: exit code 3 where one does not. `gc-bench reproduce list` names them
    Reproduce(ReproduceArgs),
    /// Compare two builds in one report (runs with --against), or two reports: each figure's ratio
    /// with its interval
    Compare(CompareArgs),
    /// Find the least heap in which each workload can be done, by bisection: minutes for each.
    /// Interrupted, the same command goes on where it ended
    #[command(name = "minheap")]
    MinHeap(MinHeapArgs),
    /// What each collector costs in heaps of several times the least one, over the least cost that
    /// no collector can be blamed for: lower-bound overhead. Interrupted, the same command goes on
    /// where it ended
    Curve(CurveArgs),
    /// Show that a pause does not grow: the same churn beside 16 MiB to 4 GiB of live data, and 10
    /// to 1,000,000 roots
    PauseScaling(ScalingArgs),
    /// Parse a JSON document into heap objects over and over, beside queries on the last few
    Json(JsonArgs),
    /// Measure what each mechanism of the kernel costs here: unmapping views, mapping pages,
    /// mirrors, first accesses
    #[command(after_help = PRIMITIVES_AFTER)]
    Primitives(PrimitivesArgs),
    /// List workloads: what each does, its standard size and its options
    List,
    /// One run in a process of its own: the plan on standard input, messages on standard output
    #[command(hide = true)]
    RunOne,
    /// One group of primitives in a process of its own: the order on standard input, messages on
    /// standard output
    #[command(hide = true)]
    MeasurePrimitives,
}

/// Reads the command line. `Ok(Err(text))` is a requested help or version text.
pub(crate) fn parse<I, T>(args: I) -> Result<Result<Cli, String>, Failure>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    match Cli::try_parse_from(args) {
        Ok(cli) => Ok(Ok(cli)),
        Err(e) if matches!(e.kind(), DisplayHelp | DisplayVersion) => Ok(Err(e.render().to_string())),
        Err(e) => Err(Failure::of_command_line(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::Collector;
    use crate::plan::standard_runs;
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
            let runs = standard_runs(&run).unwrap();
            let plans = runs.plans;
            assert!(plans.iter().all(|plan| plan.work.name() == "table-churn" && plan.heap.barrier == Collector::LOAD));
            let settings = serde_json::to_value(&plans[0]).unwrap();
            assert_eq!((plans.len(), plans[0].heap.heap_bytes, &settings["rate"]), (1, 1 << 30, &300_000.into()));
            assert_eq!(runs.schedule.repeats, 3);
        }
        let works = standard_runs(&parse_ok(&["--repeats", "1"]).run).unwrap();
        assert_eq!(works.plans.len(), 5, "all four, one of them twice");
    }

    #[test]
    fn the_help_fits_a_terminal_as_it_is_written() {
        let mut cli = Cli::command().term_width(100);
        let mut of = |name: &str| cli.find_subcommand_mut(name).unwrap().clone();
        let subcommands = [(of("primitives"), PRIMITIVES_AFTER), (of("sweep"), SWEEP_AFTER)];
        for (mut of, text) in [(cli, AFTER)].into_iter().chain(subcommands) {
            let help = of.render_long_help().to_string();
            assert!(help.contains(text), "wrapped once more:\n{help}");
        }
    }

    #[test]
    fn the_file_of_the_help_is_a_sweep() {
        let (_, rest) = SWEEP_AFTER.split_once("A file:\n").unwrap();
        let (text, _) = rest.split_once("\n  A point").unwrap();
        let path = std::env::temp_dir().join(format!("gc-bench-help-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let sweep = crate::sweep::file::read(&path);
        std::fs::remove_file(&path).unwrap();
        let runs = sweep.unwrap().runs;
        // Two barriers, three heaps; twice one workload, once another.
        assert_eq!((runs.plans.len(), runs.schedule.repeats), (2 * 3 * 3, 5));
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
