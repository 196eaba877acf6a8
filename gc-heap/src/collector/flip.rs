//! Relocation with the page barrier, after Kermany and Petrank's Compressor (PLDI 2006):
//! destinations fixed in advance, one flip, then every page repaired.
//!
//! Any thread can produce any page, because the plan says where each object of the set goes and
//! which source object is the first of each destination page. Destinations are free blocks withheld
//! at the plan: `D` of them hold the objects of `D / r` source blocks of density `r` and so gain
//! `D (1/r - 1)` blocks. A source is released as soon as the last destination page with objects of
//! it is repaired.

use crate::collector::evacuation_set::{EvacuationGoal, cancel_forwarding, choose, forward};
use crate::inner::HeapInner;
use crate::inner::pacing::ENOUGH_FREE;
use crate::lock::Mutex;
use crate::page::mapping::pages_with_objects;
use crate::roots::region::RootMemory;
use crate::space::blocks::BlockState;
use crate::space::free::AllocClass;
use crate::space::pages::Pages;
use crate::space::{BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES};
use gc_core::page_flip::Releaser;
use gc_core::sys::end_process;
use gc_core::units::Granule;
use gc_core::views::{InstallResult, MIN_SPAN};
use gc_core::zeroed::{push, with_room_for_one};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes restored with one move: a whole page of page tables, moved by writing one entry. The
/// kernel flushes translations on every processor that runs the program for each such entry (13
/// us), however many one call moves; so larger calls save nothing, and hold the memory map's lock
/// for longer.
const GIVE_BACK: usize = 2 << 20;

/// Mapped pages that restoring a 2 MiB chunk's page table may replace (the kernel unmaps each under
/// `mmap_lock`: 100 to 200 us for a few hundred). If there are more, the other pages are installed
/// instead.
const MAX_REPLACED: usize = 32;

/// Bytes of the from-view emptied with one call.
const EMPTY: usize = 64 << 20;

