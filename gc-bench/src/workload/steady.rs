//! Workloads whose threads fill a structure of their own, and then do operations on it for a set
//! time.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use gc_heap::{Mutator, OutOfMemory};

use super::common::{Meetings, from_enter, from_memory};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::track::{Series, Track};

/// What one thread has, and does over and over.
pub(super) trait Operations {
    /// The next operation.
    fn op(&mut self, m: &mut Mutator<'_>) -> Result<(), OutOfMemory>;

    /// Of what was read.
    fn checksum(&self) -> u64;
}

/// Such a workload.
pub(super) trait Steady: Sync {
    type Thread<'s>: Operations;

    fn threads(&self) -> u64;

    /// How long the threads work before the measured part, and in it.
    fn warm_up_and_measured(&self) -> [f64; 2];

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
    let [warm_up, measured] = of.warm_up_and_measured().map(Duration::from_secs_f64);
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
        Ok(Part { ops, sum: thread.checksum(), track })
    });
    result.map_err(from_enter)?.map_err(from_memory)
}

/// Runs it.
pub(super) fn run<W: Steady>(of: &W, bench: &Bench<'_>) -> Result<Measured, Failure> {
    let barrier = &Barrier::new(of.threads() as usize);
    let parts: Vec<Result<Part, Failure>> = thread::scope(|scope| {
        let handles: Vec<_> =
            (0..of.threads()).map(|id| scope.spawn(move || thread_body(of, bench, barrier, id))).collect();
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
