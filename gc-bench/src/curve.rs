//! `gc-bench curve`: what each collector costs in heaps of 1.1 to 6 times the least one, and over
//! the lower bound of that cost.
//!
//! What a collector costs besides the time in which it collects (barriers, allocation, caches) no
//! clock tells. But each run bounds from above what the program would cost with a collector that
//! costs nothing: its cost less the part that is the collector's by name (for wall time the pauses,
//! for processor time the collector's threads). The least of these bounds is the *distilled cost*;
//! a cost over it is the lower-bound overhead, LBO ([Cai et al.], ISPASS 2022): the collector costs
//! at least so much.
//!
//! [Cai et al.]: https://doi.org/10.1109/ISPASS55109.2022.00005

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::interval::{Interval, mean, of_mean};
use crate::machine::Memory;
use crate::min_heap::{MinHeapArgs, STEP, least, prepare};
use crate::plan::{Plan, standard_runs};
use crate::record::Head;
use crate::rng::SplitMix;
use crate::session::Meter;
use crate::size::{bytes, three};
use crate::tries::Cost;

/// `gc-bench curve`.
#[derive(Debug, Args)]
pub(crate) struct CurveArgs {
    #[command(flatten)]
    pub(crate) least: MinHeapArgs,

    /// Sizes of heaps, in multiples of the least heap in which one of the collectors does the work:
    /// 1 to 100, with commas between them
    #[arg(long, value_name = "X", value_parser = parse_factor, value_delimiter = ',', default_value = "1.1,1.5,2,3,6")]
    factors: Vec<f64>,
}

fn parse_factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=100.0).contains(&factor) => Ok(factor),
        Ok(_) => Err("must be from 1 to 100".into()),
        Err(_) => Err(format!("`{text}` is not a number")),
    }
}

/// The JSON of a session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Curves {
    #[serde(flatten)]
    pub(crate) head: Head,
    /// Of the random order of the runs.
    pub(crate) seed: u64,
    pub(crate) works: Vec<Curve>,
}

/// One workload, with every collector in heaps of every size.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Curve {
    pub(crate) work: String,
    /// The least heap of each collector, and one that was too small.
    pub(crate) least: Vec<Least>,
    /// Whether every run did as many operations: then costs are those of a run, else those of an
    /// operation.
    pub(crate) fixed: bool,
    pub(crate) wall: Bound,
    pub(crate) cpu: Bound,
    pub(crate) points: Vec<Point>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Least {
    pub(crate) collector: String,
    pub(crate) heap_bytes: u64,
    pub(crate) too_small_bytes: u64,
}

/// The distilled cost, in seconds (of a run or an operation), and the point that it is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) seconds: f64,
    pub(crate) collector: String,
    pub(crate) factor: f64,
}

/// The runs with one collector in heaps of one size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) collector: String,
    pub(crate) factor: f64,
    pub(crate) heap_bytes: u64,
    /// Of the runs that were done.
    pub(crate) costs: Vec<Cost>,
    /// Why the others were not.
    pub(crate) failures: Vec<String>,
    /// Mean costs, where all runs were done.
    pub(crate) wall: Option<Figure>,
    pub(crate) cpu: Option<Figure>,
}

/// A mean cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) seconds: f64,
    /// At 95 %, of three runs and more.
    pub(crate) interval: Option<Interval>,
    /// Over the distilled cost.
    pub(crate) overhead: f64,
}

/// A cost, and the part of it that is the collector's by name.
type Measure = fn(&Cost) -> (f64, f64);

const WALL: Measure = |of| (of.wall_s, of.stopped_s);
const CPU: Measure = |of| (of.cpu_s, of.collector_cpu_s);

/// Costs of a point by a measure, of a run or an operation.
fn costs(point: &Point, fixed: bool, measure: Measure, of: fn((f64, f64)) -> f64) -> Vec<f64> {
    let unit = |cost: &Cost| if fixed { 1.0 } else { cost.ops.max(1) as f64 };
    point.costs.iter().map(|cost| of(measure(cost)) / unit(cost)).collect()
}

/// The distilled cost: the least mean of all points in which every run was done.
fn distilled(points: &[Point], fixed: bool, measure: Measure) -> Option<Bound> {
    let done = points.iter().filter(|point| point.failures.is_empty() && !point.costs.is_empty());
    let bounds = done.map(|point| Bound {
        seconds: mean(&costs(point, fixed, measure, |(all, collecting)| all - collecting)),
        collector: point.collector.clone(),
        factor: point.factor,
    });
    bounds.min_by(|a, b| a.seconds.total_cmp(&b.seconds))
}

