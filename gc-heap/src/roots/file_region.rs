//! The part of a heap's file that holds roots, with the page barrier.
//!
//! Threads' frames have one share and stacks and tables the other, so that no number of stacks
//! keeps a thread out of the heap; and the end of the second share is for tables alone, so that
//! process-wide roots can always be created:
//!
//! ```text
//! the heap proper | 512 MiB: the first frames | 16 GiB: stacks and tables | the other frames
//! ```
//!
//! Both shares start close to the heap: a flip costs a flush of translations for each GiB in use. A
//! freed range is reused either at once with its old contents (root slots are written before they
//! are read), or, after the collector has uncommitted it, which it does while no page is gated,
//! coalesced with its neighbours as if it had never been used.
//!
//! Private memory (`Backing::Anonymous`) counts where memory is limited as soon as it is
//! accessible. There the area is opened when a range of it is used for the first time, in parts:
//! small ones at first, and larger ones when there are many, because a flip moves one part after
//! the other. The share of tables is open from the start.

use super::frames::{Frames, GROUP};
use super::free_ranges::FreeRanges;
use crate::lock::Mutex;
use gc_core::sys::{Process, SysError};
use gc_core::views::{Dumps, MIN_SPAN, Parts, Views};
use std::ops::Range;
use std::sync::Arc;

/// Addresses of all frames, and of stacks and tables.
const FRAME_BYTES: usize = 8 << 30;
const STACK_BYTES: usize = 16 << 30;

/// Bytes of the file beyond the heap proper, for the roots of a heap with the page barrier.
/// Addresses, not memory: untouched pages cost nothing.
pub(crate) const ROOT_AREA_BYTES: usize = FRAME_BYTES + STACK_BYTES;

/// The stacks' share begins where the frames' first group ends.
const STACKS: Range<usize> = GROUP..GROUP + STACK_BYTES;

/// Share of tables that stacks may not use: eight million roots.
const FOR_TABLES: usize = 64 << 20;

/// What private memory has to be open from the start, of a heap whose area of roots begins at this
/// offset: the heap proper, and the tables' share.
pub(crate) fn open_at_first(roots_at: usize) -> [Range<usize>; 2] {
    [0..roots_at, roots_at + STACKS.end - FOR_TABLES..roots_at + STACKS.end]
}

/// Bytes that are opened at a time, their multiple, if there are so many parts: a flip needs a
/// system call and a flush of translations for each, and what is open counts as memory, twice while
/// a flip runs.
fn step(parts: usize) -> usize {
    match parts {
        0..16 => MIN_SPAN,
        16..32 => 16 << 20,
        32..48 => 64 << 20,
        _ => 512 << 20,
    }
}

/// The use of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegionKind {
    Frames,
    Stacks,
    Tables,
}

/// The part of a heap's file that holds roots.
pub(crate) struct FileRegion {
    /// Addresses of the area in the mutators' and in the canonical view.
    view: usize,
    canonical: usize,
    /// Offset of the area in the file.
    start: usize,
    process: Process,
    dumps: Option<Arc<Dumps>>,
    /// Of private memory: what is open.
    parts: Option<Arc<Parts>>,
    state: Mutex<Area>,
}

/// Bytes at the bottom of a stack that core dumps contain: its height is unknown to the kernel, and
/// dumping untouched pages would commit them.
const DUMPED_OF_A_STACK: usize = 256 << 10;

/// All offsets are those in the area.
struct Area {
    frames: Frames,
    free: FreeRanges,
    for_tables: FreeRanges,
    /// Pieces of the stacks' share that were given up, still with their memory.
    returned: FreeRanges,
    /// From here on nothing was ever used: of the frames close to the heap and the stacks, and of
    /// the other frames.
    used: [usize; 2],
}

/// The frames' share is in two parts, and no frame in both: they end at multiples of what a frame
/// has at most.
fn from_frames(offset: usize) -> usize {
    if offset < GROUP { offset } else { offset + STACK_BYTES }
}

fn to_frames(offset: usize) -> usize {
    if offset < GROUP { offset } else { offset - STACK_BYTES }
}

