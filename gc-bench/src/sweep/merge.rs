//! `gc-bench merge`: the reports of a sweep's shards as one, which has what one session's would
//! have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::made::Swept;
use super::order::Shard;
use super::session::{Line, document};
use crate::failure::Failure;
use crate::output::OutputArgs;
use crate::record::{Head, Record};
use crate::results::Document;
use crate::status::Status;

/// `gc-bench merge`.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The JSON of each shard of one sweep
    #[arg(value_name = "REPORT", required = true)]
    reports: Vec<PathBuf>,

    /// Merge what there is, where shards are missing; the report names them
    #[arg(long)]
    partial: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The report of some shards.
struct Report {
    path: String,
    head: Head,
    seed: u64,
    labels: Vec<String>,
    swept: Swept,
    lines: Vec<Line>,
}

impl Report {
    fn read(path: &Path) -> Result<Self, Failure> {
        let Document { head, order, runs, sweep, .. } = Document::read(path)?;
        let path = path.display().to_string();
        let refuse = |why: &str| Err(Failure::input(format!("{path} is {why}")));
        let Some(mut swept) = sweep else { return refuse("no report of a sweep") };
        let (mut lines, mut records) = (Vec::new(), runs.into_iter());
        let is_it = |record: &Record, configuration: usize, repeat: u64| {
            let is_label = |label: &String| *label == record.settings.label();
            record.repeat == repeat && order.configurations.get(configuration).is_some_and(is_label)
        };
        for made in std::mem::take(&mut swept.runs) {
            let record = if made.status == Status::Done { records.next() } else { None };
            let fits = record.as_ref().map(|record| is_it(record, made.configuration, made.repeat));
            if !fits.unwrap_or(made.status != Status::Done) {
                return refuse("damaged: its runs are not those that it says");
            }
            lines.push(Line { made, record });
        }
        if records.next().is_some() {
            return refuse("damaged: it has more runs than it says");
        }
        Ok(Self { path, head, seed: order.seed, labels: order.configurations, swept, lines })
    }

    /// Refuses another sweep's.
    fn check(&self, first: &Self) -> Result<(), Failure> {
        let seeds = (self.seed != first.seed).then_some("different sweeps: their orders differ");
        match self.swept.difference(&first.swept).or(seeds) {
            Some(what) => Err(Failure::input(format!("{} and {} are of {what}", first.path, self.path))),
            None => Ok(()),
        }
    }
}

/// The numbers of the shards that are not there, in words.
fn missing(swept: &Swept) -> Option<String> {
    let of = swept.shards.first()?.shard.of;
    let is_there = |number: &u64| swept.shards.iter().any(|part| part.shard.number == *number);
    let numbers: Vec<String> = (1..=of).filter(|number| !is_there(number)).map(|number| number.to_string()).collect();
    match &numbers[..] {
        [] => None,
        [one] => Some(format!("shard {one} of {of} is missing")),
        [some @ .., last] => Some(format!("shards {} and {last} of {of} are missing", some.join(", "))),
    }
}

/// Puts the reports together.
pub(crate) fn merge(args: &MergeArgs) -> Result<Document, Failure> {
    let mut reports = args.reports.iter().map(|path| Report::read(path)).collect::<Result<Vec<_>, _>>()?;
    for report in &reports[1..] {
        report.check(&reports[0])?;
    }
    reports.sort_by_key(|report| report.swept.shards.first().map_or(Shard::WHOLE, |part| part.shard));
    let mut from: BTreeMap<Shard, &str> = BTreeMap::new();
    for report in &reports {
        for part in &report.swept.shards {
            if let Some(other) = from.insert(part.shard, &report.path) {
                return Err(Failure::input(format!("{other} and {} both have shard {}", report.path, part.shard)));
            }
        }
    }
    let mut reports = reports.into_iter();
    let Some(Report { mut head, seed, labels, mut swept, mut lines, .. }) = reports.next() else {
        return Err(Failure::input("there is nothing to merge"));
    };
    for report in reports {
        swept.shards.extend(report.swept.shards);
        lines.extend(report.lines);
    }
    swept.shards.sort_by_key(|part| part.shard);
    lines.sort_by_key(|line| line.made.place);
    let missing = missing(&swept);
    if let Some(missing) = missing.as_ref().filter(|_| !args.partial) {
        return Err(Failure::input(format!("{missing}: name their reports too, or --partial to do without")));
    }
    let all = labels.len() * swept.repeats as usize;
    let places = || swept.shards.iter().flat_map(|part| part.shard.range(all));
    if !places().eq(lines.iter().map(|line| line.made.place)) {
        return Err(Failure::input("a report is damaged: it does not have the runs of its shard"));
    }
    head.command = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let merged = document(head, (seed, labels), swept, lines);
    Ok(Document { left_out: missing.map(|missing| format!("{missing} of the sweep")).into_iter().collect(), ..merged })
}
