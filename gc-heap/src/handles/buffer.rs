//! Bytes that a system call writes: an unpublished object.

use super::Pinned;
use crate::inner::mutator::Mutator;
use crate::object::{Byte, Tail, TailElement, Trace};
use crate::slot::Bytes;
use crate::slot::Gc;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::{fmt, io};

/// A new byte object that only its creator can reach, pinned until it is [finished](Self::finish).
/// Its bytes are a `&mut [u8]`, so safe code reads a file or a socket straight into the heap, in
/// [`Mutator::blocking`] too, or on another thread.
///
/// [`finish`](Self::finish) publishes it as an ordinary object: from then on its bytes do not
/// change, except in a tail of `Num<u8>`. A buffer that is dropped instead is garbage. Until then
/// it costs as much as a [`Pinned`].
///
/// ```
/// use gc_heap::{Bytes, Heap, AllocSize};
/// use std::io::Read;
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), Box<dyn std::error::Error>> {
///     let mut buffer = m.reserve(AllocSize::tail::<Bytes>(100))?.place_buffer::<Bytes>((), 100);
///     // Other threads may collect and compact while this one waits for its bytes.
///     m.blocking(|| std::io::repeat(7).read_exact(&mut buffer))?;
///     let bytes = buffer.finish(m);
///     assert_eq!(bytes.tail(), [7; 100]);
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Buffer<T: Trace<Tail: Byte> = Bytes> {
    /// The only reference to the object.
    pinned: Pinned<T>,
}

impl<T: Trace<Tail: Byte>> Buffer<T> {
    /// Publishes the object, no longer pinned. Never a safepoint.
    ///
    /// # Panics
    /// If the buffer belongs to another heap than the mutator.
    #[must_use]
    pub fn finish<'g>(self, m: &'g Mutator<'_>) -> Gc<'g, T> {
        // Good as long as the mutator is borrowed; nothing moves before the next safepoint.
        self.pinned.get(m)
    }

    /// Publishes the object, still pinned: for bytes that are passed from one system call to the
    /// next.
    #[must_use]
    pub fn into_pinned(self) -> Pinned<T> {
        self.pinned
    }
}

impl<T: Trace<Tail: Byte>> Deref for Buffer<T> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let tail = self.pinned.tail();
        // SAFETY: a `Byte` is as a `u8` lies. No other reference to them exists, as in `deref_mut`,
        // so they do not change.
        unsafe { std::slice::from_raw_parts(tail.as_ptr().cast(), tail.len()) }
    }
}

impl<T: Trace<Tail: Byte>> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.pinned.tail().len();
        // SAFETY: `len` bytes are there, initialised, mapped and not moved as long as the pin. No
        // other reference to the object exists: `place_buffer` returned none, the pin's root is
        // private to `self`, which is borrowed, and `finish` consumes it. The collector neither
        // reads nor writes bytes of an object that stays.
        unsafe { std::slice::from_raw_parts_mut(self.pinned.tail_ptr().cast(), len) }
    }
}

impl<T: Trace> Pinned<T> {
    /// The tail; usable also inside [`Mutator::blocking`], and on threads that never enter the
    /// heap.
    ///
    /// # Panics
    /// As [`tail_ptr`](Self::tail_ptr).
    pub fn tail(&self) -> &[T::Tail]
    where
        T::Tail: TailElement,
    {
        // SAFETY: `len` elements are there, initialised; the object neither moves nor dies while
        // this lives, and tail elements without slots are immutable or atomic. The canonical view
        // is mapped as long as `shared`.
        unsafe { std::slice::from_raw_parts(self.tail_ptr(), self.len) }
    }
}

impl Mutator<'_> {
    /// The tail of an object through a view that is always mapped: for a system call that does not
    /// wait. It cannot be kept across a safepoint; a call that waits belongs in
    /// [`blocking`](Self::blocking) and needs a [`pin`](Self::pin).
    ///
    /// ```
    /// # use gc_heap::{Bytes, Heap, AllocSize};
    /// # use std::io::Write;
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// # heap.enter(|m| {
    /// let m = m.reserve(AllocSize::tail::<Bytes>(5))?;
    /// let bytes = m.place_bytes::<Bytes>((), b"hello");
    /// std::io::sink().write_all(m.bytes_for_syscall(bytes)).unwrap();
    /// # Ok::<(), gc_heap::OutOfMemory>(())
    /// # })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn bytes_for_syscall<'g, T: Trace>(&'g self, object: Gc<'g, T>) -> &'g [T::Tail]
    where
        T::Tail: TailElement,
    {
        const { assert!(!<T::Tail as Tail>::MAP.has_slots(), "a tail that holds references cannot be lent") }
        let inner = self.inner();
        let (offset, len) = (inner.memory.space.offset(object.word().bits()), object.tail_len());
        inner.relocation.lend(inner, offset, T::KIND.size_of(len as u64));
        let address = inner.memory.views.canonical() + offset.bytes() + T::KIND.fixed_bytes as usize;
        // SAFETY: as in `Pinned::tail`; no safepoint comes before 'g ends, so the object stays
        // where it is.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(address), len) }
    }
}

