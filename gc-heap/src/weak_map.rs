//! A table from objects to values that keeps neither alive: each entry is an ephemeron.

use crate::error::OutOfMemory;
use crate::handles::local::Local;
use crate::lock::Mutex;
use crate::mutator::Mutator;
use crate::mutator::alloc_size::AllocSize;
use crate::object::{Num, Trace};
use crate::slot::Array;
use crate::slot::{Ephemeron, Gc, Slot, SlotType, WeakKey};
use crate::weak_growth::{Full, Growth, Known};

/// Slots of the smallest table.
const LEAST: usize = 8;

/// A table in which no more than this part of the places has an entry is too large.
const SPARSE: usize = 8;

/// A place of the table. `hash` is 0 until the place is used for the first time; a place that was
/// used and has no pair any more may be used again, but ends no search.
#[derive(Trace)]
struct Entry<K: WeakKey, S: SlotType> {
    hash: Num<u64>,
    pair: Ephemeron<K, S>,
}

type Table<K, S> = Array<Entry<K, S>>;

/// A heap object that maps objects to values and keeps neither alive: as long as a key is reachable
/// by another way, its value is (if the map is); when the key dies, the entry is removed. A value
/// may refer to its key, or to the map.
///
/// Keys are told apart by identity, so their type has an identity hash (`#[trace(identity_hash)]`),
/// which stays the same when they move. With [`AnyObject`](crate::AnyObject) for `K` objects of
/// several types are keys of one map; using one without an identity hash panics. Any number of
/// threads may use a map at once: each call holds the map's lock for one search, never over a
/// safepoint.
///
/// The table follows what lives, also where keys die at once and no cycle is due for long. It grows
/// to 16 places (of 24 bytes) at most for each entry that was alive at the end of the last cycle;
/// or, if that is more, to an eighth of the live bytes of the heap, or to a 32nd of the largest
/// heap, which is at most 2 MiB. While one table gives way to the next, both are there.
///
/// ```
/// use gc_heap::{Bytes, Heap, AllocSize, Trace, WeakMap};
///
/// #[derive(Trace)]
/// #[trace(identity_hash)]
/// struct Object { id: u64 }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let names = WeakMap::<Object, Bytes>::new(m)?;
///     let object = m.build::<Option<Object>>(AllocSize::of::<Object>(), |m| Some(m.place(ObjectInit { id: 1 })))?;
///     {
///         let m = &mut *m.frame();
///         let key = m.local(object.get(m).unwrap());
///         let name = m.build::<Bytes>(AllocSize::tail::<Bytes>(5), |m| m.place_bytes((), b"first"))?;
///         WeakMap::insert(names, m, key, name)?;
///     }
///     m.collect();
///     let name = names.get(m).get(m, object.get(m).unwrap()).unwrap();
///     assert_eq!(name.tail(), b"first");
///     object.set(m, None);
///     m.collect();
///     assert_eq!((names.get(m).len(m), names.get(m).vanished(m)), (0, 1));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Trace)]
pub struct WeakMap<K: WeakKey, S: SlotType> {
    table: Slot<Table<K, S>>,
    /// Held for one search, and never over a safepoint: so no thread waits for it inside a pause. A
    /// thread that waits is asleep if that lasts: the holder may have lost its processor to it.
    lock: Mutex<()>,
    /// Places of the table that were ever used.
    used: Num<usize>,
    /// New entries until it is looked whether the table has become too large. Looking takes as long
    /// as the table is.
    until_look: Num<usize>,
    /// Entries that came, and that somebody removed.
    added: Num<u64>,
    removed: Num<u64>,
    /// What is `Known` of the entries.
    alive: Num<usize>,
    known_by: Num<u64>,
    known_of: Num<u64>,
}

/// Result of an attempt to insert.
enum Inserted {
    Done,
    /// The table is full, or too large: one of so many places is wanted.
    Elsewhere(usize),
    /// The table is full, of entries that may all be dead: after the cycle of this number it is
    /// known.
    After(u64),
}

