//! Termination of parallel marking: when an idle marker looks for work, when it sleeps, and how the last one sees the end.
//!
//! A member keeps its work to itself and in queues of its own, from which the others steal; nobody but a member adds to its
//! queues, and it looks for other work ([`Crew::seek`]) only when they are empty. So when no member has anything left, no
//! queue holds anything, and since only a member that has work makes some, nothing can come: the round is over. That is
//! seen under one lock, by the last member that counts itself idle. See "The end of marking" in `docs/protocol.md`.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, hint};
use std::sync::PoisonError;

/// How often an idle member searches the others' queues before it sleeps: some 10 us. A member that has work looks every microsecond or so whether
/// somebody wants some, and waking a sleeper costs both sides several.
#[cfg(not(loom))]
const LOOKS: u32 = 200;
#[cfg(loom)]
const LOOKS: u32 = 1;

/// Instructions between two looks.
const PAUSE: u32 = if cfg!(loom) { 0 } else { 16 };

#[derive(Debug, Default)]
struct State {
    members: usize,
    /// Members that have nothing, and do not look.
    idle: usize,
    /// Sleepers that were told to look.
    told: usize,
    over: bool,
}

/// The members of one round of shared work. The thread that begins a round is its first member.
#[derive(Debug)]
pub struct Crew {
    state: Mutex<State>,
    wake: Condvar,
    /// Members that have nothing: those that look, and those that sleep.
    hungry: AtomicUsize,
    /// Members that sleep and were not told to look.
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

    /// Begins a round, of which the caller is the first member. The members of the last one have left: each has had
    /// `None` from [`seek`](Crew::seek). `uncalled`: somebody may still be [called](Crew::called), and counts as hungry.
    pub fn begin(&self, uncalled: bool) {
        *self.lock() = State { members: 1, ..State::default() };
        self.hungry.store(usize::from(uncalled), Ordering::Relaxed);
        self.asleep.store(0, Ordering::Relaxed);
    }

    /// Those that could be called have been, after a round began with them uncalled.
    pub fn called(&self) {
        self.hungry.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes the caller a member, without work as yet. `false`: the round is over, and there will be none.
    #[must_use]
    pub fn join(&self) -> bool {
        let mut state = self.lock();
        state.members += usize::from(!state.over);
        !state.over
    }

    /// Whether some member has nothing to do. Relaxed: who has work asks again and again, and what it does upon an old
    /// answer is waste at worst.
    #[inline(always)]
    #[must_use]
    pub fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Relaxed) != 0
    }

    /// Whether all that have nothing to do sleep: to share with one of them costs a call of the kernel.
    #[must_use]
    pub fn all_hungry_sleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed) >= self.hungry.load(Ordering::Relaxed)
    }

    /// Has one of the sleepers look, if there are any. By a member that has just added to its queue.
    pub fn tell(&self) {
        if self.asleep.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut state = self.lock();
        // Under the lock it is exact.
        if self.asleep.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.asleep.fetch_sub(1, Ordering::Relaxed);
        state.told += 1;
        drop(state);
        self.wake.notify_one();
    }

    /// Ends the round though there may be work left: members leave when they have nothing in hand.
    pub fn give_up(&self) {
        self.lock().over = true;
        self.wake.notify_all();
    }

    /// Looks for work, by `steal`, until there is some, or the round is over: `None`. The caller has nothing left, neither in
    /// hand nor in its queues, and leaves the crew when it is given `None`.
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

    /// Counts the caller idle until it is told to look. `false`: the round is over.
    fn sleep(&self) -> bool {
        let mut state = self.lock();
        state.idle += 1;
        if state.idle == state.members {
            // The queues of each were empty when it counted itself, and only who is not counted adds to its own.
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

    /// Ten thousand numbers, halved until they are one each, by one member and three that come later.
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
