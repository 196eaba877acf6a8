//! A fault that nobody serves ends the process: it says before, in which trial and where.

use std::backtrace::Backtrace;
use std::cell::RefCell;

thread_local! {
    static TRIAL: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Names the trial that runs on this thread.
pub(crate) fn set_trial(name: &str) {
    TRIAL.replace(name.to_owned());
}

/// As for a thread that is asked where it is: the process ends, whatever goes wrong here.
extern "C" fn print_fault(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's own pointer, of a fault; after this the access faults again, and ends
    // the process.
    let address = unsafe {
        libc::signal(signal, libc::SIG_DFL);
        (*info).si_addr()
    };
    let trial = TRIAL.try_with(|name| name.borrow().clone()).unwrap_or_default();
    eprintln!("signal {signal} at {address:?} [{trial}]\n{}", Backtrace::force_capture());
}

/// Before the first heap, whose handler hands on what it does not serve.
pub(crate) fn print_stray_faults() {
    // SAFETY: a whole action of this frame, and a handler that stays.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = print_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()), 0);
    }
}