/// The plan of a flip.
#[derive(Default)]
pub(crate) struct FlipPlan {
    /// The sources in the order of evacuation, each with the index of the last destination that
    /// receives objects of it.
    pub(crate) sources: Vec<(usize, usize)>,
    pub(crate) destinations: Vec<usize>,
    /// Which destinations are repaired.
    done: Vec<bool>,
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

/// Number of blocks to withhold for the next flip: none if dead blocks alone are enough.
fn destinations(inner: &HeapInner, lasting_bytes: u64) -> usize {
    let gainable = inner.memory.blocks.len().saturating_sub(lasting_bytes as usize / BLOCK_BYTES);
    if inner.memory.free.free() >= gainable / 100 * ENOUGH_FREE { 0 } else { gainable / KEPT }
}

/// At the end of a cycle: withholds from mutators the blocks that the next flip needs, as far as
/// they can be spared.
pub(crate) fn keep_for_the_next(inner: &HeapInner, lasting_bytes: u64) {
    let free = inner.memory.free.free();
    inner.memory.free.keep(destinations(inner, lasting_bytes).min(free - free / GIVEN));
}

/// Selects the evacuation set and fixes every destination.
pub(crate) fn plan_flip(inner: &HeapInner, pages: &Pages, goal: EvacuationGoal, lasting_bytes: u64) -> FlipDecision {
    // Released sources are reserved for the next plan until that has enough; finally mutators get
    // their share of the free blocks.
    inner.memory.free.keep(destinations(inner, lasting_bytes));
    let set = choose(inner, goal, lasting_bytes);
    if set.is_empty() {
        return FlipDecision::Nothing;
    }
    if pages.gate.is_private() && inner.world.pins.load(Ordering::SeqCst) != 0 {
        // Pinned objects must stay mapped, and there is no other view of them.
        return without_a_flip(inner);
    }
    let live = |set: &[usize]| set.iter().map(|&block| inner.memory.blocks.live_bytes(block) as usize).sum::<usize>();
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
    let (heap, got) = (inner.memory.blocks.len(), filler.plan.sources.len());
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
    if inner.memory.free.free() < inner.memory.blocks.len() / MUTATOR_SHARE {
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
    fn takes_in(&mut self, block: usize) -> bool {
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
            let from = Granule::of_block(block, granule);
            let (_, bytes) = inner.marked_object(from.offset());
            let Some(to) = self.place(bytes) else {
                // Destinations ran out although enough were free: other threads allocated them, or
                // there is no memory for the plan. The set ends before this block.
                self.drop_last(block, count, top);
                return false;
            };
            entry.set(Granule::at(to));
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
            let FlipPlan { destinations, done, .. } = &mut self.plan;
            let room = with_room_for_one(destinations)
                .and_then(|()| with_room_for_one(&mut self.tops))
                .and_then(|()| with_room_for_one(done));
            self.inner.did_without(room)?;
            let block = self.inner.memory.free.take(AllocClass::Collector)?;
            self.pages.forget_first(block);
            self.plan.destinations.push(block);
            self.plan.done.push(false);
            self.tops.push(0);
        }
        let (block, top) = (self.plan.destinations.last()?, self.tops.last_mut()?);
        let to = block * BLOCK_BYTES + *top;
        *top += bytes;
        Some(to)
    }

    /// Removes a block whose destinations could not all be fixed from the set, and its objects from
    /// the destinations, of which there were `count`, the last filled up to `top`.
    fn drop_last(&mut self, block: usize, count: usize, top: usize) {
        let inner = self.inner;
        cancel_forwarding(inner, block);
        if let Some(&(before, _)) = self.plan.sources.last() {
            self.pages.set_next_source(before, None);
        }
        inner.memory.free.free_blocks(self.plan.destinations.drain(count..));
        self.plan.done.truncate(count);
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
    inner.memory.free.free_blocks(plan.destinations);
}

impl HeapInner {
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

/// Repairs and maps every page. On return no page is gated and the sources are free.
pub(crate) fn repair_all(inner: &HeapInner, pages: &Pages, plan: &mut FlipPlan, workers: usize) {
    // First the pages that running threads probably access next.
    for page in inner.root_pages().into_iter().flatten() {
        repair(inner, pages, page);
    }
    let current: Vec<usize> = inner.world.mutators.lock().iter().flat_map(|record| record.current_blocks()).collect();
    current.into_iter().for_each(|block| repair_pages_of(inner, pages, block));
    let FlipPlan { sources, destinations, done, .. } = plan;
    let releaser = Mutex::new(Releaser::new(sources, done));
    let next = AtomicUsize::new(0);
    inner.schedule.helpers.run_parallel(workers, || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(&block) = destinations.get(index) else { return };
            repair_pages_of(inner, pages, block);
            releaser.lock().repaired(index, |block| release(inner, block));
        }
    });
    let (heap, left) = (inner.config.max_bytes, pages.left());
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let restore = |pages: &Pages, range: Range<usize>| {
        if pages.restore_page_tables(inner, range).is_err() {
            failed.store(true, Ordering::Relaxed);
        }
    };
    let behind = Mutex::new(Vec::new());
    inner.schedule.helpers.run_parallel(workers, || {
        loop {
            let start = next.fetch_add(1, Ordering::Relaxed) * GIVE_BACK;
            if start >= heap {
                return;
            }
            // These blocks were not flipped.
            if left.contains(&start) {
                continue;
            }
            let end = (start + GIVE_BACK).min(heap);
            (start / BLOCK_BYTES..end / BLOCK_BYTES).for_each(|block| repair_pages_of(inner, pages, block));
            let range = start / PAGE_BYTES..end / PAGE_BYTES;
            if pages.gate.is_private() {
                install_all(inner, pages, range);
            } else if pages.installed(range.clone()) > MAX_REPLACED && push(&mut behind.lock(), start).is_ok() {
                pages.install(range);
            } else {
                restore(pages, start..end);
            }
        }
    });
    // Before the end: a thread may wait for that in a fault while it holds the lock of a table
    // of roots. Roots created by then have been accessed, so their pages are mapped.
    let (used, roots) = (inner.root_area(), inner.root_pages());
    pages.flip.end(|| {
        // From here on unclaimed pages, of new roots and of free blocks, are accessed without a
        // fault.
        if pages.gate.is_private() {
            roots.into_iter().for_each(|roots| install_all(inner, pages, roots));
        } else {
            used.iter().for_each(|used| restore(pages, used.clone()));
        }
        // Every page that holds an object or root is repaired. If the kernel refuses (for lack of
        // memory), the next plan tries again.
        pages.still_registered.store(true, Ordering::Relaxed);
        let _ = pages.end_registration().map_err(|error| inner.report.refusals.note(error));
    });
    if pages.gate.is_private() || failed.load(Ordering::Relaxed) {
        // Chunks that were not restored are still in the from-view, which must be empty before the
        // next flip.
        let [near, far] = used;
        for part in [0..near.end, far] {
            for start in part.clone().step_by(EMPTY) {
                let _ = pages.gate.discard_from_view(start, EMPTY.min(part.end - start));
            }
        }
    } else {
        let mut behind = behind.into_inner();
        behind.sort_unstable();
        for run in behind.chunk_by(|a, b| a + GIVE_BACK == *b).flat_map(|run| run.chunks(EMPTY / GIVE_BACK)) {
            let _ = pages.gate.discard_from_view(run[0], (run.len() * GIVE_BACK).min(heap - run[0]));
        }
    }
    for &block in destinations.iter() {
        // To another flip of this cycle these are young blocks, which it walks.
        pages.forget_first(block);
        inner.memory.blocks.set_state(block, BlockState::Closed);
    }
}

/// Panics, so that the collector fails and the flip does not end, if the page was abandoned: the
/// end would make it accessible.
fn repair(inner: &HeapInner, pages: &Pages, page: usize) {
    match pages.repair_or_wait(inner, page) {
        Ok(true) => inner.report.counters.pages_repaired.add(1),
        Ok(false) => {}
        Err(abandoned) => panic!("{abandoned}"),
    }
}

/// Repairs the pages of a block that hold objects, or waits for the threads that are repairing
/// them.
fn repair_pages_of(inner: &HeapInner, pages: &Pages, block: usize) {
    pages_with_objects(inner, block).for_each(|page| repair(inner, pages, page));
}

/// Frees a source of which no page is copied any more. At once: a stalled mutator takes the first
/// block freed.
fn release(inner: &HeapInner, block: usize) {
    inner.memory.blocks.set_live_bytes(block, 0);
    inner.memory.end_use(block);
    inner.memory.free.free_blocks([block]);
}

/// Private memory: moves pages back that would otherwise be lost with the from-view.
fn install_all(inner: &HeapInner, pages: &Pages, range: Range<usize>) {
    match pages.install_all(inner, range) {
        InstallResult::Present => {}
        // The only copy of the page would be lost.
        InstallResult::Refused(error) => end_process(format_args!("a page of the heap cannot be mapped: {error}")),
        InstallResult::NotGated => {
            inner.schedule.requests.fail("a page cannot be mapped: its range is not gated".into())
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
        assert!(inner.stop(VmOperation::RelocateStart, PauseKind::Flip));
        let pages = inner.relocation.state().downcast_ref::<Pages>().unwrap();
        repair_all(inner, pages, &mut FlipPlan::default(), 1);
        inner.handshake();
    }

    /// The block that the next small object lies in.
    fn next_block(m: &mut Mutator<'_>) -> usize {
        let m = m.reserve(AllocSize::tail::<Bytes>(8)).unwrap();
        let object: Gc<'_, Bytes> = m.place_bytes((), &[1; 8]);
        m.inner().memory.space.offset(<Bytes as SlotType>::to_word(object)) as usize / BLOCK_BYTES
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

    /// A repair that panics leaves a page in which some references are updated and some are not. A
    /// mutator that waits for the page would sleep for ever, and the thread that ends the flip
    /// would make the page accessible.
    #[test]
    fn a_page_that_is_abandoned_stays_gated_and_keeps_nobody_waiting() {
        for backing in [Backing::Memfd, Backing::Anonymous] {
            let builder = Heap::builder().max_bytes(MIN_HEAP_BYTES).barrier(Barrier::Page).backing(backing);
            let Ok(heap) = builder.build() else { continue };
            let inner = heap.inner();
            heap.enter(|m| {
                let page = next_block(m) * BLOCK_PAGES;
                m.blocking(|| {
                    assert!(inner.stop(VmOperation::RelocateStart, PauseKind::Flip));
                    let pages = inner.relocation.state().downcast_ref::<Pages>().unwrap();
                    drop(pages.states.claim(page, pages.flip.get()).unwrap());
                    let abandoned = std::thread::scope(|scope| {
                        let waiter = scope.spawn(|| pages.repair_or_wait(inner, page));
                        waiter.join().unwrap().unwrap_err()
                    });
                    assert_eq!(abandoned.page(), page);
                    let repaired =
                        std::panic::AssertUnwindSafe(|| repair_all(inner, pages, &mut FlipPlan::default(), 1));
                    let panic = std::panic::catch_unwind(repaired).unwrap_err();
                    assert_eq!(panic.downcast_ref::<String>(), Some(&abandoned.to_string()));
                    assert!(pages.flip.is_active(), "a half-repaired page was made accessible");
                });
            })
            .unwrap();
        }
    }

    /// Past its fill nobody claims the pages of a TLAB, and they may come back unclaimed while the
    /// flip goes on. A thread that claimed one then (to lend what is there) would repair what was
    /// allocated after the flip.
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
                // As above, with a thread that runs.
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
