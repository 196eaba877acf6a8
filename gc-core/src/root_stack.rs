//! A stack of roots against the marker, and against the collector that gives its memory back.
//!
//! The marker scans the slots below the top when it comes to the stack, at any time after mark start. Until then the owner
//! logs what it pops or overwrites while marking runs. A slot is written before the top covers it.
//!
//! The owner pushes below `limit` without asking. It raises the limit under the stack's lock; the collector lowers it in stops
//! alone, where no owner is between looking at the limit and writing a slot. What lies above the limit nobody uses, so the
//! collector gives its memory back, under the lock, while the owner runs.
//!
//! See "The snapshot" and "A stack's memory" in `docs/protocol.md`; `loom_root_stack` runs these functions.

use crate::rules::{Rule, kept, order};
use crate::slot::publish;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};
use std::ops::Range;
use std::sync::PoisonError;

/// What the owner of a stack and the collector share. The slots are elsewhere.
#[derive(Debug)]
pub struct RootStackState {
    /// Written by the owner alone.
    top: AtomicU64,
    /// Slots that the owner may push to, and those that may have memory: at least as many. Both change under `memory`, and
    /// the limit is lowered in stops as well.
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

    /// Values on the stack. By the owner, which alone writes it: Relaxed.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.top.load(Ordering::Relaxed) as usize
    }

    /// Whether nothing is on the stack. By the owner.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Covers the slots below `top`, which have been written. By the owner. Release: the marker that reads the top sees them.
    #[inline(always)]
    pub fn set_top(&self, top: usize) {
        self.top.store(top as u64, order(Rule::TopRelease, Ordering::Release));
    }

    /// Writes the slot at the top, which is below the limit, and covers it. By the owner.
    #[inline(always)]
    pub fn push(&self, slot: &AtomicU64, top: usize, word: u64) {
        if !kept(Rule::WriteThenCover) {
            self.set_top(top + 1);
        }
        // Release: the marker may have read a higher top before values were popped.
        publish(slot, word);
        if kept(Rule::WriteThenCover) {
            self.set_top(top + 1);
        }
    }

    /// Drops the values from `top` on. `log` logs them while marking runs. By the owner.
    #[inline(always)]
    pub fn cut(&self, top: usize, log: impl FnOnce()) {
        log();
        self.set_top(top);
    }

    /// Overwrites a slot. `log` logs what it holds while marking runs. By the owner.
    #[inline(always)]
    pub fn overwrite(&self, slot: &AtomicU64, word: u64, log: impl FnOnce()) {
        log();
        publish(slot, word);
    }

    /// Logs what is about to be popped or overwritten while the marking of this epoch runs, unless the stack is scanned.
    #[inline(always)]
    pub fn log<'a>(&self, epoch: u32, slots: impl Iterator<Item = &'a AtomicU64>, log: impl FnMut(u64)) {
        if self.scanned.load(Ordering::Acquire) != epoch && kept(Rule::LogPops) {
            slots.map(|slot| slot.load(Ordering::Acquire)).for_each(log);
        }
    }

    /// How many slots are to be scanned, if that begins now. By the marker.
    #[must_use]
    pub fn top(&self) -> usize {
        self.top.load(Ordering::Acquire) as usize
    }

    /// All slots below the top have been visited. Release: the visits come before.
    pub fn set_scanned(&self, epoch: u32) {
        self.scanned.store(epoch, Ordering::Release);
    }

    /// Slots that the owner may push to. Relaxed: the owner's own writes, or those of a stop that the owner has left since.
    #[inline(always)]
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Raises the limit. By the owner. Blocks where the collector is giving memory of this stack back.
    pub fn raise(&self, limit: usize) {
        let _guard = self.lock();
        self.touched.store(self.touched.load(Ordering::Relaxed).max(limit), Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Lowers the limit. Inside a stop.
    pub fn lower(&self, limit: usize) {
        // Never up: above there may be no memory that `touched` counts.
        self.limit.fetch_min(limit, Ordering::Relaxed);
    }

    /// Gives the memory above the limit back, which the stack has not needed since the limit was lowered. By the collector,
    /// while no page is gated. Where `discard` fails the memory is kept, and asked for again at the next occasion.
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

    /// Slots that may have memory.
    #[must_use]
    pub fn touched(&self) -> usize {
        self.touched.load(Ordering::Relaxed)
    }
}
