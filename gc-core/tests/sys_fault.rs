//! Faults and their servers: `gc_core::fault`. A fault that is not served ends this process, and
//! with it the test.
#![cfg(not(loom))]

use gc_core::fault::{Served, Server, register};
use gc_core::sys;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const PAGE: usize = 4096;

/// A page of a file that has none: touching it is a `SIGBUS`.
fn map_nothing(at: *mut u8) -> *mut u8 {
    let fixed = if at.is_null() { 0 } else { libc::MAP_FIXED };
    // SAFETY: a new file, and a new mapping or one in the stead of this test's own.
    unsafe {
        let file = libc::memfd_create(c"nothing".as_ptr(), 0);
        let page = libc::mmap(at.cast(), PAGE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | fixed, file, 0);
        assert_ne!(page, libc::MAP_FAILED);
        libc::close(file);
        page.cast()
    }
}

/// Gives the page, and says that there was nothing to do: as a heap does whose flip has ended
/// meanwhile.
struct TooLate(AtomicUsize);

// SAFETY: an atomic addition and a system call; the page is zeroes.
unsafe impl Server for TooLate {
    fn serve(&self, address: usize) -> Served {
        self.0.fetch_add(1, Ordering::Relaxed);
        let page = ptr::with_exposed_provenance_mut::<libc::c_void>(address & !(PAGE - 1));
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the page of `map_nothing`; the call may be made in a handler.
        unsafe { libc::mmap(page, PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        Served::Nothing(7)
    }
}

/// The process's handler of `SIGBUS`.
fn handler() -> usize {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: reads the action into a local.
    unsafe {
        assert_eq!(libc::sigaction(libc::SIGBUS, ptr::null(), action.as_mut_ptr()), 0);
        action.assume_init().sa_sigaction
    }
}

/// Fails where an access is taken for one that was tried in vain already because an earlier server
/// of the same addresses had nothing to do for it in a round of the same number: heaps count their
/// flips from the first. The handler that is then called next, the standard library's, restores the
/// default action and returns; the page is there by then, so the access itself succeeds.
#[test]
fn a_server_is_not_taken_for_the_one_before_it() {
    let page = map_nothing(ptr::null_mut());
    for round in 0..3 {
        if round > 0 {
            map_nothing(page);
        }
        let server = Arc::new(TooLate(AtomicUsize::new(0)));
        // SAFETY: the page is this test's, which alone touches it, before the registration is
        // dropped.
        let registration = unsafe { register(page.expose_provenance(), PAGE, server.clone()) }.unwrap();
        let ours = handler();
        // SAFETY: the page is mapped, and given when it is touched.
        unsafe { page.write_volatile(1) };
        assert_eq!(server.0.load(Ordering::Relaxed), 1);
        assert_eq!(handler(), ours, "the fault was handed on in round {round}");
        drop(registration);
    }
    // SAFETY: this test's own mapping.
    unsafe { sys::unmap(page.expose_provenance(), PAGE) }.unwrap();
}
