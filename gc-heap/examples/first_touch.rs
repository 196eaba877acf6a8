//! What the first touch of a page costs after a flip of the page barrier, with its repair.
//!
//! `cargo run --release -p gc-heap --example first_touch [PAGES_A_FAULT] [memfd|anonymous]`
//!
//! One thread reads one object a page, in random order, again and again, and times each read; another asks for cycles. The
//! heap is full of small objects that refer to one another at random, half of them dead, so that every page has slots to
//! rewrite and every flip has blocks to evacuate. A read that takes half a microsecond or more has faulted.

use gc_heap::{Backing, Barrier, Heap, Room, Slot, SlotArray, Trace};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[derive(Trace)]
struct Node {
    number: u64,
    a: Slot<Option<Node>>,
    b: Slot<Option<Node>>,
    c: Slot<Option<Node>>,
}

const OBJECTS: usize = 1_200_000;
const HEAP: usize = 128 << 20;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let pages: usize = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let backing = if arguments.next().as_deref() == Some("anonymous") { Backing::Anonymous } else { Backing::Memfd };
    let heap = Heap::builder()
        .max_bytes(HEAP)
        .barrier(Barrier::Page)
        .backing(backing)
        .fault_cluster(pages)
        .pretouch(true)
        .build()?;
    let done = AtomicBool::new(false);
    let mut touches = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                heap.collect();
            }
        });
        let touches = heap.enter(|m| read(m, Duration::from_secs(5)));
        done.store(true, Ordering::Relaxed);
        touches
    })??;
    touches.sort_unstable();
    let at = |share: f64| touches[((touches.len() - 1) as f64 * share) as usize];
    let stats = heap.stats();
    println!(
        "{backing:?}, {pages} pages a fault: {} first touches in {} flips: p50 {} ns, p90 {} ns, p99 {} ns; \
         in the handler p50 {} ns; {} of {} pages repaired by the reader",
        touches.len(),
        stats.relocations,
        at(0.5),
        at(0.9),
        at(0.99),
        heap.faults().quantile(0.5),
        stats.pages_repaired_by_mutators,
        stats.pages_repaired
    );
    Ok(())
}

fn read(m: &mut gc_heap::Mutator<'_>, how_long: Duration) -> Result<Vec<u64>, gc_heap::OutOfMemory> {
    let mut random = Random(1);
    let table = m.reserve(Room::tail::<SlotArray<Option<Node>>>(OBJECTS))?;
    let table = table.local(table.place_array::<SlotArray<Option<Node>>>((), OBJECTS, None));
    let mut touches = Vec::new();
    let begun = Instant::now();
    let mut round = 0;
    while begun.elapsed() < how_long {
        // One in four is replaced: what it was is garbage among the others.
        for _ in 0..OBJECTS / 4 {
            let m = m.reserve(Room::of::<Node>())?;
            let slots = table.get(m).tail();
            // The lower half stays, once it is there, and only it is referred to: else nothing would ever die.
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
                if took >= 500 {
                    touches.push(took);
                }
            }
        }
    }
    Ok(touches)
}
