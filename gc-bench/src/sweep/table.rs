//! The table of a sweep on the terminal: a row a configuration, for there may be hundreds. The page
//! and the JSON have the rest.

use comfy_table::{Cell, CellAlignment, Table};

use super::made::Swept;
use crate::pooled::Figure;
use crate::report::{Group, groups, notes};
use crate::results::Document;
use crate::size::{bytes, duration, grouped, nanoseconds, three};
use crate::status::Status;

const HEADS: [&str; 8] = ["", "done", "heap", "op/s", "CPU an operation", "cycles", "longest pause", "metered, 100 ms"];

/// The figures of a configuration of which some runs were done.
fn figures(group: &Group<'_>) -> [String; 6] {
    let of = group.figures;
    let percent = |figure: Figure| {
        let half = figure.interval().map(|interval| format!(" ± {} %", three(interval.half_width() * 100.0)));
        half.unwrap_or_default()
    };
    let longest = |ns: Option<u64>| ns.map_or("-".into(), duration);
    [
        bytes(group.runs[0].heap_bytes),
        grouped(of.ops_per_s.estimate.round() as u64) + &percent(of.ops_per_s),
        nanoseconds(of.cpu_ns_per_op.estimate) + &percent(of.cpu_ns_per_op),
        grouped(group.mean_u64(|run| run.cycles)),
        longest(of.pauses.max_ns),
        longest(of.metered.ms_100.max_ns),
    ]
}

/// How many of a configuration's runs were done.
fn done(swept: &Swept, configuration: usize) -> String {
    let own = || swept.runs.iter().filter(|made| made.configuration == configuration);
    format!("{} of {}", own().filter(|made| made.status == Status::Done).count(), own().count())
}

/// The table, with what a reader must know below it.
pub(crate) fn text(document: &Document) -> String {
    let Some(swept) = &document.sweep else { return String::new() };
    let groups = groups(document);
    let mut table = Table::new();
    table.load_preset("     ──            ");
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    table.set_header(HEADS.map(|head| right(head.to_owned())));
    for (configuration, label) in document.order.configurations.iter().enumerate() {
        let group = groups.iter().find(|group| group.label == *label);
        let figures = group.map_or(["-"; 6].map(str::to_owned), figures);
        let cells = [done(swept, configuration)].into_iter().chain(figures).map(right);
        table.add_row([Cell::new(label)].into_iter().chain(cells));
    }
    let mut out = table.trim_fmt();
    out.push('\n');
    let (made, seed) = (swept.runs.len(), document.order.seed);
    out +=
        &format!("{made} runs in random order, seed {seed}; longest and metered: the worst of all runs; ± of 95 %\n");
    for line in &document.left_out {
        out += &format!("note: {line}\n");
    }
    for note in notes(document) {
        out += &format!("note: {note}\n");
    }
    out
}
