//! A table kept by columns: arrays of values, of numbers and of text that grow to megabytes, beside
//! rows of 500 bytes each that come and go. The rows are small objects, which the collector moves
//! together; the columns are large ones, which have blocks to themselves and stay where they are
//! for life.
//!
//! `cargo run --release -p examples --bin columns`

use gc_heap::{
    AllocSize, Array, Bytes, Event, Gc, Heap, Local, Mutator, Num, OutOfMemory, Slot, SlotArray, Tagged, Trace,
    Unpacked, Value,
};
use std::error::Error;

/// Readings of a row; with its other fields a row takes 528 bytes.
const READINGS: usize = 64;
const ROWS: usize = 200_000;
/// Rows that are looked at again; the others die young, and leave holes between these.
const KEPT: usize = 20_000;

/// What came in at one time.
#[derive(Trace)]
struct Row {
    number: u64,
    readings: [f64; READINGS],
}

/// An array that grows: elements and how many of them are in use. Replacing the elements is all
/// that it takes.
#[derive(Trace)]
struct Column {
    cells: Slot<SlotArray<Tagged>>,
    len: Num<usize>,
}

#[derive(Trace)]
struct Table {
    /// A number, a truth or a text for each row.
    remarks: Slot<Column>,
    /// The sum of each row's readings: numbers side by side, as foreign code wants them.
    sums: Slot<Array<Num<f64>>>,
    /// The last rows, each in the place of one that it replaces.
    recent: Slot<SlotArray<Option<Row>>>,
}

fn new_table<'s>(m: &mut Mutator<'s>) -> Result<Local<'s, Table>, OutOfMemory> {
    let room = AllocSize::of::<Table>()
        + AllocSize::of::<Column>()
        + AllocSize::tail::<SlotArray<Tagged>>(16)
        + AllocSize::tail::<Array<Num<f64>>>(ROWS)
        + AllocSize::tail::<SlotArray<Option<Row>>>(KEPT);
    m.build::<Table>(room, |m| {
        let cells = m.place_array((), 16, Value::NIL);
        m.place(TableInit {
            remarks: m.place(ColumnInit { cells, len: 0 }),
            sums: m.place_array((), ROWS, 0.0),
            recent: m.place_array((), KEPT, None),
        })
    })
}

/// Adds a value that is rooted: growing is a safepoint.
fn push(m: &mut Mutator<'_>, column: Local<'_, Column>, value: Local<'_, Tagged>) -> Result<(), OutOfMemory> {
    let capacity = column.get(m).cells.get(m).tail_len();
    if column.get(m).len.get() == capacity {
        // At 32 KiB the array becomes a large object: `reserve` finds it a run of blocks, and
        // zeroes that with safepoints in between.
        let m = m.reserve(AllocSize::tail::<SlotArray<Tagged>>(capacity * 2))?;
        let column = column.get(m);
        let grown = m.place_array::<SlotArray<Tagged>>((), capacity * 2, Value::NIL);
        for (to, from) in grown.tail().iter().zip(column.cells.get(m).tail()) {
            to.set(m, from.get(m));
        }
        column.cells.set(m, grown); // what was there before is garbage, and goes back whole
    }
    let column = column.get(m);
    column.cells.get(m).tail()[column.len.get()].set(m, value.get(m));
    column.len.set(column.len.get() + 1);
    Ok(())
}

fn add_row(m: &mut Mutator<'_>, table: Local<'_, Table>, number: usize) -> Result<(), OutOfMemory> {
    let m = &mut *m.frame();
    let column = m.local(table.get(m).remarks.get(m));
    // Every thousandth remark is a long one.
    let text = if number.is_multiple_of(1000) { "long ".repeat(20_000) } else { format!("row {number}") };
    let value = match number % 3 {
        0 => m.build::<Tagged>(AllocSize::tail::<Bytes>(text.len()), |m| {
            m.place_bytes::<Bytes>((), text.as_bytes()).into()
        })?,
        1 => m.local(Value::num(number as f64)),
        _ => m.local(Value::bool(number.is_multiple_of(2))),
    };
    push(m, column, value)?;

    let readings: [f64; READINGS] = std::array::from_fn(|reading| (number + reading) as f64);
    let sum = readings.iter().sum();
    let m = m.reserve(AllocSize::of::<Row>())?;
    let row = m.place(RowInit { number: number as u64, readings });
    let table = table.get(m);
    table.sums.get(m).tail()[number].set(sum);
    // Scattered, so that rows of all ages lie side by side.
    table.recent.get(m).tail()[number.wrapping_mul(7919) % KEPT].set(m, Some(row));
    Ok(())
}

/// Checks all that the table should hold; gives the bytes of text in it.
fn check(m: &Mutator<'_>, table: Gc<'_, Table>) -> usize {
    let mut text = 0;
    for row in table.recent.get(m).tail().iter().filter_map(|slot| slot.get(m)) {
        let expected = (0..READINGS).map(|reading| row.number as f64 + reading as f64);
        assert!(row.readings.iter().copied().eq(expected), "row {} is not what it was", row.number);
        assert_eq!(table.sums.get(m).tail()[row.number as usize].get(), row.readings.iter().sum::<f64>());
    }
    let remarks = table.remarks.get(m);
    assert_eq!(remarks.len.get(), ROWS);
    for (number, cell) in remarks.cells.get(m).tail()[..ROWS].iter().enumerate() {
        match cell.get(m).unpack() {
            Unpacked::Num(x) => assert_eq!((number % 3, x), (1, number as f64)),
            Unpacked::Bool(even) => assert_eq!((number % 3, even), (2, number.is_multiple_of(2))),
            Unpacked::Ref(any) => text += any.downcast::<Bytes>().expect("all references are texts").tail_len(),
            other => panic!("remark {number} is {other:?}"),
        }
    }
    text
}

fn main() -> Result<(), Box<dyn Error>> {
    let heap = Heap::builder().max_bytes(64 << 20).build()?;
    heap.enter(|m| -> Result<(), Box<dyn Error>> {
        let table = new_table(m)?;
        // The same address at all times, whatever view references go by: the one that system calls
        // are lent.
        let place = |m: &Mutator<'_>| m.bytes_for_syscall(table.get(m).sums.get(m)).as_ptr().addr();
        let at_first = place(m);
        for number in 0..ROWS {
            add_row(m, table, number)?;
        }
        m.collect();
        let text = check(m, table.get(m));
        assert_eq!(place(m), at_first, "a large object stays where it is");

        let stats = heap.stats();
        let moved = stats.collector_copies + stats.mutator_copies;
        assert!(stats.relocations > 0 && moved > 0, "rows were moved: {stats:?}");
        let columns = ROWS.next_power_of_two() * 8 + ROWS * 8 + KEPT * 8;
        println!("{ROWS} rows of {} bytes came, {KEPT} of them are kept", READINGS * 8 + 16);
        println!("{} KiB of columns and {} KiB of text are kept", columns / 1024, text / 1024);
        println!("{} cycles, {} small objects moved, no large one", stats.cycles, moved);
        // How long anybody had to wait differs from run to run.
        let (events, lost) = heap.take_events();
        let pauses = events.iter().filter_map(|event| if let Event::Pause(pause) = event { Some(pause) } else { None });
        let longest = pauses.max_by_key(|pause| pause.total_ns).ok_or("a cycle has pauses")?;
        eprintln!("the longest pause: {} us, {}; {lost} events lost", longest.total_ns / 1000, longest.kind);
        Ok(())
    })?
}
