//! The plan by which large objects move to make runs of free blocks: pure, on a map of the heap.
//!
//! Where a stretch without fixed blocks has enough free blocks, its objects slide towards its upper
//! end: that needs no other memory, because an object may overlap its own new place. Otherwise
//! (pinned objects divide the heap) a window of blocks is emptied into free runs elsewhere.
//!
//! The plan is made in a pause. It takes O(n log n) for n stretches, of which a heap has at most as
//! many as blocks: windows overlap, so none is walked but those whose objects move.

use crate::space::Block;
use gc_core::zeroed::{NoMemory, push, table, with_room};
use std::collections::BTreeSet;
use std::iter::repeat;
use std::ops::Range;

/// Maximum number of windows for which a place elsewhere is searched. Where windows are long,
/// fewer: together they have about as many stretches as the heap.
const WINDOWS: usize = 64;

/// What stands in a stretch of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Free,
    /// One large object that may move.
    Object,
    /// What stays: small objects, pinned or young ones, blocks that a thread has taken.
    Fixed,
}

/// Neighbouring blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) first: Block,
    pub(super) len: usize,
    pub(super) content: Content,
}

impl Stretch {
    fn end(&self) -> Block {
        self.first + self.len
    }

    pub(super) fn is(&self, content: Content) -> bool {
        self.content == content
    }
}

/// One object's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: Block,
    pub(super) to: Block,
    pub(super) len: usize,
}

/// Moves that together make one run, in their order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) moves: Vec<Move>,
}

impl Batch {
    /// Blocks to copy.
    pub(super) fn cost(&self) -> usize {
        self.moves.iter().map(|one| one.len).sum()
    }

    /// The free blocks that the objects move into, and the blocks that are free afterwards.
    pub(super) fn taken_and_given(&self) -> Result<(Vec<Block>, Vec<Block>), NoMemory> {
        let blocks = |start: fn(&Move) -> Block| {
            let mut blocks = with_room(self.cost())?;
            blocks.extend(self.moves.iter().flat_map(|one| start(one).run(one.len)));
            blocks.sort_unstable();
            Ok(blocks)
        };
        let (from, to) = (blocks(|one| one.from)?, blocks(|one| one.to)?);
        let difference = |of: &[Block], without: &[Block]| {
            let mut difference = with_room(of.len())?;
            difference.extend(of.iter().filter(|block| without.binary_search(block).is_err()));
            Ok(difference)
        };
        Ok((difference(&to, &from)?, difference(&from, &to)?))
    }
}

/// Neighbouring stretches that may become one run, as a range of the map.
struct Window {
    stretches: Range<usize>,
    /// Blocks to copy if all its objects move.
    cost: usize,
}

/// Moves that make runs of `wanted` blocks, the cheapest first. Each batch makes one, whatever
/// becomes of the others. Empty if there is no way that this planner finds.
pub(super) fn plan(map: &[Stretch], wanted: usize) -> Result<Vec<Batch>, NoMemory> {
    let mut windows = smallest(map, wanted, free_blocks)?;
    windows.sort_unstable_by_key(|window| (window.cost, window.stretches.start));
    // Which stretches are in a window that was accepted. Of two windows neither contains the other,
    // so each that overlaps another has an end in it.
    let mut used = table(map.len(), repeat(false))?;
    let mut batches = Vec::new();
    for Window { stretches, .. } in windows {
        if used[stretches.start] || used[stretches.end - 1] {
            continue;
        }
        used[stretches.clone()].fill(true);
        push(&mut batches, slide(&map[stretches])?)?;
    }
    if batches.is_empty()
        && let Some(batch) = empty_a_window(map, wanted)?
    {
        push(&mut batches, batch)?;
    }
    // A window that is free already costs nothing; no other may break it up.
    batches.retain(|batch| !batch.moves.is_empty());
    Ok(batches)
}

pub(super) fn free_blocks(stretch: &Stretch) -> usize {
    step();
    if stretch.is(Content::Free) { stretch.len } else { 0 }
}

/// Blocks to copy if this moves.
fn cost(stretch: &Stretch) -> usize {
    stretch.len - free_blocks(stretch)
}

