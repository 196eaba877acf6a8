//! The memory of a heap: one file and its views.
//!
//! A heap reserves four spans of addresses in one piece, aligned to its size, so that the two bits
//! above an offset tell the views apart:
//!
//! ```text
//! base | 0 * span   canonical view: the collector's own, never gated
//! base | 1 * span   the view of even relocations
//! base | 2 * span   the view of odd relocations
//! base | 3 * span   nothing, no access: an address with both bits set is a bug and faults
//! ```
//!
//! Every view maps all of the file, so that the byte at an offset is the same byte in each. A heap
//! with two generations reserves sixteen spans, so that four bits tell its views apart: the two
//! above are those of young objects, and `base | 4 * span` and `base | 8 * span` are the views of
//! the even and odd relocations of old ones ([`Views::of_generations`]).
//!
//! (Private anonymous memory, [`Views::anonymous`], cannot be mapped twice: it has the even view,
//! which is the canonical one too, and a flip moves its pages to the odd one.) The private module
//! `bases` chooses the bits of the base: no two live heaps of a process have bit patterns under
//! which a reference of one could be taken for a reference of the other.

mod bases;
mod dumps;
mod gate;
mod huge;
mod parts;
mod root_region;

pub use dumps::Dumps;
pub use gate::{FlipError, Gate, GateError, InstallResult};
pub use huge::{HUGE_PAGE, SparePage};
pub use parts::Parts;
pub use root_region::RootRegion;

use crate::sys::{self, Access, HeapFile, Patience, SysError};
use bases::Base;
use parts::accessible as open;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

/// The smallest span, and its alignment below 1 GiB: what one page-table page maps.
pub const MIN_SPAN: usize = 2 << 20;
/// The smallest span of a heap of at least this size: page tables of such views move in whole GiB.
pub const GIB: usize = 1 << 30;
/// Addresses of user mode end here (x86-64 with four levels of page tables; a fifth is used only
/// when asked for).
pub const ADDRESS_LIMIT: usize = 1 << 47;

/// How the second and the third view are mapped. The result is the same; the system calls differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mirror {
    /// `mmap` of the memfd once more. 3 us.
    #[default]
    MmapMemfd,
    /// `mremap` of the canonical view with an old size of 0. 8 us.
    MremapOldSizeZero,
}

