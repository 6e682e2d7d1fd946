//! What comes out of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EpochMetrics, Settings};
use crate::{dataset::Split, interval::wilson};

/// `results.json`: the original's fields first, then everything else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Results {
    /// Train accuracy of the kept epoch, 0..=1.
    pub accuracy: f64,
    /// Validation accuracy of the kept epoch, 0..=1. Null where the split is empty.
    pub val_accuracy: Option<f64>,
    /// Train loss of the kept epoch.
    pub loss: f64,
    /// Validation loss of the kept epoch. Null where the split is empty.
    pub val_loss: Option<f64>,
    /// What the validation figures rest on; absent where there are none, and in files from before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validated: Option<Validated>,
    /// Settings under the original's names.
    pub model_params: ModelParams,
    /// Accuracy on the test split, which nothing before looked at, 0..=1. Null where the split is empty.
    pub test_accuracy: Option<f64>,
    /// Mean cross-entropy on the test split.
    pub test_loss: Option<f64>,
    /// Labels in class-index order.
    pub labels: Vec<String>,
    /// Per class, on the test split.
    pub per_class: Vec<ClassMetrics>,
    /// Test split: row = true class, column = predicted class.
    pub confusion_matrix: Vec<Vec<u64>>,
    /// Epoch whose weights were kept: the one of the least validation loss, or of the least train loss where there
    /// is no validation split.
    pub best_epoch: u32,
    /// What a person should know about this run, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// One entry per epoch.
    pub curves: Vec<EpochMetrics>,
    /// Seconds by stage.
    pub timings: BTreeMap<String, f64>,
    /// Every setting of the final fit.
    pub settings: Settings,
    /// What the search tried, best first; empty where the settings were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaderboard: Vec<Candidate>,
    /// Why the search chose these settings, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// How far probabilities can be believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Pictures whose label is probably wrong, the surest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<Suspect>,
    /// How many pictures could be suspected; absent in files from before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examined: Option<Examined>,
    /// How the version compared with the one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
    /// Length of the ONNX file in bytes.
    #[serde(default)]
    pub model_bytes: u64,
    /// Milliseconds a picture takes in native tract on one thread, without decoding; null where it was not measured.
    #[serde(default)]
    pub milliseconds_per_picture: Option<f64>,
    /// Trainable and frozen weights together.
    pub parameters: u64,
    /// Id of the dataset.
    pub dataset: String,
    /// Id of the run.
    pub run: String,
    /// Program and version.
    pub made_by: String,
}

/// What validation figures rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Validated {
    /// Pictures that the network was asked about.
    pub pictures: u64,
    /// Parts of the cross-validation that they belong to; 0 where they are the validation split.
    pub folds: u32,
}

/// How many pictures were looked at for a wrong label: those that some network was asked about which was not fitted on
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Examined {
    /// Those.
    pub pictures: u64,
    /// All of train and validation split.
    pub of: u64,
}

/// The original's `model_params`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelParams {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Epochs that ran.
    pub epochs: u32,
    /// Pictures per step.
    pub batch_size: u32,
    /// Name of the optimiser.
    pub optimizer: String,
}

/// How well one class is recognised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClassMetrics {
    /// Label.
    pub label: String,
    /// Of those predicted as this class, the share that is; null where none was predicted.
    pub precision: Option<f64>,
    /// Of those of this class, the share found; null where there is none.
    pub recall: Option<f64>,
    /// Harmonic mean of both; null where either is.
    pub f1: Option<f64>,
    /// Test pictures of this class.
    pub support: u64,
}

/// Precision, recall, F1 and support of every class.
///
/// # Shapes
/// - `confusion`: `[n_classes, n_classes]`, row = true class, column = predicted class
/// - `labels`: `[n_classes]`
pub fn per_class(confusion: &[Vec<u64>], labels: &[String]) -> Vec<ClassMetrics> {
    let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    labels
        .iter()
        .enumerate()
        .map(|(class, label)| {
            let support: u64 = confusion[class].iter().sum();
            let predicted: u64 = confusion.iter().map(|row| row[class]).sum();
            let right = confusion[class][class];
            let (precision, recall) = (ratio(right, predicted), ratio(right, support));
            // 2pr / (p + r) in counts, which stays defined where both are zero.
            let f1 = precision.and(recall).and(ratio(2 * right, predicted + support));
            ClassMetrics { label: label.clone(), precision, recall, f1, support }
        })
        .collect()
}

