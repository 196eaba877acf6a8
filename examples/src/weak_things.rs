//! Side tables, ids and open files of objects that come and go, none of which keeps its object alive.
//!
//! `cargo run --release -p examples --bin weak-things`

use gc_heap::{Bytes, FinalizerQueue, Heap, Resource, ResourceQueue, Room, Slot, Trace, WeakMap};
use std::fs::File;
use std::time::Duration;

#[derive(Trace)]
#[trace(identity_hash)]
struct Document {
    number: u64,
    file: Slot<Resource<File>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let heap = Heap::builder().max_bytes(32 << 20).build()?;
    let files = ResourceQueue::<File>::new(&heap);
    let farewells = FinalizerQueue::<Document>::new(&heap);

    // Files are closed here, not where objects are allocated. The thread ends with the heap.
    let closer = std::thread::spawn({
        let files = files.clone();
        move || std::iter::from_fn(|| files.wait(Duration::MAX)).count()
    });

    heap.enter(|m| -> Result<(), Box<dyn std::error::Error>> {
        let titles = WeakMap::<Document, Bytes>::new(m)?;
        let mut last = None;
        for number in 0..100 {
            let m = &mut *m.frame();
            let file = File::open("/dev/null")?;
            let room = Room::of::<Document>() + Room::of::<Resource<File>>();
            let document =
                m.build::<Document>(room, |m| m.place(DocumentInit { number, file: files.place(m, file) }))?;
            let title = format!("document {number}");
            let title = m.build::<Bytes>(Room::tail::<Bytes>(title.len()), |m| m.place_bytes((), title.as_bytes()))?;
            WeakMap::insert(titles, m, document, title)?;
            farewells.register(m, document.get(m));
            last = Some(document.get(m).identity_hash(m));
        }
        println!("{} titles; the last document is {:#x}", titles.get(m).len(m), last.unwrap_or(0));
        m.collect();
        println!("{} titles, {} vanished", titles.get(m).len(m), titles.get(m).vanished(m));
        let mut sum = 0;
        while let Some(document) = farewells.take() {
            m.safepoint();
            let document = document.get(m);
            document.file.get(m).get().metadata()?; // still open
            sum += document.number;
        }
        println!("said farewell to documents with numbers that make {sum}");
        Ok(())
    })??;

    heap.collect();
    println!("{} files wait to be closed", files.kept());
    drop((farewells, files, heap));
    println!("{} files closed", closer.join().map_err(|_| "the closer panicked")?);
    Ok(())
}
