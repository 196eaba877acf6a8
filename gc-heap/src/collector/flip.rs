//! From a flip to its end: every page is repaired and mapped again, and each source is released as
//! soon as the last destination page with objects of it is repaired. The plan is in `flip_plan`.

use super::flip_plan::FlipPlan;
use crate::inner::HeapInner;
use crate::lock::Mutex;
use crate::page::mapping::pages_with_objects;
use crate::roots::region::RootMemory;
use crate::space::blocks::BlockState;
use crate::space::pages::Pages;
use crate::space::{Block, Offset, Page};
use gc_core::page_flip::Releaser;
use gc_core::sys::end_process;
use gc_core::views::{HUGE_PAGE, InstallResult, MIN_SPAN};
use gc_core::zeroed::push;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes restored with one move: a whole page of page tables, moved by writing one entry. The
/// kernel flushes translations on every processor that runs the program for each such entry (13
/// us), however many one call moves; so larger calls save nothing, and hold the memory map's lock
/// for longer.
const GIVE_BACK: usize = HUGE_PAGE;

/// Mapped pages that restoring a 2 MiB chunk's page table may replace (the kernel unmaps each under
/// `mmap_lock`: 100 to 200 us for a few hundred). If there are more, the other pages are installed
/// instead.
const MAX_REPLACED: usize = 32;

/// Bytes of the from-view emptied with one call.
const EMPTY: usize = 64 << 20;

impl HeapInner {
    /// Offsets of the parts of the heap's file that may hold roots, in whole pages of page tables.
    fn root_area(&self) -> [Range<usize>; 2] {
        let RootMemory::Gated(area) = &self.roots.memory else { return [0..0, 0..0] };
        area.used().map(|used| used.start..used.end.next_multiple_of(MIN_SPAN).min(self.memory.views.bytes()))
    }

    /// Pages that hold roots, in the heap's file.
    pub(crate) fn root_pages(&self) -> Vec<Range<Page>> {
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
    for page in inner.root_pages().into_iter().flat_map(Page::range) {
        repair(inner, pages, page);
    }
    let current: Vec<Block> = inner.world.mutators.lock().iter().flat_map(|record| record.current_blocks()).collect();
    current.into_iter().for_each(|block| repair_pages_of(inner, pages, block));
    let FlipPlan { sources, destinations, done, .. } = plan;
    // Of each source freed a part replaces what was withheld as destinations.
    let (all, lent) = (sources.len(), inner.memory.free.lent());
    let releaser = Mutex::new((Releaser::new(sources, done), all));
    let next = AtomicUsize::new(0);
    inner.schedule.helpers.run_parallel(workers, || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(&block) = destinations.get(index) else { return };
            repair_pages_of(inner, pages, block);
            let (releaser, left) = &mut *releaser.lock();
            releaser.repaired(index, |block| {
                *left -= 1;
                release(inner, block, lent * *left / all);
            });
        }
    });
    let (heap, left) = (inner.memory.bytes, pages.left());
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
            // These blocks were not flipped; or they are free and have no page, and a thread that
            // allocates one meanwhile installs what it touches.
            if left.contains(&start) || inner.memory.free.is_bare(start / HUGE_PAGE) {
                continue;
            }
            let end = (start + GIVE_BACK).min(heap);
            let range = Page::holding(Offset::new(start), end - start);
            let blocks = Block::range(range.start.block()..range.end.block());
            blocks.for_each(|block| repair_pages_of(inner, pages, block));
            if pages.gate.no_move().is_some() {
                // A copy of a page without memory has some, and a thread that takes a free block
                // brings its pages in.
                let in_use = |block: &Block| inner.memory.blocks.state(*block) != BlockState::Free;
                let blocks = Block::range(range.start.block()..range.end.block());
                blocks.filter(in_use).for_each(|block| install_all(inner, pages, block.pages()));
            } else if pages.gate.is_private() {
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
fn repair(inner: &HeapInner, pages: &Pages, page: Page) {
    match pages.repair_or_wait(inner, page) {
        Ok(true) => inner.report.counters.pages_repaired.add(1),
        Ok(false) => {}
        Err(abandoned) => panic!("{abandoned}"),
    }
}

/// Repairs the pages of a block that hold objects, or waits for the threads that are repairing
/// them.
fn repair_pages_of(inner: &HeapInner, pages: &Pages, block: Block) {
    Page::range(pages_with_objects(inner, block)).for_each(|page| repair(inner, pages, page));
}

/// Frees a source of which no page is copied any more. At once: a stalled mutator takes the first
/// block freed.
fn release(inner: &HeapInner, block: Block, lent: usize) {
    inner.memory.blocks.set_live_bytes(block, 0);
    inner.memory.end_use(block);
    inner.memory.free.free_source(block, lent);
}

/// Private memory: moves pages back that would otherwise be lost with the from-view.
fn install_all(inner: &HeapInner, pages: &Pages, range: Range<Page>) {
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
    use crate::events::PauseKind;
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
    fn next_block(m: &mut Mutator<'_>) -> Block {
        let m = m.reserve(AllocSize::tail::<Bytes>(8)).unwrap();
        let object: Gc<'_, Bytes> = m.place_bytes((), &[1; 8]);
        m.inner().memory.space.offset(<Bytes as SlotType>::to_word(object).bits()).block()
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
                let page = next_block(m).pages().start;
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

    /// Private memory is elsewhere while pages are gated. Fails where it comes back when the flip
    /// ends, and nobody counts it.
    #[test]
    fn what_is_uncommitted_while_pages_are_gated_is_gone() {
        for backing in [Backing::Memfd, Backing::Anonymous] {
            let builder = Heap::builder().max_bytes(16 << 20).barrier(Barrier::Page).backing(backing);
            let Ok(heap) = builder.build() else { continue };
            let inner = heap.inner();
            heap.enter(|m| {
                let kept = {
                    let m = m.reserve(AllocSize::tail::<Bytes>(8)).unwrap();
                    crate::Root::<Bytes>::new(m, m.place_bytes::<Bytes>((), &[7; 8]))
                };
                m.reserve(AllocSize::tail::<Bytes>(8 << 20)).unwrap().place_bytes::<Bytes>((), &vec![1; 8 << 20]);
                m.collect();
                assert!(heap.resident_bytes().unwrap() >= 8 << 20);
                m.blocking(|| {
                    assert!(inner.stop(VmOperation::RelocateStart, PauseKind::Flip));
                    assert!(heap.release_memory() >= 8 << 20);
                    let resident = || heap.resident_bytes().unwrap();
                    assert!(resident() < 2 << 20, "{} bytes are there", resident());
                    let pages = inner.relocation.state().downcast_ref::<Pages>().unwrap();
                    repair_all(inner, pages, &mut FlipPlan::default(), 1);
                    inner.handshake();
                    assert!(resident() < 2 << 20, "{} bytes came back", resident());
                });
                assert_eq!(kept.get(m).tail(), [7; 8]);
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
