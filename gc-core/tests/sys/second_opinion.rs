//! Each ioctl of userfaultfd twice: by `gc_core::sys` and by the `userfaultfd` crate, on two ranges
//! alike. Both must answer the same and leave the same pages behind. The crate has no
//! `UFFDIO_MOVE`.

use crate::trials::{Test, named};
use crate::uffd::{BYTES, Heap, PAGE, PAGES, try_read, try_uffd, uffd, word};
use gc_core::sys::{self, RegisterMode, SysError, Uffd, UffdSource};
use gc_core::sys::{UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MISSING_SHMEM, UFFD_FEATURE_MOVE, UFFD_FEATURE_SIGBUS};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use userfaultfd::{Error, FeatureFlags, UffdBuilder};

/// Bytes, or 0 where a call has none to tell; else the errno.
type Outcome = Result<usize, i32>;

/// The calls, by one of the two. Each caller owns the ranges, and only the kernel touches pages
/// that are not there.
trait Calls {
    fn register(&self, address: usize, len: usize, minor: bool) -> Outcome;
    fn unregister(&self, address: usize, len: usize) -> Outcome;
    fn bring(&self, address: usize, len: usize, wake: bool) -> Outcome;
    fn copy(&self, to: usize, from: usize, len: usize, wake: bool) -> Outcome;
    fn wake(&self, address: usize, len: usize) -> Outcome;
}

fn errno(error: SysError) -> i32 {
    error.errno()
}

impl Calls for Uffd {
    fn register(&self, address: usize, len: usize, minor: bool) -> Outcome {
        let mode = if minor { RegisterMode::MINOR | RegisterMode::MISSING } else { RegisterMode::MISSING };
        // SAFETY: the trait's rule.
        unsafe { sys::uffd_register(self, address, len, mode) }.map(|()| 0).map_err(errno)
    }

    fn unregister(&self, address: usize, len: usize) -> Outcome {
        // SAFETY: the trait's rule.
        unsafe { sys::uffd_unregister(self, address, len) }.map(|()| 0).map_err(errno)
    }

    fn bring(&self, address: usize, len: usize, wake: bool) -> Outcome {
        // SAFETY: the trait's rule.
        unsafe { sys::uffd_continue(self, address, len, wake) }.map_err(errno)
    }

    fn copy(&self, to: usize, from: usize, len: usize, wake: bool) -> Outcome {
        // SAFETY: the trait's rule.
        unsafe { sys::uffd_copy(self, to, from, len, wake) }.map_err(errno)
    }

    fn wake(&self, address: usize, len: usize) -> Outcome {
        sys::uffd_wake(self, address, len).map(|()| 0).map_err(errno)
    }
}

/// The crate's error as an outcome. It calls a copy that stopped on the way an error.
fn outcome(error: &Error) -> Outcome {
    match error {
        Error::SystemError(errno) | Error::CopyFailed(errno) => Err(*errno as i32),
        Error::PartiallyCopied(bytes) => Ok(*bytes),
        other => panic!("{other:?}"),
    }
}

impl Calls for userfaultfd::Uffd {
    fn register(&self, address: usize, len: usize, minor: bool) -> Outcome {
        use userfaultfd::RegisterMode as Mode;
        let mode = if minor { Mode::MINOR | Mode::MISSING } else { Mode::MISSING };
        self.register_with_mode(word(address).cast(), len, mode).map_or_else(|error| outcome(&error), |_| Ok(0))
    }

    fn unregister(&self, address: usize, len: usize) -> Outcome {
        userfaultfd::Uffd::unregister(self, word(address).cast(), len).map_or_else(|error| outcome(&error), |()| Ok(0))
    }

    fn bring(&self, address: usize, len: usize, wake: bool) -> Outcome {
        let mapped = self.r#continue(word(address).cast(), len, wake);
        mapped.map_or_else(|error| outcome(&error), |bytes| Ok(bytes as usize))
    }

    fn copy(&self, to: usize, from: usize, len: usize, wake: bool) -> Outcome {
        // SAFETY: the trait's rule.
        let copied = unsafe { userfaultfd::Uffd::copy(self, word(from).cast(), word(to).cast(), len, wake) };
        copied.map_or_else(|error| outcome(&error), Ok)
    }

    fn wake(&self, address: usize, len: usize) -> Outcome {
        userfaultfd::Uffd::wake(self, word(address).cast(), len).map_or_else(|error| outcome(&error), |()| Ok(0))
    }
}

