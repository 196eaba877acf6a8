//! The gate of the page barrier: unmaps all pages of a view within microseconds, and maps them
//! again one by one or in chunks.
//!
//! ```text
//!            flip: mremap(DONTUNMAP), REGISTER, DONTNEED              CONTINUE: a page, repaired
//!   view ════════════════════════════════════════════► from-view     ───────────────────────► view
//!    ▲                                                     │
//!    └────────── give back: mremap(FIXED|DONTUNMAP) ───────┘  a chunk whose pages are all repaired
//! ```
//!
//! The order of a flip matters. A range that is registered with userfaultfd loses the fast move of
//! whole page tables (2.5 ms instead of 10 us for 1 GiB), so registration comes after the move. In
//! between, a stray access (a system call of another thread that was passed a heap address, a
//! debugger) maps up to 16 pages, which then would not fault: the flip drops them last.
//!
//! # Shared and private memory
//!
//! The file keeps its pages. The mechanism was made for private anonymous memory (Android's
//! collector unmaps pages and copies them back); here it is used on shared memory: the move only
//! empties page tables, `UFFDIO_CONTINUE` maps the file's pages again, and the thread that repairs
//! a page writes it through the canonical view, which no flip touches.
//!
//! Private anonymous memory works as well, which is what the flag was made for. There the flip
//! moves the pages themselves: until a page is installed, it exists in the from-view only, and is
//! repaired there; installing it moves it (`UFFDIO_MOVE`, Linux 6.8) or copies it (`UFFDIO_COPY`).
//! Chunks cannot be restored by moving page tables, because that would unmap the pages that were
//! installed already, and lose them.

mod error;
mod flip;
mod install;
mod rehearsal;
mod restore;

pub use self::error::{FlipError, GateError, InstallResult};

use self::rehearsal::Rehearsal;
use super::bases::Base;
use super::{Parts, Views};
use crate::sys::{self, MoveError, Pagemap, Patience, SysError, Uffd, UffdSource};
use crate::sys::{UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MISSING_SHMEM, UFFD_FEATURE_MOVE, UFFD_FEATURE_SIGBUS};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// The userfaultfd descriptor, and the addresses it works on. The even view is the program's, the
/// odd one the from-view.
///
/// A gate may outlive its [`Views`]: it keeps their addresses, which stay mapped until both are
/// dropped. As with [`Views`], its safe methods change only addresses of these views: of the
/// from-view.
#[derive(Debug)]
pub struct Gate {
    /// The reservation that contains all addresses below.
    _base: Arc<Base>,
    uffd: Uffd,
    canonical: usize,
    view: usize,
    from: usize,
    len: usize,
    supply: PageSource,
    /// Of private memory: what is open, and moved by a flip.
    opened: Option<Arc<Parts>>,
    /// Why pages of private memory are copied and not moved.
    no_move: Option<SysError>,
    /// The last page was installed by a fallback instead of `supply`: the next refusal is not
    /// retried for long.
    detour: AtomicBool,
    /// Of private memory whose pages are moved: which exist. `None` where it cannot be opened.
    pagemap: Option<Pagemap>,
    rehearsal: Rehearsal,
}

/// How a page gets into the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageSource {
    /// `UFFDIO_CONTINUE`: the file has it.
    Continue,
    /// `UFFDIO_MOVE`: the from-view has it, and loses it.
    Move,
    /// `UFFDIO_COPY`: the from-view has it.
    Copy,
}

impl PageSource {
    fn features(self) -> u64 {
        match self {
            PageSource::Continue => UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM,
            PageSource::Move => UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MOVE,
            PageSource::Copy => UFFD_FEATURE_SIGBUS,
        }
    }
}

/// The sources in the order they are tried: the administrator's device first, then the call with
/// all faults, then the call that needs no privilege. With the `SIGBUS` feature all three serve
/// alike.
const SOURCES: [UffdSource; 3] = [UffdSource::Device, UffdSource::SystemCall, UffdSource::SystemCallUserModeOnly];

