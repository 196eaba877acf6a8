//! Whether a pause grows: cycle follows cycle beside a thread that churns, at a given size of live
//! data and number of roots.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use gc_heap::{AllocSize, Local, Mutator, OutOfMemory, Root, RootStack, Slot, SlotArray, Trace};
use serde::{Deserialize, Serialize};

use super::common::{MIB, Workload, from_enter, from_memory, pick};
use crate::failure::Failure;
use crate::measure::{Bench, Measured};
use crate::rng::{PEER_SEED, Rng};
use crate::size::{bytes, grouped, parse_count};
use crate::track::{Series, Track};

/// Bytes of a live block, its header and fields included.
const BLOCK_BYTES: u64 = 2048;

/// The settings: a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PauseScaling {
    /// Live data beside the churn.
    pub(crate) live_bytes: u64,
    /// Root slots.
    pub(crate) roots: u64,
    /// Collections to measure.
    cycles: u64,
    seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ScalingOptions {
    /// Collections measured at each point
    #[arg(long, value_name = "N", value_parser = parse_count)]
    cycles: Option<u64>,
}

impl PauseScaling {
    const NAME: &'static str = "pause-scaling";

    /// The points: sizes of live data at 10 roots, and numbers of roots at 64 MiB.
    pub(crate) fn points(args: &ScalingOptions, quick: bool) -> impl Iterator<Item = Self> + use<> {
        let live: &[u64] = pick(quick, &[16, 64, 256, 1024, 4096], &[16, 64, 256]);
        let roots: &[u64] = pick(quick, &[1_000, 100_000, 1_000_000], &[1_000, 100_000]);
        let cycles = args.cycles.unwrap_or(pick(quick, 60, 10));
        // The smallest number of roots belongs to the row of live sizes, so that each point is run
        // once.
        let points = live.iter().map(|&mib| (mib * MIB, 10)).chain(roots.iter().map(|&n| (64 * MIB, n)));
        points.map(move |(live_bytes, roots)| Self { live_bytes, roots, cycles, seed: PEER_SEED })
    }
}

impl Workload for PauseScaling {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn heap_bytes(&self, _quick: bool) -> u64 {
        // Room for what is allocated while a cycle runs: without it, stalls would be measured and
        // not pauses.
        self.live_bytes + self.live_bytes / 2 + 256 * MIB
    }

    fn min_live_bytes(&self) -> u64 {
        self.live_bytes
    }

    fn label(&self) -> String {
        format!("{} live, {} roots", bytes(self.live_bytes), grouped(self.roots))
    }

    fn has_peers(&self) -> bool {
        false
    }

    fn run(&self, bench: &Bench<'_>) -> Result<Measured, Failure> {
        run(self, bench)
    }
}

/// A small object of its own for each block and each root, so that marking follows references and
/// does not only set bits.
#[derive(Trace)]
struct Tag {
    number: u64,
}

/// A piece of the live data.
#[derive(Trace)]
#[trace(tail = u8)]
struct Block {
    tag: Slot<Tag>,
    number: u64,
}

/// Header, length, two fields; with its tag (16 bytes) and its slot in the table a block is
/// [`BLOCK_BYTES`].
const TAIL_BYTES: usize = BLOCK_BYTES as usize - 32 - 16 - 8;

type Table = SlotArray<Option<Block>>;

/// Live blocks that each operation reads besides the one it replaces.
const READS: usize = 8;
/// Collections before the measured ones.
const WARM_UP: u64 = 3;
/// Between two collections, so that each finds garbage to free and holes to fill.
const GAP: Duration = Duration::from_millis(10);

struct Churn<'s> {
    table: Local<'s, Table>,
    blocks: usize,
    /// Half of the roots are slots of a stack, as an interpreter's are, half process-wide ones.
    stack: RootStack<Tag>,
    roots: Vec<Root<Tag>>,
    rng: Rng,
}

impl<'s> Churn<'s> {
    fn new(of: &PauseScaling, bench: &Bench<'_>, m: &mut Mutator<'s>) -> Result<Self, OutOfMemory> {
        let PauseScaling { live_bytes, roots, seed, .. } = *of;
        let blocks = (live_bytes / BLOCK_BYTES) as usize;
        let on_stack = roots as usize / 2;
        let stack = RootStack::with_capacity(bench.heap, on_stack.max(1))?;
        let table = {
            let m = m.reserve(AllocSize::tail::<Table>(blocks))?;
            m.local(m.place_array::<Table>((), blocks, None))
        };
        let mut churn = Self { table, blocks, stack, roots: Vec::new(), rng: Rng::new(seed, 0) };
        for i in 0..blocks {
            churn.replace(m, i)?;
            if i & 0xfff == 0 {
                bench.progress(i as f64 / blocks as f64);
            }
        }
        for number in 0..roots {
            let m = m.reserve(const { AllocSize::of::<Tag>() })?;
            let tag = m.place(TagInit { number });
            if churn.stack.len() < on_stack {
                churn.stack.push(m, tag);
            } else {
                churn.roots.push(Root::new(m, tag));
            }
        }
        Ok(churn)
    }

