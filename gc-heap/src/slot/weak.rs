//! Weak references: they do not keep their object alive, and return `None` once it has died.

use super::gc::{AnyGc, Gc};
use super::words::{AnyObject, Referent, WeakRootWord, WeakSlot};
use crate::inner::mutator::Mutator;
use crate::object::Trace;

impl<T: Referent> WeakSlot<T> {
    /// Whether there is nothing. What has died may count until the collector has cleared it;
    /// nothing is kept alive by the look.
    pub(crate) fn is_empty(&self, _m: &Mutator<'_>) -> bool {
        self.holds_nothing()
    }

    /// The object, if it is still alive. A strong reference for as long as the mutator is borrowed.
    /// Never blocks.
    #[inline]
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> Option<T::Loaded<'g>> {
        self.load(m)
    }

    /// Refers to another object, or to none.
    #[inline]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, value: Option<T::Loaded<'g>>) {
        self.store(value, m);
    }
}

/// A weak reference outside the heap: `Send`, `Sync`, can be dropped without a mutator.
///
/// ```
/// use gc_heap::{Bytes, Heap, AllocSize, Root, Weak};
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let (root, weak) = heap.enter(|m| -> Result<_, gc_heap::OutOfMemory> {
///     let m = m.reserve(AllocSize::tail::<Bytes>(4))?;
///     let text = m.place_bytes::<Bytes>((), b"text");
///     Ok((Root::<Bytes>::new(m, text), Weak::new(m, text)))
/// })??;
/// heap.collect();
/// heap.enter(|m| assert_eq!(weak.get(m).unwrap().tail(), b"text"))?;
/// drop(root);
/// heap.collect();
/// heap.enter(|m| assert!(weak.get(m).is_none()))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Weak<T> {
    /// Invariant in `T`: of two types of which one is a subtype of the other, the objects may
    /// differ.
    word: WeakRootWord<T>,
}

impl<T: Trace> Weak<T> {
    /// A weak reference to the object.
    #[must_use]
    pub fn new<'g>(m: &'g Mutator<'_>, value: Gc<'g, T>) -> Weak<T> {
        Weak { word: WeakRootWord::new(value, m) }
    }
}

impl Weak<AnyObject> {
    /// A weak reference to an object of any type.
    #[must_use]
    pub fn of_any<'g>(m: &'g Mutator<'_>, value: AnyGc<'g>) -> Weak<AnyObject> {
        Weak { word: WeakRootWord::new(value, m) }
    }
}

impl<T: Referent> Weak<T> {
    /// The object, if it is still alive. Never blocks.
    ///
    /// # Panics
    /// If the reference belongs to another heap than the mutator.
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> Option<T::Loaded<'g>> {
        self.word.load(m)
    }
}

impl<T> std::fmt::Debug for WeakSlot<T> {
    /// The type.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WeakSlot<{}>", std::any::type_name::<T>())
    }
}

impl<T> std::fmt::Debug for Weak<T> {
    /// The type: whether the object is still there is told to a mutator alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weak<{}>", std::any::type_name::<T>())
    }
}
