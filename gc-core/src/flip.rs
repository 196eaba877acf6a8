//! The flip that gates a heap's pages: its number, and how it begins and ends around the threads
//! that serve faults. The states of single pages are in [`page_state`](crate::page_state).

use crate::rules::{Rule, kept};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::futex;
use crate::waiting::{Waiting, announce_and_sleep};

/// Bits of a page's word that hold its state; the others hold the number of a flip.
pub(crate) const STATE_BITS: u32 = 3;

/// The number of a flip, not zero. Heaps count from [`Flip::FIRST`] upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flip(u32);

impl Flip {
    /// The first flip of a heap.
    pub const FIRST: Flip = Flip(1);

    /// The flip after this one. Zero is skipped: it is the initial value of the words.
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
/// Both change only inside pauses ([`begin`](CurrentFlip::begin)) or when every page is repaired
/// ([`end`](CurrentFlip::end)), so a thread reads the same flip throughout between two safepoints.
///
/// Before the flip may end, after which unclaimed pages can be touched without a fault, no thread
/// may be left that is serving a fault: it could claim such a page (the faulting one or a
/// neighbour) and overwrite what another thread has stored there meanwhile. So the thread that
/// [serves](CurrentFlip::serve) a fault is counted, and the end waits until none is left and blocks
/// new ones.
#[derive(Debug)]
pub struct CurrentFlip {
    number: AtomicU32,
    active: AtomicBool,
    /// [`ONE`] for each thread that serves a fault, [`CLOSING`] and [`AWAITED`].
    serving: AtomicU32,
}

/// In `serving`: no thread may enter. In one word with the count, so that the two are totally
/// ordered.
const CLOSING: u32 = 1;

/// In `serving`: a thread sleeps until the flip has closed or ended.
const AWAITED: u32 = 2;

/// In `serving`: one thread that serves a fault.
const ONE: u32 = 4;

/// Guard of a fault that is being served; the flip does not end meanwhile.
struct Serving<'a>(&'a CurrentFlip);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        // Release: what this thread wrote to pages is visible to the thread that ends the flip.
        let before = self.0.serving.fetch_sub(ONE, Ordering::Release);
        if before & AWAITED != 0 && before / ONE == 1 && kept(Rule::LastServerWakes) {
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

    /// Gates every page by starting the next flip. Called only while all threads that use the pages
    /// are stopped.
    pub fn begin(&self) -> Flip {
        let next = self.get().next();
        // Release: a thread that sees the flip sees its plan.
        self.number.store(next.0, Ordering::Release);
        self.active.store(true, Ordering::Release);
        next
    }

    /// Serves a fault: by `gated` if pages may be gated, otherwise by `ended`. No flip ends before
    /// it returns, and it first waits while one is being ended, asleep after some rounds. A signal
    /// handler may call it.
    pub fn serve<T>(&self, gated: impl FnOnce(Flip) -> T, ended: impl FnOnce(Flip) -> T) -> T {
        // Whether the flip is active is looked at only once this thread is counted.
        let _serving = kept(Rule::CountServers).then(|| self.enter());
        let flip = self.get();
        if self.is_active() { gated(flip) } else { ended(flip) }
    }

    fn enter(&self) -> Serving<'_> {
        let mut waiting = Waiting::default();
        let mut seen = self.serving.load(Ordering::Relaxed);
        loop {
            if seen & CLOSING != 0 {
                waiting.round(|| self.sleep(seen));
                seen = self.serving.load(Ordering::Relaxed);
                continue;
            }
            // Acquire: a thread that enters after the end of a flip sees that it has ended.
            match self.serving.compare_exchange_weak(seen, seen + ONE, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Serving(self),
                Err(now) => seen = now,
            }
        }
    }

    /// Ends the flip: no page is gated any more. `last` runs when no thread serves a fault, and
    /// threads that fault wait until it has returned. By now every page that holds an object is
    /// repaired.
    pub fn end(&self, last: impl FnOnce()) {
        if kept(Rule::CloseFlip) {
            self.close();
        }
        last();
        self.active.store(false, Ordering::Release);
        if self.serving.fetch_and(!(CLOSING | AWAITED), Ordering::Release) & AWAITED != 0 {
            futex::wake_all(&self.serving);
        }
    }

    /// Waits until no thread serves a fault, and blocks new ones.
    fn close(&self) {
        self.serving.fetch_or(CLOSING, Ordering::Relaxed);
        let mut waiting = Waiting::default();
        loop {
            // Acquire: pairs with the Release of the threads that leave.
            let seen = self.serving.load(Ordering::Acquire);
            if seen / ONE == 0 {
                return;
            }
            waiting.round(|| self.sleep(seen));
        }
    }

    /// Sleeps until the count is zero or the flip has ended; may wake earlier.
    fn sleep(&self, seen: u32) {
        announce_and_sleep(&self.serving, seen, seen | AWAITED);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The last thread that serves a fault wakes the one that ends the flip, which sleeps by then.
    #[test]
    fn a_flip_ends_after_the_last_fault_is_served() {
        let (flip, served) = (CurrentFlip::default(), AtomicBool::new(false));
        flip.begin();
        let begun = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let (flip, served, begun) = (&flip, &served, &begun);
            scope.spawn(move || {
                let serve = |_| {
                    begun.wait();
                    // So that the other sleeps.
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    served.store(true, Ordering::Relaxed);
                };
                flip.serve(serve, |_| panic!("the flip has ended before its time"));
            });
            begun.wait();
            flip.end(|| assert!(served.load(Ordering::Relaxed), "a fault is still being served"));
        });
        assert!(!flip.serve(|_| true, |_| false), "the flip has ended");
    }

    #[test]
    fn flips_never_have_number_zero() {
        let last = Flip(u32::MAX >> STATE_BITS);
        assert_eq!(last.next(), Flip::FIRST);
        assert_eq!(Flip::FIRST.next().number(), 2);
    }
}
