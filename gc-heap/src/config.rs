//! How a heap is built.

mod barrier;
mod check;
mod names;
pub(crate) mod warnings;

use crate::error::BuildError;
use crate::events::{Event, Listeners};
use crate::space::{BLOCK_BYTES, max_workers};
use crate::warning::BuildWarning;
pub use barrier::Barrier;
use gc_core::views::Mirror;
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
    /// 4 KiB pages.
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
    pub(crate) soft_max_bytes: Option<usize>,
    pub(crate) spare_bytes: Option<usize>,
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
            soft_max_bytes: None,
            spare_bytes: None,
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

    /// Maximum memory for objects, in bytes; rounded up to 64 KiB. From 4 MiB to the machine's
    /// memory. Default: 256 MiB, or half of the memory of the machine or its control group if that
    /// is less.
    ///
    /// A control group's limit covers the whole process: besides the objects also the collector's
    /// tables, page tables for each view, and the program. With a heap of more than about 80 % of
    /// the limit, the process is killed when the heap is full, before it can return
    /// [`OutOfMemory`](crate::OutOfMemory).
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.config.max_bytes = bytes;
        self.sized = true;
        self
    }

    /// The memory that the heap tries to make do with, in bytes: a soft maximum, which may be
    /// changed while the program runs
    /// ([`Heap::set_soft_max_bytes`](crate::Heap::set_soft_max_bytes)). Default: the maximum; more
    /// is the maximum, too.
    ///
    /// Cycles begin early enough that no more than this is used, evacuation frees as much as that
    /// takes, and free memory beyond is uncommitted in slices of 64 MiB, at most two a second. No
    /// thread waits because of it, and no allocation fails: what the program needs beyond, it gets
    /// up to [`max_bytes`](Self::max_bytes). If what lives takes more than four fifths of it, the
    /// heap tries to make do with a quarter more than that, so cycles do not follow one another.
    pub fn soft_max_bytes(mut self, bytes: usize) -> Self {
        self.config.soft_max_bytes = Some(bytes);
        self
    }

    /// Memory that the heap tries to leave the system, in bytes. While less is available without
    /// swapping (`MemAvailable`, or what the tightest control group has left below `memory.high`
    /// and `memory.max`), the heap makes do with a quarter more than what lives, as with a soft
    /// maximum of 0; when that begins, one cycle packs what lives. It ends when twice as much is
    /// available, after a minute at least. `None`: the heap does not look. Default: `None`. A heap
    /// that looks does so once a second: some 50 us of its collector's thread.
    pub fn spare_bytes(mut self, bytes: Option<usize>) -> Self {
        self.config.spare_bytes = bytes;
        self
    }

    /// Collector threads, 1 to 64. Default: 1. A small heap uses fewer: one less than a quarter of
    /// its blocks of 64 KiB (15 in 4 MiB). If the system refuses a thread, the others do its work.
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// Commits the whole heap while building, so that the program pays for no first touch
    /// (microseconds per page).
    pub fn pretouch(mut self, pretouch: bool) -> Self {
        self.config.pretouch = pretouch;
        self
    }

    /// 2 MiB pages. Default: never.
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.config.huge_pages = huge_pages;
        self
    }

    /// Whether core dumps contain the objects (and, with [`Barrier::Page`], the roots): each page
    /// once. If off, a dump contains the rest of the process, such as stacks, and is as small as
    /// without the heap; an attached debugger sees everything either way. Default: on.
    ///
    /// A dump has an object at its address in the canonical view, not at the address in references:
    /// the address with both bits of the views cleared, as `docs/tuning.md` says. With
    /// [`Barrier::Page`] it has the lowest 32,768 slots of each [`RootStack`](crate::RootStack).
    pub fn dump_objects(mut self, dump: bool) -> Self {
        self.config.dump_objects = dump;
        self
    }

    /// How the views are made. Default: by mapping the memfd. Hidden: for comparisons of the
    /// kernel's two ways, which give the same views.
    #[doc(hidden)]
    pub fn mirror(mut self, mirror: Mirror) -> Self {
        self.config.mirror = mirror;
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

    /// How long a block stays free before its memory is uncommitted; `None`: never. Default: five
    /// minutes.
    pub fn uncommit_delay(mut self, delay: Option<Duration>) -> Self {
        self.config.uncommit_delay = delay;
        self
    }

    /// How long a heap with hardly any allocation runs before it counts as idle; `None`: never.
    /// Default: one minute.
    ///
    /// An idle program allocates nothing, so no cycle begins automatically, and its garbage would
    /// stay. If less than about a 64th of the heap was allocated between any two checks of that
    /// time (the collector checks between twice a second and once in half a minute), one cycle
    /// runs, and all free memory is uncommitted, unless [`uncommit_delay`](Self::uncommit_delay) is
    /// `None`. The next idle cycle requires that the program has allocated a sixteenth of the heap,
    /// or requested a cycle itself.
    pub fn idle_after(mut self, time: Option<Duration>) -> Self {
        self.config.idle_after = time;
        self
    }

    /// Growth of external memory, in bytes, that begins a cycle: see
    /// [`Heap::add_external`](crate::Heap::add_external). If more than this remained after the last
    /// cycle, it has to double. Default: 64 MiB.
    pub fn external_step(mut self, bytes: usize) -> Self {
        self.config.external_step = bytes.max(1);
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

    /// The name of the memfd in `/proc/self/maps`, and of the collector threads: at most 249 bytes,
    /// none of them NUL, or [`build`](Self::build) refuses it. Default: `parallax`.
    pub fn name(mut self, name: &str) -> Self {
        self.config.name = name.into();
        self
    }

    /// Records when each mutator loses time, by what, and how much: [`Event::Loss`], with the
    /// causes of [`LossKind`](crate::LossKind). A heap with listeners always does so. Default: off;
    /// [`HeapStats::losses`](crate::HeapStats::losses) has the totals either way, but for
    /// preemptions and steal.
    ///
    /// Costs about 90 instructions per delay that is timed (one in 16 slow paths of loads, one in
    /// 64 of stores, each of the others), an open file (`/proc/thread-self/schedstat`) per thread,
    /// three system calls of 1.5 us together at most each 200 us, and up to 160 KiB per attached
    /// thread, committed as it fills. A thread's records appear in the events after it answers a
    /// handshake, stops, parks, or detaches, and a phase ends or events are taken; a cycle has
    /// several such moments. If a thread loses time for 0.4 s without one of them and without
    /// allocating a new block, entries are dropped and counted with the events that did not fit.
    ///
    /// ```
    /// use gc_heap::{Event, Heap, AllocSize, LossKind, Slot, Stress, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Node { next: Slot<Option<Node>> }
    ///
    /// let stress = Stress { cycle_every: u32::MAX, ..Stress::default() }; // moves what can be moved in every cycle
    /// let heap = Heap::builder().max_bytes(16 << 20).stress(stress).record_losses(true).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let list = m.build::<Option<Node>>(AllocSize::NONE, |_| None)?;
    ///     for _ in 0..10_000 {
    ///         let m = m.reserve(AllocSize::of::<Node>())?;
    ///         list.set(m, Some(m.place(NodeInit { next: list.get(m) })));
    ///     }
    ///     m.collect();
    ///     let mut node = list.get(m);
    ///     while let Some(n) = node {
    ///         node = n.next.get(m);
    ///     }
    ///     Ok(())
    /// })??;
    /// let (events, lost) = heap.take_events();
    /// let slow_paths = events.iter().map(|event| match event {
    ///     Event::Loss(loss) if loss.kind == LossKind::SlowPaths => loss.count,
    ///     _ => 0,
    /// });
    /// assert_eq!(slow_paths.sum::<u64>() + lost, heap.slow_paths().count);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "losses")]
    pub fn record_losses(mut self, record: bool) -> Self {
        self.config.record_losses = record;
        self
    }

    /// How long the collector waits for a mutator that reaches no safepoint before it reports it:
    /// by an event ([`Event::Late`]) and a probe for each such mutator, and again each time the
    /// wait has doubled. Default: 100 ms; minimum: 1 ms; `Duration::MAX` for never. Costs nothing
    /// as long as no mutator is late.
    ///
    /// ```
    /// use gc_heap::{Event, Heap};
    /// use std::time::Duration;
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).late_after(Duration::from_millis(5)).build()?;
    /// std::thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
    ///     let collector = heap.enter(|m| {
    ///         let waiting = scope.spawn(|| heap.collect());
    ///         // Waits outside of `blocking`: nobody else can go on.
    ///         loop {
    ///             std::thread::sleep(Duration::from_millis(1));
    ///             let (events, _) = heap.take_events();
    ///             if let Some(late) = events.iter().find_map(|event| if let Event::Late(late) = event { Some(late) } else { None }) {
    ///                 println!("{:?} has waited {} ms for {}: {}", late.kind, late.total_ns / 1_000_000, late.who, late.state);
    ///                 assert!(late.total_ns >= 5_000_000);
    ///                 break;
    ///             }
    ///         }
    ///         m.safepoint();
    ///         waiting
    ///     })?;
    ///     collector.join().expect("the cycle goes on");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn late_after(mut self, waited: Duration) -> Self {
        self.config.late_after = waited.max(MIN_LATE_AFTER);
        self
    }

    /// Calls `listener` for every event. May be used several times; each listener receives all
    /// events. A heap with listeners keeps no record:
    /// [`Heap::take_events`](crate::Heap::take_events) returns nothing.
    ///
    /// - Pauses, phases and cycles are reported on the collector thread, at the end of each phase
    ///   and cycle, in the order in which they ended. No mutator is stopped then. All events of a
    ///   cycle have been reported when [`Heap::collect`](crate::Heap::collect) for it returns.
    /// - Losses are reported there, too, with a delay: after their threads have published them,
    ///   which each does at least once per cycle.
    /// - A stall is reported at its end on the thread that stalled, while that counts as parked: no
    ///   pause waits for it.
    /// - A late mutator is reported while a pause waits for it, on a separate thread that the pause
    ///   does not wait for; if a listener is slow, the next such event is reported after the pause.
    /// - So a listener may be called by several threads at once, but never inside a pause, in a
    ///   signal handler, or under a lock of the heap.
    ///
    /// A slow listener delays the collector, and with it mutators that wait for memory. It cannot
    /// enter a heap (that is refused with
    /// [`EnterError::AlreadyEntered`](crate::EnterError::AlreadyEntered), and
    /// [`Heap::collect`](crate::Heap::collect) panics), and it must not wait for a thread that is
    /// inside this one, nor for a lock that such a thread may hold while it allocates. It should
    /// keep no [`Heap`](crate::Heap): a heap ends with its last handle. If that is dropped in a
    /// listener, the heap ends on the collector thread, when the current cycle is over. If a
    /// listener panics, the panic is caught, and the listener is not called any more.
    ///
    /// ```
    /// use gc_heap::{Event, Heap};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    ///
    /// let longest = Arc::new(AtomicU64::new(0));
    /// let for_listener = Arc::clone(&longest);
    /// let heap = Heap::builder()
    ///     .max_bytes(16 << 20)
    ///     .on_event(move |event| {
    ///         if let Event::Pause(pause) = event {
    ///             for_listener.fetch_max(pause.total_ns, Relaxed);
    ///         }
    ///     })
    ///     .build()?;
    /// heap.collect();
    /// assert!(longest.load(Relaxed) > 0);
    /// # Ok::<(), gc_heap::BuildError>(())
    /// ```
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.config.listeners.add(listener);
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
        let asked = config.workers;
        config.workers = asked.min(max_workers(max_bytes / BLOCK_BYTES));
        if config.workers < asked {
            warnings.push(BuildWarning::Workers { asked, workers: config.workers, bytes: max_bytes });
        }
        Ok((config, warnings))
    }
}
