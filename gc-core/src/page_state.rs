//! The states of a page under the page barrier, from one flip to the end of its cycle.
//!
//! ```text
//! Gated ── claim: CAS, Acquire ──► Claimed ── repaired: store, Release ──► Repaired ── install: CAS ──► Installed
//!                                └── dropped: CAS ──► Abandoned               └─ begin_move: CAS ─► Moving ─┘
//! ```
//!
//! Where pages are not shared between views but moved from one to the other, `Moving` says that one
//! thread is moving the page: a page is read from the source before `Moving`, from the destination
//! after it; not at all during it.
//!
//! Until `Repaired` a page holds addresses from before the flip only, afterwards only addresses
//! from after it. Repairing a page in place twice would forward its references twice, and of two
//! threads that both write "the same" bytes the second would overwrite the store of a mutator that
//! had access after the first. So exactly one thread, the claimant, repairs the page, once; any
//! other thread backs off until the claimant is done.
//!
//! A claimant that unwinds leaves its page half repaired. Such a page can neither be repaired again
//! nor be made accessible, and no thread may wait for it: the drop of the claim sets it to
//! `Abandoned`, where it stays, and wakes the threads that sleep. They cannot have the page.
//!
//! A state carries the number of its flip, and any other number reads as `Gated`. A flip therefore
//! gates all pages by incrementing one number in the pause, without touching the words, however
//! many there are. The number moves by one, and only while all threads that use these words are
//! stopped; [`Flip`] keeps 29 bits of it, so a word that is not written for 2^29 flips would be
//! valid again. (At one flip a second that takes 17 years.)
//!
//! How a thread waits for a claimant or a mover is in `waiting.rs`.
//!
//! `Installed` says that a `UFFDIO_CONTINUE` of the page succeeded. It is a hint that saves system
//! calls: a thread that faults on an installed page repeats the CONTINUE.

use crate::flip::{Flip, STATE_BITS};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{futex, thread};
use crate::units::Page;
use crate::waiting::{Waiting, announce_and_sleep};
use crate::zeroed::{NoMemory, zeroed};
use std::ops::Range;

/// State of a page since the flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageState {
    /// Not claimed yet. The page holds addresses from before the flip, and mutators cannot access
    /// it.
    Gated,
    /// One thread is repairing it.
    Claimed,
    /// Its claimant has unwound: the page is half repaired, and stays so. Or its mover has: it is
    /// at its source or at its destination.
    Abandoned,
    /// Repaired: it holds addresses from after the flip only.
    Repaired,
    /// Repaired, and being moved to the mutators' view.
    Moving,
    /// Mapped in the mutators' view again.
    Installed,
}

/// Written instead of [`PageState::Claimed`] where a thread sleeps until the page is repaired.
const CLAIMED_AWAITED: u32 = 6;

/// Written instead of [`PageState::Moving`] where a thread sleeps until the page has moved.
const MOVING_AWAITED: u32 = 7;

fn word(flip: Flip, state: PageState) -> u32 {
    flip.number() << STATE_BITS | state as u32
}

fn word_awaited(flip: Flip, awaited: u32) -> u32 {
    flip.number() << STATE_BITS | awaited
}

fn state_in(word: u32, flip: Flip) -> PageState {
    if word >> STATE_BITS != flip.number() {
        return PageState::Gated;
    }
    match word & ((1 << STATE_BITS) - 1) {
        0 => PageState::Gated,
        1 | CLAIMED_AWAITED => PageState::Claimed,
        2 => PageState::Abandoned,
        3 => PageState::Repaired,
        4 | MOVING_AWAITED => PageState::Moving,
        _ => PageState::Installed,
    }
}

/// The exclusive right, and the duty, to repair one page. It ends in [`repaired`](Claim::repaired):
/// a claim that is dropped, as by a panic of its claimant, leaves the page
/// [abandoned](PageState::Abandoned) until the next flip, because a half-repaired page can neither
/// be repaired again nor be made accessible.
#[derive(Debug)]
#[must_use = "a page that is claimed and not repaired is lost"]
pub struct Claim<'a> {
    word: &'a AtomicU32,
    flip: Flip,
}

impl Claim<'_> {
    /// Publishes the repaired bytes (Release): whoever reads [`PageState::Repaired`] sees them.
    /// Wakes the threads that sleep until then; without a sleeper there is no system call.
    pub fn repaired(self) {
        publish(self.word, self.flip, PageState::Repaired);
        // Its drop would abandon the page.
        std::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        abandon(self.word, self.flip, PageState::Claimed, CLAIMED_AWAITED);
    }
}

