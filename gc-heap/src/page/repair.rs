//! Updates the references on a page after a flip, so that mutators may access it. Repairing a page
//! on the first access to it is due to Appel, Ellis and Li (PLDI 1988).
//!
//! Runs on collector threads and in the fault handler of mutators: allocates nothing, takes no
//! lock, does not panic on a sound heap. The caller has claimed the page, so it is written by one
//! thread, once. It reads and writes through the canonical view; the data that it reads do not
//! change while pages are gated: sources, mark bits, headers, forwarding, the use of blocks that
//! were in use at the flip. (The length of an array that grows may change: see `docs/protocol.md`.)
//!
//! The repair depends on the kind of page:
//!
//! - of a *destination* block: the objects that the plan put there are copied in, and their slots
//!   rewritten;
//! - of a block that stays: the slots of its objects are rewritten in place. Objects are found by
//!   mark bits, or, in a young block, by walking it (everything in it is live);
//! - of a large object: the slots that lie in the page;
//! - of roots: every word that is a reference. Words that are no longer roots may be rewritten too;
//!   no thread reads them;
//! - of a source, of a free block, of a run under construction: nothing.

use crate::inner::HeapInner;
use crate::object::Kind;
use crate::object::slots::bits;
use crate::object::word::is_reference;
use crate::space::blocks::BlockState;
use crate::space::memory::Words;
use crate::space::pages::Pages;
use crate::space::{Block, BlockGranule, GRANULE_BYTES, Granule, Offset, Page};
use gc_core::forwarding::{Entry, Forwarding};
use gc_core::prefetch::prefetch;
use gc_core::word::{GoodWord, Word};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Repairs a page that the caller has claimed.
pub(crate) fn repair_page(inner: &HeapInner, pages: &Pages, page: Page) {
    let mut repair = Repair::new(inner, pages, page.start()..(page + 1).start());
    if page.start().bytes() >= inner.memory.bytes {
        return repair.roots();
    }
    let block = page.block();
    match inner.memory.blocks.state(block) {
        BlockState::Free | BlockState::LargeUninitialized => {}
        BlockState::EvacuationTarget => repair.produce(),
        BlockState::Closed | BlockState::Open => repair.in_place(block),
        BlockState::LargeFirst => repair.large(block),
        BlockState::LargeContinued => repair.large(inner.memory.blocks.first_of(block)),
    }
    repair.drain();
}

/// Rewrites every slot, roots included, inside a pause, after a relocation that gated nothing.
pub(crate) fn repair_everything(inner: &HeapInner, pages: &Pages) {
    inner.root_pages().into_iter().flat_map(Page::range).for_each(|page| repair_page(inner, pages, page));
    inner.memory.blocks.all().for_each(|block| repair_block(inner, pages, block));
}

fn repair_block(inner: &HeapInner, pages: &Pages, block: Block) {
    match inner.memory.forwarding.of_block(block) {
        // A block of the set that survives: its forwarding table lists the objects that stayed in
        // place.
        Some(forwarding) if inner.memory.blocks.state(block) == BlockState::Closed && !inner.is_newborn(block) => {
            let mut repair = Repair::new(inner, pages, block.start()..(block + 1).start());
            for (granule, entry) in forwarding.iter() {
                let own = block.granule(granule);
                if entry.destination() == Some(own) {
                    repair.object(own.offset(), own.offset());
                }
            }
            repair.drain();
        }
        _ => Page::range(block.pages()).for_each(|page| repair_page(inner, pages, page)),
    }
}

