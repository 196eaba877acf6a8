//! `gc-bench publish`: what the book's tables name, ten times each, within a budget of time; and
//! `gc-bench tables`, which writes them.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};

use crate::collector::Collector;
use crate::failure::Failure;
use crate::output::{self, OutputArgs};
use crate::peer::Peer;
use crate::peer::kits::KitArgs;
use crate::plan::{RunArgs, Runs, standard_runs};
use crate::report::markdown;
use crate::results::Document;
use crate::size::parse_count;

/// `gc-bench publish`.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// As of a plain run; of stw the one with as many workers as processors alone
    #[arg(long, value_parser = Collector::parser(), value_delimiter = ',', default_value = "load,page,stw")]
    barrier: Vec<Collector>,

    /// Collectors of other runtimes and memory that the program frees itself beside them, as of a
    /// plain run
    #[arg(long, value_parser = Peer::parser(), value_delimiter = ',')]
    peer: Vec<Peer>,

    #[command(flatten)]
    kits: KitArgs,

    /// About how many minutes it may take: table-churn as fast as it goes is measured for 2 to 10 s
    /// a run, as long as they allow, and no repeat is begun that would end later
    #[arg(long, value_name = "MINUTES", value_parser = parse_count, default_value = "30")]
    budget: u64,

    /// Everything small, twice, to see that it works: its figures say nothing
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `gc-bench tables`.
#[derive(Debug, Args)]
pub(crate) struct TablesArgs {
    /// The JSON of `gc-bench publish`
    #[arg(value_name = "REPORT")]
    report: PathBuf,

    /// Documents with a line `<!-- figures: full -->` or `<!-- figures: brief -->` and, further
    /// down, `<!-- end of figures -->`: what stands between them is replaced
    #[arg(value_name = "DOCUMENT", required = true)]
    documents: Vec<PathBuf>,
}

/// What a repeat takes for each barrier beside the measured part of table-churn, in seconds: the
/// other three workloads, and twice the building, filling and warming up of table-churn.
const FIXED_S: u64 = 36;
const REPEATS: u64 = 10;

/// At a set rate table-churn allocates some 100 MB a second: so long, and so small a heap, that
/// each run has several cycles. (In 2 s and 2 GiB one run in ten had one.)
const PACED_S: u64 = 10;
const PACED_HEAP: &str = "1g";

/// How long table-churn is measured a run as fast as it goes.
fn churn_seconds(minutes: u64, barriers: u64) -> u64 {
    let a_barrier_s = minutes * 60 / REPEATS / barriers.max(1);
    a_barrier_s.saturating_sub(FIXED_S + PACED_S).clamp(2, 10)
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    run: RunArgs,
}

impl PublishArgs {
    /// The five works, each with every barrier.
    pub(crate) fn runs(&self) -> Result<Runs, Failure> {
        let barriers: Vec<String> = self.barrier.iter().map(ToString::to_string).collect();
        let peers: Vec<String> = self.peer.iter().map(ToString::to_string).collect();
        let seconds = churn_seconds(self.budget, (barriers.len() + peers.len()) as u64).to_string();
        let paced_s = PACED_S.to_string();
        let paced = ["table-churn", "--seconds", &paced_s, "--rate", "300000", "--heap", PACED_HEAP];
        let works: [&[&str]; 4] = [
            &["binary-trees", "--threads", "2"],
            &["gcbench", "message-ring"],
            &["table-churn", "--seconds", &seconds],
            // A small one has a heap of its own.
            if self.quick { &["table-churn", "--seconds", "2", "--rate", "300000"] } else { &paced },
        ];
        let (repeats, barriers) = (if self.quick { 2 } else { REPEATS }.to_string(), barriers.join(","));
        let peers = peers.join(",");
        let mut all = None::<Runs>;
        for work in works {
            let mut line: Vec<OsString> =
                ["gc-bench", "--barrier", &barriers, "--repeats", &repeats].map(OsString::from).into();
            line.extend(
                (!peers.is_empty()).then(|| [OsString::from("--peer"), peers.as_str().into()]).into_iter().flatten(),
            );
            let named = [("--jdk", &self.kits.jdk), ("--node", &self.kits.node), ("--go", &self.kits.go)];
            let named =
                named.into_iter().filter_map(|(option, path)| Some([OsString::from(option), path.as_ref()?.into()]));
            line.extend(named.flatten());
            line.extend(self.quick.then(|| "--quick".into()));
            line.extend(work.iter().map(OsString::from));
            let line = Line::try_parse_from(line).map_err(|e| Failure::input(e.to_string()))?;
            let mut runs = standard_runs(&line.run)?;
            runs.plans.retain(|plan| plan.heap.barrier != Collector::STW || plan.heap.workers != 1);
            match &mut all {
                None => all = Some(runs),
                Some(all) => all.plans.append(&mut runs.plans),
            }
        }
        let mut all = all.expect("there are works");
        all.schedule.budget = Some(Duration::from_secs(60 * self.budget));
        Ok(all)
    }

    /// Where runs are kept until the report is written.
    pub(crate) fn journal(&self) -> PathBuf {
        self.output.out.clone().unwrap_or_default().join("gc-bench-publish.runs")
    }
}

/// Writes the tables of a report into documents: into all, or into none.
pub(crate) fn tables(args: &TablesArgs) -> Result<(), Failure> {
    let report = Document::read(&args.report)?;
    let mut texts = Vec::new();
    for path in &args.documents {
        let refuse = |why: &dyn Display| Err(Failure::input(format!("{} {why}", path.display())));
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return refuse(&"is no file");
        }
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => return Err(Failure::input(format!("cannot read {}: {e}", path.display()))),
        };
        let Some(text) = markdown::filled(&text, &report) else { return refuse(&"has no place for figures") };
        texts.push((path.as_path(), text));
    }
    output::replace(texts.iter().map(|(path, text)| (*path, text.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Publish {
        #[command(flatten)]
        args: PublishArgs,
    }

    fn runs(args: &[&str]) -> Runs {
        Publish::try_parse_from([&["gc-bench"], args].concat()).unwrap().args.runs().unwrap()
    }

    #[test]
    fn what_is_published_is_ten_times_five_works_with_each_barrier() {
        let of = runs(&[]);
        let labels: Vec<String> = of.plans.iter().map(crate::plan::Plan::label).collect();
        assert_eq!((of.schedule.repeats, labels.len()), (10, 15), "{labels:?}");
        assert_eq!(labels[0], "binary-trees, 2 threads");
        assert_eq!(labels[12], "table-churn, 2 threads, 300,000 op/s each");
        assert!(labels.iter().enumerate().all(|(i, label)| !labels[..i].contains(label)), "{labels:?}");
        assert_eq!(of.schedule.budget, Some(Duration::from_secs(1800)));
        assert_eq!(runs(&["--barrier", "load"]).plans.len(), 5);
    }

    #[test]
    fn a_budget_sets_how_long_table_churn_is_measured() {
        let seconds = |minutes: &str| {
            let plans = runs(&["--budget", minutes]).plans;
            serde_json::to_value(&plans[9]).unwrap()["seconds"].as_f64().unwrap()
        };
        assert_eq!((seconds("30"), seconds("26"), seconds("5"), seconds("60")), (10.0, 6.0, 2.0, 10.0));
        let paced = serde_json::to_value(&runs(&["--budget", "5"]).plans[12]).unwrap();
        assert_eq!((paced["seconds"].as_f64(), paced["heap_bytes"].as_u64()), (Some(10.0), Some(1 << 30)));
    }
}
