//! GCBench, with trees that are freed when they were built.

use std::hint::black_box;

use super::worker::Worker;
use crate::measure::{ByHand, Measured};
use crate::track::Series;
use crate::workload::gcbench::{
    ARRAY_LEN, GcBench, LONG_LIVED_DEPTH, MAX_DEPTH, MIN_DEPTH, STRETCH_DEPTH, UNIT, tree_size,
};

/// Trees up to this depth are freed whole: 1023 nodes, as many as `binary-trees` counts at once.
const FREED_WHOLE: u32 = 9;

#[derive(Default)]
struct Node {
    left: Option<Box<Node>>,
    right: Option<Box<Node>>,
    i: i32,
    j: i32,
}

/// Top-down: makes the children of `parent`, then theirs.
fn populate(depth: u32, parent: &mut Node, worker: &mut Worker<'_>) {
    if depth == UNIT {
        worker.begin(Series::Operation);
    }
    if depth == 0 {
        return;
    }
    parent.j = depth as i32;
    let left = parent.left.insert(Box::default());
    let right = parent.right.insert(Box::default());
    populate(depth - 1, left, worker);
    populate(depth - 1, right, worker);
}

/// Bottom-up.
fn make(depth: u32, worker: &mut Worker<'_>) -> Box<Node> {
    if depth == UNIT {
        worker.begin(Series::Operation);
    }
    if depth == 0 {
        return Box::default();
    }
    let (left, right) = (make(depth - 1, worker), make(depth - 1, worker));
    Box::new(Node { left: Some(left), right: Some(right), i: 0, j: 0 })
}

/// Frees a tree of this depth, a sample for each part of it.
fn free(depth: u32, mut tree: Box<Node>, worker: &mut Worker<'_>) {
    if depth <= FREED_WHOLE {
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

fn round(worker: &mut Worker<'_>) {
    for depth in (MIN_DEPTH..=MAX_DEPTH).step_by(2) {
        let trees = 2 * tree_size(STRETCH_DEPTH) / tree_size(depth);
        for _ in 0..trees {
            let mut root = Box::<Node>::default();
            populate(depth, &mut root, worker);
            free(depth, black_box(root), worker);
        }
        for _ in 0..trees {
            let root = make(depth, worker);
            free(depth, black_box(root), worker);
        }
    }
}

fn count(tree: &Node) -> usize {
    1 + tree.left.as_deref().map_or(0, count) + tree.right.as_deref().map_or(0, count)
}

pub(super) fn run(of: &GcBench, bench: &ByHand) -> Measured {
    let mut worker = Worker::new(bench, 1);
    let stretch = make(STRETCH_DEPTH, &mut worker);
    free(STRETCH_DEPTH, black_box(stretch), &mut worker);
    let mut long_lived = Box::<Node>::default();
    populate(LONG_LIVED_DEPTH, &mut long_lived, &mut worker);
    let numbers = (0..ARRAY_LEN).map(|i| if i < ARRAY_LEN / 2 { 1.0 / (i + 1) as f64 } else { 0.0 });
    let array: Vec<f64> = black_box(numbers.collect());
    for _ in 0..of.warm_up {
        round(&mut worker);
    }
    bench.begin();
    worker.start();
    for _ in 0..of.size {
        round(&mut worker);
    }
    worker.track.finish();
    bench.end();
    let (long_lived, array) = (black_box(long_lived), black_box(array));
    assert!(array[1000] == 1.0 / 1001.0, "the long-lived array has changed");
    assert_eq!(count(&long_lived), tree_size(LONG_LIVED_DEPTH), "the long-lived tree has lost nodes");
    let checksum = long_lived.left.as_ref().map_or(0, |left| i64::from(left.j + left.i));
    Measured::new(of.size, checksum, vec![worker.into_track()])
}
