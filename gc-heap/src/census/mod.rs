//! What is in the heap: a census by kind, and a snapshot, which is the graph of the live objects.
//!
//! The collector takes both in a cycle, concurrently with the program; the caller waits for that
//! cycle. It lengthens no pause (except with `Barrier::StopTheWorld`, whose pause is the whole
//! cycle), but the cycle, by about the time of a marking. It includes the objects that were alive
//! when marking began, and none allocated since.

mod graph;

use crate::active::is_inside;
use crate::inner::HeapInner;
use crate::inner::handle::Heap;
use crate::inner::heap_walk::{Request, Walked};
use crate::lock::Mutex;
use crate::mutator::Mutator;
use crate::object::Kind;
use std::sync::Arc;

use graph::Graph;
pub use graph::{EdgeName, SnapshotEdge, SnapshotNode};

/// The live objects of one type.
#[derive(Clone, Copy, Debug)]
pub struct KindCount {
    /// The type.
    pub kind: &'static Kind,
    /// Number of objects.
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
    fn of_walk(walked: &Walked) -> Census {
        let mut kinds: Vec<_> =
            walked.kinds.values().map(|&(kind, objects, bytes)| KindCount { kind, objects, bytes }).collect();
        kinds.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.kind.name().cmp(b.kind.name())));
        Census { kinds }
    }

    /// The kinds that have live objects, by bytes in descending order.
    #[must_use]
    pub fn kinds(&self) -> &[KindCount] {
        &self.kinds
    }

    /// The count of one type; zeros if it has no live object.
    #[must_use]
    pub fn of<T: crate::Trace>(&self) -> KindCount {
        let found = self.kinds.iter().find(|count| count.kind.is::<T>());
        found.copied().unwrap_or(KindCount { kind: T::KIND, objects: 0, bytes: 0 })
    }

    /// Number of all live objects.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.kinds.iter().map(|count| count.objects).sum()
    }

    /// Bytes of all live objects.
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

/// Every live object with its references, at one moment.
///
/// It needs memory outside the heap: about forty bytes per object and fifty per reference.
/// `gc_heap_tools::write_v8_snapshot` writes it as a file that browsers' developer tools open.
///
/// [`nodes`](Self::nodes) is a graph: node 0 is the root of all, node 1 stands for the heap's
/// roots; then one for each sort of root, then the objects. All of them can be reached from node 0
/// by edges that are not weak. Objects that the cycle kept, but that were unreachable when it
/// visited them, are under a root of their own, "(kept by this cycle)".
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
/// let node = snapshot.nodes().find(|node| node.kind().is_some_and(|kind| kind.is::<Node>())).unwrap();
/// assert_eq!((node.bytes(), node.edges().len()), (24, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HeapSnapshot {
    graph: Graph,
    census: Census,
}

impl HeapSnapshot {
    fn of_walk(walked: &Walked) -> HeapSnapshot {
        HeapSnapshot { census: Census::of_walk(walked), graph: Graph::new(walked) }
    }

    /// The census of the same moment.
    #[must_use]
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// The nodes of the graph, in the order of their numbers. An edge names its target by that
    /// number.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = SnapshotNode<'_>> {
        self.graph.nodes()
    }
}

impl std::fmt::Debug for HeapSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeapSnapshot").field("objects", &self.census.objects()).finish_non_exhaustive()
    }
}

impl HeapInner {
    /// Walks the heap in a cycle that ends after the call, and waits for it. The caller is parked
    /// or not attached.
    fn walk(&self, graph: bool) -> Arc<Walked> {
        self.check_process();
        let request = Arc::new(Request { graph, answer: Mutex::default() });
        self.schedule.walks.push(Arc::clone(&request));
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
    /// If this thread is inside a heap: call [`Mutator::census`]. If the collector has failed, or
    /// this process is a child made by `fork`.
    #[must_use]
    pub fn census(&self) -> Census {
        assert!(!is_inside(), "Heap::census from inside a heap: call Mutator::census");
        Census::of_walk(&self.inner().walk(false))
    }

    /// Takes a snapshot of the live objects. Waits for a cycle; for threads that are not inside a
    /// heap.
    ///
    /// # Panics
    /// If this thread is inside a heap: call [`Mutator::heap_snapshot`]. If the collector has
    /// failed, or this process is a child made by `fork`.
    #[must_use]
    pub fn heap_snapshot(&self) -> HeapSnapshot {
        assert!(!is_inside(), "Heap::heap_snapshot from inside a heap: call Mutator::heap_snapshot");
        HeapSnapshot::of_walk(&self.inner().walk(true))
    }
}

impl Mutator<'_> {
    /// Counts the live objects by kind. A safepoint: waits for a cycle.
    ///
    /// # Panics
    /// If the collector has failed.
    #[must_use]
    pub fn census(&mut self) -> Census {
        let inner = Arc::clone(self.heap_arc());
        Census::of_walk(&self.parked(|| inner.walk(false)))
    }

    /// Takes a snapshot of the live objects. A safepoint: waits for a cycle.
    ///
    /// # Panics
    /// If the collector has failed.
    #[must_use]
    pub fn heap_snapshot(&mut self) -> HeapSnapshot {
        let inner = Arc::clone(self.heap_arc());
        self.parked(|| HeapSnapshot::of_walk(&inner.walk(true)))
    }
}
