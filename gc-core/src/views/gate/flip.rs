//! The flip: how all pages of the view are unmapped at once, and what comes before and after.

use super::error::{FlipError, InstallResult};
use super::{Gate, before_entry, the_end};
use crate::sys::{self, Access, Destination, Patience, RegisterMode, SysError};
use crate::views::Parts;
use crate::views::parts::accessible;
use std::ops::Range;

/// Bytes that are copied at once: a page of the smallest size.
const COPIED: usize = 4096;

impl Gate {
    /// Prepares the from-view for a flip: turns it into a bare reservation. Otherwise the flip
    /// itself would unmap it, and even if it is empty, free its upper page tables and flush
    /// translations on every processor, in the pause. It must be empty
    /// ([`discard_from_view`](Gate::discard_from_view)). Runs concurrently with the program.
    ///
    /// # Errors
    /// `ENOMEM` near `vm.max_map_count` and above `RLIMIT_AS`: do not try a flip then.
    pub fn prepare(&self) -> Result<(), SysError> {
        // Checked here and not in the flip: the call, whose kernel code is not in the caches, makes
        // a pause 6 us longer. If the limit is lowered in between, the flip fails, which is handled
        // there.
        sys::below_address_limit()?;
        // SAFETY: the from-view is ours, and no thread uses it.
        unsafe { sys::release_to_reservation(self.from, self.len) }.map_err(|refused| match refused.destination {
            Destination::Kept | Destination::Reserved => SysError::from(refused),
            Destination::Lost(_) => the_end(refused),
        })
    }

    /// Makes a flip's calls once on a scratch page. It takes about 30 us, and like a flip it
    /// interrupts every processor that runs the program; so the flip that follows at once finds the
    /// kernel's code and data in the caches and the processors awake: it takes half as long, and
    /// its maximum is a third.
    pub fn rehearse(&self) {
        // Errors are ignored: the flip itself will report them.
        let _ = self.rehearsal.run(&self.uffd);
    }

    /// Unmaps every page of the view: until a page is installed, the next access to it raises
    /// `SIGBUS`. 10 to 60 us at any size, after [`prepare`](Gate::prepare), less after
    /// [`rehearse`](Gate::rehearse).
    ///
    /// The kernel moves a GiB with one entry, and flushes translations on every processor for each
    /// that has pages: some 10 us. `unused` (offsets) is a part of the view that no thread has
    /// touched and nothing refers to: its whole `unit`s (a power of two) are not flipped, and are
    /// returned. With private memory everything is flipped.
    ///
    /// # Errors
    /// If a call fails (after retries, if the error may be temporary), nothing is gated: the kernel
    /// maps the moved pages again at the next access. With private memory they are moved back, or,
    /// if that is refused too, copied, in proportion to the memory in use. If the failed call
    /// leaves a hole in the from-view, or with private memory in the view, the process ends.
    ///
    /// # Safety
    /// - `unused` lies in the view.
    /// - No thread touches the view meanwhile (all are stopped), and every later access to it is
    ///   served ([`crate::fault`]).
    /// - No other gate of the same views is flipped.
    pub unsafe fn flip(&self, unused: Range<usize>, unit: usize) -> Result<Range<usize>, FlipError> {
        debug_assert!(unused.start <= unused.end && unused.end <= self.len);
        if let Some(opened) = &self.opened {
            // SAFETY: the caller's.
            return unsafe { self.flip_parts(opened) }.map(|()| self.len..self.len);
        }
        let left = unused.start.next_multiple_of(unit)..unused.end / unit * unit;
        let left = if left.is_empty() { self.len..self.len } else { left };
        // SAFETY: both ranges are views of the `Views` this gate was made for, which own them; no
        // reference into them exists while the program is stopped.
        unsafe {
            for part in self.parts(&left) {
                let moved = self.take_part(&part);
                moved.map_err(|error| FlipError { error: Box::new(error), still_registered: false })?;
            }
            let mode = RegisterMode::MISSING | RegisterMode::MINOR;
            let registered = Patience::short().with(|| sys::uffd_register(&self.uffd, self.view, self.len, mode));
            // This drops page-table entries: the file has the bytes.
            let gated = registered.and_then(|()| {
                let mut parts = self.parts(&left);
                parts.try_for_each(|part| Patience::short().with(|| sys::discard(self.view + part.start, part.len())))
            });
            let Err(error) = gated else { return Ok(left) };
            // Also if registering was refused: for one mapping it is all or nothing, but that is
            // not documented.
            let ended = Patience::short().with(|| self.end());
            Err(FlipError { error: Box::new(error), still_registered: ended.is_err() })
        }
    }

