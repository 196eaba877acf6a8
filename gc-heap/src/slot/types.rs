//! Slots: the fields of heap objects that hold references or values.

use super::gc::Gc;
use super::value::Value;
use super::words::{Slot, SlotType, Tagged};
use crate::barrier::Place;
use crate::inner::mutator::Mutator;
use crate::object::Trace;

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

impl<S: SlotType> Slot<S> {
    /// Loads the slot's value. Never blocks.
    #[inline(always)]
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> S::Loaded<'g> {
        self.load_at(Place::Field, m)
    }

    /// Stores a value. Never blocks.
    #[inline(always)]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, value: S::Loaded<'g>) {
        self.store_at(Place::Field, value, m);
    }

    /// Stores a value and returns the old one.
    #[inline]
    pub fn swap<'g>(&self, m: &'g Mutator<'_>, value: S::Loaded<'g>) -> S::Loaded<'g> {
        self.swap_at(Place::Field, value, m)
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
        self.compare_exchange_at(Place::Field, current, new, m)
    }
}

impl<S> std::fmt::Debug for Slot<S> {
    /// Prints the type only: the value can be loaded with a mutator alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot<{}>", std::any::type_name::<S>())
    }
}
