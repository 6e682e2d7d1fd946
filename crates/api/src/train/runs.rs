//! A run: what it is asked for, where it stands, how its progress is told.

use serde::{Deserialize, Serialize};

use super::{Candidate, Hyperparameters};

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
    /// Id of the run that this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
}

/// `label.json`: what people call a run. The one file of a run that people change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RunLabel {
    /// One line, at most 100 characters; empty for none.
    pub name: String,
    /// At most 10,000 characters.
    pub notes: String,
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
    /// As written in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

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
    /// Times a trainer began to work on it; more than one if a trainer died and another one went on.
    #[serde(default)]
    pub attempts: u32,
}

/// Every stage that a trainer tells of.
pub const STAGES: [&str; 8] = ["features", "search", "calibrate", "evaluate", "compare", "export", "check", "publish"];

/// One line of `progress.jsonl` and one server-sent event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// A countable stage that is not an epoch, one of [`STAGES`]; `search` is counted in seconds.
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
    /// A candidate of the search began or ended; the latest event of a number is its present state.
    Candidate(Candidate),
    /// The order of the candidates that have figures has changed.
    Ranking {
        /// Their numbers, best first.
        numbers: Vec<u32>,
    },
    /// An epoch of the final fit ended.
    Epoch(EpochMetrics),
    /// A trainer went on where a dead one had stopped: epochs after this one come again.
    Resumed {
        /// Last epoch that is kept; 0 to begin anew.
        epoch: u32,
        /// Since the run began.
        seconds: f64,
    },
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
