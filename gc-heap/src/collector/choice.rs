//! Which kind of cycle comes next, in a heap with generations.
//!
//! A cycle is judged by what it has gained, the blocks that are free by it, against what it has
//! cost, the collector's processor time. What a young cycle would have gained and cost is known
//! after a whole one too: a part of the blocks that it has freed were young, and a part of what it
//! has marked. So a program whose objects die at random is recognised without a young cycle, and
//! while none is in prospect no slot is remembered.
//!
//! A young cycle leaves dead old objects where they are, and sparse blocks. So a whole one comes
//! when what young ones leave has grown, and when memory is short. Requests that need a whole cycle
//! get one in any case.

use crate::events::CycleKind;
use std::time::Duration;

/// What young cycles leave in use may grow by this part of the blocks that the last whole cycle has
/// left for new objects.
const GROWTH: usize = 2;

/// Memory is short if less than this part of the heap is left for new objects by a young cycle.
const SHORT: usize = 8;

/// Old objects that are less than this part of what lives are as well marked too: a whole cycle
/// costs hardly more then, and can evacuate.
const FEW: u64 = 8;

/// A cycle tells something if at least this part of the heap has been allocated since the one
/// before.
const TELLING: usize = 64;

/// A young cycle pays if it is so many times as worth its time as a whole one: what it needs has to
/// be remembered, and found by a walk of all old objects at first.
const BETTER: f64 = 1.5;

/// If a young cycle was in prospect and did not pay, so many whole ones follow before one is in
/// prospect again, and each time in a row so many times as many.
const LONGER: u32 = 4;
const LONGEST: u32 = 64;

/// In stress mode one cycle of so many is whole.
const STRESS_WHOLE: u32 = 4;

/// A cycle that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) kind: CycleKind,
    /// Blocks that it has freed, those that evacuation has gained among them, and how many of them
    /// were of young objects in which it found nothing alive.
    pub(super) freed: usize,
    pub(super) freed_young: usize,
    /// The collector's processor time.
    pub(super) spent: Duration,
    /// Bytes that live, those of them that it has found in young blocks, and those that are old at
    /// its end.
    pub(super) live_bytes: u64,
    pub(super) young_bytes: u64,
    pub(super) old_bytes: u64,
    /// Blocks allocated between the last mark start and its own.
    pub(super) allocated: usize,
    /// Blocks in use at its end, without those allocated since its mark start; and those that there
    /// are.
    pub(super) kept: usize,
    pub(super) blocks: usize,
    /// Whether a young cycle may follow: what it needs is remembered.
    pub(super) is_remembered: bool,
}

/// What the choice knows of the cycles so far.
#[derive(Debug)]
pub(super) struct Choice {
    generations: bool,
    stress: bool,
    count: u32,
    /// Of the last whole cycle: blocks that it has freed, its processor time, and the blocks that
    /// it has left in use.
    freed: usize,
    spent: Duration,
    kept: usize,
    /// Whether a young cycle would pay, by the last cycle that could tell. As long as there was
    /// none it would not: what is remembered in vain costs more than a whole cycle once.
    pays: bool,
    /// Whole cycles before a young one is in prospect again, and how many there were to be the last
    /// time.
    rest: u32,
    last_rest: u32,
}

impl Choice {
    pub(super) fn new(generations: bool, stress: bool) -> Choice {
        let [freed, kept] = Default::default();
        let (spent, pays) = (Duration::ZERO, false);
        Choice { generations, stress, count: 0, freed, spent, kept, pays, rest: 0, last_rest: 0 }
    }

    /// The kind of the first cycle: nothing is old, so a young one would mark as much.
    pub(super) fn first(&self) -> CycleKind {
        if self.generations && self.stress { CycleKind::Young } else { CycleKind::Whole }
    }

    /// Whether a young cycle is in prospect after a whole one that begins now: then the whole one
    /// has to find the slots that are to be remembered.
    pub(super) fn expects_young(&self) -> bool {
        self.pays && self.rest <= 1
    }

