//! Waiting between threads of different policies on one processor: whoever waits must let go of it,
//! or what it waits for never comes.
#![cfg(not(loom))]

use gc_core::flip::{CurrentFlip, Flip};
use gc_core::page_state::{PageState, PageStates};
use gc_core::units::Page;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Puts the calling thread on one processor that the process may use.
fn to_one_processor() {
    // SAFETY: a set of this frame, all zero is one; the calls read and write so many bytes.
    unsafe {
        let mut all: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut all), 0);
        let first = (0..libc::CPU_SETSIZE as usize).find(|&cpu| libc::CPU_ISSET(cpu, &all)).unwrap();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(first, &mut one);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one), 0);
    }
}

/// Gives the calling thread a real-time policy. `false`: the system refuses, and a line says so.
fn to_real_time(policy: i32) -> bool {
    let wanted = libc::sched_param { sched_priority: 2 };
    // SAFETY: the kernel reads a struct of this frame.
    let refused = unsafe { libc::sched_setscheduler(0, policy, &raw const wanted) } != 0;
    if refused {
        println!("not tested, this thread gets no real-time policy: {}", std::io::Error::last_os_error());
    }
    !refused
}

/// Processor time of the calling thread.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes a struct of this frame.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// An ordinary thread has begun with something; a real-time thread, on the same processor, waits
/// for it. `work` is what the ordinary thread does: in the middle of it, it calls what it is given,
/// which returns when the other waits. Gives the waiting thread's processor time.
fn wait_for_an_ordinary_thread(
    policy: i32,
    wait: impl FnOnce() + Send,
    work: impl FnOnce(&mut dyn FnMut()),
) -> Option<Duration> {
    to_one_processor();
    let at_it = AtomicU32::new(0);
    let mut wait = Some(wait);
    std::thread::scope(|scope| {
        let at_it = &at_it;
        let mut waiter = None;
        work(&mut || {
            let wait = wait.take().expect("called once");
            waiter = Some(scope.spawn(move || {
                let may = to_real_time(policy);
                at_it.store(1, Ordering::Release);
                let before = processor_time();
                wait();
                may.then(|| processor_time() - before)
            }));
            while at_it.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            // Comes here when the waiter sleeps: until then it has the processor.
        });
        waiter.expect("the thread calls what it is given").join().unwrap()
    })
}

/// Spinning without end takes what the kernel leaves to real-time threads, 950 of 1000 ms; and for
/// ever where that is switched off.
const MOST: Duration = Duration::from_millis(100);

fn sleeps(what: &str, test: impl Fn(i32) -> Option<Duration> + Sync) {
    for policy in [libc::SCHED_FIFO, libc::SCHED_RR] {
        // In a thread of its own: it stays on its processor.
        let took = std::thread::scope(|scope| scope.spawn(|| test(policy)).join().unwrap());
        assert!(took.is_none_or(|took| took < MOST), "{what}, policy {policy}: {took:?} of processor time to wait");
    }
}

#[test]
fn a_real_time_thread_sleeps_until_a_page_is_repaired() {
    sleeps("repair", |policy| {
        let (states, flip) = (PageStates::new(1).unwrap(), Flip::FIRST);
        let claim = states.claim(Page::new(0), flip).unwrap();
        let wait = || {
            states.wait_until_repaired(Page::new(0), flip).unwrap();
        };
        wait_for_an_ordinary_thread(policy, wait, |waits| {
            waits();
            claim.repaired();
        })
    });
}

#[test]
fn a_real_time_thread_sleeps_until_a_page_has_moved() {
    sleeps("move", |policy| {
        let (states, flip) = (PageStates::new(2).unwrap(), Flip::FIRST);
        states.claim(Page::new(0), flip).unwrap().repaired();
        states.claim(Page::new(1), flip).unwrap().repaired();
        let taken = states.begin_move(Page::new(0)..Page::new(2), flip);
        assert_eq!(taken.pages(), Page::new(0)..Page::new(2));
        let took = wait_for_an_ordinary_thread(
            policy,
            || assert_eq!(states.wait_while_moving(Page::new(1), flip), Ok(PageState::Installed)),
            |waits| {
                waits();
                taken.end(true);
            },
        );
        assert_eq!(states.state(Page::new(1), flip), PageState::Installed);
        took
    });
}

#[test]
fn a_real_time_thread_that_faults_sleeps_until_a_flip_has_ended() {
    sleeps("end of a flip", |policy| {
        let flip = CurrentFlip::default();
        flip.begin();
        wait_for_an_ordinary_thread(policy, || flip.serve(|_| panic!("it has ended"), |_| ()), |waits| flip.end(waits))
    });
}

#[test]
fn a_real_time_collector_sleeps_until_nobody_serves_a_fault() {
    sleeps("close of a flip", |policy| {
        let flip = CurrentFlip::default();
        flip.begin();
        let serve = |waits: &mut dyn FnMut()| flip.serve(|_| waits(), |_| panic!("it has not ended"));
        wait_for_an_ordinary_thread(policy, || flip.end(|| ()), serve)
    });
}
