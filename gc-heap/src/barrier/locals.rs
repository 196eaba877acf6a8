//! The slots of frames: made and ended.

use super::Place;
use super::access::{on_end, on_store};
use crate::inner::mutator::Mutator;
use gc_core::slot::publish;
use gc_core::word::{GoodWord, Word};
use std::sync::atomic::AtomicU64;

/// Stores the first word of a local.
#[inline(always)]
pub(crate) fn push(slot: &AtomicU64, word: GoodWord, m: &Mutator<'_>) {
    on_store(slot, Place::Local, || Word::NULL, word, m);
    // Release: the marker may visit a slot that ended after mark start and is used again.
    publish(slot, word.word());
}

/// Ends the locals from an address on, up to the thread's top, which the caller lowers then.
#[inline(always)]
pub(crate) fn end(address: u64, m: &Mutator<'_>) {
    on_end(Place::Local, || (address..m.local_top.get()).step_by(8).map(|address| m.record().local(address)));
    if m.watermark.is_above(address) {
        end_below_watermark(address, m);
    }
}

/// While marking: a local below the watermark that ends may not have been scanned yet.
#[cold]
#[inline(never)]
fn end_below_watermark(address: u64, m: &Mutator<'_>) {
    let record = m.record();
    let is_scanned = !m.is_logging() || record.scan.is_scanned(m.epoch());
    let slot = |address| record.local(address);
    m.watermark.pop_to(address, m.local_top.get(), is_scanned, slot, |word| m.log(word));
}
