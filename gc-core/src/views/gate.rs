//! The gate of the page barrier: takes a view's pages away from the program in a few microseconds, and lets them in again
//! one by one or in chunks.
//!
//! ```text
//!            flip: mremap(DONTUNMAP), REGISTER, DONTNEED              CONTINUE: a page, repaired
//!   view ════════════════════════════════════════════► from-view     ───────────────────────► view
//!    ▲                                                     │
//!    └────────── give back: mremap(FIXED|DONTUNMAP) ───────┘  a chunk whose pages are all repaired
//! ```
//!
//! The order of a flip matters. A range that is registered with userfaultfd loses the fast move of whole page tables (2.5 ms
//! instead of 10 us for 1 GiB), so registration comes after the move. In between, a stray access (a system call of another
//! thread that was handed a heap address, a debugger) maps up to 16 pages, which then would not fault: they are dropped
//! last.
//!
//! # Shared and private memory
//!
//! The file keeps its pages. What was made for private anonymous memory (Android's collector takes pages away and copies
//! them back) is used here on shared memory: the move empties page tables only, `UFFDIO_CONTINUE` maps again what the file
//! has, and who repairs a page writes it through the canonical view, which no flip touches.
//!
//! Private anonymous memory works as well, as the flag was first meant. There the move takes the pages themselves: until a
//! page is let in it exists in the from-view only, and is repaired there; letting it in moves it (`UFFDIO_MOVE`, Linux
//! 6.8) or copies it (`UFFDIO_COPY`). It cannot be given back by moving page tables, because what has been let in already
//! would be unmapped, and with it be lost.

use super::Views;
use super::bases::Base;
use crate::sys::{self, Access, Destination, MoveError, Patience, RegisterMode, SysError, Uffd, UffdSource};
use crate::sys::{UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MISSING_SHMEM, UFFD_FEATURE_MOVE, UFFD_FEATURE_SIGBUS};
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// Why there is no gate here: what was refused, by whom, and what would work.
#[derive(Debug, Clone)]
pub struct GateError {
    refused: Vec<(UffdSource, SysError)>,
    /// What a flip on trial was refused.
    flip: Option<Box<SysError>>,
}

impl GateError {
    /// The calls that were refused: of each source of a descriptor, or of a flip on trial.
    pub fn refused(&self) -> impl Iterator<Item = SysError> {
        self.flip
            .as_deref()
            .copied()
            .into_iter()
            .chain(self.refused.iter().filter(|_| self.flip.is_none()).map(|(_, error)| *error))
    }
}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.flip {
            return write!(
                f,
                "the system does not let pages be taken away (on shared memory Linux 5.13, on private memory 5.7): {error}; \
                 a container must allow the call in its seccomp profile; the load barrier needs none of this"
            );
        }
        write!(f, "no userfaultfd with SIGBUS faults (on shared memory Linux 5.14, on private memory 4.14): ")?;
        for (index, (_, error)) in self.refused.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        write!(
            f,
            "; a container must allow the call in its seccomp profile, or grant access to /dev/userfaultfd; \
             the load barrier needs none of this"
        )
    }
}

impl std::error::Error for GateError {}

/// The descriptor, and the addresses it works on. The even view is the program's, the odd one the from-view.
///
/// A gate may outlive its [`Views`]: it holds their addresses too, which stay mapped until both are gone. As with those, what
/// is safe of it changes addresses of theirs and of nothing else: of the from-view.
#[derive(Debug)]
pub struct Gate {
    /// All addresses below lie in it.
    _base: Arc<Base>,
    uffd: Uffd,
    canonical: usize,
    view: usize,
    from: usize,
    len: usize,
    supply: PageSource,
    /// The last page that was let in took another way than `supply`: what refuses that is not waited for long.
    detour: AtomicBool,
    rehearsal: Rehearsal,
}

/// How a page comes into the view.
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

