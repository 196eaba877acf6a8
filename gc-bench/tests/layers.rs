//! The bench's files import one another without a circle, so that each can be read with what stands
//! below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Imports = BTreeMap<String, BTreeSet<String>>;

/// The files of the source folder: the module's path, such as `report::plot`, and the text.
fn files(folder: &Path, module: &str, out: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let name = match (module, stem) {
            (module, "mod") => module.to_owned(),
            ("", stem) => stem.to_owned(),
            (module, stem) => format!("{module}::{stem}"),
        };
        if path.is_dir() {
            files(&path, &name, out);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            out.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The paths of a `use` without its braces: `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn flatten(prefix: &str, tree: &str, out: &mut Vec<String>) {
    let (mut depth, mut from) = (0, 0);
    let mut parts = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[from..]);
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('{') {
            Some((head, rest)) => flatten(&format!("{prefix}{head}"), rest.trim_end_matches('}'), out),
            None => out.push(format!("{prefix}{}", part.split(" as ").next().unwrap())),
        }
    }
}

/// What the text imports from the crate, as paths from its root. Of `super` and of what a module
/// names below itself, too.
fn paths(module: &str, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let children: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim_start_matches("pub(crate) ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    let uses = text.split("\nuse ").skip(1).chain(text.split("\npub(crate) use ").skip(1));
    for tree in uses.filter_map(|rest| rest.split(';').next()) {
        let tree = tree.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut found = Vec::new();
        flatten("", &tree, &mut found);
        out.extend(found.into_iter().filter_map(|path| {
            let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
            if let Some(rest) = path.strip_prefix("super::") {
                return Some(format!("{parent}::{rest}"));
            }
            let first = path.split("::").next().unwrap();
            match path.strip_prefix("crate::") {
                Some(rest) => Some(rest.to_owned()),
                None => children.contains(&first).then(|| format!("{module}::{path}")),
            }
        }));
    }
    out.into_iter().map(|path| path.trim_start_matches("::").to_owned()).collect()
}

/// Which file imports which. A test's imports (of samples) do not count, nor does what stands in an
/// expression.
fn imports() -> Imports {
    let mut texts = BTreeMap::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut texts);
    let mut imports = Imports::new();
    for (module, text) in &texts {
        let product = text.split("#[cfg(test)]").next().unwrap();
        let found = imports.entry(module.clone()).or_default();
        for path in paths(module, product) {
            // The longest part of the path that is a file.
            let parts: Vec<&str> = path.split("::").collect();
            let file = (1..=parts.len()).rev().map(|n| parts[..n].join("::")).find(|file| texts.contains_key(file));
            found.extend(file.filter(|file| file != module));
        }
    }
    imports
}

/// The files that import one another in a circle.
fn circles(imports: &Imports) -> Vec<String> {
    let reach = |from: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            open.extend(imports.get(file).into_iter().flatten().filter(|next| seen.insert(*next)));
        }
        seen.contains(from)
    };
    imports.keys().filter(|file| reach(file)).cloned().collect()
}

#[test]
fn no_file_imports_itself_by_way_of_others() {
    let imports = imports();
    // The reader of imports reads: these are known.
    for (file, other) in [
        ("main", "plan"),
        ("plan", "heap"),
        ("heap", "collector"),
        ("workload", "workload::options"),
        ("workload::options", "workload::gcbench"),
        ("workload::gcbench", "workload::common"),
        ("report::plot::primitives", "report::svg"),
        ("primitives::child", "primitives::reporter"),
    ] {
        assert!(imports[file].contains(other), "{file} imports {other}: {:?}", imports[file]);
    }
    let circles = circles(&imports);
    let edges = |file: &String| imports[file].iter().filter(|other| circles.contains(other)).cloned().collect();
    let of: Vec<(&String, Vec<String>)> = circles.iter().map(|file| (file, edges(file))).collect();
    assert!(of.is_empty(), "in a circle: {of:#?}");
}

#[test]
fn a_circle_is_found() {
    let edge = |from: &str, to: &[&str]| (from.to_owned(), to.iter().map(|&to| to.to_owned()).collect());
    let imports: Imports = [edge("a", &["b"]), edge("b", &["c"]), edge("c", &["b"]), edge("d", &["a"])].into();
    assert_eq!(circles(&imports), ["b", "c"]);
    let mut found = Vec::new();
    flatten("", "a::{b, c::{d, e as f}, g}", &mut found);
    assert_eq!(found, ["a::b", "a::c::d", "a::c::e", "a::g"]);
}
