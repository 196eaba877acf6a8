//! Keeping references across a safepoint without a frame, for long primitives that work on raw
//! references.

use super::Mutator;
use crate::handles::local::Local;
use crate::slot::{Rootable, SlotType};
use std::fmt;

mod sealed {
    /// Sealed: how many slots there are is for this crate to say.
    pub trait Sealed {}
}

/// Raw references that can be kept across a safepoint together: arrays, and tuples of up to eight,
/// of [`Gc`](crate::Gc), `Option<Gc>` and [`Value`](crate::Value).
pub trait Words<'g>: Copy + sealed::Sealed {
    /// The types of the slots that hold them meanwhile.
    type Slots: SlotTypes<Loaded<'g> = Self>;
}

/// The types of slots: arrays and tuples of [`SlotType`]s.
pub trait SlotTypes: 'static + sealed::Sealed {
    /// The result of loading all of them.
    type Loaded<'g>: Copy;

    /// The locals that hold them.
    #[doc(hidden)]
    type Locals<'s>: Copy;

    /// Number of slots.
    #[doc(hidden)]
    const LEN: usize;

    /// Roots all, in order.
    #[doc(hidden)]
    fn push<'s>(loaded: Self::Loaded<'_>, m: &Mutator<'s>) -> Self::Locals<'s>;

    /// Loads all.
    #[doc(hidden)]
    fn load<'g>(locals: Self::Locals<'_>, m: &'g Mutator<'_>) -> Self::Loaded<'g>;
}

impl<W, const N: usize> sealed::Sealed for [W; N] {}

impl<'g, W: Rootable<'g>, const N: usize> Words<'g> for [W; N] {
    type Slots = [W::Slot; N];
}

impl<S: SlotType, const N: usize> SlotTypes for [S; N] {
    type Loaded<'g> = [S::Loaded<'g>; N];
    type Locals<'s> = [Local<'s, S>; N];
    const LEN: usize = N;

    #[inline(always)]
    fn push<'s>(loaded: [S::Loaded<'_>; N], m: &Mutator<'s>) -> [Local<'s, S>; N] {
        loaded.map(|loaded| m.push_local(loaded))
    }

    #[inline(always)]
    fn load<'g>(locals: [Local<'_, S>; N], m: &'g Mutator<'_>) -> [S::Loaded<'g>; N] {
        locals.map(|local| local.load(m))
    }
}

macro_rules! tuples {
    ($($len:literal: $($word:ident $slot:ident $at:tt),*;)*) => {$(
        impl<$($word),*> sealed::Sealed for ($($word,)*) {}

        impl<'g, $($word: Rootable<'g>),*> Words<'g> for ($($word,)*) {
            type Slots = ($($word::Slot,)*);
        }

        impl<$($slot: SlotType),*> SlotTypes for ($($slot,)*) {
            type Loaded<'g> = ($($slot::Loaded<'g>,)*);
            type Locals<'s> = ($(Local<'s, $slot>,)*);
            const LEN: usize = $len;

            #[inline(always)]
            fn push<'s>(loaded: Self::Loaded<'_>, m: &Mutator<'s>) -> Self::Locals<'s> {
                ($(m.push_local::<$slot>(loaded.$at),)*)
            }

            #[inline(always)]
            fn load<'g>(locals: Self::Locals<'_>, m: &'g Mutator<'_>) -> Self::Loaded<'g> {
                ($(locals.$at.load(m),)*)
            }
        }
    )*};
}

tuples! {
    1: A SA 0;
    2: A SA 0, B SB 1;
    3: A SA 0, B SB 1, C SC 2;
    4: A SA 0, B SB 1, C SC 2, D SD 3;
    5: A SA 0, B SB 1, C SC 2, D SD 3, E SE 4;
    6: A SA 0, B SB 1, C SC 2, D SD 3, E SE 4, F SF 5;
    7: A SA 0, B SB 1, C SC 2, D SD 3, E SE 4, F SF 5, G SG 6;
    8: A SA 0, B SB 1, C SC 2, D SD 3, E SE 4, F SF 5, G SG 6, H SH 7;
}

/// References kept across a safepoint, from [`Mutator::keep`]: rooted until they are
/// [taken](Self::take) back.
#[must_use = "kept references are returned by `take`"]
pub struct Kept<'s, S: SlotTypes> {
    /// Address of the first slot among the thread's locals.
    first: u64,
    locals: S::Locals<'s>,
}