/// A flip that was refused. Nothing is gated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlipError {
    /// What was refused.
    pub error: Box<SysError>,
    /// To end the registration was refused as well. Pages that are absent still fault: they are to be
    /// [let in](Gate::let_in) as they are, until [`Gate::end`] succeeds.
    pub still_registered: bool,
}

impl fmt::Display for FlipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pages of a heap cannot be taken away: {}", self.error)
    }
}

impl std::error::Error for FlipError {}

/// What became of letting pages in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallResult {
    /// All are there.
    Present,
    /// The range is not registered (any more): its pages are there or fault in as in any mapping.
    NotGated,
    /// The kernel refused, however often and in whatever way it was asked. The page still faults.
    Refused(SysError),
}

/// The sources in the order they are tried: the administrator's device first, then the call with all it can do, then the
/// call that needs no privilege. With the `SIGBUS` feature all three serve alike.
const SOURCES: [UffdSource; 3] = [UffdSource::Device, UffdSource::SystemCall, UffdSource::SystemCallUserModeOnly];

impl Gate {
    /// A gate for the even view of `views`. The odd view becomes the from-view: code that dereferences addresses has none of
    /// that any more. The descriptor is made here and not later: a program may close its sandbox after it has built its heaps.
    ///
    /// # Errors
    /// [`GateError`] where the kernel or a sandbox refuses userfaultfd in every way, or what a flip does, which is tried once with memory of no meaning.
    pub fn new(views: &Views) -> Result<Gate, GateError> {
        let supplies: &[PageSource] =
            if views.is_anonymous() { &[PageSource::Move, PageSource::Copy] } else { &[PageSource::Continue] };
        let mut refused = Vec::new();
        for &supply in supplies {
            for source in SOURCES {
                // A descriptor agrees once: for other features another one is opened.
                let agreed =
                    sys::open_uffd(source).and_then(|uffd| sys::uffd_api(&uffd, supply.features()).map(|_| uffd));
                match agreed {
                    Ok(uffd) => {
                        let (view, from, canonical) = (views.view(0), views.view(1), views.canonical());
                        views.leave_unpopulated(1);
                        let len = views.bytes();
                        let rehearsal = Rehearsal::new();
                        // A flip of memory of no meaning: a sandbox that refuses it would else be heard of when memory is short.
                        if let Err(error) = Patience::long().with(|| rehearsal.run(&uffd)) {
                            return Err(GateError { refused, flip: Some(Box::new(error)) });
                        }
                        let (_base, detour) = (Arc::clone(&views.base), AtomicBool::new(false));
                        return Ok(Gate { _base, uffd, canonical, view, from, len, supply, detour, rehearsal });
                    }
                    Err(error) => refused.push((source, error)),
                }
            }
        }
        Err(GateError { refused, flip: None })
    }

    /// Whether pages are moved or copied from the from-view, where they exist until then.
    pub fn is_private(&self) -> bool {
        self.supply != PageSource::Continue
    }

    /// As [`let_in`](Gate::let_in), of private memory: pages that the from-view does not have are passed over, and stay
    /// absent.
    ///
    /// # Safety
    /// As [`let_in`](Gate::let_in).
    pub unsafe fn let_in_existing(&self, offset: usize, len: usize) -> InstallResult {
        if self.supply != PageSource::Move {
            // SAFETY: the caller's.
            return unsafe { self.let_in(offset, len) };
        }
        debug_assert!(self.has(offset, len));
        before_entry();
        let (mut at, end) = (offset, offset + len);
        let mut patience = Patience::short();
        while at < end {
            // SAFETY: the range is in our views, and the caller has repaired it.
            let moved = unsafe { sys::uffd_move(&self.uffd, self.view + at, self.from + at, end - at, false, true) };
            match moved {
                Ok(bytes @ 1..) => {
                    at += bytes;
                    patience.renew();
                }
                Ok(0) if patience.again(&self.no_progress(at)) => {}
                // What goes wrong with one page goes another way.
                // SAFETY: as above.
                Ok(0) | Err(_) => match unsafe { self.let_in(at, sys::page_size()) } {
                    InstallResult::Present => at += sys::page_size(),
                    other => return other,
                },
            }
        }
        InstallResult::Present
    }

