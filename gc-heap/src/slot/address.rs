//! Where objects are between two safepoints.

use crate::inner::mutator::Mutator;
use crate::object::Trace;
use crate::slot::{AnyGc, Gc};
use gc_core::word::GoodWord;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// Which object something is, until the next safepoint: two addresses are equal exactly when their
/// objects are.
///
/// It costs no word an object, as an [identity hash](Gc::identity_hash) does, because it ends where
/// objects may move: it borrows the mutator like the reference that it is of. So a table of
/// addresses is made, used and forgotten between two safepoints:
///
/// ```
/// use gc_heap::{Address, Gc, Heap, Slot, Trace};
/// use std::collections::HashMap;
///
/// #[derive(Trace)]
/// struct Pair { left: Slot<Option<Pair>>, right: Slot<Option<Pair>> }
///
/// /// How many pairs are reached, each counted once, in a graph of any shape.
/// fn pairs<'g>(m: &'g gc_heap::Mutator<'_>, from: Gc<'g, Pair>) -> usize {
///     let mut seen: HashMap<Address<'g>, Gc<'g, Pair>> = HashMap::new();
///     let mut open = vec![from];
///     while let Some(pair) = open.pop() {
///         if seen.insert(pair.address(), pair).is_none() {
///             open.extend(pair.left.get(m).into_iter().chain(pair.right.get(m)));
///         }
///     }
///     seen.len()
/// }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let first = m.alloc::<Pair>(|_| PairInit { left: None, right: None })?;
///     let second = m.alloc::<Pair>(|m| PairInit { left: Some(first.get(m)), right: Some(first.get(m)) })?;
///     first.get(m).left.set(m, Some(second.get(m))); // a ring
///     assert_eq!(pairs(m, second.get(m)), 2);
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The order is one of addresses: it says nothing of age, and is another after the next safepoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address<'g> {
    /// A good reference: an object has one, between two safepoints.
    word: GoodWord,
    /// Neither `Send` nor `Sync`, as [`Gc`].
    _borrows: PhantomData<(&'g Mutator<'static>, *const ())>,
}

impl<'g, T: Trace> Gc<'g, T> {
    /// Which object this is, to compare with others and to look up: good until the next safepoint.
    #[inline(always)]
    #[must_use]
    pub fn address(self) -> Address<'g> {
        Address { word: self.word(), _borrows: PhantomData }
    }
}

impl<'g> AnyGc<'g> {
    /// Which object this is, to compare with others and to look up: good until the next safepoint.
    #[inline(always)]
    #[must_use]
    pub fn address(self) -> Address<'g> {
        Address { word: self.word(), _borrows: PhantomData }
    }
}

impl Hash for Address<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Objects lie at multiples of 8: the bits that differ come first.
        state.write_u64(self.word.bits() >> 3);
    }
}

impl fmt::Debug for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({:#x})", self.word.bits())
    }
}
