//! Free blocks in the order in which they became free: a list whose elements may leave from the
//! middle.

/// The list, linked both ways. Its ends are one more element, the last.
pub(super) struct Order {
    /// Before and behind.
    links: Box<[(u32, u32)]>,
    len: usize,
}

impl Order {
    /// No block is in it.
    pub(super) fn new(blocks: usize) -> Order {
        // Each its own neighbour: so are the ends of an empty list.
        Order { links: (0..=blocks as u32).map(|element| (element, element)).collect(), len: 0 }
    }

    fn end(&self) -> usize {
        self.links.len() - 1
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push_first(&mut self, block: usize) {
        let end = self.end();
        let behind = self.links[end].1;
        self.links[block] = (end as u32, behind);
        self.links[end].1 = block as u32;
        self.links[behind as usize].0 = block as u32;
        self.len += 1;
    }

    pub(super) fn last(&self) -> Option<usize> {
        let last = self.links[self.end()].0 as usize;
        (last < self.end()).then_some(last)
    }

    /// Takes a block out that is in the list.
    pub(super) fn remove(&mut self, block: usize) {
        let (before, behind) = self.links[block];
        self.links[before as usize].1 = behind;
        self.links[behind as usize].0 = before;
        self.len -= 1;
    }
}