    /// What a call comes to that neither fails nor does anything.
    fn no_progress(&self, offset: usize) -> SysError {
        let call = match self.supply {
            PageSource::Continue => "ioctl(UFFDIO_CONTINUE)",
            PageSource::Move => "ioctl(UFFDIO_MOVE)",
            PageSource::Copy => "ioctl(UFFDIO_COPY)",
        };
        SysError::new(call, &[("addr", self.view + offset)], libc::EAGAIN)
    }

    /// The address of the view in which gated pages are repaired: never gated itself.
    pub fn workshop(&self) -> usize {
        if self.is_private() { self.from } else { self.canonical }
    }

    /// The address of the program's view.
    pub fn view(&self) -> usize {
        self.view
    }

    /// Makes the from-view ready for a flip: bare addresses. Otherwise the flip itself would unmap what is there, and however
    /// empty that is, its upper page tables would be freed, and translations flushed on every processor, in the pause. It
    /// must be empty ([`empty`](Gate::empty)); the program goes on meanwhile.
    ///
    /// # Errors
    /// `ENOMEM` near `vm.max_map_count` and above `RLIMIT_AS`: no flip should be tried then.
    pub fn prepare(&self) -> Result<(), SysError> {
        // Asked here and not in the flip: the call, which is rare and so comes from memory, makes a pause 6 us longer. Where the limit
        // is lowered between here and there, a flip fails, and that is seen to.
        sys::below_address_limit()?;
        // SAFETY: the from-view is ours, and nobody uses it.
        unsafe { sys::release_to_reservation(self.from, self.len) }.map_err(|refused| match refused.destination {
            Destination::Kept | Destination::Reserved => SysError::from(refused),
            Destination::Lost(_) => the_end(refused),
        })
    }

    /// Goes through a flip's calls once with a page of no meaning. Some 30 us, and as a flip it interrupts every processor
    /// that runs the program; so the flip that follows at once finds the kernel's code and data in caches and the
    /// processors awake: it takes half as long, and a third at its longest.
    pub fn rehearse(&self) {
        // What is refused here the flip will be told itself.
        let _ = self.rehearsal.run(&self.uffd);
    }

