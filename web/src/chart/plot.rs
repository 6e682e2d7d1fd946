//! Lines and dots over two axes.

use askama::Template;

use super::{Drawing, Frame, scale::Scale, text_width};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 236.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 348.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 190.0;
const LEGEND_ROW: f64 = 18.0;

/// Looks of series: colour, dashes and shape of dots differ together. There are as many as a chart may have.
const LOOKS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// What is to be drawn.
pub struct Draft<'a> {
    pub id: &'static str,
    pub title: &'static str,
    pub x: Scale,
    pub y: Scale,
    pub series: Vec<Series<'a>>,
    /// Both axes' values are equal here.
    pub has_diagonal: bool,
    /// A value of x that matters, and why.
    pub kept: Option<(f64, &'static str)>,
    pub description: String,
}

/// Points of one kind.
pub struct Series<'a> {
    pub name: &'a str,
    /// Values of x and y.
    pub points: Vec<(f64, f64)>,
    pub kind: SeriesKind,
}

/// How points are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SeriesKind {
    /// Connected; only the last one has a dot.
    Line,
    /// Each a dot.
    Dots,
    /// Each a dot with a stem that leads to the diagonal.
    Stems,
}

/// A drawing.
#[derive(Clone, Debug, PartialEq, Template)]
#[template(path = "chart/plot.svg", escape = "html")]
pub struct Plot {
    pub(super) frame: Frame,
    /// By how much further rows of the legend push the axes down.
    down: f64,
    label_x: &'static str,
    label_y: &'static str,
    marks_x: Vec<Mark>,
    marks_y: Vec<Mark>,
    diagonal: Option<[String; 4]>,
    kept: Option<(String, &'static str, &'static str)>,
    series: Vec<Drawn>,
}

#[derive(Clone, Debug, PartialEq)]
struct Mark {
    at: String,
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Drawn {
    name: String,
    look: &'static str,
    /// Where its entry of the legend begins.
    legend: (f64, f64),
    line: Option<String>,
    stems: Vec<[String; 3]>,
    dots: Vec<(String, String)>,
}

fn place(value: f64) -> String {
    format!("{value:.1}")
}

impl Draft<'_> {
    /// Draws what has points; nothing if nothing has.
    pub fn draw(self) -> Option<Drawing> {
        let x = |value: f64| LEFT + self.x.at(value) * (RIGHT - LEFT);
        let y = |value: f64| BOTTOM - self.y.at(value) * (BOTTOM - TOP);
        let mut legend = (LEFT, 12.0);
        let mut series = vec![];
        for (one, look) in self.series.iter().zip(LOOKS) {
            let is_drawable = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
            let points: Vec<_> = one.points.iter().filter(is_drawable).collect();
            let Some(last) = points.last() else { continue };
            let at = |&&(h, v): &&(f64, f64)| (place(x(h)), place(y(v)));
            let joined = || points.iter().map(at).map(|(x, y)| format!("{x},{y}")).collect::<Vec<_>>().join(" ");
            let is_line = one.kind == SeriesKind::Line;
            let stem = |&&(h, v): &&(f64, f64)| [place(x(h)), place(y(v)), place(y(h))];
            let entry = text_width(one.name) + if is_line { 40.0 } else { 30.0 };
            if legend.0 > LEFT && legend.0 + entry > WIDTH {
                legend = (LEFT, legend.1 + LEGEND_ROW);
            }
            series.push(Drawn {
                name: one.name.to_owned(),
                look,
                legend,
                line: is_line.then(joined),
                stems: if one.kind == SeriesKind::Stems { points.iter().map(stem).collect() } else { vec![] },
                dots: if is_line { vec![at(last)] } else { points.iter().map(at).collect() },
            });
            legend.0 += entry;
        }
        if series.is_empty() {
            return None;
        }
        let ends = [self.x.least.max(self.y.least), self.x.most().min(self.y.most())];
        let mark_x = |(at, text): (f64, String)| Mark { at: place(LEFT + at * (RIGHT - LEFT)), text };
        let mark_y = |(at, text): (f64, String)| Mark { at: place(BOTTOM - at * (BOTTOM - TOP)), text };
        let kept = self.kept.map(|(value, why)| {
            let side = if self.x.at(value) > 0.5 { "end" } else { "start" };
            (place(x(value)), why, side)
        });
        Some(Drawing::Plot(Box::new(Plot {
            frame: Frame {
                id: self.id,
                title: self.title.to_owned(),
                description: self.description,
                width: WIDTH,
                height: HEIGHT + legend.1 - 12.0,
                alone: false,
            },
            down: legend.1 - 12.0,
            label_x: self.x.label,
            label_y: self.y.label,
            marks_x: self.x.marks().into_iter().map(mark_x).collect(),
            marks_y: self.y.marks().into_iter().map(mark_y).collect(),
            diagonal: self
                .has_diagonal
                .then(|| [place(x(ends[0])), place(y(ends[0])), place(x(ends[1])), place(y(ends[1]))]),
            kept,
            series,
        })))
    }
}

