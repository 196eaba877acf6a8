//! Relocation with the page barrier: destinations fixed in advance, one flip, then every page repaired.
//!
//! Any thread can produce any page, because the plan says where each object of the set goes and which source object is the
//! first of each destination page. Destinations are free blocks withheld at plan: `D` of them take in sources of density
//! `r` worth `D / r` blocks and so gain `D (1/r - 1)`. A source is released as soon as the last destination page that is
//! copied from it is repaired.

use crate::collector::evacuation_set::{EvacuationGoal, cancel_forwarding, choose, forward};
use crate::inner::HeapInner;
use crate::inner::pacing::ENOUGH_FREE;
use crate::lock::Mutex;
use crate::object::header::object_bytes;
use crate::roots::region::RootMemory;
use crate::space::blocks::BlockState;
use crate::space::free::AllocClass;
use crate::space::pages::Pages;
use crate::space::{BLOCK_BYTES, BLOCK_GRANULES, BLOCK_PAGES, PAGE_BYTES};
use gc_core::sys::end_process;
use gc_core::views::{GIB, InstallResult, MIN_SPAN};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes given back with one move: a whole page of page tables, moved by writing one entry. The kernel flushes translations
/// on every processor that runs the program for each such entry (13 us), however many one call moves; so larger calls
/// save nothing, and hold the memory map's lock for longer.
const GIVE_BACK: usize = 2 << 20;

/// Pages of such a piece that are in already and that giving it back may replace: the kernel unmaps each of them first, and
/// all of that with the memory map locked (100 to 200 us for a few hundred). Where there are more, the rest is let in.
const MAX_REPLACED: usize = 32;

/// Bytes of the from-view emptied with one call, where that has to be done.
const EMPTY: usize = 64 << 20;

/// What a flip will do.
#[derive(Default)]
pub(crate) struct FlipPlan {
    /// In the order of evacuation, each with the last destination (index) that takes something of it in.
    pub(crate) sources: Vec<(usize, usize)>,
    pub(crate) destinations: Vec<usize>,
    /// It gains little because there is little room to copy to: with what it gains there is more for another one.
    pub(crate) again: bool,
}

/// What planning came to.
pub(crate) enum FlipDecision {
    Flip(FlipPlan),
    /// Dead blocks are enough, or there is nothing to gain.
    Nothing,
    /// There is something to gain, and not a block of free memory to gain it with: only a compaction in a stop, which uses each
    /// block again as soon as it is empty, gets out of this.
    NoRoom,
}

/// Of the free blocks, one in so many is left to mutators until the first sources are released.
const MUTATOR_SHARE: usize = 8;

/// A flip repairs every live page. Less than this part of the heap gained does not pay for that where much more is to
/// be had with room to copy to.
const MIN_GAIN: usize = 64;

/// One in so many blocks that hold nothing live is kept from mutators while the memory that dies has to be gained by flips: the
/// destinations of the next one. Sources of density `r` then give `1/r - 1` times as much, over and over.
const KEPT: usize = 4;

/// Of what is free at the end of a cycle, one block in so many is not kept: else those who wait would not be served.
const GIVEN: usize = 4;

/// Blocks to keep for the next flip: none where dead blocks alone are enough.
fn destinations(inner: &HeapInner, live_bytes: u64) -> usize {
    let not_live = inner.memory.blocks.len().saturating_sub(live_bytes as usize / BLOCK_BYTES);
    if inner.memory.free.free() >= not_live / 100 * ENOUGH_FREE { 0 } else { not_live / KEPT }
}

/// At the end of a cycle: keeps from mutators what the next flip needs, and no more than can be spared.
pub(crate) fn keep_for_the_next(inner: &HeapInner, live_bytes: u64) {
    let free = inner.memory.free.free();
    inner.memory.free.keep(destinations(inner, live_bytes).min(free - free / GIVEN));
}

