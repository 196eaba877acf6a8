//! What a peer's program says when its work is done.

use serde::Deserialize;

use crate::recorder::Recorder;
use crate::timeline::Stop;
use crate::track::{Late, Paced, Track};

/// One line of JSON. Times by the monotonic clock.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    /// Processor time in the measured part: of the process, and of its mutators.
    pub(super) cpu_ns: u64,
    pub(super) mutators_cpu_ns: u64,
    /// Collections in it.
    pub(super) cycles: u64,
    pub(super) ops: u64,
    pub(super) checksum: i64,
    tracks: Vec<SaidTrack>,
    /// Where the runtime has no log of them.
    #[serde(default)]
    stops: Vec<SaidStop>,
}

/// A time in which the collector had threads stopped.
#[derive(Debug, Deserialize)]
struct SaidStop {
    kind: String,
    /// The mutator that it stopped; none: all.
    mutator: Option<u64>,
    start_ns: u64,
    duration_ns: u64,
}

/// A mutator's samples.
#[derive(Debug, Deserialize)]
struct SaidTrack {
    operations: Buckets,
    other: Buckets,
    /// With a set rate.
    ticks: Option<Buckets>,
    responses: Option<Buckets>,
    /// Pairs, one after the other: the length and how many samples; -1: it was idle.
    stretches: Vec<i64>,
    /// Pairs: when operations were due and the thread still slept, and how long.
    late: Vec<i64>,
}

#[derive(Debug, Deserialize)]
struct Buckets {
    total_ns: u64,
    max_ns: u64,
    over_1ms_ns: u64,
    /// The number of a bucket, and how many samples are in it.
    counts: Vec<(usize, u64)>,
}

impl Buckets {
    fn recorder(&self) -> Option<Recorder> {
        Recorder::of_buckets(&self.counts, self.total_ns, self.max_ns, self.over_1ms_ns)
    }
}

fn pairs(flat: &[i64]) -> Option<Vec<(u64, i64)>> {
    let pairs = flat.chunks(2).map(|pair| Some((u64::try_from(pair[0]).ok()?, *pair.get(1)?)));
    pairs.collect()
}

impl Said {
    /// The stops that it said, as far as they lie in the measured part; times from its start.
    pub(super) fn stops(&self) -> Vec<Stop> {
        let &Self { from_ns, to_ns, .. } = self;
        let inside = |stop: &&SaidStop| stop.start_ns + stop.duration_ns > from_ns && stop.start_ns < to_ns;
        let stop = |stop: &SaidStop| Stop {
            mutator: stop.mutator,
            kind: stop.kind.clone(),
            start_ns: stop.start_ns.saturating_sub(from_ns),
            duration_ns: stop.duration_ns,
            safepoint_ns: 0,
            before_ns: from_ns.saturating_sub(stop.start_ns),
        };
        let mut stops: Vec<Stop> = self.stops.iter().filter(inside).map(stop).collect();
        stops.sort_by_key(|stop| stop.start_ns);
        stops
    }

    /// The tracks, numbered from 1. `None` if they are not what a program of ours writes.
    pub(super) fn tracks(&self) -> Option<Vec<Track>> {
        self.tracks.iter().zip(1..).map(|(track, number)| track.read(number)).collect()
    }
}

impl SaidTrack {
    fn read(&self, number: u64) -> Option<Track> {
        let stretches = pairs(&self.stretches)?.into_iter().map(|(ns, samples)| (ns, u64::try_from(samples).ok()));
        let paced = match (&self.ticks, &self.responses) {
            (Some(ticks), Some(responses)) => {
                // What its threads waited for a processor, a peer does not say.
                let late = pairs(&self.late)?.into_iter().map(|(due_ns, ns)| {
                    let woke_ns = due_ns + u64::try_from(ns).ok()?;
                    Some(Late::asleep(due_ns, woke_ns))
                });
                let (ticks, responses) = (ticks.recorder()?, responses.recorder()?);
                Some(Paced { ticks, responses, late: late.collect::<Option<Vec<_>>>()? })
            }
            _ => None,
        };
        Some(Track::of_stretches(number, stretches, (self.operations.recorder()?, self.other.recorder()?), paced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::Piece;

    const LINE: &str = r#"{"from_ns":5,"to_ns":900,"cpu_ns":7,"mutators_cpu_ns":6,"cycles":2,"ops":9,"checksum":-3,"tracks":[
        {"idle_ns":40,"last_ns":5000000140,"operations":{"total_ns":5000000100,"max_ns":5000000000,"over_1ms_ns":5000000000,
        "counts":[[3,7],[928,1]]},"other":{"total_ns":0,"max_ns":0,"over_1ms_ns":0,"counts":[]},
        "stretches":[100,7,40,-1,5000000000,1],"late":[]}]}"#;

    #[test]
    fn samples_are_those_of_the_program() {
        let said: Said = serde_json::from_str(LINE).unwrap();
        let tracks = said.tracks().unwrap();
        let piece = |from_ns, to_ns, samples| Piece { from_ns, to_ns, samples };
        assert_eq!(
            tracks[0].pieces().collect::<Vec<_>>(),
            [piece(0, 100, 7), piece(100, 140, 0), piece(140, 5_000_000_140, 1)]
        );
        let sampled = tracks[0].sampled(5_000_000_200);
        assert_eq!((sampled.mutator, sampled.operations, sampled.idle_ns), (1, 8, 100));
        assert_eq!((sampled.long_samples, sampled.operations_ns), (vec![(140, 5_000_000_000)], 5_000_000_100));
        assert!(tracks[0].responses().is_none() && tracks[0].late().is_empty());
    }

    #[test]
    fn stops_are_those_of_the_measured_part() {
        let stops = r#""stops":[{"kind":"b","mutator":2,"start_ns":700,"duration_ns":300},
            {"kind":"a","mutator":null,"start_ns":2,"duration_ns":9},{"kind":"c","start_ns":900,"duration_ns":1},
            {"kind":"d","start_ns":1,"duration_ns":4}],"tracks""#;
        let said: Said = serde_json::from_str(&LINE.replace("\"tracks\"", stops)).unwrap();
        let stop = |kind: &str, mutator, start_ns, duration_ns, before_ns| Stop {
            mutator,
            kind: kind.into(),
            start_ns,
            duration_ns,
            safepoint_ns: 0,
            before_ns,
        };
        assert_eq!(said.stops(), [stop("a", None, 0, 9, 3), stop("b", Some(2), 695, 300, 0)]);
    }

    #[test]
    fn what_no_program_of_ours_says_is_refused() {
        for (from, to) in [("[3,7]", "[999999,7]"), ("[100,7,", "[-100,7,"), ("-1,5000000000,1]", "-1,5000000000]")] {
            let said: Said = serde_json::from_str(&LINE.replace(from, to)).unwrap();
            assert!(said.tracks().is_none(), "{to}");
        }
    }
}
