//! Words as what they stand for: the types of slots, and slots, weak slots, ephemerons and roots by
//! their types.
//!
//! A word that lies in memory is a number. It becomes a reference again here alone, because each
//! type below keeps this invariant: its word is one that [`SlotType::to_word`] of its type gave (or
//! 0, where it says so), and only its methods store to it. The barrier makes it good when it is
//! loaded, and it stays good as long as the mutator is borrowed.

use super::gc::{AnyGc, Gc, HeldWord};
use super::value::Value;
use crate::barrier::Place;
use crate::barrier::access::{self, Pair, Words};
use crate::inner::mutator::Mutator;
use crate::object::{Field, FieldName, SlotKind, Trace, WordMap};
use crate::roots::table::{RootCell, RootTable};
use gc_core::word::GoodWord;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a slot can hold: `T` (a reference to a `T`), `Option<T>` (that or null), [`Tagged`] (any
/// [`Value`]).
///
/// # Safety
/// `to_word` and `from_word` are inverse, and a word is a reference exactly when the loaded thing
/// holds one. Where `COPIES` is true, what is loaded is a word long and its bytes are those of
/// `to_word`.
pub unsafe trait SlotType: 'static {
    /// The type of a loaded value.
    type Loaded<'g>: Copy;

    #[doc(hidden)]
    const SLOT_KIND: SlotKind;

    /// Whether what is loaded lies as its word does.
    #[doc(hidden)]
    const COPIES: bool = false;

    #[doc(hidden)]
    fn to_word(loaded: Self::Loaded<'_>) -> GoodWord;

    /// # Safety
    /// The word came from `to_word` of this type, is good, and the mutator stays borrowed for `'g`.
    #[doc(hidden)]
    unsafe fn from_word<'g>(word: GoodWord) -> Self::Loaded<'g>;
}

/// Any [`Value`]: what slots of a dynamically typed language hold.
#[derive(Clone, Copy, Debug)]
pub enum Tagged {}

/// The slot type of [`AnyGc`]: an object of any type, and no immediate (that is
/// [`Tagged`](crate::Tagged)).
///
/// ```
/// use gc_heap::{AnyObject, Bytes, Heap, AllocSize, Trace, WeakSlot};
///
/// #[derive(Trace)]
/// struct Point { x: f64, y: f64 }
///
/// /// A weak box, as languages have it: whatever is put in.
/// #[derive(Trace)]
/// struct WeakBox { content: WeakSlot<AnyObject> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let weak_box = m.alloc::<WeakBox>(|_| WeakBoxInit { content: None })?;
///     {
///         let m = &mut *m.frame();
///         let point = m.alloc::<Point>(|_| PointInit { x: 1.0, y: 2.0 })?;
///         weak_box.get(m).content.set(m, Some(point.get(m).any()));
///         m.collect();
///         let found = weak_box.get(m).content.get(m).expect("it is held");
///         assert_eq!(found.downcast::<Point>().map(|point| point.y), Some(2.0));
///         assert!(found.downcast::<Bytes>().is_none());
///     }
///     m.collect();
///     assert!(weak_box.get(m).content.get(m).is_none());
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum AnyObject {}

/// What weak references, keys of ephemerons and finalizer queues are about: the objects of a type
/// that derives [`Trace`], or those of all types, [`AnyObject`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a type of objects",
    label = "not a type of objects",
    note = "name a type that derives `Trace`, or `AnyObject` for objects of any type; an immediate (a number, nil) cannot die"
)]
pub trait Referent: SlotType {}

impl<T: Trace> Referent for T {}

impl Referent for AnyObject {}

