//! How a heap is built.

mod check;
mod names;

use crate::error::BuildError;
use crate::events::{Event, Listeners};
use crate::heap::Heap;
use crate::inner::max_workers;
use crate::space::BLOCK_BYTES;
use gc_core::views::Mirror;
use std::cell::Cell;
use std::time::Duration;

/// Which collector drives the heap. The program is the same with each; which is best for it, it finds out by trying:
///
/// ```
/// use gc_heap::{Barrier, BuildError, Heap, OutOfMemory, AllocSize, Slot, Trace};
///
/// #[derive(Trace)]
/// struct Node { next: Slot<Option<Node>> }
///
/// for barrier in [Barrier::Load, Barrier::StopTheWorld, Barrier::Page] {
///     let heap = match Heap::builder().max_bytes(16 << 20).barrier(barrier).build() {
///         Err(BuildError::PageBarrier(why)) => {
///             eprintln!("{why}"); // no heap falls back by itself
///             continue;
///         }
///         other => other?,
///     };
///     heap.enter(|m| -> Result<(), OutOfMemory> {
///         let list = m.local_of::<Option<Node>>(None);
///         for index in 0..1_000_000 {
///             let m = m.reserve(AllocSize::of::<Node>())?;
///             let node = m.place(NodeInit { next: list.get(m) });
///             list.set(m, (index % 1000 != 0).then_some(node));
///         }
///         Ok(())
///     })??;
///     heap.collect();
///     println!("{barrier:?}: {} cycles, {} slow paths", heap.stats().cycles, heap.slow_paths().count);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Barrier {
    /// Concurrent marking and relocation; loads test the color of what they load.
    #[default]
    Load,
    /// The same phases inside one stop: the baseline that every figure is read against.
    StopTheWorld,
    /// Concurrent marking and relocation, with the MMU as the barrier: a flip takes every page of the mutators' view away
    /// (`MREMAP_DONTUNMAP`), and a page comes back repaired when it is touched (userfaultfd). Loads test nothing that can
    /// fail. Needs Linux 5.14 and leave to use userfaultfd; [`build`](HeapBuilder::build) says what is missing.
    Page,
}

/// What memory the heap is made of.
///
/// ```
/// use gc_heap::{Backing, Barrier, BuildError, Heap};
///
/// // Only the page barrier does with one view.
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
    /// Private anonymous memory, mapped once: with [`Barrier::Page`] only, whose pages are then moved (`UFFDIO_MOVE`, Linux
    /// 6.8) or copied (`UFFDIO_COPY`) instead of mapped again. What `MREMAP_DONTUNMAP` was first made for.
    Anonymous,
}

/// Whether the heap asks for 2 MiB pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HugePages {
    /// 4 KiB pages.
    #[default]
    Never,
    /// `MADV_HUGEPAGE`: effective where the system's `shmem_enabled` is `advise`.
    Advise,
    /// `MADV_COLLAPSE` of pretouched memory (Linux 6.1); takes about 3 s per GiB while building. Without
    /// [`pretouch`](HeapBuilder::pretouch) nothing is there to collapse, and [`build`](HeapBuilder::build) refuses.
    Collapse,
}

/// How the stress mode disturbs the heap. Off by default. Tests of an embedder run with it: what is placed past the reserved
/// room works while a block happens to be free, and fails here each time.
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
///         m.place(NodeInit { value: 2 }); // a bug: nobody has reserved for it
///     })
/// };
/// two_for_one(Stress::default()).unwrap();
/// // A cycle each 50 reservations, delays at one in 16 stress_delay places, the same ones for the same seed.
/// let stress = Stress { cycle_every: 50, delay_one_in: 16, seed: 1 };
/// assert!(std::panic::catch_unwind(|| two_for_one(stress)).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stress {
    /// Every so many reservations of a thread ask for a cycle; 0: off.
    pub cycle_every: u32,
    /// One in so many slow paths sleeps or yields at an unlucky place; 0: off.
    pub delay_one_in: u32,
    /// Where the delays fall.
    pub seed: u64,
}

