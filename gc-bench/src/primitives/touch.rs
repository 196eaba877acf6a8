//! What touching memory costs: for the first time, through a second view, with large pages, and
//! giving it back.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use gc_core::sys::{self, Access, HeapFile, SysError};

use super::effort::{time, timed};
use super::memory::{HUGE, PAGE, Range, look, touch};
use super::reporter::{Reporter, What};
use super::row::{Per, WRITE_FAULT};

/// Bytes that are touched page by page.
const BYTES: usize = 64 << 20;
const QUICK_BYTES: usize = 8 << 20;
/// The kernel maps so much around a page that is read, where the file has it.
const AROUND: usize = 64 << 10;

pub(super) fn measure(to: &mut Reporter) {
    let bytes = if to.effort.quick { QUICK_BYTES } else { BYTES };
    first_touches(to, bytes);
    second_views(to, bytes);
    holes(to, bytes);
    large_pages(to, bytes);
}

fn page(name: &str) -> What<'_> {
    What { name, bytes: PAGE, per: Per::Page, since: "" }
}

fn large<'a>(name: &'a str, since: &'static str) -> What<'a> {
    What { name, bytes: HUGE, per: Per::Page, since }
}

fn large_call<'a>(name: &'a str, since: &'static str) -> What<'a> {
    What { name, bytes: HUGE, per: Per::Call, since }
}

/// A file, and two places to map all of it.
struct Twice {
    file: HeapFile,
    first: Range,
    second: Range,
}

impl Twice {
    fn new(bytes: usize) -> Result<Self, SysError> {
        let file = HeapFile::new("primitives", bytes)?;
        let twice = Self { file, first: Range::reserve(bytes, HUGE)?, second: Range::reserve(bytes, HUGE)? };
        twice.map(&twice.first)?;
        Ok(twice)
    }

    /// The same, with every page of the file there, and in the first view.
    fn full(bytes: usize) -> Result<Self, SysError> {
        let twice = Self::new(bytes)?;
        twice.first.populate()?;
        Ok(twice)
    }

    /// Maps the file anew: no page of it is in that view then.
    fn map(&self, at: &Range) -> Result<(), SysError> {
        // SAFETY: the range is ours.
        unsafe { sys::map_file_at(at.base, &self.file, 0, at.bytes, Access::ReadWrite) }
    }
}

/// One sample a step: its time over its pages.
fn steps(range: &Range, step: usize, samples: &mut Vec<f64>, mut each: impl FnMut(usize)) {
    let pages = (step / PAGE) as f64;
    samples.extend((range.base..range.base + range.bytes).step_by(step).map(|at| time(|| each(at)) / pages));
}

/// Writes to each page of a mapped range.
fn write_pages(range: &Range, samples: &mut Vec<f64>) {
    // SAFETY: the callers have mapped the range writable.
    steps(range, PAGE, samples, |at| unsafe { touch(at) });
}

fn first_touches(to: &mut Reporter, bytes: usize) {
    to.row(page("first touch: page of a new file"), |_| {
        let new = Twice::new(bytes)?;
        let mut samples = Vec::new();
        write_pages(&new.first, &mut samples);
        Ok(samples)
    });
    to.row(page("first touch: private page"), |_| {
        let new = Range::private(bytes)?;
        let mut samples = Vec::new();
        write_pages(&new, &mut samples);
        Ok(samples)
    });
    to.row(page("first touch: page of a punched hole"), |effort| {
        let used = Twice::full(bytes)?;
        effort.rounds(|samples| {
            used.file.punch_hole(0, bytes)?;
            write_pages(&used.first, samples);
            Ok(())
        })
    });
    to.row(large("first touch: MADV_POPULATE_WRITE", "Linux 5.14"), |effort| {
        let used = Twice::full(bytes)?;
        effort.rounds(|samples| {
            used.file.punch_hole(0, bytes)?;
            populate_pieces(&used.first, samples)
        })
    });
}

