//! The page of a run: live, then with what came out.

use api::train::{Candidate, Results, Settings, Suspect};
use askama::Template;

use super::Charts;
use crate::{chart::Figure, functions::Usage, live::Live, runs::RunView, words};

/// `/runs/{id}`.
#[derive(Template)]
#[template(path = "run.html")]
pub struct Run {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// The run.
    pub run: RunView,
    /// Why the label was not taken.
    pub label_error: Option<String>,
    /// Name of its dataset, where that is still there.
    pub dataset_name: Option<String>,
    /// Whether the run that it repeats is still there.
    pub has_original: bool,
    /// How far it is.
    pub live: Live,
    /// What the search tried, best first.
    pub candidates: Vec<Candidate>,
    /// How good the search's candidates are by now.
    pub best: Option<Figure>,
    /// What its epochs came to.
    pub curves: Vec<Figure>,
    /// Where charts are saved from.
    pub charts: Charts,
    /// What came out.
    pub outcome: Option<Outcome>,
    /// Last lines of the trainer's log, where the run did not succeed.
    pub log: String,
}

impl Run {
    /// Its name, or its id.
    fn title(&self) -> String {
        title(&self.run)
    }

    /// Suspects in all, shown or not.
    fn n_suspects(&self) -> usize {
        self.outcome.as_ref().map_or(0, |outcome| outcome.results.suspects.len())
    }

    /// The dataset that suspects can be left out of.
    fn derivable(&self) -> Option<&str> {
        self.dataset_name.is_some().then_some(&self.run.dataset)
    }

    /// Whether the gate would keep the version out of use.
    fn was_held_back(&self) -> bool {
        let gate = self.outcome.as_ref().and_then(|outcome| outcome.results.promotion.as_ref());
        gate.is_some_and(|gate| !gate.has_passed())
    }
}

/// A run's name, or its id.
pub fn title(run: &RunView) -> String {
    if run.label.name.is_empty() { format!("Run {}", run.id) } else { run.label.name.clone() }
}

/// What a successful run has to show.
pub struct Outcome {
    /// Its results.
    pub results: Results,
    /// What the version is used for.
    pub usage: Usage,
    /// Whether the version is still there.
    pub version_exists: bool,
    /// Accuracy by resolution and by work, where candidates differ in it.
    pub search: Vec<Figure>,
    /// Confusion matrix.
    pub confusion: Option<Figure>,
    /// Figures by class.
    pub per_class: Figure,
    /// Reliability of the probabilities.
    pub reliability: Option<Figure>,
    /// Whether pictures can be shown behind the numbers.
    pub has_predictions: bool,
    /// The surest wrong answers on test pictures.
    pub mistakes: Vec<ShownPicture>,
    /// Pictures whose label is probably wrong.
    pub suspects: Vec<ShownSuspect>,
    /// Settings by name.
    pub settings: Vec<(&'static str, String)>,
}

/// A picture with what it is and what it was taken for.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownPicture {
    /// Where its pixels are; none where the dataset is gone.
    pub url: Option<String>,
    /// Path inside the upload.
    pub name: String,
    /// Its label.
    pub truth: String,
    /// The label it was given.
    pub predicted: String,
    /// Of the label it was given.
    pub probability: f32,
    /// Of its own label.
    pub probability_of_truth: f32,
    /// Whether the model says that it is unsure.
    pub is_unsure: bool,
    /// Whether the model that says so was fitted on it.
    pub is_fitted: bool,
}

impl ShownPicture {
    /// Whether it was taken for what it is.
    pub fn is_right(&self) -> bool {
        self.truth == self.predicted
    }
}

/// A suspect and its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownSuspect {
    /// Where its pixels are; none where the dataset is gone.
    pub url: Option<String>,
    /// The suspect.
    pub suspect: Suspect,
}

/// The part of `/runs/{id}` that changes.
#[derive(Template)]
#[template(path = "run_live.html")]
pub struct RunLive {
    /// How far it is.
    pub live: Live,
    /// What the search has tried, best first.
    pub candidates: Vec<Candidate>,
    /// How good the search's candidates are by now.
    pub best: Option<Figure>,
    /// What its epochs came to.
    pub curves: Vec<Figure>,
    /// Where charts are saved from.
    pub charts: Charts,
}

/// A run's settings by name, those that mean something to its family.
pub fn settings(results: &Results) -> Vec<(&'static str, String)> {
    let Settings { family, backbone, .. } = &results.settings;
    let s = &results.settings;
    let on = |value: f64, off: &str| if value == 0.0 { off.to_owned() } else { value.to_string() };
    let mut rows = vec![("Family", words::family(family).to_owned())];
    rows.extend(backbone.clone().map(|name| ("Backbone", name)));
    rows.push(("Side that the network sees", format!("{} pixels", s.input_size)));
    rows.push(("Epochs", format!("{} of at most {}", results.model_params.epochs, s.epochs)));
    rows.push(("Batch size", s.batch_size.to_string()));
    rows.push(("Peak learning rate", s.learning_rate.to_string()));
    rows.push(("Weight decay", s.weight_decay.to_string()));
    rows.push(("Dropout", s.dropout.to_string()));
    rows.push(("Random changes (augmentation)", words::augmentation(s.augmentation).to_owned()));
    rows.push(("Label smoothing", on(s.label_smoothing, "none")));
    rows.push(("Mixup", on(s.mixup, "none")));
    rows.push(("Longest gradient (gradient clipping)", on(s.clip_norm, "any")));
    rows.push(("Average of weights (EMA)", on(s.weight_average, "none")));
    if s.hidden_units > 0 {
        rows.push(("Hidden units", s.hidden_units.to_string()));
    }
    if s.trained_blocks > 0 {
        rows.push(("Trained blocks", s.trained_blocks.to_string()));
    }
    rows.push(("Looks at the mirrored picture too", if s.mirrored { "yes" } else { "no" }.into()));
    rows.push(("Patience", if s.patience == 0 { "never stops early".into() } else { s.patience.to_string() }));
    rows.push(("Seed", s.seed.to_string()));
    rows.push(("Optimiser", results.model_params.optimizer.clone()));
    rows.push(("Weights", words::thousands(results.parameters)));
    rows
}

fn label(labels: &[String], index: &usize) -> String {
    labels.get(*index).cloned().unwrap_or_default()
}

fn sum(row: &[u64]) -> u64 {
    row.iter().sum()
}
