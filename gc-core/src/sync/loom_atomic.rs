//! `loom`'s atomics, without three properties of `loom` 0.7 that make models miss errors or report
//! false ones.
//!
//! 1. It remembers only the last access to an atomic when it looks for orders to try. A thread's
//!    load, then another's load and store: the store is never tried before the first load, since
//!    the second load stands between them. Here each access is preceded by a read-modify-write
//!    (`Relaxed`, so it orders nothing) of a second word next to the atomic, and all orders of all
//!    accesses to one atomic are tried.
//! 2. Stores of two threads to one word are ordered only by what the threads have seen: a store may
//!    seem to come before a compare-and-swap that happened before it. For `SeqCst` stores, whose
//!    order protocols lean on, that would be wrong; here they are swaps, as they are on x86-64.
//! 3. A `SeqCst` load gives no value older than the last `SeqCst` store, but the value that the
//!    atomic was made with does not count as one. Here it does.

use loom::sync::atomic::{self as inner, Ordering};

macro_rules! atomic {
    ($name:ident, $value:ty $(, $fetch:ident)*) => {
        #[doc = concat!("`loom`'s `", stringify!($name), "`; see the module `loom_atomic`.")]
        #[derive(Debug)]
        pub struct $name {
            word: inner::$name,
            turn: inner::AtomicBool,
        }

        impl Default for $name {
            fn default() -> Self {
                $name::new(Default::default())
            }
        }

        impl $name {
            /// An atomic of this value.
            #[must_use]
            pub fn new(value: $value) -> Self {
                let atomic = $name { word: inner::$name::new(value), turn: inner::AtomicBool::new(false) };
                atomic.word.store(value, Ordering::SeqCst);
                atomic
            }

            fn turn(&self) -> &inner::$name {
                self.turn.fetch_or(false, Ordering::Relaxed);
                &self.word
            }

            /// As the standard library's.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                self.turn().load(order)
            }

            /// As the standard library's.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                if order == Ordering::SeqCst {
                    self.turn().swap(value, order);
                } else {
                    self.turn().store(value, order);
                }
            }

            /// As the standard library's.
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.turn().swap(value, order)
            }

            /// As the standard library's.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.turn().compare_exchange(current, new, success, failure)
            }

            /// As the standard library's; never fails spuriously.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.turn().compare_exchange(current, new, success, failure)
            }

            $(
                /// As the standard library's.
                #[track_caller]
                pub fn $fetch(&self, value: $value, order: Ordering) -> $value {
                    self.turn().$fetch(value, order)
                }
            )*
        }
    };
}

atomic!(AtomicBool, bool, fetch_and, fetch_or);
atomic!(AtomicU8, u8, fetch_add, fetch_sub, fetch_and, fetch_or);
atomic!(AtomicU32, u32, fetch_add, fetch_sub, fetch_and, fetch_or);
atomic!(AtomicU64, u64, fetch_add, fetch_sub, fetch_and, fetch_or);
atomic!(AtomicUsize, usize, fetch_add, fetch_sub, fetch_and, fetch_or, fetch_min);