    /// Takes every page of the view away: until a page is let in, its next touch raises `SIGBUS`. 10 to 60 us at any size,
    /// after [`prepare`](Gate::prepare), the shorter after [`rehearse`](Gate::rehearse).
    ///
    /// The kernel moves a GiB with one entry, and flushes translations on every processor for each that has pages: some 10
    /// us. `unused` (offsets) is a part of the view that nobody has touched or refers to: what there is of it in whole
    /// `unit`s (a power of two) is left as it is, and given back. Of private memory nothing is left.
    ///
    /// # Errors
    /// Where a call fails, some times in a row if the reason may pass, nothing is gated: the pages that were moved away fault in as
    /// in any mapping. Where that leaves nothing of the from-view, or of private memory nothing in the view, the process ends.
    ///
    /// # Safety
    /// - `unused` lies in the view.
    /// - Nobody touches the view meanwhile (they are stopped), and whoever touches it later is served ([`crate::fault`]).
    /// - No other gate of the same views is flipped.
    pub unsafe fn flip(&self, unused: Range<usize>, unit: usize) -> Result<Range<usize>, FlipError> {
        debug_assert!(unused.start <= unused.end && unused.end <= self.len);
        let left = unused.start.next_multiple_of(unit)..unused.end / unit * unit;
        let left = if self.is_private() || left.is_empty() { self.len..self.len } else { left };
        // SAFETY: both ranges are views of the `Views` this gate was made for, which own them; no reference into them
        // is alive while the program is stopped.
        unsafe {
            for part in self.parts(&left) {
                let moved = Patience::short().with(|| {
                    // A reservation is what the from-view was.
                    sys::take_away(self.view + part.start, part.len(), self.from + part.start).map_err(|refused| {
                        match refused.destination {
                            Destination::Kept | Destination::Reserved => SysError::from(refused),
                            Destination::Lost(_) => the_end(refused),
                        }
                    })
                });
                moved.map_err(|error| FlipError { error: Box::new(error), still_registered: false })?;
            }
            let mode = match self.supply {
                PageSource::Continue => RegisterMode::MISSING | RegisterMode::MINOR,
                PageSource::Move | PageSource::Copy => RegisterMode::MISSING,
            };
            let registered = Patience::short().with(|| sys::uffd_register(&self.uffd, self.view, self.len, mode));
            // Page tables, or of private memory what a stray access made: the file, or the from-view, has the bytes.
            let gated = registered.and_then(|()| {
                let mut parts = self.parts(&left);
                parts.try_for_each(|part| Patience::short().with(|| sys::discard(self.view + part.start, part.len())))
            });
            let Err(error) = gated else { return Ok(left) };
            if self.is_private() {
                // Nobody has written the view since the move. What comes back is not registered.
                let mut patience = Patience::long();
                while let Err(refused) = sys::take_away(self.from, self.len, self.view) {
                    if matches!(refused.destination, Destination::Lost(_)) || !patience.again(&refused.into()) {
                        the_end(refused);
                    }
                }
                return Err(FlipError { error: Box::new(error), still_registered: false });
            }
            // Also where the registration was refused: of one mapping it is whole or not there, but who knows.
            let ended = Patience::short().with(|| self.end());
            Err(FlipError { error: Box::new(error), still_registered: ended.is_err() })
        }
    }

    /// What a flip gates: all but what it leaves.
    fn parts(&self, left: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        [0..left.start, left.end..self.len].into_iter().filter(|part| !part.is_empty())
    }

    /// Pages of the view that the program can touch without a fault now, but for those that a flip left. After a flip: none.
    ///
    /// # Errors
    /// As [`sys::present_pages`].
    ///
    /// # Panics
    /// If `left` does not lie in the view.
    pub fn present_pages(&self, left: &Range<usize>) -> Result<usize, SysError> {
        self.check(left.start, left.end.saturating_sub(left.start));
        self.parts(left).map(|part| sys::present_pages(self.view + part.start, part.len())).sum()
    }

    /// Lets the pages of `offset..offset + len` in. Holes of the file are filled with zeroes. 2 us for a page with its
    /// signal, 0.1 us a page from 64 KiB on. Allocates nothing: a signal handler may call it. Of private memory, only one
    /// thread may let a page in.
    ///
    /// What the kernel refuses for a reason that may pass is tried again some times; then another way is taken, which is slower: of
    /// shared memory the registration of the range ends, so that its pages fault in as in any mapping; of private memory a page
    /// is copied instead of moved. Where that is refused as well, half a second passes before [`InstallResult::Refused`].
    ///
    /// # Safety
    /// The range is one of whole pages of the view, and its bytes are repaired: fit to be seen by the program.
    pub unsafe fn let_in(&self, offset: usize, len: usize) -> InstallResult {
        debug_assert!(self.has(offset, len));
        before_entry();
        let (mut at, end) = (offset, offset + len);
        let page = sys::page_size();
        let mut filled = None;
        let (mut patience, mut last) = (Patience::short(), Patience::long());
        while at < end {
            // SAFETY: the range is in our view, and the caller has repaired it.
            let error = match unsafe { self.bring(at, end - at) } {
                Ok(bytes @ 1..) => {
                    at += bytes;
                    (patience, last) = (Patience::short(), Patience::long());
                    self.detour.store(false, Ordering::Relaxed);
                    continue;
                }
                Ok(0) => self.no_progress(at),
                Err(error) => error,
            };
            match error.errno() {
                // Another thread was faster, or a page table given back has it: said of the first page only.
                libc::EEXIST => {
                    at += page;
                    continue;
                }
                // A hole of the file, or of the from-view. (Or the range is not registered: once it is no hole, that.)
                libc::EFAULT if self.supply == PageSource::Continue && filled != Some(at) => {
                    filled = Some(at);
                    self.fill(at);
                    continue;
                }
                libc::ENOENT if self.supply == PageSource::Move && filled != Some(at) => {
                    filled = Some(at);
                    self.fill(at);
                    continue;
                }
                _ => {}
            }
            if !self.detour.load(Ordering::Relaxed) && patience.again(&error) {
                continue;
            }
            // SAFETY: the caller's.
            match unsafe { self.another_way(at, end - at, error) } {
                Ok(Some(bytes)) => {
                    at += bytes;
                    (patience, last) = (Patience::short(), Patience::long());
                    self.detour.store(true, Ordering::Relaxed);
                }
                Ok(None) => return InstallResult::NotGated,
                Err(error) if last.again(&error) => {}
                Err(error) => return InstallResult::Refused(error),
            }
        }
        InstallResult::Present
    }

