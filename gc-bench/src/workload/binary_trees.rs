//! Binary trees: built bottom-up, counted, dropped; each thread takes its share of every depth.

use std::thread;

use clap::Args;
use gc_heap::{AllocSize, EnterError, Gc, Local, Mutator, OutOfMemory, Slot, Trace};
use serde::{Deserialize, Serialize};

use super::common::{MIB, Standard, Workload, alone, check_size, pick, with_threads};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::size::parse_count;
use crate::track::{Series, Track};

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BinaryTrees {
    /// Depth of the kept tree.
    pub(super) size: u64,
    /// Depth at which it warms up.
    pub(super) warm_up: u64,
    pub(super) threads: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// depth of the kept tree [default: 20]
    #[arg(long, value_name = "DEPTH", value_parser = parse_count)]
    size: Option<u64>,

    /// mutator threads [default: once 1 and once 2]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    threads: Option<u64>,
}

impl Standard for BinaryTrees {
    const NAME: &'static str = "binary-trees";
    const ABOUT: &'static str = "Trees of all depths, built and counted, in one and two threads";
    type Args = Options;

    fn works(args: Options, quick: bool) -> Result<Vec<Self>, Failure> {
        let size = check_size(Self::NAME, args.size.unwrap_or(pick(quick, 20, 18)), 5..=32)?;
        // The peers warm up three levels lower; below depth 4 there is nothing to build.
        let warm_up = (size - 3).max(u64::from(MIN_DEPTH));
        let threads = args.threads.map_or(vec![1, 2], |threads| vec![threads]);
        Ok(threads.into_iter().map(|threads| Self { size, warm_up, threads }).collect())
    }
}

impl Workload for BinaryTrees {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn heap_bytes(&self, quick: bool) -> u64 {
        pick(quick, 512, 128) * MIB
    }

    fn min_live_bytes(&self) -> u64 {
        let tree = |depth: u64| (2u64 << depth.min(40)).saturating_mul(NODE_BYTES);
        // The stretch tree; or the kept one beside the threads' deepest.
        tree(self.size + 1).max(tree(self.size).saturating_mul(1 + self.threads))
    }

    fn threads(&self) -> u64 {
        self.threads
    }

    fn label(&self) -> String {
        with_threads(Self::NAME, self.threads)
    }

    /// Each depth is another work.
    fn is_steady(&self) -> bool {
        false
    }

    /// Every node that is counted.
    fn expected_checksum(&self) -> Option<i64> {
        let (depth, threads) = (self.size as u32, self.threads);
        let tree = |depth: u32| (2i64 << depth) - 1;
        let each_depth = (MIN_DEPTH..=depth).step_by(2).map(|d| {
            let trees = (1u64 << (depth - d + MIN_DEPTH)) / threads * threads;
            trees as i64 * tree(d)
        });
        Some(tree(depth + 1) + tree(depth) + each_depth.sum::<i64>())
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure> {
        alone(bench, |m| run(self, bench, m))
    }
}

pub(super) const MIN_DEPTH: u32 = 4;
/// Trees up to this depth are built within one reservation; also what a latency sample is taken of.
pub(super) const UNIT: u32 = 4;

#[derive(Trace)]
struct Tree {
    left: Slot<Option<Tree>>,
    right: Slot<Option<Tree>>,
}

const NODE: AllocSize = AllocSize::of::<Tree>();
/// A node with its header.
const NODE_BYTES: u64 = 24;

/// Within the room reserved.
fn small<'g>(m: &'g Mutator<'_>, depth: u32) -> Gc<'g, Tree> {
    if depth == 0 {
        return m.place(TreeInit { left: None, right: None });
    }
    let (left, right) = (small(m, depth - 1), small(m, depth - 1));
    m.place(TreeInit { left: Some(left), right: Some(right) })
}

fn build<'s>(m: &mut Mutator<'s>, depth: u32, track: &mut Track) -> Result<Local<'s, Tree>, OutOfMemory> {
    m.scope_local(|m| {
        if depth <= UNIT {
            if depth == UNIT {
                track.begin(m, Series::Operation);
            }
            let m = m.reserve(const { NODE.times((2 << UNIT) - 1) })?;
            return Ok(small(m, depth));
        }
        let (left, right) = (build(m, depth - 1, track)?, build(m, depth - 1, track)?);
        let m = m.reserve(NODE)?;
        Ok(m.place(TreeInit { left: Some(left.get(m)), right: Some(right.get(m)) }))
    })
}

