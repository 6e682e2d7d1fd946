//! What survives a restart: per Service one file, replaced whole.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use autoscaler::revision::Snapshot;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serving::ServiceState;

/// A Service as it was.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) state: ServiceState,
    /// The manifest as its author wrote it, with links in it still links.
    pub(crate) written: Arc<Value>,
    /// The scaling of its revisions.
    pub(crate) scaling: BTreeMap<String, Snapshot>,
}

/// A folder of saved Services.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Opens the folder, creating it if it is missing.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }

    /// All Services in it. One that cannot be read is left out, and its file set aside, so that nothing is lost.
    pub(crate) fn read(&self) -> io::Result<Vec<Saved>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let saved = fs::read(&path).and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
            match saved {
                Ok(saved) => all.push(saved),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a saved function cannot be read; setting it aside");
                    fs::rename(&path, path.with_extension("unreadable"))?;
                }
            }
        }
        Ok(all)
    }

    /// Replaces a Service's file.
    pub(crate) fn write(&self, namespace: &str, name: &str, saved: &Saved) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        serde_json::to_writer(file.as_file_mut(), saved)?;
        file.as_file_mut().flush()?;
        file.as_file().sync_all()?;
        file.persist(self.path(namespace, name)).map_err(|error| error.error)?;
        fs::File::open(&self.0)?.sync_all()
    }

    /// Forgets a Service.
    pub(crate) fn remove(&self, namespace: &str, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(namespace, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::File::open(&self.0)?.sync_all(),
        }
    }

    fn path(&self, namespace: &str, name: &str) -> PathBuf {
        // Neither may hold a dot.
        self.0.join(format!("{namespace}.{name}.json"))
    }
}
