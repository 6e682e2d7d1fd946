//! Training: what may be asked for, how progress is told, what comes out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Model family: what is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// A linear head over the frozen features of a backbone. The default where a backbone is installed.
    Linear,
    /// A small convolutional network trained from scratch.
    Cnn,
}

/// Random changes of training pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Augmentation {
    /// Pictures as they are.
    None,
    /// Mirrored left to right half of the time.
    Flip,
    /// Mirrored, and shifted by up to a tenth of the side.
    FlipShift,
}

/// What the person asks for. An absent field takes the family's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Hyperparameters {
    /// `linear` where a backbone is installed, else `cnn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Passes over the train split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Pictures per step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    /// Peak of the cosine schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Decoupled weight decay (AdamW).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Share of activations dropped in front of the last layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Random changes of training pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augmentation: Option<Augmentation>,
    /// Seeds every random choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Epochs without a better validation loss (train loss where there is no validation split) before training
    /// stops; 0 never stops early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// Side in pixels the network sees; the graph resamples the dataset's pictures to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<u32>,
}

/// Every setting of a run, after defaults and checks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Settings {
    /// What is trained.
    pub family: Family,
    /// Passes over the train split.
    pub epochs: u32,
    /// Pictures per step.
    pub batch_size: u32,
    /// Peak of the cosine schedule.
    pub learning_rate: f64,
    /// Decoupled weight decay (AdamW).
    pub weight_decay: f64,
    /// Share of activations dropped in front of the last layer.
    pub dropout: f64,
    /// Random changes of training pictures.
    pub augmentation: Augmentation,
    /// Seeds every random choice.
    pub seed: u64,
    /// Epochs without a better validation loss (train loss where there is no validation split) before training
    /// stops; 0 never stops early.
    pub patience: u32,
    /// Side in pixels the network sees.
    pub input_size: u32,
}

/// Inclusive range of a setting: name, least, most.
pub const RANGES: [(&str, f64, f64); 8] = [
    ("epochs", 1.0, 1000.0),
    ("batch_size", 1.0, 1024.0),
    ("learning_rate", 1e-6, 1.0),
    ("weight_decay", 0.0, 1.0),
    ("dropout", 0.0, 0.9),
    ("seed", 0.0, 4_294_967_295.0),
    ("patience", 0.0, 1000.0),
    ("input_size", 8.0, 512.0),
];

impl Settings {
    /// The defaults of a family.
    ///
    /// `picture_side` is the longer side of the dataset's pictures in pixels; a CNN takes it as its input size up to
    /// 64, the backbone always sees its own 224.
    pub fn defaults(family: Family, picture_side: u32) -> Self {
        match family {
            Family::Linear => Self {
                family,
                epochs: 60,
                batch_size: 32,
                learning_rate: 5e-4,
                weight_decay: 1e-2,
                dropout: 0.2,
                augmentation: Augmentation::Flip,
                seed: 1,
                patience: 15,
                input_size: 224,
            },
            Family::Cnn => Self {
                family,
                epochs: 30,
                batch_size: 32,
                learning_rate: 2e-3,
                weight_decay: 1e-2,
                dropout: 0.3,
                augmentation: Augmentation::FlipShift,
                seed: 1,
                patience: 8,
                input_size: picture_side.clamp(16, 64),
            },
        }
    }
}

