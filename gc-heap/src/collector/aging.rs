//! When promotion pays: it needs a flip, which makes every reference to a young object stale, and
//! without it each young cycle marks again what has survived before.
//!
//! That is to rent or to buy (Karlin, Manasse, Rudolph, Sleator: *Competitive Snoopy Caching*,
//! 1988). An aged block, one that was there before the last mark start, has been marked at least
//! once more than if it had been promoted at its first survival. The rent paid for what would be
//! promoted now is what marking it took each time but the first. When that amounts to the price of
//! a flip, it is bought: so marking again and flips together cost at most twice what the better of
//! the two would have, for whatever lives on. What has died meanwhile does not count.
//!
//! The costs are in instructions, counted by callgrind over binary-trees (objects of 24 bytes, one
//! reference to each): the marker takes 84 an object, and the visit of a promoted object as many
//! once its slots are read as the marker reads them; a slow path of a load, from the test that
//! fails to the healed word, takes 165. A slow path misses the cache where the marker prefetches,
//! and the program waits for it: so it counts double.

use crate::inner::HeapInner;
use crate::space::Block;
use crate::space::blocks::BlockState;
use crate::space::memory::Generations;

/// To mark an object.
const MARK: f64 = 84.0;

/// To visit the slots of an object that is promoted.
const VISIT: f64 = 84.0;

/// To resolve a stale reference.
const STALE: f64 = 330.0;

/// What a marking has found in young blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Survivors {
    /// Bytes that live there, and those of them in aged blocks.
    pub(super) bytes: u64,
    pub(super) aged_bytes: u64,
    /// Of aged blocks, what lives there now times the markings that it has been through but one.
    pub(super) rented_bytes: u64,
}

impl Survivors {
    /// Of the marking that has ended.
    pub(super) fn of(inner: &HeapInner) -> Survivors {
        let mut survivors = Survivors::default();
        if inner.memory.generations.is_some() {
            for block in inner.memory.blocks.all().filter(|&block| stays_young(inner, block)) {
                let live = u64::from(inner.memory.blocks.live_bytes(block));
                let times = u64::from(inner.age(block)).saturating_sub(1);
                survivors.bytes += live;
                survivors.aged_bytes += if times == 0 { 0 } else { live };
                survivors.rented_bytes += live * times;
            }
        }
        survivors
    }

    /// Whether a flip pays for the promotion of what has aged. `object_bytes`: of an object, on
    /// average. `roots`: references outside of objects.
    pub(super) fn pay_for_a_flip(&self, object_bytes: f64, roots: usize) -> bool {
        let objects = |bytes: u64| bytes as f64 / object_bytes.max(8.0);
        let rent = MARK * objects(self.rented_bytes);
        let price = STALE * (objects(self.bytes) + roots as f64) + VISIT * objects(self.aged_bytes);
        self.aged_bytes != 0 && rent >= price
    }
}

fn promotes_at_once(inner: &HeapInner) -> bool {
    inner.memory.generations.as_ref().is_some_and(Generations::promotes_at_once)
}

/// Whether the marking has found something alive in a young block of its own: it may be promoted
/// where it stands.
pub(super) fn stays_young(inner: &HeapInner, block: Block) -> bool {
    let blocks = &inner.memory.blocks;
    // The use first, as in `reclaim::free_dead`.
    matches!(blocks.state(block), BlockState::Closed | BlockState::LargeFirst)
        && !blocks.is_old(block)
        && inner.collects(block)
        && blocks.live_bytes(block) != 0
        && !inner.memory.forwarding.contains(block)
}

/// Whether a flip promotes a block where it stands.
pub(super) fn is_promoted(inner: &HeapInner, block: Block) -> bool {
    stays_young(inner, block) && (inner.age(block) >= 2 || promotes_at_once(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many cycles as pass before something that lives on is promoted, if so many bytes of what
    /// each cycle marks have aged.
    fn cycles_until_promoted(bytes: u64, aged_bytes: u64, roots: usize) -> Option<u64> {
        let survivors = |times| Survivors { bytes, aged_bytes, rented_bytes: aged_bytes * times };
        (1..10_000).find(|&times| survivors(times).pay_for_a_flip(24.0, roots))
    }

    #[test]
    fn the_less_has_aged_the_later_it_is_promoted() {
        assert_eq!(cycles_until_promoted(24_000, 24_000, 0), Some(5));
        assert_eq!(cycles_until_promoted(24_000, 12_000, 0), Some(9));
        assert_eq!(cycles_until_promoted(24_000, 240, 0), Some(394));
        assert_eq!(cycles_until_promoted(24_000, 24_000, 1000), Some(9), "roots become stale too");
        assert_eq!(cycles_until_promoted(24_000, 0, 0), None);
    }

    /// Nothing has aged that did not survive two markings.
    #[test]
    fn what_dies_before_its_second_marking_is_never_promoted() {
        assert!(!Survivors { bytes: 1 << 30, aged_bytes: 0, rented_bytes: 0 }.pay_for_a_flip(24.0, 0));
    }
}
