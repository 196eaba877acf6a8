//! Marking: traces what was reachable at mark start.
//!
//! Offsets to be marked pass through a short first-in-first-out queue that prefetches the object's
//! mark word and header, so that the misses of several objects overlap. With one marker the mark
//! bits are set without locked operations: mutators only log references and never mark.

mod share;

use super::mark_queue::{CHUNK, Queues, SharedMarkQueue};
use super::overflow::Again;
use crate::barrier::collector::{self as slots, Remap};
use crate::inner::HeapInner;
use crate::inner::generation::GoodWords;
use crate::object::Kind;
use crate::slot::is_reference;
use crate::space::blocks::BlockState;
use crate::space::{Block, Offset};
use gc_core::forwarding::Entry;
use gc_core::prefetch::prefetch;
use gc_core::remembered::Sort;
use gc_core::word::{GoodWord, Word};
use std::sync::atomic::AtomicU64;

/// Objects whose header is being fetched. Measured: 8 to 16 are best.
const AHEAD: usize = 16;
const NONE: Offset = Offset::new(usize::MAX);

/// A marker shares work when it has more entries than this: the older half, from which most is
/// reachable. A depth-first walk of a tree never has many.
const SHARE_ABOVE: usize = 4;

/// Objects marked between two checks of the store log.
const LOOK_EVERY: u64 = 4096;

/// Maximum number of store-log buffers taken in one check.
const BUFFERS_AT_ONCE: usize = 16;

/// Blocks whose live bytes a marker caches while other markers run.
const COUNTED: usize = 64;

/// One marker. `MANY`: other markers run concurrently.
pub(crate) struct Marker<'a, const MANY: bool> {
    pub(super) inner: &'a HeapInner,
    pub(super) shared: &'a SharedMarkQueue<'a>,
    canonical: usize,
    good: GoodWords,
    /// The bits that no word has that is to be followed as it is: those of stale words, and the
    /// [exempt](HeapInner::exempt_bits) ones. One mask, so that a young marking costs the others
    /// no test.
    bad_mask: u64,
    exempt: u64,
    /// Offsets to be marked, the newest last. Its capacity never changes: what does not fit goes
    /// into chunks.
    pub(super) stack: Vec<Offset>,
    queue: [Offset; AHEAD],
    next: usize,
    /// Chunks, and the unscanned rests of long arrays, which are processed when the stack is empty.
    pub(super) queues: Queues,
    /// Entries of `queues`, or more: some may have been stolen.
    pub(super) queued: usize,
    /// The block that is being scanned again, and the last one.
    pub(super) again: Option<Again>,
    pub(super) last_grey: Block,
    /// Weak slots of marked objects, by offset: as many as the shared has room for.
    pub(crate) weak: Vec<Offset>,
    /// Ephemerons found before `ephemeron_phase`, by offset.
    pub(crate) pairs: Vec<Offset>,
    /// Whether every mark looks up the pairs that wait for it: true after the first pass over the
    /// recorded pairs.
    pub(crate) ephemeron_phase: bool,
    pub(super) objects: u64,
    bytes: u64,
    /// Of these, those that mutators have been told of.
    told: u64,
    /// Live bytes that are not in the table yet, by block. Otherwise markers that count
    /// neighbouring blocks would write the same cache lines for every object.
    live: Vec<(Block, u32)>,
    /// Whether this marker must call the helpers as soon as there is work for several.
    uncalled: bool,
    /// The object counts from which on this marker may share work, and wake a sleeper for it.
    share_from: u64,
    wake_from: u64,
}

