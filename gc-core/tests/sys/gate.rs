//! The gate of the page barrier on a real kernel: what a page, a hole, a chunk that went back and
//! an ended registration answer when they are installed.

use crate::trials::{Test, catch_unwind, named};
use gc_core::sys;
use gc_core::views::{Gate, GateError, InstallResult, MIN_SPAN, Mirror, Views};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

const PAGE: usize = 4096;

fn gated(bytes: usize) -> Result<(Views, Gate), GateError> {
    let views = Views::new("gate-test", bytes, Mirror::default()).unwrap();
    Gate::new(&views).map(|gate| (views, gate))
}

fn write(address: usize, value: u64) {
    // SAFETY: tests write into views they own, where pages are present.
    unsafe { ptr::with_exposed_provenance_mut::<u64>(address).write_volatile(value) }
}

/// Reads a word the way the kernel does for a system call: where a touch would raise a signal,
/// `None`.
fn read(address: usize) -> Option<u64> {
    let mut word = 0_u64;
    let here = libc::iovec { iov_base: ptr::from_mut(&mut word).cast(), iov_len: 8 };
    let there = libc::iovec { iov_base: ptr::with_exposed_provenance_mut(address), iov_len: 8 };
    // SAFETY: `here` is a word of this frame; the kernel checks `there`.
    let got = unsafe { libc::process_vm_readv(libc::getpid(), &here, 1, &there, 1, 0) };
    (got == 8).then_some(word)
}

/// A heap of two chunks whose pages hold their number and one; of the first page of each there is
/// none in the file.
fn flipped() -> (Views, Gate) {
    let (views, gate) = gated(2 * MIN_SPAN).unwrap();
    for page in 0..2 * MIN_SPAN / PAGE {
        if page % (MIN_SPAN / PAGE) != 0 {
            write(gate.view() + page * PAGE, page as u64 + 1);
        }
    }
    // SAFETY: nobody else is in this heap.
    unsafe { gate.flip(0..0, 1) }.unwrap();
    (views, gate)
}

fn install(gate: &Gate, page: usize, pages: usize) -> InstallResult {
    // SAFETY: the pages are as fit to be seen as they ever were.
    unsafe { gate.install(page * PAGE, pages * PAGE) }
}

fn a_flip_leaves_no_page_that_does_not_fault() {
    let (_views, gate) = flipped();
    // A kernel before 6.7 does not say which pages are present.
    if let Ok(present) = gate.present_pages(&(0..0)) {
        assert_eq!(present, 0);
    }
    for page in [0, 1, 5, 511, 512, 1023] {
        assert_eq!(read(gate.view() + page * PAGE), None, "page {page} does not fault");
    }
}

/// Of a heap of which nobody has ever used the second chunk.
fn what_a_flip_leaves_can_be_touched() {
    let (_views, gate) = gated(3 * MIN_SPAN).unwrap();
    let chunk = MIN_SPAN / PAGE;
    let pages = [1, chunk + 1, 2 * chunk + 1];
    for round in 1..4 {
        pages.iter().for_each(|page| write(gate.view() + page * PAGE, round));
        // SAFETY: nobody else is in this heap.
        let left = unsafe { gate.flip(MIN_SPAN - PAGE..2 * MIN_SPAN + PAGE, MIN_SPAN) }.unwrap();
        assert_eq!(left, MIN_SPAN..2 * MIN_SPAN);
        assert_eq!(read(gate.view() + pages[1] * PAGE), Some(round));
        if let Ok(present) = gate.present_pages(&left) {
            assert_eq!(present, 0);
        }
        for page in [pages[0], pages[2]] {
            assert_eq!(read(gate.view() + page * PAGE), None);
            assert_eq!(install(&gate, page, 1), InstallResult::Present);
            assert_eq!(read(gate.view() + page * PAGE), Some(round));
        }
        assert_eq!(install(&gate, pages[1], 1), InstallResult::Present);
        assert_eq!(read(gate.view() + pages[1] * PAGE), Some(round));
        // SAFETY: all pages are as before.
        unsafe { gate.end() }.unwrap();
        gate.discard_from_view(0, 3 * MIN_SPAN).unwrap();
        gate.prepare().unwrap();
        gate.rehearse();
    }
}

/// A system call touches the view between two flips: what it maps there is taken away by the next.
fn what_a_stray_access_has_mapped_faults_after_the_next_flip() {
    let (_views, gate) = flipped();
    for _ in 0..3 {
        assert_eq!(install(&gate, 0, 1024), InstallResult::Present);
        // SAFETY: all pages are as before.
        unsafe { gate.end() }.unwrap();
        assert_eq!(read(gate.view() + 7 * PAGE), Some(8));
        gate.discard_from_view(0, 2 * MIN_SPAN).unwrap();
        // SAFETY: nobody else is in this heap.
        unsafe { gate.flip(0..0, 1) }.unwrap();
        assert_eq!(read(gate.view() + 7 * PAGE), None);
    }
}

