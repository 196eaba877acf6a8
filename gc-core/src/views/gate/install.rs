//! How pages get back into the view: one by one, by the file, by a move or by a copy.

use super::error::InstallResult;
use super::{Gate, PageSource, before_entry};
use crate::sys::{self, Patience, SysError};
use crate::views::MIN_SPAN;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

impl Gate {
    /// Lets the pages of `offset..offset + len` in: maps them in the program's view. Holes of the
    /// file are filled with zeroes. 2 us for a page with its signal, 0.1 us a page from 64 KiB on.
    /// Allocates nothing: a signal handler may call it. With private memory, only one thread may
    /// let a given page in.
    ///
    /// A refusal that may be temporary is retried a few times; then a slower fallback is used: with
    /// shared memory the range is unregistered, so that the kernel maps its pages at the next
    /// access; with private memory a page is copied instead of moved. If that is refused as well,
    /// it retries for half a second before it returns [`InstallResult::Refused`].
    ///
    /// # Safety
    /// The range consists of whole pages of the view, and its bytes are repaired: the program may
    /// access them.
    pub unsafe fn install(&self, offset: usize, len: usize) -> InstallResult {
        debug_assert!(self.has(offset, len));
        before_entry();
        let (mut at, end) = (offset, offset + len);
        let page = sys::page_size();
        let mut filled = None;
        let (mut patience, mut last) = (Patience::short(), Patience::long());
        while at < end {
            // SAFETY: the range is in our view, and the caller has repaired it.
            let error = match unsafe { self.install_pages(at, end - at) } {
                Ok(bytes @ 1..) => {
                    at += bytes;
                    (patience, last) = (Patience::short(), Patience::long());
                    self.detour.store(false, Ordering::Relaxed);
                    continue;
                }
                Ok(0) => self.no_progress(at),
                Err(error) => error,
            };
            match error.errno() {
                // Another thread was faster, or a restored page table has it; the kernel reports
                // this for the first page only.
                libc::EEXIST => {
                    at += page;
                    continue;
                }
                // A hole of the file, or of the from-view. (Or the range is not registered: then
                // the error remains after the hole is filled.)
                libc::EFAULT if self.supply == PageSource::Continue && filled != Some(at) => {
                    filled = Some(at);
                    self.fill(at);
                    continue;
                }
                libc::ENOENT if self.supply == PageSource::Move && filled != Some(at) => {
                    filled = Some(at);
                    self.fill(at);
                    continue;
                }
                _ => {}
            }
            if !self.detour.load(Ordering::Relaxed) && patience.again(&error) {
                continue;
            }
            // SAFETY: the caller's.
            match unsafe { self.another_way(at, end - at, error) } {
                Ok(Some(bytes)) => {
                    at += bytes;
                    (patience, last) = (Patience::short(), Patience::long());
                    self.detour.store(true, Ordering::Relaxed);
                }
                Ok(None) => return InstallResult::NotGated,
                Err(error) if last.again(&error) => {}
                Err(error) => return InstallResult::Refused(error),
            }
        }
        InstallResult::Present
    }

    /// Lets pages in after `supply` has failed; returns how many bytes of `len`. `None`: they are
    /// not gated.
    ///
    /// # Safety
    /// As [`install`](Gate::install).
    unsafe fn another_way(&self, offset: usize, len: usize, error: SysError) -> Result<Option<usize>, SysError> {
        match self.supply {
            PageSource::Continue => {
                // The pages are repaired, so the kernel may map them on access as well. If they
                // were not registered, this changes nothing.
                // SAFETY: the view is ours; the caller has repaired the range.
                unsafe { sys::uffd_unregister(&self.uffd, self.view + offset, len) }?;
                Ok((error.errno() != libc::ENOENT).then_some(len))
            }
            // A page shared with a child after a fork cannot be moved, but it can be copied.
            // SAFETY: the caller ensures it, as for moved pages.
            PageSource::Move => match unsafe { self.copy(offset, sys::page_size()) } {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.errno() == libc::EEXIST => Ok(Some(sys::page_size())),
                Err(error) if error.errno() == libc::ENOENT => Ok(None),
                Err(error) => Err(error),
            },
            PageSource::Copy if error.errno() == libc::ENOENT => Ok(None),
            PageSource::Copy => Err(error),
        }
    }

    /// # Safety
    /// As [`install`](Gate::install).
    unsafe fn install_pages(&self, offset: usize, len: usize) -> Result<usize, SysError> {
        // SAFETY: the ranges are in our views, and the caller has repaired the pages.
        unsafe {
            match self.supply {
                PageSource::Continue => sys::uffd_continue(&self.uffd, self.view + offset, len, false),
                PageSource::Move => self.move_run(offset, len),
                PageSource::Copy => self.copy(offset, len),
            }
        }
    }

