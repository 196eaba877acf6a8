//! GCBench of Ellis, Kovac and Boehm: short-lived trees of many sizes beside a long-lived tree and
//! an array.

use clap::Args;
use gc_heap::{AllocSize, Array, Gc, Local, Mutator, Num, OutOfMemory, Slot, Trace};
use serde::{Deserialize, Serialize};

use super::common::{MIB, Standard, Workload, alone, check_size, pick};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::size::parse_count;
use crate::track::{Series, Track};

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GcBench {
    /// Rounds.
    pub(super) size: u64,
    /// Rounds of warm-up.
    pub(super) warm_up: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// rounds [default: 30]
    #[arg(long, value_name = "ROUNDS", value_parser = parse_count)]
    size: Option<u64>,
}

impl Standard for GcBench {
    const NAME: &'static str = "gcbench";
    const ABOUT: &'static str = "Short-lived trees beside long-lived ones, built top-down and bottom-up";
    type Args = Options;

    fn works(args: Options, quick: bool) -> Result<Vec<Self>, Failure> {
        let size = check_size(Self::NAME, args.size.unwrap_or(pick(quick, 30, 8)), 1..=1_000_000)?;
        Ok(vec![Self { size, warm_up: pick(quick, 3, 1) }])
    }
}

impl Workload for GcBench {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn heap_bytes(&self, quick: bool) -> u64 {
        pick(quick, 256, 128) * MIB
    }

    fn min_live_bytes(&self) -> u64 {
        let tree = |depth| tree_size(depth) as u64 * NODE_BYTES;
        // The stretch tree alone, then the long-lived one with the doubles.
        tree(STRETCH_DEPTH).max(tree(LONG_LIVED_DEPTH) + 8 * ARRAY_LEN as u64)
    }

    /// The depth noted in the left child of the long-lived tree.
    fn expected_checksum(&self) -> Option<i64> {
        Some(i64::from(LONG_LIVED_DEPTH) - 1)
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure> {
        alone(bench, |m| run(self, bench, m))
    }
}

pub(super) const STRETCH_DEPTH: u32 = 18;
pub(super) const LONG_LIVED_DEPTH: u32 = 16;
pub(super) const MIN_DEPTH: u32 = 4;
pub(super) const MAX_DEPTH: u32 = 16;
pub(super) const ARRAY_LEN: usize = 500_000;
/// Trees up to this depth are built within one reservation; also what a latency sample is taken of.
pub(super) const UNIT: u32 = 4;

#[derive(Trace)]
struct Node {
    left: Slot<Option<Node>>,
    right: Slot<Option<Node>>,
    i: Num<i32>,
    j: Num<i32>,
}

/// A node with its header.
const NODE_BYTES: u64 = 32;

/// Nodes of a tree of depth `d`.
pub(super) const fn tree_size(d: u32) -> usize {
    (2 << d) - 1
}

const NODE: AllocSize = AllocSize::of::<Node>();

const fn node<'g>(left: Option<Gc<'g, Node>>, right: Option<Gc<'g, Node>>) -> NodeInit<'g> {
    NodeInit { left, right, i: 0, j: 0 }
}

/// Top-down: makes the children of `parent`, then theirs.
fn populate<'g>(m: &'g Mutator<'_>, depth: u32, parent: Gc<'g, Node>) {
    if depth == 0 {
        return;
    }
    let (left, right) = (m.place(node(None, None)), m.place(node(None, None)));
    parent.left.set(m, Some(left));
    parent.right.set(m, Some(right));
    parent.j.set(depth as i32);
    populate(m, depth - 1, left);
    populate(m, depth - 1, right);
}

fn populate_deep(
    m: &mut Mutator<'_>,
    depth: u32,
    parent: Local<'_, Node>,
    track: &mut Track,
) -> Result<(), OutOfMemory> {
    if depth <= UNIT {
        if depth == UNIT {
            track.begin(m, Series::Operation);
        }
        let m = m.reserve(const { NODE.times(tree_size(UNIT) - 1) })?;
        populate(m, depth, parent.get(m));
        return Ok(());
    }
    let m = &mut *m.frame();
    let (left, right) = {
        let m = m.reserve(const { NODE.times(2) })?;
        let (left, right) = (m.place(node(None, None)), m.place(node(None, None)));
        let parent = parent.get(m);
        parent.left.set(m, Some(left));
        parent.right.set(m, Some(right));
        parent.j.set(depth as i32);
        (m.local(left), m.local(right))
    };
    populate_deep(m, depth - 1, left, track)?;
    populate_deep(m, depth - 1, right, track)
}