/// Why the views of a heap could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// The size is zero, no multiple of the page size, or four spans of it do not fit below 2^47.
    #[error(
        "a heap of {bytes} bytes cannot be mapped: it must be a multiple of the page size, more than 0 and at most {max}"
    )]
    Size {
        /// The requested size.
        bytes: usize,
        /// The largest possible size.
        max: usize,
    },
    /// A limit of the process is below the size of the heap's file.
    #[error(
        "the heap's file of {bytes} bytes exceeds the limit of {limit} bytes (RLIMIT_FSIZE): \
         raise the limit (`ulimit -f unlimited`) or make the heap smaller"
    )]
    FileSize {
        /// The size of the file.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No range of addresses is free whose bits tell this heap from the `live` ones of the process.
    #[error(
        "no address range for a heap of span {span:#x} beside {live} live heaps: none of {tried} bases is free and \
         distinguishable from theirs; drop a heap or make this one smaller; last error: {last}"
    )]
    NoBase {
        /// Bytes of one view's range.
        span: usize,
        /// Heaps alive in this process.
        live: usize,
        /// Bases tried.
        tried: usize,
        /// The error of the last one.
        last: Box<SysError>,
    },
    /// A limit of the process leaves less address space than the heap needs.
    #[error(
        "the heap needs {bytes} bytes of address space (mostly without memory), and the limit is {limit} \
         (RLIMIT_AS): raise the limit (`ulimit -v unlimited`) or make the heap smaller"
    )]
    AddressLimit {
        /// Address space of the heap in bytes.
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
/// Safe code gets addresses from it, never references. So every method that changes bytes, mappings
/// and protection of these addresses only is safe: code that turns an address into a reference or a
/// pointer argues in its own SAFETY comment which methods may be called meanwhile, and that the
/// `Views` are still alive.
#[derive(Debug)]
pub struct Views {
    /// `None`: private anonymous memory.
    file: Option<HeapFile>,
    bytes: usize,
    /// Copy of the base address.
    address: usize,
    span: usize,
    /// Number of views beside the canonical one: a bit of an address each.
    views: usize,
    /// The reservation, shared with every gate: the addresses stay reserved until all of these are
    /// dropped.
    base: Arc<Base>,
    mirror: Mirror,
    /// Which parts of the canonical view core dumps contain; `None`: no part.
    dumps: Option<Arc<Dumps>>,
    /// Of private memory: what is accessible.
    parts: Option<Arc<Parts>>,
    /// Of each view but the canonical one: whether it can be accessed. `populate` holds the lock: a
    /// view must not be protected while its pages are touched.
    accessible: RwLock<Vec<bool>>,
}

impl Views {
    /// Maps a heap of `bytes`, a multiple of the page size; `name` shows in `/proc/self/maps`. No
    /// memory is committed. Takes about 30 us, and more where bases are scarce.
    ///
    /// # Errors
    /// See [`ViewsError`].
    pub fn new(name: &str, bytes: usize, mirror: Mirror) -> Result<Views, ViewsError> {
        Views::of_file(name, bytes, mirror, 2)
    }

    /// As [`new`](Views::new), with a pair of views for each of two generations: those of old
    /// objects are [`view`](Views::view)s 2 and 3. Each is one more set of page tables (2 MiB a
    /// GiB), and one more first touch of each page that is used there.
    ///
    /// # Errors
    /// See [`ViewsError`].
    pub fn of_generations(name: &str, bytes: usize, mirror: Mirror) -> Result<Views, ViewsError> {
        Views::of_file(name, bytes, mirror, 4)
    }

    fn of_file(name: &str, bytes: usize, mirror: Mirror, views: usize) -> Result<Views, ViewsError> {
        let span = span_for(bytes, views)?;
        if let Some(limit) = sys::file_size_limit().ok().flatten().filter(|limit| *limit < bytes) {
            return Err(ViewsError::FileSize { bytes, limit });
        }
        let file = HeapFile::new(name, bytes)?;
        let views = Views::at(Base::reserve(span, 1 << views)?, Some(file), bytes, mirror, vec![true; views]);
        views.map()?;
        Ok(views)
    }

    /// As [`new`](Views::new), with private anonymous memory. Its pages are in the even view, or
    /// after a flip in the odd one; [`canonical`](Views::canonical) is the even view.
    ///
    /// # Errors
    /// See [`ViewsError`].
    pub fn anonymous(bytes: usize) -> Result<Views, ViewsError> {
        let whole = 0..bytes;
        Views::anonymous_in_parts(bytes, std::slice::from_ref(&whole))
    }

    /// As [`anonymous`](Views::anonymous), of which these offsets, whole pages, can be accessed;
    /// the rest is reserved, and counts as memory nowhere, until it is [opened](Parts::open).
    ///
    /// # Errors
    /// See [`ViewsError`].
    ///
    /// # Panics
    /// As [`Parts::open`].
    pub fn anonymous_in_parts(bytes: usize, open: &[Range<usize>]) -> Result<Views, ViewsError> {
        let base = Base::reserve(span_for(bytes, 2)?, 4)?;
        let mut views = Views::at(base, None, bytes, Mirror::MmapMemfd, vec![true, false]);
        // The odd view stays reserved: a flip moves the mapping there.
        // SAFETY: the range lies in the reservation that `base` owns, and no other code knows of it
        // yet.
        unsafe {
            sys::map_private_at(views.view(0), bytes, Access::None)?;
            sys::dont_fork(views.view(0), bytes)?;
            sys::dump(views.view(0), bytes, false)?;
        }
        let parts = Arc::new(Parts::new(Arc::clone(&views.base), views.view(0), views.view(1), bytes));
        open.iter().try_for_each(|part| parts.open(part.clone()))?;
        views.parts = Some(parts);
        Ok(views)
    }

    /// Of private memory: which parts are open.
    pub fn parts(&self) -> Option<&Arc<Parts>> {
        self.parts.as_ref()
    }

    /// Reserves the addresses; maps nothing yet.
    fn at(base: Base, file: Option<HeapFile>, bytes: usize, mirror: Mirror, accessible: Vec<bool>) -> Views {
        let (address, span) = (base.address(), base.span());
        let views = accessible.len();
        let (base, accessible) = (Arc::new(base), RwLock::new(accessible));
        Views { file, bytes, address, span, views, base, mirror, dumps: None, parts: None, accessible }
    }

    fn map(&self) -> Result<(), SysError> {
        let (Some(file), bytes) = (&self.file, self.bytes) else { return Ok(()) };
        // SAFETY: the ranges lie in the reservation that `base` owns, and no other code knows
        // of it yet.
        unsafe {
            sys::map_file_at(self.canonical(), file, 0, bytes, Access::None)?;
            for view in self.colored() {
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

    /// Enables core dumps of the ranges [noted](Dumps::note) in [`Dumps`]: each page once, at its
    /// address in the canonical view. Without this call dumps contain nothing of the views. `huge`:
    /// in units of 2 MiB, so that the canonical view can have pages of that size.
    ///
    /// Of private memory the open [parts](Views::parts) are dumped as a whole, and
    /// [`dumps`](Views::dumps) stays `None`: the kernel omits pages without memory, and a flip
    /// needs parts that are single mappings.
    ///
    /// # Errors
    /// As [`sys::dump`]; the allocator's refusal of the record's tables.
    pub fn dump(&mut self, huge: bool) -> Result<(), SysError> {
        if let Some(parts) = &self.parts {
            return parts.dump();
        }
        self.dumps = Some(Arc::new(Dumps::new(Arc::clone(&self.base), self.canonical(), self.bytes, huge)?));
        Ok(())
    }

    /// The record of the dumped parts; `None`: the memory is dumped as a whole or not at all.
    pub fn dumps(&self) -> Option<&Arc<Dumps>> {
        self.dumps.as_ref()
    }

    /// The address of the reservation, a multiple of its size: four spans, or sixteen. Its bits
    /// above them are this heap's alone: no other live heap's are a subset of them, nor they of
    /// another's.
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

    /// The address of the canonical view: [`base`](Views::base), or, of anonymous memory, the even
    /// view.
    pub fn canonical(&self) -> usize {
        if self.file.is_some() { self.base() } else { self.view(0) }
    }

    /// The address of the view of a color: `base | span` for even (0), `base | 2 * span` for odd
    /// (1); with generations these are of young objects, and `base | 4 * span` (2) and `base | 8 *
    /// span` (3) of old ones.
    ///
    /// # Panics
    /// If there is no such view.
    pub fn view(&self, parity: usize) -> usize {
        let views = self.views;
        assert!(parity < views, "there are views 0 to {views}, without the last, and none is {parity}");
        self.base() | self.span() << parity
    }

    /// Whether the memory is private and anonymous.
    pub fn is_anonymous(&self) -> bool {
        self.file.is_none()
    }

    /// Whether there is a pair of views for each of two generations.
    pub fn has_generations(&self) -> bool {
        self.views == 4
    }

    /// All views but the canonical one.
    fn colored(&self) -> impl Iterator<Item = usize> {
        (0..self.views).map(|parity| self.view(parity))
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.canonical()).chain(self.colored())
    }

    /// The file behind the views, if there is one.
    pub fn file(&self) -> Option<&HeapFile> {
        self.file.as_ref()
    }

    /// How the views were made.
    pub fn mirror(&self) -> Mirror {
        self.mirror
    }

    /// Bytes of memory the heap holds now, each page counted once.
    pub fn committed_bytes(&self) -> Result<usize, SysError> {
        match &self.file {
            Some(file) => file.committed_bytes(),
            None => {
                let pages = |view| sys::committed_pages(self.view(view), self.bytes);
                Ok((pages(0)? + pages(1)?) * sys::page_size())
            }
        }
    }

    /// Lets the view of a color be read and written, or makes every access to it fault (verify
    /// mode: a stale pointer that is dereferenced faults). 6.6 ms per populated GiB. Waits for a
    /// [`populate`](Views::populate) under way.
    pub fn protect_view(&self, parity: usize, accessible: bool) -> Result<(), SysError> {
        let view = self.view(parity);
        let access = if accessible { Access::ReadWrite } else { Access::None };
        let mut now = self.accessible.write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the view is ours; Rust code holds no references into it, only addresses.
        unsafe { sys::protect(view, self.bytes(), access) }?;
        now[parity] = accessible;
        Ok(())
    }

    /// Leaves a view out of [`populate`](Views::populate) and [`collapse`](Views::collapse): it is
    /// not used, and its page tables must stay empty.
    pub fn leave_unpopulated(&self, parity: usize) {
        self.accessible.write().unwrap_or_else(PoisonError::into_inner)[parity] = false;
    }

    /// Commits the pages of `offset..offset + len` and maps them in every accessible view, keeping
    /// their bytes: 12 us a page the machine never used, 0.27 us a page and view otherwise. Blocks
    /// while a view is being protected.
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

    /// Uncommits the memory of `offset..offset + len`, whole pages: they read as zeroes afterwards,
    /// in every view. 135 us per 2 MiB of small pages, 14 us for a huge one.
    ///
    /// # Panics
    /// If the range is not in the file.
    pub fn uncommit(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        match &self.file {
            Some(file) => {
                file.punch_hole(offset, len)?;
                // A dump would commit the pages again.
                self.dumps.iter().for_each(|dumps| dumps.forget(offset, len));
                Ok(())
            }
            None => self.discard(offset, len),
        }
    }

    /// Uncommits private memory, whose pages are in the from-view while they are gated.
    fn discard(&self, offset: usize, len: usize) -> Result<(), SysError> {
        let now = || self.parts.as_ref().map_or((false, 0), |parts| parts.moved());
        loop {
            let (moved, flips) = now();
            // SAFETY: the ranges are ours, and the caller has no use for their bytes.
            unsafe {
                // A page that is brought from there meanwhile is in the view by the next call.
                if moved {
                    sys::discard(self.view(1) + offset, len)?;
                }
                sys::discard(self.view(0) + offset, len)?;
            }
            // A flip that has begun since may have moved what was to be found in the view.
            if now().1 == flips {
                return Ok(());
            }
        }
    }

    fn check(&self, offset: usize, len: usize) {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.bytes());
        assert!(fits, "{len:#x} bytes at {offset:#x} are not in a heap of {:#x}", self.bytes());
    }
}

/// The span for a heap of `bytes` with so many views beside the canonical one.
fn span_for(bytes: usize, views: usize) -> Result<usize, ViewsError> {
    // At least one bit of the base must remain above the reservation.
    let max_span = ADDRESS_LIMIT / (2 << views);
    if bytes == 0 || !bytes.is_multiple_of(sys::page_size()) || bytes > max_span {
        return Err(ViewsError::Size { bytes, max: max_span });
    }
    // A power of two is aligned to 1 GiB, which large page-table moves want, as soon as it is that
    // large.
    const { assert!(MIN_SPAN.is_power_of_two() && MIN_SPAN < GIB) };
    Ok(bytes.next_power_of_two().max(MIN_SPAN))
}