/// Ends a state in which the calling thread alone could do something with a page, and wakes the
/// threads that wait for its end.
fn abandon(word_of_page: &AtomicU32, flip: Flip, held: PageState, awaited: u32) {
    // Relaxed: it orders nothing, because no thread reads the page's bytes.
    let abandoned = word(flip, PageState::Abandoned);
    let mut seen = word_of_page.load(Ordering::Relaxed);
    // Another flip has gated the page, if its state is another one.
    while state_in(seen, flip) == held {
        match word_of_page.compare_exchange_weak(seen, abandoned, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(before) => {
                if before == word_awaited(flip, awaited) {
                    futex::wake_all(word_of_page);
                }
                return;
            }
            Err(now) => seen = now,
        }
    }
}

/// The exclusive right, and the duty, to move a run of repaired pages of private memory to the
/// program's view. It ends page by page: pages whose move has not ended when it is dropped, as by a
/// panic of the mover, are left [abandoned](PageState::Abandoned) until the next flip, because no
/// thread knows where their bytes are.
#[derive(Debug)]
#[must_use = "pages that are taken and not moved are lost"]
pub struct Move<'a> {
    words: &'a [AtomicU32],
    /// The first page whose move has not ended.
    first: Page,
    flip: Flip,
}

impl Move<'_> {
    /// The pages whose move has not ended.
    pub fn pages(&self) -> Range<Page> {
        self.first..self.first + self.words.len()
    }

    /// Ends the move of the first page (Release): it is at its destination, or (`moved` is `false`)
    /// still at its source. Wakes the threads that sleep until then.
    pub fn end_first(&mut self, moved: bool) {
        let Some((word, rest)) = self.words.split_first() else { return };
        // Before the exchange: a page is published once.
        (self.words, self.first) = (rest, self.first + 1);
        publish(word, self.flip, if moved { PageState::Installed } else { PageState::Repaired });
    }

    /// Ends the move of all pages, as [`end_first`](Move::end_first).
    pub fn end(mut self, moved: bool) {
        while !self.words.is_empty() {
            self.end_first(moved);
        }
    }
}

impl Drop for Move<'_> {
    fn drop(&mut self) {
        self.words.iter().for_each(|word| abandon(word, self.flip, PageState::Moving, MOVING_AWAITED));
    }
}

/// A page that a thread was repairing or moving when it unwound, for a thread that needs the page:
/// it cannot have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned {
    page: Page,
}

impl Abandoned {
    /// The page.
    pub fn page(&self) -> Page {
        self.page
    }
}

impl std::fmt::Display for Abandoned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "page {} of the heap was left half done: the thread that repaired or moved it has panicked",
            self.page.number()
        )
    }
}

impl std::error::Error for Abandoned {}

/// Ends a state that others wait for, with Release, and wakes them.
fn publish(word_of_page: &AtomicU32, flip: Flip, state: PageState) {
    // An exchange: a store could overwrite the announcement of a thread that is about to sleep,
    // without seeing it.
    let before = word_of_page.swap(word(flip, state), Ordering::Release) & ((1 << STATE_BITS) - 1);
    if before == CLAIMED_AWAITED || before == MOVING_AWAITED {
        futex::wake_all(word_of_page);
    }
}

/// The states of all pages of a heap, four bytes each. Nothing here allocates, takes a lock or
/// panics on an index in range once it is made, so that a signal handler may use it.
#[derive(Debug)]
pub struct PageStates {
    words: Box<[AtomicU32]>,
}

impl PageStates {
    /// States for `pages` pages, all gated.
    ///
    /// The words are committed when first touched: pages that are never used cost nothing.
    ///
    /// # Errors
    /// The program's allocator refuses the memory.
    pub fn new(pages: usize) -> Result<PageStates, NoMemory> {
        Ok(PageStates { words: zeroed(pages)? })
    }

    /// The number of pages.
    pub fn pages(&self) -> usize {
        self.words.len()
    }

    /// The state of a page since `flip` (Acquire).
    pub fn state(&self, page: Page, flip: Flip) -> PageState {
        state_in(self.words[page.number()].load(Ordering::Acquire), flip)
    }

