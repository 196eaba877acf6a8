//! How fast the mutators are to go, as the command line says it.

use std::str::FromStr;

use crate::size::parse_count;

/// The value of `--rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    /// Operations a second and thread.
    PerSecond(u64),
    /// As fast as it goes, and then parts of that.
    Sweep,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "sweep" {
            return Ok(Self::Sweep);
        }
        match parse_count(text).map_err(|e| format!("{e}; or say `sweep`"))? {
            rate if rate > 1_000_000_000 => {
                Err("more than 1,000,000,000 operations a second and thread cannot be kept".into())
            }
            rate => Ok(Self::PerSecond(rate)),
        }
    }
}
