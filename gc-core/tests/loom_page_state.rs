//! Page states under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test loom_page_state`.
//!
//! A page is a `loom` cell, which panics when it is written while anybody else reads or writes it,
//! or when a read is not ordered after the write it should see.
#![cfg(loom)]

mod support;

use gc_core::flip::Flip;
use gc_core::page_state::{PageState, PageStates};
use gc_core::sync::atomic::{AtomicU32, Ordering};
use gc_core::sync::futex;
use gc_core::units;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;
use support::check;

const OLD: u32 = 0;

/// The one page of most models.
const FIRST: units::Page = units::Page::new(0);

fn pages(numbers: std::ops::Range<usize>) -> std::ops::Range<units::Page> {
    units::Page::new(numbers.start)..units::Page::new(numbers.end)
}

/// One page with its state, and how often it was repaired.
struct Page {
    states: PageStates,
    bytes: UnsafeCell<u32>,
    repairs: AtomicUsize,
}

// SAFETY: the cell is reached through `claim` and after `Repaired` only; that this is enough is
// what loom checks.
unsafe impl Sync for Page {}

impl Page {
    fn new() -> Arc<Page> {
        Arc::new(Page {
            states: PageStates::new(1).unwrap(),
            bytes: UnsafeCell::new(OLD),
            repairs: AtomicUsize::new(0),
        })
    }

    /// What a thread does that faults on the page, and what it reads then.
    fn touch(&self, flip: Flip) -> u32 {
        if self.repair(flip).is_err() {
            self.states.wait_until_repaired(FIRST, flip).unwrap();
        }
        self.read()
    }

    /// What a thread does that repairs ahead: it passes over a page that another has claimed. Every
    /// repair adds one to the bytes, as forwarding twice would forward too far.
    fn repair(&self, flip: Flip) -> Result<(), PageState> {
        match self.states.claim(FIRST, flip) {
            Ok(claim) => {
                // SAFETY: only the claimant is here; loom checks it.
                self.bytes.with_mut(|bytes| unsafe { *bytes += 1 });
                self.repairs.fetch_add(1, Ordering::Relaxed);
                claim.repaired();
            }
            Err(PageState::Claimed) => return Err(PageState::Claimed),
            Err(state) => assert!(state >= PageState::Repaired),
        }
        Ok(())
    }

    fn read(&self) -> u32 {
        // SAFETY: the page is repaired and nobody writes it before the next flip; loom checks it.
        self.bytes.with(|bytes| unsafe { *bytes })
    }
}

fn spawn<T: 'static>(page: &Arc<Page>, work: impl FnOnce(&Page) -> T + 'static) -> thread::JoinHandle<T> {
    let page = Arc::clone(page);
    thread::spawn(move || work(&page))
}

