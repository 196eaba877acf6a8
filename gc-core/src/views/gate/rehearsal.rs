//! The rehearsal of a flip, on scratch memory.

use crate::sys::{self, Access, Destination, MoveError, RegisterMode, SysError, Uffd};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The address ranges for the rehearsal of a flip: two private ranges, the first with one page of
/// memory during a rehearsal. If they cannot be reserved, or a call fails, flips are not rehearsed
/// and take longer.
#[derive(Debug)]
pub(super) struct Rehearsal {
    /// Address of the ranges; 0: there are none, one was lost, or a thread is using them.
    view: AtomicUsize,
}

/// The range of a whole page table, which the kernel moves as a unit, as in a flip.
const REHEARSED: usize = crate::views::MIN_SPAN;

impl Rehearsal {
    pub(super) fn new() -> Rehearsal {
        Rehearsal { view: AtomicUsize::new(sys::reserve(2 * REHEARSED, REHEARSED).unwrap_or(0)) }
    }

    /// The error of the refused call.
    pub(super) fn run(&self, uffd: &Uffd) -> Result<(), SysError> {
        // One rehearsal at a time, because two would find each other's pages registered: a second
        // thread skips its own. Acquire, with the Release below: the mappings of the previous
        // rehearsal come before.
        let view = self.view.swap(0, Ordering::Acquire);
        if view == 0 {
            return Ok(());
        }
        let lost = Cell::new(false);
        // No rehearsal any more, because the addresses may belong to another mapping now.
        let note = |refused: MoveError| {
            lost.set(matches!(refused.destination, Destination::Lost(_)));
            SysError::from(refused)
        };
        let from = view + REHEARSED;
        // SAFETY: both ranges are ours, and no other code knows of them. The word is in memory
        // mapped just before.
        let run = unsafe {
            sys::map_private_at(view, REHEARSED, Access::ReadWrite)
                // The kernel may have unmapped what was there.
                .inspect_err(|_| lost.set(true))
                .inspect(|()| {
                    let word = &*std::ptr::with_exposed_provenance::<AtomicU64>(view);
                    word.store(1, Ordering::Relaxed);
                })
                .and_then(|()| sys::move_page_tables(view, REHEARSED, from).map_err(note))
                .and_then(|()| sys::uffd_register(uffd, view, REHEARSED, RegisterMode::MISSING))
                .and_then(|()| sys::discard(view, REHEARSED))
                .and_then(|()| sys::uffd_unregister(uffd, view, REHEARSED))
                .and_then(|()| sys::release_to_reservation(from, REHEARSED).map_err(note))
        };
        if !lost.get() {
            self.view.store(view, Ordering::Release);
        }
        run
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        let view = *self.view.get_mut();
        if view != 0 {
            // SAFETY: the range is ours, and no other code knows of it.
            let _ = unsafe { sys::unmap(view, 2 * REHEARSED) };
        }
    }
}
