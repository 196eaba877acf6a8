//! Userfaultfd on a view of a heap's file, by the calls of `gc_core::sys`.

use crate::second_opinion::for_the_crate;
use crate::trials::{Test, named};
use gc_core::sys::{self, Access, HeapFile, RegisterMode, SysError, Uffd, UffdSource};
use gc_core::sys::{UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MISSING_SHMEM, UFFD_FEATURE_MOVE, UFFD_FEATURE_SIGBUS};
use std::time::Duration;
use std::{ptr, thread};
use userfaultfd::{Event, FaultKind, ReadWrite};

pub(crate) const PAGE: usize = 4096;
pub(crate) const PAGES: usize = 16;
pub(crate) const BYTES: usize = PAGES * PAGE;

pub(crate) fn try_uffd(features: u64) -> Result<Uffd, SysError> {
    let mut refused = None;
    for source in UffdSource::ALL {
        // A descriptor agrees once.
        match sys::open_uffd(source).and_then(|uffd| sys::uffd_api(&uffd, features).map(|answer| (uffd, answer))) {
            Ok((uffd, answer)) => {
                assert_eq!(answer.features & features, features);
                return Ok(uffd);
            }
            Err(error) => _ = refused.get_or_insert(error),
        }
    }
    Err(refused.expect("there are sources"))
}

pub(crate) fn uffd(features: u64) -> Uffd {
    try_uffd(features).unwrap()
}

/// A canonical view, a gated one, and the place its page tables go, each of `BYTES`; with page `n`
/// holding `n + 1`.
pub(crate) struct Heap {
    file: HeapFile,
    canonical: usize,
    view: usize,
    from: usize,
}

impl Heap {
    pub(crate) fn new() -> Heap {
        let file = HeapFile::new("uffd", BYTES).unwrap();
        let base = sys::reserve(3 * BYTES, BYTES).unwrap();
        let heap = Heap { file, canonical: base, view: base + BYTES, from: base + 2 * BYTES };
        // SAFETY: the reservation is this test's.
        unsafe {
            sys::map_file_at(heap.canonical, &heap.file, 0, BYTES, Access::ReadWrite).unwrap();
            sys::map_file_at(heap.view, &heap.file, 0, BYTES, Access::ReadWrite).unwrap();
            (0..PAGES).for_each(|page| word(heap.view + page * PAGE).write_volatile(page as u64 + 1));
        }
        heap
    }

    pub(crate) fn file(&self) -> &HeapFile {
        &self.file
    }

    pub(crate) fn view(&self) -> usize {
        self.view
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: the reservation is this test's and ends here.
        unsafe { sys::unmap(self.canonical, 3 * BYTES).unwrap() };
    }
}

pub(crate) fn word(address: usize) -> *mut u64 {
    ptr::with_exposed_provenance_mut(address)
}

/// Reads a word as the kernel does for a system call: a page that is not there is an error, not a
/// signal.
pub(crate) fn try_read(address: usize) -> Result<u64, i32> {
    let mut value = 0_u64;
    let here = libc::iovec { iov_base: ptr::from_mut(&mut value).cast(), iov_len: 8 };
    let there = libc::iovec { iov_base: word(address).cast(), iov_len: 8 };
    // SAFETY: `here` is a word of this frame; the kernel checks `there`.
    let got = unsafe { libc::process_vm_readv(libc::getpid(), &here, 1, &there, 1, 0) };
    if got == 8 { Ok(value) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) }
}