/// Bottom-up, within the room reserved.
fn make<'g>(m: &'g Mutator<'_>, depth: u32) -> Gc<'g, Node> {
    if depth == 0 {
        return m.place(node(None, None));
    }
    let (left, right) = (make(m, depth - 1), make(m, depth - 1));
    m.place(node(Some(left), Some(right)))
}

fn make_deep<'s>(m: &mut Mutator<'s>, depth: u32, track: &mut Track) -> Result<Local<'s, Node>, OutOfMemory> {
    m.scope_local(|m| {
        if depth <= UNIT {
            if depth == UNIT {
                track.begin(m, Series::Operation);
            }
            let m = m.reserve(const { NODE.times(tree_size(UNIT)) })?;
            return Ok(make(m, depth));
        }
        let (left, right) = (make_deep(m, depth - 1, track)?, make_deep(m, depth - 1, track)?);
        let m = m.reserve(NODE)?;
        Ok(m.place(node(Some(left.get(m)), Some(right.get(m)))))
    })
}

/// One round: trees of every second depth, as many as hold twice the stretch tree's nodes, in both
/// directions.
fn round(m: &mut Mutator<'_>, track: &mut Track) -> Result<(), OutOfMemory> {
    for depth in (MIN_DEPTH..=MAX_DEPTH).step_by(2) {
        let trees = 2 * tree_size(STRETCH_DEPTH) / tree_size(depth);
        for _ in 0..trees {
            let m = &mut *m.frame();
            let root = m.alloc::<Node>(|_| node(None, None))?;
            populate_deep(m, depth, root, track)?;
        }
        for _ in 0..trees {
            let m = &mut *m.frame();
            make_deep(m, depth, track)?;
        }
    }
    Ok(())
}

fn run(of: &GcBench, bench: &Bench<'_>, m: &mut Mutator<'_>) -> Result<Measured, OutOfMemory> {
    let (rounds, warm_up) = (of.size, of.warm_up);
    let mut track = bench.track();
    make_deep(&mut m.frame(), STRETCH_DEPTH, &mut track)?;
    let long_lived = m.alloc::<Node>(|_| node(None, None))?;
    populate_deep(m, LONG_LIVED_DEPTH, long_lived, &mut track)?;
    let array = {
        let m = m.reserve(AllocSize::tail::<Array<f64>>(ARRAY_LEN))?;
        let numbers = (0..ARRAY_LEN).map(|i| if i < ARRAY_LEN / 2 { 1.0 / (i + 1) as f64 } else { 0.0 });
        m.local(m.place_tail::<Array<f64>, _>((), numbers))
    };
    bench.warming_up();
    for i in 0..warm_up {
        round(m, &mut track)?;
        bench.progress((i + 1) as f64 / warm_up as f64);
    }
    bench.begin();
    bench.start(&mut track, m);
    for i in 0..rounds {
        round(m, &mut track)?;
        bench.progress((i + 1) as f64 / rounds as f64);
    }
    track.finish();
    bench.end();
    let m = &*m;
    assert!(array.get(m).tail()[1000] == 1.0 / 1001.0, "the long-lived array has changed");
    let tree = long_lived.get(m);
    assert_eq!(count(m, tree), tree_size(LONG_LIVED_DEPTH), "the long-lived tree has lost nodes");
    let checksum = tree.left.get(m).map_or(0, |left| i64::from(left.j.get() + left.i.get()));
    Ok(Measured::new(rounds, checksum, vec![track]))
}

/// Nodes that are really there.
fn count(m: &Mutator<'_>, tree: Gc<'_, Node>) -> usize {
    1 + tree.left.get(m).map_or(0, |t| count(m, t)) + tree.right.get(m).map_or(0, |t| count(m, t))
}
