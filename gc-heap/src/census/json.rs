//! The file format: that of V8's heap profiler, which Chromium's developer tools read.
//!
//! Flat arrays of numbers: seven for each node, three for each edge; an edge names its target by the index of its first
//! number. Strings stand at the end and are named by index.

use super::graph::{Edge, EdgeName, Graph};
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

pub(super) fn write(graph: &Graph, out: &mut impl Write) -> io::Result<()> {
    let mut strings = Strings::default();
    write!(out, r#"{{"snapshot":{{"meta":{META},"#)?;
    writeln!(out, r#""node_count":{},"edge_count":{},"trace_function_count":0}},"#, graph.nodes(), graph.edges.len())?;
    write!(out, r#""nodes":["#)?;
    for node in 0..graph.nodes() {
        let edges = graph.first[node + 1] - graph.first[node];
        let (sort, name, bytes) = match node.checked_sub(graph.synthetic.len()) {
            None => (SYNTHETIC, strings.of(&graph.synthetic[node]), 0),
            Some(object) => {
                let object = &graph.objects[object];
                (OBJECT, strings.of(object.kind.name()), object.bytes)
            }
        };
        let comma = if node == 0 { "" } else { "," };
        writeln!(out, "{comma}{sort},{name},{},{bytes},{edges},0,0", id(graph, node))?;
    }
    write!(out, r#"],"edges":["#)?;
    for (number, edge) in graph.edges.iter().enumerate() {
        let (sort, name) = edge_type(&mut strings, edge);
        let comma = if number == 0 { "" } else { "," };
        writeln!(out, "{comma}{sort},{name},{}", edge.to * NODE_FIELDS)?;
    }
    writeln!(out, r#"],"trace_function_infos":[],"trace_tree":[],"samples":[],"locations":[],"#)?;
    write!(out, r#""strings":["#)?;
    for (number, text) in strings.all.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(out, "{comma}")?;
        quote(text, out)?;
        writeln!(out)?;
    }
    writeln!(out, "]}}")
}

/// An odd number that no other node has: V8's objects have odd ones. An object's is made of its place, so it tells
/// objects apart, not the same object in two snapshots.
fn id(graph: &Graph, node: usize) -> usize {
    match node.checked_sub(graph.synthetic.len()) {
        None => 2 * node + 1,
        Some(object) => 2 * (graph.synthetic.len() + graph.objects[object].offset / 8) + 1,
    }
}

fn edge_type(strings: &mut Strings, edge: &Edge) -> (usize, usize) {
    match &edge.name {
        EdgeName::Element(index) | EdgeName::Root(index) => (ELEMENT, *index),
        EdgeName::Field(name) => (PROPERTY, strings.of(name)),
        EdgeName::Value(name) => (INTERNAL, strings.of(name)),
        EdgeName::Weak(name) => (WEAK, strings.of(name)),
    }
}

fn quote(text: &str, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"\"")?;
    for char in text.chars() {
        match char {
            '"' | '\\' => write!(out, "\\{char}")?,
            control if u32::from(control) < 0x20 => write!(out, "\\u{:04x}", u32::from(control))?,
            other => write!(out, "{other}")?,
        }
    }
    out.write_all(b"\"")
}
