//! The table of interned strings: weak, so that a string which only the table knows is collected.

use crate::object::{InternTable, Interned, InternedInit, Str, StrInit};
use gc_heap::{Gc, Mutator, OutOfMemory, Room, Root};
use parking_lot::Mutex;
use std::hash::Hasher;

const FIRST_LENGTH: usize = 1024;

struct Table {
    entries: Root<InternTable>,
    /// Entries that hold a string, or did.
    used: usize,
}

/// All strings of a program.
pub(crate) struct Strings {
    table: Mutex<Table>,
}

fn hash_of(text: &[u8]) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(text);
    hasher.finish() | 1
}

fn place_table<'g>(m: &'g Mutator<'_>, len: usize) -> Gc<'g, InternTable> {
    m.place_array::<InternTable>((), len, InternedInit { hash: 0, string: None })
}

/// The string of that text in the table, or the place for it: a dead string's, or one never used.
fn find<'g>(m: &'g Mutator<'_>, entries: &'g [Interned], hash: u64, text: &[u8]) -> Result<Gc<'g, Str>, &'g Interned> {
    let mask = entries.len() - 1;
    let mut index = hash as usize >> 20 & mask;
    let mut dead = None;
    loop {
        let entry = &entries[index];
        if entry.hash.get() == 0 {
            return Err(dead.unwrap_or(entry));
        }
        if entry.hash.get() == hash {
            match entry.string.get(m) {
                Some(string) if string.tail() == text => return Ok(string),
                Some(_) => {}
                None => dead = dead.or(Some(entry)),
            }
        }
        index = (index + 1) & mask;
    }
}

impl Strings {
    /// # Errors
    /// If the heap is too small for the table.
    pub(crate) fn new(m: &mut Mutator<'_>) -> Result<Strings, OutOfMemory> {
        let m = m.reserve(Room::tail::<InternTable>(FIRST_LENGTH))?;
        let entries = Root::new(m, place_table(m, FIRST_LENGTH));
        Ok(Strings { table: Mutex::new(Table { entries, used: 0 }) })
    }

    /// The string of that text. May be a safepoint; `before` is called before each.
    ///
    /// # Errors
    /// If the heap is full.
    pub(crate) fn intern<'g, 's>(
        &self,
        m: &'g mut Mutator<'s>,
        text: &[u8],
        before: impl Fn(&Mutator<'_>),
    ) -> Result<(&'g Mutator<'s>, Gc<'g, Str>), OutOfMemory> {
        let mut table = self.table.try_lock().unwrap_or_else(|| {
            // Whoever has the lock may be at a safepoint, so whoever waits for it is parked.
            before(m);
            m.blocking(|| self.table.lock())
        });
        let entries = table.entries.get(m).tail_len();
        if table.used * 4 >= entries * 3 {
            before(m);
            table.rebuild(m)?;
        }
        let room = Room::tail::<Str>(text.len());
        if !m.has_room(room) {
            before(m);
        }
        let m = m.reserve(room)?;
        let hash = hash_of(text);
        let string = match find(m, table.entries.get(m).tail(), hash, text) {
            Ok(string) => string,
            Err(entry) => {
                table.used += usize::from(entry.hash.get() == 0);
                let string = m.place_bytes::<Str>(StrInit { hash }, text);
                entry.hash.set(hash);
                entry.string.set(m, Some(string));
                string
            }
        };
        Ok((m, string))
    }
}

impl Table {
    /// The length of a table for the strings that are left. Strings that no cycle has found dead yet count.
    fn length_wanted(&self, m: &Mutator<'_>) -> usize {
        let entries = self.entries.get(m);
        let left = entries.tail().iter().filter(|entry| entry.string.get(m).is_some()).count();
        (left * 4).next_power_of_two().max(FIRST_LENGTH)
    }

    /// A new table for the strings that are left, at most a quarter full.
    fn rebuild(&mut self, m: &mut Mutator<'_>) -> Result<(), OutOfMemory> {
        let mut len = self.length_wanted(m);
        let m = match m.reserve(Room::tail::<InternTable>(len)) {
            Ok(m) => m,
            Err(_) => {
                // A whole cycle finds every string that is dead.
                m.collect();
                len = self.length_wanted(m);
                m.reserve(Room::tail::<InternTable>(len))?
            }
        };
        let old = self.entries.get(m);
        let new = place_table(m, len);
        let mask = len - 1;
        self.used = 0;
        for string in old.tail().iter().filter_map(|entry| entry.string.get(m)) {
            let mut index = string.hash as usize >> 20 & mask;
            while new.tail()[index].hash.get() != 0 {
                index = (index + 1) & mask;
            }
            new.tail()[index].hash.set(string.hash);
            new.tail()[index].string.set(m, Some(string));
            self.used += 1;
        }
        self.entries.set(m, new);
        Ok(())
    }
}