    /// Moves the page tables of a part to the from-view, which was a reservation there.
    ///
    /// # Safety
    /// As [`flip`](Gate::flip).
    unsafe fn take_part(&self, part: &Range<usize>) -> Result<(), SysError> {
        Patience::short().with(|| {
            // SAFETY: both ranges are ours; the caller's.
            let taken = unsafe { sys::move_page_tables(self.view + part.start, part.len(), self.from + part.start) };
            taken.map_err(|refused| match refused.destination {
                Destination::Kept | Destination::Reserved => SysError::from(refused),
                Destination::Lost(_) => the_end(refused),
            })
        })
    }

    /// The flip of private memory: of what is open.
    ///
    /// # Safety
    /// As [`flip`](Gate::flip).
    unsafe fn flip_parts(&self, opened: &Parts) -> Result<(), FlipError> {
        // Parts that are opened from here on are open in both views, and were not moved.
        let mut opened = opened.lock();
        opened.flips += 1;
        let mut moved = 0;
        let taken = opened.open.iter().try_for_each(|part| {
            // SAFETY: as in `flip`.
            unsafe { self.take_part(part) }?;
            moved += 1;
            Ok(())
        });
        // The reserved rest too: a part of it that is opened now faults like the others.
        let registered = taken.and_then(|()| {
            // SAFETY: as in `flip`.
            Patience::short()
                .with(|| unsafe { sys::uffd_register(&self.uffd, self.view, self.len, RegisterMode::MISSING) })
        });
        // This drops the pages of a stray access: the from-view has the bytes.
        let gated = registered.and_then(|()| {
            opened.open.iter().try_for_each(|part| {
                // SAFETY: as in `flip`.
                Patience::short().with(|| unsafe { sys::discard(self.view + part.start, part.len()) })
            })
        });
        let Err(error) = gated else {
            opened.moved = true;
            return Ok(());
        };
        // No thread has written these parts since the move. Registered are all of them or none.
        let registered = moved == opened.open.len();
        for part in &opened.open[..moved] {
            // SAFETY: as in `flip`; the part was moved, and nothing has been written since.
            unsafe { self.take_back(part, registered, opened.dumped) };
        }
        // SAFETY: nothing is gated any more.
        let ended = Patience::short().with(|| unsafe { sys::uffd_unregister(&self.uffd, self.view, self.len) });
        opened.moved = ended.is_err();
        Err(FlipError { error: Box::new(error), still_registered: ended.is_err() })
    }

