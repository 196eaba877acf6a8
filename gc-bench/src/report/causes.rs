//! The longest gaps of some runs, and what of each the heap's events explain.

use crate::mmu::{LostTime, Stretch};
use crate::record::Record;
use crate::recorder::LONG_NS;
use crate::size::duration;

/// A sample of 1 ms and more, and its causes.
#[derive(Debug)]
pub(crate) struct Gap {
    pub(crate) repeat: u64,
    pub(crate) mutator: u64,
    /// From the start of the measured part.
    pub(crate) at_ns: u64,
    pub(crate) ns: u64,
    /// What took how much of it, the most first. Where causes overlap, each counts whole.
    pub(crate) causes: Vec<(String, u64)>,
    /// What no event explains; `None` of a runtime that reports no events.
    pub(crate) unknown_ns: Option<u64>,
    /// What the collector did meanwhile.
    pub(crate) phases: Vec<String>,
}

/// The stretches of this run that a mutator lost, by their cause.
fn lost(run: &Record, mutator: u64) -> Vec<(String, Vec<Stretch>)> {
    let mut all: Vec<(String, Vec<Stretch>)> = Vec::new();
    for stop in run.stops.iter().filter(|stop| stop.mutator.is_none_or(|stopped| stopped == mutator)) {
        // One that ended before the measured part is empty.
        let to = (stop.start_ns + stop.duration_ns).saturating_sub(stop.before_ns);
        let stretch = Stretch::from((stop.start_ns, to));
        let cause = format!("pause ({})", stop.kind);
        match all.iter_mut().find(|(name, _)| *name == cause) {
            Some((_, stretches)) => stretches.push(stretch),
            None => all.push((cause, vec![stretch])),
        }
    }
    for (kind, delays) in &run.delays {
        let own = delays.iter().filter(|delay| delay.0 == mutator && delay.2 > 0);
        let stretches: Vec<Stretch> = own
            .map(|&(_, from, ns, lost_ns)| Stretch { from, to: from + ns, share: lost_ns as f64 / ns as f64 })
            .collect();
        all.push((kind.replace('_', " "), stretches));
    }
    all
}

/// Up to so many gaps, the longest first.
pub(crate) fn longest(runs: &[&Record], most: usize) -> Vec<Gap> {
    let mut found: Vec<(&Record, u64, (u64, u64))> = Vec::new();
    for run in runs {
        for track in &run.tracks {
            let gaps = track.long_samples.iter().filter(|sample| sample.1 >= LONG_NS);
            found.extend(gaps.map(|&gap| (*run, track.mutator, gap)));
        }
    }
    found.sort_by_key(|(.., (_, ns))| std::cmp::Reverse(*ns));
    found.truncate(most);
    found.into_iter().map(|(run, mutator, gap)| explained(run, mutator, gap)).collect()
}

fn explained(run: &Record, mutator: u64, (at_ns, ns): (u64, u64)) -> Gap {
    let end_ns = at_ns + ns;
    let inside = |stretch: &Stretch| stretch.from < end_ns && stretch.to > at_ns;
    let mut all: Vec<Stretch> = Vec::new();
    let mut causes = Vec::new();
    for (cause, stretches) in lost(run, mutator) {
        let stretches: Vec<Stretch> = stretches.into_iter().filter(inside).collect();
        let lost_ns = LostTime::new(stretches.iter().copied(), end_ns).between(at_ns, end_ns).round() as u64;
        all.extend(stretches);
        // Less than a hundredth explains nothing.
        if lost_ns * 100 >= ns {
            causes.push((cause, lost_ns));
        }
    }
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.1));
    let known = LostTime::new(all.into_iter(), end_ns).between(at_ns, end_ns);
    let unknown_ns = run.barrier.peer().is_none().then(|| (ns as f64 - known).max(0.0).round() as u64);
    let mut phases: Vec<String> = Vec::new();
    for phase in run.phases.iter().filter(|p| p.start_ns < end_ns && p.start_ns + p.duration_ns > at_ns) {
        if !phases.contains(&phase.name) {
            phases.push(phase.name.clone());
        }
    }
    Gap { repeat: run.repeat, mutator, at_ns, ns, causes, unknown_ns, phases }
}