impl Area {
    fn note_used(&mut self, end: usize) {
        let part = &mut self.used[usize::from(end > STACKS.end)];
        *part = end.max(*part);
    }
}

impl FileRegion {
    pub(crate) fn new(views: &Views, start: usize) -> FileRegion {
        let (view, canonical) = (views.view(0) + start, views.canonical() + start);
        let [mut free, mut for_tables, returned] = <[FreeRanges; 3]>::default();
        free.give(STACKS.start..STACKS.end - FOR_TABLES);
        for_tables.give(STACKS.end - FOR_TABLES..STACKS.end);
        let area = Area { frames: Frames::new(FRAME_BYTES), free, for_tables, returned, used: [0, STACKS.end] };
        let dumps = views.dumps().cloned();
        let (process, parts) = (Process::current(), views.parts().cloned());
        FileRegion { view, canonical, start, process, dumps, parts, state: Mutex::new(area) }
    }

    /// Addresses of an offset in the mutators' and in the canonical view.
    pub(super) fn addresses(&self, offset: usize) -> (usize, usize) {
        (self.view + offset, self.canonical + offset)
    }

    /// Where an offset is in the file.
    pub(super) fn in_file(&self, offset: usize) -> usize {
        self.start + offset
    }

    /// A piece for a stack or a table. `Err(None)`: no addresses are left; for a table the only
    /// error.
    pub(super) fn take(&self, bytes: usize, share: RegionKind) -> Result<Range<usize>, Option<SysError>> {
        let mut area = self.state.lock();
        // Prefer ranges that are still committed: otherwise short-lived stacks commit more and more
        // memory until the next cycle.
        let taken = area.returned.take(bytes).or_else(|| area.free.take(bytes)).ok_or(None);
        let opened = taken.and_then(|offset| match self.open(offset..offset + bytes) {
            Ok(()) => Ok(offset),
            Err(refused) => {
                // It was never open, so nothing of it is committed.
                area.free.give(offset..offset + bytes);
                Err(Some(refused))
            }
        });
        let offset = match opened {
            Err(_) if share == RegionKind::Tables => area.for_tables.take(bytes).ok_or(None),
            opened => opened,
        }?;
        area.note_used(offset + bytes);
        drop(area);
        self.dump(offset, if share == RegionKind::Stacks { bytes.min(DUMPED_OF_A_STACK) } else { bytes });
        Ok(offset..offset + bytes)
    }

    /// Makes a range accessible, with as much around it as is opened at a time.
    fn open(&self, range: Range<usize>) -> Result<(), SysError> {
        let Some(parts) = &self.parts else { return Ok(()) };
        if parts.is_open(self.start + range.start..self.start + range.end) {
            return Ok(());
        }
        let open = |step: usize| {
            let end = range.end.next_multiple_of(step).min(ROOT_AREA_BYTES);
            parts.open(self.start + range.start / step * step..self.start + end)
        };
        // Where that is too much, what is needed.
        open(step(parts.count())).or_else(|_| open(MIN_SPAN))
    }

    /// A frame for another thread. `Err(None)`: there are as many as there may be.
    pub(super) fn take_frame(&self) -> Result<Range<usize>, Option<SysError>> {
        let mut area = self.state.lock();
        let frame = area.frames.take().ok_or(None)?;
        let (start, len) = (from_frames(frame.start), frame.len());
        if let Err(refused) = self.open(start..start + len) {
            area.frames.release(frame.start);
            return Err(Some(refused));
        }
        area.note_used(start + len);
        drop(area);
        self.dump(start, len);
        Ok(start..start + len)
    }

    /// Extends a frame in place. Returns its new length, if there is room.
    pub(super) fn grow_frame(&self, start: usize) -> Option<usize> {
        let mut area = self.state.lock();
        let at = to_frames(start);
        let len = area.frames.grow(at)? - at;
        // Refused: the next attempt tries again.
        self.open(start..start + len).ok()?;
        area.note_used(start + len);
        drop(area);
        self.dump(start, len);
        Some(len)
    }

