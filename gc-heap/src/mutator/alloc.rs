//! Calls that reserve memory and make an object of it at once.

use super::Mutator;
use super::alloc_size::AllocSize;
use crate::error::OutOfMemory;
use crate::handles::local::Local;
use crate::object::{Tail, Trace};
use crate::slot::{Gc, SlotType};

impl<'s> Mutator<'s> {
    /// Reserves room for one object, makes it, and roots it in the current scope. A safepoint,
    /// before `init` runs: it cannot use earlier raw references, only locals.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    ///
    /// ```
    /// use gc_heap::{Heap, Slot, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Leaf { value: u64 }
    ///
    /// #[derive(Trace)]
    /// struct Twig { leaf: Slot<Leaf> }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let leaf = m.alloc::<Leaf>(|_| LeafInit { value: 3 })?;
    ///     let twig = m.alloc::<Twig>(|m| TwigInit { leaf: leaf.get(m) })?; // not `let leaf = leaf.get(m)` before
    ///     assert_eq!(twig.get(m).leaf.get(m).value, 3);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn alloc<T: Trace>(
        &mut self,
        init: impl for<'g> FnOnce(&'g Mutator<'s>) -> T::Init<'g>,
    ) -> Result<Local<'s, T>, OutOfMemory> {
        let (m, gc) = self.alloc_raw::<T>(init)?;
        Ok(m.local(gc))
    }

    /// Reserves room for one object and makes it. A safepoint, before `init` runs. Returns the
    /// mutator, which the new reference borrows: continue with that one.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    ///
    /// ```
    /// use gc_heap::{Heap, Root, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Config { limit: u64 }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// let config = heap.enter(|m| -> Result<Root<Config>, gc_heap::OutOfMemory> {
    ///     let (m, config) = m.alloc_raw::<Config>(|_| ConfigInit { limit: 3 })?;
    ///     Ok(Root::new(m, config)) // no local on the way
    /// })??;
    /// assert_eq!(heap.enter(|m| config.get(m).limit)?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn alloc_raw<T: Trace>(
        &mut self,
        init: impl for<'g> FnOnce(&'g Mutator<'s>) -> T::Init<'g>,
    ) -> Result<(&Mutator<'s>, Gc<'_, T>), OutOfMemory> {
        const { assert!(<T::Tail as Tail>::STRIDE == 0, "an object with a tail is placed with reserve and place_tail") }
        let m = self.reserve(const { AllocSize::of::<T>() })?;
        // The initialiser is user code: it runs before the bump.
        let init = init(m);
        let bytes = T::KIND.fixed_bytes as usize;
        let gc = m.new_object::<T>(m.bump(bytes), bytes, 0, init);
        Ok((m, gc))
    }

    /// Reserves memory, builds objects in it, and roots the result in the current scope. A
    /// safepoint, before `f` runs.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    ///
    /// ```
    /// use gc_heap::{Bytes, Heap, AllocSize, Slot, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Person { name: Slot<Bytes>, friend: Slot<Option<Person>> }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let room = AllocSize::of::<Person>() + AllocSize::tail::<Bytes>(3);
    ///     let ada = m.build::<Person>(room, |m| m.place(PersonInit { name: m.place_bytes((), b"Ada"), friend: None }))?;
    ///     // The type says what the local may hold: this one may become null.
    ///     let friend = m.build::<Option<Person>>(room, |m| {
    ///         Some(m.place(PersonInit { name: m.place_bytes((), b"Bob"), friend: Some(ada.get(m)) }))
    ///     })?;
    ///     assert_eq!(friend.get(m).unwrap().friend.get(m).unwrap().name.get(m).tail(), b"Ada");
    ///     friend.set(m, None);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build<S: SlotType>(
        &mut self,
        room: AllocSize,
        f: impl for<'g> FnOnce(&'g Mutator<'s>) -> S::Loaded<'g>,
    ) -> Result<Local<'s, S>, OutOfMemory> {
        let m = self.reserve(room)?;
        let loaded = f(m);
        Ok(m.local_of::<S>(loaded))
    }
}
