//! The memory of a heap: one file and its views.
//!
//! A heap reserves four spans of addresses in one piece, aligned to its size, so that the two bits above an offset tell
//! the views apart:
//!
//! ```text
//! base | 0 * span   canonical view: the collector's own, never taken away
//! base | 1 * span   the view of even relocations
//! base | 2 * span   the view of odd relocations
//! base | 3 * span   nothing, no access: an address with both bits set is a bug and faults
//! ```
//!
//! Every view maps all of the file, so that the byte at an offset is the same byte in each. (Private anonymous memory,
//! [`Views::anonymous`], cannot be mapped twice: it has the even view, which is the canonical one too, and the odd one is
//! where its pages go when they are taken away.) Which bits the base has is the
//! business of the private module `bases`: no two live heaps of a process share a pattern that would let a reference of one
//! pass for the other's.

mod bases;
mod dumps;
mod gate;
mod root_region;

pub use dumps::Dumps;
pub use gate::{FlipError, Gate, GateError, InstallResult};
pub use root_region::RootRegion;

use crate::sys::{self, Access, HeapFile, Patience, SysError};
use bases::Base;
use std::sync::{Arc, PoisonError, RwLock};

/// The smallest span, and its alignment below 1 GiB: what one page-table page maps.
pub const MIN_SPAN: usize = 2 << 20;
/// The smallest span of a heap of at least this size: page tables of such views move in whole GiB.
pub const GIB: usize = 1 << 30;
/// Addresses of user mode end here (x86-64 with four levels of page tables; a fifth is used only when asked for).
pub const ADDRESS_LIMIT: usize = 1 << 47;

/// How the second and the third view are made. They come out the same; the kernel takes different ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mirror {
    /// `mmap` of the memfd once more. 3 us.
    #[default]
    MmapMemfd,
    /// `mremap` of the canonical view with an old size of 0. 8 us.
    MremapOldSizeZero,
}

