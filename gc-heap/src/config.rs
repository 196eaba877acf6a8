//! How a heap is built.

mod barrier;
mod check;
mod memory;
mod names;
mod reports;
pub(crate) mod warnings;

use crate::error::BuildError;
use crate::events::Listeners;
use crate::space::{BLOCK_BYTES, max_workers};
use crate::warning::BuildWarning;
pub use barrier::Barrier;
use gc_core::views::{ADDRESS_LIMIT, Mirror};
use std::cell::Cell;
use std::time::Duration;

/// The kind of memory behind the heap.
///
/// ```
/// use gc_heap::{Backing, Barrier, BuildError, Heap};
///
/// // Only the page barrier needs just one view.
/// let refused = Heap::builder().backing(Backing::Anonymous).build();
/// assert!(matches!(refused, Err(BuildError::Backing)));
///
/// match Heap::builder().max_bytes(16 << 20).barrier(Barrier::Page).backing(Backing::Anonymous).build() {
///     Ok(heap) => heap.collect(),
///     Err(BuildError::PageBarrier(why)) => eprintln!("{why}"),
///     Err(other) => return Err(other),
/// }
/// # Ok::<(), BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backing {
    /// A sealed memfd, mapped several times.
    #[default]
    Memfd,
    /// Private anonymous memory, mapped once: with [`Barrier::Page`] only, whose pages are then
    /// moved (`UFFDIO_MOVE`, Linux 6.8) or copied (`UFFDIO_COPY`) instead of mapped again.
    /// `MREMAP_DONTUNMAP` was first made for such memory.
    Anonymous,
}

/// Whether the heap requests 2 MiB pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HugePages {
    /// 4 KiB pages, whatever the system's setting (`MADV_NOHUGEPAGE`).
    #[default]
    Never,
    /// `MADV_HUGEPAGE`: effective where the system's `shmem_enabled` is `advise`.
    Advise,
    /// `MADV_COLLAPSE` of pretouched memory (Linux 6.1); takes about 3 s per GiB while building.
    /// Without [`pretouch`](HeapBuilder::pretouch) there is no memory to collapse, and
    /// [`build`](HeapBuilder::build) returns an error.
    Collapse,
    /// `MADV_COLLAPSE` while the program runs (Linux 6.1), by the collector's thread between
    /// cycles: first of free memory that is allocated next, then of memory that is in use. Needs
    /// no privilege, no setting of the system, and no [`pretouch`](HeapBuilder::pretouch).
    /// `docs/huge-pages.md` has what it costs. Where it is impossible the heap has 4 KiB pages, and
    /// [`Heap::warnings`](crate::Heap::warnings) says why.
    Background,
}

/// How the stress mode disturbs the heap. Off by default. An embedder's tests should run with it:
/// placing past the reserved size works while a block happens to be free, and panics each time in
/// stress mode.
///
/// ```
/// use gc_heap::{Heap, AllocSize, Stress, Trace};
///
/// #[derive(Trace)]
/// struct Node { value: u64 }
///
/// let two_for_one = |stress| {
///     let heap = Heap::builder().max_bytes(16 << 20).stress(stress).build().unwrap();
///     heap.enter(|m| {
///         let m = m.reserve(AllocSize::of::<Node>()).unwrap();
///         m.place(NodeInit { value: 1 });
///         m.place(NodeInit { value: 2 }); // a bug: only one was reserved
///     })
/// };
/// two_for_one(Stress::default()).unwrap();
/// // A cycle each 50 reservations, delays at one in 16 stress_delay places, the same ones for the same seed.
/// let stress = Stress { cycle_every: 50, delay_one_in: 16, seed: 1 };
/// assert!(std::panic::catch_unwind(|| two_for_one(stress)).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stress {
    /// A thread requests a cycle every `cycle_every` reservations; 0: off.
    pub cycle_every: u32,
    /// One in this many slow paths sleeps or yields at an unlucky place; 0: off.
    pub delay_one_in: u32,
    /// Seed of the places of the delays.
    pub seed: u64,
}

impl Stress {
    pub(crate) fn is_on(&self) -> bool {
        self.cycle_every != 0 || self.delay_one_in != 0
    }

