//! Colors: the parity of the relocation in which a pointer was made, kept in its address.
//!
//! `address = base | color bit | offset`. The color bits are one-hot, so one `test` of an address
//! against the mask of bits that a good pointer never has decides whether the load barrier has work
//! to do.

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

/// Addresses of one heap: where its views are, and how an address splits into base, color and
/// offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    base: u64,
    span: u64,
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
        assert!(span.is_power_of_two() && span >= 8, "a span is a power of two");
        assert!(base & (4 * span - 1) == 0, "a base is aligned to four spans");
        assert!(base >> ADDRESS_BITS == 0, "a base is a user address");
        AddressSpace { base, span }
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

    /// The bits that no good pointer has: the other color, and the base bits of other heaps.
    ///
    /// A foreign reference fails the same test as a stale one as long as no heap's base bits are a
    /// subset of another's, which is how bases are chosen.
    #[inline]
    #[must_use]
    pub const fn bad_mask(&self, good: Color) -> u64 {
        let address_bits = (1 << ADDRESS_BITS) - 1;
        let above = address_bits & !(4 * self.span - 1);
        (above & !self.base) | (self.span << good.other().parity())
    }

    /// The offset of an address: bytes from the start of the heap.
    #[inline]
    #[must_use]
    pub const fn offset(&self, address: u64) -> u64 {
        address & (self.span - 1)
    }

    /// Whether the address lies in this heap's reservation, whatever its color.
    #[inline]
    #[must_use]
    pub const fn owns(&self, address: u64) -> bool {
        address & !(4 * self.span - 1) == self.base
    }

    /// The color of an address of this heap; `None` for the canonical view and for foreign
    /// addresses.
    #[must_use]
    pub const fn color(&self, address: u64) -> Option<Color> {
        if !self.owns(address) {
            return None;
        }
        let bits = address & (3 * self.span);
        if bits == self.span {
            Some(Color::Even)
        } else if bits == 2 * self.span {
            Some(Color::Odd)
        } else {
            None
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

    #[test]
    fn an_address_splits_and_joins() {
        let address = A.view(Color::Odd) | 0xabc8;
        assert_eq!(A.offset(address), 0xabc8);
        assert_eq!(A.color(address), Some(Color::Odd));
        assert_eq!(A.color(A.base() | 8), None);
        assert!(A.owns(address) && !A.owns(address << 1));
    }
}
