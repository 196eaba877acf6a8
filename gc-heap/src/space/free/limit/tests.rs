use super::*;
use crate::space::free::blocks_of;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};

const MUTATOR: AllocClass = AllocClass::Mutator;

/// What a heap's file has memory for: blocks that were touched, and not uncommitted since.
struct File {
    has: Vec<AtomicBool>,
    blocks: AtomicUsize,
    limit: usize,
    refuses: AtomicBool,
    /// The lengths of what was uncommitted in one call.
    calls: Mutex<Vec<usize>>,
}

impl File {
    /// A thread that has taken a block writes to it.
    fn touch(&self, block: Block) {
        if !self.has[block.number()].swap(true, Ordering::SeqCst) {
            let blocks = self.blocks.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(blocks <= self.limit, "{block:?} is one more than {} blocks with memory", self.limit);
        }
    }

    fn uncommit(&self, run: &[Block]) -> bool {
        assert!(run.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no neighbours: {run:?}");
        if self.refuses.load(Ordering::SeqCst) {
            return false;
        }
        self.calls.lock().unwrap().push(run.len());
        // Those that nobody has touched have none.
        let had = run.iter().filter(|block| self.has[block.number()].swap(false, Ordering::SeqCst)).count();
        self.blocks.fetch_sub(had, Ordering::SeqCst);
        true
    }

    fn touched(&self) -> usize {
        self.blocks.load(Ordering::SeqCst)
    }
}

fn space(blocks: usize, limit: usize, reserve: usize) -> (FreeSpace, Arc<File>) {
    let file = Arc::new(File {
        has: (0..blocks).map(|_| AtomicBool::new(false)).collect(),
        blocks: AtomicUsize::new(0),
        limit,
        refuses: AtomicBool::new(false),
        calls: Mutex::default(),
    });
    let uncommits = Arc::clone(&file);
    (FreeSpace::limited(blocks, limit, reserve, move |run| uncommits.uncommit(run)).unwrap(), file)
}

/// Takes a run, and uses it.
fn take_run(space: &FreeSpace, file: &File, count: usize) -> Option<Block> {
    let first = match space.begin_run(MUTATOR, count, false)? {
        TakenRun::Complete(first) => first,
        TakenRun::Lacking(lacking) => {
            let first = lacking.blocks()[0];
            space.complete(lacking).then_some(first)?
        }
    };
    first.run(count).for_each(|block| file.touch(block));
    Some(first)
}

fn take_all(space: &FreeSpace, file: &File) -> Vec<Block> {
    std::iter::from_fn(|| space.take(MUTATOR)).inspect(|&block| file.touch(block)).collect()
}

/// Fails where a run needs a run of free memory: with as many offsets as memory there is none.
#[test]
fn a_run_is_found_however_the_free_memory_lies() {
    for (blocks, finds) in [(64, false), (128, true)] {
        let (space, file) = space(blocks, 64, 0);
        let all = take_all(&space, &file);
        assert_eq!((all.len(), space.free()), (64, 0));
        space.free_blocks(all.iter().copied().step_by(2));
        assert!(space.take_run(MUTATOR, 32).is_none(), "no run has its memory");
        let first = take_run(&space, &file, 32);
        assert_eq!(first, finds.then_some(Block::new(96)));
        let figures = space.figures();
        assert_eq!((figures.committed, figures.committed_peak, file.touched()), (64, 64, 64));
        assert_eq!((space.free(), figures.used), if finds { (0, 64) } else { (32, 32) });
    }
}

/// What a run lacks is lent by as few blocks as can be, the longest free first, and in as few
/// calls.
#[test]
fn a_run_borrows_no_more_than_it_lacks() {
    let (space, file) = space(64, 32, 0);
    let all = take_all(&space, &file);
    space.free_blocks(all[24..32].iter().copied());
    space.free_blocks(all[0..8].iter().copied());
    // Four have been uncommitted: there is memory for that many.
    let idle = space.take_uncommittable(Duration::ZERO, 4).blocks;
    assert_eq!(idle, all[24..28]);
    assert!(space.uncommit(&idle));
    file.calls.lock().unwrap().clear();
    assert_eq!(take_run(&space, &file, 12), Some(Block::new(52)));
    assert_eq!(*file.calls.lock().unwrap(), [4, 4], "four of these, and four of the first eight");
    assert_eq!((space.free(), space.free_committed(), space.figures().given_back), (4, 4, 12));
    // One that has its memory is taken before a higher one that lacks it.
    space.free_blocks(Block::new(52).run(12));
    assert_eq!(take_run(&space, &file, 6), Some(Block::new(58)));
    assert_eq!(file.calls.lock().unwrap().len(), 2);
}

/// Fails where what is being uncommitted for one taker is given to another.
#[test]
fn no_more_blocks_have_memory_than_the_limit_whatever_threads_do() {
    const LIMIT: usize = 200;
    for blocks in [LIMIT + 7, 2 * LIMIT, 4 * LIMIT] {
        let (space, file) = space(blocks, LIMIT, 4);
        std::thread::scope(|scope| {
            for seed in 1..4_u64 {
                let (space, file) = (&space, &file);
                scope.spawn(move || {
                    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let mut held: Vec<Vec<Block>> = Vec::new();
                    for _ in 0..2000 {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let count = 1 + (random >> 32) as usize % 40;
                        let taken = match random >> 60 {
                            0..6 => take_run(space, file, count).map(|first| first.run(count).collect()),
                            6..8 => space.take(MUTATOR).map(|block| vec![block]),
                            8 => space.take_many(MUTATOR, count / 4),
                            9 => {
                                let waiting = space.await_blocks(count / 4 + 1, random & 1 == 0);
                                waiting.take(Duration::from_micros(50))
                            }
                            10 => {
                                let idle = space.take_uncommittable(Duration::ZERO, count).blocks;
                                idle.chunk_by(|&a, &b| a + 1 == b).for_each(|run| _ = space.uncommit(run));
                                None
                            }
                            11 => {
                                file.refuses.store(random & 3 == 0, Ordering::SeqCst);
                                None
                            }
                            _ if held.is_empty() => None,
                            _ => {
                                space.free_blocks(held.swap_remove((random >> 20) as usize % held.len()));
                                None
                            }
                        };
                        if let Some(taken) = taken {
                            taken.iter().for_each(|&block| file.touch(block));
                            held.push(taken);
                        }
                        let figures = space.figures();
                        assert!(figures.used <= figures.committed && figures.committed_peak <= LIMIT);
                    }
                    held.into_iter().for_each(|blocks| space.free_blocks(blocks));
                });
            }
        });
        let state = space.state.lock();
        assert_eq!((space.free(), state.giving, state.blocks_wanted), (LIMIT, 0, 0));
        assert!(file.touched() <= space.committed.load(Ordering::Relaxed));
        assert!((0..blocks).all(|block| state.free.is_free(Block::new(block))), "a block is lost");
        assert!((0..blocks).all(|block| {
            let block = Block::new(block);
            state.order.contains(block) || !file.has[block.number()].load(Ordering::SeqCst)
        }));
    }
}

/// Fails where blocks of a run that got no memory are lost, or counted as if they had it.
#[test]
fn a_run_is_given_back_where_memory_is_refused() {
    let (space, file) = space(64, 32, 0);
    let all = take_all(&space, &file);
    space.free_blocks(all.iter().copied().step_by(2));
    file.refuses.store(true, Ordering::SeqCst);
    let before = (space.free(), space.free_committed());
    assert!(take_run(&space, &file, 8).is_none());
    assert_eq!((space.free(), space.free_committed()), before);
    assert_eq!((space.figures().committed, space.figures().used), (32, 16));
    // The stalled thread is back in the queue, and gets the first run that has its memory.
    let waiting = space.await_blocks(8, true);
    assert!(waiting.take(Duration::ZERO).is_none() && waiting.is_first() && waiting.only_gc_can_help());
    space.free_blocks(all[17..24].iter().copied().step_by(2));
    assert_eq!(waiting.take(Duration::ZERO), Some(Block::new(17).run(8).collect()));
    drop(waiting);
    assert_eq!(space.state.lock().blocks_wanted, 0);
    file.refuses.store(false, Ordering::SeqCst);
    assert!(take_run(&space, &file, 8).is_some());
}

#[test]
fn a_waiter_gets_memory_for_its_run_or_gives_all_back() {
    let (space, file) = space(64, 32, 0);
    let all = take_all(&space, &file);
    let [first, second] = [8, 8].map(|count| space.await_blocks(count, true));
    space.free_blocks(all.iter().copied().step_by(2));
    // The second has got what it never fetches.
    let run = first.take(Duration::ZERO).unwrap();
    run.iter().for_each(|&block| file.touch(block));
    drop((first, second));
    assert_eq!((space.free(), space.figures().used, space.state.lock().giving), (8, 24, 0));
    assert!(take_run(&space, &file, 8).is_some());
}

/// Small objects among large ones would divide the offsets.
#[test]
fn memory_is_brought_down_to_single_blocks() {
    let (space, file) = space(128, 64, 0);
    let run = take_run(&space, &file, 60).unwrap();
    assert_eq!(run, Block::new(68));
    space.free_blocks(run.run(60));
    let singles = take_all(&space, &file);
    // As long as enough is free that some can be uncommitted.
    let low = singles.iter().filter(|&&block| block < Block::new(64)).count();
    assert!(singles.len() == 64 && low >= 64 - 3 * BROUGHT, "{low} of {}", singles.len());
    space.free_blocks(singles);
    assert!(space.take(MUTATOR).is_some_and(|block| block < Block::new(64)));
}

/// A thread that packs blocks in a pause.
#[test]
fn memory_is_brought_below_the_end_of_what_is_packed() {
    let (space, file) = space(64, 32, 0);
    let run = take_run(&space, &file, 32).unwrap();
    space.free_blocks((run + 20).run(2));
    let waiting = space.await_blocks(4, true);
    assert_eq!(space.take_below(Block::new(8)), Some(Block::new(0)));
    assert_eq!(space.take_below(Block::new(0)), Some(run + 21), "the highest with memory");
    assert_eq!((space.take_below(Block::new(8)), space.free()), (None, 0));
    drop(waiting);
    assert_eq!(file.touched(), 31);
}

/// As many free blocks as a batch of moves needs, and no memory beyond the limit.
#[test]
fn certain_blocks_are_taken_with_memory_of_others_or_not_at_all() {
    let (space, file) = space(64, 32, 0);
    let all = take_all(&space, &file);
    space.free_blocks(all[0..4].iter().copied());
    let these: Vec<_> = Block::new(40).run(5).collect();
    assert!(!space.take_these(&these) && space.free() == 4, "there is memory for four");
    assert!(space.take_these(&these[..4]));
    these[..4].iter().for_each(|&block| file.touch(block));
    assert_eq!((space.free(), file.touched()), (0, 32));
}

#[test]
fn huge_pages_lend_whole_and_are_split_in_need() {
    let (space, file) = space(8 * CHUNK_BLOCKS, 4 * CHUNK_BLOCKS, 0);
    space.track_chunks().unwrap();
    space.all_committed();
    space.all_huge();
    assert_eq!((space.figures().huge, space.huge_chunk(4)), (4, None), "those that have memory");
    take_all(&space, &file);
    // What is left of the memory of two huge pages is free.
    space.free_blocks(blocks_of(0).chain(blocks_of(2)));
    assert!(take_run(&space, &file, CHUNK_BLOCKS + 8) >= Some(Block::new(4 * CHUNK_BLOCKS)));
    let figures = space.figures();
    assert_eq!((figures.huge, figures.committed, space.free()), (2, 3 * CHUNK_BLOCKS + 8, CHUNK_BLOCKS - 8));
    // Every second block of another huge page is free: all that there is.
    space.free_blocks(blocks_of(3).step_by(2));
    let free = space.free();
    assert!(take_run(&space, &file, free) > Some(Block::new(3 * CHUNK_BLOCKS)));
    assert_eq!((space.figures().huge, space.free(), file.touched()), (1, 0, 4 * CHUNK_BLOCKS));
}

#[test]
fn nothing_is_lent_by_a_chunk_that_is_being_made_huge() {
    let (space, file) = space(4 * CHUNK_BLOCKS, 2 * CHUNK_BLOCKS, 0);
    space.track_chunks().unwrap();
    take_all(&space, &file);
    space.free_blocks(blocks_of(0).step_by(2));
    assert!(space.begin_chunk(0));
    let before = (space.figures().committed, space.free(), space.free_committed());
    assert!(take_run(&space, &file, 4).is_none());
    assert_eq!((space.figures().committed, space.free(), space.free_committed()), before);
    space.made(0, false);
    // Nor is one begun of which some lend.
    let Some(TakenRun::Lacking(lacking)) = space.begin_run(MUTATOR, 4, false) else {
        panic!("no block has memory in a row")
    };
    assert!(!space.begin_chunk(1));
    assert!(space.complete(lacking) && space.begin_chunk(1));
}

#[test]
fn no_chunk_is_made_huge_beyond_the_limit() {
    let (space, file) = space(8 * CHUNK_BLOCKS, 4 * CHUNK_BLOCKS, 0);
    space.track_chunks().unwrap();
    let singles: Vec<_> = (0..4 * CHUNK_BLOCKS - 8).map(|_| space.take(MUTATOR).unwrap()).collect();
    singles.iter().for_each(|&block| file.touch(block));
    let [third, fourth] = [2 * CHUNK_BLOCKS + 6, 3 * CHUNK_BLOCKS + 4].map(Block::new);
    let high = singles[2 * CHUNK_BLOCKS..].iter().copied();
    space.free_blocks(high.filter(|&block| block != third && block != fourth));
    assert!(space.take_chunk().is_none(), "memory for eight blocks is not enough");
    space.free_blocks([fourth]);
    let taken = space.take_chunk().unwrap();
    assert_eq!(taken.offset(), fourth.start().bytes() / gc_core::views::HUGE_PAGE * gc_core::views::HUGE_PAGE);
    space.return_chunk(taken, true);
    assert_eq!((space.figures().committed, space.figures().huge), (4 * CHUNK_BLOCKS, 1));
    assert!(space.is_bare(4) && !space.is_bare(3) && !space.is_bare(0));
}
