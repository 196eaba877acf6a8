//! The gate of the page barrier on a real kernel: what a page, a hole, a chunk that went back and an ended registration
//! answer when they are let in. Where userfaultfd is refused nothing is tested, and a line says so.
#![cfg(not(loom))]

use gc_core::sys;
use gc_core::views::{Gate, LetIn, MIN_SPAN, Mirror, Views};
use std::ptr;

const PAGE: usize = 4096;

fn gated(bytes: usize) -> Option<(Views, Gate)> {
    let views = Views::new("gate-test", bytes, Mirror::default()).unwrap();
    match Gate::new(&views) {
        Ok(gate) => Some((views, gate)),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

fn write(address: usize, value: u64) {
    // SAFETY: tests write into views they own, where pages are present.
    unsafe { ptr::with_exposed_provenance_mut::<u64>(address).write_volatile(value) }
}

/// Reads a word the way the kernel does for a system call: where a touch would raise a signal, `None`.
fn read(address: usize) -> Option<u64> {
    let mut word = 0_u64;
    let here = libc::iovec { iov_base: ptr::from_mut(&mut word).cast(), iov_len: 8 };
    let there = libc::iovec { iov_base: ptr::with_exposed_provenance_mut(address), iov_len: 8 };
    // SAFETY: `here` is a word of this frame; the kernel checks `there`.
    let got = unsafe { libc::process_vm_readv(libc::getpid(), &here, 1, &there, 1, 0) };
    (got == 8).then_some(word)
}

/// A heap of two chunks whose pages hold their number and one; of the first page of each there is none in the file.
fn flipped() -> Option<(Views, Gate)> {
    let (views, gate) = gated(2 * MIN_SPAN)?;
    for page in 0..2 * MIN_SPAN / PAGE {
        if page % (MIN_SPAN / PAGE) != 0 {
            write(gate.view() + page * PAGE, page as u64 + 1);
        }
    }
    // SAFETY: nobody else is in this heap.
    unsafe { gate.flip() }.unwrap();
    Some((views, gate))
}

fn let_in(gate: &Gate, page: usize, pages: usize) -> LetIn {
    // SAFETY: the pages are as fit to be seen as they ever were.
    unsafe { gate.let_in(page * PAGE, pages * PAGE) }
}

#[test]
fn a_flip_leaves_no_page_that_does_not_fault() {
    let Some((_views, gate)) = flipped() else { return };
    // A kernel before 6.7 does not say which pages are present.
    if let Ok(present) = gate.present_pages() {
        assert_eq!(present, 0);
    }
    for page in [0, 1, 5, 511, 512, 1023] {
        assert_eq!(read(gate.view() + page * PAGE), None, "page {page} does not fault");
    }
}

/// A system call touches the view between two flips: what it maps there is taken away by the next.
#[test]
fn what_a_stray_access_has_mapped_faults_after_the_next_flip() {
    let Some((_views, gate)) = flipped() else { return };
    for _ in 0..3 {
        assert_eq!(let_in(&gate, 0, 1024), LetIn::Present);
        // SAFETY: all pages are as before.
        unsafe { gate.end() }.unwrap();
        assert_eq!(read(gate.view() + 7 * PAGE), Some(8));
        gate.empty(0, 2 * MIN_SPAN).unwrap();
        // SAFETY: nobody else is in this heap.
        unsafe { gate.flip() }.unwrap();
        assert_eq!(read(gate.view() + 7 * PAGE), None);
    }
}

#[test]
fn a_page_is_let_in_with_its_bytes() {
    let Some((views, gate)) = flipped() else { return };
    // Repaired where the collector sees it.
    write(views.canonical() + 5 * PAGE, 77);
    assert_eq!(let_in(&gate, 5, 1), LetIn::Present);
    assert_eq!(read(gate.view() + 5 * PAGE), Some(77));
    assert_eq!((read(gate.view() + 4 * PAGE), read(gate.view() + 6 * PAGE)), (None, None));
}

/// `EEXIST`, said of the first page that is there: the others are let in all the same.
#[test]
fn pages_that_are_there_already_are_passed_over() {
    let Some((_views, gate)) = flipped() else { return };
    assert_eq!(let_in(&gate, 12, 2), LetIn::Present);
    assert_eq!(let_in(&gate, 12, 1), LetIn::Present);
    assert_eq!(let_in(&gate, 15, 1), LetIn::Present);
    assert_eq!(let_in(&gate, 10, 10), LetIn::Present);
    for page in 10..20 {
        assert_eq!(read(gate.view() + page * PAGE), Some(page as u64 + 1));
    }
    assert_eq!(read(gate.view() + 20 * PAGE), None);
}

/// `EFAULT`: the file has no page there. It gets one, of zeroes, and the rest of the range comes in as well.
#[test]
fn a_hole_is_filled_with_zeroes() {
    let Some((views, gate)) = flipped() else { return };
    assert_eq!(let_in(&gate, 510, 5), LetIn::Present);
    let words: Vec<_> = (510..515).map(|page| read(gate.view() + page * PAGE)).collect();
    assert_eq!(words, [Some(511), Some(512), Some(0), Some(514), Some(515)]);
    // Punched out of the middle of what is there, after it had come in.
    views.uncommit(512 * PAGE, PAGE).unwrap();
    views.uncommit(514 * PAGE, PAGE).unwrap();
    assert_eq!(read(gate.view() + 514 * PAGE), None, "a hole faults again");
    assert_eq!(let_in(&gate, 510, 5), LetIn::Present);
    assert_eq!(read(gate.view() + 514 * PAGE), Some(0));
}

/// `ENOENT`: a chunk that went back is not gated, and its pages are there; the other chunk still is.
#[test]
fn a_chunk_that_went_back_is_not_gated() {
    let Some((_views, gate)) = flipped() else { return };
    // SAFETY: the pages are as before.
    unsafe { gate.give_back(0, MIN_SPAN) }.unwrap();
    for page in [1, 3, 511] {
        assert_eq!(let_in(&gate, page, 1), LetIn::NotGated);
        assert_eq!(read(gate.view() + page * PAGE), Some(page as u64 + 1));
    }
    assert_eq!(read(gate.view()), Some(0), "a hole of it faults in like any other");
    assert_eq!(read(gate.view() + 600 * PAGE), None);
    assert_eq!(let_in(&gate, 600, 1), LetIn::Present);
    assert_eq!(read(gate.view() + 600 * PAGE), Some(601));
}

#[test]
fn after_the_end_nothing_is_gated() {
    let Some((_views, gate)) = flipped() else { return };
    assert_eq!(let_in(&gate, 0, 512), LetIn::Present);
    // SAFETY: the pages are as before.
    unsafe { gate.give_back(MIN_SPAN, MIN_SPAN) }.unwrap();
    // SAFETY: as above.
    unsafe { gate.end() }.unwrap();
    assert_eq!(let_in(&gate, 3, 1), LetIn::NotGated);
    for page in [1, 3, 511, 513, 1023] {
        assert_eq!(read(gate.view() + page * PAGE), Some(page as u64 + 1));
    }
    // SAFETY: nobody else is in this heap; the from-view is emptied first.
    unsafe {
        gate.empty(0, 2 * MIN_SPAN).unwrap();
        gate.flip().unwrap();
    }
    assert_eq!(read(gate.view() + 3 * PAGE), None);
}

/// Threads let the same pages in while mappings change beside them: `EAGAIN` and partial answers are tried again.
#[test]
fn many_let_the_same_pages_in() {
    let Some((_views, gate)) = flipped() else { return };
    std::thread::scope(|scope| {
        for first in 0..4 {
            let gate = &gate;
            scope.spawn(move || {
                for page in (first..512).step_by(3) {
                    assert_ne!(let_in(gate, page, (512 - page).min(40)), LetIn::NotGated);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..300 {
                let address = sys::reserve_writable(PAGE).unwrap();
                // SAFETY: the mapping is this thread's.
                unsafe { sys::unmap(address, PAGE) }.unwrap();
            }
        });
    });
    for page in 1..512 {
        assert_eq!(read(gate.view() + page * PAGE), Some(page as u64 + 1), "{page}");
    }
}
