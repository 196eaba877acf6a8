//! Probes for tracers outside the process (USDT: SystemTap's format, which `perf`, `bpftrace` and `gdb` read).
//!
//! A probe is one `nop` and a note in the file that says where it is and in which registers its arguments are; a tracer
//! puts a breakpoint there. Provider `parallax`; times in nanoseconds, sizes in bytes, kinds and phases by their place in
//! [`PauseKind`](super::PauseKind) and [`Phase`](super::Phase), from 0:
//!
//! | probe | where | arguments |
//! | --- | --- | --- |
//! | `pause_begin` | a stop is asked for, on the thread that asks | kind |
//! | `pause_end` | mutators may go on, on the thread that ran the stop | kind, time to reach it, whole time |
//! | `cycle_begin` | collector thread | cycle, bytes used |
//! | `cycle_end` | collector thread | cycle, bytes used, live bytes, time |
//! | `phase` | end of a phase, collector thread | cycle, phase, time, bytes used |
//! | `stall` | end of a mutator's wait, on its thread | mutator, bytes asked for, time |
//! | `fault` | end of a page barrier's fault, on the thread that faulted, in its signal handler | address, time |

/// A probe; the arguments are integers at hand, which are evaluated also where nobody traces.
#[cfg(feature = "usdt")]
macro_rules! probe {
    ($name:ident, $($arg:expr),+) => { ::probe::probe!(parallax, $name, $($arg),+) };
}

#[cfg(not(feature = "usdt"))]
macro_rules! probe {
    ($name:ident, $($arg:expr),+) => {{ let _ = ($($arg,)+); }};
}

pub(crate) use probe;
