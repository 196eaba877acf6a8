//! Ephemerons: a value that only its key keeps alive.

use super::words::{Ephemeron, Referent, SlotType};
use crate::inner::mutator::Mutator;

impl<K: Referent, S: SlotType> Ephemeron<K, S> {
    /// The pair, if its key is still alive. Both references are strong for as long as the mutator
    /// is borrowed.
    ///
    /// While marking runs the key counts as reachable from now on: to look for a certain key, use
    /// [`value_of`](Self::value_of), which keeps no other key alive.
    #[inline]
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> Option<(K::Loaded<'g>, S::Loaded<'g>)> {
        self.load_pair(m)
    }

    /// The value, if the pair has this key.
    #[inline]
    pub fn value_of<'g>(&self, m: &'g Mutator<'_>, key: K::Loaded<'g>) -> Option<S::Loaded<'g>> {
        self.load_value(key, m)
    }

    /// Whether the pair has this key. Keeps no other key alive.
    #[inline]
    pub fn has_key(&self, m: &Mutator<'_>, key: K::Loaded<'_>) -> bool {
        self.pair().has_key(K::to_word(key), m)
    }

    /// Whether there is no pair. A pair whose key has died may count until the collector has
    /// cleared it.
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

impl<K, S> std::fmt::Debug for Ephemeron<K, S> {
    /// The types.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ephemeron<{}, {}>", std::any::type_name::<K>(), std::any::type_name::<S>())
    }
}