/// Chooses the set and fixes every destination.
pub(crate) fn plan_flip(inner: &HeapInner, pages: &Pages, goal: EvacuationGoal, live_bytes: u64) -> FlipDecision {
    // What the sources give is for the next plan first, until that has enough; in the end mutators get their part of what there is.
    inner.memory.free.keep(destinations(inner, live_bytes));
    let set = choose(inner, goal, live_bytes);
    if set.is_empty() {
        return FlipDecision::Nothing;
    }
    if pages.gate.is_private() && inner.world.pins.load(Ordering::SeqCst) != 0 {
        // What is pinned must stay mapped, and there is no other view to lend it through.
        return without_a_flip(inner);
    }
    let live = |set: &[usize]| set.iter().map(|&block| inner.memory.blocks.live_bytes(block) as usize).sum::<usize>();
    let wanted = live(&set).div_ceil(BLOCK_BYTES);
    pages.density.store((wanted * 1000 / set.len()) as u32, Ordering::Relaxed);
    pages.moved.store(wanted as u32, Ordering::Relaxed);
    if !gains(inner, set.len(), wanted) {
        return FlipDecision::Nothing;
    }
    // What is kept from mutators need not be left to them.
    let free = inner.memory.free.free();
    let most = free - (free / MUTATOR_SHARE).min(free.saturating_sub(inner.memory.free.kept()));
    let mut filler = DestinationPacker { inner, pages, most, plan: FlipPlan::default(), tops: Vec::new() };
    for &block in &set {
        if !filler.takes_in(block) {
            break;
        }
    }
    let (heap, got) = (inner.memory.blocks.len(), filler.plan.sources.len());
    let gained = got.saturating_sub(filler.plan.destinations.len());
    filler.plan.again = got < set.len() && gained < heap / MIN_GAIN && gained < (set.len() - wanted) / 4;
    if filler.plan.again && gained == 0 {
        abandon(inner, filler.plan);
        return FlipDecision::NoRoom;
    }
    if filler.plan.sources.iter().any(|&(block, _)| inner.memory.blocks.is_pinned(block)) {
        // Pinned since the choice: the stop will find the plan spoiled, and the next one leaves the block out.
        inner.world.plan_aborted.store(true, Ordering::SeqCst);
    }
    if let Err(error) = pages.end_registration().and_then(|()| pages.gate.prepare()) {
        inner.report.refusals.note(error);
        // The process is at a limit on mappings or addresses, or the kernel is short of memory. What the flip does would fail
        // there too, some of it when the kernel has already unmapped what it was to replace.
        abandon(inner, filler.plan);
        inner.report.counters.plans_abandoned.add(1);
        return without_a_flip(inner);
    }
    filler.finish().map_or(FlipDecision::Nothing, FlipDecision::Flip)
}

/// Where there is much to gain, and no flip to be had: a compaction in a stop, but only when memory is short.
pub(crate) fn without_a_flip(inner: &HeapInner) -> FlipDecision {
    if inner.memory.free.free() < inner.memory.blocks.len() / MUTATOR_SHARE {
        FlipDecision::NoRoom
    } else {
        FlipDecision::Nothing
    }
}

/// Whether so many destinations for so many sources give memory back. The stress mode moves for the sake of moving.
fn gains(inner: &HeapInner, sources: usize, destinations: usize) -> bool {
    sources > destinations || inner.config.stress.is_on()
}

/// Fills destination blocks, one object after another.
struct DestinationPacker<'a> {
    inner: &'a HeapInner,
    pages: &'a Pages,
    most: usize,
    plan: FlipPlan,
    /// Bytes of each destination that are filled.
    tops: Vec<usize>,
}