impl Gap {
    /// Its causes in words.
    pub(crate) fn cause(&self) -> String {
        let mut causes: Vec<String> = self.causes.iter().map(|(of, ns)| format!("{of} {}", duration(*ns))).collect();
        match self.unknown_ns {
            None => causes.push("of the rest nothing is known".into()),
            Some(ns) if ns * 100 >= self.ns || causes.is_empty() => {
                causes.push(format!("not accounted for {}", duration(ns)));
            }
            Some(_) => {}
        }
        causes.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::Collector;
    use crate::peer::Peer;
    use crate::record::samples::record;
    use crate::timeline::{Phase, Sampled, Stop};

    const MS: u64 = 1_000_000;

    fn run(repeat: u64, long_samples: &[(u64, u64)]) -> Record {
        let mut run = record("gcbench", repeat);
        let track = |mutator, long_samples: &[(u64, u64)]| Sampled {
            mutator,
            long_samples: long_samples.to_vec(),
            ..Sampled::default()
        };
        run.tracks = vec![track(7, long_samples), track(8, &[])];
        run.stops.clear();
        run.phases.clear();
        run.delays.clear();
        run
    }

    /// A gap from 10 to 20 ms: 4 ms of a pause that began before the measured part does not reach
    /// it, 2 ms of one that it has whole, half of a stretch of 4 ms, of which the pause covers 1.
    #[test]
    fn a_gap_is_what_pauses_and_the_thread_s_own_delays_took() {
        let mut run = run(3, &[(10 * MS, 10 * MS)]);
        let stop = |kind: &str, start_ms: u64, ms: u64, before_ms: u64| Stop {
            mutator: None,
            kind: kind.into(),
            start_ns: start_ms * MS,
            duration_ns: ms * MS,
            safepoint_ns: 1,
            before_ns: before_ms * MS,
        };
        run.stops = vec![stop("mark end", 0, 1, 2), stop("mark start", 0, 12, 4), stop("flip", 12, 2, 0)];
        run.delays.insert("slow_paths".into(), vec![(7, 13 * MS, 4 * MS, 2 * MS), (8, 10 * MS, 10 * MS, 10 * MS)]);
        run.delays.insert("stall".into(), vec![(7, 30 * MS, MS, MS)]);
        run.phases = vec![Phase { name: "mark".into(), start_ns: 0, duration_ns: 11 * MS }];
        let found = longest(&[&run], 10);
        assert_eq!(found.len(), 1);
        let gap = &found[0];
        assert_eq!((gap.repeat, gap.mutator, gap.at_ns, gap.ns), (3, 7, 10 * MS, 10 * MS));
        let causes: Vec<(&str, u64)> = gap.causes.iter().map(|(of, ns)| (of.as_str(), *ns)).collect();
        assert_eq!(causes, [("pause (flip)", 2 * MS), ("slow paths", 2 * MS)]);
        // 2 ms of the pause, and half of the 3 ms behind it.
        assert_eq!((gap.unknown_ns, &gap.phases[..]), (Some(6_500_000), &["mark".to_owned()][..]));
        assert_eq!(gap.cause(), "pause (flip) 2.00 ms, slow paths 2.00 ms, not accounted for 6.50 ms");
        run.barrier = Collector::of_peer(Peer::G1);
        assert!(longest(&[&run], 10)[0].cause().ends_with("of the rest nothing is known"));
    }

    #[test]
    fn the_longest_of_all_runs_come_first_and_shorter_samples_are_no_gaps() {
        let (a, b) = (run(1, &[(0, MS), (5 * MS, MS - 1), (9 * MS, 3 * MS)]), run(2, &[(0, 2 * MS)]));
        let of = |most| longest(&[&a, &b], most).iter().map(|gap| (gap.repeat, gap.ns / MS)).collect::<Vec<_>>();
        assert_eq!(of(10), [(1, 3), (2, 2), (1, 1)]);
        assert_eq!(of(2), [(1, 3), (2, 2)]);
        assert_eq!(longest(&[&b], 1)[0].cause(), "not accounted for 2.00 ms");
    }
}
