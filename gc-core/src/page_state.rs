//! The states of a page under the page barrier, from one flip to the end of its cycle.
//!
//! ```text
//! Gated ── claim: CAS, Acquire ──► Claimed ── repaired: store, Release ──► Repaired ── install: CAS ──► Installed
//!                                                                             └─ begin_move: CAS ─► Moving ─┘
//! ```
//!
//! Where pages are not shared between views but moved from one to the other, `Moving` says that one thread is at it: until
//! then a page is read where it was, afterwards where it went, and in between nowhere.
//!
//! Until `Repaired` a page holds addresses from before the flip only, afterwards only addresses from after it. Repairing
//! in place twice would forward twice, and two threads that both produce "the same" bytes lose the update of a mutator that
//! got the page first. So exactly one thread, the claimant, writes the page, and it does so once; who comes second backs
//! off until it is done.
//!
//! A state carries the number of its flip, and any other number reads as `Gated`. A flip therefore gates all pages by
//! moving one number, in the stop: the words of a heap of any size are left as they are. Numbers must move by one and only
//! while all threads that use these words are stopped; [`Flip`] has 29 bits of it, so a word left alone for 2^29 flips
//! would be believed again. (At a flip a second that is 17 years.)
//!
//! Who waits for a claimant or a mover spins, yields, and then sleeps ([`futex(2)`](https://man7.org/linux/man-pages/man2/futex.2.html)): the other
//! may have lost its processor, to this very thread if that has a real-time policy. Before it sleeps it says so in the word, by a
//! compare-and-swap; who ends the state does so by an exchange, sees it, and wakes. Where nobody sleeps nobody makes a system call.
//!
//! `Installed` says that a `UFFDIO_CONTINUE` of the page succeeded. It is a hint that saves system calls: a thread that
//! traps on an installed page does the CONTINUE again.

use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{futex, hint, thread};
use std::ops::Range;

/// The number of a flip, not zero. Heaps count from [`Flip::FIRST`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flip(u32);

impl Flip {
    /// The first flip of a heap.
    pub const FIRST: Flip = Flip(1);

    /// The flip after this one. Zero is passed over: it is what words are made with.
    #[must_use]
    pub fn next(self) -> Flip {
        let next = (self.0 + 1) & (u32::MAX >> STATE_BITS);
        Flip(next.max(1))
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// The flip that a heap's pages are gated by, and whether its repair is under way.
///
/// Both are moved inside stops only ([`begin`](CurrentFlip::begin)) or when every page is repaired
/// ([`end`](CurrentFlip::end)), so threads between two safepoints read one and the same flip.
///
/// Before pages can be touched without a fault although nobody has claimed them, no thread may be left that came because
/// of a fault: it would claim such a page, its own or a neighbour, and rewrite what another has written there meanwhile.
/// So a fault is served between [`enter`](CurrentFlip::enter) and the drop of what that gives, and
/// [`close`](CurrentFlip::close) waits until all are out and keeps others from coming in until the end.
#[derive(Debug)]
pub struct CurrentFlip {
    number: AtomicU32,
    active: AtomicBool,
    /// [`ONE`] for each thread that serves a fault, [`CLOSING`] and [`AWAITED`].
    serving: AtomicU32,
}

/// In `serving`: nobody comes in. One word with the count, so that the order of the two is never in doubt.
const CLOSING: u32 = 1;

/// In `serving`: somebody sleeps until the flip has closed or ended.
const AWAITED: u32 = 2;

/// In `serving`: a thread.
const ONE: u32 = 4;

/// A fault is being served; the flip does not end meanwhile.
#[derive(Debug)]
#[must_use]
pub struct Serving<'a>(&'a CurrentFlip);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        // Release: what was written to pages is there when the flip ends.
        let before = self.0.serving.fetch_sub(ONE, Ordering::Release);
        if before & AWAITED != 0 && before / ONE == 1 {
            futex::wake_all(&self.0.serving);
        }
    }
}

impl Default for CurrentFlip {
    fn default() -> Self {
        CurrentFlip {
            number: AtomicU32::new(Flip::FIRST.0),
            active: AtomicBool::new(false),
            serving: AtomicU32::new(0),
        }
    }
}

impl CurrentFlip {
    /// The flip under way, or the last one.
    pub fn get(&self) -> Flip {
        Flip(self.number.load(Ordering::Acquire))
    }

    /// Whether pages may be gated.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Gates every page: the next flip. Only while all threads that use the pages are stopped.
    pub fn begin(&self) -> Flip {
        let next = self.get().next();
        // Release: who sees the flip sees what was planned for it.
        self.number.store(next.0, Ordering::Release);
        self.active.store(true, Ordering::Release);
        next
    }

