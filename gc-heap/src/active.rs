//! Which mutator is active on a thread, over all heaps: checked at each turn, so that a thread that
//! switches stacks inside a heap ends the process instead of going on with the wrong one.

use gc_core::sys::{Process, ThreadName};
use std::cell::Cell;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// No mutator is active.
pub(crate) const NOBODY: u64 = 0;

/// The first number for activity without a mutator, see [`as_if_inside`]; mutators have lower
/// numbers.
static NEXT_OTHER: AtomicU64 = AtomicU64::new(1 << 63);

/// The number of the next thread.
static NEXT_THREAD: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The number of the mutator that is active on this thread, over all heaps. Each change checks
    /// the expected old value: on one stack it always matches, because calls return in reverse
    /// order. A program that switches stacks (coroutines) can return in another order, and would
    /// have two active mutators.
    pub(crate) static ACTIVE: Cell<u64> = const { Cell::new(NOBODY) };

    /// This thread's identity, cached at the first use.
    static THREAD: Cell<Option<Thread>> = const { Cell::new(None) };
}

/// Whether this thread is inside a heap, and not in `blocking`.
pub(crate) fn is_inside() -> bool {
    ACTIVE.get() != NOBODY
}

/// Runs `f` while this thread counts as inside a heap, so that it can enter none.
pub(crate) fn as_if_inside<R>(f: impl FnOnce() -> R) -> R {
    struct Before {
        active: u64,
        own: u64,
    }
    impl Drop for Before {
        fn drop(&mut self) {
            expect(self.own, format_args!("a listener has returned"));
            ACTIVE.set(self.active);
        }
    }
    let own = NEXT_OTHER.fetch_add(1, Ordering::Relaxed);
    let _before = Before { active: ACTIVE.replace(own), own };
    f()
}

/// Ends the process unless the expected mutator is active on this thread.
#[inline]
pub(crate) fn expect(active: u64, event: std::fmt::Arguments<'_>) {
    if ACTIVE.get() != active {
        out_of_order(event, format_args!("{}", Who(ACTIVE.get())));
    }
}

/// Who is active, for people.
pub(crate) struct Who(pub(crate) u64);

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            NOBODY => f.write_str("no mutator is active on this thread"),
            number if number >> 63 == 0 => write!(f, "mutator {number} is active on this thread"),
            _ => f.write_str("a listener runs on this thread"),
        }
    }
}

/// Aborts with a message. Not a panic: unwinding would run destructors and `catch_unwind` with two
/// mutators active, or with one on a foreign thread, and raw references could then be used with the
/// wrong mutator.
#[cold]
#[inline(never)]
pub(crate) fn out_of_order(event: std::fmt::Arguments<'_>, found: std::fmt::Arguments<'_>) -> ! {
    end(format_args!(
        "{event}, but {found}: a coroutine was switched, moved or leaked inside a heap; stacks must leave heaps, and \
         return from `blocking`, in the opposite order of entering them, on the thread that entered"
    ))
}

/// As [`out_of_order`], in a child made by `fork` that goes on inside a heap of its parent's: its
/// next access would be one of addresses that are not mapped, or are another mapping's.
#[cold]
#[inline(never)]
pub(crate) fn inside_in_a_child(event: std::fmt::Arguments<'_>) -> ! {
    end(format_args!(
        "{event}, but this process is a child made by `fork`, and the heap is its parent's; a child leaves `blocking` by \
         `exec` or `_exit` alone"
    ))
}

fn end(why: std::fmt::Arguments<'_>) -> ! {
    // `eprintln!` panics if standard error is closed.
    let _ = writeln!(std::io::stderr(), "parallax: {why}");
    std::process::abort();
}

/// A thread.
#[derive(Clone, Copy)]
pub(crate) struct Thread {
    /// Unique, also after this thread has ended. (The kernel reuses its thread numbers, and the
    /// addresses of thread-locals are reused too.)
    pub(crate) number: u64,
    /// The kernel's thread number.
    pub(crate) id: u32,
    /// Its name when the thread first entered a heap.
    pub(crate) name: ThreadName,
    process: Process,
}

/// This thread's identity. Makes system calls the first time only.
pub(crate) fn this_thread() -> Thread {
    match THREAD.get() {
        // A child made by `fork` has a copy of this value, but is another thread.
        Some(thread) if thread.process.is_current() => thread,
        _ => {
            let (id, name) = gc_core::sys::this_thread();
            let number = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
            let thread = Thread { number, id, name, process: Process::current() };
            THREAD.set(Some(thread));
            thread
        }
    }
}