impl<'a, const MANY: bool> Marker<'a, MANY> {
    pub(crate) fn new(inner: &'a HeapInner, shared: &'a SharedMarkQueue<'a>) -> Marker<'a, MANY> {
        let (good, exempt) = (inner.good_words(), inner.exempt_bits());
        Marker {
            inner,
            shared,
            canonical: inner.memory.views.canonical(),
            good,
            bad_mask: good.bad_mask | exempt,
            exempt,
            stack: Vec::with_capacity(shared.local),
            queue: [NONE; AHEAD],
            next: 0,
            queues: shared.take_queues(),
            queued: 0,
            again: None,
            last_grey: Block::new(0),
            weak: Vec::new(),
            pairs: Vec::new(),
            ephemeron_phase: false,
            objects: 0,
            bytes: 0,
            told: 0,
            live: if MANY { vec![(Block::new(0), 0); COUNTED] } else { Vec::new() },
            uncalled: false,
            share_from: 0,
            wake_from: 0,
        }
    }

    /// Marks what a slot refers to; a slot that is still stale is healed.
    #[inline(always)]
    pub(crate) fn visit(&mut self, slot: &AtomicU64) {
        if let Some(offset) = slots::visit(slot, self) {
            self.push(offset);
        }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, offset: Offset) {
        if self.stack.len() < self.stack.capacity() {
            self.stack.push(offset);
        } else {
            self.push_full(offset);
        }
    }

    /// The older half moves to a chunk, or to the overflow path if there is no chunk.
    #[cold]
    #[inline(never)]
    fn push_full(&mut self, offset: Offset) {
        let half = (self.stack.len() / 2).min(CHUNK);
        match self.shared.take_chunk() {
            Some(chunk) => self.put(chunk, half),
            None => self.overflow(half),
        }
        self.stack.push(offset);
    }

    /// Moves the oldest entries to the shared queue.
    fn put(&mut self, mut chunk: Vec<Offset>, entries: usize) {
        chunk.extend(self.stack.drain(..entries));
        self.queues.chunks.push(chunk);
        self.queued += 1;
    }

    fn load(&mut self, mut chunk: Vec<Offset>) {
        debug_assert!(self.stack.len() + chunk.len() <= self.stack.capacity());
        self.stack.append(&mut chunk);
        self.shared.give_chunk(chunk);
    }

    /// Visits the slots of old objects that may hold young words: roots of a young marking (G6).
    /// The weak ones are resolved after it.
    pub(crate) fn visit_remembered(&mut self) {
        self.inner.each_remembered(|offset, sort| match sort {
            Sort::Strong => self.visit(self.word(offset)),
            Sort::Weak => {}
            Sort::Pair => self.scan_pair(offset),
        });
    }

    /// What a marker does now and then: tells how far it is, and takes logged words.
    #[cold]
    #[inline(never)]
    fn look(&mut self) {
        self.inner.schedule.throttle.advance(self.bytes - std::mem::replace(&mut self.told, self.bytes));
        self.take_logs();
    }

    /// Takes logged words to be marked; `false`: the log was empty.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_logs(&mut self) -> bool {
        let mut any = false;
        for _ in 0..BUFFERS_AT_ONCE {
            let Some(words) = self.inner.world.log.pop() else { break };
            // Whatever its color.
            words.into_iter().for_each(|word| {
                if !word.has_any(self.exempt) {
                    let offset = self.remap(word);
                    // A stale young word may lead to what is old now.
                    if self.exempt == 0 || !self.inner.is_exempt(offset.block()) {
                        self.push(offset);
                    }
                }
            });
            any = true;
        }
        any
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, offset: Offset) {
        prefetch(std::ptr::without_provenance(self.canonical + offset.bytes()));
        prefetch(self.inner.memory.marks.word_address(offset.granule()));
    }

    /// Marks everything on the stack and everything reachable from it.
    pub(crate) fn drain(&mut self) {
        loop {
            let entered = match self.stack.pop() {
                Some(offset) => {
                    self.prefetch(offset);
                    offset
                }
                None if self.queued == 0 => NONE,
                None => {
                    self.refill();
                    continue;
                }
            };
            let offset = std::mem::replace(&mut self.queue[self.next], entered);
            self.next = (self.next + 1) % AHEAD;
            if offset != NONE {
                self.mark(offset);
            } else if entered == NONE && self.queue.iter().all(|&queued| queued == NONE) && !self.scan_greys() {
                return;
            }
            if MANY && self.stack.len() > SHARE_ABOVE && self.objects >= self.share_from && self.shared.crew.is_hungry()
            {
                self.share();
            }
        }
    }

    /// Takes entries back from this marker's queue.
    #[cold]
    #[inline(never)]
    fn refill(&mut self) {
        if let Some(chunk) = self.queues.chunks.pop() {
            self.queued -= 1;
            self.load(chunk);
        } else if let Some(rest) = self.queues.arrays.pop() {
            self.queued -= 1;
            self.scan_piece(rest);
        } else {
            // The others were stolen.
            self.queued = 0;
        }
    }

    #[inline(always)]
    fn mark(&mut self, offset: Offset) {
        if self.set_mark(offset) {
            self.scan(offset);
            if self.ephemeron_phase {
                self.mark_values_of(offset);
            }
        }
    }

    #[inline(always)]
    pub(super) fn set_mark(&self, offset: Offset) -> bool {
        let granule = offset.granule();
        if MANY { self.inner.memory.marks.set(granule) } else { self.inner.memory.marks.set_alone(granule) }
    }

    /// Objects that this marker has marked and not [counted](Marker::count) yet.
    pub(super) fn marked(&self) -> u64 {
        self.objects
    }