fn figure(point: &Point, fixed: bool, measure: Measure, bound: &Bound) -> Option<Figure> {
    let costs = costs(point, fixed, measure, |(all, _)| all);
    let is_done = point.failures.is_empty() && !costs.is_empty();
    let seconds = mean(&costs);
    is_done.then(|| Figure { seconds, interval: of_mean(&costs), overhead: seconds / bound.seconds })
}

/// Puts the points of a workload together.
fn curve(work: String, least: Vec<Least>, mut points: Vec<Point>) -> Result<Curve, Failure> {
    let mut ops = points.iter().flat_map(|point| &point.costs).map(|cost| cost.ops);
    let first = ops.next();
    let fixed = ops.all(|ops| Some(ops) == first);
    let bounds = [WALL, CPU].map(|measure| distilled(&points, fixed, measure));
    let [Some(wall), Some(cpu)] = bounds else {
        let why = points.iter().flat_map(|point| &point.failures).next().map_or("", String::as_str);
        return Err(Failure::run(format!("{work}: at no size were all runs done: {why}")));
    };
    for point in &mut points {
        point.wall = figure(point, fixed, WALL, &wall);
        point.cpu = figure(point, fixed, CPU, &cpu);
    }
    Ok(Curve { work, least, fixed, wall, cpu, points })
}

/// A point that is to be run.
struct Order<'a> {
    plan: &'a Plan,
    factor: f64,
    heap_bytes: u64,
    limit: Option<Duration>,
}

