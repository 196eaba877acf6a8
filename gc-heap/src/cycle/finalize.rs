//! Finalization: after weak references are resolved and nobody resolves any more, before anything is freed.
//!
//! The collector does it alone. Mutators cannot come to what is dead: no live slot refers to it, and the weak ones are
//! cleared. See "Finalization" in `docs/protocol.md`.

use super::mark::{Marker, remap};
use super::pool::Pool;
use super::reclaim::{resolve_pairs, resolve_slots};
use super::roots::Roots;
use crate::finalize::{End, Watch};
use crate::root::table::RootCell;
use crate::shared::Shared;
use std::sync::atomic::Ordering;

/// Everything that somebody wants to hear of. The collector's own.
#[derive(Default)]
pub(crate) struct Watches {
    watches: Vec<Watch>,
}

/// What finalization did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Finalized {
    /// Bytes that are live after all.
    pub(crate) live_bytes: u64,
    pub(crate) revived: u64,
    pub(crate) released: u64,
}

/// Where the object of a watch is now, if it is live; its word is made good.
fn live(shared: &Shared, watch: &Watch) -> Result<(), usize> {
    let slot = watch.cell.collector_slot();
    let word = slot.load(Ordering::Acquire);
    let offset = remap(shared, word);
    if !shared.is_live(offset) {
        return Err(offset);
    }
    // Nobody else writes it.
    slot.store(shared.space.view(shared.phase.good()) + offset as u64, Ordering::Release);
    Ok(())
}

impl Watches {
    /// Revives what a finalizer queue wants, and tells the queues of what has died.
    pub(crate) fn finalize(&mut self, shared: &Shared) -> Finalized {
        while let Some(watch) = shared.new_watches.pop() {
            self.watches.push(watch);
        }
        let mut done = Finalized::default();
        let dead = |watch: &mut Watch| live(shared, watch).is_err();
        let revived: Vec<Watch> =
            self.watches.extract_if(.., |watch| watch.end == End::Revive && dead(watch)).collect();
        if !revived.is_empty() {
            done.live_bytes = revive(shared, &revived);
        }
        // Dead even now: an object that a revived one leads to is not gone.
        let released: Vec<Watch> =
            self.watches.extract_if(.., |watch| watch.end == End::Release && dead(watch)).collect();
        (done.revived, done.released) = (revived.len() as u64, released.len() as u64);
        for Watch { cell, queue, key, .. } in revived {
            let word = cell.collector_slot().load(Ordering::Relaxed);
            queue.publish(key, Some(RootCell::new(&shared.roots, word, true)));
        }
        released.into_iter().for_each(|watch| watch.queue.publish(watch.key, None));
        done
    }
}

/// Marks the objects, and what they lead to; then resolves the weak slots and ephemerons found there. Gives the bytes.
fn revive(shared: &Shared, watches: &[Watch]) -> u64 {
    let pool = Pool::new(shared, 1, Roots::default());
    let mut marker = Marker::<false>::new(shared, &pool);
    for watch in watches {
        // Stale or not, the slot is healed and its object marked.
        marker.visit(watch.cell.collector_slot());
    }
    marker.drain();
    marker.look();
    marker.drain();
    resolve_slots(shared, &std::mem::take(&mut marker.weak));
    let (_, bytes) = marker.count();
    drop(marker);
    resolve_pairs(shared, &pool.waiting.into_dead());
    bytes
}
