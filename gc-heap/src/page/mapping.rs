//! How pages are gated, mapped and registered: the calls of the gate, and the server of faults.
//!
//! A page is mapped again only when it is repaired, which its state says: see
//! `gc_core::page_state`.

use crate::inner::HeapInner;
use crate::space::blocks::BlockState;
use crate::space::pages::Pages;
use crate::space::{BLOCK_BYTES, Block, Offset, PAGE_BYTES, Page};
use gc_core::fault::{self, FaultError, Registration, Served, Server};
use gc_core::flip::Flip;
use gc_core::page_state::PageState;
use gc_core::sys::{Patience, SysError, end_process};
use gc_core::views::{GIB, InstallResult, MIN_SPAN};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Weak};

/// Maximum number of pages installed with a faulting one: the page and its neighbours within this
/// distance, if they are repaired.
const REACH: usize = 64;

/// The pages of a block that hold objects which threads may access.
pub(crate) fn pages_with_objects(inner: &HeapInner, block: Block) -> Range<Page> {
    let bytes = match inner.memory.blocks.state(block) {
        BlockState::Free | BlockState::LargeUninitialized => 0,
        // A source: nothing refers to it any more.
        BlockState::Closed if inner.memory.forwarding.of_block(block).is_some() => 0,
        BlockState::Closed | BlockState::Open | BlockState::EvacuationTarget => inner.memory.blocks.used_bytes(block),
        BlockState::LargeFirst | BlockState::LargeContinued => BLOCK_BYTES,
    };
    Page::holding(block.start(), bytes)
}

impl Pages {
    /// The flip, in a pause. `false`: nothing was gated.
    pub(super) fn gate_all(&self, inner: &HeapInner) -> bool {
        if inner.world.plan_aborted.load(Ordering::SeqCst)
            || (self.gate.is_private() && inner.world.pins.load(Ordering::SeqCst) != 0)
        {
            return false;
        }
        // Blocks that have never been allocated. Nothing refers to them; a thread that allocates
        // one now finds its pages mapped, or installs them.
        let unused = inner.memory.free.never_taken();
        let unused = unused.start.start().bytes()..unused.end.start().bytes();
        // Small heaps have no whole GiB to exclude; in tests they exclude smaller units.
        let unit = if inner.config.stress.delay_one_in != 0 { MIN_SPAN } else { GIB };
        // SAFETY: mutators are stopped; the faults of those that will touch the view are served.
        let left = match unsafe { self.gate.flip(unused, unit) } {
            Ok(left) => left,
            Err(refused) => {
                // Faults caused by this are served.
                self.still_registered.store(refused.still_registered, Ordering::Relaxed);
                self.refused.store(true, Ordering::Relaxed);
                inner.report.refusals.note(*refused.error);
                return false;
            }
        };
        self.set_left(&left);
        self.count_from_flip();
        self.flip.begin();
        if inner.config.verify
            && let Ok(present @ 1..) = self.gate.present_pages(&left)
        {
            inner.schedule.requests.fail(format!("verification: {present} pages do not fault after a flip"));
        }
        true
    }

    /// Reads a word of another page than the one being repaired: with private memory that page may
    /// have moved, or be moving. The words read in this way are headers, which do not change, and
    /// lengths, which only become larger, and by elements that lie on no page that is repaired
    /// later.
    pub(crate) fn word_elsewhere(&self, offset: Offset) -> u64 {
        let (page, flip) = (offset.page(), self.flip.get());
        loop {
            match self.states.state(page, flip) {
                PageState::Installed => return word_at(self.gate.view() + offset.bytes()),
                PageState::Moving | PageState::Abandoned => {
                    self.wait_while_moving(page, flip);
                }
                _ => {
                    let word = word_at(self.gate.repair_base() + offset.bytes());
                    fence(Ordering::Acquire);
                    if self.states.state(page, flip) < PageState::Moving {
                        return word;
                    }
                }
            }
        }
    }

    /// Installs repaired pages: each run of them with one call. On return none of `pages` is
    /// moving.
    pub(crate) fn install(&self, pages: Range<Page>) {
        self.install_runs(pages.clone(), false);
        if self.gate.is_private() {
            for page in Page::range(pages) {
                self.wait_while_moving(page, self.flip.get());
            }
        }
    }

    /// For a thread that cannot continue without the page, in its fault handler or not. Returns the
    /// page's state when no thread is moving it.
    fn wait_while_moving(&self, page: Page, flip: Flip) -> PageState {
        self.states.wait_while_moving(page, flip).unwrap_or_else(|abandoned| end_process(format_args!("{abandoned}")))
    }

