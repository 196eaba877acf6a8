//! What the mutators and the collector share.

use crate::collector::effort::Effort;
use crate::collector::pacing::Pacing;
use crate::collector::workers::Helpers;
use crate::config::Config;
use crate::events::Events;
use crate::external::External;
use crate::finalize::{FinalizerTarget, Registration};
use crate::handles::root::RootTable;
use crate::handles::root_stack::StackRegion;
use crate::lock::Mutex;
use crate::page::pages::Pages;
use crate::roots::region::RootMemory;
use crate::space::blocks::BlockTable;
use crate::space::forward::ForwardingTable;
use crate::space::free::FreeSpace;
use crate::space::{BLOCK_BYTES, BLOCK_GRANULES, BLOCK_MARK_WORDS};
use crate::stats::{Counters, Histogram, PauseHistograms};
use crate::world::record::MutatorRecord;
use crate::world::requests::Control;
use crossbeam_queue::SegQueue;
use gc_core::bitmap::MarkBitmap;
use gc_core::color::{AddressSpace, Color};
use gc_core::stop::{Handshake, StopGate};
use gc_core::sys::Process;
use gc_core::views::Views;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Mutators copy these when they leave a safepoint. Written inside stops, except for `resolving`, which is turned off
/// before a handshake.
pub(crate) struct PhaseWords {
    good: AtomicU8,
    /// The store barrier logs, and what is allocated is live.
    logging: AtomicBool,
    /// Weak references are being resolved: a weak load tests the mark.
    resolving: AtomicBool,
    /// Number of the current or last marking, from 1.
    epoch: AtomicU32,
}

impl PhaseWords {
    pub(crate) fn good(&self) -> Color {
        Color::from_parity(self.good.load(Ordering::SeqCst) as usize)
    }

    pub(crate) fn set_good(&self, color: Color) {
        self.good.store(color as u8, Ordering::SeqCst);
    }

    pub(crate) fn is_logging(&self) -> bool {
        self.logging.load(Ordering::SeqCst)
    }

    pub(crate) fn set_logging(&self, on: bool) {
        self.logging.store(on, Ordering::SeqCst);
    }

    pub(crate) fn is_resolving(&self) -> bool {
        self.resolving.load(Ordering::SeqCst)
    }

    pub(crate) fn set_resolving(&self, on: bool) {
        self.resolving.store(on, Ordering::SeqCst);
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::SeqCst)
    }

    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) struct HeapInner {
    /// The one that the heap is in. A child made by `fork` has neither its memory nor its collector.
    pub(crate) process: Process,
    pub(crate) config: Config,
    pub(crate) views: Views,
    pub(crate) space: AddressSpace,
    pub(crate) blocks: BlockTable,
    pub(crate) free: FreeSpace,
    pub(crate) marks: MarkBitmap,
    pub(crate) forwarding: ForwardingTable,
    pub(crate) phase: PhaseWords,
    /// Whoever stops the world holds this until the stop is over; so do threads while they attach.
    pub(crate) attaching: Mutex<()>,
    /// Attached mutators. Held for moments only: stops and the marker work on copies.
    pub(crate) mutators: Mutex<Vec<Arc<MutatorRecord>>>,
    pub(crate) gate: StopGate,
    pub(crate) handshake: Handshake,
    pub(crate) pause: crate::world::pause::PendingPause,
    /// Words that mutators overwrote while marking ran.
    pub(crate) log: SegQueue<Vec<u64>>,
    /// An object of the planned relocation set was pinned: no relocation by this plan.
    pub(crate) plan_aborted: AtomicBool,
    /// Pins, counted where they hold off flips: with anonymous memory.
    pub(crate) pins: AtomicUsize,
    /// Where root slots live.
    pub(crate) root_memory: RootMemory,
    /// With the page barrier: its side of the heap.
    pub(crate) pages: Option<Pages>,
    pub(crate) roots: Arc<RootTable>,
    pub(crate) weak_roots: Arc<RootTable>,
    /// Weak references to objects that somebody wants to hear of when they die; the watches since the last cycle; and
    /// where they are announced.
    pub(crate) watched: Arc<RootTable>,
    pub(crate) new_watches: SegQueue<Registration>,
    pub(crate) sinks: Mutex<Vec<Arc<dyn FinalizerTarget>>>,
    #[cfg(feature = "census")]
    pub(crate) surveys: SegQueue<Arc<crate::collector::heap_walk::Request>>,
    pub(crate) stacks: Mutex<Vec<Arc<StackRegion>>>,
    /// Those of them that the end of marking allows less of their memory.
    pub(crate) wide_stacks: Mutex<Vec<Arc<StackRegion>>>,
    /// The next number for an identity hash.
    pub(crate) identity_hashes: AtomicU64,
    pub(crate) external: Arc<External>,
    pub(crate) control: Control,
    pub(crate) pacing: Mutex<Pacing>,
    pub(crate) helpers: Helpers,
    pub(crate) effort: Effort,
    pub(crate) events: Events,
    pub(crate) counters: Counters,
    pub(crate) refusals: crate::refused::Noted,
    /// Those of loads that mutators timed.
    pub(crate) slow_paths: Histogram,
    /// Behind a lock, so that the three of a reading are of the same pauses. The collector adds to them outside stops.
    pub(crate) pauses: Mutex<PauseHistograms>,
}

