//! The first word of every object.
//!
//! | bits   | meaning                                                                            |
//! |--------|------------------------------------------------------------------------------------|
//! | 0..3   | kept for flags: pins and identity hashes                                           |
//! | 4..47  | address of the [`Kind`], which is aligned to 64 bytes                              |
//! | 48..63 | size in 8-byte granules; 0 above 32 KiB, the size then follows from kind and length |

use super::kind::Kind;

/// Largest size that a header says: that of the largest object which is not large, so that no
/// header changes where a large object grows.
pub(crate) const MAX_HEADER_BYTES: usize = 32 << 10;
const _: () = assert!(MAX_HEADER_BYTES / 8 <= 0xffff);

const SIZE_SHIFT: u32 = 48;

/// A header holds the addresses of kinds that lie below. Kinds are `static`s;
/// [`HeapBuilder::build`] tests where the program and its libraries are loaded, so that no
/// allocation has to.
///
/// [`HeapBuilder::build`]: crate::HeapBuilder::build
pub(crate) const KINDS_END: usize = 1 << SIZE_SHIFT;

const KIND_MASK: u64 = ((1 << SIZE_SHIFT) - 1) & !0xf;

/// A header word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Header(pub(crate) u64);

impl Header {
    /// Size in bytes if the header holds it: for objects up to [`MAX_HEADER_BYTES`].
    #[inline]
    pub(crate) const fn bytes(self) -> Option<usize> {
        match self.0 >> SIZE_SHIFT {
            0 => None,
            granules => Some(granules as usize * 8),
        }
    }

    /// The object's kind.
    ///
    /// # Safety
    ///
    /// The word is an object's header, made by [`header_for`].
    #[inline(always)]
    pub(crate) unsafe fn kind(self) -> &'static Kind {
        debug_assert!(self.0 & KIND_MASK != 0, "no object's header: {:#x}", self.0);
        let address = (self.0 & KIND_MASK) as usize;
        // SAFETY: by the contract the bits are the address of a `&'static Kind`, whose provenance
        // `header_for` exposed.
        unsafe { &*core::ptr::with_exposed_provenance::<Kind>(address) }
    }
}

/// The header of an object of `bytes` bytes, a multiple of 8, without flags.
#[inline(always)]
pub(crate) fn header_for(kind: &'static Kind, bytes: usize) -> u64 {
    let address = core::ptr::from_ref(kind).expose_provenance() as u64;
    debug_assert!(address & !KIND_MASK == 0 && bytes.is_multiple_of(8), "a kind at {address:#x}");
    // Larger ones become 0. A caller with a constant size pays one `or`.
    let granules = if bytes > MAX_HEADER_BYTES { 0 } else { (bytes / 8) as u64 };
    address | granules << SIZE_SHIFT
}

/// Bytes of the object with this header. `read_length` reads the length word; it is called only
/// when the size does not fit the header, which happens only to objects with a tail.
///
/// # Safety
///
/// As [`Header::kind`].
#[inline]
pub(crate) unsafe fn object_bytes(header: u64, read_length: impl FnOnce() -> u64) -> usize {
    match Header(header).bytes() {
        Some(bytes) => bytes,
        None => {
            // SAFETY: the caller's.
            let kind = unsafe { Header(header).kind() };
            kind.size_of(read_length())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Trace;
    use crate::slot::Tagged;
    use crate::slot::{Array, Bytes, SlotArray};

    fn no_length() -> u64 {
        panic!("the header says the size")
    }

    #[test]
    fn header_says_kind_and_size() {
        for (kind, bytes) in [(Bytes::KIND, 16), (Bytes::KIND, MAX_HEADER_BYTES), (<Array<f64>>::KIND, 4096)] {
            let header = header_for(kind, bytes);
            // SAFETY: made by `header_for`.
            unsafe {
                assert!(core::ptr::eq(Header(header).kind(), kind));
                assert_eq!(object_bytes(header, no_length), bytes);
            }
        }
    }

    #[test]
    fn size_above_the_header_comes_from_the_length() {
        for elements in [4094, 4095, 8190, 65535, 1 << 20] {
            let kind = <SlotArray<Tagged>>::KIND;
            let bytes = kind.size_of(elements);
            let header = header_for(kind, bytes);
            assert_eq!(Header(header).bytes().is_some(), bytes <= MAX_HEADER_BYTES);
            // SAFETY: made by `header_for`.
            assert_eq!(unsafe { object_bytes(header, || elements) }, 16 + elements as usize * 8);
        }
    }
}
