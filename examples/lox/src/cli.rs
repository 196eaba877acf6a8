//! The command line.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Runs programs in Lox, the language of the book "Crafting Interpreters", in a heap that is collected while they run.
///
/// Without FILE, a prompt reads line after line, and exits with 0. Exit codes: 0, 64 (usage), 65 (does not compile),
/// 70 (runtime error, or the machine gives no memory), 74 (FILE cannot be read), 141 (nobody reads the output any more).
#[derive(Debug, Parser)]
#[command(name = "lox", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// The program to run
    pub(crate) file: Option<PathBuf>,

    /// How memory is collected: programs behave alike, but for speed and pauses
    #[arg(long, value_enum, default_value = "load", value_name = "COLLECTOR")]
    pub(crate) gc: Gc,

    /// The most memory that objects may take: bytes, or a number with k, m or g (from 4m)
    #[arg(long, value_parser = parse_size, default_value = "256m", value_name = "SIZE")]
    pub(crate) heap: usize,

    /// Report each pause, phase and stall on standard error as it happens (see the README for what the lines say)
    #[arg(long)]
    pub(crate) gc_log: bool,

    /// Collect all the time, delay threads at unlucky places, and verify the heap after each phase: slow
    #[arg(long)]
    pub(crate) gc_stress: bool,

    /// Report pauses, cycles and stalls on standard error at the end
    #[arg(long)]
    pub(crate) stats: bool,

    /// Show errors with an excerpt of the source instead of the book's way
    #[arg(long)]
    pub(crate) source_excerpts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gc {
    /// While the program runs; the least pauses, and any number of threads
    Load,
    /// While the program runs; reads have no slow path: faults instead, where objects move
    Page,
    /// In one stop, as long as what is live takes: the least work in all
    Stw,
}

fn parse_size(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is not a size: use a number with k, m or g (KiB, MiB, GiB), such as 64m");
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(wrong()),
    };
    let number: usize = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is more than this machine can address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64m"), Ok(64 << 20));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("4096"), Ok(4096));
        for bad in ["", "m", "1x", "-1m", "1.5m", "99999999999999g"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
