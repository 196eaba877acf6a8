//! Objects of any type where a type is asked for: as a slot's, a weak reference's, a key's.
//!
//! A dynamic language has many types of objects and one sort of weak reference. What a slot holds is an address in any case,
//! so [`AnyObject`] is a name for the type system and nothing else.

use super::gc::{AnyGc, Gc};
use super::types::{Rootable, SlotType};
use crate::inner::mutator::Mutator;
use crate::object::{IdentityHash, SlotKind, Trace};

/// The slot type of [`AnyGc`]: an object of any type, and no immediate (that is [`Tagged`](crate::Tagged)).
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

// SAFETY: a reference that is never null; its word is its address.
unsafe impl SlotType for AnyObject {
    type Loaded<'g> = AnyGc<'g>;
    const SLOT_KIND: SlotKind = SlotKind::Strong;

    #[inline(always)]
    fn to_word(loaded: AnyGc<'_>) -> u64 {
        loaded.word()
    }

    #[inline(always)]
    unsafe fn from_word<'g>(word: u64) -> AnyGc<'g> {
        // SAFETY: the caller's; only an `AnyGc` is stored, which is never null.
        unsafe { AnyGc::from_word(word) }
    }
}

// SAFETY: null is 0, else as above.
unsafe impl SlotType for Option<AnyObject> {
    type Loaded<'g> = Option<AnyGc<'g>>;
    const SLOT_KIND: SlotKind = SlotKind::Strong;

    #[inline(always)]
    fn to_word(loaded: Option<AnyGc<'_>>) -> u64 {
        loaded.map_or(0, AnyGc::word)
    }

    #[inline(always)]
    unsafe fn from_word<'g>(word: u64) -> Option<AnyGc<'g>> {
        // SAFETY: the caller's, and not null.
        (word != 0).then(|| unsafe { AnyGc::from_word(word) })
    }
}

impl<'g> Rootable<'g> for AnyGc<'g> {
    type Slot = AnyObject;
}

// Not for `Option<AnyGc>`: `m.local(None)` would not know its type any more. `local_of::<Option<AnyObject>>` does.

/// What weak references, keys of ephemerons and finalizer queues are about: the objects of a type that derives
/// [`Trace`], or those of all types, [`AnyObject`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a type of objects",
    label = "not a type of objects",
    note = "name a type that derives `Trace`, or `AnyObject` for objects of any type; an immediate (a number, nil) cannot die"
)]
pub trait Referent: SlotType {}

impl<T: Trace> Referent for T {}

impl Referent for AnyObject {}

/// What can be a key of a [`WeakMap`](crate::WeakMap): objects of a type with an identity hash, or [`AnyObject`], where the
/// objects that are used must have one. Sealed: how keys are hashed is for this crate to say, as a map holds its lock while it searches.
#[diagnostic::on_unimplemented(
    message = "objects of type `{Self}` have no identity hash",
    label = "no identity hash",
    note = "write `#[trace(identity_hash)]` beside its `#[derive(Trace)]`: it costs eight bytes an object"
)]
pub trait WeakKey: Referent + sealed::Hashed {}

impl<T: IdentityHash> WeakKey for T {}

impl WeakKey for AnyObject {}

pub(crate) mod sealed {
    use super::{AnyGc, AnyObject, Gc, IdentityHash, Mutator, Referent};

    /// The identity hashes of keys. In a private module: a type of another crate gets it by `#[trace(identity_hash)]` alone.
    pub trait Hashed: Referent {
        /// The identity hash.
        ///
        /// # Panics
        /// If the object's type has none, which is found out here of [`AnyObject`] only. Not to be called under a lock: the
        /// program's panic hook runs in the panic.
        fn hash_of(key: Self::Loaded<'_>, m: &Mutator<'_>) -> u64;
    }

    impl<T: IdentityHash> Hashed for T {
        fn hash_of(key: Gc<'_, T>, m: &Mutator<'_>) -> u64 {
            key.identity_hash(m)
        }
    }

    impl Hashed for AnyObject {
        fn hash_of(key: AnyGc<'_>, m: &Mutator<'_>) -> u64 {
            key.identity_hash(m).unwrap_or_else(|| {
                panic!(
                    "objects of type `{}` have no identity hash, so they cannot be keys: write `#[trace(identity_hash)]` beside \
                     `#[derive(Trace)]`",
                    key.kind().name()
                )
            })
        }
    }
}
