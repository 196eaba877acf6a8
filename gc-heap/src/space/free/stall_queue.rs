//! The queue of stalled threads, which get blocks first in, first out.
//!
//! The thread that frees blocks assigns them to waiters under the lock, so a waiter that has not
//! been scheduled yet cannot lose them to a later waiter or to the next relocation.

use super::{AllocClass, FreeSpace, Lacking, State, TakenRun};
use crate::lock::MutexGuard;
use crate::space::Block;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A stalled thread.
pub(super) struct Waiter {
    id: u64,
    count: usize,
    /// In a row.
    run: bool,
    /// A compaction was requested for it.
    compacting: bool,
    /// The system has refused to take the memory of other blocks: only a run that lacks none helps.
    complete: bool,
    /// The blocks assigned to it.
    assigned: Option<Assigned>,
}

/// What a waiter gets.
enum Assigned {
    Blocks(Vec<Block>),
    /// A run, for which the waiter has to get memory.
    Lacking(Lacking),
}

impl State {
    /// Waiters without assigned blocks.
    fn unserved(&self) -> impl Iterator<Item = &Waiter> {
        self.waiting.iter().filter(|waiter| waiter.assigned.is_none())
    }

    fn is_first(&self, id: u64) -> bool {
        self.unserved().next().is_some_and(|waiter| waiter.id == id)
    }

    /// Whether a compaction is making a run for a waiter: a block that another thread allocated
    /// meanwhile would be a hole in it.
    pub(super) fn is_compacted_for_a_run(&self) -> bool {
        self.unserved().any(|waiter| waiter.run && waiter.compacting)
    }
}

impl FreeSpace {
    /// Begins to wait for `count` blocks (`run`: in a row): later requests may not use these
    /// blocks.
    pub(crate) fn await_blocks(&self, count: usize, run: bool) -> StallTicket<'_> {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.waiting.push_back(Waiter { id, count, run, compacting: false, complete: false, assigned: None });
        state.blocks_wanted += count;
        self.serve(state);
        StallTicket { space: self, id }
    }

    /// Length of the run that the next waiter needs, if a compaction was requested for it and
    /// enough blocks are free, but not adjacent.
    pub(crate) fn awaited_run(&self) -> Option<usize> {
        let state = self.state.lock();
        let waiter = state.unserved().next().filter(|waiter| waiter.run && waiter.compacting)?;
        (self.free.load(Ordering::Relaxed) >= state.reserve + waiter.count).then_some(waiter.count)
    }

    /// Assigns free blocks to waiters, and wakes them after the lock is released.
    pub(super) fn serve(&self, mut state: MutexGuard<'_, State>) {
        let served = self.hand_over(&mut state);
        drop(state);
        if served {
            self.returned.notify_all();
        }
    }

    /// Whether a waiter got blocks.
    fn hand_over(&self, state: &mut State) -> bool {
        let (mut before, mut served) = (0, false);
        for index in 0..state.waiting.len() {
            let Waiter { count, run, compacting, complete, .. } = state.waiting[index];
            if state.waiting[index].assigned.is_some() {
                continue;
            }
            // Before a stop-the-world compaction the waiters also get the blocks reserved for the
            // next flip.
            let kept = if compacting { state.reserve } else { state.kept() };
            let assigned = if self.free.load(Ordering::Relaxed) < kept + before + count {
                None
            } else if run && complete {
                self.pop_run(state, count).map(|first| Assigned::Blocks(first.run(count).collect()))
            } else if run {
                self.pop_run_or_lend(state, count, AllocClass::Mutator).map(|taken| match taken {
                    TakenRun::Complete(first) => Assigned::Blocks(first.run(count).collect()),
                    TakenRun::Lacking(lacking) => Assigned::Lacking(lacking),
                })
            } else {
                Some(Assigned::Blocks((0..count).map(|_| self.pop(state).0).collect()))
            };
            if assigned.is_some() {
                if matches!(assigned, Some(Assigned::Blocks(_))) {
                    self.is_for(AllocClass::Mutator, count);
                }
                state.waiting[index].assigned = assigned;
                state.blocks_wanted -= count;
                served = true;
            } else if run && compacting {
                break;
            } else {
                before += count;
            }
        }
        served
    }
}

