//! One marker and the store logs of mutators, on the mark bitmap of `gc-core`. Each function
//! carries the name of the one in `gc-heap` that it transcribes.

use super::words::{good, must_log};
use gc_core::bitmap::MarkBitmap;
use gc_core::units::Granule;
use gc_core::word::{GoodWord, Word};
use loom::cell::UnsafeCell;
use loom::sync::Mutex;

/// Objects at mark start, by granule; what is allocated while marking runs begins at [`YOUNG`].
pub(crate) const A: usize = 1;
pub(crate) const B: usize = 2;
pub(crate) const DEAD: usize = 3;
pub(crate) const YOUNG: usize = 64;
const WORDS: usize = 2;

pub(crate) struct Marking {
    pub(crate) marks: MarkBitmap,
    /// `HeapInner::log`.
    log: Mutex<Vec<Word>>,
    /// Headers of the young objects: loom panics where the marker reads one whose writing is not
    /// ordered before.
    headers: [UnsafeCell<u64>; 2],
}

// SAFETY: a header is written before its object is published; that this is enough is what loom
// checks.
unsafe impl Sync for Marking {}
// SAFETY: as above.
unsafe impl Send for Marking {}

impl Marking {
    pub(crate) fn new() -> Marking {
        Marking {
            marks: MarkBitmap::new(WORDS * 64).unwrap(),
            log: Mutex::new(Vec::new()),
            headers: [0; 2].map(UnsafeCell::new),
        }
    }

    /// `Marker::mark`, by the only marker: an object that was not marked is scanned.
    pub(crate) fn mark(&self, granule: usize) {
        assert_ne!(granule, DEAD, "the marker visits a slot that nobody has written");
        if self.marks.set_alone(Granule::new(granule)) && granule >= YOUNG {
            // SAFETY: as for `Sync`.
            let header = self.headers[granule - YOUNG].with(|header| unsafe { *header });
            unreachable!("a young object is marked from the start, and not scanned (its header: {header})");
        }
    }

    /// `open_block` and `place`, while marking runs: makes the `index`th young object, and gives
    /// its word.
    pub(crate) fn allocate(&self, index: usize) -> GoodWord {
        self.marks.store_words(YOUNG / 64..WORDS, u64::MAX);
        // SAFETY: not published yet.
        self.headers[index].with_mut(|header| unsafe { *header = 1 });
        good(YOUNG + index)
    }

    /// Into the mutator's own log.
    pub(crate) fn log(&self, own: &mut Vec<Word>, word: Word) {
        if must_log(&self.marks, word) {
            own.push(word);
        }
    }

    /// `Mutator::flush_log`, at a safepoint.
    pub(crate) fn flush_log(&self, own: &mut Vec<Word>) {
        self.log.lock().unwrap().append(own);
    }

    /// `Marking::drain_logs`.
    pub(crate) fn take_logs(&self, remap: impl Fn(Word) -> usize) {
        self.take_log().into_iter().for_each(|word| self.mark(remap(word)));
    }

    /// What was logged, for models with markers of their own.
    pub(crate) fn take_log(&self) -> Vec<Word> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}