macro_rules! slot_types {
    ($($(#[$note:meta])* [$($generics:tt)*] $slot:ty, $loaded:ty, $kind:ident, $copies:expr, $to:expr, $from:expr;)*) => {$(
        $(#[$note])*
        // SAFETY: a word of `$to` is 0 for null, else the address of the object, or the value's;
        // and `$from` is the inverse. A type that is never null is made from one that is not.
        unsafe impl<$($generics)*> SlotType for $slot {
            type Loaded<'g> = $loaded;
            const SLOT_KIND: SlotKind = SlotKind::$kind;
            const COPIES: bool = $copies;

            #[inline(always)]
            fn to_word(loaded: Self::Loaded<'_>) -> GoodWord {
                $to(loaded)
            }

            #[inline(always)]
            unsafe fn from_word<'g>(word: GoodWord) -> Self::Loaded<'g> {
                // SAFETY: the caller's.
                unsafe { $from(word) }
            }
        }
    )*};
}

/// # Safety
/// As [`Gc::from_word`], or 0.
#[inline(always)]
unsafe fn gc_or_null<'g, T: Trace>(word: GoodWord) -> Option<Gc<'g, T>> {
    // SAFETY: the caller's, and not null.
    if word.is_null() { None } else { Some(unsafe { Gc::from_word(word) }) }
}

/// # Safety
/// As [`AnyGc::from_word`], or 0.
#[inline(always)]
unsafe fn any_or_null<'g>(word: GoodWord) -> Option<AnyGc<'g>> {
    // SAFETY: the caller's, and not null.
    if word.is_null() { None } else { Some(unsafe { AnyGc::from_word(word) }) }
}

slot_types! {
    // `Gc` and `Value` are transparent. `Option<NonNull<_>>`, of which `Gc` is one, is guaranteed
    // to lie as a pointer, with null for `None`.
    [T: Trace] T, Gc<'g, T>, Strong, true, Gc::word, Gc::from_word;
    [T: Trace] Option<T>, Option<Gc<'g, T>>, Strong, true, |gc: Option<Gc<'_, T>>| gc.map_or(GoodWord::NULL, Gc::word), gc_or_null;
    [] Tagged, Value<'g>, Tagged, true, Value::word, |word| Value::of(HeldWord::new(word));
    [] AnyObject, AnyGc<'g>, Strong, false, AnyGc::word, AnyGc::from_word;
    [] Option<AnyObject>, Option<AnyGc<'g>>, Strong, false, |gc: Option<AnyGc<'_>>| gc.map_or(GoodWord::NULL, AnyGc::word), any_or_null;
}

impl<S: SlotType> Words for S {
    const KIND: SlotKind = S::SLOT_KIND;
}

/// A slot of a heap object. Made by the allocator alone, from the object's initialiser.
///
/// Loads and stores are atomic and ordered like release and acquire, so threads may share objects;
/// what they do with one slot at the same time is up to them.
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
    /// # Safety
    /// The module's invariant holds for the word.
    #[inline(always)]
    pub(crate) unsafe fn of(word: &AtomicU64) -> &Slot<S> {
        // SAFETY: transparent.
        unsafe { &*std::ptr::from_ref(word).cast() }
    }

    /// The word, for the barrier.
    #[inline(always)]
    pub(crate) fn raw(&self) -> &AtomicU64 {
        &self.word
    }

    #[inline(always)]
    pub(crate) fn load_at<'g>(&self, at: Place, m: &'g Mutator<'_>) -> S::Loaded<'g> {
        // SAFETY: the module's invariant.
        unsafe { S::from_word(access::load::<S>(&self.word, at, m)) }
    }

    /// Of a slot that no thread but the caller stores to. `if_good` is called if it needs no
    /// healing.
    #[inline(always)]
    pub(crate) fn load_own_at<'g>(&self, at: Place, m: &'g Mutator<'_>, if_good: impl FnOnce()) -> S::Loaded<'g> {
        // SAFETY: the module's invariant.
        unsafe { S::from_word(access::load_own::<S>(&self.word, at, m, if_good)) }
    }

    #[inline(always)]
    pub(crate) fn store_at(&self, at: Place, value: S::Loaded<'_>, m: &Mutator<'_>) {
        access::store::<S>(&self.word, at, S::to_word(value), m);
    }

    #[inline(always)]
    pub(crate) fn swap_at<'g>(&self, at: Place, value: S::Loaded<'g>, m: &'g Mutator<'_>) -> S::Loaded<'g> {
        // SAFETY: the module's invariant.
        unsafe { S::from_word(access::swap::<S>(&self.word, at, S::to_word(value), m)) }
    }

    #[inline(always)]
    pub(crate) fn compare_exchange_at<'g>(
        &self,
        at: Place,
        current: S::Loaded<'g>,
        new: S::Loaded<'g>,
        m: &'g Mutator<'_>,
    ) -> Result<S::Loaded<'g>, S::Loaded<'g>> {
        match access::compare_exchange::<S>(&self.word, at, S::to_word(current), S::to_word(new), m) {
            Ok(_) => Ok(current),
            // SAFETY: the module's invariant.
            Err(word) => Err(unsafe { S::from_word(word) }),
        }
    }
}

