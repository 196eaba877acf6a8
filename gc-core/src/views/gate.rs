//! The gate of the page barrier: takes a view's pages away from the program in a few microseconds, and lets them in again
//! one by one or in chunks.
//!
//! ```text
//!            flip: mremap(DONTUNMAP), REGISTER, DONTNEED              CONTINUE: a page, repaired
//!   view ════════════════════════════════════════════► from-view     ───────────────────────► view
//!    ▲                                                     │
//!    └────────── give back: mremap(FIXED|DONTUNMAP) ───────┘  a chunk whose pages are all repaired
//! ```
//!
//! The order of a flip matters. A range that is registered with userfaultfd loses the fast move of whole page tables (2.5 ms
//! instead of 10 us for 1 GiB), so registration comes after the move. In between, a stray access (a system call of another
//! thread that was handed a heap address, a debugger) maps up to 16 pages, which then would not fault: they are dropped
//! last.
//!
//! The file keeps its pages. What was made for private anonymous memory (Android's collector takes pages away and copies
//! them back) is used here on shared memory: the move empties page tables only, `UFFDIO_CONTINUE` maps again what the file
//! has, and who repairs a page writes it through the canonical view, which no flip touches.

use super::Views;
use crate::sys::{self, RegisterMode, SysError, Uffd, UffdSource};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use userfaultfd_sys::{UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MISSING_SHMEM, UFFD_FEATURE_SIGBUS};

/// Why there is no gate here: what was refused, by whom, and what would work.
#[derive(Debug, Clone)]
pub struct GateError {
    refused: Vec<(UffdSource, SysError)>,
}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no userfaultfd with SIGBUS, minor and missing faults on shared memory (Linux 5.14): ")?;
        for (index, (_, error)) in self.refused.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        write!(
            f,
            "; a container must allow the call in its seccomp profile, or grant access to /dev/userfaultfd; \
             the load barrier needs none of this"
        )
    }
}

impl std::error::Error for GateError {}

/// The descriptor, and the addresses it works on. The even view is the program's, the odd one the from-view.
#[derive(Debug)]
pub struct Gate {
    uffd: Uffd,
    source: UffdSource,
    canonical: usize,
    view: usize,
    from: usize,
    len: usize,
}

/// What became of letting pages in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetIn {
    /// All are there.
    Present,
    /// The range is not registered (any more): its pages are there or fault in as in any mapping.
    NotGated,
    /// The kernel refused for another reason. The page still faults.
    Refused(SysError),
}

/// The sources in the order they are tried: the administrator's device first, then the call with all it can do, then the
/// call that needs no privilege. With the `SIGBUS` feature all three serve alike.
const SOURCES: [UffdSource; 3] = [UffdSource::Device, UffdSource::SystemCall, UffdSource::SystemCallUserModeOnly];

impl Gate {
    /// A gate for the even view of `views`. The odd view becomes the from-view: nobody may touch it from now on. The
    /// descriptor is made here and not later: a program may close its sandbox after it has built its heaps.
    ///
    /// # Errors
    /// [`GateError`] where the kernel or a sandbox refuses userfaultfd in every way.
    pub fn new(views: &Views) -> Result<Gate, GateError> {
        let features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM;
        let mut refused = Vec::new();
        for source in SOURCES {
            match sys::open_uffd(source).and_then(|uffd| sys::uffd_api(&uffd, features).map(|_| uffd)) {
                Ok(uffd) => {
                    let (view, from) = (views.view(0), views.view(1));
                    views.leave_unpopulated(1);
                    return Ok(Gate { uffd, source, canonical: views.canonical(), view, from, len: views.bytes() });
                }
                Err(error) => refused.push((source, error)),
            }
        }
        Err(GateError { refused })
    }

    /// Where the descriptor came from.
    pub fn source(&self) -> UffdSource {
        self.source
    }

    /// The address of the program's view.
    pub fn view(&self) -> usize {
        self.view
    }

