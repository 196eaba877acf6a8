//! What comments and models name exists: a function that was renamed, or a file that moved, fails
//! here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates whose functions models transcribe, or run.
const PRODUCT: [&str; 2] = ["gc-core/src", "gc-heap/src"];
/// Owners of functions that a model may name although no crate of ours has them.
const FOREIGN: [&str; 4] = ["Arc", "AtomicU64", "Mutex", "Ordering"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All files of the repository below `folder`, generated ones left out, by their path from the
/// root.
fn files(folder: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                files(&path, found);
            }
        } else {
            found.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), path);
        }
    }
}

fn repository() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    files(&root(), &mut found);
    found
}

/// The text of the comments of a Rust file, or of one whose comments begin with `#`: line number
/// and line.
fn comments<'a>(name: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let mark = if name.ends_with(".rs") { "//" } else { "#" };
    // Not the slashes of an address.
    let start = |text: &str| text.match_indices(mark).map(|(at, _)| at).find(|&at| !text[..at].ends_with(':'));
    let lines = text.lines().enumerate();
    lines.filter_map(|(line, text)| Some((line + 1, &text[start(text)? + mark.len()..]))).collect()
}

/// What stands between backticks on a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// The owner and the item of a span like `` `Type::function` `` or `` `module::function(..)` ``.
fn owned(span: &str) -> Option<(&str, &str)> {
    let path = span.split(['(', '<']).next().unwrap();
    let (rest, item) = path.rsplit_once("::")?;
    let owner = rest.rsplit("::").next().unwrap();
    (is_name(owner) && is_name(item)).then_some((owner, item))
}

/// The names that a line of code declares: a function, a constant, a field or a variant.
fn declared(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    while let Some((first, rest)) = words.split_once(' ')
        && (["pub", "const", "unsafe", "extern", "\"C\"", "fn", "static", "struct", "enum", "type"].contains(&first)
            || first.starts_with("pub("))
    {
        words = rest;
    }
    let end = words.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(words.len());
    is_name(&words[..end]).then_some(&words[..end])
}

/// `Owner::item` for every item of every type, trait and module of a source file. A block ends with
/// a line that begins with its brace, as rustfmt writes it.
fn items(module: &str, text: &str, found: &mut BTreeSet<(String, String)>) {
    let mut owners: Vec<&str> = Vec::new();
    for line in text.lines() {
        if line.starts_with('}') {
            owners.clear();
        }
        let head = line.strip_prefix("unsafe ").unwrap_or(line);
        let head = head.split_once(' ').filter(|(first, _)| first.starts_with("pub")).map_or(head, |(_, rest)| rest);
        let head = head.strip_prefix("unsafe ").unwrap_or(head);
        if let Some(name) = declared(line).filter(|_| !line.starts_with([' ', '}'])) {
            found.insert((module.to_owned(), name.to_owned()));
        }
        if line.ends_with('{') && ["impl", "struct ", "enum ", "trait "].iter().any(|kind| head.starts_with(kind)) {
            // Every name of the head, `impl Drop for RootCell<'_>`: bounds and all. Too many, and
            // none missing.
            owners = head.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| is_name(word)).collect();
        } else if let Some(name) = declared(line) {
            found.extend(owners.iter().map(|owner| ((*owner).to_owned(), name.to_owned())));
        }
    }
}

fn product() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (name, path) in repository().iter().filter(|(name, _)| PRODUCT.iter().any(|folder| name.starts_with(folder))) {
        let module = name.trim_end_matches(".rs").trim_end_matches("/mod").rsplit('/').next().unwrap();
        items(module, &fs::read_to_string(path).unwrap(), &mut found);
    }
    found
}

/// What a model's comments name that is not among the items.
fn dangling(name: &str, text: &str, items: &BTreeSet<(String, String)>) -> Vec<String> {
    let named = comments(name, text).into_iter().flat_map(|(line, text)| spans(text).map(move |span| (line, span)));
    let named = named.filter_map(|(line, span)| Some((line, owned(span)?)));
    let gone = named.filter(|(_, (owner, item))| {
        !FOREIGN.contains(owner) && !items.contains(&((*owner).to_owned(), (*item).to_owned()))
    });
    gone.map(|(line, (owner, item))| format!("{name}:{line}: there is no {owner}::{item}")).collect()
}

fn is_of_models(name: &str) -> bool {
    ["gc-core/tests/loom_", "gc-core/tests/support/"].iter().any(|folder| name.starts_with(folder))
}

