//! Ephemerons: a value that only its key keeps alive.

use super::SlotType;
use super::any_object::Referent;
use crate::barrier::Place;
use crate::barrier::access::{self, Pair};
use crate::inner::mutator::Mutator;
use crate::object::{Field, FieldName, WordMap};
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;

/// A pair of a key and a value in a heap object. Made from an `Option<(Gc<'g, K>, S::Loaded<'g>)>`, with an `AnyGc<'g>` where
/// `K` is [`AnyObject`](crate::AnyObject).
///
/// The pair keeps nothing alive by itself. As long as the key is reachable by another way, so is the value (if the object
/// that holds the pair is); when the key dies the pair becomes empty. A value that refers to its own key does not keep the
/// pair, and chains and rings of pairs are exact. [`WeakMap`](crate::WeakMap) is a table of them.
///
/// One thread at a time changes a pair; others may read it meanwhile, and may then see the new value with the old key. A
/// program that wants more brings its own lock, as `WeakMap` does. No access ever blocks.
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
    fn pair(&self) -> Pair<'_> {
        Pair { key: &self.key, value: &self.value }
    }

    /// The pair, if its key is still alive. Both references are strong for as long as the mutator
    /// is borrowed.
    ///
    /// While marking runs the key counts as reachable from now on: to look for a certain key, use
    /// [`value_of`](Self::value_of), which keeps no other key alive.
    #[inline]
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> Option<(K::Loaded<'g>, S::Loaded<'g>)> {
        let (key, value) = self.pair().load::<S>(m)?;
        // SAFETY: a good reference to what was stored, a `K`; `m` is borrowed for 'g. The value as in `value_of`.
        Some(unsafe { (K::from_word(key), S::from_word(value)) })
    }

    /// The value, if the pair has this key.
    #[inline]
    pub fn value_of<'g>(&self, m: &'g Mutator<'_>, key: K::Loaded<'g>) -> Option<S::Loaded<'g>> {
        let value = self.pair().value_of::<S>(K::to_word(key), m)?;
        // SAFETY: a key was seen, so the word was stored by `to_word` of this type; it is good now, and `m` is borrowed
        // for 'g. That the object lives follows from the protocol: its key does.
        Some(unsafe { S::from_word(value) })
    }

    /// Whether the pair has this key. Keeps no other key alive.
    #[inline]
    pub fn has_key(&self, m: &Mutator<'_>, key: K::Loaded<'_>) -> bool {
        self.pair().has_key(K::to_word(key), m)
    }

    /// Whether there is no pair. A pair whose key has died may count until the collector has cleared it.
    #[inline]
    pub fn is_empty(&self, _m: &Mutator<'_>) -> bool {
        self.pair().is_empty()
    }

    /// Replaces the pair, or removes it.
    #[inline]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, pair: Option<(K::Loaded<'g>, S::Loaded<'g>)>) {
        let pair = pair.map(|(key, value)| (K::to_word(key), S::to_word(value)));
        self.pair().store(pair, m);
    }
}

// SAFETY: two words, the key and the value of an ephemeron; `write` initialises both. No drop, aligned to 8, atomic.
unsafe impl<K: Referent, S: SlotType> Field for Ephemeron<K, S> {
    type Init<'g> = Option<(K::Loaded<'g>, S::Loaded<'g>)>;
    const MAP: WordMap = WordMap::pair();
    const FIELDS: &'static [FieldName] =
        &[FieldName::of::<u64>("key", 0, 8, &[]), FieldName::of::<u64>("value", 8, 8, &[])];

    #[inline(always)]
    unsafe fn write<'g>(init: Self::Init<'g>, dst: *mut Self) {
        let (key, value) = init.map_or((0, 0), |(key, value)| (K::to_word(key), S::to_word(value)));
        let words = dst.cast::<u64>();
        // SAFETY: the caller's; published by a later Release.
        unsafe {
            words.write(access::initial(dst.addr(), Place::Key, key));
            words.add(1).write(access::initial(dst.addr() + 8, Place::EphemeronValue, value));
        }
    }
}

impl<K, S> std::fmt::Debug for Ephemeron<K, S> {
    /// The types.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ephemeron<{}, {}>", std::any::type_name::<K>(), std::any::type_name::<S>())
    }
}