/// Why a heap got no memory.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// The size is zero, no multiple of the page size, or four spans of it do not fit below 2^47.
    #[error(
        "a heap of {bytes} bytes cannot be mapped: it must be a multiple of the page size, more than 0 and at most {max}"
    )]
    Size {
        /// The size asked for.
        bytes: usize,
        /// The largest size that can be had.
        max: usize,
    },
    /// A limit of the process is below the size of the heap's file.
    #[error(
        "the heap is a file of {bytes} bytes in memory, and this process may make none of more than {limit} (RLIMIT_FSIZE): \
         raise that (`ulimit -f unlimited`), or ask for less"
    )]
    FileSize {
        /// The size of the file.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No range of addresses is free whose bits tell this heap from the `live` ones of the process.
    #[error(
        "no addresses for a heap of span {span:#x} beside {live} live heaps: none of {tried} bases is free and tells \
         their references apart; the kernel's last word: {last}"
    )]
    NoBase {
        /// Bytes of one view's range.
        span: usize,
        /// Heaps alive in this process.
        live: usize,
        /// Bases tried.
        tried: usize,
        /// Why the last of them could not be had.
        last: Box<SysError>,
    },
    /// A limit of the process leaves fewer addresses than a heap takes.
    #[error(
        "a heap takes {bytes} bytes of addresses, most of them without memory, and this process may have {limit} in all \
         (RLIMIT_AS): raise that (`ulimit -v unlimited`), or ask for less"
    )]
    AddressLimit {
        /// Addresses of the heap.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// One memfd and its views. Dropping it, and the last [`Gate`] of it, unmaps all.
///
/// Safe code gets addresses from it, never references. So every method is safe that changes bytes, mappings and protection of
/// these addresses and of no others: who makes a reference or a pointer of an address says, in that code's own SAFETY
/// comment, who calls what meanwhile, and that the value is still there.
#[derive(Debug)]
pub struct Views {
    /// `None`: private anonymous memory.
    file: Option<HeapFile>,
    bytes: usize,
    /// What `base` says, at hand.
    address: usize,
    span: usize,
    /// The addresses, which every gate holds as well: they are nobody else's until all are gone.
    base: Arc<Base>,
    mirror: Mirror,
    /// What a core dump has of the canonical view; `None`: nothing.
    dumps: Option<Arc<Dumps>>,
    /// Whether the even and the odd view can be accessed. Populating holds the lock: a view must not be taken away while
    /// its pages are touched.
    accessible: RwLock<[bool; 2]>,
}

impl Views {
    /// Maps a heap of `bytes`, a multiple of the page size; `name` shows in `/proc/self/maps`. No memory is committed.
    /// Takes about 30 us, and more where bases are scarce.
    ///
    /// # Errors
    /// See [`ViewsError`].
    pub fn new(name: &str, bytes: usize, mirror: Mirror) -> Result<Views, ViewsError> {
        let span = span_for(bytes)?;
        if let Some(limit) = sys::file_size_limit().ok().flatten().filter(|limit| *limit < bytes) {
            return Err(ViewsError::FileSize { bytes, limit });
        }
        let file = HeapFile::new(name, bytes)?;
        let views = Views::at(Base::reserve(span)?, Some(file), bytes, mirror, [true; 2]);
        views.map()?;
        Ok(views)
    }

    /// As [`new`](Views::new), of private anonymous memory. Its pages are in the even view, or, taken away, in the odd one;
    /// [`canonical`](Views::canonical) is the even view.
    ///
    /// # Errors
    /// See [`ViewsError`].
    pub fn anonymous(bytes: usize) -> Result<Views, ViewsError> {
        let views = Views::at(Base::reserve(span_for(bytes)?)?, None, bytes, Mirror::MmapMemfd, [true, false]);
        // The odd view stays reserved: what is taken away brings its mapping along.
        // SAFETY: the range lies in the reservation that `base` owns, and nobody knows of it yet.
        unsafe {
            sys::map_private_at(views.view(0), bytes, Access::None)?;
            sys::dont_fork(views.view(0), bytes)?;
            sys::dump(views.view(0), bytes, false)?;
            open(views.view(0), bytes)?;
        }
        Ok(views)
    }

    /// Nothing mapped yet.
    fn at(base: Base, file: Option<HeapFile>, bytes: usize, mirror: Mirror, accessible: [bool; 2]) -> Views {
        let (address, span) = (base.address(), base.span());
        let (base, accessible) = (Arc::new(base), RwLock::new(accessible));
        Views { file, bytes, address, span, base, mirror, dumps: None, accessible }
    }

    fn map(&self) -> Result<(), SysError> {
        let (Some(file), bytes) = (&self.file, self.bytes) else { return Ok(()) };
        // SAFETY: the three ranges lie in the reservation that `base` owns, and nobody knows of it yet.
        unsafe {
            sys::map_file_at(self.canonical(), file, 0, bytes, Access::None)?;
            for parity in 0..2 {
                let view = self.view(parity);
                match self.mirror {
                    Mirror::MmapMemfd => sys::map_file_at(view, file, 0, bytes, Access::None)?,
                    Mirror::MremapOldSizeZero => sys::mirror_at(self.canonical(), bytes, view)?,
                }
            }
            // A child would write into its parent's heap: the file is shared, whatever fork copies.
            for view in self.all() {
                sys::dont_fork(view, bytes)?;
                sys::dump(view, bytes, false)?;
                open(view, bytes)?;
            }
        }
        Ok(())
    }

    /// Has core dumps contain what [`Dumps`] is told of: each page once, at its address in the canonical view. Without this a dump has
    /// nothing of the views. `huge`: in units of 2 MiB, so that the canonical view can have pages of that size.
    ///
    /// Private memory is dumped as a whole, and [`dumps`](Views::dumps) stays `None`: the kernel leaves out what has no memory, and a flip
    /// wants a view that is one mapping.
    ///
    /// # Errors
    /// As [`sys::dump`].
    pub fn dump(&mut self, huge: bool) -> Result<(), SysError> {
        if self.is_anonymous() {
            // SAFETY: the view is ours; the advice changes no byte.
            return unsafe { sys::dump(self.view(0), self.bytes, true) };
        }
        self.dumps = Some(Arc::new(Dumps::new(Arc::clone(&self.base), self.canonical(), self.bytes, huge)));
        Ok(())
    }

    /// Which parts are dumped, where that is told one by one.
    pub fn dumps(&self) -> Option<&Arc<Dumps>> {
        self.dumps.as_ref()
    }

    /// The address of the reservation, a multiple of four spans. Its bits above them are this heap's alone: no other live
    /// heap's are a subset of them, nor they of another's.
    pub fn base(&self) -> usize {
        self.address
    }

    /// Bytes from one view to the next: a power of two, at least [`bytes`](Views::bytes) and 2 MiB.
    pub fn span(&self) -> usize {
        self.span
    }

    /// The size of the file and of each view, the maximum heap.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address of the canonical view: [`base`](Views::base), or, of anonymous memory, the even view.
    pub fn canonical(&self) -> usize {
        if self.file.is_some() { self.base() } else { self.view(0) }
    }

    /// The address of the view of a color: `base | span` for even (0), `base | 2 * span` for odd (1).
    ///
    /// # Panics
    /// If `parity` is neither.
    pub fn view(&self, parity: usize) -> usize {
        assert!(parity < 2, "a relocation is even (0) or odd (1), not {parity}");
        self.base() | self.span() << parity
    }

    /// Whether the memory is private and anonymous.
    pub fn is_anonymous(&self) -> bool {
        self.file.is_none()
    }

    fn all(&self) -> [usize; 3] {
        [self.canonical(), self.view(0), self.view(1)]
    }

    /// The file behind the views, if there is one.
    pub fn file(&self) -> Option<&HeapFile> {
        self.file.as_ref()
    }

    /// How the views were made.
    pub fn mirror(&self) -> Mirror {
        self.mirror
    }

    /// Bytes of mapped addresses over all views: what a tool that adds up mappings shows, and at most what it shows as
    /// resident.
    pub fn mapped_bytes(&self) -> usize {
        (if self.is_anonymous() { 2 } else { self.all().len() }) * self.bytes()
    }

    /// Bytes of memory the heap holds now, each page counted once.
    pub fn committed_bytes(&self) -> Result<usize, SysError> {
        match &self.file {
            Some(file) => file.committed_bytes(),
            None => {
                let pages =
                    sys::present_pages(self.view(0), self.bytes)? + sys::present_pages(self.view(1), self.bytes)?;
                Ok(pages * sys::page_size())
            }
        }
    }

    /// Lets the view of a color be read and written, or makes every access to it fault (verify mode: a stale pointer
    /// that is dereferenced faults). 6.6 ms per populated GiB. Waits for a [`populate`](Views::populate) under way.
    pub fn protect_view(&self, parity: usize, accessible: bool) -> Result<(), SysError> {
        let view = self.view(parity);
        let access = if accessible { Access::ReadWrite } else { Access::None };
        let mut now = self.accessible.write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the view is ours; Rust code holds no references into it, only addresses.
        unsafe { sys::protect(view, self.bytes(), access) }?;
        now[parity] = accessible;
        Ok(())
    }

    /// Leaves a view out of [`populate`](Views::populate) and [`collapse`](Views::collapse): nobody uses it, and its page
    /// tables are to stay empty.
    pub fn leave_unpopulated(&self, parity: usize) {
        self.accessible.write().unwrap_or_else(PoisonError::into_inner)[parity] = false;
    }

    /// Commits the pages of `offset..offset + len` and maps them in every accessible view, keeping their bytes: 12 us a
    /// page the machine never used, 0.27 us a page and view otherwise. Blocks while a view is being protected.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory.
    ///
    /// # Panics
    /// If the range is not in the file.
    pub fn populate(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        let accessible = self.accessible.read().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the ranges are in our views, which are writable; the lock keeps them so.
        unsafe {
            Patience::short().with(|| sys::populate_write(self.canonical() + offset, len))?;
            for (parity, _) in accessible.iter().enumerate().filter(|(_, accessible)| **accessible) {
                Patience::short().with(|| sys::populate_write(self.view(parity) + offset, len))?;
            }
        }
        Ok(())
    }

    /// Makes 2 MiB pages of what `offset..offset + len` has in small ones, in every view and whatever the system's
    /// setting. 2.9 s per GiB. Parts that are smaller than 2 MiB or were never touched are no success.
    ///
    /// # Errors
    /// As [`sys::collapse`], but for what was in use all the time (`EAGAIN`, `EBUSY`), which stays small after half a second of
    /// trying. After an error the views may differ in their page tables, never in their bytes.
    ///
    /// # Panics
    /// If the range is not in the file.
    pub fn collapse(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        let accessible = *self.accessible.read().unwrap_or_else(PoisonError::into_inner);
        let views = self.all().into_iter().zip([true, accessible[0], accessible[1]]);
        for (view, _) in views.filter(|(_, accessible)| *accessible) {
            // SAFETY: the ranges are in our views; collapsing keeps the bytes.
            match Patience::long().with(|| unsafe { sys::collapse(view + offset, len) }) {
                // Some pages were in use, all the time: those stay small.
                Err(error) if [libc::EAGAIN, libc::EBUSY].contains(&error.errno()) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Asks for 2 MiB pages in all views from the first touch on; has an effect where
    /// [`shmem_huge_pages`](sys::shmem_huge_pages) is `advise` or more.
    ///
    /// # Errors
    /// As [`sys::huge`].
    pub fn advise_huge(&self) -> Result<(), SysError> {
        // SAFETY: the views are ours; the advice changes no bytes.
        self.all().into_iter().try_for_each(|view| unsafe { sys::huge(view, self.bytes()) })
    }

    /// Gives the memory of `offset..offset + len`, whole pages, back to the system: zeroes are there afterwards, in every
    /// view. 135 us per 2 MiB of small pages, 14 us for a huge one.
    ///
    /// # Panics
    /// If the range is not in the file.
    pub fn uncommit(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        match &self.file {
            Some(file) => {
                file.punch_hole(offset, len)?;
                // A dump would bring pages into being.
                self.dumps.iter().for_each(|dumps| dumps.forget(offset, len));
                Ok(())
            }
            // SAFETY: the range is ours, and the caller has no use for its bytes.
            None => unsafe { sys::discard(self.view(0) + offset, len) },
        }
    }

    fn check(&self, offset: usize, len: usize) {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.bytes());
        assert!(fits, "{len:#x} bytes at {offset:#x} are not in a heap of {:#x}", self.bytes());
    }
}

/// Lets a view be accessed that was mapped without access, for this: under `mlockall(MCL_FUTURE)` what is mapped with access is brought
/// in at once, all of it.
///
/// # Safety
/// Ownership (see [`sys`]).
unsafe fn open(view: usize, bytes: usize) -> Result<(), SysError> {
    // SAFETY: the caller's.
    unsafe {
        // Refused, it costs memory where the process has locked all that it will map, and nothing elsewhere.
        let _ = sys::unlock(view, bytes);
        sys::protect(view, bytes, Access::ReadWrite)
    }
}

/// The span for a heap of `bytes`.
fn span_for(bytes: usize) -> Result<usize, ViewsError> {
    // One bit of the base at least must be left above four spans.
    let max_span = ADDRESS_LIMIT / 8;
    if bytes == 0 || !bytes.is_multiple_of(sys::page_size()) || bytes > max_span {
        return Err(ViewsError::Size { bytes, max: max_span });
    }
    // A power of two is aligned to 1 GiB, which large page-table moves want, as soon as it is that large.
    const { assert!(MIN_SPAN.is_power_of_two() && MIN_SPAN < GIB) };
    Ok(bytes.next_power_of_two().max(MIN_SPAN))
}
