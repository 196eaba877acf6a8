//! Pages let in ahead of the touch by a thread that has many to let in: what a collector thread
//! does after a flip.

use gc_core::sys::{SysError, UFFD_FEATURE_SIGBUS};

use super::effort::{Effort, timed};
use super::fault::{Absent, Kind};
use super::memory::PAGE;
use super::reporter::{Reporter, What};
use super::row::Per;

/// Pages of a range that is filled over and over.
const RANGE_PAGES: usize = 4096;
const SIZES: [usize; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
const QUICK_SIZES: [usize; 4] = [1, 8, 64, 512];

pub(super) fn measure(to: &mut Reporter) {
    let sizes = if to.effort.quick { &QUICK_SIZES[..] } else { &SIZES };
    for kind in Kind::ALL {
        for &pages in sizes {
            let what = What { name: kind.name(), bytes: pages * PAGE, per: Per::Page, since: kind.since() };
            to.row(what, |effort| batches(kind, pages, effort));
        }
    }
}

/// Samples are of a page: the call's time over its pages.
fn batches(kind: Kind, pages: usize, effort: Effort) -> Result<Vec<f64>, SysError> {
    let absent = Absent::new(kind, RANGE_PAGES * PAGE, UFFD_FEATURE_SIGBUS)?;
    let (len, whole) = (pages * PAGE, RANGE_PAGES * PAGE);
    effort.rounds(|samples| {
        absent.empty()?;
        for offset in (0..whole).step_by(len) {
            let mut came = 0;
            let took = timed(|| absent.bring(offset, len, false).map(|n| came = n))?;
            // A call that the kernel broke off says nothing about a whole one.
            if came == len {
                samples.push(took / pages as f64);
            }
        }
        Ok(())
    })
}
