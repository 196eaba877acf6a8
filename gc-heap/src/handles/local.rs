//! Frames and locals: roots that belong to a scope of one thread.

use crate::barrier::{self, Place, access};
use crate::inner::mutator::{Mutator, Scope};
use crate::slot::{Rootable, Slot, SlotType};
use gc_core::word::GoodWord;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A rooted slot of a scope: `Copy`, alive across safepoints, inert without a mutator.
///
/// ```
/// use gc_heap::{Heap, Local, Mutator, OutOfMemory, AllocSize, Slot, Trace};
///
/// #[derive(Trace)]
/// struct Node { value: u64, next: Slot<Option<Node>> }
///
/// /// Takes a local and returns one, because it is a safepoint; both belong to the caller's scope.
/// fn prepend<'s>(m: &mut Mutator<'s>, list: Local<'_, Node>, value: u64) -> Result<Local<'s, Node>, OutOfMemory> {
///     m.alloc::<Node>(|m| NodeInit { value, next: Some(list.get(m)) })
/// }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), OutOfMemory> {
///     let last = m.alloc::<Node>(|_| NodeInit { value: 1, next: None })?;
///     let list = prepend(m, last, 2)?;
///     m.collect(); // both may have moved
///     assert!(list.get(m).next.get(m).is_some_and(|next| next.ptr_eq(last.get(m))));
///     // A copy of the handle is the same slot, not a second one.
///     let same = list;
///     same.set(m, last.get(m));
///     assert_eq!(list.get(m).value, 1);
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Local<'s, S> {
    slot: NonNull<AtomicU64>,
    _scope: Scope<'s>,
    _holds: PhantomData<*mut S>,
}

impl<S> Clone for Local<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Local<'_, S> {}

impl<S> fmt::Debug for Local<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({:p})", self.slot)
    }
}

impl<S: SlotType> Local<'_, S> {
    /// As [`get`](Self::get), by a mutator that is known to be the local's own.
    #[inline(always)]
    pub(crate) fn load<'g>(&self, m: &'g Mutator<'_>) -> S::Loaded<'g> {
        self.slot().load_own_at(Place::Local, m, || ())
    }

    #[inline(always)]
    fn slot(&self) -> &Slot<S> {
        // SAFETY: the slot is in the locals region of a mutator that is still attached: `'s` is a
        // scope of its `enter`. Regions stay mapped until their thread detaches. `push_local` has
        // written it for this type.
        unsafe { Slot::of(self.slot.as_ref()) }
    }

    /// Whether the slot belongs to this mutator, and not to one whose `blocking` this one runs in.
    #[inline(always)]
    fn check(&self, m: &Mutator<'_>) {
        let address = self.slot.as_ptr() as u64;
        assert!(
            m.local_limit.get().wrapping_sub(address).wrapping_sub(1) < m.record().locals_len(),
            "a local was used with another mutator than its own"
        );
    }

    /// Loads the local's value.
    #[inline(always)]
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> S::Loaded<'g> {
        self.slot().load_own_at(Place::Local, m, || {
            if matches!(S::SLOT_KIND, crate::object::SlotKind::Tagged) {
                // A foreign typed reference fails the barrier's test; a foreign immediate would
                // not.
                self.check(m);
            }
        })
    }

    /// Overwrites the local.
    #[inline(always)]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, value: S::Loaded<'g>) {
        self.check(m);
        access::store_own::<S>(self.slot().raw(), Place::Local, S::to_word(value), m);
    }
}

