//! The mutations as data: files of `xtask/mutations`.
//!
//! ```text
//! # A comment.
//! mutation: store-log-in-slot-set
//! rule: `Slot::set` logs what it overwrites
//! crate: gc-heap
//! tested in: gc-heap           (optional: the test's crate, if it is another)
//! test: --test barriers -- snapshot::slots_that_are_stored_to [load]
//! runs: 5                      (optional: the test fails in one of so many runs)
//! <<<<
//! the text that is replaced
//! ====
//! the text in its place
//! >>>>
//! ```
//!
//! A text is looked for in all files below the crate's `src`, words compared and neither spaces nor comments, so that no
//! file that moves, no rustfmt and no better sentence loses it. It must be there exactly once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One text in the place of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) old: String,
    pub(crate) new: String,
}

/// A rule, how it is removed, and the test that finds it gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mutation {
    pub(crate) name: String,
    pub(crate) rule: String,
    /// The folder of the crate, and of the one that has the test.
    pub(crate) package: String,
    pub(crate) tested_in: String,
    /// `cargo test`'s arguments before `--`.
    pub(crate) target: Vec<String>,
    /// Part of the test's name.
    pub(crate) test: String,
    /// In one of so many runs it fails.
    pub(crate) runs: u32,
    pub(crate) edits: Vec<Edit>,
}

/// Reads a file of mutations.
pub(crate) fn parse(text: &str) -> Result<Vec<Mutation>, String> {
    let mut found: Vec<Mutation> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let wrong = |what: &str| format!("line {}: {what}: {line}", number + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "<<<<" {
            let mut until = |end: &str| -> Result<String, String> {
                let mut text = Vec::new();
                for (_, line) in lines.by_ref() {
                    if line == end {
                        return Ok(text.join("\n"));
                    }
                    text.push(line);
                }
                Err(format!("line {}: an edit without its {end}", number + 1))
            };
            let edit = Edit { old: until("====")?, new: until(">>>>")? };
            if edit.old.trim().is_empty() || edit.old == edit.new {
                return Err(wrong("an edit that changes nothing"));
            }
            found.last_mut().ok_or_else(|| wrong("an edit before any mutation"))?.edits.push(edit);
            continue;
        }
        let (key, value) = line.split_once(": ").ok_or_else(|| wrong("not `key: value`"))?;
        if key == "mutation" {
            found.push(Mutation { name: value.to_owned(), runs: 1, ..Mutation::default() });
            continue;
        }
        let mutation = found.last_mut().ok_or_else(|| wrong("a key before any mutation"))?;
        match key {
            "rule" => mutation.rule = value.to_owned(),
            "crate" => (mutation.package, mutation.tested_in) = (value.to_owned(), value.to_owned()),
            "tested in" => mutation.tested_in = value.to_owned(),
            "runs" => mutation.runs = value.parse().map_err(|_| wrong("not a number"))?,
            "test" => {
                let (target, test) =
                    value.split_once(" -- ").ok_or_else(|| wrong("no ` -- ` before the test's name"))?;
                mutation.target = target.split_whitespace().map(str::to_owned).collect();
                mutation.test = test.to_owned();
            }
            _ => return Err(wrong("an unknown key")),
        }
    }
    for mutation in &found {
        let Mutation { name, rule, package, test, edits, .. } = mutation;
        if [rule, package, test].iter().any(|text| text.is_empty()) || edits.is_empty() {
            return Err(format!("{name}: rule, crate, test or edit is missing"));
        }
    }
    Ok(found)
}

/// All mutations, in the order of the files' names.
pub(crate) fn all(folder: &Path) -> Result<Vec<Mutation>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut found: Vec<Mutation> = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        for mutation in parse(&text).map_err(|why| format!("{}: {why}", file.display()))? {
            if found.iter().any(|other| other.name == mutation.name) {
                return Err(format!("{}: there are two of {}", file.display(), mutation.name));
            }
            found.push(mutation);
        }
    }
    Ok(found)
}

