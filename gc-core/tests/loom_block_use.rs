//! The use of a block, and since when: who frees dead blocks looks at both while mutators take free
//! ones: `RUSTFLAGS="--cfg loom" cargo test -p gc-core --release --test loom_block_use`.
//!
//! Transcribed are `reclaim::free_dead` (one block), `Memory::open_block` and
//! `Memory::close_block`, with the orderings of `BlockTable` (`gc-heap/src/space/blocks.rs`).
#![cfg(loom)]

mod support;

use gc_core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;
use support::check;

const FREE: u8 = 0;
const CLOSED: u8 = 1;
const OPEN: u8 = 2;

const EPOCH: u32 = 7;

#[derive(Clone, Copy)]
struct Rules {
    use_first: bool,
    birth_before_use: bool,
    use_is_released: bool,
}

const ALL: Rules = Rules { use_first: true, birth_before_use: true, use_is_released: true };

fn a_block_is_taken_while_dead_ones_are_freed(rules: Rules) {
    check(3, move || {
        let block = Arc::new((AtomicU8::new(FREE), AtomicU32::new(0)));
        let released = if rules.use_is_released { Ordering::Release } else { Ordering::Relaxed };
        let mutator = {
            let block = Arc::clone(&block);
            thread::spawn(move || {
                let (usage, birth) = &*block;
                if rules.birth_before_use {
                    birth.store(EPOCH, Ordering::Release);
                }
                usage.store(OPEN, released);
                if !rules.birth_before_use {
                    birth.store(EPOCH, Ordering::Release);
                }
                usage.store(CLOSED, released);
            })
        };
        let (usage, birth) = &*block;
        let (usage, birth) = if rules.use_first {
            let usage = usage.load(Ordering::Acquire);
            (usage, birth.load(Ordering::Acquire))
        } else {
            let birth = birth.load(Ordering::Acquire);
            (usage.load(Ordering::Acquire), birth)
        };
        assert!(usage != CLOSED || birth == EPOCH, "a young block was freed");
        mutator.join().unwrap();
    });
}

#[test]
fn the_use_is_read_before_the_birth() {
    a_block_is_taken_while_dead_ones_are_freed(ALL);
}

#[test]
#[should_panic(expected = "a young block was freed")]
fn read_the_other_way_round_a_young_block_is_freed() {
    a_block_is_taken_while_dead_ones_are_freed(Rules { use_first: false, ..ALL });
}

#[test]
#[should_panic(expected = "a young block was freed")]
fn a_use_that_is_not_released_says_nothing_of_the_birth() {
    a_block_is_taken_while_dead_ones_are_freed(Rules { use_is_released: false, ..ALL });
}
