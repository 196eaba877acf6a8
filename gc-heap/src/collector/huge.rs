//! Huge pages made in the background: what the collector's thread does between cycles for a heap
//! with [`HugePages::Background`](crate::HugePages::Background).
//!
//! First come free chunks, from the lowest on, which are also those that are allocated next: nobody
//! can touch their memory meanwhile, and the threads that allocate there find it committed. Of
//! these it makes at most twice what the program allocates, so an idle heap commits nothing; and
//! what was uncommitted stays so until the program allocates. Then come chunks in use, with all of
//! their memory there: a thread that touches one waits until the kernel has copied it. A chunk that
//! became huge stays so, whatever comes to lie in it, until it is uncommitted as a whole.
//!
//! One page is made at a time, and the thread waits for requests in between, but for one page after
//! each cycle. So a cycle begins at most that one page later, and no pause waits for a page: the
//! thread that stops the mutators is the one that makes them.

use crate::inner::HeapInner;
use crate::space::blocks::BlockState;
use crate::space::free::{CHUNK_BLOCKS, TakenChunk, blocks_of};
use gc_core::sys::SysError;
use gc_core::views::{HUGE_PAGE, SparePage};
use std::time::{Duration, Instant};

/// Free chunks that a heap makes before the program has allocated anything.
const FIRST: usize = 8;

/// The most free chunks made ahead of what the program allocates.
const AHEAD: usize = 64;

/// Blocks made for each block allocated.
const PER_BLOCK: usize = 2;

/// Rests after the time that a page took, in multiples of it: of a free chunk, whose first touches
/// are saved, and of a chunk in use, whose threads may have waited.
const REST: u32 = 1;
const REST_IN_USE: u32 = 3;

/// Blocks in use, at least, of a chunk that is made huge while it is in use.
const IN_USE: usize = CHUNK_BLOCKS / 2;

/// Chunks looked at, or mapped again, in one step.
const STEP: usize = 64;

/// How long nothing is looked at where nothing was to do: doubled each time.
const QUIET: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(30)];

/// As above, where the kernel has refused.
const REFUSED: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(60)];

/// The service's state.
pub(super) struct HugeChunks {
    /// Blocks allocated by the last step.
    seen: usize,
    /// Blocks that free chunks may have.
    credit: usize,
    /// Blocks uncommitted by the last step.
    given_back: usize,
    /// The chunk in use to look at next, and how many to look at until all have been.
    next: usize,
    left: usize,
    /// Where mapping again goes on, if something is to be mapped again.
    mapping: Option<usize>,
    quiet: Duration,
    refused: Duration,
    /// No attempt before this, whatever happens meanwhile.
    rests_until: Instant,
    /// For chunks in use, so that threads wait for a copy alone. Without it, where the system
    /// refused it, they wait longer.
    spare: Option<SparePage>,
    /// A cycle has ended since the last step: the next one comes before the next cycle.
    is_due: bool,
}

impl HugeChunks {
    pub(super) fn new(inner: &HeapInner) -> HugeChunks {
        let chunks = chunks(inner);
        HugeChunks {
            seen: inner.memory.free.allocated(),
            given_back: inner.memory.free.given_back(),
            credit: FIRST.min(inner.memory.max_blocks() / CHUNK_BLOCKS / 8) * CHUNK_BLOCKS,
            next: 0,
            left: chunks,
            mapping: None,
            quiet: QUIET[0],
            refused: REFUSED[0],
            rests_until: Instant::now(),
            spare: SparePage::new(&format!("{}-spare", inner.config.name)).ok(),
            is_due: false,
        }
    }

    /// Whether a step is due even if a cycle is wanted: one after each, unless threads wait for
    /// memory. Where one cycle follows the other there would be none.
    pub(super) fn is_due(&mut self, inner: &HeapInner) -> bool {
        std::mem::take(&mut self.is_due) && self.rests_for().is_zero() && !inner.memory.free.is_awaited()
    }

    /// How long it rests still from its last attempt.
    pub(super) fn rests_for(&self) -> Duration {
        self.rests_until.saturating_duration_since(Instant::now())
    }

    /// A cycle has ended: other blocks are in use than before.
    pub(super) fn cycle_ended(&mut self, inner: &HeapInner) {
        self.left = chunks(inner);
        self.quiet = QUIET[0];
        self.is_due = true;
        // After a flip pages were installed one by one.
        if inner.relocation.takes_faults() {
            self.mapping = Some(0);
        }
    }

