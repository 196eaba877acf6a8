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

    /// A point, of the shape that its class has; `hint` is shown to who points at it.
    pub(crate) fn mark(&mut self, class: &str, center: (f64, f64), r: f64, hint: &str) {
        let _ = writeln!(self.body, "{}", shape(class, center, r, &format!("<title>{}</title>", escape(hint))));
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

/// Whoever cannot tell colors tells shapes: each color has one.
fn shape(class: &str, (x, y): (f64, f64), r: f64, inside: &str) -> String {
    let polygon = |points: &[(f64, f64)]| {
        let points: Vec<String> = points.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
        format!(r#"<polygon class="{class}" points="{}">{inside}</polygon>"#, points.join(" "))
    };
    let big = r * 1.25;
    match class.split(' ').find(|word| word.len() == 2 && word.starts_with('c')).unwrap_or_default() {
        "c1" => polygon(&[(-r, -r), (r, -r), (r, r), (-r, r)]),
        "c2" => {
            let thin = r / 3.0;
            let (a, b) = (big, thin);
            polygon(&[
                (-b, -a),
                (b, -a),
                (b, -b),
                (a, -b),
                (a, b),
                (b, b),
                (b, a),
                (-b, a),
                (-b, b),
                (-a, b),
                (-a, -b),
                (-b, -b),
            ])
        }
        "c3" => polygon(&[(0.0, -big), (big, 0.0), (0.0, big), (-big, 0.0)]),
        "c4" => polygon(&[(0.0, -big), (big, r), (-big, r)]),
        "c5" => polygon(&[(0.0, big), (big, -r), (-big, -r)]),
        _ => format!(r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{r}">{inside}</circle>"#),
    }
}

/// A small drawing for a legend. The class says what of: `bar` and `hollow` a rectangle, `line` a
/// line, `line mark` a line with points, all else a point.
pub(crate) fn key(class: &str) -> String {
    let has = |word: &str| class.split(' ').any(|of| of == word);
    let color: Vec<&str> = class.split(' ').filter(|word| !["bar", "line", "mark", "hollow"].contains(word)).collect();
    let color = color.join(" ");
    let line = format!(r#"<line class="line {color}" x1="0" y1="6" x2="26" y2="6"/>"#);
    let drawing = match () {
        () if has("bar") => format!(r#"<rect class="{color}" x="2" y="1" width="22" height="10"/>"#),
        () if has("hollow") => format!(r#"<rect class="{color} outline" x="3" y="2" width="20" height="8"/>"#),
        () if has("line") && has("mark") => line + &shape(&color, (13.0, 6.0), 3.5, ""),
        () if has("line") => line,
        () => shape(&color, (13.0, 6.0), 3.5, ""),
    };
    format!(r#"<svg class="key" viewBox="0 0 26 12" aria-hidden="true">{drawing}</svg>"#)
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
    fn each_color_has_a_shape_of_its_own() {
        let shapes: Vec<String> =
            (0..6).map(|n| shape(&format!("c{n}"), (0.0, 0.0), 3.0, "").replace(&format!("c{n}"), "")).collect();
        assert!(shapes.iter().enumerate().all(|(i, shape)| !shapes[..i].contains(shape)), "{shapes:?}");
        assert_eq!(shape("c4 x", (0.0, 0.0), 3.0, "").replace(" x", ""), shape("c4", (0.0, 0.0), 3.0, ""));
        // A legend shows what a plot has.
        let polygon = |text: &str| text.split("points=").nth(1).map(|rest| rest.split('>').next().unwrap().to_owned());
        assert_eq!(polygon(&key("line mark c1")), polygon(&shape("c1", (13.0, 6.0), 3.5, "")));
        assert!(key("line c5 dashed").contains(r#"class="line c5 dashed""#) && !key("line c1").contains("polygon"));
        assert!(key("hollow c1").contains("c1 outline") && key("bar c0 half").contains(r#"<rect class="c0 half""#));
    }

    #[test]
    fn text_cannot_become_markup() {
        let mut svg = Svg::new(10.0, 10.0, "a\"b");
        svg.text("t", (0.0, 0.0), Anchor::Middle, "<script>&'");
        let out = svg.finish();
        assert!(out.contains("a&quot;b") && out.contains("&lt;script&gt;&amp;&#39;") && !out.contains("<script"));
    }
}
