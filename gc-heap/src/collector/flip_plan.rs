//! Relocation with the page barrier, after Kermany and Petrank's Compressor (PLDI 2006):
//! destinations fixed in advance, one flip, then every page repaired (`flip`).
//!
//! Any thread can produce any page, because the plan says where each object of the set goes and
//! which source object is the first of each destination page. Destinations are free blocks withheld
//! at the plan: `D` of them hold the objects of `D / r` source blocks of density `r` and so gain
//! `D (1/r - 1)` blocks.

use crate::collector::evacuation_set::{EvacuationGoal, cancel_forwarding, choose, forward, movable_bytes};
use crate::inner::HeapInner;
use crate::inner::pacing::ENOUGH_FREE;
use crate::space::blocks::BlockState;
use crate::space::pages::Pages;
use crate::space::{BLOCK_BYTES, Block, Offset, Page};
use gc_core::zeroed::with_room_for_one;
use std::sync::atomic::Ordering;

/// The plan of a flip.
#[derive(Default)]
pub(crate) struct FlipPlan {
    /// The sources in the order of evacuation, each with the index of the last destination that
    /// receives objects of it.
    pub(crate) sources: Vec<(Block, usize)>,
    pub(crate) destinations: Vec<Block>,
    /// Which destinations are repaired.
    pub(super) done: Vec<bool>,
    /// Whether the flip gains little for lack of destinations, so that another flip with the gained
    /// memory gains more.
    pub(crate) again: bool,
}

/// Result of planning.
pub(crate) enum FlipDecision {
    Flip(FlipPlan),
    /// No relocation: dead blocks are enough, or there is nothing to gain.
    Nothing,
    /// A gain is possible, but no destination block is free: only a stop-the-world compaction,
    /// which reuses each block as soon as it is empty, can free memory.
    NoRoom,
}

/// Fraction of the free blocks kept for mutators until the first evacuated block is free.
const MUTATOR_SHARE: usize = 8;

/// Minimum gain of a partial flip, because a flip repairs every live page; below it, flip again or
/// compact in a pause.
const MIN_GAIN: usize = 64;

/// Fraction of the blocks that do not last that is withheld from mutators while dead memory has to
/// be gained by flips: the destinations of the next flip. Sources of density `r` then gain
/// `1/r - 1` times as much, each time.
const KEPT: usize = 4;

/// Fraction of the free blocks at the end of a cycle that is never withheld: otherwise waiting
/// threads would not be served.
const GIVEN: usize = 4;

/// Number of blocks to withhold for the next flip: none if dead blocks alone are enough, and no
/// more than it may fill, by what the last plan could have moved.
fn destinations(inner: &HeapInner, pages: &Pages, lasting_bytes: u64) -> usize {
    let blocks = inner.memory.max_blocks();
    let gainable = blocks.saturating_sub(lasting_bytes as usize / BLOCK_BYTES);
    if inner.memory.free.free() >= gainable / 100 * ENOUGH_FREE {
        return 0;
    }
    (gainable / KEPT).min(pages.most_destinations(blocks))
}

/// At the end of a cycle: withholds from mutators the blocks that the next flip needs, as far as
/// they can be spared.
pub(crate) fn keep_for_the_next(inner: &HeapInner, pages: &Pages, lasting_bytes: u64) {
    let free = inner.memory.free.free();
    inner.memory.free.keep(destinations(inner, pages, lasting_bytes).min(free - free / GIVEN));
}