/// A place in the queue of stalled threads.
pub(crate) struct StallTicket<'a> {
    space: &'a FreeSpace,
    id: u64,
}

impl StallTicket<'_> {
    /// Takes the blocks assigned to this waiter. If there are none, waits until there are,
    /// `wake_all` is called, it reaches the head of the queue, or `timeout` expires.
    pub(crate) fn take(&self, timeout: Duration) -> Option<Vec<Block>> {
        let mut state = self.space.state.lock();
        if self.space.hand_over(&mut state) {
            self.space.returned.notify_all();
        }
        let mut assigned = self.assigned(&mut state);
        if assigned.is_none() && !timeout.is_zero() {
            state = self.space.returned.wait_for(state, timeout);
            assigned = self.assigned(&mut state);
        }
        drop(state);
        let waiter = assigned?;
        match waiter.assigned? {
            Assigned::Blocks(blocks) => {
                self.space.note_all(&blocks);
                Some(blocks)
            }
            Assigned::Lacking(lacking) => {
                let blocks = lacking.blocks().to_vec();
                if self.space.complete(lacking) {
                    return Some(blocks);
                }
                let mut state = self.space.state.lock();
                state.blocks_wanted += waiter.count;
                state.waiting.push_front(Waiter { complete: true, assigned: None, ..waiter });
                self.space.serve(state);
                None
            }
        }
    }

    /// The waiter's place in the queue. A served waiter leaves the queue with its blocks; one whose
    /// run then gets no memory comes back to its head.
    fn index(&self, state: &State) -> Option<usize> {
        state.waiting.iter().position(|waiter| waiter.id == self.id)
    }

    fn assigned(&self, state: &mut State) -> Option<Waiter> {
        let index = self.index(state)?;
        state.waiting[index].assigned.as_ref()?;
        state.waiting.remove(index)
    }

    /// Records that a compaction is requested: until this waiter is served, no later waiter takes
    /// blocks out of a run.
    pub(crate) fn protect_runs(&self) {
        let mut state = self.space.state.lock();
        if let Some(index) = self.index(&state) {
            state.waiting[index].compacting = true;
        }
    }

    /// Whether this waiter is at the head of the queue.
    pub(crate) fn is_first(&self) -> bool {
        self.space.state.lock().is_first(self.id)
    }

    /// Whether only a collection can help this waiter: it is at the head of the queue and no block
    /// is being uncommitted.
    pub(crate) fn only_gc_can_help(&self) -> bool {
        let state = self.space.state.lock();
        state.is_first(self.id) && state.giving == 0 && self.space.uncommitting.load(Ordering::Relaxed) == 0
    }
}