impl<K: WeakKey, S: SlotType> WeakMap<K, S> {
    /// An empty map, rooted in the current scope. A safepoint.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new<'s>(m: &mut Mutator<'s>) -> Result<Local<'s, WeakMap<K, S>>, OutOfMemory> {
        let room = AllocSize::of::<WeakMap<K, S>>() + AllocSize::tail::<Table<K, S>>(LEAST);
        m.build::<WeakMap<K, S>>(room, |m| {
            let table = new_table(m, LEAST);
            m.place(WeakMapInit {
                table,
                lock: (),
                used: 0,
                until_look: LEAST,
                added: 0,
                removed: 0,
                alive: 0,
                known_by: m.inner().schedule.requests.next_cycle(),
                known_of: 0,
            })
        })
    }

    /// The value of a key. Waits while another thread searches the map; never a safepoint.
    pub fn get<'g>(&self, m: &'g Mutator<'_>, key: K::Loaded<'g>) -> Option<S::Loaded<'g>> {
        let hash = K::hash_of(key, m);
        let _guard = self.lock.lock();
        find(m, self.table.get(m), key, hash)?.pair.value_of(m, key)
    }

    /// Whether the key has a value. Waits while another thread searches the map; never a safepoint.
    #[must_use]
    pub fn contains<'g>(&self, m: &'g Mutator<'_>, key: K::Loaded<'g>) -> bool {
        let hash = K::hash_of(key, m);
        let _guard = self.lock.lock();
        find(m, self.table.get(m), key, hash).is_some()
    }

    /// Sets the value of a key, replacing an existing one. A safepoint if the table must grow, or
    /// has become far too large for its remaining entries.
    ///
    /// While marking runs, a table that gives way to another keeps all its keys for this cycle.
    /// Where the table is larger than what is known to be alive explains, a cycle begins; if keys
    /// come so fast that it is full again before that has ended, waits for the end: a stall, as
    /// [`Event::Stall`](crate::Event::Stall) of the table's bytes. Where all keys live, that is
    /// twice at most each time the table doubles.
    ///
    /// # Errors
    /// [`OutOfMemory`], where the table cannot grow; the map is as before.
    ///
    /// # Panics
    /// If the collector has failed, where this waits for it.
    pub fn insert(
        map: Local<'_, WeakMap<K, S>>,
        m: &mut Mutator<'_>,
        key: Local<'_, K>,
        value: Local<'_, S>,
    ) -> Result<(), OutOfMemory> {
        loop {
            let mut places = match map.get(m).try_insert(m, key.get(m), value.get(m)) {
                Inserted::Done => return Ok(()),
                Inserted::Elsewhere(places) => places,
                Inserted::After(cycle) => {
                    let bytes = map.get(m).table.get(m).tail_len() * size_of::<Entry<K, S>>();
                    m.stall_for_cycle(cycle, bytes);
                    continue;
                }
            };
            let m = match m.reserve(AllocSize::tail::<Table<K, S>>(places)) {
                Ok(m) => m,
                Err(_) => {
                    // Keys that no cycle had found dead were counted as alive. A whole cycle finds
                    // them all.
                    m.collect();
                    places = map.get(m).places_wanted(m);
                    m.reserve(AllocSize::tail::<Table<K, S>>(places))?
                }
            };
            map.get(m).resize(m, places);
        }
    }

    /// Removes a key, and returns its value. Waits while another thread searches the map; never a
    /// safepoint.
    pub fn remove<'g>(&self, m: &'g Mutator<'_>, key: K::Loaded<'g>) -> Option<S::Loaded<'g>> {
        let hash = K::hash_of(key, m);
        let _guard = self.lock.lock();
        let entry = find(m, self.table.get(m), key, hash)?;
        let value = entry.pair.value_of(m, key)?;
        entry.pair.set(m, None);
        self.removed.set(self.removed.get() + 1);
        Some(value)
    }

    /// Removes all entries. Waits while another thread searches the map; never a safepoint. The
    /// memory of a large table goes when the next entry comes.
    pub fn clear(&self, m: &Mutator<'_>) {
        let _guard = self.lock.lock();
        for entry in self.table.get(m).tail() {
            if !entry.pair.is_empty(m) {
                entry.pair.set(m, None);
                self.removed.set(self.removed.get() + 1);
            }
            entry.hash.set(0);
        }
        self.used.set(0);
        self.until_look.set(0);
    }

    /// The entries. Dead ones count until a cycle has found them dead. Looks at the whole table;
    /// waits while another thread searches the map; never a safepoint.
    #[must_use]
    pub fn len(&self, m: &Mutator<'_>) -> usize {
        let _guard = self.lock.lock();
        self.count(m)
    }

    /// The places of a table for the entries that are there now.
    fn places_wanted(&self, m: &Mutator<'_>) -> usize {
        let _guard = self.lock.lock();
        places_for(self.count(m))
    }

    fn count(&self, m: &Mutator<'_>) -> usize {
        self.table.get(m).tail().iter().filter(|entry| !entry.pair.is_empty(m)).count()
    }

    /// Whether there are no entries: as [`len`](Self::len).
    #[must_use]
    pub fn is_empty(&self, m: &Mutator<'_>) -> bool {
        self.len(m) == 0
    }

    /// Entries that have vanished because their key died, since the map was made: as
    /// [`len`](Self::len).
    #[must_use]
    pub fn vanished(&self, m: &Mutator<'_>) -> u64 {
        let _guard = self.lock.lock();
        self.added.get() - self.removed.get() - self.count(m) as u64
    }

    /// Visits the entries that exist at the call, in no particular order. Waits while another
    /// thread searches the map; never a safepoint. Takes memory outside the heap, 16 bytes or so
    /// for each entry, for as long as it visits.
    ///
    /// `visit` may read the map, and remove and clear: every entry that existed at the call is
    /// visited nevertheless. Entries that other threads add meanwhile are not.
    ///
    /// ```
    /// use gc_heap::{Heap, Tagged, Trace, Value, WeakMap};
    ///
    /// #[derive(Trace)]
    /// #[trace(identity_hash)]
    /// struct Object { id: u64 }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let ages = WeakMap::<Object, Tagged>::new(m)?;
    ///     let object = m.alloc::<Object>(|_| ObjectInit { id: 7 })?;
    ///     let age = m.local(Value::int(100));
    ///     WeakMap::insert(ages, m, object, age)?;
    ///
    ///     let map = ages.get(m);
    ///     map.for_each(m, |key, age| {
    ///         if age.as_int() > Some(99) {
    ///             map.remove(m, key);
    ///         }
    ///     });
    ///     assert!(map.is_empty(m));
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// While marking runs, every key that is visited counts as reachable from now on.
    pub fn for_each<'g>(&self, m: &'g Mutator<'_>, mut visit: impl FnMut(K::Loaded<'g>, S::Loaded<'g>)) {
        // Noted under the lock and visited without it: a visitor that uses the map would wait for
        // itself, and two that use each other's map for each other.
        let entries: Vec<_> = {
            let _guard = self.lock.lock();
            self.table.get(m).tail().iter().filter_map(|entry| entry.pair.get(m)).collect()
        };
        entries.into_iter().for_each(|(key, value)| visit(key, value));
    }

    fn try_insert<'g>(&self, m: &'g Mutator<'_>, key: K::Loaded<'g>, value: S::Loaded<'g>) -> Inserted {
        let hash = K::hash_of(key, m);
        let _guard = self.lock.lock();
        let places = self.table.get(m).tail();
        let mut free = None;
        for index in probe(hash, places.len()) {
            let entry = &places[index];
            let found = entry.hash.get();
            if found == hash && entry.pair.has_key(m, key) {
                entry.pair.set(m, Some((key, value)));
                return Inserted::Done;
            }
            if found != 0 && free.is_none() && entry.pair.is_empty(m) {
                free = Some(entry);
            }
            if found != 0 {
                continue;
            }
            // A new entry. Where entries have vanished the table may have become too large.
            match self.until_look.get().checked_sub(1) {
                Some(left) => self.until_look.set(left),
                None => {
                    self.until_look.set(looks_after(places.len()));
                    let count = self.count(m);
                    if places.len() > LEAST && count < places.len() / SPARSE {
                        return Inserted::Elsewhere(places_for(count));
                    }
                }
            }
            // An unused place is the end of the search; and a quarter of them stays unused.
            if free.is_none() {
                if self.used.get() >= places.len() / 4 * 3 {
                    break;
                }
                self.used.set(self.used.get() + 1);
            }
            let entry = free.unwrap_or(entry);
            entry.pair.set(m, Some((key, value)));
            entry.hash.set(hash);
            self.added.set(self.added.get() + 1);
            return Inserted::Done;
        }
        match self.growth(m) {
            Growth::To(places) => Inserted::Elsewhere(places),
            Growth::After(cycle) => Inserted::After(cycle),
        }
    }

    /// What is to be done with the table, which is full. The lock is held.
    fn growth(&self, m: &Mutator<'_>) -> Growth {
        let full = Full {
            places: self.table.get(m).tail_len(),
            entries: self.count(m),
            added: self.added.get(),
            place: size_of::<Entry<K, S>>(),
            places_for,
        };
        let mut known = Known { alive: self.alive.get(), cycle: self.known_by.get(), added: self.known_of.get() };
        let growth = m.inner().table_growth(&mut known, &full);
        self.set_known(known);
        growth
    }

    fn set_known(&self, Known { alive, cycle, added }: Known) {
        self.alive.set(alive);
        self.known_by.set(cycle);
        self.known_of.set(added);
    }

    /// Moves what is there to a table of so many places, unless somebody was faster, or that is too
    /// few by now.
    fn resize(&self, m: &Mutator<'_>, places: usize) {
        let _guard = self.lock.lock();
        let old = self.table.get(m).tail();
        let is_full = self.used.get() >= old.len() / 4 * 3;
        if !(is_full || places < old.len()) || self.count(m) >= places / 4 * 3 {
            return;
        }
        let table = new_table(m, places);
        let mut used = 0;
        for entry in old {
            // A dead key is not given where it is known to be dead. Where marking runs this keeps
            // it for the cycle, and the value with it, by the old table, which the marker finds.
            let Some((key, value)) = entry.pair.get(m) else { continue };
            let hash = entry.hash.get();
            let index = probe(hash, places).find(|&index| table.tail()[index].hash.get() == 0);
            let place = &table.tail()[index.expect("a quarter of the places is unused")];
            place.hash.set(hash);
            place.pair.set(m, Some((key, value)));
            used += 1;
        }
        self.used.set(used);
        self.until_look.set(looks_after(places));
        self.table.set(m, table);
        self.set_known(m.inner().table_renewed(self.alive.get(), self.added.get()));
    }
}

