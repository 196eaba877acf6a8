//! The graph of a snapshot: nodes by number, edges in the order of the nodes they come from.

use crate::inner::heap_walk::{Node, RootSort, Walked};
use crate::object::Kind;
use crate::object::slot_name::SlotName;
use crate::space::Offset;
use std::collections::BTreeMap;

/// The name of an edge, and whether it keeps its target alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeName {
    /// A slot in a tail of slots, by its index.
    Element(usize),
    /// A slot, by its path from the object's start: `left`, `table[3].key`, `[7].value`.
    Field(String),
    /// From the key of an ephemeron to its value: the path of the value's slot and the type of the
    /// object that holds the ephemeron. The key keeps the value, as long as that object lives.
    Value(String),
    /// A weak slot or an ephemeron's key, by its path: it keeps nothing.
    Weak(String),
    /// From a node that stands for roots: its number among the edges of that node.
    Root(usize),
}

/// A reference of a [`HeapSnapshot`](crate::HeapSnapshot).
#[derive(Clone, Debug)]
pub struct SnapshotEdge {
    name: EdgeName,
    to: usize,
}

impl SnapshotEdge {
    /// Its name, and whether it keeps its target alive.
    #[must_use]
    pub fn name(&self) -> &EdgeName {
        &self.name
    }

    /// The target node: its index in [`HeapSnapshot::nodes`](crate::HeapSnapshot::nodes), from 0.
    #[must_use]
    pub fn to(&self) -> usize {
        self.to
    }
}

/// A node of a [`HeapSnapshot`](crate::HeapSnapshot): an object, or a node that stands for roots.
#[derive(Clone, Copy)]
pub struct SnapshotNode<'a> {
    graph: &'a Graph,
    number: usize,
}

impl<'a> SnapshotNode<'a> {
    fn object(&self) -> Option<&'a Node> {
        self.number.checked_sub(self.graph.synthetic.len()).map(|object| &self.graph.objects[object])
    }

    /// The object's type; `None` for a node that stands for roots.
    #[must_use]
    pub fn kind(&self) -> Option<&'static Kind> {
        self.object().map(|object| object.kind)
    }

    /// The name of the object's type, or of the roots in parentheses, as in `(GC roots)`. The root
    /// of all has none.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.object().map_or_else(|| &*self.graph.synthetic[self.number], |object| object.kind.name())
    }

    /// Bytes of the object, header included; 0 for roots.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.object().map_or(0, |object| object.bytes)
    }

    /// A number that no other node of this snapshot has. An object's is made of its address, so it
    /// distinguishes objects, but does not identify the same object in another snapshot.
    #[must_use]
    pub fn id(&self) -> usize {
        self.object().map_or(self.number, |object| self.graph.synthetic.len() + object.offset.granule().number())
    }

    /// The node's outgoing edges; an object's in the order of its slots.
    #[must_use]
    pub fn edges(&self) -> &'a [SnapshotEdge] {
        let graph = self.graph;
        &graph.edges[graph.first[self.number]..graph.first[self.number + 1]]
    }
}

impl std::fmt::Debug for SnapshotNode<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotNode").field("name", &self.name()).field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// Node 0 is the root, node 1 stands for the roots; then one for each sort of root, then objects.
pub(super) struct Graph {
    /// Names of the nodes that are no objects.
    synthetic: Vec<String>,
    objects: Vec<Node>,
    /// The edges of each node: `edges[first[n]..first[n + 1]]`.
    first: Vec<usize>,
    edges: Vec<SnapshotEdge>,
}

fn root_name(sort: RootSort) -> String {
    match sort {
        RootSort::Locals(number) => format!("(locals of thread {number})"),
        RootSort::Stack(number) => format!("(root stack {number})"),
        RootSort::Process => "(process-wide roots)".into(),
    }
}

/// An edge before its node is known by number: from, name's slot, to.
struct Raw {
    from: usize,
    to: usize,
    /// The object that holds the slot, by number in the walked, and the byte within; `None` for
    /// roots.
    slot: Option<(usize, usize)>,
    weak: bool,
}

