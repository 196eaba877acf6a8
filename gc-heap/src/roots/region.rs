//! Memory for root slots.
//!
//! With the load barrier a region is a piece of private memory. With the page barrier it is a range
//! of the heap's file, beyond the heap proper: then a flip unmaps the pages of all roots with those
//! of the heap, in the same call, and they are repaired like any other page. No pause visits a
//! root, and reading one costs nothing more.

use super::arenas::{Arenas, Piece};
use super::file_region::{FileRegion, RegionKind};
use crate::space::{Offset, PAGE_BYTES, Page};
use gc_core::sys::SysError;
use gc_core::views::Views;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Address space of a thread's locals: 32 million of them.
const FRAME_BYTES: usize = 256 << 20;

/// Accessible bytes at first. They double when full: at most twice the bytes in use count as the
/// process's memory.
const FRAME_OPEN: usize = 64 << 10;

/// Where the regions of a heap come from.
#[derive(Clone)]
pub(crate) enum RootMemory {
    Private(Arc<Arenas>),
    Gated(Arc<FileRegion>),
}

impl RootMemory {
    pub(crate) fn private() -> RootMemory {
        RootMemory::Private(Arc::new(Arenas::new()))
    }
}

/// Words for root slots that never move, writable. A slot is written before it is read.
///
/// Invariant: `len` bytes at `address`, and at `collector`, are mapped and writable (a page that is
/// gated is let in where it is accessed) as long as the region lives; every access is atomic.
pub(crate) struct Region {
    home: Home,
    /// The first byte as mutators see it, and as the collector does.
    address: usize,
    collector: usize,
    /// Grows, of a frame; by its thread alone.
    len: AtomicUsize,
}

enum Home {
    /// The program's allocator's.
    Own {
        /// Not a `Box`, which would be the only way to its memory.
        _words: Vec<AtomicU64>,
    },
    Private {
        arenas: Arc<Arenas>,
        piece: Piece,
    },
    Gated {
        area: Arc<FileRegion>,
        share: RegionKind,
        offset: usize,
    },
}

impl Region {
    /// For a stack. Bytes (not 0) are rounded up to whole pages.
    pub(crate) fn stack(memory: &RootMemory, bytes: usize) -> Result<Region, NoAddresses> {
        Region::reserve(memory, bytes, RegionKind::Stacks)
    }

    /// For a table, as for a stack. Where the system maps nothing more (it is short of memory, or
    /// the process at a limit), of the program's own memory: a root is made by calls that cannot
    /// fail, and a table is small.
    pub(crate) fn table(memory: &RootMemory, bytes: usize) -> Result<Region, NoAddresses> {
        match Region::reserve(memory, bytes, RegionKind::Tables) {
            Err(NoAddresses(Some(_))) => Ok(Region::allocate(bytes)),
            region => region,
        }
    }

    fn allocate(bytes: usize) -> Region {
        let words: Vec<AtomicU64> = std::iter::repeat_with(|| AtomicU64::new(0)).take(bytes / 8).collect();
        let address = words.as_ptr().expose_provenance();
        Region { home: Home::Own { _words: words }, address, collector: address, len: AtomicUsize::new(bytes) }
    }

    fn reserve(memory: &RootMemory, bytes: usize, share: RegionKind) -> Result<Region, NoAddresses> {
        let len = bytes.checked_next_multiple_of(PAGE_BYTES).ok_or(NoAddresses(None))?;
        match memory {
            RootMemory::Private(arenas) => Region::private(arenas, len, len),
            RootMemory::Gated(area) => {
                let piece = area.take(len, share).map_err(NoAddresses)?;
                Ok(Region::gated(area, share, piece))
            }
        }
    }

    /// For a thread's locals.
    pub(crate) fn frame(memory: &RootMemory) -> Result<Region, NoAddresses> {
        match memory {
            RootMemory::Private(arenas) => Region::private(arenas, FRAME_BYTES, FRAME_OPEN),
            RootMemory::Gated(area) => {
                let piece = area.take_frame().map_err(NoAddresses)?;
                Ok(Region::gated(area, RegionKind::Frames, piece))
            }
        }
    }

