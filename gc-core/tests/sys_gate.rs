//! The gate of the page barrier on a real kernel: `cargo test -p gc-core --test sys_gate`. Where
//! userfaultfd is refused its trials count as ignored, and lines say why.

#[cfg(not(loom))]
#[path = "sys/gate.rs"]
mod gate;
#[cfg(not(loom))]
#[path = "sys/moves.rs"]
mod moves;
#[cfg(not(loom))]
#[path = "sys/trials.rs"]
mod trials;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    trials::run([gate::trials(), moves::trials()].concat())
}

/// Models know no kernel.
#[cfg(loom)]
fn main() {}
