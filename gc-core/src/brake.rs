//! A brake: while it is on, a thread may wait for a time. The thread that takes it off wakes all
//! that wait.
//!
//! The waits are for the sake of the others, and nothing depends on them: a thread that finds the
//! brake off although it is on runs on. What must not be is a thread that waits its whole time
//! while the brake is off. See "The throttle" in `docs/protocol.md`; `loom_brake` runs these
//! functions.

use crate::rules::{Rule, kept};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex};
use std::sync::PoisonError;
use std::time::Duration;

/// See the [module](self). One thread puts it on and takes it off.
#[derive(Debug)]
pub struct Brake {
    is_on: AtomicBool,
    /// Guards nothing: a thread looks at the brake and begins to wait in one step.
    lock: Mutex<()>,
    taken_off: Condvar,
}

impl Default for Brake {
    fn default() -> Brake {
        Brake::new()
    }
}

impl Brake {
    /// A brake that is off.
    #[must_use]
    pub fn new() -> Brake {
        Brake { is_on: AtomicBool::new(false), lock: Mutex::new(()), taken_off: Condvar::new() }
    }

    /// Puts it on.
    pub fn put_on(&self) {
        // Relaxed: a thread that sees it late runs on.
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// Takes it off, and wakes all threads that wait. Does nothing if it is off.
    pub fn take_off(&self) {
        // Relaxed: the lock orders it before the look of every thread that locks later.
        if self.is_on.swap(false, Ordering::Relaxed) {
            if kept(Rule::LockBeforeWaking) {
                // A thread that has looked before, and locked before, waits by now.
                drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            }
            self.taken_off.notify_all();
        }
    }

    /// Whether it is on: a hint.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Waits for that time at most, as long as the brake is on. Also returns earlier, as a
    /// condition variable may. Blocks: not on a thread that a pause waits for.
    pub fn wait(&self, time: Duration) {
        let held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept(Rule::LookBeforeWaiting) || self.is_on() {
            drop(self.taken_off.wait_timeout(held, time));
        }
    }
}
