//! Pauses by kind: how many, and how long.

use crate::record::Record;

/// The pauses of one kind, of all runs together.
#[derive(Debug, PartialEq)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) count: usize,
    pub(crate) least_ns: u64,
    /// Where there are ten longer ones.
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    pub(crate) max_ns: u64,
    pub(crate) total_ns: u64,
}

/// The smallest that so many do not exceed; `None` where fewer than ten are beyond.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let at = (sorted.len() * percent).div_ceil(100);
    (at > 0 && sorted.len() >= at + 10).then(|| sorted[at - 1])
}

/// Every kind that these runs had, what took longest in all first.
pub(crate) fn kinds(runs: &[&Record]) -> Vec<Kind> {
    let mut all: Vec<(&str, Vec<u64>)> = Vec::new();
    for stop in runs.iter().flat_map(|run| &run.stops) {
        match all.iter_mut().find(|(name, _)| *name == stop.kind) {
            Some((_, stops)) => stops.push(stop.duration_ns),
            None => all.push((&stop.kind, vec![stop.duration_ns])),
        }
    }
    let kind = |(name, mut stops): (&str, Vec<u64>)| {
        stops.sort_unstable();
        Kind {
            name: name.to_owned(),
            count: stops.len(),
            least_ns: stops[0],
            p50_ns: percentile(&stops, 50),
            p99_ns: percentile(&stops, 99),
            max_ns: stops[stops.len() - 1],
            total_ns: stops.iter().sum(),
        }
    };
    let mut kinds: Vec<Kind> = all.into_iter().map(kind).collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.total_ns));
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples::record;
    use crate::timeline::Stop;

    #[test]
    fn pauses_are_told_apart_by_what_they_are_for() {
        let mut runs = [record("gcbench", 1), record("gcbench", 2)];
        let stop = |kind: &str, duration_ns| Stop {
            mutator: None,
            kind: kind.into(),
            start_ns: 0,
            duration_ns,
            safepoint_ns: 1,
            before_ns: 0,
        };
        runs[0].stops = (1..=20).map(|ns| stop("mark start", ns)).collect();
        runs[1].stops = (21..=1001).map(|ns| stop("mark start", ns)).chain([stop("flip", 1_000_000)]).collect();
        let found = kinds(&[&runs[0], &runs[1]]);
        let flip = Kind {
            name: "flip".into(),
            count: 1,
            least_ns: 1_000_000,
            p50_ns: None,
            p99_ns: None,
            max_ns: 1_000_000,
            total_ns: 1_000_000,
        };
        assert_eq!((found.len(), &found[0]), (2, &flip));
        let mark = &found[1];
        assert_eq!((mark.count, mark.p50_ns, mark.p99_ns), (1001, Some(501), Some(991)));
        assert_eq!((mark.least_ns, mark.max_ns, mark.total_ns), (1, 1001, 501_501));
        assert_eq!(kinds(&[]), []);
    }
}