impl Gate {
    /// A gate for the even view of `views`. The odd view becomes the from-view: no code may
    /// dereference addresses of it any more. The descriptor is opened here and not later: a program
    /// may enter its sandbox after it has built its heaps.
    ///
    /// # Errors
    /// [`GateError`] if the kernel or a sandbox refuses every source of a userfaultfd, or a call of
    /// a flip; the calls are tried once on scratch memory.
    pub fn new(views: &Views) -> Result<Gate, GateError> {
        let supplies: &[PageSource] =
            if views.is_anonymous() { &[PageSource::Move, PageSource::Copy] } else { &[PageSource::Continue] };
        let mut refused = Vec::new();
        for &supply in supplies {
            for source in SOURCES {
                // `UFFDIO_API` works once per descriptor: other features need another descriptor.
                let agreed =
                    sys::open_uffd(source).and_then(|uffd| sys::uffd_api(&uffd, supply.features()).map(|_| uffd));
                match agreed {
                    Ok(uffd) => {
                        let (view, from, canonical) = (views.view(0), views.view(1), views.canonical());
                        views.leave_unpopulated(1);
                        let len = views.bytes();
                        let rehearsal = Rehearsal::new();
                        // A trial flip on scratch memory: otherwise a sandbox that refuses it would
                        // show only when memory is short.
                        if let Err(error) = Patience::long().with(|| rehearsal.run(&uffd)) {
                            return Err(GateError { refused, flip: Some(Box::new(error)) });
                        }
                        let (_base, detour) = (Arc::clone(&views.base), AtomicBool::new(false));
                        // Opened here for the same reason as the descriptor.
                        let pagemap = if supply == PageSource::Move { Pagemap::open().ok() } else { None };
                        let no_move = refused.last().filter(|_| supply == PageSource::Copy).map(|(_, error)| *error);
                        return Ok(Gate {
                            _base,
                            uffd,
                            canonical,
                            view,
                            from,
                            len,
                            supply,
                            opened: views.parts().cloned(),
                            no_move,
                            detour,
                            pagemap,
                            rehearsal,
                        });
                    }
                    Err(error) => refused.push((source, error)),
                }
            }
        }
        Err(GateError { refused, flip: None })
    }

    /// Whether pages are moved or copied from the from-view, the only place where they exist until
    /// then.
    pub fn is_private(&self) -> bool {
        self.supply != PageSource::Continue
    }

    /// Of private memory: the call that was refused if pages are copied (`UFFDIO_COPY`) because
    /// they cannot be moved.
    pub fn no_move(&self) -> Option<SysError> {
        self.no_move
    }

    /// The address of the view in which gated pages are repaired; it is never gated itself.
    pub fn repair_base(&self) -> usize {
        if self.is_private() { self.from } else { self.canonical }
    }

    /// The address of the program's view.
    pub fn view(&self) -> usize {
        self.view
    }
}

/// Called before pages become visible by a page-table entry alone: the thread that then reads them
/// neither faults nor makes an atomic load that could order its reads. On every architecture its
/// reads come after the processor has read the entry; this fence keeps the repair's writes, and the
/// writes that the caller has seen, before the store of the entry. (`loom_page_entry`. No
/// instruction on x86-64.)
#[inline(always)]
fn before_entry() {
    fence(Ordering::Release);
}

impl Gate {
    fn has(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }

    #[track_caller]
    fn check(&self, offset: usize, len: usize) {
        assert!(self.has(offset, len), "{len:#x} bytes at {offset:#x} are not in a view of {:#x}", self.len);
    }
}

/// Ends the process with a message: the kernel has unmapped addresses of the heap, and refuses to
/// map anything there. An access would raise `SIGSEGV` somewhere in the program, or reach a mapping
/// of another thread.
#[cold]
fn the_end(refused: MoveError) -> ! {
    sys::end_process(format_args!(
        "the kernel refused to move pages of the heap and left a hole in it: {}; a limit on addresses \
         (RLIMIT_AS, `ulimit -v`) must stay above what the program has mapped",
        SysError::from(refused)
    ))
}
