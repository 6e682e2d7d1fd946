//! What a search's candidates traded: resolution and cost against accuracy.

use api::train::{Candidate, Family};

use super::{
    Cell, Figure, Table,
    plot::{Draft, Series, SeriesKind},
    scale::Scale,
};
use crate::words;

/// The charts in which the candidates differ.
pub fn search(candidates: &[Candidate]) -> Vec<Figure> {
    let differ = |value: fn(&Candidate) -> Option<u64>| {
        let mut values = candidates.iter().filter(|one| one.val_accuracy.is_some()).filter_map(value);
        values.next().is_some_and(|first| values.any(|other| other != first))
    };
    let by_resolution = differ(|one| Some(one.settings.input_size.into())).then(|| by_resolution(candidates));
    let by_work = differ(|one| one.multiply_adds).then(|| by_work(candidates));
    by_resolution.into_iter().chain(by_work).collect()
}

/// Accuracy outside the fit over the side that the network sees, by family.
pub fn by_resolution(candidates: &[Candidate]) -> Figure {
    let trade = Trade {
        id: "search",
        title: "Accuracy by resolution",
        x: "side that the network sees, in pixels",
        value: |one| Some(one.settings.input_size.into()),
    };
    trade.figure(candidates)
}

/// Accuracy outside the fit over the multiply-adds that an answer takes, by family.
pub fn by_work(candidates: &[Candidate]) -> Figure {
    let trade = Trade {
        id: "work",
        title: "Accuracy by work",
        x: "multiply-adds for a picture, in millions",
        value: |one| Some(one.multiply_adds? as f64 / 1e6),
    };
    trade.figure(candidates)
}

/// What accuracy is shown against.
struct Trade {
    id: &'static str,
    title: &'static str,
    x: &'static str,
    value: fn(&Candidate) -> Option<f64>,
}

impl Trade {
    fn figure(self, candidates: &[Candidate]) -> Figure {
        let Self { id, title, x, value } = self;
        let of = |family: Family| {
            let mine = candidates.iter().filter(move |candidate| candidate.settings.family == family);
            mine.filter_map(move |candidate| Some((value(candidate)?, candidate.val_accuracy?)))
        };
        let series = Family::ALL.into_iter().map(|family| Series {
            name: words::family_short(family),
            points: of(family).collect(),
            kind: SeriesKind::Dots,
        });
        let draft = Draft {
            id,
            title,
            x: Scale::from_zero(x, candidates.iter().filter_map(value)),
            y: Scale::shares("validation accuracy in %", candidates.iter().filter_map(|one| one.val_accuracy)),
            series: series.filter(|series| !series.points.is_empty()).collect(),
            has_diagonal: false,
            kept: None,
            description: description(candidates),
        };
        Figure { id, title: title.into(), drawing: draft.draw(), table: table(candidates), has_own_table: false }
    }
}

fn description(candidates: &[Candidate]) -> String {
    let best = candidates.iter().filter_map(|one| Some((one.val_accuracy?, one)));
    match best.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((accuracy, best)) => format!(
            "{}; the most accurate is {} at {} pixels with {}, {} multiply-adds for a picture",
            words::count(candidates.len() as u64, "candidate", "candidates"),
            words::family_short(best.settings.family),
            best.settings.input_size,
            words::percent(accuracy),
            words::work(best.multiply_adds)
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
        "Multiply-adds for a picture",
        "Validation accuracy",
        "At least (95 % confidence)",
        "At most (95 % confidence)",
        "Pictures",
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
            Cell::maybe(one.multiply_adds.map(|n| n as f64), |n| words::thousands(n as u64)),
            Cell::maybe(one.val_accuracy, words::percent),
            Cell::maybe(one.accuracy_interval().map(|[least, _]| least), words::percent),
            Cell::maybe(one.accuracy_interval().map(|[_, most]| most), words::percent),
            Cell::count(one.pictures),
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
