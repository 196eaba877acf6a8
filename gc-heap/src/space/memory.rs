//! The heap's memory: its views, its blocks, and the tables that say what is in them.

use crate::lock::Mutex;
use crate::object::Kind;
use crate::object::header::{Header, object_bytes};
use crate::refused::Noted;
use crate::space::blocks::{BlockState, BlockTable};
use crate::space::free::FreeSpace;
use crate::space::{BLOCK_BYTES, BLOCK_GRANULES, Block, GRANULE_BYTES, Offset, PAGE_BYTES};
use gc_core::bitmap::MarkBitmap;
use gc_core::color::AddressSpace;
use gc_core::forwarding::{Entry, Forwarding, before_reuse};
use gc_core::grey::GreyBlocks;
use gc_core::length;
use gc_core::remembered::RememberedSet;
use gc_core::views::{Gate, Views};
use gc_core::zeroed::{NoMemory, zeroed};
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// The memory of one heap.
pub(crate) struct Memory {
    pub(crate) views: Arc<Views>,
    pub(crate) space: AddressSpace,
    pub(crate) blocks: BlockTable,
    pub(crate) free: FreeSpace,
    pub(crate) marks: MarkBitmap,
    /// Of all objects; with generations of young ones.
    pub(crate) forwarding: ForwardingTable,
    /// Of the marking that runs: blocks with marked but unscanned objects. Between markings it is
    /// empty, and so are the next two.
    pub(crate) greys: GreyBlocks,
    /// Blocks with weak slots that are in no marker's list.
    pub(crate) weak_blocks: GreyBlocks,
    /// Blocks with pairs that are in no list.
    pub(crate) pair_blocks: GreyBlocks,
    /// Held by the thread that makes an array longer, and where a large object's generation changes
    /// while mutators run. Never over a safepoint.
    pub(crate) growing: Mutex<()>,
    /// What generations add.
    pub(crate) generations: Option<Generations>,
    /// Bytes of the heap's offsets: its maximum, or a multiple of that.
    pub(crate) bytes: usize,
}

/// The words of a heap's file through one view, which is never gated.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    base: usize,
    bytes: usize,
    _memory: PhantomData<&'a Memory>,
}

impl<'a> Words<'a> {
    /// The word at an offset.
    #[inline(always)]
    pub(crate) fn word(self, offset: Offset) -> &'a AtomicU64 {
        debug_assert!(offset.bytes() < self.bytes && offset.bytes().is_multiple_of(GRANULE_BYTES));
        // SAFETY: the view maps `bytes` from `base` on, readable and writable as long as the heap's
        // memory; every word is accessed atomically by the collector and by threads that repair
        // pages, and offsets below `bytes` are all that ever get here.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(self.base + offset.bytes()) }
    }
}

impl Memory {
    /// Of `bytes` of offsets, at most `max_bytes` of which have memory at once. What the system
    /// refuses to uncommit is noted in `refusals`.
    pub(crate) fn new(
        views: Views,
        bytes: usize,
        max_bytes: usize,
        reserve: usize,
        refusals: &Arc<Noted>,
    ) -> Result<Memory, NoMemory> {
        let (blocks, limit) = (bytes / BLOCK_BYTES, max_bytes / BLOCK_BYTES);
        let (views, refusals) = (Arc::new(views), Arc::clone(refusals));
        let file = Arc::clone(&views);
        let uncommit = move |run: &[Block]| {
            let gone = file.uncommit(run[0].start().bytes(), run.len() * BLOCK_BYTES);
            gone.map_err(|error| refusals.note(error)).is_ok()
        };
        Ok(Memory {
            space: match views.has_generations() {
                false => AddressSpace::new(views.base() as u64, views.span() as u64),
                true => AddressSpace::of_generations(views.base() as u64, views.span() as u64),
            },
            generations: if views.has_generations() { Some(Generations::new(blocks)?) } else { None },
            blocks: BlockTable::new(blocks)?,
            free: FreeSpace::limited(blocks, limit, reserve, uncommit)?.dumped(views.dumps().cloned()),
            marks: MarkBitmap::new(blocks * BLOCK_GRANULES)?,
            forwarding: ForwardingTable::new(blocks)?,
            greys: GreyBlocks::new(blocks)?,
            weak_blocks: GreyBlocks::new(blocks)?,
            pair_blocks: GreyBlocks::new(blocks)?,
            growing: Mutex::default(),
            views,
            bytes,
        })
    }

    /// Blocks that may have memory at once: the heap's maximum.
    pub(crate) fn max_blocks(&self) -> usize {
        self.free.limit()
    }

    /// The word at an offset, through the canonical view.
    #[inline(always)]
    pub(crate) fn word(&self, offset: Offset) -> &AtomicU64 {
        Words { base: self.views.canonical(), bytes: self.bytes, _memory: PhantomData }.word(offset)
    }

