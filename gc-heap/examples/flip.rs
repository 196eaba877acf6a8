//! What a flip of the page barrier costs: the pause, and the first touch of a page afterwards, with
//! its repair.
//!
//! `cargo run --release -p gc-heap --example flip -- [--heap MIB] [--mutators N] [--cluster PAGES]
//! [--live MIB] [--anonymous]`
//!
//! Threads read one object a page, in random order, again and again, and time each read. The heap
//! has small objects that refer to one another at random, half of them dead, so that pages have
//! slots to rewrite and flips have blocks to evacuate; every cycle flips. A read that takes a
//! microsecond or more has faulted.

#[path = "../tests/random/mod.rs"]
mod random;

use gc_heap::{
    AllocSize, Backing, Barrier, Bytes, Event, Heap, OutOfMemory, PauseKind, Root, Slot, SlotArray, Stress, Trace,
};
use random::Random;
use std::time::{Duration, Instant};

#[derive(Trace)]
struct Node {
    number: u64,
    a: Slot<Option<Node>>,
    b: Slot<Option<Node>>,
    c: Slot<Option<Node>>,
}

/// Allocations of a thread between two cycles.
const CYCLE_EVERY: u32 = 60_000;

/// Bytes of a large object, a little less than what it takes.
const LARGE: usize = (1 << 20) - 64;

/// Of each thread; 40 bytes each.
const OBJECTS: usize = 300_000;

struct Options {
    heap: usize,
    mutators: usize,
    cluster: usize,
    /// Of large objects that stay.
    live: usize,
    backing: Backing,
}

const HELP: &str = "\
Measures flips of the page barrier: the pause, and the first touch of a page after it. Runs for 8 seconds.

  --heap MIB       size of the heap, in MiB (64)
  --mutators N     threads that read and allocate (1)
  --live MIB       large objects that stay beside the small ones, in MiB (0)
  --cluster PAGES  pages that a fault repairs at once: 1, 2, 4 ... 64 (1)
  --anonymous      private anonymous memory in place of a memfd
";

/// `None`: help was asked for.
fn options() -> Result<Option<Options>, String> {
    let mut options = Options { heap: 64, mutators: 1, cluster: 1, live: 0, backing: Backing::Memfd };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--help" || name == "-h" {
            return Ok(None);
        }
        if name == "--anonymous" {
            options.backing = Backing::Anonymous;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = value.parse().map_err(|_| format!("{name} {value}: not a number"))?;
        match name.as_str() {
            "--heap" => options.heap = number,
            "--mutators" => options.mutators = number,
            "--cluster" => options.cluster = number,
            "--live" => options.live = number,
            _ => return Err(format!("{name}: no such option; see --help")),
        }
    }
    Ok(Some(options))
}

fn quantile(sorted: &[u64], share: f64) -> f64 {
    sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)).copied().unwrap_or(0) as f64 / 1000.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(options) = options()? else {
        print!("{HELP}");
        return Ok(());
    };
    let heap = Heap::builder()
        .max_bytes(options.heap << 20)
        .barrier(Barrier::Page)
        .backing(options.backing)
        .fault_cluster(options.cluster)
        .stress(Stress { cycle_every: CYCLE_EVERY, delay_one_in: 0, seed: 1 })
        .pretouch(true)
        .build()?;
    let _large = heap.enter(|m| {
        let large = (0..options.live).map(|_| {
            let m = m.reserve(AllocSize::tail::<Bytes>(LARGE))?;
            let bytes = m.place_bytes::<Bytes>((), &[1; LARGE]);
            Ok(Root::<Option<Bytes>>::new(m, Some(bytes)))
        });
        large.collect::<Result<Vec<_>, OutOfMemory>>()
    })??;
    let mut touches = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.mutators)
            .map(|seed| {
                let heap = &heap;
                scope.spawn(move || heap.enter(|m| read(m, seed as u64 + 1, Duration::from_secs(8))))
            })
            .collect();
        let touches = threads.into_iter().map(|thread| thread.join().expect("a reader ends")?.map_err(Into::into));
        touches.collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()
    })?
    .concat();
    touches.sort_unstable();
    let (mut whole, mut work) = (Vec::new(), Vec::new());
    for event in heap.take_events().0 {
        if let Event::Pause(pause) = event
            && pause.kind == PauseKind::Flip
        {
            whole.push(pause.total_ns);
            work.push(pause.total_ns - pause.reach_ns);
        }
    }
    if whole.is_empty() || touches.is_empty() {
        return Err("no flip happened".into());
    }
    whole.sort_unstable();
    work.sort_unstable();
    println!(
        "{} MiB, {} mutators, {:?}: {} flips, pause p50 {:.1} us, p99 {:.1} us, max {:.1} us (without the way to the \
         safepoint {:.1}, {:.1}, {:.1}); {} first touches, p50 {:.1} us, p99 {:.1} us",
        options.heap,
        options.mutators,
        options.backing,
        whole.len(),
        quantile(&whole, 0.5),
        quantile(&whole, 0.99),
        quantile(&whole, 1.0),
        quantile(&work, 0.5),
        quantile(&work, 0.99),
        quantile(&work, 1.0),
        touches.len(),
        quantile(&touches, 0.5),
        quantile(&touches, 0.99)
    );
    Ok(())
}

fn read(m: &mut gc_heap::Mutator<'_>, seed: u64, how_long: Duration) -> Result<Vec<u64>, OutOfMemory> {
    let mut random = Random::new(seed);
    let table = m.reserve(AllocSize::tail::<SlotArray<Option<Node>>>(OBJECTS))?;
    let table = table.local(table.place_array::<SlotArray<Option<Node>>>((), OBJECTS, None));
    let mut touches = Vec::new();
    let begun = Instant::now();
    let mut round = 0;
    while begun.elapsed() < how_long {
        // One in eight is replaced: what it was is garbage among the others.
        for _ in 0..OBJECTS / 8 {
            let m = m.reserve(AllocSize::of::<Node>())?;
            let slots = table.get(m).tail();
            // Objects of the lower half are never replaced, and objects refer to these alone.
            // Otherwise a replaced object would be reachable from others, and nothing would die.
            let [a, b, c] = [(); 3].map(|()| slots[random.below(OBJECTS / 2)].get(m));
            let mut at = random.below(OBJECTS);
            if slots[at].get(m).is_some() {
                at = at % (OBJECTS / 2) + OBJECTS / 2;
            }
            let [a, b, c] = if at < OBJECTS / 2 { [None; 3] } else { [a, b, c] };
            slots[at].set(m, Some(m.place(NodeInit { number: at as u64, a, b, c })));
        }
        round += 1;
        let until = Instant::now() + Duration::from_millis(30);
        while Instant::now() < until {
            m.safepoint();
            let slots = table.get(m).tail();
            for _ in 0..500 {
                let at = random.below(OBJECTS);
                let Some(node) = slots[at].get(m) else { continue };
                let before = Instant::now();
                let number = node.number;
                let took = before.elapsed().as_nanos() as u64;
                assert_eq!(number, at as u64, "round {round}");
                if took >= 1000 {
                    touches.push(took);
                }
            }
        }
    }
    Ok(touches)
}
