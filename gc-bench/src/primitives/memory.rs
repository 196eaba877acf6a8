//! Memory to measure on. The unsafe half of the groups rests on one rule: a [`Range`] is a
//! reservation of this process that nothing else uses, its words are touched through [`touch`] and
//! [`look`] only, and where a page may be absent the group has seen to it that the touch is served.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gc_core::sys::{self, SysError, Uffd, UffdSource};

/// Bytes of a small page; the figures are of 4 KiB pages.
pub(super) const PAGE: usize = 4096;
/// Bytes of a large page, and of what one page of page tables maps.
pub(super) const HUGE: usize = 2 << 20;

/// Addresses of our own, given back with the value.
pub(super) struct Range {
    pub(super) base: usize,
    pub(super) bytes: usize,
}

impl Range {
    /// A reservation: addresses without access.
    pub(super) fn reserve(bytes: usize, align: usize) -> Result<Self, SysError> {
        Ok(Self { base: sys::reserve(bytes, align)?, bytes })
    }

    /// Private memory in small pages, none of it touched.
    pub(super) fn private(bytes: usize) -> Result<Self, SysError> {
        let range = Self { base: sys::reserve_writable(bytes)?, bytes };
        // A kernel that refuses this has small pages only.
        // SAFETY: the range is ours, and nothing points into it.
        let _ = unsafe { sys::no_huge(range.base, bytes) };
        Ok(range)
    }

    /// Brings every page in.
    pub(super) fn populate(&self) -> Result<(), SysError> {
        // SAFETY: the range is ours; callers have mapped it writable.
        unsafe { sys::populate_write(self.base, self.bytes) }
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and ends here.
        let _ = unsafe { sys::unmap(self.base, self.bytes) };
    }
}

/// Writes a word.
///
/// # Safety
/// The address is a multiple of 8 in a [`Range`] that is mapped writable, or whose fault is served.
#[inline(always)]
pub(super) unsafe fn touch(address: usize) {
    // SAFETY: the caller's.
    unsafe { ptr::with_exposed_provenance_mut::<u64>(address).write_volatile(1) }
}

/// Reads a word.
///
/// # Safety
/// As [`touch`], for reading.
#[inline(always)]
pub(super) unsafe fn look(address: usize) {
    // SAFETY: the caller's.
    unsafe { ptr::with_exposed_provenance::<u64>(address).read_volatile() };
}

/// A descriptor with these features (a set of `UFFD_FEATURE_*`), from the first source that gives
/// one.
pub(super) fn uffd(features: u64) -> Result<Uffd, SysError> {
    let mut refusal = None;
    for source in UffdSource::ALL {
        match sys::open_uffd(source) {
            Ok(uffd) => return sys::uffd_api(&uffd, features).map(|_| uffd),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.expect("there are sources"))
}

/// A thread that runs and does nothing, so that its processor has to be told when page tables
/// change.
pub(super) struct Spinner {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    beats: AtomicU64,
}

impl Spinner {
    /// Starts it, and returns when it runs. `None` where there is one processor: it would take
    /// turns with us.
    pub(super) fn start() -> Option<Self> {
        if thread::available_parallelism().map_or(1, usize::from) < 2 {
            return None;
        }
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let mut beats = 0;
            while !own.stop.load(Ordering::Relaxed) {
                beats += 1;
                own.beats.store(beats, Ordering::Relaxed);
            }
        });
        while shared.beats.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        Some(Self { shared, thread: Some(thread) })
    }

    /// Whether it runs beside this thread at this moment. A scheduler may have it wait, or wait for
    /// this very processor.
    pub(super) fn runs_now(&self) -> bool {
        // Longer than it takes to see another processor's store, and far shorter than a time slice.
        const SOON: Duration = Duration::from_micros(20);
        let beats = || self.shared.beats.load(Ordering::Relaxed);
        let (began, before) = (Instant::now(), beats());
        while beats() == before && began.elapsed() < SOON {
            std::hint::spin_loop();
        }
        beats() != before && began.elapsed() < 2 * SOON
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Why a row with a [`Spinner`] is left out.
pub(super) const ONE_PROCESSOR: &str = "there is one processor, so no second thread runs at the same time";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spinner_beats_until_it_goes() {
        let Some(spinner) = Spinner::start() else { return };
        // On a busy machine it may have to wait for its turn.
        while !spinner.runs_now() {
            thread::yield_now();
        }
        let shared = Arc::clone(&spinner.shared);
        drop(spinner);
        let stopped = Spinner { shared, thread: None };
        assert!(!stopped.runs_now(), "its thread has ended");
    }
}
