//! Which blocks are free, and where runs of them are: a bitmap, and above its words a tree that knows the longest run of
//! each part. A run is found in as many steps as the tree is high, whatever the heap holds. The
//! lowest free block is found by summaries of the bitmap, 64 bits to one, which always follow it.
//!
//! Most blocks are taken and freed one by one, neighbours after each other, and few searches for a run come between. So a change
//! writes the bitmap alone and notes its word; the tree follows before the next search, or when too many words are noted. A
//! search thus waits for at most [`STALE`] paths through the tree.

/// Blocks of a word of the bitmap: of a leaf of the tree.
const LEAF: usize = 64;

/// Words that may differ from the tree: a search costs no more than so many paths besides its own.
const STALE: usize = 16;

/// The free blocks of a part of the heap: how many it begins and ends with, and the longest run in it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Part {
    prefix: u32,
    suffix: u32,
    longest: u32,
}

impl Part {
    fn of_word(word: u64) -> Part {
        Part { prefix: word.trailing_ones(), suffix: word.leading_ones(), longest: longest(word) }
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

pub(super) struct Runs {
    words: Box<[u64]>,
    /// Each a bitmap of the words before it (the first: of `words`) that are not zero; the last has
    /// one word.
    summaries: Box<[Box<[u64]>]>,
    /// A heap-ordered tree: the children of `n` are `2 n` and `2 n + 1`, the leaves the second half. Leaves past the last word
    /// have nothing free.
    tree: Box<[Part]>,
    /// Words whose leaves are out of date, each once; those that changed last at the end.
    stale: Vec<u32>,
}

impl Runs {
    /// All blocks are free.
    pub(super) fn new(blocks: usize) -> Runs {
        let words = blocks.div_ceil(LEAF);
        let leaves = words.next_power_of_two();
        let mut runs = Runs {
            words: vec![0; words].into(),
            summaries: Box::default(),
            tree: vec![Part::default(); 2 * leaves].into_boxed_slice(),
            stale: Vec::with_capacity(STALE),
        };
        for (index, word) in runs.words.iter_mut().enumerate() {
            let free = (blocks - index * LEAF).min(LEAF);
            *word = u64::MAX >> (LEAF - free);
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
            summaries.push(below.chunks(LEAF).map(bits).collect::<Box<[u64]>>());
            below = &summaries[summaries.len() - 1];
        }
        runs.summaries = summaries.into();
        runs
    }

    pub(super) fn is_free(&self, block: usize) -> bool {
        self.words[block / LEAF] >> (block % LEAF) & 1 == 1
    }

    pub(super) fn set(&mut self, block: usize, free: bool) {
        let index = block / LEAF;
        let mask = 1 << (block % LEAF);
        let word = &mut self.words[index];
        let was_zero = *word == 0;
        *word = if free { *word | mask } else { *word & !mask };
        if was_zero != (*word == 0) {
            self.summarize(index, free);
        }
        let index = index as u32;
        if self.stale.last() == Some(&index) || self.stale.contains(&index) {
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

    /// The lowest free block.
    pub(super) fn lowest(&self) -> Option<usize> {
        let mut index = 0;
        for level in self.summaries.iter().rev().chain([&self.words]) {
            let word = level[index];
            if word == 0 {
                return None;
            }
            index = index * LEAF + word.trailing_zeros() as usize;
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

    /// The highest `count` free blocks in a row.
    pub(super) fn highest(&mut self, count: usize) -> Option<usize> {
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
                return Some(start + half + right.prefix as usize - count);
            } else {
                node *= 2;
            }
            half /= 2;
        }
        Some(start + starts(self.words[node - leaves], count).ilog2() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The highest run, by looking at each block.
    fn slow(free: &[bool], count: usize) -> Option<usize> {
        free.windows(count).rposition(|window| window.iter().all(|free| *free))
    }

    #[test]
    fn it_finds_what_a_search_of_all_blocks_finds() {
        for blocks in [1, 63, 64, 65, 130, 1000, 5000] {
            let (mut runs, mut free) = (Runs::new(blocks), vec![true; blocks]);
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            for step in 0..if blocks < 5000 { 3000 } else { 300 } {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // Stretches, so that there are long runs and full words.
                let first = random as usize % blocks;
                let len = 1 + (random >> 32) as usize % [1, 3, 100][step % 3];
                for (block, free) in free.iter_mut().enumerate().skip(first).take(len) {
                    *free = random >> 60 & 1 == 1;
                    runs.set(block, *free);
                    assert_eq!(runs.is_free(block), *free);
                }
                for count in [1, 2, 5, 64, 65, 200] {
                    assert_eq!(runs.highest(count), slow(&free, count), "{count} of {blocks} after {step} steps");
                }
                let lowest = free.iter().position(|free| *free);
                assert_eq!(runs.lowest(), lowest, "of {blocks} after {step} steps");
            }
            assert_eq!(runs.highest(blocks + 1), None);
            (0..blocks).for_each(|block| runs.set(block, false));
            assert_eq!((runs.lowest(), runs.highest(1)), (None, None));
            runs.set(blocks - 1, true);
            assert_eq!((runs.lowest(), runs.highest(1)), (Some(blocks - 1), Some(blocks - 1)));
        }
    }
}