#[test]
fn functions_that_models_name_exist() {
    let items = product();
    let models: Vec<_> = repository().into_iter().filter(|(name, _)| is_of_models(name)).collect();
    assert!(models.len() > 10, "no models");
    let wrong: Vec<_> =
        models.iter().flat_map(|(name, path)| dangling(name, &fs::read_to_string(path).unwrap(), &items)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What looks like a file of this repository: a path that ends as our files do, not one of the
/// system.
fn file_names(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| !(c.is_alphanumeric() || "._-/*:".contains(c)));
    words.map(|word| word.trim_end_matches(['.', ':', '-'])).filter(|word| {
        let ends =
            [".rs", ".md", ".toml", ".bt", ".lox"].iter().any(|end| word.ends_with(end) && word.len() > end.len());
        (ends || word.starts_with(".ci/"))
            && !word.contains(['*', ':'])
            && !word.starts_with(['/', '.']) | word.starts_with(".ci/")
    })
}

/// Which files a comment names that are nowhere. A name is the end of a path, so that files can
/// move.
fn lost(name: &str, text: &str, all: &BTreeMap<String, PathBuf>) -> Vec<String> {
    let lines = if name.ends_with(".md") {
        text.lines().enumerate().map(|(line, text)| (line + 1, text)).collect()
    } else {
        comments(name, text)
    };
    let named = lines.into_iter().flat_map(|(line, text)| file_names(text).map(move |file| (line, file)));
    let gone = named.filter(|(_, file)| {
        let end = format!("/{}", file.trim_start_matches("../"));
        !all.keys().any(|path| format!("/{path}").ends_with(&end))
    });
    gone.map(|(line, file)| format!("{name}:{line}: there is no {file}")).collect()
}

#[test]
fn files_that_comments_and_pages_name_exist() {
    let all = repository();
    let read = all.iter().filter(|(name, _)| {
        let source = [".rs", ".md", ".toml", ".yml"].iter().any(|end| name.ends_with(end)) || name.starts_with(".ci/");
        // A changelog tells of files that were.
        source && *name != "CHANGELOG.md" && !name.starts_with("gc-heap/tests/references.rs")
    });
    let wrong: Vec<_> = read.flat_map(|(name, path)| lost(name, &fs::read_to_string(path).unwrap(), &all)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rows of the page's tables: term and file. A header names the columns.
fn glossary(page: &str) -> Vec<(&str, &str)> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| term |"));
    let rows = rows.filter(|line| !line.starts_with("| --- |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [term, _, _, file] = cells[..] else { panic!("four columns: {row}") };
        (term, file.trim_matches('`'))
    })
    .collect()
}

#[test]
fn each_term_of_the_glossary_leads_to_a_file() {
    let all = repository();
    let page = fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let terms = glossary(&page);
    for (term, file) in &terms {
        assert!(all.contains_key(*file), "{term}: there is no {file}");
    }
    for wanted in ["mark", "evacuate", "safepoint", "TLAB", "write barrier", "forwarding table"] {
        assert!(terms.iter().any(|(term, _)| *term == wanted), "the glossary does not have {wanted}");
    }
    // Two tables, each in the order of the alphabet.
    let falls = terms.windows(2).filter(|pair| pair[0].0.to_lowercase() > pair[1].0.to_lowercase()).count();
    assert_eq!(falls, 1, "terms in the order of the alphabet");
}

#[test]
fn what_is_gone_is_found() {
    let mut items = BTreeSet::new();
    self::items(
        "weak",
        "pub(crate) fn load() {\n}\nimpl Drop for Cell<'_> {\n    fn drop(&mut self) {\n    }\n}\n",
        &mut items,
    );
    assert!(dangling("a.rs", "// `weak::load`, `Cell::drop`, `Arc::new`, `Cell`.\nlet a = b::c;\n", &items).is_empty());
    let gone = dangling("a.rs", "/// `Cell::take`, and `weak::drop(1)`.\n", &items);
    assert_eq!(gone, ["a.rs:1: there is no Cell::take", "a.rs:1: there is no weak::drop"]);
    let all = BTreeMap::from([("docs/a.md".to_owned(), PathBuf::new()), (".ci/run".to_owned(), PathBuf::new())]);
    assert!(lost("a.rs", "// See a.md, `docs/a.md`, and `.ci/run`. On `*.rs`, /etc/x.toml.\n", &all).is_empty());
    assert_eq!(lost("a.rs", "//! See `docs/b.md`.\n", &all), ["a.rs:1: there is no docs/b.md"]);
    assert_eq!(lost("run", "# a.md, .ci/go\n", &all), ["run:1: there is no .ci/go"]);
}
