//! What lies on the disk, in bytes. Published things say it in their manifests; only the rest is walked.

use std::{collections::BTreeMap, fs, path::Path};

use api::{
    dataset::FileDigest,
    disk::{DiskUse, Used, UsedByVersion, Volume},
};

use crate::{CACHE, Result, StoreError, Volumes};

impl Volumes {
    /// What everything takes, and what room is left.
    pub fn disk_use(&self) -> Result<DiskUse> {
        let datasets = self.datasets()?.into_iter();
        let datasets = datasets.map(|dataset| Used { bytes: dataset.bytes(), id: dataset.manifest.id }).collect();
        let runs = self.runs()?.into_iter().map(|run| Used { bytes: run.bytes(), id: run.spec.run }).collect();
        let mut versions = vec![];
        for name in self.model_names()? {
            // A folder whose name can be no model's holds no versions.
            for version in self.versions(&name).into_iter().flatten() {
                let (bytes, model) = (version.bytes(), name.clone());
                versions.push(UsedByVersion { model, version: version.manifest.version, bytes });
            }
        }
        let both = |of_1: &Path, of_2: &Path| bytes_under(of_1) + if of_1 == of_2 { 0 } else { bytes_under(of_2) };
        Ok(DiskUse {
            datasets,
            runs,
            versions,
            backbones_bytes: bytes_under(&self.backbones_dir()),
            cache_bytes: both(&self.cache_dir(), &self.volume2().join(CACHE)),
            artefacts_bytes: bytes_under(&self.volume2().join("artefacts")),
            half_made_bytes: both(&self.staging1(), &self.staging2()),
            volumes: vec![room(1, self.volume1())?, room(2, self.volume2())?],
        })
    }
}

fn room(number: u32, root: &Path) -> Result<Volume> {
    let told = rustix::fs::statvfs(root).map_err(|e| StoreError::read(root)(e.into()))?;
    Ok(Volume { number, free_bytes: told.f_bavail * told.f_frsize, total_bytes: told.f_blocks * told.f_frsize })
}

/// Of something published, as its manifest tells.
pub(crate) fn published_bytes(manifest: &Path, files: &BTreeMap<String, FileDigest>) -> u64 {
    let manifest = fs::symlink_metadata(manifest).map_or(0, |known| known.len());
    manifest + files.values().map(|file| file.bytes).sum::<u64>()
}

/// Lengths of all files below a folder. Links are not followed; what cannot be read, or goes while it is counted, is 0.
pub(crate) fn bytes_under(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(known) if known.is_dir() => folders.push(entry.path()),
                Ok(known) if known.is_file() => bytes += known.len(),
                _ => {}
            }
        }
    }
    bytes
}
