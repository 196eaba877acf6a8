//! What a report of a sweep has besides what every report of runs has.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::order::Shard;
use crate::by_name;
use crate::status::Status;

/// The sweep of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Swept {
    /// What tells the program that made the runs from other builds.
    pub(crate) build: String,
    pub(crate) repeats: u64,
    pub(crate) timeout_s: f64,
    /// Of each configuration, as they are numbered: also of those of which no run was done.
    pub(crate) settings: Vec<Value>,
    /// Where its runs were made.
    pub(crate) shards: Vec<Part>,
    /// What became of each run, in the order in which they were to be made.
    pub(crate) runs: Vec<Made>,
}

/// A shard's session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    #[serde(with = "by_name")]
    pub(crate) shard: Shard,
    pub(crate) command: Vec<String>,
    pub(crate) when: String,
    pub(crate) cpu_model: String,
    pub(crate) cpus: u64,
    pub(crate) kernel: String,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// Where it stands in the random order, from 0.
    pub(crate) place: usize,
    /// Its number.
    pub(crate) configuration: usize,
    pub(crate) repeat: u64,
    pub(crate) status: Status,
    /// Of a run that was not done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) why: Option<String>,
    /// How long its process took.
    pub(crate) took_s: f64,
}

impl Made {
    /// What became of it, in words.
    pub(crate) fn told(&self) -> String {
        let (status, why) = (self.status.to_string(), self.why.as_deref().unwrap_or("no message"));
        if why.starts_with(&status) { why.to_owned() } else { format!("{status}: {why}") }
    }
}

impl Swept {
    /// What they are of, if it is not the same sweep in as many shards.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        let of = |swept: &Self| swept.shards.first().map(|part| part.shard.of);
        let differences = [
            (self.build != other.build, "different builds"),
            (self.settings != other.settings, "different sweeps: their configurations differ"),
            (self.repeats != other.repeats, "different sweeps: their repeats differ"),
            (self.timeout_s.to_bits() != other.timeout_s.to_bits(), "different sweeps: their timeouts differ"),
            (of(self) != of(other), "a sweep that was cut into different numbers of shards"),
        ];
        differences.into_iter().find_map(|(is_there, what)| is_there.then_some(what))
    }

    /// What a reader must know, a sentence each: which runs were not done, and why; where machines
    /// differ.
    pub(crate) fn notes(&self, labels: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        for (configuration, label) in labels.iter().enumerate() {
            let all: Vec<&Made> = self.runs.iter().filter(|made| made.configuration == configuration).collect();
            let undone: Vec<&&Made> = all.iter().filter(|made| made.status != Status::Done).collect();
            let mut statuses: Vec<Status> = undone.iter().map(|made| made.status).collect();
            statuses.sort_unstable();
            statuses.dedup();
            for status in statuses {
                let such = undone.iter().filter(|made| made.status == status);
                let (count, runs) = (such.clone().count(), all.len());
                let told = such.clone().next().map(|made| made.told()).unwrap_or_default();
                notes.push(format!("{label}: {count} of {runs} runs {told}"));
            }
        }
        let machine = |part: &Part| (part.cpu_model.clone(), part.cpus, part.kernel.clone());
        if self.shards.windows(2).any(|pair| machine(&pair[0]) != machine(&pair[1])) {
            notes.push("its shards were run on different machines, or kernels (sweep.shards in the JSON)".into());
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(place: usize, status: Status) -> Made {
        let why = (status != Status::Done).then(|| format!("because of {place}"));
        Made { place, configuration: place % 2, repeat: 1 + place as u64 / 2, status, why, took_s: 1.0 }
    }

    #[test]
    fn a_status_is_said_once() {
        let told = |why: &str| Made { why: Some(why.into()), ..made(0, Status::OutOfMemory) }.told();
        assert_eq!(told("out of memory: 8 bytes requested"), "out of memory: 8 bytes requested");
        assert_eq!(told("java.lang.OutOfMemoryError"), "out of memory: java.lang.OutOfMemoryError");
    }

    fn part(cpu_model: &str) -> Part {
        let (command, when, kernel) = (Vec::new(), String::new(), "6.1".into());
        Part { shard: Shard::WHOLE, command, when, cpu_model: cpu_model.into(), cpus: 2, kernel }
    }

    #[test]
    fn what_was_not_done_is_said_by_configuration_and_status() {
        let statuses =
            [Status::Done, Status::OutOfMemory, Status::Done, Status::Crashed, Status::Done, Status::Crashed];
        let runs = statuses.into_iter().enumerate().map(|(place, status)| made(place, status)).collect();
        let (build, settings) = ("b".to_owned(), vec![Value::Null; 2]);
        let mut swept = Swept { build, repeats: 3, timeout_s: 9.0, settings, shards: vec![part("x"), part("x")], runs };
        let labels = ["a".to_owned(), "b".to_owned()];
        let expected = ["b: 1 of 3 runs out of memory: because of 1", "b: 2 of 3 runs crashed: because of 3"];
        assert_eq!(swept.notes(&labels), expected);
        swept.shards[1] = part("y");
        assert!(swept.notes(&labels)[2].contains("different machines"));
        let other = Swept { repeats: 4, ..swept.clone() };
        let repeats = Some("different sweeps: their repeats differ");
        assert_eq!((swept.difference(&swept), other.difference(&swept)), (None, repeats));
    }
}