/// Selects the evacuation set and fixes every destination.
pub(crate) fn plan_flip(inner: &HeapInner, pages: &Pages, goal: EvacuationGoal, lasting_bytes: u64) -> FlipDecision {
    // Released sources are reserved for the next plan until that has enough; finally mutators get
    // their share of the free blocks.
    pages.moved.store(movable_bytes(inner).div_ceil(BLOCK_BYTES) as u32, Ordering::Relaxed);
    inner.memory.free.keep(destinations(inner, pages, lasting_bytes));
    let set = choose(inner, goal, lasting_bytes);
    if set.is_empty() {
        return FlipDecision::Nothing;
    }
    if pages.gate.is_private() && inner.world.pins.load(Ordering::SeqCst) != 0 {
        // Pinned objects must stay mapped, and there is no other view of them.
        return without_a_flip(inner);
    }
    let live = |set: &[Block]| set.iter().map(|&block| inner.memory.blocks.live_bytes(block) as usize).sum::<usize>();
    let wanted = live(&set).div_ceil(BLOCK_BYTES);
    pages.density.store((wanted * 1000 / set.len()) as u32, Ordering::Relaxed);
    pages.moved.store(wanted as u32, Ordering::Relaxed);
    if !gains(inner, set.len(), wanted) {
        return FlipDecision::Nothing;
    }
    // The withheld blocks may be used without a share for mutators.
    let free = inner.memory.free.free();
    let most = free - (free / MUTATOR_SHARE).min(free.saturating_sub(inner.memory.free.kept()));
    let mut filler = DestinationPacker { inner, pages, most, plan: FlipPlan::default(), tops: Vec::new() };
    for &block in &set {
        if !filler.takes_in(block) {
            break;
        }
    }
    let (heap, got) = (inner.memory.max_blocks(), filler.plan.sources.len());
    let gained = got.saturating_sub(filler.plan.destinations.len());
    filler.plan.again = got < set.len() && gained < heap / MIN_GAIN && gained < (set.len() - wanted) / 4;
    if filler.plan.again && gained == 0 {
        abandon(inner, filler.plan);
        return FlipDecision::NoRoom;
    }
    if filler.plan.sources.iter().any(|&(block, _)| inner.memory.blocks.is_pinned(block)) {
        // Pinned since the selection: the pause will find the plan aborted, and the next plan
        // excludes the block.
        inner.world.plan_aborted.store(true, Ordering::SeqCst);
    }
    if let Err(error) = pages.end_registration().and_then(|()| pages.gate.prepare()) {
        inner.report.refusals.note(error);
        // The process is at a limit on mappings or addresses, or the kernel is short of memory. The
        // flip's calls would fail as well, some of them after the kernel has unmapped the range to
        // replace.
        abandon(inner, filler.plan);
        inner.report.counters.plans_abandoned.add(1);
        return without_a_flip(inner);
    }
    filler.finish().map_or(FlipDecision::Nothing, FlipDecision::Flip)
}

/// Fallback when a flip is impossible: stop-the-world compaction, if memory is low.
pub(crate) fn without_a_flip(inner: &HeapInner) -> FlipDecision {
    if inner.memory.free.free() < inner.memory.max_blocks() / MUTATOR_SHARE {
        FlipDecision::NoRoom
    } else {
        FlipDecision::Nothing
    }
}

/// Whether this many destinations for this many sources gain memory. Stress mode always moves.
fn gains(inner: &HeapInner, sources: usize, destinations: usize) -> bool {
    sources > destinations || inner.config.stress.is_on()
}

/// Fills destination blocks, one object after another.
struct DestinationPacker<'a> {
    inner: &'a HeapInner,
    pages: &'a Pages,
    most: usize,
    plan: FlipPlan,
    /// Filled bytes of each destination.
    tops: Vec<usize>,
}

