//! The page barrier's per-page tables, and how pages are mapped again.
//!
//! A flip unmaps every page of the mutators' view. A page is mapped again after its repair: one
//! thread claims it, rewrites it through the canonical view (`page::repair`), and installs it.
//! Mutators that touch a gated page do this themselves, in the fault handler; the collector does
//! the rest. The states are in `gc_core::page_state`.

use crate::space::{BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES};
use crate::stats::Histogram;
use gc_core::page_state::{CurrentFlip, PageState, PageStates};
use gc_core::sys::{Patience, SysError};
use gc_core::views::{Gate, InstallResult};
use gc_core::zeroed::zeroed;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

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
    /// still fault. Nothing is gated: they are installed unchanged. Set between the close and the end
    /// of a flip.
    pub(crate) still_registered: AtomicBool,
    /// The system has refused the last flip.
    pub(crate) refused: AtomicBool,
    /// Offsets of the part that the last flip excluded. Written in the pause, read by the
    /// collector.
    left: [AtomicUsize; 2],
    /// For each page of the heap proper: of a destination, the granule of the *source* object that overlaps its start, or
    /// that begins first in it; of a young block, the same of the objects that are there.
    first: Box<[AtomicU64]>,
    /// The block evacuated after this one.
    next_source: Box<[AtomicU32]>,
    /// Live share of the blocks that the last plan wanted to evacuate, in thousandths.
    pub(crate) density: AtomicU32,
    /// What was live in them, in blocks.
    pub(crate) moved: AtomicU32,
    pub(crate) faults: Histogram,
    /// Rounds of waiting for another thread that was repairing the page.
    pub(crate) waits: AtomicU64,
    /// Pages repaired by mutators.
    pub(crate) by_mutators: AtomicU64,
    /// Dangling references found in repair. Nonzero means that an invariant is broken.
    pub(crate) lost: AtomicU64,
    /// For the stress mode.
    pub(crate) random: AtomicU64,
}

impl Pages {
    pub(crate) fn new(gate: Gate, file_bytes: usize, heap_bytes: usize) -> Pages {
        let blocks = heap_bytes / BLOCK_BYTES;
        Pages {
            gate,
            flip: CurrentFlip::default(),
            states: PageStates::new(file_bytes / PAGE_BYTES),
            still_registered: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            left: Default::default(),
            first: zeroed(blocks * BLOCK_PAGES),
            next_source: zeroed(blocks),
            density: AtomicU32::new(500),
            // Unlimited until a plan has measured it.
            moved: AtomicU32::new(blocks as u32),
            faults: Histogram::default(),
            waits: AtomicU64::new(0),
            by_mutators: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            random: AtomicU64::new(1),
        }
    }

    pub(crate) fn set_left(&self, left: &Range<usize>) {
        self.left[0].store(left.start, Ordering::Relaxed);
        self.left[1].store(left.end, Ordering::Relaxed);
    }

    pub(crate) fn left(&self) -> Range<usize> {
        self.left[0].load(Ordering::Relaxed)..self.left[1].load(Ordering::Relaxed)
    }

    /// The granule recorded for a page of the heap proper.
    pub(crate) fn first(&self, page: usize) -> Option<usize> {
        match self.first[page].load(Ordering::Acquire) {
            NONE => None,
            granule => Some(granule as usize - 1),
        }
    }

    /// Records it. Several threads may record the same.
    pub(crate) fn set_first(&self, page: usize, granule: usize) {
        self.first[page].store(granule as u64 + 1, Ordering::Release);
    }

    pub(crate) fn forget_first(&self, block: usize) {
        self.forget_first_from(block * BLOCK_PAGES, block);
    }

    /// From a page of the block on.
    pub(crate) fn forget_first_from(&self, page: usize, block: usize) {
        for page in page..(block + 1) * BLOCK_PAGES {
            self.first[page].store(NONE, Ordering::Relaxed);
        }
    }

    pub(crate) fn next_source(&self, block: usize) -> Option<usize> {
        match self.next_source[block].load(Ordering::Acquire) {
            END => None,
            next => Some(next as usize - 1),
        }
    }

    pub(crate) fn set_next_source(&self, block: usize, next: Option<usize>) {
        self.next_source[block].store(next.map_or(END, |next| next as u32 + 1), Ordering::Release);
    }

    /// Reads a word of another page than the one being repaired: with private memory that page may
    /// have moved, or be moving. The words read in this way (headers, lengths) do not change.
    pub(crate) fn word_elsewhere(&self, offset: usize) -> u64 {
        let (page, flip) = (offset / PAGE_BYTES, self.flip.get());
        loop {
            match self.states.state(page, flip) {
                PageState::Installed => return word_at(self.gate.view() + offset),
                PageState::Moving => self.states.wait_while_moving(page, flip),
                _ => {
                    let word = word_at(self.gate.repair_base() + offset);
                    fence(Ordering::Acquire);
                    if self.states.state(page, flip) < PageState::Moving {
                        return word;
                    }
                }
            }
        }
    }

