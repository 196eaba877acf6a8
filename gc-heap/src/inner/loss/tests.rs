use super::account::{RING_ENTRIES, delay};
use super::*;
use crate::{Heap, MIN_HEAP_BYTES};
use std::time::{Duration, Instant};

pub(super) fn recording() -> Heap {
    Heap::builder().max_bytes(MIN_HEAP_BYTES).record_losses(true).build().unwrap()
}

fn all(account: &Account) -> Vec<Entry> {
    let mut entries = Vec::new();
    account.flush();
    account.ring.as_ref().unwrap().take(|entry| entries.push(entry));
    entries
}

pub(super) fn entries(account: &Account) -> Vec<(u64, u64, u64, u64)> {
    all(account).iter().map(|e| (e.begin_ns, e.length_ns, e.lost_ns, e.count)).collect()
}

/// An account of a mutator that is nowhere, so that its times are the test's.
pub(super) fn account(heap: &Heap) -> Account {
    Account::new(&heap.inner().config, 1).unwrap()
}

/// A ring that nobody reads in time drops what comes last, and says so where events are taken.
#[test]
fn what_does_not_fit_a_ring_is_counted() {
    let heap = Heap::builder().max_bytes(4 << 20).record_losses(true).build().unwrap();
    heap.enter(|m| {
        let account = &m.record().account;
        for n in 1..=3 * RING_ENTRIES as u64 {
            account.add(heap.inner(), Entry { count: 2, ..delay(LossKind::Faults, n * 1_000_000, 10) });
        }
    })
    .unwrap();
    let (events, missed) = heap.take_events();
    let kept: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Loss(loss) if loss.kind == LossKind::Faults => Some(loss.count),
            _ => None,
        })
        .collect();
    assert!(kept.len() >= RING_ENTRIES - 1 && missed >= 2, "{} kept, {missed} missed", kept.len());
    // Beside the faults there is what the thread suffered as it entered and left, if anything.
    let all = kept.iter().sum::<u64>() + missed;
    assert!((6 * RING_ENTRIES as u64..6 * RING_ENTRIES as u64 + 4).contains(&all), "{all}");
    assert_eq!(heap.take_events().1, 0, "told once");
}

/// What a delay encloses is its own cause's, and an entry lies apart from others or within one.
#[test]
fn no_moment_counts_under_two_causes() {
    let heap = recording();
    let (account, inner) = (account(&heap), heap.inner());
    let now = || heap.now_ns();
    account.note(inner, LossKind::Locks, now(), 0);
    let outer = account.begin(inner);
    let spin = Instant::now();
    while spin.elapsed() < Duration::from_micros(30) {}
    let inner_begun = account.begin(inner);
    let begin_ns = now();
    while spin.elapsed() < Duration::from_micros(80) {}
    account.note(inner, LossKind::Locks, begin_ns, now() - begin_ns);
    account.end(inner, LossKind::Zeroing, inner_begun);
    account.exclude(5_000);
    account.end(inner, LossKind::Refills, outer);
    let found = all(&account);
    let kinds: Vec<LossKind> = found.iter().map(|entry| LossKind::ALL[usize::from(entry.kind)]).collect();
    assert_eq!(kinds, [LossKind::Locks, LossKind::Locks, LossKind::Zeroing, LossKind::Refills]);
    let [_, lock, zeroing, refill] = found[..] else { unreachable!() };
    assert!(lock.begin_ns >= zeroing.begin_ns && zeroing.begin_ns >= refill.begin_ns);
    assert!(lock.end_ns() <= zeroing.end_ns() && zeroing.end_ns() <= refill.end_ns());
    assert_eq!(lock.lost_ns + zeroing.lost_ns, zeroing.length_ns);
    assert_eq!(zeroing.length_ns + refill.lost_ns + 5_000, refill.length_ns);
    assert!(refill.lost_ns >= 25_000 && lock.lost_ns >= 30_000, "{found:?}");
}

/// A thread that has a lock for 100 ms, and one inside the heap that waits for it; and one that
/// waits outside, which the heap does not suffer from.
#[test]
fn a_wait_for_a_lock_is_told_of() {
    let heap = recording();
    let lock = &heap.inner().roots.stacks;
    let locked = || {
        let has = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let guard = lock.lock();
                has.wait();
                std::thread::sleep(Duration::from_millis(100));
                drop(guard);
            });
            has.wait();
            drop(lock.lock());
        });
    };
    locked();
    assert_eq!(heap.loss_durations(LossKind::Locks).count, 0);
    let (from_ns, mutator) = (heap.now_ns(), |m: &crate::Mutator<'_>| m.record().number);
    let mutator = heap.enter(|m| (locked(), mutator(m)).1).unwrap();
    let to_ns = heap.now_ns();
    let of = heap.stats().losses.kind(LossKind::Locks);
    assert!(of.count == 1 && of.total_ns == of.max_ns && of.max_ns >= 3_000_000, "{of:?}");
    assert!(of.max_ns <= to_ns - from_ns);
    let losses = heap.take_events().0.into_iter().filter_map(|event| match event {
        Event::Loss(loss) if loss.kind == LossKind::Locks => Some(loss),
        _ => None,
    });
    let losses: Vec<Loss> = losses.collect();
    let [loss] = losses[..] else { panic!("{losses:?}") };
    assert_eq!((loss.mutator, loss.lost_ns, loss.count), (mutator, of.total_ns, 1));
    assert!(loss.start_ns >= from_ns && loss.start_ns + loss.total_ns <= to_ns, "{loss:?}");
}

