//! Slots: the fields of heap objects that hold references or values.

use super::gc::Gc;
use super::value::Value;
use crate::barrier::Place;
use crate::barrier::access::{self, Words};
use crate::inner::mutator::Mutator;
use crate::object::{Field, SlotKind, Trace, WordMap};
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;

/// What a slot can hold: `T` (a reference to a `T`), `Option<T>` (that or null), [`Tagged`] (any [`Value`]).
///
/// # Safety
/// `to_word` and `from_word` are inverse, and a word is a reference exactly when the loaded thing holds one. Where `COPIES` is true, what is
/// loaded is a word long and its bytes are those of `to_word`.
pub unsafe trait SlotType: 'static {
    /// The type of a loaded value.
    type Loaded<'g>: Copy;

    #[doc(hidden)]
    const SLOT_KIND: SlotKind;

    /// Whether what is loaded lies as its word does.
    #[doc(hidden)]
    const COPIES: bool = false;

    #[doc(hidden)]
    fn to_word(loaded: Self::Loaded<'_>) -> u64;

    /// # Safety
    /// The word came from `to_word` of this type, is good, and the mutator stays borrowed for `'g`.
    #[doc(hidden)]
    unsafe fn from_word<'g>(word: u64) -> Self::Loaded<'g>;
}

// SAFETY: a reference that is never null; its word is its address.
unsafe impl<T: Trace> SlotType for T {
    type Loaded<'g> = Gc<'g, T>;
    const SLOT_KIND: SlotKind = SlotKind::Strong;
    // Transparent, of an address.
    const COPIES: bool = true;

    #[inline(always)]
    fn to_word(loaded: Gc<'_, T>) -> u64 {
        loaded.word()
    }

    #[inline(always)]
    unsafe fn from_word<'g>(word: u64) -> Gc<'g, T> {
        // SAFETY: the caller's; a `Slot<T>` is never null, because it is made from a `Gc` and only a `Gc` is stored.
        unsafe { Gc::from_word(word) }
    }
}

// SAFETY: null is 0, else as above.
unsafe impl<T: Trace> SlotType for Option<T> {
    type Loaded<'g> = Option<Gc<'g, T>>;
    const SLOT_KIND: SlotKind = SlotKind::Strong;
    // `Option<NonNull<_>>`, of which the transparent `Gc` is one, is guaranteed to lie as a pointer, with null for `None`.
    const COPIES: bool = true;

    #[inline(always)]
    fn to_word(loaded: Option<Gc<'_, T>>) -> u64 {
        loaded.map_or(0, Gc::word)
    }

    #[inline(always)]
    unsafe fn from_word<'g>(word: u64) -> Option<Gc<'g, T>> {
        // SAFETY: the caller's, and not null.
        if word == 0 { None } else { Some(unsafe { Gc::from_word(word) }) }
    }
}

/// Any [`Value`]: what slots of a dynamically typed language hold.
#[derive(Clone, Copy, Debug)]
pub enum Tagged {}

// SAFETY: a value is its word.
unsafe impl SlotType for Tagged {
    type Loaded<'g> = Value<'g>;
    const SLOT_KIND: SlotKind = SlotKind::Tagged;
    // Transparent, of the word.
    const COPIES: bool = true;

    #[inline(always)]
    fn to_word(loaded: Value<'_>) -> u64 {
        loaded.word()
    }

    #[inline(always)]
    unsafe fn from_word<'g>(word: u64) -> Value<'g> {
        // SAFETY: the caller's.
        unsafe { Value::from_word(word) }
    }
}

/// What can be rooted as it stands: [`Gc`], `Option<Gc>`, [`Value`].
pub trait Rootable<'g>: Copy {
    /// The type of the slot that holds it.
    type Slot: SlotType<Loaded<'g> = Self>;
}

impl<'g, T: Trace> Rootable<'g> for Gc<'g, T> {
    type Slot = T;
}

impl<'g, T: Trace> Rootable<'g> for Option<Gc<'g, T>> {
    type Slot = Option<T>;
}

impl<'g> Rootable<'g> for Value<'g> {
    type Slot = Tagged;
}

impl<S: SlotType> Words for S {
    const KIND: SlotKind = S::SLOT_KIND;
}

