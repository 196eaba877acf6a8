//! Free blocks in the order in which they became free: a list whose elements may leave from the
//! middle. Where they are searched by their places too, these are kept beside.

use super::runs::Runs;
use crate::space::Block;
use gc_core::zeroed::{NoMemory, table};

/// A block in the list, or one of its ends.
#[derive(Clone, Copy)]
struct Link {
    before: u32,
    behind: u32,
    /// When the block became free.
    since: u32,
}

/// The list, linked both ways. Its ends are one more element, the last. A block that is not in it
/// is its own neighbour.
pub(super) struct Order {
    links: Box<[Link]>,
    len: usize,
    /// Which blocks are in the list, by their places.
    places: Option<Runs>,
}

impl Order {
    /// No block is in it. `searched`: by their places too.
    pub(super) fn new(blocks: usize, searched: bool) -> Result<Order, NoMemory> {
        // The ends of an empty list are their own neighbours, too.
        let alone = |element| Link { before: element, behind: element, since: 0 };
        let links = table(blocks + 1, (0..=blocks as u32).map(alone))?;
        Ok(Order { links, len: 0, places: if searched { Some(Runs::none(blocks)?) } else { None } })
    }

    /// The lowest block, where they are searched.
    pub(super) fn lowest(&mut self) -> Option<Block> {
        self.places.as_mut()?.lowest()
    }

    /// The highest `count` blocks in a row, where they are searched.
    pub(super) fn highest(&mut self, count: usize) -> Option<Block> {
        self.places.as_mut()?.highest(count)
    }

    /// Which of the 32 blocks of a chunk are in the list, where they are searched.
    pub(super) fn chunk(&self, chunk: usize) -> Option<u32> {
        self.places.as_ref().map(|places| places.chunk(chunk))
    }

    /// Blocks of the heap.
    pub(super) fn blocks(&self) -> usize {
        self.links.len() - 1
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds blocks that become free at `since`, each before the first, while they are read from
    /// the returned iterator, which must be read to its end.
    pub(super) fn push_first<I: Iterator<Item = Block>>(&mut self, blocks: I, since: u32) -> Pushed<'_, I> {
        let first = self.links[self.blocks()].behind;
        Pushed { order: self, blocks, since, first }
    }

    /// Whether a block is in the list.
    pub(super) fn contains(&self, block: Block) -> bool {
        self.links[block.number()].before != block.number() as u32
    }

    /// The last block, and since when it is free.
    pub(super) fn last(&self) -> Option<(Block, u32)> {
        let last = self.links[self.blocks()].before as usize;
        (last < self.blocks()).then(|| (Block::new(last), self.links[last].since))
    }

    /// Takes a block out. `false`: it was not in the list.
    #[inline]
    pub(super) fn remove(&mut self, block: Block) -> bool {
        let block = block.number();
        let link = &mut self.links[block];
        let Link { before, behind, .. } = *link;
        if before == block as u32 {
            return false;
        }
        (link.before, link.behind) = (block as u32, block as u32);
        self.links[before as usize].behind = behind;
        self.links[behind as usize].before = before;
        self.len -= 1;
        if let Some(places) = &mut self.places {
            places.take(Block::new(block));
        }
        true
    }
}

/// Adds each block that it yields, and links the list's end to the last of them when there are no
/// more.
pub(super) struct Pushed<'a, I> {
    order: &'a mut Order,
    blocks: I,
    since: u32,
    first: u32,
}

impl<I: Iterator<Item = Block>> Iterator for Pushed<'_, I> {
    type Item = Block;

    #[inline]
    fn next(&mut self) -> Option<Block> {
        let Pushed { order: Order { links, len, places }, blocks, since, first } = self;
        let end = links.len() - 1;
        let Some(block) = blocks.next() else {
            links[end].behind = *first;
            return None;
        };
        let number = block.number();
        links[number] = Link { before: end as u32, behind: *first, since: *since };
        links[*first as usize].before = number as u32;
        *len += 1;
        *first = number as u32;
        if let Some(places) = places {
            places.give([block]);
        }
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_leave_from_both_ends_and_from_the_middle() {
        let mut order = Order::new(5, true).unwrap();
        let [zero, one, two, three, four] = std::array::from_fn(Block::new);
        assert!(order.last().is_none() && !order.remove(four));
        let mut push = |blocks: &[Block], since| {
            assert_eq!(order.push_first(blocks.iter().copied(), since).count(), blocks.len());
        };
        push(&[three], 30);
        push(&[zero, four], 31);
        push(&[], 32);
        push(&[one], 33);
        assert_eq!((order.len(), order.last()), (4, Some((three, 30))));
        let places = (order.lowest(), order.highest(2), order.highest(3), order.chunk(0));
        assert_eq!(places, (Some(zero), Some(three), None, Some(0b11011)));
        assert!(order.remove(four) && !order.remove(four) && !order.remove(two));
        assert!(order.remove(three) && order.remove(one));
        assert_eq!((order.len(), order.last()), (1, Some((zero, 31))));
        assert_eq!(order.push_first([four].into_iter(), 7).last(), Some(four));
        assert!(order.remove(zero));
        assert_eq!(order.last(), Some((four, 7)));
        assert!(order.remove(four) && order.last().is_none());
        assert_eq!((order.len(), order.lowest(), order.chunk(0)), (0, None, Some(0)));
        assert_eq!(Order::new(5, false).unwrap().chunk(0), None, "nobody searches them");
    }
}