impl DestinationPacker<'_> {
    /// Adds a block to the set, if the destinations left are sure to suffice for it.
    fn takes_in(&mut self, block: usize) -> bool {
        // What a block holds may fill the last destination and one more, and may not pack as well as it did.
        if self.plan.destinations.len() + 2 > self.most {
            return false;
        }
        let (count, top) = (self.tops.len(), self.tops.last().copied().unwrap_or(0));
        forward(self.inner, block);
        if let Some(&(before, _)) = self.plan.sources.last() {
            self.pages.set_next_source(before, Some(block));
        }
        self.pages.set_next_source(block, None);
        let inner = self.inner;
        let forwarding = inner.memory.forwarding.of_block(block).expect("made above");
        for (granule, entry) in forwarding.iter() {
            let from = block * BLOCK_GRANULES + granule;
            let header = inner.memory.word(from * 8).load(Ordering::Relaxed);
            // SAFETY: a marked object's header; the block is closed and its memory is not reused while it is planned.
            let bytes = unsafe { object_bytes(header, || inner.memory.word(from * 8 + 8).load(Ordering::Relaxed)) };
            let Some(to) = self.place(bytes) else {
                // Destinations ran out although enough were free: others took them. The set ends before this block.
                self.drop_last(block, count, top);
                return false;
            };
            entry.set(to / 8);
            for page in to / PAGE_BYTES..=(to + bytes - 1) / PAGE_BYTES {
                if self.pages.first(page).is_none() {
                    self.pages.set_first(page, from);
                }
            }
        }
        let last = self.plan.destinations.len().saturating_sub(1);
        self.plan.sources.push((block, last));
        true
    }

    fn place(&mut self, bytes: usize) -> Option<usize> {
        if self.tops.last().is_none_or(|&top| top + bytes > BLOCK_BYTES) {
            let block = self.inner.memory.free.take(AllocClass::Collector)?;
            self.pages.forget_first(block);
            self.plan.destinations.push(block);
            self.tops.push(0);
        }
        let (block, top) = (self.plan.destinations.last()?, self.tops.last_mut()?);
        let to = block * BLOCK_BYTES + *top;
        *top += bytes;
        Some(to)
    }

    /// Takes the block whose destinations could not all be fixed out of the set, and its objects out of the destinations,
    /// of which there were `count`, the last filled up to `top`.
    fn drop_last(&mut self, block: usize, count: usize, top: usize) {
        let inner = self.inner;
        cancel_forwarding(inner, block);
        if let Some(&(before, _)) = self.plan.sources.last() {
            self.pages.set_next_source(before, None);
        }
        inner.memory.free.give(self.plan.destinations.drain(count..));
        self.tops.truncate(count);
        if let Some(last) = self.tops.last_mut() {
            *last = top;
            let destination = self.plan.destinations[count - 1];
            self.pages.forget_first_from(destination * BLOCK_PAGES + top.div_ceil(PAGE_BYTES), destination);
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
            inner.memory.blocks.set_allocation_epoch(block, inner.world.phase.epoch());
            inner.memory.blocks.set_state(block, BlockState::EvacuationTarget);
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
        inner.memory.blocks.set_allocation_epoch(block, 0);
        inner.memory.blocks.set_state(block, BlockState::Free);
    }
    inner.memory.free.give(plan.destinations);
}

impl HeapInner {
    /// The flip, in a stop. `false`: nothing was gated.
    pub(crate) fn flip(&self) -> bool {
        let Some(pages) = &self.memory.pages else { return false };
        if self.world.plan_aborted.load(Ordering::SeqCst)
            || (pages.gate.is_private() && self.world.pins.load(Ordering::SeqCst) != 0)
        {
            return false;
        }
        // Blocks that have never been taken. Nothing refers to them; who takes one now finds its pages there, or lets them in.
        let unused = self.memory.free.never_taken();
        let unused = unused.start * BLOCK_BYTES..unused.end * BLOCK_BYTES;
        // Small heaps have no GiB to leave; where it is not about time, they leave less.
        let unit = if self.config.stress.delay_one_in != 0 { MIN_SPAN } else { GIB };
        // SAFETY: mutators are stopped; the faults of those that will touch the view are served.
        let left = match unsafe { pages.gate.flip(unused, unit) } {
            Ok(left) => left,
            Err(refused) => {
                // Those who fault because of it are served.
                pages.still_registered.store(refused.still_registered, Ordering::Relaxed);
                pages.refused.store(true, Ordering::Relaxed);
                self.report.refusals.note(*refused.error);
                return false;
            }
        };
        pages.set_left(&left);
        pages.flip.begin();
        if self.config.verify
            && let Ok(present @ 1..) = pages.gate.present_pages(&left)
        {
            self.schedule.requests.fail(format!("verification: {present} pages do not fault after a flip"));
        }
        true
    }

    /// Offsets of the parts of the heap's file that may hold roots, in whole pages of page tables.
    fn root_area(&self) -> [Range<usize>; 2] {
        let RootMemory::Gated(area) = &self.roots.memory else { return [0..0, 0..0] };
        area.used().map(|used| used.start..used.end.next_multiple_of(MIN_SPAN).min(self.memory.views.bytes()))
    }

    /// Pages that hold roots, in the heap's file.
    pub(crate) fn root_pages(&self) -> Vec<Range<usize>> {
        let mut pages = Vec::new();
        pages.extend(self.world.mutators.lock().iter().map(|record| record.local_pages()));
        pages.extend(self.roots.stacks.lock().iter().map(|stack| stack.pages()));
        pages.extend(self.roots.strong.pages());
        pages.extend(self.roots.weak.pages());
        pages.extend(self.roots.watched.pages());
        pages
    }
}

