//! Side tables, ids and open files of objects that come and go, none of which keeps its object
//! alive; and two threads of the program's own that see to what is left of them.
//!
//! `cargo run --release -p examples --bin weak-things`

use gc_heap::{AllocSize, Bytes, FinalizerQueue, Heap, Mutator, Resource, ResourceQueue, Slot, Trace, WeakMap};
use std::collections::HashSet;
use std::error::Error;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Trace)]
#[trace(identity_hash)]
struct Document {
    number: u64,
    file: Slot<Resource<File>>,
}

const DOCUMENTS: u64 = 100;

fn open<'s>(
    m: &mut Mutator<'s>,
    files: &ResourceQueue<File>,
    number: u64,
) -> Result<gc_heap::Local<'s, Document>, Failure> {
    let file = File::open("/dev/null")?;
    let room = AllocSize::of::<Document>() + AllocSize::of::<Resource<File>>();
    Ok(m.build::<Document>(room, |m| m.place(DocumentInit { number, file: files.place(m, file) }))?)
}

/// Says farewell to documents that died, on a thread of its own. Each comes whole, its file still
/// open; number 7 is registered once more, and so it comes once more when it has died again.
fn reap(heap: &Heap, queue: &FinalizerQueue<Document>, over: &AtomicBool, said: &Sender<u64>) -> Result<(), Failure> {
    let mut thread = heap.thread()?;
    let mut again = true;
    while !over.load(Ordering::Relaxed) {
        let Some(document) = queue.wait(Duration::from_millis(5)) else { continue };
        let number = thread.enter(|m| -> Result<u64, Failure> {
            let document = document.get(m);
            document.file.get(m).get().metadata()?;
            if document.number == 7 && std::mem::take(&mut again) {
                queue.register(m, document);
            }
            Ok(document.number)
        })??;
        drop(document); // before anybody hears of it: it can die now
        said.send(number)?;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let heap = Heap::builder().max_bytes(32 << 20).build()?;
    let files = ResourceQueue::<File>::new(&heap);
    let farewells = FinalizerQueue::<Document>::new(&heap);

    // Files are closed here, not where objects are allocated. The thread ends with the heap.
    let closer = std::thread::spawn({
        let files = files.clone();
        move || std::iter::from_fn(|| files.wait(Duration::MAX)).count()
    });

    let (said, heard) = channel();
    let over = AtomicBool::new(false);
    let (mut numbers, once_more, ids) = std::thread::scope(|scope| {
        let reaper = scope.spawn(|| reap(&heap, &farewells, &over, &said));
        let work = heap.enter(|m| -> Result<_, Failure> {
            let mut ids = HashSet::new();
            let titles = WeakMap::<Document, Bytes>::new(m)?;
            for number in 0..DOCUMENTS {
                let m = &mut *m.frame();
                let document = open(m, &files, number)?;
                let title = format!("document {number}");
                let title =
                    m.build::<Bytes>(AllocSize::tail::<Bytes>(title.len()), |m| m.place_bytes((), title.as_bytes()))?;
                WeakMap::insert(titles, m, document, title)?;
                farewells.register(m, document.get(m));
                ids.insert(document.get(m).identity_hash(m));
            }
            m.collect();
            let numbers: Vec<u64> = m.blocking(|| heard.iter().take(DOCUMENTS as usize).collect());
            println!("{} titles, {} vanished", titles.get(m).len(m), titles.get(m).vanished(m));
            m.collect();
            Ok((numbers, m.blocking(|| heard.recv())?, ids))
        });
        over.store(true, Ordering::Relaxed);
        reaper.join().expect("the reaper does not panic")?;
        work?
    })?;
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..DOCUMENTS), "a farewell to each");
    assert_eq!((once_more, ids.len()), (7, DOCUMENTS as usize));
    println!("{DOCUMENTS} documents have died, and number {once_more} twice");

    heap.collect();
    drop((farewells, files, heap));
    println!("{} files closed", closer.join().map_err(|_| "the closer panicked")?);
    Ok(())
}
