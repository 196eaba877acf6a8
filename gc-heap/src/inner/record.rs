//! The part of a mutator that the collector accesses. Everything here is atomic or constant:
//! `&mut Mutator` must not alias it.

use crate::active::Thread;
use crate::config::Config;
use crate::events::MutatorThread;
use crate::inner::loss::Account;
use crate::roots::region::{NoAddresses, Region, RootMemory};
use crate::space::{Block, Page};
use gc_core::locals::Locals;
use gc_core::parked_tlab::ParkedTlab;
use gc_core::stop::{Held, MutatorState};
use gc_core::sys::ThreadName;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const NO_BLOCK: u32 = u32::MAX;

/// The number of the next mutator of any heap.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

#[repr(C)]
pub(crate) struct MutatorRecord {
    /// End of the TLAB as the allocation check reads it; 0 requests a safepoint.
    pub(crate) end: AtomicU64,
    pub(crate) state: MutatorState,
    /// The mutator's number in events, unique in the process.
    pub(crate) number: u64,
    locals: Region,
    pub(crate) scan: Locals,
    /// The blocks that the thread was allocating in when it last arrived or parked; `NO_BLOCK` if
    /// there was none.
    current: [AtomicU32; 2],
    /// The blocks that a parked thread was allocating in (its TLAB, the spare one, the one it
    /// copies to): the collector may close them.
    pub(crate) deposits: [ParkedTlab; 3],
    /// What the thread suffers.
    pub(crate) account: Account,
    /// The last pause that the mutator arrived at while it ran, for reports of late mutators.
    /// Relaxed: only a report depends on it.
    arrived: AtomicU32,
    /// The thread that entered last, and its name. Relaxed: written before the mutator leaves the
    /// parked state, which the collector that holds it has seen.
    thread: AtomicU32,
    name: [AtomicU64; 2],
}

impl MutatorRecord {
    pub(crate) fn new(memory: &RootMemory, config: &Config) -> Result<MutatorRecord, NoAddresses> {
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        let locals = Region::frame(memory)?;
        Ok(MutatorRecord {
            end: AtomicU64::new(0),
            state: MutatorState::new(),
            number,
            locals,
            scan: Locals::default(),
            current: [const { AtomicU32::new(NO_BLOCK) }; 2],
            deposits: Default::default(),
            account: Account::new(config, number).map_err(|no| NoAddresses(Some(no.into())))?,
            arrived: AtomicU32::new(0),
            thread: AtomicU32::new(0),
            name: Default::default(),
        })
    }

    /// Called by the thread that enters, while it is still parked.
    pub(crate) fn set_thread(&self, thread: Thread) {
        self.thread.store(thread.id, Ordering::Relaxed);
        let words = thread.name.to_words();
        self.name.iter().zip(words).for_each(|(name, word)| name.store(word, Ordering::Relaxed));
    }

    /// The mutator and its thread, for events.
    pub(crate) fn who(&self) -> MutatorThread {
        let name = ThreadName::from_words([0, 1].map(|half| self.name[half].load(Ordering::Relaxed)));
        MutatorThread { mutator: self.number, thread: self.thread.load(Ordering::Relaxed), name }
    }

    /// Records that the running mutator arrives at a pause.
    pub(crate) fn arrives(&self, held: Held) {
        self.arrived.store(held.0, Ordering::Relaxed);
    }

    /// Whether a pause that holds the mutator waits for it: it runs, and has not arrived.
    pub(crate) fn is_awaited(&self, held: Held) -> bool {
        self.state.is_running() && self.arrived.load(Ordering::Relaxed) != held.0
    }

    /// Relaxed: only a hint for the order of repair.
    pub(crate) fn set_current(&self, index: usize, block: Option<Block>) {
        self.current[index].store(block.map_or(NO_BLOCK, |block| block.number() as u32), Ordering::Relaxed);
    }

    /// The blocks that the thread probably accesses next.
    pub(crate) fn current_blocks(&self) -> impl Iterator<Item = Block> {
        let current = self.current.iter().map(|block| block.load(Ordering::Relaxed));
        current.filter(|&block| block != NO_BLOCK).map(|block| Block::new(block as usize))
    }

    /// Requests a safepoint of a running mutator.
    pub(crate) fn request_safepoint(&self) {
        self.end.store(0, Ordering::SeqCst);
    }

    /// Address of the first local.
    pub(crate) fn locals_base(&self) -> u64 {
        self.locals.address() as u64
    }

    /// Bytes of the locals region.
    #[inline(always)]
    pub(crate) fn locals_len(&self) -> u64 {
        self.locals.len() as u64
    }

    /// Extends the locals region. Called by the record's mutator; `false` if there is no room.
    pub(crate) fn grow_locals(&self) -> bool {
        self.locals.grow()
    }

    pub(crate) fn locals_end(&self) -> u64 {
        self.locals_base() + self.locals.len() as u64
    }

    /// The locals' memory.
    #[inline(always)]
    pub(crate) fn locals(&self) -> &Region {
        &self.locals
    }

    /// The slot at an address within the locals.
    pub(crate) fn local(&self, address: u64) -> &AtomicU64 {
        &self.locals.words()[(address - self.locals_base()) as usize / 8]
    }

    /// Pages of the heap's file that hold the locals in use.
    pub(crate) fn local_pages(&self) -> std::ops::Range<Page> {
        self.locals.pages(self.published_locals() * 8)
    }

    /// Whether the mutator has continued since this marking began.
    #[cfg(test)]
    pub(crate) fn has_begun(&self, epoch: u32) -> bool {
        self.scan.has_begun(epoch)
    }

    /// How many locals, from the first on, are to be scanned: those in use at mark start.
    pub(crate) fn locals_to_scan(&self, epoch: u32) -> usize {
        self.scan.top_to_scan(epoch).saturating_sub(self.locals_base()) as usize / 8
    }

    /// Visits a range of locals; each is as it was at mark start, or was logged before it changed.
    pub(crate) fn scan_locals(&self, slots: std::ops::Range<usize>, visit: impl FnMut(&AtomicU64)) {
        self.locals.collector_words()[slots].iter().for_each(visit);
    }

    /// Records that all locals have been visited.
    pub(crate) fn set_scanned(&self, epoch: u32) {
        self.scan.set_scanned(epoch);
    }

    /// Visits the locals of a stopped or parked mutator, for verification.
    pub(crate) fn each_local(&self, visit: impl FnMut(&AtomicU64)) {
        self.scan_locals(0..self.published_locals(), visit);
    }

    /// How many locals were in use when the mutator last published them.
    fn published_locals(&self) -> usize {
        self.scan.published_top().saturating_sub(self.locals_base()) as usize / 8
    }
}
