//! Fields and methods of instances, off the fast path: what the caches did not know.

use super::{Fault, Shared, Vm};
use crate::code::Site;
use crate::object::{
    BoundMethod, BoundMethodInit, Class, Dictionary, DictionaryEntry, DictionaryEntryInit, DictionaryInit, Fields,
    Instance, find_method,
};
use crate::shapes::{DICTIONARY, Found, Lookups, Store};
use gc_heap::{AllocSize, Gc, Mutator, OutOfMemory, Slot, Tagged, Value};
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entries of the least dictionary.
const FIRST_DICTIONARY: usize = 16;

/// Room for fields is never guessed larger than this.
pub(super) const MAX_GUESSED: u32 = 64;

/// The field at an index that an instance's shape gave.
#[inline(always)]
pub(super) fn field<'g>(m: &'g Mutator<'_>, instance: Gc<'g, Instance>, index: u32) -> Value<'g> {
    match instance.tail().get(index as usize) {
        Some(slot) => slot.get(m),
        None => more_field(instance, m, index).map_or(Value::NIL, |slot| slot.get(m)),
    }
}

#[cold]
#[inline(never)]
fn more_field<'g>(instance: Gc<'g, Instance>, m: &'g Mutator<'_>, index: u32) -> Option<&'g Slot<Tagged>> {
    let more = instance.more.get(m).downcast::<Fields>()?;
    more.tail().get(index as usize - instance.tail_len())
}

/// The entry of a key, or the one where it would go.
fn dictionary_entry<'g>(dictionary: Gc<'g, Dictionary>, symbol: u32) -> &'g DictionaryEntry {
    let entries = dictionary.tail();
    let mask = entries.len() - 1;
    let mut index = symbol as usize & mask;
    loop {
        let key = entries[index].key.get();
        if key == 0 || key == symbol + 1 {
            return &entries[index];
        }
        index = (index + 1) & mask;
    }
}

fn place_dictionary<'g>(m: &'g Mutator<'_>, len: usize) -> Gc<'g, Dictionary> {
    m.place_array::<Dictionary>(DictionaryInit { count: 0 }, len, DictionaryEntryInit { key: 0, value: Value::NIL })
}

/// What a site's cache, or else the thread's lookups, say of a name, for this shape.
#[inline(always)]
pub(super) fn found_at(lookups: &Lookups, site: &Site, shape: u32) -> Option<Found> {
    let [newer, older] = &site.cache;
    Found::of_cached(newer.load(Ordering::Relaxed), shape)
        .or_else(|| Found::of_cached(older.load(Ordering::Relaxed), shape))
        .or_else(|| lookups.found(shape, site.symbol))
}

/// As `found_at`, for a write.
#[inline(always)]
pub(super) fn store_at(lookups: &Lookups, site: &Site, shape: u32) -> Option<Store> {
    let [newer, older] = &site.cache;
    Store::of_cached(newer.load(Ordering::Relaxed), shape)
        .or_else(|| Store::of_cached(older.load(Ordering::Relaxed), shape))
        .or_else(|| lookups.store(shape, site.symbol))
}

fn remember(site: &Site, found: u64) {
    let [newer, older] = &site.cache;
    older.store(newer.load(Ordering::Relaxed), Ordering::Relaxed);
    newer.store(found, Ordering::Relaxed);
}

impl Vm {
    pub(super) fn undefined_property(&self, symbol: u32) -> Fault {
        Fault::Error(format!("Undefined property '{}'.", self.shared.names.lock().symbol_name(symbol)))
    }

