//! One access to an absent page, served by the thread itself in its `SIGBUS` handler, or by another
//! that reads the descriptor. A sample is the whole access, as seen by the program.
//!
//! The thread that reads the descriptor makes the calls of the `userfaultfd` crate, as a program
//! would that serves its faults this way; all other calls are `gc_core::sys`.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::thread;
use std::time::Duration;

use gc_core::sys::{
    self, Access, AlternateStack, HeapFile, OldHandler, RegisterMode, SignalContext, SignalFlags, SignalInfo, SysError,
    UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MOVE, UFFD_FEATURE_SIGBUS, Uffd,
};

use userfaultfd::Event;

use super::effort::{Effort, time};
use super::memory::{PAGE, Range, touch, uffd};
use super::reporter::{Reporter, What};
use super::row::{Per, SIGBUS_CONTINUE};

/// How an absent page comes in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The file has it: `UFFDIO_CONTINUE`.
    Continue,
    /// A copy of another page: `UFFDIO_COPY`, here of private memory.
    Copy,
    /// Another page itself: `UFFDIO_MOVE`, private memory.
    Move,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Continue, Self::Copy, Self::Move];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Continue => "UFFDIO_CONTINUE",
            Self::Copy => "UFFDIO_COPY",
            Self::Move => "UFFDIO_MOVE",
        }
    }

    pub(super) fn since(self) -> &'static str {
        match self {
            Self::Continue => "Linux 5.14",
            Self::Copy => "Linux 4.14",
            Self::Move => "Linux 6.8",
        }
    }

    fn feature(self) -> u64 {
        match self {
            Self::Continue => UFFD_FEATURE_MINOR_SHMEM,
            Self::Copy => 0,
            Self::Move => UFFD_FEATURE_MOVE,
        }
    }
}

/// A registered range without pages, and where its pages come from.
pub(super) struct Absent {
    kind: Kind,
    uffd: Uffd,
    /// The range itself.
    pub(super) to: Range,
    /// Pages to copy or move; for [`Kind::Continue`] a view that has every page of the file.
    from: Range,
}

impl Absent {
    pub(super) fn new(kind: Kind, bytes: usize, features: u64) -> Result<Self, SysError> {
        let uffd = uffd(features | kind.feature())?;
        let (to, from) = match kind {
            Kind::Continue => {
                let file = HeapFile::new("primitives", bytes)?;
                let (to, from) = (Range::reserve(bytes, PAGE)?, Range::reserve(bytes, PAGE)?);
                for range in [&to, &from] {
                    // SAFETY: the range is ours. The mappings keep the file, its descriptor may go.
                    unsafe { sys::map_file_at(range.base, &file, 0, bytes, Access::ReadWrite)? };
                }
                (to, from)
            }
            Kind::Copy | Kind::Move => (Range::private(bytes)?, Range::private(bytes)?),
        };
        from.populate()?;
        let mode = if kind == Kind::Continue { RegisterMode::MINOR } else { RegisterMode::MISSING };
        // SAFETY: the range is ours, has no page yet, and whoever touches it is served.
        unsafe { sys::uffd_register(&uffd, to.base, bytes, mode)? };
        Ok(Self { kind, uffd, to, from })
    }

    /// Brings in `len` bytes from `offset` on, and tells how many came. May be called in a signal
    /// handler.
    #[inline]
    pub(super) fn bring(&self, offset: usize, len: usize, wake: bool) -> Result<usize, SysError> {
        let (to, from) = (self.to.base + offset, self.from.base + offset);
        // SAFETY: both ranges are ours, and the bytes mean nothing.
        unsafe {
            match self.kind {
                Kind::Continue => sys::uffd_continue(&self.uffd, to, len, wake),
                Kind::Copy => sys::uffd_copy(&self.uffd, to, from, len, wake),
                Kind::Move => sys::uffd_move(&self.uffd, to, from, len, wake),
            }
        }
    }

    /// Makes every page absent again.
    pub(super) fn empty(&self) -> Result<(), SysError> {
        // SAFETY: both ranges are ours; the one that is populated is writable.
        unsafe { sys::discard(self.to.base, self.to.bytes)? };
        if self.kind == Kind::Move { self.from.populate() } else { Ok(()) }
    }
}

impl Drop for Absent {
    fn drop(&mut self) {
        // SAFETY: the range is ours. A thread that still waits for a page of it goes on.
        let _ = unsafe { sys::uffd_unregister(&self.uffd, self.to.base, self.to.bytes) };
    }
}

/// What the handler serves; null while nothing is measured.
static SERVED: AtomicPtr<Absent> = AtomicPtr::new(ptr::null_mut());
static OLD: OnceLock<OldHandler> = OnceLock::new();

/// Brings in the page that was touched. Every other signal is passed on to the previous handler.
extern "C" fn serve(_: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    sys::preserve_errno(|| {
        // SAFETY: the value outlives the time it is stored there, and only this thread touches its
        // range.
        let served = unsafe { SERVED.load(Ordering::Acquire).as_ref() };
        // SAFETY: the kernel's own pointer, of a fault.
        let address = unsafe { sys::absent_page(info) };
        if let Some(absent) = served
            && let Some(offset) = address.and_then(|address| address.checked_sub(absent.to.base))
            && offset < absent.to.bytes
            && absent.bring(offset & !(PAGE - 1), PAGE, false).is_ok()
        {
            return;
        }
        if let Some(old) = OLD.get() {
            // SAFETY: the handler's own pointers.
            unsafe { old.chain(info, context) };
        }
    });
}

