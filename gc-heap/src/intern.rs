//! A table of weak strings: equal texts are one object, and a text that only the table knows is
//! collected.

use crate::error::OutOfMemory;
use crate::handles::Root;
use crate::lock::Mutex;
use crate::mutator::Mutator;
use crate::mutator::alloc_size::AllocSize;
use crate::object::{Num, Trace};
use crate::slot::{Array, Bytes};
use crate::slot::{Gc, WeakSlot};
use crate::weak_growth::{Full, Growth, Known};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Places of the smallest table; a power of two, as all are.
const LEAST: usize = 256;

/// A place of the table. `hash` is 0 until the place is used for the first time; one whose string
/// has died ends no search, and is used again for a text with the same hash.
#[derive(Trace)]
struct Place<T: Trace> {
    hash: Num<u64>,
    string: WeakSlot<T>,
}

type Places<T> = Array<Place<T>>;

struct Table<T: Trace> {
    places: Root<Places<T>>,
    /// Places that hold a string, or did.
    used: usize,
    /// Strings ever added.
    added: u64,
    known: Known,
}

/// A table of strings for interning: equal texts are the same object, so they are compared by
/// [`Gc::ptr_eq`], and looked up by it. It keeps no string alive.
///
/// `T` is the type of the strings: [`Bytes`], or one of your own with a tail of `u8`. `H` computes
/// the hashes; the default resists texts chosen to collide, and a faster one is useful for trusted
/// texts.
///
/// The table follows what lives, also where strings die at once and no cycle is due for long. It
/// grows to 32 places (of 16 bytes) at most for each string that was alive at the end of the last
/// cycle; or, if that is more, to an eighth of the live bytes of the heap, or to a 32nd of the
/// largest heap, which is at most 2 MiB. While one table gives way to the next, both are there.
///
/// `Send` and `Sync`: one table for all threads. A lock is held for one call, and a thread that
/// waits for it delays no pause.
///
/// ```
/// use gc_heap::{Bytes, Heap, InternTable};
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let names: InternTable = InternTable::new(m)?;
///     let first = {
///         let (m, name) = names.intern(m, b"name")?;
///         m.local(name)
///     };
///     m.collect();
///     let (m, again) = names.intern(m, b"name")?;
///     assert!(again.ptr_eq(first.get(m)) && again.tail() == b"name");
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A string is a raw reference, which is rooted before the next safepoint, like any other:
///
/// ```
/// use gc_heap::{Heap, InternTable, Local, Mutator, Num, OutOfMemory, Trace};
///
/// /// A string of a language, with its hash at hand.
/// #[derive(Trace)]
/// #[trace(tail = u8)]
/// struct Str { hash: u64, looks: Num<u32> }
///
/// fn intern<'s>(m: &mut Mutator<'s>, table: &InternTable<Str>, text: &str) -> Result<Local<'s, Str>, OutOfMemory> {
///     let (m, string) = table.intern_with(m, text.as_bytes(), |_| (), |_, hash| StrInit { hash, looks: 0 })?;
///     string.looks.set(string.looks.get() + 1);
///     Ok(m.local(string))
/// }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), OutOfMemory> {
///     let table = InternTable::new(m)?;
///     let (a, b) = (intern(m, &table, "a")?, intern(m, &table, "b")?);
///     m.collect();
///     let again = intern(m, &table, "a")?;
///     assert!(again.get(m).ptr_eq(a.get(m)) && !again.get(m).ptr_eq(b.get(m)));
///     assert_eq!((again.get(m).looks.get(), again.get(m).tail()), (2, &b"a"[..]));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct InternTable<T: Trace<Tail = u8> = Bytes, H = RandomState> {
    table: Mutex<Table<T>>,
    hasher: H,
}

impl<T: Trace<Tail = u8>, H: BuildHasher + Default> InternTable<T, H> {
    /// An empty table. A safepoint.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(m: &mut Mutator<'_>) -> Result<InternTable<T, H>, OutOfMemory> {
        InternTable::with_hasher(m, H::default())
    }
}

