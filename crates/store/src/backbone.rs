//! Backbones that a person added: `backbones/<name>/` on volume 2, immutable. Those that come with the house lie elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use api::backbone::{BackboneManifest, NETWORK_FILE, SCHEMA};

use crate::{
    Result, StoreError, Volumes,
    atomic::{self, Staging},
    check_name,
};

const MANIFEST: &str = "backbone.json";

/// A backbone that a person added.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnBackbone {
    /// Its folder.
    pub dir: PathBuf,
    /// What it is.
    pub manifest: BackboneManifest,
}

impl Volumes {
    /// Every readable one, by name.
    pub fn backbones(&self) -> Result<Vec<OwnBackbone>> {
        let names = atomic::list_dirs(&self.backbones_dir())?.into_iter();
        Ok(names.filter_map(|(name, _)| self.backbone(&name).ok()).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if nobody added one of this name.
    pub fn backbone(&self, name: &str) -> Result<OwnBackbone> {
        check_name("backbone", name)?;
        let dir = self.backbones_dir().join(name);
        if !dir.is_dir() {
            return Err(StoreError::NotFound { what: "backbone", name: name.to_owned() });
        }
        let path = dir.join(MANIFEST);
        let manifest: BackboneManifest = atomic::read_json(&path, "backbone manifest")?;
        if manifest.schema != SCHEMA || manifest.name != name {
            let problem = format!(
                "it is of {:?} and has schema {}; expected {name:?} and schema {SCHEMA}",
                manifest.name, manifest.schema
            );
            return Err(StoreError::Damaged { path, problem });
        }
        Ok(OwnBackbone { dir, manifest })
    }

    /// Adds a backbone whose network is the file at `network`.
    ///
    /// # Errors
    /// [`StoreError::Draft`] if one of this name is there already, or the file is not what the manifest's hash says.
    pub fn add_backbone(&self, manifest: BackboneManifest, network: &Path) -> Result<OwnBackbone> {
        check_name("backbone", &manifest.name)?;
        let mut staging = Staging::new(&self.staging2(), "backbone-")?;
        let copy = staging.path().join(NETWORK_FILE);
        // Read apart from written, so that what fails is named.
        drop(fs::File::open(network).map_err(StoreError::read(network))?);
        fs::copy(network, &copy).map_err(StoreError::write(&copy))?;
        let found = atomic::digest_file(&copy)?;
        if found.sha256 != manifest.sha256 {
            let problem = format!("{} has SHA-256 {}; expected {}", network.display(), found.sha256, manifest.sha256);
            return Err(StoreError::Draft(problem));
        }
        atomic::write_json(&staging.path().join(MANIFEST), &manifest)?;
        atomic::create_dirs(&self.backbones_dir())?;
        let dir = self.backbones_dir().join(&manifest.name);
        if staging.publish(&dir)? {
            return Ok(OwnBackbone { dir, manifest });
        }
        Err(StoreError::Draft(format!("there is a backbone {:?} already; choose another name", manifest.name)))
    }

    /// Removes a backbone. Models that were made with it have its weights in their own files, and stay.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a run without an end asks for it, [`StoreError::NotFound`] if nobody added it.
    pub fn remove_backbone(&self, name: &str) -> Result<()> {
        check_name("backbone", name)?;
        let dir = self.backbones_dir().join(name);
        if !dir.is_dir() {
            return Err(StoreError::NotFound { what: "backbone", name: name.to_owned() });
        }
        for run in self.runs()? {
            let asked_for = run.spec.hyperparameters.backbone.as_deref() == Some(name);
            if asked_for && !run.written_status()?.state.is_final() {
                let because = format!("run {} needs it; wait for its end, or cancel it", run.id());
                return Err(StoreError::InUse { what: "backbone", name: name.to_owned(), because });
            }
        }
        atomic::remove(&self.staging2(), &dir)
    }
}

impl OwnBackbone {
    /// Path of the network.
    pub fn network(&self) -> PathBuf {
        self.dir.join(NETWORK_FILE)
    }

    /// Compares the network with its hash.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it differs.
    pub fn verify(&self) -> Result<()> {
        let found = atomic::digest_file(&self.network())?.sha256;
        if found == self.manifest.sha256 {
            return Ok(());
        }
        let problem = format!("it has SHA-256 {found}; its manifest says {}", self.manifest.sha256);
        Err(StoreError::Damaged { path: self.network(), problem })
    }
}
