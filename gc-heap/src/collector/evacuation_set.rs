//! Planning: selection of the blocks to evacuate.

use crate::inner::HeapInner;
use crate::inner::pacing::ENOUGH_FREE;
use crate::space::blocks::BlockState;
use crate::space::{BLOCK_BYTES, Block};
use gc_core::forwarding::Forwarding;
use gc_core::zeroed::{NoMemory, boxed, push};
use std::sync::atomic::Ordering;

/// The goal of a relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EvacuationGoal {
    /// Free memory whose gain justifies the copying.
    Reclaim,
    /// Free as much as can be had while the program runs, at any cost but that of copying nearly
    /// full blocks: memory is to be given back.
    Pack,
    /// All memory that can be freed, at any cost: pack objects towards the start of the heap.
    Compact,
    /// As `Compact`, and full blocks move too, because adjacent free blocks are needed: those above
    /// the blocks that all small objects fill.
    MakeRun,
}

/// Blocks fuller than this (of 64 KiB) are not evacuated: copying them frees too little.
const FULLEST: u32 = (BLOCK_BYTES as u32 / 100) * 75;

/// As [`FULLEST`], where memory is to be given back.
const FULLEST_TO_PACK: u32 = (BLOCK_BYTES as u32 / 100) * 95;

/// Packing has to free this fraction of the blocks that it looks at.
const WORTH_PACKING: usize = 32;

/// Target at the end of a cycle: the free share of the memory that does not last, in percent.
const WANTED_FREE: usize = 85;

/// Minimum gain (fraction of the heap) that pays for healing every slot: a relocation makes every
/// slot stale, and the next marking heals each by a compare-and-swap (about twice its time).
const WORTH_GAINING: usize = 16;

/// `WORTH_GAINING` is ignored if less than this fraction of the heap is free.
const SHORT: usize = 8;

/// Memory that no relocation frees, from the end of marking on: what is live, and what lies behind
/// large objects, up to the ends of their blocks. Objects of 160,000 bytes fill three blocks to
/// four fifths.
pub(crate) fn lasting_bytes(inner: &HeapInner, live_bytes: u64) -> u64 {
    let blocks = &inner.memory.blocks;
    let behind = |block: Block| (blocks.live_bytes(block) as usize).next_multiple_of(BLOCK_BYTES);
    let large = blocks.all().filter(|&block| blocks.state(block) == BlockState::LargeFirst);
    live_bytes + large.map(|block| (behind(block) - blocks.live_bytes(block) as usize) as u64).sum::<u64>()
}

/// Bytes that live in blocks which a relocation may evacuate to gain memory.
pub(crate) fn movable_bytes(inner: &HeapInner) -> usize {
    let blocks = &inner.memory.blocks;
    let closed = blocks.all().filter(|&block| blocks.state(block) == BlockState::Closed && inner.collects(block));
    closed.map(|block| blocks.live_bytes(block)).filter(|&live| live <= FULLEST).map(|live| live as usize).sum()
}

/// Selects the evacuation set and installs its forwarding tables. The set is in the order of
/// evacuation.
pub(crate) fn plan(inner: &HeapInner, goal: EvacuationGoal, lasting_bytes: u64) -> Vec<Block> {
    let mut set = choose(inner, goal, lasting_bytes);
    // The set ends where there is no memory for its tables: what is behind stays where it is.
    let forwarded = set.iter().take_while(|&&block| inner.did_without(forward(inner, block)).is_some()).count();
    set.truncate(forwarded);
    // Drop blocks pinned since `choose`; a later pin sees its block in the set and aborts the plan.
    set.retain(|&block| {
        let pinned = inner.memory.blocks.is_pinned(block);
        if pinned {
            cancel_forwarding(inner, block);
        }
        !pinned
    });
    set
}

/// The plan of a relocation that moves no small objects.
pub(crate) fn plan_nothing(inner: &HeapInner) -> Vec<Block> {
    forget_aborted(inner);
    Vec::new()
}

/// Clears the abort flag of the previous plan.
fn forget_aborted(inner: &HeapInner) {
    inner.world.plan_aborted.store(false, Ordering::SeqCst);
}