    /// The words of the whole file, those of roots included, through the canonical view.
    pub(crate) fn words(&self) -> Words<'_> {
        Words { base: self.views.canonical(), bytes: self.views.bytes(), _memory: PhantomData }
    }

    /// As [`words`](Self::words), through the view in which this heap's `gate` has pages repaired.
    pub(crate) fn words_for_repair(&self, gate: &Gate) -> Words<'_> {
        Words { base: gate.repair_base(), ..self.words() }
    }

    /// The kind and the size of the object at an offset.
    #[inline(always)]
    pub(crate) fn object(&self, offset: Offset) -> (&'static Kind, usize) {
        self.object_by(offset, |offset| self.word(offset).load(Ordering::Relaxed))
    }

    /// As [`object`](Self::object), with a function that reads the words of the heap.
    ///
    /// Offsets that come here are those of objects: references lead there, mark bits and entries of
    /// a forwarding stand for them, or the object before ends there in a young block. A thread that
    /// makes an object writes its header before any of these exists, no thread changes its kind,
    /// and none its size but the one that makes an array longer, and only the collector, which
    /// calls this, frees the block (after a flip also threads that repair a page call it, and
    /// blocks that were in use stay so until all pages are repaired).
    #[inline(always)]
    pub(crate) fn object_by(&self, offset: Offset, load: impl Fn(Offset) -> u64) -> (&'static Kind, usize) {
        let header = load(offset);
        // SAFETY: a header made by `header_for`, as said above; the length word exists where the
        // header does not say the size.
        unsafe { (Header(header).kind(), object_bytes(header, || load(offset.word(1)))) }
    }

    /// Zeroes `bytes` from an offset on, a multiple of 8 as they are, in the view of mutators that
    /// begins at `view`. The calling thread has allocated the blocks, and there is no object yet.
    pub(crate) fn zero(&self, view: u64, offset: Offset, bytes: usize) {
        self.fill(offset.in_view(view) as usize, bytes, 0);
    }

    /// Writes the same word to `bytes` bytes of the heap from an address on, in the view of
    /// mutators; the calling thread has allocated the block, and they lie in no object, or behind
    /// the length of an array that the thread grows. Where the word is not 0, they begin and end
    /// with one.
    pub(crate) fn fill(&self, address: usize, bytes: usize, word: u64) {
        debug_assert!(self.space.offset(address as u64).bytes() + bytes <= self.bytes);
        if word == 0 {
            // SAFETY: mapped and writable in each view, and no other thread accesses it: nothing
            // refers to memory that a thread has allocated and not made an object of, and nobody
            // but one thread, which has the lock for it, goes past an array's length.
            return unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_bytes(0, bytes) };
        }
        debug_assert!(address.is_multiple_of(8) && bytes.is_multiple_of(8));
        for at in (0..bytes).step_by(8) {
            // SAFETY: as above, and aligned.
            unsafe { std::ptr::with_exposed_provenance_mut::<u64>(address + at).write(word) }
        }
    }

    /// The length of the object at an offset, which has a tail: as it is now, where it grows. All
    /// elements below it are there.
    #[inline(always)]
    pub(crate) fn len_of(&self, offset: Offset) -> usize {
        length::read(self.word(offset.word(1)))
    }

    /// As [`zero`](Self::zero), but only commits the pages: writes the first byte of each.
    pub(crate) fn commit(&self, view: u64, offset: Offset, bytes: usize) {
        debug_assert!(offset.bytes() + bytes <= self.bytes);
        for page in (0..bytes).step_by(PAGE_BYTES) {
            let address = (offset + page).in_view(view) as usize;
            // SAFETY: as in `zero`.
            unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(0) }
        }
    }

    /// The most bytes that forwarding has taken; with generations, of each at its time.
    pub(crate) fn forwarding_peak_bytes(&self) -> usize {
        let old = self.generations.as_ref().map_or(0, |generations| generations.old_forwarding.peak_bytes());
        self.forwarding.peak_bytes() + old
    }

    /// Frees blocks in a row that were taken for a large object, and hold none.
    pub(crate) fn free_unused(&self, first: Block, count: usize) {
        first.run(count).for_each(|block| self.end_use(block));
        self.free.free_blocks(first.run(count));
    }

    /// Clears the mark bits of a block.
    pub(crate) fn clear_marks(&self, block: Block) {
        self.marks.store_words(block.mark_words(), 0);
    }

    /// Marks a whole block: objects allocated in it later are live, and the marker finds their bits
    /// set.
    pub(crate) fn fill_marks(&self, block: Block) {
        self.marks.store_words(block.mark_words(), u64::MAX);
    }

    /// Bytes in blocks that are not free.
    pub(crate) fn used_bytes(&self) -> usize {
        self.free.figures().used * BLOCK_BYTES
    }
}