impl Stress {
    pub(crate) fn is_on(&self) -> bool {
        self.cycle_every != 0 || self.delay_one_in != 0
    }

    /// Sleeps or yields at one of `delay_one_in` calls. `random` is the caller's generator, advanced by each call.
    #[inline]
    pub(crate) fn delay(&self, random: &Cell<u64>) {
        let one_in = u64::from(self.delay_one_in);
        if one_in == 0 {
            return;
        }
        // Xorshift: never 0 once it is not.
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
    pub(crate) workers: usize,
    pub(crate) pretouch: bool,
    pub(crate) huge_pages: HugePages,
    pub(crate) dump_objects: bool,
    pub(crate) mirror: Mirror,
    pub(crate) verify: bool,
    pub(crate) single_view: bool,
    pub(crate) fault_cluster: usize,
    pub(crate) stress: Stress,
    pub(crate) uncommit_delay: Option<Duration>,
    pub(crate) idle_after: Option<Duration>,
    pub(crate) external_step: usize,
    pub(crate) collecting_limit: Option<f64>,
    pub(crate) name: String,
    pub(crate) listeners: Listeners,
    pub(crate) record_losses: bool,
    pub(crate) late_after: Duration,
}

impl Config {
    /// Whether mutators write down when they lose time.
    pub(crate) fn records_losses(&self) -> bool {
        self.record_losses || !self.listeners.is_empty()
    }
}

/// What the kernel takes for a memfd: `NAME_MAX` less the `memfd:` that it puts before it.
const MAX_NAME_BYTES: usize = 249;

/// The size of a heap of which nobody says it, where there is so much memory.
const DEFAULT_BYTES: usize = 256 << 20;

const DEFAULT_FAULT_CLUSTER: usize = 1;

/// A thousand times what a mutator with safepoints needs to one, and more than the scheduler keeps one waiting on a busy machine as a
/// rule; less than people take for a hang.
const LATE_AFTER: Duration = Duration::from_millis(100);

/// Looks at who is late cost system calls.
const MIN_LATE_AFTER: Duration = Duration::from_millis(1);

/// The least size of a heap: 4 MiB.
pub const MIN_HEAP_BYTES: usize = 4 << 20;

/// Builds a [`Heap`].
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
    /// `max_bytes` was said.
    sized: bool,
}

impl Default for HeapBuilder {
    fn default() -> Self {
        let config = Config {
            barrier: Barrier::Load,
            backing: Backing::Memfd,
            max_bytes: DEFAULT_BYTES,
            workers: 1,
            pretouch: false,
            huge_pages: HugePages::Never,
            dump_objects: true,
            mirror: Mirror::MmapMemfd,
            verify: false,
            single_view: false,
            fault_cluster: DEFAULT_FAULT_CLUSTER,
            stress: Stress::default(),
            uncommit_delay: Some(Duration::from_secs(300)),
            idle_after: Some(Duration::from_secs(60)),
            external_step: 64 << 20,
            collecting_limit: Some(0.95),
            name: "parallax".into(),
            listeners: Listeners::default(),
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

    /// The most memory that objects may take, in bytes; rounded up to 64 KiB. From 4 MiB to the machine's memory.
    /// Default: 256 MiB, or half of the memory of the machine or its control group where that is less.
    ///
    /// A control group's limit is for all that the process has. Beside the objects that is the collector's own tables, page tables for
    /// each view, and the program: a heap of more than about 80 % of the limit is killed when it is full, where it could have said
    /// [`OutOfMemory`](crate::OutOfMemory).
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.config.max_bytes = bytes;
        self.sized = true;
        self
    }

    /// Collector threads, 1 to 64. Default: 1. A small heap uses fewer: one less than a quarter of its blocks of 64 KiB (15 in
    /// 4 MiB). Where the system refuses a thread, those that it gives do the work.
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// Commits the whole heap while building, so that no first touch (microseconds a page) falls into the program.
    pub fn pretouch(mut self, pretouch: bool) -> Self {
        self.config.pretouch = pretouch;
        self
    }

    /// 2 MiB pages. Default: never.
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.config.huge_pages = huge_pages;
        self
    }

