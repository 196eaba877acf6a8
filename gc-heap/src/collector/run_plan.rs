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
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Stretches that were measured, and changes of the free runs.
        pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    /// A heap of 24 GiB has 393,216 blocks, and all threads wait for the plan.
    #[test]
    fn the_work_of_a_plan_grows_with_the_heap_and_no_faster() {
        // Pairs of an object and a free block, and a run that takes half of the heap: each window
        // overlaps half of all others.
        let map = |pairs: usize, object: usize| -> Vec<Stretch> {
            let pair = |index: usize| {
                let first = index * (object + 1);
                [(first, object, Content::Object), (first + object, 1, Content::Free)]
            };
            let stretches = (0..pairs).flat_map(pair);
            stretches.map(|(first, len, content)| Stretch { first: Block::new(first), len, content }).collect()
        };
        for pairs in [1 << 8, 1 << 11] {
            // Objects slide; objects have no place elsewhere, whichever window is tried.
            for (object, wanted, batches) in [(1, pairs / 2, 2), (2, pairs + pairs / 2, 0)] {
                let map = map(pairs, object);
                let before = STEPS.get();
                assert_eq!(plan(&map, wanted).unwrap().len(), batches);
                let steps = STEPS.get() - before;
                assert!(steps <= 12 * map.len(), "{pairs} pairs, objects of {object}: {steps} steps");
            }
        }
    }

    /// The map that a text draws: `.` a free block, `#` a fixed one, a letter for each object.
    fn drawn(text: &str) -> Vec<Stretch> {
        let mut map: Vec<Stretch> = Vec::new();
        let bytes = text.as_bytes();
        for (first, &byte) in bytes.iter().enumerate() {
            let content = match byte {
                b'.' => Content::Free,
                b'#' => Content::Fixed,
                _ => Content::Object,
            };
            match map.last_mut() {
                Some(last) if bytes[first - 1] == byte => last.len += 1,
                _ => map.push(Stretch { first: Block::new(first), len: 1, content }),
            }
        }
        map
    }

    /// What a drawn heap looks like after a batch, each move of which must have a free place.
    fn after(text: &str, batch: &Batch) -> String {
        let mut blocks = text.as_bytes().to_vec();
        for &Move { from, to, len } in &batch.moves {
            let (from, to) = (from.number(), to.number());
            let object = blocks[from..from + len].to_vec();
            assert!(object.iter().all(|&byte| byte == object[0]), "{text}: no object at {from}");
            blocks[from..from + len].fill(b'.');
            assert!(blocks[to..to + len].iter().all(|&byte| byte == b'.'), "{text}: {to} is taken");
            blocks[to..to + len].copy_from_slice(&object);
        }
        String::from_utf8(blocks).unwrap()
    }

    fn longest(text: &str) -> usize {
        text.split(|content| content != '.').map(str::len).max().unwrap()
    }

    #[test]
    fn objects_slide_up_in_the_stretch_that_costs_least() {
        for (before, wanted, wants) in [
            (".AA.BB.", 2, "..AABB."),
            ("..AAAA..B..", 4, "..AAAA....B"),
            (".AA#.AA", 2, ".AA#.AA"),
            ("#.AAA.#..B.", 3, "#.AAA.#...B"),
            (".A.B.C.", 4, "....ABC"),
        ] {
            let plan = plan(&drawn(before), wanted).unwrap();
            let found = plan.first().map_or(before.to_owned(), |batch| after(before, batch));
            assert_eq!(found, wants, "{before}, {wanted}");
        }
    }

    #[test]
    fn windows_do_not_overlap_and_each_makes_a_run() {
        let before = ".A.B.C.D.E.F.";
        let batches = plan(&drawn(before), 2).unwrap();
        assert!(batches.len() >= 3, "{batches:?}");
        let mut heap = before.to_owned();
        for (number, batch) in batches.iter().enumerate() {
            heap = after(&heap, batch);
            assert_eq!(heap.matches("..").count(), number + 1, "{heap}");
        }
    }

    #[test]
    fn a_window_between_pins_is_emptied_into_runs_elsewhere() {
        for (before, wanted) in [("#.AA#.B#", 2), ("#A.#B.#C.#", 2), ("#.AA.#..#BB..#", 3)] {
            let map = drawn(before);
            let plan = plan(&map, wanted).unwrap();
            let [batch] = &plan[..] else { panic!("{before}: {plan:?}") };
            let heap = after(before, batch);
            assert!(longest(&heap) >= wanted, "{before}: {heap}");
        }
        assert_eq!(plan(&drawn("#.AA#.B#"), 3).unwrap(), [], "no run outside holds A");
    }

    #[test]
    fn where_free_blocks_suffice_between_fixed_ones_a_run_is_found() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..4000 {
            let mut text = String::new();
            for _ in 0..30 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let len = 1 + (random >> 40) as usize % 4;
                let letter = if text.ends_with('A') { "B" } else { "A" };
                text += &[".", ".", letter, letter, letter, "#"][random as usize % 6].repeat(len);
            }
            let most = text.split('#').map(|segment| segment.matches('.').count()).max().unwrap();
            for wanted in longest(&text) + 1..=most {
                let batches = plan(&drawn(&text), wanted).unwrap();
                assert!(!batches.is_empty(), "{step}: {text}, {wanted}");
                let mut all = text.clone();
                for batch in &batches {
                    assert!(longest(&after(&text, batch)) >= wanted, "{step}: {text}, {wanted}: {batch:?}");
                    all = after(&all, batch);
                    let (taken, given) = batch.taken_and_given().unwrap();
                    assert_eq!(taken.len(), given.len());
                    assert!(taken.iter().all(|block| text.as_bytes()[block.number()] == b'.'));
                }
                assert!(batches.windows(2).all(|pair| pair[0].cost() <= pair[1].cost()));
            }
        }
    }
}
