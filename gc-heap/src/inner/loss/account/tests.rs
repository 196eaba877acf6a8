use super::*;
use crate::inner::loss::tests::{account, entries, recording};

const MS: u64 = 1_000_000;

fn times(now_ns: u64, waited_ns: u64, ran_ns: u64, sleeps: Option<u64>) -> ThreadTimes {
    ThreadTimes { now_ns, waited_ns, ran_ns, sleeps }
}

/// What a thread neither ran, nor waited, nor slept was taken from its processor.
#[test]
fn time_that_passes_without_the_processor_is_stolen() {
    let heap = recording();
    let account = account(&heap);
    let answer = |now_ns, waited_ns, ran_ns, sleeps| {
        let Without { waited_ns, stolen_ns } = account.answer(times(now_ns, waited_ns, ran_ns, sleeps));
        (waited_ns, stolen_ns)
    };
    let slept = Some(7);
    assert_eq!(answer(100 * MS, 3 * MS, 80 * MS, slept).1, 0, "there was no question before");
    assert_eq!(answer(110 * MS, 5 * MS, 85 * MS, slept), (2 * MS, 3 * MS));
    assert_eq!(answer(120 * MS, 5 * MS, 95 * MS - 10_000, slept), (0, 0), "the questions' own time");
    // As long a time, in which the clocks may have drifted by as much.
    assert_eq!(answer(1_120 * MS, 5 * MS, 1_095 * MS - 900_000, slept), (0, 0));
    assert_eq!(answer(1_220 * MS, 5 * MS, 1_100 * MS, Some(8)), (0, 0), "it slept");
    assert_eq!(answer(1_230 * MS, 6 * MS, 1_100 * MS, None), (MS, 0), "nobody knows");
    assert_eq!(answer(1_240 * MS, 6 * MS, 1_100 * MS, Some(8)), (0, 0), "nor what was before");
    assert_eq!(answer(1_250 * MS, 6 * MS, 1_101 * MS, Some(8)), (0, 9 * MS));
    // Another thread's totals.
    assert_eq!(answer(1_260 * MS, 0, 0, Some(8)).0, 0);
}

#[test]
fn what_may_have_been_in_the_delay_after_it_is_not_the_windows() {
    let without = |waited_ns, stolen_ns| Without { waited_ns, stolen_ns };
    assert_eq!(without(30, 40).outside(0, 100), without(30, 40));
    assert_eq!(without(30, 40).outside(50, 100), without(20, 0));
    assert_eq!(without(30, 40).outside(80, 100), without(0, 0));
    assert_eq!(without(30, 40).outside(10, 50), without(30, 20));
    assert_eq!(without(0, 40).outside(10, 100), without(0, 30));
}

/// Both kinds have the window as theirs, and lose no more than it together.
#[test]
fn a_window_has_waits_and_steal() {
    let heap = recording();
    let (account, inner) = (account(&heap), heap.inner());
    account.was_without(inner, (MS, 5 * MS), Without { waited_ns: 2 * MS, stolen_ns: 3 * MS });
    account.was_without(inner, (9 * MS, MS), Without { waited_ns: 0, stolen_ns: MS / 2 });
    let (window, other) = ((MS, 5 * MS), (9 * MS, MS));
    let expected = [(window, 2 * MS), (window, 3 * MS), (other, MS / 2)].map(|((from, ns), lost)| (from, ns, lost, 1));
    assert_eq!(entries(&account), expected);
    let total = |kind| heap.stats().losses.kind(kind).total_ns;
    assert_eq!((total(LossKind::Preemptions), total(LossKind::Steal)), (2 * MS, 3 * MS + MS / 2));
}

/// A thread that sleeps inside the heap without `blocking`, and asks after each sleep.
#[test]
fn a_sleep_is_no_steal() {
    let heap = recording();
    heap.enter(|m| {
        for _ in 0..10 {
            std::thread::sleep(std::time::Duration::from_millis(2));
            m.record().account.look(heap.inner(), heap.now_ns());
        }
    })
    .unwrap();
    assert_eq!(heap.stats().losses.kind(LossKind::Steal).total_ns, 0);
}

#[test]
fn what_fits_a_window_is_no_more_than_it() {
    let without = |waited_ns, stolen_ns| Without { waited_ns, stolen_ns };
    assert_eq!(without(30, 40).within(100), without(30, 40));
    assert_eq!(without(30, 40).within(50), without(30, 20));
    assert_eq!(without(60, 40).within(50), without(50, 0));
}

