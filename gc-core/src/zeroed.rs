//! Large tables of atomics, all 0.

use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

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

/// A table of so many zeroes. The system commits its memory where it is first touched: what is not
/// in use of the largest heap costs nothing here either.
#[must_use]
pub fn zeroed<T: Zeroed>(len: usize) -> Box<[T]> {
    #[cfg(not(loom))]
    // SAFETY: zero is a value of the type.
    return unsafe { Box::new_zeroed_slice(len).assume_init() };
    #[cfg(loom)]
    (0..len).map(|_| T::zero()).collect()
}
