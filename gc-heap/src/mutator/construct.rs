//! Placing objects in bumped memory: header and fields. Never a safepoint.

use super::Mutator;
use crate::barrier::access;
use crate::object::header::header_for;
use crate::object::trace::fields_at;
use crate::object::{Byte, Field, Init, Tail, TailElement, Trace};
use crate::slot::{Gc, GrowableArray, GrowableElement};
use crate::space::LARGE_BYTES;
use gc_core::word::GoodWord;

impl<'s> Mutator<'s> {
    /// Writes the header of a new object.
    ///
    /// # Safety
    /// `start` was bumped for an object of kind `T` with a tail of `len` elements.
    #[inline(always)]
    unsafe fn write_header<T: Trace>(&self, start: u64, bytes: usize, len: usize) {
        let words = std::ptr::with_exposed_provenance_mut::<u64>(start as usize);
        // SAFETY: the caller's: the memory is this thread's until the object is published.
        unsafe {
            words.write(header_for(T::KIND, bytes));
            if <T::Tail as Tail>::STRIDE != 0 {
                words.add(1).write(len as u64);
            }
            if T::IDENTITY_HASH {
                words.byte_add(T::KIND.hash_at as usize).write(0);
            }
        }
    }

    #[inline(always)]
    pub(super) fn new_object<'g, T: Trace>(
        &'g self,
        start: u64,
        bytes: usize,
        len: usize,
        init: T::Init<'g>,
    ) -> Gc<'g, T> {
        let fields = std::ptr::with_exposed_provenance_mut::<T>(start as usize + fields_at::<T>());
        // SAFETY: `start` was bumped for `bytes`, which is the size of a `T` with `len` elements;
        // it is aligned to 8, writable, and nobody refers to it.
        unsafe {
            self.write_header::<T>(start, bytes, len);
            T::write(init, fields);
            Gc::from_word(GoodWord::of_bits(start))
        }
    }

    /// Places an object within the reserved room. Never a safepoint.
    ///
    /// ```
    /// use gc_heap::{Heap, AllocSize, Slot, Trace};
    ///
    /// /// Neither can be made before the other, so one of the slots may be null at first.
    /// #[derive(Trace)]
    /// struct Parent { child: Slot<Option<Child>> }
    ///
    /// #[derive(Trace)]
    /// struct Child { parent: Slot<Parent> }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let m = m.reserve(AllocSize::of::<Parent>() + AllocSize::of::<Child>())?; // for both: a second `reserve` would end `parent`
    ///     let parent = m.place(ParentInit { child: None });
    ///     let child = m.place(ChildInit { parent });
    ///     parent.child.set(m, Some(child));
    ///     assert!(child.parent.get(m).ptr_eq(parent));
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If the room reserved is used up and no block is free at once: a bug of the caller. In stress
    /// mode always.
    #[inline(always)]
    #[track_caller]
    pub fn place<'g, I: Init<'g>>(&'g self, init: I) -> Gc<'g, I::Object> {
        const {
            assert!(
                <<I::Object as Trace>::Tail as Tail>::STRIDE == 0,
                "an object with a tail is placed with place_tail, place_array or place_bytes"
            );
        }
        let bytes = const { <I::Object as Trace>::KIND.fixed_bytes as usize };
        self.initialize(self.bump(bytes), init)
    }

    /// Makes an object without a tail of the memory at `start`, which was bumped for it.
    #[inline(always)]
    fn initialize<'g, I: Init<'g>>(&'g self, start: u64, init: I) -> Gc<'g, I::Object> {
        let fields = std::ptr::with_exposed_provenance_mut::<I::Object>(start as usize + fields_at::<I::Object>());
        // SAFETY: as in `new_object`.
        unsafe {
            self.write_header::<I::Object>(start, const { <I::Object as Trace>::KIND.fixed_bytes as usize }, 0);
            init.write(fields);
            Gc::from_word(GoodWord::of_bits(start))
        }
    }

    #[inline(always)]
    #[track_caller]
    fn tailed<'g, T: Trace>(&'g self, init: T::Init<'g>, len: usize) -> Gc<'g, T> {
        const { assert!(<T::Tail as Tail>::STRIDE != 0, "this type has no tail: use place") }
        let bytes = T::KIND.checked_size_of(len).expect("an object larger than any heap");
        let start = self.bump_sized(bytes);
        // The memory was reserved for another object: a tail with slots must hold no stale words
        // while it is not written yet.
        if const { T::KIND.tail_may_have_slots() || T::GROWS } && bytes > LARGE_BYTES && !self.large_is_zero.get() {
            self.zero_large(start, bytes);
        }
        self.new_object(start, bytes, len, init)
    }

    /// Places an object whose tail comes from an iterator, which may place further objects within
    /// the room. Never a safepoint, however long the tail is: see
    /// [`place_array`](Self::place_array).
    ///
    /// If the iterator knows its length (both bounds of its `size_hint` are equal), the elements
    /// are written directly into the object. Otherwise they are collected first, outside the heap.
    ///
    /// ```
    /// use gc_heap::{Bytes, Heap, AllocSize, SlotArray};
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let line = "a b  c";
    ///     let texts = line.split(' ').fold(AllocSize::NONE, |room, word| room + AllocSize::tail::<Bytes>(word.len()));
    ///     let m = m.reserve(AllocSize::tail::<SlotArray<Bytes>>(line.split(' ').count()) + texts)?;
    ///     let words = m.place_tail::<SlotArray<Bytes>, _>((), line.split(' ').map(|word| m.place_bytes((), word.as_bytes())));
    ///     let lens: Vec<_> = words.tail().iter().map(|word| word.get(m).tail_len()).collect();
    ///     assert_eq!(lens, [1, 1, 0, 1]);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// As [`place`](Self::place); and if the iterator yields fewer elements than it announced.
    #[inline(always)]
    #[track_caller]
    pub fn place_tail<'g, T, I>(&'g self, init: T::Init<'g>, tail: I) -> Gc<'g, T>
    where
        T: Trace,
        T::Tail: TailElement,
        I: IntoIterator<Item = <T::Tail as Field>::Init<'g>>,
    {
        let mut tail = tail.into_iter();
        let (len, Some(most)) = tail.size_hint() else { return self.place_collected(init, tail) };
        if len != most {
            return self.place_collected(init, tail);
        }
        let gc = self.tailed::<T>(init, len);
        let first = tail_of(gc);
        // A large object's memory is zero already.
        if const { T::KIND.tail_may_have_slots() } && len * <T::Tail as Tail>::STRIDE <= LARGE_BYTES {
            // SAFETY: `len` elements were bumped after the fixed part. Zeroed first: the iterator
            // may panic or place objects, and slots must be valid by then. No thread reads other
            // elements before the object is returned.
            unsafe { first.write_bytes(0, len) };
        }
        for index in 0..len {
            let element = tail.next().expect("the iterator yielded fewer elements than it announced");
            // SAFETY: `index < len`; nobody refers to the object yet.
            unsafe { <T::Tail as Field>::write(element, first.add(index)) };
        }
        gc
    }

    /// Places an object with a tail of `len` unwritten bytes: they hold what
    /// former objects left.
    ///
    /// # Safety
    /// Nobody looks at the tail before it was written.
    #[track_caller]
    pub(crate) unsafe fn place_unwritten<'g, T: Trace<Tail: Byte>>(
        &'g self,
        init: T::Init<'g>,
        len: usize,
    ) -> Gc<'g, T> {
        self.tailed::<T>(init, len)
    }

    /// Places an array that grows, whose elements are zero: without a pass over them where it is
    /// large. The caller makes them empty before another thread sees the array.
    #[track_caller]
    pub(super) fn place_zeroed<E: GrowableElement>(&self, len: usize) -> Gc<'_, GrowableArray<E>> {
        let gc = self.tailed::<GrowableArray<E>>((), len);
        if len * size_of::<E>() <= LARGE_BYTES {
            // SAFETY: `len` elements were bumped after the fixed part.
            unsafe { tail_of(gc).write_bytes(0, len) };
        }
        gc
    }

    /// Collects first: the elements are not in an object yet, so no other thread sees them, and
    /// nothing moves.
    #[track_caller]
    fn place_collected<'g, T>(
        &'g self,
        init: T::Init<'g>,
        tail: impl Iterator<Item = <T::Tail as Field>::Init<'g>>,
    ) -> Gc<'g, T>
    where
        T: Trace,
        T::Tail: TailElement,
    {
        let elements: Vec<_> = tail.collect();
        self.place_copy(init, &elements)
    }

    /// Places an object whose tail is a copy of these elements: numbers, references, values, or
    /// what structs are made from. Never a safepoint. Numbers, references and values are copied at
    /// once, as bytes are by [`place_bytes`](Self::place_bytes).
    ///
    /// ```
    /// use gc_heap::{Array, Heap, Num, AllocSize, SlotArray, Tagged, Value};
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let samples: Vec<f32> = (0..50_000_u16).map(f32::from).collect();
    ///     let m = m.reserve(AllocSize::tail::<Array<f32>>(samples.len()).times(2) + AllocSize::tail::<SlotArray<Tagged>>(3))?;
    ///     let fixed = m.place_copy::<Array<f32>>((), &samples);
    ///     let changes = m.place_copy::<Array<Num<f32>>>((), fixed.tail()); // from one object to another
    ///     assert_eq!(changes.tail()[99].get(), 99.0);
    ///     let values = [fixed.into(), changes.into(), Value::NIL];
    ///     let vector = m.place_copy::<SlotArray<Tagged>>((), &values);
    ///     assert!(vector.tail()[1].get(m).is_identical(changes.into()));
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// As [`place`](Self::place).
    #[inline(always)]
    #[track_caller]
    pub fn place_copy<'g, T>(&'g self, init: T::Init<'g>, elements: &[<T::Tail as Field>::Init<'g>]) -> Gc<'g, T>
    where
        T: Trace,
        T::Tail: TailElement,
    {
        const { assert!(!std::mem::needs_drop::<<T::Tail as Field>::Init<'static>>(), "initialisers are plain data") };
        let gc = self.tailed::<T>(init, elements.len());
        let first = tail_of(gc);
        if const { <T::Tail as Field>::COPIES && size_of::<<T::Tail as Field>::Init<'static>>() == size_of::<T::Tail>() }
        {
            // SAFETY: as many elements were bumped after the fixed part, and the source, a borrowed
            // slice, does not overlap them. An element's initialiser is as the element lies
            // (`COPIES`).
            unsafe { first.copy_from_nonoverlapping(elements.as_ptr().cast(), elements.len()) };
            if const { <T::Tail as Tail>::MAP.has_slots() } {
                // SAFETY: just initialised, aligned to 8, and each is a slot: what `COPIES` is a
                // word long.
                access::initialised(|| unsafe { std::slice::from_raw_parts(first.cast(), elements.len()) });
            }
            return gc;
        }
        for (index, element) in elements.iter().enumerate() {
            // SAFETY: initialisers are plain data (`Field`), so a copy of one's bytes is another.
            // `index` is below the length, and as many elements were bumped after the fixed part.
            unsafe { <T::Tail as Field>::write(std::ptr::read(element), first.add(index)) };
        }
        gc
    }

    /// Places an object whose tail is `len` times the same element: a number, a value, a null, or
    /// what a struct is made from.
    ///
    /// ```
    /// use gc_heap::{Heap, Num, AllocSize, Slot, Tagged, Trace, Value};
    ///
    /// #[derive(Trace)]
    /// struct Entry { hash: Num<u64>, value: Slot<Tagged> }
    ///
    /// #[derive(Trace)]
    /// #[trace(tail = Entry)]
    /// struct Table { used: Num<usize> }
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let m = m.reserve(AllocSize::tail::<Table>(64))?;
    ///     let table = m.place_array::<Table>(TableInit { used: 0 }, 64, EntryInit { hash: 0, value: Value::NIL });
    ///     assert!(table.tail().iter().all(|entry| entry.hash.get() == 0 && entry.value.get(m).is_nil()));
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Never a safepoint, however long the tail is: the next pause, and with it all other threads,
    /// waits until the last element is written. ([`reserve`](Self::reserve), which commits the
    /// memory before, and zeroes it for slots, has a safepoint each MiB.) If that wait is too long,
    /// build a large array as a table of pieces:
    ///
    /// ```
    /// use gc_heap::{Array, Heap, Num, AllocSize, SlotArray};
    ///
    /// /// A million counters in pieces of 512 KiB, with a safepoint between two.
    /// type Pieces = SlotArray<Option<Array<Num<u64>>>>;
    /// const PIECE: usize = 1 << 16;
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let count = 1_000_000_usize.div_ceil(PIECE);
    ///     let pieces = m.build::<Pieces>(AllocSize::tail::<Pieces>(count), |m| m.place_array((), count, None))?;
    ///     for index in 0..count {
    ///         let m = m.reserve(AllocSize::tail::<Array<Num<u64>>>(PIECE))?;
    ///         pieces.get(m).tail()[index].set(m, Some(m.place_array((), PIECE, 0)));
    ///     }
    ///     let counter = |index: usize| pieces.get(m).tail()[index / PIECE].get(m).map(|piece| &piece.tail()[index % PIECE]);
    ///     counter(999_999).unwrap().set(7);
    ///     assert_eq!(counter(999_999).map(Num::get), Some(7));
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// As [`place`](Self::place).
    #[inline(always)]
    #[track_caller]
    pub fn place_array<'g, T>(&'g self, init: T::Init<'g>, len: usize, fill: <T::Tail as Field>::Init<'g>) -> Gc<'g, T>
    where
        T: Trace,
        T::Tail: TailElement,
    {
        const { assert!(!std::mem::needs_drop::<<T::Tail as Field>::Init<'static>>(), "initialisers are plain data") };
        let gc = self.tailed::<T>(init, len);
        let first = tail_of(gc);
        for index in 0..len {
            // SAFETY: initialisers are plain data (`Field`), so a copy of this one's bytes is
            // another. `index < len`, and `len` elements were bumped after the fixed part.
            unsafe { <T::Tail as Field>::write(std::ptr::read(&raw const fill), first.add(index)) };
        }
        gc
    }

    /// Places an object whose tail is a copy of these bytes. Never a safepoint. They may be those
    /// of another object, read after the reservation.
    ///
    /// ```
    /// use gc_heap::{Bytes, Heap, AllocSize};
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let text = m.build::<Bytes>(AllocSize::tail::<Bytes>(5), |m| m.place_bytes((), b"hello"))?;
    ///     let len = text.get(m).tail_len() - 1;
    ///     let m = m.reserve(AllocSize::tail::<Bytes>(len))?;
    ///     // After the safepoint, one object's bytes may well become another's.
    ///     let rest = m.place_bytes::<Bytes>((), &text.get(m).tail()[1..]);
    ///     assert_eq!(rest.tail(), b"ello");
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// As [`place`](Self::place).
    #[inline(always)]
    #[track_caller]
    pub fn place_bytes<'g, T>(&'g self, init: T::Init<'g>, bytes: &[u8]) -> Gc<'g, T>
    where
        T: Trace,
        T::Tail: Byte,
    {
        let gc = self.tailed::<T>(init, bytes.len());
        // SAFETY: as many bytes were bumped after the fixed part, and the source, a borrowed slice,
        // does not overlap them. A `Byte` is as a `u8` lies.
        unsafe { tail_of(gc).cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        gc
    }

    /// Places an object if there is memory for it without a safepoint; otherwise returns the
    /// initialiser. Never waits.
    ///
    /// It allocates blocks as long as any are free, so a loop of it must reach safepoints in
    /// another way.
    ///
    /// # Errors
    /// The initialiser. Its references end at the safepoint that reserves memory, so construct it
    /// again after that:
    ///
    /// ```
    /// use gc_heap::{Heap, Local, Mutator, OutOfMemory, AllocSize, Slot, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Node { value: u64, next: Slot<Option<Node>> }
    ///
    /// fn push(m: &mut Mutator<'_>, list: Local<'_, Option<Node>>, value: u64) -> Result<(), OutOfMemory> {
    ///     if let Ok(node) = m.try_alloc(NodeInit { value, next: list.get(m) }) {
    ///         list.set(m, Some(node));
    ///         return Ok(());
    ///     }
    ///     let m = m.reserve(AllocSize::of::<Node>())?;
    ///     list.set(m, Some(m.place(NodeInit { value, next: list.get(m) })));
    ///     Ok(())
    /// }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), OutOfMemory> {
    ///     let list = m.local_of::<Option<Node>>(None);
    ///     for value in 0..100_000 {
    ///         push(m, list, value)?;
    ///         m.safepoint();
    ///     }
    ///     assert_eq!(list.get(m).map(|node| node.value), Some(99_999));
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_alloc<'g, I: Init<'g>>(&'g self, init: I) -> Result<Gc<'g, I::Object>, I> {
        let bytes = <I::Object as Trace>::KIND.fixed_bytes as usize;
        // Not `or_else`, after which the compiler tests again what it got.
        let start = match self.try_bump(bytes) {
            Some(start) => start,
            None => match self.try_bump_slow(bytes) {
                Some(start) => start,
                None => return Err(init),
            },
        };
        Ok(self.initialize(start, init))
    }
}

#[inline(always)]
fn tail_of<T: Trace>(gc: Gc<'_, T>) -> *mut T::Tail {
    let start = std::ptr::with_exposed_provenance_mut::<u8>(gc.word().bits() as usize);
    start.wrapping_add(T::KIND.fixed_bytes as usize).cast()
}
