//! A ring in which a thread records when it lost time and how much, also from a signal handler, for
//! another thread to read.
//!
//! A ring with one writer and one reader at a time. The writer merges losses that lie close
//! together into one entry, which it keeps private until the next loss cannot be merged, or until
//! it calls [`flush`](LossRing::flush). It neither waits nor allocates: if the ring is full, the
//! entry is dropped and its losses are counted.
//!
//! ```text
//! writer                                  reader
//! entry into slot[written % n]            slots taken..written   (written: Acquire)
//! written + 1   (Release)      ──►        copy them
//! written - taken < n          ◄──        taken = written        (Release)
//!     (taken: Acquire)
//! ```
//!
//! - `written` is Release and read Acquire: a reader that counts an entry sees all its words.
//! - `taken` is Release and read Acquire: a slot is written again only after the reader has read
//!   it.
//!
//! The writer is a thread and the signal handlers that interrupt it. None of the handlers may
//! interrupt [`record`] or [`flush`] and then call one of the two. That holds for the handler of
//! page faults: the two functions touch no page that a gate can unmap, and compiler fences keep the
//! thread's other accesses, which can fault, before or after them.
//!
//! [`record`]: LossRing::record
//! [`flush`]: LossRing::flush

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::zeroed::{NoMemory, zeroed};
use std::sync::atomic::compiler_fence;

/// Longest time, from the begin of its first loss to the end of its last, that one entry covers. A
/// tenth of the shortest window for which utilisation is computed; at most 10,000 entries per
/// second and thread.
pub const MERGED_NS: u64 = 100_000;

/// Losses of one kind in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Kind of the losses; losses of different kinds are not merged.
    pub kind: u8,
    /// Number of losses; 2^56 - 1 at most.
    pub count: u64,
    /// Time at which the first loss began.
    pub begin_ns: u64,
    /// Time from there to the end of the last loss.
    pub length_ns: u64,
    /// Time lost within that.
    pub lost_ns: u64,
    /// Of it, the kernel's share.
    pub kernel_ns: u64,
}

impl Loss {
    /// Time at which the last loss ended.
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        self.begin_ns.saturating_add(self.length_ns)
    }

    fn words(self) -> [u64; WORDS] {
        [self.begin_ns, self.length_ns, self.lost_ns, self.kernel_ns, self.count << 8 | u64::from(self.kind)]
    }

    fn from_words([begin_ns, length_ns, lost_ns, kernel_ns, last]: [u64; WORDS]) -> Loss {
        Loss { kind: last as u8, count: last >> 8, begin_ns, length_ns, lost_ns, kernel_ns }
    }

    /// The two losses merged into one, if they may be.
    fn merged(self, next: Loss) -> Option<Loss> {
        let fits =
            self.kind == next.kind && next.begin_ns >= self.end_ns() && next.end_ns() - self.begin_ns <= MERGED_NS;
        fits.then(|| Loss {
            count: self.count + next.count,
            length_ns: next.end_ns() - self.begin_ns,
            lost_ns: self.lost_ns + next.lost_ns,
            kernel_ns: self.kernel_ns + next.kernel_ns,
            ..self
        })
    }
}

const WORDS: usize = 5;

/// A thread's record of its losses; see the [module](self).
#[derive(Debug)]
pub struct LossRing {
    slots: Box<[[AtomicU64; WORDS]]>,
    /// Entries ever put into a slot. Changed by the writer only.
    written: AtomicU64,
    /// Entries ever taken out of one. Changed by the reader only.
    taken: AtomicU64,
    /// Losses in entries that found no slot, since the last [`take`](Self::take).
    missed: AtomicU64,
    /// The entry that the next loss may be merged into; a count of 0 means none. Only the writer
    /// uses it, so it needs no ordering.
    open: [AtomicU64; WORDS],
}

fn load(words: &[AtomicU64; WORDS]) -> [u64; WORDS] {
    std::array::from_fn(|word| words[word].load(Ordering::Relaxed))
}

fn store(words: &[AtomicU64; WORDS], values: [u64; WORDS]) {
    (0..WORDS).for_each(|word| words[word].store(values[word], Ordering::Relaxed));
}