    /// The value of a field, if there is one; the site remembers.
    fn find_field<'g>(&mut self, m: &'g Mutator<'_>, instance: Gc<'g, Instance>, site: &Site) -> Option<Value<'g>> {
        let shape = instance.shape.get();
        if shape == DICTIONARY {
            let dictionary = instance.more.get(m).downcast::<Dictionary>()?;
            let entry = dictionary_entry(dictionary, site.symbol);
            return (entry.key.get() != 0).then(|| entry.value.get(m));
        }
        let found = found_at(&self.lookups, site, shape).unwrap_or_else(|| {
            let found = self.shared.shapes.find(shape, site.symbol);
            remember(site, found.cached(shape));
            self.lookups.remember_found(shape, site.symbol, found);
            found
        });
        match found {
            Found::Field(index) => Some(field(m, instance, index)),
            Found::NoField => None,
        }
    }

    /// `to = object.name`, by absolute slots.
    pub(super) fn get_property(
        &mut self,
        m: &mut Mutator<'_>,
        site: &Site,
        to: usize,
        object: usize,
    ) -> Result<(), Fault> {
        let receiver = self.slot(m, object).get(m);
        let Some(instance) = receiver.downcast::<Instance>() else {
            return Err(Fault::error("Only instances have properties."));
        };
        if let Some(value) = self.find_field(m, instance, site) {
            self.slot(m, to).set(m, value);
            return Ok(());
        }
        if find_method(m, instance.class.get(m).methods.get(m), site.symbol).is_none() {
            return Err(self.undefined_property(site.symbol));
        }
        let m = self.reserve(m, AllocSize::of::<BoundMethod>())?;
        let receiver = self.slot(m, object).get(m);
        let method = receiver
            .downcast::<Instance>()
            .and_then(|instance| find_method(m, instance.class.get(m).methods.get(m), site.symbol))
            .expect("methods are never taken away");
        self.slot(m, to).set(m, m.place(BoundMethodInit { receiver, method }).into());
        Ok(())
    }

    /// `to = the method of the class, bound to the object`.
    pub(super) fn get_super(
        &mut self,
        m: &mut Mutator<'_>,
        site: &Site,
        to: usize,
        object: usize,
        class: usize,
    ) -> Result<(), Fault> {
        let m = self.reserve(m, AllocSize::of::<BoundMethod>())?;
        let class = self.slot(m, class).get(m).downcast::<Class>().expect("`super` is a class");
        let Some(method) = find_method(m, class.methods.get(m), site.symbol) else {
            return Err(self.undefined_property(site.symbol));
        };
        let receiver = self.slot(m, object).get(m);
        self.slot(m, to).set(m, m.place(BoundMethodInit { receiver, method }).into());
        Ok(())
    }

    /// `base.name(...)`.
    pub(super) fn invoke(
        &mut self,
        m: &mut Mutator<'_>,
        site: &Site,
        base: usize,
        arguments: usize,
    ) -> Result<(), Fault> {
        let Some(instance) = self.slot(m, base).get(m).downcast::<Instance>() else {
            return Err(Fault::error("Only instances have methods."));
        };
        match self.find_field(m, instance, site) {
            Some(value) => {
                self.slot(m, base).set(m, value);
                self.call(m, base, arguments)
            }
            None => self.invoke_of(m, instance.class.get(m), site.symbol, base, arguments),
        }
    }

    /// `object.name = value`, by absolute slots.
    pub(super) fn set_property(
        &mut self,
        m: &mut Mutator<'_>,
        site: &Site,
        object: usize,
        value: usize,
    ) -> Result<(), Fault> {
        let Some(instance) = self.slot(m, object).get(m).downcast::<Instance>() else {
            return Err(Fault::error("Only instances have fields."));
        };
        let shape = instance.shape.get();
        if shape == DICTIONARY {
            return Ok(self.set_in_dictionary(m, site.symbol, object, value)?);
        }
        let known = store_at(&self.lookups, site, shape);
        let Some(store) = known.or_else(|| self.shared.shapes.store(shape, site.symbol)) else {
            self.make_dictionary(m, object)?;
            return Ok(self.set_in_dictionary(m, site.symbol, object, value)?);
        };
        if known.is_none() {
            remember(site, store.cached(shape));
            self.lookups.remember_store(shape, site.symbol, store);
        }
        Ok(self.store_field(m, store, object, value)?)
    }

    fn store_field(
        &mut self,
        m: &mut Mutator<'_>,
        store: Store,
        object: usize,
        value: usize,
    ) -> Result<(), OutOfMemory> {
        let instance = self.instance(m, object);
        let place = store.index as usize;
        if place < instance.tail_len() {
            instance.tail()[place].set(m, self.slot(m, value).get(m));
            instance.shape.set(store.shape);
            return Ok(());
        }
        let class = instance.class.get(m);
        class.fields.set(class.fields.get().max((store.index + 1).min(MAX_GUESSED)));
        let beyond = place - instance.tail_len();
        let have = instance.more.get(m).downcast::<Fields>().map_or(0, Gc::tail_len);
        if beyond >= have {
            let len = (beyond + 1).next_power_of_two().max(4);
            let m = self.reserve(m, AllocSize::tail::<Fields>(len))?;
            let instance = self.instance(m, object);
            let old = instance.more.get(m).downcast::<Fields>();
            let more = m.place_array::<Fields>((), len, Value::NIL);
            for (new, old) in more.tail().iter().zip(old.iter().flat_map(|old| old.tail())) {
                new.set(m, old.get(m));
            }
            instance.more.set(m, more.into());
        }
        let instance = self.instance(m, object);
        if let Some(slot) = more_field(instance, m, store.index) {
            slot.set(m, self.slot(m, value).get(m));
        }
        instance.shape.set(store.shape);
        Ok(())
    }

    fn instance<'g>(&self, m: &'g Mutator<'_>, at: usize) -> Gc<'g, Instance> {
        self.slot(m, at).get(m).downcast::<Instance>().expect("the caller has looked")
    }

    /// Writes to dictionaries happen one at a time: two at once could fill one to the brim. Whoever
    /// has the lock may be at a safepoint, so whoever waits for it is parked.
    fn lock_dictionaries<'a>(&self, shared: &'a Shared, m: &mut Mutator<'_>) -> MutexGuard<'a, ()> {
        shared.dictionaries.try_lock().unwrap_or_else(|| {
            self.tidy(m);
            m.blocking(|| shared.dictionaries.lock())
        })
    }

    /// All fields of an instance go to a dictionary.
    fn make_dictionary(&mut self, m: &mut Mutator<'_>, object: usize) -> Result<(), OutOfMemory> {
        let shared = Arc::clone(&self.shared);
        let _lock = self.lock_dictionaries(&shared, m);
        let shape = self.instance(m, object).shape.get();
        if shape == DICTIONARY {
            return Ok(()); // another thread was first
        }
        let symbols = shared.shapes.symbols(shape);
        let len = (symbols.len() * 4).next_power_of_two();
        let m = self.reserve(m, AllocSize::tail::<Dictionary>(len))?;
        let instance = self.instance(m, object);
        let dictionary = place_dictionary(m, len);
        for (index, &symbol) in symbols.iter().enumerate() {
            let entry = dictionary_entry(dictionary, symbol);
            entry.key.set(symbol + 1);
            entry.value.set(m, field(m, instance, index as u32));
        }
        dictionary.count.set(symbols.len() as u32);
        instance.more.set(m, dictionary.into());
        instance.shape.set(DICTIONARY);
        Ok(())
    }

    /// The dictionary of an instance. A thread that added a field by its old shape meanwhile may
    /// have put another thing in its place: then what it held is lost.
    fn dictionary<'g>(&self, m: &'g Mutator<'_>, object: usize) -> Option<Gc<'g, Dictionary>> {
        self.instance(m, object).more.get(m).downcast()
    }

    fn set_in_dictionary(
        &mut self,
        m: &mut Mutator<'_>,
        symbol: u32,
        object: usize,
        value: usize,
    ) -> Result<(), OutOfMemory> {
        let shared = Arc::clone(&self.shared);
        let _lock = self.lock_dictionaries(&shared, m);
        let (count, len) = self.dictionary(m, object).map_or((0, 0), |old| (old.count.get() as usize, old.tail_len()));
        let full = count * 2 >= len;
        let new_len = if full { (len * 2).max(FIRST_DICTIONARY) } else { FIRST_DICTIONARY };
        // Reserved in any case: from here on there is no safepoint.
        let m = self.reserve(m, AllocSize::tail::<Dictionary>(new_len))?;
        let dictionary = match self.dictionary(m, object) {
            Some(dictionary) if !full => dictionary,
            old => {
                let new = place_dictionary(m, new_len);
                for old in old.iter().flat_map(|old| old.tail()).filter(|entry| entry.key.get() != 0) {
                    let entry = dictionary_entry(new, old.key.get() - 1);
                    entry.key.set(old.key.get());
                    entry.value.set(m, old.value.get(m));
                }
                new.count.set(old.map_or(0, |old| old.count.get()));
                self.instance(m, object).more.set(m, new.into());
                new
            }
        };
        let entry = dictionary_entry(dictionary, symbol);
        if entry.key.get() == 0 {
            dictionary.count.set(dictionary.count.get() + 1);
            entry.key.set(symbol + 1);
        }
        entry.value.set(m, self.slot(m, value).get(m));
        Ok(())
    }
}