    /// Takes every page of the view away: until a page is let in, its next touch raises `SIGBUS`. 10 to 60 us at any size.
    /// The from-view must have no page tables ([`empty`](Gate::empty)): the kernel would free them here, 25 ms a GiB.
    ///
    /// # Errors
    /// Where a call fails nothing is gated: the pages that were moved away fault in as in any mapping.
    ///
    /// # Safety
    /// Nobody touches the view meanwhile (they are stopped), and whoever touches it later is served ([`crate::fault`]).
    pub unsafe fn flip(&self) -> Result<(), SysError> {
        // SAFETY: both ranges are views of the `Views` this gate was made for, which own them; no reference into them
        // is alive while the program is stopped.
        unsafe {
            sys::take_away(self.view, self.len, self.from)?;
            let both = RegisterMode::MISSING | RegisterMode::MINOR;
            sys::uffd_register(&self.uffd, self.view, self.len, both)?;
            // Only page tables go: the file has the bytes.
            if let Err(error) = sys::discard(self.view, self.len) {
                self.end()?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Pages of the view that the program can touch without a fault now. After a flip: none.
    ///
    /// # Errors
    /// As [`sys::present_pages`].
    pub fn present_pages(&self) -> Result<usize, SysError> {
        sys::present_pages(self.view, self.len)
    }

    /// Lets the pages of `offset..offset + len` in. Holes of the file are filled with zeroes. 2 us for a page with its
    /// signal, 0.1 us a page from 64 KiB on. Allocates nothing: a signal handler may call it.
    ///
    /// # Safety
    /// The bytes of the range are repaired: fit to be seen by the program.
    pub unsafe fn let_in(&self, offset: usize, len: usize) -> LetIn {
        debug_assert!(offset + len <= self.len);
        let (mut at, end) = (self.view + offset, self.view + offset + len);
        let page = sys::page_size();
        while at < end {
            // SAFETY: the range is in our view, and the caller has repaired it.
            match unsafe { sys::uffd_continue(&self.uffd, at, end - at, false) } {
                Ok(0) => std::thread::yield_now(),
                Ok(bytes) => at += bytes,
                Err(error) => match error.errno() {
                    // Another thread was faster, or a page table given back has it: said of the first page only.
                    libc::EEXIST => at += page,
                    // The mapping is being changed.
                    libc::EAGAIN => std::thread::yield_now(),
                    libc::ENOENT => return LetIn::NotGated,
                    // A hole of the file.
                    libc::EFAULT => self.fill(at - self.view),
                    _ => return LetIn::Refused(error),
                },
            }
        }
        LetIn::Present
    }

    /// Makes the file have the page at an offset.
    fn fill(&self, offset: usize) {
        let word = std::ptr::with_exposed_provenance::<AtomicU64>(self.canonical + offset);
        // SAFETY: the canonical view maps the whole file, always; adding 0 changes nothing, whoever else writes.
        unsafe { (*word).fetch_add(0, Ordering::Relaxed) };
    }

    /// Gives the pages of `offset..offset + len` back with the page tables they had before the flip: 5 us per 2 MiB. The
    /// range is gated no longer; pages that had no entry fault in as in any mapping.
    ///
    /// # Errors
    /// As [`sys::take_away`]; the range may then be gated or not, and its pages can be let in.
    ///
    /// # Safety
    /// As [`let_in`](Gate::let_in).
    pub unsafe fn give_back(&self, offset: usize, len: usize) -> Result<(), SysError> {
        debug_assert!(offset + len <= self.len);
        // SAFETY: both ranges are ours. What the program has mapped of the range meanwhile are the same pages of the file.
        unsafe { sys::take_away(self.from + offset, len, self.view + offset) }
    }

    /// Ends the registration of the whole view: absent pages fault in as in any mapping. 1 to 5 us.
    ///
    /// # Safety
    /// Every page is repaired.
    pub unsafe fn end(&self) -> Result<(), SysError> {
        // SAFETY: the view is ours; the caller has repaired it.
        unsafe { sys::uffd_unregister(&self.uffd, self.view, self.len) }
    }

    /// Empties `offset..offset + len` of the from-view: frees page tables, no memory. 25 ms a GiB that has any, so it is done
    /// in slices: a fault of the program may wait for one.
    ///
    /// # Errors
    /// As [`sys::discard`].
    pub fn empty(&self, offset: usize, len: usize) -> Result<(), SysError> {
        // SAFETY: the from-view is ours, and nobody uses it.
        unsafe { sys::discard(self.from + offset, len) }
    }
}
