//! The model registry: `models/<name>/v<N>/`, immutable, and the pointer `current`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use api::model::{MODEL_FILE, ModelManifest};

use crate::{
    Result, StoreError, Volumes,
    atomic::{self, Staging},
    check_name, disk,
};

/// Name of the pointer: a relative symbolic link to the version in use, replaced by a rename.
pub const CURRENT: &str = "current";

/// The version that was in use before: a link like [`CURRENT`], so that going back stays possible.
const PREVIOUS: &str = "previous";

/// Held while the pointers of a name or its set of versions change.
const LOCK: &str = ".lock";

/// The highest version that was ever deleted: no number is given twice.
const HIGHEST: &str = ".highest";

const MANIFEST: &str = "manifest.json";
const RESULTS: &str = "results.json";

/// A published version.
#[derive(Clone, Debug)]
pub struct ModelVersion {
    /// Its folder.
    pub dir: PathBuf,
    /// What it is.
    pub manifest: ModelManifest,
}

/// A version in the making.
#[derive(Clone, Debug)]
pub struct ModelDraft<'a> {
    /// What it will be; `version` and `files` are filled in on publishing.
    pub manifest: ModelManifest,
    /// The network.
    pub onnx: &'a [u8],
    /// `results.json` of the run.
    pub results: &'a api::train::Results,
}

impl Volumes {
    /// Registry names, sorted.
    pub fn model_names(&self) -> Result<Vec<String>> {
        Ok(atomic::list_dirs(&self.models_dir())?.into_iter().map(|(name, _)| name).collect())
    }

    /// Version numbers of a name, newest first, readable or not.
    pub fn version_numbers(&self, name: &str) -> Result<Vec<u32>> {
        check_name("model", name)?;
        let dirs = atomic::list_dirs(&self.models_dir().join(name))?;
        let mut numbers: Vec<u32> = dirs.iter().filter_map(|(dir, _)| version_number(dir)).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// Readable versions of a name, newest first.
    pub fn versions(&self, name: &str) -> Result<Vec<ModelVersion>> {
        let numbers = self.version_numbers(name)?;
        Ok(numbers.into_iter().filter_map(|n| self.version(name, n).ok()).collect())
    }

    /// One version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such version.
    pub fn version(&self, name: &str, version: u32) -> Result<ModelVersion> {
        check_name("model", name)?;
        let dir = self.models_dir().join(name).join(format!("v{version}"));
        if !dir.is_dir() {
            return Err(StoreError::NotFound { what: "model version", name: format!("{name} v{version}") });
        }
        let manifest = atomic::read_json(&dir.join(MANIFEST), "model manifest")?;
        Ok(ModelVersion { dir, manifest })
    }

    /// Path of the pointer, whether it is there or not.
    pub fn current_link(&self, name: &str) -> PathBuf {
        self.models_dir().join(name).join(CURRENT)
    }

    /// Number of the version in use.
    pub fn current(&self, name: &str) -> Result<Option<u32>> {
        check_name("model", name)?;
        self.pointed_to(self.current_link(name))
    }

    /// Number of the version that was in use before the present one, if it is still there.
    pub fn previous(&self, name: &str) -> Result<Option<u32>> {
        check_name("model", name)?;
        let dir = self.models_dir().join(name);
        let previous = self.pointed_to(dir.join(PREVIOUS))?;
        Ok(previous.filter(|version| dir.join(format!("v{version}")).is_dir()))
    }

    fn pointed_to(&self, link: PathBuf) -> Result<Option<u32>> {
        match fs::read_link(&link) {
            Ok(target) => match target.to_str().and_then(version_number) {
                Some(n) => Ok(Some(n)),
                None => Err(StoreError::Damaged {
                    problem: format!("it points to {}; expected v<number>", target.display()),
                    path: link,
                }),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::read(link)(e)),
        }
    }

    /// Puts a version into use. The one that was in use becomes [`Volumes::previous`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such version.
    pub fn set_current(&self, name: &str, version: u32) -> Result<()> {
        self.version(name, version)?;
        let dir = self.models_dir().join(name);
        let _lock = atomic::lock(&dir.join(LOCK))?;
        // Again, for it may have been deleted while the lock was another's.
        self.version(name, version)?;
        match self.current(name)? {
            Some(before) if before != version => point(&dir.join(PREVIOUS), before)?,
            _ => {}
        }
        point(&self.current_link(name), version)?;
        atomic::sync_dir(&dir)
    }

    /// Deletes a version. Its number is not given again.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if it is the version in use, [`StoreError::NotFound`] if there is no such version.
    pub fn delete_version(&self, name: &str, version: u32) -> Result<()> {
        check_name("model", name)?;
        let family = self.models_dir().join(name);
        let dir = family.join(format!("v{version}"));
        let missing = || StoreError::NotFound { what: "model version", name: format!("{name} v{version}") };
        if !dir.is_dir() {
            return Err(missing());
        }
        let _lock = atomic::lock(&family.join(LOCK))?;
        if self.current(name)? == Some(version) {
            return Err(StoreError::InUse {
                what: "model version",
                name: format!("{name} v{version}"),
                because: "it is in use; put another version into use first".into(),
            });
        }
        if !dir.is_dir() {
            return Err(missing());
        }
        if self.highest(name)? == version {
            atomic::write_atomic(&family.join(HIGHEST), version.to_string().as_bytes())?;
        }
        atomic::remove(&self.staging2(), &dir)
    }

    /// The highest number that a version of this name has or had; 0 for none.
    fn highest(&self, name: &str) -> Result<u32> {
        let path = self.models_dir().join(name).join(HIGHEST);
        let deleted = match fs::read_to_string(&path) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| StoreError::Damaged { problem: format!("it says {text:?}; expected a number"), path })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(StoreError::read(path)(e)),
        };
        Ok(self.version_numbers(name)?.first().map_or(deleted, |n| deleted.max(*n)))
    }

    /// Publishes a new version and returns it. It is not in use until [`Volumes::set_current`] says so.
    ///
    /// Two runs that publish at once get different numbers.
    pub fn publish_model(&self, draft: ModelDraft) -> Result<ModelVersion> {
        let name = draft.manifest.name.clone();
        check_name("model", &name)?;
        if draft.manifest.labels.len() < 2 {
            return Err(StoreError::Draft(format!(
                "the model has {} labels; expected 2 or more",
                draft.manifest.labels.len()
            )));
        }
        let family = self.models_dir().join(&name);
        atomic::create_dirs(&family)?;
        let mut staging = Staging::new(&self.staging2(), "model-")?;
        let mut manifest = draft.manifest;
        atomic::write_atomic(&staging.path().join(MODEL_FILE), draft.onnx)?;
        atomic::write_json(&staging.path().join(RESULTS), draft.results)?;
        manifest.files.clear();
        for file in [MODEL_FILE, RESULTS] {
            manifest.files.insert(file.to_owned(), atomic::digest_file(&staging.path().join(file))?);
        }
        let _lock = atomic::lock(&family.join(LOCK))?;
        let mut version = self.highest(&name)? + 1;
        loop {
            manifest.version = version;
            atomic::write_json(&staging.path().join(MANIFEST), &manifest)?;
            let dir = family.join(format!("v{version}"));
            if staging.publish(&dir)? {
                return Ok(ModelVersion { dir, manifest });
            }
            version += 1;
        }
    }
}

