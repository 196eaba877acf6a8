//! The mark bitmap: one bit per 8-byte granule of the heap, set at the start of each live object.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::units::Granule;
use crate::zeroed::{NoMemory, zeroed};
use std::ops::Range;

/// Mark bits of a whole heap, in memory of its own.
///
/// All accesses are relaxed: markers order their accesses by handing work over, and every other
/// reader runs after a pause or a handshake.
#[derive(Debug)]
pub struct MarkBitmap {
    words: Box<[AtomicU64]>,
}

impl MarkBitmap {
    /// A clear bitmap for `granules` granules.
    ///
    /// # Errors
    /// The program's allocator refuses the memory.
    pub fn new(granules: usize) -> Result<MarkBitmap, NoMemory> {
        Ok(MarkBitmap { words: zeroed(granules.div_ceil(64))? })
    }

    #[inline(always)]
    fn word(&self, granule: Granule) -> (&AtomicU64, u64) {
        let number = granule.number();
        (&self.words[number / 64], 1 << (number % 64))
    }

    /// Whether the granule's bit is set.
    #[inline]
    #[must_use]
    pub fn get(&self, granule: Granule) -> bool {
        let (word, bit) = self.word(granule);
        word.load(Ordering::Relaxed) & bit != 0
    }

    /// Sets the bit; true if this call set it. Any number of threads may set bits at once.
    #[inline]
    pub fn set(&self, granule: Granule) -> bool {
        let (word, bit) = self.word(granule);
        // Load first: most references lead to objects that are marked already, and a locked
        // operation costs 18 cycles even then.
        word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Sets the bit without a locked operation; true if it was clear. No other thread may set bits
    /// of this word meanwhile.
    #[inline(always)]
    pub fn set_alone(&self, granule: Granule) -> bool {
        let (word, bit) = self.word(granule);
        let old = word.load(Ordering::Relaxed);
        if old & bit != 0 {
            return false;
        }
        word.store(old | bit, Ordering::Relaxed);
        true
    }

    /// The last set bit before granule `before`, from granule `first` on, which begins a word of
    /// the bitmap.
    #[must_use]
    pub fn last_before(&self, before: Granule, first: Granule) -> Option<Granule> {
        let (before, first) = (before.number(), first.number());
        debug_assert!(first.is_multiple_of(64));
        let mut index = before / 64;
        let mut bits = if before.is_multiple_of(64) { 0 } else { self.load(index) & ((1 << (before % 64)) - 1) };
        loop {
            if bits != 0 {
                return Some(Granule::new(index * 64 + 63 - bits.leading_zeros() as usize));
            }
            if index <= first / 64 {
                return None;
            }
            index -= 1;
            bits = self.load(index);
        }
    }

    /// The address of the word that holds a granule's bit, to prefetch it.
    #[inline(always)]
    #[must_use]
    pub fn word_address(&self, granule: Granule) -> *const u8 {
        self.words.as_ptr().wrapping_add(granule.number() / 64).cast()
    }

    /// The 64 bits beginning at granule `64 * index`.
    #[inline]
    #[must_use]
    pub fn load(&self, index: usize) -> u64 {
        self.words[index].load(Ordering::Relaxed)
    }

    /// Visits the granules whose bits are set in some words, in ascending order.
    #[inline(always)]
    pub fn each_set(&self, words: Range<usize>, mut visit: impl FnMut(Granule)) {
        for index in words {
            let mut bits = self.load(index);
            while bits != 0 {
                visit(Granule::new(index * 64 + bits.trailing_zeros() as usize));
                bits &= bits - 1;
            }
        }
    }

    /// Sets (`u64::MAX`) or clears (0) whole words.
    pub fn store_words(&self, words: Range<usize>, value: u64) {
        for word in &self.words[words] {
            word.store(value, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_set_once() {
        let map = MarkBitmap::new(1000).unwrap();
        let [before, first, second, after] = [776, 777, 778, 779].map(Granule::new);
        assert!(map.set(first) && !map.set(first) && map.get(first));
        assert!(map.set_alone(second) && !map.set_alone(second) && !map.set(second));
        assert!(!map.get(before) && !map.get(after));
    }

    #[test]
    fn the_last_bit_before_another_is_found() {
        let map = MarkBitmap::new(1024).unwrap();
        for granule in [128, 191, 192, 700] {
            map.set(Granule::new(granule));
        }
        let last_from = |before, first| map.last_before(Granule::new(before), Granule::new(first));
        let last = |before| last_from(before, 128).map(Granule::number);
        assert_eq!(
            [128, 129, 192, 193, 256, 700, 701].map(last),
            [None, Some(128), Some(191), Some(192), Some(192), Some(192), Some(700)]
        );
        assert_eq!(last_from(500, 256), None);
    }

    #[test]
    fn words_are_filled_and_cleared_whole() {
        let map = MarkBitmap::new(256).unwrap();
        map.store_words(1..3, u64::MAX);
        let get = |number| map.get(Granule::new(number));
        assert!(!get(63) && get(64) && get(191) && !get(192));
        let mut set = Vec::new();
        map.each_set(0..4, |granule| set.push(granule.number()));
        assert_eq!(set, (64..192).collect::<Vec<_>>());
        map.store_words(1..3, 0);
        assert!((0..256).all(|number| !get(number)));
    }
}
