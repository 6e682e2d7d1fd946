//! A model card: what a version is made from, how good it is, and what it cannot do, in words that follow from its figures.
//!
//! # Source
//! Mitchell et al., "Model cards for model reporting", 2019

mod limits;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    PreprocessSpec,
    dataset::{ClassCount, DatasetManifest, Derivation, FileDigest},
    interval::wilson,
    model::{Backbone, Doubt, ModelManifest},
    train::{Calibration, ClassMetrics, Promotion, Results, Settings},
};

/// Most classes named in one sentence.
const NAMED: usize = 5;

/// What a version is, how good it is, and what it cannot do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Card {
    /// Registry name.
    pub model: String,
    /// Registry version, from 1.
    pub version: u32,
    /// RFC 3339, UTC.
    pub created: String,
    /// Program and version that made it.
    pub made_by: String,
    /// What it is, in one sentence.
    pub summary: String,
    /// What it is made from.
    pub data: CardData,
    /// How it was made.
    pub training: CardTraining,
    /// How good it is.
    pub metrics: CardMetrics,
    /// How far its probabilities can be believed; absent where that was never found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// When it says that it is unsure; absent where that was never found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// How it compared with the version that was in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
    /// What to keep in mind before relying on it, one sentence each.
    pub limits: Vec<String>,
    /// How a picture becomes its input.
    pub preprocess: PreprocessSpec,
    /// The pretrained network underneath, its licence and its hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone: Option<Backbone>,
    /// Its files, with their hashes.
    pub files: BTreeMap<String, FileDigest>,
}

/// What a version is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CardData {
    /// Id of the dataset; it follows from its content.
    pub dataset: String,
    /// Its name; absent where the dataset has been deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the archive or folder it came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The dataset that it was made from by leaving pictures out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derived_from: Option<Derivation>,
    /// Files of the upload that were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<u64>,
    /// Pictures by class and split, in class-index order; empty where that is no longer known.
    pub classes: Vec<ClassCount>,
    /// Pictures of the dataset whose label is probably wrong.
    pub suspects: u64,
}

/// How a version was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CardTraining {
    /// Id of the run.
    pub run: String,
    /// Every setting of the final fit.
    pub settings: Settings,
    /// Why the search chose them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// What the search tried; 0 where the settings were given.
    pub candidates: u64,
    /// Seconds by stage.
    pub timings: BTreeMap<String, f64>,
    /// What the trainer had to say.
    pub notes: Vec<String>,
}

/// How good a version is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CardMetrics {
    /// On the test split, which nothing before looked at, 0..=1; null where the split is empty.
    pub test_accuracy: Option<f64>,
    /// Test pictures.
    pub test_pictures: u64,
    /// Where the accuracy on such pictures lies with 95 % confidence, 0..=1.
    ///
    /// # Source
    /// Wilson, "Probable inference, the law of succession, and statistical inference", 1927
    pub test_accuracy_interval: Option<[f64; 2]>,
    /// On the validation split, which the choice of settings looked at.
    pub val_accuracy: Option<f64>,
    /// Per class, on the test split.
    pub per_class: Vec<ClassMetrics>,
    /// Test split: row = true class, column = predicted class.
    pub confusion_matrix: Vec<Vec<u64>>,
    /// Trainable and frozen weights together.
    pub parameters: u64,
    /// Length of the network in bytes; 0 where that was not kept.
    pub model_bytes: u64,
    /// Milliseconds a picture takes in native tract on one thread, without decoding; null where it was not measured.
    pub milliseconds_per_picture: Option<f64>,
    /// Largest relative logit difference seen between ONNX Runtime and tract.
    pub engine_difference: f32,
}

