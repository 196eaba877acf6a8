//! How tables that keep nothing alive grow: by what a cycle has found alive, not by what none has
//! found dead yet.
//!
//! A table that is full has entries that came since the last cycle; most of them may be dead. Where
//! they are more than the entries that are known to be alive explain, a cycle is asked for. The
//! table may become twice as large meanwhile, and then whoever adds to it waits for the end of that
//! cycle. So a table has at most twice as many places as it has [`allowed`].
//!
//! Whether an entry that is there now was there when a cycle began cannot be told. But how many
//! were added since can, and those that are left beside them were there. Filling a table anew while
//! marking runs keeps all its entries through that cycle; so only a cycle that begins after says
//! what is alive.

use crate::inner::HeapInner;
use crate::inner::control::Ticket;

/// A table may be this part of what lives in the heap, ...
const OF_LIVE: u64 = 16;

/// ... or this part of the largest heap, but no more than [`MOST`] bytes, whatever lives in it.
const OF_HEAP: usize = 64;
const MOST: usize = 1 << 20;

/// What is known of the entries of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Alive at the end of a cycle.
    pub(crate) alive: usize,
    /// When that cycle, at the latest, has ended, more is known: it begins after `added` was noted.
    pub(crate) cycle: u64,
    /// Entries that had been added then, ever.
    pub(crate) added: u64,
}

/// A table that is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full {
    pub(crate) places: usize,
    /// Not known to be dead.
    pub(crate) entries: usize,
    /// Ever added.
    pub(crate) added: u64,
    /// Bytes of a place.
    pub(crate) place: usize,
    /// The places that a table for so many entries has.
    pub(crate) places_for: fn(usize) -> usize,
}

/// What is to be done with a full table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// It gives way to one of so many places.
    To(usize),
    /// The cycle of this number has to end first. Then it is looked again.
    After(u64),
}

/// The places that a table may have by what is known to be alive of it.
fn allowed(alive: usize, live_bytes: u64, max_bytes: usize, full: &Full) -> usize {
    let floor = (max_bytes / OF_HEAP).min(MOST).max((live_bytes / OF_LIVE) as usize);
    (floor / full.place).max((full.places_for)(2 * alive))
}

impl HeapInner {
    /// What is known of a table that is filled anew now, with entries of which `alive` are known to
    /// be.
    pub(crate) fn table_renewed(&self, alive: usize, added: u64) -> Known {
        Known { alive, cycle: self.schedule.requests.next_cycle(), added }
    }

    /// What to do with a full table. Asks for a cycle, if that is what it takes.
    pub(crate) fn table_growth(&self, known: &mut Known, full: &Full) -> Growth {
        if self.schedule.requests.is_done(Ticket::Cycle(known.cycle)) {
            let came = full.added - known.added;
            *known = self.table_renewed(full.entries.saturating_sub(came as usize), full.added);
        }
        let wanted = (full.places_for)(full.entries);
        let allowed = allowed(known.alive, self.memory.free.live_bytes(), self.config.max_bytes, full);
        if wanted <= full.places.max(allowed) {
            return Growth::To(wanted);
        }
        self.schedule.requests.request_number(known.cycle);
        if wanted <= 2 * allowed { Growth::To(wanted) } else { Growth::After(known.cycle) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Heap, MIN_HEAP_BYTES};

    fn places_for(entries: usize) -> usize {
        (2 * entries).next_power_of_two().max(8)
    }

    fn full(places: usize, entries: usize, added: u64) -> Full {
        Full { places, entries, added, place: 16, places_for }
    }

    /// 4 MiB: 4096 places, whatever lives; 8192 while a cycle has been asked for.
    #[test]
    fn a_table_grows_by_what_a_cycle_has_found_alive() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        let inner = heap.inner();
        let mut known = inner.table_renewed(0, 0);
        assert_eq!(inner.table_growth(&mut known, &full(1024, 768, 768)), Growth::To(2048));
        assert_eq!(inner.table_growth(&mut known, &full(2048, 1536, 1536)), Growth::To(4096));
        assert_eq!(
            (known, heap.stats().cycles),
            (Known { alive: 0, cycle: 1, added: 0 }, 0),
            "nobody asked for a cycle"
        );
        // Somebody does. It may end before the next line, or not: nothing of what came since
        // counts.
        assert_eq!(inner.table_growth(&mut known, &full(4096, 3072, 3072)), Growth::To(8192));
        inner.wait_for_cycle(1);
        let growth = inner.table_growth(&mut known, &full(8192, 6144, 6144));
        let Growth::After(cycle) = growth else { panic!("{growth:?} of what may all be dead") };
        assert!(cycle > 1 && known.alive == 0 && known.added == 6144);
        // After that cycle all that is left was there before.
        inner.wait_for_cycle(cycle);
        assert_eq!(inner.table_growth(&mut known, &full(8192, 6144, 6144)), Growth::To(16384));
        assert_eq!(known.alive, 6144);
        inner.wait_for_cycle(known.cycle);
        assert_eq!(inner.table_growth(&mut known, &full(8192, 100, 6200)), Growth::To(256), "it shrinks");
        assert_eq!(known.alive, 44);
    }
}
