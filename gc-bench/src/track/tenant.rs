//! A thread whose time a track tiles, as its heap knows it.

use gc_heap::Mutator;

/// What a thread does for its heap while it waits.
pub(crate) trait Tenant {
    /// Its number in the heap's events.
    fn number(&self) -> u64;

    /// Lets the heap stop it, if it wants to.
    fn safepoint(&mut self);

    /// Runs `f` outside the heap, which does not wait for the thread meanwhile.
    fn blocking<R>(&mut self, f: impl FnOnce() -> R) -> R;
}

impl Tenant for Mutator<'_> {
    #[inline(always)]
    fn number(&self) -> u64 {
        Mutator::number(self)
    }

    #[inline(always)]
    fn safepoint(&mut self) {
        Mutator::safepoint(self);
    }

    #[inline(always)]
    fn blocking<R>(&mut self, f: impl FnOnce() -> R) -> R {
        Mutator::blocking(self, f)
    }
}

/// A thread without a collected heap.
pub(crate) struct Unhoused {
    pub(crate) number: u64,
}

impl Tenant for Unhoused {
    fn number(&self) -> u64 {
        self.number
    }

    fn safepoint(&mut self) {}

    fn blocking<R>(&mut self, f: impl FnOnce() -> R) -> R {
        f()
    }
}
