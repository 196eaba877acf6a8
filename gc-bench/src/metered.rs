//! Metered latency: an operation's latency from when it would have arrived, had the program's
//! requests come evenly.
//!
//! A program in a loop begins an operation when the one before is done, so a stop delays one
//! operation, and those that would have arrived meanwhile are never asked: coordinated omission.
//! DaCapo Chopin ([Blackburn et al., Rethinking Java Performance
//! Analysis](https://doi.org/10.1145/3669940.3707217), ASPLOS 2025) gives each a due arrival: over
//! a window around the operation's begin, operations arrive at the window's mean rate, and latency
//! counts from the arrival or the begin, whichever is earlier. A stop that is longer than half the
//! window has no operation before it in the window and shows as in the plain latency; so there are
//! several windows. Over the whole run, every operation is due as if all came evenly, and delays
//! add up.
//!
//! Here each thread is a queue of its own, and time in which it was idle is taken out. Operations
//! are those of the track: a stretch's samples are taken to be equally long, so an operation's
//! begin is known to some tens of microseconds, and where it was longer than that, exactly.

use serde::{Deserialize, Serialize};

use crate::stats::Samples;
use crate::track::Piece;

/// A figure for each window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metered<T> {
    #[serde(rename = "1ms")]
    pub(crate) ms_1: T,
    #[serde(rename = "10ms")]
    pub(crate) ms_10: T,
    #[serde(rename = "100ms")]
    pub(crate) ms_100: T,
    pub(crate) full: T,
}

impl<T> Metered<T> {
    /// A figure of each window: its length in nanoseconds, `None` for the whole run.
    pub(crate) fn by_window(of: impl Fn(Option<u64>) -> T) -> Self {
        Self { ms_1: of(Some(1_000_000)), ms_10: of(Some(10_000_000)), ms_100: of(Some(100_000_000)), full: of(None) }
    }

    pub(crate) fn map<U>(&self, of: impl Fn(&T) -> U) -> Metered<U> {
        Metered { ms_1: of(&self.ms_1), ms_10: of(&self.ms_10), ms_100: of(&self.ms_100), full: of(&self.full) }
    }
}

/// A stretch of operations without idle time before it.
#[derive(Debug, Clone, Copy)]
struct Run {
    at: f64,
    ns: f64,
    /// Operations before it, and in it.
    before: u64,
    samples: u64,
}

impl Run {
    /// When the `k`-th operation of all began.
    fn start(&self, k: u64) -> f64 {
        self.at + self.ns * (k - self.before) as f64 / self.samples as f64
    }
}

/// A thread's operations, end to end.
pub(crate) struct Stream {
    runs: Vec<Run>,
    samples: u64,
}

/// A place in the stream that only moves on.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    runs: &'a [Run],
    last: u64,
}

impl Cursor<'_> {
    /// The first operation that began at `time` or later, at most the last one; and when it began.
    fn first_from(&mut self, time: f64) -> (u64, f64) {
        while let [run, _, ..] = self.runs
            && run.at + run.ns < time
        {
            self.runs = &self.runs[1..];
        }
        let run = &self.runs[0];
        let inside = ((time - run.at) / run.ns * run.samples as f64).ceil().max(0.0) as u64;
        // The first of the next one, if none of this one is left.
        match self.runs {
            [run, next, ..] if inside >= run.samples => (next.before, next.at),
            [run, ..] => {
                let k = (run.before + inside).min(self.last);
                (k, run.start(k))
            }
            [] => unreachable!("a cursor stays in its stream"),
        }
    }
}

impl Cursor<'_> {
    /// Whether an operation that is a stretch of its own lies between two times: what takes long.
    /// The first operation after a time jumps there.
    fn passes_a_stop(&self, from: f64, to: f64) -> bool {
        let between = self.runs.iter().skip_while(|run| run.at + run.ns < from).take_while(|run| run.at <= to);
        between.into_iter().any(|run| run.samples == 1)
    }
}

/// Operations of a stretch that stand for the others: those beside them differ by less than the
/// stretch is long, unless an edge of their window passes over a stop. Then each is metered.
const POINTS: u64 = 8;