    /// Moves pages, up to the first that is absent.
    ///
    /// # Safety
    /// As [`install`](Gate::install).
    unsafe fn move_run(&self, offset: usize, len: usize) -> Result<usize, SysError> {
        let (to, from) = (self.view + offset, self.from + offset);
        // SAFETY: the ranges are in our views, and the caller has repaired the pages.
        let run = |len| unsafe { sys::uffd_move(&self.uffd, to, from, len, false) };
        // One call moves within one mapping; parts are mappings of their own, of whole 2 MiB.
        let in_part = MIN_SPAN - offset % MIN_SPAN;
        match run(len) {
            Err(error) if error.errno() == libc::EINVAL && len > in_part => run(in_part),
            moved => moved,
        }
    }

    /// # Safety
    /// As [`install`](Gate::install).
    unsafe fn copy(&self, offset: usize, len: usize) -> Result<usize, SysError> {
        // SAFETY: as in `install_pages`.
        unsafe { sys::uffd_copy(&self.uffd, self.view + offset, self.from + offset, len, false) }
    }

    /// Commits the page at an offset of the file, or of the from-view.
    fn fill(&self, offset: usize) {
        let word = std::ptr::with_exposed_provenance::<AtomicU64>(self.repair_base() + offset);
        // SAFETY: the view is mapped, writable, and never gated.
        let word = unsafe { &*word };
        // A compare-exchange of a word with itself: a write access that changes nothing, even if
        // other threads write. (An addition of 0 would be compiled to a load, and a load of private
        // memory maps the page of zeroes that all share.)
        let value = word.load(Ordering::Relaxed);
        let _ = word.compare_exchange(value, value, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// As [`install`](Gate::install), for private memory: pages that are absent from the from-view
    /// are skipped, and stay absent. (Where the kernel does not say which they are, they become
    /// pages of zeroes.)
    ///
    /// # Safety
    /// As [`install`](Gate::install).
    pub unsafe fn install_existing(&self, offset: usize, len: usize) -> InstallResult {
        if self.supply != PageSource::Move {
            // SAFETY: the caller's.
            return unsafe { self.install(offset, len) };
        }
        debug_assert!(self.has(offset, len));
        before_entry();
        let (mut at, end) = (offset, offset + len);
        let mut patience = Patience::short();
        while at < end {
            // SAFETY: the range is in our views, and the caller has repaired it.
            let error = match unsafe { self.move_run(at, end - at) } {
                Ok(bytes @ 1..) => {
                    at += bytes;
                    patience.renew();
                    continue;
                }
                Ok(0) => self.no_progress(at),
                // Page tables that are freed meanwhile give this as well.
                Err(error) if error.errno() == libc::EINVAL => self.no_progress(at),
                Err(error) => error,
            };
            if error.errno() == libc::ENOENT {
                match self.first_existing(at..end) {
                    Ok(None) => break,
                    Ok(Some(next)) if next > at => {
                        at = next;
                        continue;
                    }
                    // A page that exists is refused, or the kernel does not say: see below.
                    Ok(Some(_)) | Err(_) => {}
                }
            } else if patience.again(&error) {
                continue;
            }
            // The failed page is installed by a fallback.
            // SAFETY: as above.
            match unsafe { self.install(at, sys::page_size()) } {
                InstallResult::Present => at += sys::page_size(),
                other => return other,
            }
        }
        InstallResult::Present
    }

    /// The offset of the first page that exists in a range of the from-view. The kernel is asked
    /// for it, and not to skip holes itself, because it may do that for ever
    /// ([`sys::uffd_move`]).
    fn first_existing(&self, range: Range<usize>) -> Result<Option<usize>, SysError> {
        let no_answer = SysError::new("open(/proc/self/pagemap)", &[], libc::ENOENT);
        let pagemap = self.pagemap.as_ref().ok_or(no_answer)?;
        let page = pagemap.first_page(self.from + range.start, range.len())?;
        Ok(page.map(|address| address - self.from))
    }

    /// The error for a call that neither fails nor makes progress.
    fn no_progress(&self, offset: usize) -> SysError {
        let call = match self.supply {
            PageSource::Continue => "ioctl(UFFDIO_CONTINUE)",
            PageSource::Move => "ioctl(UFFDIO_MOVE)",
            PageSource::Copy => "ioctl(UFFDIO_COPY)",
        };
        SysError::new(call, &[("addr", self.view + offset)], libc::EAGAIN)
    }
}