fn a_page_is_installed_with_its_bytes() {
    let (views, gate) = flipped();
    // Repaired where the collector sees it.
    write(views.canonical() + 5 * PAGE, 77);
    assert_eq!(install(&gate, 5, 1), InstallResult::Present);
    assert_eq!(read(gate.view() + 5 * PAGE), Some(77));
    assert_eq!((read(gate.view() + 4 * PAGE), read(gate.view() + 6 * PAGE)), (None, None));
}

/// `EEXIST`, said of the first page that is there: the others are installed all the same.
fn pages_that_are_there_already_are_passed_over() {
    let (_views, gate) = flipped();
    assert_eq!(install(&gate, 12, 2), InstallResult::Present);
    assert_eq!(install(&gate, 12, 1), InstallResult::Present);
    assert_eq!(install(&gate, 15, 1), InstallResult::Present);
    assert_eq!(install(&gate, 10, 10), InstallResult::Present);
    for page in 10..20 {
        assert_eq!(read(gate.view() + page * PAGE), Some(page as u64 + 1));
    }
    assert_eq!(read(gate.view() + 20 * PAGE), None);
}

/// `EFAULT`: the file has no page there. It gets one, of zeroes, and the rest of the range comes in
/// as well.
fn a_hole_is_filled_with_zeroes() {
    let (views, gate) = flipped();
    assert_eq!(install(&gate, 510, 5), InstallResult::Present);
    let words: Vec<_> = (510..515).map(|page| read(gate.view() + page * PAGE)).collect();
    assert_eq!(words, [Some(511), Some(512), Some(0), Some(514), Some(515)]);
    // Punched out of the middle of what is there, after it had come in.
    views.uncommit(512 * PAGE, PAGE).unwrap();
    views.uncommit(514 * PAGE, PAGE).unwrap();
    assert_eq!(read(gate.view() + 514 * PAGE), None, "a hole faults again");
    assert_eq!(install(&gate, 510, 5), InstallResult::Present);
    assert_eq!(read(gate.view() + 514 * PAGE), Some(0));
}

/// `ENOENT`: a chunk that went back is not gated, and its pages are there; the other chunk still
/// is.
fn a_chunk_that_went_back_is_not_gated() {
    let (_views, gate) = flipped();
    // SAFETY: the pages are as before.
    unsafe { gate.restore_page_tables(0, MIN_SPAN) }.unwrap();
    for page in [1, 3, 511] {
        assert_eq!(install(&gate, page, 1), InstallResult::NotGated);
        assert_eq!(read(gate.view() + page * PAGE), Some(page as u64 + 1));
    }
    assert_eq!(read(gate.view()), Some(0), "a hole of it faults in like any other");
    assert_eq!(read(gate.view() + 600 * PAGE), None);
    assert_eq!(install(&gate, 600, 1), InstallResult::Present);
    assert_eq!(read(gate.view() + 600 * PAGE), Some(601));
}

fn after_the_end_nothing_is_gated() {
    let (_views, gate) = flipped();
    assert_eq!(install(&gate, 0, 512), InstallResult::Present);
    // SAFETY: the pages are as before.
    unsafe { gate.restore_page_tables(MIN_SPAN, MIN_SPAN) }.unwrap();
    // SAFETY: as above.
    unsafe { gate.end() }.unwrap();
    assert_eq!(install(&gate, 3, 1), InstallResult::NotGated);
    for page in [1, 3, 511, 513, 1023] {
        assert_eq!(read(gate.view() + page * PAGE), Some(page as u64 + 1));
    }
    // SAFETY: nobody else is in this heap; the from-view is emptied first.
    unsafe {
        gate.discard_from_view(0, 2 * MIN_SPAN).unwrap();
        gate.flip(0..0, 1).unwrap();
    }
    assert_eq!(read(gate.view() + 3 * PAGE), None);
}

