//! The slow half of the barriers: what happens when a load meets a stale word.

use crate::events::LossKind;
use crate::inner::mutator::{Counts, Mutator, Sampled};
use crate::space::Offset;
use crate::space::evacuate::{Copied, CopyPlace, relocate_object};
use crate::space::free::AllocClass;
use crate::stats::Histogram;
use gc_core::forwarding::Entry;
use gc_core::slot::{self, Barriers};
use gc_core::weak::{self, WeakBarriers};
use gc_core::word::{GoodWord, Word};
use std::sync::atomic::AtomicU64;

/// One in this many of a thread's slow paths of loads is timed.
const TIMED_ONE_IN: u32 = 16;

/// As [`TIMED_ONE_IN`], for stores, which have less to do.
const STORES_TIMED_ONE_IN: u32 = 64;

impl Mutator<'_> {
    /// Resolves a stale word that was loaded from a slot, and heals the slot. `None`: see
    /// [`try_resolve`](Self::try_resolve).
    pub(crate) fn heal_slow(&self, slot: &AtomicU64, word: Word) -> Option<GoodWord> {
        self.load_counted(|| {
            let good = self.try_resolve(word)?;
            if slot::heal(slot, word, good) {
                self.counts.healed.set(self.counts.healed.get() + 1);
            }
            Some(good)
        })
    }

    /// Counts a slow path, and times one in [`TIMED_ONE_IN`]: two clock reads cost as much as a
    /// typical slow path.
    #[inline(always)]
    fn load_counted<R>(&self, f: impl FnOnce() -> R) -> R {
        self.counted(LossKind::SlowPaths, &self.counts.loads, TIMED_ONE_IN, &self.inner().report.slow_paths, f)
    }

    /// A slow path of a store that is timed, and counted before.
    pub(crate) fn store_timed(&self, f: impl FnOnce()) {
        self.timed(LossKind::Stores, &self.counts.stores, STORES_TIMED_ONE_IN, &self.inner().report.stores, f);
    }

    #[inline(always)]
    fn counted<R>(&self, kind: LossKind, counts: &Sampled, one_in: u32, timed: &Histogram, f: impl FnOnce() -> R) -> R {
        if counts.counts_untimed() { f() } else { self.timed(kind, counts, one_in, timed, f) }
    }

    #[inline(always)]
    fn timed<R>(&self, kind: LossKind, counts: &Sampled, one_in: u32, timed: &Histogram, f: impl FnOnce() -> R) -> R {
        let (heap, account) = (self.inner(), &self.record().account);
        let (begin_ns, lost_ns) = (heap.report.events.now(), account.lost_ns());
        let result = f();
        // What it enclosed has its own cause. A delay in it may have asked what the thread was
        // without before, which lies outside.
        let length_ns = heap.report.events.now() - begin_ns;
        let enclosed_ns = (account.lost_ns() - lost_ns).min(length_ns);
        let ns = length_ns - enclosed_ns;
        timed.record(ns);
        let untimed = counts.take_untimed(one_in - 1);
        counts.losses.timed(heap, account, (kind, begin_ns + enclosed_ns), ns, untimed);
        result
    }

    /// Records this thread's delays so far, before it stops or parks, so that readers see them.
    pub(crate) fn publish_losses(&self) {
        let (heap, account) = (self.inner(), &self.record().account);
        if !heap.config.records_losses() {
            return;
        }
        let Counts { loads, stores, refills, .. } = &self.counts;
        for (kind, counts) in [(LossKind::SlowPaths, loads), (LossKind::Stores, stores), (LossKind::Refills, refills)] {
            let left = counts.until_timed.get();
            let untimed = counts.until_timed_then.replace(left) - left;
            if untimed != 0 {
                counts.losses.untimed(heap, account, (kind, heap.report.events.now()), untimed);
            }
        }
        account.flush();
        self.relieve_losses();
    }

    /// Drains this thread's own ring before it is full.
    #[inline]
    pub(crate) fn relieve_losses(&self) {
        if self.record().account.is_half_full() {
            self.inner().try_take_losses(self.record());
        }
    }

    /// The good word for a word of any color: the object's new place, after copying it there if no
    /// thread has.
    #[inline(never)]
    pub(crate) fn resolve(&self, word: Word) -> GoodWord {
        if !word.has_any(self.bad_mask()) {
            return GoodWord::new(word);
        }
        self.load_counted(|| self.try_resolve(word)).expect("a reference of this heap to a live object")
    }

    /// As `resolve`; `None` for a reference of another heap, or to an object that was dead when its
    /// block was planned.
    fn try_resolve(&self, word: Word) -> Option<GoodWord> {
        let inner = self.inner();
        if !word.has_any(self.bad_mask()) {
            return Some(GoodWord::new(word));
        }
        if !inner.memory.space.owns(word.bits()) {
            return None;
        }
        let offset = inner.memory.space.offset(word.bits());
        let place = match inner.forwarding_of(word).lookup(offset)? {
            None => offset,
            Some(entry) => match entry.destination() {
                Some(granule) => granule.offset(),
                None => self.copy(offset, entry),
            },
        };
        Some(self.good_word(word, place))
    }

    fn copy(&self, offset: Offset, entry: Entry<'_>) -> Offset {
        self.stress_delay();
        let (place, copied) = relocate_object(&self.inner().memory, offset, entry, &mut MutatorPlace(self));
        match copied {
            Copied::Here => self.counts.copied.set(self.counts.copied.get() + 1),
            Copied::Kept => self.counts.kept.set(self.counts.kept.get() + 1),
            Copied::Elsewhere => {}
        }
        place
    }
}

