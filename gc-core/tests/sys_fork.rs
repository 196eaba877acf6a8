//! What the heaps of a process share is whole in a child made by `fork`.
#![cfg(not(loom))]

use gc_core::sys::{Process, shared_state};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Fails where `fork` does not wait for the thread that has the lock: the child then waits for a
/// thread that it does not have.
#[test]
fn a_child_is_made_when_nobody_changes_what_heaps_share() {
    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let before = Process::current();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let shared = shared_state();
                rounds.fetch_add(1, Ordering::Relaxed);
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(200) {}
                drop(shared);
                std::thread::sleep(Duration::from_micros(50)); // the lock is not fair
            }
        });
        let codes: Vec<i32> = (0..50)
            .map(|_| {
                // Just after the thread has taken the lock.
                let round = rounds.load(Ordering::Relaxed);
                while rounds.load(Ordering::Relaxed) == round {
                    std::thread::yield_now();
                }
                // SAFETY: the child asks for the lock, looks at a number, and ends without what its
                // parent has to do at its end; the alarm ends it where it hangs.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: as above.
                    unsafe {
                        libc::alarm(5);
                        drop(shared_state());
                        libc::_exit(i32::from(before.is_current()));
                    }
                }
                let mut status = 0;
                // SAFETY: waits for the child above; the status is this frame's.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                status
            })
            .take_while(|&status| status == 0)
            .collect();
        done.store(true, Ordering::Relaxed);
        assert_eq!(codes.len(), 50, "a child hung, or took itself for its parent");
    });
}
