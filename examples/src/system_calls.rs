//! System calls that read into the heap and write from it, without a copy and without `unsafe`, and
//! a child process, while a second thread makes garbage and the collector takes pages away (the
//! page barrier, where this machine has it).
//!
//! `cargo run --release -p examples --bin system-calls`

use gc_heap::{AllocSize, Barrier, BuildError, Bytes, Heap, Mutator, OutOfMemory, Pinned, Slot, SlotArray, Trace};
use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Trace)]
struct Message {
    number: u64,
    payload: Slot<Bytes>,
}

type Messages = SlotArray<Option<Message>>;

const MESSAGES: usize = 4000;
const KEPT: usize = 64;

/// Lengths from a few bytes to objects of many pages, one after the other.
fn len(number: usize) -> usize {
    [17, 300, 4096, 70_000, 1][number % 5] + number % 97
}

fn payload(number: usize) -> impl Iterator<Item = u8> {
    (0..len(number)).map(move |index| (number * 31 + index * 7) as u8)
}

fn build() -> Result<Heap, BuildError> {
    let builder = Heap::builder().max_bytes(16 << 20);
    match builder.clone().barrier(Barrier::Page).build() {
        Err(BuildError::PageBarrier(why)) => {
            eprintln!("without the page barrier: {why}");
            builder.build()
        }
        other => other,
    }
}

/// The same four bytes before each message, pinned once, for life: nobody drops this. It costs its
/// block of 64 KiB for as long.
static MARK: OnceLock<Pinned<Bytes>> = OnceLock::new();

/// Puts messages into a socket. A pin keeps each where it is while the call waits for the reader.
fn write(m: &mut Mutator<'_>, mut socket: UnixStream) -> Result<(), Failure> {
    let mark = {
        let m = m.reserve(AllocSize::tail::<Bytes>(4))?;
        MARK.get_or_init(|| m.pin(m.place_bytes((), b"msg:")))
    };
    for number in 0..MESSAGES {
        let mut buffer = m.reserve(AllocSize::tail::<Bytes>(len(number)))?.place_buffer::<Bytes>((), len(number));
        buffer.iter_mut().zip(payload(number)).for_each(|(to, byte)| *to = byte);
        let pinned = buffer.into_pinned();
        m.blocking(|| {
            socket.write_all(mark.tail())?;
            socket.write_all(pinned.tail())
        })?;
    }
    m.blocking(|| socket.shutdown(Shutdown::Write))?;
    Ok(())
}

/// Reads them, each straight into an object of its own, and keeps the last of them.
fn read(m: &mut Mutator<'_>, mut socket: UnixStream) -> Result<usize, Failure> {
    let kept = m.build::<Messages>(AllocSize::tail::<Messages>(KEPT), |m| m.place_array((), KEPT, None))?;
    let mut bytes = 0;
    for number in 0..MESSAGES {
        let len = len(number);
        let mut buffer = m.reserve(AllocSize::tail::<Bytes>(len))?.place_buffer::<Bytes>((), len);
        m.blocking(|| -> Result<(), Failure> {
            let mut mark = [0; 4];
            socket.read_exact(&mut mark)?;
            assert_eq!(&mark, b"msg:");
            Ok(socket.read_exact(&mut buffer)?) // other threads collect and compact meanwhile
        })?;
        // The buffer is no raw reference: it stays over the safepoint for the message.
        let m = m.reserve(AllocSize::of::<Message>())?;
        let message = m.place(MessageInit { number: number as u64, payload: buffer.finish(m) });
        kept.get(m).tail()[number % KEPT].set(m, Some(message));
        bytes += len;
    }
    for message in kept.get(m).tail().iter().filter_map(|slot| slot.get(m)) {
        let right = message.payload.get(m).tail().iter().copied().eq(payload(message.number as usize));
        assert!(right, "message {} did not arrive whole", message.number);
    }
    Ok(bytes)
}

/// A file into one object, and out again by a call that does not wait: that one is lent the bytes
/// as they are.
fn file(m: &mut Mutator<'_>) -> Result<usize, Failure> {
    let path = std::env::current_exe()?;
    let mut program = File::open(&path)?;
    let len = usize::try_from(program.metadata()?.len())?.min(2 << 20);
    let mut buffer = m.reserve(AllocSize::tail::<Bytes>(len))?.place_buffer::<Bytes>((), len);
    m.blocking(|| program.read_exact(&mut buffer))?;
    let bytes = buffer.finish(m);
    assert!(bytes.tail() == &std::fs::read(path)?[..len]);
    File::options().write(true).open("/dev/null")?.write_all(m.bytes_for_syscall(bytes))?;
    Ok(len)
}

/// A child process, fed with pinned bytes. It is made by `fork` and `exec`, outside the heap,
/// whatever the collector does: the child has none of the heap's memory, and this process keeps all
/// of it.
fn child(m: &mut Mutator<'_>) -> Result<usize, Failure> {
    let pinned = {
        let m = m.reserve(AllocSize::tail::<Bytes>(5000))?;
        m.pin(m.place_array::<Bytes>((), 5000, b'x'))
    };
    let output = m.blocking(|| -> Result<_, Failure> {
        let mut wc = Command::new("wc").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        wc.stdin.take().ok_or("a pipe was asked for")?.write_all(pinned.tail())?;
        Ok(wc.wait_with_output()?)
    })?;
    assert!(output.status.success());
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

#[derive(Trace)]
struct Node {
    next: Slot<Option<Node>>,
    number: u64,
}

/// Garbage, with a list in it that stays, scattered over many blocks.
fn churn(m: &mut Mutator<'_>, done: &AtomicBool) -> Result<(), OutOfMemory> {
    let list = m.build::<Option<Node>>(AllocSize::NONE, |_| None)?;
    let mut number = 0;
    while !done.load(Ordering::Relaxed) {
        let m = m.reserve(AllocSize::of::<Node>())?;
        let node = m.place(NodeInit { next: list.get(m), number });
        if number.is_multiple_of(50) {
            list.set(m, if number.is_multiple_of(1_000_000) { None } else { Some(node) });
        }
        number += 1;
    }
    let (mut node, mut below) = (list.get(m), number);
    while let Some(n) = node {
        assert!(n.number < below);
        (node, below) = (n.next.get(m), n.number);
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let heap = build()?;
    let done = AtomicBool::new(false);
    let (ours, theirs) = UnixStream::pair()?;
    let (read, program, counted) = std::thread::scope(|scope| -> Result<_, Failure> {
        let garbage = scope.spawn(|| heap.enter(|m| churn(m, &done)));
        let writer = scope.spawn(|| heap.enter(|m| write(m, theirs))?);
        let reader = heap.enter(|m| Ok::<_, Failure>((read(m, ours)?, file(m)?, child(m)?)));
        done.store(true, Ordering::Relaxed);
        writer.join().expect("the writer does not panic")?;
        garbage.join().expect("the churn does not panic")??;
        reader?
    })?;
    let stats = heap.stats();
    assert!(read == (0..MESSAGES).map(len).sum::<usize>() && program > 0 && counted == 5000);
    assert!(stats.relocations > 0, "objects moved meanwhile: {stats:?}");
    println!("{MESSAGES} messages, {read} bytes, and a program: read into objects by system calls");
    // What the pins cost differs from run to run: blocks of 64 KiB that the last plan of a
    // compaction left out.
    eprintln!("{} cycles, {} relocations; pins held {} blocks", stats.cycles, stats.relocations, stats.pinned_blocks);
    Ok(())
}
