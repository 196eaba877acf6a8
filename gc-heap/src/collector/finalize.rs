//! Finalization: after weak references are resolved and nobody resolves any more, before anything is freed.
//!
//! The collector does it alone. Mutators cannot come to what is dead: no live slot refers to it, and the weak ones are
//! cleared. See "Finalization" in `docs/protocol.md`.

use super::mark::{Marker, remap};
use super::pool::Pool;
use super::reclaim::{resolve_pairs, resolve_slots};
use super::roots::Roots;
use crate::finalize::{OnDeath, Registration};
use crate::handles::root::RootCell;
use crate::inner::HeapInner;
use std::sync::atomic::Ordering;

/// Everything that somebody wants to hear of. The collector's own.
#[derive(Default)]
pub(crate) struct Watches {
    watches: Vec<Registration>,
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
fn live(inner: &HeapInner, watch: &Registration) -> Result<(), usize> {
    let slot = watch.cell.collector_slot();
    let word = slot.load(Ordering::Acquire);
    let offset = remap(inner, word);
    if !inner.is_live(offset) {
        return Err(offset);
    }
    // Nobody else writes it.
    slot.store(inner.space.view(inner.phase.good()) + offset as u64, Ordering::Release);
    Ok(())
}

impl Watches {
    /// Revives what a finalizer queue wants, and tells the queues of what has died.
    pub(crate) fn finalize(&mut self, inner: &HeapInner) -> Finalized {
        while let Some(watch) = inner.new_watches.pop() {
            self.watches.push(watch);
        }
        let mut done = Finalized::default();
        let dead = |watch: &mut Registration| live(inner, watch).is_err();
        let revived: Vec<Registration> =
            self.watches.extract_if(.., |watch| watch.end == OnDeath::Revive && dead(watch)).collect();
        if !revived.is_empty() {
            done.live_bytes = revive(inner, &revived);
        }
        // Dead even now: an object that a revived one leads to is not gone.
        let released: Vec<Registration> =
            self.watches.extract_if(.., |watch| watch.end == OnDeath::Release && dead(watch)).collect();
        (done.revived, done.released) = (revived.len() as u64, released.len() as u64);
        for Registration { cell, queue, key, .. } in revived {
            let word = cell.collector_slot().load(Ordering::Relaxed);
            queue.publish(key, Some(RootCell::new(&inner.roots, word, true)));
        }
        released.into_iter().for_each(|watch| watch.queue.publish(watch.key, None));
        done
    }
}

/// Marks the objects, and what they lead to; then resolves the weak slots and ephemerons found there. Gives the bytes.
fn revive(inner: &HeapInner, watches: &[Registration]) -> u64 {
    let pool = Pool::new(inner, 1, Roots::default());
    let mut marker = Marker::<false>::new(inner, &pool);
    for watch in watches {
        // Stale or not, the slot is healed and its object marked.
        marker.visit(watch.cell.collector_slot());
    }
    marker.drain();
    marker.look();
    marker.drain();
    resolve_slots(inner, &std::mem::take(&mut marker.weak));
    let (_, bytes) = marker.count();
    drop(marker);
    resolve_pairs(inner, &pool.waiting.into_dead());
    bytes
}