/// New entries between two looks at a table of so many places: a look costs each of them four
/// places.
fn looks_after(places: usize) -> usize {
    places / 4
}

/// The places of a table for so many entries: room for as many again before it is three quarters
/// full.
fn places_for(entries: usize) -> usize {
    (2 * entries).next_power_of_two().max(LEAST)
}

fn new_table<'g, K: WeakKey, S: SlotType>(m: &'g Mutator<'_>, places: usize) -> Gc<'g, Table<K, S>> {
    m.place_array((), places, EntryInit { hash: 0, pair: None })
}

/// The places where an object with this hash may be, one after the other; `places` is a power of
/// two.
fn probe(hash: u64, places: usize) -> impl Iterator<Item = usize> {
    let first = hash as usize;
    (0..places).map(move |step| first.wrapping_add(step) & (places - 1))
}

fn find<'g, K: WeakKey, S: SlotType>(
    m: &'g Mutator<'_>,
    table: Gc<'g, Table<K, S>>,
    key: K::Loaded<'g>,
    hash: u64,
) -> Option<&'g Entry<K, S>> {
    let places = table.tail();
    probe(hash, places.len())
        .map(|index| &places[index])
        .take_while(|entry| entry.hash.get() != 0)
        .find(|entry| entry.hash.get() == hash && entry.pair.has_key(m, key))
}

#[cfg(test)]
mod tests;
