//! Stalled threads: they get blocks in the order in which they came.

use super::{FreeSpace, State};
use std::sync::atomic::Ordering;
use std::time::Duration;

impl State {
    fn is_first(&self, name: u64) -> bool {
        self.waiting.front().is_some_and(|&(first, _)| first == name)
    }
}

impl FreeSpace {
    /// Begins to wait for `count` blocks: from now on who comes later leaves that many alone.
    pub(crate) fn await_blocks(&self, count: usize) -> Awaiting<'_> {
        let mut state = self.state.lock();
        let name = state.next;
        state.next += 1;
        state.waiting.push_back((name, count));
        state.awaited += count;
        Awaiting { space: self, name, count }
    }
}

/// A place in the queue of those who stalled.
pub(crate) struct Awaiting<'a> {
    space: &'a FreeSpace,
    name: u64,
    count: usize,
}

impl Awaiting<'_> {
    /// Tries to take (`run`: in a row), and if that fails waits until blocks come back, the collector calls, or the
    /// time is over. The result is the first block taken, or the blocks themselves.
    pub(crate) fn take(&self, run: bool, timeout: Duration) -> Option<Vec<usize>> {
        let mut state = self.space.state.lock();
        if let Some(taken) = self.try_take(&mut state, run) {
            return Some(taken);
        }
        if timeout.is_zero() {
            return None;
        }
        state = self.space.returned.wait_for(state, timeout);
        self.try_take(&mut state, run)
    }

    /// Whether nobody is before this one: what comes back is for it.
    pub(crate) fn is_first(&self) -> bool {
        self.space.state.lock().is_first(self.name)
    }

    /// Whether what is free now is all that can be had without a cycle: nobody is before this one, and no block's memory is being
    /// given back, after which the block is free again.
    pub(crate) fn has_all(&self) -> bool {
        let state = self.space.state.lock();
        state.is_first(self.name) && state.lent == 0
    }

    fn try_take(&self, state: &mut State, run: bool) -> Option<Vec<usize>> {
        let before =
            state.waiting.iter().take_while(|(name, _)| *name != self.name).map(|(_, count)| count).sum::<usize>();
        if self.space.free.load(Ordering::Relaxed) < state.reserve + before + self.count {
            return None;
        }
        let taken = if run {
            let first = self.space.pop_run(state, self.count)?;
            (first..first + self.count).collect()
        } else {
            (0..self.count).map(|_| self.space.pop(state)).collect()
        };
        state.handed += self.count as u64;
        Some(taken)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        let mut state = self.space.state.lock();
        state.waiting.retain(|(name, _)| *name != self.name);
        state.awaited -= self.count;
        // What this one leaves behind may be enough for the next, or it is the next's turn to have a cycle of its own.
        if !state.waiting.is_empty() {
            self.space.returned.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Taker;
    use super::*;

    #[test]
    fn the_reserve_is_for_relocation_and_the_stalled_go_first() {
        let space = FreeSpace::new(4, 1);
        let waiting = space.await_blocks(2);
        assert!(space.take(Taker::Mutator).is_some());
        assert_eq!(space.take(Taker::Mutator), None, "two are awaited and one is reserved");
        assert_eq!(waiting.take(false, Duration::ZERO).unwrap().len(), 2);
        drop(waiting);
        assert_eq!(space.await_blocks(1).take(false, Duration::ZERO), None);
        assert!(space.take(Taker::Collector).is_some());
    }

    /// Who comes later and is awake earlier must not get what another waits for: that one would be out of memory although
    /// there was some, over and over.
    #[test]
    fn the_stalled_are_served_in_the_order_in_which_they_came() {
        let space = FreeSpace::new(8, 1);
        let all: Vec<_> = std::iter::from_fn(|| space.take(Taker::Mutator)).collect();
        let [first, second, third] = [2, 1, 1].map(|count| space.await_blocks(count));
        assert!(first.is_first() && !second.is_first());
        space.give([all[0], all[1]]);
        assert_eq!(second.take(false, Duration::ZERO), None, "both are the first's");
        space.give([all[2]]);
        assert_eq!(third.take(false, Duration::ZERO), None);
        let handed = space.handed();
        assert_eq!(second.take(false, Duration::ZERO).unwrap().len(), 1, "and this one is not");
        drop(second);
        assert_eq!(third.take(false, Duration::ZERO), None);
        assert_eq!(first.take(false, Duration::ZERO).unwrap().len(), 2);
        assert_eq!(space.handed(), handed + 3);
        drop(first);
        assert!(third.is_first());
    }

    /// Else memory that is given back all the time is never there when somebody looks.
    #[test]
    fn who_waits_for_blocks_is_not_out_of_memory_while_some_are_given_back() {
        let space = FreeSpace::new(4, 0);
        let taken: Vec<_> = std::iter::from_fn(|| space.take(Taker::Mutator)).collect();
        space.give(taken);
        let idle = space.idle(Duration::ZERO, 0..4);
        assert_eq!(idle.len(), 4);
        let waiting = space.await_blocks(1);
        assert_eq!(waiting.take(false, Duration::ZERO), None);
        assert!(waiting.is_first() && !waiting.has_all());
        space.uncommitted(&idle);
        assert!(waiting.has_all() && space.idle(Duration::ZERO, 0..4).is_empty());
        assert!(waiting.take(false, Duration::ZERO).is_some());
    }
}
