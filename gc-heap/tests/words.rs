//! Prose: comments, rustdoc and the book use plain sentences and the field's terms, and wrap at 100
//! columns.
//!
//! Each rule of [`RULES`] stands for a kind of sentence that once was common here. A match is a
//! sentence to rewrite: name the thread or function that acts, use one idea a sentence, and the
//! standard term (pause, evacuate, uncommit, poll).

use std::path::{Path, PathBuf};

/// A phrase that no comment and no chapter contains, and what to write instead.
const RULES: [(&str, &str); 22] = [
    ("to be had", "available, possible, unavailable"),
    ("beside the program", "concurrently with the program"),
    ("mended", "fixed"),
    ("in a stop ", "in a pause"),
    ("in a stop.", "in a pause"),
    ("in a stop,", "in a pause"),
    ("in a stop:", "in a pause"),
    ("nside a stop", "inside a pause"),
    ("utside stops", "outside pauses"),
    ("by turns", "alternately; one at a time"),
    ("By turns", "a sentence: \"Alternate X and Y so that neither starves the other.\""),
    ("who is before", "the waiters ahead"),
    ("Who is before", "the waiters ahead"),
    ("obody is before", "this waiter is at the head of the queue"),
    ("looks on", "spins"),
    ("Who is woken", "the woken thread"),
    ("came to:", "the result or outcome"),
    ("came to.", "the result or outcome"),
    ("What it was.", "a summary that names the thing"),
    ("The same of", "\"As [`other`], for ...\""),
    ("back to the system", "uncommits"),
    ("to whoever", "to the thread that, to the owner of"),
];

/// Comments and text wrap at this many columns, save in the programs that must not compile: what
/// the compiler says of them names their lines.
const COLUMNS: usize = 100;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The Rust and Markdown files of the workspace, by path from its root: no build output, and not
/// this file.
fn files() -> Vec<(String, String)> {
    fn visit(root: &Path, path: &Path, files: &mut Vec<(String, String)>) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                std::fs::read_dir(path).unwrap().for_each(|entry| visit(root, &entry.unwrap().path(), files));
            }
        } else if matches!(path.extension().and_then(|e| e.to_str()), Some("rs" | "md")) {
            let from_root = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((from_root, std::fs::read_to_string(path).unwrap()));
        }
    }
    let mut files = Vec::new();
    let root = workspace();
    for top in ["docs", "examples", "gc-bench", "gc-core", "gc-heap", "README.md", "CONTRIBUTING.md"] {
        visit(&root, &root.join(top), &mut files);
    }
    files.retain(|(path, _)| path != "gc-heap/tests/words.rs");
    files
}

/// A line of prose: its number, the columns that it takes with indentation and marker, and its
/// text.
struct Line<'t> {
    number: usize,
    columns: usize,
    text: &'t str,
    /// Whether the line before continues into this one: not after an empty line, or at the begin of
    /// a comment.
    goes_on: bool,
}

/// The prose of a file: comments of Rust, all of Markdown, without code and tables.
fn prose<'t>(path: &str, content: &'t str) -> Vec<Line<'t>> {
    let rust = path.ends_with(".rs");
    let (mut in_fence, mut goes_on, mut lines) = (false, false, Vec::new());
    for (index, line) in content.lines().enumerate() {
        let trimmed = line.trim_start();
        let text = match trimmed.strip_prefix("//") {
            Some(comment) if rust => comment.trim_start_matches(['/', '!']).trim(),
            None if rust => {
                (in_fence, goes_on) = (false, false);
                continue;
            }
            _ => trimmed.trim_end(),
        };
        let indented = !rust && !goes_on && line.starts_with("    ") && !text.starts_with(['-', '*']);
        if text.starts_with("```") {
            in_fence = !in_fence;
        } else if !in_fence && !indented && !text.is_empty() && !text.starts_with('|') {
            lines.push(Line { number: index + 1, columns: line.chars().count(), text, goes_on });
            goes_on = true;
            continue;
        }
        goes_on = false;
    }
    lines
}

/// The paragraphs of a file's prose, each with the number of its first line.
fn paragraphs(path: &str, content: &str) -> Vec<(usize, String)> {
    let mut paragraphs: Vec<(usize, String)> = Vec::new();
    for line in prose(path, content) {
        match paragraphs.last_mut() {
            Some((_, text)) if line.goes_on => *text = format!("{text} {}", line.text),
            _ => paragraphs.push((line.number, line.text.to_owned())),
        }
    }
    paragraphs
}

#[test]
fn sentences_are_plain() {
    let mut found = Vec::new();
    for (path, content) in files() {
        for (number, text) in paragraphs(&path, &content) {
            for (phrase, instead) in RULES {
                if text.contains(phrase) {
                    found.push(format!("{path}:{number}: \"{phrase}\": write {instead}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} sentences to rewrite:\n{}", found.len(), found.join("\n"));
}

#[test]
fn prose_wraps() {
    let mut found = Vec::new();
    for (path, content) in files().into_iter().filter(|(path, _)| !path.starts_with("gc-heap/tests/compile_fail/")) {
        for line in prose(&path, &content) {
            // A heading and the target of a link are one line, and one word cannot be wrapped.
            let one_line = line.text.starts_with('#') || line.text.starts_with('[') && line.text.contains("]: ");
            let breaks = !one_line && line.text.trim_start_matches(['-', ' ']).contains(' ');
            if line.columns > COLUMNS && breaks {
                found.push(format!("{path}:{}: {} columns", line.number, line.columns));
            }
        }
    }
    assert!(found.is_empty(), "{} lines over {COLUMNS} columns:\n{}", found.len(), found.join("\n"));
}

/// The checks see what they are for.
#[test]
fn a_phrase_is_found_across_lines_and_not_in_code() {
    let rust =
        "/// A page that is not to be\n/// had.\nfn f() {}\n/// ```\n/// // to be had\n/// ```\n// x\n\n// to be\n";
    let texts: Vec<_> = paragraphs("a.rs", rust).into_iter().collect();
    let expected = [(1, "A page that is not to be had."), (7, "x"), (9, "to be")];
    assert_eq!(texts, expected.map(|(number, text)| (number, text.to_owned())));
    let markdown = "# A title\n\none\ntwo\n\n```text\nto be had\n```\n| to be had |\n\n    to be had\n";
    let texts: Vec<_> = paragraphs("a.md", markdown).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["# A title", "one two"]);
}
