//! Unmapping a populated view: the calls of a flip, and the other ways to make every access fault.
//!
//! One file, as large as the largest size, is populated once; each size is a view of its first
//! bytes.

use std::cell::Cell;

use gc_core::sys::{self, Access, HeapFile, RegisterMode, SysError, UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_SIGBUS};

use super::effort::{Effort, timed, timed_beside};
use super::memory::{HUGE, ONE_PROCESSOR, Range, Spinner, uffd};
use super::reporter::{Reporter, What};
use super::row::{MPROTECT, Per};
use crate::machine;
use crate::size::bytes;

/// What one page of the upper level of page tables maps.
const GIB: usize = 1 << 30;
/// Pages are brought in by so many bytes, so that somebody who watches sees it.
const SLICE: usize = 256 << 20;

const MOVE: &str = "MREMAP_DONTUNMAP";
const MOVE_ODD: &str = "MREMAP_DONTUNMAP, ends 2 MiB-aligned";
const MOVE_BESIDE: &str = "MREMAP_DONTUNMAP, second thread runs";
const MOVE_WHOLE: &str = "MREMAP_DONTUNMAP, view of whole GiB";
const MOVE_WHOLE_BESIDE: &str = "MREMAP_DONTUNMAP, whole GiB, second thread runs";
const MOVE_REGISTERED: &str = "MREMAP_DONTUNMAP, range registered";
const MPROTECT_BESIDE: &str = "mprotect(PROT_NONE), second thread runs";
const MMAP: &str = "mmap over it";
const DONTNEED: &str = "MADV_DONTNEED";
const MUNMAP: &str = "munmap";
const REGISTER: &str = "UFFDIO_REGISTER";
const UNREGISTER: &str = "UFFDIO_UNREGISTER";

pub(super) fn measure(to: &mut Reporter, sizes: &[usize]) {
    let whole = |bytes| What { name: "every row", bytes, per: Per::Call, since: "" };
    let available = machine::memory().available_bytes;
    // Page tables of the view and of where it goes: a 512th each; and the process must not be what
    // exhausts the machine.
    let need = |size: usize| (size + size / 128 + (128 << 20)) as u64;
    let (fitting, others): (Vec<usize>, Vec<usize>) = sizes.iter().partition(|&&size| need(size) <= available);
    if let Some(&largest) = fitting.last() {
        match Stage::new(to, largest) {
            Ok(stage) => fitting.iter().for_each(|&size| rows(to, &stage, size)),
            Err(error) => fitting.iter().for_each(|&size| to.refused(whole(size), error.to_string())),
        }
    }
    for size in others {
        let (need, free) = (bytes(need(size)), bytes(available));
        to.left_out(whole(size), format!("it needs {need}, and {free} of memory are available"));
    }
}

/// What takes the time of the measured part.
type Timed<'a, T> = &'a dyn Fn(&mut dyn FnMut() -> Result<(), SysError>) -> Result<T, SysError>;

/// A populated file, a place for a view of it and one for where that goes.
struct Stage {
    file: HeapFile,
    view: Range,
    from: Range,
    /// Bytes of the view that are known to be mapped, each page present; 0 where nothing is known.
    shown: Cell<usize>,
}

impl Stage {
    fn new(to: &Reporter, largest: usize) -> Result<Self, SysError> {
        let file = HeapFile::new("primitives", largest)?;
        let whole = largest.next_multiple_of(GIB);
        let (view, from) = (Range::reserve(whole, GIB)?, Range::reserve(whole + HUGE, GIB)?);
        // SAFETY: the range is ours.
        unsafe { sys::map_file_at(view.base, &file, 0, largest, Access::ReadWrite)? };
        for start in (0..largest).step_by(SLICE) {
            to.progress(&format!("bringing memory in, {} of {}", bytes(start as u64), bytes(largest as u64)));
            // SAFETY: the range is ours, mapped and writable.
            unsafe { sys::populate_write(view.base + start, SLICE.min(largest - start))? };
        }
        // SAFETY: the range is ours.
        unsafe { sys::release_to_reservation(view.base, whole)? };
        Ok(Self { file, view, from, shown: Cell::new(0) })
    }

