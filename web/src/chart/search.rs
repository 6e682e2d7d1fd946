//! What a search's candidates traded: resolution and cost against accuracy.

use api::train::{Candidate, Family};

use super::{
    Cell, Figure, Table,
    plot::{Draft, Series, SeriesKind},
    scale::Scale,
};
use crate::words;

/// Accuracy outside the fit over the side that the network sees, by family.
pub fn trade(candidates: &[Candidate]) -> Figure {
    let of = |family: Family| {
        let mine = candidates.iter().filter(move |candidate| candidate.settings.family == family);
        mine.filter_map(|candidate| Some((f64::from(candidate.settings.input_size), candidate.val_accuracy?)))
    };
    let series = Family::ALL.into_iter().map(|family| Series {
        name: words::family_short(family),
        points: of(family).collect(),
        kind: SeriesKind::Dots,
    });
    let sides = candidates.iter().map(|candidate| f64::from(candidate.settings.input_size));
    let title = "Accuracy by resolution";
    let draft = Draft {
        id: "search",
        title,
        x: Scale::from_zero("side that the network sees, in pixels", sides),
        y: Scale::shares("validation accuracy in %", candidates.iter().filter_map(|one| one.val_accuracy)),
        series: series.filter(|series| !series.points.is_empty()).collect(),
        has_diagonal: false,
        kept: None,
        description: description(candidates),
    };
    Figure { id: "search", title: title.into(), drawing: draft.draw(), table: table(candidates), has_own_table: false }
}

fn description(candidates: &[Candidate]) -> String {
    let best = candidates.iter().filter_map(|one| Some((one.val_accuracy?, one)));
    match best.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((accuracy, best)) => format!(
            "{}; the best is {} at {} pixels with {}",
            words::count(candidates.len() as u64, "candidate", "candidates"),
            words::family_short(best.settings.family),
            best.settings.input_size,
            words::percent(accuracy)
        ),
        None => "no candidate has figures yet".into(),
    }
}

fn table(candidates: &[Candidate]) -> Table {
    let mut table = Table::new(&[
        "Candidate",
        "Family",
        "Backbone",
        "Side in pixels",
        "Learning rate",
        "Epochs",
        "Validation accuracy",
        "Validation loss",
        "Folds",
        "Rounds",
        "Seconds",
        "State",
        "Reason",
    ]);
    for one in candidates {
        let settings = &one.settings;
        table.rows.push(vec![
            Cell::count(one.number.into()),
            Cell::text(settings.family.name()),
            Cell::text(settings.backbone.as_deref().unwrap_or_default()),
            Cell::count(settings.input_size.into()),
            Cell::number(settings.learning_rate, settings.learning_rate.to_string()),
            Cell::count(settings.epochs.into()),
            Cell::maybe(one.val_accuracy, words::percent),
            Cell::maybe(one.val_loss, |loss| format!("{loss:.4}")),
            Cell::count(one.folds.into()),
            Cell::count(one.rounds.into()),
            Cell::number(one.seconds, words::seconds(one.seconds)),
            Cell::text(words::candidate(one.state)),
            Cell::text(one.reason.as_deref().unwrap_or_default()),
        ]);
    }
    table
}
