//! The report as JSON: one document, its keys those of [`Document`](crate::results::Document)
//! or of [`Primitives`](crate::primitives::Primitives).

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// The document as text: one line a key down to the keys of a run, so that a person can read it,
/// and below that compact, so that a histogram is one line.
pub(crate) fn text(document: &impl Serialize) -> String {
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, Shallow::new());
    document.serialize(&mut serializer).expect("a document is plain data, and memory does not fail to be written");
    out.push(b'\n');
    String::from_utf8(out).expect("serde_json writes UTF-8")
}

/// Document, list of runs, run.
const OPEN_LEVELS: usize = 3;

/// Indents the outer levels and keeps the inner ones on a line.
struct Shallow {
    pretty: PrettyFormatter<'static>,
    depth: usize,
}

impl Shallow {
    fn new() -> Self {
        Self { pretty: PrettyFormatter::with_indent(b" "), depth: 0 }
    }

    fn open(&self) -> bool {
        self.depth <= OPEN_LEVELS
    }
}

impl Formatter for Shallow {
    fn begin_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.open() { self.pretty.begin_array(w) } else { CompactFormatter.begin_array(w) }
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        let open = self.open();
        self.depth -= 1;
        if open { self.pretty.end_array(w) } else { CompactFormatter.end_array(w) }
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if self.open() { self.pretty.begin_array_value(w, first) } else { CompactFormatter.begin_array_value(w, first) }
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        if self.open() { self.pretty.end_array_value(w) } else { CompactFormatter.end_array_value(w) }
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.open() { self.pretty.begin_object(w) } else { CompactFormatter.begin_object(w) }
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        let open = self.open();
        self.depth -= 1;
        if open { self.pretty.end_object(w) } else { CompactFormatter.end_object(w) }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if self.open() { self.pretty.begin_object_key(w, first) } else { CompactFormatter.begin_object_key(w, first) }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        if self.open() { self.pretty.begin_object_value(w) } else { CompactFormatter.begin_object_value(w) }
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        if self.open() { self.pretty.end_object_value(w) } else { CompactFormatter.end_object_value(w) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::document;
    use serde_json::Value;

    #[test]
    fn the_text_is_the_document_and_lines_are_few() {
        let document = document();
        let text = text(&document);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), serde_json::to_value(&document).unwrap());
        assert!(text.starts_with("{\n") && text.ends_with("\n}\n"));
        let keys = |list: Value| list.as_array().unwrap().iter().map(|of| of.as_object().unwrap().len() + 2).sum();
        let of_runs: usize = keys(serde_json::to_value(&document.runs).unwrap());
        let keys: usize = of_runs + keys(serde_json::to_value(&document.configurations).unwrap());
        let keys = keys + [super::text(&document.head), super::text(&document.order)].concat().lines().count();
        assert!(text.lines().count() < keys + 20, "{} for {keys} keys of all parts", text.lines().count());
    }

    #[test]
    fn the_promised_keys_are_there_and_every_figure_is_a_number() {
        let value: Value = serde_json::from_str(&text(&document())).unwrap();
        for run in value["runs"].as_array().unwrap() {
            for key in ["workload", "barrier"] {
                assert!(run[key].is_string(), "{key}");
            }
            for key in [
                "heap_bytes",
                "wall_s",
                "cpu_s",
                "ops",
                "ops_per_s",
                "committed_peak_bytes",
                "pss_peak_bytes",
                "cycles",
                "checksum",
            ] {
                assert!(run[key].is_number(), "{key}");
            }
            for role in ["mutators", "collector", "bench"] {
                for key in ["count", "cpu_ns", "run_queue_wait_ns", "voluntary_switches", "minor_faults"] {
                    assert!(run["threads"][role][key].is_u64(), "threads.{role}.{key}");
                }
            }
            for set in ["pauses", "safepoint", "stalls", "latency"] {
                for key in ["count", "p50_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns", "total_ns", "over_1ms_ns"] {
                    assert!(run[set][key].is_u64(), "{set}.{key}");
                }
                assert!(run["histograms"][set].is_array());
            }
        }
    }
}
