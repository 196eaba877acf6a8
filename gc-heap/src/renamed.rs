//! Names of before 0.1.0, so that what was built on them goes on to compile. The next release is
//! without them.

use crate::handles::local::ReturnSlot;
use crate::mutator::Mutator;
use crate::mutator::alloc_size::AllocSize;
use crate::object::{SlotKind, TailElement, Trace};
use crate::slot::Gc;

#[doc(hidden)]
#[deprecated(since = "0.1.0", note = "renamed to `AllocSize`")]
pub type Room = AllocSize;

#[doc(hidden)]
#[deprecated(since = "0.1.0", note = "renamed to `ReturnSlot`")]
pub type Out<'s, S> = ReturnSlot<'s, S>;

#[doc(hidden)]
#[deprecated(since = "0.1.0", note = "renamed to `SlotKind`")]
pub type Sort = SlotKind;

#[doc(hidden)]
#[deprecated(since = "0.1.0", note = "renamed to `MIN_HEAP_BYTES`")]
pub const LEAST_HEAP_BYTES: usize = crate::config::MIN_HEAP_BYTES;

impl Mutator<'_> {
    #[doc(hidden)]
    #[deprecated(since = "0.1.0", note = "renamed to `collector_is_waiting`")]
    #[must_use]
    pub fn safepoint_wanted(&self) -> bool {
        self.collector_is_waiting()
    }

    #[doc(hidden)]
    #[deprecated(since = "0.1.0", note = "renamed to `bytes_for_syscall`")]
    pub fn lend<'g, T: Trace>(&'g self, object: Gc<'g, T>) -> &'g [T::Tail]
    where
        T::Tail: TailElement,
    {
        self.bytes_for_syscall(object)
    }
}