    /// Lets pages in where `supply` has failed: how many bytes of `len`. `None`: they are not gated.
    ///
    /// # Safety
    /// As [`let_in`](Gate::let_in).
    unsafe fn another_way(&self, offset: usize, len: usize, error: SysError) -> Result<Option<usize>, SysError> {
        match self.supply {
            PageSource::Continue => {
                // The pages are repaired: to be faulted in by the kernel is as good. Where they were not registered, as it says,
                // this changes nothing.
                // SAFETY: the view is ours; the caller has repaired the range.
                unsafe { sys::uffd_unregister(&self.uffd, self.view + offset, len) }?;
                Ok((error.errno() != libc::ENOENT).then_some(len))
            }
            // A page that is not this process's alone, after a fork, cannot be moved, but copied.
            // SAFETY: the caller's, as for what is moved.
            PageSource::Move => match unsafe { self.copy(offset, sys::page_size()) } {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.errno() == libc::EEXIST => Ok(Some(sys::page_size())),
                Err(error) if error.errno() == libc::ENOENT => Ok(None),
                Err(error) => Err(error),
            },
            PageSource::Copy if error.errno() == libc::ENOENT => Ok(None),
            PageSource::Copy => Err(error),
        }
    }

    /// # Safety
    /// As [`let_in`](Gate::let_in).
    unsafe fn bring(&self, offset: usize, len: usize) -> Result<usize, SysError> {
        let (to, from) = (self.view + offset, self.from + offset);
        // SAFETY: the ranges are in our views, and the caller has repaired the pages.
        unsafe {
            match self.supply {
                PageSource::Continue => sys::uffd_continue(&self.uffd, to, len, false),
                PageSource::Move => sys::uffd_move(&self.uffd, to, from, len, false, false),
                PageSource::Copy => self.copy(offset, len),
            }
        }
    }

    /// # Safety
    /// As [`let_in`](Gate::let_in).
    unsafe fn copy(&self, offset: usize, len: usize) -> Result<usize, SysError> {
        // SAFETY: as in `bring`.
        unsafe { sys::uffd_copy(&self.uffd, self.view + offset, self.from + offset, len, false) }
    }

