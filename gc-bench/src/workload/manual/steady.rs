//! Threads that fill a structure of their own, and then do operations on it for a set time.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::worker::Worker;
use crate::measure::{ByHand, Measured};
use crate::track::{Series, Track};
use crate::workload::steady::Settings;

/// What one thread has, and does over and over.
pub(super) trait Operations {
    /// The next operation.
    fn op(&mut self);

    /// Of what was read.
    fn checksum(&self) -> u64;
}

/// One thread's part of the result.
struct Part {
    ops: u64,
    sum: u64,
    track: Track,
}

fn body<O: Operations>(of: &Settings, bench: &ByHand, barrier: &Barrier, id: u64, fill: impl FnOnce(u64) -> O) -> Part {
    let [warm_up, measured] = [of.warm_up_seconds, of.seconds].map(Duration::from_secs_f64);
    let mut worker = Worker::new(bench, id + 1);
    let mut own = fill(id);
    barrier.wait();
    let warm = Instant::now() + warm_up;
    while Instant::now() < warm {
        own.op();
    }
    barrier.wait();
    if id == 0 {
        bench.begin();
    }
    barrier.wait();
    worker.start();
    worker.track.last_for(measured);
    let mut ops = 0;
    while worker.admit() {
        own.op();
        worker.track.end(Series::Operation);
        ops += 1;
    }
    let track = worker.into_track();
    barrier.wait();
    if id == 0 {
        bench.end();
    }
    // What is freed from here on is not measured.
    barrier.wait();
    Part { ops, sum: own.checksum(), track }
}

/// Runs it; `fill` makes the structure of a thread.
pub(super) fn run<O: Operations>(of: &Settings, bench: &ByHand, fill: impl Fn(u64) -> O + Sync) -> Measured {
    let (barrier, fill) = (&Barrier::new(of.threads as usize), &fill);
    let parts: Vec<Part> = thread::scope(|scope| {
        let handles: Vec<_> =
            (0..of.threads).map(|id| scope.spawn(move || body(of, bench, barrier, id, fill))).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut measured = Measured::new(0, 0, Vec::new());
    for part in parts {
        measured.ops += part.ops;
        measured.checksum = measured.checksum.wrapping_add(part.sum as i64);
        measured.tracks.push(part.track);
    }
    measured
}
