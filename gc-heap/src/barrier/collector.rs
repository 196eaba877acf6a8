//! What the collector does with slots. It gives them good words for stale ones and clears dead
//! ones; none of this is a store in the sense of [`super::access::on_store`].

use crate::inner::HeapInner;
use crate::roots::table::RootCell;
use gc_core::word::Word;

pub(crate) use gc_core::ephemeron::{Scan, resolve as resolve_pair, scan as scan_pair};
pub(crate) use gc_core::slot::{Remap, visit};
pub(crate) use gc_core::weak::resolve as resolve_weak;

/// The root of an object that the collector has revived. `word` is its own, stale or good, of a
/// table that the marking has visited.
pub(crate) fn new_root(inner: &HeapInner, word: Word) -> RootCell {
    RootCell::new(&inner.roots.strong, word, true)
}