/// Populates 2 MiB at a time; samples are of a page.
fn populate_pieces(range: &Range, samples: &mut Vec<f64>) -> Result<(), SysError> {
    for at in (range.base..range.base + range.bytes).step_by(HUGE) {
        // SAFETY: the range is ours, mapped and writable.
        samples.push(timed(|| unsafe { sys::populate_write(at, HUGE) })? / (HUGE / PAGE) as f64);
    }
    Ok(())
}

fn second_views(to: &mut Reporter, bytes: usize) {
    let twice = Twice::full(bytes);
    let mut row = |what: What<'_>, round: fn(&Twice, &mut Vec<f64>) -> Result<(), SysError>| {
        to.row(what, |effort| {
            let twice = twice.as_ref().map_err(|e| *e)?;
            effort.rounds(|samples| {
                twice.map(&twice.second)?;
                round(twice, samples)
            })
        });
    };
    row(page(WRITE_FAULT), |twice, samples| {
        write_pages(&twice.second, samples);
        Ok(())
    });
    let read = What { name: "second view: read faults, 64 KiB in order", bytes: AROUND, per: Per::Page, since: "" };
    row(read, |twice, samples| {
        steps(&twice.second, AROUND, samples, |at| {
            for page in (at..at + AROUND).step_by(PAGE) {
                // SAFETY: the range is ours and mapped.
                unsafe { look(page) };
            }
        });
        Ok(())
    });
    row(large("second view: MADV_POPULATE_WRITE", "Linux 5.14"), |twice, samples| {
        populate_pieces(&twice.second, samples)
    });
}

fn holes(to: &mut Reporter, bytes: usize) {
    to.row(large_call("FALLOC_FL_PUNCH_HOLE, 4 KiB pages", "Linux 3.5"), |effort| {
        let twice = Twice::full(bytes)?;
        effort.rounds(|samples| {
            twice.first.populate()?;
            punch_pieces(&twice, samples)
        })
    });
}

fn punch_pieces(twice: &Twice, samples: &mut Vec<f64>) -> Result<(), SysError> {
    for offset in (0..twice.first.bytes).step_by(HUGE) {
        samples.push(timed(|| twice.file.punch_hole(offset, HUGE))?);
    }
    Ok(())
}

/// Collapses each 2 MiB of a populated file; samples are of the calls.
fn collapse(twice: &Twice) -> Result<Vec<f64>, SysError> {
    // SAFETY: the range is ours, and each page of it is there.
    let one = |at| timed(|| unsafe { sys::collapse(at, HUGE) });
    (twice.first.base..twice.first.base + twice.first.bytes).step_by(HUGE).map(one).collect()
}

fn large_pages(to: &mut Reporter, bytes: usize) {
    let twice = Twice::full(bytes);
    let mut collapsed = Err("MADV_COLLAPSE made none".to_owned());
    to.row(large_call("MADV_COLLAPSE", "Linux 6.1"), |_| {
        let samples = twice.as_ref().map_err(|e| *e).and_then(collapse);
        match &samples {
            Ok(_) => collapsed = Ok(()),
            Err(error) => collapsed = Err(format!("there is no 2 MiB page: {error}")),
        }
        samples
    });
    collapses_of_other_memory(to, bytes);
    let view = large("second view: write fault, 2 MiB page", "Linux 6.1");
    let hole = large_call("FALLOC_FL_PUNCH_HOLE, 2 MiB page", "Linux 6.1");
    match (&twice, collapsed) {
        (Ok(twice), Ok(())) => {
            to.row(view, |effort| {
                effort.rounds(|samples| {
                    twice.map(&twice.second)?;
                    // SAFETY: the range is ours, mapped and writable.
                    steps(&twice.second, HUGE, samples, |at| unsafe { touch_all(at) });
                    Ok(())
                })
            });
            to.row(hole, |_| {
                let mut samples = Vec::new();
                punch_pieces(twice, &mut samples)?;
                Ok(samples)
            });
        }
        (_, collapsed) => {
            let why = collapsed.err().unwrap_or_else(|| "there is no file".into());
            to.refused(view, why.clone());
            to.refused(hole, why);
        }
    }
    by_setting(to, bytes);
}

