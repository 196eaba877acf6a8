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

use super::bases::Base;
use super::parts::accessible;
use super::{MIN_SPAN, Parts, Views};
use crate::sys::{self, Access, Destination, MoveError, Patience, RegisterMode, SysError, Uffd, UffdSource};
use crate::sys::{UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MISSING_SHMEM, UFFD_FEATURE_MOVE, UFFD_FEATURE_SIGBUS};
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// Why a gate is unavailable: the refused calls, and what would enable them.
#[derive(Debug, Clone)]
pub struct GateError {
    refused: Vec<(UffdSource, SysError)>,
    /// The error of the trial flip.
    flip: Option<Box<SysError>>,
}

impl GateError {
    /// The errors of all refused calls: of each source of a descriptor, or of the trial flip.
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
        // What a limit refuses, newer kernels and other sandboxes refuse as well.
        let limit = self.refused().find_map(|error| limit_of(error.errno()));
        if let Some(error) = &self.flip {
            return match limit {
                Some(limit) => {
                    write!(f, "a trial flip was refused at a limit: {error}; {limit}, or use the load barrier")
                }
                None => write!(
                    f,
                    "a trial flip does not work (mremap(MREMAP_DONTUNMAP) needs Linux 5.13 on shared memory, 5.7 on \
                     private memory): {error}; allow the call in the container's seccomp profile, or use the load barrier"
                ),
            };
        }
        match limit {
            Some(_) => write!(f, "no userfaultfd was opened at a limit: ")?,
            None => write!(
                f,
                "no userfaultfd with SIGBUS faults (it needs Linux 5.14 on shared memory, 4.14 on private memory): "
            )?,
        }
        for (index, (_, error)) in self.refused.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        match limit {
            Some(limit) => write!(f, "; {limit}, or use the load barrier"),
            None => write!(
                f,
                "; allow the call in the container's seccomp profile, grant access to /dev/userfaultfd, \
                 or use the load barrier"
            ),
        }
    }
}

/// What to do about a call that was refused at a limit.
fn limit_of(errno: i32) -> Option<&'static str> {
    match errno {
        libc::ENOMEM => Some(
            "raise the process's limits on memory and addresses (RLIMIT_DATA, RLIMIT_AS, vm.max_map_count, \
             vm.overcommit_memory), free memory",
        ),
        libc::EMFILE => Some("raise the process's limit of open files (RLIMIT_NOFILE)"),
        libc::ENFILE => Some("raise the system's limit of open files (fs.file-max)"),
        _ => None,
    }
}

impl std::error::Error for GateError {}

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
    rehearsal: Rehearsal,
}

/// Bytes that are copied at once: a page of the smallest size.
const COPIED: usize = 4096;

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

/// A refused flip. Nothing is gated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlipError {
    /// The refused call.
    pub error: Box<SysError>,
    /// Unregistering was refused as well. Absent pages still fault: they must be [let
    /// in](Gate::install) unchanged until [`Gate::end`] succeeds.
    pub still_registered: bool,
}

impl fmt::Display for FlipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pages of a heap cannot be unmapped for a flip: {}", self.error)
    }
}

impl std::error::Error for FlipError {}