impl<'s> Mutator<'s> {
    /// Keeps raw references across the following safepoints, without a frame and a local for each.
    /// Never a safepoint itself.
    ///
    /// Each kept reference uses the slot of a local, until it is [taken](Kept::take); if a local
    /// was created meanwhile in the same scope, or it is never taken, until the scope ends.
    ///
    /// ```
    /// use gc_heap::{Gc, Heap, Local, Mutator, OutOfMemory, AllocSize, Slot, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Pair { number: u64, rest: Slot<Option<Pair>> }
    ///
    /// /// Appends a pair, however long the list is: its end is kept, not looked for again.
    /// fn append(m: &mut Mutator<'_>, list: Local<'_, Pair>, number: u64) -> Result<(), OutOfMemory> {
    ///     let mut end = list.get(m);
    ///     while let Some(next) = end.rest.get(m) {
    ///         end = next;
    ///     }
    ///     let kept = m.keep([end]);
    ///     let m = m.reserve(AllocSize::of::<Pair>())?; // a safepoint
    ///     let [end] = kept.take(m);
    ///     end.rest.set(m, Some(m.place(PairInit { number, rest: None })));
    ///     Ok(())
    /// }
    ///
    /// let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), OutOfMemory> {
    ///     let list = m.alloc::<Pair>(|_| PairInit { number: 0, rest: None })?;
    ///     for number in 1..100 {
    ///         append(m, list, number)?;
    ///     }
    ///     let first: Gc<'_, Pair> = list.get(m);
    ///     assert_eq!(first.rest.get(m).map(|next| next.number), Some(1));
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Between two safepoints that are only polled for, [`yield_with!`](crate::yield_with) is
    /// shorter.
    ///
    /// # Panics
    /// As [`local`](Self::local).
    #[inline(always)]
    #[track_caller]
    pub fn keep<'g, W: Words<'g>>(&'g self, words: W) -> Kept<'s, W::Slots> {
        let first = self.local_top.get();
        Kept { first, locals: <W::Slots as SlotTypes>::push(words, self) }
    }
}

impl<'s, S: SlotTypes> Kept<'s, S> {
    /// The references, good until the next safepoint. Never a safepoint.
    ///
    /// # Panics
    /// If they were kept by another mutator.
    #[inline(always)]
    pub fn take<'g>(self, m: &'g Mutator<'s>) -> S::Loaded<'g> {
        let end = self.first + 8 * S::LEN as u64;
        // The scope belongs to this mutator, so the slots do; slots below the top have not been
        // popped since. No references have no slots, and what was kept before them may be popped.
        let is_own = S::LEN == 0 || m.record().locals_base() <= self.first && end <= m.local_top.get();
        assert!(is_own, "references were kept by another mutator");
        let all = S::load(self.locals, m);
        if m.local_top.get() == end {
            m.pop_to(self.first);
        }
        all
    }
}

impl<S: SlotTypes> fmt::Debug for Kept<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({:#x})", self.first)
    }
}

/// A safepoint that takes raw references and returns them: `(a, b) = yield_with!(m, (a, b))`. For
/// polling in a long primitive that holds a few references: `append`, `equal?`, a sort. Costs a
/// load and a test while no safepoint is requested.
///
/// `m` is a variable: a `&mut Mutator` or a [`Frame`](crate::Frame). All other raw references end,
/// as at every safepoint. The argument is an array, or a tuple of up to eight, of
/// [`Gc`](crate::Gc), `Option<Gc>` and [`Value`](crate::Value). It is what
/// [`Mutator::keep`](crate::Mutator::keep), [`safepoint`](crate::Mutator::safepoint) and
/// [`Kept::take`](crate::Kept::take) do, if a safepoint is due.
///
/// ```
/// use gc_heap::{Heap, Local, Mutator, Slot, Trace, yield_with};
///
/// #[derive(Trace)]
/// struct Pair { number: u64, rest: Slot<Option<Pair>> }
///
/// /// Whether two lists are the same numbers. No pause waits for it, however long they are.
/// fn equal(m: &mut Mutator<'_>, a: Local<'_, Option<Pair>>, b: Local<'_, Option<Pair>>) -> bool {
///     let (mut a, mut b) = (a.get(m), b.get(m));
///     while let (Some(x), Some(y)) = (a, b) {
///         if x.number != y.number {
///             return false;
///         }
///         (a, b) = yield_with!(m, (x.rest.get(m), y.rest.get(m)));
///     }
///     a.is_none() && b.is_none()
/// }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let lists = [m.local_of::<Option<Pair>>(None), m.local_of::<Option<Pair>>(None)];
///     for number in 0..10_000 {
///         for list in lists {
///             let (m, pair) = m.alloc_raw::<Pair>(|m| PairInit { number, rest: list.get(m) })?;
///             list.set(m, Some(pair));
///         }
///     }
///     assert!(equal(m, lists[0], lists[1]));
///     lists[0].set(m, None);
///     assert!(!equal(m, lists[0], lists[1]));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
macro_rules! yield_with {
    ($m:ident, $words:expr) => {{
        let words = $words;
        if $m.safepoint_due() {
            let kept = $m.keep(words);
            $m.safepoint();
            kept.take(&*$m)
        } else {
            words
        }
    }};
}
