//! Colors: the parity of the relocation in which a pointer was made, kept in its address.
//!
//! `address = base | color bit | offset`. The color bits are one-hot, so one `test` of an address
//! against the mask of bits that a good pointer never has decides whether the load barrier has work
//! to do.
//!
//! # Generations
//!
//! A heap may tell two generations apart. Then there are four color bits, one-hot as before: two
//! for the parities of the relocations of young objects, two for those of old ones. So an address
//! tells the generation of its object, and two colors are good at any time, the good young one and
//! the good old one ([`GoodColors`]). The test of a load stays one `test`, with two stale bits in
//! its mask; a flip of the young objects makes only references to young objects stale.
//!
//! A store is to be remembered if it puts a reference to a young object into an old one: if the
//! word has a young bit and the slot's own address has none, because an old object is accessed by
//! old addresses alone ([`AddressSpace::young_bits`]).

use crate::units::Offset;

/// Parity of the relocation in which a pointer was made. One of the two is *good* at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Color {
    /// Made in a relocation of even number (and before the first).
    Even = 0,
    /// Made in a relocation of odd number.
    Odd = 1,
}

impl Color {
    /// The color that becomes good at the next flip.
    #[must_use]
    pub const fn other(self) -> Color {
        match self {
            Color::Even => Color::Odd,
            Color::Odd => Color::Even,
        }
    }

    /// 0 for `Even`, 1 for `Odd`: the index of the color's view.
    #[must_use]
    pub const fn parity(self) -> usize {
        self as usize
    }

    /// The color of a parity; only the lowest bit counts.
    #[must_use]
    pub const fn from_parity(parity: usize) -> Color {
        if parity & 1 == 0 { Color::Even } else { Color::Odd }
    }
}

/// Whether an object has survived: what it is, by its address, in a heap with generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generation {
    /// Born since the last whole flip, or not promoted by it.
    Young,
    /// Promoted.
    Old,
}

/// The colors that are good between two flips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GoodColors {
    /// Of young objects; without generations of all.
    pub young: Color,
    /// Of old objects. Without generations it says nothing.
    pub old: Color,
}

/// Addresses of one heap: where its views are, and how an address splits into base, color and
/// offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    base: u64,
    span: u64,
    /// Bytes of the reservation: 4 spans, or 16 with generations.
    reach: u64,
}

/// User addresses end below this bit on x86-64 and on AArch64 with 48-bit addresses.
const ADDRESS_BITS: u32 = 47;

impl AddressSpace {
    /// The address space whose reservation begins at `base` with views of `span` bytes.
    ///
    /// # Panics
    /// If `span` is not a power of two or `base` is not aligned to four spans: the caller laid the
    /// views out wrongly.
    #[must_use]
    pub const fn new(base: u64, span: u64) -> AddressSpace {
        AddressSpace::of(base, span, 4)
    }

    /// As [`new`](AddressSpace::new), with two color bits for each of two generations.
    ///
    /// # Panics
    /// As [`new`](AddressSpace::new), with sixteen spans for four.
    #[must_use]
    pub const fn of_generations(base: u64, span: u64) -> AddressSpace {
        AddressSpace::of(base, span, 16)
    }

    const fn of(base: u64, span: u64, spans: u64) -> AddressSpace {
        assert!(span.is_power_of_two() && span >= 8, "a span is a power of two");
        let reach = spans * span;
        assert!(base & (reach - 1) == 0, "a base is aligned to its reservation");
        assert!(base >> ADDRESS_BITS == 0, "a base is a user address");
        AddressSpace { base, span, reach }
    }

    /// Whether there are color bits for two generations.
    #[inline]
    #[must_use]
    pub const fn has_generations(&self) -> bool {
        self.reach != 4 * self.span
    }

    /// Address of the canonical view, which only the collector uses.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Bytes of one view, a power of two.
    #[must_use]
    pub const fn span(&self) -> u64 {
        self.span
    }