// SAFETY: one word, a slot of the sort the type says; `write` initialises it whole. It needs no
// drop, is aligned to 8 and atomic.
unsafe impl<S: SlotType> Field for Slot<S> {
    type Init<'g> = S::Loaded<'g>;
    const MAP: WordMap = WordMap::slot(S::SLOT_KIND);
    const COPIES: bool = S::COPIES;

    #[inline(always)]
    unsafe fn write<'g>(init: S::Loaded<'g>, dst: *mut Self) {
        // SAFETY: the caller's. A plain store: the object is not published yet, and publishing it
        // is Release.
        unsafe { dst.cast::<u64>().write(access::initial(dst.addr(), Place::Field, S::to_word(init))) }
    }
}

/// A weak reference in a heap object. Made from an `Option<Gc<'g, T>>`, or for [`AnyObject`] from
/// an `Option<AnyGc<'g>>`.
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
    pub(super) fn holds_nothing(&self) -> bool {
        access::load_plain(&self.word, Place::WeakField).is_null()
    }

    #[inline(always)]
    pub(super) fn load<'g>(&self, m: &'g Mutator<'_>) -> Option<T::Loaded<'g>> {
        let word = access::load_weak(&self.word, Place::WeakField, m);
        // SAFETY: the module's invariant, and not 0.
        (!word.is_null()).then(|| unsafe { T::from_word(word) })
    }

    #[inline(always)]
    pub(super) fn store(&self, value: Option<T::Loaded<'_>>, m: &Mutator<'_>) {
        access::store_weak(&self.word, Place::WeakField, value.map_or(GoodWord::NULL, T::to_word), m);
    }
}

// SAFETY: one word, a weak slot; `write` initialises it whole.
unsafe impl<T: Referent> Field for WeakSlot<T> {
    type Init<'g> = Option<T::Loaded<'g>>;
    const MAP: WordMap = WordMap::slot(SlotKind::Weak);

    #[inline(always)]
    unsafe fn write<'g>(init: Option<T::Loaded<'g>>, dst: *mut Self) {
        // SAFETY: the caller's; published by a later Release.
        unsafe {
            dst.cast::<u64>().write(access::initial(
                dst.addr(),
                Place::WeakField,
                init.map_or(GoodWord::NULL, T::to_word),
            ))
        }
    }
}

/// A pair of a key and a value in a heap object. Made from an `Option<(Gc<'g, K>, S::Loaded<'g>)>`,
/// with an `AnyGc<'g>` where `K` is [`AnyObject`](crate::AnyObject).
///
/// The pair keeps nothing alive by itself. As long as the key is reachable by another way, so is
/// the value (if the object that holds the pair is); when the key dies the pair becomes empty. A
/// value that refers to its own key does not keep the pair, and chains and rings of pairs are
/// exact. [`WeakMap`](crate::WeakMap) is a table of them.
///
/// One thread at a time changes a pair; others may read it meanwhile, and may then see the new
/// value with the old key. A program that wants more brings its own lock, as `WeakMap` does. No
/// access ever blocks.
///
/// ```
/// use gc_heap::{Ephemeron, Heap, AllocSize, Slot, Trace};
///
/// #[derive(Trace)]
/// struct Object { id: u64 }
///
/// /// What somebody else wants to remember of an object, gone with it.
/// #[derive(Trace)]
/// struct Note { about: Ephemeron<Object, Object> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let key = m.build::<Option<Object>>(AllocSize::of::<Object>(), |m| Some(m.place(ObjectInit { id: 1 })))?;
///     let note = m.build::<Note>(AllocSize::of::<Object>() + AllocSize::of::<Note>(), |m| {
///         let value = m.place(ObjectInit { id: 2 });
///         m.place(NoteInit { about: key.get(m).map(|key| (key, value)) })
///     })?;
///     m.collect();
///     assert_eq!(note.get(m).about.value_of(m, key.get(m).unwrap()).map(|value| value.id), Some(2));
///     key.set(m, None);
///     m.collect();
///     assert!(note.get(m).about.get(m).is_none());
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Protocol
///
/// The key's word alone says whether there is a pair; if it is 0, the value's word is undefined and
/// no thread reads it. A thread that stores a pair first empties it, then writes the value, and
/// then the key; the collector clears the key of a dead pair by compare-and-swap and does not
/// change the value. See "Ephemerons" in `docs/protocol.md`.
#[repr(C)]
pub struct Ephemeron<K, S> {
    key: AtomicU64,
    value: AtomicU64,
    _holds: PhantomData<*mut (K, S)>,
}

