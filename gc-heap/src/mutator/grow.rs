//! Arrays that become longer: where they are, if the blocks behind are free, else by a copy.
//!
//! How a large array grows while other threads use it is written in `docs/protocol.md`, "An array
//! that grows".

use super::Mutator;
use super::alloc_size::AllocSize;
use crate::error::{OutOfMemory, Tried};
use crate::handles::local::Local;
use crate::inner::tlab::Run;
use crate::object::Trace;
use crate::object::header::MAX_HEADER_BYTES;
use crate::slot::{Gc, GrowableArray, GrowableElement};
use crate::space::free::Behind;
use crate::space::{BLOCK_BYTES, Block, LARGE_BYTES};
use gc_core::length;

// Large objects alone have a header that does not say the size, so that it stays as it is.
const _: () = assert!(MAX_HEADER_BYTES == LARGE_BYTES);

/// How often an array that has moved, or that another thread has made longer, is tried again.
const TRIES: usize = 4;

/// Elements copied between two safepoints.
const PIECE: usize = 1 << 14;

/// How often a thread yields while memory behind an array is being uncommitted: about 2 ms.
const YIELDS: usize = 2000;

/// How an array became longer.
#[must_use = "a copy has to be stored where the program keeps the array"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// It is the same array: every reference to it leads to the longer one.
    InPlace,
    /// The local refers to a longer copy. Other references lead to the array as it was, and so do
    /// its pins, weak slots and finalizers.
    Copied,
}

/// Where a large array is, and what it lacks.
struct Place {
    first: Block,
    /// The blocks that it has.
    have: usize,
}

impl Place {
    /// `None`: the array is not large.
    fn of<E: GrowableElement>(array: Gc<'_, GrowableArray<E>>, m: &Mutator<'_>) -> Option<Place> {
        let bytes = <GrowableArray<E>>::KIND.size_of(array.tail_len() as u64);
        let first = m.inner().memory.space.offset(array.word().bits()).block();
        (bytes > LARGE_BYTES).then_some(Place { first, have: bytes.div_ceil(BLOCK_BYTES) })
    }

    fn end(&self) -> Block {
        self.first + self.have
    }
}

