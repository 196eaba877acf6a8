//! What a core dump contains of a heap: each used page once, and no unused page.
//!
//! A file that is mapped several times would be dumped as often, and the kernel commits a page for
//! each hole that it dumps: as a file in memory counts as shared anonymous memory (bit 1 of
//! `coredump_filter`, set by default, [`core(5)`]), a crash with little in a large heap would
//! write, and commit, all of that. So of all views only the canonical one is dumped (the others
//! have `MADV_DONTDUMP`), and of that only units that hold a block that was [noted](Dumps::note).
//! `ptrace(2)` and `process_vm_readv(2)` see all views as ever; `gcore` respects the flags as the
//! kernel does.
//!
//! Parts of a mapping with different flags become separate mappings, whose number is limited
//! (`vm.max_map_count`). So units are larger than blocks; and when there are many pieces, first the
//! dispensable blocks are omitted, then no piece is split any more, and at last a new block is
//! dumped together with everything between it and the piece below.
//!
//! [`core(5)`]: https://man7.org/linux/man-pages/man5/core.5.html

use super::bases::Base;
use crate::sys;
use crate::zeroed::{NoMemory, table, zeroed};
use std::iter::repeat;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a unit, which is dumped or not as a whole.
const BLOCK: usize = 64 << 10;

/// Blocks of a word of the bitmap; a whole number of units.
const WORD: usize = 64;

/// Number of pieces above which none is split. Above half of it no dispensable piece is added,
/// above twice of it none at all. A piece costs two mappings.
const MAX_PIECES: usize = 400;

/// Which parts of the canonical view are dumped. Safe to share between threads: it changes the
/// contents of a dump, never a byte of the heap.
#[derive(Debug)]
pub struct Dumps {
    /// Keeps the addresses reserved: all advice concerns ranges in it.
    _base: Arc<Base>,
    canonical: usize,
    bytes: usize,
    /// Blocks of a unit.
    unit: usize,
    /// One bit for each noted block. Changed under the lock.
    noted: Box<[AtomicU64]>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    dumped: Box<[bool]>,
    /// Runs of units that are dumped.
    pieces: usize,
}

impl Dumps {
    /// Creates the record with nothing noted. `unit` is 256 KiB, or 2 MiB if the heap may have
    /// pages of that size.
    pub(super) fn new(base: Arc<Base>, canonical: usize, bytes: usize, huge: bool) -> Result<Dumps, NoMemory> {
        let (blocks, unit) = (bytes.div_ceil(BLOCK), if huge { 32 } else { 4 });
        let noted = zeroed(blocks.div_ceil(WORD))?;
        let dumped = table(blocks.div_ceil(unit), repeat(false))?;
        Ok(Dumps { _base: base, canonical, bytes, unit, noted, state: Mutex::new(State { dumped, pieces: 0 }) })
    }

    /// Includes the blocks of 64 KiB that overlap `offset..offset + len` in dumps. One load for
    /// each 4 MiB if they are included already, otherwise about 2 us for each new unit. If the
    /// kernel refuses, dumps lack them.
    ///
    /// # Panics
    /// If the range is not in the view.
    #[inline]
    pub fn note(&self, offset: usize, len: usize) {
        self.check(offset, len);
        let blocks = offset / BLOCK..(offset + len).div_ceil(BLOCK);
        if words(&blocks).any(|(word, bits)| self.noted[word].load(Ordering::Relaxed) & bits != bits) {
            self.note_new(blocks, false);
        }
    }

    /// As [`note`](Dumps::note), for scattered and dispensable blocks: when there are many pieces,
    /// dumps lack them.
    ///
    /// # Panics
    /// If the range is not in the view.
    pub fn note_if_few(&self, offset: usize, len: usize) {
        self.check(offset, len);
        self.note_new(offset / BLOCK..(offset + len).div_ceil(BLOCK), true);
    }

