//! The options by name: one spelling each, for command lines, settings and reports.

use super::{Backing, HugePages};
use crate::text::ParseOptionError;
use std::fmt;
use std::str::FromStr;

impl Backing {
    /// The name that [`FromStr`](std::str::FromStr) reads: `memfd` or `anonymous`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Backing::Memfd => "memfd",
            Backing::Anonymous => "anonymous",
        }
    }
}

/// Its [`name`](Backing::name).
impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backing {
    type Err = ParseOptionError;

    fn from_str(text: &str) -> Result<Backing, ParseOptionError> {
        match text {
            "memfd" => Ok(Backing::Memfd),
            "anonymous" => Ok(Backing::Anonymous),
            _ => Err(ParseOptionError::unknown(text, "a kind of memory", "memfd or anonymous")),
        }
    }
}

impl HugePages {
    /// The name that [`FromStr`](std::str::FromStr) reads: `never`, `advise`, `collapse` or
    /// `background`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HugePages::Never => "never",
            HugePages::Advise => "advise",
            HugePages::Collapse => "collapse",
            HugePages::Background => "background",
        }
    }
}

/// Its [`name`](HugePages::name).
impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for HugePages {
    type Err = ParseOptionError;

    fn from_str(text: &str) -> Result<HugePages, ParseOptionError> {
        match text {
            "never" => Ok(HugePages::Never),
            "advise" => Ok(HugePages::Advise),
            "collapse" => Ok(HugePages::Collapse),
            "background" => Ok(HugePages::Background),
            _ => {
                Err(ParseOptionError::unknown(text, "a setting of huge pages", "never, advise, collapse or background"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Barrier;

    /// Asserts that what an option prints is what it reads, and that it reads nothing else.
    #[track_caller]
    fn assert_names<T>(values: &[T], names: [&str; 3])
    where
        T: FromStr<Err = ParseOptionError> + fmt::Display + fmt::Debug + PartialEq,
    {
        for (value, name) in values.iter().zip(names) {
            assert_eq!((value.to_string().as_str(), name.parse::<T>().as_ref()), (name, Ok(value)));
            assert_eq!(format!("{value:>10}"), format!("{name:>10}"), "columns of a table");
            for other in [&name[1..], &name.to_uppercase(), &format!(" {name}"), ""] {
                let error = other.parse::<T>().expect_err(other).to_string();
                assert!(error.starts_with(&format!("`{other}` is not ")) && error.contains(name), "{error}");
            }
        }
    }

    #[test]
    fn what_an_option_prints_is_what_it_reads() {
        assert_names(&[Barrier::Load, Barrier::Page, Barrier::StopTheWorld], ["load", "page", "stw"]);
        assert_names(&[Backing::Memfd, Backing::Anonymous], ["memfd", "anonymous", ""]);
        assert_names(&[HugePages::Never, HugePages::Advise, HugePages::Collapse], ["never", "advise", "collapse"]);
        assert_names(&[HugePages::Background], ["background", "", ""]);
    }
}
