//! References over a safepoint, without a frame: what a long primitive that works on raw references needs.

use super::{Mutator, Scope};
use crate::slot::types::needs_barrier;
use crate::slot::{Rootable, SlotType};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

mod sealed {
    /// Closed: what is written and read back must be as many words, in the same order.
    pub trait Sealed {}
}

/// Raw references that can be kept over a safepoint together: arrays, and tuples of up to eight, of [`Gc`](crate::Gc), `Option<Gc>` and
/// [`Value`](crate::Value).
pub trait Words<'g>: Copy + sealed::Sealed {
    /// The types of the slots that hold them meanwhile.
    type Slots: SlotTypes<Loaded<'g> = Self>;
}

/// The types of slots: arrays and tuples of [`SlotType`]s.
pub trait SlotTypes: 'static + sealed::Sealed {
    /// What a load of all of them gives.
    type Loaded<'g>: Copy;

    /// How many there are.
    #[doc(hidden)]
    const LEN: usize;

    /// Gives the words of all, in their order.
    #[doc(hidden)]
    fn each_word(loaded: Self::Loaded<'_>, push: impl FnMut(u64));

    /// Makes all from their words, which are asked for in their order.
    ///
    /// # Safety
    /// The `index`-th word came from [`each_word`](Self::each_word), and what `load` gives for it is good; the mutator stays borrowed for
    /// `'g`. `load` is told whether the word is any value's, or a typed reference's.
    #[doc(hidden)]
    unsafe fn load<'g>(load: impl FnMut(usize, Load) -> u64) -> Self::Loaded<'g>;
}

/// How a word of a [`SlotTypes`] is loaded: a check that needs the slot's type.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Load(fn(u64, &Mutator<'_>) -> bool);

impl<W, const N: usize> sealed::Sealed for [W; N] {}

impl<'g, W: Rootable<'g>, const N: usize> Words<'g> for [W; N] {
    type Slots = [W::Slot; N];
}

impl<S: SlotType, const N: usize> SlotTypes for [S; N] {
    type Loaded<'g> = [S::Loaded<'g>; N];
    const LEN: usize = N;

    #[inline(always)]
    fn each_word(loaded: [S::Loaded<'_>; N], push: impl FnMut(u64)) {
        loaded.map(S::to_word).into_iter().for_each(push);
    }

    #[inline(always)]
    unsafe fn load<'g>(mut load: impl FnMut(usize, Load) -> u64) -> [S::Loaded<'g>; N] {
        // SAFETY: the caller's.
        std::array::from_fn(|index| unsafe { S::from_word(load(index, Load(needs_barrier::<S>))) })
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
            const LEN: usize = $len;

            #[inline(always)]
            fn each_word(loaded: Self::Loaded<'_>, mut push: impl FnMut(u64)) {
                $(push($slot::to_word(loaded.$at));)*
            }

            #[inline(always)]
            unsafe fn load<'g>(mut load: impl FnMut(usize, Load) -> u64) -> Self::Loaded<'g> {
                // SAFETY: the caller's.
                unsafe { ($($slot::from_word(load($at, Load(needs_barrier::<$slot>))),)*) }
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

/// References that are kept over a safepoint, from [`Mutator::keep`]: rooted until they are [taken](Self::take) back.
#[must_use = "what is kept is given back by `take`"]
pub struct Kept<'s, S> {
    /// Address of the first slot among the thread's locals.
    first: u64,
    _scope: Scope<'s>,
    _holds: PhantomData<*mut S>,
}

impl<'s> Mutator<'s> {
    /// Keeps raw references over whatever safepoint comes next, without a frame and a local for each of them. Never a safepoint itself.
    ///
    /// What is kept takes the places of as many locals, and gives them back when it is [taken](Kept::take); where a local was made
    /// meanwhile in the same scope, or it is never taken, when the scope ends.
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
    /// Between two safepoints that are only polled for, [`yield_with!`](crate::yield_with) is shorter.
    ///
    /// # Panics
    /// As [`local`](Self::local).
    #[inline(always)]
    #[track_caller]
    pub fn keep<'g, W: Words<'g>>(&'g self, words: W) -> Kept<'s, W::Slots> {
        let first = self.local_top.get();
        <W::Slots as SlotTypes>::each_word(words, |word| _ = self.push_local::<()>(word));
        Kept { first, _scope: PhantomData, _holds: PhantomData }
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
        // The scope is this mutator's, so the slots are; what is below the top has not been popped since.
        let is_own = m.record().locals_base() <= self.first && end <= m.local_top.get();
        assert!(is_own, "references were kept by another mutator");
        let loaded = |index: usize, Load(needs_barrier): Load| {
            let slot = m.record().local(self.first + 8 * index as u64);
            let word = slot.load(Ordering::Relaxed);
            if needs_barrier(word, m) { m.heal(slot, word) } else { word }
        };
        // SAFETY: `keep` wrote the words in this order. A slot of a scope ends with the scope, or here.
        let all = unsafe { S::load(loaded) };
        if m.local_top.get() == end {
            m.pop_to(self.first);
        }
        all
    }
}

impl<S> fmt::Debug for Kept<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({:#x})", self.first)
    }
}

/// A safepoint that takes raw references in and gives them back: `(a, b) = yield_with!(m, (a, b))`. What a long primitive polls with, that
/// has a few references in hand: `append`, `equal?`, a sort. A load and a test while nothing is asked for.
///
/// `m` is a variable: a `&mut Mutator` or a [`Frame`](crate::Frame). All other raw references end, as at every safepoint. What is given is
/// an array, or a tuple of up to eight, of [`Gc`](crate::Gc), `Option<Gc>` and [`Value`](crate::Value). It is what
/// [`Mutator::keep`](crate::Mutator::keep), [`safepoint`](crate::Mutator::safepoint) and [`Kept::take`](crate::Kept::take) do, where a
/// safepoint is due.
///
/// ```
/// use gc_heap::{Heap, Local, Mutator, Slot, Trace, yield_with};
///
/// #[derive(Trace)]
/// struct Pair { number: u64, rest: Slot<Option<Pair>> }
///
/// /// Whether two lists are the same numbers. No stop waits for it, however long they are.
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