/// The same descriptor, for the crate.
pub(crate) fn for_the_crate(uffd: &Uffd) -> userfaultfd::Uffd {
    let descriptor = uffd.as_fd().try_clone_to_owned().unwrap();
    // SAFETY: the descriptor is open, and nobody else has this number of it.
    unsafe { userfaultfd::Uffd::from_raw_fd(descriptor.into_raw_fd()) }
}

/// What a script comes to by each of the two, with a descriptor and another one of the same
/// features.
fn both<T>(features: u64, script: impl Fn(&dyn Calls, &dyn Calls) -> T) -> (T, T) {
    let (first, second) = (uffd(features), uffd(features));
    let ours = script(&first, &second);
    let (first, second) = (for_the_crate(&uffd(features)), for_the_crate(&uffd(features)));
    (ours, script(&first, &second))
}

/// What each page of a range holds; `EFAULT` where it is not there.
fn pages(base: usize) -> Vec<Result<u64, i32>> {
    (0..PAGES).map(|page| try_read(base + page * PAGE)).collect()
}

fn register_continue_and_unregister_answer_as_the_crate_does() {
    let features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM;
    let (ours, crates) = both(features, |uffd, other| {
        let heap = Heap::new();
        heap.file().punch_hole(9 * PAGE, PAGE).unwrap();
        let view = heap.view();
        // SAFETY: the range is this test's.
        unsafe { sys::discard(view, BYTES).unwrap() };
        let mut outcomes = vec![
            ("register half a page", uffd.register(view, PAGE / 2, true)),
            ("register from within a page", uffd.register(view + 8, PAGE, true)),
            ("register nothing", uffd.register(view, 0, true)),
            ("register", uffd.register(view, BYTES, true)),
            ("register again", uffd.register(view, BYTES, true)),
            ("register what another has", other.register(view, BYTES, true)),
            ("continue", uffd.bring(view + 3 * PAGE, PAGE, false)),
            ("continue what is there", uffd.bring(view + 3 * PAGE, PAGE, true)),
            ("continue as far as it goes", uffd.bring(view, BYTES, true)),
            ("continue over a hole", uffd.bring(view + 9 * PAGE, PAGE, false)),
            ("continue up to a hole", uffd.bring(view + 4 * PAGE, BYTES - 4 * PAGE, false)),
            ("continue nothing", uffd.bring(view, 0, false)),
            ("continue half a page", uffd.bring(view + 10 * PAGE, PAGE / 2, false)),
            ("continue through another descriptor", other.bring(view + 10 * PAGE, PAGE, false)),
            ("unregister half a page", uffd.unregister(view, PAGE / 2)),
        ];
        let there = pages(view);
        outcomes.push(("unregister", uffd.unregister(view, BYTES)));
        outcomes.push(("unregister again", uffd.unregister(view, BYTES)));
        outcomes.push(("continue what is not registered", uffd.bring(view + 12 * PAGE, PAGE, false)));
        (outcomes, there)
    });
    assert_eq!(ours, crates);
    let (outcomes, there) = ours;
    assert_eq!(outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count(), 8, "{outcomes:?}");
    assert_eq!(there.iter().filter(|page| page.is_ok()).count(), 10, "{there:?}");
}

fn copy_answers_as_the_crate_does() {
    let (ours, crates) = both(UFFD_FEATURE_SIGBUS, |uffd, other| {
        let (to, from) = (sys::reserve_writable(BYTES).unwrap(), sys::reserve_writable(BYTES).unwrap());
        // SAFETY: the range is this test's.
        unsafe { (0..PAGES).for_each(|page| word(from + page * PAGE).write_volatile(page as u64 + 1)) };
        let mut outcomes = vec![
            ("copy to what is not registered", uffd.copy(to, from, PAGE, false)),
            ("register minor what has no file", uffd.register(to, BYTES, true)),
            ("register", uffd.register(to, BYTES, false)),
            ("copy", uffd.copy(to + 2 * PAGE, from + 2 * PAGE, PAGE, false)),
            ("copy to what is there", uffd.copy(to + 2 * PAGE, from + 3 * PAGE, PAGE, true)),
            ("copy as far as it goes", uffd.copy(to, from, BYTES, true)),
            ("copy half a page", uffd.copy(to + 4 * PAGE, from, PAGE / 2, false)),
            ("copy from nowhere", uffd.copy(to + 4 * PAGE, 0, PAGE, false)),
            ("copy through another descriptor", other.copy(to + 4 * PAGE, from, PAGE, false)),
            ("continue what has no file", uffd.bring(to + 4 * PAGE, PAGE, false)),
        ];
        let there = pages(to);
        outcomes.push(("unregister", uffd.unregister(to, BYTES)));
        // SAFETY: the ranges are this test's, and end here.
        unsafe {
            sys::unmap(to, BYTES).unwrap();
            sys::unmap(from, BYTES).unwrap();
        }
        outcomes.push(("register what is not mapped", uffd.register(to, BYTES, false)));
        outcomes.push(("unregister what is not mapped", uffd.unregister(to, BYTES)));
        (outcomes, there)
    });
    assert_eq!(ours, crates);
    let (outcomes, there) = ours;
    assert_eq!(outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count(), 5, "{outcomes:?}");
    assert_eq!(there[..4], [Ok(1), Ok(2), Ok(3), Err(libc::EFAULT)]);
}

