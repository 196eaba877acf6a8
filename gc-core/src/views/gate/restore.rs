//! How a chunk of repaired pages gets back into the view at once: by its page tables.

use super::{Gate, before_entry, the_end};
use crate::sys::{self, Destination, Patience, SysError};

impl Gate {
    /// Restores the page tables that `offset..offset + len` had before the flip: 5 us per 2 MiB.
    /// The range is no longer gated; the kernel maps pages that had no entry at the next access.
    ///
    /// # Errors
    /// As [`sys::move_page_tables`]; the range may then be gated or not, its pages can be
    /// installed, and the from-view must still be [emptied](Gate::discard_from_view). If the kernel
    /// leaves a hole in the view, the process ends.
    ///
    /// # Safety
    /// As [`install`](Gate::install); and the memory is shared.
    pub unsafe fn restore_page_tables(&self, offset: usize, len: usize) -> Result<(), SysError> {
        debug_assert!(self.has(offset, len) && !self.is_private());
        sys::below_address_limit()?;
        before_entry();
        // SAFETY: both ranges are ours. The pages that the program has mapped in the range
        // meanwhile are the same pages of the file.
        let refused = match unsafe { sys::move_page_tables(self.from + offset, len, self.view + offset) } {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        match refused.destination {
            Destination::Kept => {}
            // SAFETY: the caller's.
            Destination::Reserved if Patience::long().with(|| unsafe { self.put_back(offset, len) }).is_ok() => {}
            Destination::Reserved | Destination::Lost(_) => the_end(refused),
        }
        Err(refused.into())
    }

    /// Maps `offset..offset + len` of the view anew, from the canonical view: not gated, like any
    /// other mapping of the file.
    ///
    /// # Errors
    /// As [`sys::mirror_at`].
    ///
    /// # Safety
    /// As [`restore_page_tables`](Gate::restore_page_tables).
    unsafe fn put_back(&self, offset: usize, len: usize) -> Result<(), SysError> {
        // SAFETY: both ranges are ours, and the caller has repaired every page that becomes
        // accessible. The new mapping inherits `MADV_DONTFORK` from the one that it mirrors.
        unsafe {
            sys::mirror_at(self.canonical + offset, len, self.view + offset)?;
            // The canonical view may be included in dumps here, this view is not. (If the kernel
            // refuses, the view is no longer a single mapping, and the next flip is refused.)
            let _ = sys::dump(self.view + offset, len, false);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::Views;
    use crate::views::{MIN_SPAN, Mirror};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Unmaps a range, as a refused move may do.
    #[test]
    fn a_piece_of_the_view_that_was_unmapped_is_put_back() {
        let views = Views::new("gate-test", 3 * MIN_SPAN, Mirror::default()).unwrap();
        let gate = match Gate::new(&views) {
            Ok(gate) => gate,
            Err(why) => return println!("IGNORED, it cannot run here: {why}"),
        };
        let word = |chunk: usize| {
            let address = gate.view() + chunk * MIN_SPAN;
            // SAFETY: a word of the view, which is mapped whenever this is called; accessed
            // atomically.
            unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address) }
        };
        for round in 1..4 {
            (0..3).for_each(|chunk| word(chunk).store(round, Ordering::Relaxed));
            // SAFETY: no other thread uses this heap, and its pages are valid as they are.
            unsafe {
                gate.flip(0..0, 1).unwrap();
                sys::release_to_reservation(gate.view() + MIN_SPAN, MIN_SPAN).unwrap();
                gate.put_back(MIN_SPAN, MIN_SPAN).unwrap();
                assert_eq!(word(1).load(Ordering::Relaxed), round);
                gate.end().unwrap();
            }
            (0..3).for_each(|chunk| assert_eq!(word(chunk).load(Ordering::Relaxed), round));
            // The view is a single mapping again: the next flip moves it at once.
            gate.discard_from_view(0, 3 * MIN_SPAN).unwrap();
        }
    }
}
