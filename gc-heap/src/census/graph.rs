//! The graph of a snapshot: nodes by number, edges in the order of the nodes they come from.

use crate::collector::heap_walk::{Node, RootSort, Survey};
use crate::object::names::SlotName;
use std::collections::BTreeMap;

/// What an edge is called, and whether it keeps its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EdgeName {
    Element(usize),
    Field(String),
    /// From a key to the value of an ephemeron.
    Value(String),
    Weak(String),
    /// Number among the edges of a node that stands for roots.
    Root(usize),
}

pub(super) struct Edge {
    pub(super) name: EdgeName,
    /// Number of the node.
    pub(super) to: usize,
}

/// Node 0 is the root, node 1 stands for the roots; then one for each sort of root, then objects.
pub(super) struct Graph {
    /// Names of the nodes that are no objects.
    pub(super) synthetic: Vec<String>,
    pub(super) objects: Vec<Node>,
    /// The edges of each node: `edges[first[n]..first[n + 1]]`.
    pub(super) first: Vec<usize>,
    pub(super) edges: Vec<Edge>,
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
    /// The object that holds the slot, by number in the survey, and the byte within; `None` for roots.
    slot: Option<(usize, usize)>,
    weak: bool,
}

impl Graph {
    pub(super) fn new(survey: &Survey) -> Graph {
        let number = |offset: usize| survey.nodes.binary_search_by_key(&offset, |node| node.offset).ok();
        let mut roots: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for &(sort, offset) in &survey.roots {
            roots.entry(root_name(sort)).or_default().extend(number(offset));
        }
        roots.values_mut().for_each(|objects| {
            objects.sort_unstable();
            objects.dedup();
        });
        let mut raw: Vec<Raw> = survey
            .edges
            .iter()
            .filter_map(|edge| {
                let (from, to, holder) = (number(edge.from)?, number(edge.to)?, number(edge.holder)?);
                Some(Raw { from, to, slot: Some((holder, edge.at)), weak: edge.weak })
            })
            .collect();
        // Stable: an object's edges stay in the order of its slots.
        raw.sort_by_key(|edge| edge.from);
        let kept = unreached(survey.nodes.len(), &raw, roots.values().flatten().copied());
        if !kept.is_empty() {
            roots.insert("(kept by this cycle)".into(), kept);
        }
        Graph::number(survey, &roots, raw)
    }

    fn number(survey: &Survey, roots: &BTreeMap<String, Vec<usize>>, raw: Vec<Raw>) -> Graph {
        let mut synthetic = vec![String::new(), "(GC roots)".to_owned()];
        synthetic.extend(roots.keys().cloned());
        let before = synthetic.len();
        let mut graph = Graph { synthetic, objects: survey.nodes.clone(), first: Vec::new(), edges: Vec::new() };
        graph.add(std::iter::once(1));
        graph.add(2..before);
        for objects in roots.values() {
            graph.add(objects.iter().map(|object| before + object));
        }
        let mut raw = raw.into_iter().peekable();
        for node in 0..survey.nodes.len() {
            graph.first.push(graph.edges.len());
            while let Some(edge) = raw.next_if(|edge| edge.from == node) {
                let name = edge_name(survey, &edge);
                graph.edges.push(Edge { name, to: before + edge.to });
            }
        }
        graph.first.push(graph.edges.len());
        graph
    }

    /// Adds the edges of a node that stands for roots.
    fn add(&mut self, to: impl Iterator<Item = usize>) {
        self.first.push(self.edges.len());
        self.edges.extend(to.enumerate().map(|(number, to)| Edge { name: EdgeName::Root(number), to }));
    }

    pub(super) fn nodes(&self) -> usize {
        self.synthetic.len() + self.objects.len()
    }
}

fn edge_name(survey: &Survey, edge: &Raw) -> EdgeName {
    let Some((holder, at)) = edge.slot else { return EdgeName::Root(0) };
    let kind = survey.nodes[holder].kind;
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

/// Objects that no strong edge leads to from the roots, and that are not reached from one of those before them.
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
