//! Finalization: after weak references are resolved and no mutator resolves any more, before
//! anything is freed.
//!
//! The collector does it alone. Mutators cannot reach dead objects: no live slot refers to them,
//! and weak slots are cleared. See "Finalization" in `docs/protocol.md`.

use super::mark::Marker;
use super::mark_queue::SharedMarkQueue;
use super::pair_blocks::Passes;
use super::reclaim::{resolve_pairs, resolve_slots};
use super::roots::Roots;
use crate::barrier::collector as slots;
use crate::inner::HeapInner;
use crate::inner::registration::{OnDeath, Registration};
use crate::space::Offset;
use gc_core::word::Word;
use std::sync::atomic::Ordering;

/// All registrations. Owned by the collector.
#[derive(Default)]
pub(crate) struct Watches {
    watches: Vec<Registration>,
}

/// Result of finalization.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Finalized {
    /// Bytes that were revived.
    pub(crate) live_bytes: u64,
    pub(crate) revived: u64,
    pub(crate) released: u64,
}

/// The offset of a registered object, if it is live; heals its word.
fn live(inner: &HeapInner, watch: &Registration) -> Result<(), Offset> {
    let slot = watch.cell.collector_slot();
    let word = Word::of(slot, Ordering::Acquire);
    if word.has_any(inner.exempt_bits()) {
        return Ok(());
    }
    let offset = inner.remap(word);
    if !inner.is_live(offset) {
        return Err(offset);
    }
    // No other thread writes it.
    slot.store(inner.good_word(offset).bits(), Ordering::Release);
    Ok(())
}

impl Watches {
    /// Revives the dead objects of finalizer queues, and notifies the queues.
    pub(crate) fn finalize(&mut self, inner: &HeapInner) -> Finalized {
        while let Some(watch) = inner.roots.new_registrations.pop() {
            self.watches.push(watch);
        }
        let mut done = Finalized::default();
        let dead = |watch: &mut Registration| live(inner, watch).is_err();
        let revived: Vec<Registration> =
            self.watches.extract_if(.., |watch| watch.end == OnDeath::Revive && dead(watch)).collect();
        if !revived.is_empty() {
            done.live_bytes = revive(inner, &revived);
        }
        // Still dead now: an object reachable from a revived one is live again.
        let released: Vec<Registration> =
            self.watches.extract_if(.., |watch| watch.end == OnDeath::Release && dead(watch)).collect();
        (done.revived, done.released) = (revived.len() as u64, released.len() as u64);
        for Registration { cell, queue, key, .. } in revived {
            let word = Word::of(cell.collector_slot(), Ordering::Relaxed);
            queue.publish(key, Some(slots::new_root(inner, word)));
        }
        released.into_iter().for_each(|watch| watch.queue.publish(watch.key, None));
        done
    }
}

/// Marks the objects and everything reachable from them; then resolves the weak slots and
/// ephemerons found there. Returns the bytes.
fn revive(inner: &HeapInner, watches: &[Registration]) -> u64 {
    let shared = SharedMarkQueue::new(inner, 1, Roots::default());
    let mut marker = Marker::<false>::new(inner, &shared);
    for watch in watches {
        // Stale or not, the slot is healed and its object marked.
        marker.visit(watch.cell.collector_slot());
    }
    marker.drain();
    marker.start_ephemeron_phase(Vec::new());
    marker.drain();
    Passes::default().run(&mut marker, 0);
    resolve_slots(inner, &[std::mem::take(&mut marker.weak)]);
    let (_, bytes) = marker.count();
    drop(marker);
    resolve_pairs(inner, &shared.waiting);
    bytes
}
