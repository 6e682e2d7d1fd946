//! `manifest.json` of a model version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    PreprocessSpec,
    dataset::{ClassCount, FileDigest},
    train::Family,
};

/// Version of the manifest's layout.
pub const SCHEMA: u32 = 1;

/// File name of the network inside a version's folder.
pub const MODEL_FILE: &str = "model.onnx";

/// Name of the graph's input: u8 `[N, height, width, 3]`, upright RGB.
pub const INPUT: &str = "images";

/// Name of the graph's output: f32 `[N, n_classes]`.
pub const OUTPUT: &str = "logits";

/// Largest difference of a logit between two engines on the same pixels that still counts as agreement:
/// relative to the larger of 1 and the row's largest absolute logit.
pub const LOGIT_TOLERANCE: f32 = 1e-3;

/// What a model version is and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelManifest {
    /// Layout version, see [`SCHEMA`].
    pub schema: u32,
    /// Registry name.
    pub name: String,
    /// Registry version, from 1.
    pub version: u32,
    /// RFC 3339, UTC.
    pub created: String,
    /// In class-index order.
    pub labels: Vec<String>,
    /// How a picture becomes the graph's input.
    pub preprocess: PreprocessSpec,
    /// What was trained.
    pub family: Family,
    /// The frozen network underneath, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<Backbone>,
    /// Figures from the run.
    pub metrics: Metrics,
    /// When an answer is marked as unsure; absent where that was never found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// Pictures it was made from, by class and split, in class-index order; empty in versions from before this was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassCount>,
    /// Id of the dataset.
    pub dataset: String,
    /// Id of the run.
    pub run: String,
    /// Largest relative logit difference seen between ONNX Runtime and tract before publishing.
    pub engine_difference: f32,
    /// Program and version that made the model.
    pub made_by: String,
    /// Every other file of the version.
    pub files: BTreeMap<String, FileDigest>,
}

/// A pretrained network that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Backbone {
    /// Its name.
    pub name: String,
    /// SPDX identifier of its weights' licence.
    pub licence: String,
    /// SHA-256 of its weights file, 64 hex digits.
    pub sha256: String,
}

/// When a model says that it is unsure: its picture may belong to none of the classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Doubt {
    /// What is looked at.
    pub score: DoubtScore,
    /// An answer with a score below this is marked as unsure.
    pub unsure_below: f32,
    /// Share of pictures of the classes, outside the fit, that are marked so, 0..=1.
    pub false_alarms: f32,
}

impl Doubt {
    /// Whether an answer with these logits is marked as unsure.
    pub fn marks(&self, logits: &[f32]) -> bool {
        self.score.of(logits) < self.unsure_below
    }
}

/// A number that is high for pictures like those the model was fitted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DoubtScore {
    /// The largest probability.
    Confidence,
    /// The logarithm of the sum of the logits' exponentials.
    ///
    /// # Source
    /// Liu et al., "Energy-based out-of-distribution detection", 2020
    Energy,
}

impl DoubtScore {
    /// The score of one picture's logits.
    pub fn of(self, logits: &[f32]) -> f32 {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
        match self {
            Self::Confidence => 1.0 / sum,
            Self::Energy => most + sum.ln(),
        }
    }
}

/// Figures of a version, 0..=1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Metrics {
    /// On the train split.
    pub accuracy: f64,
    /// On the validation split; null where it is empty.
    pub val_accuracy: Option<f64>,
    /// On the test split.
    pub test_accuracy: Option<f64>,
}

/// How far two engines' logits for the same rows are apart, relative to the larger of 1 and the row's largest
/// absolute logit; compare with [`LOGIT_TOLERANCE`].
///
/// # Shapes
/// - `a`, `b`: `[n_rows, n_classes]`, row by row
///
/// A length that differs or a value that is not finite is infinitely far.
pub fn logit_difference(a: &[f32], b: &[f32], n_classes: usize) -> f32 {
    if a.len() != b.len() || n_classes == 0 || !a.len().is_multiple_of(n_classes) {
        return f32::INFINITY;
    }
    let mut worst = 0f32;
    for (a, b) in a.chunks(n_classes).zip(b.chunks(n_classes)) {
        let scale = a.iter().chain(b).fold(1f32, |m, x| m.max(x.abs()));
        for (x, y) in a.iter().zip(b) {
            if !x.is_finite() || !y.is_finite() {
                return f32::INFINITY;
            }
            worst = worst.max((x - y).abs() / scale);
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_high_where_one_logit_is() {
        let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-5, "{a} instead of {b}");
        close(DoubtScore::Confidence.of(&[0.0, 0.0]), 0.5);
        close(DoubtScore::Confidence.of(&[16.0, 3f32.ln() + 16.0, 16.0]), 0.6);
        close(DoubtScore::Energy.of(&[1.0, 1.0]), 1.0 + 2f32.ln());
        close(DoubtScore::Energy.of(&[-500.0, 500.0]), 500.0);
    }

    #[test]
    fn an_answer_is_unsure_below_the_threshold_and_not_at_it() {
        let doubt = |unsure_below| Doubt { score: DoubtScore::Confidence, unsure_below, false_alarms: 0.05 };
        assert!(doubt(0.6).marks(&[0.0, 0.0]));
        assert!(!doubt(0.5).marks(&[0.0, 0.0]));
    }

    #[test]
    fn logits_that_are_not_finite_or_not_of_one_shape_never_agree() {
        assert_eq!(logit_difference(&[1.0, f32::NAN], &[1.0, f32::NAN], 2), f32::INFINITY);
        assert_eq!(logit_difference(&[1.0], &[1.0, 2.0], 1), f32::INFINITY);
        assert_eq!(logit_difference(&[10.0, 0.0], &[10.0, 0.1], 2), 0.1 / 10.0);
    }
}
