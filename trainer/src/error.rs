//! What can go wrong in training.

use std::{
    io,
    path::{Path, PathBuf},
};

use predictor::PredictorError;
use store::StoreError;

/// Result of this crate.
pub type Result<T, E = TrainerError> = std::result::Result<T, E>;

/// Every way in which a run ends without a model; a variant names the operation, its `source` the cause.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// Someone asked the run to stop.
    #[error("the run was cancelled")]
    Cancelled,
    /// Something about the volumes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `run.json` does not lie in the folder of the run it describes.
    #[error("{path} describes run {run:?}; it must lie in that run's folder, {expected}")]
    Misplaced {
        /// The file that was given.
        path: PathBuf,
        /// The run it describes.
        run: String,
        /// Where that run lies.
        expected: PathBuf,
    },
    /// The run has ended before.
    #[error("run {run} has ended already ({state}); start a new one")]
    Ended {
        /// Which run.
        run: String,
        /// How it ended.
        state: &'static str,
    },
    /// Hyperparameters out of their ranges.
    #[error("the settings are not usable: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// The dataset cannot be trained on.
    #[error("dataset {dataset} cannot be trained on: {problem}")]
    Dataset {
        /// Which dataset.
        dataset: String,
        /// Why, and what to do.
        problem: String,
    },
    /// The ONNX Runtime library is not named.
    #[error("ORT_DYLIB_PATH is not set; it names the ONNX Runtime library, which `cargo xtask setup` installs")]
    NoRuntime,
    /// The ONNX Runtime library cannot be loaded.
    #[error(
        "cannot load ONNX Runtime from {path}, which ORT_DYLIB_PATH names; `cargo xtask setup` installs a fitting one"
    )]
    Runtime {
        /// What the variable says.
        path: PathBuf,
        /// Why not.
        source: ort::LoadDynamicError,
    },
    /// ONNX Runtime refused.
    #[error("ONNX Runtime cannot {action}")]
    Engine {
        /// What was tried.
        action: String,
        /// Why not.
        source: ort::Error,
    },
    /// The backbone's file cannot be read.
    #[error("cannot read the backbone {path}; `cargo xtask setup` installs those that are built in")]
    BackboneFile {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The backbone's file is not the one this build knows.
    #[error("the backbone {path} has SHA-256 {found}; expected {expected}; install it again with `cargo xtask setup`")]
    BackboneDigest {
        /// Which file.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The known one.
        expected: String,
    },
    /// A person's own backbone cannot be used.
    #[error("backbone {name} cannot be used: {problem}")]
    BackboneGraph {
        /// Its name.
        name: String,
        /// Why, and what to do.
        problem: String,
    },
    /// The backbone's weights are not those of its architecture.
    #[error("the backbone's weights do not fit: {0}")]
    BackboneWeights(String),
    /// The backbone's file is malformed.
    #[error("the backbone's file is malformed")]
    BackboneFormat {
        /// How.
        #[from]
        source: crate::torch_file::FormatError,
    },
    /// The backbone's HDF5 file is malformed.
    #[error("the backbone's HDF5 file is malformed")]
    BackboneHdf5 {
        /// How.
        #[from]
        source: crate::hdf5::FormatError,
    },
    /// A checkpoint is not one of this fit.
    #[error("the checkpoint cannot be used: {0}")]
    Checkpoint(String),
    /// The loss left the finite numbers.
    #[error(
        "training diverged: the loss is not finite in step {step} of epoch {epoch}; lower the learning rate \
         (it is {learning_rate})"
    )]
    Diverged {
        /// From 1.
        epoch: u32,
        /// From 1, over all epochs.
        step: u64,
        /// Peak learning rate.
        learning_rate: f64,
    },
    /// Native tract refused the exported file.
    #[error("the exported model does not run in tract, so it is not published")]
    Predictor {
        /// Why not.
        #[from]
        source: PredictorError,
    },
    /// Two engines answer differently.
    #[error(
        "the exported model is not published: on {pictures} pictures, {pair} differ by {difference:.6} of a logit; \
         at most {tolerance} is allowed"
    )]
    Disagreement {
        /// Who was compared.
        pair: &'static str,
        /// Largest relative difference of a logit.
        difference: f32,
        /// Pictures compared.
        pictures: usize,
        /// Most that is allowed.
        tolerance: f32,
    },
    /// A trial of the search that a trainer before this one saw fail.
    #[error("{0}")]
    FailedBefore(String),
    /// A bug of ours.
    #[error("the trainer ran into a bug of its own: {0}")]
    Panicked(String),
}

impl TrainerError {
    /// For `map_err` where a file is written.
    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| StoreError::Write { path, source }.into()
    }

    /// For `map_err` on the engine's answers; `action` completes "ONNX Runtime cannot …".
    pub(crate) fn engine<R>(action: impl Into<String>) -> impl FnOnce(ort::Error<R>) -> Self {
        // The builder's errors carry the builder; only the message matters here.
        move |error| Self::Engine { action: action.into(), source: ort::Error::new(error.to_string()) }
    }

    /// The whole chain of causes in one line, for a status file.
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}
