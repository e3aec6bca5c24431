//! Line plots as SVG, once for wide screens and once for narrow ones: text keeps its size, and the page shows the one
//! that fits.

use std::fmt::Write as _;

use super::axis::{Axis, Tick};
use super::page::escaped;

/// A plot and what it says in words.
pub(crate) struct Plot<'t> {
    /// For those who cannot see it.
    pub(crate) description: &'t str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
    /// Points that belong to no line.
    pub(crate) dots: Vec<Dots>,
    /// What the points are to be seen against.
    pub(crate) rules: Vec<Rule>,
}

/// Points of one kind.
pub(crate) struct Dots {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What points look like: kinds differ by more than their colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A disc: good.
    Disc,
    /// A cross: bad.
    Cross,
    /// A circle: says nothing.
    Circle,
}

/// A value that is drawn across the plot.
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) place: RulePlace,
}

/// Where a rule is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RulePlace {
    /// From left to right at this height.
    Across(f64),
    /// From bottom to top at the first, with a band from the second to the third.
    Up(f64, f64, f64),
}

/// One line of a plot.
pub(crate) struct Line {
    pub(crate) name: String,
    /// Of the style sheet's colours.
    pub(crate) colour: usize,
    pub(crate) is_dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How many colours the style sheet has.
const COLOURS: usize = 6;
/// Lines of so few points show each of them.
const FEW_POINTS: usize = 40;

/// Sizes in pixels.
struct Size {
    class: &'static str,
    width: f64,
    height: f64,
}

const WIDE: Size = Size {
    class: "wide",
    width: 920.0,
    height: 340.0,
};
const NARROW: Size = Size {
    class: "narrow",
    width: 340.0,
    height: 260.0,
};
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 44.0;
/// Of a letter, about.
const LETTER_WIDTH: f64 = 6.4;
/// Between two labels, at least.
const LABEL_GAP: f64 = 8.0;
/// Between the middles of two labels above each other, at least.
const LABEL_HEIGHT: f64 = 16.0;

impl<'t> Plot<'t> {
    /// Lines, and nothing else.
    pub(crate) fn of_lines(description: &'t str, x: Axis, y: Axis, lines: Vec<Line>) -> Self {
        Self {
            description,
            x,
            y,
            lines,
            dots: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// The legend and both sizes.
    pub(crate) fn html(&self) -> String {
        let mut html = self.legend();
        for size in [&WIDE, &NARROW] {
            self.draw(size, &mut html);
        }
        html
    }

    fn legend(&self) -> String {
        let mut html = String::from("<ul class=\"legend\" aria-hidden=\"true\">");
        let dash = |classes: &str| format!("<path class=\"{classes}\" d=\"M1 5H25\"/>");
        let lines = self.lines.iter();
        let lines = lines.map(|line| (dash(&line.classes()), &line.name));
        let dots = self.dots.iter();
        let dots = dots.map(|dots| (dots.shape.drawn(13.0, 5.0), &dots.name));
        let rules = self.rules.iter();
        let rules = rules.map(|rule| (dash(rule.place.classes()), &rule.name));
        for (sign, name) in lines.chain(dots).chain(rules) {
            let _ = write!(
                html,
                "<li><svg width=\"26\" height=\"10\">{sign}</svg>{}</li>",
                escaped(name)
            );
        }
        html.push_str("</ul>\n");
        html
    }

    fn draw(&self, size: &Size, html: &mut String) {
        let _ = writeln!(
            html,
            "<svg class=\"plot {}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
            size.class,
            size.width,
            size.height,
            escaped(self.description)
        );
        self.draw_y_axis(size, html);
        self.draw_x_axis(size, html);
        for rule in &self.rules {
            self.draw_rule(rule, size, html);
        }
        for line in &self.lines {
            self.draw_line(line, size, html);
        }
        for dots in &self.dots {
            let places = self.places(&dots.points, size);
            html.extend(places.iter().map(|(x, y)| dots.shape.drawn(*x, *y)));
        }
        html.push_str("</svg>\n");
    }

    fn draw_y_axis(&self, size: &Size, html: &mut String) {
        let middles = |tick: &Tick| size.y(self.y.place(tick.value));
        let mut last = f64::INFINITY;
        for tick in &self.y.ticks {
            let y = middles(tick);
            let _ = write!(
                html,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>",
                size.right()
            );
            if last - y >= LABEL_HEIGHT {
                let _ = write!(
                    html,
                    "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    LEFT - 7.0,
                    y + 4.0,
                    escaped(&tick.label)
                );
                last = y;
            }
        }
        let _ = writeln!(
            html,
            "<text class=\"title\" x=\"2\" y=\"13\">{}</text>",
            escaped(&self.y.title)
        );
    }

    fn draw_x_axis(&self, size: &Size, html: &mut String) {
        let bottom = size.height - BOTTOM;
        let mut free_from = 0.0;
        for tick in &self.x.ticks {
            let x = size.x(self.x.place(tick.value));
            let _ = write!(
                html,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom:.1}\"/>"
            );
            let half = width(&tick.label) / 2.0;
            // A label may reach beyond the axis, but not beyond the picture.
            let middle = x.min(size.width - half - 1.0);
            if middle - half >= free_from {
                let _ = write!(
                    html,
                    "<text class=\"middle\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>",
                    bottom + 17.0,
                    escaped(&tick.label)
                );
                free_from = middle + half + LABEL_GAP;
            }
        }
        let _ = writeln!(
            html,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom:.1}H{:.1}\"/><text class=\"title end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            size.right(),
            size.right(),
            size.height - 6.0,
            escaped(&self.x.title)
        );
    }

