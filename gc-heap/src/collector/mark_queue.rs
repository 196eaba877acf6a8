//! The state shared by the markers of one marking: work beyond each marker's own stack, and its
//! bound.

use super::roots::Roots;
use crate::inner::HeapInner;
use crate::lock::Mutex;
use crate::object::Kind;
use crate::space::{Block, Offset};
use crossbeam_deque::{Steal, Stealer, Worker};
use crossbeam_queue::SegQueue;
use gc_core::crew::Crew;
use gc_core::ephemeron::PendingEphemerons;
use gc_core::grey::GreyBlocks;
use gc_core::zeroed::with_room;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Capacity of a marker's own stack, in entries.
const LOCAL: usize = 1024;

/// Entries of a chunk, at most.
pub(super) const CHUNK: usize = LOCAL / 2;

/// Chunks may take this part of the memory that is in use when marking begins.
const PART: usize = 128;

/// In stress mode stacks are full at once.
const LOCAL_IN_STRESS: usize = 32;

/// The elements of a long array that are not visited yet.
#[derive(Debug)]
pub(super) struct Rest {
    /// The next.
    pub(super) next: Offset,
    pub(super) elements: usize,
    pub(super) kind: &'static Kind,
}

/// Work that an idle marker finds.
pub(super) enum Found {
    Chunk(Vec<Offset>),
    Rest(Rest),
    /// A block with marked but unscanned objects.
    Grey(Block),
}

/// The queues of one marker: it alone adds to them. The others steal what is oldest.
pub(super) struct Queues {
    pub(super) seat: usize,
    /// Offsets to be marked, by chunks.
    pub(super) chunks: Worker<Vec<Offset>>,
    pub(super) arrays: Worker<Rest>,
}

/// What several markers share.
pub(crate) struct SharedMarkQueue<'a> {
    pub(super) crew: Crew,
    pub(super) roots: Roots,
    pub(super) greys: &'a GreyBlocks,
    weak_blocks: &'a GreyBlocks,
    /// Remembered pairs are in no list: all of them are passed over.
    remembered_pairs: AtomicBool,
    pub(super) pair_blocks: &'a GreyBlocks,
    /// Entries that the lists of weak slots, and those of pairs found before any waits, may still
    /// have, all together.
    weak_room: AtomicUsize,
    pair_room: AtomicUsize,
    pub(crate) waiting: PendingEphemerons,
    stealers: Vec<(Stealer<Vec<Offset>>, Stealer<Rest>)>,
    /// Queues that no marker has.
    free_queues: Mutex<Vec<Queues>>,
    /// Chunks that hold nothing.
    free_chunks: SegQueue<Vec<Offset>>,
    /// Chunks that there are, and that there may be.
    chunks: AtomicUsize,
    max_chunks: usize,
    /// Entries of a marker's own stack.
    pub(super) local: usize,
    /// How often a stack was full.
    pub(super) overflows: AtomicUsize,
    /// Bytes of the list of ephemerons that were found before any waited.
    pub(super) pair_bytes: AtomicUsize,
}

impl<'a> SharedMarkQueue<'a> {
    /// For so many markers at most.
    pub(crate) fn new(inner: &'a HeapInner, markers: usize, roots: Roots) -> SharedMarkQueue<'a> {
        let max_chunks = inner.memory.used_bytes() / PART / (CHUNK * size_of::<Offset>());
        // Alternately none, one, and the normal number.
        match inner.world.phase.epoch() as usize % 3 {
            few @ 0..=1 if inner.config.stress.is_on() => {
                SharedMarkQueue::of(inner, markers, roots, LOCAL_IN_STRESS, few)
            }
            _ if inner.config.stress.is_on() => SharedMarkQueue::of(inner, markers, roots, LOCAL_IN_STRESS, max_chunks),
            _ => SharedMarkQueue::of(inner, markers, roots, LOCAL, max_chunks.max(markers)),
        }
    }

    pub(super) fn of(
        inner: &'a HeapInner,
        markers: usize,
        roots: Roots,
        local: usize,
        max_chunks: usize,
    ) -> SharedMarkQueue<'a> {
        let memory = &inner.memory;
        debug_assert!([&memory.greys, &memory.weak_blocks, &memory.pair_blocks].iter().all(|set| set.is_empty()));
        let queues = |seat| Queues { seat, chunks: Worker::new_lifo(), arrays: Worker::new_lifo() };
        let queues: Vec<Queues> = (0..markers).map(queues).collect();
        let shared = SharedMarkQueue {
            crew: Crew::new(),
            roots,
            greys: &inner.memory.greys,
            weak_blocks: &inner.memory.weak_blocks,
            remembered_pairs: AtomicBool::new(false),
            pair_blocks: &inner.memory.pair_blocks,
            weak_room: AtomicUsize::new(max_chunks * CHUNK),
            pair_room: AtomicUsize::new(max_chunks * CHUNK),
            waiting: PendingEphemerons::new(max_chunks * CHUNK),
            stealers: queues.iter().map(|own| (own.chunks.stealer(), own.arrays.stealer())).collect(),
            free_queues: Mutex::new(queues),
            free_chunks: SegQueue::new(),
            chunks: AtomicUsize::new(0),
            max_chunks,
            local,
            overflows: AtomicUsize::new(0),
            pair_bytes: AtomicUsize::new(0),
        };
        shared.crew.begin(false);
        shared
    }

