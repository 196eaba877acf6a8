//! How often each configuration is run, and in which order.
//!
//! A repeat is a block: every configuration once, in a random order that differs from repeat to
//! repeat. So what drifts on the machine meets all alike, and none always runs behind the same
//! other ([Georges et al.], OOPSLA 2007; Fisher's randomised blocks).
//!
//! [Georges et al.]: https://doi.org/10.1145/1297027.1297033

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::failure::Failure;
use crate::interval::{of_mean, of_ratio};
use crate::size::{parse_count, parse_percent};

/// The options.
#[derive(Debug, Args)]
pub(crate) struct RepeatArgs {
    /// Runs of each workload with each barrier; the table sums them up, the JSON has every one
    /// [default: 3, of json and with --quick 1; 10 with --published, 5 with --until-ci]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    repeats: Option<u64>,

    /// Ten runs of each: for figures that are to be published
    #[arg(long, conflicts_with_all = ["repeats", "quick"])]
    published: bool,

    /// Go on until the 95 % intervals of operations a second and of processor time an operation,
    /// and of their ratios between barriers, are this narrow: half their width in percent of the
    /// figure, such as 2%
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    until_ci: Option<f64>,

    /// With --until-ci: at most so many runs of each [default: 50]
    #[arg(long, value_name = "N", value_parser = parse_count, requires = "until_ci")]
    max_repeats: Option<u64>,

    /// With --until-ci: no further repeat is begun after so many minutes [default: 120]
    #[arg(long, value_name = "MINUTES", value_parser = parse_count, requires = "until_ci")]
    max_minutes: Option<u64>,

    /// Seed of the random order of the runs, to have the same order again [default: the clock; the
    /// report names it]
    #[arg(long, value_name = "N")]
    order_seed: Option<u32>,
}

/// The options, checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    /// Repeats that are made in any case.
    pub(crate) repeats: u64,
    pub(crate) until: Option<Until>,
    /// No repeat is begun that would end later.
    pub(crate) budget: Option<Duration>,
    pub(crate) seed: u64,
}

/// When a session that runs until its intervals are narrow ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Until {
    /// As a share.
    pub(crate) half_width: f64,
    pub(crate) max_repeats: u64,
    pub(crate) max_time: Duration,
}

/// The fewest repeats before intervals are looked at: of fewer, one that is narrow by chance would
/// end the session.
const LEAST: u64 = 5;
/// What a published figure is made of.
const PUBLISHED: u64 = 10;

impl RepeatArgs {
    /// Where nothing is said, `usual` repeats.
    pub(crate) fn schedule(&self, usual: u64) -> Result<Schedule, Failure> {
        let usual = if self.until_ci.is_some() { LEAST } else { usual };
        let repeats = self.repeats.unwrap_or(if self.published { PUBLISHED } else { usual });
        let until = self.until_ci.map(|half_width| Until {
            half_width,
            max_repeats: self.max_repeats.unwrap_or(50.max(repeats)),
            max_time: Duration::from_secs(60 * self.max_minutes.unwrap_or(120)),
        });
        if let Some(until) = until {
            if repeats < LEAST {
                return Err(Failure::input(format!(
                    "--until-ci looks at intervals of {LEAST} runs and more, and --repeats is {repeats}"
                )));
            }
            if until.max_repeats < repeats {
                let most = until.max_repeats;
                return Err(Failure::input(format!("--max-repeats {most} is fewer than the {repeats} to begin with")));
            }
        }
        Ok(Schedule { repeats, until, budget: None, seed: self.order_seed.map_or_else(seed, u64::from) })
    }
}

impl Schedule {
    /// Each once.
    pub(crate) fn once() -> Self {
        Self { repeats: 1, until: None, budget: None, seed: seed() }
    }

    /// Whether a repeat more is too much, where `repeats` took so long.
    pub(crate) fn is_spent(&self, repeats: u64, took: Duration) -> bool {
        let next = |repeats: u64| took.mul_f64((repeats + 1) as f64 / repeats as f64);
        repeats > 0 && self.budget.is_some_and(|budget| next(repeats) > budget)
    }
}

/// A seed that differs from session to session; small, so that a person can type it again.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
    u64::from((now ^ u64::from(std::process::id()) << 16) as u32)
}

/// What the runs of a configuration gave so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sofar {
    /// The work: configurations of the same work are compared with the first of them.
    pub(crate) work: String,
    pub(crate) ops_per_s: Vec<f64>,
    pub(crate) cpu_ns_per_op: Vec<f64>,
}