/// One family with its settings on the search's leaderboard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candidate {
    /// From 1, in the order in which candidates were first tried.
    pub number: u32,
    /// What it would be fitted with.
    pub settings: Settings,
    /// Where it stands.
    pub state: CandidateState,
    /// Rounds of the search that it took part in, each with more training than the one before.
    pub rounds: u32,
    /// Parts of the cross-validation that its figures are means of; 0 where the validation split gave them.
    pub folds: u32,
    /// Share of pictures classified rightly that it was not fitted on, 0..=1; null before its first round has ended.
    pub val_accuracy: Option<f64>,
    /// Mean cross-entropy of those pictures.
    pub val_loss: Option<f64>,
    /// How many those pictures are; 0 before its first round has ended, and in files from before this was kept.
    #[serde(default)]
    pub pictures: u64,
    /// Multiply-adds that the published network would take for a picture; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiply_adds: Option<u64>,
    /// What it has cost.
    pub seconds: f64,
    /// Why it was dropped or failed, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a leaderboard is ordered, for people.
pub const ORDER: &str = "Best first: compared by cross-entropy, picture by picture, on the pictures that both were asked \
    about, so that a higher accuracy on other pictures may stand below; the chosen one leads.";

impl Candidate {
    /// Where its accuracy on such pictures lies with 95 % confidence, 0..=1; nothing where it is not known of how many
    /// pictures its figures are.
    pub fn accuracy_interval(&self) -> Option<[f64; 2]> {
        let accuracy = self.val_accuracy.filter(|_| self.pictures > 0)?;
        Some(wilson((accuracy * self.pictures as f64).round() as u64, self.pictures))
    }
}

/// Where a candidate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CandidateState {
    /// Is being fitted.
    Running,
    /// Has figures, and may take part in the next round.
    Tried,
    /// Others were better, or the budget was spent.
    Dropped,
    /// Could not be fitted.
    Failed,
    /// Was fitted again, on all there is, and published.
    Chosen,
    /// Was being fitted when the run ended.
    Unfinished,
}

impl CandidateState {
    /// As written in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Tried => "tried",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Chosen => "chosen",
            Self::Unfinished => "unfinished",
        }
    }
}

/// How far a model's probabilities can be believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Calibration {
    /// By which the published network divides its logits.
    ///
    /// # Source
    /// Guo et al., "On calibration of modern neural networks", 2017
    pub temperature: f64,
    /// Pictures outside the fit that the temperature was found on.
    pub pictures: u64,
    /// Expected calibration error of those pictures before and after, 0..=1.
    pub ece_before: f64,
    /// After.
    pub ece_after: f64,
    /// Expected calibration error on the test split, as published; null where the split is empty.
    pub test_ece: Option<f64>,
    /// Reliability of the test split in equal bins of confidence; empty bins are left out.
    pub bins: Vec<Bin>,
    /// When the model says that it is unsure; null where there is too little to find it on.
    pub doubt: Option<crate::model::Doubt>,
    /// Share of the test split that the model is unsure about; null where the split is empty.
    pub test_unsure: Option<f64>,
}

/// Predictions of about the same confidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Bin {
    /// Least confidence that belongs here; the next bin's is where it ends.
    pub from: f64,
    /// Mean confidence.
    pub confidence: f64,
    /// Share that is right.
    pub accuracy: f64,
    /// How many.
    pub count: u64,
}

/// A picture whose label is probably wrong: models that were not fitted on it agree on another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Suspect {
    /// The part of the dataset.
    pub split: Split,
    /// Row in the split.
    pub row: u64,
    /// Path inside the upload.
    pub name: String,
    /// Label it has.
    pub label: String,
    /// Label it probably should have.
    pub suggested: String,
    /// Probability of the suggested label, 0..=1.
    pub probability: f64,
}

