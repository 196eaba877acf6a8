//! Restoring a repaired part of a flipped view: its page tables at once, or page by page.

use gc_core::sys::{
    self, Access, HeapFile, RegisterMode, SysError, UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_SIGBUS, Uffd,
};

use super::effort::{Effort, timed};
use super::memory::{HUGE, Range, uffd};
use super::reporter::{Reporter, What};
use super::row::{Per, ZAP_AND_CONTINUE};

/// Bytes of the view.
const VIEW: usize = 256 << 20;
const QUICK_VIEW: usize = 64 << 20;
const CHUNKS: [usize; 6] = [2 << 20, 4 << 20, 8 << 20, 16 << 20, 32 << 20, 64 << 20];
const QUICK_CHUNKS: [usize; 3] = [2 << 20, 8 << 20, 32 << 20];

pub(super) fn measure(to: &mut Reporter) {
    let (bytes, chunks) = if to.effort.quick { (QUICK_VIEW, &QUICK_CHUNKS[..]) } else { (VIEW, &CHUNKS[..]) };
    let flipped = Flipped::new(bytes);
    for &chunk in chunks {
        for (name, back) in [
            ("mremap(FIXED|DONTUNMAP) back", Flipped::moved_back as Back),
            (ZAP_AND_CONTINUE, Flipped::zapped_and_continued),
        ] {
            let what = What { name, bytes: chunk, per: Per::Call, since: "Linux 5.14" };
            to.row(what, |effort| flipped.as_ref().map_err(|e| *e)?.chunks(chunk, back, effort));
        }
    }
}

/// A view whose page tables went to another place.
struct Flipped {
    uffd: Uffd,
    view: Range,
    from: Range,
}

type Back = unsafe fn(&Flipped, usize, usize) -> Result<(), SysError>;

impl Flipped {
    fn new(bytes: usize) -> Result<Self, SysError> {
        let uffd = uffd(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM)?;
        let file = HeapFile::new("primitives", bytes)?;
        let (view, from) = (Range::reserve(bytes, 1 << 30)?, Range::reserve(bytes, 1 << 30)?);
        // SAFETY: the range is ours. The mapping keeps the file, its descriptor may go.
        unsafe { sys::map_file_at(view.base, &file, 0, bytes, Access::ReadWrite)? };
        Ok(Self { uffd, view, from })
    }

    /// Flips the view, each page of it present before.
    fn flip(&self) -> Result<(), SysError> {
        let (view, bytes) = (self.view.base, self.view.bytes);
        self.view.populate()?;
        // SAFETY: both ranges are ours, and nobody touches the view while it has no pages.
        unsafe {
            sys::move_page_tables(view, bytes, self.from.base)?;
            sys::uffd_register(&self.uffd, view, bytes, RegisterMode::MINOR)
        }
    }

    /// # Safety
    /// The chunk lies in the view, which is flipped.
    unsafe fn moved_back(&self, offset: usize, len: usize) -> Result<(), SysError> {
        // SAFETY: both ranges are ours.
        unsafe { sys::move_page_tables(self.from.base + offset, len, self.view.base + offset) }.map_err(SysError::from)
    }

    /// # Safety
    /// As [`moved_back`](Self::moved_back).
    unsafe fn zapped_and_continued(&self, offset: usize, len: usize) -> Result<(), SysError> {
        // SAFETY: both ranges are ours.
        unsafe {
            sys::discard(self.from.base + offset, len)?;
            // A large range at once would keep everybody else from the memory map for long.
            for piece in (offset..offset + len).step_by(HUGE) {
                sys::uffd_continue(&self.uffd, self.view.base + piece, HUGE, false)?;
            }
        }
        Ok(())
    }

    /// Flips, and gives every chunk back; over and over.
    fn chunks(&self, chunk: usize, back: Back, effort: Effort) -> Result<Vec<f64>, SysError> {
        effort.rounds(|samples| {
            self.flip()?;
            let given = (0..self.view.bytes).step_by(chunk).try_for_each(|offset| {
                // SAFETY: the chunk lies in the view.
                samples.push(timed(|| unsafe { back(self, offset, chunk) })?);
                Ok(())
            });
            // Also where a chunk was refused: what is absent then comes from the file, and the next
            // row finds a whole view.
            // SAFETY: the range is ours.
            unsafe { sys::uffd_unregister(&self.uffd, self.view.base, self.view.bytes)? };
            given
        })
    }
}
