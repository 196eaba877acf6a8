//! Tiles of a map, each loaded once as long as anybody has it: a cache outside the heap knows them
//! by number and keeps none (`Weak`), each knows its neighbour and does not keep it (`WeakSlot`),
//! and a painter remembers pictures that go with their tiles (`Ephemeron`).
//!
//! `cargo run --release -p examples --bin tiles`

use gc_heap::{
    AllocSize, Bytes, Ephemeron, Gc, Heap, Local, Mutator, Num, OutOfMemory, Root, Slot, SlotArray, Trace, Weak,
    WeakSlot,
};
use std::collections::HashMap;

const SIDE: usize = 64;

#[derive(Trace)]
struct Tile {
    number: u64,
    heights: Slot<Bytes>,
    /// The tile to the west, if it was there when this one was loaded, and is.
    west: WeakSlot<Tile>,
}

/// The tiles that are there, by number. An entry whose tile has died is as good as none.
#[derive(Default)]
struct Tiles {
    known: HashMap<u64, Weak<Tile>>,
    loaded: u64,
}

impl Tiles {
    fn known<'g>(&self, m: &'g Mutator<'_>, number: u64) -> Option<Gc<'g, Tile>> {
        self.known.get(&number)?.get(m)
    }

    /// Room first, then the look: what it finds is a raw reference, which a safepoint after it
    /// would end.
    fn tile<'s>(&mut self, m: &mut Mutator<'s>, number: u64) -> Result<Local<'s, Tile>, OutOfMemory> {
        let m = m.reserve(AllocSize::of::<Tile>() + AllocSize::tail::<Bytes>(SIDE * SIDE))?;
        if let Some(tile) = self.known(m, number) {
            return Ok(m.local(tile));
        }
        let heights: Vec<u8> = (0..SIDE * SIDE).map(|index| (index as u64 * number) as u8).collect();
        let west = number.checked_sub(1).and_then(|west| self.known(m, west));
        let tile = m.place(TileInit { number, heights: m.place_bytes((), &heights), west });
        self.known.insert(number, Weak::new(m, tile));
        self.loaded += 1;
        Ok(m.local(tile))
    }

    /// Forgets the numbers of tiles that have died: the entries are the program's own memory.
    fn tidy(&mut self, m: &Mutator<'_>) {
        self.known.retain(|_, tile| tile.get(m).is_some());
    }
}

/// Pictures of the tiles that were painted last, each until its tile dies or another takes its
/// place.
#[derive(Trace)]
struct Painter {
    pictures: [Ephemeron<Tile, Bytes>; 8],
    painted: Num<u64>,
}

/// The picture of a tile: its heights, and a shadow where the neighbour is higher.
fn picture<'g>(
    m: &'g mut Mutator<'_>,
    painter: &Root<Painter>,
    tile: Local<'_, Tile>,
) -> Result<Gc<'g, Bytes>, OutOfMemory> {
    let m = m.reserve(AllocSize::tail::<Bytes>(SIDE * SIDE))?;
    let (painter, tile) = (painter.get(m), tile.get(m));
    let place = &painter.as_ref().pictures[tile.number as usize % painter.pictures.len()];
    if let Some(picture) = place.value_of(m, tile) {
        return Ok(picture);
    }
    let mut pixels = tile.heights.get(m).tail().to_vec();
    if let Some(west) = tile.west.get(m) {
        for (row, above) in pixels.chunks_mut(SIDE).zip(west.heights.get(m).tail().chunks(SIDE)) {
            row[0] = row[0].min(above[SIDE - 1]);
        }
    }
    let picture = m.place_bytes::<Bytes>((), &pixels);
    place.set(m, Some((tile, picture))); // the picture lives as long as the tile, and does not keep it
    painter.painted.set(painter.painted.get() + 1);
    Ok(picture)
}

/// What is on show, and so what keeps tiles.
type Window = SlotArray<Option<Tile>>;

const WIDTH: u64 = 4;
const WALK: u64 = 3000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let heap = Heap::builder().max_bytes(8 << 20).build()?;
    let mut tiles = Tiles::default();
    let painted = heap.enter(|m| -> Result<u64, OutOfMemory> {
        let (ready, painter) = m.alloc_raw::<Painter>(|_| PainterInit { pictures: [const { None }; 8], painted: 0 })?;
        let painter = Root::<Painter>::new(ready, painter);
        let window =
            m.build::<Window>(AllocSize::tail::<Window>(WIDTH as usize), |m| m.place_array((), WIDTH as usize, None))?;
        for step in 0..WALK {
            // A step to the east: one tile comes on show, one goes, and the others are found.
            for number in step..step + WIDTH {
                let m = &mut *m.frame(); // the window keeps tiles, no local does
                let tile = tiles.tile(m, number)?;
                let slot = &window.get(m).tail()[(number % WIDTH) as usize];
                let was_there = slot.get(m).is_some_and(|there| there.ptr_eq(tile.get(m)));
                assert!(was_there || number == step + WIDTH - 1 || step == 0, "a tile on show was loaded again");
                slot.set(m, Some(tile.get(m)));
                assert_eq!(picture(m, &painter, tile)?.tail_len(), SIDE * SIDE);
            }
            if step % 500 == 499 {
                tiles.tidy(m);
            }
        }
        m.collect();
        tiles.tidy(m);
        assert_eq!(tiles.known.len() as u64, WIDTH, "the window keeps its tiles, and nothing else keeps any");
        for number in WALK - 1..WALK - 1 + WIDTH {
            let tile = tiles.known(m, number).expect("a tile on show");
            let west = tile.west.get(m).map(|west| west.number);
            assert_eq!(west, (number > WALK - 1).then(|| number - 1), "a neighbour is known while it is there");
        }
        let there = painter.get(m).pictures.iter().filter(|picture| picture.get(m).is_some()).count();
        assert_eq!(there as u64, WIDTH, "pictures have gone with their tiles");
        Ok(painter.get(m).painted.get())
    })??;
    assert_eq!((tiles.loaded, painted), (WALK + WIDTH - 1, WALK + WIDTH - 1));
    assert!(heap.stats().cycles > 1 && heap.stats().ephemerons_cleared > 0);
    println!("{WALK} steps over a map: {} tiles loaded and painted once each, {WIDTH} of them are left", tiles.loaded);
    Ok(())
}
