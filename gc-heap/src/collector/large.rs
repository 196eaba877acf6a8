//! Moves large objects, so that free blocks that lie between them become adjacent.
//!
//! Only in a pause, and only where a thread waits for a run of blocks and no run of free ones is
//! long enough: an ordinary cycle never copies a large object. The collector alone copies, so a
//! mutator finds each forwarding entry of a large object published. See `docs/protocol.md`, "Large
//! objects move in pauses only".

use super::evacuation_set::{cancel_forwarding, forward};
use super::pauses::{Pauses, Stopped};
use super::run_plan::{Batch, Content, Move, Stretch, free_blocks, plan};
use crate::inner::HeapInner;
use crate::space::blocks::BlockState;
use crate::space::{Block, BlockGranule, GRANULE_BYTES, Offset};
use gc_core::zeroed::{NoMemory, push, with_room_for_one};
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
    planned(inner).is_some_and(|batches| !batches.is_empty())
}

/// Makes the run that a thread waits for, and others like it. Adds the blocks that now have a
/// forwarding table to `forwarded`.
pub(super) fn make_runs(stopped: Stopped<'_>, forwarded: &mut Vec<Block>) {
    let inner = stopped.inner();
    let most = inner.memory.max_blocks() / PER_PAUSE;
    let mut copied = 0;
    for _ in 0..PLANS {
        let Some(batches) = planned(inner) else { return };
        let before = copied;
        for batch in batches {
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

/// The moves that make runs, if one is to be made. None where there is no memory for the plan.
fn planned(inner: &HeapInner) -> Option<Vec<Batch>> {
    let awaited = inner.memory.free.awaited_run();
    if awaited.is_none() && !inner.config.stress.is_on() {
        return None;
    }
    let map = inner.did_without(map(inner))?;
    let wanted = match awaited {
        Some(run) => run,
        None => {
            let longest = map.iter().map(free_blocks).max()?;
            let more = map.iter().map(free_blocks).sum::<usize>() > longest;
            more.then_some(longest + 1)?
        }
    };
    inner.did_without(plan(&map, wanted))
}

/// The heap as stretches, in the order of their addresses.
fn map(inner: &HeapInner) -> Result<Vec<Stretch>, NoMemory> {
    let blocks = &inner.memory.blocks;
    let free = inner.memory.free.map()?;
    let mut map: Vec<Stretch> = Vec::new();
    let mut first = Block::new(0);
    while first.number() < blocks.len() {
        let is_large = blocks.state(first) == BlockState::LargeFirst;
        // Pinned by now: no thread that could pin an object runs.
        let moves = is_large
            && inner.collects(first)
            && inner.memory.marks.get(first.granule(BlockGranule::FIRST))
            && !blocks.is_pinned(first);
        let (len, content) = match free[first.number() / 64] >> (first.number() % 64) & 1 == 1 {
            true => (1, Content::Free),
            false if is_large => (blocks.run(first), if moves { Content::Object } else { Content::Fixed }),
            false => (1, Content::Fixed),
        };
        match map.last_mut() {
            Some(last) if content != Content::Object && last.is(content) => last.len += len,
            _ => push(&mut map, Stretch { first, len, content })?,
        }
        first += len;
    }
    Ok(map)
}

/// Carries moves out, all or none. `false`: another thread has taken one of the free blocks, or
/// there is no memory for the tables.
fn execute(inner: &HeapInner, batch: &Batch, forwarded: &mut Vec<Block>) -> bool {
    let before = forwarded.len();
    let prepared = batch.taken_and_given().and_then(|blocks| prepare(inner, batch, forwarded).map(|()| blocks));
    let prepared = inner.did_without(prepared).filter(|(taken, _)| inner.memory.free.take_these(taken));
    let Some((_, given)) = prepared else {
        forwarded.drain(before..).for_each(|block| cancel_forwarding(inner, block));
        return false;
    };
    let bytes: usize = batch.moves.iter().map(|one| move_object(inner, one)).sum();
    for &block in &given {
        inner.memory.blocks.set_live_bytes(block, 0);
        inner.memory.end_use(block);
    }
    inner.memory.free.free_blocks(given);
    inner.report.counters.large_bytes_moved.add(bytes as u64);
    inner.report.counters.large_objects_moved.add(batch.moves.len() as u64);
    true
}

/// Makes the forwarding tables of the objects of a batch, whose entries are empty: no mutator reads
/// one before the pause ends. Adds their blocks to `forwarded`.
fn prepare(inner: &HeapInner, batch: &Batch, forwarded: &mut Vec<Block>) -> Result<(), NoMemory> {
    for one in &batch.moves {
        with_room_for_one(forwarded)?;
        forward(inner, one.from)?;
        forwarded.push(one.from);
    }
    Ok(())
}

/// Copies an object, which may overlap its new place, and publishes that. Returns its size in
/// bytes. The blocks that it leaves keep their state: another object may move there.
fn move_object(inner: &HeapInner, &Move { from, to, len }: &Move) -> usize {
    let (memory, blocks) = (&inner.memory, &inner.memory.blocks);
    let (start, end) = (from.start(), to.start());
    let word = |offset: Offset| memory.word(offset).load(Ordering::Relaxed);
    // `prepare` has moved this object's mark to its table, and no object has moved there since: a
    // batch writes blocks that were free, or that an object has left.
    let (_, bytes) = inner.marked_object(start);
    // Before its blocks are used for another object, which may be old.
    let forwarding = inner.planned_forwarding(from).of_block(from);
    let copy = |at: usize| memory.word(end + at).store(word(start + at), Ordering::Relaxed);
    if to > from {
        (0..bytes).step_by(GRANULE_BYTES).rev().for_each(copy);
    } else {
        (0..bytes).step_by(GRANULE_BYTES).for_each(copy);
    }
    blocks.set_live_bytes(from, 0);
    blocks.set_live_bytes(to, 0);
    blocks.set_run(to, len);
    for block in to.run(len).rev() {
        let state = if block == to { BlockState::LargeFirst } else { BlockState::LargeContinued };
        memory.begin_target(block, state, inner.world.phase.epoch());
    }
    let entry = forwarding.and_then(|forwarding| forwarding.entry(BlockGranule::FIRST));
    entry.expect("a marked object begins the block").set(end.granule());
    bytes
}
