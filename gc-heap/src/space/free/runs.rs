//! Which blocks are free, and where runs of them are: a bitmap, and above its words a tree that
//! knows the longest run of each part. A run is found in as many steps as the tree is high,
//! whatever the heap holds. The lowest free block is in the first word that is not zero, which is
//! noted, and found again by summaries of the bitmap, 64 bits to one, which always follow it.
//!
//! Most blocks are taken and freed one by one, neighbours after each other, and few searches for a
//! run come between. So a change writes the bitmap alone and notes its word; the tree follows
//! before the next search, or when too many words are noted. A search thus waits for at most
//! [`STALE`] paths through the tree.

use crate::space::Block;
use gc_core::zeroed::{NoMemory, table};
use std::iter::repeat;

/// Blocks of a word of the bitmap: of a leaf of the tree.
const LEAF: usize = 64;

/// Words that may differ from the tree: a search costs no more than so many paths besides its own.
const STALE: usize = 16;

/// The free blocks of a part of the heap: how many it begins and ends with, and the longest run in
/// it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Part {
    prefix: u32,
    suffix: u32,
    longest: u32,
}

impl Part {
    fn of_word(word: u64) -> Part {
        match word {
            // Most words, after a cycle: without a search.
            0 => Part::default(),
            u64::MAX => Part { prefix: LEAF as u32, suffix: LEAF as u32, longest: LEAF as u32 },
            _ => Part { prefix: word.trailing_ones(), suffix: word.leading_ones(), longest: longest(word) },
        }
    }

    /// Two neighbours of `half` blocks each.
    fn join(left: Part, right: Part, half: u32) -> Part {
        Part {
            prefix: if left.prefix == half { half + right.prefix } else { left.prefix },
            suffix: if right.suffix == half { half + left.suffix } else { right.suffix },
            longest: left.longest.max(right.longest).max(left.suffix + right.prefix),
        }
    }
}

/// The bits that begin a run of `count` (1 to 64) ones.
fn starts(word: u64, count: usize) -> u64 {
    let (mut starts, mut have) = (word, 1);
    while have < count && starts != 0 {
        // Two runs that follow one another, or overlap where that is enough.
        let step = have.min(count - have);
        starts &= starts >> step;
        have += step;
    }
    starts
}