    #[inline(always)]
    pub(super) fn word(&self, offset: Offset) -> &'a AtomicU64 {
        self.inner.memory.word(offset)
    }

    #[inline(always)]
    fn scan(&mut self, offset: Offset) {
        self.objects += 1;
        // Otherwise the log would grow during the whole marking: a reference that mutators
        // overwrite repeatedly is logged until it is marked. Tested right after the addition,
        // before the bytes are counted: next to each other, the two additions would become one of
        // vectors, which takes two instructions more.
        if self.objects.is_multiple_of(LOOK_EVERY) {
            self.look();
        }
        let kind = self.count_bytes(offset);
        self.scan_slots(offset, kind);
    }

    /// Counts an object that was just marked, and returns its kind.
    #[inline(always)]
    pub(super) fn count_object(&mut self, offset: Offset) -> &'static Kind {
        self.objects += 1;
        self.count_bytes(offset)
    }

    #[inline(always)]
    fn count_bytes(&mut self, offset: Offset) -> &'static Kind {
        // Acquire is not needed: the reference to this object was loaded Acquire, and the header
        // was written before it was stored.
        let (kind, bytes) = self.inner.memory.object(offset);
        self.bytes += bytes as u64;
        let block = offset.block();
        let counted = u32::try_from(bytes).unwrap_or(u32::MAX);
        if MANY {
            self.add_live(block, counted);
        } else {
            self.inner.memory.blocks.add_live_alone(block, counted);
        }
        kind
    }

    #[inline(always)]
    fn add_live(&mut self, block: Block, bytes: u32) {
        let (counted, sum) = &mut self.live[block.number() % COUNTED];
        if *counted != block {
            if *sum != 0 {
                self.inner.memory.blocks.add_live(*counted, *sum);
            }
            (*counted, *sum) = (block, 0);
        }
        *sum += bytes;
    }

    /// Adds this marker's counts to the heap's counters. Returns objects and bytes.
    pub(crate) fn count(&mut self) -> (u64, u64) {
        for (block, bytes) in &mut self.live {
            if *bytes != 0 {
                self.inner.memory.blocks.add_live(*block, std::mem::take(bytes));
            }
        }
        let objects = std::mem::take(&mut self.objects);
        self.inner.report.counters.marked_objects.add(objects);
        self.told = 0;
        (objects, std::mem::take(&mut self.bytes))
    }
}

impl<const MANY: bool> Remap for Marker<'_, MANY> {
    #[inline(always)]
    fn is_reference(&self, word: Word) -> bool {
        is_reference(word)
    }

    #[inline(always)]
    fn is_bad(&self, word: Word) -> bool {
        word.has_any(self.bad_mask)
    }

    #[inline(always)]
    fn is_exempt(&self, word: Word) -> bool {
        word.has_any(self.exempt)
    }

    #[inline(always)]
    fn place(&self, word: GoodWord) -> Offset {
        self.inner.memory.space.offset(word.bits())
    }

    #[inline(always)]
    fn remap(&self, word: Word) -> Offset {
        self.inner.remap_from(self.good.bad_mask, word)
    }

    #[inline(always)]
    fn good(&self, place: Offset) -> GoodWord {
        // The last flip's promotions are carried out by now.
        let is_old = self.good.young_bit != 0 && self.inner.memory.blocks.is_old(place.block());
        self.good.of(is_old, place)
    }
}

impl HeapInner {
    /// Whether the mark bits of a block stand at the objects that the last marking has found: it is
    /// not free, and not newborn, where all bits may be set.
    pub(super) fn is_marked_block(&self, block: Block) -> bool {
        let blocks = &self.memory.blocks;
        // Open and not newborn: the block of a thread that has been parked since before mark start;
        // it no longer allocates there.
        matches!(blocks.state(block), BlockState::Closed | BlockState::Open | BlockState::LargeFirst)
            && !self.is_newborn(block)
    }

    /// The offset and the kind of an object that the last relocation has moved, or kept.
    ///
    /// # Panics
    /// If the entry is not published.
    pub(super) fn relocated_object(&self, entry: Entry<'_>) -> (Offset, &'static Kind) {
        let offset = entry.destination().expect("a relocation ends when every entry is published").offset();
        // An entry is that of an object that was marked, and its destination holds the copy that
        // was published; what was copied or kept is live until the next mark start.
        (offset, self.memory.object(offset).0)
    }

    /// The kind and the size of the object at an offset. Called by the collector, which alone frees
    /// blocks of objects.
    ///
    /// # Panics
    /// If the current or last marking has found none there, and the current plan has none.
    pub(super) fn marked_object(&self, offset: Offset) -> (&'static Kind, usize) {
        let (block, granule) = (offset.block(), offset.granule());
        // A plan moves the bits of its blocks to their forwarding.
        let is_planned = || {
            let forwarding = self.planned_forwarding(block).of_block(block);
            forwarding.and_then(|forwarding| forwarding.entry(granule.in_block())).is_some()
        };
        let is_marked = self.is_marked_block(block) && (self.memory.marks.get(granule) || is_planned());
        assert!(is_marked, "no marked object at offset {offset:#x}");
        self.memory.object(offset)
    }
}

#[cfg(test)]
mod tests;
