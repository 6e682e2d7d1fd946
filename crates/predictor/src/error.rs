//! What can be wrong with a model version or with what it is asked. Causes are sources, never printed here.

use std::{error::Error, io, path::PathBuf};

use api::model::{MODEL_FILE, SCHEMA};

/// Why a model cannot be loaded or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum PredictorError {
    /// There is no manifest: nothing was published here yet.
    #[error("{} holds no model", dir.display())]
    NoModel {
        /// The folder looked at.
        dir: PathBuf,
    },
    /// A file of the version cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest's JSON is broken or lacks a field.
    #[error("{} is no model manifest", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The manifest is of another layout.
    #[error("{} has schema {found}; this build reads {SCHEMA}: update this program or train again", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its layout's version.
        found: u64,
    },
    /// The manifest asks for preprocessing that this build does not do.
    #[error("{}: {reason}; train again with this build", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong with the spec.
        reason: String,
    },
    /// The manifest does not say what its network's digest is.
    #[error("{} lists no {MODEL_FILE} among its files; publish the version again", path.display())]
    NoDigest {
        /// The manifest.
        path: PathBuf,
    },
    /// The network's file is longer or shorter than published.
    #[error("{} has {found} bytes; the manifest says {expected}: publish the version again", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The published length in bytes.
        expected: u64,
    },
    /// The network's file is not the one that was published.
    #[error("{} has SHA-256 {found}; the manifest says {expected}: publish the version again", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The published digest.
        expected: String,
    },
    /// The network is no ONNX model.
    #[error("the network is no ONNX model, or only a part of one")]
    Parse {
        /// Where the message breaks off.
        source: prost::DecodeError,
    },
    /// The network does not say which version of its operators it means.
    #[error("the network names no operator set, so it is only a part of an ONNX model")]
    NoOperatorSet,
    /// The network is ONNX, but of another interface than a model of the house.
    #[error("the network's {what} is {found}; the manifest expects {expected}")]
    ShapeMismatch {
        /// `input` or `output`.
        what: &'static str,
        /// Name, type and shape that were found.
        found: String,
        /// Name, type and shape that belong to the manifest.
        expected: String,
    },
    /// The network cannot be a backbone.
    #[error("the network cannot be a backbone: {reason}")]
    Unfit {
        /// What about it, and what was expected.
        reason: String,
    },
    /// tract cannot turn the graph into a plan.
    #[error("tract cannot prepare the network")]
    Prepare {
        /// Which node, and why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// tract stopped while running the plan.
    #[error("tract cannot run the network")]
    Run {
        /// Which node, and why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The pixels are not whole pictures of the manifest's size.
    #[error("got {found} bytes of pixels; one picture of {width}×{height} RGB takes {picture_bytes}")]
    Pixels {
        /// Bytes that arrived.
        found: usize,
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// Bytes of one picture.
        picture_bytes: usize,
    },
    /// There are not as many logits as labels.
    #[error("got {logits} logits for {labels} labels; expected one logit for each label")]
    Labels {
        /// Logits that arrived.
        logits: usize,
        /// Labels to rank.
        labels: usize,
    },
    /// The network's arithmetic overflowed.
    #[error("the logit of {label} is {value}, which no probability follows from; train again")]
    NotFinite {
        /// Label of the first such logit.
        label: String,
        /// Infinite or not a number.
        value: f32,
    },
}