fn a_flip_gates_every_page_and_continue_lets_one_in() {
    let features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM;
    let uffd = uffd(features);
    let heap = Heap::new();
    let modes = RegisterMode::MINOR | RegisterMode::MISSING;
    // SAFETY: the ranges are this test's. Pages are touched by the kernel only, which answers where
    // they are absent.
    unsafe {
        sys::move_page_tables(heap.view, BYTES, heap.from).unwrap();
        sys::uffd_register(&uffd, heap.view, BYTES, modes).unwrap();
        sys::discard(heap.view, BYTES).unwrap();
        for page in 0..PAGES {
            assert_eq!(try_read(heap.view + page * PAGE), Err(libc::EFAULT), "page {page}");
            assert_eq!(try_read(heap.from + page * PAGE), Ok(page as u64 + 1));
        }
        // Repaired through the canonical view, then installed.
        word(heap.canonical + 3 * PAGE).write_volatile(33);
        assert_eq!(sys::uffd_continue(&uffd, heap.view + 3 * PAGE, PAGE, false).unwrap(), PAGE);
        assert_eq!(try_read(heap.view + 3 * PAGE), Ok(33));
        assert_eq!(try_read(heap.view + 4 * PAGE), Err(libc::EFAULT), "its neighbour stays gated");
        // A second thread that lets the page in is told so; a run stops there and goes on after it.
        let again = sys::uffd_continue(&uffd, heap.view + 3 * PAGE, PAGE, false).unwrap_err();
        assert_eq!(again.errno(), libc::EEXIST, "{again}");
        assert_eq!(sys::uffd_continue(&uffd, heap.view, BYTES, false).unwrap(), 3 * PAGE);
        let rest = sys::uffd_continue(&uffd, heap.view + 4 * PAGE, BYTES - 4 * PAGE, false).unwrap();
        assert_eq!(rest, BYTES - 4 * PAGE);
        sys::uffd_unregister(&uffd, heap.view, BYTES).unwrap();
        let gone = sys::uffd_continue(&uffd, heap.view, PAGE, false).unwrap_err();
        assert_eq!(gone.errno(), libc::ENOENT, "{gone}");
        // The view is one mapping again: it can be taken away a second time.
        sys::move_page_tables(heap.view, BYTES, heap.from).unwrap();
        assert_eq!(word(heap.view).read_volatile(), 1);
    }
}

fn a_hole_of_the_file_is_an_error_to_continue() {
    let uffd = uffd(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM);
    let heap = Heap::new();
    heap.file.punch_hole(5 * PAGE, PAGE).unwrap();
    // SAFETY: as above.
    unsafe {
        sys::move_page_tables(heap.view, BYTES, heap.from).unwrap();
        sys::uffd_register(&uffd, heap.view, BYTES, RegisterMode::MINOR).unwrap();
        let hole = sys::uffd_continue(&uffd, heap.view + 5 * PAGE, PAGE, false).unwrap_err();
        assert_eq!(hole.errno(), libc::EFAULT, "{hole}");
        sys::uffd_unregister(&uffd, heap.view, BYTES).unwrap();
    }
}

/// Two private ranges of `BYTES`: pages to be filled, which are registered, and pages to fill them
/// with, `n + 1` in each.
fn private_ranges(uffd: &Uffd) -> (usize, usize) {
    let (to, from) = (sys::reserve_writable(BYTES).unwrap(), sys::reserve_writable(BYTES).unwrap());
    // SAFETY: the ranges are this test's.
    unsafe {
        (0..PAGES).for_each(|page| word(from + page * PAGE).write_volatile(page as u64 + 1));
        sys::uffd_register(uffd, to, BYTES, RegisterMode::MISSING).unwrap();
    }
    (to, from)
}

fn copy_fills_a_page_once() {
    let uffd = uffd(UFFD_FEATURE_SIGBUS);
    let (to, from) = private_ranges(&uffd);
    // SAFETY: the ranges are this test's. Absent pages are touched by the kernel only.
    unsafe {
        assert_eq!(try_read(to), Err(libc::EFAULT));
        assert_eq!(sys::uffd_copy(&uffd, to + 2 * PAGE, from + 2 * PAGE, PAGE, false).unwrap(), PAGE);
        assert_eq!((try_read(to + 2 * PAGE), try_read(to + 3 * PAGE)), (Ok(3), Err(libc::EFAULT)));
        word(to + 2 * PAGE).write_volatile(30);
        // Who comes second is told so and changes nothing; a run stops at a page that is there.
        let second = sys::uffd_copy(&uffd, to + 2 * PAGE, from + 2 * PAGE, PAGE, true).unwrap_err();
        assert_eq!((second.call(), second.errno()), ("ioctl(UFFDIO_COPY)", libc::EEXIST), "{second}");
        assert_eq!(sys::uffd_copy(&uffd, to, from, BYTES, false).unwrap(), 2 * PAGE);
        assert_eq!((try_read(to + PAGE), try_read(to + 2 * PAGE)), (Ok(2), Ok(30)));
        assert_eq!(try_read(from + PAGE), Ok(2), "the source stays");
        sys::uffd_wake(&uffd, to, BYTES).unwrap();
        sys::uffd_unregister(&uffd, to, BYTES).unwrap();
        let gone = sys::uffd_copy(&uffd, to + 5 * PAGE, from, PAGE, false).unwrap_err();
        assert_eq!(gone.errno(), libc::ENOENT, "{gone}");
        sys::unmap(to, BYTES).unwrap();
        sys::unmap(from, BYTES).unwrap();
    }
}

