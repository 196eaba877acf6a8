//! Refusals to order: `gc_core::sys::inject`. They concern a whole process, so one test has them
//! all, in order.
#![cfg(not(loom))]

use gc_core::ephemeron::{PendingEphemerons, Scan};
use gc_core::sys::{self, HeapFile, RegisterMode, UffdSource, inject};
use gc_core::units::Offset;

fn count(of: &[(&str, u64)], call: &str) -> u64 {
    of.iter().find(|(name, _)| *name == call).map_or(0, |(_, count)| *count)
}

#[test]
fn calls_are_counted_and_refused_by_number() {
    let page = sys::page_size();
    let map = || sys::reserve(page, page);
    let before = count(&inject::made(), "mmap");
    inject::refuse("mmap", libc::ENOMEM, 1, 2);
    let outcomes: Vec<_> = (0..4).map(|_| map().map_err(|error| error.errno()).err()).collect();
    assert_eq!(outcomes, [None, Some(libc::ENOMEM), Some(libc::ENOMEM), None]);
    assert_eq!(count(&inject::made(), "mmap"), before + 4);
    assert_eq!(count(&inject::refusals(), "mmap"), 2);
    inject::refuse("mmap", libc::EPERM, 0, u64::MAX);
    assert!((0..5).all(|_| map().is_err_and(|error| error.errno() == libc::EPERM)));
    inject::refuse_nothing();
    assert!(map().is_ok());

    // Each call of a heap's file, and what the caller hears of it: the call and the errno, none
    // made up.
    for call in ["memfd_create(MFD_NOEXEC_SEAL)", "ftruncate", "fcntl(F_ADD_SEALS)"] {
        inject::refuse(call, libc::EMFILE, 0, 1);
        let error = HeapFile::new("inject", page).unwrap_err();
        assert_eq!((error.call(), error.errno()), (call, libc::EMFILE));
    }
    // A kernel before 6.3: without the flag.
    inject::refuse("memfd_create(MFD_NOEXEC_SEAL)", libc::EINVAL, 0, 1);
    assert!(!HeapFile::new("inject", page).unwrap().is_no_exec());
    // A signal's interruption is no refusal, and nor is a question that a sandbox does not answer.
    for call in ["ftruncate", "getrlimit"] {
        inject::refuse(call, libc::EINTR, 0, 1);
        HeapFile::new("inject", page).unwrap();
    }
    let file = HeapFile::new("inject", page).unwrap();
    inject::refuse("fallocate(PUNCH_HOLE)", libc::EINTR, 0, 3);
    file.punch_hole(0, page).unwrap();
    assert_eq!(count(&inject::refusals(), "fallocate(PUNCH_HOLE)"), 3);
    a_refusal_of_room_for_pairs_is_remembered();
    userfaultfd_calls_are_refused();
}

/// A marker meets each pair again in each pass: an allocator that has refused is not asked for
/// every one of them.
fn a_refusal_of_room_for_pairs_is_remembered() {
    let table = "alloc(table)";
    let waiting = PendingEphemerons::new(usize::MAX);
    let [key, pair] = [8, 16].map(Offset::new);
    let refused = || count(&inject::refusals(), table);
    let before = refused();
    inject::refuse(table, libc::ENOMEM, 0, u64::MAX);
    assert!(
        (0..1000).all(|pair| waiting.wait_for(Offset::new(pair * 8), Offset::new(pair * 16), || false) == Scan::Full)
    );
    assert_eq!((refused(), waiting.len()), (before + 1, 0));
    waiting.widen(64);
    assert_eq!(waiting.wait_for(key, pair, || false), Scan::Full);
    assert_eq!(refused(), before + 2);
    // The lists themselves.
    let without = PendingEphemerons::new(usize::MAX);
    inject::refuse_nothing();
    assert_eq!(without.wait_for(key, pair, || false), Scan::Full);
    assert_eq!(without.wait_for(key, pair, || true), Scan::Value);
    without.take(key, false, |_| panic!("nothing waits"));
    without.take_all(|_| panic!("nothing waits"));
    assert_eq!(without.bytes(), 0);
    // There is memory again.
    waiting.widen(64);
    assert_eq!(waiting.wait_for(key, pair, || false), Scan::Waits);
}

/// The name of a call, and the call.
type Call<'a> = (&'static str, &'a dyn Fn() -> Result<(), sys::SysError>);

/// The ioctls of a userfaultfd descriptor: none that is refused reaches the kernel.
fn userfaultfd_calls_are_refused() {
    let Some(uffd) = UffdSource::ALL.into_iter().find_map(|source| sys::open_uffd(source).ok()) else {
        println!("userfaultfd is refused here: its ioctls are not tried");
        return;
    };
    let page = sys::page_size();
    let at = sys::reserve_writable(page).unwrap();
    // SAFETY: the page is this test's, and nothing points into it.
    let calls: [Call<'_>; 7] = unsafe {
        [
            ("ioctl(UFFDIO_API)", &|| sys::uffd_api(&uffd, 0).map(drop)),
            ("ioctl(UFFDIO_REGISTER)", &|| sys::uffd_register(&uffd, at, page, RegisterMode::MISSING)),
            ("ioctl(UFFDIO_CONTINUE)", &|| sys::uffd_continue(&uffd, at, page, true).map(drop)),
            ("ioctl(UFFDIO_COPY)", &|| sys::uffd_copy(&uffd, at, at, page, true).map(drop)),
            ("ioctl(UFFDIO_MOVE)", &|| sys::uffd_move(&uffd, at, at, page, true).map(drop)),
            ("ioctl(UFFDIO_WAKE)", &|| sys::uffd_wake(&uffd, at, page)),
            ("ioctl(UFFDIO_UNREGISTER)", &|| sys::uffd_unregister(&uffd, at, page)),
        ]
    };
    for (call, make) in calls {
        inject::refuse(call, libc::ENOLINK, 0, 1);
        let error = make().unwrap_err();
        assert_eq!((error.call(), error.errno(), count(&inject::refusals(), call)), (call, libc::ENOLINK, 1));
    }
    // SAFETY: the page is this test's, and ends here.
    unsafe { sys::unmap(at, page).unwrap() };
}
