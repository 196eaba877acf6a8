//! Moves large objects, so that free blocks that lie between them become adjacent.
//!
//! Only in a pause, and only where a thread waits for a run of blocks and no run of free ones is
//! long enough: an ordinary cycle never copies a large object. The collector alone copies, so a
//! mutator finds each forwarding entry of a large object published. See `docs/protocol.md`, "Large
//! objects move in pauses only".

use super::evacuation_set::forward;
use super::pauses::{Pauses, Stopped};
use super::run_plan::{Batch, Content, Move, Stretch, free_blocks, plan};
use crate::inner::HeapInner;
use crate::space::blocks::BlockState;
use crate::space::{BLOCK_BYTES, BLOCK_GRANULES};
use std::sync::atomic::Ordering;

/// A thread that waits for one run will probably want others: while the world is stopped anyway,
/// further runs are made until this fraction of the heap has been copied.
const PER_PAUSE: usize = 16;

/// Maximum number of plans in a pause. A plan may fail in part: a stalled thread that checks its
/// place in the queue takes blocks in a pause too.
const PLANS: usize = 4;

/// Whether moving large objects would make a run that a thread waits for (or, in stress mode, any).
pub(super) fn can_make_runs(stopped: Stopped<'_>) -> bool {
    let inner = stopped.inner();
    wanted(inner).is_some_and(|(map, wanted)| !plan(&map, wanted).is_empty())
}

/// Makes the run that a thread waits for, and others like it. Adds the blocks that now have a
/// forwarding table to `forwarded`.
pub(super) fn make_runs(stopped: Stopped<'_>, forwarded: &mut Vec<usize>) {
    let inner = stopped.inner();
    let most = inner.memory.blocks.len() / PER_PAUSE;
    let mut copied = 0;
    for _ in 0..PLANS {
        let Some((map, wanted)) = wanted(inner) else { return };
        let before = copied;
        for batch in plan(&map, wanted) {
            if copied >= most && inner.memory.free.awaited_run().is_none() {
                return;
            }
            if execute(inner, &batch, forwarded) {
                copied += batch.cost();
            }
        }
        if copied == before {
            return;
        }
    }
}

/// The length of the run to make, if one is to be made, and the map of the heap.
fn wanted(inner: &HeapInner) -> Option<(Vec<Stretch>, usize)> {
    if let Some(run) = inner.memory.free.awaited_run() {
        return Some((map(inner), run));
    }
    if !inner.config.stress.is_on() {
        return None;
    }
    let map = map(inner);
    let longest = map.iter().map(free_blocks).max()?;
    let more = map.iter().map(free_blocks).sum::<usize>() > longest;
    more.then_some((map, longest + 1))
}

/// The heap as stretches, in the order of their addresses.
fn map(inner: &HeapInner) -> Vec<Stretch> {
    let blocks = &inner.memory.blocks;
    let free = inner.memory.free.map();
    let mut map: Vec<Stretch> = Vec::new();
    let mut first = 0;
    while first < blocks.len() {
        let is_large = blocks.state(first) == BlockState::LargeFirst;
        // Pinned by now: no thread that could pin an object runs.
        let moves = is_large
            && inner.collects(first)
            && inner.memory.marks.get(first * BLOCK_GRANULES)
            && !blocks.is_pinned(first);
        let (len, content) = match free[first / 64] >> (first % 64) & 1 == 1 {
            true => (1, Content::Free),
            false if is_large => (blocks.run(first), if moves { Content::Object } else { Content::Fixed }),
            false => (1, Content::Fixed),
        };
        match map.last_mut() {
            Some(last) if content != Content::Object && last.is(content) => last.len += len,
            _ => map.push(Stretch { first, len, content }),
        }
        first += len;
    }
    map
}

/// Carries moves out, all or none. `false`: another thread has taken one of the free blocks.
fn execute(inner: &HeapInner, batch: &Batch, forwarded: &mut Vec<usize>) -> bool {
    let (taken, given) = batch.taken_and_given();
    if !inner.memory.free.take_these(&taken) {
        return false;
    }
    let mut bytes = 0;
    for one in &batch.moves {
        bytes += move_object(inner, one);
        forwarded.push(one.from);
    }
    for &block in &given {
        inner.memory.blocks.set_live_bytes(block, 0);
        inner.memory.end_use(block);
    }
    inner.memory.free.free_blocks(given);
    inner.report.counters.large_bytes_moved.add(bytes as u64);
    inner.report.counters.large_objects_moved.add(batch.moves.len() as u64);
    true
}

/// Copies an object, which may overlap its new place, and publishes that. Returns its size in
/// bytes. The blocks that it leaves keep their state: another object may move there.
fn move_object(inner: &HeapInner, &Move { from, to, len }: &Move) -> usize {
    let (memory, blocks) = (&inner.memory, &inner.memory.blocks);
    let (start, end) = (from * BLOCK_BYTES, to * BLOCK_BYTES);
    let word = |offset: usize| memory.word(offset).load(Ordering::Relaxed);
    // `map` has found this object's mark, and no object has moved there since: a batch writes
    // blocks that were free, or that an object has left.
    let (_, bytes) = inner.marked_object(start);
    forward(inner, from);
    let copy = |at: usize| memory.word(end + at).store(word(start + at), Ordering::Relaxed);
    if to > from {
        (0..bytes).step_by(8).rev().for_each(copy);
    } else {
        (0..bytes).step_by(8).for_each(copy);
    }
    blocks.set_live_bytes(from, 0);
    blocks.set_live_bytes(to, 0);
    blocks.set_run(to, len);
    (to + 1..to + len).for_each(|block| blocks.set_run(block, block - to));
    for block in (to..to + len).rev() {
        let state = if block == to { BlockState::LargeFirst } else { BlockState::LargeContinued };
        memory.begin_use(block, state, inner.world.phase.epoch());
    }
    let entry = memory.forwarding.of_block(from).and_then(|forwarding| forwarding.entry(0));
    entry.expect("a marked object begins the block").set(end / 8);
    bytes
}
