//! Which parts of private memory are open: accessible, and moved by a flip.
//!
//! Private memory that may be written counts where memory is limited by what is promised
//! (`RLIMIT_DATA`, `vm.overcommit_memory=2`), touched or not. So a view of it may be opened in
//! parts, as they are needed. Parts need not be neighbours, and the kernel need not join those that
//! are to one mapping: a flip moves one after the other.
//!
//! A part that is opened while pages of the view are in the from-view is open in both: it was not
//! moved, but a thread that repairs one of its pages reads the from-view, and finds zeroes there.
//! Who flips has the lock while parts are moved, so each part is either moved or opened in both.
//! (The rules are in `docs/protocol.md`, "Page barrier".)

use super::bases::Base;
use crate::sys::{self, Access, SysError};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The open parts of a heap's private memory. Addresses only, as [`Views`](super::Views): opening a
/// part invalidates no pointer.
#[derive(Debug)]
pub struct Parts {
    /// The reservation that contains both views.
    _base: Arc<Base>,
    view: usize,
    from: usize,
    len: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Offsets: no two overlap, and each was opened with one call.
    pub(super) open: Vec<Range<usize>>,
    /// Pages may be in the from-view.
    pub(super) moved: bool,
    /// How often a flip has begun to move parts.
    pub(super) flips: u64,
    /// Whether core dumps contain open parts.
    pub(super) dumped: bool,
}

impl Parts {
    pub(super) fn new(base: Arc<Base>, view: usize, from: usize, len: usize) -> Parts {
        Parts { _base: base, view, from, len, state: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a range of offsets, whole pages, readable and writable: its pages are committed when
    /// they are touched, and zero. What is open already does not change. A system call for each
    /// piece that is not, three while pages are in the from-view; takes a lock, for which a flip
    /// has to wait.
    ///
    /// # Errors
    /// `ENOMEM` above `RLIMIT_DATA`, at the overcommit limit, and near `vm.max_map_count`. Some of
    /// the range may then be open.
    ///
    /// # Panics
    /// If the range does not lie in the view, or not of whole pages.
    pub fn open(&self, range: Range<usize>) -> Result<(), SysError> {
        let whole = range.start.is_multiple_of(sys::page_size()) && range.end.is_multiple_of(sys::page_size());
        assert!(whole && range.start <= range.end && range.end <= self.len, "{range:x?} is no part of {:#x}", self.len);
        let mut state = self.lock();
        for hole in holes(&state.open, range) {
            // SAFETY: the ranges are ours; more access invalidates no pointer.
            unsafe {
                if state.moved {
                    accessible(self.from + hole.start, hole.len())?;
                }
                accessible(self.view + hole.start, hole.len())?;
                if state.dumped {
                    // A refusal only affects dumps.
                    let _ = sys::dump(self.view + hole.start, hole.len(), true);
                }
            }
            state.open.push(hole);
        }
        Ok(())
    }

    /// Whether all of a range is open.
    pub fn is_open(&self, range: Range<usize>) -> bool {
        holes(&self.lock().open, range).is_empty()
    }

    /// How many parts there are: each costs a flip a system call.
    pub fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether pages may be in the from-view, and how often a flip has begun.
    pub(super) fn moved(&self) -> (bool, u64) {
        let state = self.lock();
        (state.moved, state.flips)
    }

    /// Has open parts, now and later, included in core dumps.
    pub(super) fn dump(&self) -> Result<(), SysError> {
        let mut state = self.lock();
        state.dumped = true;
        // SAFETY: the view is ours; the advice changes no byte.
        state.open.iter().try_for_each(|part| unsafe { sys::dump(self.view + part.start, part.len(), true) })
    }
}

/// Makes addresses accessible that were mapped without access, because under `mlockall(MCL_FUTURE)`
/// the kernel commits a mapping with access at once and completely.
///
/// # Safety
/// Ownership (see [`sys`]).
pub(super) unsafe fn accessible(address: usize, bytes: usize) -> Result<(), SysError> {
    // SAFETY: the caller's.
    unsafe {
        // If `munlock` is refused, a process with `mlockall(MCL_FUTURE)` commits more memory;
        // otherwise nothing changes.
        let _ = sys::unlock(address, bytes);
        sys::protect(address, bytes, Access::ReadWrite)
    }
}

/// What of a range is in none of the parts.
fn holes(parts: &[Range<usize>], range: Range<usize>) -> Vec<Range<usize>> {
    let mut inside: Vec<_> = parts.iter().filter(|part| part.start < range.end && part.end > range.start).collect();
    inside.sort_unstable_by_key(|part| part.start);
    let mut holes = Vec::new();
    let mut at = range.start;
    for part in inside {
        if part.start > at {
            holes.push(at..part.start);
        }
        at = at.max(part.end);
    }
    if at < range.end {
        holes.push(at..range.end);
    }
    holes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_open_yet_is_found() {
        let parts = [10..20, 40..50, 20..25];
        let found = |range| holes(&parts, range).into_iter().map(|hole| (hole.start, hole.end)).collect::<Vec<_>>();
        assert_eq!(found(0..60), [(0, 10), (25, 40), (50, 60)]);
        assert_eq!(found(10..25), []);
        assert_eq!(found(12..41), [(25, 40)]);
        assert_eq!(found(60..70), [(60, 70)]);
        assert_eq!(found(5..5), []);
    }
}
