//! `unsafe` stays in few files of `src`. A file is listed here with its reason, or holds none; one
//! that needs it no more leaves the list, so that the list can only become shorter.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The files, and what in each cannot be checked by the compiler.
const LISTED: &[(&str, &str)] = &[
    ("barrier/slow_call.rs", "assembly: stubs that keep the registers of their callers"),
    ("finalize.rs", "values outside the heap, lent to objects by address"),
    ("handles/bound.rs", "slots of a stack below a limit that was checked before"),
    ("handles/buffer.rs", "bytes lent to system calls as slices"),
    ("handles/local.rs", "slots of a scope, and a mutator under a shorter scope"),
    ("mutator/construct.rs", "new objects are written"),
    ("mutator/enter.rs", "a parked mutator moves to another thread"),
    ("object/derived.rs", "what derived code vouches for"),
    ("object/header.rs", "a header holds the address of a kind"),
    ("object/trace.rs", "the traits of objects and of their fields"),
    ("page/mapping.rs", "system calls that map pages, and the server of faults"),
    ("roots/region.rs", "the words of a region of roots"),
    ("slot/gc.rs", "objects behind references"),
    ("slot/words.rs", "words become references again"),
    ("space/memory.rs", "the words and headers of the heap, new blocks, the forwarding tables"),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_of_unit_tests = name == "tests" || name.ends_with("_tests");
        if path.is_dir() {
            files(&path, found);
        } else if !is_of_unit_tests {
            found.push(path);
        }
    }
}

/// How often the keyword stands in the code: not in comments, strings of one line, or unit tests.
fn count(text: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let words = code.lines().flat_map(|line| {
        let outside: String = line.split('"').step_by(2).collect();
        let code = outside.split("//").next().unwrap().to_owned();
        code.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect::<Vec<_>>()
    });
    words.filter(|word| word == "unsafe").count()
}

#[test]
fn unsafe_code_is_in_the_listed_files_alone() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let found: BTreeMap<String, usize> = all
        .into_iter()
        .map(|path| (path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .map(|(name, text)| (name, count(&text)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let listed: Vec<&str> = LISTED.iter().map(|(name, _)| *name).collect();
    let unlisted: Vec<_> = found.keys().filter(|name| !listed.contains(&name.as_str())).collect();
    assert!(unlisted.is_empty(), "`unsafe` in files that have no reason for it: {unlisted:?}");
    let idle: Vec<_> = listed.iter().filter(|name| !found.contains_key(**name)).collect();
    assert!(idle.is_empty(), "these need no `unsafe` any more, and leave the list: {idle:?}");
    assert!(LISTED.is_sorted(), "the list is sorted");
    assert!(LISTED.iter().all(|(_, reason)| !reason.is_empty()), "each has a reason");
}

#[test]
fn the_keyword_is_counted_in_code_alone() {
    let text = "// unsafe\nunsafe fn f() {} // unsafe\nlet s = \"unsafe\"; unsafe_name();\n#[cfg(test)]\nmod tests { unsafe {} }";
    assert_eq!(count(text), 1);
}
