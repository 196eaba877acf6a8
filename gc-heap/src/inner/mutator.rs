//! [`Mutator`]: what one thread keeps of a heap. Its methods stand in the rooms above.

use crate::inner::HeapInner;
use crate::inner::loss::SlowPathLosses;
use crate::inner::record::MutatorRecord;
use crate::inner::tlab::Tlabs;
use gc_core::color::GoodColors;
use gc_core::locals::Watermark;
use gc_core::word::Word;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;

/// Invariant in the scope: a scope can be neither lengthened nor shortened.
pub(crate) type Scope<'s> = PhantomData<fn(&'s ()) -> &'s ()>;

/// A thread's access to the heap while it is inside [`Heap::enter`](crate::Heap::enter).
///
/// `'s` is the scope that [`Local`](crate::Local)s made here belong to.
#[repr(C)]
pub struct Mutator<'s> {
    pub(crate) record: Arc<MutatorRecord>,
    pub(crate) bad_mask: Cell<u64>,
    pub(crate) tlabs: Tlabs,
    pub(crate) logging: Cell<bool>,
    pub(crate) resolving: Cell<bool>,
    /// Whether stores have more to do: marking runs, or they are remembered.
    pub(crate) watching: Cell<bool>,
    /// Where stores are watched: the bits of which the address of a watched slot has one. That of
    /// old objects; while marking runs, all.
    pub(crate) watched_bits: Cell<u64>,
    pub(crate) epoch: Cell<u32>,
    /// Next free local, end of the region, and the watermark: locals below it are logged before
    /// they end.
    pub(crate) local_top: Cell<u64>,
    pub(crate) local_limit: Cell<u64>,
    pub(crate) watermark: Watermark,
    pub(crate) good_view: Cell<u64>,
    /// As in [`GoodWords`](super::generation::GoodWords).
    pub(crate) old_view: Cell<u64>,
    /// As there, while stores are remembered; otherwise 0.
    pub(crate) young_bit: Cell<u64>,
    pub(crate) good: Cell<GoodColors>,
    /// The flip that the TLABs are younger than (page barrier).
    pub(crate) flip: Cell<u32>,
    /// Whether the memory of the large object that was bumped last is all zero.
    pub(crate) large_is_zero: Cell<bool>,
    pub(crate) log: RefCell<Vec<Word>>,
    pub(crate) counts: Counts,
    pub(crate) random: Cell<u64>,
    pub(crate) until_cycle: Cell<u32>,
    /// This thread's reserved numbers for identity hashes.
    pub(crate) hashes: Cell<u64>,
    pub(crate) hashes_end: Cell<u64>,
    pub(crate) inner: Arc<HeapInner>,
    pub(crate) _scope: Scope<'s>,
    pub(crate) _thread: PhantomData<*mut ()>,
}

/// Identity hashes that a thread reserves at a time.
const HASHES_AT_ONCE: u64 = 1024;

/// Thread-local counters, added to the heap's at safepoints.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) healed: Cell<u64>,
    pub(crate) copied: Cell<u64>,
    pub(crate) kept: Cell<u64>,
    pub(crate) logged: Cell<u64>,
    pub(crate) loads: Sampled,
    pub(crate) stores: Sampled,
    /// Counted in the heap at once.
    pub(crate) refills: Sampled,
    /// When the thread began to do what the collector asked for at this safepoint; after a pause,
    /// when that ended. 0 outside.
    pub(crate) step_ns: Cell<u64>,
    /// Whether a pause has ended since.
    pub(crate) woken: Cell<bool>,
}

/// Slow paths of one sort, one in some of which is timed.
#[derive(Default)]
pub(crate) struct Sampled {
    pub(crate) count: Cell<u64>,
    /// How many until the next timed one.
    pub(crate) until_timed: Cell<u32>,
    /// Its value when the last losses were recorded.
    pub(crate) until_timed_then: Cell<u32>,
    pub(crate) losses: SlowPathLosses,
}

impl Sampled {
    /// Counts one. Whether it is not timed.
    #[inline(always)]
    pub(crate) fn counts_untimed(&self) -> bool {
        self.count.set(self.count.get() + 1);
        let left = self.until_timed.get();
        self.until_timed.set(left.saturating_sub(1));
        left != 0
    }

