//! Write aside, flush, rename: the only ways in which this crate makes files.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use api::dataset::FileDigest;
use sha2::{Digest, Sha256};

use crate::{Result, StoreError, check_name};

/// File inside a staging folder that its living writer holds locked.
const WRITER_LOCK: &str = ".writer";

/// Makes a folder and its parents.
pub fn create_dirs(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(StoreError::write(dir))
}

/// Replaces a file's content so that a reader sees the old or the new content, never a part, and a crash keeps one of
/// them.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let wrong = || StoreError::write(path);
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(parent).map_err(wrong())?;
    file.write_all(content).map_err(wrong())?;
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(wrong())?;
    file.as_file().sync_all().map_err(wrong())?;
    file.persist(path).map_err(|e| wrong()(e.error))?;
    sync_dir(parent)
}

/// Serialises as indented JSON and writes it atomically.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| StoreError::Draft(e.to_string()))?;
    text.push(b'\n');
    write_atomic(path, &text)
}

/// Reads a JSON file that should be a `what`.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, what: &'static str) -> Result<T> {
    let text = fs::read(path).map_err(StoreError::read(path))?;
    serde_json::from_slice(&text).map_err(|source| StoreError::Parse { path: path.to_owned(), what, source })
}

/// Makes a rename or a new entry in a folder survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(StoreError::write(dir))
}

/// Length and SHA-256 of a file.
pub fn digest_file(path: &Path) -> Result<FileDigest> {
    let mut file = File::open(path).map_err(StoreError::read(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(StoreError::read(path)(e)),
        }
    }
    Ok(FileDigest { bytes, sha256: hex(&hasher.finalize()) })
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// A folder in which something is being made. Dropping it removes it, unless it was published.
#[derive(Debug)]
pub struct Staging {
    dir: Option<tempfile::TempDir>,
    _lock: File,
}

impl Staging {
    /// Makes an empty folder inside `root`.
    pub fn new(root: &Path, prefix: &str) -> Result<Self> {
        create_dirs(root)?;
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(root).map_err(StoreError::write(root))?;
        let lock = File::create(dir.path().join(WRITER_LOCK)).map_err(StoreError::write(dir.path()))?;
        lock.lock().map_err(StoreError::write(dir.path()))?;
        Ok(Self { dir: Some(dir), _lock: lock })
    }

    /// Where to put files.
    pub fn path(&self) -> &Path {
        self.dir.as_ref().expect("the folder is taken only by publish, which consumes self").path()
    }

    /// Flushes every file and renames the folder to `target`.
    ///
    /// # Errors
    /// `Ok(false)` if `target` is already there; the folder is then still here, to be dropped or published elsewhere.
    pub(crate) fn publish(&mut self, target: &Path) -> Result<bool> {
        let from = self.path().to_owned();
        let lock = from.join(WRITER_LOCK);
        flush_files(&from)?;
        if lock.exists() {
            fs::remove_file(&lock).map_err(StoreError::write(&lock))?;
        }
        fs::set_permissions(&from, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(StoreError::write(&from))?;
        sync_dir(&from)?;
        match fs::rename(&from, target) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                return Ok(false);
            }
            Err(e) => return Err(StoreError::write(target)(e)),
        }
        // The folder has moved: there is nothing left to remove.
        if let Some(dir) = self.dir.take() {
            let _ = dir.keep();
        }
        if let Some(parent) = target.parent() {
            sync_dir(parent)?;
        }
        Ok(true)
    }
}

/// Takes something published away: from one moment to the next nobody finds it any more, and then its files are removed.
///
/// What a crash or a failure leaves of them is swept with half-made things.
pub(crate) fn remove(staging: &Path, dir: &Path) -> Result<()> {
    let aside = Staging::new(staging, "removed-")?;
    fs::rename(dir, aside.path().join("content")).map_err(StoreError::write(dir))?;
    sync_dir(dir.parent().unwrap_or(Path::new(".")))
}

/// Waits for a lock that is let go when the file is dropped, or when the process dies.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(StoreError::write(path))?;
    file.lock().map_err(StoreError::write(path))?;
    Ok(file)
}

fn flush_files(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(StoreError::read(dir))? {
        let path = entry.map_err(StoreError::read(dir))?.path();
        File::open(&path).and_then(|f| f.sync_all()).map_err(StoreError::write(&path))?;
    }
    Ok(())
}

/// Removes staging folders whose writer is dead; says how many.
pub(crate) fn sweep(root: &Path) -> Result<usize> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(StoreError::read(root)(e)),
    };
    let mut swept = 0;
    for entry in entries {
        let path = entry.map_err(StoreError::read(root))?.path();
        if writer_lives(&path) {
            continue;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Ok(()) => swept += 1,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::write(&path)(e)),
        }
    }
    Ok(swept)
}

fn writer_lives(staging: &Path) -> bool {
    match File::open(staging.join(WRITER_LOCK)) {
        Ok(lock) => lock.try_lock().is_err(),
        // Between the folder's making and its lock's there is a moment without a lock file; a fresh folder is spared.
        Err(_) => is_fresh(staging),
    }
}

fn is_fresh(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    age.is_some_and(|age| age < std::time::Duration::from_secs(60))
}

/// Sub-folders of a folder, sorted; files are passed over, and folders that nothing published could be named like, such as
/// `lost+found`. A folder that is not there has none.
pub(crate) fn list_dirs(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(StoreError::read(root)(e)),
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(StoreError::read(root))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if check_name("folder", &name).is_ok() && entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Compares every file a manifest names with its digest.
pub(crate) fn verify_files(dir: &Path, files: &std::collections::BTreeMap<String, FileDigest>) -> Result<()> {
    for (name, expected) in files {
        let path = dir.join(name);
        let found = digest_file(&path)?;
        if found != *expected {
            return Err(StoreError::Damaged {
                path,
                problem: format!(
                    "it has {} bytes and SHA-256 {}; the manifest says {} bytes and {}",
                    found.bytes, found.sha256, expected.bytes, expected.sha256
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_live_writers_staging_survives_the_sweep_and_a_dead_ones_does_not() {
        let root = tempfile::tempdir().unwrap();
        let live = Staging::new(root.path(), "live-").unwrap();
        let dead = root.path().join("dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(WRITER_LOCK), b"").unwrap();
        assert_eq!(sweep(root.path()).unwrap(), 1);
        assert!(live.path().exists());
        assert!(!dead.exists());
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.json");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left aside");
        assert!(write_atomic(&root.path().join("missing/a.json"), b"x").is_err());
    }

    #[test]
    fn publishing_onto_something_published_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("v1");
        let mut first = Staging::new(&root.path().join(".staging"), "a-").unwrap();
        fs::write(first.path().join("f"), b"first").unwrap();
        assert!(first.publish(&target).unwrap());
        let mut second = Staging::new(&root.path().join(".staging"), "b-").unwrap();
        fs::write(second.path().join("f"), b"second").unwrap();
        assert!(!second.publish(&target).unwrap());
        drop(second);
        assert_eq!(fs::read(target.join("f")).unwrap(), b"first");
        assert_eq!(fs::read_dir(root.path().join(".staging")).unwrap().count(), 0);
    }
}
