//! The slots of root stacks: pushed, overwritten, popped.

use super::Place;
use super::access::{on_end, on_store};
use crate::inner::mutator::Mutator;
use crate::roots::stack_region::StackRegion;
use gc_core::slot::publish;
use gc_core::word::{GoodWord, Word};
use std::sync::atomic::{AtomicU64, Ordering};

/// Pushes a word. `slot` is the stack's slot at `top`, which is below the limit.
#[inline(always)]
pub(crate) fn push(region: &StackRegion, slot: &AtomicU64, top: usize, word: GoodWord, m: &Mutator<'_>) {
    on_store(slot, Place::Stack, || Word::NULL, word, m);
    region.state.push(slot, top, word);
}

/// As [`push`], at the limit, which it raises. Returns the limit. Out of line and in tail position,
/// so that a push needs no saved registers.
///
/// # Panics
/// If the stack is full.
#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn push_slow(region: &StackRegion, word: GoodWord, m: &Mutator<'_>) -> usize {
    let top = region.len();
    let limit = region.admit(top + 1);
    push(region, region.slot(top), top, word, m);
    limit
}

/// Stores to a slot below the top.
#[inline(always)]
pub(crate) fn overwrite(region: &StackRegion, slot: &AtomicU64, index: usize, word: GoodWord, m: &Mutator<'_>) {
    on_store(slot, Place::Stack, || Word::of(slot, Ordering::Relaxed), word, m);
    region.state.overwrite(slot, word, || {
        if m.is_logging() {
            log_range(region, m, index, index + 1);
        }
    });
}

/// Ends the slots from `new_top` on. `top` reads the stack's top, where that is needed.
#[inline(always)]
pub(crate) fn cut(region: &StackRegion, new_top: usize, top: impl Fn() -> usize, m: &Mutator<'_>) {
    on_end(Place::Stack, || (new_top..top()).map(|index| region.slot(index)));
    region.state.cut(new_top, || {
        if m.is_logging() {
            log_range(region, m, new_top, top());
        }
    });
}

/// Adds slots, which are below the limit, up to `new_top`. `top` is the stack's.
#[inline(always)]
pub(crate) fn fill(region: &StackRegion, top: usize, new_top: usize, word: GoodWord, m: &Mutator<'_>) {
    for index in top..new_top {
        let slot = region.slot(index);
        on_store(slot, Place::Stack, || Word::NULL, word, m);
        // The top after the slots: as in `push`.
        publish(slot, word.word());
    }
    region.state.set_top(new_top);
}

/// Logs what is about to be popped or overwritten while marking runs (the SATB store barrier of a
/// stack's slots).
#[cold]
#[inline(never)]
fn log_range(region: &StackRegion, m: &Mutator<'_>, from: usize, to: usize) {
    region.state.log(m.epoch(), (from..to).map(|index| region.slot(index)), |word| m.log(word));
}