impl Card {
    /// Of a version, with what is known of its dataset.
    pub fn of(manifest: &ModelManifest, results: &Results, dataset: Option<&DatasetManifest>) -> Self {
        let classes = match (&manifest.classes, dataset) {
            (classes, Some(dataset)) if classes.is_empty() => dataset.classes.clone(),
            (classes, _) => classes.clone(),
        };
        let tested: u64 = results.confusion_matrix.iter().flatten().sum();
        let right = (0..results.confusion_matrix.len()).filter_map(|n| results.confusion_matrix[n].get(n)).sum();
        let metrics = CardMetrics {
            test_accuracy: results.test_accuracy,
            test_pictures: tested,
            test_accuracy_interval: (tested > 0).then(|| wilson(right, tested)),
            val_accuracy: results.val_accuracy,
            per_class: results.per_class.clone(),
            confusion_matrix: results.confusion_matrix.clone(),
            parameters: results.parameters,
            model_bytes: results.model_bytes,
            milliseconds_per_picture: results.milliseconds_per_picture,
            engine_difference: manifest.engine_difference,
        };
        let data = CardData {
            dataset: manifest.dataset.clone(),
            name: dataset.map(|dataset| dataset.name.clone()),
            source: dataset.map(|dataset| dataset.provenance.source.clone()),
            derived_from: dataset.and_then(|dataset| dataset.provenance.derived_from.clone()),
            rejected: dataset.map(|dataset| dataset.rejected.len() as u64),
            classes,
            suspects: results.suspects.len() as u64,
        };
        let limits = limits::Limits { manifest, results, data: &data, metrics: &metrics }.sentences();
        Self {
            model: manifest.name.clone(),
            version: manifest.version,
            created: manifest.created.clone(),
            made_by: manifest.made_by.clone(),
            summary: summary(manifest),
            training: CardTraining {
                run: manifest.run.clone(),
                settings: results.settings.clone(),
                choice: results.choice.clone(),
                candidates: results.leaderboard.len() as u64,
                timings: results.timings.clone(),
                notes: results.notes.clone(),
            },
            calibration: results.calibration.clone(),
            doubt: manifest.doubt,
            promotion: results.promotion.clone(),
            limits,
            preprocess: manifest.preprocess.clone(),
            backbone: manifest.backbone.clone(),
            files: manifest.files.clone(),
            data,
            metrics,
        }
    }
}

fn summary(manifest: &ModelManifest) -> String {
    let labels: Vec<&str> = manifest.labels.iter().map(String::as_str).collect();
    let over = match &manifest.backbone {
        Some(backbone) => format!("{} over {}", manifest.family.name(), backbone.name),
        None => manifest.family.name().to_owned(),
    };
    format!("Says which of {} classes a picture belongs to: {}. Model family: {over}.", labels.len(), named(&labels))
}

/// `a, b and c`; of many, the first and how many more there are.
fn named(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [before @ .., last] if names.len() <= NAMED => format!("{} and {last}", before.join(", ")),
        _ => format!("{} and {} more", names[..NAMED].join(", "), names.len() - NAMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        made_up::{classes, manifest, results},
        model::DoubtScore,
    };

    fn card() -> Card {
        Card::of(&manifest(), &results(), None)
    }

    #[test]
    fn limits_follow_from_the_figures() {
        let limits = card().limits;
        let expected = [
            "Its accuracy of 87.5 % was measured on 16 test pictures: with 95 % confidence it lies between 64.0 % and 96.5 % \
             on pictures like them.",
            "Its test pictures came in the same upload as its train pictures; pictures of another origin may be harder.",
            "Fewer than 20 train pictures: dog (15).",
            "Fewer than 10 test pictures, so that the figures of the class say little: dog.",
            "The classes are unbalanced: cat has 50 train pictures, dog has 15; in doubt it leans towards large classes.",
            "It finds dog least often: 75.0 % of its 4 test pictures.",
            "It answers with one of its classes whatever a picture shows, and never says that it is unsure.",
            "It sees pictures at 32 × 32 pixels; what is smaller than that is lost.",
        ];
        assert_eq!(limits, expected);
    }

    #[test]
    fn a_model_without_these_limits_does_not_tell_of_them() {
        let (mut manifest, mut results) = (manifest(), results());
        manifest.preprocess = PreprocessSpec::square(224);
        manifest.doubt = Some(Doubt { score: DoubtScore::Energy, unsure_below: 1.0, false_alarms: 0.05 });
        for class in &mut manifest.classes {
            (class.train, class.test) = (100, 20);
        }
        for class in &mut results.per_class {
            class.recall = Some(1.0);
        }
        results.confusion_matrix = vec![vec![20, 0], vec![0, 20]];
        results.test_accuracy = Some(1.0);
        let limits = Card::of(&manifest, &results, None).limits;
        assert_eq!(limits.len(), 3, "{limits:?}");
        assert!(limits[0].contains("between 91.2 % and 100.0 %"), "{limits:?}");
        assert!(limits[2].contains("and 5.0 % of pictures of its classes too"), "{limits:?}");
    }

    #[test]
    fn an_empty_test_split_is_the_first_thing_that_is_said() {
        let (mut manifest, mut results) = (manifest(), results());
        results.test_accuracy = None;
        results.confusion_matrix = vec![vec![0, 0], vec![0, 0]];
        manifest.classes.clear();
        let card = Card::of(&manifest, &results, None);
        assert!(card.limits[0].starts_with("There were no test pictures"), "{:?}", card.limits);
        assert_eq!(card.metrics.test_accuracy_interval, None);
        assert!(card.data.classes.is_empty(), "an old version of a dataset that is gone");
    }

    #[test]
    fn the_summary_names_the_classes_and_what_is_underneath() {
        let summary = card().summary;
        assert_eq!(
            summary,
            "Says which of 2 classes a picture belongs to: cat and dog. Model family: linear over net."
        );
        assert_eq!(named(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
        assert_eq!(card().data.classes, classes());
    }
}