    /// Records a pair for which there is no room: by its block, where the marks say which objects
    /// live; of an old object, which has none, with all that are remembered.
    pub(super) fn add_pair_block(&self, inner: &HeapInner, pair: Offset) {
        let block = pair.block();
        match inner.is_exempt(block) {
            true => self.remembered_pairs.store(true, Ordering::Relaxed),
            false => self.pair_blocks.add(block),
        }
    }

    /// Whether there are pairs to pass over.
    pub(super) fn has_pair_blocks(&self) -> bool {
        !self.pair_blocks.is_empty() || self.remembered_pairs.load(Ordering::Relaxed)
    }

    /// Whether remembered pairs are to be passed over; they are not any more.
    pub(super) fn take_remembered_pairs(&self) -> bool {
        self.remembered_pairs.swap(false, Ordering::Relaxed)
    }

    pub(super) fn take_queues(&self) -> Queues {
        self.free_queues.lock().pop().expect("as many queues as markers")
    }

    /// Called by a marker that leaves: its queues are empty.
    pub(super) fn give_queues(&self, queues: Queues) {
        self.free_queues.lock().push(queues);
    }

    /// A chunk without entries; `None`: there are as many as there may be, or no memory for more.
    pub(super) fn take_chunk(&self) -> Option<Vec<Offset>> {
        if let Some(chunk) = self.free_chunks.pop() {
            return Some(chunk);
        }
        let one_more = |chunks| (chunks < self.max_chunks).then_some(chunks + 1);
        self.chunks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        let chunk = with_room(CHUNK).ok();
        if chunk.is_none() {
            self.chunks.fetch_sub(1, Ordering::Relaxed);
        }
        chunk
    }

    pub(super) fn give_chunk(&self, chunk: Vec<Offset>) {
        debug_assert!(chunk.is_empty() && chunk.capacity() == CHUNK);
        self.free_chunks.push(chunk);
    }

    /// Steals the oldest item of another marker's queues: most is reachable from it, and that
    /// marker would process it last.
    pub(super) fn steal(&self, seat: usize) -> Option<Found> {
        let others = || self.stealers.iter().cycle().skip(seat + 1).take(self.stealers.len() - 1);
        let chunk = others().find_map(|(chunks, _)| stolen(chunks)).map(Found::Chunk);
        chunk
            .or_else(|| others().find_map(|(_, arrays)| stolen(arrays)).map(Found::Rest))
            .or_else(|| self.greys.take(Block::new(0)).map(Found::Grey))
    }

    /// Room in a list of weak slots: as much as is wanted, or what is left.
    pub(super) fn take_weak_room(&self, wanted: usize) -> usize {
        take_room(&self.weak_room, wanted)
    }

    /// Room in a list of pairs, in the same way.
    pub(super) fn take_pair_room(&self, wanted: usize) -> usize {
        take_room(&self.pair_room, wanted)
    }

    /// Has the weak slots in a block resolved without a list.
    pub(super) fn add_weak_block(&self, block: Block) {
        self.weak_blocks.add(block);
    }

    /// Peak of the bytes in mark stacks, the markers' own stacks included.
    pub(crate) fn peak_bytes(&self) -> usize {
        (self.chunks.load(Ordering::Relaxed) * CHUNK + self.stealers.len() * self.local) * size_of::<Offset>()
    }
}

fn take_room(room: &AtomicUsize, wanted: usize) -> usize {
    let taken = |left: usize| left.checked_sub(wanted.min(left));
    room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).map_or(0, |left| left.min(wanted))
}

fn stolen<T>(stealer: &Stealer<T>) -> Option<T> {
    loop {
        match stealer.steal() {
            Steal::Success(found) => return Some(found),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
    }
}
