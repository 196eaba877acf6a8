//! Userfaultfd on a real kernel: `cargo test -p gc-core --test sys_uffd`. Trials of what is refused
//! here count as ignored, and lines say why; `sys_probe_refused` tests the refusal.

#[cfg(not(loom))]
#[path = "sys/second_opinion.rs"]
mod second_opinion;
#[cfg(not(loom))]
#[path = "sys/trials.rs"]
mod trials;
#[cfg(not(loom))]
#[path = "sys/uffd.rs"]
mod uffd;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    trials::run([uffd::trials(), second_opinion::trials()].concat())
}

/// Models know no kernel.
#[cfg(loom)]
fn main() {}