/// How a new version compared with the one in use, and what followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Promotion {
    /// The version in use; null where there was none.
    pub compared_with: Option<u32>,
    /// Test pictures that both were asked about: those that neither was fitted on.
    pub pictures: u64,
    /// Accuracy of the version in use on them, 0..=1; null where nothing could be compared.
    pub present_accuracy: Option<f64>,
    /// Accuracy of the new version on them.
    pub new_accuracy: Option<f64>,
    /// By how much the new one may be worse, 0..=1.
    pub margin: f64,
    /// The gate's verdict: whether the new version may take the place; absent in files from before it was kept, see
    /// [`Promotion::has_passed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// Whether the new version came into use by itself; in a cluster a person publishes what passed.
    pub promoted: bool,
    /// Why, in one sentence with the numbers.
    pub reason: String,
}

impl Promotion {
    /// The gate's verdict, whatever followed; where the file does not have it, worked out from its figures as the gate does.
    pub fn has_passed(&self) -> bool {
        let is_good_enough = || match (self.present_accuracy, self.new_accuracy) {
            (Some(present), Some(new)) => new >= present - self.margin - 1e-9,
            _ => true,
        };
        self.passed.unwrap_or_else(|| self.promoted || is_good_enough())
    }
}

/// One line of `predictions.jsonl`: what a picture of the dataset is taken for. Lines stand in the order of rows: train,
/// validation, test.
///
/// The published network says it, except where it was fitted on the picture and cross-validation left it out of a fit:
/// then that fit says it, the chosen candidate's where there is one, else that of the best other candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PicturePrediction {
    /// The part of the dataset.
    pub split: Split,
    /// Row in the split.
    pub row: u64,
    /// Path inside the upload.
    pub name: String,
    /// Class index that it has.
    pub label: u32,
    /// Class index that it was taken for.
    pub predicted: u32,
    /// Of every class, in class-index order; 0..=1, calibrated.
    pub probabilities: Vec<f32>,
    /// Whether the model says that it is unsure: the chosen candidate's fit, else the published network.
    #[serde(default)]
    pub unsure: bool,
    /// Whether the network that says it was not fitted on the picture.
    #[serde(default)]
    pub held_out: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gate_decided_is_known_of_old_files_too() {
        let old = |promoted: bool, accuracies: &str| -> Promotion {
            let text = format!(
                r#"{{"compared_with": 2, "pictures": 50, {accuracies}, "margin": 0.02, "promoted": {promoted}, "reason": ""}}"#
            );
            serde_json::from_str(&text).expect("an old file")
        };
        let figures = |present: f64, new: f64| format!(r#""present_accuracy": {present}, "new_accuracy": {new}"#);
        let none = r#""present_accuracy": null, "new_accuracy": null"#;
        assert!(old(true, none).has_passed() && old(false, none).has_passed());
        assert!(old(false, &figures(0.9, 0.88)).has_passed(), "held in the registry for a person to publish");
        assert!(!old(false, &figures(0.9, 0.86)).has_passed());
        assert!(!Promotion { passed: Some(false), ..old(true, none) }.has_passed());
    }

    #[test]
    fn classes_nobody_has_or_predicts_have_no_figures_instead_of_zero() {
        let labels = ["a", "b", "c"].map(String::from);
        let metrics = per_class(&[vec![3, 1, 0], vec![1, 0, 0], vec![0, 0, 0]], &labels);
        let figures = |m: &ClassMetrics| (m.precision, m.recall, m.f1, m.support);
        assert_eq!(figures(&metrics[0]), (Some(0.75), Some(0.75), Some(0.75), 4));
        assert_eq!(figures(&metrics[1]), (Some(0.0), Some(0.0), Some(0.0), 1));
        assert_eq!(figures(&metrics[2]), (None, None, None, 0));
    }
}
