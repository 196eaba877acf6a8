//! A churn of two threads, and a trace of what the collector did meanwhile, written as it happens.
//!
//! `cargo run --release -p examples --bin trace [FILE]`, then open the file (`trace.json`)
//! in <https://ui.perfetto.dev>.

use gc_heap::{AllocSize, Event, Heap, Mutator, OutOfMemory, Slot, SlotArray, Trace};
use gc_heap_tools::EventTrace;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::{Arc, Mutex};

#[derive(Trace)]
struct Node {
    left: Slot<Option<Node>>,
    right: Slot<Option<Node>>,
}

type Table = SlotArray<Option<Node>>;

const TREES: usize = 64;

/// The trace, until the first error of its file or its end.
struct Sink(Mutex<io::Result<EventTrace<BufWriter<File>>>>);

impl Sink {
    fn add(&self, event: &Event) {
        // No mutator takes this lock while it is inside the heap, so the collector never waits for
        // one here.
        let mut sink = self.0.lock().expect("no listener panics");
        let added = sink.as_mut().map_or(Ok(()), |trace| trace.add(event));
        if let Err(error) = added {
            *sink = Err(error);
        }
    }

    fn finish(&self) -> io::Result<()> {
        let ended = Err(io::Error::other("the trace has ended"));
        let trace = std::mem::replace(&mut *self.0.lock().expect("no listener panics"), ended);
        trace?.finish().map(drop)
    }
}

/// A tree of this depth at an index of the table. A safepoint.
fn plant(m: &mut Mutator<'_>, table: gc_heap::Local<'_, Table>, index: usize, depth: u32) -> Result<(), OutOfMemory> {
    fn grow<'g>(m: &'g Mutator<'_>, depth: u32) -> gc_heap::Gc<'g, Node> {
        let (left, right) = match depth {
            0 => (None, None),
            _ => (Some(grow(m, depth - 1)), Some(grow(m, depth - 1))),
        };
        m.place(NodeInit { left, right })
    }
    let m = m.reserve(AllocSize::of::<Node>().times((2 << depth) - 1))?;
    table.get(m).tail()[index].set(m, Some(grow(m, depth)));
    Ok(())
}

fn churn(m: &mut Mutator<'_>, mut seed: usize) -> Result<(), OutOfMemory> {
    let table = m.build::<Table>(AllocSize::tail::<Table>(TREES), |m| m.place_array((), TREES, None))?;
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        plant(m, table, (seed >> 33) % TREES, (seed >> 48) as u32 % 10)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "trace.json".into());
    let trace = EventTrace::new(BufWriter::new(File::create(&path)?), "churn")?;
    let sink = Arc::new(Sink(Mutex::new(Ok(trace))));
    let listener = Arc::clone(&sink);
    let heap = Heap::builder().max_bytes(24 << 20).on_event(move |event| listener.add(event)).build()?;
    std::thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let other = scope.spawn(|| heap.enter(|m| churn(m, 1)));
        heap.enter(|m| churn(m, 2))??;
        other.join().expect("a churn does not panic")??;
        Ok(())
    })?;
    heap.collect();
    sink.finish()?;
    println!("{} cycles are in {path}", heap.stats().cycles);
    Ok(())
}