/// Finds the least heaps, and runs every plan in heaps of every size.
pub(crate) fn curves(args: &CurveArgs, memory: Memory, head: Head) -> Result<Curves, Failure> {
    let runs = standard_runs(&args.least.run)?;
    if runs.schedule.until.is_some() || runs.plans.iter().any(|plan| plan.rate_percent > 0) {
        return Err(Failure::input(
            "curve runs every point as often as --repeats says: leave out --until-ci and sweeps",
        ));
    }
    let mut tries = prepare(&args.least, &runs, memory)?;
    let repeats = runs.schedule.repeats;
    let mut meter = Meter::new(runs.plans.len() * (1 + args.factors.len() * repeats as usize));
    let mut found = Vec::new();
    for plan in &runs.plans {
        found.push((plan, least(&args.least, plan, &mut tries, memory, &mut meter)?));
    }
    // Of each workload the least heap of the collector that needs the least.
    let mut least_of = BTreeMap::new();
    for (plan, of) in &found {
        let least: &mut u64 = least_of.entry(plan.work_label()).or_insert(u64::MAX);
        *least = of.heap_bytes.min(*least);
    }
    let size =
        |plan: &Plan, factor: f64| ((least_of[&plan.work_label()] as f64 * factor) as u64).next_multiple_of(STEP);
    let points = found.iter().flat_map(|(plan, of)| {
        args.factors.iter().map(|&factor| Order { plan, factor, heap_bytes: size(plan, factor), limit: of.limit })
    });
    let points: Vec<Order<'_>> = points.collect();
    let mut made: Vec<(Vec<Cost>, Vec<String>)> = points.iter().map(|_| Default::default()).collect();
    let mut random = SplitMix::new(runs.schedule.seed);
    let mut order: Vec<usize> = (0..points.len()).collect();
    for number in 1..=repeats {
        random.shuffle(&mut order);
        for &at in &order {
            let Order { plan, factor, heap_bytes, limit } = points[at];
            let label = format!("{} in {} ({factor} times the least)", plan.label(), bytes(heap_bytes));
            meter.begin(&label);
            let of = tries.run(plan, (heap_bytes, number), limit, memory, &mut meter)?;
            let (costs, failures) = &mut made[at];
            match (of.cost, of.why) {
                (Some(cost), _) => {
                    meter.end(&format!("{label}: {} s, {} cycles", three(cost.wall_s), cost.cycles));
                    costs.push(cost);
                }
                (None, why) => {
                    let why = why.unwrap_or_else(|| "kept by an older build".into());
                    meter.end(&format!("{label}: {why}"));
                    failures.push(why);
                }
            }
        }
    }
    meter.finish();
    let mut works: Vec<(String, Vec<Least>, Vec<Point>)> = Vec::new();
    for (plan, of) in &found {
        let (work, collector) = (plan.work_label(), plan.heap.collector());
        if works.last().is_none_or(|(last, ..)| *last != work) {
            works.push((work, Vec::new(), Vec::new()));
        }
        let (_, least, _) = works.last_mut().expect("pushed just now");
        least.push(Least { collector, heap_bytes: of.heap_bytes, too_small_bytes: of.too_small_bytes });
    }
    for (point, (costs, failures)) in points.iter().zip(made) {
        let (collector, work) = (point.plan.heap.collector(), point.plan.work_label());
        let (_, _, of) = works.iter_mut().find(|(name, ..)| *name == work).expect("each plan has a work");
        let &Order { factor, heap_bytes, .. } = point;
        of.push(Point { collector, factor, heap_bytes, costs, failures, wall: None, cpu: None });
    }
    let works = works.into_iter().map(|(work, least, points)| curve(work, least, points)).collect::<Result<_, _>>()?;
    Ok(Curves { head, seed: runs.schedule.seed, works })
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// A run of so many seconds of wall and processor time, and those of them that are the
    /// collector's.
    pub(crate) fn cost(wall_s: f64, stopped_s: f64, cpu_s: f64, collector_cpu_s: f64) -> Cost {
        Cost { ops: 1000, wall_s, cpu_s, collector_cpu_s, stopped_s, cycles: 7 }
    }

    pub(crate) fn point(collector: &str, factor: f64, costs: Vec<Cost>, failures: &[&str]) -> Point {
        let failures = failures.iter().map(|&why| why.to_owned()).collect();
        let heap_bytes = (factor * f64::from(10 << 20)) as u64;
        Point { collector: collector.into(), factor, heap_bytes, costs, failures, wall: None, cpu: None }
    }

    /// Two collectors in heaps of two sizes.
    pub(crate) fn curve() -> Curve {
        let least = ["load", "stw"].map(|collector| Least {
            collector: collector.into(),
            heap_bytes: 10 << 20,
            too_small_bytes: (10 << 20) - STEP,
        });
        let points = vec![
            point("load", 1.1, vec![cost(2.0, 0.0, 4.0, 2.0)], &["out of <memory>"]),
            point("load", 6.0, vec![cost(1.0, 0.0, 1.5, 0.25), cost(1.25, 0.0, 1.5, 0.25)], &[]),
            point("stw", 1.1, vec![cost(3.0, 2.0, 3.0, 2.0); 3], &[]),
            point("stw", 6.0, vec![cost(1.5, 0.25, 1.5, 0.25); 3], &[]),
        ];
        super::curve("churn".into(), least.into(), points).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{cost, curve, point};
    use super::*;

    #[test]
    fn a_cost_is_held_against_the_least_that_no_collector_can_be_blamed_for() {
        let curve = curve();
        let bound = |seconds, collector: &str, factor| Bound { seconds, collector: collector.into(), factor };
        assert_eq!((&curve.wall, &curve.cpu), (&bound(1.0, "stw", 1.1), &bound(1.0, "stw", 1.1)));
        assert!(curve.fixed);
        let [failed, load, tight, _] = &curve.points[..] else { panic!("{curve:?}") };
        assert_eq!((failed.wall, failed.cpu), (None, None), "one of its runs was not done");
        let figures = (load.wall.unwrap(), load.cpu.unwrap());
        assert_eq!((figures.0.seconds, figures.0.overhead, figures.1.overhead), (1.125, 1.125, 1.5));
        assert_eq!(figures.0.interval, None, "of two runs");
        let tight = tight.wall.unwrap();
        assert_eq!((tight.overhead, tight.interval.unwrap().low), (3.0, 3.0));
    }

    #[test]
    fn work_that_lasts_for_a_time_is_compared_by_the_operation() {
        let slow = Cost { ops: 500, ..cost(2.0, 0.0, 4.0, 0.0) };
        let points = vec![point("a", 2.0, vec![cost(2.0, 0.0, 4.0, 1.0)], &[]), point("b", 2.0, vec![slow], &[])];
        let curve = super::curve("churn".into(), Vec::new(), points).unwrap();
        assert!(!curve.fixed);
        assert_eq!((curve.wall.seconds, curve.cpu.seconds), (0.002, 0.003));
        assert_eq!(curve.points[1].wall.unwrap().overhead, 2.0);
        let none = super::curve("churn".into(), Vec::new(), vec![point("a", 1.1, Vec::new(), &["out of memory"])]);
        assert!(none.unwrap_err().line().contains("out of memory"));
    }

    #[test]
    fn a_factor_is_a_number_from_1_on() {
        assert_eq!((parse_factor("1.1"), parse_factor("100")), (Ok(1.1), Ok(100.0)));
        assert!(["0.9", "101", "NaN", "two"].iter().all(|text| parse_factor(text).is_err()));
    }
}
