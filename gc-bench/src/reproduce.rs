//! `gc-bench reproduce`: the book's tables again, and whether what they show comes out.
//!
//! Times of two machines say nothing of one another, nor do those of two sessions of a virtual one.
//! What must come out again is a ratio of two collectors in one session. Each ratio has a band that
//! is wider than the swings of a good session and narrower than what the table is there to show.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser};

use crate::collector::Collector;
use crate::failure::Failure;
use crate::interval::Interval;
use crate::output::OutputArgs;
use crate::plan::{Plan, RunArgs, Runs, standard_runs};
use crate::report::{Group, groups};
use crate::results::Document;
use crate::size::{parse_count, three};

/// `gc-bench reproduce`.
#[derive(Debug, Args)]
pub(crate) struct ReproduceArgs {
    /// Which: names, `all`, or `list` alone, which runs nothing and says what each is, what it
    /// runs, and its bands
    #[arg(value_name = "FIGURE", required = true, value_parser = names())]
    figures: Vec<String>,

    /// Runs of each workload with each barrier
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "5")]
    repeats: u64,

    /// Everything small, once, to see that it works: no band is looked at
    #[arg(long, conflicts_with = "repeats")]
    quick: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

fn names() -> PossibleValuesParser {
    let all = [PossibleValue::new("list"), PossibleValue::new("all")];
    let figures = FIGURES.iter().map(|figure| PossibleValue::new(figure.name).help(figure.about));
    PossibleValuesParser::new(all.into_iter().chain(figures))
}

/// A table of the book.
struct Figure {
    name: &'static str,
    about: &'static str,
    barriers: &'static str,
    /// Workloads and their options.
    line: &'static [&'static str],
    claims: &'static [Claim],
}

/// What a ratio is of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Measure {
    /// An operation's.
    Time,
    /// An operation's, of all threads.
    Cpu,
    LongestPause,
}

/// A ratio of two collectors, and between what it lies.
struct Claim {
    work: &'static str,
    collector: &'static str,
    over: &'static str,
    of: Measure,
    band: (f64, f64),
}

const fn time(work: &'static str, collector: &'static str, band: (f64, f64)) -> Claim {
    Claim { work, collector, over: "load", of: Measure::Time, band }
}

const fn cpu(work: &'static str, collector: &'static str, band: (f64, f64)) -> Claim {
    Claim { work, collector, over: "load", of: Measure::Cpu, band }
}

/// Over the longest of the baseline.
const fn pause(work: &'static str, collector: &'static str, most: f64) -> Claim {
    Claim { work, collector, over: "stw", of: Measure::LongestPause, band: (0.0, most) }
}

/// As fast as it goes, and at a set rate.
const CHURN: &str = "table-churn, 2 threads";
const PACED: &str = "table-churn, 2 threads, 300,000 op/s each";
const TREES: &str = "binary-trees, 2 threads";
const TREES_ALONE: &str = "binary-trees, 1 thread";

static FIGURES: [Figure; 6] = [
    Figure {
        name: "binary-trees",
        about: "two threads that build, count and drop trees",
        barriers: "load,page,stw",
        line: &["binary-trees", "--threads", "2"],
        claims: &[
            time(TREES, "page", (0.75, 1.35)),
            cpu(TREES, "page", (0.85, 1.25)),
            time(TREES, "stw", (0.6, 1.15)),
            cpu(TREES, "stw", (0.75, 1.05)),
        ],
    },
    Figure {
        name: "gcbench",
        about: "trees beside a long-lived one",
        barriers: "load,page,stw",
        line: &["gcbench"],
        claims: &[
            time("gcbench", "page", (0.75, 1.35)),
            cpu("gcbench", "page", (0.85, 1.2)),
            time("gcbench", "stw", (0.75, 1.35)),
            cpu("gcbench", "stw", (0.75, 1.05)),
            pause("gcbench", "page", 0.25),
        ],
    },
    Figure {
        name: "message-ring",
        about: "a ring of messages, of which the oldest dies",
        barriers: "load,page,stw",
        line: &["message-ring"],
        claims: &[
            time("message-ring", "page", (0.75, 1.4)),
            cpu("message-ring", "page", (0.85, 1.35)),
            time("message-ring", "stw", (0.7, 1.35)),
            cpu("message-ring", "stw", (0.7, 1.1)),
            pause("message-ring", "load", 0.25),
        ],
    },
    Figure {
        name: "table-churn",
        about: "hash tables whose records die at random, as fast as it goes",
        barriers: "load,page,stw",
        line: &["table-churn", "--seconds", "4"],
        claims: &[
            time(CHURN, "page", (1.15, 2.2)),
            time(CHURN, "stw", (0.65, 1.15)),
            pause(CHURN, "load", 0.1),
            pause(CHURN, "page", 0.1),
        ],
    },
    Figure {
        name: "table-churn-rate",
        about: "the same at 300,000 operations a second and thread",
        barriers: "load,page,stw",
        line: &["table-churn", "--seconds", "10", "--rate", "300000", "--heap", "1g"],
        claims: &[
            cpu(PACED, "page", (1.3, 2.6)),
            cpu(PACED, "stw", (0.7, 1.2)),
            pause(PACED, "load", 0.1),
            pause(PACED, "page", 0.2),
        ],
    },
    Figure {
        name: "generations",
        about: "young objects collected alone most of the time",
        barriers: "load,load-generations",
        line: &["binary-trees", "gcbench", "message-ring"],
        claims: &[
            cpu(TREES_ALONE, "load-generations", (0.6, 0.95)),
            cpu(TREES, "load-generations", (0.65, 1.02)),
            cpu("gcbench", "load-generations", (0.65, 1.02)),
            cpu("message-ring", "load-generations", (0.75, 1.25)),
            time("message-ring", "load-generations", (0.7, 1.35)),
        ],
    },
];