/// Threads let the same pages in while mappings change beside them: `EAGAIN` and partial answers
/// are tried again.
fn many_let_the_same_pages_in() {
    let (_views, gate) = flipped();
    std::thread::scope(|scope| {
        for first in 0..4 {
            let gate = &gate;
            scope.spawn(move || {
                for page in (first..512).step_by(3) {
                    assert_ne!(install(gate, page, (512 - page).min(40)), InstallResult::NotGated);
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

/// Breaks where a flip does not drop what an access between its calls has mapped: threads that
/// access the view through the kernel all the time wait for the first call to end, and come before
/// the next.
fn what_is_mapped_in_the_middle_of_a_flip_faults_after_it() {
    let (_views, gate) = flipped();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for page in [5, 700] {
            let (gate, over) = (&gate, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    read(gate.view() + page * PAGE);
                }
            });
        }
        /// Ends the threads also where an assertion fails.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(&over);
        for flip in 0..1000 {
            assert_eq!(install(&gate, 0, 1024), InstallResult::Present);
            // SAFETY: all pages are as before.
            unsafe { gate.end() }.unwrap();
            gate.prepare().unwrap();
            // SAFETY: the others touch the view through the kernel, which answers where a page is
            // gated.
            unsafe { gate.flip(0..0, 1) }.unwrap();
            for page in [5, 700] {
                assert_eq!(read(gate.view() + page * PAGE), None, "page {page} does not fault after flip {flip}");
            }
        }
    });
}

/// Set in the child that plays the test below.
const LIMITED: &str = "SYS_GATE_LIMITED";

/// The kernel looks at the limit when it has unmapped what is to be replaced.
fn a_chunk_that_cannot_go_back_stays_gated() {
    if std::env::var_os(LIMITED).is_none() {
        let this = std::env::current_exe().unwrap();
        let mut child = std::process::Command::new(this);
        child.args(["--exact", "a_chunk_that_cannot_go_back_stays_gated"]).env(LIMITED, "1");
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let (_views, gate) = flipped();
    let set_limit = |bytes| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the kernel reads a value of this frame.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    };
    set_limit(1 << 20);
    // SAFETY: the pages are as fit to be seen as they ever were.
    let given = unsafe { gate.restore_page_tables(0, MIN_SPAN) };
    let prepared = gate.prepare();
    set_limit(libc::RLIM_INFINITY);
    assert_eq!(given.unwrap_err().errno(), libc::ENOMEM);
    assert_eq!(prepared.unwrap_err().errno(), libc::ENOMEM, "a flip would leave a hole");
    for page in [1, 2] {
        assert_eq!(read(gate.view() + page * PAGE), None);
        assert_eq!(install(&gate, page, 1), InstallResult::Present);
        assert_eq!(read(gate.view() + page * PAGE), Some(page as u64 + 1));
    }
    // SAFETY: as above.
    unsafe { gate.restore_page_tables(0, MIN_SPAN) }.unwrap();
    assert_eq!(read(gate.view() + 5 * PAGE), Some(6));
}

/// A later heap stands where the gate's view would be, if that had ended with its views.
fn a_gate_keeps_the_addresses_of_its_views() {
    let (views, gate) = gated(2 * MIN_SPAN).unwrap();
    let (base, view) = (views.base(), gate.view());
    write(view, 7);
    drop(views);
    let later = Views::new("gate-test", 2 * MIN_SPAN, Mirror::default()).unwrap();
    assert_ne!(later.base(), base, "these addresses are the gate's");
    for parity in 0..2 {
        write(later.view(parity), 8);
    }
    gate.prepare().unwrap();
    gate.discard_from_view(0, 2 * MIN_SPAN).unwrap();
    for parity in 0..2 {
        assert_eq!(read(later.view(parity)), Some(8));
    }
    assert_eq!(read(view), Some(7), "still mapped");
    drop(gate);
    assert_eq!(read(view), None, "and no longer");
}

/// Safe methods change what is the views' and nothing else, whatever they are given.
fn what_is_not_in_the_view_is_refused() {
    let (views, gate) = gated(2 * MIN_SPAN).unwrap();
    let mut other = vec![7_u64; 1 << 20];
    let bytes = 8 * other.len();
    let elsewhere = other.as_mut_ptr().expose_provenance().wrapping_sub(views.view(1));
    let whole = 2 * MIN_SPAN;
    let refused = |what: &str, work: &dyn Fn()| {
        let outcome = catch_unwind(work);
        let why = outcome.expect_err(what).downcast::<String>().expect("a message");
        assert!(why.contains("are not in a"), "{what}: {why}");
    };
    for (offset, len) in [(elsewhere, bytes), (0, whole + PAGE), (whole, 1), (PAGE, usize::MAX), (usize::MAX, PAGE)] {
        refused("Gate::discard_from_view", &|| gate.discard_from_view(offset, len).unwrap());
        refused("Gate::present_pages", &|| _ = gate.present_pages(&(offset..offset.saturating_add(len))));
        refused("Views::uncommit", &|| views.uncommit(offset, len).unwrap());
        refused("Views::populate", &|| views.populate(offset, len).unwrap());
        refused("Views::collapse", &|| _ = views.collapse(offset, len).unwrap());
    }
    assert!(std::hint::black_box(&other).iter().all(|word| *word == 7));
    assert_eq!(sys::present_pages(PAGE, usize::MAX).unwrap_err().errno(), libc::EINVAL);
}

/// Offsets of pages that a test of parts writes: one in each part, the last three opened later.
const IN_PARTS: [usize; 5] = [PAGE, 3 * MIN_SPAN + 2 * PAGE, 4 * MIN_SPAN, MIN_SPAN, 7 * MIN_SPAN + 5 * PAGE];

/// Private memory of which parts are open, neighbours and others, and more of them while pages are
/// away.
fn parts_are_moved_one_after_the_other_and_opened_meanwhile() {
    let open = [0..MIN_SPAN, 3 * MIN_SPAN..4 * MIN_SPAN];
    let views = Views::anonymous_in_parts(8 * MIN_SPAN, &open).unwrap();
    let gate = match Gate::new(&views) {
        Ok(gate) => gate,
        Err(error) => return println!("not tested: {error}"),
    };
    let parts = views.parts().unwrap();
    let value = |offset: usize| offset as u64 + 1;
    for at in [IN_PARTS[0], IN_PARTS[1]] {
        write(gate.view() + at, value(at));
    }
    assert_eq!((read(gate.view() + MIN_SPAN), parts.count()), (None, 2), "what is not open is accessible");
    // SAFETY: nobody else is in this heap.
    let flip = || unsafe { gate.prepare().and_then(|()| gate.flip(0..0, 1).map_err(|refused| *refused.error)) };
    flip().unwrap();
    // Beside others, and alone: zeroes in both views, and a fault.
    parts.open(4 * MIN_SPAN..5 * MIN_SPAN).unwrap();
    parts.open(0..2 * MIN_SPAN).unwrap();
    parts.open(7 * MIN_SPAN..8 * MIN_SPAN).unwrap();
    assert_eq!(parts.count(), 5);
    for at in IN_PARTS {
        let there = if at == IN_PARTS[0] || at == IN_PARTS[1] { value(at) } else { 0 };
        assert_eq!((read(gate.view() + at), read(gate.repair_base() + at)), (None, Some(there)), "{at:#x}");
    }
    // A run over the border of two parts, and pages alone.
    assert_eq!(install(&gate, 0, 2 * MIN_SPAN / PAGE), InstallResult::Present);
    for at in &IN_PARTS[1..] {
        assert_eq!(install(&gate, at / PAGE, 1), InstallResult::Present);
    }
    for at in IN_PARTS {
        let there = if at == IN_PARTS[0] || at == IN_PARTS[1] { value(at) } else { 0 };
        assert_eq!(read(gate.view() + at), Some(there), "{at:#x}");
        write(gate.view() + at, value(at));
    }
    // SAFETY: all that was written is there again.
    unsafe { gate.end() }.unwrap();
    gate.discard_from_view(0, 8 * MIN_SPAN).unwrap();
    // All of them are moved by the next.
    flip().unwrap();
    if let Ok(present) = gate.present_pages(&(0..0)) {
        assert_eq!(present, 0);
    }
    for at in IN_PARTS {
        assert_eq!((read(gate.view() + at), read(gate.repair_base() + at)), (None, Some(value(at))), "{at:#x}");
        assert_eq!(install(&gate, at / PAGE, 1), InstallResult::Present);
        assert_eq!(read(gate.view() + at), Some(value(at)), "{at:#x}");
    }
    assert_eq!(read(gate.view() + 5 * MIN_SPAN), None);
}

/// Where two were at it, one found a page of its own registered by the other, and nobody serves
/// that fault.
fn rehearsals_at_once_leave_each_other_alone() {
    let (_views, gate) = gated(2 * MIN_SPAN).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..300).for_each(|_| gate.rehearse()));
        }
    });
}

pub(crate) fn trials() -> Vec<Test> {
    let refused = gated(MIN_SPAN).err().map(|error| error.to_string());
    let tests = [
        named!(a_flip_leaves_no_page_that_does_not_fault),
        named!(what_a_flip_leaves_can_be_touched),
        named!(what_a_stray_access_has_mapped_faults_after_the_next_flip),
        named!(a_page_is_installed_with_its_bytes),
        named!(pages_that_are_there_already_are_passed_over),
        named!(a_hole_is_filled_with_zeroes),
        named!(a_chunk_that_went_back_is_not_gated),
        named!(a_chunk_that_cannot_go_back_stays_gated),
        named!(after_the_end_nothing_is_gated),
        named!(many_let_the_same_pages_in),
        named!(what_is_mapped_in_the_middle_of_a_flip_faults_after_it),
        named!(a_gate_keeps_the_addresses_of_its_views),
        named!(what_is_not_in_the_view_is_refused),
        named!(parts_are_moved_one_after_the_other_and_opened_meanwhile),
        named!(rehearsals_at_once_leave_each_other_alone),
    ];
    tests.map(|(name, body)| (name, body, refused.clone())).into()
}
