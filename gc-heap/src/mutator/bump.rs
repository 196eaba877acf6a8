//! Bumping: how a new object gets its memory within what is reserved. Never a safepoint.

use super::Mutator;
use crate::space::LARGE_BYTES;
use gc_core::prefetch::prefetch_for_writing;

/// How far ahead of the bump the cache lines are fetched for writing. Measured: 1 to 2 KiB are
/// best.
const PREFETCH_AHEAD: u64 = 1024;

impl Mutator<'_> {
    /// Allocates the next `bytes` of the TLAB; returns an address in the good view.
    #[inline(always)]
    #[track_caller]
    pub(super) fn bump(&self, bytes: usize) -> u64 {
        match self.try_bump(bytes) {
            Some(start) => start,
            None => self.bump_slow(bytes),
        }
    }

    /// As `bump`, where the TLAB has room.
    #[inline(always)]
    pub(super) fn try_bump(&self, bytes: usize) -> Option<u64> {
        let start = self.tlabs.active.bump(bytes)?;
        prefetch_for_writing(start + bytes as u64 + PREFETCH_AHEAD);
        Some(start)
    }

    /// As `bump` for sizes known at run time: fetches all lines of a larger object.
    #[inline(always)]
    #[track_caller]
    pub(super) fn bump_sized(&self, bytes: usize) -> u64 {
        if bytes > LARGE_BYTES {
            return self.bump_slow(bytes);
        }
        let top = self.bump(bytes);
        let mut line = 64;
        while line < bytes as u64 {
            prefetch_for_writing(top + PREFETCH_AHEAD + line);
            line += 64;
        }
        top
    }

    /// Past the TLAB's end: uses the rest of the reservation, or a block that is available without
    /// waiting.
    #[inline(never)]
    pub(crate) fn try_bump_slow(&self, bytes: usize) -> Option<u64> {
        if bytes > LARGE_BYTES {
            return self.take_large(bytes);
        }
        let reserved = self.tlabs.reserved.borrow_mut().blocks.pop();
        if reserved.is_none() && self.inner.config.stress.is_on() {
            return None;
        }
        match reserved.or_else(|| self.inner.take_block()) {
            Some(block) => {
                self.clear_stress_limit();
                self.renew_tlab(block);
            }
            None if self.tlabs.spare.rest() >= bytes => self.tlabs.swap_spare(),
            None => return None,
        }
        self.record().end.store(0, std::sync::atomic::Ordering::Relaxed); // re-armed by the next safepoint
        self.tlabs.active.bump(bytes)
    }
}