/// What else a heap collapses: free memory, memory that a thread touches, and a view of a page that
/// is large already.
fn collapses_of_other_memory(to: &mut Reporter, bytes: usize) {
    to.row(large_call("MADV_COLLAPSE, one page of 512 there", "Linux 6.1"), |_| {
        let twice = Twice::new(bytes)?;
        for at in (twice.first.base..twice.first.base + bytes).step_by(HUGE) {
            // SAFETY: the range is ours, mapped and writable.
            unsafe { touch(at) };
        }
        collapse(&twice)
    });
    to.row(large_call("second view: MADV_COLLAPSE, small pages there", "Linux 6.1"), |_| {
        let twice = Twice::full(bytes)?;
        twice.map(&twice.second)?;
        twice.second.populate()?;
        collapse(&twice)?;
        twice.second.populate()?;
        // SAFETY: the range is ours, and each page of it is there.
        let one = |at| timed(|| unsafe { sys::collapse(at, HUGE) });
        (twice.second.base..twice.second.base + bytes).step_by(HUGE).map(one).collect()
    });
    to.row(large_call("MADV_COLLAPSE: longest touch meanwhile", "Linux 6.1"), |_| {
        let twice = Twice::full(bytes)?;
        twice.map(&twice.second)?;
        longest_touches(&twice)
    });
}

/// Collapses each 2 MiB while another thread touches its pages through the second view; samples are
/// of the longest touch of each.
fn longest_touches(twice: &Twice) -> Result<Vec<f64>, SysError> {
    let (target, longest) = (AtomicUsize::new(twice.second.base), AtomicU64::new(0));
    let toucher = || {
        loop {
            let piece = target.load(Ordering::Acquire);
            if piece == 0 {
                return;
            }
            for page in (piece..piece + HUGE).step_by(PAGE) {
                // SAFETY: the range is ours, mapped and writable.
                let ns = time(|| unsafe { touch(page) });
                // Relaxed: a statistic. A touch of the piece before counts where it ended late.
                longest.fetch_max(ns as u64, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(toucher);
        let pieces = (0..twice.first.bytes).step_by(HUGE);
        let samples = pieces.map(|offset| {
            target.store(twice.second.base + offset, Ordering::Release);
            // Its first touches are behind it.
            thread::sleep(Duration::from_millis(3));
            longest.store(0, Ordering::Relaxed);
            // SAFETY: the range is ours, and each page of it is there.
            unsafe { sys::collapse(twice.first.base + offset, HUGE) }?;
            Ok(longest.load(Ordering::Relaxed) as f64)
        });
        let samples = samples.collect();
        target.store(0, Ordering::Release);
        samples
    })
}

/// Writes to each 4 KiB of a large page.
///
/// # Safety
/// The piece is ours, mapped and writable.
unsafe fn touch_all(piece: usize) {
    for page in (piece..piece + HUGE).step_by(PAGE) {
        // SAFETY: the caller's.
        unsafe { touch(page) };
    }
}

/// Large pages from the first touch on, where the system gives them.
fn by_setting(to: &mut Reporter, bytes: usize) {
    let what = large("first touch: 2 MiB page by shmem_enabled", "Linux 4.8");
    match sys::shmem_huge_pages() {
        Err(error) => to.refused(what, error.to_string()),
        Ok(setting) if setting == "never" || setting == "deny" => {
            to.refused(what, format!("shmem_enabled is {setting}"));
        }
        Ok(_) => to.row(what, |_| {
            let new = Twice::new(bytes)?;
            let mut samples = Vec::new();
            // SAFETY: the range is ours, mapped and writable.
            unsafe {
                sys::huge(new.first.base, bytes)?;
                steps(&new.first, HUGE, &mut samples, |at| touch_all(at));
            }
            Ok(samples)
        }),
    }
}