    /// Of `len` bytes, the first `open` of which are the region for now.
    fn private(arenas: &Arc<Arenas>, len: usize, open: usize) -> Result<Region, NoAddresses> {
        let piece = arenas.take(len, open).map_err(|error| NoAddresses(Some(error)))?;
        let address = piece.address();
        let home = Home::Private { arenas: Arc::clone(arenas), piece };
        Ok(Region { home, address, collector: address, len: AtomicUsize::new(open) })
    }

    fn gated(area: &Arc<FileRegion>, share: RegionKind, piece: Range<usize>) -> Region {
        let (address, collector) = area.addresses(piece.start);
        let home = Home::Gated { area: Arc::clone(area), share, offset: piece.start };
        Region { home, address, collector, len: AtomicUsize::new(piece.len()) }
    }

    /// Makes a frame longer. By its thread, which alone asks for the length that a slot is to be
    /// in.
    pub(crate) fn grow(&self) -> bool {
        let grown = match &self.home {
            Home::Private { piece, .. } => {
                let len = (2 * self.len()).min(FRAME_BYTES);
                (len > self.len() && piece.open(len).is_ok()).then_some(len)
            }
            Home::Gated { area, share: RegionKind::Frames, offset } => area.grow_frame(*offset),
            Home::Gated { .. } | Home::Own { .. } => None,
        };
        if let Some(len) = grown {
            self.len.store(len, Ordering::Relaxed);
        }
        grown.is_some()
    }

    /// Address of the first word as mutators see it.
    #[inline(always)]
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    /// The words as mutators see them.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the region's invariant, for the mutators' view.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(self.address), self.len() / 8) }
    }

    /// The words as the collector sees them: never gated.
    pub(crate) fn collector_words(&self) -> &[AtomicU64] {
        // SAFETY: the region's invariant, for the collector's view.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(self.collector), self.len() / 8) }
    }

    /// The word at an address of the mutators' view.
    ///
    /// # Safety
    /// A multiple of 8 bytes lies between the region's address and this one, and at least a word
    /// between this one and the region's end.
    #[inline(always)]
    pub(crate) unsafe fn word_at(&self, address: usize) -> &AtomicU64 {
        debug_assert!(address >= self.address && address - self.address < self.len() && address.is_multiple_of(8));
        // SAFETY: the caller's, and the region's invariant.
        unsafe { &*std::ptr::with_exposed_provenance(address) }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Uncommits `bytes`, whole pages: they read as zeroes afterwards. No thread uses them
    /// meanwhile; called while no page is gated.
    pub(crate) fn discard(&self, views: &Views, bytes: Range<usize>) -> Result<(), SysError> {
        match &self.home {
            // A table's, which keeps its memory.
            Home::Own { .. } => Ok(()),
            Home::Private { piece, .. } => piece.discard(bytes),
            Home::Gated { area, offset, .. } => views.uncommit(area.in_file(offset + bytes.start), bytes.len()),
        }
    }

    /// Pages of the heap's file that hold the first `bytes`; none of a private region.
    pub(crate) fn pages(&self, bytes: usize) -> Range<Page> {
        match &self.home {
            Home::Own { .. } | Home::Private { .. } => Page::new(0)..Page::new(0),
            Home::Gated { area, offset, .. } => Page::holding(Offset::new(area.in_file(*offset)), bytes),
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        match &self.home {
            Home::Own { .. } => {}
            Home::Private { arenas, piece } => arenas.release(piece),
            Home::Gated { area, share, offset } => area.release(*share, *offset..*offset + self.len()),
        }
    }
}

/// No address space was left.
#[derive(Debug)]
pub(crate) struct NoAddresses(pub(crate) Option<SysError>);

/// A word of a region, and the region, which it keeps.
pub(crate) struct RegionWord {
    word: NonNull<AtomicU64>,
    region: Arc<Region>,
}

// SAFETY: the word is atomic, and stays where it is as long as the region, which this keeps alive.
unsafe impl Send for RegionWord {}
// SAFETY: as for Send.
unsafe impl Sync for RegionWord {}

impl RegionWord {
    pub(crate) fn new(region: &Arc<Region>, index: usize) -> RegionWord {
        RegionWord { word: NonNull::from(&region.words()[index]), region: Arc::clone(region) }
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> &AtomicU64 {
        // SAFETY: see `Send`.
        unsafe { self.word.as_ref() }
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }
}