    /// Whether core dumps contain the objects (and, with [`Barrier::Page`], the roots): each page once. Off, a dump has what else the
    /// process has, such as stacks, and is as small as without the heap; a debugger that is attached sees everything either way. Default: on.
    ///
    /// A dump has an object at its address in a view that references do not have: the address with both bits of the views
    /// cleared, as `docs/tuning.md` says. Of a [`RootStack`](crate::RootStack) with [`Barrier::Page`] it has the lowest 32,768
    /// slots.
    pub fn dump_objects(mut self, dump: bool) -> Self {
        self.config.dump_objects = dump;
        self
    }

    /// How the views are made. Default: by mapping the memfd.
    pub fn mirror(mut self, mirror: Mirror) -> Self {
        self.config.mirror = mirror;
        self
    }

    /// Verifies the whole heap in a stop after each phase; a violation panics in the collector with what was found.
    /// Slow; for tests.
    pub fn verify(mut self, verify: bool) -> Self {
        self.config.verify = verify;
        self
    }

    /// With [`Barrier::Page`]: pages that a fault repairs and lets in at once, the touched one and its neighbours. A power
    /// of two up to 64. Default: 1, the touched one alone: more repair fewer faults, and make each longer (docs/performance.md).
    pub fn fault_cluster(mut self, pages: usize) -> Self {
        self.config.fault_cluster = pages;
        self
    }

    /// Maps only the current view: dereferencing a stale address faults. For tests. With [`Barrier::Page`] there is one
    /// view only, and this has no effect.
    pub fn single_view(mut self, single_view: bool) -> Self {
        self.config.single_view = single_view;
        self
    }

    /// Disturbs the heap. For tests.
    pub fn stress(mut self, stress: Stress) -> Self {
        self.config.stress = stress;
        self
    }

    /// How long a block stays free before its memory goes back to the system; `None`: never. Default: five minutes.
    pub fn uncommit_delay(mut self, delay: Option<Duration>) -> Self {
        self.config.uncommit_delay = delay;
        self
    }

    /// After how long a time of hardly any allocation the heap counts as idle; `None`: never. Default: one minute.
    ///
    /// A program that has become idle allocates nothing, so no cycle begins by itself, and its garbage would stay. When less than
    /// about a 64th of the heap has been allocated in each of the looks of that time (from twice a second to once in half a minute), one cycle
    /// runs, and all free memory goes back to the system, unless [`uncommit_delay`](Self::uncommit_delay) is `None`. Then
    /// nothing more until the program has allocated a sixteenth of the heap, or asks for a cycle itself.
    pub fn idle_after(mut self, time: Option<Duration>) -> Self {
        self.config.idle_after = time;
        self
    }

    /// Growth of external memory, in bytes, that begins a cycle: see [`Heap::add_external`]. Where more than this was left
    /// after the last cycle, it has to double. Default: 64 MiB.
    pub fn external_step(mut self, bytes: usize) -> Self {
        self.config.external_step = bytes.max(1);
        self
    }

    /// The most of the processor's time that collecting may take near the end of memory, as a share above 0 and at most 1; `None`: no
    /// limit. Default: 0.95.
    ///
    /// A program that keeps nearly all that fits collects again and again for a few blocks each time, and hardly gets
    /// on. Where eight collections in a row that threads waited for, and half a second of the collector's processor time, gave
    /// them less than a sixteenth of the heap each, and the collector had more than this share of the time that it and these threads
    /// took together, the next thread that would wait gets [`OutOfMemory`](crate::OutOfMemory), with
    /// [`Tried::CollectingLimit`](crate::Tried::CollectingLimit); then it is counted anew. Off with
    /// [`verify`](Self::verify) and [`stress`](Self::stress), where collecting takes most of the time by itself.
    pub fn collecting_limit(mut self, share: Option<f64>) -> Self {
        self.config.collecting_limit = share;
        self
    }