    /// Installs repaired pages: each run of them with one call. On return none of `pages` is moving.
    pub(crate) fn install(&self, pages: Range<usize>) {
        self.install_runs(pages.clone(), false);
        if self.gate.is_private() {
            pages.for_each(|page| self.states.wait_while_moving(page, self.flip.get()));
        }
    }

    /// Pages of a range that were installed.
    pub(crate) fn installed(&self, pages: Range<usize>) -> usize {
        let flip = self.flip.get();
        pages.filter(|&page| self.states.state(page, flip) == PageState::Installed).count()
    }

    /// Maps every run of repaired pages. Failed pages are left to the threads that access them.
    pub(crate) fn install_runs(&self, pages: Range<usize>, existing: bool) {
        let flip = self.flip.get();
        let mut rest = pages;
        loop {
            let run = self.states.run_to_install(rest.clone(), flip);
            if run.is_empty() {
                return;
            }
            let first = run.start;
            // Continue after the pages that this thread moved; skip a first page that another
            // thread is moving.
            rest.start = self.install_run(run, existing).0.max(first + 1);
        }
    }

    /// Maps a run of repaired pages, with private memory the part before the first page that
    /// another thread is moving. Returns its end. `existing`: pages without memory stay absent.
    pub(crate) fn install_run(&self, run: Range<usize>, existing: bool) -> (usize, InstallResult) {
        let flip = self.flip.get();
        if !self.gate.is_private() {
            // SAFETY: every page of the run is repaired.
            let done = unsafe { self.gate.install(run.start * PAGE_BYTES, run.len() * PAGE_BYTES) };
            let end = run.end;
            if done == InstallResult::Present {
                self.states.install(run, flip);
            }
            return (end, done);
        }
        let taken = self.states.begin_move(run, flip);
        if taken.is_empty() {
            return (taken.end, InstallResult::Present);
        }
        let (offset, len) = (taken.start * PAGE_BYTES, taken.len() * PAGE_BYTES);
        // SAFETY: as above; and `begin_move` has made this thread the only one to bring them in.
        let done =
            unsafe { if existing { self.gate.install_existing(offset, len) } else { self.gate.install(offset, len) } };
        if done == InstallResult::Present {
            self.states.end_move(taken.clone(), flip, true);
            return (taken.end, done);
        }
        // Some pages may have been mapped before it failed: those are no longer in the other view.
        for page in taken.clone() {
            // SAFETY: as above.
            let present = unsafe { self.gate.install(page * PAGE_BYTES, PAGE_BYTES) } == InstallResult::Present;
            self.states.end_move(page..page + 1, flip, present);
        }
        (taken.end, done)
    }

    /// Unregisters the view, unless that was done: called by the collector, while nothing is gated.
    /// If the kernel refuses, no flip is possible, because registered and unregistered parts of the
    /// view are separate mappings.
    pub(crate) fn end_registration(&self) -> Result<(), SysError> {
        if self.still_registered.load(Ordering::Relaxed) {
            // SAFETY: every page that holds anything is repaired.
            Patience::short().with(|| unsafe { self.gate.end() })?;
            self.still_registered.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Private memory: maps a repaired page, with the run around it, or waits for the thread that
    /// is moving it.
    pub(crate) fn install_one(&self, page: usize, run: Range<usize>) -> InstallResult {
        let flip = self.flip.get();
        if self.states.state(page, flip) == PageState::Installed {
            // It faulted nevertheless: another thread was faster, or the page had no memory. An
            // existing page stays.
            // SAFETY: repaired and installed; whoever brings it in now brings in memory that was never used.
            return unsafe { self.gate.install(page * PAGE_BYTES, PAGE_BYTES) };
        }
        // A failure here is detected below, for the faulting page.
        let _ = self.install_run(run, false);
        loop {
            match self.states.state(page, flip) {
                PageState::Installed => return InstallResult::Present,
                PageState::Moving => self.states.wait_while_moving(page, flip),
                _ => match self.install_run(page..page + 1, false).1 {
                    InstallResult::Present => {}
                    other => return other,
                },
            }
        }
    }

    /// The run of repaired, not yet mapped pages around a page: the collector may have repaired
    /// them, and mapping a page together with others costs a twentieth of mapping it alone.
    pub(crate) fn repaired_around(&self, page: usize) -> Range<usize> {
        let flip = self.flip.get();
        let waits = |page: &usize| self.states.state(*page, flip) == PageState::Repaired;
        let (low, high) = (page / REACH * REACH, (page / REACH * REACH + REACH).min(self.states.pages()));
        let start = (low..page).rev().take_while(waits).last().unwrap_or(page);
        let end = (page + 1..high).take_while(waits).last().map_or(page + 1, |last| last + 1);
        start..end
    }
}

fn word_at(address: usize) -> u64 {
    // SAFETY: an offset of the heap in one of its views; every word is accessed atomically by the collector.
    unsafe { (*std::ptr::with_exposed_provenance::<AtomicU64>(address)).load(Ordering::Relaxed) }
}

/// Maximum number of pages installed with a faulting one: the page and its neighbours within this
/// distance, if they are repaired.
const REACH: usize = 64;
