//! The rooms of `src` stand in layers: a file imports from its own room and from rooms below, and
//! files of one room import each other at most in pairs. The list is the table of
//! `docs/ARCHITECTURE.md`, from the top down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the table begins.
const HEADING: &str = "## Rooms of gc-heap";

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rooms of each row, from the top down. Rooms of one row do not import each other.
fn layers() -> Vec<Vec<String>> {
    let page = fs::read_to_string(src().join("../../docs/ARCHITECTURE.md")).unwrap();
    let (_, table) = page.split_once(HEADING).expect("the page has the table");
    let rows = table.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let rooms = rows.take_while(|line| line.starts_with('|')).map(|row| {
        let cell = row.split('|').nth(1).unwrap();
        cell.split('`').skip(1).step_by(2).map(|room| room.trim_end_matches('/').to_owned()).collect()
    });
    rooms.collect()
}

/// Every file below `src`, as a module path, with its text without comments and unit tests.
fn modules() -> BTreeMap<Vec<String>, String> {
    fn walk(folder: &Path, path: &[String], found: &mut BTreeMap<Vec<String>, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let mut here = path.to_vec();
            if name != "mod" {
                here.push(name);
            }
            let is_of_tests = here.last().is_some_and(|name| name == "tests" || name.ends_with("_tests"));
            if file.is_dir() {
                walk(&file, &here, found);
            } else if !is_of_tests {
                let text = fs::read_to_string(&file).unwrap();
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
                let code: Vec<&str> = code.lines().map(|line| line.split("//").next().unwrap()).collect();
                found.insert(here, code.join("\n"));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&src(), &[], &mut found);
    found.remove(&vec!["lib".to_owned()]);
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths that a text names from `root` (`crate`, `super`) on: `root::a::b` is `[a, b]`, and
/// braces are opened.
fn paths(text: &str, root: &str) -> Vec<Vec<String>> {
    /// Reads a path, and what its braces hold; gives what follows.
    fn read<'t>(mut text: &'t str, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> &'t str {
        loop {
            text = text.trim_start();
            if let Some(inside) = text.strip_prefix('{') {
                text = inside;
                while !text.trim_start().starts_with('}') {
                    text = read(text, path.clone(), found).trim_start();
                    text = text.strip_prefix(',').unwrap_or(text);
                    assert!(!text.is_empty(), "braces are closed");
                }
                return text.trim_start().strip_prefix('}').unwrap();
            }
            let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
            if end == 0 {
                found.push(path);
                return text.strip_prefix('*').unwrap_or(text);
            }
            path.push(text[..end].to_owned());
            text = &text[end..];
            let Some(next) = text.strip_prefix("::") else {
                found.push(path);
                // `as other`
                let alias = text.trim_start().strip_prefix("as ").map_or(text, |alias| {
                    let alias = alias.trim_start();
                    &alias[alias.find(|c| !is_word(c)).unwrap_or(alias.len())..]
                });
                return alias;
            };
            text = next;
        }
    }
    let mut found = Vec::new();
    let key = format!("{root}::");
    let mut rest = text;
    while let Some(at) = rest.find(&key) {
        let whole = rest[..at].chars().next_back().is_none_or(|before| !is_word(before) && before != ':');
        let after = &rest[at + key.len()..];
        rest = if whole { read(after, Vec::new(), &mut found) } else { after };
    }
    found
}

/// Which modules each module names.
fn imports(modules: &BTreeMap<Vec<String>, String>) -> BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> {
    let resolve = |path: &[String]| {
        (1..=path.len()).rev().find_map(|len| modules.get_key_value(&path[..len]).map(|(module, _)| module))
    };
    let of = |(module, code): (&'_ Vec<String>, &String)| {
        let mut named: Vec<Vec<String>> = paths(code, "crate");
        for up in 1..=module.len() {
            let root = vec!["super"; up].join("::");
            let parent = &module[..module.len() - up];
            named.extend(paths(code, &root).into_iter().map(|path| [parent, &path].concat()));
        }
        named.extend(paths(code, "self").into_iter().map(|path| [module.as_slice(), &path].concat()));
        named.iter().filter_map(|path| resolve(path)).filter(|&other| other != module).collect()
    };
    modules.iter().map(|entry| (modules.get_key_value(entry.0).unwrap().0, of(entry))).collect()
}

#[test]
fn every_room_has_its_place() {
    let listed: Vec<String> = layers().into_iter().flatten().collect();
    let rooms: BTreeSet<String> = modules().into_keys().map(|module| module[0].clone()).collect();
    assert_eq!(
        listed.iter().cloned().collect::<BTreeSet<_>>(),
        rooms,
        "the table of ARCHITECTURE.md lists other rooms than src has"
    );
    assert_eq!(listed.len(), rooms.len(), "a room is listed twice");
}

#[test]
fn no_import_leads_upwards() {
    let layers = layers();
    let layer = |room: &str| layers.iter().position(|rooms| rooms.iter().any(|listed| listed == room)).unwrap();
    let modules = modules();
    let mut upwards = Vec::new();
    for (module, named) in imports(&modules) {
        for other in named {
            let (from, to) = (&module[0], &other[0]);
            if from != to && layer(from) >= layer(to) {
                upwards.push(format!("{} imports from {}", module.join("/"), other.join("/")));
            }
        }
    }
    assert!(upwards.is_empty(), "a room may import from rooms below it alone:\n{}", upwards.join("\n"));
}

/// Two files that need each other are one thought in two files; three are a knot.
#[test]
fn files_of_a_room_import_each_other_in_pairs_at_most() {
    let modules = modules();
    let imports = imports(&modules);
    // A parent declares its children, and they may use it: that is no import of another file's.
    let edges = |module: &Vec<String>| {
        let related = |other: &Vec<String>| other.starts_with(module) || module.starts_with(other);
        imports[module].iter().copied().filter(|other| !related(other)).collect::<Vec<_>>()
    };
    let reaches = |from: &Vec<String>| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for other in edges(module) {
                if seen.insert(other.clone()) {
                    next.push(modules.get_key_value(other).unwrap().0);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> =
        modules.keys().map(|module| (module, reaches(module))).collect();
    for (module, others) in &reached {
        let circle: Vec<String> = others
            .iter()
            .filter(|&other| other != *module && reached[other].contains(*module))
            .map(|other| other.join("/"))
            .collect();
        assert!(circle.len() <= 1, "{} imports in a circle with {}", module.join("/"), circle.join(", "));
    }
}

/// What a new barrier does at a load or a store is written in the room `barrier` alone.
#[test]
fn slots_are_loaded_and_stored_in_the_barrier_alone() {
    const PROTOCOLS: [&str; 5] = ["slot", "weak", "ephemeron", "locals", "root_stack"];
    /// What these protocols keep beside the slots.
    const STATES: [&str; 4] = ["Locals", "Watermark", "RootStackState", "PendingEphemerons"];
    /// What accesses slots, of these states, and makes a root with its first word.
    const CALLS: [&str; 7] = [
        "state.push(",
        "state.cut(",
        "state.overwrite(",
        "state.log(",
        "state.set_top(",
        "watermark.pop_to(",
        "RootCell::new(",
    ];
    let mut elsewhere = Vec::new();
    let mut called = BTreeSet::new();
    for (module, code) in &modules() {
        let found: Vec<&str> = CALLS.into_iter().filter(|call| code.contains(call)).collect();
        if module[0] == "barrier" {
            called.extend(found);
            continue;
        }
        elsewhere.extend(found.into_iter().map(|call| format!("{} calls {call}..)", module.join("/"))));
        let accesses = |path: &&Vec<String>| {
            PROTOCOLS.contains(&path[0].as_str()) && !matches!(&path[1..], [state] if STATES.contains(&state.as_str()))
        };
        let paths = paths(code, "gc_core");
        elsewhere
            .extend(paths.iter().filter(accesses).map(|path| format!("{}: {}", module.join("/"), path.join("::"))));
    }
    assert!(elsewhere.is_empty(), "slots are accessed outside of `barrier`:\n{}", elsewhere.join("\n"));
    assert_eq!(called.len(), CALLS.len(), "a call that nobody makes is looked for; these are made: {called:?}");
}

/// The files of `docs/ARCHITECTURE.md` that a new barrier touches: those that name a barrier or
/// what belongs to one, beside the barrier's own files.
#[test]
fn what_a_new_barrier_touches_is_listed() {
    /// What only the page barrier has.
    const NAMES: [&str; 6] = ["Pages", "ByPageBarrier", "FlipPlan", "FlipDecision", "PageState", "CurrentFlip"];
    /// What tells barriers apart.
    const BARRIERS: [&str; 3] = ["Barrier::Load", "Barrier::StopTheWorld", "Barrier::Page"];
    let page = fs::read_to_string(src().join("../../docs/ARCHITECTURE.md")).unwrap();
    let listed = |begin: &str| {
        let (_, list) = page.split_once(begin).expect("the page has the list");
        let list = list.split("\n\n").next().unwrap();
        let files = list.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
        files.map(|file| file.trim_end_matches(".rs").to_owned()).collect::<BTreeSet<_>>()
    };
    let own = listed("The page barrier's own files are ");
    let names = |code: &str| {
        let mut words = code.split(|c| !is_word(c));
        words.any(|word| NAMES.contains(&word)) || BARRIERS.iter().any(|barrier| code.contains(barrier))
    };
    let modules = modules();
    let naming: BTreeSet<String> =
        modules.iter().filter(|(_, code)| names(code)).map(|(module, _)| module.join("/")).collect();
    assert!(own.is_subset(&naming), "these name nothing of the page barrier's: {:?}", own.difference(&naming));
    let touched: BTreeSet<String> = naming.difference(&own).cloned().collect();
    assert_eq!(touched, listed("A new barrier touches "), "other files than the page lists name a barrier");
    assert!(touched.len() <= 3, "{touched:?}");
}

/// The files of `docs/ARCHITECTURE.md` that a young generation touches: those that say what a store
/// does, what is live and collected, which words are good and where stale ones lead, and of which
/// phases a cycle consists. All others ask these.
#[test]
fn what_a_young_generation_touches_is_listed() {
    /// What says it.
    const SAYS: [&str; 13] = [
        "fn on_store(",
        "fn on_end<",
        "fn is_live(&self, offset",
        "fn is_newborn(",
        "fn collects(",
        ".allocation_epoch(",
        ".phase.good()",
        "space.bad_mask_of(",
        "space.view(",
        "trait Kind ",
        "fn good_word(",
        "fn is_old_at(",
        "fn resolve_young(",
    ];
    /// Lookups of a stale word that do not ask which forwarding is the word's.
    const NEVER: [&str; 2] = [".memory.forwarding.lookup(", ".memory.forwarding.entry("];
    /// What changes by births and deaths of blocks alone: it is handed what it needs.
    const TABLES: [&str; 2] = ["set_allocation_epoch(", "fn begin_use("];
    let page = fs::read_to_string(src().join("../../docs/ARCHITECTURE.md")).unwrap();
    let (_, list) = page.split_once("A young generation touches ").expect("the page has the list");
    let list = list.split("\n\n").next().unwrap();
    let files = list.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
    let listed: BTreeSet<String> = files.map(|file| file.trim_end_matches(".rs").to_owned()).collect();
    let modules = modules();
    let saying = |names: &[&str]| {
        let says = |code: &str| names.iter().any(|name| code.contains(name));
        modules.iter().filter(|(_, code)| says(code)).map(|(module, _)| module.join("/")).collect::<BTreeSet<_>>()
    };
    for name in SAYS.iter().chain(&TABLES) {
        assert!(!saying(&[name]).is_empty(), "nobody says {name:?} any more");
    }
    assert_eq!(saying(&SAYS), listed, "other files than the page lists say what is young, live or good");
    assert!(listed.len() <= 3, "{listed:?}");
    assert!(saying(&NEVER).is_empty(), "a stale word is looked up by its place alone: {:?}", saying(&NEVER));
    assert_eq!(saying(&TABLES), ["space/blocks", "space/memory"].map(str::to_owned).into());
    // Each list is of one kind, which a type says.
    let cycle = &modules[&vec!["collector".to_owned(), "cycle".to_owned()]];
    let lists = cycle.split("impl<'a> Cycle<'a, ").skip(1).map(|list| list.split_once('{').unwrap().0);
    assert!(
        lists.clone().count() != 0 && lists.clone().all(|list| list.contains("Whole") || list.contains("Young")),
        "{:?}",
        lists.collect::<Vec<_>>()
    );
}

/// The three lists of `collector/cycle.rs` differ in how objects are relocated, and the table of
/// `docs/cycle.md` is the first.
#[test]
fn the_table_of_phases_is_the_list() {
    let code = fs::read_to_string(src().join("collector/cycle.rs")).unwrap();
    let list = |name: &str| {
        let (_, body) = code.split_once(&format!("fn {name}(mut self")).expect("the list is there");
        let lines = body.lines().skip(1).map(str::trim).take_while(|&line| line != "}");
        let phases: Vec<String> = lines
            .map(|line| {
                line.strip_prefix("self.").and_then(|line| line.split_once('(')).expect("a phase alone").0.into()
            })
            .collect();
        phases
    };
    let page = fs::read_to_string(src().join("../../docs/cycle.md")).unwrap();
    let rows = page.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let mut table: Vec<&str> =
        rows.take_while(|line| line.starts_with('|')).map(|row| row.split('`').nth(1).unwrap()).collect();
    table.dedup();
    assert_eq!(table, list("with_load_barrier"), "the table lists other phases than the code has");
    for (name, relocation) in [("with_page_barrier", "relocate_by_flips"), ("in_a_pause", "relocate_in_pause")] {
        let same = table.iter().map(|&phase| if phase == "relocate_by_load_barrier" { relocation } else { phase });
        assert_eq!(list(name), same.collect::<Vec<_>>(), "{name}");
    }
}

/// The reader of imports itself: what it misses, the tests above allow.
#[test]
fn paths_are_read_whole() {
    let text = "use crate::a::{b::C, d::{self, E}};\nuse super::f::*; fn g() -> crate::h::I { xcrate::no::no; }";
    let read = |root| paths(text, root).into_iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(read("crate"), ["a::b::C", "a::d::self", "a::d::E", "h::I"]);
    assert_eq!(read("super"), ["f"]);
}
