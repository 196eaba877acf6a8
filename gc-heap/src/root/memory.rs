//! Memory for root slots.
//!
//! With the load barrier a region is a private mapping of its own. With the page barrier it is a piece of the heap's file,
//! behind the heap proper: then a flip takes the pages of all roots away with those of the heap, in the same call, and they
//! come back repaired like any other. No pause looks at a root, and reading one costs nothing more.

use crate::space::PAGE_BYTES;
use gc_core::sys::{Process, SysError};
use gc_core::views::{RootRegion, Views};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of the file behind the heap proper, for the roots of a heap with the page barrier. Addresses, not memory: what is
/// not touched costs nothing.
pub(crate) const ROOT_AREA_BYTES: usize = 16 << 30;

/// Where the regions of a heap come from.
#[derive(Clone)]
pub(crate) enum RootMemory {
    Private,
    Gated(Arc<RootArea>),
}

/// The part of a heap's file that holds roots.
pub(crate) struct RootArea {
    /// Addresses of the area in the mutators' and in the canonical view.
    view: usize,
    canonical: usize,
    /// Offset of the area in the file.
    start: usize,
    process: Process,
    state: Mutex<Area>,
}

#[derive(Default)]
struct Area {
    /// The area from here on was never used.
    used: usize,
    /// Pieces that can be used again, by length.
    free: BTreeMap<usize, Vec<usize>>,
    /// Pieces given up, still with their memory.
    returned: Vec<Range<usize>>,
}

impl RootArea {
    pub(crate) fn new(views: &Views, start: usize) -> RootArea {
        let (view, canonical) = (views.view(0) + start, views.canonical() + start);
        RootArea { view, canonical, start, process: Process::current(), state: Mutex::default() }
    }

    fn take(&self, bytes: usize) -> Option<usize> {
        let mut area = self.state.lock();
        if let Some(offset) = area.free.get_mut(&bytes).and_then(Vec::pop) {
            return Some(offset);
        }
        // With the words that it holds: nobody has it any more, and a root slot is written before it is read.
        if let Some(index) = area.returned.iter().rposition(|piece| piece.len() == bytes) {
            return Some(area.returned.swap_remove(index).start);
        }
        let offset = area.used;
        let end = offset.checked_add(bytes).filter(|end| *end <= ROOT_AREA_BYTES)?;
        area.used = end;
        Some(offset)
    }

    /// Offsets in the file that may hold roots.
    pub(crate) fn used(&self) -> Range<usize> {
        self.start..self.start + self.state.lock().used
    }

    /// Gives the memory of pieces that were given up back to the system. While no page is gated.
    pub(crate) fn tidy(&self, views: &Views) {
        let returned = std::mem::take(&mut self.state.lock().returned);
        for piece in returned {
            // A piece that keeps its memory is used again as it is: nobody reads a root slot before writing it.
            let _ = views.uncommit(self.start + piece.start, piece.len());
            self.state.lock().free.entry(piece.len()).or_default().push(piece.start);
        }
    }
}

/// Words for root slots that never move, writable, zero at first (or after a slot was never written).
pub(crate) enum Region {
    Private(RootRegion),
    Gated { area: Arc<RootArea>, offset: usize, len: usize },
}

impl Region {
    /// Bytes are rounded up to whole pages.
    pub(crate) fn reserve(memory: &RootMemory, bytes: usize) -> Result<Region, NoAddresses> {
        match memory {
            RootMemory::Private => {
                RootRegion::reserve(bytes).map(Region::Private).map_err(|error| NoAddresses(Some(error)))
            }
            RootMemory::Gated(area) => {
                let len = bytes.checked_next_multiple_of(PAGE_BYTES).ok_or(NoAddresses(None))?;
                let offset = area.take(len).ok_or(NoAddresses(None))?;
                Ok(Region::Gated { area: Arc::clone(area), offset, len })
            }
        }
    }

    /// The first byte as mutators see it.
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        match self {
            Region::Private(region) => region.as_ptr(),
            Region::Gated { area, offset, .. } => std::ptr::with_exposed_provenance_mut(area.view + offset),
        }
    }

    /// The first byte as the collector sees it: never gated.
    pub(crate) fn collector_ptr(&self) -> *mut u8 {
        match self {
            Region::Private(region) => region.as_ptr(),
            Region::Gated { area, offset, .. } => std::ptr::with_exposed_provenance_mut(area.canonical + offset),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Region::Private(region) => region.len(),
            Region::Gated { len, .. } => *len,
        }
    }

    /// Pages of the heap's file that hold the first `bytes`; none of a private region.
    pub(crate) fn pages(&self, bytes: usize) -> Range<usize> {
        match self {
            Region::Private(_) => 0..0,
            Region::Gated { area, offset, .. } => {
                let first = (area.start + offset) / PAGE_BYTES;
                first..first + bytes.div_ceil(PAGE_BYTES)
            }
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // In a child made by `fork` the lock may be held for ever, and nobody will use the piece again.
        if let Region::Gated { area, offset, len } = self
            && area.process.is_current()
        {
            area.state.lock().returned.push(*offset..*offset + *len);
        }
    }
}

/// No address space was left.
#[derive(Debug)]
pub(crate) struct NoAddresses(#[expect(dead_code, reason = "for Debug")] pub(crate) Option<SysError>);