impl<K: Referent, S: SlotType> Ephemeron<K, S> {
    #[inline(always)]
    pub(super) fn pair(&self) -> Pair<'_> {
        Pair { key: &self.key, value: &self.value }
    }

    #[inline(always)]
    pub(super) fn load_pair<'g>(&self, m: &'g Mutator<'_>) -> Option<(K::Loaded<'g>, S::Loaded<'g>)> {
        let (key, value) = self.pair().load::<S>(m)?;
        // SAFETY: the module's invariant; a key was seen. That the value's object lives follows
        // from the protocol: its key does.
        Some(unsafe { (K::from_word(key), S::from_word(value)) })
    }

    #[inline(always)]
    pub(super) fn load_value<'g>(&self, key: K::Loaded<'g>, m: &'g Mutator<'_>) -> Option<S::Loaded<'g>> {
        let value = self.pair().value_of::<S>(K::to_word(key), m)?;
        // SAFETY: as in `load_pair`.
        Some(unsafe { S::from_word(value) })
    }
}

// SAFETY: two words, the key and the value of an ephemeron; `write` initialises both. No drop,
// aligned to 8, atomic.
unsafe impl<K: Referent, S: SlotType> Field for Ephemeron<K, S> {
    type Init<'g> = Option<(K::Loaded<'g>, S::Loaded<'g>)>;
    const MAP: WordMap = WordMap::pair();
    const FIELDS: &'static [FieldName] =
        &[FieldName::of::<u64>("key", 0, 8, &[]), FieldName::of::<u64>("value", 8, 8, &[])];

    #[inline(always)]
    unsafe fn write<'g>(init: Self::Init<'g>, dst: *mut Self) {
        let (key, value) =
            init.map_or((GoodWord::NULL, GoodWord::NULL), |(key, value)| (K::to_word(key), S::to_word(value)));
        let words = dst.cast::<u64>();
        // SAFETY: the caller's; published by a later Release.
        unsafe {
            words.write(access::initial(dst.addr(), Place::Key, key));
            words.add(1).write(access::initial(dst.addr() + 8, Place::EphemeronValue, value));
        }
    }
}

/// An entry of the table of roots.
pub(crate) struct RootWord<S> {
    cell: RootCell,
    _holds: PhantomData<fn(S) -> S>,
}

impl<S> Drop for RootWord<S> {
    fn drop(&mut self) {
        access::end_root(&self.cell, Place::Root);
    }
}

impl<S: SlotType> RootWord<S> {
    pub(crate) fn new(table: &Arc<RootTable>, value: S::Loaded<'_>, m: &Mutator<'_>) -> RootWord<S> {
        RootWord { cell: access::new_root(table, Place::Root, S::to_word(value), m), _holds: PhantomData }
    }

    /// # Safety
    /// The module's invariant holds for the entry's word.
    pub(crate) unsafe fn of(cell: RootCell) -> RootWord<S> {
        RootWord { cell, _holds: PhantomData }
    }

    /// # Panics
    /// If the entry belongs to another heap's table.
    #[inline(always)]
    pub(crate) fn slot(&self, table: &Arc<RootTable>) -> &Slot<S> {
        // SAFETY: made as such.
        unsafe { Slot::of(self.cell.slot(table)) }
    }
}

/// An entry of the table of weak roots.
pub(super) struct WeakRootWord<T> {
    cell: RootCell,
    _holds: PhantomData<fn(T) -> T>,
}

impl<T> Drop for WeakRootWord<T> {
    fn drop(&mut self) {
        access::end_root(&self.cell, Place::WeakRoot);
    }
}

impl<T: Referent> WeakRootWord<T> {
    pub(super) fn new(value: T::Loaded<'_>, m: &Mutator<'_>) -> WeakRootWord<T> {
        let cell = access::new_root(&m.inner().roots.weak, Place::WeakRoot, T::to_word(value), m);
        WeakRootWord { cell, _holds: PhantomData }
    }

    /// # Panics
    /// If the entry belongs to another heap.
    pub(super) fn load<'g>(&self, m: &'g Mutator<'_>) -> Option<T::Loaded<'g>> {
        let word = access::load_weak(self.cell.slot(&m.inner().roots.weak), Place::WeakRoot, m);
        // SAFETY: the module's invariant, and not 0.
        (!word.is_null()).then(|| unsafe { T::from_word(word) })
    }
}
