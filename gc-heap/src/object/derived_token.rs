//! What the traits name of derived code: the types alone, so that the traits stand below what uses
//! them (`derived`).

use core::marker::PhantomData;

use super::map::WordMap;
use super::names::FieldName;

/// The functions of derived code, as methods: see `object::derived`.
#[derive(Clone, Copy)]
pub struct Derived(());

impl Derived {
    /// Only the traits' constants make one; having one is worth nothing, since what it does is
    /// unsafe or right for all arguments.
    pub(super) const NEW: Self = Self(());
}

/// What `F` says of itself as a field. Made by [`Field::OF`] alone, so it is right wherever it
/// comes from.
#[derive(Clone, Copy)]
pub struct Of<F> {
    pub(super) map: WordMap,
    pub(super) element_bytes: usize,
    pub(super) fields: &'static [FieldName],
    pub(super) of: PhantomData<fn(F) -> F>,
}