fn none() -> [AtomicU64; WORDS] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl LossRing {
    /// A ring of `entries` entries, a power of two; 40 bytes each, committed when first touched.
    ///
    /// # Errors
    /// The program's allocator refuses the memory.
    ///
    /// # Panics
    /// If `entries` is no power of two.
    pub fn new(entries: usize) -> Result<LossRing, NoMemory> {
        assert!(entries.is_power_of_two(), "a ring of 2^n entries");
        Ok(LossRing {
            slots: zeroed(entries)?,
            written: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            open: none(),
        })
    }

    /// Records a loss, which ended no earlier than the previous one did. One that began earlier,
    /// because the previous one lies in it, is an entry of its own. Called by the writer, also in a
    /// signal handler. About 40 instructions if the loss is merged, about 60 if an entry
    /// goes into the ring; never waits.
    pub fn record(&self, loss: Loss) {
        compiler_fence(Ordering::SeqCst);
        let open = Loss::from_words(load(&self.open));
        let open = match open.merged(loss) {
            Some(merged) if open.count != 0 => merged,
            _ => {
                self.push(open);
                loss
            }
        };
        store(&self.open, open.words());
        compiler_fence(Ordering::SeqCst);
    }

    /// Puts the entry that is being merged into the ring, so that the reader sees it. Called by the
    /// writer.
    pub fn flush(&self) {
        compiler_fence(Ordering::SeqCst);
        self.push(Loss::from_words(load(&self.open)));
        store(&self.open, [0; WORDS]);
        compiler_fence(Ordering::SeqCst);
    }

    fn push(&self, entry: Loss) {
        if entry.count == 0 {
            return;
        }
        let written = self.written.load(Ordering::Relaxed);
        // Acquire: the reader has read the slot that is written next.
        if written - self.taken.load(Ordering::Acquire) >= self.slots.len() as u64 {
            self.missed.fetch_add(entry.count, Ordering::Relaxed);
            return;
        }
        store(self.slot(written), entry.words());
        // Release: a reader that counts the entry sees its words.
        self.written.store(written + 1, Ordering::Release);
    }

    fn slot(&self, number: u64) -> &[AtomicU64; WORDS] {
        &self.slots[number as usize & (self.slots.len() - 1)]
    }

    /// Whether the ring is half full, so that the reader should drain it. Any thread may call it.
    pub fn is_half_full(&self) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        // Two loads: the reader may have drained the ring in between.
        written.saturating_sub(self.taken.load(Ordering::Relaxed)) * 2 > self.slots.len() as u64
    }

    /// Drains the ring in the order of writing, and returns how many losses found no slot since the
    /// last call. Only one reader at a time may call this, which the caller's lock must ensure: two
    /// would take entries twice.
    pub fn take(&self, mut each: impl FnMut(Loss)) -> u64 {
        // Acquire: the entries that it counts are visible.
        let written = self.written.load(Ordering::Acquire);
        let taken = self.taken.load(Ordering::Relaxed);
        for number in taken..written {
            each(Loss::from_words(load(self.slot(number))));
        }
        // Release: the writer may write these slots again, now that they are read.
        self.taken.store(written, Ordering::Release);
        self.missed.swap(0, Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn loss(begin_ns: u64, ns: u64) -> Loss {
        Loss { kind: 1, count: 1, begin_ns, length_ns: ns, lost_ns: ns, kernel_ns: ns / 4 }
    }

    fn taken(ring: &LossRing) -> (Vec<Loss>, u64) {
        let mut all = Vec::new();
        let missed = ring.take(|loss| all.push(loss));
        (all, missed)
    }

    #[test]
    fn what_lies_close_together_is_one_entry_and_the_rest_is_not() {
        let ring = LossRing::new(8).unwrap();
        ring.record(loss(1000, 500));
        ring.record(loss(60_000, 2_000));
        ring.record(loss(100_000, 900));
        assert!(taken(&ring).0.is_empty(), "the next may still be merged");
        // One nanosecond past the window.
        ring.record(loss(100_900, 101));
        // As long as it likes, alone.
        ring.record(loss(1_000_000, 7_000_000));
        ring.record(Loss { kind: 2, ..loss(8_000_000, 10) });
        ring.record(Loss { kind: 1, ..loss(8_000_010, 10) });
        let merged = Loss { kind: 1, count: 3, begin_ns: 1000, length_ns: 99_900, lost_ns: 3_400, kernel_ns: 850 };
        let expected =
            [merged, loss(100_900, 101), loss(1_000_000, 7_000_000), Loss { kind: 2, ..loss(8_000_000, 10) }];
        assert_eq!(taken(&ring), (expected.to_vec(), 0));
        ring.flush();
        ring.flush();
        assert_eq!(taken(&ring), (vec![loss(8_000_010, 10)], 0));
        assert_eq!(taken(&ring), (vec![], 0));
    }

    #[test]
    fn a_full_ring_keeps_what_it_has_and_counts_the_rest() {
        let ring = LossRing::new(4).unwrap();
        let at = |n: u64| Loss { count: 3, ..loss(n * 1_000_000, 20) };
        (0..7).for_each(|n| ring.record(at(n)));
        assert!(ring.is_half_full());
        ring.flush();
        assert_eq!(taken(&ring), ((0..4).map(at).collect(), 9));
        assert!(!ring.is_half_full());
        // Around the end of the slots, many times.
        for n in 7..100 {
            ring.record(at(n));
            ring.flush();
            assert_eq!(taken(&ring), (vec![at(n)], 0));
        }
    }

    #[test]
    fn large_figures_survive() {
        let ring = LossRing::new(1).unwrap();
        let long = Loss {
            kind: 255,
            count: (1 << 56) - 1,
            begin_ns: u64::MAX - 5,
            length_ns: 5,
            lost_ns: u64::MAX,
            kernel_ns: u64::MAX - 1,
        };
        ring.record(long);
        ring.flush();
        assert_eq!(taken(&ring), (vec![long], 0));
    }
}
