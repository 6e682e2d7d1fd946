//! How far probabilities can be believed.

use api::train::Calibration;

use super::{
    Cell, Figure, Table,
    plot::{Draft, Series, SeriesKind},
    scale::{Kind, Scale},
};
use crate::words;

/// Accuracy over confidence on the test split; the diagonal is where both are equal. None where nothing was tested.
pub fn reliability(calibration: &Calibration) -> Option<Figure> {
    let mut table = Table::new(&["Confidence from", "Mean confidence", "Accuracy", "Pictures"]);
    for bin in &calibration.bins {
        let share = |value: f64| Cell::number(value, words::percent(value));
        table.rows.push(vec![share(bin.from), share(bin.confidence), share(bin.accuracy), Cell::count(bin.count)]);
    }
    let title = "Reliability";
    let all = |label| Scale { label, least: 0.0, step: 0.25, n: 4, kind: Kind::Percent };
    let points = calibration.bins.iter().map(|bin| (bin.confidence, bin.accuracy)).collect();
    let drawing = Draft {
        id: "reliability",
        title,
        x: all("confidence in %"),
        y: all("accuracy in %"),
        series: vec![Series { name: "test pictures", points, kind: SeriesKind::Stems }],
        has_diagonal: true,
        kept: None,
        description: description(calibration),
    };
    let drawing = Some(drawing.draw()?);
    Some(Figure { id: "reliability", title: title.into(), drawing, table, has_own_table: true })
}

fn description(calibration: &Calibration) -> String {
    let furthest = calibration
        .bins
        .iter()
        .max_by(|a, b| (a.confidence - a.accuracy).abs().total_cmp(&(b.confidence - b.accuracy).abs()));
    let furthest = furthest.map(|bin| {
        format!(
            "; furthest apart at a confidence of {}, where {} are right",
            words::percent(bin.confidence),
            words::percent(bin.accuracy)
        )
    });
    format!(
        "accuracy over confidence in {}{}",
        words::count(calibration.bins.len() as u64, "bin", "bins"),
        furthest.unwrap_or_default()
    )
}
