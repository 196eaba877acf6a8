//! Which kind of cycle comes next, in a heap with generations: a first, simple policy.
//!
//! A young cycle marks what survives of the objects that were born since the last cycle, and gives
//! back the blocks in which nothing does. What it cannot find is garbage among old objects, and
//! whatever dead objects lie in blocks that it promotes. So a whole cycle comes when old blocks
//! have grown by a part of what was free after the last one, when memory is short, and when young
//! cycles do not pay. Requests that need a whole cycle get one in any case.

use crate::events::CycleKind;

/// Old blocks may grow by this part of the blocks that were free after the last whole cycle.
const GROWTH: usize = 2;

/// Memory is short if less than this part of the heap is free after a young cycle.
const SHORT: usize = 8;

/// The most whole cycles in a row before a young one is tried again.
const MOST_REST: u32 = 16;

/// In stress mode one cycle of so many is whole.
const STRESS_WHOLE: u32 = 4;

/// A cycle that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) kind: CycleKind,
    /// Blocks that it has freed, and that it has promoted where they stand.
    pub(super) freed: usize,
    pub(super) promoted: usize,
    /// Blocks that are free now, and that there are.
    pub(super) free: usize,
    pub(super) blocks: usize,
}

/// What the choice knows of the cycles so far.
#[derive(Debug)]
pub(super) struct Choice {
    generations: bool,
    stress: bool,
    count: u32,
    /// Blocks that were free after the last whole cycle, and that were promoted since.
    free_after_whole: usize,
    grown: usize,
    /// Whole cycles before a young one is tried again, and how many there were to be the last time:
    /// each time that a young cycle does not pay, twice as many.
    rest: u32,
    last_rest: u32,
}

impl Choice {
    pub(super) fn new(generations: bool, stress: bool) -> Choice {
        Choice { generations, stress, count: 0, free_after_whole: usize::MAX, grown: 0, rest: 0, last_rest: 0 }
    }

    /// The kind of the first cycle.
    pub(super) fn first(&self) -> CycleKind {
        if self.generations { CycleKind::Young } else { CycleKind::Whole }
    }

    /// The kind of the next cycle.
    pub(super) fn next(&mut self, ended: Ended) -> CycleKind {
        if !self.generations {
            return CycleKind::Whole;
        }
        self.count += 1;
        let is_short = match ended.kind {
            CycleKind::Whole => {
                (self.free_after_whole, self.grown) = (ended.free, 0);
                self.rest = self.rest.saturating_sub(1);
                false
            }
            CycleKind::Young => {
                self.grown += ended.promoted;
                self.judge(ended);
                ended.free < ended.blocks / SHORT
            }
        };
        let is_whole = if self.stress {
            self.count.is_multiple_of(STRESS_WHOLE)
        } else {
            self.rest > 0 || is_short || self.grown > self.free_after_whole / GROWTH
        };
        if is_whole { CycleKind::Whole } else { CycleKind::Young }
    }

    /// A young cycle pays if it has freed more blocks than it has promoted.
    fn judge(&mut self, ended: Ended) {
        if ended.freed > ended.promoted || ended.freed + ended.promoted < ended.blocks / 64 {
            self.last_rest = 0;
        } else {
            self.last_rest = (2 * self.last_rest).clamp(1, MOST_REST);
            self.rest = self.last_rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn young(freed: usize, promoted: usize, free: usize) -> Ended {
        Ended { kind: CycleKind::Young, freed, promoted, free, blocks: 1000 }
    }

    fn whole(free: usize) -> Ended {
        Ended { kind: CycleKind::Whole, ..young(0, 0, free) }
    }

    #[test]
    fn without_generations_all_cycles_are_whole() {
        let mut choice = Choice::new(false, false);
        assert_eq!((choice.first(), choice.next(whole(900))), (CycleKind::Whole, CycleKind::Whole));
    }

    #[test]
    fn young_cycles_go_on_until_old_blocks_have_grown() {
        let mut choice = Choice::new(true, false);
        assert_eq!((choice.first(), choice.next(whole(600))), (CycleKind::Young, CycleKind::Young));
        let kinds: Vec<_> = (0..7).map(|_| choice.next(young(400, 50, 500))).collect();
        assert_eq!(kinds[5..], [CycleKind::Young, CycleKind::Whole], "50 blocks a cycle, and 300 may come");
        assert!(kinds[..6].iter().all(|&kind| kind == CycleKind::Young));
        assert_eq!(choice.next(whole(600)), CycleKind::Young);
        assert_eq!(choice.next(young(400, 50, 124)), CycleKind::Whole, "memory is short");
    }

    /// A program whose objects die at random: young cycles are tried ever less often.
    #[test]
    fn young_cycles_that_free_little_become_rare() {
        let mut choice = Choice::new(true, false);
        let mut kind = choice.next(whole(600));
        let mut tries = 0;
        for _ in 0..200 {
            tries += u32::from(kind == CycleKind::Young);
            kind = choice.next(if kind == CycleKind::Young { young(20, 300, 400) } else { whole(600) });
        }
        assert!((10..20).contains(&tries), "{tries}");
        while kind == CycleKind::Whole {
            kind = choice.next(whole(600));
        }
        assert_eq!(choice.next(young(300, 20, 500)), CycleKind::Young, "until one pays");
    }

    #[test]
    fn stress_mixes_both_kinds() {
        let mut choice = Choice::new(true, true);
        let mut kinds = (0..8).map(|_| choice.next(young(0, 300, 10)));
        assert_eq!(kinds.by_ref().take(3).filter(|&kind| kind == CycleKind::Young).count(), 3);
        assert_eq!(kinds.next(), Some(CycleKind::Whole));
    }
}
