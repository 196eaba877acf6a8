//! What the collector sees of a mutator. Everything here is atomic or constant: `&mut Mutator` must not alias it.

use crate::root::stack::DEFAULT_STACK_SLOTS;
use gc_core::stop::MutatorState;
use gc_core::sys::SysError;
use gc_core::views::RootRegion;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Address space of a thread's locals: 32 million of them. Committed as it is touched.
const LOCALS_BYTES: usize = 256 * DEFAULT_STACK_SLOTS * 8;

#[repr(C)]
pub(crate) struct MutatorRecord {
    /// End of the TLAB as the allocation check reads it; 0 asks the mutator to come to a safepoint.
    pub(crate) end: AtomicU64,
    pub(crate) state: MutatorState,
    locals: RootRegion,
    /// Locals in use, as of the last safepoint.
    published_top: AtomicU64,
    /// The marking for which `scan_limit` was set by the mutator itself.
    scan_epoch: AtomicU32,
    scan_limit: AtomicU64,
    /// The last marking that has scanned the locals.
    scanned: AtomicU32,
}

impl MutatorRecord {
    pub(crate) fn new() -> Result<MutatorRecord, SysError> {
        Ok(MutatorRecord {
            end: AtomicU64::new(0),
            state: MutatorState::new(),
            locals: RootRegion::reserve(LOCALS_BYTES)?,
            published_top: AtomicU64::new(0),
            scan_epoch: AtomicU32::new(0),
            scan_limit: AtomicU64::new(0),
            scanned: AtomicU32::new(0),
        })
    }

    /// Asks a running mutator to come to a safepoint soon.
    pub(crate) fn poll(&self) {
        self.end.store(0, Ordering::SeqCst);
    }

    /// Address of the first local.
    pub(crate) fn locals_base(&self) -> u64 {
        self.locals.as_ptr() as u64
    }

    /// Bytes of the locals region.
    #[inline(always)]
    pub(crate) fn locals_len(&self) -> u64 {
        self.locals.len() as u64
    }

    pub(crate) fn locals_end(&self) -> u64 {
        self.locals_base() + self.locals.len() as u64
    }

    /// The slot at an address within the locals.
    #[inline(always)]
    pub(crate) fn local(&self, address: u64) -> &AtomicU64 {
        debug_assert!((self.locals_base()..self.locals_end()).contains(&address));
        // SAFETY: the region is mapped as long as `self`, and all accesses to it are atomic.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address as usize) }
    }

    /// At every safepoint, before the mutator arrives or parks: Release pairs with the collector's Acquire.
    pub(crate) fn publish_top(&self, top: u64) {
        self.published_top.store(top, Ordering::Release);
    }

    /// The mutator has seen that marking `epoch` runs and has set its watermark to `top`.
    pub(crate) fn begin_marking(&self, epoch: u32, top: u64) {
        self.scan_limit.store(top, Ordering::Relaxed);
        self.scan_epoch.store(epoch, Ordering::Release);
    }

    /// Whether the locals below the watermark have been scanned: nothing needs to be logged any more.
    pub(crate) fn is_scanned(&self, epoch: u32) -> bool {
        self.scanned.load(Ordering::Acquire) == epoch
    }

    /// Visits the locals that were in use at mark start; each is scanned as it is, or was logged before it changed.
    ///
    /// A mutator that has not gone on since mark start has its published top; it sets its watermark to the same top
    /// before it touches a slot.
    pub(crate) fn scan_locals(&self, epoch: u32, mut visit: impl FnMut(&AtomicU64)) {
        let published = self.published_top.load(Ordering::Acquire);
        let limit = if self.scan_epoch.load(Ordering::Acquire) == epoch {
            self.scan_limit.load(Ordering::Relaxed)
        } else {
            published
        };
        let mut address = self.locals_base();
        while address < limit {
            visit(self.local(address));
            address += 8;
        }
        self.scanned.store(epoch, Ordering::Release);
    }

    /// Visits the locals of a stopped or parked mutator, for verification.
    pub(crate) fn each_local(&self, mut visit: impl FnMut(&AtomicU64)) {
        let top = self.published_top.load(Ordering::Acquire);
        (self.locals_base()..top).step_by(8).for_each(|address| visit(self.local(address)));
    }
}