/// Trees up to this depth are counted without a safepoint: some microseconds. Also what a sample of
/// counting is taken of, so that none of them is long by its own work.
pub(super) const COUNTED_WHOLE: u32 = 9;

/// The nodes of a small tree. Children come in pairs.
fn count(m: &Mutator<'_>, tree: Gc<'_, Tree>) -> i64 {
    match (tree.left.get(m), tree.right.get(m)) {
        (Some(left), Some(right)) => 1 + count(m, left) + count(m, right),
        _ => 1,
    }
}

/// The nodes of a tree of this depth. A safepoint for each part of it, so that no pause waits for a
/// whole tree.
fn check(m: &mut Mutator<'_>, depth: u32, tree: Local<'_, Tree>, track: &mut Track) -> i64 {
    if depth <= COUNTED_WHOLE {
        track.begin(m, Series::Other);
        m.safepoint();
        return count(m, tree.get(m));
    }
    let m = &mut *m.frame();
    let node = tree.get(m);
    let (Some(left), Some(right)) = (node.left.get(m), node.right.get(m)) else { return 1 };
    let (left, right) = (m.local(left), m.local(right));
    1 + check(m, depth - 1, left, track) + check(m, depth - 1, right, track)
}

/// A thread's share: of each second depth, so many trees that all depths allocate alike.
fn share(
    m: &mut Mutator<'_>,
    depth: u32,
    threads: u64,
    track: &mut Track,
    done: impl Fn(f64),
) -> Result<i64, OutOfMemory> {
    let mut sum = 0;
    for d in (MIN_DEPTH..=depth).step_by(2) {
        let trees = (1u64 << (depth - d + MIN_DEPTH)) / threads;
        for _ in 0..trees {
            let m = &mut *m.frame();
            let tree = build(m, d, track)?;
            sum += check(m, d, tree, track);
        }
        done(f64::from(d - MIN_DEPTH + 2) / f64::from(depth - MIN_DEPTH + 2));
    }
    Ok(sum)
}

/// Another thread's share, in the heap.
type Share = Result<Result<(i64, Track), OutOfMemory>, EnterError>;

fn run(of: &BinaryTrees, bench: &Bench<'_>, m: &mut Mutator<'_>) -> Result<Measured, OutOfMemory> {
    let (depth, threads, heap) = (of.size as u32, of.threads, bench.heap);
    let mut track = bench.track();
    let tracks: Vec<Track> = (1..threads).map(|_| bench.track()).collect();
    bench.warming_up();
    share(m, of.warm_up as u32, 1, &mut track, |done| bench.progress(done))?;
    bench.begin();
    bench.start(&mut track, m);
    let mut sum = {
        let m = &mut *m.frame();
        let stretch = build(m, depth + 1, &mut track)?;
        check(m, depth + 1, stretch, &mut track)
    };
    let kept = build(m, depth, &mut track)?;
    let (own, others) = thread::scope(|scope| {
        let other = |mut track: Track| -> Share {
            let _attends = bench.attend();
            heap.enter(|m| {
                bench.start(&mut track, m);
                let sum = share(m, depth, threads, &mut track, |_| {})?;
                track.finish();
                Ok((sum, track))
            })
        };
        let handles: Vec<_> = tracks.into_iter().map(|track| scope.spawn(move || other(track))).collect();
        let own = share(m, depth, threads, &mut track, |done| bench.progress(done));
        // Every thread is waited for here, and outside the heap: the end of the scope would wait
        // inside.
        let join = || handles.into_iter().map(|h| h.join()).collect::<Vec<_>>();
        (own, track.rest(m, join))
    });
    sum += own?;
    let mut tracks = Vec::new();
    for other in others {
        let share = other.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (other, track) = share.expect("a new thread is in no heap")?;
        sum += other;
        tracks.push(track);
    }
    sum += check(m, depth, kept, &mut track);
    track.finish();
    bench.end();
    tracks.insert(0, track);
    let ops = tracks.iter().map(|track| track.operations().count()).sum();
    Ok(Measured::new(ops, sum, tracks))
}