    /// Makes the file, or the from-view, have the page at an offset.
    fn fill(&self, offset: usize) {
        let word = std::ptr::with_exposed_provenance::<AtomicU64>(self.workshop() + offset);
        // SAFETY: the view is mapped, writable, and never gated.
        let word = unsafe { &*word };
        // An exchange of a word for itself: a write access that changes nothing, whoever else writes. (An addition of 0
        // would be compiled to a load, and a load of private memory maps the page of zeroes that all share.)
        let value = word.load(Ordering::Relaxed);
        let _ = word.compare_exchange(value, value, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Gives the pages of `offset..offset + len` back with the page tables they had before the flip: 5 us per 2 MiB. The
    /// range is gated no longer; pages that had no entry fault in as in any mapping.
    ///
    /// # Errors
    /// As [`sys::take_away`]; the range may then be gated or not, its pages can be let in, and those of the from-view are still
    /// to be [emptied](Gate::empty). Where the kernel leaves nothing of the view, the process ends.
    ///
    /// # Safety
    /// As [`let_in`](Gate::let_in); and the memory is shared.
    pub unsafe fn give_back(&self, offset: usize, len: usize) -> Result<(), SysError> {
        debug_assert!(self.has(offset, len) && !self.is_private());
        sys::below_address_limit()?;
        before_entry();
        // SAFETY: both ranges are ours. What the program has mapped of the range meanwhile are the same pages of the file.
        let refused = match unsafe { sys::take_away(self.from + offset, len, self.view + offset) } {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        match refused.destination {
            Destination::Kept => {}
            // SAFETY: the caller's.
            Destination::Reserved if Patience::long().with(|| unsafe { self.put_back(offset, len) }).is_ok() => {}
            Destination::Reserved | Destination::Lost(_) => the_end(refused),
        }
        Err(refused.into())
    }

    /// Maps `offset..offset + len` of the view anew, from the canonical view: not gated, as any mapping of the file.
    ///
    /// # Errors
    /// As [`sys::mirror_at`].
    ///
    /// # Safety
    /// As [`give_back`](Gate::give_back).
    unsafe fn put_back(&self, offset: usize, len: usize) -> Result<(), SysError> {
        // SAFETY: both ranges are ours, and the caller has repaired what the program will see. The new mapping is kept from
        // children as the one that it is made of.
        unsafe {
            sys::mirror_at(self.canonical + offset, len, self.view + offset)?;
            // The canonical view may be dumped here, this one is not. (Where that is refused the view is not one mapping any more, and the
            // next flip is refused.)
            let _ = sys::dump(self.view + offset, len, false);
        }
        Ok(())
    }

    /// Ends the registration of the whole view: absent pages fault in as in any mapping. 1 to 5 us.
    ///
    /// # Safety
    /// Every page is repaired.
    pub unsafe fn end(&self) -> Result<(), SysError> {
        before_entry();
        // SAFETY: the view is ours; the caller has repaired it.
        unsafe { sys::uffd_unregister(&self.uffd, self.view, self.len) }
    }

    /// Empties `offset..offset + len` of the from-view: frees page tables, and of private memory what is still there. 25 ms
    /// a GiB that has any, so it is done in slices: a fault of the program may wait for one.
    ///
    /// # Errors
    /// As [`sys::discard`].
    ///
    /// # Panics
    /// If the range does not lie in the view.
    pub fn empty(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        // SAFETY: the range is in the from-view, which is ours, and nobody uses it.
        unsafe { sys::discard(self.from + offset, len) }
    }
}

/// Before pages become visible by nothing but an entry of a page table: the thread that then reads them makes no fault and no
/// atomic load that could order it. Its reads come after the processor's look at the entry, in every architecture; this
/// keeps the repair's writes, and those that the caller has seen, before the store of the entry. (`loom_page_entry`. No
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

/// The kernel has unmapped addresses that the program uses, or that are the heap's, and cannot be had to map anything there:
/// an access would raise `SIGSEGV` somewhere in the program, or find what another thread has mapped. The end, with a line.
#[cold]
fn the_end(refused: MoveError) -> ! {
    sys::end_process(format_args!(
        "the kernel refused to move pages of the heap and left a hole in it: {}; a limit on addresses \
         (RLIMIT_AS, `ulimit -v`) must stay above what the program has mapped",
        SysError::from(refused)
    ))
}

/// What a flip is rehearsed with: two pieces of addresses of our own, a page of memory in the first for each rehearsal. Where
/// there are none, or a call fails, nothing is rehearsed, and flips take longer.
#[derive(Debug)]
struct Rehearsal {
    /// 0: none, or one of which a piece was lost, or a thread is at it.
    view: AtomicUsize,
}

/// A whole page table: what is moved as one, as in a flip.
const REHEARSED: usize = super::MIN_SPAN;

impl Rehearsal {
    fn new() -> Rehearsal {
        Rehearsal { view: AtomicUsize::new(sys::reserve(2 * REHEARSED, REHEARSED).unwrap_or(0)) }
    }

    /// What it was refused.
    fn run(&self, uffd: &Uffd) -> Result<(), SysError> {
        // Two at once would find each other's pages registered: one at a time, and who comes second goes without. Acquire and the
        // Release below: what the last one has mapped comes before.
        let view = self.view.swap(0, Ordering::Acquire);
        if view == 0 {
            return Ok(());
        }
        let lost = Cell::new(false);
        // Never again, where the addresses may be another's.
        let note = |refused: MoveError| {
            lost.set(matches!(refused.destination, Destination::Lost(_)));
            SysError::from(refused)
        };
        let from = view + REHEARSED;
        // SAFETY: both pieces are ours, and nobody else knows of them. The word is in memory mapped just before.
        let run = unsafe {
            sys::map_private_at(view, REHEARSED, Access::ReadWrite)
                // The kernel may have unmapped what was there.
                .inspect_err(|_| lost.set(true))
                .inspect(|()| {
                    let word = &*std::ptr::with_exposed_provenance::<AtomicU64>(view);
                    word.store(1, Ordering::Relaxed);
                })
                .and_then(|()| sys::take_away(view, REHEARSED, from).map_err(note))
                .and_then(|()| sys::uffd_register(uffd, view, REHEARSED, RegisterMode::MISSING))
                .and_then(|()| sys::discard(view, REHEARSED))
                .and_then(|()| sys::uffd_unregister(uffd, view, REHEARSED))
                .and_then(|()| sys::release_to_reservation(from, REHEARSED).map_err(note))
        };
        if !lost.get() {
            self.view.store(view, Ordering::Release);
        }
        run
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        let view = *self.view.get_mut();
        if view != 0 {
            // SAFETY: ours, and nobody else knows of it.
            let _ = unsafe { sys::unmap(view, 2 * REHEARSED) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::{MIN_SPAN, Mirror};

    /// As a refused move may leave it.
    #[test]
    fn a_piece_of_the_view_that_was_unmapped_is_put_back() {
        let views = Views::new("gate-test", 3 * MIN_SPAN, Mirror::default()).unwrap();
        let gate = match Gate::new(&views) {
            Ok(gate) => gate,
            Err(why) => return println!("IGNORED, it cannot run here: {why}"),
        };
        let word = |chunk: usize| {
            let address = gate.view() + chunk * MIN_SPAN;
            // SAFETY: a word of the view, which is mapped whenever this is called; accessed atomically.
            unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address) }
        };
        for round in 1..4 {
            (0..3).for_each(|chunk| word(chunk).store(round, Ordering::Relaxed));
            // SAFETY: nobody else is in this heap; what is put back is as fit to be seen as it ever was.
            unsafe {
                gate.flip(0..0, 1).unwrap();
                sys::release_to_reservation(gate.view() + MIN_SPAN, MIN_SPAN).unwrap();
                gate.put_back(MIN_SPAN, MIN_SPAN).unwrap();
                assert_eq!(word(1).load(Ordering::Relaxed), round);
                gate.end().unwrap();
            }
            (0..3).for_each(|chunk| assert_eq!(word(chunk).load(Ordering::Relaxed), round));
            // And the view is one again: the next flip moves it in one piece.
            gate.empty(0, 3 * MIN_SPAN).unwrap();
        }
    }
}