/// Bytes of the stack that [`serve`] runs on; it needs little beyond what the kernel saves.
const STACK: usize = 256 << 10;

pub(super) fn measure(to: &mut Reporter) {
    let stack = AlternateStack { base: Box::leak(Box::new([0u8; STACK])).as_ptr().expose_provenance(), len: STACK };
    let flags = SignalFlags { on_stack: true, no_defer: true };
    // SAFETY: the stack is never freed; the handler keeps to what a handler may do.
    let ready = unsafe {
        sys::set_alternate_stack(Some(stack)).and_then(|_| sys::install_signal_handler(sys::SIGBUS, serve, flags))
    };
    let ready = ready.map(|old| {
        let _ = OLD.set(old);
    });
    for kind in Kind::ALL {
        let name = match kind {
            Kind::Continue => SIGBUS_CONTINUE,
            Kind::Copy => "SIGBUS, UFFDIO_COPY",
            Kind::Move => "SIGBUS, UFFDIO_MOVE",
        };
        let what = What { name, bytes: PAGE, per: Per::Call, since: kind.since() };
        to.row(what, |effort| ready.and_then(|()| by_signal(kind, effort)));
    }
    for kind in [Kind::Continue, Kind::Copy] {
        let name = format!("handler thread, {}", kind.name());
        let what = What { name: &name, bytes: PAGE, per: Per::Call, since: kind.since() };
        to.row_or(what, |effort| by_thread(kind, effort));
    }
}

/// Every page once, in an order that no prefetch guesses: an odd stride over a power of two.
fn scattered(pages: usize) -> impl Iterator<Item = usize> {
    debug_assert!(pages.is_power_of_two());
    (0..pages).map(move |i| i.wrapping_mul(0x9e37_79b1) & (pages - 1))
}

fn touches(absent: &Absent) -> Vec<f64> {
    // SAFETY: the range is registered and its faults are served.
    scattered(absent.to.bytes / PAGE).map(|page| time(|| unsafe { touch(absent.to.base + page * PAGE) })).collect()
}

fn by_signal(kind: Kind, effort: Effort) -> Result<Vec<f64>, SysError> {
    let absent = Box::new(Absent::new(kind, effort.samples * PAGE, UFFD_FEATURE_SIGBUS)?);
    // What would fail in the handler fails here as an error.
    absent.bring(0, PAGE, false)?;
    absent.empty()?;
    SERVED.store(ptr::from_ref(&*absent).cast_mut(), Ordering::Release);
    let samples = touches(&absent);
    SERVED.store(ptr::null_mut(), Ordering::Release);
    Ok(samples)
}

/// What one touch or its service failed with.
type Failed = Box<dyn Error + Send + Sync>;

/// The crate's error with the errno that its own text leaves out.
fn failed(error: userfaultfd::Error) -> Failed {
    format!("{error:?}").into()
}

fn by_thread(kind: Kind, effort: Effort) -> Result<Vec<f64>, Failed> {
    let absent = Absent::new(kind, effort.samples / 4 * PAGE, 0)?;
    absent.bring(0, PAGE, false)?;
    absent.empty()?;
    let handler = Handler::new(&absent)?;
    let (absent, stop) = (&absent, &AtomicBool::new(false));
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            handler.serve(stop).inspect_err(|_| {
                // A thread that waits for a page must not wait for ever.
                // SAFETY: the range is ours; its pages then come as they would without us.
                let _ = unsafe { sys::uffd_unregister(&absent.uffd, absent.to.base, absent.to.bytes) };
            })
        });
        let samples = touches(absent);
        stop.store(true, Ordering::Release);
        server.join().expect("it does not panic").map(|()| samples)
    })
}

/// The thread that serves faults: it waits for the descriptor, reads it and brings the page that it
/// names.
struct Handler<'a> {
    absent: &'a Absent,
    uffd: userfaultfd::Uffd,
}

impl<'a> Handler<'a> {
    fn new(absent: &'a Absent) -> io::Result<Self> {
        let descriptor = absent.uffd.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is open, and nobody else has this number of it.
        let uffd = unsafe { userfaultfd::Uffd::from_raw_fd(descriptor.into_raw_fd()) };
        Ok(Self { absent, uffd })
    }

    fn serve(&self, stop: &AtomicBool) -> Result<(), Failed> {
        while !stop.load(Ordering::Acquire) {
            if sys::wait_for_fault(&self.absent.uffd, Duration::from_millis(20))?
                && let Some(Event::Pagefault { addr, .. }) = self.uffd.read_event().map_err(failed)?
            {
                self.bring((addr.addr() - self.absent.to.base) & !(PAGE - 1))?;
            }
        }
        Ok(())
    }

    /// Brings in the page at `offset`, and wakes the thread that waits for it.
    fn bring(&self, offset: usize) -> Result<(), Failed> {
        let page = |base: usize| ptr::with_exposed_provenance_mut(base + offset);
        let (to, from) = (page(self.absent.to.base), page(self.absent.from.base));
        match self.absent.kind {
            Kind::Continue => self.uffd.r#continue(to, PAGE, true).map(drop).map_err(failed),
            // SAFETY: both ranges are ours, and the bytes mean nothing.
            Kind::Copy => unsafe { self.uffd.copy(from, to, PAGE, true) }.map(drop).map_err(failed),
            Kind::Move => Err("the crate has no UFFDIO_MOVE".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_touched_once() {
        let mut seen: Vec<usize> = scattered(4096).collect();
        assert_ne!(seen[1], 1, "not in order");
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..4096));
    }
}