impl Measure {
    fn words(self) -> &'static str {
        match self {
            Self::Time => "time an operation",
            Self::Cpu => "CPU an operation",
            Self::LongestPause => "longest pause",
        }
    }
}

impl Claim {
    fn words(&self) -> String {
        format!("{}: {}, {} over {}", self.work, self.of.words(), self.collector, self.over)
    }

    /// The runs of a collector with that work, wherever they were made.
    fn group<'a>(&self, groups: &'a [Group<'a>], collector: &str) -> Option<&'a Group<'a>> {
        groups.iter().find(|group| {
            let mut plan = group.runs[0].settings.clone();
            plan.heap.cpus.clear();
            plan.heap.barrier.name() == collector && plan.work_label() == self.work
        })
    }

    /// The ratio in a report, and its interval.
    fn found(&self, groups: &[Group<'_>]) -> Option<(f64, Option<Interval>)> {
        let (own, over) = (self.group(groups, self.collector)?, self.group(groups, self.over)?);
        // `load` is the first of its work, and so what others are held against.
        let against = own.figures.against.as_ref();
        let figure = |ratio: crate::pooled::Figure| (ratio.estimate, ratio.interval());
        match self.of {
            Measure::Cpu => against.map(|against| figure(against.cpu_ns_per_op)),
            Measure::Time => against.map(|against| {
                let (ratio, interval) = figure(against.ops_per_s);
                let turned =
                    |i: Interval| Interval { estimate: 1.0 / i.estimate, low: 1.0 / i.high, high: 1.0 / i.low };
                (1.0 / ratio, interval.map(turned))
            }),
            Measure::LongestPause => {
                let longest = |group: &Group<'_>| group.figures.pauses.max_ns.map(|ns| ns as f64);
                Some((longest(own)? / longest(over)?, None))
            }
        }
    }

    /// Why the ratio says nothing here: it has no interval, or it is of single pauses, the longest,
    /// and other processes used the machine.
    fn undecided(&self, groups: &[Group<'_>], interval: Option<Interval>) -> Option<&'static str> {
        if self.of != Measure::LongestPause {
            return interval.is_none().then_some("too few runs, or too different ones, for an interval");
        }
        let of = [self.collector, self.over].map(|collector| self.group(groups, collector));
        let disturbed = of.into_iter().flatten().any(|group| group.runs.iter().any(|run| run.noisy()));
        disturbed.then_some("other processes used the machine")
    }

    /// Whether the ratio, or all of its interval, lies outside.
    fn is_left_by(&self, (ratio, interval): (f64, Option<Interval>)) -> bool {
        let (low, high) = interval.map_or((ratio, ratio), |interval| (interval.low, interval.high));
        high < self.band.0 || low > self.band.1
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    run: RunArgs,
}

/// The book's machine has so many.
const PROCESSORS: usize = 2;

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Figure {
    /// The command line after the program's name.
    fn command(&self) -> Vec<String> {
        self.line.iter().copied().chain(["--barrier", self.barriers]).map(str::to_owned).collect()
    }

    fn runs(&self, args: &ReproduceArgs) -> Result<Runs, Failure> {
        let (mut words, repeats) = (self.command(), if args.quick { 1 } else { args.repeats });
        words.push(format!("--repeats={repeats}"));
        if args.quick {
            // A small one has a heap of its own, and less time.
            for option in ["--heap", "--seconds"] {
                if let Some(at) = words.iter().position(|word| word == option) {
                    words.drain(at..at + 2);
                }
            }
            words.push("--quick".into());
        }
        if processors() > PROCESSORS {
            words.push(format!("--cpus={PROCESSORS}"));
        }
        let line = ["gc-bench".to_owned()].into_iter().chain(words).map(OsString::from);
        let line = Line::try_parse_from(line).map_err(|e| Failure::of_command_line(&e))?;
        let mut runs = standard_runs(&line.run)?;
        // The tables have the baseline with as many workers as processors.
        runs.plans.retain(|plan| plan.heap.barrier != Collector::STW || plan.heap.workers != 1 || processors() == 1);
        Ok(runs)
    }
}

impl ReproduceArgs {
    fn chosen(&self) -> Vec<&'static Figure> {
        let is_chosen = |figure: &&Figure| self.figures.iter().any(|name| name == "all" || name == figure.name);
        FIGURES.iter().filter(is_chosen).collect()
    }

    /// What is asked for is the list.
    pub(crate) fn list(&self) -> Result<Option<String>, Failure> {
        if !self.figures.iter().any(|name| name == "list") {
            return Ok(None);
        }
        if self.figures.len() > 1 {
            return Err(Failure::input("`list` runs nothing: leave out the other names, or it"));
        }
        let mut text = String::new();
        for figure in &FIGURES {
            let _ = writeln!(text, "{}: {}\n  gc-bench {}", figure.name, figure.about, figure.command().join(" "));
            for claim in figure.claims {
                let _ = writeln!(text, "  {:>4} to {:<4}  {}", claim.band.0, claim.band.1, claim.words());
            }
        }
        Ok(Some(text))
    }

    /// All that the figures need, each configuration once.
    pub(crate) fn runs(&self) -> Result<Runs, Failure> {
        let mut all = None::<Runs>;
        for figure in self.chosen() {
            let runs = figure.runs(self)?;
            let Some(all) = &mut all else {
                all = Some(runs);
                continue;
            };
            let is_new = |plan: &Plan| !all.plans.iter().any(|other| other.label() == plan.label());
            let new: Vec<Plan> = runs.plans.into_iter().filter(is_new).collect();
            all.plans.extend(new);
        }
        all.ok_or_else(|| Failure::input("name a figure"))
    }

    /// What came out, and as a failure which ratios left their bands.
    pub(crate) fn judge(&self, document: &Document) -> (String, Result<(), Failure>) {
        let groups = groups(document);
        if self.quick || processors() < PROCESSORS {
            let why = if self.quick { "small runs say nothing" } else { "the bands are those of two processors" };
            return (format!("{} runs were made; {why}: no band is looked at\n", document.runs.len()), Ok(()));
        }
        let (mut text, mut left) = (String::new(), Vec::new());
        for figure in self.chosen() {
            let _ = writeln!(text, "{}", figure.name);
            for claim in figure.claims {
                let (from, to) = claim.band;
                let found = claim.found(&groups);
                let (told, is_left, why) = match found {
                    None => ("no figure".to_owned(), true, None),
                    Some((ratio, interval)) => {
                        let ends = interval.map(|i| format!(" ({} to {})", three(i.low), three(i.high)));
                        let (told, is_left) =
                            (three(ratio) + &ends.unwrap_or_default(), claim.is_left_by((ratio, interval)));
                        let why = claim.undecided(&groups, interval).filter(|_| is_left);
                        (told + &why.map_or(String::new(), |why| format!(", {why}")), is_left, why)
                    }
                };
                let is_left = is_left && why.is_none();
                let verdict = match (is_left, why) {
                    (true, _) => "LEFT",
                    (false, Some(_)) => "open",
                    (false, None) => "within",
                };
                let _ = writeln!(text, "  {verdict:<6}  {from:>4} to {to:<4}  {}: {told}", claim.words());
                if is_left {
                    left.push(format!("{}: {told}, not {from} to {to}", claim.words()));
                }
            }
        }
        let result = if left.is_empty() { Ok(()) } else { Err(Failure::Worse(left.join("; "))) };
        (text, result)
    }
}

#[cfg(test)]
mod tests;
