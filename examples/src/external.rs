//! Images whose pixels lie outside the heap: little objects that keep much. The bytes are accounted
//! to the heap, so that cycles begin because of them, and a limit of the program's own is kept.
//!
//! `cargo run --release -p examples --bin external`

use gc_heap::{
    AllocSize, ExternalBytes, Heap, Local, Mutator, OutOfMemory, Resource, ResourceQueue, Slot, SlotArray, Trace,
};
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

const MIB: usize = 1 << 20;

/// What the program lets itself have outside.
const LIMIT: usize = 96 * MIB;

const IMAGES: usize = 3000;
const SHOWN: usize = 12;

/// Images that have not been dropped, as the memory allocator would see it: the account is checked
/// against it.
static PIXELS_THERE: AtomicUsize = AtomicUsize::new(0);

/// Memory of another library's, say: it needs `Drop`, so it cannot stand in an object.
struct Pixels {
    bytes: Vec<u8>,
    /// Ends the account with the memory, on whatever thread that is.
    _accounted: ExternalBytes,
}

impl Pixels {
    fn new(m: &Mutator<'_>, color: u8) -> Pixels {
        PIXELS_THERE.fetch_add(MIB, Ordering::Relaxed);
        Pixels { bytes: vec![color; MIB], _accounted: m.add_external(MIB) }
    }
}

impl Drop for Pixels {
    fn drop(&mut self) {
        PIXELS_THERE.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[derive(Trace)]
struct Image {
    number: u64,
    pixels: Slot<Resource<Pixels>>,
}

type Screen = SlotArray<Option<Image>>;

/// Drops the pixels of images that are gone, and sees to it that there is room for another: first a
/// cycle has to find them.
fn make_room(m: &mut Mutator<'_>, heap: &Heap, dead: &ResourceQueue<Pixels>) -> Result<(), Box<dyn Error>> {
    let drain = || while dead.take().is_some() {};
    drain();
    if heap.external_bytes() + MIB > LIMIT {
        m.collect();
        drain();
    }
    if heap.external_bytes() + MIB > LIMIT { Err("the images on show need more than the limit".into()) } else { Ok(()) }
}

fn show(
    m: &mut Mutator<'_>,
    screen: Local<'_, Screen>,
    dead: &ResourceQueue<Pixels>,
    number: u64,
) -> Result<(), OutOfMemory> {
    let m = m.reserve(AllocSize::of::<Image>() + AllocSize::of::<Resource<Pixels>>())?;
    let pixels = dead.place(m, Pixels::new(m, number as u8));
    let image = m.place(ImageInit { number, pixels });
    screen.get(m).tail()[number as usize % SHOWN].set(m, Some(image)); // and the image that was here is garbage
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let heap = Heap::builder().max_bytes(16 << 20).external_step(24 * MIB).build()?;
    let dead = ResourceQueue::<Pixels>::new(&heap);
    let most = heap.enter(|m| -> Result<usize, Box<dyn Error>> {
        let screen = m.build::<Screen>(AllocSize::tail::<Screen>(SHOWN), |m| m.place_array((), SHOWN, None))?;
        let mut most = 0;
        for number in 0..IMAGES {
            make_room(m, &heap, &dead)?;
            show(m, screen, &dead, number as u64)?;
            most = most.max(heap.external_bytes());
        }
        for image in screen.get(m).tail().iter().filter_map(|slot| slot.get(m)) {
            let bytes = &image.pixels.get(m).as_ref().get().bytes;
            assert!(bytes.iter().all(|&byte| byte == image.number as u8), "an image on show lost its pixels");
        }
        Ok(most)
    })??;
    let stats = heap.stats();
    assert!(most <= LIMIT && heap.external_bytes() == PIXELS_THERE.load(Ordering::Relaxed));
    assert!(stats.allocated_bytes < 8 << 20, "the heap itself had no reason to collect: {stats:?}");
    assert!(stats.cycles as usize >= IMAGES * MIB / LIMIT);
    heap.collect(); // nothing shows the rest any more
    while dead.take().is_some() {}
    assert_eq!((heap.external_bytes(), PIXELS_THERE.load(Ordering::Relaxed)), (0, 0));
    println!("{IMAGES} images of a MiB each, and never more than {} MiB of them at once", LIMIT / MIB);
    Ok(())
}
