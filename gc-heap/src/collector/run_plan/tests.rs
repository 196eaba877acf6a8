use super::*;
use std::cell::Cell;

thread_local! {
    /// Stretches that were measured, and changes of the free runs.
    pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// A heap of 24 GiB has 393,216 blocks, and all threads wait for the plan.
#[test]
fn the_work_of_a_plan_grows_with_the_heap_and_no_faster() {
    // Pairs of an object and a free block, and a run that takes half of the heap: each window
    // overlaps half of all others.
    let map = |pairs: usize, object: usize| -> Vec<Stretch> {
        let pair = |index: usize| {
            let first = index * (object + 1);
            [(first, object, Content::Object), (first + object, 1, Content::Free)]
        };
        let stretches = (0..pairs).flat_map(pair);
        stretches.map(|(first, len, content)| Stretch { first: Block::new(first), len, content }).collect()
    };
    for pairs in [1 << 8, 1 << 11] {
        // Objects slide; objects have no place elsewhere, whichever window is tried.
        for (object, wanted, batches) in [(1, pairs / 2, 2), (2, pairs + pairs / 2, 0)] {
            let map = map(pairs, object);
            let before = STEPS.get();
            assert_eq!(plan(&map, wanted).unwrap().len(), batches);
            let steps = STEPS.get() - before;
            assert!(steps <= 12 * map.len(), "{pairs} pairs, objects of {object}: {steps} steps");
        }
    }
}

/// The map that a text draws: `.` a free block, `#` a fixed one, a letter for each object.
fn drawn(text: &str) -> Vec<Stretch> {
    let mut map: Vec<Stretch> = Vec::new();
    let bytes = text.as_bytes();
    for (first, &byte) in bytes.iter().enumerate() {
        let content = match byte {
            b'.' => Content::Free,
            b'#' => Content::Fixed,
            _ => Content::Object,
        };
        match map.last_mut() {
            Some(last) if bytes[first - 1] == byte => last.len += 1,
            _ => map.push(Stretch { first: Block::new(first), len: 1, content }),
        }
    }
    map
}

/// What a drawn heap looks like after a batch, each move of which must have a free place.
fn after(text: &str, batch: &Batch) -> String {
    let mut blocks = text.as_bytes().to_vec();
    for &Move { from, to, len } in &batch.moves {
        let (from, to) = (from.number(), to.number());
        let object = blocks[from..from + len].to_vec();
        assert!(object.iter().all(|&byte| byte == object[0]), "{text}: no object at {from}");
        blocks[from..from + len].fill(b'.');
        assert!(blocks[to..to + len].iter().all(|&byte| byte == b'.'), "{text}: {to} is taken");
        blocks[to..to + len].copy_from_slice(&object);
    }
    String::from_utf8(blocks).unwrap()
}

fn longest(text: &str) -> usize {
    text.split(|content| content != '.').map(str::len).max().unwrap()
}

#[test]
fn objects_slide_up_in_the_stretch_that_costs_least() {
    for (before, wanted, wants) in [
        (".AA.BB.", 2, "..AABB."),
        ("..AAAA..B..", 4, "..AAAA....B"),
        (".AA#.AA", 2, ".AA#.AA"),
        ("#.AAA.#..B.", 3, "#.AAA.#...B"),
        (".A.B.C.", 4, "....ABC"),
    ] {
        let plan = plan(&drawn(before), wanted).unwrap();
        let found = plan.first().map_or(before.to_owned(), |batch| after(before, batch));
        assert_eq!(found, wants, "{before}, {wanted}");
    }
}

#[test]
fn windows_do_not_overlap_and_each_makes_a_run() {
    let before = ".A.B.C.D.E.F.";
    let batches = plan(&drawn(before), 2).unwrap();
    assert!(batches.len() >= 3, "{batches:?}");
    let mut heap = before.to_owned();
    for (number, batch) in batches.iter().enumerate() {
        heap = after(&heap, batch);
        assert_eq!(heap.matches("..").count(), number + 1, "{heap}");
    }
}

#[test]
fn a_window_between_pins_is_emptied_into_runs_elsewhere() {
    for (before, wanted) in [("#.AA#.B#", 2), ("#A.#B.#C.#", 2), ("#.AA.#..#BB..#", 3)] {
        let map = drawn(before);
        let plan = plan(&map, wanted).unwrap();
        let [batch] = &plan[..] else { panic!("{before}: {plan:?}") };
        let heap = after(before, batch);
        assert!(longest(&heap) >= wanted, "{before}: {heap}");
    }
    assert_eq!(plan(&drawn("#.AA#.B#"), 3).unwrap(), [], "no run outside holds A");
}

#[test]
fn where_free_blocks_suffice_between_fixed_ones_a_run_is_found() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for step in 0..4000 {
        let mut text = String::new();
        for _ in 0..30 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let len = 1 + (random >> 40) as usize % 4;
            let letter = if text.ends_with('A') { "B" } else { "A" };
            text += &[".", ".", letter, letter, letter, "#"][random as usize % 6].repeat(len);
        }
        let most = text.split('#').map(|segment| segment.matches('.').count()).max().unwrap();
        for wanted in longest(&text) + 1..=most {
            let batches = plan(&drawn(&text), wanted).unwrap();
            assert!(!batches.is_empty(), "{step}: {text}, {wanted}");
            let mut all = text.clone();
            for batch in &batches {
                assert!(longest(&after(&text, batch)) >= wanted, "{step}: {text}, {wanted}: {batch:?}");
                all = after(&all, batch);
                let (taken, given) = batch.taken_and_given().unwrap();
                assert_eq!(taken.len(), given.len());
                assert!(taken.iter().all(|block| text.as_bytes()[block.number()] == b'.'));
            }
            assert!(batches.windows(2).all(|pair| pair[0].cost() <= pair[1].cost()));
        }
    }
}
