//! How a thread waits for another at a word, in its fault handler or not: it spins, yields, and
//! then sleeps ([`futex(2)`](https://man7.org/linux/man-pages/man2/futex.2.html)), because the
//! other thread may have been preempted, by this very thread if that has a real-time policy.
//!
//! Before it sleeps it announces that in the word, by a compare-and-swap. The thread that ends the
//! state uses an exchange, sees the announcement, and wakes it. Without a sleeper there is no
//! system call.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{futex, hint, thread};

/// Rounds of spinning before the thread yields. A model does not spin.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };

/// Rounds of yielding before the thread sleeps.
const YIELDS: u32 = if cfg!(loom) { 0 } else { 16 };

/// Sleeps while a word holds `awaited`, which tells the thread that changes it to wake the
/// sleepers; first sets `awaited`, if the word still holds `seen`.
pub(crate) fn announce_and_sleep(word: &AtomicU32, seen: u32, awaited: u32) {
    // Relaxed: the load that finds the wait over orders what follows it. The kernel reads the word
    // again before the thread sleeps, in one total order with the wake.
    if seen == awaited || word.compare_exchange(seen, awaited, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        futex::wait(word, awaited);
    }
}

/// How a thread waits for another: it spins, then yields, then sleeps.
#[derive(Default)]
pub(crate) struct Waiting {
    rounds: u32,
}

impl Waiting {
    /// Rounds so far.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// The other thread needs a few microseconds; after that it is probably not running.
    pub(crate) fn round(&mut self, sleep: impl FnOnce()) {
        match self.rounds {
            rounds if rounds < SPINS => hint::spin_loop(),
            // A yield by a real-time thread lets no thread of lower priority run.
            rounds if rounds < SPINS + YIELDS => thread::yield_now(),
            _ => sleep(),
        }
        self.rounds = self.rounds.saturating_add(1);
    }
}