impl Hyperparameters {
    /// Fills in defaults and checks every value.
    ///
    /// # Errors
    /// One sentence for each value out of its range, naming the range.
    pub fn resolve(&self, backbone_installed: bool, picture_side: u32) -> Result<Settings, Vec<String>> {
        let family = self.family.unwrap_or(if backbone_installed { Family::Linear } else { Family::Cnn });
        let default = Settings::defaults(family, picture_side);
        let settings = Settings {
            family,
            epochs: self.epochs.unwrap_or(default.epochs),
            batch_size: self.batch_size.unwrap_or(default.batch_size),
            learning_rate: self.learning_rate.unwrap_or(default.learning_rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            dropout: self.dropout.unwrap_or(default.dropout),
            augmentation: self.augmentation.unwrap_or(default.augmentation),
            seed: self.seed.unwrap_or(default.seed),
            patience: self.patience.unwrap_or(default.patience),
            input_size: self.input_size.unwrap_or(default.input_size),
        };
        let mut wrong = settings.out_of_range();
        if family == Family::Linear && !backbone_installed {
            wrong.push("family is linear, but no backbone is installed; choose cnn or install the backbone".into());
        }
        if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
    }
}

impl Settings {
    /// One sentence for each value out of its range.
    pub fn out_of_range(&self) -> Vec<String> {
        let values = [
            f64::from(self.epochs),
            f64::from(self.batch_size),
            self.learning_rate,
            self.weight_decay,
            self.dropout,
            self.seed as f64,
            f64::from(self.patience),
            f64::from(self.input_size),
        ];
        RANGES
            .iter()
            .zip(values)
            .filter(|((_, least, most), value)| !(*least..=*most).contains(value))
            .map(|((name, least, most), value)| format!("{name} is {value}; expected {least} to {most}"))
            .collect()
    }
}

/// `run.json`: everything the trainer needs to know. Written once, before the trainer starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunSpec {
    /// Id of the run and name of its folder.
    pub run: String,
    /// Id of the dataset.
    pub dataset: String,
    /// Registry name to publish under.
    pub model: String,
    /// As asked for.
    pub hyperparameters: Hyperparameters,
    /// RFC 3339, UTC.
    pub created: String,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Created; the trainer has not begun.
    Queued,
    /// The trainer works on it.
    Running,
    /// A model version was published.
    Succeeded,
    /// Ended without a model; the reason says why.
    Failed,
    /// Ended because someone asked for it.
    Cancelled,
}

impl RunState {
    /// Whether nothing will change any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// `status.json` of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunStatus {
    /// Where the run stands.
    pub state: RunState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Registry version that came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// One line of `progress.jsonl` and one server-sent event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// A countable stage that is not an epoch: `features`, `evaluate`, `export`, `check`, `publish`.
    Stage {
        /// Which.
        stage: String,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
        /// Since the run began.
        seconds: f64,
    },
    /// A step inside an epoch; not every step is told.
    Step {
        /// From 1.
        epoch: u32,
        /// From 1, over all epochs.
        step: u64,
        /// Steps in all, if no early stop comes.
        steps: u64,
        /// Mean cross-entropy of the step's batch.
        loss: f64,
        /// Since the run began.
        seconds: f64,
        /// Estimated rest of the run.
        remaining_seconds: f64,
    },
    /// An epoch ended.
    Epoch(EpochMetrics),
    /// The run ended.
    End {
        /// How.
        state: RunState,
        /// Why, if it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Registry version that came out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u32>,
        /// Since the run began.
        seconds: f64,
    },
}

/// What one epoch came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: u32,
    /// Epochs in all, if no early stop comes.
    pub epochs: u32,
    /// Steps done so far.
    pub step: u64,
    /// Mean cross-entropy over the epoch's batches.
    pub loss: f64,
    /// Share of the train split classified rightly during the epoch, 0..=1.
    pub accuracy: f64,
    /// Mean cross-entropy on the validation split. Null where the split is empty.
    pub val_loss: Option<f64>,
    /// Share of the validation split classified rightly, 0..=1. Null where the split is empty.
    pub val_accuracy: Option<f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Training pictures per second in this epoch.
    pub images_per_second: f64,
    /// Since the run began.
    pub seconds: f64,
    /// Estimated rest of the run.
    pub remaining_seconds: f64,
}

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
    /// Every setting of the run.
    pub settings: Settings,
    /// Trainable and frozen weights together.
    pub parameters: u64,
    /// Id of the dataset.
    pub dataset: String,
    /// Id of the run.
    pub run: String,
    /// Program and version.
    pub made_by: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_ranges() {
        for family in [Family::Linear, Family::Cnn] {
            for side in [1, 28, 1024] {
                assert_eq!(Settings::defaults(family, side).out_of_range(), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn every_wrong_value_is_named_with_its_range() {
        let asked = Hyperparameters {
            epochs: Some(0),
            dropout: Some(1.5),
            learning_rate: Some(f64::NAN),
            ..Default::default()
        };
        let wrong = asked.resolve(true, 32).expect_err("three values are out of range");
        assert_eq!(
            wrong,
            [
                "epochs is 0; expected 1 to 1000",
                "learning_rate is NaN; expected 0.000001 to 1",
                "dropout is 1.5; expected 0 to 0.9"
            ]
        );
    }

    #[test]
    fn without_a_backbone_the_default_family_is_cnn_and_linear_is_refused() {
        let settings = Hyperparameters::default().resolve(false, 32).expect("defaults");
        assert_eq!(settings.family, Family::Cnn);
        let asked = Hyperparameters { family: Some(Family::Linear), ..Default::default() };
        assert!(asked.resolve(false, 32).is_err());
    }
}