    /// Undoes [`take_part`](Gate::take_part) for a part of private memory. If the kernel refuses
    /// this move too, the pages are copied: through the descriptor if the part is `registered` and
    /// stays so, otherwise by this thread. `dumped`: core dumps contain open parts.
    ///
    /// # Safety
    /// As [`flip`](Gate::flip); the part was moved, and nothing has been written since.
    unsafe fn take_back(&self, part: &Range<usize>, registered: bool, dumped: bool) {
        let (from, to, len) = (self.from + part.start, self.view + part.start, part.len());
        // SAFETY: both ranges are ours, and mutators are stopped. A mapping that was moved is not
        // registered.
        let move_back = || unsafe { sys::move_page_tables(from, len, to) };
        let mut patience = Patience::short();
        let refused = loop {
            match move_back() {
                Ok(()) => return,
                Err(refused) if refused.destination == Destination::Kept && patience.again(&refused.into()) => {}
                Err(refused) => break refused,
            }
        };
        // SAFETY: as above.
        unsafe {
            match refused.destination {
                Destination::Lost(_) => the_end(refused),
                Destination::Reserved => {
                    let mapped = Patience::long().with(|| {
                        sys::map_private_at(to, len, Access::None)?;
                        sys::dont_fork(to, len)?;
                        accessible(to, len)
                    });
                    if mapped.is_err() {
                        the_end(refused);
                    }
                    // A refusal only affects dumps.
                    let _ = sys::dump(to, len, dumped);
                }
                Destination::Kept if !registered => {}
                Destination::Kept => {
                    if Patience::long().with(|| sys::uffd_unregister(&self.uffd, to, len)).is_err() {
                        match self.install_existing(part.start, len) {
                            InstallResult::Present => return,
                            InstallResult::NotGated | InstallResult::Refused(_) => the_end(refused),
                        }
                    }
                }
            }
            self.copy_back(part);
        }
    }

    /// Copies the pages of a part of private memory from the from-view to the view, where they are
    /// absent and not registered.
    ///
    /// # Safety
    /// As [`take_back`](Gate::take_back).
    unsafe fn copy_back(&self, part: &Range<usize>) {
        const WORDS: usize = COPIED / size_of::<u64>();
        for offset in part.clone().step_by(COPIED) {
            let [from, to] =
                [self.from, self.view].map(|view| std::ptr::with_exposed_provenance_mut::<[u64; WORDS]>(view + offset));
            // SAFETY: parts are whole pages, readable and writable in both views. Mutators are
            // stopped, no other thread uses the from-view, and no reference leads to either.
            unsafe {
                // An absent page reads as zeroes, and stays absent in the view.
                if (*from).iter().any(|&word| word != 0) {
                    to.copy_from_nonoverlapping(from, 1);
                }
            }
        }
        // If this is refused, the pages are freed when the next flip is prepared.
        let _ = self.discard_from_view(part.start, part.len());
    }

    /// The ranges that a flip gates: all but `left`.
    fn parts(&self, left: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        [0..left.start, left.end..self.len].into_iter().filter(|part| !part.is_empty())
    }

    /// Pages of the view that the program can access without a fault now, except those in `left`.
    /// Right after a flip: none.
    ///
    /// # Errors
    /// As [`sys::present_pages`].
    ///
    /// # Panics
    /// If `left` does not lie in the view.
    pub fn present_pages(&self, left: &Range<usize>) -> Result<usize, SysError> {
        self.check(left.start, left.end.saturating_sub(left.start));
        self.parts(left).map(|part| sys::present_pages(self.view + part.start, part.len())).sum()
    }

    /// Unregisters the whole view: the kernel maps absent pages at the next access. 1 to 5 us.
    ///
    /// # Safety
    /// Every page is repaired.
    pub unsafe fn end(&self) -> Result<(), SysError> {
        before_entry();
        // SAFETY: the view is ours; the caller has repaired it.
        unsafe { sys::uffd_unregister(&self.uffd, self.view, self.len) }?;
        if let Some(opened) = &self.opened {
            opened.lock().moved = false;
        }
        Ok(())
    }

    /// Empties `offset..offset + len` of the from-view: frees page tables, and with private memory
    /// the remaining pages. 25 ms per populated GiB, so it is done in slices: a fault of the
    /// program may wait for one slice.
    ///
    /// # Errors
    /// As [`sys::discard`].
    ///
    /// # Panics
    /// If the range does not lie in the view.
    pub fn discard_from_view(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        // SAFETY: the range is in the from-view, which is ours, and no thread uses it.
        unsafe { sys::discard(self.from + offset, len) }
    }
}
