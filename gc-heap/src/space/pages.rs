//! The page barrier's per-page tables, and how pages are mapped again.
//!
//! A flip unmaps every page of the mutators' view. A page is mapped again after its repair: one
//! thread claims it, rewrites it through the canonical view (`page::repair`), and installs it.
//! Mutators that touch a gated page do this themselves, in the fault handler; the collector does
//! the rest. The states are in `gc_core::page_state`.

use crate::space::{BLOCK_BYTES, BLOCK_PAGES, Block, Granule, PAGE_BYTES, Page};
use crate::stats::Histogram;
use gc_core::flip::CurrentFlip;
use gc_core::page_state::{PageState, PageStates};
use gc_core::views::Gate;
use gc_core::zeroed::{NoMemory, zeroed};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// No object overlaps the page, or its first object is not recorded yet. Otherwise the table holds
/// the granule plus 1, so that a new table is all zeroes.
const NONE: u64 = 0;

/// End of a chain of blocks; otherwise the table holds the block plus 1.
const END: u32 = 0;

/// The page barrier's state of a heap.
pub(crate) struct Pages {
    pub(crate) gate: Gate,
    pub(crate) flip: CurrentFlip,
    pub(crate) states: PageStates,
    /// The kernel has refused to unregister the view at the end of the last flip, so absent pages
    /// still fault. Nothing is gated: they are installed unchanged. Set between the close and the
    /// end of a flip.
    pub(crate) still_registered: AtomicBool,
    /// The system has refused the last flip.
    pub(crate) refused: AtomicBool,
    /// Offsets of the part that the last flip excluded. Written in the pause, read by the
    /// collector.
    left: [AtomicUsize; 2],
    /// For each page of the heap proper: of a destination, the granule of the *source* object that
    /// overlaps its start, or that begins first in it; of a young block, the same of the objects
    /// that are there.
    first: Box<[AtomicU64]>,
    /// The block evacuated after this one.
    next_source: Box<[AtomicU32]>,
    /// What no relocation frees, as the last cycle found it, in blocks.
    pub(crate) lasting: AtomicU32,
    /// Live share of the blocks that the last plan wanted to evacuate, in thousandths.
    pub(crate) density: AtomicU32,
    /// What was live in them, in blocks.
    pub(crate) moved: AtomicU32,
    pub(crate) faults: Histogram,
    /// Rounds of waiting for another thread that was repairing the page.
    pub(crate) waits: AtomicU64,
    /// Pages repaired by mutators, and by the time of the last flip.
    pub(crate) by_mutators: AtomicU64,
    by_mutators_at_flip: AtomicU64,
    /// Dangling references found in repair. Nonzero means that an invariant is broken.
    pub(crate) dangling: AtomicU64,
    /// For the stress mode.
    pub(crate) random: AtomicU64,
}

impl Pages {
    pub(crate) fn new(gate: Gate, file_bytes: usize, heap_bytes: usize) -> Result<Pages, NoMemory> {
        let blocks = heap_bytes / BLOCK_BYTES;
        Ok(Pages {
            gate,
            flip: CurrentFlip::default(),
            states: PageStates::new(file_bytes / PAGE_BYTES)?,
            still_registered: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            left: Default::default(),
            first: zeroed(blocks * BLOCK_PAGES)?,
            next_source: zeroed(blocks)?,
            lasting: AtomicU32::new(0),
            density: AtomicU32::new(500),
            // Unlimited until a plan has measured it.
            moved: AtomicU32::new(blocks as u32),
            faults: Histogram::default(),
            waits: AtomicU64::new(0),
            by_mutators: AtomicU64::new(0),
            by_mutators_at_flip: AtomicU64::new(0),
            dangling: AtomicU64::new(0),
            random: AtomicU64::new(1),
        })
    }

    /// The most destinations that the next flip may need, of a heap of so many blocks: the last
    /// time `moved` blocks could be moved, and this time at most twice as many.
    pub(crate) fn most_destinations(&self, blocks: usize) -> usize {
        (2 * self.moved.load(Ordering::Relaxed) as usize).max(blocks / 64)
    }

    /// Begins to count anew the pages that mutators repair. In the pause.
    pub(crate) fn count_from_flip(&self) {
        self.by_mutators_at_flip.store(self.by_mutators.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Pages that mutators have repaired since the flip.
    pub(crate) fn by_mutators_since_flip(&self) -> u64 {
        self.by_mutators.load(Ordering::Relaxed) - self.by_mutators_at_flip.load(Ordering::Relaxed)
    }

    pub(crate) fn set_left(&self, left: &Range<usize>) {
        self.left[0].store(left.start, Ordering::Relaxed);
        self.left[1].store(left.end, Ordering::Relaxed);
    }

    pub(crate) fn left(&self) -> Range<usize> {
        self.left[0].load(Ordering::Relaxed)..self.left[1].load(Ordering::Relaxed)
    }

    /// The granule recorded for a page of the heap proper.
    pub(crate) fn first(&self, page: Page) -> Option<Granule> {
        match self.first[page.number()].load(Ordering::Acquire) {
            NONE => None,
            granule => Some(Granule::new(granule as usize - 1)),
        }
    }

    /// Records it. Several threads may record the same.
    pub(crate) fn set_first(&self, page: Page, granule: Granule) {
        self.first[page.number()].store(granule.number() as u64 + 1, Ordering::Release);
    }

    pub(crate) fn forget_first(&self, block: Block) {
        self.forget_first_of(block.pages());
    }

    /// Of some pages.
    pub(crate) fn forget_first_of(&self, pages: Range<Page>) {
        for page in Page::range(pages) {
            self.first[page.number()].store(NONE, Ordering::Relaxed);
        }
    }

    pub(crate) fn next_source(&self, block: Block) -> Option<Block> {
        match self.next_source[block.number()].load(Ordering::Acquire) {
            END => None,
            next => Some(Block::new(next as usize - 1)),
        }
    }

    pub(crate) fn set_next_source(&self, block: Block, next: Option<Block>) {
        self.next_source[block.number()].store(next.map_or(END, |next| next.number() as u32 + 1), Ordering::Release);
    }

    /// Pages of a range that were installed.
    pub(crate) fn installed(&self, pages: Range<Page>) -> usize {
        let flip = self.flip.get();
        Page::range(pages).filter(|&page| self.states.state(page, flip) == PageState::Installed).count()
    }
}
