//! The file of a sweep: workloads, and what is to be tried with each.
//!
//! A key is an option of the command line by its name, and a list is each of its values in turn. So
//! the file needs no description of its own: what an option means, and whether a workload has it,
//! is said in one place.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use gc_heap::ByteSize;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::min_heap::STEP;
use crate::plan::{Plan, RunArgs, Runs, standard_runs};
use crate::schedule::Schedule;
use crate::size::{bytes, short};

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// A configuration each, as often as the schedule says.
    pub(crate) runs: Runs,
    /// A run that takes longer is ended.
    pub(crate) timeout: Duration,
}

type Table = Map<String, Value>;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    run: RunArgs,
}

/// Options of the command line that a file does not set, and why.
const NOT_HERE: [(&[&str], &str); 3] = [
    (&["json", "html", "out", "force"], "is said on the command line: where the report goes is no part of a sweep"),
    (
        &["published", "until-ci", "max-repeats", "max-minutes"],
        "has no use here: a sweep has as many `repeats` as it says",
    ),
    (&["help", "version"], "is no option of a run"),
];

/// Options that take a list as it is, for they stand side by side in the report.
const SIDE_BY_SIDE: [&str; 2] = ["barrier", "peer"];

/// Options that a label names by itself.
const IN_LABELS: [&str; 3] = ["threads", "rate", "cpus"];

/// More would take weeks.
const MOST_POINTS: usize = 10_000;
const MOST_REPEATS: u64 = 10_000;

/// A day, as of `--seconds`.
const LONGEST_S: f64 = 86_400.0;
const USUAL_TIMEOUT_S: f64 = 600.0;

/// Reads the file.
pub(crate) fn read(path: &Path) -> Result<Sweep, Failure> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))?;
    let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let sweep = table(&text, is_json).and_then(sweep);
    sweep.map_err(|why| Failure::input(format!("{}: {why}", path.display())))
}

fn table(text: &str, is_json: bool) -> Result<Table, String> {
    if is_json {
        return serde_json::from_str(text).map_err(|e| e.to_string());
    }
    toml::from_str(text).map_err(|e| {
        let line = e.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        line.map(|line| format!("line {line}: ")).unwrap_or_default() + e.message()
    })
}

/// Takes a whole number out of a table.
fn whole(of: &mut Table, key: &str, from: u64, to: u64) -> Result<Option<u64>, String> {
    let Some(value) = of.remove(key) else { return Ok(None) };
    let number = value.as_u64().filter(|number| (from..=to).contains(number));
    number.map(Some).ok_or_else(|| format!("`{key}` must be a whole number from {from} to {to}"))
}

/// A value, or each of a list.
fn each(key: &str, value: &Value) -> Result<Vec<Value>, String> {
    let values = if let Value::Array(values) = value { values.clone() } else { vec![value.clone()] };
    if values.is_empty() {
        return Err(format!("`{key}` is an empty list"));
    }
    for (at, value) in values.iter().enumerate() {
        if !matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_)) {
            return Err(format!("`{key}` must be text, a number, true or false, or a list of these"));
        }
        if values[..at].contains(value) {
            return Err(format!("`{key}` has {} twice (`repeats` runs each more often)", words(value)));
        }
    }
    Ok(values)
}

/// A value as it stands on a command line.
fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Text out of a table.
fn text(of: &mut Table, key: &str) -> Result<Option<String>, String> {
    match of.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
        Some(_) => Err(format!("`{key}` must be text")),
    }
}

/// A size, by the rules of the command line.
fn size(key: &str, value: &Value) -> Result<u64, String> {
    words(value).parse::<ByteSize>().map(ByteSize::bytes).map_err(|e| format!("`{key}`: {e}"))
}

/// The heaps in which a workload is run.
#[derive(Debug, Clone)]
enum Heaps {
    Sizes(Vec<u64>),
    /// In multiples of the least one.
    Factors(Vec<f64>),
}

