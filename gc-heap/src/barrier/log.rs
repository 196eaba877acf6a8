//! The store log: what mutators overwrite while marking runs.

use crate::events::LossKind;
use crate::inner::mutator::Mutator;
use crate::object::word::is_reference;
use gc_core::slot::must_log;
use gc_core::word::Word;

/// Capacity of a mutator's store log; a full log is passed to the marker.
const LOG_WORDS: usize = 1024;

impl Mutator<'_> {
    /// SATB barrier (Yuasa's deletion barrier, 1990): enqueues the overwritten reference unless its
    /// object is already marked.
    pub(crate) fn log_slow(&self, word: Word) {
        if self.counts.stores.counts_untimed() {
            self.log_word(word);
        } else {
            self.log_timed(word);
        }
    }

    #[cold]
    #[inline(never)]
    fn log_timed(&self, word: Word) {
        self.store_timed(|| self.log_word(word));
    }

    /// In a function of its own it would save the registers once more.
    #[inline(always)]
    fn log_word(&self, word: Word) {
        if !is_reference(word)
            || word.has_any(self.inner.exempt_bits())
            || !must_log(&self.inner.memory.space, self.bad_mask.get(), &self.inner.memory.marks, word)
        {
            return;
        }
        let mut log = self.log.borrow_mut();
        log.push(word);
        if log.len() >= LOG_WORDS {
            drop(log);
            self.flush_full_log();
        }
    }

    #[cold]
    #[inline(never)]
    fn flush_full_log(&self) {
        let (heap, account) = (self.inner(), &self.record().account);
        let begun = account.begin(heap);
        self.flush_log();
        account.end(heap, LossKind::LogFlushes, begun);
    }

    pub(crate) fn flush_log(&self) {
        let mut log = self.log.borrow_mut();
        if !log.is_empty() {
            self.counts.logged.set(self.counts.logged.get() + log.len() as u64);
            self.inner.world.log.push(std::mem::replace(&mut log, Vec::with_capacity(LOG_WORDS)));
        }
    }
}
