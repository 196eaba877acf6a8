//! Bytes that a system call writes: an unpublished object.

use super::Pinned;
use crate::mutator::Mutator;
use crate::object::{Byte, Bytes, Trace};
use crate::slot::Gc;
use std::fmt;
use std::ops::{Deref, DerefMut};

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

impl<T: Trace<Tail: Byte>> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buffer").field(&self.pinned).finish()
    }
}

impl<'s> Mutator<'s> {
    /// Places an object with a tail of `len` zero bytes within the reserved size, for the caller to
    /// fill. Never a safepoint.
    ///
    /// # Panics
    /// As [`place`](Self::place).
    #[must_use = "a buffer that is dropped is garbage"]
    #[track_caller]
    pub fn place_buffer<'g, T: Trace<Tail: Byte>>(&'g self, init: T::Init<'g>, len: usize) -> Buffer<T> {
        Buffer { pinned: self.pin(self.place_array::<T>(init, len, 0)) }
    }
}