/// Selects the evacuation set, in the order of evacuation.
pub(crate) fn choose(inner: &HeapInner, goal: EvacuationGoal, lasting_bytes: u64) -> Vec<Block> {
    let blocks = &inner.memory.blocks;
    forget_aborted(inner);
    let mut pinned = 0;
    let candidates = blocks
        .all()
        .filter(|&block| blocks.state(block) == BlockState::Closed && inner.collects(block))
        .filter(|&block| blocks.live_bytes(block) != 0)
        .filter(|&block| {
            let is_pinned = blocks.is_pinned(block);
            pinned += u64::from(is_pinned);
            !is_pinned
        });
    let mut set = Vec::new();
    for block in candidates {
        if inner.did_without(push(&mut set, block)).is_none() {
            break;
        }
    }
    inner.report.counters.pinned_blocks.set(pinned);
    match goal {
        EvacuationGoal::Compact => set.retain(|&block| blocks.live_bytes(block) < BLOCK_BYTES as u32),
        EvacuationGoal::MakeRun => {
            let end = packed_end(inner, &set);
            set.retain(|&block| block >= end || blocks.live_bytes(block) < BLOCK_BYTES as u32);
        }
        // As much as there is memory for: otherwise nothing would move before the heap is nearly
        // full.
        EvacuationGoal::Reclaim if inner.config.stress.is_on() => {
            let mut room = inner.memory.free.free() / 2 * BLOCK_BYTES;
            let first = inner.world.phase.epoch() as usize % set.len().max(1);
            set.rotate_left(first);
            set.retain(|&block| {
                let live = blocks.live_bytes(block) as usize;
                let fits = live <= room;
                room -= if fits { live } else { 0 };
                fits
            });
        }
        EvacuationGoal::Pack => {
            let all = set.len();
            set.retain(|&block| blocks.live_bytes(block) <= FULLEST_TO_PACK);
            set.sort_unstable_by_key(|&block| blocks.live_bytes(block));
            let live: usize = set.iter().map(|&block| blocks.live_bytes(block) as usize).sum();
            let gain = set.len().saturating_sub(live.div_ceil(BLOCK_BYTES) + inner.config.workers);
            if gain <= all / WORTH_PACKING {
                return Vec::new();
            }
        }
        EvacuationGoal::Reclaim => {
            // What lies beyond the goal of the soft maximum is neither free nor to be gained. Where
            // more than the goal is in use, less than nothing is free, and the set makes up for it.
            let beyond = inner.schedule.soft_max.beyond((lasting_bytes as usize).div_ceil(BLOCK_BYTES)) * BLOCK_BYTES;
            let heap = inner.config.max_bytes - beyond;
            let gainable = heap.saturating_sub(lasting_bytes as usize);
            let share = |percent: usize| (gainable / 100 * percent) as isize;
            let mut free = (inner.memory.free.free() * BLOCK_BYTES) as isize - beyond as isize;
            if free >= share(ENOUGH_FREE) {
                return Vec::new();
            }
            set.retain(|&block| blocks.live_bytes(block) <= FULLEST);
            set.sort_unstable_by_key(|&block| blocks.live_bytes(block));
            let free_before = free;
            let mut count = 0;
            for &block in &set {
                if free >= share(WANTED_FREE) {
                    break;
                }
                free += (BLOCK_BYTES - blocks.live_bytes(block) as usize) as isize;
                count += 1;
            }
            set.truncate(count);
            let part = |fraction: usize| (heap / fraction) as isize;
            if free - free_before < part(WORTH_GAINING) && free_before >= part(SHORT) {
                return Vec::new();
            }
        }
    }
    set
}

/// The end of the lowest blocks that hold the objects of a set when they are packed. Full blocks
/// below need not move.
fn packed_end(inner: &HeapInner, set: &[Block]) -> Block {
    let blocks = &inner.memory.blocks;
    let live = set.iter().map(|&block| blocks.live_bytes(block) as usize).sum::<usize>();
    // Each thread that copies may leave its last block unfilled.
    let needed = live.div_ceil(BLOCK_BYTES) + inner.config.workers;
    let is_there = |&block: &Block| blocks.state(block) == BlockState::Free || set.binary_search(&block).is_ok();
    blocks.all().filter(is_there).nth(needed).unwrap_or(Block::new(blocks.len()))
}

impl EvacuationGoal {
    /// Whether it is that of a compaction in a pause, which threads that wait for memory ask for.
    pub(super) fn is_compaction(self) -> bool {
        matches!(self, EvacuationGoal::Compact | EvacuationGoal::MakeRun)
    }
}

impl HeapInner {
    /// A result for which the collector can do without memory that it was refused: then it says so
    /// in [`Refusals`](crate::Refusals).
    pub(super) fn did_without<T>(&self, result: Result<T, NoMemory>) -> Option<T> {
        result.map_err(|no| self.report.refusals.note(no.into())).ok()
    }
}

/// Moves a block's mark bits into its forwarding table. Where there is no memory for that, nothing
/// changes.
pub(crate) fn forward(inner: &HeapInner, block: Block) -> Result<(), NoMemory> {
    let first = block.mark_words().start;
    let bits = std::array::from_fn(|index| inner.memory.marks.load(first + index));
    inner.planned_forwarding(block).insert(block, boxed(Forwarding::new(bits)?)?);
    inner.memory.clear_marks(block);
    Ok(())
}

/// Undoes [`forward`]: the block is again as after marking.
pub(crate) fn cancel_forwarding(inner: &HeapInner, block: Block) {
    let table = inner.planned_forwarding(block);
    let forwarding = table.of_block(block).expect("forwarded before");
    for (word, bits) in block.mark_words().zip(forwarding.bits()) {
        inner.memory.marks.store_words(word..word + 1, bits);
    }
    table.clear(block);
}