    /// The bits that every good pointer of this color has above its offset; also the address of the
    /// color's view.
    #[inline]
    #[must_use]
    pub const fn view(&self, color: Color) -> u64 {
        self.base | (self.span << color.parity())
    }

    /// As [`view`](AddressSpace::view), of old objects.
    ///
    /// # Panics
    /// Without generations.
    #[inline]
    #[must_use]
    pub const fn old_view(&self, color: Color) -> u64 {
        assert!(self.has_generations(), "a heap without generations has no old objects");
        self.base | (self.span << (2 + color.parity()))
    }

    /// The color bits of young objects, of both parities; 0 without generations.
    #[inline]
    #[must_use]
    pub const fn young_bits(&self) -> u64 {
        if self.has_generations() { 3 * self.span } else { 0 }
    }

    /// The color bits of old objects, of both parities; 0 without generations.
    #[inline]
    #[must_use]
    pub const fn old_bits(&self) -> u64 {
        if self.has_generations() { 12 * self.span } else { 0 }
    }

    /// The bits that no good pointer has, with generations: both stale colors, and the base bits of
    /// other heaps.
    #[inline]
    #[must_use]
    pub const fn bad_mask_of(&self, good: GoodColors) -> u64 {
        if !self.has_generations() {
            return self.bad_mask(good.young);
        }
        self.above() & !self.base
            | (self.span << good.young.other().parity())
            | (self.span << (2 + good.old.other().parity()))
    }

    /// The address bits above the reservation.
    const fn above(&self) -> u64 {
        ((1 << ADDRESS_BITS) - 1) & !(self.reach - 1)
    }

    /// The generation and the color of an address of this heap: `Young` without generations. `None`
    /// for the canonical view, for foreign addresses, and for an address with no color bit or
    /// several.
    #[must_use]
    pub const fn generation(&self, address: u64) -> Option<(Generation, Color)> {
        if !self.owns(address) {
            return None;
        }
        let bits = (address & (self.reach - 1)) / self.span;
        match bits {
            1 => Some((Generation::Young, Color::Even)),
            2 => Some((Generation::Young, Color::Odd)),
            4 => Some((Generation::Old, Color::Even)),
            8 => Some((Generation::Old, Color::Odd)),
            _ => None,
        }
    }

    /// Whether an address of this heap, stale or good, is of an old object.
    #[inline]
    #[must_use]
    pub const fn is_old(&self, address: u64) -> bool {
        address & self.old_bits() != 0
    }

    /// The bits that no good pointer has: the other color, and the base bits of other heaps.
    ///
    /// A foreign reference fails the same test as a stale one as long as no heap's base bits are a
    /// subset of another's, which is how bases are chosen.
    #[inline]
    #[must_use]
    pub const fn bad_mask(&self, good: Color) -> u64 {
        (self.above() & !self.base) | (self.span << good.other().parity())
    }

    /// The offset of an address: bytes from the start of the heap.
    #[inline]
    #[must_use]
    pub const fn offset(&self, address: u64) -> Offset {
        Offset::new((address & (self.span - 1)) as usize)
    }

    /// Whether the address lies in this heap's reservation, whatever its color.
    #[inline]
    #[must_use]
    pub const fn owns(&self, address: u64) -> bool {
        address & !(self.reach - 1) == self.base
    }