impl Mutator<'_> {
    /// Makes an array longer. A safepoint. On return the local refers to an array of at least `len`
    /// elements: the first are those that it had, what is new is empty (`None`, nil, 0). An array
    /// never becomes shorter.
    ///
    /// A large array (of more than 32 KiB) grows where it is, if the blocks behind it are free:
    /// then nothing is copied, and all references lead to the longer array. In a heap with
    /// [more addresses than memory](crate::HeapBuilder::address_factor) it is placed where many are
    /// free. Otherwise the elements are copied, in pieces with a safepoint between, and the local
    /// is set to the copy. So store what the local refers to wherever the program keeps the array:
    ///
    /// ```
    /// use gc_heap::{AllocSize, GrowableArray, Growth, Heap, Num, OutOfMemory};
    ///
    /// type Counters = GrowableArray<Num<u64>>;
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).address_factor(4).build()?;
    /// heap.enter(|m| -> Result<(), OutOfMemory> {
    ///     let array = m.build::<Counters>(AllocSize::tail::<Counters>(100_000), |m| m.place_array((), 100_000, 7))?;
    ///     let same = m.local(array.get(m));
    ///     assert_eq!(m.grow(array, 1_000_000)?, Growth::InPlace);
    ///     assert!(array.get(m).ptr_eq(same.get(m)));
    ///     let tail = same.get(m).tail();
    ///     assert_eq!((tail.len(), tail[99_999].get(), tail[100_000].get()), (1_000_000, 7, 0));
    ///     // More than the heap has is refused, and the array is as it was.
    ///     assert!(m.grow(array, usize::MAX).is_err());
    ///     assert_eq!(array.get(m).tail_len(), 1_000_000);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Other threads may use the array meanwhile. Those that store to it while it is copied store
    /// to the array as it was, and of two threads that make one array longer at once the later may
    /// get a copy: a program whose threads share such arrays orders that itself. An array may be
    /// copied as well while memory behind it is being uncommitted or made a huge page.
    ///
    /// # Errors
    /// [`OutOfMemory`], as [`reserve`](Self::reserve): the array is as it was.
    ///
    /// # Panics
    /// If the local belongs to another mutator.
    pub fn grow<E: GrowableElement>(
        &mut self,
        array: Local<'_, GrowableArray<E>>,
        len: usize,
    ) -> Result<Growth, OutOfMemory> {
        if self.grow_in_place(array, len)? { Ok(Growth::InPlace) } else { self.grow_by_copy(array, len) }
    }

    /// As [`grow`](Self::grow), but never copies. `false`: the array is as it was, because it is
    /// not large, or something else is behind it.
    ///
    /// ```
    /// use gc_heap::{AllocSize, Bytes, GrowableArray, Heap, OutOfMemory, Slot};
    ///
    /// type Names = GrowableArray<Slot<Option<Bytes>>>;
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), OutOfMemory> {
    ///     let few = m.build::<Names>(AllocSize::tail::<Names>(10), |m| m.place_array((), 10, None))?;
    ///     assert!(!m.grow_in_place(few, 20)?, "other objects are behind it");
    ///     assert!(m.grow_in_place(few, 5)? && few.get(m).tail_len() == 10, "it is long enough");
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OutOfMemory`], if the blocks behind it are free and there is no memory for them.
    ///
    /// # Panics
    /// As [`grow`](Self::grow).
    pub fn grow_in_place<E: GrowableElement>(
        &mut self,
        array: Local<'_, GrowableArray<E>>,
        len: usize,
    ) -> Result<bool, OutOfMemory> {
        if len <= array.get(self).tail_len() {
            self.safepoint();
            return Ok(true);
        }
        let bytes = <GrowableArray<E>>::KIND.checked_size_of(len);
        let needed = bytes.map(|bytes| bytes.div_ceil(BLOCK_BYTES));
        let Some(needed) = needed.filter(|&needed| needed <= self.inner.memory.max_blocks()) else {
            return Err(self.inner.out_of_memory(AllocSize::tail::<GrowableArray<E>>(len), Tried::TooMuch));
        };
        self.begin_to_grow();
        for _ in 0..TRIES {
            if array.get(self).tail_len() >= len {
                return Ok(true);
            }
            let Some(place) = Place::of(array.get(self), self) else { return Ok(false) };
            let (end, count) = (place.end(), needed.saturating_sub(place.have));
            if count > 0 && !self.take_behind(end, count, E::EMPTY)? {
                // Unless it has moved, or another thread has made it longer: then those were not
                // the blocks behind it.
                if Place::of(array.get(self), self).is_some_and(|now| now.end() == end) {
                    return Ok(false);
                }
            } else if self.join(array, len, needed, (end, count)) {
                return Ok(true);
            }
        }
        Ok(array.get(self).tail_len() >= len)
    }

    /// The safepoint, as of a reservation.
    fn begin_to_grow(&mut self) {
        self.run_safepoint();
        self.clear_stress_limit();
        self.release_reserved();
        if self.inner.config.stress.is_on() {
            // Nothing is reserved.
            self.tlabs.active.limit_to(0);
        }
        if self.stress_cycle_due() {
            self.inner.schedule.requests.request_next();
        }
        self.arm_allocation_limit();
    }

    /// Takes the blocks behind an array, and fills them: with empty elements, each word of which is
    /// this one. Where memory is short, waits for as much as it takes. `false`: they are in use.
    fn take_behind(&mut self, at: Block, count: usize, empty: u64) -> Result<bool, OutOfMemory> {
        let room = AllocSize::blocks(count);
        self.before_taking(count, room)?;
        let mut behind = self.inner.memory.free.begin_behind(at, count, Vec::new());
        for _ in 0..YIELDS {
            match behind {
                Behind::Busy => self.let_collector_in(room),
                Behind::Short => {
                    let lent = self.stall(count, false, room).inspect_err(|_| self.inner.check_collector())?;
                    behind = self.inner.memory.free.begin_behind(at, count, lent);
                    break;
                }
                Behind::Taken(_) | Behind::InUse => break,
            }
            behind = self.inner.memory.free.begin_behind(at, count, Vec::new());
        }
        let Behind::Taken(taken) = behind else { return Ok(false) };
        let Some(first) = self.completed(taken) else { return Ok(false) };
        self.inner.after_taking();
        let run = Run { first, count, zero: true };
        // As of a reservation: what this thread does not come to use is released.
        self.tlabs.reserved.get_mut().runs.push(run);
        self.prepare_with(run, empty);
        Ok(true)
    }

    /// Makes the `count` blocks at `end`, which [`take_behind`](Self::take_behind) has taken, a
    /// part of the array, and stores its length. Never a safepoint. `false`: the array does not end
    /// there any more, and the blocks are free.
    fn join<E: GrowableElement>(
        &mut self,
        array: Local<'_, GrowableArray<E>>,
        len: usize,
        needed: usize,
        (end, count): (Block, usize),
    ) -> bool {
        if count > 0 {
            self.tlabs.reserved.get_mut().runs.pop();
        }
        let (array, memory) = (array.get(self), &self.inner.memory);
        // By as many blocks as were taken: it may have moved, and been made longer, and end there.
        let fits = |place: Place| place.end() == end && place.have + count == needed;
        let ends_there = || Place::of(array, self).is_some_and(fits);
        let is_admitted = ends_there();
        if count > 0 && is_admitted {
            // A repair must find the blocks as they were at the flip, or not visit them at all.
            self.inner.relocation.admit(&self.inner, end, count);
        }
        let growing = memory.growing.lock();
        let is_longer = array.tail_len() >= len;
        let joins = !is_longer && is_admitted && ends_there();
        if joins {
            length::grow(array.length_word(), len, |from| {
                // What is new in the last block that it had.
                let (start, size) = (array.word().bits() as usize, |len| {
                    <GrowableArray<E>>::KIND.fixed_bytes as usize + len * size_of::<E>()
                });
                let had = size(from).next_multiple_of(BLOCK_BYTES);
                let to = size(len).next_multiple_of(8).min(had);
                memory.fill(start + size(from), to - size(from), E::EMPTY);
                let have = had / BLOCK_BYTES;
                memory.blocks.extend(end - have, have, count);
            });
        }
        drop(growing);
        if !joins && count > 0 {
            memory.free_unused(end, count);
        }
        joins || is_longer
    }

    fn grow_by_copy<E: GrowableElement>(
        &mut self,
        array: Local<'_, GrowableArray<E>>,
        len: usize,
    ) -> Result<Growth, OutOfMemory> {
        let m = &mut *self.frame();
        let copy = {
            let m = m.reserve(AllocSize::tail::<GrowableArray<E>>(len))?;
            m.local(m.place_zeroed::<E>(len))
        };
        let mut done = 0;
        loop {
            let (from, to) = (array.get(m).tail(), copy.get(m).tail());
            let end = len.min(done + PIECE);
            let copied = from.len().clamp(done, end);
            (done..copied).for_each(|index| from[index].copy_to(&to[index], m));
            to[copied..end].iter().for_each(|element| element.make_empty(m));
            done = end;
            if done == len {
                break;
            }
            m.safepoint();
        }
        if array.get(m).tail_len() >= len {
            // Another thread has made it longer meanwhile: the copy may lack elements.
            return Ok(Growth::InPlace);
        }
        array.set(m, copy.get(m));
        Ok(Growth::Copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Heap, Num};

    type Numbers = GrowableArray<Num<u64>>;

    /// Elements that fill blocks exactly with the header.
    fn filling(blocks: usize) -> usize {
        (blocks * BLOCK_BYTES - Numbers::KIND.fixed_bytes as usize) / 8
    }

    /// An array may have moved, and been made longer, while a thread filled the blocks that it has
    /// taken, and end before them all the same: joined, it would have more blocks than its length
    /// says.
    #[test]
    fn as_many_blocks_are_joined_as_the_length_lacks() {
        let heap = Heap::builder().max_bytes(16 << 20).address_factor(4).build().unwrap();
        heap.enter(|m| {
            let len = filling(2);
            let array = m.build::<Numbers>(AllocSize::tail::<Numbers>(len), |m| m.place_array((), len, 7)).unwrap();
            let free = heap.inner().memory.free.free();
            for (count, needed) in [(2, 3), (1, 4)] {
                let end = Place::of(array.get(m), m).unwrap().end();
                assert!(m.take_behind(end, count, 0).unwrap());
                assert!(!m.join(array, filling(needed), needed, (end, count)));
                assert_eq!((array.get(m).tail_len(), heap.inner().memory.free.free()), (len, free));
            }
            assert!(m.grow_in_place(array, filling(4)).unwrap());
            assert_eq!(Place::of(array.get(m), m).unwrap().have, 4);
        })
        .unwrap();
    }
}