    /// The name of the memfd in `/proc/self/maps`, and of the collector threads: at most 249 bytes, none of them NUL, or
    /// [`build`](Self::build) refuses it. Default: `parallax`.
    pub fn name(mut self, name: &str) -> Self {
        self.config.name = name.into();
        self
    }

    /// Records when each mutator loses time in faults and slow paths, and how much: [`Event::Loss`]. A heap with listeners
    /// does so in any case. Default: off; [`Heap::faults`] and [`Heap::slow_paths`] sum up either way.
    ///
    /// Costs a fault some 10 ns of its microseconds, a slow path of a load less than one on average (one in 16 is timed
    /// anyhow, and written down then), and each attached thread up to 128 KiB, touched as it fills. What a thread has written
    /// down arrives in the events when it answers a handshake, stops, parks, or detaches, and a phase ends or events are
    /// taken; a cycle has several such moments. A thread that loses time for 0.4 s on end without one of them and without
    /// taking a new block loses entries, which are counted with the events that did not fit.
    ///
    /// ```
    /// use gc_heap::{Event, Heap, AllocSize, Slot, Stress, Trace};
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
    ///     Event::Loss(loss) => loss.count,
    ///     _ => 0,
    /// });
    /// assert_eq!(slow_paths.sum::<u64>() + lost, heap.slow_paths().count);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record_losses(mut self, record: bool) -> Self {
        self.config.record_losses = record;
        self
    }

    /// How long the collector waits for a mutator that comes to no safepoint before it says so: by an event
    /// ([`Event::Late`]) and a probe for each such mutator, and again each time that it has waited twice as long. Default:
    /// 100 ms; the least is 1 ms; `Duration::MAX` for never. Costs nothing as long as nobody is late.
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

    /// Has `listener` told of every event. May be called several times; each listener hears of everything. A heap with
    /// listeners keeps no record: [`Heap::take_events`] finds nothing.
    ///
    /// - Pauses, phases and cycles are told on the collector thread, at the end of each phase and cycle, in the order in
    ///   which they ended. No mutator is stopped then. All that belongs to a cycle has been told when [`Heap::collect`] for
    ///   it returns.
    /// - Losses are told there, too, after they were: when their threads have handed them over, which each does at least once
    ///   a cycle.
    /// - A stall is told at its end on the thread that stalled, while that counts as parked: no stop waits for it.
    /// - A mutator that is late is told of while a stop waits for it, on a thread of its own that the stop does not wait for; where
    ///   one listener takes long with that, the next such event is told after the stop.
    /// - So a listener may be called by several threads at once, and never inside a stop, in a signal handler, or under a
    ///   lock of the heap's.
    ///
    /// A listener that takes long holds up the collector, and with it mutators that wait for memory. It cannot enter a heap
    /// (that is refused with [`EnterError::AlreadyEntered`](crate::EnterError::AlreadyEntered), and [`Heap::collect`]
    /// panics), and it must not wait for a thread that is inside this one, nor for a lock that such a thread may hold while
    /// it allocates. It should keep no [`Heap`]: a heap ends with its last handle. Where that is dropped in a
    /// listener, the heap ends on the collector thread, when the cycle at hand is over. If it panics, the panic goes no further,
    /// and it is not called any more.
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

    /// Builds the heap and starts its collector threads. May take long with [`pretouch`](Self::pretouch): some
    /// microseconds a page. [`check`](Self::check) refuses the same options without building anything.
    pub fn build(self) -> Result<Heap, BuildError> {
        let memory = check::memory();
        self.check_options(memory)?;
        let max_bytes = self.bytes(memory).next_multiple_of(BLOCK_BYTES);
        let mut config = self.config;
        if config.verify || config.stress.is_on() {
            config.collecting_limit = None;
        }
        config.max_bytes = max_bytes;
        config.workers = config.workers.min(max_workers(max_bytes / BLOCK_BYTES));
        Heap::start(config)
    }
}