impl Graph {
    pub(super) fn new(walked: &Walked) -> Graph {
        let number = |offset: Offset| walked.nodes.binary_search_by_key(&offset, |node| node.offset).ok();
        let mut roots: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for &(sort, offset) in &walked.roots {
            roots.entry(root_name(sort)).or_default().extend(number(offset));
        }
        roots.values_mut().for_each(|objects| {
            objects.sort_unstable();
            objects.dedup();
        });
        let mut raw: Vec<Raw> = walked
            .edges
            .iter()
            .filter_map(|edge| {
                let (from, to, holder) = (number(edge.from)?, number(edge.to)?, number(edge.holder)?);
                Some(Raw { from, to, slot: Some((holder, edge.at)), weak: edge.weak })
            })
            .collect();
        // Stable: an object's edges stay in the order of its slots.
        raw.sort_by_key(|edge| edge.from);
        let kept = unreached(walked.nodes.len(), &raw, roots.values().flatten().copied());
        if !kept.is_empty() {
            roots.insert("(kept by this cycle)".into(), kept);
        }
        Graph::number(walked, &roots, raw)
    }

    fn number(walked: &Walked, roots: &BTreeMap<String, Vec<usize>>, raw: Vec<Raw>) -> Graph {
        let mut synthetic = vec![String::new(), "(GC roots)".to_owned()];
        synthetic.extend(roots.keys().cloned());
        let before = synthetic.len();
        let mut graph = Graph { synthetic, objects: walked.nodes.clone(), first: Vec::new(), edges: Vec::new() };
        graph.add(std::iter::once(1));
        graph.add(2..before);
        for objects in roots.values() {
            graph.add(objects.iter().map(|object| before + object));
        }
        let mut raw = raw.into_iter().peekable();
        for node in 0..walked.nodes.len() {
            graph.first.push(graph.edges.len());
            while let Some(edge) = raw.next_if(|edge| edge.from == node) {
                let name = edge_name(walked, &edge);
                graph.edges.push(SnapshotEdge { name, to: before + edge.to });
            }
        }
        graph.first.push(graph.edges.len());
        graph
    }

    /// Adds the edges of a node that stands for roots.
    fn add(&mut self, to: impl Iterator<Item = usize>) {
        self.first.push(self.edges.len());
        self.edges.extend(to.enumerate().map(|(number, to)| SnapshotEdge { name: EdgeName::Root(number), to }));
    }

    pub(super) fn nodes(&self) -> impl ExactSizeIterator<Item = SnapshotNode<'_>> {
        (0..self.synthetic.len() + self.objects.len()).map(|number| SnapshotNode { graph: self, number })
    }
}

fn edge_name(walked: &Walked, edge: &Raw) -> EdgeName {
    let Some((holder, at)) = edge.slot else { return EdgeName::Root(0) };
    let kind = walked.nodes[holder].kind;
    let name = |slot| match slot {
        SlotName::Element(index) => format!("[{index}]"),
        SlotName::Path(path) => path,
    };
    match kind.slot_name(at) {
        slot if edge.weak => EdgeName::Weak(name(slot)),
        slot if holder != edge.from => EdgeName::Value(format!("{} of {}", name(slot), kind.name())),
        SlotName::Element(index) => EdgeName::Element(index),
        SlotName::Path(path) => EdgeName::Field(path),
    }
}

/// Objects that are not reachable from the roots by strong edges, nor from an earlier object of
/// this list.
fn unreached(objects: usize, edges: &[Raw], roots: impl Iterator<Item = usize>) -> Vec<usize> {
    let first = |node: usize| edges.partition_point(|edge| edge.from < node);
    let mut reached = vec![false; objects];
    let mut kept = Vec::new();
    let mut todo: Vec<usize> = roots.collect();
    let mut next = 0;
    loop {
        while let Some(node) = todo.pop() {
            if !std::mem::replace(&mut reached[node], true) {
                let own = edges[first(node)..].iter().take_while(|edge| edge.from == node);
                todo.extend(own.filter(|edge| !edge.weak).map(|edge| edge.to));
            }
        }
        while next < objects && reached[next] {
            next += 1;
        }
        if next == objects {
            return kept;
        }
        kept.push(next);
        todo.push(next);
    }
}