impl Drop for StallTicket<'_> {
    fn drop(&mut self) {
        let mut state = self.space.state.lock();
        let Some(waiter) = self.index(&state).and_then(|index| state.waiting.remove(index)) else { return };
        match waiter.assigned {
            // The waiter was served after it had given up.
            Some(Assigned::Blocks(blocks)) => {
                self.space.note_all(&blocks);
                self.space.put_back(&mut state, blocks);
            }
            Some(Assigned::Lacking(lacking)) => self.space.undo(&mut state, &lacking, &[]),
            None => state.blocks_wanted -= waiter.count,
        }
        // The blocks of this waiter may be enough for the next one; or the next one is now at the
        // head of the queue and may request a cycle.
        let others = !state.waiting.is_empty();
        self.space.serve(state);
        if others {
            self.space.returned.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(waiting: &StallTicket<'_>) -> usize {
        waiting.take(Duration::ZERO).map_or(0, |blocks| blocks.len())
    }

    #[test]
    fn the_reserve_is_for_relocation_and_the_stalled_go_first() {
        let space = FreeSpace::new(4, 1).unwrap();
        let taken = [space.take(AllocClass::Mutator).unwrap(), space.take(AllocClass::Mutator).unwrap()];
        let waiting = space.await_blocks(2, false);
        assert_eq!(space.take(AllocClass::Mutator), None, "two are awaited and one is reserved");
        assert_eq!(take(&waiting), 0);
        space.free_blocks([taken[0]]);
        assert_eq!(take(&waiting), 2);
        drop(waiting);
        assert_eq!(take(&space.await_blocks(1, false)), 0);
        assert!(space.take(AllocClass::Collector).is_some());
    }

    /// A later thread that runs first must not get the blocks that an earlier one waits for: the
    /// earlier one could run out of memory although there was some.
    #[test]
    fn the_stalled_are_served_in_the_order_in_which_they_came() {
        let space = FreeSpace::new(8, 1).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| space.take(AllocClass::Mutator)).collect();
        let [first, second, third] = [2, 1, 1].map(|count| space.await_blocks(count, false));
        assert!(first.is_first() && !second.is_first());
        space.free_blocks([all[0]]);
        assert_eq!((take(&third), take(&second), take(&first)), (0, 0, 0), "the first needs another one");
        space.free_blocks([all[1]]);
        assert!(second.is_first(), "the first has got what it wants, asleep or not");
        assert_eq!(space.take(AllocClass::Collector).map(|block| space.free_blocks([block])), Some(()));
        assert_eq!((take(&third), take(&second), take(&first)), (0, 0, 2));
        space.free_blocks([all[2], all[3], all[4]]);
        assert_eq!((take(&third), take(&second)), (1, 1));
        assert_eq!((space.free(), space.state.lock().blocks_wanted), (2, 0));
        assert!(space.take(AllocClass::Mutator).is_some());
    }

    /// The heap shuts down, or a thread gives up, at the moment in which it is served.
    #[test]
    fn what_nobody_fetches_comes_back() {
        let space = FreeSpace::new(2, 0).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| space.take(AllocClass::Mutator)).collect();
        let [first, second] = [1, 1].map(|count| space.await_blocks(count, false));
        space.free_blocks([all[0]]);
        drop(first);
        assert_eq!(take(&second), 1);
        assert_eq!((space.free(), space.state.lock().blocks_wanted), (0, 0));
    }

    /// A block that another takes while a compaction makes a run is a hole in the run.
    #[test]
    fn nobody_takes_blocks_out_of_a_run_that_a_compaction_makes() {
        let space = FreeSpace::new(8, 0).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| space.take(AllocClass::Mutator)).collect();
        let run = space.await_blocks(3, true);
        let one = space.await_blocks(1, false);
        // As long as a cycle may help, others need not wait.
        space.free_blocks([all[0], all[2], all[4], all[6]]);
        assert_eq!((take(&run), take(&one)), (0, 1));
        run.protect_runs();
        let one = space.await_blocks(1, false);
        space.free_blocks([all[0], all[7]]);
        assert_eq!((take(&one), space.take(AllocClass::Mutator)), (0, None));
        space.free_blocks([all[1]]);
        assert_eq!(run.take(Duration::ZERO), Some(Block::new(0).run(3).collect()));
        assert_eq!(take(&one), 1);
        assert!(space.take(AllocClass::Mutator).is_some());
    }

    /// Otherwise a waiter could never see memory that is being uncommitted all the time.
    #[test]
    fn who_waits_for_blocks_is_not_out_of_memory_while_some_are_given_back() {
        let space = FreeSpace::new(4, 0).unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| space.take(AllocClass::Mutator)).collect();
        space.free_blocks(taken);
        let idle = space.take_uncommittable(Duration::ZERO, 4).blocks;
        assert_eq!(idle.len(), 4);
        let [first, second] = [4, 1].map(|count| space.await_blocks(count, false));
        assert!(take(&first) == 0 && first.is_first() && !first.only_gc_can_help());
        space.uncommitted(&idle, true);
        assert_eq!((take(&first), take(&second)), (4, 0));
        assert!(second.only_gc_can_help() && space.take_uncommittable(Duration::ZERO, 4).blocks.is_empty());
    }
}
