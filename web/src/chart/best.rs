//! How good the search's candidates are while it goes on.

use super::{
    Cell, Figure, Table,
    plot::{Draft, Series, SeriesKind},
    scale::Scale,
};
use crate::{live::Trial, words};

/// Each trial's accuracy outside its fit, and the best candidate's by then, over time; none before the first trial has
/// ended.
pub fn best(trials: &[Trial]) -> Option<Figure> {
    let last = trials.last()?;
    let mut table = Table::new(&["Seconds", "Candidate", "Family", "Validation accuracy", "Best so far"]);
    for trial in trials {
        let share = |value: f64| Cell::number(value, words::percent(value));
        table.rows.push(vec![
            Cell::number(trial.seconds, format!("{:.1}", trial.seconds)),
            Cell::count(trial.candidate.number.into()),
            Cell::text(words::family_short(trial.candidate.settings.family)),
            share(trial.accuracy),
            share(trial.best),
        ]);
    }
    let mut steps: Vec<(f64, f64)> = vec![];
    for trial in trials {
        // The best one is it until another one is.
        steps.extend(steps.last().map(|(_, best)| (trial.seconds, *best)));
        steps.push((trial.seconds, trial.best));
    }
    let dots = trials.iter().map(|trial| (trial.seconds, trial.accuracy)).collect();
    let title = "Best accuracy so far";
    let draft = Draft {
        id: "best",
        title,
        x: Scale::from_zero("seconds since the run began", trials.iter().map(|trial| trial.seconds)),
        y: Scale::shares("validation accuracy in %", trials.iter().map(|trial| trial.accuracy)),
        series: vec![
            Series { name: "best so far", points: steps, kind: SeriesKind::Line },
            Series { name: "each trial", points: dots, kind: SeriesKind::Dots },
        ],
        has_diagonal: false,
        kept: None,
        description: format!(
            "{} after {} and {}",
            words::percent(last.best),
            words::count(trials.len() as u64, "trial", "trials"),
            words::seconds(last.seconds)
        ),
    };
    Some(Figure { id: "best", title: title.into(), drawing: Some(draft.draw()?), table, has_own_table: true })
}