/// Brings every page back. On return no page is gated and the sources are free.
pub(crate) fn repair_all(inner: &HeapInner, pages: &Pages, plan: &FlipPlan, workers: usize) {
    // What running threads touch first.
    for page in inner.root_pages().into_iter().flatten() {
        repair(inner, pages, page);
    }
    let current: Vec<usize> = inner.world.mutators.lock().iter().flat_map(|record| record.current_blocks()).collect();
    current.into_iter().for_each(|block| repair_pages_of(inner, pages, block));
    let release = Mutex::new(Release { plan, done: vec![false; plan.destinations.len()], next: 0, released: 0 });
    let next = AtomicUsize::new(0);
    inner.schedule.helpers.run_parallel(workers, || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(&block) = plan.destinations.get(index) else { return };
            repair_pages_of(inner, pages, block);
            release.lock().repaired(inner, index);
        }
    });
    let (heap, left) = (inner.config.max_bytes, pages.left());
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let behind = Mutex::new(Vec::new());
    inner.schedule.helpers.run_parallel(workers, || {
        loop {
            let start = next.fetch_add(1, Ordering::Relaxed) * GIVE_BACK;
            if start >= heap {
                return;
            }
            // Nothing was taken away of this.
            if left.contains(&start) {
                continue;
            }
            let end = (start + GIVE_BACK).min(heap);
            (start / BLOCK_BYTES..end / BLOCK_BYTES).for_each(|block| repair_pages_of(inner, pages, block));
            let range = start / PAGE_BYTES..end / PAGE_BYTES;
            if pages.gate.is_private() {
                install_all(inner, pages, range);
            } else if pages.installed(range.clone()) > MAX_REPLACED {
                pages.let_in(range);
                behind.lock().push(start);
            } else {
                give_back(pages, start..end, &failed);
            }
        }
    });
    // Before the close: a thread may wait for the end in a fault, and hold the lock of a table of roots. Roots that are new
    // by then have been touched, and are in.
    let (used, roots) = (inner.root_area(), inner.root_pages());
    // From here on pages that nobody has claimed, of roots that are new and of free blocks, are used without a fault.
    pages.flip.close();
    if pages.gate.is_private() {
        roots.into_iter().for_each(|roots| install_all(inner, pages, roots));
    } else {
        used.iter().for_each(|used| give_back(pages, used.clone(), &failed));
    }
    // Every page that holds anything is repaired. Where the kernel refuses (it is short of memory), the next plan asks again.
    pages.still_registered.store(true, Ordering::Relaxed);
    let _ = pages.end_registration().map_err(|error| inner.report.refusals.note(error));
    pages.flip.end();
    if pages.gate.is_private() || failed.load(Ordering::Relaxed) {
        // What did not go back is still in the from-view, which must be empty before the next flip.
        let [near, far] = used;
        for part in [0..near.end, far] {
            for start in part.clone().step_by(EMPTY) {
                let _ = pages.gate.empty(start, EMPTY.min(part.end - start));
            }
        }
    } else {
        let mut behind = behind.into_inner();
        behind.sort_unstable();
        for run in behind.chunk_by(|a, b| a + GIVE_BACK == *b).flat_map(|run| run.chunks(EMPTY / GIVE_BACK)) {
            let _ = pages.gate.empty(run[0], (run.len() * GIVE_BACK).min(heap - run[0]));
        }
    }
    for &block in &plan.destinations {
        // Another flip of this cycle finds young blocks, in which it looks for what is there now.
        pages.forget_first(block);
        inner.memory.blocks.set_state(block, BlockState::Closed);
    }
}

fn repair(inner: &HeapInner, pages: &Pages, page: usize) {
    if pages.repair(inner, page) {
        inner.report.counters.pages_repaired.add(1);
    }
}

/// Repairs the pages of a block that hold something, or waits until who is at them has.
fn repair_pages_of(inner: &HeapInner, pages: &Pages, block: usize) {
    let bytes = match inner.memory.blocks.state(block) {
        BlockState::Free | BlockState::LargeUninitialized => return,
        // A source: nothing refers to it any more.
        BlockState::Closed if inner.memory.forwarding.of_block(block).is_some() => return,
        BlockState::Closed | BlockState::Open | BlockState::EvacuationTarget => inner.memory.blocks.used_bytes(block),
        BlockState::LargeFirst | BlockState::LargeContinued => BLOCK_BYTES,
    };
    let first = block * BLOCK_PAGES;
    (first..first + bytes.div_ceil(PAGE_BYTES)).for_each(|page| repair(inner, pages, page));
}

