//! What threads do with gated pages between a flip and its end, around the states of single pages
//! ([`page_state`](crate::page_state)): which thread repairs a page, when an allocated block may be
//! used, and when a source may be released.
//!
//! `loom_page_flip` runs these functions.

use crate::flip::Flip;
use crate::page_state::{Abandoned, PageState, PageStates};
use crate::rules::{Rule, kept};
use crate::units::{Block, Page};

/// The thread that has repaired a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// The calling one.
    Here,
    /// Another one, for which the calling one has waited so many rounds.
    Elsewhere(u32),
}

impl PageStates {
    /// Repairs a page by `repair`, unless that is done; if another thread is repairing it, waits
    /// until it is done. A signal handler may call it.
    ///
    /// # Errors
    /// If a thread has unwound while it repaired the page.
    pub fn repair_or_wait(&self, page: Page, flip: Flip, repair: impl FnOnce()) -> Result<Repaired, Abandoned> {
        match self.claim(page, flip) {
            Ok(claim) => {
                repair();
                claim.repaired();
                Ok(Repaired::Here)
            }
            Err(PageState::Claimed | PageState::Gated | PageState::Abandoned) => {
                let rounds = if kept(Rule::WaitForClaimant) { self.wait_until_repaired(page, flip)? } else { 0 };
                Ok(Repaired::Elsewhere(rounds))
            }
            Err(PageState::Repaired | PageState::Moving | PageState::Installed) => Ok(Repaired::Elsewhere(0)),
        }
    }

    /// As [`repair_or_wait`](PageStates::repair_or_wait), but leaves the page to a thread that has
    /// begun to repair it. `true`: this one has repaired it.
    pub fn repair_if_gated(&self, page: Page, flip: Flip, repair: impl FnOnce()) -> bool {
        let Ok(claim) = self.claim(page, flip) else { return false };
        repair();
        claim.repaired();
        true
    }
}

/// Begins to use a block that the calling thread has allocated: `admit` repairs its pages, or waits
/// for the threads that do, as [`repair_or_wait`](PageStates::repair_or_wait), and `open` changes
/// the block's use.
///
/// A repair finds the block as it was at the flip, or comes after `admit` and does not visit it.
pub fn admit_then_open(admit: impl FnOnce(), open: impl FnOnce()) {
    if kept(Rule::AdmitThenOpen) {
        admit();
        open();
    } else {
        open();
        admit();
    }
}

/// Which sources can be released: each when the last destination that receives objects of it is
/// repaired. Destinations are repaired by several threads, and in any order.
#[derive(Debug)]
pub struct Releaser<'a> {
    /// Blocks, each with the index of that destination, which no later source has a lower one than.
    sources: &'a [(Block, usize)],
    /// Which destinations are repaired.
    done: &'a mut [bool],
    /// Destinations before this one are repaired, sources before this one released.
    next: usize,
    released: usize,
}

impl<'a> Releaser<'a> {
    /// Nothing is repaired yet. `done` has `false` for each destination.
    pub fn new(sources: &'a [(Block, usize)], done: &'a mut [bool]) -> Releaser<'a> {
        debug_assert!(sources.is_sorted_by_key(|&(_, last)| last), "a source waits for a destination before another's");
        debug_assert!(!done.contains(&true), "a destination is repaired before the flip");
        Releaser { sources, done, next: 0, released: 0 }
    }

    /// The destination with this index is repaired: the calling thread has called
    /// [`repair_or_wait`](PageStates::repair_or_wait) for each of its pages, or the one before it
    /// under the lock of this has. Calls `release` with each source that no page is copied from any
    /// more.
    pub fn repaired(&mut self, index: usize, mut release: impl FnMut(Block)) {
        self.done[index] = true;
        while self.done.get(self.next) == Some(&true) {
            self.next += 1;
        }
        while let Some(&(block, last)) = self.sources.get(self.released)
            && (last < self.next || !kept(Rule::ReleaseAfterLast))
        {
            release(block);
            self.released += 1;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A repair that comes later would take the new objects for those of before the flip.
    #[test]
    fn a_block_is_opened_when_no_repair_will_visit_it() {
        let (states, flip) = (PageStates::new(2).unwrap(), Flip::FIRST);
        let pages = Page::new(0)..Page::new(2);
        let admit =
            || Page::range(pages.clone()).for_each(|page| _ = states.repair_or_wait(page, flip, || ()).unwrap());
        let mut opened = false;
        admit_then_open(admit, || {
            assert_eq!(states.first_unrepaired(pages.clone(), flip), None, "a page of the block can still be claimed");
            opened = true;
        });
        assert!(opened);
    }

    #[test]
    fn a_source_is_released_with_the_last_of_its_destinations() {
        let sources = [(10, 0), (11, 1), (12, 1), (13, 3)].map(|(block, last)| (Block::new(block), last));
        let mut done = [false; 4];
        let mut releaser = Releaser::new(&sources, &mut done);
        let mut released = |index| {
            let mut blocks = Vec::new();
            releaser.repaired(index, |block| blocks.push(block.number()));
            blocks
        };
        assert_eq!([1, 0, 3, 2].map(&mut released), [vec![], vec![10, 11, 12], vec![], vec![13]]);
    }
}
