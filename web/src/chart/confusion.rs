//! Which classes are taken for which, and how well each is recognised.

use api::train::{ClassMetrics, Results};

use super::{Cell, Drawing, Figure, Table, matrix::Matrix};
use crate::words;

/// The confusion matrix; none where nothing was tested.
pub fn confusion(results: &Results) -> Option<Figure> {
    results.test_accuracy?;
    let labels = &results.labels;
    let mut table = Table { head: vec!["True class".into()], rows: vec![] };
    table.head.extend(labels.iter().map(|label| format!("taken for {label}")));
    for (label, row) in labels.iter().zip(&results.confusion_matrix) {
        table.rows.push([Cell::text(label)].into_iter().chain(row.iter().map(|n| Cell::count(*n))).collect());
    }
    let title = "Confusion matrix";
    let matrix = Matrix::new("confusion-matrix", title, description(results), labels, &results.confusion_matrix);
    let drawing = Some(Drawing::Matrix(matrix));
    Some(Figure { id: "confusion-matrix", title: title.into(), drawing, table, has_own_table: true })
}

fn description(results: &Results) -> String {
    let cells = results.confusion_matrix.iter().enumerate().flat_map(|(truth, row)| {
        row.iter().enumerate().filter(move |(taken, _)| *taken != truth).map(move |(taken, n)| (*n, truth, taken))
    });
    let label = |n: usize| results.labels.get(n).map(String::as_str).unwrap_or_default();
    match cells.max_by_key(|(n, ..)| *n).filter(|(n, ..)| *n > 0) {
        Some((n, truth, taken)) => {
            format!("the most frequent confusion is {} taken for {}, {n} times", label(truth), label(taken))
        }
        None => "no picture was taken for another class".into(),
    }
}

/// Every class' figures; a table only.
pub fn per_class(classes: &[ClassMetrics]) -> Figure {
    let mut table = Table::new(&["Class", "Precision", "Recall", "F1", "Test pictures"]);
    for class in classes {
        let share = |value| Cell::maybe(value, words::percent);
        let shares = [class.precision, class.recall, class.f1].map(share);
        let cells = [Cell::text(&class.label)].into_iter().chain(shares).chain([Cell::count(class.support)]);
        table.rows.push(cells.collect());
    }
    Figure { id: "per-class", title: "Per class".into(), drawing: None, table, has_own_table: false }
}