impl HeapInner {
    pub(crate) fn new(config: Config, views: Views, root_memory: RootMemory, pages: Option<Pages>) -> HeapInner {
        let blocks = config.max_bytes / BLOCK_BYTES;
        let space = AddressSpace::new(views.base() as u64, views.span() as u64);
        let reserve = relocation_reserve(blocks, config.workers);
        HeapInner {
            process: Process::current(),
            blocks: BlockTable::new(blocks),
            free: FreeSpace::new(blocks, reserve).dumped(views.dumps().cloned()),
            marks: MarkBitmap::new(blocks * BLOCK_GRANULES),
            forwarding: ForwardingTable::new(blocks),
            phase: PhaseWords {
                good: AtomicU8::new(Color::Even as u8),
                logging: AtomicBool::new(false),
                resolving: AtomicBool::new(false),
                epoch: AtomicU32::new(1),
            },
            attaching: Mutex::default(),
            mutators: Mutex::default(),
            gate: StopGate::new(),
            handshake: Handshake::new(),
            pause: crate::world::pause::PendingPause::default(),
            log: SegQueue::new(),
            roots: Arc::new(RootTable::new(&root_memory)),
            weak_roots: Arc::new(RootTable::new(&root_memory)),
            watched: Arc::new(RootTable::new(&root_memory)),
            new_watches: SegQueue::new(),
            sinks: Mutex::default(),
            #[cfg(feature = "census")]
            surveys: SegQueue::new(),
            root_memory,
            plan_aborted: AtomicBool::new(false),
            pins: AtomicUsize::new(0),
            pages,
            stacks: Mutex::default(),
            wide_stacks: Mutex::default(),
            identity_hashes: AtomicU64::new(1),
            external: Arc::new(External::new(config.external_step)),
            control: Control::new(blocks),
            pacing: Mutex::new(Pacing::new(blocks)),
            helpers: Helpers::new(&config.name),
            effort: Effort::new(config.collecting_limit, blocks),
            events: Events::new(config.listeners.clone()),
            counters: Counters::default(),
            refusals: Default::default(),
            slow_paths: Histogram::default(),
            pauses: Mutex::default(),
            space,
            views,
            config,
        }
    }

    /// The word at an offset, through the canonical view.
    #[inline(always)]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset < self.config.max_bytes && offset.is_multiple_of(8));
        let address = self.views.canonical() + offset;
        // SAFETY: the canonical view maps the whole heap readable and writable as long as `self`; every word of it is
        // accessed atomically by the collector, and offsets below the heap's size are all that ever get here.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address) }
    }

    /// Clears the mark bits of a block.
    pub(crate) fn clear_marks(&self, block: usize) {
        self.marks.store_words(block * BLOCK_MARK_WORDS, BLOCK_MARK_WORDS, 0);
    }

    /// Marks a whole block: what will be allocated in it is live, and the marker finds its bit set.
    pub(crate) fn fill_marks(&self, block: usize) {
        self.marks.store_words(block * BLOCK_MARK_WORDS, BLOCK_MARK_WORDS, u64::MAX);
    }

    /// Whether the object at an offset is live: marked, or allocated since mark start.
    pub(crate) fn is_live(&self, offset: usize) -> bool {
        self.marks.get(offset / 8) || self.blocks.allocation_epoch(offset / BLOCK_BYTES) == self.phase.epoch()
    }

    /// Bytes in blocks that are not free.
    pub(crate) fn used_bytes(&self) -> usize {
        self.free.figures().used * BLOCK_BYTES
    }
}

/// The most collector threads of a heap: each copies to a block of its own, of those set aside for relocation, and what is
/// set aside is never more than a quarter of the heap.
pub(crate) fn max_workers(blocks: usize) -> usize {
    blocks / 4 - 1
}

/// Blocks that only relocation may take, so that compaction always progresses: two for each collector thread and a few for
/// mutators, or a sixteenth of the heap if that is less, but never fewer than one for each.
fn relocation_reserve(blocks: usize, workers: usize) -> usize {
    (2 * workers + 4).min(blocks / 16).max(workers + 1)
}