    #[cold]
    #[inline(never)]
    fn note_new(&self, blocks: Range<usize>, if_few: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (word, bits) in words(&blocks) {
            self.noted[word].fetch_or(bits, Ordering::Relaxed);
        }
        let units = blocks.start / self.unit..blocks.end.div_ceil(self.unit);
        let new: Vec<Range<usize>> = runs(units, |unit| !state.dumped[unit]);
        for mut run in new {
            let mut joined = state.neighbours(&run);
            if joined == 0 && state.pieces >= if if_few { MAX_PIECES / 2 } else { 2 * MAX_PIECES } {
                if if_few {
                    continue;
                }
                let Some(below) = state.dumped[..run.start].iter().rposition(|dumped| *dumped) else { continue };
                (run.start, joined) = (below + 1, 1);
            }
            if self.advise(&run, true) {
                state.dumped[run].fill(true);
                state.pieces = state.pieces + 1 - joined;
            }
        }
    }

    /// Excludes the blocks that lie wholly in `offset..offset + len`, if no other block of their
    /// unit is noted: their memory was uncommitted.
    ///
    /// # Panics
    /// If the range is not in the view.
    pub fn forget(&self, offset: usize, len: usize) {
        self.check(offset, len);
        let blocks = offset.div_ceil(BLOCK)..(offset + len) / BLOCK;
        if blocks.is_empty() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (word, bits) in words(&blocks) {
            self.noted[word].fetch_and(!bits, Ordering::Relaxed);
        }
        let units = blocks.start / self.unit..blocks.end.div_ceil(self.unit);
        let old: Vec<Range<usize>> = runs(units, |unit| state.dumped[unit] && !self.is_noted(unit));
        for run in old {
            let left = state.neighbours(&run);
            if (left < 2 || state.pieces < MAX_PIECES) && self.advise(&run, false) {
                state.dumped[run].fill(false);
                state.pieces = state.pieces + left - 1;
            }
        }
    }

    fn is_noted(&self, unit: usize) -> bool {
        let blocks = unit * self.unit..(unit + 1) * self.unit;
        words(&blocks).any(|(word, bits)| self.noted[word].load(Ordering::Relaxed) & bits != 0)
    }

    fn advise(&self, units: &Range<usize>, dump: bool) -> bool {
        let bytes = |unit: usize| (unit * self.unit * BLOCK).min(self.bytes);
        let (start, end) = (bytes(units.start), bytes(units.end));
        // SAFETY: the range is in the canonical view, whose addresses `_base` holds. The advice
        // changes no byte.
        unsafe { sys::dump(self.canonical + start, end - start, dump) }.is_ok()
    }

    #[track_caller]
    fn check(&self, offset: usize, len: usize) {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.bytes);
        assert!(fits, "{len:#x} bytes at {offset:#x} are not in a view of {:#x}", self.bytes);
    }
}

impl State {
    /// Number of dumped units adjacent to a run: 0 to 2.
    fn neighbours(&self, run: &Range<usize>) -> usize {
        let before = run.start.checked_sub(1).is_some_and(|unit| self.dumped[unit]);
        let behind = self.dumped.get(run.end).copied().unwrap_or(false);
        usize::from(before) + usize::from(behind)
    }
}

/// The bitmap words of a range of blocks, with the bits of each.
fn words(blocks: &Range<usize>) -> impl Iterator<Item = (usize, u64)> + use<> {
    let Range { start, end } = *blocks;
    let words = if start < end { start / WORD..end.div_ceil(WORD) } else { 0..0 };
    words.map(move |word| {
        let (low, high) = (start.max(word * WORD) - word * WORD, end.min((word + 1) * WORD) - word * WORD);
        (word, (u64::MAX >> (WORD - (high - low))) << low)
    })
}

/// The runs of units that are wanted.
fn runs(units: Range<usize>, wanted: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for unit in units.filter(|&unit| wanted(unit)) {
        match runs.last_mut() {
            Some(run) if run.end == unit => run.end += 1,
            _ => runs.push(unit..unit + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_split_into_words() {
        let words = |range: Range<usize>| words(&range).collect::<Vec<_>>();
        assert_eq!(words(0..1), [(0, 1)]);
        assert_eq!(words(63..66), [(0, 1 << 63), (1, 3)]);
        assert_eq!(words(64..128), [(1, u64::MAX)]);
        assert_eq!(words(5..5), []);
    }
}