    /// The color of an address of this heap; `None` for the canonical view and for foreign
    /// addresses.
    #[must_use]
    pub const fn color(&self, address: u64) -> Option<Color> {
        match self.generation(address) {
            Some((_, color)) => Some(color),
            None => None,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const A: AddressSpace = AddressSpace::new(0x10_0000_0000, 1 << 30);

    #[test]
    fn good_passes_and_the_rest_does_not() {
        for good in [Color::Even, Color::Odd] {
            let mask = A.bad_mask(good);
            assert_eq!((A.view(good) | 0x1238) & mask, 0);
            assert_ne!((A.view(good.other()) | 0x1238) & mask, 0);
        }
    }

    #[test]
    fn foreign_references_fail_the_test() {
        let foreign = AddressSpace::new(0x08_0000_0000, 1 << 30);
        for good in [Color::Even, Color::Odd] {
            for theirs in [Color::Even, Color::Odd] {
                assert_ne!((foreign.view(theirs) | 64) & A.bad_mask(good), 0);
                assert_ne!((A.view(theirs) | 64) & foreign.bad_mask(good), 0);
            }
        }
    }

    /// Of the parity of a flip of each generation.
    const ALL_GOOD: [GoodColors; 4] = [
        GoodColors { young: Color::Even, old: Color::Even },
        GoodColors { young: Color::Odd, old: Color::Even },
        GoodColors { young: Color::Even, old: Color::Odd },
        GoodColors { young: Color::Odd, old: Color::Odd },
    ];

    const G: AddressSpace = AddressSpace::of_generations(0x10_0000_0000, 1 << 30);

    #[test]
    fn with_generations_two_colors_are_good() {
        for good in ALL_GOOD {
            let mask = G.bad_mask_of(good);
            let colors = [
                (G.view(good.young), G.view(good.young.other())),
                (G.old_view(good.old), G.old_view(good.old.other())),
            ];
            for (good, stale) in colors {
                assert_eq!((good | 0x1238) & mask, 0);
                assert_ne!((stale | 0x1238) & mask, 0);
            }
            let foreign =
                [AddressSpace::new(0x28_0000_0000, 1 << 30), AddressSpace::of_generations(0x28_0000_0000, 1 << 30)];
            for view in foreign.iter().flat_map(|other| [other.view(Color::Even), other.view(Color::Odd)]) {
                assert_ne!((view | 64) & mask, 0);
            }
            assert_eq!(A.bad_mask_of(good), A.bad_mask(good.young));
        }
    }

    /// One `andn` and a test: the word has a young bit, and the slot's address has none.
    #[test]
    fn a_store_of_a_young_reference_into_an_old_object_shows_in_the_addresses() {
        let colors = [Color::Even, Color::Odd];
        let views =
            colors.map(|color| (G.view(color), true)).into_iter().chain(colors.map(|color| (G.old_view(color), false)));
        let views: Vec<_> = views.collect();
        for &(slot, slot_is_young) in &views {
            for &(word, word_is_young) in &views {
                let good = GoodColors { young: G.color(word).unwrap(), old: Color::Even };
                let young_good_bit = G.view(good.young) & G.young_bits();
                let remembered = word & !slot & young_good_bit != 0;
                // A slot is accessed by a good address: of the young ones that of the word's
                // parity.
                if !slot_is_young || !word_is_young || G.color(slot) == G.color(word) {
                    assert_eq!(remembered, word_is_young && !slot_is_young, "{word:#x} into {slot:#x}");
                }
                assert_eq!(
                    (G.is_old(word), G.generation(word).unwrap().0 == Generation::Old),
                    (!word_is_young, !word_is_young)
                );
            }
        }
        assert_eq!(
            (A.young_bits(), A.is_old(A.view(Color::Odd) | 64)),
            (0, false),
            "without generations nothing is remembered"
        );
        for none in [G.base(), G.base() | 3 << 30, G.base() | 5 << 30, 0x28_0000_0000] {
            assert_eq!(G.generation(none), None);
        }
    }

    #[test]
    fn an_address_splits_and_joins() {
        let address = A.view(Color::Odd) | 0xabc8;
        assert_eq!(A.offset(address), Offset::new(0xabc8));
        assert_eq!(A.color(address), Some(Color::Odd));
        assert_eq!(A.color(A.base() | 8), None);
        assert!(A.owns(address) && !A.owns(address << 1));
    }
}