    /// Maps the first `size` bytes at the view, each page present.
    fn show(&self, size: usize) -> Result<(), SysError> {
        // SAFETY: the range is ours, and mapped writable when it is populated.
        unsafe {
            sys::map_file_at(self.view.base, &self.file, 0, size, Access::ReadWrite)?;
            sys::populate_write(self.view.base, size)
        }
    }

    /// The same, in a view that goes on beyond the end of the file to a whole GiB, so that page
    /// tables move a GiB at a time.
    fn show_whole(&self, size: usize) -> Result<usize, SysError> {
        let whole = size.next_multiple_of(GIB);
        // SAFETY: the range is ours, and only the part that the file has is populated.
        unsafe {
            sys::map_file_at(self.view.base, &self.file, 0, whole, Access::ReadWrite)?;
            sys::populate_write(self.view.base, size)?;
        }
        Ok(whole)
    }

    /// Takes the rest of the GiB away again.
    fn show_part(&self, size: usize) -> Result<(), SysError> {
        let whole = size.next_multiple_of(GIB);
        if whole > size {
            // SAFETY: the range is ours.
            unsafe { sys::release_to_reservation(self.view.base + size, whole - size)? };
        }
        Ok(())
    }

    /// There and back: the way there is what is measured, and the way back leaves things as they
    /// were.
    fn moved<T>(&self, size: usize, to: usize, timed: Timed<T>) -> Result<T, SysError> {
        let view = self.view.base;
        // SAFETY: both ranges are ours, and nobody touches them.
        unsafe {
            let took = timed(&mut || sys::move_page_tables(view, size, to).map_err(SysError::from))?;
            sys::move_page_tables(to, size, view)?;
            Ok(took)
        }
    }

    fn protected<T>(&self, size: usize, timed: Timed<T>) -> Result<T, SysError> {
        // SAFETY: the range is ours, and nobody touches it.
        unsafe {
            let took = timed(&mut || sys::protect(self.view.base, size, Access::None))?;
            sys::protect(self.view.base, size, Access::ReadWrite)?;
            Ok(took)
        }
    }
}

/// What a row does with the stage, for one size.
type Measure = fn(&Stage, usize, Effort) -> Result<Vec<f64>, SysError>;

