//! Binary trees, each freed when it was counted.

use std::thread;

use super::worker::Worker;
use crate::measure::{ByHand, Measured};
use crate::track::{Series, Track};
use crate::workload::binary_trees::{BinaryTrees, COUNTED_WHOLE, MIN_DEPTH, UNIT};

struct Tree {
    left: Option<Box<Tree>>,
    right: Option<Box<Tree>>,
}

fn build(depth: u32, worker: &mut Worker<'_>) -> Box<Tree> {
    if depth == UNIT {
        worker.begin(Series::Operation);
    }
    if depth == 0 {
        return Box::new(Tree { left: None, right: None });
    }
    let (left, right) = (build(depth - 1, worker), build(depth - 1, worker));
    Box::new(Tree { left: Some(left), right: Some(right) })
}

/// The nodes of a small tree. Children come in pairs.
fn count(tree: &Tree) -> i64 {
    match (&tree.left, &tree.right) {
        (Some(left), Some(right)) => 1 + count(left) + count(right),
        _ => 1,
    }
}

/// The nodes of a tree of this depth, a sample for each part of it.
fn check(depth: u32, tree: &Tree, worker: &mut Worker<'_>) -> i64 {
    if depth <= COUNTED_WHOLE {
        worker.begin(Series::Other);
        return count(tree);
    }
    let (Some(left), Some(right)) = (&tree.left, &tree.right) else { return 1 };
    1 + check(depth - 1, left, worker) + check(depth - 1, right, worker)
}

/// Frees a tree of this depth, a sample for each part of it.
fn free(depth: u32, mut tree: Box<Tree>, worker: &mut Worker<'_>) {
    if depth <= COUNTED_WHOLE {
        worker.begin_to_free();
        drop(tree);
        return;
    }
    let children = [tree.left.take(), tree.right.take()];
    drop(tree);
    for child in children.into_iter().flatten() {
        free(depth - 1, child, worker);
    }
}

/// Builds a tree of this depth, counts it, and frees it.
fn counted(depth: u32, worker: &mut Worker<'_>) -> i64 {
    let tree = build(depth, worker);
    let nodes = check(depth, &tree, worker);
    free(depth, tree, worker);
    nodes
}

/// A thread's share: of each second depth, so many trees that all depths allocate alike.
fn share(depth: u32, threads: u64, worker: &mut Worker<'_>) -> i64 {
    let mut sum = 0;
    for d in (MIN_DEPTH..=depth).step_by(2) {
        let trees = (1u64 << (depth - d + MIN_DEPTH)) / threads;
        for _ in 0..trees {
            sum += counted(d, worker);
        }
    }
    sum
}

pub(super) fn run(of: &BinaryTrees, bench: &ByHand) -> Measured {
    let (depth, threads) = (of.size as u32, of.threads);
    let mut worker = Worker::new(bench, 1);
    let tracks: Vec<Track> = (1..threads).map(|_| bench.track()).collect();
    share(of.warm_up as u32, 1, &mut worker);
    bench.begin();
    worker.start();
    let mut sum = counted(depth + 1, &mut worker);
    let kept = build(depth, &mut worker);
    let others = thread::scope(|scope| {
        let other = |number: u64, track: Track| {
            let mut worker = Worker::with(bench, number, track);
            worker.start();
            let sum = share(depth, threads, &mut worker);
            (sum, worker.into_track())
        };
        let handles: Vec<_> =
            (2..).zip(tracks).map(|(number, track)| scope.spawn(move || other(number, track))).collect();
        sum += share(depth, threads, &mut worker);
        worker.rest(|| handles.into_iter().map(|handle| handle.join()).collect::<Vec<_>>())
    });
    let mut tracks = Vec::new();
    for other in others {
        let (other, track) = other.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sum += other;
        tracks.push(track);
    }
    sum += check(depth, &kept, &mut worker);
    worker.track.finish();
    bench.end();
    tracks.insert(0, worker.into_track());
    let ops = tracks.iter().map(|track| track.operations().count()).sum();
    Measured::new(ops, sum, tracks)
}