impl Memory {
    /// Prepares an allocated block for bumping. Nothing can refer into it yet.
    ///
    /// `live`: marking or weak resolution runs, and new objects must count as marked.
    pub(crate) fn open_block(&self, block: Block, epoch: u32, live: bool) {
        self.prepare_block(block);
        if live {
            self.fill_marks(block);
        }
        self.begin_use(block, BlockState::Open, epoch);
    }

    /// Begins the use of an allocated block, for objects that are newborn in the marking `epoch`:
    /// of a TLAB, or a large object. All that is born is young.
    pub(crate) fn begin_use(&self, block: Block, state: BlockState, epoch: u32) {
        self.blocks.set_allocation_epoch(block, epoch);
        self.blocks.set_use(block, state, false);
    }

    /// As [`begin_use`](Self::begin_use), for what is copied: that is old where there are
    /// generations.
    pub(crate) fn begin_target(&self, block: Block, state: BlockState, epoch: u32) {
        self.blocks.set_allocation_epoch(block, epoch);
        self.blocks.set_use(block, state, self.generations.is_some());
    }

    /// Ends the use of a block that holds no live object, before it is given to the free space.
    pub(crate) fn end_use(&self, block: Block) {
        if let Some(generations) = self.generations.as_ref().filter(|_| self.blocks.is_old(block)) {
            generations.remembered.forget(block.granules());
        }
        self.blocks.set_allocation_epoch(block, 0);
        self.blocks.set_use(block, BlockState::Free, false);
    }

    /// As [`open_block`](Self::open_block), for copies.
    pub(crate) fn open_target(&self, block: Block, epoch: u32) {
        self.prepare_block(block);
        self.begin_target(block, BlockState::Open, epoch);
    }

    fn prepare_block(&self, block: Block) {
        before_reuse();
        self.blocks.set_live_bytes(block, 0);
        self.blocks.set_used_bytes(block, 0);
    }

    /// Ends allocation in a block that holds `fill` bytes; an untouched one is freed.
    pub(crate) fn close_block(&self, block: Block, fill: usize) {
        self.blocks.set_used_bytes(block, fill);
        if fill == 0 {
            self.clear_marks(block);
            self.end_use(block);
            self.free.free_blocks([block]);
        } else {
            self.blocks.set_state(block, BlockState::Closed);
        }
    }

    /// The block that a bump region's limit ends, and the bytes bumped.
    pub(crate) fn filled(&self, top: u64, limit: u64) -> (Block, usize) {
        let block = self.space.offset(limit - 1).block();
        (block, BLOCK_BYTES - (limit - top) as usize)
    }
}

/// What a heap with generations keeps beside.
pub(crate) struct Generations {
    /// The forwarding of old objects.
    pub(crate) old_forwarding: ForwardingTable,
    /// The blocks of young objects that the last plan promotes where they stand, one byte each:
    /// their entry in the forwarding of the young. It takes effect with the flip.
    promoted: Box<[AtomicU8]>,
    pub(crate) remembered: RememberedSet,
    /// Whether all slots that have to be remembered are: what was stored since the last walk of all
    /// old objects, and what that walk has found.
    is_complete: AtomicBool,
    /// Whether some block is old, as of the end of the last cycle.
    has_old: AtomicBool,
    /// Whether a young cycle may follow the whole one that runs or begins.
    expects_young: AtomicBool,
    /// Whether all that survives is promoted by the cycle that finds it: in stress mode, and where
    /// a test asks for it.
    promotes_at_once: AtomicBool,
}

impl Generations {
    fn new(blocks: usize) -> Result<Generations, NoMemory> {
        Ok(Generations {
            old_forwarding: ForwardingTable::new(blocks)?,
            promoted: zeroed(blocks)?,
            remembered: RememberedSet::new(blocks * BLOCK_GRANULES)?,
            is_complete: AtomicBool::new(false),
            has_old: AtomicBool::new(false),
            expects_young: AtomicBool::new(true),
            promotes_at_once: AtomicBool::new(false),
        })
    }

