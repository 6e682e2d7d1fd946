//! What can go wrong on the volumes.

use std::{io, path::PathBuf};

/// Every way in which the volumes fail; a variant names the operation, its `source` the cause.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading failed.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing, flushing or renaming failed.
    #[error("cannot write {path}{}", if is_full(source) { ": the volume is full; free some room and try again" } else { "" })]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A JSON file does not say what it should.
    #[error("{path} is not a valid {what}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        source: serde_json::Error,
    },
    /// No such dataset, run or model version.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// Kind of thing.
        what: &'static str,
        /// Which one.
        name: String,
    },
    /// A name that cannot be a folder's name.
    #[error(
        "{what} is {name:?}; expected 1 to 100 letters, digits, dots, dashes and underscores, beginning with a letter or digit"
    )]
    BadName {
        /// Kind of thing.
        what: &'static str,
        /// As given.
        name: String,
    },
    /// A published thing is not what its manifest says.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// What.
        path: PathBuf,
        /// How.
        problem: String,
    },
    /// A draft that cannot be published.
    #[error("cannot publish: {0}")]
    Draft(String),
    /// Something that cannot be deleted now.
    #[error("{what} {name:?} cannot be deleted: {because}")]
    InUse {
        /// Kind of thing.
        what: &'static str,
        /// Which one.
        name: String,
        /// Who uses it, and what to do.
        because: String,
    },
    /// A label of a run that is too long or has several lines.
    #[error("{0}")]
    Label(String),
    /// Another live process works on the run.
    #[error("run {0:?} is being worked on by another process")]
    Busy(String),
}

impl StoreError {
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read { path: path.into(), source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { path: path.into(), source }
    }

    /// Whether the cause is a volume without room.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Write { source, .. } if is_full(source))
    }
}

/// Whether an error says that a volume has no room left, or that a quota is used up.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
