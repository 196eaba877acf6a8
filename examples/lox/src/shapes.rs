//! Shapes: which field of an instance stands where.
//!
//! Instances that got the same fields in the same order have the same shape. Field names come from
//! the program's text alone, so shapes are text as well: they are kept outside the heap, and for
//! the life of the process. There is a limit; an instance that would pass it becomes a dictionary.
//!
//! Each place that names a field caches what it found, as one word that is read and written whole:
//!
//! | | bits 32..63 | bits 16..31 | bits 0..15 |
//! | --- | --- | --- | --- |
//! | read, call | shape + 1 | 1: no such field | index |
//! | write | shape + 1 | the shape afterwards | index |
//!
//! An index of a field is below [`MAX_FIELDS`].

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

/// The shape of an instance without fields.
pub(crate) const EMPTY: u32 = 0;
/// The shape of an instance that keeps its fields in a dictionary. No cache knows it.
pub(crate) const DICTIONARY: u32 = u16::MAX as u32;
/// An instance with more is a dictionary.
const MAX_FIELDS: u32 = 1024;

struct Shape {
    /// The shape without the last field, and that field's name.
    parent: u32,
    symbol: u32,
    fields: u32,
}

struct Table {
    shapes: Vec<Shape>,
    longer: FxHashMap<(u32, u32), u32>,
}

/// All shapes of a program.
pub(crate) struct Shapes {
    table: RwLock<Table>,
}

/// What an instance's shape says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Field(u32),
    NoField,
}

impl Found {
    /// The word to cache, for reads.
    pub(crate) fn cached(self, shape: u32) -> u64 {
        let found = match self {
            Found::Field(index) => index,
            Found::NoField => 1 << 16,
        };
        u64::from(shape + 1) << 32 | u64::from(found)
    }

    /// What a cached word says, if it is of this shape.
    #[inline(always)]
    pub(crate) fn of_cached(word: u64, shape: u32) -> Option<Found> {
        if (word >> 32) as u32 != shape + 1 {
            return None;
        }
        Some(if word as u32 >> 16 == 0 { Found::Field(word as u32) } else { Found::NoField })
    }
}

/// Where a write puts its value, and the instance's shape afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) index: u32,
    pub(crate) shape: u32,
}

impl Store {
    pub(crate) fn cached(self, shape: u32) -> u64 {
        u64::from(shape + 1) << 32 | u64::from(self.shape) << 16 | u64::from(self.index)
    }

    #[inline(always)]
    pub(crate) fn of_cached(word: u64, shape: u32) -> Option<Store> {
        let store = Store { index: word as u32 & 0xffff, shape: word as u32 >> 16 };
        ((word >> 32) as u32 == shape + 1).then_some(store)
    }
}

/// What a thread has found lately, for places that see more shapes than they can cache: by shape
/// and name, each finding where the hash of both leads. A finding stays true for the life of the
/// process, so nothing here is ever wrong.
pub(crate) struct Lookups {
    reads: Box<[Lookup; LOOKUPS]>,
    writes: Box<[Lookup; LOOKUPS]>,
}

/// The symbol, and the word that a place would cache.
#[derive(Clone, Copy)]
struct Lookup {
    symbol: u32,
    word: u64,
}

const LOOKUPS: usize = 256;

impl Lookups {
    pub(crate) fn new() -> Lookups {
        let nothing = [Lookup { symbol: 0, word: 0 }; LOOKUPS];
        Lookups { reads: Box::new(nothing), writes: Box::new(nothing) }
    }

    /// Neighbouring shapes and neighbouring names lie side by side.
    #[inline(always)]
    fn place(shape: u32, symbol: u32) -> usize {
        (shape.wrapping_mul(31) ^ symbol) as usize % LOOKUPS
    }

    #[inline(always)]
    pub(crate) fn found(&self, shape: u32, symbol: u32) -> Option<Found> {
        let lookup = self.reads[Self::place(shape, symbol)];
        Found::of_cached(lookup.word, shape).filter(|_| lookup.symbol == symbol)
    }

    #[inline(always)]
    pub(crate) fn store(&self, shape: u32, symbol: u32) -> Option<Store> {
        let lookup = self.writes[Self::place(shape, symbol)];
        Store::of_cached(lookup.word, shape).filter(|_| lookup.symbol == symbol)
    }

    pub(crate) fn remember_found(&mut self, shape: u32, symbol: u32, found: Found) {
        self.reads[Self::place(shape, symbol)] = Lookup { symbol, word: found.cached(shape) };
    }

    pub(crate) fn remember_store(&mut self, shape: u32, symbol: u32, store: Store) {
        self.writes[Self::place(shape, symbol)] = Lookup { symbol, word: store.cached(shape) };
    }
}

impl Shapes {
    pub(crate) fn new() -> Shapes {
        let empty = Shape { parent: EMPTY, symbol: 0, fields: 0 };
        Shapes { table: RwLock::new(Table { shapes: vec![empty], longer: FxHashMap::default() }) }
    }

