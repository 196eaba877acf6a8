//! [`Root`]: an entry of the heap's table of roots, which any thread may hold.

use crate::barrier::Place;
use crate::inner::mutator::Mutator;
use crate::slot::SlotType;
use crate::slot::words::RootWord;

/// A root that any thread may hold: `Send`, `Sync`, can be dropped without a mutator.
///
/// `S` is a slot type: `Root<Node>`, `Root<Option<Node>>`, `Root<Tagged>`.
///
/// ```
/// use gc_heap::{Heap, Root, Tagged, Trace, Value};
///
/// #[derive(Trace)]
/// struct Module { number: u32 }
///
/// /// What a machine keeps outside the heap; any thread may have it.
/// #[derive(Debug)]
/// struct Globals { main: Root<Option<Module>>, result: Root<Tagged> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let globals = heap.enter(|m| Globals { main: Root::new(m, None), result: Root::new(m, Value::NIL) })?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     let (m, module) = m.alloc_raw::<Module>(|_| ModuleInit { number: 3 })?;
///     globals.main.set(m, Some(module));
///     globals.result.set(m, Value::num(1.5));
///     Ok(())
/// })??;
/// heap.collect();
/// heap.enter(|m| assert_eq!(globals.main.get(m).map(|module| module.number), Some(3)))?;
/// println!("{globals:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Root<S> {
    /// Invariant in `S`: of two types of which one is a subtype of the other, the slots may hold
    /// different things.
    word: RootWord<S>,
}

impl<S: SlotType> Root<S> {
    pub(crate) fn of(word: RootWord<S>) -> Root<S> {
        Root { word }
    }

    /// Roots a value. Takes a lock for an instant; never a safepoint.
    ///
    /// # Panics
    /// With [`Barrier::Page`](crate::Barrier::Page), if roots and stacks use up all addresses that
    /// the heap has for them: eight million roots have a share of their own. With the other
    /// barriers, running out of memory for roots is as for a [`Box`].
    #[must_use]
    pub fn new<'g>(m: &'g Mutator<'_>, value: S::Loaded<'g>) -> Root<S> {
        Root { word: RootWord::new(&m.inner().roots.strong, value, m) }
    }

    /// Loads the root's value. Never blocks.
    ///
    /// # Panics
    /// If the root belongs to another heap than the mutator.
    #[inline]
    pub fn get<'g>(&self, m: &'g Mutator<'_>) -> S::Loaded<'g> {
        self.word.slot(&m.inner().roots.strong).load_at(Place::Root, m)
    }

    /// Overwrites the root. Never blocks.
    ///
    /// # Panics
    /// If the root belongs to another heap than the mutator.
    #[inline]
    pub fn set<'g>(&self, m: &'g Mutator<'_>, value: S::Loaded<'g>) {
        self.word.slot(&m.inner().roots.strong).store_at(Place::Root, value, m);
    }
}

impl<S> std::fmt::Debug for Root<S> {
    /// Prints the type only: the value can be loaded with a mutator alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Root<{}>", std::any::type_name::<S>())
    }
}