    fn dump(&self, offset: usize, len: usize) {
        self.dumps.iter().for_each(|dumps| dumps.note_if_few(self.start + offset, len));
    }

    /// Releases a range.
    pub(super) fn release(&self, share: RegionKind, piece: Range<usize>) {
        // In a child made by `fork` the lock may be held for ever, and nobody will use the piece
        // again.
        if self.process.is_current() {
            let area = &mut *self.state.lock();
            match share {
                RegionKind::Frames => area.frames.release(to_frames(piece.start)),
                // A table's pieces are given up with the heap.
                RegionKind::Stacks | RegionKind::Tables => area.returned.give(piece),
            }
        }
    }

    /// Offsets in the file that may hold roots.
    pub(crate) fn used(&self) -> [Range<usize>; 2] {
        let [near, far] = self.state.lock().used;
        [self.start..self.start + near, self.start + STACKS.end..self.start + far]
    }

    /// Uncommits the memory of released ranges. Called while no page is gated.
    pub(crate) fn uncommit_released(&self, views: &Views) {
        let (stacks, frames) = {
            let area = &mut *self.state.lock();
            (area.returned.take_all(), area.frames.take_returned())
        };
        // A range that stays committed is used again with its contents: root slots are written
        // before they are read.
        for piece in stacks {
            let _ = views.uncommit(self.start + piece.start, piece.len());
            self.state.lock().free.give(piece);
        }
        for frame in frames {
            let _ = views.uncommit(self.start + from_frames(frame.start), frame.len());
            self.state.lock().frames.forget(frame.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roots::region::RootMemory;
    use crate::{Backing, Barrier, Heap, MIN_HEAP_BYTES};

    /// Each costs a flip a system call.
    #[test]
    fn however_much_is_open_it_is_in_few_parts() {
        let builder = Heap::builder().max_bytes(MIN_HEAP_BYTES).barrier(Barrier::Page).backing(Backing::Anonymous);
        // Where this machine refuses the page barrier there is nothing to test.
        let Ok(heap) = builder.build() else { return };
        let RootMemory::Gated(area) = &heap.inner().roots.memory else { panic!("the page barrier's") };
        let parts = area.parts.as_ref().unwrap();
        let frames: Vec<_> = std::iter::from_fn(|| area.take_frame().ok()).take(3000).collect();
        let stacks: Vec<_> = (0..3000).map(|_| area.take(1 << 20, RegionKind::Stacks).unwrap()).collect();
        assert!(frames.len() == 3000 && parts.count() < 150, "{} frames, {} parts", frames.len(), parts.count());
        // What is open already opens nothing around it.
        let count = parts.count();
        frames.iter().chain(&stacks).for_each(|range| area.open(range.clone()).unwrap());
        assert_eq!(parts.count(), count);
        for range in frames.iter().chain(&stacks) {
            for at in [range.start, range.end - 8] {
                // SAFETY: the range was taken, so it is mapped, accessible, and nobody else's.
                unsafe { std::ptr::with_exposed_provenance_mut::<u64>(area.addresses(at).0).write(1) };
            }
        }
    }

    /// No cycle runs meanwhile: what each has touched would stay.
    #[test]
    fn stacks_that_come_and_go_use_the_same_memory() {
        let builder = Heap::builder().max_bytes(MIN_HEAP_BYTES).barrier(Barrier::Page);
        // Where this machine refuses the page barrier there is nothing to test.
        let Ok(heap) = builder.build() else { return };
        let RootMemory::Gated(area) = &heap.inner().roots.memory else { panic!("the page barrier's") };
        let first = area.take(1 << 20, RegionKind::Stacks).unwrap();
        area.release(RegionKind::Stacks, first.clone());
        for bytes in [1 << 20, 64 << 10, 1 << 19] {
            let next = area.take(bytes, RegionKind::Stacks).unwrap();
            assert!(first.start <= next.start && next.end <= first.end, "{next:?} after {first:?}");
            area.release(RegionKind::Stacks, next);
        }
    }
}
