//! Placing objects: bump, header, fields. Never a safepoint.

use super::Mutator;
use super::frame::Local;
use super::room::Room;
use crate::error::OutOfMemory;
use crate::object::header::header_for;
use crate::object::trace::fields_at;
use crate::object::{Field, Init, Tail, TailElement, Trace};
use crate::slot::{Gc, SlotType};
use crate::space::blocks::Use;
use crate::space::free::Taker;
use crate::space::{BLOCK_BYTES, LARGE_BYTES};

/// How far ahead of the bump the cache lines are fetched for writing. Measured: 1 to 2 KiB are best.
const PREFETCH_AHEAD: u64 = 1024;

#[inline(always)]
fn prefetch_for_writing(address: u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads and writes nothing and never faults; processors without it execute a no-op.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, nomem, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

impl<'s> Mutator<'s> {
    /// The next `bytes` of the TLAB; an address in the good view.
    #[inline(always)]
    #[track_caller]
    fn bump(&self, bytes: usize) -> u64 {
        let top = self.top.get();
        let new = top + bytes as u64;
        if new > self.limit.get() {
            return self.bump_slow(bytes);
        }
        self.top.set(new);
        prefetch_for_writing(new + PREFETCH_AHEAD);
        top
    }

    /// As `bump` for sizes known at run time: fetches all lines of a larger object.
    #[inline(always)]
    #[track_caller]
    fn bump_sized(&self, bytes: usize) -> u64 {
        if bytes > LARGE_BYTES {
            return self.bump_slow(bytes);
        }
        let top = self.bump(bytes);
        let mut line = 64;
        while line < bytes as u64 {
            prefetch_for_writing(top + PREFETCH_AHEAD + line);
            line += 64;
        }
        top
    }

    /// Past the TLAB's end: the rest of the reservation, or a block that is free without waiting.
    #[inline(never)]
    pub(super) fn try_bump_slow(&self, bytes: usize) -> Option<u64> {
        if bytes > LARGE_BYTES {
            return self.take_large(bytes);
        }
        let reserved = self.reserved.borrow_mut().blocks.pop();
        if reserved.is_none() && self.shared.config.stress.is_on() {
            return None;
        }
        match reserved.or_else(|| self.shared.take_block()) {
            Some(block) => {
                self.harden();
                self.renew_tlab(block);
            }
            None if self.spare.rest() >= bytes => self.swap_spare(),
            None => return None,
        }
        self.record().end.store(0, std::sync::atomic::Ordering::Relaxed); // re-armed by the next safepoint
        let top = self.top.get();
        self.top.set(top + bytes as u64);
        Some(top)
    }

    fn take_large(&self, bytes: usize) -> Option<u64> {
        let needed = bytes.div_ceil(BLOCK_BYTES);
        let mut reserved = self.reserved.borrow_mut();
        let (first, count) = match reserved.runs.iter().position(|&(_, count)| count >= needed) {
            Some(index) => reserved.runs.swap_remove(index),
            None if self.shared.config.stress.is_on() => return None,
            None => {
                let first = self.shared.free.take_run(Taker::Mutator, needed)?;
                let address = self.good_view.get() as usize + first * BLOCK_BYTES;
                // SAFETY: just taken, so nobody else touches it; mapped in the good view.
                unsafe {
                    std::ptr::with_exposed_provenance_mut::<u8>(address).write_bytes(0, needed * BLOCK_BYTES);
                }
                (first, needed)
            }
        };
        let blocks = &self.shared.blocks;
        if count > needed {
            (first + needed..first + count).for_each(|block| blocks.set_usage(block, Use::Free));
            self.shared.free.give(first + needed..first + count);
        }
        if let Some(pages) = &self.shared.pages {
            // As in `open_tlab`: before the use tells a repair to look for an object here.
            pages.admit(&self.shared, first, needed);
        }
        if self.is_marking_or_resolving() {
            self.shared.fill_marks(first);
        }
        blocks.set_live(first, 0);
        blocks.set_run(first, needed);
        (first + 1..first + needed).for_each(|block| blocks.set_run(block, block - first));
        for block in (first..first + needed).rev() {
            blocks.set_birth(block, self.epoch.get());
            blocks.set_usage(block, if block == first { Use::LargeHead } else { Use::LargeRest });
        }
        Some(self.good_view.get() + (first * BLOCK_BYTES) as u64)
    }

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
    fn new_object<'g, T: Trace>(&'g self, start: u64, bytes: usize, len: usize, init: T::Init<'g>) -> Gc<'g, T> {
        let fields = std::ptr::with_exposed_provenance_mut::<T>(start as usize + fields_at::<T>());
        // SAFETY: `start` was bumped for `bytes`, which is the size of a `T` with `len` elements; it is aligned to 8,
        // writable, and nobody refers to it.
        unsafe {
            self.write_header::<T>(start, bytes, len);
            T::write(init, fields);
            Gc::from_word(start)
        }
    }

    /// Places an object within the reserved room. Never a safepoint.
    ///
    /// # Panics
    /// If the room reserved is used up and no block is free at once: a bug of the caller. In stress mode always.
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
        let start = self.bump(bytes);
        let fields = std::ptr::with_exposed_provenance_mut::<I::Object>(start as usize + fields_at::<I::Object>());
        // SAFETY: as in `new_object`.
        unsafe {
            self.write_header::<I::Object>(start, bytes, 0);
            init.write(fields);
            Gc::from_word(start)
        }
    }

    #[inline(always)]
    #[track_caller]
    fn tailed<'g, T: Trace>(&'g self, init: T::Init<'g>, len: usize) -> Gc<'g, T> {
        const { assert!(<T::Tail as Tail>::STRIDE != 0, "this type has no tail: use place") }
        let bytes = T::KIND.checked_size_of(len).expect("an object larger than any heap");
        let start = self.bump_sized(bytes);
        self.new_object(start, bytes, len, init)
    }

    /// Places an object whose tail comes from an iterator, which may place further objects within the room.
    ///
    /// # Panics
    /// As [`place`](Self::place); and if the iterator gives fewer elements than it said.
    #[inline(always)]
    #[track_caller]
    pub fn place_tail<'g, T, I>(&'g self, init: T::Init<'g>, tail: I) -> Gc<'g, T>
    where
        T: Trace,
        T::Tail: TailElement,
        I: IntoIterator<Item = <T::Tail as Field>::Init<'g>>,
        I::IntoIter: ExactSizeIterator,
    {
        let mut tail = tail.into_iter();
        let len = tail.len();
        let gc = self.tailed::<T>(init, len);
        let first = tail_of(gc);
        // SAFETY: `len` elements were bumped after the fixed part. Zeroed first: the iterator may panic or place objects,
        // and what lies here must be valid by then.
        unsafe { first.write_bytes(0, len) };
        for index in 0..len {
            let element = tail.next().expect("the iterator gave fewer elements than it said");
            // SAFETY: `index < len`; nobody refers to the object yet.
            unsafe { <T::Tail as Field>::write(element, first.add(index)) };
        }
        gc
    }

    /// Places an object whose tail is `len` times the same element.
    ///
    /// # Panics
    /// As [`place`](Self::place).
    #[inline(always)]
    #[track_caller]
    pub fn place_array<'g, T>(&'g self, init: T::Init<'g>, len: usize, fill: <T::Tail as Field>::Init<'g>) -> Gc<'g, T>
    where
        T: Trace,
        T::Tail: TailElement,
        <T::Tail as Field>::Init<'g>: Copy,
    {
        let gc = self.tailed::<T>(init, len);
        let first = tail_of(gc);
        for index in 0..len {
            // SAFETY: `index < len`, and `len` elements were bumped after the fixed part.
            unsafe { <T::Tail as Field>::write(fill, first.add(index)) };
        }
        gc
    }

    /// Places an object whose tail is a copy of these bytes.
    ///
    /// # Panics
    /// As [`place`](Self::place).
    #[inline(always)]
    #[track_caller]
    pub fn place_bytes<'g, T: Trace<Tail = u8>>(&'g self, init: T::Init<'g>, bytes: &[u8]) -> Gc<'g, T> {
        let gc = self.tailed::<T>(init, bytes.len());
        // SAFETY: as many bytes were bumped after the fixed part, and the source, a borrowed slice, does not overlap them.
        unsafe { tail_of(gc).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        gc
    }

    /// Places an object where there is room for it without a safepoint; else gives the initialiser back.
    #[inline]
    pub fn try_alloc<'g, I: Init<'g>>(&'g self, init: I) -> Result<Gc<'g, I::Object>, I> {
        let bytes = <I::Object as Trace>::KIND.fixed_bytes as usize;
        let start = if self.top.get() + bytes as u64 <= self.limit.get() {
            self.bump(bytes)
        } else {
            match self.try_bump_slow(bytes) {
                Some(start) => start,
                None => return Err(init),
            }
        };
        let fields = std::ptr::with_exposed_provenance_mut::<I::Object>(start as usize + fields_at::<I::Object>());
        // SAFETY: as in `new_object`.
        unsafe {
            self.write_header::<I::Object>(start, bytes, 0);
            init.write(fields);
            Ok(Gc::from_word(start))
        }
    }

    /// Reserves room for one object, makes it, and roots it in the current scope.
    pub fn alloc<T: Trace>(
        &mut self,
        init: impl for<'g> FnOnce(&'g Mutator<'s>) -> T::Init<'g>,
    ) -> Result<Local<'s, T>, OutOfMemory> {
        let (m, gc) = self.alloc_raw::<T>(init)?;
        Ok(m.local(gc))
    }

    /// Reserves room for one object and makes it.
    pub fn alloc_raw<T: Trace>(
        &mut self,
        init: impl for<'g> FnOnce(&'g Mutator<'s>) -> T::Init<'g>,
    ) -> Result<(&Mutator<'s>, Gc<'_, T>), OutOfMemory> {
        const { assert!(<T::Tail as Tail>::STRIDE == 0, "an object with a tail is placed with reserve and place_tail") }
        let m = self.reserve(const { Room::of::<T>() })?;
        // The initialiser is user code: it runs before the bump.
        let init = init(m);
        let bytes = T::KIND.fixed_bytes as usize;
        let gc = m.new_object::<T>(m.bump(bytes), bytes, 0, init);
        Ok((m, gc))
    }

    /// Reserves room, builds something in it, and roots the result in the current scope.
    pub fn build<S: SlotType>(
        &mut self,
        room: Room,
        f: impl for<'g> FnOnce(&'g Mutator<'s>) -> S::Loaded<'g>,
    ) -> Result<Local<'s, S>, OutOfMemory> {
        let m = self.reserve(room)?;
        let loaded = f(m);
        Ok(m.local_of::<S>(loaded))
    }

    /// Roots what a slot of this type may hold, in the current scope: as [`local`](Self::local), where the value alone does not say
    /// the type. Never a safepoint.
    ///
    /// ```
    /// # use gc_heap::{Bytes, Heap};
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| {
    ///     let last = m.local_of::<Option<Bytes>>(None);
    ///     assert!(last.get(m).is_none());
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// As [`local`](Self::local).
    #[track_caller]
    pub fn local_of<'g, S: SlotType>(&'g self, loaded: S::Loaded<'g>) -> Local<'s, S> {
        self.push_local(S::to_word(loaded))
    }
}

#[inline(always)]
fn tail_of<T: Trace>(gc: Gc<'_, T>) -> *mut T::Tail {
    let start = std::ptr::with_exposed_provenance_mut::<u8>(gc.word() as usize);
    start.wrapping_add(T::KIND.fixed_bytes as usize).cast()
}