    /// Sleeps or yields at one of `delay_one_in` calls. `random` is the caller's generator,
    /// advanced by each call.
    #[inline]
    pub(crate) fn delay(&self, random: &Cell<u64>) {
        let one_in = u64::from(self.delay_one_in);
        if one_in == 0 {
            return;
        }
        // Xorshift: a nonzero state never becomes 0.
        let mut x = random.get() | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        random.set(x);
        let x = x >> 16;
        if x.is_multiple_of(one_in) {
            match x / one_in % 4 {
                0 => std::thread::sleep(Duration::from_micros(x % 300)),
                _ => std::thread::yield_now(),
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) barrier: Barrier,
    pub(crate) backing: Backing,
    pub(crate) max_bytes: usize,
    pub(crate) address_factor: usize,
    pub(crate) soft_max_bytes: Option<usize>,
    pub(crate) spare_bytes: Option<usize>,
    pub(crate) memory_stall_limit: Option<f64>,
    pub(crate) workers: usize,
    pub(crate) pretouch: bool,
    pub(crate) huge_pages: HugePages,
    pub(crate) dump_objects: bool,
    pub(crate) mirror: Mirror,
    pub(crate) verify: bool,
    pub(crate) single_view: bool,
    pub(crate) generations: bool,
    pub(crate) fault_cluster: usize,
    pub(crate) stress: Stress,
    pub(crate) uncommit_delay: Option<Duration>,
    pub(crate) idle_after: Option<Duration>,
    pub(crate) external_step: usize,
    pub(crate) collecting_limit: Option<f64>,
    pub(crate) name: String,
    pub(crate) listeners: Listeners,
    #[cfg(feature = "losses")]
    pub(crate) record_losses: bool,
    pub(crate) late_after: Duration,
}

impl Config {
    /// Bytes of the heap's offsets.
    pub(crate) fn address_bytes(&self) -> usize {
        self.max_bytes.saturating_mul(self.address_factor).min(ADDRESS_LIMIT)
    }
}

#[cfg(not(feature = "losses"))]
impl Config {
    pub(crate) fn records_losses(&self) -> bool {
        false
    }
}

#[cfg(feature = "losses")]
impl Config {
    /// Whether mutators record when they lose time.
    pub(crate) fn records_losses(&self) -> bool {
        self.record_losses || !self.listeners.is_empty()
    }
}

/// The kernel's maximum for a memfd's name: `NAME_MAX` minus its prefix `memfd:`.
const MAX_NAME_BYTES: usize = 249;

/// The default size of a heap, if the machine has enough memory.
const DEFAULT_BYTES: usize = 256 << 20;

const DEFAULT_FAULT_CLUSTER: usize = 1;

/// A thousand times the time in which a mutator usually reaches a safepoint, and more than the
/// usual scheduling delay on a busy machine; less than what people perceive as a hang.
const LATE_AFTER: Duration = Duration::from_millis(100);

/// Detecting late mutators costs system calls.
const MIN_LATE_AFTER: Duration = Duration::from_millis(1);

/// The least size of a heap: 4 MiB.
pub const MIN_HEAP_BYTES: usize = 4 << 20;

/// Builds a [`Heap`](crate::Heap).
///
/// ```
/// use gc_heap::{Barrier, Heap};
/// let heap = Heap::builder().max_bytes(64 << 20).barrier(Barrier::Load).build()?;
/// # Ok::<(), gc_heap::BuildError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HeapBuilder {
    config: Config,
    /// Whether `max_bytes` was set.
    sized: bool,
}

impl Default for HeapBuilder {
    fn default() -> Self {
        let config = Config {
            barrier: Barrier::default(),
            backing: Backing::Memfd,
            max_bytes: DEFAULT_BYTES,
            address_factor: 1,
            soft_max_bytes: None,
            spare_bytes: None,
            memory_stall_limit: None,
            workers: 1,
            pretouch: false,
            huge_pages: HugePages::Never,
            dump_objects: true,
            mirror: Mirror::MmapMemfd,
            verify: false,
            single_view: false,
            generations: false,
            fault_cluster: DEFAULT_FAULT_CLUSTER,
            stress: Stress::default(),
            uncommit_delay: Some(Duration::from_secs(300)),
            idle_after: Some(Duration::from_secs(60)),
            external_step: 64 << 20,
            collecting_limit: Some(0.95),
            name: "parallax".into(),
            listeners: Listeners::default(),
            #[cfg(feature = "losses")]
            record_losses: false,
            late_after: LATE_AFTER,
        };
        HeapBuilder { config, sized: false }
    }
}

impl HeapBuilder {
    /// The collector. Default: [`Barrier::Load`].
    pub fn barrier(mut self, barrier: Barrier) -> Self {
        self.config.barrier = barrier;
        self
    }

    /// The memory. Default: [`Backing::Memfd`].
    pub fn backing(mut self, backing: Backing) -> Self {
        self.config.backing = backing;
        self
    }