    /// A fresh block with a fresh tag in the place of block `i`, which dies.
    fn replace(&mut self, m: &mut Mutator<'_>, i: usize) -> Result<(), OutOfMemory> {
        let m = m.reserve(const { AllocSize::tail::<Block>(TAIL_BYTES).and(AllocSize::of::<Tag>()) })?;
        let number = i as u64;
        let tag = m.place(TagInit { number });
        let block = m.place_array::<Block>(BlockInit { tag, number }, TAIL_BYTES, i as u8);
        self.table.get(m).tail()[i].set(m, Some(block));
        Ok(())
    }

    /// Replaces one block and one root, and reads a few blocks and a root; each must be what was
    /// put there.
    fn op(&mut self, m: &mut Mutator<'_>) -> Result<(), OutOfMemory> {
        let at = self.pick(self.blocks);
        self.replace(m, at)?;
        let root = self.pick(self.stack.len() + self.roots.len());
        self.renew_root(m.reserve(const { AllocSize::of::<Tag>() })?, root);
        for _ in 0..READS {
            let at = self.pick(self.blocks);
            assert!(self.is_intact(m, at), "live block {at} is not what was put there");
        }
        Ok(())
    }

    fn pick(&mut self, below: usize) -> usize {
        (self.rng.next() >> 8) as usize % below
    }

    fn renew_root(&self, m: &Mutator<'_>, at: usize) {
        let on_stack = self.stack.len();
        let old = if at < on_stack { self.stack.get(m, at) } else { self.roots[at - on_stack].get(m) };
        assert_eq!(old.number, at as u64, "a root does not hold what was put there");
        let new = m.place(TagInit { number: at as u64 });
        if at < on_stack {
            self.stack.set(m, at, new);
        } else {
            self.roots[at - on_stack].set(m, new);
        }
    }

    fn is_intact(&self, m: &Mutator<'_>, at: usize) -> bool {
        self.table.get(m).tail()[at].get(m).is_some_and(|block| {
            let number = at as u64;
            block.number == number && block.tag.get(m).number == number && block.tail()[TAIL_BYTES - 1] == at as u8
        })
    }

    /// How many of the live blocks are what was put there.
    fn intact(&self, m: &mut Mutator<'_>) -> i64 {
        let mut intact = 0;
        for at in 0..self.blocks {
            intact += i64::from(self.is_intact(m, at));
            if at & 0xff == 0 {
                m.safepoint();
            }
        }
        intact
    }
}

/// What the thread that collects tells the one that churns.
#[derive(Default)]
struct Flags {
    measured: AtomicBool,
    stop: AtomicBool,
}

/// The churning thread's side.
fn churning(
    of: &PauseScaling,
    bench: &Bench<'_>,
    ready: &mpsc::Sender<()>,
    done: mpsc::Sender<()>,
    flags: &Flags,
) -> Result<(u64, i64, Track), Failure> {
    let _attends = bench.attend();
    let outcome = bench.heap.enter(|m| -> Result<_, OutOfMemory> {
        let mut churn = Churn::new(of, bench, m)?;
        let mut track = bench.track();
        // Who waits for it may be gone if the other side failed; then `stop` is set.
        let _ = ready.send(());
        let (mut ops, mut measured) = (0, false);
        while !flags.stop.load(Ordering::Relaxed) {
            if !measured && flags.measured.load(Ordering::Relaxed) {
                measured = true;
                ops = 0;
                bench.start(&mut track, m);
            }
            track.admit(m);
            churn.op(m)?;
            track.end(Series::Operation);
            ops += 1;
        }
        track.finish();
        // The measured part ends before the blocks are looked through.
        drop(done);
        Ok((ops, churn.intact(m), track))
    });
    outcome.map_err(from_enter)?.map_err(from_memory)
}

fn run(of: &PauseScaling, bench: &Bench<'_>) -> Result<Measured, Failure> {
    let cycles = of.cycles;
    let (ready, is_ready) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let flags = Flags::default();
    let (ops, intact, track) = thread::scope(|scope| {
        let flags = &flags;
        let churner = scope.spawn(move || churning(of, bench, &ready, done, flags));
        // An error means that the thread has failed: its result says how.
        if is_ready.recv().is_ok() {
            bench.warming_up();
            (0..WARM_UP).for_each(|_| bench.heap.collect());
            bench.begin();
            flags.measured.store(true, Ordering::Relaxed);
            // The churn may begin cycles of its own; they count as well.
            let (before, mut cycles_done) = (bench.heap.stats().cycles, 0);
            while cycles_done < cycles && !churner.is_finished() {
                thread::sleep(GAP);
                bench.heap.collect();
                cycles_done = bench.heap.stats().cycles - before;
                bench.progress(cycles_done as f64 / cycles as f64);
            }
            flags.stop.store(true, Ordering::Relaxed);
            // Nothing is sent: the thread lets go of its end when it stops, or fails.
            let _: Result<(), _> = is_done.recv();
            bench.end();
        }
        flags.stop.store(true, Ordering::Relaxed);
        churner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let blocks = (of.live_bytes / BLOCK_BYTES) as i64;
    if intact != blocks {
        return Err(Failure::run(format!("only {intact} of {blocks} live blocks are what was put there")));
    }
    Ok(Measured::new(ops, intact, vec![track]))
}
