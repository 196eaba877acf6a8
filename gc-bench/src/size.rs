//! Sizes and counts as people type them, and as people read them.

use gc_heap::ByteSize;

/// Reads a whole number above zero; `_` between digits is allowed.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    match text.replace('_', "").parse::<u64>() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(_) => Err(format!("`{text}` is not a whole number")),
    }
}

/// Reads a duration in seconds, above zero and at most a day.
pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s <= 86_400.0 => Ok(s),
        Ok(_) => Err("must be above 0 and at most 86400 (a day)".into()),
        Err(_) => Err(format!("`{text}` is not a number of seconds")),
    }
}

/// Reads a percentage, above zero and at most 50, as a share: `2%` is 0.02.
pub(crate) fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end().strip_suffix('%').map(|number| number.trim_end().parse::<f64>());
    match number {
        Some(Ok(percent)) if percent > 0.0 && percent <= 50.0 => Ok(percent / 100.0),
        Some(Ok(_)) => Err("must be above 0% and at most 50%".into()),
        _ => Err(format!("`{text}` is not a percentage such as 2%")),
    }
}

/// Reads a share, above zero and at most 1.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        Ok(_) => Err("must be above 0 and at most 1".into()),
        Err(_) => Err(format!("`{text}` is not a share such as 0.1")),
    }
}

/// Bytes for people: `256 MiB`, `1.5 GiB`.
pub(crate) fn bytes(n: u64) -> String {
    ByteSize::new(n).to_string()
}

/// Nanoseconds for people: `0 ns`, `812 ns`, `3.41 µs`, `12.7 ms`, `2.05 s`.
pub(crate) fn duration(ns: u64) -> String {
    let ns = ns as f64;
    for (name, unit) in [("s", 1e9), ("ms", 1e6), ("µs", 1e3)] {
        // 999.6 µs must not print as "1000 µs".
        if ns >= unit * 0.9995 {
            return format!("{} {name}", three(ns / unit));
        }
    }
    format!("{ns} ns")
}

/// Nanoseconds for people, fractions of one too: a page of a batch takes fewer than a hundred.
pub(crate) fn nanoseconds(ns: f64) -> String {
    if ns >= 999.5 { duration(ns as u64) } else { format!("{} ns", short(ns)) }
}

/// Three significant digits, as many as a run repeats to.
pub(crate) fn three(x: f64) -> String {
    if x >= 99.95 {
        format!("{x:.0}")
    } else if x >= 9.995 {
        format!("{x:.1}")
    } else {
        format!("{x:.2}")
    }
}

/// Like [`three`], without zeros that say nothing.
pub(crate) fn short(x: f64) -> String {
    let text = three(x);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A whole number with its thousands apart: `5,000,000`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused() {
        assert!(parse_count("0").is_err() && parse_count("1.5").is_err());
        assert_eq!(parse_count("5_000_000"), Ok(5_000_000));
        assert!(parse_seconds("0").is_err() && parse_seconds("nan").is_err() && parse_seconds("inf").is_err());
        assert_eq!(parse_seconds("0.5"), Ok(0.5));
        assert!(parse_percent("2").is_err() && parse_percent("%").is_err() && parse_percent("nan%").is_err());
        assert!(parse_percent("0%").is_err() && parse_percent("51%").is_err());
        assert_eq!((parse_percent("2%"), parse_percent("0.5 %")), (Ok(0.02), Ok(0.005)));
        assert!(parse_share("0").is_err() && parse_share("1.01").is_err() && parse_share("nan").is_err());
        assert_eq!((parse_share("1"), parse_share("0.25")), (Ok(1.0), Ok(0.25)));
    }

    #[test]
    fn people_read_units() {
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(10), "10 B");
        assert_eq!(duration(0), "0 ns");
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(999_700), "1.00 ms");
        assert_eq!(duration(12_345), "12.3 µs");
        assert_eq!(duration(2_050_000_000), "2.05 s");
        assert_eq!(grouped(5_000_000), "5,000,000");
        assert_eq!(grouped(999), "999");
    }
}