/// Value of an attribute that draws the look's dashes.
fn dashes(look: &str) -> &'static str {
    match look {
        "a" => "none",
        "b" => "7 4",
        "c" => "2 3",
        "d" => "10 3 2 3",
        _ => "4 2",
    }
}

/// Its colour on white.
fn colour(look: &str) -> &'static str {
    match look {
        "a" => "#0f766e",
        "b" => "#b45309",
        "c" => "#6d5bb0",
        "d" => "#3f4a45",
        "e" => "#be3a6b",
        _ => "#2563a8",
    }
}

/// Its dot as a path around the origin.
fn dot(look: &str) -> &'static str {
    match look {
        "a" => "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z",
        "b" => "M-3.6-3.6H3.6V3.6H-3.6Z",
        "c" => "M0-4.6L4.4 3.4H-4.4Z",
        "d" => "M0-5L5 0L0 5L-5 0Z",
        "e" => "M0 4.6L4.4-3.4H-4.4Z",
        _ => "M-4-1.2H-1.2V-4H1.2V-1.2H4V1.2H1.2V4H-1.2V1.2H-4Z",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::scale::Kind, *};

    fn draft<'a>(series: Vec<Series<'a>>) -> Draft<'a> {
        Draft {
            id: "x",
            title: "X",
            x: Scale::counted("epoch", 2),
            y: Scale { label: "%", least: 0.0, step: 0.25, n: 4, kind: Kind::Percent },
            series,
            has_diagonal: false,
            kept: None,
            description: String::new(),
        }
    }

    fn line(points: &[(f64, f64)]) -> Series<'static> {
        Series { name: "line", points: points.to_vec(), kind: SeriesKind::Line }
    }

    #[test]
    fn a_line_runs_from_the_left_edge_to_the_right_and_highest_is_on_top() {
        let Some(Drawing::Plot(plot)) = draft(vec![line(&[(1.0, 0.0), (2.0, 1.0)])]).draw() else { panic!("a line") };
        assert_eq!(plot.series[0].line.as_deref(), Some("66.0,190.0 348.0,30.0"));
        assert_eq!(plot.series[0].dots, [("348.0".to_owned(), "30.0".to_owned())]);
    }

    #[test]
    fn values_that_are_not_finite_leave_gaps_and_nothing_gives_no_drawing() {
        let gap = line(&[(1.0, 0.5), (1.5, f64::NAN), (2.0, 0.5)]);
        let Some(Drawing::Plot(plot)) = draft(vec![line(&[]), gap]).draw() else { panic!("a line") };
        assert_eq!(plot.series.len(), 1);
        assert_eq!(plot.series[0].line.as_ref().map(|line| line.split(' ').count()), Some(2));
        assert_eq!(draft(vec![line(&[(1.0, f64::NAN)])]).draw(), None);
    }

    #[test]
    fn a_legend_that_does_not_fit_goes_on_in_the_next_row() {
        let long = || Series { name: "a rather long name", points: vec![(1.0, 0.5)], kind: SeriesKind::Line };
        let Some(Drawing::Plot(plot)) = draft(vec![long(), long(), long()]).draw() else { panic!("three lines") };
        assert_eq!(plot.series.iter().map(|one| one.legend.1).collect::<Vec<_>>(), [12.0, 30.0, 48.0]);
        assert_eq!((plot.down, plot.frame.height), (36.0, HEIGHT + 36.0));
    }

    #[test]
    fn no_two_series_look_alike() {
        for (n, a) in LOOKS.iter().enumerate() {
            for b in &LOOKS[n + 1..] {
                assert_ne!((colour(a), dot(a)), (colour(b), dot(b)));
                assert_ne!(dot(a), dot(b));
            }
        }
    }
}