    /// Where a field stands in instances of a shape (not [`DICTIONARY`]).
    pub(crate) fn find(&self, shape: u32, symbol: u32) -> Found {
        self.table.read().find(shape, symbol)
    }

    /// Where a write goes; `None`: the instance has to become a dictionary.
    pub(crate) fn store(&self, shape: u32, symbol: u32) -> Option<Store> {
        {
            let table = self.table.read();
            if let Found::Field(index) = table.find(shape, symbol) {
                return Some(Store { index, shape });
            }
            if let Some(&longer) = table.longer.get(&(shape, symbol)) {
                return Some(Store { index: table.shapes[shape as usize].fields, shape: longer });
            }
        }
        self.table.write().lengthen(shape, symbol)
    }

    /// The names of a shape's fields, by index.
    pub(crate) fn symbols(&self, shape: u32) -> Vec<u32> {
        let table = self.table.read();
        let mut symbols: Vec<u32> = table.chain(shape).map(|shape| shape.symbol).collect();
        symbols.reverse();
        symbols
    }
}

impl Table {
    /// The shape, the one without its last field, and so on; without the empty one.
    fn chain(&self, shape: u32) -> impl Iterator<Item = &Shape> {
        let mut next = shape;
        std::iter::from_fn(move || {
            let shape = (next != EMPTY).then(|| &self.shapes[next as usize])?;
            next = shape.parent;
            Some(shape)
        })
    }

    fn find(&self, shape: u32, symbol: u32) -> Found {
        let field = self.chain(shape).find(|shape| shape.symbol == symbol);
        field.map_or(Found::NoField, |field| Found::Field(field.fields - 1))
    }

    fn lengthen(&mut self, shape: u32, symbol: u32) -> Option<Store> {
        let (fields, new) = (self.shapes[shape as usize].fields, self.shapes.len() as u32);
        if let Some(&longer) = self.longer.get(&(shape, symbol)) {
            return Some(Store { index: fields, shape: longer }); // another thread was first
        }
        if fields == MAX_FIELDS || new == DICTIONARY {
            return None;
        }
        self.shapes.push(Shape { parent: shape, symbol, fields: fields + 1 });
        self.longer.insert((shape, symbol), new);
        Some(Store { index: fields, shape: new })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_fields_in_the_same_order_are_one_shape() {
        let shapes = Shapes::new();
        let a = shapes.store(EMPTY, 7).unwrap();
        assert_eq!((a.index, shapes.store(EMPTY, 7)), (0, Some(a)));
        let ab = shapes.store(a.shape, 3).unwrap();
        assert_eq!(ab.index, 1);
        assert_eq!(shapes.store(ab.shape, 7), Some(Store { index: 0, shape: ab.shape }));
        assert_ne!(shapes.store(EMPTY, 3).unwrap().shape, a.shape);
        assert_eq!(shapes.symbols(ab.shape), [7, 3]);
        assert_eq!((shapes.find(ab.shape, 3), shapes.find(a.shape, 3)), (Found::Field(1), Found::NoField));
    }

    #[test]
    fn an_instance_cannot_have_a_shape_of_any_length() {
        let shapes = Shapes::new();
        let (mut shape, mut fields) = (EMPTY, 0);
        while let Some(store) = shapes.store(shape, fields) {
            (shape, fields) = (store.shape, fields + 1);
        }
        assert_eq!(fields, MAX_FIELDS);
        assert_eq!(shapes.find(shape, 0), Found::Field(0));
    }

    #[test]
    fn lookups_give_what_was_remembered_for_shape_and_name() {
        let mut lookups = Lookups::new();
        assert_eq!((lookups.found(EMPTY, 0), lookups.store(EMPTY, 0)), (None, None));
        let store = Store { index: 3, shape: 9 };
        lookups.remember_found(5, 7, Found::NoField);
        lookups.remember_store(5, 7, store);
        assert_eq!((lookups.found(5, 7), lookups.store(5, 7)), (Some(Found::NoField), Some(store)));
        for (shape, symbol) in (0..600).flat_map(|shape| [(shape, 7), (5, shape)]).filter(|&key| key != (5, 7)) {
            assert_eq!((lookups.found(shape, symbol), lookups.store(shape, symbol)), (None, None));
        }
    }

    #[test]
    fn cached_words_come_back_for_their_shape_only() {
        for found in [Found::Field(0), Found::Field(1023), Found::NoField] {
            for shape in [EMPTY, 5, DICTIONARY - 1] {
                assert_eq!(Found::of_cached(found.cached(shape), shape), Some(found));
                assert_eq!(Found::of_cached(found.cached(shape), shape + 1), None);
                assert_eq!(Found::of_cached(0, shape), None);
            }
        }
        let store = Store { index: 1023, shape: DICTIONARY - 1 };
        assert_eq!(Store::of_cached(store.cached(9), 9), Some(store));
        assert_eq!(Store::of_cached(store.cached(9), 8), None);
    }
}