/// Lets `work` record delays in a thread that has to share its processor, until it has waited
/// for one for 200 ms. Returns what passed, what of it is in the account, and what it waited.
pub(in super::super) fn shared(work: impl Fn(&Account, &HeapInner) + Sync) -> Option<[u64; 3]> {
    let heap = recording();
    if heap.enter(|_| ThreadTimes::now().is_none()).unwrap() {
        println!("IGNORED, the kernel does not say how long a thread has waited");
        return None;
    }
    let ends = AtomicBool::new(false);
    let processors = std::thread::available_parallelism().unwrap().get();
    let (passed_ns, waited_ns) = std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let found = heap.enter(|m| {
            let (account, inner) = (&m.record().account, heap.inner());
            let (from, from_ns) = (ThreadTimes::now().unwrap(), heap.now_ns());
            let waited_ns = || ThreadTimes::now().unwrap().waited_ns - from.waited_ns;
            while waited_ns() < 200 * MS && heap.now_ns() - from_ns < 20_000 * MS {
                work(account, inner);
            }
            (heap.now_ns() - from_ns, waited_ns())
        });
        ends.store(true, Ordering::Relaxed);
        found.unwrap()
    });
    assert!(waited_ns >= 100 * MS, "the processors are too many, or idle: {waited_ns}");
    let total = |kind| heap.stats().losses.kind(kind).total_ns;
    let accounted_ns = [LossKind::Locks, LossKind::Preemptions, LossKind::Steal].map(total).iter().sum();
    Some([passed_ns, accounted_ns, waited_ns])
}

pub(in super::super) fn spin(heap: &HeapInner, ns: u64) -> u64 {
    let begin_ns = heap.report.events.now();
    while heap.report.events.now() - begin_ns < ns {}
    begin_ns
}

/// The question for the thread's processor time is where the kernel often takes its processor
/// away: between the end of a delay and what the thread does next.
#[test]
fn what_a_thread_waits_while_it_asks_is_accounted_for() {
    let found = shared(|account, heap| {
        let begin_ns = heap.report.events.now();
        account.look(heap, begin_ns);
        spin(heap, LOOK_NS + LOOK_NS / 4);
        account.note(heap, LossKind::Locks, begin_ns, heap.report.events.now() - begin_ns);
    });
    let Some([passed_ns, accounted_ns, waited_ns]) = found else { return };
    // Beside the delays and the waits there is what the loop itself takes.
    let missing_ns = passed_ns.saturating_sub(accounted_ns);
    assert!(missing_ns < waited_ns / 4, "{missing_ns} of {passed_ns} are missing, it waited {waited_ns}");
}

/// As above, where the thread asks after a short delay what it was without before.
#[test]
fn what_a_thread_waits_while_it_asks_after_its_own_work_is_accounted_for() {
    let found = shared(|account, heap| {
        spin(heap, LOOK_NS + LOOK_NS / 4);
        let begin_ns = spin(heap, 2_000);
        account.note_with_look(heap, LossKind::Locks, begin_ns, heap.report.events.now() - begin_ns);
    });
    let Some([_, accounted_ns, waited_ns]) = found else { return };
    assert!(accounted_ns > waited_ns / 4 * 3, "it waited {waited_ns}, and {accounted_ns} are accounted for");
}

/// A delay in a slow path may record what the thread was without before the slow path began. That
/// is no part of it, and does not make it later than it was.
#[test]
fn a_slow_path_is_not_recorded_in_the_future() {
    let heap = recording();
    heap.enter(|m| {
        let account = &m.record().account;
        m.store_timed(|| account.exclude(10_000 * MS));
        let now_ns = heap.now_ns();
        assert!(get(&account.looked_ns) <= now_ns, "it looks again in ten seconds");
        for (begin_ns, length_ns, ..) in entries(account) {
            assert!(begin_ns + length_ns <= now_ns, "{begin_ns} and {length_ns} ns, and it is {now_ns}");
        }
    })
    .unwrap();
}

/// A thread-local value of a new thread may lie where that of one that has ended did.
#[test]
fn a_thread_has_a_number_that_no_other_had() {
    let own = || {
        RUN_DELAY.with(|delay| {
            delay.open();
            delay.number()
        })
    };
    let numbers: std::collections::BTreeSet<u64> =
        (0..10).map(|_| std::thread::spawn(own).join().unwrap()).chain([own(), own()]).collect();
    assert!(numbers.len() == 11 && !numbers.contains(&0), "{numbers:?}");
}

/// What the thread was without before it waited for a lock is no part of that wait, and not
/// lost by it.
#[test]
fn a_wait_for_a_lock_begins_with_a_look() {
    let heap = recording();
    heap.enter(|m| {
        let account = &m.record().account;
        let lock = &heap.inner().roots.stacks;
        let has = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let guard = lock.lock();
                has.wait();
                std::thread::sleep(std::time::Duration::from_millis(100));
                drop(guard);
            });
            has.wait();
            std::thread::sleep(std::time::Duration::from_nanos(2 * LOOK_NS));
            // Long ago. Since then it has waited, or its processor did not run: a thread on a
            // quiet machine has hardly waited, and on a busy one it may not be known whether
            // it slept.
            set(&account.looked_ns, heap.now_ns() - 2 * LOOK_NS);
            let Some(times) = ThreadTimes::now() else { return };
            account.answer(times);
            set(&account.waited_ns, 0);
            set(&account.asked_ns, times.now_ns - times.waited_ns - 10 * LOOK_NS);
            drop(lock.lock());
        });
    })
    .unwrap();
    let total = |kind| heap.stats().losses.kind(kind).total_ns;
    assert!(total(LossKind::Locks) >= 3 * MS, "{}", total(LossKind::Locks));
    let without = total(LossKind::Preemptions) + total(LossKind::Steal);
    assert!(without >= LOOK_NS / 2, "{without}");
}
