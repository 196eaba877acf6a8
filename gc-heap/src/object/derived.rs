//! Support for the code that `#[derive(Trace)]` generates.
//!
//! That code stands in the embedder's crate, so each path in it (`::gc_heap::..`,
//! `#[trace(crate = path)]`, `::core`, the prelude, names of macros) may lead to what the embedder
//! has put there. It is trusted all the same, because of these rules:
//!
//! 1. **The trait vouches for its helper.** Each `unsafe impl` takes everything from [`Derived`],
//!    and that from the constant `DERIVED` of the very trait that it implements. Where that trait
//!    is ours, so is the helper, whatever the other paths lead to. Where it is another's, no
//!    promise was made to us.
//! 2. **No `unsafe` block calls by a path.** A path may be another function under a new name; a
//!    method may not. The blocks call methods only, by names (`__gc_heap_..`) that no other crate
//!    gives to an unsafe method: code that wants one of that name has to write `unsafe` itself.
//!    Inherent methods that take `self` by value are found before those of any trait.
//! 3. **Pointers in place of numbers and of types' names.** Which type a field has, and where it
//!    is, comes from `&raw const (*object).field`: syntax, which nothing shadows. What is done with
//!    it is found by that type. A pattern that binds each field of a borrowed `Self`, outside of
//!    `unsafe`, fails to compile where a field is missing, packed, or one of a union's.
//! 4. **Types that must be equal are compared.** What the impl says its constants and functions are
//!    is compared with the trait; the initialiser of each field, with that of the field's type.
//!
//! A name that the embedder shadows then is a compile error or changes nothing.

use core::marker::PhantomData;

use super::derived_token::{Derived, Of};
use super::kind::Kind;
use super::map::{MAX_WORDS, WordMap};
use super::names::FieldName;
use super::trace::Field;
use super::trace::Trace;

impl Derived {
    /// Begins the map of `S`, a value of which would stand at `object`.
    ///
    /// # Safety
    ///
    /// `object` leads to 4096 bytes that are aligned to 8. Before the map is taken, each field of
    /// `S` is added, once.
    #[must_use]
    pub const unsafe fn __gc_heap_map<S>(self, object: *const S) -> Fields<S> {
        Fields { object, map: WordMap::empty_for::<S>() }
    }

    /// The name of a field of `S`.
    ///
    /// # Safety
    ///
    /// `field` was made from `object`, as the place of a field of type `F`.
    #[must_use]
    pub const unsafe fn __gc_heap_name<S, F>(
        self,
        object: *const S,
        field: *const F,
        of: Of<F>,
        name: &'static str,
    ) -> FieldName {
        // SAFETY: the caller's.
        FieldName::of::<F>(name, unsafe { offset(object, field) }, of.element_bytes, of.fields)
    }

    /// The kind of `T`. (`track_caller` only shortens the errors.)
    #[must_use]
    #[track_caller]
    pub const fn __gc_heap_kind<T: Trace>(self, generic: bool) -> Kind {
        Kind::of::<T>(generic)
    }

    /// Writes a field, by its own type's [`Field::write`]. `I` is told by what is given, before `F`
    /// is: so nothing is coerced on the way.
    ///
    /// # Safety
    ///
    /// As [`Field::write`].
    #[inline(always)]
    pub unsafe fn __gc_heap_write<'g, F: Field<Init<'g> = I>, I>(self, init: I, field: *mut F) {
        // SAFETY: the caller's.
        unsafe { F::write(init, field) }
    }

    /// Writes a field that is made from nothing.
    ///
    /// # Safety
    ///
    /// As [`Field::write`].
    #[inline(always)]
    pub unsafe fn __gc_heap_phantom<P: Phantom>(self, field: *mut P) {
        // SAFETY: the caller's.
        unsafe { field.write(P::NEW) }
    }

    /// Writes all fields of an object or of a struct in one.
    ///
    /// # Safety
    ///
    /// As [`Trace::write`].
    #[inline(always)]
    pub unsafe fn __gc_heap_object<'g, T: Trace>(self, init: T::Init<'g>, object: *mut T) {
        // SAFETY: the caller's.
        unsafe { T::write(init, object) }
    }

    /// The map of the fields of an object's type.
    #[must_use]
    pub const fn __gc_heap_map_of<T: Trace>(self) -> WordMap {
        T::MAP
    }

    /// The names of the fields of an object's type.
    #[must_use]
    pub const fn __gc_heap_names_of<T: Trace>(self) -> &'static [FieldName] {
        T::FIELDS
    }
}

/// `PhantomData`, by its type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `core::marker::PhantomData`",
    label = "called `PhantomData`, and not made from nothing as that is",
    note = "a struct whose fields are all `PhantomData` is made from `()`; give the type another name to have it in the initialiser"
)]
pub trait Phantom: Field {
    /// The only value.
    const NEW: Self;
}

impl<T: ?Sized + 'static> Phantom for PhantomData<T> {
    const NEW: Self = PhantomData;
}

impl<F: Field> Of<F> {
    pub(super) const NEW: Self =
        Self { map: F::MAP, element_bytes: F::ELEMENT_BYTES, fields: F::FIELDS, of: PhantomData };
}

/// The map of a struct `S`, with the fields so far.
#[derive(Clone, Copy)]
pub struct Fields<S> {
    object: *const S,
    map: WordMap,
}

impl<S> Fields<S> {
    /// Adds a field.
    ///
    /// # Safety
    ///
    /// `field` was made from the pointer that the map was begun with, as the place of a field of
    /// type `F`.
    ///
    /// # Panics
    ///
    /// When the struct is packed tighter than its field allows, or too long.
    #[must_use]
    #[track_caller]
    pub const unsafe fn __gc_heap_field<F>(self, field: *const F, of: Of<F>) -> Self {
        // SAFETY: the caller's.
        let at = unsafe { offset(self.object, field) };
        Self { map: self.map.with_field::<S, F>(of.map, at), ..self }
    }

    /// The map, with all fields.
    #[must_use]
    pub const fn __gc_heap_whole(self) -> WordMap {
        self.map
    }
}

/// Where in an `S` a field is.
///
/// # Safety
///
/// `field` was made from `object`, as the place of a field of type `F`.
const unsafe fn offset<S, F>(object: *const S, field: *const F) -> usize {
    const { assert!(size_of::<S>() <= MAX_WORDS * 8) };
    // SAFETY: both lie in the one object that the caller names.
    unsafe { field.byte_offset_from(object) as usize }
}
