//! 2 MiB pages behind the views.
//!
//! A huge page of a memfd is one piece of the file: all views have it at once. What each has of its
//! own is an entry of its page tables, which maps the 2 MiB at the first touch. The kernel splits
//! the page where a hole is punched into it, and where it swaps; and it maps a part of it in small
//! pages where `UFFDIO_CONTINUE` installs them one by one.

use super::Views;
use crate::sys::{self, Access, HeapFile, Patience, SysError};
use std::sync::PoisonError;

/// Bytes of a huge page.
pub const HUGE_PAGE: usize = 2 << 20;

/// A huge page of its own that is made and given back, so that the kernel has one at hand whose
/// memory the host of a virtual machine has found.
///
/// The kernel zeroes this one while nobody waits, and gives the page that was freed last to who
/// asks next. That is a habit of its allocator and no promise: without it the next page only takes
/// longer. Here it makes the longest touch of a page that is being copied 0.5 to 2 ms and not 10.
#[derive(Debug)]
pub struct SparePage {
    file: HeapFile,
    base: usize,
}

impl SparePage {
    /// Reserves its addresses; takes no memory.
    ///
    /// # Errors
    /// As [`HeapFile::new`], [`sys::reserve`] and [`sys::map_file_at`].
    pub fn new(name: &str) -> Result<SparePage, SysError> {
        let file = HeapFile::new(name, HUGE_PAGE)?;
        let spare = SparePage { file, base: sys::reserve(HUGE_PAGE, HUGE_PAGE)? };
        // SAFETY: the reservation is ours, and no other code knows of it.
        unsafe {
            sys::map_file_at(spare.base, &spare.file, 0, HUGE_PAGE, Access::ReadWrite)?;
            sys::dont_fork(spare.base, HUGE_PAGE)?;
            sys::dump(spare.base, HUGE_PAGE, false)?;
        }
        Ok(spare)
    }

    /// Makes the page and gives it back: 0.1 ms, and some milliseconds where the host has yet to
    /// find it.
    ///
    /// # Errors
    /// As [`sys::collapse`], `populate_write` and `punch_hole`.
    pub fn warm(&self) -> Result<(), SysError> {
        // SAFETY: the range is ours, mapped and writable.
        unsafe {
            sys::populate_write(self.base, sys::page_size())?;
            sys::collapse(self.base, HUGE_PAGE)?;
        }
        self.file.punch_hole(0, HUGE_PAGE)
    }
}

impl Drop for SparePage {
    fn drop(&mut self) {
        // SAFETY: the reservation is ours and ends here.
        let _ = unsafe { sys::unmap(self.base, HUGE_PAGE) };
    }
}

impl Views {
    /// Collapses the small pages of `offset..offset + len` into 2 MiB pages, in every view and
    /// whatever the system's setting. 2.9 s per GiB. Parts that are smaller than 2 MiB or were
    /// never touched stay as they are.
    ///
    /// Returns what the last view was refused where some pages were in use all the time, and stay
    /// small.
    ///
    /// # Errors
    /// As [`sys::collapse`], except `EAGAIN` and `EBUSY`: pages that are in use for half a second
    /// of retries stay small. After an error the views may differ in their page tables, never in
    /// their bytes.
    ///
    /// # Panics
    /// If the range is not in the file.
    pub fn collapse(&self, offset: usize, len: usize) -> Result<Option<SysError>, SysError> {
        self.check(offset, len);
        let accessible = self.accessible.read().unwrap_or_else(PoisonError::into_inner).clone();
        let views = self.all().zip(std::iter::once(true).chain(accessible));
        let mut in_use = None;
        for (view, _) in views.filter(|(_, accessible)| *accessible) {
            // SAFETY: the ranges are in our views; collapsing keeps the bytes.
            match Patience::long().with(|| unsafe { sys::collapse(view + offset, len) }) {
                // Some pages were in use during all retries: they stay small.
                Err(error) if [libc::EAGAIN, libc::EBUSY].contains(&error.errno()) => in_use = Some(error),
                done => done?,
            }
        }
        Ok(in_use)
    }