impl Heaps {
    fn take(of: &mut Table) -> Result<Option<Self>, String> {
        match (of.remove("heap"), of.remove("factors")) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err("`heap` and `factors` both say how large heaps are: leave out one".into()),
            (Some(sizes), None) => {
                let sizes = each("heap", &sizes)?.iter().map(|value| size("heap", value)).collect::<Result<_, _>>()?;
                Ok(Some(Self::Sizes(sizes)))
            }
            (None, Some(factors)) => {
                let factor = |value: &Value| value.as_f64().filter(|factor| (1.0..=100.0).contains(factor));
                let factors = each("factors", &factors)?.iter().map(factor).collect::<Option<Vec<f64>>>();
                Ok(Some(Self::Factors(factors.ok_or("`factors` must be numbers from 1 to 100")?)))
            }
        }
    }

    /// Of each heap its size, and what it is called where that tells points apart.
    fn points(&self, least: Option<u64>) -> Result<Vec<(u64, Option<String>)>, String> {
        match self {
            Self::Sizes(sizes) => {
                let name = |size| (sizes.len() > 1).then(|| format!("heap {}", bytes(size)));
                Ok(sizes.iter().map(|&size| (size, name(size))).collect())
            }
            Self::Factors(factors) => {
                let least =
                    least.ok_or("`factors` needs the workload's `least` heap, as `gc-bench minheap` finds it")?;
                let size = |factor: f64| ((least as f64 * factor) as u64).next_multiple_of(STEP);
                let name = |factor: f64| format!("{} times the least heap", short(factor));
                Ok(factors.iter().map(|&factor| (size(factor), Some(name(factor)))).collect())
            }
        }
    }
}

/// An option with the values that it takes in turn.
struct Axis {
    key: String,
    values: Vec<Value>,
}

impl Axis {
    fn new(key: &str, value: &Value) -> Result<Self, String> {
        if let Some((_, why)) = NOT_HERE.iter().find(|(keys, _)| keys.contains(&key)) {
            return Err(format!("`{key}` {why}"));
        }
        let mut values = each(key, value)?;
        if SIDE_BY_SIDE.contains(&key) {
            values = vec![Value::String(values.iter().map(words).collect::<Vec<_>>().join(","))];
        }
        Ok(Self { key: key.to_owned(), values })
    }

    /// What stands on the command line for a value.
    fn argument(&self, value: &Value) -> Option<String> {
        match value {
            Value::Bool(is_given) => is_given.then(|| format!("--{}", self.key)),
            value => Some(format!("--{}={}", self.key, words(value))),
        }
    }

    /// What tells a point with that value from the others, unless the label says it.
    fn name(&self, value: &Value) -> Option<String> {
        let is_told = self.values.len() > 1 && !IN_LABELS.contains(&self.key.as_str());
        match value {
            _ if !is_told => None,
            Value::Bool(is_given) => is_given.then(|| self.key.clone()),
            value => Some(format!("{} {}", self.key, words(value))),
        }
    }
}

/// Every choice of a value for each axis: those of the last axis follow one another.
fn choices(axes: &[Axis]) -> Result<Vec<Vec<&Value>>, String> {
    let mut choices = vec![Vec::new()];
    for axis in axes {
        let with =
            |choice: &Vec<_>| axis.values.iter().map(|value| [&choice[..], &[value]].concat()).collect::<Vec<_>>();
        choices = choices.iter().flat_map(with).collect();
        if choices.len() > MOST_POINTS {
            return Err(format!("more than {MOST_POINTS} points"));
        }
    }
    Ok(choices)
}

/// The plans of one workload.
fn workload(entry: Value, all: &Table, heaps: Option<&Heaps>) -> Result<Vec<Plan>, String> {
    let mut own = match entry {
        Value::String(name) => [("name".to_owned(), Value::String(name))].into_iter().collect(),
        Value::Object(own) => own,
        _ => return Err("a `workload` must be a name, or a table with a `name`".into()),
    };
    let name = text(&mut own, "name")?.ok_or("a `workload` needs a `name`")?;
    let in_it = |why: String| format!("{name}: {why}");
    for key in ["repeats", "timeout", "order-seed", "workload"] {
        if own.contains_key(key) {
            return Err(in_it(format!("`{key}` is of the whole sweep: put it above the workloads")));
        }
    }
    plans(&name, own, all, heaps).map_err(in_it)
}