#[test]
fn a_page_is_written_by_its_claimant_alone_and_once() {
    check(3, || {
        let page = Page::new();
        // Two that pass over a claimed page.
        let others = [0, 1].map(|_| spawn(&page, |page| page.repair(Flip::FIRST).is_ok().then(|| page.read())));
        assert_eq!(page.touch(Flip::FIRST), OLD + 1);
        for other in others {
            assert!(matches!(other.join().unwrap(), None | Some(1)), "a page that is read holds the repaired bytes");
        }
        assert_eq!(page.repairs.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn nobody_reads_a_page_before_it_is_repaired() {
    check(3, || {
        let page = Page::new();
        let repairer = spawn(&page, |page| page.touch(Flip::FIRST));
        let reader =
            spawn(&page, |page| (page.states.state(FIRST, Flip::FIRST) >= PageState::Repaired).then(|| page.read()));
        assert!(matches!(reader.join().unwrap(), None | Some(1)));
        repairer.join().unwrap();
    });
}

#[test]
fn the_second_claimant_backs_off_until_the_first_is_done() {
    check(3, || {
        let page = Page::new();
        let claim = page.states.claim(FIRST, Flip::FIRST).unwrap();
        let second = spawn(&page, |page| {
            // Gated is excluded: the claim above was made before this thread.
            assert!(page.states.claim(FIRST, Flip::FIRST).is_err());
            page.states.wait_until_repaired(FIRST, Flip::FIRST).unwrap();
            page.read()
        });
        // SAFETY: we are the claimant; loom checks it.
        page.bytes.with_mut(|bytes| unsafe { *bytes += 1 });
        claim.repaired();
        assert_eq!(second.join().unwrap(), OLD + 1);
    });
}

#[test]
fn installing_and_repairing_do_not_disturb_each_other() {
    check(3, || {
        let page = Page::new();
        let installers = [0, 1].map(|_| {
            spawn(&page, |page| {
                let run = page.states.run_to_install(pages(0..1), Flip::FIRST);
                // What is installed is read by mutators at once.
                let read = (!run.is_empty()).then(|| page.read());
                page.states.install(run, Flip::FIRST);
                read
            })
        });
        page.touch(Flip::FIRST);
        for installer in installers {
            assert!(matches!(installer.join().unwrap(), None | Some(1)));
        }
        assert!(page.states.state(FIRST, Flip::FIRST) >= PageState::Repaired);
        assert_eq!(page.states.first_unrepaired(pages(0..1), Flip::FIRST), None);
    });
}

#[test]
fn who_sees_a_page_installed_sees_it_repaired() {
    check(3, || {
        let page = Page::new();
        let repairer = spawn(&page, |page| page.repair(Flip::FIRST));
        let installer = spawn(&page, |page| {
            let run = page.states.run_to_install(pages(0..1), Flip::FIRST);
            page.states.install(run, Flip::FIRST);
        });
        let reader =
            spawn(&page, |page| (page.states.state(FIRST, Flip::FIRST) == PageState::Installed).then(|| page.read()));
        assert!(matches!(reader.join().unwrap(), None | Some(1)));
        installer.join().unwrap();
        repairer.join().unwrap().unwrap();
    });
}

#[test]
fn a_flip_gates_what_was_installed_and_the_page_is_repaired_once_more() {
    check(3, || {
        let page = Page::new();
        page.touch(Flip::FIRST);
        page.states.install(pages(0..1), Flip::FIRST);
        // The stop: every thread is started after the number moved.
        let second = Flip::FIRST.next();
        let other = spawn(&page, move |page| page.touch(second));
        assert_eq!(page.touch(second), OLD + 2);
        assert_eq!(other.join().unwrap(), OLD + 2);
    });
}

/// Two sleep until the claimant is done, and it wakes both.
#[test]
fn all_who_wait_for_a_claimant_are_woken() {
    check(2, || {
        let page = Page::new();
        let claim = page.states.claim(FIRST, Flip::FIRST).unwrap();
        let waiters = [0, 1].map(|_| {
            spawn(&page, |page| {
                page.states.wait_until_repaired(FIRST, Flip::FIRST).unwrap();
                page.read()
            })
        });
        // SAFETY: we are the claimant; loom checks it.
        page.bytes.with_mut(|bytes| unsafe { *bytes += 1 });
        claim.repaired();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), OLD + 1);
        }
    });
}

/// A claimant unwinds. The one that sleeps is woken and does not read the page; another that comes
/// now or later does not wait.
#[test]
fn a_claim_that_is_dropped_wakes_all_who_wait() {
    check(2, || {
        let page = Page::new();
        let claim = page.states.claim(FIRST, Flip::FIRST).unwrap();
        let waiters = [0, 1].map(|_| spawn(&page, |page| page.states.wait_until_repaired(FIRST, Flip::FIRST).is_ok()));
        // SAFETY: we are the claimant; loom checks it.
        page.bytes.with_mut(|bytes| unsafe { *bytes += 1 });
        drop(claim);
        for waiter in waiters {
            assert!(!waiter.join().unwrap(), "a half-repaired page was taken for repaired");
        }
        assert_eq!(page.states.claim(FIRST, Flip::FIRST).unwrap_err(), PageState::Abandoned);
        assert!(page.states.run_to_install(pages(0..1), Flip::FIRST).is_empty());
    });
}

/// Private memory: one moves the page, or finds that the kernel refuses; two wait for it, one of
/// which then moves it.
#[test]
fn all_who_wait_for_a_mover_are_woken() {
    check(2, || {
        let page = Page::new();
        page.repair(Flip::FIRST).unwrap();
        let waiters = [0, 1].map(|_| {
            spawn(&page, |page| {
                loop {
                    match page.states.state(FIRST, Flip::FIRST) {
                        PageState::Installed => return page.read(),
                        PageState::Moving => {
                            page.states.wait_while_moving(FIRST, Flip::FIRST).unwrap();
                        }
                        _ => page.states.begin_move(pages(0..1), Flip::FIRST).end(true),
                    }
                }
            })
        });
        page.states.begin_move(pages(0..1), Flip::FIRST).end(false);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), OLD + 1);
        }
    });
}

/// Of two pages the move of the first has ended.
#[test]
fn a_move_that_is_dropped_wakes_all_who_wait() {
    check(2, || {
        let states = Arc::new(PageStates::new(2).unwrap());
        units::Page::range(pages(0..2)).for_each(|page| states.claim(page, Flip::FIRST).unwrap().repaired());
        let mut taken = states.begin_move(pages(0..2), Flip::FIRST);
        let waiters = [0, 1].map(units::Page::new).map(|page| {
            let states = Arc::clone(&states);
            thread::spawn(move || states.wait_while_moving(page, Flip::FIRST))
        });
        taken.end_first(true);
        drop(taken);
        let [first, second] = waiters.map(|waiter| waiter.join().unwrap());
        assert_eq!(
            (first, second.map_err(|abandoned| abandoned.page())),
            (Ok(PageState::Installed), Err(units::Page::new(1)))
        );
    });
}

/// `PageStates::wait` and `publish` on a word of their own, with a rule left out. 1: claimed; 2:
/// repaired; 5: claimed, and awaited.
fn a_waiter_sleeps(announces: bool, exchanges: bool) {
    check(3, move || {
        let word = Arc::new(AtomicU32::new(1));
        let other = Arc::clone(&word);
        let claimant = thread::spawn(move || {
            let before = if exchanges {
                other.swap(2, Ordering::Release)
            } else {
                let before = other.load(Ordering::Relaxed);
                other.store(2, Ordering::Release);
                before
            };
            if before == 5 {
                futex::wake_all(&other);
            }
        });
        loop {
            let seen = word.load(Ordering::Acquire);
            if seen == 2 {
                break;
            }
            if !announces {
                futex::wait(&word, seen);
            } else if seen == 5 || word.compare_exchange(seen, 5, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                futex::wait(&word, 5);
            }
        }
        claimant.join().unwrap();
    });
}

#[test]
fn a_waiter_that_says_so_is_woken() {
    a_waiter_sleeps(true, true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_waiter_that_does_not_say_so_sleeps_for_ever() {
    a_waiter_sleeps(false, true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_waiter_that_says_so_before_a_store_sleeps_for_ever() {
    a_waiter_sleeps(true, false);
}
