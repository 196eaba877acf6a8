//! What is in a heap: a census on the terminal, and a snapshot for Chromium's developer tools
//! (*Memory*, *Load profile*).
//!
//! `cargo run --release -p examples --bin snapshot -- a.heapsnapshot`

use gc_heap::{AllocSize, Bytes, Heap, OutOfMemory, Root, Slot, SlotArray, Trace};
use gc_heap_tools::write_v8_snapshot;
use std::fs::File;
use std::io::{BufWriter, Write};

#[derive(Trace)]
struct Order {
    number: u64,
    customer: Slot<Customer>,
    lines: Slot<SlotArray<Line>>,
}

#[derive(Trace)]
struct Customer {
    name: Slot<Bytes>,
}

#[derive(Trace)]
struct Line {
    pieces: u32,
    article: Slot<Bytes>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let heap = Heap::builder().max_bytes(64 << 20).build()?;
    let _orders = heap.enter(|m| -> Result<_, OutOfMemory> {
        const ORDERS: usize = 1000;
        type Orders = SlotArray<Option<Order>>;
        let orders = m.build::<Orders>(AllocSize::tail::<Orders>(ORDERS), |m| m.place_array((), ORDERS, None))?;
        for number in 0..ORDERS {
            let name = format!("customer {}", number % 7);
            let lines = 1 + number % 3;
            let m = m.reserve(
                AllocSize::of::<Order>()
                    + AllocSize::of::<Customer>()
                    + AllocSize::tail::<Bytes>(name.len()).times(1 + lines)
                    + AllocSize::of::<Line>().times(lines)
                    + AllocSize::tail::<SlotArray<Line>>(lines),
            )?;
            let customer = m.place(CustomerInit { name: m.place_bytes((), name.as_bytes()) });
            let line = |pieces| m.place(LineInit { pieces, article: m.place_bytes((), b"article") });
            let lines = m.place_tail::<SlotArray<Line>, _>((), (0..lines).map(|number| line(number as u32)));
            let order = m.place(OrderInit { number: number as u64, customer, lines });
            orders.get(m).tail()[number].set(m, Some(order));
        }
        Ok(Root::<Orders>::new(m, orders.get(m)))
    })??;

    let snapshot = heap.heap_snapshot();
    println!("{:>14} {:>12}\n{}", "bytes", "objects", snapshot.census());
    if let Some(path) = std::env::args().nth(1) {
        let mut file = BufWriter::new(File::create(&path)?);
        write_v8_snapshot(&snapshot, &mut file)?;
        file.flush()?;
        println!("{path}");
    }
    Ok(())
}