    // These are written by the collector alone, outside pauses or in one. Relaxed: other threads
    // read them in pauses.

    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
    }

    pub(crate) fn set_complete(&self, is_complete: bool) {
        self.is_complete.store(is_complete, Ordering::Relaxed);
    }

    pub(crate) fn has_old(&self) -> bool {
        self.has_old.load(Ordering::Relaxed)
    }

    pub(crate) fn set_has_old(&self, has_old: bool) {
        self.has_old.store(has_old, Ordering::Relaxed);
    }

    pub(crate) fn expects_young(&self) -> bool {
        self.expects_young.load(Ordering::Relaxed)
    }

    pub(crate) fn expect_young(&self, expects: bool) {
        self.expects_young.store(expects, Ordering::Relaxed);
    }

    pub(crate) fn promotes_at_once(&self) -> bool {
        self.promotes_at_once.load(Ordering::Relaxed)
    }

    pub(crate) fn promote_at_once(&self) {
        self.promotes_at_once.store(true, Ordering::Relaxed);
    }

    /// Whether a block is promoted where it stands. Asked for stale young words alone.
    pub(crate) fn is_promoted(&self, block: Block) -> bool {
        // Relaxed: written before the flip, and cleared after the handshake that follows the next
        // marking, as the forwarding is.
        self.promoted[block.number()].load(Ordering::Relaxed) != 0
    }

    pub(crate) fn set_promoted(&self, block: Block, promoted: bool) {
        self.promoted[block.number()].store(u8::from(promoted), Ordering::Relaxed);
    }

    /// The blocks that are promoted where they stand.
    pub(crate) fn promoted(&self) -> impl Iterator<Item = Block> {
        Block::new(0).run(self.promoted.len()).filter(|&block| self.is_promoted(block))
    }
}

/// The forwarding tables of the current relocation: the blocks of its set, and the new places of
/// their objects.
///
/// One relocation's forwarding exists at a time: it is dropped after the next marking has remapped
/// every stale slot, and before that marking's plan makes a new one (docs/ARCHITECTURE.md: "Two
/// colors are enough").
pub(crate) struct ForwardingTable {
    /// Null where the block is not in the relocation set.
    table: Box<[AtomicPtr<Forwarding>]>,
    /// Bytes of all, and the most that there were.
    bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
}

/// Bytes that a block's forwarding takes.
fn bytes_of(forwarding: &Forwarding) -> usize {
    size_of::<Forwarding>() + forwarding.objects() * size_of::<u64>()
}

impl ForwardingTable {
    pub(crate) fn new(blocks: usize) -> Result<ForwardingTable, NoMemory> {
        let [bytes, peak_bytes] = Default::default();
        Ok(ForwardingTable { table: zeroed(blocks)?, bytes, peak_bytes })
    }

    /// The most bytes that there ever were.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    /// The block's forwarding, if it is in the relocation set.
    #[inline]
    pub(crate) fn of_block(&self, block: Block) -> Option<&Forwarding> {
        // SAFETY: a non-null pointer came from `Box::into_raw` in `insert`, and `clear` runs only
        // when no thread can be resolving a stale word: after the handshake that follows weak
        // resolution.
        unsafe { self.table[block.number()].load(Ordering::Acquire).as_ref() }
    }

    /// Whether the block is in a relocation set, of this plan or of the last one.
    pub(crate) fn contains(&self, block: Block) -> bool {
        !self.table[block.number()].load(Ordering::SeqCst).is_null()
    }

    /// The entry of the object at a stale offset. `Some(None)`: its block is not in the set and it
    /// stays where it is. `None`: the block is in the set and no live object begins there, so the
    /// reference is to an object that was dead when its block was planned, which only a broken
    /// invariant can produce.
    #[inline]
    pub(crate) fn lookup(&self, offset: Offset) -> Option<Option<Entry<'_>>> {
        match self.of_block(offset.block()) {
            None => Some(None),
            Some(forwarding) => forwarding.entry(offset.granule().in_block()).map(Some),
        }
    }

    /// As `lookup`, for the collector.
    ///
    /// # Panics
    /// Where `lookup` gives `None`.
    #[inline]
    pub(crate) fn entry(&self, offset: Offset) -> Option<Entry<'_>> {
        self.lookup(offset).unwrap_or_else(|| dangling(offset))
    }

    pub(crate) fn insert(&self, block: Block, forwarding: Box<Forwarding>) {
        let bytes = bytes_of(&forwarding);
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak_bytes.fetch_max(bytes, Ordering::Relaxed);
        // SeqCst: before the check for pins (see `handles::pinned`).
        let old = self.table[block.number()].swap(Box::into_raw(forwarding), Ordering::SeqCst);
        debug_assert!(old.is_null());
    }

    /// Drops a block's forwarding. No thread may hold a stale word any more.
    pub(crate) fn clear(&self, block: Block) {
        let old = self.table[block.number()].swap(null_mut(), Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: from `Box::into_raw` in `insert`, and taken out of the table by this swap
            // alone.
            let forwarding = unsafe { Box::from_raw(old) };
            self.bytes.fetch_sub(bytes_of(&forwarding), Ordering::Relaxed);
        }
    }
}

impl Drop for ForwardingTable {
    fn drop(&mut self) {
        Block::new(0).run(self.table.len()).for_each(|block| self.clear(block));
    }
}

#[cold]
#[inline(never)]
fn dangling(offset: Offset) -> ! {
    panic!("heap corrupted: a stale reference to offset {offset:#x}, where no object was live (a missed barrier)")
}
