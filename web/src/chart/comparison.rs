//! Two runs in one chart.

use api::{
    compare::{Better, Comparison, Group, Value},
    train::EpochMetrics,
};

use super::{
    Cell, Figure, Table,
    plot::{Draft, Series, SeriesKind},
    scale::Scale,
};
use crate::words;

type Figures = fn(&EpochMetrics) -> Option<f64>;

/// Validation accuracy and loss of two runs over epochs; of the train split where there is no validation split.
pub fn compared(a: &[EpochMetrics], b: &[EpochMetrics]) -> Vec<Figure> {
    let has_validation = [a, b].concat().iter().all(|e| e.val_loss.is_some());
    let (accuracy, loss): (Figures, Figures) = match has_validation {
        true => (|e| e.val_accuracy, |e| e.val_loss),
        false => (|e| Some(e.accuracy), |e| Some(e.loss)),
    };
    let values = |value: Figures| [a, b].concat().iter().filter_map(value).collect::<Vec<_>>().into_iter();
    let accuracies = Scale::shares("accuracy in %", values(accuracy));
    let losses = Scale::from_zero("cross-entropy in nats", values(loss));
    let percent: fn(f64) -> String = |value| words::percent(value);
    let plain: fn(f64) -> String = |value| format!("{value:.4}");
    let charts = [
        (
            "accuracy",
            if has_validation { "Validation accuracy" } else { "Train accuracy" },
            accuracy,
            accuracies,
            percent,
        ),
        ("loss", if has_validation { "Validation loss" } else { "Train loss" }, loss, losses, plain),
    ];
    let n_epochs = [a, b].into_iter().filter_map(|curve| curve.last()).map(|e| e.epoch).max().unwrap_or(1);
    let figures = charts.into_iter().filter_map(|(id, title, value, y, shown)| {
        let points = |curve: &[EpochMetrics]| -> Vec<_> {
            curve.iter().filter_map(|e| Some((f64::from(e.epoch), value(e)?))).collect()
        };
        let last = |curve: &[EpochMetrics]| {
            let value = curve.last().and_then(value).map(shown);
            value.unwrap_or_else(|| "nothing".into())
        };
        let draft = Draft {
            id,
            title,
            x: Scale::counted("epoch", n_epochs),
            y,
            series: vec![
                Series { name: "A", points: points(a), kind: SeriesKind::Line },
                Series { name: "B", points: points(b), kind: SeriesKind::Line },
            ],
            has_diagonal: false,
            kept: None,
            description: format!("{title} at the end: A {}, B {}", last(a), last(b)),
        };
        let mut table = Table::new(&["Epoch", "A", "B"]);
        for epoch in 1..=n_epochs {
            let of =
                |curve: &[EpochMetrics]| Cell::maybe(curve.iter().find(|e| e.epoch == epoch).and_then(value), shown);
            table.rows.push(vec![Cell::count(epoch.into()), of(a), of(b)]);
        }
        Some(Figure { id, title: title.into(), drawing: Some(draft.draw()?), table, has_own_table: true })
    });
    figures.collect()
}

/// A comparison; a table only.
pub fn side_by_side(comparison: &Comparison) -> Figure {
    let mut table = Table::new(&["Group", "What", "A", "B", "Differs", "Better"]);
    let cell = |value: &Option<Value>| match value {
        None => Cell::text(""),
        Some(Value::Number(n)) => Cell::number(n, n.to_string()),
        Some(Value::Text(text)) => Cell::text(text),
    };
    for row in &comparison.rows {
        let group = match row.group {
            Group::Run => "run",
            Group::Data => "data",
            Group::Settings => "settings",
            Group::Figures => "figures",
            Group::Cost => "cost",
            Group::Classes => "F1 by class",
        };
        let better = match row.better {
            Some(Better::A) => "A",
            Some(Better::B) => "B",
            None => "",
        };
        table.rows.push(vec![
            Cell::text(group),
            Cell::text(&row.what),
            cell(&row.a),
            cell(&row.b),
            Cell::text(if row.differs { "yes" } else { "no" }),
            Cell::text(better),
        ]);
    }
    Figure { id: "comparison", title: "Comparison".into(), drawing: None, table, has_own_table: false }
}
