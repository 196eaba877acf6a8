//! What the mutators and the collector of a heap share, by owner.
//!
//! | owner | has |
//! | --- | --- |
//! | [`Memory`] | the views, the blocks, and the tables of what is in them |
//! | [`World`] | the mutators, and the words by which pauses and handshakes reach them |
//! | [`Roots`] | the tables of process-wide roots, the root stacks, and whose death is announced |
//! | [`Schedule`] | what the collector has to do, and when: requests, pacing, helper threads |
//! | [`Report`] | what the heap tells of itself |
//!
//! A function takes the owner that it needs, and [`HeapInner`] only where it needs several.

pub(crate) mod control;
pub(crate) mod effort;
pub(crate) mod external;
pub(crate) mod generation;
pub(crate) mod handle;
#[cfg(feature = "census")]
pub(crate) mod heap_walk;
pub(crate) mod helpers;
#[cfg_attr(not(feature = "losses"), path = "no_loss.rs")]
pub(crate) mod loss;
pub(crate) mod mutator;
pub(crate) mod pacing;
pub(crate) mod pending_pause;
pub(crate) mod phase;
pub(crate) mod record;
pub(crate) mod registration;
pub(crate) mod relocation;
pub(crate) mod soft_max;
pub(crate) mod tlab;

use crate::config::Config;
use crate::events::Events;
use crate::lock::Mutex;
use crate::roots::region::RootMemory;
use crate::roots::stack_region::StackRegion;
use crate::roots::table::RootTable;
use crate::space::memory::Memory;
use crate::space::{BLOCK_BYTES, Block, relocation_reserve};
use crate::stats::{Counters, Histogram, PauseHistograms};
use control::Control;
use crossbeam_queue::SegQueue;
use effort::Effort;
use external::External;
use gc_core::stop::{Handshake, StopGate};
use gc_core::sys::Process;
use gc_core::views::Views;
use gc_core::word::Word;
use gc_core::zeroed::NoMemory;
use helpers::Helpers;
use pacing::{Pacing, Throttle};
use pending_pause::PendingPause;
use phase::PhaseWords;
use record::MutatorRecord;
use registration::{FinalizerTarget, Registration};
use relocation::Relocation;
use soft_max::SoftMax;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// The mutators, and how pauses and handshakes reach them.
pub(crate) struct World {
    pub(crate) phase: PhaseWords,
    /// The collector holds this from before a pause until the pause is over; so does a thread while
    /// it attaches.
    pub(crate) attaching: Mutex<()>,
    /// Attached mutators. Held for moments only: pauses and the marker work on copies.
    pub(crate) mutators: Mutex<Vec<Arc<MutatorRecord>>>,
    pub(crate) gate: StopGate,
    pub(crate) handshake: Handshake,
    pub(crate) pause: PendingPause,
    /// Words that mutators overwrote while marking ran.
    pub(crate) log: SegQueue<Vec<Word>>,
    /// An object of the planned evacuation set was pinned: nothing is relocated by this plan.
    pub(crate) plan_aborted: AtomicBool,
    /// Number of pins, counted with anonymous memory, where they prevent flips.
    pub(crate) pins: AtomicUsize,
}

/// Slots outside the heap, and the objects whose death is announced.
pub(crate) struct Roots {
    /// Where root slots live.
    pub(crate) memory: RootMemory,
    pub(crate) strong: Arc<RootTable>,
    pub(crate) weak: Arc<RootTable>,
    /// Weak references to objects whose death is announced; the registrations since the last cycle;
    /// and the queues.
    pub(crate) watched: Arc<RootTable>,
    pub(crate) new_registrations: SegQueue<Registration>,
    pub(crate) targets: Mutex<Vec<Arc<dyn FinalizerTarget>>>,
    pub(crate) stacks: Mutex<Vec<Arc<StackRegion>>>,
    /// The root stacks whose limit mark end lowers.
    pub(crate) wide_stacks: Mutex<Vec<Arc<StackRegion>>>,
}

