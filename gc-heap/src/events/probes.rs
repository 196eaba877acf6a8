//! Probes for tracers outside the process (USDT: SystemTap's format, which `bpftrace`, `perf` and
//! `gdb` read).
//!
//! A probe is one `nop` and a note in the program's file that says where it is and in which
//! registers its arguments are; a tracer puts a breakpoint there, so the program needs no code, no
//! listener and no restart for it. They are in every program that has a heap, unless it disables
//! the feature `usdt`. Provider `parallax`; times in nanoseconds, sizes in bytes, kinds, phases and
//! what a thread does by their place in [`PauseKind`](crate::PauseKind), [`Phase`](crate::Phase)
//! and [`ThreadState`](crate::ThreadState), from 0:
//!
//! | probe | where | arguments |
//! | --- | --- | --- |
//! | `pause_begin` | a pause is requested, on the requesting thread | kind |
//! | `pause_end` | mutators may continue, on the thread that ran the pause | kind, time to reach it, whole time, mutator that arrived last (0: none was inside) |
//! | `late` | a pause or handshake still waits for a mutator, collector thread | mutator, its thread, time waited, what the thread does, its name (address of a text), time on a processor in the last half of that (all bits set: unknown) |
//! | `cycle_begin` | collector thread | cycle, bytes used |
//! | `cycle_end` | collector thread | cycle, bytes used, live bytes, time |
//! | `phase` | end of a phase, collector thread | cycle, phase, time, bytes used |
//! | `stall` | end of a mutator's wait, on its thread | mutator, bytes asked for, time |
//! | `laggard` | after a pause that some mutator ran into, collector thread | kind, mutator that arrived last, its thread, how late, of it off the processor (all bits set: unknown), its name (address of a text) |
//! | `loss` | end of a mutator's delay, on its thread; in a signal handler for faults | kind (place in [`LossKind`](crate::LossKind)), mutator, time |
//! | `fault` | end of a page barrier's fault, on the thread that faulted, in its signal handler | address, time |
//!
//! Without a tracer, a probe costs the evaluation of its arguments and the `nop`; with one, a trap
//! each time, which takes some microseconds: a `pause_end` fires after its pause was measured, a
//! traced `fault` slows its thread by that much.
//!
//! ```text
//! bpftrace -l 'usdt:./program:parallax:*'
//! bpftrace -e 'usdt:./program:parallax:pause_end { @us = hist(arg2 / 1000) }' -c ./program
//! bpftrace -e 'usdt:./program:parallax:late { printf("%s: %d ms\n", str(arg4), arg2 / 1000000) }' -p PID
//! gdb -batch -ex 'info probes stap parallax' ./program
//! ```
//!
//! `probes.bt` of the crate `gc-heap-tools` is a longer script. This finds the probes of the
//! program that is running, as a tracer does:
//!
//! ```
//! use gc_heap::Heap;
//!
//! let heap = Heap::builder().max_bytes(16 << 20).build()?;
//! heap.collect();
//! let program = std::fs::read("/proc/self/exe")?;
//! let notes = String::from_utf8_lossy(&program);
//! // In a note stand the provider, the name and the arguments, each ended by a zero.
//! for name in ["pause_begin", "pause_end", "late", "cycle_begin", "cycle_end", "phase", "stall", "fault", "laggard", "loss"] {
//!     assert_eq!(notes.contains(&format!("parallax\0{name}\0")), cfg!(feature = "usdt"), "{name}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

/// A probe; the arguments are integers, which are evaluated even without a tracer.
#[cfg(feature = "usdt")]
macro_rules! probe {
    ($name:ident, $($arg:expr),+) => { ::probe::probe!(parallax, $name, $($arg),+) };
}

#[cfg(not(feature = "usdt"))]
macro_rules! probe {
    ($name:ident, $($arg:expr),+) => {{ let _ = ($($arg,)+); }};
}

pub(crate) use probe;