    /// Collector threads, 1 to 64. Default: 1. A small heap uses fewer: one less than a quarter of
    /// its blocks of 64 KiB (15 in 4 MiB). If the system refuses a thread, the others do its work.
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// Verifies the whole heap in a pause after each phase; a violation panics in the collector
    /// with a description. Slow; for tests.
    pub fn verify(mut self, verify: bool) -> Self {
        self.config.verify = verify;
        self
    }

    /// With [`Barrier::Page`]: number of pages that a fault repairs and maps at once, at least: the
    /// touched one and its neighbours. A power of two up to 64. Default: 1, the touched page alone:
    /// more pages mean fewer faults, each of which takes longer (docs/performance.md). Where
    /// mutators have repaired many since the flip, a fault repairs a 64th as many, up to 64.
    pub fn fault_cluster(mut self, pages: usize) -> Self {
        self.config.fault_cluster = pages;
        self
    }

    /// With [`Barrier::Load`]: collects young objects, those that have not survived several cycles,
    /// by themselves where that pays. Off by default.
    ///
    /// A young cycle marks what survives of them, and gives back the blocks of 64 KiB in which
    /// nothing does. What has survived several cycles becomes old, when marking it again has cost
    /// as much as the promotion does. So it pays where most objects die soon; where they die at
    /// random, the heap notices that young cycles would free little, and runs none. What is asked
    /// for gets a whole cycle: [`Heap::collect`](crate::Heap::collect), a census, a thread that
    /// waits for memory. Objects are moved by whole cycles alone. docs/performance.md has figures,
    /// and docs/generations.md explains how it works and what it lacks.
    ///
    /// It costs address space (16 times the heap's size instead of 4), two more views of each page,
    /// and, while young cycles are in prospect, a test at each store.
    /// [`HeapStats::young_cycles`](crate::HeapStats::young_cycles) counts young cycles, and
    /// [`CycleSpan::kind`](crate::CycleSpan::kind) tells them.
    ///
    /// ```
    /// use gc_heap::{Barrier, BuildError, Heap};
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).generations(true).build()?;
    /// heap.collect();
    /// let refused = Heap::builder().barrier(Barrier::StopTheWorld).generations(true).build();
    /// assert!(matches!(refused, Err(BuildError::Generations)));
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn generations(mut self, generations: bool) -> Self {
        self.config.generations = generations;
        self
    }

    /// Maps only the current view: dereferencing a stale address faults. For tests. With
    /// [`Barrier::Page`] there is one view only, and this has no effect.
    #[doc(hidden)]
    pub fn single_view(mut self, single_view: bool) -> Self {
        self.config.single_view = single_view;
        self
    }

    /// Disturbs the heap. For tests.
    pub fn stress(mut self, stress: Stress) -> Self {
        self.config.stress = stress;
        self
    }

    /// Maximum share of processor time for collecting near the end of memory, above 0 and at most
    /// 1; `None`: no limit. Default: 0.95.
    ///
    /// A program whose live data nearly fills the heap collects repeatedly for a few blocks each
    /// time, and makes hardly any progress. If eight consecutive collections that threads waited
    /// for, with half a second of the processor time of the collector threads (helpers included),
    /// each gave them less than a sixteenth of the heap, and the collector threads used more than
    /// this share of the processor time of themselves and these threads together, the next thread
    /// that would wait gets
    /// [`OutOfMemory`](crate::OutOfMemory), with
    /// [`Tried::CollectingLimit`](crate::Tried::CollectingLimit); then counting starts anew. Off
    /// with [`verify`](Self::verify) and [`stress`](Self::stress), where collecting takes most of
    /// the time anyway.
    pub fn collecting_limit(mut self, share: Option<f64>) -> Self {
        self.config.collecting_limit = share;
        self
    }

    /// The configuration, if it is possible, and what it warns of.
    pub(crate) fn checked(self) -> Result<(Config, Vec<BuildWarning>), BuildError> {
        let memory = check::memory();
        self.check_options(memory)?;
        let max_bytes = self.bytes(memory).next_multiple_of(BLOCK_BYTES);
        let mut config = self.config;
        if config.verify || config.stress.is_on() {
            config.collecting_limit = None;
        }
        config.max_bytes = max_bytes;
        let limit = gc_core::sys::memory_limit().ok();
        let near = limit.and_then(|limit| warnings::near_memory_limit(max_bytes, &limit));
        let mut warnings: Vec<_> = near.into_iter().collect();
        warnings.extend(warnings::background(&mut config));
        warnings.extend(warnings::memory_stalls(&mut config));
        let asked = config.workers;
        config.workers = asked.min(max_workers(max_bytes / BLOCK_BYTES));
        if config.workers < asked {
            warnings.push(BuildWarning::Workers { asked, workers: config.workers, bytes: max_bytes });
        }
        Ok((config, warnings))
    }
}