fn move_takes_the_page_itself() {
    let uffd = uffd(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MOVE);
    let (to, from) = private_ranges(&uffd);
    // SAFETY: as above.
    unsafe {
        assert_eq!(sys::uffd_move(&uffd, to + PAGE, from + PAGE, 3 * PAGE, false).unwrap(), 3 * PAGE);
        assert_eq!((try_read(to), try_read(to + PAGE), try_read(to + 3 * PAGE)), (Err(libc::EFAULT), Ok(2), Ok(4)));
        assert_eq!(word(from + PAGE).read_volatile(), 0, "what moved away is fresh memory");
        let second = sys::uffd_move(&uffd, to + PAGE, from + 5 * PAGE, PAGE, false).unwrap_err();
        assert_eq!((second.call(), second.errno()), ("ioctl(UFFDIO_MOVE)", libc::EEXIST), "{second}");
        assert_eq!(word(from + 5 * PAGE).read_volatile(), 6, "what was refused stays");
        let hole = sys::uffd_move(&uffd, to + 7 * PAGE, from + 2 * PAGE, PAGE, false).unwrap_err();
        assert_eq!(hole.errno(), libc::ENOENT, "{hole}");
        sys::uffd_unregister(&uffd, to, BYTES).unwrap();
        sys::unmap(to, BYTES).unwrap();
        sys::unmap(from, BYTES).unwrap();
    }
}

fn a_file_of_a_heap_cannot_be_moved_but_its_holes_can_be_filled() {
    let uffd = uffd(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MOVE | UFFD_FEATURE_MISSING_SHMEM);
    let heap = Heap::new();
    heap.file.punch_hole(5 * PAGE, PAGE).unwrap();
    // SAFETY: as above.
    unsafe {
        sys::uffd_register(&uffd, heap.view, BYTES, RegisterMode::MISSING).unwrap();
        let refused = sys::uffd_move(&uffd, heap.view + 5 * PAGE, heap.canonical, PAGE, false).unwrap_err();
        assert_eq!(refused.errno(), libc::EINVAL, "{refused}");
        let page = heap.view + 5 * PAGE;
        assert_eq!(sys::uffd_copy(&uffd, page, heap.canonical + 8 * PAGE, PAGE, false).unwrap(), PAGE);
        assert_eq!((try_read(page), try_read(heap.canonical + 5 * PAGE)), (Ok(9), Ok(9)));
        sys::uffd_unregister(&uffd, heap.view, BYTES).unwrap();
    }
}

fn a_fault_is_read_as_the_event_it_was() {
    let uffd = uffd(UFFD_FEATURE_MINOR_SHMEM);
    let heap = Heap::new();
    let touched = heap.view + 7 * PAGE;
    // SAFETY: the ranges are this test's, and the one thread that touches an absent page is served
    // below.
    unsafe {
        sys::move_page_tables(heap.view, BYTES, heap.from).unwrap();
        sys::uffd_register(&uffd, heap.view, BYTES, RegisterMode::MINOR).unwrap();
        let toucher = thread::spawn(move || word(touched).read_volatile());
        assert!(sys::wait_for_fault(&uffd, Duration::from_secs(30)).unwrap());
        let event = for_the_crate(&uffd).read_event().unwrap();
        let Some(Event::Pagefault { kind, rw, addr, .. }) = event else { panic!("{event:?}") };
        assert_eq!((addr.addr(), rw, kind), (touched, ReadWrite::Read, FaultKind::Minor));
        assert_eq!(sys::uffd_continue(&uffd, touched, PAGE, true).unwrap(), PAGE);
        assert_eq!(toucher.join().unwrap(), 8);
        assert!(!sys::wait_for_fault(&uffd, Duration::from_millis(1)).unwrap(), "no other");
        sys::uffd_unregister(&uffd, heap.view, BYTES).unwrap();
    }
}

pub(crate) fn trials() -> Vec<Test> {
    let tests = [
        (
            named!(a_flip_gates_every_page_and_continue_lets_one_in),
            UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM,
        ),
        (named!(a_hole_of_the_file_is_an_error_to_continue), UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM),
        (named!(copy_fills_a_page_once), UFFD_FEATURE_SIGBUS),
        (named!(move_takes_the_page_itself), UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MOVE),
        (
            named!(a_file_of_a_heap_cannot_be_moved_but_its_holes_can_be_filled),
            UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MOVE | UFFD_FEATURE_MISSING_SHMEM,
        ),
        (named!(a_fault_is_read_as_the_event_it_was), UFFD_FEATURE_MINOR_SHMEM),
    ];
    let trial = |((name, body), features)| (name, body, try_uffd(features).err().map(|error| error.to_string()));
    tests.map(trial).into()
}
