//! Free address ranges, coalesced with their neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Free pieces, none empty, of which no two touch: each is known by its start and by its length.
#[derive(Debug, Default)]
pub(crate) struct FreeRanges {
    /// The length of each, by its start.
    by_start: BTreeMap<usize, usize>,
    /// Length and start.
    by_len: BTreeSet<(usize, usize)>,
}

impl FreeRanges {
    /// Takes `len` (not 0) from the shortest piece that has them, and of those from the first: what
    /// is left over is small, and long pieces stay long.
    pub(crate) fn take(&mut self, len: usize) -> Option<usize> {
        let &(found, start) = self.by_len.range((len, 0)..).next()?;
        self.remove(start, found);
        if found > len {
            self.insert(start + len, found - len);
        }
        Some(start)
    }

    /// Frees a range (not empty), which is coalesced with the free ones before and after it. No
    /// part of it is free.
    pub(crate) fn give(&mut self, piece: Range<usize>) {
        let (mut start, mut end) = (piece.start, piece.end);
        if let Some((&before, &len)) = self.by_start.range(..start).next_back()
            && before + len == start
        {
            self.remove(before, len);
            start = before;
        }
        if let Some(&len) = self.by_start.get(&end) {
            self.remove(end, len);
            end += len;
        }
        self.insert(start, end - start);
    }

    /// Whether there is a piece that is exactly this one.
    pub(crate) fn has(&self, start: usize, len: usize) -> bool {
        self.by_start.get(&start) == Some(&len)
    }

    /// Takes a piece that there [is](Self::has).
    pub(crate) fn take_at(&mut self, start: usize, len: usize) {
        self.remove(start, len);
    }

    /// Takes every piece.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Range<usize>> + use<> {
        let all = std::mem::take(self);
        all.by_start.into_iter().map(|(start, len)| start..start + len)
    }

    fn insert(&mut self, start: usize, len: usize) {
        self.by_start.insert(start, len);
        self.by_len.insert((len, start));
    }

    fn remove(&mut self, start: usize, len: usize) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
    }
}

#[cfg(test)]
mod tests {
    use super::FreeRanges;

    #[test]
    fn what_is_given_back_joins_its_neighbours() {
        let mut free = FreeRanges::default();
        free.give(0..100);
        let taken: Vec<usize> = (0..10).map(|_| free.take(10).unwrap()).collect();
        assert!(taken.iter().copied().eq((0..100).step_by(10)) && free.take(1).is_none());
        // In an order in which each way of joining comes: neither side, the side before, the side
        // behind, both.
        for start in [20, 30, 10, 50, 40, 90, 70, 0, 80, 60] {
            free.give(start..start + 10);
        }
        assert_eq!(free.by_start.iter().collect::<Vec<_>>(), [(&0, &100)]);
        assert_eq!(free.by_len.iter().collect::<Vec<_>>(), [&(100, 0)]);
        assert_eq!(free.take(100), Some(0));
    }

    #[test]
    fn the_shortest_piece_that_suffices_is_taken() {
        let mut free = FreeRanges::default();
        [0..50, 60..80, 90..100, 110..130].into_iter().for_each(|piece| free.give(piece));
        assert_eq!([15, 10, 5, 40].map(|len| free.take(len)), [Some(60), Some(90), Some(75), Some(0)]);
        assert_eq!(free.take(21), None);
    }
}
