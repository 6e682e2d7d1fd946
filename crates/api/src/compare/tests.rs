//! What a comparison marks, and what it does not.

use super::*;
use crate::{
    made_up::{classes, results, spec},
    train::{Candidate, Family, Hyperparameters},
};

fn compared<'a>(spec: &'a RunSpec, results: Option<&'a Results>) -> Compared<'a> {
    Compared { spec, name: "", state: RunState::Succeeded, results, classes: None }
}

#[track_caller]
fn row<'a>(comparison: &'a Comparison, what: &str) -> &'a Row {
    comparison.rows.iter().find(|row| row.what == what).unwrap_or_else(|| panic!("no row {what}"))
}

#[test]
fn what_differs_is_marked_and_so_is_the_better_one() {
    let (spec, a, mut b) = (spec(), results(), results());
    b.test_accuracy = Some(0.75);
    b.test_loss = Some(0.1);
    b.settings = Settings { dropout: 0.5, ..Settings::defaults(Family::Linear, 32) };
    b.milliseconds_per_picture = Some(70.0);
    let comparison = compare(compared(&spec, Some(&a)), compared(&spec, Some(&b)));
    let marks = |what| (row(&comparison, what).differs, row(&comparison, what).better);
    assert_eq!(marks("test_accuracy"), (true, Some(Better::A)));
    assert_eq!(marks("test_loss"), (true, Some(Better::B)));
    assert_eq!(marks("val_accuracy"), (false, None));
    assert_eq!(marks("milliseconds_per_picture"), (true, Some(Better::A)));
    assert_eq!(marks("dropout"), (true, None), "no setting is better than another by itself");
    assert_eq!(row(&comparison, "backbone").a, None);
    assert_eq!(row(&comparison, "cat").unit, Unit::Share);
    assert!(comparison.rows.iter().all(|row| row.what != "trained_blocks"), "neither has such blocks");
    assert_eq!(comparison.notes, ["Their test accuracies are 2 of 16 test pictures apart."]);
}

#[test]
fn figures_of_different_pictures_are_not_ranked() {
    let (first, a, mut b) = (spec(), results(), results());
    b.test_accuracy = Some(0.25);
    let second = RunSpec { dataset: "ds-2".into(), ..spec() };
    let comparison = compare(compared(&first, Some(&a)), compared(&second, Some(&b)));
    assert!(row(&comparison, "test_accuracy").differs);
    assert_eq!(row(&comparison, "test_accuracy").better, None);
    assert!(comparison.notes[0].contains("not of the same pictures"), "{:?}", comparison.notes);
}

#[test]
fn validation_figures_of_different_trials_are_not_ranked() {
    let chosen = |folds, rounds| {
        let mut results = results();
        results.curves.iter_mut().for_each(|epoch| (epoch.val_accuracy, epoch.val_loss) = (None, None));
        results.leaderboard = vec![Candidate {
            number: 1,
            settings: Settings::defaults(Family::Cnn, 32),
            state: CandidateState::Chosen,
            rounds,
            folds,
            val_accuracy: Some(0.5),
            val_loss: Some(1.0),
            pictures: 40,
            multiply_adds: None,
            seconds: 1.0,
            reason: None,
        }];
        results
    };
    let (spec, split) = (spec(), results());
    let mut better = results();
    (better.val_accuracy, better.val_loss) = (Some(0.99), Some(0.01));
    let compared_with = |other: &Results| {
        let mut other = other.clone();
        (other.val_accuracy, other.val_loss, other.test_accuracy) = (Some(0.125), Some(9.0), Some(0.125));
        let comparison = compare(compared(&spec, Some(&better)), compared(&spec, Some(&other)));
        let better = ["val_accuracy", "val_loss", "test_accuracy"].map(|what| row(&comparison, what).better);
        (better, comparison.notes.last().cloned().unwrap_or_default())
    };
    assert_eq!(compared_with(&split).0, [Some(Better::A); 3]);
    let (marks, note) = compared_with(&chosen(5, 2));
    assert_eq!(marks, [None, None, Some(Better::A)]);
    assert!(note.contains("the first run are of the validation split, those of the second of 5 parts of a"), "{note}");
    for (a, b, ranked) in [((5, 1), (5, 1), true), ((5, 1), (5, 2), false), ((5, 1), (3, 1), false)] {
        let (a, b) = (chosen(a.0, a.1), Results { val_loss: Some(9.0), ..chosen(b.0, b.1) });
        let comparison = compare(compared(&spec, Some(&a)), compared(&spec, Some(&b)));
        assert_eq!(row(&comparison, "val_loss").better.is_some(), ranked);
    }
}

#[test]
fn a_run_without_results_is_compared_by_what_was_asked_for() {
    let asked = Hyperparameters { family: Some(Family::Cnn), ..Default::default() };
    let (first, second, a, counts) = (spec(), RunSpec { hyperparameters: asked, ..spec() }, results(), classes());
    let waiting = Compared { state: RunState::Queued, classes: Some(&counts), ..compared(&second, None) };
    let comparison = compare(compared(&first, Some(&a)), waiting);
    assert_eq!(row(&comparison, "asked_for").a, Some(Value::Text("auto".into())));
    assert_eq!(row(&comparison, "asked_for").b, Some(Value::Text("cnn".into())));
    assert_eq!(row(&comparison, "train").b, Some(Value::Number(65.0)));
    let accuracy = row(&comparison, "test_accuracy");
    assert_eq!((accuracy.a.is_some(), &accuracy.b, accuracy.better), (true, &None, None));
    let differing: Vec<_> = comparison.rows.iter().filter(|row| row.differs).map(|row| row.what.as_str()).collect();
    assert_eq!(differing, ["asked_for"], "what is not known yet is no difference");
    assert_eq!(comparison.notes, ["The second run has no results, so only what was asked for is compared."]);
    assert_eq!(compare(waiting, waiting).rows.iter().filter(|row| row.differs).count(), 0);
}