impl<H: BuildHasher> InternTable<Bytes, H> {
    /// The string with that text, the same object as long as it is reachable. A safepoint. Waits,
    /// parked, while another thread interns. Returns the mutator, which the string borrows:
    /// continue with that one.
    ///
    /// Where the table is larger than what is known to be alive explains, a cycle begins; if
    /// strings come so fast that it is full again before that has ended, waits for the end: a
    /// stall, as [`Event::Stall`](crate::Event::Stall) of the table's bytes.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the table is as before.
    pub fn intern<'g, 's>(
        &self,
        m: &'g mut Mutator<'s>,
        text: &[u8],
    ) -> Result<(&'g Mutator<'s>, Gc<'g, Bytes>), OutOfMemory> {
        self.intern_with(m, text, |_| (), |_, _| ())
    }
}

impl<T: Trace<Tail = u8>, H: BuildHasher> InternTable<T, H> {
    /// As [`new`](Self::new), with the caller's hash builder.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn with_hasher(m: &mut Mutator<'_>, hasher: H) -> Result<InternTable<T, H>, OutOfMemory> {
        let m = m.reserve(AllocSize::tail::<Places<T>>(LEAST))?;
        let places = Root::new(m, new_places(m, LEAST));
        let known = m.inner().table_renewed(0, 0);
        Ok(InternTable { table: Mutex::new(Table { places, used: 0, added: 0, known }), hasher })
    }

    /// The hash of a text: never 0.
    fn hash(&self, text: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text);
        hasher.finish() | 1
    }

    /// The string of that text, made of `init` where there is none; `init` is given the text's
    /// hash, which is never 0. As [`intern`](InternTable::intern); `before` is called before
    /// whatever may be more than a test: where an interpreter clears what its stack has left over.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the table is as before.
    pub fn intern_with<'g, 's>(
        &self,
        m: &'g mut Mutator<'s>,
        text: &[u8],
        before: impl Fn(&Mutator<'s>),
        init: impl for<'i> FnOnce(&'i Mutator<'s>, u64) -> T::Init<'i>,
    ) -> Result<(&'g Mutator<'s>, Gc<'g, T>), OutOfMemory> {
        let mut table = match self.table.try_lock() {
            Some(table) => table,
            None => {
                // The holder of the lock may be at a safepoint, so a thread that waits for it is
                // parked.
                before(m);
                m.blocking(|| self.table.lock())
            }
        };
        if table.used >= table.places.get(m).tail_len() / 4 * 3 {
            before(m);
            table.rebuild(m)?;
        }
        let room = AllocSize::tail::<T>(text.len());
        if !m.has_room(room) {
            before(m);
        }
        let m = m.reserve(room)?;
        let hash = self.hash(text);
        let string = match find(m, table.places.get(m).tail(), hash, text) {
            Ok(string) => string,
            Err(place) => {
                let string = m.place_bytes::<T>(init(m, hash), text);
                table.used += usize::from(place.hash.get() == 0);
                table.added += 1;
                place.hash.set(hash);
                place.string.set(m, Some(string));
                string
            }
        };
        Ok((m, string))
    }

    /// Number of strings. Dead ones count until a cycle has found them dead. Scans the whole table.
    /// A safepoint if another thread interns: it waits, parked.
    pub fn len(&self, m: &mut Mutator<'_>) -> usize {
        let table = match self.table.try_lock() {
            Some(table) => table,
            None => m.blocking(|| self.table.lock()),
        };
        table.count(m)
    }

    /// Whether there is no string: as [`len`](Self::len).
    pub fn is_empty(&self, m: &mut Mutator<'_>) -> bool {
        self.len(m) == 0
    }
}

impl<T: Trace<Tail = u8>> Table<T> {
    fn count(&self, m: &Mutator<'_>) -> usize {
        self.places.get(m).tail().iter().filter(|place| !place.string.is_empty(m)).count()
    }

    /// What is to be done with the table, which is full.
    fn growth(&mut self, m: &Mutator<'_>) -> Growth {
        let full = Full {
            places: self.places.get(m).tail_len(),
            entries: self.count(m),
            added: self.added,
            place: size_of::<Place<T>>(),
            places_for,
        };
        m.inner().table_growth(&mut self.known, &full)
    }

