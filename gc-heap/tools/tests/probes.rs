//! The probes for tracers: named in the file of every program that has a heap, and used right by
//! the script for bpftrace.

#![cfg(target_os = "linux")]

use gc_heap::{AllocSize, Heap, Slot, Trace};
use object::Endianness;
use object::read::elf::{ElfFile64, FileHeader, SectionHeader};
use std::collections::BTreeMap;

#[derive(Trace)]
struct Node {
    next: Slot<Option<Node>>,
}

/// `provider:name` of each note, with its arguments.
fn probes(program: &[u8]) -> BTreeMap<String, String> {
    let file = ElfFile64::<Endianness>::parse(program).unwrap();
    let (endian, header) = (file.endian(), file.elf_header());
    let sections = header.sections(endian, program).unwrap();
    let (_, section) = sections.section_by_name(endian, b".note.stapsdt").expect("a section of probes");
    let mut notes = section.notes(endian, program).unwrap().expect("it holds notes");
    let mut probes = BTreeMap::new();
    while let Some(note) = notes.next().unwrap() {
        assert_eq!((note.name(), note.n_type(endian)), (&b"stapsdt"[..], 3));
        // Three addresses, then provider, name and arguments, each ended by a zero.
        let (addresses, texts) = note.desc().split_at(24);
        assert_ne!(u64::from_le_bytes(addresses[..8].try_into().unwrap()), 0, "a probe is somewhere");
        let mut texts = texts.split(|&byte| byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        let provider = texts.next().unwrap();
        probes.insert(format!("{provider}:{}", texts.next().unwrap()), texts.next().unwrap());
    }
    probes
}

/// The probes of this program.
fn own_probes() -> BTreeMap<String, String> {
    // Uses the heap, so that the linker keeps all of it.
    let heap = Heap::builder().max_bytes(16 << 20).build().unwrap();
    let made = heap.enter(|m| m.build::<Node>(AllocSize::of::<Node>(), |m| m.place(NodeInit { next: None })).is_ok());
    assert!(made.unwrap());
    heap.collect();

    probes(&std::fs::read(std::env::current_exe().unwrap()).unwrap())
}

#[test]
fn the_program_names_its_probes() {
    let found = own_probes();
    let expected = [
        ("pause_begin", 1),
        ("pause_end", 4),
        ("late", 6),
        ("cycle_begin", 2),
        ("cycle_end", 4),
        ("phase", 4),
        ("stall", 3),
        ("fault", 2),
    ];
    for (name, arguments) in expected {
        let found = found.get(&format!("parallax:{name}")).unwrap_or_else(|| panic!("no {name} in {found:?}"));
        assert_eq!(found.split_whitespace().count(), arguments, "{name}: {found}");
    }
}

/// What a mistake would be found in only by somebody who traces.
#[test]
fn the_script_names_probes_and_arguments_that_there_are() {
    let (found, script) = (own_probes(), include_str!("../probes.bt"));
    let mut probes = 0;
    for part in script.split("usdt:$1:").skip(1) {
        let (name, action) = part.split_once(|c: char| c.is_whitespace()).unwrap();
        let arguments = found.get(name).unwrap_or_else(|| panic!("no {name} in {found:?}"));
        let count = arguments.split_whitespace().count();
        let used = action.split("arg").skip(1).map(|rest| {
            let digits = rest.chars().take_while(char::is_ascii_digit).collect::<String>();
            digits.parse::<usize>().expect("the number of an argument")
        });
        let used: Vec<_> = used.collect();
        assert!(!used.is_empty() && used.iter().all(|&argument| argument < count), "{name}: {used:?} of {count}");
        probes += 1;
    }
    assert_eq!(probes, 9, "each of the script's probes was looked at");
}