    /// Begins to serve a fault; waits while a flip is being ended, asleep after some rounds. A signal handler may call it. Whether
    /// the flip is still active is asked after this.
    pub fn enter(&self) -> Serving<'_> {
        let mut waiting = Waiting::default();
        let mut seen = self.serving.load(Ordering::Relaxed);
        loop {
            if seen & CLOSING != 0 {
                waiting.round(|| self.sleep(seen));
                seen = self.serving.load(Ordering::Relaxed);
                continue;
            }
            // Acquire: who comes in after the end of a flip sees that it has ended.
            match self.serving.compare_exchange_weak(seen, seen + ONE, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Serving(self),
                Err(now) => seen = now,
            }
        }
    }

    /// Waits until nobody serves a fault, and lets nobody in before the [`end`](CurrentFlip::end), which must follow soon:
    /// threads that fault wait for it. All pages that hold anything are repaired.
    pub fn close(&self) {
        self.serving.fetch_or(CLOSING, Ordering::Relaxed);
        let mut waiting = Waiting::default();
        loop {
            // Acquire: with the Release of those who leave.
            let seen = self.serving.load(Ordering::Acquire);
            if seen / ONE == 0 {
                return;
            }
            waiting.round(|| self.sleep(seen));
        }
    }

    /// Sleeps until the count has gone to zero or the flip has ended; or wakes before.
    fn sleep(&self, seen: u32) {
        announce_and_sleep(&self.serving, seen, seen | AWAITED);
    }

    /// No page is gated any more. After [`close`](CurrentFlip::close).
    pub fn end(&self) {
        self.active.store(false, Ordering::Release);
        if self.serving.fetch_and(!(CLOSING | AWAITED), Ordering::Release) & AWAITED != 0 {
            futex::wake_all(&self.serving);
        }
    }
}

/// What has been done to a page since the flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageState {
    /// Nothing. The page holds addresses from before the flip, and mutators cannot reach it.
    Gated,
    /// One thread is repairing it.
    Claimed,
    /// It holds addresses from after the flip only.
    Repaired,
    /// Repaired, and on its way to the mutators' view.
    Moving,
    /// It is back in the mutators' view.
    Installed,
}

/// Sleeps while a word holds `awaited`, which tells whoever changes it to wake; first makes it so, if it still holds `seen`.
fn announce_and_sleep(word: &AtomicU32, seen: u32, awaited: u32) {
    // Relaxed: what follows what is waited for is ordered by the load that finds it done. The kernel reads the word again before
    // the thread sleeps, in one order with the wake.
    if seen == awaited || word.compare_exchange(seen, awaited, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        futex::wait(word, awaited);
    }
}

/// How a thread waits for another: it spins, then yields, then sleeps.
#[derive(Default)]
struct Waiting {
    rounds: u32,
}

impl Waiting {
    /// What is waited for takes a few microseconds; past that the other is likely not running.
    fn round(&mut self, sleep: impl FnOnce()) {
        match self.rounds {
            rounds if rounds < SPINS => hint::spin_loop(),
            // To a thread of a real-time policy this gives nothing that has a lower priority.
            rounds if rounds < SPINS + YIELDS => thread::yield_now(),
            _ => sleep(),
        }
        self.rounds = self.rounds.saturating_add(1);
    }
}

const STATE_BITS: u32 = 3;

/// Written instead of [`PageState::Claimed`] where a thread sleeps until the page is repaired.
const CLAIMED_AWAITED: u32 = 5;

/// Written instead of [`PageState::Moving`] where a thread sleeps until the page has moved.
const MOVING_AWAITED: u32 = 6;

fn word(flip: Flip, state: PageState) -> u32 {
    flip.0 << STATE_BITS | state as u32
}

fn state_in(word: u32, flip: Flip) -> PageState {
    if word >> STATE_BITS != flip.0 {
        return PageState::Gated;
    }
    match word & ((1 << STATE_BITS) - 1) {
        0 => PageState::Gated,
        1 | CLAIMED_AWAITED => PageState::Claimed,
        2 => PageState::Repaired,
        3 | MOVING_AWAITED => PageState::Moving,
        _ => PageState::Installed,
    }
}

/// The right, and the duty, to repair one page. It must end in [`repaired`](Claim::repaired): a claim that is dropped
/// leaves the page claimed for ever, because what was half done can neither be done again nor be given out.
#[derive(Debug)]
#[must_use = "a page that is claimed and never repaired stops every thread that touches it"]
pub struct Claim<'a> {
    word: &'a AtomicU32,
    flip: Flip,
}