/// The longest run of ones.
fn longest(word: u64) -> u32 {
    let (mut low, mut high) = (0, LEAF);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if starts(word, middle) != 0 {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low as u32
}

/// The index of a block's word, and the block's bit there.
#[inline(always)]
fn bit_of(block: Block) -> (usize, u64) {
    (block.number() / LEAF, 1 << (block.number() % LEAF))
}

pub(super) struct Runs {
    words: Box<[u64]>,
    /// Each a bitmap of the words before it (the first: of `words`) that are not zero; the last has
    /// one word.
    summaries: Box<[Box<[u64]>]>,
    /// A heap-ordered tree: the children of `n` are `2 n` and `2 n + 1`, the leaves the second
    /// half. Leaves past the last word have nothing free.
    tree: Box<[Part]>,
    /// The words before this one are zero.
    first: usize,
    /// Words whose leaves are out of date, each once; those that changed last at the end.
    stale: Vec<u32>,
}

impl Runs {
    /// All blocks are free.
    pub(super) fn new(blocks: usize) -> Result<Runs, NoMemory> {
        Runs::of(blocks, true)
    }

    /// No block is free.
    pub(super) fn none(blocks: usize) -> Result<Runs, NoMemory> {
        Runs::of(blocks, false)
    }

    fn of(blocks: usize, all: bool) -> Result<Runs, NoMemory> {
        let words = blocks.div_ceil(LEAF);
        let leaves = words.next_power_of_two();
        let mut runs = Runs {
            words: table(words, repeat(0))?,
            summaries: Box::default(),
            tree: table(2 * leaves, repeat(Part::default()))?,
            first: 0,
            stale: Vec::with_capacity(STALE),
        };
        for (index, word) in runs.words.iter_mut().enumerate() {
            let free = (blocks - index * LEAF).min(LEAF);
            *word = if all { u64::MAX >> (LEAF - free) } else { 0 };
            runs.tree[leaves + index] = Part::of_word(*word);
        }
        let mut half = LEAF as u32;
        let mut level = leaves;
        while level > 1 {
            for node in level / 2..level {
                runs.tree[node] = Part::join(runs.tree[2 * node], runs.tree[2 * node + 1], half);
            }
            (level, half) = (level / 2, half * 2);
        }
        let mut summaries = Vec::new();
        let mut below: &[u64] = &runs.words;
        while below.len() > 1 {
            let bits = |words: &[u64]| words.iter().rev().fold(0, |bits, &word| bits << 1 | u64::from(word != 0));
            summaries.push(table(below.len().div_ceil(LEAF), below.chunks(LEAF).map(bits))?);
            below = &summaries[summaries.len() - 1];
        }
        runs.summaries = summaries.into();
        Ok(runs)
    }

    /// The bitmap.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(super) fn is_free(&self, block: Block) -> bool {
        let (index, bit) = bit_of(block);
        self.words[index] & bit != 0
    }

    /// Which of the 32 blocks of a chunk are free, the lowest in the lowest bit.
    pub(super) fn chunk(&self, chunk: usize) -> u32 {
        (self.words[chunk / 2] >> (chunk % 2 * 32)) as u32
    }

    /// Takes a free block.
    #[inline]
    pub(super) fn take(&mut self, block: Block) {
        let (index, bit) = bit_of(block);
        self.words[index] &= !bit;
        if self.words[index] == 0 {
            self.summarize(index, false);
        }
        self.changed(index);
    }

    /// The lowest free block.
    pub(super) fn lowest(&mut self) -> Option<Block> {
        if self.words[self.first] == 0 {
            self.first = self.first_word()?;
        }
        Some(Block::new(self.first * LEAF + self.words[self.first].trailing_zeros() as usize))
    }

    /// Takes the lowest free block.
    #[inline]
    pub(super) fn take_lowest(&mut self) -> Option<Block> {
        if self.words[self.first] == 0 {
            self.first = self.first_word()?;
        }
        let index = self.first;
        let block = Block::new(index * LEAF + self.words[index].trailing_zeros() as usize);
        self.words[index] &= self.words[index] - 1;
        if self.words[index] == 0 {
            self.summarize(index, false);
        }
        self.changed(index);
        Some(block)
    }

    /// Frees blocks. Returns how many.
    pub(super) fn give(&mut self, blocks: impl IntoIterator<Item = Block>) -> usize {
        let (mut index, mut mask, mut count) = (0, 0, 0);
        for block in blocks {
            debug_assert!(!self.is_free(block));
            count += 1;
            // Neighbours follow one another: one write for those of a word.
            let (word, bit) = bit_of(block);
            if word != index {
                self.give_word(index, std::mem::take(&mut mask));
                index = word;
            }
            mask |= bit;
        }
        self.give_word(index, mask);
        count
    }

    fn give_word(&mut self, index: usize, mask: u64) {
        if mask == 0 {
            return;
        }
        let was_zero = self.words[index] == 0;
        self.words[index] |= mask;
        if was_zero {
            self.first = self.first.min(index);
            self.summarize(index, true);
        }
        self.changed(index);
    }

    /// A word's leaf is out of date.
    #[inline]
    fn changed(&mut self, index: usize) {
        if self.stale.last() != Some(&(index as u32)) {
            self.changed_another(index as u32);
        }
    }

    #[inline(never)]
    fn changed_another(&mut self, index: u32) {
        if self.stale.contains(&index) {
            return;
        }
        if self.stale.len() == STALE {
            self.settle();
        }
        self.stale.push(index);
    }

    /// A word has become zero, or is no longer.
    fn summarize(&mut self, mut index: usize, free: bool) {
        for summary in &mut self.summaries {
            let (word, mask) = (&mut summary[index / LEAF], 1 << (index % LEAF));
            let was_zero = *word == 0;
            *word = if free { *word | mask } else { *word & !mask };
            if was_zero == (*word == 0) {
                return;
            }
            index /= LEAF;
        }
    }

    /// The first word that is not zero.
    #[inline(never)]
    fn first_word(&self) -> Option<usize> {
        let Some(top) = self.summaries.last() else { return (self.words[0] != 0).then_some(0) };
        let mut index = 0;
        if top[0] == 0 {
            return None;
        }
        for level in self.summaries.iter().rev() {
            index = index * LEAF + level[index].trailing_zeros() as usize;
        }
        Some(index)
    }

    /// Brings the tree up to date.
    fn settle(&mut self) {
        while let Some(index) = self.stale.pop() {
            let (mut node, mut half) = (self.tree.len() / 2 + index as usize, LEAF as u32);
            let mut part = Part::of_word(self.words[index as usize]);
            while part != self.tree[node] {
                self.tree[node] = part;
                node /= 2;
                if node == 0 {
                    break;
                }
                part = Part::join(self.tree[2 * node], self.tree[2 * node + 1], half);
                half *= 2;
            }
        }
    }

    /// `count` free blocks in the middle of the longest run, so that as many others as possible are
    /// free behind them, and before them for the next.
    pub(super) fn middle(&mut self, count: usize) -> Option<Block> {
        self.settle();
        let longest = self.tree[1].longest as usize;
        let around = longest.checked_sub(count).filter(|_| count > 0)?;
        Some(self.highest(longest)? + around / 2)
    }

    /// The highest `count` free blocks in a row.
    pub(super) fn highest(&mut self, count: usize) -> Option<Block> {
        self.settle();
        let wanted = u32::try_from(count).ok().filter(|&wanted| wanted > 0 && self.tree[1].longest >= wanted)?;
        let leaves = self.tree.len() / 2;
        let (mut node, mut start, mut half) = (1, 0, leaves * LEAF / 2);
        while node < leaves {
            let (left, right) = (self.tree[2 * node], self.tree[2 * node + 1]);
            if right.longest >= wanted {
                node = 2 * node + 1;
                start += half;
            } else if left.suffix + right.prefix >= wanted {
                return Some(Block::new(start + half + right.prefix as usize - count));
            } else {
                node *= 2;
            }
            half /= 2;
        }
        Some(Block::new(start + starts(self.words[node - leaves], count).ilog2() as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The highest run, by looking at each block.
    fn slow(free: &[bool], count: usize) -> Option<Block> {
        free.windows(count).rposition(|window| window.iter().all(|free| *free)).map(Block::new)
    }

    #[test]
    fn it_finds_what_a_search_of_all_blocks_finds() {
        for blocks in [1, 63, 64, 65, 130, 1000, 5000] {
            let mut none = Runs::none(blocks).unwrap();
            assert_eq!((none.lowest(), none.highest(1)), (None, None));
            none.give([Block::new(blocks / 2)]);
            assert_eq!((none.lowest(), none.highest(1), none.highest(2)), {
                let middle = Some(Block::new(blocks / 2));
                (middle, middle, None)
            });
            let (mut runs, mut free) = (Runs::new(blocks).unwrap(), vec![true; blocks]);
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            for step in 0..if blocks < 5000 { 3000 } else { 300 } {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // Stretches, so that there are long runs and full words.
                let first = random as usize % blocks;
                let len = 1 + (random >> 32) as usize % [1, 3, 100][step % 3];
                let (part, give) = (first..(first + len).min(blocks), random >> 60 & 1 == 1);
                let change: Vec<_> = part.filter(|&block| free[block] != give).map(Block::new).collect();
                if give {
                    // Down or up, and in parts.
                    let (down, up) = change.split_at(change.len() / 2);
                    assert_eq!(runs.give(down.iter().rev().copied()), down.len());
                    runs.give(up.iter().copied());
                } else {
                    change.iter().for_each(|&block| runs.take(block));
                }
                change.into_iter().for_each(|block| free[block.number()] = give);
                assert!(free.iter().enumerate().all(|(block, &free)| runs.is_free(Block::new(block)) == free));
                let longest = free.split(|free| !free).map(<[bool]>::len).max().unwrap();
                for count in [1, 2, 5, 64, 65, 200] {
                    let around = longest.checked_sub(count);
                    let middle = around.map(|around| slow(&free, longest).unwrap() + around / 2);
                    assert_eq!(runs.middle(count), middle, "{count} of {blocks} after {step} steps");
                    assert_eq!(runs.highest(count), slow(&free, count), "{count} of {blocks} after {step} steps");
                }
                let lowest = free.iter().position(|free| *free).map(Block::new);
                assert_eq!(runs.take_lowest(), lowest, "of {blocks} after {step} steps");
                if step % 2 == 0 {
                    runs.give(lowest);
                } else if let Some(lowest) = lowest {
                    free[lowest.number()] = false;
                }
            }
            assert_eq!((runs.highest(blocks + 1), runs.middle(blocks + 1)), (None, None));
            while runs.take_lowest().is_some() {}
            assert_eq!(runs.highest(1), None);
            let last = Block::new(blocks - 1);
            runs.give([last]);
            assert_eq!((runs.highest(1), runs.take_lowest()), (Some(last), Some(last)));
        }
    }
}
