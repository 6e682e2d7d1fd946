//! What can go wrong while an upload becomes a dataset.
//!
//! A single bad picture is never an error: it is listed among the rejects.

use std::{io, path::PathBuf};

use api::{ErrorCode, ErrorDetail};
use store::{StoreError, is_full};

/// Every way in which an upload as a whole fails; nothing of it is left behind then.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The file is no archive, is broken, or is one that is not supported.
    #[error("cannot read the archive {name:?}: {problem}")]
    Archive {
        /// Name of the upload.
        name: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The upload exceeds one of [`crate::Limits`].
    #[error("the upload is too large: {0}")]
    TooLarge(String),
    /// The folders do not say which picture is of which class.
    #[error("{0}")]
    Layout(String),
    /// Too little is left after cleaning.
    #[error("{problem}")]
    NothingLeft {
        /// What is missing.
        problem: String,
        /// Every file that was left out.
        rejected: Vec<api::dataset::Rejected>,
    },
    /// The preprocessing options are out of range.
    #[error("{0}")]
    Options(String),
    /// The preprocess function cannot be reached or does not answer as it should.
    #[error("the preprocess function at {url} {problem}")]
    Function {
        /// Where it was looked for.
        url: String,
        /// What it did.
        problem: String,
        /// What that means to a client: bad gateway, unavailable or timeout.
        code: ErrorCode,
        /// The cause, if there is one below.
        source: Option<reqwest::Error>,
    },
    /// What was told of a picture does not fit the bytes that were counted in.
    #[error(
        "what preprocessing says of {name:?} does not fit the file: it changed in between, or preprocessing is of another version; try again"
    )]
    Mismatch {
        /// Path inside the upload.
        name: String,
    },
    /// The body of an upload broke off.
    #[error("the upload of {name:?} broke off")]
    BrokenOff {
        /// Name of the file.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Volume 1 has no room for the upload.
    #[error(
        "volume 1 has {free} bytes free; {reserve} of them are kept back and the upload needs more: free some room and try again"
    )]
    NoRoom {
        /// Free bytes.
        free: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// Reading a local file failed.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing to volume 1 failed.
    #[error("cannot write {path}{}", if is_full(source) { ": the volume is full; free some room and try again" } else { "" })]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sample data set cannot be had.
    #[error("{0}")]
    Sample(String),
    /// The store refused.
    #[error("cannot keep the dataset")]
    Store(#[from] StoreError),
    /// The caller went away.
    #[error("the upload was cancelled")]
    Cancelled,
    /// A background task died.
    #[error("a background task failed")]
    Task(#[from] tokio::task::JoinError),
}

impl IngestError {
    /// The error as an HTTP answer tells it.
    pub fn detail(&self) -> ErrorDetail {
        let code = match self {
            Self::Archive { .. } | Self::BrokenOff { .. } => ErrorCode::BadRequest,
            Self::TooLarge(_) => ErrorCode::TooLarge,
            Self::Layout(_) | Self::NothingLeft { .. } | Self::Options(_) => ErrorCode::Unprocessable,
            Self::Function { code, .. } => *code,
            Self::Mismatch { .. } => ErrorCode::Conflict,
            Self::NoRoom { .. } => ErrorCode::InsufficientStorage,
            Self::Write { source, .. } if is_full(source) => ErrorCode::InsufficientStorage,
            Self::Store(store) if store.is_disk_full() => ErrorCode::InsufficientStorage,
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Sample(_)
            | Self::Store(_)
            | Self::Cancelled
            | Self::Task(_) => ErrorCode::Internal,
        };
        ErrorDetail::new(code, self.to_string())
    }

    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read { path: path.into(), source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { path: path.into(), source }
    }
}