impl Roots {
    fn new(memory: RootMemory) -> Roots {
        Roots {
            strong: Arc::new(RootTable::new(&memory)),
            weak: Arc::new(RootTable::new(&memory)),
            watched: Arc::new(RootTable::new(&memory)),
            new_registrations: SegQueue::new(),
            targets: Mutex::default(),
            stacks: Mutex::default(),
            wide_stacks: Mutex::default(),
            memory,
        }
    }
}

/// What the collector has to do, and when.
pub(crate) struct Schedule {
    pub(crate) requests: Control,
    pub(crate) pacing: Mutex<Pacing>,
    pub(crate) throttle: Throttle,
    pub(crate) soft_max: SoftMax,
    pub(crate) helpers: Helpers,
    pub(crate) effort: Effort,
    #[cfg(feature = "census")]
    pub(crate) walks: SegQueue<Arc<heap_walk::Request>>,
    pub(crate) external: Arc<External>,
}

/// What the heap tells of itself.
pub(crate) struct Report {
    pub(crate) events: Events,
    pub(crate) counters: Counters,
    pub(crate) refusals: Arc<crate::refused::Noted>,
    /// Durations of the slow paths of loads that mutators timed.
    pub(crate) slow_paths: Histogram,
    /// As [`slow_paths`](Self::slow_paths), for stores.
    pub(crate) stores: Histogram,
    /// Durations of all other delays.
    pub(crate) losses: loss::Totals,
    /// Behind a lock, so that the three of a reading are of the same pauses. The collector adds to
    /// them outside pauses.
    pub(crate) pauses: Mutex<PauseHistograms>,
}

pub(crate) struct HeapInner {
    /// The process of the heap. A child made by `fork` has neither its memory nor its collector.
    pub(crate) process: Process,
    pub(crate) config: Config,
    pub(crate) memory: Memory,
    pub(crate) world: World,
    pub(crate) roots: Roots,
    /// How objects are relocated beside running mutators.
    pub(crate) relocation: Arc<dyn Relocation>,
    pub(crate) schedule: Schedule,
    pub(crate) report: Report,
    /// The next number for an identity hash.
    pub(crate) identity_hashes: AtomicU64,
}

impl HeapInner {
    pub(crate) fn new(
        config: Config,
        views: Views,
        root_memory: RootMemory,
        relocation: Arc<dyn Relocation>,
    ) -> Result<HeapInner, NoMemory> {
        let blocks = config.max_bytes / BLOCK_BYTES;
        let reserve = relocation_reserve(blocks, config.workers);
        let process = Process::current();
        let refusals = Arc::default();
        Ok(HeapInner {
            process,
            memory: Memory::new(views, config.address_bytes(), config.max_bytes, reserve, &refusals)?,
            world: World {
                phase: PhaseWords::new(),
                attaching: Mutex::default(),
                mutators: Mutex::default(),
                gate: StopGate::new(),
                handshake: Handshake::new(),
                pause: PendingPause::default(),
                log: SegQueue::new(),
                plan_aborted: AtomicBool::new(false),
                pins: AtomicUsize::new(0),
            },
            roots: Roots::new(root_memory),
            relocation,
            schedule: Schedule {
                requests: Control::new(blocks),
                pacing: Mutex::new(Pacing::new(blocks)),
                throttle: Throttle::default(),
                soft_max: SoftMax::new(blocks, config.soft_max_bytes),
                helpers: Helpers::new(&config.name),
                effort: Effort::new(config.collecting_limit, blocks),
                #[cfg(feature = "census")]
                walks: SegQueue::new(),
                external: Arc::new(External::new(config.external_step)),
            },
            report: Report {
                events: Events::new(config.listeners.clone(), process),
                counters: Counters::default(),
                refusals,
                slow_paths: Histogram::default(),
                stores: Histogram::default(),
                losses: Default::default(),
                pauses: Mutex::default(),
            },
            identity_hashes: AtomicU64::new(1),
            config,
        })
    }

    /// Prepares an allocated block for bumping: see [`Memory::open_block`].
    pub(crate) fn open_block(&self, block: Block, epoch: u32, live: bool) {
        self.relocation.opens(block);
        self.memory.open_block(block, epoch, live);
    }
}