impl DestinationPacker<'_> {
    /// Adds a block to the set, if the remaining destinations certainly suffice for it.
    fn takes_in(&mut self, block: Block) -> bool {
        // A block's objects may fill the last destination and one more, and may not pack as well as
        // in the block.
        if self.plan.destinations.len() + 2 > self.most {
            return false;
        }
        let (count, top) = (self.tops.len(), self.tops.last().copied().unwrap_or(0));
        let room = with_room_for_one(&mut self.plan.sources).and_then(|()| forward(self.inner, block));
        if self.inner.did_without(room).is_none() {
            return false;
        }
        if let Some(&(before, _)) = self.plan.sources.last() {
            self.pages.set_next_source(before, Some(block));
        }
        self.pages.set_next_source(block, None);
        let inner = self.inner;
        let forwarding = inner.memory.forwarding.of_block(block).expect("made above");
        for (granule, entry) in forwarding.iter() {
            let from = block.granule(granule);
            let (_, bytes) = inner.marked_object(from.offset());
            let Some(to) = self.place(bytes) else {
                // Destinations ran out although enough were free: other threads allocated them, or
                // there is no memory for the plan. The set ends before this block.
                self.drop_last(block, count, top);
                return false;
            };
            entry.set(to.granule());
            for page in Page::range(Page::holding(to, bytes)) {
                if self.pages.first(page).is_none() {
                    self.pages.set_first(page, from);
                }
            }
        }
        let last = self.plan.destinations.len().saturating_sub(1);
        self.plan.sources.push((block, last));
        true
    }

    fn place(&mut self, bytes: usize) -> Option<Offset> {
        if self.tops.last().is_none_or(|&top| top + bytes > BLOCK_BYTES) {
            let FlipPlan { destinations, done, .. } = &mut self.plan;
            let room = with_room_for_one(destinations)
                .and_then(|()| with_room_for_one(&mut self.tops))
                .and_then(|()| with_room_for_one(done));
            self.inner.did_without(room)?;
            let block = self.inner.memory.free.take_destination()?;
            self.pages.forget_first(block);
            self.plan.destinations.push(block);
            self.plan.done.push(false);
            self.tops.push(0);
        }
        let (block, top) = (self.plan.destinations.last()?, self.tops.last_mut()?);
        let to = block.start() + *top;
        *top += bytes;
        Some(to)
    }

    /// Removes a block whose destinations could not all be fixed from the set, and its objects from
    /// the destinations, of which there were `count`, the last filled up to `top`.
    fn drop_last(&mut self, block: Block, count: usize, top: usize) {
        let inner = self.inner;
        cancel_forwarding(inner, block);
        if let Some(&(before, _)) = self.plan.sources.last() {
            self.pages.set_next_source(before, None);
        }
        inner.memory.free.return_destinations(self.plan.destinations.drain(count..));
        self.plan.done.truncate(count);
        self.tops.truncate(count);
        if let Some(last) = self.tops.last_mut() {
            *last = top;
            let destination = self.plan.destinations[count - 1];
            let kept = Page::holding(destination.start(), top);
            self.pages.forget_first_of(kept.end..destination.pages().end);
        }
    }

    fn finish(self) -> Option<FlipPlan> {
        let (inner, plan) = (self.inner, self.plan);
        if plan.sources.is_empty() || !gains(inner, plan.sources.len(), plan.destinations.len()) {
            abandon(inner, plan);
            return None;
        }
        for (&block, &top) in plan.destinations.iter().zip(&self.tops) {
            inner.memory.blocks.set_live_bytes(block, 0);
            inner.memory.blocks.set_used_bytes(block, top);
            inner.memory.begin_use(block, BlockState::EvacuationTarget, inner.world.phase.epoch());
        }
        Some(plan)
    }
}