/// A slot of a heap object. Made by the allocator alone, from the object's initialiser.
///
/// Loads and stores are atomic and ordered like release and acquire, so threads may share objects; what they do with
/// one slot at the same time is up to them.
///
/// ```
/// use gc_heap::{Heap, OutOfMemory, AllocSize, Root, Slot, Trace};
///
/// #[derive(Trace)]
/// struct Node { value: u64, next: Slot<Option<Node>> }
///
/// #[derive(Trace)]
/// struct List { first: Slot<Option<Node>> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let list = heap.enter(|m| -> Result<Root<List>, OutOfMemory> {
///     let (m, list) = m.alloc_raw::<List>(|_| ListInit { first: None })?;
///     Ok(Root::new(m, list))
/// })??;
/// let push_all = || heap.enter(|m| -> Result<(), OutOfMemory> {
///     for value in 0..1000 {
///         let m = m.reserve(AllocSize::of::<Node>())?;
///         let slot = &list.get(m).as_ref().first;
///         // `slot.set` would lose what the other thread pushed between the load and the store.
///         let mut first = slot.get(m);
///         let node = m.place(NodeInit { value, next: first });
///         while let Err(now) = slot.compare_exchange(m, first, Some(node)) {
///             node.next.set(m, now);
///             first = now;
///         }
///     }
///     Ok(())
/// });
/// std::thread::scope(|scope| {
///     let other = scope.spawn(push_all);
///     push_all()??;
///     other.join().unwrap()??;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// let sum = heap.enter(|m| {
///     let (mut sum, mut node) = (0, list.get(m).first.get(m));
///     while let Some(n) = node {
///         (sum, node) = (sum + n.value, n.next.get(m));
///     }
///     sum
/// })?;
/// assert_eq!(sum, 2 * 499_500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(transparent)]
pub struct Slot<S> {
    word: AtomicU64,
    /// Not `Sync`: a reference to an object must not reach a thread that is in another heap.
    _holds: PhantomData<*mut S>,
}

impl<S: SlotType> Slot<S> {
    /// Loads the slot's value. Never blocks.
    #[inline(always)]
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> S::Loaded<'g> {
        let word = access::load::<S>(&self.word, Place::Field, m);
        // SAFETY: the word was stored by `to_word` of this type and is good now, and `m` is borrowed for 'g.
        unsafe { S::from_word(word) }
    }

    /// Stores a value. Never blocks.
    #[inline(always)]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, value: S::Loaded<'g>) {
        access::store::<S>(&self.word, Place::Field, S::to_word(value), m);
    }

    /// Stores a value and returns the old one.
    #[inline]
    pub fn swap<'g>(&self, m: &'g Mutator<'_>, value: S::Loaded<'g>) -> S::Loaded<'g> {
        let word = access::swap::<S>(&self.word, Place::Field, S::to_word(value), m);
        // SAFETY: as in `get`.
        unsafe { S::from_word(word) }
    }

    /// Stores `new` if the slot holds `current` (the same object, the same immediate); otherwise
    /// returns the slot's value.
    #[inline]
    pub fn compare_exchange<'g>(
        &self,
        m: &'g Mutator<'_>,
        current: S::Loaded<'g>,
        new: S::Loaded<'g>,
    ) -> Result<S::Loaded<'g>, S::Loaded<'g>> {
        let (expected, new) = (S::to_word(current), S::to_word(new));
        match access::compare_exchange::<S>(&self.word, Place::Field, expected, new, m) {
            Ok(_) => Ok(current),
            // SAFETY: as in `get`.
            Err(word) => Err(unsafe { S::from_word(word) }),
        }
    }
}

// SAFETY: one word, a slot of the sort the type says; `write` initialises it whole. It needs no drop, is aligned to 8 and
// atomic.
unsafe impl<S: SlotType> Field for Slot<S> {
    type Init<'g> = S::Loaded<'g>;
    const MAP: WordMap = WordMap::slot(S::SLOT_KIND);
    const COPIES: bool = S::COPIES;

    #[inline(always)]
    unsafe fn write<'g>(init: S::Loaded<'g>, dst: *mut Self) {
        // SAFETY: the caller's. A plain store: the object is not published yet, and publishing it is Release.
        unsafe { dst.cast::<u64>().write(access::initial(dst.addr(), Place::Field, S::to_word(init))) }
    }
}

impl<S> std::fmt::Debug for Slot<S> {
    /// Prints the type only: the value can be loaded with a mutator alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot<{}>", std::any::type_name::<S>())
    }
}