/// Each row leaves the view as it found it; where one fails, the next maps it anew.
fn row(
    to: &mut Reporter,
    stage: &Stage,
    size: usize,
    (name, since): (&str, &'static str),
    measure: impl FnOnce(Effort) -> Result<Vec<f64>, SysError>,
) {
    to.row(What { name, bytes: size, per: Per::Call, since }, |effort| {
        if stage.shown.get() != size {
            stage.show(size)?;
        }
        // Until the row has left the view as it found it, nobody knows what it is.
        stage.shown.set(0);
        let samples = measure(effort)?;
        stage.shown.set(size);
        Ok(samples)
    });
}

fn rows(to: &mut Reporter, stage: &Stage, size: usize) {
    let alone: [(&str, &'static str, Measure); 10] = [
        (MOVE, "Linux 5.13", |stage, size, effort| {
            effort.repeat(|| stage.moved(size, stage.from.base, &|call| timed(call)))
        }),
        (MOVE_ODD, "Linux 5.13", |stage, size, effort| {
            effort.repeat(|| stage.moved(size, stage.from.base + HUGE, &|call| timed(call)))
        }),
        (MOVE_WHOLE, "Linux 5.13", |stage, size, effort| {
            let whole = stage.show_whole(size)?;
            let samples = effort.repeat(|| stage.moved(whole, stage.from.base, &|call| timed(call)))?;
            stage.show_part(size)?;
            Ok(samples)
        }),
        (MOVE_REGISTERED, "Linux 5.14", registered),
        (MPROTECT, "", |stage, size, effort| effort.repeat(|| stage.protected(size, &|call| timed(call)))),
        (MMAP, "", |stage, size, effort| {
            effort.repeat(|| {
                // SAFETY: the range is ours, and nobody touches it.
                let took = timed(|| Ok(unsafe { sys::release_to_reservation(stage.view.base, size) }?))?;
                stage.show(size)?;
                Ok(took)
            })
        }),
        (DONTNEED, "", |stage, size, effort| {
            effort.repeat(|| {
                // SAFETY: as above.
                let took = timed(|| unsafe { sys::discard(stage.view.base, size) })?;
                stage.show(size)?;
                Ok(took)
            })
        }),
        (MUNMAP, "", |stage, size, effort| {
            effort.repeat(|| {
                // SAFETY: as above; the addresses are ours again before another thread of this
                // process wants any.
                let took = timed(|| unsafe { sys::unmap(stage.view.base, size) })?;
                sys::reserve_at(stage.view.base, size)?;
                stage.show(size)?;
                Ok(took)
            })
        }),
        (REGISTER, "Linux 5.14", |stage, size, effort| registering(stage, size, effort, true)),
        (UNREGISTER, "Linux 5.14", |stage, size, effort| registering(stage, size, effort, false)),
    ];
    for (name, since, measure) in alone {
        // At these sizes it is the row before.
        if name != MOVE_WHOLE || !size.is_multiple_of(GIB) {
            row(to, stage, size, (name, since), |effort| measure(stage, size, effort));
        }
    }
    for (name, since) in [(MOVE_BESIDE, "Linux 5.13"), (MOVE_WHOLE_BESIDE, "Linux 5.13"), (MPROTECT_BESIDE, "")] {
        if name == MOVE_WHOLE_BESIDE && size.is_multiple_of(GIB) {
            continue;
        }
        let Some(other) = Spinner::start() else {
            to.left_out(What { name, bytes: size, per: Per::Call, since }, ONE_PROCESSOR);
            continue;
        };
        row(to, stage, size, (name, since), |effort| {
            let timed: Timed<Option<f64>> = &|call| timed_beside(&other, call);
            let moved = match name {
                MOVE_WHOLE_BESIDE => stage.show_whole(size)?,
                _ => size,
            };
            let samples = effort.repeat_some(|| match name {
                MPROTECT_BESIDE => stage.protected(size, timed),
                _ => stage.moved(moved, stage.from.base, timed),
            })?;
            stage.show_part(size)?;
            Ok(samples)
        });
    }
}

/// The move of a range that a descriptor has: the kernel then looks at each page.
fn registered(stage: &Stage, size: usize, effort: Effort) -> Result<Vec<f64>, SysError> {
    let uffd = uffd(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM)?;
    let view = stage.view.base;
    effort.repeat(|| {
        // SAFETY: the ranges are ours, and nobody touches them while pages are absent.
        unsafe {
            sys::uffd_register(&uffd, view, size, RegisterMode::MINOR)?;
            let took = timed(|| sys::move_page_tables(view, size, stage.from.base).map_err(SysError::from));
            sys::uffd_unregister(&uffd, view, size)?;
            let took = took?;
            sys::move_page_tables(stage.from.base, size, view)?;
            Ok(took)
        }
    })
}

fn registering(stage: &Stage, size: usize, effort: Effort, first: bool) -> Result<Vec<f64>, SysError> {
    let uffd = uffd(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM)?;
    let view = stage.view.base;
    effort.repeat(|| {
        // SAFETY: the range is ours, and every page of it is there.
        unsafe {
            let register = timed(|| sys::uffd_register(&uffd, view, size, RegisterMode::MINOR))?;
            let unregister = timed(|| sys::uffd_unregister(&uffd, view, size))?;
            Ok(if first { register } else { unregister })
        }
    })
}