/// Undoes a plan. No flip has happened.
pub(crate) fn abandon(inner: &HeapInner, plan: FlipPlan) {
    for (block, _) in plan.sources {
        cancel_forwarding(inner, block);
    }
    for &block in &plan.destinations {
        inner.memory.end_use(block);
    }
    inner.memory.free.return_destinations(plan.destinations.into_iter());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, PauseKind};
    use crate::{AllocSize, Backing, Barrier, Bytes, Heap, Mutator};

    /// What is dead is so in whole blocks. Were a quarter of the memory withheld for flips that
    /// never come, threads would wait for it, and cycles would follow one another.
    #[test]
    fn nothing_is_withheld_where_nothing_can_be_moved() {
        let builder = Heap::builder().max_bytes(64 << 20).barrier(Barrier::Page);
        let Ok(heap) = builder.build() else { return };
        let inner = heap.inner();
        heap.enter(|m| {
            let fill = |m: &mut Mutator<'_>, free: usize| {
                while inner.memory.free.free() > free {
                    m.reserve(AllocSize::tail::<Bytes>(1000)).unwrap().place_bytes::<Bytes>((), &[1; 1000]);
                }
            };
            inner.schedule.requests.set_trigger(0, 0, 0);
            fill(m, 400);
            m.collect();
            inner.schedule.requests.set_trigger(0, 0, 0);
            // As if a cycle had ended now.
            fill(m, 400);
            let pages = inner.relocation.state().downcast_ref::<Pages>().unwrap();
            keep_for_the_next(inner, pages, inner.memory.free.live_bytes());
            let (kept, blocks) = (inner.memory.free.kept() - inner.memory.free.reserve(), inner.memory.max_blocks());
            assert!(kept <= blocks / 64, "{kept} of {blocks} blocks");
            // Until a plan has found something, as much as could be.
            pages.moved.store(blocks as u32, Ordering::Relaxed);
            keep_for_the_next(inner, pages, inner.memory.free.live_bytes());
            assert!(inner.memory.free.kept() > blocks / 5);
        })
        .unwrap();
    }

    /// Nothing free but the reserve, nothing dead as a whole: each flip gains little, and room for
    /// the next. The destinations of one are young blocks to the next, which finds their objects
    /// where they are now.
    #[test]
    fn flips_of_one_cycle_gain_what_no_single_one_can() {
        type Table = crate::SlotArray<Option<Bytes>>;
        const LEN: usize = 200;
        const OBJECTS: usize = (48 << 20) / 100 * 65 / (LEN + 24);
        for backing in [Backing::Memfd, Backing::Anonymous] {
            let builder = Heap::builder().max_bytes(48 << 20).barrier(Barrier::Page).backing(backing).verify(true);
            let Ok(heap) = builder.build() else { continue };
            let inner = heap.inner();
            heap.enter(|m| {
                m.collect();
                // No cycle begins by itself.
                inner.schedule.requests.set_trigger(0, 0, 0);
                let table =
                    m.build::<Table>(AllocSize::tail::<Table>(OBJECTS), |m| m.place_array((), OBJECTS, None)).unwrap();
                let place = |m: &mut Mutator<'_>, index: usize| {
                    let m = m.reserve(AllocSize::tail::<Bytes>(LEN)).unwrap();
                    table.get(m).tail()[index].set(m, Some(m.place_bytes((), &[index as u8; LEN])));
                };
                (0..OBJECTS).for_each(|index| place(m, index));
                let mut random = 1_u64;
                while inner.memory.free.free() > inner.memory.free.reserve() + 2 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    place(m, random as usize % OBJECTS);
                }
                let (before, _) = (heap.stats(), heap.take_events());
                m.collect();
                let (after, (events, _)) = (heap.stats(), heap.take_events());
                assert_eq!((before.cycles, after.cycles, after.compactions), (1, 2, 0), "{after:?}");
                let is_flip = |event: &&Event| matches!(event, Event::Pause(pause) if pause.kind == PauseKind::Flip);
                let flips = events.iter().filter(is_flip).count();
                assert!(flips > 1, "{flips} flips");
                let free = inner.memory.free.free();
                assert!(free > inner.memory.max_blocks() / 32, "{free} blocks free after {flips} flips");
                let slots = table.get(m).tail().iter().enumerate();
                slots.for_each(|(index, slot)| assert_eq!(slot.get(m).unwrap().tail(), [index as u8; LEN]));
            })
            .unwrap();
        }
    }
}