/// The words of a Rust text, comments left out, with where each begins.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mut at = 0;
        for word in line.split_whitespace() {
            if word.starts_with("//") {
                break;
            }
            at += line[at..].find(word).unwrap_or(0);
            found.push((start + at, word));
            at += word.len();
        }
        start += line.len();
    }
    found
}

/// Where `old` is in `text`: the same words, whatever spaces and comments stand between them. The last may go on.
fn find(text: &str, old: &str) -> Vec<(usize, usize)> {
    let (old, text) = (words(old), words(text));
    let Some(((_, last), before)) = old.split_last() else { return Vec::new() };
    let same = |window: &&[(usize, &str)]| {
        window.iter().zip(before).all(|((_, a), (_, b))| a == b) && window[before.len()].1.starts_with(last)
    };
    let places = text.windows(old.len()).filter(same);
    places.map(|window| (window[0].0, window[before.len()].0 + last.len())).collect()
}

/// The files that the mutation changes, with their new text. Fails where an old text is not there exactly once.
pub(crate) fn apply(
    mutation: &Mutation,
    sources: &BTreeMap<PathBuf, String>,
) -> Result<BTreeMap<PathBuf, String>, String> {
    let mut changed: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (index, edit) in mutation.edits.iter().enumerate() {
        let mut places = Vec::new();
        for (path, text) in sources {
            let text = changed.get(path).unwrap_or(text);
            places.extend(find(text, &edit.old).into_iter().map(|place| (path, place)));
        }
        let [(path, (start, end))] = places[..] else {
            let name = &mutation.name;
            return Err(format!("{name}: edit {}: its old text is there {} times, not once", index + 1, places.len()));
        };
        let text = changed.get(path).unwrap_or(&sources[path]);
        let text = format!("{}{}{}", &text[..start], edit.new, &text[end..]);
        changed.insert(path.clone(), text);
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# One.\nmutation: a\nrule: b\ncrate: c\ntest: --lib -- d e\nruns: 3\n<<<<\nf(g);\n====\n>>>>\n";

    #[test]
    fn a_mutation_is_read_and_applied_where_its_text_is_once() {
        let mutations = parse(TEXT).unwrap();
        assert_eq!(mutations.len(), 1);
        let mutation = &mutations[0];
        assert_eq!((mutation.test.as_str(), mutation.runs, mutation.target.len()), ("d e", 3, 1));
        let source = |text: &str| BTreeMap::from([(PathBuf::from("x"), text.to_owned())]);
        let changed = apply(mutation, &source("if h {\n    f(g);\n}")).unwrap();
        assert_eq!(changed[&PathBuf::from("x")], "if h {\n    \n}");
        assert!(apply(mutation, &source("f(h);")).unwrap_err().contains("0 times"));
        assert!(apply(mutation, &source("f(g); f(g);")).unwrap_err().contains("2 times"));
    }

    #[test]
    fn words_are_compared_and_neither_spaces_nor_comments() {
        assert_eq!(find("a  b\n c", "b c"), [(3, 7)]);
        assert_eq!(find("a // d\n  // e f\n b", "a // g\n b"), [(0, 18)]);
        assert_eq!(find("ab c", "a b"), []);
        assert_eq!(find("a bc", "a b"), [(0, 3)]);
    }

    #[test]
    fn what_is_not_a_mutation_is_refused() {
        for (text, why) in [
            ("rule: b\n", "before any mutation"),
            ("mutation: a\nrule: b\n", "is missing"),
            ("mutation: a\n<<<<\nb\n====\n", "without its >>>>"),
            ("mutation: a\n<<<<\nb\n====\nb\n>>>>\n", "changes nothing"),
            ("mutation: a\ntest: b\n", "no ` -- `"),
            ("mutation: a\nruns: b\n", "not a number"),
        ] {
            assert!(parse(text).unwrap_err().contains(why), "{text}");
        }
    }
}