    /// A new table for the strings that are left.
    fn rebuild(&mut self, m: &mut Mutator<'_>) -> Result<(), OutOfMemory> {
        let mut places = loop {
            match self.growth(m) {
                Growth::To(places) => break places,
                Growth::After(cycle) => {
                    let bytes = self.places.get(m).tail_len() * size_of::<Place<T>>();
                    m.stall_for_cycle(cycle, bytes);
                }
            }
        };
        let m = match m.reserve(AllocSize::tail::<Places<T>>(places)) {
            Ok(m) => m,
            Err(_) => {
                // Strings that no cycle had found dead were counted as alive. A whole cycle finds
                // them all.
                m.collect();
                places = places_for(self.count(m));
                m.reserve(AllocSize::tail::<Places<T>>(places))?
            }
        };
        let new = new_places(m, places);
        let mut used = 0;
        for place in self.places.get(m).tail() {
            let Some(string) = place.string.get(m) else { continue };
            let hash = place.hash.get();
            let index = probe(hash, places).find(|&index| new.tail()[index].hash.get() == 0);
            let to = &new.tail()[index.expect("most of the places are unused")];
            to.hash.set(hash);
            to.string.set(m, Some(string));
            used += 1;
        }
        self.used = used;
        self.places.set(m, new);
        self.known = m.inner().table_renewed(self.known.alive, self.added);
        Ok(())
    }
}

/// The places of a table for so many strings: a quarter of them in use.
fn places_for(strings: usize) -> usize {
    (strings * 4).next_power_of_two().max(LEAST)
}

fn new_places<'g, T: Trace>(m: &'g Mutator<'_>, places: usize) -> Gc<'g, Places<T>> {
    m.place_array((), places, PlaceInit { hash: 0, string: None })
}

/// The places where a string with this hash may be, one after the other; `places` is a power of
/// two. Multiplied, so that all bits of the hash count, also those of hashers whose low ones are
/// poor.
fn probe(hash: u64, places: usize) -> impl Iterator<Item = usize> {
    let first = (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
    (0..places).map(move |step| first.wrapping_add(step) & (places - 1))
}

/// The string of that text, or the place for it: a dead string's of the same hash, or one never
/// used.
fn find<'g, T: Trace<Tail = u8>>(
    m: &'g Mutator<'_>,
    places: &'g [Place<T>],
    hash: u64,
    text: &[u8],
) -> Result<Gc<'g, T>, &'g Place<T>> {
    let mut dead = None;
    for index in probe(hash, places.len()) {
        let place = &places[index];
        let found = place.hash.get();
        if found == 0 {
            return Err(dead.unwrap_or(place));
        }
        if found == hash {
            match place.string.get(m) {
                Some(string) if string.tail() == text => return Ok(string),
                Some(_) => {}
                None => dead = dead.or(Some(place)),
            }
        }
    }
    unreachable!("a quarter of the places is unused")
}

impl<T: Trace<Tail = u8>, H> fmt::Debug for InternTable<T, H> {
    /// Prints the type of the strings: the number is available to a mutator alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InternTable<{}>", T::KIND.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Barrier, Heap};

    /// Of a large heap too: there no cycle would be due before the table had a million places.
    #[test]
    fn a_table_of_strings_that_die_at_once_stays_small_in_heaps_of_all_sizes() {
        for barrier in [Barrier::Load, Barrier::Page, Barrier::StopTheWorld] {
            for bytes in [4 << 20, 16 << 20, 64 << 20, 256 << 20] {
                // Where this machine refuses the page barrier there is nothing to test.
                let Ok(heap) = Heap::builder().max_bytes(bytes).barrier(barrier).build() else { continue };
                heap.enter(|m| -> Result<(), OutOfMemory> {
                    let table: InternTable = InternTable::new(m)?;
                    let mut most = 0;
                    for number in 0..300_000_u32 {
                        let (m, string) = table.intern(m, &number.to_le_bytes())?;
                        assert_eq!(string.tail(), number.to_le_bytes());
                        most = most.max(table.table.lock().places.get(m).tail_len());
                    }
                    let bound = 2 * ((bytes / 64).min(1 << 20) / size_of::<Place<Bytes>>()).max(LEAST);
                    assert!(most <= bound, "{barrier:?}, {bytes}: {most} places, {bound} allowed");
                    Ok(())
                })
                .unwrap()
                .unwrap_or_else(|error| panic!("{barrier:?}, {bytes}: {error}"));
            }
        }
    }
}
