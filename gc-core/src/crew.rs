//! Termination of parallel marking: when an idle marker looks for work, when it sleeps, and how the
//! last one sees the end.
//!
//! A member keeps its work to itself and in queues of its own, from which the others steal; only
//! the member itself adds to its queues, and it looks for other work ([`Crew::seek`]) only when
//! they are empty. So when no member has work left, every queue is empty; and since only a member
//! that has work creates more, none can appear: the round is over. The last member that counts
//! itself idle detects this, under one lock. See "The end of marking" in `docs/protocol.md`.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, hint};
use std::sync::PoisonError;

/// How often an idle member searches the others' queues before it sleeps: some 10 us. A member that
/// has work checks about every microsecond whether another member needs some, and waking a sleeper
/// costs both sides several microseconds.
#[cfg(not(loom))]
const LOOKS: u32 = 200;
#[cfg(loom)]
const LOOKS: u32 = 1;

/// Spin-loop hints between two searches.
const PAUSE: u32 = if cfg!(loom) { 0 } else { 16 };

#[derive(Debug, Default)]
struct State {
    members: usize,
    /// Idle members that sleep instead of searching.
    idle: usize,
    /// Sleepers that were told to search.
    told: usize,
    over: bool,
}

/// The members of one round of shared work. The thread that begins a round is its first member.
#[derive(Debug)]
pub struct Crew {
    state: Mutex<State>,
    wake: Condvar,
    /// Idle members: those that search, and those that sleep.
    hungry: AtomicUsize,
    /// Members that sleep and were not told to search.
    asleep: AtomicUsize,
}

impl Default for Crew {
    fn default() -> Crew {
        Crew::new()
    }
}

impl Crew {
    /// A crew without members.
    #[must_use]
    pub fn new() -> Crew {
        Crew {
            state: Mutex::new(State::default()),
            wake: Condvar::new(),
            hungry: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a round, of which the caller is the first member. The members of the previous round
    /// have left: [`seek`](Crew::seek) has returned `None` to each. `uncalled`: more threads may
    /// still be [called](Crew::called), and they count as idle.
    pub fn begin(&self, uncalled: bool) {
        *self.lock() = State { members: 1, ..State::default() };
        self.hungry.store(usize::from(uncalled), Ordering::Relaxed);
        self.asleep.store(0, Ordering::Relaxed);
    }

    /// Ends the state `uncalled` of a round: every thread that could be called has been.
    pub fn called(&self) {
        self.hungry.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes the caller a member, without work as yet. `false`: the round is over, and there will
    /// be none.
    #[must_use]
    pub fn join(&self) -> bool {
        let mut state = self.lock();
        state.members += usize::from(!state.over);
        !state.over
    }

    /// Whether some member has nothing to do. Relaxed: a member that has work asks repeatedly, and
    /// acting on an outdated answer wastes a little work at worst.
    #[inline(always)]
    #[must_use]
    pub fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Relaxed) != 0
    }

    /// Whether all idle members sleep: sharing work with one of them then costs a system call.
    #[must_use]
    pub fn all_hungry_sleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed) >= self.hungry.load(Ordering::Relaxed)
    }

    /// Wakes one sleeper, if there is one, so that it searches. Called by a member that has just
    /// added to its queue.
    pub fn tell(&self) {
        if self.asleep.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut state = self.lock();
        // The count is exact under the lock.
        if self.asleep.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.asleep.fetch_sub(1, Ordering::Relaxed);
        state.told += 1;
        drop(state);
        self.wake.notify_one();
    }

    /// Ends the round although work may be left: members leave when they have finished what they
    /// hold.
    pub fn give_up(&self) {
        self.lock().over = true;
        self.wake.notify_all();
    }

    /// Looks for work, by `steal`, until there is some, or the round is over: `None`. The caller
    /// holds no work, and its queues are empty; it leaves the crew when this returns `None`.
    pub fn seek<T>(&self, mut steal: impl FnMut() -> Option<T>) -> Option<T> {
        self.hungry.fetch_add(1, Ordering::Relaxed);
        let found = loop {
            let looked = (0..LOOKS).find_map(|_| {
                (0..PAUSE).for_each(|_| hint::spin_loop());
                steal()
            });
            if looked.is_some() {
                break looked;
            }
            if !self.sleep() {
                break None;
            }
        };
        self.hungry.fetch_sub(1, Ordering::Relaxed);
        found
    }

    /// Counts the caller as idle until it is told to search. `false`: the round is over.
    fn sleep(&self) -> bool {
        let mut state = self.lock();
        state.idle += 1;
        if state.idle == state.members {
            // Each member's queues were empty when it counted itself as idle, and only a member
            // that is not counted adds to its own.
            state.over = true;
        }
        if state.over {
            drop(state);
            self.wake.notify_all();
            return false;
        }
        self.asleep.fetch_add(1, Ordering::Relaxed);
        while state.told == 0 && !state.over {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.over {
            return false;
        }
        state.told -= 1;
        state.idle -= 1;
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex as StdMutex;

    /// Ten thousand numbers, halved until they are one each, by one member and three that come
    /// later.
    #[test]
    fn all_work_is_done_once_and_everybody_leaves() {
        for _ in 0..20 {
            let crew = Crew::new();
            let queues: Vec<StdMutex<VecDeque<std::ops::Range<u64>>>> = (0..4).map(|_| StdMutex::default()).collect();
            let steal = |own: usize| (0..4).filter(|&q| q != own).find_map(|q| queues[q].lock().unwrap().pop_front());
            let work = |own: usize, mut range: std::ops::Range<u64>| {
                let mut sum = 0;
                loop {
                    while range.end - range.start > 1 {
                        let middle = range.start.midpoint(range.end);
                        queues[own].lock().unwrap().push_back(middle..range.end);
                        crew.tell();
                        range.end = middle;
                    }
                    sum += range.start;
                    let next = queues[own].lock().unwrap().pop_back();
                    match next.or_else(|| crew.seek(|| steal(own))) {
                        Some(next) => range = next,
                        None => return sum,
                    }
                }
            };
            crew.begin(false);
            let sums: u64 = std::thread::scope(|scope| {
                let (crew, work, steal) = (&crew, &work, &steal);
                let helpers: Vec<_> = (1..4)
                    .map(|own| {
                        scope.spawn(move || {
                            if !crew.join() {
                                return 0;
                            }
                            crew.seek(|| steal(own)).map_or(0, |range| work(own, range))
                        })
                    })
                    .collect();
                let own = work(0, 0..10_000);
                own + helpers.into_iter().map(|helper| helper.join().unwrap()).sum::<u64>()
            });
            assert_eq!(sums, (0..10_000).sum::<u64>());
            assert!(!crew.join(), "who comes late is told");
        }
    }
}