    /// The untimed ones that are not recorded yet. The next one is timed, and after it
    /// `until_timed` are not.
    pub(crate) fn take_untimed(&self, until_timed: u32) -> u32 {
        let left = self.until_timed.replace(until_timed);
        self.until_timed_then.replace(until_timed) - left
    }
}

impl<'s> Mutator<'s> {
    pub(crate) fn new(inner: Arc<HeapInner>, record: Arc<MutatorRecord>) -> Mutator<'s> {
        let good = inner.good_words();
        let seed = inner.config.stress.seed ^ (Arc::as_ptr(&record) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Mutator {
            bad_mask: Cell::new(good.bad_mask),
            tlabs: Tlabs::default(),
            logging: Cell::new(false),
            resolving: Cell::new(false),
            watching: Cell::new(false),
            watched_bits: Cell::new(u64::MAX),
            epoch: Cell::new(0),
            local_top: Cell::new(record.locals_base()),
            local_limit: Cell::new(record.locals_end()),
            record,
            watermark: Watermark::default(),
            good_view: Cell::new(good.view),
            old_view: Cell::new(good.old_view),
            young_bit: Cell::new(0),
            good: Cell::new(good.colors),
            flip: Cell::new(0),
            large_is_zero: Cell::new(false),
            log: RefCell::default(),
            counts: Counts::default(),
            random: Cell::new(seed | 1),
            until_cycle: Cell::new(inner.config.stress.cycle_every),
            hashes: Cell::new(0),
            hashes_end: Cell::new(0),
            inner,
            _scope: PhantomData,
            _thread: PhantomData,
        }
    }

    #[inline(always)]
    pub(crate) fn record(&self) -> &MutatorRecord {
        &self.record
    }

    #[inline(always)]
    pub(crate) fn inner(&self) -> &HeapInner {
        &self.inner
    }

    pub(crate) fn heap_arc(&self) -> &Arc<HeapInner> {
        &self.inner
    }

    #[inline(always)]
    pub(crate) fn inner_ptr(&self) -> *const HeapInner {
        Arc::as_ptr(&self.inner)
    }

    /// Whether [`safepoint`](Self::safepoint) would do anything: one load and a test. An
    /// interpreter that holds raw references checks this first, and drops them only if it has to.
    ///
    /// ```
    /// # let heap = gc_heap::Heap::builder().max_bytes(16 << 20).build()?;
    /// let turns = heap.enter(|m| {
    ///     let mut turns = 0;
    ///     while turns < 1000 {
    ///         if m.safepoint_due() {
    ///             m.safepoint();
    ///         }
    ///         turns += 1;
    ///     }
    ///     turns
    /// })?;
    /// assert_eq!(turns, 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    #[must_use]
    pub fn safepoint_due(&self) -> bool {
        self.record().end.load(std::sync::atomic::Ordering::Relaxed) == 0
    }

    /// Bits that no good reference of this heap has.
    #[inline(always)]
    pub(crate) fn bad_mask(&self) -> u64 {
        self.bad_mask.get()
    }

    /// Whether marking runs, as of the last safepoint.
    #[inline(always)]
    pub(crate) fn is_logging(&self) -> bool {
        self.logging.get()
    }

    #[inline(always)]
    pub(crate) fn is_marking_or_resolving(&self) -> bool {
        self.logging.get() | self.resolving.get()
    }

    /// An identity hash that no object has: never 0, and well spread in all its bits.
    pub(crate) fn new_identity_hash(&self) -> u64 {
        if self.hashes.get() == self.hashes_end.get() {
            let first = self.inner.identity_hashes.fetch_add(HASHES_AT_ONCE, std::sync::atomic::Ordering::Relaxed);
            self.hashes.set(first);
            self.hashes_end.set(first + HASHES_AT_ONCE);
        }
        let number = self.hashes.get();
        self.hashes.set(number + 1);
        // The finalizer of splitmix64: a bijection, so numbers stay different, and only 0
        // becomes 0.
        let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    #[inline(always)]
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.get()
    }
}

impl std::fmt::Debug for Mutator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mutator").field("heap", &self.inner.config.name).finish_non_exhaustive()
    }
}
