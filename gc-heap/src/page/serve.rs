//! How pages come back after a flip: repaired by the thread that needs them, or by the collector,
//! and installed.

use crate::inner::HeapInner;
use crate::page::repair::repair_page;
use crate::space::pages::Pages;
use crate::space::{BLOCK_PAGES, Block, Page};
use gc_core::fault::Served;
use gc_core::flip::Flip;
use gc_core::page_flip::Repaired;
use gc_core::page_state::{Abandoned, PageState};
use gc_core::sys::end_process;
use gc_core::views::InstallResult;
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// A fault repairs so much of what mutators have repaired since the flip, up to [`MOST`] pages. A
/// page costs several times as much in a fault of its own as in a batch, and threads that have
/// touched many pages at random will touch most of the others.
const PART: u64 = 64;

/// The most pages that a fault repairs: of four blocks, 0.1 ms or so.
const MOST: usize = 4 * BLOCK_PAGES;

/// Pages that a fault repairs at once: a power of two, as `least` is. `repaired`: by mutators since
/// the flip.
fn cluster(least: usize, repaired: u64) -> usize {
    let part = (repaired / PART).max(1);
    least.max(MOST.min(1 << part.ilog2()))
}

impl Pages {
    /// Repairs a page unless that is done; if another thread is repairing it, waits until it is
    /// done. Returns whether it was this thread.
    ///
    /// # Errors
    /// If a thread has unwound while it repaired the page.
    pub(crate) fn repair_or_wait(&self, inner: &HeapInner, page: Page) -> Result<bool, Abandoned> {
        match self.states.repair_or_wait(page, self.flip.get(), || repair_page(inner, self, page))? {
            Repaired::Here => Ok(true),
            Repaired::Elsewhere(0) => Ok(false),
            Repaired::Elsewhere(rounds) => {
                self.waits.fetch_add(u64::from(rounds), Ordering::Relaxed);
                Ok(false)
            }
        }
    }

    /// As [`repair_or_wait`](Self::repair_or_wait), for a thread that cannot continue without the
    /// page: a mutator, in its fault handler or not.
    pub(crate) fn repair(&self, inner: &HeapInner, page: Page) -> bool {
        self.repair_or_wait(inner, page).unwrap_or_else(|abandoned| end_process(format_args!("{abandoned}")))
    }

    /// Repairs a page if no thread has begun to. Not for a source's page: it is not needed, and
    /// with private memory it must stay where the destinations' repair reads it.
    fn try_repair(&self, inner: &HeapInner, page: Page) -> bool {
        let block = page.block();
        if block.number() < inner.memory.blocks.len() && inner.memory.forwarding.contains(block) {
            return false;
        }
        self.states.repair_if_gated(page, self.flip.get(), || repair_page(inner, self, page))
    }

    /// Private memory: maps every page of a range, also those of free blocks, whose memory is used
    /// again. Any other result than `Present` means that a page is lost. Called by the collector.
    ///
    /// # Panics
    /// If a thread has unwound while it moved one of the pages.
    pub(crate) fn install_all(&self, inner: &HeapInner, pages: Range<Page>) -> InstallResult {
        let flip = self.flip.get();
        for page in Page::range(pages.clone()) {
            self.repair(inner, page);
        }
        self.install_runs(pages.clone(), true);
        for page in Page::range(pages) {
            while self.states.wait_while_moving(page, flip).unwrap_or_else(|abandoned| panic!("{abandoned}"))
                != PageState::Installed
            {
                // Another thread was moving it and failed, or this one did.
                match self.install_run(page..page + 1, true) {
                    (_, InstallResult::Present) => {}
                    (_, failed) => return failed,
                }
            }
        }
        InstallResult::Present
    }

    /// Makes the pages of a block that the caller has just allocated accessible without a fault. It
    /// holds no object that needs repair, and after this no repair will visit it.
    pub(crate) fn make_resident(&self, inner: &HeapInner, block: Block, blocks: usize) {
        if self.flip.is_active() {
            let pages = block.pages().start..(block + blocks).pages().start;
            for page in Page::range(pages.clone()) {
                self.repair(inner, page);
            }
            self.install(pages);
        }
    }

    /// A page that was found repaired but still faults, or was just repaired, is installed.
    pub(crate) fn serve(&self, inner: &HeapInner, page: Page) -> Served {
        let ended = |flip: Flip| {
            if self.still_registered.load(Ordering::Relaxed) {
                return served(self.install_ungated(page), flip);
            }
            Served::Nothing(u64::from(flip.number()) << 1)
        };
        self.flip.serve(|flip| self.serve_gated(inner, page, flip), ended)
    }

    fn serve_gated(&self, inner: &HeapInner, page: Page, flip: Flip) -> Served {
        if self.repair(inner, page) {
            self.by_mutators.fetch_add(1, Ordering::Relaxed);
        }
        self.stress_delay(inner);
        let cluster = cluster(inner.config.fault_cluster, self.by_mutators_since_flip());
        let start = Page::new(page.number() / cluster * cluster);
        let end = (start + cluster).min(Page::new(self.states.pages()));
        for neighbour in Page::range(start..end).filter(|&neighbour| neighbour != page) {
            if self.try_repair(inner, neighbour) {
                self.by_mutators.fetch_add(1, Ordering::Relaxed);
            }
        }
        let run = self.repaired_around(page);
        let done = if self.gate.is_private() { self.install_one(page, run) } else { self.install_run(run, false).1 };
        served(done, flip)
    }

    /// Stress mode: sleeps or yields now and then, in the handler too.
    fn stress_delay(&self, inner: &HeapInner) {
        let random = Cell::new(self.random.load(Ordering::Relaxed));
        inner.config.stress.delay(&random);
        self.random.store(random.get(), Ordering::Relaxed);
    }
}

/// The outcome of installing a page, for the thread that faulted.
fn served(done: InstallResult, flip: Flip) -> Served {
    match done {
        InstallResult::Present => Served::Yes,
        InstallResult::NotGated => Served::Nothing(u64::from(flip.number()) << 1 | 1),
        InstallResult::Refused(error) => Served::Refused(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_faults_often_repairs_more_at_once() {
        let clusters = |least| [0, 127, 128, 300, 1024, 4095, 4096, u64::MAX].map(|repaired| cluster(least, repaired));
        assert_eq!(clusters(1), [1, 1, 2, 4, 16, 32, 64, 64]);
        assert_eq!(clusters(4), [4, 4, 4, 4, 16, 32, 64, 64]);
        assert_eq!(clusters(64), [64; 8], "what the program asks for");
    }
}
