//! Just enough SVG: shapes with a class each; colors come from the page's style sheet, so that they
//! follow its theme.

use std::fmt::Write as _;

/// A drawing in its own coordinates, scaled to the width of the page.
pub(crate) struct Svg {
    body: String,
    width: f64,
    height: f64,
    label: String,
}

/// Where a text is held.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// `label` is what the drawing shows, for those who do not see it.
    pub(crate) fn new(width: f64, height: f64, label: &str) -> Self {
        Self { body: String::new(), width, height, label: escape(label) }
    }

    pub(crate) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = writeln!(self.body, r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#);
    }

    /// A rectangle; `hint` is shown to who points at it, and empty for none.
    pub(crate) fn rect(&mut self, class: &str, (x, y): (f64, f64), (w, h): (f64, f64), hint: &str) {
        let _ = write!(self.body, r#"<rect class="{class}" x="{x:.2}" y="{y:.1}" width="{w:.2}" height="{h:.1}""#);
        let _ = if hint.is_empty() {
            writeln!(self.body, "/>")
        } else {
            writeln!(self.body, "><title>{}</title></rect>", escape(hint))
        };
    }

    pub(crate) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        self.points("polyline", class, points.iter().copied());
    }

    /// The area between the points and the height `base`.
    pub(crate) fn area(&mut self, class: &str, points: &[(f64, f64)], base: f64) {
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            let around = [(last.0, base), (first.0, base)];
            self.points("polygon", class, points.iter().copied().chain(around));
        }
    }

    fn points(&mut self, shape: &str, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let _ = write!(self.body, r#"<{shape} class="{class}" points=""#);
        for (x, y) in points {
            let _ = write!(self.body, "{x:.1},{y:.1} ");
        }
        self.body.push_str("\"/>\n");
    }

    pub(crate) fn circle(&mut self, class: &str, (x, y): (f64, f64), r: f64, hint: &str) {
        let hint = escape(hint);
        let _ = writeln!(
            self.body,
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{r}"><title>{hint}</title></circle>"#
        );
    }

    pub(crate) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        let _ =
            writeln!(self.body, r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
    }

    pub(crate) fn finish(self) -> String {
        let Self { body, width, height, label } = self;
        format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">\n{body}</svg>\n")
    }
}

/// Text as it may stand in HTML, between tags and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let mut svg = Svg::new(10.0, 10.0, "a\"b");
        svg.text("t", (0.0, 0.0), Anchor::Middle, "<script>&'");
        let out = svg.finish();
        assert!(out.contains("a&quot;b") && out.contains("&lt;script&gt;&amp;&#39;") && !out.contains("<script"));
    }
}
