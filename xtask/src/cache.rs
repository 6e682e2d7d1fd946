//! The folder outside the checkout that keeps what was fetched.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    path::{self, Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

const STAGING_PREFIX: &str = ".staging-";

/// `FOVEA_CACHE`, or else `$XDG_CACHE_HOME/fovea`, or else `~/.cache/fovea`.
pub fn folder() -> Result<PathBuf> {
    folder_from(|name| env::var_os(name).filter(|value| !value.is_empty()))
}

fn folder_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let folder = variable("FOVEA_CACHE")
        .map(PathBuf::from)
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| Path::new(&dir).join("fovea")))
        .or_else(|| variable("HOME").map(|dir| Path::new(&dir).join(".cache/fovea")))
        .ok_or_else(|| anyhow!("there is no folder to keep downloads in: set FOVEA_CACHE to one"))?;
    path::absolute(&folder).with_context(|| format!("FOVEA_CACHE is no usable path: {}", folder.display()))
}

/// The cache folder, held by this process alone until dropped.
pub struct Held {
    folder: PathBuf,
    _lock: File,
}

impl Held {
    /// Makes the folder, waits for whoever else fills it, and clears what a killed run left half-made.
    pub fn hold(folder: &Path) -> Result<Self> {
        let cannot = || format!("cannot write to the cache folder {}", folder.display());
        fs::create_dir_all(folder).map_err(|error| explain(error, folder)).with_context(cannot)?;
        let lock = File::create(folder.join(".lock")).map_err(|error| explain(error, folder)).with_context(cannot)?;
        lock.lock().with_context(cannot)?;
        for entry in fs::read_dir(folder).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            if entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX) {
                fs::remove_dir_all(entry.path()).with_context(cannot)?;
            }
        }
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// A folder for half-made things on the cache's own file system; gone when dropped.
    pub fn staging(&self) -> Result<TempDir> {
        tempfile::Builder::new()
            .prefix(STAGING_PREFIX)
            .tempdir_in(&self.folder)
            .map_err(|error| explain(error, &self.folder))
    }
}

/// Adds the remedy to failures that have one.
pub fn explain(error: io::Error, folder: &Path) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::StorageFull => disk_full(folder),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            anyhow!(error).context("it is not writable; set FOVEA_CACHE to a folder that is")
        }
        _ => error.into(),
    }
}

/// The sentence for a full disk.
pub fn disk_full(folder: &Path) -> anyhow::Error {
    anyhow!(
        "the disk is full: free about 200 MB under {}, or set FOVEA_CACHE to a folder on another disk",
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &str)], expected: &str) {
        let found = folder_from(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()));
        assert_eq!(found.expect("a folder"), Path::new(expected));
    }

    #[test]
    fn the_most_specific_variable_names_the_folder() {
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("FOVEA_CACHE", "/f")];
        check(&all, "/f");
        check(&all[..2], "/x/fovea");
        check(&all[..1], "/h/.cache/fovea");
    }

    #[test]
    fn without_any_folder_the_remedy_is_named() {
        let error = folder_from(|_| None).expect_err("nothing is set");
        assert!(error.to_string().contains("set FOVEA_CACHE"), "{error}");
    }

    #[test]
    fn a_full_disk_and_a_read_only_folder_name_their_remedies() {
        let folder = Path::new("/c");
        let full = explain(io::ErrorKind::StorageFull.into(), folder);
        assert!(format!("{full:#}").starts_with("the disk is full: free about 200 MB under /c"), "{full:#}");
        let denied = explain(io::ErrorKind::PermissionDenied.into(), folder);
        assert!(format!("{denied:#}").contains("set FOVEA_CACHE to a folder that is"), "{denied:#}");
    }

    #[test]
    fn what_a_killed_run_left_is_cleared() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let left = folder.path().join(".staging-dead");
        fs::create_dir(&left).expect("a folder");
        fs::write(left.join("part"), "half").expect("a file");
        let held = Held::hold(folder.path()).expect("it is writable");
        assert!(!left.exists());
        let staging = held.staging().expect("it is writable");
        assert!(staging.path().starts_with(folder.path()));
    }
}