impl<'s> Mutator<'s> {
    /// Roots a value in the current scope. Never a safepoint.
    ///
    /// ```
    /// use gc_heap::{Heap, Slot, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Node { next: Slot<Option<Node>> }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let node = m.alloc::<Node>(|_| NodeInit { next: None })?;
    ///     let next = m.local(node.get(m).next.get(m)); // a `Local<Option<Node>>`: the type is that of the value
    ///     m.collect();
    ///     assert!(next.get(m).is_none());
    ///     next.set(m, Some(node.get(m)));
    ///     let some = m.local(next.get(m).unwrap()); // a `Local<Node>`, which is never null
    ///     assert!(some.get(m).ptr_eq(node.get(m)));
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If the thread has more than 33,554,432 locals. With [`Barrier::Page`](crate::Barrier::Page)
    /// threads that are attached at the same time share 1,073,741,824: two have 33,554,432 each at
    /// most, 512 have 2,097,152, 131,072 have 8,192.
    #[inline(always)]
    #[track_caller]
    pub fn local<'g, V: Rootable<'g>>(&'g self, value: V) -> Local<'s, V::Slot> {
        self.push_local(value)
    }

    /// Roots a value of this slot type in the current scope: as [`local`](Self::local), for values
    /// whose type is ambiguous. Never a safepoint.
    ///
    /// ```
    /// # use gc_heap::{Bytes, Heap};
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| {
    ///     let last = m.local_of::<Option<Bytes>>(None);
    ///     assert!(last.get(m).is_none());
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// As [`local`](Self::local).
    #[track_caller]
    pub fn local_of<'g, S: SlotType>(&'g self, loaded: S::Loaded<'g>) -> Local<'s, S> {
        self.push_local(loaded)
    }

    #[inline(always)]
    #[track_caller]
    pub(crate) fn push_local<S: SlotType>(&self, value: S::Loaded<'_>) -> Local<'s, S> {
        // SAFETY: a word of this type.
        unsafe { self.push_word(S::to_word(value)) }
    }

    /// # Safety
    /// The word is one of `S`, or the local is not loaded before it is stored to.
    #[inline(always)]
    #[track_caller]
    unsafe fn push_word<S>(&self, word: GoodWord) -> Local<'s, S> {
        let address = self.local_top.get();
        if address == self.local_limit.get() {
            self.more_locals();
        }
        // SAFETY: the top of the locals is a slot below the limit, which is the region's end.
        let slot = unsafe { self.record().locals().word_at(address as usize) };
        barrier::locals::push(slot, word, self);
        self.local_top.set(address + 8);
        Local { slot: NonNull::from(slot), _scope: PhantomData, _holds: PhantomData }
    }

    /// Extends the frame in place.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn more_locals(&self) {
        let record = self.record();
        if !record.grow_locals() {
            let most = record.locals_len() / 8;
            panic!("too many locals: {most} of this thread are in use; a loop that roots needs a frame inside");
        }
        self.local_limit.set(record.locals_end());
    }

    /// Ends the locals above an address.
    #[inline(always)]
    pub(crate) fn pop_to(&self, address: u64) {
        barrier::locals::end(address, self);
        self.local_top.set(address);
    }

    /// Opens a frame: locals made in it end with it. `?`, `return` and `break` work as usual. Never
    /// a safepoint.
    ///
    /// ```
    /// use gc_heap::{Heap, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Token { number: u64 }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
    ///     let last = m.local_of::<Option<Token>>(None);
    ///     for number in 0..1000 {
    ///         let m = &mut *m.frame(); // without it all tokens stay alive until `enter` returns
    ///         let token = m.alloc::<Token>(|_| TokenInit { number })?;
    ///         last.set(m, Some(token.get(m))); // a value that outlives the frame is stored in a local of the outer scope
    ///     }
    ///     m.collect();
    ///     assert_eq!(last.get(m).map(|token| token.number), Some(999));
    ///     assert_eq!(m.census().of::<Token>().objects, 1);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn frame(&mut self) -> Frame<'_> {
        let saved = self.local_top.get();
        Frame { mutator: NonNull::from(&mut *self).cast(), saved, _parent: PhantomData }
    }

    /// Opens a frame and a slot in the parent's scope for its result: see [`ReturnSlot`]. Never a
    /// safepoint.
    #[inline(always)]
    #[track_caller]
    pub fn frame_for<S: SlotType>(&mut self) -> (Frame<'_>, ReturnSlot<'s, S>) {
        // SAFETY: a return slot gives the local when it has stored to it.
        let local = unsafe { self.push_word(GoodWord::NULL) };
        (self.frame(), ReturnSlot { local })
    }

