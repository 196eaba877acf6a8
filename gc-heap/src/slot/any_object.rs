//! Objects of any type where a type is asked for: as a slot's, a weak reference's, a key's.
//!
//! A dynamic language has many types of objects and one sort of weak reference. What a slot holds
//! is an address in any case, so [`AnyObject`] is a name for the type system and nothing else.

use super::gc::{AnyGc, Gc};
use super::types::Rootable;
use super::words::{AnyObject, Referent};
use crate::inner::mutator::Mutator;
use crate::object::IdentityHash;

impl<'g> Rootable<'g> for AnyGc<'g> {
    type Slot = AnyObject;
}

// Not for `Option<AnyGc>`: `m.local(None)` would not know its type any more.
// `local_of::<Option<AnyObject>>` does.

/// What can be a key of a [`WeakMap`](crate::WeakMap): objects of a type with an identity hash, or
/// [`AnyObject`], where the objects that are used must have one. Sealed: how keys are hashed is for
/// this crate to say, as a map holds its lock while it searches.
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

    /// The identity hashes of keys. In a private module: a type of another crate gets it by
    /// `#[trace(identity_hash)]` alone.
    pub trait Hashed: Referent {
        /// The identity hash.
        ///
        /// # Panics
        /// If the object's type has none, which is found out here of [`AnyObject`] only. Not to be
        /// called under a lock: the program's panic hook runs in the panic.
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
