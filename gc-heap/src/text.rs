//! Options as text: sizes in bytes, and the error of a text that names no value.

use std::fmt;
use std::str::FromStr;

/// Why a text is no value of an option.
///
/// ```
/// use gc_heap::{Barrier, ByteSize};
///
/// let error = "paige".parse::<Barrier>().unwrap_err();
/// assert_eq!(error.to_string(), "`paige` is not a barrier: use load, page or stw");
/// let error = "lots".parse::<ByteSize>().unwrap_err();
/// assert!(error.to_string().starts_with("`lots` is not a size: use a number with k, m or g"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseOptionError {
    /// The option has no such value.
    #[error("`{given}` is not {option}: use {valid}")]
    Unknown {
        /// The text.
        given: String,
        /// What it should have been, with its article.
        option: &'static str,
        /// The values that the option has.
        valid: &'static str,
    },
    /// A size of 2^64 bytes or more.
    #[error("`{given}` is more than a 64-bit machine can address")]
    TooLarge {
        /// The text.
        given: String,
    },
}

impl ParseOptionError {
    pub(crate) fn unknown(given: &str, option: &'static str, valid: &'static str) -> ParseOptionError {
        ParseOptionError::Unknown { given: given.to_owned(), option, valid }
    }
}

/// A number of bytes that reads and prints as people write it. The units are powers of 1024.
///
/// ```
/// use gc_heap::ByteSize;
///
/// let size: ByteSize = "1.5g".parse()?;
/// assert_eq!(size.bytes(), 3 << 29);
/// assert_eq!(size.to_string(), "1.5 GiB"); // three significant digits
/// # Ok::<(), gc_heap::ParseOptionError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Each unit's letter, its name, and the power of two that it stands for.
const UNITS: [(&str, &str, u32); 4] = [("k", "KiB", 10), ("m", "MiB", 20), ("g", "GiB", 30), ("t", "TiB", 40)];

impl ByteSize {
    /// A size of `bytes` bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> ByteSize {
        ByteSize(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// The power of two that a unit stands for: `""`, `k`, `kb` or `kib`, in lower case.
fn shift_of(unit: &str) -> Option<u32> {
    if matches!(unit, "" | "b") {
        return Some(0);
    }
    let (letter, rest) = unit.split_at_checked(1)?;
    let (.., shift) = UNITS.iter().find(|(name, ..)| *name == letter)?;
    matches!(rest, "" | "b" | "ib").then_some(*shift)
}

/// Reads `4096`, `512k`, `256m`, `1.5g`, `256MiB` and `1_000_000`, in upper or lower case. A
/// fraction of a byte is dropped.
impl FromStr for ByteSize {
    type Err = ParseOptionError;

    fn from_str(text: &str) -> Result<ByteSize, ParseOptionError> {
        let valid = "a number with k, m or g (KiB, MiB, GiB), such as 256m";
        let unknown = || ParseOptionError::unknown(text, "a size", valid);
        let too_large = || ParseOptionError::TooLarge { given: text.to_owned() };
        let lower = text.trim().to_ascii_lowercase();
        let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(lower.len());
        let (number, unit) = (lower[..end].replace('_', ""), lower[end..].trim());
        let shift = shift_of(unit).ok_or_else(unknown)?;
        if !number.contains('.') {
            let number: u64 = number.parse().map_err(|_| unknown())?;
            return number.checked_mul(1 << shift).map(ByteSize).ok_or_else(too_large);
        }
        let bytes = number.parse::<f64>().map_err(|_| unknown())? * (1u64 << shift) as f64;
        if bytes < u64::MAX as f64 { Ok(ByteSize(bytes as u64)) } else { Err(too_large()) }
    }
}

/// Three significant digits, without zeros that say nothing: `256 MiB`, `1.5 GiB`, `10 B`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((_, name, shift)) = UNITS.iter().rev().find(|(.., shift)| self.0 >= 1 << shift) else {
            return f.pad(&format!("{} B", self.0));
        };
        let number = self.0 as f64 / (1u64 << shift) as f64;
        let digits = if number >= 99.95 { 0 } else { 2 - usize::from(number >= 9.995) };
        let text = format!("{number:.digits$}");
        let short = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        f.pad(&format!("{short} {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> u64 {
        text.parse::<ByteSize>().unwrap_or_else(|e| panic!("{e}")).bytes()
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(["0", "4096", "12b", " 7 kb "].map(bytes), [0, 4096, 12, 7 << 10]);
        assert_eq!(["512k", "256m", "256MiB", "64 MB"].map(bytes), [512 << 10, 256 << 20, 256 << 20, 64 << 20]);
        assert_eq!(["1.5G", "1t", "1_000", "0.0001k"].map(bytes), [3 << 29, 1 << 40, 1000, 0]);
        assert_eq!(bytes("18446744073709551615"), u64::MAX);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "m", "1x", "-1m", "1.2.3m", "lots", "1mm", "1im", "1é", "é", "."] {
            let error = bad.parse::<ByteSize>().expect_err(bad);
            assert!(matches!(&error, ParseOptionError::Unknown { given, .. } if given == bad), "{error}");
        }
        for bad in ["99999999999g", "18446744073709551615k", "99999999999.5g"] {
            let error = bad.parse::<ByteSize>().expect_err(bad);
            assert!(matches!(&error, ParseOptionError::TooLarge { given } if given == bad), "{error}");
        }
        assert!("20000000000000000000".parse::<ByteSize>().is_err());
    }

    #[test]
    fn people_read_units() {
        let text = |bytes: u64| ByteSize::new(bytes).to_string();
        assert_eq!([0, 10, 1023, 1024].map(text), ["0 B", "10 B", "1023 B", "1 KiB"]);
        assert_eq!([256 << 20, 3 << 29, 1 << 40, 1 << 50].map(text), ["256 MiB", "1.5 GiB", "1 TiB", "1024 TiB"]);
        assert_eq!([100 << 20, (12 << 20) + (300 << 10)].map(text), ["100 MiB", "12.3 MiB"]);
        assert_eq!(format!("{:>9}", ByteSize::new(4 << 20)), "    4 MiB");
        for bytes in [1 << 20, 5 << 30, 300 << 10, 7] {
            assert_eq!(text(bytes).parse(), Ok(ByteSize::new(bytes)), "what is printed is read");
        }
    }
}
