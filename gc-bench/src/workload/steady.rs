//! Workloads whose threads fill a structure of their own, and then do operations on it for a set
//! time.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use gc_heap::{Mutator, OutOfMemory};
use serde::{Deserialize, Serialize};

use super::common::{Meetings, Timed, from_enter, from_memory, pick};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::rng::PEER_SEED;
use crate::size::{parse_count, parse_seconds};
use crate::track::{Series, Track};

/// The options that all of them have.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// mutator threads [default: 2]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    threads: Option<u64>,

    /// how long the measured part lasts [default: 10]
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    seconds: Option<f64>,

    /// seed of the random keys [default: that of the peer measurements]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// The settings that all of them have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) threads: u64,
    /// Length of the measured part.
    pub(super) seconds: f64,
    pub(super) warm_up_seconds: f64,
    pub(super) seed: u64,
}

impl Settings {
    /// What each of these workloads answers to [`Workload::timed`](super::common::Workload::timed).
    pub(super) fn timed(&self) -> Option<Timed> {
        Some(Timed { threads: self.threads, seconds: self.seconds })
    }
}

impl Options {
    pub(super) fn settings(self, quick: bool) -> Settings {
        Settings {
            threads: self.threads.unwrap_or(2),
            seconds: self.seconds.unwrap_or(pick(quick, 10.0, 2.0)),
            warm_up_seconds: pick(quick, 4.0, 0.5),
            seed: self.seed.unwrap_or(PEER_SEED),
        }
    }
}

/// What one thread has, and does over and over.
pub(super) trait Operations {
    /// The next operation.
    fn op(&mut self, m: &mut Mutator<'_>) -> Result<(), OutOfMemory>;

    /// Of what was read, or of what is there when the measured part is over.
    fn checksum(&mut self, m: &mut Mutator<'_>) -> Result<u64, OutOfMemory>;
}

/// Such a workload.
pub(super) trait Steady: Sync {
    type Thread<'s>: Operations;

    fn settings(&self) -> &Settings;

    /// Fills the structure of thread `id`, and tells which part of it is done.
    fn fill<'s>(&self, m: &mut Mutator<'s>, id: u64, progress: &dyn Fn(f64)) -> Result<Self::Thread<'s>, OutOfMemory>;
}

/// One thread's part of the result.
struct Part {
    ops: u64,
    sum: u64,
    track: Track,
}

fn thread_body<W: Steady>(of: &W, bench: &Bench<'_>, barrier: &Barrier, id: u64) -> Result<Part, Failure> {
    let _attends = bench.attend();
    let mut meetings = Meetings::new(barrier, 3);
    let Settings { warm_up_seconds, seconds, .. } = *of.settings();
    let [warm_up, measured] = [warm_up_seconds, seconds].map(Duration::from_secs_f64);
    let result = bench.heap.enter(|m| -> Result<Part, OutOfMemory> {
        let mut track = bench.track();
        let tells = |done| {
            if id == 0 {
                bench.progress(done);
            }
        };
        let mut thread = of.fill(m, id, &tells)?;
        meetings.meet(m);
        bench.warming_up();
        let warm = Instant::now() + warm_up;
        while Instant::now() < warm {
            thread.op(m)?;
        }
        meetings.meet(m);
        if id == 0 {
            m.blocking(|| bench.begin());
        }
        meetings.meet(m);
        bench.start(&mut track, m);
        track.last_for(measured);
        let mut ops = 0;
        while track.admit(m) {
            thread.op(m)?;
            track.end(Series::Operation);
            ops += 1;
        }
        track.finish();
        Ok(Part { ops, sum: thread.checksum(m)?, track })
    });
    result.map_err(from_enter)?.map_err(from_memory)
}

/// Runs it.
pub(super) fn run<W: Steady>(of: &W, bench: &Bench<'_>) -> Result<Measured, Failure> {
    let threads = of.settings().threads;
    let barrier = &Barrier::new(threads as usize);
    let parts: Vec<Result<Part, Failure>> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|id| scope.spawn(move || thread_body(of, bench, barrier, id))).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut measured = Measured::new(0, 0, Vec::new());
    for part in parts {
        let part = part?;
        measured.ops += part.ops;
        measured.checksum = measured.checksum.wrapping_add(part.sum as i64);
        measured.tracks.push(part.track);
    }
    bench.end();
    Ok(measured)
}
