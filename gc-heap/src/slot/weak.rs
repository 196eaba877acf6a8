//! Weak references: they do not keep their object alive, and return `None` once it has died.

use super::any_object::{AnyObject, Referent};
use super::gc::{AnyGc, Gc};
use crate::barrier::{Place, access};
use crate::inner::mutator::Mutator;
use crate::object::{Field, SlotKind, Trace, WordMap};
use crate::roots::table::RootCell;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;

/// A weak reference in a heap object. Made from an `Option<Gc<'g, T>>`, or for [`AnyObject`] from an `Option<AnyGc<'g>>`.
///
/// ```
/// use gc_heap::{Heap, AllocSize, Slot, Trace, WeakSlot};
///
/// /// Keeps its children; they know it, and do not keep it.
/// #[derive(Trace)]
/// struct Widget { parent: WeakSlot<Widget>, child: Slot<Option<Widget>> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let window = m.build::<Option<Widget>>(AllocSize::of::<Widget>().times(2), |m| {
///         let window = m.place(WidgetInit { parent: None, child: None });
///         window.child.set(m, Some(m.place(WidgetInit { parent: Some(window), child: None })));
///         Some(window)
///     })?;
///     let button = m.local(window.get(m).and_then(|window| window.child.get(m)).unwrap());
///     m.collect();
///     assert!(button.get(m).parent.get(m).is_some());
///     window.set(m, None);
///     m.collect();
///     assert!(button.get(m).parent.get(m).is_none());
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(transparent)]
pub struct WeakSlot<T> {
    word: AtomicU64,
    _holds: PhantomData<*mut T>,
}

impl<T: Referent> WeakSlot<T> {
    /// Whether there is nothing. What has died may count until the collector has cleared it;
    /// nothing is kept alive by the look.
    pub(crate) fn is_empty(&self, _m: &Mutator<'_>) -> bool {
        access::load_plain(&self.word, Place::WeakField) == 0
    }

    /// The object, if it is still alive. A strong reference for as long as the mutator is borrowed.
    /// Never blocks.
    #[inline]
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> Option<T::Loaded<'g>> {
        let word = access::load_weak(&self.word, Place::WeakField, m);
        // SAFETY: `load` gives 0 or a good reference to what was stored, a `T`; `m` is borrowed for 'g.
        (word != 0).then(|| unsafe { T::from_word(word) })
    }

    /// Refers to another object, or to none.
    #[inline]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, value: Option<T::Loaded<'g>>) {
        access::store_weak(&self.word, Place::WeakField, value.map_or(0, T::to_word), m);
    }
}

// SAFETY: one word, a weak slot; `write` initialises it whole.
unsafe impl<T: Referent> Field for WeakSlot<T> {
    type Init<'g> = Option<T::Loaded<'g>>;
    const MAP: WordMap = WordMap::slot(SlotKind::Weak);

    #[inline(always)]
    unsafe fn write<'g>(init: Option<T::Loaded<'g>>, dst: *mut Self) {
        // SAFETY: the caller's; published by a later Release.
        unsafe { dst.cast::<u64>().write(access::initial(dst.addr(), Place::WeakField, init.map_or(0, T::to_word))) }
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
    cell: RootCell,
    /// Invariant: of two types of which one is a subtype of the other, the objects may differ.
    _holds: PhantomData<fn(T) -> T>,
}

impl<T: Trace> Weak<T> {
    /// A weak reference to the object.
    #[must_use]
    pub fn new<'g>(m: &'g Mutator<'_>, value: Gc<'g, T>) -> Weak<T> {
        Weak::of_word(m, value.word())
    }
}

impl Weak<AnyObject> {
    /// A weak reference to an object of any type.
    #[must_use]
    pub fn of_any<'g>(m: &'g Mutator<'_>, value: AnyGc<'g>) -> Weak<AnyObject> {
        Weak::of_word(m, value.word())
    }
}

impl<T: Referent> Weak<T> {
    fn of_word(m: &Mutator<'_>, word: u64) -> Weak<T> {
        let cell = access::new_root(&m.inner().roots.weak, Place::WeakRoot, word, m);
        Weak { cell, _holds: PhantomData }
    }

    /// The object, if it is still alive. Never blocks.
    ///
    /// # Panics
    /// If the reference belongs to another heap than the mutator.
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> Option<T::Loaded<'g>> {
        let slot = self.cell.slot(&m.inner().roots.weak);
        let word = access::load_weak(slot, Place::WeakRoot, m);
        // SAFETY: as in `WeakSlot::get`.
        (word != 0).then(|| unsafe { T::from_word(word) })
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
