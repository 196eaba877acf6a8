//! The protocol of a root stack's owner with the marker, and with the collector that uncommits its
//! memory.
//!
//! The marker scans the slots below the top at any time after mark start. Until then, while marking
//! runs, the owner logs a slot's word before it pops or overwrites the slot. A slot is written
//! before the top covers it.
//!
//! The owner pushes below `limit` without further checks. It raises the limit under the stack's
//! lock; the collector lowers it only in pauses, where no owner is between reading the limit and
//! writing a slot. No thread uses slots above the limit, so the collector uncommits their memory,
//! under the lock, while the owner runs.
//!
//! See "The snapshot" and "A stack's memory" in `docs/protocol.md`; `loom_root_stack` runs these
//! functions.

use crate::rules::{Rule, kept, order};
use crate::slot::publish;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::word::{GoodWord, Word};
use std::ops::Range;
use std::sync::PoisonError;

/// The words shared by a stack's owner and the collector. The slots are elsewhere.
#[derive(Debug)]
pub struct RootStackState {
    /// Written by the owner alone.
    top: AtomicU64,
    /// Number of slots that the owner may push to, and of those that may be committed, which is at
    /// least as large. Both change under `memory`, and the limit is also lowered in pauses.
    limit: AtomicUsize,
    touched: AtomicUsize,
    memory: Mutex<()>,
    /// Number of the last marking that has scanned the stack.
    scanned: AtomicU32,
}

impl RootStackState {
    /// An empty stack with memory for `limit` values.
    #[must_use]
    pub fn new(limit: usize) -> RootStackState {
        RootStackState {
            top: AtomicU64::new(0),
            limit: AtomicUsize::new(limit),
            touched: AtomicUsize::new(limit),
            memory: Mutex::new(()),
            scanned: AtomicU32::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of values on the stack. Called by the owner, which alone writes it: Relaxed.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.top.load(Ordering::Relaxed) as usize
    }

    /// Whether the stack is empty. Called by the owner.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Covers the slots below `top`, which have been written. Called by the owner. Release: the
    /// marker that reads the top sees them.
    #[inline(always)]
    pub fn set_top(&self, top: usize) {
        self.top.store(top as u64, order(Rule::TopRelease, Ordering::Release));
    }

    /// Writes the slot at the top, which is below the limit, and covers it. Called by the owner.
    #[inline(always)]
    pub fn push(&self, slot: &AtomicU64, top: usize, word: GoodWord) {
        if !kept(Rule::WriteThenCover) {
            self.set_top(top + 1);
        }
        // Release: the marker may have read a higher top before values were popped.
        publish(slot, word.word());
        if kept(Rule::WriteThenCover) {
            self.set_top(top + 1);
        }
    }

    /// Drops the values from `top` on. `log` logs them while marking runs. Called by the owner.
    #[inline(always)]
    pub fn cut(&self, top: usize, log: impl FnOnce()) {
        log();
        self.set_top(top);
    }

    /// Overwrites a slot. `log` logs its old word while marking runs. Called by the owner.
    #[inline(always)]
    pub fn overwrite(&self, slot: &AtomicU64, word: GoodWord, log: impl FnOnce()) {
        log();
        publish(slot, word.word());
    }

    /// Logs the words that are about to be popped or overwritten while the marking of this epoch
    /// runs, unless the stack is scanned.
    #[inline(always)]
    pub fn log<'a>(&self, epoch: u32, slots: impl Iterator<Item = &'a AtomicU64>, log: impl FnMut(Word)) {
        if self.scanned.load(Ordering::Acquire) != epoch && kept(Rule::LogPops) {
            slots.map(|slot| Word::of(slot, Ordering::Acquire)).for_each(log);
        }
    }

    /// Number of slots to scan, if the scan begins now. Called by the marker.
    #[must_use]
    pub fn top(&self) -> usize {
        self.top.load(Ordering::Acquire) as usize
    }

    /// Records that all slots below the top have been visited. Release: the visits come before.
    pub fn set_scanned(&self, epoch: u32) {
        self.scanned.store(epoch, Ordering::Release);
    }

    /// Slots that the owner may push to. Relaxed: the owner's own writes, or those of a pause that
    /// the owner has left since.
    #[inline(always)]
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Raises the limit. Called by the owner. Blocks while the collector is uncommitting memory of
    /// this stack.
    pub fn raise(&self, limit: usize) {
        let _guard = self.lock();
        self.touched.store(self.touched.load(Ordering::Relaxed).max(limit), Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Lowers the limit. Called inside a pause.
    pub fn lower(&self, limit: usize) {
        // Never raises it: memory above may not be counted in `touched`.
        self.limit.fetch_min(limit, Ordering::Relaxed);
    }

    /// Uncommits the memory above the limit, which the stack has not needed since the limit was
    /// lowered. Called by the collector, while no page is gated. If `discard` fails, the memory
    /// stays committed, and the call is repeated at the next occasion.
    pub fn give_back(&self, discard: impl FnOnce(Range<usize>) -> bool) {
        if self.touched.load(Ordering::Relaxed) == self.limit.load(Ordering::Relaxed) {
            return;
        }
        let guard = kept(Rule::DiscardUnderLock).then(|| self.lock());
        let (limit, touched) = (self.limit.load(Ordering::Relaxed), self.touched.load(Ordering::Relaxed));
        if limit < touched && discard(limit..touched) {
            self.touched.store(limit, Ordering::Relaxed);
        }
        drop(guard);
    }

    /// Number of slots that may be committed.
    #[must_use]
    pub fn touched(&self) -> usize {
        self.touched.load(Ordering::Relaxed)
    }
}
