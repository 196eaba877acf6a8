//! The objects of the language in the heap.
//!
//! Threads share all of them. A slot or number is read and written whole; nothing else is promised
//! to a program that races.

use crate::code::Code;
use crate::native::Native;
use gc_heap::{Gc, InternTable, Mutator, Num, Plain, Slot, Tagged, Trace, Value};

/// A string. Interned: strings of equal text are one object.
#[derive(Trace)]
#[trace(tail = u8)]
pub(crate) struct Str;

/// All strings of a program: weak, so that a string which only the table knows is collected.
pub(crate) type Strings = InternTable<Str, rustc_hash::FxBuildHasher>;

/// A function's text, and the objects that it names: strings and functions.
#[derive(Trace)]
#[trace(tail = Slot<Tagged>)]
pub(crate) struct Function {
    pub(crate) code: Plain<&'static Code>,
}

/// A function with the variables that it captured.
#[derive(Trace)]
#[trace(tail = Slot<Cell>)]
pub(crate) struct Closure {
    pub(crate) function: Slot<Function>,
    /// The function's, one load nearer.
    pub(crate) code: Plain<&'static Code>,
}

/// A variable that a closure captures.
#[derive(Trace)]
pub(crate) struct Cell {
    pub(crate) value: Slot<Tagged>,
}

/// An entry of a class's methods; without a method it is unused.
#[derive(Trace)]
pub(crate) struct MethodEntry {
    pub(crate) symbol: Num<u32>,
    pub(crate) method: Slot<Option<Closure>>,
}

/// Methods by name, open addressing; the length is a power of two and at least twice the number of
/// methods.
#[derive(Trace)]
#[trace(tail = MethodEntry)]
pub(crate) struct Methods {
    pub(crate) count: Num<u32>,
}

/// A class.
#[derive(Trace)]
pub(crate) struct Class {
    pub(crate) name: Slot<Str>,
    pub(crate) methods: Slot<Methods>,
    pub(crate) init: Slot<Option<Closure>>,
    /// How many fields its next instance has room for: as many as its methods set, or as one of its
    /// instances had.
    pub(crate) fields: Num<u32>,
}

/// An instance. Its shape tells which field stands where: the first in the tail, those that did not
/// fit in `more`.
#[derive(Trace)]
#[trace(tail = Slot<Tagged>)]
pub(crate) struct Instance {
    pub(crate) class: Slot<Class>,
    /// Nil, [`Fields`], or for the shape [`DICTIONARY`](crate::shapes::DICTIONARY) a
    /// [`Dictionary`].
    pub(crate) more: Slot<Tagged>,
    pub(crate) shape: Num<u32>,
}

/// Fields that did not fit their instance.
#[derive(Trace)]
#[trace(tail = Slot<Tagged>)]
pub(crate) struct Fields;

/// An entry of a dictionary; `key` is the symbol plus 1, or 0 while it is unused.
#[derive(Trace)]
pub(crate) struct DictionaryEntry {
    pub(crate) key: Num<u32>,
    pub(crate) value: Slot<Tagged>,
}

/// Fields by name, for instances that have too many for shapes. Open addressing, never more than
/// half full.
#[derive(Trace)]
#[trace(tail = DictionaryEntry)]
pub(crate) struct Dictionary {
    pub(crate) count: Num<u32>,
}

/// A method with the instance it was taken from.
#[derive(Trace)]
pub(crate) struct BoundMethod {
    pub(crate) receiver: Slot<Tagged>,
    pub(crate) method: Slot<Closure>,
}

/// A function of the VM.
#[derive(Trace)]
pub(crate) struct NativeFunction {
    pub(crate) native: Plain<Native>,
}

/// The global variables, by number. An integer, which is no value of the language, stands for an
/// undefined one.
#[derive(Trace)]
#[trace(tail = Slot<Tagged>)]
pub(crate) struct Globals;

/// A thread of the program, as the program holds it.
#[derive(Trace)]
pub(crate) struct ThreadHandle {
    pub(crate) number: u64,
    /// 0 while it runs, then [`THREAD_DONE`] or [`THREAD_FAILED`].
    pub(crate) state: Num<u32>,
    pub(crate) result: Slot<Tagged>,
}

pub(crate) const THREAD_DONE: u32 = 1;
pub(crate) const THREAD_FAILED: u32 = 2;

/// A message that waits in a channel.
#[derive(Trace)]
pub(crate) struct Message {
    pub(crate) value: Slot<Tagged>,
    pub(crate) next: Slot<Option<Message>>,
}

/// A queue between threads. Touched only under the lock of [`crate::thread`].
#[derive(Trace)]
pub(crate) struct Channel {
    pub(crate) number: u64,
    pub(crate) first: Slot<Option<Message>>,
    pub(crate) last: Slot<Option<Message>>,
    pub(crate) len: Num<u64>,
    pub(crate) capacity: u64,
}

/// What stands in for an undefined global.
pub(crate) const UNDEFINED: Value<'static> = Value::special(0);

impl Methods {
    /// Where the search for a name begins, in a table of `len` entries.
    #[inline(always)]
    pub(crate) fn home(symbol: u32, len: usize) -> usize {
        symbol as usize & (len - 1)
    }
}

/// The method of that name in a table.
#[inline(always)]
pub(crate) fn find_method<'g>(m: &'g Mutator<'_>, methods: Gc<'g, Methods>, symbol: u32) -> Option<Gc<'g, Closure>> {
    let entries = methods.tail();
    let mut index = Methods::home(symbol, entries.len());
    loop {
        let entry = entries.get(index)?;
        let method = entry.method.get(m)?;
        if entry.symbol.get() == symbol {
            return Some(method);
        }
        index = (index + 1) & (entries.len() - 1);
    }
}

/// Adds or replaces a method. The table has room.
pub(crate) fn put_method<'g>(m: &'g Mutator<'_>, methods: Gc<'g, Methods>, symbol: u32, method: Gc<'g, Closure>) {
    let entries = methods.tail();
    let mut index = Methods::home(symbol, entries.len());
    loop {
        let entry = &entries[index];
        match entry.method.get(m) {
            Some(_) if entry.symbol.get() != symbol => index = (index + 1) & (entries.len() - 1),
            old => {
                entry.symbol.set(symbol);
                entry.method.set(m, Some(method));
                methods.count.set(methods.count.get() + u32::from(old.is_none()));
                return;
            }
        }
    }
}

/// Whether a value counts as false: nil and false do.
#[inline(always)]
pub(crate) fn is_falsey(value: Value<'_>) -> bool {
    value.is_identical(Value::FALSE) || value.is_nil()
}

/// The language's equality: numbers by value, all else by identity.
#[inline(always)]
pub(crate) fn equal(a: Value<'_>, b: Value<'_>) -> bool {
    match (a.as_num(), b.as_num()) {
        (Some(a), Some(b)) => a == b,
        _ => a.is_identical(b),
    }
}