fn plans(name: &str, mut own: Table, all: &Table, heaps: Option<&Heaps>) -> Result<Vec<Plan>, String> {
    let (label, least) = (text(&mut own, "label")?, own.remove("least"));
    let least = least.map(|value| size("least", &value)).transpose()?;
    let heaps = Heaps::take(&mut own)?.or_else(|| heaps.cloned());
    if least.is_some() && !matches!(heaps, Some(Heaps::Factors(_))) {
        return Err("`least` has no use without `factors`".into());
    }
    let heaps = heaps.map_or(Ok(Vec::new()), |heaps| heaps.points(least))?;
    // None: the workload's own.
    let heaps = if heaps.is_empty() { vec![None] } else { heaps.into_iter().map(Some).collect() };
    let mut options = all.clone();
    options.extend(own);
    let axes = options.iter().map(|(key, value)| Axis::new(key, value)).collect::<Result<Vec<_>, _>>()?;
    let mut plans = Vec::new();
    for choice in choices(&axes)? {
        let chosen = || axes.iter().zip(&choice);
        let arguments: Vec<String> = chosen().filter_map(|(axis, value)| axis.argument(value)).collect();
        let told: Vec<String> =
            label.iter().cloned().chain(chosen().filter_map(|(axis, value)| axis.name(value))).collect();
        for heap in &heaps {
            let told = told.iter().chain(heap.iter().filter_map(|(_, name)| name.as_ref()));
            let point = told.cloned().collect::<Vec<_>>().join(", ");
            let heap = heap.as_ref().map(|(size, _)| format!("--heap={size}"));
            let line = ["gc-bench"].into_iter().map(OsString::from).chain(arguments.iter().map(OsString::from));
            let line = line.chain(heap.map(OsString::from)).chain(["--", name].map(OsString::from));
            let line = Line::try_parse_from(line).map_err(|e| Failure::of_command_line(&e).line())?;
            let runs = standard_runs(&line.run).map_err(|e| e.line())?;
            // All that the file names is made, on each machine that makes a part.
            if let Some(missing) = runs.left_out.into_iter().next() {
                return Err(missing);
            }
            let point = (!point.is_empty()).then_some(point);
            plans.extend(runs.plans.into_iter().map(|plan| Plan { point: point.clone(), ..plan }));
        }
    }
    if plans.iter().any(|plan| plan.rate_percent > 0) {
        return Err("`rate` must be a number: a part of a measured rate needs the runs that show it".into());
    }
    Ok(plans)
}

fn sweep(mut all: Table) -> Result<Sweep, String> {
    let repeats = whole(&mut all, "repeats", 1, MOST_REPEATS)?.unwrap_or(3);
    let seed = whole(&mut all, "order-seed", 0, u64::from(u32::MAX))?;
    let timeout = match all.remove("timeout") {
        None => USUAL_TIMEOUT_S,
        Some(value) => {
            let seconds = value.as_f64().filter(|&seconds| seconds > 0.0 && seconds <= LONGEST_S);
            seconds.ok_or("`timeout` must be a number of seconds, above 0 and at most 86400 (a day)")?
        }
    };
    let heaps = Heaps::take(&mut all)?;
    let entries = match all.remove("workload") {
        Some(Value::Array(entries)) if !entries.is_empty() => entries,
        Some(entry @ (Value::String(_) | Value::Object(_))) => vec![entry],
        _ => return Err("it names no workload: `workload = [\"gcbench\"]`, or a table `[[workload]]` each".into()),
    };
    for key in ["name", "label", "least"] {
        if all.contains_key(key) {
            return Err(format!("`{key}` is of a workload: put it into a table `[[workload]]`"));
        }
    }
    let mut plans = Vec::new();
    for entry in entries {
        plans.extend(workload(entry, &all, heaps.as_ref())?);
    }
    if plans.len() > MOST_POINTS {
        return Err(format!("more than {MOST_POINTS} points"));
    }
    let mut labels = BTreeSet::new();
    if let Some(twice) = plans.iter().map(Plan::label).find(|label| !labels.insert(label.clone())) {
        return Err(format!("two points are called {twice}: give the workload of one a `label`"));
    }
    let mut runs = Runs { plans, schedule: Schedule { repeats, ..Schedule::once() }, left_out: Vec::new() };
    // The same file has the same order on every machine that is to run a part of it.
    runs.schedule.seed = seed.unwrap_or_else(|| {
        let text = runs.settings().iter().map(Value::to_string).collect::<String>() + &repeats.to_string();
        u64::from(fnv(text.as_bytes()))
    });
    Ok(Sweep { runs, timeout: Duration::from_secs_f64(timeout) })
}

/// Fowler, Noll and Vo's hash FNV-1a of 32 bits: a seed that a person can type.
fn fnv(text: &[u8]) -> u32 {
    text.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests;