    /// The kind of the next cycle.
    pub(super) fn next(&mut self, ended: Ended) -> CycleKind {
        if !self.generations {
            return CycleKind::Whole;
        }
        self.count += 1;
        let is_telling = ended.allocated >= ended.blocks / TELLING;
        let is_full = match ended.kind {
            CycleKind::Whole => {
                self.rest = self.rest.saturating_sub(1);
                (self.freed, self.spent, self.kept) = (ended.freed, ended.spent, ended.kept);
                if is_telling {
                    let share = ended.young_bytes as f64 / (ended.live_bytes as f64).max(1.0);
                    self.pays = self.is_worth(ended.freed_young, ended.spent.mul_f64(share.min(1.0)));
                }
                false
            }
            CycleKind::Young => {
                if is_telling {
                    self.judge(ended);
                }
                let room = ended.blocks.saturating_sub(self.kept);
                ended.kept.saturating_sub(self.kept) > room / GROWTH
                    || ended.blocks.saturating_sub(ended.kept) < ended.blocks / SHORT
            }
        };
        let is_whole = if self.stress {
            self.count.is_multiple_of(STRESS_WHOLE)
        } else {
            let are_few = ended.old_bytes < ended.live_bytes / FEW;
            !self.pays || self.rest > 0 || is_full || are_few
        };
        if is_whole || !ended.is_remembered { CycleKind::Whole } else { CycleKind::Young }
    }

    fn judge(&mut self, ended: Ended) {
        self.pays = self.is_worth(ended.freed, ended.spent);
        self.last_rest = if self.pays { 0 } else { (LONGER * self.last_rest).clamp(1, LONGEST) };
        self.rest = self.last_rest;
    }

