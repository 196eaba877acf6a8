//! Trap 7: a mutator moves to another thread. (That it is not shared either: `tests/not_implemented.rs`.)
use gc_heap::{Frame, Mutator};

fn moved(m: &mut Mutator<'_>) {
    std::thread::scope(|s| {
        s.spawn(|| m.safepoint());
    });
}

fn frame(frame: Frame<'_>) {
    std::thread::scope(|s| {
        s.spawn(move || drop(frame));
    });
}

fn main() {}