struct Repair<'a> {
    inner: &'a HeapInner,
    pages: &'a Pages,
    /// Offsets of the page.
    page: Range<Offset>,
    /// The words of the heap, where pages are repaired.
    words: Words<'a>,
    /// Whether other pages may have moved: private memory, while pages are gated.
    scattered: bool,
    /// Slots whose forwarding is being fetched, and then those whose entry is: rings, so that the
    /// misses of several overlap.
    looked_up: [Option<(Offset, &'a Forwarding, BlockGranule)>; AHEAD],
    found: [Option<(Offset, Entry<'a>)>; AHEAD],
    next: usize,
}

/// Slots on the way. Measured: 8 to 16.
const AHEAD: usize = 8;

impl<'a> Repair<'a> {
    fn new(inner: &'a HeapInner, pages: &'a Pages, page: Range<Offset>) -> Repair<'a> {
        let gated = pages.flip.is_active();
        let memory = &inner.memory;
        let words = if gated { memory.words_for_repair(&pages.gate) } else { memory.words() };
        let scattered = gated && pages.gate.is_private();
        Repair { inner, pages, page, words, scattered, looked_up: [None; AHEAD], found: [None; AHEAD], next: 0 }
    }

    #[inline(always)]
    fn load(&self, offset: Offset) -> u64 {
        self.words.word(offset).load(Ordering::Relaxed)
    }

    /// As `load`, of a word that may be in another page: a header, or a length.
    #[inline(always)]
    fn load_constant(&self, offset: Offset) -> u64 {
        if self.scattered && !self.page.contains(&offset) {
            return self.pages.word_elsewhere(offset);
        }
        self.load(offset)
    }

    #[inline(always)]
    fn store(&self, offset: Offset, word: GoodWord) {
        self.words.word(offset).store(word.bits(), Ordering::Relaxed);
    }

    /// The word of the object at an offset in the mutators' view.
    #[inline(always)]
    fn in_mutators_view(&self, offset: Offset) -> GoodWord {
        GoodWord::of_bits(offset.in_view(self.pages.gate.view() as u64))
    }

    /// Rewrites the slot at an offset, at the latest before the page is done; at once if its object
    /// does not move.
    #[inline(always)]
    fn rewrite(&mut self, slot: Offset) {
        let word = Word::new(self.load(slot));
        if !is_reference(word) {
            return;
        }
        let offset = self.inner.memory.space.offset(word.bits());
        if let Some(forwarding) = self.inner.memory.forwarding.of_block(offset.block()) {
            let granule = offset.granule().in_block();
            prefetch(forwarding.word_address(granule));
            self.enter(Some((slot, forwarding, granule)));
        }
    }

    /// Advances the rings by one.
    #[inline(always)]
    fn enter(&mut self, entering: Option<(Offset, &'a Forwarding, BlockGranule)>) {
        let next = self.next;
        self.next = (next + 1) % AHEAD;
        let found = std::mem::replace(&mut self.looked_up[next], entering).and_then(|(slot, forwarding, granule)| {
            let entry = forwarding.entry(granule);
            match &entry {
                Some(entry) => prefetch(entry.address()),
                None => self.count_dangling(),
            }
            entry.map(|entry| (slot, entry))
        });
        if let Some((slot, entry)) = std::mem::replace(&mut self.found[next], found) {
            match entry.destination() {
                Some(granule) => self.store(slot, self.in_mutators_view(granule.offset())),
                None => self.count_dangling(),
            }
        }
    }

    /// Rewrites the slots that are still in the rings.
    fn drain(&mut self) {
        (0..2 * AHEAD).for_each(|_| self.enter(None));
    }

    #[cold]
    fn count_dangling(&self) {
        self.pages.dangling.fetch_add(1, Ordering::Relaxed);
    }

    /// Rewrites the value of an ephemeron. Without a key it is undefined, and may refer to no
    /// object; but its key may be on a page that mutators access already, so it is rewritten
    /// whenever possible: one of them may have read the key before another removed it.
    fn rewrite_value(&self, offset: Offset) {
        let word = Word::new(self.load(offset));
        if is_reference(word)
            && let Some(word) = self.moved_if_known(word)
        {
            self.store(offset, word);
        }
    }

    /// The new reference for a word, if it refers to an object that moves.
    fn moved_if_known(&self, word: Word) -> Option<GoodWord> {
        let inner = self.inner;
        let target = inner.memory.space.offset(word.bits());
        let block = (target.bytes() < inner.memory.bytes).then_some(target.block())?;
        let entry = inner.memory.forwarding.of_block(block)?.entry(target.granule().in_block())?;
        entry.destination().map(|granule| self.in_mutators_view(granule.offset()))
    }

    /// Rewrites every word of a page of roots that is a reference. Words above a stack's top, or of
    /// dropped entries, may be dangling; those that refer to no object stay.
    fn roots(&self) {
        let inner = self.inner;
        for slot in Granule::range(self.page.start.granule()..self.page.end.granule()) {
            let offset = slot.offset();
            let word = Word::new(self.load(offset));
            if !is_reference(word) || !inner.memory.space.owns(word.bits()) {
                continue;
            }
            if let Some(word) = self.moved_if_known(word) {
                self.store(offset, word);
            }
        }
    }

    /// Kind and size of the object at an offset.
    #[inline(always)]
    fn header(&self, offset: Offset) -> (&'static Kind, usize) {
        self.inner.memory.object_by(offset, |offset| self.load_constant(offset))
    }

    /// Copies the part of the object at `from` that lies, at its new place `to`, in the page, and
    /// rewrites its slots. With `from == to` it only rewrites. Returns the object's size.
    #[inline(always)]
    fn object(&mut self, from: Offset, to: Offset) -> usize {
        let (kind, bytes) = self.header(from);
        self.part(kind, bytes, from, to);
        bytes
    }

    #[inline(always)]
    fn part(&mut self, kind: &'static Kind, bytes: usize, from: Offset, to: Offset) {
        // The object's bytes that are in the page.
        let part = |end: Offset| end.bytes().saturating_sub(to.bytes()).min(bytes);
        let (low, high) = (part(self.page.start), part(self.page.end));
        if from != to {
            for at in (low..high).step_by(GRANULE_BYTES) {
                self.words.word(to + at).store(self.load(from + at), Ordering::Relaxed);
            }
        }
        if low >= high {
            return;
        }
        let words = low / GRANULE_BYTES..high / GRANULE_BYTES;
        let length = if kind.has_tail() { self.load_constant(from.word(1)) as usize } else { 0 };
        kind.slots_in(words, length).for_each(|group| {
            let first = to.word(group.first);
            bits(group.strong | group.weak | group.keys).for_each(|word| self.rewrite(first.word(word)));
            bits(group.values).for_each(|word| self.rewrite_value(first.word(word)));
        });
    }

    /// A page of a destination block.
    fn produce(&mut self) {
        let inner = self.inner;
        let page = self.page.start.page();
        let Some(mut granule) = self.pages.first(page) else { return };
        loop {
            let source = granule.block();
            let Some(forwarding) = inner.memory.forwarding.of_block(source) else { return };
            for (start, entry) in forwarding.iter_from(granule.in_block()) {
                let Some(to) = entry.destination().map(Granule::offset) else { return };
                if to.block() != page.block() || to >= self.page.end {
                    return;
                }
                self.object(source.granule(start).offset(), to);
            }
            // The plan continues with the next block of the set.
            let Some(next) = self.pages.next_source(source) else { return };
            granule = next.granule(BlockGranule::FIRST);
        }
    }

    /// A page of a block that stays.
    fn in_place(&mut self, block: Block) {
        let inner = self.inner;
        let end = (block.start() + inner.memory.blocks.used_bytes(block)).min(self.page.end);
        if self.page.start >= end {
            return;
        }
        if inner.is_newborn(block) {
            return self.young(block, end);
        }
        if inner.memory.forwarding.of_block(block).is_some() {
            return; // a source
        }
        let first = self.page.start.granule();
        if let Some(before) = inner.memory.marks.last_before(first, block.granule(BlockGranule::FIRST)) {
            self.object(before.offset(), before.offset());
        }
        inner.memory.marks.each_set(self.page.start.page().mark_words(), |granule| {
            self.object(granule.offset(), granule.offset());
        });
    }

    /// A page of a young block: everything in it is live, its objects follow one another.
    fn young(&mut self, block: Block, end: Offset) {
        let page = self.page.start.page();
        let mut offset = match self.pages.first(page) {
            Some(granule) => granule.offset(),
            None => self.walk(block, page),
        };
        while offset < end {
            offset += self.object(offset, offset);
        }
    }

    /// Walks a young block up to a page, and records for each page on the way which object overlaps
    /// its start.
    fn walk(&self, block: Block, until: Page) -> Offset {
        let fill = block.start() + self.inner.memory.blocks.used_bytes(block);
        let mut offset = block.start();
        let mut page = block.pages().start;
        self.pages.set_first(page, offset.granule());
        loop {
            let next = (offset < fill).then(|| offset + self.header(offset).1);
            let end = (block + 1).start();
            while (page + 1).start() < next.map_or(end, |next| next.min(end)) {
                page += 1;
                self.pages.set_first(page, offset.granule());
            }
            match next {
                Some(next) if page < until => offset = next,
                _ => return self.pages.first(until).map_or(fill, Granule::offset),
            }
        }
    }

    /// A page of a large object, which begins in block `head`.
    fn large(&mut self, head: Block) {
        let offset = head.start();
        let (kind, bytes) = self.header(offset);
        if offset + bytes > self.page.start {
            self.part(kind, bytes, offset, offset);
        }
    }
}
