//! The data behind a page, in the page: a link that saves it, which needs no script and no other
//! file.

use std::fmt::Write as _;

use super::json;
use crate::results::Document;
use crate::size::bytes;

/// A page with more in it gets slow.
const MOST: usize = 4 << 20;

/// What a page offers: the JSON, and what it is.
pub(crate) struct Data {
    json: String,
    what: &'static str,
}

impl Data {
    /// The whole of a report that is small.
    pub(crate) fn whole(json: &str) -> Self {
        Self { json: json.to_owned(), what: "the whole report" }
    }

    /// Of a report of runs: as much as is not too large. `json` is the whole.
    pub(crate) fn of(document: &Document, json: &str) -> Self {
        Self::within(document, json, MOST)
    }

    fn within(document: &Document, json: &str, most: usize) -> Self {
        if json.len() <= most {
            return Self::whole(json);
        }
        // The largest part comes first: metered latency is known to three digits.
        let mut less = document.clone();
        less.runs.iter_mut().for_each(|run| run.histograms.metered = Default::default());
        let what = "the report without the histograms of metered latency";
        let text = json::text(&less);
        if text.len() <= most {
            return Self { json: text, what };
        }
        for run in &mut less.runs {
            (run.tracks, run.stops, run.phases, run.occupancy) = Default::default();
            run.delays.clear();
        }
        let what = "the report without the histograms of metered latency, and without what happened when";
        let text = json::text(&less);
        if text.len() <= most {
            return Self { json: text, what };
        }
        less.runs.iter_mut().for_each(|run| run.histograms = Default::default());
        let what = "the report without histograms, and without what happened when";
        Self { json: json::text(&less), what }
    }

    /// The section of the page.
    pub(super) fn section(&self, out: &mut String) {
        let (size, what) = (bytes(self.json.len() as u64), self.what);
        out.push_str("<p>Save <a download=\"gc-bench-report.json\" href=\"data:application/json;base64,");
        base64(out, self.json.as_bytes());
        let _ = writeln!(out, "\">gc-bench-report.json</a> ({size}): {what}.</p>");
    }
}

/// RFC 4648, with padding.
fn base64(out: &mut String, data: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(data.len().div_ceil(3) * 4);
    for three in data.chunks(3) {
        let word = three.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at)) as usize & 63] as char;
            out.push(if at <= three.len() { digit } else { '=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::document;

    #[test]
    fn bytes_are_written_as_the_standard_says() {
        let of = |text: &str| {
            let mut out = String::new();
            base64(&mut out, text.as_bytes());
            out
        };
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(of), expected);
        assert_eq!(of("\u{ff}\u{fff}"), "w7/gv78=");
    }

    /// What is left is a report all the same.
    #[test]
    fn a_large_report_is_in_the_page_without_what_is_large() {
        let document = document();
        let json = json::text(&document);
        let whole = Data::within(&document, &json, json.len());
        assert_eq!((&whole.json, whole.what), (&json, "the whole report"));
        let sizes: Vec<usize> = (0..3)
            .scan(json.len(), |last, _| {
                let less = Data::within(&document, &json, *last - 1);
                let read: Document = serde_json::from_str(&less.json).unwrap();
                assert_eq!((read.runs.len(), read.runs[0].ops), (document.runs.len(), document.runs[0].ops));
                assert_eq!(read.configurations.len(), document.configurations.len());
                assert!(read.runs.iter().all(|run| run.histograms.metered.full.is_empty()), "{}", less.what);
                assert_eq!(read.runs[0].stops.is_empty(), less.what.contains("happened when"), "{}", less.what);
                *last = less.json.len();
                Some(*last)
            })
            .collect();
        assert!(sizes[0] < json.len() && sizes[1] < sizes[0] && sizes[2] < sizes[1], "{sizes:?}");
        assert_eq!(Data::within(&document, &json, 0).json.len(), sizes[2], "all that can go has gone");
    }
}
