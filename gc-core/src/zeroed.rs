//! Tables in proportion to a heap, mostly of atomics, all 0. The memory for one may be refused,
//! which is an error: the standard library's own containers end the process.

use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
#[cfg(not(loom))]
use std::alloc::Layout;
use std::fmt;

/// An atomic of which zero bytes are a value.
pub trait Zeroed: sealed::Sealed {}

impl<T: sealed::Sealed> Zeroed for T {}

mod sealed {
    /// # Safety
    /// Zero bytes are a value of the type.
    #[cfg_attr(loom, allow(dead_code))]
    pub unsafe trait Sealed {
        /// The value, where a model makes each by itself.
        fn zero() -> Self;
    }
}

macro_rules! atomics {
    ($($atomic:ty),*) => {$(
        // SAFETY: outside of models an integer, in memory as such.
        unsafe impl sealed::Sealed for $atomic {
            fn zero() -> Self {
                Self::new(0)
            }
        }
    )*};
}

atomics! { AtomicU8, AtomicU32, AtomicU64 }

#[cfg(not(loom))]
// SAFETY: a null pointer.
unsafe impl<T> sealed::Sealed for std::sync::atomic::AtomicPtr<T> {
    fn zero() -> Self {
        Self::default()
    }
}

// SAFETY: values side by side.
unsafe impl<T: sealed::Sealed, const N: usize> sealed::Sealed for [T; N] {
    fn zero() -> Self {
        std::array::from_fn(|_| T::zero())
    }
}

/// The program's allocator has refused memory for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory {
    bytes: usize,
}

impl NoMemory {
    fn of<T>(len: usize) -> NoMemory {
        NoMemory { bytes: len.saturating_mul(size_of::<T>()) }
    }

    /// Bytes of the table.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.bytes
    }
}

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program's allocator has no memory for a table of {} bytes", self.bytes)
    }
}

impl std::error::Error for NoMemory {}

/// The name of an allocation of a table, where a test has it refused.
#[cfg(not(loom))]
pub(crate) const ALLOCATION: &str = "alloc(table)";

/// Fails where a test has the allocation refused.
fn admitted<T>(len: usize) -> Result<(), NoMemory> {
    #[cfg(not(loom))]
    if crate::sys::refused(ALLOCATION) {
        return Err(NoMemory::of::<T>(len));
    }
    let _ = len;
    Ok(())
}

/// A table of so many zeroes. The system commits its memory where it is first touched: what is not
/// in use of the largest heap costs nothing here either.
///
/// # Errors
/// The program's allocator refuses the memory.
pub fn zeroed<T: Zeroed>(len: usize) -> Result<Box<[T]>, NoMemory> {
    admitted::<T>(len)?;
    #[cfg(loom)]
    return Ok((0..len).map(|_| T::zero()).collect());
    #[cfg(not(loom))]
    {
        let layout = Layout::array::<T>(len).map_err(|_| NoMemory::of::<T>(len))?;
        if layout.size() == 0 {
            return Ok(Box::default());
        }
        // SAFETY: the layout has a size.
        let first = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<T>();
        if first.is_null() {
            return Err(NoMemory::of::<T>(len));
        }
        // SAFETY: allocated by the global allocator with the layout of `len` values, each of which
        // zero bytes are (`Sealed`).
        Ok(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(first, len)) })
    }
}

/// A vector with room for so many values, of which there are none yet.
///
/// # Errors
/// The program's allocator refuses the memory.
pub fn with_room<T>(len: usize) -> Result<Vec<T>, NoMemory> {
    admitted::<T>(len)?;
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| NoMemory::of::<T>(len))?;
    Ok(values)
}

/// Adds a value to a vector.
///
/// # Errors
/// The vector is full, and the program's allocator refuses more memory.
pub fn push<T>(values: &mut Vec<T>, value: T) -> Result<(), NoMemory> {
    with_room_for_one(values)?;
    values.push(value);
    Ok(())
}

/// Sees to it that a vector has room for another value.
///
/// # Errors
/// The vector is full, and the program's allocator refuses more memory.
pub fn with_room_for_one<T>(values: &mut Vec<T>) -> Result<(), NoMemory> {
    if values.len() == values.capacity() {
        let more = values.capacity().max(4);
        admitted::<T>(values.len() + more)?;
        values.try_reserve_exact(more).map_err(|_| NoMemory::of::<T>(values.len() + more))?;
    }
    Ok(())
}

/// A table of the first `len` of these values.
///
/// # Errors
/// The program's allocator refuses the memory.
pub fn table<T>(len: usize, values: impl IntoIterator<Item = T>) -> Result<Box<[T]>, NoMemory> {
    let mut table = with_room(len)?;
    table.extend(values.into_iter().take(len));
    Ok(table.into())
}

/// The value, in a box.
///
/// # Errors
/// The program's allocator refuses the memory.
pub fn boxed<T>(value: T) -> Result<Box<T>, NoMemory> {
    let mut one = with_room(1)?;
    one.push(value);
    let one: Box<[T]> = one.into();
    debug_assert_eq!(one.len(), 1);
    // SAFETY: of one value, whose layout is that of a slice of it.
    Ok(unsafe { Box::from_raw(Box::into_raw(one).cast::<T>()) })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let some = zeroed::<AtomicU64>(3).unwrap();
        assert!(some.iter().all(|word| word.load(std::sync::atomic::Ordering::Relaxed) == 0) && some.len() == 3);
        assert_eq!(zeroed::<AtomicU64>(0).unwrap().len(), 0);
        for len in [1 << 58, usize::MAX] {
            let bytes = len.saturating_mul(8);
            assert_eq!(zeroed::<AtomicU64>(len).unwrap_err().bytes(), bytes);
            assert_eq!(with_room::<u64>(len).unwrap_err().bytes(), bytes);
        }
        assert_eq!(*table(3, 7..).unwrap(), [7, 8, 9]);
        assert_eq!(*boxed("text".to_owned()).unwrap(), "text");
    }
}
