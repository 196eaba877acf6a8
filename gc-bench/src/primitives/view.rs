//! Making views: a second one of the whole file, and one whose 2 MiB pieces lie in another order
//! than the file's.

use gc_core::sys::{self, Access, HeapFile, SysError};

use super::effort::timed;
use super::memory::{HUGE, Range};
use super::reporter::{Reporter, What};
use super::row::{MMAP_MIRROR, MMAP_PIECE, Per};

/// Pieces of a view in pieces; each may be a mapping of its own.
const PIECES: usize = 128;
const QUICK_PIECES: usize = 32;

pub(super) fn measure(to: &mut Reporter, sizes: &[usize]) {
    for &bytes in sizes {
        mirrors(to, bytes);
    }
    let pieces = if to.effort.quick { QUICK_PIECES } else { PIECES };
    let what = |name| What { name, bytes: HUGE, per: Per::Call, since: "Linux 2.6" };
    // Each piece may be three mappings, and the process has others: stay below a third of what it
    // may have.
    let most = sys::max_map_count().map_or(usize::MAX, |count| count / 3);
    if pieces > most {
        to.left_out(what(MMAP_PIECE), format!("{pieces} pieces are more than a third of vm.max_map_count"));
        return;
    }
    let stage = Pieces::new(pieces);
    for (name, place) in [
        (MMAP_PIECE, Pieces::mapped as Place),
        ("piece: remap_file_pages", Pieces::remapped),
        ("piece: mremap of a populated piece", Pieces::moved),
    ] {
        to.row(what(name), |effort| {
            let stage = stage.as_ref().map_err(|e| *e)?;
            effort.rounds(|samples| stage.round(place, samples))
        });
    }
}

/// No page of the file is touched: making a view costs the same at any size.
fn mirrors(to: &mut Reporter, bytes: usize) {
    let stage = || -> Result<_, SysError> {
        let file = HeapFile::new("primitives", bytes)?;
        let (first, second) = (Range::reserve(bytes, 1 << 30)?, Range::reserve(bytes, 1 << 30)?);
        // SAFETY: the range is ours.
        unsafe { sys::map_file_at(first.base, &file, 0, bytes, Access::ReadWrite)? };
        Ok((file, first, second))
    };
    let stage = stage();
    type Mirror = unsafe fn(&HeapFile, &Range, &Range) -> Result<(), SysError>;
    // SAFETY: called with ranges of our own, the first of them mapped.
    let by_mmap: Mirror = |file, _, to| unsafe { sys::map_file_at(to.base, file, 0, to.bytes, Access::ReadWrite) };
    // SAFETY: as above.
    let by_mremap: Mirror = |_, from, to| unsafe { sys::mirror_at(from.base, from.bytes, to.base) };
    for (name, mirror) in [(MMAP_MIRROR, by_mmap), ("mirror: mremap(old_size = 0)", by_mremap)] {
        let what = What { name, bytes, per: Per::Call, since: "Linux 2.6" };
        to.row(what, |effort| {
            let (file, first, second) = stage.as_ref().map_err(|e| *e)?;
            effort.repeat(|| {
                // SAFETY: the ranges are ours, and nobody touches them.
                unsafe {
                    let took = timed(|| mirror(file, first, second))?;
                    sys::release_to_reservation(second.base, bytes)?;
                    Ok(took)
                }
            })
        });
    }
}

/// A file of pieces, a view of it, and a place for another.
struct Pieces {
    file: HeapFile,
    count: usize,
    linear: Range,
    other: Range,
}

type Place = unsafe fn(&Pieces, usize) -> Result<(), SysError>;

impl Pieces {
    fn new(count: usize) -> Result<Self, SysError> {
        let bytes = count * HUGE;
        let file = HeapFile::new("primitives", bytes)?;
        Ok(Self { file, count, linear: Range::reserve(bytes, HUGE)?, other: Range::reserve(bytes, HUGE)? })
    }

    /// Which piece of the file is shown in which place: neighbours never are neighbours of the
    /// file, or the kernel would make one mapping of two.
    fn offset(&self, place: usize) -> usize {
        (self.count - 1 - place) * HUGE
    }

    /// # Safety
    /// `place` is below `count`.
    unsafe fn mapped(&self, place: usize) -> Result<(), SysError> {
        // SAFETY: the range is ours.
        unsafe {
            sys::map_file_at(self.other.base + place * HUGE, &self.file, self.offset(place), HUGE, Access::ReadWrite)
        }
    }

    /// # Safety
    /// As [`mapped`](Self::mapped).
    unsafe fn remapped(&self, place: usize) -> Result<(), SysError> {
        // SAFETY: the range is ours, a view of the file.
        unsafe { sys::remap_file_pages(self.linear.base + place * HUGE, HUGE, self.offset(place) / sys::page_size()) }
    }

    /// # Safety
    /// As [`mapped`](Self::mapped).
    unsafe fn moved(&self, place: usize) -> Result<(), SysError> {
        // SAFETY: both ranges are ours; the source becomes a hole that the end of the round closes.
        unsafe { sys::move_mapping(self.linear.base + self.offset(place), HUGE, self.other.base + place * HUGE) }
    }

    /// Places every piece once, from a linear view with every page present.
    fn round(&self, place: Place, samples: &mut Vec<f64>) -> Result<(), SysError> {
        let (linear, bytes) = (&self.linear, self.linear.bytes);
        // SAFETY: the ranges are ours. Holes of the last round are filled before another thread of
        // this process, all of which sleep, wants addresses.
        unsafe {
            sys::map_file_at(linear.base, &self.file, 0, bytes, Access::ReadWrite)?;
            linear.populate()?;
            for index in 0..self.count {
                samples.push(timed(|| place(self, index))?);
            }
            sys::release_to_reservation(linear.base, bytes)?;
            sys::release_to_reservation(self.other.base, bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_neighbours_are_neighbours_of_the_file() {
        let pieces = Pieces::new(8).unwrap();
        for place in 1..8 {
            assert_ne!(pieces.offset(place), pieces.offset(place - 1) + HUGE);
        }
    }

    #[test]
    fn each_way_shows_the_piece_it_should() {
        let pieces = Pieces::new(4).unwrap();
        let word = |address: usize| std::ptr::with_exposed_provenance_mut::<u64>(address);
        for (place, shows) in [
            (Pieces::mapped as Place, &pieces.other),
            (Pieces::remapped, &pieces.linear),
            (Pieces::moved, &pieces.other),
        ] {
            // SAFETY: ranges of this test; what is read is mapped.
            unsafe {
                sys::map_file_at(pieces.linear.base, &pieces.file, 0, 4 * HUGE, Access::ReadWrite).unwrap();
                (0..4).for_each(|i| word(pieces.linear.base + i * HUGE).write_volatile(i as u64 * 10));
                (0..4).for_each(|i| place(&pieces, i).unwrap());
                for i in 0..4 {
                    assert_eq!(word(shows.base + i * HUGE).read_volatile(), (3 - i as u64) * 10);
                }
                sys::release_to_reservation(pieces.linear.base, 4 * HUGE).unwrap();
                sys::release_to_reservation(pieces.other.base, 4 * HUGE).unwrap();
            }
        }
    }
}
