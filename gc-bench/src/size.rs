//! Sizes and counts as people type them, and as people read them.

const UNITS: [(char, u32); 4] = [('k', 10), ('m', 20), ('g', 30), ('t', 40)];

/// Reads a size in bytes: `4096`, `512k`, `256m`, `1g`, `1.5g`, also `256MiB`. The units are powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let number_end = lower.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(lower.len());
    let (number, unit) = (lower[..number_end].replace('_', ""), lower[number_end..].trim());
    let shift = match unit {
        "" | "b" => 0,
        _ => UNITS
            .iter()
            .find(|(letter, _)| {
                [format!("{letter}"), format!("{letter}b"), format!("{letter}ib")].iter().any(|u| u == unit)
            })
            .map(|&(_, shift)| shift)
            .ok_or_else(|| {
                format!("`{text}` is not a size: use a number with k, m or g (KiB, MiB, GiB), such as 256m")
            })?,
    };
    let wrong = || format!("`{text}` is not a size: use a number with k, m or g (KiB, MiB, GiB), such as 256m");
    if !number.contains('.') {
        let n: u64 = number.parse().map_err(|_| wrong())?;
        return n.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is more than a 64-bit machine can address"));
    }
    let n: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = n * (1u64 << shift) as f64;
    if bytes < u64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err(format!("`{text}` is more than a 64-bit machine can address"))
    }
}

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

/// Bytes for people: `256 MiB`, `1.5 GiB`.
pub(crate) fn bytes(n: u64) -> String {
    for (name, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        let unit = 1u64 << shift;
        if n >= unit {
            return format!("{} {name}", short(n as f64 / unit as f64));
        }
    }
    format!("{n} B")
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
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("512k"), Ok(512 << 10));
        assert_eq!(parse_size("256m"), Ok(256 << 20));
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("1.5G"), Ok(3 << 29));
        assert_eq!(parse_size("1t"), Ok(1 << 40));
        assert_eq!(parse_size("0"), Ok(0));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "m", "1x", "-1m", "1.2.3m", "lots", "99999999999g", "20000000000000000000"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert!(parse_count("0").is_err() && parse_count("1.5").is_err());
        assert_eq!(parse_count("5_000_000"), Ok(5_000_000));
        assert!(parse_seconds("0").is_err() && parse_seconds("nan").is_err() && parse_seconds("inf").is_err());
        assert_eq!(parse_seconds("0.5"), Ok(0.5));
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