impl Claim<'_> {
    /// Publishes the repaired bytes (Release): whoever reads [`PageState::Repaired`] sees them. Wakes those who sleep until then;
    /// where nobody does, no system call is made.
    pub fn repaired(self) {
        publish(self.word, self.flip, PageState::Repaired);
    }
}

/// Ends a state that others wait for, with Release, and wakes them.
fn publish(word_of_page: &AtomicU32, flip: Flip, state: PageState) {
    // An exchange: by a store, a thread that says in between that it will sleep would not be seen.
    let before = word_of_page.swap(word(flip, state), Ordering::Release) & ((1 << STATE_BITS) - 1);
    if before == CLAIMED_AWAITED || before == MOVING_AWAITED {
        futex::wake_all(word_of_page);
    }
}

/// The states of all pages of a heap, four bytes each. Nothing here allocates, takes a lock or panics on an index in range
/// once it is made, so that a signal handler may use it.
#[derive(Debug)]
pub struct PageStates {
    words: Box<[AtomicU32]>,
}

impl PageStates {
    /// States for `pages` pages, all gated.
    ///
    /// The words are memory that the system gives when it is touched: pages that nobody uses cost nothing.
    #[cfg(not(loom))]
    pub fn new(pages: usize) -> PageStates {
        let words = Box::<[AtomicU32]>::new_zeroed_slice(pages);
        // SAFETY: an `AtomicU32` has the layout of a `u32`, for which all bits zero is a value.
        PageStates { words: unsafe { words.assume_init() } }
    }

    /// States for `pages` pages, all gated.
    #[cfg(loom)]
    pub fn new(pages: usize) -> PageStates {
        PageStates { words: (0..pages).map(|_| AtomicU32::new(0)).collect() }
    }

    /// The number of pages.
    pub fn pages(&self) -> usize {
        self.words.len()
    }

    /// The state of a page since `flip` (Acquire).
    pub fn state(&self, page: usize, flip: Flip) -> PageState {
        state_in(self.words[page].load(Ordering::Acquire), flip)
    }

    /// Claims a gated page; the caller alone may then write it. A page that is not gated gives its state: `Claimed` means
    /// to [wait](PageStates::wait_until_repaired), the others that there is nothing to repair.
    pub fn claim(&self, page: usize, flip: Flip) -> Result<Claim<'_>, PageState> {
        let word_of_page = &self.words[page];
        let mut seen = word_of_page.load(Ordering::Acquire);
        loop {
            match state_in(seen, flip) {
                PageState::Gated => {}
                state => return Err(state),
            }
            let claimed = word(flip, PageState::Claimed);
            // Acquire, although the page's bytes come with the stop that ended the old flip: the claimant reads what
            // earlier repairs of other pages copied here as a destination.
            match word_of_page.compare_exchange_weak(seen, claimed, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Ok(Claim { word: word_of_page, flip }),
                Err(now) => seen = now,
            }
        }
    }

    /// Backs off until the claimant of a page is done, and tells how many rounds that took. It spins, yields the processor, and
    /// then sleeps until the claimant wakes it: calls that a signal handler may make.
    ///
    /// Call it for a page that is or was claimed; a gated one that nobody claims keeps it waiting.
    pub fn wait_until_repaired(&self, page: usize, flip: Flip) -> u32 {
        self.wait(page, flip, |state| state < PageState::Repaired, CLAIMED_AWAITED)
    }

    fn wait(&self, page: usize, flip: Flip, goes_on: impl Fn(PageState) -> bool, awaited: u32) -> u32 {
        let word_of_page = &self.words[page];
        let mut waiting = Waiting::default();
        loop {
            let seen = word_of_page.load(Ordering::Acquire);
            let state = state_in(seen, flip);
            if !goes_on(state) {
                return waiting.rounds;
            }
            waiting.round(|| match state {
                // Nobody is there who would wake.
                PageState::Gated => thread::yield_now(),
                _ => announce_and_sleep(word_of_page, seen, flip.0 << STATE_BITS | awaited),
            });
        }
    }

    /// The first run of repaired, not yet installed pages in `within`, for one CONTINUE; empty, at the end of `within`,
    /// where there is none.
    pub fn run_to_install(&self, within: Range<usize>, flip: Flip) -> Range<usize> {
        let is_repaired = |page: &usize| self.state(*page, flip) == PageState::Repaired;
        let start = within.clone().find(is_repaired).unwrap_or(within.end);
        let end = (start..within.end).find(|page| !is_repaired(page)).unwrap_or(within.end);
        start..end
    }

    /// Marks pages as installed after their CONTINUE succeeded, or said `EEXIST` because another thread's had. Pages that
    /// are installed already stay so.
    ///
    /// # Panics
    /// In debug builds, if a page was not even repaired: it must not have been let in.
    pub fn install(&self, pages: Range<usize>, flip: Flip) {
        for page in pages {
            let (from, to) = (word(flip, PageState::Repaired), word(flip, PageState::Installed));
            // Not a store: that would end the release sequence of `repaired`, and who reads `Installed` reads the page too.
            // An exchange continues it, so that Relaxed is enough.
            let before = self.words[page].compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
            debug_assert!(before.is_ok() || before == Err(to), "page {page} was let in unrepaired: {before:?}");
        }
    }

    /// Takes repaired pages from the start of `pages` to be moved, as many as follow one another; the caller alone may then
    /// move them, and must end with [`end_move`](PageStates::end_move). (AcqRel: the mover sees the repaired bytes; who reads
    /// a page and then still finds it short of `Moving` has read it where it was.)
    pub fn begin_move(&self, pages: Range<usize>, flip: Flip) -> Range<usize> {
        let (from, to) = (word(flip, PageState::Repaired), word(flip, PageState::Moving));
        let taken = pages.clone().take_while(|&page| {
            self.words[page].compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        });
        let count = taken.count();
        pages.start..pages.start + count
    }

    /// Ends the moving of pages: they are there, or (`false`) where they were.
    pub fn end_move(&self, pages: Range<usize>, flip: Flip, moved: bool) {
        let state = if moved { PageState::Installed } else { PageState::Repaired };
        for page in pages {
            publish(&self.words[page], flip, state);
        }
    }

    /// Backs off until nobody is moving a page, as [`wait_until_repaired`](PageStates::wait_until_repaired).
    pub fn wait_while_moving(&self, page: usize, flip: Flip) {
        self.wait(page, flip, |state| state == PageState::Moving, MOVING_AWAITED);
    }

    /// The first page of `within` that still is to be repaired. None anywhere is what an UNREGISTER waits for.
    pub fn first_unrepaired(&self, within: Range<usize>, flip: Flip) -> Option<usize> {
        within.into_iter().find(|page| self.state(*page, flip) < PageState::Repaired)
    }
}

