//! What is in the heap: a census by kind, and a snapshot that browsers' developer tools open.
//!
//! Both are taken by the collector in a cycle, while the program runs; the caller waits for that cycle. No pause is longer
//! for it (with `Barrier::StopTheWorld` the one pause is, which is all there is); the cycle is, by about the time of a
//! marking. What counts is what was alive when marking began; what was allocated since is not in it.

mod graph;
mod json;

use crate::collector::heap_walk::{Request, Survey};
use crate::heap::Heap;
use crate::inner::HeapInner;
use crate::lock::Mutex;
use crate::mutator::Mutator;
use crate::mutator::enter::is_inside;
use crate::object::Kind;
use graph::Graph;
use std::io;
use std::sync::Arc;

/// The live objects of one type.
#[derive(Clone, Copy, Debug)]
pub struct KindCount {
    /// The type.
    pub kind: &'static Kind,
    /// How many objects.
    pub objects: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
}

/// The live objects by kind, at one moment.
///
/// ```
/// use gc_heap::{Heap, Trace};
///
/// #[derive(Trace)]
/// struct Point { x: f64, y: f64 }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// heap.enter(|m| -> Result<(), gc_heap::OutOfMemory> {
///     for i in 0..10 {
///         m.alloc::<Point>(|_| PointInit { x: i.into(), y: 0.0 })?;
///     }
///     let census = m.census();
///     assert_eq!((census.of::<Point>().objects, census.of::<Point>().bytes), (10, 240));
///     Ok(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Census {
    kinds: Vec<KindCount>,
}

impl Census {
    fn of_survey(survey: &Survey) -> Census {
        let mut kinds: Vec<_> =
            survey.kinds.values().map(|&(kind, objects, bytes)| KindCount { kind, objects, bytes }).collect();
        kinds.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.kind.name().cmp(b.kind.name())));
        Census { kinds }
    }

    /// The kinds that have live objects, the one with the most bytes first.
    #[must_use]
    pub fn kinds(&self) -> &[KindCount] {
        &self.kinds
    }

    /// The count of one type; zeros where it has no live object.
    #[must_use]
    pub fn of<T: crate::Trace>(&self) -> KindCount {
        let found = self.kinds.iter().find(|count| count.kind.is::<T>());
        found.copied().unwrap_or(KindCount { kind: T::KIND, objects: 0, bytes: 0 })
    }

    /// Live objects in all.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.kinds.iter().map(|count| count.objects).sum()
    }

    /// Live bytes in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.kinds.iter().map(|count| count.bytes).sum()
    }
}

impl std::fmt::Display for Census {
    /// A table: bytes, objects, name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for KindCount { kind, objects, bytes } in &self.kinds {
            writeln!(f, "{bytes:>14} {objects:>12} {}", kind.name())?;
        }
        Ok(())
    }
}

/// Every live object and what refers to it, at one moment.
///
/// It takes memory outside the heap: some forty bytes an object and fifty a reference.
///
/// ```
/// use gc_heap::{Heap, Slot, Trace};
///
/// #[derive(Trace)]
/// struct Node { value: u64, next: Slot<Option<Node>> }
///
/// let heap = Heap::builder().max_bytes(16 << 20).build()?;
/// let snapshot = heap.enter(|m| -> Result<_, gc_heap::OutOfMemory> {
///     m.alloc::<Node>(|_| NodeInit { value: 1, next: None })?;
///     Ok(m.heap_snapshot())
/// })??;
/// let mut file = Vec::new(); // or a file named `something.heapsnapshot`
/// snapshot.write_to(&mut file)?;
/// assert!(file.starts_with(b"{\"snapshot\":"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HeapSnapshot {
    graph: Graph,
    census: Census,
}

impl HeapSnapshot {
    fn of_survey(survey: &Survey) -> HeapSnapshot {
        HeapSnapshot { census: Census::of_survey(survey), graph: Graph::new(survey) }
    }

    /// The census of the same moment.
    #[must_use]
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Writes the snapshot as V8 does, for a file `*.heapsnapshot`: Chromium's developer tools open it under *Memory*. Written
    /// in small pieces as it is made: give it a `BufWriter`.
    ///
    /// An object's name is its type's, an edge's name its field's. An ephemeron is a weak edge to its key, and an edge from
    /// the key to the value. Objects that the cycle kept, but nothing led to any more when it looked, hang on a root of
    /// their own, "(kept by this cycle)".
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut impl io::Write) -> io::Result<()> {
        json::write(&self.graph, out)
    }
}

impl std::fmt::Debug for HeapSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeapSnapshot").field("objects", &self.census.objects()).finish_non_exhaustive()
    }
}

impl HeapInner {
    /// Takes a survey in a cycle that ends after the call, and waits for it. The caller is parked or not attached.
    fn survey(&self, graph: bool) -> Arc<Survey> {
        self.check_process();
        let request = Arc::new(Request { graph, answer: Mutex::default() });
        self.surveys.push(Arc::clone(&request));
        self.collect();
        let answer = request.answer.lock().take();
        answer.unwrap_or_else(|| {
            self.check_collector();
            unreachable!("a cycle answers all that was asked before it began")
        })
    }
}

impl Heap {
    /// Counts the live objects by kind. Waits for a cycle; for threads that are not inside a heap.
    ///
    /// # Panics
    /// If this thread is inside a heap: call [`Mutator::census`]. If the collector has failed, or this process is a
    /// child made by `fork`.
    #[must_use]
    pub fn census(&self) -> Census {
        assert!(!is_inside(), "Heap::census from inside a heap: call Mutator::census");
        Census::of_survey(&self.inner().survey(false))
    }

    /// Takes a snapshot of the live objects. Waits for a cycle; for threads that are not inside a heap.
    ///
    /// # Panics
    /// If this thread is inside a heap: call [`Mutator::heap_snapshot`]. If the collector has failed, or this process
    /// is a child made by `fork`.
    #[must_use]
    pub fn heap_snapshot(&self) -> HeapSnapshot {
        assert!(!is_inside(), "Heap::heap_snapshot from inside a heap: call Mutator::heap_snapshot");
        HeapSnapshot::of_survey(&self.inner().survey(true))
    }
}

impl Mutator<'_> {
    /// Counts the live objects by kind. A safepoint: waits for a cycle.
    ///
    /// # Panics
    /// If the collector has failed.
    #[must_use]
    pub fn census(&mut self) -> Census {
        let inner = self.shared_arc();
        Census::of_survey(&self.parked(|| inner.survey(false)))
    }

    /// Takes a snapshot of the live objects. A safepoint: waits for a cycle.
    ///
    /// # Panics
    /// If the collector has failed.
    #[must_use]
    pub fn heap_snapshot(&mut self) -> HeapSnapshot {
        let inner = self.shared_arc();
        self.parked(|| HeapSnapshot::of_survey(&inner.survey(true)))
    }
}