    /// Whether a young cycle that frees so many blocks in so much time is worth more than the last
    /// whole one was.
    fn is_worth(&self, freed: usize, spent: Duration) -> bool {
        // Where neither has freed anything it is not.
        freed as f64 * self.spent.as_secs_f64() > BETTER * self.freed as f64 * spent.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: usize = 1000;
    const MS: Duration = Duration::from_millis(1);

    /// 100 blocks' worth of bytes live, half of them old; a young cycle marks 10 blocks' worth.
    fn young(freed: usize, spent: u32, kept: usize) -> Ended {
        Ended {
            kind: CycleKind::Young,
            freed,
            freed_young: freed,
            spent: spent * MS,
            live_bytes: 100 << 16,
            young_bytes: 10 << 16,
            old_bytes: 50 << 16,
            allocated: 400,
            kept,
            blocks: BLOCKS,
            is_remembered: true,
        }
    }

    fn whole(freed: usize, freed_young: usize, kept: usize) -> Ended {
        Ended { kind: CycleKind::Whole, freed_young, ..young(freed, 10, kept) }
    }

    #[test]
    fn without_generations_all_cycles_are_whole() {
        let mut choice = Choice::new(false, false);
        assert_eq!((choice.first(), choice.next(whole(400, 400, 100))), (CycleKind::Whole, CycleKind::Whole));
    }

    #[test]
    fn young_cycles_go_on_until_what_they_leave_has_grown() {
        let mut choice = Choice::new(true, false);
        assert_eq!(choice.first(), CycleKind::Whole, "nothing is old");
        assert_eq!(choice.next(whole(400, 380, 400)), CycleKind::Young);
        let kinds: Vec<_> = (1..8).map(|count| choice.next(young(380, 1, 400 + 50 * count))).collect();
        assert_eq!(kinds[5..], [CycleKind::Young, CycleKind::Whole], "50 blocks a cycle, and 300 may come");
        assert!(kinds[..6].iter().all(|&kind| kind == CycleKind::Young));
        assert_eq!(choice.next(whole(700, 380, 800)), CycleKind::Young);
        assert_eq!(choice.next(young(380, 1, 876)), CycleKind::Whole, "memory is short");
    }

    /// A whole cycle that frees by evacuation what a young one would not: the program is recognised
    /// before a young cycle has run, and nothing is remembered.
    #[test]
    fn objects_that_die_at_random_are_recognised_by_whole_cycles() {
        let mut choice = Choice::new(true, false);
        assert!(!choice.expects_young(), "as long as nothing is known");
        for _ in 0..10 {
            assert_eq!(choice.next(Ended { young_bytes: 30 << 16, ..whole(300, 20, 600) }), CycleKind::Whole);
            assert!(!choice.expects_young());
        }
        // Until most of what it frees is young.
        let ended = |is_remembered| Ended { is_remembered, ..whole(300, 200, 600) };
        assert_eq!(choice.next(ended(false)), CycleKind::Whole, "what it would need is not remembered");
        assert!(choice.expects_young());
        assert_eq!(choice.next(ended(true)), CycleKind::Young);
    }

    /// As a heap is filled: there is no garbage, and so nothing to be expected of young cycles.
    #[test]
    fn a_cycle_that_frees_nothing_gives_no_prospect() {
        let mut choice = Choice::new(true, false);
        for freed in [0, 0, 300] {
            let ended = Ended { young_bytes: 100 << 16, ..whole(freed, 0, 600) };
            assert_eq!(choice.next(ended), CycleKind::Whole);
            assert!(!choice.expects_young(), "{freed} blocks freed");
        }
    }

    /// In prospect they pay, and they never do: they become rare.
    #[test]
    fn young_cycles_that_free_little_become_rare() {
        let mut choice = Choice::new(true, false);
        let (mut kind, mut tries, mut prospects) = (choice.next(whole(400, 380, 400)), 0, 0);
        for _ in 0..400 {
            prospects += u32::from(choice.expects_young());
            kind = match kind {
                CycleKind::Young => {
                    tries += 1;
                    choice.next(young(20, 5, 400))
                }
                _ => choice.next(whole(400, 380, 400)),
            };
        }
        assert!((6..12).contains(&tries), "{tries}");
        assert!(prospects <= 2 * tries + 2, "{prospects}");
        while kind == CycleKind::Whole {
            kind = choice.next(whole(400, 380, 400));
        }
        assert_eq!(choice.next(young(300, 2, 400)), CycleKind::Young, "until one pays");
    }

    /// What an idle heap or a request makes run says nothing.
    #[test]
    fn cycles_without_allocation_before_them_tell_nothing() {
        let mut choice = Choice::new(true, false);
        assert_eq!(choice.next(Ended { allocated: 3, ..whole(50, 50, 400) }), CycleKind::Whole);
        assert_eq!(choice.next(whole(400, 380, 400)), CycleKind::Young);
        assert_eq!(choice.next(Ended { allocated: 3, ..whole(50, 1, 400) }), CycleKind::Young);
        assert_eq!(choice.next(Ended { allocated: 3, ..young(0, 1, 400) }), CycleKind::Young);
    }

    #[test]
    fn where_little_is_old_cycles_are_whole() {
        let mut choice = Choice::new(true, false);
        assert_eq!(choice.next(Ended { old_bytes: 12 << 16, ..whole(400, 400, 400) }), CycleKind::Whole);
        assert_eq!(choice.next(Ended { old_bytes: 13 << 16, ..whole(400, 400, 400) }), CycleKind::Young);
    }

    #[test]
    fn stress_mixes_both_kinds() {
        let mut choice = Choice::new(true, true);
        assert_eq!(choice.first(), CycleKind::Young);
        let mut kinds = (0..8).map(|_| choice.next(young(0, 10, 1000)));
        assert_eq!(kinds.by_ref().take(3).filter(|&kind| kind == CycleKind::Young).count(), 3);
        assert_eq!(kinds.next(), Some(CycleKind::Whole));
    }
}
