//! Locks that a child made by `fork` can use: those of the standard library, without poisoning.
//!
//! `parking_lot` keeps waiting threads in a process-wide table. A forked child inherits entries for
//! threads that do not exist there and whose stacks glibc reuses, so its queues are corrupt and a
//! heap built in the child can hang. The standard library's locks are one word each; the kernel
//! keeps the queue of waiters (`futex(2)`), which a child does not inherit.
//!
//! Unlock before notifying; otherwise the woken thread blocks on the lock at once. (Measured: 3 %
//! of the wall time of `binary-trees`.)
//!
//! A panic while a lock is held leaves no half-changed state (`catch_unwind` around listeners and
//! visitors relies on that as well), so poisoning is ignored.

use std::cell::Cell;
use std::sync::{self, PoisonError, TryLockError};
use std::time::{Duration, Instant};

thread_local! {
    /// Who hears how long this thread has waited for a lock, in nanoseconds.
    static TELL_WAITS: Cell<Option<fn(u64)>> = const { Cell::new(None) };
}

/// Has this thread's waits for locks told to a function, which is called with the lock held.
#[cfg(feature = "losses")]
pub(crate) fn tell_waits(tell: Option<fn(u64)>) {
    TELL_WAITS.set(tell);
}

/// The guard of a lock.
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
        match self.try_lock() {
            Some(guard) => guard,
            None => self.wait_for_lock(),
        }
    }

    /// Waits, and tells the thread's account of it.
    #[cold]
    fn wait_for_lock(&self) -> MutexGuard<'_, T> {
        let tell = TELL_WAITS.get();
        let since = tell.map(|_| Instant::now());
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(tell), Some(since)) = (tell, since) {
            tell(since.elapsed().as_nanos() as u64);
        }
        guard
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

    /// Waits for a notification; may also wake up spuriously.
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`wait`](Condvar::wait), for so long at most.
    pub(crate) fn wait_for<'a, T>(&self, guard: MutexGuard<'a, T>, timeout: Duration) -> MutexGuard<'a, T> {
        self.0.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
    }

    /// As [`wait`](Condvar::wait), at most until the deadline. Returns whether the deadline has
    /// passed.
    pub(crate) fn wait_until<'a, T>(&self, guard: MutexGuard<'a, T>, until: Instant) -> (MutexGuard<'a, T>, bool) {
        let guard = self.wait_for(guard, until.saturating_duration_since(Instant::now()));
        (guard, Instant::now() >= until)
    }
}
