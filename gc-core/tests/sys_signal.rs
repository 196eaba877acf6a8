//! Signal handlers, their stacks and masks: a fault is served on its own thread, and other signals
//! are passed on to the previous handler.
//!
//! Handlers belong to the whole process, so the tests that install one share a lock, and those that
//! must die do it in a process of their own.
#![cfg(not(loom))]

use gc_core::sys::{self, Access, AlternateStack, HeapFile, OldHandler, SignalContext, SignalFlags, SignalInfo};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::{env, ptr, thread};

const PAGE: usize = 4096;

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn word(address: usize) -> *mut u64 {
    ptr::with_exposed_provenance_mut(address)
}

fn file() -> &'static HeapFile {
    static FILE: OnceLock<HeapFile> = OnceLock::new();
    FILE.get_or_init(|| HeapFile::new("signal", PAGE).unwrap())
}

/// Two pages of addresses of a file that has one: an access to the second is a `SIGBUS`.
fn beyond_the_end() -> usize {
    let base = sys::reserve(2 * PAGE, PAGE).unwrap();
    // SAFETY: the reservation is this test's.
    unsafe { sys::map_file_at(base, file(), 0, 2 * PAGE, Access::ReadWrite).unwrap() };
    base + PAGE
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

fn set_errno(value: i32) {
    // SAFETY: this thread's own errno.
    unsafe { *libc::__errno_location() = value };
}

static SEEN_ADDRESS: AtomicUsize = AtomicUsize::new(0);
static SEEN_STACK: AtomicUsize = AtomicUsize::new(0);

/// Maps the file's page where the fault was, and leaves a failed call behind in `errno`, were that
/// not preserved.
extern "C" fn mend(_: i32, info: *mut SignalInfo, _: *mut SignalContext) {
    let here = 0_u8;
    SEEN_STACK.store(ptr::from_ref(&here).addr(), Ordering::SeqCst);
    sys::preserve_errno(|| {
        // SAFETY: called by the kernel with the signal's own information; the page is that of the
        // test.
        unsafe {
            let address = sys::absent_page(info).expect("a fault");
            SEEN_ADDRESS.store(address, Ordering::SeqCst);
            sys::map_file_at(address & !(PAGE - 1), file(), 0, PAGE, Access::ReadWrite).unwrap();
            assert!(sys::unmap(1, PAGE).is_err(), "leaves EINVAL");
        }
    });
}

const ON_STACK: SignalFlags = SignalFlags { on_stack: true, no_defer: true };

#[test]
fn a_fault_is_mended_on_the_alternate_stack_and_errno_survives() {
    let _alone = one_at_a_time();
    let _before = Before::of(sys::SIGBUS);
    // SAFETY: the handler keeps to what handlers may do; the stack is this test's and outlives the
    // thread.
    unsafe {
        sys::install_signal_handler(sys::SIGBUS, mend, ON_STACK).unwrap();
        thread::spawn(|| {
            let len = sys::alternate_stack_minimum() + 64 * 1024;
            let len = len.next_multiple_of(PAGE);
            let stack = AlternateStack { base: sys::reserve_writable(len).unwrap(), len };
            let before = sys::set_alternate_stack(Some(stack)).unwrap();
            assert_eq!(sys::alternate_stack(), Ok(Some(stack)));
            let address = beyond_the_end();
            word(address - PAGE).write_volatile(77);
            set_errno(libc::E2BIG);
            let value = word(address + 8).read_volatile();
            assert_eq!(errno(), libc::E2BIG, "the interrupted code's errno");
            assert_eq!((value, word(address).read_volatile()), (0, 77), "the access went on");
            assert_eq!(SEEN_ADDRESS.load(Ordering::SeqCst), address + 8, "exact within the page");
            let on = SEEN_STACK.load(Ordering::SeqCst);
            assert!((stack.base..stack.base + stack.len).contains(&on), "{on:#x} on {stack:x?}");
            assert_eq!(sys::set_alternate_stack(before).unwrap(), Some(stack));
            assert_eq!(sys::alternate_stack(), Ok(before));
            assert_eq!(sys::set_alternate_stack(None).unwrap(), before);
            assert_eq!(sys::alternate_stack(), Ok(None));
            sys::set_alternate_stack(before).unwrap();
            sys::unmap(stack.base, stack.len).unwrap();
            sys::unmap(address - PAGE, 2 * PAGE).unwrap();
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_stack_too_small_for_the_kernel_is_refused() {
    // SAFETY: the range is never used, for the kernel refuses it.
    let error = unsafe { sys::set_alternate_stack(Some(AlternateStack { base: 4096, len: 1 })) }.unwrap_err();
    assert_eq!(error.errno(), libc::ENOMEM, "{error}");
}

/// The action of a signal, which is installed again when the value is dropped.
struct Before {
    signal: i32,
    action: libc::sigaction,
}

impl Before {
    fn of(signal: i32) -> Before {
        // SAFETY: a `sigaction` of zeros is a value, and the call writes it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            assert_eq!(libc::sigaction(signal, ptr::null(), &mut action), 0);
            Before { signal, action }
        }
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        // SAFETY: the code of this action is still there, for nothing was unloaded.
        assert_eq!(unsafe { libc::sigaction(self.signal, &self.action, ptr::null_mut()) }, 0);
    }
}

static PREVIOUS: Mutex<Option<OldHandler>> = Mutex::new(None);
static CALLS: AtomicI32 = AtomicI32::new(0);
static BLOCKED_IN_OLD: AtomicI32 = AtomicI32::new(-1);

/// Passes everything on. The tests do not contend for the lock, so a handler may look into it here.
extern "C" fn pass_on(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    let old = PREVIOUS.try_lock().ok().and_then(|old| *old);
    if let Some(old) = old {
        // SAFETY: the pointers are this handler's own, the code is this test's.
        unsafe { old.chain(info, context) };
    }
    assert!(signal == libc::SIGBUS || signal == libc::SIGUSR1);
}

extern "C" fn count_with_information(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    BLOCKED_IN_OLD.store(i32::from(sys::signal_is_blocked(signal).unwrap()), Ordering::SeqCst);
    mend(signal, info, context);
}

extern "C" fn count_without(signal: i32) {
    BLOCKED_IN_OLD.store(i32::from(sys::signal_is_blocked(signal).unwrap()), Ordering::SeqCst);
    CALLS.fetch_add(10, Ordering::SeqCst);
}

fn install_in_front(signal: i32) -> OldHandler {
    // SAFETY: the handler keeps to what handlers may do.
    let old = unsafe { sys::install_signal_handler(signal, pass_on, ON_STACK) }.unwrap();
    *PREVIOUS.lock().unwrap() = Some(old);
    CALLS.store(0, Ordering::SeqCst);
    old
}

#[test]
fn a_fault_that_is_not_ours_reaches_the_handler_before_us() {
    let _alone = one_at_a_time();
    let _before = Before::of(sys::SIGBUS);
    // SAFETY: handlers that keep to what handlers may do, and a page of this test.
    unsafe {
        sys::install_signal_handler(sys::SIGBUS, count_with_information, SignalFlags::default()).unwrap();
        install_in_front(sys::SIGBUS);
        let address = beyond_the_end();
        word(address).write_volatile(5);
        assert_eq!(word(address - PAGE).read_volatile(), 5);
        assert_eq!((CALLS.load(Ordering::SeqCst), BLOCKED_IN_OLD.load(Ordering::SeqCst)), (1, 1));
        assert!(!sys::signal_is_blocked(sys::SIGBUS).unwrap(), "the mask is as before");
        sys::unmap(address - PAGE, 2 * PAGE).unwrap();
    }
}

#[test]
fn an_old_handler_of_one_argument_is_called_too() {
    let _alone = one_at_a_time();
    let _before = Before::of(libc::SIGUSR1);
    // SAFETY: an action of this frame, handlers that keep to what handlers may do.
    unsafe {
        let mut plain: libc::sigaction = std::mem::zeroed();
        plain.sa_sigaction = count_without as *const () as usize;
        plain.sa_flags = libc::SA_NODEFER;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &plain, ptr::null_mut()), 0);
        install_in_front(libc::SIGUSR1);
        libc::raise(libc::SIGUSR1);
        assert_eq!(CALLS.load(Ordering::SeqCst), 11);
        assert_eq!(BLOCKED_IN_OLD.load(Ordering::SeqCst), 0, "it had asked not to be blocked");
    }
}

#[test]
fn an_ignored_signal_that_was_sent_stays_ignored() {
    let _alone = one_at_a_time();
    // SAFETY: no memory is involved.
    unsafe {
        assert_ne!(libc::signal(libc::SIGUSR1, libc::SIG_IGN), libc::SIG_ERR);
        let old = install_in_front(libc::SIGUSR1);
        assert!(!old.is_same_code(&OldHandler::default_of(libc::SIGUSR1)));
        libc::raise(libc::SIGUSR1);
        libc::raise(libc::SIGUSR1);
        assert_eq!(CALLS.load(Ordering::SeqCst), 2, "the handler stays installed");
        assert_ne!(libc::signal(libc::SIGUSR1, libc::SIG_DFL), libc::SIG_ERR);
    }
}

#[test]
fn masks_are_of_the_thread() {
    thread::spawn(|| {
        assert!(!sys::signal_is_blocked(libc::SIGUSR2).unwrap());
        assert!(!sys::block_signal(libc::SIGUSR2).unwrap());
        assert!(sys::block_signal(libc::SIGUSR2).unwrap(), "it was blocked already");
        assert!(sys::signal_is_blocked(libc::SIGUSR2).unwrap() && !sys::signal_is_blocked(sys::SIGBUS).unwrap());
        assert!(!thread::scope(|s| s.spawn(|| sys::unblock_signal(sys::SIGBUS).unwrap()).join().unwrap()));
        assert!(sys::unblock_signal(libc::SIGUSR2).unwrap());
        assert!(!sys::signal_is_blocked(libc::SIGUSR2).unwrap());
        assert_eq!(sys::block_signal(4000).unwrap_err().errno(), libc::EINVAL);
    })
    .join()
    .unwrap();
}

#[test]
fn what_cannot_be_caught_is_an_error() {
    // SAFETY: nothing is installed.
    let error = unsafe { sys::install_signal_handler(libc::SIGKILL, mend, ON_STACK) }.unwrap_err();
    assert_eq!((error.call(), error.errno()), ("sigaction", libc::EINVAL));
}

/// Runs one test of this file in a process of its own, where [`dying`] is true.
fn in_a_child(test: &str) -> ExitStatus {
    let this = env::current_exe().unwrap();
    Command::new(this).args(["--exact", test, "--nocapture"]).env("SYS_SIGNAL_DIES", "1").status().unwrap()
}

fn dying() -> bool {
    env::var_os("SYS_SIGNAL_DIES").is_some()
}

/// Makes the default action what is at a signal, and passes everything on to it.
fn in_front_of_default(signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    assert!(install_in_front(signal).is_same_code(&OldHandler::default_of(signal)));
}

#[test]
fn a_fault_nobody_mends_ends_the_process() {
    if dying() {
        in_front_of_default(sys::SIGBUS);
        // SAFETY: the access is the fault that is tested.
        unsafe { word(beyond_the_end()).read_volatile() };
        unreachable!("the default action of SIGBUS ends the process");
    }
    assert_eq!(in_a_child("a_fault_nobody_mends_ends_the_process").signal(), Some(libc::SIGBUS));
}

#[test]
fn a_signal_that_was_sent_ends_the_process_too() {
    if dying() {
        in_front_of_default(sys::SIGBUS);
        // SAFETY: no memory is involved.
        unsafe { libc::raise(sys::SIGBUS) };
        unreachable!("the default action of SIGBUS ends the process");
    }
    assert_eq!(in_a_child("a_signal_that_was_sent_ends_the_process_too").signal(), Some(libc::SIGBUS));
}