impl ModelVersion {
    /// Path of the network.
    pub fn onnx(&self) -> PathBuf {
        self.dir.join(MODEL_FILE)
    }

    /// The run's results.
    pub fn results(&self) -> Result<api::train::Results> {
        atomic::read_json(&self.dir.join(RESULTS), "results file")
    }

    /// What its files take on the disk.
    pub fn bytes(&self) -> u64 {
        disk::published_bytes(&self.dir.join(MANIFEST), &self.manifest.files)
    }

    /// Reads everything and compares it with the manifest.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the first thing that is wrong.
    pub fn verify(&self) -> Result<()> {
        let named = self.dir.file_name().and_then(|n| n.to_str()).and_then(version_number);
        let family = self.dir.parent().and_then(Path::file_name).and_then(|n| n.to_str());
        if named != Some(self.manifest.version) || family != Some(self.manifest.name.as_str()) {
            let problem = format!("its manifest says {} v{}", self.manifest.name, self.manifest.version);
            return Err(StoreError::Damaged { path: self.dir.clone(), problem });
        }
        if !self.manifest.files.contains_key(MODEL_FILE) {
            let problem = format!("its manifest does not name {MODEL_FILE}");
            return Err(StoreError::Damaged { path: self.dir.clone(), problem });
        }
        atomic::verify_files(&self.dir, &self.manifest.files)
    }
}

/// Makes a link to a version, or replaces the one that is there.
fn point(link: &Path, version: u32) -> Result<()> {
    let aside = tempfile::Builder::new()
        .prefix(".link-")
        .make_in(link.parent().unwrap_or(Path::new(".")), |path| {
            std::os::unix::fs::symlink(format!("v{version}"), path)
        })
        .map_err(StoreError::write(link))?;
    aside.persist(link).map(drop).map_err(|e| StoreError::write(link)(e.error))
}

fn version_number(dir: &str) -> Option<u32> {
    dir.strip_prefix('v')?.parse().ok().filter(|n| *n > 0)
}
