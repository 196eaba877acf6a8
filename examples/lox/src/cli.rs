//! The command line.

use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use gc_heap::{Barrier, ByteSize};
use std::path::PathBuf;

/// Runs programs in Lox, the language of the book "Crafting Interpreters", in a heap that is
/// collected while they run.
///
/// Without FILE, a prompt reads line after line, and exits with 0. Exit codes: 0, 64 (usage), 65
/// (does not compile), 70 (runtime error, or the machine gives no memory), 74 (FILE cannot be
/// read), 141 (nobody reads the output any more).
#[derive(Debug, Parser)]
#[command(name = "lox", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// The program to run
    pub(crate) file: Option<PathBuf>,

    /// How memory is collected: programs behave alike, but for speed and pauses
    #[arg(long, value_parser = barrier(), default_value = "load", value_name = "COLLECTOR")]
    pub(crate) gc: Barrier,

    /// The most memory that objects may take: bytes, or a number with k, m or g (from 4m)
    #[arg(long, default_value = "256m", value_name = "SIZE")]
    pub(crate) heap: ByteSize,

    /// The share of the processor's time, above 0 and at most 1, that collecting may take near the
    /// end of memory before the program ends with an error; or `off`
    #[arg(long, value_parser = parse_limit, default_value = "0.95", value_name = "SHARE")]
    pub(crate) collecting_limit: Limit,

    /// Report each pause, phase and stall on standard error as it happens (see the README for what
    /// the lines say)
    #[arg(long)]
    pub(crate) gc_log: bool,

    /// Collect all the time, delay threads at unlucky places, and verify the heap after each phase:
    /// slow
    #[arg(long)]
    pub(crate) gc_stress: bool,

    /// Report pauses, cycles and stalls on standard error at the end
    #[arg(long)]
    pub(crate) stats: bool,

    /// Show errors with an excerpt of the source instead of the book's way
    #[arg(long)]
    pub(crate) source_excerpts: bool,
}

fn barrier() -> impl TypedValueParser<Value = Barrier> {
    let choices = [
        (Barrier::Load, "While the program runs; the least pauses, and any number of threads"),
        (Barrier::Page, "While the program runs; reads have no slow path: faults instead, where objects move"),
        (Barrier::StopTheWorld, "In one stop, as long as what is live takes: the least work in all"),
    ];
    PossibleValuesParser::new(choices.map(|(choice, help)| PossibleValue::new(choice.name()).help(help)))
        .try_map(|name| name.parse::<Barrier>())
}

/// What `--collecting-limit` says: `None` is `off`. (Of an `Option` clap would make an argument
/// that may be left out.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit(pub(crate) Option<f64>);

fn parse_limit(text: &str) -> Result<Limit, String> {
    if text == "off" {
        return Ok(Limit(None));
    }
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share
        .map(|share| Limit(Some(share)))
        .ok_or_else(|| format!("`{text}` is neither a share above 0, such as 0.95, nor `off`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_collectors() {
        let parse =
            |args: &[&str]| Cli::try_parse_from([&["lox"], args].concat()).map(|cli| (cli.gc, cli.heap.bytes()));
        assert_eq!(parse(&[]).unwrap(), (Barrier::Load, 256 << 20));
        assert_eq!(parse(&["--gc", "stw", "--heap", "64MiB"]).unwrap(), (Barrier::StopTheWorld, 64 << 20));
        assert_eq!(parse(&["--gc", "page", "--heap=4194304"]).unwrap(), (Barrier::Page, 4 << 20));
        for bad in ["--heap=", "--heap=m", "--heap=1x", "--heap=-1m", "--heap=99999999999999g", "--gc=none", "--gc="] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_on_collecting() {
        let good = [("off", None), ("0.95", Some(0.95)), ("1", Some(1.0)), ("1e-3", Some(0.001))];
        assert!(good.iter().all(|(text, limit)| parse_limit(text) == Ok(Limit(*limit))));
        for bad in ["", "0", "-0.5", "1.01", "95%", "NaN", "inf", "on"] {
            assert!(parse_limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
