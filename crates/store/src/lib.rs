//! What lies on the volumes: datasets, runs and model versions.
//!
//! Everything published is immutable and complete: it is written aside, flushed to the disk and renamed into place, so
//! a crash at any moment leaves either nothing or all of it. Nothing here knows HTTP, pictures' formats or engines.

mod atomic;
mod backbone;
mod clock;
mod dataset;
mod derive;
mod disk;
mod error;
mod house;
mod model;
mod predictions;
mod run;
mod safetensors_file;
mod trainer;

use std::path::{Path, PathBuf};

pub use atomic::{Staging, create_dirs, digest_file, write_atomic};
pub use backbone::OwnBackbone;
pub use clock::now_rfc3339;
pub use dataset::{Dataset, DatasetDraft, DatasetInfo, Pixels, Published};
pub use error::{StoreError, is_full};
pub use house::{House, HouseLock};
pub use model::{CURRENT, ModelDraft, ModelVersion};
pub use predictions::Predictions;
pub use run::{MAX_ATTEMPTS, Run, RunLock};

/// Result of this crate.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Folder of what can be computed again, on volume 1 or, where a trainer may not write there, on volume 2.
const CACHE: &str = "cache";

/// The two volumes. On a laptop both are the same folder; in a cluster they are two mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volumes {
    datasets: PathBuf,
    models: PathBuf,
}

impl Volumes {
    /// Volume 1 holds `datasets/`, volume 2 holds `runs/` and `models/`.
    pub fn new(volume1: impl Into<PathBuf>, volume2: impl Into<PathBuf>) -> Self {
        Self { datasets: volume1.into(), models: volume2.into() }
    }

    /// Both volumes under one folder.
    pub fn under(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self::new(data.clone(), data)
    }

    /// Root of volume 1.
    pub fn volume1(&self) -> &Path {
        &self.datasets
    }

    /// Root of volume 2.
    pub fn volume2(&self) -> &Path {
        &self.models
    }

    /// `<volume 1>/datasets`.
    pub fn datasets_dir(&self) -> PathBuf {
        self.datasets.join("datasets")
    }

    /// `<volume 2>/runs`.
    pub fn runs_dir(&self) -> PathBuf {
        self.models.join("runs")
    }

    /// `<volume 2>/models`.
    pub fn models_dir(&self) -> PathBuf {
        self.models.join("models")
    }

    /// `<volume 2>/backbones`.
    pub fn backbones_dir(&self) -> PathBuf {
        self.models.join("backbones")
    }

    /// `<volume 1>/cache`: what can be computed again, and may be deleted at any time.
    pub fn cache_dir(&self) -> PathBuf {
        self.datasets.join(CACHE)
    }

    /// Where half-made things of volume 1 lie; on the same file system as `datasets`, so that a rename publishes them.
    pub fn staging1(&self) -> PathBuf {
        self.datasets.join(".staging")
    }

    /// Where half-made things of volume 2 lie.
    pub fn staging2(&self) -> PathBuf {
        self.models.join(".staging")
    }

    /// Makes every folder that is missing.
    pub fn create(&self) -> Result<()> {
        for dir in [self.datasets_dir(), self.runs_dir(), self.models_dir(), self.staging1(), self.staging2()] {
            create_dirs(&dir)?;
        }
        Ok(())
    }

    /// Removes what crashed writers left in the staging folders.
    ///
    /// A staging folder whose writer still lives is locked and stays.
    pub fn sweep_staging(&self) -> Result<usize> {
        let mut swept = atomic::sweep(&self.staging1())?;
        if self.staging2() != self.staging1() {
            swept += atomic::sweep(&self.staging2())?;
        }
        Ok(swept)
    }
}

/// Names that may become a folder's name: no separators, no dots in front, nothing a shell would trip over.
///
/// # Errors
/// [`StoreError::BadName`] with the rule.
pub fn check_name(what: &'static str, name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if first && rest && name.len() <= 100 {
        Ok(())
    } else {
        Err(StoreError::BadName { what, name: name.chars().take(120).collect() })
    }
}