    /// Asks for 2 MiB pages in all views from the first touch on; has an effect where
    /// [`shmem_huge_pages`](sys::shmem_huge_pages) is `advise` or more.
    ///
    /// # Errors
    /// As [`sys::huge`].
    pub fn advise_huge(&self) -> Result<(), SysError> {
        // SAFETY: the views are ours; the advice changes no bytes.
        self.all().try_for_each(|view| unsafe { sys::huge(view, self.bytes()) })
    }

    /// Prevents 2 MiB pages in all views, whatever the system's setting: where it is `always`, the
    /// first touch of a word takes 2 MiB, also of memory that was given back.
    ///
    /// # Errors
    /// As [`sys::no_huge`].
    pub fn prevent_huge(&self) -> Result<(), SysError> {
        // SAFETY: the views are ours; the advice changes no bytes.
        self.all().try_for_each(|view| unsafe { sys::no_huge(view, self.bytes()) })
    }

    /// Makes one huge page of the 2 MiB at `offset`, whatever the system's setting, and maps it in
    /// every accessible view. What is there keeps its bytes, and the rest is zeroes: memory that
    /// has been committed nowhere is committed by this, as a whole.
    ///
    /// 0.1 ms where there was no memory, 1 ms where there were small pages; some milliseconds more
    /// where the host of a virtual machine has yet to find the page. A thread that touches the
    /// small pages meanwhile waits until they are copied, the others do not. Not in a pause.
    ///
    /// # Errors
    /// As [`sys::collapse`], of the canonical view: one attempt, after which everything is as
    /// before, but that the first 4 KiB are committed. What the other views are refused is not an
    /// error: they map the page at their first touch.
    ///
    /// # Panics
    /// If the range is not in the file, or `offset` no multiple of 2 MiB.
    pub fn make_huge(&self, offset: usize) -> Result<(), SysError> {
        self.check_huge(offset);
        // SAFETY: the range is in our views, which are writable; populating and collapsing keep
        // the bytes.
        unsafe {
            // The kernel collapses nothing where there is nothing.
            sys::populate_write(self.canonical() + offset, sys::page_size())?;
            sys::collapse(self.canonical() + offset, HUGE_PAGE)?;
        }
        self.each_accessible(|view| {
            // SAFETY: as above; the lock keeps the view writable.
            let _ = unsafe { sys::populate_write(view + offset, HUGE_PAGE) };
        });
        Ok(())
    }

    /// Maps the huge page at `offset` as such in every accessible view that has it in small pages:
    /// 2 us, and some 100 where there were small ones. If it was split meanwhile, this makes it
    /// huge again, as [`make_huge`](Views::make_huge).
    ///
    /// # Errors
    /// As [`sys::collapse`]; the view stays as it was.
    ///
    /// # Panics
    /// As [`make_huge`](Views::make_huge).
    pub fn map_huge(&self, offset: usize) -> Result<(), SysError> {
        self.check_huge(offset);
        let mut refused = Ok(());
        self.each_accessible(|view| {
            // SAFETY: the range is in our views; collapsing keeps the bytes.
            refused = refused.and(unsafe { sys::collapse(view + offset, HUGE_PAGE) });
        });
        refused
    }

    /// Bytes that each view maps by huge pages: the canonical one, then [`view`](Views::view) 0 and
    /// so on. Of the whole file.
    ///
    /// # Errors
    /// As [`sys::huge_mapped_bytes`].
    pub fn huge_mapped_bytes(&self) -> Result<Vec<usize>, SysError> {
        sys::huge_mapped_bytes(&self.all().map(|view| view..view + self.bytes()).collect::<Vec<_>>())
    }

    fn check_huge(&self, offset: usize) {
        self.check(offset, HUGE_PAGE);
        assert!(offset.is_multiple_of(HUGE_PAGE), "{offset:#x} is no multiple of a huge page");
    }

    /// Calls `f` with the address of each accessible view but the canonical one. No view is
    /// protected meanwhile.
    fn each_accessible(&self, mut f: impl FnMut(usize)) {
        let accessible = self.accessible.read().unwrap_or_else(PoisonError::into_inner);
        for (parity, _) in accessible.iter().enumerate().filter(|(_, accessible)| **accessible) {
            f(self.view(parity));
        }
    }
}