/// For slots that hold references alone.
impl Barriers for Mutator<'_> {
    #[inline(always)]
    fn is_bad(&self, word: Word) -> bool {
        word.has_any(self.bad_mask())
    }

    #[inline(always)]
    fn heal(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        Mutator::heal(self, slot, word)
    }

    #[inline(always)]
    fn resolve(&self, word: Word) -> GoodWord {
        Mutator::resolve(self, word)
    }

    #[inline(always)]
    fn is_logging(&self) -> bool {
        Mutator::is_logging(self)
    }

    #[inline(always)]
    fn log(&self, word: Word) {
        Mutator::log(self, word);
    }
}

impl WeakBarriers for Mutator<'_> {
    #[inline(always)]
    fn is_resolving(&self) -> bool {
        self.resolving.get()
    }

    fn is_live(&self, good: GoodWord) -> bool {
        self.inner().is_live(self.inner().memory.space.offset(good.bits()))
    }

    #[cold]
    #[inline(never)]
    fn load_slow(&self, slot: &AtomicU64, word: Word) -> GoodWord {
        self.stress_delay(); // loaded, but not looked up yet
        weak::load_slow(slot, word, self)
    }
}

/// The destination of a mutator's copies: a block of its own, separate from its TLABs, so that a
/// copy never uses reserved memory.
struct MutatorPlace<'a, 's>(&'a Mutator<'s>);

impl CopyPlace for MutatorPlace<'_, '_> {
    fn bump(&mut self, bytes: usize) -> Option<Offset> {
        let m = self.0;
        if m.tlabs.copy.rest() < bytes {
            let block = m.inner().memory.free.take(AllocClass::MutatorCopy)?;
            m.tlabs.copy.close(&m.inner().memory);
            m.inner().open_target(block, m.epoch.get());
            m.tlabs.copy.open(m.target_word(block.start()).bits());
        }
        Some(m.inner().memory.space.offset(m.tlabs.copy.bump(bytes)?))
    }

    fn rewind(&mut self, bytes: usize) {
        self.0.tlabs.copy.rewind(bytes);
    }

    fn stress_delay(&self) {
        self.0.stress_delay();
    }
}
