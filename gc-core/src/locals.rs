//! The locals of a thread against the marker.
//!
//! The marker scans a thread's locals at any time after mark start, those that were in use then.
//! Until it has, the thread logs what it pops or overwrites of them. A local's address is that of
//! its slot, 8 bytes each; they are used from the lowest up.
//!
//! The thread publishes its top at every safepoint. When it first goes on after mark start, before
//! it touches a slot, it sets its [`Watermark`] to its top, and leaves that for the marker as the
//! limit of the scan. A marker that comes before takes the published top, which is the same. See
//! "The snapshot" in `docs/protocol.md`; `loom_locals` runs these functions.

use crate::rules::{Rule, kept, order};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::word::Word;
use std::cell::Cell;

const SLOT_BYTES: usize = 8;

/// What a thread and the marker know of the thread's locals.
#[derive(Debug, Default)]
pub struct Locals {
    /// The end of the locals in use, as of the last safepoint.
    published_top: AtomicU64,
    /// The marking for which `scan_limit` was set by the thread itself.
    scan_epoch: AtomicU32,
    scan_limit: AtomicU64,
    /// The last marking that has scanned the locals.
    scanned: AtomicU32,
}

impl Locals {
    /// At every safepoint, before the thread arrives or parks. Release: the marker that reads the
    /// top sees the slots below.
    pub fn publish_top(&self, top: u64) {
        self.published_top.store(top, Ordering::Release);
    }

    /// The top that was published last.
    #[must_use]
    pub fn published_top(&self) -> u64 {
        self.published_top.load(Ordering::Acquire)
    }

    fn begin(&self, epoch: u32, top: u64) {
        if kept(Rule::LimitThenEpoch) {
            self.scan_limit.store(top, Ordering::Relaxed);
        }
        // Release: the marker that reads the epoch sees the limit.
        self.scan_epoch.store(epoch, order(Rule::EpochRelease, Ordering::Release));
        if !kept(Rule::LimitThenEpoch) {
            self.scan_limit.store(top, Ordering::Relaxed);
        }
    }

    /// Whether the thread has gone on since this marking began.
    #[must_use]
    pub fn has_begun(&self, epoch: u32) -> bool {
        self.scan_epoch.load(Ordering::Acquire) == epoch
    }

    /// The end of the locals that are to be scanned: of those in use at mark start.
    #[must_use]
    pub fn top_to_scan(&self, epoch: u32) -> u64 {
        let published = self.published_top();
        if self.has_begun(epoch) { self.scan_limit.load(Ordering::Relaxed) } else { published }
    }

    /// Whether the locals below the watermark have been scanned, so that nothing of them needs to
    /// be logged.
    #[must_use]
    pub fn is_scanned(&self, epoch: u32) -> bool {
        self.scanned.load(Ordering::Acquire) == epoch
    }

    /// Records that all locals have been visited. Release: the visits come before.
    pub fn set_scanned(&self, epoch: u32) {
        self.scanned.store(epoch, Ordering::Release);
    }
}

/// The address below which a thread logs its locals before they end; 0 where it need not. The
/// thread's own.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Watermark(Cell<u64>);

impl Watermark {
    /// The thread goes on after mark start, and has not touched a slot since.
    pub fn begin(&self, locals: &Locals, epoch: u32, top: u64) {
        locals.begin(epoch, top);
        self.0.set(if kept(Rule::WatermarkAtTop) { top } else { 0 });
    }

    /// No marking runs.
    pub fn clear(&self) {
        self.0.set(0);
    }

    /// Whether a local at the address may have to be logged before it ends: then
    /// [`pop_to`](Self::pop_to) is to be called.
    #[inline(always)]
    #[must_use]
    pub fn is_above(&self, address: u64) -> bool {
        address < self.0.get()
    }

    /// Logs the locals that end at `address` and above, up to the thread's top, unless they are
    /// scanned.
    pub fn pop_to<'a>(
        &self,
        address: u64,
        top: u64,
        is_scanned: bool,
        slot: impl Fn(u64) -> &'a AtomicU64,
        log: impl Fn(Word),
    ) {
        if is_scanned {
            return self.clear();
        }
        let end = self.0.get().min(top);
        if kept(Rule::LogPops) {
            (address..end).step_by(SLOT_BYTES).for_each(|address| log(Word::of(slot(address), Ordering::Relaxed)));
        }
        self.0.set(address);
    }
}