impl Stream {
    pub(crate) fn new(pieces: impl Iterator<Item = Piece>) -> Self {
        let mut stream = Self { runs: Vec::new(), samples: 0 };
        let mut at = 0.0;
        for piece in pieces.filter(|piece| piece.samples > 0) {
            let ns = (piece.to_ns - piece.from_ns) as f64;
            stream.runs.push(Run { at, ns, before: stream.samples, samples: piece.samples });
            stream.samples += piece.samples;
            at += ns;
        }
        stream
    }

    /// Adds the metered latency of every operation, arrivals smoothed over a window; `None`: over
    /// the whole.
    pub(crate) fn meter(&self, window_ns: Option<u64>, into: &mut Samples) {
        let (Some(first), Some(final_run)) = (self.runs.first(), self.runs.last()) else { return };
        let last = self.samples - 1;
        let half = window_ns.map_or(f64::INFINITY, |ns| ns as f64 / 2.0);
        let ends = [(0, first.at), (last, final_run.start(last))];
        let (mut from, mut to) = (Cursor { runs: &self.runs, last }, Cursor { runs: &self.runs, last });
        for run in &self.runs {
            let (first_start, last_start) = (run.start(run.before), run.at + run.ns);
            let jumps = half.is_finite()
                && run.samples > POINTS
                && (from.passes_a_stop(first_start - half, last_start - half)
                    || to.passes_a_stop(first_start + half, last_start + half));
            let points = if jumps { run.samples } else { run.samples.min(POINTS) };
            for point in 0..points {
                let (begin, end) = (point * run.samples / points, (point + 1) * run.samples / points);
                let k = run.before + (begin + end) / 2;
                let start = run.start(k);
                let [(a, at_a), (b, at_b)] =
                    if half.is_finite() { [from.first_from(start - half), to.first_from(start + half)] } else { ends };
                let due = if b > a { at_a + (k as f64 - a as f64) * (at_b - at_a) / (b - a) as f64 } else { start };
                let done = start + run.ns / run.samples as f64;
                into.record_n((done - due.min(start)) as u64, end - begin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn pieces(of: &[(u64, u64)]) -> Vec<Piece> {
        let mut to_ns = 0;
        let piece = |&(ns, samples): &(u64, u64)| {
            let from_ns = to_ns;
            to_ns += ns;
            Piece { from_ns, to_ns, samples }
        };
        of.iter().map(piece).collect()
    }

    fn meter(of: &[(u64, u64)], window_ns: Option<u64>) -> Samples {
        let mut samples = Samples::new();
        Stream::new(pieces(of).into_iter()).meter(window_ns, &mut samples);
        samples
    }

    /// As DaCapo does it, operation by operation: the begins of all of them, in order.
    fn reference(of: &[(u64, u64)], window_ns: Option<u64>) -> Vec<f64> {
        let (mut starts, mut at) = (Vec::new(), 0.0);
        for &(ns, samples) in of.iter().filter(|piece| piece.1 > 0) {
            starts.extend((0..samples).map(|k| at + ns as f64 * k as f64 / samples as f64));
            at += ns as f64;
        }
        let last = starts.len() - 1;
        let end = |i: usize| if i == last { at } else { starts[i + 1] };
        let at_or_after = |time: f64| starts.partition_point(|&s| s < time).min(last);
        (0..=last)
            .map(|i| {
                let (a, b) = match window_ns {
                    Some(ns) => (at_or_after(starts[i] - ns as f64 / 2.0), at_or_after(starts[i] + ns as f64 / 2.0)),
                    None => (0, last),
                };
                let interval = if b > a { (starts[b] - starts[a]) / (b - a) as f64 } else { 0.0 };
                let due = starts[a] + (i - a) as f64 * interval;
                end(i) - if b > a { due.min(starts[i]) } else { starts[i] }
            })
            .collect()
    }

    #[test]
    fn an_even_stream_is_metered_as_it_is() {
        for window in [Some(MS), Some(100 * MS), None] {
            let found = meter(&[(20_000, 20); 500], window).summary();
            assert_eq!(found.count, 10_000);
            assert!((1_000..=1_010).contains(&found.max_ns), "{found:?}");
        }
    }

    #[test]
    fn a_stop_delays_those_that_would_have_arrived() {
        // 10,000 operations of 10 us with a stop of 20 ms in the middle of them.
        let mut of = vec![(20_000, 2); 2_500];
        of.push((20 * MS, 1));
        of.extend(vec![(20_000, 2); 2_500]);
        let at = |window| meter(&of, window).summary();
        // Longer than half of the window: only the one that it hit.
        assert_eq!((at(Some(MS)).p999_ns, at(Some(MS)).max_ns), (10_007, 20 * MS));
        // In 100 ms, 80 ms of operations arrive over 100 ms: the one behind the stop was due
        // half-way into it, and the 2,000 behind that catch up.
        let wide = at(Some(100 * MS));
        assert!(wide.max_ns >= 20 * MS && wide.p99_ns > 5 * MS, "{wide:?}");
        // Over the whole run, the one behind the stop was due in the middle of it, too, and the
        // last one when it began: 5,000 delays of up to 10 ms.
        let whole = at(None);
        assert!((9 * MS..10 * MS + 20_000).contains(&whole.p99_ns) && whole.max_ns == 20 * MS, "{whole:?}");
        let delays = whole.total_ns - 20 * MS - 10_000 * 10_000;
        assert!(delays.abs_diff(5_000 * 5 * MS) < 50 * MS, "{delays}");
    }

    #[test]
    fn idle_time_is_no_part_of_it() {
        let busy = [(20_000, 20); 500];
        let mut of: Vec<_> = busy.into();
        of.insert(250, (50 * MS, 0));
        for window in [Some(10 * MS), None] {
            assert_eq!(meter(&of, window).summary(), meter(&busy, window).summary());
        }
        assert_eq!(meter(&[], None).summary().count, 0);
        assert_eq!(meter(&[(70, 1)], Some(MS)).summary().max_ns, 70);
    }

    #[test]
    fn it_is_what_dacapo_computes_of_each_operation() {
        let mut rng = crate::rng::Rng::new(5, 0);
        for round in 0..60 {
            let mut of: Vec<(u64, u64)> = Vec::new();
            for _ in 0..(1 + rng.next() % 60) {
                of.push(match rng.next() % 6 {
                    0 => (100_000 + rng.next() % (4 * MS), 1),
                    1 => (1 + rng.next() % MS, 0),
                    // Few, so that each is a point of its own.
                    _ => (10_000 + rng.next() % 20_000, 1 + rng.next() % POINTS),
                });
            }
            for window in [Some(MS), Some(10 * MS), None] {
                let found = meter(&of, window);
                if of.iter().all(|piece| piece.1 == 0) {
                    assert_eq!(found.summary().count, 0);
                    continue;
                }
                let mut expected = reference(&of, window);
                expected.sort_by(f64::total_cmp);
                let found = found.summary();
                assert_eq!(found.count, expected.len() as u64);
                let at = |q: f64| expected[(q * expected.len() as f64).ceil() as usize - 1];
                for (name, found, expected) in [
                    ("p50", found.p50_ns, at(0.5)),
                    ("p99", found.p99_ns, at(0.99)),
                    ("max", found.max_ns, *expected.last().unwrap()),
                ] {
                    assert!(
                        (found as f64 - expected).abs() <= 2.0 + expected / 500.0,
                        "round {round}, {window:?}: {name} is {found}, not {expected}, of {of:?}"
                    );
                }
                let sum: f64 = expected.iter().sum();
                assert!((found.total_ns as f64 - sum).abs() <= 2.0 * expected.len() as f64 + sum * 1e-9);
            }
        }
    }

    /// Where an edge of the window passes over a stop, the due arrival jumps from one operation of
    /// a stretch to the next.
    #[test]
    fn stops_are_metered_exactly_in_long_stretches() {
        let mut rng = crate::rng::Rng::new(6, 0);
        for round in 0..20 {
            let of: Vec<(u64, u64)> = (0..200)
                .map(|_| match rng.next() % 8 {
                    0 => (100_000 + rng.next() % (2 * MS), 1),
                    _ => (20_000 + rng.next() % 20_000, 100 + rng.next() % 300),
                })
                .collect();
            for window in [Some(MS), Some(10 * MS)] {
                let (found, expected) = (meter(&of, window).summary(), reference(&of, window));
                let (most, sum) = (expected.iter().copied().fold(0.0, f64::max), expected.iter().sum::<f64>());
                let name = format!("round {round}, {window:?}");
                assert!((found.max_ns as f64 - most).abs() <= 20_000.0 + most / 500.0, "{name}: {found:?}, {most}");
                assert!((found.total_ns as f64 - sum).abs() <= sum * 0.002, "{name}: {} in all, {sum}", found.total_ns);
            }
        }
    }
}