    /// Runs `f` in its own scope and roots its result in this one. No safepoint except those in
    /// `f`.
    ///
    /// ```
    /// use gc_heap::{Heap, Local, Mutator, OutOfMemory, Slot, Trace};
    ///
    /// #[derive(Trace)]
    /// struct Pair { left: Slot<Option<Pair>>, right: Slot<Option<Pair>> }
    ///
    /// fn pair<'s>(m: &mut Mutator<'s>, depth: u32) -> Result<Local<'s, Pair>, OutOfMemory> {
    ///     m.scope_local(|m| {
    ///         if depth == 0 {
    ///             return Ok(m.alloc_raw::<Pair>(|_| PairInit { left: None, right: None })?.1);
    ///         }
    ///         // Two locals a call, which end with it: the caller's scope gets one.
    ///         let (left, right) = (pair(m, depth - 1)?, pair(m, depth - 1)?);
    ///         Ok(m.alloc_raw::<Pair>(|m| PairInit { left: Some(left.get(m)), right: Some(right.get(m)) })?.1)
    ///     })
    /// }
    ///
    /// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
    /// heap.enter(|m| -> Result<(), OutOfMemory> {
    ///     let root = pair(m, 10)?;
    ///     assert!(root.get(m).right.get(m).is_some());
    ///     assert_eq!(m.census().of::<Pair>().objects, 2047);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    #[track_caller]
    pub fn scope_local<S: SlotType, E>(
        &mut self,
        f: impl for<'g, 'i> FnOnce(&'g mut Mutator<'i>) -> Result<S::Loaded<'g>, E>,
    ) -> Result<Local<'s, S>, E> {
        let mut frame = self.frame();
        let word = f(&mut frame).map(S::to_word);
        drop(frame);
        // No safepoint since the closure returned: the word is good.
        match word {
            // SAFETY: a word of this type.
            Ok(word) => Ok(unsafe { self.push_word(word) }),
            Err(error) => Err(error),
        }
    }
}

/// A scope of locals, ended when it is dropped. Dereferences to the mutator.
pub struct Frame<'a> {
    mutator: NonNull<Mutator<'a>>,
    saved: u64,
    _parent: PhantomData<&'a mut Mutator<'a>>,
}

impl<'a> Deref for Frame<'a> {
    type Target = Mutator<'a>;

    #[inline(always)]
    fn deref(&self) -> &Mutator<'a> {
        // SAFETY: made from `&'a mut Mutator`, which stays borrowed for 'a. The scope lifetime is a
        // label only: locals of 'a cannot be used once the parent is, since they keep this borrow
        // alive.
        unsafe { self.mutator.as_ref() }
    }
}

impl<'a> DerefMut for Frame<'a> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Mutator<'a> {
        // SAFETY: as in `deref`, and `&mut self` makes this the only access.
        unsafe { self.mutator.as_mut() }
    }
}

impl Drop for Frame<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.pop_to(self.saved);
    }
}

/// The slot for a frame's result, in the scope around it: made by [`Mutator::frame_for`]. If a
/// closure is convenient, [`Mutator::scope_local`] is shorter.
///
/// ```
/// use gc_heap::{Bytes, Heap, Local, Mutator, OutOfMemory, AllocSize};
///
/// /// The longest of some texts; the others are garbage when this returns.
/// fn longest<'s>(m: &mut Mutator<'s>, texts: &[&str]) -> Result<Local<'s, Option<Bytes>>, OutOfMemory> {
///     let (mut m, out) = m.frame_for::<Option<Bytes>>();
///     let longest = m.local_of::<Option<Bytes>>(None);
///     for text in texts {
///         let m = m.reserve(AllocSize::tail::<Bytes>(text.len()))?; // on an error the slot stays null, and is the caller's no more
///         let text = m.place_bytes::<Bytes>((), text.as_bytes());
///         if longest.get(m).is_none_or(|other| other.tail_len() < text.tail_len()) {
///             longest.set(m, Some(text));
///         }
///     }
///     Ok(out.put(&m, longest.get(&m))) // `longest` itself could not be returned: it ends with the frame
/// }
///
/// # let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), OutOfMemory> {
///     let found = longest(m, &["a", "abc", "ab"])?;
///     m.collect();
///     assert_eq!(found.get(m).map(|text| text.tail()), Some(&b"abc"[..]));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct ReturnSlot<'s, S> {
    local: Local<'s, S>,
}

impl<'s, S: SlotType> ReturnSlot<'s, S> {
    /// Fills the slot.
    #[inline(always)]
    pub fn put<'g>(self, m: &'g Mutator<'_>, value: S::Loaded<'g>) -> Local<'s, S> {
        self.local.set(m, value);
        self.local
    }
}
