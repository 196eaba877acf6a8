//! A thread's own pointer to a shared value, which the signal handlers of that thread may follow.
//!
//! The thread replaces the pointer by one store between two compiler fences, so a handler finds the
//! value of before or the one of after. The value of before is returned, and so lives at least
//! until the store is done; a handler that has found it holds a count of its own. Neither side
//! takes a lock, allocates or frees: the count that a handler drops is never the last, because the
//! thread that it interrupts drops none while it runs.

use std::cell::Cell;
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};

/// See the [module](self). In a thread-local that is initialized by a constant, it is accessible to
/// handlers at every moment of the thread's life: it has no destructor, so a value that is there
/// when the thread ends is leaked.
///
/// ```
/// use gc_core::handler_cell::HandlerCell;
/// use std::sync::Arc;
///
/// thread_local!(static NAME: HandlerCell<String> = const { HandlerCell::new() });
///
/// NAME.with(|name| name.replace(Some(Arc::new("first".into()))));
/// assert_eq!(NAME.with(HandlerCell::get).as_deref().map(String::as_str), Some("first"));
/// assert!(NAME.with(|name| name.replace(None)).is_some_and(|name| *name == "first"));
/// ```
pub struct HandlerCell<T> {
    /// From `Arc::into_raw`, with a count that belongs to this cell; null if there is no value.
    value: Cell<*const T>,
}

impl<T> HandlerCell<T> {
    /// Without a value.
    #[must_use]
    pub const fn new() -> HandlerCell<T> {
        HandlerCell { value: Cell::new(ptr::null()) }
    }

    /// Puts a value, or none, in the place of the one before, which is returned. No access of the
    /// thread that may fault is reordered across the change. Not for handlers.
    pub fn replace(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        let value = value.map_or(ptr::null(), Arc::into_raw);
        compiler_fence(Ordering::SeqCst);
        let before = self.value.replace(value);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: a pointer that is not null came from `Arc::into_raw` here, and left the cell with
        // its count by this call alone.
        (!before.is_null()).then(|| unsafe { Arc::from_raw(before) })
    }

    /// The value. Two changes of its count; for handlers too.
    #[must_use]
    pub fn get(&self) -> Option<Arc<T>> {
        let value = self.value.get();
        if value.is_null() {
            return None;
        }
        // SAFETY: from `Arc::into_raw`. The count of the cell is not given up before this one is
        // taken: only this thread replaces the value, and a handler that is in here interrupts it
        // before `replace` returns the value, or after it has put another one here.
        unsafe {
            Arc::increment_strong_count(value);
            Some(Arc::from_raw(value))
        }
    }
}

impl<T> Default for HandlerCell<T> {
    fn default() -> Self {
        HandlerCell::new()
    }
}

impl<T> fmt::Debug for HandlerCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HandlerCell").field(&self.value.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lives_as_long_as_it_is_in_the_cell_or_was_taken_out() {
        let value = Arc::new(7);
        let cell = HandlerCell::new();
        assert!(cell.get().is_none() && cell.replace(Some(Arc::clone(&value))).is_none());
        assert_eq!(Arc::strong_count(&value), 2);
        let found = cell.get().unwrap();
        assert!(Arc::ptr_eq(&found, &value) && Arc::strong_count(&value) == 3);
        let before = cell.replace(Some(Arc::new(8))).unwrap();
        assert!(Arc::ptr_eq(&before, &value));
        drop((found, before));
        assert_eq!(Arc::strong_count(&value), 1);
        assert_eq!(cell.replace(None).as_deref(), Some(&8));
        assert!(cell.get().is_none());
    }
}