    /// Maps every run of repaired pages. Failed pages are left to the threads that access them.
    pub(crate) fn install_runs(&self, pages: Range<Page>, existing: bool) {
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
    pub(crate) fn install_run(&self, run: Range<Page>, existing: bool) -> (Page, InstallResult) {
        let flip = self.flip.get();
        if !self.gate.is_private() {
            assert!(Page::range(run.clone()).all(|page| self.states.state(page, flip) >= PageState::Repaired));
            let bytes = Page::bytes(&run);
            // SAFETY: every page of the run is repaired, as asserted.
            let done = unsafe { self.gate.install(bytes.start, bytes.len()) };
            let end = run.end;
            if done == InstallResult::Present {
                self.states.install(run, flip);
            }
            return (end, done);
        }
        let mut taken = self.states.begin_move(run, flip);
        let pages = taken.pages();
        if pages.is_empty() {
            return (pages.end, InstallResult::Present);
        }
        let bytes = Page::bytes(&pages);
        let (offset, len) = (bytes.start, bytes.len());
        // SAFETY: they were repaired, and `begin_move` has made this thread the only one to bring
        // them in.
        let done =
            unsafe { if existing { self.gate.install_existing(offset, len) } else { self.gate.install(offset, len) } };
        if done == InstallResult::Present {
            taken.end(true);
            return (pages.end, done);
        }
        // Some pages may have been mapped before it failed: those are no longer in the other view.
        for page in Page::range(pages.clone()) {
            // SAFETY: as above.
            let present = unsafe { self.gate.install(page.start().bytes(), PAGE_BYTES) } == InstallResult::Present;
            taken.end_first(present);
        }
        (pages.end, done)
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
    pub(crate) fn install_one(&self, page: Page, run: Range<Page>) -> InstallResult {
        let flip = self.flip.get();
        if self.states.state(page, flip) == PageState::Installed {
            // It faulted nevertheless: another thread was faster, or the page had no memory. An
            // existing page stays.
            // SAFETY: repaired and installed; a thread that brings it in now brings in memory that
            // was never used.
            return unsafe { self.gate.install(page.start().bytes(), PAGE_BYTES) };
        }
        // A failure here is detected below, for the faulting page.
        let _ = self.install_run(run, false);
        loop {
            match self.states.state(page, flip) {
                PageState::Installed => return InstallResult::Present,
                PageState::Moving | PageState::Abandoned => {
                    self.wait_while_moving(page, flip);
                }
                _ => match self.install_run(page..page + 1, false).1 {
                    InstallResult::Present => {}
                    other => return other,
                },
            }
        }
    }

    /// The run of repaired, not yet mapped pages around a page: the collector may have repaired
    /// them, and mapping a page together with others costs a twentieth of mapping it alone.
    pub(crate) fn repaired_around(&self, page: Page) -> Range<Page> {
        let flip = self.flip.get();
        let waits = |page: &Page| self.states.state(*page, flip) == PageState::Repaired;
        let low = Page::new(page.number() / REACH * REACH);
        let high = (low + REACH).min(Page::new(self.states.pages()));
        let start = Page::range(low..page).rev().take_while(waits).last().unwrap_or(page);
        let end = Page::range(page + 1..high).take_while(waits).last().map_or(page + 1, |last| last + 1);
        start..end
    }

    /// Maps a page that still faults although no page is gated.
    ///
    /// # Panics
    /// While pages are gated.
    pub(super) fn install_ungated(&self, page: Page) -> InstallResult {
        assert!(!self.flip.is_active(), "a page is mapped unrepaired");
        // SAFETY: nothing is gated. The next flip's pause waits for this thread.
        unsafe { self.gate.install(page.start().bytes(), PAGE_BYTES) }
    }

    /// Maps a part of the view again by its page tables. All pages in it that hold objects or roots
    /// are repaired; the bytes of the others have no meaning yet. The memory is shared.
    ///
    /// # Errors
    /// As [`Gate::restore_page_tables`](gc_core::views::Gate::restore_page_tables).
    pub(crate) fn restore_page_tables(&self, inner: &HeapInner, range: Range<usize>) -> Result<(), SysError> {
        let flip = self.flip.get();
        let is_repaired = |page| self.states.state(page, flip) >= PageState::Repaired;
        let [start, end] = [range.start, range.end.min(inner.memory.bytes)].map(|at| Offset::new(at).block());
        let pages = Block::range(start..end).flat_map(|block| Page::range(pages_with_objects(inner, block)));
        debug_assert!({ pages }.all(is_repaired));
        if range.is_empty() {
            return Ok(());
        }
        // SAFETY: as said above, and asserted of the heap's pages.
        unsafe { self.gate.restore_page_tables(range.start, range.len()) }
    }
}

fn word_at(address: usize) -> u64 {
    // SAFETY: an offset of the heap in one of its views; every word is accessed atomically by the
    // collector.
    unsafe { (*std::ptr::with_exposed_provenance::<AtomicU64>(address)).load(Ordering::Relaxed) }
}

/// Registers the mutators' view for fault handling.
pub(super) fn register(inner: &Arc<HeapInner>, pages: &Arc<Pages>) -> Result<Registration, FaultError> {
    let server = Arc::new(FaultServer { inner: Arc::downgrade(inner), pages: Arc::clone(pages) });
    // SAFETY: the range is that of the views' second span, which this heap owns until `HeapInner`
    // is dropped. The registration is the heap's owner's. Every thread that accesses the view is
    // attached, or holds a pin, and thereby keeps the owner alive.
    unsafe { fault::register(pages.gate.view(), inner.memory.views.span(), server) }
}

/// Serves a heap's faults.
struct FaultServer {
    inner: Weak<HeapInner>,
    pages: Arc<Pages>,
}

// SAFETY: what is called below takes no lock, allocates nothing and does not panic; a page that it
// lets in was repaired.
unsafe impl Server for FaultServer {
    fn serve(&self, address: usize) -> Served {
        // Not upgraded: the thread that faults holds the heap, and a count that reached 0 here
        // would free memory in a signal handler.
        let inner = self.inner.as_ptr();
        // SAFETY: only attached threads touch the view, and they keep the heap alive.
        let inner = unsafe { &*inner };
        let pages = &*self.pages;
        let begin_ns = inner.report.events.now();
        let page = Offset::new(address - pages.gate.view()).page();
        if page.number() >= pages.states.pages() {
            return Served::No;
        }
        let served = pages.serve(inner, page);
        let ns = inner.report.events.now() - begin_ns;
        pages.faults.record(ns);
        crate::inner::loss::faulted(inner, begin_ns, ns);
        crate::events::probes::probe!(fault, address, ns);
        served
    }
}