/// Rounds of waiting before the processor is yielded. A model has no time to spin.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };

/// Rounds in which it is, before the thread sleeps.
const YIELDS: u32 = if cfg!(loom) { 0 } else { 16 };

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_through_its_states_in_order() {
        let states = PageStates::new(3);
        let flip = Flip::FIRST;
        assert_eq!(states.state(1, flip), PageState::Gated);
        let claim = states.claim(1, flip).unwrap();
        assert_eq!(states.state(1, flip), PageState::Claimed);
        assert_eq!(states.claim(1, flip).unwrap_err(), PageState::Claimed);
        claim.repaired();
        assert_eq!(states.claim(1, flip).unwrap_err(), PageState::Repaired);
        assert_eq!(states.wait_until_repaired(1, flip), 0);
        states.install(1..2, flip);
        states.install(1..2, flip);
        assert_eq!(states.claim(1, flip).unwrap_err(), PageState::Installed);
        assert_eq!(states.state(0, flip), PageState::Gated);
    }

    #[test]
    fn another_flip_gates_every_page() {
        let states = PageStates::new(2);
        let flip = Flip::FIRST;
        states.claim(0, flip).unwrap().repaired();
        let _left_claimed = states.claim(1, flip).unwrap();
        let next = flip.next();
        assert_eq!(states.first_unrepaired(0..2, next), Some(0));
        states.claim(0, next).unwrap().repaired();
        states.claim(1, next).unwrap().repaired();
        assert_eq!(states.first_unrepaired(0..2, next), None);
        assert_eq!(states.state(0, flip), PageState::Gated, "the past flip is over");
    }

    #[test]
    fn runs_hold_repaired_pages_only() {
        let states = PageStates::new(8);
        let flip = Flip::FIRST;
        for page in [1, 2, 3, 5] {
            states.claim(page, flip).unwrap().repaired();
        }
        states.install(1..2, flip);
        assert_eq!(states.run_to_install(0..8, flip), 2..4);
        assert_eq!(states.run_to_install(0..3, flip), 2..3);
        assert_eq!(states.run_to_install(4..8, flip), 5..6);
        assert_eq!(states.run_to_install(6..8, flip), 8..8);
    }

    #[test]
    fn flips_never_have_number_zero() {
        let last = Flip(u32::MAX >> STATE_BITS);
        assert_eq!(last.next(), Flip::FIRST);
        assert_eq!(Flip::FIRST.next().number(), 2);
    }
}
