//! Line charts of a run's epochs as SVG, drawn here so that a page shows the same chart live, finished and printed.

use api::train::EpochMetrics;
use askama::Template;

const LEFT: f64 = 44.0;
const RIGHT: f64 = 352.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 168.0;

/// A chart with one or two lines over epochs.
#[derive(Clone, Debug, PartialEq, Template)]
#[template(path = "chart.svg", escape = "html")]
pub struct Chart {
    title: &'static str,
    summary: String,
    lines: Vec<Line>,
    marks_x: Vec<Mark>,
    marks_y: Vec<Mark>,
}

#[derive(Clone, Debug, PartialEq)]
struct Line {
    name: &'static str,
    class: &'static str,
    points: String,
    /// A single point cannot be seen as a line.
    dot: Option<(String, String)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Mark {
    at: String,
    text: String,
}

/// Name of a line and its value per epoch, where there is one.
type Series<'a> = (&'static str, &'a dyn Fn(&EpochMetrics) -> Option<f64>);

/// Loss of both splits; none before the first epoch has ended.
pub fn loss(curves: &[EpochMetrics]) -> Option<Chart> {
    let series: [Series; 2] = [("train", &|e| Some(e.loss)), ("validation", &|e| e.val_loss)];
    let highest = curves.iter().flat_map(|e| [Some(e.loss), e.val_loss]).flatten().filter(|v| v.is_finite());
    let step = nice_step(highest.fold(0.0, f64::max) / 4.0);
    draw("Loss", curves, &series, step, &|value, extra| format!("{value:.*}", decimals(step) + extra))
}

/// Accuracy of both splits; none before the first epoch has ended.
pub fn accuracy(curves: &[EpochMetrics]) -> Option<Chart> {
    let series: [Series; 2] = [("train", &|e| Some(e.accuracy)), ("validation", &|e| e.val_accuracy)];
    draw("Accuracy", curves, &series, 0.25, &|value, extra| format!("{:.extra$} %", 100.0 * value))
}

/// Draws `series`, with a mark every `step` up to four of them. `tell` words a value with that many digits more than a
/// mark needs.
fn draw(
    title: &'static str,
    curves: &[EpochMetrics],
    series: &[Series],
    step: f64,
    tell: &dyn Fn(f64, usize) -> String,
) -> Option<Chart> {
    let last = curves.last()?;
    let n_epochs = f64::from(last.epoch.max(2));
    let top = 4.0 * step;
    let x = |epoch: f64| LEFT + (epoch - 1.0) / (n_epochs - 1.0) * (RIGHT - LEFT);
    let y = |value: f64| BOTTOM - (value / top).clamp(0.0, 1.0) * (BOTTOM - TOP);
    let mut lines = vec![];
    let mut told = vec![];
    for ((name, value), class) in series.iter().zip(["line-a", "line-b"]) {
        let points: Vec<_> = curves
            .iter()
            .filter_map(|epoch| Some((f64::from(epoch.epoch), value(epoch).filter(|v| v.is_finite())?)))
            .map(|(epoch, value)| (format!("{:.1}", x(epoch)), format!("{:.1}", y(value))))
            .collect();
        if points.is_empty() {
            continue;
        }
        if let Some(value) = value(last) {
            told.push(format!("{name} {}", tell(value, 1)));
        }
        let dot = (points.len() == 1).then(|| points[0].clone());
        let points = points.iter().map(|(x, y)| format!("{x},{y}")).collect::<Vec<_>>().join(" ");
        lines.push(Line { name, class, points, dot });
    }
    let middle = (1.0 + n_epochs) / 2.0;
    let marks_x = [1.0, middle.round(), n_epochs];
    let mut marks_x: Vec<_> = marks_x.map(|e| Mark { at: format!("{:.1}", x(e)), text: format!("{e}") }).into();
    marks_x.dedup();
    let marks_y = (0..=4).map(|n| f64::from(n) * step);
    Some(Chart {
        title,
        summary: format!("{title} after epoch {}: {}", last.epoch, told.join(", ")),
        lines,
        marks_x,
        marks_y: marks_y.map(|v| Mark { at: format!("{:.1}", y(v)), text: tell(v, 0) }).collect(),
    })
}

/// The least round number that is not below `least`.
fn nice_step(least: f64) -> f64 {
    let least = if least.is_finite() && least > 1e-9 { least } else { 0.25 };
    let power = 10f64.powf(least.log10().floor());
    let factors = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0, 10.0];
    factors.into_iter().map(|factor| factor * power).find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// Digits after the point that a step of this size needs.
fn decimals(step: f64) -> usize {
    (0..9).find(|n| (step * 10f64.powi(*n)).fract().abs() < 1e-6).unwrap_or(9).cast_unsigned() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: u32, loss: f64, val_loss: Option<f64>) -> EpochMetrics {
        EpochMetrics {
            epoch,
            epochs: 10,
            step: 1,
            loss,
            accuracy: 0.5,
            val_loss,
            val_accuracy: val_loss.map(|_| 0.25),
            learning_rate: 1e-3,
            images_per_second: 1.0,
            seconds: 1.0,
            remaining_seconds: 1.0,
        }
    }

    #[test]
    fn nothing_is_drawn_before_the_first_epoch() {
        assert_eq!(loss(&[]), None);
    }

    #[test]
    fn a_line_runs_from_the_left_edge_to_the_right_and_highest_is_on_top() {
        let chart = accuracy(&[epoch(1, 2.0, Some(1.0)), epoch(2, 1.0, Some(1.0))]).expect("two epochs");
        assert_eq!(chart.lines[0].points, "44.0,90.0 352.0,90.0");
        assert_eq!(chart.lines[1].points, "44.0,129.0 352.0,129.0");
        assert_eq!(chart.summary, "Accuracy after epoch 2: train 50.0 %, validation 25.0 %");
    }

    #[test]
    fn a_split_without_pictures_has_no_line_and_values_that_are_not_finite_leave_gaps() {
        let chart = loss(&[epoch(1, 2.0, None), epoch(2, f64::NAN, None), epoch(3, 0.5, None)]).expect("epochs");
        assert_eq!(chart.lines.len(), 1);
        assert_eq!(chart.lines[0].points.split(' ').count(), 2);
    }

    #[test]
    fn the_scale_reaches_above_the_highest_value_in_round_steps() {
        for (least, step) in [(0.31, 0.4), (0.2, 0.2), (0.21, 0.25), (0.0, 0.25), (9.0, 10.0), (0.012, 0.015)] {
            assert!((nice_step(least) - step).abs() < 1e-9, "{least} gave {}", nice_step(least));
        }
        assert_eq!([decimals(0.25), decimals(0.02), decimals(5.0)], [2, 2, 0]);
    }
}