/// Private memory: brings pages back that would otherwise be lost with the from-view.
fn install_all(inner: &HeapInner, pages: &Pages, range: Range<usize>) {
    match pages.install_all(inner, range) {
        InstallResult::Present => {}
        // The only copy of what is in it would be lost.
        InstallResult::Refused(error) => end_process(format_args!("a page of a heap cannot be brought back: {error}")),
        InstallResult::NotGated => {
            inner.schedule.requests.fail("a page cannot be brought back: its range is not gated".into())
        }
    }
}

/// Gives page tables back. A range that the kernel refuses stays gated until the end of the flip; its pages are let in as
/// they are touched.
fn give_back(pages: &Pages, range: Range<usize>, failed: &AtomicBool) {
    // SAFETY: the pages that hold anything are repaired; of the others no byte has a meaning yet.
    if !range.is_empty() && unsafe { pages.gate.give_back(range.start, range.len()) }.is_err() {
        failed.store(true, Ordering::Relaxed);
    }
}

/// Which sources can be released.
struct Release<'a> {
    plan: &'a FlipPlan,
    done: Vec<bool>,
    /// Destinations before this one are repaired, sources before this one released.
    next: usize,
    released: usize,
}

impl Release<'_> {
    /// A destination is repaired: releases the sources that nothing is copied from any more.
    fn repaired(&mut self, inner: &HeapInner, index: usize) {
        self.done[index] = true;
        while self.done.get(self.next) == Some(&true) {
            self.next += 1;
        }
        while let Some(&(block, last)) = self.plan.sources.get(self.released)
            && last < self.next
        {
            inner.memory.blocks.set_live_bytes(block, 0);
            inner.memory.blocks.set_allocation_epoch(block, 0);
            inner.memory.blocks.set_state(block, BlockState::Free);
            // At once: a stalled mutator takes the first block freed.
            inner.memory.free.give([block]);
            self.released += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, PauseKind};
    use crate::inner::pending_pause::VmOperation;
    use crate::slot::SlotType;
    use crate::{AllocSize, Backing, Barrier, Bytes, Gc, Heap, MIN_HEAP_BYTES, Mutator};

    /// A flip that moves nothing, and what follows it.
    fn flip(inner: &HeapInner) {
        assert!(inner.stop(VmOperation::Flip, PauseKind::Flip));
        let pages = inner.memory.pages.as_ref().unwrap();
        repair_all(inner, pages, &FlipPlan::default(), 1);
        inner.handshake();
    }

    /// The block that the next small object lies in.
    fn next_block(m: &mut Mutator<'_>) -> usize {
        let m = m.reserve(AllocSize::tail::<Bytes>(8)).unwrap();
        let object: Gc<'_, Bytes> = m.place_bytes((), &[1; 8]);
        m.inner().memory.space.offset(<Bytes as SlotType>::to_word(object)) as usize / BLOCK_BYTES
    }

    /// Nothing free but the reserve, nothing dead as a whole: each flip gains little, and room for the next. The destinations of one are
    /// young blocks to the next, which finds their objects where they are now.
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
                inner.schedule.requests.set_trigger(0, 0);
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
                assert!(free > inner.memory.blocks.len() / 32, "{free} blocks free after {flips} flips");
                let slots = table.get(m).tail().iter().enumerate();
                slots.for_each(|(index, slot)| assert_eq!(slot.get(m).unwrap().tail(), [index as u8; LEN]));
            })
            .unwrap();
        }
    }

    /// Past its fill nobody claims the pages of a TLAB, and they may come back unclaimed while the flip goes on. Whoever
    /// claimed one then (to lend what is there) would repair what was allocated after the flip.
    #[test]
    fn a_tlab_that_was_open_at_a_flip_is_not_used_after_it() {
        for backing in [Backing::Memfd, Backing::Anonymous] {
            let builder = Heap::builder().max_bytes(MIN_HEAP_BYTES).barrier(Barrier::Page).backing(backing);
            // Where this machine refuses the page barrier there is nothing to test.
            let Ok(heap) = builder.build() else { continue };
            let inner = heap.inner();
            heap.enter(|m| {
                let first = next_block(m);
                assert_eq!(next_block(m), first);
                m.blocking(|| flip(inner));
                assert_eq!(inner.memory.blocks.state(first), BlockState::Closed);
                let second = next_block(m);
                assert_ne!(second, first);
                // The same of a thread that runs.
                std::thread::scope(|scope| {
                    let flips = scope.spawn(|| flip(inner));
                    while !flips.is_finished() {
                        m.safepoint();
                    }
                });
                assert_eq!(inner.memory.blocks.state(second), BlockState::Closed);
                assert_ne!(next_block(m), second);
            })
            .unwrap();
        }
    }
}