/// The half width of the widest interval of each configuration, as a share of the figure: of the
/// means, and of the ratios to the first of its work. Infinite where there is none yet.
pub(crate) fn half_widths(sofar: &[Sofar]) -> Vec<f64> {
    let of = |(at, own): (usize, &Sofar)| {
        let first = sofar[..at].iter().find(|other| other.work == own.work);
        let kinds: [fn(&Sofar) -> &[f64]; 2] = [|s| &s.ops_per_s, |s| &s.cpu_ns_per_op];
        let intervals = kinds.into_iter().flat_map(|kind| {
            let ratio = first.map(|first| of_ratio(kind(own), kind(first)));
            std::iter::once(of_mean(kind(own))).chain(ratio)
        });
        intervals.map(|interval| interval.map_or(f64::INFINITY, |i| i.half_width())).fold(0.0, f64::max)
    };
    sofar.iter().enumerate().map(of).collect()
}

/// The configurations that are to be run again: all of a work of which one is still too wide.
pub(crate) fn still_open(sofar: &[Sofar], half_width: f64) -> Vec<usize> {
    let widths = half_widths(sofar);
    let wide = |work: &str| sofar.iter().zip(&widths).any(|(s, &width)| s.work == work && width > half_width);
    (0..sofar.len()).filter(|&at| wide(&sofar[at].work)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RepeatArgs,
        #[arg(long)]
        quick: bool,
    }

    fn schedule(args: &[&str]) -> Result<Schedule, String> {
        let line = Line::try_parse_from([&["gc-bench"], args].concat()).map_err(|e| e.to_string())?;
        line.args.schedule(if line.quick { 1 } else { 3 }).map_err(|e| e.line())
    }

    #[test]
    fn what_is_asked_for_is_what_is_run() {
        let repeats = |args: &[&str]| schedule(args).unwrap().repeats;
        assert_eq!((repeats(&[]), repeats(&["--quick"]), repeats(&["--published"])), (3, 1, 10));
        assert_eq!((repeats(&["--repeats", "7"]), repeats(&["--until-ci", "2%"])), (7, 5));
        let found = schedule(&["--until-ci", "2%", "--published", "--max-minutes", "3", "--order-seed", "9"]).unwrap();
        let until = Until { half_width: 0.02, max_repeats: 50, max_time: Duration::from_secs(180) };
        assert_eq!(found, Schedule { repeats: 10, until: Some(until), budget: None, seed: 9 });
        assert!(schedule(&[]).unwrap().seed <= u64::from(u32::MAX));
    }

    #[test]
    fn a_budget_is_spent_where_another_repeat_would_end_later() {
        let schedule = Schedule { budget: Some(Duration::from_secs(100)), ..Schedule::once() };
        let spent = |repeats, seconds| schedule.is_spent(repeats, Duration::from_secs(seconds));
        assert_eq!((spent(4, 79), spent(4, 81), spent(0, 101)), (false, true, false));
        assert!(!Schedule::once().is_spent(1, Duration::from_secs(1_000_000)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (args, part) in [
            (&["--until-ci", "2%", "--repeats", "3"][..], "5 runs and more"),
            (&["--until-ci", "2%", "--max-repeats", "4"], "fewer than the 5"),
            (&["--until-ci", "0%"], "--until-ci"),
            (&["--until-ci", "2"], "2%"),
            (&["--max-repeats", "20"], "--until-ci"),
            (&["--max-minutes", "20"], "--until-ci"),
            (&["--published", "--quick"], "--quick"),
            (&["--published", "--repeats", "3"], "--repeats"),
            (&["--order-seed", "x"], "--order-seed"),
        ] {
            let said = schedule(args).expect_err(&format!("{args:?}"));
            assert!(said.contains(part), "{said} does not say {part}");
        }
    }

    #[test]
    fn a_work_is_run_until_all_of_it_is_narrow() {
        let of = |work: &str, spread: f64| Sofar {
            work: work.into(),
            ops_per_s: (0..6).map(|i| 100.0 + spread * f64::from(i % 3 - 1)).collect(),
            cpu_ns_per_op: vec![5.0; 6],
        };
        let sofar = [of("a", 0.1), of("b", 0.1), of("a", 9.0), of("b", 0.2)];
        assert_eq!(still_open(&sofar, 0.02), [0, 2], "a's second one is wide, so both of a go on");
        assert_eq!(still_open(&sofar, 0.5), [0; 0]);
        assert_eq!(still_open(&[Sofar::default()], 0.5), [0], "without a run there is no interval");
        // By hand: six runs of 91, 100, 109, 91, 100, 109 have the variance 64.8 and t of 5 degrees
        // of freedom is 2.571.
        let wide = half_widths(&[of("a", 9.0)])[0];
        assert!((wide - 2.571 * (64.8f64 / 6.0).sqrt() / 100.0).abs() < 1e-9, "{wide}");
    }
}
