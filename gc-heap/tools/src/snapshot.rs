//! Snapshots in the file format of V8's heap profiler, which Chromium's developer tools read.
//!
//! Flat arrays of numbers: seven for each node, three for each edge; an edge names its target by
//! the index of its first number. Strings stand at the end and are named by index.

use crate::json::escaped;
use gc_heap::{EdgeName, HeapSnapshot, SnapshotEdge};
use std::collections::HashMap;
use std::io::{self, Write};

/// Numbers of a node.
const NODE_FIELDS: usize = 7;

/// Indices into `node_types`.
const OBJECT: usize = 3;
const SYNTHETIC: usize = 9;

/// Indices into `edge_types`.
const ELEMENT: usize = 1;
const PROPERTY: usize = 2;
const INTERNAL: usize = 3;
const WEAK: usize = 6;

const META: &str = concat!(
    r#"{"node_fields":["type","name","id","self_size","edge_count","trace_node_id","detachedness"],"#,
    r#""node_types":[["hidden","array","string","object","code","closure","regexp","number","native","synthetic","#,
    r#""concatenated string","sliced string","symbol","bigint","object shape"],"#,
    r#""string","number","number","number","number","number"],"#,
    r#""edge_fields":["type","name_or_index","to_node"],"#,
    r#""edge_types":[["context","element","property","internal","hidden","shortcut","weak"],"string_or_number","node"],"#,
    r#""trace_function_info_fields":["function_id","name","script_name","script_id","line","column"],"#,
    r#""trace_node_fields":["id","function_info_index","count","size","children"],"#,
    r#""sample_fields":["timestamp_us","last_assigned_id"],"#,
    r#""location_fields":["object_index","script_id","line","column"]}"#,
);

#[derive(Default)]
struct Strings {
    index: HashMap<String, usize>,
    all: Vec<String>,
}

impl Strings {
    fn of(&mut self, text: &str) -> usize {
        if let Some(&index) = self.index.get(text) {
            return index;
        }
        self.index.insert(text.to_owned(), self.all.len());
        self.all.push(text.to_owned());
        self.all.len() - 1
    }
}

/// Writes a snapshot as V8 does, for a file `*.heapsnapshot`: Chromium's developer tools open it
/// under *Memory*.
///
/// It writes in small pieces: give it a `BufWriter`. It takes memory for the names, each once.
///
/// The name of an object is that of its type, the name of an edge that of its field. An ephemeron
/// is a weak edge to its key, and an edge from the key to the value. Objects that the cycle kept,
/// but that were unreachable when it visited them, are under a root of their own, "(kept by this
/// cycle)".
///
/// ```
/// use gc_heap::{Heap, Slot, Trace};
/// use gc_heap_tools::write_v8_snapshot;
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
/// write_v8_snapshot(&snapshot, &mut file)?;
/// assert!(file.starts_with(b"{\"snapshot\":"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `out`.
pub fn write_v8_snapshot(snapshot: &HeapSnapshot, out: &mut impl Write) -> io::Result<()> {
    let mut strings = Strings::default();
    let edges: usize = snapshot.nodes().map(|node| node.edges().len()).sum();
    write!(out, r#"{{"snapshot":{{"meta":{META},"#)?;
    writeln!(out, r#""node_count":{},"edge_count":{edges},"trace_function_count":0}},"#, snapshot.nodes().len())?;
    write!(out, r#""nodes":["#)?;
    let mut comma = "";
    for node in snapshot.nodes() {
        let sort = if node.kind().is_some() { OBJECT } else { SYNTHETIC };
        // V8's objects have odd numbers.
        let (name, id, edges) = (strings.of(node.name()), 2 * node.id() + 1, node.edges().len());
        writeln!(out, "{comma}{sort},{name},{id},{},{edges},0,0", node.bytes())?;
        comma = ",";
    }
    write!(out, r#"],"edges":["#)?;
    comma = "";
    for edge in snapshot.nodes().flat_map(|node| node.edges()) {
        let (sort, name) = edge_type(&mut strings, edge);
        writeln!(out, "{comma}{sort},{name},{}", edge.to() * NODE_FIELDS)?;
        comma = ",";
    }
    writeln!(out, r#"],"trace_function_infos":[],"trace_tree":[],"samples":[],"locations":[],"#)?;
    write!(out, r#""strings":["#)?;
    comma = "";
    for text in &strings.all {
        writeln!(out, r#"{comma}"{}""#, escaped(text))?;
        comma = ",";
    }
    writeln!(out, "]}}")
}

fn edge_type(strings: &mut Strings, edge: &SnapshotEdge) -> (usize, usize) {
    match edge.name() {
        EdgeName::Element(index) | EdgeName::Root(index) => (ELEMENT, *index),
        EdgeName::Field(name) => (PROPERTY, strings.of(name)),
        EdgeName::Value(name) => (INTERNAL, strings.of(name)),
        EdgeName::Weak(name) => (WEAK, strings.of(name)),
    }
}
