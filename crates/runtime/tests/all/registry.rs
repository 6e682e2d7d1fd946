//! A registry as the house lays it out: version folders and a link to one of them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// The link to the version that is served.
pub const CURRENT: &str = "current";

pub struct Registry(TempDir);

impl Registry {
    /// One whose current version is this one.
    pub fn with(version: &str) -> Self {
        let registry = Self::empty();
        registry.publish(version);
        registry
    }

    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn current(&self) -> PathBuf {
        self.path().join(CURRENT)
    }

    /// Adds a version and makes it the current one, atomically.
    pub fn publish(&self, version: &str) {
        let folder = self.path().join(version);
        if !folder.exists() {
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("version"), version).unwrap();
        }
        let aside = self.path().join("next");
        symlink(version, &aside).unwrap();
        fs::rename(aside, self.current()).unwrap();
    }
}
