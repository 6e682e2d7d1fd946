//! The card of a model version.

use api::card;
use askama::Template;

use super::Charts;
use crate::{chart::Figure, words};

/// `/models/{name}/{version}`.
#[derive(Template)]
#[template(path = "card.html")]
pub struct Card {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// What is known of the version.
    pub card: card::Card,
    /// Its part of the requests in percent.
    pub percent: u32,
    /// Whether the run that it came of is still there.
    pub has_run: bool,
    /// Whether the dataset that its dataset was made of is still there.
    pub has_origin: bool,
    /// What its files take on the disk.
    pub bytes: u64,
    /// How many pictures each class has.
    pub balance: Option<Figure>,
    /// Confusion matrix.
    pub confusion: Option<Figure>,
    /// Figures by class.
    pub per_class: Figure,
    /// Reliability of the probabilities.
    pub reliability: Option<Figure>,
    /// Settings by name.
    pub settings: Vec<(&'static str, String)>,
    /// Where charts are saved from.
    pub charts: Charts,
}

impl Card {
    fn engine_difference(&self) -> f64 {
        f64::from(self.card.metrics.engine_difference)
    }

    /// The accuracy and where it lies with 95 % confidence.
    fn accuracy(&self) -> String {
        let metrics = &self.card.metrics;
        match (metrics.test_accuracy, metrics.test_accuracy_interval) {
            (Some(accuracy), Some([from, to])) => format!(
                "{} (95 % confidence: {} to {}) on {}",
                words::percent(accuracy),
                words::percent(from),
                words::percent(to),
                words::count(metrics.test_pictures, "test picture", "test pictures")
            ),
            (Some(accuracy), None) => words::percent(accuracy),
            (None, _) => "not tested".into(),
        }
    }
}