    /// Claims a gated page; the caller alone may then write it. For a page that is not gated it
    /// returns the state: on `Claimed` the caller [waits](PageStates::wait_until_repaired), which
    /// also reports an `Abandoned` page; in any other state there is nothing to repair.
    pub fn claim(&self, page: Page, flip: Flip) -> Result<Claim<'_>, PageState> {
        let word_of_page = &self.words[page.number()];
        let mut seen = word_of_page.load(Ordering::Acquire);
        loop {
            match state_in(seen, flip) {
                PageState::Gated => {}
                state => return Err(state),
            }
            let claimed = word(flip, PageState::Claimed);
            // Acquire, although the pause that began the flip has ordered the page's own bytes: the
            // claimant reads what earlier repairs of other pages copied here as a destination.
            match word_of_page.compare_exchange_weak(seen, claimed, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Ok(Claim { word: word_of_page, flip }),
                Err(now) => seen = now,
            }
        }
    }

    /// Backs off until the claimant of a page is done, and returns the number of rounds. It spins,
    /// yields the processor, and then sleeps until the claimant wakes it; all of this is
    /// async-signal-safe.
    ///
    /// Call it for a page that is or was claimed; for a gated page that no thread claims it never
    /// returns.
    ///
    /// # Errors
    /// [`Abandoned`] if the claimant has unwound: the page is not repaired and will not be.
    pub fn wait_until_repaired(&self, page: Page, flip: Flip) -> Result<u32, Abandoned> {
        let rounds = self.wait(page, flip, |state| state < PageState::Abandoned, CLAIMED_AWAITED);
        if self.state(page, flip) == PageState::Abandoned { Err(Abandoned { page }) } else { Ok(rounds) }
    }

    fn wait(&self, page: Page, flip: Flip, goes_on: impl Fn(PageState) -> bool, awaited: u32) -> u32 {
        let word_of_page = &self.words[page.number()];
        let mut waiting = Waiting::default();
        loop {
            let seen = word_of_page.load(Ordering::Acquire);
            let state = state_in(seen, flip);
            if !goes_on(state) {
                return waiting.rounds();
            }
            waiting.round(|| match state {
                // No thread would wake this one.
                PageState::Gated => thread::yield_now(),
                _ => announce_and_sleep(word_of_page, seen, word_awaited(flip, awaited)),
            });
        }
    }

    /// The first run of repaired, not yet installed pages in `within`, for one CONTINUE; if there
    /// is none, an empty range at the end of `within`.
    pub fn run_to_install(&self, within: Range<Page>, flip: Flip) -> Range<Page> {
        let is_repaired = |page: &Page| self.state(*page, flip) == PageState::Repaired;
        let start = Page::range(within.clone()).find(is_repaired).unwrap_or(within.end);
        let end = Page::range(start..within.end).find(|page| !is_repaired(page)).unwrap_or(within.end);
        start..end
    }

    /// Marks pages as installed after their CONTINUE succeeded, or said `EEXIST` because another
    /// thread's had. Pages that are installed already stay so.
    ///
    /// # Panics
    /// In debug builds, if a page was not even repaired: it must not have been mapped.
    pub fn install(&self, pages: Range<Page>, flip: Flip) {
        for page in Page::range(pages) {
            let (from, to) = (word(flip, PageState::Repaired), word(flip, PageState::Installed));
            // Not a store: that would end the release sequence of `repaired`, and a thread that
            // reads `Installed` reads the page too. An exchange continues it, so that Relaxed is
            // enough.
            let before = self.words[page.number()].compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
            debug_assert!(before.is_ok() || before == Err(to), "{page:?} was mapped unrepaired: {before:?}");
        }
    }

    /// Sets a run of repaired pages, from the start of `pages`, to `Moving`; the caller alone may
    /// then move them, and must end the [`Move`] afterwards. (AcqRel: the mover sees the repaired
    /// bytes; a thread that reads a page and then still finds it short of `Moving` has read it at
    /// its source.)
    pub fn begin_move(&self, pages: Range<Page>, flip: Flip) -> Move<'_> {
        let (from, to) = (word(flip, PageState::Repaired), word(flip, PageState::Moving));
        let words = &self.words[pages.start.number()..pages.end.number()];
        let is_taken = |word: &&AtomicU32| word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let count = words.iter().take_while(is_taken).count();
        Move { words: &words[..count], first: pages.start, flip }
    }

    /// Backs off until no thread is moving a page, as
    /// [`wait_until_repaired`](PageStates::wait_until_repaired). Returns the state then.
    ///
    /// # Errors
    /// [`Abandoned`] if a thread has unwound while it moved or repaired the page.
    pub fn wait_while_moving(&self, page: Page, flip: Flip) -> Result<PageState, Abandoned> {
        self.wait(page, flip, |state| state == PageState::Moving, MOVING_AWAITED);
        match self.state(page, flip) {
            PageState::Abandoned => Err(Abandoned { page }),
            state => Ok(state),
        }
    }

    /// The first page of `within` that is not repaired yet. An UNREGISTER is allowed when there is
    /// none in the whole heap.
    pub fn first_unrepaired(&self, within: Range<Page>, flip: Flip) -> Option<Page> {
        Page::range(within).find(|page| self.state(*page, flip) < PageState::Repaired)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn pages(numbers: Range<usize>) -> Range<Page> {
        Page::new(numbers.start)..Page::new(numbers.end)
    }

    #[test]
    fn a_page_goes_through_its_states_in_order() {
        let states = PageStates::new(3).unwrap();
        let flip = Flip::FIRST;
        assert_eq!(states.state(Page::new(1), flip), PageState::Gated);
        let claim = states.claim(Page::new(1), flip).unwrap();
        assert_eq!(states.state(Page::new(1), flip), PageState::Claimed);
        assert_eq!(states.claim(Page::new(1), flip).unwrap_err(), PageState::Claimed);
        claim.repaired();
        assert_eq!(states.claim(Page::new(1), flip).unwrap_err(), PageState::Repaired);
        assert_eq!(states.wait_until_repaired(Page::new(1), flip), Ok(0));
        states.install(pages(1..2), flip);
        states.install(pages(1..2), flip);
        assert_eq!(states.claim(Page::new(1), flip).unwrap_err(), PageState::Installed);
        assert_eq!(states.state(Page::new(0), flip), PageState::Gated);
    }

    #[test]
    fn another_flip_gates_every_page() {
        let states = PageStates::new(2).unwrap();
        let flip = Flip::FIRST;
        states.claim(Page::new(0), flip).unwrap().repaired();
        let _left_claimed = states.claim(Page::new(1), flip).unwrap();
        let next = flip.next();
        assert_eq!(states.first_unrepaired(pages(0..2), next), Some(Page::new(0)));
        states.claim(Page::new(0), next).unwrap().repaired();
        states.claim(Page::new(1), next).unwrap().repaired();
        assert_eq!(states.first_unrepaired(pages(0..2), next), None);
        assert_eq!(states.state(Page::new(0), flip), PageState::Gated, "the past flip is over");
    }

    /// A thread that waited for it would sleep for ever.
    #[test]
    fn a_page_whose_claimant_panics_is_abandoned_and_nobody_waits_for_it() {
        let states = PageStates::new(2).unwrap();
        let flip = Flip::FIRST;
        std::thread::scope(|scope| {
            let claim = states.claim(Page::new(1), flip).unwrap();
            let waiter = scope.spawn(|| states.wait_until_repaired(Page::new(1), flip));
            let claimant = scope.spawn(move || {
                let _claim = claim;
                // So that the waiter sleeps.
                std::thread::sleep(std::time::Duration::from_millis(50));
                std::panic::resume_unwind(Box::new("a repair fails"));
            });
            assert!(claimant.join().is_err());
            assert_eq!(waiter.join().unwrap(), Err(Abandoned { page: Page::new(1) }));
        });
        assert_eq!(states.claim(Page::new(1), flip).unwrap_err(), PageState::Abandoned, "a page is repaired once");
        assert_eq!(states.first_unrepaired(pages(0..2), flip), Some(Page::new(0)));
        assert_eq!(states.run_to_install(pages(0..2), flip), pages(2..2));
        assert!(Abandoned { page: Page::new(1) }.to_string().contains("page 1"));
        states.claim(Page::new(1), flip.next()).unwrap().repaired();
    }

    /// The same, of a page that was being moved. The pages whose move had ended are there.
    #[test]
    fn a_page_whose_mover_panics_is_abandoned_and_nobody_waits_for_it() {
        let states = PageStates::new(3).unwrap();
        let flip = Flip::FIRST;
        Page::range(pages(0..3)).for_each(|page| states.claim(page, flip).unwrap().repaired());
        std::thread::scope(|scope| {
            let mut taken = states.begin_move(pages(0..3), flip);
            taken.end_first(true);
            assert_eq!(taken.pages(), pages(1..3));
            let waiters = [1, 2].map(Page::new).map(|page| {
                scope.spawn({
                    let states = &states;
                    move || states.wait_while_moving(page, flip)
                })
            });
            let mover = scope.spawn(move || {
                let _taken = taken;
                // So that the waiters sleep.
                std::thread::sleep(std::time::Duration::from_millis(50));
                std::panic::resume_unwind(Box::new("a move fails"));
            });
            assert!(mover.join().is_err());
            assert_eq!(
                waiters.map(|waiter| waiter.join().unwrap()),
                [1, 2].map(Page::new).map(|page| Err(Abandoned { page }))
            );
        });
        assert_eq!(states.wait_while_moving(Page::new(0), flip), Ok(PageState::Installed));
        assert!(states.begin_move(pages(1..3), flip).pages().is_empty(), "a page is moved once");
    }

    #[test]
    fn runs_hold_repaired_pages_only() {
        let states = PageStates::new(8).unwrap();
        let flip = Flip::FIRST;
        for page in [1, 2, 3, 5].map(Page::new) {
            states.claim(page, flip).unwrap().repaired();
        }
        states.install(pages(1..2), flip);
        assert_eq!(states.run_to_install(pages(0..8), flip), pages(2..4));
        assert_eq!(states.run_to_install(pages(0..3), flip), pages(2..3));
        assert_eq!(states.run_to_install(pages(4..8), flip), pages(5..6));
        assert_eq!(states.run_to_install(pages(6..8), flip), pages(8..8));
    }
}
