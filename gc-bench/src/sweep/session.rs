//! The runs of a sweep, or of one shard of it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::file::Sweep;
use super::made::{Made, Swept};
use super::order::Place;
use crate::failure::Failure;
use crate::journal::Journal;
use crate::machine;
use crate::plan::Plan;
use crate::record::{Head, Record};
use crate::results::{Document, Order};
use crate::session::{Meter, attempt, in_a_line};
use crate::status::Status;

/// A run, as a line of the journal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) made: Made,
    /// Of a run that was done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) record: Option<Record>,
}

/// The report of these runs, which stand in the order; `of` is the order's seed, and the labels of
/// the configurations.
pub(crate) fn document(head: Head, of: (u64, Vec<String>), swept: Swept, lines: Vec<Line>) -> Document {
    let (seed, configurations) = of;
    let runs = lines.iter().filter(|line| line.record.is_some()).map(|line| line.made.configuration).collect();
    let (made, records): (Vec<Made>, Vec<Option<Record>>) = lines.into_iter().map(|of| (of.made, of.record)).unzip();
    let order = Order { seed, configurations, runs, until: None };
    let document = Document::new(head, Vec::new(), order, records.into_iter().flatten().collect());
    Document { sweep: Some(Swept { runs: made, ..swept }), ..document }
}

/// Makes those runs that the journal does not have, and keeps each there as it ends, whatever
/// became of it.
pub(crate) fn run(sweep: &Sweep, places: &[Place], journal: &mut Journal<Line>) -> Result<Vec<Line>, Failure> {
    let kept = journal.take_all().into_iter().map(|line| (line.made.place, line));
    let mut lines: BTreeMap<usize, Line> = kept.collect();
    let mut meter = Meter::new(places.len());
    for place in places {
        if lines.contains_key(&place.number) {
            meter.skip();
            continue;
        }
        let line = one(sweep, place, &mut meter)?;
        journal.keep(&line)?;
        lines.insert(place.number, line);
    }
    meter.finish();
    Ok(lines.into_values().collect())
}

fn one(sweep: &Sweep, place: &Place, meter: &mut Meter) -> Result<Line, Failure> {
    let &Place { number, configuration, repeat } = place;
    let plan = Plan { repeat, ..sweep.runs.plans[configuration].clone() };
    let name = plan.label();
    let label = format!("{name} (repeat {repeat})");
    meter.begin(&label);
    let began = Instant::now();
    // A heap that this machine cannot have, or that cannot hold what is alive, is a result too.
    let result = match plan.check(machine::memory()) {
        Ok(()) => attempt(&plan, sweep.timeout, meter)?,
        Err(failure) => Err(failure),
    };
    let without_name = |line: String| line.strip_prefix(&format!("{name}: ")).unwrap_or(&line).to_owned();
    let (status, why) = match &result {
        Ok(_) => (Status::Done, None),
        Err(failure) => (Status::of(failure), Some(without_name(failure.line()))),
    };
    let made = Made { place: number, configuration, repeat, status, why, took_s: began.elapsed().as_secs_f64() };
    meter.end(&format!("{label}: {}", result.as_ref().map_or_else(|_| made.told(), in_a_line)));
    Ok(Line { made, record: result.ok() })
}
