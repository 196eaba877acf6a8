use super::*;
use std::time::Duration;

fn run(blocks: Range<usize>) -> impl Iterator<Item = Block> {
    blocks.map(Block::new)
}

/// The numbers of what is taken for new objects.
fn take(space: &FreeSpace) -> Option<usize> {
    space.take(AllocClass::Mutator).map(Block::number)
}

fn take_run(space: &FreeSpace, count: usize) -> Option<usize> {
    space.take_run(AllocClass::Mutator, count).map(Block::number)
}

fn never_taken(space: &FreeSpace) -> Range<usize> {
    let Range { start, end } = space.never_taken();
    start.number()..end.number()
}

#[test]
fn single_blocks_are_taken_from_the_bottom() {
    let space = FreeSpace::new(8, 0).unwrap();
    let taken: Vec<_> = (0..8).map(|_| take(&space).unwrap()).collect();
    assert_eq!(taken, (0..8).collect::<Vec<_>>());
    assert_eq!(take(&space), None);
    space.free_blocks([3, 5].map(Block::new));
    assert_eq!(take(&space), Some(3));
    assert_eq!((space.figures().committed, space.figures().committed_peak), (8, 8));
}

#[test]
fn runs_are_taken_from_the_top_and_do_not_overlap_single_blocks() {
    let space = FreeSpace::new(130, 0).unwrap();
    assert_eq!(take_run(&space, 70), Some(60));
    assert_eq!(take(&space), Some(0));
    space.free_blocks(run(110..120));
    assert_eq!(take_run(&space, 60), None);
    assert_eq!(take_run(&space, 59), Some(1));
    let rest: Vec<_> = std::iter::from_fn(|| take(&space)).collect();
    assert_eq!(rest, (110..120).collect::<Vec<_>>());
}

/// A flip leaves alone what nobody has taken, so it must be known on both sides.
#[test]
fn what_was_never_taken_lies_between_single_blocks_and_runs() {
    let space = FreeSpace::new(100, 0).unwrap();
    assert_eq!(never_taken(&space), 0..100);
    assert_eq!(take_run(&space, 10), Some(90));
    assert_eq!((take(&space), never_taken(&space)), (Some(0), 1..90));
    space.free_blocks(run(90..100).chain(run(0..1)));
    assert_eq!(take_run(&space, 3), Some(97));
    assert_eq!((take(&space), never_taken(&space)), (Some(0), 1..90), "free now, and taken before");
    // Below what was taken from the top, and over both marks at last.
    assert_eq!((take_run(&space, 20), never_taken(&space)), (Some(77), 1..77));
    let singles: Vec<_> = (0..76).map(|_| take(&space).unwrap()).collect();
    assert_eq!((singles, never_taken(&space).len()), ((1..77).collect(), 0));
    space.free_blocks(run(20..40));
    assert_eq!((take_run(&space, 20), never_taken(&space).len()), (Some(20), 0));
}

#[test]
fn many_blocks_are_taken_at_once_or_none() {
    let space = FreeSpace::new(300, 4).unwrap();
    let many = space.take_many(AllocClass::Mutator, 200).unwrap();
    assert_eq!((many.len(), space.free()), (200, 100));
    assert_eq!((space.take_many(AllocClass::Mutator, 97), space.free()), (None, 100), "four are reserved");
    assert_eq!(space.take_many(AllocClass::Mutator, 96).map(|blocks| blocks.len()), Some(96));
    let waiting = space.await_blocks(1, false);
    assert_eq!(space.take_many(AllocClass::Mutator, 2), None, "one that stalled goes first");
    space.free_blocks(many);
    assert!(waiting.take(Duration::ZERO).is_some());
}

/// All allocation waits for the lock, so what is done under it must not grow with the heap. Of
/// each the least of several times counts, and a search of all blocks takes 256 times as long
/// in the larger heap.
#[test]
fn a_run_is_found_in_a_time_that_does_not_grow_with_the_heap() {
    let checkered = |blocks: usize| {
        let space = FreeSpace::new(blocks, 0).unwrap();
        while space.take(AllocClass::Mutator).is_some() {}
        // The only run is the farthest from where the search begins.
        space.free_blocks(run(64..blocks).step_by(2));
        space.free_blocks(run(0..32));
        space
    };
    let time = |space: &FreeSpace| {
        let begun = Instant::now();
        for _ in 0..8 {
            let first = space.take_run(AllocClass::Mutator, 2).unwrap();
            space.free_blocks(first.run(2));
        }
        begun.elapsed()
    };
    let spaces = [1 << 9, 1 << 17].map(checkered);
    let mut least = [Duration::MAX; 2];
    for _ in 0..100 {
        for (least, space) in least.iter_mut().zip(&spaces) {
            *least = (*least).min(time(space));
        }
    }
    assert!(least[1] < 16 * least[0], "{least:?}");
}