impl<T: Trace<Tail: Byte>> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buffer").field(&self.pinned).finish()
    }
}

impl<'s> Mutator<'s> {
    /// Places an object with a tail of `len` zero bytes within the reserved size, for the caller to
    /// fill. Never a safepoint.
    /// If the zeroes cost too much: [`place_unfilled`](Self::place_unfilled).
    ///
    /// # Panics
    /// As [`place`](Self::place).
    #[must_use = "a buffer that is dropped is garbage"]
    #[track_caller]
    pub fn place_buffer<'g, T: Trace<Tail: Byte>>(&'g self, init: T::Init<'g>, len: usize) -> Buffer<T> {
        Buffer { pinned: self.pin(self.place_array::<T>(init, len, 0)) }
    }

    /// As [`place_buffer`](Self::place_buffer), without the zeroes: each byte is written once, by
    /// its maker. Never a safepoint.
    ///
    /// # Panics
    /// As [`place`](Self::place).
    #[must_use = "a buffer that is dropped is garbage"]
    #[track_caller]
    pub fn place_unfilled<'g, T: Trace<Tail: Byte>>(&'g self, init: T::Init<'g>, len: usize) -> Unfilled<T> {
        // SAFETY: the reference goes into a pin that `Unfilled` keeps to itself until all is
        // written, and whose tail it does not ask for as a slice.
        let object = unsafe { self.place_unwritten::<T>(init, len) };
        Unfilled { pinned: self.pin(object), len, filled: 0 }
    }
}

/// A [`Buffer`] to be: its bytes are written from the first to the last, each once, and there are
/// none before. Large ones so cost one pass over memory and not two.
///
/// Safe code adds bytes by [`io::Write`]; it takes as many as there is room for. A call that writes
/// to bare memory is handed [`spare`](Self::spare), and what it has written is added by
/// [`advance`](Self::advance).
///
/// ```
/// use gc_heap::{AllocSize, Bytes, Heap};
/// use std::io::{Read, Write};
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), Box<dyn std::error::Error>> {
///     let mut unfilled = m.reserve(AllocSize::tail::<Bytes>(100))?.place_unfilled::<Bytes>((), 100);
///     m.blocking(|| std::io::copy(&mut std::io::repeat(7).take(90), &mut unfilled))?;
///     unfilled.write_all(&[8; 5])?;
///     assert_eq!((unfilled.filled(), unfilled.spare().len()), (95, 5));
///     let bytes = unfilled.into_buffer().finish(m); // the rest is zeroes
///     assert_eq!(bytes.tail()[88..], [7, 7, 8, 8, 8, 8, 8, 0, 0, 0, 0, 0]);
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Unfilled<T: Trace<Tail: Byte> = Bytes> {
    /// The only way to the object. Nobody asks it for the tail as long as `filled` is less than
    /// `len`.
    pinned: Pinned<T>,
    len: usize,
    /// So many bytes of the tail were written.
    filled: usize,
}

impl<T: Trace<Tail: Byte>> Unfilled<T> {
    /// Bytes that were written.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// The bytes that were not written yet.
    pub fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: `filled <= len`, so these bytes are of the tail, mapped and not moved as long as
        // the pin; a `Byte` is as a `u8` lies, and a `MaybeUninit` may be anything. Nobody else has
        // a reference to them, as in `Buffer::deref_mut`.
        unsafe {
            let first = self.pinned.tail_ptr().cast::<MaybeUninit<u8>>().add(self.filled);
            std::slice::from_raw_parts_mut(first, self.len - self.filled)
        }
    }

    /// Adds the first `count` bytes of [`spare`](Self::spare).
    ///
    /// # Safety
    /// They were written.
    ///
    /// # Panics
    /// If there are not so many.
    pub unsafe fn advance(&mut self, count: usize) {
        let left = self.len - self.filled;
        assert!(count <= left, "{count} bytes were added where there was room for {left}");
        self.filled += count;
    }

    /// The buffer. Bytes that were not written are zero.
    #[must_use]
    pub fn into_buffer(mut self) -> Buffer<T> {
        self.spare().fill(MaybeUninit::new(0));
        Buffer { pinned: self.pinned }
    }
}

