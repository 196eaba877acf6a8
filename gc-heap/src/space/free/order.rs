//! The order in which single blocks are taken: two lists, whose elements any of may leave from the middle.

/// The blocks of a list, linked both ways. The ends are two more elements, one for each list.
pub(super) struct Order {
    /// Before and behind.
    links: Box<[(u32, u32)]>,
    lens: [usize; 2],
}

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// Free blocks whose memory is there: the one freed last is the first.
    Committed,
    /// Free blocks that have no memory.
    Bare,
}

impl Order {
    pub(super) fn new(blocks: usize) -> Order {
        // Each its own neighbour: so are the ends of empty lists.
        Order { links: (0..blocks as u32 + 2).map(|element| (element, element)).collect(), lens: [0; 2] }
    }

    fn end(&self, list: List) -> usize {
        self.links.len() - 2 + list as usize
    }

    pub(super) fn len(&self, list: List) -> usize {
        self.lens[list as usize]
    }

    pub(super) fn push_first(&mut self, list: List, block: usize) {
        let end = self.end(list);
        let behind = self.links[end].1;
        self.links[block] = (end as u32, behind);
        self.links[end].1 = block as u32;
        self.links[behind as usize].0 = block as u32;
        self.lens[list as usize] += 1;
    }

    pub(super) fn first(&self, list: List) -> Option<usize> {
        let first = self.links[self.end(list)].1 as usize;
        (first < self.links.len() - 2).then_some(first)
    }

    pub(super) fn last(&self, list: List) -> Option<usize> {
        let last = self.links[self.end(list)].0 as usize;
        (last < self.links.len() - 2).then_some(last)
    }

    /// Takes a block out of the list that it is in.
    pub(super) fn remove(&mut self, list: List, block: usize) {
        let (before, behind) = self.links[block];
        self.links[before as usize].1 = behind;
        self.links[behind as usize].0 = before;
        self.lens[list as usize] -= 1;
    }
}