#[test]
fn attaching_in_a_pause_is_told_of() {
    let heap = recording();
    std::thread::scope(|scope| {
        heap.inner().with_world_stopped(crate::PauseKind::Verification, |_| {
            let begun = std::sync::Barrier::new(2);
            let begun = std::sync::Arc::new(begun);
            let (thread_begun, heap) = (Arc::clone(&begun), heap.clone());
            scope.spawn(move || {
                thread_begun.wait();
                heap.enter(|_| ()).unwrap();
            });
            begun.wait();
            std::thread::sleep(Duration::from_millis(100));
        });
    });
    let of = heap.stats().losses.kind(LossKind::Attaching);
    assert!(of.count == 1 && of.total_ns >= 10_000_000, "{of:?}");
    heap.enter(|_| ()).unwrap();
    assert_eq!(heap.stats().losses.kind(LossKind::Attaching), of, "without a pause there is no wait");
}

/// The record of its parent's thread, which the parent's thread has opened before the `fork`,
/// is not a child's.
#[test]
fn a_child_made_by_fork_asks_for_its_own_waits_for_a_processor() {
    let own = || RunDelay::of_this_thread().and_then(|delay| delay.total()).map(|total| total.as_nanos() as u64);
    if own().is_err() {
        return println!("IGNORED, the kernel does not say how long a thread has waited");
    }
    let heap = recording();
    heap.enter(|_| ()).unwrap();
    // The parent's thread waits for a processor, so that its record differs from a new one.
    let processors = std::thread::available_parallelism().map_or(4, |count| count.get());
    let spin = || (0..20_000_000).map(std::hint::black_box).fold(0, |sum: u64, n| sum ^ n);
    let begun = Instant::now();
    while own().unwrap() < 20_000_000 && begun.elapsed() < Duration::from_secs(20) {
        std::thread::scope(|scope| {
            for _ in 0..=processors {
                scope.spawn(spin);
            }
            spin();
        });
    }
    assert!(own().unwrap() >= 20_000_000, "it never waited");
    // SAFETY: the child runs what a child of many threads can, and leaves without running
    // anything of the parent's.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_own = || {
            let heap = recording();
            heap.enter(|m| {
                let before = own().unwrap();
                let told = run_delay().unwrap();
                m.collect();
                (before..=own().unwrap()).contains(&told)
            })
            .unwrap()
                && heap.stats().losses.kind(LossKind::Preemptions).total_ns <= own().unwrap()
        };
        let fits = std::panic::catch_unwind(is_own).unwrap_or(false);
        // SAFETY: as above.
        unsafe { libc::_exit(i32::from(!fits)) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
}

/// The kernel's share: the shortest time between two faults, before each, and never before what
/// was recorded last.
#[test]
fn a_fault_has_the_kernels_share() {
    let heap = recording();
    let (account, inner) = (account(&heap), heap.inner());
    let fault = |begin_ns, ns| {
        account.fault(inner, begin_ns, ns);
        let last = *all(&account).last().unwrap();
        assert_eq!(last.end_ns(), begin_ns + ns);
        assert_eq!((last.lost_ns, last.length_ns), (ns + last.kernel_ns, last.lost_ns));
        last.kernel_ns
    };
    assert_eq!(fault(1_000_000, 3_000), 0, "not known yet");
    assert_eq!(fault(2_000_000, 3_000), 0, "too far apart to know");
    assert_eq!(fault(2_004_500, 3_000), 1_500);
    assert_eq!(fault(2_009_000, 3_000), 1_500);
    assert_eq!(fault(2_013_200, 3_000), 1_200);
    assert_eq!(fault(9_000_000, 3_000), 1_200);
    account.note(inner, LossKind::Locks, 9_003_100, 6_000);
    assert_eq!(heap.loss_durations(LossKind::Locks).sum_ns, 6_000);
    account.fault(inner, 9_009_500, 100);
    assert_eq!(all(&account).last().unwrap().kernel_ns, 400, "the rest was the lock's");
    assert_eq!(heap.stats().losses.fault_kernel_ns, 1_500 + 1_500 + 1_200 + 1_200 + 400);
}