impl<T: Trace<Tail: Byte>> io::Write for Unfilled<T> {
    /// Adds what there is room for; nothing, where there is none.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let spare = self.spare();
        let count = bytes.len().min(spare.len());
        spare[..count].write_copy_of_slice(&bytes[..count]);
        // SAFETY: written just now.
        unsafe { self.advance(count) };
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: Trace<Tail: Byte>> fmt::Debug for Unfilled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unfilled { pinned, len, filled } = self;
        f.debug_struct("Unfilled").field("pinned", pinned).field("len", len).field("filled", filled).finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::space::{BLOCK_BYTES, Offset};
    use crate::{AllocSize, Array, Bytes, Heap, MIN_HEAP_BYTES, Num};
    use std::io::Write;

    /// What is left of former objects shows that nothing was written; and is gone when the object
    /// is there.
    #[test]
    fn an_unfilled_buffer_is_not_zeroed_and_shows_nothing_of_what_was_there() {
        const LEN: usize = MIN_HEAP_BYTES / 4 * 3;
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        heap.enter(|m| {
            let old = m.reserve(AllocSize::tail::<Bytes>(LEN)).unwrap().place_bytes::<Bytes>((), &[0xaa; LEN]);
            assert_eq!(old.tail_len(), LEN);
            m.collect();
            // More than half of the heap: it overlaps.
            let mut unfilled = m.reserve(AllocSize::tail::<Bytes>(LEN)).unwrap().place_unfilled::<Bytes>((), LEN);
            let (heap, at) = (m.inner(), unfilled.pinned.tail_ptr().addr() - m.inner().memory.views.canonical());
            let words = || {
                (at..at + LEN)
                    .step_by(8)
                    .map(|offset| heap.memory.word(Offset::new(offset)).load(std::sync::atomic::Ordering::Relaxed))
            };
            let stale = words().filter(|&word| word == 0xaaaa_aaaa_aaaa_aaaa).count() * 8;
            assert!(stale > LEN / 2, "{stale} of {LEN} bytes are as they were");
            unfilled.write_all(&[0xbb; BLOCK_BYTES]).unwrap();
            m.collect();
            let bytes = unfilled.into_buffer().finish(m).tail();
            assert!(
                bytes[..BLOCK_BYTES].iter().all(|&byte| byte == 0xbb)
                    && bytes[BLOCK_BYTES..].iter().all(|&byte| byte == 0)
            );
        })
        .unwrap();
    }

    #[test]
    fn an_unfilled_buffer_takes_what_there_is_room_for() {
        let heap = Heap::builder().max_bytes(MIN_HEAP_BYTES).build().unwrap();
        heap.enter(|m| {
            type Changing = Array<Num<u8>>;
            for len in [0, 1, 7, 8, 40_000] {
                let mut unfilled =
                    m.reserve(AllocSize::tail::<Changing>(len)).unwrap().place_unfilled::<Changing>((), len);
                let pattern: Vec<u8> = (0..len + 3).map(|index| index as u8).collect();
                let (some, rest) = pattern.split_at(len / 3);
                unfilled.write_all(some).unwrap();
                assert_eq!(unfilled.write(rest).unwrap(), len - len / 3);
                assert_eq!((unfilled.write(&[1]).unwrap(), unfilled.spare().len()), (0, 0));
                m.collect();
                let bytes = unfilled.into_buffer().finish(m);
                assert!(bytes.tail().iter().zip(&pattern).all(|(byte, expected)| byte.get() == *expected));
                assert_eq!(bytes.tail_len(), len);
            }
            drop(m.reserve(AllocSize::tail::<Bytes>(100)).unwrap().place_unfilled::<Bytes>((), 100));
            let mut full = m.reserve(AllocSize::tail::<Bytes>(1)).unwrap().place_unfilled::<Bytes>((), 1);
            // SAFETY: it panics before anything counts as written.
            let more = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| unsafe { full.advance(2) }));
            assert!(more.is_err() && full.filled() == 0);
        })
        .unwrap();
    }
}
