//! `gc-bench reproduce`: the book's tables again, and whether what they show comes out.
//!
//! Times of two machines say nothing of one another, nor do those of two sessions of a virtual one.
//! What must come out again is a ratio of two figures of one session. Each ratio has a band that is
//! wider than the swings of a good session and narrower than what the table is there to show.

mod claim;
mod cost;
mod figures;

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser};

use self::claim::Verdict;
use self::figures::{FIGURES, Figure, Set};
use crate::collector::Collector;
use crate::failure::Failure;
use crate::machine;
use crate::output::OutputArgs;
use crate::plan::{Plan, RunArgs, Runs, ScalingArgs, scaling_runs, standard_runs};
use crate::primitives::{self, Primitives, PrimitivesArgs};
use crate::report::groups;
use crate::results::Document;
use crate::size::parse_count;

/// `gc-bench reproduce`.
#[derive(Debug, Args)]
pub(crate) struct ReproduceArgs {
    /// Which: names, `all`, or `list` alone, which runs nothing and says what each is, what it
    /// runs, and its bands
    #[arg(value_name = "FIGURE", required = true, value_parser = names())]
    figures: Vec<String>,

    /// Runs of each workload with each barrier, and at each point of pause-scaling
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

#[derive(Parser)]
struct Line<T: Args> {
    #[command(flatten)]
    args: T,
}

/// Reads the options of a command.
fn read<T: Args>(words: Vec<String>) -> Result<T, Failure> {
    let line = ["gc-bench".to_owned()].into_iter().chain(words).map(OsString::from);
    Line::try_parse_from(line).map(|line| line.args).map_err(|e| Failure::of_command_line(&e))
}

/// The book's machine has so many.
const PROCESSORS: usize = 2;

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What a set's command line is of.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Workloads,
    Scaling,
    Primitives,
}

impl Set {
    fn kind(&self) -> Kind {
        match self.line[0] {
            "pause-scaling" => Kind::Scaling,
            "primitives" => Kind::Primitives,
            _ => Kind::Workloads,
        }
    }

    /// The command line after the program's name.
    fn command(&self) -> Vec<String> {
        let barriers = (!self.barriers.is_empty()).then_some(["--barrier", self.barriers]);
        self.line.iter().copied().chain(barriers.into_iter().flatten()).map(str::to_owned).collect()
    }

    /// The same, as it is run here.
    fn words(&self, args: &ReproduceArgs) -> Vec<String> {
        let mut words = self.command();
        if args.quick {
            // A small one has a heap and sizes of its own, and less time.
            for option in ["--heap", "--seconds", "--sizes"] {
                if let Some(at) = words.iter().position(|word| word == option) {
                    words.drain(at..at + 2);
                }
            }
            words.push("--quick".into());
        }
        if processors() > PROCESSORS && self.kind() != Kind::Primitives {
            words.push(format!("--cpus={PROCESSORS}"));
        }
        if self.kind() != Kind::Workloads {
            words.remove(0);
        }
        words
    }

    fn runs(&self, args: &ReproduceArgs) -> Result<Option<Runs>, Failure> {
        let (mut words, repeats) = (self.words(args), if args.quick { 1 } else { args.repeats });
        let mut runs = match self.kind() {
            Kind::Primitives => return Ok(None),
            Kind::Workloads => {
                words.push(format!("--repeats={repeats}"));
                standard_runs(&read::<RunArgs>(words)?)?
            }
            Kind::Scaling => {
                let (mut runs, left_out) = scaling_runs(&read::<ScalingArgs>(words)?, machine::memory())?;
                runs.schedule.repeats = repeats;
                runs.left_out.extend(left_out);
                runs
            }
        };
        // The tables have the baseline with as many workers as processors.
        runs.plans.retain(|plan| plan.heap.barrier != Collector::STW || plan.heap.workers != 1 || processors() == 1);
        for plan in &mut runs.plans {
            plan.point = self.point.map(str::to_owned);
        }
        Ok(Some(runs))
    }
}