/// A page comes in and its toucher is not told; then it is.
fn wake_wakes_as_the_crate_does() {
    let (ours, crates) = both(UFFD_FEATURE_MINOR_SHMEM, |uffd, _| {
        let heap = Heap::new();
        let view = heap.view();
        // SAFETY: the range is this test's, and the one thread that touches an absent page is
        // served below.
        unsafe { sys::discard(view, BYTES).unwrap() };
        let mut outcomes = vec![uffd.register(view, BYTES, true)];
        let page = view + 5 * PAGE;
        // SAFETY: as above.
        let toucher = thread::spawn(move || unsafe { word(page).read_volatile() });
        // The toucher sleeps on its fault: it has not ended when the page is there.
        thread::sleep(Duration::from_millis(100));
        outcomes.extend([uffd.bring(page, PAGE, false), uffd.wake(view, PAGE / 2), uffd.wake(view, 0)]);
        thread::sleep(Duration::from_millis(100));
        let slept = !toucher.is_finished();
        outcomes.push(uffd.wake(view, BYTES));
        let long = Instant::now() + Duration::from_secs(30);
        while !toucher.is_finished() {
            assert!(Instant::now() < long, "nothing woke the thread");
            thread::sleep(Duration::from_millis(1));
        }
        outcomes.push(uffd.unregister(view, BYTES));
        (outcomes, slept, toucher.join().unwrap())
    });
    assert_eq!(ours, crates);
    let expected = vec![Ok(0), Ok(PAGE), Err(libc::EINVAL), Err(libc::EINVAL), Ok(0), Ok(0)];
    assert_eq!(ours, (expected, true, 6));
}

/// The crate opens the device where there is one, else it makes the system call, and agrees at
/// once.
fn opening_and_agreeing_answer_as_the_crate_does() {
    let device = Path::new("/dev/userfaultfd").exists();
    let source = if device { UffdSource::Device } else { UffdSource::SystemCallUserModeOnly };
    for features in [0, UFFD_FEATURE_SIGBUS, UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MOVE, 1 << 63] {
        let ours = sys::open_uffd(source).and_then(|uffd| sys::uffd_api(&uffd, features));
        let mut builder = UffdBuilder::new();
        builder.close_on_exec(true).non_blocking(true).user_mode_only(true);
        let crates = builder.require_features(FeatureFlags::from_bits_retain(features)).create();
        let crates = crates.map_err(|error| match error {
            Error::SystemError(errno) => errno as i32,
            Error::OpenDevUserfaultfd(error) => error.raw_os_error().unwrap(),
            other => panic!("{other:?}"),
        });
        assert_eq!(ours.map(drop).map_err(errno), crates.map(drop), "features {features:#x}");
    }
    assert_eq!(sys::UFFD_FEATURE_SIGBUS, userfaultfd_sys::UFFD_FEATURE_SIGBUS);
    assert_eq!(sys::UFFD_FEATURE_MINOR_SHMEM, userfaultfd_sys::UFFD_FEATURE_MINOR_SHMEM);
    assert_eq!(sys::UFFD_FEATURE_MISSING_SHMEM, userfaultfd_sys::UFFD_FEATURE_MISSING_SHMEM);
}

pub(crate) fn trials() -> Vec<Test> {
    let tests = [
        (
            named!(register_continue_and_unregister_answer_as_the_crate_does),
            UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM,
        ),
        (named!(copy_answers_as_the_crate_does), UFFD_FEATURE_SIGBUS),
        (named!(wake_wakes_as_the_crate_does), UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM),
        (named!(opening_and_agreeing_answer_as_the_crate_does), 0),
    ];
    let trial = |((name, body), features)| (name, body, try_uffd(features).err().map(|error| error.to_string()));
    tests.map(trial).into()
}