/// Result of installing pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallResult {
    /// All pages are mapped.
    Present,
    /// The range is not registered (any more): its pages are mapped, or the kernel maps them at the
    /// next access.
    NotGated,
    /// The kernel refused every way and every retry. The page still faults.
    Refused(SysError),
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

    /// As [`install`](Gate::install), for private memory: pages that are absent from the from-view
    /// are skipped, and stay absent.
    ///
    /// # Safety
    /// As [`install`](Gate::install).
    pub unsafe fn install_existing(&self, offset: usize, len: usize) -> InstallResult {
        if self.supply != PageSource::Move {
            // SAFETY: the caller's.
            return unsafe { self.install(offset, len) };
        }
        debug_assert!(self.has(offset, len));
        before_entry();
        let (mut at, end) = (offset, offset + len);
        let mut patience = Patience::short();
        while at < end {
            // SAFETY: the range is in our views, and the caller has repaired it.
            let moved = unsafe { self.move_run(at, end - at, true) };
            match moved {
                Ok(bytes @ 1..) => {
                    at += bytes;
                    patience.renew();
                }
                Ok(0) if patience.again(&self.no_progress(at)) => {}
                // The failed page is installed by a fallback.
                // SAFETY: as above.
                Ok(0) | Err(_) => match unsafe { self.install(at, sys::page_size()) } {
                    InstallResult::Present => at += sys::page_size(),
                    other => return other,
                },
            }
        }
        InstallResult::Present
    }

    /// The error for a call that neither fails nor makes progress.
    fn no_progress(&self, offset: usize) -> SysError {
        let call = match self.supply {
            PageSource::Continue => "ioctl(UFFDIO_CONTINUE)",
            PageSource::Move => "ioctl(UFFDIO_MOVE)",
            PageSource::Copy => "ioctl(UFFDIO_COPY)",
        };
        SysError::new(call, &[("addr", self.view + offset)], libc::EAGAIN)
    }

    /// The address of the view in which gated pages are repaired; it is never gated itself.
    pub fn repair_base(&self) -> usize {
        if self.is_private() { self.from } else { self.canonical }
    }

    /// The address of the program's view.
    pub fn view(&self) -> usize {
        self.view
    }

    /// Prepares the from-view for a flip: turns it into a bare reservation. Otherwise the flip
    /// itself would unmap it, and even if it is empty, free its upper page tables and flush
    /// translations on every processor, in the pause. It must be empty
    /// ([`discard_from_view`](Gate::discard_from_view)). Runs concurrently with the program.
    ///
    /// # Errors
    /// `ENOMEM` near `vm.max_map_count` and above `RLIMIT_AS`: do not try a flip then.
    pub fn prepare(&self) -> Result<(), SysError> {
        // Checked here and not in the flip: the call, whose kernel code is not in the caches, makes
        // a pause 6 us longer. If the limit is lowered in between, the flip fails, which is handled
        // there.
        sys::below_address_limit()?;
        // SAFETY: the from-view is ours, and no thread uses it.
        unsafe { sys::release_to_reservation(self.from, self.len) }.map_err(|refused| match refused.destination {
            Destination::Kept | Destination::Reserved => SysError::from(refused),
            Destination::Lost(_) => the_end(refused),
        })
    }

    /// Makes a flip's calls once on a scratch page. It takes about 30 us, and like a flip it
    /// interrupts every processor that runs the program; so the flip that follows at once finds the
    /// kernel's code and data in the caches and the processors awake: it takes half as long, and
    /// its maximum is a third.
    pub fn rehearse(&self) {
        // Errors are ignored: the flip itself will report them.
        let _ = self.rehearsal.run(&self.uffd);
    }

    /// Unmaps every page of the view: until a page is installed, the next access to it raises
    /// `SIGBUS`. 10 to 60 us at any size, after [`prepare`](Gate::prepare), less after
    /// [`rehearse`](Gate::rehearse).
    ///
    /// The kernel moves a GiB with one entry, and flushes translations on every processor for each
    /// that has pages: some 10 us. `unused` (offsets) is a part of the view that no thread has
    /// touched and nothing refers to: its whole `unit`s (a power of two) are not flipped, and are
    /// returned. With private memory everything is flipped.
    ///
    /// # Errors
    /// If a call fails (after retries, if the error may be temporary), nothing is gated: the kernel
    /// maps the moved pages again at the next access. With private memory they are moved back, or,
    /// if that is refused too, copied, in proportion to the memory in use. If the failed call
    /// leaves a hole in the from-view, or with private memory in the view, the process ends.
    ///
    /// # Safety
    /// - `unused` lies in the view.
    /// - No thread touches the view meanwhile (all are stopped), and every later access to it is
    ///   served ([`crate::fault`]).
    /// - No other gate of the same views is flipped.
    pub unsafe fn flip(&self, unused: Range<usize>, unit: usize) -> Result<Range<usize>, FlipError> {
        debug_assert!(unused.start <= unused.end && unused.end <= self.len);
        if let Some(opened) = &self.opened {
            // SAFETY: the caller's.
            return unsafe { self.flip_parts(opened) }.map(|()| self.len..self.len);
        }
        let left = unused.start.next_multiple_of(unit)..unused.end / unit * unit;
        let left = if left.is_empty() { self.len..self.len } else { left };
        // SAFETY: both ranges are views of the `Views` this gate was made for, which own them; no
        // reference into them exists while the program is stopped.
        unsafe {
            for part in self.parts(&left) {
                let moved = self.take_part(&part);
                moved.map_err(|error| FlipError { error: Box::new(error), still_registered: false })?;
            }
            let mode = RegisterMode::MISSING | RegisterMode::MINOR;
            let registered = Patience::short().with(|| sys::uffd_register(&self.uffd, self.view, self.len, mode));
            // This drops page-table entries: the file has the bytes.
            let gated = registered.and_then(|()| {
                let mut parts = self.parts(&left);
                parts.try_for_each(|part| Patience::short().with(|| sys::discard(self.view + part.start, part.len())))
            });
            let Err(error) = gated else { return Ok(left) };
            // Also if registering was refused: for one mapping it is all or nothing, but that is
            // not documented.
            let ended = Patience::short().with(|| self.end());
            Err(FlipError { error: Box::new(error), still_registered: ended.is_err() })
        }
    }

    /// Moves the page tables of a part to the from-view, which was a reservation there.
    ///
    /// # Safety
    /// As [`flip`](Gate::flip).
    unsafe fn take_part(&self, part: &Range<usize>) -> Result<(), SysError> {
        Patience::short().with(|| {
            // SAFETY: both ranges are ours; the caller's.
            let taken = unsafe { sys::move_page_tables(self.view + part.start, part.len(), self.from + part.start) };
            taken.map_err(|refused| match refused.destination {
                Destination::Kept | Destination::Reserved => SysError::from(refused),
                Destination::Lost(_) => the_end(refused),
            })
        })
    }

    /// The flip of private memory: of what is open.
    ///
    /// # Safety
    /// As [`flip`](Gate::flip).
    unsafe fn flip_parts(&self, opened: &Parts) -> Result<(), FlipError> {
        // Parts that are opened from here on are open in both views, and were not moved.
        let mut opened = opened.lock();
        let mut moved = 0;
        let taken = opened.open.iter().try_for_each(|part| {
            // SAFETY: as in `flip`.
            unsafe { self.take_part(part) }?;
            moved += 1;
            Ok(())
        });
        // The reserved rest too: a part of it that is opened now faults like the others.
        let registered = taken.and_then(|()| {
            // SAFETY: as in `flip`.
            Patience::short()
                .with(|| unsafe { sys::uffd_register(&self.uffd, self.view, self.len, RegisterMode::MISSING) })
        });
        // This drops the pages of a stray access: the from-view has the bytes.
        let gated = registered.and_then(|()| {
            opened.open.iter().try_for_each(|part| {
                // SAFETY: as in `flip`.
                Patience::short().with(|| unsafe { sys::discard(self.view + part.start, part.len()) })
            })
        });
        let Err(error) = gated else {
            opened.moved = true;
            return Ok(());
        };
        // No thread has written these parts since the move. Registered are all of them or none.
        let registered = moved == opened.open.len();
        for part in &opened.open[..moved] {
            // SAFETY: as in `flip`; the part was moved, and nothing has been written since.
            unsafe { self.take_back(part, registered, opened.dumped) };
        }
        // SAFETY: nothing is gated any more.
        let ended = Patience::short().with(|| unsafe { sys::uffd_unregister(&self.uffd, self.view, self.len) });
        opened.moved = ended.is_err();
        Err(FlipError { error: Box::new(error), still_registered: ended.is_err() })
    }

    /// Undoes [`take_part`](Gate::take_part) for a part of private memory. If the kernel refuses
    /// this move too, the pages are copied: through the descriptor if the part is `registered` and
    /// stays so, otherwise by this thread. `dumped`: core dumps contain open parts.
    ///
    /// # Safety
    /// As [`flip`](Gate::flip); the part was moved, and nothing has been written since.
    unsafe fn take_back(&self, part: &Range<usize>, registered: bool, dumped: bool) {
        let (from, to, len) = (self.from + part.start, self.view + part.start, part.len());
        // SAFETY: both ranges are ours, and mutators are stopped. A mapping that was moved is not
        // registered.
        let move_back = || unsafe { sys::move_page_tables(from, len, to) };
        let mut patience = Patience::short();
        let refused = loop {
            match move_back() {
                Ok(()) => return,
                Err(refused) if refused.destination == Destination::Kept && patience.again(&refused.into()) => {}
                Err(refused) => break refused,
            }
        };
        // SAFETY: as above.
        unsafe {
            match refused.destination {
                Destination::Lost(_) => the_end(refused),
                Destination::Reserved => {
                    let mapped = Patience::long().with(|| {
                        sys::map_private_at(to, len, Access::None)?;
                        sys::dont_fork(to, len)?;
                        accessible(to, len)
                    });
                    if mapped.is_err() {
                        the_end(refused);
                    }
                    // A refusal only affects dumps.
                    let _ = sys::dump(to, len, dumped);
                }
                Destination::Kept if !registered => {}
                Destination::Kept => {
                    if Patience::long().with(|| sys::uffd_unregister(&self.uffd, to, len)).is_err() {
                        match self.install_existing(part.start, len) {
                            InstallResult::Present => return,
                            InstallResult::NotGated | InstallResult::Refused(_) => the_end(refused),
                        }
                    }
                }
            }
            self.copy_back(part);
        }
    }

    /// Copies the pages of a part of private memory from the from-view to the view, where they are
    /// absent and not registered.
    ///
    /// # Safety
    /// As [`take_back`](Gate::take_back).
    unsafe fn copy_back(&self, part: &Range<usize>) {
        const WORDS: usize = COPIED / size_of::<u64>();
        for offset in part.clone().step_by(COPIED) {
            let [from, to] =
                [self.from, self.view].map(|view| std::ptr::with_exposed_provenance_mut::<[u64; WORDS]>(view + offset));
            // SAFETY: parts are whole pages, readable and writable in both views. Mutators are
            // stopped, no other thread uses the from-view, and no reference leads to either.
            unsafe {
                // An absent page reads as zeroes, and stays absent in the view.
                if (*from).iter().any(|&word| word != 0) {
                    to.copy_from_nonoverlapping(from, 1);
                }
            }
        }
        // If this is refused, the pages are freed when the next flip is prepared.
        let _ = self.discard_from_view(part.start, part.len());
    }

    /// The ranges that a flip gates: all but `left`.
    fn parts(&self, left: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        [0..left.start, left.end..self.len].into_iter().filter(|part| !part.is_empty())
    }

    /// Pages of the view that the program can access without a fault now, except those in `left`.
    /// Right after a flip: none.
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

    /// Lets the pages of `offset..offset + len` in: maps them in the program's view. Holes of the
    /// file are filled with zeroes. 2 us for a page with its signal, 0.1 us a page from 64 KiB on.
    /// Allocates nothing: a signal handler may call it. With private memory, only one thread may
    /// let a given page in.
    ///
    /// A refusal that may be temporary is retried a few times; then a slower fallback is used: with
    /// shared memory the range is unregistered, so that the kernel maps its pages at the next
    /// access; with private memory a page is copied instead of moved. If that is refused as well,
    /// it retries for half a second before it returns [`InstallResult::Refused`].
    ///
    /// # Safety
    /// The range consists of whole pages of the view, and its bytes are repaired: the program may
    /// access them.
    pub unsafe fn install(&self, offset: usize, len: usize) -> InstallResult {
        debug_assert!(self.has(offset, len));
        before_entry();
        let (mut at, end) = (offset, offset + len);
        let page = sys::page_size();
        let mut filled = None;
        let (mut patience, mut last) = (Patience::short(), Patience::long());
        while at < end {
            // SAFETY: the range is in our view, and the caller has repaired it.
            let error = match unsafe { self.install_pages(at, end - at) } {
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
                // Another thread was faster, or a restored page table has it; the kernel reports
                // this for the first page only.
                libc::EEXIST => {
                    at += page;
                    continue;
                }
                // A hole of the file, or of the from-view. (Or the range is not registered: then
                // the error remains after the hole is filled.)
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

    /// Lets pages in after `supply` has failed; returns how many bytes of `len`. `None`: they are
    /// not gated.
    ///
    /// # Safety
    /// As [`install`](Gate::install).
    unsafe fn another_way(&self, offset: usize, len: usize, error: SysError) -> Result<Option<usize>, SysError> {
        match self.supply {
            PageSource::Continue => {
                // The pages are repaired, so the kernel may map them on access as well. If they
                // were not registered, this changes nothing.
                // SAFETY: the view is ours; the caller has repaired the range.
                unsafe { sys::uffd_unregister(&self.uffd, self.view + offset, len) }?;
                Ok((error.errno() != libc::ENOENT).then_some(len))
            }
            // A page shared with a child after a fork cannot be moved, but it can be copied.
            // SAFETY: the caller ensures it, as for moved pages.
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
    /// As [`install`](Gate::install).
    unsafe fn install_pages(&self, offset: usize, len: usize) -> Result<usize, SysError> {
        // SAFETY: the ranges are in our views, and the caller has repaired the pages.
        unsafe {
            match self.supply {
                PageSource::Continue => sys::uffd_continue(&self.uffd, self.view + offset, len, false),
                PageSource::Move => self.move_run(offset, len, false),
                PageSource::Copy => self.copy(offset, len),
            }
        }
    }

    /// Moves pages. `holes`: absent ones are skipped.
    ///
    /// # Safety
    /// As [`install`](Gate::install).
    unsafe fn move_run(&self, offset: usize, len: usize, holes: bool) -> Result<usize, SysError> {
        let (to, from) = (self.view + offset, self.from + offset);
        // SAFETY: the ranges are in our views, and the caller has repaired the pages.
        let run = |len| unsafe { sys::uffd_move(&self.uffd, to, from, len, false, holes) };
        // One call moves within one mapping; parts are mappings of their own, of whole 2 MiB.
        let in_part = MIN_SPAN - offset % MIN_SPAN;
        match run(len) {
            Err(error) if error.errno() == libc::EINVAL && len > in_part => run(in_part),
            moved => moved,
        }
    }

    /// # Safety
    /// As [`install`](Gate::install).
    unsafe fn copy(&self, offset: usize, len: usize) -> Result<usize, SysError> {
        // SAFETY: as in `install_pages`.
        unsafe { sys::uffd_copy(&self.uffd, self.view + offset, self.from + offset, len, false) }
    }

    /// Commits the page at an offset of the file, or of the from-view.
    fn fill(&self, offset: usize) {
        let word = std::ptr::with_exposed_provenance::<AtomicU64>(self.repair_base() + offset);
        // SAFETY: the view is mapped, writable, and never gated.
        let word = unsafe { &*word };
        // A compare-exchange of a word with itself: a write access that changes nothing, even if
        // other threads write. (An addition of 0 would be compiled to a load, and a load of private
        // memory maps the page of zeroes that all share.)
        let value = word.load(Ordering::Relaxed);
        let _ = word.compare_exchange(value, value, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Restores the page tables that `offset..offset + len` had before the flip: 5 us per 2 MiB.
    /// The range is no longer gated; the kernel maps pages that had no entry at the next access.
    ///
    /// # Errors
    /// As [`sys::move_page_tables`]; the range may then be gated or not, its pages can be
    /// installed, and the from-view must still be [emptied](Gate::discard_from_view). If the kernel
    /// leaves a hole in the view, the process ends.
    ///
    /// # Safety
    /// As [`install`](Gate::install); and the memory is shared.
    pub unsafe fn restore_page_tables(&self, offset: usize, len: usize) -> Result<(), SysError> {
        debug_assert!(self.has(offset, len) && !self.is_private());
        sys::below_address_limit()?;
        before_entry();
        // SAFETY: both ranges are ours. The pages that the program has mapped in the range
        // meanwhile are the same pages of the file.
        let refused = match unsafe { sys::move_page_tables(self.from + offset, len, self.view + offset) } {
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

    /// Maps `offset..offset + len` of the view anew, from the canonical view: not gated, like any
    /// other mapping of the file.
    ///
    /// # Errors
    /// As [`sys::mirror_at`].
    ///
    /// # Safety
    /// As [`restore_page_tables`](Gate::restore_page_tables).
    unsafe fn put_back(&self, offset: usize, len: usize) -> Result<(), SysError> {
        // SAFETY: both ranges are ours, and the caller has repaired every page that becomes
        // accessible. The new mapping inherits `MADV_DONTFORK` from the one that it mirrors.
        unsafe {
            sys::mirror_at(self.canonical + offset, len, self.view + offset)?;
            // The canonical view may be included in dumps here, this view is not. (If the kernel
            // refuses, the view is no longer a single mapping, and the next flip is refused.)
            let _ = sys::dump(self.view + offset, len, false);
        }
        Ok(())
    }

    /// Unregisters the whole view: the kernel maps absent pages at the next access. 1 to 5 us.
    ///
    /// # Safety
    /// Every page is repaired.
    pub unsafe fn end(&self) -> Result<(), SysError> {
        before_entry();
        // SAFETY: the view is ours; the caller has repaired it.
        unsafe { sys::uffd_unregister(&self.uffd, self.view, self.len) }?;
        if let Some(opened) = &self.opened {
            opened.lock().moved = false;
        }
        Ok(())
    }

    /// Empties `offset..offset + len` of the from-view: frees page tables, and with private memory
    /// the remaining pages. 25 ms per populated GiB, so it is done in slices: a fault of the
    /// program may wait for one slice.
    ///
    /// # Errors
    /// As [`sys::discard`].
    ///
    /// # Panics
    /// If the range does not lie in the view.
    pub fn discard_from_view(&self, offset: usize, len: usize) -> Result<(), SysError> {
        self.check(offset, len);
        // SAFETY: the range is in the from-view, which is ours, and no thread uses it.
        unsafe { sys::discard(self.from + offset, len) }
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

/// The address ranges for the rehearsal of a flip: two private ranges, the first with one page of
/// memory during a rehearsal. If they cannot be reserved, or a call fails, flips are not rehearsed
/// and take longer.
#[derive(Debug)]
struct Rehearsal {
    /// Address of the ranges; 0: there are none, one was lost, or a thread is using them.
    view: AtomicUsize,
}

/// The range of a whole page table, which the kernel moves as a unit, as in a flip.
const REHEARSED: usize = super::MIN_SPAN;

impl Rehearsal {
    fn new() -> Rehearsal {
        Rehearsal { view: AtomicUsize::new(sys::reserve(2 * REHEARSED, REHEARSED).unwrap_or(0)) }
    }

    /// The error of the refused call.
    fn run(&self, uffd: &Uffd) -> Result<(), SysError> {
        // One rehearsal at a time, because two would find each other's pages registered: a second
        // thread skips its own. Acquire, with the Release below: the mappings of the previous
        // rehearsal come before.
        let view = self.view.swap(0, Ordering::Acquire);
        if view == 0 {
            return Ok(());
        }
        let lost = Cell::new(false);
        // No rehearsal any more, because the addresses may belong to another mapping now.
        let note = |refused: MoveError| {
            lost.set(matches!(refused.destination, Destination::Lost(_)));
            SysError::from(refused)
        };
        let from = view + REHEARSED;
        // SAFETY: both ranges are ours, and no other code knows of them. The word is in memory
        // mapped just before.
        let run = unsafe {
            sys::map_private_at(view, REHEARSED, Access::ReadWrite)
                // The kernel may have unmapped what was there.
                .inspect_err(|_| lost.set(true))
                .inspect(|()| {
                    let word = &*std::ptr::with_exposed_provenance::<AtomicU64>(view);
                    word.store(1, Ordering::Relaxed);
                })
                .and_then(|()| sys::move_page_tables(view, REHEARSED, from).map_err(note))
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
            // SAFETY: the range is ours, and no other code knows of it.
            let _ = unsafe { sys::unmap(view, 2 * REHEARSED) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::{MIN_SPAN, Mirror};

    /// A limit is not a sandbox, and no newer kernel helps against it.
    #[test]
    fn an_error_names_the_cause_of_its_errno() {
        let flip = |errno| {
            let error = SysError::new("mremap(DONTUNMAP)", &[], errno);
            GateError { refused: Vec::new(), flip: Some(Box::new(error)) }.to_string()
        };
        let opened = |errnos: &[i32]| {
            let error = |&errno: &i32| (UffdSource::SystemCall, SysError::new("userfaultfd", &[], errno));
            GateError { refused: errnos.iter().map(error).collect(), flip: None }.to_string()
        };
        let has = |text: &str, words: &[&str]| words.iter().all(|word| text.contains(word));
        let hasnt = |text: &str, words: &[&str]| words.iter().all(|word| !text.contains(word));
        let of_kernel = ["seccomp", "Linux 5"];
        for errno in [libc::ENOSYS, libc::EPERM, libc::EINVAL, libc::EACCES] {
            assert!(has(&flip(errno), &of_kernel) && hasnt(&flip(errno), &["RLIMIT"]), "{}", flip(errno));
            assert!(has(&opened(&[errno]), &of_kernel) && hasnt(&opened(&[errno]), &["RLIMIT"]));
        }
        let limits = ["RLIMIT_DATA", "RLIMIT_AS", "vm.max_map_count", "memory", "load barrier"];
        for text in [flip(libc::ENOMEM), opened(&[libc::ENOENT, libc::ENOMEM, libc::ENOMEM])] {
            assert!(has(&text, &limits) && hasnt(&text, &of_kernel), "{text}");
        }
        for (errno, limit) in [(libc::EMFILE, "RLIMIT_NOFILE"), (libc::ENFILE, "fs.file-max")] {
            let text = opened(&[libc::EACCES, errno, errno]);
            assert!(has(&text, &[limit]) && hasnt(&text, &of_kernel), "{text}");
        }
    }

    /// Unmaps a range, as a refused move may do.
    #[test]
    fn a_piece_of_the_view_that_was_unmapped_is_put_back() {
        let views = Views::new("gate-test", 3 * MIN_SPAN, Mirror::default()).unwrap();
        let gate = match Gate::new(&views) {
            Ok(gate) => gate,
            Err(why) => return println!("IGNORED, it cannot run here: {why}"),
        };
        let word = |chunk: usize| {
            let address = gate.view() + chunk * MIN_SPAN;
            // SAFETY: a word of the view, which is mapped whenever this is called; accessed
            // atomically.
            unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address) }
        };
        for round in 1..4 {
            (0..3).for_each(|chunk| word(chunk).store(round, Ordering::Relaxed));
            // SAFETY: no other thread uses this heap, and its pages are valid as they are.
            unsafe {
                gate.flip(0..0, 1).unwrap();
                sys::release_to_reservation(gate.view() + MIN_SPAN, MIN_SPAN).unwrap();
                gate.put_back(MIN_SPAN, MIN_SPAN).unwrap();
                assert_eq!(word(1).load(Ordering::Relaxed), round);
                gate.end().unwrap();
            }
            (0..3).for_each(|chunk| assert_eq!(word(chunk).load(Ordering::Relaxed), round));
            // The view is a single mapping again: the next flip moves it at once.
            gate.discard_from_view(0, 3 * MIN_SPAN).unwrap();
        }
    }
}