/// The windows without fixed blocks that measure at least `wanted` and no longer do without their
/// first or their last stretch. In the order of their addresses.
fn smallest(map: &[Stretch], wanted: usize, measure: fn(&Stretch) -> usize) -> Result<Vec<Window>, NoMemory> {
    let mut windows = Vec::new();
    // Of the stretches from the first on: what they measure, and what they cost.
    let (mut start, mut sum, mut costs) = (0, 0, 0);
    for (index, stretch) in map.iter().enumerate() {
        if stretch.is(Content::Fixed) {
            (start, sum, costs) = (index + 1, 0, 0);
            continue;
        }
        sum += measure(stretch);
        costs += cost(stretch);
        if sum < wanted || measure(stretch) == 0 {
            continue;
        }
        while sum - measure(&map[start]) >= wanted {
            sum -= measure(&map[start]);
            costs -= cost(&map[start]);
            start += 1;
        }
        push(&mut windows, Window { stretches: start..index + 1, cost: costs })?;
        // The next window has another first stretch.
        sum -= measure(&map[start]);
        costs -= cost(&map[start]);
        start += 1;
    }
    Ok(windows)
}

/// The length of a run, and its first block.
type Run = (usize, Block);

/// Free runs by length. Changes can be undone, so that no window needs a copy of them.
struct FreeRuns {
    runs: BTreeSet<Run>,
    /// Runs that were added (`true`) or removed, in their order.
    changes: Vec<(bool, Run)>,
}

/// Bytes that a tree of the standard library takes for a run: its nodes are half full at least.
const RUN_BYTES: usize = 2 * size_of::<Run>() + 8;

impl FreeRuns {
    fn new(map: &[Stretch]) -> Result<FreeRuns, NoMemory> {
        let free = || map.iter().filter(|stretch| stretch.is(Content::Free));
        // The tree itself cannot be refused memory without ending the process. So it is only begun
        // where there has just been as much.
        drop(with_room::<[u8; RUN_BYTES]>(free().count())?);
        Ok(FreeRuns { runs: free().map(|free| (free.len, free.first)).collect(), changes: Vec::new() })
    }

    fn change(&mut self, adds: bool, run: Run) -> Result<(), NoMemory> {
        step();
        let changed = if adds { self.runs.insert(run) } else { self.runs.remove(&run) };
        if changed { push(&mut self.changes, (adds, run)) } else { Ok(()) }
    }

    /// Takes so many blocks from the upper end of the shortest run that suffices. The first of them
    /// is returned.
    fn take(&mut self, len: usize) -> Result<Option<Block>, NoMemory> {
        let Some(&(run, first)) = self.runs.range((len, Block::new(0))..).next() else { return Ok(None) };
        self.change(false, (run, first))?;
        if run > len {
            self.change(true, (run - len, first))?;
        }
        Ok(Some(first + (run - len)))
    }

    /// Undoes all changes.
    fn undo(&mut self) {
        while let Some((adds, run)) = self.changes.pop() {
            step();
            if adds {
                self.runs.remove(&run);
            } else {
                self.runs.insert(run);
            }
        }
    }
}

/// Slides the objects of a window to its upper end.
fn slide(window: &[Stretch]) -> Result<Batch, NoMemory> {
    let mut to = window[window.len() - 1].end();
    let mut moves = Vec::new();
    for object in window.iter().rev().filter(|stretch| stretch.is(Content::Object)) {
        to -= object.len;
        if to != object.first {
            push(&mut moves, Move { from: object.first, to, len: object.len })?;
        }
    }
    Ok(Batch { moves })
}

/// Empties a window of `wanted` blocks into free runs outside of it.
fn empty_a_window(map: &[Stretch], wanted: usize) -> Result<Option<Batch>, NoMemory> {
    let mut free = FreeRuns::new(map)?;
    let mut windows = smallest(map, wanted, |stretch| stretch.len)?;
    windows.sort_unstable_by_key(|window| (window.cost, window.stretches.start));
    let mut left = map.len();
    for Window { stretches, .. } in windows.into_iter().take(WINDOWS) {
        if left == 0 {
            return Ok(None);
        }
        left = left.saturating_sub(stretches.len());
        free.undo();
        let stretches = &map[stretches];
        for stretch in stretches.iter().filter(|stretch| stretch.is(Content::Free)) {
            free.change(false, (stretch.len, stretch.first))?;
        }
        let objects = || stretches.iter().filter(|stretch| stretch.is(Content::Object));
        let mut order: Vec<&Stretch> = with_room(objects().count())?;
        order.extend(objects());
        order.sort_unstable_by_key(|object| (std::cmp::Reverse(object.len), object.first));
        let mut moves = with_room(order.len())?;
        for &&Stretch { first: from, len, .. } in &order {
            let Some(to) = free.take(len)? else { break };
            moves.push(Move { from, to, len });
        }
        if moves.len() == order.len() {
            return Ok(Some(Batch { moves }));
        }
    }
    Ok(None)
}

/// Counts for the test of how much work a plan is.
fn step() {
    #[cfg(test)]
    tests::STEPS.set(tests::STEPS.get() + 1);
}

#[cfg(test)]
mod tests;