/// The band, what became of its ratio, and which ratio it is.
fn line(text: &mut String, left: &mut Vec<String>, (from, to): (f64, f64), words: &str, found: &Verdict) {
    let Verdict { told, is_left, open } = found;
    let verdict = match (is_left, open) {
        (true, _) => "LEFT",
        (false, Some(_)) => "open",
        (false, None) => "within",
    };
    let _ = writeln!(text, "  {verdict:<6}  {from:>4} to {to:<4}  {words}: {told}");
    if *is_left {
        left.push(format!("{words}: {told}, not {from} to {to}"));
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
            let _ = writeln!(text, "{}: {}", figure.name, figure.about);
            for set in figure.sets {
                let _ = writeln!(text, "  gc-bench {}", set.command().join(" "));
            }
            let claims = figure.claims.iter().map(|claim| (claim.band, claim.words()));
            for ((from, to), words) in claims.chain(figure.costs.iter().map(|cost| (cost.band, cost.words()))) {
                let _ = writeln!(text, "  {from:>4} to {to:<4}  {words}");
            }
        }
        Ok(Some(text))
    }

    /// All runs that the figures need, each configuration once; `None` where they need none.
    pub(crate) fn runs(&self) -> Result<Option<Runs>, Failure> {
        let mut all = None::<Runs>;
        for set in self.chosen().into_iter().flat_map(|figure| figure.sets) {
            let Some(runs) = set.runs(self)? else { continue };
            let Some(all) = &mut all else {
                all = Some(runs);
                continue;
            };
            let is_new = |plan: &Plan| !all.plans.iter().any(|other| other.label() == plan.label());
            let new: Vec<Plan> = runs.plans.into_iter().filter(is_new).collect();
            all.plans.extend(new);
            all.left_out.extend(runs.left_out);
        }
        Ok(all)
    }

    /// The primitives that they need. These have a report of their own.
    pub(crate) fn primitives(&self) -> Result<Option<primitives::Plan>, Failure> {
        let sets = || self.chosen().into_iter().flat_map(|figure| figure.sets);
        let Some(set) = sets().find(|set| set.kind() == Kind::Primitives) else { return Ok(None) };
        if sets().any(|set| set.kind() != Kind::Primitives)
            && (self.output.json.is_some() || self.output.html.is_some())
        {
            return Err(Failure::input(
                "the report of primitives is another one: name them alone, or --out DIR for both reports",
            ));
        }
        Ok(Some(primitives::Plan::new(&read::<PrimitivesArgs>(set.words(self))?)?))
    }

    /// What came out, and as a failure which ratios left their bands.
    pub(crate) fn judge(
        &self,
        document: Option<&Document>,
        primitives: Option<&Primitives>,
    ) -> (String, Result<(), Failure>) {
        if self.quick || processors() < PROCESSORS {
            let why = if self.quick { "small runs say nothing" } else { "the bands are those of two processors" };
            let runs = document.map(|document| format!("{} runs", document.runs.len()));
            let rows = primitives.map(|found| format!("{} rows of primitives", found.rows.len()));
            let made = runs.into_iter().chain(rows).collect::<Vec<_>>().join(" and ");
            return (format!("{made} were made; {why}: no band is looked at\n"), Ok(()));
        }
        let groups = document.map(groups).unwrap_or_default();
        let left_out = document.map_or(&[][..], |document| &document.left_out);
        let (mut text, mut left) = (String::new(), Vec::new());
        for figure in self.chosen() {
            let _ = writeln!(text, "{}", figure.name);
            for claim in figure.claims {
                line(&mut text, &mut left, claim.band, &claim.words(), &claim.judge(&groups, left_out));
            }
            for cost in figure.costs {
                let found = primitives.map_or_else(Verdict::missing, |found| cost.judge(found));
                line(&mut text, &mut left, cost.band, &cost.words(), &found);
            }
        }
        let result = if left.is_empty() { Ok(()) } else { Err(Failure::Worse(left.join("; "))) };
        (text, result)
    }
}

#[cfg(test)]
mod tests;
