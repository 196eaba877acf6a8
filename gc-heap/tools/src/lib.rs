//! Tools that watch a heap of [`gc_heap`], written against its public API: what they do, a program
//! can do for itself.
//!
//! | tool | input | output |
//! | --- | --- | --- |
//! | [`GcLog`] | [`Event`](gc_heap::Event)s | lines of text, as the JVM's unified logging has them |
//! | [`EventTrace`] | events | a trace in Chrome's JSON format, which <https://ui.perfetto.dev> opens |
//! | [`write_v8_snapshot`] | a [`HeapSnapshot`](gc_heap::HeapSnapshot) | a `.heapsnapshot` file, which Chromium's developer tools open |
//!
//! Beside them stands `probes.bt`, a bpftrace script. It reads the [probes](gc_heap::probes) of a
//! running program from outside, and the program needs no code for it.
//!
//! None of the tools opens files or prints: the caller gives a writer, or gets a `String`.

mod json;
#[cfg(feature = "snapshot")]
mod snapshot;
mod trace;

#[cfg(feature = "log")]
pub use gc_heap::GcLog;
#[cfg(feature = "snapshot")]
pub use snapshot::write_v8_snapshot;
pub use trace::EventTrace;
