//! Where threads' frames lie in the area of roots (page barrier).
//!
//! How many locals a thread will have nobody knows before it has them, and its frame can neither
//! move nor be in two pieces: a local is the address of its slot. So frames begin small and far
//! apart, and grow in place as far as the next one. The first two of each 512 MiB are 256 MiB
//! apart, the next two lie halfway between those, and so on down to 16 MiB; then the next 512 MiB
//! are begun, since each GiB in use costs a flip a flush of translations. Only when all are filled
//! like this are the spaces halved further.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Bytes of a frame at first, and of the smallest space between two.
pub(crate) const LEAST: usize = 64 << 10;

/// Bytes of a frame at most: 32 million locals, as with the other barriers.
pub(crate) const MOST: usize = 256 << 20;

/// Bytes that are filled before the next are begun, and how far apart the frames then are.
pub(crate) const GROUP: usize = 512 << 20;
const DENSE: usize = 16 << 20;

/// The share of the frames in the area of roots: addresses from 0 on, which the area puts where it
/// likes.
#[derive(Debug)]
pub(crate) struct Frames {
    bytes: usize,
    /// The frames of threads, and those given up that still have their memory: end and number, by
    /// start.
    taken: BTreeMap<usize, (usize, usize)>,
    /// Starts of those given up.
    returned: Vec<usize>,
    /// Numbers below `next` that no frame has.
    free: BTreeSet<usize>,
    next: usize,
}

impl Frames {
    pub(crate) fn new(bytes: usize) -> Frames {
        Frames { bytes, taken: BTreeMap::new(), returned: Vec::new(), free: BTreeSet::new(), next: 0 }
    }

    /// A frame for another thread: one given up with the words that it holds, since a slot is
    /// written before it is read; else the first that no other has grown over.
    pub(crate) fn take(&mut self) -> Option<Range<usize>> {
        if let Some(start) = self.returned.pop() {
            return Some(start..self.taken[&start].0);
        }
        let number = match self.free.iter().copied().find(|&number| self.is_clear(position(number, self.bytes))) {
            Some(number) => {
                self.free.remove(&number);
                number
            }
            None => loop {
                if self.next == self.bytes / LEAST {
                    return None;
                }
                let number = self.next;
                self.next += 1;
                if self.is_clear(position(number, self.bytes)) {
                    break number;
                }
                self.free.insert(number);
            },
        };
        let start = position(number, self.bytes);
        self.taken.insert(start, (start + LEAST, number));
        Some(start..start + LEAST)
    }

    fn is_clear(&self, start: usize) -> bool {
        self.taken.range(..=start).next_back().is_none_or(|(_, &(end, _))| end <= start)
    }

    /// Makes the frame that begins at `start` twice as long, or as long as its neighbour lets it
    /// be. The new end, if there is one.
    pub(crate) fn grow(&mut self, start: usize) -> Option<usize> {
        let &(end, number) = self.taken.get(&start)?;
        let neighbour = self.taken.range(start + 1..).next().map_or(self.bytes, |(&next, _)| next);
        let most = neighbour.min((start / MOST + 1) * MOST);
        let grown = most.min(end + (end - start));
        self.taken.insert(start, (grown, number));
        (grown > end).then_some(grown)
    }

    /// Nobody has the frame any more.
    pub(crate) fn release(&mut self, start: usize) {
        self.returned.push(start);
    }

    /// Frames given up, to be handed to `forget` when their memory is gone; until then nobody takes
    /// them.
    pub(crate) fn take_returned(&mut self) -> Vec<Range<usize>> {
        let returned = std::mem::take(&mut self.returned);
        returned.into_iter().map(|start| start..self.taken[&start].0).collect()
    }

    pub(crate) fn forget(&mut self, start: usize) {
        if let Some((_, number)) = self.taken.remove(&start) {
            self.free.insert(number);
        }
    }
}

/// Where the frame of a number begins. Of any first so many numbers the positions are as far apart
/// as can be.
fn position(number: usize, bytes: usize) -> usize {
    const IN_GROUP: usize = GROUP / DENSE;
    let dense = bytes / DENSE;
    if number < dense {
        let reversed = (number % IN_GROUP).reverse_bits() >> (usize::BITS - IN_GROUP.trailing_zeros());
        return number / IN_GROUP * GROUP + reversed * DENSE;
    }
    // As many again each time, halfway between those that are there.
    let level = (number / dense).ilog2();
    (DENSE >> (level + 1)) + position(number - (dense << level), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 2 * GROUP;

    #[test]
    fn every_place_is_some_numbers_and_no_two_share_one() {
        let places: BTreeSet<usize> = (0..BYTES / LEAST).map(|number| position(number, BYTES)).collect();
        assert!(places.into_iter().eq((0..BYTES).step_by(LEAST)));
    }

    #[test]
    fn the_first_frames_have_the_most_room() {
        for (threads, room) in [(2, MOST), (4, MOST / 2), (32, DENSE), (64, DENSE), (128, DENSE / 2)] {
            let mut frames = Frames::new(BYTES);
            let taken: Vec<usize> = (0..threads).map(|_| frames.take().unwrap().start).collect();
            for start in taken {
                let mut end = start + LEAST;
                while let Some(grown) = frames.grow(start) {
                    end = grown;
                }
                // With two groups, no frame has a neighbour beyond its own: all have as much.
                let most = if threads > 32 || start < GROUP { room } else { MOST };
                assert_eq!(end - start, most, "{threads} threads, {start:#x}");
            }
        }
    }

    #[test]
    fn frames_do_not_overlap_and_places_come_back() {
        let mut frames = Frames::new(BYTES);
        for round in 0..3 {
            let mut starts: Vec<usize> = Vec::new();
            while let Some(taken) = frames.take() {
                starts.push(taken.start);
                if starts.len().is_multiple_of(7) {
                    while frames.grow(taken.start).is_some() {}
                }
            }
            let ends: Vec<(usize, usize)> = frames.taken.iter().map(|(&start, &(end, _))| (start, end)).collect();
            assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0) && ends.last().unwrap().1 <= BYTES);
            assert!(starts.len() > 1000, "{} in round {round}", starts.len());
            starts.iter().for_each(|&start| frames.release(start));
            if round == 1 {
                // As they are, before their memory is gone.
                assert_eq!((0..starts.len()).filter_map(|_| frames.take()).count(), starts.len());
                starts.iter().for_each(|&start| frames.release(start));
            }
            let returned = frames.take_returned();
            assert_eq!(returned.len(), starts.len());
            returned.into_iter().for_each(|frame| frames.forget(frame.start));
        }
        assert!(frames.taken.is_empty() && frames.free.len() == frames.next);
    }
}
