//! Which directory a mount stands for at this moment.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// A directory that a mount stood for when it was looked at. Two are equal if they are the same directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Without symbolic links.
    pub(crate) path: PathBuf,
    device: u64,
    inode: u64,
}

/// Follows the links at `host`; `None` while there is nothing at their end.
///
/// # Errors
/// If what is there is not a directory or cannot be looked at.
pub(crate) fn resolve(host: &Path) -> io::Result<Option<Mounted>> {
    let looked = fs::canonicalize(host).and_then(|path| Ok((fs::metadata(&path)?, path)));
    match looked {
        Ok((metadata, path)) if metadata.is_dir() => {
            Ok(Some(Mounted { path, device: metadata.dev(), inode: metadata.ino() }))
        }
        Ok(_) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_stands_for_its_target_and_a_dangling_one_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        assert_eq!(resolve(&link).unwrap(), None);
        symlink("v1", &link).unwrap();
        assert_eq!(resolve(&link).unwrap(), None);
        fs::create_dir(dir.path().join("v1")).unwrap();
        let mounted = resolve(&link).unwrap().unwrap();
        assert_eq!(mounted.path, dir.path().canonicalize().unwrap().join("v1"));
    }

    #[test]
    fn a_file_is_no_mount() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(resolve(&file).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
