//! What a run's epochs came to.

use api::train::EpochMetrics;

use super::{
    Cell, Figure, Table,
    plot::{Draft, Series, SeriesKind},
    scale::{Kind, Scale, scientific},
};
use crate::words;

/// Name of a line and its value per epoch, where there is one.
type Line = (&'static str, fn(&EpochMetrics) -> Option<f64>);

const ACCURACY: [Line; 2] = [("train", |e| Some(e.accuracy)), ("validation", |e| e.val_accuracy)];
const LOSS: [Line; 2] = [("train", |e| Some(e.loss)), ("validation", |e| e.val_loss)];
const LEARNING_RATE: [Line; 1] = [("learning rate", |e| Some(e.learning_rate))];
const SPEED: [Line; 1] = [("train", |e| Some(e.images_per_second))];

/// Accuracy, loss, learning rate and speed over epochs; nothing before the first epoch has ended. The epoch `kept` is
/// marked.
pub fn curves(epochs: &[EpochMetrics], kept: Option<u32>) -> Vec<Figure> {
    let values = |lines: &'static [Line]| {
        lines.iter().flat_map(move |(_, value)| epochs.iter().filter_map(value)).collect::<Vec<_>>().into_iter()
    };
    let charts: [(_, _, &'static [Line], _); 4] = [
        ("accuracy", "Accuracy", &ACCURACY, Scale::shares("accuracy in %", values(&ACCURACY))),
        ("loss", "Loss", &LOSS, Scale::from_zero("cross-entropy in nats", values(&LOSS))),
        ("learning-rate", "Learning rate", &LEARNING_RATE, Scale::from_zero("learning rate", values(&LEARNING_RATE))),
        ("speed", "Speed", &SPEED, Scale::from_zero("pictures per second", values(&SPEED))),
    ];
    let figures = charts.into_iter().filter_map(|(id, title, lines, y)| draw(id, title, lines, y, epochs, kept));
    figures.collect()
}

fn draw(
    id: &'static str,
    title: &'static str,
    lines: &[Line],
    y: Scale,
    epochs: &[EpochMetrics],
    kept: Option<u32>,
) -> Option<Figure> {
    let last = epochs.last()?;
    let is_percent = y.kind == Kind::Percent;
    let tell = |value: f64| match is_percent {
        true => words::percent(value),
        false if value != 0.0 && value.abs() < 0.01 => scientific(value),
        false if value >= 100.0 => format!("{value:.0}"),
        false => format!("{value:.3}"),
    };
    let told = lines.iter().filter_map(|(name, value)| Some(format!("{name} {}", tell(value(last)?))));
    let description = format!("{title} after epoch {}: {}", last.epoch, told.collect::<Vec<_>>().join(", "));
    let series = lines.iter().map(|(name, value)| Series {
        name,
        points: epochs.iter().filter_map(|e| Some((f64::from(e.epoch), value(e)?))).collect(),
        kind: SeriesKind::Line,
    });
    let draft = Draft {
        id,
        title,
        x: Scale::counted("epoch", last.epoch),
        y,
        series: series.collect(),
        has_diagonal: false,
        kept: kept.map(|epoch| (f64::from(epoch), "kept")),
        description,
    };
    Some(Figure {
        id,
        title: title.into(),
        drawing: Some(draft.draw()?),
        table: self::epochs(epochs),
        has_own_table: false,
    })
}

/// Every figure of every epoch.
pub fn epochs(epochs: &[EpochMetrics]) -> Table {
    let mut table = Table::new(&[
        "Epoch",
        "Loss",
        "Validation loss",
        "Accuracy",
        "Validation accuracy",
        "Learning rate",
        "Pictures per second",
        "Seconds",
    ]);
    let loss = |value: f64| format!("{value:.4}");
    for e in epochs {
        table.rows.push(vec![
            Cell::count(e.epoch.into()),
            Cell::number(e.loss, loss(e.loss)),
            Cell::maybe(e.val_loss, loss),
            Cell::number(e.accuracy, words::percent(e.accuracy)),
            Cell::maybe(e.val_accuracy, words::percent),
            Cell::number(e.learning_rate, scientific(e.learning_rate)),
            Cell::number(e.images_per_second, format!("{:.0}", e.images_per_second)),
            Cell::number(e.seconds, format!("{:.1}", e.seconds)),
        ]);
    }
    table
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
            learning_rate: 5e-4,
            images_per_second: 1234.0,
            seconds: 1.0,
            remaining_seconds: 1.0,
        }
    }

    #[test]
    fn nothing_is_drawn_before_the_first_epoch() {
        assert_eq!(curves(&[], None), vec![]);
    }

    #[test]
    fn every_curve_tells_its_last_values_and_stands_alone_as_a_file() {
        let figures = curves(&[epoch(1, 2.0, Some(1.0)), epoch(2, 1.0, Some(1.5))], Some(1));
        assert_eq!(
            figures.iter().map(|figure| figure.id).collect::<Vec<_>>(),
            ["accuracy", "loss", "learning-rate", "speed"]
        );
        for (figure, told) in figures.iter().zip([
            "Accuracy after epoch 2: train 50.0 %, validation 25.0 %",
            "Loss after epoch 2: train 1.000, validation 1.500",
            "Learning rate after epoch 2: learning rate 5e-4",
            "Speed after epoch 2: train 1234",
        ]) {
            let (inline, alone) = (figure.inline().expect("it renders"), figure.alone().expect("it renders"));
            assert!(inline.contains(&format!("<desc id=\"{}-desc\">{told}</desc>", figure.id)), "{inline}");
            assert!(!inline.contains("xmlns") && inline.contains(">kept</text>"));
            assert!(alone.expect("a drawing").contains("xmlns=\"http://www.w3.org/2000/svg\""));
        }
    }

    #[test]
    fn a_split_without_pictures_has_no_line() {
        let figures = curves(&[epoch(1, 2.0, None), epoch(2, 1.0, None)], None);
        assert!(!figures[1].inline().expect("it renders").contains("validation"));
        assert!(figures[1].table.csv().contains("\r\n2,1,,0.5,,0.0005,1234,1\r\n"), "{}", figures[1].table.csv());
    }
}