    fn places(&self, points: &[(f64, f64)], size: &Size) -> Vec<(f64, f64)> {
        let place = |(x, y): &(f64, f64)| (size.x(self.x.place(*x)), size.y(self.y.place(*y)));
        points.iter().map(place).collect()
    }

    fn draw_rule(&self, rule: &Rule, size: &Size, html: &mut String) {
        let classes = rule.place.classes();
        let bottom = size.height - BOTTOM;
        let _ = match rule.place {
            RulePlace::Across(value) => {
                let y = size.y(self.y.place(value));
                writeln!(
                    html,
                    "<path class=\"{classes}\" d=\"M{LEFT} {y:.1}H{:.1}\"/>",
                    size.right()
                )
            }
            RulePlace::Up(value, low, high) => {
                let [x, low, high] = [value, low, high].map(|value| size.x(self.x.place(value)));
                writeln!(
                    html,
                    "<rect class=\"band\" x=\"{low:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>\
                     <path class=\"{classes}\" d=\"M{x:.1} {TOP}V{bottom:.1}\"/>",
                    (high - low).max(1.0),
                    bottom - TOP
                )
            }
        };
    }

    fn draw_line(&self, line: &Line, size: &Size, html: &mut String) {
        let places = self.places(&line.points, size);
        let mut path = String::new();
        for (index, (x, y)) in places.iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
        }
        let _ = writeln!(html, "<path class=\"{}\" d=\"{path}\"/>", line.classes());
        if places.len() <= FEW_POINTS {
            for (x, y) in places {
                let _ = write!(
                    html,
                    "<circle class=\"dot c{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>",
                    line.colour % COLOURS
                );
            }
            html.push('\n');
        }
    }
}

impl Shape {
    /// Around a place in pixels.
    fn drawn(self, x: f64, y: f64) -> String {
        match self {
            Self::Disc => {
                format!("<circle class=\"met\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>")
            }
            Self::Circle => {
                format!("<circle class=\"void\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>")
            }
            Self::Cross => format!(
                "<path class=\"missed\" d=\"M{:.1} {:.1}l7 7m0 -7l-7 7\"/>",
                x - 3.5,
                y - 3.5
            ),
        }
    }
}

impl RulePlace {
    fn classes(self) -> &'static str {
        match self {
            Self::Across(_) => "rule dashed",
            Self::Up(..) => "rule",
        }
    }
}

impl Line {
    fn classes(&self) -> String {
        let dashed = if self.is_dashed { " dashed" } else { "" };
        format!("line c{}{dashed}", self.colour % COLOURS)
    }
}

impl Size {
    fn right(&self) -> f64 {
        self.width - RIGHT
    }

    /// Of a place from 0 to 1.
    fn x(&self, place: f64) -> f64 {
        LEFT + place * (self.right() - LEFT)
    }

    /// Of a place from 0 to 1, which is at the top.
    fn y(&self, place: f64) -> f64 {
        let bottom = self.height - BOTTOM;
        bottom - place * (bottom - TOP)
    }
}

fn width(label: &str) -> f64 {
    let letters = u32::try_from(label.chars().count()).unwrap_or(u32::MAX);
    f64::from(letters) * LETTER_WIDTH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(end: f64) -> Plot<'static> {
        let lines = vec![Line {
            name: "<check>".to_owned(),
            colour: 7,
            is_dashed: true,
            points: vec![(1.0, 0.0), (end, 10.0)],
        }];
        let x = Axis::percentiles("share", end);
        let y = Axis::from_zero("time", 10.0, |value| format!("{value} ms"));
        Plot::of_lines("a & b", x, y, lines)
    }

    #[test]
    fn dots_and_rules_stand_where_their_values_are() {
        let mut plot = plot(100.0);
        plot.dots = vec![Dots {
            name: "met".to_owned(),
            shape: Shape::Disc,
            points: vec![(10.0, 5.0)],
        }];
        plot.rules = vec![
            Rule {
                name: "limit".to_owned(),
                place: RulePlace::Across(10.0),
            },
            Rule {
                name: "found".to_owned(),
                place: RulePlace::Up(10.0, 1.0, 100.0),
            },
        ];
        let html = plot.html();
        for part in [
            "<circle class=\"met\" cx=\"484.0\" cy=\"161.0\"",
            "<path class=\"rule dashed\" d=\"M62 26.0H906.0\"/>",
            "<rect class=\"band\" x=\"62.0\" y=\"26\" width=\"844.0\" height=\"270.0\"/>",
            "<path class=\"rule\" d=\"M484.0 26V296.0\"/>",
        ] {
            assert!(html.contains(part), "{part}\n{html}");
        }
        assert_eq!(html.matches("<li>").count(), 4);
    }

    #[test]
    fn lines_go_from_corner_to_corner() {
        let html = plot(1000.0).html();
        assert!(html.contains("d=\"M62.0 296.0L906.0 26.0\""), "{html}");
        assert!(html.contains("d=\"M62.0 216.0L326.0 26.0\""), "{html}");
        assert!(html.contains("class=\"line c1 dashed\""), "{html}");
        assert!(
            html.contains("&lt;check&gt;") && html.contains("a &amp; b"),
            "{html}"
        );
    }

    #[test]
    fn labels_that_would_meet_are_left_out() {
        let labels = |html: &str| html.matches("class=\"middle\"").count();
        let html = plot(1e7).html();
        let (wide, narrow) = html.split_once("plot narrow").unwrap();
        assert_eq!(labels(wide), 8);
        assert!((3..8).contains(&labels(narrow)), "{narrow}");
    }
}
