//! Locks that a child made by `fork` can use: those of the standard library, without poisoning.
//!
//! A heap's locks must not keep the threads that wait in a table of the process, as `parking_lot` does: a child has a copy of
//! that table, in which threads of its parent wait that it does not have, and the C library gives their stacks, and with them
//! the memory of the table's entries, to the threads of the child. Its queues then end too early or never, and a child that
//! makes a heap of its own hangs. The standard library's locks are a word each that the kernel queues threads at
//! (`futex(2)`), which a child does not inherit.
//!
//! Notify when the lock is free: a thread that is woken while it is held sleeps again, for the lock, and is woken a second time. (Measured:
//! 3 % of the wall time of `binary-trees`.)
//!
//! A panic while a lock is held leaves no state behind that is half changed (`catch_unwind` round listeners and visitors
//! relies on it as well), so a poisoned lock is taken as any other.

use std::sync::{self, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// What holds a lock.
pub(crate) use std::sync::MutexGuard;

/// [`sync::Mutex`], never poisoned.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T: ?Sized>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex(sync::Mutex::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Mutex<T> {
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where another thread holds it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// [`sync::Condvar`], for a [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Condvar {
        Condvar(sync::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Waits to be notified, and may wake up without that.
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`wait`](Condvar::wait), for so long at most.
    pub(crate) fn wait_for<'a, T>(&self, guard: MutexGuard<'a, T>, timeout: Duration) -> MutexGuard<'a, T> {
        self.0.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
    }

    /// As [`wait`](Condvar::wait), at most until then. Says whether it is.
    pub(crate) fn wait_until<'a, T>(&self, guard: MutexGuard<'a, T>, until: Instant) -> (MutexGuard<'a, T>, bool) {
        let guard = self.wait_for(guard, until.saturating_duration_since(Instant::now()));
        (guard, Instant::now() >= until)
    }
}