    /// Makes at most one huge page. Returns how long to rest.
    pub(super) fn step(&mut self, inner: &HeapInner) -> Duration {
        let begun = Instant::now();
        let free = &inner.memory.free;
        let new = free.allocated() - std::mem::replace(&mut self.seen, free.allocated());
        self.credit = (self.credit + PER_BLOCK * new).min(AHEAD * CHUNK_BLOCKS);
        // What was uncommitted is not committed again for what was allocated before.
        let given_back = free.given_back();
        if given_back != std::mem::replace(&mut self.given_back, given_back) {
            self.credit = 0;
        }
        if new > 0 {
            self.quiet = QUIET[0];
        }
        if let Some(from) = self.mapping {
            self.mapping = map_again(inner, from);
            if self.mapping.is_some() {
                return begun.elapsed();
            }
        }
        if self.credit >= CHUNK_BLOCKS
            && let Some(taken) = free.take_chunk()
        {
            self.credit -= CHUNK_BLOCKS;
            return self.rest(inner, make_free(inner, taken), REST * begun.elapsed());
        }
        if let Some(made) = self.make_in_use(inner) {
            return self.rest(inner, made, REST_IN_USE * begun.elapsed());
        }
        if self.left > 0 {
            return begun.elapsed();
        }
        let rest = self.quiet;
        self.quiet = (2 * rest).min(QUIET[1]);
        rest
    }

    /// How long to rest after an attempt.
    fn rest(&mut self, inner: &HeapInner, made: Result<(), SysError>, rest: Duration) -> Duration {
        let rest = match made {
            Ok(()) => {
                inner.report.counters.huge_pages_made.add(1);
                (self.quiet, self.refused) = (QUIET[0], REFUSED[0]);
                rest
            }
            Err(error) => {
                inner.report.counters.huge_pages_refused.add(1);
                inner.report.refusals.note(error);
                let rest = self.refused;
                self.refused = (2 * rest).min(REFUSED[1]);
                rest
            }
        };
        self.rests_until = Instant::now() + rest;
        rest
    }

    /// Makes the next chunk that is in use huge, if one of the next few can be.
    fn make_in_use(&mut self, inner: &HeapInner) -> Option<Result<(), SysError>> {
        let chunks = chunks(inner);
        for _ in 0..self.left.min(STEP) {
            let chunk = self.next;
            self.next = (chunk + 1) % chunks;
            self.left -= 1;
            if is_in_use(inner, chunk) && inner.memory.free.begin_chunk(chunk) {
                let warmed = self.spare.as_ref().map_or(Ok(()), SparePage::warm);
                let made = warmed.and_then(|()| inner.memory.views.make_huge(chunk * HUGE_PAGE));
                inner.memory.free.made(chunk, made.is_ok());
                return Some(made);
            }
        }
        None
    }
}

/// Whole chunks of the heap.
fn chunks(inner: &HeapInner) -> usize {
    inner.memory.blocks.len() / CHUNK_BLOCKS
}

fn make_free(inner: &HeapInner, taken: TakenChunk) -> Result<(), SysError> {
    let made = inner.memory.views.make_huge(taken.offset());
    inner.memory.free.return_chunk(taken, made.is_ok());
    made
}

/// Whether a chunk is in use and stays so: much of it holds objects, some of which have survived a
/// marking, and no thread allocates there now, which would wait for the kernel at each page.
fn is_in_use(inner: &HeapInner, chunk: usize) -> bool {
    let (mut used, mut has_survivors) = (0, false);
    for block in blocks_of(chunk) {
        match inner.memory.blocks.state(block) {
            BlockState::Free => {}
            BlockState::Closed | BlockState::LargeFirst | BlockState::LargeContinued => {
                used += 1;
                has_survivors |= !inner.is_newborn(block);
            }
            BlockState::Open | BlockState::LargeUninitialized | BlockState::EvacuationTarget => return false,
        }
    }
    used >= IN_USE && has_survivors
}

/// Maps some huge chunks as such again where a view has them in small pages. Returns where to go
/// on.
fn map_again(inner: &HeapInner, from: usize) -> Option<usize> {
    let mut next = from;
    for _ in 0..STEP {
        let chunk = inner.memory.free.huge_chunk(next)?;
        if let Err(error) = inner.memory.views.map_huge(chunk * HUGE_PAGE) {
            inner.report.refusals.note(error);
        }
        next = chunk + 1;
    }
    Some(next)
}
